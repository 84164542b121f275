//! The process that the records of a tree go to, and the way there.
//!
//! ```text
//! who logs    a place in the queue? put it there. None within the patience? count it as lost, and have no patience any more
//!             until there was a place again
//! collector   asleep on the queue and on `over`; awake: take all there is and hand it to the sink, under the sink's lock; then say
//!             how many more were lost
//! the end     `over` is set; the last finalizer takes all there is
//! ```
//!
//! Who logs never waits for who collects, but for the patience. A record is taken and handled under one lock, so who finds the queue
//! empty under the lock knows that all before has been handled.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use procession_core::sys::Deadline;
use procession_core::wait::wait_any;
use tracing::{Dispatch, Level};

use super::record::{Record, level};
use crate::attendant::{Duty, hire};
use crate::channel::{GetError, PutError, Queue, QueueOptions};
use crate::memory::DecodeError;
use crate::process::{current_process, finalizer};
use crate::sync::{Atomic, Event};
use crate::wait::sealed::Source;

/// So many records can wait to be collected.
const PLACES: usize = 1024;
/// A record takes at most so many bytes.
const LARGEST: u64 = 1 << 20;
/// How long who logs waits for a place.
const PATIENCE: Duration = Duration::from_millis(100);

/// The way to the collector: what each process tells those that it starts.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Heritage {
    queue: Queue<Record>,
    lost: Atomic<u64>,
    level: u8,
}

impl fmt::Debug for Heritage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heritage").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Heritage {
    /// The one of this process, for one that it starts; encoded, since who carries the letter cannot use the handles in it.
    pub(crate) fn now() -> Option<Vec<u8>> {
        super::forwarder::heritage().and_then(|way| postcard::to_stdvec(&way).ok())
    }

    /// From now on this process sends there.
    pub(crate) fn take_on(encoded: &[u8]) -> Result<(), DecodeError> {
        super::forwarder::forward(crate::memory::decode(encoded)?);
        Ok(())
    }

    pub(super) fn level(&self) -> Level {
        level::from_number(self.level).unwrap_or(Level::ERROR)
    }

    /// Sends it, or counts it as lost.
    pub(super) fn send(&self, record: &Record) {
        /// The log was full the last time.
        static FULL: AtomicBool = AtomicBool::new(false);
        // Relaxed, here and below: nothing goes along with it.
        let patience = if FULL.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
        let sent = self.queue.put_timeout(record, patience);
        let full = matches!(sent, Err(PutError::Full | PutError::TimedOut | PutError::Memory(_)));
        FULL.store(full, Ordering::Relaxed);
        if sent.is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What becomes of a record.
pub(super) enum Sink {
    Stderr,
    Handler(Box<dyn FnMut(&Record) + Send>),
    Subscriber(Dispatch),
}

impl Sink {
    fn handle(&mut self, record: &Record) {
        match self {
            Sink::Stderr => {
                // In one piece, so that lines of several processes do not mix. Where standard error is closed there is nobody to tell.
                let line = format!("{record}\n");
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            Sink::Handler(handler) => handler(record),
            Sink::Subscriber(subscriber) => super::reissue::reissue(record, subscriber),
        }
    }
}

pub(super) struct Collector {
    way: Heritage,
    /// Set when this is dropped.
    over: Event,
    outlet: Mutex<Outlet>,
    /// A forked process does not collect.
    pid: u32,
}

struct Outlet {
    sink: Sink,
    /// How many lost ones were spoken of.
    told: u64,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("level", &self.level()).finish_non_exhaustive()
    }
}

/// The thread: it keeps the way, and the collector only while it works.
struct Collecting {
    way: Heritage,
    over: Event,
    collector: Weak<Collector>,
}

impl Duty for Collecting {
    fn sleep(&self) {
        let me = self.way.queue.me();
        wait_any(me, Deadline::NEVER, &[self.way.queue.source(), self.over.source()]);
    }

    fn work(&mut self) -> bool {
        let Some(collector) = self.collector.upgrade() else { return false };
        collector.drain()
    }
}

impl Collector {
    pub(super) fn begin(level: Level, sink: Sink) -> crate::Result<Arc<Collector>> {
        let queue = QueueOptions::bounded(PLACES).largest_object(LARGEST).create()?;
        let way = Heritage { queue, lost: Atomic::new(0)?, level: level::number(&level) };
        let over = Event::new()?;
        let outlet = Mutex::new(Outlet { sink, told: 0 });
        let pid = std::process::id();
        let new = Arc::new(Collector { way: way.clone(), over: over.clone(), outlet, pid });
        let collector = Arc::downgrade(&new);
        hire("log", Collecting { way, over, collector: collector.clone() })?;
        // The very last: others may still log.
        finalizer(i32::MIN, move || {
            if let Some(collector) = collector.upgrade() {
                collector.drain();
            }
        });
        Ok(new)
    }

    pub(super) fn way(&self) -> &Heritage {
        &self.way
    }

    pub(super) fn is_here(&self) -> bool {
        self.pid == std::process::id()
    }

    pub(super) fn level(&self) -> Level {
        self.way.level()
    }

    pub(super) fn lost(&self) -> u64 {
        self.way.lost.load(Ordering::Relaxed)
    }

    /// A record of this process.
    pub(super) fn handle(&self, record: &Record) {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner).sink.handle(record);
    }

    /// Handles all that there is; whether there can be more.
    pub(super) fn drain(&self) -> bool {
        super::forwarder::silently(|| self.take_all())
    }

    fn take_all(&self) -> bool {
        let mut outlet = self.outlet.lock().unwrap_or_else(PoisonError::into_inner);
        let more = loop {
            match self.way.queue.get_nowait() {
                Ok(record) => outlet.sink.handle(&record),
                Err(GetError::Empty | GetError::Busy) => break true,
                // One that cannot be read is lost, the others are not.
                Err(GetError::Decode { .. }) => drop(self.way.lost.fetch_add(1, Ordering::Relaxed)),
                Err(_) => break false,
            }
        };
        let lost = self.lost();
        if lost > outlet.told {
            let record = Record {
                time: SystemTime::now(),
                level: Level::WARN,
                target: "procession".into(),
                file: None,
                line: None,
                message: format!("{} records were lost, the log was full", lost - outlet.told),
                fields: Vec::new(),
                process: current_process().name,
                pid: self.pid,
                thread: None,
            };
            outlet.sink.handle(&record);
            outlet.told = lost;
        }
        more
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if self.is_here() {
            self.over.set();
        }
    }
}
