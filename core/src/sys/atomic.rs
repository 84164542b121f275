//! The atomics of this build: the processor's, or the model checker's.

#[cfg(not(loom))]
pub use core::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize, Ordering, compiler_fence, fence,
};

#[cfg(loom)]
pub use super::model::{AtomicU32, AtomicU64, fence};
#[cfg(loom)]
pub use core::sync::atomic::Ordering;
