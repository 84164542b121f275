//! A queue whose least object comes first.

use super::forms::{gets, made, peeks, puts, stocked, takes};
use super::stock::Stock;

/// A queue of objects with priorities between processes, as `queue.PriorityQueue` for processes: the lowest comes first, equal
/// ones in the order in which they were put.
///
/// Many may put, many may get; anybody may be killed at any moment, and the others go on. What `put` has acknowledged is got,
/// unless the process that got it is killed before it had it: then it is [counted](Self::lost), or, if made so
/// ([`at_least_once`](super::QueueOptions::at_least_once)), delivered to another.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same queue. It needs no descriptor.
///
/// Cost: a put or a get takes a lock for some hundred nanoseconds, and a step for each doubling of the number of objects;
/// no system call as long as nobody has to wait. Each object takes about 180 bytes of memory, and more if it is
/// longer than 104 bytes as encoded.
///
/// ```
/// use procession_posix::channel::PriorityQueue;
///
/// let jobs = PriorityQueue::unbounded()?;
/// jobs.put(5, &"sweep".to_string())?;
/// jobs.put(-1, &"put out the fire".to_string())?;
/// jobs.put(5, &"water the plants".to_string())?;
/// assert_eq!(jobs.peek()?.0, -1);
///
/// let order: Vec<_> = jobs.try_iter().collect::<Result<_, _>>()?;
/// assert_eq!(order[0], (-1, "put out the fire".to_string()));
/// assert_eq!(order[1].1, "sweep");
/// assert_eq!(order[2].1, "water the plants");
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct PriorityQueue<T> {
    stock: Stock<T>,
}

stocked!(PriorityQueue, PRIORITY);
made!(PriorityQueue, PRIORITY, Least, leased: false);
puts!(PriorityQueue: serde::Serialize, priority);
gets!(PriorityQueue: serde::de::DeserializeOwned, (i64, T), get, |got| got);
peeks!(PriorityQueue: serde::de::DeserializeOwned, (i64, T), |got| got);
takes!(PriorityQueue: serde::de::DeserializeOwned, super::Delivery<T>);
