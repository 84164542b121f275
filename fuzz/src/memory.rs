//! Memory for a region: on the heap, so that the address sanitizer sees every access beyond its ends.

use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use procession_core::region::{Fixed, Options, Region, RegionError};
use procession_core::sys::{Fences, Scope};

/// Bytes at a page's start that live until the program ends.
#[derive(Clone, Copy)]
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: it is written and read through atomics, or by the one thread that fuzzes.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed memory; a multiple of 4096 bytes.
    pub fn leak(len: usize) -> Self {
        let layout = Layout::from_size_align(len, 4096).expect("a size that fits");
        // SAFETY: the layout has a size.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        Self { base, len }
    }

    /// As it was at first.
    pub fn clear(&self) {
        // SAFETY: the memory is this program's own, and no other thread is at work on it.
        unsafe { self.base.write_bytes(0, self.len) };
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The word that `offset` lies in.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        let offset = offset % self.len & !7;
        // SAFETY: in bounds, aligned, and any bytes are an atomic.
        unsafe { self.base.add(offset).cast().as_ref() }
    }

    /// Overwrites what lies at `offset`, as far as there is memory.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let offset = offset % self.len;
        for (at, chunk) in (offset & !7..self.len).step_by(8).zip(bytes.chunks(8)) {
            let mut word = self.word(at).load(Ordering::Relaxed).to_ne_bytes();
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(at).store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// A region in cleared memory.
    pub fn create(&self, participants: u32, scope: Scope) -> Region<'static> {
        self.clear();
        let fences = Fences::Full;
        let options = Options { participants, fences, scope, id: 1, ..Options::default() };
        // SAFETY: the memory is zero, lives until the end, and is used through the region from now on.
        unsafe { Region::create(self.base, self.len as u64, options, &Fixed) }
            .expect("enough memory for a region")
    }

    /// Whatever region lies there.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn attach(&self, len: u64) -> Result<Region<'static>, RegionError> {
        // SAFETY: the memory is mapped until the end; no more than that is offered.
        unsafe { Region::attach(self.base, len.min(self.len as u64), &Fixed) }
    }
}
