//! What carries objects between processes.

#[cfg(feature = "async")]
mod awaited;
mod broadcast;
mod buffer;
mod error;
mod label;
pub(crate) mod luggage;
mod message;
mod parcel;
mod pipe;
mod queue;
mod sweep;

pub use broadcast::{Broadcast, BroadcastOptions, News, Publisher, Received, Subscriber};
pub use buffer::{Buffer, BufferQueue, BufferRoom, Buffers, Unsent};
pub use error::{CreateError, GetError, PublishError, PutError, ReceiveError};
pub use pipe::{
    Connection, Messages, Pipe, PipeOptions, Receiver, RecvError, SendError, Sender, pipe,
};
pub use procession_core::queue::{RoleError, SubscribeError};
pub use queue::{Iter, Queue, QueueOptions, QueueRoom};

pub(crate) use sweep::sweep;
