//! What carries objects between processes.

mod error;
mod message;
mod queue;

pub use error::{CreateError, GetError, PutError};
pub use queue::{Iter, Queue, QueueOptions};

pub(crate) use queue::sweep;
