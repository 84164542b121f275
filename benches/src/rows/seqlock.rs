//! A value that is read far more often than written.

use procession_core::sync::SeqLock;

use crate::Result;
use crate::harness::{Row, Timing, duel};
use crate::ours::{Ground, settle};
use crate::peers::load;
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "seqlock.read",
        peer: "a relaxed load",
        target: 3.0,
        note: "8 bytes on both sides, one thread; ours reads values of any size as one",
        run: |plan| {
            two::pin_to_first()?;
            duel(plan, ours, load::of_u64)
        },
    }]
}

fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    settle(seat.member())?;
    let cell = ground.object::<SeqLock<u64>>()?;
    cell.set(seat.member(), 1)?;
    load::each(ops, cell, |cell| cell.get())
}
