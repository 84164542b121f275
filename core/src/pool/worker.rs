//! What a worker does with the board of its pool.

use super::Ticket;
use super::board::{Board, Cell, Corrupt};
use super::seats::{Order, Seat, SeatAt, running};
use super::word::{CellState, SeatState, cell_of, queued};
use crate::region::{Member, Tag, Verdict};
use crate::sys::atomic::Ordering;
use crate::sys::spin::Pace;
use crate::sys::{Deadline, prefetch_to_write};
use crate::wait::Eventcount;

/// A worker in its seat. It is of the process that sat down: in a forked child it takes nothing.
#[derive(Debug)]
pub struct Worker<'m> {
    board: Board<'m>,
    me: Member<'m>,
    tag: Tag,
    seat: &'m Seat,
    at: SeatAt,
    /// All that was published below this is not QUEUED any more, as this worker has seen for itself.
    cursor: u64,
    /// The tail as it saw it last.
    tail: u64,
}

/// What [`take`](Worker::take) found.
#[derive(Debug)]
pub enum Take<'m> {
    /// Something to do.
    Lease(Lease<'m>),
    /// Nothing more is to be done by this worker.
    Leave(Leave),
    /// Nothing came until the deadline.
    TimedOut,
}

/// Why a worker is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// [`Order::Drain`], and nothing is queued.
    Drained,
    /// [`Order::Stop`].
    Stopped,
    /// [`Board::retire`], for this one.
    Retired,
    /// The pool's owner is dead.
    OwnerDied,
    /// This is another process than the one that sat down: a child that was forked from it.
    Inherited,
}

impl<'m> Worker<'m> {
    pub(super) fn new(
        board: Board<'m>,
        me: Member<'m>,
        tag: Tag,
        seat: &'m Seat,
        at: SeatAt,
    ) -> Self {
        Self { board, me, tag, seat, at, cursor: 0, tail: 0 }
    }

    /// The board.
    #[must_use]
    pub fn board(&self) -> Board<'m> {
        self.board
    }

    /// Which seat, and which life of it.
    #[must_use]
    pub fn at(&self) -> SeatAt {
        self.at
    }

    /// Says that this worker is ready to take tasks, and wakes who waits for that at [`answers`](Board::answers). `false` if
    /// the owner has given it up.
    pub fn ready(&self) -> bool {
        let done = self.moves(SeatState::Starting(self.tag), SeatState::Ready(self.tag));
        self.board.answers().notify_all(self.me);
        done
    }

    /// Says that this worker takes nothing more and ends by itself. `false` if the owner has given it up.
    pub fn leaves(&self) -> bool {
        let done = self.moves(SeatState::Ready(self.tag), SeatState::Leaving(self.tag))
            || self.moves(SeatState::Starting(self.tag), SeatState::Leaving(self.tag));
        self.board.answers().notify_all(self.me);
        done
    }

    fn moves(&self, from: SeatState, to: SeatState) -> bool {
        self.me.is(self.tag) && self.seat.step(self.at.life, from, to)
    }

    /// Says when this worker began with what it is at, or to be idle, in nanoseconds of the monotonic clock. A store. Taking
    /// something forgets it.
    #[inline]
    pub fn note_since(&self, nanos: u64) {
        // Relaxed: a record.
        self.seat.since.store(nanos, Ordering::Relaxed);
    }

    /// Says how many bytes of memory this worker has. A store.
    pub fn note_resident(&self, bytes: u64) {
        // Relaxed: a record.
        self.seat.resident.store(bytes, Ordering::Relaxed);
    }

    /// Takes the next chunk, waiting for one until the deadline. Some loads and one compare-and-swap if one is there.
    ///
    /// # Errors
    /// [`Corrupt`] if the board is damaged.
    #[inline]
    pub fn take(&mut self, deadline: Deadline) -> Result<Take<'m>, Corrupt> {
        if let Some(found) = self.attempt() {
            return found;
        }
        self.wait(deadline)
    }

    /// Takes the next chunk if one is there; `None` if none is. Unlike [`take`](Self::take), which asks the kernel after the owner
    /// now and then, it makes no system call, and never hears of the owner's death: for one more look before a wait.
    ///
    /// # Errors
    /// [`Corrupt`] if the board is damaged.
    #[inline]
    pub fn take_at_once(&mut self) -> Result<Option<Take<'m>>, Corrupt> {
        self.attempt().transpose()
    }

    #[cold]
    fn wait(&mut self, deadline: Deadline) -> Result<Take<'m>, Corrupt> {
        let (board, me) = (self.board, self.me);
        let mut look = |ask: bool| {
            let found = self.attempt();
            if found.is_none() && ask && self.owner_is_dead() {
                return Some(Ok(Take::Leave(Leave::OwnerDied)));
            }
            found
        };
        let found = board.head.work.wait(me, deadline, Pace::Polite, &mut look);
        found.unwrap_or(Ok(Take::TimedOut))
    }

    fn owner_is_dead(&self) -> bool {
        self.board.owner().is_none_or(|owner| self.me.verdict(owner) == Verdict::Dead)
    }

    /// Looks once at what there is to do. `None`: nothing for now.
    #[inline]
    fn attempt(&mut self) -> Option<Result<Take<'m>, Corrupt>> {
        // Acquire meets the Release of `order`: what was queued before is seen by who drains.
        let order = Order::read(self.board.head.about.order.load(Ordering::Acquire));
        if order == Order::Stop || self.seat.is_retired() || !self.me.is(self.tag) {
            return Some(Ok(Take::Leave(self.why_leave(order))));
        }
        match self.next() {
            Ok(Some(lease)) => Some(Ok(Take::Lease(lease))),
            Ok(None) => (order == Order::Drain).then_some(Ok(Take::Leave(Leave::Drained))),
            Err(damage) => Some(Err(damage)),
        }
    }

    #[cold]
    fn why_leave(&self, order: Order) -> Leave {
        if !self.me.is(self.tag) {
            Leave::Inherited
        } else if order == Order::Stop {
            Leave::Stopped
        } else {
            Leave::Retired
        }
    }

    /// Takes the first cell that is queued.
    #[inline]
    fn next(&mut self) -> Result<Option<Lease<'m>>, Corrupt> {
        let head = &self.board.head.head;
        // Acquire meets the Release below: the tail is not before it.
        let first = head.load(Ordering::Acquire).max(self.cursor);
        let mut at = first;
        if at >= self.tail {
            // Acquire meets the Release of `publish`: the entries up to it, and their cells QUEUED or later.
            self.tail = self.board.head.publisher.tail.load(Ordering::Acquire);
            if at > self.tail {
                return Err(Corrupt);
            }
        }
        // What lies further back than the ring is long has been passed over, or is over.
        at = at.max(self.tail.saturating_sub(self.board.ring.len() as u64));
        let mut found = None;
        while at < self.tail && found.is_none() {
            // Relaxed: a hint, see above.
            let number = self.board.place(at).load(Ordering::Relaxed);
            let cell = self.board.cells.get(cell_of(number) as usize).ok_or(Corrupt)?;
            at += 1;
            found = self.claim(cell, number);
        }
        // A model has no caches.
        if !cfg!(loom) && at < self.tail {
            // The next one is this worker's, too, unless another is faster. Without this each exchange waits for the owner's
            // processor. Relaxed: a hint.
            let next = cell_of(self.board.place(at).load(Ordering::Relaxed));
            if let Some(cell) = self.board.cells.get(next as usize) {
                prefetch_to_write(&raw const cell.word);
            }
        }
        if at != first {
            self.cursor = at;
            // Release: see above. What was published below is not QUEUED any more.
            head.store(at, Ordering::Release);
        }
        Ok(found)
    }

    /// Claims a cell, if it is queued in the lap of this ticket.
    #[inline]
    fn claim(&self, cell: &'m Cell, number: u32) -> Option<Lease<'m>> {
        // Relaxed: the exchange looks again.
        let word = cell.word.load(Ordering::Relaxed);
        let ticket = queued(word, number)?;
        let taken = CellState::Taken(self.tag).word(ticket.lap);
        // Relaxed: the exchange brings it along. Else the last task's time would be taken for this one's.
        let idle = self.seat.since.load(Ordering::Relaxed);
        self.seat.since.store(0, Ordering::Relaxed);
        // Acquire meets the Release of `publish`: the payload. Release meets the Acquire of `look`: the time. Failure: another
        // worker was faster, or it was withdrawn.
        if (cell.word).compare_exchange(word, taken, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            self.seat.since.store(idle, Ordering::Relaxed);
            return None;
        }
        // Relaxed: a record.
        self.seat.running.store(running(ticket), Ordering::Relaxed);
        let answers = &self.board.head.answers;
        Some(Lease { answers, me: self.me, tag: self.tag, seat: self.seat, cell, ticket })
    }
}

/// A chunk in the hand of a worker. Dropped without an end it stays so until the worker is dead.
#[must_use = "a chunk that is not finished stays with this worker until it ends"]
#[derive(Debug)]
pub struct Lease<'m> {
    answers: &'m Eventcount,
    me: Member<'m>,
    tag: Tag,
    seat: &'m Seat,
    cell: &'m Cell,
    ticket: Ticket,
}

impl Lease<'_> {
    /// Which cell, in which lap.
    #[inline]
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Which cell.
    #[inline]
    #[must_use]
    pub fn cell(&self) -> u32 {
        self.ticket.cell
    }

    /// Where the payload lies: [`PAYLOAD`](super::PAYLOAD) bytes at a multiple of 16, this worker's until
    /// it finishes.
    #[cfg(not(loom))]
    #[inline]
    #[must_use]
    pub fn payload(&self) -> core::ptr::NonNull<u8> {
        core::ptr::NonNull::from(&self.cell.payload).cast()
    }

    /// Says that the answers to the first `progress` items are there, so that they count should this worker die. A store.
    #[inline]
    pub fn answered(&self, progress: u32) {
        if self.me.is(self.tag) {
            // Release: the answers before. Meets the Acquire of `reclaim` and `look`.
            self.cell.progress.store(progress, Ordering::Release);
        }
    }

    /// Whether the owner still wants it: `false` once it was revoked. A load.
    #[inline]
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        // Relaxed: only whether to go on.
        let word = self.cell.word.load(Ordering::Relaxed);
        word == CellState::Taken(self.tag).word(self.ticket.lap)
    }

    /// Gives the cell back to the owner, with as many items answered as [said](Self::answered), and wakes who waits for it.
    /// `false` if it was revoked: then this worker answers nothing more, and has to end. One compare-and-swap.
    #[inline]
    #[must_use = "a worker whose chunk was revoked has to end"]
    pub fn finish(self) -> bool {
        if !self.me.is(self.tag) {
            return false;
        }
        let taken = CellState::Taken(self.tag).word(self.ticket.lap);
        let done = CellState::Done.word(self.ticket.lap);
        // Relaxed: records.
        self.seat.running.store(0, Ordering::Relaxed);
        let chunks = self.seat.chunks.load(Ordering::Relaxed);
        self.seat.chunks.store(chunks.wrapping_add(1), Ordering::Relaxed);
        // Release: the answers before; meets the Acquire of `look`. Failure: it was revoked.
        if self
            .cell
            .word
            .compare_exchange(taken, done, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.cell.event.notify_all(self.me);
        self.answers.notify_all(self.me);
        true
    }
}
