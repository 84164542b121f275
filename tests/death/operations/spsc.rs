//! `SpscRing`: whoever takes over the role of a dead one goes on where it was.

use std::cell::Cell;
use std::time::Duration;

use procession_core::queue::{Consumer, PopError, Producer, RoleError, SpscRing};
use procession_core::sys::Deadline;

use super::ground::Ground;
use super::items::{EARLIER, HELPERS, Item, Items, Refusal, SURVIVORS, VICTIMS, item};
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Every wait has a deadline; where nobody died, none comes near it.
const SOON: Duration = Duration::from_secs(8);
/// How many items the survivors move: every place comes round more than once.
const MOVED: u64 = 10;

/// A ring with some items in it.
struct Ring {
    ground: Ground,
    ring: SpscRing<'static, Item>,
    items: Items,
    /// The other end, for a victim that sleeps: it waits for room or for an item.
    other: Cell<Option<Other>>,
}

enum Other {
    Producer(Producer<'static, Item>),
    Consumer(Consumer<'static, Item>),
}

impl Ring {
    fn new(capacity: u64, filled: u64) -> &'static Ring {
        let ground = Ground::new(8);
        let ring = SpscRing::create(ground.region(), ground.place(0), capacity);
        let ring = ring.expect("a ring");
        let scene =
            Box::leak(Box::new(Ring { ground, ring, items: Items::new(), other: Cell::new(None) }));
        let producer = scene.producer().expect("the producer's role");
        scene.put(&producer, EARLIER, filled).expect("the first items");
        scene
    }

    /// Full, and this process is the consumer.
    fn full() -> &'static Ring {
        let scene = Ring::new(4, 4);
        scene.other.set(scene.consumer().ok().map(Other::Consumer));
        scene
    }

    /// Empty, and this process is the producer.
    fn empty() -> &'static Ring {
        let scene = Ring::new(4, 0);
        scene.other.set(scene.producer().ok().map(Other::Producer));
        scene
    }

    fn producer(&self) -> Result<Producer<'static, Item>, RoleError> {
        self.ring.producer(self.ground.me())
    }

    fn consumer(&self) -> Result<Consumer<'static, Item>, RoleError> {
        self.ring.consumer(self.ground.me())
    }

    fn ready_to_put(&'static self) -> Producer<'static, Item> {
        self.enter();
        self.producer().expect("the producer's role")
    }

    fn ready_to_take(&'static self) -> Consumer<'static, Item> {
        self.enter();
        self.consumer().expect("the consumer's role")
    }

    fn put(
        &self,
        producer: &Producer<'static, Item>,
        first: u64,
        count: u64,
    ) -> Result<(), Trouble> {
        self.items.put(first, count, |item| producer.push_until(Deadline::after(SOON), item))
    }

    fn take(&self, consumer: &Consumer<'static, Item>, count: u64) -> Result<(), Trouble> {
        self.items.take(count, || consumer.pop_until(Deadline::after(SOON)))
    }
}

impl Scene for Ring {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    /// The first puts, the second takes.
    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        if who == 0 {
            let producer = self.producer().map_err(|e| format!("to put: {e}"))?;
            self.put(&producer, SURVIVORS, MOVED)
        } else {
            let consumer = self.consumer().map_err(|e| format!("to take: {e}"))?;
            self.take(&consumer, MOVED)
        }
    }

    /// Takes both roles, takes all that is there, and puts as many as fit at once.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        let producer = self.producer().map_err(|e| format!("to put: {e}"))?;
        let consumer = self.consumer().map_err(|e| format!("to take: {e}"))?;
        loop {
            match consumer.try_pop() {
                Ok(item) => self.items.got(&[item]),
                Err(PopError::Empty) => break,
                Err(error) => return Err(error.trouble("taking all")),
            }
        }
        let put = |items: &[Item]| producer.push_many(Deadline::after(SOON), items);
        self.items.put_many(HELPERS + 50, 4, put)?;
        self.take(&consumer, 1)
    }

    fn release(&self) {
        let done = match self.other.take() {
            None => Ok(()),
            Some(Other::Producer(end)) => self.put(&end, HELPERS, 1),
            Some(Other::Consumer(end)) => self.take(&end, 1),
        };
        done.expect("what the victim waits for");
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut stuck = 0;
        // The consumer stops at the end: a successor of the dead closes.
        self.ring.producer(self.ground.me()).map_err(|e| e.to_string())?.close();
        let consumer = self.consumer().map_err(|e| e.to_string())?;
        loop {
            match consumer.pop_until(Deadline::after(SOON)) {
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
    vec![
        Operation::new(
            "spsc.role",
            || Ring::new(4, 2),
            Ring::enter,
            |ring, ()| {
                std::mem::forget(ring.producer());
            },
        )
        .twice(1),
        Operation::new(
            "spsc.push",
            || Ring::new(4, 2),
            Ring::ready_to_put,
            |ring, end| {
                let _ = ring.put(&end, VICTIMS, 1);
                std::mem::forget(end);
            },
        )
        .twice(1),
        Operation::new("spsc.push.asleep", Ring::full, Ring::ready_to_put, |ring, end| {
            let _ = ring.put(&end, VICTIMS, 1);
            drop(end);
        }),
        Operation::new(
            "spsc.push_many",
            || Ring::new(4, 1),
            Ring::ready_to_put,
            |ring, end| {
                let put = |items: &[Item]| end.push_many(Deadline::after(SOON), items);
                let _ = ring.items.put_many(VICTIMS, 3, put);
                std::mem::forget(end);
            },
        )
        .twice(1),
        Operation::new(
            "spsc.pop",
            || Ring::new(4, 3),
            Ring::ready_to_take,
            |ring, end| {
                let _ = ring.take(&end, 1);
                std::mem::forget(end);
            },
        )
        .may_lose(1)
        .twice(1),
        Operation::new("spsc.pop.asleep", Ring::empty, Ring::ready_to_take, |ring, end| {
            let _ = ring.take(&end, 1);
            drop(end);
        })
        .may_lose(1),
        Operation::new(
            "spsc.pop_many",
            || Ring::new(4, 4),
            Ring::ready_to_take,
            |ring, end| {
                let mut room = [item(0); 3];
                if let Ok(count) = end.pop_many(Deadline::after(SOON), &mut room) {
                    ring.items.got(&room[..count]);
                }
                std::mem::forget(end);
            },
        )
        .may_lose(3)
        .twice(1),
    ]
}
