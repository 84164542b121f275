//! The atomic on whose change one can wait: nobody sleeps beside a change, even if who made it died before the wake.

use std::sync::Arc;

use loom::thread;
use procession_core::region::Member;
use procession_core::sync::Atomic;
use procession_core::sys::atomic::Ordering;
use procession_core::sys::cell::ItemCell;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

/// A letter, and how many have been written.
struct Letter {
    written: Atomic<u32>,
    text: ItemCell<u32>,
}

impl Letter {
    fn new() -> Self {
        Self { written: Atomic::new(0), text: ItemCell::empty() }
    }

    fn write(&self, me: Member<'_>) {
        // SAFETY: nobody reads before it is said to be written; loom checks just that.
        unsafe { self.text.write(7) };
        self.written.fetch_add(1, Ordering::Release);
        self.written.notify_all(me);
    }

    fn read(&self, me: Member<'_>) {
        assert_eq!(self.written.wait(me, 0), Ok(1));
        // SAFETY: it is written; loom checks just that.
        assert_eq!(unsafe { self.text.read() }, 7);
    }
}

fn readers(count: usize) {
    let letter = Arc::new(Letter::new());
    let own = Process::new();
    let readers: Vec<_> = (0..count)
        .map(|_| {
            let (letter, process) = (Arc::clone(&letter), Process::new());
            thread::spawn(move || letter.read(process.me()))
        })
        .collect();
    letter.write(own.me());
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn a_waiter_sees_the_change() {
    explore(Sleeps::Endless, None, || readers(1));
}

#[test]
fn two_waiters_see_the_change() {
    explore(Sleeps::Endless, 2, || readers(2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        readers(1);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_the_letter_is_read_too_early() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        readers(1);
    });
}

#[test]
fn a_change_is_seen_though_nobody_was_woken() {
    explore_deaths(3, |fuel| {
        let letter = Arc::new(Letter::new());
        let (own, mortal) = (Process::new(), Process::new());
        let writer = thread::spawn({
            let letter = Arc::clone(&letter);
            move || {
                mortal.live(fuel, |me| {
                    letter.written.fetch_add(1, Ordering::Release);
                    letter.written.notify_one(me);
                })
            }
        });
        // Without fuel for the change there is nothing to wait for.
        if fuel > 0 {
            assert_eq!(letter.written.wait(own.me(), 0), Ok(1));
        }
        writer.join().unwrap().is_none()
    });
}
