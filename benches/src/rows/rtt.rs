//! A number there and back between two processes that spin.

use crate::harness::{Row, duel};
use crate::peers::{cacheline, iceoryx};

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "rtt.spin",
            peer: "a bare cache line",
            target: 1.15,
            note: "two processes on both sides; the peer is no queue: it is what the hardware needs",
            run: |plan| duel(plan, cacheline::round_trips, cacheline::round_trips),
        },
        Row {
            name: "rtt.spin.iceoryx2",
            peer: "iceoryx2 publish-subscribe",
            target: 1.0,
            note: "two processes on both sides",
            run: |plan| duel(plan, cacheline::round_trips, iceoryx::round_trips),
        },
    ]
}
