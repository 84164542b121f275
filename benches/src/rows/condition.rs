//! A condition between two processes that take turns.

use procession_core::sync::{Condition, Lock};

use crate::Result;
use crate::harness::{Row, Timing, duel};
use crate::ours::{Beside, Ground, settle};
use crate::peers::pthread::condition;
use crate::two;

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "condition.pingpong",
        peer: "pthread condition, process-shared",
        target: 1.0,
        note: "a turn there and back between two processes; ours notifies exactly, and survives any death",
        run: |plan| duel(plan, ours, condition::pingpong),
    }]
}

fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let lock = ground.object::<Beside<Lock>>()?;
    let condition = ground.object::<Condition>()?;
    let player = |mine: u64| -> two::Runner<'_> {
        let seat = &seat;
        Box::new(move |gate| {
            let me = seat.member();
            settle(me)?;
            gate.start();
            for _ in 0..ops {
                let mut guard = lock.it.acquire(me).map_err(|error| error.to_string())?;
                // SAFETY: the number, by which they take turns, is only touched while the lock is held.
                while unsafe { lock.number.get() } % 2 != mine {
                    condition.wait(&mut guard)?;
                }
                // SAFETY: as above.
                unsafe { lock.number.raise() };
                condition.notify_one(&guard)?;
            }
            gate.stop();
            Ok(0)
        })
    };
    let finish = two::processes(vec![player(0), player(1)])?;
    Ok(Timing { ops, took: finish.took })
}
