//! Some processes use every type at random, while they are killed, stopped and continued at random. At the end everything
//! must add up, exactly.
//!
//! `cargo test --test soak`: 8 processes, 8 seconds. Five minutes: `SOAK=full cargo test --release --test soak`; `SOAK=60`
//! for as many seconds. What happens when is left to the machine, but what each process does next comes from a seed,
//! which is printed; `SOAK_SEED=...` takes it again.
//!
//! A *ground* is an object, or some, with a ledger beside it, in memory of which the tested code knows nothing. Each step on
//! it is one use. Each use is written down before it is begun, and again when it is acknowledged; so at a death exactly one
//! use may be there or not, and the audit allows that many and no more.
//!
//! Nobody may be stuck: each process says when it has made a step, and if one that is not stopped makes none for
//! [`PATIENCE`], the soak fails and says at what.

mod billion;
mod conditions;
mod data;
mod flags;
mod ledger;
mod locks;
mod meetings;
mod permits;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "no test uses all of it")]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use ledger::Ledger;
use support::random::Random;
use support::{Child, Word};

/// How many processes there are at a time.
const SLOTS: usize = 8;
/// Who makes no step for so long waits for the dead.
const PATIENCE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    let limit = time().max(Duration::from_secs(300)) + PATIENCE * 4;
    support::run_within(
        4 * limit,
        &[("everything_at_random", soak), ("a_stream_of_messages", billion::soak)],
    )
}

/// Of so many things that are used up one after the other, the one whose time it is.
fn turn(begin: Instant, count: usize) -> usize {
    let share = begin.elapsed().as_secs_f64() / time().as_secs_f64();
    ((share * count as f64) as usize).min(count - 1)
}

/// How long it lasts.
fn time() -> Duration {
    match std::env::var("SOAK").as_deref() {
        Ok("full") => Duration::from_secs(300),
        Ok(seconds) => Duration::from_secs(seconds.parse().expect("SOAK: full, or seconds")),
        Err(_) => Duration::from_secs(8),
    }
}

/// One of the processes.
struct Worker {
    slot: usize,
    random: Random,
}

/// Some objects of a kind, and what is known of them.
trait Ground {
    /// For people.
    fn name(&self) -> &'static str;
    /// Uses them once, in the process of a worker. What it must not see, it panics over.
    fn step(&self, worker: &mut Worker);
    /// The process of this slot will be killed.
    fn condemn(&self, _slot: usize) {}
    /// It is dead, and was in the midst of a step on this ground, or had just ended one.
    fn bury(&self, _slot: usize) {}
    /// All shall end: wakes those who wait without a limit.
    fn last_call(&self) {}
    /// All have ended. `kills`: how often the process of each slot was killed on this ground.
    fn audit(&self, kills: &[u64; SLOTS]) -> Vec<String>;
}

fn grounds() -> Vec<Box<dyn Ground>> {
    vec![
        Box::new(locks::Locks::new()),
        Box::new(locks::Mutexes::new()),
        Box::new(flags::Events::new()),
        Box::new(flags::Choices::new()),
        Box::new(data::RwLocks::new()),
        Box::new(data::RwDatas::new()),
        Box::new(data::SeqLocks::new()),
        Box::new(data::Atomics::new()),
        Box::new(locks::RLocks::new()),
        Box::new(permits::Permits::new()),
        Box::new(permits::Units::new()),
        Box::new(meetings::Latches::new()),
        Box::new(meetings::Meetings::new()),
        Box::new(meetings::Onces::new()),
        Box::new(conditions::Stock::new()),
        Box::new(conditions::Stock::with_lock()),
    ]
}

/// What is known of the processes.
struct Processes {
    seed: u64,
    grounds: Vec<Box<dyn Ground>>,
    /// Of each slot: steps made, and the ground of the present one.
    steps: Ledger,
    places: Ledger,
    /// The ground to which most go now.
    hot: Word,
    stop: Word,
}

impl Processes {
    fn start(&self, slot: usize, life: u64) -> Child {
        Child::start(|| {
            let _ = rustix::process::setpriority_process(None, 0);
            let random = Random::new(self.seed ^ (slot as u64) << 32 ^ life << 40);
            let mut worker = Worker { slot, random };
            while self.stop.get() == 0 {
                // Many meet at one ground, others are anywhere.
                let ground = match worker.random.one_in(3) {
                    true => worker.random.below(self.grounds.len() as u64),
                    false => self.hot.get(),
                };
                self.places.set(slot, ground);
                // For a while, so that each ground has its share of the time, and of the deaths.
                let end = Instant::now() + worker.random.micros(1000);
                while self.stop.get() == 0 && Instant::now() < end {
                    self.grounds[ground as usize].step(&mut worker);
                    self.steps.add(slot, 1);
                }
            }
        })
    }

    /// Where the process of this slot is.
    fn place(&self, slot: usize) -> &dyn Ground {
        &*self.grounds[self.places.get(slot) as usize]
    }
}

/// What the supervisor knows of one slot.
struct Slot {
    child: Child,
    lives: u64,
    stopped_until: Option<Instant>,
    /// Its steps, and since when.
    progress: (u64, Instant),
}

fn soak() {
    let seed = match std::env::var("SOAK_SEED") {
        Ok(seed) => seed.parse().expect("SOAK_SEED: a number"),
        Err(_) => procession_core::sys::nanos() % 1_000_000,
    };
    println!("soak: SOAK_SEED={seed}");
    // Who kills has to get its turn; where that is not allowed, fewer are killed.
    let _ = rustix::process::setpriority_process(None, -15);
    let mut random = Random::new(seed);
    let processes = Processes {
        seed,
        grounds: grounds(),
        steps: Ledger::new(),
        places: Ledger::new(),
        hot: Word::new(),
        stop: Word::new(),
    };
    let begin = |slot, lives| Slot {
        child: processes.start(slot, lives),
        lives,
        stopped_until: None,
        progress: (0, Instant::now()),
    };
    let mut slots: [Slot; SLOTS] = std::array::from_fn(|slot| begin(slot, 0));
    let mut kills = vec![[0; SLOTS]; processes.grounds.len()];
    let (mut killed, mut stopped) = (0, 0);
    let end = Instant::now() + time();
    while Instant::now() < end {
        std::thread::sleep(random.micros(8000));
        watch(&processes, &mut slots);
        processes.hot.set(random.below(processes.grounds.len() as u64));
        let at = random.below(SLOTS as u64) as usize;
        let slot = &mut slots[at];
        if random.one_in(3) {
            if slot.stopped_until.is_none() {
                slot.child.signal(Signal::STOP);
                slot.stopped_until = Some(Instant::now() + random.micros(60_000));
                stopped += 1;
            }
            continue;
        }
        processes.grounds.iter().for_each(|ground| ground.condemn(at));
        slot.child.kill();
        killed += 1;
        // A zombie for a moment, or gone at once.
        let lives = slot.lives + 1;
        if random.one_in(2) {
            std::thread::sleep(random.micros(500));
        }
        kills[processes.places.get(at) as usize][at] += 1;
        processes.grounds.iter().for_each(|ground| ground.bury(at));
        *slot = begin(at, lives);
    }

    // Everybody ends; those who wait for something that will not come are told.
    processes.stop.set(1);
    for slot in &slots {
        slot.child.signal(Signal::CONT);
    }
    for ground in &processes.grounds {
        ground.last_call();
    }
    let steps = (0..SLOTS).map(|slot| processes.steps.get(slot)).sum::<u64>();
    for (at, slot) in slots.into_iter().enumerate() {
        support::eventually(
            &format!("process {at} ends, at {}", processes.place(at).name()),
            || slot.child.has_ended(),
        );
        slot.child.finish();
    }
    let mut complaints = Vec::new();
    for (ground, kills) in processes.grounds.iter().zip(&kills) {
        for complaint in ground.audit(kills) {
            complaints.push(format!("{}: {complaint}", ground.name()));
        }
    }
    println!("soak: {steps} steps, {killed} kills, {stopped} stops; kills at");
    for (ground, kills) in processes.grounds.iter().zip(&kills) {
        println!("    {} {}", ground.name(), kills.iter().sum::<u64>());
    }
    assert!(complaints.is_empty(), "SOAK_SEED={seed}:\n{}", complaints.join("\n"));
}

/// Continues those whose time has come, and looks for whom nothing happens to.
fn watch(processes: &Processes, slots: &mut [Slot; SLOTS]) {
    let now = Instant::now();
    for (at, slot) in slots.iter_mut().enumerate() {
        let place = processes.place(at).name();
        assert!(!slot.child.has_ended(), "process {at} ended by itself, at {place}");
        if slot.stopped_until.is_some_and(|until| until < now) {
            slot.child.signal(Signal::CONT);
            slot.stopped_until = None;
        }
        let steps = processes.steps.get(at);
        if steps != slot.progress.0 || slot.stopped_until.is_some() {
            slot.progress = (steps, now);
        }
        let since = slot.progress.1.elapsed();
        assert!(since < PATIENCE, "process {at} is stuck, since {since:?}, at {place}");
    }
}
