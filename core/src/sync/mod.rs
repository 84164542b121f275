//! Synchronisation in shared memory.

#[cfg(not(loom))]
mod data;
mod error;
mod event;
mod latch;
mod living;
mod lock;
#[cfg(not(loom))]
mod mutex;
mod semaphore;

#[cfg(not(loom))]
pub use data::DataError;
pub use error::{AcquireError, OwnerDied, ReleaseError, WaitError};
pub use event::Event;
pub use latch::{Latch, LatchError, Part};
#[cfg(not(loom))]
pub use latch::{LatchPlaceError, MOST_PARTS};
pub use lock::{Lock, LockGuard};
#[cfg(not(loom))]
pub use mutex::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub use semaphore::SemaphorePlaceError;
pub use semaphore::{MOST_UNITS, Permit, PermitError, Semaphore};

/// Objects on the heap for the model checker.
#[cfg(loom)]
pub mod model {
    pub use super::latch::Heap as LatchHeap;
    pub use super::semaphore::Heap as SemaphoreHeap;
}
