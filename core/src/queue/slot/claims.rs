//! Claims: how a place is taken, and what is in the way.

use bytemuck::Pod;

use super::{Blocked, FREE, FUEL, FULL, SlotQueue, TICKET_MASK, Turn, WRITING, ahead};
use crate::queue::{PopError, PushError};
use crate::region::{Member, Short};
use crate::sys::atomic::{Ordering, fence};

impl<T: Pod> SlotQueue<'_, T> {
    /// Makes sure that the last claim of a ticket word shows in its slot, which lets the word name the next.
    #[inline]
    pub(super) fn help(&self, turn: Turn, unclaimed: u64) {
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
    pub(super) fn claim_push(&self, me: Short, most: u64) -> Result<(u64, u64), (Blocked, u64)> {
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
    pub(super) fn has_room(&self, ticket: u64) -> bool {
        // Acquire meets the Release of the consumer that freed it: its copy is over.
        let free = self.slot(ticket).word.load(Ordering::Acquire)
            == self.word(ticket, FREE, Short::NOBODY);
        free && (self.capacity == self.slots.len() as u64 || self.gate_is_open(ticket))
    }

    /// A capacity below the number of slots: the item `capacity` tickets ago has to be gone.
    pub(super) fn gate_is_open(&self, ticket: u64) -> bool {
        let gate = ticket.wrapping_sub(self.capacity) & TICKET_MASK;
        let word = self.slot(gate).word.load(Ordering::Acquire);
        self.has_gone_by(word, gate)
    }

    /// Nothing could be claimed at this turn: why? `None`: it is over, look again.
    #[cold]
    pub(super) fn why_no_room(&self, turn: Turn) -> Option<Blocked> {
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

    /// Has `take` do what it will with the first item, until it has done it or something is in the way. `take` gets the turn
    /// at which the item was there, and answers `None` if that was over meanwhile. `draining`: whether the queue was shut
    /// down does not matter.
    #[inline]
    pub(super) fn at_head<R>(
        &self,
        me: Member<'_>,
        draining: bool,
        take: &mut impl FnMut(Turn) -> Option<R>,
    ) -> Result<R, (Blocked, u64)> {
        let mut fuel = FUEL;
        loop {
            // Acquire: as in `claim_push`.
            let turn = Turn(self.parts.head.load(Ordering::Acquire));
            let ticket = turn.ticket();
            if turn.closed() && !draining {
                return Err((Blocked::Closed, ticket));
            }
            self.help(turn, FULL);
            if self.has_item(ticket) {
                if let Some(done) = take(turn) {
                    return Ok(done);
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

    /// Claims up to `most` items at this turn, the first of which is there: the first ticket and how many, or `None` if the
    /// turn is over.
    #[inline]
    pub(super) fn take(&self, turn: Turn, most: u64, tag: Short) -> Option<(u64, u64)> {
        let ticket = turn.ticket();
        let mut count = 1;
        while count < most && self.has_item(ticket.wrapping_add(count) & TICKET_MASK) {
            count += 1;
        }
        self.move_head(turn, count, tag).then_some((ticket, count))
    }

    /// Moves the head on; whether this turn was still the last.
    #[inline]
    fn move_head(&self, turn: Turn, count: u64, owner: Short) -> bool {
        let next = Turn::new(turn.ticket().wrapping_add(count), turn.closed(), owner);
        // AcqRel: as in `claim_push`.
        self.parts
            .head
            .compare_exchange(turn.0, next.0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    #[inline]
    pub(super) fn has_item(&self, ticket: u64) -> bool {
        // Acquire meets the Release of the producer that published it.
        self.slot(ticket).word.load(Ordering::Acquire) == self.word(ticket, FULL, Short::NOBODY)
    }

    /// Nothing could be claimed at this turn: why? `None`: it is over, look again.
    #[cold]
    pub(super) fn why_no_item(&self, me: Member<'_>, turn: Turn) -> Option<Blocked> {
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
            // Given up, and perhaps used again already: nobody's item. Pass it, and all such behind it: that the lap of a
            // slot has gone by is true for good. One round at most: what lies behind that is for the next look.
            _ if self.has_gone_by(word, ticket) => {
                let mut count = 1;
                while count < ahead(tail.ticket(), ticket).min(1 << self.log2) {
                    let next = ticket.wrapping_add(count) & TICKET_MASK;
                    // Acquire: as above.
                    if !self.has_gone_by(self.slot(next).word.load(Ordering::Acquire), next) {
                        break;
                    }
                    count += 1;
                }
                // Failure: somebody else passed it.
                if self.move_head(turn, count, Short::NOBODY) {
                    self.notify_both(me);
                }
                None
            }
            _ => Some(Blocked::Corrupt),
        }
    }

    pub(super) fn notify_both(&self, me: Member<'_>) {
        self.parts.events.not_empty.notify_all(me);
        self.parts.events.not_full.notify_all(me);
    }

    /// Tries to claim places to put something; repairs what the dead have left in the way if `ask`.
    #[inline]
    pub(super) fn attempt_push(
        &self,
        me: Member<'_>,
        most: u64,
        ask: bool,
    ) -> Result<(u64, u64), PushError> {
        let tag = me.tag()?.short();
        match self.claim_push(tag, most) {
            Ok(claim) => Ok(claim),
            Err((blocked, ticket)) => self.retry_push(me, most, ask, blocked, ticket),
        }
    }

    #[cold]
    pub(super) fn retry_push(
        &self,
        me: Member<'_>,
        most: u64,
        ask: bool,
        mut blocked: Blocked,
        mut ticket: u64,
    ) -> Result<(u64, u64), PushError> {
        let tag = me.tag()?.short();
        // Each round frees a slot at least; no more than all of them can be in the way.
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

    /// Tries to do something with the first item, see [`at_head`](Self::at_head); repairs what the dead have left in the way if
    /// `ask`.
    #[inline]
    pub(super) fn attempt_at_head<R>(
        &self,
        me: Member<'_>,
        ask: bool,
        draining: bool,
        take: &mut impl FnMut(Turn) -> Option<R>,
    ) -> Result<R, PopError> {
        match self.at_head(me, draining, take) {
            Ok(done) => Ok(done),
            Err((blocked, ticket)) => self.retry_at_head(me, ask, draining, take, blocked, ticket),
        }
    }

    #[cold]
    fn retry_at_head<R>(
        &self,
        me: Member<'_>,
        ask: bool,
        draining: bool,
        take: &mut impl FnMut(Turn) -> Option<R>,
        mut blocked: Blocked,
        mut ticket: u64,
    ) -> Result<R, PopError> {
        // Each round frees a slot at least; no more than all of them can be in the way.
        for _ in 0..=self.slots.len() {
            if !matches!(blocked, Blocked::ByClaim) || !ask {
                break;
            }
            match self.unblock(me, ticket) {
                Ok(true) => match self.at_head(me, draining, take) {
                    Ok(done) => return Ok(done),
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
}
