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
//! - Each side keeps in its own handle how far it may go as it last saw that, and looks again only when it is there.
//! - Close behind each other both would wait for cache lines all the time. A producer that finds little room looks for more
//!   for a while. A consumer that comes back and finds few new items right away steps back, twice as long each time that is
//!   so, half as long each time it finds nothing: who sends and then waits for an answer never keeps it from looking.
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
use crate::sys::{Deadline, Fences, Padded};
use crate::wait::Eventcount;

#[cfg(not(loom))]
const KIND: u32 = 0x53_50_53_43;

/// Ends that are nearer to each other than so many places work on the same cache lines, and wait for them more than they work.
const FEW: u64 = 64;
/// How often a producer looks for more room than a little.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 100 };
/// For how long a consumer steps back at most, in hints to the processor: some two microseconds.
const LONGEST_PAUSE: u32 = 128;

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
        Ok(Producer(End::new(*self, me, tag, tail)))
    }

    /// Takes the consumer's role: from nobody, or from a dead process. What a dead one had not given back is seen again.
    ///
    /// # Errors
    /// [`RoleError::Taken`] if a living process has it (this one included); `Corrupt`, `Join`.
    pub fn consumer(&self, me: Member<'r>) -> Result<Consumer<'r, T>, RoleError> {
        let tag = take_role(&self.parts.roles.consumer, me)?;
        let head = self.parts.head.load(Ordering::Acquire);
        Ok(Consumer(End::new(*self, me, tag, head)))
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

    /// Whether this is so little room, or so few items, that the ends get into each other's way.
    #[inline(always)]
    fn is_little(&self, count: u64) -> bool {
        count < (self.capacity / 8).min(FEW)
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

/// What both ends have: their own index, and how far it may go as they last saw it.
///
/// Nothing that is called from the fast path gets hold of an end, only copies of what is in it: so the compiler keeps both
/// indices in registers. In memory each call would wait for the store of the one before.
struct End<'r, T: Pod> {
    ring: SpscRing<'r, T>,
    me: Member<'r>,
    fences: Fences,
    tag: Tag,
    mine: Cell<u64>,
    limit: Cell<u64>,
    /// For how long a consumer last stepped back.
    pause: Cell<u32>,
}

impl<'r, T: Pod> End<'r, T> {
    #[inline]
    fn new(ring: SpscRing<'r, T>, me: Member<'r>, tag: Tag, index: u64) -> Self {
        // With the limit at the index the first call looks at everything.
        let (mine, limit) = (Cell::new(index), Cell::new(index));
        Self { ring, me, fences: me.fences(), tag, mine, limit, pause: Cell::new(0) }
    }

    #[inline(always)]
    fn is_mine(&self) -> bool {
        self.me.is(self.tag)
    }

    /// Whether the next place may be used without another look at the ring.
    #[inline(always)]
    fn may_go_on(&self) -> bool {
        self.is_mine() && self.mine.get() != self.limit.get()
    }

    /// Whether this new limit lets this end work for a while.
    #[inline(always)]
    fn is_worth_while(&self, limit: u64) -> bool {
        !self.ring.is_little(limit.wrapping_sub(self.mine.get()))
    }

    /// How many places are left up to the limit.
    #[inline]
    fn left(&self) -> u64 {
        self.limit.get().wrapping_sub(self.mine.get())
    }

    #[inline(always)]
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

    #[inline(always)]
    fn publish(&self, count: u64) {
        let end = &self.0;
        let tail = end.mine.get().wrapping_add(count);
        end.mine.set(tail);
        // Release: the items before the index.
        end.ring.parts.tail.store(tail, Ordering::Release);
        end.ring.parts.events.not_empty.notify_one_by(end.me, end.fences);
    }

    /// Looks at the ring anew, and waits until there is room for one item at least.
    #[inline(always)]
    fn go_on(&self, deadline: Deadline) -> Result<(), PushError> {
        let end = &self.0;
        if !end.is_mine() {
            return Err(PushError::Inherited);
        }
        let limit = match look_for_room(end.ring, end.mine.get()) {
            Some(Ok(limit)) if end.is_worth_while(limit) => limit,
            Some(Err(error)) => return Err(error),
            _ => wait_for_room(end.ring, end.me, end.mine.get(), deadline)?,
        };
        end.limit.set(limit);
        Ok(())
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
        // This end finds out at its next call.
        end.limit.set(end.mine.get());
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
        let end = &self.0;
        if !end.may_go_on() {
            self.go_on(deadline)?;
        }
        // SAFETY: the place at the tail is the producer's until it is published, and this end has the role.
        unsafe { end.ring.item(end.mine.get()).write(item) };
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
        let end = &self.0;
        if !(end.may_go_on() && end.left() >= items.len() as u64) {
            self.go_on(deadline)?;
        }
        let count = (items.len() as u64).min(end.left()) as usize;
        let (ring, start) = (end.ring, end.mine.get());
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
    #[inline]
    fn drop(&mut self) {
        self.0.leave(&self.0.ring.parts.roles.producer);
    }
}

/// Up to which index the producer may put, if that is further than its own, `mine`.
#[inline(always)]
fn look_for_room<T: Pod>(ring: SpscRing<'_, T>, mine: u64) -> Option<Result<u64, PushError>> {
    if ring.is_closed() {
        return Some(Err(PushError::Closed));
    }
    // Acquire meets the consumer's Release: its copies are over.
    let head = ring.parts.head.load(Ordering::Acquire);
    match mine.wrapping_sub(head) {
        used if used < ring.capacity => Some(Ok(head.wrapping_add(ring.capacity))),
        used if used == ring.capacity => None,
        // The head is ahead of the tail, or too far behind.
        _ => Some(Err(PushError::Corrupt)),
    }
}

/// The same, waiting until it is so. Nobody can die in the way of this end.
///
/// Where there is little room, there is more in a moment, and nobody waits for what is put behind so much else: so it looks
/// again for a while.
#[cold]
#[inline(never)]
fn wait_for_room<T: Pod>(
    ring: SpscRing<'_, T>,
    me: Member<'_>,
    mine: u64,
    deadline: Deadline,
) -> Result<u64, PushError> {
    if deadline == Deadline::NOW {
        return look_for_room(ring, mine).unwrap_or(Err(PushError::Full));
    }
    for _ in 0..LOOKS {
        match look_for_room(ring, mine) {
            Some(Ok(limit)) if !ring.is_little(limit.wrapping_sub(mine)) => return Ok(limit),
            Some(Err(error)) => return Err(error),
            _ => core::hint::spin_loop(),
        }
    }
    let event = &ring.parts.events.not_full;
    let found = event.wait(me, deadline, Pace::Eager, |_| look_for_room(ring, mine));
    found.unwrap_or(Err(PushError::TimedOut))
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

    #[inline(always)]
    fn give_back(&self, count: u64) {
        let end = &self.0;
        let head = end.mine.get().wrapping_add(count);
        end.mine.set(head);
        // Release: the copies are over before the places are free.
        end.ring.parts.head.store(head, Ordering::Release);
        end.ring.parts.events.not_full.notify_one_by(end.me, end.fences);
    }

    /// Looks at the ring anew, and waits until there is one item at least.
    #[inline(always)]
    fn go_on(&self, deadline: Deadline) -> Result<(), PopError> {
        let end = &self.0;
        if !end.is_mine() {
            return Err(PopError::Inherited);
        }
        let limit = match look_for_items(end.ring, end.mine.get()) {
            Some(Ok(limit)) if end.is_worth_while(limit) => limit,
            Some(Ok(limit)) => {
                end.pause.set((2 * end.pause.get() + 1).min(LONGEST_PAUSE));
                step_back(end.ring, end.mine.get(), limit, end.pause.get())
            }
            Some(Err(error)) => return Err(error),
            None => {
                end.pause.set(end.pause.get() / 2);
                wait_for_items(end.ring, end.me, end.mine.get(), deadline)?
            }
        };
        end.limit.set(limit);
        Ok(())
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
        let end = &self.0;
        if !end.may_go_on() {
            self.go_on(deadline)?;
        }
        // SAFETY: the item at the head was published, and this end has the role.
        let item = unsafe { end.ring.item(end.mine.get()).read() };
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
        let end = &self.0;
        if !(end.may_go_on() && end.left() >= room.len() as u64) {
            self.go_on(deadline)?;
        }
        let count = (room.len() as u64).min(end.left()) as usize;
        let (ring, start) = (end.ring, end.mine.get());
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
    #[inline]
    fn drop(&mut self) {
        self.0.leave(&self.0.ring.parts.roles.consumer);
    }
}

/// Up to which index the consumer may take, if that is further than its own, `mine`.
#[inline(always)]
fn look_for_items<T: Pod>(ring: SpscRing<'_, T>, mine: u64) -> Option<Result<u64, PopError>> {
    // Acquire meets the producer's Release: the items are there.
    let tail = ring.parts.tail.load(Ordering::Acquire);
    match tail.wrapping_sub(mine) {
        0 => None,
        there if there <= ring.capacity => Some(Ok(tail)),
        _ => Some(Err(PopError::Corrupt)),
    }
}

/// Lets the producer get ahead for a moment; how far that is then, at least `limit`.
#[cold]
#[inline(never)]
fn step_back<T: Pod>(ring: SpscRing<'_, T>, mine: u64, limit: u64, pause: u32) -> u64 {
    (0..pause).for_each(|_| core::hint::spin_loop());
    match look_for_items(ring, mine) {
        Some(Ok(further)) => further,
        _ => limit,
    }
}

/// The same, waiting until it is so, or the ring is closed. Nobody can die in the way of this end.
#[cold]
#[inline(never)]
fn wait_for_items<T: Pod>(
    ring: SpscRing<'_, T>,
    me: Member<'_>,
    mine: u64,
    deadline: Deadline,
) -> Result<u64, PopError> {
    let look = |_| {
        // Before the tail: it is the end only if nothing is there after the mark was seen.
        let closed = ring.is_closed();
        look_for_items(ring, mine).or(closed.then_some(Err(PopError::Closed)))
    };
    if deadline == Deadline::NOW {
        return look(false).unwrap_or(Err(PopError::Empty));
    }
    let event = &ring.parts.events.not_empty;
    event.wait(me, deadline, Pace::Eager, look).unwrap_or(Err(PopError::TimedOut))
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
