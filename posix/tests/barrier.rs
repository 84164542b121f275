//! Barriers and things done once, between real processes that also die.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

use std::time::{Duration, Instant};

use procession_posix::process::{Child, Process, StartMethod};
use procession_posix::sync::{
    Barrier, BarrierError, Deadline, Event, Once, OnceCell, OnceError, Reason, WaitError,
};
use procession_posix::value::Value;

/// Nobody waits so long, unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

fn reason(answer: Result<usize, BarrierError<String>>) -> Option<Reason> {
    match answer {
        Ok(_) => None,
        Err(BarrierError::Broken(broken)) => Some(broken.reason),
        Err(error) => panic!("{error}"),
    }
}

/// Waits so often, and sleeps for good at the end, if it is told to.
fn visit(barrier: Barrier, times: u32, passed: Event, stays: bool) -> Vec<usize> {
    let indices = (0..times).map(|_| barrier.wait_timeout(LONG).unwrap()).collect();
    passed.set();
    if stays {
        std::thread::sleep(LONG * 2);
    }
    indices
}

fn start(barrier: &Barrier, times: u32, stays: bool) -> (Child<Vec<usize>>, Event) {
    let passed = Event::new().unwrap();
    let args = (barrier.clone(), times, passed.clone(), stays);
    (Process::new(visit, args).daemon(true).start().unwrap(), passed)
}

fn gather(barrier: &Barrier, count: usize) {
    let deadline = Instant::now() + LONG;
    while barrier.n_waiting() != count {
        assert!(Instant::now() < deadline, "{barrier:?}");
        std::thread::yield_now();
    }
}

#[test]
fn each_round_gives_each_index_once() {
    alone!(each_round_gives_each_index_once);
    const ROUNDS: u32 = 300;
    let barrier = Barrier::new(3).unwrap();
    let children: Vec<_> = (0..2).map(|_| start(&barrier, ROUNDS, false)).collect();
    let mut all = vec![(0..ROUNDS).map(|_| barrier.wait_timeout(LONG).unwrap()).collect()];
    all.extend(children.into_iter().map(|(child, _)| child.join().unwrap()));
    for round in 0..ROUNDS as usize {
        let mut indices: Vec<_> = all.iter().map(|indices: &Vec<usize>| indices[round]).collect();
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2]);
    }
}

#[test]
fn a_party_that_is_killed_while_it_waits_breaks_it() {
    alone!(a_party_that_is_killed_while_it_waits_breaks_it);
    let barrier = Barrier::new(3).unwrap();
    let (waiting, _) = start(&barrier, 1, false);
    gather(&barrier, 1);
    let (pid, begun) = (waiting.pid(), Instant::now());
    waiting.kill().unwrap();
    let Err(BarrierError::Broken(broken)) = barrier.wait_timeout(LONG) else { panic!() };
    assert_eq!(broken.reason, Reason::Died);
    assert!(begun.elapsed() < LONG / 2);
    assert!(broken.who.is_none_or(|who| who.pid == pid));
    assert!(barrier.broken());
    assert_eq!(reason(barrier.wait()), Some(Reason::Died));
    barrier.reset().unwrap();
    assert_eq!(barrier.n_waiting(), 0);
}

#[test]
fn a_party_that_is_killed_between_two_rounds_breaks_it() {
    alone!(a_party_that_is_killed_between_two_rounds_breaks_it);
    let barrier = Barrier::new(2).unwrap();
    let (child, passed) = start(&barrier, 1, true);
    barrier.wait_timeout(LONG).unwrap();
    assert!(passed.wait_timeout(LONG));
    std::thread::scope(|scope| {
        // Not found dead as long as it lives, however long that takes.
        let waiter = scope.spawn(|| barrier.wait_timeout(LONG));
        gather(&barrier, 1);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!barrier.broken());
        child.kill().unwrap();
        assert_eq!(reason(waiter.join().unwrap()), Some(Reason::Died));
    });
    assert!(child.join().is_err());
}

#[test]
fn who_ended_in_order_is_replaced_by_others() {
    alone!(who_ended_in_order_is_replaced_by_others);
    let barrier = Barrier::new(2).unwrap();
    for _ in 0..3 {
        let (child, _) = start(&barrier, 1, false);
        barrier.wait_timeout(LONG).unwrap();
        child.join().unwrap();
        // The others of the last round have ended, and more than the shortest look has passed.
        assert_eq!(barrier.try_wait(), Err(BarrierError::WouldBlock));
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(barrier.try_wait(), Err(BarrierError::WouldBlock));
    }
    let pairs: Vec<_> = (0..2).map(|_| start(&barrier, 5, false)).collect();
    for (child, _) in pairs {
        child.join().unwrap();
    }
    assert!(!barrier.broken());
}

#[test]
fn a_timeout_travels_with_the_handle_and_breaks_it_for_all() {
    fn wait(barrier: Barrier) -> bool {
        barrier.wait() == Err(BarrierError::TimedOut)
    }
    let barrier = Barrier::new(3).unwrap();
    let hasty = barrier.clone().with_timeout(Duration::from_millis(30));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| barrier.wait_timeout(LONG));
        gather(&barrier, 1);
        // Beside a thread.
        let child = Process::new(wait, (hasty,)).method(StartMethod::Zygote).start().unwrap();
        assert_eq!(reason(waiter.join().unwrap()), Some(Reason::TimedOut));
        assert!(child.join().unwrap());
    });
}

fn count(rounds: Value<u32>) {
    rounds.update(|rounds| rounds + 1);
}

#[test]
fn an_action_travels_with_the_handle() {
    fn fail() -> Result<(), String> {
        Err(format!("no luck in process {}", std::process::id()))
    }
    fn wait(barrier: Barrier) -> Result<usize, String> {
        barrier.wait_timeout(LONG).map_err(|error| error.to_string())
    }
    for method in [StartMethod::Zygote, StartMethod::Spawn] {
        let barrier = Barrier::new(2).unwrap().with_action(fail);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait_timeout(LONG));
            gather(&barrier, 1);
            let child = Process::new(wait, (barrier.clone(),)).method(method).start().unwrap();
            let pid = child.pid();
            assert_eq!(reason(waiter.join().unwrap()), Some(Reason::ActionFailed));
            let complaint = child.join().unwrap().unwrap_err();
            assert!(complaint.contains(&format!("no luck in process {pid}")), "{complaint}");
        });
    }
}

#[test]
fn a_process_that_dies_in_the_action_breaks_it() {
    fn die() -> Result<(), String> {
        std::process::abort()
    }
    fn wait(barrier: Barrier) {
        let _ = barrier.with_action(die).wait_timeout(LONG);
    }
    let barrier = Barrier::new(2).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| barrier.wait_timeout(LONG));
        gather(&barrier, 1);
        // Beside a thread.
        let child = Process::new(wait, (barrier.clone(),)).method(StartMethod::Zygote);
        let child = child.start().unwrap();
        assert_eq!(reason(waiter.join().unwrap()), Some(Reason::Died));
        assert!(child.join().is_err());
    });
}

#[test]
fn one_process_acts_and_all_see_it() {
    alone!(one_process_acts_and_all_see_it);
    fn wait(barrier: Barrier, rounds: Value<u32>) -> u32 {
        let act = || {
            count(rounds.clone());
            Ok::<_, String>(())
        };
        barrier.wait_with(Deadline::after(LONG), act).unwrap();
        rounds.get()
    }
    let (barrier, rounds) = (Barrier::new(3).unwrap(), Value::new(0u32).unwrap());
    let args = || (barrier.clone(), rounds.clone());
    let children: Vec<_> = (0..3).map(|_| Process::new(wait, args()).start().unwrap()).collect();
    for child in children {
        assert_eq!(child.join().unwrap(), 1);
    }
}

#[test]
fn who_is_killed_over_a_once_is_replaced() {
    alone!(who_is_killed_over_a_once_is_replaced);
    fn begin(once: Once, begun: Event) {
        let _ = once.call(|_| {
            begun.set();
            std::thread::sleep(LONG * 2);
        });
    }
    let (once, begun) = (Once::new().unwrap(), Event::new().unwrap());
    let child = Process::new(begin, (once.clone(), begun.clone())).daemon(true).start().unwrap();
    assert!(begun.wait_timeout(LONG));
    assert_eq!(once.runner().unwrap().pid, child.pid());
    assert_eq!(once.try_call(|_| ()), Err(OnceError::WouldBlock));
    assert_eq!(once.wait_timeout(Duration::from_millis(5)), Err(WaitError::TimedOut));
    child.kill().unwrap();
    let mut told = false;
    assert_eq!(once.call_until(Deadline::after(LONG), |again| told = again), Ok(true));
    assert!(told && once.is_done());
}

#[test]
fn a_cell_is_set_once_among_processes() {
    alone!(a_cell_is_set_once_among_processes);
    fn settle(cell: OnceCell<[u64; 4]>, mine: u64) -> [u64; 4] {
        *cell.get_or_init(|| [mine; 4]).unwrap()
    }
    let cell = OnceCell::new().unwrap();
    let children: Vec<_> =
        (1..5).map(|mine| Process::new(settle, (cell.clone(), mine)).start().unwrap()).collect();
    let value = *cell.wait_timeout(LONG).unwrap();
    assert!(value.iter().all(|part| *part == value[0]));
    for child in children {
        assert_eq!(child.join().unwrap(), value);
    }
    assert_eq!(cell.set([9; 4]), Err(OnceError::AlreadySet));
}
