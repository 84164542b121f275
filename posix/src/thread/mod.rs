//! Everything that processes have, for the threads of one process: `multiprocessing.dummy`.
//!
//! The names, the calls and the errors are those of the other modules. A program changes from processes to threads and back
//! by one line:
//!
//! ```
//! # mod procession { pub use procession_posix::*; }
//! use procession::thread::prelude::*; // or: use procession::prelude::*;
//!
//! fn double(inbox: Queue<u32>, outbox: Queue<u32>) -> procession::Result<()> {
//!     for number in inbox.iter() {
//!         outbox.put(&(number? * 2))?;
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> procession::Result<()> {
//!     let (inbox, outbox) = (Queue::bounded(10)?, Queue::bounded(10)?);
//!     let worker = Process::new(double, (inbox.clone(), outbox.clone())).start()?;
//!     inbox.put(&21)?;
//!     assert_eq!(outbox.get()?, 42);
//!     inbox.close();
//!     worker.join()?
//! }
//! ```
//!
//! ```text
//! Process, Child, active_children, ..     Thread, which is also called Process here
//! Queue, JoinableQueue, SimpleQueue, ..   over a mutex; objects are moved, or cloned by `put(&object)`
//! pipe, Sender, Receiver, Pipe            the same
//! Pool                                    over threads
//! Lock .. Barrier, Value, Array           the same algorithms, in memory of this process
//! Mutex, RwData                           the same, over data of any type
//! ```
//!
//! What is different:
//!
//! - Functions may capture, and neither arguments nor results nor objects need serde. An object that is put by reference is
//!   cloned; `give` moves it.
//! - A thread cannot be ended from outside: there is no `terminate`, no `kill`, no deadline of a thread. It dies with the
//!   process, and with it everything here. A panic ends its thread only.
//! - Handles do not travel to other processes: they are not serde values, so a program that tries is not built.
//! - Nothing crosses a process: errors of encoding, of decoding and of damaged memory do not occur.

mod crew;
mod data;
mod handles;
mod pipe;
mod queue;
mod start;

pub(crate) use crew::{Initializer, ThreadCrew, ThreadOptions};
pub use data::{Mutex, RwData};
pub use handles::{
    Array, Atomic, Barrier, BoundedSemaphore, Condition, Event, Latch, Lock, Once, OnceCell, RLock,
    RwLock, Semaphore, SeqLock, Value,
};
pub use pipe::{Connection, Messages, Pipe, Receiver, Sender, pipe};
pub use queue::{
    Delivery, IntoIter, JoinableQueue, LifoQueue, NotPut, PriorityQueue, Queue, QueueOptions,
    QueueRoom, SimpleQueue,
};
pub use start::{
    ActiveThread, Child, CurrentThread, StillRunning, Thread, active_children, current_thread,
};

/// A pool of threads: as [`pool::Pool`](crate::pool::Pool), in this process. Functions may capture, and nothing has to be serde data.
pub type Pool = crate::pool::PoolOf<ThreadCrew>;

/// What most programs need, by the names that it has for processes: `use procession::thread::prelude::*;` in the place of
/// `use procession::prelude::*;`. What has no form of its own here (`Broadcast`, `BufferQueue`, `PodQueue`, `SharedMemory`) is
/// that for processes, which serves threads as well.
pub mod prelude {
    pub use super::{
        Array, Atomic, Barrier, BoundedSemaphore, Child, Condition, Connection, Delivery, Event,
        JoinableQueue, Latch, LifoQueue, Lock, Mutex, Once, OnceCell, Pipe, Pool, PriorityQueue,
        Queue, QueueOptions, RLock, Receiver, RwData, RwLock, Semaphore, Sender, SeqLock,
        SimpleQueue, Thread, Thread as Process, Value, active_children, current_thread,
        current_thread as current_process, pipe,
    };
    pub use crate::channel::{
        Broadcast, BufferQueue, GetError, PodQueue, PublishError, PutError, ReceiveError,
        RecvError, SendError,
    };
    pub use crate::futures::{Executor, Shutdown, ThreadPoolExecutor, as_completed, par_map};
    pub use crate::memory::SharedMemory;
    pub use crate::pool::{AsyncResult, PoolError, Retry, TaskError};
    pub use crate::process::{cpu_count, finalizer};
    pub use crate::sync::{AcquireError, Deadline};
    pub use crate::wait::{Waitable, wait, wait_any, wait_any_timeout, wait_timeout};
}
