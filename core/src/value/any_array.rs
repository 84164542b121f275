//! Elements whose type is known at run time, side by side.

use core::fmt;

use super::guard::locking;
use super::header::{self, Header, Kind, What};
use super::row::Row;
use super::{AnyArrayGuard, Array, CType, Place, Scalar, TypeCode, ValueError};

/// An [`Array`] of a type that the program learns when it runs: by the code that it is given or that it finds.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::value::{AnyArray, Array, Place, Scalar, TypeCode, ValueError};
///
/// let seat = Membership::private();
/// let mut memory = [0; 7];
/// let place = Place::in_memory(&mut memory);
/// let array = AnyArray::create(place, TypeCode::from_char('d')?, 5)?;
/// array.lock(seat.member()).unwrap().set(1, 2.5)?;
///
/// let seen = AnyArray::attach(place)?;
/// assert_eq!((seen.code(), seen.len()), (TypeCode::Double, 5));
/// assert_eq!(seen.raw().get(1)?, Scalar::F64(2.5));
/// // A loop is better off with the type at hand.
/// assert_eq!(seen.typed::<f64>()?.raw().iter().sum::<f64>(), 2.5);
///
/// assert_eq!(
///     AnyArray::attach_to(place, TypeCode::Int, None).unwrap_err(),
///     ValueError::WrongCode { found: TypeCode::Double, asked: TypeCode::Int },
/// );
/// # Ok::<(), ValueError>(())
/// ```
#[derive(Clone, Copy)]
pub struct AnyArray<'m> {
    header: &'m Header,
    row: Row<'m>,
}

impl fmt::Debug for AnyArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyArray").field("code", &self.code()).field("len", &self.len()).finish()
    }
}

impl<'m> AnyArray<'m> {
    /// How many bytes an array of this type and length takes, from a multiple of [`ALIGN`](super::ALIGN).
    ///
    /// # Errors
    /// [`ValueError::TooLong`] above [`LONGEST`](super::LONGEST).
    pub const fn bytes_for(code: TypeCode, length: u64) -> Result<u64, ValueError> {
        header::bytes(code, length)
    }

    /// Makes one of `length` zeros, as [`Array::create`] does.
    ///
    /// # Errors
    /// [`ValueError::TooLong`], [`ValueError::Place`] if the place is too short.
    pub fn create(place: Place<'m>, code: TypeCode, length: usize) -> Result<Self, ValueError> {
        let what = What { kind: Kind::Array, code, length: length as u64 };
        let (header, row) = header::create(place, what, || {
            let row = Row::at(place, what)?;
            AnyElements { row }.fill(Scalar::zero(code))?;
            Ok(row)
        })?;
        Ok(Self { header, row })
    }

    /// Attaches to one of whatever type and length.
    ///
    /// # Errors
    /// [`ValueError::Nothing`], [`WrongKind`](ValueError::WrongKind), [`Place`](ValueError::Place) if it is too short.
    pub fn attach(place: Place<'m>) -> Result<Self, ValueError> {
        let (header, what) = header::attach(place, Kind::Array)?;
        Ok(Self { header, row: Row::at(place, what)? })
    }

    /// Attaches to one of this type, and of this length if one is given.
    ///
    /// # Errors
    /// [`ValueError::WrongCode`], [`WrongLength`](ValueError::WrongLength): what was found and what was asked for;
    /// and all that [`attach`](Self::attach) can say.
    pub fn attach_to(
        place: Place<'m>,
        code: TypeCode,
        length: Option<usize>,
    ) -> Result<Self, ValueError> {
        let (header, what) = header::attach(place, Kind::Array)?;
        what.check_code(code)?;
        what.check_length(length)?;
        Ok(Self { header, row: Row::at(place, what)? })
    }

    /// The code that it was created with.
    #[must_use]
    pub fn code(&self) -> TypeCode {
        self.row.code
    }

    /// How many elements it has, as it was when this process attached.
    #[must_use]
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same array, with its type known to the compiler.
    ///
    /// # Errors
    /// [`ValueError::WrongCode`].
    pub fn typed<T: CType>(&self) -> Result<Array<'m, T>, ValueError> {
        match self.row.typed::<T>() {
            Some(cells) => Ok(Array::new(self.header, cells)),
            None => Err(ValueError::WrongCode { found: self.code(), asked: T::CODE }),
        }
    }

    locking!(AnyArrayGuard<'a>, |array| array.raw());

    /// Its elements, without the lock.
    #[must_use]
    pub fn raw(&self) -> AnyElements<'m> {
        AnyElements { row: self.row }
    }
}

/// The elements of an [`AnyArray`], as its lock's guard or [`raw`](AnyArray::raw) gives them.
///
/// As with [`Elements`](super::Elements), each is read and written in one atomic step.
///
/// ```
/// use procession_core::value::{AnyArray, Place, Scalar, TypeCode, ValueError};
///
/// let mut memory = [0; 4];
/// let array = AnyArray::create(Place::in_memory(&mut memory), TypeCode::Short, 3)?;
/// let elements = array.raw();
/// elements.fill(1)?;
/// elements.set(2, 7u64)?;
/// assert!(elements.iter().eq([Scalar::I16(1), Scalar::I16(1), Scalar::I16(7)]));
/// assert!(matches!(elements.set(0, 1 << 15), Err(ValueError::DoesNotFit { .. })));
/// assert!(matches!(elements.set(0, 'x'), Err(ValueError::OtherType { .. })));
/// assert_eq!(elements.get(3), Err(ValueError::NoElement { index: 3, length: 3 }));
/// # Ok::<(), ValueError>(())
/// ```
pub struct AnyElements<'m> {
    // No Clone: what a guard gives ends with the guard.
    row: Row<'m>,
}

impl fmt::Debug for AnyElements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyElements").field("code", &self.code()).field("len", &self.len()).finish()
    }
}

impl AnyElements<'_> {
    /// The code that they were created with.
    #[must_use]
    pub fn code(&self) -> TypeCode {
        self.row.code
    }

    /// How many there are. No access to memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of the element.
    ///
    /// # Errors
    /// [`ValueError::NoElement`].
    pub fn get(&self, index: usize) -> Result<Scalar, ValueError> {
        self.check(index)?;
        Ok(self.row.load(index))
    }

    /// Replaces the element. A scalar of another type is stored if it stays the same number.
    ///
    /// # Errors
    /// [`ValueError::NoElement`], [`ValueError::DoesNotFit`], [`ValueError::OtherType`]; the element is as before.
    pub fn set(&self, index: usize, value: impl Into<Scalar>) -> Result<(), ValueError> {
        let value = value.into().convert(self.code())?;
        self.check(index)?;
        self.row.store(index, value);
        Ok(())
    }

    /// Sets all elements to `value`, which may be of another type if it stays the same number.
    ///
    /// # Errors
    /// [`ValueError::DoesNotFit`], [`ValueError::OtherType`]; the elements are as before.
    pub fn fill(&self, value: impl Into<Scalar>) -> Result<(), ValueError> {
        let value = value.into().convert(self.code())?;
        for index in 0..self.len() {
            self.row.store(index, value);
        }
        Ok(())
    }

    /// Copies of all elements in turn, each read when it is asked for.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Scalar> + ExactSizeIterator {
        (0..self.len()).map(|index| self.row.load(index))
    }

    fn check(&self, index: usize) -> Result<(), ValueError> {
        let length = self.len();
        if index < length { Ok(()) } else { Err(ValueError::NoElement { index, length }) }
    }
}
