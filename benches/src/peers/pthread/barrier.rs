//! A process-shared pthread barrier.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::check;
use crate::Result;
use crate::harness::Timing;
use crate::shm::{Shared, Zeroed};
use crate::two;

#[repr(C, align(128))]
struct Cell(UnsafeCell<libc::pthread_barrier_t>);

// SAFETY: zeroes are bytes enough for a barrier that is initialised before use.
unsafe impl Zeroed for Cell {}
// SAFETY: pthread calls take it from any thread.
unsafe impl Sync for Cell {}

/// `ops` times two processes wait for each other.
pub fn two_parties(ops: u64) -> Result<Timing> {
    let cell = Shared::<Cell>::new()?;
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: init fills the attributes before the others read them, and nobody else knows the barrier yet.
    unsafe {
        let attributes = attributes.as_mut_ptr();
        check(libc::pthread_barrierattr_init(attributes))?;
        check(libc::pthread_barrierattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))?;
        check(libc::pthread_barrier_init(cell.0.get(), attributes, 2))?;
        check(libc::pthread_barrierattr_destroy(attributes))?;
    }
    let party = || -> two::Runner<'_> {
        let cell = &*cell;
        Box::new(move |gate| {
            let mut first = 0;
            gate.start();
            for _ in 0..ops {
                // SAFETY: the barrier was initialised above and never moved.
                match unsafe { libc::pthread_barrier_wait(cell.0.get()) } {
                    libc::PTHREAD_BARRIER_SERIAL_THREAD => first += 1,
                    other => check(other)?,
                }
            }
            gate.stop();
            Ok(first)
        })
    };
    let finish = two::processes(vec![party(), party()])?;
    super::counted(finish.values.iter().sum(), ops)?;
    Ok(Timing { ops, took: finish.took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_meet() -> Result<()> {
        assert_eq!(two_parties(100)?.ops, 100);
        Ok(())
    }
}
