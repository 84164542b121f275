//! Python's multiprocessing, rebuilt on shared memory and futexes.
//!
//! Three promises:
//!
//! 1. **Death-proof.** Any process may be killed at any instruction. The others never wait for the dead, nothing that was
//!    acknowledged is lost, and the next holder of a lock is told that its data may be half written.
//! 2. **As fast as inside one process.** Nobody enters the kernel unless somebody really has to sleep.
//! 3. **Handles travel.** Every handle can be an argument of a process or an object in a queue, however the process was
//!    started.
//!
//! The algorithms are in [`procession_core`], which needs no std; what needs files and processes is in
//! [`procession_posix`]. This crate is the face of both.

pub use procession_posix::{Error, Result, channel, memory, process, sync};

pub use channel::{GetError, PutError, Queue};
pub use process::{Child, Process, StartMethod, current_process, init, parent_process};
pub use sync::{Deadline, Lock};

/// What most programs need: `use procession::prelude::*;`.
pub mod prelude {
    pub use crate::channel::{GetError, PutError, Queue};
    pub use crate::process::{Child, Process, StartMethod, current_process, parent_process};
    pub use crate::sync::{AcquireError, Deadline, Lock};
}
