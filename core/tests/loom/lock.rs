//! The lock: one holder at a time, nobody sleeps for good, and a death inside is told to exactly one other.

use std::sync::Arc;

use loom::thread;
use procession_core::region::Member;
use procession_core::sync::{AcquireError, Lock, LockGuard};
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::cell::ItemCell;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

/// A count that only the lock protects: loom reports two that touch it without an order between them.
struct Account {
    lock: Lock,
    balance: ItemCell<u32>,
}

impl Account {
    fn new() -> Self {
        Self { lock: Lock::new(), balance: ItemCell::empty() }
    }

    fn deposit(&self, me: Member<'_>) {
        let _guard = self.lock.acquire(me).expect("nobody dies here");
        // SAFETY: under the lock; loom checks just that.
        unsafe { self.balance.write(self.balance.read() + 1) };
    }
}

fn deposits(threads: u32, each: u32) {
    let account = Arc::new(Account::new());
    let own = Process::new();
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let (account, process) = (Arc::clone(&account), Process::new());
            thread::spawn(move || {
                for _ in 0..each {
                    account.deposit(process.me());
                }
            })
        })
        .collect();
    for _ in 0..each {
        account.deposit(own.me());
    }
    for other in others {
        other.join().unwrap();
    }
    // SAFETY: all others have ended.
    assert_eq!(unsafe { account.balance.read() }, threads * each);
}

#[test]
fn two_exclude_each_other() {
    explore(Sleeps::Endless, 4, || deposits(2, 1));
}

#[test]
fn two_exclude_each_other_twice() {
    explore(Sleeps::Endless, 3, || deposits(2, 2));
}

#[test]
fn three_exclude_each_other() {
    explore(Sleeps::Endless, 2, || deposits(3, 1));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        deposits(2, 1);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_two_touch_the_same() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        deposits(2, 1);
    });
}

#[test]
fn a_newcomer_is_not_taken_for_dead() {
    explore(Sleeps::Endless, 3, || {
        let account = Arc::new(Account::new());
        let own = Process::new();
        let newcomer = thread::spawn({
            let account = Arc::clone(&account);
            move || account.deposit(Process::new().me())
        });
        // An error, if the newcomer is found inside but not in the table.
        account.deposit(own.me());
        newcomer.join().unwrap();
    });
}

/// Two numbers that are the same whenever nobody is at work on them.
#[derive(Default)]
struct Pair {
    lock: Lock,
    left: AtomicU32,
    right: AtomicU32,
}

impl Pair {
    /// Relaxed: the lock alone makes the last holder's stores visible.
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

    /// Takes the lock, mends what a dead one left, works. Says whether there was a dead one.
    fn turn(&self, me: Member<'_>) -> bool {
        let (mut guard, died) = self.take(me);
        if died {
            self.mend();
            guard.mark_consistent();
        }
        self.work();
        died
    }

    fn take<'a>(&'a self, me: Member<'a>) -> (LockGuard<'a>, bool) {
        match self.lock.acquire(me) {
            Ok(guard) => (guard, false),
            Err(AcquireError::OwnerDied(died)) => (died.into_guard(), true),
            Err(error) => panic!("{error}"),
        }
    }
}

/// How many accesses of a guard's drop come before the lock is free: it looks at the word, then it stores.
const BEFORE_RELEASE: u32 = 2;

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

/// One turn of a process that dies after `fuel` accesses; it mends nothing that others have left. How it ended,
/// and whether it heard of a death.
fn victim(pair: &Pair, process: &Process, fuel: u32) -> (End, bool) {
    let mut end = End::Before;
    let mut heard = false;
    let survived = process.live(fuel, |me| {
        let (mut guard, died) = pair.take(me);
        end = End::Inside;
        heard = died;
        if died {
            pair.mend();
            guard.mark_consistent();
        }
        pair.work();
        if model::fuel_left() >= Some(BEFORE_RELEASE) {
            end = End::After;
        }
    });
    (if survived.is_some() { End::Alive } else { end }, heard)
}

#[test]
fn a_death_inside_is_told_once() {
    explore_deaths(2, |fuel| {
        let pair = Arc::new(Pair::default());
        let (own, mortal) = (Process::new(), Process::new());
        let other = thread::spawn({
            let pair = Arc::clone(&pair);
            move || victim(&pair, &mortal, fuel)
        });
        let first = pair.turn(own.me());
        let (end, heard) = other.join().unwrap();
        let second = pair.turn(own.me());
        assert!(!heard, "nobody but the victim died");
        assert_eq!(u32::from(first) + u32::from(second), u32::from(end == End::Inside), "{end:?}");
        end != End::Alive
    });
}

#[test]
#[should_panic(expected = "half written, and nobody said so")]
fn a_verdict_on_the_living_makes_two_holders() {
    explore(Sleeps::Sliced, 3, || {
        let pair = Arc::new(Pair::default());
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let other = thread::spawn({
            let (pair, slow) = (Arc::clone(&pair), Arc::clone(&slow));
            move || pair.turn(slow.me())
        });
        slow.declare_dead();
        pair.turn(own.me());
        other.join().unwrap();
    });
}

#[test]
fn a_death_during_recovery_is_told_too() {
    // The first victim dies halfway through its work, at a point where it has the lock; the second one anywhere.
    explore_deaths(2, |fuel| {
        let pair = Arc::new(Pair::default());
        let own = Process::new();
        let victims = [INSIDE, fuel].map(|fuel| {
            let (pair, process) = (Arc::clone(&pair), Process::new());
            thread::spawn(move || victim(&pair, &process, fuel))
        });
        let mut told = u32::from(pair.turn(own.me()));
        let ends = victims.map(|victim| victim.join().unwrap());
        told += u32::from(pair.turn(own.me()));
        let inside = ends.iter().filter(|(end, _)| *end == End::Inside).count() as u32;
        let heard = ends.iter().filter(|(_, heard)| *heard).count() as u32;
        // Each is heard of by the one who takes the lock next, whatever becomes of that one.
        assert_eq!(told + heard, inside, "{ends:?}");
        ends[1].0 != End::Alive
    });
}

#[test]
fn what_is_held_loosely_is_released_once() {
    explore(Sleeps::Endless, 2, || {
        let account = Arc::new(Account::new());
        let (own, releaser, waiter) = (Process::new(), Process::new(), Process::new());
        let guard = account.lock.acquire(own.me()).expect("nobody dies here");
        // SAFETY: under the lock.
        unsafe { account.balance.write(1) };
        guard.detach();
        let releaser = thread::spawn({
            let account = Arc::clone(&account);
            move || account.lock.release(releaser.me()).is_ok()
        });
        let waiter = thread::spawn({
            let account = Arc::clone(&account);
            move || account.deposit(waiter.me())
        });
        let own_turn = account.lock.release(own.me()).is_ok();
        let other_turn = releaser.join().unwrap();
        waiter.join().unwrap();
        // A release may meet the waiter's guard, which is none of its business.
        assert!(own_turn != other_turn, "released by both, or by nobody");
        account.deposit(own.me());
        // SAFETY: all others have ended.
        assert_eq!(unsafe { account.balance.read() }, 3);
    });
}

#[test]
fn who_holds_loosely_or_releases_may_die() {
    explore_deaths(2, |fuel| {
        let pair = Arc::new(Pair::default());
        let (own, mortal) = (Process::new(), Process::new());
        let other = thread::spawn({
            let pair = Arc::clone(&pair);
            move || {
                let life = mortal.live(fuel, |me| {
                    let (guard, _) = pair.take(me);
                    pair.work();
                    guard.detach();
                    pair.lock.release(me).expect("nobody else releases")
                });
                life.is_none()
            }
        });
        pair.turn(own.me());
        let died = other.join().unwrap();
        pair.turn(own.me());
        died
    });
}

/// With so much fuel a victim that finds the lock free dies between its two stores.
const INSIDE: u32 = 1 + 3 + 1;
