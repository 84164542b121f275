//! Typed values and arrays that travel, as C and Python's ctypes know their elements.
//!
//! ```text
//! Value<T>   Array<T>     the type is known when the program is compiled
//! AnyValue   AnyArray     the type is a letter, a TypeCode, that the program learns when it runs
//! ```
//!
//! Each element is read and written in one atomic step, with the lock or without: nobody ever sees half of one.
//! Without the lock costs what memory costs. The lock is for what has to stay together: several elements, or a read and
//! the write that follows from it. It keeps out those who lock, not those who read and write without.
//!
//! What travels is a handle; the elements stay where they are. A handle is checked when it is decoded: something of
//! another type or kind is an error that names both.

mod any_array;
mod any_value;
mod array;
mod error;
#[allow(clippy::module_inception, reason = "the file is named as the type that users know")]
mod value;

use procession_core::value::Place;

use crate::memory::{Handle, HandleError};

pub use any_array::AnyArray;
pub use any_value::AnyValue;
pub use array::Array;
pub use error::CreateError;
pub use procession_core::value::{
    AnyArrayGuard, AnyElements, AnyValueGuard, ArrayGuard, CType, Char, Elements, Locked, Scalar,
    TypeCode, ValueError, ValueGuard,
};
pub use value::Value;

/// All that the object of a handle may use, and nothing of its neighbours.
fn place(handle: &Handle) -> Result<Place<'static>, HandleError> {
    let room = handle.room()?;
    let place = Place::in_region(handle.arena().region(), handle.offset()).map_err(content)?;
    Ok(place.up_to(room.capacity))
}

/// The first `bytes` of an object that was made just now, with at least so many.
fn fresh(handle: &Handle, bytes: u64) -> Result<Place<'static>, ValueError> {
    Ok(Place::in_region(handle.arena().region(), handle.offset())?.up_to(bytes))
}

fn content(error: impl std::fmt::Display) -> HandleError {
    HandleError::Content(error.to_string())
}

/// The ways to lock, which are the same for all that have a lock, and what makes a handle travel.
macro_rules! handle {
    ($type:ident $(<$t:ident>)?, $kind:ident, $locked:ty) => {
        impl $(<$t: CType>)? $type $(<$t>)? {
            /// Waits for the lock as long as it takes. A holder that dies ends the wait within some milliseconds.
            ///
            /// Cost: without contention one compare-and-swap and one store, no system call.
            ///
            /// # Errors
            /// `OwnerDied` with the guard, if the last holder died and may have changed one element of several;
            /// `Corrupt`; `Join`.
            #[inline]
            pub fn lock(&self) -> Result<$locked, AcquireError<$locked>> {
                self.view.lock(self.me)
            }

            /// Takes the lock if it is free, or if its holder is dead.
            ///
            /// # Errors
            /// `WouldBlock` if somebody holds it; otherwise as [`lock`](Self::lock).
            #[inline]
            pub fn try_lock(&self) -> Result<$locked, AcquireError<$locked>> {
                self.view.try_lock(self.me)
            }

            /// Waits for the lock for at most `timeout`; zero tries once.
            ///
            /// # Errors
            /// `TimedOut`; otherwise as [`lock`](Self::lock).
            #[inline]
            pub fn lock_timeout(&self, timeout: Duration) -> Result<$locked, AcquireError<$locked>> {
                self.view.lock_until(self.me, Deadline::after(timeout))
            }

            /// Waits for the lock until `deadline`.
            ///
            /// # Errors
            /// `TimedOut`; otherwise as [`lock`](Self::lock).
            #[inline]
            pub fn lock_until(&self, deadline: Deadline) -> Result<$locked, AcquireError<$locked>> {
                self.view.lock_until(self.me, deadline)
            }

            fn attach(handle: Handle) -> Result<Self, HandleError> {
                let view = view::$type::attach(super::place(&handle)?).map_err(super::content)?;
                Ok(Self { view, me: handle.arena().member(), handle })
            }
        }

        impl $(<$t: CType>)? Serialize for $type $(<$t>)? {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.handle.serialize(serializer)
            }
        }

        impl<'de $(, $t: CType)?> Deserialize<'de> for $type $(<$t>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Attaching checks that the object has room for what its header says.
                let handle = Handle::deserialize(deserializer, kind::$kind, 0)?;
                Self::attach(handle).map_err(crate::memory::refuse)
            }
        }
    };
}
use handle;
