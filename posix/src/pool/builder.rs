//! What is said of a pool before it is made.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::progress::{Progress, Show};
use super::{PoolError, PoolOf, Statistics};
use crate::task::{Chosen, Prepare, Start, choices};

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
    chosen: Chosen<C::Initializer>,
    progress: Option<(Duration, Show)>,
}

impl<C: Start> PoolBuilder<C> {
    pub(super) fn new() -> Self {
        PoolBuilder { chosen: Chosen::new("PoolWorker"), progress: None }
    }

    /// So many workers.
    pub fn processes(self, workers: usize) -> Self {
        self.workers(workers..=workers)
    }

    /// The first number of workers at once and always, up to the last one as tasks queue up.
    pub fn workers(mut self, workers: RangeInclusive<usize>) -> Self {
        self.chosen.at_least_one(*workers.start() as u64, "the number of workers");
        self.chosen
            .at_least_one(u64::from(!workers.is_empty()), "the number of workers in this range");
        self.chosen.workers = Some(workers);
        self
    }

    /// What each worker calls before its first task, with a copy of `args`, a tuple. If it panics, or in a process returns
    /// an error, crashes or exits, the worker is not ready and another one is started, up to [`start_attempts`](Self::start_attempts).
    pub fn initializer<F, Args>(mut self, f: F, args: Args) -> Self
    where
        C: Prepare<F, Args>,
    {
        self.chosen.options.initializer = Some(C::prepare(f, args));
        self
    }

    /// Has `show` called with what the pool has done, again and again after so long, on a thread of the pool, and once more when
    /// the pool was joined. It can drive a progress bar: `bar.set_position(now.done)`.
    pub fn progress(
        mut self,
        interval: Duration,
        show: impl FnMut(&Statistics) + Send + 'static,
    ) -> Self {
        self.chosen.at_least_one(u64::from(!interval.is_zero()), "the interval of progress");
        self.progress = Some((interval, Box::new(show)));
        self
    }

    /// Makes the pool, and starts its first workers.
    ///
    /// # Errors
    /// `Zero`, `TooMany` for what was chosen; `Start`, `Memory` or `Resource` if the workers cannot be had: nothing is left
    /// then.
    pub fn build(self) -> Result<PoolOf<C>, PoolError> {
        let options = self.chosen.options(|processors| processors..=processors)?;
        let terms = options.terms.clone();
        let crew = C::start(options)?;
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

choices!(PoolBuilder<C: Start>, name: "PoolWorker");
