//! What is left of pools whose owner was killed, and of those that lived long: nothing.

use std::fs::read_dir;
use std::time::Duration;

use procession::memory::arena;
use procession::pool::{Pool, TaskError};
use procession::process::active_children;
use procession::sync::Atomic;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, setpgid, wait,
};

use crate::charge::stay;
use crate::support::{Child, LONG, Word, eventually, sleep_forever};
use crate::{full, pids};

/// The children of all threads of this process.
fn children() -> Vec<u32> {
    let lists = read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let words = lists.flat_map(|list| {
        list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    });
    words.collect()
}

/// Waits until this process, which inherits all orphans, has no children but these.
fn no_children_but(known: &[u32]) {
    eventually("nobody is left", || {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        children().iter().all(|pid| known.contains(pid))
    });
}

/// Makes pools until it is killed: some work, some are full of tasks, some are busy, some are just being made.
fn own_pools(pools: Word) {
    let busy = Pool::new(2).unwrap();
    let _never: Vec<_> = (0..100).map(|_| busy.apply_async(sleeper, ()).unwrap()).collect();
    pools.count();
    let _idle = Pool::new(2).unwrap();
    pools.count();
    loop {
        let pool = Pool::new(2).unwrap();
        let large = pool.map(large, 0..50).unwrap();
        assert!(large.iter().all(|answer| answer.len() == LARGE));
        pools.count();
    }
}

fn sleeper() {
    sleep_forever()
}

const LARGE: usize = 100_000;

fn large(number: u8) -> Vec<u8> {
    vec![number; LARGE]
}

fn kill_owners(group: bool) {
    set_child_subreaper(Some(getpid())).unwrap();
    // Only one that has a name in the arena can free what others left there.
    let _mine = Atomic::new(0).unwrap();
    let region = arena().unwrap().region();
    let before = region.usage().bytes;
    let rounds = if full() { 200 } else { 12 };
    for round in 0..rounds {
        let known = children();
        let pools = Word::new();
        let owner = Child::start(|| {
            setpgid(None, None).unwrap();
            own_pools(pools)
        });
        let _ = setpgid(Some(owner.pid()), Some(owner.pid()));
        match round % 4 {
            // Somewhere in between.
            0 => std::thread::sleep(Duration::from_micros(300 * round % 20_000)),
            enough => eventually("the owner has made pools", || pools.get() >= enough),
        }
        if group {
            kill_process_group(owner.pid(), Signal::KILL).unwrap();
        }
        owner.kill();
        drop(owner);
        no_children_but(&known);
        arena().unwrap().sweep();
        // Not a board, not a message: nothing at all.
        assert_eq!(region.usage().bytes, before, "{:?}", region.usage());
    }
}

pub fn killed_owner() {
    kill_owners(false);
}

pub fn killed_group() {
    kill_owners(true);
}

/// What this process has of everything that can leak.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    descriptors: usize,
    threads: usize,
    children: usize,
}

impl Held {
    fn now() -> Held {
        // As at each start of a process: those that are gone are let go.
        let _ = active_children();
        let count = |path| read_dir(path).unwrap().count();
        let (descriptors, threads) = (count("/proc/self/fd"), count("/proc/self/task"));
        Held { descriptors, threads, children: children().len() }
    }

    /// The more of each: what one start or end holds for a moment counts too.
    fn max(self, other: Held) -> Held {
        Held {
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            children: self.children.max(other.children),
        }
    }

    /// No more of anything.
    fn is_within(self, most: Held) -> bool {
        self.descriptors <= most.descriptors
            && self.threads <= most.threads
            && self.children <= most.children
    }
}

/// KiB of this process's memory that lie in RAM.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Runs it so often: at the end no more of anything is held than was while it ran for the first times.
///
/// What nobody waits for is collected by whoever calls next: `settle` is such a call.
fn constant(times: u64, mut body: impl FnMut(u64), settle: impl Fn()) {
    let arena = arena().unwrap();
    let first = times.div_ceil(10);
    let mut held = Held::now();
    for number in 0..first {
        body(number);
        held = held.max(Held::now());
    }
    arena.sweep();
    let (used, memory) = (arena.region().usage(), resident());
    (first..times).for_each(&mut body);
    arena.sweep();
    let then_memory = resident();
    eventually(&format!("no more is held than {held:?}"), || Held::now().is_within(held));
    // The supervisor of a pool that has ended frees its board when nobody waits for it any more.
    eventually("no more memory is used than before", || {
        settle();
        let now = arena.region().usage();
        // A handle that was sent lives as long as the tree, and takes 16 bytes.
        now.bytes - (now.shared - used.shared) * 16 <= used.bytes
    });
    assert!(then_memory <= memory + 4096, "{memory} KiB became {then_memory}");
}

fn add(a: u64, b: u64) -> u64 {
    a + b
}

pub fn tasks() {
    let pool = Pool::new(2).unwrap();
    let times = if full() { 100_000 } else { 10_000 };
    let body = |number| match number % 8 {
        0 => assert_eq!(pool.map(large, 0..3).unwrap()[2], vec![2; LARGE]),
        1 => drop(pool.imap(large, 0..3).unwrap()),
        2 => drop(pool.apply_async(add, (number, 1)).unwrap()),
        3 => {
            let task = pool.apply_async(add, (number, 1)).unwrap();
            task.cancel();
        }
        _ => assert_eq!(pool.apply(add, (number, 1)).unwrap(), number + 1),
    };
    constant(times, body, || assert_eq!(pool.apply(add, (1, 1)).unwrap(), 2));
    let statistics = pool.statistics();
    assert_eq!((statistics.deaths, statistics.workers), (0, 2));
}

pub fn deaths() {
    let pool = Pool::new(2).unwrap();
    let times = if full() { 5000 } else { 300 };
    let body = |_| {
        let pid = Atomic::new(0).unwrap();
        let task = pool.apply_async(stay, (pid.clone(),)).unwrap();
        let victim = pid.wait_for_timeout(LONG, |pid| pid != 0).unwrap();
        rustix::process::kill_process(Pid::from_raw(victim as i32).unwrap(), Signal::KILL).unwrap();
        let answer = task.get_timeout(LONG);
        assert!(matches!(answer, Err(TaskError::WorkerDied { pid, .. }) if pid == victim));
        eventually("it is replaced", || {
            let workers = pids(&pool);
            workers.len() == 2 && !workers.contains(&victim)
        });
    };
    constant(times, body, || ());
}

pub fn pools() {
    let times = if full() { 10_000 } else { 1000 };
    let body = |number| {
        let pool = Pool::new(2).unwrap();
        match number % 4 {
            0 => {
                assert_eq!(pool.apply(add, (number, 1)).unwrap(), number + 1);
                pool.close();
                pool.join_timeout(LONG).unwrap();
            }
            1 => {
                let task = pool.apply_async(stay, (Atomic::new(0).unwrap(),)).unwrap();
                pool.terminate();
                pool.join_timeout(LONG).unwrap();
                assert!(matches!(task.get_timeout(LONG), Err(TaskError::Terminated)));
            }
            2 => assert_eq!(pool.map(large, 0..4).unwrap().len(), 4),
            _ => {}
        }
    };
    constant(times, body, || ());
}
