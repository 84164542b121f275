//! A re-entrant lock that travels.

use std::fmt;
use std::time::Duration;

use procession_core::region::Who;
use procession_core::sync as core;
use procession_core::sys::Deadline;

use super::shared::{Shared, travels, waiters};
use super::{RLockGuard, ReleaseError};
use crate::memory::{Arena, MemoryError, arena, kind};

/// What acquiring gives.
type Acquired<'a> = Result<RLockGuard<'a>, core::AcquireError<RLockGuard<'a>>>;

/// A lock between processes that the thread which holds it may acquire again, as `multiprocessing.RLock`; a process that is
/// killed with it does not take it along.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same lock, and a thread that holds it by one copy
/// may acquire it again by another. The lock is free when each level has been released. In memory it is 24 bytes.
///
/// Without contention the first level is one compare-and-swap and one store, a further one some loads and two stores, without
/// a system call. A wait ends within some milliseconds after the death of the holder's process (a quarter of a second, for
/// who has waited long or beside others), with [`AcquireError::OwnerDied`](core::AcquireError::OwnerDied) and the guard
/// inside; the depth is then one. A holder that is stopped keeps the lock, and so does a process one of whose threads has ended
/// without releasing it.
///
/// ```
/// use procession_posix::sync::RLock;
/// use std::time::Duration;
///
/// let lock = RLock::new()?;
/// let copy = lock.clone();
/// {
///     let _outer = lock.acquire()?;
///     let _inner = copy.acquire()?;
///     assert_eq!(lock.depth(), 2);
///     let other = || lock.acquire_timeout(Duration::from_millis(1)).is_err();
///     assert!(std::thread::scope(|threads| threads.spawn(other).join().unwrap()));
/// }
/// assert!(!lock.locked());
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct RLock {
    pub(super) shared: Shared<&'static core::RLock>,
}

travels!(RLock, RLOCK, waits);

impl RLock {
    /// A free lock.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new() -> Result<Self, MemoryError> {
        Self::new_in(arena()?)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena) -> Result<Self, MemoryError> {
        Ok(Self { shared: Shared::new(arena, kind::RLOCK)? })
    }

    /// Acquires one level, and waits as long as it takes if another thread holds the lock.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, if its last holder died with it; `TooDeep` after 2³² - 1 levels; `Corrupt`; `Join`.
    #[inline]
    pub fn acquire(&self) -> Acquired<'_> {
        self.shared.object.acquire(self.shared.me)
    }

    /// Acquires one level if the lock is free or this thread's.
    ///
    /// # Errors
    /// `WouldBlock` if another thread holds it; otherwise as [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Acquired<'_> {
        self.shared.object.try_acquire(self.shared.me)
    }

    /// Acquires one level, and waits for at most `timeout` if another thread holds the lock; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Acquired<'_> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Acquires one level, and waits until `deadline` if another thread holds the lock.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_until(&self, deadline: Deadline) -> Acquired<'_> {
        self.shared.object.acquire_until(self.shared.me, deadline)
    }

    /// Releases one level that this thread holds without a guard; a guard is given up by [`RLockGuard::detach`].
    ///
    /// # Errors
    /// [`ReleaseError::NotHeld`] if the lock is free; `NotOwner` if another thread or process holds it; `Guarded` if all levels
    /// have guards; `Corrupt`; `Join`.
    ///
    /// ```
    /// use procession_posix::sync::{RLock, ReleaseError};
    ///
    /// let lock = RLock::new()?;
    /// lock.acquire()?.detach();
    /// let other = std::thread::scope(|threads| threads.spawn(|| lock.release()).join().unwrap());
    /// assert_eq!(other, Err(ReleaseError::NotOwner));
    /// lock.release()?;
    /// assert_eq!(lock.release(), Err(ReleaseError::NotHeld));
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn release(&self) -> Result<(), ReleaseError> {
        self.shared.object.release(self.shared.me)
    }

    /// Whether somebody holds it now.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.shared.object.locked()
    }

    /// How many levels its holder has, 0 if it is free; as of about now, unless the caller is the holder.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.shared.object.depth()
    }

    /// Which process holds it now, or died with it; `None` if it is free. Some loads.
    #[must_use]
    pub fn holder(&self) -> Option<Who> {
        self.shared.object.holder(self.shared.me)
    }
}

/// Who holds it and how often, and who sleeps for it since when: as of about now.
impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock")
            .field("holder", &self.holder())
            .field("depth", &self.depth())
            .field("waiters", &waiters(self.shared.object, self.shared.me))
            .finish()
    }
}
