//! What the processes of a tree log arrives in one place.
#![cfg(feature = "tracing")]

#[path = "support/bound.rs"]
mod bound;

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bound::Bound;
use procession_posix::log::{Datum, Log, Record, collect_logs, get_logger, log_to, log_to_stderr};
use procession_posix::process::{Process, StartMethod};
use procession_posix::sync::Event;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Level, Metadata, Subscriber};

const LONG: Duration = Duration::from_secs(60);

fn run(test: usize, method: StartMethod) {
    TESTS[test].1(method);
}

/// Each runs in a process of its own, which has one thread, and no subscriber yet.
macro_rules! tests {
    ($($each:ident)*) => {
        const TESTS: &[(&str, fn(StartMethod))] = &[$((stringify!($each), $each)),*];
        mod each_method {
            use super::*;
            $(#[test] fn $each() {
                let test = TESTS.iter().position(|(name, _)| *name == stringify!($each)).unwrap();
                for method in [StartMethod::Zygote, StartMethod::Spawn, StartMethod::Fork] {
                    let process = Process::new(run, (test, method)).method(StartMethod::Zygote);
                    let process = Bound(process.name("alone").start().unwrap());
                    process.join_timeout(2 * LONG).unwrap();
                }
            })*
        }
    };
}

tests! {
    events_arrive_with_their_process
    fields_keep_their_types
    what_was_logged_before_a_kill_arrives
    a_full_log_holds_nobody_up
    lines_on_standard_error
    events_are_given_to_the_own_subscriber
    this_library_says_what_it_does
    the_log_is_complete_at_the_end
    a_zygote_that_was_killed_is_made_anew_and_told_of
}

/// The records, as they come.
fn kept(level: Level) -> (Log, Arc<Mutex<Vec<Record>>>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let keep = all.clone();
    let log = log_to(level, move |record| keep.lock().unwrap().push(record.clone())).unwrap();
    (log, all)
}

fn drained(log: &Log, all: &Arc<Mutex<Vec<Record>>>) -> Vec<Record> {
    log.drain();
    std::mem::take(&mut *all.lock().unwrap())
}

fn say(what: String) {
    tracing::info!("{what}");
    tracing::debug!("not wanted");
}

fn have_it_said(method: StartMethod) {
    tracing::warn!("child");
    let process = Process::new(say, ("grandchild".to_owned(),)).name("grandchild");
    Bound(process.method(method).start().unwrap()).join_timeout(LONG).unwrap();
}

fn events_arrive_with_their_process(method: StartMethod) {
    let (log, all) = kept(Level::INFO);
    assert_eq!(get_logger().unwrap().level(), Level::INFO);
    tracing::error!("mine");
    let process = Process::new(have_it_said, (method,)).name("child").method(method);
    let child = Bound(process.start().unwrap());
    child.join_timeout(LONG).unwrap();
    let records = drained(&log, &all);
    let own = |record: &Record| !record.message.contains("zygote");
    let said: Vec<_> = records
        .iter()
        .filter(|record| own(record))
        .map(|record| (record.level, record.process.as_str(), record.message.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (Level::ERROR, "alone", "mine"),
            (Level::WARN, "child", "child"),
            (Level::INFO, "grandchild", "grandchild"),
        ]
    );
    let record = records.iter().find(|record| record.message == "child").unwrap();
    assert_eq!(record.pid, child.pid());
    assert_eq!(record.target, "logs");
    assert!(record.file.as_ref().unwrap().ends_with("logs.rs") && record.line.unwrap() > 1);
    assert_eq!(record.to_string(), format!("[WARN/child {}] child", child.pid()));
    assert_eq!(log.lost(), 0);
}

fn fields_keep_their_types(method: StartMethod) {
    fn detailed() {
        tracing::info!(
            target: "elsewhere",
            yes = true,
            minus = -1,
            plus = u64::MAX,
            half = 0.5,
            text = "a \"b\"",
            debug = ?Some(1),
            "all"
        );
    }
    let (log, all) = kept(Level::TRACE);
    let child = Bound(Process::new(detailed, ()).method(method).start().unwrap());
    child.join_timeout(LONG).unwrap();
    let records = drained(&log, &all);
    let record = records.iter().find(|record| record.target == "elsewhere").unwrap();
    let values: Vec<_> = record.fields.iter().map(|(name, value)| (&**name, value)).collect();
    assert_eq!(
        values,
        [
            ("yes", &Datum::Bool(true)),
            ("minus", &Datum::Signed(-1)),
            ("plus", &Datum::Unsigned(u64::MAX)),
            ("half", &Datum::Float(0.5)),
            ("text", &Datum::Text("a \"b\"".into())),
            ("debug", &Datum::Other("Some(1)".into())),
        ]
    );
    assert!(record.to_string().ends_with(
        "] all yes=true minus=-1 plus=18446744073709551615 half=0.5 text=\"a \\\"b\\\"\" debug=Some(1)"
    ));
}

fn what_was_logged_before_a_kill_arrives(method: StartMethod) {
    fn log_and_die(n: u32) {
        for i in 0..n {
            tracing::info!(i, "still here");
        }
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
    let (log, all) = kept(Level::INFO);
    let child = Bound(Process::new(log_and_die, (500,)).method(method).start().unwrap());
    assert!(child.join_timeout(LONG).is_err());
    let records = drained(&log, &all);
    let numbers: Vec<_> = records
        .iter()
        .filter(|record| record.message == "still here")
        .map(|record| record.fields[0].1.clone())
        .collect();
    assert_eq!(numbers, (0..500).map(Datum::Unsigned).collect::<Vec<_>>());
}

fn a_full_log_holds_nobody_up(method: StartMethod) {
    fn chatter(n: u32) -> Duration {
        let begun = Instant::now();
        for i in 0..n {
            tracing::info!(i, "on and on");
        }
        begun.elapsed()
    }
    // Whoever collects is held up by the first record until the child is done.
    let gate = Event::new().unwrap();
    let (taken, open) = (Arc::new(Mutex::new(Vec::new())), gate.clone());
    let keep = taken.clone();
    let log = log_to(Level::INFO, move |record: &Record| {
        if record.message == "on and on" {
            assert!(open.wait_timeout(LONG));
        }
        keep.lock().unwrap().push(record.message.clone());
    })
    .unwrap();
    let child = Bound(Process::new(chatter, (5000,)).method(method).start().unwrap());
    let took = child.join_timeout(LONG).unwrap();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(log.lost() > 3000, "{}", log.lost());
    gate.set();
    log.drain();
    let taken = taken.lock().unwrap();
    let arrived = taken.iter().filter(|message| *message == "on and on").count() as u64;
    assert_eq!(arrived + log.lost(), 5000);
    assert_eq!(
        taken.last().unwrap(),
        &format!("{} records were lost, the log was full", log.lost())
    );
}

fn lines_on_standard_error(method: StartMethod) {
    let (mut read, write) = std::io::pipe().unwrap();
    rustix::stdio::dup2_stderr(&write).unwrap();
    drop(write);
    let log = log_to_stderr(Level::INFO).unwrap();
    let process = Process::new(say, ("hello".to_owned(),)).name("speaker").method(method);
    let child = Bound(process.start().unwrap());
    child.join_timeout(LONG).unwrap();
    log.drain();
    let mut text = vec![0; 4096];
    let len = read.read(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text[..len]).into_owned();
    let expected = format!("[INFO/speaker {}] hello\n", child.pid());
    assert!(text.contains(&expected), "{text:?}");
    assert!(!text.contains("not wanted"));
}

/// A subscriber of the test's own.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Ledger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "logs"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn events_are_given_to_the_own_subscriber(method: StartMethod) {
    fn detailed() {
        tracing::info!(n = 7, what = "this", "said");
    }
    let ledger = Ledger::default();
    tracing::subscriber::set_global_default(ledger.clone()).unwrap();
    let log = collect_logs(Level::INFO).unwrap();
    tracing::info!("mine");
    for _ in 0..2 {
        let process = Process::new(detailed, ()).name("child").method(method);
        let child = Bound(process.start().unwrap());
        child.join_timeout(LONG).unwrap();
        log.drain();
        let line = ledger.0.lock().unwrap().pop().unwrap();
        assert_eq!(
            line,
            format!(
                "INFO logs message=said process.name=\"child\" process.pid={} target=\"logs\" n=7 what=\"this\"",
                child.pid()
            )
        );
    }
    assert_eq!(*ledger.0.lock().unwrap(), ["INFO logs message=mine"]);
}

fn this_library_says_what_it_does(method: StartMethod) {
    let (log, all) = kept(Level::DEBUG);
    let child = Bound(Process::new(|| (), ()).name("child").method(method).start().unwrap());
    child.join_timeout(LONG).unwrap();
    let said: Vec<_> = drained(&log, &all)
        .iter()
        .filter(|record| record.target == "procession")
        .map(|record| format!("{}: {}", record.process, record.message))
        .collect();
    for expected in [
        "alone: process started",
        "child: calling the target",
        "child: ending",
        "alone: process ended",
    ] {
        assert!(said.iter().any(|line| line == expected), "{expected} in {said:?}");
    }
    assert_eq!(said.iter().filter(|line| line.contains("process ended")).count(), 1);
}

fn the_log_is_complete_at_the_end(method: StartMethod) {
    fn speak(n: u32) {
        (0..90).for_each(|line| tracing::info!("number {n}:{line}"));
    }
    fn collect(method: StartMethod) {
        log_to_stderr(Level::INFO).unwrap();
        for n in 0..10 {
            drop(Process::new(speak, (n,)).method(method).start().unwrap());
        }
    }
    let (mut read, write) = std::io::pipe().unwrap();
    rustix::stdio::dup2_stderr(&write).unwrap();
    drop(write);
    let child = Bound(Process::new(collect, (method,)).method(method).start().unwrap());
    child.join_timeout(LONG).unwrap();
    let mut text = vec![0; 1 << 16];
    let len = read.read(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text[..len]).into_owned();
    assert_eq!(text.matches("] number ").count(), 900, "{text}");
    assert!(text.contains("] number 9:89\n"));
}

fn a_zygote_that_was_killed_is_made_anew_and_told_of(method: StartMethod) {
    if method == StartMethod::Fork {
        return; // It has none.
    }
    let (log, all) = kept(Level::DEBUG);
    let start = || {
        let child = Process::new(|| (), ()).method(method).start().unwrap();
        Bound(child).join_timeout(LONG).unwrap();
        let told = drained(&log, &all);
        told.into_iter().find(|record| record.message.starts_with("zygote made"))
    };
    let made = start().unwrap();
    assert_eq!((made.level, &*made.message), (Level::DEBUG, "zygote made"));
    let Datum::Unsigned(pid) = made.fields[0].1 else { panic!("{made}") };
    let zygote = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(zygote, rustix::process::Signal::KILL).unwrap();
    let again = start().unwrap();
    assert_eq!((again.level, &*again.message), (Level::INFO, "zygote made anew"));
}
