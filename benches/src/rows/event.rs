//! An event: looked at, and set for one who sleeps.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use procession_core::sync::Event;

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::{Ground, settle};
use crate::peers::futex::Flag;
use crate::peers::load;
use crate::shm::{Shared, Zeroed};
use crate::two::{self, Place};

/// After so long who waits is asleep: longer than anybody spins.
const ASLEEP: Duration = Duration::from_micros(100);

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "event.is_set",
            peer: "a relaxed load",
            target: 1.5,
            note: "one thread",
            run: |plan| {
                two::pin_to_first()?;
                duel(plan, is_set, load::of_flag)
            },
        },
        Row {
            name: "event.wake",
            peer: "a bare futex",
            target: 1.1,
            note: "a latency, there and back: from setting it until the other, which sleeps on its CPU, goes on",
            run: |plan| wake(plan, Place::Apart),
        },
        Row {
            name: "event.wake.one_cpu",
            peer: "a bare futex",
            target: 1.5,
            note: "there and back between two processes on one CPU: all that sleeping and waking costs, the way into it included",
            run: |plan| wake(plan, Place::Together),
        },
    ]
}

fn is_set(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let event = ground.object::<Event>()?;
    event.set(seat.member());
    load::each(ops, event, |event| u64::from(event.is_set()))
}

fn wake(plan: Plan, place: Place) -> Result<Duel> {
    duel(plan, |ops| ours(place, ops), |ops| bare(place, ops))
}

fn ours(place: Place, ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let events = [ground.object::<Event>()?, ground.object::<Event>()?];
    let wait = |i: usize| {
        events[i].wait(seat.member());
        events[i].clear();
    };
    there_and_back(place, ops, || settle(seat.member()), |i| events[i].set(seat.member()), wait)
}

fn bare(place: Place, ops: u64) -> Result<Timing> {
    let flags = Shared::<[Flag; 2]>::new()?;
    there_and_back(place, ops, || Ok(()), |i| flags[i].set(), |i| flags[i].wait())
}

// SAFETY: they are atomics.
unsafe impl Zeroed for [Flag; 2] {}

/// Two processes: the first sets flag 0 and waits for flag 1, the second the other way round.
///
/// On one CPU, what is measured is all of it. Apart, each gives the other the time to fall asleep, and what is measured is
/// from setting to going on.
fn there_and_back(
    place: Place,
    ops: u64,
    settle: impl Fn() -> Result<()>,
    set: impl Fn(usize),
    wait: impl Fn(usize),
) -> Result<Timing> {
    let pause = || {
        let begin = Instant::now();
        while matches!(place, Place::Apart) && begin.elapsed() < ASLEEP {
            spin_loop();
        }
    };
    let finish = two::processes_at(
        place,
        vec![
            Box::new(|gate| {
                settle()?;
                let mut asked = Duration::ZERO;
                gate.start();
                for _ in 0..ops {
                    pause();
                    let begin = Instant::now();
                    set(0);
                    wait(1);
                    asked += begin.elapsed();
                }
                gate.stop();
                Ok(asked.as_nanos() as u64)
            }),
            Box::new(|gate| {
                settle()?;
                let mut paused = Duration::ZERO;
                gate.start();
                for _ in 0..ops {
                    wait(0);
                    let begin = Instant::now();
                    pause();
                    paused += begin.elapsed();
                    set(1);
                }
                gate.stop();
                Ok(paused.as_nanos() as u64)
            }),
        ],
    )?;
    let took = match place {
        Place::Together => finish.took,
        Place::Apart => Duration::from_nanos(finish.values[0].saturating_sub(finish.values[1])),
    };
    Ok(Timing { ops, took })
}
