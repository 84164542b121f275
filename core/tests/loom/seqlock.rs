//! The cell that is read more often than written: no reader sees a mixture, no write is lost, and the dead have written
//! either all or nothing.

use std::sync::Arc;

use loom::thread;
use procession_core::region::Member;
use procession_core::sync::SeqLock;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

/// Two words that belong together.
type Pair = [u64; 2];

fn pair(number: u64) -> Pair {
    [number, !number]
}

fn number(pair: Pair) -> u64 {
    assert_eq!(pair[1], !pair[0], "a mixture");
    pair[0]
}

fn add(cell: &SeqLock<Pair>, me: Member<'_>) {
    cell.update(me, |old| pair(number(old) + 1)).expect("nobody is in the way for ever");
}

/// Reads twice: whole values, and none before an earlier one.
fn look(cell: &SeqLock<Pair>) {
    let first = number(cell.get());
    assert!(number(cell.get()) >= first, "back in time");
}

fn writes_and_reads(writers: u32, each: u32) {
    let cell = Arc::new(SeqLock::new(pair(0)));
    let own = Process::new();
    let others: Vec<_> = (0..writers)
        .map(|_| {
            let (cell, process) = (Arc::clone(&cell), Process::new());
            thread::spawn(move || (0..each).for_each(|_| add(&cell, process.me())))
        })
        .collect();
    look(&cell);
    for other in others {
        other.join().unwrap();
    }
    add(&cell, own.me());
    assert_eq!(number(cell.get()), u64::from(writers * each + 1), "a write was lost");
}

#[test]
fn a_reader_sees_no_mixture() {
    explore(Sleeps::Endless, 3, || writes_and_reads(1, 2));
}

#[test]
fn two_writers_and_a_reader() {
    explore(Sleeps::Endless, 2, || writes_and_reads(2, 1));
}

#[test]
fn two_writers_lose_nothing() {
    explore(Sleeps::Endless, 2, || {
        let cell = Arc::new(SeqLock::new(pair(0)));
        let own = Process::new();
        let other = thread::spawn({
            let (cell, process) = (Arc::clone(&cell), Process::new());
            move || (0..2).for_each(|_| add(&cell, process.me()))
        });
        (0..2).for_each(|_| add(&cell, own.me()));
        other.join().unwrap();
        assert_eq!(number(cell.get()), 4, "a write was lost");
    });
}

#[test]
#[should_panic(expected = "a mixture")]
fn without_fences_a_reader_sees_a_mixture() {
    explore(Sleeps::Sliced, 3, || {
        model::mutate(Mutation::NoFences);
        writes_and_reads(1, 2);
    });
}

#[test]
#[should_panic(expected = "a mixture")]
fn without_order_a_reader_sees_a_mixture() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoOrder);
        writes_and_reads(1, 2);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        let cell = Arc::new(SeqLock::new(0u64));
        let own = Process::new();
        let other = thread::spawn({
            let (cell, process) = (Arc::clone(&cell), Process::new());
            move || cell.set(process.me(), 1).unwrap()
        });
        cell.set(own.me(), 2).unwrap();
        other.join().unwrap();
    });
}

/// Adds one, and dies after `fuel` accesses. Whether it got by.
fn victim(cell: &SeqLock<Pair>, process: &Process, fuel: u32) -> bool {
    process.live(fuel, |me| add(cell, me)).is_some()
}

#[test]
fn a_dead_writer_has_written_all_or_nothing() {
    explore_deaths(2, |fuel| {
        let cell = Arc::new(SeqLock::new(pair(0)));
        let (own, mortal) = (Process::new(), Process::new());
        let other = thread::spawn({
            let cell = Arc::clone(&cell);
            move || victim(&cell, &mortal, fuel)
        });
        look(&cell);
        add(&cell, own.me());
        let alive = other.join().unwrap();
        add(&cell, own.me());
        let sum = number(cell.get());
        assert!(sum == 3 || sum == 2 && !alive, "a write was lost");
        !alive
    });
}

#[test]
fn a_death_during_recovery() {
    explore_deaths(1, |fuel| {
        let cell = Arc::new(SeqLock::new(pair(0)));
        let own = Process::new();
        let victims = [HALFWAY, fuel].map(|fuel| {
            let (cell, process) = (Arc::clone(&cell), Process::new());
            thread::spawn(move || victim(&cell, &process, fuel))
        });
        look(&cell);
        let alive = victims.map(|victim| victim.join().unwrap());
        add(&cell, own.me());
        let sum = number(cell.get());
        let least = 1 + alive.iter().filter(|alive| **alive).count() as u64;
        assert!((least..=3).contains(&sum), "a write was lost");
        !alive[1]
    });
}

/// With so much fuel a writer that finds nobody in the way dies between the two words: it looks at the word, claims it, reads
/// two words, looks at the word again, fences, and writes.
const HALFWAY: u32 = 1 + 1 + 2 + 1 + 1 + 1;

#[test]
#[should_panic(expected = "a write was lost")]
fn a_verdict_on_the_living_loses_a_write() {
    explore(Sleeps::Sliced, 3, || {
        let cell = Arc::new(SeqLock::new(0u64));
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let other = thread::spawn({
            let (cell, slow) = (Arc::clone(&cell), Arc::clone(&slow));
            move || cell.update(slow.me(), |n| n + 1).is_ok()
        });
        slow.declare_dead();
        let _ = cell.update(own.me(), |n| n + 1);
        other.join().unwrap();
        assert_eq!(cell.get(), 2, "a write was lost");
    });
}
