//! Where this process found a free block last: its own memory, so that nobody else slows it down.

// Not the model's: what one process knows for itself is no shared access.
use core::sync::atomic::{AtomicU64, Ordering};

use super::CLASSES;
use super::words::Purpose;
use crate::region::Tag;

const CHUNK_SHIFT: u32 = 16;
const CHUNK: u64 = (1 << 22) - 1;
const OWNER_SHIFT: u32 = 38;

/// One place for each class and purpose: `short tag 20 | chunk 22 | block 16`. The tag makes a forked child
/// look for a place of its own. Wrong hints cost time, nothing else.
#[derive(Debug, Default)]
pub(in crate::region) struct Hints {
    objects: [AtomicU64; CLASSES],
    messages: [AtomicU64; CLASSES],
}

impl Hints {
    #[inline]
    fn place(&self, class: usize, purpose: Purpose) -> Option<&AtomicU64> {
        match purpose {
            Purpose::Objects => self.objects.get(class),
            Purpose::Messages => self.messages.get(class),
        }
    }

    /// Chunk and block to look at first.
    #[inline]
    pub(super) fn get(&self, class: usize, purpose: Purpose, me: Tag) -> Option<(u64, u32)> {
        let hint = self.place(class, purpose)?.load(Ordering::Relaxed);
        (hint >> OWNER_SHIFT == me.short().bits())
            .then_some((hint >> CHUNK_SHIFT & CHUNK, hint as u32 & 0xFFFF))
    }

    #[inline]
    pub(super) fn set(&self, class: usize, purpose: Purpose, me: Tag, chunk: u64, block: u32) {
        if let Some(place) = self.place(class, purpose) {
            let hint = me.short().bits() << OWNER_SHIFT
                | (chunk & CHUNK) << CHUNK_SHIFT
                | u64::from(block & 0xFFFF);
            place.store(hint, Ordering::Relaxed);
        }
    }

    /// A block of this chunk was freed: the next one to take, if this process works in that chunk.
    #[inline]
    pub(super) fn freed(&self, class: usize, purpose: Purpose, me: Tag, chunk: u64, block: u32) {
        if self.get(class, purpose, me).is_some_and(|(mine, _)| mine == chunk) {
            self.set(class, purpose, me, chunk, block);
        }
    }
}
