//! Latches: parts of work that all have to do.

use std::time::Instant;

use procession::sync::{Latch, LatchError};

use crate::ledger::{Ledger, Words};
use crate::support::LONG;
use crate::{Ground, SLOTS, Worker};

/// How many latches, one after the other.
const LATCHES: usize = 2000;

/// Each slot does one part of each latch. If it dies meanwhile, that latch may open, or be broken, or neither.
pub struct Latches {
    latches: Vec<Latch>,
    /// Of each slot: how many parts it has begun, and done.
    begun: Ledger,
    done: Ledger,
    /// Of each latch: whether somebody died over it.
    spoilt: Words,
    /// Of each slot: whether it will be killed, or has been, and nobody knows yet over what.
    doomed: Ledger,
}

impl Latches {
    pub fn new() -> Latches {
        let latches = (0..LATCHES).map(|_| Latch::new(SLOTS as u32).unwrap()).collect();
        let (begun, done) = (Ledger::new(), Ledger::new());
        Latches { latches, begun, done, spoilt: Words::new(LATCHES), doomed: Ledger::new() }
    }

    /// Compares what a latch says with what is known.
    fn check(&self, at: usize, answer: Result<(), LatchError>) -> Result<(), String> {
        match answer {
            Ok(()) => {
                for slot in 0..SLOTS {
                    if self.begun.get(slot) <= at as u64 {
                        return Err(format!(
                            "latch {at} is open, and slot {slot} was not there yet"
                        ));
                    }
                }
                Ok(())
            }
            Err(LatchError::TimedOut | LatchError::WouldBlock) => Ok(()),
            // In this order: it is spoilt before the slot is doomed no more.
            Err(LatchError::Broken { .. })
                if self.doomed.sum() != 0 || self.spoilt.get(at) != 0 =>
            {
                Ok(())
            }
            Err(error) => Err(format!("latch {at}: {error}")),
        }
    }
}

/// There is a part for each slot, but others may claim and give back all the time, so that one call finds none.
fn patiently<R>(mut call: impl FnMut() -> Result<R, LatchError>) -> R {
    let end = Instant::now() + LONG;
    loop {
        match call() {
            Ok(answer) => return answer,
            Err(LatchError::TooMany { .. }) if Instant::now() < end => {}
            Err(error) => panic!("{error}"),
        }
    }
}

impl Ground for Latches {
    fn name(&self) -> &'static str {
        "Latch"
    }

    fn step(&self, worker: &mut Worker) {
        let slot = worker.slot;
        let at = self.done.get(slot) as usize;
        if at < LATCHES && worker.random.one_in(8) {
            let latch = &self.latches[at];
            self.begun.set(slot, at as u64 + 1);
            if worker.random.one_in(2) {
                patiently(|| latch.count_down());
            } else {
                let mut part = patiently(|| latch.part());
                if worker.random.one_in(4) {
                    drop(part);
                    part = patiently(|| latch.part());
                }
                worker.random.dawdle();
                part.count_down().unwrap();
            }
            self.done.set(slot, at as u64 + 1);
        }
        let at = worker.random.below(LATCHES.min(at + 1) as u64) as usize;
        let time = worker.random.micros(2000);
        self.check(at, self.latches[at].wait_timeout(time)).unwrap();
    }

    fn condemn(&self, slot: usize) {
        self.doomed.set(slot, 1);
    }

    fn bury(&self, slot: usize) {
        let begun = self.begun.get(slot);
        if begun > self.done.get(slot) {
            self.spoilt.set(begun as usize - 1, 1);
            self.done.set(slot, begun);
        }
        self.doomed.set(slot, 0);
    }

    fn audit(&self, _: &[u64; SLOTS]) -> Vec<String> {
        let mut complaints = Vec::new();
        let all = (0..SLOTS).map(|slot| self.done.get(slot)).min().unwrap_or(0) as usize;
        for (at, latch) in self.latches.iter().enumerate() {
            complaints.extend(self.check(at, latch.try_wait()).err());
            if at < all && self.spoilt.get(at) == 0 && !latch.is_open() {
                complaints.push(format!("latch {at}: all parts are done, and it is not open"));
            }
        }
        complaints
    }
}
