//! The seats of a pool's board, as its owner has them: who is in each.

use std::sync::Mutex;

use procession_core::pool::{Board, Order, SeatAt, SeatLook};
use procession_core::region::{Member, Tag};
use procession_core::sys::nanos;

use super::{Hire, Leaving, Seen, lock};
use crate::pool::board::{BoardAt, OwnBoard};
use crate::process::{Child, StartError};

/// The seats, and how workers come to them. What a [floor](super::Floor) does with seats is done here.
pub(crate) struct Seats {
    board: Board<'static>,
    at: BoardAt,
    me: Member<'static>,
    hire: Hire,
    /// The present life of each seat that is not empty.
    lives: Mutex<Vec<Option<SeatAt>>>,
}

impl Seats {
    /// All seats are empty.
    pub(crate) fn new(own: &OwnBoard, hire: Hire) -> Self {
        let (board, me) = (own.board(), own.arena().member());
        let lives = Mutex::new(vec![None; board.plan().seats as usize]);
        Seats { board, at: own.at(), me, hire, lives }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.board.plan().seats as usize
    }

    /// Starts the worker that will sit down at this seat.
    pub(crate) fn start(&self, seat: usize, name: String) -> Result<Child<Leaving>, StartError> {
        let taken = || StartError::Choice {
            what: "seat of the pool",
            reason: format!("seat {seat} is not empty, though nobody was started for it"),
        };
        let index = u32::try_from(seat).map_err(|_| taken())?;
        let at = self.board.reserve(index).ok_or_else(taken)?;
        // Before the process is there: it may be quick.
        if let Some(place) = lock(&self.lives).get_mut(seat) {
            *place = Some(at);
        }
        self.hire.start(self.at, at, name).inspect_err(|_| self.vacate(seat))
    }

    /// What is to be seen of the worker at this seat.
    pub(crate) fn look(&self, seat: usize) -> Seen {
        let Some(at) = self.life(seat) else { return Seen::Starting };
        match self.board.seat(at) {
            SeatLook::Ready(_) => {}
            SeatLook::Leaving(_) => return Seen::Busy,
            _ => return Seen::Starting,
        }
        let record = self.board.record(at);
        match record.running {
            Some(_) => Seen::Busy,
            None if record.since == 0 => Seen::Idle { since: nanos() },
            None => Seen::Idle { since: record.since },
        }
    }

    /// Who sits at this seat, or sat there until it died.
    pub(crate) fn tag(&self, seat: usize) -> Option<Tag> {
        self.life(seat).and_then(|at| self.board.seat(at).tag())
    }

    /// Whether this seat is kept for somebody who has not sat down yet.
    pub(crate) fn is_kept(&self, seat: usize) -> bool {
        self.life(seat).is_some_and(|at| self.board.seat(at) == SeatLook::Reserved)
    }

    /// The process that sits at this seat.
    pub(crate) fn pid(&self, seat: usize) -> Option<u32> {
        self.tag(seat).and_then(|tag| self.me.who(tag)).map(|who| who.pid)
    }

    /// Where this worker sits.
    pub(crate) fn find(&self, tag: Tag) -> Option<usize> {
        (0..self.count()).find(|seat| self.tag(*seat) == Some(tag))
    }

    /// The worker at this seat leaves after its present item.
    pub(crate) fn retire(&self, seat: usize) {
        if let Some(at) = self.life(seat) {
            self.board.retire(self.me, at);
        }
    }

    /// All workers leave, each after its present item.
    pub(crate) fn stop(&self) {
        self.board.order(self.me, Order::Stop);
    }

    /// Makes the seat empty: its worker is dead and holds nothing any more, or there never was one.
    pub(crate) fn vacate(&self, seat: usize) {
        let at = lock(&self.lives).get_mut(seat).and_then(Option::take);
        if let Some(at) = at {
            // Failure: it was written over. The seat stays as it is.
            self.board.vacate(at);
        }
    }

    fn life(&self, seat: usize) -> Option<SeatAt> {
        lock(&self.lives).get(seat).copied().flatten()
    }
}
