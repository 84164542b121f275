//! `Semaphore`: the dead give back what they held by permits, and move no unit by halves.

use std::cell::Cell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use procession_core::region::{Member, Place};
use procession_core::sync::{Permit, PermitError, ReleaseError, Semaphore, WaitError};
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// More than the dead of one take can have taken out for good.
const UNITS: u32 = 3;
/// How often each survivor takes a unit in each way.
const TURNS: u32 = 8;

/// A bounded semaphore, and beside it what was done to it.
struct Units {
    ground: Ground,
    semaphore: Semaphore<'static>,
    notes: &'static [AtomicU32],
    /// Held by the process that set the scene, until the victim sleeps.
    held: Cell<Vec<Permit<'static>>>,
    /// Sleeps for a unit from the start.
    sleeper: Cell<Option<Child>>,
}

/// What is noted outside the region: units that were to be taken out, that were, that were to be released, that were.
const TAKING: usize = 0;
const TAKEN: usize = 1;
const RELEASING: usize = 2;
const RELEASED: usize = 3;

impl Units {
    /// All units in cells.
    fn in_cells() -> &'static Units {
        let ground = Ground::new(8);
        let place = Place::in_region(ground.region(), ground.place(0)).expect("a place");
        let semaphore = Semaphore::create_bounded(place, UNITS).expect("a semaphore");
        Box::leak(Box::new(Units {
            semaphore,
            ground,
            notes: Memory::new(4096).counters(),
            held: Cell::default(),
            sleeper: Cell::new(None),
        }))
    }

    /// All units in the count.
    fn in_the_count() -> &'static Units {
        let units = Units::in_cells();
        for _ in 0..UNITS {
            units.take(Duration::from_secs(1)).expect("a unit");
        }
        units.give(UNITS).expect("room for units");
        units
    }

    /// All units held until the victim sleeps.
    fn held() -> &'static Units {
        let units = Units::in_cells();
        units.held.set(units.all());
        units
    }

    /// A process that comes to sleep as soon as all units are taken.
    fn with_sleeper() -> &'static Units {
        let units = Units::in_cells();
        let child = Child::start(|| {
            let deadline = Instant::now() + Duration::from_secs(5);
            while !units.semaphore.locked() && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let done = units.turn(Duration::from_secs(5));
            done.map(|()| Vec::new()).map_err(|trouble| trouble.to_string())
        });
        units.sleeper.set(child.ok());
        units
    }

    fn me(&self) -> Member<'static> {
        self.ground.me()
    }

    /// A permit for every unit that is free.
    fn all(&self) -> Vec<Permit<'static>> {
        let me = self.me();
        let mut permits = Vec::new();
        let mut failures = 0;
        loop {
            match self.semaphore.try_acquire(me) {
                Ok(permit) => permits.push(permit),
                // A try asks about dead holders once a tick of the clock at most.
                Err(PermitError::WouldBlock) if failures == 0 => {
                    failures += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(_) => return permits,
            }
        }
    }

    /// All units, with somebody asleep behind them.
    fn all_before_sleeper(&'static self) -> Vec<Permit<'static>> {
        let permits = self.all();
        self.wait_for_sleeper();
        permits
    }

    fn wait_for_sleeper(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.semaphore.sleepers().is_awaited() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        // Give it time to fall asleep; if it has not, this is another scene, and no worse one.
        std::thread::sleep(Duration::from_micros(200));
    }

    fn acquire(&self, patience: Duration) -> Result<Permit<'static>, Trouble> {
        self.semaphore.acquire_until(self.me(), Deadline::after(patience)).map_err(|e| match e {
            PermitError::TimedOut => Trouble::Late("no unit was free".into()),
            error => Trouble::Wrong(error.to_string()),
        })
    }

    fn take(&self, patience: Duration) -> Result<(), Trouble> {
        self.notes[TAKING].fetch_add(1, SeqCst);
        self.semaphore.take_until(self.me(), Deadline::after(patience)).map_err(|e| match e {
            WaitError::TimedOut => Trouble::Late("no unit was free to take".into()),
            error => Trouble::Wrong(error.to_string()),
        })?;
        self.notes[TAKEN].fetch_add(1, SeqCst);
        Ok(())
    }

    fn detach(&self, permit: Permit<'_>) -> Result<(), Trouble> {
        self.notes[TAKING].fetch_add(1, SeqCst);
        permit.detach().map_err(|error| Trouble::Wrong(error.to_string()))?;
        self.notes[TAKEN].fetch_add(1, SeqCst);
        Ok(())
    }

    fn give(&self, units: u32) -> Result<(), Trouble> {
        self.notes[RELEASING].fetch_add(units, SeqCst);
        let released = self.semaphore.release(self.me(), units);
        released.map_err(|error| Trouble::Wrong(error.to_string()))?;
        self.notes[RELEASED].fetch_add(units, SeqCst);
        Ok(())
    }

    /// A unit in each way, one after the other.
    fn turn(&self, patience: Duration) -> Result<(), Trouble> {
        drop(self.acquire(patience)?);
        self.take(patience)?;
        self.give(1)?;
        let permit = self.acquire(patience)?;
        self.detach(permit)?;
        self.give(1)
    }
}

impl Scene for Units {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, _: u32, patience: Duration) -> Result<(), Trouble> {
        (0..TURNS).try_for_each(|_| self.turn(patience))
    }

    fn repair(&self, patience: Duration) -> Result<(), Trouble> {
        self.turn(patience)
    }

    fn release(&self) {
        self.held.take();
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        if let Some(sleeper) = self.sleeper.take() {
            match sleeper.finish(Instant::now() + Duration::from_secs(6))? {
                Ending::Done(_) => {}
                Ending::Late => audit.stuck += 1,
                Ending::Failed(complaint) => return Err(format!("the sleeper: {complaint}")),
            }
        }
        let note = |what: usize| self.notes[what].load(SeqCst);
        let least = UNITS + note(RELEASED) - note(TAKING).min(UNITS + note(RELEASED));
        let most = UNITS + note(RELEASING) - note(TAKEN);
        let permits = self.all();
        let free = permits.len() as u32;
        audit.lost += least.saturating_sub(free);
        audit.doubled += free.saturating_sub(most.min(UNITS));
        // What is not free is out: just so many can be released, and not one more.
        let out = UNITS - free.min(UNITS);
        let more = self.semaphore.release(self.me(), out + 1);
        audit.torn += u32::from(more != Err(ReleaseError::TooMany { most: UNITS }));
        audit.torn += u32::from(self.semaphore.release(self.me(), out).is_err());
        drop(permits);
        audit.torn += u32::from(self.semaphore.value() != UNITS);
        Ok(audit)
    }
}

const SOON: Duration = Duration::from_secs(8);

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    let acquire = |units: &'static Units, ()| std::mem::forget(units.acquire(SOON));
    let take = |units: &'static Units, ()| {
        let _ = units.take(SOON);
    };
    vec![
        Operation::new("semaphore.acquire", Units::in_cells, Units::enter, acquire).twice(0),
        Operation::new("semaphore.acquire.count", Units::in_the_count, Units::enter, acquire)
            .twice(0),
        Operation::new("semaphore.acquire.asleep", Units::held, Units::enter, acquire),
        Operation::new("semaphore.take", Units::in_the_count, Units::enter, take).twice(0),
        Operation::new("semaphore.take.cell", Units::in_cells, Units::enter, take).twice(0),
        Operation::new("semaphore.take.asleep", Units::held, Units::enter, take),
        Operation::new(
            "semaphore.drop",
            Units::in_cells,
            |units| units.acquire(SOON),
            |_, permit| drop(permit),
        )
        .twice(0),
        Operation::new(
            "semaphore.drop.waking",
            Units::with_sleeper,
            Units::all_before_sleeper,
            |_, mut permits| drop(permits.pop()),
        ),
        Operation::new(
            "semaphore.detach",
            Units::in_cells,
            |units| units.acquire(SOON),
            |units, permit| {
                let _ = permit.and_then(|permit| units.detach(permit));
            },
        )
        .twice(0),
        Operation::new(
            "semaphore.release",
            Units::in_cells,
            |units| units.take(SOON),
            |units, _| {
                let _ = units.give(1);
            },
        )
        .twice(0),
        Operation::new(
            "semaphore.release.waking",
            Units::with_sleeper,
            |units| {
                // One by a permit: it comes back if the victim dies before it has released the others.
                let permit = units.acquire(SOON);
                let taken = (1..UNITS).try_for_each(|_| units.take(SOON));
                units.wait_for_sleeper();
                (permit, taken)
            },
            |units, hand| {
                let _ = units.give(UNITS - 1);
                drop(hand);
            },
        ),
    ]
}
