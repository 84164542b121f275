//! A bare load, relaxed: the least that it takes to know what stands in memory.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::Instant;

use crate::Result;
use crate::harness::Timing;
use crate::rows::counted;

/// `ops` loads of 8 bytes.
pub fn of_u64(ops: u64) -> Result<Timing> {
    each(ops, &AtomicU64::new(1), |word| word.load(Relaxed))
}

/// `ops` loads of a flag.
pub fn of_flag(ops: u64) -> Result<Timing> {
    each(ops, &AtomicU32::new(1), |word| u64::from(word.load(Relaxed) & 1 != 0))
}

/// `ops` times a look at `what`, which says 1.
///
/// One look a turn of the loop. `black_box` would put a store and a load on the stack beside the one load that is measured,
/// and these take one cycle or two, by where they lie.
#[inline]
pub fn each<T>(ops: u64, what: &T, look: impl Fn(&T) -> u64) -> Result<Timing> {
    let what = black_box(what);
    let mut sum = 0;
    let start = Instant::now();
    for _ in 0..ops {
        sum += look(what);
        // SAFETY: no instruction. The compiler has to have the sum in a register here, and cannot know what is in it after.
        unsafe { std::arch::asm!("/* {} */", inout(reg) sum, options(nostack, preserves_flags)) };
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
