//! Workers are killed and stopped at random while many tasks run. Each task is done once or reported; where it may be run
//! again, each is done.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use procession::Array;
use procession::pool::{Pool, Retry, TaskError};
use procession::sync::Atomic;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::charge::stay;
use crate::support::random::Random;
use crate::support::{LONG, eventually};
use crate::{full, pids};

const WORKERS: usize = 2;

/// What tasks write into, in memory of which the pool knows nothing.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Ledger {
    /// How often each task was begun.
    begun: Array<u8>,
    /// Whether it was done: the key that says so is the deed itself, so there is no moment between the two.
    done: Array<u8>,
}

impl Ledger {
    fn new(tasks: u64) -> Ledger {
        let array = || Array::new(tasks as usize).unwrap();
        Ledger { begun: array(), done: array() }
    }
}

/// In a worker: its pool's ledger.
static LEDGER: OnceLock<Ledger> = OnceLock::new();

fn keep(ledger: Ledger) {
    assert!(LEDGER.set(ledger).is_ok(), "an initializer runs once");
}

/// Takes no time, mostly; sometimes some microseconds, seldom so long that it is killed in its midst.
fn task(number: u64) -> u64 {
    let ledger = LEDGER.get().expect("the initializer ran first");
    ledger.begun.update(number as usize, |times| times + 1).unwrap();
    let micros = match number % 1000 {
        0 => 300,
        rest => (rest % 5) / 4 * 5,
    };
    let end = Instant::now() + Duration::from_micros(micros);
    while micros > 0 && Instant::now() < end {
        std::hint::spin_loop();
    }
    ledger.done.set(number as usize, 1).unwrap();
    number ^ 7
}

/// Kills a worker every so often while `body` runs, and stops others for a while. How many were killed.
fn besieged(pool: &Pool, every: Duration, body: impl FnOnce()) -> u64 {
    let (stop, kills) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut random = Random::new(procession_core::sys::nanos());
            while !stop.load(Ordering::Relaxed) {
                // No wait for anything: this is what the siege consists of.
                std::thread::sleep(random.micros(2 * every.as_micros() as u64));
                let victims = pids(pool);
                let Some(&victim) = victims.get(random.below(WORKERS as u64) as usize) else {
                    continue;
                };
                let pid = Pid::from_raw(victim as i32).unwrap();
                let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
                // Else the number may be another one's by now.
                if !pids(pool).contains(&victim) {
                    continue;
                }
                if random.one_in(4) {
                    let _ = pidfd_send_signal(&handle, Signal::STOP);
                    std::thread::sleep(random.micros(10_000));
                    let _ = pidfd_send_signal(&handle, Signal::CONT);
                } else if pidfd_send_signal(&handle, Signal::KILL).is_ok() {
                    kills.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // Also when it panics.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _end = End(&stop);
        body();
    });
    kills.into_inner()
}

/// How many tasks, and how often somebody is killed.
fn size() -> (u64, Duration) {
    match full() {
        true => (10_000_000, Duration::from_millis(50)),
        false => (200_000, Duration::from_millis(4)),
    }
}

fn pool(ledger: &Ledger, retry: Retry) -> Pool {
    let builder = Pool::builder().processes(WORKERS).initializer(keep, (ledger.clone(),));
    builder.retry(retry).build().unwrap()
}

pub fn at_most_once() {
    let (tasks, every) = size();
    let ledger = Ledger::new(tasks);
    let pool = pool(&ledger, Retry::never());
    let mut reported = 0;
    let kills = besieged(&pool, every, || {
        let mut results = pool.imap(task, 0..tasks).unwrap();
        for number in 0..tasks {
            let answer = results.next_timeout(LONG).expect("an answer for each");
            let at = number as usize;
            let (begun, done) = (ledger.begun.get(at).unwrap(), ledger.done.get(at).unwrap());
            match answer {
                Ok(answer) => assert_eq!((answer, begun, done), (number ^ 7, 1, 1), "{number}"),
                Err(TaskError::WorkerDied { signal, .. }) => {
                    assert_eq!(signal, Some(Signal::KILL.as_raw()));
                    assert!(begun <= 1 && done <= begun, "task {number}: {begun}, {done}");
                    reported += 1;
                }
                Err(error) => panic!("task {number}: {error}"),
            }
        }
        assert!(results.next().is_none());
    });
    println!("{tasks} tasks, {kills} kills, {reported} tasks reported");
    assert!(reported <= kills, "{reported} tasks were lost by {kills} kills");
    ends(&pool, kills);
}

pub fn at_least_once() {
    let (tasks, every) = size();
    let ledger = Ledger::new(tasks);
    let pool = pool(&ledger, Retry::idempotent(u32::MAX));
    let kills = besieged(&pool, every, || {
        // Part by part, each in another way.
        let tenth = tasks / 10;
        for part in 0..10 {
            let numbers = part * tenth..(part + 1) * tenth;
            let expected = numbers.clone().map(|number| number ^ 7);
            match part % 5 {
                0 => assert!(pool.map(task, numbers).unwrap().into_iter().eq(expected)),
                1 => {
                    let map = pool.map_async(task, numbers).unwrap();
                    assert!(map.get_timeout(6 * LONG).unwrap().into_iter().eq(expected));
                }
                2 => {
                    let answers = pool.imap(task, numbers).unwrap();
                    assert!(answers.map(|answer| answer.unwrap()).eq(expected));
                }
                3 => {
                    let answers = pool.imap_unordered(task, numbers).unwrap();
                    let mut answers: Vec<u64> = answers.map(|answer| answer.unwrap()).collect();
                    answers.sort_unstable_by_key(|answer| answer ^ 7);
                    assert!(answers.into_iter().eq(expected));
                }
                _ => {
                    // Not all at once: each keeps a place.
                    let numbers: Vec<u64> = numbers.collect();
                    for numbers in numbers.chunks(10_000) {
                        let send = |&number: &u64| pool.apply_async(task, (number,)).unwrap();
                        let sent: Vec<_> = numbers.iter().map(send).collect();
                        for (number, sent) in numbers.iter().zip(sent) {
                            assert_eq!(sent.get_timeout(LONG).unwrap(), number ^ 7);
                        }
                    }
                }
            }
        }
    });
    let mut again = 0;
    for number in 0..tasks as usize {
        let begun = ledger.begun.get(number).unwrap();
        assert!(begun >= 1 && ledger.done.get(number).unwrap() == 1, "task {number}");
        again += u64::from(begun - 1);
    }
    println!("{tasks} tasks, {kills} kills, {again} tasks begun again");
    // What was answered before its worker died is not run again, though its chunk was not finished.
    assert!(again <= kills, "{again} tasks were run again because of {kills} kills");
    ends(&pool, kills);
}

/// The pool is as good as new, and ends in time.
fn ends(pool: &Pool, kills: u64) {
    assert!(kills > 0, "a siege without a death");
    eventually("all workers are there", || pids(pool).len() == WORKERS);
    let statistics = pool.statistics();
    assert!(statistics.deaths <= kills, "{statistics:?}");
    assert_eq!((statistics.queued, statistics.running), (0, 0), "{statistics:?}");
    pool.close();
    pool.join_timeout(LONG).unwrap();
}

/// Whoever is stopped lives: its task waits for it, the others' do not.
pub fn stopped() {
    let pool = Pool::new(WORKERS).unwrap();
    for end in [Signal::CONT, Signal::KILL] {
        let (pid, go) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
        let held = pool.apply_async(wait_for, (pid.clone(), go.clone())).unwrap();
        let holder = pid.wait_for_timeout(LONG, |pid| pid != 0).unwrap();
        let holder = Pid::from_raw(holder as i32).unwrap();
        rustix::process::kill_process(holder, Signal::STOP).unwrap();
        go.store(1, Ordering::SeqCst);
        go.notify_all();
        let answers = pool.map(double, 0..1000).unwrap();
        assert!(answers.into_iter().eq((0..1000).map(double)));
        assert!(matches!(held.get_timeout(Duration::from_millis(100)), Err(TaskError::TimedOut)));
        assert!(!held.ready() && pids(&pool).len() == WORKERS);
        rustix::process::kill_process(holder, end).unwrap();
        match (end, held.get_timeout(LONG)) {
            (Signal::CONT, Ok(())) => {}
            (Signal::KILL, Err(TaskError::WorkerDied { .. })) => {}
            (_, answer) => panic!("{answer:?}"),
        }
    }
    // A pool whose workers are all stopped ends at once all the same.
    let pid = Atomic::new(0).unwrap();
    let held = pool.apply_async(stay, (pid.clone(),)).unwrap();
    pid.wait_for_timeout(LONG, |pid| pid != 0).unwrap();
    for pid in pids(&pool) {
        rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::STOP).unwrap();
    }
    pool.terminate();
    pool.join_timeout(LONG).unwrap();
    assert!(matches!(held.get_timeout(LONG), Err(TaskError::Terminated)));
}

fn wait_for(pid: Atomic<u32>, go: Atomic<u32>) {
    pid.store(std::process::id(), Ordering::SeqCst);
    pid.notify_all();
    go.wait_for_timeout(LONG, |go| go != 0).unwrap();
}

fn double(number: u64) -> u64 {
    2 * number
}
