//! A lock that travels.

use std::fmt;
use std::time::Duration;

use procession_core::region::Who;
use procession_core::sync as core;
use procession_core::sys::Deadline;

use super::shared::{Shared, travels, waiters};
use super::{AcquireError, LockGuard, ReleaseError};
use crate::memory::{Arena, MemoryError, arena, kind};

/// What acquiring gives.
type Acquired<'a> = Result<LockGuard<'a>, AcquireError<LockGuard<'a>>>;

/// A mutual exclusion lock between processes, as `multiprocessing.Lock`; a process that is killed with it does not take
/// it along.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same lock. In memory it is 8 bytes.
///
/// Without contention a pair of acquire and release is one compare-and-swap and one store, no system call. A wait ends
/// within some milliseconds after the holder's death (a quarter of a second, for who has waited long or beside others),
/// with [`AcquireError::OwnerDied`] and the guard inside. A holder that is stopped keeps
/// the lock.
///
/// What the lock protects lies elsewhere; [`Mutex`](super::Mutex) is a lock with its data.
///
/// ```
/// use procession_posix::sync::Lock;
/// use std::time::Duration;
///
/// let lock = Lock::new()?;
/// {
///     let _guard = lock.acquire()?;
///     assert!(lock.locked());
///     assert!(lock.acquire_timeout(Duration::from_millis(1)).is_err());
/// }
/// assert!(!lock.locked());
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct Lock {
    pub(super) shared: Shared<&'static core::Lock>,
}

travels!(Lock, LOCK, waits);

impl Lock {
    /// A free lock.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new() -> Result<Self, MemoryError> {
        Self::new_in(arena()?)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena) -> Result<Self, MemoryError> {
        Ok(Self { shared: Shared::new(arena, kind::LOCK)? })
    }

    /// Waits for the lock as long as it takes.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, if its last holder died with it; `Corrupt`; `Join`.
    #[inline]
    pub fn acquire(&self) -> Acquired<'_> {
        self.shared.object.acquire(self.shared.me)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// `WouldBlock` if it is held; otherwise as [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Acquired<'_> {
        self.shared.object.try_acquire(self.shared.me)
    }

    /// Waits for the lock for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Acquired<'_> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Waits for the lock until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_until(&self, deadline: Deadline) -> Acquired<'_> {
        self.shared.object.acquire_until(self.shared.me, deadline)
    }

    /// [`acquire`](Self::acquire) for programs over tokio: waits without holding up the thread. Dropping the future stops
    /// waiting. With the feature `async`.
    ///
    /// No system call if the lock is free. A wait costs a descriptor, as long as it lasts.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as [`acquire`](Self::acquire).
    ///
    /// ```
    /// use procession_posix::sync::Lock;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let lock = Lock::new()?;
    /// let guard = lock.acquire()?;
    /// let other = lock.clone();
    /// let turn = tokio::spawn(async move { other.acquire_async().await.map(|turn| turn.is_ok()) });
    /// tokio::task::yield_now().await;
    /// drop(guard);
    /// assert!(turn.await.unwrap()?);
    /// # Ok::<(), procession_posix::Error>(())
    /// # }).unwrap();
    /// ```
    #[cfg(feature = "async")]
    pub async fn acquire_async(&self) -> std::io::Result<Acquired<'_>> {
        let would_block = |error: &AcquireError<_>| matches!(error, AcquireError::WouldBlock);
        crate::ready::retry(self, || self.try_acquire(), would_block).await
    }

    /// Releases a lock that is held without a guard; any thread of any process may, whoever acquired it. A guard is given
    /// up by [`LockGuard::detach`].
    ///
    /// # Errors
    /// [`ReleaseError::NotHeld`] if it is free; `Guarded` if a guard holds it; `Corrupt`.
    ///
    /// ```
    /// use procession_posix::sync::{Lock, ReleaseError};
    ///
    /// let lock = Lock::new()?;
    /// lock.acquire()?.detach();
    /// assert!(lock.locked());
    /// std::thread::scope(|threads| threads.spawn(|| lock.release()).join().unwrap())?;
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

    /// Which process holds it now, or died with it; `None` if it is free. Some loads.
    ///
    /// ```
    /// use procession_posix::sync::Lock;
    ///
    /// let lock = Lock::new()?;
    /// assert!(lock.holder().is_none());
    /// let _guard = lock.acquire()?;
    /// assert_eq!(lock.holder().unwrap().pid, std::process::id());
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[must_use]
    pub fn holder(&self) -> Option<Who> {
        self.shared.object.holder(self.shared.me)
    }
}

/// Who holds it, and who sleeps for it since when: as of about now.
impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("holder", &self.holder())
            .field("waiters", &waiters(self.shared.object, self.shared.me))
            .finish()
    }
}
