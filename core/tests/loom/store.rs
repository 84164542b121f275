//! The store: nothing lost that is not counted, nothing doubled or torn, the order kept, and nobody stuck beside the dead.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use procession_core::queue::model::StoreHeap;
use procession_core::queue::{
    GivenUp, JoinItemsError, Order, Plan, Policy, PopError, PushError, Store,
};
use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

type Heap = Arc<StoreHeap<u32>>;

fn heap(capacity: u64, order: Order, policy: Policy) -> Heap {
    Arc::new(StoreHeap::new(Plan { capacity, order, policy }, 2))
}

/// A process with a thread of its own.
fn spawn<R: 'static>(
    heap: &Heap,
    life: impl FnOnce(Store<'_, u32>, Member<'_>) -> R + 'static,
) -> JoinHandle<R> {
    let (heap, process) = (Arc::clone(heap), Process::new());
    thread::spawn(move || life(heap.store(), process.me()))
}

/// Takes an item and finishes it.
fn take(store: Store<'_, u32>, me: Member<'_>) -> u32 {
    let (item, lease) = store.take(me).expect("open and sound");
    if let Some(lease) = lease {
        assert!(store.finish(me, lease));
    }
    item
}

/// Takes what is left, when nobody else is there any more.
fn drain(store: Store<'_, u32>, me: Member<'_>) -> Vec<u32> {
    let mut left = Vec::new();
    loop {
        match store.try_take(me) {
            Ok((item, lease)) => {
                left.push(item);
                if let Some(lease) = lease {
                    assert!(store.finish(me, lease));
                }
            }
            Err(PopError::Empty | PopError::Closed) => return left,
            Err(error) => panic!("nobody is there to be in the way: {error}"),
        }
    }
}

/// Everything works as it should, and as many items fit as always.
fn assert_usable(store: Store<'_, u32>, me: Member<'_>) {
    let count = store.plan().capacity as u32;
    for item in 0..count {
        store.try_put(me, 0, item).expect("there is room");
    }
    assert_eq!(store.try_put(me, 0, 9), Err(PushError::Full.into()));
    let mut taken = drain(store, me);
    taken.sort_unstable();
    assert_eq!(taken, Vec::from_iter(0..count));
    assert_eq!(store.unfinished(), 0);
}

/// Producers of one item each; the main thread takes them.
fn exchange(capacity: u64, producers: u32, policy: Policy) {
    let heap = heap(capacity, Order::First, policy);
    let own = Process::new();
    let putters: Vec<_> = (0..producers)
        .map(|item| spawn(&heap, move |store, me| store.put(me, 0, item).expect("open")))
        .collect();
    let mut taken: Vec<_> = (0..producers).map(|_| take(heap.store(), own.me())).collect();
    putters.into_iter().for_each(|putter| putter.join().unwrap());
    taken.sort_unstable();
    assert_eq!(taken, Vec::from_iter(0..producers));
    assert_usable(heap.store(), own.me());
}

#[test]
fn two_put_and_one_takes_through_one_place() {
    explore(Sleeps::Endless, 1, || exchange(1, 2, Policy::AtMostOnce));
}

#[test]
fn two_put_and_one_takes_and_finishes() {
    explore(Sleeps::Endless, 1, || exchange(1, 2, Policy::AtLeastOnce));
}

#[test]
fn one_puts_and_two_take() {
    explore(Sleeps::Endless, 1, || {
        let heap = heap(2, Order::First, Policy::AtMostOnce);
        let own = Process::new();
        let takers = [0, 1].map(|_| spawn(&heap, take));
        heap.store().put(own.me(), 0, 10).unwrap();
        heap.store().put(own.me(), 0, 11).unwrap();
        let mut taken = takers.map(|taker| taker.join().unwrap());
        taken.sort_unstable();
        assert_eq!(taken, [10, 11]);
    });
}

#[test]
fn the_order_of_one_producer_is_kept() {
    explore(Sleeps::Endless, 2, || {
        let heap = heap(1, Order::First, Policy::AtMostOnce);
        let own = Process::new();
        let putter = spawn(&heap, |store, me| {
            store.put(me, 0, 10).expect("open");
            store.put(me, 0, 11).expect("open");
        });
        assert_eq!([(); 2].map(|()| take(heap.store(), own.me())), [10, 11]);
        putter.join().unwrap();
    });
}

#[test]
fn two_grow_it_at_a_time() {
    explore(Sleeps::Endless, 2, || {
        let heap = heap(1, Order::Least, Policy::AtLeastOnce);
        let own = Process::new();
        heap.store().put(own.me(), 0, 10).unwrap();
        let (_, first) = heap.store().take(own.me()).unwrap();
        // The one cell is held, and does not count.
        let other = spawn(&heap, |store, me| {
            store.put(me, 0, 20).expect("open");
            take(store, me)
        });
        heap.store().put(own.me(), 0, 11).unwrap();
        let taken = take(heap.store(), own.me());
        let mut all = [taken, other.join().unwrap()];
        all.sort_unstable();
        assert_eq!(all, [11, 20]);
        assert!(heap.store().finish(own.me(), first.unwrap()));
        assert_usable(heap.store(), own.me());
    });
}

#[test]
fn a_join_ends_with_the_last_item() {
    explore(Sleeps::Endless, 2, || {
        let heap = heap(2, Order::First, Policy::AtMostOnceLeased);
        let own = Process::new();
        heap.store().put(own.me(), 0, 10).unwrap();
        let worker = spawn(&heap, take);
        assert_eq!(heap.store().join_until(own.me(), Deadline::NEVER), Ok(()));
        assert_eq!(heap.store().unfinished(), 0);
        worker.join().unwrap();
    });
}

#[test]
fn closing_ends_a_wait_after_the_last_item_is_finished() {
    explore(Sleeps::Endless, 2, || {
        let heap = heap(2, Order::First, Policy::AtLeastOnce);
        let own = Process::new();
        heap.store().put(own.me(), 0, 10).unwrap();
        let (_, lease) = heap.store().take(own.me()).unwrap();
        let waiter = spawn(&heap, |store, me| store.take(me).map(|(item, _)| item));
        heap.store().shutdown(own.me(), false);
        assert!(heap.store().finish(own.me(), lease.unwrap()));
        assert_eq!(waiter.join().unwrap(), Err(PopError::Closed));
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_somebody_sleeps_beside_an_item() {
    explore(Sleeps::Endless, 2, || {
        model::mutate(Mutation::NoFences);
        exchange(1, 1, Policy::AtMostOnce);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_an_item_is_torn() {
    explore(Sleeps::Endless, 2, || {
        model::mutate(Mutation::NoOrder);
        exchange(1, 1, Policy::AtMostOnce);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_verdict_on_the_living_lets_two_into_the_store() {
    explore(Sleeps::Sliced, 2, || {
        let heap = heap(2, Order::First, Policy::AtMostOnce);
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let other = thread::spawn({
            let (heap, slow) = (Arc::clone(&heap), Arc::clone(&slow));
            move || heap.store().try_put(slow.me(), 0, 10)
        });
        slow.declare_dead();
        let _ = heap.store().try_put(own.me(), 0, 20);
        let _ = other.join();
    });
}

// Deaths.

/// What a victim got done.
#[derive(Clone, Debug, Default)]
struct Deeds {
    /// Puts that were acknowledged; what was taken, and finished if that is to be done.
    done: Vec<u32>,
    survived: bool,
}

/// A process that dies after `fuel` accesses of `life`, which writes down what was acknowledged to it.
fn victim(
    heap: &Heap,
    fuel: u32,
    life: impl FnOnce(Store<'_, u32>, Member<'_>, &mut Vec<u32>) + 'static,
) -> JoinHandle<Deeds> {
    let (heap, process) = (Arc::clone(heap), Process::new());
    thread::spawn(move || {
        let mut done = Vec::new();
        let survived = process.live(fuel, |me| life(heap.store(), me, &mut done)).is_some();
        Deeds { done, survived }
    })
}

fn putter_dies(fuel: u32, order: Order) -> bool {
    let heap = heap(3, order, Policy::AtMostOnce);
    let own = Process::new();
    let dying = victim(&heap, fuel, |store, me, done| {
        for item in [10, 11] {
            store.put(me, 0, item).expect("open and sound");
            done.push(item);
        }
    });
    heap.store().put(own.me(), 0, 20).unwrap();
    let mut taken = vec![take(heap.store(), own.me())];
    let deeds = dying.join().unwrap();
    taken.extend(drain(heap.store(), own.me()));
    let of_victim = taken.iter().filter(|&&item| item < 20).count();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), of_victim + 1, "doubled: {taken:?}");
    assert!(taken.contains(&20) && of_victim >= deeds.done.len(), "{taken:?} {deeds:?}");
    assert_usable(heap.store(), own.me());
    !deeds.survived
}

#[test]
fn a_putter_may_die_anywhere() {
    explore_deaths(1, |fuel| putter_dies(fuel, Order::First));
}

#[test]
fn a_putter_of_priorities_may_die_anywhere() {
    explore_deaths(1, |fuel| putter_dies(fuel, Order::Least));
}

/// A taker died, or got by, beside the main thread, which takes what is left.
fn taker_dies(fuel: u32, order: Order, policy: Policy) -> bool {
    let heap = heap(2, order, policy);
    let own = Process::new();
    heap.store().put(own.me(), 0, 10).unwrap();
    heap.store().put(own.me(), 0, 11).unwrap();
    let dying = victim(&heap, fuel, |store, me, done| {
        if let Ok((item, lease)) = store.try_take(me) {
            done.push(item);
            if let Some(lease) = lease {
                assert!(store.finish(me, lease));
            }
        }
    });
    let (first, lease) = heap.store().take(own.me()).expect("there are two");
    if let Some(lease) = lease {
        assert!(heap.store().finish(own.me(), lease));
    }
    let deeds = dying.join().unwrap();
    let mut taken = vec![first];
    taken.extend(drain(heap.store(), own.me()));
    let again = policy == Policy::AtLeastOnce;
    let lost = heap.store().lost() as usize;
    let all = taken.iter().chain(&deeds.done).copied();
    let mut all = Vec::from_iter(all);
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    // It may have finished what it did not come to write down, or not have finished what it did.
    let in_hand = usize::from(!deeds.survived);
    assert!(all.len() == count || again && in_hand == 1, "doubled: {taken:?} {deeds:?}");
    assert!(all.len() + in_hand >= 2, "lost: {taken:?} {deeds:?}");
    assert!(lost <= in_hand && !(again && lost != 0), "{lost} lost");
    heap.store().take_lost();
    assert_usable(heap.store(), own.me());
    !deeds.survived
}

#[test]
fn a_taker_may_die_anywhere() {
    explore_deaths(1, |fuel| taker_dies(fuel, Order::First, Policy::AtMostOnce));
}

#[test]
fn a_taker_from_a_stack_may_die_before_it_is_done() {
    explore_deaths(1, |fuel| taker_dies(fuel, Order::Last, Policy::AtMostOnceLeased));
}

#[test]
fn a_taker_may_die_and_its_item_comes_back() {
    explore_deaths(1, |fuel| taker_dies(fuel, Order::First, Policy::AtLeastOnce));
}

/// A taker that is never done: what it has taken is delivered to whoever sleeps for it.
#[test]
fn who_sleeps_gets_what_the_dead_had_taken() {
    explore_deaths(1, |fuel| {
        let heap = heap(1, Order::Least, Policy::AtLeastOnce);
        let own = Process::new();
        heap.store().put(own.me(), 0, 10).unwrap();
        let dying = victim(&heap, fuel, |store, me, done| {
            if let Ok((item, lease)) = store.try_take(me) {
                done.push(item);
                let lease = lease.expect("at least once");
                assert!(matches!(store.give_up(me, lease), Ok(GivenUp::Back)));
            }
        });
        assert_eq!(take(heap.store(), own.me()), 10);
        let deeds = dying.join().unwrap();
        assert_usable(heap.store(), own.me());
        !deeds.survived
    });
}

#[test]
fn a_join_ends_when_the_taker_dies() {
    for policy in [Policy::AtMostOnceLeased, Policy::AtLeastOnce] {
        explore_deaths(1, move |fuel| {
            let heap = heap(1, Order::First, policy);
            let own = Process::new();
            heap.store().put(own.me(), 0, 10).unwrap();
            let dying = victim(&heap, fuel, |store, me, done| {
                if let Ok((item, lease)) = store.try_take(me) {
                    assert!(store.finish(me, lease.expect("leased")));
                    done.push(item);
                }
            });
            if policy == Policy::AtLeastOnce {
                let deeds = dying.join().unwrap();
                drain(heap.store(), own.me());
                assert_eq!(heap.store().join_until(own.me(), Deadline::NEVER), Ok(()));
                return !deeds.survived;
            }
            // It may die before it has taken it, so that somebody has to be there for it.
            if let Ok((_, lease)) = heap.store().try_take(own.me()) {
                assert!(heap.store().finish(own.me(), lease.unwrap()));
            }
            let answer = heap.store().join_until(own.me(), Deadline::NEVER);
            let deeds = dying.join().unwrap();
            match answer {
                Ok(()) => {}
                Err(JoinItemsError::Lost { lost: 1 }) => assert!(!deeds.survived),
                Err(error) => panic!("{error}"),
            }
            !deeds.survived
        });
    }
}

/// With so much fuel a process dies over the lock with its item entered and not counted.
const ENTERED: u32 = 6;

#[test]
fn who_mends_after_the_dead_may_die_too() {
    for (order, policy) in [(Order::First, Policy::AtMostOnce), (Order::Least, Policy::AtLeastOnce)]
    {
        explore_deaths(1, move |fuel| {
            let heap = heap(2, order, policy);
            let (own, first) = (Process::new(), Process::new());
            heap.store().put(own.me(), 0, 10).unwrap();
            assert!(first.live(ENTERED, |me| heap.store().put(me, 0, 11)).is_none());
            let dying = victim(&heap, fuel, |store, me, done| {
                if let Ok((item, lease)) = store.try_take(me) {
                    done.push(item);
                    if let Some(lease) = lease {
                        assert!(store.finish(me, lease));
                    }
                }
            });
            let mut taken = Vec::from_iter(heap.store().try_take(own.me()).map(|(item, lease)| {
                if let Some(lease) = lease {
                    assert!(heap.store().finish(own.me(), lease));
                }
                item
            }));
            let deeds = dying.join().unwrap();
            taken.extend(drain(heap.store(), own.me()));
            taken.extend(&deeds.done);
            taken.sort_unstable();
            let again = policy == Policy::AtLeastOnce;
            let count = taken.len();
            taken.dedup();
            assert!(count == taken.len() || again && !deeds.survived, "{taken:?}");
            assert!(taken.contains(&10) || !deeds.survived, "{taken:?} {deeds:?}");
            assert_usable(heap.store(), own.me());
            !deeds.survived
        });
    }
}
