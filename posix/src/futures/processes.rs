//! The executor over processes.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::executor::{Executor, Face, Shutdown};
use super::{ExecutorMap, Future};
use crate::pool::engine::ProcessCrew;
use crate::process::{Context, StartMethod, Target, cpu_count};
use crate::task::{
    Crew, Options, PoolError, PoolState, Prepare, Retry, Start, Statistics, Terms, WorkerInfo,
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
        ProcessPoolExecutorBuilder {
            options: Options {
                workers: 0..=cpu_count().max(1),
                initializer: None,
                max_tasks: None,
                idle_timeout: None,
                memory_limit: None,
                strict: false,
                quarantine: 8,
                start_attempts: 3,
                name: "ProcessPoolExecutor".into(),
                method: None,
                terms: Terms::default(),
            },
            refused: None,
        }
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
    options: Options<<ProcessCrew as Start>::Initializer>,
    /// What was chosen that cannot be; said by `build`.
    refused: Option<PoolError>,
}

impl std::fmt::Debug for ProcessPoolExecutorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessPoolExecutorBuilder")
            .field("workers", &self.options.workers)
            .field("name", &self.options.name)
            .finish_non_exhaustive()
    }
}

impl ProcessPoolExecutorBuilder {
    /// The first refusal stays.
    fn at_least_one(&mut self, number: u64, what: &'static str) {
        if number == 0 {
            self.refused.get_or_insert(PoolError::Zero { what });
        }
    }

    /// How many workers there are at most: at least 1.
    pub fn max_workers(mut self, workers: usize) -> Self {
        self.at_least_one(workers as u64, "max_workers");
        self.options.workers = 0..=workers;
        self
    }

    /// What each worker calls before its first task, with a copy of `args`, a tuple. If it panics, returns an error, crashes or
    /// exits, another worker is started; after [`start_attempts`](Self::start_attempts) the executor is broken, with that as the cause.
    pub fn initializer<F, Args>(mut self, f: F, args: Args) -> Self
    where
        F: Target<Args>,
        Args: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.options.initializer = Some(ProcessCrew::prepare(f, args));
        self
    }

    /// When so many workers one after the other did not get ready, the executor is broken. Without this 3.
    pub fn start_attempts(mut self, attempts: u32) -> Self {
        self.at_least_one(attempts.into(), "the number of attempts to start a worker");
        self.options.start_attempts = attempts;
        self
    }

    /// A worker is replaced after so many tasks.
    pub fn max_tasks_per_child(mut self, tasks: u64) -> Self {
        self.at_least_one(tasks, "max_tasks_per_child");
        self.options.max_tasks = Some(tasks);
        self
    }

    /// Workers are started by this method.
    pub fn method(mut self, method: StartMethod) -> Self {
        self.options.method = Some(method);
        self
    }

    /// Workers are started as the processes of this context.
    pub fn context(self, context: Context) -> Self {
        self.method(context.start_method())
    }

    /// A worker leaves when it had nothing to do for so long. Without this workers stay.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = Some(timeout);
        self
    }

    /// A worker that has more bytes resident after a task is replaced.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.at_least_one(bytes, "the memory limit");
        self.options.memory_limit = Some(bytes);
        self
    }

    /// What happens to a task whose worker dies. Without this it fails.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.terms.retry = retry;
        self
    }

    /// How long a task may run: a worker that is late is ended and replaced.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.options.terms.deadline = Some(limit);
        self
    }

    /// One worker that dies breaks the executor, as in Python: all tasks that are not done fail, and no more are taken.
    pub fn strict(mut self, strict: bool) -> Self {
        self.options.strict = strict;
        self
    }

    /// A task of which so many workers died is run no more, whatever its [`Retry`] says. Without this 8.
    pub fn quarantine(mut self, deaths: u32) -> Self {
        self.at_least_one(deaths.into(), "the number of deaths before quarantine");
        self.options.quarantine = deaths;
        self
    }

    /// What workers are called, with `-1`, `-2` and so on behind it. Without this `ProcessPoolExecutor`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// Makes the executor. Starts no worker yet.
    ///
    /// # Errors
    /// `Zero`, `TooMany` for what was chosen; `Memory`, `Resource`: there is no shared memory, descriptor or thread to be had.
    pub fn build(self) -> Result<ProcessPoolExecutor, PoolError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let terms = self.options.terms.clone();
        Ok(ProcessPoolExecutor { face: Face::new(ProcessCrew::start(self.options)?, terms) })
    }
}
