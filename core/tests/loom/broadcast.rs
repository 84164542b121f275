//! One to many: each reader sees every item, whole and in order, or knows how many it has missed; nobody waits for the dead.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use procession_core::queue::model::BroadcastHeap;
use procession_core::queue::{
    Broadcast, PublishError, Publisher, ReceiveError, RoleError, Slow, Start, Subscriber,
};
use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::sys::model::{self, Mutation, Sleeps};

use crate::world::{Process, explore, explore_deaths};

/// Two words that belong together.
type Pair = [u64; 2];
type Cast = Arc<BroadcastHeap<Pair>>;

fn pair(number: u64) -> Pair {
    [number, !number]
}

fn number(pair: Pair) -> u64 {
    assert_eq!(pair[1], !pair[0], "a mixture");
    pair[0]
}

fn cast(capacity: u64, slow: Slow) -> Cast {
    Arc::new(BroadcastHeap::new(capacity, 3, slow))
}

/// A process with a thread of its own.
fn spawn<R: 'static>(
    cast: &Cast,
    life: impl for<'a> FnOnce(Broadcast<'a, Pair>, Member<'a>) -> R + 'static,
) -> JoinHandle<R> {
    let (cast, process) = (Arc::clone(cast), Process::new());
    thread::spawn(move || life(cast.cast(), process.me()))
}

/// A reader with a thread of its own, which has subscribed before anything is published.
fn reader<R: 'static>(
    cast: &Cast,
    life: impl FnOnce(&Subscriber<'static, Pair>) -> R + 'static,
) -> JoinHandle<R> {
    let (cast, process) = (Arc::clone(cast), Arc::new(Process::new()));
    let reader = cast.cast().subscribe(process.me(), Start::Next).expect("room for a reader");
    // SAFETY: what it refers to is kept by the thread until after it has been dropped.
    let reader: Subscriber<'static, Pair> = unsafe { std::mem::transmute(reader) };
    let reader = AssertSend(reader);
    thread::spawn(move || {
        let reader = reader;
        let answer = life(&reader.0);
        drop(reader);
        drop((cast, process));
        answer
    })
}

/// The threads of a model are coroutines of one thread of the machine.
struct AssertSend<T>(T);

fn publisher<'a>(cast: Broadcast<'a, Pair>, me: Member<'a>) -> Publisher<'a, Pair> {
    cast.publisher(me).expect("nobody living has it")
}

/// Reads until the end: each next number, or so many missed. How far that was.
fn read_all(reader: &Subscriber<'_, Pair>, mut next: u64) -> u64 {
    loop {
        match reader.recv() {
            Ok(item) => {
                assert_eq!(number(item), next, "out of order");
                next += 1;
            }
            Err(ReceiveError::Missed { count }) => next += count,
            Err(ReceiveError::Closed) => return next,
            Err(error) => panic!("{error}"),
        }
    }
}

/// So many items to two readers, one of which is the main thread.
fn to_two(capacity: u64, count: u64, slow: Slow) {
    let cast = cast(capacity, slow);
    let own = Process::new();
    let mine = cast.cast().subscribe(own.me(), Start::Next).unwrap();
    let other = reader(&cast, |reader| read_all(reader, 0));
    let sender = spawn(&cast, move |cast, me| {
        let end = publisher(cast, me);
        (0..count).for_each(|item| end.publish(pair(item)).expect("open and sound"));
        end.close();
    });
    assert_eq!(read_all(&mine, 0), count);
    assert_eq!(other.join().unwrap(), count);
    sender.join().unwrap();
}

/// So many items to one reader, which is the main thread.
fn to_one(capacity: u64, count: u64, slow: Slow) {
    let cast = cast(capacity, slow);
    let own = Process::new();
    let mine = cast.cast().subscribe(own.me(), Start::Next).unwrap();
    let sender = spawn(&cast, move |cast, me| {
        let end = publisher(cast, me);
        (0..count).for_each(|item| end.publish(pair(item)).expect("open and sound"));
        end.close();
    });
    assert_eq!(read_all(&mine, 0), count);
    sender.join().unwrap();
}

#[test]
fn one_reads_all() {
    explore(Sleeps::Endless, 2, || to_one(1, 2, Slow::Block));
}

#[test]
fn one_reads_all_round_after_round() {
    explore(Sleeps::Endless, 1, || to_one(2, 4, Slow::Block));
}

#[test]
fn two_read_all() {
    explore(Sleeps::Endless, 1, || to_two(1, 2, Slow::Block));
}

/// So many items beside a reader that tries as often, and then reads the rest.
fn beside_one(capacity: u64, count: u64) {
    let cast = cast(capacity, Slow::Lose);
    let own = Process::new();
    let mine = cast.cast().subscribe(own.me(), Start::Next).unwrap();
    let sender = spawn(&cast, move |cast, me| {
        let end = publisher(cast, me);
        (0..count).for_each(|item| end.publish(pair(item)).expect("open and sound"));
    });
    let mut next = 0;
    for _ in 0..count {
        next += step(&mine, next);
    }
    sender.join().unwrap();
    while next < count {
        next += step(&mine, next);
    }
}

/// Tries to read: by how many items it got on.
fn step(reader: &Subscriber<'_, Pair>, next: u64) -> u64 {
    match reader.try_recv() {
        Ok(item) => {
            assert_eq!(number(item), next, "out of order");
            1
        }
        Err(ReceiveError::Missed { count }) => count,
        Err(ReceiveError::Empty) => 0,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn who_is_overtaken_knows_it() {
    explore(Sleeps::Endless, 3, || beside_one(1, 2));
    explore(Sleeps::Endless, 2, || beside_one(2, 4));
    explore(Sleeps::Endless, 1, || to_one(1, 2, Slow::Lose));
}

#[test]
fn two_are_overtaken() {
    explore(Sleeps::Endless, 1, || {
        let cast = cast(1, Slow::Lose);
        let own = Process::new();
        let mine = cast.cast().subscribe(own.me(), Start::Next).unwrap();
        let other = reader(&cast, |reader| step(reader, 0));
        let sender = spawn(&cast, |cast, me| {
            let end = publisher(cast, me);
            (0..2).for_each(|item| end.publish(pair(item)).expect("open and sound"));
        });
        let next = step(&mine, 0);
        step(&mine, next);
        other.join().unwrap();
        sender.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_somebody_sleeps_beside_an_item() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        to_one(1, 2, Slow::Block);
    });
}

#[test]
#[should_panic(expected = "mixture")]
fn without_fences_who_is_overtaken_reads_a_mixture() {
    explore(Sleeps::Sliced, 3, || {
        model::mutate(Mutation::NoFences);
        beside_one(1, 2);
    });
}

#[test]
#[should_panic]
fn without_order_an_item_is_torn() {
    explore(Sleeps::Sliced, 3, || {
        model::mutate(Mutation::NoOrder);
        to_one(1, 2, Slow::Block);
    });
}

#[test]
fn batches_are_seen_as_a_whole() {
    explore(Sleeps::Endless, 1, || {
        let cast = cast(2, Slow::Block);
        let own = Process::new();
        let mine = cast.cast().subscribe(own.me(), Start::Next).unwrap();
        let sender = spawn(&cast, |cast, me| {
            let end = publisher(cast, me);
            let items: Vec<_> = (0..4).map(pair).collect();
            let mut done = 0;
            while done < 4 {
                done += end.publish_many(Deadline::NEVER, &items[done..]).unwrap();
            }
            end.close();
        });
        let (mut next, mut room) = (0, [pair(0); 3]);
        loop {
            match mine.recv_many(Deadline::NEVER, &mut room) {
                Ok(count) => {
                    for item in &room[..count] {
                        assert_eq!(number(*item), next);
                        next += 1;
                    }
                }
                Err(error) => break assert_eq!(error, ReceiveError::Closed),
            }
        }
        assert_eq!(next, 4);
        sender.join().unwrap();
    });
}

/// One that joins while another publishes: what it reads has no gap, and reaches the end.
fn joins(capacity: u64, start: Start) {
    let cast = cast(capacity, Slow::Block);
    let own = Process::new();
    let sender = spawn(&cast, |cast, me| {
        let end = publisher(cast, me);
        (0..3).for_each(|item| end.publish(pair(item)).expect("open and sound"));
        end.close();
    });
    let mine = cast.cast().subscribe(own.me(), start).unwrap();
    let mut next = None;
    loop {
        match mine.recv() {
            Ok(item) => {
                assert!(next.is_none_or(|next| next == number(item)), "a gap");
                next = Some(number(item) + 1);
            }
            Err(ReceiveError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(next.is_none_or(|next| next == 3), "stopped halfway");
    sender.join().unwrap();
}

#[test]
fn who_joins_late_misses_nothing_from_there_on() {
    explore(Sleeps::Endless, 1, || joins(1, Start::Next));
    explore(Sleeps::Endless, 1, || joins(2, Start::Oldest));
}

#[test]
#[should_panic]
fn who_joins_without_fences_is_overwritten() {
    explore(Sleeps::Sliced, 3, || {
        model::mutate(Mutation::NoFences);
        joins(1, Start::Next);
    });
}

#[test]
fn who_leaves_lets_the_publisher_go_on() {
    explore(Sleeps::Endless, 2, || {
        let cast = cast(1, Slow::Block);
        let own = Process::new();
        let leaving = reader(&cast, |reader| reader.recv().map(number));
        let end = publisher(cast.cast(), own.me());
        (0..3).for_each(|item| end.publish(pair(item)).expect("open and sound"));
        assert_eq!(leaving.join().unwrap(), Ok(0));
    });
}

#[test]
fn the_role_is_had_by_one() {
    explore(Sleeps::Endless, 3, || {
        let cast = cast(1, Slow::Lose);
        let own = Process::new();
        // Kept for good: what counts is who got it.
        let other = spawn(&cast, |cast, me| cast.publisher(me).map(std::mem::forget).is_ok());
        let mine = cast.cast().publisher(own.me());
        assert!(matches!(mine, Ok(_) | Err(RoleError::Taken { .. })));
        assert!(mine.map(std::mem::forget).is_ok() != other.join().unwrap());
    });
}

// Deaths.

/// A publisher dies anywhere, or gets by; another takes its place. The reader sees all that was acknowledged, in order, and
/// nothing in part.
fn a_publisher_dies(fuel: u32, slow: Slow, many: bool) -> bool {
    let cast = cast(2, slow);
    let own = Process::new();
    let mine = cast.cast().subscribe(own.me(), Start::Next).unwrap();
    let dying = {
        let (cast, process) = (Arc::clone(&cast), Process::new());
        thread::spawn(move || {
            let mut done = 0;
            let survived = process.live(fuel, |me| {
                let end = publisher(cast.cast(), me);
                if many {
                    done += end.publish_many(Deadline::NEVER, &[pair(0), pair(1)]).unwrap() as u64;
                } else {
                    for item in 0..2 {
                        end.publish(pair(item)).expect("open and sound");
                        done += 1;
                    }
                }
            });
            (done, survived.is_some())
        })
    };
    // Whatever is there by now.
    let mut read: Vec<_> = std::iter::from_fn(|| mine.try_recv().ok().map(number)).collect();
    let (done, survived) = dying.join().unwrap();
    let next = publisher(cast.cast(), own.me());
    while let Ok(item) = mine.try_recv() {
        read.push(number(item));
    }
    assert!(read.len() as u64 >= done, "lost: {read:?} of {done}");
    assert_eq!(read, [0, 1][..read.len()]);
    assert!(!many || read.len() != 1, "half a batch");
    for item in 10..13 {
        next.try_publish(pair(item)).unwrap();
        assert_eq!(mine.try_recv().map(number), Ok(item));
    }
    !survived
}

#[test]
fn a_publisher_may_die_anywhere() {
    explore_deaths(2, |fuel| a_publisher_dies(fuel, Slow::Block, false));
    explore_deaths(2, |fuel| a_publisher_dies(fuel, Slow::Lose, false));
}

#[test]
fn a_publisher_of_batches_may_die_anywhere() {
    explore_deaths(2, |fuel| a_publisher_dies(fuel, Slow::Block, true));
}

/// A reader that dies after so many accesses, joining included.
fn dying_reader(cast: &Cast, fuel: u32) -> JoinHandle<bool> {
    let (cast, process) = (Arc::clone(cast), Process::new());
    thread::spawn(move || {
        let life = |me: Member<'_>| {
            let reader = cast.cast().subscribe(me, Start::Oldest).expect("room for a reader");
            let _ = (reader.try_recv(), reader.try_recv());
        };
        // Dropping a guard while dying releases nothing.
        process.live(fuel, life).is_some()
    })
}

#[test]
fn a_reader_may_die_anywhere() {
    explore_deaths(1, |fuel| {
        let cast = cast(1, Slow::Block);
        let own = Process::new();
        let dying = dying_reader(&cast, fuel);
        let end = publisher(cast.cast(), own.me());
        (0..2).for_each(|item| end.publish(pair(item)).expect("open and sound"));
        let survived = dying.join().unwrap();
        (2..4).for_each(|item| end.publish(pair(item)).expect("open and sound"));
        cast.cast().sweep(own.me()).unwrap();
        assert_eq!(cast.cast().readers(), 0);
        !survived
    });
}

#[test]
fn a_reader_may_die_beside_another() {
    explore_deaths(1, |fuel| {
        let cast = cast(1, Slow::Block);
        let own = Process::new();
        let living = reader(&cast, |reader| step(reader, 0));
        let dying = dying_reader(&cast, fuel);
        let end = publisher(cast.cast(), own.me());
        (0..2).for_each(|item| end.publish(pair(item)).expect("open and sound"));
        living.join().unwrap();
        !dying.join().unwrap()
    });
}

#[test]
fn who_frees_a_dead_readers_cell_may_die_too() {
    explore_deaths(1, |fuel| {
        let cast = cast(1, Slow::Block);
        let (own, gone) = (Process::new(), Process::new());
        std::mem::forget(cast.cast().subscribe(gone.me(), Start::Next).unwrap());
        gone.declare_dead();
        let dying = {
            let (cast, process) = (Arc::clone(&cast), Process::new());
            thread::spawn(move || {
                let life = |me: Member<'_>| {
                    let end = publisher(cast.cast(), me);
                    // It may have to wait for the one that has just come, and does not.
                    let _ = (end.try_publish(pair(0)), end.try_publish(pair(1)));
                };
                process.live(fuel, life).is_some()
            })
        };
        // It finds a cell, whoever is just freeing one.
        let mine = cast.cast().subscribe(own.me(), Start::Next).unwrap();
        let survived = dying.join().unwrap();
        drop(mine);
        let end = publisher(cast.cast(), own.me());
        (2..5).for_each(|item| end.publish(pair(item)).expect("open and sound"));
        cast.cast().sweep(own.me()).unwrap();
        assert_eq!(cast.cast().readers(), 0);
        !survived
    });
}

#[test]
#[should_panic]
fn a_verdict_on_the_living_lets_the_publisher_write_under_it() {
    explore(Sleeps::Sliced, 2, || {
        let cast = cast(1, Slow::Block);
        let (own, slow) = (Process::new(), Arc::new(Process::new()));
        let end = publisher(cast.cast(), own.me());
        let other = thread::spawn({
            let (cast, slow) = (Arc::clone(&cast), Arc::clone(&slow));
            move || {
                let reader = cast.cast().subscribe(slow.me(), Start::Oldest).unwrap();
                if let Ok(item) = reader.try_recv() {
                    number(item);
                }
            }
        });
        end.publish(pair(0)).unwrap();
        slow.declare_dead();
        let _ = end.publish(pair(1));
        other.join().unwrap();
    });
}

#[test]
fn full_is_true() {
    // One place, read before and after: either full or not.
    explore(Sleeps::Endless, 2, || {
        let cast = cast(1, Slow::Block);
        let own = Process::new();
        let other = reader(&cast, |reader| {
            assert_eq!(reader.recv().map(number), Ok(0));
            reader.try_recv().map(number).unwrap_or(1)
        });
        let end = publisher(cast.cast(), own.me());
        end.publish(pair(0)).unwrap();
        match end.try_publish(pair(1)) {
            Ok(()) | Err(PublishError::Full) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(other.join().unwrap(), 1);
    });
}
