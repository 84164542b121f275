//! The memory that the processes of a tree share, and handles to the objects in it.
//!
//! There is one [`Arena`] a tree. It is made at the first use of anything shared, and every process that is started
//! by this library maps it. Nobody else can: it has no name, only descriptors that are handed over.

mod arena;
mod decode;
mod error;
mod handle;
mod limits;

pub(crate) use arena::existing;
pub use arena::{Arena, Config, adopt, arena, configure};
pub use decode::DecodeError;
pub(crate) use decode::{decode, refuse};
pub use error::{HandleError, MemoryError};
pub use handle::Handle;

/// What an object in the arena is; the kinds that have handles.
pub mod kind {
    use procession_core::region::Kind;

    /// A [`Lock`](crate::sync::Lock).
    pub const LOCK: Kind = kind(1);
    /// A [`Value`](crate::value::Value).
    pub const VALUE: Kind = kind(2);
    /// An [`Array`](crate::value::Array).
    pub const ARRAY: Kind = kind(3);
    /// A [`Queue`](crate::channel::Queue).
    pub const QUEUE: Kind = kind(4);

    const fn kind(number: u8) -> Kind {
        match Kind::new(number) {
            Some(kind) => kind,
            None => panic!("a kind has a number that blocks can hold"),
        }
    }
}
