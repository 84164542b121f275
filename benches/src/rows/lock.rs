//! A lock: taken, a counter raised, given back.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use procession_core::region::Member;
use procession_core::sync::Lock;

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::{Ground, settle};
use crate::peers::pthread::mutex::{self, Kind};
use crate::peers::python::Python;
use crate::rows::counted;
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "lock.uncontended",
            peer: "std::sync::Mutex",
            target: 0.65,
            note: "ours works across processes and survives its holder's death, the peer does neither",
            run: uncontended,
        },
        Row {
            name: "lock.uncontended.robust",
            peer: "pthread mutex, process-shared and robust",
            target: 0.5,
            note: "",
            run: uncontended_robust,
        },
        Row {
            name: "lock.contended2",
            peer: "pthread mutex, process-shared",
            target: 0.6,
            note: "two processes; the peer is not robust: who waits for its dead holder waits forever",
            run: |plan| contended(plan, 2),
        },
        Row {
            name: "lock.contended8",
            peer: "pthread mutex, process-shared",
            target: 0.8,
            note: "eight processes on all CPUs, in batches ten times as long, as they have to take turns on a CPU",
            run: |plan| contended(plan.longer(), 8),
        },
        Row {
            name: "lock.python",
            peer: "multiprocessing.Lock",
            target: 0.15,
            note: "one process; the peer's time is mostly its interpreter's",
            run: python,
        },
    ]
}

fn uncontended(plan: Plan) -> Result<Duel> {
    two::pin_to_first()?;
    duel(plan, ours, std_mutex)
}

fn uncontended_robust(plan: Plan) -> Result<Duel> {
    two::pin_to_first()?;
    duel(plan, ours, |ops| mutex::uncontended(Kind::Robust, ops))
}

fn contended(plan: Plan, processes: u64) -> Result<Duel> {
    duel(plan, |ops| ours_contended(processes, ops), |ops| mutex::contended(processes, ops))
}

/// Through the handle that a program has, as the peer is a program's.
fn python(plan: Plan) -> Result<Duel> {
    let mut python = Python::lock()?;
    two::pin_to_first()?;
    duel(plan, handle, |ops| python.run(ops))
}

/// Our lock and what it protects, on one cache line of shared memory.
struct Ours<'r> {
    lock: &'r Lock,
    count: *mut u64,
}

impl<'r> Ours<'r> {
    fn new(ground: &'r Ground) -> Result<Self> {
        let place = ground.place(size_of::<Lock>() + size_of::<u64>())?;
        // SAFETY: the place is zeroed, aligned, large enough for both, and lives as long as the ground. Zeroes are
        // a free lock.
        unsafe {
            Ok(Self {
                lock: place.cast::<Lock>().as_ref(),
                count: place.add(size_of::<Lock>()).cast().as_ptr(),
            })
        }
    }

    fn add(&self, me: Member<'_>, times: u64) -> Result<()> {
        for _ in 0..times {
            let ours = black_box(self);
            let _guard = ours.lock.acquire(me).map_err(|error| error.to_string())?;
            // SAFETY: the place is mapped, and only touched while the lock is held.
            unsafe { *ours.count += 1 };
        }
        Ok(())
    }

    fn get(&self) -> u64 {
        // SAFETY: a read that no write overlaps, as those who count are done.
        unsafe { *self.count }
    }
}

fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let counter = Ours::new(&ground)?;
    let start = Instant::now();
    counter.add(seat.member(), ops)?;
    let took = start.elapsed();
    counted(counter.get(), ops)?;
    Ok(Timing { ops, took })
}

fn ours_contended(processes: u64, ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let counter = Ours::new(&ground)?;
    let each = ops.div_ceil(processes);
    let runner = |_| -> two::Runner<'_> {
        Box::new(|gate| {
            settle(seat.member())?;
            gate.start();
            counter.add(seat.member(), each)?;
            gate.stop();
            Ok(0)
        })
    };
    let finish = two::processes((0..processes).map(runner).collect())?;
    counted(counter.get(), each * processes)?;
    Ok(Timing { ops: each * processes, took: finish.took })
}

fn handle(ops: u64) -> Result<Timing> {
    let lock = procession::Lock::new()?;
    let mut count = 0;
    let start = Instant::now();
    for _ in 0..ops {
        let _guard = black_box(&lock).acquire().map_err(|error| error.to_string())?;
        count = black_box(count + 1);
    }
    let took = start.elapsed();
    counted(count, ops)?;
    Ok(Timing { ops, took })
}

fn std_mutex(ops: u64) -> Result<Timing> {
    let mutex = Mutex::new(0u64);
    let start = Instant::now();
    for _ in 0..ops {
        let mutex = black_box(&mutex);
        *mutex.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
    let took = start.elapsed();
    counted(mutex.into_inner()?, ops)?;
    Ok(Timing { ops, took })
}
