//! What carries objects between processes.

#[cfg(feature = "async")]
mod awaited;
mod error;
mod label;
mod message;
mod parcel;
mod queue;
mod sweep;

pub use error::{CreateError, GetError, PutError};
pub use queue::{Iter, Queue, QueueOptions, QueueRoom};

pub(crate) use sweep::sweep;
