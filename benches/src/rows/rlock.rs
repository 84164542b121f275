//! A lock that its holder may take again: taken once, a counter raised, given back.

use std::hint::black_box;
use std::time::Instant;

use procession_core::sync::RLock;

use crate::Result;
use crate::harness::{Row, Timing, duel};
use crate::ours::{Beside, Ground};
use crate::peers::pthread::mutex::{self, Kind};
use crate::rows::counted;
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "rlock.uncontended",
        peer: "pthread mutex, process-shared and recursive",
        target: 0.7,
        note: "one level on both sides; ours survives its holder's death, the peer does not",
        run: |plan| {
            two::pin_to_first()?;
            duel(plan, ours, |ops| mutex::uncontended(Kind::Recursive, ops))
        },
    }]
}

fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let lock = ground.object::<Beside<RLock>>()?;
    let me = seat.member();
    let start = Instant::now();
    for _ in 0..ops {
        let lock = black_box(lock);
        let _guard = lock.it.acquire(me).map_err(|error| error.to_string())?;
        // SAFETY: the number is only touched while the lock is held.
        unsafe { lock.number.raise() };
    }
    let took = start.elapsed();
    // SAFETY: nobody else counts.
    counted(unsafe { lock.number.get() }, ops)?;
    Ok(Timing { ops, took })
}
