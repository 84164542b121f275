//! A process: started, and waited for.

use std::process::Command;
use std::time::Instant;

use procession::process::{Process, StartMethod, keep_warm};
use rustix::process::Pid;

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::peers::python::Python;

/// The argument with which this program does nothing, and the status that it then ends with.
pub const NOTHING: &str = "--nothing";
pub const STATUS: u8 = 7;

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "start.zygote",
            peer: "fork and waitpid",
            target: 1.5,
            note: "ours takes an argument and brings back a result, the peer a status; it forks this small process, which is the cheapest fork there is",
            run: |plan| duel(plan, |ops| ours(StartMethod::Zygote, ops), bare_fork),
        },
        Row {
            name: "start.warm",
            peer: "fork and waitpid",
            target: 1.2,
            note: "as start.zygote, with two processes kept warm",
            run: |plan| {
                keep_warm(2)?;
                duel(plan, |ops| ours(StartMethod::Zygote, ops), bare_fork)
            },
        },
        Row {
            name: "start.many",
            peer: "fork and waitpid, 200 at once",
            target: 1.5,
            note: "one operation is 200 processes: all are started, then all are joined",
            run: |plan| duel(plan.longer(), many, many_bare_forks),
        },
        Row {
            name: "start.spawn",
            peer: "std::process::Command on the same binary",
            target: 1.05,
            note: "ours takes an argument and brings back a result, the peer a status",
            run: |plan| duel(plan, |ops| ours(StartMethod::Spawn, ops), command),
        },
        Row {
            name: "start.python.fork",
            peer: "multiprocessing.Process by fork, Python 3",
            target: 0.03,
            note: "both start and join; ours brings back a result",
            run: |plan| python(plan, StartMethod::Zygote, "fork"),
        },
        Row {
            name: "start.python.spawn",
            peer: "multiprocessing.Process by spawn, Python 3",
            target: 0.015,
            note: "both start and join; ours brings back a result",
            run: |plan| python(plan.rare(), StartMethod::Spawn, "spawn"),
        },
    ]
}

/// What ours runs. It has an argument and a result, which a bare process has not.
fn target(status: u8) -> u8 {
    status
}

fn ours(method: StartMethod, ops: u64) -> Result<Timing> {
    let start = Instant::now();
    for _ in 0..ops {
        let child = Process::new(target, (STATUS,)).method(method).start()?;
        expect_status(Some(child.join()?.into()))?;
    }
    Ok(Timing { ops, took: start.elapsed() })
}

fn python(plan: Plan, method: StartMethod, theirs: &str) -> Result<Duel> {
    let mut peer = Python::process(theirs)?;
    duel(plan, |ops| ours(method, ops), |ops| peer.run(ops))
}

fn bare_fork(ops: u64) -> Result<Timing> {
    let start = Instant::now();
    for _ in 0..ops {
        wait_for_bare(fork_bare()?)?;
    }
    Ok(Timing { ops, took: start.elapsed() })
}

fn fork_bare() -> Result<Pid> {
    // SAFETY: the child makes one system call, which ends it.
    let pid = unsafe {
        match libc::fork() {
            0 => libc::_exit(STATUS.into()),
            pid => pid,
        }
    };
    Ok(Pid::from_raw(pid).ok_or("fork answered with pid 0")?)
}

fn wait_for_bare(pid: Pid) -> Result<()> {
    let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
    expect_status(ended.and_then(|(_, status)| status.exit_status()))
}

/// How many processes `start.many` has at once.
const MANY: u64 = 200;

fn many(ops: u64) -> Result<Timing> {
    let start = Instant::now();
    for _ in 0..ops {
        let children = (0..MANY).map(|_| Process::new(target, (STATUS,)).start());
        for child in children.collect::<std::result::Result<Vec<_>, _>>()? {
            expect_status(Some(child.join()?.into()))?;
        }
    }
    Ok(Timing { ops, took: start.elapsed() })
}

fn many_bare_forks(ops: u64) -> Result<Timing> {
    let start = Instant::now();
    for _ in 0..ops {
        for child in (0..MANY).map(|_| fork_bare()).collect::<Result<Vec<_>>>()? {
            wait_for_bare(child)?;
        }
    }
    Ok(Timing { ops, took: start.elapsed() })
}

fn command(ops: u64) -> Result<Timing> {
    let program = std::env::current_exe()?;
    let start = Instant::now();
    for _ in 0..ops {
        expect_status(Command::new(&program).arg(NOTHING).status()?.code())?;
    }
    Ok(Timing { ops, took: start.elapsed() })
}

/// That the child came as far as its end.
fn expect_status(status: Option<i32>) -> Result<()> {
    if status == Some(STATUS.into()) {
        Ok(())
    } else {
        Err(format!("a child ended with {status:?} instead of {STATUS}").into())
    }
}
