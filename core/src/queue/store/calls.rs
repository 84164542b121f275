//! Calls: put and take in their forms, finishing, joining, closing, counting, growing, sweeping.

use bytemuck::Pod;

use super::cells::State;
#[cfg(not(loom))]
use super::cells::{Front, Segment};
use super::repair::Refusal;
use super::turn::{Hurdle, Lease, Putter, Taker, Turn};
use super::{CLOSED, Cell, Counts, Damaged, MOST_STORED, Policy, SHUT, Store, StoreError};
use crate::queue::{PopError, PushError};
use crate::region::{JoinError, Member};
#[cfg(not(loom))]
use crate::region::{Object, Region};
use crate::sys::atomic::{Ordering, fence};
use crate::sys::spin::Pace;
use crate::sys::{Deadline, Thread};
use crate::wait::{Eventcount, Waitable};

/// How often a put starts over since others have used what it had grown the store by.
const FUEL: u32 = 1 << 10;

/// An item, and what may be tied to it.
#[derive(Clone, Copy, Debug)]
pub struct Released<T> {
    /// The ticket under which it was put; over, if the item is finished.
    pub ticket: u64,
    /// The key with which it was put.
    pub key: i64,
    /// The item.
    pub item: T,
}

/// What has become of an item that was given up.
#[derive(Clone, Copy, Debug)]
pub enum GivenUp<T> {
    /// It waits for the next taker.
    Back,
    /// It is gone: what is tied to it is to be freed.
    Gone(Released<T>),
    /// It was not this process's to give up: somebody else has finished it, or this process is a fork of the one that took it.
    NotHeld,
}

/// Why a join ended before everything was finished, or with less than everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinItemsError {
    /// Nothing is unfinished any more, but some items were lost with those who had taken them.
    #[error("{lost} items were lost: the processes that had taken them died before they were done")]
    Lost {
        /// How many, since they were last [reset](Store::take_lost).
        lost: u64,
    },
    /// The queue was shut down at once; what was in it was thrown away.
    #[error("the queue was shut down, and what was unfinished in it thrown away")]
    ShutDown,
    /// There are unfinished items, and the call was not to wait.
    #[error("{unfinished} items are unfinished; wait with a deadline")]
    WouldBlock {
        /// How many.
        unfinished: u64,
    },
    /// There were unfinished items until the deadline.
    #[error("{unfinished} items were still unfinished when the deadline passed")]
    TimedOut {
        /// How many.
        unfinished: u64,
    },
    /// The queue's memory holds what no queue ever holds.
    #[error("the queue's memory is damaged; something wrote over it, create the queue anew")]
    Corrupt,
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

impl<'r, T: Pod> Store<'r, T> {
    /// Claims a place to put an item with this key (which counts only where the order is [`Least`](super::Order::Least)), waiting for room until
    /// `deadline`: the first half of a put. The store is locked until what this returns is dropped.
    ///
    /// # Errors
    /// `Push` with `TimedOut` (`Full` or `Busy` with [`Deadline::NOW`]), `Closed`, `Corrupt`, `Join`; `Memory`.
    pub fn start_put<'s>(
        &self,
        me: Member<'s>,
        deadline: Deadline,
        key: i64,
    ) -> Result<Putter<'s, T>, StoreError>
    where
        'r: 's,
    {
        for _ in 0..FUEL {
            match self.wait_put(me, deadline, key) {
                Ok(putter) => return Ok(putter),
                Err(Hurdle::Grow(grown)) => self.grow(me, deadline, grown)?,
                Err(hurdle) => return Err(late(hurdle, deadline).into()),
            }
        }
        Err(PushError::Busy.into())
    }

    fn wait_put<'s>(
        &self,
        me: Member<'s>,
        deadline: Deadline,
        key: i64,
    ) -> Result<Putter<'s, T>, Hurdle>
    where
        'r: 's,
    {
        let attempt = |until, ask| self.attempt_put(me, until, key, ask);
        let found = self.persist(me, &self.parts.state.freed, deadline, attempt);
        found.unwrap_or(Err(Hurdle::Exhausted))
    }

    /// Attempts what may have to wait at `event`: first without waiting for anything, then until `deadline`, as the eventcount has it
    /// look. `None` if it would still have to wait when that has passed.
    fn persist<R>(
        &self,
        me: Member<'_>,
        event: &Eventcount,
        deadline: Deadline,
        mut attempt: impl FnMut(Deadline, bool) -> Result<R, Hurdle>,
    ) -> Option<Result<R, Hurdle>> {
        let once = deadline == Deadline::NOW;
        match attempt(Deadline::NOW, false) {
            Err(Hurdle::Exhausted | Hurdle::Busy) if !once || me.may_ask(self.parts) => {}
            answer => return Some(answer),
        }
        if once {
            return Some(attempt(deadline, true));
        }
        event.wait(me, deadline, Pace::Polite, |ask| match attempt(deadline, ask) {
            Err(Hurdle::Exhausted | Hurdle::Busy) => None,
            answer => Some(answer),
        })
    }

    /// `ask`: look under the lock, whatever the counts say.
    fn attempt_put<'s>(
        &self,
        me: Member<'s>,
        deadline: Deadline,
        key: i64,
        ask: bool,
    ) -> Result<Putter<'s, T>, Hurdle>
    where
        'r: 's,
    {
        if !ask {
            if self.flags() & CLOSED != 0 {
                return Err(Hurdle::Closed);
            }
            if self.is_full() {
                return Err(Hurdle::Exhausted);
            }
        }
        Putter::start(Turn::start(*self, me, deadline)?, key)
    }

    /// Takes the next item, waiting for one until `deadline`: the first half of a take. The store is locked until what
    /// this returns is dropped.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]); `Closed` when the store is closed and drained, and nothing is
    /// held that may come back; `Corrupt`, `Join`.
    pub fn start_take<'s>(
        &self,
        me: Member<'s>,
        deadline: Deadline,
    ) -> Result<Taker<'s, T>, PopError>
    where
        'r: 's,
    {
        let attempt = |until, ask| self.attempt_take(me, until, ask);
        match self.persist(me, &self.parts.state.filled, deadline, attempt) {
            Some(answer) => answer.map_err(Hurdle::of_pop),
            None => Err(PopError::TimedOut),
        }
    }

    fn attempt_take<'s>(
        &self,
        me: Member<'s>,
        deadline: Deadline,
        ask: bool,
    ) -> Result<Taker<'s, T>, Hurdle>
    where
        'r: 's,
    {
        // What is closed may be drained, which is told under the lock.
        if !ask && self.flags() & CLOSED == 0 && self.counts().full == 0 {
            return Err(Hurdle::Exhausted);
        }
        Taker::start(Turn::start(*self, me, deadline)?, ask, false)
    }

    /// The next item of a store that was shut down at once, for who throws away what is left. `None` if there is none.
    ///
    /// # Errors
    /// `Busy`, `Corrupt`, `Join`.
    pub fn start_discard<'s>(
        &self,
        me: Member<'s>,
        deadline: Deadline,
    ) -> Result<Option<Taker<'s, T>>, PopError>
    where
        'r: 's,
    {
        // With the lock, whatever the counts say: who puts just now has looked before it was shut down.
        let turn =
            Turn::start(*self, me, deadline).map_err(|refusal| Hurdle::of_pop(refusal.into()))?;
        match Taker::start(turn, false, true) {
            Ok(taker) => Ok(Some(taker)),
            Err(Hurdle::Exhausted | Hurdle::Closed) => Ok(None),
            Err(hurdle) => Err(hurdle.of_pop()),
        }
    }

    /// Puts an item, waiting for room as long as it takes.
    ///
    /// # Errors
    /// As [`start_put`](Self::start_put).
    pub fn put(&self, me: Member<'_>, key: i64, item: T) -> Result<(), StoreError> {
        self.put_until(me, Deadline::NEVER, key, item)
    }

    /// Puts an item if there is room now.
    ///
    /// # Errors
    /// As [`start_put`](Self::start_put).
    pub fn try_put(&self, me: Member<'_>, key: i64, item: T) -> Result<(), StoreError> {
        self.put_until(me, Deadline::NOW, key, item)
    }

    /// Puts an item, waiting for room until `deadline`.
    ///
    /// # Errors
    /// As [`start_put`](Self::start_put).
    pub fn put_until(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        key: i64,
        item: T,
    ) -> Result<(), StoreError> {
        let mut putter = self.start_put(me, deadline, key)?;
        putter.write(item);
        Ok(putter.publish()?)
    }

    /// Takes the next item, waiting for one as long as it takes; with its lease, if it is to be finished.
    ///
    /// # Errors
    /// As [`start_take`](Self::start_take).
    pub fn take(&self, me: Member<'_>) -> Result<(T, Option<Lease>), PopError> {
        self.take_until(me, Deadline::NEVER)
    }

    /// Takes the next item if there is one now.
    ///
    /// # Errors
    /// As [`start_take`](Self::start_take).
    pub fn try_take(&self, me: Member<'_>) -> Result<(T, Option<Lease>), PopError> {
        self.take_until(me, Deadline::NOW)
    }

    /// Takes the next item, waiting for one until `deadline`.
    ///
    /// # Errors
    /// As [`start_take`](Self::start_take).
    pub fn take_until(
        &self,
        me: Member<'_>,
        deadline: Deadline,
    ) -> Result<(T, Option<Lease>), PopError> {
        let mut taker = self.start_take(me, deadline)?;
        let item = taker.read()?;
        Ok((item, taker.settle(None)?))
    }

    /// The next item and its ticket, left where it is. Waits for one until `deadline`.
    ///
    /// # Errors
    /// As [`start_take`](Self::start_take).
    pub fn peek_until(&self, me: Member<'_>, deadline: Deadline) -> Result<Released<T>, PopError> {
        let mut waited = false;
        let attempt = |until, ask| {
            waited = until != Deadline::NOW;
            self.attempt_peek(me, until, ask)
        };
        let filled = &self.parts.state.filled;
        let answer = match self.persist(me, filled, deadline, attempt) {
            Some(answer) => answer.map_err(Hurdle::of_pop),
            None => Err(PopError::TimedOut),
        };
        // The wake that this one had may have been meant for who takes it.
        if waited && answer.is_ok() {
            filled.notify_one(me);
        }
        answer
    }

    fn attempt_peek(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        ask: bool,
    ) -> Result<Released<T>, Hurdle> {
        if !ask && self.flags() & CLOSED == 0 && self.counts().full == 0 {
            return Err(Hurdle::Exhausted);
        }
        let mut turn = Turn::start(*self, me, deadline)?;
        if ask {
            turn.reclaim()?;
        }
        let (flags, counts) = (self.flags(), self.counts());
        if flags & SHUT != 0 {
            return Err(Hurdle::Closed);
        }
        let Some(number) = self.next(counts.full)? else {
            return Err(if self.is_over(flags, counts) {
                Hurdle::Closed
            } else {
                Hurdle::Exhausted
            });
        };
        let cell = self.cell(number)?;
        if cell.word().state() != State::Full {
            return Err(Hurdle::Corrupt);
        }
        Ok(self.released(number, cell))
    }

    /// Finishes what was taken; gives it once more, for who has to free what was tied to it. `None` if it is this process's no more:
    /// somebody else has finished it, or this process is a fork of the one that took it.
    ///
    /// # Errors
    /// `Corrupt`, `Join`.
    pub fn try_finish(
        &self,
        me: Member<'_>,
        lease: Lease,
    ) -> Result<Option<Released<T>>, PopError> {
        self.with_lease(me, lease, |turn, number| {
            let released = self.read_held(number)?;
            turn.store.let_go(number)?;
            turn.free(number)?;
            Ok(released)
        })
    }

    /// The same, for who has nothing to free. Whether it was this process's to finish.
    pub fn finish(&self, me: Member<'_>, lease: Lease) -> bool {
        matches!(self.try_finish(me, lease), Ok(Some(_)))
    }

    /// Gives up what was taken: it goes back, with one delivery more, or, at most once, is lost and counted as such. In a store that was
    /// shut down at once it is thrown away.
    ///
    /// # Errors
    /// `Corrupt`, `Join`.
    pub fn give_up(&self, me: Member<'_>, lease: Lease) -> Result<GivenUp<T>, PopError> {
        let given = self.with_lease(me, lease, |turn, number| {
            let released = self.read_held(number)?;
            Ok(if turn.give_up(number)? { GivenUp::Gone(released) } else { GivenUp::Back })
        });
        Ok(given?.unwrap_or(GivenUp::NotHeld))
    }

    fn with_lease<R>(
        &self,
        me: Member<'_>,
        lease: Lease,
        act: impl FnOnce(&mut Turn<'_, T>, u32) -> Result<R, Damaged>,
    ) -> Result<Option<R>, PopError> {
        let State::Held(tag) = lease.word().state() else { return Ok(None) };
        if !me.is(tag) {
            return Ok(None);
        }
        // A living process that holds the lock is waited for as long as it takes.
        let mut turn = Turn::start(*self, me, Deadline::NEVER)
            .map_err(|refusal| Hurdle::of_pop(refusal.into()))?;
        if !self.is_held(lease) {
            return Ok(None);
        }
        act(&mut turn, lease.number()).map(Some).map_err(|_| PopError::Corrupt)
    }

    /// Finishes one of the items that are held: the oldest of this thread's, else of this process's, else of anybody's. `None` if
    /// nothing is held.
    ///
    /// # Errors
    /// `Corrupt`, `Join`.
    pub fn finish_any(
        &self,
        me: Member<'_>,
        thread: Option<Thread>,
    ) -> Result<Option<Released<T>>, PopError> {
        let tag = me.tag()?;
        let mut turn = Turn::start(*self, me, Deadline::NEVER)
            .map_err(|refusal| Hurdle::of_pop(refusal.into()))?;
        let finished = (|| {
            let mine = |cell: &Cell<T>| cell.word().state() == State::Held(tag);
            let here = |cell: &Cell<T>| {
                mine(cell) && thread.is_some_and(|thread| thread.number() == cell.thread.get())
            };
            let found = match self.find_held(here)? {
                None => match self.find_held(mine)? {
                    None => self.find_held(|_| true)?,
                    found => found,
                },
                found => found,
            };
            let Some(number) = found else { return Ok(None) };
            let released = self.read_held(number)?;
            self.let_go(number)?;
            turn.free(number)?;
            Ok(Some(released))
        })();
        finished.map_err(|Damaged| PopError::Corrupt)
    }

    fn read_held(&self, number: u32) -> Result<Released<T>, Damaged> {
        Ok(self.released(number, self.cell(number)?))
    }

    /// A copy of what is in a cell, under the lock.
    fn released(&self, number: u32, cell: &Cell<T>) -> Released<T> {
        // SAFETY: cells are written under the lock only, which this process holds; all that was published are items.
        let item = unsafe { cell.item.read() };
        let (ticket, key) = (self.ticket(number, cell.word()), cell.key.get() as i64);
        Released { ticket, key, item }
    }

    /// Whether what was taken is still this lease's: then what was read before, of what is tied to it, was so. A look, without
    /// the lock.
    #[must_use]
    pub fn is_held(&self, lease: Lease) -> bool {
        // What was read before is read before the word.
        fence(Ordering::Acquire);
        self.cell(lease.number()).is_ok_and(|cell| cell.word() == lease.word())
            // Behind the word: then that was in these cells.
            && self.salt(lease.number()) == lease.salt()
    }

    /// Waits until nothing is unfinished, until `deadline`.
    ///
    /// # Errors
    /// [`JoinItemsError`].
    pub fn join_until(&self, me: Member<'_>, deadline: Deadline) -> Result<(), JoinItemsError> {
        let look = |ask| self.attempt_join(me, deadline, ask);
        let answer = match look(false) {
            None => self.parts.state.idle.wait(me, deadline, Pace::Polite, look),
            answer => answer,
        };
        answer.unwrap_or_else(|| {
            let unfinished = self.unfinished();
            Err(if deadline == Deadline::NOW {
                JoinItemsError::WouldBlock { unfinished }
            } else {
                JoinItemsError::TimedOut { unfinished }
            })
        })
    }

    /// `None`: not yet.
    fn attempt_join(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        ask: bool,
    ) -> Option<Result<(), JoinItemsError>> {
        if ask {
            match self.reclaim_dead(me, deadline) {
                Ok(()) | Err(Hurdle::Busy) => {}
                Err(Hurdle::Join(error)) => return Some(Err(JoinItemsError::Join(error))),
                Err(_) => return Some(Err(JoinItemsError::Corrupt)),
            }
        }
        if self.flags() & SHUT != 0 {
            return Some(Err(JoinItemsError::ShutDown));
        }
        if self.unfinished() != 0 {
            return None;
        }
        Some(match self.lost() {
            0 => Ok(()),
            lost => Err(JoinItemsError::Lost { lost }),
        })
    }

    /// Takes back what the dead hold.
    fn reclaim_dead(&self, me: Member<'_>, deadline: Deadline) -> Result<(), Hurdle> {
        let mut turn = Turn::start(*self, me, deadline)?;
        Ok(turn.reclaim()?)
    }

    /// Closes the store: nothing is put any more. What is there can still be taken, or, if `at_once`, is there no more: takes
    /// and joins end; whoever shuts it down then throws away what is left, by [`start_discard`](Self::start_discard). Doing it twice is
    /// fine. Never waits.
    pub fn shutdown(&self, me: Member<'_>, at_once: bool) {
        let flags = if at_once { CLOSED | SHUT } else { CLOSED };
        let state = &self.parts.state;
        // Release meets the Acquire in `flags`. Who has put behind this has looked at the flags under the lock before, and
        // is seen by whoever has the lock after.
        state.flags.fetch_or(flags, Ordering::AcqRel);
        for event in [&state.filled, &state.freed, &state.idle] {
            event.notify_all(me);
        }
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.flags() & CLOSED != 0
    }

    /// Whether it was shut down at once.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.flags() & SHUT != 0
    }

    /// Whether nothing will ever be taken any more.
    pub(super) fn is_over(&self, flags: u32, counts: Counts) -> bool {
        let may_return = self.plan.policy == Policy::AtLeastOnce && counts.held != 0;
        flags & SHUT != 0 || flags & CLOSED != 0 && counts.full == 0 && !may_return
    }

    /// What it was made to be.
    #[must_use]
    pub fn plan(&self) -> super::Plan {
        self.plan
    }

    /// How many items wait to be taken: true at some moment during the call. An item that is just being put or taken
    /// counts or not; so does one whose process died over that, until the next call that takes the lock.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts().full as usize
    }

    /// Whether none does; see [`len`](Self::len).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts().full == 0
    }

    /// Whether it holds as much as it can; see [`len`](Self::len).
    #[must_use]
    pub fn is_full(&self) -> bool {
        u64::from(self.counts().full) >= self.plan.capacity
    }

    /// How many were taken and are not finished.
    #[must_use]
    pub fn held(&self) -> usize {
        self.counts().held as usize
    }

    /// How many wait or are held: true at one moment.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        let Counts { full, held } = self.counts();
        u64::from(full) + u64::from(held)
    }

    /// How many items were lost with those who had taken them, as far as somebody has looked.
    #[must_use]
    pub fn lost(&self) -> u64 {
        // Relaxed: a count for people; who needs it exactly reads it behind the counts.
        self.parts.state.lost.load(Ordering::Relaxed)
    }

    /// The same, and counts from zero again: the caller takes note of it.
    pub fn take_lost(&self) -> u64 {
        // Relaxed: as above.
        self.parts.state.lost.swap(0, Ordering::Relaxed)
    }

    #[cfg(not(loom))]
    fn grow(&self, me: Member<'_>, deadline: Deadline, grown: u32) -> Result<(), StoreError> {
        let segment = grown + 1;
        if self.size_with(segment) > MOST_STORED {
            return Err(PushError::Full.into());
        }
        let cells = u64::from(self.size_of_segment(segment)) * size_of::<Cell<T>>() as u64;
        let object = self
            .region
            .allocate_object(me, self.segments, Self::FRONT + cells)
            .map_err(StoreError::Memory)?;
        match self.link(me, deadline, segment, object) {
            Ok(true) => Ok(()),
            Ok(false) => {
                // Another was faster.
                let _ = self.region.free_object(me, object);
                Ok(())
            }
            Err(hurdle) => {
                let _ = self.region.free_object(me, object);
                Err(late(hurdle, deadline).into())
            }
        }
    }

    #[cfg(not(loom))]
    fn link(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        segment: u32,
        object: Object,
    ) -> Result<bool, Hurdle> {
        let _turn = Turn::start(*self, me, deadline)?;
        let index = &self.parts.index;
        if self.grown()? + 1 != segment {
            return Ok(false);
        }
        let front: &Front = self.region.object(object.offset).map_err(|_| Damaged)?;
        // Relaxed: `share` publishes it.
        front.store.store(self.offset, Ordering::Relaxed);
        // From here on it does not end with this process, but with a sweep, unless it is linked.
        self.region.share(object).map_err(|_| Damaged)?;
        let salt = (index.next.get() as u32).wrapping_mul(0x9E37_79B9);
        self.parts.segments[segment as usize].start(Segment::word_of(object), 0, salt);
        index.grown.set(segment);
        Ok(true)
    }

    #[cfg(loom)]
    fn grow(&self, me: Member<'_>, deadline: Deadline, grown: u32) -> Result<(), StoreError> {
        let turn =
            Turn::start(*self, me, deadline).map_err(|refusal| Hurdle::from(refusal).of_push())?;
        if grown as usize == self.more.len() || self.size_with(grown + 1) > MOST_STORED {
            return Err(PushError::Full.into());
        }
        if turn.store.grown().map_err(|Damaged| PushError::Corrupt)? == grown {
            self.parts.segments[grown as usize + 1].start(0, 0, 0);
            self.parts.index.grown.set(grown + 1);
        }
        Ok(())
    }

    /// The segments that it has grown by. For who frees them together with the store, which nobody else uses any more.
    #[cfg(not(loom))]
    pub fn segments(&self) -> impl Iterator<Item = Object> {
        let grown = self.grown().unwrap_or(0) as usize;
        let parts = self.parts;
        let kind = self.segments;
        (1..=grown).filter_map(move |segment| parts.segments[segment].object(kind))
    }

    /// Where the store lies that a segment was made for, as it says itself. `None` of one that was not shared yet: its maker may
    /// be about to link it.
    #[cfg(not(loom))]
    #[must_use]
    pub fn home_of(region: &Region<'r>, segment: Object) -> Option<u64> {
        let front: &Front = region.object(segment.offset).ok()?;
        // Acquire meets the Release of `share`, as far as it was shared.
        Some(front.store.load(Ordering::Acquire)).filter(|&home| home != 0)
    }

    /// Destroys a segment that says it is this store's, if it is linked nowhere: who made it, or unlinked it, died.
    ///
    /// # Errors
    /// `Busy` if it cannot be told now; `Corrupt`, `Join`.
    #[cfg(not(loom))]
    pub fn sweep_segment(&self, me: Member<'_>, segment: Object) -> Result<(), PopError> {
        // With the lock in hand: nobody links it meanwhile.
        let _turn = Turn::start(*self, me, Deadline::NOW)
            .map_err(|refusal| Hurdle::from(refusal).of_pop())?;
        if !self.segments().any(|linked| linked == segment) {
            let _ = self.region.destroy(me, segment);
        }
        Ok(())
    }

    /// Takes back what dead processes hold, and the lock. For stores that nobody uses: whoever uses one does so by the way.
    ///
    /// # Errors
    /// `Busy` if somebody living has the lock; `Corrupt`, `Join`.
    pub fn sweep(&self, me: Member<'_>) -> Result<(), PopError> {
        self.reclaim_dead(me, Deadline::NOW).map_err(Hurdle::of_pop)
    }

    /// Whether `ticket`'s turn is over: taken and finished, or given up.
    #[cfg(not(loom))]
    #[must_use]
    pub fn has_passed(&self, ticket: u32) -> bool {
        self.cell_of_ticket(ticket).is_none_or(|(_, same)| !same)
    }

    /// Whether what was put under `ticket` still waits: then what was read before, of what is tied to it, was so.
    #[cfg(not(loom))]
    #[must_use]
    pub fn is_waiting(&self, ticket: u32) -> bool {
        // As in `is_held`.
        fence(Ordering::Acquire);
        self.cell_of_ticket(ticket)
            .is_some_and(|(cell, same)| same && cell.word().state() == State::Full)
    }

    /// As something to wait for: room to put an item.
    #[must_use]
    pub fn room(&self) -> StoreRoom<'r, T> {
        StoreRoom(*self)
    }

    /// Whether asking brings news: what the dead hold is taken back.
    fn ask(&self, me: Member<'_>) {
        // Busy or damaged: whoever takes hears of it.
        let _ = self.reclaim_dead(me, Deadline::NOW);
    }
}

/// The answer of a call whose deadline has passed.
fn late(hurdle: Hurdle, deadline: Deadline) -> PushError {
    match hurdle {
        Hurdle::Exhausted | Hurdle::Busy if deadline != Deadline::NOW => PushError::TimedOut,
        hurdle => hurdle.of_push(),
    }
}

impl From<Refusal> for PopError {
    fn from(refusal: Refusal) -> Self {
        Hurdle::from(refusal).of_pop()
    }
}

/// Ready when there is something to take, or nothing will ever be.
impl<T: Pod> Waitable for Store<'_, T> {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        let ready = || {
            let (flags, counts) = (self.flags(), self.counts());
            counts.full != 0 || self.is_over(flags, counts)
        };
        ready()
            || ask && {
                self.ask(me);
                ready()
            }
    }

    fn sleepers(&self) -> &Eventcount {
        &self.parts.state.filled
    }
}

/// A store as seen by who wants to put: ready when there is room, or nothing is put any more.
#[derive(Clone, Copy)]
pub struct StoreRoom<'r, T>(Store<'r, T>);

impl<T: Pod> core::fmt::Debug for StoreRoom<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("StoreRoom").field(&self.0).finish()
    }
}

impl<T: Pod> Waitable for StoreRoom<'_, T> {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        let ready = || !self.0.is_full() || self.0.is_closed();
        ready()
            || ask && {
                self.0.ask(me);
                ready()
            }
    }

    fn sleepers(&self) -> &Eventcount {
        &self.0.parts.state.freed
    }
}
