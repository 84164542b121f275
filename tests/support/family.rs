//! Every type of the synchronisation family: at work between processes, and in each form that has a time limit.
//!
//! Tests run these where something is out of the ordinary: signals all the time, system calls forbidden, no /dev/shm.

use std::time::{Duration, Instant};

use procession::sync::{Event, Lock, Mutex, wait_any, wait_any_timeout};
use procession::{GetError, PutError, Queue};
use procession_core::sync::AcquireError;

use crate::support::{Child, LONG, Word};

/// How many processes share an object.
pub const PROCESSES: usize = 4;

/// Starts [`PROCESSES`] children that first call `before` and then `body` with their number, and waits for their ends.
fn crowd(before: &dyn Fn(), body: &dyn Fn(usize)) {
    let run = |number| {
        Child::start(|| {
            before();
            body(number);
        })
    };
    let children: Vec<Child> = (0..PROCESSES).map(run).collect();
    children.into_iter().for_each(Child::finish);
}

/// Adds one by load and store: two at a time would show.
fn add_one(sum: Word) {
    sum.set(sum.get() + 1);
}

/// Each type at work: some processes, which call `before` first, share an object of it. Fails if one does anything that
/// it must not: come too early, or twice, or never.
pub fn work(rounds: u64, before: &dyn Fn()) {
    locks(rounds, before);
    events(rounds, before);
    any_of(rounds, before);
    queues(rounds, before);
}

fn locks(rounds: u64, before: &dyn Fn()) {
    let (lock, sum) = (Lock::new().unwrap(), Word::new());
    let mutex = Mutex::new(0u64).unwrap();
    crowd(before, &|number| {
        for round in 0..rounds {
            let guard = match round % 3 {
                0 => lock.acquire(),
                1 => lock.acquire_timeout(LONG),
                _ => loop {
                    match lock.try_acquire() {
                        Err(AcquireError::WouldBlock) => std::thread::yield_now(),
                        answer => break answer,
                    }
                },
            };
            add_one(sum);
            match round % 7 {
                0 => {
                    guard.unwrap().detach();
                    lock.release().unwrap();
                }
                _ => drop(guard.unwrap()),
            }
            match (round + number as u64) % 2 {
                0 => *mutex.lock().unwrap() += 1,
                _ => *mutex.lock_timeout(LONG).unwrap() += 1,
            }
        }
    });
    let all = rounds * PROCESSES as u64;
    assert_eq!((sum.get(), *mutex.try_lock().unwrap()), (all, all));
    assert!(!lock.locked());
}

fn events(rounds: u64, before: &dyn Fn()) {
    // In pairs: there and back.
    let pairs: [[Event; 2]; PROCESSES / 2] =
        std::array::from_fn(|_| std::array::from_fn(|_| Event::new().unwrap()));
    let turns = Word::new();
    crowd(before, &|number| {
        let [mine, its] = match (&pairs[number / 2], number % 2) {
            ([one, other], 0) => [one, other],
            ([one, other], _) => [other, one],
        };
        for round in 0..rounds {
            if number % 2 == 0 {
                its.set();
            }
            match round % 2 {
                0 => mine.wait(),
                _ => assert!(mine.wait_timeout(LONG), "the time is not up"),
            }
            assert!(mine.is_set(), "nobody else clears it");
            mine.clear();
            turns.count();
            if number % 2 == 1 {
                its.set();
            }
        }
    });
    assert_eq!(turns.get(), rounds * PROCESSES as u64);
}

fn any_of(rounds: u64, before: &dyn Fn()) {
    let (ring, locks) = (Event::new().unwrap(), [Lock::new().unwrap(), Lock::new().unwrap()]);
    let sums = [Word::new(), Word::new()];
    crowd(before, &|number| {
        for round in 0..rounds {
            // Who asks for both gets one of them, whichever is free.
            loop {
                let ready = match round % 2 {
                    0 => wait_any(&[&ring, &locks[0], &locks[1]]),
                    _ => wait_any_timeout(&[&ring, &locks[0], &locks[1]], LONG),
                };
                let at = ready.expect("the time is not up") - 1;
                if let Ok(_guard) = locks[at].try_acquire() {
                    add_one(sums[at]);
                    if number == 0 {
                        std::thread::yield_now();
                    }
                    break;
                }
            }
        }
    });
    assert_eq!(sums[0].get() + sums[1].get(), rounds * PROCESSES as u64);
}

fn queues(rounds: u64, before: &dyn Fn()) {
    let queue = Queue::<u64>::bounded(2).unwrap();
    let sum = Word::new();
    crowd(before, &|number| {
        for round in 1..=rounds {
            match (number % 2, round % 2) {
                (0, 0) => queue.put(&round).unwrap(),
                (0, _) => queue.put_timeout(&round, LONG).unwrap(),
                (_, 0) => sum.add(queue.get().unwrap()),
                (_, _) => sum.add(queue.get_timeout(LONG).unwrap()),
            }
        }
    });
    assert_eq!(sum.get(), PROCESSES as u64 / 2 * rounds * (rounds + 1) / 2);
}

/// Hands each call that has a time limit to `check`, with its name, in a situation in which it waits in vain. Calling it
/// says whether it found that its time was up.
pub fn timed(check: &dyn Fn(&str, &dyn Fn(Duration) -> bool)) {
    let (lock, mutex) = (Lock::new().unwrap(), Mutex::new(0u8).unwrap());
    let (_held, _locked) = (lock.acquire().unwrap(), mutex.lock().unwrap());
    let event = Event::new().unwrap();
    let (empty, full) = (Queue::<u8>::bounded(1).unwrap(), Queue::<u8>::bounded(1).unwrap());
    full.put(&0).unwrap();
    check("Lock::acquire_timeout", &|time| {
        matches!(lock.acquire_timeout(time), Err(AcquireError::TimedOut))
    });
    check("Mutex::lock_timeout", &|time| {
        matches!(mutex.lock_timeout(time), Err(AcquireError::TimedOut))
    });
    check("Event::wait_timeout", &|time| !event.wait_timeout(time));
    check("wait_any_timeout", &|time| wait_any_timeout(&[&lock, &event, &mutex], time).is_none());
    check("Queue::get_timeout", &|time| matches!(empty.get_timeout(time), Err(GetError::TimedOut)));
    check("Queue::put_timeout", &|time| {
        matches!(full.put_timeout(&0, time), Err(PutError::TimedOut))
    });
}

/// Each timed form runs out of time when it should: never before, and, in the best of some attempts, little later.
pub fn time_is_kept(time: Duration) {
    timed(&|name, call| {
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let begin = Instant::now();
            assert!(call(time), "{name}: another answer than that the time is up");
            let took = begin.elapsed();
            assert!(took >= time, "{name} came back after {took:?} of {time:?}");
            assert!(took < time + LONG / 4, "{name} took {took:?} for {time:?}");
            best = best.min(took);
            // Only a machine under load is asked again.
            if best < time + time / 4 {
                return;
            }
        }
        panic!("{name} takes {best:?} for {time:?}, at best");
    });
}
