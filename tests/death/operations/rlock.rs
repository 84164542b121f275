//! `RLock`: whoever dies with it, at any depth, leaves it to the next, who is told and starts at level one.

use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use procession_core::sync::{AcquireError, RLock, RLockGuard};
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Two numbers under a lock, always equal unless somebody died in between.
struct Account {
    ground: Ground,
    lock: &'static RLock,
    left: &'static AtomicU64,
    right: &'static AtomicU64,
    notes: &'static [AtomicU32],
    /// Held by the process that set the scene, until the victim sleeps.
    held: Cell<Option<RLockGuard<'static>>>,
    /// Sleeps for the lock from the start.
    sleeper: Cell<Option<Child>>,
}

/// What is noted outside the region: increments begun and acknowledged, and whether somebody is inside.
const BEGUN: usize = 0;
const ACKNOWLEDGED: usize = 1;
const INSIDE: usize = 2;

/// How often each survivor uses the lock.
const TURNS: u32 = 20;

/// Two levels, in the order in which they were acquired.
type Levels = (RLockGuard<'static>, RLockGuard<'static>);

impl Account {
    fn new() -> &'static Account {
        let ground = Ground::new(8);
        Box::leak(Box::new(Account {
            lock: ground.object(0),
            left: ground.object(64),
            right: ground.object(128),
            ground,
            notes: Memory::new(4096).counters(),
            held: Cell::new(None),
            sleeper: Cell::new(None),
        }))
    }

    /// An account whose lock is held until the victim sleeps.
    fn held() -> &'static Account {
        let account = Account::new();
        account.held.set(account.lock.acquire(account.ground.me()).ok());
        account
    }

    /// A process that comes to sleep as soon as the lock is held by another.
    fn with_sleeper() -> &'static Account {
        let account = Account::new();
        let child = Child::start(|| {
            let deadline = Instant::now() + Duration::from_secs(5);
            while !account.lock.locked() && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let done = account.deposit(Duration::from_secs(5));
            done.map(|()| Vec::new()).map_err(|trouble| trouble.to_string())
        });
        account.sleeper.set(child.ok());
        account
    }

    /// One level.
    fn level(&'static self) -> RLockGuard<'static> {
        self.lock.acquire(self.ground.me()).expect("a lock that is free, or this thread's")
    }

    /// Two levels, with half of the work done.
    fn halfway(&'static self) -> Levels {
        let levels = (self.level(), self.level());
        self.notes[BEGUN].fetch_add(1, SeqCst);
        self.left.store(self.left.load(SeqCst) + 1, SeqCst);
        levels
    }

    /// Two levels, with a sleeper that waits for both to end.
    fn hold_before_sleeper(&'static self) -> Levels {
        let levels = (self.level(), self.level());
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.lock.sleepers().sleepers(self.ground.me()).next().is_none()
            && Instant::now() < deadline
        {
            std::thread::yield_now();
        }
        levels
    }

    /// One more, at depth two, mending what the dead have left.
    fn deposit(&self, patience: Duration) -> Result<(), Trouble> {
        let me = self.ground.me();
        let wrong = |what: &str| Err(Trouble::Wrong(what.into()));
        let mut outer = match self.lock.acquire_until(me, Deadline::after(patience)) {
            Ok(guard) => {
                if self.notes[INSIDE].swap(1, SeqCst) != 0 {
                    return wrong("somebody was inside already");
                }
                if self.left.load(SeqCst) != self.right.load(SeqCst) {
                    return wrong("half an increment, and nobody said that the holder died");
                }
                guard
            }
            Err(AcquireError::OwnerDied(died)) => {
                self.notes[INSIDE].store(1, SeqCst);
                self.left.store(self.right.load(SeqCst), SeqCst);
                died.into_guard()
            }
            Err(AcquireError::TimedOut) => {
                return Err(Trouble::Late("the lock was never free".into()));
            }
            Err(error) => return wrong(&error.to_string()),
        };
        if self.lock.depth() != 1 {
            return wrong("the dead have left levels");
        }
        outer.mark_consistent();
        let inner = match self.lock.try_acquire(me) {
            Ok(inner) => inner,
            Err(error) => return wrong(&format!("the second level: {error}")),
        };
        self.notes[BEGUN].fetch_add(1, SeqCst);
        self.left.store(self.left.load(SeqCst) + 1, SeqCst);
        drop(outer);
        self.right.store(self.right.load(SeqCst) + 1, SeqCst);
        self.notes[INSIDE].store(0, SeqCst);
        drop(inner);
        self.notes[ACKNOWLEDGED].fetch_add(1, SeqCst);
        Ok(())
    }
}

impl Scene for Account {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, _: u32, patience: Duration) -> Result<(), Trouble> {
        (0..TURNS).try_for_each(|_| self.deposit(patience))
    }

    fn repair(&self, patience: Duration) -> Result<(), Trouble> {
        self.deposit(patience)
    }

    fn release(&self) {
        self.held.set(None);
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        if let Some(sleeper) = self.sleeper.take() {
            match sleeper.finish(Instant::now() + Duration::from_secs(6))? {
                Ending::Done(_) => {}
                Ending::Late => audit.stuck += 1,
                Ending::Failed(complaint) => return Err(format!("the sleeper: {complaint}")),
            }
        }
        let begun = u64::from(self.notes[BEGUN].load(SeqCst));
        let acknowledged = u64::from(self.notes[ACKNOWLEDGED].load(SeqCst));
        let (left, right) = (self.left.load(SeqCst), self.right.load(SeqCst));
        audit.torn += u32::from(left != right);
        audit.lost += acknowledged.saturating_sub(left) as u32;
        audit.doubled += left.saturating_sub(begun) as u32;
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::new("rlock.acquire", Account::new, Account::enter, |account, ()| {
            std::mem::forget(account.lock.acquire(account.ground.me()));
        })
        .twice(0),
        Operation::new("rlock.acquire.again", Account::new, Account::halfway, |account, held| {
            std::mem::forget((account.lock.acquire(account.ground.me()), held));
        })
        .twice(0),
        Operation::new("rlock.acquire.asleep", Account::held, Account::enter, |account, ()| {
            std::mem::forget(account.lock.acquire(account.ground.me()));
        }),
        Operation::new("rlock.release", Account::new, Account::halfway, |account, levels| {
            drop(levels.0);
            account.right.store(account.right.load(SeqCst) + 1, SeqCst);
            drop(levels.1);
        })
        .twice(0),
        Operation::new("rlock.release.bare", Account::new, Account::halfway, |account, levels| {
            levels.1.detach();
            account.right.store(account.right.load(SeqCst) + 1, SeqCst);
            drop(levels.0);
            let _ = account.lock.release(account.ground.me());
        })
        .twice(0),
        Operation::new(
            "rlock.release.waking",
            Account::with_sleeper,
            Account::hold_before_sleeper,
            |_, levels| drop(levels),
        ),
        Operation::new("rlock.deposit", Account::new, Account::enter, |account, ()| {
            let _ = account.deposit(Duration::from_secs(1));
        })
        .twice(0),
    ]
}
