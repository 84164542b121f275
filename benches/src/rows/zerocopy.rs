//! Frames of four kilobytes from one process to another, written and read where they lie.

use procession::{BufferQueue, memory};

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::settle;
use crate::peers::iceoryx;
use crate::rows::{CAPACITY, counted};
use crate::two;

/// Bytes of a frame.
pub const BYTES: usize = 4096;

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "queue.zerocopy.4k",
        peer: "iceoryx2",
        target: 0.5,
        note: "two processes on both sides; of a frame both write and read the first and the last word",
        run: in_place,
    }]
}

/// What is written of a frame: enough to tell a lost, torn or displaced one.
pub struct Frame<'b>(&'b mut [u8]);

impl<'b> Frame<'b> {
    /// The frame in these bytes.
    pub fn over(bytes: &'b mut [u8]) -> Self {
        Self(bytes)
    }

    /// Writes a number at both ends.
    pub fn sign(self, number: u64) {
        let last = self.0.len() - 8;
        self.0[..8].copy_from_slice(&number.to_ne_bytes());
        self.0[last..].copy_from_slice(&(!number).to_ne_bytes());
    }

    /// Whether this number is there.
    pub fn is_signed(bytes: &[u8], number: u64) -> bool {
        bytes.len() == BYTES
            && bytes[..8] == number.to_ne_bytes()
            && bytes[BYTES - 8..] == (!number).to_ne_bytes()
    }
}

fn in_place(plan: Plan) -> Result<Duel> {
    duel(plan, ours, iceoryx::in_place)
}

fn ours(ops: u64) -> Result<Timing> {
    let queue = BufferQueue::bounded(CAPACITY)?;
    let finish = two::processes(vec![
        Box::new(|gate| {
            settle(memory::arena()?.member())?;
            gate.start();
            for i in 0..ops {
                let mut buffer = queue.reserve(BYTES)?;
                Frame::over(&mut buffer).sign(i);
                queue.put(buffer)?;
            }
            gate.stop();
            Ok(0)
        }),
        Box::new(|gate| {
            settle(memory::arena()?.member())?;
            let mut right = 0;
            gate.start();
            for i in 0..ops {
                right += u64::from(Frame::is_signed(&queue.get()?, i));
            }
            gate.stop();
            counted(right, ops)?;
            Ok(0)
        }),
    ])?;
    Ok(Timing { ops, took: finish.took })
}
