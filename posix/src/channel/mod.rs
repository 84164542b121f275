//! What carries objects between processes.

#[cfg(feature = "async")]
mod awaited;
mod error;
mod label;
pub(crate) mod luggage;
mod message;
mod parcel;
mod pipe;
mod queue;
mod sweep;

pub use error::{CreateError, GetError, PutError};
pub use pipe::{
    Connection, Messages, Pipe, PipeOptions, Receiver, RecvError, SendError, Sender, pipe,
};
pub use queue::{Iter, Queue, QueueOptions, QueueRoom};

pub(crate) use sweep::sweep;
