//! The ends that read.

use core::cell::Cell;

use bytemuck::Pod;

use super::{
    Broadcast, Head, JOINING, READING, Reader, ReceiveError, Slow, SubscribeError, is_dead,
};
use crate::region::{Member, Tag};
use crate::sys::Deadline;
use crate::sys::atomic::{Ordering, fence};
use crate::sys::spin::Pace;
use crate::wait::{Eventcount, Waitable};

/// Where a new reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next item that is published.
    Next,
    /// With the oldest item that is still there. If slow readers block, an eighth of the ring may be left out, or as many items as a
    /// batch under way has: those whose places the publisher may be writing to.
    Oldest,
    /// With the item of this index, as [`Subscriber::position`] has told it. If that is no longer there, with the oldest, and
    /// those in between are [missed](ReceiveError::Missed).
    At(u64),
}

impl<'r, T: Pod> Broadcast<'r, T> {
    /// Makes a new reader.
    ///
    /// # Errors
    /// [`SubscribeError::TooMany`] if there are [`READERS`](super::READERS) living ones; `Corrupt`, `Join`.
    pub fn subscribe(
        &self,
        me: Member<'r>,
        start: Start,
    ) -> Result<Subscriber<'r, T>, SubscribeError> {
        let tag = me.tag()?;
        let (index, reader) = self.claim_cell(me, tag)?;
        self.parts.events.used.fetch_or(1 << index, Ordering::Relaxed);
        // Meets the fence of `look_for_room`: a publisher that goes on without having seen this cell has shown before how far.
        fence(Ordering::SeqCst);
        // Acquire: the items before it, and what was granted for them.
        let tail = self.parts.tail.load(Ordering::Acquire);
        let first = self.parts.shape.first.load(Ordering::Relaxed);
        let end = match self.slow {
            Slow::Block => self.parts.role.granted.load(Ordering::Relaxed),
            Slow::Lose => tail,
        };
        // From the tail backwards: how many items are there, and safe from being written over.
        let gone = end.wrapping_sub(tail).min(self.capacity);
        let there = (self.capacity - gone).min(tail.wrapping_sub(first));
        let (back, missed) = match start {
            Start::Next => (0, 0),
            Start::Oldest => (there, 0),
            Start::At(index) => {
                let back = tail.wrapping_sub(index);
                // One ahead of the tail is none that was ever told.
                let back = if back > u64::MAX / 2 { 0 } else { back };
                (back.min(there), back.saturating_sub(there))
            }
        };
        let cursor = tail.wrapping_sub(back);
        reader.cursor.store(cursor, Ordering::Relaxed);
        // Release: the cursor before the word that makes it count.
        reader.word.store(READING | tag.bits(), Ordering::Release);
        // A publisher that waits may have seen this cell without a cursor.
        self.parts.events.room.notify_one(me);
        Ok(Subscriber {
            cast: *self,
            reader,
            me,
            tag,
            cursor: Cell::new(cursor),
            seen: Cell::new(cursor),
            owed: Cell::new(missed),
            stumbles: Cell::new(0),
        })
    }

    /// Claims a cell: a free one, or a dead reader's.
    pub(super) fn claim_cell(
        &self,
        me: Member<'r>,
        tag: Tag,
    ) -> Result<(usize, &'r Reader), SubscribeError> {
        let mine = JOINING | tag.bits();
        for ask in [false, true] {
            for (index, reader) in self.readers.iter().enumerate() {
                // Acquire: of a dead reader's whatever it did is visible with the verdict.
                let word = reader.word.load(Ordering::Acquire);
                let free = word == 0 || ask && is_dead(me, word, !Tag::MASK)?;
                // Acquire meets the Release with which the last reader left it.
                if free
                    && reader
                        .word
                        .compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
                {
                    return Ok((index, reader));
                }
            }
        }
        Err(SubscribeError::TooMany)
    }
}

/// A reader of a broadcast. One thread at a time; dropping it frees its cell.
pub struct Subscriber<'r, T: Pod> {
    cast: Broadcast<'r, T>,
    reader: &'r Reader,
    me: Member<'r>,
    tag: Tag,
    /// The next item's index.
    cursor: Cell<u64>,
    /// The tail as last seen.
    seen: Cell<u64>,
    /// Missed, and not told yet.
    owed: Cell<u64>,
    /// How often in a row it has been overtaken.
    stumbles: Cell<u32>,
}

impl<T: Pod> core::fmt::Debug for Subscriber<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Subscriber").field("cast", &self.cast).field("lag", &self.lag()).finish()
    }
}

impl<'r, T: Pod> Subscriber<'r, T> {
    /// The broadcast.
    #[must_use]
    pub fn cast(&self) -> Broadcast<'r, T> {
        self.cast
    }

    /// The index of the next item: a place to [begin at](Start::At) for another reader.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.cursor.get()
    }

    /// What other threads can wait for on this reader's behalf.
    #[must_use]
    pub fn news(&self) -> News<'r> {
        News { parts: self.cast.parts, reader: self.reader }
    }

    /// How many items were published that this reader has not passed yet; of one that loses, also those it will miss.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let lag = self.cast.parts.tail.load(Ordering::Acquire).wrapping_sub(self.cursor.get());
        lag.wrapping_add(self.owed.get())
    }

    /// One look: how many items are there, at least one. Closed only if nothing is there after the mark was seen.
    fn look(&self) -> Result<u64, ReceiveError> {
        let closed = self.cast.is_closed();
        // Acquire meets the publisher's Release: the items are there.
        let tail = self.cast.parts.tail.load(Ordering::Acquire);
        let there = tail.wrapping_sub(self.cursor.get());
        if there > u64::MAX / 2 || self.cast.slow == Slow::Block && there > self.cast.capacity {
            return Err(ReceiveError::Corrupt);
        }
        self.seen.set(tail);
        match there {
            0 if closed => Err(ReceiveError::Closed),
            0 => Err(ReceiveError::Empty),
            there => Ok(there),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_items(&self, deadline: Deadline) -> Result<(), ReceiveError> {
        if !self.me.is(self.tag) {
            return Err(ReceiveError::Inherited);
        }
        let count = self.owed.replace(0);
        if count > 0 {
            return Err(ReceiveError::Missed { count });
        }
        match self.look() {
            Err(ReceiveError::Empty) if deadline != Deadline::NOW => {}
            answer => return answer.map(drop),
        }
        let arrived = &self.cast.parts.events.arrived;
        let found = arrived.wait(self.me, deadline, Pace::Eager, |_| match self.look() {
            Err(ReceiveError::Empty) => None,
            answer => Some(answer.map(drop)),
        });
        found.unwrap_or(Err(ReceiveError::TimedOut))
    }

    /// Sees to it that an item is there.
    #[inline]
    fn settle(&self, deadline: Deadline) -> Result<(), ReceiveError> {
        if self.me.is(self.tag) && self.cursor.get() != self.seen.get() {
            return Ok(());
        }
        self.wait_for_items(deadline)
    }

    /// Whether what was copied of the item at `index` was that item, and whole.
    #[inline]
    fn is_whole(&self, index: u64) -> bool {
        if self.cast.slow == Slow::Block {
            // The publisher waits for this reader's cursor.
            return true;
        }
        // Meets the fence of `begin`: who has read any of a later item sees that it was begun.
        fence(Ordering::Acquire);
        // Relaxed: behind the fence.
        self.cast.slot(index).begun.load(Ordering::Relaxed) == index
    }

    /// Goes on behind what was overwritten: with the oldest item, or if that is overwritten again and again, with a later one.
    #[cold]
    fn overtaken(&self) -> ReceiveError {
        let cursor = self.cursor.get();
        let tail = self.cast.parts.tail.load(Ordering::Acquire);
        let there = tail.wrapping_sub(cursor);
        if there == 0 || there > u64::MAX / 2 {
            return ReceiveError::Corrupt;
        }
        self.seen.set(tail);
        let stumbles = self.stumbles.get();
        self.stumbles.set(stumbles.saturating_add(1));
        let ahead = (1u64 << stumbles.min(32)) - 1;
        let overwritten = there.saturating_sub(self.cast.capacity).saturating_add(ahead);
        let count = overwritten.clamp(1, there);
        self.pass(count);
        ReceiveError::Missed { count }
    }

    /// Gives the places of `count` items back.
    #[inline]
    fn pass(&self, count: u64) {
        let before = self.cursor.get();
        let cursor = before.wrapping_add(count);
        self.cursor.set(cursor);
        // Release: the copies are over before the places are free.
        self.reader.cursor.store(cursor, Ordering::Release);
        if self.cast.slow == Slow::Block {
            self.me.fences().light();
            if self.cast.parts.events.room.is_awaited() {
                self.rouse(before, cursor);
            }
        }
    }

    /// Wakes the publisher if it waits for what has just been passed.
    #[cold]
    fn rouse(&self, before: u64, cursor: u64) {
        // Meets the publisher's fence between its last publication and its sleep: the tail is that of the publisher asleep.
        fence(Ordering::Acquire);
        let tail = self.cast.parts.tail.load(Ordering::Relaxed);
        let enough = self.cast.capacity - self.cast.stretch();
        // It sleeps until the slowest reader is less than `enough` behind.
        if tail.wrapping_sub(before) > enough && tail.wrapping_sub(cursor) <= enough {
            self.cast.parts.events.room.notify_one(self.me);
        }
    }

    /// Reads the next item, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `Missed` if items were overwritten before; `Closed` when the broadcast is closed and all was read; `Corrupt`, `Inherited`.
    #[inline]
    pub fn recv(&self) -> Result<T, ReceiveError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Reads the next item if there is one now.
    ///
    /// # Errors
    /// `Empty`; otherwise as [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&self) -> Result<T, ReceiveError> {
        self.recv_until(Deadline::NOW)
    }

    /// Reads the next item, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` with [`Deadline::NOW`]); otherwise as [`recv`](Self::recv).
    #[inline]
    pub fn recv_until(&self, deadline: Deadline) -> Result<T, ReceiveError> {
        self.recv_with(deadline, |_, item| item)
    }

    /// Calls `read` with the index and a copy of the next item, and returns its answer: for items that name something which
    /// is good as long as they are there. Waits for an item until `deadline`.
    ///
    /// The copy may be a mixture if readers lose; then the answer is dropped, and the item counts as missed. The
    /// item is passed after `read` has returned; if that panics, the item is still the next.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until).
    #[inline]
    pub fn recv_with<R>(
        &self,
        deadline: Deadline,
        read: impl FnOnce(u64, T) -> R,
    ) -> Result<R, ReceiveError> {
        self.settle(deadline)?;
        let index = self.cursor.get();
        let answer = read(index, self.cast.slot(index).item.load());
        if !self.is_whole(index) {
            return Err(self.overtaken());
        }
        if self.cast.slow == Slow::Lose {
            self.stumbles.set(0);
        }
        self.pass(1);
        Ok(answer)
    }

    /// Reads as many items as are there and fit into `room`, at least one; says how many. Waits for the first until
    /// `deadline`.
    ///
    /// # Errors
    /// As [`recv_until`](Self::recv_until): then none was read.
    pub fn recv_many(&self, deadline: Deadline, room: &mut [T]) -> Result<usize, ReceiveError> {
        if room.is_empty() {
            return Ok(0);
        }
        self.settle(deadline)?;
        let start = self.cursor.get();
        let mut there = self.seen.get().wrapping_sub(start);
        if there < room.len() as u64 {
            there = self.look()?;
        }
        let mut count = 0;
        for (index, place) in (0..there).zip(room) {
            *place = self.cast.slot(start.wrapping_add(index)).item.load();
            if !self.is_whole(start.wrapping_add(index)) {
                break;
            }
            count += 1;
        }
        if count == 0 {
            return Err(self.overtaken());
        }
        self.stumbles.set(0);
        self.pass(count);
        Ok(count as usize)
    }
}

/// Ready when a receive would not wait: an item is there, some were missed, or the broadcast is closed.
impl<T: Pod> Waitable for Subscriber<'_, T> {
    fn is_ready(&self, _: Member<'_>, _: bool) -> bool {
        self.cursor.get() != self.seen.get()
            || self.owed.get() > 0
            || !matches!(self.look(), Err(ReceiveError::Empty))
    }

    fn sleepers(&self) -> &Eventcount {
        &self.cast.parts.events.arrived
    }
}

/// Whether there is news for one reader: for other threads than that which reads, as long as the reader is there. See
/// [`Subscriber::news`].
#[derive(Clone, Copy, Debug)]
pub struct News<'r> {
    parts: &'r Head,
    reader: &'r Reader,
}

/// Ready when an item is there, or the broadcast is closed.
impl Waitable for News<'_> {
    fn is_ready(&self, _: Member<'_>, _: bool) -> bool {
        // Acquire, the cursor first: it is never ahead of the tail that is read after it.
        let cursor = self.reader.cursor.load(Ordering::Acquire);
        self.parts.tail.load(Ordering::Acquire) != cursor
            || self.parts.events.closed.load(Ordering::Acquire) != 0
    }

    fn sleepers(&self) -> &Eventcount {
        &self.parts.events.arrived
    }
}

impl<T: Pod> Drop for Subscriber<'_, T> {
    fn drop(&mut self) {
        if self.me.is(self.tag) {
            let mine = READING | self.tag.bits();
            // Release meets the Acquire of the next reader in this cell. Failure: the word was damaged, leave it.
            let _ =
                self.reader.word.compare_exchange(mine, 0, Ordering::Release, Ordering::Relaxed);
            self.cast.parts.events.room.notify_one(self.me);
        }
    }
}
