//! What is written down of each process, in words that nothing tested knows.

use crate::SLOTS;
pub use crate::support::words::Words;

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
