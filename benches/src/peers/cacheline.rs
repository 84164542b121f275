//! The bare ping-pong: a number written to a cache line, and answered.
//!
//! In one line for both directions it is the least that the hardware needs: the line moves twice a round, and each
//! answer overwrites its question. Two channels, one for each direction, need a line each, and each of these has to
//! come back to its writer as well: that takes half as long again.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::Result;
use crate::harness::Timing;
use crate::shm::{Shared, Zeroed};
use crate::two;

#[repr(C, align(128))]
struct Line(AtomicU64);

/// A line for each direction.
#[repr(C)]
struct Lines {
    there: Line,
    back: Line,
}

// SAFETY: they are atomics.
unsafe impl Zeroed for Lines {}

impl Line {
    fn wait_for(&self, value: u64) {
        while self.0.load(Acquire) != value {
            spin_loop();
        }
    }
}

/// `ops` round trips in one line between two processes. Even numbers go there, odd ones come back.
pub fn one_line(ops: u64) -> Result<Timing> {
    let lines = Shared::<Lines>::new()?;
    between(ops, &lines.there, &lines.there, |i| i * 2, |i| i * 2 + 1)
}

/// `ops` round trips between two processes, each direction in a line of its own.
pub fn two_lines(ops: u64) -> Result<Timing> {
    let lines = Shared::<Lines>::new()?;
    between(ops, &lines.there, &lines.back, |i| i, |i| i)
}

/// The i-th question goes through one line, its answer through the other.
fn between(
    ops: u64,
    there: &Line,
    back: &Line,
    question: impl Fn(u64) -> u64,
    answer: impl Fn(u64) -> u64,
) -> Result<Timing> {
    let finish = two::processes(vec![
        Box::new(|gate| {
            gate.start();
            for i in 1..=ops {
                there.0.store(question(i), Release);
                back.wait_for(answer(i));
            }
            gate.stop();
            Ok(0)
        }),
        Box::new(|gate| {
            gate.start();
            for i in 1..=ops {
                there.wait_for(question(i));
                back.0.store(answer(i), Release);
            }
            gate.stop();
            Ok(0)
        }),
    ])?;
    Ok(Timing { ops, took: finish.took })
}
