//! Memory that forked processes share.

use std::sync::atomic::AtomicU32;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// A piece of memory that the processes of a scene share: address and length in bytes.
#[derive(Clone, Copy)]
pub struct Span {
    pub start: usize,
    pub len: usize,
}

/// Zeroed memory that forked processes share. It lives as long as the process that mapped it.
#[derive(Clone, Copy)]
pub struct Memory {
    start: *mut u8,
    len: usize,
}

impl Memory {
    /// Maps `len` bytes.
    pub fn new(len: usize) -> Memory {
        let flags = MapFlags::SHARED;
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)
        };
        Memory { start: start.expect("memory for a scene").cast(), len }
    }

    /// The first byte.
    pub fn start(self) -> *mut u8 {
        self.start
    }

    /// All of it.
    pub fn span(self) -> Span {
        Span { start: self.start as usize, len: self.len }
    }

    /// The counters that fill this memory.
    pub fn counters(self) -> &'static [AtomicU32] {
        // SAFETY: the mapping is zeroed, aligned to a page, never unmapped, and only ever seen as
        // atomics, for which shared references are sound.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.len / 4) }
    }
}
