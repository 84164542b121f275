//! The rows of executors, and of what is asked for in vain.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use procession::futures::{
    Future, ProcessPoolExecutor, ReturnWhen, Shutdown, ThreadPoolExecutor, as_completed,
    wait_timeout,
};
use procession::pool::{Pool, PoolError, TaskError};
use procession::sync::Atomic;

use crate::pools::{add, ends, kill, square, stay, stayer, word, works};
use crate::promptly;
use crate::support::{LONG, eventually};

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
    let cancelled = futures.iter().filter(|(number, future)| number % 100 == 0 && future.cancel());
    assert_eq!(cancelled.count() as u64, THREADS * EACH / 100);
    stayers.into_iter().for_each(kill);
    for (number, future) in &futures {
        match future.result_timeout(LONG) {
            Ok(sum) => assert_eq!(sum, number + 1),
            Err(TaskError::Cancelled) => assert_eq!(number % 100, 0),
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
