//! The queue with the fewest calls.

use procession_core::sys::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CreateError, GetError, PutError};
use super::forms::stocked;
use super::queue::QueueOptions;
use super::stock::Stock;
use crate::memory::kind;
use procession_core::queue::Order;

/// A queue without limit, as `multiprocessing.SimpleQueue`: put, get, empty, close.
///
/// It grows as far as there is memory, so `put` waits for nobody. All else is as with [`Queue`](super::Queue), also that
/// anybody may be killed at any moment.
///
/// ```
/// use procession_posix::channel::SimpleQueue;
///
/// let words = SimpleQueue::new()?;
/// words.put(&"hello".to_string())?;
/// assert!(!words.empty());
/// assert_eq!(words.get()?, "hello");
/// assert!(words.empty());
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct SimpleQueue<T> {
    stock: Stock<T>,
}

stocked!(SimpleQueue, STORE);

impl<T> SimpleQueue<T> {
    /// An empty queue.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room.
    pub fn new() -> Result<Self, CreateError> {
        let options = QueueOptions::unbounded();
        Ok(Self { stock: Stock::create(kind::STORE, Order::First, false, options)? })
    }
}

impl<T: Serialize> SimpleQueue<T> {
    /// Puts an object.
    ///
    /// # Errors
    /// `Closed`, `TooLarge`, `Encode`, `Memory`, `Corrupt`, `Join`.
    pub fn put(&self, object: &T) -> Result<(), PutError> {
        self.stock.put(0, object, Deadline::NEVER)
    }
}

impl<T: DeserializeOwned> SimpleQueue<T> {
    /// Gets the next object, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `Closed` when the queue is closed and drained; `Decode`, `Corrupt`, `Join`.
    pub fn get(&self) -> Result<T, GetError> {
        self.stock.get(Deadline::NEVER).map(|(_, object)| object)
    }
}
