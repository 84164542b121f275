//! Waiting for a queue together with other objects: until there is something to take, or room to put something.
//!
//! A look takes nothing, but it frees what the dead have left in the way: only behind that it is to be seen whether
//! there is an item.

use bytemuck::Pod;

use super::{Blocked, FREE, FUEL, SlotQueue, Turn};
use crate::queue::PopError;
use crate::region::Member;
use crate::sys::atomic::Ordering;
use crate::wait::{Eventcount, Waitable};

/// Ready when a pop would not wait: there is an item, or the queue is closed and drained, or damaged.
impl<T: Pod> Waitable for SlotQueue<'_, T> {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        let answer = self.attempt_at_head(me, ask, false, &mut |_| Some(()));
        !matches!(answer, Err(PopError::Empty | PopError::Busy))
    }

    fn sleepers(&self) -> &Eventcount {
        &self.parts.events.not_empty
    }
}

/// The other side of a [`SlotQueue`], for those who put: ready when a push would not wait, since there is room, or the queue is
/// closed, or damaged. See [`SlotQueue::room`].
pub struct Room<'r, T>(SlotQueue<'r, T>);

impl<'r, T: Pod> SlotQueue<'r, T> {
    /// What a producer waits for together with other objects.
    ///
    /// ```
    /// # use procession_core::queue::SlotQueue;
    /// # use procession_core::region::Member;
    /// # use procession_core::sys::Deadline;
    /// use procession_core::wait::wait_any;
    ///
    /// /// Whether a push or else a pop would go through now.
    /// fn look(me: Member<'_>, queue: SlotQueue<'_, u64>) -> Option<usize> {
    ///     wait_any(me, Deadline::NOW, &[&queue.room(), &queue])
    /// }
    /// ```
    #[must_use]
    pub fn room(self) -> Room<'r, T> {
        Room(self)
    }
}

impl<T> Clone for Room<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Room<'_, T> {}

impl<T: Pod> core::fmt::Debug for Room<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Room").field(&self.0).finish()
    }
}

impl<T: Pod> Waitable for Room<'_, T> {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        let queue = &self.0;
        let slots = queue.slots.len() as u64;
        for _ in 0..FUEL {
            // Acquire: as in `claim_push`.
            let turn = Turn(queue.parts.tail.load(Ordering::Acquire));
            let ticket = turn.ticket();
            if turn.closed() || queue.has_room(ticket) {
                return true;
            }
            queue.help(turn, FREE);
            match queue.why_no_room(turn) {
                None => {}
                Some(Blocked::Closed | Blocked::Corrupt) => return true,
                Some(Blocked::Exhausted | Blocked::ByClaim) if !ask => return false,
                Some(Blocked::Exhausted | Blocked::ByClaim) => {
                    let freed = queue.unblock(me, ticket.wrapping_sub(slots)).and_then(|freed| {
                        let gate = ticket.wrapping_sub(queue.capacity);
                        Ok(freed || queue.capacity != slots && queue.unblock(me, gate)?)
                    });
                    match freed {
                        Ok(true) => {}
                        Ok(false) => return false,
                        Err(_) => return true,
                    }
                }
            }
            core::hint::spin_loop();
        }
        false
    }

    fn sleepers(&self) -> &Eventcount {
        &self.0.parts.events.not_full
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::queue::SlotQueue;
    use crate::region::testing::Bytes;
    use crate::sys::Deadline;
    use crate::wait::{Waitable, wait_any};

    const AT: u64 = 1 << 19;

    #[test]
    fn ready_is_what_a_call_would_not_wait_for() {
        // With and without a place more than may be used.
        for capacity in [2, 3] {
            let bytes = Bytes::new(1 << 20);
            let region = bytes.create().unwrap();
            let seat = region.join().unwrap();
            let me = seat.member();
            let queue = SlotQueue::<u32>::create(&region, AT, capacity).unwrap();
            let room = queue.room();
            for _ in 0..20 {
                assert!(!queue.is_ready(me, true) && room.is_ready(me, false));
                queue.push(me, 1).unwrap();
                assert!(queue.is_ready(me, false) && room.is_ready(me, false));
                (1..capacity).for_each(|item| queue.push(me, item as u32).unwrap());
                assert!(queue.is_ready(me, false) && !room.is_ready(me, true));
                assert_eq!(wait_any(me, Deadline::NOW, &[&room, &queue]), Some(1));
                (0..capacity).for_each(|_| _ = queue.pop(me).unwrap());
            }
            queue.push(me, 1).unwrap();
            queue.close(me);
            assert!(queue.is_ready(me, false) && room.is_ready(me, false));
            queue.pop(me).unwrap();
            assert!(queue.is_ready(me, false) && room.is_ready(me, false));
        }
    }

    #[test]
    fn the_claims_of_the_dead_are_not_in_the_way() {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let (seat, dead) = (region.join().unwrap(), region.join().unwrap());
        let me = seat.member();
        let queue = SlotQueue::<u32>::create(&region, AT, 2).unwrap();
        let room = queue.room();
        // One that was not put, with one behind it.
        let _ = queue.start_push(dead.member(), Deadline::NOW).unwrap();
        queue.push(me, 1).unwrap();
        assert!(!queue.is_ready(me, true) && !room.is_ready(me, true));
        region.participants().declare_dead(dead.member().tag().unwrap());
        assert!(!queue.is_ready(me, false) && queue.is_ready(me, true));
        assert_eq!(queue.try_pop(me), Ok(1));
        // One that was not taken to the end.
        let dead = region.join().unwrap();
        (0..2).for_each(|item| queue.push(me, item).unwrap());
        let _ = queue.start_pop(dead.member(), Deadline::NOW).unwrap();
        assert!(!room.is_ready(me, true));
        region.participants().declare_dead(dead.member().tag().unwrap());
        assert!(!room.is_ready(me, false) && room.is_ready(me, true));
        queue.try_push(me, 2).unwrap();
    }
}
