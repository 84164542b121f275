//! A process-shared pthread rwlock, read by one thread.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Instant;

use super::check;
use crate::Result;
use crate::harness::Timing;
use crate::shm::{Shared, Zeroed};

/// The lock and what it protects, on one cache line, as ours has them.
#[repr(C, align(128))]
struct Cell {
    lock: UnsafeCell<libc::pthread_rwlock_t>,
    number: UnsafeCell<u64>,
}

// SAFETY: zeroes are bytes enough for a lock that is initialised before use; `number` is only touched under it.
unsafe impl Zeroed for Cell {}
// SAFETY: pthread calls take the lock from any thread, and `number` is only touched under it.
unsafe impl Sync for Cell {}

/// `ops` times: take it for reading, read, give it back; one thread.
pub fn read(ops: u64) -> Result<Timing> {
    let cell = Shared::<Cell>::new()?;
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: init fills the attributes before the others read them, and nobody else knows the lock yet.
    unsafe {
        let attributes = attributes.as_mut_ptr();
        check(libc::pthread_rwlockattr_init(attributes))?;
        check(libc::pthread_rwlockattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))?;
        check(libc::pthread_rwlock_init(cell.lock.get(), attributes))?;
        check(libc::pthread_rwlockattr_destroy(attributes))?;
        *cell.number.get() = 1;
    }
    let mut sum = 0;
    let start = Instant::now();
    for _ in 0..ops {
        let cell = black_box(&*cell);
        // SAFETY: the lock was initialised above and never moved; `number` is read while it is held.
        unsafe {
            check(libc::pthread_rwlock_rdlock(cell.lock.get()))?;
            sum += *cell.number.get();
            check(libc::pthread_rwlock_unlock(cell.lock.get()))?;
        }
    }
    let took = start.elapsed();
    super::counted(sum, ops)?;
    Ok(Timing { ops, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads() -> Result<()> {
        assert_eq!(read(100)?.ops, 100);
        Ok(())
    }
}
