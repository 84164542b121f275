//! A ring for one producer and one consumer.
//!
//! ```text
//! tail: u64   items ever put      written by the producer's role
//! head: u64   items ever taken    written by the consumer's role
//! item i lies at i mod N; it is there while head ≤ i < tail
//! role words: tag of who has the role, 0 for nobody
//! ```
//!
//! - A push copies items, then publishes them all by one release store of the tail; a pop copies items out, then
//!   gives their places back by one release store of the head. What was not published never happened.
//! - Each side keeps the other's index as it last saw it in its own handle, and looks again only when that says full
//!   or empty.
//! - A role is taken by one compare-and-swap, from nobody or from a dead owner. A new producer goes on at the tail; a
//!   new consumer goes on at the head, and sees again what a dead one had copied but not given back: at least once,
//!   unlike the slot queue.
//! - A handle inherited over fork is not the child's: each call compares its tag with the process's.
//! - Nobody gets stuck: each side waits for the other only, sliced; who replaces a dead one goes on where it was.
//!
//! Monotonic indices with a mask and cached copies are Lamport's ring as FastForward, folly and rtrb refined it.

use core::cell::Cell;

use bytemuck::Pod;

use super::error::{PopError, PushError, RoleError};
use super::shape::Shape;
use crate::region::{Member, Tag, Verdict};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::cell::ItemCell;
use crate::sys::spin::Pace;
use crate::sys::{Deadline, Padded};
use crate::wait::Eventcount;

#[cfg(not(loom))]
const KIND: u32 = 0x53_50_53_43;

/// What stands in front of the items.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    tail: Padded<AtomicU64>,
    head: Padded<AtomicU64>,
    events: Padded<Events>,
    roles: Padded<Roles>,
    shape: Padded<Shape>,
}

#[derive(Debug)]
#[repr(C)]
struct Events {
    not_empty: Eventcount,
    not_full: Eventcount,
    closed: AtomicU32,
}

#[derive(Debug)]
#[repr(C)]
struct Roles {
    producer: AtomicU32,
    consumer: AtomicU32,
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl crate::region::Shareable for Head {}
#[cfg(not(loom))]
// SAFETY: a cell of plain data that is touched under the protocol only; every bit pattern is valid.
unsafe impl<T: Pod> crate::region::Shareable for ItemCell<T> {}

/// A bounded ring of plain items in shared memory, for one producer and one consumer at a time, each of whom may be
/// killed at any instruction and replaced.
///
/// Without contention a push or a pop is a copy and one store: no read-modify-write, no system call, no allocation.
///
/// This is a view; take a role with [`producer`](Self::producer) or [`consumer`](Self::consumer).
pub struct SpscRing<'r, T> {
    parts: &'r Head,
    items: &'r [ItemCell<T>],
    capacity: u64,
}

impl<T> Clone for SpscRing<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SpscRing<'_, T> {}

impl<T: Pod> core::fmt::Debug for SpscRing<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SpscRing")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .field("closed", &self.is_closed())
            .finish()
    }
}

#[cfg(not(loom))]
impl<'r, T: Pod> SpscRing<'r, T> {
    /// How many bytes a ring of this capacity takes, at a multiple of 128; more than there can be if no ring can have it.
    #[must_use]
    pub const fn bytes_for(capacity: u64) -> u64 {
        match capacity.checked_next_power_of_two() {
            Some(items) => {
                items.saturating_mul(size_of::<T>() as u64).saturating_add(size_of::<Head>() as u64)
            }
            None => u64::MAX,
        }
    }

    /// Makes a ring in zeroed memory of the region that nobody else uses.
    ///
    /// # Errors
    /// [`QueueError::Capacity`](super::QueueError::Capacity); `Region` if it does not lie in the region.
    pub fn create(
        region: &crate::region::Region<'r>,
        offset: u64,
        capacity: u64,
    ) -> Result<Self, super::QueueError> {
        Self::create_at(region, offset, capacity, 0)
    }

    /// The same with indices that start at `first`: for tests of what happens when they wrap.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_at(
        region: &crate::region::Region<'r>,
        offset: u64,
        capacity: u64,
        first: u64,
    ) -> Result<Self, super::QueueError> {
        super::shape::check(capacity)?;
        let ring = Self::view(region, offset, capacity)?;
        ring.parts.tail.store(first, Ordering::Relaxed);
        ring.parts.head.store(first, Ordering::Relaxed);
        ring.parts.shape.write(KIND, size_of::<T>(), capacity);
        Ok(ring)
    }

    /// Finds the ring that lies at `offset`.
    ///
    /// # Errors
    /// [`QueueError::Other`](super::QueueError::Other) if it is not one of such items; `Damaged`; `Region`.
    pub fn attach(
        region: &crate::region::Region<'r>,
        offset: u64,
    ) -> Result<Self, super::QueueError> {
        let shape = &region.object::<Head>(offset)?.shape;
        let capacity = shape.read(KIND, size_of::<T>())?;
        Self::view(region, offset, capacity)
    }

    fn view(
        region: &crate::region::Region<'r>,
        offset: u64,
        capacity: u64,
    ) -> Result<Self, super::QueueError> {
        let parts = region.object::<Head>(offset)?;
        let items = region.objects::<ItemCell<T>>(
            offset + size_of::<Head>() as u64,
            capacity.next_power_of_two(),
        )?;
        Ok(Self { parts, items, capacity })
    }
}

impl<'r, T: Pod> SpscRing<'r, T> {
    /// Takes the producer's role: from nobody, or from a dead process.
    ///
    /// # Errors
    /// [`RoleError::Taken`] if a living process has it (this one included); `Corrupt`, `Join`.
    pub fn producer(&self, me: Member<'r>) -> Result<Producer<'r, T>, RoleError> {
        let tag = take_role(&self.parts.roles.producer, me)?;
        // Acquire: all that a predecessor had published.
        let tail = self.parts.tail.load(Ordering::Acquire);
        let end = End { ring: *self, me, tag, mine: Cell::new(tail), theirs: Cell::new(0) };
        end.theirs.set(self.parts.head.load(Ordering::Acquire));
        Ok(Producer(end))
    }

    /// Takes the consumer's role: from nobody, or from a dead process. What a dead one had not given back is seen again.
    ///
    /// # Errors
    /// [`RoleError::Taken`] if a living process has it (this one included); `Corrupt`, `Join`.
    pub fn consumer(&self, me: Member<'r>) -> Result<Consumer<'r, T>, RoleError> {
        let tag = take_role(&self.parts.roles.consumer, me)?;
        let head = self.parts.head.load(Ordering::Acquire);
        let end = End { ring: *self, me, tag, mine: Cell::new(head), theirs: Cell::new(head) };
        Ok(Consumer(end))
    }

    /// How many items are in it; true at some moment during the call as seen by either end.
    #[must_use]
    pub fn len(&self) -> usize {
        // The head first: the tail can only be further on.
        let head = self.parts.head.load(Ordering::Acquire);
        let tail = self.parts.tail.load(Ordering::Acquire);
        tail.wrapping_sub(head).min(self.capacity) as usize
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it holds as much as it can.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() as u64 == self.capacity
    }

    /// How many items it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Whether the ring was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.parts.events.closed.load(Ordering::Acquire) != 0
    }

    #[inline]
    fn item(&self, index: u64) -> &'r ItemCell<T> {
        &self.items[index as usize & (self.items.len() - 1)]
    }

    /// The items from `index` on that lie side by side, at most `count`.
    #[inline]
    fn stretch(&self, index: u64, count: usize) -> &'r [ItemCell<T>] {
        let start = index as usize & (self.items.len() - 1);
        &self.items[start..self.items.len().min(start + count)]
    }
}

pub(super) fn take_role(word: &AtomicU32, me: Member<'_>) -> Result<Tag, RoleError> {
    let tag = me.tag()?;
    let mut old = word.load(Ordering::Relaxed);
    // Each failure means that the word has changed hands: a few rounds are plenty.
    for _ in 0..64 {
        if old != 0 {
            let Some(owner) = Tag::from_bits(old).filter(|owner| owner.bits() == old) else {
                return Err(RoleError::Corrupt);
            };
            match me.verdict(owner) {
                Verdict::Alive => {
                    let pid = me.participants().pid(owner).unwrap_or(0);
                    return Err(RoleError::Taken { pid });
                }
                Verdict::Dead => {}
                Verdict::Corrupt => return Err(RoleError::Corrupt),
            }
        }
        // Acquire meets the Release of `End::drop`, or comes after the verdict.
        match word.compare_exchange(old, tag.bits(), Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Ok(tag),
            Err(now) => old = now,
        }
    }
    Err(RoleError::Taken { pid: 0 })
}

/// What both ends have: their own index, and the other's as last seen.
struct End<'r, T: Pod> {
    ring: SpscRing<'r, T>,
    me: Member<'r>,
    tag: Tag,
    mine: Cell<u64>,
    theirs: Cell<u64>,
}

impl<T: Pod> End<'_, T> {
    #[inline]
    fn is_mine(&self) -> bool {
        self.me.is(self.tag)
    }

    fn leave(&self, role: &AtomicU32) {
        if self.is_mine() {
            // Release meets the Acquire of the next `take_role`. Failure: the word was damaged, leave it.
            let _ = role.compare_exchange(self.tag.bits(), 0, Ordering::Release, Ordering::Relaxed);
        }
    }
}

/// The end of a ring that puts. One thread at a time; dropping it frees the role.
pub struct Producer<'r, T: Pod>(End<'r, T>);

impl<T: Pod> core::fmt::Debug for Producer<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Producer").field(&self.0.ring).finish()
    }
}

impl<'r, T: Pod> Producer<'r, T> {
    /// The ring.
    #[must_use]
    pub fn ring(&self) -> SpscRing<'r, T> {
        self.0.ring
    }

    /// How many items there is room for, at least one. `ask` is for the shape of [`Eventcount::wait`]: nobody can die in
    /// the way of this end.
    #[inline]
    fn room(&self) -> Result<u64, PushError> {
        let end = &self.0;
        let used = end.mine.get().wrapping_sub(end.theirs.get());
        if used < end.ring.capacity { Ok(end.ring.capacity - used) } else { self.look_for_room() }
    }

    #[inline]
    fn look_for_room(&self) -> Result<u64, PushError> {
        let end = &self.0;
        // Acquire meets the consumer's Release: its copies are over.
        end.theirs.set(end.ring.parts.head.load(Ordering::Acquire));
        let used = end.mine.get().wrapping_sub(end.theirs.get());
        if used > end.ring.capacity {
            // The head is ahead of the tail, or too far behind.
            return Err(PushError::Corrupt);
        }
        if used == end.ring.capacity { Err(PushError::Full) } else { Ok(end.ring.capacity - used) }
    }

    /// The way without waiting, in a few loads.
    #[inline(always)]
    fn has_room(&self) -> bool {
        let end = &self.0;
        let used = end.mine.get().wrapping_sub(end.theirs.get());
        end.is_mine() && !end.ring.is_closed() && used < end.ring.capacity
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&self, deadline: Deadline) -> Result<u64, PushError> {
        let end = &self.0;
        if !end.is_mine() {
            return Err(PushError::Inherited);
        }
        if end.ring.is_closed() {
            return Err(PushError::Closed);
        }
        match self.room() {
            Err(PushError::Full) if deadline != Deadline::NOW => {}
            answer => return answer,
        }
        let look = |_| {
            if end.ring.is_closed() {
                return Some(Err(PushError::Closed));
            }
            match self.look_for_room() {
                Err(PushError::Full) => None,
                answer => Some(answer),
            }
        };
        let found = end.ring.parts.events.not_full.wait(end.me, deadline, Pace::Eager, look);
        found.unwrap_or(Err(PushError::TimedOut))
    }

    #[inline]
    fn publish(&self, count: u64) {
        let end = &self.0;
        let tail = end.mine.get().wrapping_add(count);
        end.mine.set(tail);
        // Release: the items before the index.
        end.ring.parts.tail.store(tail, Ordering::Release);
        end.ring.parts.events.not_empty.notify_one(end.me);
    }

    /// Closes the ring: nothing is put any more, what is there can still be taken. It is the producer's to close: by
    /// anybody else's hand a push that is just under way could be acknowledged behind the consumer that saw the end.
    pub fn close(&self) {
        let end = &self.0;
        if !end.is_mine() {
            return;
        }
        // Release: what was pushed before stands before the mark.
        end.ring.parts.events.closed.store(1, Ordering::Release);
        end.ring.parts.events.not_empty.notify_all(end.me);
    }

    /// Puts an item, waiting for room as long as it takes.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Inherited`.
    #[inline]
    pub fn push(&self, item: T) -> Result<(), PushError> {
        self.push_until(Deadline::NEVER, item)
    }

    /// Puts an item if there is room now.
    ///
    /// # Errors
    /// `Full`, `Closed`, `Corrupt`, `Inherited`.
    #[inline]
    pub fn try_push(&self, item: T) -> Result<(), PushError> {
        self.push_until(Deadline::NOW, item)
    }

    /// Puts an item, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` with [`Deadline::NOW`]), `Closed`, `Corrupt`, `Inherited`.
    #[inline(always)]
    pub fn push_until(&self, deadline: Deadline, item: T) -> Result<(), PushError> {
        if !self.has_room() {
            self.wait_for_room(deadline)?;
        }
        // SAFETY: the place at the tail is the producer's until it is published, and this end has the role.
        unsafe { self.0.ring.item(self.0.mine.get()).write(item) };
        self.publish(1);
        Ok(())
    }

    /// Puts as many of `items` as there is room for, at least one, and publishes them together; says how many. Waits
    /// for the first place until `deadline`. The consumer sees all of them or none, whatever becomes of this process.
    ///
    /// # Errors
    /// As [`push_until`](Self::push_until): then none was put.
    pub fn push_many(&self, deadline: Deadline, items: &[T]) -> Result<usize, PushError> {
        if items.is_empty() {
            return Ok(0);
        }
        let mut room = self.wait_for_room(deadline)?;
        if room < items.len() as u64 {
            room = self.look_for_room()?;
        }
        let count = (items.len() as u64).min(room) as usize;
        let (ring, start) = (self.0.ring, self.0.mine.get());
        let first = ring.stretch(start, count);
        let second = ring.stretch(start.wrapping_add(first.len() as u64), count - first.len());
        let (front, back) = items[..count].split_at(first.len());
        // SAFETY: as in `push_until`, for each of the places.
        unsafe {
            fill(first, front);
            fill(second, back);
        }
        self.publish(count as u64);
        Ok(count)
    }
}

impl<T: Pod> Drop for Producer<'_, T> {
    fn drop(&mut self) {
        self.0.leave(&self.0.ring.parts.roles.producer);
    }
}

/// The end of a ring that takes. One thread at a time; dropping it frees the role.
pub struct Consumer<'r, T: Pod>(End<'r, T>);

impl<T: Pod> core::fmt::Debug for Consumer<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Consumer").field(&self.0.ring).finish()
    }
}

impl<'r, T: Pod> Consumer<'r, T> {
    /// The ring.
    #[must_use]
    pub fn ring(&self) -> SpscRing<'r, T> {
        self.0.ring
    }

    /// How many items are there, at least one.
    #[inline(always)]
    fn items(&self) -> Result<u64, PopError> {
        let end = &self.0;
        let there = end.theirs.get().wrapping_sub(end.mine.get());
        if there > 0 { Ok(there) } else { self.look_for_items() }
    }

    #[inline(always)]
    fn look_for_items(&self) -> Result<u64, PopError> {
        let end = &self.0;
        // Acquire meets the producer's Release: the items are there.
        end.theirs.set(end.ring.parts.tail.load(Ordering::Acquire));
        let there = end.theirs.get().wrapping_sub(end.mine.get());
        if there > end.ring.capacity {
            end.theirs.set(end.mine.get());
            return Err(PopError::Corrupt);
        }
        if there == 0 { Err(PopError::Empty) } else { Ok(there) }
    }

    /// One look; closed only if nothing is there after the mark was seen.
    #[inline]
    fn look(&self) -> Result<u64, PopError> {
        let closed = self.0.ring.is_closed();
        match self.look_for_items() {
            Err(PopError::Empty) if closed => Err(PopError::Closed),
            answer => answer,
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_items(&self, deadline: Deadline) -> Result<u64, PopError> {
        let end = &self.0;
        if !end.is_mine() {
            return Err(PopError::Inherited);
        }
        match self.items() {
            Err(PopError::Empty) => {}
            answer => return answer,
        }
        match self.look() {
            Err(PopError::Empty) if deadline != Deadline::NOW => {}
            answer => return answer,
        }
        let look = |_| match self.look() {
            Err(PopError::Empty) => None,
            answer => Some(answer),
        };
        let found = end.ring.parts.events.not_empty.wait(end.me, deadline, Pace::Eager, look);
        found.unwrap_or(Err(PopError::TimedOut))
    }

    #[inline]
    fn give_back(&self, count: u64) {
        let end = &self.0;
        let head = end.mine.get().wrapping_add(count);
        end.mine.set(head);
        // Release: the copies are over before the places are free.
        end.ring.parts.head.store(head, Ordering::Release);
        end.ring.parts.events.not_full.notify_one(end.me);
    }

    /// Takes the next item, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `Closed` when the ring is closed and drained; `Corrupt`, `Inherited`.
    #[inline]
    pub fn pop(&self) -> Result<T, PopError> {
        self.pop_until(Deadline::NEVER)
    }

    /// Takes the next item if there is one now.
    ///
    /// # Errors
    /// `Empty`, `Closed`, `Corrupt`, `Inherited`.
    #[inline]
    pub fn try_pop(&self) -> Result<T, PopError> {
        self.pop_until(Deadline::NOW)
    }

    /// Takes the next item, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` with [`Deadline::NOW`]), `Closed`, `Corrupt`, `Inherited`.
    #[inline(always)]
    pub fn pop_until(&self, deadline: Deadline) -> Result<T, PopError> {
        if !(self.0.is_mine() && self.items().is_ok()) {
            self.wait_for_items(deadline)?;
        }
        // SAFETY: the item at the head was published, and this end has the role.
        let item = unsafe { self.0.ring.item(self.0.mine.get()).read() };
        self.give_back(1);
        Ok(item)
    }

    /// Takes as many items as are there and fit into `room`, at least one, and gives their places back together; says
    /// how many. Waits for the first until `deadline`.
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until): then none was taken.
    pub fn pop_many(&self, deadline: Deadline, room: &mut [T]) -> Result<usize, PopError> {
        if room.is_empty() {
            return Ok(0);
        }
        let mut there = self.wait_for_items(deadline)?;
        if there < room.len() as u64 {
            there = self.look_for_items()?;
        }
        let count = (room.len() as u64).min(there) as usize;
        let (ring, start) = (self.0.ring, self.0.mine.get());
        let first = ring.stretch(start, count);
        let second = ring.stretch(start.wrapping_add(first.len() as u64), count - first.len());
        let (front, back) = room[..count].split_at_mut(first.len());
        // SAFETY: as in `pop_until`, for each of the items.
        unsafe {
            empty(first, front);
            empty(second, back);
        }
        self.give_back(count as u64);
        Ok(count)
    }
}

impl<T: Pod> Drop for Consumer<'_, T> {
    fn drop(&mut self) {
        self.0.leave(&self.0.ring.parts.roles.consumer);
    }
}

/// Copies `items` into as many cells.
///
/// # Safety
/// As [`ItemCell::write`], for each cell.
#[inline]
unsafe fn fill<T: Pod>(cells: &[ItemCell<T>], items: &[T]) {
    debug_assert_eq!(cells.len(), items.len());
    #[cfg(not(loom))]
    // SAFETY: a cell is an item by its representation, and may be written through a shared reference; the cells lie
    // side by side, are as many as the items, and by the caller this process's.
    unsafe {
        let place = cells.as_ptr().cast::<T>().cast_mut();
        core::ptr::copy_nonoverlapping(items.as_ptr(), place, items.len().min(cells.len()));
    }
    #[cfg(loom)]
    for (cell, item) in cells.iter().zip(items) {
        // SAFETY: by the caller.
        unsafe { cell.write(*item) };
    }
}

/// Copies as many cells into `room`.
///
/// # Safety
/// As [`ItemCell::read`], for each cell.
#[inline]
unsafe fn empty<T: Pod>(cells: &[ItemCell<T>], room: &mut [T]) {
    debug_assert_eq!(cells.len(), room.len());
    #[cfg(not(loom))]
    // SAFETY: as in `fill`; any bytes are a T.
    unsafe {
        let place = cells.as_ptr().cast::<T>();
        core::ptr::copy_nonoverlapping(place, room.as_mut_ptr(), room.len().min(cells.len()));
    }
    #[cfg(loom)]
    for (cell, place) in cells.iter().zip(room) {
        // SAFETY: by the caller.
        *place = unsafe { cell.read() };
    }
}

/// A ring on the heap, for the model checker: its items are no plain memory there.
#[cfg(loom)]
#[derive(Debug)]
pub struct Heap<T> {
    parts: Head,
    items: std::vec::Vec<ItemCell<T>>,
    capacity: u64,
}

#[cfg(loom)]
impl<T: Pod> Heap<T> {
    /// An empty ring. Its indices wrap after two items.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let first = u64::MAX - 1;
        Self {
            parts: Head {
                tail: Padded(AtomicU64::new(first)),
                head: Padded(AtomicU64::new(first)),
                events: Padded(Events {
                    not_empty: Eventcount::new(),
                    not_full: Eventcount::new(),
                    closed: AtomicU32::new(0),
                }),
                roles: Padded(Roles { producer: AtomicU32::new(0), consumer: AtomicU32::new(0) }),
                shape: Padded(Shape::default()),
            },
            items: (0..capacity.next_power_of_two()).map(|_| ItemCell::empty()).collect(),
            capacity,
        }
    }

    /// The ring.
    #[must_use]
    pub fn ring(&self) -> SpscRing<'_, T> {
        SpscRing { parts: &self.parts, items: &self.items, capacity: self.capacity }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
