//! A semaphore: its unit taken, a counter raised, given back.

use std::hint::black_box;
use std::time::Instant;

use procession_core::sync::Semaphore;

use crate::Result;
use crate::harness::{Row, Timing, duel};
use crate::ours::{Ground, Number};
use crate::peers::pthread::semaphore;
use crate::rows::counted;
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "semaphore.uncontended",
        peer: "sem_t, process-shared",
        target: 0.8,
        note: "ours as a guard, which comes back when its holder dies; the peer's unit is then lost",
        run: |plan| {
            two::pin_to_first()?;
            duel(plan, ours, semaphore::uncontended)
        },
    }]
}

fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let semaphore = Semaphore::create(ground.place(Semaphore::bytes_for(1)?)?, 1)?;
    let number = ground.object::<Number>()?;
    let me = seat.member();
    let start = Instant::now();
    for _ in 0..ops {
        let (semaphore, number) = black_box((&semaphore, number));
        let _permit = semaphore.acquire(me)?;
        // SAFETY: the number is only touched with the one unit in hand.
        unsafe { number.raise() };
    }
    let took = start.elapsed();
    // SAFETY: nobody else counts.
    counted(unsafe { number.get() }, ops)?;
    Ok(Timing { ops, took })
}
