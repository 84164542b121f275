//! What is taken back from the dead is told, as events of `tracing`.
#![cfg(feature = "tracing")]

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use procession_posix::process::Process;
use procession_posix::sync::Lock;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps what the events of this library say.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!("{field}={value:?} ");
    }
}

impl Subscriber for Ledger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "procession"
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn die_with(lock: Lock) {
    std::mem::forget(lock.acquire().unwrap());
    std::process::abort();
}

#[test]
fn a_lock_of_the_dead_is_told_of_once() {
    let ledger = Ledger::default();
    let lines = Arc::clone(&ledger.0);
    tracing::subscriber::with_default(ledger, || {
        let lock = Lock::new().unwrap();
        let victim = Process::new(die_with, (lock.clone(),)).name("victim").start().unwrap();
        assert!(victim.join().is_err());
        let mut guard = lock.acquire().unwrap_err().into_guard().unwrap();
        guard.mark_consistent();
        drop(guard);
        drop(lock.acquire().unwrap());
        let lines = lines.lock().unwrap();
        // The life of the process is told too.
        let told: Vec<_> = lines.iter().filter(|line| line.contains("taken back")).collect();
        let [line] = told[..] else { panic!("{lines:?}") };
        let pid = format!("pid={}", victim.pid());
        for part in ["what=\"Lock\"", pid.as_str(), "name=\"victim\"", "dead process"] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    });
}
