//! A value that is set once, by a handle that travels.

use std::fmt;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use procession_core::region::Member;
use procession_core::sync as core;
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shared::Shared;
use super::{OnceError, WaitError};
use crate::memory::{Arena, MemoryError, arena, kind};

/// A value that one process sets and all read: `std::sync::OnceLock` between processes.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same cell. In memory it is 16 bytes and the value.
///
/// `T` is plain data for which every bit pattern is a value: numbers, arrays of them, and structs that derive bytemuck's
/// `AnyBitPattern` (or `Pod`). A handle of a `OnceCell<T>` is refused where another type is asked for.
///
/// A process that is killed while it sets the value has set nothing: another can. Nobody sees half a value. To read it costs
/// one load, and the value.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::OnceCell;
///
/// fn settle(winner: OnceCell<u32>, me: u32) -> procession_posix::Result<u32> {
///     Ok(*winner.get_or_init(|| me)?)
/// }
///
/// let winner = OnceCell::new()?;
/// let children: Vec<_> = (1..4)
///     .map(|me| Process::new(settle, (winner.clone(), me)).start())
///     .collect::<Result<_, _>>()?;
/// let answer = *winner.wait()?;
/// for child in children {
///     assert_eq!(child.join()??, answer);
/// }
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct OnceCell<T: 'static> {
    shared: Shared<core::OnceCell<'static, T>>,
}

impl<T> Clone for OnceCell<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: AnyBitPattern> OnceCell<T> {
    /// A cell that is not set.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new() -> Result<Self, MemoryError> {
        Self::new_in(arena()?)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena) -> Result<Self, MemoryError> {
        let bytes = core::OnceCell::<T>::bytes();
        let create = |place| Ok::<_, MemoryError>(core::OnceCell::create(place)?);
        Ok(Self { shared: Shared::create(arena, kind::ONCE_CELL, bytes, create)? })
    }

    /// A copy of the value, made without a reference to it; `None` if it is not set. For values of processes that are
    /// not to be trusted.
    #[must_use]
    pub fn copied(&self) -> Option<T> {
        self.shared.object.copied()
    }

    /// Sets the value if it is not set. Waits, as long as it takes, for somebody who is about to.
    ///
    /// # Errors
    /// [`OnceError::AlreadySet`]; `Corrupt`; `Join`.
    pub fn set(&self, value: T) -> Result<(), OnceError> {
        self.shared.object.set(self.shared.me, value)
    }

    /// Sets the value if it is not set and nobody is about to set it.
    ///
    /// # Errors
    /// `WouldBlock`; otherwise as [`set`](Self::set).
    pub fn try_set(&self, value: T) -> Result<(), OnceError> {
        self.shared.object.try_set(self.shared.me, value)
    }

    /// The same, and waits for at most `timeout` for somebody who is about to.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`set`](Self::set).
    pub fn set_timeout(&self, timeout: Duration, value: T) -> Result<(), OnceError> {
        self.set_until(Deadline::after(timeout), value)
    }

    /// The same, and waits until `deadline` for somebody who is about to.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`set`](Self::set).
    pub fn set_until(&self, deadline: Deadline, value: T) -> Result<(), OnceError> {
        self.shared.object.set_until(self.shared.me, deadline, value)
    }

    /// The value, which `make` makes if nobody has. Waits, as long as it takes, for somebody who is about to. A `make` that panics
    /// has not set it.
    ///
    /// # Errors
    /// `Corrupt`; `Join`.
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> Result<&T, OnceError> {
        self.shared.object.get_or_init(self.shared.me, make)
    }

    /// The same with a `make` that can fail, and waits for somebody who is about to set it until `deadline`.
    ///
    /// # Errors
    /// `Failed` with `make`'s error, if this call ran it; `TimedOut`; `Corrupt`; `Join`.
    #[inline]
    pub fn get_or_try_init<E>(
        &self,
        deadline: Deadline,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, OnceError<E>> {
        self.shared.object.get_or_try_init(self.shared.me, deadline, make)
    }
}

impl<T> OnceCell<T> {
    /// The value; `None` if it is not set.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.shared.object.get()
    }

    /// Waits, as long as it takes, until somebody has set it.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn wait(&self) -> Result<&T, WaitError> {
        self.wait_until(Deadline::NEVER)
    }

    /// The same for at most `timeout`; zero looks once.
    ///
    /// # Errors
    /// `TimedOut`; `Corrupt`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<&T, WaitError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// The same until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; `Corrupt`.
    pub fn wait_until(&self, deadline: Deadline) -> Result<&T, WaitError> {
        self.shared.object.wait_until(self.shared.me, deadline)
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceCell").field(&self.get()).finish()
    }
}

impl<T> crate::wait::sealed::Source for OnceCell<T> {
    fn source(&self) -> &dyn Waitable {
        self.shared.object.as_once()
    }

    fn me(&self) -> Member<'static> {
        self.shared.me
    }
}

impl<T> Serialize for OnceCell<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shared.serialize(serializer)
    }
}

impl<'de, T: AnyBitPattern> Deserialize<'de> for OnceCell<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { shared: Shared::attach(deserializer, kind::ONCE_CELL, core::OnceCell::attach)? })
    }
}
