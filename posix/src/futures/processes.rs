//! The executor over processes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::executor::{Executor, Face, Shutdown};
use super::{ExecutorMap, Future};
use crate::pool::engine::ProcessCrew;
use crate::process::Target;
use crate::task::{
    Chosen, Crew, PoolError, PoolState, Prepare, Start, Statistics, WorkerInfo, choices,
};

/// Runs functions in worker processes, which it starts as they are needed.
///
/// What can be called, and what becomes of a task whose worker dies, is as in a [`Pool`](crate::pool::Pool): a crash is the
/// error of its own task, [`TaskError::WorkerDied`](crate::pool::TaskError::WorkerDied), its worker is replaced, and the others
/// go on. [`strict`](ProcessPoolExecutorBuilder::strict) has one death break all, as in Python.
///
/// Dropping it, also by the unwinding of a panic, shuts it down and waits for all tasks, however long that takes, unless
/// [`shutdown`](Self::shutdown) or [`terminate_workers`](Self::terminate_workers) was called before; see
/// [`Executor`](Executor#dropping).
///
/// ```
/// use procession_posix::futures::{ProcessPoolExecutor, as_completed};
///
/// fn fibonacci(n: u64) -> u64 {
///     if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let executor = ProcessPoolExecutor::builder().max_workers(2).build()?;
/// let futures: Vec<_> =
///     (0..9).map(|n| executor.submit(fibonacci, (n,))).collect::<Result<_, _>>()?;
/// let mut sum = 0;
/// for future in as_completed(futures) {
///     sum += future.result()?;
/// }
/// assert_eq!(sum, 54);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ProcessPoolExecutor {
    face: Face<ProcessCrew>,
}

impl ProcessPoolExecutor {
    /// With up to as many workers as there are processors that this process may use. Starts none yet.
    ///
    /// # Errors
    /// [`PoolError::Memory`], [`PoolError::Resource`]: there is no shared memory, descriptor or thread to be had.
    pub fn new() -> Result<Self, PoolError> {
        Self::builder().build()
    }

    /// To say more about it.
    pub fn builder() -> ProcessPoolExecutorBuilder {
        ProcessPoolExecutorBuilder { chosen: Chosen::new("ProcessPoolExecutor") }
    }

    /// Has `f` called in a worker with these arguments, a tuple. Never waits: what cannot begin at once is queued.
    ///
    /// # Errors
    /// [`PoolError::NotRunning`] after `shutdown`, [`PoolError::Broken`]; arguments that cannot be encoded, or for which there is
    /// no room. Nothing was handed over then.
    pub fn submit<F, Args>(&self, f: F, args: Args) -> Result<Future<F::Output>, PoolError>
    where
        F: Target<Args>,
        F::Output: Send + 'static,
        Args: Serialize + DeserializeOwned + Send + 'static,
    {
        self.face.submit(f, args)
    }

    /// Calls `f` with each input; an iterator over the results once it is told how, see [`ExecutorMap`]. Nothing happens
    /// before. For functions of several arguments zip the inputs: `|(a, b)| ...`.
    pub fn map<'a, F, A, I>(&self, f: F, inputs: I) -> ExecutorMap<'a, F::Output>
    where
        F: Target<(A,)>,
        F::Output: Send + 'static,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A> + 'a,
    {
        self.face.map(f, inputs.into_iter().map(|input| (input,)))
    }

    /// Takes no more tasks, and waits for those that there are, or not, as [`Shutdown`] says. May be called again.
    ///
    /// # Errors
    /// [`PoolError::TimedOut`]: not all is over in time; it goes on.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), PoolError> {
        self.face.shutdown(how)
    }

    /// Takes no more tasks, cancels those that nobody has begun, and ends the workers: each is asked to leave, and killed some
    /// milliseconds later. What runs fails with [`TaskError::Terminated`](crate::pool::TaskError::Terminated). Waits for
    /// nobody, and may be called in any state.
    pub fn terminate_workers(&self) {
        self.stop();
        self.face.crew().terminate();
    }

    /// As [`terminate_workers`](Self::terminate_workers), but kills the workers at once.
    pub fn kill_workers(&self) {
        self.stop();
        self.face.crew().kill();
    }

    fn stop(&self) {
        // Without a wait there is no error.
        let _ = self.face.shutdown(Shutdown::new().wait(false).cancel_futures(true));
    }

    /// The workers at present.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.face.crew().workers()
    }

    /// Where it is in its life.
    pub fn state(&self) -> PoolState {
        self.face.state()
    }

    /// What it has done so far.
    pub fn statistics(&self) -> Statistics {
        self.face.statistics()
    }
}

impl Executor for ProcessPoolExecutor {
    fn submit<F, Args>(&self, f: F, args: Args) -> Result<Future<F::Output>, PoolError>
    where
        F: Target<Args>,
        F::Output: Send + 'static,
        Args: Serialize + DeserializeOwned + Send + 'static,
    {
        self.submit(f, args)
    }

    fn map<'a, F, A, I>(&self, f: F, inputs: I) -> ExecutorMap<'a, F::Output>
    where
        F: Target<(A,)>,
        F::Output: Send + 'static,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A> + 'a,
    {
        self.map(f, inputs)
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), PoolError> {
        self.shutdown(how)
    }
}

/// How a [`ProcessPoolExecutor`] is to be.
#[must_use = "there is no executor before `build`"]
pub struct ProcessPoolExecutorBuilder {
    chosen: Chosen<<ProcessCrew as Start>::Initializer>,
}

impl ProcessPoolExecutorBuilder {
    /// How many workers there are at most: at least 1.
    pub fn max_workers(mut self, workers: usize) -> Self {
        self.chosen.at_least_one(workers as u64, "max_workers");
        self.chosen.workers = Some(0..=workers);
        self
    }

    /// What each worker calls before its first task, with a copy of `args`, a tuple. If it panics, returns an error, crashes or
    /// exits, another worker is started; after [`start_attempts`](Self::start_attempts) the executor is broken, with that as the cause.
    pub fn initializer<F, Args>(mut self, f: F, args: Args) -> Self
    where
        F: Target<Args>,
        Args: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.chosen.options.initializer = Some(ProcessCrew::prepare(f, args));
        self
    }

    /// Makes the executor. Starts no worker yet.
    ///
    /// # Errors
    /// `Zero`, `TooMany` for what was chosen; `Memory`, `Resource`: there is no shared memory, descriptor or thread to be had.
    pub fn build(self) -> Result<ProcessPoolExecutor, PoolError> {
        let options = self.chosen.options(|processors| 0..=processors)?;
        let terms = options.terms.clone();
        Ok(ProcessPoolExecutor { face: Face::new(ProcessCrew::start(options)?, terms) })
    }
}

choices!(ProcessPoolExecutorBuilder, name: "ProcessPoolExecutor");
