//! The elements of an array, read and written by copying.

use core::fmt;

use super::cell::Cell;
use super::{CType, Char, Place, ValueError};
use crate::sys::atomic::{Ordering, fence};

/// The elements of an [`Array`](super::Array), as its lock's guard or [`raw`](super::Array::raw) gives them.
///
/// Each element is read and written in one atomic step, at the cost of a plain one. Several are several steps:
/// without the lock, others may write in between.
///
/// ```
/// use procession_core::value::{Array, Place, ValueError};
///
/// let mut memory = [0; 10];
/// let array = Array::<i16>::create(Place::in_memory(&mut memory), 4)?;
/// let elements = array.raw();
/// elements.write_from(1, &[7, 8, 9])?;
/// elements.update(0, |x| x - 1)?;
/// assert!(elements.iter().eq([-1, 7, 8, 9]));
///
/// let mut last = [0; 2];
/// elements.read_into(2, &mut last)?;
/// assert_eq!(last, [8, 9]);
///
/// assert_eq!(elements.get(4), Err(ValueError::NoElement { index: 4, length: 4 }));
/// assert_eq!(
///     elements.write_from(3, &[1, 2]),
///     Err(ValueError::BeyondEnd { start: 3, count: 2, length: 4 }),
/// );
/// # Ok::<(), ValueError>(())
/// ```
pub struct Elements<'m, T: CType> {
    // No Clone: what a guard gives ends with the guard.
    cells: &'m [T::Cell],
}

impl<T: CType> fmt::Debug for Elements<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elements").field("code", &T::CODE).field("len", &self.len()).finish()
    }
}

impl<'m, T: CType> Elements<'m, T> {
    pub(super) fn new(cells: &'m [T::Cell]) -> Self {
        Self { cells }
    }

    /// Elements that begin where the place does, without a header or a lock: for memory whose layout is agreed on otherwise.
    /// What they are is what lies there.
    ///
    /// # Errors
    /// [`ValueError::Place`] if they do not fit.
    ///
    /// ```
    /// use procession_core::value::{Elements, Place};
    ///
    /// let mut memory = [0x0002_0001; 2];
    /// let elements = Elements::<u16>::in_place(Place::in_memory(&mut memory), 3)?;
    /// assert!(elements.iter().eq([1, 2, 0]));
    /// assert!(Elements::<u16>::in_place(Place::in_memory(&mut memory), 9).is_err());
    /// # Ok::<(), procession_core::value::ValueError>(())
    /// ```
    pub fn in_place(place: Place<'m>, count: usize) -> Result<Self, ValueError> {
        Ok(Self { cells: place.objects(0, count as u64)? })
    }

    /// How many there are. No access to memory.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// A copy of the element.
    ///
    /// # Errors
    /// [`ValueError::NoElement`].
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, ValueError> {
        // Acquire meets the Release in `set`: what its writer did before is visible.
        Ok(T::from_bits(self.cell(index)?.load(Ordering::Acquire)))
    }

    /// Replaces the element.
    ///
    /// # Errors
    /// [`ValueError::NoElement`].
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), ValueError> {
        self.cell(index)?.store(value.into_bits(), Ordering::Release);
        Ok(())
    }

    /// Replaces the element by what `change` makes of it, in one atomic step, and returns that. `change` is called
    /// again whenever another writer was faster.
    ///
    /// # Errors
    /// [`ValueError::NoElement`].
    #[inline]
    pub fn update(&self, index: usize, change: impl FnMut(T) -> T) -> Result<T, ValueError> {
        Ok(update(self.cell(index)?, change))
    }

    /// Copies elements out, from `start` on, until `out` is full.
    ///
    /// # Errors
    /// [`ValueError::BeyondEnd`]; nothing was copied.
    pub fn read_into(&self, start: usize, out: &mut [T]) -> Result<(), ValueError> {
        let cells = self.range(start, out.len())?;
        for (cell, out) in cells.iter().zip(out) {
            *out = T::from_bits(cell.load(Ordering::Relaxed));
        }
        // Together with the loads it meets the Release of those who wrote.
        fence(Ordering::Acquire);
        Ok(())
    }

    /// Copies `items` in, from `start` on.
    ///
    /// # Errors
    /// [`ValueError::BeyondEnd`]; nothing was copied.
    pub fn write_from(&self, start: usize, items: &[T]) -> Result<(), ValueError> {
        let cells = self.range(start, items.len())?;
        // Together with the stores it meets the Acquire of those who read.
        fence(Ordering::Release);
        for (cell, item) in cells.iter().zip(items) {
            cell.store(item.into_bits(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sets all elements to `value`.
    pub fn fill(&self, value: T) {
        fence(Ordering::Release);
        for cell in self.cells {
            cell.store(value.into_bits(), Ordering::Relaxed);
        }
    }

    /// Copies of all elements in turn, each read when it is asked for.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + ExactSizeIterator {
        self.cells.iter().map(|cell| T::from_bits(cell.load(Ordering::Acquire)))
    }

    #[inline]
    fn cell(&self, index: usize) -> Result<&'m T::Cell, ValueError> {
        self.cells.get(index).ok_or(ValueError::NoElement { index, length: self.cells.len() })
    }

    fn range(&self, start: usize, count: usize) -> Result<&'m [T::Cell], ValueError> {
        self.cells.get(start..).and_then(|rest| rest.get(..count)).ok_or(ValueError::BeyondEnd {
            start,
            count,
            length: self.cells.len(),
        })
    }
}

/// A byte string: the array's `value`, up to the first NUL, and `raw`, all of it.
impl Elements<'_, Char> {
    /// The bytes up to the first NUL, or all if there is none, each read when it is asked for.
    ///
    /// ```
    /// use procession_core::value::{Array, Char, Place};
    ///
    /// let mut memory = [0; 10];
    /// let array = Array::<Char>::create(Place::in_memory(&mut memory), 8).unwrap();
    /// let text = array.raw();
    /// text.set_value(b"hello").unwrap();
    /// text.set_value(b"bye").unwrap();
    /// assert_eq!(text.value().collect::<Vec<u8>>(), b"bye");
    /// assert_eq!(text.raw().collect::<Vec<u8>>(), b"bye\0o\0\0\0");
    /// assert!(text.set_value(b"far too long").is_err());
    /// ```
    pub fn value(&self) -> impl Iterator<Item = u8> {
        self.raw().take_while(|byte| *byte != 0)
    }

    /// All bytes, each read when it is asked for.
    pub fn raw(&self) -> impl DoubleEndedIterator<Item = u8> + ExactSizeIterator {
        self.iter().map(u8::from)
    }

    /// Copies `text` in from the start, and a NUL behind it if there is room. What follows stays.
    ///
    /// # Errors
    /// [`ValueError::BeyondEnd`] if the text is longer than the array; nothing was copied.
    pub fn set_value(&self, text: &[u8]) -> Result<(), ValueError> {
        self.write_from(0, bytemuck::cast_slice(text))?;
        if text.len() < self.len() {
            self.set(text.len(), Char(0))?;
        }
        Ok(())
    }
}

/// One atomic step from what is there to what `change` makes of it.
#[inline]
pub(super) fn update<T: CType>(cell: &T::Cell, mut change: impl FnMut(T) -> T) -> T {
    // Acquire: `change` may look at what the element's writer did before.
    let mut old = cell.load(Ordering::Acquire);
    loop {
        let new = change(T::from_bits(old));
        match cell.replace(old, new.into_bits()) {
            Ok(()) => return new,
            // Another writer was faster.
            Err(now) => old = now,
        }
    }
}
