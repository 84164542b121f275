//! A queue that knows what is not finished yet.

use super::forms::{gets, joined, made, peeks, puts, stocked, takes};
use super::stock::Stock;

/// A queue of objects between processes that knows which of them are unfinished, as `multiprocessing.JoinableQueue`.
///
/// An object is unfinished from `put` until whoever got it says that it is done: by [`task_done`](Self::task_done), or, if it was
/// got by [`take`](Self::take), by the delivery's own `done`, which cannot be mistaken for another's. [`join`](Self::join) waits
/// until nothing is unfinished.
///
/// If a process is killed that has got an object and is not done with it, nobody waits for it. Made
/// [`at_least_once`](super::QueueOptions::at_least_once), the queue delivers the object to another; else it is lost, and the join says how
/// many were.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same queue. It needs no descriptor. What is unfinished
/// does not count towards its capacity.
///
/// Cost: a put, a get or a `task_done` takes a lock for some hundred nanoseconds; no system call as long as nobody has to
/// wait. Each object takes about 180 bytes of memory until it is done, and more if it is longer than 104 bytes as encoded.
///
/// ```
/// use procession_posix::channel::{JoinableQueue, TaskDoneError};
/// use std::time::Duration;
///
/// let tasks = JoinableQueue::unbounded()?;
/// tasks.put(&"wash".to_string())?;
/// tasks.put(&"dry".to_string())?;
/// assert!(tasks.join_timeout(Duration::from_millis(1)).is_err());
///
/// assert_eq!(tasks.get()?, "wash");
/// assert_eq!(tasks.take()?.done(), "dry");
/// assert_eq!(tasks.unfinished(), 1);
/// tasks.task_done()?;
/// tasks.join()?;
/// assert!(matches!(tasks.task_done(), Err(TaskDoneError::TooMany)));
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct JoinableQueue<T> {
    stock: Stock<T>,
}

stocked!(JoinableQueue, JOINABLE);
made!(JoinableQueue, JOINABLE, First, leased: true);
puts!(JoinableQueue: serde::Serialize);
gets!(JoinableQueue: serde::de::DeserializeOwned, T, get_unfinished, |(_, object)| object);
peeks!(JoinableQueue: serde::de::DeserializeOwned, T, |(_, object)| object);
takes!(JoinableQueue: serde::de::DeserializeOwned, super::Delivery<T>);
joined!(JoinableQueue);
