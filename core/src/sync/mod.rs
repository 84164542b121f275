//! Synchronisation in shared memory.

mod error;
mod lock;

pub use error::{AcquireError, OwnerDied, ReleaseError, WaitError};
pub use lock::{Lock, LockGuard};
