//! A queue for many producers and many consumers, in which each claim bears a name.
//!
//! ```text
//! ticket words, head and tail:   ticket 43 | CLOSED 1 | tag 20        tag: who made the last claim
//! slot word:                     lap 42    | state 2  | tag 20        slot of ticket t: t mod N, lap t div N
//!
//! FREE(lap) → [WRITING(lap, o)] → FULL(lap) → [READING(lap, o)] → FREE(lap+1)
//! ```
//!
//! - A claim is one compare-and-swap of a ticket word, (t, o) → (t+1, me). The claimer copies its item and publishes
//!   by one store: FULL(lap) or FREE(lap+1).
//! - The states in brackets are written by others only. Who wants to move a ticket word on first *helps*: it makes
//!   sure that the last claim shows in its slot, by one compare-and-swap from exactly FREE(lap) or FULL(lap).
//!   Mostly the slot has moved on, and that is one load. So the last claim is named by the ticket word, and every
//!   earlier one that is unfinished by its slot.
//! - A batch claims k tickets at once. Only its last slot is ever marked; it is published in ascending order.
//! - Whoever is blocked at a slot finds its owner: by its mark; else by the first mark behind it, up to the
//!   ticket word, which was loaded *before* the scan; else by the ticket word itself, which is then helped. Up to that mark
//!   all is of one claim: every earlier claim that was not finished would show before it. If the owner is dead, one exact
//!   compare-and-swap each makes its slots FREE(lap+1), in ascending order: what names the owner goes last.
//! - The head passes slots whose lap has gone by, with the tag of nobody.
//! - Closing sets a bit in the tail word, so that no push is acknowledged behind a consumer that saw "closed and empty".
//!   Shutting down at once sets it in the head word, too: who takes sees it in the word that it has to look at anyway.
//! - One publication may make several items takeable, since tickets are published out of order. Who takes one and
//!   sees another while somebody sleeps notifies again; repairs and skips notify both sides; a batch wakes all.
//! - Who has found nothing at the head spins by looks at that slot's word alone, and at a word that says that the queue was
//!   closed: a look at the tail would take its line from those who put. Both are hints; before it sleeps it looks at all.
//! - Nobody gets stuck: a living claimer finishes in a bounded number of steps, a dead one is repaired by whoever it
//!   blocks. Waiting for a living claimer that was stopped is blocking: tries answer `Busy`.
//!
//! Promise: at most once. What a push has acknowledged is delivered, unless the consumer that had claimed it died
//! with it in its hand: then it is counted as lost. A push that was not acknowledged is there as a whole or not at all.
//!
//! Tickets and laps are compared modulo their width. The slot's lap is Dmitry Vyukov's bounded queue; the names in
//! the words, the helping and the repair are this crate's.

#[cfg(not(loom))]
mod any;
mod batch;
mod beside;
mod calls;
mod claims;
mod peek;
mod ready;
mod repair;
mod spin;

use bytemuck::Pod;

use super::shape::Shape;
use crate::region::{Member, Short, Tag};
use crate::sys::Padded;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::cell::ItemCell;
use crate::sys::spin::Calm;
use crate::wait::Eventcount;

#[cfg(not(loom))]
pub use any::AnySlotQueue;
pub use ready::Room;

const TICKET_BITS: u32 = 43;
const TICKET_SHIFT: u32 = 21;
const CLOSED: u64 = 1 << Short::BITS;
const TICKET_MASK: u64 = (1 << TICKET_BITS) - 1;

const LAP_BITS: u32 = 42;
const LAP_SHIFT: u32 = 22;

const FREE: u64 = 0;
const WRITING: u64 = 1;
const FULL: u64 = 2;
const READING: u64 = 3;

/// How often an attempt starts over before it lets others go first: only a stream of rivals makes it do so.
const FUEL: u32 = 1 << 12;

/// How many places a producer that spins at a full queue waits for: few enough that they are free before its patience ends.
const ROOM: u64 = 32;

/// A ticket word, taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Turn(u64);

impl Turn {
    fn new(ticket: u64, closed: bool, owner: Short) -> Self {
        Self(
            (ticket & TICKET_MASK) << TICKET_SHIFT | if closed { CLOSED } else { 0 } | owner.bits(),
        )
    }

    #[inline]
    fn ticket(self) -> u64 {
        self.0 >> TICKET_SHIFT
    }

    #[inline]
    fn closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    #[inline]
    fn owner(self) -> Short {
        Short::from_bits(self.0)
    }
}

/// How far `to` lies ahead of `from`, on the circle of tickets.
#[inline]
fn ahead(to: u64, from: u64) -> u64 {
    to.wrapping_sub(from) & TICKET_MASK
}

/// One place of the queue, as it lies in shared memory.
#[derive(Debug)]
#[repr(C)]
pub struct Slot<T> {
    word: AtomicU64,
    item: ItemCell<T>,
}

/// What stands in front of the slots.
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
    /// Not 0 once the queue was closed: beside the words that everybody reads and few write.
    shut: AtomicU32,
    /// How those who wait for an item spin.
    calm: Calm,
    /// Items that were lost in a dead one's hand.
    lost: AtomicU64,
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl crate::region::Shareable for Head {}
#[cfg(not(loom))]
// SAFETY: an atomic and a cell of plain data that is touched under a claim only; every bit pattern is valid.
unsafe impl<T: Pod> crate::region::Shareable for Slot<T> {}

/// A place of one queue that this process has claimed, to be filled or emptied and then published. Whoever holds it does
/// nothing but copy: others may be waiting behind it.
///
/// Only the queue that it is of, the process that made it and the right half of the call can finish it; elsewhere it does
/// nothing.
#[must_use = "a claim that is not published blocks the queue while this process lives"]
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    ticket: u64,
    queue: usize,
    tag: Tag,
    puts: bool,
}

impl Claim {
    /// Which turn of the queue this is: counts up, and wraps after 2⁴³.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    #[inline]
    fn is_of<T>(&self, queue: &SlotQueue<'_, T>, me: Member<'_>, puts: bool) -> bool {
        self.queue == core::ptr::from_ref(queue.parts).addr()
            && self.puts == puts
            && me.is(self.tag)
    }
}

/// What stands in the way.
enum Blocked {
    /// Nothing is there to be taken, or no room to put something.
    Exhausted,
    /// A claim that is not finished.
    ByClaim,
    /// The queue was closed, and nothing is there.
    Closed,
    /// The memory is damaged.
    Corrupt,
}

/// A bounded queue of plain items in shared memory: many producers, many consumers, each of whom may be killed at any
/// instruction.
///
/// First in, first out for each producer; linearizable. Without contention a push or a pop is one
/// compare-and-swap and one store; no system call, no allocation.
///
/// This is a view: two words and two slices' worth of pointers into the region. Make it once and copy it.
pub struct SlotQueue<'r, T> {
    parts: &'r Head,
    slots: &'r [Slot<T>],
    capacity: u64,
    log2: u32,
    lap_mask: u64,
    /// How many of `slots` lie from one place to the next: 1, except where the items are not known.
    stride: usize,
}

impl<T> Clone for SlotQueue<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SlotQueue<'_, T> {}

impl<T: Pod> core::fmt::Debug for SlotQueue<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SlotQueue")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// The mark of a slot queue's header.
#[cfg(not(loom))]
const KIND: u32 = 0x51_53_4C_54;

#[cfg(not(loom))]
impl<'r, T: Pod> SlotQueue<'r, T> {
    /// How many bytes a queue of this capacity takes, at a multiple of 128; more than there can be if no queue can have it.
    #[must_use]
    pub const fn bytes_for(capacity: u64) -> u64 {
        match capacity.checked_next_power_of_two() {
            Some(slots) => slots
                .saturating_mul(size_of::<Slot<T>>() as u64)
                .saturating_add(size_of::<Head>() as u64),
            None => u64::MAX,
        }
    }

    /// Makes a queue in zeroed memory of the region that nobody else uses.
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

    /// The same with tickets that do not start at zero but at this multiple of the number of slots: for tests of
    /// what happens when they wrap.
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
        let queue = Self::view(region, offset, capacity)?;
        queue.reset(first);
        queue.parts.shape.write(KIND, size_of::<T>(), capacity);
        Ok(queue)
    }

    /// Finds the queue that lies at `offset`.
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
        let slots = region
            .objects::<Slot<T>>(offset + size_of::<Head>() as u64, capacity.next_power_of_two())?;
        Ok(Self::over(parts, slots, capacity))
    }
}

impl<'r, T: Pod> SlotQueue<'r, T> {
    /// A view of these parts; the number of slots is a power of two, and `capacity` at most that.
    fn over(parts: &'r Head, slots: &'r [Slot<T>], capacity: u64) -> Self {
        let log2 = slots.len().trailing_zeros();
        let lap_mask = (1 << (TICKET_BITS - log2).min(LAP_BITS)) - 1;
        Self { parts, slots, capacity, log2, lap_mask, stride: 1 }
    }

    fn reset(&self, first: u64) {
        let first = first & TICKET_MASK & !((1u64 << self.log2) - 1);
        for (index, slot) in self.slots.iter().enumerate() {
            slot.word
                .store(self.word(first + index as u64, FREE, Short::NOBODY), Ordering::Relaxed);
        }
        self.parts.tail.store(Turn::new(first, false, Short::NOBODY).0, Ordering::Relaxed);
        self.parts.head.store(Turn::new(first, false, Short::NOBODY).0, Ordering::Relaxed);
    }

    #[inline]
    fn slot(&self, ticket: u64) -> &'r Slot<T> {
        if const { size_of::<T>() == 0 } {
            // Perhaps only seen so: see `AnySlotQueue`. In bounds, since there are `stride` for each place.
            return &self.slots[(ticket as usize & ((1 << self.log2) - 1)) * self.stride];
        }
        // The mask keeps the index in bounds: the number of slots is a power of two.
        &self.slots[ticket as usize & (self.slots.len() - 1)]
    }

    #[inline]
    fn lap(&self, ticket: u64) -> u64 {
        ticket >> self.log2 & self.lap_mask
    }

    /// The slot word of `ticket` in this state.
    #[inline]
    fn word(&self, ticket: u64, state: u64, owner: Short) -> u64 {
        self.lap(ticket) << LAP_SHIFT | state << Short::BITS | owner.bits()
    }

    /// The slot word after `ticket` is over: FREE(lap+1).
    #[inline]
    fn passed(&self, ticket: u64) -> u64 {
        ((self.lap(ticket) + 1) & self.lap_mask) << LAP_SHIFT
    }

    /// How many laps `word` is ahead of `ticket`: 0 for its own lap, 1 for the next, `lap_mask` for the one before.
    #[inline]
    fn laps_ahead(&self, word: u64, ticket: u64) -> u64 {
        (word >> LAP_SHIFT).wrapping_sub(self.lap(ticket)) & self.lap_mask
    }

    /// Whether the slot that holds `word` is past the turn of `ticket`: by one lap mostly, by more if claims on it
    /// were given up several times before the head came along.
    #[inline]
    fn has_gone_by(&self, word: u64, ticket: u64) -> bool {
        let laps = self.laps_ahead(word, ticket);
        laps != 0 && laps <= self.lap_mask / 2
    }

    #[inline]
    fn state(word: u64) -> u64 {
        word >> Short::BITS & 3
    }
}

/// A queue on the heap, for the model checker: its slots are no plain memory there.
#[cfg(loom)]
#[derive(Debug)]
pub struct Heap<T> {
    parts: Head,
    slots: std::vec::Vec<Slot<T>>,
    capacity: u64,
}

#[cfg(loom)]
impl<T: Pod> Heap<T> {
    /// A queue whose first ticket is `first`, rounded down to a multiple of the number of slots.
    #[must_use]
    pub fn new(capacity: u64, first: u64) -> Self {
        let slot = |_| Slot { word: AtomicU64::new(0), item: ItemCell::empty() };
        let heap = Self {
            parts: Head {
                tail: Padded(AtomicU64::new(0)),
                head: Padded(AtomicU64::new(0)),
                events: Padded(Events {
                    not_empty: Eventcount::new(),
                    not_full: Eventcount::new(),
                    shut: AtomicU32::new(0),
                    calm: Calm::default(),
                    lost: AtomicU64::new(0),
                }),
                shape: Padded(Shape::default()),
            },
            slots: (0..capacity.next_power_of_two()).map(slot).collect(),
            capacity,
        };
        heap.queue().reset(first);
        heap
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> SlotQueue<'_, T> {
        SlotQueue::over(&self.parts, &self.slots, self.capacity)
    }
}

#[cfg(loom)]
impl<T: Pod> SlotQueue<'_, T> {
    /// The ticket of the next pop.
    #[must_use]
    pub fn next_ticket(&self) -> u64 {
        Turn(self.parts.head.load(Ordering::Relaxed)).ticket()
    }

    /// The item of a claim that takes.
    #[must_use]
    pub fn claimed(&self, claim: &Claim) -> T {
        // SAFETY: the claim makes the item its owner's to read.
        unsafe { self.slot(claim.ticket).item.read() }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
