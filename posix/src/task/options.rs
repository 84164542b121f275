//! What is chosen for a pool or an executor, whoever works in it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Terms;
use crate::process::StartMethod;

/// What was chosen. Checked: no range without a worker, nothing that must be at least 1 is 0. `I` is what each worker runs
/// first.
#[derive(Debug)]
pub struct Options<I> {
    /// How many workers there are: the first number at once, up to the last one as tasks queue up.
    pub workers: RangeInclusive<usize>,
    /// What each worker runs before its first task.
    pub initializer: Option<I>,
    /// After so many tasks a worker is replaced.
    pub max_tasks: Option<u64>,
    /// A worker beyond the least number leaves after so long without a task.
    pub idle_timeout: Option<Duration>,
    /// A worker that has more resident bytes after a task is replaced.
    pub memory_limit: Option<u64>,
    /// Whether one dead worker breaks all.
    pub strict: bool,
    /// A task of which so many workers died is run no more, whatever its retry says.
    pub quarantine: u32,
    /// After so many failed initializers in a row the pool is broken.
    pub start_attempts: u32,
    /// What the workers are called, followed by `-1`, `-2`, ...
    pub name: String,
    /// How worker processes are started; `None`: as everywhere.
    pub method: Option<StartMethod>,
    /// What holds for tasks that say nothing else.
    pub terms: Terms,
}

/// A worker, for those who look at a pool from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its process; for a thread the one in which it runs.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl WorkerInfo {
    /// What is known of a worker.
    pub(crate) fn new(pid: u32, name: String) -> Self {
        WorkerInfo { pid, name }
    }
}
