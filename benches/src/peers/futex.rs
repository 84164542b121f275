//! The bare ping-pong of two that sleep: one word, a wake when it was written, a sleep until it is.

use std::sync::atomic::{AtomicU32, Ordering::*};

use rustix::thread::futex::{self, Flags};

use crate::Result;
use crate::harness::Timing;
use crate::shm::{Shared, Zeroed};
use crate::two;

#[repr(C, align(128))]
struct Word(AtomicU32);

// SAFETY: it is an atomic.
unsafe impl Zeroed for Word {}

impl Word {
    /// Writes, and wakes the one who sleeps.
    fn give(&self, value: u32) -> Result<()> {
        self.0.store(value, Release);
        futex::wake(&self.0, Flags::empty(), 1)?;
        Ok(())
    }

    /// Sleeps until `value` is there.
    fn wait_for(&self, value: u32) {
        loop {
            let now = self.0.load(Acquire);
            if now == value {
                return;
            }
            // Woken, changed meanwhile, or a signal: look again.
            futex::wait(&self.0, Flags::empty(), now, None).ok();
        }
    }
}

/// `ops` round trips between two processes. Even numbers go there, odd ones come back.
pub fn pingpong(place: two::Place, ops: u64) -> Result<Timing> {
    let word = Shared::<Word>::new()?;
    let finish = two::processes_at(
        place,
        vec![
            Box::new(|gate| {
                gate.start();
                for i in 1..=ops as u32 {
                    word.give(i * 2)?;
                    word.wait_for(i * 2 + 1);
                }
                gate.stop();
                Ok(0)
            }),
            Box::new(|gate| {
                gate.start();
                for i in 1..=ops as u32 {
                    word.wait_for(i * 2);
                    word.give(i * 2 + 1)?;
                }
                gate.stop();
                Ok(0)
            }),
        ],
    )?;
    Ok(Timing { ops, took: finish.took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_answered() -> Result<()> {
        for place in [two::Place::Apart, two::Place::Together] {
            assert_eq!(pingpong(place, 100)?.ops, 100);
        }
        Ok(())
    }
}
