//! What only processes do.

use std::collections::BTreeSet;
use std::time::Instant;

use procession_posix::channel::Queue;
use procession_posix::futures::{
    ExecutorMap, ProcessPoolExecutor, ReturnWhen, Shutdown, ThreadPoolExecutor, wait_timeout,
};
use procession_posix::pool::{PoolError, PoolState, Retry, TaskError, Which, WorkerInfo};
use procession_posix::sync::Event;

use crate::gone::gone;
use crate::tasks::{Busy, LONG, SHORT, gated, square};

/// Ends its process at once.
fn crash(runs: Event) -> u64 {
    runs.set();
    // SAFETY: nothing is left of this process.
    unsafe { libc::_exit(7) }
}

fn pid() -> u32 {
    std::process::id()
}

pub fn processes(workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(workers).build().unwrap()
}

/// The workers, once so many are listed: one that has just been started may be at work before that.
fn listed(executor: &ProcessPoolExecutor, workers: usize) -> Vec<WorkerInfo> {
    let until = Instant::now() + LONG;
    loop {
        let listed = executor.workers();
        if listed.len() >= workers || Instant::now() > until {
            return listed;
        }
        std::thread::yield_now();
    }
}

#[test]
fn workers_are_started_at_need_and_used_again() {
    let executor = processes(2);
    assert_eq!(executor.workers().len(), 0);
    let first = executor.submit(pid, ()).unwrap().result().unwrap();
    for _ in 0..20 {
        assert_eq!(executor.submit(pid, ()).unwrap().result().unwrap(), first);
    }
    let workers = listed(&executor, 1);
    assert_eq!((workers.len(), workers[0].pid), (1, first));
    assert_eq!(workers[0].name, "ProcessPoolExecutor-1");
    let busy = [Busy::new(&executor), Busy::new(&executor)];
    assert_eq!(listed(&executor, 2).len(), 2);
    drop(busy);
    let none = ProcessPoolExecutor::builder().max_workers(0).build();
    assert!(matches!(none.map(drop), Err(PoolError::Zero { .. })));
}

#[test]
fn workers_that_nobody_waits_for_leave_with_the_last_task() {
    let executor = processes(2);
    let busy = Busy::new(&executor);
    let workers = listed(&executor, 1);
    executor.shutdown(Shutdown::new().wait(false)).unwrap();
    drop(executor);
    let go = busy.go.clone();
    drop(busy);
    go.set();
    let end = Instant::now() + LONG;
    while !workers.iter().all(|worker| gone(worker.pid)) {
        assert!(Instant::now() < end, "they are still there");
        std::thread::yield_now();
    }
}

#[test]
fn errors_of_maps_say_of_which_item_they_are() {
    let (executor, threads) = (processes(2), ThreadPoolExecutor::new().unwrap());
    let items = |map: ExecutorMap<'_, u64>| {
        let mut items: Vec<_> = map.into_iter().filter_map(Result::err).collect();
        items.sort_by_key(TaskError::item);
        items.iter().map(|error| error.item().unwrap()).collect::<Vec<_>>()
    };
    let third_fail = |x: u64| -> u64 { if x % 3 == 2 { panic!("a third") } else { x } };
    for size in [1, 4] {
        let map = executor.map(third_fail, 0..10).chunk_size(size);
        assert_eq!(items(map), [2, 5, 8], "chunks of {size}");
        let map = executor.map(third_fail, 0..10).chunk_size(size).as_completed();
        assert_eq!(items(map), [2, 5, 8], "chunks of {size} in any order");
        assert_eq!(items(threads.map(third_fail, 0..10).chunk_size(size)), [2, 5, 8]);
    }
    let dies = |x: u64| -> u64 { if x == 1 { std::process::exit(3) } else { x } };
    let map = executor.map(dies, 0..4).chunk_size(4);
    let error = map.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(error, TaskError::WorkerDied { task: Which::Item(1), .. }), "{error}");
    assert!(error.to_string().contains("of item 1 of the map exited with status 3"), "{error}");
    let alone = executor.submit(third_fail, (2,)).unwrap().result().unwrap_err();
    assert_eq!(alone.item(), None, "{alone}");
}

#[test]
fn a_crash_fails_its_own_task_alone() {
    let executor = processes(2);
    let runs = Event::new().unwrap();
    let (crashing, fine) = (executor.submit(crash, (runs,)).unwrap(), Busy::new(&executor));
    let error = crashing.result_timeout(LONG).unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { code: Some(7), attempt: 1, .. }), "{error}");
    fine.go.set();
    assert_eq!(fine.future.result_timeout(LONG).unwrap(), 1);
    let squares = executor.map(square, 0..50).timeout(LONG).into_iter();
    assert!(squares.map(Result::unwrap).eq((0..50).map(square)));
    let statistics = executor.statistics();
    assert_eq!((statistics.failed, statistics.deaths), (1, 1));
}

#[test]
fn a_strict_executor_breaks_with_its_first_death() {
    let executor = ProcessPoolExecutor::builder().max_workers(1).strict(true).build().unwrap();
    let runs = Event::new().unwrap();
    let futures = [
        executor.submit(crash, (runs,)).unwrap(),
        executor.submit(square, (1,)).unwrap(),
        executor.submit(square, (2,)).unwrap(),
    ];
    let waited = wait_timeout(&futures, ReturnWhen::AllCompleted, LONG);
    assert_eq!(waited.done.len(), 3);
    let broken = futures
        .iter()
        .filter(|future| matches!(future.exception(), Ok(Some(TaskError::Broken(_)))));
    assert!(broken.count() >= 2);
    assert!(matches!(executor.state(), PoolState::Broken | PoolState::Ended));
    let refused = executor.submit(square, (1,)).map(drop);
    assert!(matches!(refused, Err(PoolError::Broken { .. })));
    executor.terminate_workers();
    executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
}

#[test]
fn workers_can_be_ended_in_any_state() {
    type End = fn(&ProcessPoolExecutor);
    let ends: [End; 2] =
        [ProcessPoolExecutor::terminate_workers, ProcessPoolExecutor::kill_workers];
    for end in ends {
        let executor = processes(1);
        end(&executor);
        assert!(executor.submit(pid, ()).is_err());
        executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();

        let executor = processes(1);
        let busy = Busy::new(&executor);
        let queued = executor.submit(pid, ()).unwrap();
        let workers = listed(&executor, 1);
        end(&executor);
        let error = busy.future.result_timeout(LONG).unwrap_err();
        assert!(matches!(error, TaskError::Terminated), "{error}");
        let error = queued.result_timeout(LONG).unwrap_err();
        assert!(matches!(error, TaskError::Cancelled), "{error}");
        executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
        end(&executor);
        assert!(gone(workers[0].pid));
    }
}

#[test]
fn a_task_that_runs_can_be_aborted() {
    let executor = processes(1);
    let busy = Busy::new(&executor);
    let worker = listed(&executor, 1)[0].pid;
    assert!(!busy.future.cancel());
    assert!(busy.future.abort());
    let error = busy.future.result_timeout(LONG).unwrap_err();
    assert!(matches!(error, TaskError::Cancelled), "{error}");
    assert!(busy.future.cancelled());
    assert_ne!(executor.submit(pid, ()).unwrap().result_timeout(LONG).unwrap(), worker);
}

#[test]
fn late_processes_are_ended_and_lost_tasks_done_again() {
    let executor = ProcessPoolExecutor::builder().max_workers(1).deadline(SHORT).build().unwrap();
    let (runs, go) = (Event::new().unwrap(), Event::new().unwrap());
    let late = executor.submit(gated, (runs, go)).unwrap();
    let error = late.result_timeout(LONG).unwrap_err();
    assert!(matches!(error, TaskError::DeadlinePassed { .. }), "{error}");

    fn crash_once(tried: Event) -> u64 {
        if tried.is_set() { 5 } else { crash(tried) }
    }
    let retry = Retry::idempotent(2);
    let executor = ProcessPoolExecutor::builder().max_workers(1).retry(retry).build().unwrap();
    let future = executor.submit(crash_once, (Event::new().unwrap(),)).unwrap();
    assert_eq!(future.result_timeout(LONG).unwrap(), 5);
    assert_eq!(executor.statistics().retried, 1);
}

#[test]
fn workers_are_initialized_and_replaced() {
    fn note(pids: Queue<u32>) {
        pids.put(&std::process::id()).unwrap();
    }
    let pids = Queue::unbounded().unwrap();
    let builder = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(2);
    let executor = builder.initializer(note, (pids.clone(),)).build().unwrap();
    let seen: BTreeSet<_> =
        (0..6).map(|_| executor.submit(pid, ()).unwrap().result_timeout(LONG).unwrap()).collect();
    assert_eq!(seen.len(), 3);
    let mut noted = BTreeSet::new();
    while let Ok(pid) = pids.get_nowait() {
        noted.insert(pid);
    }
    assert!(noted.is_superset(&seen), "{noted:?} {seen:?}");

    fn fail_to_start() {
        panic!("no worker today");
    }
    let failing = ProcessPoolExecutor::builder().initializer(fail_to_start, ());
    let executor = failing.start_attempts(2).max_workers(1).build().unwrap();
    let future = executor.submit(pid, ()).unwrap();
    let error = future.result_timeout(LONG).unwrap_err();
    let TaskError::Broken(cause) = &error else { panic!("{error}") };
    assert!(cause.to_string().contains("no worker today"), "{cause}");
    assert!(matches!(executor.submit(pid, ()), Err(PoolError::Broken { .. })));
}

#[test]
fn what_does_not_fit_a_message_crosses_as_well() {
    let executor = processes(2);
    let large: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let back = executor.submit(|bytes: Vec<u8>| bytes, (large.clone(),)).unwrap();
    assert!(back.take().unwrap() == large);
    let sizes = [0usize, 1, 1000, 100_000, 3_000_000];
    let made = executor.map(|size: usize| vec![1u8; size], sizes).into_iter();
    assert!(made.map(|made| made.unwrap().len()).eq(sizes));
}
