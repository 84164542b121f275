//! Calls: push and pop in their forms, closing, counting, sweeping.

use bytemuck::Pod;

use super::{
    CLOSED, Claim, FREE, FULL, LAP_BITS, LAP_SHIFT, ROOM, Short, SlotQueue, TICKET_MASK, Turn,
    ahead,
};
use crate::queue::{PopError, PushError};
use crate::region::{Member, Tag};
use crate::sys::Deadline;
use crate::sys::atomic::{AtomicU64, Ordering, fence};
use crate::sys::spin::Pace;

impl<T: Pod> SlotQueue<'_, T> {
    /// Makes a claimed and filled place an item of the queue.
    #[inline]
    pub(super) fn publish_full(&self, ticket: u64) {
        // Release: the item before the word. A plain store: nobody moves the slot of a living claimer on.
        self.slot(ticket).word.store(self.word(ticket, FULL, Short::NOBODY), Ordering::Release);
    }

    /// Gives a claimed and emptied place back.
    #[inline]
    pub(super) fn publish_free(&self, ticket: u64) {
        // Release: the copy is over before the place is free.
        self.slot(ticket).word.store(self.passed(ticket), Ordering::Release);
    }

    /// After putting up to `ticket`: wakes a consumer, and a further producer if there is more room.
    #[inline]
    pub(super) fn pushed(&self, me: Member<'_>, ticket: u64) {
        self.parts.events.not_empty.notify_one(me);
        if self.parts.events.not_full.is_awaited()
            && self.has_room(ticket.wrapping_add(1) & TICKET_MASK)
        {
            self.parts.events.not_full.notify_one(me);
        }
    }

    /// After taking up to `ticket`: wakes a producer, and a further consumer if there is more.
    #[inline]
    pub(super) fn popped(&self, me: Member<'_>, ticket: u64) {
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
        let (ticket, _) = self.wait_push(me, 1, deadline)?;
        Ok(self.claim(me.tag()?, ticket, true))
    }

    /// Claims the next item, waiting until `deadline`: the first half of a pop.
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until); with [`Deadline::NOW`] `Empty` or `Busy` instead of `TimedOut`.
    #[inline]
    pub fn start_pop(&self, me: Member<'_>, deadline: Deadline) -> Result<Claim, PopError> {
        let (ticket, _) = self.wait_pop(me, 1, deadline)?;
        Ok(self.claim(me.tag()?, ticket, false))
    }

    #[inline]
    fn claim(&self, tag: Tag, ticket: u64, puts: bool) -> Claim {
        let queue = core::ptr::from_ref(self.parts).addr();
        Claim { ticket, queue, tag, puts }
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
        if claim.is_of(self, me, true) {
            self.publish_full(claim.ticket);
            self.pushed(me, claim.ticket);
        }
    }

    /// Gives the place of an item back that has been copied out.
    #[inline]
    pub fn finish_pop(&self, me: Member<'_>, claim: Claim) {
        if claim.is_of(self, me, false) {
            self.publish_free(claim.ticket);
            self.popped(me, claim.ticket);
        }
    }

    #[inline]
    pub(super) fn wait_push(
        &self,
        me: Member<'_>,
        most: u64,
        deadline: Deadline,
    ) -> Result<(u64, u64), PushError> {
        let ask = deadline == Deadline::NOW;
        match self.attempt_push(me, most, false) {
            Err(PushError::Busy | PushError::Full) if !ask || me.may_ask(self.parts) => {}
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
    pub(super) fn has_changed(&self, watched: &mut Option<(u64, u64)>, turn: &AtomicU64) -> bool {
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
    pub(super) fn wait_pop(
        &self,
        me: Member<'_>,
        most: u64,
        deadline: Deadline,
    ) -> Result<(u64, u64), PopError> {
        let ask = deadline == Deadline::NOW;
        match self.attempt_pop(me, most, false) {
            Err(PopError::Busy) if ask && me.may_ask(self.parts) => {
                return self.attempt_pop(me, most, true);
            }
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
        let (ticket, _) = self.wait_push(me, 1, deadline)?;
        // SAFETY: the claim is this process's, and a living claimer's slot is left alone by all others.
        unsafe { self.slot(ticket).item.write(item) };
        self.publish_full(ticket);
        self.pushed(me, ticket);
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
        let (ticket, _) = self.wait_pop(me, 1, deadline)?;
        // SAFETY: as in `push_until`; what was published is an item.
        let item = unsafe { self.slot(ticket).item.read() };
        self.publish_free(ticket);
        self.popped(me, ticket);
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

    pub(super) fn clamp(&self, items: u64) -> usize {
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
