//! Numbers through a queue with many producers and many consumers.

use crate::Result;
use crate::harness::{Duel, Plan, Row, duel};
use crate::peers::array_queue;

const NOTE: &str =
    "ours between processes and blocking, the peer between threads that spin and then yield";

pub fn rows() -> Vec<Row> {
    let peer = "crossbeam ArrayQueue";
    vec![
        Row { name: "mpmc.1p1c", peer, target: 1.0, note: NOTE, run: |plan| pairs(plan, 1) },
        Row { name: "mpmc.2p2c", peer, target: 1.3, note: NOTE, run: |plan| pairs(plan, 2) },
    ]
}

fn pairs(plan: Plan, pairs: u64) -> Result<Duel> {
    duel(
        plan,
        |ops| array_queue::many_to_many(pairs, ops),
        |ops| array_queue::many_to_many(pairs, ops),
    )
}
