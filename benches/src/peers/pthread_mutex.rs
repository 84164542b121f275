//! A process-shared pthread mutex, plain or robust, with a counter beside it.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;

use crate::Result;
use crate::shm::{Shared, Zeroed};

/// Whether the mutex notices that its holder died.
#[derive(Clone, Copy)]
pub enum Kind {
    Plain,
    Robust,
}

/// The mutex and what it protects, on one cache line, as ours has them.
#[repr(C, align(128))]
struct Cell {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    count: UnsafeCell<u64>,
}

// SAFETY: zeroes are bytes enough for a mutex that is initialised before use; `count` is only touched under it.
unsafe impl Zeroed for Cell {}
// SAFETY: pthread calls take the mutex from any thread, and `count` is only touched under it.
unsafe impl Sync for Cell {}

/// A counter under a pthread mutex in shared memory.
pub struct Counter(Shared<Cell>);

impl Counter {
    /// A counter of 0.
    pub fn new(kind: Kind) -> Result<Self> {
        let cell = Shared::<Cell>::new()?;
        let mut attributes = MaybeUninit::uninit();
        let robust = match kind {
            Kind::Plain => libc::PTHREAD_MUTEX_STALLED,
            Kind::Robust => libc::PTHREAD_MUTEX_ROBUST,
        };
        // SAFETY: init fills the attributes before the others read them, and nobody else knows the mutex yet.
        unsafe {
            let attributes = attributes.as_mut_ptr();
            check(libc::pthread_mutexattr_init(attributes))?;
            check(libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))?;
            check(libc::pthread_mutexattr_setrobust(attributes, robust))?;
            check(libc::pthread_mutex_init(cell.mutex.get(), attributes))?;
            check(libc::pthread_mutexattr_destroy(attributes))?;
        }
        Ok(Self(cell))
    }

    /// Adds 1, `times` times, each under the lock.
    pub fn add(&self, times: u64) -> Result<()> {
        for _ in 0..times {
            let cell = black_box(&*self.0);
            // SAFETY: the mutex was initialised in `new` and never moved; `count` is touched while it is held.
            unsafe {
                check(libc::pthread_mutex_lock(cell.mutex.get()))?;
                *cell.count.get() += 1;
                check(libc::pthread_mutex_unlock(cell.mutex.get()))?;
            }
        }
        Ok(())
    }

    /// What was counted. To be called when nobody counts.
    pub fn get(&self) -> u64 {
        // SAFETY: a read that no write overlaps, as the caller has ended the others.
        unsafe { *self.0.count.get() }
    }
}

/// pthread calls return the error and leave errno alone.
fn check(code: libc::c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(std::io::Error::from_raw_os_error(code).into()),
    }
}
