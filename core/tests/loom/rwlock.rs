//! The lock for readers and writers: a writer is alone, nobody sleeps for good, and only a writer's death is told.

use std::sync::Arc;

use loom::thread;
use procession_core::region::Member;
use procession_core::sync::{AcquireError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use procession_core::sys::Deadline;
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::cell::ItemCell;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

/// A count that only the lock protects: loom reports two that touch it without an order between them, if one writes.
struct Account {
    lock: RwLock,
    balance: ItemCell<u32>,
}

impl Account {
    fn new() -> Self {
        Self { lock: RwLock::new(), balance: ItemCell::empty() }
    }

    fn add(&self, _guard: &RwLockWriteGuard<'_>) {
        // SAFETY: no other is in; loom checks just that.
        unsafe { self.balance.write(self.balance.read() + 1) };
    }

    fn get(&self) -> u32 {
        // SAFETY: no writer is in; loom checks just that.
        unsafe { self.balance.read() }
    }

    fn deposit(&self, me: Member<'_>) {
        let guard = self.lock.write(me).expect("nobody dies here");
        self.add(&guard);
    }

    fn look(&self, me: Member<'_>) -> u32 {
        let _guard = self.lock.read(me).expect("nobody dies here");
        self.get()
    }

    /// Looks, and adds one if nobody has.
    fn first(&self, me: Member<'_>) {
        let guard = self.lock.upgradable_read(me).expect("nobody dies here");
        if self.get() == 0 {
            self.add(&guard.upgrade().expect("nobody dies here"));
        }
    }

    /// Adds one and looks at it, before others can write.
    fn deposit_and_look(&self, me: Member<'_>) {
        let guard = self.lock.write(me).expect("nobody dies here");
        self.add(&guard);
        let before = self.get();
        let _guard = guard.downgrade();
        assert_eq!(self.get(), before);
    }

    /// The same by way of an upgradable read.
    fn deposit_and_keep(&self, me: Member<'_>) {
        let guard = self.lock.write(me).expect("nobody dies here");
        self.add(&guard);
        let before = self.get();
        let guard = guard.downgrade_to_upgradable();
        assert_eq!(self.get(), before);
        self.add(&guard.upgrade().expect("nobody dies here"));
        self.look(me);
    }

    /// Adds one if nobody else is in.
    fn try_deposit(&self, me: Member<'_>) -> u32 {
        match self.lock.try_write(me) {
            Ok(guard) => self.add(&guard),
            Err(AcquireError::WouldBlock) => return 0,
            Err(error) => panic!("{error}"),
        }
        1
    }

    /// Adds one if no reader is left when the time is up, which it is at once.
    fn try_upgrade(&self, me: Member<'_>) -> u32 {
        let guard = self.lock.upgradable_read(me).expect("nobody dies here");
        match guard.upgrade_until(Deadline::NOW) {
            Ok(guard) => {
                self.add(&guard);
                1
            }
            Err(not) => {
                let _reads_on = not.into_guard();
                self.get();
                0
            }
        }
    }
}

type Part = fn(&Account, Member<'_>) -> u32;

const WRITE: Part = |account, me| {
    account.deposit(me);
    1
};
const READ: Part = |account, me| {
    account.look(me);
    0
};
const DOWNGRADE: Part = |account, me| {
    account.deposit_and_look(me);
    1
};
const KEEP: Part = |account, me| {
    account.deposit_and_keep(me);
    2
};
const TRY_WRITE: Part = |account, me| account.try_deposit(me);
const TRY_UPGRADE: Part = |account, me| account.try_upgrade(me);

/// Each part is a process; afterwards as much is on the account as they say.
fn together<const N: usize>(parts: [Part; N]) {
    let account = Arc::new(Account::new());
    let own = Process::new();
    let others: Vec<_> = parts[1..]
        .iter()
        .map(|part| {
            let (account, process, part) = (Arc::clone(&account), Process::new(), *part);
            thread::spawn(move || part(&account, process.me()))
        })
        .collect();
    let mut sum = parts[0](&account, own.me());
    for other in others {
        sum += other.join().unwrap();
    }
    assert_eq!(account.look(own.me()), sum);
}

#[test]
fn two_writers_exclude_each_other() {
    explore(Sleeps::Endless, 3, || together([WRITE, WRITE]));
}

#[test]
fn a_writer_and_a_reader_exclude_each_other() {
    explore(Sleeps::Endless, 3, || together([WRITE, READ]));
}

#[test]
fn two_readers_and_a_writer() {
    explore(Sleeps::Endless, 2, || together([READ, WRITE, READ]));
}

#[test]
fn two_writers_and_a_reader() {
    explore(Sleeps::Endless, 2, || together([WRITE, READ, WRITE]));
}

#[test]
fn more_readers_than_cells() {
    explore(Sleeps::Endless, 2, || together([READ, READ, READ]));
}

#[test]
fn more_readers_than_cells_and_a_writer() {
    explore(Sleeps::Endless, 1, || together([READ, READ, WRITE, READ]));
}

#[test]
fn a_writer_becomes_a_reader() {
    explore(Sleeps::Endless, 2, || together([DOWNGRADE, WRITE]));
    explore(Sleeps::Endless, 2, || together([DOWNGRADE, READ]));
    explore(Sleeps::Endless, 1, || together([DOWNGRADE, DOWNGRADE, READ]));
}

#[test]
fn a_writer_becomes_an_upgradable_reader() {
    explore(Sleeps::Endless, 2, || together([KEEP, WRITE]));
    explore(Sleeps::Endless, 2, || together([KEEP, READ]));
}

#[test]
fn whoever_gives_up_wakes_the_others() {
    explore(Sleeps::Endless, 2, || together([TRY_WRITE, READ]));
    explore(Sleeps::Endless, 2, || together([TRY_UPGRADE, READ]));
    explore(Sleeps::Endless, 2, || together([TRY_WRITE, WRITE]));
    explore(Sleeps::Endless, 1, || together([TRY_UPGRADE, READ, WRITE]));
}

#[test]
fn between_look_and_upgrade_nobody_writes() {
    explore(Sleeps::Endless, 2, || {
        let account = Arc::new(Account::new());
        let own = Process::new();
        let other = thread::spawn({
            let (account, process) = (Arc::clone(&account), Process::new());
            move || account.first(process.me())
        });
        account.first(own.me());
        other.join().unwrap();
        assert_eq!(account.look(own.me()), 1);
    });
}

#[test]
fn an_upgrade_waits_for_readers() {
    explore(Sleeps::Endless, 2, || {
        let account = Arc::new(Account::new());
        let own = Process::new();
        let other = thread::spawn({
            let (account, process) = (Arc::clone(&account), Process::new());
            move || account.look(process.me())
        });
        account.first(own.me());
        other.join().unwrap();
    });
}

#[test]
fn who_gives_up_hands_on_what_was_written() {
    explore(Sleeps::Endless, 2, || {
        let account = Arc::new(Account::new());
        let own = Process::new();
        let other = thread::spawn({
            let (account, process) = (Arc::clone(&account), Process::new());
            move || account.look(process.me())
        });
        account.deposit(own.me());
        let reading = account.lock.read(own.me()).expect("nobody dies here");
        let looking = account.lock.upgradable_read(own.me()).expect("nobody dies here");
        // Its own reader is in the way.
        let looking = looking.try_upgrade().expect_err("a reader is in").into_guard();
        other.join().unwrap();
        drop((reading, looking));
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_fences_reader_and_writer_miss_each_other() {
    explore(Sleeps::Sliced, 3, || {
        model::mutate(Mutation::NoFences);
        together([WRITE, READ]);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        together([WRITE, WRITE]);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_two_touch_the_same() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        together([WRITE, READ]);
    });
}

/// Two numbers that are the same whenever no writer is at work on them.
#[derive(Default)]
struct Pair {
    lock: RwLock,
    left: AtomicU32,
    right: AtomicU32,
}

impl Pair {
    /// Relaxed: the lock alone makes the last writer's stores visible.
    fn is_whole(&self) -> bool {
        self.left.load(Ordering::Relaxed) == self.right.load(Ordering::Relaxed)
    }

    fn work(&self) {
        assert!(self.is_whole(), "half written, and nobody said so");
        let next = self.left.load(Ordering::Relaxed) + 1;
        self.left.store(next, Ordering::Relaxed);
        self.right.store(next, Ordering::Relaxed);
    }

    fn mend(&self) {
        self.right.store(self.left.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Writes, mending what a dead one left. Says whether there was a dead one.
    fn write(&self, me: Member<'_>) -> bool {
        let (mut guard, died) = told(self.lock.write(me));
        if died {
            self.mend();
            guard.mark_consistent();
        }
        self.work();
        died
    }

    /// Reads. Says whether there was a dead writer.
    fn read(&self, me: Member<'_>) -> bool {
        let (_guard, died): (RwLockReadGuard<'_>, _) = told(self.lock.read(me));
        assert!(died || self.is_whole(), "half written, and nobody said so");
        died
    }
}

fn told<G>(answer: Result<G, AcquireError<G>>) -> (G, bool) {
    match answer {
        Ok(guard) => (guard, false),
        Err(AcquireError::OwnerDied(died)) => (died.into_guard(), true),
        Err(error) => panic!("{error}"),
    }
}

/// How many accesses of a write guard's drop come before the lock is free: it looks at the word, then it stores.
const BEFORE_RELEASE: u32 = 2;

/// How the life of a victim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It got by.
    Alive,
    /// Before it had the lock, or as a reader.
    Outside,
    /// While it wrote.
    Inside,
    /// After it had released the lock.
    After,
}

/// The ways of a victim.
#[derive(Clone, Copy)]
enum Way {
    Write,
    Read,
    Upgrade,
    Downgrade,
}

/// One turn of a process that dies after `fuel` accesses. How it ended, and whether it heard of a death.
fn victim(pair: &Pair, process: &Process, fuel: u32, way: Way) -> (End, bool) {
    let mut end = End::Outside;
    let mut heard = false;
    let survived = process.live(fuel, |me| {
        let mut guard = match way {
            Way::Read => {
                pair.read(me);
                return;
            }
            Way::Upgrade => {
                let (guard, _) = told(pair.lock.upgradable_read(me));
                assert!(guard.owner_died() || pair.is_whole(), "half written, and nobody said so");
                guard.upgrade().expect("others read and leave")
            }
            Way::Write | Way::Downgrade => told(pair.lock.write(me)).0,
        };
        end = End::Inside;
        heard = guard.owner_died();
        if heard {
            pair.mend();
            guard.mark_consistent();
        }
        pair.work();
        // A downgrade says besides who the heir is.
        let before = BEFORE_RELEASE + u32::from(matches!(way, Way::Downgrade));
        if model::fuel_left() >= Some(before) {
            end = End::After;
        }
        if matches!(way, Way::Downgrade) {
            let _guard = guard.downgrade();
            assert!(pair.is_whole(), "a writer came in between");
        }
    });
    (if survived.is_some() { End::Alive } else { end }, heard)
}

/// A victim of this kind, beside one that writes and then reads.
fn a_death(way: Way, preemptions: usize) {
    explore_deaths(preemptions, move |fuel| {
        let pair = Arc::new(Pair::default());
        let (own, mortal) = (Process::new(), Process::new());
        let other = thread::spawn({
            let pair = Arc::clone(&pair);
            move || victim(&pair, &mortal, fuel, way)
        });
        let first = pair.write(own.me());
        let (end, _) = other.join().unwrap();
        assert_eq!(pair.read(own.me()), end == End::Inside && !first, "{end:?}");
        let second = pair.write(own.me());
        assert_eq!(u32::from(first) + u32::from(second), u32::from(end == End::Inside), "{end:?}");
        assert!(!pair.read(own.me()), "it was mended");
        end != End::Alive
    });
}

#[test]
fn a_writers_death_is_told_until_somebody_mends() {
    a_death(Way::Write, 2);
}

#[test]
fn a_readers_death_is_not_told() {
    a_death(Way::Read, 2);
}

#[test]
fn an_upgraders_death_is_told_if_it_was_writing() {
    a_death(Way::Upgrade, 1);
}

#[test]
fn a_downgraders_death_is_told_if_it_was_writing() {
    a_death(Way::Downgrade, 1);
}

/// A reader meets the death first, and lets others in.
#[test]
fn a_reader_puts_a_dead_writer_out() {
    explore_deaths(2, |fuel| {
        let pair = Arc::new(Pair::default());
        let (own, mortal) = (Process::new(), Process::new());
        let other = thread::spawn({
            let pair = Arc::clone(&pair);
            move || victim(&pair, &mortal, fuel, Way::Write)
        });
        let told = pair.read(own.me());
        let (end, _) = other.join().unwrap();
        assert!(!told || end == End::Inside, "{end:?}");
        assert_eq!(pair.read(own.me()), end == End::Inside, "{end:?}");
        end != End::Alive
    });
}

/// Whoever hears of a death sees what the dead one had stored, though another has found it dead.
fn news_come_with_the_data(other: fn(&Pair, Member<'_>)) {
    explore(Sleeps::Sliced, 2, move || {
        let pair = Arc::new(Pair::default());
        let (own, mortal, finder) = (Process::new(), Process::new(), Process::new());
        let dying = thread::spawn({
            let pair = Arc::clone(&pair);
            move || victim(&pair, &mortal, INSIDE, Way::Write)
        });
        let finding = thread::spawn({
            let pair = Arc::clone(&pair);
            move || other(&pair, finder.me())
        });
        let (guard, died) = told(pair.lock.read(own.me()));
        let seen = pair.left.load(Ordering::Relaxed);
        drop(guard);
        dying.join().unwrap();
        finding.join().unwrap();
        if died {
            assert_eq!(seen, pair.left.load(Ordering::Relaxed), "older than the death");
        }
    });
}

#[test]
fn a_reader_hands_on_what_the_dead_had_stored() {
    news_come_with_the_data(|pair, me| drop(told(pair.lock.read(me))));
}

#[test]
fn an_upgradable_reader_hands_on_what_the_dead_had_stored() {
    news_come_with_the_data(|pair, me| drop(told(pair.lock.upgradable_read(me))));
}

#[test]
fn a_try_that_comes_the_long_way_excludes_readers() {
    explore(Sleeps::Sliced, 2, || {
        let account = Arc::new(Account::new());
        let (own, mortal) = (Process::new(), Process::new());
        // A writer dies inside, and nobody mends: the word is never as the short ways want it.
        assert!(mortal.live(INSIDE_AT_ONCE, |me| drop(account.lock.write(me))).is_none());
        let other = thread::spawn({
            let (account, process) = (Arc::clone(&account), Process::new());
            move || {
                let (_guard, died) = told(account.lock.read(process.me()));
                assert!(died);
                account.get()
            }
        });
        match account.lock.try_write(own.me()) {
            Err(AcquireError::OwnerDied(died)) => account.add(died.guard()),
            Err(AcquireError::WouldBlock) => {}
            _ => panic!("nobody has mended it"),
        }
        other.join().unwrap();
    });
}

/// With so much fuel a writer that finds the lock free dies as soon as it is in.
const INSIDE_AT_ONCE: u32 = INSIDE - 4;

/// More readers than cells, and all of them dead.
#[test]
fn dead_readers_give_back_their_cells() {
    explore_deaths(1, |fuel| {
        let pair = Arc::new(Pair::default());
        let own = Process::new();
        let victims = [BEHIND_CLAIM, fuel].map(|fuel| {
            let (pair, process) = (Arc::clone(&pair), Process::new());
            thread::spawn(move || victim(&pair, &process, fuel, Way::Read))
        });
        let ends = victims.map(|victim| victim.join().unwrap().0);
        assert!(!pair.read(own.me()));
        assert!(!pair.write(own.me()));
        ends[1] != End::Alive
    });
}

/// With so much fuel a reader that finds the lock free dies behind its claim of a cell.
const BEHIND_CLAIM: u32 = 2;

/// The first victim dies between its two stores, the second anywhere.
fn two_deaths(second: Way) {
    explore_deaths(1, move |fuel| {
        let pair = Arc::new(Pair::default());
        let own = Process::new();
        let victims = [(INSIDE, Way::Write), (fuel, second)].map(|(fuel, way)| {
            let (pair, process) = (Arc::clone(&pair), Process::new());
            thread::spawn(move || victim(&pair, &process, fuel, way))
        });
        let mut told = u32::from(pair.write(own.me()));
        let ends = victims.map(|victim| victim.join().unwrap());
        told += u32::from(pair.write(own.me()));
        let inside = ends.iter().filter(|(end, _)| *end == End::Inside).count() as u32;
        let heard = ends.iter().filter(|(_, heard)| *heard).count() as u32;
        // Each is heard of by the one who writes next, whatever becomes of that one.
        assert_eq!(told + heard, inside, "{ends:?}");
        ends[1].0 != End::Alive
    });
}

#[test]
fn a_death_during_recovery_is_told_too() {
    two_deaths(Way::Write);
}

#[test]
fn a_reader_that_dies_during_recovery_loses_no_news() {
    two_deaths(Way::Read);
}

/// With so much fuel a writer that finds the lock free dies between its two stores: it claims the word, looks at three cells,
/// enters, and then works with three loads and a store.
const INSIDE: u32 = 1 + 1 + 3 + 1 + 3 + 1;

#[test]
#[should_panic(expected = "half written, and nobody said so")]
fn a_verdict_on_the_living_makes_two_writers() {
    explore(Sleeps::Sliced, 3, || {
        let pair = Arc::new(Pair::default());
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let other = thread::spawn({
            let (pair, slow) = (Arc::clone(&pair), Arc::clone(&slow));
            move || pair.write(slow.me())
        });
        slow.declare_dead();
        pair.write(own.me());
        other.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "half written, and nobody said so")]
fn a_verdict_on_a_living_reader_lets_a_writer_in() {
    explore(Sleeps::Sliced, 3, || {
        let pair = Arc::new(Pair::default());
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let other = thread::spawn({
            let (pair, slow) = (Arc::clone(&pair), Arc::clone(&slow));
            move || pair.read(slow.me())
        });
        slow.declare_dead();
        pair.write(own.me());
        other.join().unwrap();
    });
}
