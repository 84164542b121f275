//! The Rust types that C's types are.

use core::fmt;

use super::cell::Cell;
use super::{Scalar, TypeCode, ValueError};
use crate::sys::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// A type that a [`Value`](super::Value) or an [`Array`](super::Array) can have: `i8` `u8` `i16` `u16` `i32` `u32`
/// `i64` `u64` `f32` `f64` `char` and [`Char`].
///
/// Each has one code, with which it is created. `i64` has `q` and `u64` has `Q`; an object that was created by the
/// code `l` or `L` can be attached to as `i64` or `u64` too.
///
/// Every pattern of bits is read as some value. The one type for which that takes a rule is `char`: bits that are
/// no character, which only damage leaves behind, read as U+FFFD, the replacement character.
///
/// Nobody else can implement it: the codes are all there is.
///
/// ```
/// use procession_core::value::{CType, TypeCode};
///
/// fn code_of<T: CType>(_: T) -> char {
///     T::CODE.as_char()
/// }
/// assert_eq!(code_of(1.5), 'd');
/// assert_eq!(code_of(7u16), 'H');
/// ```
pub trait CType:
    sealed::Sealed
    + Copy
    + Default
    + PartialEq
    + fmt::Debug
    + Into<Scalar>
    + TryFrom<Scalar, Error = ValueError>
    + Send
    + Sync
    + 'static
{
    /// Its code.
    const CODE: TypeCode;
}

pub(super) mod sealed {
    use super::Cell;

    pub trait Sealed {
        type Cell: Cell;

        fn into_bits(self) -> <Self::Cell as Cell>::Bits;

        fn from_bits(bits: <Self::Cell as Cell>::Bits) -> Self;
    }
}

/// C's `char`, the code `c`: a byte of text. Arrays of it are byte strings.
///
/// ```
/// use procession_core::value::{Char, Scalar};
///
/// let letter = Char(b'x');
/// assert_eq!(letter.to_string(), "'x'");
/// assert_eq!(Char::from(0x20), Char(b' '));
/// // A character is not a number, though both are a byte.
/// assert_ne!(Scalar::from(letter), Scalar::from(b'x'));
/// ```
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    bytemuck::Zeroable,
    bytemuck::Pod,
    bytemuck::TransparentWrapper,
)]
#[repr(transparent)]
pub struct Char(
    /// The byte.
    pub u8,
);

impl fmt::Display for Char {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", core::ascii::escape_default(self.0))
    }
}

impl fmt::Debug for Char {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Char({self})")
    }
}

impl From<u8> for Char {
    fn from(byte: u8) -> Self {
        Self(byte)
    }
}

impl From<Char> for u8 {
    fn from(letter: Char) -> Self {
        letter.0
    }
}

macro_rules! ctype {
    ($type:ty, $code:ident, $cell:ty, |$value:ident| $into:expr, |$bits:ident| $from:expr) => {
        impl sealed::Sealed for $type {
            type Cell = $cell;

            #[inline]
            fn into_bits(self) -> <$cell as Cell>::Bits {
                let $value = self;
                $into
            }

            #[inline]
            fn from_bits($bits: <$cell as Cell>::Bits) -> Self {
                $from
            }
        }

        impl CType for $type {
            const CODE: TypeCode = TypeCode::$code;
        }

        const _: () = assert!(size_of::<$cell>() == TypeCode::$code.size());
    };
}

ctype!(Char, Char, AtomicU8, |value| value.0, |bits| Self(bits));
ctype!(i8, SignedChar, AtomicU8, |value| value.cast_unsigned(), |bits| bits.cast_signed());
ctype!(u8, UnsignedChar, AtomicU8, |value| value, |bits| bits);
ctype!(char, Unicode, AtomicU32, |value| u32::from(value), |bits| {
    Self::from_u32(bits).unwrap_or(Self::REPLACEMENT_CHARACTER)
});
ctype!(i16, Short, AtomicU16, |value| value.cast_unsigned(), |bits| bits.cast_signed());
ctype!(u16, UnsignedShort, AtomicU16, |value| value, |bits| bits);
ctype!(i32, Int, AtomicU32, |value| value.cast_unsigned(), |bits| bits.cast_signed());
ctype!(u32, UnsignedInt, AtomicU32, |value| value, |bits| bits);
ctype!(i64, LongLong, AtomicU64, |value| value.cast_unsigned(), |bits| bits.cast_signed());
ctype!(u64, UnsignedLongLong, AtomicU64, |value| value, |bits| bits);
ctype!(f32, Float, AtomicU32, |value| value.to_bits(), |bits| Self::from_bits(bits));
ctype!(f64, Double, AtomicU64, |value| value.to_bits(), |bits| Self::from_bits(bits));
