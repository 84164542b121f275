//! What all handles of this room have in common: an object in the arena, this process's seat there, and how it travels.

use procession_core::region::{Kind, Member, Place, Shareable, Sleeper};
use procession_core::wait::Waitable;
use serde::{Deserializer, Serializer};

use crate::memory::{Arena, Handle, HandleError, MemoryError, refuse};

/// A view of an object in the arena. `T` is a `&'static` of an object of fixed size, or a view of one that has rows behind it.
#[derive(Clone, Debug)]
pub(super) struct Shared<T> {
    pub(super) object: T,
    pub(super) me: Member<'static>,
    pub(super) handle: Handle,
}

impl<T: Shareable> Shared<&'static T> {
    /// A new object, all zero.
    pub(super) fn new(arena: &'static Arena, kind: Kind) -> Result<Self, MemoryError> {
        let handle = Handle::allocate_in(arena, kind, size_of::<T>() as u64)?;
        let object = handle.arena().region().object(handle.offset())?;
        Ok(Self { object, me: handle.arena().member(), handle })
    }

    /// The object behind a handle that came from elsewhere.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        kind: Kind,
    ) -> Result<Self, D::Error> {
        let handle = Handle::deserialize(deserializer, kind, size_of::<T>() as u64)?;
        let object = handle.arena().region().object(handle.offset());
        let object = object.map_err(|error| refuse(MemoryError::Region(error)))?;
        Ok(Self { object, me: handle.arena().member(), handle })
    }
}

impl<T> Shared<T> {
    /// A new object of variable size, that `create` makes of zeroed memory.
    pub(super) fn create<E: From<MemoryError>>(
        arena: &'static Arena,
        kind: Kind,
        bytes: u64,
        create: impl FnOnce(Place<'static>) -> Result<T, E>,
    ) -> Result<Self, E> {
        let handle = Handle::allocate_in(arena, kind, bytes)?;
        let place = Place::in_region(handle.arena().region(), handle.offset());
        let place = place.map_err(|error| E::from(MemoryError::Place(error)))?.up_to(bytes);
        Ok(Self { object: create(place)?, me: handle.arena().member(), handle })
    }

    /// The object of variable size behind a handle that came from elsewhere; `attach` checks what it finds.
    pub(super) fn attach<'de, D: Deserializer<'de>, E: std::fmt::Display>(
        deserializer: D,
        kind: Kind,
        attach: impl FnOnce(Place<'static>) -> Result<T, E>,
    ) -> Result<Self, D::Error> {
        let handle = Handle::deserialize(deserializer, kind, 0)?;
        let object = Self::view(&handle, attach).map_err(refuse)?;
        Ok(Self { object, me: handle.arena().member(), handle })
    }

    fn view<E: std::fmt::Display>(
        handle: &Handle,
        attach: impl FnOnce(Place<'static>) -> Result<T, E>,
    ) -> Result<T, HandleError> {
        let room = handle.room()?;
        let place = Place::in_region(handle.arena().region(), handle.offset())
            .map_err(|error| HandleError::Content(error.to_string()))?;
        attach(place.up_to(room.capacity)).map_err(|error| HandleError::Content(error.to_string()))
    }

    /// Encodes the handle; from now on the object belongs to the tree.
    pub(super) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

/// Who sleeps for an object, for people to read.
pub(super) fn waiters(object: &dyn Waitable, me: Member<'static>) -> Vec<Sleeper> {
    object.sleepers().sleepers(me).collect()
}

/// Makes a handle that is `struct X { shared: Shared<&'static core::X> }` travel.
/// And makes it one that can be waited for together with others, if it says `waits`.
macro_rules! travels {
    ($type:ident, $kind:ident, waits) => {
        travels!($type, $kind);

        impl crate::wait::sealed::Source for $type {
            fn source(&self) -> &dyn procession_core::wait::Waitable {
                self.shared.object
            }

            fn me(&self) -> procession_core::region::Member<'static> {
                self.shared.me
            }
        }
    };
    ($type:ident, $kind:ident) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.shared.serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let shared = Shared::deserialize(deserializer, crate::memory::kind::$kind)?;
                Ok(Self { shared })
            }
        }
    };
}
pub(super) use travels;
