//! Workers that are real processes, and have nothing to do.

use std::sync::atomic::AtomicBool;

use procession_core::pool::{Plan, Take, Worker};
use procession_core::sys::nanos;

use super::*;
use crate::channel::Queue;
use crate::pool::board::OwnBoard;
use crate::process::{JoinError, Process, StartMethod, Target};

/// Waits for work that never comes.
struct Idler;

impl Trade for Idler {
    fn work(mut worker: Worker<'static>, mut habits: Habits) -> Leaving {
        if habits.tasks_left() < 10 {
            // As if it had run a task.
            if let Some(leaving) = habits.after(&worker, 1) {
                return leaving;
            }
        }
        worker.note_since(nanos());
        match worker.take(Deadline::NEVER) {
            Ok(Take::Leave(_)) => Leaving::Asked,
            _ => Leaving::NotReady("there is no work".into()),
        }
    }
}

struct Room {
    seats: Seats,
    _board: OwnBoard,
    deaths: Mutex<Vec<Death>>,
    queued: AtomicUsize,
    over: AtomicBool,
}

impl Floor for Room {
    fn seats(&self) -> &Seats {
        &self.seats
    }
    fn vacate(&self, seat: usize, death: &Death) {
        self.seats.vacate(seat);
        lock(&self.deaths).push(death.clone());
    }
    fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
    fn overdue(&self, _: &mut Vec<Tag>) -> Deadline {
        Deadline::NEVER
    }
    fn broken(&self, _: &Arc<PoolError>) {}
    fn over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A pool without tasks, which is terminated when it is dropped.
struct Pool {
    lives: Lives,
    room: Arc<Room>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lives.terminate_soon();
        self.lives.join(soon()).unwrap();
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn rules(workers: RangeInclusive<usize>) -> Rules {
    Rules { workers, start_attempts: 3, idle_timeout: None, strict: false }
}

fn try_pool(rules: Rules, hire: Hire) -> Result<Pool, PoolError> {
    pool_by(StartMethod::Zygote, rules, hire)
}

fn pool_by(method: StartMethod, rules: Rules, hire: Hire) -> Result<Pool, PoolError> {
    let board = OwnBoard::create(Plan { cells: 16, seats: 8 }).unwrap();
    let seats = Seats::new(&board, hire.method(Some(method)));
    let count = seats.count();
    let room = Arc::new(Room {
        seats,
        _board: board,
        deaths: Mutex::default(),
        queued: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let lives = Lives::new("Idler".into())?;
    lives.begin(room.clone(), count, rules)?;
    Ok(Pool { lives, room })
}

fn idlers<F: Target<()>>(initializer: F) -> Hire {
    Hire::new::<Idler, F, ()>(initializer, ())
}

fn pool(workers: RangeInclusive<usize>) -> Pool {
    try_pool(rules(workers), idlers(|| ())).unwrap()
}

/// Waits until it is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = soon();
    while !so() {
        assert!(!deadline.is_past(), "{what}");
        std::thread::yield_now();
    }
}

impl Pool {
    fn ready(&self) -> usize {
        let idle = |seat: &usize| matches!(self.room.seats.look(*seat), Seen::Idle { .. });
        (0..self.room.seats.count()).filter(idle).count()
    }

    /// Kills this one of its workers.
    fn kill(&self, which: usize) {
        let (seat, _) = self.lives.shared.all().swap_remove(which);
        self.lives.shared.at(seat).unwrap().kill().unwrap();
    }

    fn until_ready(&self, count: usize) {
        let here = || {
            let all = self.lives.shared.all();
            all.iter().filter(|(_, employee)| matches!(employee, Employee::Here(_))).count()
        };
        let all = || self.ready() == count && here() == count;
        until("so many are ready", all);
    }
}

#[test]
fn workers_come_and_go() {
    let pool = pool(2..=2);
    pool.until_ready(2);
    let names: Vec<String> = pool.lives.workers().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["Idler-1", "Idler-2"]);
    assert!(matches!(pool.lives.join(Deadline::NOW), Err(PoolError::StillRunning)));
    pool.lives.close();
    pool.lives.join(soon()).unwrap();
    assert_eq!(pool.lives.state().phase(), Phase::Ended);
    assert!(pool.room.over.load(Ordering::Relaxed));
    assert!(lock(&pool.room.deaths).iter().all(|death| death.asked));
    // Again and again.
    pool.lives.close();
    pool.lives.terminate_soon();
    pool.lives.join(Deadline::NOW).unwrap();
    assert!(matches!(pool.lives.resize(1..=1), Err(PoolError::NotRunning { .. })));
}

#[test]
fn the_dead_are_replaced() {
    let pool = pool(2..=2);
    pool.until_ready(2);
    for round in 1..=5 {
        pool.kill(0);
        until("it is replaced", || lock(&pool.room.deaths).len() == round);
        pool.until_ready(2);
    }
    let deaths = lock(&pool.room.deaths).clone();
    assert!(deaths.iter().all(|death| death.signal == Some(libc::SIGKILL) && !death.asked));
    assert_eq!(pool.lives.workers()[0].name, "Idler-7");
}

#[test]
fn who_is_stopped_or_does_not_listen_is_killed() {
    let pool = pool(2..=2);
    pool.until_ready(2);
    let pid = pool.lives.workers()[0].pid as i32;
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    pool.lives.close();
    assert!(matches!(
        pool.lives.join(Deadline::after(Duration::from_millis(20))),
        Err(PoolError::TimedOut)
    ));
    pool.lives.terminate_soon();
    pool.lives.join(soon()).unwrap();
    let deaths = lock(&pool.room.deaths).clone();
    assert!(deaths.iter().any(|death| death.signal == Some(libc::SIGKILL)), "{deaths:?}");
}

#[test]
fn an_initializer_that_fails_breaks_the_pool() {
    fn cause_of(hire: Hire) -> JoinError {
        let pool = try_pool(rules(2..=2), hire).unwrap();
        until("it is broken", || pool.lives.cause().is_some());
        pool.lives.join(soon()).unwrap();
        assert!(lock(&pool.room.deaths).len() <= 2 + 3, "it does not try for ever");
        let cause = pool.lives.cause().unwrap();
        let PoolError::Initializer { attempts: 3, cause } = &*cause else { panic!("{cause:?}") };
        cause.downcast_ref::<JoinError>().unwrap().clone()
    }
    let error = cause_of(idlers(|| -> Result<(), String> { Err("no database".into()) }));
    assert!(error.to_string().contains("returned an error: no database"), "{error}");
    let error = cause_of(idlers(|| -> Result<(), u32> { Err(5) }));
    assert!(error.to_string().contains("returned an error"), "{error}");
    let error = cause_of(idlers(|| -> () { panic!("no luck") }));
    assert!(matches!(&error, JoinError::Panicked { message, .. } if message == "no luck"));
    let error = cause_of(idlers(|| -> () { std::process::exit(3) }));
    assert!(matches!(error, JoinError::Exited { code: 3, .. }), "{error}");
    let error = cause_of(idlers(|| -> () { std::process::abort() }));
    assert!(matches!(error, JoinError::Killed { signal: libc::SIGABRT, .. }), "{error}");
}

#[test]
fn an_initializer_gets_its_arguments_in_each_worker() {
    let check = |answer: u32, text: String| {
        if (answer, &*text) == (42, "x") { Ok(()) } else { Err(text) }
    };
    let hire = Hire::new::<Idler, _, (u32, String)>(check, (42, "x".into()));
    let pool = try_pool(rules(3..=3), hire).unwrap();
    pool.until_ready(3);
}

#[test]
fn it_grows_and_shrinks() {
    let timeout = Some(Duration::from_millis(10));
    let pool = try_pool(Rules { idle_timeout: timeout, ..rules(1..=4) }, idlers(|| ())).unwrap();
    pool.until_ready(1);
    assert!(pool.lives.may_grow());
    pool.room.queued.store(4, Ordering::Relaxed);
    pool.lives.look_again();
    until("there are four", || pool.lives.width() == 4);
    pool.room.queued.store(0, Ordering::Relaxed);
    until("one is left", || pool.lives.width() == 1);
    pool.lives.resize(2..=2).unwrap();
    until("there are two", || pool.lives.width() == 2 && !pool.lives.may_grow());
}

#[test]
fn a_worker_leaves_after_its_last_task() {
    let limits = Limits { tasks: Some(1), memory: None };
    let pool = try_pool(rules(1..=1), idlers(|| ()).limits(limits)).unwrap();
    until("some have left", || lock(&pool.room.deaths).len() > 5);
    assert!(pool.lives.cause().is_none());
}

#[test]
fn a_strict_pool_breaks_at_the_first_death() {
    let pool = try_pool(Rules { strict: true, ..rules(2..=2) }, idlers(|| ())).unwrap();
    pool.until_ready(2);
    pool.kill(1);
    pool.lives.state();
    until("it is broken", || pool.lives.cause().is_some());
    let cause = pool.lives.cause().unwrap();
    assert!(cause.to_string().contains("ended by signal 9"), "{cause}");
    pool.lives.join(soon()).unwrap();
}

#[test]
fn many_threads_end_it() {
    for round in 0..10 {
        let pool = pool(2..=2);
        if round % 2 == 0 {
            pool.until_ready(2);
        }
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let lives = &pool.lives;
                scope.spawn(move || {
                    if thread % 2 == 0 {
                        lives.close()
                    } else {
                        lives.terminate_soon()
                    }
                    lives.join(soon()).unwrap();
                });
            }
        });
        assert_eq!(pool.lives.state().phase(), Phase::Ended);
    }
}

fn is_gone(pid: u32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::test_kill_process(pid).is_err()
}

/// Makes a pool for good, and tells who works there.
fn leave_a_pool() -> Vec<u32> {
    let pool = pool(2..=2);
    pool.until_ready(2);
    let pids = pool.lives.workers().into_iter().map(|info| info.pid).collect();
    std::mem::forget(pool);
    pids
}

#[test]
fn with_its_owner_a_pool_ends() {
    let owner = Process::new(leave_a_pool, ()).method(StartMethod::Zygote).start().unwrap();
    let workers = owner.join_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(workers.len(), 2);
    assert!(workers.iter().all(|pid| is_gone(*pid)), "they ended before the owner");
}

#[test]
fn when_its_owner_is_killed_a_pool_ends() {
    let told = Queue::<Vec<u32>>::bounded(4).unwrap();
    let body = |told: Queue<Vec<u32>>| {
        told.put(&leave_a_pool()).unwrap();
        std::thread::park();
    };
    let owner = Process::new(body, (told.clone(),)).method(StartMethod::Zygote).start().unwrap();
    let workers = told.get_timeout(Duration::from_secs(20)).unwrap();
    owner.kill().unwrap();
    until("they are gone", || workers.iter().all(|pid| is_gone(*pid)));
}

#[test]
fn workers_have_pools_of_their_own() {
    /// Each worker of the outer pool has an inner one.
    fn nested() -> Vec<u32> {
        let hire = idlers(|| drop(leave_a_pool()));
        let pool = try_pool(rules(2..=2), hire).unwrap();
        pool.until_ready(2);
        let group = rustix::process::getpgrp();
        drop(pool);
        vec![group.as_raw_nonzero().get() as u32]
    }
    let owner = Process::new(nested, ()).method(StartMethod::Zygote).start().unwrap();
    owner.join_timeout(Duration::from_secs(20)).unwrap();
}

#[test]
fn a_pool_does_not_stand_in_the_way_of_a_fork() {
    fn fork() -> bool {
        let pool = pool(2..=2);
        pool.until_ready(2);
        let child = Process::new(|| 5u32, ()).method(StartMethod::Fork).start();
        let five = child.unwrap().join_timeout(Duration::from_secs(20)).unwrap();
        let before = pool.lives.workers();
        pool.kill(0);
        until("it is replaced", || pool.lives.workers() != before);
        pool.until_ready(2);
        five == 5
    }
    let owner = Process::new(fork, ()).method(StartMethod::Zygote).start().unwrap();
    assert!(owner.join_timeout(Duration::from_secs(20)).unwrap());
}

#[test]
fn forked_workers_are_replaced_by_others() {
    fn fork() -> usize {
        let pool = pool_by(StartMethod::Fork, rules(2..=2), idlers(|| ())).unwrap();
        pool.until_ready(2);
        for round in 1..=3 {
            pool.kill(round % 2);
            until("it is replaced", || lock(&pool.room.deaths).len() == round);
            pool.until_ready(2);
        }
        pool.lives.close();
        pool.lives.join(soon()).unwrap();
        lock(&pool.room.deaths).len()
    }
    let owner = Process::new(fork, ()).method(StartMethod::Zygote).start().unwrap();
    assert_eq!(owner.join_timeout(Duration::from_secs(20)).unwrap(), 5);
}

#[test]
fn in_a_fork_of_its_owner_a_pool_is_nobodys() {
    thread_local! {
        static POOL: std::cell::RefCell<Option<Pool>> = const { std::cell::RefCell::new(None) };
    }
    /// In the fork.
    fn try_all() -> bool {
        let pool = POOL.take().unwrap();
        pool.lives.close();
        pool.lives.terminate_soon();
        let refused = matches!(pool.lives.join(soon()), Err(PoolError::Forked { .. }))
            && matches!(pool.lives.resize(1..=1), Err(PoolError::Forked { .. }));
        std::mem::forget(pool);
        refused
    }
    fn fork() -> bool {
        POOL.set(Some(pool(2..=2)));
        let child = Process::new(try_all, ()).method(StartMethod::Fork).start().unwrap();
        let refused = child.join_timeout(Duration::from_secs(20)).unwrap();
        let pool = POOL.take().unwrap();
        pool.until_ready(2);
        refused && pool.lives.state().phase() == Phase::Run
    }
    let owner = Process::new(fork, ()).method(StartMethod::Zygote).start().unwrap();
    assert!(owner.join_timeout(Duration::from_secs(20)).unwrap());
}
