//! Tasks and their futures: what Python's `concurrent.futures` has.
//!
//! An [`Executor`] takes functions and gives a [`Future`] for each.
//!
//! | executor | runs a task | for |
//! |---|---|---|
//! | [`ProcessPoolExecutor`] | in a worker process | work that keeps processors busy, or that may crash |
//! | [`ThreadPoolExecutor`] | on a thread | work that mostly waits, or that shares memory |
//! | [`SingleThreadExecutor`] | on one thread, in order | tests; what must not be done by two at a time |
//! | [`InlineExecutor`] | at once, where it is submitted | tests |
//!
//! What goes wrong in a task is the error of its future, a [`TaskError`](crate::pool::TaskError), and the others go on. Whoever waits for
//! a future collects for others too; there is a thread for that only where a callback or a waker is to be called. An executor that is dropped waits until all is done, as the end of Python's `with` does.
//!
//! [`wait`] and [`as_completed`] wait for several futures, also of different executors. [`par_map`] is for the common case: all processors,
//! borrowed data, and nothing to set up.
//!
//! ```
//! use procession_posix::futures::{ThreadPoolExecutor, as_completed};
//!
//! let executor = ThreadPoolExecutor::new()?;
//! let futures = ["a", "bcd", "ef"].map(|word| executor.submit(move || (word.len(), word), ()));
//! let futures = futures.into_iter().collect::<Result<Vec<_>, _>>()?;
//! let mut lengths = Vec::new();
//! for future in as_completed(futures) {
//!     lengths.push(future.result()?);
//! }
//! lengths.sort();
//! assert_eq!(lengths, [(1, "a"), (2, "ef"), (3, "bcd")]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod completed;
mod executor;
mod future;
mod gather;
mod inline;
mod map;
mod par_map;
mod processes;
mod threads;
mod wait;

pub use completed::{
    AsCompleted, AsCompletedTimeout, Unfinished, as_completed, as_completed_timeout,
};
pub use executor::{Executor, Shutdown};
pub use future::{Future, Setter};
pub use inline::InlineExecutor;
pub use map::{ExecutorMap, ExecutorResults};
pub use par_map::par_map;
pub use processes::{ProcessPoolExecutor, ProcessPoolExecutorBuilder};
pub use threads::{SingleThreadExecutor, ThreadPoolExecutor, ThreadPoolExecutorBuilder};
pub use wait::{ReturnWhen, Waited, wait, wait_timeout};
