//! Batches: many items by one claim. Each place is published as soon as it is done with, in ascending order, so that what is
//! left of a dead one's batch is its end.

use bytemuck::Pod;

use super::{Slot, SlotQueue, TICKET_MASK};
use crate::queue::{PopError, PushError};
use crate::region::Member;
use crate::sys::Deadline;

impl<T: Pod> SlotQueue<'_, T> {
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
        let mut left = items.iter();
        self.fill(me, deadline, items.len() as u64, |slot, _| {
            if let Some(item) = left.next() {
                // SAFETY: as in `push_until`.
                unsafe { slot.item.write(*item) };
            }
        })
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
        let most = room.len() as u64;
        let mut left = room.iter_mut();
        self.empty(me, deadline, most, false, |slot, _| {
            if let Some(place) = left.next() {
                // SAFETY: as in `pop_until`.
                *place = unsafe { slot.item.read() };
            }
        })
    }

    /// Takes all that is there and returns the newest, and how many older ones were passed over. Waits for one until
    /// `deadline`.
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until): then none was taken.
    pub fn pop_latest(&self, me: Member<'_>, deadline: Deadline) -> Result<(T, usize), PopError> {
        let mut latest = T::zeroed();
        let taken = self.empty(me, deadline, self.capacity, false, |slot, _| {
            // SAFETY: as in `pop_until`.
            latest = unsafe { slot.item.read() };
        })?;
        Ok((latest, taken.saturating_sub(1)))
    }

    /// Claims as many places as there are, at least one and at most `most`, and has `write` write each item where it belongs,
    /// under this ticket: for items that are written in place. Says how many. Waits for the first until `deadline`.
    ///
    /// `write` does nothing but write: whoever waits for these items waits for it, and what it does not write after a panic
    /// blocks the queue while this process lives.
    ///
    /// # Errors
    /// As [`push_until`](Self::push_until): then none was put.
    #[cfg(not(loom))]
    #[inline]
    pub fn push_each(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        most: usize,
        mut write: impl FnMut(u64, *mut T),
    ) -> Result<usize, PushError> {
        self.fill(me, deadline, most as u64, |slot, ticket| write(ticket, slot.item.as_ptr()))
    }

    /// Takes as many items as there are, at least one and at most `most`, and has `read` read each where it lies, under this
    /// ticket. Says how many. Waits for the first until `deadline`.
    ///
    /// `read` does nothing but read: see [`push_each`](Self::push_each).
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until): then none was taken.
    #[cfg(not(loom))]
    #[inline]
    pub fn pop_each(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        most: usize,
        mut read: impl FnMut(u64, *mut T),
    ) -> Result<usize, PopError> {
        let read = |slot: &Slot<T>, ticket| read(ticket, slot.item.as_ptr());
        self.empty(me, deadline, most as u64, false, read)
    }

    /// The same for all there is, and also after [`shutdown`](Self::shutdown) for those who take: for what is left then. Until
    /// `deadline` it waits for those who are just putting something.
    ///
    /// # Errors
    /// As [`pop_until`](Self::pop_until); `Closed` when nothing is left.
    #[cfg(not(loom))]
    pub fn drain(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        mut read: impl FnMut(u64, *mut T),
    ) -> Result<usize, PopError> {
        let read = |slot: &Slot<T>, ticket| read(ticket, slot.item.as_ptr());
        self.empty(me, deadline, self.capacity, true, read)
    }

    /// The same for the model, whose items are no plain memory.
    #[cfg(loom)]
    pub fn drain(&self, me: Member<'_>, mut read: impl FnMut(T)) -> Result<usize, PopError> {
        // SAFETY: as in `pop_until`.
        let read = |slot: &Slot<T>, _| read(unsafe { slot.item.read() });
        self.empty(me, Deadline::NOW, self.capacity, true, read)
    }

    #[inline]
    fn fill(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        most: u64,
        mut write: impl FnMut(&Slot<T>, u64),
    ) -> Result<usize, PushError> {
        if most == 0 {
            return Ok(0);
        }
        let (first, count) = self.wait_push(me, most, deadline)?;
        for ticket in (first..first + count).map(|ticket| ticket & TICKET_MASK) {
            write(self.slot(ticket), ticket);
            self.publish_full(ticket);
        }
        self.parts.events.not_empty.notify_all(me);
        self.pushed(me, first.wrapping_add(count - 1) & TICKET_MASK);
        Ok(count as usize)
    }

    #[inline]
    fn empty(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        most: u64,
        draining: bool,
        mut read: impl FnMut(&Slot<T>, u64),
    ) -> Result<usize, PopError> {
        if most == 0 {
            return Ok(0);
        }
        let tag = me.tag()?.short();
        let take = |turn| self.take(turn, most, tag);
        let (first, count) = self.wait_at_head(me, deadline, draining, take)?;
        for ticket in (first..first + count).map(|ticket| ticket & TICKET_MASK) {
            read(self.slot(ticket), ticket);
            self.publish_free(ticket);
        }
        self.parts.events.not_full.notify_all(me);
        self.popped(me, first.wrapping_add(count - 1) & TICKET_MASK);
        Ok(count as usize)
    }
}
