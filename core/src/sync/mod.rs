//! Synchronisation in shared memory.

mod atomic;
mod barrier;
mod condition;
#[cfg(not(loom))]
mod data;
mod error;
mod event;
mod latch;
mod living;
mod lock;
#[cfg(not(loom))]
mod mutex;
mod once;
#[cfg(not(loom))]
mod once_cell;
mod rlock;
#[cfg(not(loom))]
mod rwdata;
mod rwlock;
mod semaphore;
mod seqlock;

pub use atomic::{Atomic, AtomicNumber, AtomicType};
#[cfg(loom)]
pub use barrier::BarrierHead;
#[cfg(not(loom))]
pub use barrier::BarrierPlaceError;
pub use barrier::{Barrier, BarrierError, Broken, MOST_PARTIES, Reason};
pub use condition::{Condition, ConditionError, Hold};
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
pub use once::{Once, OnceError};
#[cfg(not(loom))]
pub use once_cell::OnceCell;
pub use rlock::{RAcquired, RLock, RLockGuard};
#[cfg(not(loom))]
pub use rwdata::{RwData, RwDataReadGuard, RwDataUpgradableReadGuard, RwDataWriteGuard};
pub use rwlock::{
    NotUpgraded, Read, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard,
    UpgradableRead, Upgrade, UpgradeError, Write,
};
#[cfg(not(loom))]
pub use semaphore::SemaphorePlaceError;
pub use semaphore::{MOST_UNITS, Permit, PermitError, Semaphore};
pub use seqlock::SeqLock;

/// Objects on the heap for the model checker.
#[cfg(loom)]
pub mod model {
    pub use super::latch::Heap as LatchHeap;
    pub use super::semaphore::Heap as SemaphoreHeap;
}
