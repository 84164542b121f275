//! The latch: who waits goes on when all parts are done, and not before; a death with a part is told to all.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use procession_core::region::Member;
use procession_core::sync::model::LatchHeap;
use procession_core::sync::{Latch, LatchError};
use procession_core::sys::cell::ItemCell;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

fn spawn<R: 'static>(
    heap: &Arc<LatchHeap>,
    life: impl FnOnce(Latch<'_>, Member<'_>) -> R + 'static,
) -> JoinHandle<R> {
    let (heap, process) = (Arc::clone(heap), Process::new());
    thread::spawn(move || life(heap.latch(), process.me()))
}

/// Two do a part each, one of them by claiming it first; who waits then reads what both have written.
fn two_parts() {
    let heap = Arc::new(LatchHeap::new(2));
    let pages = Arc::new([ItemCell::<u32>::empty(), ItemCell::empty()]);
    let own = Process::new();
    let writers = [0, 1].map(|index| {
        let pages = Arc::clone(&pages);
        spawn(&heap, move |latch, me| {
            let part = (index == 1).then(|| latch.part(me).expect("one is left"));
            // SAFETY: before the part is done; loom reports it if the reader is here already.
            unsafe { pages[index].write(1) };
            match part {
                Some(part) => part.count_down().expect("sound"),
                None => latch.count_down(me).expect("sound"),
            }
        })
    });
    assert_eq!(heap.latch().wait(own.me()), Ok(()));
    // SAFETY: the latch is open; loom reports it if a writer is not done.
    assert_eq!(unsafe { pages[0].read() + pages[1].read() }, 2);
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(heap.latch().count_down(own.me()), Err(LatchError::TooMany { parts: 2 }));
}

#[test]
fn it_opens_when_both_parts_are_done() {
    explore(Sleeps::Endless, 2, two_parts);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_nobody_sees_that_all_is_done() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        two_parts();
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_order_it_opens_before_all_is_done() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        two_parts();
    });
}

#[test]
fn two_wait_and_both_go_on() {
    explore(Sleeps::Endless, 2, || {
        let heap = Arc::new(LatchHeap::new(1));
        let own = Process::new();
        let waiters = [0, 1].map(|_| spawn(&heap, |latch, me| latch.wait(me)));
        heap.latch().count_down(own.me()).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(()));
        }
    });
}

#[test]
fn of_one_part_only_one_is_done() {
    explore(Sleeps::Endless, 3, || {
        let heap = Arc::new(LatchHeap::new(1));
        let own = Process::new();
        let other = spawn(&heap, |latch, me| {
            let part = latch.part(me)?;
            // Given back, and claimed again unless somebody was faster.
            drop(part);
            latch.part(me)?.count_down()
        });
        let many = Err(LatchError::TooMany { parts: 1 });
        match (heap.latch().count_down(own.me()), other.join().unwrap()) {
            (done, refused) if done == Ok(()) && refused == many => {}
            (refused, done) if done == Ok(()) && refused == many => {}
            answers => panic!("{answers:?}"),
        }
        assert!(heap.latch().is_open());
    });
}

#[test]
fn a_death_with_a_part_breaks_it() {
    explore_deaths(3, |fuel| {
        let heap = Arc::new(LatchHeap::new(2));
        let (own, mortal) = (Process::new(), Process::new());
        let victim = thread::spawn({
            let heap = Arc::clone(&heap);
            move || {
                let mut done = false;
                let survived = mortal.live(fuel, |me| {
                    let latch = heap.latch();
                    latch.part(me).expect("one is left").count_down().expect("sound");
                    done = true;
                });
                (survived.is_some(), done)
            }
        });
        let latch = heap.latch();
        latch.count_down(own.me()).unwrap();
        let early = latch.try_wait(own.me());
        let (survived, done) = victim.join().unwrap();
        let late = latch.try_wait(own.me());
        match late {
            Ok(()) => {}
            Err(LatchError::Broken { .. }) => assert!(!done, "the part was done"),
            // It had not claimed the part yet: anybody can do it.
            Err(LatchError::WouldBlock) => {
                assert!(!done, "the part was done");
                latch.count_down(own.me()).expect("nobody has the part");
                assert_eq!(latch.wait(own.me()), Ok(()));
            }
            Err(error) => panic!("{error}"),
        }
        // What was said before stands.
        assert!(early == Err(LatchError::WouldBlock) || early == late, "{early:?}, {late:?}");
        !survived
    });
}

#[test]
fn two_deaths_with_parts_are_told_as_one() {
    explore_deaths(2, |fuel| {
        let heap = Arc::new(LatchHeap::new(2));
        let own = Process::new();
        let (first, second) = (Process::new(), Process::new());
        std::mem::forget(heap.latch().part(first.me()));
        std::mem::forget(heap.latch().part(second.me()));
        let other = thread::spawn({
            let heap = Arc::clone(&heap);
            move || {
                first.declare_dead();
                // Who finds out may die of it; it has a part as well.
                second.live(fuel, |me| heap.latch().wait(me)).is_some()
            }
        });
        let told = heap.latch().wait(own.me());
        assert!(matches!(told, Err(LatchError::Broken { .. })), "{told:?}");
        let survived = other.join().unwrap();
        assert_eq!(heap.latch().wait(own.me()), told);
        !survived
    });
}

#[test]
#[should_panic(expected = "Broken")]
fn a_verdict_on_the_living_breaks_it() {
    explore(Sleeps::Sliced, 3, || {
        let heap = Arc::new(LatchHeap::new(1));
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let other = thread::spawn({
            let (heap, slow) = (Arc::clone(&heap), Arc::clone(&slow));
            move || heap.latch().part(slow.me()).expect("one is left").count_down()
        });
        slow.declare_dead();
        heap.latch().wait(own.me()).unwrap();
        other.join().unwrap().unwrap();
    });
}
