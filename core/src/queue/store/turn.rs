//! Turns: one process has the store's lock, and puts or takes some items.

use bytemuck::Pod;

use super::cells::{State, Word};
use super::repair::Refusal;
use super::{CLOSED, Counts, Damaged, NONE, Policy, SHUT, Store};
use crate::queue::{PopError, PushError};
use crate::region::{Member, Tag, Verdict};
use crate::sync::LockGuard;
use crate::sys::trace;
use crate::sys::{Deadline, Thread};
use crate::wait::Eventcount;

/// The lock in hand, and what those who wait are to be told when it is given back.
pub(super) struct Turn<'s, T: Pod> {
    pub store: Store<'s, T>,
    guard: Option<LockGuard<'s>>,
    me: Member<'s>,
    tag: Tag,
    /// How many items are there that were not before.
    pub filled: u32,
    /// How many have left.
    pub freed: u32,
    /// Somebody died over the lock: nobody knows what was not told.
    died: bool,
    /// The segment that was unlinked last, which names the one before it; 0: none.
    #[cfg(not(loom))]
    spare: u64,
}

impl<'s, T: Pod> Turn<'s, T> {
    pub(super) fn start(
        store: Store<'s, T>,
        me: Member<'s>,
        deadline: Deadline,
    ) -> Result<Self, Refusal> {
        let tag = me.tag().map_err(Refusal::Join)?;
        let (guard, died) = store.lock(me, deadline)?;
        Ok(Self {
            store,
            guard: Some(guard),
            me,
            tag,
            filled: 0,
            freed: 0,
            died,
            #[cfg(not(loom))]
            spare: 0,
        })
    }

    /// Whether it is this process's turn: a forked child has a copy of its parent's.
    fn is_mine(&self) -> bool {
        self.me.is(self.tag)
    }

    /// The number of a cell that this process has claimed, which it is to settle now.
    fn take(&self, number: &mut u32) -> Result<u32, Damaged> {
        let number = core::mem::replace(number, NONE);
        if self.is_mine() { Ok(number) } else { Err(Damaged) }
    }

    /// Takes back what the dead hold. Asks the kernel about each that holds something.
    pub(super) fn reclaim(&mut self) -> Result<(), Damaged> {
        let held = self.store.sound_counts()?.held;
        let mut number = self.store.parts.index.oldest.get();
        // Asked once for each process, if they are few.
        let (mut alive, mut asked) = ([None; 8], 0);
        for _ in 0..held {
            let cell = self.store.cell(number)?;
            let behind = cell.next.get();
            let State::Held(tag) = cell.word().state() else { return Err(Damaged) };
            if !alive.contains(&Some(tag)) {
                match self.me.verdict(tag) {
                    Verdict::Alive => {
                        alive[asked % alive.len()] = Some(tag);
                        asked += 1;
                    }
                    Verdict::Dead => {
                        self.give_up(number)?;
                        trace::recovered("an item of a queue", self.me, tag);
                    }
                    Verdict::Corrupt => return Err(Damaged),
                }
            }
            number = behind;
        }
        Ok(())
    }

    /// Gives up a held item: puts it back, or, at most once, counts it as lost; in a store that was shut it is thrown away. Whether
    /// it is gone.
    pub(super) fn give_up(&mut self, number: u32) -> Result<bool, Damaged> {
        self.store.let_go(number)?;
        let again = self.store.plan.policy == Policy::AtLeastOnce;
        if again && self.store.flags() & SHUT == 0 {
            self.store.restore(number)?;
            self.filled += 1;
            return Ok(false);
        }
        if !again {
            self.store.count_lost();
        }
        self.free(number)?;
        Ok(true)
    }

    /// Frees the cell of a held item that is on no list.
    pub(super) fn free(&mut self, number: u32) -> Result<(), Damaged> {
        self.store.free_held(number)?;
        self.freed += 1;
        self.shrink()
    }

    /// Unlinks the last segments, as long as nothing is in them and three quarters of all cells are free.
    fn shrink(&mut self) -> Result<(), Damaged> {
        let store = &self.store;
        let Counts { full, held } = store.counts();
        let used = u64::from(full) + u64::from(held);
        let mut grown = store.grown()?;
        while grown != 0 && used * 4 <= store.size_with(grown) {
            let last = &store.parts.segments[grown as usize];
            if last.used() != 0 {
                break;
            }
            grown -= 1;
            store.parts.index.grown.set(grown);
            #[cfg(not(loom))]
            {
                self.spare = store.unlink(last, self.spare)?;
            }
        }
        Ok(())
    }
}

impl<T: Pod> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        // In a forked child all of it is the parent's: the guard knows, too.
        if !self.is_mine() {
            return;
        }
        let state = &self.store.parts.state;
        let counts = self.store.counts();
        drop(self.guard.take());
        let all_done = counts == Counts { full: 0, held: 0 } && self.freed != 0;
        // Those who wait at a closed queue for what is held to come back or to be finished.
        let over = all_done && self.store.flags() & CLOSED != 0;
        tell(&state.filled, self.me, self.filled, self.died || over);
        tell(&state.freed, self.me, self.freed, self.died);
        tell(&state.idle, self.me, 0, self.died || all_done);
        #[cfg(not(loom))]
        if self.spare != 0 {
            // If this process dies before, a sweep finds them.
            self.store.destroy_unlinked(self.me, self.spare);
        }
    }
}

fn tell(event: &Eventcount, me: Member<'_>, count: u32, all: bool) {
    match count {
        _ if all => event.notify_all(me),
        0 => {}
        1 => event.notify_one(me),
        _ => event.notify_all(me),
    }
}

/// A place that was claimed to put an item, and the store's lock with it: write the item, publish it, drop this. Do nothing
/// else meanwhile, for others wait. Dropped without being published, nothing was put. In a forked child it is worth nothing: all
/// that needs the claim is refused as `Corrupt`.
#[must_use = "nothing is put until it is published"]
pub struct Putter<'s, T: Pod> {
    turn: Turn<'s, T>,
    number: u32,
    key: i64,
}

impl<T: Pod> core::fmt::Debug for Putter<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Putter").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What keeps an attempt from what it wants.
pub(super) enum Hurdle {
    /// Nothing to take, or no room.
    Exhausted,
    /// No free cell; there are so many segments beyond the first.
    Grow(u32),
    Busy,
    Closed,
    Corrupt,
    Join(crate::region::JoinError),
}

impl From<Refusal> for Hurdle {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => Self::Busy,
            Refusal::Corrupt => Self::Corrupt,
            Refusal::Join(error) => Self::Join(error),
        }
    }
}

impl From<Damaged> for Hurdle {
    fn from(_: Damaged) -> Self {
        Self::Corrupt
    }
}

impl Hurdle {
    pub(super) fn of_push(self) -> PushError {
        match self {
            Self::Exhausted | Self::Grow(_) => PushError::Full,
            Self::Busy => PushError::Busy,
            Self::Closed => PushError::Closed,
            Self::Corrupt => PushError::Corrupt,
            Self::Join(error) => PushError::Join(error),
        }
    }

    pub(super) fn of_pop(self) -> PopError {
        match self {
            Self::Exhausted => PopError::Empty,
            Self::Busy => PopError::Busy,
            Self::Closed => PopError::Closed,
            Self::Grow(_) | Self::Corrupt => PopError::Corrupt,
            Self::Join(error) => PopError::Join(error),
        }
    }
}

impl<'s, T: Pod> Putter<'s, T> {
    pub(super) fn start(turn: Turn<'s, T>, key: i64) -> Result<Self, Hurdle> {
        let mut putter = Self { turn, number: NONE, key };
        putter.claim(key)?;
        Ok(putter)
    }

    fn claim(&mut self, key: i64) -> Result<(), Hurdle> {
        if !self.turn.is_mine() {
            return Err(Hurdle::Corrupt);
        }
        let store = &self.turn.store;
        if store.flags() & CLOSED != 0 {
            return Err(Hurdle::Closed);
        }
        if u64::from(store.counts().full) >= store.plan.capacity {
            return Err(Hurdle::Exhausted);
        }
        let number = store.take_free()?.map_err(Hurdle::Grow)?;
        let cell = store.cell(number)?;
        if cell.word().state() != State::Free {
            return Err(Hurdle::Corrupt);
        }
        cell.set(cell.word().filling(self.turn.tag));
        (self.number, self.key) = (number, key);
        Ok(())
    }

    /// The ticket of this put: 32 bits.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        let store = &self.turn.store;
        store.cell(self.number).map_or(0, |cell| store.ticket(self.number, cell.word()))
    }

    /// Where the item is to be written; good until it is published. `None` only in damaged memory.
    #[cfg(not(loom))]
    #[must_use]
    pub fn item(&self) -> Option<*mut T> {
        self.turn.store.cell(self.number).ok().map(|cell| cell.item.as_ptr())
    }

    /// Writes the item.
    pub fn write(&mut self, item: T) {
        if self.turn.is_mine()
            && let Ok(cell) = self.turn.store.cell(self.number)
        {
            // SAFETY: the cell is claimed under the lock, which this process holds, and no other thread has this claim.
            unsafe { cell.item.write(item) };
        }
    }

    /// Makes it an item of the store.
    ///
    /// # Errors
    /// `Corrupt` if nothing was claimed, or the memory is damaged.
    pub fn publish(&mut self) -> Result<(), PushError> {
        let entered = self.turn.take(&mut self.number).and_then(|number| self.enter(number));
        entered.map_err(|_| PushError::Corrupt)
    }

    fn enter(&mut self, number: u32) -> Result<(), Damaged> {
        let store = &self.turn.store;
        let (cell, counts) = (store.cell(number)?, store.counts());
        let next = &store.parts.index.next;
        let order = next.get();
        next.set(order.wrapping_add(1));
        cell.number.set(order);
        cell.key.set(self.key as u64);
        cell.returns.set(0);
        // From here on it is in the store, whoever dies.
        cell.set(cell.word().full());
        store.enter(number, counts.full)?;
        store.set_counts(Counts { full: counts.full.saturating_add(1), ..counts });
        self.turn.filled += 1;
        Ok(())
    }

    /// Claims one more place, after the last one was published; `false` if there is none now: full, or it would have to grow.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`.
    pub fn another(&mut self, key: i64) -> Result<bool, PushError> {
        match self.claim(key) {
            Ok(()) => Ok(true),
            Err(Hurdle::Exhausted | Hurdle::Grow(_)) => Ok(false),
            Err(hurdle) => Err(hurdle.of_push()),
        }
    }
}

impl<T: Pod> Drop for Putter<'_, T> {
    fn drop(&mut self) {
        let store = &self.turn.store;
        if let Ok(cell) = store.cell(self.number)
            && cell.word().state() == State::Filling(self.turn.tag)
            && self.turn.is_mine()
        {
            cell.set(cell.word().passed());
            let _ = store.put_free(self.number);
        }
    }
}

/// What was taken, until it is finished or given up: the name of one item in one hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    number: u32,
    /// Of the cell's segment: one that was given back and is there again begins its laps anew.
    salt: u32,
    word: u64,
}

impl Lease {
    pub(super) fn number(self) -> u32 {
        self.number
    }

    pub(super) fn salt(self) -> u32 {
        self.salt
    }

    pub(super) fn word(self) -> Word {
        Word(self.word)
    }
}

/// An item that is being taken, and the store's lock with it: copy the item, settle it, drop this. Do nothing else meanwhile, for
/// others wait. Dropped without being settled, the item is back. In a forked child it is worth nothing: all that needs the
/// claim is refused as `Corrupt`.
#[must_use = "nothing is taken until it is settled"]
pub struct Taker<'s, T: Pod> {
    turn: Turn<'s, T>,
    number: u32,
}

impl<T: Pod> core::fmt::Debug for Taker<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Taker").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<'s, T: Pod> Taker<'s, T> {
    /// `ask`: whether the dead hold something. `rest`: also after all was shut.
    pub(super) fn start(turn: Turn<'s, T>, ask: bool, rest: bool) -> Result<Self, Hurdle> {
        let mut taker = Self { turn, number: NONE };
        if ask {
            taker.turn.reclaim()?;
        }
        taker.claim(rest)?;
        Ok(taker)
    }

    fn claim(&mut self, rest: bool) -> Result<(), Hurdle> {
        if !self.turn.is_mine() {
            return Err(Hurdle::Corrupt);
        }
        let store = &self.turn.store;
        // Before the look at what is there: after this nothing is put behind it.
        let flags = store.flags();
        if flags & SHUT != 0 && !rest {
            return Err(Hurdle::Closed);
        }
        let counts = store.counts();
        let Some(number) = store.next(counts.full)? else {
            return Err(if store.is_over(flags, counts) {
                Hurdle::Closed
            } else {
                Hurdle::Exhausted
            });
        };
        let cell = store.cell(number)?;
        if cell.word().state() != State::Full {
            return Err(Hurdle::Corrupt);
        }
        cell.set(cell.word().held(self.turn.tag));
        self.number = number;
        store.remove_next(counts.full)?;
        store.set_counts(Counts { full: counts.full - 1, held: counts.held.saturating_add(1) });
        Ok(())
    }

    /// The ticket under which it was put: 32 bits.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        let store = &self.turn.store;
        store.cell(self.number).map_or(0, |cell| store.ticket(self.number, cell.word()))
    }

    /// The key with which it was put.
    #[must_use]
    pub fn key(&self) -> i64 {
        self.turn.store.cell(self.number).map_or(0, |cell| cell.key.get() as i64)
    }

    /// How often it was delivered, this time included.
    #[must_use]
    pub fn deliveries(&self) -> u32 {
        let cell = self.turn.store.cell(self.number);
        cell.map_or(1, |cell| cell.returns.get().saturating_add(1))
    }

    /// Where the item lies; good until it is settled. `None` only in damaged memory.
    #[cfg(not(loom))]
    #[must_use]
    pub fn item(&self) -> Option<*const T> {
        self.turn.store.cell(self.number).ok().map(|cell| cell.item.as_ptr().cast_const())
    }

    /// A copy of the item.
    ///
    /// # Errors
    /// `Corrupt` if nothing is claimed.
    pub fn read(&self) -> Result<T, PopError> {
        if !self.turn.is_mine() {
            return Err(PopError::Corrupt);
        }
        let cell = self.turn.store.cell(self.number).map_err(|_| PopError::Corrupt)?;
        // SAFETY: the cell is claimed under the lock, which this process holds; what was published is an item.
        Ok(unsafe { cell.item.read() })
    }

    /// It is taken, by this thread: finished, if taking finishes it, else leased.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn settle(&mut self, thread: Option<Thread>) -> Result<Option<Lease>, PopError> {
        let settled = self.turn.take(&mut self.number).and_then(|number| {
            if self.turn.store.plan.policy.leases() {
                self.lease(number, thread).map(Some)
            } else {
                self.turn.free(number).map(|()| None)
            }
        });
        settled.map_err(|_| PopError::Corrupt)
    }

    fn lease(&mut self, number: u32, thread: Option<Thread>) -> Result<Lease, Damaged> {
        let store = &self.turn.store;
        let cell = store.cell(number)?;
        cell.thread.set(thread.map_or(0, Thread::number));
        store.hold(number)?;
        // There is room for one more that waits.
        self.turn.freed += 1;
        Ok(Lease { number, salt: self.turn.store.salt(number), word: cell.word().0 })
    }

    /// It is thrown away, whatever the policy.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn discard(&mut self) -> Result<(), PopError> {
        let freed = self.turn.take(&mut self.number).and_then(|number| self.turn.free(number));
        freed.map_err(|_| PopError::Corrupt)
    }

    /// Takes one more, after the last one was settled; `false` if there is none.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn another(&mut self) -> Result<bool, PopError> {
        match self.claim(false) {
            Ok(()) => Ok(true),
            Err(Hurdle::Exhausted | Hurdle::Closed) => Ok(false),
            Err(hurdle) => Err(hurdle.of_pop()),
        }
    }
}

impl<T: Pod> Drop for Taker<'_, T> {
    fn drop(&mut self) {
        let store = &self.turn.store;
        if let Ok(cell) = store.cell(self.number)
            && cell.word().state() == State::Held(self.turn.tag)
            && self.turn.is_mine()
            && store.restore(self.number).is_ok()
        {
            self.turn.filled += 1;
        }
    }
}
