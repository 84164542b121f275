//! A process-shared pthread condition between two processes that take turns.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::{check, mutex};
use crate::Result;
use crate::harness::Timing;
use crate::shm::{Shared, Zeroed};
use crate::two;

/// The condition, its mutex, and whose turn it is.
#[repr(C, align(128))]
struct Cell {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    turn: UnsafeCell<u64>,
    condition: UnsafeCell<libc::pthread_cond_t>,
}

// SAFETY: zeroes are bytes enough for what is initialised before use; `turn` is only touched under the mutex.
unsafe impl Zeroed for Cell {}
// SAFETY: pthread calls take both from any thread, and `turn` is only touched under the mutex.
unsafe impl Sync for Cell {}

/// `ops` round trips: each of two processes waits for its turn and gives it to the other.
pub fn pingpong(ops: u64) -> Result<Timing> {
    let cell = Shared::<Cell>::new()?;
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: init fills the attributes before the others read them, and nobody else knows the cell yet.
    unsafe {
        mutex::initialise(cell.mutex.get(), mutex::Kind::Plain)?;
        let attributes = attributes.as_mut_ptr();
        check(libc::pthread_condattr_init(attributes))?;
        check(libc::pthread_condattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))?;
        check(libc::pthread_cond_init(cell.condition.get(), attributes))?;
        check(libc::pthread_condattr_destroy(attributes))?;
    }
    let player = |mine: u64| -> two::Runner<'_> {
        let cell = &*cell;
        Box::new(move |gate| {
            gate.start();
            for _ in 0..ops {
                // SAFETY: both were initialised above and never moved; `turn` is touched while the mutex is held.
                unsafe {
                    check(libc::pthread_mutex_lock(cell.mutex.get()))?;
                    while *cell.turn.get() != mine {
                        check(libc::pthread_cond_wait(cell.condition.get(), cell.mutex.get()))?;
                    }
                    *cell.turn.get() = 1 - mine;
                    check(libc::pthread_cond_signal(cell.condition.get()))?;
                    check(libc::pthread_mutex_unlock(cell.mutex.get()))?;
                }
            }
            gate.stop();
            Ok(0)
        })
    };
    let finish = two::processes(vec![player(0), player(1)])?;
    Ok(Timing { ops, took: finish.took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken() -> Result<()> {
        assert_eq!(pingpong(100)?.ops, 100);
        Ok(())
    }
}
