use std::collections::BTreeMap;
use std::sync::mpsc;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::*;
use crate::task::{Outcome, Results};

const LONG: Duration = Duration::from_secs(60);

/// Keeps what is delivered.
struct Kept<R> {
    results: Mutex<BTreeMap<u64, Outcome<R>>>,
    changed: Condvar,
}

impl<R: Send + 'static> Kept<R> {
    fn new() -> Arc<Self> {
        Arc::new(Kept { results: Mutex::new(BTreeMap::new()), changed: Condvar::new() })
    }

    fn has(&self, count: usize) -> bool {
        self.results.lock().unwrap().len() >= count
    }

    fn take(&self, index: u64) -> Outcome<R> {
        self.results.lock().unwrap().remove(&index).unwrap()
    }
}

impl<R: Send + 'static> Sink<R> for Kept<R> {
    fn deliver(&self, first: u64, results: &mut Results<'_, R>) {
        let mut kept = self.results.lock().unwrap();
        for (index, result) in (first..).zip(results) {
            assert!(kept.insert(index, result).is_none(), "an item was answered twice");
        }
        self.changed.notify_all();
    }
}

fn crew(threads: RangeInclusive<usize>) -> Arc<ThreadCrew> {
    ThreadCrew::with(ThreadOptions::new(threads, |n| format!("test-{n}"))).unwrap()
}

fn end(crew: &ThreadCrew) {
    crew.close();
    crew.join(Deadline::after(LONG)).unwrap();
    assert_eq!(crew.state(), PoolState::Ended);
    assert_eq!(crew.workers().len(), 0);
}

/// Submits one call; its result will be there.
fn submit<F: CallOnce<()>>(crew: &ThreadCrew, f: F) -> (TaskId, Arc<Kept<F::Output>>) {
    submit_with(crew, f, &Terms::default())
}

fn submit_with<F: CallOnce<()>>(
    crew: &ThreadCrew,
    f: F,
    terms: &Terms,
) -> (TaskId, Arc<Kept<F::Output>>) {
    let kept = Kept::new();
    (crew.submit(f, (), kept.clone(), terms).unwrap(), kept)
}

fn result<R: Send + 'static>(crew: &ThreadCrew, (id, kept): &(TaskId, Arc<Kept<R>>)) -> Outcome<R> {
    assert!(crew.help(Some(*id), Deadline::after(LONG), &mut || kept.has(1)));
    kept.take(0)
}

#[test]
fn what_has_a_result_is_counted() {
    let crew = crew(2..=2);
    for round in 1..=200 {
        assert!(result(&crew, &submit(&crew, || ())).is_ok());
        let statistics = crew.statistics();
        assert_eq!((statistics.done, statistics.running), (round, 0));
    }
    end(&crew);
}

#[test]
fn calls_run_and_panics_are_their_errors() {
    let crew = crew(2..=2);
    assert_eq!(result(&crew, &submit(&crew, || 6 * 7)).unwrap(), 42);
    let error = result(&crew, &submit(&crew, || -> u8 { panic!("no {}", 1) })).unwrap_err();
    let TaskError::Panicked { message, location, pid, .. } = *error else { panic!("{error}") };
    assert_eq!((message.as_str(), pid), ("no 1", std::process::id()));
    assert!(location.unwrap().contains("tests.rs"));
    assert_eq!(result(&crew, &submit(&crew, || 1)).unwrap(), 1);
    end(&crew);
    let statistics = crew.statistics();
    assert_eq!((statistics.done, statistics.failed), (2, 1));
    assert_eq!((statistics.queued, statistics.running, statistics.workers), (0, 0, 0));
}

#[test]
fn chunks_take_what_they_are_told_to_take() {
    let crew = crew(2..=2);
    let kept = Kept::new();
    let f = Arc::new(|x: u64| if x == 3 { panic!("three") } else { x * x });
    let mut items: VecDeque<_> = (0..10u64).map(|x| (x,)).collect();
    let mut first = 0;
    while !items.is_empty() {
        let before = items.len();
        crew.submit_chunk(&f, first, &mut items, 4, kept.clone(), &Terms::default()).unwrap();
        first += (before - items.len()) as u64;
    }
    assert!(crew.help(None, Deadline::after(LONG), &mut || kept.has(10)));
    for i in (0..10).filter(|i| *i != 3) {
        assert_eq!(kept.take(i).unwrap(), i * i);
    }
    assert!(matches!(*kept.take(3).unwrap_err(), TaskError::Panicked { .. }));
    end(&crew);
}

/// A thread that is busy until told otherwise.
fn busy(crew: &ThreadCrew) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel();
    let (begins, begun) = mpsc::channel();
    submit(crew, move || {
        begins.send(()).unwrap();
        let _ = wait.recv_timeout(LONG);
    });
    begun.recv_timeout(LONG).unwrap();
    go
}

#[test]
fn what_nobody_has_begun_can_be_withdrawn() {
    let crew = crew(1..=1);
    let go = busy(&crew);
    let queued = submit(&crew, || unreachable!());
    let after = submit(&crew, || 1);
    assert_eq!((crew.statistics().queued, crew.statistics().running), (2, 1));
    assert!(!crew.is_running(queued.0));
    assert!(crew.withdraw(queued.0));
    assert!(!crew.withdraw(queued.0));
    assert!(matches!(*result::<()>(&crew, &queued).unwrap_err(), TaskError::Cancelled));
    go.send(()).unwrap();
    assert_eq!(result(&crew, &after).unwrap(), 1);
    assert!(!crew.withdraw(after.0));
    end(&crew);
}

#[test]
fn terminate_answers_what_is_queued_and_what_runs() {
    let crew = crew(1..=1);
    let (go, wait) = mpsc::channel::<()>();
    let (begins, begun) = mpsc::channel();
    let runs = submit(&crew, move || {
        begins.send(()).unwrap();
        let _ = wait.recv_timeout(LONG);
    });
    begun.recv_timeout(LONG).unwrap();
    assert!(crew.is_running(runs.0));
    let queued = submit(&crew, || ());
    crew.terminate();
    assert!(matches!(*result(&crew, &runs).unwrap_err(), TaskError::Terminated));
    assert!(matches!(*result(&crew, &queued).unwrap_err(), TaskError::Terminated));
    assert!(matches!(crew.join(Deadline::NOW), Err(PoolError::TimedOut)));
    let refused = crew.submit(|| (), (), Kept::new(), &Terms::default());
    let state = PoolState::Terminating;
    assert!(matches!(refused, Err(PoolError::NotRunning { state: s }) if s == state));
    go.send(()).unwrap();
    crew.join(Deadline::after(LONG)).unwrap();
    assert_eq!(crew.state(), PoolState::Ended);
}

#[test]
fn a_late_task_gets_its_error_and_its_thread_is_replaced() {
    let crew = crew(1..=1);
    let terms = Terms { deadline: Some(Duration::from_millis(5)), ..Terms::default() };
    let (go, wait) = mpsc::channel::<()>();
    let late = submit_with(&crew, move || wait.recv_timeout(LONG).is_ok(), &terms);
    let error = result(&crew, &late).unwrap_err();
    assert!(matches!(*error, TaskError::DeadlinePassed { .. }), "{error}");
    assert_eq!(result(&crew, &submit(&crew, || 1)).unwrap(), 1);
    assert_eq!(crew.width(), 1);
    let soon = Terms { deadline: Some(LONG), ..Terms::default() };
    assert_eq!(result(&crew, &submit_with(&crew, || 2, &soon)).unwrap(), 2);
    // Nobody waits for the one that is late.
    end(&crew);
    drop(go);
}

#[test]
fn threads_are_started_at_need_and_used_again() {
    let crew = crew(0..=3);
    assert_eq!(crew.workers().len(), 0);
    for i in 0..100 {
        assert_eq!(result(&crew, &submit(&crew, move || i)).unwrap(), i);
    }
    assert_eq!(crew.desk.names(), ["test-0"]);
    let busy = [busy(&crew), busy(&crew), busy(&crew)];
    assert_eq!(crew.desk.names(), ["test-0", "test-1", "test-2"]);
    let queued = submit(&crew, || ());
    assert_eq!(crew.workers().len(), 3);
    drop(busy);
    result(&crew, &queued).unwrap();
    end(&crew);
}

#[test]
fn an_initializer_that_fails_breaks_the_crew_with_its_cause() {
    let mut options = ThreadOptions::new(0..=2, |n| format!("test-{n}"));
    options.initializer = Some(Arc::new(|| panic!("not today")));
    options.start_attempts = 3;
    let crew = ThreadCrew::with(options).unwrap();
    let task = submit(&crew, || ());
    let error = result(&crew, &task).unwrap_err();
    let TaskError::Broken(cause) = *error else { panic!("{error}") };
    assert!(matches!(&*cause, PoolError::Initializer { attempts: 3, .. }));
    assert!(cause.to_string().contains("not today"), "{cause}");
    let refused = crew.submit(|| (), (), Kept::new(), &Terms::default());
    assert!(matches!(refused, Err(PoolError::Broken { .. })));
    crew.close();
    crew.terminate();
    crew.join(Deadline::after(LONG)).unwrap();
    assert_eq!(crew.state(), PoolState::Ended);
}

#[test]
fn tasks_of_tasks_do_not_wait_for_a_free_thread() {
    fn fibonacci(crew: &Arc<ThreadCrew>, n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let part = |n| {
            let for_it = crew.clone();
            submit(crew, move || fibonacci(&for_it, n))
        };
        let (a, b) = (part(n - 1), part(n - 2));
        result(crew, &a).unwrap() + result(crew, &b).unwrap()
    }
    let crew = crew(1..=2);
    let for_it = crew.clone();
    assert_eq!(result(&crew, &submit(&crew, move || fibonacci(&for_it, 12))).unwrap(), 144);
    let for_it = crew.clone();
    let joined = submit(&crew, move || for_it.join(Deadline::NEVER));
    assert!(matches!(result(&crew, &joined).unwrap(), Err(PoolError::StillRunning)));
    let for_it = crew.clone();
    let joined = submit(&crew, move || {
        for_it.close();
        for_it.join(Deadline::NEVER)
    });
    assert!(matches!(result(&crew, &joined).unwrap(), Err(PoolError::Within)));
    end(&crew);
}

#[test]
fn the_courier_runs_what_is_posted_in_order_and_survives_panics() {
    let crew = crew(1..=1);
    let (said, heard) = mpsc::channel();
    for i in 0..10 {
        let said = said.clone();
        crew.post(Box::new(move || {
            said.send(i).unwrap();
            assert!(i != 3, "a callback that panics");
        }));
    }
    let (for_it, at_end) = (crew.clone(), said.clone());
    crew.post(Box::new(move || {
        for_it.terminate();
        for_it.join(Deadline::after(LONG)).unwrap();
        at_end.send(10).unwrap();
    }));
    crew.terminate();
    crew.join(Deadline::after(LONG)).unwrap();
    crew.post(Box::new(move || said.send(11).unwrap()));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
}

#[test]
fn threads_come_and_go_with_the_range() {
    let crew = crew(1..=1);
    crew.resize(4..=4).unwrap();
    assert_eq!(crew.width(), 4);
    crew.resize(1..=2).unwrap();
    let until = Instant::now() + LONG;
    while crew.width() > 2 && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(crew.width(), 2);
    assert!(matches!(crew.resize(0..=0), Err(PoolError::Zero { .. })));
    end(&crew);
    assert!(matches!(crew.resize(1..=1), Err(PoolError::NotRunning { .. })));
    let none = ThreadCrew::with(ThreadOptions::new(0..=0, |_| String::new()));
    assert!(matches!(none, Err(PoolError::Zero { .. })));
}

#[test]
fn idle_threads_leave_and_worn_ones_are_replaced() {
    let mut options = ThreadOptions::new(0..=2, |n| format!("test-{n}"));
    options.idle_timeout = Some(Duration::from_millis(1));
    options.max_tasks = Some(2);
    let crew = ThreadCrew::with(options).unwrap();
    let names: Vec<_> = (0..6)
        .map(|_| {
            let name = || std::thread::current().name().unwrap().to_owned();
            result(&crew, &submit(&crew, name)).unwrap()
        })
        .collect();
    let different: std::collections::BTreeSet<_> = names.iter().collect();
    assert!(different.len() >= 3, "{names:?}");
    let until = Instant::now() + LONG;
    while crew.statistics().workers > 0 && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(crew.statistics().workers, 0);
    assert_eq!(result(&crew, &submit(&crew, || 1)).unwrap(), 1);
    end(&crew);
}

#[test]
fn a_crew_that_is_dropped_finishes_its_tasks() {
    let crew = crew(0..=2);
    let tasks: Vec<_> = (0..100).map(|i| submit(&crew, move || i).1).collect();
    drop(crew);
    for (i, kept) in tasks.iter().enumerate() {
        let results = kept.results.lock().unwrap();
        let waited = kept.changed.wait_timeout_while(results, LONG, |results| results.is_empty());
        drop(waited);
        assert_eq!(kept.take(0).unwrap(), i);
    }
}

/// What was taken gets one answer, whoever ends the crew meanwhile, and whoever waits comes back.
#[test]
fn ends_of_all_kinds_meet_tasks_of_all_kinds() {
    for round in 0..300u64 {
        let mut options = ThreadOptions::new((round % 2) as usize..=2, |n| format!("test-{n}"));
        options.max_tasks = (round % 3 == 0).then_some(5);
        if round % 7 == 0 {
            options.initializer = Some(Arc::new(|| panic!("not today")));
            options.start_attempts = 2;
        }
        let Ok(crew) = ThreadCrew::with(options) else { panic!("no threads") };
        let taken = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for submitter in 0..2 {
                let (crew, taken) = (&crew, &taken);
                scope.spawn(move || {
                    for i in 0..20 {
                        let kept = Kept::new();
                        let long = Terms { deadline: Some(LONG), ..Terms::default() };
                        let terms = if i % 5 == 0 { long } else { Terms::default() };
                        let work = move || assert!(i % 4 != 1, "this one panics");
                        let Ok(id) = crew.submit(work, (), kept.clone(), &terms) else { break };
                        match (i + submitter) % 6 {
                            0 => drop(crew.withdraw(id)),
                            1 => crew.post(Box::new(|| ())),
                            2 => drop(
                                crew.help(Some(id), Deadline::after(LONG), &mut || kept.has(1)),
                            ),
                            _ => {}
                        }
                        taken.lock().unwrap().push(kept);
                    }
                });
            }
            let crew = &crew;
            scope.spawn(move || match round % 5 {
                0 => crew.close(),
                1 => crew.terminate(),
                2 => {
                    crew.withdraw_all();
                    crew.close();
                    crew.terminate();
                }
                3 => {
                    let for_it = crew.clone();
                    crew.post(Box::new(move || for_it.terminate()));
                }
                _ => {
                    crew.close();
                    crew.join(Deadline::after(LONG)).unwrap();
                }
            });
        });
        crew.close();
        crew.join(Deadline::after(LONG)).unwrap();
        assert_eq!((crew.state(), crew.statistics().workers), (PoolState::Ended, 0));
        let taken = taken.into_inner().unwrap();
        assert!(
            crew.help(None, Deadline::after(LONG), &mut || taken.iter().all(|kept| kept.has(1)))
        );
        let statistics = crew.statistics();
        assert_eq!(statistics.done + statistics.failed, taken.len() as u64);
        assert_eq!((statistics.queued, statistics.running), (0, 0));
    }
}
