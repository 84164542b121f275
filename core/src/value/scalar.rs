//! An element together with its type, for programs that learn the type at run time.

use core::fmt;

use super::cell::Cell;
use super::ctype::sealed::Sealed;
use super::{Char, TypeCode, ValueError};

/// One element, of any type that there is.
///
/// ```
/// use procession_core::value::{Scalar, TypeCode, ValueError};
///
/// let seven = Scalar::from(7i32);
/// assert_eq!(seven.code(), TypeCode::Int);
/// assert_eq!(i32::try_from(seven), Ok(7));
/// // Another type will do if the number stays the same; it is never wrapped, cut or rounded.
/// assert_eq!(u8::try_from(seven), Ok(7));
/// assert_eq!(f64::try_from(seven), Ok(7.0));
/// assert!(matches!(u8::try_from(Scalar::from(300i32)), Err(ValueError::DoesNotFit { .. })));
/// assert!(matches!(i32::try_from(Scalar::from('7')), Err(ValueError::OtherType { .. })));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// `c`.
    Char(Char),
    /// `b`.
    I8(i8),
    /// `B`.
    U8(u8),
    /// `u`.
    Unicode(char),
    /// `h`.
    I16(i16),
    /// `H`.
    U16(u16),
    /// `i`.
    I32(i32),
    /// `I`.
    U32(u32),
    /// `q`, and `l`.
    I64(i64),
    /// `Q`, and `L`.
    U64(u64),
    /// `f`.
    F32(f32),
    /// `d`.
    F64(f64),
}

/// A number on its way from one type to another. Every element that is a number is exactly one of these.
enum Number {
    Whole(i128),
    Float(f64),
}

impl Scalar {
    /// The zero of this type: what a new array is full of.
    ///
    /// ```
    /// use procession_core::value::{Scalar, TypeCode};
    ///
    /// assert_eq!(Scalar::zero(TypeCode::Double), Scalar::F64(0.0));
    /// assert_eq!(Scalar::zero(TypeCode::Unicode), Scalar::Unicode('\0'));
    /// ```
    #[must_use]
    pub fn zero(code: TypeCode) -> Self {
        Self::from_bits(code, 0)
    }

    /// Its code: the canonical one, where two have the same representation.
    #[must_use]
    pub const fn code(&self) -> TypeCode {
        match self {
            Self::Char(_) => TypeCode::Char,
            Self::I8(_) => TypeCode::SignedChar,
            Self::U8(_) => TypeCode::UnsignedChar,
            Self::Unicode(_) => TypeCode::Unicode,
            Self::I16(_) => TypeCode::Short,
            Self::U16(_) => TypeCode::UnsignedShort,
            Self::I32(_) => TypeCode::Int,
            Self::U32(_) => TypeCode::UnsignedInt,
            Self::I64(_) => TypeCode::LongLong,
            Self::U64(_) => TypeCode::UnsignedLongLong,
            Self::F32(_) => TypeCode::Float,
            Self::F64(_) => TypeCode::Double,
        }
    }

    /// The same number as an element of type `code`. Numbers become numbers if they stay exactly the same, whole
    /// or with a fraction; characters only become what they are. NaN stays NaN.
    ///
    /// # Errors
    /// [`ValueError::DoesNotFit`], [`ValueError::OtherType`].
    ///
    /// ```
    /// use procession_core::value::{Scalar, TypeCode};
    ///
    /// assert_eq!(Scalar::F64(0.5).convert(TypeCode::Float), Ok(Scalar::F32(0.5)));
    /// assert_eq!(
    ///     Scalar::F64(0.1).convert(TypeCode::Float).unwrap_err().to_string(),
    ///     "0.1 does not fit into 'f' (f32): it would be stored as another number",
    /// );
    /// ```
    pub fn convert(self, code: TypeCode) -> Result<Self, ValueError> {
        if self.code().is_like(code) {
            return Ok(self);
        }
        let Some(number) = self.number() else {
            return Err(ValueError::OtherType { value: self, code });
        };
        match code {
            TypeCode::Char | TypeCode::Unicode => {
                return Err(ValueError::OtherType { value: self, code });
            }
            TypeCode::SignedChar => number.whole().map(Self::I8),
            TypeCode::UnsignedChar => number.whole().map(Self::U8),
            TypeCode::Short => number.whole().map(Self::I16),
            TypeCode::UnsignedShort => number.whole().map(Self::U16),
            TypeCode::Int => number.whole().map(Self::I32),
            TypeCode::UnsignedInt => number.whole().map(Self::U32),
            TypeCode::Long | TypeCode::LongLong => number.whole().map(Self::I64),
            TypeCode::UnsignedLong | TypeCode::UnsignedLongLong => number.whole().map(Self::U64),
            TypeCode::Float => number.float().and_then(|double| {
                let float = double as f32;
                (f64::from(float) == double || double.is_nan()).then_some(Self::F32(float))
            }),
            TypeCode::Double => number.float().map(Self::F64),
        }
        .ok_or(ValueError::DoesNotFit { value: self, code })
    }

    fn number(self) -> Option<Number> {
        Some(match self {
            Self::Char(_) | Self::Unicode(_) => return None,
            Self::I8(number) => Number::Whole(number.into()),
            Self::U8(number) => Number::Whole(number.into()),
            Self::I16(number) => Number::Whole(number.into()),
            Self::U16(number) => Number::Whole(number.into()),
            Self::I32(number) => Number::Whole(number.into()),
            Self::U32(number) => Number::Whole(number.into()),
            Self::I64(number) => Number::Whole(number.into()),
            Self::U64(number) => Number::Whole(number.into()),
            Self::F32(number) => Number::Float(number.into()),
            Self::F64(number) => Number::Float(number),
        })
    }

    /// The element as it lies in memory, in the lowest bits.
    pub(super) fn into_bits(self) -> u64 {
        match self {
            Self::Char(value) => value.into_bits().into(),
            Self::I8(value) => value.into_bits().into(),
            Self::U8(value) => value.into(),
            Self::Unicode(value) => value.into_bits().into(),
            Self::I16(value) => value.into_bits().into(),
            Self::U16(value) => value.into(),
            Self::I32(value) => value.into_bits().into(),
            Self::U32(value) => value.into(),
            Self::I64(value) => value.into_bits(),
            Self::U64(value) => value,
            Self::F32(value) => value.to_bits().into(),
            Self::F64(value) => value.to_bits(),
        }
    }

    /// The element that these bits are.
    pub(super) fn from_bits(code: TypeCode, bits: u64) -> Self {
        fn read<T: Sealed>(bits: u64) -> T {
            T::from_bits(T::Cell::truncate(bits))
        }
        match code {
            TypeCode::Char => Self::Char(read(bits)),
            TypeCode::SignedChar => Self::I8(read(bits)),
            TypeCode::UnsignedChar => Self::U8(read(bits)),
            TypeCode::Unicode => Self::Unicode(read(bits)),
            TypeCode::Short => Self::I16(read(bits)),
            TypeCode::UnsignedShort => Self::U16(read(bits)),
            TypeCode::Int => Self::I32(read(bits)),
            TypeCode::UnsignedInt => Self::U32(read(bits)),
            TypeCode::Long | TypeCode::LongLong => Self::I64(read(bits)),
            TypeCode::UnsignedLong | TypeCode::UnsignedLongLong => Self::U64(read(bits)),
            TypeCode::Float => Self::F32(read(bits)),
            TypeCode::Double => Self::F64(read(bits)),
        }
    }
}

impl Number {
    fn whole<T: TryFrom<i128>>(&self) -> Option<T> {
        let whole = match *self {
            Self::Whole(whole) => whole,
            // The cast saturates, cuts, and makes zero of NaN; casting back shows whether it did.
            Self::Float(float) if (float as i128) as f64 == float => float as i128,
            Self::Float(_) => return None,
        };
        T::try_from(whole).ok()
    }

    fn float(&self) -> Option<f64> {
        match *self {
            Self::Whole(whole) => ((whole as f64) as i128 == whole).then_some(whole as f64),
            Self::Float(float) => Some(float),
        }
    }
}

/// The number, or the character in quotes.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char(value) => value.fmt(f),
            Self::I8(value) => value.fmt(f),
            Self::U8(value) => value.fmt(f),
            Self::Unicode(value) => write!(f, "{value:?}"),
            Self::I16(value) => value.fmt(f),
            Self::U16(value) => value.fmt(f),
            Self::I32(value) => value.fmt(f),
            Self::U32(value) => value.fmt(f),
            Self::I64(value) => value.fmt(f),
            Self::U64(value) => value.fmt(f),
            Self::F32(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
        }
    }
}

macro_rules! conversions {
    ($($type:ty, $variant:ident, $code:ident;)*) => {$(
        impl From<$type> for Scalar {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }

        impl TryFrom<Scalar> for $type {
            type Error = ValueError;

            fn try_from(scalar: Scalar) -> Result<Self, ValueError> {
                let code = TypeCode::$code;
                match scalar.convert(code)? {
                    Scalar::$variant(value) => Ok(value),
                    value => Err(ValueError::OtherType { value, code }),
                }
            }
        }
    )*};
}

conversions! {
    Char, Char, Char;
    i8, I8, SignedChar;
    u8, U8, UnsignedChar;
    char, Unicode, Unicode;
    i16, I16, Short;
    u16, U16, UnsignedShort;
    i32, I32, Int;
    u32, U32, UnsignedInt;
    i64, I64, LongLong;
    u64, U64, UnsignedLongLong;
    f32, F32, Float;
    f64, F64, Double;
}
