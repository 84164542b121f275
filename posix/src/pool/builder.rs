//! What is said of a pool before it is made.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::progress::{Progress, Show};
use super::{PoolError, PoolOf, Retry, Statistics};
use crate::process::{Context, StartMethod, cpu_count};
use crate::task::{Options, Prepare, Start, Terms};

/// A pool to be made. What is not said is as [`PoolOf::per_cpu`] has it.
///
/// ```
/// use procession_posix::pool::{Pool, Retry};
/// use procession_posix::value::Value;
///
/// fn join_in(there: Value<i64>) {
///     there.update(|there| there + 1);
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let there = Value::new(0i64)?;
/// let pool = Pool::builder()
///     .processes(2)
///     .name("Counter")
///     .initializer(join_in, (there.clone(),))
///     .max_tasks_per_child(1000)
///     .retry(Retry::idempotent(3))
///     .build()?;
/// pool.map(|_: u32| (), 0..100)?;
/// assert!(there.get() >= 1);
/// # Ok(())
/// # }
/// ```
#[must_use = "there is no pool before `build`"]
pub struct PoolBuilder<C: Start> {
    options: Options<C::Initializer>,
    /// `None`: as many as there are processors, which takes longer to find out than a worker to start.
    workers: Option<RangeInclusive<usize>>,
    progress: Option<(Duration, Show)>,
    /// What was chosen that cannot be; said by `build`.
    refused: Option<PoolError>,
}

impl<C: Start> PoolBuilder<C> {
    pub(super) fn new() -> Self {
        let options = Options {
            // Until `build`.
            workers: 1..=1,
            initializer: None,
            max_tasks: None,
            idle_timeout: None,
            memory_limit: None,
            strict: false,
            quarantine: 8,
            start_attempts: 3,
            name: "PoolWorker".into(),
            method: None,
            terms: Terms::default(),
        };
        PoolBuilder { options, workers: None, progress: None, refused: None }
    }

    /// The first refusal stays.
    fn at_least_one(&mut self, number: u64, what: &'static str) {
        if number == 0 {
            self.refused.get_or_insert(PoolError::Zero { what });
        }
    }

    /// So many workers.
    pub fn processes(self, workers: usize) -> Self {
        self.workers(workers..=workers)
    }

    /// The first number of workers at once and always, up to the last one as tasks queue up.
    pub fn workers(mut self, workers: RangeInclusive<usize>) -> Self {
        self.at_least_one(*workers.start() as u64, "the number of workers");
        self.at_least_one(u64::from(!workers.is_empty()), "the number of workers in this range");
        self.workers = Some(workers);
        self
    }

    /// What each worker calls before its first task, with a copy of `args`, a tuple. If it panics, or in a process returns
    /// an error, crashes or exits, the worker is not ready and another one is started, up to [`start_attempts`](Self::start_attempts).
    pub fn initializer<F, Args>(mut self, f: F, args: Args) -> Self
    where
        C: Prepare<F, Args>,
    {
        self.options.initializer = Some(C::prepare(f, args));
        self
    }

    /// A worker is replaced after so many tasks.
    pub fn max_tasks_per_child(mut self, tasks: u64) -> Self {
        self.at_least_one(tasks, "max_tasks_per_child");
        self.options.max_tasks = Some(tasks);
        self
    }

    /// Worker processes are started by this method.
    pub fn method(mut self, method: StartMethod) -> Self {
        self.options.method = Some(method);
        self
    }

    /// Worker processes are started as those of this context.
    pub fn context(self, context: Context) -> Self {
        self.method(context.start_method())
    }

    /// A worker beyond the fewest leaves when it had nothing to do for so long.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = Some(timeout);
        self
    }

    /// A worker process that has more bytes of memory of its own (not counting what is shared) after a task is replaced. It looks
    /// at most every 5 ms.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.at_least_one(bytes, "the memory limit");
        self.options.memory_limit = Some(bytes);
        self
    }

    /// What happens to a task whose worker dies, unless the task says otherwise.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.terms.retry = retry;
        self
    }

    /// How long a task may run, unless the task says otherwise.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.options.terms.deadline = Some(limit);
        self
    }

    /// One worker that dies breaks the pool, as in Python's `ProcessPoolExecutor`: all tasks that are not done fail, and no more are taken.
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

    /// When so many workers one after the other did not get ready, the pool is broken, with the cause. Without this 3.
    pub fn start_attempts(mut self, attempts: u32) -> Self {
        self.at_least_one(attempts.into(), "the number of attempts to start a worker");
        self.options.start_attempts = attempts;
        self
    }

    /// What workers are called, with `-1`, `-2` and so on behind it. Without this `PoolWorker`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// Has `show` called with what the pool has done, again and again after so long, on a thread of the pool, and once more when
    /// the pool was joined. It can drive a progress bar: `bar.set_position(now.done)`.
    pub fn progress(
        mut self,
        interval: Duration,
        show: impl FnMut(&Statistics) + Send + 'static,
    ) -> Self {
        self.at_least_one(u64::from(!interval.is_zero()), "the interval of progress");
        self.progress = Some((interval, Box::new(show)));
        self
    }

    /// Makes the pool, and starts its first workers.
    ///
    /// # Errors
    /// `Zero`, `TooMany` for what was chosen; `Start`, `Memory` or `Resource` if the workers cannot be had: nothing is left
    /// then.
    pub fn build(mut self) -> Result<PoolOf<C>, PoolError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        self.options.workers = self.workers.unwrap_or_else(|| {
            let processors = cpu_count().max(1);
            processors..=processors
        });
        let terms = self.options.terms.clone();
        let crew = C::start(self.options)?;
        let mut pool = PoolOf::over(crew, terms);
        if let Some((interval, show)) = self.progress {
            let progress = Progress::begin(pool.crew(), interval, show);
            let error =
                |source| PoolError::Resource { what: "start a thread for progress", source };
            pool.show(progress.map_err(error)?);
        }
        Ok(pool)
    }
}

impl<C: Start> fmt::Debug for PoolBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("workers", &self.workers)
            .field("name", &self.options.name)
            .finish_non_exhaustive()
    }
}
