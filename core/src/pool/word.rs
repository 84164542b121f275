//! The words of a board, as they stand in memory.
//!
//! ```text
//! a cell's word    state 3 at 61 | lap 31 at 30 | tag 30       FREE, QUEUED, TAKEN, DONE, REVOKED, HELD
//! a seat's word    state 3 at 61 | life 31 at 30 | tag 30      EMPTY, RESERVED, STARTING, READY, LEAVING
//! a ticket         lap 20 at 12 | cell 12                      in the ring, and where a block is tied to it
//! ```
//!
//! Zero is a free cell in its first lap, and an empty seat: what fresh memory holds.

use crate::region::Tag;

/// The most cells that a board can have.
pub const MOST_CELLS: u32 = 1 << CELL_BITS;
/// The most seats that a board can have.
pub const MOST_SEATS: u32 = 1 << 10;

const CELL_BITS: u32 = 12;
const CELL_MASK: u32 = MOST_CELLS - 1;

const STATE_SHIFT: u32 = 61;
const COUNT_SHIFT: u32 = 30;
/// Laps of a cell and lives of a seat count modulo this.
const COUNT_MASK: u32 = (1 << 31) - 1;
const TAG_MASK: u64 = (1 << COUNT_SHIFT) - 1;

const FREE: u64 = 0;
const QUEUED: u64 = 1;
const TAKEN: u64 = 2;
const DONE: u64 = 3;
const REVOKED: u64 = 4;
const HELD: u64 = 5;

const EMPTY: u64 = 0;
const RESERVED: u64 = 1;
const STARTING: u64 = 2;
const READY: u64 = 3;
const LEAVING: u64 = 4;

/// The count after this one, of laps or lives.
#[inline]
pub(super) const fn next(count: u32) -> u32 {
    count.wrapping_add(1) & COUNT_MASK
}

#[inline]
fn word(state: u64, count: u32, tag: u32) -> u64 {
    state << STATE_SHIFT | u64::from(count & COUNT_MASK) << COUNT_SHIFT | u64::from(tag)
}

/// One turn of one cell: from a publication until what came of it is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) cell: u32,
    pub(super) lap: u32,
}

impl Ticket {
    /// Which cell.
    #[inline]
    #[must_use]
    pub const fn cell(self) -> u32 {
        self.cell
    }

    /// Which turn of it: counts up, and wraps after 2³¹.
    #[inline]
    #[must_use]
    pub const fn lap(self) -> u32 {
        self.lap
    }

    /// The ticket in 32 bits: what a block is tied to. Another turn of the cell has the same number after 2²⁰ laps.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u32 {
        self.lap << CELL_BITS | self.cell & CELL_MASK
    }
}

/// The cell of a ticket's number.
#[inline]
pub(super) const fn cell_of(number: u32) -> u32 {
    number & CELL_MASK
}

/// A cell's word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CellState {
    Free,
    Queued,
    Taken(Tag),
    Done,
    Revoked(Tag),
    Held,
    Damaged,
}

impl CellState {
    #[inline]
    pub fn word(self, lap: u32) -> u64 {
        match self {
            Self::Free => word(FREE, lap, 0),
            Self::Queued => word(QUEUED, lap, 0),
            Self::Taken(tag) => word(TAKEN, lap, tag.bits()),
            Self::Done => word(DONE, lap, 0),
            Self::Revoked(tag) => word(REVOKED, lap, tag.bits()),
            Self::Held => word(HELD, lap, 0),
            Self::Damaged => word(7, lap, 0),
        }
    }

    /// Reads a word that anybody may have written: its state, and its lap.
    #[inline]
    pub fn read(word: u64) -> (Self, u32) {
        let tag = word & TAG_MASK;
        let state = match (word >> STATE_SHIFT, tag) {
            (FREE, 0) => Self::Free,
            (QUEUED, 0) => Self::Queued,
            (DONE, 0) => Self::Done,
            (HELD, 0) => Self::Held,
            (TAKEN, tag) => Tag::from_bits(tag as u32).map_or(Self::Damaged, Self::Taken),
            (REVOKED, tag) => Tag::from_bits(tag as u32).map_or(Self::Damaged, Self::Revoked),
            _ => Self::Damaged,
        };
        (state, (word >> COUNT_SHIFT) as u32 & COUNT_MASK)
    }
}

/// Whether a cell's word says QUEUED in the lap of the ticket with this number; then which ticket that is.
#[inline]
pub(super) fn queued(word: u64, number: u32) -> Option<Ticket> {
    let lap = (word >> COUNT_SHIFT) as u32 & COUNT_MASK;
    let ticket = Ticket { cell: cell_of(number), lap };
    (word == CellState::Queued.word(lap) && ticket.number() == number).then_some(ticket)
}

/// A seat's word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeatState {
    Empty,
    Reserved(Tag),
    Starting(Tag),
    Ready(Tag),
    Leaving(Tag),
    Damaged,
}

impl SeatState {
    pub fn word(self, life: u32) -> u64 {
        match self {
            Self::Empty => word(EMPTY, life, 0),
            Self::Reserved(tag) => word(RESERVED, life, tag.bits()),
            Self::Starting(tag) => word(STARTING, life, tag.bits()),
            Self::Ready(tag) => word(READY, life, tag.bits()),
            Self::Leaving(tag) => word(LEAVING, life, tag.bits()),
            Self::Damaged => word(7, life, 0),
        }
    }

    /// Reads a word that anybody may have written: its state, and its life.
    pub fn read(word: u64) -> (Self, u32) {
        let tag = Tag::from_bits((word & TAG_MASK) as u32);
        let state = match (word >> STATE_SHIFT, tag) {
            (EMPTY, None) if word & TAG_MASK == 0 => Self::Empty,
            (RESERVED, Some(tag)) => Self::Reserved(tag),
            (STARTING, Some(tag)) => Self::Starting(tag),
            (READY, Some(tag)) => Self::Ready(tag),
            (LEAVING, Some(tag)) => Self::Leaving(tag),
            _ => Self::Damaged,
        };
        (state, (word >> COUNT_SHIFT) as u32 & COUNT_MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        let tag = Tag::from_bits(Tag::MASK).unwrap();
        let most = COUNT_MASK;
        for state in [
            CellState::Free,
            CellState::Queued,
            CellState::Taken(tag),
            CellState::Done,
            CellState::Revoked(tag),
            CellState::Held,
            CellState::Damaged,
        ] {
            assert_eq!(CellState::read(state.word(most)), (state, most));
        }
        for state in [
            SeatState::Empty,
            SeatState::Reserved(tag),
            SeatState::Starting(tag),
            SeatState::Ready(tag),
            SeatState::Leaving(tag),
            SeatState::Damaged,
        ] {
            assert_eq!(SeatState::read(state.word(most)), (state, most));
        }
        assert_eq!(CellState::read(0), (CellState::Free, 0));
        assert_eq!(SeatState::read(0), (SeatState::Empty, 0));
        assert_eq!(next(most), 0);
        // A name where there must be none, and none where there must be one.
        assert_eq!(CellState::read(CellState::Queued.word(5) | 1).0, CellState::Damaged);
        assert_eq!(CellState::read(TAKEN << STATE_SHIFT).0, CellState::Damaged);
        assert_eq!(SeatState::read(RESERVED << STATE_SHIFT).0, SeatState::Damaged);
    }

    #[test]
    fn tickets_find_their_cell_and_lap() {
        let ticket = Ticket { cell: 4095, lap: COUNT_MASK };
        let word = CellState::Queued.word(COUNT_MASK);
        assert_eq!(queued(word, ticket.number()), Some(ticket));
        assert_eq!(queued(word, Ticket { cell: 4095, lap: 3 }.number()), None);
        assert_eq!(queued(CellState::Done.word(COUNT_MASK), ticket.number()), None);
    }
}
