//! One typed element that travels.

use std::fmt;
use std::time::Duration;

use procession_core::region::Member;
use procession_core::sync::AcquireError;
use procession_core::sys::Deadline;
use procession_core::value as view;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CType, CreateError, ValueGuard, handle};
use crate::memory::{Arena, Handle, HandleError, arena, kind};

/// One element of type `T` that processes share, with a lock: as `multiprocessing.Value`.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same value. In memory it is 16 bytes and
/// the element.
///
/// - [`get`](Self::get), [`set`](Self::set), [`update`](Self::update) do without the lock: each is one atomic step. Enough for a
///   flag, a gauge, or a counter that is changed by `update` alone.
/// - [`lock`](Self::lock) gives a guard with the same three, alone among all who lock: for an element that changes together with
///   something else. What is changed under the lock is not to be changed without.
///
/// ```
/// use procession_posix::value::Value;
///
/// let counter = Value::new(0i32)?;
/// std::thread::scope(|threads| {
///     for _ in 0..2 {
///         threads.spawn(|| (0..100).for_each(|_| drop(counter.update(|n| n + 1))));
///     }
/// });
/// assert_eq!(counter.get(), 200);
/// # Ok::<(), procession_posix::Error>(())
/// ```
///
/// ```
/// use procession_posix::channel::Queue;
/// use procession_posix::value::Value;
///
/// let balance = Value::new(10.0f64)?;
/// let mail = Queue::bounded(1)?;
/// mail.put(&balance)?;
/// let same: Value<f64> = mail.get()?;
/// {
///     let mut balance = same.lock()?;
///     if balance.get() > 5.0 {
///         balance.update(|sum| sum - 5.0);
///     }
/// }
/// assert_eq!(balance.get(), 5.0);
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct Value<T: CType> {
    pub(super) view: view::Value<'static, T>,
    pub(super) me: Member<'static>,
    pub(super) handle: Handle,
}

impl<T: CType> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

impl<T: CType> Value<T> {
    /// A value that is `initial`.
    ///
    /// # Errors
    /// [`CreateError::Memory`] if there is no shared memory to be had.
    pub fn new(initial: T) -> Result<Self, CreateError> {
        Self::new_in(arena()?, initial)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena, initial: T) -> Result<Self, CreateError> {
        let bytes = view::Value::<T>::bytes();
        let handle = Handle::allocate_in(arena, kind::VALUE, bytes)?;
        let view = view::Value::create(super::fresh(&handle, bytes)?, initial)?;
        Ok(Self { view, me: handle.arena().member(), handle })
    }

    /// A copy of the element, without the lock. One atomic load: never half of a write. What the writer did before
    /// [`set`](Self::set) is visible.
    ///
    /// ```
    /// use procession_posix::value::Value;
    ///
    /// assert_eq!(Value::new('ß')?.get(), 'ß');
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn get(&self) -> T {
        self.view.get_raw()
    }

    /// Replaces the element, without the lock. One atomic store.
    #[inline]
    pub fn set(&self, value: T) {
        self.view.set_raw(value);
    }

    /// Replaces the element by what `change` makes of it, without the lock, and returns that. One atomic step: no change that
    /// others make in this way is lost, whoever dies. `change` is called again whenever another was faster.
    ///
    /// A change that is made under the lock is a load and a store: do not mix the two.
    ///
    /// ```
    /// use procession_posix::value::Value;
    ///
    /// let most = Value::new(3u64)?;
    /// assert_eq!(most.update(|n| n.max(7)), 7);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[inline]
    pub fn update(&self, change: impl FnMut(T) -> T) -> T {
        self.view.update_raw(change)
    }
}

handle!(Value<T>, VALUE, ValueGuard<'_, T>);
