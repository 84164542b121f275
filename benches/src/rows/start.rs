//! A process: started, and waited for.

use std::process::Command;
use std::time::Instant;

use procession::process::{Process, StartMethod};

use crate::Result;
use crate::harness::{Row, Timing, duel};

/// The argument with which this program does nothing, and the status that it then ends with.
pub const NOTHING: &str = "--nothing";
pub const STATUS: u8 = 7;

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "start.zygote",
            peer: "fork and waitpid",
            target: 2.0,
            note: "ours takes an argument and brings back a result, the peer a status; it forks this small process, which is the cheapest fork there is",
            run: |plan| duel(plan, |ops| ours(StartMethod::Zygote, ops), bare_fork),
        },
        Row {
            name: "start.spawn",
            peer: "std::process::Command on the same binary",
            target: 1.15,
            note: "ours takes an argument and brings back a result, the peer a status",
            run: |plan| duel(plan, |ops| ours(StartMethod::Spawn, ops), command),
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

fn bare_fork(ops: u64) -> Result<Timing> {
    let start = Instant::now();
    for _ in 0..ops {
        // SAFETY: the child makes one system call, which ends it.
        let pid = unsafe {
            match libc::fork() {
                0 => libc::_exit(STATUS.into()),
                pid => pid,
            }
        };
        let pid = rustix::process::Pid::from_raw(pid).ok_or("fork answered with pid 0")?;
        let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
        let status = ended.and_then(|(_, status)| status.exit_status());
        expect_status(status)?;
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
