//! `Atomic`: a change is made or not made, and who waits for it sees it, though nobody is left to wake it.

use std::cell::Cell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use procession_core::sync::Atomic;
use procession_core::sys::Deadline;

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// A number that is counted up, and a process that waits for it to be.
pub struct Tally {
    ground: Ground,
    number: &'static Atomic<u64>,
    notes: &'static [AtomicU32],
    sleeper: Cell<Option<Child>>,
}

/// What is noted outside the region: changes begun and acknowledged.
const BEGUN: usize = 0;
const ACKNOWLEDGED: usize = 1;

/// How often each survivor counts.
const TURNS: u32 = 10;
/// How long the sleeper waits.
const SOME: Duration = Duration::from_secs(5);

impl Tally {
    fn new() -> &'static Tally {
        let ground = Ground::new(8);
        Box::leak(Box::new(Tally {
            number: ground.object(0),
            ground,
            notes: Memory::new(4096).counters(),
            sleeper: Cell::new(None),
        }))
    }

    /// A process that sleeps until the number is not 0.
    fn awaited() -> &'static Tally {
        let tally = Tally::new();
        let child = Child::start(|| {
            let me = tally.ground.me();
            match tally.number.wait_until(me, 0, Deadline::after(SOME)) {
                Ok(_) => Ok(Vec::new()),
                Err(error) => Err(error.to_string()),
            }
        });
        tally.sleeper.set(child.ok());
        tally
    }

    /// Waits until the sleeper sleeps.
    fn await_sleeper(&self) {
        self.ground.enter();
        // SAFETY: an atomic of 64 bits is followed by its eventcount, whose lowest bit says that somebody may sleep.
        let event = unsafe { &*std::ptr::from_ref(self.number).cast::<AtomicU32>().add(2) };
        let deadline = Instant::now() + SOME;
        while event.load(SeqCst) & 1 == 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        // Give it time to fall asleep; if it has not, this is another scene, and no worse one.
        std::thread::sleep(Duration::from_micros(200));
    }

    fn count(&self) {
        self.notes[BEGUN].fetch_add(1, SeqCst);
        self.number.fetch_add(1, SeqCst);
        self.number.notify_all(self.ground.me());
        self.notes[ACKNOWLEDGED].fetch_add(1, SeqCst);
    }
}

impl Scene for Tally {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, _: u32, patience: Duration) -> Result<(), Trouble> {
        (0..TURNS).for_each(|_| self.count());
        let most = u64::from(TURNS);
        let deadline = Deadline::after(patience);
        match self.number.wait_for_until(self.ground.me(), deadline, |number| number >= most) {
            Ok(_) => Ok(()),
            Err(error) => Err(Trouble::Late(error.to_string())),
        }
    }

    fn release(&self) {
        self.count();
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        if let Some(sleeper) = self.sleeper.take() {
            match sleeper.finish(Instant::now() + SOME + Duration::from_secs(1))? {
                Ending::Done(_) => {}
                Ending::Late => audit.stuck += 1,
                Ending::Failed(complaint) => return Err(format!("the sleeper: {complaint}")),
            }
        }
        let begun = u64::from(self.notes[BEGUN].load(SeqCst));
        let acknowledged = u64::from(self.notes[ACKNOWLEDGED].load(SeqCst));
        let number = self.number.load(SeqCst);
        audit.lost += acknowledged.saturating_sub(number) as u32;
        audit.doubled += number.saturating_sub(begun) as u32;
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::new("atomic.add.waking", Tally::awaited, Tally::await_sleeper, |tally, ()| {
            tally.count();
        }),
        Operation::new("atomic.wait.asleep", Tally::new, Tally::enter, |tally, ()| {
            let _ = tally.number.wait(tally.ground.me(), 0);
        }),
    ]
}
