//! Pools and executors of two workers: what a task costs, and what it costs to have them.
//!
//! Nothing is pinned, on neither side: a pool has more processes and threads than this machine has CPUs, and where they
//! run is the kernel's to say.

use std::hint::black_box;
use std::time::{Duration, Instant};

use procession::futures::ProcessPoolExecutor;
use procession::pool::{Pool, TaskError};
use procession::sync::Atomic;
use rayon::prelude::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_bytes::ByteBuf;

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, compare_values, duel};
use crate::peers::python::Python;
use crate::rows::flow::{LARGE, check, stamp};

/// How many workers each pool has.
const WORKERS: usize = 2;

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "pool.map.chunk1",
            peer: "multiprocessing.Pool.map, chunksize=1",
            target: 0.01,
            note: "each number is a task of its own",
            run: |plan| chunk1(plan, Python::pool("chunk1")?),
        },
        Row {
            name: "pool.map.chunk1.rayon",
            peer: "rayon, with_max_len(1), two threads",
            target: 6.0,
            note: "ours moves each number to another process and its square back, the peer moves neither",
            run: rayon,
        },
        Row {
            name: "pool.map",
            peer: "multiprocessing.Pool.map",
            target: 0.05,
            note: "both choose themselves how many numbers make a task",
            run: map,
        },
        Row {
            name: "pool.loky",
            peer: "loky's reusable executor, map",
            target: 0.02,
            note: "each number is a task of its own",
            run: |plan| chunk1(plan, Python::loky()?),
        },
        Row {
            name: "pool.apply",
            peer: "multiprocessing.Pool.apply",
            target: 0.02,
            note: "one task at a time",
            run: apply,
        },
        Row {
            name: "executor.submit",
            peer: "concurrent.futures.ProcessPoolExecutor, submit and result",
            target: 0.02,
            note: "one task at a time",
            run: submit,
        },
        Row {
            name: "pool.1m",
            peer: "multiprocessing.Pool.apply",
            target: 0.2,
            note: "1 MiB to the worker, and 1 MiB back",
            run: large,
        },
        Row {
            name: "pool.start",
            peer: "multiprocessing.Pool by fork",
            target: 0.1,
            note: "two workers started; closed; joined",
            run: start,
        },
        Row {
            name: "pool.death",
            peer: "a millisecond",
            target: 5.0,
            note: "no peer: from a worker's SIGKILL until its task's error is in the caller's hand, the slowest of five",
            run: death,
        },
        Row {
            name: "pool.two.100us",
            peer: "ours with one worker",
            target: 1.0 / 1.9,
            note: "tasks of 100 µs, each by itself; the target says that two are 1.9 times as fast",
            run: |plan| two_cores(plan, Duration::from_micros(100)),
        },
        Row {
            name: "pool.two.10us",
            peer: "ours with one worker",
            target: 1.0 / 1.5,
            note: "tasks of 10 µs, each by itself; the target says that two are 1.5 times as fast",
            run: |plan| two_cores(plan, Duration::from_micros(10)),
        },
    ]
}

fn square(number: u64) -> u64 {
    number * number
}

/// That these are the squares, in order.
fn squares(results: &[u64], count: u64) -> Result<()> {
    if results.len() as u64 == count && results.iter().copied().eq((0..count).map(square)) {
        Ok(())
    } else {
        Err("a pool answered something else".into())
    }
}

/// Runs and times what maps the numbers below `count`, and looks at what came out.
fn mapped(count: u64, run: impl FnOnce(u64) -> Result<Vec<u64>>) -> Result<Timing> {
    let start = Instant::now();
    let results = run(count)?;
    let took = start.elapsed();
    squares(&results, count)?;
    Ok(Timing { ops: count, took })
}

/// Runs and times a call for each of the numbers below `count`.
fn one_by_one(count: u64, run: impl Fn(u64) -> Result<u64>) -> Result<Timing> {
    let start = Instant::now();
    for number in 0..count {
        if run(number)? != square(number) {
            return Err("a pool answered something else".into());
        }
    }
    Ok(Timing { ops: count, took: start.elapsed() })
}

fn map_by_ones(pool: &Pool, count: u64) -> Result<Timing> {
    mapped(count, |count| Ok(pool.tasks(square, 0..count).chunk_size(1).map()?))
}

fn chunk1(plan: Plan, mut python: Python) -> Result<Duel> {
    let pool = Pool::new(WORKERS)?;
    duel(plan.longer(), |ops| map_by_ones(&pool, ops), |ops| python.run(ops))
}

fn rayon(plan: Plan) -> Result<Duel> {
    let pool = Pool::new(WORKERS)?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build()?;
    let peer = |ops| {
        mapped(ops, |count| {
            let numbers = (0..count as usize).into_par_iter().with_max_len(1);
            Ok(threads.install(|| numbers.map(|number| square(black_box(number as u64))).collect()))
        })
    };
    duel(plan.longer(), |ops| map_by_ones(&pool, ops), peer)
}

fn map(plan: Plan) -> Result<Duel> {
    let pool = Pool::new(WORKERS)?;
    let mut python = Python::pool("map")?;
    let ours = |ops| mapped(ops, |count| Ok(pool.map(square, 0..count)?));
    duel(plan.longer(), ours, |ops| python.run(ops))
}

fn apply(plan: Plan) -> Result<Duel> {
    let pool = Pool::new(WORKERS)?;
    let mut python = Python::pool("apply")?;
    let ours = |ops| one_by_one(ops, |number| Ok(pool.apply(square, (number,))?));
    duel(plan.longer(), ours, |ops| python.run(ops))
}

fn submit(plan: Plan) -> Result<Duel> {
    let executor = ProcessPoolExecutor::builder().max_workers(WORKERS).build()?;
    let mut python = Python::pool("submit")?;
    let ours = |ops| one_by_one(ops, |number| Ok(executor.submit(square, (number,))?.result()?));
    duel(plan.longer(), ours, |ops| python.run(ops))
}

fn echo(data: ByteBuf) -> ByteBuf {
    data
}

fn large(plan: Plan) -> Result<Duel> {
    let pool = Pool::new(WORKERS)?;
    let mut python = Python::pool("large")?;
    let mut message = ByteBuf::from(vec![1; LARGE]);
    let ours = |ops| {
        let start = Instant::now();
        for number in 0..ops {
            stamp(&mut message, number);
            message = pool.apply(echo, (std::mem::take(&mut message),))?;
            check(&message, number)?;
        }
        Ok(Timing { ops, took: start.elapsed() })
    };
    duel(plan.longer(), ours, |ops| python.run(ops))
}

fn start(plan: Plan) -> Result<Duel> {
    let mut python = Python::pool("start")?;
    let ours = |ops| {
        let start = Instant::now();
        for _ in 0..ops {
            let pool = Pool::new(WORKERS)?;
            if pool.workers().len() != WORKERS {
                return Err("a pool that was made has its workers".into());
            }
            pool.close();
            pool.join()?;
        }
        Ok(Timing { ops, took: start.elapsed() })
    };
    duel(plan.longer(), ours, |ops| python.run(ops))
}

/// Says who it is, and does nothing more.
fn stay(pid: Atomic<u32>) {
    pid.store(std::process::id(), std::sync::atomic::Ordering::SeqCst);
    pid.notify_all();
    loop {
        std::thread::park();
    }
}

fn death(plan: Plan) -> Result<Duel> {
    const LONG: Duration = Duration::from_secs(10);
    let pool = Pool::new(WORKERS)?;
    let once = || -> Result<Duration> {
        let pid = Atomic::new(0u32)?;
        let task = pool.apply_async(stay, (pid.clone(),))?;
        let victim = pid.wait_for_timeout(LONG, |pid| pid != 0)?;
        let victim = Pid::from_raw(victim as i32).ok_or("a worker's pid is 0")?;
        let start = Instant::now();
        kill_process(victim, Signal::KILL)?;
        let answer = task.get_timeout(LONG);
        let took = start.elapsed();
        match answer {
            Err(TaskError::WorkerDied { .. }) => Ok(took),
            answer => Err(format!("{answer:?} of a task whose worker was killed").into()),
        }
    };
    let slowest = || {
        let all = (0..5).map(|_| once()).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().max().unwrap_or_default().as_nanos() as f64)
    };
    compare_values(plan.rare(), slowest, || Ok(Duration::from_millis(1).as_nanos() as f64))
}

/// Work that takes as long as it is, wherever it runs: so many steps, each after the other.
fn work(steps: u64) -> u64 {
    (0..steps).fold(steps, |sum, step| black_box(sum.wrapping_mul(6364136223846793005) ^ step))
}

/// How many steps last so long.
fn steps(time: Duration) -> u64 {
    const STEPS: u64 = 1_000_000;
    let fastest = (0..20).map(|_| {
        let start = Instant::now();
        black_box(work(black_box(STEPS)));
        start.elapsed()
    });
    let fastest = fastest.min().unwrap_or_default().max(Duration::from_nanos(1));
    (STEPS as f64 * time.as_secs_f64() / fastest.as_secs_f64()) as u64
}

fn two_cores(plan: Plan, time: Duration) -> Result<Duel> {
    let steps = steps(time);
    let expected = work(steps);
    let side = |workers| -> Result<_> {
        let pool = Pool::new(workers)?;
        Ok(move |ops: u64| {
            let start = Instant::now();
            let tasks = std::iter::repeat_n(steps, ops as usize);
            let results = pool.tasks(work, tasks).chunk_size(1).map()?;
            let took = start.elapsed();
            if results.len() as u64 != ops || results.iter().any(|&result| result != expected) {
                return Err("a pool answered something else".into());
            }
            Ok(Timing { ops, took })
        })
    };
    duel(plan.longer(), side(WORKERS)?, side(1)?)
}
