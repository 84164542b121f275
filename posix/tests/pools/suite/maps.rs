// Maps of all forms: results, errors, windows. Included for each kind of pool, see `main.rs`.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use procession_posix::pool::PoolError;
use procession_posix::pool::TaskError;
use procession_posix::sync::{Event, Semaphore};
use procession_posix::value::Value;

use super::Pool;
use crate::tasks::{LONG, counted, gate, is_panic, odd_ones_panic, pass, report_and_pass, square};

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

/// Each input waits until a worker has begun the one before: what was taken is handed over before the next one is asked for.
#[test]
fn an_input_may_wait_for_the_one_before() {
    alone!(an_input_may_wait_for_the_one_before);
    let pool = Pool::new(2).unwrap();
    let (gate, opens) = gate();
    let begun = Semaphore::new(0).unwrap();
    drop(opens);
    let inputs = (0..20).map(|x| {
        assert!(x == 0 || begun.take_timeout(LONG).is_ok(), "{x} was not handed over");
        (begun.clone(), gate.clone(), x)
    });
    let results = pool.star_tasks(report_and_pass, inputs).chunk_size(1).map().unwrap();
    assert_eq!(results, (0..20).collect::<Vec<_>>());
}

/// So many that each way of handing over is gone: by ones, by short chunks, by blocks; and none is done twice.
#[test]
fn numbers_go_by_ones_and_in_chunks() {
    alone!(numbers_go_by_ones_and_in_chunks);
    let pool = Pool::new(2).unwrap();
    for size in [1, 2, 11, 16, 25, 40, 5000] {
        let count = 3 * size as u64 + 5;
        let inputs: Vec<u64> = (0..count).collect();
        let before = pool.statistics().done;
        let results = pool.tasks(square, inputs).chunk_size(size).map().unwrap();
        assert_eq!(results, (0..count).map(square).collect::<Vec<_>>());
        assert_eq!(pool.statistics().done - before, count);
    }
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
