//! What faces and flows ask of the crew, and what its supervisor does.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use procession_core::pool::{Look, Phase, Ticket};
use procession_core::region::{Tag, Verdict};
use procession_core::sys::spin::Pace;
use procession_core::sys::{Deadline, nanos};

use super::hall::{Chunk, Finished, Hall, Wish};
use super::wire::begun;
use super::{ProcessCrew, lock};
use crate::attendant;
use crate::pool::lives::{Death, Floor, Seats};
use crate::task::{Crew, PoolError, PoolState, Statistics, TaskError, TaskId, WorkerInfo};

/// More chunks than this are not handed over at once, for others want cells, too.
const WINDOW: usize = super::CELLS as usize / 4 * 3;
/// How long the workers of a pool that is dropped are waited for.
const SEEING_OFF: Duration = Duration::from_secs(1);
/// So many cells are watched by who waits for any.
const WATCHED: usize = 8;
/// How long answers may lie while others come, in nanoseconds.
const NAP: u64 = 300_000;
/// The supervisor looks at what may be overdue no more often than this, in nanoseconds.
const SHORTLY: u64 = 1_000_000;
/// How long it may take until a thread that was woken has handed over more, in nanoseconds.
const GETTING_UP: u64 = 100_000;
/// What comes sooner than this is waited for awake, in nanoseconds: to be woken takes as long.
const SOON: u64 = 20_000;

/// Where a thread sleeps that waits for answers.
enum Bed {
    /// At the one cell that it waits for.
    At(Ticket),
    /// At the last of several, for a while.
    Behind(Ticket, Duration),
    /// Where all answers are announced.
    Anywhere { spin: bool },
}

impl Crew for ProcessCrew {
    fn help(
        &self,
        task: Option<TaskId>,
        deadline: Deadline,
        done: &mut dyn FnMut() -> bool,
    ) -> bool {
        loop {
            if done() {
                return true;
            }
            if self.collect_round() {
                continue;
            }
            if self.is_finished() || deadline.is_past() {
                return done();
            }
            self.rest(task, deadline, done);
        }
    }

    fn collect(&self) {
        while self.collect_round() {}
    }

    fn withdraw(&self, task: TaskId) -> bool {
        if !self.is_here() {
            return false;
        }
        let taken = {
            let mut hall = lock(&self.hall);
            if hall.tasks.get(task).is_none_or(|entry| entry.begun || entry.pieces != 1) {
                return false;
            }
            self.take_unbegun(&mut hall, task)
        };
        self.cancel(taken)
    }

    fn withdraw_all(&self) {
        if !self.is_here() {
            return;
        }
        let mut chunks = Vec::new();
        {
            let mut hall = lock(&self.hall);
            for parked in std::mem::take(&mut hall.waiting) {
                if hall.tasks.get(parked.chunk.task).is_some_and(|entry| !entry.begun) {
                    chunks.push(parked.chunk);
                } else {
                    hall.waiting.push_back(parked);
                }
            }
            let queued: Vec<Ticket> = hall.queued.iter().copied().collect();
            for ticket in queued {
                let task = hall.cells.get(ticket.cell() as usize).and_then(Option::as_ref);
                let Some(task) = task.map(|chunk| chunk.task) else { continue };
                if hall.tasks.get(task).is_some_and(|entry| !entry.begun) {
                    chunks.extend(self.take_unbegun(&mut hall, task));
                }
            }
        }
        self.cancel(chunks);
    }

    fn abort(&self, task: TaskId) -> bool {
        if !self.is_here() {
            return false;
        }
        let mut unbegun = Vec::new();
        let mut late = Vec::new();
        {
            let mut hall = lock(&self.hall);
            if hall.tasks.get(task).is_none() {
                return false;
            }
            while let Some(chunk) = self.take_unbegun(&mut hall, task) {
                unbegun.push(chunk);
            }
            let cells = hall.cells.iter_mut().flatten().filter(|chunk| chunk.task == task);
            cells.for_each(|chunk| chunk.rare_mut().wish = Wish::Cancelled);
            hall.advance(&self.board);
            let running: Vec<Ticket> = hall.running.clone();
            for ticket in running {
                let is_its = (hall.cells.get(ticket.cell() as usize))
                    .is_some_and(|cell| cell.as_ref().is_some_and(|chunk| chunk.task == task));
                if is_its && let Some(tag) = self.board.revoke(ticket) {
                    late.push(tag);
                }
            }
        }
        let revoked = !late.is_empty();
        for tag in late {
            self.lives.doom(tag);
        }
        self.cancel(unbegun) || revoked
    }

    fn is_running(&self, task: TaskId) -> bool {
        if !self.is_here() {
            return false;
        }
        let hall = lock(&self.hall);
        let Some(entry) = hall.tasks.get(task) else { return false };
        entry.begun || entry.ticket.is_some_and(|ticket| self.board.look(ticket) != Look::Queued)
    }

    fn attend(&self) {
        self.have_it_attend();
    }

    fn post(&self, job: Box<dyn FnOnce() + Send>) {
        self.send(job);
    }

    fn width(&self) -> usize {
        self.lives.width().max(1)
    }

    fn room(&self) -> usize {
        if !self.is_here() {
            // Whoever tries is told.
            return WINDOW;
        }
        let hall = lock(&self.hall);
        let out = hall.queued.len() + hall.running.len() + hall.waiting.len();
        WINDOW.saturating_sub(out)
    }

    fn state(&self) -> PoolState {
        // In a forked process nothing will ever be done.
        if self.is_here() { self.lives.state().phase().into() } else { PoolState::Ended }
    }

    fn cause(&self) -> Option<Arc<PoolError>> {
        if !self.is_here() {
            return Some(Arc::new(PoolError::Forked { owner: self.pid }));
        }
        self.lives.cause()
    }

    fn close(&self) {
        self.lives.close();
    }

    fn terminate(&self) {
        if self.is_here() {
            self.lives.terminate_soon();
            self.give_up_all(&TaskError::Terminated);
        }
    }

    fn dismiss(&self) {
        self.terminate();
        if self.is_here() {
            // In vain where a worker cannot be killed, or in a thread that the supervisor waits for.
            let _ = self.lives.join(Deadline::after(SEEING_OFF));
        }
    }

    fn join(&self, deadline: Deadline) -> Result<(), PoolError> {
        // What is left of a closed pool's tasks is collected here, if nobody else does.
        if self.lives.state().phase() == Phase::Closed {
            self.help(None, deadline, &mut || self.lives.state().pending() == 0);
        }
        self.lives.join(deadline)?;
        // In an attendant `join` has only looked; the courier may wait for that one.
        self.see_courier_off(if attendant::am_one() { Deadline::NOW } else { deadline })
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        self.lives.workers()
    }

    fn statistics(&self) -> Statistics {
        let mut statistics = self.counters.read();
        if !self.is_here() {
            return statistics;
        }
        statistics.workers = self.lives.width() as u64;
        let mut hall = lock(&self.hall);
        hall.advance(&self.board);
        let items = |ticket: &Ticket| {
            let chunk = hall.cells.get(ticket.cell() as usize).and_then(Option::as_ref);
            chunk.map_or(0, |chunk| u64::from(chunk.count))
        };
        let parked = hall.waiting.iter().chain(hall.delayed.iter().map(|(_, parked)| parked));
        statistics.queued = hall.queued.iter().map(items).sum::<u64>()
            + parked.map(|parked| u64::from(parked.chunk.count)).sum::<u64>();
        let running = hall.running.iter().filter(|ticket| !self.board.is_over(**ticket));
        statistics.running = running.count() as u64;
        statistics
    }

    fn resize(&self, workers: RangeInclusive<usize>) -> Result<(), PoolError> {
        if *workers.end() == 0 || workers.is_empty() {
            return Err(PoolError::Zero { what: "the number of workers" });
        }
        if *workers.end() > self.seats.count() {
            let (asked, most) = (*workers.end(), self.seats.count());
            return Err(PoolError::TooMany { what: "the number of workers", asked, most });
        }
        self.lives.resize(workers)
    }
}

impl ProcessCrew {
    /// As `terminate`, but without a grace.
    pub(crate) fn kill(&self) {
        if self.is_here() {
            self.lives.terminate(Duration::ZERO);
            self.give_up_all(&TaskError::Terminated);
        }
    }

    /// Whether nothing will be delivered any more.
    pub(super) fn is_finished(&self) -> bool {
        if !self.is_here() {
            return true;
        }
        let ended = self.lives.state().phase() == Phase::Ended;
        let hall = lock(&self.hall);
        // What another thread has in hand just now is still to come.
        (ended || hall.closed.is_some()) && hall.tasks.is_empty()
    }

    /// Sleeps until something may be collected, or is done.
    fn rest(&self, task: Option<TaskId>, deadline: Deadline, done: &mut dyn FnMut() -> bool) {
        let mut watched = [None; WATCHED];
        let (bed, until) = {
            let hall = lock(&self.hall);
            let bed = self.choose_bed(&hall, task);
            let tickets = hall.running.iter().chain(&hall.queued);
            for (place, ticket) in watched.iter_mut().zip(tickets) {
                *place = Some(*ticket);
            }
            let due = hall.delayed.iter().map(|(moment, _)| *moment).min().unwrap_or(u64::MAX);
            (bed, deadline.min(Deadline::at_nanos(due)))
        };
        let (board, me) = (&self.board, self.me);
        match bed {
            Bed::At(ticket) => {
                let glance = || board.is_over(ticket);
                let look = |_| (glance() || done()).then_some(());
                if let Some(sleepers) = board.sleepers(ticket.cell()) {
                    sleepers.wait_glancing(me, until, Pace::Eager, glance, look);
                }
            }
            Bed::Behind(ticket, expected) => {
                let look = |_| (board.is_over(ticket) || done()).then_some(());
                if let Some(sleepers) = board.sleepers(ticket.cell()) {
                    // What was expected need not come: then it is seen what else there is.
                    sleepers.wait_asleep(me, until.sliced(expected), look);
                }
            }
            Bed::Anywhere { spin: true } => {
                let glance = || watched.iter().flatten().any(|ticket| board.is_over(*ticket));
                let look = |_| (done() || self.has_news()).then_some(());
                board.answers().wait_glancing(me, until, Pace::Eager, glance, look);
            }
            Bed::Anywhere { spin: false } => {
                let look = |_| (done() || self.has_news()).then_some(());
                board.answers().wait_asleep(me, until, look);
            }
        }
    }

    /// Where to sleep. Being woken costs the worker that does it some microseconds, and this process a processor that a worker may
    /// need: so who waits for many short ones sleeps until several are done.
    fn choose_bed(&self, hall: &Hall, task: Option<TaskId>) -> Bed {
        // Only this one: but not while others wait for somebody to give them cells.
        if let Some(ticket) = task.and_then(|task| hall.ticket_of(task))
            && hall.waiting.is_empty()
            && hall.delayed.is_empty()
        {
            return Bed::At(ticket);
        }
        // Relaxed: an estimate.
        let pace = self.pace.load(Ordering::Relaxed);
        if pace == 0 {
            return Bed::Anywhere { spin: true };
        }
        let width = self.lives.width().max(1) as u64;
        // As many as keep the workers busy while this thread gets up are not waited for.
        let in_time = |nanos: u64| nanos * width / pace;
        let queued = (hall.queued.len() as u64).saturating_sub(in_time(GETTING_UP));
        let several = in_time(NAP).min(queued);
        let expected = several * pace / width;
        if several >= 2
            && expected > SOON
            && let Some(ticket) = hall.queued.get(several as usize - 1)
        {
            return Bed::Behind(*ticket, Duration::from_nanos(2 * expected.max(NAP)));
        }
        Bed::Anywhere { spin: pace / width < SOON }
    }

    fn has_news(&self) -> bool {
        let mut hall = lock(&self.hall);
        hall.advance(&self.board);
        hall.closed.is_some() || hall.has_news(&self.board)
    }

    /// Takes a piece of a task that no worker has.
    fn take_unbegun(&self, hall: &mut Hall, task: TaskId) -> Option<Chunk> {
        if let Some(at) = hall.waiting.iter().position(|parked| parked.chunk.task == task) {
            return hall.waiting.remove(at).map(|parked| parked.chunk);
        }
        if let Some(at) = hall.delayed.iter().position(|(_, parked)| parked.chunk.task == task) {
            return Some(hall.delayed.swap_remove(at).1.chunk);
        }
        let entry = hall.tasks.get(task)?;
        let ticket = match (entry.pieces, entry.ticket) {
            (1, Some(ticket)) if self.board.look(ticket) == Look::Queued => Some(ticket),
            (1, _) => None,
            _ => hall.queued.iter().copied().find(|ticket| {
                let cell = hall.cells.get(ticket.cell() as usize).and_then(Option::as_ref);
                cell.is_some_and(|chunk| chunk.task == task)
                    && self.board.look(*ticket) == Look::Queued
            }),
        }?;
        if !self.board.withdraw(self.me, ticket) {
            return None;
        }
        hall.forget(ticket);
        let chunk = hall.take(ticket)?;
        self.reuse(hall, &chunk, ticket);
        Some(chunk)
    }

    /// Frees the cell of a chunk that was taken out of it, and its block.
    fn reuse(&self, hall: &mut Hall, chunk: &Chunk, ticket: Ticket) {
        if chunk.block != 0 {
            let (number, board) = (u64::from(ticket.number()), self.own.offset());
            let (arena, me) = (self.own.arena(), self.me);
            drop(super::desk::Held::take(arena, me, chunk.block, board, number));
        }
        if self.board.free(self.me, ticket) {
            hall.free.push(ticket.cell());
        }
        self.feed(hall);
        if !hall.lost.is_empty() {
            self.board.answers().notify_all(self.me);
        }
    }

    /// These have been cancelled; whether there were any.
    fn cancel(&self, chunks: impl IntoIterator<Item = Chunk>) -> bool {
        let mut any = false;
        let mut over = 0;
        for chunk in chunks {
            any = true;
            over += u32::from(self.give_up(&chunk, &TaskError::Cancelled));
        }
        if any {
            self.wake_all();
            self.tasks_over(over);
        }
        any
    }

    /// Wakes whoever sleeps here.
    fn wake_all(&self) {
        for cell in 0..self.board.plan().cells {
            if let Some(sleepers) = self.board.sleepers(cell) {
                sleepers.notify_all(self.me);
            }
        }
        self.board.answers().notify_all(self.me);
    }

    /// Everything that is not over has this result, and everything that comes.
    fn give_up_all(&self, error: &TaskError) {
        let chunks = {
            let mut hall = lock(&self.hall);
            if hall.closed.is_some() {
                return;
            }
            hall.closed = Some(error.clone());
            for ticket in std::mem::take(&mut hall.queued) {
                // Else workers would go on with them until they see that they are to leave.
                self.board.withdraw(self.me, ticket);
            }
            hall.running.clear();
            let mut chunks: Vec<Chunk> = hall.cells.iter_mut().filter_map(Option::take).collect();
            chunks.extend(hall.waiting.drain(..).map(|parked| parked.chunk));
            chunks.extend(hall.delayed.drain(..).map(|(_, parked)| parked.chunk));
            chunks.extend(hall.fallen.drain(..).map(|finished| finished.chunk));
            chunks.append(&mut hall.lost);
            chunks
        };
        let mut over = 0;
        for chunk in &chunks {
            over += u32::from(self.give_up(chunk, error));
        }
        self.wake_all();
        self.tasks_over(over);
    }

    /// What this worker had when it died is to be collected.
    fn reclaim_from(&self, seat: usize, death: &Death) {
        let tag = self.seats.tag(seat);
        if tag.is_none() && self.seats.is_kept(seat) {
            // It never sat down.
            return;
        }
        let is_its = |whose| match tag {
            Some(tag) => tag == whose,
            // Its seat was written over. It is found by its death.
            None => self.me.verdict(whose) != Verdict::Alive,
        };
        let mut hall = lock(&self.hall);
        // What it had is one of these: no look at all the cells.
        let handed_out: Vec<Ticket> = hall.running.iter().chain(&hall.queued).copied().collect();
        let mut go_on = false;
        for ticket in handed_out {
            let (Look::Taken { tag, .. } | Look::Revoked { tag, .. }) = self.board.look(ticket)
            else {
                continue;
            };
            let progress = is_its(tag).then(|| self.board.reclaim(self.me, ticket, tag)).flatten();
            let Some(progress) = progress else { continue };
            hall.forget(ticket);
            if let Some(chunk) = hall.take(ticket) {
                let retry = chunk.rare.as_ref().map_or(1, |rare| rare.terms.retry.attempts());
                go_on |= retry > 1 || chunk.count > progress.saturating_add(1);
                let death = Some(Box::new(death.clone()));
                hall.fallen.push(Finished { chunk, ticket, progress, death, pieces: 0 });
            }
        }
        drop(hall);
        if go_on {
            // Somebody has to hand it out again, also if nobody waits for anything.
            self.have_it_attend();
        }
        // Also those who sleep at a cell: the dead one may have given it back, and not said so any more.
        self.wake_all();
    }
}

impl Floor for ProcessCrew {
    fn seats(&self) -> &Seats {
        &self.seats
    }

    fn vacate(&self, seat: usize, death: &Death) {
        // Before anybody is told what became of its task.
        if !death.asked {
            self.counters.died();
        }
        self.reclaim_from(seat, death);
        self.seats.vacate(seat);
    }

    fn queued(&self) -> usize {
        let mut hall = lock(&self.hall);
        hall.advance(&self.board);
        hall.queued.len() + hall.waiting.len()
    }

    fn overdue(&self, late: &mut Vec<Tag>) -> Deadline {
        let now = nanos();
        let mut hall = lock(&self.hall);
        if hall.next_look > now {
            return Deadline::at_nanos(hall.next_look);
        }
        self.revive(&mut hall);
        hall.advance(&self.board);
        let mut next = hall.delayed.iter().map(|(moment, _)| *moment).min().unwrap_or(u64::MAX);
        let mut over = Vec::new();
        for ticket in &hall.running {
            let cell = hall.cells.get(ticket.cell() as usize).and_then(Option::as_ref);
            let Some(limit) = cell.and_then(Chunk::deadline) else { continue };
            let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            if !matches!(self.board.look(*ticket), Look::Taken { .. }) {
                continue;
            }
            // Of this turn of the cell: what the worker says at its seat may still be about what it did before.
            let since = self.board.payload(ticket.cell()).map_or(0, |payload| {
                // SAFETY: the payload is that of a cell.
                let begun = unsafe { begun(payload) };
                // Who has not yet said when it began has begun just now: it may have been stopped before it said so. Relaxed: the
                // number stands for itself.
                match begun.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => now,
                    Err(said) => said,
                }
            });
            let by = since.saturating_add(limit);
            if by > now {
                next = next.min(by);
            } else {
                over.push(*ticket);
            }
        }
        for ticket in over {
            // Failure: it has just answered.
            if let Some(tag) = self.board.revoke(ticket) {
                if let Some(chunk) = &mut hall.cells[ticket.cell() as usize] {
                    chunk.rare_mut().wish = Wish::Late;
                }
                late.push(tag);
            }
        }
        // Who is not taken yet cannot be late before it has had its time.
        let queued = hall.queued.iter().filter_map(|ticket| {
            hall.cells.get(ticket.cell() as usize)?.as_ref().and_then(Chunk::deadline)
        });
        let waiting = hall.waiting.iter().filter_map(|parked| parked.chunk.deadline());
        let least = queued.chain(waiting).min();
        if let Some(least) = least {
            let least = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX).max(SHORTLY);
            next = next.min(now.saturating_add(least));
        }
        hall.next_look = next;
        if !hall.lost.is_empty() {
            self.board.answers().notify_all(self.me);
        }
        Deadline::at_nanos(next)
    }

    fn broken(&self, cause: &Arc<PoolError>) {
        self.give_up_all(&TaskError::Broken(cause.clone()));
    }

    fn over(&self) {
        self.give_up_all(&TaskError::Terminated);
        self.dismiss_courier();
    }
}

impl Drop for ProcessCrew {
    fn drop(&mut self) {
        // What workers left behind in a pool that was terminated is tied to its board: free once that is gone.
        self.leftovers.0 = self.is_here() && lock(&self.hall).free.len() < super::CELLS as usize;
    }
}

/// Whether something is left to be swept when the board is gone: the field behind it.
#[derive(Default)]
pub(super) struct Leftovers(bool);

impl Drop for Leftovers {
    fn drop(&mut self) {
        if self.0
            && let Some(arena) = crate::memory::existing()
        {
            arena.sweep();
        }
    }
}
