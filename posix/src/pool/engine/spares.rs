//! Large blocks that are kept for the next large task.
//!
//! A large block is made of fresh pages, and every process that touches them pays for each page: more than for copying what lies
//! there. So a crew keeps some that it has got back; their pages are at hand on both sides. How large the answer to a large input
//! was is remembered, too: the next block has room for it behind the input, and is the only one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use procession_core::region::{CLASS_SIZES, CLASSES};

use super::desk::Held;

/// Blocks up to this size come from chunks that are shared with others, and cost little.
pub(super) const LARGE: u64 = CLASS_SIZES[CLASSES - 1];
/// So many are kept,
const MOST: usize = 2;
/// none larger than this.
const LARGEST: u64 = 64 << 20;
/// One that is so many times larger than is needed is for others.
const TOO_LARGE: u64 = 8;

/// The blocks that a crew keeps.
#[derive(Default)]
pub(super) struct Spares {
    held: Mutex<Vec<Held>>,
    /// Bytes of the answer for a hundred bytes of a large input, as it was last.
    ratio: AtomicU64,
}

impl Spares {
    /// How large a block should be for a large input of so many bytes and its answer.
    pub(super) fn with_answer(&self, bytes: u64) -> u64 {
        // Relaxed: an estimate.
        let answer = (bytes / 100 + 1).saturating_mul(self.ratio.load(Ordering::Relaxed));
        bytes.saturating_add(answer.min(bytes.saturating_mul(4)))
    }

    /// A large input had so many bytes, and its answer so many.
    pub(super) fn answered(&self, input: u64, answer: u64) {
        // One more, for the roundings. Relaxed: as above.
        let ratio = if answer <= 64 { 0 } else { answer.saturating_mul(100) / input.max(1) + 1 };
        self.ratio.store(ratio, Ordering::Relaxed);
    }

    /// A block of at least so many bytes, if there is one that is not much larger.
    pub(super) fn take(&self, bytes: u64) -> Option<Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |held: &Held| (bytes..=bytes.saturating_mul(TOO_LARGE)).contains(&held.size());
        let at = held.iter().position(fits)?;
        Some(held.swap_remove(at))
    }

    /// Keeps this block instead of the one that was kept for the longest time, or lets it go.
    pub(super) fn keep(&self, block: Held) {
        if block.size() <= LARGE || block.size() > LARGEST {
            return;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = (held.len() == MOST).then(|| held.remove(0));
        held.push(block);
        drop(held);
        // Given back without the lock.
        drop(oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::arena;

    fn block(bytes: u64) -> Held {
        let arena = arena().unwrap();
        Held::new(arena, arena.member(), bytes).unwrap()
    }

    #[test]
    fn two_large_blocks_are_kept_for_what_is_nearly_as_large() {
        let spares = Spares::default();
        spares.keep(block(1000));
        assert!(spares.take(1000).is_none(), "small ones are had quickly");
        (1..=3).for_each(|megabytes| spares.keep(block(megabytes << 20)));
        assert_eq!(spares.held.lock().unwrap().len(), MOST);
        assert!(spares.take(100_000).is_none(), "all are too large");
        assert!(spares.take(4 << 20).is_none(), "all are too small");
        let held = spares.take(2 << 20).unwrap();
        assert!(held.size() >= 2 << 20);
        assert!(spares.take(3 << 20).is_some_and(|held| held.size() >= 3 << 20));
        assert!(spares.take(1 << 20).is_none(), "the first was kept for the longest time");
    }

    #[test]
    fn room_for_an_answer_follows_the_last_one() {
        let spares = Spares::default();
        assert_eq!(spares.with_answer(1 << 20), 1 << 20);
        spares.answered(1 << 20, 1 << 20);
        assert!((2 << 20..3 << 20).contains(&spares.with_answer(1 << 20)));
        spares.answered(1 << 20, u64::MAX);
        assert_eq!(spares.with_answer(1 << 20), 5 << 20);
        spares.answered(1 << 20, 8);
        assert_eq!(spares.with_answer(1 << 20), 1 << 20);
    }
}
