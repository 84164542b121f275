//! Programs in Python, which answer a number of operations with the time that these took.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::harness::{Missing, Timing};
use crate::two;

/// Below this many operations it is mostly its threads waking each other that is measured.
const WARM: u64 = 4000;

/// The same for operations that take some hundred microseconds each.
const WARM_LARGE: u64 = 16;

/// A start takes a millisecond by fork, and some twenty by spawn.
const FEW: u64 = 2;

/// A task takes a pool some hundred microseconds.
const WARM_TASKS: u64 = 100;

/// The interpreter that has loky: `benches/loky.sh` puts it there.
const LOKY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/loky/bin/python3");

/// A Python process that runs one of our scripts.
pub struct Python {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    least: u64,
}

impl Python {
    /// `multiprocessing.Queue` between two processes.
    pub fn queue() -> Result<Self> {
        Self::start(include_str!("queue.py"), WARM)
    }

    /// `multiprocessing.Pipe`, large messages between two processes.
    pub fn pipe() -> Result<Self> {
        Self::start(include_str!("pipe.py"), WARM_LARGE)
    }

    /// `multiprocessing.Lock`, taken by one process.
    pub fn lock() -> Result<Self> {
        Self::start(include_str!("lock.py"), WARM)
    }

    /// `multiprocessing.Value`, incremented under its lock by two processes.
    pub fn counter() -> Result<Self> {
        Self::start(include_str!("counter.py"), WARM)
    }

    /// `multiprocessing.Process`, started by `method` and joined.
    pub fn process(method: &str) -> Result<Self> {
        Self::start_with(include_str!("start.py"), FEW, &[method])
    }

    /// A pool of two processes by fork, with a job for it: `chunk1`, `map`, `apply`, `large` or `start` for
    /// `multiprocessing.Pool`, `submit` for `ProcessPoolExecutor`.
    pub fn pool(job: &str) -> Result<Self> {
        let least = match job {
            "chunk1" | "map" => WARM,
            "large" => WARM_LARGE,
            "start" => FEW,
            _ => WARM_TASKS,
        };
        Self::start_with(include_str!("pool.py"), least, &[job])
    }

    /// loky's reusable executor of two processes, with numbers to map.
    pub fn loky() -> Result<Self> {
        if !Path::new(LOKY).exists() {
            return Err(Missing("there is no loky: run benches/loky.sh".into()).into());
        }
        Self::start_in(LOKY, include_str!("pool.py"), WARM_TASKS, &["loky"])
    }

    fn start(script: &str, least: u64) -> Result<Self> {
        Self::start_with(script, least, &[])
    }

    fn start_with(script: &str, least: u64, args: &[&str]) -> Result<Self> {
        Self::start_in("python3", script, least, args)
    }

    fn start_in(interpreter: &str, script: &str, least: u64, args: &[&str]) -> Result<Self> {
        let cpus = two::cpus()?;
        let mut command = Command::new(interpreter);
        command.arg("-c").arg(script).args(cpus.iter().take(2).map(usize::to_string));
        command.args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: the closure makes one system call and allocates nothing, as it must between fork and exec.
        unsafe { command.pre_exec(|| Ok(two::die_with_parent()?)) };
        let mut child = command
            .spawn()
            .map_err(|error| Missing(format!("cannot start {interpreter}: {error}")))?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().ok_or("python3 has no standard output")?;
        Ok(Self { child, orders, answers: BufReader::new(answers), least })
    }

    /// Has it run `ops` operations, or as many as it needs to get going.
    pub fn run(&mut self, ops: u64) -> Result<Timing> {
        let ops = ops.max(self.least);
        let orders = self.orders.as_mut().ok_or("python3 has no standard input")?;
        writeln!(orders, "{ops}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let nanos =
            line.trim().parse().map_err(|_| "python3 gave no time; see what it wrote above")?;
        Ok(Timing { ops, took: Duration::from_nanos(nanos) })
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends when its input does, and takes its own child along.
        drop(self.orders.take());
        if self.child.wait().is_err() {
            self.child.kill().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_answers() -> Result<()> {
        let fork = || Python::process("fork");
        let spawn = || Python::process("spawn");
        let starts = [Python::queue, Python::pipe, Python::lock, Python::counter, fork, spawn];
        let jobs = ["chunk1", "map", "apply", "submit", "large", "start"].map(Python::pool);
        for start in starts.into_iter().map(|start| start()).chain(jobs).chain([Python::loky()]) {
            match start {
                Ok(mut python) => assert!(python.run(1)?.took > Duration::ZERO),
                Err(error) if error.is::<Missing>() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
