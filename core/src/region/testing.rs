//! Memory for the unit tests.

use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};

use super::{Fixed, Options, Region, RegionError};
use crate::sys::atomic::AtomicU32;

/// Zeroed memory on the heap, at a page's start.
pub(crate) struct Bytes(NonNull<u8>, usize);

impl Bytes {
    pub fn new(length: usize) -> Self {
        let layout = Layout::from_size_align(length, 4096).unwrap();
        // SAFETY: the layout has a size.
        Self(NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap(), length)
    }

    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.1);
        // SAFETY: in bounds, and aligned by the caller.
        unsafe { self.0.add(offset).cast().as_ref() }
    }

    pub fn create(&self) -> Result<Region<'_>, RegionError> {
        // SAFETY: the memory is this test's own, zeroed, and lives as long as the region.
        unsafe {
            Region::create(self.0, self.1 as u64, Options { id: 7, ..Options::default() }, &Fixed)
        }
    }

    pub fn attach(&self, length: usize) -> Result<Region<'_>, RegionError> {
        // SAFETY: as above.
        unsafe { Region::attach(self.0, length as u64, &Fixed) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0.as_ptr(), Layout::from_size_align(self.1, 4096).unwrap()) }
    }
}

// SAFETY: only views of atomics are made of it.
unsafe impl Sync for Bytes {}
