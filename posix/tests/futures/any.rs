//! What all executors do.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use procession_posix::futures::{Executor, ReturnWhen, Shutdown, as_completed, wait};
use procession_posix::pool::{PoolError, TaskError};

use crate::tasks::{LONG, fail, picky, square};

pub fn tasks_have_results(executor: &impl Executor) {
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

pub fn a_panic_is_its_own_tasks_error(executor: &impl Executor) {
    let failing = executor.submit(fail, ()).unwrap();
    let fine = executor.submit(square, (2u64,)).unwrap();
    let error = failing.result().unwrap_err();
    let TaskError::Panicked { message, location, .. } = &error else { panic!("{error}") };
    assert_eq!(message, "this task fails");
    assert!(location.as_ref().unwrap().contains("tasks.rs"));
    assert!(matches!(failing.exception().unwrap(), Some(TaskError::Panicked { .. })));
    assert!(failing.done() && !failing.cancelled());
    // An error is there for all who ask.
    assert!(failing.take().is_err() && failing.take().is_err());
    assert_eq!(fine.result().unwrap(), 4);
}

pub fn maps_keep_the_order_and_errors_their_place(executor: &impl Executor) {
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

pub fn maps_take_their_inputs_lazily(executor: &impl Executor) {
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

pub fn sizes_of_zero_are_errors(executor: &impl Executor) {
    let zero = executor.map(square, 0..5).chunk_size(0).start();
    assert!(matches!(zero.map(drop), Err(PoolError::Zero { .. })));
    let zero = executor.map(square, 0..5).buffer_size(0).start();
    assert!(matches!(zero.map(drop), Err(PoolError::Zero { .. })));
    let mut refused = executor.map(square, 0..5).buffer_size(0).into_iter();
    assert!(matches!(refused.next(), Some(Err(TaskError::Refused(_)))));
    assert!(refused.next().is_none());
}

pub fn callbacks_run_in_order(executor: &impl Executor) {
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

pub fn callbacks_may_call_anything(executor: Arc<impl Executor + Send + Sync + 'static>) {
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

pub fn many_futures_are_waited_for(executor: &impl Executor) {
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

pub fn after_shutdown_nothing_is_taken(executor: &impl Executor) {
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

pub fn a_map_that_is_under_way_does_not_hold_up_a_shutdown(executor: &impl Executor) {
    let mut results = executor.map(square, 0u64..).buffer_size(4).into_iter();
    assert_eq!(results.next().unwrap().unwrap(), 0);
    executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
    // What was handed over is done; then comes the reason why there is no more.
    let rest: Vec<_> = results.collect();
    let (last, done) = rest.split_last().unwrap();
    assert!(done.iter().all(Result::is_ok));
    assert!(matches!(last, Err(TaskError::Refused(_))), "{last:?}");
}

pub fn threads_share_an_executor(executor: &(impl Executor + Sync)) {
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
