// What is chosen for a pool or a task: sizes, initializers, names, deadlines, progress. Included for each kind of pool, see `main.rs`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use procession_posix::pool::{PoolError, PoolState, Retry, TaskError};
use procession_posix::sync::{Event, Semaphore};
use procession_posix::value::Value;

use super::Pool;
use crate::tasks::{LONG, gate, is_panic, odd_ones_panic, pass, report_and_pass, square};

#[test]
fn nothing_is_of_size_zero() {
    alone!(nothing_is_of_size_zero);
    fn zero<T: std::fmt::Debug>(result: Result<T, PoolError>) -> bool {
        matches!(result, Err(PoolError::Zero { .. }))
    }
    assert!(zero(Pool::new(0)));
    assert!(zero(Pool::builder().workers(0..=2).build()));
    #[expect(clippy::reversed_empty_ranges)]
    let empty = 3..=2;
    assert!(zero(Pool::builder().workers(empty).build()));
    assert!(zero(Pool::builder().max_tasks_per_child(0).build()));
    assert!(zero(Pool::builder().memory_limit(0).build()));
    assert!(zero(Pool::builder().quarantine(0).build()));
    assert!(zero(Pool::builder().start_attempts(0).build()));
    assert!(zero(Pool::builder().progress(Duration::ZERO, |_| {}).build()));
    let pool = Pool::new(1).unwrap();
    assert!(zero(pool.tasks(square, 0..3).chunk_size(0).imap()));
    assert!(zero(pool.tasks(square, 0..3).chunk_size(0).map_async()));
    assert!(zero(pool.tasks(square, 0..3).window(0).imap_unordered()));
    let refused = pool.tasks(square, 0..3).chunk_size(0).map().unwrap_err();
    assert!(
        matches!(&refused, TaskError::Refused(error) if matches!(**error, PoolError::Zero { .. }))
    );
    assert!(refused.to_string().contains("the chunk size is 0"), "{refused}");
    assert!(zero(pool.resize(0..=1)));
}

#[test]
fn the_initializer_runs_in_each_worker() {
    alone!(the_initializer_runs_in_each_worker);
    let there = Value::new(0u64).unwrap();
    let pool = Pool::builder()
        .processes(2)
        .initializer(
            |there: Value<u64>, more: u64| {
                there.update(|there| there + more);
            },
            (there.clone(), 10),
        )
        .build()
        .unwrap();
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
    assert!([10, 20].contains(&there.get()), "{}", there.get());
    pool.close();
    pool.join().unwrap();
}

#[test]
fn an_initializer_that_fails_breaks_the_pool() {
    alone!(an_initializer_that_fails_breaks_the_pool);
    let tries = Value::new(0u64).unwrap();
    let fail = |tries: Value<u64>| {
        let now = tries.update(|tries| tries + 1);
        assert!(now > 1000, "no license");
    };
    let builder =
        Pool::builder().processes(1).start_attempts(2).initializer(fail, (tries.clone(),));
    let pool = builder.build().unwrap();
    // Whether the pool knows already when it is asked.
    let error = match pool.apply_async(square, (2,)) {
        Ok(result) => result.get_timeout(LONG).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("no license"), "{error}");
    assert_eq!(tries.get(), 2);
    assert!(matches!(pool.state(), PoolState::Broken | PoolState::Ended));
    assert!(matches!(&*pool.cause().unwrap(), PoolError::Initializer { attempts: 2, .. }));
    assert!(matches!(pool.map_async(square, 0..3), Err(PoolError::Broken { .. })));
    pool.close();
    pool.join_timeout(LONG).unwrap();
}

#[test]
fn workers_have_names_and_numbers() {
    alone!(workers_have_names_and_numbers);
    let pool = Pool::builder().processes(2).name("Miller").build().unwrap();
    let names: HashSet<_> = pool.workers().into_iter().map(|worker| worker.name).collect();
    assert_eq!(names, HashSet::from(["Miller-1".to_string(), "Miller-2".to_string()]));
    assert!(format!("{pool:?}").contains("Running"), "{pool:?}");
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.workers()[0].name, "PoolWorker-1");
}

#[test]
fn progress_is_shown_and_ends_with_all() {
    alone!(progress_is_shown_and_ends_with_all);
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (seen, (said, heard)) = (shown.clone(), mpsc::channel());
    let pool = Pool::builder()
        .processes(1)
        .progress(Duration::from_millis(1), move |now| {
            seen.lock().unwrap().push(now.done);
            let _ = said.send(());
        })
        .build()
        .unwrap();
    heard.recv_timeout(LONG).unwrap();
    pool.map(square, 0..100).unwrap();
    heard.recv_timeout(LONG).unwrap();
    pool.close();
    pool.join().unwrap();
    let shown = shown.lock().unwrap();
    assert!(shown.is_sorted() && shown.last() == Some(&100), "{shown:?}");
}

#[test]
fn statistics_count_what_became_of_tasks() {
    alone!(statistics_count_what_became_of_tasks);
    let pool = Pool::new(1).unwrap();
    let error = pool.tasks(odd_ones_panic, 0..10).chunk_size(1).map().unwrap_err();
    assert!(is_panic(&error, "1 is odd"));
    assert_eq!(pool.statistics().workers, 1);
    pool.close();
    pool.join_timeout(LONG).unwrap();
    let now = pool.statistics();
    assert_eq!((now.done, now.failed, now.deaths, now.retried), (5, 5, 0, 0));
    assert_eq!(now.latency.count(), 10);
    assert!(now.latency.percentile(0.5) <= now.latency.percentile(1.0));
}

#[test]
fn a_pool_is_resized() {
    alone!(a_pool_is_resized);
    let pool = Pool::new(1).unwrap();
    let (gate, opens) = gate();
    let begun = Semaphore::new(0).unwrap();
    pool.resize(3..=3).unwrap();
    let inputs: Vec<_> = (0..3).map(|x| (begun.clone(), gate.clone(), x)).collect();
    let three = pool.star_tasks(report_and_pass, inputs).chunk_size(1).map_async().unwrap();
    // All three run at once.
    (0..3).for_each(|_| begun.take_timeout(LONG).unwrap());
    drop(opens);
    assert_eq!(three.get().unwrap(), [0, 1, 2]);
    pool.resize(1..=1).unwrap();
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
    pool.close();
    assert!(pool.resize(1..=2).is_err());
}

#[test]
fn all_terms_can_be_said_of_a_task() {
    alone!(all_terms_can_be_said_of_a_task);
    let retry = Retry::idempotent(3).backoff(Duration::from_millis(1), 2, LONG);
    let pool = Pool::builder().processes(1).retry(retry).deadline(LONG).build().unwrap();
    assert_eq!(pool.task(square, (3,)).deadline(LONG).retry(Retry::never()).apply().unwrap(), 9);
    let tasks = pool.tasks(square, 0..3).deadline(LONG).retry(retry);
    assert_eq!(tasks.map().unwrap(), [0, 1, 4]);
}

#[test]
fn what_takes_longer_than_its_deadline_is_ended() {
    alone!(what_takes_longer_than_its_deadline_is_ended);
    let pool = Pool::new(1).unwrap();
    let (gate, _opens) = gate();
    let limit = Duration::from_millis(20);
    let late = pool.task(pass, (gate.clone(), 1)).deadline(limit).apply().unwrap_err();
    assert!(matches!(late, TaskError::DeadlinePassed { .. }), "{late}");
    let (closed, open) = (gate, Event::new().unwrap());
    open.set();
    // Whose processor others have for so long is late too: then all get more time.
    let mut limits = std::iter::successors(Some(limit), |limit| Some(*limit * 4)).take(6);
    let in_time = |limit| {
        let inputs = [(open.clone(), 1), (closed.clone(), 2), (open.clone(), 3)];
        let tasks = pool.star_tasks(pass, inputs).chunk_size(3).deadline(limit);
        let results: Vec<_> = tasks.imap().unwrap().collect();
        assert!(matches!(results[1], Err(TaskError::DeadlinePassed { .. })));
        (results[0].as_ref().ok(), results[2].as_ref().ok()) == (Some(&1), Some(&3))
    };
    assert!(limits.any(in_time), "others than the one that waits are late");
}
