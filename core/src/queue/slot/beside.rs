//! Claims that are waited for with an eye on something else: whether anybody is left at the other end.

use bytemuck::Pod;

use super::spin::Spinner;
use super::{Claim, ROOM, SlotQueue, TICKET_MASK, Turn};
use crate::queue::{PopError, PushError};
use crate::region::Member;
use crate::sys::Deadline;
use crate::sys::atomic::Ordering;
use crate::sys::spin::Pace;
use crate::wait::Eventcount;

impl<T: Pod> SlotQueue<'_, T> {
    /// As [`start_push`](Self::start_push). While it waits it asks `ends` as well, at each look, with whether the kernel may be
    /// asked now; `true` ends the wait as if the deadline had passed.
    ///
    /// # Errors
    /// As [`start_push`](Self::start_push).
    #[inline]
    pub fn start_push_beside(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        ends: impl FnMut(bool) -> bool,
    ) -> Result<Claim, PushError> {
        match self.start_push(me, Deadline::NOW) {
            Err(PushError::Full | PushError::Busy) if deadline != Deadline::NOW => {
                self.sleep_to_push(me, deadline, ends)
            }
            answer => answer,
        }
    }

    #[cold]
    fn sleep_to_push(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        mut ends: impl FnMut(bool) -> bool,
    ) -> Result<Claim, PushError> {
        let tag = me.tag()?;
        let mut watched = None;
        // As where nothing else is looked at: spin until so much is free that it is worth while.
        let glance = || {
            let far = *watched.get_or_insert_with(|| {
                let tail = Turn(self.parts.tail.load(Ordering::Relaxed)).ticket();
                tail.wrapping_sub(self.capacity - (self.capacity / 8).min(ROOM)) & TICKET_MASK
            });
            // Relaxed: only whether to look closer.
            self.has_gone_by(self.slot(far).word.load(Ordering::Relaxed), far)
        };
        let look = |ask| {
            if ends(ask) {
                return Some(Err(PushError::TimedOut));
            }
            match self.attempt_push(me, 1, ask) {
                Err(PushError::Full | PushError::Busy) => None,
                answer => Some(answer.map(|(ticket, _)| self.claim(tag, ticket, true))),
            }
        };
        let events = &self.parts.events;
        let found = events.not_full.wait_glancing(me, deadline, Pace::Eager, glance, look);
        found.unwrap_or(Err(PushError::TimedOut))
    }

    /// As [`start_pop_if`](Self::start_pop_if), with an eye on something else as in
    /// [`start_push_beside`](Self::start_push_beside).
    ///
    /// # Errors
    /// As [`start_pop`](Self::start_pop).
    #[inline]
    pub fn start_pop_if_beside(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        mut accept: impl FnMut(&T) -> bool,
        ends: impl FnMut(bool) -> bool,
    ) -> Result<Option<Claim>, PopError> {
        match self.start_pop_if(me, Deadline::NOW, &mut accept) {
            Err(PopError::Empty | PopError::Busy) if deadline != Deadline::NOW => {
                // Such a try asks for itself about who is in the way.
                let ready = |_| match self.start_pop_if(me, Deadline::NOW, &mut accept) {
                    Err(PopError::Empty | PopError::Busy) => None,
                    answer => Some(answer),
                };
                self.sleep_to_pop(me, deadline, ready, ends)
            }
            answer => answer,
        }
    }

    /// As [`start_pop`](Self::start_pop), with an eye on something else as in
    /// [`start_push_beside`](Self::start_push_beside).
    ///
    /// # Errors
    /// As [`start_pop`](Self::start_pop).
    #[inline]
    pub fn start_pop_beside(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        ends: impl FnMut(bool) -> bool,
    ) -> Result<Claim, PopError> {
        let first = if deadline != Deadline::NOW && self.is_head_to_come() {
            Err(PopError::Empty)
        } else {
            self.start_pop(me, Deadline::NOW)
        };
        match first {
            Err(PopError::Empty | PopError::Busy) if deadline != Deadline::NOW => {
                let tag = me.tag()?;
                let mut take = |turn| self.take(turn, 1, tag.short());
                let ready = |ask| match self.attempt_at_head(me, ask, false, &mut take) {
                    Err(PopError::Empty | PopError::Busy) => None,
                    answer => Some(answer.map(|(ticket, _)| self.claim(tag, ticket, false))),
                };
                self.sleep_to_pop(me, deadline, ready, ends)
            }
            answer => answer,
        }
    }

    #[cold]
    fn sleep_to_pop<R>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        mut ready: impl FnMut(bool) -> Option<Result<R, PopError>>,
        mut ends: impl FnMut(bool) -> bool,
    ) -> Result<R, PopError> {
        let mut spinner = Spinner::new(self);
        let glance = || spinner.glance(self);
        let look = |ask| {
            if ends(ask) {
                // What is there goes first.
                return Some(ready(false).unwrap_or(Err(PopError::TimedOut)));
            }
            ready(ask)
        };
        let events = &self.parts.events;
        let found = events.not_empty.wait_glancing(me, deadline, Pace::Eager, glance, look);
        spinner.end(self);
        found.unwrap_or(Err(PopError::TimedOut))
    }

    /// Where those sleep who wait for [room](Self::room).
    #[must_use]
    pub fn room_sleepers(&self) -> &Eventcount {
        &self.parts.events.not_full
    }

    /// Wakes all who wait at this queue, to look again.
    pub fn rouse(&self, me: Member<'_>) {
        self.notify_both(me);
    }
}
