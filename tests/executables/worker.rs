//! Another program with the same library, `examples/worker.rs`: its processes belong to this program's tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use procession::process::{JoinError, Process, StartMethod, executable, set_executable};
use procession::sync::AcquireError;
use procession::{Event, GetError, Lock, Queue, export_target};

use crate::support::{LONG, eventually};
use crate::{EXECUTING, here, name_of, run};

/// The other program. It is built here if it has changed: cargo builds no examples for a single test.
fn worker() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let released = !cfg!(debug_assertions);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--example", "worker"]);
    cargo.arg("--target-dir").arg(target).args(released.then_some("--release"));
    run(&mut cargo);
    target.join(if released { "release" } else { "debug" }).join("examples/worker")
}

fn named<R, Args>(name: &str, args: Args) -> Process<procession::process::Named<R>, Args> {
    Process::named(format!("worker::{name}"), args)
}

pub fn works() {
    let worker = worker();
    assert_eq!(run(Command::new(&worker).arg("100")), "25 primes below 100\n");
    set_executable(&worker);
    for method in EXECUTING {
        let child = named::<u64, _>("primes_below", (100u64,)).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG), Ok(25));
        let child = named::<Result<u64, String>, _>("checked", ("91".to_string(),)).method(method);
        let child = child.start().unwrap();
        assert_eq!(child.join_timeout(LONG), Ok(Err("91 is no prime".into())));
        assert_eq!(child.exitcode(), Some(1));
    }
    assert_eq!(executable(), Some(worker));
}

pub fn handles_travel() {
    set_executable(worker());
    for method in EXECUTING {
        // There: three of them share what this program has made.
        let (ends, answers) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
        let turn = Lock::new().unwrap();
        let held = turn.acquire().unwrap();
        let children = [(); 3].map(|()| {
            let args = (ends.clone(), answers.clone(), turn.clone());
            named::<procession::Result<u64>, _>("serve", args).method(method).start().unwrap()
        });
        (1..=30u64).for_each(|number| ends.put(&(100 * number)).unwrap());
        ends.close();
        // Each has taken one, and waits for its turn.
        eventually("the others have begun", || ends.qsize() <= 27);
        assert!(matches!(answers.get_nowait(), Err(GetError::Empty)));
        drop(held);
        let mut found: Vec<(u64, u64)> =
            (0..30).map(|_| answers.get_timeout(LONG).unwrap()).collect();
        found.sort_unstable();
        assert_eq!((found[0], found[9], found[29]), ((100, 25), (1000, 168), (3000, 430)));
        let served = children.map(|child| child.join_timeout(LONG).unwrap().unwrap());
        assert_eq!(served.iter().sum::<u64>(), 30);

        // And back: what the other has made outlives it.
        let child = named::<procession::Result<Queue<u64>>, _>("first_primes", (5u64,));
        let primes = child.method(method).start().unwrap().join_timeout(LONG).unwrap().unwrap();
        assert_eq!(primes.iter().collect::<Result<Vec<_>, _>>().unwrap(), [2, 3, 5, 7, 11]);
        let (offers, enough) = (Queue::<Lock>::bounded(1).unwrap(), Event::new().unwrap());
        let lend = named::<procession::Result<()>, _>("lend", (offers.clone(), enough.clone()));
        let child = lend.method(method).start().unwrap();
        let lock = offers.get_timeout(LONG).unwrap();
        assert!(matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)));
        enough.set();
        drop(lock.acquire_timeout(LONG).unwrap());
        child.join_timeout(LONG).unwrap().unwrap();
        drop(lock.acquire_timeout(LONG).unwrap());
    }
}

pub fn deaths_are_noticed() {
    set_executable(worker());
    for method in EXECUTING {
        let (offers, enough) = (Queue::<Lock>::bounded(1).unwrap(), Event::new().unwrap());
        let lend = named::<procession::Result<()>, _>("lend", (offers.clone(), enough.clone()));
        let child = lend.method(method).start().unwrap();
        let lock = offers.get_timeout(LONG).unwrap();
        child.kill().unwrap();
        match lock.acquire_timeout(LONG) {
            Err(AcquireError::OwnerDied(died)) => died.into_guard().mark_consistent(),
            other => panic!("nothing was said of the death: {:?}", other.map(drop)),
        }
        assert!(matches!(child.join_timeout(LONG), Err(JoinError::Killed { signal: 9, .. })));
        drop(lock.acquire_timeout(LONG).unwrap());
    }
}

pub fn errors_are_clear() {
    set_executable(worker());
    for method in EXECUTING {
        let not_begun = |end: Result<u64, JoinError>, what: &str| match end {
            Err(JoinError::NotBegun { message, .. }) => {
                assert!(message.contains(what), "{message}");
            }
            other => panic!("{other:?}"),
        };
        let child = named("main", ()).method(method).start().unwrap();
        not_begun(child.join_timeout(LONG), "exports no target worker::main");
        let child = named("primes_below", (100u32,)).method(method).start().unwrap();
        not_begun(child.join_timeout(LONG), "takes (u64,) and returns u64 here, not (u32,)");
        let child = named::<i64, _>("primes_below", (100u64,)).method(method).start().unwrap();
        not_begun(child.join_timeout(LONG).map(|_| 0), "returns u64 here, not (u64,) and i64");
        // A target of this program is none of the other's.
        let child = Process::new(twice, (21,)).method(method).start().unwrap();
        not_begun(child.join_timeout(LONG), "exports no target executables::worker::twice");

        let child = named::<u64, _>("prime", (0u64,)).name("asks").method(method).start().unwrap();
        match child.join_timeout(LONG) {
            Err(JoinError::Panicked { name, message, location: Some(at), .. }) => {
                assert_eq!(name, "asks");
                assert_eq!(message, "there is no prime before the first");
                assert!(at.starts_with("examples/worker.rs:"), "{at}");
            }
            other => panic!("{other:?}"),
        }
        // It can still be asked.
        let child = named::<u64, _>("prime", (4u64,)).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG), Ok(7));
    }
    // A fork is this program.
    let child = named::<u64, _>("primes_below", (100u64,)).method(StartMethod::Fork);
    match child.start().unwrap().join_timeout(LONG) {
        Err(JoinError::NotBegun { message, .. }) => {
            assert!(message.contains("exports no target worker::primes_below"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

fn twice(number: u64) -> u64 {
    2 * number
}
export_target!(twice);

pub fn programs_take_turns() {
    set_executable(worker());
    for method in EXECUTING {
        let program = here().into_os_string().into_string().unwrap();
        let args = (program, name_of(twice).to_string(), 21u64);
        let child = named::<Result<(u32, u64), String>, _>("relay", args).method(method);
        let child = child.start().unwrap();
        assert_eq!(child.join_timeout(LONG), Ok(Ok((child.pid(), 42))));
    }
}
