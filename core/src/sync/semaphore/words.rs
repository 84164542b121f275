//! The two kinds of words of a semaphore, taken apart.

use crate::region::Tag;

/// The most units that a semaphore counts.
pub const MOST_UNITS: u32 = (1 << 31) - 1;
/// The most permits that can be held at a time.
#[cfg(not(loom))]
pub const MOST_CELLS: u32 = (1 << 12) - 1;

/// `spare 31 | celled 12 | name: cell 12, nonce 9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

const CELL_SHIFT: u32 = 9;
const CELLED_SHIFT: u32 = 21;
const SPARE_SHIFT: u32 = 33;
const NAME_NONCE: u32 = (1 << CELL_SHIFT) - 1;
const TWELVE: u32 = (1 << 12) - 1;

impl Word {
    /// So many units in the count, so many in cells; the name is that of no move.
    pub fn new(spare: u32, celled: u32) -> Self {
        Self(u64::from(spare) << SPARE_SHIFT | u64::from(celled) << CELLED_SHIFT)
    }

    /// Units in the count.
    pub fn spare(self) -> u32 {
        (self.0 >> SPARE_SHIFT) as u32
    }

    /// Units in cells.
    pub fn celled(self) -> u32 {
        (self.0 >> CELLED_SHIFT) as u32 & TWELVE
    }

    /// The cell that moved a unit last.
    pub fn cell(self) -> u32 {
        (self.0 >> CELL_SHIFT) as u32 & TWELVE
    }

    /// Whether the last move was that of this cell with this nonce.
    pub fn names(self, index: u32, nonce: u32) -> bool {
        self.cell() == index && self.0 as u32 & NAME_NONCE == nonce & NAME_NONCE
    }

    /// Whether both name the same move.
    pub fn same_name(self, other: Self) -> bool {
        (self.0 ^ other.0) & ((1 << CELLED_SHIFT) - 1) == 0
    }

    /// The same counts, named after this move.
    pub fn named(self, index: u32, nonce: u32) -> Self {
        let counts = self.0 & !((1 << CELLED_SHIFT) - 1);
        Self(counts | u64::from(index) << CELL_SHIFT | u64::from(nonce & NAME_NONCE))
    }

    /// `units` more in the count. The caller has checked that the sum stays within [`MOST_UNITS`].
    pub fn add(self, units: u32) -> Self {
        Self(self.0 + (u64::from(units) << SPARE_SHIFT))
    }

    /// One less in the count; `None` if there is none.
    pub fn take(self) -> Option<Self> {
        (self.spare() > 0).then(|| Self(self.0 - (1 << SPARE_SHIFT)))
    }

    /// One from the count into a cell.
    pub fn bring(self) -> Option<Self> {
        let room = self.celled() < TWELVE;
        self.take().filter(|_| room).map(|less| Self(less.0 + (1 << CELLED_SHIFT)))
    }

    /// One out of a cell.
    pub fn leave(self) -> Option<Self> {
        (self.celled() > 0).then(|| Self(self.0 - (1 << CELLED_SHIFT)))
    }
}

/// What a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No unit lies here.
    Empty,
    /// A unit that anybody may take.
    Free,
    /// A permit's unit.
    Held,
    /// Its owner moves a unit from the count to here.
    Taking,
    /// Its owner moves the unit out of the semaphore.
    Leaving,
}

/// `nonce 31 | state 3 | tag 30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell(pub u64);

const STATE_SHIFT: u32 = 30;
const NONCE_SHIFT: u32 = 33;

const EMPTY: u64 = 0;
const FREE: u64 = 1;
const HELD: u64 = 2;
const TAKING: u64 = 3;
const LEAVING: u64 = 4;
/// What a permit leaves behind when its cell was not as it had written it.
const DAMAGED: u64 = 7;

impl Cell {
    /// A cell that somebody has written over.
    pub const DAMAGED: Self = Self(DAMAGED << STATE_SHIFT);
    /// A new cell, with a unit.
    pub const FREE: Self = Self(FREE << STATE_SHIFT);
    /// A new cell, without.
    pub const EMPTY: Self = Self(EMPTY);

    fn bits(self) -> u64 {
        self.0 >> STATE_SHIFT & 7
    }

    /// What it is; `None` if no semaphore ever wrote that.
    pub fn state(self) -> Option<State> {
        let nobody = self.0 as u32 & Tag::MASK == 0;
        match (self.bits(), self.owner().is_some()) {
            (EMPTY, false) if nobody => Some(State::Empty),
            (FREE, false) if nobody => Some(State::Free),
            (HELD, true) => Some(State::Held),
            (TAKING, true) => Some(State::Taking),
            (LEAVING, true) => Some(State::Leaving),
            _ => None,
        }
    }

    /// Whether anybody may take it: the same as the state, at less expense.
    #[inline]
    pub fn is_free(self) -> bool {
        self.0 & ((1 << NONCE_SHIFT) - 1) == Self::FREE.0
    }

    /// Whose it is.
    #[inline]
    pub fn owner(self) -> Option<Tag> {
        Tag::from_bits(self.0 as u32 & Tag::MASK)
    }

    /// How often it has changed hands; wraps.
    pub fn nonce(self) -> u32 {
        (self.0 >> NONCE_SHIFT) as u32
    }

    fn with(self, state: u64, tag: u32) -> Self {
        Self(self.0 >> NONCE_SHIFT << NONCE_SHIFT | state << STATE_SHIFT | u64::from(tag))
    }

    /// A permit's, with the same nonce.
    #[inline]
    pub fn held(self, tag: Tag) -> Self {
        self.with(HELD, tag.bits())
    }

    /// A free cell as a permit's: the same as [`held`](Self::held), in one step.
    #[inline]
    pub fn take(self, tag: Tag) -> Self {
        Self(self.0.wrapping_add((HELD - FREE) << STATE_SHIFT | u64::from(tag.bits())))
    }

    /// A permit's cell as a free one, with the next nonce: the same as `free` and `next`, in one step.
    #[inline]
    pub fn give(self, tag: Tag) -> Self {
        let nonce = 1 << NONCE_SHIFT;
        Self(self.0.wrapping_add(nonce - ((HELD - FREE) << STATE_SHIFT) - u64::from(tag.bits())))
    }

    /// Its owner's move into it, with the same nonce.
    pub fn taking(self, tag: Tag) -> Self {
        self.with(TAKING, tag.bits())
    }

    /// Its owner's move out of it, with the same nonce.
    pub fn leaving(self, tag: Tag) -> Self {
        self.with(LEAVING, tag.bits())
    }

    /// Without a unit, with the same nonce.
    pub fn empty(self) -> Self {
        self.with(EMPTY, 0)
    }

    /// Anybody's, with the same nonce.
    #[inline]
    pub fn free(self) -> Self {
        self.with(FREE, 0)
    }

    /// The next nonce.
    #[inline]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1 << NONCE_SHIFT))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_word_do_not_touch() {
        let word = Word::new(MOST_UNITS, 4094).named(4095, u32::MAX);
        assert_eq!((word.spare(), word.celled(), word.cell()), (MOST_UNITS, 4094, 4095));
        assert!(word.names(4095, 511) && !word.names(4095, 510) && !word.names(4094, 511));
        let brought = word.bring().unwrap();
        assert_eq!(
            (brought.spare(), brought.celled(), brought.cell()),
            (MOST_UNITS - 1, 4095, 4095)
        );
        assert_eq!(brought.bring(), None);
        assert_eq!(brought.leave().unwrap().take().unwrap().add(2), word);
        assert_eq!(Word::new(0, 0).take(), None);
        assert_eq!(Word::new(0, 0).leave(), None);
        assert!(word.same_name(Word::new(0, 0).named(4095, 511)));
    }

    #[test]
    fn the_parts_of_a_cell_do_not_touch() {
        let tag = Tag::from_bits(Tag::MASK).unwrap();
        let cell = Cell::FREE.held(tag);
        assert_eq!(Cell::FREE.take(tag), cell);
        assert_eq!(cell.give(tag), cell.free().next());
        assert_eq!((cell.state(), cell.owner(), cell.nonce()), (Some(State::Held), Some(tag), 0));
        let cell = cell.free().next();
        assert_eq!((cell.state(), cell.owner(), cell.nonce()), (Some(State::Free), None, 1));
        assert_eq!(Cell(u64::MAX << NONCE_SHIFT).next(), Cell(0));
        for bad in [Cell::DAMAGED, Cell(5 << 30), Cell(2 << 30), Cell(1), Cell(1 << 30 | 1)] {
            assert_eq!(bad.state(), None);
            assert!(!bad.is_free());
        }
    }
}
