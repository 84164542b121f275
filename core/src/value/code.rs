//! The one-letter names of C's types.

use core::fmt;

use super::ValueError;

/// The type of an element, by the letter that Python's ctypes, array and multiprocessing give it.
///
/// | code | C | Rust | bytes |
/// |---|---|---|---|
/// | `c` | `char` | [`Char`](super::Char) | 1 |
/// | `b` `B` | `signed char`, `unsigned char` | `i8`, `u8` | 1 |
/// | `u` | a Unicode character | `char` | 4 |
/// | `h` `H` | `short` | `i16`, `u16` | 2 |
/// | `i` `I` | `int` | `i32`, `u32` | 4 |
/// | `l` `L` | `long` | `i64`, `u64` | 8 |
/// | `q` `Q` | `long long` | `i64`, `u64` | 8 |
/// | `f` `d` | `float`, `double` | `f32`, `f64` | 4, 8 |
///
/// `l` and `L` always have 8 bytes, as a `long` of 64-bit Linux, so that all processes agree. They are `q` and `Q`
/// by another name: whatever has the [same representation](Self::is_like) can be attached to by either.
///
/// ```
/// use procession_core::value::TypeCode;
///
/// let code = TypeCode::from_char('i').unwrap();
/// assert_eq!(code, TypeCode::Int);
/// assert_eq!((code.as_char(), code.size(), code.align()), ('i', 4, 4));
/// assert!(TypeCode::Long.is_like(TypeCode::LongLong));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TypeCode {
    /// `c`: a byte of text.
    Char = b'c',
    /// `b`: 8 bits with sign.
    SignedChar = b'b',
    /// `B`: 8 bits.
    UnsignedChar = b'B',
    /// `u`: a Unicode character.
    Unicode = b'u',
    /// `h`: 16 bits with sign.
    Short = b'h',
    /// `H`: 16 bits.
    UnsignedShort = b'H',
    /// `i`: 32 bits with sign.
    Int = b'i',
    /// `I`: 32 bits.
    UnsignedInt = b'I',
    /// `l`: 64 bits with sign.
    Long = b'l',
    /// `L`: 64 bits.
    UnsignedLong = b'L',
    /// `q`: 64 bits with sign.
    LongLong = b'q',
    /// `Q`: 64 bits.
    UnsignedLongLong = b'Q',
    /// `f`: a floating point number of 32 bits.
    Float = b'f',
    /// `d`: a floating point number of 64 bits.
    Double = b'd',
}

impl TypeCode {
    /// All codes.
    ///
    /// ```
    /// use procession_core::value::TypeCode;
    ///
    /// let letters: String = TypeCode::ALL.iter().map(|code| code.as_char()).collect();
    /// assert_eq!(letters, "cbBuhHiIlLqQfd");
    /// ```
    pub const ALL: [Self; 14] = [
        Self::Char,
        Self::SignedChar,
        Self::UnsignedChar,
        Self::Unicode,
        Self::Short,
        Self::UnsignedShort,
        Self::Int,
        Self::UnsignedInt,
        Self::Long,
        Self::UnsignedLong,
        Self::LongLong,
        Self::UnsignedLongLong,
        Self::Float,
        Self::Double,
    ];

    /// The code of this letter.
    ///
    /// # Errors
    /// [`ValueError::UnknownCode`], which lists the letters that there are.
    ///
    /// ```
    /// use procession_core::value::TypeCode;
    ///
    /// let error = TypeCode::from_char('x').unwrap_err();
    /// assert_eq!(error.to_string(), "'x' is no type code: use one of c b B u h H i I l L q Q f d");
    /// ```
    pub fn from_char(code: char) -> Result<Self, ValueError> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_char() == code)
            .ok_or(ValueError::UnknownCode { code })
    }

    /// Its letter.
    #[must_use]
    pub const fn as_char(self) -> char {
        self as u8 as char
    }

    /// How many bytes an element has.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Char | Self::SignedChar | Self::UnsignedChar => 1,
            Self::Short | Self::UnsignedShort => 2,
            Self::Unicode | Self::Int | Self::UnsignedInt | Self::Float => 4,
            Self::Long
            | Self::UnsignedLong
            | Self::LongLong
            | Self::UnsignedLongLong
            | Self::Double => 8,
        }
    }

    /// The number of which an element's address is a multiple: its size.
    #[must_use]
    pub const fn align(self) -> usize {
        self.size()
    }

    /// The Rust type of an element.
    ///
    /// ```
    /// assert_eq!(procession_core::value::TypeCode::Double.rust_type(), "f64");
    /// ```
    #[must_use]
    pub const fn rust_type(self) -> &'static str {
        match self {
            Self::Char => "Char",
            Self::SignedChar => "i8",
            Self::UnsignedChar => "u8",
            Self::Unicode => "char",
            Self::Short => "i16",
            Self::UnsignedShort => "u16",
            Self::Int => "i32",
            Self::UnsignedInt => "u32",
            Self::Long | Self::LongLong => "i64",
            Self::UnsignedLong | Self::UnsignedLongLong => "u64",
            Self::Float => "f32",
            Self::Double => "f64",
        }
    }

    /// The code that stands for all that have the same representation: `q` for `l`, `Q` for `L`, itself for others.
    #[must_use]
    pub const fn canonical(self) -> Self {
        match self {
            Self::Long => Self::LongLong,
            Self::UnsignedLong => Self::UnsignedLongLong,
            other => other,
        }
    }

    /// Whether an element of one is an element of the other: `l` and `q`, `L` and `Q`, each and itself.
    #[must_use]
    pub fn is_like(self, other: Self) -> bool {
        self.canonical() == other.canonical()
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u8 == byte)
    }
}

impl TryFrom<char> for TypeCode {
    type Error = ValueError;

    fn try_from(code: char) -> Result<Self, ValueError> {
        Self::from_char(code)
    }
}

/// As in `'i' (i32)`.
impl fmt::Display for TypeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' ({})", self.as_char(), self.rust_type())
    }
}
