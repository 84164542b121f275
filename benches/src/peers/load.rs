//! A bare load, relaxed: the least that it takes to know what stands in memory.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::Instant;

use crate::Result;
use crate::harness::Timing;
use crate::rows::counted;
use crate::shm::{Shared, Zeroed};

/// A flag in shared memory.
#[repr(transparent)]
struct Word(AtomicU32);

// SAFETY: an atomic, of which zero is a value.
unsafe impl Zeroed for Word {}

/// `ops` loads of 8 bytes.
pub fn of_u64(ops: u64) -> Result<Timing> {
    let word = AtomicU64::new(1);
    each(ops, || black_box(&word).load(Relaxed))
}

/// `ops` loads of a flag.
pub fn of_flag(ops: u64) -> Result<Timing> {
    // Where ours lies, too: a word on the stack, beside the loop's own, is found faster.
    let word = Shared::<Word>::new()?;
    let word = &word.0;
    word.store(1, Relaxed);
    each(ops, move || u64::from(black_box(word).load(Relaxed) & 1 != 0))
}

/// `ops` times something that is 1.
#[inline]
pub fn each(ops: u64, mut one: impl FnMut() -> u64) -> Result<Timing> {
    let mut sum = 0;
    let start = Instant::now();
    for _ in 0..ops {
        sum += one();
    }
    let took = start.elapsed();
    counted(sum, ops)?;
    Ok(Timing { ops, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_counted() -> Result<()> {
        assert_eq!(of_u64(100)?.ops, 100);
        assert_eq!(of_flag(100)?.ops, 100);
        Ok(())
    }
}
