//! The slot queue: nothing lost, doubled or torn, in order for each producer, and nobody stuck beside the dead.
//!
//! Every model starts in the last lap before tickets and laps wrap.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use procession_core::queue::model::SlotHeap;
use procession_core::queue::{PopError, PushError, SlotQueue};
use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

pub type Queue = Arc<SlotHeap<u32>>;

/// A queue in its last lap.
pub fn queue(capacity: u64) -> Queue {
    Arc::new(SlotHeap::new(capacity, u64::MAX))
}

/// A process with a thread of its own.
pub fn spawn<R: 'static>(
    queue: &Queue,
    life: impl FnOnce(SlotQueue<'_, u32>, Member<'_>) -> R + 'static,
) -> JoinHandle<R> {
    let (queue, process) = (Arc::clone(queue), Process::new());
    thread::spawn(move || life(queue.queue(), process.me()))
}

/// What producer `who` puts: numbers that say whose they are and in which order.
pub fn items(who: u32, count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(move |number| 10 * who + number)
}

pub fn push_all(queue: SlotQueue<'_, u32>, me: Member<'_>, who: u32, count: u32) {
    for item in items(who, count) {
        queue.push(me, item).expect("open and sound");
    }
}

pub fn pop_some(queue: SlotQueue<'_, u32>, me: Member<'_>, count: usize) -> Vec<u32> {
    (0..count).map(|_| queue.pop(me).expect("open and sound")).collect()
}

/// Takes what is left, when nobody else is there any more: a claim of the living cannot be in the way.
pub fn drain(queue: SlotQueue<'_, u32>, me: Member<'_>) -> Vec<u32> {
    let mut left = Vec::new();
    loop {
        match queue.try_pop(me) {
            Ok(item) => left.push(item),
            Err(PopError::Empty | PopError::Closed) => return left,
            Err(error) => panic!("nobody is there to be in the way: {error}"),
        }
    }
}

/// What each consumer took, in order: each producer's items ascend.
pub fn assert_in_order(taken: &[u32]) {
    for who in 0..4 {
        let of_one: Vec<_> = taken.iter().filter(|&&item| item / 10 == who).collect();
        assert!(of_one.is_sorted(), "{taken:?}");
    }
}

/// Everything that was put has been taken once.
fn assert_all(mut taken: Vec<u32>, put: impl IntoIterator<Item = u32>) {
    taken.sort_unstable();
    let mut put: Vec<_> = put.into_iter().collect();
    put.sort_unstable();
    assert_eq!(taken, put);
}

/// Producers of so many items each, consumers of so many each; one of the consumers is the main thread.
fn exchange(capacity: u64, producers: &[u32], consumers: &[usize]) {
    let queue = queue(capacity);
    let own = Process::new();
    let puts: Vec<_> = (1..)
        .zip(producers)
        .map(|(who, &count)| spawn(&queue, move |queue, me| push_all(queue, me, who, count)))
        .collect();
    let takes: Vec<_> = consumers[1..]
        .iter()
        .map(|&count| spawn(&queue, move |queue, me| pop_some(queue, me, count)))
        .collect();
    let mut taken = pop_some(queue.queue(), own.me(), consumers[0]);
    assert_in_order(&taken);
    for put in puts {
        put.join().unwrap();
    }
    for take in takes {
        let more = take.join().unwrap();
        assert_in_order(&more);
        taken.extend(more);
    }
    assert_all(taken, (1..).zip(producers).flat_map(|(who, &count)| items(who, count)));
    assert!(queue.queue().is_empty());
    assert_eq!(queue.queue().try_pop(own.me()), Err(PopError::Empty));
}

#[test]
fn one_puts_and_one_takes_through_one_place() {
    explore(Sleeps::Endless, 2, || exchange(1, &[2], &[2]));
}

#[test]
fn one_puts_and_one_takes_across_the_wrap() {
    explore(Sleeps::Endless, 2, || exchange(2, &[3], &[3]));
}

#[test]
fn two_put_and_one_takes() {
    explore(Sleeps::Endless, 2, || exchange(2, &[1, 1], &[2]));
}

#[test]
fn two_put_and_one_takes_through_one_place() {
    explore(Sleeps::Endless, 1, || exchange(1, &[1, 1], &[2]));
}

#[test]
fn one_puts_and_two_take() {
    explore(Sleeps::Endless, 2, || exchange(2, &[2], &[1, 1]));
}

#[test]
fn two_put_and_two_take() {
    explore(Sleeps::Endless, 1, || exchange(2, &[1, 1], &[1, 1]));
}

#[test]
fn a_capacity_between_powers_of_two_is_kept() {
    explore(Sleeps::Endless, 2, || exchange(3, &[4], &[4]));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_somebody_sleeps_beside_an_item() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        exchange(1, &[2], &[2]);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_an_item_is_torn() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        exchange(1, &[2], &[2]);
    });
}

#[test]
fn batches_stay_together() {
    explore(Sleeps::Endless, 1, || {
        let queue = queue(4);
        let own = Process::new();
        let batch = spawn(&queue, |queue, me| {
            assert_eq!(queue.push_many(me, Deadline::NEVER, &[10, 11]), Ok(2));
        });
        let single = spawn(&queue, |queue, me| push_all(queue, me, 2, 1));
        let mut taken = Vec::new();
        while taken.len() < 3 {
            let mut room = [0; 3];
            let count = queue.queue().pop_many(own.me(), Deadline::NEVER, &mut room).unwrap();
            taken.extend_from_slice(&room[..count]);
        }
        batch.join().unwrap();
        single.join().unwrap();
        assert!(taken == [10, 11, 20] || taken == [20, 10, 11], "{taken:?}");
    });
}

#[test]
fn batches_wait_for_room() {
    explore(Sleeps::Endless, 2, || {
        let queue = queue(2);
        let own = Process::new();
        let putter = spawn(&queue, |queue, me| {
            let all: Vec<_> = items(1, 3).collect();
            let mut done = 0;
            while done < all.len() {
                done += queue.push_many(me, Deadline::NEVER, &all[done..]).unwrap();
            }
        });
        let taken = pop_some(queue.queue(), own.me(), 3);
        putter.join().unwrap();
        assert_eq!(taken, [10, 11, 12]);
    });
}

#[test]
fn a_batch_wakes_every_consumer() {
    explore(Sleeps::Endless, 1, || {
        let queue = queue(2);
        let own = Process::new();
        let takers = [0, 1].map(|_| spawn(&queue, |queue, me| pop_some(queue, me, 1)));
        assert_eq!(queue.queue().push_many(own.me(), Deadline::NEVER, &[10, 11]), Ok(2));
        let taken = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect();
        assert_all(taken, [10, 11]);
    });
}

#[test]
fn what_was_put_before_closing_is_taken() {
    explore(Sleeps::Endless, 2, || {
        let queue = queue(2);
        let own = Process::new();
        let putter = spawn(&queue, |queue, me| {
            for item in items(1, 2) {
                match queue.push(me, item) {
                    Ok(()) => {}
                    Err(PushError::Closed) => return item - 10,
                    Err(error) => panic!("{error}"),
                }
            }
            2
        });
        let closer = spawn(&queue, |queue, me| queue.close(me));
        let mut taken = Vec::new();
        loop {
            match queue.queue().pop(own.me()) {
                Ok(item) => taken.push(item),
                Err(PopError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        closer.join().unwrap();
        let put = putter.join().unwrap();
        assert_all(taken, items(1, put));
        assert_eq!(queue.queue().try_push(own.me(), 9), Err(PushError::Closed));
    });
}

#[test]
fn closing_wakes_those_who_wait_for_room_and_for_items() {
    explore(Sleeps::Endless, 2, || {
        let (full, empty) = (queue(1), queue(1));
        let own = Process::new();
        full.queue().push(own.me(), 10).unwrap();
        let putter = spawn(&full, |queue, me| queue.push(me, 11));
        let taker = spawn(&empty, |queue, me| queue.pop(me));
        full.queue().close(own.me());
        empty.queue().close(own.me());
        assert_eq!(putter.join().unwrap(), Err(PushError::Closed));
        assert_eq!(taker.join().unwrap(), Err(PopError::Closed));
    });
}

#[test]
fn full_and_empty_are_true() {
    // One place and one item, which is put before and after: at each moment it is either full or empty.
    explore(Sleeps::Endless, 3, || {
        let queue = queue(1);
        let own = Process::new();
        queue.queue().push(own.me(), 10).unwrap();
        let other = spawn(&queue, |queue, me| {
            let taken = queue.try_pop(me);
            assert_eq!(taken, Ok(10), "nobody else takes it");
            assert_eq!(queue.try_pop(me).unwrap_or(20), 20);
        });
        match queue.queue().try_push(own.me(), 20) {
            // Full while it is not taken, busy while it is being taken.
            Ok(()) | Err(PushError::Full | PushError::Busy) => {}
            Err(error) => panic!("{error}"),
        }
        other.join().unwrap();
    });
}

#[test]
fn three_want_one_place() {
    explore(Sleeps::Endless, 2, || {
        let queue = queue(1);
        let own = Process::new();
        let others = [1, 2].map(|who| {
            spawn(&queue, move |queue, me| queue.try_push(me, 10 * who).map(|()| 10 * who))
        });
        let mut answers = vec![queue.queue().try_push(own.me(), 30).map(|()| 30)];
        answers.extend(others.map(|other| other.join().unwrap()));
        let put: Vec<_> = answers.iter().filter_map(|answer| answer.ok()).collect();
        assert_eq!(put.len(), 1, "{answers:?}");
        for answer in answers {
            assert!(matches!(answer, Ok(_) | Err(PushError::Full | PushError::Busy)), "{answer:?}");
        }
        assert_eq!(drain(queue.queue(), own.me()), put);
    });
}

#[test]
fn three_want_one_item() {
    explore(Sleeps::Endless, 2, || {
        let queue = queue(1);
        let own = Process::new();
        queue.queue().push(own.me(), 10).unwrap();
        let others = [1, 2].map(|_| spawn(&queue, |queue, me| queue.try_pop(me)));
        let mut answers = vec![queue.queue().try_pop(own.me())];
        answers.extend(others.map(|other| other.join().unwrap()));
        assert_eq!(answers.iter().filter(|&&answer| answer == Ok(10)).count(), 1, "{answers:?}");
        for answer in answers {
            assert!(matches!(answer, Ok(10) | Err(PopError::Empty | PopError::Busy)), "{answer:?}");
        }
        assert_usable(queue.queue(), own.me());
    });
}

// Deaths.

/// What a victim got done.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    /// Puts that were acknowledged; what was taken and returned.
    pub done: Vec<u32>,
    pub survived: bool,
}

/// A process that dies after `fuel` accesses of `life`, which writes down what was acknowledged to it.
pub fn victim(
    queue: &Queue,
    fuel: u32,
    life: impl FnOnce(SlotQueue<'_, u32>, Member<'_>, &mut Vec<u32>) + 'static,
) -> JoinHandle<Deeds> {
    let (queue, process) = (Arc::clone(queue), Process::new());
    thread::spawn(move || {
        let mut done = Vec::new();
        let survived = process.live(fuel, |me| life(queue.queue(), me, &mut done)).is_some();
        Deeds { done, survived }
    })
}

fn put_singly(
    queue: SlotQueue<'_, u32>,
    me: Member<'_>,
    who: u32,
    count: u32,
    done: &mut Vec<u32>,
) {
    for item in items(who, count) {
        queue.push(me, item).expect("open and sound");
        done.push(item);
    }
}

/// What was taken holds every acknowledged item once, and besides at most what was tried.
fn assert_delivered(taken: &[u32], acknowledged: &[u32], tried: &[u32]) {
    let mut once = taken.to_vec();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), taken.len(), "doubled: {taken:?}");
    for item in acknowledged {
        assert!(taken.contains(item), "lost: {item} of {acknowledged:?}; taken: {taken:?}");
    }
    for item in taken {
        assert!(acknowledged.contains(item) || tried.contains(item), "from nowhere: {item}");
    }
}

/// All places can be used, so nothing is claimed any more.
pub fn assert_usable(queue: SlotQueue<'_, u32>, me: Member<'_>) {
    let count = queue.capacity() as u32;
    push_all(queue, me, 3, count);
    assert_eq!(drain(queue, me), Vec::from_iter(items(3, count)));
}

/// Pops until the item is there.
fn pop_up_to(queue: SlotQueue<'_, u32>, me: Member<'_>, last: u32) -> Vec<u32> {
    let mut taken = Vec::new();
    while taken.last() != Some(&last) {
        taken.push(queue.pop(me).expect("open and sound"));
    }
    taken
}

/// A producer died, or got by, beside the main thread, which puts an item behind it and takes everything.
fn producer_dies(fuel: u32, life: fn(SlotQueue<'_, u32>, Member<'_>, &mut Vec<u32>)) -> bool {
    let queue = queue(4);
    let own = Process::new();
    let dying = victim(&queue, fuel, life);
    queue.queue().push(own.me(), 20).unwrap();
    // Whatever the victim left in the way, the living one's item arrives.
    let mut taken = pop_up_to(queue.queue(), own.me(), 20);
    let deeds = dying.join().unwrap();
    taken.extend(drain(queue.queue(), own.me()));
    assert_in_order(&taken);
    assert_delivered(&taken, &[&deeds.done[..], &[20]].concat(), &[10, 11, 12]);
    // Never one without those before it.
    let of_victim: Vec<_> = taken.iter().copied().filter(|item| item / 10 == 1).collect();
    assert_eq!(of_victim, [10, 11, 12][..of_victim.len()]);
    assert_usable(queue.queue(), own.me());
    !deeds.survived
}

#[test]
fn a_producer_may_die_anywhere() {
    explore_deaths(2, |fuel| {
        producer_dies(fuel, |queue, me, done| put_singly(queue, me, 1, 2, done))
    });
}

#[test]
fn a_batch_may_die_halfway() {
    explore_deaths(2, |fuel| {
        producer_dies(fuel, |queue, me, done| {
            assert_eq!(queue.push_many(me, Deadline::NEVER, &[10, 11, 12]), Ok(3));
            done.extend([10, 11, 12]);
        })
    });
}

#[test]
fn a_producer_may_die_between_two_others() {
    explore_deaths(1, |fuel| {
        let queue = queue(2);
        let own = Process::new();
        let dying = victim(&queue, fuel, |queue, me, done| put_singly(queue, me, 1, 1, done));
        let living = spawn(&queue, |queue, me| push_all(queue, me, 2, 1));
        let mut taken = pop_up_to(queue.queue(), own.me(), 20);
        living.join().unwrap();
        let deeds = dying.join().unwrap();
        taken.extend(drain(queue.queue(), own.me()));
        assert_delivered(&taken, &[&deeds.done[..], &[20]].concat(), &[10]);
        assert_usable(queue.queue(), own.me());
        !deeds.survived
    });
}

#[test]
fn a_consumer_may_die_anywhere() {
    explore_deaths(2, |fuel| {
        let queue = queue(2);
        let own = Process::new();
        let dying = victim(&queue, fuel, |queue, me, done| {
            for _ in 0..2 {
                done.push(queue.pop(me).expect("open and sound"));
            }
        });
        push_all(queue.queue(), own.me(), 1, 2);
        let mut put = vec![10, 11];
        // The third needs a place that the victim may be in the middle of taking from.
        put.extend(queue.queue().try_push(own.me(), 12).map(|()| 12));
        let deeds = dying.join().unwrap();
        let mut taken = deeds.done.clone();
        taken.extend(drain(queue.queue(), own.me()));
        assert_in_order(&taken);
        assert!(taken.len() + usize::from(!deeds.survived) >= put.len(), "lost: {taken:?}");
        assert_delivered(&taken, &[], &put);
        assert_usable(queue.queue(), own.me());
        !deeds.survived
    });
}

#[test]
fn a_consumer_may_die_between_two_others() {
    explore_deaths(1, |fuel| {
        let queue = queue(2);
        let own = Process::new();
        let dying =
            victim(&queue, fuel, |queue, me, done| done.push(queue.pop(me).expect("sound")));
        let living = spawn(&queue, |queue, me| queue.pop(me).expect("open and sound"));
        // One for each; the victim may die with one in its hand, or may leave one.
        push_all(queue.queue(), own.me(), 1, 2);
        let mut taken = vec![living.join().unwrap()];
        let deeds = dying.join().unwrap();
        taken.extend(&deeds.done);
        taken.extend(drain(queue.queue(), own.me()));
        assert!(taken.len() >= 2 - usize::from(!deeds.survived), "lost: {taken:?}");
        assert_delivered(&taken, &[], &[10, 11]);
        assert_usable(queue.queue(), own.me());
        !deeds.survived
    });
}

/// With so much fuel the first to come dies with its claim made and not published.
const CLAIMED: u32 = 3;

#[test]
fn a_dead_claim_on_a_place_used_before_is_named() {
    // Who helps must see the place as the claimer saw it, one lap on, or the claim goes unnamed.
    explore_deaths(1, |fuel| {
        let queue = queue(2);
        let own = Process::new();
        push_all(queue.queue(), own.me(), 1, 2);
        let dying = victim(&queue, fuel, |queue, me, done| {
            done.extend(queue.try_push(me, 30).map(|()| 30));
        });
        let living = spawn(&queue, |queue, me| queue.try_push(me, 20).map(|()| 20));
        let mut taken = vec![queue.queue().pop(own.me()).unwrap()];
        taken.push(queue.queue().pop(own.me()).unwrap());
        assert_eq!(taken, [10, 11]);
        let put = Vec::from_iter(living.join().unwrap());
        let deeds = dying.join().unwrap();
        // Stops with `Busy` at a claim that nobody can name.
        let taken = drain(queue.queue(), own.me());
        assert_delivered(&taken, &[&deeds.done[..], &put].concat(), &[30]);
        assert_usable(queue.queue(), own.me());
        !deeds.survived
    });
}

#[test]
fn a_dead_claim_on_an_item_just_put_is_named() {
    explore_deaths(1, |fuel| {
        let queue = queue(2);
        let own = Process::new();
        let dying = victim(&queue, fuel, |queue, me, done| done.extend(queue.try_pop(me)));
        let living = spawn(&queue, |queue, me| queue.try_pop(me));
        push_all(queue.queue(), own.me(), 1, 2);
        let mut taken = Vec::from_iter(living.join().unwrap());
        let deeds = dying.join().unwrap();
        taken.extend(&deeds.done);
        taken.extend(drain(queue.queue(), own.me()));
        assert!(taken.len() >= 2 - usize::from(!deeds.survived), "lost: {taken:?}");
        assert_delivered(&taken, &[], &[10, 11]);
        // Full for ever, if a place is claimed and nobody can name the claimer.
        for item in items(3, 2) {
            assert_eq!(queue.queue().try_push(own.me(), item), Ok(()));
        }
        !deeds.survived
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_verdict_on_the_living_lets_two_into_one_place() {
    explore(Sleeps::Sliced, 2, || {
        let queue = queue(1);
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        push_all(queue.queue(), own.me(), 1, 1);
        let other = thread::spawn({
            let (queue, slow) = (Arc::clone(&queue), Arc::clone(&slow));
            move || queue.queue().try_pop(slow.me())
        });
        slow.declare_dead();
        let _ = queue.queue().try_push(own.me(), 20);
        let _ = other.join();
    });
}

#[test]
fn who_repairs_after_a_dead_producer_may_die_too() {
    explore_deaths(2, |fuel| {
        let queue = queue(2);
        let (own, first) = (Process::new(), Process::new());
        assert!(first.live(CLAIMED, |me| queue.queue().push(me, 10)).is_none());
        push_all(queue.queue(), own.me(), 2, 1);
        // The first place is in the way of all consumers.
        let dying = victim(&queue, fuel, |queue, me, done| done.extend(queue.try_pop(me)));
        let taken = queue.queue().try_pop(own.me());
        assert!(matches!(taken, Ok(20) | Err(PopError::Empty | PopError::Busy)), "{taken:?}");
        let deeds = dying.join().unwrap();
        let mut taken = Vec::from_iter(taken);
        taken.extend(deeds.done);
        taken.extend(drain(queue.queue(), own.me()));
        assert!(taken == [20] || taken.is_empty() && !deeds.survived, "{taken:?}");
        assert_usable(queue.queue(), own.me());
        !deeds.survived
    });
}

#[test]
fn who_repairs_after_a_dead_consumer_may_die_too() {
    explore_deaths(2, |fuel| {
        let queue = queue(2);
        let (own, first) = (Process::new(), Process::new());
        push_all(queue.queue(), own.me(), 1, 2);
        assert!(first.live(CLAIMED, |me| queue.queue().pop(me)).is_none());
        let dying = victim(&queue, fuel, |queue, me, done| {
            // The place of the first item is in the way of this one.
            put_singly(queue, me, 2, 1, done);
        });
        // The first item is in a dead hand.
        let mut taken = vec![queue.queue().pop(own.me()).unwrap()];
        let deeds = dying.join().unwrap();
        taken.extend(drain(queue.queue(), own.me()));
        assert_eq!(taken[0], 11);
        assert_delivered(&taken, &[&deeds.done[..], &[11]].concat(), &[20]);
        assert_usable(queue.queue(), own.me());
        !deeds.survived
    });
}

#[test]
fn a_consumer_of_batches_may_die_halfway() {
    explore_deaths(2, |fuel| {
        let queue = queue(2);
        let own = Process::new();
        push_all(queue.queue(), own.me(), 1, 2);
        let dying = victim(&queue, fuel, |queue, me, done| {
            let mut room = [0; 2];
            let count = queue.pop_many(me, Deadline::NEVER, &mut room).unwrap();
            done.extend_from_slice(&room[..count]);
        });
        let mut taken = Vec::from_iter(queue.queue().try_pop(own.me()));
        let mut put = vec![10, 11];
        put.extend(queue.queue().try_push(own.me(), 20).map(|()| 20));
        let deeds = dying.join().unwrap();
        taken.extend(drain(queue.queue(), own.me()));
        assert_in_order(&taken);
        taken.extend(&deeds.done);
        // It takes no more than two into its grave.
        assert!(taken.len() + if deeds.survived { 0 } else { 2 } >= put.len(), "lost: {taken:?}");
        assert_delivered(&taken, &[], &put);
        assert_usable(queue.queue(), own.me());
        !deeds.survived
    });
}
