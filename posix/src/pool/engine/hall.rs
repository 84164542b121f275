//! What the owner has handed out and not got back yet: everything that its lock guards.

use std::collections::VecDeque;
use std::time::Duration;

use procession_core::pool::{Board, Look, Ticket};

use super::desk::Held;
use super::job::Job;
use super::work::Name;
use crate::channel::luggage::Luggage;
use crate::pool::lives::Death;
use crate::task::{TaskError, TaskId, Terms, Which};

/// So many of the chunks that were taken may still be in a worker's hand: an estimate.
const UNDER_WAY: usize = 2;

/// A task, or a chunk of them, or what is left of one. It is at one place at a time: in a cell, in a list of the hall, or in the hand
/// of the thread that collects it.
pub(super) struct Chunk {
    pub(super) task: TaskId,
    pub(super) job: Job,
    /// What is to be done.
    pub(super) name: Name,
    /// The index of its first item, and how many it has.
    pub(super) first: u64,
    pub(super) count: u32,
    /// Where its inputs lie while it is in a cell: in this block, or in the cell.
    pub(super) block: u64,
    /// Bytes of the inputs, and how many names of luggage stand behind them.
    pub(super) length: u32,
    pub(super) names: u16,
    /// When it was handed over, by the monotonic clock in nanoseconds; 0 if nobody looked.
    pub(super) since: u64,
    /// What most chunks do not have.
    pub(super) rare: Option<Box<Rare>>,
}

/// What is said of few chunks.
#[derive(Clone, Default)]
pub(super) struct Rare {
    pub(super) terms: Terms,
    /// How often its first item was begun before.
    pub(super) attempts: u32,
    /// How many workers have died of it.
    pub(super) deaths: u32,
    /// Why it was taken from its worker.
    pub(super) wish: Wish,
    /// Which of its inputs could not be encoded, and why.
    pub(super) voids: Vec<(u64, String)>,
}

impl Chunk {
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn wish(&self) -> Wish {
        self.rare.as_ref().map_or(Wish::None, |rare| rare.wish)
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.rare.as_ref()?.terms.deadline
    }
}

/// Why the owner wants a worker to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wish {
    /// It does not.
    #[default]
    None,
    Cancelled,
    Late,
}

/// The inputs of a chunk that is in no cell.
pub(super) enum Input {
    Bytes(Vec<u8>),
    Block(Held, Option<Luggage>),
}

/// A chunk that waits for a cell.
pub(super) struct Parked {
    pub(super) chunk: Chunk,
    pub(super) input: Input,
}

/// A chunk that has to be collected, in the hand of the thread that does that.
pub(super) struct Finished {
    pub(super) chunk: Chunk,
    pub(super) ticket: Ticket,
    pub(super) progress: u32,
    /// Its worker's death, if that is why.
    pub(super) death: Option<Box<Death>>,
    /// Into how many pieces that go on it was cut.
    pub(super) pieces: u32,
}

/// The owner's side of a pool.
pub(super) struct Hall {
    /// Cells that are free.
    pub(super) free: Vec<u32>,
    /// What is in each cell.
    pub(super) cells: Vec<Option<Chunk>>,
    /// Cells that were seen in a worker's hand.
    pub(super) running: Vec<Ticket>,
    /// Those behind them, in the order in which they are taken: that of their places in the board's ring.
    pub(super) queued: VecDeque<Ticket>,
    /// Cells that are filled and among those, and are published before the lock is given up.
    pub(super) filled: Vec<u32>,
    /// Chunks for which there was no free cell.
    pub(super) waiting: VecDeque<Parked>,
    /// Chunks that are tried again, not before this reading of the monotonic clock.
    pub(super) delayed: Vec<(u64, Parked)>,
    /// What was taken from workers that died.
    pub(super) fallen: Vec<Finished>,
    /// What could not be put into a cell, since the memory is full or damaged.
    pub(super) lost: Vec<Chunk>,
    pub(super) tasks: Tasks,
    /// Set: it is all over, and this is what becomes of everything.
    pub(super) closed: Option<TaskError>,
    /// When the supervisor is to look at what is overdue, by the monotonic clock in nanoseconds.
    pub(super) next_look: u64,
}

impl Hall {
    pub(super) fn new(cells: u32) -> Self {
        Hall {
            // The last are used first: those that were used last.
            free: (0..cells).rev().collect(),
            cells: (0..cells).map(|_| None).collect(),
            running: Vec::new(),
            queued: VecDeque::with_capacity(cells as usize),
            filled: Vec::new(),
            waiting: VecDeque::new(),
            delayed: Vec::new(),
            fallen: Vec::new(),
            lost: Vec::new(),
            tasks: Tasks::default(),
            closed: None,
            next_look: u64::MAX,
        }
    }

    /// Sees which cells have been taken.
    pub(super) fn advance(&mut self, board: &Board<'_>) {
        while let Some(ticket) = self.queued.front()
            && board.look(*ticket) != Look::Queued
        {
            self.running.push(*ticket);
            self.queued.pop_front();
        }
    }

    /// Takes chunks that are done into `to`, up to so many.
    pub(super) fn gather(&mut self, board: &Board<'_>, to: &mut Vec<Finished>, most: usize) {
        // What was taken is done, but for what is under way.
        let done =
            self.queued.len().saturating_sub(board.untaken() as usize).saturating_sub(UNDER_WAY);
        self.queued.iter().take(done.min(most)).for_each(|ticket| board.expect(*ticket));
        let mut at = 0;
        while at < self.running.len() && to.len() < most {
            let ticket = self.running[at];
            match board.look(ticket) {
                Look::Queued | Look::Taken { .. } | Look::Revoked { .. } => at += 1,
                Look::Done { progress } | Look::Held { progress } => {
                    self.running.swap_remove(at);
                    self.finish(ticket, progress, to);
                }
                // Damage: what was in it is lost, and said to be.
                Look::Gone => {
                    self.running.swap_remove(at);
                    self.finish(ticket, 0, to);
                }
            }
        }
        while to.len() < most
            && let Some(ticket) = self.queued.front().copied()
        {
            match board.look(ticket) {
                Look::Queued => break,
                Look::Taken { .. } | Look::Revoked { .. } => self.running.push(ticket),
                Look::Done { progress } | Look::Held { progress } => {
                    self.finish(ticket, progress, to);
                }
                Look::Gone => self.finish(ticket, 0, to),
            }
            self.queued.pop_front();
        }
        while to.len() < most
            && let Some(fallen) = self.fallen.pop()
        {
            to.push(fallen);
        }
    }

    fn finish(&mut self, ticket: Ticket, progress: u32, to: &mut Vec<Finished>) {
        if let Some(chunk) = self.take(ticket) {
            to.push(Finished { chunk, ticket, progress, death: None, pieces: 0 });
        }
    }

    /// Takes what is in a cell.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Chunk> {
        self.cells.get_mut(ticket.cell() as usize)?.take()
    }

    /// Whether something can be gathered.
    pub(super) fn has_news(&self, board: &Board<'_>) -> bool {
        !self.fallen.is_empty()
            || !self.lost.is_empty()
            || self.running.iter().any(|ticket| board.is_over(*ticket))
            || self.queued.front().is_some_and(|ticket| board.is_over(*ticket))
    }

    /// These have got places behind all others, in this order.
    #[cold]
    pub(super) fn put_off(&mut self, tickets: impl Iterator<Item = Ticket>) {
        for ticket in tickets {
            self.queued.retain(|other| *other != ticket);
            self.queued.push_back(ticket);
        }
    }

    /// Forgets that this cell is queued or running.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        if let Some(at) = self.running.iter().position(|other| *other == ticket) {
            self.running.swap_remove(at);
        } else {
            self.queued.retain(|other| *other != ticket);
        }
    }

    /// In which cell a task is, if it is in one piece and in one.
    pub(super) fn ticket_of(&self, task: TaskId) -> Option<Ticket> {
        let entry = self.tasks.get(task)?;
        if entry.pieces == 1 { entry.ticket } else { None }
    }
}

/// The tasks that are not over, found by their ids.
///
/// An id is `serial 40 | place 24`.
#[derive(Default)]
pub(super) struct Tasks {
    entries: Vec<Entry>,
    free: Vec<u32>,
    serial: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Entry {
    id: u64,
    /// In how many pieces it is.
    pub(super) pieces: u32,
    /// Whether a worker has had any of it and given it back.
    pub(super) begun: bool,
    /// In which cell it was put last, unless it waits.
    pub(super) ticket: Option<Ticket>,
}

const PLACE_BITS: u32 = 24;
const SERIAL_MASK: u64 = (1 << (64 - PLACE_BITS)) - 1;

/// The how manieth task of its pool it is: for messages.
pub(super) fn number(task: TaskId) -> Which {
    Which::Call(task.0 >> PLACE_BITS)
}

impl Tasks {
    /// A new task, in one piece; `None` if there are 2²⁴ already.
    pub(super) fn add(&mut self) -> Option<TaskId> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.entries.len()).ok()?;
                if place >> PLACE_BITS != 0 {
                    return None;
                }
                self.entries.push(Entry { id: 0, pieces: 0, begun: false, ticket: None });
                place
            }
        };
        // The first is 1, so that no id is 0.
        self.serial = (self.serial + 1) & SERIAL_MASK;
        let id = self.serial << PLACE_BITS | u64::from(place);
        self.entries[place as usize] = Entry { id, pieces: 1, begun: false, ticket: None };
        Some(TaskId(id))
    }

    /// Whether all of them are over, and have got their results.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.entries.len()
    }

    pub(super) fn get(&self, task: TaskId) -> Option<&Entry> {
        let place = task.0 & ((1 << PLACE_BITS) - 1);
        self.entries.get(place as usize).filter(|entry| entry.id == task.0)
    }

    pub(super) fn get_mut(&mut self, task: TaskId) -> Option<&mut Entry> {
        let place = task.0 & ((1 << PLACE_BITS) - 1);
        self.entries.get_mut(place as usize).filter(|entry| entry.id == task.0)
    }

    /// One piece is over; whether that was the last one, and so the task is.
    pub(super) fn piece_over(&mut self, task: TaskId) -> bool {
        let Some(entry) = self.get_mut(task) else { return false };
        entry.pieces = entry.pieces.saturating_sub(1);
        if entry.pieces > 0 {
            return false;
        }
        entry.id = 0;
        self.free.push((task.0 & ((1 << PLACE_BITS) - 1)) as u32);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_one_task_only() {
        let mut tasks = Tasks::default();
        let (first, second) = (tasks.add().unwrap(), tasks.add().unwrap());
        assert_eq!((number(first), number(second)), (Which::Call(1), Which::Call(2)));
        tasks.get_mut(first).unwrap().pieces = 2;
        assert!(!tasks.piece_over(first) && tasks.piece_over(first));
        assert!(!tasks.piece_over(first), "it is over");
        let third = tasks.add().unwrap();
        assert_eq!((first.0 ^ third.0) & 0xFF_FFFF, 0, "the place is used again");
        assert!(tasks.get(first).is_none() && tasks.get(second).is_some());
        assert!(tasks.get(third).is_some_and(|entry| entry.pieces == 1));
    }
}
