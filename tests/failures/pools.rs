//! The rows of pools.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procession::pool::{Part, Pool, PoolError, Retry, TaskError};
use procession::process::JoinError;
use procession::sync::Atomic;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::promptly;
use crate::support::{LONG, eventually, fall_asleep, sleep_forever};

pub fn add(a: u64, b: u64) -> u64 {
    a + b
}

pub fn square(number: u64) -> u64 {
    number * number
}

/// Says which process runs it, and then does nothing until somebody ends it.
pub fn stay(pid: Atomic<u32>) {
    pid.store(std::process::id(), Ordering::SeqCst);
    pid.notify_all();
    sleep_forever()
}

/// The process that has begun to [`stay`].
pub fn stayer(pid: &Atomic<u32>) -> Pid {
    let pid = pid.wait_for_timeout(LONG, |pid| pid != 0).unwrap();
    Pid::from_raw(pid as i32).unwrap()
}

pub fn word() -> Atomic<u32> {
    Atomic::new(0).unwrap()
}

pub fn pids(pool: &Pool) -> Vec<Pid> {
    pool.workers().iter().map(|worker| Pid::from_raw(worker.pid as i32).unwrap()).collect()
}

pub fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

/// That a pool has all its workers, and that these work.
pub fn works(pool: &Pool, workers: usize) {
    let squares = promptly("a map", || pool.map(square, 0..500)).unwrap();
    assert!(squares.into_iter().eq((0..500).map(square)));
    eventually("all workers are there", || pids(pool).len() == workers);
}

/// Every pool ends in time, whatever it went through.
pub fn ends(pool: &Pool) {
    pool.close();
    promptly("a join", || pool.join_timeout(LONG)).unwrap();
    assert_eq!(pids(pool), []);
}

// ---- f03: gh-66587, gh-82265. A worker is killed (by the kernel, for memory), and its task's result never arrives.

pub fn f03() {
    let pool = Pool::new(2).unwrap();
    for signal in [Signal::KILL, Signal::TERM, Signal::SEGV] {
        let pid = word();
        let task = pool.apply_async(stay, (pid.clone(),)).unwrap();
        let others: Vec<_> =
            (0..100).map(|number| pool.apply_async(add, (number, 1)).unwrap()).collect();
        let victim = stayer(&pid);
        kill_process(victim, signal).unwrap();
        match promptly("the news of a death", || task.get_timeout(LONG)) {
            Err(TaskError::WorkerDied { pid, signal: by, code, attempt, .. }) => {
                assert_eq!(pid as i32, victim.as_raw_nonzero().get());
                assert_eq!((by, code, attempt), (Some(signal.as_raw()), None, 1));
            }
            answer => panic!("{signal:?}: {answer:?}"),
        }
        assert!(task.ready() && task.successful() == Some(false));
        for (number, other) in (0..).zip(others) {
            assert_eq!(other.get_timeout(LONG).unwrap(), number + 1, "others go on");
        }
        works(&pool, 2);
        assert!(!pids(&pool).contains(&victim));
    }
    ends(&pool);
}

/// Kills its worker if it is one of every hundred.
fn mostly_square(number: u64) -> u64 {
    if number % 100 == 50 {
        kill(rustix::process::getpid());
    }
    square(number)
}

pub fn f03_many() {
    let pool = Pool::new(2).unwrap();
    for chunk in [1, 7, 200] {
        let tasks = pool.tasks(mostly_square, 0..600).chunk_size(chunk);
        let mut answers = tasks.imap().unwrap();
        for number in 0..600 {
            match (number % 100, answers.next_timeout(LONG).unwrap()) {
                (50, Err(TaskError::WorkerDied { signal: Some(9), .. })) => {}
                (rest, Ok(answer)) if rest != 50 => assert_eq!(answer, square(number)),
                (_, answer) => panic!("{number}: {answer:?}"),
            }
        }
        // A map says which is the first that failed, when all are done.
        let map = pool.tasks(mostly_square, 0..600).chunk_size(chunk).map();
        assert!(matches!(map, Err(TaskError::WorkerDied { signal: Some(9), .. })), "{map:?}");
    }
    works(&pool, 2);
    ends(&pool);
}

/// Kills its worker at its first attempts.
fn at_last(attempts: Atomic<u32>, enough: u32) -> u32 {
    let attempt = attempts.fetch_add(1, Ordering::SeqCst) + 1;
    if attempt < enough {
        kill(rustix::process::getpid());
    }
    attempt
}

pub fn f03_again() {
    let pool = Pool::builder().processes(2).quarantine(5).build().unwrap();
    let retry = |attempts| {
        Retry::idempotent(attempts).backoff(Duration::from_millis(1), 2, Duration::from_millis(5))
    };
    let attempts = word();
    let task = pool.task(at_last, (attempts.clone(), 4)).retry(retry(4)).apply_async().unwrap();
    assert_eq!(promptly("the fourth attempt", || task.get_timeout(LONG)).unwrap(), 4);
    // Too often.
    let attempts = word();
    let task = pool.task(at_last, (attempts.clone(), 4)).retry(retry(3)).apply_async().unwrap();
    let answer = task.get_timeout(LONG);
    assert!(matches!(answer, Err(TaskError::WorkerDied { attempt: 3, .. })), "{answer:?}");
    assert_eq!(attempts.load(Ordering::SeqCst), 3);
    // Poison is found out, though it might be tried for ever.
    let attempts = word();
    let poison = pool.task(at_last, (attempts.clone(), u32::MAX)).retry(retry(u32::MAX));
    let answer = poison.apply_async().unwrap().get_timeout(LONG);
    assert!(matches!(answer, Err(TaskError::Quarantined { deaths: 5, .. })), "{answer:?}");
    assert_eq!(attempts.load(Ordering::SeqCst), 5);
    works(&pool, 2);
    let statistics = pool.statistics();
    assert_eq!((statistics.deaths, statistics.retried), (3 + 3 + 5, 3 + 2 + 4));
    ends(&pool);
}

// ---- f04: gh-96062. An idle worker is killed while it holds the lock of the queue of tasks: nobody gets a task any more.

pub fn f04() {
    let pool = Pool::new(3).unwrap();
    let mut dead: Vec<Pid> = Vec::new();
    for round in 0..12 {
        works(&pool, 3);
        // The dead of the last round are known by now.
        eventually("three live", || {
            pids(&pool).iter().filter(|pid| !dead.contains(pid)).count() == 3
        });
        let mut idle = pids(&pool);
        idle.retain(|pid| !dead.contains(pid));
        let victims = &idle[..1 + round % 3];
        dead.extend_from_slice(victims);
        victims.iter().for_each(|pid| fall_asleep(*pid));
        match round / 3 {
            // One after the other, or while the wake-up is on its way to it.
            0 => victims.iter().for_each(|pid| kill(*pid)),
            1 => {
                victims.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
                let tasks: Vec<_> =
                    (0..50).map(|number| pool.apply_async(add, (number, 1)).unwrap()).collect();
                victims.iter().for_each(|pid| kill(*pid));
                for (number, task) in (0..).zip(tasks) {
                    let answer = promptly("a task after a death", || task.get_timeout(LONG));
                    match answer {
                        Ok(sum) => assert_eq!(sum, number + 1),
                        // It had just taken it when it was stopped.
                        Err(TaskError::WorkerDied { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            2 => {
                kill(victims[0]);
                works(&pool, 3);
                victims[1..].iter().for_each(|pid| kill(*pid));
            }
            _ => {
                let tasks: Vec<_> = victims
                    .iter()
                    .map(|pid| {
                        kill(*pid);
                        pool.apply_async(add, (1, 2)).unwrap()
                    })
                    .collect();
                tasks.into_iter().for_each(|task| {
                    let answer = promptly("a task after a death", || task.get_timeout(LONG));
                    let good = matches!(answer, Ok(3) | Err(TaskError::WorkerDied { .. }));
                    assert!(good, "{answer:?}");
                });
            }
        }
    }
    works(&pool, 3);
    ends(&pool);
}

// ---- f11: gh-79492, gh-103061. What cannot be unpickled kills the thread that collects results, and everybody hangs.

/// Refuses to be decoded, or panics.
#[derive(Clone, Debug, PartialEq)]
struct Spoilt(Option<bool>);

impl Serialize for Spoilt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Spoilt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::deserialize(deserializer)? {
            Some(true) => panic!("no way"),
            Some(false) => Err(D::Error::custom("no way")),
            None => Ok(Spoilt(None)),
        }
    }
}

fn spoil(how: Option<bool>) -> Spoilt {
    Spoilt(how)
}

fn take(_spoilt: Spoilt) {}

pub fn f11() {
    let pool = Pool::new(2).unwrap();
    for panics in [false, true] {
        let good = |from: u64| {
            (from..from + 10)
                .map(|number| pool.apply_async(add, (number, 1)).unwrap())
                .collect::<Vec<_>>()
        };
        let mut others = good(0);
        let result = pool.apply_async(spoil, (Some(panics),)).unwrap();
        let argument = pool.apply_async(take, (Spoilt(Some(panics)),)).unwrap();
        others.extend(good(10));
        for (number, other) in (0..).zip(others) {
            assert_eq!(other.get_timeout(LONG).unwrap(), number + 1);
        }
        let result = promptly("an error", || result.get_timeout(LONG));
        let argument = promptly("an error", || argument.get_timeout(LONG));
        assert!(matches!(result, Err(TaskError::Decode { what: Part::Result, .. })), "{result:?}");
        match argument {
            Err(TaskError::Decode { what: Part::Arguments, .. }) if !panics => {}
            Err(TaskError::Panicked { message, .. }) if panics => assert_eq!(message, "no way"),
            argument => panic!("{argument:?}"),
        }
        // In a chunk, each by itself.
        let how = |number: u64| (number % 7 == 3).then_some(panics);
        let answers = pool.tasks(spoil, (0..100).map(how)).chunk_size(20).imap().unwrap();
        for (number, answer) in answers.enumerate() {
            match (number % 7, answer) {
                (3, Err(TaskError::Decode { .. })) => {}
                (rest, Ok(Spoilt(None))) if rest != 3 => {}
                (_, answer) => panic!("{number}: {answer:?}"),
            }
        }
        works(&pool, 2);
    }
    assert_eq!(pool.statistics().deaths, 0, "no worker is the worse for it");
    ends(&pool);
}

// ---- f12: PR 101081, gh-87472. A task that leaves is lost; a failing initializer is run again and again, for ever.

/// Ends in one of several ways that are no return.
fn leave(way: u32) -> u64 {
    match way {
        0 => std::process::exit(0),
        1 => std::process::exit(7),
        // SAFETY: ends this process.
        2 => unsafe { libc::_exit(8) },
        3 => std::process::abort(),
        4 => std::panic::panic_any(5u8),
        5 => std::panic::resume_unwind(Box::new("without a word on the screen")),
        _ => panic!("{way}"),
    }
}

pub fn f12_leavers() {
    let pool = Pool::new(2).unwrap();
    for way in 0..7 {
        let before = pool.apply_async(add, (1, 2)).unwrap();
        let task = pool.apply_async(leave, (way,)).unwrap();
        let behind = pool.apply_async(add, (3, 4)).unwrap();
        let answer = promptly("the end of a task", || task.get_timeout(LONG));
        let (exit, signal) = match &answer {
            Err(TaskError::WorkerDied { code, signal, .. }) => (*code, *signal),
            Err(TaskError::Panicked { .. }) => (None, None),
            answer => panic!("{way}: {answer:?}"),
        };
        let expected = match way {
            0 => (Some(0), None),
            1 => (Some(7), None),
            2 => (Some(8), None),
            3 => (None, Some(Signal::ABORT.as_raw())),
            _ => (None, None),
        };
        assert_eq!((exit, signal), expected, "{way}: {answer:?}");
        assert_eq!((before.get_timeout(LONG).unwrap(), behind.get_timeout(LONG).unwrap()), (3, 7));
        works(&pool, 2);
    }
    ends(&pool);
}

/// An initializer that fails, in one of several ways, from its `good`-th run on.
fn start_badly(way: u32, runs: Atomic<u32>, good: u32) {
    if runs.fetch_add(1, Ordering::SeqCst) < good {
        return;
    }
    match way {
        0 => panic!("no database"),
        1 => std::process::exit(9),
        _ => std::process::abort(),
    }
}

pub fn f12_initializer() {
    const ATTEMPTS: u32 = 4;
    for way in 0..3 {
        // It never works, or works until a worker dies.
        for good in [0, 2] {
            let runs = word();
            let builder = Pool::builder().processes(2).start_attempts(ATTEMPTS);
            let pool = builder.initializer(start_badly, (way, runs.clone(), good)).build();
            let broken = |error: &PoolError| {
                let PoolError::Broken { cause } = error else { panic!("{error:?}") };
                let PoolError::Initializer { attempts, cause } = &**cause else {
                    panic!("{cause:?}")
                };
                assert_eq!(*attempts, ATTEMPTS);
                let cause = cause.downcast_ref::<JoinError>().expect("how a process ended");
                match (way, cause) {
                    (0, JoinError::Panicked { message, .. }) => assert_eq!(message, "no database"),
                    (1, JoinError::Exited { code: 9, .. }) => {}
                    (2, JoinError::Killed { signal: 6, .. }) => {}
                    (_, cause) => panic!("{cause:?}"),
                }
            };
            let pool = pool.unwrap();
            if good > 0 {
                works(&pool, 2);
                pids(&pool).into_iter().for_each(kill);
            }
            eventually("the pool breaks", || pool.cause().is_some());
            match promptly("an answer", || pool.apply_async(add, (1, 2))) {
                Err(error) => broken(&error),
                Ok(task) => panic!("a broken pool takes tasks: {:?}", task.get_timeout(LONG)),
            }
            promptly("terminate", || pool.terminate());
            promptly("a join", || pool.join_timeout(LONG)).unwrap();
            // Not for ever: so many for each worker at most, and whoever was being started meanwhile.
            let counted = runs.load(Ordering::SeqCst);
            assert!((good + ATTEMPTS..=good + 2 * ATTEMPTS).contains(&counted), "{counted} starts");
        }
    }
}

/// What is under way when a pool breaks is told so.
pub fn f12_under_way() {
    let runs = word();
    let builder = Pool::builder().processes(2).start_attempts(2);
    let pool = builder.initializer(start_badly, (0, runs, 2)).build().unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let pid = word();
            (pool.apply_async(stay, (pid.clone(),)).unwrap(), pid)
        })
        .collect();
    let begun = || tasks.iter().filter(|(_, pid)| pid.load(Ordering::SeqCst) != 0).count();
    eventually("two are under way", || begun() == 2);
    pids(&pool).into_iter().for_each(kill);
    for (task, _) in &tasks {
        match promptly("an answer", || task.get_timeout(LONG)) {
            Err(TaskError::WorkerDied { .. } | TaskError::Broken(_)) => {}
            answer => panic!("{answer:?}"),
        }
    }
    ends(&pool);
}

// ---- f26: gh-84291, gh-64192. imap eats its whole input before anybody asks for a result; limited, it deadlocks on close and join.

/// Counts how many were taken from it.
fn counted(taken: &Arc<AtomicU64>) -> impl Iterator<Item = u64> + Send + use<> {
    let taken = taken.clone();
    (0..).inspect(move |_| {
        taken.fetch_add(1, Ordering::SeqCst);
    })
}

pub fn f26() {
    let pool = Pool::new(2).unwrap();
    // Inputs without an end, for each that streams.
    for window in [None, Some(1), Some(16)] {
        for ordered in [true, false] {
            let taken = Arc::new(AtomicU64::new(0));
            let tasks = pool.tasks(square, counted(&taken));
            let tasks = match window {
                Some(window) => tasks.window(window).chunk_size(1),
                None => tasks,
            };
            let answers: Box<dyn Iterator<Item = _>> = match ordered {
                true => Box::new(tasks.imap().unwrap()),
                false => Box::new(tasks.imap_unordered().unwrap()),
            };
            let mut got = 0;
            for answer in answers.take(1000) {
                let answer = answer.unwrap();
                assert!(!ordered || answer == square(got), "{answer}");
                got += 1;
                let ahead = taken.load(Ordering::SeqCst) - got;
                let most = window.unwrap_or(1 << 17) as u64;
                assert!(ahead <= most, "{ahead} inputs ahead of what was asked for");
            }
            // Whoever loses interest has what is queued withdrawn, and nothing more is taken.
            let then = taken.load(Ordering::SeqCst);
            eventually("nothing is left to do", || {
                let statistics = pool.statistics();
                (statistics.queued, statistics.running) == (0, 0)
            });
            assert_eq!(taken.load(Ordering::SeqCst), then);
        }
    }
    works(&pool, 2);

    // Closed and joined while somebody streams, and nobody asks for more.
    for join_first in [true, false] {
        let pool = Pool::new(2).unwrap();
        let taken = Arc::new(AtomicU64::new(0));
        let tasks = pool.tasks(square, counted(&taken)).window(8).chunk_size(1);
        let mut answers = tasks.imap().unwrap();
        assert_eq!(answers.next_timeout(LONG).unwrap().unwrap(), 0);
        pool.close();
        if join_first {
            promptly("a join", || pool.join_timeout(LONG)).unwrap();
        }
        for number in 1..100 {
            match promptly("the next one", || answers.next_timeout(LONG)) {
                Some(Ok(answer)) => assert_eq!(answer, square(number)),
                // What was handed over is delivered; then comes an error that says why there is no more, and the end.
                Some(Err(error)) => {
                    assert!(join_first && matches!(error, TaskError::Refused(_)), "{error}");
                    assert!((1..=9).contains(&number) && answers.next().is_none());
                    break;
                }
                None => panic!("an end without a word"),
            }
            assert!(!join_first || number < 9, "a pool that was joined takes more");
        }
        drop(answers);
        promptly("a join", || pool.join_timeout(LONG)).unwrap();
    }
}
