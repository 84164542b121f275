//! Once: one does it, all see it done, and whoever dies over it is replaced.

use std::sync::Arc;

use loom::thread;
use procession_core::region::Member;
use procession_core::sync::{Once, OnceError};
use procession_core::sys::Deadline;
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::cell::ItemCell;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

/// A value that is made once: loom reports who reads it without an order after it was made.
struct Place {
    once: Once,
    value: ItemCell<u32>,
}

impl Place {
    fn new() -> Arc<Self> {
        Arc::new(Self { once: Once::new(), value: ItemCell::empty() })
    }

    /// Makes the value, or finds it made.
    fn visit(&self, me: Member<'_>) -> bool {
        // SAFETY: nobody else makes it now, and nobody reads it before it is made; loom checks just that.
        let make = |_| unsafe { self.value.write(self.value.read() + 1) };
        let made = self.once.call(me, make).expect("nobody dies here");
        // SAFETY: it is made.
        assert_eq!(unsafe { self.value.read() }, 1);
        made
    }
}

fn visits(threads: usize) {
    let place = Place::new();
    let own = Process::new();
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let (place, process) = (Arc::clone(&place), Process::new());
            thread::spawn(move || place.visit(process.me()))
        })
        .collect();
    let mut made = usize::from(place.visit(own.me()));
    for other in others {
        made += usize::from(other.join().unwrap());
    }
    assert_eq!(made, 1);
}

#[test]
fn one_of_two_does_it() {
    explore(Sleeps::Endless, 4, || visits(2));
}

#[test]
fn one_of_three_does_it() {
    explore(Sleeps::Endless, 2, || visits(3));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        visits(2);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_some_read_before_it_is_made() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        visits(2);
    });
}

#[test]
fn what_fails_is_done_by_the_next() {
    explore(Sleeps::Endless, 3, || {
        let place = Place::new();
        let (own, process) = (Process::new(), Process::new());
        let other = thread::spawn({
            let place = Arc::clone(&place);
            move || place.visit(process.me())
        });
        let fail = || {
            place.once.call_with(own.me(), Deadline::NEVER, |_| {
                // SAFETY: nobody else is at it now; loom checks just that.
                unsafe { place.value.write(0) };
                Err(())
            })
        };
        // Twice: who has seen the first failure must not miss what the second one did.
        let _ = fail();
        let failed = fail();
        let made = other.join().unwrap();
        match failed {
            Err(OnceError::Failed(())) => assert!(made, "nobody did it"),
            answer => assert_eq!(answer, Ok(false)),
        }
        assert!(place.once.is_done());
    });
}

#[test]
fn who_only_waits_does_not_take_the_wake_of_the_next() {
    explore(Sleeps::Endless, 2, || {
        let place = Place::new();
        let (own, waiter, caller) = (Process::new(), Process::new(), Process::new());
        let waiter = thread::spawn({
            let place = Arc::clone(&place);
            move || place.once.wait(waiter.me())
        });
        let caller = thread::spawn({
            let place = Arc::clone(&place);
            move || place.visit(caller.me())
        });
        let failed = place.once.call_with(own.me(), Deadline::NEVER, |_| Err(()));
        let made = caller.join().unwrap();
        assert_eq!(failed, if made { failed } else { Ok(false) });
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn who_waits_wakes_when_it_is_done() {
    explore(Sleeps::Endless, 3, || {
        let place = Place::new();
        let (own, process) = (Process::new(), Process::new());
        let other = thread::spawn({
            let place = Arc::clone(&place);
            move || {
                place.once.wait(process.me()).unwrap();
                // SAFETY: it is made.
                assert_eq!(unsafe { place.value.read() }, 1);
            }
        });
        place.visit(own.me());
        other.join().unwrap();
    });
}

/// Two numbers that are the same when it has been done.
#[derive(Default)]
struct Pair {
    once: Once,
    left: AtomicU32,
    right: AtomicU32,
}

impl Pair {
    fn visit(&self, me: Member<'_>) -> Result<bool, OnceError> {
        let done = self.once.call(me, |again| {
            // Relaxed: the once alone makes the last runner's stores visible.
            let (left, right) =
                (self.left.load(Ordering::Relaxed), self.right.load(Ordering::Relaxed));
            assert!(again || (left, right) == (0, 0), "begun before, and nobody said so");
            self.left.store(left + 1, Ordering::Relaxed);
            self.right.store(left + 1, Ordering::Relaxed);
        })?;
        let left = self.left.load(Ordering::Relaxed);
        assert!(left > 0 && left == self.right.load(Ordering::Relaxed), "half done");
        Ok(done)
    }
}

#[test]
fn who_dies_over_it_is_replaced() {
    explore_deaths(2, |fuel| {
        let pair = Arc::new(Pair::default());
        let (own, mortal) = (Process::new(), Process::new());
        let other = thread::spawn({
            let pair = Arc::clone(&pair);
            move || mortal.live(fuel, |me| pair.visit(me).unwrap())
        });
        let mine = pair.visit(own.me()).unwrap();
        let theirs = other.join().unwrap();
        assert!(theirs.is_none() || theirs == Some(!mine), "done twice, or by nobody");
        assert!(!pair.visit(own.me()).unwrap());
        theirs.is_none()
    });
}

#[test]
fn two_who_die_over_it_are_replaced() {
    // The first victim dies between its two stores, if it is the first to come; the second one anywhere.
    explore_deaths(1, |fuel| {
        let pair = Arc::new(Pair::default());
        let own = Process::new();
        let victims = [INSIDE, fuel].map(|fuel| {
            let (pair, process) = (Arc::clone(&pair), Process::new());
            thread::spawn(move || process.live(fuel, |me| pair.visit(me).unwrap()))
        });
        pair.visit(own.me()).unwrap();
        let ends = victims.map(|victim| victim.join().unwrap());
        assert!(!pair.visit(own.me()).unwrap());
        ends[1].is_none()
    });
}

/// With so much fuel one that finds nobody there dies between its two stores.
const INSIDE: u32 = 1 + 3 + 2 + 3;

#[test]
#[should_panic(expected = "done by both")]
fn a_verdict_on_the_living_has_two_do_it() {
    explore(Sleeps::Sliced, 3, || {
        let once = Arc::new(Once::new());
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let inside = Arc::new(AtomicU32::new(0));
        let visit = |once: &Once, inside: &AtomicU32, process: &Process| {
            let _ = once.call(process.me(), |_| {
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "done by both");
                inside.fetch_sub(1, Ordering::Relaxed);
            });
        };
        let other = thread::spawn({
            let (once, inside, slow) = (Arc::clone(&once), Arc::clone(&inside), Arc::clone(&slow));
            move || visit(&once, &inside, &slow)
        });
        slow.declare_dead();
        visit(&once, &inside, &own);
        other.join().unwrap();
    });
}
