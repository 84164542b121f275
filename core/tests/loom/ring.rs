//! The ring for one producer and one consumer: in order, nothing lost, each end replaced when it dies.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use procession_core::queue::model::SpscHeap;
use procession_core::queue::{Consumer, PopError, Producer, RoleError, SpscRing};
use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

type Ring = Arc<SpscHeap<u32>>;

fn ring(capacity: u64) -> Ring {
    Arc::new(SpscHeap::new(capacity))
}

/// A process with a thread of its own.
fn spawn<R: 'static>(
    ring: &Ring,
    life: impl for<'a> FnOnce(SpscRing<'a, u32>, Member<'a>) -> R + 'static,
) -> JoinHandle<R> {
    let (ring, process) = (Arc::clone(ring), Process::new());
    thread::spawn(move || life(ring.ring(), process.me()))
}

/// The end, from whoever had it; a living predecessor is on its way out.
fn producer<'a>(ring: SpscRing<'a, u32>, me: Member<'a>) -> Producer<'a, u32> {
    ring.producer(me).expect("nobody living has it")
}

fn consumer<'a>(ring: SpscRing<'a, u32>, me: Member<'a>) -> Consumer<'a, u32> {
    ring.consumer(me).expect("nobody living has it")
}

/// So many items through a ring of this capacity.
fn pass(capacity: u64, count: u32) {
    let ring = ring(capacity);
    let own = Process::new();
    let putter = spawn(&ring, move |ring, me| {
        let end = producer(ring, me);
        for item in 0..count {
            end.push(item).expect("open and sound");
        }
    });
    let end = consumer(ring.ring(), own.me());
    for item in 0..count {
        assert_eq!(end.pop(), Ok(item));
    }
    assert_eq!(end.try_pop(), Err(PopError::Empty));
    putter.join().unwrap();
    assert!(ring.ring().is_empty());
}

#[test]
fn items_pass_through_one_place() {
    explore(Sleeps::Endless, 2, || pass(1, 3));
}

#[test]
fn items_pass_round_after_round() {
    // Two items to a line, two lines: the first line is used again.
    explore(Sleeps::Endless, 1, || pass(2, 5));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_somebody_sleeps_beside_an_item() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        pass(1, 2);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_an_item_is_torn() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        pass(1, 2);
    });
}

#[test]
fn batches_pass_in_order() {
    explore(Sleeps::Endless, 2, || {
        let ring = ring(3);
        let own = Process::new();
        let putter = spawn(&ring, |ring, me| {
            let (end, items) = (producer(ring, me), [0, 1, 2, 3, 4]);
            let mut done = 0;
            while done < items.len() {
                done += end.push_many(Deadline::NEVER, &items[done..]).unwrap();
            }
        });
        let end = consumer(ring.ring(), own.me());
        let mut taken = Vec::new();
        while taken.len() < 5 {
            let mut room = [0; 4];
            let count = end.pop_many(Deadline::NEVER, &mut room).unwrap();
            taken.extend_from_slice(&room[..count]);
        }
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        putter.join().unwrap();
    });
}

#[test]
fn what_was_put_before_closing_is_taken() {
    explore(Sleeps::Endless, 2, || {
        let ring = ring(1);
        let own = Process::new();
        let putter = spawn(&ring, |ring, me| {
            let end = producer(ring, me);
            for item in 0..2 {
                end.push(item).expect("closed by this process only");
            }
            end.close();
        });
        let end = consumer(ring.ring(), own.me());
        assert_eq!((end.pop(), end.pop(), end.pop()), (Ok(0), Ok(1), Err(PopError::Closed)));
        putter.join().unwrap();
    });
}

#[test]
fn a_role_is_had_by_one() {
    explore(Sleeps::Endless, None, || {
        let ring = ring(1);
        let own = Process::new();
        let other = spawn(&ring, |ring, me| {
            let got = ring.producer(me);
            // Kept for good: what counts is who got it.
            got.map(std::mem::forget).is_ok()
        });
        let mine = ring.ring().producer(own.me());
        assert!(matches!(mine, Ok(_) | Err(RoleError::Taken { .. })));
        let mine = mine.map(std::mem::forget).is_ok();
        assert!(mine != other.join().unwrap());
    });
}

/// The producer's end as soon as its predecessor has left.
fn soon_producer<'a>(ring: SpscRing<'a, u32>, me: Member<'a>) -> Producer<'a, u32> {
    loop {
        match ring.producer(me) {
            Ok(end) => return end,
            Err(RoleError::Taken { .. }) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_role_passes_on_from_one_that_leaves() {
    explore(Sleeps::Endless, 3, || {
        let ring = ring(2);
        let own = Process::new();
        let first = spawn(&ring, |ring, me| soon_producer(ring, me).push(0));
        let second = soon_producer(ring.ring(), own.me());
        second.push(10).unwrap();
        drop(second);
        first.join().unwrap().unwrap();
        let end = consumer(ring.ring(), own.me());
        let taken = [end.pop(), end.pop()];
        assert!(taken == [Ok(0), Ok(10)] || taken == [Ok(10), Ok(0)], "{taken:?}");
    });
}

/// A process that dies after `fuel` accesses of `life`, which writes down what was acknowledged to it. With it comes
/// whether it got by.
fn victim(
    ring: &Ring,
    fuel: u32,
    life: impl for<'a> FnOnce(SpscRing<'a, u32>, Member<'a>, &mut Vec<u32>) + 'static,
) -> JoinHandle<(Vec<u32>, bool)> {
    let (ring, process) = (Arc::clone(ring), Process::new());
    thread::spawn(move || {
        let mut done = Vec::new();
        let survived = process.live(fuel, |me| life(ring.ring(), me, &mut done)).is_some();
        (done, survived)
    })
}

/// A ring of three places of which the first line has been used.
fn used_ring(own: &Process) -> Ring {
    let ring = ring(3);
    let (put, take) = (producer(ring.ring(), own.me()), consumer(ring.ring(), own.me()));
    for item in 0..4 {
        put.push(item).unwrap();
        assert_eq!(take.pop(), Ok(item));
    }
    drop((put, take));
    ring
}

/// A producer of the items 0, 1, 2 died, or got by, beside a consumer; another one takes its place.
fn producer_dies(
    fuel: u32,
    life: impl for<'a> FnOnce(Producer<'a, u32>, &mut Vec<u32>) + 'static,
) -> bool {
    let own = Process::new();
    let ring = used_ring(&own);
    let dying = victim(&ring, fuel, |ring, me, done| life(producer(ring, me), done));
    let end = consumer(ring.ring(), own.me());
    let mut taken = Vec::from_iter(end.try_pop());
    taken.extend(end.try_pop());
    let (done, survived) = dying.join().unwrap();
    taken.extend(end.try_pop());
    // Whoever comes next goes on behind what is there.
    producer(ring.ring(), own.me()).try_push(10).unwrap();
    taken.extend(std::iter::from_fn(|| end.try_pop().ok()));
    assert_eq!(taken.pop(), Some(10));
    assert!(taken.len() >= done.len(), "lost: {taken:?} of {done:?}");
    assert_eq!(taken, [0, 1, 2][..taken.len()]);
    !survived
}

#[test]
fn a_producer_may_die_anywhere() {
    explore_deaths(3, |fuel| {
        producer_dies(fuel, |end, done| {
            for item in 0..3 {
                end.push(item).expect("open and sound");
                done.push(item);
            }
        })
    });
}

#[test]
fn a_producer_of_batches_may_die_anywhere() {
    explore_deaths(3, |fuel| {
        producer_dies(fuel, |end, done| {
            assert_eq!(end.push_many(Deadline::NEVER, &[0, 1, 2]), Ok(3));
            done.extend([0, 1, 2]);
        })
    });
}

#[test]
fn what_a_dead_consumer_had_in_its_hand_is_seen_again() {
    explore_deaths(2, |fuel| {
        let ring = ring(2);
        let own = Process::new();
        let dying = victim(&ring, fuel, |ring, me, done| {
            let end = consumer(ring, me);
            for _ in 0..2 {
                done.push(end.pop().expect("open and sound"));
            }
        });
        let end = producer(ring.ring(), own.me());
        end.push(0).unwrap();
        end.push(1).unwrap();
        let (done, survived) = dying.join().unwrap();
        let next = consumer(ring.ring(), own.me());
        let again: Vec<_> = std::iter::from_fn(|| next.try_pop().ok()).collect();
        // The first that is seen again is the next one, or the one that it had not yet returned to its caller.
        assert_eq!(again, [0, 1][2 - again.len()..]);
        assert!(again.len() <= 2 - done.len(), "doubled: {again:?} after {done:?}");
        let in_hand = 2 - done.len() - again.len();
        assert!(in_hand <= usize::from(!survived), "lost: {again:?} after {done:?}");
        !survived
    });
}

#[test]
fn one_of_two_replaces_the_dead() {
    explore_deaths(2, |fuel| {
        let ring = ring(1);
        let own = Process::new();
        let dying = victim(&ring, fuel, |ring, me, _| {
            if let Ok(end) = ring.producer(me) {
                std::mem::forget(end);
            }
        });
        let other = spawn(&ring, |ring, me| ring.producer(me).map(std::mem::forget).is_ok());
        let mine = ring.ring().producer(own.me()).map(std::mem::forget).is_ok();
        let (theirs, (_, survived)) = (other.join().unwrap(), dying.join().unwrap());
        assert!(!(mine && theirs), "two have one role");
        // Who came too early was told that it is taken. It is not taken any more.
        assert!(survived || mine || theirs || ring.ring().producer(own.me()).is_ok());
        !survived
    });
}
