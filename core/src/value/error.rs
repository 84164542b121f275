//! What can go wrong with values and arrays.

use super::{Scalar, TypeCode};
use crate::region::PlaceError;

/// Why a value or an array cannot be made, attached to, or used as asked. In each case nothing was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// No such letter.
    #[error("{code:?} is no type code: use one of c b B u h H i I l L q Q f d")]
    UnknownCode {
        /// The letter.
        code: char,
    },
    /// The memory holds neither a value nor an array, or its creator has not finished.
    #[error(
        "neither a value nor an array lies here (its header reads {word:#018x}): \
         it was never created, was freed, or was overwritten; create it anew"
    )]
    Nothing {
        /// What stands where its description should.
        word: u64,
    },
    /// A value was asked for where an array lies, or the other way round.
    #[error("here lies {found}, {asked} was asked for: attach to it as what it is")]
    WrongKind {
        /// What lies there.
        found: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// It has elements of another type.
    #[error(
        "its elements are {found}, {asked} was asked for: attach with the type it was created with"
    )]
    WrongCode {
        /// What it was created with.
        found: TypeCode,
        /// What was asked for.
        asked: TypeCode,
    },
    /// It has more elements or fewer.
    #[error(
        "the array has {found} elements, {asked} were asked for: \
         attach with the length it was created with, or with any"
    )]
    WrongLength {
        /// How many it was created with.
        found: u64,
        /// How many were asked for.
        asked: u64,
    },
    /// No array can be as long.
    #[error("an array cannot have {length} elements: at most {most}", most = super::LONGEST)]
    TooLong {
        /// How many elements were asked for.
        length: u64,
    },
    /// The memory is too short for it, or is no place at all.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// No such element.
    #[error("there is no element {index}: the array has {length}, counted from 0")]
    NoElement {
        /// Which one was asked for.
        index: usize,
        /// How many there are.
        length: usize,
    },
    /// Not all of these elements exist.
    #[error("{count} elements from {start} on go beyond the array's {length}")]
    BeyondEnd {
        /// The first one asked for.
        start: usize,
        /// How many were asked for.
        count: usize,
        /// How many there are.
        length: usize,
    },
    /// A number that the type cannot hold as it is.
    #[error("{value} does not fit into {code}: it would be stored as another number")]
    DoesNotFit {
        /// The number.
        value: Scalar,
        /// The type of the element.
        code: TypeCode,
    },
    /// A character where a number belongs, or the other way round, or the other kind of character.
    #[error("{value}, a {given}, cannot be stored as {code}: convert it first", given = .value.code())]
    OtherType {
        /// What was given.
        value: Scalar,
        /// The type of the element.
        code: TypeCode,
    },
}
