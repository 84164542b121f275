//! How workers of a pool live and die, and what their tasks see of it.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;
#[path = "support/gone.rs"]
mod gone;
mod support;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use procession_posix::channel::Queue;
use procession_posix::pool::{Pool, PoolError, PoolState, Retry, TaskError};
use procession_posix::process::{JoinError, Process, StartMethod, current_process};
use procession_posix::sync::{Atomic, Event};
use rustix::process::{Pid, Signal, kill_process};
use support::{Bound, LONG};

fn pid() -> u32 {
    std::process::id()
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Waits until it is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// The pids of the workers.
fn pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|worker| worker.pid).collect()
}

#[test]
fn a_killed_worker_fails_its_task_alone() {
    alone!(a_killed_worker_fails_its_task_alone);
    let pool = Pool::new(2).unwrap();
    let began = Queue::bounded(4).unwrap();
    let stay = |began: Queue<u32>| {
        began.put(&pid()).unwrap();
        std::thread::park();
    };
    for round in 1..=3 {
        let lost = pool.apply_async(stay, (began.clone(),)).unwrap();
        let victim = began.get_timeout(LONG).unwrap();
        kill(victim, Signal::KILL);
        let error = lost.get_timeout(LONG).unwrap_err();
        let TaskError::WorkerDied { pid, signal: Some(9), code: None, attempt: 1, .. } = error
        else {
            panic!("round {round}: {error:?}")
        };
        assert_eq!(pid, victim);
        assert_eq!(pool.map(|x: u32| x + 1, 0..100).unwrap().len(), 100);
    }
    assert_eq!(pool.statistics().deaths, 3);
    until("they are replaced", || pool.workers().len() == 2);
    assert_eq!(pool.state(), PoolState::Running);
}

#[test]
fn however_a_worker_ends_it_is_its_tasks_error() {
    alone!(however_a_worker_ends_it_is_its_tasks_error);
    let pool = Pool::new(1).unwrap();
    let error = pool.apply(|| -> () { std::process::exit(3) }, ()).unwrap_err();
    assert!(
        matches!(error, TaskError::WorkerDied { code: Some(3), signal: None, .. }),
        "{error:?}"
    );
    let error = pool.apply(|| -> () { std::process::exit(0) }, ()).unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { code: Some(0), .. }), "{error:?}");
    let error = pool.apply(|| -> () { std::process::abort() }, ()).unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { signal: Some(6), .. }), "{error:?}");
    // A panic is no death.
    let before = pool.apply(pid, ()).unwrap();
    let error = pool.apply(|| -> () { panic!("no luck") }, ()).unwrap_err();
    assert!(matches!(error, TaskError::Panicked { .. }), "{error:?}");
    assert_eq!(pool.apply(pid, ()).unwrap(), before);
}

#[test]
fn workers_of_one_zygote_draw_seeds_of_their_own() {
    let pool = Pool::builder().processes(2).method(StartMethod::Zygote).build().unwrap();
    let begun = Atomic::new(0u64).unwrap();
    let seed = |begun: Atomic<u64>| {
        use std::hash::BuildHasher;
        // Both are at it: so each has one.
        begun.fetch_add(1, Ordering::SeqCst);
        until("both have begun", || begun.load(Ordering::SeqCst) == 2);
        std::hash::RandomState::new().hash_one(1)
    };
    let seeds: Vec<_> = (0..2).map(|_| pool.apply_async(seed, (begun.clone(),)).unwrap()).collect();
    let [one, other] = [0, 1].map(|at: usize| seeds[at].get_timeout(LONG).unwrap());
    assert_ne!(one, other);
}

#[test]
fn idle_workers_are_replaced() {
    alone!(idle_workers_are_replaced);
    let pool = Pool::new(2).unwrap();
    let mut all = pids(&pool);
    for _ in 0..5 {
        for pid in pids(&pool) {
            kill(pid, Signal::KILL);
        }
        until("there are two others", || {
            let now = pids(&pool);
            now.len() == 2 && now.iter().all(|pid| !all.contains(pid))
        });
        all.extend(pids(&pool));
        assert_eq!(pool.map(|x: u32| x * 2, 0..10).unwrap()[9], 18);
    }
}

/// Kills its own worker in its first so many attempts.
fn fragile(tries: Atomic<u64>, deadly: u64) -> u64 {
    let attempt = tries.fetch_add(1, Ordering::SeqCst) + 1;
    if attempt <= deadly {
        kill(pid(), Signal::KILL);
        std::thread::park();
    }
    attempt
}

#[test]
fn what_may_be_done_again_is() {
    alone!(what_may_be_done_again_is);
    let pool = Pool::builder().processes(2).retry(Retry::idempotent(4)).build().unwrap();
    let tries = Atomic::new(0u64).unwrap();
    assert_eq!(pool.apply(fragile, (tries.clone(), 3)).unwrap(), 4);
    tries.store(0, Ordering::SeqCst);
    let error = pool.apply(fragile, (tries.clone(), 9)).unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { attempt: 4, .. }), "{error:?}");
    assert_eq!(tries.load(Ordering::SeqCst), 4);
    assert_eq!(pool.statistics().retried, 6);
}

#[test]
fn what_kills_every_worker_is_quarantined() {
    alone!(what_kills_every_worker_is_quarantined);
    let retry = Retry::idempotent(100);
    let pool = Pool::builder().processes(2).retry(retry).quarantine(3).build().unwrap();
    let tries = Atomic::new(0u64).unwrap();
    let poison = pool.apply_async(fragile, (tries.clone(), 1000)).unwrap();
    assert_eq!(pool.map(|x: u32| x + 1, 0..1000).unwrap()[999], 1000);
    let error = poison.get_timeout(LONG).unwrap_err();
    assert!(matches!(error, TaskError::Quarantined { deaths: 3, .. }), "{error:?}");
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

/// How often a task of `a_map_survives_its_workers` wanted to kill its worker.
static WISHES: OnceLock<Atomic<u64>> = OnceLock::new();

#[test]
fn a_map_survives_its_workers() {
    alone!(a_map_survives_its_workers);
    let prepare = |wishes: Atomic<u64>| drop(WISHES.set(wishes));
    let wishes = Atomic::new(0u64).unwrap();
    let pool = Pool::builder()
        .processes(2)
        .retry(Retry::idempotent(1000))
        .quarantine(1000)
        .initializer(prepare, (wishes.clone(),))
        .build()
        .unwrap();
    let work = |x: u64| {
        let deadly = || !WISHES.get().unwrap().fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        if x % 500 == 499 && deadly() {
            kill(pid(), Signal::KILL);
        }
        x * 3
    };
    let results = pool.map(work, 0..10_000).unwrap();
    assert!(results.iter().enumerate().all(|(x, result)| *result == x as u64 * 3));
    assert!(pool.statistics().deaths >= 20);
}

#[test]
fn who_runs_too_long_is_ended() {
    alone!(who_runs_too_long_is_ended);
    let pool = Pool::new(2).unwrap();
    let began = Instant::now();
    let limit = Duration::from_millis(30);
    let late = pool.task(std::thread::park, ()).deadline(limit).apply_async().unwrap();
    let also_late = pool.task(std::thread::park, ()).deadline(limit).apply_async().unwrap();
    let early = pool.task(|x: u32| x, (5,)).deadline(LONG).apply_async().unwrap();
    assert_eq!(early.get_timeout(LONG).unwrap(), 5, "it waited for a worker, not for the others");
    for late in [late, also_late] {
        let error = late.get_timeout(LONG).unwrap_err();
        let TaskError::DeadlinePassed { limit: said, .. } = error else { panic!("{error:?}") };
        assert_eq!(said, limit);
    }
    assert!(began.elapsed() >= limit);
    // Of a map only the item is late.
    let nap = |x: u32| {
        if x == 7 {
            std::thread::park()
        }
    };
    // Whose processor others have for so long is late too: then all get more time.
    let mut limits = std::iter::successors(Some(limit), |limit| Some(*limit * 4)).take(6);
    let only_one = |limit| {
        let pool = Pool::builder().processes(1).deadline(limit).build().unwrap();
        let results: Vec<_> = pool.imap(nap, 0..20).unwrap().collect();
        assert_eq!(results.len(), 20);
        let late = |result| matches!(result, &Err(TaskError::DeadlinePassed { .. }));
        assert!(results.iter().all(|result| late(result) || result.is_ok()), "{results:?}");
        assert!(late(&results[7]), "{results:?}");
        results.iter().filter(|result| late(result)).count() == 1
    };
    assert!(limits.any(only_one), "others than the one that stays are late");
}

#[test]
fn what_runs_can_be_aborted() {
    alone!(what_runs_can_be_aborted);
    let pool = Pool::new(1).unwrap();
    let began = Event::new().unwrap();
    let stay = |began: Event| {
        began.set();
        std::thread::park();
    };
    let before = pool.apply(pid, ()).unwrap();
    let running = pool.apply_async(stay, (began.clone(),)).unwrap();
    let queued = pool.apply_async(pid, ()).unwrap();
    assert!(began.wait_timeout(LONG));
    assert!(!running.cancel(), "it runs");
    assert!(running.abort());
    let error = running.get_timeout(LONG).unwrap_err();
    assert!(matches!(error, TaskError::Cancelled), "{error:?}");
    let after = queued.get_timeout(LONG).unwrap();
    assert_ne!(before, after);
    until("it is gone", || gone::gone(before));
}

#[test]
fn a_worker_runs_so_many_tasks_and_no_more() {
    alone!(a_worker_runs_so_many_tasks_and_no_more);
    let pool = Pool::builder().processes(2).max_tasks_per_child(3).build().unwrap();
    let mut tasks = HashMap::new();
    for pid in pool.map(|_: u32| pid(), 0..50).unwrap() {
        *tasks.entry(pid).or_insert(0) += 1;
    }
    for _ in 0..10 {
        *tasks.entry(pool.apply(pid, ()).unwrap()).or_insert(0) += 1;
    }
    assert!(tasks.values().all(|count| *count <= 3), "{tasks:?}");
    assert!(tasks.len() >= 20);
    assert_eq!(pool.statistics().deaths, 0, "they were asked to leave");
}

#[test]
fn a_worker_with_too_much_memory_is_replaced() {
    alone!(a_worker_with_too_much_memory_is_replaced);
    let pool = Pool::builder().processes(1).memory_limit(64 << 20).build().unwrap();
    let leak = |bytes: usize| {
        std::mem::forget(vec![1u8; bytes]);
        pid()
    };
    let small = pool.apply(leak, (1 << 10,)).unwrap();
    assert_eq!(pool.apply(leak, (1 << 10,)).unwrap(), small);
    let large = pool.apply(leak, (128 << 20,)).unwrap();
    // It looks at its memory not after each task, if tasks are short.
    until("it is replaced", || pool.apply(leak, (1,)).unwrap() != large);
}

#[test]
fn each_worker_is_initialized_first() {
    alone!(each_worker_is_initialized_first);
    fn prepare(count: Atomic<u64>, name: String) {
        count.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the worker has one thread yet.
        unsafe { std::env::set_var("PREPARED", name) };
    }
    let count = Atomic::new(0u64).unwrap();
    let pool = Pool::builder()
        .processes(2)
        .initializer(prepare, (count.clone(), "yes".to_string()))
        .max_tasks_per_child(5)
        .build()
        .unwrap();
    let prepared = |_: u32| std::env::var("PREPARED").ok();
    let answers = pool.tasks(prepared, 0..20).chunk_size(1).map().unwrap();
    assert!(answers.iter().all(|answer| answer.as_deref() == Some("yes")));
    assert!(count.load(Ordering::SeqCst) >= 4);
}

/// Cannot be encoded while this process says so.
#[derive(serde::Deserialize)]
struct Shy;

static SHY: AtomicBool = AtomicBool::new(false);
static REFUSED: AtomicU32 = AtomicU32::new(0);

impl serde::Serialize for Shy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if SHY.load(Ordering::SeqCst) {
            REFUSED.fetch_add(1, Ordering::SeqCst);
            panic!("not now");
        }
        serializer.serialize_unit_struct("Shy")
    }
}

#[test]
fn a_worker_that_could_not_be_started_is_started_later() {
    alone!(a_worker_that_could_not_be_started_is_started_later);
    let build = || Pool::builder().processes(2).initializer(|_: Shy| (), (Shy,)).build();
    let pool = build().unwrap();
    // The other one is ready, and stays: a pool in which nobody can be started breaks.
    let (here, go) = (Queue::bounded(2).unwrap(), Event::new().unwrap());
    let stay = |here: Queue<u32>, go: Event| {
        here.put(&pid()).unwrap();
        go.wait();
    };
    for _ in 0..2 {
        pool.apply_async(stay, (here.clone(), go.clone())).unwrap();
    }
    let victim = here.get_timeout(LONG).unwrap();
    here.get_timeout(LONG).unwrap();
    go.set();
    SHY.store(true, Ordering::SeqCst);
    kill(victim, Signal::KILL);
    until("its successor is not started", || REFUSED.load(Ordering::SeqCst) > 0);
    assert!(matches!(build(), Err(PoolError::Start(_))));
    SHY.store(false, Ordering::SeqCst);
    until("it has a successor", || {
        let here = pids(&pool);
        here.len() == 2 && !here.contains(&victim)
    });
    assert_eq!(pool.map(|x: u32| x + 1, 0..10).unwrap(), Vec::from_iter(1..11));
}

#[test]
fn a_pool_breaks_where_its_initializer_fails() {
    alone!(a_pool_breaks_where_its_initializer_fails);
    let count = Atomic::new(0u64).unwrap();
    fn fail(count: Atomic<u64>) -> Result<(), String> {
        count.fetch_add(1, Ordering::SeqCst);
        Err("no database".into())
    }
    let pool = Pool::builder().processes(2).start_attempts(4).initializer(fail, (count.clone(),));
    let pool = pool.build().unwrap();
    let lost = pool.apply_async(pid, ()).map(|result| result.get_timeout(LONG));
    // It was quick to break, or it took the task.
    if let Ok(result) = lost {
        let error = result.unwrap_err();
        assert!(matches!(error, TaskError::Broken(_)), "{error:?}");
        assert!(error.to_string().contains("no database"), "{error}");
    }
    until("it is broken", || pool.state() != PoolState::Running);
    let error = pool.apply_async(pid, ()).unwrap_err();
    assert!(error.to_string().contains("no database"), "{error}");
    let cause = pool.cause().unwrap();
    let PoolError::Initializer { attempts: 4, cause } = &*cause else { panic!("{cause:?}") };
    let cause = cause.downcast_ref::<JoinError>();
    assert!(matches!(cause, Some(JoinError::NotBegun { .. })), "{cause:?}");
    assert!(pool.map(|x: u32| x, 0..10).is_err());
    assert!(count.load(Ordering::SeqCst) <= 5, "it does not start workers for ever");
    pool.join_timeout(LONG).unwrap();
}

#[test]
fn a_strict_pool_breaks_at_the_first_death() {
    alone!(a_strict_pool_breaks_at_the_first_death);
    let pool = Pool::builder().processes(2).strict(true).build().unwrap();
    let other = pool.apply_async(std::thread::park, ()).unwrap();
    let error = pool.apply(|| kill(pid(), Signal::KILL), ()).unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { .. } | TaskError::Broken(_)), "{error:?}");
    let error = other.get_timeout(LONG).unwrap_err();
    assert!(matches!(error, TaskError::Broken(_)), "{error:?}");
    assert!(pool.apply_async(pid, ()).is_err());
    pool.join_timeout(LONG).unwrap();
    assert!(pids(&pool).is_empty());
}

#[test]
fn it_grows_with_its_tasks_and_shrinks_again() {
    alone!(it_grows_with_its_tasks_and_shrinks_again);
    let idle = Duration::from_millis(20);
    let pool = Pool::builder().workers(1..=3).idle_timeout(idle).build().unwrap();
    assert_eq!(pool.workers().len(), 1);
    let (open, began) = (Event::new().unwrap(), Queue::bounded(6).unwrap());
    let wait = |open: Event, began: Queue<u32>| {
        began.put(&pid()).unwrap();
        assert!(open.wait_timeout(LONG));
    };
    let args = || (open.clone(), began.clone());
    let waiting: Vec<_> = (0..6).map(|_| pool.apply_async(wait, args()).unwrap()).collect();
    for _ in 0..3 {
        let worker = began.get_timeout(LONG).unwrap();
        assert!(pids(&pool).contains(&worker), "who runs a task is listed");
    }
    until("there are three", || pool.workers().len() == 3);
    open.set();
    for result in waiting {
        result.get_timeout(LONG).unwrap();
    }
    until("there is one", || pool.workers().len() == 1);
    assert_eq!(pool.apply(|| 5, ()).unwrap(), 5);
    assert_eq!(pool.statistics().deaths, 0);
}

#[test]
fn it_takes_on_another_size() {
    alone!(it_takes_on_another_size);
    let pool = Pool::new(1).unwrap();
    for workers in [3, 1, 4, 2] {
        pool.resize(workers..=workers).unwrap();
        until("there are so many", || pool.workers().len() == workers);
        assert_eq!(pool.map(|x: u32| x, 0..100).unwrap().len(), 100);
    }
    assert!(pool.resize(0..=0).is_err());
    assert!(pool.resize(1..=1_000_000).is_err());
}

#[test]
fn workers_have_names_and_are_daemons() {
    alone!(workers_have_names_and_are_daemons);
    let pool = Pool::new(1).unwrap();
    let worker = pool.apply(|| (current_process().name, current_process().daemon), ()).unwrap();
    assert_eq!(worker, ("PoolWorker-1".to_string(), true));
    assert_eq!(pool.workers()[0].name, "PoolWorker-1");
    let pool = Pool::builder().processes(1).name("Miller").build().unwrap();
    assert_eq!(pool.apply(|| current_process().name, ()).unwrap(), "Miller-1");
}

#[test]
fn tasks_have_pools_of_their_own() {
    alone!(tasks_have_pools_of_their_own);
    fn inner(n: u64) -> u64 {
        let pool = Pool::new(2).unwrap();
        pool.map(|x: u64| x * x, 0..n).unwrap().iter().sum()
    }
    let pool = Pool::builder().processes(2).method(StartMethod::Zygote).build().unwrap();
    assert_eq!(pool.map(inner, [3, 4, 5, 6]).unwrap(), [5, 14, 30, 55]);
}

#[test]
fn a_task_that_forks_comes_back_once() {
    let pool = Pool::builder().processes(1).method(StartMethod::Zygote).build().unwrap();
    let fork = || {
        // SAFETY: the worker has one thread; the child goes on as the worker would, and must not be taken for it.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        pid as u32
    };
    assert_ne!(pool.apply(fork, ()).unwrap(), 0);
    assert_eq!(pool.apply(|x: u32| x, (5,)).unwrap(), 5);
}

#[test]
fn a_stopped_worker_is_alive() {
    let pool = Pool::builder().processes(2).method(StartMethod::Zygote).build().unwrap();
    let stopped = pool.apply(pid, ()).unwrap();
    kill(stopped, Signal::STOP);
    for x in 0..20 {
        // The other does the work, once the stopped one holds nothing or one task.
        let answer = pool.apply_async(|x: u32| x, (x,)).unwrap();
        if !answer.wait_timeout(Duration::from_millis(50)) {
            kill(stopped, Signal::CONT);
            assert_eq!(answer.get_timeout(LONG).unwrap(), x);
            break;
        }
    }
    assert!(pids(&pool).contains(&stopped), "it was not replaced");
    kill(stopped, Signal::CONT);
}

#[test]
fn with_its_owner_all_is_over() {
    fn own(told: Queue<Vec<u32>>, wait: bool) {
        let pool = Pool::new(2).unwrap();
        pool.map(|x: u32| x, 0..10).unwrap();
        told.put(&pids(&pool)).unwrap();
        let _busy = pool.apply_async(std::thread::park, ()).unwrap();
        if wait {
            std::thread::park();
        }
        // Nobody terminates it.
        std::mem::forget(pool);
    }
    for killed in [false, true] {
        let told = Queue::bounded(1).unwrap();
        let owner = Process::new(own, (told.clone(), killed)).method(StartMethod::Zygote);
        let owner = Bound(owner.start().unwrap());
        let workers = told.get_timeout(LONG).unwrap();
        assert_eq!(workers.len(), 2);
        if killed {
            owner.kill().unwrap();
        } else {
            owner.join_timeout(LONG).unwrap();
        }
        until("they are gone", || workers.iter().all(|pid| gone::gone(*pid)));
    }
}
