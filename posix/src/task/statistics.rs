//! What a crew has done so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Outcome;

/// What a pool or an executor has done so far. A map counts by its items. Over threads each result is counted before anybody gets it;
/// over processes another thread may be just about to count what it has collected.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Tasks that were handed over and that no worker has begun.
    pub queued: u64,
    /// Tasks, or chunks of a map, that a worker has begun and not finished.
    pub running: u64,
    /// Tasks that ended with their function's result.
    pub done: u64,
    /// Tasks that ended with an error, cancelled ones included.
    pub failed: u64,
    /// How often a task was run again.
    pub retried: u64,
    /// Workers at present.
    pub workers: u64,
    /// Workers that died though nobody had asked them to leave.
    pub deaths: u64,
    /// How long it took from handing over to the result.
    pub latency: Latency,
}

/// How long things took, counted by powers of two of nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    /// At `i`: from `1 << i` nanoseconds to twice that; at 0 also 0.
    counts: [u64; BUCKETS],
}

/// The last one holds all from about 9 minutes on.
const BUCKETS: usize = 40;

impl Default for Latency {
    fn default() -> Self {
        Latency { counts: [0; BUCKETS] }
    }
}

impl Latency {
    /// How many were measured.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time within which this share of all was done, from 0.0 to 1.0: `percentile(0.5)` is the median. Rounded up to
    /// a power of two of nanoseconds. `None` if nothing was measured.
    ///
    /// ```
    /// # let statistics = procession_posix::pool::Statistics::default();
    /// assert_eq!(statistics.latency.percentile(0.99), None);
    /// ```
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        let wanted = ((all as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, all);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_nanos(2 << at))
    }
}

/// The counters behind, for crews. Each is right by itself; together they are of about the same moment.
#[derive(Debug)]
pub(crate) struct Counters {
    done: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    deaths: AtomicU64,
    latency: [AtomicU64; BUCKETS],
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            deaths: AtomicU64::new(0),
            latency: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

// All orderings are relaxed: the numbers stand for themselves, nobody concludes from them what is in other memory.
impl Counters {
    /// So many tasks came to an end, `nanos` after they were handed over (all of a chunk together).
    pub(crate) fn ended(&self, done: u64, failed: u64, nanos: u64) {
        if done > 0 {
            self.done.fetch_add(done, Ordering::Relaxed);
        }
        if failed > 0 {
            self.failed.fetch_add(failed, Ordering::Relaxed);
        }
        let bucket = (nanos | 1).ilog2() as usize;
        self.latency[bucket.min(BUCKETS - 1)].fetch_add(done + failed, Ordering::Relaxed);
    }

    /// One task came to an end.
    pub(crate) fn ended_one<R>(&self, outcome: &Outcome<R>, nanos: u64) {
        self.ended(u64::from(outcome.is_ok()), u64::from(outcome.is_err()), nanos);
    }

    /// A task is run again.
    pub(crate) fn retried(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker died.
    pub(crate) fn died(&self) {
        self.deaths.fetch_add(1, Ordering::Relaxed);
    }

    /// The numbers; what only the crew knows is 0.
    pub(crate) fn read(&self) -> Statistics {
        let mut statistics = Statistics {
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            deaths: self.deaths.load(Ordering::Relaxed),
            ..Statistics::default()
        };
        for (count, counter) in statistics.latency.counts.iter_mut().zip(&self.latency) {
            *count = counter.load(Ordering::Relaxed);
        }
        statistics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_counted() {
        let counters = Counters::default();
        counters.ended(98, 0, 900);
        counters.ended(1, 1, 70_000);
        counters.ended_one::<()>(&Ok(()), u64::MAX);
        counters.retried();
        counters.died();
        let read = counters.read();
        assert_eq!((read.done, read.failed, read.retried, read.deaths), (100, 1, 1, 1));
        assert_eq!(read.latency.count(), 101);
        assert_eq!(read.latency.percentile(0.0), Some(Duration::from_nanos(1024)));
        assert_eq!(read.latency.percentile(0.5), Some(Duration::from_nanos(1024)));
        assert_eq!(read.latency.percentile(0.98), Some(Duration::from_nanos(131_072)));
        assert_eq!(read.latency.percentile(1.0), Some(Duration::from_nanos(2 << 39)));
    }
}
