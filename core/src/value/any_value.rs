//! One element whose type is known at run time.

use core::fmt;

use super::guard::locking;
use super::header::{self, Header, Kind, What};
use super::row::Row;
use super::{AnyValueGuard, CType, Place, Scalar, TypeCode, Value, ValueError};

/// A [`Value`] of a type that the program learns when it runs: by the code that it is given or that it finds.
///
/// ```
/// use procession_core::value::{AnyValue, Place, Scalar, TypeCode, Value, ValueError};
///
/// let mut memory = [0; 3];
/// let place = Place::in_memory(&mut memory);
/// let code = TypeCode::from_char('h')?;
/// AnyValue::create(place, code, 300)?;
///
/// // Any type will do for one who attaches without asking for one.
/// let value = AnyValue::attach(place)?;
/// assert_eq!((value.code(), value.get_raw()), (TypeCode::Short, Scalar::I16(300)));
///
/// // Nothing is wrapped: what does not fit is an error, and the value stays.
/// let error = value.set_raw(40_000).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "40000 does not fit into 'h' (i16): it would be stored as another number",
/// );
/// assert_eq!(i16::try_from(value.get_raw())?, 300);
/// # Ok::<(), ValueError>(())
/// ```
#[derive(Clone, Copy)]
pub struct AnyValue<'m> {
    header: &'m Header,
    /// A row of one.
    row: Row<'m>,
}

impl fmt::Debug for AnyValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyValue").field(&self.get_raw()).finish()
    }
}

impl<'m> AnyValue<'m> {
    /// How many bytes a value of this type takes, from a multiple of [`ALIGN`](super::ALIGN).
    #[must_use]
    pub const fn bytes_for(code: TypeCode) -> u64 {
        header::ELEMENTS_AT + code.size() as u64
    }

    /// Makes one, as [`Value::create`] does. `initial` may be of another type if it stays the same number.
    ///
    /// # Errors
    /// [`ValueError::Place`] if the place is too short, [`ValueError::DoesNotFit`], [`ValueError::OtherType`].
    pub fn create(
        place: Place<'m>,
        code: TypeCode,
        initial: impl Into<Scalar>,
    ) -> Result<Self, ValueError> {
        let initial = initial.into().convert(code)?;
        let what = What { kind: Kind::Value, code, length: 1 };
        let (header, row) = header::create(place, what, || {
            let row = Row::at(place, what)?;
            row.store(0, initial);
            Ok(row)
        })?;
        Ok(Self { header, row })
    }

    /// Attaches to one of whatever type.
    ///
    /// # Errors
    /// [`ValueError::Nothing`], [`WrongKind`](ValueError::WrongKind), [`Place`](ValueError::Place) if it is too short.
    pub fn attach(place: Place<'m>) -> Result<Self, ValueError> {
        let (header, what) = header::attach(place, Kind::Value)?;
        Ok(Self { header, row: Row::at(place, what)? })
    }

    /// Attaches to one of this type.
    ///
    /// # Errors
    /// [`ValueError::WrongCode`], with the code found and the one asked for; and all that [`attach`](Self::attach)
    /// can say.
    pub fn attach_to(place: Place<'m>, code: TypeCode) -> Result<Self, ValueError> {
        let (header, what) = header::attach(place, Kind::Value)?;
        what.check_code(code)?;
        Ok(Self { header, row: Row::at(place, what)? })
    }

    /// The code that it was created with.
    #[must_use]
    pub fn code(&self) -> TypeCode {
        self.row.code
    }

    /// The same value, with its type known to the compiler.
    ///
    /// # Errors
    /// [`ValueError::WrongCode`].
    ///
    /// ```
    /// use procession_core::value::{AnyValue, Place, TypeCode};
    ///
    /// let mut memory = [0; 3];
    /// let value = AnyValue::create(Place::in_memory(&mut memory), TypeCode::Long, 7).unwrap();
    /// // `l` and `q` are the same.
    /// assert_eq!(value.typed::<i64>().unwrap().get_raw(), 7);
    /// assert!(value.typed::<f64>().is_err());
    /// ```
    pub fn typed<T: CType>(&self) -> Result<Value<'m, T>, ValueError> {
        match self.row.typed::<T>() {
            Some([cell]) => Ok(Value::new(self.header, cell)),
            _ => Err(ValueError::WrongCode { found: self.code(), asked: T::CODE }),
        }
    }

    locking!(AnyValueGuard<'a>, |value| *value);

    /// A copy of the element, without the lock. One atomic load; see [`Value::get_raw`].
    #[must_use]
    pub fn get_raw(&self) -> Scalar {
        self.row.load(0)
    }

    /// Replaces the element, without the lock. One atomic store; see [`Value::set_raw`]. A scalar of another type
    /// is stored if it stays the same number.
    ///
    /// # Errors
    /// [`ValueError::DoesNotFit`], [`ValueError::OtherType`]; the element is as before.
    pub fn set_raw(&self, value: impl Into<Scalar>) -> Result<(), ValueError> {
        self.row.store(0, value.into().convert(self.code())?);
        Ok(())
    }
}
