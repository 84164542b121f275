//! Synchronisation in shared memory.

mod lock;

pub use lock::{AcquireError, Lock, LockGuard, OwnerDied};
