//! Synchronisation between the processes of a tree, as handles that travel.

mod condition;
mod event;
mod lock;
mod mutex;
mod rlock;
mod shared;
pub(crate) mod wait;

pub use condition::{Condition, ConditionGuard};
pub use event::Event;
pub use lock::{AcquireError, Lock};
pub use mutex::Mutex;
pub use procession_core::region::{Sleeper, Who};
pub use procession_core::sync::{
    ConditionError, Hold, LockGuard, MutexGuard, OwnerDied, RLockGuard, ReleaseError, WaitError,
};
pub use procession_core::sys::Deadline;
pub use rlock::RLock;
pub use wait::{Waitable, wait_any, wait_any_timeout, wait_any_until};
