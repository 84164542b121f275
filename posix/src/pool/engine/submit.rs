//! Handing tasks over: encoded in the caller's memory or in a block, then put into a cell.
//!
//! Nothing that runs the user's code happens under the hall's lock.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use procession_core::pool::Refused;
use procession_core::region::AllocError;
use procession_core::sys::nanos;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bulk::size_of_number;
use super::desk::{Held, RESERVE};
use super::encode::{size_of_encoded, to_vec};
use super::hall::{Chunk, Hall, Input, Parked, Rare};
use super::job::Job;
use super::spares::LARGE;
use super::wire::{BEGUN, CELL_ROOM, HEAD, Head, MARK, Out, Sort, TIMED, UNTIMED, begun};
use super::work::{self, Name};
use super::{ProcessCrew, lock};
use crate::channel::luggage::{ITEM, Luggage, Packing};
use crate::process::Target;
use crate::task::{Calls, Crew, PoolError, Sink, Submit, SubmitMany, TaskId, Terms};

/// Inputs of so many bytes go into the cell, with room for an answer that lies elsewhere.
const SHORT: usize = CELL_ROOM - RESERVE;
/// The most that one input may take.
const LARGEST: u64 = u32::MAX as u64 - 64;
/// So many items may all be short.
const FEW: usize = 32;
/// The most items of a chunk.
const MOST: usize = u16::MAX as usize;

/// Inputs that are encoded.
struct Packed {
    /// If not here, they are in the caller's short memory.
    held: Option<Held>,
    length: u32,
    names: u16,
    luggage: Option<Luggage>,
}

/// The caller's own memory for short inputs.
struct Short([MaybeUninit<u8>; SHORT]);

impl Short {
    #[inline(always)]
    fn new() -> Self {
        Short([MaybeUninit::uninit(); SHORT])
    }

    #[inline(always)]
    fn out(&mut self) -> Out<'_> {
        // SAFETY: the bytes are this one's own, and borrowed as long as they are written.
        unsafe { Out::new(NonNull::from(&mut self.0).cast(), SHORT) }
    }

    /// # Safety
    /// So many bytes have been written.
    #[inline(always)]
    unsafe fn bytes(&self, length: usize) -> &[u8] {
        // SAFETY: by the caller.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), length.min(SHORT)) }
    }
}

/// The most calls of a [`Row`].
const ROW: usize = 16;
/// So many bytes their inputs have at most.
const ROW_BYTES: usize = 1024;

/// The inputs of several calls, each short, in the caller's own memory.
struct Row {
    bytes: [MaybeUninit<u8>; ROW_BYTES],
    /// Where each ends.
    ends: [u16; ROW],
    count: usize,
}

impl Row {
    #[inline(always)]
    fn new() -> Self {
        Row { bytes: [MaybeUninit::uninit(); ROW_BYTES], ends: [0; ROW], count: 0 }
    }

    /// Encodes the inputs up to the first that does not fit, or cannot go this way.
    #[inline(always)]
    fn pack<'a, A: Serialize + 'a>(&mut self, items: impl Iterator<Item = &'a A>) {
        // SAFETY: the bytes are this one's own, and borrowed as long as they are written.
        let mut out = unsafe { Out::new(NonNull::from(&mut self.bytes).cast(), ROW_BYTES) };
        for item in items.take(ROW) {
            let packing = Packing::begin();
            let before = out.left();
            let encoded = out.encode(item, &mut false);
            if packing.end().is_some() || encoded.is_err() || before - out.left() > SHORT {
                return;
            }
            self.ends[self.count] = (ROW_BYTES - out.left()) as u16;
            self.count += 1;
        }
    }

    #[inline(always)]
    fn inputs(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends[..self.count].iter().map(move |end| {
            let (from, to) = (start, usize::from(*end));
            start = to;
            // SAFETY: these were written by `pack`, one behind the other.
            unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().add(from).cast(), to - from) }
        })
    }
}

/// What is to be handed over, but for its inputs.
struct Order {
    job: Job,
    name: Name,
    first: u64,
    count: u32,
    voids: Vec<(u64, String)>,
}

impl<F, Args> Submit<F, Args> for ProcessCrew
where
    F: Target<Args>,
    F::Output: Serialize + DeserializeOwned + Send + 'static,
    Args: Serialize + DeserializeOwned,
{
    type Output = F::Output;

    fn submit(
        &self,
        _: F,
        args: Args,
        sink: Arc<dyn Sink<F::Output>>,
        terms: &Terms,
    ) -> Result<TaskId, PoolError> {
        let name = work_of::<F, Args>()?;
        let mut short = Short::new();
        let packed = self.pack_one(&mut short, &args)?;
        let job = Job::new(sink);
        self.hand_over(
            Order { job, name, first: 0, count: 1, voids: Vec::new() },
            &short,
            packed,
            terms,
        )
    }
}

impl<F, Args> SubmitMany<F, Args> for ProcessCrew
where
    F: Target<Args>,
    F::Output: Serialize + DeserializeOwned + Send + 'static,
    Args: Serialize + DeserializeOwned,
{
    fn submit_chunk(
        &self,
        _: &Arc<F>,
        first: u64,
        items: &mut VecDeque<Args>,
        most: usize,
        sink: Arc<dyn Sink<F::Output>>,
        terms: &Terms,
    ) -> Result<TaskId, PoolError> {
        let name = work_of::<F, Args>()?;
        self.check_running()?;
        // Who is late is ended with all that is in its hand: so that is one item.
        let most = if terms.deadline.is_some() { 1 } else { most.clamp(1, MOST) };
        let mut short = Short::new();
        let mut so_far = SoFar::new(first);
        let packed = self.pack_many(&mut short, items, most, &mut so_far)?;
        let SoFar { taken, voids, .. } = so_far;
        let job = Job::new(sink);
        let order = Order { job, name, first, count: taken as u32, voids };
        let task = self.hand_over(order, &short, packed, terms)?;
        // Not before: what was refused was not taken.
        items.drain(..taken);
        Ok(task)
    }

    fn submit_singles(
        &self,
        calls: Calls<'_, F, F::Output>,
        first: u64,
        items: &mut VecDeque<Args>,
        most: usize,
        tasks: &mut Vec<TaskId>,
    ) -> Result<(), PoolError> {
        let Calls { f, sink, terms } = calls;
        let before = tasks.len();
        if is_plain(terms) {
            let name = work_of::<F, Args>()?;
            self.check_running()?;
            let mut row = Row::new();
            row.pack(items.iter().take(most));
            self.hand_over_row(&row, name, first, sink, tasks)?;
        }
        let taken = tasks.len() - before;
        if taken == 0 {
            // The next one needs more than the quick way has.
            tasks.push(self.submit_chunk(f, first, items, 1, sink.clone(), terms)?);
        } else {
            items.drain(..taken);
        }
        Ok(())
    }

    fn pace(&self) -> Option<u64> {
        work_of::<F, Args>().ok().and_then(|name| self.paces.get(name))
    }

    fn note_pace(&self, pace: u64) {
        if let Ok(name) = work_of::<F, Args>() {
            self.paces.set(name, pace);
        }
    }
}

/// Whether nothing special is to be minded of a call.
fn is_plain(terms: &Terms) -> bool {
    terms.deadline.is_none() && terms.retry == Default::default()
}

fn work_of<F, Args>() -> Result<Name, PoolError>
where
    F: Target<Args>,
    F::Output: Serialize,
    Args: DeserializeOwned,
{
    work::Job::<F, Args>::WORK.name().ok_or_else(|| PoolError::Encode {
        message: format!(
            "{} is not part of this program: workers have no libraries that were loaded later",
            std::any::type_name::<F>()
        ),
    })
}

fn encode_error(error: postcard::Error) -> PoolError {
    PoolError::Encode { message: error.to_string() }
}

fn memory_error(error: AllocError) -> PoolError {
    PoolError::Memory(error.into())
}

impl ProcessCrew {
    /// Whether tasks are taken.
    pub(super) fn check_running(&self) -> Result<(), PoolError> {
        if !self.is_here() {
            return Err(PoolError::Forked { owner: self.pid });
        }
        let phase = self.lives.state().phase();
        if phase.accepts() { Ok(()) } else { Err(self.refusal()) }
    }

    #[cold]
    fn refusal(&self) -> PoolError {
        match self.cause() {
            Some(cause) => PoolError::Broken { cause },
            None => PoolError::NotRunning { state: self.state() },
        }
    }

    /// Encodes the arguments of one call.
    #[inline(always)]
    fn pack_one<A: Serialize>(&self, short: &mut Short, args: &A) -> Result<Packed, PoolError> {
        let packing = Packing::begin();
        let mut out = short.out();
        let encoded = out.encode(args, &mut false);
        let left = out.left();
        match (encoded, packing.end()) {
            (Ok(()), None) => {
                Ok(Packed { held: None, length: (SHORT - left) as u32, names: 0, luggage: None })
            }
            (Ok(()) | Err(postcard::Error::SerializeBufferFull), listed) => {
                // It is encoded once more: what was listed goes back.
                drop(listed);
                self.pack_large(args)
            }
            (Err(error), _) => Err(encode_error(error)),
        }
    }

    /// One input, in a block of its own.
    #[cold]
    fn pack_large<A: Serialize + ?Sized>(&self, args: &A) -> Result<Packed, PoolError> {
        let packing = Packing::begin();
        let bytes = size_of_encoded(args).map_err(encode_error)?;
        if bytes > LARGEST {
            return Err(PoolError::TooLarge { bytes, most: LARGEST });
        }
        if let Some(counted) = packing.end() {
            drop(counted);
            return self.pack_luggage(args);
        }
        let mut held = self.block_with_answer(bytes + (MARK + RESERVE) as u64)?;
        let damaged = PoolError::Corrupt { what: "a new block that does not lie in the arena" };
        let mut out = held.out().ok_or(damaged)?;
        let all = out.left();
        out.encode(args, &mut true).map_err(encode_error)?;
        let length = (all - out.left()) as u32;
        Ok(Packed { held: Some(held), length, names: 0, luggage: None })
    }

    #[cold]
    fn pack_luggage<A: Serialize + ?Sized>(&self, args: &A) -> Result<Packed, PoolError> {
        let packing = Packing::begin();
        let encoded = to_vec(args).map_err(encode_error)?;
        let luggage = packing.end().unwrap_or_default();
        let names = u16::try_from(luggage.ends()).map_err(|_| PoolError::Encode {
            message: "there are more ends of pipes in them than one task can have".into(),
        })?;
        let listed = usize::from(names) * ITEM;
        let bytes = (encoded.len() + listed + MARK + RESERVE) as u64;
        if bytes > LARGEST {
            return Err(PoolError::TooLarge { bytes, most: LARGEST });
        }
        let mut held = self.block(bytes).map_err(memory_error)?;
        let damaged = || PoolError::Corrupt { what: "a new block that does not lie in the arena" };
        let mut out = held.out().ok_or_else(damaged)?;
        let all = out.left();
        let marked = out.put_marked(Sort::Plain, &encoded);
        let length = (all - out.left()) as u32;
        if !(marked && out.put(luggage.as_bytes())) {
            return Err(damaged());
        }
        Ok(Packed { held: Some(held), length, names, luggage: Some(luggage) })
    }

    /// A block for one input; a large one has room for the answer if that was large lately.
    fn block_with_answer(&self, bytes: u64) -> Result<Held, PoolError> {
        if bytes <= LARGE {
            return self.block(bytes).map_err(memory_error);
        }
        let both = self.spares.with_answer(bytes);
        let held = match self.spares.take(both) {
            Some(held) => Ok(held),
            // Rather without the answer than not at all.
            None => self.block(both).or_else(|_| self.block(bytes)),
        };
        held.map_err(memory_error)
    }

    fn block(&self, bytes: u64) -> Result<Held, AllocError> {
        Held::new(self.own.arena(), self.me, bytes)
    }

    /// Encodes items from the front.
    #[inline(always)]
    fn pack_many<A: Serialize>(
        &self,
        short: &mut Short,
        items: &VecDeque<A>,
        most: usize,
        so_far: &mut SoFar,
    ) -> Result<Packed, PoolError> {
        let most = most.min(items.len());
        if most <= FEW {
            // What has an answer that is short, too, finds room for it.
            let answers = if most > 1 { self.room_for_answers(SHORT) } else { 0 };
            let mut out = short.out().without(answers);
            let room = out.left();
            let all = so_far.pack(&mut out, items, most);
            if all {
                let length = (room - out.left()) as u32;
                return Ok(Packed { held: None, length, names: 0, luggage: None });
            }
        }
        self.pack_block(items, most, so_far)
    }

    /// Several items in a block, from the first one on.
    #[inline(never)]
    fn pack_block<A: Serialize>(
        &self,
        items: &VecDeque<A>,
        most: usize,
        so_far: &mut SoFar,
    ) -> Result<Packed, PoolError> {
        *so_far = SoFar::new(so_far.first);
        if most > 1 {
            // The largest that is quickly had.
            let mut held = self.block(LARGE).map_err(memory_error)?;
            let damaged = PoolError::Corrupt { what: "a new block that does not lie in the arena" };
            let whole = held.out().ok_or(damaged)?;
            let mut out = whole.without(self.room_for_answers(whole.left()) + RESERVE);
            let room = out.left();
            so_far.pack(&mut out, items, most);
            let length = (room - out.left()) as u32;
            if so_far.taken > 0 {
                return Ok(Packed { held: Some(held), length, names: 0, luggage: None });
            }
        }
        // The first one has a block of its own.
        so_far.taken = 1;
        match self.pack_large(&items[0]) {
            Ok(packed) => Ok(packed),
            Err(error @ (PoolError::Memory(_) | PoolError::Corrupt { .. })) => Err(error),
            Err(error) => {
                so_far.voids.push((so_far.first, error.to_string()));
                let mut held = self.block((MARK + 2 * RESERVE) as u64).map_err(memory_error)?;
                let length = held.out().map_or(0, |mut out| {
                    let all = out.left();
                    out.put_marked(Sort::Void, &[]);
                    (all - out.left()) as u32
                });
                Ok(Packed { held: Some(held), length, names: 0, luggage: None })
            }
        }
    }

    /// How much of so many bytes is left to the answers, if they are as long beside their inputs as they were lately. What finds no
    /// room for its answer comes back, and is handed over once more.
    fn room_for_answers(&self, bytes: usize) -> usize {
        // Relaxed: an estimate.
        let per_hundred = (self.ratio.load(Ordering::Relaxed) as usize).clamp(10, 2000);
        bytes - bytes * 100 / (100 + per_hundred)
    }

    /// Puts a chunk into a cell, or among those that wait for one.
    fn hand_over(
        &self,
        order: Order,
        short: &Short,
        packed: Packed,
        terms: &Terms,
    ) -> Result<TaskId, PoolError> {
        self.begin(1)?;
        let Order { job, name, first, count, voids } = order;
        let rare = (!is_plain(terms) || !voids.is_empty())
            .then(|| Box::new(Rare { terms: terms.clone(), voids, ..Rare::default() }));
        // Looking at the clock takes as long as all the rest of a short task.
        let sampled = count > 1 || first.is_multiple_of(16) || rare.is_some();
        let chunk = Chunk {
            task: TaskId(0),
            job,
            name,
            first,
            count,
            block: 0,
            length: packed.length,
            names: packed.names,
            since: if sampled { nanos() } else { 0 },
            rare,
        };
        let done = self.enter(chunk, short, packed);
        self.entered(1, u32::from(done.is_ok()));
        done
    }

    /// Puts calls into cells, each into one, as far as there are any that are free. None is no error.
    fn hand_over_row<R: DeserializeOwned + 'static>(
        &self,
        row: &Row,
        name: Name,
        first: u64,
        sink: &Arc<dyn Sink<R>>,
        tasks: &mut Vec<TaskId>,
    ) -> Result<(), PoolError> {
        let all = row.count as u32;
        self.begin(all)?;
        let since = nanos();
        let before = tasks.len();
        {
            let mut hall = lock(&self.hall);
            if hall.closed.is_some() {
                drop(hall);
                self.tasks_over(all);
                return Err(self.refusal());
            }
            if hall.waiting.is_empty() {
                for (first, input) in (first..).zip(row.inputs()) {
                    if hall.free.is_empty() {
                        break;
                    }
                    let Some(task) = hall.tasks.add() else { break };
                    let chunk = Chunk {
                        task,
                        job: Job::new(sink.clone()),
                        name,
                        first,
                        count: 1,
                        block: 0,
                        length: input.len() as u32,
                        names: 0,
                        since: if first.is_multiple_of(16) { since } else { 0 },
                        rare: None,
                    };
                    if self.put(&mut hall, chunk, Given::Bytes(input)).is_err() {
                        // The board is damaged: who tries again is told.
                        hall.tasks.piece_over(task);
                        break;
                    }
                    tasks.push(task);
                }
                self.publish(&mut hall);
            }
        }
        self.entered(all, (tasks.len() - before) as u32);
        Ok(())
    }

    /// So many tasks are on their way in.
    fn begin(&self, count: u32) -> Result<(), PoolError> {
        if !self.is_here() {
            return Err(PoolError::Forked { owner: self.pid });
        }
        self.lives.state().begin(count).map_err(|refused| match refused {
            Refused::Phase(_) => self.refusal(),
            Refused::Full => too_many(),
        })
    }

    /// So many of those that began are in, the others are not.
    fn entered(&self, begun: u32, count: u32) {
        self.tasks_over(begun - count);
        if count > 0 && self.lives.may_grow() {
            self.lives.look_again();
        }
    }

    fn enter(&self, mut chunk: Chunk, short: &Short, packed: Packed) -> Result<TaskId, PoolError> {
        let mut hall = lock(&self.hall);
        if hall.closed.is_some() {
            drop(hall);
            return Err(self.refusal());
        }
        let task = hall.tasks.add().ok_or_else(too_many)?;
        chunk.task = task;
        let limit = chunk.deadline();
        if let Some(limit) = limit {
            let by = chunk.since.saturating_add(limit.as_nanos() as u64);
            if by < hall.next_look {
                hall.next_look = by;
                self.lives.look_again();
            }
        }
        let length = packed.length as usize;
        // SAFETY: without a block the inputs were packed into the short memory.
        let bytes = || unsafe { short.bytes(length) };
        if !hall.waiting.is_empty() || hall.free.is_empty() {
            let input = match packed.held {
                Some(held) => Input::Block(held, packed.luggage),
                None => Input::Bytes(bytes().to_vec()),
            };
            hall.waiting.push_back(Parked { chunk, input });
            drop(hall);
            // Somebody has to give it a cell, also if nobody waits for anything.
            self.have_it_attend();
            return Ok(task);
        }
        let given = match packed.held {
            Some(held) => Given::Block(held, packed.luggage),
            None => Given::Bytes(bytes()),
        };
        if let Err(chunk) = self.put(&mut hall, chunk, given) {
            // The board is damaged. Nothing has been handed over.
            hall.tasks.piece_over(chunk.task);
            return Err(PoolError::Corrupt { what: "a cell that cannot be used" });
        }
        self.publish(&mut hall);
        Ok(task)
    }

    /// Gives cells to those that wait, as long as there are any.
    pub(super) fn feed(&self, hall: &mut Hall) {
        while !hall.free.is_empty()
            && let Some(Parked { chunk, input }) = hall.waiting.pop_front()
        {
            let put = match input {
                Input::Block(held, luggage) => self.put(hall, chunk, Given::Block(held, luggage)),
                Input::Bytes(bytes) if bytes.len() <= SHORT => {
                    self.put(hall, chunk, Given::Bytes(&bytes))
                }
                Input::Bytes(bytes) => match self.block_of(&bytes) {
                    Some(held) => self.put(hall, chunk, Given::Block(held, None)),
                    None => Err(chunk),
                },
            };
            if let Err(chunk) = put {
                hall.lost.push(chunk);
            }
        }
        self.publish(hall);
    }

    /// Inputs that were in a worker's hand, in a new block.
    fn block_of(&self, bytes: &[u8]) -> Option<Held> {
        let most = bytes.len().saturating_mul(2).max(bytes.len() + 2 * RESERVE);
        let mut held = self.block(most as u64).ok()?;
        held.out()?.put(bytes).then_some(held)
    }

    /// Publishes what was put into cells.
    fn publish(&self, hall: &mut Hall) {
        let before = self.board.used();
        // Failure: a cell was free just now, so it is damaged; it is found to be lost.
        let _ = self.board.publish_all(self.me, &hall.filled);
        let used = before..self.board.used();
        if used.end.wrapping_sub(before) != hall.filled.len() as u64 {
            hall.put_off(self.board.queued_at(used));
        }
        hall.filled.clear();
    }

    /// Puts a chunk into a free cell, which is to be [published](Self::publish). If the memory is damaged, the chunk comes back.
    #[inline(always)]
    fn put(&self, hall: &mut Hall, mut chunk: Chunk, given: Given<'_>) -> Result<(), Chunk> {
        let board = &self.board;
        let Some(cell) = hall.free.pop() else { return Err(chunk) };
        let (Ok(ticket), Some(payload)) = (board.ticket(cell), board.payload(cell)) else {
            return Err(chunk);
        };
        let number = u64::from(ticket.number());
        chunk.block = 0;
        let bytes = match given {
            Given::Bytes(bytes) => bytes,
            Given::Block(mut held, luggage) => {
                chunk.block = held.block.offset;
                if !held.hand_over(self.own.offset(), number) {
                    return Err(chunk);
                }
                if let Some(mut luggage) = luggage {
                    luggage.send(self.own.offset(), number);
                }
                &[]
            }
        };
        // Chunks of several are measured, and single ones now and then.
        let serial = chunk.task.0 >> 24;
        let nanos = if chunk.rare.is_some() {
            // SAFETY: the payload is that of a cell. Relaxed: the publication brings it.
            unsafe { begun(payload) }.store(0, Ordering::Relaxed);
            BEGUN
        } else if chunk.count > 1 || chunk.first == 0 || serial.is_multiple_of(16) {
            TIMED
        } else {
            UNTIMED
        };
        let head = Head {
            place: chunk.block,
            work: chunk.name.offset,
            length: chunk.length,
            written: 0,
            nanos,
            name: chunk.name.check,
            count: chunk.count as u16,
            luggage: chunk.names,
            room: [0; 2],
        };
        // SAFETY: the cell is free, and so its payload is this process's; it lies at a multiple of 16, and takes the head and the room
        // behind it.
        let mut room = unsafe {
            payload.cast::<Head>().write(head);
            Out::new(payload.add(HEAD), CELL_ROOM)
        };
        if !room.put(bytes) {
            return Err(chunk);
        }
        if let Some(entry) = hall.tasks.get_mut(chunk.task) {
            entry.ticket = Some(ticket);
        }
        hall.cells[cell as usize] = Some(chunk);
        hall.queued.push_back(ticket);
        hall.filled.push(cell);
        Ok(())
    }
}

/// Inputs for a cell.
enum Given<'a> {
    Bytes(&'a [u8]),
    Block(Held, Option<Luggage>),
}

/// A chunk that is being packed.
struct SoFar {
    /// The index of its first item.
    first: u64,
    /// So many items are in it.
    taken: usize,
    /// Which of them cannot be encoded, and why.
    voids: Vec<(u64, String)>,
}

impl SoFar {
    fn new(first: u64) -> Self {
        SoFar { first, taken: 0, voids: Vec::new() }
    }

    /// Packs items up to so many; whether that is all of them. The next one does not fit, or has to go alone, since something
    /// goes along with it.
    #[inline(always)]
    fn pack<A: Serialize>(&mut self, out: &mut Out<'_>, items: &VecDeque<A>, most: usize) -> bool {
        let number = size_of_number::<A>();
        let mut long = false;
        for item in items.iter().take(most) {
            let packing = number.is_none().then(Packing::begin);
            let before = out.without(0);
            let encoded = out.encode_next(item, number, &mut long);
            if packing.and_then(Packing::end).is_some() {
                // What was listed goes back, and is listed anew then.
                out.advance(&before, 0);
                return false;
            }
            match encoded {
                Ok(()) => {}
                Err(postcard::Error::SerializeBufferFull) => return false,
                Err(error) => {
                    if !out.put_marked(Sort::Void, &[]) {
                        return false;
                    }
                    self.voids.push((self.first + self.taken as u64, error.to_string()));
                }
            }
            self.taken += 1;
        }
        true
    }
}

fn too_many() -> PoolError {
    PoolError::TooMany { what: "tasks that are not over", asked: (1 << 24) + 1, most: 1 << 24 }
}
