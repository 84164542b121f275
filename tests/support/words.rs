//! Words that all processes see, and that nothing tested knows.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Some words, all 0 at first.
#[derive(Clone, Copy)]
pub struct Words(&'static [AtomicU64]);

impl Words {
    /// So many.
    pub fn new(count: usize) -> Words {
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let pages = unsafe {
            let flags = ProtFlags::READ | ProtFlags::WRITE;
            mmap_anonymous(std::ptr::null_mut(), count * 8, flags, MapFlags::SHARED)
        };
        let first = pages.expect("memory").cast::<AtomicU64>();
        // SAFETY: the pages are mapped for good, zeroed, as long as asked for, and only ever seen as these atomics.
        Words(unsafe { std::slice::from_raw_parts(first, count) })
    }

    /// One of them.
    pub fn get(self, at: usize) -> u64 {
        self.0[at].load(SeqCst)
    }

    /// Sets one.
    pub fn set(self, at: usize, value: u64) {
        self.0[at].store(value, SeqCst);
    }

    /// The same without an order, for who is alone with it.
    pub fn get_relaxed(self, at: usize) -> u64 {
        self.0[at].load(Relaxed)
    }

    /// The same without an order, for who is alone with it.
    pub fn set_relaxed(self, at: usize, value: u64) {
        self.0[at].store(value, Relaxed);
    }

    /// Adds to one, in one step.
    pub fn add(self, at: usize, more: u64) -> u64 {
        self.0[at].fetch_add(more, SeqCst)
    }

    /// Raises one to at least this.
    pub fn max(self, at: usize, value: u64) {
        self.0[at].fetch_max(value, SeqCst);
    }

    /// Sets one that is 0; what it is then.
    pub fn settle(self, at: usize, value: u64) -> u64 {
        match self.0[at].compare_exchange(0, value, SeqCst, SeqCst) {
            Ok(_) => value,
            Err(before) => before,
        }
    }

    /// The sum of all.
    pub fn sum(self) -> u64 {
        (0..self.0.len()).map(|at| self.get(at)).sum()
    }
}
