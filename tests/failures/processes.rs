//! The rows of starting processes and joining them.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use procession::process::{Child as Started, JoinError, StartError, StartMethod, start_method};
use procession::{Event, Process};

use crate::promptly;
use crate::support::{LONG, eventually, sleep_forever};

/// Kills what it holds when the test ends, however it ends.
struct Bound<R>(Started<R>);

impl<R> Drop for Bound<R> {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

// ---- f21: gh-84559, gh-100228. A fork of a process with threads has the locks of threads that it lacks.

/// What the threads of this process fight for.
static STATE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Waits until this is the only thread: one that was joined takes a moment to be gone.
fn threads_are_gone() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    eventually("the threads are gone", || threads() == 1);
}

/// Needs what a thread may just have had in hand: the lock, the allocator, the standard streams.
fn need_everything(number: u32) -> usize {
    let mut state = STATE.lock().unwrap();
    state.push(format!("{number:>1000}"));
    print!("");
    eprint!("");
    std::thread::scope(|threads| threads.spawn(|| state.len()).join().unwrap())
}

pub fn f21(method: StartMethod) {
    const STARTS: u32 = 25;
    let (stop, ready) = (AtomicBool::new(false), Barrier::new(5));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                // One of them has the locks nearly all the time, and each is in the allocator.
                ready.wait();
                while !stop.load(Ordering::Relaxed) {
                    let held = (STATE.lock().unwrap(), std::io::stdout().lock());
                    std::hint::black_box(vec![1; 4000]);
                    drop(held);
                }
            });
        }
        ready.wait();
        for number in 0..STARTS {
            let started = Process::new(need_everything, (number,)).start();
            match (method, started) {
                (StartMethod::Fork, answer) => {
                    assert!(matches!(answer, Err(StartError::Threads)), "{answer:?}");
                }
                (_, started) => {
                    let child = Bound(started.unwrap());
                    assert_eq!(child.0.join_timeout(LONG), Ok(1), "start {number}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Threads that have ended are in nobody's way.
    threads_are_gone();

    STATE.lock().unwrap().clear();
    let child = Bound(Process::new(need_everything, (0,)).start().unwrap());
    assert_eq!(child.0.join_timeout(LONG), Ok(1));
}

// ---- f22: gh-139881, gh-137996. Starting costs hundreds of milliseconds, since the main module is imported anew.

/// How often `main` was entered in this process, or in the one that it was forked from.
static MAINS: AtomicU32 = AtomicU32::new(0);

/// `main` says that it has begun.
pub fn enter_main() {
    MAINS.fetch_add(1, Ordering::Relaxed);
}

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Seen {
    mains: u32,
    parent: i32,
    /// Whether its own starts have its starter's method.
    same_method: bool,
    /// How much processor time it took to come here.
    cost: Duration,
}

fn look(method: StartMethod) -> Seen {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let mains = MAINS.load(Ordering::Relaxed);
    let cost = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cost = cost.try_into().unwrap();
    Seen { mains, parent, same_method: start_method() == method, cost }
}

pub fn f22(method: StartMethod) {
    const STARTS: usize = 40;
    let mut costs = Vec::new();
    let mut parents = BTreeSet::new();
    for _ in 0..STARTS {
        let child = Bound(Process::new(look, (method,)).start().unwrap());
        let seen = child.0.join_timeout(LONG).unwrap();
        costs.push(seen.cost);
        parents.insert(seen.parent);
        // A fork is a copy of one that has been through `main`; no other process ever is.
        let mains = if method == StartMethod::Fork { 1 } else { 0 };
        assert_eq!(seen, Seen { mains, same_method: true, ..seen });
    }
    assert_eq!(parents.len(), 1, "no helper is started twice");
    costs.sort();
    // Python 3.14 takes 370 to 1900 ms for a pool of some processes; here it is 1 ms at most.
    let usual = costs[STARTS / 2];
    assert!(usual < Duration::from_millis(60), "{method:?}: {usual:?}");
}

// ---- f25: gh-79838, gh-130895, gh-148318, gh-92881. join(timeout) overruns if the child has become another program or has
// ---- children itself; exitcode is None when threads race.

/// Becomes another program, which keeps all that it has inherited and can.
fn become_sleep(ready: Event) {
    ready.set();
    panic!("{}", Command::new("sleep").arg("1000").exec());
}

/// Leaves two processes behind that have inherited all they could, and returns: a copy of this one, and another program.
fn leave_two_behind() -> [u32; 2] {
    [false, true].map(|exec| {
        // SAFETY: this process has one thread, and the child executes another program, or only waits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            if exec {
                panic!("{}", Command::new("sleep").arg("1000").exec());
            }
            sleep_forever();
        }
        pid as u32
    })
}

pub fn f25_join(method: StartMethod) {
    const SHORT: Duration = Duration::from_millis(100);
    let ready = Event::new().unwrap();
    let child = Bound(Process::new(become_sleep, (ready.clone(),)).start().unwrap());
    assert!(ready.wait_timeout(LONG));
    for _ in 0..3 {
        let begin = Instant::now();
        let answer = promptly("a join with a limit", || child.0.join_timeout(SHORT));
        assert!(matches!(answer, Err(JoinError::TimedOut { .. })), "{answer:?}");
        assert!(begin.elapsed() >= SHORT);
        assert!(child.0.is_alive() && child.0.exitcode().is_none());
    }
    child.0.terminate().unwrap();
    let answer = child.0.join_timeout(LONG);
    assert!(matches!(answer, Err(JoinError::Killed { signal: 15, .. })), "{answer:?}");
    assert_eq!(child.0.exitcode(), Some(-15));

    // It has ended when it has, whoever has inherited from it.
    let child = Bound(Process::new(leave_two_behind, ()).start().unwrap());
    let left = promptly("the join of one with children", || child.0.join_timeout(LONG));
    assert!(!child.0.is_alive() && child.0.exitcode() == Some(0), "{method:?}");
    for pid in left.unwrap() {
        // SAFETY: the number is of a process that nobody but this test ends.
        assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0, "it lives on");
    }
}

/// Ends in one of several ways.
fn end(way: u32, start: Event) -> u32 {
    start.wait();
    match way {
        0 => 7,
        1 => std::process::exit(3),
        2 => std::panic::resume_unwind(Box::new("without a word on the screen")),
        _ => sleep_forever(),
    }
}

pub fn f25_race(method: StartMethod) {
    const THREADS: usize = 32;
    for round in 0..40 {
        threads_are_gone();
        let (way, start) = (round % 4, Event::new().unwrap());
        let child = Bound(Process::new(end, (way, start.clone())).start().unwrap());
        let begin = Barrier::new(THREADS + 1);
        let answers = Mutex::new(Vec::new());
        std::thread::scope(|threads| {
            for number in 0..THREADS {
                let (child, begin, answers) = (&child.0, &begin, &answers);
                threads.spawn(move || {
                    begin.wait();
                    // Each asks in its own order. What it is told never is taken back.
                    let code = match number % 4 {
                        0 => None,
                        1 => {
                            eventually("it has ended", || !child.is_alive());
                            child.exitcode()
                        }
                        2 => {
                            eventually("its end is known", || child.exitcode().is_some());
                            assert!(!child.is_alive());
                            child.exitcode()
                        }
                        _ => {
                            let _ = child.join_timeout(Duration::from_millis(1));
                            None
                        }
                    };
                    let end = child.join_timeout(LONG);
                    assert_eq!(
                        code.unwrap_or(child.exitcode().unwrap()),
                        child.exitcode().unwrap()
                    );
                    answers.lock().unwrap().push((end, child.exitcode()));
                });
            }
            begin.wait();
            start.set();
            if way == 3 {
                child.0.kill().unwrap();
            }
        });
        let answers = answers.into_inner().unwrap();
        let expected = match way {
            0 => Some(0),
            1 => Some(3),
            2 => Some(101),
            _ => Some(-9),
        };
        assert_eq!(answers.len(), THREADS);
        for (end, code) in &answers {
            assert_eq!((end, *code), (&answers[0].0, expected), "{method:?}, round {round}");
        }
    }
}
