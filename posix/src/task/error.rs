//! What can become of a task instead of its result, and of a pool.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::PoolState;
use crate::memory::MemoryError;
use crate::process::{JoinError, StartError};

/// What became of a task that has no result. It concerns this task alone: others of its pool go on, but for
/// [`TaskError::Broken`] and [`TaskError::Terminated`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its function panicked. The worker lives on.
    #[error(
        "{task} panicked in process {pid}{}: {message}",
        location.as_ref().map(|at| format!(" at {at}")).unwrap_or_default()
    )]
    Panicked {
        /// Which task.
        task: Which,
        /// The process in which it ran.
        pid: u32,
        /// The panic's message.
        message: String,
        /// Where in the source it happened: file, line and column, if anybody noted it.
        location: Option<String>,
        /// How it came there, if the environment variable `RUST_BACKTRACE` asked for that.
        backtrace: Option<String>,
    },
    /// Its worker died while it ran it, or may have. It may have done its work before.
    #[error(
        "the worker (pid {pid}) of {task} {}, in attempt {attempt}; the task may be done in part or wholly: where it can \
         be done again, ask for that by Retry::idempotent",
        died(*signal, *code)
    )]
    WorkerDied {
        /// The worker's process id.
        pid: u32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// The status with which it left by itself: somebody called `exit`.
        code: Option<i32>,
        /// Which task.
        task: Which,
        /// The how manieth attempt that was, from 1 on.
        attempt: u32,
    },
    /// So many workers died of it that the pool runs it no more, see [`PoolBuilder::quarantine`](crate::pool::PoolBuilder::quarantine).
    #[error("{task} is quarantined: {deaths} workers died of it (last pid {pid})")]
    Quarantined {
        /// Which task.
        task: Which,
        /// How many workers died of it.
        deaths: u32,
        /// The last of them.
        pid: u32,
    },
    /// It ran longer than it was allowed to, and was ended with its worker.
    #[error("{task} ran for more than {limit:?} and was ended")]
    DeadlinePassed {
        /// Which task.
        task: Which,
        /// How long it was allowed to run.
        limit: Duration,
    },
    /// It was cancelled.
    #[error("the task was cancelled")]
    Cancelled,
    /// The caller's time ran out. The task goes on, and its result can be asked for again.
    #[error("no result within the time that was given; the task goes on")]
    TimedOut,
    /// Its function returned, but the result cannot be encoded.
    #[error("the result of {task} cannot be encoded: {message}")]
    Encode {
        /// Which task.
        task: Which,
        /// What the encoder said.
        message: String,
    },
    /// Its arguments cannot be decoded in the worker, or its result here.
    #[error("{what} of {task} cannot be decoded: {message}")]
    Decode {
        /// Which task.
        task: Which,
        /// What it is that cannot be decoded.
        what: Part,
        /// What the decoder said.
        message: String,
    },
    /// An item of a map cannot be encoded, or is too large. It was not run.
    #[error("the input of {task} cannot be sent: {message}")]
    Input {
        /// Which task.
        task: Which,
        /// What the encoder said.
        message: String,
    },
    /// The iterator of a map's inputs panicked. Calls were made with the inputs before.
    #[error("the iterator of the inputs panicked: {message}")]
    Iterator {
        /// The panic's message.
        message: String,
    },
    /// Its result is too large for the shared memory that there is.
    #[error("the result of {task} has {bytes} bytes, for which there is no room: {message}")]
    NoRoom {
        /// Which task.
        task: Which,
        /// The size of the encoded result.
        bytes: u64,
        /// What the memory said.
        message: String,
    },
    /// Its result was taken by another handle.
    #[error("the result was taken before, by this handle or another one of the same task")]
    Taken,
    /// The pool did not take it, or took only a part of a map.
    #[error(transparent)]
    Refused(Arc<PoolError>),
    /// The pool broke before it was done.
    #[error("the task was not done: {0}")]
    Broken(#[source] Arc<PoolError>),
    /// The pool was terminated, or dropped, before it was done. It may be done in part.
    #[error("the pool was terminated before the task was done")]
    Terminated,
}

impl From<PoolError> for TaskError {
    fn from(error: PoolError) -> Self {
        TaskError::Refused(Arc::new(error))
    }
}

/// The task that an error is about, borrowed as the error is.
macro_rules! about {
    ($error:expr) => {
        match $error {
            TaskError::Panicked { task, .. }
            | TaskError::WorkerDied { task, .. }
            | TaskError::Quarantined { task, .. }
            | TaskError::DeadlinePassed { task, .. }
            | TaskError::Encode { task, .. }
            | TaskError::Decode { task, .. }
            | TaskError::Input { task, .. }
            | TaskError::NoRoom { task, .. } => Some(task),
            TaskError::Cancelled
            | TaskError::TimedOut
            | TaskError::Iterator { .. }
            | TaskError::Taken
            | TaskError::Refused(_)
            | TaskError::Broken(_)
            | TaskError::Terminated => None,
        }
    };
}

impl TaskError {
    /// The index, from 0 on, of the map's input that this is about. `None` for a call that was no part of a map, and for what is not
    /// about one input alone.
    ///
    /// ```
    /// use procession_posix::pool::Pool;
    ///
    /// let pool = Pool::new(2)?;
    /// let error = pool.map(|x: u32| 100 / x, [5, 2, 0, 1]).unwrap_err();
    /// assert_eq!(error.item(), Some(2));
    /// assert!(error.to_string().starts_with("item 2 of the map panicked"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn item(&self) -> Option<u64> {
        match about!(self) {
            Some(Which::Item(index)) => Some(*index),
            Some(Which::Call(_)) | None => None,
        }
    }

    /// It became of this item of a map.
    pub(crate) fn is_of_item(&mut self, index: u64) {
        if let Some(task) = about!(self) {
            *task = Which::Item(index);
        }
    }
}

/// Which task an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// A call by itself: the how manieth task of its pool or executor that is, chunks of maps counted as one each.
    Call(u64),
    /// One of a map's calls: the index of its input, from 0 on.
    Item(u64),
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Which::Call(number) => write!(f, "task {number}"),
            Which::Item(index) => write!(f, "item {index} of the map"),
        }
    }
}

/// What crosses between a caller and a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// On the way to the worker.
    Arguments,
    /// On the way back.
    Result,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Arguments => "an argument",
            Part::Result => "the result",
        })
    }
}

fn died(signal: Option<i32>, code: Option<i32>) -> String {
    match (signal, code) {
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(code)) => format!("exited with status {code}"),
        (None, None) => "is gone".into(),
    }
}

/// What a pool or an executor cannot do, or why it is broken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// It takes no tasks any more.
    #[error("the pool is {state} and takes no tasks; make a new one")]
    NotRunning {
        /// Where it is in its life.
        state: PoolState,
    },
    /// It broke. All its tasks that were not over got [`TaskError::Broken`].
    #[error("the pool is broken: {cause}")]
    Broken {
        /// By what.
        #[source]
        cause: Arc<PoolError>,
    },
    /// A worker could not be started.
    #[error("a worker cannot be started: {0}")]
    Start(#[from] StartError),
    /// So many workers in a row were gone before they were ready: the initializer failed.
    #[error("{attempts} workers one after the other did not get ready: {cause}")]
    Initializer {
        /// How many.
        attempts: u32,
        /// What became of the last one: a [`JoinError`].
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A worker died, and the pool is strict.
    #[error("a worker died, and this pool is strict: {death}")]
    Strict {
        /// What became of the worker.
        #[source]
        death: Box<JoinError>,
    },
    /// Arguments cannot be encoded.
    #[error("the arguments cannot be encoded: {message}; nothing was handed over")]
    Encode {
        /// What the encoder said.
        message: String,
    },
    /// Arguments are larger than what can be handed over.
    #[error("the arguments have {bytes} bytes, at most {most} can be handed over")]
    TooLarge {
        /// The size of the encoded arguments.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// Something that must be at least 1 is 0.
    #[error("{what} is 0, it must be at least 1")]
    Zero {
        /// What it is.
        what: &'static str,
    },
    /// It is more than is possible.
    #[error("{what} is {asked}, at most {most} are possible")]
    TooMany {
        /// What it is.
        what: &'static str,
        /// What was asked for.
        asked: usize,
        /// The limit.
        most: usize,
    },
    /// It is not joined while it takes tasks.
    #[error("the pool is still running: close or terminate it before joining it")]
    StillRunning,
    /// The time ran out.
    #[error("the pool's workers have not all ended within the time that was given")]
    TimedOut,
    /// A thread of the pool waits for the end of the pool, which waits for this thread.
    #[error(
        "a thread of the pool cannot wait for the pool's end; close it here, and join it elsewhere"
    )]
    Within,
    /// This process has not made the pool: it was forked from the one that has.
    #[error("this pool belongs to process {owner}, of which this one was forked; make a pool here")]
    Forked {
        /// The process that made it.
        owner: u32,
    },
    /// There is no shared memory, or no room in it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The memory that the pool shares with its workers is damaged.
    #[error("the pool's shared memory is damaged: {what}; terminate the pool")]
    Corrupt {
        /// What was found.
        what: &'static str,
    },
    /// A thread, a descriptor or another resource is not to be had.
    #[error("cannot {what}: {source}")]
    Resource {
        /// What was attempted.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
