//! Numbers from one process to three, each of which gets all of them.

use procession_core::queue::{Broadcast, Slow, Start};

use crate::Result;
use crate::harness::{Duel, Plan, Row, Timing, duel};
use crate::ours::Ground;
use crate::peers::iceoryx;
use crate::rows::{CAPACITY, Checksum};
use crate::two::{self, Runner};

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "broadcast.1x3",
        peer: "iceoryx2, three subscribers",
        target: 0.5,
        note: "four processes on both sides, publishers wait for slow readers; ours block, the peer's subscribers spin and then yield",
        run: to_three,
    }]
}

fn to_three(plan: Plan) -> Result<Duel> {
    duel(plan.longer(), ours, iceoryx::to_three)
}

fn ours(ops: u64) -> Result<Timing> {
    let ground = Ground::new()?;
    let seat = ground.join()?;
    let at = ground.reserve(Broadcast::<u64>::bytes_for(CAPACITY as u64))?;
    let cast = Broadcast::<u64>::create(ground.region(), at, CAPACITY as u64, Slow::Block)?;
    let (cast, seat) = (&cast, &seat);
    let publisher: Runner<'_> = Box::new(move |gate| {
        let publisher = cast.publisher(seat.member())?;
        gate.start();
        for i in 0..ops {
            publisher.publish(i)?;
        }
        gate.stop();
        Ok(Checksum::one_by_one(ops))
    });
    let readers = (0..3).map(|_| -> Runner<'_> {
        Box::new(move |gate| {
            let reader = cast.subscribe(seat.member(), Start::Next)?;
            let mut sum = Checksum::default();
            gate.start();
            for _ in 0..ops {
                sum.add(reader.recv()?);
            }
            gate.stop();
            Ok(sum.value())
        })
    });
    let finish = two::processes([publisher].into_iter().chain(readers).collect())?;
    if finish.values.iter().any(|&sum| sum != finish.values[0]) {
        return Err("what arrived is not what was sent".into());
    }
    Ok(Timing { ops, took: finish.took })
}
