//! How the inputs of a flow get to its crew: lazily, chunk by chunk.
//!
//! An input is taken from the iterator when there is room for a chunk at the crew and the window holds one more. The window counts the
//! inputs that were taken and whose results were not handed out, or, where all results are kept anyway, not delivered.
//!
//! The number of calls in a chunk follows from what the last ones took, so that a worker is busy for a while (`BUSY`); it
//! starts with 1 and grows at most fourfold over what was measured. Where it is known how many inputs there are, it starts with what the
//! same function took in the flow before: should it take longer now, the first chunks are still no more than a share of all.

use std::collections::VecDeque;
use std::iter::Fuse;
use std::sync::Arc;
use std::time::Duration;

use procession_core::sys::Deadline;

use super::gather::{Gather, Order};
use crate::task::gate::Pass;
use crate::task::{Calls, PoolError, PoolState, Sink, SubmitMany, TaskId, Terms};

/// How long a worker should be busy with a chunk, in nanoseconds: long against what handing it over costs, short against what a
/// user notices when the last worker is not done.
const BUSY: u64 = 150_000;

/// A chunk never has more calls.
const MOST: usize = 1 << 16;

/// So many chunks of one call each are handed over together, if their inputs are at hand.
const SINGLES: usize = 16;

/// Where the number of inputs is known, a chunk never has to be smaller than this part of all.
const CHUNKS: usize = 64;

/// If nobody says how many inputs are taken in advance, it is so many for each worker, or so many chunks,
const AHEAD: usize = 16;
const CHUNKS_AHEAD: usize = 16;
/// or what takes so many nanoseconds, but no more than so many chunks.
const BUSY_AHEAD: u64 = 2 * BUSY;
const MOST_AHEAD: usize = 256;

/// How a flow goes.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How many calls there are in a chunk; `None`: by measurement.
    pub chunk_size: Option<usize>,
    /// How many inputs are taken at most before the first of them is handed out; `None`: as is useful.
    pub window: Option<usize>,
    /// What holds for each call.
    pub terms: Terms,
}

impl Plan {
    /// Whether it can be followed.
    ///
    /// # Errors
    /// `Zero`.
    pub fn check(&self) -> Result<(), PoolError> {
        for (number, what) in [(self.chunk_size, "the chunk size"), (self.window, "the window")] {
            if number == Some(0) {
                return Err(PoolError::Zero { what });
            }
        }
        Ok(())
    }
}

/// The inputs of a flow, and what has become of them.
pub struct Feeder<C, F, I: Iterator, R> {
    crew: Arc<C>,
    f: Arc<F>,
    input: Fuse<I>,
    /// Inputs that were taken and not handed over.
    pending: VecDeque<I::Item>,
    exhausted: bool,
    /// The inputs are there already: the next one does not have to be waited for while others could be handed over.
    at_hand: bool,
    /// The index of the next input that is handed over.
    next: u64,
    plan: Plan,
    /// How many calls the crew took at last.
    took: usize,
    /// Why not all was handed over.
    refused: Option<PoolError>,
    pass: Option<Pass>,
    gather: Arc<Gather<R>>,
    sink: Arc<dyn Sink<R>>,
    /// The tasks that were handed over together at last.
    tasks: Vec<TaskId>,
}

/// Whether an iterator of this type is one of the standard library over what is there already, and runs nobody's code.
fn is_at_hand<I>() -> bool {
    const KNOWN: [&str; 4] = [
        "core::ops::range::Range",
        "alloc::vec::into_iter::IntoIter<",
        "core::slice::iter::Iter<",
        "core::array::iter::IntoIter<",
    ];
    let name = std::any::type_name::<I>();
    // A pool hands on its inputs one in each tuple.
    let name = name.rsplit_once("::Each<").map_or(name, |(_, inner)| inner);
    KNOWN.iter().any(|known| name.starts_with(known))
}

impl<C, F, I, R> Feeder<C, F, I, R>
where
    I: Iterator,
    C: SubmitMany<F, I::Item, Output = R>,
{
    pub(super) fn new(
        crew: Arc<C>,
        f: F,
        input: I,
        plan: Plan,
        pass: Pass,
        gather: Arc<Gather<R>>,
        sink: Arc<dyn Sink<R>>,
    ) -> Self {
        let mut took = 1;
        if matches!(input.size_hint(), (low, Some(high)) if low == high)
            && let Some(pace) = crew.pace()
        {
            gather.presume(pace);
            took = gather.calls_in(BUSY).map_or(1, |calls| calls.min(MOST as u64) as usize);
        }
        Feeder {
            crew,
            f: Arc::new(f),
            input: input.fuse(),
            pending: VecDeque::new(),
            exhausted: false,
            at_hand: is_at_hand::<I>(),
            next: 0,
            plan,
            took,
            refused: None,
            pass: Some(pass),
            gather,
            sink,
            tasks: Vec::new(),
        }
    }

    /// How many results there will be, once that is certain.
    pub(super) fn total(&self) -> Option<u64> {
        (self.exhausted && self.pending.is_empty()).then_some(self.next)
    }

    /// Why the inputs from the last result on were not handed over. Says it once.
    pub(super) fn refused(&mut self) -> Option<PoolError> {
        self.refused.take()
    }

    /// Takes no more inputs, and drops those that were not handed over.
    pub(super) fn stop(&mut self) {
        self.exhausted = true;
        self.pending.clear();
        self.pass = None;
    }

    /// How many inputs may be under way.
    fn window(&self) -> usize {
        self.plan.window.unwrap_or_else(|| {
            let took = self.took.max(1);
            let short = self.gather.calls_in(BUSY_AHEAD).unwrap_or(0);
            let short = usize::try_from(short).unwrap_or(usize::MAX).min(MOST_AHEAD * took);
            AHEAD.max(CHUNKS_AHEAD * took).max(short).saturating_mul(self.crew.width())
        })
    }

    /// How many more inputs may be taken, when so many results were handed out.
    fn allowed(&self, handed_out: u64, window: usize) -> usize {
        let over = match self.gather.order() {
            Order::All => self.gather.delivered(),
            Order::Ordered | Order::Completed => handed_out,
        };
        let under_way = self.next + self.pending.len() as u64 - over.min(self.next);
        window.saturating_sub(usize::try_from(under_way).unwrap_or(usize::MAX))
    }

    /// How many calls the next chunk should have.
    fn size(&self) -> usize {
        if let Some(size) = self.plan.chunk_size {
            return size;
        }
        let Some(size) = self.gather.calls_in(BUSY) else { return 1 };
        let most = self.gather.measured().saturating_mul(4).clamp(1, MOST as u64);
        let size = size.min(most) as usize;
        // Towards the end chunks get smaller, so that all workers end at about the same time; but not so small that there are many.
        match self.input.size_hint() {
            (low, Some(high)) if low == high => {
                let left = low + self.pending.len();
                let all = usize::try_from(self.next).unwrap_or(usize::MAX).saturating_add(left);
                size.min(left.div_ceil(2 * self.crew.width()).max(all / CHUNKS)).max(1)
            }
            _ => size,
        }
    }

    /// Whether it is worthwhile to call `feed`. Where the window is as large as is useful, not before a quarter of it is free: who
    /// feeds is not woken for each chunk.
    pub(super) fn wants(&self, handed_out: u64) -> bool {
        let window = self.window();
        let enough = if self.plan.window.is_some() { 1 } else { window.div_ceil(4) };
        let more = !self.exhausted && self.allowed(handed_out, window) >= enough;
        (more || !self.pending.is_empty()) && self.room() > 0
    }

    /// How many chunks may be handed over now. A flow that has none under way may have one, however much others have: nothing that is
    /// delivered would have it fed later.
    fn room(&self) -> usize {
        let idle = self.gather.delivered() >= self.next;
        self.crew.room().max(usize::from(idle))
    }

    /// Hands over what there is room for. Runs the caller's iterator, which may panic: then this can be called again.
    pub(super) fn feed(&mut self, handed_out: u64) {
        while self.total().is_none() {
            let mut room = self.room();
            if room == 0 {
                return;
            }
            while room > 0 {
                match self.feed_some(handed_out, room) {
                    0 => return,
                    chunks => room = room.saturating_sub(chunks),
                }
            }
        }
    }

    /// Takes so many inputs, or fewer if the iterator is slow and nobody said how many make a chunk.
    fn pull(&mut self, mut wanted: usize) {
        if self.at_hand {
            let all = self.pending.len() + wanted;
            self.pending.extend(self.input.by_ref().take(wanted));
            self.exhausted = self.pending.len() < all;
            return;
        }
        let mut part = if self.plan.chunk_size.is_some() { wanted } else { 8 };
        let until = (wanted > part).then(|| Deadline::after(Duration::from_nanos(BUSY)));
        while wanted > 0 {
            part = part.min(wanted);
            let had = self.pending.len();
            self.pending.extend(self.input.by_ref().take(part));
            if self.pending.len() - had < part {
                self.exhausted = true;
                return;
            }
            wanted -= part;
            if until.is_some_and(Deadline::is_past) {
                return;
            }
            part = (part * 2).min(256);
        }
    }

    /// Hands over a chunk, or several of one call each; how many. None: there is no more for now.
    fn feed_some(&mut self, handed_out: u64, room: usize) -> usize {
        if self.pass.as_ref().is_some_and(|pass| !pass.is_valid()) {
            self.refuse(PoolError::NotRunning { state: PoolState::Closed });
            return 0;
        }
        let size = self.size();
        let singles = if size == 1 && self.at_hand { room.min(SINGLES) } else { 1 };
        let wanted = size.max(singles);
        if !self.exhausted && self.pending.len() < wanted {
            self.pull((wanted - self.pending.len()).min(self.allowed(handed_out, self.window())));
        }
        if self.pending.is_empty() {
            if self.exhausted {
                self.pass = None;
            }
            return 0;
        }
        let had = self.pending.len();
        let handed =
            if singles > 1 { self.hand_over_singles(singles) } else { self.hand_over(size) };
        let took = had - self.pending.len();
        match handed {
            Ok(chunks) => {
                self.next += took as u64;
                self.took = took / chunks.max(1);
                if self.total().is_some() {
                    self.pass = None;
                    if self.gather.pace() != 0 {
                        self.crew.note_pace(self.gather.pace());
                    }
                }
                chunks
            }
            Err(error) => {
                self.refuse(error);
                0
            }
        }
    }

    fn hand_over(&mut self, size: usize) -> Result<usize, PoolError> {
        let had = self.pending.len();
        let (sink, terms) = (self.sink.clone(), &self.plan.terms);
        let (f, pending) = (&self.f, &mut self.pending);
        let task = self.crew.submit_chunk(f, self.next, pending, size, sink, terms)?;
        self.gather.opened(self.next, (had - self.pending.len()) as u64, task);
        Ok(1)
    }

    fn hand_over_singles(&mut self, most: usize) -> Result<usize, PoolError> {
        self.tasks.clear();
        let calls = Calls { f: &self.f, sink: &self.sink, terms: &self.plan.terms };
        self.crew.submit_singles(calls, self.next, &mut self.pending, most, &mut self.tasks)?;
        self.gather.opened_singles(self.next, &self.tasks);
        Ok(self.tasks.len())
    }

    fn refuse(&mut self, error: PoolError) {
        if !self.pending.is_empty() || self.input.next().is_some() {
            self.refused = Some(error);
        }
        self.stop();
    }
}
