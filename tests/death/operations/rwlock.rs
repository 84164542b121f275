//! `RwLock`: whoever dies as a reader leaves nothing, and whoever dies as a writer leaves the lock to the next, who is told.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use procession_core::region::Member;
use procession_core::sync::{
    AcquireError, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard,
};
use procession_core::sys::Deadline;

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Two numbers under a lock, always equal unless a writer died in between.
pub struct Shelf {
    ground: Ground,
    lock: &'static RwLock,
    left: &'static AtomicU64,
    right: &'static AtomicU64,
    notes: &'static [AtomicU32],
    /// Held by the process that set the scene, until the victim sleeps.
    held: RefCell<Held>,
    /// Sleeps for the lock from the start.
    sleeper: Cell<Option<Child>>,
}

/// What the process that set the scene holds.
#[derive(Default)]
struct Held {
    reader: Option<RwLockReadGuard<'static>>,
    writer: Option<RwLockWriteGuard<'static>>,
}

/// What is noted outside the region: increments begun and acknowledged, and whether somebody writes.
const BEGUN: usize = 0;
const ACKNOWLEDGED: usize = 1;
const WRITING: usize = 2;

/// How often each survivor uses the lock in each way.
const TURNS: u32 = 4;

impl Shelf {
    fn new() -> &'static Shelf {
        let ground = Ground::new(8);
        Box::leak(Box::new(Shelf {
            lock: ground.object(0),
            left: ground.object(1024),
            right: ground.object(1088),
            ground,
            notes: Memory::new(4096).counters(),
            held: RefCell::default(),
            sleeper: Cell::new(None),
        }))
    }

    /// A lock that is being read under until the victim sleeps.
    fn reading() -> &'static Shelf {
        let shelf = Shelf::new();
        shelf.held.borrow_mut().reader = shelf.lock.read(shelf.me()).ok();
        shelf
    }

    /// A lock that is being written under until the victim sleeps.
    fn writing() -> &'static Shelf {
        let shelf = Shelf::new();
        shelf.held.borrow_mut().writer = shelf.lock.write(shelf.me()).ok();
        shelf
    }

    /// A process that comes to sleep as soon as somebody reads: it wants to write.
    fn with_sleeping_writer() -> &'static Shelf {
        Self::with_sleeper(|shelf| shelf.lock.readers() > 0, |shelf| shelf.write(shelf.me(), SOME))
    }

    /// A process that comes to sleep as soon as somebody writes: it wants to read.
    fn with_sleeping_reader() -> &'static Shelf {
        Self::with_sleeper(|shelf| shelf.lock.write_locked(), |shelf| shelf.read(shelf.me(), SOME))
    }

    fn with_sleeper(
        soon: impl Fn(&Shelf) -> bool,
        then: impl FnOnce(&Shelf) -> Result<(), Trouble>,
    ) -> &'static Shelf {
        let shelf = Shelf::new();
        let child = Child::start(|| {
            let deadline = Instant::now() + SOME;
            while !soon(shelf) && Instant::now() < deadline {
                std::thread::yield_now();
            }
            then(shelf).map(|()| Vec::new()).map_err(|trouble| trouble.to_string())
        });
        shelf.sleeper.set(child.ok());
        shelf
    }

    fn me(&self) -> Member<'static> {
        self.ground.me()
    }

    /// Waits until somebody sleeps at the eventcount that is this 32-bit word of the lock.
    fn await_sleeper(&self, word: usize) {
        let lock = std::ptr::from_ref(self.lock).cast::<AtomicU32>();
        // SAFETY: a lock is made of atomics; behind the word of 64 bits come three eventcounts.
        let event = unsafe { &*lock.add(word) };
        let deadline = Instant::now() + SOME;
        while event.load(SeqCst) & 1 == 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        // Give it time to fall asleep; if it has not, this is another scene, and no worse one.
        std::thread::sleep(Duration::from_micros(200));
    }

    fn read_before_sleeper(&'static self) -> Option<RwLockReadGuard<'static>> {
        let guard = self.lock.read(self.me()).ok();
        self.await_sleeper(DRAIN);
        guard
    }

    fn write_before_sleeper(&'static self) -> Option<RwLockWriteGuard<'static>> {
        let guard = self.lock.write(self.me()).ok();
        self.await_sleeper(READERS);
        guard
    }

    fn look_upgradably(&'static self) -> Option<RwLockUpgradableReadGuard<'static>> {
        self.enter();
        self.lock.upgradable_read(self.me()).ok()
    }

    /// One more on both, by a writer that is in.
    fn add_one(&self) {
        self.notes[BEGUN].fetch_add(1, SeqCst);
        self.left.store(self.left.load(SeqCst) + 1, SeqCst);
        self.right.store(self.right.load(SeqCst) + 1, SeqCst);
    }

    fn is_whole(&self) -> bool {
        self.left.load(SeqCst) == self.right.load(SeqCst)
    }

    /// What a writer does, which knows by its guard whether another died.
    fn work(&self, guard: &mut RwLockWriteGuard<'_>) -> Result<(), Trouble> {
        let busy = self.notes[WRITING].swap(1, SeqCst) != 0;
        if guard.owner_died() {
            self.left.store(self.right.load(SeqCst), SeqCst);
            guard.mark_consistent();
        } else if busy {
            return Err(Trouble::Wrong("somebody was writing already".into()));
        } else if !self.is_whole() {
            return Err(Trouble::Wrong("half an increment, and nobody said so".into()));
        }
        self.add_one();
        self.notes[WRITING].store(0, SeqCst);
        Ok(())
    }

    /// What a reader does: nobody writes meanwhile.
    fn look(&self, died: bool) -> Result<(), Trouble> {
        for _ in 0..3 {
            if !died && (self.notes[WRITING].load(SeqCst) != 0 || !self.is_whole()) {
                return Err(Trouble::Wrong("somebody writes beside a reader".into()));
            }
        }
        Ok(())
    }

    fn write(&self, me: Member<'_>, patience: Duration) -> Result<(), Trouble> {
        let mut guard = taken(self.lock.write_until(me, Deadline::after(patience)))?;
        self.work(&mut guard)?;
        drop(guard);
        self.notes[ACKNOWLEDGED].fetch_add(1, SeqCst);
        Ok(())
    }

    fn write_and_read(&self, me: Member<'_>, patience: Duration) -> Result<(), Trouble> {
        let mut guard = taken(self.lock.write_until(me, Deadline::after(patience)))?;
        self.work(&mut guard)?;
        let guard = guard.downgrade_to_upgradable();
        self.look(false)?;
        let guard = guard.upgrade_until(Deadline::after(patience));
        let guard = guard.map_err(|not| Trouble::Late(not.to_string()))?;
        let guard = guard.downgrade();
        self.look(false)?;
        drop(guard);
        self.notes[ACKNOWLEDGED].fetch_add(1, SeqCst);
        Ok(())
    }

    fn read(&self, me: Member<'_>, patience: Duration) -> Result<(), Trouble> {
        let guard = taken(self.lock.read_until(me, Deadline::after(patience)))?;
        self.look(guard.owner_died())
    }

    fn upgrade(&self, me: Member<'_>, patience: Duration) -> Result<(), Trouble> {
        let guard = taken(self.lock.upgradable_read_until(me, Deadline::after(patience)))?;
        self.look(guard.owner_died())?;
        let guard = guard.upgrade_until(Deadline::after(patience));
        let mut guard = guard.map_err(|not| Trouble::Late(not.to_string()))?;
        self.work(&mut guard)?;
        drop(guard);
        self.notes[ACKNOWLEDGED].fetch_add(1, SeqCst);
        Ok(())
    }
}

/// As 32-bit words of the lock.
const READERS: usize = 2;
const DRAIN: usize = 4;
/// How long those wait that are not survivors.
const SOME: Duration = Duration::from_secs(5);

/// The guard, told of a death or not.
fn taken<G>(answer: Result<G, AcquireError<G>>) -> Result<G, Trouble> {
    answer.or_else(AcquireError::into_guard).map_err(|error| match error {
        AcquireError::TimedOut => Trouble::Late("the lock was never free".into()),
        error => Trouble::Wrong(error.to_string()),
    })
}

impl Scene for Shelf {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, who: u32, patience: Duration) -> Result<(), Trouble> {
        let me = self.me();
        for _ in 0..TURNS {
            // One comes as a reader first, the others as writers.
            if who == 0 {
                self.read(me, patience)?;
            }
            self.write(me, patience)?;
            self.upgrade(me, patience)?;
            self.read(me, patience)?;
            self.write_and_read(me, patience)?;
        }
        Ok(())
    }

    fn repair(&self, patience: Duration) -> Result<(), Trouble> {
        self.read(self.me(), patience)?;
        self.write(self.me(), patience)
    }

    fn release(&self) {
        self.held.take();
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        if let Some(sleeper) = self.sleeper.take() {
            match sleeper.finish(Instant::now() + SOME + Duration::from_secs(1))? {
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
        // The last one wrote, and has put out all dead readers.
        audit.stuck += self.lock.readers() as u32;
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    fn written(shelf: &'static Shelf) -> Option<RwLockWriteGuard<'static>> {
        shelf.enter();
        let guard = shelf.lock.write(shelf.me()).ok();
        shelf.add_one();
        guard
    }
    vec![
        Operation::new("rwlock.read", Shelf::new, Shelf::enter, |shelf, ()| {
            std::mem::forget(shelf.lock.read(shelf.me()));
        })
        .twice(0),
        Operation::new("rwlock.read.asleep", Shelf::writing, Shelf::enter, |shelf, ()| {
            std::mem::forget(shelf.lock.read(shelf.me()));
        }),
        Operation::new(
            "rwlock.read.release",
            Shelf::new,
            |shelf| shelf.lock.read(shelf.me()),
            |_, guard| drop(guard),
        ),
        Operation::new(
            "rwlock.read.release.waking",
            Shelf::with_sleeping_writer,
            Shelf::read_before_sleeper,
            |_, guard| drop(guard),
        ),
        Operation::new("rwlock.write", Shelf::new, Shelf::enter, |shelf, ()| {
            std::mem::forget(shelf.lock.write(shelf.me()));
        })
        .twice(0),
        Operation::new("rwlock.write.asleep", Shelf::reading, Shelf::enter, |shelf, ()| {
            std::mem::forget(shelf.lock.write(shelf.me()));
        }),
        Operation::new("rwlock.write.queued", Shelf::writing, Shelf::enter, |shelf, ()| {
            std::mem::forget(shelf.lock.write(shelf.me()));
        }),
        Operation::new("rwlock.write.try", Shelf::reading, Shelf::enter, |shelf, ()| {
            std::mem::forget(shelf.lock.try_write(shelf.me()));
        }),
        Operation::new("rwlock.write.release", Shelf::new, written, |_, guard| drop(guard)),
        Operation::new(
            "rwlock.write.release.waking",
            Shelf::with_sleeping_reader,
            Shelf::write_before_sleeper,
            |_, guard| drop(guard),
        ),
        Operation::new("rwlock.look", Shelf::new, Shelf::enter, |shelf, ()| {
            std::mem::forget(shelf.lock.upgradable_read(shelf.me()));
        }),
        Operation::new("rwlock.look.release", Shelf::new, Shelf::look_upgradably, |_, guard| {
            drop(guard);
        }),
        Operation::new("rwlock.upgrade", Shelf::new, Shelf::look_upgradably, |_, guard| {
            std::mem::forget(guard.map(RwLockUpgradableReadGuard::upgrade));
        })
        .twice(0),
        Operation::new(
            "rwlock.upgrade.asleep",
            Shelf::reading,
            Shelf::look_upgradably,
            |_, guard| std::mem::forget(guard.map(RwLockUpgradableReadGuard::upgrade)),
        ),
        Operation::new("rwlock.upgrade.try", Shelf::reading, Shelf::look_upgradably, |_, guard| {
            std::mem::forget(guard.map(RwLockUpgradableReadGuard::try_upgrade))
        }),
        Operation::new("rwlock.downgrade", Shelf::new, written, |_, guard| {
            std::mem::forget(guard.map(RwLockWriteGuard::downgrade));
        }),
        Operation::new("rwlock.downgrade.look", Shelf::new, written, |_, guard| {
            std::mem::forget(guard.map(RwLockWriteGuard::downgrade_to_upgradable));
        }),
        Operation::new("rwlock.turn", Shelf::new, Shelf::enter, |shelf, ()| {
            let _ = shelf.write_and_read(shelf.me(), Duration::from_secs(1));
        }),
    ]
}
