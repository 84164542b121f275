//! Memory that a forked child shares with its parent.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::Result;

/// Zeroed bytes, mapped shared: what one process writes after a fork the other sees.
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes and touches each page, so that no measurement pays for the first touch.
    pub fn new(len: usize) -> Result<Self> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)?
        };
        let base = NonNull::new(base.cast()).ok_or("mmap answered with address 0")?;
        Ok(Self { base, len })
    }

    /// The first byte; aligned to a page.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The length in bytes, as it was asked for.
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone; whoever borrowed from it borrowed from `self` and is gone.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the mapping belongs to no thread, and the methods only give out its address.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Types that are valid as zeroes and are only changed through atomics or under a lock of their own.
///
/// # Safety
/// All zeroes must be a valid value, and `&T` in two processes at once must be as sound as in two threads.
pub unsafe trait Zeroed: Sync {}

/// One `T` that a forked child shares.
pub struct Shared<T: Zeroed> {
    mapping: Mapping,
    kind: PhantomData<T>,
}

impl<T: Zeroed> Shared<T> {
    /// Maps a `T` of zeroes.
    pub fn new() -> Result<Self> {
        Ok(Self { mapping: Mapping::new(size_of::<T>())?, kind: PhantomData })
    }
}

impl<T: Zeroed> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is as large as a T, aligned to a page, zeroed at first, and lives as long as `self`.
        // `Zeroed` says that zeroes are a T and that sharing it is sound.
        unsafe { self.mapping.base().cast::<T>().as_ref() }
    }
}
