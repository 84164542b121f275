//! A lock that travels.

use std::time::Duration;

use procession_core::region::Member;
use procession_core::sync as core;
use procession_core::sys::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::memory::{Handle, MemoryError, kind, refuse};

pub use procession_core::sync::LockGuard;

/// Why a lock was not handed out as asked.
pub type AcquireError<'a> = core::AcquireError<LockGuard<'a>>;

/// A mutual exclusion lock between processes, as `multiprocessing.Lock`; a process that is killed with it does not take
/// it along.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same lock. In memory it is 8 bytes.
///
/// Without contention a pair of acquire and release is one compare-and-swap and one store, no system call. A wait ends
/// within some milliseconds after the holder's death (a quarter of a second, for who has waited long or beside others), with [`AcquireError::OwnerDied`](core::AcquireError::OwnerDied) and the
/// guard inside. A holder that is stopped keeps the lock.
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
#[derive(Clone, Debug)]
pub struct Lock {
    lock: &'static core::Lock,
    me: Member<'static>,
    handle: Handle,
}

impl Lock {
    /// A free lock.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new() -> Result<Self, MemoryError> {
        Self::over(Handle::allocate(kind::LOCK, size_of::<core::Lock>() as u64)?)
    }

    fn over(handle: Handle) -> Result<Self, MemoryError> {
        let arena = handle.arena();
        let lock = arena.region().object(handle.offset())?;
        Ok(Self { lock, me: arena.member(), handle })
    }

    /// Waits for the lock as long as it takes.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, if its last holder died with it; `Corrupt`; `Join`.
    #[inline]
    pub fn acquire(&self) -> Result<LockGuard<'_>, AcquireError<'_>> {
        self.lock.acquire(self.me)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// `WouldBlock` if it is held; otherwise as [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<LockGuard<'_>, AcquireError<'_>> {
        self.lock.try_acquire(self.me)
    }

    /// Waits for the lock for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, AcquireError<'_>> {
        self.lock.acquire_until(self.me, Deadline::after(timeout))
    }

    /// Waits for the lock until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_until(&self, deadline: Deadline) -> Result<LockGuard<'_>, AcquireError<'_>> {
        self.lock.acquire_until(self.me, deadline)
    }

    /// Whether somebody holds it now.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.lock.locked()
    }
}

impl Serialize for Lock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = Handle::deserialize(deserializer, kind::LOCK, size_of::<core::Lock>() as u64)?;
        Self::over(handle).map_err(refuse)
    }
}
