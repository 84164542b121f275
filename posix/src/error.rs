//! One error for programs that use several families.

use procession_core::sync::{
    AcquireError, BarrierError, ConditionError, LatchError, NotUpgraded, OnceError, PermitError,
    ReleaseError, UpgradeError, WaitError,
};
use procession_core::value::ValueError;

use crate::channel::{
    CreateError, GetError, GetManyError, JoinTasksError, PublishError, PutError, ReceiveError,
    RecvError, RoleError, SendError, SubscribeError, TaskDoneError,
};
use crate::futures::Unfinished;
use crate::memory::{HandleError, MemoryError, SharedMemoryError};
use crate::pool::{PoolError, TaskError};
use crate::process::{JoinError, StartError, StillRunning};
use crate::sync::{BarrierCreateError, LatchCreateError, SemaphoreError};

/// Whatever can go wrong in this library, for functions that use `?` across its families. Each family has an error of its
/// own with all details; this one holds it.
///
/// An acquire that ends in [`AcquireError::OwnerDied`] carries the lock's guard. Turned into this error by `?`, the guard is
/// dropped, the lock released, and the next holder told the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shared memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Shared memory with a name.
    #[error(transparent)]
    SharedMemory(#[from] SharedMemoryError),
    /// Making a queue.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Putting an object.
    #[error(transparent)]
    Put(#[from] PutError),
    /// Getting an object.
    #[error(transparent)]
    Get(#[from] GetError),
    /// Declaring an object done.
    #[error(transparent)]
    TaskDone(#[from] TaskDoneError),
    /// Waiting until all objects are done.
    #[error(transparent)]
    JoinTasks(#[from] JoinTasksError),
    /// Publishing an object.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Receiving an object that was published.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// Subscribing.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// Becoming the publisher.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// Sending a message.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Receiving a message.
    #[error(transparent)]
    Recv(#[from] RecvError),
    /// Acquiring a lock.
    #[error(transparent)]
    Acquire(AcquireError<()>),
    /// Making a semaphore.
    #[error(transparent)]
    Semaphore(#[from] SemaphoreError),
    /// Acquiring a unit of a semaphore.
    #[error(transparent)]
    Permit(#[from] PermitError),
    /// Making a latch.
    #[error(transparent)]
    LatchCreate(#[from] LatchCreateError),
    /// Waiting for a latch, or doing a part of it.
    #[error(transparent)]
    Latch(#[from] LatchError),
    /// Making a barrier.
    #[error(transparent)]
    BarrierCreate(#[from] BarrierCreateError),
    /// Waiting at a barrier.
    #[error(transparent)]
    Barrier(BarrierError<String>),
    /// Doing something once.
    #[error(transparent)]
    Once(OnceError<String>),
    /// Waiting.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// Becoming a writer.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// Waiting on a condition, or notifying.
    #[error(transparent)]
    Condition(#[from] ConditionError),
    /// Releasing.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A value or an array.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A handle that came from elsewhere.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// Starting a process.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A process ended without delivering its target's result.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A pool or an executor.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// What became of a task instead of its result.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Waiting for several futures.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// What went wrong in another process, in its words: an error of this type is a text when it travels, for example as
    /// the result of a process' target.
    #[error("{0}")]
    Elsewhere(String),
    /// Something outside this library.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl serde::Serialize for Error {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<T> From<GetManyError<T>> for Error {
    /// What was got with the error is dropped.
    fn from(error: GetManyError<T>) -> Self {
        Self::Get(error.error)
    }
}

impl<'de> serde::Deserialize<'de> for Error {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::Deserialize::deserialize(deserializer).map(Self::Elsewhere)
    }
}

impl<G> From<AcquireError<G>> for Error {
    fn from(error: AcquireError<G>) -> Self {
        Self::Acquire(error.map(drop))
    }
}

impl<R> From<StillRunning<R>> for Error {
    /// The handle is dropped; the process runs on.
    fn from(error: StillRunning<R>) -> Self {
        Self::Join(error.into())
    }
}

impl From<crate::channel::Unsent> for Error {
    fn from(unsent: crate::channel::Unsent) -> Self {
        Self::Put(unsent.error)
    }
}

impl<G> From<NotUpgraded<G>> for Error {
    fn from(not: NotUpgraded<G>) -> Self {
        Self::Upgrade(not.error())
    }
}

impl<E: std::fmt::Display> From<BarrierError<E>> for Error {
    fn from(error: BarrierError<E>) -> Self {
        Self::Barrier(error.map_action(|error| error.to_string()))
    }
}

impl<E: std::fmt::Display> From<OnceError<E>> for Error {
    fn from(error: OnceError<E>) -> Self {
        Self::Once(error.map_failed(|error| error.to_string()))
    }
}

impl From<crate::value::CreateError> for Error {
    fn from(error: crate::value::CreateError) -> Self {
        match error {
            crate::value::CreateError::Memory(error) => Self::Memory(error),
            crate::value::CreateError::Value(error) => Self::Value(error),
        }
    }
}

/// What most calls of this library can be collected in.
pub type Result<T, E = Error> = std::result::Result<T, E>;
