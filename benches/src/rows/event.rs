//! An event: looked at, and set for one who sleeps.

use std::hint::black_box;

use procession_core::sync::Event;

use crate::Result;
use crate::harness::{Row, Timing, duel};
use crate::ours::{Ground, settle};
use crate::peers::{futex, load};
use crate::two::{self, Place};

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
            note: "there and back between two processes on one CPU, so that who waits has to sleep on both sides",
            run: |plan| wake(plan, Place::Together),
        },
        Row {
            name: "event.wake.apart",
            peer: "a bare futex",
            target: 1.1,
            note: "two processes on their own CPUs; ours looks for a while before it sleeps, and mostly need not",
            run: |plan| wake(plan, Place::Apart),
        },
    ]
}

fn is_set(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let event = ground.object::<Event>()?;
    event.set(seat.member());
    load::each(ops, || u64::from(black_box(event).is_set()))
}

fn wake(plan: crate::harness::Plan, place: Place) -> Result<crate::harness::Duel> {
    duel(plan, |ops| pingpong(place, ops), |ops| futex::pingpong(place, ops))
}

/// Two events, one for each direction.
fn pingpong(place: Place, ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let (there, back) = (ground.object::<Event>()?, ground.object::<Event>()?);
    let finish = two::processes_at(
        place,
        vec![
            Box::new(|gate| {
                let me = seat.member();
                settle(me)?;
                gate.start();
                for _ in 0..ops {
                    there.set(me);
                    back.wait(me);
                    back.clear();
                }
                gate.stop();
                Ok(0)
            }),
            Box::new(|gate| {
                let me = seat.member();
                settle(me)?;
                gate.start();
                for _ in 0..ops {
                    there.wait(me);
                    there.clear();
                    back.set(me);
                }
                gate.stop();
                Ok(0)
            }),
        ],
    )?;
    Ok(Timing { ops, took: finish.took })
}
