//! Cells: their words, where they lie, and which are free.

use bytemuck::Pod;

use super::note::{Note, Note64};
use super::{Damaged, MOST_STORED, NONE, Store};
use crate::region::Tag;
#[cfg(not(loom))]
use crate::region::{Kind, Member, Object};
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::cell::ItemCell;

/// A cell's word: `lap 32 | state 2 | tag 30`. What is free has no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Full,
    Held(Tag),
    Filling(Tag),
    /// No such state.
    Damaged,
}

const STATE_SHIFT: u32 = 30;
const LAP_SHIFT: u32 = 32;

impl Word {
    fn new(lap: u32, state: u64, tag: u32) -> Self {
        Self(u64::from(lap) << LAP_SHIFT | state << STATE_SHIFT | u64::from(tag))
    }

    pub(super) fn lap(self) -> u32 {
        (self.0 >> LAP_SHIFT) as u32
    }

    pub(super) fn state(self) -> State {
        let tag = Tag::from_bits(self.0 as u32 & Tag::MASK);
        match (self.0 >> STATE_SHIFT & 3, tag) {
            (0, _) => State::Free,
            (1, _) => State::Full,
            (2, Some(tag)) => State::Held(tag),
            (3, Some(tag)) => State::Filling(tag),
            _ => State::Damaged,
        }
    }

    /// The same cell on its next lap.
    pub(super) fn passed(self) -> Self {
        Self::new(self.lap().wrapping_add(1), 0, 0)
    }

    pub(super) fn full(self) -> Self {
        Self::new(self.lap(), 1, 0)
    }

    pub(super) fn held(self, tag: Tag) -> Self {
        Self::new(self.lap(), 2, tag.bits())
    }

    pub(super) fn filling(self, tag: Tag) -> Self {
        Self::new(self.lap(), 3, tag.bits())
    }
}

/// One place of the store, as it lies in shared memory.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Cell<T> {
    word: AtomicU64,
    /// When it was put.
    pub number: Note64,
    pub key: Note64,
    /// The next in the list that the cell is in: free ones, full ones, held ones.
    pub next: Note,
    /// The one before it in the list of held ones.
    pub previous: Note,
    /// Not of this cell: what stands at this place of the heap.
    pub heap: Note,
    /// How often its item came back.
    pub returns: Note,
    /// Which thread of its holder took it.
    pub thread: Note,
    pub item: ItemCell<T>,
}

#[cfg(not(loom))]
// SAFETY: repr(C); atomics, and a cell of plain data that is touched under the lock only; every bit pattern is valid.
unsafe impl<T: Pod> crate::region::Shareable for Cell<T> {}

impl<T: Pod> Cell<T> {
    #[cfg(loom)]
    pub(super) fn empty() -> Self {
        Self {
            word: AtomicU64::new(0),
            number: Note64::new(0),
            key: Note64::new(0),
            next: Note::new(0),
            previous: Note::new(0),
            heap: Note::new(0),
            returns: Note::new(0),
            thread: Note::new(0),
            item: ItemCell::empty(),
        }
    }

    /// The word as it is.
    #[inline]
    pub(super) fn word(&self) -> Word {
        // Acquire: for looks without the lock, which go on to what the word speaks of.
        Word(self.word.load(Ordering::Acquire))
    }

    /// Changes it, under the lock.
    #[inline]
    pub(super) fn set(&self, word: Word) {
        // Release: see `word`.
        self.word.store(word.0, Ordering::Release);
    }
}

/// A row of cells that were allocated at a time.
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
#[repr(C)]
pub(super) struct Segment {
    /// `generation 24 | offset / 16`; 0: there is none. Read without the lock, too.
    #[cfg(not(loom))]
    place: AtomicU64,
    /// Added to the laps in tickets. Read without the lock, too.
    salt: Note,
    /// The first of the free ones that were used before.
    free: Note,
    /// How many have ever been used; those behind have a word of zero.
    fresh: Note,
    /// How many are in use.
    used: Note,
}

impl Segment {
    /// Nothing is used yet.
    pub(super) fn start(&self, place: u64, fresh: u32, salt: u32) {
        self.free.set(NONE);
        self.fresh.set(fresh);
        self.used.set(0);
        self.salt.set(salt);
        #[cfg(not(loom))]
        // Release meets the Acquire in `segment`.
        self.place.store(place, Ordering::Release);
        #[cfg(loom)]
        let _ = place;
    }

    pub(super) fn used(&self) -> u32 {
        self.used.get()
    }

    /// Garbage in everything that can be made anew.
    #[cfg(all(test, not(loom)))]
    pub(super) fn spoil(&self) {
        self.free.set(11);
        self.used.set(13);
    }
}

/// What stands in front of a segment's cells.
#[cfg(not(loom))]
#[repr(C)]
pub(super) struct Front {
    /// Where the head of its store lies.
    pub store: AtomicU64,
    /// Unlinked: the place of the one that was unlinked before it.
    next: AtomicU64,
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl crate::region::Shareable for Front {}

#[cfg(not(loom))]
const OFFSET_SHIFT: u32 = 24;

#[cfg(not(loom))]
impl Segment {
    /// The word for this place: objects lie at multiples of 16, in less than 2⁴⁴ bytes.
    pub(super) fn word_of(object: Object) -> u64 {
        object.offset >> 4 << OFFSET_SHIFT | u64::from(object.generation & 0xFF_FFFF)
    }

    /// Where it lies; `None` if there is none.
    pub(super) fn object(&self, kind: Kind) -> Option<Object> {
        object_of(self.place.load(Ordering::Acquire), kind)
    }
}

/// The object of a segment's place.
#[cfg(not(loom))]
fn object_of(place: u64, kind: Kind) -> Option<Object> {
    let (offset, generation) = (place >> OFFSET_SHIFT << 4, place as u32 & 0xFF_FFFF);
    (place != 0).then_some(Object { offset, generation, kind })
}

#[cfg(not(loom))]
impl<T: Pod> Store<'_, T> {
    /// Bytes in front of a segment's cells.
    pub(super) const FRONT: u64 = size_of::<Front>().next_multiple_of(align_of::<Cell<T>>()) as u64;

    /// Unlinks a segment, which from now on names the `others` that were unlinked before it; its place.
    pub(super) fn unlink(&self, segment: &Segment, others: u64) -> Result<u64, Damaged> {
        // Release: as in `start`.
        let place = segment.place.swap(0, Ordering::AcqRel);
        let object = object_of(place, self.segments).ok_or(Damaged)?;
        let front: &Front = self.region.object(object.offset).map_err(|_| Damaged)?;
        // Relaxed: this process alone reads it.
        front.next.store(others, Ordering::Relaxed);
        Ok(place)
    }

    /// Destroys the segments that were unlinked, the last of which is this one.
    #[cold]
    pub(super) fn destroy_unlinked(&self, me: Member<'_>, mut place: u64) {
        for _ in 0..super::SEGMENTS {
            let Some(object) = object_of(place, self.segments) else { return };
            let Ok(front) = self.region.object::<Front>(object.offset) else { return };
            place = front.next.load(Ordering::Relaxed);
            let _ = self.region.destroy(me, object);
        }
    }
}

/// How many bits of a ticket name the segment.
const SEGMENT_BITS: u32 = 5;

impl<'r, T: Pod> Store<'r, T> {
    /// How many cells a segment has.
    pub(super) fn size_of_segment(&self, segment: u32) -> u32 {
        (self.first.len() as u32) << segment.saturating_sub(1)
    }

    /// How many cells there are with so many segments beyond the first.
    pub(super) fn size_with(&self, grown: u32) -> u64 {
        (self.first.len() as u64) << grown
    }

    /// How many segments there are beyond the first.
    pub(super) fn grown(&self) -> Result<u32, Damaged> {
        let grown = self.parts.index.grown.get();
        if grown < super::SEGMENTS as u32 && self.size_with(grown) <= MOST_STORED {
            Ok(grown)
        } else {
            Err(Damaged)
        }
    }

    /// The segment of a cell, and its place there.
    fn split(&self, number: u32) -> (u32, u32) {
        let first = self.first.len() as u32;
        if number < first {
            return (0, number);
        }
        let segment = number.ilog2() - first.ilog2() + 1;
        (segment, number - self.size_of_segment(segment))
    }

    /// The number of a cell.
    fn join(&self, segment: u32, place: u32) -> u32 {
        if segment == 0 { place } else { self.size_of_segment(segment) + place }
    }

    /// The cell with this number.
    #[inline]
    pub(super) fn cell(&self, number: u32) -> Result<&'r Cell<T>, Damaged> {
        match self.first.get(number as usize) {
            Some(cell) => Ok(cell),
            None => {
                let (segment, place) = self.split(number);
                self.cell_of_segment(segment, place)
            }
        }
    }

    #[cfg(not(loom))]
    fn cell_of_segment(&self, segment: u32, place: u32) -> Result<&'r Cell<T>, Damaged> {
        if segment == 0 {
            return self.first.get(place as usize).ok_or(Damaged);
        }
        let parts = self.parts.segments.get(segment as usize).ok_or(Damaged)?;
        let start = parts.object(self.segments).ok_or(Damaged)?.offset;
        let at = Self::FRONT + u64::from(place) * size_of::<Cell<T>>() as u64;
        self.region.object(start.saturating_add(at)).map_err(|_| Damaged)
    }

    #[cfg(loom)]
    fn cell_of_segment(&self, segment: u32, place: u32) -> Result<&'r Cell<T>, Damaged> {
        if segment == 0 {
            return self.first.get(place as usize).ok_or(Damaged);
        }
        let row = self.more.get(segment as usize - 1).ok_or(Damaged)?;
        row.get(place as usize).ok_or(Damaged)
    }

    /// Takes a free cell off its list, from the first segment that has one. `Err` of how far it has grown, if there is none.
    pub(super) fn take_free(&self) -> Result<Result<u32, u32>, Damaged> {
        let grown = self.grown()?;
        for segment in 0..=grown {
            let parts = &self.parts.segments[segment as usize];
            let (size, used) = (self.size_of_segment(segment), parts.used.get());
            if used >= size {
                continue;
            }
            let number = match parts.free.get() {
                NONE => {
                    let place = parts.fresh.get();
                    if place >= size {
                        return Err(Damaged);
                    }
                    parts.fresh.set(place + 1);
                    self.join(segment, place)
                }
                number => {
                    parts.free.set(self.cell(number)?.next.get());
                    number
                }
            };
            parts.used.set(used + 1);
            return Ok(Ok(number));
        }
        Ok(Err(grown))
    }

    /// Puts a cell back on the list of free ones.
    pub(super) fn put_free(&self, number: u32) -> Result<(), Damaged> {
        let parts = self.parts.segments.get(self.split(number).0 as usize).ok_or(Damaged)?;
        let used = parts.used.get().checked_sub(1).ok_or(Damaged)?;
        self.cell(number)?.next.set(parts.free.get());
        parts.free.set(number);
        parts.used.set(used);
        Ok(())
    }

    /// Visits every cell that was ever used, segment by segment, making the lists of free ones anew: `visit` says whether
    /// the cell is in use.
    pub(super) fn survey(
        &self,
        mut visit: impl FnMut(u32, &Cell<T>) -> Result<bool, Damaged>,
    ) -> Result<(), Damaged> {
        for segment in 0..=self.grown()? {
            let parts = &self.parts.segments[segment as usize];
            let fresh = parts.fresh.get();
            if fresh > self.size_of_segment(segment) {
                return Err(Damaged);
            }
            let (mut free, mut used) = (NONE, 0);
            for place in 0..fresh {
                let cell = self.cell_of_segment(segment, place)?;
                let number = self.join(segment, place);
                if visit(number, cell)? {
                    used += 1;
                } else {
                    cell.next.set(free);
                    free = number;
                }
            }
            parts.free.set(free);
            parts.used.set(used);
        }
        Ok(())
    }

    /// Visits every cell that was ever used.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(u32, &Cell<T>) -> Result<(), Damaged>,
    ) -> Result<(), Damaged> {
        for segment in 0..=self.grown()? {
            let fresh = self.parts.segments[segment as usize].fresh.get();
            if fresh > self.size_of_segment(segment) {
                return Err(Damaged);
            }
            for place in 0..fresh {
                visit(self.join(segment, place), self.cell_of_segment(segment, place)?)?;
            }
        }
        Ok(())
    }

    /// What is added to the laps of a cell in tickets.
    pub(super) fn salt(&self, number: u32) -> u32 {
        let segment = self.split(number).0 as usize;
        self.parts.segments.get(segment).map_or(0, |segment| segment.salt.get())
    }

    /// The ticket of a cell's lap: `lap, the rest | place in its segment | segment 5`, 32 bits.
    pub(super) fn ticket(&self, number: u32, word: Word) -> u64 {
        let (segment, place) = self.split(number);
        let salt = self.salt(number);
        let bits = SEGMENT_BITS + self.size_of_segment(segment).ilog2();
        let lap = word.lap().wrapping_add(salt);
        u64::from(lap.checked_shl(bits).unwrap_or(0) | place << SEGMENT_BITS | segment)
    }

    /// The cell that a ticket names, and its lap as far as it is told; `None` if there is no such cell.
    #[cfg(not(loom))]
    pub(super) fn cell_of_ticket(&self, ticket: u32) -> Option<(&'r Cell<T>, bool)> {
        let segment = ticket & ((1 << SEGMENT_BITS) - 1);
        let parts = self.parts.segments.get(segment as usize)?;
        let size = u64::from(self.first.len() as u32) << segment.saturating_sub(1);
        if size > MOST_STORED {
            return None;
        }
        let place = (ticket >> SEGMENT_BITS) & (size as u32 - 1);
        let cell = self.cell_of_segment(segment, place).ok()?;
        let bits = SEGMENT_BITS + size.ilog2();
        let lap = cell.word().lap().wrapping_add(parts.salt.get());
        let same = lap.checked_shl(bits) == Some(ticket >> bits << bits);
        Some((cell, same))
    }
}
