//! What lies under the lock that the threads of a crew and their callers share. Nothing in here waits, or calls anybody.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar};
use std::thread::{JoinHandle, ThreadId};

use procession_core::sys::Deadline;

use super::job::Task;
use crate::task::{PoolError, PoolState, TaskId};

/// A job of the courier.
pub(super) type Post = Box<dyn FnOnce() + Send>;

/// What lies under the desk's lock.
pub(super) struct Table {
    pub(super) state: PoolState,
    pub(super) cause: Option<Arc<PoolError>>,
    pub(super) least: usize,
    pub(super) most: usize,
    /// The task at `i` has the id `first + i`; `None` was withdrawn.
    pub(super) queue: VecDeque<Option<Arc<Task>>>,
    pub(super) first: u64,
    /// How many of them there are, and how many items they have.
    pub(super) queued: usize,
    pub(super) queued_items: u64,
    pub(super) running: Vec<Running>,
    /// Taken from the queue or from `running` to be failed, which has not happened yet.
    pub(super) failing: usize,
    /// Threads that run tasks or are about to. Those that are late do not count.
    pub(super) width: usize,
    /// How many threads have been started.
    pub(super) started: u64,
    pub(super) failed_starts: u32,
    /// Threads without a task, and how many of these are asleep.
    pub(super) idle: usize,
    pub(super) asleep: usize,
    /// Threads whose task was late: they leave when it returns.
    pub(super) astray: Vec<u64>,
    pub(super) helpers: Vec<Arc<Helper>>,
    /// All threads that nobody has joined yet; also those that have left.
    pub(super) threads: Vec<(Option<u64>, JoinHandle<()>)>,
    pub(super) posts: VecDeque<Post>,
    /// The courier: none, or which.
    pub(super) courier: Option<ThreadId>,
    /// Until when the watch sleeps, if there is one.
    pub(super) watch: Option<Deadline>,
}

/// A task that a thread runs.
pub(super) struct Running {
    pub(super) task: Arc<Task>,
    /// The thread's number.
    pub(super) thread: u64,
    /// When it is late.
    pub(super) ends: Option<Deadline>,
}

/// Somebody who waits for results.
pub(super) struct Helper {
    pub(super) task: Option<TaskId>,
    pub(super) bell: Condvar,
    /// Written under the lock.
    pub(super) rung: AtomicBool,
}

/// Whether there can be so many threads.
pub(super) fn check(threads: &RangeInclusive<usize>) -> Result<(), PoolError> {
    if *threads.end() == 0 || threads.is_empty() {
        return Err(PoolError::Zero { what: "the number of workers" });
    }
    Ok(())
}

impl Table {
    pub(super) fn new(threads: RangeInclusive<usize>) -> Self {
        Table {
            state: PoolState::Running,
            cause: None,
            least: *threads.start(),
            most: *threads.end(),
            queue: VecDeque::new(),
            first: 0,
            queued: 0,
            queued_items: 0,
            running: Vec::new(),
            failing: 0,
            width: 0,
            started: 0,
            failed_starts: 0,
            idle: 0,
            asleep: 0,
            astray: Vec::new(),
            helpers: Vec::new(),
            threads: Vec::new(),
            posts: VecDeque::new(),
            courier: None,
            watch: None,
        }
    }

    /// Whether its last thread has left, and there will be no more.
    pub(super) fn is_over(&self) -> bool {
        self.width == 0
            && match self.state {
                PoolState::Running => false,
                PoolState::Closed => self.queued == 0,
                PoolState::Terminating | PoolState::Broken | PoolState::Ended => true,
            }
    }

    /// Whether nothing can be delivered any more.
    pub(super) fn is_silent(&self) -> bool {
        let ending = !matches!(self.state, PoolState::Running | PoolState::Closed);
        (ending || self.is_over())
            && self.queued == 0
            && self.running.is_empty()
            && self.failing == 0
    }

    pub(super) fn takes_tasks(&self) -> Result<(), PoolError> {
        match (&self.cause, self.state) {
            (Some(cause), _) => Err(PoolError::Broken { cause: cause.clone() }),
            (None, PoolState::Running) => Ok(()),
            (None, state) => Err(PoolError::NotRunning { state }),
        }
    }

    /// Whether this thread has nothing more to do here.
    pub(super) fn must_leave(&self, thread: u64) -> bool {
        self.width > self.most
            || self.astray.contains(&thread)
            || match self.state {
                PoolState::Running => false,
                PoolState::Closed => self.queued == 0,
                PoolState::Terminating | PoolState::Broken | PoolState::Ended => true,
            }
    }

    /// The tasks that are late. Their threads do not count any more, and nobody waits for them.
    pub(super) fn late(&mut self) -> Vec<Arc<Task>> {
        let late = |running: &&Running| running.ends.is_some_and(Deadline::is_past);
        let late: Vec<_> =
            self.running.iter().filter(late).map(|r| (r.task.clone(), r.thread)).collect();
        for &(_, thread) in &late {
            if !self.astray.contains(&thread) {
                self.astray.push(thread);
                self.width -= 1;
                self.threads.retain(|(number, _)| *number != Some(thread));
            }
        }
        late.into_iter().map(|(task, _)| task).collect()
    }

    /// Takes the oldest one out of the queue.
    pub(super) fn pop(&mut self) -> Option<Arc<Task>> {
        while let Some(front) = self.queue.pop_front() {
            self.first += 1;
            if let Some(task) = front {
                return Some(self.unqueued(task));
            }
        }
        None
    }

    /// Takes all out of the queue.
    pub(super) fn pop_all(&mut self) -> Vec<Arc<Task>> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// Takes this one out of the queue, if nobody has begun it.
    pub(super) fn pick(&mut self, id: TaskId) -> Option<Arc<Task>> {
        let index = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        let task = self.queue.get_mut(index)?.take()?;
        Some(self.unqueued(task))
    }

    pub(super) fn unqueued(&mut self, task: Arc<Task>) -> Arc<Task> {
        self.queued -= 1;
        self.queued_items -= task.items();
        task
    }

    /// Rings for those who wait for this task, or for any; for all, if it is not of one task.
    pub(super) fn ring(&mut self, task: Option<TaskId>) {
        for helper in &self.helpers {
            if task.is_none() || helper.task.is_none() || helper.task == task {
                // Relaxed: read under the same lock.
                helper.rung.store(true, Ordering::Relaxed);
                helper.bell.notify_one();
            }
        }
    }
}
