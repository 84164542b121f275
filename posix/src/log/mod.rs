//! Logging of a tree of processes: what its processes say by `tracing`, in one place.
//!
//! With the feature `tracing`. One process asks for the log, mostly the first one, before it starts others:
//!
//! | what it says | by |
//! |---|---|
//! | lines on standard error, `[INFO/Process-1 4711] message field=value` | [`log_to_stderr`] |
//! | each [`Record`] to a function | [`log_to`] |
//! | each as an event to the subscriber that this process has | [`collect_logs`] |
//!
//! From then on each process that it starts, and those that they start, send their events there, by whatever way they are started: without
//! a subscriber of their own, since they are given one. So a process of the tree that sets a global subscriber itself gets an error from that, and
//! one that uses `with_default` keeps those events to itself. Spans stay in their process.
//!
//! ```
//! use procession_posix::log::{Record, log_to};
//! use procession_posix::process::Process;
//! use std::sync::mpsc;
//! use tracing::Level;
//!
//! fn work(n: u32) {
//!     tracing::info!(n, "working");
//! }
//!
//! let (lines, read) = mpsc::channel();
//! let log = log_to(Level::INFO, move |record: &Record| lines.send(record.to_string()).unwrap())?;
//! let child = Process::new(work, (7,)).name("worker").start()?;
//! child.join()?;
//! log.drain();
//! assert_eq!(read.recv()?, format!("[INFO/worker {}] working n=7", child.pid()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! What a process has logged before it is killed arrives: it is in shared memory when the call returns. Records of one
//! process arrive in their order. At the end of the collecting process, if that is [in
//! order](crate::process#the-end-of-the-starter), all that came until then is handled, after the last finalizer of its own.
//!
//! A process is never held up for long: if nobody takes the records, it waits 0.1 s for room, once, and from then on loses what does not fit. How
//! many were lost is counted, and said in the log.
//!
//! Cost: an event that is wanted takes 0.5 to 3 µs, the system call that asks for the process id, and one to wake the collector if it
//! sleeps; and 128 bytes of shared memory and those of its text until it has been collected. The queue has 1,024 places. The collector is a thread that sleeps, which does
//! not stand in the way of [`StartMethod::Fork`](crate::process::StartMethod::Fork).

mod collector;
mod forwarder;
mod record;
mod reissue;

use std::sync::Arc;

use tracing::Level;

pub(crate) use collector::Heritage;
pub use record::{Datum, Record};

use collector::{Collector, Sink};

/// The log of this process and those that it starts. See the [module](self).
#[derive(Clone, Debug)]
pub struct Log {
    collector: Arc<Collector>,
}

/// Writes what this process and those that it starts from now on log, up to `level`, to this process' standard error, each in a
/// line of its own. Events of this process are among it unless it has a global subscriber already.
///
/// # Errors
/// If there is no shared memory or no thread for it.
///
/// ```
/// use procession_posix::log::log_to_stderr;
/// use tracing::Level;
///
/// log_to_stderr(Level::INFO)?;
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub fn log_to_stderr(level: Level) -> crate::Result<Log> {
    begin(level, Sink::Stderr)
}

/// Calls `handler` with what this process and those that it starts from now on log, up to `level`. Events of this process are among
/// it unless it has a global subscriber already.
///
/// One call at a time, by the thread that collects, or one that logs in this process, or [drains](Log::drain). What it logs itself is
/// lost. It must neither start processes nor drain the log.
///
/// # Errors
/// As [`log_to_stderr`].
pub fn log_to(level: Level, handler: impl FnMut(&Record) + Send + 'static) -> crate::Result<Log> {
    begin(level, Sink::Handler(Box::new(handler)))
}

/// Gives what processes that are started from now on log, up to `level`, to the subscriber that the calling thread has now, as events with the same level,
/// target, file, line and fields, and with `process.name`, `process.pid` and `target`. Their time is that of their arrival.
///
/// # Errors
/// As [`log_to_stderr`].
pub fn collect_logs(level: Level) -> crate::Result<Log> {
    begin(level, Sink::Subscriber(tracing::dispatcher::get_default(Clone::clone)))
}

fn begin(level: Level, sink: Sink) -> crate::Result<Log> {
    let also_mine = !matches!(sink, Sink::Subscriber(_));
    let collector = Collector::begin(level, sink)?;
    forwarder::collect(collector.clone(), also_mine);
    Ok(Log { collector })
}

/// The log that this process collects; `None` if it does not.
#[must_use]
pub fn get_logger() -> Option<Log> {
    forwarder::collected().map(|collector| Log { collector })
}

impl Log {
    /// Handles at once what has come in. So what a process logged before it was joined has been handled when this returns.
    pub fn drain(&self) {
        self.collector.drain();
    }

    /// How important a record has to be.
    #[must_use]
    pub fn level(&self) -> Level {
        self.collector.level()
    }

    /// How many records of other processes were lost because the log was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.collector.lost()
    }
}
