//! The barrier: nobody passes before all are there, all hear the same of a round, and no death leaves anybody waiting.

use std::convert::Infallible;
use std::sync::Arc;

use loom::thread;
use procession_core::region::Member;
use procession_core::sync::{Barrier, BarrierError, BarrierHead, Reason};
use procession_core::sys::Deadline;
use procession_core::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use procession_core::sys::cell::ItemCell;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

/// A barrier, and for each round and party a room that is written before it and read by all behind it: loom reports who
/// reads without an order after the writer.
struct Point {
    head: BarrierHead,
    cells: Vec<AtomicU64>,
    rooms: Vec<ItemCell<u32>>,
    /// How often each index was given out.
    given: Vec<AtomicU32>,
}

impl Point {
    /// A barrier that nobody has been at; `met`: one that these have just passed.
    fn new(parties: usize, rounds: usize, met: &[&Process]) -> Arc<Self> {
        let point = Self {
            head: BarrierHead::default(),
            cells: (0..2 * parties).map(|_| AtomicU64::new(0)).collect(),
            rooms: (0..parties * rounds).map(|_| ItemCell::empty()).collect(),
            given: (0..parties).map(|_| AtomicU32::new(0)).collect(),
        };
        let met: Vec<_> = met.iter().map(|process| process.me().tag().unwrap()).collect();
        let _ = Barrier::from_parts(&point.head, &point.cells, &met);
        Arc::new(point)
    }

    fn barrier(&self) -> Barrier<'_> {
        Barrier::from_parts(&self.head, &self.cells, &[])
    }

    fn wait(&self, me: Member<'_>) -> Result<usize, BarrierError> {
        self.barrier().wait(me)
    }

    /// Writes, waits, reads what all have written.
    fn round(&self, me: Member<'_>, party: usize, round: usize) {
        let rooms = &self.rooms[round * self.given.len()..][..self.given.len()];
        // SAFETY: this room is this party's until all have met; loom checks just that.
        unsafe { rooms[party].write(7) };
        let index = self.wait(me).expect("nobody breaks it");
        self.given[index].fetch_add(1, Ordering::Relaxed);
        for room in rooms {
            // SAFETY: all have met, and nobody writes here again.
            assert_eq!(unsafe { room.read() }, 7);
        }
    }
}

fn reason<E: std::fmt::Debug>(answer: &Result<usize, BarrierError<E>>) -> Option<Reason> {
    match answer {
        Ok(_) => None,
        Err(BarrierError::Broken(broken)) => Some(broken.reason),
        Err(error) => panic!("{error:?}"),
    }
}

fn rounds(parties: usize, rounds: usize) {
    let point = Point::new(parties, rounds, &[]);
    let own = Process::new();
    let others: Vec<_> = (1..parties)
        .map(|party| {
            let (point, process) = (Arc::clone(&point), Process::new());
            thread::spawn(move || {
                for round in 0..rounds {
                    point.round(process.me(), party, round);
                }
            })
        })
        .collect();
    for round in 0..rounds {
        point.round(own.me(), 0, round);
    }
    for other in others {
        other.join().unwrap();
    }
    for given in &point.given {
        assert_eq!(given.load(Ordering::Relaxed), rounds as u32, "an index was given out twice");
    }
}

#[test]
fn two_meet() {
    explore(Sleeps::Endless, 4, || rounds(2, 1));
}

#[test]
fn two_meet_again_and_again() {
    explore(Sleeps::Endless, 2, || rounds(2, 3));
}

#[test]
fn three_meet() {
    explore(Sleeps::Endless, 1, || rounds(3, 1));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        rounds(2, 1);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_some_read_before_all_have_written() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        rounds(2, 1);
    });
}

/// With one party each wait is a round: the action of one is over before the next arrives.
fn crowd(threads: usize) {
    let point = Point::new(1, 1, &[]);
    let pass = |point: &Point, process: &Process| {
        let action = || {
            // SAFETY: one round after the other; loom checks just that.
            unsafe { point.rooms[0].write(point.rooms[0].read() + 1) };
            Ok::<_, Infallible>(())
        };
        assert_eq!(point.barrier().wait_with(process.me(), Deadline::NEVER, action), Ok(0));
    };
    let own = Process::new();
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let (point, process) = (Arc::clone(&point), Process::new());
            thread::spawn(move || pass(&point, &process))
        })
        .collect();
    pass(&point, &own);
    for other in others {
        other.join().unwrap();
    }
    // SAFETY: all others have ended.
    assert_eq!(unsafe { point.rooms[0].read() }, threads as u32);
}

#[test]
fn more_than_there_are_parties_meet_in_turn() {
    explore(Sleeps::Endless, 3, || crowd(2));
    explore(Sleeps::Endless, 1, || crowd(3));
}

#[test]
fn a_round_is_too_late_for_all_or_for_none() {
    explore(Sleeps::Endless, 4, || {
        let point = Point::new(2, 0, &[]);
        let (own, process) = (Process::new(), Process::new());
        let other = thread::spawn({
            let point = Arc::clone(&point);
            move || point.wait(process.me())
        });
        let mine = point.barrier().wait_until(own.me(), Deadline::NOW);
        let theirs = other.join().unwrap();
        match mine {
            Ok(index) => assert_eq!(theirs, Ok(1 - index)),
            Err(error) => {
                assert_eq!(error, BarrierError::TimedOut);
                assert_eq!(reason(&theirs), Some(Reason::TimedOut));
            }
        }
    });
}

#[test]
fn a_round_is_aborted_for_all_or_for_none() {
    explore(Sleeps::Endless, 1, || {
        let point = Point::new(2, 0, &[]);
        let own = Process::new();
        let others = [(); 2].map(|()| {
            let (point, process) = (Arc::clone(&point), Process::new());
            thread::spawn(move || point.wait(process.me()))
        });
        point.barrier().abort(own.me()).unwrap();
        let [a, b] = others.map(|other| other.join().unwrap());
        assert_eq!(reason(&a), reason(&b), "one passed");
        assert!(point.barrier().broken());
    });
}

#[test]
fn who_was_sent_away_by_a_reset_can_come_again() {
    explore(Sleeps::Endless, 3, || {
        let point = Point::new(2, 0, &[]);
        let (own, process) = (Process::new(), Process::new());
        let other = thread::spawn({
            let point = Arc::clone(&point);
            move || {
                let first = point.wait(process.me());
                match reason(&first) {
                    None => first,
                    Some(reason) => {
                        assert_eq!(reason, Reason::Reset);
                        point.wait(process.me())
                    }
                }
            }
        });
        point.barrier().reset(own.me()).unwrap();
        let mine = point.wait(own.me()).unwrap();
        assert_eq!(other.join().unwrap(), Ok(1 - mine));
    });
}

#[test]
fn who_wakes_late_hears_what_became_of_its_own_round() {
    explore(Sleeps::Endless, 3, || {
        let point = Point::new(2, 0, &[]);
        let (own, process) = (Process::new(), Process::new());
        let other = thread::spawn({
            let point = Arc::clone(&point);
            move || point.wait(process.me())
        });
        // This round is passed, the next one is not.
        point.wait(own.me()).unwrap();
        point.barrier().abort(own.me()).unwrap();
        point.barrier().reset(own.me()).unwrap();
        other.join().unwrap().unwrap();
    });
    explore(Sleeps::Endless, 1, || {
        let point = Point::new(2, 0, &[]);
        let own = Process::new();
        let wait = || {
            let (point, process) = (Arc::clone(&point), Process::new());
            thread::spawn(move || point.wait(process.me()))
        };
        let slow = wait();
        while point.barrier().n_waiting() == 0 {
            thread::yield_now();
        }
        // This round is not passed, the next one is.
        point.barrier().reset(own.me()).unwrap();
        let quick = wait();
        point.wait(own.me()).unwrap();
        quick.join().unwrap().unwrap();
        assert_eq!(reason(&slow.join().unwrap()), Some(Reason::Reset));
    });
}

#[test]
fn the_action_is_run_once_before_anybody_passes() {
    explore(Sleeps::Endless, 3, || {
        let point = Point::new(2, 2, &[]);
        let meet = |point: &Point, process: &Process, party: usize| {
            // SAFETY: this room is this party's until all have met; loom checks just that.
            unsafe { point.rooms[party].write(7) };
            let action = || {
                // SAFETY: nobody has passed, and nobody else runs the action; loom checks just that.
                unsafe {
                    assert_eq!((point.rooms[1].read(), point.rooms[2].read()), (7, 7));
                    point.rooms[0].write(point.rooms[0].read() + 1);
                }
                Ok::<_, Infallible>(())
            };
            point.barrier().wait_with(process.me(), Deadline::NEVER, action).unwrap();
            // SAFETY: the action is over.
            assert_eq!(unsafe { point.rooms[0].read() }, 1);
        };
        let (own, process) = (Process::new(), Process::new());
        let other = thread::spawn({
            let point = Arc::clone(&point);
            move || meet(&point, &process, 1)
        });
        meet(&point, &own, 2);
        other.join().unwrap();
    });
}

#[test]
fn an_action_that_fails_is_everybodys_failure() {
    explore(Sleeps::Endless, 3, || {
        let point = Point::new(2, 0, &[]);
        let meet = |point: &Point, process: &Process| {
            point.barrier().wait_with(process.me(), Deadline::NEVER, || Err::<(), _>("no"))
        };
        let (own, process) = (Process::new(), Process::new());
        let other = thread::spawn({
            let point = Arc::clone(&point);
            move || meet(&point, &process)
        });
        let answers = [meet(&point, &own), other.join().unwrap()];
        let acted = |answer: &&Result<_, _>| **answer == Err(BarrierError::Action("no"));
        assert_eq!(answers.iter().filter(acted).count(), 1);
        let mut others = answers.iter().filter(|answer| !acted(answer));
        assert_eq!(others.next().map(reason), Some(Some(Reason::ActionFailed)));
    });
}

/// One that took part in the last round dies somewhere on its way through this one.
fn death(action: bool, fuel: u32) -> bool {
    let (own, mortal) = (Process::new(), Process::new());
    let point = Point::new(2, 0, &[&own, &mortal]);
    let acted = Arc::new(AtomicU32::new(0));
    let meet = move |point: &Point, me: Member<'_>, acted: &AtomicU32| {
        if action {
            let act = || {
                acted.fetch_add(1, Ordering::Relaxed);
                acted.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(())
            };
            point.barrier().wait_with(me, Deadline::NEVER, act)
        } else {
            point.wait(me)
        }
    };
    let other = thread::spawn({
        let (point, acted) = (Arc::clone(&point), Arc::clone(&acted));
        move || mortal.live(fuel, |me| meet(&point, me, &acted))
    });
    let mine = meet(&point, own.me(), &acted);
    let theirs = other.join().unwrap();
    match (reason(&mine), &theirs) {
        // Both, or it died behind the barrier or on its way out.
        (None, Some(Ok(_)) | None) => {
            assert!(!action || acted.load(Ordering::Relaxed) == 2, "half an action");
        }
        (Some(Reason::Died), None) => assert!(point.barrier().broken()),
        other => panic!("{other:?}"),
    }
    if theirs.is_none() {
        if mine.is_ok() {
            // It is expected again, and will not come.
            assert_eq!(reason(&point.wait(own.me())), Some(Reason::Died));
        }
        point.barrier().reset(own.me()).unwrap();
        assert_eq!(point.barrier().try_wait(own.me()), Err(BarrierError::WouldBlock));
        assert_eq!(point.barrier().n_waiting(), 0);
    }
    theirs.is_none()
}

#[test]
fn a_death_breaks_it() {
    explore_deaths(2, |fuel| death(false, fuel));
}

#[test]
fn a_death_breaks_it_also_in_the_action() {
    explore_deaths(2, |fuel| death(true, fuel));
}

#[test]
#[should_panic(expected = "nobody has died")]
fn a_verdict_on_the_living_breaks_it() {
    explore(Sleeps::Sliced, 3, || {
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let point = Point::new(2, 0, &[&own, &slow]);
        let other = thread::spawn({
            let (point, slow) = (Arc::clone(&point), Arc::clone(&slow));
            move || reason(&point.wait(slow.me()))
        });
        slow.declare_dead();
        assert_eq!(reason(&point.wait(own.me())), None, "nobody has died");
        other.join().unwrap();
    });
}

/// With so much fuel one that comes first has arrived, and dies before it sleeps.
const ARRIVED: u32 = 6;

#[test]
fn two_deaths_break_it_once() {
    for arrived in [0, ARRIVED] {
        explore_deaths(2, move |fuel| {
            let (own, first, second) = (Process::new(), Process::new(), Process::new());
            let point = Point::new(3, 0, &[&own, &first, &second]);
            assert_eq!(first.live(arrived, |me| point.wait(me)), None);
            assert_eq!(point.barrier().n_waiting(), usize::from(arrived > 0));
            let other = thread::spawn({
                let point = Arc::clone(&point);
                move || second.live(fuel, |me| reason(&point.wait(me)))
            });
            let mine = reason(&point.wait(own.me()));
            let theirs = other.join().unwrap();
            match theirs {
                Some(theirs) => assert_eq!(theirs, mine, "both hear the same"),
                None => assert!(mine.is_some() || arrived > 0, "a party was missing"),
            }
            if mine.is_none() {
                assert_eq!(reason(&point.wait(own.me())), Some(Reason::Died));
            }
            point.barrier().reset(own.me()).unwrap();
            assert_eq!(point.barrier().n_waiting(), 0);
            theirs.is_none()
        });
    }
}

#[test]
fn a_reset_that_dies_can_be_repeated() {
    explore_deaths(1, |fuel| {
        let point = Point::new(2, 0, &[]);
        let (own, process, mortal) = (Process::new(), Process::new(), Process::new());
        let resetter = thread::spawn({
            let point = Arc::clone(&point);
            move || mortal.live(fuel, |me| point.barrier().reset(me).unwrap())
        });
        let other = thread::spawn({
            let point = Arc::clone(&point);
            move || reason(&point.wait(process.me()))
        });
        let died = resetter.join().unwrap().is_none();
        point.barrier().reset(own.me()).unwrap();
        assert!(!point.barrier().broken());
        // The other was sent away, or is there now, or comes too late.
        let mine = point.barrier().wait_until(own.me(), Deadline::NOW);
        match (mine, other.join().unwrap()) {
            (Ok(_), None)
            | (Err(BarrierError::TimedOut), Some(Reason::Reset | Reason::TimedOut)) => {}
            both => panic!("{both:?}"),
        }
        died
    });
}
