//! A process-shared pthread mutex, plain, robust or recursive, with a counter beside it.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Instant;

use super::check;
use crate::Result;
use crate::harness::Timing;
use crate::shm::{Shared, Zeroed};
use crate::two;

/// What the mutex does beyond excluding.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// It notices that its holder died.
    Robust,
    /// Its holder may take it again.
    Recursive,
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
        // SAFETY: the cell is mapped, and nobody else knows the mutex yet.
        unsafe { initialise(cell.mutex.get(), kind)? };
        Ok(Self(cell))
    }

    /// Adds 1, `times` times, each under the lock.
    pub fn add(&self, times: u64) -> Result<()> {
        for _ in 0..times {
            black_box(self).locked(|count| *count += 1)?;
        }
        Ok(())
    }

    /// Runs `work` on the counter, under the lock.
    #[inline]
    pub fn locked(&self, work: impl FnOnce(&mut u64)) -> Result<()> {
        let cell = &*self.0;
        // SAFETY: the mutex was initialised in `new` and never moved; `count` is touched while it is held.
        unsafe {
            check(libc::pthread_mutex_lock(cell.mutex.get()))?;
            work(&mut *cell.count.get());
            check(libc::pthread_mutex_unlock(cell.mutex.get()))
        }
    }

    /// What was counted. To be called when nobody counts.
    pub fn get(&self) -> u64 {
        // SAFETY: a read that no write overlaps, as the caller has ended the others.
        unsafe { *self.0.count.get() }
    }
}

/// Makes a process-shared mutex.
///
/// # Safety
/// `mutex` is memory for one that nobody uses yet.
pub unsafe fn initialise(mutex: *mut libc::pthread_mutex_t, kind: Kind) -> Result<()> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: init fills the attributes before the others read them; the mutex is as the caller says.
    unsafe {
        let attributes = attributes.as_mut_ptr();
        check(libc::pthread_mutexattr_init(attributes))?;
        check(libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))?;
        match kind {
            Kind::Plain => {}
            Kind::Robust => {
                check(libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST))?
            }
            Kind::Recursive => {
                check(libc::pthread_mutexattr_settype(attributes, libc::PTHREAD_MUTEX_RECURSIVE))?
            }
        }
        check(libc::pthread_mutex_init(mutex, attributes))?;
        check(libc::pthread_mutexattr_destroy(attributes))
    }
}

/// `ops` times: take, add 1, give back; one thread.
pub fn uncontended(kind: Kind, ops: u64) -> Result<Timing> {
    let counter = Counter::new(kind)?;
    let start = Instant::now();
    counter.add(ops)?;
    let took = start.elapsed();
    super::counted(counter.get(), ops)?;
    Ok(Timing { ops, took })
}

/// The same by so many processes at once.
pub fn contended(processes: u64, ops: u64) -> Result<Timing> {
    let counter = Counter::new(Kind::Plain)?;
    let each = ops.div_ceil(processes);
    let runner = |_| -> two::Runner<'_> {
        Box::new(|gate| {
            gate.start();
            counter.add(each)?;
            gate.stop();
            Ok(0)
        })
    };
    let finish = two::processes((0..processes).map(runner).collect())?;
    super::counted(counter.get(), each * processes)?;
    Ok(Timing { ops: each * processes, took: finish.took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_counts() -> Result<()> {
        for kind in [Kind::Plain, Kind::Robust, Kind::Recursive] {
            assert_eq!(uncontended(kind, 100)?.ops, 100);
        }
        Ok(())
    }

    #[test]
    fn eight_processes_count() -> Result<()> {
        assert_eq!(contended(8, 800)?.ops, 800);
        Ok(())
    }

    #[test]
    fn only_the_recursive_one_is_taken_twice() -> Result<()> {
        let twice = |kind| -> Result<libc::c_int> {
            let counter = Counter::new(kind)?;
            let mutex = counter.0.mutex.get();
            // SAFETY: the mutex was initialised in `new`; it is left locked, and its memory goes.
            unsafe {
                check(libc::pthread_mutex_lock(mutex))?;
                Ok(libc::pthread_mutex_trylock(mutex))
            }
        };
        assert_eq!(twice(Kind::Recursive)?, 0);
        assert_eq!(twice(Kind::Plain)?, libc::EBUSY);
        Ok(())
    }
}
