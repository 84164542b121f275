//! Pools: workers that run functions, and answers that survive them.
//!
//! ```
//! use procession_posix::pool::Pool;
//!
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::new(2)?;
//! assert_eq!(pool.map(square, 0..5)?, [0, 1, 4, 9, 16]);
//! assert_eq!(pool.apply(|a: String, n: usize| a.repeat(n), ("ab".to_string(), 2))?, "abab");
//!
//! let later = pool.apply_async(square, (12,))?;
//! for line in pool.imap(|line: String| line.len(), ["a".to_string(), "bcd".to_string()])? {
//!     println!("{}", line?);
//! }
//! assert_eq!(later.get()?, 144);
//! # Ok(())
//! # }
//! ```
//!
//! # What can be called
//!
//! Functions by their name, and closures that capture nothing, with up to eight arguments: see
//! [`Target`](crate::process::Target). Arguments and results cross by serde. Shared state goes in as handles (a lock, a value, a
//! queue), or is made in each worker by the [initializer](PoolBuilder::initializer). The pool over threads,
//! [`thread::Pool`](crate::thread::Pool), has the same names; there functions may capture, and nothing has to be serde data.
//!
//! # What dies how
//!
//! Whatever goes wrong in one task is the error of that task, see [`TaskError`]; the others go on.
//!
//! | what happens | the task | the worker |
//! |---|---|---|
//! | the function panics | [`TaskError::Panicked`] | lives on |
//! | it calls `exit`, crashes, or is killed | [`TaskError::WorkerDied`], or it is run again | is replaced |
//! | arguments or result do not encode or decode | [`TaskError::Encode`], [`TaskError::Decode`], [`TaskError::Input`] | lives on |
//! | it runs longer than its [deadline](Task::deadline) | [`TaskError::DeadlinePassed`] | is ended and replaced |
//! | it is [aborted](AsyncResult::abort) | [`TaskError::Cancelled`] | is ended and replaced |
//! | workers die of it again and again | [`TaskError::Quarantined`] | are replaced |
//! | the pool is terminated or dropped | [`TaskError::Terminated`] | are ended |
//! | the pool's owner dies | | leave within milliseconds |
//!
//! A task is run **at most once**, unless the caller declares that more than once is as good, by
//! [`Retry::idempotent`]; then it is run **at least once**, up to so many times as was allowed.
//!
//! # Large arguments and results
//!
//! What is longer than some hundred bytes lies in a block of shared memory and is copied once on each side. Of blocks of more than
//! 32 KiB a pool keeps the last two, up to 64 MiB each, for the next large task: fresh memory costs more than copying.
//!
//! # Who does the work around
//!
//! Nobody has a thread for handing results on: whoever waits for a result collects, for others too. `map` and `imap` take their
//! inputs on the thread that calls them, no more than the [window](Tasks::window) holds; `imap` does so whenever it is asked for a
//! result. Callbacks and what goes on in the background (`map_async`) is done by a thread of the pool that is started when it is first
//! needed. Any thread may call anything at any time, also from within a callback.

mod builder;
mod face;
mod imap;
mod progress;
mod result;
mod tasks;

pub(crate) mod board;
pub(crate) mod engine;
mod lives;

pub use crate::task::{
    Latency, Part, PoolError, PoolState, Retry, Statistics, TaskError, Which, WorkerInfo,
};
pub use builder::PoolBuilder;
pub use face::PoolOf;
pub use imap::Imap;
pub use result::AsyncResult;
pub use tasks::{Each, Task, Tasks};

/// A pool of processes. See the [module](self) for what can be called, and what becomes of it.
pub type Pool = PoolOf<engine::ProcessCrew>;
