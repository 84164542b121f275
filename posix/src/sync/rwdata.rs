//! A lock for readers and writers with its data, that travels.

use std::fmt;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use procession_core::region::Member;
use procession_core::sync as core;
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rwlock::describe;
use super::shared::Shared;
use super::{RwDataReadGuard, RwDataUpgradableReadGuard, RwDataWriteGuard, Who};
use crate::memory::{Arena, MemoryError, arena, kind};

/// A guard, or why there is none.
type Answer<G> = Result<G, core::AcquireError<G>>;

/// Data that processes share, and that many may read or one may write: `std::sync::RwLock<T>` between processes.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same data.
///
/// `T` is plain data for which every bit pattern is a value: numbers, arrays of them, and structs that derive bytemuck's
/// `AnyBitPattern` (or `Pod`). A handle of an `RwData<T>` is refused where another type is asked for.
///
/// A process that is killed while it reads leaves nothing behind. One that is killed while it writes does not take the lock
/// along: each next one, reader or writer, gets [`AcquireError::OwnerDied`](core::AcquireError::OwnerDied) with the guard inside,
/// until a writer has mended the data and says so by [`RwDataWriteGuard::mark_consistent`]. What else there is to know of who comes
/// in when, and what it costs, [`RwLock`](super::RwLock) says.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::RwData;
///
/// fn raise(limits: RwData<[u32; 2]>) -> procession_posix::Result<()> {
///     let mut limits = limits.write()?;
///     limits[0] += 1;
///     limits[1] += 1;
///     Ok(())
/// }
///
/// let limits = RwData::new([1u32, 10])?;
/// let other = Process::new(raise, (limits.clone(),)).start()?;
/// {
///     let limits = limits.read()?;
///     assert_eq!(limits[1], limits[0] + 9); // before or after, never in between
/// }
/// other.join()??;
/// assert_eq!(*limits.read()?, [2, 11]);
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct RwData<T: 'static> {
    shared: Shared<core::RwData<'static, T>>,
}

impl<T> Clone for RwData<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: AnyBitPattern> RwData<T> {
    /// A free lock over `value`.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new(value: T) -> Result<Self, MemoryError> {
        Self::new_in(arena()?, value)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena, value: T) -> Result<Self, MemoryError> {
        let bytes = core::RwData::<T>::bytes();
        let create = |place| Ok::<_, MemoryError>(core::RwData::create(place, value)?);
        Ok(Self { shared: Shared::create(arena, kind::RWDATA, bytes, create)? })
    }
}

impl<T> RwData<T> {
    /// Waits, as long as it takes, until no writer is in or waits, and reads.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, if a writer died and nobody has mended the data since; `Corrupt`; `Join`.
    #[inline]
    pub fn read(&self) -> Answer<RwDataReadGuard<'_, T>> {
        self.shared.object.read(self.shared.me)
    }

    /// Reads if no writer is in or waits, and fewer than 64 read.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn try_read(&self) -> Answer<RwDataReadGuard<'_, T>> {
        self.shared.object.try_read(self.shared.me)
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
        self.shared.object.read_until(self.shared.me, deadline)
    }

    /// Waits, as long as it takes, until nobody else is in, and writes. While it waits for readers to leave, no new ones come in.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, if a writer died and nobody has mended the data since; `Corrupt`; `Join`.
    #[inline]
    pub fn write(&self) -> Answer<RwDataWriteGuard<'_, T>> {
        self.shared.object.write(self.shared.me)
    }

    /// Writes if nobody else is in. A failing try may keep out readers for a moment.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`write`](Self::write).
    #[inline]
    pub fn try_write(&self) -> Answer<RwDataWriteGuard<'_, T>> {
        self.shared.object.try_write(self.shared.me)
    }

    /// Waits for at most `timeout` until nobody else is in, and writes; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`write`](Self::write).
    #[inline]
    pub fn write_timeout(&self, timeout: Duration) -> Answer<RwDataWriteGuard<'_, T>> {
        self.write_until(Deadline::after(timeout))
    }

    /// Waits until `deadline` until nobody else is in, and writes.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`write`](Self::write).
    #[inline]
    pub fn write_until(&self, deadline: Deadline) -> Answer<RwDataWriteGuard<'_, T>> {
        self.shared.object.write_until(self.shared.me, deadline)
    }

    /// Waits, as long as it takes, until no writer and no other upgradable reader is in, and reads. It can become a writer:
    /// [`RwDataUpgradableReadGuard::upgrade`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// ```
    /// use procession_posix::sync::RwData;
    ///
    /// let answer = RwData::new(0u64)?;
    /// let looking = answer.upgradable_read()?;
    /// if *looking == 0 {
    ///     // Nobody has written in between.
    ///     *looking.upgrade()? = 42;
    /// }
    /// assert_eq!(*answer.read()?, 42);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[inline]
    pub fn upgradable_read(&self) -> Answer<RwDataUpgradableReadGuard<'_, T>> {
        self.shared.object.upgradable_read(self.shared.me)
    }

    /// Reads, upgradably, if no writer and no other upgradable reader is in.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn try_upgradable_read(&self) -> Answer<RwDataUpgradableReadGuard<'_, T>> {
        self.shared.object.try_upgradable_read(self.shared.me)
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
        self.shared.object.upgradable_read_until(self.shared.me, deadline)
    }

    /// How many read guards there are now; those of the dead that nobody has met yet are counted. Some loads.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.shared.object.as_lock().readers()
    }

    /// Whether a writer is in, or died there. A load.
    #[must_use]
    pub fn write_locked(&self) -> bool {
        self.shared.object.as_lock().write_locked()
    }

    /// Which process is in as a writer or an upgradable reader, or waits for readers to leave, or died so; `None` if there is
    /// none. Some loads.
    #[must_use]
    pub fn writer(&self) -> Option<Who> {
        self.shared.object.as_lock().writer(self.shared.me)
    }
}

/// Who writes, how many read, and who sleeps for it since when: as of about now.
impl<T> fmt::Debug for RwData<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f.debug_struct("RwData"), &self.shared, self.shared.object.as_lock())
            .finish_non_exhaustive()
    }
}

impl<T> crate::wait::sealed::Source for RwData<T> {
    fn source(&self) -> &dyn Waitable {
        self.shared.object.as_lock()
    }

    fn me(&self) -> Member<'static> {
        self.shared.me
    }
}

impl<T> Serialize for RwData<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shared.serialize(serializer)
    }
}

impl<'de, T: AnyBitPattern> Deserialize<'de> for RwData<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { shared: Shared::attach(deserializer, kind::RWDATA, core::RwData::attach)? })
    }
}
