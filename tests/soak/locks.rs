//! Locks, and data under them. The data are a sum and each slot's part of it, changed one after the other, so that a death in
//! between shows, and a word that says who is inside. Whoever comes after a death mends them, and only then.

use std::time::Duration;

use procession::sync::{Lock, Mutex, RLock};
use procession_core::sync::AcquireError;

use crate::ledger::{Cells, Ledger, Look, Words};
use crate::support::LONG;
use crate::{Ground, Random, SLOTS, Worker};

/// How many words are under a lock: who is inside, the sum, and the parts.
pub const CELLS: usize = 2 + SLOTS;

/// What the acknowledged changes are compared with.
#[derive(Clone, Copy)]
pub struct Account {
    acknowledged: Ledger,
}

impl Account {
    pub fn new() -> Account {
        Account { acknowledged: Ledger::new() }
    }

    /// In the lock, of which nobody said that its data may be damaged: adds one.
    pub fn change(self, mut data: impl Cells, slot: usize, random: &mut Random) {
        let inside = data.get(0);
        assert_eq!(inside, 0, "slot {slot} is not alone under the lock, {} is there", inside - 1);
        data.set(0, slot as u64 + 1);
        let sum = data.get(1);
        let parts = (0..SLOTS).map(|slot| data.get(2 + slot)).sum();
        assert_eq!(sum, parts, "damage under the lock that nobody spoke of");
        random.dawdle();
        data.set(1, sum + 1);
        random.dawdle();
        data.set(2 + slot, data.get(2 + slot) + 1);
        let inside = data.get(0);
        assert_eq!(inside, slot as u64 + 1, "somebody came in to slot {slot}");
        data.set(0, 0);
    }

    /// Reads, as one of several readers and beside no writer. If somebody died, the data may be anything, but stay so.
    pub fn read(data: impl Look, damaged: bool, random: &mut Random) {
        let look = || -> [u64; CELLS] { std::array::from_fn(|at| data.get(at)) };
        let before = look();
        if !damaged {
            assert_eq!(before[0], 0, "a reader is not alone, a writer is there");
            let parts = before[2..].iter().sum::<u64>();
            assert_eq!(before[1], parts, "damage under the lock that nobody spoke of");
        }
        random.dawdle();
        assert_eq!(look(), before, "somebody wrote beside a reader");
    }

    /// Whoever comes after a death sets it right.
    pub fn mend(mut data: impl Cells) {
        data.set(0, 0);
        let parts = (0..SLOTS).map(|slot| data.get(2 + slot)).sum();
        data.set(1, parts);
    }

    /// The lock is given back.
    pub fn acknowledge(self, slot: usize) {
        self.acknowledged.add(slot, 1);
    }

    /// Whether what is there is what was acknowledged, and no more than one for each death besides.
    pub fn audit(self, data: impl Look, kills: &[u64; SLOTS]) -> Vec<String> {
        let mut complaints = Vec::new();
        for (slot, kills) in kills.iter().enumerate() {
            let (there, acknowledged) = (data.get(2 + slot), self.acknowledged.get(slot));
            if !(acknowledged..=acknowledged + kills).contains(&there) {
                complaints.push(format!(
                    "slot {slot}: {acknowledged} acknowledged, {there} there, {kills} deaths"
                ));
            }
        }
        let parts = (0..SLOTS).map(|slot| data.get(2 + slot)).sum::<u64>();
        if data.get(1) != parts {
            complaints.push(format!("the sum is {}, its parts {parts}", data.get(1)));
        }
        complaints
    }
}

/// How a worker asks for something.
#[derive(Clone, Copy)]
pub enum Asked {
    /// Without a limit.
    Patiently,
    /// Once.
    Once,
    /// For as long.
    For(Duration),
}

impl Asked {
    pub fn choose(random: &mut Random) -> Asked {
        match random.below(8) {
            0 => Asked::Once,
            1 => Asked::For(random.micros(3000)),
            2 => Asked::For(LONG),
            _ => Asked::Patiently,
        }
    }
}

/// The guard, and whether the data may be damaged; `None`: it is not to be had now, which was allowed.
pub fn got<G>(asked: Asked, answer: Result<G, AcquireError<G>>) -> Option<(G, bool)> {
    match (answer, asked) {
        (Ok(guard), _) => Some((guard, false)),
        (Err(AcquireError::OwnerDied(died)), _) => Some((died.into_guard(), true)),
        (Err(AcquireError::WouldBlock), Asked::Once) => None,
        (Err(AcquireError::TimedOut), Asked::For(time)) if time < LONG => None,
        (Err(error), _) => panic!("{error}"),
    }
}

/// Two locks over words outside.
pub struct Locks {
    each: [(Lock, Words, Account); 2],
}

impl Locks {
    pub fn new() -> Locks {
        let one = |_| (Lock::new().unwrap(), Words::new(CELLS), Account::new());
        Locks { each: std::array::from_fn(one) }
    }
}

impl Ground for Locks {
    fn name(&self) -> &'static str {
        "Lock"
    }

    fn step(&self, worker: &mut Worker) {
        let (lock, data, account) = &self.each[worker.random.below(2) as usize];
        let asked = Asked::choose(&mut worker.random);
        let answer = match asked {
            Asked::Patiently => lock.acquire(),
            Asked::Once => lock.try_acquire(),
            Asked::For(time) => lock.acquire_timeout(time),
        };
        let Some((mut guard, damaged)) = got(asked, answer) else { return };
        if damaged {
            Account::mend(*data);
            guard.mark_consistent();
        }
        account.change(*data, worker.slot, &mut worker.random);
        match worker.random.one_in(8) {
            true => {
                guard.detach();
                lock.release().unwrap();
            }
            false => drop(guard),
        }
        account.acknowledge(worker.slot);
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        let audit = |(lock, data, account): &(Lock, Words, Account)| {
            // The last holder may have died.
            let Some((mut guard, damaged)) = got(Asked::Patiently, lock.acquire_timeout(LONG))
            else {
                return vec!["it is not to be had".into()];
            };
            if damaged {
                Account::mend(*data);
                guard.mark_consistent();
            }
            account.audit(*data, kills)
        };
        self.each.iter().flat_map(audit).collect()
    }
}

/// Two mutexes with the words inside.
pub struct Mutexes {
    each: [(Mutex<[u64; CELLS]>, Account); 2],
}

impl Mutexes {
    pub fn new() -> Mutexes {
        let one = |_| (Mutex::new([0; CELLS]).unwrap(), Account::new());
        Mutexes { each: std::array::from_fn(one) }
    }
}

impl Ground for Mutexes {
    fn name(&self) -> &'static str {
        "Mutex"
    }

    fn step(&self, worker: &mut Worker) {
        let (mutex, account) = &self.each[worker.random.below(2) as usize];
        let asked = Asked::choose(&mut worker.random);
        let answer = match asked {
            Asked::Patiently => mutex.lock(),
            Asked::Once => mutex.try_lock(),
            Asked::For(time) => mutex.lock_timeout(time),
        };
        let Some((mut guard, damaged)) = got(asked, answer) else { return };
        if damaged {
            Account::mend(&mut *guard);
            guard.mark_consistent();
        }
        account.change(&mut *guard, worker.slot, &mut worker.random);
        drop(guard);
        account.acknowledge(worker.slot);
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        let audit = |(mutex, account): &(Mutex<[u64; CELLS]>, Account)| {
            let Some((mut guard, damaged)) = got(Asked::Patiently, mutex.lock_timeout(LONG)) else {
                return vec!["it is not to be had".into()];
            };
            if damaged {
                Account::mend(&mut *guard);
                guard.mark_consistent();
            }
            account.audit(&mut *guard, kills)
        };
        self.each.iter().flat_map(audit).collect()
    }
}

/// A lock that its holder may acquire again, over words outside.
pub struct RLocks {
    lock: RLock,
    data: Words,
    account: Account,
}

impl RLocks {
    pub fn new() -> RLocks {
        RLocks { lock: RLock::new().unwrap(), data: Words::new(CELLS), account: Account::new() }
    }
}

impl Ground for RLocks {
    fn name(&self) -> &'static str {
        "RLock"
    }

    fn step(&self, worker: &mut Worker) {
        let asked = Asked::choose(&mut worker.random);
        let answer = match asked {
            Asked::Patiently => self.lock.acquire(),
            Asked::Once => self.lock.try_acquire(),
            Asked::For(time) => self.lock.acquire_timeout(time),
        };
        let Some((mut guard, damaged)) = got(asked, answer) else { return };
        if damaged {
            Account::mend(self.data);
            guard.mark_consistent();
        }
        assert_eq!(self.lock.depth(), 1, "a fresh one");
        let deep = worker.random.below(4) as u32;
        let inner: Vec<_> = (0..deep).map(|_| self.lock.try_acquire().unwrap()).collect();
        assert_eq!(self.lock.depth(), 1 + deep);
        self.account.change(self.data, worker.slot, &mut worker.random);
        match worker.random.one_in(8) {
            true => {
                guard.detach();
                drop(inner);
                assert_eq!(self.lock.depth(), 1);
                self.lock.release().unwrap();
            }
            false => {
                drop(inner);
                assert_eq!(self.lock.depth(), 1);
                drop(guard);
            }
        }
        self.account.acknowledge(worker.slot);
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        let Some((mut guard, damaged)) = got(Asked::Patiently, self.lock.acquire_timeout(LONG))
        else {
            return vec!["it is not to be had".into()];
        };
        if damaged {
            Account::mend(self.data);
            guard.mark_consistent();
        }
        self.account.audit(self.data, kills)
    }
}
