//! A pool's board in the arena: who makes it, who finds it, and who frees it.
//!
//! The owner makes it and lets it go at once, so that it stays while any worker may still use it. It is freed by its owner when
//! every seat is empty, or by a sweep when its owner and all who sit there are dead. A block that is tied to one of its tickets
//! is freed by a sweep once that turn of the cell is over.

use procession_core::pool::{Board, BoardPlaceError, Plan};
use procession_core::region::{Member, Object, Region};
use serde::{Deserialize, Serialize};

use crate::channel::Carrier;
use crate::memory::{Arena, HandleError, MemoryError, arena, kind};

/// The board of a pool, in the hand of its owner.
///
/// Dropped by its owner it is freed, unless a seat is not empty: then by the sweeps that come after the owner's death.
/// In a forked child of the owner dropping it does nothing.
#[derive(Debug)]
pub(crate) struct OwnBoard {
    board: Board<'static>,
    arena: &'static Arena,
    object: Object,
}

/// Where a board lies: what a worker is given to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BoardAt {
    arena: u64,
    offset: u64,
    generation: u32,
}

impl OwnBoard {
    /// Makes a board, whose owner is this process.
    ///
    /// # Errors
    /// [`MemoryError::Full`] if there is no room, and whatever prevents an arena. [`BoardError::Place`] for a plan that no
    /// board can have.
    pub fn create(plan: Plan) -> Result<Self, BoardError> {
        let arena = arena()?;
        let (region, me) = (arena.region(), arena.member());
        let allocate = || region.allocate_object(me, kind::POOL, Board::bytes(plan));
        // Once more without what the dead have left.
        let object = allocate()
            .or_else(|_| {
                arena.sweep();
                allocate()
            })
            .map_err(MemoryError::from)?;
        // Made before it is shared: should this process die here, it is swept as its own, or as that of a dead owner.
        let made = Board::create(region, object.offset, plan, me)
            .map_err(BoardError::from)
            .and_then(|board| {
                region.share(object).map_err(HandleError::from)?;
                Ok(board)
            });
        match made {
            Ok(board) => Ok(Self { board, arena, object }),
            Err(error) => {
                let _ = region.free_object(me, object);
                Err(error)
            }
        }
    }

    /// The board.
    #[inline]
    pub fn board(&self) -> Board<'static> {
        self.board
    }

    /// The arena that it lies in.
    pub fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// Where it lies in the region: what blocks are tied to, with a ticket.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.object.offset
    }

    /// What a worker is given to [find](BoardAt::open) it.
    pub fn at(&self) -> BoardAt {
        let Object { offset, generation, .. } = self.object;
        BoardAt { arena: self.arena.id(), offset, generation }
    }
}

impl Drop for OwnBoard {
    fn drop(&mut self) {
        let me = self.arena.member();
        if self.board.owner().is_some_and(|owner| me.is(owner)) && self.board.is_deserted() {
            // Failure: it was written over, and stays until the tree ends.
            let _ = self.arena.region().destroy(me, self.object);
        }
    }
}

impl BoardAt {
    /// Finds the board, in a worker.
    ///
    /// # Errors
    /// [`BoardError`] if it is gone, or of another tree of processes.
    pub fn open(self) -> Result<Board<'static>, BoardError> {
        let arena = arena()?;
        if self.arena != arena.id() {
            return Err(HandleError::OtherArena { found: self.arena, ours: arena.id() }.into());
        }
        let region = arena.region();
        let room = region
            .resolve(self.offset, kind::POOL, self.generation, 0)
            .map_err(HandleError::from)?;
        find(region, self.offset, room.capacity)
    }
}

/// Why a pool's board cannot be made or found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoardError {
    /// There is no memory for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// It is gone, or not of this tree.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// What lies there is none.
    #[error(transparent)]
    Place(#[from] BoardPlaceError),
}

/// The board in an object that has so much room.
fn find(region: &Region<'static>, offset: u64, room: u64) -> Result<Board<'static>, BoardError> {
    let board = Board::open(region, offset)?;
    if Board::bytes(board.plan()) > room {
        let Plan { cells, seats } = board.plan();
        return Err(BoardPlaceError::Damaged { cells, seats }.into());
    }
    Ok(board)
}

/// How sweeps find their way in a board.
pub(crate) const CARRIER: Carrier = Carrier {
    kind: kind::POOL,
    sweep: |region, me, object, room| {
        // One that is damaged names nobody who is in anybody's way.
        if let Ok(board) = find(region, object.offset, room) {
            bury(region, me, object, board);
        }
        true
    },
    passed: |region, offset, room, ticket| {
        find(region, offset, room).is_ok_and(|board| board.passed(ticket))
    },
};

/// Frees a board that only the dead have used.
fn bury(region: &Region<'static>, me: Member<'_>, object: Object, board: Board<'static>) {
    // Who sweeps before it joins cannot free anything.
    if me.current_tag().is_some() && board.is_abandoned(me) {
        // Exactly that. Failure: another sweep was faster.
        let _ = region.destroy(me, object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_there(at: BoardAt) -> bool {
        at.open().is_ok()
    }

    #[test]
    fn a_board_goes_with_its_owner_once_nobody_sits_there() {
        let own = OwnBoard::create(Plan { cells: 16, seats: 2 }).unwrap();
        let at = own.at();
        let sent: BoardAt = postcard::from_bytes(&postcard::to_stdvec(&at).unwrap()).unwrap();
        assert_eq!(sent, at);
        assert_eq!(sent.open().unwrap().plan(), Plan { cells: 16, seats: 2 });
        drop(own);
        assert!(!is_there(at));

        let own = OwnBoard::create(Plan { cells: 16, seats: 2 }).unwrap();
        let (at, board) = (own.at(), own.board());
        let seat = board.reserve(1).unwrap();
        drop(own);
        assert!(is_there(at), "a worker may be about to sit down");
        arena().unwrap().sweep();
        assert!(is_there(at), "its owner lives");
        assert!(board.vacate(seat));
    }

    #[test]
    fn no_board_is_larger_than_a_board_can_be() {
        for plan in [Plan { cells: 3, seats: 1 }, Plan { cells: 1 << 20, seats: 1 }] {
            let error = OwnBoard::create(plan).unwrap_err();
            assert!(matches!(error, BoardError::Place(_) | BoardError::Memory(_)), "{error}");
        }
    }

    #[test]
    fn a_block_is_free_once_its_turn_is_over() {
        let own = OwnBoard::create(Plan { cells: 16, seats: 1 }).unwrap();
        let (region, me, board) = (own.arena().region(), own.arena().member(), own.board());
        let block = region.allocate_message(me, 5000).unwrap();
        let ticket = board.ticket(3).unwrap();
        let number = u64::from(ticket.number());
        region.hand_over(me, block, own.offset(), number).unwrap();
        assert_eq!(board.publish(me, 3), Ok(ticket));
        own.arena().sweep();
        assert!(region.queued(block.offset, own.offset(), number).is_ok());
        assert!(board.withdraw(me, ticket));
        own.arena().sweep();
        assert!(region.queued(block.offset, own.offset(), number).is_ok());
        assert!(board.free(me, ticket));
        own.arena().sweep();
        assert!(region.queued(block.offset, own.offset(), number).is_err());
    }

    #[test]
    fn tickets_of_a_board_in_the_place_of_another_are_others() {
        let plan = Plan { cells: 256, seats: 1 };
        let make = || {
            let own = OwnBoard::create(plan).unwrap();
            (own.offset(), own.board().ticket(0).unwrap().number())
        };
        // Other tests make objects, too.
        let all: Vec<_> = (0..50).map(|_| make()).collect();
        let again = |(at, (place, number)): (usize, &(u64, u32))| {
            let earlier = all[..at].iter().filter(|(other, _)| other == place);
            earlier.inspect(|(_, other)| assert_ne!(other, number)).count()
        };
        assert!(all.iter().enumerate().map(again).sum::<usize>() > 0, "no place was used again");
    }
}
