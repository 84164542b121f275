//! Synchronisation in shared memory.

mod condition;
#[cfg(not(loom))]
mod data;
mod error;
mod event;
mod lock;
#[cfg(not(loom))]
mod mutex;
mod rlock;

pub use condition::{Condition, ConditionError, Hold};
#[cfg(not(loom))]
pub use data::DataError;
pub use error::{AcquireError, OwnerDied, ReleaseError, WaitError};
pub use event::Event;
pub use lock::{Lock, LockGuard};
#[cfg(not(loom))]
pub use mutex::{Mutex, MutexGuard};
pub use rlock::{RAcquired, RLock, RLockGuard};
