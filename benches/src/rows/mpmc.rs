//! Numbers through a queue with many producers and many consumers.

use procession_core::queue::SlotQueue;

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::{Ground, settle};
use crate::peers::{array_queue, channel};
use crate::rows::{CAPACITY, compare, weigh};
use crate::two::{self, Runner};

const NOTE: &str =
    "ours between processes and blocking, the peer between threads that spin and then yield";

pub fn rows() -> Vec<Row> {
    let peer = "crossbeam ArrayQueue";
    vec![
        Row { name: "mpmc.1p1c", peer, target: 0.9, note: NOTE, run: |plan| pairs(plan, 1) },
        Row { name: "mpmc.2p2c", peer, target: 1.1, note: NOTE, run: |plan| pairs(plan, 2) },
        Row { name: "mpmc.4p4c", peer, target: 1.1, note: NOTE, run: |plan| pairs(plan, 4) },
        Row {
            name: "mpmc.blocking.2p2c",
            peer: "crossbeam-channel, bounded",
            target: 0.8,
            note: "ours between processes, the peer between threads; both block",
            run: |plan| duel(plan, |ops| ours(2, ops), |ops| channel::many_to_many(2, ops)),
        },
    ]
}

fn pairs(plan: Plan, pairs: u64) -> Result<Duel> {
    duel(plan, |ops| ours(pairs, ops), |ops| array_queue::many_to_many(pairs, ops))
}

fn ours(pairs: u64, ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let at = ground.reserve(SlotQueue::<u64>::bytes_for(CAPACITY as u64))?;
    let queue = SlotQueue::<u64>::create(ground.region(), at, CAPACITY as u64)?;
    let each = ops.div_ceil(pairs);
    let (queue, seat) = (&queue, &seat);
    let producers = (0..pairs).map(|p| -> Runner<'_> {
        Box::new(move |gate| {
            let me = seat.member();
            settle(me)?;
            gate.start();
            for i in p * each..(p + 1) * each {
                queue.push(me, i)?;
            }
            gate.stop();
            Ok((p * each..(p + 1) * each).fold(0, |sum, i| sum.wrapping_add(weigh(i))))
        })
    });
    let consumers = (0..pairs).map(|_| -> Runner<'_> {
        Box::new(move |gate| {
            let me = seat.member();
            settle(me)?;
            let mut sum = 0u64;
            gate.start();
            for _ in 0..each {
                sum = sum.wrapping_add(weigh(queue.pop(me)?));
            }
            gate.stop();
            Ok(sum)
        })
    });
    let finish = two::processes(producers.chain(consumers).collect())?;
    compare(&finish.values)?;
    Ok(Timing { ops: each * pairs, took: finish.took })
}
