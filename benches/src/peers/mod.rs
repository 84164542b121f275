//! Those whom ours is compared with, where they need more than a call.

pub mod array_queue;
pub mod cacheline;
pub mod channel;
pub mod copy;
pub mod futex;
pub mod iceoryx;
pub mod ipc;
pub mod load;
pub mod parking;
pub mod pthread;
pub mod python;
pub mod ring;
pub mod socket;
