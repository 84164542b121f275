//! Taking back what dead processes have left in carriers, and in blocks on their way.
//!
//! A sweep holds nothing: what it looks at may be freed meanwhile, and its place used for anything. So
//!
//! - queues and broadcasts are swept only once they are shared: then they stay as long as the tree. One that has never left its
//!   process is freed whenever that likes, and none but its own claims stand there. (A child that was forked beside the library
//!   may have claimed something, too: that is seen by whoever uses it.)
//! - What does not stay, pipes and pools, is named before it is looked at; what is
//!   read there counts only if it is still there after that, and is changed from exactly what was read, which names either
//!   somebody who is dead, or the one that lies there.

use procession_core::region::{Kind, Member, Object, Region};

use super::{broadcast, buffer, pipe, pod_queue, queue, stock};
use crate::memory::kind;
use crate::pool::board;

/// A kind of object that carries others.
pub(crate) struct Carrier {
    pub(crate) kind: Kind,
    /// Frees what the dead have claimed in this one, which has so much room. `false` if it is damaged, and
    /// may still name them.
    pub(crate) sweep: fn(&Region<'static>, Member<'_>, Object, u64) -> bool,
    /// Whether the one at this place, which has so much room, is past this ticket: what was tied to that is nobody's.
    pub(crate) passed: fn(&Region<'static>, u64, u64, u32) -> bool,
}

/// All of them.
const CARRIERS: [Carrier; 10] = [
    queue::CARRIER,
    pod_queue::CARRIER,
    buffer::CARRIER,
    broadcast::CARRIER,
    pipe::line::CARRIER,
    stock::carrier(kind::STORE),
    stock::carrier(kind::JOINABLE),
    stock::carrier(kind::PRIORITY),
    stock::carrier(kind::LIFO),
    board::CARRIER,
];

/// Frees what dead processes have left in the carriers of a region, and the blocks that were theirs. `false` if a
/// carrier is damaged, and may still name them.
pub(crate) fn sweep(region: &Region<'static>, me: Member<'_>) -> bool {
    let mut clean = true;
    for carrier in &CARRIERS {
        region.for_each_object(carrier.kind, &mut |object, room| {
            clean &= (carrier.sweep)(region, me, object, room);
        });
    }
    region.for_each_object(kind::SEGMENT, &mut |segment, _| {
        stock::sweep_segment(region, me, segment);
    });
    region.sweep(me, &|offset, ticket| passed(region, offset, ticket));
    clean
}

/// Whether nothing that was tied to this ticket of the carrier at `offset` is on its way any more.
pub(super) fn passed(region: &Region<'static>, offset: u64, ticket: u32) -> bool {
    // One that is gone names nothing any more.
    let Some(object) = region.object_at(offset) else { return true };
    let Some(carrier) = CARRIERS.iter().find(|carrier| carrier.kind == object.kind) else {
        return true;
    };
    region
        .resolve(offset, object.kind, object.generation, 0)
        .is_ok_and(|room| (carrier.passed)(region, offset, room.capacity, ticket))
}

#[cfg(test)]
mod tests {
    use procession_core::region::{Membership, Setting};

    use crate::channel::{JoinableQueue, QueueOptions};
    use crate::memory::arena;

    #[test]
    fn who_has_no_name_sweeps_without_one() {
        let queue = JoinableQueue::with(QueueOptions::unbounded().at_least_once()).unwrap();
        (0..100).for_each(|number| queue.put(&number).unwrap());
        // It has left this process.
        let _ = postcard::to_stdvec(&queue).unwrap();
        let region = arena().unwrap().region();
        let seat = Membership::prepare(Setting { sweeper: None, ..region.setting() });
        assert!(super::sweep(region, seat.member()));
        assert_eq!(seat.member().current_tag(), None, "a row of the table was taken");
        assert_eq!(queue.qsize(), 100);
    }
}
