//! Does the cost of a queue grow with what else there is? Measured, and drawn.
//!
//! ```text
//! cargo run --release --example growth -- docs/growth.svg
//! ```
//!
//! - With 1 to 64 processes attached: they sleep, or all of them use the same queue.
//! - With 1 to 10,000 queues: one of them is used, or all in turn.
//! - With 1 object in a queue up to a full one.
//!
//! One step is a put and a get. Each figure is that of the round that was disturbed least.

mod chart;

use std::error::Error;
use std::time::{Duration, Instant};

use chart::{Chart, Line, Panel};
use procession::prelude::*;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Steps in a round, of all processes together.
const STEPS: u32 = 64_000;
const ROUNDS: usize = 50;
/// How long a process that has ended its part is waited for.
const LONG: Duration = Duration::from_secs(60);

fn main() -> Outcome {
    procession::init();
    let panels = [processes()?, queues()?, fill()?];
    for panel in &panels {
        println!("{}, ns", panel.title);
        for line in &panel.lines {
            println!("  {}", line.name);
            for (at, value) in &line.points {
                println!("    {at:>8} {value:>8.1}");
            }
        }
    }
    if let Some(file) = std::env::args().nth(1) {
        let title = "A put and a get, in nanoseconds";
        std::fs::write(&file, Chart { title, panels: &panels }.to_string())?;
        println!("drawn in {file}");
    }
    Ok(())
}

/// The time of a step in the best of the rounds.
fn best(mut round: impl FnMut() -> Outcome) -> Outcome<f64> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        round()?;
        best = best.min(begin.elapsed());
    }
    Ok(best.as_nanos() as f64 / f64::from(STEPS))
}

/// What a step takes, going around these queues.
fn step(queues: &[Queue<u64>]) -> Outcome<f64> {
    best(|| {
        for (number, queue) in (0..STEPS).zip(queues.iter().cycle()) {
            queue.put_nowait(&u64::from(number))?;
            std::hint::black_box(queue.get_nowait()?);
        }
        Ok(())
    })
}

/// Is there, and nothing more.
fn sleep(stop: Event) {
    stop.wait();
}

/// Takes as many steps as it is told to, again and again.
fn work(queue: Queue<u64>, jobs: Queue<u32>, done: Semaphore) -> procession::Result<()> {
    for steps in &jobs {
        for number in 0..steps? {
            queue.put(&u64::from(number))?;
            queue.get()?;
        }
        done.release()?;
    }
    Ok(())
}

fn processes() -> Outcome<Panel> {
    let (queue, stop) = (Queue::bounded(128)?, Event::new()?);
    let (mut asleep, mut at_work) = (Vec::new(), Vec::new());
    let mut children = Vec::new();
    for count in [1u32, 2, 4, 8, 16, 32, 64] {
        // This process is one of them.
        while children.len() + 1 < count as usize {
            children.push(Process::new(sleep, (stop.clone(),)).start()?);
        }
        asleep.push((f64::from(count), step(std::slice::from_ref(&queue))?));
    }
    stop.set();
    for child in children {
        child.join_timeout(LONG)?;
    }
    let (jobs, done) = (Queue::bounded(64)?, Semaphore::new(0)?);
    let mut children = Vec::new();
    for count in [1u32, 2, 4, 8, 16, 32, 64] {
        while children.len() < count as usize {
            let parts = (queue.clone(), jobs.clone(), done.clone());
            children.push(Process::new(work, parts).start()?);
        }
        let round = || {
            for _ in 0..count {
                jobs.put(&(STEPS / count))?;
            }
            for _ in 0..count {
                done.take_timeout(LONG)?;
            }
            Ok(())
        };
        at_work.push((f64::from(count), best(round)?));
    }
    jobs.close();
    for child in children {
        child.join_timeout(LONG)??;
    }
    Ok(Panel {
        title: "attached processes",
        lines: vec![
            Line { name: "the others asleep", points: asleep },
            Line { name: "all at the same queue", points: at_work },
        ],
    })
}

fn queues() -> Outcome<Panel> {
    let mut queues = Vec::new();
    let (mut one, mut all) = (Vec::new(), Vec::new());
    for count in [1u32, 10, 100, 1000, 10_000] {
        while queues.len() < count as usize {
            queues.push(Queue::bounded(4)?);
        }
        one.push((f64::from(count), step(&queues[..1])?));
        all.push((f64::from(count), step(&queues)?));
    }
    Ok(Panel {
        title: "queues",
        lines: vec![
            Line { name: "one is used", points: one },
            Line { name: "all are, in turn", points: all },
        ],
    })
}

fn fill() -> Outcome<Panel> {
    const CAPACITY: u32 = 4096;
    let queue = Queue::bounded(CAPACITY as usize)?;
    let mut points = Vec::new();
    let mut there = 0;
    for count in [1u32, 4, 16, 64, 256, 1024, CAPACITY] {
        // During a step there are so many.
        while there + 1 < count {
            queue.put_nowait(&0)?;
            there += 1;
        }
        points.push((f64::from(count), step(std::slice::from_ref(&queue))?));
    }
    Ok(Panel { title: "objects in a queue of 4096", lines: vec![Line { name: "a queue", points }] })
}
