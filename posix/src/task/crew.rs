//! Whoever runs tasks: what faces, flows and handles need of it.

use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use procession_core::pool::Phase;
use procession_core::sys::Deadline;

use super::{Options, PoolError, Sink, Statistics, Terms, WorkerInfo};

/// A task, or a chunk of them, that was handed to a crew. A crew gives each id once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// Where a pool or an executor is in its life. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolState {
    /// It takes tasks.
    Running,
    /// It takes no more tasks, and finishes those that it has.
    Closed,
    /// It ends its workers; tasks that are not done never will be.
    Terminating,
    /// It is broken for good, see [`PoolError::Broken`].
    Broken,
    /// All its workers are gone.
    Ended,
}

impl From<Phase> for PoolState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Run => PoolState::Running,
            Phase::Closed => PoolState::Closed,
            Phase::Broken => PoolState::Broken,
            Phase::Terminating => PoolState::Terminating,
            Phase::Ended => PoolState::Ended,
        }
    }
}

impl fmt::Display for PoolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PoolState::Running => "running",
            PoolState::Closed => "closed",
            PoolState::Terminating => "terminating",
            PoolState::Broken => "broken",
            PoolState::Ended => "ended",
        })
    }
}

/// Whoever runs tasks, by processes or by threads.
///
/// Any thread may call anything at any time, also from within a callback, and in a thread of the crew itself. No call but
/// `help` and `join` waits. Sinks are called without any lock of the crew held, so a sink may call the crew.
pub trait Crew: Send + Sync + 'static {
    /// The calling thread collects until `done` says so; false if the deadline comes first. `done` is cheap and is asked
    /// before anything else, and again whenever something has been delivered, by whichever thread: so who sleeps in here
    /// is woken when another one delivers. `task` is what it waits for, if that is one task: a hint where to sleep.
    ///
    /// With a deadline that is past it collects once. It also comes back, with what `done` says then, when nothing can be delivered any
    /// more: the crew is terminated or broken, and has delivered that to all.
    fn help(
        &self,
        task: Option<TaskId>,
        deadline: Deadline,
        done: &mut dyn FnMut() -> bool,
    ) -> bool;

    /// In a thread of the crew itself: runs this task here and now, if nobody has begun it. Whether it did.
    fn run_here(&self, _task: TaskId) -> bool {
        false
    }

    /// Delivers what has been answered, without sleeping.
    fn collect(&self);

    /// Withdraws a task that nobody has begun: it never runs, and its sink gets `Cancelled` before this returns true. Of a chunk:
    /// for all its items, or for none. False if it has begun or is over.
    fn withdraw(&self, task: TaskId) -> bool;

    /// Withdraws all that nobody has begun.
    fn withdraw_all(&self);

    /// Has a task that runs ended, with its worker, which is replaced: its sink gets `Cancelled`, soon. One that has not
    /// begun is withdrawn. False if it is over, or the crew cannot do that (no thread can be ended from outside).
    fn abort(&self, task: TaskId) -> bool;

    /// Whether a worker has begun it, and it is not over.
    fn is_running(&self, task: TaskId) -> bool;

    /// From now on the courier collects too while nobody helps.
    fn attend(&self);

    /// Has the courier run this. Jobs run one after the other, in this order. A job that panics is reported by the panic
    /// hook and harms nobody. In a crew that has ended, and where no thread is to be had, it runs here and now: who calls this holds
    /// no lock.
    fn post(&self, job: Box<dyn FnOnce() + Send>);

    /// How many workers there are at present; at least 1.
    fn width(&self) -> usize;

    /// How many more chunks are worth handing over now: so many that no worker is idle while the next ones are made, and
    /// no more. 0 while enough are queued.
    fn room(&self) -> usize;

    /// Where it is in its life.
    fn state(&self) -> PoolState;

    /// Why it is broken, in [`PoolState::Broken`].
    fn cause(&self) -> Option<Arc<PoolError>>;

    /// Takes no more tasks. Does not wait. Called when nobody will hand over more: faces let flows that have begun go on
    /// until then.
    fn close(&self);

    /// Ends the workers; each task that is not over gets `Terminated`. Does not wait for the workers.
    fn terminate(&self);

    /// Waits until all workers are gone and the courier has run everything; the courier does not wait for itself.
    ///
    /// # Errors
    /// `StillRunning` if it was neither closed nor terminated, `TimedOut` at the deadline.
    fn join(&self, deadline: Deadline) -> Result<(), PoolError>;

    /// Its face is dropped: terminates it and, where that takes milliseconds, sees the workers off. Nothing in a process
    /// that was forked from its owner.
    fn dismiss(&self) {
        self.terminate();
    }

    /// The workers at present.
    fn workers(&self) -> Vec<WorkerInfo>;

    /// What it has done so far.
    fn statistics(&self) -> Statistics;

    /// From now on there are so many workers, growing at need within the range.
    ///
    /// # Errors
    /// `Zero` for a range without a worker, `NotRunning`.
    fn resize(&self, workers: RangeInclusive<usize>) -> Result<(), PoolError>;
}

/// A crew that a builder can start.
pub trait Start: Crew + Sized {
    /// What each worker runs first.
    type Initializer: Send;

    /// Starts it: its first workers are on their way.
    ///
    /// # Errors
    /// `Start`, `Memory`, `Resource`; nothing is left then.
    fn start(options: Options<Self::Initializer>) -> Result<Arc<Self>, PoolError>;
}

/// A crew whose workers can run `F` with `Args` before their first task.
pub trait Prepare<F, Args>: Start {
    /// What each worker runs first.
    fn prepare(f: F, args: Args) -> Self::Initializer;
}

/// A crew that can run `F` with `Args` once. No user meets it: it says where the crews' bounds on functions differ.
pub trait Submit<F, Args>: Crew {
    /// What `F` returns.
    type Output: Send + 'static;

    /// Hands over a task. Its sink gets one result, at index 0, unless this returns an error. Never blocks.
    ///
    /// # Errors
    /// `NotRunning`, `Broken`, `Encode` for arguments that cannot be encoded, `TooLarge`, `Memory`.
    fn submit(
        &self,
        f: F,
        args: Args,
        sink: Arc<dyn Sink<Self::Output>>,
        terms: &Terms,
    ) -> Result<TaskId, PoolError>;
}

/// What calls that are handed over together have in common.
pub struct Calls<'a, F, R> {
    /// What is called.
    pub f: &'a Arc<F>,
    /// Who gets the results.
    pub sink: &'a Arc<dyn Sink<R>>,
    /// What holds for each.
    pub terms: &'a Terms,
}

/// A crew that can run `F` with `Args` again and again.
pub trait SubmitMany<F, Args>: Submit<F, Args> {
    /// Hands over a chunk: items from the front of `items`, at least one, at most `most`, and as many as fit. The sink gets one result
    /// for each item that was taken, from index `first` on; an item that cannot be encoded is taken and gets its error
    /// there. Never blocks. `items` is not empty, `most` not 0.
    ///
    /// # Errors
    /// `NotRunning`, `Broken`, `Memory`. No item has been taken then.
    fn submit_chunk(
        &self,
        f: &Arc<F>,
        first: u64,
        items: &mut VecDeque<Args>,
        most: usize,
        sink: Arc<dyn Sink<Self::Output>>,
        terms: &Terms,
    ) -> Result<TaskId, PoolError>;

    /// Hands over items from the front of `items`, each by itself, at least one and at most `most`; their tasks go to the end of
    /// `tasks`. A crew that has to do something for each call does it once for several. Otherwise as `submit_chunk`.
    ///
    /// # Errors
    /// As `submit_chunk`.
    fn submit_singles(
        &self,
        calls: Calls<'_, F, Self::Output>,
        first: u64,
        items: &mut VecDeque<Args>,
        _most: usize,
        tasks: &mut Vec<TaskId>,
    ) -> Result<(), PoolError> {
        let Calls { f, sink, terms } = calls;
        tasks.push(self.submit_chunk(f, first, items, 1, sink.clone(), terms)?);
        Ok(())
    }

    /// Picoseconds that one call of `F` took when it was last run many times; `None` if that is not known, or not kept.
    fn pace(&self) -> Option<u64> {
        None
    }

    /// One call of `F` took so many picoseconds.
    fn note_pace(&self, _pace: u64) {}
}
