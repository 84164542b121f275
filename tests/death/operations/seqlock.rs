//! `SeqLock`: a writer that dies has written all or nothing, and readers never wait.

use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use procession_core::sync::{SeqLock, WaitError};
use procession_core::sys::Deadline;

use super::ground::Ground;
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Four words that belong together.
type Words = [u64; 4];

fn words(number: u64) -> Words {
    [number, !number, number.rotate_left(32), number.wrapping_mul(0x9E37_79B9_7F4A_7C15)]
}

/// A number that is counted up, in words that show whether they are whole.
pub struct Counter {
    ground: Ground,
    cell: &'static SeqLock<Words>,
    notes: &'static [AtomicU32],
    /// Whether the process that set the scene has claimed the cell.
    claimed: Cell<bool>,
}

/// What is noted outside the region: writes begun and acknowledged.
const BEGUN: usize = 0;
const ACKNOWLEDGED: usize = 1;

/// How often each survivor writes and reads.
const TURNS: u32 = 10;

impl Counter {
    fn new() -> &'static Counter {
        let ground = Ground::new(8);
        let cell: &SeqLock<Words> = ground.object(0);
        cell.set(ground.me(), words(0)).expect("a fresh cell");
        let notes = Memory::new(4096).counters();
        Box::leak(Box::new(Counter { cell, ground, notes, claimed: Cell::new(false) }))
    }

    /// A cell that the process which set the scene is writing to until the victim sleeps.
    fn claimed() -> &'static Counter {
        let counter = Counter::new();
        let tag = counter.ground.me().tag().expect("a seat");
        counter.word().fetch_or(tag.bits().into(), SeqCst);
        counter.claimed.set(true);
        counter
    }

    /// The word that claims the cell, which comes first in it.
    fn word(&self) -> &AtomicU64 {
        // SAFETY: a cell begins with an atomic of 64 bits.
        unsafe { &*std::ptr::from_ref(self.cell).cast() }
    }

    fn read(&self) -> Result<u64, Trouble> {
        let found = self.cell.get();
        if found != words(found[0]) {
            return Err(Trouble::Wrong(format!("a mixture: {found:x?}")));
        }
        Ok(found[0])
    }

    fn add(&self, patience: Duration) -> Result<(), Trouble> {
        self.notes[BEGUN].fetch_add(1, SeqCst);
        let deadline = Deadline::after(patience);
        let added = self.cell.update_until(self.ground.me(), deadline, |old| words(old[0] + 1));
        match added {
            Ok(_) => {}
            Err(WaitError::TimedOut) => return Err(Trouble::Late("it was never free".into())),
            Err(error) => return Err(Trouble::Wrong(error.to_string())),
        }
        self.notes[ACKNOWLEDGED].fetch_add(1, SeqCst);
        Ok(())
    }
}

impl Scene for Counter {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, _: u32, patience: Duration) -> Result<(), Trouble> {
        let mut last = 0;
        for _ in 0..TURNS {
            let now = self.read()?;
            if now < last {
                return Err(Trouble::Wrong(format!("{now} after {last}")));
            }
            last = now;
            self.add(patience)?;
        }
        Ok(())
    }

    fn repair(&self, patience: Duration) -> Result<(), Trouble> {
        self.add(patience)
    }

    fn release(&self) {
        if self.claimed.replace(false) {
            // As a writer that thinks better of it; the sleeper looks again by itself.
            self.word().fetch_and(!((1 << 30) - 1), SeqCst);
        }
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        let begun = u64::from(self.notes[BEGUN].load(SeqCst));
        let acknowledged = u64::from(self.notes[ACKNOWLEDGED].load(SeqCst));
        match self.read() {
            Ok(number) => {
                audit.lost += acknowledged.saturating_sub(number) as u32;
                audit.doubled += number.saturating_sub(begun) as u32;
            }
            Err(_) => audit.torn += 1,
        }
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    fn add(counter: &'static Counter, (): ()) {
        let _ = counter.add(Duration::from_secs(1));
    }
    vec![
        Operation::new("seqlock.update", Counter::new, Counter::enter, add).twice(0),
        Operation::new("seqlock.update.asleep", Counter::claimed, Counter::enter, add),
        Operation::new("seqlock.get", Counter::new, Counter::enter, |counter, ()| {
            let _ = counter.read();
        }),
    ]
}
