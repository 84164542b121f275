//! What carries objects between processes.

#[cfg(feature = "async")]
mod awaited;
mod delivery;
mod error;
mod forms;
mod joinable;
mod label;
mod lifo;
mod message;
mod parcel;
mod priority;
mod queue;
mod simple;
mod stock;
mod sweep;

pub use delivery::Delivery;
pub use error::{CreateError, GetError, JoinTasksError, PutError, TaskDoneError};
pub use joinable::JoinableQueue;
pub use lifo::LifoQueue;
pub use priority::PriorityQueue;
pub use queue::{Iter, Queue, QueueOptions, QueueRoom};
pub use simple::SimpleQueue;

pub(crate) use sweep::sweep;
