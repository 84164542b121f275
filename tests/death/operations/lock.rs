//! `Lock`: whoever dies with it leaves it to the next, who is told.

use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use procession_core::region::Member;
use procession_core::sync::{AcquireError, Lock, LockGuard};
use procession_core::sys::Deadline;

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Two numbers under a lock, always equal unless somebody died in between.
pub struct Account {
    pub ground: Ground,
    lock: &'static Lock,
    left: &'static AtomicU64,
    right: &'static AtomicU64,
    notes: &'static [AtomicU32],
    /// Held by the process that set the scene, until the victim sleeps.
    held: Cell<Option<LockGuard<'static>>>,
    /// Sleeps for the lock from the start.
    sleeper: Cell<Option<Child>>,
}

/// What is noted outside the region: increments begun and acknowledged, and whether somebody is inside.
const BEGUN: usize = 0;
const ACKNOWLEDGED: usize = 1;
const INSIDE: usize = 2;

/// How often each survivor uses the lock.
const TURNS: u32 = 20;

impl Account {
    /// A fresh account.
    pub fn new() -> &'static Account {
        Self::on(Ground::new(8))
    }

    /// A fresh account on this ground.
    pub fn on(ground: Ground) -> &'static Account {
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
            let done = account.deposit(account.ground.me(), Duration::from_secs(5));
            done.map(|()| Vec::new()).map_err(|trouble| trouble.to_string())
        });
        account.sleeper.set(child.ok());
        account
    }

    /// The lock, held, with a sleeper behind it.
    fn hold_before_sleeper(&'static self) -> Option<LockGuard<'static>> {
        let guard = self.lock.acquire(self.ground.me()).ok();
        // The eventcount is the lock's second word; its lowest bit says that somebody may sleep.
        let lock = std::ptr::from_ref(self.lock).cast::<AtomicU32>();
        // SAFETY: a lock is two atomics of 32 bits.
        let event = unsafe { &*lock.add(1) };
        let deadline = Instant::now() + Duration::from_secs(5);
        while event.load(SeqCst) & 1 == 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        // Give it time to fall asleep; if it has not, this is another scene, and no worse one.
        std::thread::sleep(Duration::from_micros(200));
        guard
    }

    /// One more on the account, under the lock that the caller holds.
    fn add_one(&self) {
        self.notes[BEGUN].fetch_add(1, SeqCst);
        self.left.store(self.left.load(SeqCst) + 1, SeqCst);
        self.right.store(self.right.load(SeqCst) + 1, SeqCst);
    }

    /// One more, mending what the dead have left.
    pub fn deposit(&self, me: Member<'_>, patience: Duration) -> Result<(), Trouble> {
        let guard = match self.lock.acquire_until(me, Deadline::after(patience)) {
            Ok(guard) => {
                if self.notes[INSIDE].swap(1, SeqCst) != 0 {
                    return Err(Trouble::Wrong("somebody was inside already".into()));
                }
                if self.left.load(SeqCst) != self.right.load(SeqCst) {
                    let what = "half an increment, and nobody said that the holder died";
                    return Err(Trouble::Wrong(what.into()));
                }
                guard
            }
            Err(AcquireError::OwnerDied(died)) => {
                let mut guard = died.into_guard();
                self.notes[INSIDE].store(1, SeqCst);
                self.left.store(self.right.load(SeqCst), SeqCst);
                guard.mark_consistent();
                guard
            }
            Err(AcquireError::TimedOut) => {
                return Err(Trouble::Late("the lock was never free".into()));
            }
            Err(error) => return Err(Trouble::Wrong(error.to_string())),
        };
        self.add_one();
        self.notes[INSIDE].store(0, SeqCst);
        drop(guard);
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
        (0..TURNS).try_for_each(|_| self.deposit(self.ground.me(), patience))
    }

    fn repair(&self, patience: Duration) -> Result<(), Trouble> {
        self.deposit(self.ground.me(), patience)
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
        Operation::new("lock.acquire", Account::new, Account::enter, |account, ()| {
            std::mem::forget(account.lock.acquire(account.ground.me()));
        })
        .twice(0),
        Operation::new("lock.acquire.asleep", Account::held, Account::enter, |account, ()| {
            std::mem::forget(account.lock.acquire(account.ground.me()));
        }),
        Operation::new(
            "lock.release",
            Account::new,
            |account| {
                let guard = account.lock.acquire(account.ground.me());
                account.add_one();
                guard
            },
            |_, guard| drop(guard),
        )
        .twice(0),
        Operation::new(
            "lock.release.waking",
            Account::with_sleeper,
            Account::hold_before_sleeper,
            |_, guard| drop(guard),
        ),
        Operation::new(
            "lock.detach",
            Account::new,
            |account| {
                let guard = account.lock.acquire(account.ground.me());
                account.add_one();
                guard
            },
            |_, guard| {
                if let Ok(guard) = guard {
                    guard.detach();
                }
            },
        )
        .twice(0),
        Operation::new(
            "lock.release.loose",
            Account::new,
            |account| {
                if let Ok(guard) = account.lock.acquire(account.ground.me()) {
                    account.add_one();
                    guard.detach();
                }
            },
            |account, ()| {
                let _ = account.lock.release(account.ground.me());
            },
        )
        .twice(0),
        Operation::new("lock.deposit", Account::new, Account::enter, |account, ()| {
            let _ = account.deposit(account.ground.me(), Duration::from_secs(1));
        })
        .twice(0),
    ]
}
