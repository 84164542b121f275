//! Typed elements in shared memory, side by side.

use core::fmt;

use super::guard::locking;
use super::header::{self, ELEMENTS_AT, Header, Kind, What};
use super::{ArrayGuard, CType, Elements, Place, ValueError};

/// Elements of type `T` that processes share, as many as it was created with, and one lock for all: the counterpart
/// of `Array(code, size_or_initializer)`.
///
/// This is a view of it: three words, copied freely. The elements lie in memory that the caller has allocated.
///
/// - [`lock`](Self::lock) gives its [`Elements`], alone among all who lock.
/// - [`raw`](Self::raw) gives them without the lock.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::value::{Array, Place, ValueError};
///
/// let seat = Membership::private();
/// let mut memory = [0; 7];
/// let place = Place::in_memory(&mut memory);
/// let array = Array::<f64>::create(place, 5)?;
/// {
///     let numbers = array.lock(seat.member()).unwrap();
///     numbers.fill(1.0);
///     numbers.set(4, 0.5)?;
/// }
/// let seen = Array::<f64>::attach(place)?;
/// assert_eq!(seen.raw().iter().sum::<f64>(), 4.5);
///
/// let error = Array::<f64>::attach_to(place, 6).unwrap_err();
/// assert_eq!(error, ValueError::WrongLength { found: 5, asked: 6 });
/// # Ok::<(), ValueError>(())
/// ```
pub struct Array<'m, T: CType> {
    header: &'m Header,
    cells: &'m [T::Cell],
}

impl<T: CType> Clone for Array<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: CType> Copy for Array<'_, T> {}

impl<T: CType> fmt::Debug for Array<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array").field("code", &T::CODE).field("len", &self.len()).finish()
    }
}

impl<'m, T: CType> Array<'m, T> {
    /// How many bytes an array of this length takes, from a multiple of [`ALIGN`](super::ALIGN).
    ///
    /// # Errors
    /// [`ValueError::TooLong`] above [`LONGEST`](super::LONGEST).
    ///
    /// ```
    /// use procession_core::value::Array;
    ///
    /// assert_eq!(Array::<i16>::bytes_for(100), Ok(216));
    /// assert!(Array::<i16>::bytes_for(u64::MAX).is_err());
    /// ```
    pub const fn bytes_for(length: u64) -> Result<u64, ValueError> {
        header::bytes(T::CODE, length)
    }

    /// Makes one of `length` zeros, whatever the memory held before. Nobody else may use this memory meanwhile: it
    /// would be theirs that is lost.
    ///
    /// A creator that dies leaves nothing to attach to.
    ///
    /// # Errors
    /// [`ValueError::TooLong`], [`ValueError::Place`] if the place is too short.
    pub fn create(place: Place<'m>, length: usize) -> Result<Self, ValueError> {
        Self::create_with(place, length, |elements| {
            elements.fill(T::default());
            Ok(())
        })
    }

    /// Makes one of copies of `items`; else as [`create`](Self::create).
    ///
    /// # Errors
    /// [`ValueError::TooLong`], [`ValueError::Place`] if the place is too short.
    ///
    /// ```
    /// use procession_core::value::{Array, Place};
    ///
    /// let mut memory = [0; 7];
    /// let array = Array::create_from(Place::in_memory(&mut memory), &['a', 'ß', '字']).unwrap();
    /// assert_eq!(array.raw().iter().collect::<String>(), "aß字");
    /// ```
    pub fn create_from(place: Place<'m>, items: &[T]) -> Result<Self, ValueError> {
        Self::create_with(place, items.len(), |elements| elements.write_from(0, items))
    }

    fn create_with(
        place: Place<'m>,
        length: usize,
        fill: impl FnOnce(&Elements<'m, T>) -> Result<(), ValueError>,
    ) -> Result<Self, ValueError> {
        let what = What { kind: Kind::Array, code: T::CODE, length: length as u64 };
        let (header, cells) = header::create(place, what, || {
            let cells = place.objects(ELEMENTS_AT, what.length)?;
            fill(&Elements::new(cells))?;
            Ok(cells)
        })?;
        Ok(Self { header, cells })
    }

    /// Attaches to one that another process has made, of whatever length.
    ///
    /// # Errors
    /// [`ValueError::Nothing`], [`WrongKind`](ValueError::WrongKind), [`WrongCode`](ValueError::WrongCode): what lies
    /// there, and what was asked for; [`Place`](ValueError::Place) if it is too short.
    pub fn attach(place: Place<'m>) -> Result<Self, ValueError> {
        Self::attach_if(place, None)
    }

    /// Attaches to one that another process has made with exactly this length.
    ///
    /// # Errors
    /// [`ValueError::WrongLength`], with the length found and the one asked for; and all that
    /// [`attach`](Self::attach) can say.
    pub fn attach_to(place: Place<'m>, length: usize) -> Result<Self, ValueError> {
        Self::attach_if(place, Some(length))
    }

    fn attach_if(place: Place<'m>, length: Option<usize>) -> Result<Self, ValueError> {
        let (header, what) = header::attach(place, Kind::Array)?;
        what.check_code(T::CODE)?;
        what.check_length(length)?;
        Ok(Self { header, cells: place.objects(ELEMENTS_AT, what.length)? })
    }

    pub(super) fn new(header: &'m Header, cells: &'m [T::Cell]) -> Self {
        Self { header, cells }
    }

    locking!(ArrayGuard<'a, T>, |array| array.raw());

    /// Its elements, without the lock.
    #[inline]
    #[must_use]
    pub fn raw(&self) -> Elements<'m, T> {
        Elements::new(self.cells)
    }

    /// How many elements it has, as it was when this process attached.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether it has none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}
