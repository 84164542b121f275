//! A barrier at which two processes meet.

use procession_core::sync::Barrier;

use crate::Result;
use crate::harness::{Row, Timing, duel};
use crate::ours::{Ground, settle};
use crate::peers::pthread::barrier;
use crate::rows::counted;
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "barrier.2",
        peer: "pthread barrier, process-shared",
        target: 0.5,
        note: "two processes; a party's death breaks ours for all, at the peer all wait for ever",
        run: |plan| duel(plan, ours, barrier::two_parties),
    }]
}

fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let barrier = Barrier::create(ground.place(Barrier::bytes_for(2)?)?, 2)?;
    let party = || -> two::Runner<'_> {
        Box::new(|gate| {
            let me = seat.member();
            settle(me)?;
            let mut first = 0;
            gate.start();
            for _ in 0..ops {
                first += u64::from(barrier.wait(me)? == 0);
            }
            gate.stop();
            Ok(first)
        })
    };
    let finish = two::processes(vec![party(), party()])?;
    counted(finish.values.iter().sum(), ops)?;
    Ok(Timing { ops, took: finish.took })
}
