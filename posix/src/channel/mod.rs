//! What carries objects between processes.

#[cfg(feature = "async")]
mod awaited;
mod broadcast;
mod buffer;
mod copy;
mod delivery;
mod error;
pub(crate) mod forms;
mod joinable;
mod label;
mod lifo;
pub(crate) mod luggage;
mod message;
mod parcel;
mod pipe;
mod pod_queue;
mod priority;
mod queue;
mod simple;
mod stock;
mod sweep;
pub(crate) mod waits;

pub use broadcast::{Broadcast, BroadcastOptions, News, Publisher, Received, Subscriber};
pub use buffer::{Buffer, BufferQueue, BufferRoom, Buffers, Unsent};
pub use delivery::Delivery;
pub use error::{
    CreateError, GetError, GetManyError, JoinTasksError, PublishError, PutError, ReceiveError,
    TaskDoneError,
};
pub use joinable::JoinableQueue;
pub use lifo::LifoQueue;
pub use pipe::{
    Connection, Messages, Pipe, PipeOptions, Receiver, RecvError, SendError, Sender, pipe,
};
pub use pod_queue::{PodQueue, PodQueueRoom};
pub use priority::PriorityQueue;
pub use procession_core::queue::{RoleError, SubscribeError};
pub use queue::{IntoIter, Iter, Queue, QueueOptions, QueueRoom};
pub use simple::SimpleQueue;
pub use stock::StockRoom;

pub(crate) use copy::copy_in;
pub(crate) use sweep::{Carrier, sweep};
