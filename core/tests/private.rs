//! The synchronisation family between the threads of one process, over memory that no other process sees: the same code.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::scope;
use std::time::Duration;

use procession_core::region::{Membership, Place};
use procession_core::sync::*;
use procession_core::sys::Deadline;
use procession_core::wait::wait_any;

const THREADS: u64 = 4;
const TURNS: u64 = 500;

/// Runs `work` in each of so many threads.
fn each(work: impl Fn(u64) + Sync) {
    scope(|threads| {
        for number in 0..THREADS {
            let work = &work;
            threads.spawn(move || work(number));
        }
    });
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[test]
fn locks_of_all_kinds_exclude() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = ([0u64; 64], [0u64; 64]);
    let mutex = Mutex::create(Place::in_memory(&mut memory.0), 0u64).unwrap();
    let data = RwData::create(Place::in_memory(&mut memory.1), [0u64; 2]).unwrap();
    let (lock, recursive, once) = (Lock::new(), RLock::new(), Once::new());
    let (plain, nested, runs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU32::new(0));
    let add = |count: &AtomicU64| count.store(count.load(Relaxed) + 1, Relaxed);
    each(|_| {
        once.call(me, |_| _ = runs.fetch_add(1, Relaxed)).unwrap();
        for turn in 0..TURNS {
            *mutex.lock(me).unwrap() += 1;
            {
                let _guard = lock.acquire(me).unwrap();
                add(&plain);
            }
            {
                let _outer = recursive.acquire(me).unwrap();
                let _inner = recursive.acquire(me).unwrap();
                add(&nested);
            }
            if turn % 8 == 0 {
                let mut pair = data.write(me).unwrap();
                pair[0] += 1;
                pair[1] += 1;
            } else {
                let pair = data.read(me).unwrap();
                assert_eq!(pair[0], pair[1]);
            }
        }
    });
    let all = THREADS * TURNS;
    assert_eq!(*mutex.lock(me).unwrap(), all);
    assert_eq!((plain.into_inner(), nested.into_inner(), runs.into_inner()), (all, all, 1));
    assert_eq!(data.read(me).unwrap()[0], THREADS * TURNS.div_ceil(8));
}

#[test]
fn permits_and_parts_are_counted() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = ([0u64; 64], [0u64; 64]);
    let seats = Semaphore::create_bounded(Place::in_memory(&mut memory.0), 2).unwrap();
    let latch = Latch::create(Place::in_memory(&mut memory.1), THREADS as u32).unwrap();
    let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
    each(|_| {
        for _ in 0..TURNS {
            let _permit = seats.acquire(me).unwrap();
            most.fetch_max(inside.fetch_add(1, Relaxed) + 1, Relaxed);
            inside.fetch_sub(1, Relaxed);
        }
        latch.count_down(me).unwrap();
        latch.wait(me).unwrap();
    });
    assert!(most.into_inner() <= 2);
    assert_eq!(seats.value(), 2);
    assert!(matches!(seats.release(me, 1), Err(ReleaseError::TooMany { .. })));
}

#[test]
fn threads_meet_and_pass_the_word_on() {
    let seat = Membership::private();
    let me = seat.member();
    let mut memory = [0u64; 64];
    let barrier = Barrier::create(Place::in_memory(&mut memory), THREADS as u32).unwrap();
    let (lock, turn_changed) = (Lock::new(), Condition::new());
    let (turn, sum) = (AtomicU64::new(0), AtomicU64::new(0));
    each(|number| {
        for _ in 0..20 {
            sum.fetch_add(barrier.wait(me).unwrap() as u64, Relaxed);
        }
        for round in 0..50 {
            let mut guard = lock.acquire(me).unwrap();
            let mine = round * THREADS + number;
            turn_changed.wait_for(&mut guard, |_| turn.load(Relaxed) == mine).unwrap();
            turn.store(mine + 1, Relaxed);
            turn_changed.notify_all(&guard).unwrap();
        }
    });
    assert_eq!(turn.into_inner(), 50 * THREADS);
    assert_eq!(sum.into_inner(), 20 * (0..THREADS).sum::<u64>());
}

#[test]
fn events_and_numbers_wake() {
    let seat = Membership::private();
    let me = seat.member();
    let (start, stop) = (Event::new(), Event::new());
    let number = Atomic::<u16>::new(0);
    let latest = SeqLock::new([0u64; 4]);
    scope(|threads| {
        let waiter = threads.spawn(|| {
            assert_eq!(wait_any(me, soon(), &[&stop, &start]), Some(1));
            number.wait_for(me, |number| number == 300).unwrap();
            stop.set(me);
        });
        let reader = threads.spawn(|| {
            while !stop.is_set() {
                let seen = latest.get();
                assert!(seen.iter().all(|word| *word == seen[0]));
            }
        });
        start.set(me);
        for turn in 1..=300 {
            latest.set(me, [turn; 4]).unwrap();
            number.fetch_add(1, Relaxed);
            number.notify_all(me);
        }
        waiter.join().unwrap();
        reader.join().unwrap();
    });
    assert_eq!(latest.get(), [300; 4]);
}

/// Spawns a thread and returns once it sleeps.
fn asleep<'scope, R: Send + 'scope>(
    threads: &'scope std::thread::Scope<'scope, '_>,
    work: impl FnOnce() -> R + Send + 'scope,
) -> std::thread::ScopedJoinHandle<'scope, R> {
    let (tell, number) = std::sync::mpsc::channel();
    let thread = threads.spawn(move || {
        // SAFETY: a number, and nothing else.
        tell.send(unsafe { libc::gettid() }).unwrap();
        work()
    });
    let path = format!("/proc/self/task/{}/stat", number.recv().unwrap());
    let deadline = soon();
    while !std::fs::read_to_string(&path).unwrap().contains(") S ") {
        assert!(!deadline.is_past());
        std::thread::yield_now();
    }
    thread
}

#[test]
fn who_only_waits_for_a_once_does_not_take_the_wake_of_the_next() {
    let seat = Membership::private();
    let me = seat.member();
    let once = Once::new();
    scope(|threads| {
        let once = &once;
        let failed = once.call_with(me, soon(), |_| {
            let waiter = asleep(threads, move || once.wait_until(me, soon()));
            Err((waiter, asleep(threads, move || once.call_until(me, soon(), |_| ()))))
        });
        let Err(OnceError::Failed((waiter, caller))) = failed else { panic!("it fails") };
        assert_eq!(caller.join().unwrap(), Ok(true));
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
}
