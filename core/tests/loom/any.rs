//! Waiting for any of several: whichever becomes ready, it is noticed.

use std::sync::Arc;

use loom::thread;
use procession_core::queue::model::SlotHeap;
use procession_core::sync::{Event, Lock};
use procession_core::sys::Deadline;
use procession_core::sys::model::{self, Mutation, Sleeps};
use procession_core::wait::{Waitable, wait_any};

use crate::world::{Process, explore, explore_deaths};

/// One waits for both, another sets one of them.
fn either(which: usize) {
    let events = Arc::new([Event::new(), Event::new()]);
    let (own, other) = (Process::new(), Process::new());
    let setter = thread::spawn({
        let events = Arc::clone(&events);
        move || events[which].set(other.me())
    });
    let objects = [&events[0] as &dyn Waitable, &events[1]];
    assert_eq!(wait_any(own.me(), Deadline::NEVER, &objects), Some(which));
    setter.join().unwrap();
}

#[test]
fn either_wakes() {
    explore(Sleeps::Endless, 3, || either(0));
    explore(Sleeps::Endless, 3, || either(1));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_it_sleeps_on() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        either(1);
    });
}

#[test]
fn a_wake_that_is_not_used_is_passed_on() {
    // The lock's release wakes one: the one who also waits for the event, and may go away with that.
    explore(Sleeps::Endless, 2, || {
        let (lock, event) = (Arc::new(Lock::new()), Arc::new(Event::new()));
        let (own, choosy, plain) = (Process::new(), Process::new(), Process::new());
        let guard = lock.acquire(own.me()).expect("a free lock");
        let choosy = thread::spawn({
            let (lock, event) = (Arc::clone(&lock), Arc::clone(&event));
            move || {
                let objects = [&*event as &dyn Waitable, &*lock];
                let found = wait_any(choosy.me(), Deadline::NEVER, &objects);
                if found == Some(1) {
                    drop(lock.acquire(choosy.me()).expect("nobody dies"));
                }
            }
        });
        let plain = thread::spawn({
            let lock = Arc::clone(&lock);
            move || drop(lock.acquire(plain.me()).expect("nobody dies"))
        });
        event.set(own.me());
        drop(guard);
        choosy.join().unwrap();
        plain.join().unwrap();
    });
}

#[test]
fn a_wake_that_was_news_only_is_passed_on() {
    // Who waits for any takes nothing: the one who wants the lock must wake all the same.
    explore(Sleeps::Endless, 2, || {
        let lock = Arc::new(Lock::new());
        let (own, curious, plain) = (Process::new(), Process::new(), Process::new());
        let guard = lock.acquire(own.me()).expect("a free lock");
        let curious = thread::spawn({
            let lock = Arc::clone(&lock);
            move || wait_any(curious.me(), Deadline::NEVER, &[&*lock])
        });
        let plain = thread::spawn({
            let lock = Arc::clone(&lock);
            move || drop(lock.acquire(plain.me()).expect("nobody dies"))
        });
        drop(guard);
        assert_eq!(curious.join().unwrap(), Some(0));
        plain.join().unwrap();
    });
}

#[test]
fn the_holder_may_die() {
    explore_deaths(2, |fuel| {
        let (lock, event) = (Arc::new(Lock::new()), Arc::new(Event::new()));
        let (own, mortal) = (Process::new(), Process::new());
        let holder = thread::spawn({
            let lock = Arc::clone(&lock);
            move || mortal.live(fuel, |me| drop(lock.acquire(me))).is_none()
        });
        let objects = [&*event as &dyn Waitable, &*lock];
        assert_eq!(wait_any(own.me(), Deadline::NEVER, &objects), Some(1));
        holder.join().unwrap()
    });
}

/// A queue of this capacity.
fn queue(capacity: u64) -> Arc<SlotHeap<u32>> {
    Arc::new(SlotHeap::new(capacity, 0))
}

/// One waits for an item or the event; another puts an item.
fn an_item() {
    let (queue, event) = (queue(2), Arc::new(Event::new()));
    let (own, other) = (Process::new(), Process::new());
    let putter = thread::spawn({
        let queue = Arc::clone(&queue);
        move || queue.queue().push(other.me(), 7).expect("room")
    });
    let items = queue.queue();
    let objects = [&*event as &dyn Waitable, &items];
    assert_eq!(wait_any(own.me(), Deadline::NEVER, &objects), Some(1));
    assert_eq!(items.try_pop(own.me()), Ok(7));
    putter.join().unwrap();
}

#[test]
fn an_item_wakes() {
    explore(Sleeps::Endless, 3, an_item);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_an_item_does_not_wake() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        an_item();
    });
}

#[test]
fn room_wakes() {
    explore(Sleeps::Endless, 3, || {
        let (queue, event) = (queue(1), Arc::new(Event::new()));
        let (own, other) = (Process::new(), Process::new());
        queue.queue().push(own.me(), 1).expect("room");
        let taker = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.queue().pop(other.me()).expect("an item")
        });
        let room = queue.queue().room();
        let objects = [&*event as &dyn Waitable, &room];
        assert_eq!(wait_any(own.me(), Deadline::NEVER, &objects), Some(1));
        queue.queue().try_push(own.me(), 2).expect("room");
        assert_eq!(taker.join().unwrap(), 1);
    });
}

#[test]
fn who_is_woken_for_an_item_and_leaves_it_wakes_another() {
    explore(Sleeps::Endless, 2, || {
        let queue = queue(2);
        let (own, curious, plain) = (Process::new(), Process::new(), Process::new());
        let curious = thread::spawn({
            let queue = Arc::clone(&queue);
            // It may come when the item is gone: the queue is closed then.
            move || wait_any(curious.me(), Deadline::NEVER, &[&queue.queue()])
        });
        let plain = thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                assert_eq!(queue.queue().pop(plain.me()), Ok(7));
                queue.queue().close(plain.me());
            }
        });
        queue.queue().push(own.me(), 7).expect("room");
        assert_eq!(curious.join().unwrap(), Some(0));
        plain.join().unwrap();
    });
}

#[test]
fn who_puts_may_die() {
    explore_deaths(2, |fuel| {
        let (queue, event) = (queue(2), Arc::new(Event::new()));
        let (own, mortal) = (Process::new(), Process::new());
        let putter = thread::spawn({
            let queue = Arc::clone(&queue);
            move || mortal.live(fuel, |me| queue.queue().push(me, 1)).is_none()
        });
        // Behind the dead one's place, or in front of it.
        queue.queue().push(own.me(), 2).expect("room");
        let items = queue.queue();
        let objects = [&*event as &dyn Waitable, &items];
        assert_eq!(wait_any(own.me(), Deadline::NEVER, &objects), Some(1));
        let item = items.pop(own.me());
        assert!(matches!(item, Ok(1 | 2)), "{item:?}");
        putter.join().unwrap()
    });
}

#[test]
fn who_takes_may_die() {
    explore_deaths(2, |fuel| {
        let (queue, event) = (queue(1), Arc::new(Event::new()));
        let (own, mortal) = (Process::new(), Process::new());
        queue.queue().push(own.me(), 1).expect("room");
        let taker = thread::spawn({
            let queue = Arc::clone(&queue);
            move || mortal.live(fuel, |me| queue.queue().pop(me)).is_none()
        });
        let (items, room) = (queue.queue(), queue.queue().room());
        let objects = [&*event as &dyn Waitable, &room, &items];
        // The item, or its place when it was taken, or when its taker has died.
        let found = wait_any(own.me(), Deadline::NEVER, &objects);
        assert!(matches!(found, Some(1 | 2)), "{found:?}");
        let died = taker.join().unwrap();
        if found == Some(1) {
            assert_eq!(items.try_push(own.me(), 2), Ok(()));
        }
        died
    });
}
