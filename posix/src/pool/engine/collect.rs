//! Getting back what was handed out: answers are decoded and delivered, by whichever thread is here.
//!
//! ```text
//! under the lock    chunks that are done, or were taken from the dead, go into this thread's hand
//! without           answers are copied out, decoded, delivered; what is left of a chunk is made ready to go again
//! under the lock    cells are free again; what waits for a cell gets one
//! without           who sleeps here is woken, for what was delivered may concern them
//! ```
//!
//! A chunk is in one hand at a time, so each item is delivered once, whatever ends the pool meanwhile.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use procession_core::pool::Ticket;
use procession_core::sys::nanos;

use super::desk::{Held, Room, with_scratch};
use super::hall::{Chunk, Finished, Hall, Input, Parked, Rare, Wish, number};
use super::job::Answers;
use super::spares::LARGE;
use super::wire::{Away, Head, Sort, read_mark};
use super::{ProcessCrew, lock};
use crate::channel::luggage::ITEM;
use crate::pool::lives::Death;
use crate::task::{Part, TaskError, Which};

/// So many chunks are collected at a time.
const BATCH: usize = 64;

/// What a thread has in hand while it collects.
#[derive(Default)]
struct Tray {
    finished: Vec<Finished>,
    again: Vec<(u64, Parked)>,
    lost: Vec<Chunk>,
}

thread_local! {
    static TRAY: Cell<Option<Box<Tray>>> = const { Cell::new(None) };
}

impl ProcessCrew {
    /// Collects once; whether there was something.
    pub(super) fn collect_round(&self) -> bool {
        if !self.is_here() {
            return false;
        }
        let mut tray = TRAY.try_with(Cell::take).ok().flatten().unwrap_or_default();
        let found = self.collect_with(&mut tray);
        let _ = TRAY.try_with(|cell| cell.set(Some(tray)));
        found
    }

    fn collect_with(&self, tray: &mut Tray) -> bool {
        let revived = {
            let mut hall = lock(&self.hall);
            hall.gather(&self.board, &mut tray.finished, BATCH);
            let revived = self.revive(&mut hall);
            tray.lost.append(&mut hall.lost);
            revived
        };
        if tray.finished.is_empty() && tray.lost.is_empty() {
            return revived;
        }
        let now = nanos();
        for finished in &mut tray.finished {
            self.settle(finished, now, &mut tray.again);
        }
        let mut over = 0;
        let mut cut_short = None;
        {
            let mut hall = lock(&self.hall);
            for finished in &tray.finished {
                let task = finished.chunk.task;
                if let Some(entry) = hall.tasks.get_mut(task) {
                    entry.pieces += finished.pieces;
                    entry.begun = true;
                    entry.ticket = None;
                }
                over += u32::from(hall.tasks.piece_over(task));
                if self.board.free(self.me, finished.ticket) {
                    hall.free.push(finished.ticket.cell());
                }
            }
            cut_short.clone_from(&hall.closed);
            for (moment, parked) in tray.again.drain(..).rev() {
                if cut_short.is_some() {
                    tray.lost.push(parked.chunk);
                } else if moment == 0 {
                    hall.waiting.push_front(parked);
                } else {
                    hall.delayed.push((moment, parked));
                    self.look_at(&mut hall, moment);
                }
            }
            self.feed(&mut hall);
        }
        for finished in &tray.finished {
            if let Some(sleepers) = self.board.sleepers(finished.ticket.cell()) {
                sleepers.notify_all(self.me);
            }
        }
        for chunk in tray.lost.drain(..) {
            let error = cut_short.clone().unwrap_or_else(|| no_memory(&chunk));
            over += u32::from(self.give_up(&chunk, &error));
        }
        self.board.answers().notify_all(self.me);
        self.tasks_over(over);
        // At last: with it goes what may be the last handle of a result, and dropping that is the user's code.
        tray.finished.clear();
        true
    }

    /// Has the supervisor look at this moment, if it would look later.
    pub(super) fn look_at(&self, hall: &mut Hall, moment: u64) {
        if moment < hall.next_look {
            hall.next_look = moment;
            self.lives.look_again();
        }
    }

    /// Hands out again what has waited for long enough; whether there was something.
    pub(super) fn revive(&self, hall: &mut Hall) -> bool {
        if hall.delayed.is_empty() {
            return false;
        }
        let now = nanos();
        let before = hall.delayed.len();
        let mut at = 0;
        while at < hall.delayed.len() {
            if hall.delayed[at].0 <= now {
                let (_, parked) = hall.delayed.swap_remove(at);
                hall.waiting.push_front(parked);
            } else {
                at += 1;
            }
        }
        self.feed(hall);
        hall.delayed.len() < before
    }

    /// Everything that is left of this chunk has this result; whether its task is over now.
    pub(super) fn give_up(&self, chunk: &Chunk, error: &TaskError) -> bool {
        self.fail(chunk, chunk.count, error, nanos());
        lock(&self.hall).tasks.piece_over(chunk.task)
    }

    fn fail(&self, chunk: &Chunk, count: u32, error: &TaskError, now: u64) {
        chunk.job.fail(chunk.first, count, error);
        self.counters.ended(0, u64::from(count), self.took(chunk, now));
    }

    /// How long a chunk was under way: as long as the one before it, if nobody looked at the clock.
    fn took(&self, chunk: &Chunk, now: u64) -> u64 {
        // Relaxed, both: an estimate.
        if chunk.since == 0 {
            return self.latency.load(Ordering::Relaxed);
        }
        let took = now.saturating_sub(chunk.since);
        self.latency.store(took, Ordering::Relaxed);
        took
    }

    /// Delivers what is answered of a chunk, and sees what is to become of the rest. Then its block is free.
    fn settle(&self, finished: &mut Finished, now: u64, again: &mut Vec<(u64, Parked)>) {
        let before = again.len();
        let Finished { chunk, ticket, progress, death, .. } = finished;
        let progress = (*progress).min(chunk.count);
        let number = u64::from(ticket.number());
        let room = self.room_of(chunk, *ticket);
        if progress > 0 {
            self.deliver(chunk, progress, *ticket, room, death.is_some(), now);
            chunk.first += u64::from(progress);
            chunk.count -= progress;
        }
        if chunk.count > 0 {
            let inputs = self.inputs_left(chunk, room, progress);
            self.decide(chunk, progress, death.as_deref(), inputs, now, again);
        }
        if chunk.block != 0 {
            let block =
                Held::take(self.own.arena(), self.me, chunk.block, self.own.offset(), number);
            block.into_iter().for_each(|block| self.spares.keep(block));
        }
        finished.pieces = (again.len() - before) as u32;
    }

    /// Where its inputs and answers lie.
    fn room_of(&self, chunk: &Chunk, ticket: Ticket) -> Option<Room> {
        let payload = self.board.payload(ticket.cell())?;
        let (arena, number) = (self.own.arena(), u64::from(ticket.number()));
        Room::of(chunk.block, payload, arena, self.own.offset(), number)
    }

    #[inline]
    fn deliver(
        &self,
        chunk: &Chunk,
        progress: u32,
        ticket: Ticket,
        room: Option<Room>,
        died: bool,
        now: u64,
    ) {
        let head = self.board.payload(ticket.cell()).map(|payload| {
            // SAFETY: the payload begins with a head, at a multiple of 16, and is the owner's again.
            unsafe { payload.cast::<Head>().read_volatile() }
        });
        let (written, nanos) = head.map_or((0, 0), |head| (head.written, head.nanos));
        let inputs = chunk.length as usize + usize::from(chunk.names) * ITEM;
        if !died && written > 0 {
            // Relaxed: an estimate. Slowly, so that one chunk among others does not change it.
            // As if all items were answered; and one more, for the roundings. Damage may say that bytes were written, and no answer.
            let all =
                u64::from(written) * 100 * u64::from(chunk.count) / u64::from(progress.max(1));
            let now = all / u64::from(chunk.length.max(1)) + 1;
            let before = u64::from(self.ratio.load(Ordering::Relaxed));
            let next = if chunk.count > 1 { (before * 3 + now.min(1 << 20)) / 4 } else { before };
            self.ratio.store(next as u32, Ordering::Relaxed);
        }
        if nanos > 0 && !died {
            // Relaxed: an estimate, as above.
            let before = self.pace.load(Ordering::Relaxed);
            let now = u64::from(nanos);
            let next = if before == 0 { now } else { (before * 3 + now) / 4 };
            self.pace.store(next.max(1), Ordering::Relaxed);
        }
        with_scratch(|scratch| {
            let read = room.is_some_and(|room| {
                // Who died has not said how many bytes it wrote.
                let length =
                    if died { room.bytes.saturating_sub(inputs) } else { written as usize };
                room.copy_out(inputs, length, scratch)
            });
            if !read {
                scratch.clear();
            }
            if u64::from(chunk.length) > LARGE && chunk.count == 1 {
                self.spares.answered(u64::from(chunk.length), answer_length(scratch));
            }
            let mut answers = Answers {
                arena: self.own.arena(),
                me: self.me,
                board: self.own.offset(),
                ticket: u64::from(ticket.number()),
                task: number(chunk.task),
                first: chunk.first,
                count: progress,
                bytes: scratch,
                voids: chunk.rare.as_ref().map_or(&[], |rare| &rare.voids),
                nanos: if died { 0 } else { u64::from(nanos) },
            };
            let failed = chunk.job.deliver(&mut answers);
            let took = self.took(chunk, now);
            self.counters.ended(u64::from(progress) - failed, failed, took);
        });
    }

    /// The inputs that are not answered, each with its mark, as far as they can be read.
    fn inputs_left(&self, chunk: &Chunk, room: Option<Room>, progress: u32) -> Vec<u8> {
        with_scratch(|scratch| {
            if !room.is_some_and(|room| room.copy_out(0, chunk.length as usize, scratch)) {
                return Vec::new();
            }
            let mut left = &scratch[..];
            for _ in 0..progress {
                let Some((_, _, to)) = read_mark(left) else { return Vec::new() };
                left = &left[to..];
            }
            left.to_vec()
        })
    }

    /// What becomes of the items that are not answered.
    #[cold]
    fn decide(
        &self,
        chunk: &mut Chunk,
        progress: u32,
        death: Option<&Death>,
        inputs: Vec<u8>,
        now: u64,
        again: &mut Vec<(u64, Parked)>,
    ) {
        let task = number(chunk.task);
        let error = match (chunk.wish(), death) {
            (Wish::Cancelled, _) => Some(TaskError::Cancelled),
            (Wish::Late, _) => {
                let limit = chunk.deadline();
                Some(TaskError::DeadlinePassed { task, limit: limit.unwrap_or_default() })
            }
            (Wish::None, None) if progress == 0 => Some(damaged(task)),
            (Wish::None, _) if inputs.is_empty() => Some(damaged(task)),
            (Wish::None, _) => None,
        };
        if let Some(error) = error {
            return self.fail(chunk, chunk.count, &error, now);
        }
        let mut rest = inputs;
        if let Some(death) = death {
            let Some((_, _, to)) = read_mark(&rest) else {
                return self.fail(chunk, chunk.count, &damaged(task), now);
            };
            let behind = rest.split_off(to);
            let first = std::mem::replace(&mut rest, behind);
            // What was known of the first item is not of this one, unless it is the first.
            let known = chunk.rare.as_ref().filter(|_| progress == 0);
            let (attempts, deaths) = known.map_or((0, 0), |rare| (rare.attempts, rare.deaths));
            let (attempts, deaths) = (attempts + 1, deaths + 1);
            match self.another_try(chunk, attempts, deaths, death) {
                Ok(delay) => {
                    self.counters.retried();
                    let moment = if delay == 0 { 0 } else { now.saturating_add(delay) };
                    let mut single = piece(chunk, chunk.first, 1);
                    let rare = single.rare_mut();
                    (rare.attempts, rare.deaths) = (attempts, deaths);
                    again.push((moment, parked(single, first)));
                }
                Err(error) => self.fail(chunk, 1, &error, now),
            }
            chunk.first += 1;
            chunk.count -= 1;
        }
        if chunk.count > 0 {
            again.push((0, parked(piece(chunk, chunk.first, chunk.count), rest)));
        }
    }

    /// Whether an item whose worker died is tried again, and after how many nanoseconds.
    fn another_try(
        &self,
        chunk: &Chunk,
        attempt: u32,
        deaths: u32,
        death: &Death,
    ) -> Result<u64, TaskError> {
        let task = number(chunk.task);
        let retry = chunk.rare.as_ref().map(|rare| rare.terms.retry).unwrap_or_default();
        // What goes along with the arguments was the dead one's, and is gone.
        if attempt >= retry.attempts() || chunk.names > 0 {
            let Death { pid, signal, code, .. } = *death;
            return Err(TaskError::WorkerDied { pid, signal, code, task, attempt });
        }
        if deaths >= self.quarantine {
            return Err(TaskError::Quarantined { task, deaths, pid: death.pid });
        }
        Ok(u64::try_from(retry.delay(attempt).as_nanos()).unwrap_or(u64::MAX))
    }
}

/// How many bytes the one answer here has, or elsewhere.
fn answer_length(bytes: &[u8]) -> u64 {
    match read_mark(bytes) {
        Some((Sort::Away, from, to)) => bytemuck::try_pod_read_unaligned(&bytes[from..to])
            .map_or(0, |away: Away| u64::from(away.length)),
        _ => bytes.len() as u64,
    }
}

/// A part of a chunk, that nobody has begun.
fn piece(chunk: &Chunk, first: u64, count: u32) -> Chunk {
    let last = first + u64::from(count);
    let rare = chunk.rare.as_ref().map(|rare| {
        let voids = rare.voids.iter().filter(|(at, _)| (first..last).contains(at)).cloned();
        let (terms, voids) = (rare.terms.clone(), voids.collect());
        Box::new(Rare { terms, voids, ..Rare::default() })
    });
    Chunk {
        task: chunk.task,
        job: chunk.job.clone(),
        name: chunk.name,
        first,
        count,
        block: 0,
        length: 0,
        names: 0,
        since: chunk.since,
        rare,
    }
}

fn parked(mut chunk: Chunk, inputs: Vec<u8>) -> Parked {
    chunk.length = inputs.len() as u32;
    Parked { chunk, input: Input::Bytes(inputs) }
}

fn damaged(task: Which) -> TaskError {
    let message = "its place in the shared memory is damaged".into();
    TaskError::Decode { task, what: Part::Arguments, message }
}

fn no_memory(chunk: &Chunk) -> TaskError {
    let message = "there is no shared memory to hand it out again".into();
    TaskError::Input { task: number(chunk.task), message }
}
