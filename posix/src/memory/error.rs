//! What can go wrong with shared memory.

use procession_core::region::{AllocError, JoinError, PlaceError, RegionError};

/// Why the arena cannot be had, or has no room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// A system call failed while the arena was made or mapped.
    #[error("shared memory for this process tree cannot be made: {call}: {error}")]
    System {
        /// What was tried.
        call: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The limits of this process leave no room for even the smallest arena.
    #[error(
        "the limits of this process leave {allowed} bytes for shared memory, {needed} are needed: \
         raise RLIMIT_AS and RLIMIT_FSIZE"
    )]
    Limits {
        /// What the limits allow.
        allowed: u64,
        /// The least that is needed.
        needed: u64,
    },
    /// The arena exists already.
    #[error(
        "the arena of this process tree exists already: configure it before anything shared is made"
    )]
    Exists,
    /// The descriptor that was handed over is not of memory.
    #[error("what was handed over is no shared memory ({error}): pass the descriptor of an arena")]
    NoMemory {
        /// What the system says of it.
        error: std::io::Error,
    },
    /// The memory that was handed over can be cut by whoever holds it, which would end everybody who uses it.
    #[error(
        "the memory that was handed over is not sealed against shrinking: pass the descriptor of an arena"
    )]
    Unsealed,
    /// The memory that was handed over is no arena of this library, or is damaged.
    #[error("the shared memory that was handed over cannot be used: {0}")]
    Region(#[from] RegionError),
    /// The object does not lie where it should.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// There is no room.
    #[error("{0}")]
    Full(#[from] AllocError),
    /// This process could not take part.
    #[error("this process cannot take part in the shared memory: {0}")]
    Join(#[from] JoinError),
}

/// Why a handle that came by a message or an argument cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// It belongs to another tree of processes.
    #[error(
        "the handle belongs to the shared memory {found:#018x} of another process tree, \
         this one has {ours:#018x}: handles travel within a tree"
    )]
    OtherArena {
        /// The id in the handle.
        found: u64,
        /// The id of this tree's arena.
        ours: u64,
    },
    /// It is a handle of another type.
    #[error(
        "the handle names {}, not {}: decode it as what was encoded",
        super::kind::name(*.found),
        super::kind::name(*.asked)
    )]
    OtherKind {
        /// The kind in the handle.
        found: u8,
        /// The kind asked for.
        asked: u8,
    },
    /// The object lies in memory of one process.
    #[error(
        "the handle names {} for the threads of one process, which cannot travel: \
         use the type of the same name for processes",
        super::kind::name(*.kind)
    )]
    Private {
        /// What it is.
        kind: u8,
    },
    /// It names an object that is gone, or none.
    #[error("the handle is of no use: {0}")]
    Object(#[from] procession_core::region::HandleError),
    /// What lies there cannot be attached to.
    #[error("{0}")]
    Content(String),
    /// This process has no shared memory.
    #[error("{0}")]
    Memory(#[from] MemoryError),
}
