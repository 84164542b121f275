//! `Broadcast`: what was published is received whole by all, a dead subscriber holds nobody up, and the memory of long objects comes
//! back.

use std::cell::Cell;
use std::time::{Duration, Instant};

use procession_posix::channel::{
    Broadcast, PublishError, Publisher, ReceiveError, RoleError, Subscriber,
};
use procession_posix::memory::{Arena, Config, arena, configure};
use procession_posix::sync::Deadline;

use super::ground::get_ready;
use super::items::{EARLIER, HELPERS, Refusal, SURVIVORS, VICTIMS};
use crate::engine::child::Child;
use crate::engine::ledger::Ledger;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Every wait has a deadline; where nobody died, none comes near it.
const SOON: Duration = Duration::from_secs(8);
/// How many objects the survivors publish: more than the small ring holds, less than the large one.
const MOVED: u64 = 10;
/// Rings: one that a dead subscriber would block, one in which everything has room for the one who looks in the end.
const SMALL: usize = 4;
const LARGE: usize = 32;

/// Lengths of objects: inside a message, in a block.
const SHORT: usize = 20;
const LONG: usize = 600;

/// An object: its number, and a text that follows from it.
type Report = (u64, String);

fn report(number: u64, len: usize) -> Report {
    let letter = char::from(b'a' + (number % 26) as u8);
    (number, String::from(letter).repeat(len))
}

/// A broadcast in the arena of this take's processes.
struct Station {
    arena: &'static Arena,
    cast: Broadcast<Report>,
    /// One who receives everything in the end; for victims that publish.
    witness: Option<Subscriber<Report>>,
    ledger: Ledger,
    len: usize,
    wants: Cell<Wants>,
}

/// What a sleeping victim waits for.
#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Room,
    Object,
}

impl Station {
    fn new(cast: fn() -> Broadcast<Report>, len: usize) -> Station {
        let mut config = Config::new();
        config.reserve = Some(4 << 20);
        config.participants = Some(8);
        configure(config).expect("an arena of our own");
        let cast = cast();
        // As one that has travelled: sweeps leave alone what others cannot have.
        postcard::to_allocvec(&cast).expect("a handle");
        Station {
            arena: arena().expect("an arena"),
            cast,
            witness: None,
            ledger: Ledger::new(),
            len,
            wants: Cell::new(Wants::Nothing),
        }
    }

    /// With one who looks on, and so many objects published.
    fn witnessed(cast: fn() -> Broadcast<Report>, len: usize, filled: u64) -> Station {
        let mut station = Station::new(cast, len);
        station.witness = station.cast.subscribe().ok();
        let publisher = station.cast.publisher().expect("the role");
        station.publish(&publisher, EARLIER, filled).expect("the first objects");
        station
    }

    fn blocking() -> Broadcast<Report> {
        Broadcast::blocking(LARGE).expect("a broadcast")
    }

    fn losing() -> Broadcast<Report> {
        Broadcast::losing(LARGE).expect("a broadcast")
    }

    fn small() -> Broadcast<Report> {
        Broadcast::blocking(SMALL).expect("a broadcast")
    }

    fn leak(self, wants: Wants) -> &'static Station {
        self.wants.set(wants);
        Box::leak(Box::new(self))
    }

    fn publisher(&self) -> Result<Publisher<Report>, Trouble> {
        self.cast.publisher().map_err(|e| Trouble::Wrong(format!("the role: {e}")))
    }

    fn publish(
        &self,
        publisher: &Publisher<Report>,
        first: u64,
        count: u64,
    ) -> Result<(), Trouble> {
        (first..first + count).try_for_each(|number| {
            let published = self.publish_one(publisher, &report(number, self.len));
            published.map_err(|e| e.trouble(&format!("publishing {number}")))
        })
    }

    fn publish_one(
        &self,
        publisher: &Publisher<Report>,
        object: &Report,
    ) -> Result<(), PublishError> {
        self.ledger.begin(object.0);
        publisher.publish_until(object, Deadline::after(SOON))?;
        self.ledger.acknowledge(object.0);
        Ok(())
    }

    /// One object, and whether it is whole and comes after `last`.
    fn receive(&self, from: &Subscriber<Report>, last: u64) -> Result<u64, Trouble> {
        let got = from.recv_until(Deadline::after(SOON));
        let got = got.map_err(|e| e.trouble(&format!("receiving after {last}")))?;
        if got != report(got.0, self.len) {
            self.ledger.tear();
        }
        if got.0 <= last {
            Err(Trouble::Wrong(format!("{} came after {last}", got.0)))
        } else {
            Ok(got.0)
        }
    }

    fn ready_to_publish(&'static self) -> (Publisher<Report>, Report) {
        self.enter();
        (self.cast.publisher().expect("the role"), report(VICTIMS, self.len))
    }

    /// Somebody has died with the role, and somebody with a seat.
    fn after_a_death() -> &'static Station {
        let station = Station::witnessed(Station::blocking, LONG, 2).leak(Wants::Nothing);
        let child = Child::start(|| {
            station.enter();
            std::mem::forget((station.publisher(), station.cast.subscribe()));
            Ok(Vec::new())
        });
        let deadline = Instant::now() + SOON;
        child.and_then(|child| child.finish(deadline)).expect("a child that dies");
        station
    }

    fn ready_to_receive(&'static self) -> Subscriber<Report> {
        self.enter();
        self.cast.subscribe_to_oldest().expect("a seat")
    }
}

impl Scene for Station {
    fn memory(&self) -> Span {
        let region = self.arena.region();
        Span { start: region.base().addr().get(), len: region.size() as usize }
    }

    fn enter(&self) {
        get_ready(self.arena.member());
    }

    /// The first publishes, the second receives until the last.
    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        if who == 0 {
            return self.publish(&self.publisher()?, SURVIVORS, MOVED);
        }
        let subscriber = self.cast.subscribe_to_oldest();
        let subscriber = subscriber.map_err(|e| Trouble::Wrong(e.to_string()))?;
        let mut last = 0;
        while last != SURVIVORS + MOVED - 1 {
            last = self.receive(&subscriber, last)?;
        }
        Ok(())
    }

    /// Takes the role and a seat, publishes and receives.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        let publisher = self.publisher()?;
        let subscriber = self.cast.subscribe().map_err(|e| Trouble::Wrong(e.to_string()))?;
        for turn in 0..2 {
            self.publish(&publisher, HELPERS + 50 + turn, 1)?;
            self.receive(&subscriber, 0)?;
        }
        Ok(())
    }

    fn release(&self) {
        match self.wants.replace(Wants::Nothing) {
            Wants::Nothing => {}
            // What was received here counts: it is the witness who makes room.
            Wants::Room => {
                let witness = self.witness.as_ref().expect("a witness");
                while let Ok(got) = witness.try_recv() {
                    self.ledger.receive(got.0);
                }
            }
            Wants::Object => {
                let publisher = self.cast.publisher().expect("the role");
                self.publish(&publisher, HELPERS, 1).expect("room for an object");
            }
        }
    }

    fn audit(&self) -> Result<Audit, String> {
        let (mut stuck, mut missed) = (0, 0);
        let publisher = self.cast.publisher().map_err(|e| e.to_string())?;
        if let Some(witness) = &self.witness {
            loop {
                match witness.try_recv() {
                    Ok(got) if got == report(got.0, self.len) => self.ledger.receive(got.0),
                    Ok(_) => {
                        self.ledger.tear();
                    }
                    Err(ReceiveError::Missed { count }) => missed += count,
                    Err(ReceiveError::Empty) => break,
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        // Short ones in all places: nothing long is left, in a place or on its way.
        for _ in 0..2 * LARGE {
            let short = (0, String::new());
            match publisher.publish_until(&short, Deadline::after(SOON)) {
                Ok(()) => {}
                Err(PublishError::TimedOut) => stuck += 1,
                Err(error) => return Err(error.to_string()),
            }
            if let Some(witness) = &self.witness {
                witness.try_recv().map_err(|e| e.to_string())?;
            }
        }
        self.arena.sweep();
        let usage = self.arena.region().usage();
        let mut audit = Audit { stuck, ..self.ledger.audit() };
        if self.witness.is_none() {
            // Nobody was to receive everything.
            audit.lost = 0;
        }
        // The broadcast itself is shared. Nothing else may stay behind, and no seat but the witness's.
        let seats = self.cast.subscribers() - usize::from(self.witness.is_some());
        audit.lost +=
            missed as u32 + seats as u32 + (usage.owned + usage.queued + usage.run_chunks) as u32;
        audit.torn += usage.damaged as u32;
        Ok(audit)
    }
}

impl Refusal for PublishError {
    fn is_late(&self) -> bool {
        matches!(self, PublishError::TimedOut)
    }
}

impl Refusal for ReceiveError {
    fn is_late(&self) -> bool {
        matches!(self, ReceiveError::TimedOut)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    use Station as S;
    use Wants::{Nothing, Object, Room};
    let publish = |name, set| {
        Operation::new(name, set, S::ready_to_publish, |station: &S, (end, object)| {
            let _ = station.publish_one(&end, &object);
            std::mem::forget((end, object));
        })
    };
    let receive = |name, set| {
        Operation::new(name, set, S::ready_to_receive, |_: &S, subscriber| {
            std::mem::forget(subscriber.recv_until(Deadline::after(SOON)));
            std::mem::forget(subscriber);
        })
    };
    vec![
        publish("broadcast.publish", || S::witnessed(S::blocking, SHORT, 2).leak(Nothing)).twice(0),
        publish("broadcast.publish.asleep", || {
            S::witnessed(S::blocking, SHORT, LARGE as u64).leak(Room)
        }),
        publish("broadcast.publish.long", || S::witnessed(S::blocking, LONG, 2).leak(Nothing)),
        publish("broadcast.publish.over", || {
            // Its place holds a long object.
            let station = S::witnessed(S::small, LONG, 4);
            let witness = station.witness.as_ref().expect("a witness");
            for number in EARLIER..EARLIER + 4 {
                assert_eq!(witness.recv().expect("it is there"), report(number, LONG));
                station.ledger.receive(number);
            }
            Station { witness: None, ..station }.leak(Nothing)
        })
        .twice(0),
        publish("broadcast.publish.losing", || S::witnessed(S::losing, LONG, 2).leak(Nothing)),
        Operation::new(
            "broadcast.role",
            || S::witnessed(S::blocking, SHORT, 2).leak(Nothing),
            S::enter,
            |station, ()| {
                let role: Result<Publisher<Report>, RoleError> = station.cast.publisher();
                drop(role);
            },
        )
        .twice(0),
        Operation::new(
            "broadcast.subscribe",
            || S::new(S::small, SHORT).leak(Nothing),
            S::enter,
            |station, ()| {
                std::mem::forget(station.cast.subscribe());
            },
        )
        .twice(0),
        Operation::new(
            "broadcast.unsubscribe",
            || S::new(S::small, SHORT).leak(Nothing),
            S::ready_to_receive,
            |_, subscriber| drop(subscriber),
        ),
        receive("broadcast.recv", || {
            let station = S::new(S::small, SHORT);
            let publisher = station.cast.publisher().expect("the role");
            station.publish(&publisher, EARLIER, 2).expect("room");
            station.leak(Nothing)
        })
        .twice(0),
        receive("broadcast.recv.long", || {
            let station = S::new(S::small, LONG);
            let publisher = station.cast.publisher().expect("the role");
            station.publish(&publisher, EARLIER, 2).expect("room");
            station.leak(Nothing)
        }),
        receive("broadcast.recv.losing", || {
            let station = S::new(S::losing, LONG);
            let publisher = station.cast.publisher().expect("the role");
            station.publish(&publisher, EARLIER, 2).expect("room");
            station.leak(Nothing)
        }),
        Operation::new("broadcast.sweep", S::after_a_death, S::enter, |station, ()| {
            station.arena.sweep();
        }),
        receive("broadcast.recv.asleep", || S::new(S::small, SHORT).leak(Object)),
    ]
}
