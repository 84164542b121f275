//! Synchronisation in shared memory.

mod barrier;
#[cfg(not(loom))]
mod data;
mod error;
mod event;
mod lock;
#[cfg(not(loom))]
mod mutex;
mod once;
#[cfg(not(loom))]
mod once_cell;

#[cfg(loom)]
pub use barrier::BarrierHead;
#[cfg(not(loom))]
pub use barrier::BarrierPlaceError;
pub use barrier::{Barrier, BarrierError, Broken, MOST_PARTIES, Reason};
#[cfg(not(loom))]
pub use data::DataError;
pub use error::{AcquireError, OwnerDied, ReleaseError, WaitError};
pub use event::Event;
pub use lock::{Lock, LockGuard};
#[cfg(not(loom))]
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceError};
#[cfg(not(loom))]
pub use once_cell::OnceCell;
