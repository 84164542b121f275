//! What another process may do to shared memory at any time.

use std::ops::Range;
use std::sync::atomic::Ordering;

use arbitrary::Arbitrary;

use crate::memory::Memory;

/// One stroke of damage, somewhere.
#[derive(Arbitrary, Clone, Debug)]
pub struct Damage {
    /// Which of the areas that matter.
    area: u8,
    at: u32,
    how: How,
}

#[derive(Arbitrary, Clone, Debug)]
enum How {
    Set(u64),
    Flip(u8),
    Add(i8),
    /// What lies elsewhere: states that are right in another place or at another time.
    CopyFrom(u32),
    Bytes(Vec<u8>),
}

impl Damage {
    /// Does it to one of these areas of the memory.
    pub fn apply(&self, memory: &Memory, areas: &[Range<usize>]) {
        let within = areas[usize::from(self.area) % areas.len()].clone();
        let at = within.start + self.at as usize % within.len();
        let word = memory.word(at);
        let now = word.load(Ordering::Relaxed);
        let then = match &self.how {
            How::Set(value) => *value,
            How::Flip(bit) => now ^ 1 << (bit % 64),
            How::Add(more) => now.wrapping_add_signed(i64::from(*more)),
            How::CopyFrom(other) => {
                let from = within.start + *other as usize % within.len();
                memory.word(from).load(Ordering::Relaxed)
            }
            How::Bytes(bytes) => {
                memory.write(at, &bytes[..bytes.len().min(within.end - (at & !7))]);
                return;
            }
        };
        word.store(then, Ordering::Relaxed);
    }
}
