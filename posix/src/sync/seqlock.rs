//! A value that is read far more often than written, that travels.

use std::fmt;
use std::time::Duration;

use bytemuck::Pod;
use procession_core::sync as core;
use procession_core::sys::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shared::Shared;
use super::{WaitError, Who};
use crate::memory::{Arena, MemoryError, arena, kind};

/// A plain value that many processes read and few write. Readers take nothing, and never wait for a writer.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same value. In memory it is 24 bytes and twice the
/// value.
///
/// - A read gives the value of the last write that was finished, never a mixture, whatever becomes of the writers. It is some
///   loads, and nothing that other processors notice.
/// - Writers exclude each other. One that is killed leaves the value as it was, and nothing to mend.
///
/// `T` is bytemuck's `Pod`: numbers, arrays of them, and structs that derive it. For one number of up to 64 bits an
/// [`Atomic`](super::Atomic) is cheaper.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::SeqLock;
///
/// fn steer(position: SeqLock<[f64; 2]>) -> procession_posix::Result<()> {
///     for _ in 0..100 {
///         position.update(|[x, y]| [x + 1.0, y - 1.0])?;
///     }
///     Ok(())
/// }
///
/// let position = SeqLock::new([0.0, 0.0])?;
/// let pilot = Process::new(steer, (position.clone(),)).start()?;
/// let [x, y] = position.get();
/// assert_eq!(x, -y); // both of the same moment
/// pilot.join()??;
/// assert_eq!(position.get(), [100.0, -100.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SeqLock<T: Pod> {
    shared: Shared<&'static core::SeqLock<T>>,
}

impl<T: Pod> Clone for SeqLock<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: Pod> SeqLock<T> {
    /// A cell that holds `value`.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new(value: T) -> Result<Self, MemoryError> {
        Self::new_in(arena()?, value)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena, value: T) -> Result<Self, MemoryError> {
        let bytes = core::SeqLock::<T>::bytes();
        let create = |place| Ok::<_, MemoryError>(core::SeqLock::create(place, value)?);
        Ok(Self { shared: Shared::create(arena, kind::SEQLOCK, bytes, create)? })
    }

    /// The value. Starts over as often as a newer one is published while it reads, which for large values that are written
    /// without a pause may be often; see [`try_get`](Self::try_get).
    #[inline]
    #[must_use]
    pub fn get(&self) -> T {
        self.shared.object.get()
    }

    /// The value, or `None` if a newer one was published while this one was read.
    #[inline]
    #[must_use]
    pub fn try_get(&self) -> Option<T> {
        self.shared.object.try_get()
    }

    /// Replaces the value; waits for another writer as long as it takes, or until it is found dead.
    ///
    /// # Errors
    /// [`WaitError::Corrupt`]; `Join`. The value is as before.
    #[inline]
    pub fn set(&self, value: T) -> Result<(), WaitError> {
        self.shared.object.set(self.shared.me, value)
    }

    /// Replaces the value, unless a living writer is at it.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`]; otherwise as [`set`](Self::set).
    #[inline]
    pub fn try_set(&self, value: T) -> Result<(), WaitError> {
        self.shared.object.try_set(self.shared.me, value)
    }

    /// Replaces the value; waits for another writer for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; otherwise as [`set`](Self::set).
    #[inline]
    pub fn set_timeout(&self, timeout: Duration, value: T) -> Result<(), WaitError> {
        self.set_until(Deadline::after(timeout), value)
    }

    /// Replaces the value; waits for another writer until `deadline`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; otherwise as [`set`](Self::set).
    #[inline]
    pub fn set_until(&self, deadline: Deadline, value: T) -> Result<(), WaitError> {
        self.shared.object.set_until(self.shared.me, deadline, value)
    }

    /// Replaces the value by what `change` makes of it, and returns that; no other write comes in between. Waits for another
    /// writer as long as it takes, or until it is found dead. All other writers wait for `change`, and if it writes to the same
    /// cell, it waits for itself. If it panics, the value is as before.
    ///
    /// # Errors
    /// [`WaitError::Corrupt`]; `Join`. The value is as before.
    #[inline]
    pub fn update(&self, change: impl FnOnce(T) -> T) -> Result<T, WaitError> {
        self.shared.object.update(self.shared.me, change)
    }

    /// The same, unless a living writer is at it.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`]; otherwise as [`update`](Self::update).
    #[inline]
    pub fn try_update(&self, change: impl FnOnce(T) -> T) -> Result<T, WaitError> {
        self.shared.object.try_update(self.shared.me, change)
    }

    /// The same; waits for another writer for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; otherwise as [`update`](Self::update).
    #[inline]
    pub fn update_timeout(
        &self,
        timeout: Duration,
        change: impl FnOnce(T) -> T,
    ) -> Result<T, WaitError> {
        self.update_until(Deadline::after(timeout), change)
    }

    /// The same; waits for another writer until `deadline`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; otherwise as [`update`](Self::update).
    #[inline]
    pub fn update_until(
        &self,
        deadline: Deadline,
        change: impl FnOnce(T) -> T,
    ) -> Result<T, WaitError> {
        self.shared.object.update_until(self.shared.me, deadline, change)
    }

    /// Which process is writing now, or died so; `None` if there is none. Some loads.
    #[must_use]
    pub fn writer(&self) -> Option<Who> {
        self.shared.object.writer(self.shared.me)
    }
}

/// The value, and who is writing: as of about now.
impl<T: Pod + fmt::Debug> fmt::Debug for SeqLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeqLock")
            .field("value", &self.get())
            .field("writer", &self.writer())
            .finish()
    }
}

impl<T: Pod> Serialize for SeqLock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shared.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SeqLock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { shared: Shared::attach(deserializer, kind::SEQLOCK, core::SeqLock::attach)? })
    }
}
