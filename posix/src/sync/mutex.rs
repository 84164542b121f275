//! A lock with its data, that travels.

use std::fmt;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use procession_core::region::Member;
use procession_core::sync as core;
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shared::{Shared, waiters};
use super::{MutexGuard, Who};
use crate::memory::{Arena, MemoryError, arena, kind};

/// What locking gives.
type Locked<'a, T> = Result<MutexGuard<'a, T>, core::AcquireError<MutexGuard<'a, T>>>;

/// Data that processes share, and that only the holder of their lock can reach: `std::sync::Mutex` between processes.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same data.
///
/// `T` is plain data for which every bit pattern is a value: numbers, arrays of them, and structs that derive bytemuck's
/// `AnyBitPattern` (or `Pod`). A handle of a `Mutex<T>` is refused where another type is asked for.
///
/// A process that is killed while it holds the lock does not take it along: the next one gets
/// [`AcquireError::OwnerDied`](core::AcquireError::OwnerDied) with the guard inside, mends the data, and says so by
/// [`MutexGuard::mark_consistent`]. Without contention locking is one compare-and-swap, and releasing one store.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::Mutex;
///
/// fn deposit(account: Mutex<i64>, times: u32) -> procession_posix::Result<()> {
///     for _ in 0..times {
///         *account.lock()? += 1;
///     }
///     Ok(())
/// }
///
/// let account = Mutex::new(0i64)?;
/// let teller = Process::new(deposit, (account.clone(), 50)).start()?;
/// deposit(account.clone(), 50)?;
/// teller.join()??;
/// assert_eq!(*account.lock()?, 100);
/// # Ok::<(), procession_posix::Error>(())
/// ```
///
/// ```
/// use procession_posix::sync::{AcquireError, Mutex};
/// use procession_posix::process::Process;
///
/// fn die(pair: Mutex<[u32; 2]>) {
///     let mut pair = pair.lock().unwrap();
///     pair[0] += 1;
///     std::process::abort();
/// }
///
/// let pair = Mutex::new([0u32; 2])?;
/// assert!(Process::new(die, (pair.clone(),)).start()?.join().is_err());
/// let mut guard = pair.lock().unwrap_err().into_guard().unwrap();
/// assert_eq!(*guard, [1, 0]);
/// guard[0] = 0;
/// guard.mark_consistent();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mutex<T: 'static> {
    shared: Shared<core::Mutex<'static, T>>,
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: AnyBitPattern> Mutex<T> {
    /// A free lock over `value`.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new(value: T) -> Result<Self, MemoryError> {
        Self::new_in(arena()?, value)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena, value: T) -> Result<Self, MemoryError> {
        let bytes = core::Mutex::<T>::bytes();
        let create = |place| Ok::<_, MemoryError>(core::Mutex::create(place, value)?);
        Ok(Self { shared: Shared::create(arena, kind::MUTEX, bytes, create)? })
    }
}

impl<T> Mutex<T> {
    /// Waits for the lock as long as it takes.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, if the last holder died with it; `Corrupt`; `Join`.
    #[inline]
    pub fn lock(&self) -> Locked<'_, T> {
        self.shared.object.lock(self.shared.me)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// `WouldBlock` if it is held; otherwise as [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> Locked<'_, T> {
        self.shared.object.try_lock(self.shared.me)
    }

    /// Waits for the lock for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`lock`](Self::lock).
    #[inline]
    pub fn lock_timeout(&self, timeout: Duration) -> Locked<'_, T> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Waits for the lock until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`lock`](Self::lock).
    #[inline]
    pub fn lock_until(&self, deadline: Deadline) -> Locked<'_, T> {
        self.shared.object.lock_until(self.shared.me, deadline)
    }

    /// [`lock`](Self::lock) for programs over tokio: waits without holding up the thread. Dropping the future stops waiting.
    /// With the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as [`lock`](Self::lock).
    #[cfg(feature = "async")]
    pub async fn lock_async(&self) -> std::io::Result<Locked<'_, T>>
    where
        T: Send,
    {
        let would_block =
            |error: &core::AcquireError<_>| matches!(error, core::AcquireError::WouldBlock);
        crate::ready::retry(self, || self.try_lock(), would_block).await
    }

    /// Whether somebody holds the lock now.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.shared.object.as_lock().locked()
    }

    /// Which process holds the lock now, or died with it; `None` if it is free. Some loads.
    #[must_use]
    pub fn holder(&self) -> Option<Who> {
        self.shared.object.as_lock().holder(self.shared.me)
    }
}

/// Who holds it, and who sleeps for it since when: as of about now.
impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lock = self.shared.object.as_lock();
        f.debug_struct("Mutex")
            .field("holder", &self.holder())
            .field("waiters", &waiters(lock, self.shared.me))
            .finish_non_exhaustive()
    }
}

impl<T> crate::wait::sealed::Source for Mutex<T> {
    fn source(&self) -> &dyn Waitable {
        self.shared.object.as_lock()
    }

    fn me(&self) -> Member<'static> {
        self.shared.me
    }
}

impl<T> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shared.serialize(serializer)
    }
}

impl<'de, T: AnyBitPattern> Deserialize<'de> for Mutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { shared: Shared::attach(deserializer, kind::MUTEX, core::Mutex::attach)? })
    }
}
