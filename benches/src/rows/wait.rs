//! How long one waits for a lock that eight want: not the usual wait, but the longest of a thousand.

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use procession_core::sync::Lock;

use crate::Result;
use crate::harness::{Row, compare_values};
use crate::ours::{Ground, settle};
use crate::peers::pthread::mutex::{Counter, Kind};
use crate::shm::{Shared, Zeroed};
use crate::two;

/// How many want it.
const PROCESSES: usize = 8;
/// How long each holds it. Then it asks again at once.
const HOLD: Duration = Duration::from_micros(10);
/// How long they contend each time: some ten turns on the CPU for each of them.
const CONTEND: Duration = Duration::from_millis(250);

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "lock.wait.p999",
        peer: "pthread mutex, process-shared",
        target: 1.0,
        note: "a latency: of eight processes, the one that waits worst, at the 99.9th percentile of its waits",
        run: |plan| compare_values(plan.rare(), ours, pthread),
    }]
}

/// What the processes report.
#[repr(C)]
struct Reports([AtomicU64; PROCESSES]);

// SAFETY: they are atomics.
unsafe impl Zeroed for Reports {}

/// Lets all processes contend for some time. Each calls `hold` with work to be done under the lock. Returns the worst
/// wait at the 99.9th percentile, in nanoseconds.
fn contend(
    settle: impl Fn() -> Result<()>,
    hold: impl Fn(&mut dyn FnMut()) -> Result<()>,
) -> Result<f64> {
    let (settle, hold) = (&settle, &hold);
    let reports = Shared::<Reports>::new()?;
    let runner = |report| -> two::Runner<'_> {
        let report: &AtomicU64 = report;
        Box::new(move |gate| {
            settle()?;
            // Room enough for all waits, touched before the shot.
            let mut waits = vec![0u64; 2 * (CONTEND.as_nanos() / HOLD.as_nanos()) as usize];
            waits.clear();
            gate.start();
            let begin = Instant::now();
            while begin.elapsed() < CONTEND {
                let asked = Instant::now();
                hold(&mut || {
                    let got = Instant::now();
                    waits.push((got - asked).as_nanos() as u64);
                    while got.elapsed() < HOLD {
                        std::hint::spin_loop();
                    }
                })?;
            }
            gate.stop();
            waits.sort_unstable();
            // Who never had its turn has waited all the time.
            let worst = waits.iter().rev().nth(waits.len() / 1000);
            report.store(worst.copied().unwrap_or(CONTEND.as_nanos() as u64), Relaxed);
            Ok(0)
        })
    };
    two::processes(reports.0.iter().map(runner).collect())?;
    Ok(reports.0.iter().map(|report| report.load(Relaxed)).max().unwrap_or(0) as f64)
}

fn ours() -> Result<f64> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let lock = ground.object::<Lock>()?;
    contend(
        || settle(seat.member()),
        |work| {
            let _guard = lock.acquire(seat.member()).map_err(|error| error.to_string())?;
            work();
            Ok(())
        },
    )
}

fn pthread() -> Result<f64> {
    let counter = Counter::new(Kind::Plain)?;
    contend(|| Ok(()), |work| counter.locked(|_| work()))
}
