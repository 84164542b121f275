use core::time::Duration;
use std::vec::Vec;

use super::*;
use crate::region::Membership;

const WORDS: usize = 64;

fn in_a_while() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// Whether nothing is free, by whatever way one asks.
fn is_exhausted(semaphore: Semaphore<'_>, me: Member<'_>) -> bool {
    semaphore.locked()
        && matches!(semaphore.try_acquire(me).map(drop), Err(PermitError::WouldBlock))
        && semaphore.try_take(me) == Err(WaitError::WouldBlock)
}

#[test]
fn permits_are_counted_and_come_back() {
    let seat = Membership::private();
    let me = seat.member();
    for value in [1, 2, 7, 40] {
        let mut memory = [0; WORDS];
        let semaphore = Semaphore::create_bounded(Place::in_memory(&mut memory), value).unwrap();
        for _ in 0..3 {
            let permits: Vec<_> = (0..value).map(|_| semaphore.acquire(me).unwrap()).collect();
            assert!(is_exhausted(semaphore, me));
            let soon = Deadline::after(Duration::from_millis(5));
            assert!(matches!(semaphore.acquire_until(me, soon), Err(PermitError::TimedOut)));
            assert_eq!(semaphore.take_until(me, soon), Err(WaitError::TimedOut));
            drop(permits);
            assert_eq!(semaphore.value(), value);
        }
    }
}

#[test]
fn units_go_out_and_come_back_either_way() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [0; WORDS];
    let semaphore = Semaphore::create_bounded(Place::in_memory(&mut memory), 3).unwrap();
    // From cells, for that is where units start.
    for left in [2, 1, 0] {
        semaphore.take(me).unwrap();
        assert_eq!(semaphore.value(), left);
    }
    assert!(is_exhausted(semaphore, me));
    assert_eq!(semaphore.release(me, 4), Err(ReleaseError::TooMany { most: 3 }));
    assert_eq!(semaphore.value(), 0);
    semaphore.release(me, 0).unwrap();
    semaphore.release(me, 2).unwrap();
    // From the count, with and without.
    let permit = semaphore.acquire(me).unwrap();
    semaphore.take(me).unwrap();
    assert!(is_exhausted(semaphore, me));
    assert_eq!(semaphore.release(me, 3), Err(ReleaseError::TooMany { most: 3 }));
    semaphore.release(me, 2).unwrap();
    permit.detach().unwrap();
    semaphore.release(me, 1).unwrap();
    assert_eq!(semaphore.release(me, 1), Err(ReleaseError::TooMany { most: 3 }));
    assert_eq!(semaphore.value(), 3);
}

#[test]
fn an_unbounded_one_grows() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [0; WORDS];
    let semaphore = Semaphore::create(Place::in_memory(&mut memory), 0).unwrap();
    assert!(is_exhausted(semaphore, me));
    semaphore.release(me, 1).unwrap();
    semaphore.release(me, MOST_UNITS - 1).unwrap();
    assert_eq!(semaphore.value(), MOST_UNITS);
    let most = MOST_UNITS;
    assert_eq!(semaphore.release(me, 1), Err(ReleaseError::TooMany { most }));
    assert_eq!(semaphore.release(me, u32::MAX), Err(ReleaseError::TooMany { most }));
    let permits: Vec<_> = (0..16).map(|_| semaphore.acquire(me).unwrap()).collect();
    assert_eq!(semaphore.value(), MOST_UNITS - 16);
    let crowded = semaphore.acquire(me).unwrap_err();
    assert_eq!(crowded, PermitError::TooManyPermits { most: 16 });
    semaphore.take(me).unwrap();
    drop(permits);
    assert_eq!(semaphore.value(), MOST_UNITS - 1);
}

#[test]
fn more_units_than_permits() {
    let seat = Membership::private();
    let me = seat.member();
    let bytes = Semaphore::bytes_for_bounded(5000).unwrap();
    let mut memory = std::vec![0; bytes as usize / 8];
    let semaphore = Semaphore::create_bounded(Place::in_memory(&mut memory), 5000).unwrap();
    assert_eq!((semaphore.value(), semaphore.most_permits()), (5000, 4095));
    let permits: Vec<_> = (0..4095).map(|_| semaphore.acquire(me).unwrap()).collect();
    assert!(matches!(semaphore.acquire(me), Err(PermitError::TooManyPermits { most: 4095 })));
    for _ in 4095..5000 {
        semaphore.take(me).unwrap();
    }
    assert!(is_exhausted(semaphore, me));
    drop(permits);
    semaphore.release(me, 905).unwrap();
    assert_eq!(semaphore.value(), 5000);
}

#[test]
fn a_bound_of_none_has_none() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [0; WORDS];
    let semaphore = Semaphore::create_bounded(Place::in_memory(&mut memory), 0).unwrap();
    assert!(is_exhausted(semaphore, me));
    assert_eq!(semaphore.release(me, 1), Err(ReleaseError::TooMany { most: 0 }));
}

#[test]
fn threads_share_units() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [0; WORDS];
    let semaphore = Semaphore::create_bounded(Place::in_memory(&mut memory), 2).unwrap();
    let inside = AtomicU32::new(0);
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let inside = &inside;
            threads.spawn(move || {
                for round in 0..2000 {
                    let permit = match (thread + round) % 3 {
                        0 => {
                            semaphore.take_until(me, in_a_while()).unwrap();
                            None
                        }
                        _ => Some(semaphore.acquire_until(me, in_a_while()).unwrap()),
                    };
                    assert!(inside.fetch_add(1, Ordering::Relaxed) < 2);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    match permit {
                        None => semaphore.release(me, 1).unwrap(),
                        Some(permit) if round % 5 == 0 => {
                            permit.detach().unwrap();
                            semaphore.release(me, 1).unwrap();
                        }
                        Some(permit) => drop(permit),
                    }
                }
            });
        }
    });
    assert_eq!(semaphore.value(), 2);
    assert_eq!(semaphore.release(me, 1), Err(ReleaseError::TooMany { most: 2 }));
}

#[test]
fn what_the_dead_held_comes_back() {
    let seat = Membership::private();
    let me = seat.member();
    // In private memory any tag but the own is that of a parent from before a fork.
    let dead = Tag::from_bits(1 << 12 | 2).unwrap();
    let states: [(Cell, bool, u32); 5] = [
        // What the cell says, whether the word names that move, and how many units that makes.
        (Cell::FREE.held(dead), false, 1),
        (Cell::FREE.taking(dead), false, 0),
        (Cell::FREE.taking(dead), true, 1),
        (Cell::FREE.leaving(dead), false, 1),
        (Cell::FREE.leaving(dead), true, 0),
    ];
    for (cell, named, units) in states {
        let mut memory = [0; WORDS];
        let semaphore = Semaphore::create_bounded(Place::in_memory(&mut memory), 1).unwrap();
        let cell = cell.next();
        semaphore.cells[0].store(cell.0, Ordering::Relaxed);
        let word = Word::new(0, units);
        let word = if named { word.named(0, cell.nonce()) } else { word };
        semaphore.head.word.store(word.0, Ordering::Relaxed);
        match semaphore.acquire_until(me, Deadline::after(Duration::from_millis(5))) {
            Ok(permit) => {
                assert_eq!(units, 1, "{cell:?} {named}");
                drop(permit);
            }
            Err(error) => {
                assert_eq!((error, units), (PermitError::TimedOut, 0), "{cell:?} {named}")
            }
        }
        assert_eq!(semaphore.value(), units);
        assert!(semaphore.cells[0].load(Ordering::Relaxed) as u32 & Tag::MASK == 0);
    }
}

#[test]
fn garbage_is_an_error_and_stays_one() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [0; WORDS];
    let semaphore = Semaphore::create_bounded(Place::in_memory(&mut memory), 1).unwrap();
    let good = semaphore.head.word.load(Ordering::Relaxed);
    for bad in [Cell::DAMAGED.0, 5 << 30, 2 << 30, 1 << 30 | 5 << 12, u64::MAX] {
        semaphore.cells[0].store(bad, Ordering::Relaxed);
        for _ in 0..2 {
            let error = semaphore.acquire(me).unwrap_err();
            assert_eq!(error, PermitError::Corrupt { word: bad }, "{bad:#x}");
            assert_eq!(semaphore.take(me), Err(WaitError::Corrupt { word: bad }), "{bad:#x}");
        }
    }
    semaphore.cells[0].store(0, Ordering::Relaxed);
    for bad in [Word::new(0, 2).0, Word::new(1, 1).0, Word::new(0, 0).named(1, 0).0, u64::MAX >> 33]
    {
        semaphore.head.word.store(bad, Ordering::Relaxed);
        assert!(matches!(semaphore.acquire(me), Err(PermitError::Corrupt { .. })), "{bad:#x}");
        assert!(matches!(semaphore.release(me, 1), Err(ReleaseError::Corrupt { .. })), "{bad:#x}");
    }
    semaphore.head.word.store(good, Ordering::Relaxed);
    semaphore.cells[0].store(Cell::FREE.0, Ordering::Relaxed);
    assert!(semaphore.acquire(me).is_ok());
}

#[test]
fn a_permit_that_finds_damage_reports_it_to_the_next() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [0; WORDS];
    let semaphore = Semaphore::create_bounded(Place::in_memory(&mut memory), 1).unwrap();
    let permit = semaphore.acquire(me).unwrap();
    semaphore.cells[0].store(12345, Ordering::Relaxed);
    drop(permit);
    assert!(matches!(semaphore.acquire(me), Err(PermitError::Corrupt { .. })));
}

#[test]
fn only_what_was_made_can_be_attached_to() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [0; WORDS];
    let place = Place::in_memory(&mut memory);
    assert_eq!(Semaphore::attach(place).unwrap_err(), SemaphorePlaceError::Nothing { word: 0 });
    let made = Semaphore::create(place, 20).unwrap();
    let permit = made.acquire(me).unwrap();
    let seen = Semaphore::attach(place).unwrap();
    assert_eq!((seen.value(), seen.bound(), seen.most_permits()), (19, MOST_UNITS, 20));
    let short = place.up_to(Semaphore::bytes_for(20).unwrap() - 1);
    assert!(matches!(Semaphore::attach(short), Err(SemaphorePlaceError::Place(_))));
    assert!(matches!(Semaphore::create(short, 20), Err(SemaphorePlaceError::Place(_))));
    let many = SemaphorePlaceError::TooManyUnits { units: MOST_UNITS + 1, most: MOST_UNITS };
    assert_eq!(Semaphore::create(place, MOST_UNITS + 1).unwrap_err(), many);
    let units = MOST_UNITS;
    let many = SemaphorePlaceError::TooManyUnits { units, most: units - 1 };
    assert_eq!(Semaphore::create_bounded(place, units).unwrap_err(), many);
    drop(permit);
    assert_eq!(seen.value(), 20);
    for what in [WHAT << 32, WHAT << 32 | 1, WHAT << 32 | 2 << 16 | 1, WHAT << 32 | 1 << 16 | 4096]
    {
        made.head.what.store(what, Ordering::Relaxed);
        assert_eq!(
            Semaphore::attach(place).unwrap_err(),
            SemaphorePlaceError::Nothing { word: what }
        );
    }
}

/// A semaphore of one cell, without a unit.
fn with_one_cell() -> (Head, [AtomicU64; 1]) {
    let head = Head {
        word: AtomicU64::new(Word::new(0, 0).0),
        what: AtomicU64::new(0),
        event: Eventcount::new(),
        bound: AtomicU32::new(2),
    };
    (head, [AtomicU64::new(Cell::EMPTY.0)])
}

#[test]
fn who_is_woken_while_a_unit_moves_keeps_nobody_asleep() {
    let seat = Membership::private();
    let me = seat.member();
    let tag = me.tag().unwrap();
    let (head, cells) = with_one_cell();
    let semaphore = Semaphore { head: &head, cells: &cells, mask: 0 };
    let a_moment = || std::thread::sleep(Duration::from_millis(50));
    std::thread::scope(|threads| {
        let permits = [(); 2].map(|()| {
            let waiter = threads.spawn(move || semaphore.acquire_until(me, in_a_while()).map(drop));
            a_moment();
            waiter
        });
        let taker = threads.spawn(move || semaphore.take_until(me, in_a_while()));
        a_moment();
        // Those that want permits are woken one after the other, find the only cell in a move, and sleep again.
        let taking = semaphore.begin(0, Cell::EMPTY, |cell| cell.taking(tag)).unwrap();
        for _ in 0..2 {
            semaphore.release(me, 1).unwrap();
            a_moment();
        }
        let start = std::time::Instant::now();
        assert!(semaphore.bring_on(me, tag, 0, taking).unwrap());
        // One unit is in the cell, and the other for who needs none.
        assert_eq!(taker.join().unwrap(), Ok(()));
        assert!(start.elapsed() < Duration::from_secs(5), "it slept beside a unit");
        semaphore.release(me, 1).unwrap();
        for waiter in permits {
            let answer = waiter.join().unwrap();
            assert!(matches!(answer, Err(PermitError::TooManyPermits { most: 1 })));
        }
    });
}
