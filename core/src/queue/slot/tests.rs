//! The slot queue in one process: its deaths are declared.

use super::*;
use crate::queue::{PopError, PushError};
use crate::region::Member;
use crate::region::testing::Bytes;
use crate::region::{Membership, Region};
use crate::sys::Deadline;
use core::time::Duration;
use std::vec;
use std::vec::Vec;

const AT: u64 = 1 << 19;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A process that has made a claim and been killed.
fn die<'r>(region: &Region<'r>, claim: impl FnOnce(Member<'_>)) -> Membership<'r> {
    let seat = region.join().unwrap();
    claim(seat.member());
    region.participants().declare_dead(seat.member().tag().unwrap());
    seat
}

#[test]
fn every_capacity_is_exact_and_wraps() {
    for capacity in [1, 2, 3, 4, 5, 7, 8] {
        for first in [0, TICKET_MASK - 15, TICKET_MASK - 7] {
            let bytes = Bytes::new(1 << 20);
            let region = bytes.create().unwrap();
            let seat = region.join().unwrap();
            let me = seat.member();
            let queue = SlotQueue::<u32>::create_at(&region, AT, capacity, first).unwrap();
            for round in 0..40 {
                assert_eq!(queue.try_pop(me), Err(PopError::Empty));
                for item in 0..capacity as u32 {
                    assert!(!queue.is_full());
                    queue.try_push(me, round + item).unwrap();
                    assert_eq!(queue.len(), item as usize + 1);
                }
                assert_eq!(queue.try_push(me, 9), Err(PushError::Full), "{capacity} {first}");
                for item in 0..capacity as u32 {
                    assert_eq!(queue.try_pop(me), Ok(round + item));
                }
                assert!(queue.is_empty());
            }
        }
    }
}

#[test]
fn batches_are_in_order_and_take_what_fits() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create_at(&region, AT, 6, TICKET_MASK - 3).unwrap();
    for _ in 0..10 {
        assert_eq!(queue.push_many(me, Deadline::NOW, &[1, 2, 3, 4]), Ok(4));
        assert_eq!(queue.push_many(me, Deadline::NOW, &[5, 6, 7, 8]), Ok(2));
        let mut room = [0; 5];
        assert_eq!(queue.pop_many(me, Deadline::NOW, &mut room), Ok(5));
        assert_eq!(room, [1, 2, 3, 4, 5]);
        assert_eq!(queue.pop_many(me, Deadline::NOW, &mut room), Ok(1));
        assert_eq!(room[0], 6);
    }
}

#[test]
fn what_the_dead_had_claimed_is_freed_by_whom_it_blocks() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create(&region, AT, 4).unwrap();
    // A dead producer between two items, and a dead batch.
    queue.push(me, 1).unwrap();
    die(&region, |me| {
        let _ = queue.start_push(me, Deadline::NOW).unwrap();
    });
    queue.push(me, 2).unwrap();
    die(&region, |me| {
        let _ = queue.attempt_push(me, 1, false).unwrap();
    });
    assert_eq!(queue.pop_until(me, soon()), Ok(1));
    assert_eq!(queue.pop_until(me, soon()), Ok(2));
    die(&region, |me| {
        let _ = queue.attempt_push(me, 3, false).unwrap();
    });
    queue.push_until(me, soon(), 3).unwrap();
    assert_eq!(queue.pop_until(me, soon()), Ok(3));
    // A dead consumer takes its item along, and blocks nobody.
    for item in 0..4 {
        queue.push_until(me, soon(), item).unwrap();
    }
    die(&region, |me| {
        let _ = queue.wait_pop(me, 2, Deadline::NOW).unwrap();
    });
    queue.push_until(me, soon(), 4).unwrap();
    assert_eq!(queue.pop_until(me, soon()), Ok(2));
    queue.push_until(me, soon(), 5).unwrap();
    let rest: Vec<_> = (0..3).map(|_| queue.pop_until(me, soon()).unwrap()).collect();
    assert_eq!(rest, [3, 4, 5]);
    assert_eq!(queue.try_pop(me), Err(PopError::Empty));
}

#[test]
fn producers_that_die_in_a_row_never_block_a_queue_without_consumers() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create(&region, AT, 2).unwrap();
    for _ in 0..20 {
        die(&region, |me| {
            let _ = queue.attempt_push(me, 1, true);
        });
    }
    queue.push_until(me, soon(), 7).unwrap();
    assert_eq!(queue.pop_until(me, soon()), Ok(7));
    assert_eq!(queue.try_pop(me), Err(PopError::Empty));
}

#[test]
fn a_living_claimer_is_waited_for() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (one, other) = (region.join().unwrap(), region.join().unwrap());
    let queue = SlotQueue::<u32>::create(&region, AT, 1).unwrap();
    let claim = queue.start_push(one.member(), Deadline::NOW).unwrap();
    let soon = Deadline::after(Duration::from_millis(30));
    assert_eq!(queue.try_pop(other.member()), Err(PopError::Busy));
    assert_eq!(queue.pop_until(other.member(), soon), Err(PopError::TimedOut));
    // SAFETY: the claim is this test's.
    unsafe { queue.item(&claim).write(5) };
    queue.finish_push(one.member(), claim);
    assert_eq!(queue.try_pop(other.member()), Ok(5));
}

#[test]
fn a_sweep_leaves_no_name_of_the_dead() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create(&region, AT, 8).unwrap();
    for item in 0..4 {
        queue.push(me, item).unwrap();
    }
    die(&region, |me| {
        let _ = queue.wait_pop(me, 2, Deadline::NOW);
    });
    die(&region, |me| {
        let _ = queue.attempt_push(me, 3, false);
    });
    queue.sweep(me).unwrap();
    for slot in queue.slots {
        let word = slot.word.load(Ordering::Relaxed);
        assert!(matches!(SlotQueue::<u32>::state(word), FREE | FULL), "{word:#x}");
    }
    assert_eq!(queue.try_pop(me), Ok(2));
    assert_eq!(queue.try_pop(me), Ok(3));
    assert_eq!(queue.try_pop(me), Err(PopError::Empty));
    assert!(queue.has_passed(6) && !queue.has_passed(7));
}

#[test]
fn closing_ends_pushes_at_once_and_pops_when_drained() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create(&region, AT, 8).unwrap();
    queue.push(me, 1).unwrap();
    queue.close(me);
    assert_eq!(queue.push(me, 2), Err(PushError::Closed));
    assert_eq!(queue.pop(me), Ok(1));
    assert_eq!(queue.pop(me), Err(PopError::Closed));
}

#[test]
fn shutting_down_at_once_leaves_what_is_there_to_a_drain() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create(&region, AT, 8).unwrap();
    queue.push_many(me, Deadline::NOW, &[1, 2, 3]).unwrap();
    assert_eq!(queue.pop(me), Ok(1));
    let unfinished = queue.start_push(me, Deadline::NOW).unwrap();
    queue.shutdown(me, true);
    assert!(queue.is_closed() && queue.is_shut_down());
    assert_eq!(queue.push(me, 4), Err(PushError::Closed));
    assert_eq!(queue.pop(me), Err(PopError::Closed));
    assert_eq!(queue.peek(me), Err(PopError::Closed));
    assert_eq!(queue.pop_latest(me, Deadline::NEVER), Err(PopError::Closed));
    let mut left = vec![];
    // SAFETY: the item is this call's.
    let read = |_, item: *mut u32| left.push(unsafe { item.read() });
    assert_eq!(queue.drain(me, Deadline::NOW, read), Ok(2));
    assert_eq!(left, [2, 3]);
    assert_eq!(queue.drain(me, Deadline::NOW, |_, _| {}), Err(PopError::Busy));
    queue.finish_push(me, unfinished);
    assert_eq!(queue.drain(me, Deadline::NOW, |_, _| {}), Ok(1));
    assert_eq!(queue.drain(me, Deadline::NOW, |_, _| {}), Err(PopError::Closed));
    assert!(queue.is_shut_down() && queue.is_empty());
}

#[test]
fn closing_wakes_sleepers_at_once() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let full = SlotQueue::<u32>::create(&region, AT, 64).unwrap();
    let empty = SlotQueue::<u32>::create(&region, AT + (1 << 18), 64).unwrap();
    full.push_many(me, Deadline::NOW, &[7; 64]).unwrap();
    std::thread::scope(|scope| {
        let putter = scope.spawn(move || full.push(me, 8));
        let taker = scope.spawn(move || empty.pop(me));
        let deadline = soon();
        let events = [&full.parts.events.not_full, &empty.parts.events.not_empty];
        while events.iter().any(|event| !event.is_awaited()) && !deadline.is_past() {
            std::thread::yield_now();
        }
        full.close(me);
        empty.shutdown(me, true);
        assert_eq!(putter.join().unwrap(), Err(PushError::Closed));
        assert_eq!(taker.join().unwrap(), Err(PopError::Closed));
    });
}

#[test]
fn who_peeks_takes_nothing() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create(&region, AT, 4).unwrap();
    assert_eq!(queue.try_peek(me), Err(PopError::Empty));
    assert_eq!(queue.start_pop_if(me, Deadline::NOW, |_| true), Err(PopError::Empty));
    queue.push_many(me, Deadline::NOW, &[5, 6]).unwrap();
    assert_eq!((queue.try_peek(me), queue.peek(me)), (Ok(5), Ok(5)));
    assert_eq!(queue.peek_with(me, Deadline::NOW, |item, ticket| (*item, ticket)), Ok((5, 0)));
    assert_eq!(queue.start_pop_if(me, Deadline::NOW, |item| *item == 6), Ok(None));
    assert_eq!(queue.len(), 2);
    let claim = queue.start_pop_if(me, Deadline::NOW, |item| *item == 5).unwrap().unwrap();
    assert_eq!(queue.try_peek(me), Ok(6));
    queue.finish_pop(me, claim);
    assert_eq!((queue.pop(me), queue.len()), (Ok(6), 0));
}

#[test]
fn a_peek_is_not_in_the_way_of_a_dead_producers_place() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create(&region, AT, 4).unwrap();
    die(&region, |me| {
        let _ = queue.start_push(me, Deadline::NOW).unwrap();
    });
    queue.push(me, 5).unwrap();
    assert_eq!(queue.peek_until(me, soon()), Ok(5));
    assert_eq!((queue.pop(me), queue.lost()), (Ok(5), 0));
}

#[test]
fn the_latest_is_taken_with_all_before_it() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create_at(&region, AT, 6, u64::MAX).unwrap();
    assert_eq!(queue.pop_latest(me, Deadline::NOW), Err(PopError::Empty));
    for _ in 0..5 {
        queue.push_many(me, Deadline::NOW, &[1, 2, 3, 4, 5]).unwrap();
        assert_eq!(queue.pop_latest(me, Deadline::NOW), Ok((5, 4)));
        queue.push(me, 9).unwrap();
        assert_eq!(queue.pop_latest(me, Deadline::NOW), Ok((9, 0)));
    }
    assert!(queue.is_empty());
}

#[test]
fn what_is_lost_is_counted() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u32>::create(&region, AT, 8).unwrap();
    queue.push_many(me, Deadline::NOW, &[1, 2, 3, 4, 5, 6]).unwrap();
    die(&region, |me| {
        let _ = queue.wait_pop(me, 3, Deadline::NOW).unwrap();
    });
    die(&region, |me| {
        let _ = queue.start_pop(me, Deadline::NOW).unwrap();
    });
    // Not put, so not lost.
    die(&region, |me| {
        let _ = queue.attempt_push(me, 2, false).unwrap();
    });
    queue.sweep(me).unwrap();
    assert_eq!((queue.lost(), queue.try_pop(me), queue.try_pop(me)), (4, Ok(5), Ok(6)));
    assert_eq!(queue.try_pop(me), Err(PopError::Empty));
    queue.sweep(me).unwrap();
    assert_eq!(queue.lost(), 4);
}

#[test]
fn a_queue_of_unknown_items_is_swept() {
    #[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
    #[repr(C)]
    struct Odd([u8; 13]);

    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<Odd>::create(&region, AT, 5).unwrap();
    let room = SlotQueue::<Odd>::bytes_for(5);
    assert!(AnySlotQueue::attach(&region, AT, room - 1).is_err());
    let any = AnySlotQueue::attach(&region, AT, room).unwrap();
    for round in 0..9 {
        (0..4).for_each(|_| queue.push(me, Odd([u8::MAX; 13])).unwrap());
        die(&region, |me| {
            let _ = queue.start_pop(me, Deadline::NOW).unwrap();
        });
        die(&region, |me| {
            let _ = queue.wait_pop(me, 2, Deadline::NOW).unwrap();
        });
        let next = 4 * round as u32;
        assert!(!any.has_passed(next));
        any.sweep(me).unwrap();
        assert!(any.has_passed(next + 2) && !any.has_passed(next + 3));
        assert_eq!(queue.lost(), 3 * (round + 1));
        assert_eq!(queue.try_pop(me).unwrap().0, [u8::MAX; 13]);
        assert!(queue.is_empty());
    }
}

#[test]
fn large_batches_of_the_dead_are_freed_in_one_pass() {
    const ALL: u64 = 1 << 16;
    let bytes = Bytes::new(4 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let queue = SlotQueue::<u64>::create(&region, 1 << 20, ALL).unwrap();
    let start = std::time::Instant::now();
    for marked in [false, true] {
        // Half the queue, so that something can be put behind it, which names the claim.
        die(&region, |me| {
            assert_eq!(queue.attempt_push(me, ALL / 2, false).unwrap().1, ALL / 2);
        });
        if marked {
            queue.push(me, 7).unwrap();
            assert_eq!(queue.pop_until(me, soon()), Ok(7));
        } else {
            assert_eq!(
                queue.attempt_at_head(me, true, false, &mut |_| Some(())),
                Err(PopError::Empty)
            );
        }
        // And a consumer's.
        let items: Vec<u64> = (0..ALL).collect();
        assert_eq!(queue.push_many(me, soon(), &items), Ok(ALL as usize));
        die(&region, |me| {
            assert_eq!(queue.wait_pop(me, ALL - 1, Deadline::NOW).unwrap().1, ALL - 1);
        });
        if marked {
            assert_eq!(queue.pop(me), Ok(ALL - 1));
            queue.push_until(me, soon(), 8).unwrap();
            assert_eq!(queue.pop(me), Ok(8));
        } else {
            queue.push_until(me, soon(), 8).unwrap();
            assert_eq!((queue.pop(me), queue.pop(me)), (Ok(ALL - 1), Ok(8)));
        }
    }
    assert_eq!(queue.lost(), 2 * (ALL - 1));
    // Looking through the rest of the batch for each place of it took many seconds.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    queue.sweep(me).unwrap();
}

#[test]
fn garbage_is_an_error() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    assert!(SlotQueue::<u32>::attach(&region, AT).is_err());
    let queue = SlotQueue::<u32>::create(&region, AT, 4).unwrap();
    assert!(SlotQueue::<u64>::attach(&region, AT).is_err());
    assert!(SlotQueue::<u32>::attach(&region, AT).is_ok());
    queue.slots[0].word.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(queue.push(me, 1), Err(PushError::Corrupt));
    queue.parts.tail.store(Turn::new(1, false, Short::NOBODY).0, Ordering::Relaxed);
    assert_eq!(queue.pop(me), Err(PopError::Corrupt));
}

#[test]
fn a_tail_that_is_far_ahead_holds_nobody_up_for_ever() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let queue = SlotQueue::<u32>::create(&region, AT, 1).unwrap();
    queue.parts.tail.store(Turn::new(1 << 41, false, Short::NOBODY).0, Ordering::Relaxed);
    queue.slots[0].word.store(queue.word(1 << 40, FREE, Short::NOBODY), Ordering::Relaxed);
    assert_eq!(queue.try_pop(seat.member()), Err(PopError::Busy));
}

#[test]
fn a_name_where_none_belongs_is_an_error_and_no_reason_to_wait() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let mine = me.tag().unwrap().short();
    let queue = SlotQueue::<u64>::create(&region, AT, 4).unwrap();
    queue.slots[0].word.store(queue.word(0, FREE, mine), Ordering::Relaxed);
    assert_eq!(queue.push_until(me, soon(), 1), Err(PushError::Corrupt));
    queue.slots[0].word.store(queue.word(0, FREE, Short::NOBODY), Ordering::Relaxed);
    assert_eq!(queue.push(me, 1), Ok(()));
    queue.slots[0].word.store(queue.word(0, FULL, mine), Ordering::Relaxed);
    assert_eq!(queue.pop_until(me, soon()), Err(PopError::Corrupt));
    queue.slots[0].word.store(queue.word(0, FREE, mine), Ordering::Relaxed);
    assert_eq!(queue.pop_until(me, soon()), Err(PopError::Corrupt));
}

#[test]
fn threads_pass_all_items_on_and_keep_each_producers_order() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let queue = SlotQueue::<u64>::create(&region, AT, 16).unwrap();
    let each = 30_000u64;
    let seen: Vec<Vec<u64>> = std::thread::scope(|scope| {
        for producer in 0..3 {
            scope.spawn(move || {
                let seat = region.join().unwrap();
                let mut item = 0;
                while item < each {
                    let batch: Vec<u64> = (item..each.min(item + 1 + producer))
                        .map(|item| producer << 32 | item)
                        .collect();
                    let put = queue.push_many(seat.member(), soon(), &batch).unwrap();
                    item += put as u64;
                }
            });
        }
        let takers: Vec<_> = (0..3)
            .map(|taker| {
                scope.spawn(move || {
                    let seat = region.join().unwrap();
                    let mut seen = vec![];
                    let mut room = vec![0; 1 + taker];
                    loop {
                        match queue.pop_many(seat.member(), soon(), &mut room) {
                            Ok(count) => seen.extend_from_slice(&room[..count]),
                            Err(PopError::Closed) => return seen,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            let seat = region.join().unwrap();
            let deadline = soon();
            while !deadline.is_past()
                && ahead(Turn(queue.parts.head.load(Ordering::Relaxed)).ticket(), 0) < 3 * each
            {
                std::thread::yield_now();
            }
            queue.close(seat.member());
        });
        takers.into_iter().map(|taker| taker.join().unwrap()).collect()
    });
    for taker in &seen {
        for producer in 0..3 {
            let own: Vec<u64> =
                taker.iter().copied().filter(|item| item >> 32 == producer).collect();
            assert!(own.is_sorted(), "order of producer {producer}");
        }
    }
    let mut all: Vec<u64> = seen.concat();
    all.sort_unstable();
    let expected = (0..3).flat_map(|producer| (0..each).map(move |item| producer << 32 | item));
    assert!(all.iter().copied().eq(expected));
}
