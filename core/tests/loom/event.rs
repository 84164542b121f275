//! The event: whoever waits sees that it was set, be it for a moment.

use std::sync::Arc;

use loom::thread;
use procession_core::sync::Event;
use procession_core::sys::Deadline;
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

/// So many wait for what one sets.
fn waiters(count: u32) {
    let event = Arc::new(Event::new());
    let news = Arc::new(AtomicU32::new(0));
    let own = Process::new();
    let waiters: Vec<_> = (0..count)
        .map(|_| {
            let (event, news, process) = (Arc::clone(&event), Arc::clone(&news), Process::new());
            thread::spawn(move || {
                event.wait(process.me());
                assert_eq!(news.load(Ordering::Relaxed), 1, "set, but not what was done before");
            })
        })
        .collect();
    news.store(1, Ordering::Relaxed);
    event.set(own.me());
    for waiter in waiters {
        waiter.join().unwrap();
    }
}

#[test]
fn one_waiter_is_woken() {
    explore(Sleeps::Endless, 4, || waiters(1));
}

#[test]
fn two_waiters_are_woken() {
    explore(Sleeps::Endless, 1, || waiters(2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_waiter_sleeps_on() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        waiters(1);
    });
}

#[test]
#[should_panic(expected = "set, but not what was done before")]
fn without_order_the_flag_runs_ahead() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        waiters(1);
    });
}

#[test]
fn there_and_back() {
    explore(Sleeps::Endless, 1, || {
        let events = Arc::new([Event::new(), Event::new()]);
        let (own, other) = (Process::new(), Process::new());
        let echo = thread::spawn({
            let events = Arc::clone(&events);
            move || {
                for _ in 0..2 {
                    events[0].wait(other.me());
                    events[0].clear();
                    events[1].set(other.me());
                }
            }
        });
        for _ in 0..2 {
            events[0].set(own.me());
            events[1].wait(own.me());
            events[1].clear();
        }
        echo.join().unwrap();
    });
}

#[test]
fn two_set_and_one_clears() {
    // Whoever began to wait before the first `set` is not left behind by a `clear` and a second one.
    explore(Sleeps::Endless, 1, || {
        let event = Arc::new(Event::new());
        let (own, setter, waiter) = (Process::new(), Process::new(), Process::new());
        let setter = thread::spawn({
            let event = Arc::clone(&event);
            move || event.set(setter.me())
        });
        let waiter = thread::spawn({
            let event = Arc::clone(&event);
            move || event.wait(waiter.me())
        });
        event.set(own.me());
        event.clear();
        event.set(own.me());
        setter.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn a_pulse_reaches_who_waits() {
    explore(Sleeps::Sliced, 3, || {
        let event = Arc::new(Event::new());
        let (own, other) = (Process::new(), Process::new());
        let pulse = thread::spawn({
            let event = Arc::clone(&event);
            move || {
                event.set(other.me());
                event.clear();
            }
        });
        let seen = event.wait_until(own.me(), Deadline::NOW);
        pulse.join().unwrap();
        assert!(!seen || !event.is_set());
    });
}

#[test]
fn who_sets_may_die() {
    explore_deaths(3, |fuel| {
        let event = Arc::new(Event::new());
        let (own, mortal) = (Process::new(), Process::new());
        let setter = thread::spawn({
            let event = Arc::clone(&event);
            move || mortal.live(fuel, |me| event.set(me)).is_none()
        });
        let died = setter.join().unwrap();
        // Set, or as if nobody had come.
        if event.is_set() {
            event.wait(own.me());
        }
        event.set(own.me());
        event.wait(own.me());
        died
    });
}

#[test]
fn who_waits_may_die() {
    explore_deaths(1, |fuel| {
        let event = Arc::new(Event::new());
        let (own, mortal, other) = (Process::new(), Process::new(), Process::new());
        let victim = thread::spawn({
            let event = Arc::clone(&event);
            move || mortal.live(fuel, |me| event.wait(me)).is_none()
        });
        let survivor = thread::spawn({
            let event = Arc::clone(&event);
            move || event.wait(other.me())
        });
        event.set(own.me());
        survivor.join().unwrap();
        victim.join().unwrap()
    });
}
