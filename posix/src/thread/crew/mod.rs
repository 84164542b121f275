//! Threads that run tasks: what pools and executors over threads are made of.
//!
//! All that they share lies under one lock, that of the [`Desk`](desk::Desk), which is held for some dozen instructions and never
//! while a user's code runs.
//!
//! ```text
//! a task     queued -> running -> over     under the lock: who takes it out of the queue, and nobody else, runs or fails it
//!            answered                      one swap: its thread, when it has run it, or who ends it before (terminate, a deadline)
//! a thread   started -> idle or running -> left
//! the crew   Running -> Closed -> Ended
//!            Running, Closed -> Terminating -> Ended
//!            Running, Closed -> Broken -> Ended, with the cause kept
//! ```
//!
//! The thread that ran a task delivers its result itself, so who waits only sleeps, and is woken by that thread. A thread of
//! the crew that waits for tasks, or for some that it handed over itself, runs those that nobody has begun: tasks of tasks do not
//! wait for a free thread. It does the same where it waits for other crews' tasks besides.
//!
//! No thread can be ended from outside. Where a task is ended (terminated, or late) it gets its error at once, its result is
//! dropped when it comes, and the thread leaves then. A late one is replaced at once, and nobody waits for it any more.

mod desk;
mod job;
mod table;
mod work;

use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use procession_core::sys::Deadline;

use self::desk::Desk;
use self::job::{Many, One, Task};
use crate::task::{
    Call, CallOnce, Crew, Options, PoolError, PoolState, Prepare, Sink, Start, Statistics, Submit,
    SubmitMany, TaskError, TaskId, Terms, WorkerInfo, quietly,
};

/// What is run in each new thread before its first task.
pub(crate) type Initializer = Arc<dyn Fn() + Send + Sync>;

/// How a crew of threads is to be.
pub(crate) struct ThreadOptions {
    /// So many are started at once and kept; more at need.
    pub(crate) threads: RangeInclusive<usize>,
    /// The name of the thread with this number, from 0 on.
    pub(crate) name: Box<dyn Fn(u64) -> String + Send + Sync>,
    /// Run in each new thread before its first task. A panic is a failed start.
    pub(crate) initializer: Option<Initializer>,
    /// So many failed starts one after the other break the crew.
    pub(crate) start_attempts: u32,
    /// A thread beyond the lowest number leaves when it had nothing to do for so long.
    pub(crate) idle_timeout: Option<Duration>,
    /// A thread leaves after so many tasks, and is replaced.
    pub(crate) max_tasks: Option<u64>,
}

impl ThreadOptions {
    /// So many threads, with these names, and nothing special.
    pub(crate) fn new(
        threads: RangeInclusive<usize>,
        name: impl Fn(u64) -> String + Send + Sync + 'static,
    ) -> Self {
        ThreadOptions {
            threads,
            name: Box::new(name),
            initializer: None,
            start_attempts: 1,
            idle_timeout: None,
            max_tasks: None,
        }
    }
}

/// Threads that run tasks.
///
/// Dropping it closes it: the threads finish what was handed over, and leave.
pub struct ThreadCrew {
    desk: Arc<Desk>,
    /// Whose the threads are: a forked process has none.
    pid: u32,
}

impl ThreadCrew {
    /// Starts as many threads as are wanted at once.
    ///
    /// # Errors
    /// `Zero` for no threads at all, `Resource` if a thread cannot be started.
    pub(crate) fn with(options: ThreadOptions) -> Result<Arc<Self>, PoolError> {
        table::check(&options.threads)?;
        let crew = ThreadCrew { desk: Arc::new(Desk::new(options)), pid: std::process::id() };
        crew.desk.fill(&mut crew.desk.lock())?;
        Ok(Arc::new(crew))
    }

    /// Whether the threads are those of this process. A forked one has none, and some of them may have held the lock
    /// when it was forked.
    fn is_here(&self) -> bool {
        self.pid == std::process::id()
    }

    fn check_here(&self) -> Result<(), PoolError> {
        if self.is_here() { Ok(()) } else { Err(PoolError::Forked { owner: self.pid }) }
    }
}

impl Drop for ThreadCrew {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for ThreadCrew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadCrew").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Start for ThreadCrew {
    type Initializer = Initializer;

    /// Threads have no memory of their own, and die with their process: what is said about those is not asked for.
    fn start(options: Options<Initializer>) -> Result<Arc<Self>, PoolError> {
        let name = options.name;
        Self::with(ThreadOptions {
            threads: options.workers,
            name: Box::new(move |number| format!("{name}-{}", number + 1)),
            initializer: options.initializer,
            start_attempts: options.start_attempts,
            idle_timeout: options.idle_timeout,
            max_tasks: options.max_tasks,
        })
    }
}

impl<F, Args> Prepare<F, Args> for ThreadCrew
where
    F: Call<Args>,
    Args: Clone + Send + Sync + 'static,
{
    fn prepare(f: F, args: Args) -> Initializer {
        Arc::new(move || {
            f.call(args.clone());
        })
    }
}

impl<F, Args> Submit<F, Args> for ThreadCrew
where
    F: CallOnce<Args>,
    Args: Send + 'static,
{
    type Output = F::Output;

    fn submit(
        &self,
        f: F,
        args: Args,
        sink: Arc<dyn Sink<F::Output>>,
        terms: &Terms,
    ) -> Result<TaskId, PoolError> {
        self.check_here()?;
        let limit = terms.deadline;
        self.desk.submit(limit.is_some(), |id| Task::new(id, limit, One::new(f, args, sink)))
    }
}

impl<F, Args> SubmitMany<F, Args> for ThreadCrew
where
    F: Call<Args>,
    Args: Send + 'static,
{
    fn submit_chunk(
        &self,
        f: &Arc<F>,
        first: u64,
        items: &mut VecDeque<Args>,
        most: usize,
        sink: Arc<dyn Sink<F::Output>>,
        terms: &Terms,
    ) -> Result<TaskId, PoolError> {
        self.check_here()?;
        let limit = terms.deadline;
        // A deadline is each item's own.
        let most = if limit.is_some() { 1 } else { most };
        let f = f.clone();
        self.desk.submit(limit.is_some(), |id| {
            let items = items.drain(..most.min(items.len())).collect();
            Task::new(id, limit, Many::new(f, first, items, sink))
        })
    }
}

impl Crew for ThreadCrew {
    fn help(
        &self,
        task: Option<TaskId>,
        deadline: Deadline,
        done: &mut dyn FnMut() -> bool,
    ) -> bool {
        if self.is_here() { self.desk.help(task, deadline, done) } else { done() }
    }

    fn run_here(&self, task: TaskId) -> bool {
        self.is_here() && self.desk.run_here(task)
    }

    fn collect(&self) {
        // Each thread delivers what it has run.
    }

    fn withdraw(&self, task: TaskId) -> bool {
        self.is_here() && self.desk.withdraw(task)
    }

    fn withdraw_all(&self) {
        if self.is_here() {
            self.desk.withdraw_all();
        }
    }

    fn abort(&self, task: TaskId) -> bool {
        // No thread can be ended.
        self.is_here() && self.desk.withdraw(task)
    }

    fn is_running(&self, task: TaskId) -> bool {
        self.is_here() && self.desk.is_running(task)
    }

    fn attend(&self) {
        // Each thread delivers what it has run.
    }

    fn post(&self, job: Box<dyn FnOnce() + Send>) {
        if self.is_here() {
            self.desk.post(job);
        } else {
            // There is nobody else.
            quietly(job);
        }
    }

    fn width(&self) -> usize {
        if self.is_here() { self.desk.width() } else { 1 }
    }

    fn room(&self) -> usize {
        if self.is_here() { self.desk.room() } else { 0 }
    }

    fn state(&self) -> PoolState {
        if self.is_here() { self.desk.state() } else { PoolState::Ended }
    }

    fn cause(&self) -> Option<Arc<PoolError>> {
        self.check_here().map_or_else(|forked| Some(Arc::new(forked)), |()| self.desk.cause())
    }

    fn close(&self) {
        if self.is_here() {
            self.desk.close();
        }
    }

    fn terminate(&self) {
        if !self.is_here() {
            return;
        }
        self.desk.end_all(PoolState::Terminating, None, &TaskError::Terminated);
    }

    fn join(&self, deadline: Deadline) -> Result<(), PoolError> {
        self.check_here()?;
        self.desk.join(deadline)
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        if !self.is_here() {
            return Vec::new();
        }
        self.desk.names().into_iter().map(|name| WorkerInfo::new(self.pid, name)).collect()
    }

    fn statistics(&self) -> Statistics {
        if self.is_here() { self.desk.statistics() } else { Statistics::default() }
    }

    fn resize(&self, workers: RangeInclusive<usize>) -> Result<(), PoolError> {
        self.check_here()?;
        table::check(&workers)?;
        self.desk.resize(workers)
    }
}

#[cfg(test)]
mod tests;
