//! A heap in which equal steps find equal addresses, as far as copying is concerned.
//!
//! How `memcpy` goes about its work depends on where source and destination lie in their cache lines
//! and pages, and that on all that was allocated before. Here it does not, so that what was recorded
//! in one take can be found again in the next.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's heap, with everything at the start of a line, or of a page if it is longer than that.
pub struct Orderly;

impl Orderly {
    fn layout(layout: Layout) -> Layout {
        let align = if layout.size() < 256 { 64 } else { 4096 };
        layout.align_to(align).unwrap_or(layout)
    }
}

// SAFETY: passes everything on to the system's heap, with an alignment that follows from the layout,
// and is at least the one asked for. `realloc` is the trait's own, which calls these.
unsafe impl GlobalAlloc for Orderly {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the size is the caller's, and not zero by its promise.
        unsafe { System.alloc(Self::layout(layout)) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: allocated above with the same layout, by the caller's promise.
        unsafe { System.dealloc(place, Self::layout(layout)) }
    }
}
