//! An event: looked at, and set for one who sleeps.

use procession_core::sync::Event;

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::{Ground, settle};
use crate::peers::futex::Flag;
use crate::peers::load;
use crate::rows::turns::{Pace, there_and_back};
use crate::shm::{Shared, Zeroed};
use crate::two;

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
            run: |plan| wake(plan, Pace::Asleep),
        },
        Row {
            name: "event.wake.one_cpu",
            peer: "a bare futex",
            target: 1.5,
            note: "there and back between two processes on one CPU: all that sleeping and waking costs, the way into it included",
            run: |plan| wake(plan, Pace::OneCpu),
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

fn wake(plan: Plan, pace: Pace) -> Result<Duel> {
    duel(plan, |ops| ours(pace, ops), |ops| bare(pace, ops))
}

fn ours(pace: Pace, ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let events = [ground.object::<Event>()?, ground.object::<Event>()?];
    let set = |i: usize| events[i].set(seat.member());
    let wait = |i: usize| {
        events[i].wait(seat.member());
        events[i].clear();
    };
    between(pace, ops, || settle(seat.member()), set, wait)
}

fn bare(pace: Pace, ops: u64) -> Result<Timing> {
    let flags = Shared::<[Flag; 2]>::new()?;
    between(pace, ops, || Ok(()), |i| flags[i].set(), |i| flags[i].wait())
}

// SAFETY: they are atomics.
unsafe impl Zeroed for [Flag; 2] {}

/// Two processes: the first sets flag 0 and waits for flag 1, the second the other way round.
fn between(
    pace: Pace,
    ops: u64,
    settle: impl Fn() -> Result<()>,
    set: impl Fn(usize),
    wait: impl Fn(usize),
) -> Result<Timing> {
    let give = |i, _| {
        set(i);
        Ok(())
    };
    let take = |i, _| {
        wait(1 - i);
        Ok(())
    };
    there_and_back(pace, ops, settle, give, take)
}
