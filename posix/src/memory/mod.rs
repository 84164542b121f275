//! The memory that the processes of a tree share, and handles to the objects in it.
//!
//! There is one [`Arena`] a tree. It is made at the first use of anything shared, and every process that is started
//! by this library maps it. Nobody else can: it has no name, only descriptors that are handed over.
//!
//! What only the threads of a process share lies in an arena of its own, which nobody else has: see
//! [`thread`](crate::thread).
//!
//! What processes share that did not start each other is a [`SharedMemory`], which has a name.

mod arena;
mod decode;
mod error;
mod handle;
mod limits;
mod shared;

pub use arena::{Arena, Config, adopt, arena, configure};
pub(crate) use arena::{existing, name_process, private};
pub use decode::DecodeError;
pub(crate) use decode::{decode, decode_or, explain_by, refuse};
pub use error::{HandleError, MemoryError};
pub use handle::Handle;
pub use shared::{BadName, Segment, SharedMemory, SharedMemoryError, SharedMemoryOptions};

/// What an object in the arena is; the kinds that have handles.
pub mod kind {
    use procession_core::region::Kind;

    /// A [`Lock`](crate::sync::Lock).
    pub const LOCK: Kind = kind(1);
    /// A [`Value`](crate::value::Value).
    pub const VALUE: Kind = kind(2);
    /// An [`Array`](crate::value::Array).
    pub const ARRAY: Kind = kind(3);
    /// A [`Queue`](crate::channel::Queue).
    pub const QUEUE: Kind = kind(4);

    /// A `Mutex`.
    pub const MUTEX: Kind = kind(5);
    /// An `RLock`.
    pub const RLOCK: Kind = kind(6);
    /// A `Semaphore` or `BoundedSemaphore`.
    pub const SEMAPHORE: Kind = kind(7);
    /// An `Event`.
    pub const EVENT: Kind = kind(8);
    /// A `Condition`.
    pub const CONDITION: Kind = kind(9);
    /// A `Barrier`.
    pub const BARRIER: Kind = kind(10);
    /// An `RwLock`.
    pub const RWLOCK: Kind = kind(11);
    /// An `RwData`.
    pub const RWDATA: Kind = kind(12);
    /// A `Once`.
    pub const ONCE: Kind = kind(13);
    /// A `OnceCell`.
    pub const ONCE_CELL: Kind = kind(14);
    /// A `Latch`.
    pub const LATCH: Kind = kind(15);
    /// A `SeqLock`.
    pub const SEQLOCK: Kind = kind(16);
    /// An `Atomic`.
    pub const ATOMIC: Kind = kind(17);
    /// A PodQueue.
    pub const PODQUEUE: Kind = kind(18);
    /// An unbounded or at-least-once Queue.
    pub const STORE: Kind = kind(19);
    /// A JoinableQueue.
    pub const JOINABLE: Kind = kind(20);
    /// A PriorityQueue.
    pub const PRIORITY: Kind = kind(21);
    /// A LifoQueue.
    pub const LIFO: Kind = kind(22);
    /// A BufferQueue.
    pub const BUFFERS: Kind = kind(23);
    /// A Broadcast.
    pub const BROADCAST: Kind = kind(24);
    /// A Pipe.
    pub const PIPE: Kind = kind(25);
    /// A part of a queue that grows.
    pub const SEGMENT: Kind = kind(26);
    /// What a Pool's owner and its workers share.
    pub const POOL: Kind = kind(27);

    /// What an object of the kind with this number is called.
    #[must_use]
    pub fn name(number: u8) -> &'static str {
        const NAMES: [&str; 28] = [
            "nothing",
            "a Lock",
            "a Value",
            "an Array",
            "a Queue",
            "a Mutex",
            "an RLock",
            "a Semaphore",
            "an Event",
            "a Condition",
            "a Barrier",
            "an RwLock",
            "an RwData",
            "a Once",
            "a OnceCell",
            "a Latch",
            "a SeqLock",
            "an Atomic",
            "a PodQueue",
            "an unbounded or at-least-once Queue",
            "a JoinableQueue",
            "a PriorityQueue",
            "a LifoQueue",
            "a BufferQueue",
            "a Broadcast",
            "a Pipe",
            "a part of a queue that grows",
            "a Pool's board",
        ];
        NAMES.get(usize::from(number)).copied().unwrap_or("an object of an unknown kind")
    }

    const fn kind(number: u8) -> Kind {
        match Kind::new(number) {
            Some(kind) => kind,
            None => panic!("a kind has a number that blocks can hold"),
        }
    }
}
