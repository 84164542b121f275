//! An atomic number or flag that travels.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use procession_core::sync as core;
use procession_core::sys::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::shared::Shared;
use super::{AtomicNumber, AtomicType, WaitError};
use crate::memory::{Arena, MemoryError, arena, kind};

/// A number or a flag that processes share, with all that std's atomics can do, and on whose change one can wait. `T` is
/// `bool` or an integer of 8, 16, 32 or 64 bits.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same number. In memory it is 16 or 24 bytes.
///
/// Every operation is the processor's, with the order that the caller names, as in [`std::sync::atomic`]; a process that
/// is killed leaves none half done. Who changes the number for others that wait calls [`notify_one`](Self::notify_one) or
/// [`notify_all`](Self::notify_all) afterwards: a load, if nobody waits.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::Atomic;
/// use std::sync::atomic::Ordering::{Relaxed, Release};
///
/// fn count(hits: Atomic<u64>, done: Atomic<u8>) {
///     for _ in 0..1000 {
///         hits.fetch_add(1, Relaxed);
///     }
///     done.fetch_add(1, Release);
///     done.notify_one();
/// }
///
/// let (hits, done) = (Atomic::new(0u64)?, Atomic::new(0u8)?);
/// let counters = (0..2)
///     .map(|_| Process::new(count, (hits.clone(), done.clone())).start())
///     .collect::<Result<Vec<_>, _>>()?;
/// done.wait_for(|done| done == 2)?;
/// assert_eq!(hits.load(Relaxed), 2000);
/// # for counter in counters { counter.join()?; }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Atomic<T: AtomicType> {
    shared: Shared<&'static core::Atomic<T>>,
}

impl<T: AtomicType> Clone for Atomic<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: AtomicType> Atomic<T> {
    /// An atomic that is `value`.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new(value: T) -> Result<Self, MemoryError> {
        Self::new_in(arena()?, value)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena, value: T) -> Result<Self, MemoryError> {
        let bytes = core::Atomic::<T>::bytes();
        let create = |place| Ok::<_, MemoryError>(core::Atomic::create(place, value)?);
        Ok(Self { shared: Shared::create(arena, kind::ATOMIC, bytes, create)? })
    }

    /// The value. An `order` that only writes can have counts as what goes with it for reads.
    #[inline]
    #[must_use]
    pub fn load(&self, order: Ordering) -> T {
        self.shared.object.load(order)
    }

    /// Replaces the value. An `order` that only reads can have counts as what goes with it for writes.
    #[inline]
    pub fn store(&self, value: T, order: Ordering) {
        self.shared.object.store(value, order);
    }

    /// Replaces the value, and returns the one before.
    #[inline]
    pub fn swap(&self, value: T, order: Ordering) -> T {
        self.shared.object.swap(value, order)
    }

    /// Replaces the value by `new` if it is `old`, and returns `old`.
    ///
    /// # Errors
    /// The value, if it is another.
    #[inline]
    pub fn compare_exchange(
        &self,
        old: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T> {
        self.shared.object.compare_exchange(old, new, success, failure)
    }

    /// Replaces the value by what `change` makes of it, and returns the one before. `change` is called again whenever
    /// another was faster; with `None` it gives up.
    ///
    /// # Errors
    /// The value for which `change` gave up.
    #[inline]
    pub fn fetch_update(
        &self,
        success: Ordering,
        failure: Ordering,
        change: impl FnMut(T) -> Option<T>,
    ) -> Result<T, T> {
        self.shared.object.fetch_update(success, failure, change)
    }

    /// Keeps the bits that are in `value` too, and returns the value before.
    #[inline]
    pub fn fetch_and(&self, value: T, order: Ordering) -> T {
        self.shared.object.fetch_and(value, order)
    }

    /// Sets the bits of `value`, and returns the value before.
    #[inline]
    pub fn fetch_or(&self, value: T, order: Ordering) -> T {
        self.shared.object.fetch_or(value, order)
    }

    /// Flips the bits of `value`, and returns the value before.
    #[inline]
    pub fn fetch_xor(&self, value: T, order: Ordering) -> T {
        self.shared.object.fetch_xor(value, order)
    }

    /// Waits, as long as it takes, until the value is not `old`, and returns what it is. A value that was another for a while
    /// and is `old` again may go unseen. What the one who changed it had stored before is visible, if the change was a release.
    ///
    /// Who changes it has to notify; if it dies before it does, the wait ends after a quarter of a second at the latest.
    ///
    /// # Errors
    /// None as yet: it gives a `Result` as all waits do.
    #[inline]
    pub fn wait(&self, old: T) -> Result<T, WaitError> {
        self.shared.object.wait(self.shared.me, old)
    }

    /// Waits for at most `timeout` until the value is not `old`; zero looks once.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`].
    #[inline]
    pub fn wait_timeout(&self, old: T, timeout: Duration) -> Result<T, WaitError> {
        self.wait_until(old, Deadline::after(timeout))
    }

    /// Waits until `deadline` until the value is not `old`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`].
    #[inline]
    pub fn wait_until(&self, old: T, deadline: Deadline) -> Result<T, WaitError> {
        self.shared.object.wait_until(self.shared.me, old, deadline)
    }

    /// Waits, as long as it takes, until `enough` says so of the value, and returns that.
    ///
    /// # Errors
    /// None as yet: it gives a `Result` as all waits do.
    #[inline]
    pub fn wait_for(&self, enough: impl FnMut(T) -> bool) -> Result<T, WaitError> {
        self.shared.object.wait_for(self.shared.me, enough)
    }

    /// Waits for at most `timeout` until `enough` says so of the value; zero looks once.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`].
    #[inline]
    pub fn wait_for_timeout(
        &self,
        timeout: Duration,
        enough: impl FnMut(T) -> bool,
    ) -> Result<T, WaitError> {
        self.wait_for_until(Deadline::after(timeout), enough)
    }

    /// Waits until `deadline` until `enough` says so of the value.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`].
    #[inline]
    pub fn wait_for_until(
        &self,
        deadline: Deadline,
        enough: impl FnMut(T) -> bool,
    ) -> Result<T, WaitError> {
        self.shared.object.wait_for_until(self.shared.me, deadline, enough)
    }

    /// Wakes one of those that wait, after a change that one of them waits for. If others wait for something else, it may
    /// be one of those: then use [`notify_all`](Self::notify_all). A load, if nobody sleeps.
    #[inline]
    pub fn notify_one(&self) {
        self.shared.object.notify_one(self.shared.me);
    }

    /// Wakes all that wait, after a change. A load, if nobody sleeps.
    #[inline]
    pub fn notify_all(&self) {
        self.shared.object.notify_all(self.shared.me);
    }
}

impl<T: AtomicNumber> Atomic<T> {
    /// Adds, wrapping around, and returns the value before.
    #[inline]
    pub fn fetch_add(&self, value: T, order: Ordering) -> T {
        self.shared.object.fetch_add(value, order)
    }

    /// Subtracts, wrapping around, and returns the value before.
    #[inline]
    pub fn fetch_sub(&self, value: T, order: Ordering) -> T {
        self.shared.object.fetch_sub(value, order)
    }

    /// Raises the value to `value` if it is less, and returns the one before.
    #[inline]
    pub fn fetch_max(&self, value: T, order: Ordering) -> T {
        self.shared.object.fetch_max(value, order)
    }

    /// Lowers the value to `value` if it is more, and returns the one before.
    #[inline]
    pub fn fetch_min(&self, value: T, order: Ordering) -> T {
        self.shared.object.fetch_min(value, order)
    }
}

/// The value.
impl<T: AtomicType> fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.object.fmt(f)
    }
}

impl<T: AtomicType> Serialize for Atomic<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shared.serialize(serializer)
    }
}

impl<'de, T: AtomicType> Deserialize<'de> for Atomic<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { shared: Shared::attach(deserializer, kind::ATOMIC, core::Atomic::attach)? })
    }
}
