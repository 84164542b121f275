//! `SlotQueue`: the dead block nobody, and take nothing along but what they had claimed to take.

use std::cell::Cell;
use std::time::Duration;

use procession_core::queue::{PopError, SlotQueue};
use procession_core::sys::Deadline;
use procession_core::wait::wait_any;

use super::ground::Ground;
use super::items::{EARLIER, HELPERS, Item, Items, Refusal, SURVIVORS, VICTIMS, item};
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Every wait has a deadline; where nobody died, none comes near it.
const SOON: Duration = Duration::from_secs(8);
/// How many items the survivors move: every slot comes round more than once.
const MOVED: u64 = 10;

/// A queue with some items in it, with tickets that wrap when the survivors use it.
struct Slots {
    ground: Ground,
    queue: SlotQueue<'static, Item>,
    items: Items,
    /// What a sleeping victim waits for.
    wants: Cell<Wants>,
}

#[derive(Clone, Copy, PartialEq)]
enum Wants {
    Nothing,
    Room,
    Item,
}

impl Slots {
    fn new(capacity: u64, filled: u64, wants: Wants) -> &'static Slots {
        let ground = Ground::new(8);
        let queue = SlotQueue::create_at(ground.region(), ground.place(0), capacity, u64::MAX);
        let queue = queue.expect("a queue");
        let items = Items::new();
        let scene = Slots { ground, queue, items, wants: Cell::new(wants) };
        scene.put(EARLIER, filled).expect("the first items");
        Box::leak(Box::new(scene))
    }

    fn put(&self, first: u64, count: u64) -> Result<(), Trouble> {
        let me = self.ground.me();
        self.items.put(first, count, |item| self.queue.push_until(me, Deadline::after(SOON), item))
    }

    fn take(&self, count: u64) -> Result<(), Trouble> {
        let me = self.ground.me();
        self.items.take(count, || self.queue.pop_until(me, Deadline::after(SOON)))
    }

    fn push(&'static self) {
        let _ = self.put(VICTIMS, 1);
    }

    fn pop(&'static self) {
        let _ = self.take(1);
    }

    fn push_many(&'static self) {
        let me = self.ground.me();
        let _ = self
            .items
            .put_many(VICTIMS, 3, |items| self.queue.push_many(me, Deadline::after(SOON), items));
    }

    /// Waits for a side, and uses it.
    fn await_item(&'static self) {
        let deadline = Deadline::after(SOON);
        if wait_any(self.ground.me(), deadline, &[&self.queue]).is_some() {
            self.pop();
        }
    }

    fn await_room(&'static self) {
        let deadline = Deadline::after(SOON);
        if wait_any(self.ground.me(), deadline, &[&self.queue.room()]).is_some() {
            self.push();
        }
    }

    fn peek(&'static self) {
        if let Ok(seen) = self.queue.peek_until(self.ground.me(), Deadline::after(SOON))
            && seen != item(seen[0])
        {
            self.items.ledger.tear();
        }
    }

    fn pop_latest(&'static self) {
        if let Ok((latest, _)) = self.queue.pop_latest(self.ground.me(), Deadline::after(SOON)) {
            self.items.got(&[latest]);
        }
    }

    fn pop_many(&'static self) {
        let mut room = [item(0); 3];
        let deadline = Deadline::after(SOON);
        if let Ok(count) = self.queue.pop_many(self.ground.me(), deadline, &mut room) {
            self.items.got(&room[..count]);
        }
    }
}

impl Scene for Slots {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    /// The first puts, the second sweeps and takes.
    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        if who == 0 {
            return self.put(SURVIVORS, MOVED);
        }
        self.queue.sweep(self.ground.me()).map_err(|e| e.trouble("sweeping"))?;
        self.take(MOVED)
    }

    /// Takes all that is there, and puts as many as fit at once.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        let me = self.ground.me();
        // Frees what is in the way, too.
        wait_any(me, Deadline::NOW, &[&self.queue, &self.queue.room()]);
        let mut looks = 0;
        loop {
            match self.queue.try_pop(me) {
                Ok(item) => self.items.got(&[item]),
                Err(PopError::Empty) => break,
                // A try asks whether the owner of a claim lives once a millisecond at most.
                Err(PopError::Busy) if looks < 100 => {
                    looks += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.trouble("taking all")),
            }
        }
        let put = |items: &[Item]| self.queue.push_many(me, Deadline::after(SOON), items);
        self.items.put_many(HELPERS + 50, 4, put)?;
        self.take(1)
    }

    fn release(&self) {
        let me = self.ground.me();
        let done = match self.wants.replace(Wants::Nothing) {
            Wants::Nothing => Ok(()),
            Wants::Room => self.items.take(1, || self.queue.try_pop(me)),
            Wants::Item => self.items.put(HELPERS, 1, |item| self.queue.try_push(me, item)),
        };
        done.expect("what the victim waits for");
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut stuck = 0;
        let me = self.ground.me();
        self.queue.close(me);
        loop {
            match self.queue.pop_until(me, Deadline::after(SOON)) {
                Ok(item) => self.items.got(&[item]),
                Err(PopError::Closed) => break,
                Err(PopError::TimedOut) => {
                    stuck += 1;
                    break;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(Audit { stuck, ..self.items.ledger.audit() })
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    use Slots as S;
    vec![
        Operation::new("slot.push", || S::new(4, 2, Wants::Nothing), S::enter, |s, ()| s.push())
            .twice(1),
        Operation::new(
            "slot.push.gate",
            || S::new(3, 2, Wants::Nothing),
            S::enter,
            |s, ()| {
                s.push();
            },
        )
        .twice(1),
        Operation::new(
            "slot.push.asleep",
            || S::new(4, 4, Wants::Room),
            S::enter,
            |s, ()| {
                s.push();
            },
        ),
        Operation::new(
            "slot.push_many",
            || S::new(4, 1, Wants::Nothing),
            S::enter,
            |s, ()| {
                s.push_many();
            },
        )
        .twice(1),
        Operation::new("slot.pop", || S::new(4, 3, Wants::Nothing), S::enter, |s, ()| s.pop())
            .may_lose(1)
            .twice(1),
        Operation::new("slot.pop.full", || S::new(3, 3, Wants::Nothing), S::enter, |s, ()| s.pop())
            .may_lose(1)
            .twice(1),
        Operation::new("slot.pop.asleep", || S::new(4, 0, Wants::Item), S::enter, |s, ()| s.pop())
            .may_lose(1),
        Operation::new(
            "slot.any.item.asleep",
            || S::new(4, 0, Wants::Item),
            S::enter,
            |s, ()| s.await_item(),
        )
        .may_lose(1),
        Operation::new(
            "slot.any.room.asleep",
            || S::new(4, 4, Wants::Room),
            S::enter,
            |s, ()| s.await_room(),
        ),
        Operation::new(
            "slot.pop_many",
            || S::new(4, 4, Wants::Nothing),
            S::enter,
            |s, ()| {
                s.pop_many();
            },
        )
        .may_lose(3)
        .twice(1),
        Operation::new(
            "slot.pop_latest",
            || S::new(4, 4, Wants::Nothing),
            S::enter,
            |s, ()| {
                s.pop_latest();
            },
        )
        .may_lose(4)
        .twice(1),
        Operation::new("slot.peek", || S::new(4, 2, Wants::Nothing), S::enter, |s, ()| s.peek()),
    ]
}
