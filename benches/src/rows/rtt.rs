//! A number there and back between two processes that spin.

use crate::harness::{Row, duel};
use crate::peers::{cacheline, iceoryx};

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "rtt.spin",
            peer: "a bare cache line",
            target: 1.15,
            note: "two processes on both sides; the peer is no queue: one word, overwritten by each answer",
            run: |plan| duel(plan, cacheline::one_line, cacheline::one_line),
        },
        Row {
            name: "rtt.spin.two_lines",
            peer: "two bare cache lines, one for each direction",
            target: 1.15,
            note: "two processes on both sides; the peer is the least that two channels need",
            run: |plan| duel(plan, cacheline::one_line, cacheline::two_lines),
        },
        Row {
            name: "rtt.spin.iceoryx2",
            peer: "iceoryx2 publish-subscribe",
            target: 1.0,
            note: "two processes on both sides",
            run: |plan| duel(plan, cacheline::one_line, iceoryx::round_trips),
        },
    ]
}
