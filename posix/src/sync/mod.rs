//! Synchronisation between the processes of a tree, as handles that travel.

mod lock;
mod shared;

pub use lock::{AcquireError, Lock};
pub use procession_core::region::{Sleeper, Who};
pub use procession_core::sync::{LockGuard, OwnerDied, ReleaseError, WaitError};
pub use procession_core::sys::Deadline;
