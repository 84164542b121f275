//! Every type of the synchronisation family: at work between processes, and in each form that has a time limit.
//!
//! Tests run these where something is out of the ordinary: signals all the time, system calls forbidden, no /dev/shm.

use std::time::{Duration, Instant};

use std::sync::atomic::Ordering::SeqCst;

use procession::sync::{
    Atomic, Barrier, BarrierError, BoundedSemaphore, Condition, Deadline, Event, Latch, LatchError,
    Lock, Mutex, Once, OnceError, PermitError, RLock, RwData, RwLock, Semaphore, SeqLock,
    UpgradeError, WaitError, wait_any, wait_any_timeout,
};
use procession::{GetError, PutError, Queue};
use procession_core::sync::AcquireError;

use crate::support::{Child, LONG, Word, quick_at_best, sleep_forever};

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
    levels(rounds, before);
    conditions(rounds, before);
    permits(rounds, before);
    latches(rounds, before);
    barriers(rounds, before);
    onces(rounds, before);
    readers_and_writers(rounds, before);
    cells(rounds, before);
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
            let got = match (number % 2, round % 2) {
                (0, 0) => queue.put(&round).map(|()| 0).unwrap(),
                (0, _) => queue.put_timeout(&round, LONG).map(|()| 0).unwrap(),
                (_, 0) => queue.get().unwrap(),
                (_, _) => queue.get_timeout(LONG).unwrap(),
            };
            sum.add(got);
        }
    });
    assert_eq!(sum.get(), PROCESSES as u64 / 2 * rounds * (rounds + 1) / 2);
}

fn levels(rounds: u64, before: &dyn Fn()) {
    let (lock, sum) = (RLock::new().unwrap(), Word::new());
    crowd(before, &|_| {
        for round in 0..rounds {
            let outer = match round % 2 {
                0 => lock.acquire(),
                _ => lock.acquire_timeout(LONG),
            };
            let outer = outer.unwrap();
            let inner = lock.try_acquire().unwrap();
            add_one(sum);
            drop(outer);
            assert_eq!(lock.depth(), 1);
            add_one(sum);
            drop(inner);
        }
    });
    assert_eq!(sum.get(), 2 * rounds * PROCESSES as u64);
    assert!(!lock.locked());
}

fn conditions(rounds: u64, before: &dyn Fn()) {
    // Half of them produce, half of them consume, in turn by notifications alone: nobody looks twice. So a wait that ends
    // without a notification shows, and so does one that does not end.
    let lock = RLock::new().unwrap();
    let [more, less] = [(); 2].map(|()| Condition::with_rlock(&lock).unwrap());
    let (stock, notified, woken) = (Word::new(), Word::new(), Word::new());
    crowd(before, &|number| {
        let (mine, other) = if number % 2 == 0 { (&less, &more) } else { (&more, &less) };
        let blocked = || stock.get() == if number % 2 == 0 { 2 } else { 0 };
        for round in 0..rounds {
            let mut guard = mine.acquire_timeout(LONG).unwrap();
            while blocked() {
                match round % 2 {
                    0 => guard.wait().unwrap(),
                    _ => assert!(guard.wait_timeout(LONG).unwrap(), "the time is not up"),
                }
                woken.set(woken.get() + 1);
            }
            stock.set(if number % 2 == 0 { stock.get() + 1 } else { stock.get() - 1 });
            // The lock is recursive.
            let told = other.acquire().unwrap().notify_one().unwrap();
            notified.set(notified.get() + u64::from(told));
        }
    });
    assert_eq!((stock.get(), woken.get()), (0, notified.get()));
}

fn permits(rounds: u64, before: &dyn Fn()) {
    let (bounded, semaphore) = (BoundedSemaphore::new(2).unwrap(), Semaphore::new(2).unwrap());
    let inside = [Word::new(), Word::new()];
    let stay = |inside: Word| {
        assert!(inside.add(1) < 2, "more than two are inside");
        std::hint::spin_loop();
        inside.add(u64::MAX);
    };
    crowd(before, &|_| {
        for round in 0..rounds {
            let permit = match round % 2 {
                0 => bounded.acquire(),
                _ => bounded.acquire_timeout(LONG),
            };
            let permit = permit.unwrap();
            stay(inside[0]);
            match round % 5 {
                0 => {
                    permit.detach().unwrap();
                    bounded.release().unwrap();
                }
                _ => drop(permit),
            }
            match round % 2 {
                0 => semaphore.take().unwrap(),
                _ => semaphore.take_timeout(LONG).unwrap(),
            }
            stay(inside[1]);
            semaphore.release().unwrap();
        }
    });
    assert_eq!((bounded.value(), semaphore.value()), (2, 2));
    assert!(bounded.release().is_err(), "more came back than there were");
}

fn latches(rounds: u64, before: &dyn Fn()) {
    let latches: Vec<Latch> =
        (0..rounds.min(200)).map(|_| Latch::new(PROCESSES as u32).unwrap()).collect();
    let done = Word::new();
    crowd(before, &|number| {
        for (round, latch) in latches.iter().enumerate() {
            done.count();
            match (number + round) % 2 {
                0 => latch.count_down().unwrap(),
                _ => latch.part().unwrap().count_down().unwrap(),
            }
            match round % 2 {
                0 => latch.wait().unwrap(),
                _ => latch.wait_timeout(LONG).unwrap(),
            }
            assert!(
                done.get() >= ((round + 1) * PROCESSES) as u64,
                "it opened before all were done"
            );
        }
    });
    assert!(latches.iter().all(Latch::is_open));
}

fn barriers(rounds: u64, before: &dyn Fn()) {
    let barrier = Barrier::new(PROCESSES as u32).unwrap();
    let arrived: [Word; PROCESSES] = std::array::from_fn(|_| Word::new());
    let passed: [Word; PROCESSES] = std::array::from_fn(|_| Word::new());
    let acted = Word::new();
    crowd(before, &|number| {
        for round in 1..=rounds {
            arrived[number].set(round);
            let index = match round % 3 {
                0 => barrier.wait(),
                1 => barrier.wait_timeout(LONG),
                _ => barrier.wait_with(Deadline::after(LONG), || {
                    acted.count();
                    Ok(())
                }),
            };
            passed[index.unwrap()].count();
            assert!(arrived.iter().all(|word| word.get() >= round), "not all have come");
            assert_eq!(acted.get(), (round + 1) / 3, "the action runs before anybody passes, once");
            // So that the next action waits for all to have looked.
            barrier.wait().unwrap();
        }
    });
    assert!(passed.iter().all(|word| word.get() == rounds), "each index once in each generation");
}

fn onces(rounds: u64, before: &dyn Fn()) {
    let onces: Vec<Once> = (0..rounds.min(500)).map(|_| Once::new().unwrap()).collect();
    let (runs, told) = (Word::new(), Word::new());
    crowd(before, &|number| {
        for (round, once) in onces.iter().enumerate() {
            let run = |again: bool| {
                assert!(!again, "nobody has failed");
                runs.count();
            };
            match (number + round) % 3 {
                0 => drop(told.add(u64::from(once.call(run).unwrap()))),
                1 => drop(told.add(u64::from(once.call_timeout(LONG, run).unwrap()))),
                _ => once.wait_timeout(LONG).unwrap(),
            }
            assert!(once.is_done() && runs.get() > round as u64);
        }
    });
    assert_eq!([runs.get(), told.get()], [onces.len() as u64; 2]);
}

fn readers_and_writers(rounds: u64, before: &dyn Fn()) {
    let (lock, sum) = (RwLock::new().unwrap(), Word::new());
    let data = RwData::new([0u64; 2]).unwrap();
    crowd(before, &|number| {
        for round in 0..rounds {
            match (round + number as u64) % 4 {
                0 => {
                    let _guard = lock.write_timeout(LONG).unwrap();
                    add_one(sum);
                }
                1 => {
                    let guard = lock.upgradable_read_timeout(LONG).unwrap();
                    let before = sum.get();
                    let guard = guard.upgrade().map_err(|not| not.error()).unwrap();
                    assert_eq!(sum.get(), before, "somebody wrote in between");
                    add_one(sum);
                    let _guard = guard.downgrade();
                    assert_eq!(sum.get(), before + 1, "somebody wrote in between");
                }
                2 => {
                    let _guard = lock.read().unwrap();
                    let before = sum.get();
                    std::thread::yield_now();
                    assert_eq!(sum.get(), before, "somebody wrote meanwhile");
                }
                _ => drop(lock.read_timeout(LONG).unwrap()),
            }
            match round % 2 {
                0 => data.write().unwrap().iter_mut().for_each(|word| *word += 1),
                _ => {
                    let pair = data.read_timeout(LONG).unwrap();
                    assert_eq!(pair[0], pair[1], "torn");
                }
            }
        }
    });
    let half = rounds * PROCESSES as u64 / 2;
    assert_eq!(sum.get(), half);
    assert_eq!(*data.try_read().unwrap(), [half; 2]);
    assert!(lock.readers() == 0 && !lock.write_locked());
}

fn cells(rounds: u64, before: &dyn Fn()) {
    let (cell, wide) = (SeqLock::new([0u64; 5]).unwrap(), Atomic::new(0u64).unwrap());
    let narrow: [Atomic<u8>; PROCESSES] = std::array::from_fn(|_| Atomic::new(0).unwrap());
    crowd(before, &|number| {
        for round in 0..rounds {
            match round % 2 {
                0 => cell.update(|words| words.map(|word| word + 1)).unwrap(),
                _ => cell.update_timeout(LONG, |words| words.map(|word| word + 1)).unwrap(),
            };
            let words = cell.get();
            assert!(words[0] > round && words == [words[0]; 5], "{words:?}");
            wide.fetch_add(number as u64, SeqCst);
            // In turn, one after the other: each waits until its neighbour before has come as far.
            let (mine, its) = (&narrow[number], &narrow[(number + PROCESSES - 1) % PROCESSES]);
            let wanted = if number == 0 { round as u8 } else { (round + 1) as u8 };
            let now = match round % 2 {
                0 => its.wait_for(|now| now == wanted),
                _ => its.wait_for_timeout(LONG, |now| now == wanted),
            };
            assert_eq!(now.unwrap(), wanted);
            mine.fetch_add(1, SeqCst);
            mine.notify_all();
        }
    });
    assert_eq!(cell.get(), [rounds * PROCESSES as u64; 5]);
    let sum = (0..PROCESSES as u64).sum::<u64>();
    assert_eq!(wide.load(SeqCst), rounds * sum);
}

/// A call that waits for so long, and says whether it found that its time was up.
type InVain<'a> = &'a dyn Fn(Duration) -> bool;

/// Hands each call that has a time limit to `check`, with its name, in a situation in which it waits in vain. Calling it
/// says whether it found that its time was up.
pub fn timed(check: &dyn Fn(&str, InVain)) {
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
    let (read, written) = (RwLock::new().unwrap(), RwData::new(0u8).unwrap());
    let (_reads, _writes) = (read.read().unwrap(), written.write().unwrap());
    check("RwLock::write_timeout", &|time| {
        matches!(read.write_timeout(time), Err(AcquireError::TimedOut))
    });
    check("RwLockUpgradableReadGuard::upgrade_until", &|time| {
        let guard = read.upgradable_read().unwrap();
        let late = guard.upgrade_until(Deadline::after(time)).map(drop);
        late.is_err_and(|not| not.error() == UpgradeError::TimedOut)
    });
    check("RwData::read_timeout", &|time| {
        matches!(written.read_timeout(time), Err(AcquireError::TimedOut))
    });
    check("RwData::write_timeout", &|time| {
        matches!(written.write_timeout(time), Err(AcquireError::TimedOut))
    });
    let (semaphore, bounded) = (Semaphore::new(0).unwrap(), BoundedSemaphore::new(1).unwrap());
    let _permit = bounded.acquire().unwrap();
    check("Semaphore::take_timeout", &|time| {
        matches!(semaphore.take_timeout(time), Err(WaitError::TimedOut))
    });
    check("BoundedSemaphore::acquire_timeout", &|time| {
        matches!(bounded.acquire_timeout(time), Err(PermitError::TimedOut))
    });
    let latch = Latch::new(1).unwrap();
    let _part = latch.part().unwrap();
    check("Latch::wait_timeout", &|time| latch.wait_timeout(time) == Err(LatchError::TimedOut));
    let barrier = Barrier::new(2).unwrap();
    check("Barrier::wait_timeout", &|time| {
        let answer = barrier.wait_timeout(time);
        // It has broken it.
        barrier.reset().unwrap();
        answer == Err(BarrierError::TimedOut)
    });
    let once = Once::new().unwrap();
    check("Once::wait_timeout", &|time| {
        matches!(once.wait_timeout(time), Err(WaitError::TimedOut))
    });
    check("Once::call_timeout", &|time| {
        let mut late = false;
        let given_up = once.call_with(Deadline::NEVER, |_| {
            late = once.call_timeout(time, |_| ()) == Err(OnceError::TimedOut);
            Err(())
        });
        late && given_up == Err(OnceError::Failed(()))
    });
    let cell = SeqLock::new(0u64).unwrap();
    check("SeqLock::set_timeout", &|time| {
        let late = |_| matches!(cell.set_timeout(time, 1), Err(WaitError::TimedOut)).into();
        cell.update(late) == Ok(1)
    });
    let recursive = RLock::new().unwrap();
    let condition = Condition::new().unwrap();
    // This thread itself would get in.
    let _holder = {
        let held = Word::new();
        let holder = Child::start(|| {
            std::mem::forget(recursive.acquire().unwrap());
            held.set(1);
            sleep_forever();
        });
        held.wait();
        holder
    };
    check("RLock::acquire_timeout", &|time| {
        matches!(recursive.acquire_timeout(time), Err(AcquireError::TimedOut))
    });
    check("ConditionGuard::wait_timeout", &|time| {
        condition.acquire().unwrap().wait_timeout(time) == Ok(false)
    });
    check("ConditionGuard::wait_for_timeout", &|time| {
        condition.acquire().unwrap().wait_for_timeout(time, || false) == Ok(false)
    });
    let atomic = Atomic::new(0i8).unwrap();
    check("Atomic::wait_timeout", &|time| {
        matches!(atomic.wait_timeout(0, time), Err(WaitError::TimedOut))
    });
    check("Queue::get_timeout", &|time| matches!(empty.get_timeout(time), Err(GetError::TimedOut)));
    check("Queue::put_timeout", &|time| {
        matches!(full.put_timeout(&0, time), Err(PutError::TimedOut))
    });
}

/// Each timed form runs out of time when it should: never before, and, in the best of some attempts, little later.
pub fn time_is_kept(time: Duration) {
    timed(&|name, call| {
        // Only a machine under load is asked again.
        quick_at_best(time + time / 4 + Duration::from_millis(2), || {
            let begin = Instant::now();
            assert!(call(time), "{name}: another answer than that the time is up");
            let took = begin.elapsed();
            assert!(took >= time, "{name} came back after {took:?} of {time:?}");
            assert!(took < time + LONG / 4, "{name} took {took:?} for {time:?}");
            took
        });
    });
}
