//! Locks with their data, of any type: threads share their memory.

use std::cell::UnsafeCell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use procession_core::region::Member;
use procession_core::sync as core;
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;

use crate::memory::{MemoryError, private};
use crate::sync::{
    AcquireError, MutexGuard, RwDataReadGuard, RwDataUpgradableReadGuard, RwDataWriteGuard,
};
use crate::wait::sealed::Source;

/// A lock, and data that only its holders reach.
struct Guarded<L, T> {
    lock: L,
    data: UnsafeCell<T>,
}

impl<L, T> Guarded<L, T> {
    fn data(&self) -> NonNull<T> {
        // SAFETY: a cell is somewhere.
        unsafe { NonNull::new_unchecked(self.data.get()) }
    }
}

// SAFETY: the data are reached by the lock's holder alone, one thread at a time, which may be any: T: Send.
unsafe impl<T: Send> Sync for Guarded<core::Lock, T> {}
// SAFETY: one thread that writes, which may be any: T: Send; or several that read: T: Sync.
unsafe impl<T: Send + Sync> Sync for Guarded<core::RwLock, T> {}

/// What locking gives.
type Answer<G> = Result<G, AcquireError<G>>;

/// Data of any type that threads share, and that only the holder of their lock can reach: the
/// [`sync::Mutex`](crate::sync::Mutex) of threads.
///
/// A clone is the same data. A thread that panics with the guard releases it: no poison. `OwnerDied` says that this
/// process was forked while a thread of its parent held the lock.
///
/// Cost: as there; the data lie on the heap, and go with the last clone.
///
/// ```
/// use procession_posix::thread::{Mutex, Thread};
///
/// fn add(words: Mutex<Vec<String>>, word: String) -> procession_posix::Result<()> {
///     words.lock()?.push(word);
///     Ok(())
/// }
///
/// let words = Mutex::new(vec!["one".to_string()])?;
/// Thread::new(add, (words.clone(), "two".to_string())).start()?.join()??;
/// assert_eq!(*words.lock()?, ["one", "two"]);
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct Mutex<T: 'static> {
    inner: Arc<Guarded<core::Lock, T>>,
    me: Member<'static>,
}

/// Data of any type that many threads may read or one may write: the [`sync::RwData`](crate::sync::RwData) of threads.
///
/// A clone is the same data. A thread that panics with a guard releases it: no poison. `OwnerDied` says that this process
/// was forked while a thread of its parent wrote.
///
/// ```
/// use procession_posix::thread::RwData;
///
/// let names = RwData::new(vec!["Ada".to_string()])?;
/// assert_eq!(names.read()?.len(), 1);
/// names.write()?.push("Grace".into());
/// assert_eq!(*names.read()?, ["Ada", "Grace"]);
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct RwData<T: 'static> {
    inner: Arc<Guarded<core::RwLock, T>>,
    me: Member<'static>,
}

macro_rules! handle {
    ($name:ident, $lock:ident) => {
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                Self { inner: Arc::clone(&self.inner), me: self.me }
            }
        }

        impl<T> $name<T> {
            /// A free lock over `value`.
            ///
            /// # Errors
            /// [`MemoryError`] if there is no memory to be had.
            pub fn new(value: T) -> Result<Self, MemoryError> {
                let guarded = Guarded { lock: core::$lock::new(), data: UnsafeCell::new(value) };
                Ok(Self { inner: Arc::new(guarded), me: private()?.member() })
            }

            fn view(&self) -> core::$name<'_, T> {
                // SAFETY: the data live as long as `self`, are reached by the guards of this lock alone, and lie in
                // memory of this process.
                unsafe { core::$name::over(&self.inner.lock, self.inner.data()) }
            }
        }

        impl<T: 'static> Source for $name<T>
        where
            Guarded<core::$lock, T>: Sync,
        {
            fn source(&self) -> &dyn Waitable {
                &self.inner.lock
            }

            fn me(&self) -> Member<'static> {
                self.me
            }
        }
    };
}

handle!(Mutex, Lock);
handle!(RwData, RwLock);

impl<T> Mutex<T> {
    /// Waits for the lock as long as it takes.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, in a forked child; `Corrupt`; `Join`.
    #[inline]
    pub fn lock(&self) -> Answer<MutexGuard<'_, T>> {
        self.view().lock(self.me)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// `WouldBlock` if it is held; otherwise as [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> Answer<MutexGuard<'_, T>> {
        self.view().try_lock(self.me)
    }

    /// Waits for the lock for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`lock`](Self::lock).
    #[inline]
    pub fn lock_timeout(&self, timeout: Duration) -> Answer<MutexGuard<'_, T>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Waits for the lock until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`lock`](Self::lock).
    #[inline]
    pub fn lock_until(&self, deadline: Deadline) -> Answer<MutexGuard<'_, T>> {
        self.view().lock_until(self.me, deadline)
    }

    /// Whether somebody holds the lock now.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.inner.lock.locked()
    }
}

/// Whether it is held: as of about now.
impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("locked", &self.locked()).finish_non_exhaustive()
    }
}

impl<T> RwData<T> {
    /// Waits, as long as it takes, until no writer is in or waits, and reads.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, in a forked child; `Corrupt`; `Join`.
    #[inline]
    pub fn read(&self) -> Answer<RwDataReadGuard<'_, T>> {
        self.view().read(self.me)
    }

    /// Reads if no writer is in or waits, and fewer than 64 read.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn try_read(&self) -> Answer<RwDataReadGuard<'_, T>> {
        self.view().try_read(self.me)
    }

    /// Waits for at most `timeout` until no writer is in or waits, and reads; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn read_timeout(&self, timeout: Duration) -> Answer<RwDataReadGuard<'_, T>> {
        self.read_until(Deadline::after(timeout))
    }

    /// Waits until `deadline` until no writer is in or waits, and reads.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn read_until(&self, deadline: Deadline) -> Answer<RwDataReadGuard<'_, T>> {
        self.view().read_until(self.me, deadline)
    }

    /// Waits, as long as it takes, until nobody else is in, and writes. While it waits for readers to leave, no new ones come in.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[inline]
    pub fn write(&self) -> Answer<RwDataWriteGuard<'_, T>> {
        self.view().write(self.me)
    }

    /// Writes if nobody else is in. A failing try may keep out readers for a moment.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn try_write(&self) -> Answer<RwDataWriteGuard<'_, T>> {
        self.view().try_write(self.me)
    }

    /// Waits for at most `timeout` until nobody else is in, and writes; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn write_timeout(&self, timeout: Duration) -> Answer<RwDataWriteGuard<'_, T>> {
        self.write_until(Deadline::after(timeout))
    }

    /// Waits until `deadline` until nobody else is in, and writes.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn write_until(&self, deadline: Deadline) -> Answer<RwDataWriteGuard<'_, T>> {
        self.view().write_until(self.me, deadline)
    }

    /// Waits, as long as it takes, until no writer and no other upgradable reader is in, and reads. It can become a writer:
    /// [`RwDataUpgradableReadGuard::upgrade`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[inline]
    pub fn upgradable_read(&self) -> Answer<RwDataUpgradableReadGuard<'_, T>> {
        self.view().upgradable_read(self.me)
    }

    /// Reads, upgradably, if no writer and no other upgradable reader is in.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn try_upgradable_read(&self) -> Answer<RwDataUpgradableReadGuard<'_, T>> {
        self.view().try_upgradable_read(self.me)
    }

    /// Waits for at most `timeout` until no writer and no other upgradable reader is in, and reads; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn upgradable_read_timeout(
        &self,
        timeout: Duration,
    ) -> Answer<RwDataUpgradableReadGuard<'_, T>> {
        self.upgradable_read_until(Deadline::after(timeout))
    }

    /// Waits until `deadline` until no writer and no other upgradable reader is in, and reads.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn upgradable_read_until(
        &self,
        deadline: Deadline,
    ) -> Answer<RwDataUpgradableReadGuard<'_, T>> {
        self.view().upgradable_read_until(self.me, deadline)
    }

    /// How many read guards there are now.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.inner.lock.readers()
    }

    /// Whether a writer is in.
    #[must_use]
    pub fn write_locked(&self) -> bool {
        self.inner.lock.write_locked()
    }
}

/// Who is in: as of about now.
impl<T> fmt::Debug for RwData<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwData")
            .field("writer", &self.write_locked())
            .field("readers", &self.readers())
            .finish_non_exhaustive()
    }
}
