//! What can go wrong when objects are sent.

use procession_core::queue::{
    self as core, HoldersPlaceError, PopError, PushError, QueueError, StoreError,
};

pub use procession_core::queue::JoinItemsError as JoinTasksError;
use procession_core::region::{AllocError, JoinError};

use super::parcel::{PackError, Unpacked};
use crate::memory::{DecodeError, MemoryError};

/// Why a queue or a pipe cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// No room, or no shared memory at all.
    #[error("{0}")]
    Memory(#[from] MemoryError),
    /// Not a size that a queue can have.
    #[error("{0}")]
    Queue(#[from] QueueError),
    /// Not so many holders can a pipe's end have.
    #[error("{0}")]
    Holders(#[from] HoldersPlaceError),
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

impl From<StoreError> for PutError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Push(error) => error.into(),
            StoreError::Memory(error) => Self::Memory(error),
            _ => Self::Corrupt,
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

/// Not all that was got could be had.
pub struct GetManyError<T> {
    /// What was got all the same, in order.
    pub got: Vec<T>,
    /// Why something was not, or nothing was: of several reasons the first.
    pub error: GetError,
}

impl<T> std::fmt::Debug for GetManyError<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GetManyError")
            .field("got", &self.got.len())
            .field("error", &self.error)
            .finish()
    }
}

impl<T> std::fmt::Display for GetManyError<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.got.len() {
            0 => self.error.fmt(f),
            got => write!(f, "{}; {got} other objects were got, and are in the error", self.error),
        }
    }
}

impl<T> std::error::Error for GetManyError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
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

/// Why an object was not published. Nothing of it is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The slowest subscriber has yet to receive the object that is in the place of this one.
    #[error(
        "the slowest subscriber is as far behind as can be; let it receive, or publish with a timeout"
    )]
    Full,
    /// It stayed so until the deadline.
    #[error("the slowest subscriber stayed as far behind as can be until the deadline passed")]
    TimedOut,
    /// The broadcast was closed.
    #[error("the broadcast is closed")]
    Closed,
    /// The object is larger than this broadcast takes. Nothing was written.
    #[error(
        "the object takes {bytes} bytes, this broadcast takes at most {largest} in one piece: \
         publish it in parts, or make the broadcast with a larger limit"
    )]
    TooLarge {
        /// Bytes of the encoded object.
        bytes: u64,
        /// The broadcast's limit.
        largest: u64,
    },
    /// The object cannot be encoded.
    #[error("the object cannot be encoded: {0}")]
    Encode(postcard::Error),
    /// There is no shared memory for an object of this size.
    #[error("no room for the object: {0}")]
    Memory(AllocError),
    /// The broadcast's memory is damaged.
    #[error(
        "the broadcast's memory is damaged; something wrote over it, create the broadcast anew"
    )]
    Corrupt,
    /// This publisher was inherited over fork; the role belongs to the parent.
    #[error(
        "this publisher belongs to the process that this one was forked from; take the role anew"
    )]
    Inherited,
    /// This process could not take part.
    #[error("this process cannot take part in the shared memory: {0}")]
    Join(#[from] JoinError),
}

impl From<core::PublishError> for PublishError {
    fn from(error: core::PublishError) -> Self {
        match error {
            core::PublishError::Full => Self::Full,
            core::PublishError::TimedOut => Self::TimedOut,
            core::PublishError::Closed => Self::Closed,
            core::PublishError::Inherited => Self::Inherited,
            core::PublishError::Join(error) => Self::Join(error),
            _ => Self::Corrupt,
        }
    }
}

impl From<PackError> for PublishError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::TooLarge { bytes, largest } => Self::TooLarge { bytes, largest },
            PackError::Encode(error) => Self::Encode(error),
            PackError::Memory(error) => Self::Memory(error),
            PackError::Corrupt => Self::Corrupt,
        }
    }
}

/// Why a subscriber received no object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Everything that was published has been received.
    #[error("nothing new was published; wait with a timeout")]
    Empty,
    /// Nothing new came until the deadline.
    #[error("nothing new was published until the deadline passed")]
    TimedOut,
    /// So many objects were overwritten before this subscriber got to them. The next call goes on behind them.
    #[error("{count} objects were overwritten before they were received; receive again to go on")]
    Missed {
        /// How many: exact.
        count: u64,
    },
    /// The broadcast is closed, and all that was published has been received.
    #[error("the broadcast is closed, and everything was received")]
    Closed,
    /// What was published is no object of this type. It is passed; the broadcast goes on.
    #[error("what was published cannot be decoded as {expected}: {error}")]
    Decode {
        /// The type asked for.
        expected: &'static str,
        /// What the decoder says, or why a handle is refused.
        error: DecodeError,
    },
    /// The broadcast's memory is damaged.
    #[error(
        "the broadcast's memory is damaged; something wrote over it, create the broadcast anew"
    )]
    Corrupt,
    /// This subscriber was inherited over fork; it belongs to the parent.
    #[error("this subscriber belongs to the process that this one was forked from; subscribe anew")]
    Inherited,
}

impl From<core::ReceiveError> for ReceiveError {
    fn from(error: core::ReceiveError) -> Self {
        match error {
            core::ReceiveError::Empty => Self::Empty,
            core::ReceiveError::TimedOut => Self::TimedOut,
            core::ReceiveError::Missed { count } => Self::Missed { count },
            core::ReceiveError::Closed => Self::Closed,
            core::ReceiveError::Inherited => Self::Inherited,
            _ => Self::Corrupt,
        }
    }
}
