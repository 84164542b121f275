//! Executors over threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::executor::{self, Executor, Face, Shutdown, in_process};
use super::{ExecutorMap, Future};
use crate::process::{Target, cpu_count};
use crate::task::{Call, CallOnce, Crew, PoolError, PoolState, Statistics, Terms};
use crate::thread::{Initializer, ThreadCrew, ThreadOptions};

/// Runs functions on threads of this process, which it starts as they are needed. An idle thread is used before another one is
/// started.
///
/// A task may submit others and wait for them: a thread of the executor that waits for a future, or for several, runs those of
/// its own executor that nobody has begun. Only those: where it waits for something else, which waits for a task in the queue behind it, there
/// has to be another thread. A panic is the error of its own task.
///
/// Dropping the executor, also by the unwinding of a panic, shuts it down and waits for all tasks, however long that takes, unless
/// [`shutdown`](Executor::shutdown) was called before; see [`Executor`](Executor#dropping).
///
/// While it has threads this process cannot start others by [`StartMethod::Fork`](crate::process::StartMethod::Fork).
///
/// ```
/// use procession_posix::futures::ThreadPoolExecutor;
///
/// let executor = ThreadPoolExecutor::builder().max_workers(4).thread_name_prefix("pages").build()?;
/// let greeting = String::from("hello");
/// let future = executor.submit(move || format!("{greeting} from {:?}", std::thread::current().name()), ())?;
/// assert_eq!(future.result()?, "hello from Some(\"pages_0\")");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ThreadPoolExecutor {
    face: Face<ThreadCrew>,
}

in_process!(ThreadPoolExecutor);

impl ThreadPoolExecutor {
    /// With up to four threads more than there are processors, 32 at most: tasks on threads are mostly waiting for
    /// something. Starts none yet.
    ///
    /// # Errors
    /// None at present.
    pub fn new() -> Result<Self, PoolError> {
        Self::builder().build()
    }

    /// To say more about it.
    pub fn builder() -> ThreadPoolExecutorBuilder {
        ThreadPoolExecutorBuilder {
            max_workers: (cpu_count() + 4).min(32),
            prefix: None,
            initializer: None,
            idle_timeout: None,
            terms: Terms::default(),
        }
    }

    /// The names of the threads that there are.
    pub fn thread_names(&self) -> Vec<String> {
        self.face.crew().workers().into_iter().map(|worker| worker.name).collect()
    }
}

/// How a [`ThreadPoolExecutor`] is to be.
#[must_use = "it makes no executor before it is built"]
pub struct ThreadPoolExecutorBuilder {
    max_workers: usize,
    prefix: Option<String>,
    initializer: Option<Initializer>,
    idle_timeout: Option<Duration>,
    terms: Terms,
}

impl std::fmt::Debug for ThreadPoolExecutorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadPoolExecutorBuilder")
            .field("max_workers", &self.max_workers)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl ThreadPoolExecutorBuilder {
    /// How many threads there are at most: at least 1.
    pub fn max_workers(mut self, threads: usize) -> Self {
        self.max_workers = threads;
        self
    }

    /// What the threads are called, followed by `_0`, `_1`, ... Without it that is `ThreadPoolExecutor-0`,
    /// `ThreadPoolExecutor-1`, ... for one executor after the other.
    pub fn thread_name_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// What each thread calls before its first task. If it panics the executor is broken, with that as the cause.
    pub fn initializer<F, Args>(mut self, f: F, args: Args) -> Self
    where
        F: Call<Args>,
        Args: Clone + Send + Sync + 'static,
    {
        self.initializer = Some(Arc::new(move || drop(f.call(args.clone()))));
        self
    }

    /// A thread leaves when it had nothing to do for so long. Without it threads stay.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// How long one task may run. A thread cannot be ended: a task that is late fails, its thread goes on with it and leaves
    /// then, and another one takes its place at once. Nobody waits for the late one.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.terms.deadline = Some(deadline);
        self
    }

    /// Makes the executor. Starts no thread yet.
    ///
    /// # Errors
    /// [`PoolError::Zero`] for no threads at all.
    pub fn build(self) -> Result<ThreadPoolExecutor, PoolError> {
        let prefix = self.prefix.unwrap_or_else(|| {
            static EXECUTORS: AtomicU64 = AtomicU64::new(0);
            // Relaxed: only a number.
            format!("ThreadPoolExecutor-{}", EXECUTORS.fetch_add(1, Ordering::Relaxed))
        });
        let mut options =
            ThreadOptions::new(0..=self.max_workers, move |number| format!("{prefix}_{number}"));
        options.initializer = self.initializer;
        options.idle_timeout = self.idle_timeout;
        Ok(ThreadPoolExecutor { face: Face::new(ThreadCrew::with(options)?, self.terms) })
    }
}

/// Runs functions on one thread, one after the other, in the order in which they were submitted: for tests, and for what must
/// not be done by two at a time. All else is as with [`ThreadPoolExecutor`].
///
/// ```
/// use procession_posix::futures::SingleThreadExecutor;
///
/// let executor = SingleThreadExecutor::new()?;
/// let mut log = Vec::new();
/// for line in executor.map(|n: u32| format!("line {n}"), 0..3) {
///     log.push(line?);
/// }
/// assert_eq!(log, ["line 0", "line 1", "line 2"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SingleThreadExecutor {
    face: Face<ThreadCrew>,
}

in_process!(SingleThreadExecutor);

impl SingleThreadExecutor {
    /// Makes the executor. Its thread is started with the first task.
    ///
    /// # Errors
    /// None at present.
    pub fn new() -> Result<Self, PoolError> {
        let options = ThreadOptions::new(0..=1, |_| "SingleThreadExecutor".into());
        Ok(SingleThreadExecutor { face: Face::new(ThreadCrew::with(options)?, Terms::default()) })
    }
}
