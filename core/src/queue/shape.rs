//! What kind of queue lies somewhere, of what items, and how many it can hold: written once, checked by whoever attaches.

#[cfg(not(loom))]
use crate::sys::atomic::Ordering;
use crate::sys::atomic::{AtomicU32, AtomicU64};

#[cfg(not(loom))]
use super::QueueError;

/// The most items that a queue can hold.
pub const MOST: u64 = 1 << 30;

/// The shape of a queue. All zero: no queue.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Shape {
    kind: AtomicU32,
    item: AtomicU32,
    capacity: AtomicU64,
}

#[cfg(loom)]
impl Default for Shape {
    fn default() -> Self {
        Self { kind: AtomicU32::new(0), item: AtomicU32::new(0), capacity: AtomicU64::new(0) }
    }
}

/// Whether a queue can have this capacity.
#[cfg(not(loom))]
pub(super) fn check(capacity: u64) -> Result<(), QueueError> {
    if (1..=MOST).contains(&capacity) {
        Ok(())
    } else {
        Err(QueueError::Capacity { asked: capacity, most: MOST })
    }
}

#[cfg(not(loom))]
impl Shape {
    /// Says that a queue lies here: the last store of its creator.
    pub fn write(&self, kind: u32, item: usize, capacity: u64) {
        self.item.store(item as u32, Ordering::Relaxed);
        self.capacity.store(capacity, Ordering::Relaxed);
        // Release meets the Acquire of `read`.
        self.kind.store(kind, Ordering::Release);
    }

    /// The capacity of the queue that lies here, if it is of this kind and of items of this size.
    pub fn read(&self, kind: u32, item: usize) -> Result<u64, QueueError> {
        let found_kind = self.kind.load(Ordering::Acquire);
        let found_size = self.item.load(Ordering::Relaxed);
        if found_kind != kind || found_size != item as u32 {
            let (asked_kind, asked_size) = (kind, item as u32);
            return Err(QueueError::Other { asked_kind, found_kind, asked_size, found_size });
        }
        self.sound_capacity()
    }

    /// The capacity of the queue of this kind that lies here, and the size of its items, whatever it is.
    pub fn read_any(&self, kind: u32) -> Result<(u64, u32), QueueError> {
        let item = self.item.load(Ordering::Relaxed);
        self.read(kind, item as usize).map(|capacity| (capacity, item))
    }

    fn sound_capacity(&self) -> Result<u64, QueueError> {
        let capacity = self.capacity.load(Ordering::Relaxed);
        check(capacity).map(|()| capacity).map_err(|_| QueueError::Damaged { capacity })
    }
}
