//! Synchronisation between the processes of a tree, as handles that travel.

mod atomic;
mod barrier;
mod condition;
mod event;
mod latch;
mod lock;
mod mutex;
mod once;
mod once_cell;
mod rlock;
mod rwdata;
mod rwlock;
mod semaphore;
mod seqlock;
mod shared;

pub use crate::wait::{Waitable, wait_any, wait_any_timeout, wait_any_until};
pub use atomic::Atomic;
pub use barrier::{Barrier, BarrierCreateError};
pub use condition::{Condition, ConditionGuard};
pub use event::Event;
pub use latch::{Latch, LatchCreateError};
pub use lock::Lock;
pub use mutex::Mutex;
pub use once::Once;
pub use once_cell::OnceCell;
pub use procession_core::region::{Sleeper, Who};
pub use procession_core::sync::{
    AcquireError, AtomicNumber, AtomicType, BarrierError, BarrierPlaceError, Broken,
    ConditionError, Hold, LatchError, LatchPlaceError, LockGuard, MutexGuard, NotUpgraded,
    OnceError, OwnerDied, Part, Permit, PermitError, RLockGuard, Reason, ReleaseError,
    RwDataReadGuard, RwDataUpgradableReadGuard, RwDataWriteGuard, RwLockReadGuard,
    RwLockUpgradableReadGuard, RwLockWriteGuard, SemaphorePlaceError, UpgradeError, WaitError,
};
pub use procession_core::sys::Deadline;
pub use rlock::RLock;
pub use rwdata::RwData;
pub use rwlock::RwLock;
pub use semaphore::{BoundedSemaphore, Semaphore, SemaphoreError};
pub use seqlock::SeqLock;
