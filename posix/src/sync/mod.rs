//! Synchronisation between the processes of a tree, as handles that travel.

mod lock;

pub use lock::{AcquireError, Lock, LockGuard};
pub use procession_core::sync::OwnerDied;
pub use procession_core::sys::Deadline;
