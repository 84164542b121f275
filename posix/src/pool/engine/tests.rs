//! The crew by itself, without a face: workers are real processes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use procession_core::sys::Deadline;

use super::*;
use crate::process::StartMethod;
use crate::task::{
    Crew, Outcome, Results, Retry, Sink, Submit, SubmitMany, TaskError, TaskId, Terms,
};

/// Keeps what it gets by its index.
struct Box_<R>(Mutex<Vec<Option<Outcome<R>>>>);

impl<R: Send> Sink<R> for Box_<R> {
    fn deliver(&self, first: u64, results: &mut Results<'_, R>) {
        let mut all = lock(&self.0);
        for (at, outcome) in (first as usize..).zip(results) {
            if all.len() <= at {
                all.resize_with(at + 1, || None);
            }
            assert!(all[at].is_none(), "item {at} came twice");
            all[at] = Some(outcome);
        }
    }
}

impl<R: Send> Box_<R> {
    fn new() -> Arc<Self> {
        Arc::new(Box_(Mutex::default()))
    }

    fn has(&self, count: usize) -> bool {
        let all = lock(&self.0);
        all.len() >= count && all.iter().all(Option::is_some)
    }

    fn take(&self) -> Vec<Outcome<R>> {
        lock(&self.0).drain(..).flatten().collect()
    }
}

pub(super) struct Pool(pub(super) Arc<ProcessCrew>);

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.terminate();
        self.0.join(soon()).unwrap();
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

pub(super) fn pool(workers: usize) -> Pool {
    Pool(
        ProcessCrew::start(Options {
            workers: workers..=workers,
            initializer: None,
            max_tasks: None,
            idle_timeout: None,
            memory_limit: None,
            strict: false,
            quarantine: 10,
            start_attempts: 3,
            name: "Tester".into(),
            method: Some(StartMethod::Zygote),
            terms: Terms::default(),
        })
        .unwrap(),
    )
}

#[test]
fn who_has_joined_has_the_last_handle() {
    for _ in 0..20 {
        let pool = pool(1);
        pool.0.attend();
        pool.apply(|| (), ()).unwrap();
        pool.0.close();
        pool.0.join(soon()).unwrap();
        assert_eq!(Arc::strong_count(&pool.0), 1, "the courier or the supervisor has one");
    }
}

impl Pool {
    pub(super) fn apply<F, A>(
        &self,
        f: F,
        args: A,
    ) -> Outcome<<ProcessCrew as Submit<F, A>>::Output>
    where
        ProcessCrew: Submit<F, A>,
    {
        self.apply_with(f, args, &Terms::default())
    }

    fn apply_with<F, A>(
        &self,
        f: F,
        args: A,
        terms: &Terms,
    ) -> Outcome<<ProcessCrew as Submit<F, A>>::Output>
    where
        ProcessCrew: Submit<F, A>,
    {
        let sink = Box_::new();
        let task = self.0.submit(f, args, sink.clone(), terms).unwrap();
        assert!(self.0.help(Some(task), soon(), &mut || sink.has(1)), "it took too long");
        sink.take().remove(0)
    }

    fn map<F, A>(
        &self,
        f: F,
        items: impl IntoIterator<Item = A>,
        chunk: usize,
        terms: &Terms,
    ) -> Vec<Outcome<<ProcessCrew as Submit<F, A>>::Output>>
    where
        ProcessCrew: SubmitMany<F, A>,
    {
        let (f, sink) = (Arc::new(f), Box_::new());
        let mut items: VecDeque<A> = items.into_iter().collect();
        let (count, mut first) = (items.len(), 0);
        while !items.is_empty() {
            let before = items.len();
            self.0.submit_chunk(&f, first, &mut items, chunk, sink.clone(), terms).unwrap();
            assert!(items.len() < before);
            first += (before - items.len()) as u64;
        }
        assert!(self.0.help(None, soon(), &mut || sink.has(count)), "it took too long");
        sink.take()
    }
}

#[test]
fn calls_and_maps_are_answered() {
    let pool = pool(2);
    assert_eq!(pool.apply(|a: u32, b: u32| a + b, (2, 3)).unwrap(), 5);
    for chunk in [1, 7, 10_000] {
        let squares = pool.map(|x: u64| x * x, (0..5000).map(|x| (x,)), chunk, &Terms::default());
        for (x, square) in (0u64..).zip(squares) {
            assert_eq!(square.unwrap(), x * x);
        }
    }
    let text = |n: usize| "ä".repeat(n);
    let lengths = [0, 10, 100, 300, 5, 70_000, 3, 2_000_000];
    let texts = pool.map(text, lengths.map(|n| (n,)), 100, &Terms::default());
    for (n, text) in lengths.into_iter().zip(texts) {
        assert_eq!(text.unwrap().chars().count(), n);
    }
    let count = |text: String| text.len();
    let counts = pool.map(count, lengths.map(|n| (text(n),)), 100, &Terms::default());
    for (n, count) in lengths.into_iter().zip(counts) {
        assert_eq!(count.unwrap(), n * 2);
    }
    let statistics = pool.0.statistics();
    assert_eq!((statistics.done, statistics.failed), (15_017, 0));
    assert_eq!((statistics.queued, statistics.running), (0, 0));
}

#[test]
fn what_fails_fails_alone() {
    let pool = pool(2);
    let odd = |x: u32| {
        if x % 10 == 3 {
            panic!("no {x}");
        }
        if x % 10 == 5 {
            // Gone without a word.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .unwrap();
        }
        if x % 10 == 7 {
            std::process::exit(9);
        }
        x
    };
    let outcomes = pool.map(odd, (0..60).map(|x| (x,)), 20, &Terms::default());
    for (x, outcome) in (0u32..).zip(outcomes) {
        match (x % 10, outcome.map_err(|error| *error)) {
            (3, Err(TaskError::Panicked { message, location, .. })) => {
                assert_eq!(message, format!("no {x}"));
                assert!(location.unwrap().contains("tests.rs"));
            }
            (5, Err(TaskError::WorkerDied { signal: Some(9), code: None, attempt: 1, .. })) => {}
            (7, Err(TaskError::WorkerDied { signal: None, code: Some(9), attempt: 1, .. })) => {}
            (_, outcome) => assert_eq!(outcome.unwrap(), x),
        }
    }
    let statistics = pool.0.statistics();
    assert_eq!((statistics.done, statistics.failed, statistics.deaths), (42, 18, 12));
}

#[test]
fn who_declares_it_safe_is_tried_again() {
    let pool = pool(2);
    let counter = crate::sync::Atomic::<u32>::new(0).unwrap();
    let terms = Terms { retry: Retry::idempotent(4), deadline: None };
    let flaky = |counter: crate::sync::Atomic<u32>, x: u32| {
        if counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 3 {
            std::process::abort();
        }
        x + 1
    };
    assert_eq!(pool.apply_with(flaky, (counter.clone(), 7), &terms).unwrap(), 8);
    let poison = |_: u32| -> u32 { std::process::abort() };
    let terms = Terms { retry: Retry::idempotent(1000), deadline: None };
    let error = *pool.apply_with(poison, (1,), &terms).unwrap_err();
    assert!(matches!(error, TaskError::Quarantined { deaths: 10, .. }), "{error}");
}

#[test]
fn the_late_and_the_unwanted_are_ended() {
    let pool = pool(1);
    let terms = Terms { deadline: Some(Duration::from_millis(30)), ..Terms::default() };
    let error = *pool.apply_with(std::thread::park, (), &terms).unwrap_err();
    assert!(matches!(error, TaskError::DeadlinePassed { .. }), "{error}");
    assert_eq!(pool.apply_with(|| 1, (), &terms).unwrap(), 1);

    let begun = crate::sync::Event::new().unwrap();
    let wait = |begun: crate::sync::Event| {
        begun.set();
        std::thread::park();
    };
    let (sink, behind) = (Box_::new(), Box_::new());
    let running = self::submit(&pool, wait, (begun.clone(),), &sink);
    let queued = self::submit(&pool, || 1, (), &behind);
    assert!(begun.wait_timeout(Duration::from_secs(20)));
    assert!(pool.0.is_running(running) && !pool.0.is_running(queued));
    assert!(!pool.0.withdraw(running) && pool.0.withdraw(queued));
    assert!(!pool.0.withdraw(queued));
    assert!(matches!(*behind.take().remove(0).unwrap_err(), TaskError::Cancelled));
    assert!(pool.0.abort(running));
    assert!(pool.0.help(Some(running), soon(), &mut || sink.has(1)));
    assert!(matches!(*sink.take().remove(0).unwrap_err(), TaskError::Cancelled));
    assert!(!pool.0.abort(running));
    assert_eq!(pool.apply(|| 1, ()).unwrap(), 1);
}

fn submit<F, A>(
    pool: &Pool,
    f: F,
    args: A,
    sink: &Arc<Box_<<ProcessCrew as Submit<F, A>>::Output>>,
) -> TaskId
where
    ProcessCrew: Submit<F, A>,
{
    pool.0.submit(f, args, sink.clone(), &Terms::default()).unwrap()
}

fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = soon();
    while !so() {
        assert!(!deadline.is_past(), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_nobody_waits_for_is_done_too() {
    let pool = pool(2);
    let counter = crate::sync::Atomic::<u32>::new(0).unwrap();
    let count = |counter: crate::sync::Atomic<u32>| {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let sink = Arc::new(Nobody);
    for _ in 0..3000 {
        pool.0.submit(count, (counter.clone(),), sink.clone(), &Terms::default()).unwrap();
    }
    let done = || counter.load(std::sync::atomic::Ordering::Relaxed);
    until("all are done", || done() == 3000);
    // The first worker dies of it, and nobody waits.
    let flaky = |counter: crate::sync::Atomic<u32>| {
        if counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 3000 {
            std::process::abort();
        }
    };
    let terms = Terms { retry: Retry::idempotent(2), deadline: None };
    pool.0.submit(flaky, (counter.clone(),), sink, &terms).unwrap();
    until("it is tried again", || done() == 3002);
}

/// Wants nothing.
struct Nobody;

impl<R> Sink<R> for Nobody {
    fn deliver(&self, _: u64, results: &mut Results<'_, R>) {
        results.for_each(drop);
    }
}

#[derive(Serialize, serde::Deserialize)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("no end");
    }
}

#[test]
fn what_panics_when_it_is_dropped_harms_nobody() {
    let pool = pool(1);
    let bomb = || Bomb;
    pool.0.submit(bomb, (), Arc::new(Nobody), &Terms::default()).unwrap();
    let _ = submit(&pool, bomb, (), &Box_::new());
    assert_eq!(pool.apply(|| 1, ()).unwrap(), 1);
    pool.0.close();
    pool.0.join(soon()).unwrap();
    assert_eq!(pool.0.statistics().deaths, 0, "it did not harm the worker either");
}

#[test]
fn a_pool_that_is_ended_while_it_works_leaves_nothing() {
    let used = || crate::memory::arena().unwrap().used().unwrap();
    let large = "x".repeat(1 << 20);
    let round = || {
        let pool = pool(2);
        for _ in 0..20 {
            let work = |text: String| {
                std::thread::park();
                text
            };
            pool.0.submit(work, (large.clone(),), Arc::new(Nobody), &Terms::default()).unwrap();
        }
    };
    (0..3).for_each(|_| round());
    let before = used();
    (0..10).for_each(|_| round());
    until("the memory is given back", || used() < before + (64 << 20));
}

/// Tasks are called off while the only worker is busy, so many that the ring comes round: what was queued first is passed over then,
/// and taken later than what came after it.
#[test]
fn what_hangs_before_others_that_were_queued_first_is_ended() {
    let pool = pool(1);
    let (begun, go_on) = (crate::sync::Event::new().unwrap(), crate::sync::Event::new().unwrap());
    let busy = |begun: crate::sync::Event, go_on: crate::sync::Event| {
        begun.set();
        assert!(go_on.wait_timeout(Duration::from_secs(20)));
    };
    let first = Box_::new();
    submit(&pool, busy, (begun.clone(), go_on.clone()), &first);
    assert!(begun.wait_timeout(Duration::from_secs(20)));
    let call_off = |count: usize| {
        for _ in 0..count {
            let task = submit(&pool, || 1, (), &Arc::new(Box_(Mutex::default())));
            assert!(pool.0.withdraw(task));
        }
    };
    let (early, late) = (Box_::new(), Box_::new());
    submit(&pool, || 1, (), &early);
    call_off(CELLS as usize);
    let terms = Terms { deadline: Some(Duration::from_millis(30)), ..Terms::default() };
    pool.0.submit(std::thread::park, (), late.clone(), &terms).unwrap();
    call_off(CELLS as usize);
    go_on.set();
    assert!(pool.0.help(None, soon(), &mut || late.has(1) && early.has(1)), "it took too long");
    assert!(matches!(*late.take().remove(0).unwrap_err(), TaskError::DeadlinePassed { .. }));
    assert_eq!(*early.take().remove(0).as_ref().unwrap(), 1);
}

/// Whatever stands on the board, a task comes to an end.
#[test]
fn a_pool_whose_board_is_overwritten_is_broken() {
    let pool = pool(2);
    assert_eq!(pool.apply(|| 1, ()).unwrap(), 1);
    let region = pool.0.own.arena().region();
    // Where to look for tasks.
    let hint = region.object::<AtomicU64>(pool.0.own.offset() + 512).unwrap();
    hint.store(u64::MAX / 2, std::sync::atomic::Ordering::Relaxed);
    let error = *pool.apply(|| 1, ()).unwrap_err();
    let TaskError::Broken(cause) = error else { panic!("{error}") };
    assert!(matches!(*cause, PoolError::Corrupt { .. }), "{cause}");
}

/// The seat of a worker is written over before that dies: its task is found by the name in the cell.
#[test]
fn a_task_whose_worker_has_lost_its_seat_fails_with_it() {
    let pool = pool(1);
    let board = pool.0.own.offset();
    let die = |board: u64| -> u64 {
        let region = crate::memory::arena().unwrap().region();
        // The first one lies behind the head.
        let seat = region.object::<AtomicU64>(board + 640).unwrap();
        seat.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
        std::process::abort();
    };
    let error = *pool.apply(die, (board,)).unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { signal: Some(libc::SIGABRT), .. }), "{error}");
}

/// Whatever is written over the board, nobody crashes, and the pool can be ended: then each task has a result.
#[test]
fn nobody_crashes_over_a_board_that_is_overwritten() {
    let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = move |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % sides
    };
    for round in 0..12 {
        let pool = pool(2);
        let region = pool.0.own.arena().region();
        let words = Board::bytes(pool.0.board.plan()) / 8;
        let words: &[AtomicU64] = region.objects(pool.0.own.offset(), words).unwrap();
        // Half of the time where most is: at the front, where the first cells lie.
        let near = words.len() as u64 / 8;
        let sink = Box_::new();
        for task in 0..100u64 {
            let text = "x".repeat(if task % 9 == 0 { 3000 } else { 10 });
            let sink: Arc<dyn Sink<String>> = sink.clone();
            let mut items = VecDeque::from([(text,)]);
            let echo = Arc::new(|text: String| text);
            if pool.0.submit_chunk(&echo, task, &mut items, 1, sink, &Terms::default()).is_err() {
                break;
            }
            let at = if task % 2 == 0 { roll(near) } else { roll(words.len() as u64) };
            let word = &words[at as usize];
            let now = word.load(std::sync::atomic::Ordering::Relaxed);
            let new = match roll(4) {
                0 => 0,
                1 => roll(u64::MAX),
                2 => now ^ 1 << roll(64),
                // Another state, with a name in it.
                _ => now & (u64::MAX >> 3) | roll(8) << 61 | roll(1 << 13),
            };
            word.store(new, std::sync::atomic::Ordering::Relaxed);
        }
        let most = Deadline::after(Duration::from_millis(20));
        pool.0.help(None, most, &mut || sink.has(100));
        pool.0.terminate();
        let joined = pool.0.join(soon());
        assert!(joined.is_ok(), "round {round}: {joined:?}");
        assert!(lock(&sink.0).iter().all(Option::is_some), "round {round}");
        assert_eq!(pool.0.statistics().deaths, 0, "round {round}");
    }
}
