//! There and back between two processes, one turn after the other.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use crate::Result;
use crate::harness::Timing;
use crate::rows::flow::{check, stamp};
use crate::two::{self, Place};

/// After so long who waits is asleep: longer than anybody spins.
const ASLEEP: Duration = Duration::from_micros(100);

/// How the two wait for each other.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Each on its CPU, and answers at once.
    AtOnce,
    /// Each on its CPU, and gives the other the time to fall asleep before it answers.
    Asleep,
    /// Both on one CPU, where who waits must sleep.
    OneCpu,
}

impl Pace {
    fn place(self) -> Place {
        match self {
            Self::OneCpu => Place::Together,
            Self::AtOnce | Self::Asleep => Place::Apart,
        }
    }

    /// Gives the other the time that it is to be given. Returns how many nanoseconds that took.
    fn pause(self) -> u64 {
        if !matches!(self, Self::Asleep) {
            return 0;
        }
        let begin = Instant::now();
        loop {
            let paused = begin.elapsed();
            if paused >= ASLEEP {
                return paused.as_nanos() as u64;
            }
            spin_loop();
        }
    }
}

/// Two processes, 0 and 1: the first gives and then takes, the second takes and then gives, `ops` times. Both calls are told
/// which of the two calls, and which turn it is.
///
/// What is measured is all of it but the pauses, of which no two overlap.
pub fn there_and_back(
    pace: Pace,
    ops: u64,
    settle: impl Fn() -> Result<()>,
    give: impl Fn(usize, u64) -> Result<()>,
    take: impl Fn(usize, u64) -> Result<()>,
) -> Result<Timing> {
    let finish = two::processes_at(
        pace.place(),
        vec![
            Box::new(|gate| {
                let mut paused = 0;
                settle()?;
                gate.start();
                for turn in 0..ops {
                    paused += pace.pause();
                    give(0, turn)?;
                    take(0, turn)?;
                }
                gate.stop();
                Ok(paused)
            }),
            Box::new(|gate| {
                let mut paused = 0;
                settle()?;
                gate.start();
                for turn in 0..ops {
                    take(1, turn)?;
                    paused += pace.pause();
                    give(1, turn)?;
                }
                gate.stop();
                Ok(paused)
            }),
        ],
    )?;
    let paused = Duration::from_nanos(finish.values.iter().sum());
    Ok(Timing { ops, took: finish.took.saturating_sub(paused) })
}

/// How many bytes a message of [`exchange`] has.
pub const BYTES: usize = 64;

/// The same with messages: `send` sends one, `receive` fills in one and says how many bytes it had.
pub fn exchange(
    pace: Pace,
    ops: u64,
    settle: impl Fn() -> Result<()>,
    send: impl Fn(usize, &[u8; BYTES]) -> Result<()>,
    receive: impl Fn(usize, &mut [u8; BYTES]) -> Result<usize>,
) -> Result<Timing> {
    let give = |i, turn| {
        let mut message = [0; BYTES];
        stamp(&mut message, turn);
        send(i, &message)
    };
    let take = |i, turn| {
        let mut message = [0; BYTES];
        match receive(i, &mut message)? {
            BYTES => check(&message, turn),
            length => Err(format!("a message of {length} bytes came").into()),
        }
    };
    there_and_back(pace, ops, settle, give, take)
}
