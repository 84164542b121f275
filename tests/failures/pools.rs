//! The rows of pools and executors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use procession::futures::{
    Future, ProcessPoolExecutor, ReturnWhen, Shutdown, ThreadPoolExecutor, as_completed,
    wait_timeout,
};
use procession::pool::{Part, Pool, PoolError, PoolState, Retry, TaskError};
use procession::process::JoinError;
use procession::sync::Atomic;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::promptly;
use crate::support::{LONG, eventually, fall_asleep, sleep_forever};

fn add(a: u64, b: u64) -> u64 {
    a + b
}

fn square(number: u64) -> u64 {
    number * number
}

/// Says which process runs it, and then does nothing until somebody ends it.
fn stay(pid: Atomic<u32>) {
    pid.store(std::process::id(), Ordering::SeqCst);
    pid.notify_all();
    sleep_forever()
}

/// The process that has begun to [`stay`].
fn stayer(pid: &Atomic<u32>) -> Pid {
    let pid = pid.wait_for_timeout(LONG, |pid| pid != 0).unwrap();
    Pid::from_raw(pid as i32).unwrap()
}

fn word() -> Atomic<u32> {
    Atomic::new(0).unwrap()
}

fn pids(pool: &Pool) -> Vec<Pid> {
    pool.workers().iter().map(|worker| Pid::from_raw(worker.pid as i32).unwrap()).collect()
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

/// That a pool has all its workers, and that these work.
fn works(pool: &Pool, workers: usize) {
    let squares = promptly("a map", || pool.map(square, 0..500)).unwrap();
    assert!(squares.into_iter().eq((0..500).map(square)));
    eventually("all workers are there", || pids(pool).len() == workers);
}

/// Every pool ends in time, whatever it went through.
fn ends(pool: &Pool) {
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
        _ => kill(rustix::process::getpid()),
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
                    (2, JoinError::Killed { signal: 9, .. }) => {}
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
            // Not for ever: so many for each worker at most, and no more from now on.
            let most = good + 2 * ATTEMPTS;
            let counted = runs.load(Ordering::SeqCst);
            assert!((good + ATTEMPTS..=most).contains(&counted), "{counted} starts");
            promptly("terminate", || pool.terminate());
            promptly("a join", || pool.join_timeout(LONG)).unwrap();
            assert_eq!(runs.load(Ordering::SeqCst), counted);
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

// ---- f13: gh-78178, gh-73945, gh-96995, gh-87129. terminate() hangs, or deadlocks in a callback, which kills the pool by a panic.

/// A task that nothing but SIGKILL ends.
fn stubborn(pid: Atomic<u32>) {
    // SAFETY: to ignore a signal touches no memory of ours.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    pid.store(std::process::id(), Ordering::SeqCst);
    pid.notify_all();
    loop {
        std::hint::spin_loop();
    }
}

/// How a pool's workers are when it is terminated.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Idle,
    Asleep,
    Busy,
    Stopped,
    Dead,
    Killed,
}

/// Who terminates it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Terminate,
    Drop,
    Threads,
    Closed,
}

pub fn f13() {
    for mood in [Mood::Idle, Mood::Asleep, Mood::Busy, Mood::Stopped, Mood::Dead, Mood::Killed] {
        for by in [By::Terminate, By::Drop, By::Threads, By::Closed] {
            let pool = Pool::new(2).unwrap();
            let workers = pids(&pool);
            let mut tasks = Vec::new();
            if mood != Mood::Idle && mood != Mood::Asleep {
                // More than there is room for anywhere, all but two of them waiting.
                for _ in 0..5000 {
                    let pid = word();
                    let task = pool.apply_async(stubborn, (pid.clone(),)).unwrap();
                    tasks.push((task, pid));
                }
                let begun = tasks.iter().filter(|(_, pid)| pid.load(Ordering::SeqCst) != 0);
                eventually("two are busy", || begun.clone().count() >= 2);
            }
            match mood {
                Mood::Idle | Mood::Busy => {}
                Mood::Asleep => workers.iter().for_each(|pid| fall_asleep(*pid)),
                Mood::Stopped => {
                    workers.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
                }
                // At this moment: whether it is known yet is up to chance.
                Mood::Dead => kill(workers[0]),
                Mood::Killed => workers.iter().for_each(|pid| kill(*pid)),
            }
            if by == By::Closed {
                pool.close();
            }
            match by {
                By::Drop => promptly("drop", || drop(pool)),
                By::Terminate | By::Closed => {
                    promptly("terminate", || pool.terminate());
                    promptly("a join", || pool.join_timeout(LONG)).unwrap();
                    assert_eq!((pool.state(), pids(&pool)), (PoolState::Ended, vec![]));
                }
                By::Threads => promptly("terminate by many", || {
                    std::thread::scope(|threads| {
                        for number in 0..6 {
                            let pool = &pool;
                            threads.spawn(move || match number % 3 {
                                0 => {
                                    pool.close();
                                    pool.terminate();
                                }
                                1 => {
                                    pool.terminate();
                                    pool.join_timeout(LONG).unwrap();
                                }
                                _ => {
                                    let _ = pool.apply(add, (1, 2));
                                    pool.terminate();
                                }
                            });
                        }
                    });
                    pool.join_timeout(LONG).unwrap();
                }),
            }
            for pid in workers {
                let pid = pid.as_raw_nonzero().get() as u32;
                eventually("the workers are gone", || crate::gone::gone(pid));
            }
            for (task, _) in tasks {
                match promptly("an answer", || task.get_timeout(LONG)) {
                    Err(TaskError::Terminated | TaskError::WorkerDied { .. }) => {}
                    answer => panic!("{mood:?}, {by:?}: {answer:?}"),
                }
            }
        }
    }
}

pub fn f13_callbacks() {
    // One that panics harms nobody, and is not the last.
    let pool = Arc::new(Pool::new(2).unwrap());
    let (tell, told) = mpsc::channel();
    for number in 0..20u64 {
        let tell = tell.clone();
        let callback = move |sum: &u64| {
            tell.send(*sum).unwrap();
            assert!(number % 2 == 0, "a callback that panics");
        };
        drop(pool.task(add, (number, 1)).callback(callback).apply_async().unwrap());
    }
    let mut sums: Vec<u64> = (0..20).map(|_| told.recv_timeout(LONG).unwrap()).collect();
    sums.sort_unstable();
    assert!(sums.into_iter().eq(1..21));
    works(&pool, 2);

    // One asks for a result of the same pool, and one closes, terminates and joins it.
    let (tell, told) = mpsc::channel();
    let callback = {
        let (pool, tell) = (Arc::downgrade(&pool), tell.clone());
        move |_: &u64| {
            let pool = pool.upgrade().unwrap();
            let inner = pool.apply_async(add, (4, 5)).unwrap();
            tell.send(inner.get_timeout(LONG).unwrap()).unwrap();
        }
    };
    drop(pool.task(add, (1, 2)).callback(callback).apply_async().unwrap());
    assert_eq!(told.recv_timeout(LONG).unwrap(), 9);
    for ends in 0..3 {
        let pool = Arc::new(Pool::new(2).unwrap());
        let (tell, told) = mpsc::channel();
        let stays = pool.apply_async(stay, (word(),)).unwrap();
        let callback = {
            let pool = Mutex::new(Some(pool.clone()));
            move |_: &u64| {
                let pool = pool.lock().unwrap().take().unwrap();
                match ends {
                    0 => pool.terminate(),
                    1 => {
                        pool.close();
                        pool.terminate();
                        // This thread may be one that the pool's end waits for.
                        match pool.join_timeout(LONG) {
                            Ok(()) | Err(PoolError::Within) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    // The last handle, perhaps.
                    _ => drop(pool),
                }
                tell.send(()).unwrap();
            }
        };
        drop(pool.task(add, (1, 2)).callback(callback).apply_async().unwrap());
        let pool = match ends {
            2 => {
                drop(pool);
                None
            }
            _ => Some(pool),
        };
        promptly("a callback that ends the pool", || told.recv_timeout(LONG)).unwrap();
        let answer = promptly("an answer", || stays.get_timeout(LONG));
        assert!(matches!(answer, Err(TaskError::Terminated)), "{answer:?}");
        if let Some(pool) = pool {
            promptly("a join", || pool.join_timeout(LONG)).unwrap();
        }
    }
}

// ---- f14: apscheduler#362, gh-101267. A dead worker breaks the executor, for good.

fn executor(workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(workers).build().unwrap()
}

pub fn f14() {
    let executor = executor(2);
    for _ in 0..10 {
        let pid = word();
        let dies = executor.submit(stay, (pid.clone(),)).unwrap();
        let others: Vec<Future<u64>> =
            (0..50).map(|number| executor.submit(add, (number, 1)).unwrap()).collect();
        kill(stayer(&pid));
        let answer = promptly("the news of a death", || dies.result_timeout(LONG));
        assert!(matches!(answer, Err(TaskError::WorkerDied { .. })), "{answer:?}");
        assert!(dies.done() && !dies.cancelled() && !dies.running());
        for (number, other) in (0..).zip(others) {
            assert_eq!(other.result_timeout(LONG).unwrap(), number + 1);
        }
    }
    promptly("shutdown", || executor.shutdown(Shutdown::new())).unwrap();
}

pub fn f14_strict() {
    let builder = ProcessPoolExecutor::builder().max_workers(2).strict(true);
    let executor = builder.build().unwrap();
    let pid = word();
    let dies = executor.submit(stay, (pid.clone(),)).unwrap();
    let others: Vec<_> = (0..10).map(|_| executor.submit(stay, (word(),)).unwrap()).collect();
    kill(stayer(&pid));
    let answer = promptly("the news of a death", || dies.result_timeout(LONG));
    assert!(matches!(answer, Err(TaskError::WorkerDied { .. } | TaskError::Broken(_))));
    for other in others {
        let answer = promptly("the news of a death", || other.result_timeout(LONG));
        let Err(TaskError::Broken(cause)) = answer else { panic!("{answer:?}") };
        assert!(cause.to_string().contains("signal 9"), "{cause}");
    }
    let answer = executor.submit(add, (1, 2));
    assert!(matches!(answer, Err(PoolError::Broken { .. })));
    promptly("shutdown", || executor.shutdown(Shutdown::new())).unwrap();
}

// ---- f15: gh-115634, gh-94777, gh-105829, gh-107219, gh-125451. Executors deadlock.

pub fn f15_replaced() {
    // Workers that are replaced after some tasks.
    for (workers, tasks_each) in [(1, 1), (2, 1), (2, 3)] {
        let builder = ProcessPoolExecutor::builder().max_workers(workers);
        let executor = builder.max_tasks_per_child(tasks_each).build().unwrap();
        let futures: Vec<_> =
            (0..60).map(|number| executor.submit(add, (number, 1)).unwrap()).collect();
        for (number, future) in (0..).zip(futures) {
            assert_eq!(future.result_timeout(LONG).unwrap(), number + 1);
        }
        promptly("shutdown", || executor.shutdown(Shutdown::new())).unwrap();
        let pool = Pool::builder().processes(workers).max_tasks_per_child(tasks_each);
        let pool = pool.build().unwrap();
        let answers = pool.tasks(square, 0..60).chunk_size(1).map().unwrap();
        assert!(answers.into_iter().eq((0..60).map(square)));
        ends(&pool);
    }
}

const LARGE: usize = 1 << 20;

fn length(_pid: Option<Atomic<u32>>, data: Vec<u8>) -> usize {
    data.len()
}

/// Says who it is, and stays, once it has all this.
fn stay_with(data: Vec<u8>, pid: Atomic<u32>) {
    assert_eq!(data.len(), LARGE);
    stay(pid)
}

pub fn f15_large() {
    // A worker dies while much is on its way to it, and behind that.
    let executor = executor(1);
    for _ in 0..3 {
        let pid = word();
        let dies = executor.submit(stay_with, (vec![1; LARGE], pid.clone())).unwrap();
        let others: Vec<_> =
            (0..20).map(|_| executor.submit(length, (None, vec![2; LARGE])).unwrap()).collect();
        kill(stayer(&pid));
        let answer = promptly("the news of a death", || dies.result_timeout(LONG));
        assert!(matches!(answer, Err(TaskError::WorkerDied { .. })));
        for other in others {
            assert_eq!(other.result_timeout(LONG).unwrap(), LARGE);
        }
    }
    promptly("shutdown", || executor.shutdown(Shutdown::new())).unwrap();
}

pub fn f15_many() {
    // Far more than any pipe holds: who submits never waits, whatever the workers do.
    const THREADS: u64 = 4;
    const EACH: u64 = 25_000;
    let executor = executor(2);
    let words = [word(), word()];
    let stays = words.clone().map(|pid| executor.submit(stay, (pid,)).unwrap());
    let stayers = [0, 1].map(|at: usize| stayer(&words[at]));
    let futures = promptly("submitting", || {
        std::thread::scope(|threads| {
            let submit = |thread: u64| {
                let numbers = thread * EACH..(thread + 1) * EACH;
                let executor = &executor;
                threads.spawn(move || {
                    numbers
                        .map(|number| (number, executor.submit(add, (number, 1)).unwrap()))
                        .collect::<Vec<_>>()
                })
            };
            let threads: Vec<_> = (0..THREADS).map(submit).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        })
    });
    assert!(stays.iter().all(|stays| stays.running()));
    // Some are cancelled while they wait.
    let cancelled = futures.iter().filter(|(number, future)| number % 10 == 0 && future.cancel());
    assert_eq!(cancelled.count() as u64, THREADS * EACH / 10);
    stayers.into_iter().for_each(kill);
    for (number, future) in &futures {
        match future.result_timeout(LONG) {
            Ok(sum) => assert_eq!(sum, number + 1),
            Err(TaskError::Cancelled) => assert_eq!(number % 10, 0),
            Err(error) => panic!("{number}: {error}"),
        }
    }
    promptly("shutdown", || executor.shutdown(Shutdown::new())).unwrap();
}

pub fn f15_shutdown() {
    // Without waiting: all that was submitted is done all the same.
    let busy = executor(2);
    let futures: Vec<_> = (0..500).map(|number| busy.submit(add, (number, 1)).unwrap()).collect();
    promptly("shutdown", || busy.shutdown(Shutdown::new().wait(false))).unwrap();
    assert!(matches!(busy.submit(add, (1, 2)), Err(PoolError::NotRunning { .. })));
    for (number, future) in (0..).zip(futures) {
        assert_eq!(future.result_timeout(LONG).unwrap(), number + 1);
    }
    promptly("shutdown", || busy.shutdown(Shutdown::new())).unwrap();

    // With tasks that do not end: in time, and what did not begin is cancelled.
    let stuck = executor(2);
    let futures: Vec<_> = (0..50)
        .map(|_| {
            let pid = word();
            (stuck.submit(stay, (pid.clone(),)).unwrap(), pid)
        })
        .collect();
    let begun = || futures.iter().filter(|(_, pid)| pid.load(Ordering::SeqCst) != 0).count();
    eventually("two have begun", || begun() == 2);
    let how = Shutdown::new().cancel_futures(true).timeout(Duration::from_millis(50));
    let answer = promptly("shutdown", || stuck.shutdown(how));
    assert!(matches!(answer, Err(PoolError::TimedOut)), "{answer:?}");
    assert_eq!(futures.iter().filter(|(future, _)| future.cancelled()).count(), 48);
    promptly("kill_workers", || stuck.kill_workers());
    for (future, _) in &futures {
        let answer = promptly("an answer", || future.result_timeout(LONG));
        assert!(matches!(
            answer,
            Err(TaskError::Cancelled | TaskError::Terminated | TaskError::WorkerDied { .. })
        ));
    }
    promptly("shutdown", || stuck.shutdown(Shutdown::new())).unwrap();
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

// ---- f32: chunksize 0 gives a list of None; terminate before start is an AttributeError; duplicates in wait are a KeyError.

pub fn f32() {
    let pool = Pool::new(2).unwrap();
    let zero = |answer: Result<(), PoolError>| {
        assert!(matches!(answer, Err(PoolError::Zero { .. })), "{answer:?}");
    };
    let tasks = || pool.tasks(square, 0..10).chunk_size(0);
    let error = tasks().map().unwrap_err();
    let refused = |error| match error {
        TaskError::Refused(error) => Arc::into_inner(error).unwrap(),
        error => panic!("{error}"),
    };
    zero(Err(refused(error)));
    zero(tasks().imap().map(drop));
    zero(tasks().imap_unordered().map(drop));
    zero(tasks().map_async().map(drop));
    zero(pool.tasks(square, 0..10).window(0).imap().map(drop));
    zero(Pool::new(0).map(drop));
    zero(Pool::builder().processes(0).build().map(drop));
    zero(Pool::builder().processes(1).max_tasks_per_child(0).build().map(drop));
    zero(ProcessPoolExecutor::builder().max_workers(0).build().map(drop));
    zero(ThreadPoolExecutor::builder().max_workers(0).build().map(drop));
    zero(pool.resize(0..=0));
    assert_eq!(pool.map(square, 0..0).unwrap(), []);
    assert!(matches!(pool.join(), Err(PoolError::StillRunning)));
    works(&pool, 2);
    ends(&pool);
    let error = refused(pool.map(square, 0..3).unwrap_err());
    assert!(matches!(error, PoolError::NotRunning { .. }), "{error}");

    // Nothing has been started yet.
    for kill in [false, true] {
        let executor = executor(2);
        promptly("an early end", || match kill {
            true => executor.kill_workers(),
            false => executor.terminate_workers(),
        });
        assert!(matches!(executor.submit(add, (1, 2)), Err(PoolError::NotRunning { .. })));
        promptly("shutdown", || executor.shutdown(Shutdown::new())).unwrap();
    }

    // The same future twice counts once.
    let executor = executor(2);
    let futures = [1, 2].map(|number| executor.submit(add, (number, 1)).unwrap());
    let twice: Vec<_> = futures.iter().chain(&futures).cloned().collect();
    let waited = promptly("wait", || wait_timeout(&twice, ReturnWhen::AllCompleted, LONG));
    assert_eq!((waited.done.len(), waited.not_done.len()), (2, 0));
    assert_eq!(as_completed(twice).count(), 2);
    promptly("shutdown", || executor.shutdown(Shutdown::new())).unwrap();
}
