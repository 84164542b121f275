//! The store in one process: its deaths are declared.

use super::*;
use crate::queue::PopError;
use crate::region::testing::Bytes;
use crate::region::{Member, Membership, Tag};
use crate::sys::{Deadline, Thread};
use crate::wait::Waitable;
use core::time::Duration;
use std::vec;
use std::vec::Vec;

const STORE: Kind = Kind::new(1).unwrap();
const SEGMENT: Kind = Kind::new(2).unwrap();

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// What a test plays with.
struct World<'r> {
    region: Region<'r>,
    seat: Membership<'r>,
}

impl<'r> World<'r> {
    fn new(bytes: &'r Bytes) -> Self {
        let region = bytes.create().unwrap();
        Self { region, seat: region.join().unwrap() }
    }

    fn me(&self) -> Member<'_> {
        self.seat.member()
    }

    fn store(&self, capacity: u64, order: Order, policy: Policy) -> Store<'r, u64> {
        let plan = Plan { capacity, order, policy };
        let bytes = Store::<u64>::bytes_for(plan);
        let object = self.region.allocate_object(self.me(), STORE, bytes).unwrap();
        Store::create(&self.region, object.offset, plan, SEGMENT, u32::MAX).unwrap()
    }

    /// A process that does something and is killed.
    fn die(&self, life: impl FnOnce(Member<'_>)) -> Membership<'r> {
        let seat = self.region.join().unwrap();
        life(seat.member());
        self.region.participants().declare_dead(seat.member().tag().unwrap());
        seat
    }

    /// A process that is killed with the store's lock in its hand.
    fn die_locked(&self, store: &Store<'_, u64>, life: impl FnOnce(Member<'_>)) -> Membership<'r> {
        self.die(|me| {
            core::mem::forget(store.parts.index.lock.acquire(me).unwrap());
            life(me);
        })
    }

    /// Of what it has grown by, how many objects there are.
    fn segments(&self) -> usize {
        let mut count = 0;
        self.region.for_each_object(SEGMENT, &mut |_, _| count += 1);
        count
    }
}

fn take_all(store: &Store<'_, u64>, me: Member<'_>) -> Vec<u64> {
    let mut taken = Vec::new();
    loop {
        match store.try_take(me) {
            Ok((item, lease)) => {
                taken.push(item);
                if let Some(lease) = lease {
                    assert!(store.finish(me, lease));
                }
            }
            Err(PopError::Empty | PopError::Closed) => return taken,
            Err(error) => panic!("{error}"),
        }
    }
}

fn tag(me: Member<'_>) -> Tag {
    me.tag().unwrap()
}

#[test]
fn each_order_is_kept_while_the_store_grows_and_shrinks() {
    for policy in [Policy::AtMostOnce, Policy::AtMostOnceLeased, Policy::AtLeastOnce] {
        let bytes = Bytes::new(1 << 22);
        let world = World::new(&bytes);
        let me = world.me();
        for count in [1, 15, 16, 17, 100, 1000] {
            let queue = world.store(MOST_STORED, Order::First, policy);
            let stack = world.store(MOST_STORED, Order::Last, policy);
            let ranked = world.store(MOST_STORED, Order::Least, policy);
            let before = world.segments();
            // Keys in disorder, each of them several times.
            let key = |item: u64| (item.wrapping_mul(7919) % 50) as i64 - 25;
            for item in 0..count {
                queue.try_put(me, 0, item).unwrap();
                stack.try_put(me, 0, item).unwrap();
                ranked.try_put(me, key(item), item).unwrap();
            }
            assert_eq!(queue.len(), count as usize);
            assert_eq!(take_all(&queue, me), Vec::from_iter(0..count));
            assert_eq!(take_all(&stack, me), Vec::from_iter((0..count).rev()));
            let mut by_key = Vec::from_iter(0..count);
            by_key.sort_by_key(|&item| key(item));
            assert_eq!(take_all(&ranked, me), by_key);
            assert_eq!((queue.len(), queue.unfinished()), (0, 0));
            assert_eq!(world.segments(), before);
        }
    }
}

#[test]
fn puts_and_takes_may_alternate() {
    for order in [Order::First, Order::Last, Order::Least] {
        let bytes = Bytes::new(1 << 22);
        let world = World::new(&bytes);
        let me = world.me();
        let store = world.store(MOST_STORED, order, Policy::AtMostOnce);
        let mut model: Vec<(i64, u64)> = Vec::new();
        let mut random = 1u64;
        for item in 0..20_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // In turns more puts than takes, and fewer.
            let puts = if item / 2000 % 2 == 0 { 5 } else { 3 };
            if random >> 33 & 7 < puts {
                let key = (random >> 40 & 15) as i64;
                store.try_put(me, key, item).unwrap();
                model.push((key, item));
            } else {
                let at = match order {
                    Order::First => 0,
                    Order::Last => model.len().wrapping_sub(1),
                    Order::Least => {
                        (0..model.len()).min_by_key(|&at| model[at]).unwrap_or(usize::MAX)
                    }
                };
                let expected = if at < model.len() { Some(model.remove(at).1) } else { None };
                assert_eq!(store.try_take(me).ok().map(|(item, _)| item), expected);
            }
            assert_eq!(store.len(), model.len());
        }
    }
}

#[test]
fn the_capacity_is_exact_and_what_is_held_does_not_count() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    for capacity in [1, 3, 16, 20] {
        let store = world.store(capacity, Order::First, Policy::AtLeastOnce);
        for round in 0..3 {
            for item in 0..capacity {
                assert!(!store.is_full());
                store.try_put(me, 0, item).unwrap();
            }
            assert_eq!(store.try_put(me, 0, 9), Err(PushError::Full.into()), "{capacity} {round}");
            for item in 0..capacity {
                assert_eq!(store.try_take(me).unwrap().0, item);
            }
        }
        assert_eq!(store.held() as u64, 3 * capacity);
    }
    let late = Deadline::after(Duration::from_millis(5));
    let store = world.store(1, Order::First, Policy::AtMostOnce);
    assert_eq!(store.take_until(me, late), Err(PopError::TimedOut));
    store.put(me, 0, 1).unwrap();
    let late = Deadline::after(Duration::from_millis(5));
    assert_eq!(store.put_until(me, late, 0, 1), Err(PushError::TimedOut.into()));
}

#[test]
fn what_the_dead_hold_is_delivered_again_or_counted() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    for order in [Order::First, Order::Last, Order::Least] {
        let store = world.store(100, order, Policy::AtLeastOnce);
        for item in 0..40 {
            store.put(me, item as i64, item).unwrap();
        }
        let mut held = Vec::new();
        world.die(|me| held.extend((0..20).map(|_| store.take(me).unwrap().0)));
        let own = store.take(me).unwrap();
        assert_eq!(store.held(), 21);
        store.sweep(me).unwrap();
        assert_eq!((store.held(), store.len(), store.lost()), (1, 39, 0));
        let taker = store.start_take(me, Deadline::NOW).unwrap();
        assert_eq!(taker.deliveries(), 2);
        drop(taker);
        let mut again = take_all(&store, me);
        match order {
            // In front of all others, in their old order.
            Order::First | Order::Least => {
                assert_eq!(again, Vec::from_iter((0..40).filter(|&item| item != own.0)));
            }
            Order::Last => {
                again.sort_unstable();
                assert_eq!(again, Vec::from_iter((0..40).filter(|&item| item != own.0)));
            }
        }
        assert!(store.finish(me, own.1.unwrap()));
        assert!(!store.finish(me, own.1.unwrap()), "once");
    }
    let store = world.store(100, Order::First, Policy::AtMostOnceLeased);
    for item in 0..3 {
        store.put(me, 0, item).unwrap();
    }
    world.die(|me| assert_eq!(store.take(me).unwrap().0, 0));
    assert_eq!(store.unfinished(), 3);
    assert_eq!(take_all(&store, me), [1, 2]);
    assert_eq!(store.join_until(me, soon()), Err(JoinItemsError::Lost { lost: 1 }));
    assert_eq!(store.take_lost(), 1);
    assert_eq!(store.join_until(me, soon()), Ok(()));
}

#[test]
fn a_lock_taken_over_from_the_dead_has_everything_in_order() {
    let bytes = Bytes::new(1 << 21);
    let world = World::new(&bytes);
    let me = world.me();
    for order in [Order::First, Order::Last, Order::Least] {
        for policy in [Policy::AtMostOnce, Policy::AtMostOnceLeased, Policy::AtLeastOnce] {
            let store = world.store(1000, order, policy);
            for item in 0..100 {
                store.put(me, -(item as i64), item).unwrap();
            }
            for _ in 0..30 {
                if let Some(lease) = store.take(me).unwrap().1 {
                    assert!(store.finish(me, lease));
                }
            }
            let kept = store.take(me).unwrap();
            // Everything that follows from the words is garbage.
            world.die_locked(&store, |me| {
                let index = &store.parts.index;
                for end in [&index.front, &index.back, &index.oldest, &index.newest] {
                    end.set(77);
                }
                index.next.set(0);
                store
                    .each(|_, cell| {
                        cell.next.set(3);
                        cell.previous.set(5);
                        cell.heap.set(7);
                        Ok(())
                    })
                    .unwrap();
                store.set_counts(Counts { full: 9, held: 9 });
                for segment in &*store.parts.segments {
                    segment.spoil();
                }
                let number =
                    (0..).find(|&n| store.cell(n).unwrap().word().state() == cells::State::Free);
                let cell = store.cell(number.unwrap()).unwrap();
                cell.set(cell.word().filling(tag(me)));
            });
            let held = usize::from(policy != Policy::AtMostOnce);
            assert_eq!(store.try_put(me, 1, 100), Ok(()));
            assert_eq!((store.len(), store.held()), (70, held), "{order:?} {policy:?}");
            let expected = match order {
                Order::First => Vec::from_iter(31..101),
                Order::Last => [100].into_iter().chain((0..69).rev()).collect(),
                Order::Least => (0..69).rev().chain([100]).collect(),
            };
            assert_eq!(take_all(&store, me), expected, "{order:?} {policy:?}");
            assert_eq!(kept.1.is_some_and(|lease| store.finish(me, lease)), held == 1);
            assert_eq!(store.unfinished(), 0);
            for item in 0..100 {
                store.put(me, 0, item).unwrap();
            }
            assert_eq!(take_all(&store, me).len(), 100);
        }
    }
}

#[test]
fn a_claim_that_is_dropped_leaves_nothing() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    let store = world.store(2, Order::First, Policy::AtMostOnce);
    let putter = store.start_put(me, Deadline::NOW, 0).unwrap();
    let ticket = putter.ticket() as u32;
    assert!(!store.has_passed(ticket));
    drop(putter);
    assert!(store.has_passed(ticket) && store.is_empty());
    let mut putter = store.start_put(me, Deadline::NOW, 0).unwrap();
    putter.write(1);
    putter.publish().unwrap();
    assert!(putter.another(0).unwrap());
    putter.write(2);
    putter.publish().unwrap();
    assert!(!putter.another(0).unwrap());
    drop(putter);
    let taker = store.start_take(me, Deadline::NOW).unwrap();
    let ticket = taker.ticket() as u32;
    assert!(!store.is_waiting(ticket) && !store.has_passed(ticket));
    drop(taker);
    assert!(store.is_waiting(ticket));
    assert_eq!(store.peek_until(me, Deadline::NOW).unwrap().item, 1);
    assert_eq!(take_all(&store, me), [1, 2]);
    assert!(store.has_passed(ticket));
}

#[test]
fn tickets_name_cells_and_laps() {
    let bytes = Bytes::new(1 << 22);
    let world = World::new(&bytes);
    let me = world.me();
    let store = world.store(MOST_STORED, Order::Last, Policy::AtMostOnce);
    let mut waiting = Vec::new();
    for round in 0..5 {
        for item in 0..200 {
            let mut putter = store.start_put(me, soon(), 0).unwrap();
            let ticket = putter.ticket() as u32;
            assert!(!waiting.contains(&ticket));
            putter.write(item);
            putter.publish().unwrap();
            waiting.push(ticket);
        }
        for _ in 0..150 + round {
            let mut taker = store.start_take(me, soon()).unwrap();
            let ticket = waiting.pop().unwrap();
            assert_eq!(taker.ticket() as u32, ticket);
            taker.settle(None).unwrap();
            drop(taker);
            assert!(store.has_passed(ticket));
        }
        assert!(waiting.iter().all(|&ticket| store.is_waiting(ticket)));
    }
    assert!(store.has_passed(u32::MAX) || store.has_passed(31));
}

#[test]
fn a_segment_that_is_linked_nowhere_is_swept() {
    let bytes = Bytes::new(1 << 21);
    let world = World::new(&bytes);
    let me = world.me();
    let store = world.store(MOST_STORED, Order::First, Policy::AtMostOnce);
    for item in 0..20 {
        store.put(me, 0, item).unwrap();
    }
    let linked = Vec::from_iter(store.segments());
    assert_eq!(linked.len(), 1);
    // As one that died between sharing and linking leaves it.
    let object = world.region.allocate_object(me, SEGMENT, 100).unwrap();
    let front = world.region.object::<cells::Front>(object.offset).unwrap();
    front.store.store(store.offset, Ordering::Relaxed);
    world.region.share(object).unwrap();
    assert_eq!(Store::<u64>::home_of(&world.region, object), Some(store.offset));
    let mut found = vec![];
    world.region.for_each_object(SEGMENT, &mut |segment, _| found.push(segment));
    for segment in found {
        store.sweep_segment(me, segment).unwrap();
    }
    assert_eq!(world.segments(), 1);
    assert_eq!(take_all(&store, me), Vec::from_iter(0..20));
}

#[test]
fn without_memory_it_says_so_and_goes_on() {
    let bytes = Bytes::new(1 << 18);
    let world = World::new(&bytes);
    let me = world.me();
    let store = world.store(MOST_STORED, Order::First, Policy::AtMostOnce);
    let mut count = 0;
    let error = loop {
        match store.try_put(me, 0, count) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Memory(_)), "{error}");
    assert!(count >= 16);
    assert_eq!(take_all(&store, me), Vec::from_iter(0..count));
}

#[test]
fn closing_ends_puts_and_shutting_down_ends_all() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    let store = world.store(10, Order::First, Policy::AtLeastOnce);
    for item in 0..3 {
        store.put(me, 0, item).unwrap();
    }
    store.shutdown(me, false);
    assert_eq!(store.try_put(me, 0, 9), Err(PushError::Closed.into()));
    let leases = [0, 1, 2].map(|item| {
        let (taken, lease) = store.try_take(me).unwrap();
        assert_eq!(taken, item);
        lease.unwrap()
    });
    // What is held may come back.
    assert_eq!(store.try_take(me), Err(PopError::Empty));
    assert!(matches!(store.give_up(me, leases[1]), Ok(GivenUp::Back)));
    assert!(matches!(store.give_up(me, leases[1]), Ok(GivenUp::NotHeld)));
    assert_eq!(take_all(&store, me), [1]);
    assert!(!store.is_ready(me, true));
    let blocked = JoinItemsError::WouldBlock { unfinished: 2 };
    assert_eq!(store.join_until(me, Deadline::NOW), Err(blocked));
    assert!(store.finish(me, leases[0]) && store.finish(me, leases[2]));
    assert!(store.is_ready(me, false));
    assert_eq!(store.try_take(me), Err(PopError::Closed));
    assert_eq!(store.join_until(me, Deadline::NOW), Ok(()));

    let store = world.store(10, Order::First, Policy::AtMostOnce);
    for item in 0..3 {
        store.put(me, 0, item).unwrap();
    }
    store.shutdown(me, true);
    assert_eq!(store.take(me), Err(PopError::Closed));
    assert_eq!(store.join_until(me, soon()), Err(JoinItemsError::ShutDown));
    let mut thrown = Vec::new();
    while let Some(mut taker) = store.start_discard(me, soon()).unwrap() {
        thrown.push(taker.read().unwrap());
        taker.discard().unwrap();
    }
    assert_eq!(thrown, [0, 1, 2]);
    assert_eq!(store.unfinished(), 0);
}

#[test]
fn what_comes_back_to_a_store_that_was_shut_is_thrown_away() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    let store = world.store(10, Order::Last, Policy::AtLeastOnce);
    for item in 0..3 {
        store.put(me, 0, item).unwrap();
    }
    let lease = store.take(me).unwrap().1.unwrap();
    world.die(|me| assert_eq!(store.take(me).unwrap().0, 1));
    store.shutdown(me, true);
    while let Some(mut taker) = store.start_discard(me, soon()).unwrap() {
        taker.discard().unwrap();
    }
    assert!(matches!(store.give_up(me, lease), Ok(GivenUp::Gone(Released { item: 2, .. }))));
    store.sweep(me).unwrap();
    assert_eq!((store.unfinished(), store.lost()), (0, 0));
}

#[test]
fn a_lease_ends_with_its_segment() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    let store = world.store(1, Order::First, Policy::AtMostOnceLeased);
    let put = |item| store.put(me, 0, item).unwrap();
    let take = || store.take(me).unwrap().1.unwrap();
    let done = || assert!(store.finish_any(me, None).unwrap().is_some());
    put(1);
    take();
    put(2);
    let stale = take();
    done();
    done();
    assert_eq!(world.segments(), 0);
    put(3);
    take();
    put(4);
    // The same place, the same lap, the same hand.
    let lease = take();
    assert!(!store.is_held(stale) && store.is_held(lease));
    assert!(matches!(store.give_up(me, stale), Ok(GivenUp::NotHeld)));
    assert!(store.finish(me, lease));
}

#[test]
fn finishing_picks_the_own_thread_first() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let (me, other) = (world.me(), world.region.join().unwrap());
    let store = world.store(10, Order::First, Policy::AtMostOnceLeased);
    let take = |me, thread| {
        let mut taker = store.start_take(me, soon()).unwrap();
        taker.settle(Thread::new(thread)).unwrap();
    };
    for item in 0..5 {
        store.put(me, 0, item).unwrap();
    }
    take(other.member(), 1);
    take(me, 2);
    take(me, 1);
    take(me, 1);
    let finish = |thread| store.finish_any(me, Thread::new(thread)).unwrap().map(|done| done.item);
    assert_eq!(finish(1), Some(2));
    assert_eq!(finish(1), Some(3));
    assert_eq!(finish(1), Some(1));
    assert_eq!(finish(1), Some(0));
    assert_eq!(finish(1), None);
    assert_eq!(store.unfinished(), 1);
}

#[test]
fn damage_is_told_and_nothing_hangs() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    for order in [Order::First, Order::Last, Order::Least] {
        let store = world.store(100, order, Policy::AtLeastOnce);
        for item in 0..50 {
            store.put(me, 0, item).unwrap();
        }
        let lease = store.take(me).unwrap().1.unwrap();
        store.take(me).unwrap();
        let index = &store.parts.index;
        index.grown.set(u32::MAX);
        assert!(store.try_put(me, 0, 1).is_err());
        assert!(matches!(store.try_finish(me, lease), Err(PopError::Corrupt)));
        index.grown.set(2);
        index.front.set(0xFFFF);
        store.cell(0).unwrap().heap.set(0xFFFF);
        assert_eq!(store.try_take(me).unwrap_err(), PopError::Corrupt);
        index.oldest.set(0xFFFF);
        assert_eq!(store.sweep(me), Err(PopError::Corrupt));
        world.die_locked(&store, |_| {
            store.cell(1).unwrap().set(cells::Word(2 << 30));
        });
        assert_eq!(store.try_take(me).unwrap_err(), PopError::Corrupt);
        for word in 0..200 {
            // SAFETY: within the head, which is atomics.
            let word = unsafe {
                let head: *const Head = store.parts;
                &*head.cast::<AtomicU64>().add(word % (size_of::<Head>() / 8))
            };
            word.store(0x5A5A_1234_FFFF_0000 ^ word.as_ptr() as u64, Ordering::Relaxed);
            let _ = store.try_put(me, 0, 1);
            let _ = store.try_take(me);
            let _ = store.has_passed(word.as_ptr() as u32);
        }
    }
    let missing = Store::<u64>::attach(&world.region, 1 << 19, SEGMENT);
    assert!(matches!(missing, Err(crate::queue::QueueError::Other { .. })));
}

#[test]
fn a_shape_is_found_again() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let store = world.store(7, Order::Least, Policy::AtMostOnceLeased);
    let found = Store::<u64>::attach(&world.region, store.offset, SEGMENT).unwrap();
    assert_eq!(found.plan(), store.plan());
    assert!(Store::<u32>::attach(&world.region, store.offset, SEGMENT).is_err());
    let plan = Plan { capacity: 0, ..store.plan() };
    assert!(Store::<u64>::create(&world.region, 1 << 19, plan, SEGMENT, 0).is_err());
}

#[test]
fn threads_move_everything_once() {
    let bytes = Bytes::new(1 << 22);
    let world = World::new(&bytes);
    for (capacity, policy) in [(4, Policy::AtMostOnce), (MOST_STORED, Policy::AtLeastOnce)] {
        let store = world.store(capacity, Order::First, policy);
        let taken = std::thread::scope(|threads| {
            for first in [0, 10_000] {
                let (store, me) = (store, world.me());
                threads.spawn(move || {
                    for item in first..first + 2000 {
                        store.put_until(me, soon(), 0, item).unwrap();
                    }
                });
            }
            let takers = [0, 1].map(|_| {
                let (store, me) = (store, world.me());
                threads.spawn(move || {
                    let mut taken = Vec::new();
                    while taken.len() < 2000 {
                        let (item, lease) = store.take_until(me, soon()).unwrap();
                        if let Some(lease) = lease {
                            assert!(store.finish(me, lease));
                        }
                        taken.push(item);
                    }
                    taken
                })
            });
            let mut all = Vec::new();
            for taker in takers {
                all.extend(taker.join().unwrap());
            }
            all
        });
        let mut taken = taken;
        taken.sort_unstable();
        assert_eq!(taken, Vec::from_iter((0..2000).chain(10_000..12_000)));
        assert_eq!(store.unfinished(), 0);
    }
}

#[test]
fn a_lease_is_no_other_items_after_the_cells_are_made_anew() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    let store = world.store(100, Order::First, Policy::AtLeastOnce);
    let fill = || (0..17).for_each(|item| store.put(me, 0, item).unwrap());
    let take = || {
        let leases: Vec<_> = (0..17).map(|_| store.take(me).unwrap().1.unwrap()).collect();
        assert_eq!(store.held(), 17);
        leases
    };
    fill();
    assert_eq!(world.segments(), 1, "the last one lies in a segment");
    let old = take();
    // By another thread, as it were: `finish_any` names none.
    while store.finish_any(me, None).unwrap().is_some() {}
    assert_eq!(world.segments(), 0, "it shrinks");
    fill();
    let new = take();
    for lease in old {
        assert!(!store.is_held(lease), "{lease:?} is over");
        assert!(!store.finish(me, lease));
        assert!(matches!(store.give_up(me, lease), Ok(GivenUp::NotHeld)));
    }
    assert!(new.into_iter().all(|lease| store.is_held(lease) && store.finish(me, lease)));
}

#[test]
fn what_was_put_while_it_is_shut_down_is_thrown_away() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    let store = world.store(10, Order::First, Policy::AtMostOnce);
    let mut putter = store.start_put(me, soon(), 0).unwrap();
    putter.write(5);
    store.shutdown(me, true);
    std::thread::scope(|threads| {
        let thrown = threads.spawn(|| {
            let mut taker = store.start_discard(me, soon()).unwrap()?;
            let item = taker.read().unwrap();
            taker.discard().unwrap();
            Some(item)
        });
        std::thread::sleep(Duration::from_millis(50));
        putter.publish().unwrap();
        drop(putter);
        assert_eq!(thrown.join().unwrap(), Some(5));
    });
    assert!(store.is_empty());
}

#[test]
fn items_may_lie_at_any_boundary() {
    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    struct Line([u64; 8]);
    // SAFETY: all zero is a value.
    unsafe impl bytemuck::Zeroable for Line {}
    // SAFETY: eight numbers without a gap, of which any bits are a value.
    unsafe impl Pod for Line {}

    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    let plan = Plan { capacity: 100, order: Order::First, policy: Policy::AtMostOnce };
    let place = world.region.allocate_object(me, STORE, Store::<Line>::bytes_for(plan)).unwrap();
    let store = Store::<Line>::create(&world.region, place.offset, plan, SEGMENT, 0).unwrap();
    for item in 0..100 {
        store.put(me, 0, Line([item; 8])).unwrap();
    }
    for item in 0..100 {
        assert_eq!(store.take(me).unwrap().0.0, [item; 8]);
    }
}

#[test]
fn counts_that_cannot_be_are_damage() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    for order in [Order::First, Order::Last, Order::Least] {
        let store = world.store(100, order, Policy::AtLeastOnce);
        for item in 0..3 {
            store.put(me, 0, item).unwrap();
        }
        let lease = store.take(me).unwrap().1.unwrap();
        let sound = store.counts();
        // The lists lead round and round.
        for number in 0..3 {
            store.cell(number).unwrap().next.set(number);
        }
        for counts in [Counts { full: u32::MAX, held: 1 }, Counts { full: 1, held: u32::MAX }] {
            store.set_counts(counts);
            let start = std::time::Instant::now();
            let given = store.give_up(me, lease);
            assert!(matches!(given, Err(PopError::Corrupt)), "{order:?} {counts:?}");
            let finished = store.finish_any(me, Thread::new(9));
            assert!(matches!(finished, Err(PopError::Corrupt)));
            assert_eq!(store.sweep(me), Err(PopError::Corrupt));
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        store.set_counts(sound);
    }
}

#[test]
fn a_segment_that_was_not_shared_yet_has_no_home() {
    let bytes = Bytes::new(1 << 20);
    let world = World::new(&bytes);
    let me = world.me();
    let segment = world.region.allocate_object(me, SEGMENT, 1000).unwrap();
    assert_eq!(Store::<u64>::home_of(&world.region, segment), None);
    let store = world.store(100, Order::First, Policy::AtMostOnce);
    (0..17).for_each(|item| store.put(me, 0, item).unwrap());
    let linked = store.segments().next().unwrap();
    assert_eq!(Store::<u64>::home_of(&world.region, linked), Some(store.offset));
}
