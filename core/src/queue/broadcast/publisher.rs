//! The end that publishes.

use core::cell::Cell;

use bytemuck::Pod;

use super::{Broadcast, JOINING, PublishError, READING, Reader, Slot, Slow, is_dead};
use crate::queue::RoleError;
use crate::queue::spsc::take_role;
use crate::region::{Member, Tag};
use crate::sys::Deadline;
use crate::sys::atomic::{Ordering, fence};
use crate::sys::spin::Pace;
use crate::wait::{Eventcount, Waitable};

impl<'r, T: Pod> Broadcast<'r, T> {
    /// Takes the publisher's role: from nobody, or from a dead process. What that had published stands.
    ///
    /// # Errors
    /// [`RoleError::Taken`] if a living process has it (this one included); `Corrupt`, `Join`.
    pub fn publisher(&self, me: Member<'r>) -> Result<Publisher<'r, T>, RoleError> {
        let tag = take_role(&self.parts.role.owner, me)?;
        // Acquire: all that a predecessor had published.
        let tail = self.parts.tail.load(Ordering::Acquire);
        Ok(Publisher { cast: *self, me, tag, tail: Cell::new(tail), limit: Cell::new(tail) })
    }
}

/// The end of a broadcast that publishes. One thread at a time; dropping it frees the role.
pub struct Publisher<'r, T: Pod> {
    cast: Broadcast<'r, T>,
    me: Member<'r>,
    tag: Tag,
    /// The next item's index.
    tail: Cell<u64>,
    /// Up to where it may go without looking at the readers.
    limit: Cell<u64>,
}

/// The place that an item is about to take, and what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Turn<T> {
    /// The index of the new item.
    pub index: u64,
    /// The index of the item that was last begun in the place: mostly that of one round before.
    pub last: u64,
    /// What lies there, perhaps unfinished.
    pub old: T,
}

impl<T: Pod> core::fmt::Debug for Publisher<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Publisher").field(&self.cast).finish()
    }
}

impl<'r, T: Pod> Publisher<'r, T> {
    /// The broadcast.
    #[must_use]
    pub fn cast(&self) -> Broadcast<'r, T> {
        self.cast
    }

    /// How many items may be published now, as far as is known.
    #[inline]
    fn left(&self) -> u64 {
        match self.cast.slow {
            Slow::Block => self.limit.get().wrapping_sub(self.tail.get()),
            Slow::Lose => self.cast.capacity,
        }
    }

    /// Looks at the readers: how many items may be published, up to an eighth of the ring or as many as are wanted. Frees
    /// the cells of the dead that are in the way if `ask`.
    fn look_for_room(&self, wanted: u64, ask: bool) -> Result<u64, PublishError> {
        let (cast, tail) = (&self.cast, self.tail.get());
        if cast.slow == Slow::Lose {
            return Ok(cast.capacity);
        }
        let mut room = (cast.capacity / 8).max(1).max(wanted).min(cast.capacity);
        // Relaxed: before the fence.
        cast.parts.role.granted.store(tail.wrapping_add(room), Ordering::Relaxed);
        // Meets the fence of `subscribe`: whom this does not see has seen the tail and what is granted.
        fence(Ordering::SeqCst);
        let mut used = cast.parts.events.used.load(Ordering::Relaxed);
        while used != 0 {
            let index = used.trailing_zeros() as usize;
            used &= used - 1;
            let reader = cast.readers.get(index).ok_or(PublishError::Corrupt)?;
            let mut before = self.room_before(reader, tail)?;
            if before == 0 && ask && self.bury(reader)? {
                before = self.room_before(reader, tail)?;
            }
            room = room.min(before);
        }
        self.limit.set(tail.wrapping_add(room));
        if room == 0 { Err(PublishError::Full) } else { Ok(room) }
    }

    /// How many items may be published as far as this reader goes.
    fn room_before(&self, reader: &Reader, tail: u64) -> Result<u64, PublishError> {
        // Acquire meets the Release with which the reader has given itself a cursor.
        let word = reader.word.load(Ordering::Acquire);
        match word & !Tag::MASK {
            0 if word == 0 => Ok(self.cast.capacity),
            JOINING => Ok(0),
            READING => {
                // Acquire meets the reader's Release: its copies are over.
                let behind = tail.wrapping_sub(reader.cursor.load(Ordering::Acquire));
                self.cast.capacity.checked_sub(behind).ok_or(PublishError::Corrupt)
            }
            _ => Err(PublishError::Corrupt),
        }
    }

    /// Frees the cell of a reader that holds this end up, if that is dead.
    #[cold]
    fn bury(&self, reader: &Reader) -> Result<bool, PublishError> {
        let word = reader.word.load(Ordering::Acquire);
        let dead =
            word != 0 && is_dead(self.me, word, !Tag::MASK).map_err(|_| PublishError::Corrupt)?;
        // AcqRel after the verdict. Failure: somebody has taken the cell over.
        Ok(dead
            && reader.word.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&self, deadline: Deadline) -> Result<(), PublishError> {
        let cast = &self.cast;
        if !self.me.is(self.tag) {
            return Err(PublishError::Inherited);
        }
        if cast.is_closed() {
            return Err(PublishError::Closed);
        }
        if self.left() > 0 {
            return Ok(());
        }
        match self.look_for_room(1, false) {
            Err(PublishError::Full) => {}
            answer => return answer.map(drop),
        }
        if deadline == Deadline::NOW {
            let ask = self.me.may_ask(cast.parts);
            return if ask {
                self.look_for_room(1, true).map(drop)
            } else {
                Err(PublishError::Full)
            };
        }
        // A stretch of places makes one wake of many; who has waited for a slice takes what there is.
        let enough = cast.stretch();
        let found = cast.parts.events.room.wait(self.me, deadline, Pace::Eager, |ask| {
            match self.look_for_room(1, ask) {
                Err(PublishError::Full) => None,
                Ok(room) if room < enough && !ask => None,
                answer => Some(answer.map(drop)),
            }
        });
        found.unwrap_or(Err(PublishError::TimedOut))
    }

    /// Begins item `index` in its place: from now on whoever reads what was there knows it.
    #[inline]
    fn begin(&self, index: u64) -> &'r Slot<T> {
        let slot = self.cast.slot(index);
        slot.begun.store(index, Ordering::Relaxed);
        // Meets the fence of a reader: who has seen any of what is written now sees that it was begun.
        fence(Ordering::Release);
        slot
    }

    #[inline]
    fn finish(&self, count: u64) {
        let tail = self.tail.get().wrapping_add(count);
        self.tail.set(tail);
        // Release: the items before the index.
        self.cast.parts.tail.store(tail, Ordering::Release);
        self.cast.parts.events.arrived.notify_all(self.me);
    }

    /// Publishes an item, waiting for slow readers as long as it takes, if they block.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Inherited`.
    #[inline]
    pub fn publish(&self, item: T) -> Result<(), PublishError> {
        self.publish_until(Deadline::NEVER, item)
    }

    /// Publishes an item if no reader is in the way now.
    ///
    /// # Errors
    /// `Full`, `Closed`, `Corrupt`, `Inherited`.
    #[inline]
    pub fn try_publish(&self, item: T) -> Result<(), PublishError> {
        self.publish_until(Deadline::NOW, item)
    }

    /// Publishes an item, waiting for slow readers until `deadline`, if they block.
    ///
    /// # Errors
    /// `TimedOut` (`Full` with [`Deadline::NOW`]), `Closed`, `Corrupt`, `Inherited`.
    #[inline]
    pub fn publish_until(&self, deadline: Deadline, item: T) -> Result<(), PublishError> {
        self.settle(deadline)?;
        self.begin(self.tail.get()).item.store(item);
        self.finish(1);
        Ok(())
    }

    /// Publishes what `make` returns, which is called once the place is this publisher's and no reader is in the way; it
    /// learns what was in it. If it panics, nothing is published.
    ///
    /// # Errors
    /// As [`publish_until`](Self::publish_until): then `make` was not called.
    #[inline]
    pub fn publish_with(
        &self,
        deadline: Deadline,
        make: impl FnOnce(Turn<T>) -> T,
    ) -> Result<(), PublishError> {
        self.settle(deadline)?;
        let index = self.tail.get();
        // Relaxed: the publisher's own word; of a dead predecessor's everything is visible with the role.
        let last = self.cast.slot(index).begun.load(Ordering::Relaxed);
        let slot = self.begin(index);
        slot.item.store(make(Turn { index, last, old: slot.item.load() }));
        self.finish(1);
        Ok(())
    }

    /// Publishes as many of `items` as there is room for, at least one, all at once; says how many. Waits for the first place
    /// until `deadline`. Readers see all of them or none, whatever becomes of this process.
    ///
    /// # Errors
    /// As [`publish_until`](Self::publish_until): then none was published.
    pub fn publish_many(&self, deadline: Deadline, items: &[T]) -> Result<usize, PublishError> {
        if items.is_empty() {
            return Ok(0);
        }
        self.settle(deadline)?;
        let room = match self.left() {
            few if few < items.len() as u64 => {
                match self.look_for_room(items.len() as u64, false) {
                    // A reader is just joining, and has no cursor yet.
                    Err(PublishError::Full) => {
                        self.settle(deadline)?;
                        self.left()
                    }
                    answer => answer?,
                }
            }
            enough => enough,
        };
        let count = (items.len() as u64).min(room);
        for (index, item) in (0..count).zip(items) {
            self.begin(self.tail.get().wrapping_add(index)).item.store(*item);
        }
        self.finish(count);
        Ok(count as usize)
    }

    /// Sees to it that there is room for an item.
    #[inline]
    fn settle(&self, deadline: Deadline) -> Result<(), PublishError> {
        if self.me.is(self.tag) && self.left() > 0 && !self.cast.is_closed() {
            return Ok(());
        }
        self.wait_for_room(deadline)
    }

    /// Closes the broadcast: nothing is published any more, what is there can still be read.
    pub fn close(&self) {
        if !self.me.is(self.tag) {
            return;
        }
        // Release: what was published before stands before the mark.
        self.cast.parts.events.closed.store(1, Ordering::Release);
        self.cast.parts.events.arrived.notify_all(self.me);
    }
}

/// Ready when an item can be published without waiting, or never will be.
impl<T: Pod> Waitable for Publisher<'_, T> {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        !me.is(self.tag)
            || self.left() > 0
            || self.cast.is_closed()
            || self.look_for_room(1, ask) != Err(PublishError::Full)
    }

    fn sleepers(&self) -> &Eventcount {
        &self.cast.parts.events.room
    }
}

impl<T: Pod> Drop for Publisher<'_, T> {
    fn drop(&mut self) {
        if self.me.is(self.tag) {
            let (owner, mine) = (&self.cast.parts.role.owner, self.tag.bits());
            // Release meets the Acquire of the next `take_role`. Failure: the word was damaged, leave it.
            let _ = owner.compare_exchange(mine, 0, Ordering::Release, Ordering::Relaxed);
        }
    }
}
