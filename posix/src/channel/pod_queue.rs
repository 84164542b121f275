//! A queue of plain data that travels.
//!
//! ```text
//! label (128 bytes) | slot queue of the items themselves
//! ```
//!
//! All the rest is the slot queue's: see `procession_core::queue::SlotQueue`.

use bytemuck::Pod;
use procession_core::queue::{AnySlotQueue, MOST, QueueError, Room, SlotQueue};
use procession_core::region::{Member, Region};
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{CreateError, GetError, PutError};
use super::label::Label;
use super::sweep::Carrier;
use super::waits::waits;
use crate::memory::{Handle, HandleError, MemoryError, kind, refuse};
use crate::wait::sealed::Source;

/// A bounded queue of plain data between processes: as [`Queue`](super::Queue), at the speed of memory. Items are copied as they are,
/// without encoding: numbers, and structs of them that are [`Pod`].
///
/// First in, first out for each who puts. What `put` has acknowledged is got, unless the process that took it out died in the
/// middle of that: then it counts as [`lost`](Self::lost). Anybody may be killed at any moment; the others go on.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same queue. It needs no descriptor. Items are
/// aligned to 8 bytes at most: others do not compile.
///
/// Cost: without contention a put or a get is one compare-and-swap and one store; no system call, no allocation. Each place
/// takes 8 bytes more than an item.
///
/// ```
/// use procession_posix::channel::{GetError, PodQueue};
///
/// let queue = PodQueue::<[u32; 2]>::bounded(100)?;
/// queue.put([1, 2])?;
/// assert_eq!(queue.put_many(&[[3, 4], [5, 6]])?, 2);
/// assert_eq!(queue.get()?, [1, 2]);
/// assert_eq!(queue.get_many(10)?, [[3, 4], [5, 6]]);
/// queue.close();
/// assert!(matches!(queue.get(), Err(GetError::Closed)));
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct PodQueue<T: 'static> {
    slots: SlotQueue<'static, T>,
    me: Member<'static>,
    handle: Handle,
}

impl<T> Clone for PodQueue<T> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), ..*self }
    }
}

impl<T: Pod> std::fmt::Debug for PodQueue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodQueue").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// Where the slots lie behind the label.
fn slots_of(offset: u64) -> u64 {
    offset + size_of::<Label>() as u64
}

/// How many bytes a queue takes.
fn bytes_for<T: Pod>(capacity: u64) -> u64 {
    const { assert!(align_of::<T>() <= 8, "a sweep has to find the places of any queue") };
    SlotQueue::<T>::bytes_for(capacity).saturating_add(size_of::<Label>() as u64)
}

impl<T: Pod> PodQueue<T> {
    /// A queue that holds at most `capacity` items.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or no queue can have this capacity (1 to 2³⁰).
    pub fn bounded(capacity: usize) -> Result<Self, CreateError> {
        let capacity = capacity as u64;
        if capacity == 0 || capacity > MOST {
            return Err(QueueError::Capacity { asked: capacity, most: MOST }.into());
        }
        let handle = Handle::allocate(kind::PODQUEUE, bytes_for::<T>(capacity))?;
        let region = handle.arena().region();
        let label = region.object::<Label>(handle.offset()).map_err(MemoryError::from)?;
        label.write::<T>(size_of::<T>() as u64);
        let slots = SlotQueue::create(region, slots_of(handle.offset()), capacity)?;
        Ok(Self { slots, me: handle.arena().member(), handle })
    }

    fn attach(handle: Handle) -> Result<Self, HandleError> {
        let region = handle.arena().region();
        let label = region.object::<Label>(handle.offset()).map_err(MemoryError::from)?;
        label.read::<T>()?;
        // That it holds items of this size, the slots say.
        let slots = SlotQueue::<T>::attach(region, slots_of(handle.offset()))
            .map_err(|error| HandleError::Content(error.to_string()))?;
        let capacity = slots.capacity() as u64;
        if bytes_for::<T>(capacity) > handle.room()?.capacity {
            return Err(HandleError::Content(QueueError::Damaged { capacity }.to_string()));
        }
        Ok(Self { slots, me: handle.arena().member(), handle })
    }

    /// How many items are in the queue: true at some moment during the call while nobody is just putting or getting.
    #[must_use]
    pub fn qsize(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is in it. After a `put` has returned and before anybody gets, this says no.
    #[must_use]
    pub fn empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether it holds as much as it can.
    #[must_use]
    pub fn full(&self) -> bool {
        self.slots.is_full()
    }

    /// How many items it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// How many items were lost since the queue was made: each was in the hand of a process that died while it took it out. As
    /// far as somebody has met the dead one's place.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.slots.lost()
    }

    /// What those who put wait for together with other objects; see [`Queue::room`](super::Queue::room).
    #[must_use]
    pub fn room(&self) -> PodQueueRoom<T> {
        PodQueueRoom { room: self.slots.room(), queue: self.clone() }
    }

    /// Closes the queue for all: nothing is put any more, what is there can still be got. Doing it twice is fine.
    pub fn close(&self) {
        self.slots.close(self.me);
    }

    /// Closes the queue; if `immediate`, also throws away what is in it, and whoever gets is told at once that it is closed.
    pub fn shutdown(&self, immediate: bool) {
        self.slots.shutdown(self.me, immediate);
        if immediate {
            // Nothing is left, or a place that somebody is just using: that is nobody's to get.
            while self.slots.drain(self.me, Deadline::NOW, |_, _| {}).is_ok() {}
        }
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.slots.is_closed()
    }

    waits!(put_until as put, put_nowait, put_timeout (item: T) -> Result<(), PutError>, "Puts an item.");

    waits!(get_until as get, get_nowait, get_timeout () -> Result<T, GetError>, "Gets the next item.");

    waits!(peek_until as peek, peek_nowait, peek_timeout () -> Result<T, GetError>,
        "A copy of the next item, which stays where it is.");

    waits!(put_many_until as put_many, put_many_nowait, put_many_timeout
        (items: &[T]) -> Result<usize, PutError>,
        "Puts items, in order, and says how many: see [`put_many_until`](Self::put_many_until).");

    waits!(get_many_until as get_many, get_many_nowait, get_many_timeout
        (most: usize) -> Result<Vec<T>, GetError>,
        "Gets as many items as are there, at most `most` and at least one.");

    waits!(get_many_into_until as get_many_into, get_many_into_nowait, get_many_into_timeout
        (room: &mut [T]) -> Result<usize, GetError>,
        "Gets as many items as are there and fit, at least one, and says how many.");

    waits!(get_latest_until as get_latest, get_latest_nowait, get_latest_timeout
        () -> Result<(T, usize), GetError>,
        "Gets the newest item, and says how many older ones were passed over: nobody gets those.");

    /// Puts an item, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` or `Busy` with [`Deadline::NOW`]), `Closed`, `Corrupt`, `Join`.
    #[inline]
    pub fn put_until(&self, item: T, deadline: Deadline) -> Result<(), PutError> {
        Ok(self.slots.push_until(self.me, deadline, item)?)
    }

    /// Gets the next item, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]), `Closed` when the queue is closed and drained; `Corrupt`, `Join`.
    #[inline]
    pub fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        Ok(self.slots.pop_until(self.me, deadline)?)
    }

    /// A copy of the next item, which stays where it is. Waits for one until `deadline`. Another process may get it first.
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until).
    pub fn peek_until(&self, deadline: Deadline) -> Result<T, GetError> {
        Ok(self.slots.peek_until(self.me, deadline)?)
    }

    /// Puts items, in order, waiting for room until `deadline`, and says how many: all of them, unless something kept it from
    /// putting the next one. The reason is the error of the next call.
    ///
    /// # Errors
    /// As [`put_until`](Self::put_until): then none was put.
    pub fn put_many_until(&self, items: &[T], deadline: Deadline) -> Result<usize, PutError> {
        let mut put = 0;
        while put < items.len() {
            match self.slots.push_many(self.me, deadline, &items[put..]) {
                Ok(count) => put += count,
                Err(error) if put == 0 => return Err(error.into()),
                Err(_) => break,
            }
        }
        Ok(put)
    }

    /// Gets as many items as are there, at most `most` and (if that is not 0) at least one, waiting for the first until
    /// `deadline`.
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until): then none was got.
    pub fn get_many_until(&self, most: usize, deadline: Deadline) -> Result<Vec<T>, GetError> {
        let mut got = vec![T::zeroed(); most.min(self.capacity())];
        let count = self.get_many_into_until(&mut got, deadline)?;
        got.truncate(count);
        Ok(got)
    }

    /// Gets as many items as are there and fit into `room`, at least one, and says how many. Waits for the first until
    /// `deadline`. No allocation.
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until): then none was got.
    #[inline]
    pub fn get_many_into_until(
        &self,
        room: &mut [T],
        deadline: Deadline,
    ) -> Result<usize, GetError> {
        Ok(self.slots.pop_many(self.me, deadline, room)?)
    }

    /// Gets the newest item and passes over all before it, and says how many those were: nobody gets them. Waits for one until
    /// `deadline`.
    ///
    /// # Errors
    /// As [`get_until`](Self::get_until): then none was got.
    pub fn get_latest_until(&self, deadline: Deadline) -> Result<(T, usize), GetError> {
        Ok(self.slots.pop_latest(self.me, deadline)?)
    }

    /// Gets one item after the other, waiting for each, until the queue is closed and drained. Damage comes again and again.
    pub fn iter(&self) -> impl Iterator<Item = Result<T, GetError>> {
        std::iter::from_fn(|| match self.get() {
            Err(GetError::Closed) => None,
            got => Some(got),
        })
    }

    /// Gets one item after the other until nothing is there.
    pub fn try_iter(&self) -> impl Iterator<Item = Result<T, GetError>> {
        std::iter::from_fn(|| match self.get_nowait() {
            Err(GetError::Closed | GetError::Empty) => None,
            got => Some(got),
        })
    }
}

impl<T: Pod> Source for PodQueue<T> {
    fn source(&self) -> &dyn Waitable {
        &self.slots
    }

    fn me(&self) -> Member<'static> {
        self.me
    }
}

/// The other side of a queue, for those who put. See [`PodQueue::room`].
pub struct PodQueueRoom<T: 'static> {
    room: Room<'static, T>,
    // Keeps the queue.
    queue: PodQueue<T>,
}

impl<T> Clone for PodQueueRoom<T> {
    fn clone(&self) -> Self {
        Self { room: self.room, queue: self.queue.clone() }
    }
}

impl<T: Pod> std::fmt::Debug for PodQueueRoom<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PodQueueRoom").field(&self.queue).finish()
    }
}

impl<T: Pod> Source for PodQueueRoom<T> {
    fn source(&self) -> &dyn Waitable {
        &self.room
    }

    fn me(&self) -> Member<'static> {
        self.queue.me
    }
}

impl<T> Serialize for PodQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for PodQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = Handle::deserialize(deserializer, kind::PODQUEUE, bytes_for::<T>(1))?;
        Self::attach(handle).map_err(refuse)
    }
}

fn find(
    region: &Region<'static>,
    offset: u64,
    room: u64,
) -> Result<AnySlotQueue<'static>, QueueError> {
    let room = room.saturating_sub(size_of::<Label>() as u64);
    AnySlotQueue::attach(region, slots_of(offset), room)
}

/// How sweeps find their way in a queue, whose items they do not know.
pub(super) const CARRIER: Carrier = Carrier {
    kind: kind::PODQUEUE,
    sweep: |region, me, object, room| {
        // Else it may be freed meanwhile.
        !region.is_shared(object)
            || find(region, object.offset, room).is_ok_and(|queue| queue.sweep(me).is_ok())
    },
    passed: |region, offset, room, ticket| {
        find(region, offset, room).is_ok_and(|queue| queue.has_passed(ticket))
    },
};
