//! The subscriber that processes of a tree have: it sends each event on its way.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};

use super::collector::{Collector, Heritage};
use super::record::{Record, level};
use crate::process::current_process;

/// Where the events of this process go.
enum Route {
    /// Nobody has asked.
    Nowhere,
    /// To another process.
    Away(Heritage),
    /// This one collects; its own events, too, or only those of others.
    Here { collector: Arc<Collector>, also_mine: bool },
}

static ROUTE: RwLock<Route> = RwLock::new(Route::Nowhere);
/// The level, for a look without lock; `NOTHING`: not even errors.
static LEVEL: AtomicU8 = AtomicU8::new(NOTHING);
const NOTHING: u8 = u8::MAX;
/// Whether the global subscriber is a `Forwarder`.
static GLOBAL: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// What is logged while a record is on its way would never end.
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f`; what it logs is lost.
pub(super) fn silently<R>(f: impl FnOnce() -> R) -> R {
    struct Outer(bool);
    impl Drop for Outer {
        fn drop(&mut self) {
            SILENT.set(self.0);
        }
    }
    let _outer = Outer(SILENT.replace(true));
    f()
}

fn route(new: Route) {
    let level = match &new {
        Route::Nowhere | Route::Here { also_mine: false, .. } => NOTHING,
        Route::Away(way) => level::number(&way.level()),
        Route::Here { collector, .. } => level::number(&collector.level()),
    };
    let old = std::mem::replace(&mut *ROUTE.write().unwrap_or_else(PoisonError::into_inner), new);
    match old {
        // A copy, made by fork: the sink is not for this process to end.
        Route::Here { collector, .. } if !collector.is_here() => std::mem::forget(collector),
        old => drop(old),
    }
    // Relaxed: an event of that moment goes the old way or the new one.
    LEVEL.store(level, Ordering::Relaxed);
}

/// Makes the forwarder the global subscriber; whether it is.
fn install() -> bool {
    // Relaxed: nothing goes along with it, and two who try are told apart by the call.
    if !GLOBAL.load(Ordering::Relaxed) && tracing::subscriber::set_global_default(Forwarder).is_ok()
    {
        GLOBAL.store(true, Ordering::Relaxed);
    }
    GLOBAL.load(Ordering::Relaxed)
}

/// This process collects.
pub(super) fn collect(collector: Arc<Collector>, also_mine: bool) {
    route(Route::Here { collector, also_mine });
    if also_mine {
        install();
    }
    tracing::callsite::rebuild_interest_cache();
}

/// This process was started by one that knows the way.
pub(super) fn forward(way: Heritage) {
    route(Route::Away(way));
    if !install() {
        // A copy of the starter's subscriber, made by fork: at least the thread that calls the target speaks for itself.
        std::mem::forget(tracing::subscriber::set_default(Forwarder));
    }
    tracing::callsite::rebuild_interest_cache();
}

pub(super) fn heritage() -> Option<Heritage> {
    match &*ROUTE.read().unwrap_or_else(PoisonError::into_inner) {
        Route::Nowhere => None,
        Route::Away(way) => Some(way.clone()),
        Route::Here { collector, .. } => Some(collector.way().clone()),
    }
}

pub(super) fn collected() -> Option<Arc<Collector>> {
    match &*ROUTE.read().unwrap_or_else(PoisonError::into_inner) {
        Route::Here { collector, .. } if collector.is_here() => Some(collector.clone()),
        _ => None,
    }
}

struct Forwarder;

impl Subscriber for Forwarder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let wanted = level::from_number(LEVEL.load(Ordering::Relaxed));
        metadata.is_event() && wanted.is_some_and(|wanted| *metadata.level() <= wanted)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let wanted = level::from_number(LEVEL.load(Ordering::Relaxed));
        Some(wanted.map_or(LevelFilter::OFF, LevelFilter::from_level))
    }

    fn event(&self, event: &Event<'_>) {
        if SILENT.get() {
            return;
        }
        let metadata = event.metadata();
        let me = current_process();
        let mut record = Record {
            time: SystemTime::now(),
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            file: metadata.file().map(str::to_owned),
            line: metadata.line(),
            message: String::new(),
            fields: Vec::new(),
            process: me.name,
            pid: me.pid,
            thread: std::thread::current().name().map(str::to_owned),
        };
        event.record(&mut record);
        silently(|| {
            let route = ROUTE.read().unwrap_or_else(PoisonError::into_inner);
            match &*route {
                Route::Nowhere => {}
                Route::Away(way) => way.send(&record),
                Route::Here { collector, .. } if !collector.is_here() => {
                    collector.way().send(&record);
                }
                Route::Here { collector, .. } => {
                    let collector = collector.clone();
                    drop(route);
                    collector.handle(&record);
                }
            }
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Spans are not enabled, so nobody asks.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
