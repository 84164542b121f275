//! Where processes wait for each other: parts of work that all have to do, barriers, and what is done once.

use std::time::{Duration, Instant};

use procession::sync::{
    Barrier, BarrierError, Deadline, Latch, LatchError, Lock, Once, OnceCell, OnceError, Reason,
};
use procession_core::sync::AcquireError;

use crate::ledger::{Ledger, Words};
use crate::support::LONG;
use crate::{Ground, PATIENCE, SLOTS, Worker, turn};

/// How many latches, one after the other.
const LATCHES: usize = 2000;

/// Each slot does one part of each latch. If it dies meanwhile, that latch may open, or be broken, or neither.
pub struct Latches {
    latches: Vec<Latch>,
    start: Instant,
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
        let (spoilt, doomed) = (Words::new(LATCHES), Ledger::new());
        Latches { latches, start: Instant::now(), begun, done, spoilt, doomed }
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
        let at = (self.done.get(slot) as usize).min(LATCHES);
        if at <= turn(self.start, LATCHES) && worker.random.one_in(8) {
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
                worker.random.dawdle_long();
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

/// How many meet.
const PARTIES: usize = 3;

/// A barrier for any three. It breaks often, by deaths and by impatience, and whoever finds it broken repairs it.
pub struct Meetings {
    barrier: Barrier,
    /// Who repairs it.
    lock: Lock,
    /// How often somebody passed with each index.
    passed: [Ledger; PARTIES],
    arrived: Ledger,
    /// How often the last one to arrive has acted for all, or passed without.
    acted: Words,
}

impl Meetings {
    pub fn new() -> Meetings {
        let barrier = Barrier::new(PARTIES as u32).unwrap();
        let passed = std::array::from_fn(|_| Ledger::new());
        let (arrived, acted) = (Ledger::new(), Words::new(1));
        Meetings { barrier, lock: Lock::new().unwrap(), passed, arrived, acted }
    }

    fn repair(&self) {
        let mut guard = match self.lock.acquire_timeout(LONG) {
            Err(AcquireError::OwnerDied(died)) => died.into_guard(),
            guard => guard.unwrap(),
        };
        guard.mark_consistent();
        if self.barrier.broken() {
            self.barrier.reset().unwrap();
        }
    }
}

impl Ground for Meetings {
    fn name(&self) -> &'static str {
        "Barrier"
    }

    fn step(&self, worker: &mut Worker) {
        let (slot, begin) = (worker.slot, Instant::now());
        let time = match worker.random.below(8) {
            0 => Some(worker.random.micros(3000)),
            1 => Some(Duration::ZERO),
            2 => None,
            _ => Some(Duration::from_millis(100)),
        };
        self.arrived.add(slot, 1);
        let acts = || -> Result<(), String> {
            worker.random.dawdle();
            self.acted.add(0, 1);
            Ok(())
        };
        let answer = match time {
            None => self.barrier.wait_with(Deadline::after(PATIENCE / 3), acts),
            Some(Duration::ZERO) => self.barrier.try_wait().inspect(|_| {
                self.acted.add(0, 1);
            }),
            Some(time) => self.barrier.wait_with(Deadline::after(time), acts),
        };
        match (answer, time) {
            (Ok(index), _) => self.passed[index].add(slot, 1),
            (Err(BarrierError::WouldBlock), Some(Duration::ZERO)) => {}
            (Err(BarrierError::TimedOut), Some(time)) => assert!(begin.elapsed() >= time),
            (Err(BarrierError::TimedOut), None) => {}
            (Err(BarrierError::Broken(broken)), _) => {
                let known = matches!(
                    broken.reason,
                    Reason::TimedOut | Reason::Died | Reason::Reset | Reason::Aborted
                );
                assert!(known, "{broken}");
                self.repair();
            }
            (Err(error), _) => panic!("{error}"),
        }
    }

    fn last_call(&self) {
        // Those who meet nobody any more.
        self.barrier.abort().unwrap();
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        let mut complaints = Vec::new();
        // In each generation each index is given out once; one who died may not have come to write it down.
        let passed = [0, 1, 2].map(|index: usize| self.passed[index].sum());
        let (least, most) = (passed.iter().min().unwrap(), passed.iter().max().unwrap());
        if most - least > kills.iter().sum() || *most == 0 {
            complaints.push(format!("passed with each index: {passed:?}"));
        }
        let (acted, kills) = (self.acted.get(0), kills.iter().sum::<u64>());
        if !(passed[PARTIES - 1]..=passed[PARTIES - 1] + kills).contains(&acted) {
            complaints.push(format!("{acted} actions, and passed were {passed:?}"));
        }
        if passed.iter().sum::<u64>() > self.arrived.sum() {
            complaints.push("more have passed than have come".into());
        }
        self.repair();
        if self.barrier.broken() || self.barrier.n_waiting() != 0 {
            complaints.push(format!("after a repair: {:?}", self.barrier));
        }
        complaints
    }
}

/// How many things are done once, one after the other.
const ONCES: usize = 2000;

/// Things that are done once each, by whoever comes first, and by another if that one dies.
pub struct Onces {
    onces: Vec<Once>,
    cells: Vec<OnceCell<[u64; 4]>>,
    /// Of each cell: the first value that somebody saw.
    seen: Words,
    start: Instant,
    /// Of each: how often it was begun, how often it came to its end, and who is at it.
    begun: Words,
    ended: Words,
    inside: Words,
}

impl Onces {
    pub fn new() -> Onces {
        let onces = (0..ONCES).map(|_| Once::new().unwrap()).collect();
        let [begun, ended, inside] = [(); 3].map(|()| Words::new(ONCES));
        let cells = (0..ONCES).map(|_| OnceCell::new().unwrap()).collect();
        let seen = Words::new(ONCES);
        Onces { onces, cells, seen, start: Instant::now(), begun, ended, inside }
    }
}

impl Ground for Onces {
    fn name(&self) -> &'static str {
        "Once"
    }

    fn step(&self, worker: &mut Worker) {
        let now = turn(self.start, ONCES);
        // Until the next one's turn has come it fails, and is begun again, as often as they get to it.
        let at = now.saturating_sub(worker.random.below(2) as usize);
        let Worker { slot, random } = worker;
        let made = random.next() | 1;
        let value = self.cells[at].get_or_init(|| {
            random.dawdle();
            [made; 4]
        });
        let value = *value.unwrap();
        let first = self.seen.settle(at, value[0]);
        assert_eq!(value, [first; 4], "a cell has two values");
        let ran = self.onces[at].call_with(Deadline::after(LONG), |again| {
            let begun = self.begun.add(at, 1);
            assert_eq!(again, begun > 0, "it was begun {begun} times before");
            let inside = self.inside.get(at);
            assert!(again || inside == 0, "two at a time: {inside} is there");
            self.inside.set(at, *slot as u64 + 1);
            random.dawdle();
            assert_eq!(self.inside.get(at), *slot as u64 + 1, "two at a time");
            if at == turn(self.start, ONCES) {
                return Err(());
            }
            self.ended.add(at, 1);
            Ok(())
        });
        match ran {
            Ok(true) | Err(OnceError::Failed(())) => {}
            Ok(false) => assert!(self.ended.get(at) > 0, "it is not done yet"),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        let mut complaints = Vec::new();
        let (mut done, mut ended) = (0, 0);
        for (at, once) in self.onces.iter().enumerate() {
            done += u64::from(once.is_done());
            ended += self.ended.get(at);
            if once.is_done() && self.ended.get(at) == 0 {
                complaints.push(format!("number {at} is said to be done"));
            }
        }
        // One who died at the end of it may not have come to say so.
        if !(done..=done + kills.iter().sum::<u64>()).contains(&ended) {
            complaints.push(format!("{done} things were done {ended} times"));
        }
        complaints
    }
}
