//! Worker processes that count: a pool, with a task for each piece.
//!
//! ```text
//!             pieces: a window at a time             counts of a piece
//!  parent ──────────────────────────────> pool (N) ───────────────────> parent
//!                                            │ lines, words, bytes: Value<u64>
//!                                            └──────────────────────────> progress bar
//! ```
//!
//! Any worker may be killed at any moment. To count a piece twice is as good as once, since its task has one answer, which is added once:
//! so the pool may run it again, as [`Retry::idempotent`] says. A piece that kills its worker in every attempt is counted by
//! the parent. The totals are the sum of the answers. The shared values are for the progress bar: a worker that is killed leaves what it
//! has counted in them.

use std::time::Duration;

use procession::pool::{PoolError, Retry, TaskError};
use procession::prelude::*;
use serde::{Deserialize, Serialize};

use super::count::{Counts, Packed, Totals, count_alone};
use super::files::Part;
use super::words::Locale;

/// How often the progress bar is moved at least.
const TICK: Duration = Duration::from_millis(50);
/// How often a piece is tried before the parent counts it itself.
const ATTEMPTS: u32 = 10;

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

/// Runs in a worker: counts a piece.
fn work(parts: Vec<Part>, progress: Progress, locale: Locale) -> Packed {
    let mut buffer = Vec::new();
    let mut counts = Counts::default();
    for part in &parts {
        progress.add(counts.add_part(part, locale, &mut buffer));
    }
    counts.pack()
}

/// The workers, and what they are reached by.
pub struct Crew {
    pub pool: Pool,
    progress: Progress,
    locale: Locale,
}

impl Crew {
    /// Starts `size` workers.
    pub fn start(size: usize, locale: Locale) -> procession::Result<Self> {
        let pool = Pool::builder()
            .processes(size)
            .retry(Retry::idempotent(ATTEMPTS))
            .quarantine(ATTEMPTS)
            .build()?;
        Ok(Self { pool, progress: Progress::new()?, locale })
    }

    /// What they have counted until now.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Counts all pieces. `watch` is called again and again meanwhile, with what is to be reported.
    pub fn count(
        &self,
        pieces: &[Vec<Part>],
        mut watch: impl FnMut(&Self, Option<&TaskError>),
    ) -> procession::Result<Counts> {
        let inputs = pieces.iter().map(|parts| (parts.clone(), self.progress.clone(), self.locale));
        // A piece is work enough for one way.
        let mut answers = self.pool.star_tasks(work, inputs).chunk_size(1).imap()?;
        let mut counts = Counts::default();
        let mut here = pieces.iter();
        loop {
            match answers.next_timeout(TICK) {
                Some(Ok(answer)) => {
                    here.next();
                    counts.add(answer);
                    watch(self, None);
                }
                Some(Err(TaskError::TimedOut)) => watch(self, None),
                Some(Err(error)) => {
                    counts.add(count_alone(here.next(), self.locale).pack());
                    watch(self, Some(&error));
                }
                None => break,
            }
        }
        // None, unless the pool broke.
        counts.add(count_alone(here, self.locale).pack());
        counts.left_out.sort();
        counts.left_out.dedup();
        Ok(counts)
    }
}

impl Drop for Crew {
    /// Sends the workers home.
    fn drop(&mut self) {
        self.pool.close();
        let sent: Result<(), PoolError> = self.pool.join_timeout(Duration::from_secs(10));
        // Those that are still there are ended with the pool.
        drop(sent);
    }
}
