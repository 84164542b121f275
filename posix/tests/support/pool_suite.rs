// What any pool does, whoever works in it: included once for processes and once for threads, which differ in one `use` line.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use procession_posix::pool::{PoolError, PoolState, Retry, TaskError};
use procession_posix::sync::{Event, Semaphore};
use procession_posix::value::Value;

const LONG: Duration = Duration::from_secs(60);

fn square(x: u64) -> u64 {
    x * x
}

/// Returns when the gate is open, or after a long time.
fn pass(gate: Event, x: u64) -> u64 {
    assert!(gate.wait_timeout(LONG), "the gate was not opened");
    x
}

/// Says that it has begun, then as `pass`.
fn report_and_pass(begun: Semaphore, gate: Event, x: u64) -> u64 {
    begun.release().unwrap();
    pass(gate, x)
}

fn odd_ones_panic(x: u64) -> u64 {
    assert!(x.is_multiple_of(2), "{x} is odd");
    x
}

fn is_panic(error: &TaskError, words: &str) -> bool {
    matches!(error, TaskError::Panicked { message, .. } if message == words)
}

/// Opens a gate when the test ends, however it ends: no task is left waiting.
struct Opens(Event);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn gate() -> (Event, Opens) {
    let gate = Event::new().unwrap();
    (gate.clone(), Opens(gate))
}

/// Inputs that count how many of them were taken.
fn counted(up_to: u64) -> (impl Iterator<Item = u64>, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    (
        (0..up_to).inspect(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        }),
        taken,
    )
}

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
fn a_map_gives_all_results_in_order() {
    alone!(a_map_gives_all_results_in_order);
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(square, []).unwrap(), []);
    assert_eq!(pool.map(square, [7]).unwrap(), [49]);
    let squares: Vec<u64> = (0..20_000).map(square).collect();
    assert_eq!(pool.map(square, 0..20_000).unwrap(), squares);
    for size in [1, 3, 1000, 1 << 20] {
        assert_eq!(pool.tasks(square, 0..2000).chunk_size(size).map().unwrap(), squares[..2000]);
        let some = pool.tasks(square, 0..2000).chunk_size(size).window(7).map().unwrap();
        assert_eq!(some, squares[..2000], "chunks of {size}");
    }
    assert_eq!(pool.starmap(|a: u64, b: u64| a + b, (0..100).map(|x| (x, x))).unwrap()[99], 198);
    let later = pool.map_async(square, 0..20_000).unwrap();
    let stars = pool.starmap_async(|a: u64, b: u64| a + b, vec![(1, 2)]).unwrap();
    assert_eq!(later.get().unwrap(), squares);
    assert_eq!(stars.get().unwrap(), [3]);
}

#[test]
fn a_map_makes_all_calls_and_then_says_the_first_error() {
    alone!(a_map_makes_all_calls_and_then_says_the_first_error);
    let pool = Pool::new(2).unwrap();
    let calls = Value::new(0u64).unwrap();
    let count = |calls: Value<u64>, x: u64| {
        calls.update(|calls| calls + 1);
        odd_ones_panic(x)
    };
    for size in [1, 4] {
        calls.set(0);
        let inputs = (0..20).map(|x| (calls.clone(), x));
        let error = pool.star_tasks(count, inputs).chunk_size(size).map().unwrap_err();
        assert!(is_panic(&error, "1 is odd"), "{error}");
        assert_eq!(calls.get(), 20);
        let inputs: Vec<_> = (0..20).map(|x| (calls.clone(), x)).collect();
        let error = pool.star_tasks(count, inputs).chunk_size(size).map_async().unwrap().get();
        assert!(is_panic(&error.unwrap_err(), "1 is odd"));
        assert_eq!(calls.get(), 40);
    }
}

#[test]
fn an_error_is_at_its_place_and_the_iteration_goes_on() {
    alone!(an_error_is_at_its_place_and_the_iteration_goes_on);
    let pool = Pool::new(2).unwrap();
    for size in [1, 3] {
        let mut results = pool.tasks(odd_ones_panic, 0..7).chunk_size(size).imap().unwrap();
        for x in 0..7 {
            match results.next().unwrap() {
                Ok(got) => assert_eq!((got, x % 2), (x, 0)),
                Err(error) => assert!(is_panic(&error, &format!("{x} is odd")), "{error}"),
            }
        }
        assert!(results.next().is_none() && results.next().is_none());
        let results = pool.tasks(odd_ones_panic, 0..7).chunk_size(size).imap_unordered().unwrap();
        let mut results: Vec<_> = results.indexed().map(|(i, result)| (i, result.ok())).collect();
        results.sort_unstable();
        let expected = (0..7).map(|x| (x, (x % 2 == 0).then_some(x)));
        assert!(results.into_iter().eq(expected));
    }
    assert!(pool.imap(square, []).unwrap().next().is_none());
    assert!(pool.imap_unordered(square, []).unwrap().next().is_none());
}

#[test]
fn results_come_in_order_or_as_they_are_there() {
    alone!(results_come_in_order_or_as_they_are_there);
    let pool = Pool::new(2).unwrap();
    let (closed, opens) = gate();
    let open = Event::new().unwrap();
    open.set();
    // The first one waits.
    let inputs = |closed: &Event| {
        let gates = [closed.clone(), open.clone(), open.clone()];
        gates.into_iter().zip(0..).collect::<Vec<(Event, u64)>>()
    };
    let tasks = pool.star_tasks(pass, inputs(&closed)).chunk_size(1);
    let mut unordered = tasks.imap_unordered().unwrap();
    assert_eq!(unordered.next().unwrap().unwrap(), 1);
    assert_eq!(unordered.next().unwrap().unwrap(), 2);
    let early = unordered.next_timeout(Duration::from_millis(1));
    assert!(matches!(early, Some(Err(TaskError::TimedOut))));
    drop(opens);
    assert_eq!(unordered.next().unwrap().unwrap(), 0);
    assert!(unordered.next().is_none());

    let (closed, opens) = gate();
    let mut ordered = pool.star_tasks(pass, inputs(&closed)).chunk_size(1).imap().unwrap();
    let early = ordered.next_timeout(Duration::from_millis(1));
    assert!(matches!(early, Some(Err(TaskError::TimedOut))));
    assert!(matches!(ordered.next_timeout(Duration::ZERO), Some(Err(TaskError::TimedOut))));
    drop(opens);
    assert!((0..3).all(|x| ordered.next().unwrap().unwrap() == x));
    assert!(ordered.next().is_none());
}

#[test]
fn inputs_are_taken_as_the_window_allows() {
    alone!(inputs_are_taken_as_the_window_allows);
    let pool = Pool::new(2).unwrap();
    let (inputs, taken) = counted(1_000_000_000_000);
    let mut results = pool.tasks(square, inputs).window(10).imap().unwrap();
    for x in 0..100 {
        assert_eq!(results.next().unwrap().unwrap(), square(x));
        let taken = taken.load(Ordering::SeqCst) as u64;
        assert!((x + 1..=x + 10).contains(&taken), "{taken} taken of which {} are out", x + 1);
    }
    drop(results);
    // Without a window it is a bounded number too, and one by one it is the caller's own pace.
    let (inputs, taken) = counted(1_000_000_000_000);
    let mut results = pool.imap_unordered(square, inputs).unwrap();
    for _ in 0..1000 {
        results.next().unwrap().unwrap();
    }
    assert!(taken.load(Ordering::SeqCst) < 10_000_000);
    let (said, heard) = mpsc::channel();
    said.send(3).unwrap();
    let mut turns = pool.tasks(square, heard).window(1).imap().unwrap();
    for x in 3..20 {
        assert_eq!(turns.next().unwrap().unwrap(), square(x));
        said.send(x + 1).unwrap();
    }
    drop(said);
    assert_eq!(turns.next().unwrap().unwrap(), square(20));
    assert!(turns.next().is_none());
}

#[test]
fn a_map_takes_its_inputs_lazily_too() {
    alone!(a_map_takes_its_inputs_lazily_too);
    let pool = Pool::new(1).unwrap();
    let (gate, opens) = gate();
    let (inputs, taken) = counted(1000);
    let inputs = inputs.map(move |x| (gate.clone(), x));
    let later = pool.star_tasks(pass, inputs).chunk_size(1).window(5).map_async().unwrap();
    assert!(!later.wait_timeout(Duration::from_millis(20)));
    assert!(taken.load(Ordering::SeqCst) <= 5);
    assert!(!later.ready() && later.successful().is_none());
    drop(opens);
    assert_eq!(later.get().unwrap(), (0..1000).collect::<Vec<_>>());
}

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
fn an_iterator_that_panics_costs_its_own_map() {
    alone!(an_iterator_that_panics_costs_its_own_map);
    let pool = Pool::new(2).unwrap();
    let inputs = || (0..100).inspect(|x| assert!(*x < 60, "no more inputs"));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.tasks(square, inputs()).chunk_size(1).map()
    }));
    assert!(caught.is_err());
    let error = pool.tasks(square, inputs()).chunk_size(1).map_async().unwrap().get().unwrap_err();
    assert!(
        matches!(&error, TaskError::Iterator { message } if message == "no more inputs"),
        "{error}"
    );
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
    pool.close();
    pool.join_timeout(LONG).unwrap();
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

#[test]
fn a_map_of_another_thread_ends_before_the_pool_is_joined() {
    alone!(a_map_of_another_thread_ends_before_the_pool_is_joined);
    let pool = Pool::new(2).unwrap();
    let (gate, opens) = gate();
    let begun = Semaphore::new(0).unwrap();
    std::thread::scope(|scope| {
        let inputs = (0..200).map(|x| (begun.clone(), gate.clone(), x));
        let tasks = pool.star_tasks(report_and_pass, inputs).chunk_size(1).window(3);
        let mapping = scope.spawn(move || tasks.map());
        begun.take_timeout(LONG).unwrap();
        pool.close();
        assert!(matches!(pool.join_timeout(Duration::from_millis(5)), Err(PoolError::TimedOut)));
        drop(opens);
        pool.join_timeout(LONG).unwrap();
        assert_eq!(mapping.join().unwrap().unwrap(), (0..200).collect::<Vec<_>>());
    });
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

#[test]
fn a_map_in_the_background_goes_on_however_much_others_have() {
    alone!(a_map_in_the_background_goes_on_however_much_others_have);
    let pool = Pool::new(1).unwrap();
    let (gate, opens) = gate();
    let others: Vec<_> =
        (0..900).map(|x| pool.apply_async(pass, (gate.clone(), x)).unwrap()).collect();
    let (said, heard) = mpsc::channel();
    // Nobody waits for it.
    let map =
        pool.tasks(square, 0..3).callback(move |all: &Vec<u64>| said.send(all.len()).unwrap());
    let map = map.map_async().unwrap();
    drop(opens);
    assert_eq!(heard.recv_timeout(LONG), Ok(3));
    drop((map, others));
}

#[derive(serde::Serialize, serde::Deserialize)]
struct PanicsWhenDropped {
    x: u64,
    /// Only in this process: not where a worker process has made it.
    owner: u32,
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        let here = std::process::id() == self.owner;
        assert!(!here || std::thread::panicking(), "{} is dropped", self.x);
    }
}

fn make(x: u64, owner: u32) -> PanicsWhenDropped {
    assert_ne!(x, 5, "no five");
    PanicsWhenDropped { x, owner }
}

#[test]
fn results_that_panic_when_they_are_dropped_keep_no_map_from_its_end() {
    alone!(results_that_panic_when_they_are_dropped_keep_no_map_from_its_end);
    let pool = Pool::new(2).unwrap();
    let inputs = (0..8).map(|x| (x, std::process::id()));
    let map = pool.star_tasks(make, inputs).chunk_size(1).map_async().unwrap();
    let Err(error) = map.get_timeout(LONG) else { panic!("one has no result") };
    assert!(matches!(error, TaskError::Panicked { .. }), "{error}");
    pool.close();
    pool.join_timeout(LONG).unwrap();
}
