//! Killing and stopping processes at random, under load.
//!
//! `cargo test --test kills`: four processes increment one counter under one lock, a million times
//! together (`KILLS=full`: ten million), and a hundred times one of them, chosen at random, is killed
//! and replaced. What was acknowledged must be there, and nothing more than what was in the hands of the
//! dead.

#[path = "death/engine/child.rs"]
#[allow(dead_code)]
mod child;
#[path = "death/engine/memory.rs"]
#[allow(dead_code)]
mod memory;

use std::process::ExitCode;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use procession_core::region::{Fixed, Membership, Options, Region};
use procession_core::sync::{AcquireError, Lock};
use procession_core::sys::Deadline;
use rustix::process::{Pid, Signal, kill_process};

use child::{Child, Ending};
use memory::Memory;

const WORKERS: usize = 4;
const KILLS: u32 = 100;
/// Without progress for so long, somebody waits for the dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// A test says what it did, or what went wrong.
type Test = fn() -> Result<String, String>;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).filter(|word| word != "--exact");
    let filter = words.find(|word| word == "--list" || !word.starts_with('-')).unwrap_or_default();
    let tests: [(&str, Test); 2] = [("increments", increments), ("stopped_holder", stopped_holder)];
    let mut code = ExitCode::SUCCESS;
    for (name, test) in tests {
        if filter == "--list" {
            if !std::env::args().any(|word| word == "--ignored") {
                println!("{name}: test");
            }
        } else if name.contains(&filter) {
            match test() {
                Ok(said) => println!("test {name} ... ok: {said}"),
                Err(error) => {
                    println!("test {name} ... FAILED: {error}");
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    code
}

/// A lock and what it protects, in memory that forked processes share.
struct Shared {
    seat: Membership<'static>,
    lock: &'static Lock,
    /// Under the lock, changed by a load and a store: two holders at a time would show.
    counter: &'static AtomicU64,
    /// Under the lock: how much of it each worker has added.
    added: &'static [AtomicU64],
    /// What each worker has been told, written after the lock was given back.
    acknowledged: &'static [AtomicU64],
    /// How often the lock came with the news of a death.
    news: &'static AtomicU64,
}

impl Shared {
    fn new() -> Result<Shared, String> {
        const LEN: usize = 1 << 20;
        let base = NonNull::new(Memory::new(LEN).start()).ok_or("no memory")?;
        // SAFETY: the memory is fresh, zeroed, never unmapped, and nobody else knows it yet.
        let region = unsafe { Region::create(base, LEN as u64, Options::default(), &Fixed) };
        let region = region.map_err(|e| e.to_string())?;
        let at = |offset: u64| LEN as u64 - 0x10000 + offset;
        let words = |offset, count| region.objects(at(offset), count).map_err(|e| e.to_string());
        Ok(Shared {
            seat: region.join().map_err(|e| e.to_string())?,
            lock: region.object(at(0)).map_err(|e| e.to_string())?,
            counter: region.object(at(0x1000)).map_err(|e| e.to_string())?,
            added: words(0x2000, WORKERS as u64)?,
            acknowledged: words(0x3000, WORKERS as u64)?,
            news: region.object(at(0x4000)).map_err(|e| e.to_string())?,
        })
    }

    /// Increments until the counter is at `target`.
    fn work(&self, worker: usize, target: u64) -> Result<(), String> {
        let me = self.seat.member();
        loop {
            let guard = match self.lock.acquire_until(me, Deadline::after(PATIENCE)) {
                Ok(guard) => guard,
                Err(AcquireError::OwnerDied(died)) => {
                    let mut guard = died.into_guard();
                    let sum = self.added.iter().map(|added| added.load(Relaxed)).sum();
                    self.counter.store(sum, Relaxed);
                    self.news.fetch_add(1, Relaxed);
                    guard.mark_consistent();
                    guard
                }
                Err(error) => return Err(format!("worker {worker}: {error}")),
            };
            let count = self.counter.load(Relaxed);
            if count >= target {
                return Ok(());
            }
            self.counter.store(count + 1, Relaxed);
            self.added[worker].store(self.added[worker].load(Relaxed) + 1, Relaxed);
            drop(guard);
            self.acknowledged[worker].store(self.acknowledged[worker].load(Relaxed) + 1, SeqCst);
        }
    }
}

fn increments() -> Result<String, String> {
    let target = match std::env::var("KILLS").as_deref() {
        Ok("full") => 10_000_000,
        _ => 1_000_000,
    };
    let shared = Shared::new()?;
    let start = |worker| Child::start(|| shared.work(worker, target).map(|()| Vec::new()));
    let mut workers = (0..WORKERS).map(start).collect::<Result<Vec<_>, _>>()?;
    let mut killed = [0; WORKERS];
    let mut random = Random::new();
    for turn in 1..=u64::from(KILLS) {
        // A kill for each hundredth of the way, at a random moment after it.
        let mut progress = (Instant::now(), 0);
        while shared.counter.load(Relaxed) < turn * target / u64::from(KILLS + 1) {
            let count = shared.counter.load(Relaxed);
            if count != progress.1 {
                progress = (Instant::now(), count);
            } else if progress.0.elapsed() > PATIENCE {
                return Err(format!("stuck at {count}, after {} kills", turn - 1));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        std::thread::sleep(Duration::from_nanos(random.next() % 50_000));
        let victim = random.next() as usize % WORKERS;
        // A zombie for a moment, then reaped and replaced.
        workers[victim].kill()?;
        killed[victim] += 1;
        workers[victim] = start(victim)?;
    }
    let deadline = Instant::now() + PATIENCE * 6;
    for worker in workers {
        match worker.finish(deadline)? {
            Ending::Done(_) => {}
            Ending::Failed(complaint) => return Err(complaint),
            Ending::Late => return Err("a worker does not end".into()),
        }
    }

    let count = shared.counter.load(SeqCst);
    let mut added = 0;
    for (worker, killed) in killed.into_iter().enumerate() {
        let own = shared.added[worker].load(SeqCst);
        let acknowledged = shared.acknowledged[worker].load(SeqCst);
        if !(acknowledged..=acknowledged + killed).contains(&own) {
            return Err(format!(
                "worker {worker}: {acknowledged} acknowledged, {own} there, {killed} kills"
            ));
        }
        added += own;
    }
    if count != added || count != target {
        return Err(format!("the counter is {count}, {added} were added, {target} wanted"));
    }
    let news = shared.news.load(SeqCst);
    Ok(format!("{count} increments, {KILLS} kills, {news} of them of a holder"))
}

/// A holder that is stopped for two seconds keeps its lock.
fn stopped_holder() -> Result<String, String> {
    let shared = Shared::new()?;
    let holder = Child::start(|| {
        let guard = shared.lock.acquire(shared.seat.member()).map_err(|e| e.to_string())?;
        shared.counter.store(1, SeqCst);
        let deadline = Instant::now() + PATIENCE;
        while shared.counter.load(SeqCst) != 2 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        drop(guard);
        Ok(Vec::new())
    })?;
    let deadline = Instant::now() + PATIENCE;
    while shared.counter.load(SeqCst) != 1 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(holder.pid()).ok_or("no pid")?;
    kill_process(pid, Signal::STOP).map_err(|e| e.to_string())?;
    let me = shared.seat.member();
    match shared.lock.acquire_until(me, Deadline::after(Duration::from_secs(2))) {
        Err(AcquireError::TimedOut) => {}
        Ok(_) | Err(AcquireError::OwnerDied(_)) => return Err("the lock was stolen".into()),
        Err(error) => return Err(error.to_string()),
    }
    kill_process(pid, Signal::CONT).map_err(|e| e.to_string())?;
    shared.counter.store(2, SeqCst);
    match shared.lock.acquire_until(me, Deadline::after(PATIENCE)) {
        Ok(_) => {}
        Err(error) => return Err(error.to_string()),
    }
    match holder.finish(Instant::now() + PATIENCE)? {
        Ending::Done(_) => Ok("kept for 2 s, then given back".into()),
        Ending::Failed(complaint) => Err(complaint),
        Ending::Late => Err("the holder does not end".into()),
    }
}

/// Numbers that differ from run to run: xorshift, seeded by the clock.
struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(procession_core::sys::nanos() | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}
