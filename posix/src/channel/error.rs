//! What can go wrong when objects are sent.

use procession_core::queue::{PopError, PushError, QueueError, StoreError};

pub use procession_core::queue::JoinItemsError as JoinTasksError;
use procession_core::region::{AllocError, JoinError};

use super::parcel::{PackError, Unpacked};
use crate::memory::{DecodeError, MemoryError};

/// Why a queue cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// No room, or no shared memory at all.
    #[error("{0}")]
    Memory(#[from] MemoryError),
    /// Not a size that a queue can have.
    #[error("{0}")]
    Queue(#[from] QueueError),
}

/// Why an object was not put into a queue. Nothing of it is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The queue holds as many objects as it can.
    #[error("the queue is full; get something, or put with a timeout")]
    Full,
    /// The next place is in the hands of a living process that has not finished yet: neither full nor not.
    #[error("another process is just using the next place of the queue; try again")]
    Busy,
    /// The queue stayed full until the deadline.
    #[error("the queue stayed full until the deadline passed")]
    TimedOut,
    /// The queue was closed.
    #[error("the queue is closed")]
    Closed,
    /// The object is larger than this queue takes. Nothing was written.
    #[error(
        "the object takes {bytes} bytes, this queue takes at most {largest} in one piece: \
         send it in parts, or make the queue with a larger limit"
    )]
    TooLarge {
        /// Bytes of the encoded object.
        bytes: u64,
        /// The queue's limit.
        largest: u64,
    },
    /// The object cannot be encoded.
    #[error("the object cannot be encoded: {0}")]
    Encode(postcard::Error),
    /// There is no shared memory for an object of this size.
    #[error("no room for the object: {0}")]
    Memory(AllocError),
    /// The queue's memory is damaged.
    #[error("the queue's memory is damaged; something wrote over it, create the queue anew")]
    Corrupt,
    /// This process could not take part.
    #[error("this process cannot take part in the shared memory: {0}")]
    Join(#[from] JoinError),
}

impl From<PushError> for PutError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Full => Self::Full,
            PushError::Busy => Self::Busy,
            PushError::TimedOut => Self::TimedOut,
            PushError::Closed => Self::Closed,
            PushError::Join(error) => Self::Join(error),
            _ => Self::Corrupt,
        }
    }
}

impl From<StoreError> for PutError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Push(error) => error.into(),
            StoreError::Memory(error) => Self::Memory(error),
            _ => Self::Corrupt,
        }
    }
}

impl From<PackError> for PutError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::TooLarge { bytes, largest } => Self::TooLarge { bytes, largest },
            PackError::Encode(error) => Self::Encode(error),
            PackError::Memory(error) => Self::Memory(error),
            PackError::Corrupt => Self::Corrupt,
        }
    }
}

/// Why no object was got from a queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// There is nothing in the queue.
    #[error("the queue is empty; put something, or get with a timeout")]
    Empty,
    /// The next object is in the hands of a living process that has not finished yet: neither empty nor not.
    #[error("another process is just using the next place of the queue; try again")]
    Busy,
    /// The queue stayed empty until the deadline.
    #[error("the queue stayed empty until the deadline passed")]
    TimedOut,
    /// The queue is closed, and all that was put has been got.
    #[error("the queue is closed and drained")]
    Closed,
    /// What was put is no object of this type. It is gone; the queue goes on.
    #[error("what was got from the queue cannot be decoded as {expected}: {error}")]
    Decode {
        /// The type asked for.
        expected: &'static str,
        /// What the decoder says, or why a handle is refused.
        error: DecodeError,
    },
    /// The queue's memory is damaged.
    #[error("the queue's memory is damaged; something wrote over it, create the queue anew")]
    Corrupt,
    /// This process could not take part.
    #[error("this process cannot take part in the shared memory: {0}")]
    Join(#[from] JoinError),
}

impl GetError {
    /// What arrived could not be had as an object of type `T`.
    pub(super) fn unpacked<T>(reason: Unpacked) -> Self {
        match reason {
            Unpacked::Refused(error) => {
                Self::Decode { expected: std::any::type_name::<T>(), error }
            }
            Unpacked::Damaged => Self::Corrupt,
        }
    }
}

impl From<PopError> for GetError {
    fn from(error: PopError) -> Self {
        match error {
            PopError::Empty => Self::Empty,
            PopError::Busy => Self::Busy,
            PopError::TimedOut => Self::TimedOut,
            PopError::Closed => Self::Closed,
            PopError::Join(error) => Self::Join(error),
            _ => Self::Corrupt,
        }
    }
}

/// Why no object was declared done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// Nothing is unfinished that somebody has got.
    #[error("task_done was called too often: nobody has got an object that is not done yet")]
    TooMany,
    /// The queue's memory is damaged.
    #[error("the queue's memory is damaged; something wrote over it, create the queue anew")]
    Corrupt,
    /// This process could not take part.
    #[error("this process cannot take part in the shared memory: {0}")]
    Join(#[from] JoinError),
}

impl From<PopError> for TaskDoneError {
    fn from(error: PopError) -> Self {
        match error {
            PopError::Join(error) => Self::Join(error),
            _ => Self::Corrupt,
        }
    }
}
