//! The re-entrant lock: one thread at a time, at whatever depth; nobody sleeps for good; a death at any depth is told to
//! exactly one other, who starts at level one.

use std::sync::Arc;

use loom::thread;
use procession_core::region::Member;
use procession_core::sync::{AcquireError, RLock};
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::cell::ItemCell;
use procession_core::sys::model::{self, Mutation, Sleeps};
use procession_core::sys::{Deadline, Thread};

use crate::world::{Process, explore, explore_deaths};

/// The only thread of its process.
fn first() -> Thread {
    Thread::new(1).expect("not 0")
}

/// A count that only the lock protects: loom reports two that touch it without an order between them.
struct Account {
    lock: RLock,
    balance: ItemCell<u32>,
}

impl Account {
    fn new() -> Self {
        Self { lock: RLock::new(), balance: ItemCell::empty() }
    }

    fn deposit(&self, me: Member<'_>, thread: Thread) {
        let levels = [(); 2].map(|()| {
            let level = self.lock.acquire_as(me, thread, Deadline::NEVER);
            level.expect("nobody dies here")
        });
        let [outer, inner] = levels;
        drop(outer);
        // SAFETY: under the lock; loom checks just that.
        unsafe { self.balance.write(self.balance.read() + 1) };
        drop(inner);
    }
}

fn deposits(threads: u32) {
    let account = Arc::new(Account::new());
    let own = Process::new();
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let (account, process) = (Arc::clone(&account), Process::new());
            thread::spawn(move || account.deposit(process.me(), first()))
        })
        .collect();
    account.deposit(own.me(), first());
    for other in others {
        other.join().unwrap();
    }
    // SAFETY: all others have ended.
    assert_eq!(unsafe { account.balance.read() }, threads);
}

#[test]
fn two_exclude_each_other() {
    explore(Sleeps::Endless, 3, || deposits(2));
}

#[test]
fn three_exclude_each_other() {
    explore(Sleeps::Endless, 1, || deposits(3));
}

#[test]
fn threads_of_one_process_exclude_each_other() {
    explore(Sleeps::Endless, 3, || {
        let (account, process) = (Arc::new(Account::new()), Arc::new(Process::new()));
        let other = thread::spawn({
            let (account, process) = (Arc::clone(&account), Arc::clone(&process));
            move || account.deposit(process.me(), Thread::new(2).unwrap())
        });
        account.deposit(process.me(), first());
        other.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn threads_that_call_themselves_the_same_do_not() {
    explore(Sleeps::Endless, 3, || {
        let (account, process) = (Arc::new(Account::new()), Arc::new(Process::new()));
        let other = thread::spawn({
            let (account, process) = (Arc::clone(&account), Arc::clone(&process));
            move || account.deposit(process.me(), first())
        });
        account.deposit(process.me(), first());
        other.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        deposits(2);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_two_touch_the_same() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        deposits(2);
    });
}

/// Two numbers that are the same whenever nobody is at work on them.
#[derive(Default)]
struct Pair {
    lock: RLock,
    left: AtomicU32,
    right: AtomicU32,
}

impl Pair {
    fn is_whole(&self) -> bool {
        // Relaxed: the lock alone makes the last holder's stores visible.
        self.left.load(Ordering::Relaxed) == self.right.load(Ordering::Relaxed)
    }

    /// Takes the lock, one level with a guard and one without; mends what a dead one has left, works, and leaves. `end` follows
    /// how far it came. Says whether there was a dead one.
    fn turn(&self, me: Member<'_>, end: &mut End, heard: &mut bool) {
        let outer = match self.lock.acquire_as(me, first(), Deadline::NEVER) {
            Ok(guard) => guard,
            Err(AcquireError::OwnerDied(died)) => {
                *heard = true;
                died.into_guard()
            }
            Err(error) => panic!("{error}"),
        };
        *end = End::Inside;
        assert_eq!(outer.depth(), 1, "the dead have left levels");
        match self.lock.acquire_as(me, first(), Deadline::NEVER) {
            Ok(inner) => {
                assert!(!*heard, "told on the first level only");
                inner.detach();
            }
            Err(AcquireError::OwnerDied(died)) => {
                assert!(*heard, "told on the second level only");
                let mut inner = died.into_guard();
                self.right.store(self.left.load(Ordering::Relaxed), Ordering::Relaxed);
                inner.mark_consistent();
                inner.detach();
            }
            Err(error) => panic!("{error}"),
        }
        drop(outer);
        assert!(self.is_whole(), "half written, and nobody said so");
        let next = self.left.load(Ordering::Relaxed) + 1;
        self.left.store(next, Ordering::Relaxed);
        self.right.store(next, Ordering::Relaxed);
        if model::fuel_left() >= Some(BEFORE_RELEASE) {
            *end = End::After;
        }
        self.lock.release_as(me, first()).expect("held without a guard");
    }
}

/// How many accesses of the last release come up to and with the store that frees the lock: the word, the loose levels, their
/// store, the depth, the word.
const BEFORE_RELEASE: u32 = 5;

/// How the life of a victim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It got by.
    Alive,
    /// Before it had the lock.
    Before,
    /// While it had it.
    Inside,
    /// After it had given it back.
    After,
}

/// One turn of a process that dies after `fuel` accesses. How it ended, and whether it heard of a death.
fn victim(pair: &Pair, process: &Process, fuel: u32) -> (End, bool) {
    let (mut end, mut heard) = (End::Before, false);
    let survived = process.live(fuel, |me| pair.turn(me, &mut end, &mut heard));
    (if survived.is_some() { End::Alive } else { end }, heard)
}

/// One turn of a process that lives; whether it heard of a death.
fn turn(pair: &Pair, me: Member<'_>) -> bool {
    let mut heard = false;
    pair.turn(me, &mut End::Before, &mut heard);
    heard
}

#[test]
fn a_death_at_any_depth_is_told_once() {
    explore_deaths(2, |fuel| {
        let pair = Arc::new(Pair::default());
        let (own, mortal) = (Process::new(), Process::new());
        let other = thread::spawn({
            let pair = Arc::clone(&pair);
            move || victim(&pair, &mortal, fuel)
        });
        let first = turn(&pair, own.me());
        let (end, heard) = other.join().unwrap();
        let second = turn(&pair, own.me());
        assert!(!heard, "nobody but the victim died");
        assert_eq!(u32::from(first) + u32::from(second), u32::from(end == End::Inside), "{end:?}");
        end != End::Alive
    });
}

#[test]
fn a_death_during_recovery_is_told_too() {
    // The first victim has died at depth two; the second one dies anywhere, also while it takes over.
    explore_deaths(2, |fuel| {
        let pair = Arc::new(Pair::default());
        let (own, mortal) = (Process::new(), Process::new());
        assert_eq!(victim(&pair, &Process::new(), INSIDE), (End::Inside, false));
        let other = thread::spawn({
            let pair = Arc::clone(&pair);
            move || victim(&pair, &mortal, fuel)
        });
        let first = turn(&pair, own.me());
        let (end, heard) = other.join().unwrap();
        let second = turn(&pair, own.me());
        // Each is heard of by the one who takes the lock next, whatever becomes of that one.
        let told = u32::from(first) + u32::from(second) + u32::from(heard);
        assert_eq!(told, 1 + u32::from(end == End::Inside), "{end:?}");
        end != End::Alive
    });
}

/// With so much fuel a victim that finds the lock free dies at depth two, one of the levels without a guard.
const INSIDE: u32 = 2 + 2 + 3 + 3;

#[test]
#[should_panic(expected = "held without a guard: NotHeld")]
fn a_verdict_on_the_living_takes_the_lock_away() {
    explore(Sleeps::Sliced, 3, || {
        let pair = Arc::new(Pair::default());
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let other = thread::spawn({
            let (pair, slow) = (Arc::clone(&pair), Arc::clone(&slow));
            move || turn(&pair, slow.me())
        });
        slow.declare_dead();
        turn(&pair, own.me());
        other.join().unwrap();
    });
}
