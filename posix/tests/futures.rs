//! Executors, futures, `wait` and `as_completed`: one suite over all executors, and what only some of them can.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use procession_posix::channel::Queue;
use procession_posix::futures::{
    Executor, Future, InlineExecutor, ProcessPoolExecutor, ReturnWhen, Shutdown,
    SingleThreadExecutor, ThreadPoolExecutor, as_completed, as_completed_timeout, par_map, wait,
    wait_timeout,
};
use procession_posix::pool::{PoolError, PoolState, Retry, TaskError, Which, WorkerInfo};
use procession_posix::sync::Event;

#[path = "support/gone.rs"]
mod gone;

use gone::gone;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

fn square(x: u64) -> u64 {
    x * x
}

fn fail() -> u64 {
    panic!("this task fails")
}

fn picky(x: u64) -> u64 {
    assert!(x != 3, "not three");
    x
}

/// Says that it runs, and waits until it may go on.
fn gated(runs: Event, go: Event) -> u64 {
    runs.set();
    assert!(go.wait_timeout(LONG));
    1
}

fn nothing() {}

/// A task that runs until `go` is set.
struct Busy {
    future: Future<u64>,
    go: Event,
}

impl Busy {
    fn new(executor: &impl Executor) -> Self {
        let (runs, go) = (Event::new().unwrap(), Event::new().unwrap());
        let future = executor.submit(gated, (runs.clone(), go.clone())).unwrap();
        assert!(runs.wait_timeout(LONG));
        Busy { future, go }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.go.set();
    }
}

// What all executors do.

fn tasks_have_results(executor: &impl Executor) {
    let future = executor.submit(square, (7u64,)).unwrap();
    assert_eq!(future.result().unwrap(), 49);
    assert_eq!(future.result_timeout(Duration::ZERO).unwrap(), 49);
    assert!(future.done() && !future.running() && !future.cancelled() && !future.cancel());
    assert!(future.exception().unwrap().is_none());
    assert_eq!(future.clone(), future);
    assert_eq!(future.clone().take().unwrap(), 49);
    assert!(matches!(future.result(), Err(TaskError::Taken)));
    let sum =
        executor.submit(|a: u64, b: u64, c: String| c.len() as u64 + a + b, (1, 2, "three".into()));
    assert_eq!(sum.unwrap().result().unwrap(), 8);
    // An error that a function returns is its result.
    let refused = executor.submit(|| Err::<u8, String>("no".into()), ()).unwrap();
    assert_eq!(refused.result().unwrap(), Err("no".into()));
    assert!(refused.exception().unwrap().is_none());
}

fn a_panic_is_its_own_tasks_error(executor: &impl Executor) {
    let failing = executor.submit(fail, ()).unwrap();
    let fine = executor.submit(square, (2u64,)).unwrap();
    let error = failing.result().unwrap_err();
    let TaskError::Panicked { message, location, .. } = &error else { panic!("{error}") };
    assert_eq!(message, "this task fails");
    assert!(location.as_ref().unwrap().contains("futures.rs"));
    assert!(matches!(failing.exception().unwrap(), Some(TaskError::Panicked { .. })));
    assert!(failing.done() && !failing.cancelled());
    // An error is there for all who ask.
    assert!(failing.take().is_err() && failing.take().is_err());
    assert_eq!(fine.result().unwrap(), 4);
}

fn maps_keep_the_order_and_errors_their_place(executor: &impl Executor) {
    let squares: Result<Vec<u64>, _> = executor.map(square, 0..1000).into_iter().collect();
    assert_eq!(squares.unwrap(), (0..1000).map(square).collect::<Vec<_>>());
    assert_eq!(executor.map(square, []).into_iter().count(), 0);
    for chunk_size in [1, 2, 7] {
        let results = executor.map(picky, 0..6).chunk_size(chunk_size);
        for (i, result) in results.into_iter().enumerate() {
            match result {
                Ok(x) => assert_eq!(x, i as u64),
                Err(error) => assert!(i == 3 && matches!(error, TaskError::Panicked { .. })),
            }
        }
    }
    let all: BTreeSet<u64> =
        executor.map(square, 0..100).as_completed().into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(all, (0..100).map(square).collect());
}

fn maps_take_their_inputs_lazily(executor: &impl Executor) {
    let taken = AtomicU64::new(0);
    let counted = (0u64..).inspect(|_| {
        taken.fetch_add(1, Ordering::Relaxed);
    });
    let mut results = executor.map(square, counted).buffer_size(5).chunk_size(2).into_iter();
    for i in 0..50 {
        assert_eq!(results.next().unwrap().unwrap(), square(i));
        assert!(taken.load(Ordering::Relaxed) <= i + 1 + 5);
    }
    drop(results);
    let taken = AtomicU64::new(0);
    let counted = (0u64..).inspect(|_| {
        taken.fetch_add(1, Ordering::Relaxed);
    });
    let map = executor.map(square, counted);
    assert_eq!(taken.load(Ordering::Relaxed), 0);
    drop(map);
}

fn sizes_of_zero_are_errors(executor: &impl Executor) {
    let zero = executor.map(square, 0..5).chunk_size(0).start();
    assert!(matches!(zero.map(drop), Err(PoolError::Zero { .. })));
    let zero = executor.map(square, 0..5).buffer_size(0).start();
    assert!(matches!(zero.map(drop), Err(PoolError::Zero { .. })));
    let mut refused = executor.map(square, 0..5).buffer_size(0).into_iter();
    assert!(matches!(refused.next(), Some(Err(TaskError::Refused(_)))));
    assert!(refused.next().is_none());
}

fn callbacks_run_in_order(executor: &impl Executor) {
    let (tell, told) = mpsc::channel();
    let future = executor.submit(square, (3u64,)).unwrap();
    for i in 0..5 {
        let tell = tell.clone();
        future.add_done_callback(move |future| {
            tell.send((i, future.result().unwrap())).unwrap();
            assert!(i != 1, "a callback that panics");
        });
    }
    for i in 0..5 {
        assert_eq!(told.recv_timeout(LONG).unwrap(), (i, 9));
    }
    future.add_done_callback(move |_| tell.send((5, 0)).unwrap());
    assert_eq!(told.recv_timeout(LONG).unwrap(), (5, 0));
    // At once and here, if it is over.
    let over = executor.submit(square, (3u64,)).unwrap();
    over.result().unwrap();
    let (here, there) = (std::thread::current().id(), Arc::new(Mutex::new(None)));
    let place = there.clone();
    over.add_done_callback(move |_| *place.lock().unwrap() = Some(std::thread::current().id()));
    assert_eq!(*there.lock().unwrap(), Some(here));
}

fn callbacks_may_call_anything(executor: Arc<impl Executor + Send + Sync + 'static>) {
    let (tell, told) = mpsc::channel();
    let future = executor.submit(square, (3u64,)).unwrap();
    let inner = executor.clone();
    future.add_done_callback(move |future| {
        let other = inner.submit(square, (future.result().unwrap(),)).unwrap();
        let squares = inner.map(square, 0..10).into_iter().map(Result::unwrap).sum::<u64>();
        inner.shutdown(Shutdown::new().wait(false)).unwrap();
        tell.send((other.result().unwrap(), squares)).unwrap();
    });
    assert_eq!(told.recv_timeout(LONG).unwrap(), (81, 285));
    executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
}

fn many_futures_are_waited_for(executor: &impl Executor) {
    let futures: Vec<_> = (0..200u64).map(|i| executor.submit(square, (i,)).unwrap()).collect();
    let waited = wait(&futures, ReturnWhen::AllCompleted);
    assert_eq!((waited.done, waited.not_done.len()), (futures.clone(), 0));
    let completed: Vec<_> = as_completed(futures.clone()).collect();
    assert_eq!(completed.len(), 200);
    let squares: BTreeSet<_> = completed.iter().map(|future| future.result().unwrap()).collect();
    assert_eq!(squares, (0..200).map(square).collect());
    // Those that are given twice count once; none at all is no wait.
    let twice = [&futures[0], &futures[1], &futures[0]];
    assert_eq!(wait(twice, ReturnWhen::AllCompleted).done.len(), 2);
    assert_eq!(as_completed(twice.map(Clone::clone)).count(), 2);
    for when in [ReturnWhen::AllCompleted, ReturnWhen::FirstCompleted, ReturnWhen::FirstException] {
        assert_eq!(wait(&futures[..0], when).done.len(), 0);
    }
}

fn after_shutdown_nothing_is_taken(executor: &impl Executor) {
    let future = executor.submit(square, (2u64,)).unwrap();
    executor.shutdown(Shutdown::new()).unwrap();
    assert!(future.done());
    assert_eq!(future.result().unwrap(), 4);
    let refused = executor.submit(square, (2u64,));
    assert!(matches!(refused.map(drop), Err(PoolError::NotRunning { .. })));
    let refused = executor.map(square, 0..2).start();
    assert!(matches!(refused.map(drop), Err(PoolError::NotRunning { .. })));
    executor.shutdown(Shutdown::new().cancel_futures(true)).unwrap();
    executor.shutdown(Shutdown::new().wait(false)).unwrap();
}

fn a_map_that_is_under_way_does_not_hold_up_a_shutdown(executor: &impl Executor) {
    let mut results = executor.map(square, 0u64..).buffer_size(4).into_iter();
    assert_eq!(results.next().unwrap().unwrap(), 0);
    executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
    // What was handed over is done; then comes the reason why there is no more.
    let rest: Vec<_> = results.collect();
    let (last, done) = rest.split_last().unwrap();
    assert!(done.iter().all(Result::is_ok));
    assert!(matches!(last, Err(TaskError::Refused(_))), "{last:?}");
}

// What all do that have workers.

fn what_is_queued_can_be_cancelled(executor: &impl Executor, workers: usize) {
    let busy: Vec<_> = (0..workers).map(|_| Busy::new(executor)).collect();
    assert!(busy[0].future.running() && !busy[0].future.cancel() && !busy[0].future.done());
    let futures: Vec<_> = (0..10u64).map(|i| executor.submit(square, (i,)).unwrap()).collect();
    assert!(!futures[9].running() && !futures[9].done());
    assert!(futures[9].cancel() && futures[9].cancel() && futures[9].cancelled());
    assert!(futures[9].done() && !futures[9].running());
    assert!(matches!(futures[9].result(), Err(TaskError::Cancelled)));
    assert!(matches!(futures[9].exception(), Err(TaskError::Cancelled)));
    // Cancelled counts as done, not as failed.
    let waited = wait_timeout(&futures, ReturnWhen::FirstCompleted, LONG);
    assert_eq!(waited.done, [futures[9].clone()]);
    let waited = wait_timeout(&futures, ReturnWhen::FirstException, SHORT);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 9));
    let (tell, told) = mpsc::channel();
    futures[8].add_done_callback(move |future| tell.send(future.cancelled()).unwrap());
    assert!(futures[8].cancel());
    assert!(told.recv_timeout(LONG).unwrap());
    drop(busy);
    for (i, future) in futures.iter().enumerate().take(8) {
        assert_eq!(future.result().unwrap(), square(i as u64));
    }
}

fn waiting_has_deadlines(executor: &impl Executor) {
    let busy = Busy::new(executor);
    assert!(matches!(busy.future.result_timeout(SHORT), Err(TaskError::TimedOut)));
    assert!(matches!(busy.future.take_timeout(SHORT), Err(TaskError::TimedOut)));
    assert!(matches!(busy.future.exception_timeout(SHORT), Err(TaskError::TimedOut)));
    assert!(!busy.future.wait_timeout(Duration::ZERO));
    let only = [busy.future.clone()];
    for timeout in [Duration::ZERO, SHORT] {
        let waited = wait_timeout(&only, ReturnWhen::AllCompleted, timeout);
        assert_eq!((waited.done.len(), waited.not_done.len()), (0, 1));
        let mut completed = as_completed_timeout(only.clone(), timeout);
        let error = completed.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "1 (of 1) futures unfinished");
        assert!(completed.next().is_none());
    }
    let mut completed = as_completed(only.clone());
    assert!(completed.next_timeout(SHORT).is_err());
    let shutdown = executor.shutdown(Shutdown::new().timeout(SHORT));
    assert!(matches!(shutdown, Err(PoolError::TimedOut)));
    busy.go.set();
    assert_eq!(completed.next_timeout(LONG).unwrap().unwrap(), busy.future);
    assert_eq!(busy.future.result().unwrap(), 1);
    executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
}

fn the_first_that_is_over_ends_a_wait(executor: &impl Executor) {
    let busy = Busy::new(executor);
    let (setter, other) = Future::<u64>::new();
    setter.set_result(2);
    // Of different executors.
    let both = [busy.future.clone(), other.clone()];
    let waited = wait(&both, ReturnWhen::FirstCompleted);
    assert_eq!((waited.done, waited.not_done), (vec![other.clone()], vec![busy.future.clone()]));
    let mut completed = as_completed(both.clone());
    assert_eq!(completed.next().unwrap(), other);
    busy.go.set();
    assert_eq!(completed.next().unwrap(), busy.future);
    assert!(completed.next().is_none());
    assert_eq!(wait(&both, ReturnWhen::FirstException).done.len(), 2);
    let failing = executor.submit(fail, ()).unwrap();
    let (never, pending) = Future::<u64>::new();
    assert!(never.set_running());
    let waited = wait(&[pending, failing.clone()], ReturnWhen::FirstException);
    assert_eq!(waited.done, [failing]);
}

fn shutdown_without_waiting_finishes_all(executor: impl Executor) {
    let busy = Busy::new(&executor);
    let queued: Vec<_> = (0..20u64).map(|i| executor.submit(square, (i,)).unwrap()).collect();
    executor.shutdown(Shutdown::new().wait(false)).unwrap();
    assert!(executor.submit(nothing, ()).is_err());
    assert!(!busy.future.done());
    busy.go.set();
    for (i, future) in queued.iter().enumerate() {
        assert_eq!(future.result_timeout(LONG).unwrap(), square(i as u64));
    }
}

fn shutdown_can_cancel_what_is_queued(executor: &impl Executor, workers: usize) {
    let busy: Vec<_> = (0..workers).map(|_| Busy::new(executor)).collect();
    let queued: Vec<_> = (0..20u64).map(|i| executor.submit(square, (i,)).unwrap()).collect();
    executor.shutdown(Shutdown::new().wait(false).cancel_futures(true)).unwrap();
    for future in &queued {
        assert!(matches!(future.result_timeout(LONG), Err(TaskError::Cancelled)));
    }
    for busy in &busy {
        assert!(!busy.future.done());
        busy.go.set();
        assert_eq!(busy.future.result().unwrap(), 1);
    }
    executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
}

fn maps_have_a_timeout(executor: &impl Executor) {
    let (runs, go) = (Event::new().unwrap(), Event::new().unwrap());
    let inputs = (0..3).map(|i| (i, runs.clone(), go.clone()));
    let second_waits = |(i, runs, go): (u64, Event, Event)| match i {
        1 => gated(runs, go),
        _ => 0,
    };
    let map = executor.map(second_waits, inputs).chunk_size(1).timeout(Duration::from_millis(200));
    let mut results = map.start().unwrap();
    // On a machine that is busy enough already the first may be late.
    let late = match results.next().unwrap() {
        Ok(_) => results.next().unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(late, TaskError::TimedOut), "{late}");
    assert!(results.next().is_none());
    go.set();
}

fn dropping_waits_for_all(executor: impl Executor) {
    let busy = Busy::new(&executor);
    let queued = executor.submit(square, (2u64,)).unwrap();
    let go = busy.go.clone();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(SHORT);
        go.set();
    });
    drop(executor);
    assert!(busy.future.done() && queued.done());
    opener.join().unwrap();
}

fn dropping_waits_in_a_panic_too(executor: impl Executor) {
    let busy = Busy::new(&executor);
    let go = busy.go.clone();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(SHORT);
        go.set();
    });
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _executor = executor;
        // Without a word of the hook.
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(panics.is_err() && busy.future.done());
    opener.join().unwrap();
}

fn after_a_shutdown_dropping_does_not_wait(executor: impl Executor) {
    let busy = Busy::new(&executor);
    let late = executor.shutdown(Shutdown::new().timeout(SHORT));
    assert!(matches!(late, Err(PoolError::TimedOut)), "{late:?}");
    drop(executor);
    assert!(!busy.future.done());
    busy.go.set();
    assert_eq!(busy.future.result_timeout(LONG).unwrap(), 1);
}

fn futures_can_be_awaited(executor: &impl Executor) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let busy = Busy::new(executor);
        let pending = tokio::time::timeout(SHORT, busy.future.clone()).await;
        assert!(pending.is_err());
        busy.go.set();
        assert_eq!(tokio::time::timeout(LONG, busy.future.clone()).await.unwrap().unwrap(), 1);
        let futures: Vec<_> = (0..100u64).map(|i| executor.submit(square, (i,)).unwrap()).collect();
        for (i, future) in futures.into_iter().enumerate() {
            let result = tokio::time::timeout(LONG, future).await.unwrap();
            assert_eq!(result.unwrap(), square(i as u64));
        }
        let failing = executor.submit(fail, ()).unwrap();
        assert!(matches!(failing.await, Err(TaskError::Panicked { .. })));
    });
}

fn threads_share_an_executor(executor: &(impl Executor + Sync)) {
    std::thread::scope(|scope| {
        for t in 0..4u64 {
            scope.spawn(move || {
                for i in 0..100 {
                    let future = executor.submit(square, (t * 1000 + i,)).unwrap();
                    assert_eq!(future.result().unwrap(), square(t * 1000 + i));
                }
                let squares = executor.map(square, 0..500).into_iter();
                assert!(squares.map(Result::unwrap).eq((0..500).map(square)));
            });
        }
    });
}

/// Makes a test of each of these functions.
macro_rules! tests {
    ($make:expr; $($name:ident)*) => {
        $(#[test]
        fn $name() {
            super::$name(&$make);
        })*
    };
}

macro_rules! all {
    ($make:expr) => {
        tests!($make;
            tasks_have_results
            a_panic_is_its_own_tasks_error
            maps_keep_the_order_and_errors_their_place
            maps_take_their_inputs_lazily
            sizes_of_zero_are_errors
            callbacks_run_in_order
            many_futures_are_waited_for
            after_shutdown_nothing_is_taken
            a_map_that_is_under_way_does_not_hold_up_a_shutdown
            threads_share_an_executor
        );

        #[test]
        fn callbacks_may_call_anything() {
            super::callbacks_may_call_anything(std::sync::Arc::new($make));
        }
    };
}

macro_rules! with_workers {
    ($make:expr, $workers:expr) => {
        all!($make);
        tests!($make;
            waiting_has_deadlines
            the_first_that_is_over_ends_a_wait
            maps_have_a_timeout
            futures_can_be_awaited
        );

        #[test]
        fn what_is_queued_can_be_cancelled() {
            super::what_is_queued_can_be_cancelled(&$make, $workers);
        }

        #[test]
        fn shutdown_can_cancel_what_is_queued() {
            super::shutdown_can_cancel_what_is_queued(&$make, $workers);
        }

        #[test]
        fn shutdown_without_waiting_finishes_all() {
            super::shutdown_without_waiting_finishes_all($make);
        }

        #[test]
        fn dropping_waits_in_a_panic_too() {
            super::dropping_waits_in_a_panic_too($make);
        }

        #[test]
        fn after_a_shutdown_dropping_does_not_wait() {
            super::after_a_shutdown_dropping_does_not_wait($make);
        }

        #[test]
        fn dropping_waits_for_all() {
            super::dropping_waits_for_all($make);
        }
    };
}

mod inline {
    use procession_posix::futures::InlineExecutor;
    all!(InlineExecutor::new());
}

mod single_thread {
    use procession_posix::futures::SingleThreadExecutor;
    with_workers!(SingleThreadExecutor::new().unwrap(), 1);
}

mod threads {
    use procession_posix::futures::ThreadPoolExecutor;
    with_workers!(ThreadPoolExecutor::builder().max_workers(2).build().unwrap(), 2);
}

mod over_processes {
    with_workers!(super::processes(2), 2);
}

#[test]
fn futures_of_several_executors_are_waited_for_together() {
    let (threads, inline) = (ThreadPoolExecutor::new().unwrap(), InlineExecutor::new());
    let single = SingleThreadExecutor::new().unwrap();
    let others = processes(2);
    for _ in 0..5 {
        let mut futures: Vec<Future<u64>> = Vec::new();
        for i in 0..20 {
            futures.push(threads.submit(square, (i,)).unwrap());
            futures.push(inline.submit(square, (i,)).unwrap());
            futures.push(single.submit(square, (i,)).unwrap());
            futures.push(others.submit(square, (i,)).unwrap());
        }
        let first = wait_timeout(&futures, ReturnWhen::FirstCompleted, LONG);
        assert!(!first.done.is_empty());
        let sum: u64 = as_completed_timeout(futures.clone(), LONG)
            .map(|future| future.unwrap().result().unwrap())
            .sum();
        assert_eq!(sum, 4 * (0..20).map(square).sum::<u64>());
        assert_eq!(wait(&futures, ReturnWhen::AllCompleted).done.len(), 80);
    }
}

// What only processes do.

/// Ends its process at once.
fn crash(runs: Event) -> u64 {
    runs.set();
    // SAFETY: nothing is left of this process.
    unsafe { libc::_exit(7) }
}

fn pid() -> u32 {
    std::process::id()
}

fn processes(workers: usize) -> ProcessPoolExecutor {
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
    let items = |map: procession_posix::futures::ExecutorMap<'_, u64>| {
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

// What only threads do.

#[test]
fn threads_have_names_and_idle_ones_are_used_first() {
    let executor =
        ThreadPoolExecutor::builder().max_workers(3).thread_name_prefix("test").build().unwrap();
    assert_eq!(executor.thread_names().len(), 0);
    for _ in 0..20 {
        let name = executor.submit(|| std::thread::current().name().map(str::to_owned), ());
        assert_eq!(name.unwrap().result().unwrap().unwrap(), "test_0");
    }
    assert_eq!(executor.thread_names(), ["test_0"]);
    let busy: Vec<_> = (0..3).map(|_| Busy::new(&executor)).collect();
    assert_eq!(executor.thread_names(), ["test_0", "test_1", "test_2"]);
    drop(busy);
    let other = ThreadPoolExecutor::new().unwrap();
    let name = other.submit(|| std::thread::current().name().map(str::to_owned), ());
    let name = name.unwrap().result().unwrap().unwrap();
    assert!(name.starts_with("ThreadPoolExecutor-") && name.ends_with("_0"), "{name}");
    let none = ThreadPoolExecutor::builder().max_workers(0).build();
    assert!(matches!(none.map(drop), Err(PoolError::Zero { .. })));
}

#[test]
fn each_thread_is_initialized_once() {
    let begun = Arc::new(AtomicU32::new(0));
    let count = |begun: Arc<AtomicU32>, more: u32| {
        begun.fetch_add(more, Ordering::Relaxed);
    };
    let executor =
        ThreadPoolExecutor::builder().max_workers(2).initializer(count, (begun.clone(), 10));
    let executor = executor.build().unwrap();
    let busy = [Busy::new(&executor), Busy::new(&executor)];
    for busy in &busy {
        busy.go.set();
    }
    for i in 0..10 {
        executor.submit(square, (i,)).unwrap().result().unwrap();
    }
    assert_eq!(begun.load(Ordering::Relaxed), 20);
}

#[test]
fn a_failing_initializer_breaks_the_executor_with_its_cause() {
    let executor = ThreadPoolExecutor::builder().initializer(|| panic!("no thread today"), ());
    let executor = executor.build().unwrap();
    let future = executor.submit(square, (1,)).unwrap();
    let error = future.result_timeout(LONG).unwrap_err();
    let TaskError::Broken(cause) = &error else { panic!("{error}") };
    assert!(cause.to_string().contains("no thread today"), "{cause}");
    let refused = executor.submit(square, (1,)).unwrap_err();
    assert!(matches!(refused, PoolError::Broken { .. }), "{refused}");
    executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
    assert_eq!(executor.state(), PoolState::Ended);
}

#[test]
fn a_task_can_capture_and_its_result_need_not_be_copied() {
    struct Large(Vec<u8>);
    let executor = ThreadPoolExecutor::new().unwrap();
    let words = vec![String::from("one"), String::from("two")];
    let shared = Arc::new(Mutex::new(0));
    let total = shared.clone();
    let lengths = executor.map(move |word: String| *total.lock().unwrap() += word.len(), words);
    assert_eq!(lengths.into_iter().filter(Result::is_ok).count(), 2);
    assert_eq!(*shared.lock().unwrap(), 6);
    let large = executor.submit(|| Large(vec![1; 1000]), ()).unwrap();
    assert_eq!(large.take().unwrap().0.len(), 1000);
}

#[test]
fn a_task_may_wait_for_tasks_of_its_own() {
    fn fibonacci(executor: &Arc<ThreadPoolExecutor>, n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let parts: Vec<_> = [n - 1, n - 2]
            .map(|n| {
                let inner = executor.clone();
                executor.submit(move || fibonacci(&inner, n), ()).unwrap()
            })
            .into();
        assert_eq!(wait(&parts, ReturnWhen::AllCompleted).done.len(), 2);
        parts.iter().map(|part| part.result().unwrap()).sum()
    }
    let executor = Arc::new(ThreadPoolExecutor::builder().max_workers(2).build().unwrap());
    let inner = executor.clone();
    let future = executor.submit(move || fibonacci(&inner, 12), ()).unwrap();
    assert_eq!(future.result_timeout(LONG).unwrap(), 144);
    let inner = executor.clone();
    let future = executor.submit(move || inner.shutdown(Shutdown::new()), ()).unwrap();
    let refused = future.take_timeout(LONG).unwrap();
    assert!(matches!(refused, Err(PoolError::Within)), "{refused:?}");
}

#[test]
fn a_task_may_wait_for_tasks_of_its_own_executor_and_of_another_together() {
    type Wait = fn(Vec<Future<u64>>) -> u64;
    let waits: [Wait; 2] = [
        |futures| {
            let waited = wait_timeout(&futures, ReturnWhen::AllCompleted, LONG);
            waited.done.iter().map(|future| future.result().unwrap()).sum()
        },
        |futures| {
            let completed = as_completed_timeout(futures, LONG);
            completed.map(|future| future.unwrap().result().unwrap()).sum()
        },
    ];
    for wait_for_all in waits {
        let single = || ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        let (executor, other) = (Arc::new(single()), single());
        let inner = executor.clone();
        // Also for one that somebody else has handed over, behind it.
        let (give, got) = mpsc::channel();
        let waits = move || {
            let given = got.recv_timeout(LONG).unwrap();
            let own = inner.submit(square, (3,)).unwrap();
            wait_for_all(vec![own, other.submit(square, (4,)).unwrap(), given])
        };
        let future = executor.submit(waits, ()).unwrap();
        give.send(executor.submit(square, (5,)).unwrap()).unwrap();
        assert_eq!(future.result_timeout(LONG).unwrap(), 50);
    }
}

#[test]
fn an_executor_that_a_task_drops_ends_by_itself() {
    let executor = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
    let (give, got) = mpsc::channel::<ThreadPoolExecutor>();
    let future = executor.submit(move || drop(got.recv_timeout(LONG).unwrap()), ()).unwrap();
    give.send(executor).unwrap();
    future.take_timeout(LONG).unwrap();
}

#[test]
fn late_tasks_fail_and_others_go_on() {
    let executor = ThreadPoolExecutor::builder().max_workers(1).deadline(SHORT).build().unwrap();
    let (go, wait) = mpsc::channel::<()>();
    let late = executor.submit(move || wait.recv_timeout(LONG).is_ok(), ()).unwrap();
    let error = late.result_timeout(LONG).unwrap_err();
    assert!(matches!(error, TaskError::DeadlinePassed { .. }), "{error}");
    executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
    drop(go);
}

#[test]
fn nobody_waits_for_what_a_dropped_setter_promised() {
    let (setter, future) = Future::<u64>::new();
    assert!(!future.running() && !future.done());
    assert!(setter.set_running() && !setter.set_running());
    assert!(future.running() && !future.cancel());
    drop(setter);
    assert!(matches!(future.result(), Err(TaskError::Cancelled)));
    let (setter, future) = Future::<u64>::new();
    assert!(future.cancel() && !setter.set_running() && !setter.set_result(1));
    let (setter, future) = Future::<u64>::new();
    assert!(setter.set_exception(TaskError::Terminated));
    assert!(matches!(future.exception(), Ok(Some(TaskError::Terminated))));
    let (setter, future) = Future::new();
    let other = std::thread::spawn(move || setter.set_result(5));
    assert_eq!(future.result_timeout(LONG).unwrap(), 5);
    assert!(other.join().unwrap());
}

#[test]
fn waits_that_time_out_leave_nothing_behind() {
    let (setter, future) = Future::<u64>::new();
    for _ in 0..10_000 {
        let waited = wait_timeout([&future], ReturnWhen::AllCompleted, Duration::ZERO);
        assert_eq!(waited.not_done.len(), 1);
    }
    let begun = Instant::now();
    setter.set_result(1);
    assert!(begun.elapsed() < LONG / 4, "all of them were woken");
}

// par_map.

#[test]
fn par_map_keeps_the_order_and_may_borrow() {
    let numbers: Vec<u64> = (0..100_000).collect();
    let offset = 7;
    let results = par_map(&numbers, |x| x + offset);
    assert!(results.iter().enumerate().all(|(i, x)| *x == i as u64 + 7));
    let mut numbers = numbers;
    par_map(numbers.iter_mut(), |x| *x *= 2);
    assert_eq!(numbers[500], 1000);
    assert_eq!(par_map([] as [u8; 0], |x| x).len(), 0);
    // Two threads at least, where there are two processors.
    let here = std::thread::current().id();
    let threads = par_map(0..1000, |_| {
        std::thread::sleep(Duration::from_micros(10));
        std::thread::current().id()
    });
    assert!(threads.contains(&here));
}

#[test]
fn par_map_passes_the_first_panic_on() {
    let panic = std::panic::catch_unwind(|| {
        par_map(0..1000, |x| {
            if x == 0 {
                std::thread::sleep(SHORT);
                panic!("zero");
            }
            assert!(x % 100 != 99, "panic at {x}");
            x
        })
    });
    let panic = panic.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"zero"));
    let inputs = (0..10).inspect(|x| assert!(*x != 5, "the input panics"));
    let panic = std::panic::catch_unwind(|| par_map(inputs, |x| x)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the input panics"));
}
