//! Queues between threads: the names and calls of [`channel`](crate::channel), over the memory of one process.
//!
//! Objects are moved, not encoded. `put` takes a reference, as between processes, and puts a clone; `give` moves the
//! object itself, and needs no `Clone`.

mod delivery;
mod room;
mod state;
mod stock;

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use procession_core::queue::Order;
use procession_core::sys::Deadline;

use crate::channel::forms::{asked, gets, peeks, puts, takes};
use crate::channel::waits::waits;
use crate::channel::{
    CreateError, GetError, GetManyError, JoinTasksError, PutError, TaskDoneError,
};
pub use delivery::Delivery;
pub use room::QueueRoom;
pub(super) use stock::Plan;
pub(super) use stock::Stock;

/// An object that was not put, and why. See [`Queue::give`].
pub struct NotPut<T> {
    /// The object.
    pub object: T,
    /// Why.
    pub error: PutError,
}

impl<T> std::fmt::Debug for NotPut<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotPut").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> std::fmt::Display for NotPut<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for NotPut<T> {}

impl<T> From<NotPut<T>> for crate::Error {
    /// The object is dropped.
    fn from(not: NotPut<T>) -> Self {
        Self::Put(not.error)
    }
}

/// How a queue of threads is to be; see [`channel::QueueOptions`](crate::channel::QueueOptions).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct QueueOptions {
    capacity: Option<usize>,
    again: bool,
}

impl QueueOptions {
    /// A queue that holds at most `capacity` objects, at least 1.
    pub fn bounded(capacity: usize) -> Self {
        Self { capacity: Some(capacity), again: false }
    }

    /// A queue that holds as many objects as there is memory for.
    pub fn unbounded() -> Self {
        Self { capacity: None, again: false }
    }

    /// Whoever takes an object has it on loan until it is done with it: dropped before, by a panic for example, the object
    /// goes back to the front of the queue and is delivered again.
    pub fn at_least_once(self) -> Self {
        Self { again: true, ..self }
    }

    /// Nothing: objects of threads are not encoded, and have no size. It is here for programs that know both kinds.
    pub fn largest_object(self, _bytes: u64) -> Self {
        self
    }

    /// Makes the queue.
    ///
    /// # Errors
    /// [`CreateError`] if no queue can have this capacity.
    pub fn create<T>(self) -> Result<Queue<T>, CreateError> {
        Queue::with(self)
    }

    fn plan(self, order: Order, counts: bool) -> Plan {
        Plan { capacity: self.capacity, order, again: self.again, counts }
    }
}

/// What all have in common.
macro_rules! queue {
    ($type:ident) => {
        asked!($type);

        impl<T> Clone for $type<T> {
            fn clone(&self) -> Self {
                Self { stock: Arc::clone(&self.stock) }
            }
        }

        impl<T> std::fmt::Debug for $type<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.stock).finish()
            }
        }

        impl<T> $type<T> {
            /// What those who put wait for together with other objects: ready when a `put` would not wait. (The queue itself is
            /// ready when a `get` would not.)
            #[must_use]
            pub fn room(&self) -> QueueRoom<T> {
                QueueRoom::new(&self.stock)
            }
        }

        impl<T: Send + 'static> crate::wait::sealed::Source for $type<T> {
            fn source(&self) -> &dyn procession_core::wait::Waitable {
                &*self.stock
            }

            fn me(&self) -> procession_core::region::Member<'static> {
                self.stock.me()
            }
        }
    };
}

/// How one is made.
macro_rules! made {
    ($type:ident, $order:ident, counts: $counts:literal) => {
        impl<T> $type<T> {
            /// A queue in which at most `capacity` objects wait, at least 1; each is delivered at most once.
            ///
            /// # Errors
            /// [`CreateError`] if no queue can have this capacity.
            pub fn bounded(capacity: usize) -> Result<Self, CreateError> {
                Self::with(QueueOptions::bounded(capacity))
            }

            /// A queue that grows as far as there is memory; objects are delivered at most once.
            ///
            /// # Errors
            /// [`CreateError`] if there is no memory.
            pub fn unbounded() -> Result<Self, CreateError> {
                Self::with(QueueOptions::unbounded())
            }

            /// A queue as the options say.
            ///
            /// # Errors
            /// [`CreateError`] if no queue can have this capacity.
            pub fn with(options: QueueOptions) -> Result<Self, CreateError> {
                Ok(Self { stock: Stock::create(options.plan(Order::$order, $counts))? })
            }
        }
    };
}

/// Putting the object itself.
macro_rules! gives {
    ($type:ident $(, $key:ident)?) => {
        impl<T> $type<T> {
            /// Moves an object into the queue, waiting for room as long as it takes.
            ///
            /// # Errors
            /// [`NotPut`] with the object, if the queue is closed.
            pub fn give(&self $(, $key: i64)?, object: T) -> Result<(), NotPut<T>> {
                self.give_until($($key,)? object, Deadline::NEVER)
            }

            /// Moves an object into the queue, waiting for room until `deadline`.
            ///
            /// # Errors
            /// [`NotPut`] with the object, and as [`put_until`](Self::put_until).
            pub fn give_until(
                &self $(, $key: i64)?,
                object: T,
                deadline: Deadline,
            ) -> Result<(), NotPut<T>> {
                let given = self.stock.give(crate::channel::forms::key!($($key)?), object, deadline);
                given.map_err(|(error, object)| NotPut { object, error })
            }
        }
    };
}

impl<T: Clone> Stock<T> {
    fn put(&self, key: i64, object: &T, deadline: Deadline) -> Result<(), PutError> {
        self.give(key, object.clone(), deadline).map_err(|(error, _)| error)
    }
}

/// A queue of objects between threads: the [`channel::Queue`](crate::channel::Queue) of threads, and
/// `multiprocessing.dummy.Queue`. Many may put, many may get; first in, first out.
///
/// A clone is the same queue. Cost: an uncontended mutex for each call, no system call as long as nobody has to wait.
///
/// ```
/// use procession_posix::thread::{Queue, Thread};
///
/// let lines = Queue::bounded(2)?;
/// let reader = Thread::new(|lines: Queue<String>| lines.iter().count(), (lines.clone(),)).start()?;
/// for line in ["one", "two", "three"] {
///     lines.put(&line.to_string())?;
/// }
/// lines.close();
/// assert_eq!(reader.join()?, 3);
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct Queue<T> {
    stock: Arc<Stock<T>>,
}

queue!(Queue);
made!(Queue, First, counts: false);
puts!(Queue: Clone);
gives!(Queue);
gets!(Queue: Sized, T, get, |(_, object)| object);
peeks!(Queue: Clone, T, |(_, object)| object);
takes!(Queue: Sized, Delivery<T>);

impl<T: Clone> Queue<T> {
    waits!(put_many_until as put_many, put_many_nowait, put_many_timeout
        (objects: impl IntoIterator<Item = impl Borrow<T>>) -> Result<usize, PutError>,
        "Puts objects, in order, and says how many: see [`put_many_until`](Self::put_many_until).");

    /// Puts clones of objects, in order, waiting for room until `deadline`, and says how many: all of them, unless something
    /// kept it from putting the next one. The reason is the error of the next call.
    ///
    /// # Errors
    /// As [`put_until`](Self::put_until): then none was put.
    pub fn put_many_until(
        &self,
        objects: impl IntoIterator<Item = impl Borrow<T>>,
        deadline: Deadline,
    ) -> Result<usize, PutError> {
        let objects = objects.into_iter().map(|object| object.borrow().clone());
        self.stock.put_many(objects, deadline)
    }
}

impl<T> Queue<T> {
    waits!(get_many_until as get_many, get_many_nowait, get_many_timeout
        (most: usize) -> Result<Vec<T>, GetManyError<T>>,
        "Gets as many objects as are there, at most `most` and at least one: see [`get_many_until`](Self::get_many_until).");

    waits!(get_latest_until as get_latest, get_latest_nowait, get_latest_timeout
        () -> Result<(T, usize), GetError>,
        "Gets the newest object, and passes over all before it: see [`get_latest_until`](Self::get_latest_until).");

    /// Gets as many objects as are there, at most `most` and (if that is not 0) at least one, waiting for the first until
    /// `deadline`.
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until).
    pub fn get_many_until(
        &self,
        most: usize,
        deadline: Deadline,
    ) -> Result<Vec<T>, GetManyError<T>> {
        self.stock.get_many(most, deadline)
    }

    /// Gets all that is there, however much it is, and does not wait: an empty vector if nothing is.
    ///
    /// # Errors
    /// `Closed`, when the queue is closed and drained.
    pub fn drain(&self) -> Result<Vec<T>, GetManyError<T>> {
        match self.get_many_nowait(usize::MAX) {
            Err(GetManyError { error: GetError::Empty, .. }) => Ok(Vec::new()),
            answer => answer,
        }
    }

    /// Gets the newest object and passes over all before it, and says how many those were. Waits for one until `deadline`.
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until).
    pub fn get_latest_until(&self, deadline: Deadline) -> Result<(T, usize), GetError> {
        let (_, mut latest) = self.stock.get(deadline)?;
        let mut passed = 0;
        while let Ok((_, next)) = self.stock.get(Deadline::NOW) {
            latest = next;
            passed += 1;
        }
        Ok((latest, passed))
    }
}

/// The objects of a queue, until it is closed and drained. See [`Queue::iter`].
#[derive(Debug)]
pub struct IntoIter<T> {
    queue: Queue<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.queue.get() {
            Err(GetError::Closed) => None,
            got => Some(got),
        }
    }
}

impl<T> IntoIterator for Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { queue: self }
    }
}

impl<T> IntoIterator for &Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        self.clone().into_iter()
    }
}

/// A queue that knows what is unfinished: the [`channel::JoinableQueue`](crate::channel::JoinableQueue) of threads.
///
/// ```
/// use procession_posix::thread::{JoinableQueue, Thread};
///
/// fn work(tasks: JoinableQueue<u32>) {
///     while tasks.get().is_ok() {
///         tasks.task_done().unwrap();
///     }
/// }
///
/// let tasks = JoinableQueue::unbounded()?;
/// let worker = Thread::new(work, (tasks.clone(),)).start()?;
/// (0..10).try_for_each(|task| tasks.put(&task))?;
/// tasks.join()?;
/// tasks.close();
/// worker.join()?;
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct JoinableQueue<T> {
    stock: Arc<Stock<T>>,
}

queue!(JoinableQueue);
made!(JoinableQueue, First, counts: true);
puts!(JoinableQueue: Clone);
gives!(JoinableQueue);
gets!(JoinableQueue: Sized, T, get_unfinished, |(_, object)| object);
peeks!(JoinableQueue: Clone, T, |(_, object)| object);
takes!(JoinableQueue: Sized, Delivery<T>);

impl<T> JoinableQueue<T> {
    /// Says that an object that was got is done.
    ///
    /// # Errors
    /// [`TaskDoneError::TooMany`] if nobody has got anything that is not done.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        self.stock.task_done()
    }

    /// How many objects wait or were got and are not done.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.stock.unfinished()
    }

    /// Waits until nothing is unfinished, as long as it takes.
    ///
    /// # Errors
    /// [`JoinTasksError::Lost`] if some were given up, until somebody [takes note](Self::take_lost); `ShutDown` after an
    /// [immediate shutdown](Self::shutdown).
    pub fn join(&self) -> Result<(), JoinTasksError> {
        self.join_until(Deadline::NEVER)
    }

    /// Waits until nothing is unfinished, for at most `timeout`.
    ///
    /// # Errors
    /// `TimedOut` (`WouldBlock` if it is zero); otherwise as [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinTasksError> {
        self.join_until(Deadline::after(timeout))
    }

    /// Waits until nothing is unfinished, until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`WouldBlock` with [`Deadline::NOW`]); otherwise as [`join`](Self::join).
    pub fn join_until(&self, deadline: Deadline) -> Result<(), JoinTasksError> {
        self.stock.join(deadline)
    }
}

/// A queue without limit: put, get, empty, close. The [`channel::SimpleQueue`](crate::channel::SimpleQueue) of threads.
pub struct SimpleQueue<T> {
    stock: Arc<Stock<T>>,
}

queue!(SimpleQueue);

impl<T> SimpleQueue<T> {
    /// An empty queue.
    ///
    /// # Errors
    /// [`CreateError`] if there is no memory.
    pub fn new() -> Result<Self, CreateError> {
        Ok(Self { stock: Stock::create(QueueOptions::unbounded().plan(Order::First, false))? })
    }

    /// Gets the next object, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `Closed` when the queue is closed and drained.
    pub fn get(&self) -> Result<T, GetError> {
        self.stock.get(Deadline::NEVER).map(|(_, object)| object)
    }
}

impl<T: Clone> SimpleQueue<T> {
    /// Puts a clone of an object.
    ///
    /// # Errors
    /// `Closed`.
    pub fn put(&self, object: &T) -> Result<(), PutError> {
        self.stock.put(0, object, Deadline::NEVER)
    }
}

/// A stack of objects between threads: the [`channel::LifoQueue`](crate::channel::LifoQueue) of threads.
pub struct LifoQueue<T> {
    stock: Arc<Stock<T>>,
}

queue!(LifoQueue);
made!(LifoQueue, Last, counts: false);
puts!(LifoQueue: Clone);
gives!(LifoQueue);
gets!(LifoQueue: Sized, T, get, |(_, object)| object);
peeks!(LifoQueue: Clone, T, |(_, object)| object);
takes!(LifoQueue: Sized, Delivery<T>);

/// A queue of objects with priorities between threads: the [`channel::PriorityQueue`](crate::channel::PriorityQueue) of threads.
/// The lowest comes first, equal ones in the order in which they were put.
pub struct PriorityQueue<T> {
    stock: Arc<Stock<T>>,
}

queue!(PriorityQueue);
made!(PriorityQueue, Least, counts: false);
puts!(PriorityQueue: Clone, priority);
gives!(PriorityQueue, priority);
gets!(PriorityQueue: Sized, (i64, T), get, |got| got);
peeks!(PriorityQueue: Clone, (i64, T), |got| got);
takes!(PriorityQueue: Sized, Delivery<T>);
