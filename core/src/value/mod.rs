//! Typed values in shared memory, as C and Python's ctypes know them.
//!
//! ```text
//! offset 0   lock    8 bytes   zero when free
//!        8   what    8 bytes   kind 16 | code 8 | length 40; zero: nothing lies here
//!       16   the elements: one for a value, `length` for an array; each as large as its code says
//! ```
//!
//! - A [`Value`] or an [`Array`] knows its type when the program is compiled; an [`AnyValue`] or an [`AnyArray`]
//!   reads its [`TypeCode`] from the memory, and carries [`Scalar`]s in and out.
//! - Whoever creates one writes `what` last: before that store there is nothing to attach to. Attaching reads it
//!   once and checks it against the type, the length and the memory at hand.
//! - Each element is one atomic of its own size: no reader ever sees half of one, with the lock or without. The
//!   lock is for what has to stay together: several elements, or a read and the write that follows from it.
//! - No reference to the inside is given out. Elements are copied in and out.
//! - A process that dies in between leaves each element whole. If it held the lock, the next one to lock is told,
//!   as [`Lock`](crate::sync::Lock) does; access without the lock goes on.
#![cfg(not(loom))]

mod any_array;
mod any_value;
mod array;
mod cell;
mod code;
mod ctype;
mod elements;
mod error;
mod guard;
mod header;
mod row;
mod scalar;
#[allow(clippy::module_inception, reason = "the file is named as the type that users know")]
mod value;

pub use any_array::{AnyArray, AnyElements};
pub use any_value::AnyValue;
pub use array::Array;
pub use code::TypeCode;
pub use ctype::{CType, Char};
pub use elements::Elements;
pub use error::ValueError;
pub use guard::{AnyArrayGuard, AnyValueGuard, ArrayGuard, Locked, ValueGuard};
pub use header::LONGEST;

pub use crate::region::{ALIGN, Place};
pub use scalar::Scalar;
pub use value::Value;
