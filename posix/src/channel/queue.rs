//! A queue of objects that travels.
//!
//! ```text
//! label (128 bytes) | slot queue of messages, 128 bytes each
//! ```
//!
//! How an object gets into a message and out of it, `parcel.rs` says.
//!
//! So a bounded queue that delivers at most once. One that grows, or delivers at least once, is a `Stock`, which takes a lock.

mod many;
mod peek;

use std::marker::PhantomData;
use std::time::Duration;

use procession_core::queue::{Order, QueueError, Room, SlotQueue};
use procession_core::region::{Member, Region};
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::delivery::Delivery;
use super::error::{CreateError, GetError, PutError};
use super::label::{Label, MOST_LARGEST, USUAL_LARGEST};
use super::message::Message;
use super::parcel::{Arrival, Found, Parcel};
use super::stock::{Stock, StockRoom};
use super::sweep::Carrier;
use super::waits::waits;
use crate::memory::{Arena, Handle, HandleError, MemoryError, kind, refuse};
use crate::wait::sealed::Source;

/// How long a shutdown waits for objects that are just being put: a living process needs some 100 ns, unless it is stopped.
const FOR_THOSE_WHO_PUT: Duration = Duration::from_millis(10);

/// How a queue is to be.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct QueueOptions {
    /// `None`: as many as memory holds.
    pub(super) capacity: Option<usize>,
    pub(super) largest: u64,
    /// At least once.
    pub(super) again: bool,
}

impl QueueOptions {
    /// A queue that holds at most `capacity` objects, at least 1.
    pub fn bounded(capacity: usize) -> Self {
        Self { capacity: Some(capacity), largest: USUAL_LARGEST, again: false }
    }

    /// A queue that holds as many objects as there is memory for (2²⁶ at most): it grows, and shrinks again.
    pub fn unbounded() -> Self {
        Self { capacity: None, largest: USUAL_LARGEST, again: false }
    }

    /// Whoever gets an object has it on loan until it is done with it: if it is killed before, or gives it up, the
    /// object goes back to the front of the queue and is delivered again. Without this an object that was got is lost
    /// with the process that had got it.
    ///
    /// `get` is done with the object when it returns, and a death at that moment takes it along; whoever needs it done for sure
    /// uses `take`, and says when it is. Such a queue takes a lock for each call, as one without limit does.
    pub fn at_least_once(self) -> Self {
        Self { again: true, ..self }
    }

    /// The largest object that it takes, in bytes as encoded; 64 MiB by default, 4 GiB at most.
    pub fn largest_object(self, bytes: u64) -> Self {
        Self { largest: bytes.min(MOST_LARGEST), ..self }
    }

    /// Makes the queue.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or no queue can have this capacity.
    pub fn create<T>(self) -> Result<Queue<T>, CreateError> {
        Queue::create(self)
    }
}

/// A queue of objects between processes, as `multiprocessing.Queue`: many may put, many may get.
///
/// First in, first out for each who puts. What `put` has acknowledged is got, unless the process that got it is killed
/// before it gave it to anybody. Anybody may be killed at any moment; the others go on. There is no feeder thread:
/// when `put` returns the object is in the queue, encoded, and errors of encoding are the caller's.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same queue. It needs no descriptor.
///
/// Cost: an object of up to 104 encoded bytes is put and got without system call and without allocation of shared memory
/// as long as nobody has to wait. Each place takes 128 bytes of memory.
///
/// ```
/// use procession_posix::channel::{GetError, PutError, Queue};
/// use std::time::Duration;
///
/// let queue = Queue::bounded(2)?;
/// queue.put(&("one".to_string(), 1))?;
/// queue.put(&("two".to_string(), 2))?;
/// assert!(queue.full());
/// assert!(matches!(queue.put_nowait(&("three".to_string(), 3)), Err(PutError::Full)));
/// assert_eq!(queue.get()?, ("one".to_string(), 1));
/// queue.close();
/// assert_eq!(queue.get_timeout(Duration::from_secs(1))?, ("two".to_string(), 2));
/// assert!(matches!(queue.get(), Err(GetError::Closed)));
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct Queue<T> {
    engine: Engine<T>,
}

enum Engine<T> {
    Slots(Slots<T>),
    Stock(Stock<T>),
}

use Engine::{Slots as Bounded, Stock as Stocked};

/// The bounded queue that delivers at most once.
struct Slots<T> {
    slots: SlotQueue<'static, Message>,
    me: Member<'static>,
    largest: u64,
    handle: Handle,
    carries: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), ..*self }
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        let engine = match &self.engine {
            Bounded(slots) => Bounded(slots.clone()),
            Stocked(stock) => Stocked(stock.clone()),
        };
        Self { engine }
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.engine {
            Bounded(slots) => f.debug_tuple("Queue").field(&slots.slots).finish(),
            Stocked(stock) => f.debug_tuple("Queue").field(stock).finish(),
        }
    }
}

impl<T> Queue<T> {
    /// A queue that holds at most `capacity` objects, of at most 64 MiB each.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or no queue can have this capacity (1 to 2³⁰).
    pub fn bounded(capacity: usize) -> Result<Self, CreateError> {
        QueueOptions::bounded(capacity).create()
    }

    /// A queue that grows as far as there is memory (2²⁶ objects at most), and shrinks again: `put` waits for nobody. Objects of at
    /// most 64 MiB each.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room.
    pub fn unbounded() -> Result<Self, CreateError> {
        QueueOptions::unbounded().create()
    }

    fn create(options: QueueOptions) -> Result<Self, CreateError> {
        let engine = match options {
            QueueOptions { capacity: Some(capacity), again: false, largest } => {
                Bounded(Slots::create(capacity as u64, largest)?)
            }
            options => Stocked(Stock::create(kind::STORE, Order::First, false, options)?),
        };
        Ok(Self { engine })
    }

    fn arena(&self) -> &'static Arena {
        match &self.engine {
            Bounded(slots) => slots.arena(),
            Stocked(stock) => stock.arena(),
        }
    }

    fn largest(&self) -> u64 {
        match &self.engine {
            Bounded(slots) => slots.largest,
            Stocked(stock) => stock.largest(),
        }
    }

    /// How many objects are in the queue: true at some moment during the call while nobody is just putting or getting.
    #[must_use]
    pub fn qsize(&self) -> usize {
        match &self.engine {
            Bounded(slots) => slots.slots.len(),
            Stocked(stock) => stock.store().len(),
        }
    }

    /// Whether nothing is in it. After a `put` has returned and before anybody gets, this says no.
    #[must_use]
    pub fn empty(&self) -> bool {
        match &self.engine {
            Bounded(slots) => slots.slots.is_empty(),
            Stocked(stock) => stock.store().is_empty(),
        }
    }

    /// Whether it holds as much as it can.
    #[must_use]
    pub fn full(&self) -> bool {
        match &self.engine {
            Bounded(slots) => slots.slots.is_full(),
            Stocked(stock) => stock.store().is_full(),
        }
    }

    /// How many objects it can hold; 2²⁶ if nothing but memory limits it.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match &self.engine {
            Bounded(slots) => slots.slots.capacity(),
            Stocked(stock) => stock.store().plan().capacity as usize,
        }
    }

    /// What those who put wait for together with other objects: ready when a `put` would not wait. (The queue itself is
    /// ready when a `get` would not.)
    ///
    /// ```
    /// use procession_posix::channel::Queue;
    /// use procession_posix::wait::wait;
    ///
    /// let (near, far) = (Queue::bounded(1)?, Queue::bounded(1)?);
    /// near.put(&1)?;
    /// assert_eq!(wait(&[&near.room(), &far.room(), &near, &far]), [1, 2]);
    /// # far.put(&2)?;
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[must_use]
    pub fn room(&self) -> QueueRoom<T> {
        let room = match &self.engine {
            Bounded(slots) => EngineRoom::Slots(slots.slots.room()),
            Stocked(stock) => EngineRoom::Stock(StockRoom::new(stock)),
        };
        QueueRoom { room, queue: self.clone() }
    }

    /// Closes the queue for all: nothing is put any more, what is there can still be got. Doing it twice is fine.
    pub fn close(&self) {
        match &self.engine {
            Bounded(slots) => slots.slots.close(slots.me),
            Stocked(stock) => stock.shutdown(false),
        }
    }

    /// Closes the queue, as `queue.shutdown` of Python does. If `immediate`, what is in it is thrown away as well, and whoever
    /// gets, or waits to get, is told at once that the queue is closed.
    ///
    /// Waits some milliseconds at most, for objects that are just being put: those are thrown away, too.
    pub fn shutdown(&self, immediate: bool) {
        match &self.engine {
            Bounded(slots) => slots.shutdown(immediate),
            Stocked(stock) => stock.shutdown(immediate),
        }
    }

    /// How many objects were lost since the queue was made: each was in the hand of a process that died while it took it out of
    /// the queue. As far as somebody has met the dead one's place: whoever gets or puts does, and so does a sweep.
    ///
    /// An object that was out of the queue and not yet decoded, when its process died, is not among them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        match &self.engine {
            Bounded(slots) => slots.slots.lost(),
            Stocked(stock) => stock.store().lost(),
        }
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.engine {
            Bounded(slots) => slots.slots.is_closed(),
            Stocked(stock) => stock.store().is_closed(),
        }
    }
}

impl<T> Slots<T> {
    fn create(capacity: u64, largest: u64) -> Result<Self, CreateError> {
        let most = procession_core::queue::MOST;
        if capacity == 0 || capacity > most {
            return Err(
                procession_core::queue::QueueError::Capacity { asked: capacity, most }.into()
            );
        }
        let bytes = size_of::<Label>() as u64 + SlotQueue::<Message>::bytes_for(capacity);
        let handle = Handle::allocate(kind::QUEUE, bytes)?;
        let region = handle.arena().region();
        let label = region.object::<Label>(handle.offset()).map_err(MemoryError::from)?;
        label.write::<T>(largest);
        // Each queue at this place starts elsewhere, so that a block that was left in an earlier one is not taken for
        // one of this one's: by the golden ratio the starts lie far apart.
        let first = u64::from(handle.generation()).wrapping_mul(0x9E37_79B9);
        let slots = SlotQueue::create_at(region, slots_of(handle.offset()), capacity, first)?;
        let me = handle.arena().member();
        Ok(Self { slots, me, largest, handle, carries: PhantomData })
    }

    fn attach(handle: Handle) -> Result<Self, HandleError> {
        let region = handle.arena().region();
        let label = region.object::<Label>(handle.offset()).map_err(MemoryError::from)?;
        let largest = label.read::<T>()?;
        let slots = find(region, handle.offset(), handle.room()?.capacity)
            .map_err(|error| HandleError::Content(error.to_string()))?;
        let me = handle.arena().member();
        Ok(Self { slots, me, largest, handle, carries: PhantomData })
    }

    fn arena(&self) -> &'static Arena {
        self.handle.arena()
    }

    fn shutdown(&self, immediate: bool) {
        self.slots.shutdown(self.me, immediate);
        if !immediate {
            return;
        }
        let queue = self.handle.offset();
        let read = |ticket, place: *mut _| {
            // SAFETY: the place is this process's while this runs. What arrives is dropped here.
            unsafe { Arrival::new(self.arena()).take(place, queue, ticket) };
        };
        let soon = Deadline::after(FOR_THOSE_WHO_PUT);
        // Until it is drained, or late: then what is left goes with the queue.
        while self.slots.drain(self.me, soon, read).is_ok() {}
    }
}

impl<T: Serialize> Slots<T> {
    #[inline]
    fn put(&self, object: &T, deadline: Deadline) -> Result<(), PutError> {
        let mut parcel = Parcel::new(self.arena());
        parcel.pack(object, self.largest)?;
        let queue = self.handle.offset();
        let sent = self.slots.push_with(self.me, deadline, |ticket, place| {
            // SAFETY: the place is this process's while this runs.
            unsafe { parcel.dispatch(queue, ticket, place) }
        })?;
        sent.map_err(|_| PutError::Corrupt)
    }
}

impl<T: DeserializeOwned> Slots<T> {
    #[inline]
    fn get(&self, deadline: Deadline) -> Result<T, GetError> {
        let mut arrival = Arrival::new(self.arena());
        let queue = self.handle.offset();
        loop {
            let found = self.slots.pop_with(self.me, deadline, |ticket, place| {
                // SAFETY: the place is this process's while this runs.
                unsafe { arrival.take(place, queue, ticket) }
            })?;
            match found {
                Found::Object => return arrival.unpack(GetError::unpacked::<T>),
                Found::Void => {}
                Found::Damage => return Err(GetError::Corrupt),
            }
        }
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts an object, waiting for room as long as it takes.
    ///
    /// # Errors
    /// `Closed`, `TooLarge`, `Encode`, `Memory`, `Corrupt`, `Join`.
    #[inline]
    pub fn put(&self, object: &T) -> Result<(), PutError> {
        self.put_until(object, Deadline::NEVER)
    }

    /// Puts an object if there is room now.
    ///
    /// # Errors
    /// `Full` or `Busy`; otherwise as [`put`](Self::put).
    #[inline]
    pub fn put_nowait(&self, object: &T) -> Result<(), PutError> {
        self.put_until(object, Deadline::NOW)
    }

    /// Puts an object, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` or `Busy` if it is zero); otherwise as [`put`](Self::put).
    #[inline]
    pub fn put_timeout(&self, object: &T, timeout: Duration) -> Result<(), PutError> {
        self.put_until(object, Deadline::after(timeout))
    }

    /// Puts an object, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` or `Busy` with [`Deadline::NOW`]); otherwise as [`put`](Self::put).
    #[inline]
    pub fn put_until(&self, object: &T, deadline: Deadline) -> Result<(), PutError> {
        match &self.engine {
            Bounded(slots) => slots.put(object, deadline),
            Stocked(stock) => stock.put(0, object, deadline),
        }
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets the next object, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `Closed` when the queue is closed and drained; `Decode`, `Corrupt`, `Join`.
    #[inline]
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Gets the next object if there is one now.
    ///
    /// # Errors
    /// `Empty` or `Busy`; otherwise as [`get`](Self::get).
    #[inline]
    pub fn get_nowait(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Gets the next object, waiting for one for at most `timeout`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` if it is zero); otherwise as [`get`](Self::get).
    #[inline]
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(timeout))
    }

    /// Gets the next object, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]); otherwise as [`get`](Self::get).
    #[inline]
    pub fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        match &self.engine {
            Bounded(slots) => slots.get(deadline),
            Stocked(stock) => stock.get(deadline).map(|(_, object)| object),
        }
    }

    waits!(take_until as take, take_nowait, take_timeout
        () -> Result<Delivery<T>, GetError>,
        "Takes the next object, on loan until it is done: see [`take_until`](Self::take_until).");

    /// Takes the next object, waiting for one until `deadline`. If the queue delivers at least once, it is out of the queue when
    /// the [`Delivery`] is done; given up before, or its process killed, it goes back. Else it is out of the queue at once, as
    /// with [`get_until`](Self::get_until).
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until).
    pub fn take_until(&self, deadline: Deadline) -> Result<Delivery<T>, GetError> {
        match &self.engine {
            Bounded(slots) => slots.get(deadline).map(Delivery::of_done),
            Stocked(stock) => stock.take(deadline),
        }
    }

    /// Gets one object after the other, waiting for each, until the queue is closed and drained. What cannot be got is an
    /// error in its turn: an object that cannot be decoded is passed over, damage comes again and again.
    ///
    /// ```
    /// use procession_posix::channel::Queue;
    ///
    /// let lines = Queue::bounded(10)?;
    /// lines.put(&"one".to_string())?;
    /// lines.put(&"two".to_string())?;
    /// lines.close();
    /// for line in &lines {
    ///     println!("{}", line?.to_uppercase());
    /// }
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self }
    }

    /// Gets one object after the other until nothing is there. Errors as with [`iter`](Self::iter).
    pub fn try_iter(&self) -> impl Iterator<Item = Result<T, GetError>> {
        std::iter::from_fn(|| match self.get_nowait() {
            Err(GetError::Closed | GetError::Empty) => None,
            got => Some(got),
        })
    }
}

/// The objects of a queue, until it is closed and drained. See [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'q, T> {
    queue: &'q Queue<T>,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.queue.get() {
            Err(GetError::Closed) => None,
            got => Some(got),
        }
    }
}

impl<'q, T: DeserializeOwned> IntoIterator for &'q Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'q, T>;

    fn into_iter(self) -> Iter<'q, T> {
        self.iter()
    }
}

/// The objects of a queue that belongs to the iterator, until it is closed and drained. See [`Queue::iter`].
#[derive(Debug)]
pub struct IntoIter<T> {
    queue: Queue<T>,
}

impl<T: DeserializeOwned> Iterator for IntoIter<T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.queue.iter().next()
    }
}

impl<T: DeserializeOwned> IntoIterator for Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { queue: self }
    }
}

impl<T: 'static> Source for Queue<T> {
    fn source(&self) -> &dyn Waitable {
        match &self.engine {
            Bounded(slots) => &slots.slots,
            Stocked(stock) => stock.store(),
        }
    }

    fn me(&self) -> Member<'static> {
        self.arena().member()
    }
}

/// The other side of a queue, for those who put. See [`Queue::room`].
pub struct QueueRoom<T> {
    room: EngineRoom,
    // Keeps the queue.
    queue: Queue<T>,
}

#[derive(Clone)]
enum EngineRoom {
    Slots(Room<'static, Message>),
    Stock(StockRoom),
}

impl<T> Clone for QueueRoom<T> {
    fn clone(&self) -> Self {
        Self { room: self.room.clone(), queue: self.queue.clone() }
    }
}

impl<T> std::fmt::Debug for QueueRoom<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("QueueRoom").field(&self.queue).finish()
    }
}

impl<T: 'static> Source for QueueRoom<T> {
    fn source(&self) -> &dyn Waitable {
        match &self.room {
            EngineRoom::Slots(room) => room,
            EngineRoom::Stock(room) => room.source(),
        }
    }

    fn me(&self) -> Member<'static> {
        self.queue.arena().member()
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.engine {
            Bounded(slots) => slots.handle.serialize(serializer),
            Stocked(stock) => stock.serialize(serializer),
        }
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = Handle::deserialize_one_of(deserializer, &[kind::QUEUE, kind::STORE])?;
        let engine = if handle.kind() == kind::QUEUE {
            Slots::attach(handle).map(Bounded)
        } else {
            Stock::attach(handle).map(Stocked)
        };
        Ok(Self { engine: engine.map_err(refuse)? })
    }
}

fn slots_of(offset: u64) -> u64 {
    offset + size_of::<Label>() as u64
}

/// The slots of the queue at `offset`, if they lie within the `room` of its object: a damaged capacity must not reach others.
fn find(
    region: &Region<'static>,
    offset: u64,
    room: u64,
) -> Result<SlotQueue<'static, Message>, QueueError> {
    let slots = SlotQueue::<Message>::attach(region, slots_of(offset))?;
    let capacity = slots.capacity() as u64;
    let bytes = SlotQueue::<Message>::bytes_for(capacity).saturating_add(size_of::<Label>() as u64);
    if bytes > room { Err(QueueError::Damaged { capacity }) } else { Ok(slots) }
}

/// How sweeps find their way in a queue.
pub(super) const CARRIER: Carrier = Carrier {
    kind: kind::QUEUE,
    sweep: |region, me, object, room| {
        // Else it may be freed meanwhile.
        !region.is_shared(object)
            || find(region, object.offset, room).is_ok_and(|queue| queue.sweep(me).is_ok())
    },
    passed: |region, offset, room, ticket| {
        find(region, offset, room).is_ok_and(|queue| queue.has_passed(ticket))
    },
};
