//! What can go wrong at a queue.

use crate::region::JoinError;
#[cfg(not(loom))]
use crate::region::RegionError;

/// Why an item was not put. The item is still the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The queue holds as many items as it can.
    #[error("the queue is full; take something out, or wait with a deadline")]
    Full,
    /// The next place is in the hands of a living process that has not finished yet: neither full nor not.
    #[error("another process is just using the next place of the queue; try again")]
    Busy,
    /// The queue stayed full until the deadline.
    #[error("the queue stayed full until the deadline passed")]
    TimedOut,
    /// The queue was closed: nothing is put any more.
    #[error("the queue is closed")]
    Closed,
    /// The queue's memory holds what no queue ever holds.
    #[error("the queue's memory is damaged; something wrote over it, create the queue anew")]
    Corrupt,
    /// This handle was inherited over fork; the role belongs to the parent.
    #[error(
        "this end of the ring belongs to the process that this one was forked from; take the role anew"
    )]
    Inherited,
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

/// Why no item was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PopError {
    /// There is nothing in the queue.
    #[error("the queue is empty; put something in, or wait with a deadline")]
    Empty,
    /// The next item is in the hands of a living process that has not finished yet: neither empty nor not.
    #[error("another process is just using the next place of the queue; try again")]
    Busy,
    /// The queue stayed empty until the deadline.
    #[error("the queue stayed empty until the deadline passed")]
    TimedOut,
    /// The queue was closed, and all that was put has been taken.
    #[error("the queue is closed and drained")]
    Closed,
    /// The queue's memory holds what no queue ever holds.
    #[error("the queue's memory is damaged; something wrote over it, create the queue anew")]
    Corrupt,
    /// This handle was inherited over fork; the role belongs to the parent.
    #[error(
        "this end of the ring belongs to the process that this one was forked from; take the role anew"
    )]
    Inherited,
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

/// Why a queue cannot be made or attached to.
#[cfg(not(loom))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// A queue holds at least one item and at most 2³⁰.
    #[error("a queue can hold 1 to {most} items, not {asked}")]
    Capacity {
        /// Items asked for.
        asked: u64,
        /// The most there can be.
        most: u64,
    },
    /// What lies there is a queue of another kind or of items of another size, or none.
    #[error(
        "no queue of {asked_size}-byte items (kind {asked_kind}) lies here, but items of {found_size} bytes, \
         kind {found_kind}: attach with the type it was made with"
    )]
    Other {
        /// The kind asked for.
        asked_kind: u32,
        /// The kind found.
        found_kind: u32,
        /// Bytes of an item as asked for.
        asked_size: u32,
        /// Bytes of an item as found.
        found_size: u32,
    },
    /// The header names a capacity that no queue can have.
    #[error("the queue's header is damaged: its capacity is {capacity}; create the queue anew")]
    Damaged {
        /// The capacity found.
        capacity: u64,
    },
    /// It does not lie in the region.
    #[error("{0}")]
    Region(#[from] RegionError),
}

/// Why an end that one process has at a time cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// Somebody living has it.
    #[error("this end belongs to process {pid}; it is free when that process drops it or is gone")]
    Taken {
        /// Whose it is; 0 if that cannot be told.
        pid: u32,
    },
    /// The memory holds what it never holds.
    #[error("the memory of this end is damaged; something wrote over it, create it anew")]
    Corrupt,
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}
