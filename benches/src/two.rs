//! Two (or four, or eight) that run at once: processes or threads, each on its CPU, from one starting shot.
//!
//! Each runner prepares itself and waits at the gate. When all have arrived the gate opens. Each notes when it left
//! the gate and when it was done; the race lasted from the first of the former to the last of the latter. Whoever
//! called only sleeps meanwhile. Processes and threads run through the same gate, so a comparison of the two compares
//! nothing else.
//!
//! No runner outlives its race: a child has an alarm, dies with its parent, and is killed when another one failed.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, setpgid, waitpgid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, sched_yield};
use rustix::time::{ClockId, clock_gettime};

use crate::Result;
use crate::shm::{Shared, Zeroed};

/// The most runners that one race has.
const LANES: usize = 8;

/// After this many seconds a runner is ended by SIGALRM: more than any batch lasts on the poorest machine.
const RUNNER_SECONDS: u32 = 20;

/// The status with which a child says that it has written down why it failed.
const FAILED: i32 = 1;

/// What a runner runs. It returns a checksum, or whatever its row wants to know.
pub type Runner<'a> = Box<dyn FnOnce(&Gate<'_>) -> Result<u64> + 'a>;
/// A runner that is a thread.
pub type ThreadRunner<'a> = Box<dyn FnOnce(&Gate<'_>) -> Result<u64> + Send + 'a>;

/// Where runners run.
#[derive(Clone, Copy)]
pub enum Place {
    /// The i-th on the i-th CPU, and round again.
    Apart,
    /// All on the first CPU: whoever waits cannot but give way to the others.
    Together,
}

/// How a race ended.
pub struct Finish {
    /// From the first that left the gate to the last that was done.
    pub took: Duration,
    /// What each runner returned, in their order.
    pub values: Vec<u64>,
}

#[repr(C, align(128))]
#[derive(Default)]
struct Lane {
    ready: AtomicU32,
    left: AtomicU64,
    done: AtomicU64,
    value: AtomicU64,
}

#[repr(C, align(128))]
#[derive(Default)]
struct Shot(AtomicU32);

#[repr(C)]
#[derive(Default)]
struct Track {
    shot: Shot,
    lanes: [Lane; LANES],
}

// SAFETY: it consists of atomics.
unsafe impl Zeroed for Track {}

/// Where one runner waits for the shot.
pub struct Gate<'a> {
    shot: &'a Shot,
    lane: &'a Lane,
}

impl Gate<'_> {
    /// Says that this runner is prepared, and waits for the others.
    pub fn start(&self) {
        self.lane.ready.store(1, Release);
        let mut spins = 0u32;
        while self.shot.0.load(Acquire) == 0 {
            spins += 1;
            // With more runners than CPUs somebody else has yet to get here.
            if spins.is_multiple_of(1024) { sched_yield() } else { spin_loop() }
        }
        self.lane.left.store(now(), Relaxed);
    }

    /// Says that what is measured is done; what comes after is cleaning up.
    pub fn stop(&self) {
        self.lane.done.store(now(), Relaxed);
    }
}

impl Track {
    fn gate(&self, i: usize) -> Gate<'_> {
        Gate { shot: &self.shot, lane: &self.lanes[i] }
    }

    fn all_ready(&self, runners: usize) -> bool {
        self.lanes[..runners].iter().all(|lane| lane.ready.load(Acquire) == 1)
    }

    fn finish(&self, runners: usize) -> Result<Finish> {
        let lanes = &self.lanes[..runners];
        let left = lanes.iter().map(|lane| lane.left.load(Relaxed)).min().unwrap_or(0);
        let done = lanes.iter().map(|lane| lane.done.load(Relaxed)).max().unwrap_or(0);
        if lanes.iter().any(|lane| lane.left.load(Relaxed) == 0 || lane.done.load(Relaxed) == 0) {
            return Err("a runner never started or never stopped".into());
        }
        Ok(Finish {
            took: Duration::from_nanos(done.saturating_sub(left)),
            values: lanes.iter().map(|lane| lane.value.load(Relaxed)).collect(),
        })
    }
}

/// Runs each runner in a forked child, the i-th on the i-th CPU.
///
/// The caller must be single-threaded: a child gets only the calling thread, with whatever locks the others held.
pub fn processes(runners: Vec<Runner<'_>>) -> Result<Finish> {
    processes_at(Place::Apart, runners)
}

/// Runs each runner in a forked child, at its place. The caller must be single-threaded, as above.
pub fn processes_at(place: Place, runners: Vec<Runner<'_>>) -> Result<Finish> {
    let count = runners.len();
    assert!(count <= LANES);
    let mut cpus = cpus()?;
    if let Place::Together = place {
        cpus.truncate(1);
    }
    let track = Shared::<Track>::new()?;
    let mut group = Children { leader: None, alive: 0 };
    for (i, runner) in runners.into_iter().enumerate() {
        let leader = group.leader;
        // SAFETY: the caller is single-threaded, so the child may do all that its parent might.
        match unsafe { libc::fork() } {
            -1 => return Err(std::io::Error::last_os_error().into()),
            0 => {
                let status = child(runner, &track.gate(i), cpus[i % cpus.len()], leader);
                // SAFETY: ends this process. The parent's destructors and buffers are the parent's to run.
                unsafe { libc::_exit(status) }
            }
            pid => group.add(Pid::from_raw(pid).ok_or("fork answered with pid 0")?)?,
        }
    }
    while !track.all_ready(count) {
        // A child that failed on its way to the gate will never be ready.
        group.reap(WaitOptions::NOHANG)?;
        sched_yield();
    }
    track.shot.0.store(1, Release);
    while group.alive > 0 {
        group.reap(WaitOptions::empty())?;
    }
    track.finish(count)
}

/// What a child does between fork and exit. Returns its status.
fn child(runner: Runner<'_>, gate: &Gate<'_>, cpu: usize, leader: Option<Pid>) -> i32 {
    let run = || -> Result<u64> {
        setpgid(None, leader)?;
        die_with_parent()?;
        limit_lifetime(RUNNER_SECONDS)?;
        pin(cpu)?;
        runner(gate)
    };
    // A panic must not unwind into the parent's frames, of which this process has a copy.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(Ok(value)) => {
            gate.lane.value.store(value, Relaxed);
            0
        }
        Ok(Err(error)) => {
            eprintln!("a runner failed: {error}");
            FAILED
        }
        Err(_) => FAILED,
    }
}

/// The children of one race: a process group, so that waiting for them takes nobody else's child.
struct Children {
    leader: Option<Pid>,
    alive: usize,
}

impl Children {
    fn add(&mut self, pid: Pid) -> Result<()> {
        self.alive += 1;
        let leader = *self.leader.get_or_insert(pid);
        // The child does the same. Whoever comes first, the group holds it from here on.
        Ok(setpgid(Some(pid), Some(leader))?)
    }

    /// Waits for one of them. That it failed is an error here, as the others would wait for it.
    fn reap(&mut self, options: WaitOptions) -> Result<()> {
        let Some(leader) = self.leader else { return Ok(()) };
        let Some((_, status)) = waitpgid(leader, options)? else { return Ok(()) };
        self.alive -= 1;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => Ok(()),
            (_, Some(signal)) => Err(format!("a runner was ended by signal {signal}").into()),
            _ => Err("a runner failed, see above".into()),
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        let Some(leader) = self.leader else { return };
        if self.alive > 0 {
            // That it fails means that nobody is left.
            kill_process_group(leader, Signal::KILL).ok();
        }
        while self.alive > 0 && waitpgid(leader, WaitOptions::empty()).is_ok() {
            self.alive -= 1;
        }
    }
}

/// Runs each runner in a thread, the i-th on the i-th CPU, and joins them all.
pub fn threads(runners: Vec<ThreadRunner<'_>>) -> Result<Finish> {
    let count = runners.len();
    assert!(count <= LANES);
    let cpus = cpus()?;
    let track = Track::default();
    std::thread::scope(|scope| {
        let handles: Vec<_> = runners
            .into_iter()
            .enumerate()
            .map(|(i, runner)| {
                let (gate, cpu) = (track.gate(i), cpus[i % cpus.len()]);
                scope.spawn(move || -> Result<()> {
                    pin(cpu)?;
                    let value = runner(&gate)?;
                    gate.lane.value.store(value, Relaxed);
                    Ok(())
                })
            })
            .collect();
        while !track.all_ready(count) && !handles.iter().any(|handle| handle.is_finished()) {
            sched_yield();
        }
        track.shot.0.store(1, Release);
        for handle in handles {
            handle.join().map_err(|_| "a thread panicked")??;
        }
        track.finish(count)
    })
}

/// The CPUs on which this process may run.
pub fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Keeps the calling thread on the first of the CPUs that it may use.
pub fn pin_to_first() -> Result<()> {
    pin(cpus()?[0])
}

/// Set in the environment, runners start on their CPUs and may then be moved.
pub const UNPINNED: &str = "PROCESSION_BENCHES_UNPINNED";

/// Brings the calling thread to a CPU and, unless that is unwanted, keeps it there.
fn pin(cpu: usize) -> Result<()> {
    let all = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one)?;
    if std::env::var_os(UNPINNED).is_some() {
        sched_setaffinity(None, &all)?;
    }
    Ok(())
}

/// Has the kernel end this process after so many seconds, whatever it is doing.
pub fn limit_lifetime(seconds: u32) -> Result<()> {
    // SAFETY: alarm only sets a timer; SIGALRM has its default action here, which ends the process.
    unsafe { libc::alarm(seconds) };
    Ok(())
}

/// Has the kernel kill this process when the thread that started it ends.
pub fn die_with_parent() -> std::result::Result<(), rustix::io::Errno> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
}

/// Nanoseconds on the clock that all processes share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(value: u64) -> Runner<'static> {
        Box::new(move |gate| {
            gate.start();
            gate.stop();
            Ok(value)
        })
    }

    #[test]
    fn threads_race() -> Result<()> {
        let lane = |value| -> ThreadRunner<'static> {
            Box::new(move |gate| {
                gate.start();
                gate.stop();
                Ok(value)
            })
        };
        assert_eq!(threads(vec![lane(1), lane(2), lane(3)])?.values, [1, 2, 3]);
        Ok(())
    }

    // libtest has two threads, and these children run nothing that the other could have locked.
    #[test]
    fn processes_race() -> Result<()> {
        let finish = processes(vec![runner(7), runner(8)])?;
        assert_eq!(finish.values, [7, 8]);
        assert!(finish.took < Duration::from_secs(RUNNER_SECONDS.into()));
        Ok(())
    }

    #[test]
    fn who_waits_for_a_dead_runner_is_killed() {
        let dies: Runner<'_> = Box::new(|gate| {
            gate.start();
            // SAFETY: ends this process.
            unsafe { libc::_exit(3) }
        });
        let waits: Runner<'_> = Box::new(|gate| {
            gate.start();
            loop {
                std::thread::park()
            }
        });
        assert!(processes(vec![dies, waits]).is_err());
    }
}
