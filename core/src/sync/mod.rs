//! Synchronisation in shared memory.

mod atomic;
#[cfg(not(loom))]
mod data;
mod error;
mod event;
mod lock;
#[cfg(not(loom))]
mod mutex;
#[cfg(not(loom))]
mod rwdata;
mod rwlock;
mod seqlock;

pub use atomic::{Atomic, AtomicNumber, AtomicType};
#[cfg(not(loom))]
pub use data::DataError;
pub use error::{AcquireError, OwnerDied, ReleaseError, WaitError};
pub use event::Event;
pub use lock::{Lock, LockGuard};
#[cfg(not(loom))]
pub use mutex::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub use rwdata::{RwData, RwDataReadGuard, RwDataUpgradableReadGuard, RwDataWriteGuard};
pub use rwlock::{
    NotUpgraded, Read, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard,
    UpgradableRead, Upgrade, UpgradeError, Write,
};
pub use seqlock::SeqLock;
