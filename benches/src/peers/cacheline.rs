//! The bare ping-pong: a number written to a cache line, and answered there. No message between two CPUs is faster.
//!
//! One line for both directions: with one for each, every line moves twice a round, once to be read and once to be
//! written again, and that costs half as much again.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::Result;
use crate::harness::Timing;
use crate::shm::{Shared, Zeroed};
use crate::two;

#[repr(C, align(128))]
struct Line(AtomicU64);

// SAFETY: it is an atomic.
unsafe impl Zeroed for Line {}

impl Line {
    fn wait_for(&self, value: u64) {
        while self.0.load(Acquire) != value {
            spin_loop();
        }
    }
}

/// `ops` round trips between two processes. Even numbers go there, odd ones come back.
pub fn round_trips(ops: u64) -> Result<Timing> {
    let line = Shared::<Line>::new()?;
    let finish = two::processes(vec![
        Box::new(|gate| {
            gate.start();
            for i in 1..=ops {
                line.0.store(i * 2, Release);
                line.wait_for(i * 2 + 1);
            }
            gate.stop();
            Ok(0)
        }),
        Box::new(|gate| {
            gate.start();
            for i in 1..=ops {
                line.wait_for(i * 2);
                line.0.store(i * 2 + 1, Release);
            }
            gate.stop();
            Ok(0)
        }),
    ])?;
    Ok(Timing { ops, took: finish.took })
}
