//! The semaphore: never more holders than units, no unit lost or doubled, whoever dies where, and nobody sleeps beside one.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use procession_core::region::Member;
use procession_core::sync::model::SemaphoreHeap;
use procession_core::sync::{Permit, PermitError, ReleaseError, Semaphore};
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::cell::ItemCell;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

/// Units in the count, units in cells, cells. There are never more units.
#[derive(Clone, Copy)]
struct Start(u32, u32, u32);

impl Start {
    fn units(self) -> u32 {
        self.0 + self.1
    }

    fn heap(self) -> Arc<SemaphoreHeap> {
        Arc::new(SemaphoreHeap::new(self.0, self.1, self.units(), self.2))
    }
}

/// One unit, in a cell; one in the count, with a cell for it.
const IN_A_CELL: Start = Start(0, 1, 1);
const IN_THE_COUNT: Start = Start(1, 0, 1);

fn spawn<R: 'static>(
    heap: &Arc<SemaphoreHeap>,
    life: impl FnOnce(Semaphore<'_>, Member<'_>) -> R + 'static,
) -> JoinHandle<R> {
    let (heap, process) = (Arc::clone(heap), Process::new());
    thread::spawn(move || life(heap.semaphore(), process.me()))
}

/// How a unit is taken and given back.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// By a permit.
    Permit,
    /// By a permit that is detached.
    Detached,
    /// Without.
    Bare,
}

fn with_unit<R>(semaphore: Semaphore<'_>, me: Member<'_>, way: Way, work: impl FnOnce() -> R) -> R {
    let permit = match way {
        Way::Bare => {
            semaphore.take(me).expect("sound");
            None
        }
        _ => Some(semaphore.acquire(me).expect("sound")),
    };
    let done = work();
    match permit {
        Some(_permit) if way == Way::Permit => return done,
        Some(permit) => permit.detach().expect("sound"),
        None => {}
    }
    semaphore.release(me, 1).expect("it was out");
    done
}

/// Everything is there: so many units as there were, to be taken and to be given back.
fn audit(semaphore: Semaphore<'_>, me: Member<'_>, units: u32, out: u32) {
    let mut permits: Vec<Permit<'_>> = Vec::new();
    loop {
        match semaphore.try_acquire(me) {
            Ok(permit) => permits.push(permit),
            Err(PermitError::WouldBlock) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(permits.len() <= units as usize, "doubled");
    }
    assert_eq!(permits.len() as u32 + out, units, "lost or doubled");
    assert_eq!(semaphore.value(), 0);
    let many = Err(ReleaseError::TooMany { most: units });
    assert_eq!(semaphore.release(me, out + 1), many, "more are out than were taken");
    semaphore.release(me, out).expect("they are out");
    drop(permits);
    assert_eq!(semaphore.value(), units);
}

/// One unit, and a count that only who has it may touch: loom reports two that do without an order between them.
fn deposits(start: Start, ways: &[Way]) {
    assert_eq!(start.units(), 1);
    let heap = start.heap();
    let balance = Arc::new(ItemCell::<u32>::empty());
    let own = Process::new();
    let deposit = |balance: &ItemCell<u32>| {
        // SAFETY: with the only unit; loom checks just that.
        unsafe { balance.write(balance.read() + 1) };
    };
    let others: Vec<_> = ways[1..]
        .iter()
        .map(|&way| {
            let balance = Arc::clone(&balance);
            spawn(&heap, move |semaphore, me| {
                with_unit(semaphore, me, way, || deposit(&balance));
            })
        })
        .collect();
    with_unit(heap.semaphore(), own.me(), ways[0], || deposit(&balance));
    for other in others {
        other.join().unwrap();
    }
    // SAFETY: all others have ended.
    assert_eq!(unsafe { balance.read() }, ways.len() as u32);
    audit(heap.semaphore(), own.me(), 1, 0);
}

#[test]
fn two_permits_exclude_each_other() {
    explore(Sleeps::Endless, 3, || deposits(IN_A_CELL, &[Way::Permit; 2]));
}

#[test]
fn two_permits_exclude_each_other_with_a_unit_from_the_count() {
    explore(Sleeps::Endless, 2, || deposits(IN_THE_COUNT, &[Way::Permit; 2]));
}

#[test]
fn two_without_permits_exclude_each_other() {
    explore(Sleeps::Endless, 3, || deposits(IN_THE_COUNT, &[Way::Bare; 2]));
}

#[test]
fn two_without_permits_exclude_each_other_with_a_unit_in_a_cell() {
    explore(Sleeps::Endless, 2, || deposits(IN_A_CELL, &[Way::Bare; 2]));
}

#[test]
fn with_and_without_permits_they_exclude_each_other() {
    explore(Sleeps::Endless, 2, || deposits(IN_A_CELL, &[Way::Permit, Way::Bare]));
}

#[test]
fn detached_permits_exclude_each_other() {
    explore(Sleeps::Endless, 2, || deposits(IN_A_CELL, &[Way::Detached, Way::Permit]));
}

#[test]
fn three_exclude_each_other() {
    explore(Sleeps::Endless, 1, || deposits(IN_A_CELL, &[Way::Permit, Way::Permit, Way::Bare]));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        deposits(IN_A_CELL, &[Way::Permit; 2]);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_two_touch_the_same() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        deposits(IN_A_CELL, &[Way::Permit; 2]);
    });
}

#[test]
fn three_share_two_units() {
    explore(Sleeps::Endless, 1, || {
        let heap = Start(1, 1, 2).heap();
        let inside = Arc::new(AtomicU32::new(0));
        let own = Process::new();
        let work = |inside: &AtomicU32| {
            assert!(inside.fetch_add(1, Ordering::Relaxed) < 2, "more holders than units");
            inside.fetch_sub(1, Ordering::Relaxed);
        };
        let others = [Way::Permit, Way::Bare].map(|way| {
            let inside = Arc::clone(&inside);
            spawn(&heap, move |semaphore, me| with_unit(semaphore, me, way, || work(&inside)))
        });
        with_unit(heap.semaphore(), own.me(), Way::Permit, || work(&inside));
        for other in others {
            other.join().unwrap();
        }
        audit(heap.semaphore(), own.me(), 2, 0);
    });
}

#[test]
fn two_units_wake_two() {
    explore(Sleeps::Endless, 1, || {
        let heap = Arc::new(SemaphoreHeap::new(0, 0, 2, 1));
        let own = Process::new();
        let takers = [Way::Permit, Way::Bare].map(|way| {
            spawn(&heap, move |semaphore, me| match way {
                Way::Permit => semaphore.acquire(me).expect("sound").detach().expect("sound"),
                _ => semaphore.take(me).expect("sound"),
            })
        });
        heap.semaphore().release(own.me(), 2).unwrap();
        for taker in takers {
            taker.join().unwrap();
        }
        assert_eq!(heap.semaphore().value(), 0);
    });
}

#[test]
fn one_release_too_many_is_refused() {
    explore(Sleeps::Endless, 3, || {
        let heap = IN_A_CELL.heap();
        let own = Process::new();
        heap.semaphore().take(own.me()).unwrap();
        let other = spawn(&heap, |semaphore, me| semaphore.release(me, 1));
        let answers = [heap.semaphore().release(own.me(), 1), other.join().unwrap()];
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        audit(heap.semaphore(), own.me(), 1, 0);
    });
}

#[test]
fn none_free_is_true() {
    // Of two units one is always free: the other one is held, given back, and then the first one taken.
    explore(Sleeps::Endless, 3, || {
        let heap = Start(0, 2, 2).heap();
        let own = Process::new();
        let home = heap.semaphore().acquire(own.me()).unwrap();
        let away = heap.semaphore().acquire(own.me()).unwrap();
        drop(home);
        // Its home is where the unit is held.
        let other = spawn(&heap, |semaphore, me| {
            assert!(semaphore.value() > 0, "there was none");
            semaphore.try_acquire(me).map(drop)
        });
        drop(away);
        let again = heap.semaphore().try_acquire(own.me());
        // Two want one in the end: either may find none, but only while the other one has it.
        assert!(again.is_ok(), "two units and two processes");
        assert_eq!(other.join().unwrap(), Ok(()), "two units and two processes");
    });
}

#[test]
fn a_cell_that_was_emptied_is_anothers() {
    explore(Sleeps::Endless, 2, || {
        // Room for two permits, and units for three.
        let heap = Start(2, 1, 2).heap();
        let own = Process::new();
        let permit = heap.semaphore().acquire(own.me()).unwrap();
        let other = spawn(&heap, |semaphore, me| {
            let permits = [semaphore.acquire(me), semaphore.acquire(me)];
            for permit in permits {
                // Two cells, two permits, and one that leaves, sooner or later.
                assert!(
                    matches!(permit, Ok(_) | Err(PermitError::TooManyPermits { .. })),
                    "{permit:?}"
                );
            }
        });
        permit.detach().unwrap();
        other.join().unwrap();
        assert_eq!(heap.semaphore().value(), 2);
        assert_eq!(heap.semaphore().try_take(own.me()), Ok(()));
    });
}

#[test]
fn full_of_permits_is_an_error_and_wakes_who_needs_none() {
    explore(Sleeps::Endless, 1, || {
        // One unit in the count, one held, and one cell.
        let heap = Arc::new(SemaphoreHeap::new(0, 1, 2, 1));
        let own = Process::new();
        let permit = heap.semaphore().acquire(own.me()).unwrap();
        let bare = spawn(&heap, |semaphore, me| semaphore.take(me));
        let crowded = spawn(&heap, |semaphore, me| semaphore.acquire(me).map(drop));
        heap.semaphore().release(own.me(), 1).unwrap();
        assert_eq!(bare.join().unwrap(), Ok(()));
        drop(permit);
        let answer = crowded.join().unwrap();
        assert!(
            matches!(answer, Ok(()) | Err(PermitError::TooManyPermits { most: 1 })),
            "{answer:?}"
        );
    });
}

/// What a victim was about.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Deed {
    /// Acquire and drop.
    Permit,
    /// Acquire, detach; the unit stays out.
    Detach,
    /// Take; the unit stays out.
    Take,
}

/// Does it and dies after `fuel` accesses. Whether it survived, and whether it came to the end of what it was about.
fn victim(semaphore: Semaphore<'_>, process: &Process, deed: Deed, fuel: u32) -> (bool, bool) {
    let mut done = false;
    let survived = process.live(fuel, |me| {
        match deed {
            Deed::Permit => drop(semaphore.acquire(me).expect("sound")),
            Deed::Detach => semaphore.acquire(me).expect("sound").detach().expect("sound"),
            Deed::Take => semaphore.take(me).expect("sound"),
        }
        done = true;
    });
    (survived.is_some(), done)
}

/// The victim does its deed beside one who goes its way; then all units are counted.
fn with_a_death(preemptions: usize, start: Start, deed: Deed, way: Way) {
    explore_deaths(preemptions, move |fuel| {
        let heap = start.heap();
        let (own, mortal) = (Process::new(), Process::new());
        let other = thread::spawn({
            let heap = Arc::clone(&heap);
            move || victim(heap.semaphore(), &mortal, deed, fuel)
        });
        let semaphore = heap.semaphore();
        // One who waits without an end would wait for what the victim has taken out.
        if deed == Deed::Permit || start.units() > 1 {
            with_unit(semaphore, own.me(), way, || ());
        } else if way == Way::Permit {
            let _ = semaphore.try_acquire(own.me()).map(drop);
        } else if semaphore.try_take(own.me()).is_ok() {
            semaphore.release(own.me(), 1).unwrap();
        }
        let (survived, done) = other.join().unwrap();
        audit_out(semaphore, own.me(), start.units(), deed, done);
        !survived
    });
}

/// All is there but what the victim may have taken out: for sure, if it came to the end of that.
fn audit_out(semaphore: Semaphore<'_>, me: Member<'_>, units: u32, deed: Deed, done: bool) {
    let mut permits: Vec<Permit<'_>> = Vec::new();
    while let Ok(permit) = semaphore.try_acquire(me) {
        permits.push(permit);
        assert!(permits.len() <= units as usize, "doubled");
    }
    let out = units - permits.len() as u32;
    drop(permits);
    match (deed, done) {
        (Deed::Permit, _) => assert_eq!(out, 0, "a permit's unit is lost"),
        (_, true) => assert_eq!(out, 1, "doubled: it was taken out"),
        (_, false) => assert!(out <= 1, "lost"),
    }
    audit(semaphore, me, units, out);
}

#[test]
fn a_dead_permit_comes_back() {
    with_a_death(2, IN_A_CELL, Deed::Permit, Way::Permit);
}

#[test]
fn a_dead_permit_comes_back_to_one_without() {
    with_a_death(1, IN_A_CELL, Deed::Permit, Way::Bare);
}

#[test]
fn a_dead_move_from_the_count_is_finished_or_undone() {
    with_a_death(1, IN_THE_COUNT, Deed::Permit, Way::Permit);
}

#[test]
fn a_dead_move_from_the_count_is_helped_by_the_next() {
    with_a_death(1, Start(2, 0, 2), Deed::Permit, Way::Permit);
}

#[test]
fn a_dead_move_from_the_count_is_helped_by_one_out() {
    with_a_death(1, Start(1, 1, 2), Deed::Permit, Way::Detached);
}

#[test]
fn a_dead_detach_is_finished_or_undone() {
    with_a_death(2, IN_A_CELL, Deed::Detach, Way::Permit);
}

#[test]
fn a_dead_detach_is_helped_by_the_next() {
    with_a_death(1, Start(1, 1, 2), Deed::Detach, Way::Detached);
}

#[test]
fn a_dead_taker_from_a_cell_is_finished_or_undone() {
    with_a_death(2, Start(0, 2, 2), Deed::Take, Way::Bare);
}

#[test]
fn a_dead_taker_from_the_count_leaves_the_count() {
    with_a_death(1, IN_THE_COUNT, Deed::Take, Way::Permit);
}

/// The first victim dies after each number of accesses in turn; the second, who may have helped or repaired it, at
/// every one.
fn with_two_deaths(start: Start, first: Deed, second: Deed) {
    for early in 0..ENOUGH {
        explore_deaths(1, move |fuel| {
            let heap = start.heap();
            let own = Process::new();
            let deeds = [(first, early), (second, fuel)].map(|(deed, fuel)| {
                let (heap, process) = (Arc::clone(&heap), Process::new());
                thread::spawn(move || victim(heap.semaphore(), &process, deed, fuel))
            });
            let semaphore = heap.semaphore();
            let ends = deeds.map(|deed| deed.join().unwrap());
            let mut permits: Vec<Permit<'_>> = Vec::new();
            while let Ok(permit) = semaphore.try_acquire(own.me()) {
                permits.push(permit);
                assert!(permits.len() <= start.units() as usize, "doubled");
            }
            let out = start.units() - permits.len() as u32;
            drop(permits);
            let outs = |done: bool| {
                let outs = [(first, ends[0].1), (second, ends[1].1)].into_iter();
                outs.filter(|&(deed, end)| deed != Deed::Permit && end == done).count() as u32
            };
            assert!((outs(true)..=outs(true) + outs(false)).contains(&out), "lost or doubled");
            audit(semaphore, own.me(), start.units(), out);
            !ends[1].0
        });
    }
}

/// So many accesses are more than any deed makes that nobody disturbs.
const ENOUGH: u32 = 14;

#[test]
fn two_dead_moves_from_the_count_leave_all_units() {
    with_two_deaths(Start(2, 0, 2), Deed::Permit, Deed::Permit);
}

#[test]
fn two_dead_detaches_leave_no_unit_in_between() {
    with_two_deaths(Start(0, 2, 2), Deed::Detach, Deed::Detach);
}

#[test]
fn the_dead_who_repairs_the_dead_leaves_the_unit() {
    with_two_deaths(IN_A_CELL, Deed::Permit, Deed::Permit);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_verdict_on_the_living_makes_two_holders() {
    explore(Sleeps::Sliced, 3, || {
        let heap = IN_A_CELL.heap();
        let balance = Arc::new(ItemCell::<u32>::empty());
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let other = thread::spawn({
            let (heap, slow, balance) =
                (Arc::clone(&heap), Arc::clone(&slow), Arc::clone(&balance));
            move || {
                let _permit = heap.semaphore().acquire(slow.me()).expect("sound");
                // SAFETY: loom reports it if another is here.
                unsafe { balance.write(1) };
            }
        });
        slow.declare_dead();
        {
            let _permit = heap.semaphore().acquire(own.me());
            // SAFETY: loom reports it if another is here.
            unsafe { balance.write(2) };
        }
        other.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "lost or doubled")]
fn a_unit_that_is_taken_and_not_given_back_is_missed() {
    explore(Sleeps::Endless, 1, || {
        let heap = IN_THE_COUNT.heap();
        let own = Process::new();
        heap.semaphore().take(own.me()).unwrap();
        audit(heap.semaphore(), own.me(), 1, 0);
    });
}

#[test]
fn an_old_name_is_not_taken_for_a_new_one() {
    // The word names the move that the second process begins once the first has written its own name. The moments around
    // that: all there are take too long.
    for fuel in 6..=9 {
        explore(Sleeps::Sliced, 1, move || {
            let heap = Start(3, 0, 3).heap();
            let own = Process::new();
            let (mortal, helper) = (Process::new(), Process::new());
            let victim = thread::spawn({
                let heap = Arc::clone(&heap);
                move || drop(mortal.live(fuel, |me| drop(heap.semaphore().acquire(me))))
            });
            let helper = thread::spawn({
                let heap = Arc::clone(&heap);
                move || drop(heap.semaphore().acquire(helper.me()).expect("sound"))
            });
            drop(heap.semaphore().acquire(own.me()).expect("sound"));
            helper.join().unwrap();
            victim.join().unwrap();
            audit(heap.semaphore(), own.me(), 3, 0);
        });
    }
}
