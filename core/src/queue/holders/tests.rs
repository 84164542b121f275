//! Holders in one process: its deaths are declared.

use super::*;
use crate::region::testing::Bytes;
use crate::region::{Membership, Region};
use core::cell::Cell;

const AT: u64 = 1 << 19;
const CARRIER: u64 = 1 << 18;

const NO: Passed<'static> = &|_, _| false;

fn place<'r>(region: &Region<'r>) -> Place<'r> {
    Place::in_region(region, AT).unwrap()
}

/// Declares it dead, as the kernel would.
fn bury(region: &Region<'_>, seat: &Membership<'_>) {
    region.participants().declare_dead(seat.member().tag().unwrap());
}

#[test]
fn what_was_made_can_be_attached_to() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let nothing = Holders::attach(place(&region)).unwrap_err();
    assert_eq!(nothing, HoldersPlaceError::Nothing { word: 0 });
    let asked = Holders::create(place(&region), seat.member(), 0, 0).unwrap_err();
    assert_eq!(asked, HoldersPlaceError::Capacity { asked: 0 });
    let small = place(&region).up_to(Holders::bytes_for(4) - 1);
    assert!(matches!(
        Holders::create(small, seat.member(), 4, 0),
        Err(HoldersPlaceError::Place(PlaceError::TooSmall { .. }))
    ));
    let (end, hold) = Holders::create(place(&region), seat.member(), 4, 0).unwrap();
    let seen = Holders::attach(place(&region).up_to(Holders::bytes_for(4))).unwrap();
    assert_eq!((seen.capacity(), seen.used(), seen.is_closed()), (4, 1, false));
    assert_eq!(end.release(seat.member(), hold), Standing::Last);
    assert!(seen.is_closed() && !seen.is_finished());
    end.finish();
    assert!(seen.is_finished());
    assert_eq!(seen.look(seat.member(), NO, &|| true), Ok(Standing::Closed));
    assert_eq!(seen.hold(seat.member(), NO), Err(HoldError::Closed));
    assert_eq!(seen.used(), 0);
}

#[test]
fn a_copy_arrives_once_and_then_takes_a_place_of_its_own() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (here, there) = (region.join().unwrap(), region.join().unwrap());
    let (end, hold) = Holders::create(place(&region), here.member(), 4, 0).unwrap();
    let copy = end.depart(here.member(), NO).unwrap();
    let first = end.arrive(there.member(), copy, NO).unwrap();
    let second = end.arrive(there.member(), copy, NO).unwrap();
    assert_ne!(first, second);
    assert_eq!(end.used(), 3);
    assert_eq!(end.release(here.member(), hold), Standing::Open);
    assert_eq!(end.release(here.member(), first), Standing::Open, "it is not this process's");
    assert_eq!(end.release(there.member(), first), Standing::Open);
    assert_eq!(end.release(there.member(), first), Standing::Open, "once is enough");
    assert_eq!(end.release(there.member(), second), Standing::Last);
}

#[test]
fn a_copy_is_the_carriers_while_it_is_there() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (here, there) = (region.join().unwrap(), region.join().unwrap());
    let (end, hold) = Holders::create(place(&region), here.member(), 4, 0).unwrap();
    let copy = end.depart(here.member(), NO).unwrap();
    assert!(end.is_departed(here.member(), copy) && !end.is_departed(there.member(), copy));
    assert!(end.send(here.member(), copy, CARRIER, 7 << 32 | 9));
    assert!(!end.is_departed(here.member(), copy));
    assert!(!end.send(here.member(), copy, CARRIER, 10));
    end.release(here.member(), hold);
    bury(&region, &here);
    // Its sender is dead, and the ticket has not passed.
    assert_eq!(end.look(there.member(), NO, &|| true), Ok(Standing::Open));
    assert!(!end.take(there.member(), copy, CARRIER, 8));
    assert!(!end.take(there.member(), Passage { serial: 5, ..copy }, CARRIER, 9));
    assert!(end.take(there.member(), copy, CARRIER, 7 << 32 | 9));
    let hold = end.arrive(there.member(), copy, NO).unwrap();
    assert_eq!(end.release(there.member(), hold), Standing::Last);
}

#[test]
fn what_was_left_behind_is_given_back_by_who_asks_twice() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let me = seat.member();
    let (end, hold) = Holders::create(place(&region), me, 4, 0).unwrap();
    let copy = end.depart(me, NO).unwrap();
    end.send(me, copy, CARRIER, 9);
    end.release(me, hold);
    let asked = Cell::new(0);
    let once = |carrier, ticket| {
        assert_eq!((carrier, ticket), (CARRIER, 9));
        asked.set(asked.get() + 1);
        asked.get() == 1
    };
    assert_eq!(end.look(me, &once, &|| true), Ok(Standing::Open), "the second answer counts");
    assert_eq!(asked.get(), 2);
    assert!(end.take(me, copy, CARRIER, 9), "it was put back");
    assert_eq!(end.withdraw(me, copy), Standing::Last);
}

#[test]
fn the_dead_hold_nothing() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let (here, there) = (region.join().unwrap(), region.join().unwrap());
    let (end, _) = Holders::create(place(&region), here.member(), 3, 0).unwrap();
    end.depart(here.member(), NO).unwrap();
    let mine = end.hold(there.member(), NO).unwrap();
    assert_eq!(end.hold(there.member(), NO), Err(HoldError::Full { most: 3 }));
    bury(&region, &here);
    // Who finds no room asks about all.
    let more = end.hold(there.member(), NO).unwrap();
    assert_eq!(end.used(), 2);
    assert_eq!(end.release(there.member(), mine), Standing::Open);
    bury(&region, &there);
    let third = region.join().unwrap();
    assert!(!end.is_closed());
    assert_eq!(end.look(third.member(), NO, &|| true), Ok(Standing::Last));
    assert!(end.is_closed());
    assert_eq!(end.release(there.member(), more), Standing::Open, "it was taken back");
}

#[test]
fn damage_is_told() {
    let bytes = Bytes::new(1 << 20);
    let region = bytes.create().unwrap();
    let seat = region.join().unwrap();
    let (end, _) = Holders::create(place(&region), seat.member(), 3, 0).unwrap();
    // No names where there should be, and one where there should be none.
    for word in [HELD, TRANSIT, 1 << 8 | FREE] {
        end.cells[0].word.store(word, Ordering::Relaxed);
        assert_eq!(end.look(seat.member(), NO, &|| true), Err(HoldError::Corrupt { word }));
    }
    for copy in [Passage { index: 3, serial: 0 }, Passage { index: u32::MAX, serial: 1 }] {
        assert!(!end.send(seat.member(), copy, CARRIER, 1));
        assert!(!end.take(seat.member(), copy, CARRIER, 1));
        assert_eq!(end.withdraw(seat.member(), copy), Standing::Open);
    }
}
