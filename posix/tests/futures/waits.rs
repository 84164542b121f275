//! Futures without an executor, and of several.

use std::time::{Duration, Instant};

use procession_posix::futures::{
    Future, InlineExecutor, ReturnWhen, SingleThreadExecutor, ThreadPoolExecutor,
    as_completed_timeout, wait, wait_timeout,
};
use procession_posix::pool::TaskError;

use crate::processes::processes;
use crate::tasks::{LONG, square};

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
