//! Typed elements that travel together.

use std::fmt;
use std::time::Duration;

use procession_core::region::Member;
use procession_core::sync::AcquireError;
use procession_core::sys::Deadline;
use procession_core::value as view;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ArrayGuard, CType, CreateError, Elements, ValueError, handle};
use crate::memory::{Arena, Handle, HandleError, arena, kind};

/// Elements of type `T` that processes share, as many as it was made with, and one lock for all: as
/// `multiprocessing.Array`.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same array. In memory it is 16 bytes and
/// the elements.
///
/// - [`get`](Self::get), [`set`](Self::set) and the other methods do without the lock. Each element is one atomic step,
///   several are several: others may write in between. Enough where each element has one writer, or stands for itself.
/// - [`lock`](Self::lock) gives the [`Elements`], alone among all who lock.
///
/// ```
/// use procession_posix::value::Array;
///
/// let numbers = Array::from_slice(&[3, 1, 2])?;
/// {
///     let numbers = numbers.lock()?;
///     let mut sorted: Vec<i32> = numbers.iter().collect();
///     sorted.sort();
///     numbers.write_from(0, &sorted)?;
/// }
/// assert_eq!(numbers.to_vec(), [1, 2, 3]);
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct Array<T: CType> {
    pub(super) view: view::Array<'static, T>,
    pub(super) me: Member<'static>,
    pub(super) handle: Handle,
}

impl<T: CType> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

impl<T: CType> Array<T> {
    /// An array of `length` zeros. It can be empty.
    ///
    /// # Errors
    /// [`CreateError::Memory`] if there is no room for it; [`ValueError::TooLong`] if there never will be.
    ///
    /// ```
    /// use procession_posix::value::Array;
    ///
    /// assert_eq!(Array::<u16>::new(4)?.to_vec(), [0; 4]);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn new(length: usize) -> Result<Self, CreateError> {
        Self::new_in(arena()?, length)
    }

    /// An array of copies of `items`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_slice(items: &[T]) -> Result<Self, CreateError> {
        Self::from_slice_in(arena()?, items)
    }

    /// [`new`](Self::new) in this memory.
    pub(crate) fn new_in(arena: &'static Arena, length: usize) -> Result<Self, CreateError> {
        Self::make(arena, length, |place| view::Array::create(place, length))
    }

    /// [`from_slice`](Self::from_slice) in this memory.
    pub(crate) fn from_slice_in(arena: &'static Arena, items: &[T]) -> Result<Self, CreateError> {
        Self::make(arena, items.len(), |place| view::Array::create_from(place, items))
    }

    fn make(
        arena: &'static Arena,
        length: usize,
        create: impl FnOnce(view::Place<'static>) -> Result<view::Array<'static, T>, ValueError>,
    ) -> Result<Self, CreateError> {
        let bytes = view::Array::<T>::bytes_for(length as u64)?;
        let handle = Handle::allocate_in(arena, kind::ARRAY, bytes)?;
        let view = create(super::fresh(&handle, bytes)?)?;
        Ok(Self { view, me: handle.arena().member(), handle })
    }

    /// How many elements it has. That never changes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// Whether it has none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    /// Its elements, without the lock.
    ///
    /// ```
    /// use procession_posix::value::{Array, Char};
    ///
    /// // An array of bytes of text has two more ways to be read and written.
    /// let text = Array::<Char>::new(8)?;
    /// text.raw().set_value(b"hello")?;
    /// assert_eq!(text.raw().value().collect::<Vec<u8>>(), b"hello");
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn raw(&self) -> Elements<'_, T> {
        self.view.raw()
    }

    /// A copy of the element, without the lock. One atomic load.
    ///
    /// # Errors
    /// [`ValueError::NoElement`].
    ///
    /// ```
    /// use procession_posix::value::{Array, ValueError};
    ///
    /// let array = Array::from_slice(&[1.5, 2.5])?;
    /// assert_eq!(array.get(1), Ok(2.5));
    /// assert_eq!(array.get(2), Err(ValueError::NoElement { index: 2, length: 2 }));
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, ValueError> {
        self.raw().get(index)
    }

    /// Replaces the element, without the lock. One atomic store.
    ///
    /// # Errors
    /// [`ValueError::NoElement`].
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), ValueError> {
        self.raw().set(index, value)
    }

    /// Replaces the element by what `change` makes of it, without the lock, in one atomic step, and returns that. `change` is
    /// called again whenever another was faster.
    ///
    /// # Errors
    /// [`ValueError::NoElement`].
    #[inline]
    pub fn update(&self, index: usize, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        self.raw().update(index, change)
    }

    /// Copies of all elements, without the lock.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        self.iter().collect()
    }

    /// Copies elements out, from `start` on, until `out` is full, without the lock.
    ///
    /// # Errors
    /// [`ValueError::BeyondEnd`]; nothing was copied.
    pub fn read_into(&self, start: usize, out: &mut [T]) -> Result<(), ValueError> {
        self.raw().read_into(start, out)
    }

    /// Copies `items` in, from `start` on, without the lock.
    ///
    /// # Errors
    /// [`ValueError::BeyondEnd`]; nothing was copied.
    pub fn write_from(&self, start: usize, items: &[T]) -> Result<(), ValueError> {
        self.raw().write_from(start, items)
    }

    /// Sets all elements to `value`, without the lock.
    pub fn fill(&self, value: T) {
        self.raw().fill(value);
    }

    /// Copies of all elements in turn, each read when it is asked for, without the lock.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + ExactSizeIterator {
        let elements = self.raw();
        // Each index is below the length: the default is never used.
        (0..elements.len()).map(move |index| elements.get(index).unwrap_or_default())
    }
}

handle!(Array<T>, ARRAY, ArrayGuard<'_, T>);
