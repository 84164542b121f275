//! f13: the ends of pools, whatever their workers do.

use std::sync::{Arc, Mutex, mpsc};

use procession::pool::{Pool, PoolError, PoolState, TaskError};
use procession::process::StartMethod;
use procession::sync::Atomic;
use rustix::process::{Signal, kill_process};
use std::sync::atomic::Ordering;

use crate::pools::{add, kill, pids, stay, word, works};
use crate::promptly;
use crate::support::{LONG, eventually, fall_asleep};

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
        // The courier of the pool above is a thread: beside it nothing is started by fork.
        let builder = Pool::builder().processes(2).method(StartMethod::Zygote);
        let pool = Arc::new(builder.build().unwrap());
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
