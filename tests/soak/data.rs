//! Data for many readers: locks for reading and writing, cells that are read without a lock, and atomics.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::time::{Duration, Instant};

use procession::sync::{Atomic, RwData, RwLock, SeqLock, UpgradeError, WaitError};

use crate::ledger::{Ledger, Words};
use crate::locks::{Account, Asked, CELLS, got};
use crate::support::LONG;
use crate::{Ground, SLOTS, Worker};

/// A lock over words outside.
pub struct RwLocks {
    lock: RwLock,
    data: Words,
    account: Account,
}

impl RwLocks {
    pub fn new() -> RwLocks {
        RwLocks { lock: RwLock::new().unwrap(), data: Words::new(CELLS), account: Account::new() }
    }

    fn read(&self, worker: &mut Worker) {
        let asked = Asked::choose(&mut worker.random);
        let answer = match asked {
            Asked::Patiently => self.lock.read(),
            Asked::Once => self.lock.try_read(),
            Asked::For(time) => self.lock.read_timeout(time),
        };
        let Some((_guard, damaged)) = got(asked, answer) else { return };
        Account::read(self.data, damaged, &mut worker.random);
    }

    fn write(&self, worker: &mut Worker) {
        let asked = Asked::choose(&mut worker.random);
        let answer = match asked {
            Asked::Patiently => self.lock.write(),
            Asked::Once => self.lock.try_write(),
            Asked::For(time) => self.lock.write_timeout(time),
        };
        let Some((mut guard, damaged)) = got(asked, answer) else { return };
        if damaged {
            Account::mend(self.data);
            guard.mark_consistent();
        }
        self.account.change(self.data, worker.slot, &mut worker.random);
        match worker.random.below(4) {
            0 => {
                let _guard = guard.downgrade();
                Account::read(self.data, false, &mut worker.random);
            }
            1 => {
                let _guard = guard.downgrade_to_upgradable();
                Account::read(self.data, false, &mut worker.random);
            }
            _ => drop(guard),
        }
        self.account.acknowledge(worker.slot);
    }

    fn upgrade(&self, worker: &mut Worker) {
        let asked = Asked::choose(&mut worker.random);
        let answer = match asked {
            Asked::Patiently => self.lock.upgradable_read(),
            Asked::Once => self.lock.try_upgradable_read(),
            Asked::For(time) => self.lock.upgradable_read_timeout(time),
        };
        let Some((guard, damaged)) = got(asked, answer) else { return };
        Account::read(self.data, damaged, &mut worker.random);
        let before = self.data.get(1);
        let asked = Asked::choose(&mut worker.random);
        let begin = Instant::now();
        let answer = match asked {
            Asked::Patiently => guard.upgrade(),
            Asked::Once => guard.try_upgrade(),
            Asked::For(time) => guard.upgrade_until(procession::sync::Deadline::after(time)),
        };
        let mut guard = match (answer.map_err(|not| (not.error(), not.into_guard())), asked) {
            (Ok(guard), _) => guard,
            (Err((UpgradeError::WouldBlock, _)), Asked::Once) => return,
            (Err((UpgradeError::TimedOut, guard)), Asked::For(time)) if time < LONG => {
                assert!(begin.elapsed() >= time, "the time was not up");
                assert_eq!(self.data.get(1), before, "somebody wrote beside a reader");
                return drop(guard);
            }
            (Err((error, _)), _) => panic!("{error}"),
        };
        assert_eq!(self.data.get(1), before, "somebody wrote during an upgrade");
        if damaged {
            Account::mend(self.data);
            guard.mark_consistent();
        }
        self.account.change(self.data, worker.slot, &mut worker.random);
        drop(guard);
        self.account.acknowledge(worker.slot);
    }
}

impl Ground for RwLocks {
    fn name(&self) -> &'static str {
        "RwLock"
    }

    fn step(&self, worker: &mut Worker) {
        match worker.random.below(4) {
            0 => self.write(worker),
            1 => self.upgrade(worker),
            _ => self.read(worker),
        }
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        let Some((mut guard, damaged)) = got(Asked::Patiently, self.lock.write_timeout(LONG))
        else {
            return vec!["it is not to be had".into()];
        };
        if damaged {
            Account::mend(self.data);
            guard.mark_consistent();
        }
        drop(guard);
        let mut complaints = self.account.audit(self.data, kills);
        if (self.lock.readers(), self.lock.write_locked()) != (0, false) {
            complaints.push(format!("somebody is left in it: {:?}", self.lock));
        }
        complaints
    }
}

/// The same with the data inside.
pub struct RwDatas {
    data: RwData<[u64; CELLS]>,
    account: Account,
}

impl RwDatas {
    pub fn new() -> RwDatas {
        RwDatas { data: RwData::new([0; CELLS]).unwrap(), account: Account::new() }
    }
}

impl Ground for RwDatas {
    fn name(&self) -> &'static str {
        "RwData"
    }

    fn step(&self, worker: &mut Worker) {
        let asked = Asked::choose(&mut worker.random);
        if worker.random.below(4) > 0 {
            let answer = match asked {
                Asked::Patiently => self.data.read(),
                Asked::Once => self.data.try_read(),
                Asked::For(time) => self.data.read_timeout(time),
            };
            if let Some((guard, damaged)) = got(asked, answer) {
                Account::read(&*guard, damaged, &mut worker.random);
            }
            return;
        }
        let answer = match asked {
            Asked::Patiently => self.data.write(),
            Asked::Once => self.data.try_write(),
            Asked::For(time) => self.data.write_timeout(time),
        };
        let Some((mut guard, damaged)) = got(asked, answer) else { return };
        if damaged {
            Account::mend(&mut *guard);
            guard.mark_consistent();
        }
        self.account.change(&mut *guard, worker.slot, &mut worker.random);
        drop(guard);
        self.account.acknowledge(worker.slot);
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        let Some((mut guard, damaged)) = got(Asked::Patiently, self.data.write_timeout(LONG))
        else {
            return vec!["it is not to be had".into()];
        };
        if damaged {
            Account::mend(&mut *guard);
            guard.mark_consistent();
        }
        self.account.audit(&mut *guard, kills)
    }
}

/// How many of what a slot did is acknowledged, and whether one more is begun.
fn audit_sum(there: u64, acknowledged: Ledger, kills: &[u64; SLOTS]) -> Vec<String> {
    let (acknowledged, kills) = (acknowledged.sum(), kills.iter().sum::<u64>());
    match (acknowledged..=acknowledged + kills).contains(&there) {
        true => Vec::new(),
        false => vec![format!("{there} there, {acknowledged} acknowledged, {kills} deaths")],
    }
}

/// A cell that is read without a lock: several words that always belong together.
pub struct SeqLocks {
    cell: SeqLock<[u64; 8]>,
    acknowledged: Ledger,
    /// No reader has seen a later value than this.
    seen: Words,
}

impl SeqLocks {
    pub fn new() -> SeqLocks {
        let cell = SeqLock::new([0; 8]).unwrap();
        SeqLocks { cell, acknowledged: Ledger::new(), seen: Words::new(1) }
    }

    fn check(&self, value: [u64; 8]) -> u64 {
        assert_eq!(value, [value[0]; 8], "torn");
        value[0]
    }
}

impl Ground for SeqLocks {
    fn name(&self) -> &'static str {
        "SeqLock"
    }

    fn step(&self, worker: &mut Worker) {
        if worker.random.below(4) > 0 {
            let before = self.seen.get(0);
            let value = match worker.random.one_in(4) {
                true => self.cell.try_get().map_or(before, |value| self.check(value)),
                false => self.check(self.cell.get()),
            };
            assert!(value >= before, "{value} after {before}");
            self.seen.max(0, value);
            return;
        }
        let asked = Asked::choose(&mut worker.random);
        let random = &mut worker.random;
        let add = |value: [u64; 8]| {
            random.dawdle();
            [self.check(value) + 1; 8]
        };
        let answer = match asked {
            Asked::Patiently => self.cell.update(add),
            Asked::Once => self.cell.try_update(add),
            Asked::For(time) => self.cell.update_timeout(time, add),
        };
        match (answer, asked) {
            (Ok(_), _) => self.acknowledged.add(worker.slot, 1),
            (Err(WaitError::WouldBlock), Asked::Once) => {}
            (Err(WaitError::TimedOut), Asked::For(time)) if time < LONG => {}
            (Err(error), _) => panic!("{error}"),
        }
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        audit_sum(self.check(self.cell.get()), self.acknowledged, kills)
    }
}

/// Numbers that are changed in one step each, and waited for.
pub struct Atomics {
    wide: Atomic<u64>,
    narrow: Atomic<u16>,
    acknowledged: Ledger,
    acknowledged_narrow: Ledger,
}

impl Atomics {
    pub fn new() -> Atomics {
        let (wide, narrow) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
        let [acknowledged, acknowledged_narrow] = [Ledger::new(), Ledger::new()];
        Atomics { wide, narrow, acknowledged, acknowledged_narrow }
    }
}

impl Ground for Atomics {
    fn name(&self) -> &'static str {
        "Atomic"
    }

    fn step(&self, worker: &mut Worker) {
        let Worker { slot, random, .. } = worker;
        match random.below(4) {
            0 => {
                self.wide.fetch_add(1, AcqRel);
                self.wide.notify_all();
                self.acknowledged.add(*slot, 1);
            }
            1 => {
                self.narrow.fetch_update(SeqCst, Relaxed, |old| Some(old.wrapping_add(1))).unwrap();
                self.narrow.notify_all();
                self.acknowledged_narrow.add(*slot, 1);
            }
            2 => {
                let old = self.wide.load(Acquire);
                let (time, begin) = (random.micros(3000), Instant::now());
                match self.wide.wait_timeout(old, time) {
                    Ok(new) => assert!(new > old, "{new} after {old}"),
                    Err(WaitError::TimedOut) => assert!(begin.elapsed() >= time),
                    Err(error) => panic!("{error}"),
                }
            }
            _ => {
                let old = self.narrow.load(Acquire);
                let far = old.wrapping_add(random.below(3) as u16);
                let enough = |now: u16| now.wrapping_sub(far) < 1 << 15;
                match self.narrow.wait_for_timeout(Duration::from_millis(3), enough) {
                    Ok(new) => assert!(enough(new)),
                    Err(WaitError::TimedOut) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        let mut complaints = audit_sum(self.wide.load(Acquire), self.acknowledged, kills);
        // The narrow one has gone round some times.
        let (there, count) = (self.narrow.load(Acquire), self.acknowledged_narrow.sum());
        let more = there.wrapping_sub(count as u16);
        complaints.extend(audit_sum(count + u64::from(more), self.acknowledged_narrow, kills));
        complaints
    }
}
