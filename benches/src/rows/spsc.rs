//! Numbers through a ring with one producer and one consumer.

use procession_core::queue::SpscRing;
use procession_core::sys::Deadline;

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::Ground;
use crate::peers::ring;
use crate::rows::{BATCH, CAPACITY, Checksum, compare, fill};
use crate::two;

const NOTE: &str =
    "ours between two processes and blocking, the peer between two threads that spin";

pub fn rows() -> Vec<Row> {
    vec![
        Row { name: "spsc.u64", peer: "rtrb", target: 0.9, note: NOTE, run: one_by_one },
        Row { name: "spsc.batch256", peer: "rtrb, chunks", target: 1.0, note: NOTE, run: batches },
    ]
}

fn one_by_one(plan: Plan) -> Result<Duel> {
    duel(plan, ours_one_by_one, ring::one_by_one)
}

fn batches(plan: Plan) -> Result<Duel> {
    duel(plan, ours_batches, ring::chunks)
}

/// A ring of ours in fresh memory.
pub fn ring(ground: &Ground) -> Result<SpscRing<'_, u64>> {
    let at = ground.reserve(SpscRing::<u64>::bytes_for(CAPACITY as u64))?;
    Ok(SpscRing::create(ground.region(), at, CAPACITY as u64)?)
}

fn ours_one_by_one(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let ring = ring(&ground)?;
    let finish = two::processes(vec![
        Box::new(|gate| {
            let producer = ring.producer(seat.member())?;
            gate.start();
            for i in 0..ops {
                producer.push(i)?;
            }
            gate.stop();
            Ok(Checksum::one_by_one(ops))
        }),
        Box::new(|gate| {
            let consumer = ring.consumer(seat.member())?;
            let mut sum = Checksum::default();
            gate.start();
            for _ in 0..ops {
                sum.add(consumer.pop()?);
            }
            gate.stop();
            Ok(sum.value())
        }),
    ])?;
    compare(&finish.values)?;
    Ok(Timing { ops, took: finish.took })
}

fn ours_batches(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let ring = ring(&ground)?;
    let batches = ops.div_ceil(BATCH as u64);
    let finish = two::processes(vec![
        Box::new(|gate| {
            let producer = ring.producer(seat.member())?;
            let mut items = [0; BATCH];
            gate.start();
            for batch in 0..batches {
                fill(&mut items, batch);
                let mut put = 0;
                while put < BATCH {
                    put += producer.push_many(Deadline::NEVER, &items[put..])?;
                }
            }
            gate.stop();
            Ok(Checksum::batches(batches))
        }),
        Box::new(|gate| {
            let consumer = ring.consumer(seat.member())?;
            let mut items = [0; BATCH];
            let mut sum = Checksum::default();
            gate.start();
            for _ in 0..batches {
                let mut got = 0;
                while got < BATCH {
                    got += consumer.pop_many(Deadline::NEVER, &mut items[got..])?;
                }
                sum.add_batch(&[&items]);
            }
            gate.stop();
            Ok(sum.value())
        }),
    ])?;
    compare(&finish.values)?;
    Ok(Timing { ops: batches * BATCH as u64, took: finish.took })
}
