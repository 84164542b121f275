//! Those whom ours is compared with, where they need more than a call.

pub mod array_queue;
pub mod cacheline;
pub mod iceoryx;
pub mod ipc;
pub mod pthread_mutex;
pub mod python;
pub mod ring;
