//! A condition: a stock of goods, which some produce and others wait for.
//!
//! Whoever produces notifies one. Nobody notifies just in case, except who hears that somebody died under the lock and may not
//! have come to it. So if one notification is lost, somebody sleeps beside a stock, and goes on sleeping.

use std::time::{Duration, Instant};

use procession::sync::{Condition, ConditionError, ConditionGuard, Lock};
use procession_core::sync::AcquireError;

use crate::ledger::{Ledger, Words};
use crate::support::{LONG, eventually};
use crate::{Ground, SLOTS, Worker};

pub struct Stock {
    condition: Condition,
    name: &'static str,
    /// Under the lock: what each has produced, then what each has consumed. Each change is one store.
    goods: Words,
    produced: Ledger,
    consumed: Ledger,
    /// Under the lock: who waits.
    waits: Ledger,
    /// Not 0: it is time to end.
    closed: Words,
}

impl Stock {
    pub fn new() -> Stock {
        Self::over("Condition", Condition::new().unwrap())
    }

    pub fn with_lock() -> Stock {
        let lock = Lock::new().unwrap();
        Self::over("Condition with a lock", Condition::with_lock(&lock).unwrap())
    }

    fn over(name: &'static str, condition: Condition) -> Stock {
        let [produced, consumed, waits] = [(); 3].map(|()| Ledger::new());
        let (goods, closed) = (Words::new(2 * SLOTS), Words::new(1));
        Stock { condition, name, goods, produced, consumed, waits, closed }
    }

    fn stock(&self) -> u64 {
        let sum = |from: usize| (from..from + SLOTS).map(|at| self.goods.get(at)).sum::<u64>();
        sum(0).checked_sub(sum(SLOTS)).expect("more was consumed than produced")
    }

    fn acquire(&self) -> ConditionGuard<'_> {
        match self.condition.acquire_timeout(LONG) {
            Err(AcquireError::OwnerDied(died)) => {
                let mut guard = died.into_guard();
                Self::speak_for_the_dead(&mut guard);
                guard
            }
            guard => guard.unwrap(),
        }
    }

    /// The dead one may have produced, and not come to say so.
    fn speak_for_the_dead(guard: &mut ConditionGuard<'_>) {
        guard.notify_all().unwrap();
        guard.mark_consistent();
    }

    fn produce(&self, worker: &mut Worker) {
        let guard = self.acquire();
        worker.random.dawdle();
        // More at a time, too.
        let count = if worker.random.one_in(8) { 3 } else { 1 };
        self.goods.set(worker.slot, self.goods.get(worker.slot) + count);
        worker.random.dawdle();
        let told = guard.notify(count as u32).unwrap();
        assert!(u64::from(told) <= count, "{told} notified of {count}");
        drop(guard);
        self.produced.add(worker.slot, count);
    }

    fn consume(&self, worker: &mut Worker, time: Option<Duration>) {
        let mut guard = self.acquire();
        let begin = Instant::now();
        self.waits.set(worker.slot, 1);
        let some = || self.closed.get(0) != 0 || self.stock() > 0;
        let there = loop {
            let answer = match time {
                None => guard.wait_for(some).map(|()| true),
                Some(time) => guard.wait_for_timeout(time, some),
            };
            match answer {
                Ok(there) => break there,
                Err(ConditionError::OwnerDied { .. }) => Self::speak_for_the_dead(&mut guard),
                Err(error) => panic!("{error}"),
            }
        };
        self.waits.set(worker.slot, 0);
        match time {
            Some(time) if !there => assert!(begin.elapsed() >= time, "the time was not up"),
            _ => assert!(there),
        }
        let taken = there && self.stock() > 0;
        if taken {
            worker.random.dawdle();
            let at = SLOTS + worker.slot;
            self.goods.set(at, self.goods.get(at) + 1);
        }
        drop(guard);
        self.consumed.add(worker.slot, u64::from(taken));
    }
}

impl Ground for Stock {
    fn name(&self) -> &'static str {
        self.name
    }

    fn step(&self, worker: &mut Worker) {
        match worker.random.below(4) {
            0 | 1 => self.produce(worker),
            // Half of them never wait without a limit, so that somebody produces.
            2 if worker.slot.is_multiple_of(2) => self.consume(worker, None),
            _ => {
                let time = worker.random.micros(5000);
                self.consume(worker, Some(time));
            }
        }
    }

    fn bury(&self, slot: usize) {
        self.waits.set(slot, 0);
    }

    fn last_call(&self) {
        // Nobody goes on to sleep beside a stock.
        let mut stock = 0;
        eventually("nobody waits beside a stock: a notification was lost", || {
            let guard = self.acquire();
            stock = self.stock();
            drop(guard);
            stock == 0 || self.waits.sum() == 0
        });
        let guard = self.acquire();
        self.closed.set(0, 1);
        guard.notify_all().unwrap();
    }

    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String> {
        drop(self.acquire());
        let mut complaints = Vec::new();
        for (slot, kills) in kills.iter().enumerate() {
            let there = [self.goods.get(slot), self.goods.get(SLOTS + slot)];
            let acknowledged = [self.produced.get(slot), self.consumed.get(slot)];
            // A death makes a difference of one step, in which up to 3 are produced.
            let most = [acknowledged[0] + 3 * kills, acknowledged[1] + kills];
            if (0..2).any(|way| !(acknowledged[way]..=most[way]).contains(&there[way])) {
                complaints.push(format!(
                    "slot {slot}: {acknowledged:?} acknowledged, {there:?} there, {kills} deaths"
                ));
            }
        }
        if self.condition.acquire().unwrap().notify_all().unwrap() != 0 {
            complaints.push("somebody is said to wait still".into());
        }
        complaints
    }
}
