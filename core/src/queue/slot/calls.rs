//! Calls: push and pop in their forms, closing, counting.

use bytemuck::Pod;

use super::spin::Spinner;
use super::{CLOSED, Claim, FULL, ROOM, Short, SlotQueue, TICKET_MASK, Turn, ahead};
use crate::queue::{PopError, PushError};
use crate::region::{Member, Tag};
use crate::sys::Deadline;
use crate::sys::atomic::{Ordering, fence};
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

    /// Puts an item that `fill` writes in place, waiting for room until `deadline`. `fill` gets the ticket of its turn, and
    /// does nothing but copy: others may be waiting behind it.
    ///
    /// # Errors
    /// As [`push_until`](Self::push_until): then `fill` was not called.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn push_with<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        fill: impl FnOnce(u64, *mut T) -> R,
    ) -> Result<R, PushError> {
        let (ticket, _) = self.wait_push(me, 1, deadline)?;
        let filled = fill(ticket, self.slot(ticket).item.as_ptr());
        self.publish_full(ticket);
        self.pushed(me, ticket);
        Ok(filled)
    }

    /// Takes the next item, which `empty` reads in place, waiting for one until `deadline`. `empty` gets the ticket of its turn, and
    /// does nothing but copy: others may be waiting behind it.
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until): then `empty` was not called.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn pop_with<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        empty: impl FnOnce(u64, *mut T) -> R,
    ) -> Result<R, PopError> {
        let (ticket, _) = self.wait_pop(me, 1, deadline)?;
        let emptied = empty(ticket, self.slot(ticket).item.as_ptr());
        self.publish_free(ticket);
        self.popped(me, ticket);
        Ok(emptied)
    }

    #[inline]
    pub(super) fn claim(&self, tag: Tag, ticket: u64, puts: bool) -> Claim {
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
        self.sleep_for_room(me, most, deadline)
    }

    #[cold]
    fn sleep_for_room(
        &self,
        me: Member<'_>,
        most: u64,
        deadline: Deadline,
    ) -> Result<(u64, u64), PushError> {
        let mut watched = None;
        // Spin until an eighth of the queue is free, or ROOM places, by a look at the slot that will be free then. Who takes
        // each place as it becomes free meets the consumers at every one, and both wait for cache lines.
        let glance = || {
            let far = *watched.get_or_insert_with(|| {
                let tail = Turn(self.parts.tail.load(Ordering::Relaxed)).ticket();
                tail.wrapping_sub(self.capacity - (self.capacity / 8).min(ROOM)) & TICKET_MASK
            });
            // Relaxed: only whether to look closer.
            self.has_gone_by(self.slot(far).word.load(Ordering::Relaxed), far)
        };
        let look = |ask| match self.attempt_push(me, most, ask) {
            Err(PushError::Full | PushError::Busy) => None,
            answer => Some(answer),
        };
        let found =
            self.parts.events.not_full.wait_glancing(me, deadline, Pace::Eager, glance, look);
        found.unwrap_or(Err(PushError::TimedOut))
    }

    #[inline]
    pub(super) fn wait_pop(
        &self,
        me: Member<'_>,
        most: u64,
        deadline: Deadline,
    ) -> Result<(u64, u64), PopError> {
        let tag = me.tag()?.short();
        self.wait_at_head(me, deadline, false, |turn| self.take(turn, most, tag))
    }

    /// Does something with the first item, see [`at_head`](Self::at_head), waiting for one until `deadline`.
    #[inline]
    pub(super) fn wait_at_head<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        draining: bool,
        mut take: impl FnMut(Turn) -> Option<R>,
    ) -> Result<R, PopError> {
        let once = deadline == Deadline::NOW;
        if !once && self.is_head_to_come() {
            return self.sleep_at_head(me, deadline, draining, take);
        }
        match self.attempt_at_head(me, false, draining, &mut take) {
            Err(PopError::Busy) if once && me.may_ask(self.parts) => {
                self.attempt_at_head(me, true, draining, &mut take)
            }
            Err(PopError::Busy | PopError::Empty) if !once => {
                self.sleep_at_head(me, deadline, draining, take)
            }
            answer => answer,
        }
    }

    #[cold]
    fn sleep_at_head<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        draining: bool,
        mut take: impl FnMut(Turn) -> Option<R>,
    ) -> Result<R, PopError> {
        let mut spinner = Spinner::new(self);
        let look = |ask| match self.attempt_at_head(me, ask, draining, &mut take) {
            Err(PopError::Empty | PopError::Busy) => None,
            answer => Some(answer),
        };
        let glance = || spinner.glance(self);
        let found =
            self.parts.events.not_empty.wait_glancing(me, deadline, Pace::Eager, glance, look);
        spinner.end(self);
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

    /// Closes the queue: nothing is put any more, what is there can still be taken. Doing it twice is fine.
    pub fn close(&self, me: Member<'_>) {
        self.shutdown(me, false);
    }

    /// Closes the queue; if `immediate`, what is there cannot be taken any more either: who takes, and who waits for an item, is
    /// told at once that the queue is closed. What is left is [`drain`](Self::drain)'s.
    pub fn shutdown(&self, me: Member<'_>, immediate: bool) {
        // AcqRel: a push that comes later sees the bit; the ticket and its owner stay as they are.
        self.parts.tail.fetch_or(CLOSED, Ordering::AcqRel);
        // Relaxed: a hint for those who spin. If its writer dies just before, they spin to the end of their patience.
        self.parts.events.shut.store(1, Ordering::Relaxed);
        if immediate {
            // AcqRel: as above, for pops.
            self.parts.head.fetch_or(CLOSED, Ordering::AcqRel);
        }
        self.notify_both(me);
    }

    /// Whether the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        Turn(self.parts.tail.load(Ordering::Acquire)).closed()
    }

    /// Whether it was shut down for those, too, who take.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        Turn(self.parts.head.load(Ordering::Acquire)).closed()
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
}
