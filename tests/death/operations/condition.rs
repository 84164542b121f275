//! `Condition`: whoever dies while it waits, notifies, or has just been notified leaves nobody asleep beside an item.

use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use procession_core::sync::{AcquireError, Condition, ConditionError, Lock, LockGuard};
use procession_core::sys::Deadline;
use rustix::process::{Pid, Signal, kill_process};

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Items under a lock; who finds none waits. The count stands there twice, so that half a change shows.
struct Market {
    ground: Ground,
    lock: &'static Lock,
    changed: &'static Condition,
    left: &'static AtomicU64,
    right: &'static AtomicU64,
    notes: &'static [AtomicU32],
    /// Wait for an item from the start, the victim's elders first.
    waiters: Cell<Vec<Child>>,
    /// One that is stopped and waits longest; it is killed once it has been notified.
    stopped: Cell<Option<Child>>,
    /// Whether the item for the first waiter is still to come.
    closed: Cell<bool>,
}

/// What is noted outside the region: items given and taken, begun and done, and whether somebody is inside.
const GIVING: usize = 0;
const GIVEN: usize = 1;
const TAKING: usize = 2;
const TAKEN: usize = 3;
const INSIDE: usize = 4;
/// How many of the scene's own waiters have got their items.
const SERVED: usize = 5;
/// How many there are of them.
const EXPECTED: usize = 6;
/// The victim waits, or is dead: younger waiters may come.
const YOUNGER: usize = 7;

/// How many items go from one survivor to the other.
const TURNS: u32 = 10;
/// Each death may cost an item in its hand.
const SPARE: u32 = 3;
/// How long those of the scene itself wait.
const LONG: Duration = Duration::from_secs(8);

impl Market {
    fn new() -> &'static Market {
        let ground = Ground::new(12);
        Box::leak(Box::new(Market {
            lock: ground.object(0),
            changed: ground.object(0x1000),
            left: ground.object(64),
            right: ground.object(128),
            ground,
            notes: Memory::new(4096).counters(),
            waiters: Cell::default(),
            stopped: Cell::new(None),
            closed: Cell::new(false),
        }))
    }

    /// Until the victim sleeps there is nothing, and behind it another waits.
    fn with_younger() -> &'static Market {
        let market = Market::new();
        market.closed.set(true);
        market.add_waiter(true);
        market
    }

    /// As before, and the oldest waiter is stopped in its sleep, to be killed once it was notified.
    fn with_stopped() -> &'static Market {
        let market = Market::new();
        market.add_waiter(false);
        let mut waiters = market.waiters.take();
        let stopped = waiters.pop();
        if let Some(child) = &stopped {
            send(child, Signal::STOP);
        }
        market.stopped.set(stopped);
        market.closed.set(true);
        market.add_waiter(true);
        market
    }

    /// Two wait. They are stopped until the victim is dead: who looks by itself now and then would make each take another.
    fn awaited() -> &'static Market {
        let market = Market::new();
        market.add_waiter(false);
        market.add_waiter(false);
        let waiters = market.waiters.take();
        waiters.iter().for_each(|waiter| send(waiter, Signal::STOP));
        market.waiters.set(waiters);
        market
    }

    /// A process that takes one item; a younger one comes only when the victim waits. An elder waits when this returns.
    fn add_waiter(&'static self, younger: bool) {
        let before = self.changed.waiters();
        let child = Child::start(|| {
            let deadline = Instant::now() + LONG;
            while younger && self.notes[YOUNGER].load(SeqCst) == 0 && Instant::now() < deadline {
                std::thread::yield_now();
            }
            self.take(LONG).map_err(|trouble| trouble.to_string())?;
            self.notes[SERVED].fetch_add(1, SeqCst);
            Ok(Vec::new())
        });
        if let (Ok(child), false) = (&child, younger) {
            self.until(|| self.changed.waiters() > before && sleeps(child));
        }
        let mut waiters = self.waiters.take();
        waiters.extend(child.ok());
        self.notes[EXPECTED].store(waiters.len() as u32, SeqCst);
        self.waiters.set(waiters);
    }

    fn until(&self, so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(3);
        while !so() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }

    /// The lock, with the work of a dead holder mended and said.
    fn acquire(&self, patience: Duration) -> Result<LockGuard<'_>, Trouble> {
        match self.lock.acquire_until(self.ground.me(), Deadline::after(patience)) {
            Ok(guard) => {
                if self.notes[INSIDE].swap(1, SeqCst) != 0 {
                    return Err(Trouble::Wrong("somebody was inside already".into()));
                }
                if self.left.load(SeqCst) != self.right.load(SeqCst) {
                    let what = "half a change, and nobody said that the holder died";
                    return Err(Trouble::Wrong(what.into()));
                }
                Ok(guard)
            }
            Err(AcquireError::OwnerDied(died)) => {
                let mut guard = died.into_guard();
                self.mend(&mut guard)?;
                Ok(guard)
            }
            Err(AcquireError::TimedOut) => Err(Trouble::Late("the lock was never free".into())),
            Err(error) => Err(Trouble::Wrong(error.to_string())),
        }
    }

    fn mend(&self, guard: &mut LockGuard<'_>) -> Result<(), Trouble> {
        self.notes[INSIDE].store(1, SeqCst);
        self.left.store(self.right.load(SeqCst), SeqCst);
        self.changed.notify_all(guard).map_err(|error| error.to_string())?;
        guard.mark_consistent();
        Ok(())
    }

    /// Nobody is inside any more; the guard is about to be dropped.
    fn leave(&self, guard: LockGuard<'_>) {
        self.notes[INSIDE].store(0, SeqCst);
        drop(guard);
    }

    fn set(&self, count: u64) {
        self.left.store(count, SeqCst);
        self.right.store(count, SeqCst);
    }

    /// One item more, and one waiter told.
    fn give(&self, patience: Duration) -> Result<(), Trouble> {
        let guard = self.acquire(patience)?;
        self.notes[GIVING].fetch_add(1, SeqCst);
        self.set(self.left.load(SeqCst) + 1);
        self.changed.notify_one(&guard).map_err(|error| error.to_string())?;
        self.leave(guard);
        self.notes[GIVEN].fetch_add(1, SeqCst);
        Ok(())
    }

    /// One item less, once there is one.
    fn take(&self, patience: Duration) -> Result<(), Trouble> {
        let deadline = Deadline::after(patience);
        let mut guard = self.acquire(patience)?;
        while self.left.load(SeqCst) == 0 {
            self.notes[INSIDE].store(0, SeqCst);
            match self.changed.wait_until(&mut guard, deadline) {
                Ok(notified) => {
                    if self.notes[INSIDE].swap(1, SeqCst) != 0 {
                        return Err(Trouble::Wrong("somebody was inside already".into()));
                    }
                    if !notified && self.left.load(SeqCst) == 0 {
                        return Err(Trouble::Late("no item came".into()));
                    }
                }
                Err(ConditionError::OwnerDied { .. }) => self.mend(&mut guard)?,
                Err(error) => return Err(Trouble::Wrong(error.to_string())),
            }
        }
        let count = self.left.load(SeqCst);
        self.take_one(guard, count);
        Ok(())
    }

    fn take_one(&self, guard: LockGuard<'_>, count: u64) {
        self.notes[TAKING].fetch_add(1, SeqCst);
        self.set(count - 1);
        self.leave(guard);
        self.notes[TAKEN].fetch_add(1, SeqCst);
    }

    /// An item lies there, and the scene's own waiters have not all got one: they have to come by themselves.
    fn nobody_sleeps_beside_an_item(&self) -> Result<(), Trouble> {
        let expected = self.notes[EXPECTED].load(SeqCst);
        let idle = || self.left.load(SeqCst) == 0 || self.notes[SERVED].load(SeqCst) >= expected;
        self.until(idle);
        match idle() {
            true => Ok(()),
            false => Err(Trouble::Late("a waiter sleeps beside an item".into())),
        }
    }

    /// The lock, held, with an item that nobody was told of.
    fn holding(&'static self) -> LockGuard<'static> {
        self.ground.enter();
        self.notes[GIVING].fetch_add(1, SeqCst);
        let guard = self.lock.acquire(self.ground.me()).expect("a free lock");
        self.set(1);
        guard
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.pid()).expect("a child has a pid");
    kill_process(pid, signal).expect("a child can be sent signals");
}

/// Whether the kernel says so.
fn sleeps(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid()));
    stat.is_ok_and(|stat| stat.contains(") S "))
}

impl Scene for Market {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, who: u32, patience: Duration) -> Result<(), Trouble> {
        self.nobody_sleeps_beside_an_item()?;
        match who {
            0 => (0..TURNS + SPARE).try_for_each(|_| self.give(patience)),
            _ => (0..TURNS).try_for_each(|_| self.take(patience)),
        }
    }

    fn repair(&self, patience: Duration) -> Result<(), Trouble> {
        self.give(patience)?;
        // Others may have been faster: then it waits in vain, for a moment.
        let mut guard = self.acquire(patience)?;
        match self.left.load(SeqCst) {
            0 => {
                self.notes[INSIDE].store(0, SeqCst);
                let outcome = self.changed.wait_until(&mut guard, Deadline::NOW);
                outcome.map(drop).map_err(|error| error.to_string().into())
            }
            count => {
                self.take_one(guard, count);
                Ok(())
            }
        }
    }

    fn release(&self) {
        let waiters = self.waiters.take();
        waiters.iter().for_each(|waiter| send(waiter, Signal::CONT));
        self.waiters.set(waiters);
        if !self.closed.replace(false) {
            return;
        }
        // The victim waits, or never will. Now the younger one may come; then there is one item, for the oldest.
        let before = self.changed.waiters();
        self.notes[YOUNGER].store(1, SeqCst);
        let waiters = self.waiters.take();
        self.until(|| self.changed.waiters() > before && waiters.iter().all(sleeps));
        self.waiters.set(waiters);
        let outcome = self.give(Duration::from_secs(3));
        outcome.expect("the scene's own process can give");
        if let Some(mut stopped) = self.stopped.take() {
            stopped.kill().expect("a stopped child can be killed");
            stopped.reap();
        }
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        // Whoever still waits gets what it waits for: one that sleeps beside an item has been found before.
        for _ in 0..2 {
            self.give(Duration::from_secs(3)).map_err(|trouble| trouble.to_string())?;
        }
        for waiter in self.waiters.take() {
            match waiter.finish(Instant::now() + LONG)? {
                Ending::Done(_) => {}
                Ending::Late => audit.stuck += 1,
                Ending::Failed(complaint) => return Err(format!("a waiter: {complaint}")),
            }
        }
        let note = |index: usize| u64::from(self.notes[index].load(SeqCst));
        let (left, right) = (self.left.load(SeqCst), self.right.load(SeqCst));
        audit.torn += u32::from(left != right);
        let least = note(GIVEN).saturating_sub(note(TAKING));
        let most = note(GIVING).saturating_sub(note(TAKEN));
        audit.lost += least.saturating_sub(left) as u32;
        audit.doubled += left.saturating_sub(most) as u32;
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::new("condition.wait", Market::with_younger, Market::enter, |market, ()| {
            let _ = market.take(Duration::from_secs(5));
        })
        .twice(1),
        Operation::new("condition.inherit", Market::with_stopped, Market::enter, |market, ()| {
            let _ = market.take(Duration::from_secs(5));
        }),
        Operation::new("condition.timeout", Market::new, Market::enter, |market, ()| {
            let me = market.ground.me();
            if let Ok(mut guard) = market.lock.acquire(me) {
                let _ = market.changed.wait_until(&mut guard, Deadline::NOW);
            }
        })
        .twice(1),
        // They die with the lock, at the latest: what its release does, the lock's own operations show.
        Operation::new("condition.notify", Market::awaited, Market::holding, |market, guard| {
            let _ = market.changed.notify_one(&guard);
            std::mem::forget(guard);
        })
        .twice(1),
        Operation::new(
            "condition.notify.all",
            Market::awaited,
            Market::holding,
            |market, guard| {
                let _ = market.changed.notify_all(&guard);
                std::mem::forget(guard);
            },
        ),
    ]
}
