// How a pool ends. Included for each kind of pool, see `main.rs`.

use std::time::Duration;

use procession_posix::pool::{PoolError, PoolState, TaskError};
use procession_posix::sync::Semaphore;

use super::Pool;
use crate::tasks::{LONG, gate, pass, report_and_pass, square};

#[test]
fn a_closed_pool_takes_nothing_and_finishes_what_it_has() {
    alone!(a_closed_pool_takes_nothing_and_finishes_what_it_has);
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.state(), PoolState::Running);
    assert!(matches!(pool.join(), Err(PoolError::StillRunning)));
    let (gate, opens) = gate();
    let one = pool.apply_async(pass, (gate.clone(), 5)).unwrap();
    let inputs: Vec<_> = (0..100).map(|x| (gate.clone(), x)).collect();
    let many = pool.star_tasks(pass, inputs).chunk_size(1).map_async().unwrap();
    pool.close();
    pool.close();
    assert_eq!(pool.state(), PoolState::Closed);
    assert!(matches!(pool.apply_async(square, (1,)), Err(PoolError::NotRunning { .. })));
    assert!(matches!(pool.map_async(square, 0..3), Err(PoolError::NotRunning { .. })));
    assert!(matches!(pool.imap(square, 0..3), Err(PoolError::NotRunning { .. })));
    let refused = pool.apply(square, (1,)).unwrap_err();
    assert!(refused.to_string().contains("closed"), "{refused}");
    assert!(matches!(pool.join_timeout(Duration::from_millis(5)), Err(PoolError::TimedOut)));
    drop(opens);
    pool.join().unwrap();
    assert!(many.ready() && one.ready());
    assert_eq!(one.get().unwrap(), 5);
    assert_eq!(many.get().unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(pool.state(), PoolState::Ended);
    pool.join().unwrap();
    pool.terminate();
    pool.close();
}

#[test]
fn an_iteration_goes_on_after_close_and_is_cut_off_by_join() {
    alone!(an_iteration_goes_on_after_close_and_is_cut_off_by_join);
    let pool = Pool::new(2).unwrap();
    let results = pool.tasks(square, 0..50).window(3).imap().unwrap();
    pool.close();
    let results: Vec<u64> = results.collect::<Result<_, _>>().unwrap();
    assert_eq!(results.len(), 50);
    pool.join().unwrap();

    let pool = Pool::new(2).unwrap();
    let mut results = pool.tasks(square, 0..50).window(3).imap().unwrap();
    assert_eq!(results.next().unwrap().unwrap(), 0);
    pool.close();
    pool.join().unwrap();
    let mut rest: Vec<_> = results.by_ref().collect();
    let last = rest.pop().unwrap().unwrap_err();
    assert!(
        matches!(&last, TaskError::Refused(error) if matches!(**error, PoolError::NotRunning { .. })),
        "{last}"
    );
    assert!(rest.len() < 4 && rest.into_iter().all(|result| result.is_ok()));
    assert!(results.next().is_none());
}

#[test]
fn what_a_terminated_pool_has_not_done_says_so() {
    alone!(what_a_terminated_pool_has_not_done_says_so);
    let pool = Pool::new(1).unwrap();
    let (gate, opens) = gate();
    let begun = Semaphore::new(0).unwrap();
    let runs = pool.apply_async(report_and_pass, (begun.clone(), gate.clone(), 1)).unwrap();
    begun.take_timeout(LONG).unwrap();
    let waits = pool.apply_async(square, (2,)).unwrap();
    let inputs: Vec<_> = (0..100).map(|x| (gate.clone(), x)).collect();
    let many = pool.star_tasks(pass, inputs.clone()).map_async().unwrap();
    let mut results = pool.star_tasks(pass, inputs).imap().unwrap();
    pool.terminate();
    assert!(matches!(waits.get_timeout(LONG), Err(TaskError::Terminated)));
    assert!(matches!(runs.get_timeout(LONG), Err(TaskError::Terminated)));
    assert!(matches!(runs.get(), Err(TaskError::Terminated)), "an error stays");
    assert_eq!(runs.successful(), Some(false));
    assert!(matches!(many.get_timeout(LONG), Err(TaskError::Terminated)));
    assert!(results.next_timeout(LONG).unwrap().is_err());
    assert!(results.by_ref().take(200).all(|result| result.is_err()));
    assert!(results.next().is_none());
    drop(opens);
    pool.join_timeout(LONG).unwrap();
    assert!(matches!(pool.apply_async(square, (1,)), Err(PoolError::NotRunning { .. })));
}

#[test]
fn a_dropped_pool_is_terminated() {
    alone!(a_dropped_pool_is_terminated);
    let (gate, _opens) = gate();
    let pool = Pool::new(1).unwrap();
    let runs = pool.apply_async(pass, (gate.clone(), 1)).unwrap();
    let waits = pool.apply_async(square, (2,)).unwrap();
    let mut results = pool.star_tasks(pass, [(gate, 1)]).imap().unwrap();
    drop(pool);
    assert!(matches!(waits.get_timeout(LONG), Err(TaskError::Terminated)));
    assert!(matches!(runs.get_timeout(LONG), Err(TaskError::Terminated)));
    assert!(matches!(results.next_timeout(LONG), Some(Err(TaskError::Terminated))));
    assert!(results.next_timeout(LONG).is_none());
}
