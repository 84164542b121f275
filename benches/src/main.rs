//! The scoreboard: procession beside its peers.
//!
//! Each row runs in a process of its own: this program, started again with `--row`. A row that hangs is ended by an
//! alarm and one that crashes takes nothing with it, so the others still count. A peer's threads, arenas and affinity
//! never reach the next row.

mod harness;
mod ours;
mod peers;
mod rows;
mod shm;
mod two;

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;
use harness::{Missing, Plan, Row, Score};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

/// Whatever goes wrong here is only ever shown to a person.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// After this many seconds a row's process is ended by SIGALRM.
const ROW_SECONDS: u32 = 60;

/// Compares procession with its peers: median nanoseconds an operation, ours and theirs, measured in turns.
#[derive(Parser)]
struct Args {
    /// Only this family of rows (lock, rlock, semaphore, event, condition, barrier, rwlock, seqlock, counter, spsc, mpmc, rtt, pipe, queue, broadcast, start, pool, executor), or one row by its full name
    #[arg(long, value_name = "FAMILY")]
    only: Option<String>,
    /// Also write the rows to this file, as a JSON list
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer and shorter rounds: for a look, not for a claim
    #[arg(long)]
    quick: bool,
    /// Let the scheduler move processes and threads, instead of keeping each on its CPU
    #[arg(long)]
    unpinned: bool,
    /// Run one row in this process and print its outcome as JSON (how this program starts itself)
    #[arg(long, hide = true)]
    row: Option<String>,
}

/// What a row's process tells the main one, as its last line.
#[derive(Serialize, Deserialize)]
enum Outcome {
    Measured(Score),
    Missing(String),
    Failed(String),
}

fn main() -> ExitCode {
    // The program that `start.spawn` starts. It comes before all else, as it has to cost nothing.
    if std::env::args_os().nth(1).is_some_and(|first| first == rows::start::NOTHING) {
        return ExitCode::from(rows::start::STATUS);
    }
    let args = Args::parse();
    let result = match &args.row {
        Some(name) => run_row(name, args.quick),
        None => run_all(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("procession-benches: {error}");
        ExitCode::FAILURE
    })
}

/// Measures one row here and prints its outcome.
fn run_row(name: &str, quick: bool) -> Result<ExitCode> {
    let row = rows::all()
        .into_iter()
        .find(|row| row.name == name)
        .ok_or_else(|| format!("there is no row {name}"))?;
    two::limit_lifetime(ROW_SECONDS)?;
    let outcome = match row.measure(Plan::new(quick)) {
        Ok(score) => Outcome::Measured(score),
        Err(error) => match error.downcast_ref::<Missing>() {
            Some(missing) => Outcome::Missing(missing.to_string()),
            None => Outcome::Failed(error.to_string()),
        },
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(ExitCode::SUCCESS)
}

/// Starts a process for each row that was asked for, prints the table, and writes the JSON.
fn run_all(args: &Args) -> Result<ExitCode> {
    let rows: Vec<Row> = rows::all()
        .into_iter()
        .filter(|row| args.only.as_deref().is_none_or(|family| row.belongs_to(family)))
        .collect();
    if rows.is_empty() {
        let names: Vec<_> = rows::all().iter().map(|row| row.name).collect();
        return Err(format!("no such family; the rows are {}", names.join(", ")).into());
    }
    println!("{}", machine()?);
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    println!("{}", harness::header(width));
    let (mut scores, mut missing, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let quiet = Disturbance::watch()?;
        match start_row(row, args)? {
            Outcome::Measured(mut score) => {
                quiet.mention_in(&mut score)?;
                println!("{}", score.line(width));
                scores.push(score);
            }
            Outcome::Missing(why) => missing.push(format!("{}: left out: {why}", row.name)),
            Outcome::Failed(why) => failed.push(format!("{}: failed: {why}", row.name)),
        }
        std::io::stdout().flush()?;
    }
    println!();
    for score in scores.iter().filter(|score| !score.note.is_empty()) {
        println!("{}: {}", score.row, score.note);
    }
    for line in missing.iter().chain(&failed) {
        println!("{line}");
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&scores)? + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one row in a process of its own and waits for it.
fn start_row(row: &Row, args: &Args) -> Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--row", row.name]).args(args.quick.then_some("--quick"));
    if args.unpinned {
        command.env(two::UNPINNED, "1");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    // SAFETY: the closure makes one system call and allocates nothing, as it must between fork and exec.
    unsafe { command.pre_exec(|| Ok(two::die_with_parent()?)) };
    let output = command.output()?;
    if output.status.signal() == Some(Signal::ALARM.as_raw()) {
        return Ok(Outcome::Failed(format!("not done after {ROW_SECONDS} s")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().last().map(serde_json::from_str) {
        Some(Ok(outcome)) => Ok(outcome),
        _ => Ok(Outcome::Failed(format!("its process said nothing: {}", output.status))),
    }
}

/// What others do on this machine while a row is measured.
struct Disturbance {
    began: Instant,
    all: f64,
    own: f64,
}

impl Disturbance {
    fn watch() -> Result<Self> {
        Ok(Self { began: Instant::now(), all: seconds_of_all()?, own: seconds_of_children() })
    }

    /// Says so in the row's note if they took more of a CPU than a quiet machine does.
    fn mention_in(&self, score: &mut Score) -> Result<()> {
        let took = self.began.elapsed().as_secs_f64();
        let others = (seconds_of_all()? - self.all) - (seconds_of_children() - self.own);
        let share = others / took * 100.0;
        // The kernel counts in hundredths of a second, and the row's own processes were just counted by another clock.
        if share > 15.0 {
            let comma = if score.note.is_empty() { "" } else { "; " };
            score.note += &format!("{comma}DISTURBED: others used {share:.0} % of a CPU meanwhile");
        }
        Ok(())
    }
}

/// Seconds that all CPUs together have been busy, the time stolen by the host included.
fn seconds_of_all() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_ascii_whitespace().flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq steal, then what is counted already
    let busy: u64 = ticks.iter().take(8).sum::<u64>() - ticks.iter().skip(3).take(2).sum::<u64>();
    Ok(busy as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Seconds that this program's children have used, with theirs, as far as they have been waited for.
fn seconds_of_children() -> f64 {
    // SAFETY: zeroes are a valid rusage, and the call fills the one that it is given.
    let usage = unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Where this was measured, and what else was running.
fn machine() -> Result<String> {
    let cpus = two::cpus()?.len();
    let model = std::fs::read_to_string("/proc/cpuinfo")?
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1).map(str::to_owned))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("?");
    let one =
        if cpus == 1 { "; rows with two processes share one CPU and mean little" } else { "" };
    Ok(format!("{cpus} CPUs ({model}), Linux {}, load {load} at the start{one}", kernel.trim()))
}
