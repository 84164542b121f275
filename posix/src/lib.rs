//! Memory, processes and channels of procession on Linux: everything that needs std, files or other processes.
//!
//! ```text
//! memory    the arena of a process tree, and handles to what lies in it; memory with a name
//! sync      Lock, as a handle that travels
//! value     Value and Array, as handles that travel
//! channel   queues of all kinds, Broadcast, Pipe
//! wait      waiting for any of several things, in memory or descriptors
//! ready     readiness as a descriptor, and for async programs
//! descriptor  how descriptors travel
//! process   starting processes, and what becomes of them
//! pool      pools of workers, and what becomes of their tasks
//! futures   executors, and the results that they promise
//! thread    all of it, over the threads of one process
//! log       what the processes of a tree say, in one place (feature `tracing`)
//! signal    blocking signals, hearing of them, ending in order
//! ```

mod attendant;
pub mod channel;
mod descriptor;
mod error;
pub mod futures;
#[cfg(feature = "tracing")]
pub mod log;
pub mod memory;
pub mod pool;
pub mod process;
pub mod ready;
pub mod signal;
pub mod sync;
mod task;
pub mod thread;
pub mod value;
pub mod wait;

pub use descriptor::Descriptor;
pub use error::{Error, Result};
