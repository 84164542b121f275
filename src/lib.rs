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
//! ```
//! use procession::prelude::*;
//!
//! fn deposit(account: Mutex<i64>, times: u32) -> procession::Result<()> {
//!     for _ in 0..times {
//!         *account.lock()? += 1; // an error here says that a teller died, and carries the guard
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> procession::Result<()> {
//!     let account = Mutex::new(0i64)?; // lives in memory that all processes of this tree share
//!     let tellers = (0..4)
//!         .map(|i| Process::new(deposit, (account.clone(), 50)).name(format!("teller-{i}")).start())
//!         .collect::<Result<Vec<_>, _>>()?;
//!     for teller in tellers {
//!         teller.join()??; // how the process ended, then what the function returned
//!     }
//!     assert_eq!(*account.lock()?, 200);
//!     Ok(())
//! }
//! ```
//!
//! The algorithms are in [`procession_core`], which needs no std; what needs files and processes is in
//! [`procession_posix`]. This crate is the face of both.

#[cfg(feature = "tracing")]
pub use procession_posix::log;
pub use procession_posix::{
    Descriptor, Error, Result, channel, futures, memory, pool, process, ready, signal, sync,
    thread, value, wait,
};

pub use channel::{
    Broadcast, BufferQueue, Connection, Delivery, GetError, JoinableQueue, LifoQueue, Pipe,
    PodQueue, PriorityQueue, PublishError, PutError, Queue, QueueOptions, ReceiveError, Receiver,
    RecvError, SendError, Sender, SimpleQueue, pipe,
};
pub use futures::{
    Executor, Future, ProcessPoolExecutor, Shutdown, ThreadPoolExecutor, as_completed, par_map,
};
pub use memory::SharedMemory;
pub use pool::{AsyncResult, Pool, PoolError, Retry, TaskError};
pub use process::{Context, Process, Run, StartMethod, get_context, init};
pub use procession_posix::export_target;
pub use sync::{
    Atomic, Barrier, BoundedSemaphore, Condition, Deadline, Event, Latch, Lock, Mutex, Once,
    OnceCell, RLock, RwData, RwLock, Semaphore, SeqLock,
};
pub use value::{Array, Value};

/// What most programs need: `use procession::prelude::*;`.
pub mod prelude {
    pub use crate::channel::{
        Broadcast, BufferQueue, Connection, Delivery, GetError, JoinableQueue, LifoQueue, Pipe,
        PodQueue, PriorityQueue, PublishError, PutError, Queue, QueueOptions, ReceiveError,
        Receiver, RecvError, SendError, Sender, SimpleQueue, pipe,
    };
    pub use crate::futures::{
        Executor, ProcessPoolExecutor, Shutdown, ThreadPoolExecutor, as_completed, par_map,
    };
    pub use crate::memory::SharedMemory;
    pub use crate::pool::{AsyncResult, Pool, PoolError, Retry, TaskError};
    pub use crate::process::{
        Child, Process, Run, StartMethod, Stdio, active_children, cpu_count, current_process,
        finalizer, get_context, parent_process,
    };
    pub use crate::sync::{
        AcquireError, Atomic, Barrier, BoundedSemaphore, Condition, Deadline, Event, Latch, Lock,
        Mutex, Once, OnceCell, RLock, RwData, RwLock, Semaphore, SeqLock,
    };
    pub use crate::value::{Array, Value};
    pub use crate::wait::{Waitable, wait, wait_any, wait_any_timeout, wait_timeout};
}
