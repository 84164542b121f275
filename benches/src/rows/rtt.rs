//! A number there and back between two processes that spin.

use crate::Result;
use crate::harness::{Row, Timing, duel};
use crate::ours::Ground;
use crate::peers::{cacheline, iceoryx};
use crate::rows::spsc::ring;
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "rtt.spin",
            peer: "a bare cache line",
            target: 1.15,
            note: "two processes on both sides; the peer is no queue: one word, overwritten by each answer",
            run: |plan| duel(plan, ours, cacheline::one_line),
        },
        Row {
            name: "rtt.spin.two_lines",
            peer: "two bare cache lines, one for each direction",
            target: 1.15,
            note: "two processes on both sides; the peer is the least that two channels need",
            run: |plan| duel(plan, ours, cacheline::two_lines),
        },
        Row {
            name: "rtt.spin.iceoryx2",
            peer: "iceoryx2 publish-subscribe",
            target: 1.0,
            note: "two processes on both sides",
            run: |plan| duel(plan, ours, iceoryx::round_trips),
        },
    ]
}

/// Two rings between two processes, with the calls that block.
fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let (there, back) = (ring(&ground)?, ring(&ground)?);
    let finish = two::processes(vec![
        Box::new(|gate| {
            let (questions, answers) =
                (there.producer(seat.member())?, back.consumer(seat.member())?);
            gate.start();
            for i in 1..=ops {
                questions.push(i)?;
                if answers.pop()? != i {
                    return Err("another number came back".into());
                }
            }
            gate.stop();
            Ok(0)
        }),
        Box::new(|gate| {
            let (questions, answers) =
                (there.consumer(seat.member())?, back.producer(seat.member())?);
            gate.start();
            for _ in 0..ops {
                answers.push(questions.pop()?)?;
            }
            gate.stop();
            Ok(0)
        }),
    ])?;
    Ok(Timing { ops, took: finish.took })
}
