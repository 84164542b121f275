//! A lock: taken, a counter raised, given back.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use procession_core::region::Member;
use procession_core::sync::Lock;

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::{Beside, Ground, settle};
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

/// Takes the lock, adds 1, and gives it back, `times` times.
fn add(lock: &Beside<Lock>, me: Member<'_>, times: u64) -> Result<()> {
    for _ in 0..times {
        let lock = black_box(lock);
        let _guard = lock.it.acquire(me).map_err(|error| error.to_string())?;
        // SAFETY: the number is only touched while the lock is held.
        unsafe { lock.number.raise() };
    }
    Ok(())
}

fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let lock = ground.object::<Beside<Lock>>()?;
    let start = Instant::now();
    add(lock, seat.member(), ops)?;
    let took = start.elapsed();
    // SAFETY: who counted is done.
    counted(unsafe { lock.number.get() }, ops)?;
    Ok(Timing { ops, took })
}

fn ours_contended(processes: u64, ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let lock = ground.object::<Beside<Lock>>()?;
    let each = ops.div_ceil(processes);
    let runner = |_| -> two::Runner<'_> {
        Box::new(|gate| {
            settle(seat.member())?;
            gate.start();
            add(lock, seat.member(), each)?;
            gate.stop();
            Ok(0)
        })
    };
    let finish = two::processes((0..processes).map(runner).collect())?;
    // SAFETY: those who counted are done.
    counted(unsafe { lock.number.get() }, each * processes)?;
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
