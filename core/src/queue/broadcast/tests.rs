//! The broadcast in one process: its deaths are declared.

use super::*;
use crate::queue::RoleError;
use crate::region::Membership;
use crate::region::Region;
use crate::region::testing::Bytes;
use crate::sys::Deadline;
use crate::wait::Waitable;
use core::time::Duration;
use std::vec;
use std::vec::Vec;

const AT: u64 = 1 << 19;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn missed<T>(count: u64) -> Result<T, ReceiveError> {
    Err(ReceiveError::Missed { count })
}

#[test]
fn every_capacity_blocks_exactly_and_wraps() {
    for capacity in [1, 2, 3, 5, 8, 9, 64] {
        for first in [0, u64::MAX - 3] {
            let bytes = Bytes::new(1 << 20);
            let region = bytes.create().unwrap();
            let seat = region.join().unwrap();
            let me = seat.member();
            let cast =
                Broadcast::<u32>::create_at(&region, AT, capacity, Slow::Block, first).unwrap();
            let publisher = cast.publisher(me).unwrap();
            let readers: Vec<_> =
                (0..3).map(|_| cast.subscribe(me, Start::Next).unwrap()).collect();
            for round in 0..20 {
                for item in 0..capacity as u32 {
                    publisher.try_publish(round + item).unwrap();
                }
                assert_eq!(publisher.try_publish(9), Err(PublishError::Full));
                for (index, reader) in readers.iter().enumerate() {
                    assert_eq!(reader.lag(), capacity);
                    for item in 0..capacity as u32 {
                        assert_eq!(reader.try_recv(), Ok(round + item));
                    }
                    assert_eq!(reader.try_recv(), Err(ReceiveError::Empty));
                    assert_eq!(publisher.is_ready(me, false), index == 2);
                }
            }
            assert_eq!(cast.published(), 20 * capacity);
        }
    }
}

#[test]
fn who_is_overtaken_knows_how_many_it_has_missed() {
    for first in [0, u64::MAX - 3] {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let seat = region.join().unwrap();
        let me = seat.member();
        let cast = Broadcast::<u64>::create_at(&region, AT, 3, Slow::Lose, first).unwrap();
        assert_eq!(cast.capacity(), 4);
        let (publisher, reader) =
            (cast.publisher(me).unwrap(), cast.subscribe(me, Start::Next).unwrap());
        for item in 0..11 {
            publisher.publish(item).unwrap();
        }
        assert_eq!(reader.lag(), 11);
        assert_eq!(reader.recv(), missed(7));
        assert_eq!((reader.recv(), reader.recv()), (Ok(7), Ok(8)));
        for item in 11..14 {
            publisher.publish(item).unwrap();
        }
        assert_eq!(reader.try_recv(), missed(1));
        let mut room = [0; 9];
        assert_eq!(reader.recv_many(Deadline::NOW, &mut room), Ok(4));
        assert_eq!(room[..4], [10, 11, 12, 13]);
        assert_eq!(reader.try_recv(), Err(ReceiveError::Empty));
    }
}

#[test]
fn a_late_reader_begins_where_it_wants() {
    for slow in [Slow::Block, Slow::Lose] {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let seat = region.join().unwrap();
        let me = seat.member();
        let cast = Broadcast::<u64>::create(&region, AT, 8, slow).unwrap();
        let publisher = cast.publisher(me).unwrap();
        let whole = cast.subscribe(me, Start::Oldest).unwrap();
        publisher.publish(0).unwrap();
        publisher.publish(1).unwrap();
        assert_eq!((whole.recv(), whole.recv()), (Ok(0), Ok(1)));
        let place = whole.position();
        drop(whole);
        for item in 2..20 {
            publisher.try_publish(item).unwrap();
        }
        assert_eq!(cast.subscribe(me, Start::Next).unwrap().try_recv(), Err(ReceiveError::Empty));
        let oldest = cast.subscribe(me, Start::Oldest).unwrap();
        assert_eq!((oldest.recv(), oldest.lag()), (Ok(12), 7));
        let late = cast.subscribe(me, Start::At(place)).unwrap();
        assert!(late.is_ready(me, false));
        assert_eq!(late.lag(), 18);
        assert_eq!((late.try_recv(), late.recv()), (missed(10), Ok(12)));
        let ahead = cast.subscribe(me, Start::At(late.position() + 100)).unwrap();
        assert_eq!(ahead.try_recv(), Err(ReceiveError::Empty));
        // Whoever reads keeps its items, if readers block.
        let again = (13..30).map(|_| publisher.try_publish(99)).filter(Result::is_ok).count();
        assert_eq!(again, if slow == Slow::Block { 1 } else { 17 });
    }
}

#[test]
fn batches_are_seen_as_a_whole() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let cast = Broadcast::<u32>::create_at(&region, AT, 6, Slow::Block, u64::MAX - 1).unwrap();
    let publisher = cast.publisher(me).unwrap();
    let reader = cast.subscribe(me, Start::Next).unwrap();
    let mut room = [0; 4];
    for _ in 0..10 {
        let mut put = 0;
        while put < 6 {
            put += publisher.publish_many(Deadline::NOW, &[1, 2, 3, 4, 5, 6][put..]).unwrap();
        }
        assert_eq!(publisher.publish_many(Deadline::NOW, &[7]), Err(PublishError::Full));
        assert_eq!(reader.recv_many(Deadline::NOW, &mut room), Ok(4));
        assert_eq!(room, [1, 2, 3, 4]);
        assert_eq!(reader.recv_many(Deadline::NOW, &mut room), Ok(2));
        assert_eq!(room[..2], [5, 6]);
    }
}

#[test]
fn the_dead_hold_nobody_up() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (own, other) = (region.join().unwrap(), region.join().unwrap());
    let me = own.member();
    let cast = Broadcast::<u32>::create(&region, AT, 4, Slow::Block).unwrap();
    let first = cast.publisher(other.member()).unwrap();
    let reader = cast.subscribe(me, Start::Next).unwrap();
    first.publish(1).unwrap();
    assert!(matches!(cast.publisher(me), Err(RoleError::Taken { .. })));
    // One that reads, and one that has just claimed its cell.
    let lazy = cast.subscribe(other.member(), Start::Next).unwrap();
    cast.claim_cell(other.member(), other.member().tag().unwrap()).unwrap();
    cast.parts.events.used.fetch_or(4, Ordering::Relaxed);
    assert_eq!(cast.readers(), 3);
    core::mem::forget((first, lazy));
    kill(&region, &other);

    let second = cast.publisher(me).unwrap();
    for item in 2..12 {
        second.publish_until(soon(), item).unwrap();
        assert_eq!(reader.recv(), Ok(item - 1));
    }
    assert_eq!(cast.readers(), 1);
}

fn kill(region: &Region<'_>, seat: &Membership<'_>) {
    region.participants().declare_dead(seat.member().tag().unwrap());
}

#[test]
fn sixty_four_read_and_no_more_until_one_is_dead() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (own, other) = (region.join().unwrap(), region.join().unwrap());
    let cast = Broadcast::<u32>::create(&region, AT, 4, Slow::Lose).unwrap();
    let mut readers: Vec<_> =
        (1..READERS).map(|_| cast.subscribe(own.member(), Start::Next).unwrap()).collect();
    core::mem::forget(cast.subscribe(other.member(), Start::Next).unwrap());
    let full = cast.subscribe(own.member(), Start::Next);
    assert_eq!(full.map(drop), Err(SubscribeError::TooMany));
    kill(&region, &other);
    readers.push(cast.subscribe(own.member(), Start::Next).unwrap());
    let publisher = cast.publisher(own.member()).unwrap();
    publisher.publish(7).unwrap();
    assert!(readers.iter().all(|reader| reader.try_recv() == Ok(7)));
    drop(readers);
    assert_eq!(cast.readers(), 0);
}

#[test]
fn a_sweep_leaves_no_name_of_the_dead() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (own, other) = (region.join().unwrap(), region.join().unwrap());
    let cast = Broadcast::<u32>::create(&region, AT, 4, Slow::Block).unwrap();
    let reader = cast.subscribe(own.member(), Start::Next).unwrap();
    core::mem::forget(cast.publisher(other.member()).unwrap());
    core::mem::forget(cast.subscribe(other.member(), Start::Next).unwrap());
    cast.sweep(own.member()).unwrap();
    assert_eq!(cast.readers(), 2);
    assert!(cast.who_publishes(own.member()).is_some());
    kill(&region, &other);
    cast.sweep(own.member()).unwrap();
    assert_eq!(cast.readers(), 1);
    assert_eq!(cast.parts.role.owner.load(Ordering::Relaxed), 0);
    drop(reader);
}

#[test]
fn closing_ends_readers_when_they_have_read_all() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let cast = Broadcast::<u32>::create(&region, AT, 4, Slow::Block).unwrap();
    let (publisher, reader) =
        (cast.publisher(me).unwrap(), cast.subscribe(me, Start::Next).unwrap());
    publisher.publish(1).unwrap();
    publisher.close();
    assert_eq!(publisher.publish(2), Err(PublishError::Closed));
    assert_eq!((reader.recv(), reader.recv()), (Ok(1), Err(ReceiveError::Closed)));
    let late = cast.subscribe(me, Start::Oldest).unwrap();
    assert_eq!((late.recv(), late.recv()), (Ok(1), Err(ReceiveError::Closed)));
}

#[test]
fn an_item_knows_what_it_replaces() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let cast = Broadcast::<u64>::create(&region, AT, 4, Slow::Lose).unwrap();
    let (publisher, reader) =
        (cast.publisher(me).unwrap(), cast.subscribe(me, Start::Next).unwrap());
    for item in 0..10u64 {
        let publish = |turn: Turn<u64>| {
            assert_eq!((turn.index, turn.last), (item, item.wrapping_sub(4)));
            assert_eq!(turn.old, item.saturating_sub(4));
            assert!(!cast.has_passed(item as u32) && cast.has_passed(item.wrapping_sub(4) as u32));
            item
        };
        publisher.publish_with(Deadline::NOW, publish).unwrap();
        assert_eq!(reader.recv_with(Deadline::NOW, |index, item| (index, item)), Ok((item, item)));
    }
    // What was begun and not published never was; the reader does not see it, nor what it was written over.
    let panics = std::panic::AssertUnwindSafe(|| {
        let _ = publisher
            .publish_with(Deadline::NOW, |_| std::panic::resume_unwind(std::boxed::Box::new(())));
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(reader.try_recv(), Err(ReceiveError::Empty));
    let oldest = cast.subscribe(me, Start::Oldest).unwrap();
    assert_eq!((oldest.recv(), oldest.recv()), (missed(1), Ok(7)));
    publisher.publish(10).unwrap();
    assert_eq!(reader.recv(), Ok(10));
}

#[test]
fn garbage_is_an_error() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    assert!(Broadcast::<u32>::attach(&region, AT).is_err());
    let cast = Broadcast::<u32>::create(&region, AT, 4, Slow::Block).unwrap();
    assert!(Broadcast::<[u64; 2]>::attach(&region, AT).is_err());
    assert_eq!(Broadcast::<u32>::attach(&region, AT).unwrap().slow(), Slow::Block);
    let (publisher, reader) =
        (cast.publisher(me).unwrap(), cast.subscribe(me, Start::Next).unwrap());
    cast.readers[0].cursor.store(77, Ordering::Relaxed);
    assert_eq!(publisher.try_publish(1), Err(PublishError::Corrupt));
    cast.readers[0].cursor.store(0, Ordering::Relaxed);
    cast.readers[0].word.store(3 << 30, Ordering::Relaxed);
    assert_eq!(publisher.try_publish(1), Err(PublishError::Corrupt));
    assert_eq!(cast.sweep(me), Err(SubscribeError::Corrupt));
    for tail in [99, u64::MAX] {
        cast.parts.tail.store(tail, Ordering::Relaxed);
        assert_eq!(reader.try_recv(), Err(ReceiveError::Corrupt));
    }
    cast.parts.shape.slow.store(3, Ordering::Relaxed);
    assert!(Broadcast::<u32>::attach(&region, AT).is_err());
}

/// One publishes as fast as it can, three read; each reader's items ascend, whole, and are accounted for.
fn pass(slow: Slow, capacity: u64, count: u64) {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let cast = Broadcast::<[u64; 3]>::create(&region, AT, capacity, slow).unwrap();
    let own = region.join().unwrap();
    let seats: Vec<_> = (0..3).map(|_| region.join().unwrap()).collect();
    std::thread::scope(|scope| {
        for (turn, seat) in seats.iter().enumerate() {
            let reader = cast.subscribe(seat.member(), Start::Next).unwrap();
            scope.spawn(move || {
                let (mut next, mut room) = (0, vec![[0; 3]; 1 + turn]);
                loop {
                    match reader.recv_many(soon(), &mut room) {
                        Ok(count) => {
                            for item in &room[..count] {
                                assert_eq!(*item, [next, !next, next * 3]);
                                next += 1;
                            }
                        }
                        Err(ReceiveError::Missed { count }) if slow == Slow::Lose => next += count,
                        Err(ReceiveError::Closed) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                assert_eq!(next, count);
            });
        }
        let publisher = cast.publisher(own.member()).unwrap();
        for item in 0..count {
            publisher.publish_until(soon(), [item, !item, item.wrapping_mul(3)]).unwrap();
        }
        publisher.close();
    });
}

#[test]
fn threads_see_all() {
    pass(Slow::Block, 16, 60_000);
    pass(Slow::Block, 1, 2_000);
}

#[test]
fn threads_account_for_all_that_they_miss() {
    pass(Slow::Lose, 16, 200_000);
    pass(Slow::Lose, 1, 50_000);
}

#[test]
fn a_batch_waits_for_a_reader_that_is_just_joining() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (seat, other) = (region.join().unwrap(), region.join().unwrap());
    let cast = Broadcast::<u32>::create(&region, AT, 16, Slow::Block).unwrap();
    let publisher = cast.publisher(seat.member()).unwrap();
    // One place of an eighth is left.
    publisher.try_publish(0).unwrap();
    let (index, _) = cast.claim_cell(other.member(), other.member().tag().unwrap()).unwrap();
    cast.parts.events.used.fetch_or(1 << index, Ordering::Relaxed);
    kill(&region, &other);
    assert_eq!(publisher.publish_many(soon(), &[1; 3]), Ok(2));
}
