//! What only threads do.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use procession_posix::futures::{
    Future, ReturnWhen, Shutdown, ThreadPoolExecutor, as_completed_timeout, wait, wait_timeout,
};
use procession_posix::pool::{PoolError, PoolState, TaskError};

use crate::tasks::{Busy, LONG, SHORT, square};

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
