//! What all executors do that have workers.

use std::sync::mpsc;
use std::time::Duration;

use procession_posix::futures::{
    Executor, Future, ReturnWhen, Shutdown, as_completed, as_completed_timeout, wait, wait_timeout,
};
use procession_posix::pool::{PoolError, TaskError};
use procession_posix::sync::Event;

use crate::tasks::{Busy, LONG, SHORT, fail, gated, nothing, square};

pub fn what_is_queued_can_be_cancelled(executor: &impl Executor, workers: usize) {
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

pub fn waiting_has_deadlines(executor: &impl Executor) {
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

pub fn the_first_that_is_over_ends_a_wait(executor: &impl Executor) {
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

pub fn shutdown_without_waiting_finishes_all(executor: impl Executor) {
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

pub fn shutdown_can_cancel_what_is_queued(executor: &impl Executor, workers: usize) {
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

pub fn maps_have_a_timeout(executor: &impl Executor) {
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

pub fn dropping_waits_for_all(executor: impl Executor) {
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

pub fn dropping_waits_in_a_panic_too(executor: impl Executor) {
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

pub fn after_a_shutdown_dropping_does_not_wait(executor: impl Executor) {
    let busy = Busy::new(&executor);
    let late = executor.shutdown(Shutdown::new().timeout(SHORT));
    assert!(matches!(late, Err(PoolError::TimedOut)), "{late:?}");
    drop(executor);
    assert!(!busy.future.done());
    busy.go.set();
    assert_eq!(busy.future.result_timeout(LONG).unwrap(), 1);
}

pub fn futures_can_be_awaited(executor: &impl Executor) {
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
