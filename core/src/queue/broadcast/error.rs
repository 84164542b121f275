//! What can go wrong at a broadcast.

use super::READERS;
use crate::region::JoinError;

/// Why an item was not published. The item is still the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The slowest reader has yet to read the item that is in the place of this one, or somebody is just joining.
    #[error(
        "the slowest subscriber is a whole ring behind; let it read, or publish with a deadline"
    )]
    Full,
    /// It stayed so until the deadline.
    #[error("the slowest subscriber stayed a whole ring behind until the deadline passed")]
    TimedOut,
    /// The broadcast was closed: nothing is published any more.
    #[error("the broadcast is closed")]
    Closed,
    /// The memory holds what no broadcast ever holds.
    #[error(
        "the broadcast's memory is damaged; something wrote over it, create the broadcast anew"
    )]
    Corrupt,
    /// This handle was inherited over fork; the role belongs to the parent.
    #[error(
        "this publisher belongs to the process that this one was forked from; take the role anew"
    )]
    Inherited,
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

/// Why no item was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Everything that was published has been read.
    #[error("nothing new was published; wait with a deadline")]
    Empty,
    /// Nothing new came until the deadline.
    #[error("nothing new was published until the deadline passed")]
    TimedOut,
    /// So many items were overwritten before this reader got to them. The next call goes on behind them.
    #[error("{count} items were overwritten before they were read; receive again to go on")]
    Missed {
        /// How many: exact.
        count: u64,
    },
    /// The broadcast was closed, and all that was published has been read.
    #[error("the broadcast is closed, and everything has been read")]
    Closed,
    /// The memory holds what no broadcast ever holds.
    #[error(
        "the broadcast's memory is damaged; something wrote over it, create the broadcast anew"
    )]
    Corrupt,
    /// This handle was inherited over fork; it belongs to the parent.
    #[error("this subscriber belongs to the process that this one was forked from; subscribe anew")]
    Inherited,
}

/// Why nobody can subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There are as many readers as there can be, all of them alive.
    #[error("the broadcast has {READERS} living subscribers, and takes no more: drop one of them")]
    TooMany,
    /// The memory holds what no broadcast ever holds.
    #[error(
        "the broadcast's memory is damaged; something wrote over it, create the broadcast anew"
    )]
    Corrupt,
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}
