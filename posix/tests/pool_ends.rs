//! How a pool comes to its end: in each state, from everywhere, and always in time.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;
#[path = "support/gone.rs"]
mod gone;

use std::future::Future as _;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use procession_posix::futures::ProcessPoolExecutor;
use procession_posix::pool::{Pool, PoolError, PoolState, TaskError};
use procession_posix::process::StartMethod;
use procession_posix::sync::Event;

/// How long is waited for what comes.
const LONG: Duration = Duration::from_secs(60);

fn pid() -> u32 {
    std::process::id()
}

/// A pool in a test that has threads of its own.
fn among_threads(workers: usize) -> Pool {
    Pool::builder().processes(workers).method(StartMethod::Zygote).build().unwrap()
}

fn stay() {
    std::thread::park();
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_closed_pool_does_what_it_has() {
    alone!(a_closed_pool_does_what_it_has);
    let pool = Pool::new(2).unwrap();
    assert!(matches!(pool.join(), Err(PoolError::StillRunning)));
    let results: Vec<_> =
        (0..50).map(|x| pool.apply_async(|x: u32| x + 1, (x,)).unwrap()).collect();
    pool.close();
    let refused = pool.apply_async(pid, ()).unwrap_err();
    assert!(matches!(refused, PoolError::NotRunning { .. }), "{refused:?}");
    pool.join_timeout(LONG).unwrap();
    assert_eq!(pool.state(), PoolState::Ended);
    for (x, result) in results.into_iter().enumerate() {
        assert_eq!(result.get().unwrap(), x as u32 + 1);
    }
    assert!(pool.workers().is_empty());
    // Once more, and in any way.
    pool.close();
    pool.terminate();
    pool.join().unwrap();
}

#[test]
fn joining_has_a_deadline() {
    alone!(joining_has_a_deadline);
    let pool = Pool::new(1).unwrap();
    let open = Event::new().unwrap();
    let wait = |open: Event| assert!(open.wait_timeout(LONG));
    let result = pool.apply_async(wait, (open.clone(),)).unwrap();
    pool.close();
    let error = pool.join_timeout(Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, PoolError::TimedOut), "{error:?}");
    open.set();
    pool.join_timeout(LONG).unwrap();
    result.get().unwrap();
}

#[test]
fn a_terminated_pool_ends_at_once() {
    alone!(a_terminated_pool_ends_at_once);
    let pool = Pool::new(2).unwrap();
    let results: Vec<_> = (0..10).map(|_| pool.apply_async(stay, ()).unwrap()).collect();
    pool.terminate();
    pool.join_timeout(LONG).unwrap();
    for result in results {
        let error = result.get_timeout(LONG).unwrap_err();
        assert!(matches!(error, TaskError::Terminated), "{error:?}");
    }
    assert!(pool.apply_async(pid, ()).is_err());
}

#[test]
fn a_dropped_pool_leaves_nobody() {
    alone!(a_dropped_pool_leaves_nobody);
    let pool = Pool::new(2).unwrap();
    let busy = pool.apply_async(stay, ()).unwrap();
    let workers = pool.workers();
    assert_eq!(workers.len(), 2);
    drop(pool);
    let error = busy.get_timeout(LONG).unwrap_err();
    assert!(matches!(error, TaskError::Terminated), "{error:?}");
    until("they are gone", || workers.iter().all(|worker| gone::gone(worker.pid)));
}

#[test]
fn callbacks_may_end_their_pool() {
    type End = fn(&Pool);
    let ends: [(&str, End); 4] = [
        ("close", Pool::close),
        ("terminate", Pool::terminate),
        ("close and join", |pool| {
            pool.close();
            let _ = pool.join_timeout(Duration::from_millis(50));
        }),
        ("terminate and join", |pool| {
            pool.terminate();
            let _ = pool.join_timeout(Duration::from_millis(50));
        }),
    ];
    for (what, end) in ends {
        let pool = Arc::new(among_threads(2));
        let (done, told) = channel();
        let inner = pool.clone();
        let call_back = move |_: &u32| {
            end(&inner);
            done.send(()).unwrap();
        };
        pool.task(|x: u32| x, (1,)).callback(call_back).apply_async().unwrap();
        told.recv_timeout(LONG).unwrap_or_else(|_| panic!("{what}"));
        pool.join_timeout(LONG).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[test]
fn a_callback_that_panics_harms_nobody() {
    let pool = among_threads(1);
    let (done, told) = channel();
    pool.task(|| (), ()).callback(|()| panic!("in a callback")).apply_async().unwrap();
    let call_back = move |_: &TaskError| done.send(()).unwrap();
    let fails = pool.task(|| -> () { panic!("in a task") }, ()).error_callback(call_back);
    fails.apply_async().unwrap();
    told.recv_timeout(LONG).unwrap();
    assert_eq!(pool.apply(|| 5, ()).unwrap(), 5);
}

#[test]
fn a_callback_may_get_results() {
    let pool = Arc::new(among_threads(2));
    let (done, told) = channel();
    let inner = pool.clone();
    let call_back = move |x: &u32| {
        let more = inner.apply(|x: u32| x + 1, (*x,)).unwrap();
        let map = inner.map(|x: u32| x * 2, 0..10).unwrap();
        done.send((more, map.len())).unwrap();
    };
    pool.task(|x: u32| x, (1,)).callback(call_back).apply_async().unwrap();
    assert_eq!(told.recv_timeout(LONG).unwrap(), (2, 10));
}

#[test]
fn many_threads_may_end_it() {
    for round in 0..20 {
        let pool = among_threads(2);
        let results: Vec<_> = (0..4).map(|_| pool.apply_async(|| (), ()).unwrap()).collect();
        if round % 5 == 4 {
            pool.apply_async(stay, ()).unwrap();
        }
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (pool, results) = (&pool, &results);
                scope.spawn(move || match thread {
                    0 => pool.close(),
                    1 => {
                        pool.terminate();
                        pool.join_timeout(LONG).unwrap();
                    }
                    2 => drop(results[0].get_timeout(LONG)),
                    _ => {
                        until("it is closed", || pool.state() != PoolState::Running);
                        pool.join_timeout(LONG).unwrap();
                    }
                });
            }
        });
        assert_eq!(pool.state(), PoolState::Ended);
        for result in &results[1..] {
            // Done, or told what became of it.
            match result.get_timeout(LONG) {
                Ok(()) | Err(TaskError::Terminated) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

#[test]
fn threads_that_submit_learn_of_the_end() {
    let pool = among_threads(2);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    match pool.apply(|x: u64| x, (5,)) {
                        Ok(5) => {}
                        Err(TaskError::Terminated | TaskError::Refused(_)) => break,
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        until("they are at it", || pool.statistics().done > 100);
        pool.terminate();
        pool.join_timeout(LONG).unwrap();
    });
}

#[test]
fn a_broken_pool_ends_as_any_other() {
    alone!(a_broken_pool_ends_as_any_other);
    for end in 0..4 {
        let pool = Pool::builder().processes(2).strict(true).build().unwrap();
        let other = pool.apply_async(stay, ()).unwrap();
        let _ = pool.apply(|| -> () { std::process::abort() }, ());
        match end {
            0 => pool.close(),
            1 => pool.terminate(),
            2 => pool.join_timeout(LONG).unwrap(),
            _ => {}
        }
        let error = other.get_timeout(LONG).unwrap_err();
        assert!(matches!(error, TaskError::Broken(_) | TaskError::Terminated), "{error:?}");
        if end < 2 {
            pool.join_timeout(LONG).unwrap();
        }
    }
}

/// Says that it was woken, and waits until it is answered.
struct Waits {
    woken: Sender<()>,
    go: Mutex<Receiver<()>>,
    answered: Sender<bool>,
}

impl Wake for Waits {
    fn wake(self: Arc<Self>) {
        self.woken.send(()).unwrap();
        let answer = self.go.lock().unwrap().recv_timeout(LONG);
        self.answered.send(answer.is_ok()).unwrap();
    }
}

#[test]
fn a_waker_of_a_broken_pool_may_wait_for_another_pool() {
    let pool = Pool::builder().processes(1).method(StartMethod::Zygote).strict(true);
    let executor = ProcessPoolExecutor::builder().max_workers(1).method(StartMethod::Zygote);
    let (pool, executor) = (pool.build().unwrap(), executor.strict(true).build().unwrap());
    assert_eq!(pool.apply(|| 1, ()).unwrap(), 1);
    let go_on = Event::new().unwrap();
    let dies = |go_on: Event| -> () {
        go_on.wait_timeout(LONG);
        std::process::abort()
    };
    let first = executor.submit(dies, (go_on.clone(),)).unwrap();
    // Nobody will have begun it when the executor breaks.
    let mut second = executor.submit(|| (), ()).unwrap();
    let (woken, is_woken) = channel();
    let (answer, go) = channel();
    let (answered, was_answered) = channel();
    let waits = Arc::new(Waits { woken, go: Mutex::new(go), answered });
    let waker = Waker::from(waits);
    assert!(Pin::new(&mut second).poll(&mut Context::from_waker(&waker)).is_pending());
    go_on.set();
    is_woken.recv_timeout(LONG).unwrap();
    // Another supervisor is hired, and another's pool is seen to.
    let third = among_threads(1);
    assert_eq!(third.apply(|| 3, ()).unwrap(), 3);
    pool.close();
    pool.join_timeout(LONG).unwrap();
    answer.send(()).unwrap();
    assert!(was_answered.recv_timeout(LONG).unwrap(), "the waker held up what it waited for");
    assert!(first.take_timeout(LONG).is_err());
}

#[test]
fn who_joins_waits_for_callbacks_and_leaves_no_memory() {
    let used = || procession_posix::memory::arena().unwrap().used().unwrap();
    let mut before = 0;
    for round in 0..20 {
        let pool = among_threads(1);
        let (go, wait) = channel::<()>();
        let (begun, begins) = channel();
        let call_back = move |_: &u32| {
            begun.send(()).unwrap();
            wait.recv_timeout(LONG).unwrap();
        };
        let result = pool.task(|x: u32| x, (1,)).callback(call_back).apply_async().unwrap();
        begins.recv_timeout(LONG).unwrap();
        pool.close();
        until("it has ended", || pool.state() == PoolState::Ended);
        let early = pool.join_timeout(Duration::from_millis(1));
        assert!(matches!(early, Err(PoolError::TimedOut)), "{early:?}");
        go.send(()).unwrap();
        pool.join_timeout(LONG).unwrap();
        drop((pool, result));
        match round {
            // What is made once for all pools is there then.
            0 => before = used(),
            _ => assert_eq!(used(), before, "in round {round}"),
        }
    }
}

#[test]
fn no_descriptor_stays() {
    alone!(no_descriptor_stays);
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let cycle = |ends: usize| {
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.apply(|x: u32| x, (1,)).unwrap(), 1);
        match ends {
            0 => {
                pool.close();
                pool.join_timeout(LONG).unwrap();
            }
            1 => {
                pool.terminate();
                pool.join_timeout(LONG).unwrap();
            }
            _ => {}
        }
    };
    (0..6).for_each(|round| cycle(round % 3));
    let before = count();
    (0..30).for_each(|round| cycle(round % 3));
    // Warm processes that are ready have some.
    until("they are closed", || count() <= before + 4);
}

#[test]
fn in_a_fork_of_its_owner_a_pool_is_nobodys() {
    alone!(in_a_fork_of_its_owner_a_pool_is_nobodys);
    let pool = among_threads(1);
    assert_eq!(pool.apply(|x: u32| x, (1,)).unwrap(), 1);
    let open = Event::new().unwrap();
    let wait = |open: Event| assert!(open.wait_timeout(LONG));
    let going = pool.apply_async(wait, (open.clone(),)).unwrap();
    // SAFETY: the child asks for nothing but memory and its pid, and leaves at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // What goes on elsewhere never ends here, and nobody was given a time for it.
        let forked = |error: &PoolError| matches!(error, PoolError::Forked { .. });
        let refused = matches!(pool.apply_async(|x: u32| x, (1,)), Err(PoolError::Forked { .. }))
            && matches!(pool.join(), Err(PoolError::Forked { .. }))
            && matches!(going.get(), Err(TaskError::Broken(cause)) if forked(&cause));
        pool.close();
        pool.terminate();
        drop(pool);
        // SAFETY: ends the process without running what its parent registered.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was just made.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "it refused what it cannot do, and returned");
    open.set();
    going.get().unwrap();
    assert_eq!(pool.apply(|x: u32| x, (2,)).unwrap(), 2);
}

#[test]
fn in_a_fork_of_its_owner_a_pool_of_threads_is_nobodys() {
    alone!(in_a_fork_of_its_owner_a_pool_of_threads_is_nobodys);
    let pool = procession_posix::thread::Pool::new(1).unwrap();
    let (begun, until) = (channel(), channel::<()>());
    let stay = move || {
        begun.0.send(()).unwrap();
        until.1.recv().unwrap();
    };
    let running = pool.apply_async(stay, ()).unwrap();
    begun.1.recv_timeout(LONG).unwrap();
    // SAFETY: the child asks for nothing but memory and its pid, and leaves at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = [
            matches!(pool.apply_async(|x: u32| x, (1,)), Err(PoolError::Forked { .. })),
            pool.map(|x: u32| x, 0..3).is_err(),
            matches!(pool.resize(1..=2), Err(PoolError::Forked { .. })),
            matches!(pool.join(), Err(PoolError::Forked { .. })),
            pool.workers().is_empty(),
            pool.state() == PoolState::Ended,
            pool.statistics().running == 0,
            !running.cancel(),
            running.get_timeout(LONG).is_err(),
        ];
        let accepted = refused.iter().position(|refused| !refused);
        pool.close();
        pool.terminate();
        drop(pool);
        // SAFETY: ends the process without running what its parent registered.
        unsafe { libc::_exit(accepted.map_or(0, |at| at as i32 + 1)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was just made.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 0, "it refused what it cannot do, and returned");
    until.0.send(()).unwrap();
    running.get_timeout(LONG).unwrap();
    assert_eq!(pool.apply(|x: u32| x, (2,)).unwrap(), 2);
}
