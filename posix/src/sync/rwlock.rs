//! A lock for many readers or one writer, that travels.

use std::fmt;
use std::time::Duration;

use procession_core::sync as core;
use procession_core::sys::Deadline;

use super::shared::{Shared, travels, waiters};
use super::{RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard, Who};
use crate::memory::{Arena, MemoryError, arena, kind};

/// A guard, or why there is none.
type Answer<G> = Result<G, core::AcquireError<G>>;

/// A lock between processes that many hold to read or one to write.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same lock. In memory it is 320 bytes.
///
/// - A writer that waits keeps new readers out, and is not starved by them. So a thread that reads must not read again
///   before it has given up its guard: a writer may have come in between.
/// - A reader that is killed leaves nothing behind. After a writer's death each next one, reader or writer, gets
///   [`AcquireError::OwnerDied`](core::AcquireError::OwnerDied) with the guard inside, until a writer says
///   [`mark_consistent`](RwLockWriteGuard::mark_consistent). Who is merely stopped keeps the lock.
/// - An upgradable read keeps out writers, and other upgradable reads, but no plain reads; it can become a write without
///   letting anybody write in between. A write can become either kind of read.
/// - At most 64 read guards exist at a time; who wants one more waits for one of them.
///
/// Without contention reading and releasing is one compare-and-swap and one store, on memory that readers elsewhere mostly do not
/// touch; writing costs some ten nanoseconds more. A wait ends within some milliseconds after the death of the one in the way
/// (a quarter of a second, for who has waited long or beside others).
///
/// What the lock protects lies elsewhere; [`RwData`](super::RwData) is such a lock with its data.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::RwLock;
/// use std::time::Duration;
///
/// fn look(lock: RwLock) -> bool {
///     lock.read_timeout(Duration::from_secs(10)).is_ok()
/// }
///
/// let lock = RwLock::new()?;
/// let reading = lock.read()?;
/// let other = Process::new(look, (lock.clone(),)).start()?;
/// assert!(other.join()?); // at the same time
/// assert!(lock.try_write().is_err());
/// drop(reading);
/// assert!(lock.try_write().is_ok());
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct RwLock {
    shared: Shared<&'static core::RwLock>,
}

travels!(RwLock, RWLOCK, waits);

impl RwLock {
    /// A free lock.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new() -> Result<Self, MemoryError> {
        Self::new_in(arena()?)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena) -> Result<Self, MemoryError> {
        Ok(Self { shared: Shared::new(arena, kind::RWLOCK)? })
    }

    /// Waits, as long as it takes, until no writer is in or waits, and reads.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, if a writer died and nobody has mended the data since; `Corrupt`; `Join`.
    #[inline]
    pub fn read(&self) -> Answer<RwLockReadGuard<'_>> {
        self.shared.object.read(self.shared.me)
    }

    /// Reads if no writer is in or waits, and fewer than 64 read.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn try_read(&self) -> Answer<RwLockReadGuard<'_>> {
        self.shared.object.try_read(self.shared.me)
    }

    /// Waits for at most `timeout` until no writer is in or waits, and reads; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn read_timeout(&self, timeout: Duration) -> Answer<RwLockReadGuard<'_>> {
        self.read_until(Deadline::after(timeout))
    }

    /// Waits until `deadline` until no writer is in or waits, and reads.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn read_until(&self, deadline: Deadline) -> Answer<RwLockReadGuard<'_>> {
        self.shared.object.read_until(self.shared.me, deadline)
    }

    /// Waits, as long as it takes, until nobody else is in, and writes. While it waits for readers to leave, no new ones come in.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, if a writer died and nobody has mended the data since; `Corrupt`; `Join`.
    #[inline]
    pub fn write(&self) -> Answer<RwLockWriteGuard<'_>> {
        self.shared.object.write(self.shared.me)
    }

    /// Writes if nobody else is in. A failing try may keep out readers for a moment.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`write`](Self::write).
    #[inline]
    pub fn try_write(&self) -> Answer<RwLockWriteGuard<'_>> {
        self.shared.object.try_write(self.shared.me)
    }

    /// Waits for at most `timeout` until nobody else is in, and writes; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`write`](Self::write).
    #[inline]
    pub fn write_timeout(&self, timeout: Duration) -> Answer<RwLockWriteGuard<'_>> {
        self.write_until(Deadline::after(timeout))
    }

    /// Waits until `deadline` until nobody else is in, and writes.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`write`](Self::write).
    #[inline]
    pub fn write_until(&self, deadline: Deadline) -> Answer<RwLockWriteGuard<'_>> {
        self.shared.object.write_until(self.shared.me, deadline)
    }

    /// Waits, as long as it takes, until no writer and no other upgradable reader is in, and reads. It can become a writer:
    /// [`RwLockUpgradableReadGuard::upgrade`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// ```
    /// use procession_posix::sync::RwLock;
    ///
    /// let lock = RwLock::new()?;
    /// let looking = lock.upgradable_read()?;
    /// assert!(lock.try_read().is_ok());
    /// assert!(lock.try_write().is_err());
    /// let writing = looking.upgrade()?;
    /// assert!(lock.try_read().is_err());
    /// let reading = writing.downgrade();
    /// assert!(lock.try_read().is_ok());
    /// # drop(reading);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[inline]
    pub fn upgradable_read(&self) -> Answer<RwLockUpgradableReadGuard<'_>> {
        self.shared.object.upgradable_read(self.shared.me)
    }

    /// Reads, upgradably, if no writer and no other upgradable reader is in.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`read`](Self::read).
    #[inline]
    pub fn try_upgradable_read(&self) -> Answer<RwLockUpgradableReadGuard<'_>> {
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
    ) -> Answer<RwLockUpgradableReadGuard<'_>> {
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
    ) -> Answer<RwLockUpgradableReadGuard<'_>> {
        self.shared.object.upgradable_read_until(self.shared.me, deadline)
    }

    /// How many read guards there are now; those of the dead that nobody has met yet are counted. Some loads.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.shared.object.readers()
    }

    /// Whether a writer is in, or died there. A load.
    #[must_use]
    pub fn write_locked(&self) -> bool {
        self.shared.object.write_locked()
    }

    /// Which process is in as a writer or an upgradable reader, or waits for readers to leave, or died so; `None` if there is
    /// none. Some loads.
    #[must_use]
    pub fn writer(&self) -> Option<Who> {
        self.shared.object.writer(self.shared.me)
    }
}

/// Who writes, how many read, and who sleeps for it since when: as of about now.
impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f.debug_struct("RwLock"), &self.shared, self.shared.object).finish()
    }
}

/// What there is to tell of such a lock.
pub(super) fn describe<'a, 'b, T>(
    mut f: fmt::DebugStruct<'a, 'b>,
    shared: &Shared<T>,
    lock: &'static core::RwLock,
) -> fmt::DebugStruct<'a, 'b> {
    let waiting: Vec<_> = lock.waiting_writers(shared.me).collect();
    f.field("writer", &lock.writer(shared.me))
        .field("readers", &lock.readers())
        .field("waiting_writers", &waiting)
        .field("waiting_readers", &waiters(lock, shared.me));
    f
}
