//! What can go wrong at a pipe.

use procession_core::region::{AllocError, JoinError};

use crate::channel::parcel::{PackError, Unpacked};
use crate::memory::DecodeError;

/// Why a message was not sent. Nothing of it has left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody can receive any more: every other end is closed, or its process is gone.
    #[error("the pipe is broken: nobody has its other end any more")]
    BrokenPipe,
    /// This end was closed in this process.
    #[error("this end of the pipe was closed")]
    Closed,
    /// A process that was forked has this end from its parent, and cannot hold it beside the others.
    #[error(
        "{most} processes hold this end of the pipe, and there is room for no more: \
         close some, or make the pipe for more"
    )]
    Crowded {
        /// How many there is room for.
        most: u32,
    },
    /// This connection only receives.
    #[error("the connection only receives; send through the other one of its pair")]
    ReadOnly,
    /// As many messages are on their way as the pipe holds.
    #[error("the pipe is full; have something received, or send with a timeout")]
    Full,
    /// The next place is in the hands of a living process that has not finished yet: neither full nor not.
    #[error("another process is just using the next place of the pipe; try again")]
    Busy,
    /// The pipe stayed full until the deadline.
    #[error("the pipe stayed full until the deadline passed")]
    TimedOut,
    /// The message is larger than this pipe takes.
    #[error(
        "the message takes {bytes} bytes, this pipe takes at most {largest} in one piece: \
         send it in parts, or make the pipe with a larger limit"
    )]
    TooLarge {
        /// Bytes of the encoded message.
        bytes: u64,
        /// The pipe's limit.
        largest: u64,
    },
    /// The object cannot be encoded.
    #[error("the object cannot be encoded: {0}")]
    Encode(postcard::Error),
    /// There is no shared memory for a message of this size.
    #[error("no room for the message: {0}")]
    Memory(AllocError),
    /// The pipe's memory is damaged.
    #[error("the pipe's memory is damaged; something wrote over it, create the pipe anew")]
    Corrupt,
    /// This process could not take part.
    #[error("this process cannot take part in the shared memory: {0}")]
    Join(#[from] JoinError),
}

impl From<PackError> for SendError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::TooLarge { bytes, largest } => Self::TooLarge { bytes, largest },
            PackError::Encode(error) => Self::Encode(error),
            PackError::Memory(error) => Self::Memory(error),
            PackError::Corrupt => Self::Corrupt,
        }
    }
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Everything was received, and nobody can send any more: every other end is closed, or its process is gone.
    #[error("the pipe has ended: nobody has its other end any more, and all was received")]
    Eof,
    /// This end was closed in this process.
    #[error("this end of the pipe was closed")]
    Closed,
    /// A process that was forked has this end from its parent, and cannot hold it beside the others.
    #[error(
        "{most} processes hold this end of the pipe, and there is room for no more: \
         close some, or make the pipe for more"
    )]
    Crowded {
        /// How many there is room for.
        most: u32,
    },
    /// This connection only sends.
    #[error("the connection only sends; receive from the other one of its pair")]
    WriteOnly,
    /// There is nothing in the pipe.
    #[error("the pipe is empty; receive with a timeout, or poll")]
    Empty,
    /// The next message is in the hands of a living process that has not finished yet: neither empty nor not.
    #[error("another process is just using the next place of the pipe; try again")]
    Busy,
    /// The pipe stayed empty until the deadline.
    #[error("the pipe stayed empty until the deadline passed")]
    TimedOut,
    /// The next message is longer than asked for. It is still there, and the connection as good as before.
    #[error(
        "the next message has {bytes} bytes, at most {most} were asked for; it can still be received"
    )]
    TooLong {
        /// Bytes of the message.
        bytes: usize,
        /// How many were asked for at most.
        most: usize,
    },
    /// The message did not fit into the buffer. It was received: here it is.
    #[error("the message has {} bytes, the buffer {room}; it comes with this error", .message.len())]
    BufferTooShort {
        /// The whole message.
        message: Vec<u8>,
        /// How many bytes the buffer has.
        room: usize,
    },
    /// What was sent is no object of this type. It is gone; the pipe goes on.
    #[error("what was received cannot be decoded as {expected}: {error}")]
    Decode {
        /// The type asked for.
        expected: &'static str,
        /// What the decoder says, or why a handle is refused.
        error: DecodeError,
    },
    /// The pipe's memory is damaged.
    #[error("the pipe's memory is damaged; something wrote over it, create the pipe anew")]
    Corrupt,
    /// This process could not take part.
    #[error("this process cannot take part in the shared memory: {0}")]
    Join(#[from] JoinError),
}

impl RecvError {
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
