//! Handles: how an object in the arena is named, and who frees it.
//!
//! A handle is (arena, offset, kind, generation). It can be sent wherever data can: as an argument of a process, through
//! a queue, as a part of something else.
//!
//! - An object that has never left its process belongs to it: it is freed when the last handle in this process is
//!   dropped, or, if the process dies, by the next sweep.
//! - From the moment its handle is first encoded it belongs to the tree, and lives as long as the tree does: others may hold
//!   it, or have it in a message on the way.
//! - A child of a fork holds copies of its parent's handles; dropping them frees nothing, for the object is not its own.

use std::sync::Arc;

use procession_core::region::{Kind, Object, Room};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};

use super::{Arena, HandleError, MemoryError, arena, refuse};

/// A counted reference of this process to an object in the arena, by which its owner frees it.
#[derive(Clone, Debug)]
pub struct Handle {
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    arena: &'static Arena,
    object: Object,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Does nothing unless this process made it and it never left.
        let _ = self.arena.region().free_object(self.arena.member(), self.object);
    }
}

/// How a handle looks on the way.
#[derive(Serialize, Deserialize)]
struct Wire {
    arena: u64,
    offset: u64,
    kind: u8,
    generation: u32,
}

impl Handle {
    /// Makes room for a new object: zeroed, and this process's own.
    ///
    /// # Errors
    /// [`MemoryError::Full`] if there is no room, and whatever prevents an arena.
    pub fn allocate(kind: Kind, bytes: u64) -> Result<Self, MemoryError> {
        Self::allocate_in(arena()?, kind, bytes)
    }

    /// The same in this arena.
    pub(crate) fn allocate_in(
        arena: &'static Arena,
        kind: Kind,
        bytes: u64,
    ) -> Result<Self, MemoryError> {
        let allocate = || arena.region().allocate_object(arena.member(), kind, bytes);
        // Once more without what the dead have left in queues.
        let object = allocate().or_else(|_| {
            arena.sweep();
            allocate()
        })?;
        Ok(Self { place: Arc::new(Place { arena, object }) })
    }

    /// Where it lies in the arena.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.place.object.offset
    }

    /// How many objects have lain there before it, modulo 2²⁴.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.place.object.generation
    }

    /// The arena that it lies in.
    #[must_use]
    pub fn arena(&self) -> &'static Arena {
        self.place.arena
    }

    /// Where it lies in this process, and how many bytes it has.
    ///
    /// # Errors
    /// [`HandleError::Object`] if it is gone.
    pub fn room(&self) -> Result<Room, HandleError> {
        let Object { offset, kind, generation } = self.place.object;
        Ok(self.arena().region().resolve(offset, kind, generation, 0)?)
    }

    /// Frees the object, if it is this process's own and has never left it; whether it was. For an object that others come
    /// with: its handle frees it anyway.
    pub(crate) fn free(&self) -> bool {
        let Place { arena, object } = &*self.place;
        arena.region().free_object(arena.member(), *object).is_ok()
    }

    /// Encodes the handle; from now on the object belongs to the tree.
    ///
    /// # Errors
    /// The serializer's, or that the object is gone.
    pub fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Place { arena, object } = &*self.place;
        if arena.is_private() {
            return Err(S::Error::custom(HandleError::Private { kind: object.kind.number() }));
        }
        arena.region().share(*object).map_err(S::Error::custom)?;
        Wire {
            arena: arena.id(),
            offset: object.offset,
            kind: object.kind.number(),
            generation: object.generation,
        }
        .serialize(serializer)
    }

    /// Decodes a handle, and checks that an object of this kind lies there and takes at least so many bytes.
    ///
    /// # Errors
    /// The deserializer's, or a [`HandleError`] in its words.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        kind: Kind,
        least: u64,
    ) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        Self::find(&wire, kind, least).map_err(refuse)
    }

    /// Decodes a handle of an object of any of these kinds.
    ///
    /// # Errors
    /// As [`deserialize`](Self::deserialize).
    pub fn deserialize_one_of<'de, D: Deserializer<'de>>(
        deserializer: D,
        kinds: &[Kind],
    ) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let found = kinds.iter().find(|kind| kind.number() == wire.kind).or(kinds.first());
        match found {
            Some(kind) => Self::find(&wire, *kind, 0).map_err(refuse),
            None => Err(serde::de::Error::custom("no kind of object is asked for")),
        }
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.place.object.kind
    }

    fn find(wire: &Wire, kind: Kind, least: u64) -> Result<Self, HandleError> {
        let arena = arena()?;
        if wire.arena != arena.id() {
            return Err(HandleError::OtherArena { found: wire.arena, ours: arena.id() });
        }
        if wire.kind != kind.number() {
            return Err(HandleError::OtherKind { found: wire.kind, asked: kind.number() });
        }
        let object = Object { offset: wire.offset, generation: wire.generation, kind };
        arena.region().resolve(object.offset, kind, object.generation, least)?;
        Ok(Self { place: Arc::new(Place { arena, object }) })
    }
}
