//! What stands before the elements: the lock, and what they are.
//!
//! `what` = kind 16 | code 8 | length 40. States: anything → 0 → what it is, by the creator. Zero first, so that
//! nobody attaches to an object that is being overwritten; the description last, with Release, so that whoever
//! reads it with Acquire finds the lock free and the elements in place.

use super::{Place, TypeCode, ValueError};
use crate::region::{ALIGN, PlaceError, Shareable};
use crate::sync::Lock;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};

/// The most elements that an array can have.
pub const LONGEST: u64 = (1 << LENGTH_BITS) - 1;

const LENGTH_BITS: u32 = 40;
const CODE_SHIFT: u32 = LENGTH_BITS;
const KIND_SHIFT: u32 = LENGTH_BITS + 8;

/// Bytes before the first element.
pub const ELEMENTS_AT: u64 = size_of::<Header>() as u64;

#[derive(Debug)]
#[repr(C)]
pub struct Header {
    pub lock: Lock,
    what: AtomicU64,
}

// SAFETY: a repr(C) pair of types that are shareable.
unsafe impl Shareable for Header {}

const _: () = assert!(size_of::<Header>() == 16 && align_of::<Header>() as u64 == ALIGN);

/// What lies at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct What {
    pub kind: Kind,
    pub code: TypeCode,
    pub length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Value,
    Array,
}

impl Kind {
    const fn number(self) -> u64 {
        match self {
            Self::Value => 0x7661,
            Self::Array => 0x6172,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Value => "a value",
            Self::Array => "an array",
        }
    }
}

impl What {
    /// Whether its elements are what was asked for.
    pub fn check_code(&self, asked: TypeCode) -> Result<(), ValueError> {
        if self.code.is_like(asked) {
            Ok(())
        } else {
            Err(ValueError::WrongCode { found: self.code, asked })
        }
    }

    /// Whether it has the length that was asked for, if one was.
    pub fn check_length(&self, asked: Option<usize>) -> Result<(), ValueError> {
        match asked.map(|asked| asked as u64) {
            Some(asked) if asked != self.length => {
                Err(ValueError::WrongLength { found: self.length, asked })
            }
            _ => Ok(()),
        }
    }

    fn word(self) -> u64 {
        self.kind.number() << KIND_SHIFT
            | u64::from(self.code as u8) << CODE_SHIFT
            | self.length & LONGEST
    }

    fn read(word: u64) -> Option<Self> {
        let kind = [Kind::Value, Kind::Array]
            .into_iter()
            .find(|kind| kind.number() == word >> KIND_SHIFT)?;
        let code = TypeCode::from_byte((word >> CODE_SHIFT) as u8)?;
        let length = word & LONGEST;
        (kind == Kind::Array || length == 1).then_some(Self { kind, code, length })
    }
}

/// Bytes that an object with so many elements takes.
pub const fn bytes(code: TypeCode, length: u64) -> Result<u64, ValueError> {
    if length > LONGEST {
        return Err(ValueError::TooLong { length });
    }
    Ok(ELEMENTS_AT + length * code.size() as u64)
}

/// Makes an object: `fill` writes the elements between the two stores that unmake the old and publish the new.
pub fn create<'m, E>(
    place: Place<'m>,
    what: What,
    fill: impl FnOnce() -> Result<E, ValueError>,
) -> Result<(&'m Header, E), ValueError> {
    let needed = bytes(what.code, what.length)?;
    if needed > place.bytes() {
        return Err(PlaceError::TooSmall { needed, given: place.bytes() }.into());
    }
    // A free lock is all zero.
    let lock = place.objects::<AtomicU32>(0, 2)?;
    let header = header(place)?;
    header.what.store(0, Ordering::Relaxed);
    // Whoever sees one of the stores below sees that store.
    crate::sys::atomic::fence(Ordering::Release);
    for word in lock {
        word.store(0, Ordering::Relaxed);
    }
    let elements = fill()?;
    // Release meets the Acquire in `attach`.
    header.what.store(what.word(), Ordering::Release);
    Ok((header, elements))
}

/// Reads and checks what lies there.
pub fn attach(place: Place<'_>, kind: Kind) -> Result<(&Header, What), ValueError> {
    let header = header(place)?;
    // Acquire meets the Release in `create`.
    let word = header.what.load(Ordering::Acquire);
    let what = What::read(word).ok_or(ValueError::Nothing { word })?;
    if what.kind != kind {
        return Err(ValueError::WrongKind { found: what.kind.name(), asked: kind.name() });
    }
    Ok((header, what))
}

fn header(place: Place<'_>) -> Result<&Header, ValueError> {
    place
        .objects::<Header>(0, 1)?
        .first()
        .ok_or(PlaceError::TooSmall { needed: ELEMENTS_AT, given: place.bytes() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for code in TypeCode::ALL {
            for (kind, length) in
                [(Kind::Value, 1), (Kind::Array, 0), (Kind::Array, 7), (Kind::Array, LONGEST)]
            {
                let what = What { kind, code, length };
                assert_eq!(What::read(what.word()), Some(what));
            }
        }
    }

    #[test]
    fn nothing_else_is_read() {
        let good = What { kind: Kind::Value, code: TypeCode::Int, length: 1 }.word();
        assert!(What::read(good).is_some());
        for bad in [0, u64::MAX, good ^ 1, good ^ 1 << 50, good | 0x80 << CODE_SHIFT, good + 1] {
            assert_eq!(What::read(bad), None, "{bad:#x}");
        }
    }
}
