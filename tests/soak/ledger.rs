//! Words that all processes see, and that nothing tested knows.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::SLOTS;

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

/// A word for each slot, which only its process changes.
#[derive(Clone, Copy)]
pub struct Ledger(Words);

impl Ledger {
    /// All 0.
    pub fn new() -> Ledger {
        // Not in the same cache line.
        Ledger(Words::new(SLOTS * 8))
    }

    /// The word of a slot.
    pub fn get(self, slot: usize) -> u64 {
        self.0.get(slot * 8)
    }

    /// Sets it.
    pub fn set(self, slot: usize, value: u64) {
        self.0.set(slot * 8, value);
    }

    /// Adds to it.
    pub fn add(self, slot: usize, more: u64) {
        self.0.add(slot * 8, more);
    }

    /// The sum over all slots.
    pub fn sum(self) -> u64 {
        self.0.sum()
    }
}

/// An array under a lock.
pub trait Look {
    /// Reads one.
    fn get(&self, at: usize) -> u64;
}

/// An array under a lock, which its holder may change.
pub trait Cells: Look {
    /// Writes one.
    fn set(&mut self, at: usize, value: u64);
}

impl Look for Words {
    fn get(&self, at: usize) -> u64 {
        Words::get(*self, at)
    }
}

impl Cells for Words {
    fn set(&mut self, at: usize, value: u64) {
        Words::set(*self, at, value);
    }
}

impl<const N: usize> Look for &[u64; N] {
    fn get(&self, at: usize) -> u64 {
        self[at]
    }
}

impl<const N: usize> Look for &mut [u64; N] {
    fn get(&self, at: usize) -> u64 {
        self[at]
    }
}

impl<const N: usize> Cells for &mut [u64; N] {
    fn set(&mut self, at: usize, value: u64) {
        self[at] = value;
    }
}
