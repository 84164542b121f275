//! The books that a scene's processes keep about items.

use std::sync::atomic::{AtomicU32, Ordering};

use super::memory::Memory;
use super::operation::Audit;

/// How many items a [`Ledger`] knows.
const ITEMS: usize = 1024;

/// Who did what with which item. It lies outside the memory that is watched.
#[derive(Clone, Copy)]
pub struct Ledger {
    begun: &'static [AtomicU32],
    acknowledged: &'static [AtomicU32],
    received: &'static [AtomicU32],
    torn: &'static AtomicU32,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Ledger {
        let cells = Memory::new((3 * ITEMS + 1) * 4).counters();
        let (begun, cells) = cells.split_at(ITEMS);
        let (acknowledged, cells) = cells.split_at(ITEMS);
        let (received, cells) = cells.split_at(ITEMS);
        Ledger { begun, acknowledged, received, torn: &cells[0] }
    }

    /// Somebody is about to put this item.
    pub fn begin(&self, item: u64) {
        self.begun[item as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Putting this item returned success.
    pub fn acknowledge(&self, item: u64) {
        self.acknowledged[item as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Somebody got this item.
    pub fn receive(&self, item: u64) {
        match self.received.get(item as usize) {
            Some(cell) => cell.fetch_add(1, Ordering::SeqCst),
            None => self.tear(),
        };
    }

    /// Somebody saw half an item.
    pub fn tear(&self) -> u32 {
        self.torn.fetch_add(1, Ordering::SeqCst)
    }

    /// The books, when every item that is left has been received.
    pub fn audit(&self) -> Audit {
        let mut audit = Audit { torn: self.torn.load(Ordering::SeqCst), ..Audit::default() };
        for item in 0..ITEMS {
            let begun = self.begun[item].load(Ordering::SeqCst);
            let acknowledged = self.acknowledged[item].load(Ordering::SeqCst);
            let received = self.received[item].load(Ordering::SeqCst);
            audit.lost += acknowledged.saturating_sub(received);
            audit.doubled += received.saturating_sub(begun.max(1));
            audit.torn += u32::from(received > 0 && begun == 0);
        }
        audit
    }
}
