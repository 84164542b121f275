//! An executor without workers.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use procession_core::sys::{Deadline, nanos};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::executor::{self, Executor, Face, Shutdown, in_process};
use super::{ExecutorMap, Future};
use crate::process::Target;
use crate::task::{
    Call, CallOnce, Counters, Crew, Outcome, PoolError, PoolState, Results, Sink, Statistics,
    Submit, SubmitMany, TaskId, Terms, WorkerInfo, caught, quietly,
};

/// Runs each function at once, where it is submitted: for tests, and for finding out what a program does without others.
///
/// A future is over when it is given out. A panic is its error. Deadlines mean nothing.
///
/// ```
/// use procession_posix::futures::InlineExecutor;
///
/// let executor = InlineExecutor::new();
/// let here = std::thread::current().id();
/// let future = executor.submit(|| std::thread::current().id(), ())?;
/// assert!(future.done());
/// assert_eq!(future.result()?, here);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct InlineExecutor {
    face: Face<InlineCrew>,
}

in_process!(InlineExecutor);

impl InlineExecutor {
    /// Makes the executor.
    #[must_use]
    pub fn new() -> Self {
        crate::process::words::listen();
        InlineExecutor { face: Face::new(Arc::default(), Terms::default()) }
    }
}

impl Default for InlineExecutor {
    fn default() -> Self {
        Self::new()
    }
}

/// A crew of nobody: whoever hands over a task runs it.
#[derive(Debug, Default)]
struct InlineCrew {
    closed: AtomicBool,
    tasks: AtomicU64,
    counters: Counters,
}

impl InlineCrew {
    fn begin(&self) -> Result<TaskId, PoolError> {
        // Relaxed, as everywhere here: both words stand for themselves.
        if self.closed.load(Ordering::Relaxed) {
            return Err(PoolError::NotRunning { state: PoolState::Closed });
        }
        Ok(TaskId(self.tasks.fetch_add(1, Ordering::Relaxed)))
    }

    fn run<R>(&self, task: TaskId, call: impl FnOnce() -> R) -> Outcome<R> {
        let begun = nanos();
        let outcome = caught(task, call);
        self.counters.ended_one(&outcome, nanos().saturating_sub(begun));
        outcome
    }
}

impl<F, Args> Submit<F, Args> for InlineCrew
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
        _: &Terms,
    ) -> Result<TaskId, PoolError> {
        let task = self.begin()?;
        let outcome = self.run(task, || f.call_once(args));
        sink.deliver(0, &mut Results::one(outcome));
        Ok(task)
    }
}

impl<F, Args> SubmitMany<F, Args> for InlineCrew
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
        _: &Terms,
    ) -> Result<TaskId, PoolError> {
        let task = self.begin()?;
        let (begun, most) = (nanos(), most.min(items.len()));
        let mut outcomes: Vec<_> =
            items.drain(..most).map(|args| self.run(task, || f.call(args))).collect();
        let took = nanos().saturating_sub(begun).max(1);
        sink.deliver(first, &mut Results::many(&mut outcomes).took(took));
        Ok(task)
    }
}

/// Whatever was handed over is over.
impl Crew for InlineCrew {
    fn help(&self, _: Option<TaskId>, _: Deadline, done: &mut dyn FnMut() -> bool) -> bool {
        done()
    }

    fn collect(&self) {}

    fn withdraw(&self, _: TaskId) -> bool {
        false
    }

    fn withdraw_all(&self) {}

    fn abort(&self, _: TaskId) -> bool {
        false
    }

    fn is_running(&self, _: TaskId) -> bool {
        false
    }

    fn attend(&self) {}

    fn post(&self, job: Box<dyn FnOnce() + Send>) {
        quietly(job);
    }

    fn width(&self) -> usize {
        1
    }

    fn room(&self) -> usize {
        1
    }

    fn state(&self) -> PoolState {
        if self.closed.load(Ordering::Relaxed) { PoolState::Ended } else { PoolState::Running }
    }

    fn cause(&self) -> Option<Arc<PoolError>> {
        None
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn terminate(&self) {
        self.close();
    }

    fn join(&self, _: Deadline) -> Result<(), PoolError> {
        match self.state() {
            PoolState::Running => Err(PoolError::StillRunning),
            _ => Ok(()),
        }
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        Vec::new()
    }

    fn statistics(&self) -> Statistics {
        self.counters.read()
    }

    fn resize(&self, _: RangeInclusive<usize>) -> Result<(), PoolError> {
        Ok(())
    }
}
