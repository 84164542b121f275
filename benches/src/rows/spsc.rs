//! Numbers through a ring with one producer and one consumer.

use crate::Result;
use crate::harness::{Duel, Plan, Row, duel};
use crate::peers::ring;

const NOTE: &str =
    "ours between two processes and blocking, the peer between two threads that spin";

pub fn rows() -> Vec<Row> {
    vec![
        Row { name: "spsc.u64", peer: "rtrb", target: 1.0, note: NOTE, run: one_by_one },
        Row { name: "spsc.batch256", peer: "rtrb, chunks", target: 1.1, note: NOTE, run: batches },
    ]
}

fn one_by_one(plan: Plan) -> Result<Duel> {
    duel(plan, ring::one_by_one, ring::one_by_one)
}

fn batches(plan: Plan) -> Result<Duel> {
    duel(plan, ring::chunks, ring::chunks)
}
