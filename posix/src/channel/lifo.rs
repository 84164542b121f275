//! A queue whose last object comes first.

use super::forms::{gets, made, peeks, puts, stocked, takes};
use super::stock::Stock;

/// A stack of objects between processes, as `queue.LifoQueue` for processes: what was put last comes first.
///
/// Many may put, many may get; anybody may be killed at any moment, and the others go on. What `put` has acknowledged is got,
/// unless the process that got it is killed before it had it: then it is [counted](Self::lost), or, if made so
/// ([`at_least_once`](super::QueueOptions::at_least_once)), delivered to another.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same stack. It needs no descriptor.
///
/// Cost: a put or a get takes a lock for some hundred nanoseconds; no system call as long as nobody has to wait. Each object
/// takes about 180 bytes of memory, and more if it is longer than 104 bytes as encoded.
///
/// ```
/// use procession_posix::channel::{LifoQueue, PutError};
///
/// let plates = LifoQueue::bounded(2)?;
/// plates.put(&"blue".to_string())?;
/// plates.put(&"white".to_string())?;
/// assert!(matches!(plates.put_nowait(&"red".to_string()), Err(PutError::Full)));
/// assert_eq!(plates.get()?, "white");
/// assert_eq!(plates.get()?, "blue");
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct LifoQueue<T> {
    stock: Stock<T>,
}

stocked!(LifoQueue, LIFO);
made!(LifoQueue, LIFO, Last, leased: false);
puts!(LifoQueue: serde::Serialize);
gets!(LifoQueue: serde::de::DeserializeOwned, T, get, |(_, object)| object);
peeks!(LifoQueue: serde::de::DeserializeOwned, T, |(_, object)| object);
takes!(LifoQueue: serde::de::DeserializeOwned, super::Delivery<T>);
