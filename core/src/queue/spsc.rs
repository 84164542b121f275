//! A ring for one producer and one consumer.
//!
//! ```text
//! item i lies in line i div K mod L, at place i mod K; K items share a cache line with a word
//! line word: u64   how far the line is filled: 1 + the index of its last item   written by the producer
//! tail: u64        items ever put, for those who ask     written by the producer, behind the words
//! head: u64        items ever taken                      written by the consumer
//! role words: tag of who has the role, 0 for nobody
//! ```
//!
//! - A push copies an item into a line, then publishes it by one release store of the line's word; a pop copies items
//!   out, then gives their places back by one release store of the head. What was not published never happened.
//! - A batch fills all its lines, then publishes their words from the last to the first: the consumer stands at the
//!   first, so that it sees all of them or nothing, and finds no line that is still being filled.
//! - Item i is there when the word of its line is ahead of i, by no more than the line holds. A word of an earlier
//!   round is behind. So the consumer finds item and publication with one transfer of a cache line, and looks at
//!   nothing else of the producer's.
//! - The producer keeps the head as it last saw it, and looks again only when that says full.
//! - A role is taken by one compare-and-swap, from nobody or from a dead owner. A new producer goes on behind the last
//!   item to which the words lead, and erases words ahead of it: a batch that was never published whole. A new consumer goes on at the head, and sees again what a dead one had copied but not
//!   given back: at least once, unlike the slot queue.
//! - A handle inherited over fork is not the child's: each call compares its tag with the process's.
//! - Nobody gets stuck: each side waits for the other only, sliced; who replaces a dead one goes on where it was.
//! - Indices have 64 bits and never wrap: at a billion items a second that takes 584 years.
//!
//! One producer, one consumer and an index each is Lamport's ring; the flag beside the item is FastForward's
//! (Giacomoni, Moseley, Vachharajani 2008), here for as many items as a line holds.

use core::cell::Cell;

use bytemuck::Pod;

use super::error::{PopError, PushError, RoleError};
use super::line::Lines;
use crate::region::{Member, Tag, Verdict};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::spin::Pace;
use crate::sys::{Deadline, Padded};
use crate::wait::Eventcount;

/// The most items that a ring can hold.
const MOST: u64 = 1 << 30;
#[cfg(not(loom))]
const KIND: u32 = 0x53_50_53_43;

/// What stands in front of the items.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    tail: Padded<AtomicU64>,
    head: Padded<AtomicU64>,
    events: Padded<Events>,
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
struct Shape {
    kind: AtomicU32,
    item: AtomicU32,
    capacity: AtomicU64,
    producer: AtomicU32,
    consumer: AtomicU32,
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl crate::region::Shareable for Head {}
/// A bounded ring of plain items in shared memory, for one producer and one consumer at a time, each of whom may be
/// killed at any instruction and replaced.
///
/// Without contention a push or a pop is a copy and one store: no read-modify-write, no system call, no allocation.
///
/// This is a view; take a role with [`producer`](Self::producer) or [`consumer`](Self::consumer).
pub struct SpscRing<'r, T> {
    parts: &'r Head,
    lines: Lines<'r, T>,
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
    /// How many bytes a ring of this capacity takes, at a multiple of 128.
    #[must_use]
    pub const fn bytes_for(capacity: u64) -> u64 {
        size_of::<Head>() as u64 + Lines::<T>::bytes_for(capacity)
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
        if capacity == 0 || capacity > MOST {
            return Err(super::QueueError::Capacity { asked: capacity, most: MOST });
        }
        let ring = Self::view(region, offset, capacity)?;
        let shape = &ring.parts.shape;
        shape.item.store(size_of::<T>() as u32, Ordering::Relaxed);
        shape.capacity.store(capacity, Ordering::Relaxed);
        // Release meets the Acquire of `attach`.
        shape.kind.store(KIND, Ordering::Release);
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
        let kind = shape.kind.load(Ordering::Acquire);
        let item = shape.item.load(Ordering::Relaxed);
        if kind != KIND || item != size_of::<T>() as u32 {
            return Err(super::QueueError::Other {
                asked_kind: KIND,
                found_kind: kind,
                asked_size: size_of::<T>() as u32,
                found_size: item,
            });
        }
        let capacity = shape.capacity.load(Ordering::Relaxed);
        if capacity == 0 || capacity > MOST {
            return Err(super::QueueError::Damaged { capacity });
        }
        Self::view(region, offset, capacity)
    }

    fn view(
        region: &crate::region::Region<'r>,
        offset: u64,
        capacity: u64,
    ) -> Result<Self, super::QueueError> {
        let parts = region.object::<Head>(offset)?;
        let lines = Lines::find(region, offset + size_of::<Head>() as u64, capacity)?;
        Ok(Self { parts, lines, capacity })
    }
}

impl<'r, T: Pod> SpscRing<'r, T> {
    /// Takes the producer's role: from nobody, or from a dead process.
    ///
    /// # Errors
    /// [`RoleError::Taken`] if a living process has it (this one included); `Corrupt`, `Join`.
    pub fn producer(&self, me: Member<'r>) -> Result<Producer<'r, T>, RoleError> {
        let tag = take_role(&self.parts.shape.producer, me)?;
        let end = End::new(*self, me, tag);
        // Acquire: all that a predecessor had published.
        end.stand_at(self.parts.tail.load(Ordering::Acquire));
        // The words are the truth: a predecessor may have died before it moved the tail behind them.
        for _ in 0..=self.lines.count() {
            let filled = self.lines.word(end.line.get()).load(Ordering::Acquire);
            match filled.wrapping_sub(end.index.get()) {
                more @ 1.. if more <= end.places_left() as u64 => end.advance(more as usize),
                _ => break,
            }
        }
        end.known.set(self.parts.head.load(Ordering::Acquire));
        if end.index.get().wrapping_sub(end.known.get()) > self.capacity {
            end.leave(&self.parts.shape.producer);
            return Err(RoleError::Corrupt);
        }
        for line in 0..self.lines.count() {
            let word = self.lines.word(line);
            let ahead = word.load(Ordering::Relaxed).wrapping_sub(end.index.get());
            if (1..=u64::MAX / 2).contains(&ahead) {
                // Relaxed: the consumer cannot come here before this producer has filled the line where it stands.
                word.store(0, Ordering::Relaxed);
            }
        }
        // Before anything is put: else a second death could leave the tail so far behind that the words, used again
        // since, do not lead on from it. Release: who takes the role next sees the words up to here.
        self.parts.tail.store(end.index.get(), Ordering::Release);
        Ok(Producer(end))
    }

    /// Takes the consumer's role: from nobody, or from a dead process. What a dead one had not given back is seen again.
    ///
    /// # Errors
    /// [`RoleError::Taken`] if a living process has it (this one included); `Corrupt`, `Join`.
    pub fn consumer(&self, me: Member<'r>) -> Result<Consumer<'r, T>, RoleError> {
        let tag = take_role(&self.parts.shape.consumer, me)?;
        let end = End::new(*self, me, tag);
        let head = self.parts.head.load(Ordering::Acquire);
        end.stand_at(head);
        end.known.set(head);
        Ok(Consumer(end))
    }

    /// How many items are in it; true at some moment during the call as seen by either end. Items of a push that is
    /// under way, or whose producer died in it, may be there to be taken before they count.
    #[must_use]
    pub fn len(&self) -> usize {
        let head = self.parts.head.load(Ordering::Acquire);
        let tail = self.parts.tail.load(Ordering::Acquire);
        // The head may be ahead: the consumer takes by the words, which stand before the tail does.
        tail.saturating_sub(head).min(self.capacity) as usize
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

    /// Closes the ring: nothing is put any more, what is there can still be taken.
    pub fn close(&self, me: Member<'_>) {
        // Release: what was pushed before stands before the mark.
        self.parts.events.closed.store(1, Ordering::Release);
        self.parts.events.not_empty.notify_all(me);
        self.parts.events.not_full.notify_all(me);
    }

    /// Whether the ring was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.parts.events.closed.load(Ordering::Acquire) != 0
    }
}

fn take_role(word: &AtomicU32, me: Member<'_>) -> Result<Tag, RoleError> {
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

/// Where an end stands, and what it knows of the other: the head as last seen, or how far the line is filled.
struct End<'r, T: Pod> {
    ring: SpscRing<'r, T>,
    me: Member<'r>,
    tag: Tag,
    index: Cell<u64>,
    line: Cell<usize>,
    place: Cell<usize>,
    known: Cell<u64>,
}

impl<'r, T: Pod> End<'r, T> {
    fn new(ring: SpscRing<'r, T>, me: Member<'r>, tag: Tag) -> Self {
        let (line, place) = (Cell::new(0), Cell::new(0));
        Self { ring, me, tag, index: Cell::new(0), line, place, known: Cell::new(0) }
    }

    fn stand_at(&self, index: u64) {
        let per_line = Lines::<T>::PER_LINE as u64;
        self.index.set(index);
        self.line.set((index / per_line % self.ring.lines.count() as u64) as usize);
        self.place.set((index % per_line) as usize);
    }

    #[inline]
    fn places_left(&self) -> usize {
        Lines::<T>::PER_LINE - self.place.get()
    }

    /// Moves on by `count` items, which lie in this line.
    #[inline]
    fn advance(&self, count: usize) {
        self.index.set(self.index.get().wrapping_add(count as u64));
        let place = self.place.get() + count;
        if place < Lines::<T>::PER_LINE {
            self.place.set(place);
        } else {
            let next = self.line.get() + 1;
            self.line.set(if next == self.ring.lines.count() { 0 } else { next });
            self.place.set(0);
        }
    }

    #[inline]
    fn is_mine(&self) -> bool {
        self.me.current_tag() == Some(self.tag)
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

    /// How many items there is room for, at least one.
    #[inline]
    fn room(&self) -> Result<u64, PushError> {
        let end = &self.0;
        let used = end.index.get().wrapping_sub(end.known.get());
        if used < end.ring.capacity { Ok(end.ring.capacity - used) } else { self.look_for_room() }
    }

    #[inline]
    fn look_for_room(&self) -> Result<u64, PushError> {
        let end = &self.0;
        // Acquire meets the consumer's Release: its copies are over.
        let head = end.ring.parts.head.load(Ordering::Acquire);
        let used = end.index.get().wrapping_sub(head);
        if used > end.ring.capacity {
            // The head is ahead of the tail, or too far behind.
            return Err(PushError::Corrupt);
        }
        end.known.set(head);
        if used == end.ring.capacity { Err(PushError::Full) } else { Ok(end.ring.capacity - used) }
    }

    /// The way without waiting, in a few loads.
    #[inline(always)]
    fn has_room(&self) -> bool {
        let end = &self.0;
        let used = end.index.get().wrapping_sub(end.known.get());
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

    /// Copies items into the current line, and moves on; says how far the line is filled then.
    #[inline(always)]
    fn fill(&self, items: &[T]) -> u64 {
        let end = &self.0;
        // SAFETY: there is room, so nobody reads these places until they are published; this end has the role, and
        // callers pass no more than fits into the line.
        unsafe { end.ring.lines.write(end.line.get(), end.place.get(), items) };
        end.advance(items.len());
        end.index.get()
    }

    /// Publishes what was filled into a line.
    #[inline(always)]
    fn publish(&self, line: usize, filled: u64) {
        // Release: the items before the word.
        self.0.ring.lines.word(line).store(filled, Ordering::Release);
    }

    /// After the words: says how much was put, and wakes the consumer.
    #[inline]
    fn done(&self) {
        let end = &self.0;
        // Release: who takes the role sees the words up to here.
        end.ring.parts.tail.store(end.index.get(), Ordering::Release);
        end.ring.parts.events.not_empty.notify_one(end.me);
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
        let line = self.0.line.get();
        let filled = self.fill(&[item]);
        self.publish(line, filled);
        self.done();
        Ok(())
    }

    /// Puts as many of `items` as there is room for, at least one; says how many. Waits for the first place until
    /// `deadline`. The consumer sees all of them or none, whatever becomes of this process meanwhile.
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
        let end = &self.0;
        let (lines, first) = (end.ring.lines.count(), end.line.get());
        let (front, rest) = items[..count].split_at(count.min(end.places_left()));
        let filled = self.fill(front);
        for full in rest.chunks(Lines::<T>::PER_LINE) {
            self.fill(full);
        }
        let per_line = Lines::<T>::PER_LINE as u64;
        let more = rest.len().div_ceil(Lines::<T>::PER_LINE);
        for step in (1..=more).rev() {
            let line = first + step;
            let line = if line < lines { line } else { line - lines };
            let full = filled.wrapping_add(step as u64 * per_line);
            self.publish(line, if step == more { end.index.get() } else { full });
        }
        self.publish(first, filled);
        self.done();
        Ok(count)
    }
}

impl<T: Pod> Drop for Producer<'_, T> {
    fn drop(&mut self) {
        self.0.leave(&self.0.ring.parts.shape.producer);
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

    /// How many items are there in this line, at least one.
    #[inline(always)]
    fn items(&self) -> Result<usize, PopError> {
        let end = &self.0;
        let there = end.known.get().wrapping_sub(end.index.get());
        if there > 0 { Ok(there as usize) } else { self.look_for_items() }
    }

    #[inline(always)]
    fn look_for_items(&self) -> Result<usize, PopError> {
        let end = &self.0;
        // Acquire meets the producer's Release: the items are there.
        let filled = end.ring.lines.word(end.line.get()).load(Ordering::Acquire);
        let there = filled.wrapping_sub(end.index.get());
        if there == 0 || there > u64::MAX / 2 {
            return Err(PopError::Empty);
        }
        if there > end.places_left() as u64 {
            return Err(PopError::Corrupt);
        }
        end.known.set(filled);
        Ok(there as usize)
    }

    /// One look; closed only if nothing is there after the mark was seen.
    #[inline]
    fn look(&self) -> Result<usize, PopError> {
        let closed = self.0.ring.is_closed();
        match self.look_for_items() {
            Err(PopError::Empty) if closed => Err(PopError::Closed),
            answer => answer,
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_items(&self, deadline: Deadline) -> Result<usize, PopError> {
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

    /// Copies items out of the current line.
    #[inline]
    fn take(&self, room: &mut [T]) {
        let end = &self.0;
        // SAFETY: the items were published, and the producer writes there again only after `done`; this end has the role,
        // and callers ask for no more than is there.
        unsafe { end.ring.lines.read(end.line.get(), end.place.get(), room) };
        end.advance(room.len());
    }

    /// After the copies: gives the places back, and wakes the producer.
    #[inline]
    fn done(&self) {
        let end = &self.0;
        // Release: the copies are over before the places are free.
        end.ring.parts.head.store(end.index.get(), Ordering::Release);
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
        let mut item = [T::zeroed()];
        self.take(&mut item);
        self.done();
        Ok(item[0])
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
        let mut taken = 0;
        loop {
            let count = there.min(room.len() - taken);
            self.take(&mut room[taken..taken + count]);
            taken += count;
            there = match self.items() {
                Ok(there) if taken < room.len() => there,
                // Damage is the next call's to tell: these items are good.
                _ => break,
            };
        }
        self.done();
        Ok(taken)
    }
}

impl<T: Pod> Drop for Consumer<'_, T> {
    fn drop(&mut self) {
        self.0.leave(&self.0.ring.parts.shape.consumer);
    }
}

/// A ring on the heap, for the model checker: its items are no plain memory there.
#[cfg(loom)]
#[derive(Debug)]
pub struct Heap<T> {
    parts: Head,
    lines: std::vec::Vec<super::line::Line<T>>,
    capacity: u64,
}

#[cfg(loom)]
impl<T: Pod> Heap<T> {
    /// An empty ring.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self {
            parts: Head {
                tail: Padded(AtomicU64::new(0)),
                head: Padded(AtomicU64::new(0)),
                events: Padded(Events {
                    not_empty: Eventcount::new(),
                    not_full: Eventcount::new(),
                    closed: AtomicU32::new(0),
                }),
                shape: Padded(Shape {
                    kind: AtomicU32::new(0),
                    item: AtomicU32::new(0),
                    capacity: AtomicU64::new(capacity),
                    producer: AtomicU32::new(0),
                    consumer: AtomicU32::new(0),
                }),
            },
            lines: Lines::fresh(capacity),
            capacity,
        }
    }

    /// The ring.
    #[must_use]
    pub fn ring(&self) -> SpscRing<'_, T> {
        SpscRing { parts: &self.parts, lines: Lines::over(&self.lines), capacity: self.capacity }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::region::testing::Bytes;
    use core::time::Duration;
    use std::vec::Vec;

    const AT: u64 = 1 << 19;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[test]
    fn items_come_out_in_order_round_after_round() {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let ring = SpscRing::<u64>::create(&region, AT, 3).unwrap();
        let (here, there) = (region.join().unwrap(), region.join().unwrap());
        let (producer, consumer) =
            (ring.producer(here.member()).unwrap(), ring.consumer(there.member()).unwrap());
        for round in 0..20 {
            assert_eq!(consumer.try_pop(), Err(PopError::Empty));
            for item in 0..3 {
                producer.try_push(round * 3 + item).unwrap();
            }
            assert_eq!(producer.try_push(99), Err(PushError::Full));
            assert!(ring.is_full());
            let mut room = [0; 2];
            assert_eq!(consumer.pop_many(Deadline::NOW, &mut room), Ok(2));
            assert_eq!(room, [round * 3, round * 3 + 1]);
            assert_eq!(producer.push_many(Deadline::NOW, &[7, 8, 9]), Ok(2));
            let mut room = [0; 9];
            assert_eq!(consumer.pop_many(Deadline::NOW, &mut room), Ok(3));
            assert_eq!(room[..3], [round * 3 + 2, 7, 8]);
        }
        ring.close(here.member());
        assert_eq!(producer.try_push(1), Err(PushError::Closed));
        assert_eq!(consumer.pop(), Err(PopError::Closed));
    }

    #[test]
    fn a_role_is_had_once_and_passes_on_from_the_dead() {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let ring = SpscRing::<u64>::create(&region, AT, 4).unwrap();
        let (dying, living) = (region.join().unwrap(), region.join().unwrap());
        let producer = ring.producer(dying.member()).unwrap();
        let consumer = ring.consumer(dying.member()).unwrap();
        assert!(matches!(ring.producer(living.member()), Err(RoleError::Taken { .. })));
        producer.push(1).unwrap();
        producer.push(2).unwrap();
        assert_eq!(consumer.pop(), Ok(1));
        core::mem::forget((producer, consumer));
        region.participants().declare_dead(dying.member().tag().unwrap());
        let producer = ring.producer(living.member()).unwrap();
        producer.push(3).unwrap();
        let consumer = ring.consumer(living.member()).unwrap();
        assert_eq!((consumer.pop(), consumer.pop()), (Ok(2), Ok(3)));
        drop(producer);
        assert!(ring.producer(living.member()).is_ok());
    }

    #[test]
    fn a_damaged_index_is_an_error() {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let ring = SpscRing::<u64>::create(&region, AT, 4).unwrap();
        let seat = region.join().unwrap();
        let (producer, consumer) =
            (ring.producer(seat.member()).unwrap(), ring.consumer(seat.member()).unwrap());
        ring.lines.word(0).store(1000, Ordering::Relaxed);
        assert_eq!(consumer.pop(), Err(PopError::Corrupt));
        for _ in 0..4 {
            let _ = producer.try_push(1);
        }
        ring.parts.head.store(77, Ordering::Relaxed);
        assert_eq!(producer.push(1), Err(PushError::Corrupt));
    }

    #[test]
    fn what_died_between_word_and_tail_is_found() {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let ring = SpscRing::<u64>::create(&region, AT, 40).unwrap();
        let seat = region.join().unwrap();
        let producer = ring.producer(seat.member()).unwrap();
        let items: Vec<u64> = (0..30).collect();
        assert_eq!(producer.push_many(Deadline::NOW, &items), Ok(30));
        ring.parts.tail.store(3, Ordering::Relaxed);
        drop(producer);
        let producer = ring.producer(seat.member()).unwrap();
        assert_eq!(producer.push_many(Deadline::NOW, &items), Ok(10));
        let consumer = ring.consumer(seat.member()).unwrap();
        let mut room = [0; 50];
        assert_eq!(consumer.pop_many(Deadline::NOW, &mut room), Ok(40));
        assert!(room[..40].iter().copied().eq((0..30).chain(0..10)));
    }

    #[test]
    fn a_second_death_between_word_and_tail_is_found_too() {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let ring = SpscRing::<u64>::create(&region, AT, 40).unwrap();
        let seat = region.join().unwrap();
        let consumer = ring.consumer(seat.member()).unwrap();
        let items: Vec<u64> = (0..40).collect();
        let mut room = [0; 40];
        for _ in 0..5 {
            let producer = ring.producer(seat.member()).unwrap();
            let before = ring.parts.tail.load(Ordering::Relaxed);
            assert_eq!(producer.push_many(Deadline::NOW, &items), Ok(40));
            // As if it had died before its last store.
            ring.parts.tail.store(before, Ordering::Relaxed);
            drop(producer);
            assert_eq!(consumer.pop_many(Deadline::NOW, &mut room), Ok(40));
            assert!(ring.is_empty());
        }
    }

    #[test]
    fn a_batch_that_was_not_published_whole_never_happened() {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let ring = SpscRing::<u64>::create(&region, AT, 40).unwrap();
        let seat = region.join().unwrap();
        let producer = ring.producer(seat.member()).unwrap();
        let items: Vec<u64> = (0..30).collect();
        producer.push_many(Deadline::NOW, &items[..3]).unwrap();
        producer.push_many(Deadline::NOW, &items).unwrap();
        // As if it had died before the last of its stores.
        ring.lines.word(0).store(3, Ordering::Relaxed);
        ring.parts.tail.store(3, Ordering::Relaxed);
        drop(producer);
        let producer = ring.producer(seat.member()).unwrap();
        producer.push_many(Deadline::NOW, &[70, 71, 72, 73]).unwrap();
        let consumer = ring.consumer(seat.member()).unwrap();
        let mut room = [0; 50];
        assert_eq!(consumer.pop_many(Deadline::NOW, &mut room), Ok(7));
        assert_eq!(room[..7], [0, 1, 2, 70, 71, 72, 73]);
        assert_eq!(consumer.try_pop(), Err(PopError::Empty));
    }

    #[test]
    fn items_of_every_size_pass() {
        fn pass<const N: usize>() {
            let bytes = Bytes::new(1 << 20);
            let region = bytes.create().unwrap();
            let ring = SpscRing::<[u8; N]>::create(&region, AT, 5).unwrap();
            let seat = region.join().unwrap();
            let producer = ring.producer(seat.member()).unwrap();
            let consumer = ring.consumer(seat.member()).unwrap();
            for round in 0..100u8 {
                for item in 0..5 {
                    producer.try_push([round ^ item; N]).unwrap();
                }
                assert_eq!(producer.try_push([0; N]), Err(PushError::Full));
                for item in 0..5 {
                    assert_eq!(consumer.try_pop(), Ok([round ^ item; N]));
                }
            }
        }
        pass::<1>();
        pass::<3>();
        pass::<8>();
        pass::<56>();
        pass::<57>();
        pass::<64>();
        pass::<200>();
    }

    #[test]
    fn two_threads_pass_all_items_on() {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let ring = SpscRing::<u64>::create(&region, AT, 64).unwrap();
        let all = 200_000;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let seat = region.join().unwrap();
                let producer = ring.producer(seat.member()).unwrap();
                for item in 0..all {
                    producer.push_until(soon(), item).unwrap();
                }
            });
            let seat = region.join().unwrap();
            let consumer = ring.consumer(seat.member()).unwrap();
            let seen: Vec<u64> = (0..all).map(|_| consumer.pop_until(soon()).unwrap()).collect();
            assert!(seen.iter().copied().eq(0..all));
        });
    }
}
