//! Worker processes that count, each what it takes from a queue.
//!
//! ```text
//!            jobs: Queue<Job>                    answers: Queue<Answer>
//!  parent ────────────────────> workers (N) ──────────────────────────> parent
//!                                  │ lines, words, bytes: Value<u64>
//!                                  └───────────────────────────────────> progress bar
//! ```
//!
//! A job is open from the moment it is put until its answer is here. Any worker may be killed at any moment. Nobody knows then which
//! job it had, so all open jobs are put again, and a new worker is started. An answer to a job that is no longer open is dropped: what
//! is counted twice is added once. The totals are the sum of the answers. The shared values are
//! for the progress bar: a worker that is killed between counting and answering leaves its part in them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use procession::prelude::*;
use procession::process::{Child, StartError};
use serde::{Deserialize, Serialize};

use super::count::{Counts, Packed, Totals, count_alone};
use super::files::Part;
use super::words::Locale;

/// How often the parent looks whether all workers live, and moves the progress bar.
const TICK: Duration = Duration::from_millis(50);
/// After so many deaths for each worker the parent counts the rest itself: something here kills them all.
const LIVES: usize = 10;

/// What a worker is to count.
#[derive(Serialize, Deserialize)]
struct Job {
    id: usize,
    parts: Vec<Part>,
}

/// What it has counted.
#[derive(Serialize, Deserialize)]
struct Answer {
    id: usize,
    counts: Packed,
}

/// What was counted until now, by all workers together.
#[derive(Clone, Serialize, Deserialize)]
pub struct Progress {
    lines: Value<u64>,
    words: Value<u64>,
    bytes: Value<u64>,
}

impl Progress {
    fn new() -> procession::Result<Self> {
        Ok(Self { lines: Value::new(0)?, words: Value::new(0)?, bytes: Value::new(0)? })
    }

    fn add(&self, totals: Totals) {
        self.lines.update(|lines| lines + totals.lines);
        self.words.update(|words| words + totals.words);
        self.bytes.update(|bytes| bytes + totals.bytes);
    }

    /// The counters as they are now.
    pub fn totals(&self) -> Totals {
        Totals { lines: self.lines.get(), words: self.words.get(), bytes: self.bytes.get() }
    }
}

/// Runs in each worker: counts one job after the other, until a queue is closed.
fn work(
    jobs: Queue<Job>,
    answers: Queue<Answer>,
    progress: Progress,
    locale: Locale,
) -> procession::Result<()> {
    let mut buffer = Vec::new();
    for job in &jobs {
        let Job { id, parts } = job?;
        let mut counts = Counts::default();
        for part in &parts {
            progress.add(counts.add_part(part, locale, &mut buffer));
        }
        match answers.put(&Answer { id, counts: counts.pack() }) {
            Ok(()) => {}
            Err(PutError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The workers, and what they are reached by.
pub struct Crew {
    pub workers: Vec<Child<procession::Result<()>>>,
    jobs: Queue<Job>,
    answers: Queue<Answer>,
    progress: Progress,
    locale: Locale,
    lives: usize,
}

impl Crew {
    /// Starts `size` workers. Should no process start, the parent will count.
    pub fn start(size: usize, locale: Locale) -> procession::Result<Self> {
        let mut crew = Self {
            workers: Vec::new(),
            // So many that no worker waits while the parent adds.
            jobs: Queue::bounded(2 * size)?,
            answers: Queue::bounded(2 * size)?,
            progress: Progress::new()?,
            locale,
            lives: LIVES * size,
        };
        for _ in 0..size {
            crew.hire();
        }
        Ok(crew)
    }

    /// What they have counted until now.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Starts one worker. If that fails, it is reported, and there is one worker less.
    fn hire(&mut self) {
        let args = (self.jobs.clone(), self.answers.clone(), self.progress.clone(), self.locale);
        // A daemon ends with its parent, even if that is killed.
        let started: Result<_, StartError> = Process::new(work, args).daemon(true).start();
        match started {
            Ok(worker) => self.workers.push(worker),
            Err(error) => eprintln!("a worker less: {error}"),
        }
    }

    /// Counts all pieces. `watch` is called again and again meanwhile, with the deaths to be reported.
    pub fn count(
        &mut self,
        pieces: &[Vec<Part>],
        mut watch: impl FnMut(&Self, &[String]),
    ) -> procession::Result<Counts> {
        let mut open: BTreeMap<usize, Job> =
            pieces.iter().cloned().enumerate().map(|(id, parts)| (id, Job { id, parts })).collect();
        let mut to_put: VecDeque<usize> = open.keys().copied().collect();
        let mut counts = Counts::default();
        while !open.is_empty() {
            let deaths = self.replace_the_dead();
            if !deaths.is_empty() {
                to_put = open.keys().copied().collect();
            }
            if self.workers.is_empty() {
                let rest = count_alone(open.values().map(|job| &job.parts), self.locale);
                counts.add(rest.pack());
                break;
            }
            while let Some(job) = to_put.front() {
                match open.get(job).map_or(Ok(()), |job| self.jobs.put_nowait(job)) {
                    Ok(()) => to_put.pop_front(),
                    Err(PutError::Full | PutError::Busy) => break,
                    Err(error) => return Err(error.into()),
                };
            }
            match self.answers.get_timeout(TICK) {
                Ok(answer) => {
                    if open.remove(&answer.id).is_some() {
                        counts.add(answer.counts);
                    }
                }
                Err(GetError::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
            watch(self, &deaths);
        }
        counts.left_out.sort();
        counts.left_out.dedup();
        Ok(counts)
    }

    /// Starts a new worker for each that has died, and says how they died.
    fn replace_the_dead(&mut self) -> Vec<String> {
        let (living, dead): (Vec<_>, _) =
            std::mem::take(&mut self.workers).into_iter().partition(Child::is_alive);
        self.workers = living;
        let mut deaths = Vec::new();
        for worker in dead {
            let why = match worker.join() {
                Ok(Ok(())) => "it has left".into(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            deaths.push(why);
            if self.lives > 0 {
                self.lives -= 1;
                self.hire();
            }
        }
        deaths
    }
}

impl Drop for Crew {
    /// Sends the workers home.
    fn drop(&mut self) {
        self.jobs.close();
        self.answers.close();
        for worker in &self.workers {
            if worker.join_timeout(Duration::from_secs(10)).is_err() {
                let _ = worker.kill();
            }
        }
    }
}
