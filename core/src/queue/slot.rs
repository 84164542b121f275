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
//!   ticket word, which was loaded *before* the scan; else by the ticket word itself, which is then helped. If the
//!   owner is dead, one exact compare-and-swap makes the slot FREE(lap+1), and that slot only.
//! - The head passes a slot whose lap has gone by, with the tag of nobody.
//! - Closing sets a bit in the tail word, so that no push is acknowledged behind a consumer that saw "closed and empty".
//! - One publication may make several items takeable, since tickets are published out of order. Who takes one and
//!   sees another while somebody sleeps notifies again; repairs and skips notify both sides; a batch wakes all.
//! - Nobody gets stuck: a living claimer finishes in a bounded number of steps, a dead one is repaired by whoever it
//!   blocks. Waiting for a living claimer that was stopped is blocking: tries answer `Busy`.
//!
//! Promise: at most once. What a push has acknowledged is delivered, unless the consumer that had claimed it died
//! with it in its hand. A push that was not acknowledged is there as a whole or not at all.
//!
//! Tickets and laps are compared modulo their width. The slot's lap is Dmitry Vyukov's bounded queue; the names in
//! the words, the helping and the repair are this crate's.

use bytemuck::Pod;

use super::error::{PopError, PushError};
use crate::region::{Member, Short, Verdict};
use crate::sys::atomic::{AtomicU64, Ordering, fence};
use crate::sys::cell::ItemCell;
use crate::sys::spin::Pace;
use crate::sys::{Deadline, Padded};
use crate::wait::Eventcount;

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

/// The most items that a queue can hold.
pub const MOST: u64 = 1 << 30;
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
}

#[derive(Debug)]
#[repr(C)]
struct Shape {
    kind: crate::sys::atomic::AtomicU32,
    item: crate::sys::atomic::AtomicU32,
    capacity: AtomicU64,
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl crate::region::Shareable for Head {}
#[cfg(not(loom))]
// SAFETY: an atomic and a cell of plain data that is touched under a claim only; every bit pattern is valid.
unsafe impl<T: Pod> crate::region::Shareable for Slot<T> {}

/// A place of the queue that this process has claimed, to be filled or emptied and then published. Whoever holds it
/// does nothing but copy: others may be waiting behind it.
#[must_use = "a claim that is not published blocks the queue while this process lives"]
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    ticket: u64,
}

impl Claim {
    /// Which turn of the queue this is: counts up, and wraps after 2⁴³.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.ticket
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
    /// How many bytes a queue of this capacity takes, at a multiple of 128.
    #[must_use]
    pub const fn bytes_for(capacity: u64) -> u64 {
        size_of::<Head>() as u64 + capacity.next_power_of_two() * size_of::<Slot<T>>() as u64
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
        if capacity == 0 || capacity > MOST {
            return Err(super::QueueError::Capacity { asked: capacity, most: MOST });
        }
        let queue = Self::view(region, offset, capacity)?;
        queue.reset(first);
        let shape = &queue.parts.shape;
        shape.item.store(size_of::<T>() as u32, Ordering::Relaxed);
        shape.capacity.store(capacity, Ordering::Relaxed);
        // Release meets the Acquire of `attach`.
        shape.kind.store(KIND, Ordering::Release);
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
        Self { parts, slots, capacity, log2, lap_mask }
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

    /// Makes sure that the last claim of a ticket word shows in its slot, which lets the word name the next.
    #[inline]
    fn help(&self, turn: Turn, unclaimed: u64) {
        if turn.owner().is_nobody() {
            return;
        }
        let last = turn.ticket().wrapping_sub(1) & TICKET_MASK;
        let slot = self.slot(last);
        let expected = self.word(last, unclaimed, Short::NOBODY);
        // Relaxed: a claim that has not been published shows as `expected`, since the ticket word was loaded with
        // Acquire after the claimer had seen that; one that has been published shows as something later.
        if slot.word.load(Ordering::Relaxed) == expected {
            let marked = self.word(last, unclaimed + 1, turn.owner());
            // Release: who sees the mark sees the claim, too, and does not take it for damage. Failure means that the
            // claim was published.
            let _ =
                slot.word.compare_exchange(expected, marked, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// Claims up to `most` places to put something. `ask`: ask the kernel about who is in the way.
    #[inline]
    fn claim_push(&self, me: Short, most: u64) -> Result<(u64, u64), (Blocked, u64)> {
        let mut fuel = FUEL;
        loop {
            // Acquire, also after a failed compare-and-swap: whoever helps must see the slot as the claimer saw it.
            let turn = Turn(self.parts.tail.load(Ordering::Acquire));
            let ticket = turn.ticket();
            if turn.closed() {
                return Err((Blocked::Closed, ticket));
            }
            self.help(turn, FREE);
            let mut count = 0;
            while count < most && self.has_room(ticket.wrapping_add(count) & TICKET_MASK) {
                count += 1;
            }
            if count > 0 {
                let next = Turn::new(ticket.wrapping_add(count), false, me);
                // AcqRel: Release for those who help this claim, Acquire for what the slots' last readers did.
                if self
                    .parts
                    .tail
                    .compare_exchange(turn.0, next.0, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
                {
                    return Ok((ticket, count));
                }
            } else if let Some(blocked) = self.why_no_room(turn) {
                return Err((blocked, ticket));
            }
            fuel -= 1;
            if fuel == 0 {
                return Err((Blocked::ByClaim, ticket));
            }
            core::hint::spin_loop();
        }
    }

    /// Whether the slot of `ticket` is free for it, and no more than `capacity` items are in front of it.
    #[inline]
    fn has_room(&self, ticket: u64) -> bool {
        // Acquire meets the Release of the consumer that freed it: its copy is over.
        let free = self.slot(ticket).word.load(Ordering::Acquire)
            == self.word(ticket, FREE, Short::NOBODY);
        free && (self.capacity == self.slots.len() as u64 || self.gate_is_open(ticket))
    }

    /// A capacity below the number of slots: the item `capacity` tickets ago has to be gone.
    fn gate_is_open(&self, ticket: u64) -> bool {
        let gate = ticket.wrapping_sub(self.capacity) & TICKET_MASK;
        let word = self.slot(gate).word.load(Ordering::Acquire);
        self.has_gone_by(word, gate)
    }

    /// Nothing could be claimed at this turn: why? `None`: it is over, look again.
    #[cold]
    fn why_no_room(&self, turn: Turn) -> Option<Blocked> {
        let ticket = turn.ticket();
        // The moment at which the queue was full: the tail was `ticket`, and the head is loaded after it.
        fence(Ordering::SeqCst);
        let head = Turn(self.parts.head.load(Ordering::Acquire)).ticket();
        let word = self.slot(ticket).word.load(Ordering::Acquire);
        let behind = self.laps_ahead(word, ticket);
        if Turn(self.parts.tail.load(Ordering::Acquire)) != turn {
            return None;
        }
        let waiting = ahead(ticket, head);
        if word == self.word(ticket, FREE, Short::NOBODY) {
            if self.capacity == self.slots.len() as u64 || self.gate_is_open(ticket) {
                return None;
            }
        } else if behind != self.lap_mask || waiting > TICKET_MASK / 2 {
            // With the tail at `ticket` its slot is free for it, and nobody's, or still in the lap before.
            return Some(Blocked::Corrupt);
        }
        Some(if waiting >= self.capacity { Blocked::Exhausted } else { Blocked::ByClaim })
    }

    /// Claims up to `most` items.
    #[inline]
    fn claim_pop(
        &self,
        me: Member<'_>,
        tag: Short,
        most: u64,
    ) -> Result<(u64, u64), (Blocked, u64)> {
        let mut fuel = FUEL;
        loop {
            // Acquire: as in `claim_push`.
            let turn = Turn(self.parts.head.load(Ordering::Acquire));
            let ticket = turn.ticket();
            self.help(turn, FULL);
            let mut count = 0;
            while count < most && self.has_item(ticket.wrapping_add(count) & TICKET_MASK) {
                count += 1;
            }
            if count > 0 {
                let next = Turn::new(ticket.wrapping_add(count), false, tag);
                // AcqRel: as in `claim_push`.
                if self
                    .parts
                    .head
                    .compare_exchange(turn.0, next.0, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
                {
                    return Ok((ticket, count));
                }
            } else if let Some(blocked) = self.why_no_item(me, turn) {
                return Err((blocked, ticket));
            }
            fuel -= 1;
            if fuel == 0 {
                return Err((Blocked::ByClaim, ticket));
            }
            core::hint::spin_loop();
        }
    }

    #[inline]
    fn has_item(&self, ticket: u64) -> bool {
        // Acquire meets the Release of the producer that published it.
        self.slot(ticket).word.load(Ordering::Acquire) == self.word(ticket, FULL, Short::NOBODY)
    }

    /// Nothing could be claimed at this turn: why? `None`: it is over, look again.
    #[cold]
    fn why_no_item(&self, me: Member<'_>, turn: Turn) -> Option<Blocked> {
        let ticket = turn.ticket();
        // The moment at which the queue was empty: the head was `ticket`, and the tail is loaded after it.
        fence(Ordering::SeqCst);
        let tail = Turn(self.parts.tail.load(Ordering::Acquire));
        let word = self.slot(ticket).word.load(Ordering::Acquire);
        if Turn(self.parts.head.load(Ordering::Acquire)) != turn {
            return None;
        }
        if tail.ticket() == ticket {
            return Some(if tail.closed() { Blocked::Closed } else { Blocked::Exhausted });
        }
        if ahead(tail.ticket(), ticket) > TICKET_MASK / 2 {
            return Some(Blocked::Corrupt);
        }
        match (self.laps_ahead(word, ticket), Self::state(word)) {
            // Such a slot is nobody's: a name there is damage.
            (0, FREE | FULL) if !Short::from_bits(word).is_nobody() => Some(Blocked::Corrupt),
            // Published since.
            (0, FULL) => None,
            (0, FREE | WRITING) => Some(Blocked::ByClaim),
            // Given up, and perhaps used again already: nobody's item. Pass it.
            _ if self.has_gone_by(word, ticket) => {
                let next = Turn::new(ticket.wrapping_add(1), false, Short::NOBODY);
                // AcqRel: as in `claim_push`. Failure: somebody else passed it.
                if self
                    .parts
                    .head
                    .compare_exchange(turn.0, next.0, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
                {
                    self.notify_both(me);
                }
                None
            }
            _ => Some(Blocked::Corrupt),
        }
    }

    /// Somebody's claim at `ticket` is in the way. If its owner is dead, frees this slot; whether anything changed.
    ///
    /// `Err`: the memory is damaged.
    #[cold]
    fn unblock(&self, me: Member<'_>, ticket: u64) -> Result<bool, Blocked> {
        let ticket = ticket & TICKET_MASK;
        let slot = self.slot(ticket);
        let word = slot.word.load(Ordering::Acquire);
        if self.laps_ahead(word, ticket) != 0 {
            return Ok(false);
        }
        let state = Self::state(word);
        let owner = match state {
            WRITING | READING => Some(Short::from_bits(word)),
            unclaimed => self.owner_of_unmarked(ticket, unclaimed),
        };
        let Some(owner) = owner else { return Ok(false) };
        match me.verdict_short(owner) {
            Verdict::Alive => Ok(false),
            Verdict::Corrupt => Err(Blocked::Corrupt),
            Verdict::Dead => {
                // AcqRel: after the verdict, which made all stores of the dead visible; for whoever uses the slot
                // next. Failure: the slot was published before its owner died, or somebody else repaired it.
                let freed = slot
                    .word
                    .compare_exchange(
                        word,
                        self.passed(ticket),
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    )
                    .is_ok();
                if freed {
                    self.notify_both(me);
                }
                Ok(freed)
            }
        }
    }

    /// Who has claimed this ticket, whose slot bears no mark? `None`: nobody, or it cannot be told now.
    fn owner_of_unmarked(&self, ticket: u64, unclaimed: u64) -> Option<Short> {
        let word = if unclaimed == FREE { &self.parts.tail } else { &self.parts.head };
        // Before the scan: claims made later must not be taken for this one's.
        let turn = Turn(word.load(Ordering::Acquire));
        let claimed = ahead(turn.ticket(), ticket);
        if claimed == 0 || claimed > self.slots.len() as u64 {
            return None;
        }
        for step in 0..claimed {
            let behind = ticket.wrapping_add(step) & TICKET_MASK;
            let seen = self.slot(behind).word.load(Ordering::Acquire);
            if seen == self.word(behind, unclaimed, Short::NOBODY) {
                continue;
            }
            let marked = self.laps_ahead(seen, behind) == 0 && Self::state(seen) == unclaimed + 1;
            return marked.then(|| Short::from_bits(seen));
        }
        // Nothing is marked up to the last claim: that one covers this ticket, for each earlier one was made to show
        // before the next was made.
        (!turn.owner().is_nobody()).then(|| turn.owner())
    }

    fn notify_both(&self, me: Member<'_>) {
        self.parts.events.not_empty.notify_all(me);
        self.parts.events.not_full.notify_all(me);
    }

    /// Tries to claim places to put something; repairs what the dead have left in the way if `ask`.
    #[inline]
    fn attempt_push(&self, me: Member<'_>, most: u64, ask: bool) -> Result<(u64, u64), PushError> {
        let tag = me.tag()?.short();
        match self.claim_push(tag, most) {
            Ok(claim) => Ok(claim),
            Err((blocked, ticket)) => self.retry_push(me, most, ask, blocked, ticket),
        }
    }

    #[cold]
    fn retry_push(
        &self,
        me: Member<'_>,
        most: u64,
        ask: bool,
        mut blocked: Blocked,
        mut ticket: u64,
    ) -> Result<(u64, u64), PushError> {
        let tag = me.tag()?.short();
        // Each round frees a slot; no more than all of them can be in the way.
        for _ in 0..=self.slots.len() {
            if matches!(blocked, Blocked::Closed | Blocked::Corrupt) || !ask {
                break;
            }
            let slots = self.slots.len() as u64;
            let changed = self.unblock(me, ticket.wrapping_sub(slots)).and_then(|changed| {
                let gate = ticket.wrapping_sub(self.capacity);
                Ok(changed || self.capacity != slots && self.unblock(me, gate)?)
            });
            match changed {
                Ok(true) => {}
                Ok(false) => break,
                Err(damage) => blocked = damage,
            }
            if !matches!(blocked, Blocked::Corrupt) {
                match self.claim_push(tag, most) {
                    Ok(claim) => return Ok(claim),
                    Err(again) => (blocked, ticket) = again,
                }
            }
        }
        Err(match blocked {
            Blocked::Exhausted => PushError::Full,
            Blocked::ByClaim => PushError::Busy,
            Blocked::Closed => PushError::Closed,
            Blocked::Corrupt => PushError::Corrupt,
        })
    }

    #[inline]
    fn attempt_pop(&self, me: Member<'_>, most: u64, ask: bool) -> Result<(u64, u64), PopError> {
        let tag = me.tag()?.short();
        match self.claim_pop(me, tag, most) {
            Ok(claim) => Ok(claim),
            Err((blocked, ticket)) => self.retry_pop(me, most, ask, blocked, ticket),
        }
    }

    #[cold]
    fn retry_pop(
        &self,
        me: Member<'_>,
        most: u64,
        ask: bool,
        mut blocked: Blocked,
        mut ticket: u64,
    ) -> Result<(u64, u64), PopError> {
        let tag = me.tag()?.short();
        for _ in 0..=self.slots.len() {
            if !matches!(blocked, Blocked::ByClaim) || !ask {
                break;
            }
            match self.unblock(me, ticket) {
                Ok(true) => match self.claim_pop(me, tag, most) {
                    Ok(claim) => return Ok(claim),
                    Err(again) => (blocked, ticket) = again,
                },
                Ok(false) => break,
                Err(damage) => blocked = damage,
            }
        }
        Err(match blocked {
            Blocked::Exhausted => PopError::Empty,
            Blocked::ByClaim => PopError::Busy,
            Blocked::Closed => PopError::Closed,
            Blocked::Corrupt => PopError::Corrupt,
        })
    }

    /// Makes a claimed and filled place an item of the queue.
    #[inline]
    fn publish_full(&self, ticket: u64) {
        // Release: the item before the word. A plain store: nobody moves the slot of a living claimer on.
        self.slot(ticket).word.store(self.word(ticket, FULL, Short::NOBODY), Ordering::Release);
    }

    /// Gives a claimed and emptied place back.
    #[inline]
    fn publish_free(&self, ticket: u64) {
        // Release: the copy is over before the place is free.
        self.slot(ticket).word.store(self.passed(ticket), Ordering::Release);
    }

    /// After putting up to `ticket`: wakes a consumer, and a further producer if there is more room.
    #[inline]
    fn pushed(&self, me: Member<'_>, ticket: u64) {
        self.parts.events.not_empty.notify_one(me);
        if self.parts.events.not_full.is_awaited()
            && self.has_room(ticket.wrapping_add(1) & TICKET_MASK)
        {
            self.parts.events.not_full.notify_one(me);
        }
    }

    /// After taking up to `ticket`: wakes a producer, and a further consumer if there is more.
    #[inline]
    fn popped(&self, me: Member<'_>, ticket: u64) {
        self.parts.events.not_full.notify_one(me);
        if self.parts.events.not_empty.is_awaited()
            && self.has_item(ticket.wrapping_add(1) & TICKET_MASK)
        {
            self.parts.events.not_empty.notify_one(me);
        }
    }

    /// Claims a place to put an item, waiting until `deadline`: the first half of a push, for items that are written
    /// in place. Follow it with [`item`](Self::item) and [`finish_push`](Self::finish_push), and with nothing that can
    /// fail in between.
    ///
    /// # Errors
    /// As [`push_until`](Self::push_until); with [`Deadline::NOW`] `Full` or `Busy` instead of `TimedOut`.
    #[inline]
    pub fn start_push(&self, me: Member<'_>, deadline: Deadline) -> Result<Claim, PushError> {
        self.wait_push(me, 1, deadline).map(|(ticket, _)| Claim { ticket })
    }

    /// Claims the next item, waiting until `deadline`: the first half of a pop.
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until); with [`Deadline::NOW`] `Empty` or `Busy` instead of `TimedOut`.
    #[inline]
    pub fn start_pop(&self, me: Member<'_>, deadline: Deadline) -> Result<Claim, PopError> {
        self.wait_pop(me, 1, deadline).map(|(ticket, _)| Claim { ticket })
    }

    /// Where the item of a claim lies; good until the claim is finished.
    #[cfg(not(loom))]
    #[inline]
    #[must_use]
    pub fn item(&self, claim: &Claim) -> *mut T {
        self.slot(claim.ticket).item.as_ptr()
    }

    /// Publishes what was written to the claimed place.
    #[inline]
    pub fn finish_push(&self, me: Member<'_>, claim: Claim) {
        self.publish_full(claim.ticket);
        self.pushed(me, claim.ticket);
    }

    /// Gives the place of an item back that has been copied out.
    #[inline]
    pub fn finish_pop(&self, me: Member<'_>, claim: Claim) {
        self.publish_free(claim.ticket);
        self.popped(me, claim.ticket);
    }

    #[inline]
    fn wait_push(
        &self,
        me: Member<'_>,
        most: u64,
        deadline: Deadline,
    ) -> Result<(u64, u64), PushError> {
        let ask = deadline == Deadline::NOW;
        match self.attempt_push(me, most, false) {
            Err(PushError::Busy | PushError::Full) if !ask || me.may_ask() => {}
            answer => return answer,
        }
        if ask {
            return self.attempt_push(me, most, true);
        }
        let mut watched = None;
        let found = self.parts.events.not_full.wait(me, deadline, Pace::Eager, |ask| {
            // While spinning, wait until an eighth of the queue is free, or ROOM places, by a look at the slot that will be
            // free then. Who takes each place as it becomes free meets the consumers at every one, and both wait for cache lines.
            if !ask {
                let far = *watched.get_or_insert_with(|| {
                    let tail = Turn(self.parts.tail.load(Ordering::Relaxed)).ticket();
                    tail.wrapping_sub(self.capacity - (self.capacity / 8).min(ROOM)) & TICKET_MASK
                });
                // Relaxed: only whether to look closer.
                if !self.has_gone_by(self.slot(far).word.load(Ordering::Relaxed), far) {
                    return None;
                }
            }
            match self.attempt_push(me, most, ask) {
                Err(PushError::Full | PushError::Busy) => None,
                answer => Some(answer),
            }
        });
        found.unwrap_or(Err(PushError::TimedOut))
    }

    /// Whether the slot at this ticket word has changed since the last look: while it stays as it is, nothing can be done
    /// here, and looking at more would take cache lines from those who work.
    #[inline]
    fn has_changed(&self, watched: &mut Option<(u64, u64)>, turn: &AtomicU64) -> bool {
        if let Some((ticket, seen)) = *watched {
            // Relaxed: only whether to look closer.
            if self.slot(ticket).word.load(Ordering::Relaxed) == seen {
                return false;
            }
        }
        let ticket = Turn(turn.load(Ordering::Relaxed)).ticket();
        *watched = Some((ticket, self.slot(ticket).word.load(Ordering::Relaxed)));
        true
    }

    #[inline]
    fn wait_pop(
        &self,
        me: Member<'_>,
        most: u64,
        deadline: Deadline,
    ) -> Result<(u64, u64), PopError> {
        let ask = deadline == Deadline::NOW;
        match self.attempt_pop(me, most, false) {
            Err(PopError::Busy) if ask && me.may_ask() => return self.attempt_pop(me, most, true),
            Err(PopError::Busy | PopError::Empty) if !ask => {}
            answer => return answer,
        }
        let mut watched = None;
        let found = self.parts.events.not_empty.wait(me, deadline, Pace::Eager, |ask| {
            if !ask && !self.has_changed(&mut watched, &self.parts.head) {
                return None;
            }
            match self.attempt_pop(me, most, ask) {
                Err(PopError::Empty | PopError::Busy) => None,
                answer => Some(answer),
            }
        });
        found.unwrap_or(Err(PopError::TimedOut))
    }

    /// Puts an item, waiting for room as long as it takes.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Join`.
    #[inline]
    pub fn push(&self, me: Member<'_>, item: T) -> Result<(), PushError> {
        self.push_until(me, Deadline::NEVER, item)
    }

    /// Puts an item if there is room now.
    ///
    /// # Errors
    /// `Full`, `Busy`, `Closed`, `Corrupt`, `Join`.
    #[inline]
    pub fn try_push(&self, me: Member<'_>, item: T) -> Result<(), PushError> {
        self.push_until(me, Deadline::NOW, item)
    }

    /// Puts an item, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` or `Busy` with [`Deadline::NOW`]), `Closed`, `Corrupt`, `Join`.
    #[inline]
    pub fn push_until(&self, me: Member<'_>, deadline: Deadline, item: T) -> Result<(), PushError> {
        let claim = self.start_push(me, deadline)?;
        // SAFETY: the claim is this process's, and a living claimer's slot is left alone by all others.
        unsafe { self.slot(claim.ticket).item.write(item) };
        self.finish_push(me, claim);
        Ok(())
    }

    /// Takes the next item, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `Closed` when the queue is closed and drained; `Corrupt`, `Join`.
    #[inline]
    pub fn pop(&self, me: Member<'_>) -> Result<T, PopError> {
        self.pop_until(me, Deadline::NEVER)
    }

    /// Takes the next item if there is one now.
    ///
    /// # Errors
    /// `Empty`, `Busy`, `Closed`, `Corrupt`, `Join`.
    #[inline]
    pub fn try_pop(&self, me: Member<'_>) -> Result<T, PopError> {
        self.pop_until(me, Deadline::NOW)
    }

    /// Takes the next item, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]), `Closed`, `Corrupt`, `Join`.
    #[inline]
    pub fn pop_until(&self, me: Member<'_>, deadline: Deadline) -> Result<T, PopError> {
        let claim = self.start_pop(me, deadline)?;
        // SAFETY: as in `push_until`; what was published is an item.
        let item = unsafe { self.slot(claim.ticket).item.read() };
        self.finish_pop(me, claim);
        Ok(item)
    }

    /// Puts as many of `items` as there is room for, at least one, in order and side by side; says how many. Waits for
    /// the first place until `deadline`.
    ///
    /// A death in between leaves the first of them in the queue, and none torn.
    ///
    /// # Errors
    /// As [`push_until`](Self::push_until): then none was put.
    pub fn push_many(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        items: &[T],
    ) -> Result<usize, PushError> {
        if items.is_empty() {
            return Ok(0);
        }
        let (ticket, count) = self.wait_push(me, items.len() as u64, deadline)?;
        for (item, ticket) in items.iter().zip(ticket..ticket + count) {
            // SAFETY: as in `push_until`.
            unsafe { self.slot(ticket).item.write(*item) };
            self.publish_full(ticket & TICKET_MASK);
        }
        self.parts.events.not_empty.notify_all(me);
        self.pushed(me, ticket.wrapping_add(count - 1) & TICKET_MASK);
        Ok(count as usize)
    }

    /// Takes as many items as are there and fit into `room`, at least one; says how many. Waits for the first until
    /// `deadline`.
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until): then none was taken.
    pub fn pop_many(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        room: &mut [T],
    ) -> Result<usize, PopError> {
        if room.is_empty() {
            return Ok(0);
        }
        let (ticket, count) = self.wait_pop(me, room.len() as u64, deadline)?;
        for (place, ticket) in room.iter_mut().zip(ticket..ticket + count) {
            // SAFETY: as in `pop_until`.
            *place = unsafe { self.slot(ticket).item.read() };
            self.publish_free(ticket & TICKET_MASK);
        }
        self.parts.events.not_full.notify_all(me);
        self.popped(me, ticket.wrapping_add(count - 1) & TICKET_MASK);
        Ok(count as usize)
    }

    /// Closes the queue: nothing is put any more, what is there can still be taken. Doing it twice is fine.
    pub fn close(&self, me: Member<'_>) {
        // AcqRel: a push that comes later sees the bit; the ticket and its owner stay as they are.
        self.parts.tail.fetch_or(CLOSED, Ordering::AcqRel);
        self.notify_both(me);
    }

    /// Whether the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        Turn(self.parts.tail.load(Ordering::Acquire)).closed()
    }

    /// How many items it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// How many items are in it: true at some moment during the call while no push or pop is under way; an unfinished
    /// push counts, an unfinished pop does not. A push whose process died counts until a consumer has passed its place.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut tail = Turn(self.parts.tail.load(Ordering::Acquire));
        // A few rounds: under a stream of pushes the last answer is as good as any.
        for _ in 0..16 {
            fence(Ordering::SeqCst);
            let head = Turn(self.parts.head.load(Ordering::Acquire));
            fence(Ordering::SeqCst);
            let again = Turn(self.parts.tail.load(Ordering::Acquire));
            if again.ticket() == tail.ticket() {
                return self.clamp(ahead(tail.ticket(), head.ticket()));
            }
            tail = again;
        }
        let head = Turn(self.parts.head.load(Ordering::Acquire));
        self.clamp(ahead(tail.ticket(), head.ticket()))
    }

    fn clamp(&self, items: u64) -> usize {
        // The head may have overtaken the tail that was read before.
        if items > TICKET_MASK / 2 { 0 } else { items.min(self.capacity) as usize }
    }

    /// Whether nothing is in it; see [`len`](Self::len).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it holds as much as it can; see [`len`](Self::len).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() as u64 == self.capacity
    }

    /// Whether `ticket`'s turn is over: taken and given back, or given up. Compared modulo 2³².
    #[cfg(not(loom))]
    #[must_use]
    pub fn has_passed(&self, ticket: u32) -> bool {
        let slot = self.slot(u64::from(ticket));
        let word = slot.word.load(Ordering::Acquire);
        let laps = 32u32.saturating_sub(self.log2).min(LAP_BITS);
        let mask = (1u64 << laps).wrapping_sub(1) & self.lap_mask;
        (word >> LAP_SHIFT) & mask != (u64::from(ticket) >> self.log2) & mask
    }

    /// Frees every place that a dead process has claimed, so that nothing in this queue names it any more. For
    /// queues that nobody uses: whoever uses one repairs what is in its way.
    ///
    /// # Errors
    /// [`PushError::Corrupt`] if the memory is damaged.
    pub fn sweep(&self, me: Member<'_>) -> Result<(), PushError> {
        self.help(Turn(self.parts.tail.load(Ordering::Acquire)), FREE);
        self.help(Turn(self.parts.head.load(Ordering::Acquire)), FULL);
        let slots = self.slots.len() as u64;
        let tail = Turn(self.parts.tail.load(Ordering::Acquire)).ticket();
        for ticket in (0..2 * slots).map(|back| tail.wrapping_sub(2 * slots - back) & TICKET_MASK) {
            let word = self.slot(ticket).word.load(Ordering::Acquire);
            // Items that nobody has claimed are left alone: `unblock` finds no owner for them.
            if self.laps_ahead(word, ticket) == 0 {
                self.unblock(me, ticket).map_err(|_| PushError::Corrupt)?;
            }
        }
        Ok(())
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
        use crate::sys::atomic::AtomicU32;
        let slot = |_| Slot { word: AtomicU64::new(0), item: ItemCell::empty() };
        let heap = Self {
            parts: Head {
                tail: Padded(AtomicU64::new(0)),
                head: Padded(AtomicU64::new(0)),
                events: Padded(Events {
                    not_empty: Eventcount::new(),
                    not_full: Eventcount::new(),
                }),
                shape: Padded(Shape {
                    kind: AtomicU32::new(0),
                    item: AtomicU32::new(0),
                    capacity: AtomicU64::new(0),
                }),
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

#[cfg(all(test, not(loom)))]
mod tests;
