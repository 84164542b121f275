// Calls, their results, and callbacks. Included for each kind of pool, see `main.rs`.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use procession_posix::pool::{PoolState, TaskError};
use procession_posix::sync::Semaphore;
use procession_posix::value::Value;

use super::Pool;
use crate::tasks::{LONG, gate, odd_ones_panic, pass, report_and_pass, square};

#[test]
fn a_call_takes_its_arguments_as_a_tuple() {
    alone!(a_call_takes_its_arguments_as_a_tuple);
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.apply(|| 5, ()).unwrap(), 5);
    assert_eq!(pool.apply(square, (5,)).unwrap(), 25);
    assert_eq!(
        pool.apply(|a: String, b: u8, c: char| format!("{a}{b}{c}"), ("a".into(), 1, 'c')).unwrap(),
        "a1c"
    );
    let nothing: Option<Vec<u8>> = pool.apply(|| None, ()).unwrap();
    assert_eq!(nothing, None);
    let failed: Result<u32, String> = pool.apply(|| Err("no".to_string()), ()).unwrap();
    assert_eq!(failed, Err("no".to_string()));
}

#[test]
fn a_result_is_waited_for_and_taken_once() {
    alone!(a_result_is_waited_for_and_taken_once);
    let pool = Pool::new(1).unwrap();
    let (gate, opens) = gate();
    let result = pool.apply_async(pass, (gate, 7)).unwrap();
    let other = result.clone();
    assert!(!result.ready());
    assert!(!result.wait_timeout(Duration::from_millis(1)));
    assert!(matches!(result.get_timeout(Duration::from_millis(1)), Err(TaskError::TimedOut)));
    assert!(matches!(result.get_timeout(Duration::ZERO), Err(TaskError::TimedOut)));
    assert_eq!(result.successful(), None);
    drop(opens);
    result.wait();
    assert!(result.ready());
    assert_eq!(result.successful(), Some(true));
    assert_eq!(other.get_cloned().unwrap(), 7);
    assert_eq!(result.get_timeout(Duration::ZERO).unwrap(), 7);
    assert!(matches!(other.get(), Err(TaskError::Taken)));
    assert_eq!(other.successful(), Some(true));
    assert!(!result.cancel(), "it is over");
}

#[test]
fn what_nobody_has_begun_can_be_cancelled() {
    alone!(what_nobody_has_begun_can_be_cancelled);
    let pool = Pool::new(1).unwrap();
    let (gate, opens) = gate();
    let begun = Semaphore::new(0).unwrap();
    let runs = pool.apply_async(report_and_pass, (begun.clone(), gate.clone(), 1)).unwrap();
    begun.take_timeout(LONG).unwrap();
    let calls = Value::new(0u64).unwrap();
    let count = |calls: Value<u64>| {
        calls.update(|calls| calls + 1);
    };
    let waits = pool.apply_async(count, (calls.clone(),)).unwrap();
    let many =
        pool.star_tasks(count, vec![(calls.clone(),); 50]).chunk_size(1).map_async().unwrap();
    assert!(!runs.cancel());
    assert!(waits.cancel() && waits.cancel());
    assert!(matches!(waits.get(), Err(TaskError::Cancelled)));
    assert!(many.cancel());
    assert!(matches!(many.get_timeout(LONG), Err(TaskError::Cancelled)));
    let results = pool.star_tasks(count, vec![(calls.clone(),); 50]).chunk_size(1).imap().unwrap();
    drop(results);
    drop(opens);
    assert_eq!(runs.get().unwrap(), 1);
    assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    assert_eq!(calls.get(), 0);
}

#[test]
fn callbacks_see_the_result_before_it_is_got() {
    alone!(callbacks_see_the_result_before_it_is_got);
    let pool = Pool::new(2).unwrap();
    let (said, heard) = mpsc::channel();
    let (ok, failed) = (said.clone(), said.clone());
    let result = pool
        .task(square, (3,))
        .callback(move |nine| ok.send(nine.to_string()).unwrap())
        .error_callback(move |error| failed.send(error.to_string()).unwrap())
        .apply_async()
        .unwrap();
    assert_eq!(result.get().unwrap(), 9);
    assert_eq!(heard.try_recv().unwrap(), "9");
    let (ok, failed) = (said.clone(), said.clone());
    let error = pool
        .task(odd_ones_panic, (3,))
        .callback(move |three| ok.send(three.to_string()).unwrap())
        .error_callback(move |error| failed.send(error.to_string()).unwrap())
        .apply()
        .unwrap_err();
    assert_eq!(heard.try_recv().unwrap(), error.to_string());
    // Nobody asks for these.
    let all = said.clone();
    pool.tasks(square, 0..3)
        .callback(move |all_three| all.send(format!("{all_three:?}")).unwrap())
        .map_async()
        .unwrap();
    assert_eq!(heard.recv_timeout(LONG).unwrap(), "[0, 1, 4]");
    let all = said.clone();
    pool.tasks(square, 0..3)
        .callback(move |three| all.send(format!("{three:?}")).unwrap())
        .map()
        .unwrap();
    assert_eq!(heard.try_recv().unwrap(), "[0, 1, 4]");
    pool.tasks(odd_ones_panic, 0..3)
        .error_callback(move |error| said.send(error.to_string()).unwrap())
        .map_async()
        .unwrap();
    assert!(heard.recv_timeout(LONG).unwrap().contains("1 is odd"));
}

#[test]
fn a_callback_may_panic_or_call_anything() {
    alone!(a_callback_may_panic_or_call_anything);
    let pool = Arc::new(Pool::new(2).unwrap());
    pool.task(square, (1,)).callback(|_| panic!("in a callback")).apply_async().unwrap();
    let (said, heard) = mpsc::channel();
    let (inner, other) = (pool.clone(), pool.apply_async(square, (5,)).unwrap());
    let callback = move |one: &u64| {
        let two = inner.apply(square, (2,)).unwrap();
        let three = inner.apply_async(square, (3,)).unwrap().get().unwrap();
        let many = inner.map(square, 0..100).unwrap().len() as u64;
        let more = inner.map_async(square, 0..100).unwrap().get().unwrap().len() as u64;
        let streamed = inner.imap(square, 0..100).unwrap().count() as u64;
        said.send([*one, two, three, other.get().unwrap(), many, more, streamed]).unwrap();
    };
    pool.task(square, (1,)).callback(callback).apply_async().unwrap();
    assert_eq!(heard.recv_timeout(LONG).unwrap(), [1, 4, 9, 25, 100, 100, 100]);
}

#[test]
fn a_callback_may_end_the_pool() {
    alone!(a_callback_may_end_the_pool);
    let pool = Arc::new(Pool::new(2).unwrap());
    let (said, heard) = mpsc::channel();
    let inner = pool.clone();
    let callback = move |_: &u64| {
        inner.close();
        inner.terminate();
        said.send(inner.join_timeout(LONG).is_ok()).unwrap();
    };
    pool.task(square, (1,)).callback(callback).apply_async().unwrap();
    assert!(heard.recv_timeout(LONG).unwrap());
    assert_eq!(pool.state(), PoolState::Ended);
}

#[test]
fn many_threads_use_one_pool() {
    alone!(many_threads_use_one_pool);
    let pool = Pool::new(2).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4u64 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..20 {
                    let from = seed * 1000 + round;
                    let expected: Vec<u64> = (from..from + 50).map(square).collect();
                    assert_eq!(
                        pool.tasks(square, from..from + 50).chunk_size(3).map().unwrap(),
                        expected
                    );
                    assert_eq!(pool.apply(square, (from,)).unwrap(), expected[0]);
                    let later = pool.map_async(square, from..from + 50).unwrap();
                    let streamed: Result<Vec<_>, _> =
                        pool.imap(square, from..from + 50).unwrap().collect();
                    assert_eq!(streamed.unwrap(), expected);
                    assert_eq!(later.get().unwrap(), expected);
                }
            });
        }
    });
    // A thread counts a task after it has delivered it.
    pool.close();
    pool.join_timeout(LONG).unwrap();
    let now = pool.statistics();
    assert_eq!((now.done, now.failed, now.queued, now.running), (4 * 20 * 151, 0, 0, 0));
}
