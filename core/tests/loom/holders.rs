//! Holders of an end: never closed while anybody has it or it is on its way, and closed when nobody does, whoever dies where.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use procession_core::queue::model::HoldersHeap;
use procession_core::queue::{Hold, HoldError, Holders, Passage, Passed, Standing};
use procession_core::region::Member;
use procession_core::sys::atomic::{AtomicU64, Ordering};
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

const CARRIER: u64 = 128;
const TICKET: u64 = 5;

const NO: Passed<'static> = &|_, _| false;

type End = Arc<HoldersHeap>;

fn spawn<R: 'static>(
    end: &End,
    process: &Arc<Process>,
    life: impl FnOnce(Holders<'_>, Member<'_>) -> R + 'static,
) -> JoinHandle<R> {
    let (end, process) = (Arc::clone(end), Arc::clone(process));
    thread::spawn(move || life(end.holders(), process.me()))
}

fn process() -> Arc<Process> {
    Arc::new(Process::new())
}

/// A copy takes the place of the original, in a cell before it or behind it, while somebody looks.
fn a_copy_leaves_while_somebody_looks(before: bool) {
    let end: End = Arc::new(HoldersHeap::new(2));
    let (own, other) = (process(), process());
    let holders = end.holders();
    let first = holders.hold(own.me(), NO).unwrap();
    let hold = if before {
        // The second cell: the copy will be in the first.
        let second = holders.hold(own.me(), NO).unwrap();
        holders.release(own.me(), first);
        second
    } else {
        first
    };
    let looker = spawn(&end, &other, |end, me| end.look(me, NO, &|| true));
    let copy = holders.depart(own.me(), NO).unwrap();
    assert_eq!(holders.release(own.me(), hold), Standing::Open, "a copy was on its way");
    assert_eq!(looker.join().unwrap(), Ok(Standing::Open), "a copy was on its way");
    let hold = holders.arrive(other.me(), copy, NO).unwrap();
    assert_eq!(holders.release(other.me(), hold), Standing::Last);
}

#[test]
fn it_is_open_while_a_copy_is_on_its_way() {
    explore(Sleeps::Endless, 3, || a_copy_leaves_while_somebody_looks(false));
    explore(Sleeps::Endless, 3, || a_copy_leaves_while_somebody_looks(true));
}

#[test]
#[should_panic(expected = "a copy was on its way")]
fn without_order_a_copy_is_overlooked() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        a_copy_leaves_while_somebody_looks(true);
    });
}

/// Of so many who give it back at the same time the last one closes it.
fn the_last_one_closes(holders: usize) {
    let end: End = Arc::new(HoldersHeap::new(holders));
    let own = process();
    let holds: Vec<(Arc<Process>, Hold)> = (1..holders)
        .map(|_| {
            let process = process();
            let hold = end.holders().hold(process.me(), NO).unwrap();
            (process, hold)
        })
        .collect();
    let mine = end.holders().hold(own.me(), NO).unwrap();
    let others: Vec<_> = holds
        .into_iter()
        .map(|(process, hold)| spawn(&end, &process, move |end, me| end.release(me, hold)))
        .collect();
    let mut last = u32::from(end.holders().release(own.me(), mine) == Standing::Last);
    for other in others {
        last += u32::from(other.join().unwrap() == Standing::Last);
    }
    assert!(last == 1 && end.holders().is_closed(), "nobody holds it");
}

#[test]
fn the_last_of_two_closes_it() {
    explore(Sleeps::Endless, 3, || the_last_one_closes(2));
}

#[test]
fn the_last_of_three_closes_it() {
    explore(Sleeps::Endless, 2, || the_last_one_closes(3));
}

#[test]
#[should_panic(expected = "nobody holds it")]
fn without_order_nobody_closes_it() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        the_last_one_closes(2);
    });
}

#[test]
fn who_comes_too_late_holds_nothing() {
    explore(Sleeps::Endless, 3, || {
        let end: End = Arc::new(HoldersHeap::new(2));
        let (own, other) = (process(), process());
        let hold = end.holders().hold(own.me(), NO).unwrap();
        let late = spawn(&end, &other, |end, me| {
            let hold = end.hold(me, NO);
            assert_eq!(end.is_closed(), hold.is_err(), "as it was told");
            hold
        });
        let closed = end.holders().release(own.me(), hold);
        match late.join().unwrap() {
            Ok(hold) => {
                assert_eq!(closed, Standing::Open);
                assert_eq!(end.holders().release(other.me(), hold), Standing::Last);
            }
            Err(HoldError::Closed) => assert!(end.holders().is_closed()),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(end.holders().used(), 0);
    });
}

#[test]
fn two_who_have_the_same_name_have_a_hold_each() {
    explore(Sleeps::Endless, 3, || {
        let end: End = Arc::new(HoldersHeap::new(3));
        let (own, other) = (process(), process());
        let hold = end.holders().hold(own.me(), NO).unwrap();
        let copy = end.holders().depart(own.me(), NO).unwrap();
        let first = spawn(&end, &other, move |end, me| end.arrive(me, copy, NO).unwrap());
        let second = end.holders().arrive(own.me(), copy, NO).unwrap();
        let first = first.join().unwrap();
        assert_eq!(end.holders().release(own.me(), hold), Standing::Open);
        assert_eq!(end.holders().release(own.me(), second), Standing::Open);
        assert_eq!(end.holders().release(other.me(), first), Standing::Last);
    });
}

/// A place of a carrier, as a queue has it: the name of a copy, and how far it is.
struct Carrier {
    /// 0: empty. 1: published. 2: passed.
    state: AtomicU64,
    name: AtomicU64,
}

impl Carrier {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: AtomicU64::new(0), name: AtomicU64::new(0) })
    }

    fn publish(&self, copy: Passage) {
        let name = u64::from(copy.index) << 32 | u64::from(copy.serial);
        self.name.store(name, Ordering::Relaxed);
        self.state.store(1, Ordering::Release);
    }

    /// The copy that was published.
    fn find(&self) -> Option<Passage> {
        (self.state.load(Ordering::Acquire) == 1).then(|| {
            let name = self.name.load(Ordering::Relaxed);
            Passage { index: (name >> 32) as u32, serial: name as u32 }
        })
    }

    fn pass(&self) {
        self.state.store(2, Ordering::Release);
    }

    fn has_passed(&self) -> bool {
        self.state.load(Ordering::Acquire) == 2
    }
}

/// Sends a copy through the carrier, and keeps no other.
fn send(end: Holders<'_>, me: Member<'_>, carrier: &Carrier, hold: Hold) {
    let copy = end.depart(me, NO).expect("room, and open");
    assert!(end.send(me, copy, CARRIER, TICKET));
    carrier.publish(copy);
    end.release(me, hold);
}

/// Gets it.
fn receive(end: Holders<'_>, me: Member<'_>, carrier: &Carrier) -> Option<Hold> {
    let copy = carrier.find()?;
    assert!(end.take(me, copy, CARRIER, TICKET), "what was sent is there");
    carrier.pass();
    Some(end.arrive(me, copy, NO).expect("it is this process's"))
}

#[test]
fn a_copy_that_is_received_is_never_left_behind() {
    // Who looks meanwhile finds it in the carrier, in the receiver's hand, or held.
    explore(Sleeps::Endless, 2, || {
        let end: End = Arc::new(HoldersHeap::new(2));
        let (own, sender, looker) = (process(), process(), process());
        let carrier = Carrier::new();
        let hold = end.holders().hold(sender.me(), NO).unwrap();
        send(end.holders(), sender.me(), &carrier, hold);
        let there = Arc::clone(&carrier);
        let looks = spawn(&end, &looker, move |end, me| {
            // The first answer is as wrong as one may be that was asked long ago; the second is true.
            let first = AtomicU64::new(1);
            let passed = |_, _| first.swap(0, Ordering::Relaxed) == 1 || there.has_passed();
            end.look(me, &passed, &|| true)
        });
        let hold = receive(end.holders(), own.me(), &carrier).expect("published");
        assert_eq!(looks.join().unwrap(), Ok(Standing::Open), "it was not left behind");
        assert_eq!(end.holders().release(own.me(), hold), Standing::Last);
    });
}

/// Everything is as it should be after the victim's death: closed when nobody living has it, and no cell is lost.
fn audit(end: Holders<'_>, me: Member<'_>, carrier: &Carrier, mine: Option<Hold>) {
    let got = receive(end, me, carrier);
    let passed = |_, _| true;
    if let Some(hold) = mine {
        assert_eq!(end.look(me, &passed, &|| true), Ok(Standing::Open), "I hold it");
        end.release(me, hold);
    }
    if let Some(hold) = got {
        assert_eq!(end.look(me, &passed, &|| true), Ok(Standing::Open), "I have received it");
        end.release(me, hold);
    }
    end.sweep(me, &passed, &|| true).expect("sound");
    assert!(end.look(me, &passed, &|| true).expect("sound").is_closed(), "nobody holds it");
    assert_eq!(end.used(), 0);
}

#[test]
fn a_sender_may_die_anywhere() {
    explore_deaths(2, |fuel| {
        let end: End = Arc::new(HoldersHeap::new(2));
        let (own, victim) = (process(), process());
        let carrier = Carrier::new();
        let hold = end.holders().hold(victim.me(), NO).unwrap();
        let died = thread::spawn({
            let (end, carrier) = (Arc::clone(&end), Arc::clone(&carrier));
            move || victim.live(fuel, |me| send(end.holders(), me, &carrier, hold)).is_none()
        });
        // Meanwhile: it may be closed only if the victim is dead, and has sent nothing.
        let closed = end.holders().look(own.me(), &|_, _| carrier.has_passed(), &|| true)
            != Ok(Standing::Open);
        let died = died.join().unwrap();
        assert!(!closed || died && carrier.find().is_none());
        audit(end.holders(), own.me(), &carrier, None);
        died
    });
}

#[test]
fn a_receiver_may_die_anywhere() {
    explore_deaths(2, |fuel| {
        let end: End = Arc::new(HoldersHeap::new(3));
        let (own, victim) = (process(), process());
        let carrier = Carrier::new();
        let hold = end.holders().hold(own.me(), NO).unwrap();
        send(end.holders(), own.me(), &carrier, hold);
        let died = thread::spawn({
            let (end, carrier) = (Arc::clone(&end), Arc::clone(&carrier));
            move || {
                let lived = victim.live(fuel, |me| {
                    let hold = receive(end.holders(), me, &carrier);
                    end.holders().release(me, hold.expect("published"));
                });
                lived.is_none()
            }
        });
        let _ = end.holders().look(own.me(), &|_, _| carrier.has_passed(), &|| true);
        let died = died.join().unwrap();
        // Whoever frees the place of the dead.
        carrier.pass();
        audit(end.holders(), own.me(), &carrier, None);
        died
    });
}

#[test]
fn who_takes_back_may_die_anywhere() {
    explore_deaths(2, |fuel| {
        let end: End = Arc::new(HoldersHeap::new(3));
        let (own, victim, dead) = (process(), process(), process());
        let carrier = Carrier::new();
        // One held by a dead one, one left behind in a passed place, one that is mine.
        end.holders().hold(dead.me(), NO).unwrap();
        let copy = end.holders().depart(dead.me(), NO).unwrap();
        assert!(end.holders().send(dead.me(), copy, CARRIER, TICKET));
        dead.declare_dead();
        carrier.pass();
        let hold = end.holders().hold(own.me(), NO).unwrap();
        let died = thread::spawn({
            let (end, carrier) = (Arc::clone(&end), Arc::clone(&carrier));
            move || {
                let passed = |_, _| carrier.has_passed();
                victim.live(fuel, |me| end.holders().sweep(me, &passed, &|| true)).is_none()
            }
        });
        assert_eq!(
            end.holders().look(own.me(), &|_, _| carrier.has_passed(), &|| true),
            Ok(Standing::Open)
        );
        let died = died.join().unwrap();
        audit(end.holders(), own.me(), &carrier, Some(hold));
        died
    });
}

#[test]
fn two_who_give_it_back_may_die() {
    explore_deaths(1, |fuel| {
        let end: End = Arc::new(HoldersHeap::new(2));
        let (own, victim, other) = (process(), process(), process());
        let hold = end.holders().hold(victim.me(), NO).unwrap();
        let second = end.holders().hold(other.me(), NO).unwrap();
        let died = thread::spawn({
            let end = Arc::clone(&end);
            move || victim.live(fuel, |me| end.holders().release(me, hold)).is_none()
        });
        // The second dies half way.
        other.live(2, |me| end.holders().release(me, second));
        let died = died.join().unwrap();
        let standing = end.holders().look(own.me(), NO, &|| true).expect("sound");
        assert!(standing.is_closed(), "nobody holds it");
        assert_eq!(end.holders().used(), 0);
        died
    });
}

#[test]
#[should_panic(expected = "nobody holds it")]
fn the_living_are_not_taken_for_dead() {
    explore_deaths(1, |_| {
        let end: End = Arc::new(HoldersHeap::new(2));
        let (own, other) = (process(), process());
        end.holders().hold(other.me(), NO).unwrap();
        audit(end.holders(), own.me(), &Carrier::new(), None);
        false
    });
}

/// Two ends of one thing are finished at the same time: whoever sees both does what is to be done then.
#[test]
fn of_two_that_finish_one_sees_both() {
    explore(Sleeps::Endless, 3, || {
        let (one, other): (End, End) =
            (Arc::new(HoldersHeap::new(1)), Arc::new(HoldersHeap::new(1)));
        let finish = |mine: &End, others: &End| {
            mine.holders().finish();
            others.holders().is_finished()
        };
        let there = thread::spawn({
            let (one, other) = (Arc::clone(&one), Arc::clone(&other));
            move || finish(&one, &other)
        });
        let here = finish(&other, &one);
        assert!(there.join().unwrap() || here, "nobody saw both");
    });
}

/// An end is closed and destroyed, and another is made in its place, while a sweep looks that holds nothing. `first`: where the new
/// one begins to count; `asks`: whether the sweep asks if the end is still there.
fn a_sweep_meets_another_end(first: u32, asks: bool) {
    let end: End = Arc::new(HoldersHeap::new(1));
    let (own, other) = (process(), process());
    let holders = end.holders();
    let hold = holders.hold(own.me(), NO).unwrap();
    let gone = Arc::new(AtomicU64::new(0));
    let sweeper = spawn(&end, &other, {
        let gone = Arc::clone(&gone);
        move |end, me| end.look(me, NO, &|| !asks || gone.load(Ordering::Acquire) == 0)
    });
    if holders.release(own.me(), hold) == Standing::Last {
        holders.finish();
        gone.store(1, Ordering::Relaxed);
        end.make_anew(first);
        let hold = holders.hold(own.me(), NO).expect("closed before it was held");
        let _ = sweeper.join().unwrap();
        assert_eq!(holders.release(own.me(), hold), Standing::Last, "closed while it was held");
    }
}

#[test]
fn a_sweep_closes_no_end_that_was_made_meanwhile() {
    explore(Sleeps::Endless, 3, || a_sweep_meets_another_end(7, true));
}

#[test]
#[should_panic(expected = "closed before it was held")]
fn a_sweep_that_does_not_ask_closes_the_next_end() {
    explore(Sleeps::Endless, 3, || a_sweep_meets_another_end(7, false));
}

#[test]
#[should_panic(expected = "closed while it was held")]
fn a_sweep_takes_an_end_that_counts_alike_for_the_one_before() {
    explore(Sleeps::Endless, 3, || a_sweep_meets_another_end(0, true));
}
