//! `Latch`: a part is done or not; one that a dead process had claimed breaks the latch, and nothing else does.

use std::cell::Cell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use procession_core::region::{Member, Place};
use procession_core::sync::{Latch, LatchError, Part};
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

const PARTS: u32 = 4;

/// A latch, and beside it what was done to it.
struct Work {
    ground: Ground,
    latch: Latch<'static>,
    notes: &'static [AtomicU32],
    /// Waits for the latch from the start.
    waiter: Cell<Option<Child>>,
    /// Whether the process that set the scene does all parts as soon as the victim sleeps.
    opens: Cell<bool>,
}

/// What is noted outside the region: parts that were to be claimed, that were done or given back after that, and parts that
/// were done in any way.
const CLAIMING: usize = 0;
const CLAIMED_NO_MORE: usize = 1;
const DONE: usize = 2;

const SOON: Duration = Duration::from_secs(8);

impl Work {
    fn new() -> &'static Work {
        let ground = Ground::new(8);
        let place = Place::in_region(ground.region(), ground.place(0)).expect("a place");
        let latch = Latch::create(place, PARTS).expect("a latch");
        let notes = Memory::new(4096).counters();
        Box::leak(Box::new(Work {
            ground,
            latch,
            notes,
            waiter: Cell::new(None),
            opens: Cell::new(false),
        }))
    }

    /// Somebody waits for it.
    fn awaited() -> &'static Work {
        let work = Work::new();
        let child = Child::start(|| {
            let done = work.wait(work.me(), Duration::from_secs(6));
            done.map(|()| Vec::new()).map_err(|trouble| trouble.to_string())
        });
        work.waiter.set(child.ok());
        work
    }

    /// Everything is done when the victim sleeps.
    fn opening() -> &'static Work {
        let work = Work::new();
        work.opens.set(true);
        work
    }

    /// One part is left, and somebody sleeps until it is done.
    fn all_but_one(&'static self) {
        for _ in 1..PARTS {
            self.count_down().expect("a part");
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.latch.sleepers().is_awaited() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        // Give it time to fall asleep; if it has not, this is another scene, and no worse one.
        std::thread::sleep(Duration::from_micros(200));
    }

    fn me(&self) -> Member<'static> {
        self.ground.me()
    }

    fn count_down(&self) -> Result<(), LatchError> {
        self.latch.count_down(self.me())?;
        self.notes[DONE].fetch_add(1, SeqCst);
        Ok(())
    }

    fn claim(&self) -> Result<Part<'static>, LatchError> {
        self.notes[CLAIMING].fetch_add(1, SeqCst);
        let part = self.latch.part(self.me());
        if part.is_err() {
            self.notes[CLAIMED_NO_MORE].fetch_add(1, SeqCst);
        }
        part
    }

    fn finish(&self, part: Part<'_>) -> Result<(), LatchError> {
        part.count_down()?;
        self.notes[DONE].fetch_add(1, SeqCst);
        self.notes[CLAIMED_NO_MORE].fetch_add(1, SeqCst);
        Ok(())
    }

    fn give_back(&self, part: Part<'_>) {
        drop(part);
        self.notes[CLAIMED_NO_MORE].fetch_add(1, SeqCst);
    }

    /// Broken by nobody but the dead.
    fn wait(&self, me: Member<'_>, patience: Duration) -> Result<(), Trouble> {
        match self.latch.wait_until(me, Deadline::after(patience)) {
            Ok(()) => Ok(()),
            Err(LatchError::Broken { .. }) => Ok(()),
            Err(LatchError::TimedOut) => Err(Trouble::Late("the latch never opened".into())),
            Err(error) => Err(Trouble::Wrong(error.to_string())),
        }
    }

    /// Does what is left, in both ways.
    fn complete(&self) -> Result<(), Trouble> {
        let wrong = |error: LatchError| Trouble::Wrong(error.to_string());
        loop {
            let done = match self.claim() {
                Ok(part) => self.finish(part),
                Err(LatchError::TooMany { .. }) => break,
                Err(error) => return Err(wrong(error)),
            };
            done.map_err(wrong)?;
            match self.count_down() {
                Ok(()) => {}
                Err(LatchError::TooMany { .. }) => break,
                Err(error) => return Err(wrong(error)),
            }
        }
        Ok(())
    }
}

impl Scene for Work {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, _: u32, patience: Duration) -> Result<(), Trouble> {
        self.complete()?;
        self.wait(self.me(), patience)
    }

    /// Without spinning, which takes long when stepped.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        self.complete()?;
        self.wait(self.me(), Duration::ZERO)
    }

    fn release(&self) {
        while self.opens.get() && self.count_down().is_ok() {}
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        if let Some(waiter) = self.waiter.take() {
            match waiter.finish(Instant::now() + Duration::from_secs(7))? {
                Ending::Done(_) => {}
                Ending::Late => audit.stuck += 1,
                Ending::Failed(complaint) => return Err(format!("the waiter: {complaint}")),
            }
        }
        let note = |what: usize| self.notes[what].load(SeqCst);
        let left = self.latch.remaining();
        // Each part that somebody was told is done is done, and no part twice.
        audit.lost += note(DONE).saturating_sub(PARTS - left);
        audit.doubled += note(DONE).saturating_sub(PARTS);
        // It is open, or broken by one who may have had a part.
        let broken = self.latch.broken().is_some();
        audit.torn += u32::from(broken == (left == 0));
        audit.torn += u32::from(broken && note(CLAIMING) == note(CLAIMED_NO_MORE));
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    let count_down = |work: &'static Work, ()| {
        let _ = work.count_down();
    };
    vec![
        Operation::new("latch.count_down", Work::new, Work::enter, count_down).twice(0),
        Operation::new("latch.count_down.waking", Work::awaited, Work::all_but_one, count_down),
        Operation::new("latch.part", Work::new, Work::enter, |work, ()| {
            std::mem::forget(work.claim());
        })
        .twice(0),
        Operation::new("latch.part.done", Work::new, Work::claim, |work, part| {
            let _ = part.and_then(|part| work.finish(part));
        })
        .twice(0),
        Operation::new("latch.part.given_back", Work::new, Work::claim, |work, part| {
            if let Ok(part) = part {
                work.give_back(part);
            }
        })
        .twice(0),
        Operation::new("latch.wait.asleep", Work::opening, Work::enter, |work, ()| {
            let _ = work.wait(work.me(), SOON);
        }),
    ]
}
