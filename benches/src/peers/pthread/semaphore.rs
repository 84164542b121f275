//! A process-shared `sem_t` of one unit, with a counter beside it.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::time::Instant;

use super::{check_errno, counted};
use crate::Result;
use crate::harness::Timing;
use crate::shm::{Shared, Zeroed};

/// The semaphore and what its unit protects, on one cache line, as ours has them.
#[repr(C, align(128))]
struct Cell {
    semaphore: UnsafeCell<libc::sem_t>,
    count: UnsafeCell<u64>,
}

// SAFETY: zeroes are bytes enough for a semaphore that is initialised before use; `count` belongs to its one unit.
unsafe impl Zeroed for Cell {}
// SAFETY: semaphore calls take it from any thread, and `count` is only touched by who has the unit.
unsafe impl Sync for Cell {}

/// `ops` times: take the unit, add 1, give it back; one thread.
pub fn uncontended(ops: u64) -> Result<Timing> {
    let cell = Shared::<Cell>::new()?;
    // SAFETY: the cell is mapped, and nobody else knows the semaphore yet.
    check_errno(unsafe { libc::sem_init(cell.semaphore.get(), 1, 1) })?;
    let start = Instant::now();
    for _ in 0..ops {
        let cell = black_box(&*cell);
        // SAFETY: the semaphore was initialised above and never moved; `count` is touched while the unit is taken.
        unsafe {
            check_errno(libc::sem_wait(cell.semaphore.get()))?;
            *cell.count.get() += 1;
            check_errno(libc::sem_post(cell.semaphore.get()))?;
        }
    }
    let took = start.elapsed();
    // SAFETY: nobody else counts.
    counted(unsafe { *cell.count.get() }, ops)?;
    Ok(Timing { ops, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts() -> Result<()> {
        assert_eq!(uncontended(100)?.ops, 100);
        Ok(())
    }
}
