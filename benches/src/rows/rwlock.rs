//! A lock of readers and writers: taken for reading, a number read, given back.

use std::hint::black_box;
use std::time::Instant;

use procession_core::sync::RwLock;

use crate::Result;
use crate::harness::{Row, Timing, duel};
use crate::ours::{Beside, Ground};
use crate::peers::{parking, pthread};
use crate::rows::counted;
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "rwlock.read",
            peer: "parking_lot RwLock",
            target: 0.8,
            note: "one thread; ours works across processes and sweeps readers that died, the peer does neither",
            run: |plan| {
                two::pin_to_first()?;
                duel(plan, ours, parking::read)
            },
        },
        Row {
            name: "rwlock.read.pthread",
            peer: "pthread rwlock, process-shared",
            target: 0.5,
            note: "one thread; a reader that dies keeps the peer's writers out for ever",
            run: |plan| {
                two::pin_to_first()?;
                duel(plan, ours, pthread::rwlock::read)
            },
        },
    ]
}

fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let lock = ground.object::<Beside<RwLock>>()?;
    // SAFETY: nobody else knows it yet.
    unsafe { lock.number.raise() };
    let me = seat.member();
    let mut sum = 0;
    let start = Instant::now();
    for _ in 0..ops {
        let lock = black_box(lock);
        let _guard = lock.it.read(me).map_err(|error| error.to_string())?;
        // SAFETY: nobody writes while somebody reads.
        sum += unsafe { lock.number.get() };
    }
    let took = start.elapsed();
    counted(sum, ops)?;
    Ok(Timing { ops, took })
}
