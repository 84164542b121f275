//! Words that only the holder of the store's lock reads and writes.
//!
//! They are atomics because nothing in shared memory is trusted to keep to that. To the model checker they are plain memory: it
//! reports whoever touches one without the lock, and need not try every order of accesses that the lock orders.

#[cfg(not(loom))]
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};

macro_rules! note {
    ($name:ident, $number:ty, $atomic:ident) => {
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub(super) struct $name(
            #[cfg(not(loom))] $atomic,
            #[cfg(loom)] loom::cell::UnsafeCell<$number>,
        );

        #[cfg(loom)]
        // SAFETY: a plain number; loom itself checks that its accesses do not meet.
        unsafe impl Sync for $name {}

        #[cfg(loom)]
        impl $name {
            pub(super) fn new(value: $number) -> Self {
                Self(loom::cell::UnsafeCell::new(value))
            }
        }

        impl $name {
            #[inline]
            pub(super) fn get(&self) -> $number {
                // Relaxed: the lock orders it.
                #[cfg(not(loom))]
                return self.0.load(Ordering::Relaxed);
                #[cfg(loom)]
                // SAFETY: the pointer is to the number inside; loom reports an access beside it.
                return self.0.with(|place| unsafe { *place });
            }

            #[inline]
            pub(super) fn set(&self, value: $number) {
                // Relaxed: the lock orders it.
                #[cfg(not(loom))]
                self.0.store(value, Ordering::Relaxed);
                #[cfg(loom)]
                // SAFETY: as above.
                self.0.with_mut(|place| unsafe { *place = value });
            }
        }
    };
}

note!(Note, u32, AtomicU32);
note!(Note64, u64, AtomicU64);
