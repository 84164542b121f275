//! What a pool's owner does with its board.

use super::board::{Board, Cell, Corrupt};
use super::word::{CellState, Ticket, next, queued};
use super::{Order, SeatAt};
use crate::region::{Member, Tag};
use crate::sys::atomic::Ordering;
use crate::sys::spin::Pace;
use crate::sys::{Deadline, prefetch_to_write};
use crate::wait::Eventcount;

/// Where a ticket's turn is, as of a moment between call and return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nobody has taken it yet.
    Queued,
    /// A worker is at it.
    Taken {
        /// Which.
        tag: Tag,
        /// How many of its items are answered.
        progress: u32,
    },
    /// It is over.
    Done {
        /// How many of its items are answered: the others are to be published anew.
        progress: u32,
    },
    /// It was revoked, and its worker is not yet known to be dead.
    Revoked {
        /// Whose it was.
        tag: Tag,
        /// How many of its items are answered.
        progress: u32,
    },
    /// The owner has it back: withdrawn or reclaimed, and not yet freed.
    Held {
        /// How many of its items are answered.
        progress: u32,
    },
    /// The cell is in another turn, or free; or its word is damaged. A ticket that was not freed is never gone.
    Gone,
}

impl<'m> Board<'m> {
    #[inline]
    fn cell(&self, ticket: Ticket) -> Option<&'m Cell> {
        self.cells.get(ticket.cell as usize)
    }

    /// The ticket that a cell has while it is free and when it is published next: what blocks are tied to that are put into
    /// it before. A load.
    ///
    /// # Errors
    /// [`Corrupt`] if there is no such cell, or it is not free.
    #[inline]
    pub fn ticket(&self, cell: u32) -> Result<Ticket, Corrupt> {
        let row = self.cells.get(cell as usize).ok_or(Corrupt)?;
        // Relaxed: a free cell is the owner's, which freed it.
        match CellState::read(row.word.load(Ordering::Relaxed)) {
            (CellState::Free, lap) => Ok(Ticket { cell, lap }),
            _ => Err(Corrupt),
        }
    }

    /// Queues a free cell, whose payload is filled, and wakes a worker if one sleeps. As
    /// [`publish_all`](Self::publish_all) with one cell.
    ///
    /// # Errors
    /// [`Corrupt`] if there is no such cell, or it is not free.
    #[inline]
    pub fn publish(&self, me: Member<'_>, cell: u32) -> Result<Ticket, Corrupt> {
        let ticket = self.ticket(cell)?;
        self.publish_all(me, &[cell])?;
        Ok(ticket)
    }

    /// Queues free cells, whose payloads are filled, in this order, and wakes as many workers if they sleep. A few stores for
    /// each, and one for all of them that workers wait for; a system call for each that sleeps.
    ///
    /// One thread of the owner at a time: two at once would lose a task. A cell that is published is its workers' until
    /// it is done.
    ///
    /// # Errors
    /// [`Corrupt`] if there is no such cell, or it is not free: the others are queued.
    #[inline]
    pub fn publish_all(&self, me: Member<'_>, cells: &[u32]) -> Result<(), Corrupt> {
        let publisher = &self.head.publisher;
        // Relaxed: the owner's own word.
        let before = publisher.tail.load(Ordering::Relaxed);
        let mut at = before;
        let mut result = Ok(());
        for &cell in cells {
            let Ok(ticket) = self.ticket(cell) else {
                result = Err(Corrupt);
                continue;
            };
            let row = &self.cells[cell as usize];
            // Relaxed: the Release behind it brings it to whoever takes the cell.
            row.progress.store(0, Ordering::Relaxed);
            // Release: the payload before the word; meets the Acquire of `take`. A plain store: nobody else writes a free cell.
            row.word.store(CellState::Queued.word(ticket.lap), Ordering::Release);
            // Relaxed: the owner's own word.
            let seen = publisher.seen.load(Ordering::Relaxed);
            if at.wrapping_sub(seen) >= self.ring.len() as u64 {
                at = self.find_place(at);
            }
            // Relaxed: a hint, which the tail brings along.
            self.place(at).store(ticket.number(), Ordering::Relaxed);
            at = at.wrapping_add(1);
        }
        if at != before {
            // Release: who sees the tail sees the entries up to it, and their cells QUEUED or later. Meets the Acquire of `take`.
            publisher.tail.store(at, Ordering::Release);
            // One each. Where nobody sleeps these are loads.
            cells.iter().for_each(|_| self.head.work.notify_one(me));
        }
        result
    }

    /// Has the processor bring a cell's first line here to be written, while the caller does something else: for who thinks that
    /// its turn is over, and is going to look and to [free](Self::free) it. Each of these would else wait for the worker's processor. A
    /// worker that is still at it waits instead.
    #[inline]
    pub fn expect(&self, ticket: Ticket) {
        if let Some(cell) = self.cell(ticket) {
            prefetch_to_write(&raw const cell.word);
        }
    }

    /// The first place from `at` on whose entry nobody needs any more.
    #[cold]
    fn find_place(&self, mut at: u64) -> u64 {
        let places = self.ring.len() as u64;
        // Acquire meets the Release of who moved it: all that was published below is not QUEUED any more.
        let head = self.head.head.load(Ordering::Acquire);
        self.head.publisher.seen.store(head, Ordering::Relaxed);
        // No more than half of the places can be in use. (Damage may say otherwise: then one task is lost.)
        for _ in 0..places {
            if at.wrapping_sub(head) < places {
                break;
            }
            let number = self.place(at).load(Ordering::Relaxed);
            // Relaxed: QUEUED is written by this process alone, so what is not QUEUED now never will be in that lap.
            let needed = (self.cells.get(super::word::cell_of(number) as usize))
                .is_some_and(|cell| queued(cell.word.load(Ordering::Relaxed), number).is_some());
            if !needed {
                break;
            }
            at = at.wrapping_add(1);
        }
        at
    }

    /// How many places of the ring have been used. Each publication uses one, and passes over those before it whose cells are
    /// queued still. A load of the owner's own word.
    #[inline]
    #[must_use]
    pub fn used(&self) -> u64 {
        // Relaxed: the owner's own.
        self.head.publisher.tail.load(Ordering::Relaxed)
    }

    /// What is queued at these places of the ring, in the order in which it will be taken: what was passed over there, and so is later
    /// than what was published after it, and what was put there. Some loads for each place.
    pub fn queued_at(&self, places: core::ops::Range<u64>) -> impl Iterator<Item = Ticket> + 'm {
        let board = *self;
        // Damage may say more.
        places.take(board.ring.len()).filter_map(move |at| {
            // Relaxed, both: the owner's own words; what was taken meanwhile needs no order any more.
            let number = board.ring[at as usize & (board.ring.len() - 1)].load(Ordering::Relaxed);
            let cell = board.cells.get(super::word::cell_of(number) as usize)?;
            queued(cell.word.load(Ordering::Relaxed), number)
        })
    }

    /// How many published cells nobody has taken yet, about: a hint where to [expect](Self::expect) answers. Two loads.
    #[inline]
    #[must_use]
    pub fn untaken(&self) -> u64 {
        // Relaxed, both: a hint.
        let tail = self.head.publisher.tail.load(Ordering::Relaxed);
        tail.saturating_sub(self.head.head.load(Ordering::Relaxed))
    }

    /// Takes back a cell that nobody has taken: then nobody ever will, and it is the owner's, to be [freed](Self::free).
    /// `false` if somebody was faster. One compare-and-swap.
    pub fn withdraw(&self, me: Member<'_>, ticket: Ticket) -> bool {
        let done = self.exchange(ticket, CellState::Queued, CellState::Held);
        if done {
            self.rouse(me, ticket);
        }
        done
    }

    /// Takes a cell from the worker that has it: whom the caller then has to end. It answers nothing more; once it is dead,
    /// [`reclaim`](Self::reclaim) gives the cell back. `None` if no worker has it (any more). One compare-and-swap.
    pub fn revoke(&self, ticket: Ticket) -> Option<Tag> {
        let cell = self.cell(ticket)?;
        // Relaxed: the exchange below looks again.
        match CellState::read(cell.word.load(Ordering::Relaxed)) {
            (CellState::Taken(tag), lap) if lap == ticket.lap => {
                self.exchange(ticket, CellState::Taken(tag), CellState::Revoked(tag)).then_some(tag)
            }
            _ => None,
        }
    }

    /// Takes a cell back from a worker that is dead by the kernel's word; how many of its items are answered. It is the
    /// owner's then, to be read and [freed](Self::free). `None` if the dead one did not have it (any more). One
    /// compare-and-swap.
    ///
    /// Of a worker that may live this would give the same bytes to two.
    pub fn reclaim(&self, me: Member<'_>, ticket: Ticket, dead: Tag) -> Option<u32> {
        let cell = self.cell(ticket)?;
        let done = self.exchange(ticket, CellState::Taken(dead), CellState::Held)
            || self.exchange(ticket, CellState::Revoked(dead), CellState::Held);
        if !done {
            return None;
        }
        // Acquire meets the Release of `answered`: the answers up to it are there. The dead one writes no more.
        let progress = cell.progress.load(Ordering::Acquire);
        self.rouse(me, ticket);
        Some(progress)
    }

    /// Ends the turn of a cell that is done or held: it is free, and what is tied to its ticket is nobody's. `false` if it was
    /// neither, or another thread was faster. One compare-and-swap.
    #[inline]
    pub fn free(&self, me: Member<'_>, ticket: Ticket) -> bool {
        let Some(cell) = self.cell(ticket) else { return false };
        let free = CellState::Free.word(next(ticket.lap));
        // Release: what was read and taken over comes before; meets the Acquire of `passed`.
        let done = [CellState::Done, CellState::Held].into_iter().any(|state| {
            (cell.word)
                .compare_exchange(
                    state.word(ticket.lap),
                    free,
                    Ordering::Release,
                    Ordering::Relaxed,
                )
                .is_ok()
        });
        if done {
            cell.event.notify_all(me);
        }
        done
    }

    /// Where the turn of a ticket is. Two loads.
    #[inline]
    #[must_use]
    pub fn look(&self, ticket: Ticket) -> Look {
        let Some(cell) = self.cell(ticket) else { return Look::Gone };
        // Acquire meets the Release of `finish`: what was answered is there to be read.
        let (state, lap) = CellState::read(cell.word.load(Ordering::Acquire));
        if lap != ticket.lap {
            return Look::Gone;
        }
        // Acquire meets the Release of `answered`.
        let progress = || cell.progress.load(Ordering::Acquire);
        match state {
            CellState::Free | CellState::Damaged => Look::Gone,
            CellState::Queued => Look::Queued,
            CellState::Taken(tag) => Look::Taken { tag, progress: progress() },
            CellState::Done => Look::Done { progress: progress() },
            CellState::Revoked(tag) => Look::Revoked { tag, progress: progress() },
            CellState::Held => Look::Held { progress: progress() },
        }
    }

    /// Whether a ticket's turn needs the owner: it is done, or held, or gone. One load.
    #[inline]
    #[must_use]
    pub fn is_over(&self, ticket: Ticket) -> bool {
        let Some(cell) = self.cell(ticket) else { return true };
        // Acquire: as in `look`.
        let (state, lap) = CellState::read(cell.word.load(Ordering::Acquire));
        lap != ticket.lap
            || !matches!(state, CellState::Queued | CellState::Taken(_) | CellState::Revoked(_))
    }

    /// What a worker has taken, or was to give back: at its death to be [reclaimed](Self::reclaim). A load for each cell.
    pub fn leases_of(&self, tag: Tag) -> impl Iterator<Item = Ticket> + 'm {
        (0u32..).zip(self.cells).filter_map(move |(cell, row)| {
            // Acquire: what a dead one had taken is seen as it left it.
            match CellState::read(row.word.load(Ordering::Acquire)) {
                (CellState::Taken(owner) | CellState::Revoked(owner), lap) if owner == tag => {
                    Some(Ticket { cell, lap })
                }
                _ => None,
            }
        })
    }

    /// Waits until a ticket's turn [is over](Self::is_over); `false` at the deadline. No system call while that comes soon.
    ///
    /// Nobody looks whether its worker lives: whoever finds out [reclaims](Self::reclaim) the cell, which ends the wait.
    pub fn wait_cell(&self, me: Member<'_>, ticket: Ticket, deadline: Deadline) -> bool {
        let Some(cell) = self.cell(ticket) else { return true };
        let look = |_| self.is_over(ticket).then_some(());
        cell.event.wait(me, deadline, Pace::Eager, look).is_some()
    }

    /// Where those sleep who wait for any cell: notified whenever one's turn is over.
    #[must_use]
    pub fn answers(&self) -> &'m Eventcount {
        &self.head.answers
    }

    /// Where those sleep who wait for one cell; `None` if there is no such cell.
    #[must_use]
    pub fn sleepers(&self, cell: u32) -> Option<&'m Eventcount> {
        self.cells.get(cell as usize).map(|cell| &cell.event)
    }

    /// Tells all workers what to do, and wakes them. An order may only grow stricter.
    pub fn order(&self, me: Member<'_>, order: Order) {
        // Release: what was published before is there to be seen by who drains. Meets the Acquire of `take`.
        self.head.about.order.store(order.number(), Ordering::Release);
        self.head.work.notify_all(me);
    }

    /// Tells one worker to leave after what it is at, and wakes all: whom it concerns is not known to sleep elsewhere.
    pub fn retire(&self, me: Member<'_>, at: SeatAt) {
        if self.tell_to_retire(at) {
            self.head.work.notify_all(me);
        }
    }

    /// One exact step of a cell's word.
    #[inline]
    fn exchange(&self, ticket: Ticket, from: CellState, to: CellState) -> bool {
        // Acquire: what the cell's last holder wrote is there to be read. Release: nothing of the owner's own is put off
        // until behind it.
        self.cell(ticket).is_some_and(|cell| {
            (cell.word)
                .compare_exchange(
                    from.word(ticket.lap),
                    to.word(ticket.lap),
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                )
                .is_ok()
        })
    }

    /// Wakes whoever waits for this cell, or for any.
    fn rouse(&self, me: Member<'_>, ticket: Ticket) {
        if let Some(cell) = self.cell(ticket) {
            cell.event.notify_all(me);
        }
        self.head.answers.notify_all(me);
    }
}
