//! Looking at the first item before, or instead of, taking it.
//!
//! A slot that holds an item nobody has claimed changes only after the head has moved over it, and the head never comes to
//! the same value again. So what was copied from the slot is that item if the head is the same word after the copy, which a
//! compare-and-swap says: that of the claim, or for a peek one from the word to itself. A copy for which that is not so is
//! thrown away.

use bytemuck::Pod;

use super::{Claim, SlotQueue, Turn};
use crate::queue::PopError;
use crate::region::Member;
use crate::sys::Deadline;
use crate::sys::atomic::Ordering;

impl<T: Pod> SlotQueue<'_, T> {
    /// A copy of the first item, which stays where it is. Waits for one as long as it takes.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn peek(&self, me: Member<'_>) -> Result<T, PopError> {
        self.peek_until(me, Deadline::NEVER)
    }

    /// The same, if there is an item now.
    ///
    /// # Errors
    /// As [`try_pop`](Self::try_pop).
    pub fn try_peek(&self, me: Member<'_>) -> Result<T, PopError> {
        self.peek_until(me, Deadline::NOW)
    }

    /// The same, waiting for an item until `deadline`.
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until).
    pub fn peek_until(&self, me: Member<'_>, deadline: Deadline) -> Result<T, PopError> {
        self.peek_with(me, deadline, |item, _| *item)
    }

    /// What `look` finds out about the first item and its ticket; for items that tell where more of them lies, which stays
    /// there until the item is taken. Waits for an item until `deadline`.
    ///
    /// `look` is called again if the item was taken meanwhile. It may then have seen a mixture of bytes, and must put up with
    /// any: what it found is thrown away.
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until).
    pub fn peek_with<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        mut look: impl FnMut(&T, u64) -> R,
    ) -> Result<R, PopError> {
        let found = self.wait_at_head(me, deadline, false, |turn| {
            let found = look(&self.glimpse(turn), turn.ticket());
            self.is_still(turn).then_some(found)
        })?;
        self.pass_on(me);
        Ok(found)
    }

    /// Claims the first item if `accept` likes it: see [`start_pop`](Self::start_pop). `None` if not: the item stays. Waits for
    /// one until `deadline`.
    ///
    /// `accept` has to put up with any bytes, see [`peek_with`](Self::peek_with).
    ///
    /// # Errors
    /// As [`start_pop`](Self::start_pop).
    pub fn start_pop_if(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        mut accept: impl FnMut(&T) -> bool,
    ) -> Result<Option<Claim>, PopError> {
        let tag = me.tag()?;
        let ticket = self.wait_at_head(me, deadline, false, |turn| {
            if accept(&self.glimpse(turn)) {
                self.take(turn, 1, tag.short()).map(|(ticket, _)| Some(ticket))
            } else {
                self.is_still(turn).then_some(None)
            }
        })?;
        if ticket.is_none() {
            self.pass_on(me);
        }
        Ok(ticket.map(|ticket| self.claim(tag, ticket, false)))
    }

    /// What lies in the slot of this turn: the item, if the turn lasts.
    fn glimpse(&self, turn: Turn) -> T {
        let slot = self.slot(turn.ticket());
        // In a model others change over at accesses only, and have to get their chance before the copy.
        #[cfg(loom)]
        slot.word.load(Ordering::Relaxed);
        slot.item.glimpse()
    }

    /// Whether nobody has moved the head since.
    fn is_still(&self, turn: Turn) -> bool {
        // Not a load, which might find an old value beside a new item. Release: whoever moves the head meets this with its
        // Acquire, and so the copy is over before the item is taken, and its slot written to.
        self.parts
            .head
            .compare_exchange(turn.0, turn.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// After a look that took nothing: the wake that this one may have had is due to somebody who takes.
    fn pass_on(&self, me: Member<'_>) {
        if self.parts.events.not_empty.is_awaited() {
            self.parts.events.not_empty.notify_one(me);
        }
    }
}
