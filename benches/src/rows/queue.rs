//! Small serde objects through a queue, from one process to another.

use std::hint::black_box;
use std::time::{Duration, Instant};

use procession::{Queue, memory};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::settle;
use crate::peers::ipc;
use crate::peers::python::Python;
use crate::rows::{CAPACITY, compare};
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "queue.object",
            peer: "ipc-channel",
            target: 0.04,
            note: "two processes on both sides",
            run: object,
        },
        Row {
            name: "queue.python",
            peer: "multiprocessing.Queue",
            target: 0.01,
            note: "two processes on both sides; the peer moves a tuple of the same values",
            run: python,
        },
        Row {
            name: "queue.get_many",
            peer: "ours, one by one",
            target: 0.3,
            note: "one process, which puts a queue full of numbers beforehand; ours on both sides",
            run: |plan| {
                two::pin_to_first()?;
                duel(plan, many, one_by_one)
            },
        },
        Row {
            name: "queue.get_many.two",
            peer: "ours, one by one",
            target: 0.3,
            note: "two processes, ours on both sides; one puts as the other gets: many at once, or one by one",
            run: |plan| duel(plan, |ops| streamed(ops, MANY), |ops| streamed(ops, 1)),
        },
    ]
}

/// What travels: three numbers and a word on the heap.
#[derive(Serialize, Deserialize)]
pub struct Job {
    id: u64,
    priority: u8,
    weight: f64,
    path: String,
}

/// The i-th job.
pub fn job(i: u64) -> Job {
    Job {
        id: i,
        priority: (i & 7) as u8,
        weight: i as f64 * 0.5,
        path: "crates/walk/src/lib.rs".into(),
    }
}

/// A number that depends on each part of it.
pub fn weigh(job: &Job) -> u64 {
    job.id + u64::from(job.priority) + job.weight as u64 + job.path.len() as u64
}

fn object(plan: Plan) -> Result<Duel> {
    duel(plan, ours, ipc::objects)
}

fn python(plan: Plan) -> Result<Duel> {
    let mut python = Python::queue()?;
    duel(plan, ours, |ops| python.run(ops))
}

fn ours(ops: u64) -> Result<Timing> {
    let queue = Queue::<Job>::bounded(CAPACITY)?;
    let finish = two::processes(vec![
        Box::new(|gate| {
            let mut sum = 0u64;
            settle(memory::arena()?.member())?;
            gate.start();
            for i in 0..ops {
                let job = job(i);
                sum = sum.wrapping_add(weigh(&job));
                queue.put(&job)?;
            }
            gate.stop();
            Ok(sum)
        }),
        Box::new(|gate| {
            let mut sum = 0u64;
            settle(memory::arena()?.member())?;
            gate.start();
            for _ in 0..ops {
                sum = sum.wrapping_add(weigh(&queue.get()?));
            }
            gate.stop();
            Ok(sum)
        }),
    ])?;
    compare(&finish.values)?;
    Ok(Timing { ops, took: finish.took })
}

/// So many objects one call gets.
const MANY: usize = 256;

fn many(ops: u64) -> Result<Timing> {
    emptied(ops, |queue| {
        let (mut count, mut sum) = (0, 0u64);
        while count < CAPACITY {
            let numbers = queue.get_many(MANY)?;
            count += numbers.len();
            sum = numbers.iter().fold(sum, |sum, number| sum.wrapping_add(*number));
        }
        Ok(sum)
    })
}

/// A stream of numbers from one process to another, so many at a time on both sides.
fn streamed(ops: u64, many: usize) -> Result<Timing> {
    let queue = Queue::<u64>::bounded(CAPACITY)?;
    let (queue, batches) = (&queue, ops.div_ceil(MANY as u64));
    let ops = batches * MANY as u64;
    let finish = two::processes(vec![
        Box::new(move |gate| {
            settle(memory::arena()?.member())?;
            gate.start();
            for batch in 0..batches {
                let numbers = batch * MANY as u64..(batch + 1) * MANY as u64;
                if many == 1 {
                    numbers.into_iter().try_for_each(|number| queue.put(&number))?;
                    continue;
                }
                if queue.put_many(numbers)? != MANY {
                    return Err("a queue that nobody closes takes all".into());
                }
            }
            gate.stop();
            Ok((0..ops).fold(0, u64::wrapping_add))
        }),
        Box::new(move |gate| {
            let (mut count, mut sum) = (0, 0u64);
            settle(memory::arena()?.member())?;
            gate.start();
            while count < ops {
                if many == 1 {
                    (count, sum) = (count + 1, sum.wrapping_add(queue.get()?));
                    continue;
                }
                let numbers = queue.get_many(many)?;
                count += numbers.len() as u64;
                sum = numbers.iter().fold(sum, |sum, number| sum.wrapping_add(*number));
            }
            gate.stop();
            Ok(sum)
        }),
    ])?;
    compare(&finish.values)?;
    Ok(Timing { ops, took: finish.took })
}

fn one_by_one(ops: u64) -> Result<Timing> {
    emptied(ops, |queue| {
        let mut sum = 0u64;
        for _ in 0..CAPACITY {
            sum = sum.wrapping_add(queue.get()?);
        }
        Ok(sum)
    })
}

/// Fills a queue and has it emptied, again and again, and says how long the emptying took.
fn emptied(ops: u64, empty: impl Fn(&Queue<u64>) -> Result<u64>) -> Result<Timing> {
    let queue = Queue::<u64>::bounded(CAPACITY)?;
    let rounds = ops.div_ceil(CAPACITY as u64);
    let mut took = Duration::ZERO;
    for round in 0..rounds {
        let numbers = (0..CAPACITY as u64).map(|i| i + round);
        for number in numbers.clone() {
            queue.put(&number)?;
        }
        let begin = Instant::now();
        let sum = black_box(empty(&queue)?);
        took += begin.elapsed();
        if sum != numbers.fold(0, u64::wrapping_add) {
            return Err("what was got is not what was put".into());
        }
    }
    Ok(Timing { ops: rounds * CAPACITY as u64, took })
}
