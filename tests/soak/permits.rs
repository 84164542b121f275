//! Semaphores: permits, which come back when their holders die, and bare units, which do not.

use std::time::Duration;

use procession::sync::{BoundedSemaphore, PermitError, ReleaseError, Semaphore, WaitError};

use crate::ledger::{Ledger, Words};
use crate::locks::Asked;
use crate::support::LONG;
use crate::{Ground, SLOTS, Worker};

/// How many permits there are.
const PERMITS: usize = 3;

/// Permits only. Each is written down once it is held, and before it is given back.
pub struct Permits {
    semaphore: BoundedSemaphore,
    /// Of each slot: how often that has changed; odd while it holds one.
    holds: Ledger,
    condemned: Ledger,
    deaths: Words,
}

impl Permits {
    pub fn new() -> Permits {
        Permits {
            semaphore: BoundedSemaphore::new(PERMITS as u32).unwrap(),
            holds: Ledger::new(),
            condemned: Ledger::new(),
            deaths: Words::new(1),
        }
    }

    /// How many of those who will live on held a permit at one moment; `None` if things changed too fast to tell.
    fn holders(&self) -> Option<usize> {
        let deaths = self.deaths.get(0);
        let look = || -> [(u64, u64); SLOTS] {
            std::array::from_fn(|slot| (self.holds.get(slot), self.condemned.get(slot)))
        };
        let first = look();
        let same = look() == first && self.deaths.get(0) == deaths;
        let counts = |&&(holds, condemned): &&(u64, u64)| holds % 2 == 1 && condemned == 0;
        same.then(|| first.iter().filter(counts).count())
    }
}

impl Ground for Permits {
    fn name(&self) -> &'static str {
        "BoundedSemaphore"
    }

    fn step(&self, worker: &mut Worker) {
        let asked = Asked::choose(&mut worker.random);
        let answer = match asked {
            Asked::Patiently => self.semaphore.acquire(),
            Asked::Once => self.semaphore.try_acquire(),
            Asked::For(time) => self.semaphore.acquire_timeout(time),
        };
        let permit = match (answer, asked) {
            (Ok(permit), _) => permit,
            (Err(PermitError::WouldBlock), Asked::Once) => return,
            (Err(PermitError::TimedOut), Asked::For(time)) if time < LONG => return,
            (Err(error), _) => panic!("{error}"),
        };
        self.holds.add(worker.slot, 1);
        if let Some(holders) = self.holders() {
            assert!(holders <= PERMITS, "{holders} hold permits at a time");
        }
        worker.random.dawdle();
        self.holds.add(worker.slot, 1);
        drop(permit);
    }

    fn condemn(&self, slot: usize) {
        self.condemned.set(slot, 1);
        self.deaths.add(0, 1);
    }

    fn bury(&self, slot: usize) {
        self.holds.add(slot, self.holds.get(slot) % 2);
        self.condemned.set(slot, 0);
    }

    fn audit(&self, _: &[u64; SLOTS]) -> Vec<String> {
        let mut complaints = Vec::new();
        let all: Vec<_> = (0..PERMITS).map(|_| self.semaphore.acquire_timeout(LONG)).collect();
        let got = all.iter().filter(|permit| permit.is_ok()).count();
        if got != PERMITS {
            complaints.push(format!("{got} permits of {PERMITS} have come back"));
        }
        if self.semaphore.try_acquire().is_ok() {
            complaints.push("there is one more than there are".into());
        }
        drop(all);
        if self.semaphore.value() != PERMITS as u32 {
            complaints.push(format!("all are free, and the value is {}", self.semaphore.value()));
        }
        if self.semaphore.release() != Err(ReleaseError::TooMany { most: PERMITS as u32 }) {
            complaints.push("it can be released once more".into());
        }
        complaints
    }
}

/// How many bare units a semaphore starts with.
const UNITS: u32 = 8;
/// So many semaphores, one after the other.
const SEMAPHORES: usize = 128;

/// What a slot is about.
const IDLE: u64 = 0;
/// It may have a unit, or not.
const UNSURE: u64 = 1;
/// It has this many, in hundreds.
const HAS: u64 = 100;

/// Units that are taken and released without permits, or under a permit that is given up. What a dead one had is given back
/// for it; where that is not known, the semaphore may have one unit less at the end. When there have been some, it is another
/// semaphore's turn.
pub struct Units {
    semaphores: Vec<(Semaphore, BoundedSemaphore)>,
    turn: Words,
    /// Of each slot: what it is about, and at which semaphore.
    about: Ledger,
    at: Ledger,
    /// Of each semaphore: how many units may be lost.
    unsure: Words,
}

impl Units {
    pub fn new() -> Units {
        let make = || (Semaphore::new(UNITS).unwrap(), BoundedSemaphore::new(UNITS).unwrap());
        Units {
            semaphores: (0..SEMAPHORES).map(|_| make()).collect(),
            turn: Words::new(1),
            about: Ledger::new(),
            at: Ledger::new(),
            unsure: Words::new(2 * SEMAPHORES),
        }
    }
}

/// What both kinds can.
macro_rules! use_units {
    ($semaphore:expr, $ground:expr, $worker:expr) => {{
        let (semaphore, about, slot) = ($semaphore, $ground.about, $worker.slot);
        let count = match $worker.random.below(4) {
            // By a permit that is given up.
            0 => match semaphore.acquire_timeout($worker.random.micros(3000)) {
                Ok(permit) => {
                    about.set(slot, UNSURE);
                    permit.detach().unwrap();
                    1
                }
                Err(PermitError::TimedOut) => 0,
                Err(error) => panic!("{error}"),
            },
            // Some, one by one.
            wanted => {
                let mut count = 0;
                while count < wanted {
                    let asked = if count == 0 { LONG } else { $worker.random.micros(100) };
                    about.set(slot, HAS * count + UNSURE);
                    match semaphore.take_timeout(asked) {
                        Ok(()) => count += 1,
                        Err(WaitError::TimedOut) if asked < LONG => break,
                        Err(error) => panic!("{error}"),
                    }
                    about.set(slot, HAS * count);
                }
                count
            }
        };
        about.set(slot, HAS * count);
        $worker.random.dawdle();
        if count > 0 {
            // All at once, so that it is all or none.
            about.set(slot, HAS * count + UNSURE + 1);
            semaphore.release_many(count as u32).unwrap();
        }
        about.set(slot, IDLE);
    }};
}

impl Ground for Units {
    fn name(&self) -> &'static str {
        "Semaphore"
    }

    fn step(&self, worker: &mut Worker) {
        let turn = (self.turn.get(0) as usize).min(SEMAPHORES - 1);
        let bounded = worker.random.below(2);
        self.at.set(worker.slot, 2 * turn as u64 + bounded);
        match bounded {
            0 => use_units!(&self.semaphores[turn].0, self, worker),
            _ => use_units!(&self.semaphores[turn].1, self, worker),
        }
    }

    fn bury(&self, slot: usize) {
        let (about, at) = (self.about.get(slot), self.at.get(slot) as usize);
        let (has, unsure) = (about / HAS, about % HAS);
        // It died in a release: of all, or of none.
        let (back, unsure) = if unsure == UNSURE + 1 { (0, has) } else { (has, unsure) };
        if back > 0 {
            let (free, bounded) = &self.semaphores[at / 2];
            match at % 2 {
                0 => free.release_many(back as u32).unwrap(),
                _ => bounded.release_many(back as u32).unwrap(),
            }
        }
        self.unsure.add(at, unsure);
        self.about.set(slot, IDLE);
        if self.unsure.get(at) > u64::from(UNITS) / 2 - 3 {
            self.turn.set(0, self.turn.get(0).max(at as u64 / 2 + 1));
        }
    }

    fn audit(&self, _: &[u64; SLOTS]) -> Vec<String> {
        let mut complaints = Vec::new();
        let used = (self.turn.get(0) as usize + 1).min(SEMAPHORES);
        for (at, (free, bounded)) in self.semaphores.iter().enumerate().take(used) {
            for way in 0..2 {
                // Long enough to ask who is dead: a permit that was not given up yet comes back.
                let soon = Duration::from_millis(2);
                let take = || match way {
                    0 => free.take_timeout(soon),
                    _ => bounded.take_timeout(soon),
                };
                let taken = (0..).take_while(|_| take().is_ok()).count() as u32;
                let unsure = self.unsure.get(2 * at + way) as u32;
                if !(UNITS.saturating_sub(unsure)..=UNITS).contains(&taken) {
                    complaints.push(format!("{taken} units of {UNITS}, {unsure} may be lost"));
                }
                let value = if way == 0 { free.value() } else { bounded.value() };
                if value != 0 {
                    complaints.push(format!("no unit is to be had, and the value is {value}"));
                }
            }
            if bounded.release_many(UNITS) != Ok(()) || bounded.release().is_ok() {
                complaints.push("the bound is another one".into());
            }
        }
        complaints
    }
}
