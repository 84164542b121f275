//! The ring in one process: its deaths are declared.

use super::*;
use crate::region::testing::Bytes;
use core::time::Duration;
use std::vec::Vec;

const AT: u64 = 1 << 19;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[test]
fn items_come_out_in_order_across_the_wrap() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let ring = SpscRing::<u64>::create_at(&region, AT, 3, u64::MAX - 4).unwrap();
    let (here, there) = (region.join().unwrap(), region.join().unwrap());
    let (producer, consumer) =
        (ring.producer(here.member()).unwrap(), ring.consumer(there.member()).unwrap());
    for round in 0..20 {
        assert_eq!(consumer.try_pop(), Err(PopError::Empty));
        for item in 0..3 {
            producer.try_push(round * 3 + item).unwrap();
        }
        assert_eq!(producer.try_push(99), Err(PushError::Full));
        assert!(ring.is_full());
        let mut room = [0; 2];
        assert_eq!(consumer.pop_many(Deadline::NOW, &mut room), Ok(2));
        assert_eq!(room, [round * 3, round * 3 + 1]);
        assert_eq!(producer.push_many(Deadline::NOW, &[7, 8, 9]), Ok(2));
        let mut room = [0; 9];
        assert_eq!(consumer.pop_many(Deadline::NOW, &mut room), Ok(3));
        assert_eq!(room[..3], [round * 3 + 2, 7, 8]);
    }
    producer.close();
    assert_eq!(producer.try_push(1), Err(PushError::Closed));
    assert_eq!(consumer.pop(), Err(PopError::Closed));
}

#[test]
fn a_role_is_had_once_and_passes_on_from_the_dead() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let ring = SpscRing::<u64>::create(&region, AT, 4).unwrap();
    let (dying, living) = (region.join().unwrap(), region.join().unwrap());
    let producer = ring.producer(dying.member()).unwrap();
    let consumer = ring.consumer(dying.member()).unwrap();
    assert!(matches!(ring.producer(living.member()), Err(RoleError::Taken { .. })));
    producer.push(1).unwrap();
    producer.push(2).unwrap();
    assert_eq!(consumer.pop(), Ok(1));
    core::mem::forget((producer, consumer));
    region.participants().declare_dead(dying.member().tag().unwrap());
    let producer = ring.producer(living.member()).unwrap();
    producer.push(3).unwrap();
    let consumer = ring.consumer(living.member()).unwrap();
    assert_eq!((consumer.pop(), consumer.pop()), (Ok(2), Ok(3)));
    drop(producer);
    assert!(ring.producer(living.member()).is_ok());
}

#[test]
fn a_damaged_index_is_an_error() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let ring = SpscRing::<u64>::create(&region, AT, 4).unwrap();
    let seat = region.join().unwrap();
    let (producer, consumer) =
        (ring.producer(seat.member()).unwrap(), ring.consumer(seat.member()).unwrap());
    ring.parts.tail.store(1000, Ordering::Relaxed);
    assert_eq!(consumer.pop(), Err(PopError::Corrupt));
    for _ in 0..4 {
        let _ = producer.try_push(1);
    }
    ring.parts.head.store(77, Ordering::Relaxed);
    assert_eq!(producer.push(1), Err(PushError::Corrupt));
}

#[test]
fn two_threads_pass_all_items_on() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let ring = SpscRing::<u64>::create(&region, AT, 64).unwrap();
    let all = 200_000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let seat = region.join().unwrap();
            let producer = ring.producer(seat.member()).unwrap();
            for item in 0..all {
                producer.push_until(soon(), item).unwrap();
            }
        });
        let seat = region.join().unwrap();
        let consumer = ring.consumer(seat.member()).unwrap();
        let seen: Vec<u64> = (0..all).map(|_| consumer.pop_until(soon()).unwrap()).collect();
        assert!(seen.iter().copied().eq(0..all));
    });
}
