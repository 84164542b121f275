//! Room for one plain item in shared memory, guarded by the protocol of the word beside it.

use bytemuck::Pod;

/// Room for one item of plain data. Whoever holds the claim on it reads or writes it by copying; no reference
/// to the inside is ever made, since another process may write there.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(transparent))]
pub struct ItemCell<T>(
    #[cfg(not(loom))] core::cell::UnsafeCell<core::mem::MaybeUninit<T>>,
    #[cfg(loom)] loom::cell::UnsafeCell<core::mem::MaybeUninit<T>>,
    /// The same, for glimpses, which loom would call races.
    #[cfg(loom)]
    core::cell::UnsafeCell<core::mem::MaybeUninit<T>>,
);

// SAFETY: every access goes through the unsafe methods below, whose callers hold the claim that excludes others;
// plain data may be moved between threads.
unsafe impl<T: Pod> Sync for ItemCell<T> {}
// SAFETY: plain data has no tie to a thread.
unsafe impl<T: Pod> Send for ItemCell<T> {}

impl<T: Pod> ItemCell<T> {
    /// An empty room.
    #[must_use]
    pub fn empty() -> Self {
        #[cfg(not(loom))]
        return Self(core::cell::UnsafeCell::new(core::mem::MaybeUninit::zeroed()));
        #[cfg(loom)]
        return Self(
            loom::cell::UnsafeCell::new(core::mem::MaybeUninit::zeroed()),
            core::cell::UnsafeCell::new(core::mem::MaybeUninit::zeroed()),
        );
    }

    /// Where the item lies. The pointer is good as long as the memory is mapped; use it under the claim only.
    #[cfg(not(loom))]
    #[inline]
    pub fn as_ptr(&self) -> *mut T {
        self.0.get().cast()
    }

    /// Copies `item` in.
    ///
    /// # Safety
    /// The caller holds the claim that keeps every living process from this cell.
    #[inline]
    pub unsafe fn write(&self, item: T) {
        #[cfg(not(loom))]
        // SAFETY: the cell is memory of this type, and the caller's claim excludes others.
        unsafe {
            self.as_ptr().write(item);
        }
        #[cfg(loom)]
        // SAFETY: as above; loom checks the claim. A model's threads run in turns.
        unsafe {
            self.0.with_mut(|place| place.cast::<T>().write(item));
            self.1.get().cast::<T>().write(item);
        }
    }

    /// Copies out what is there, without any claim: perhaps a mixture of items. The caller finds out afterwards whether it
    /// was one, and throws it away if not.
    #[inline]
    pub fn glimpse(&self) -> T {
        #[cfg(not(loom))]
        // SAFETY: the memory is mapped and readable; every bit pattern is a value of plain data. Volatile: others may write
        // there meanwhile, so each part is read once, here.
        unsafe {
            self.as_ptr().read_volatile()
        }
        // A model tells no mixtures: it copies at one moment, and shows what lay there then.
        #[cfg(loom)]
        // SAFETY: a model's threads run in turns, and none changes over within this copy.
        return unsafe { (*self.1.get()).assume_init() };
    }

    /// Copies the item out.
    ///
    /// # Safety
    /// The caller holds the claim that keeps every living process from writing to this cell.
    #[inline]
    pub unsafe fn read(&self) -> T {
        #[cfg(not(loom))]
        // SAFETY: the memory is mapped and readable; every bit pattern is a value of plain data.
        unsafe {
            self.as_ptr().read()
        }
        #[cfg(loom)]
        // SAFETY: as above; loom checks the claim.
        return self.0.with(|place| unsafe { place.cast::<T>().read() });
    }
}
