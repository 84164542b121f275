//! `Once` and `OnceCell`: whoever dies over it is replaced, and nobody sees what it had not finished.

use std::cell::Cell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use procession_core::region::{Member, Place};
use procession_core::sync::{OnceCell, OnceError};
use procession_core::sys::Deadline;

use super::ground::Ground;
use crate::engine::child::{Child, Ending};
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// A value whose parts are all the same.
type Settled = [u64; 8];

/// A cell that is set once.
struct Question {
    ground: Ground,
    cell: OnceCell<'static, Settled>,
    notes: &'static [AtomicU32],
    /// Makes the value from the start, until the victim sleeps.
    maker: Cell<Option<Child>>,
}

/// What is noted outside the region: the value that somebody saw first, the one whose setting was acknowledged, how many
/// were, and whether the slow maker is in the middle, and may go on.
const SEEN: usize = 0;
const ACKNOWLEDGED: usize = 1;
const COUNT: usize = 2;
const INSIDE: usize = 3;
const GO_ON: usize = 4;

const SOON: Duration = Duration::from_secs(6);

impl Question {
    fn new() -> &'static Question {
        let ground = Ground::new(8);
        let place = Place::in_region(ground.region(), ground.place(0)).expect("a place");
        Box::leak(Box::new(Question {
            cell: OnceCell::create(place).expect("a cell"),
            ground,
            notes: Memory::new(4096).counters(),
            maker: Cell::new(None),
        }))
    }

    /// Somebody is at it until the victim sleeps.
    fn in_the_making() -> &'static Question {
        let question = Question::new();
        let maker = Child::start(|| {
            let made = question.cell.get_or_try_init(question.ground.me(), late(), || {
                question.notes[INSIDE].store(1, SeqCst);
                let deadline = Instant::now() + SOON;
                while question.notes[GO_ON].load(SeqCst) == 0 && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                Ok::<_, String>([7; 8])
            });
            made.map(|_| Vec::new()).map_err(|error| error.to_string())
        });
        question.maker.set(maker.ok());
        let deadline = Instant::now() + SOON;
        while question.notes[INSIDE].load(SeqCst) == 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        question
    }

    /// Sets the value, or finds it set.
    fn settle(&self, me: Member<'_>, mine: u32, patience: Duration) -> Result<(), Trouble> {
        match self.cell.set_until(me, Deadline::after(patience), [mine.into(); 8]) {
            Ok(()) => {
                self.notes[COUNT].fetch_add(1, SeqCst);
                self.notes[ACKNOWLEDGED].store(mine, SeqCst);
            }
            Err(OnceError::AlreadySet) => {}
            Err(OnceError::TimedOut) => {
                return Err(Trouble::Late("somebody was at it for ever".into()));
            }
            Err(error) => return Err(Trouble::Wrong(error.to_string())),
        }
        let value = self.cell.copied().ok_or(Trouble::Wrong("set, and not there".into()))?;
        let first = value[0] as u32;
        if first == 0 || value.iter().any(|part| *part != value[0]) {
            return Err(Trouble::Wrong(format!("half a value: {value:?}")));
        }
        match self.notes[SEEN].compare_exchange(0, first, SeqCst, SeqCst) {
            Err(seen) if seen != first => {
                Err(Trouble::Wrong(format!("first {seen}, then {first}")))
            }
            _ => Ok(()),
        }
    }
}

fn late() -> Deadline {
    Deadline::after(SOON)
}

impl Scene for Question {
    fn memory(&self) -> Span {
        self.ground.span()
    }

    fn enter(&self) {
        self.ground.enter();
    }

    fn survive(&self, who: u32, patience: Duration) -> Result<(), Trouble> {
        (0..5).try_for_each(|_| self.settle(self.ground.me(), 10 + who, patience))
    }

    fn repair(&self, patience: Duration) -> Result<(), Trouble> {
        self.settle(self.ground.me(), 3, patience)
    }

    fn release(&self) {
        self.notes[GO_ON].store(1, SeqCst);
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut audit = Audit::default();
        if let Some(maker) = self.maker.take() {
            match maker.finish(Instant::now() + SOON * 2)? {
                Ending::Done(_) => {}
                Ending::Late => audit.stuck += 1,
                Ending::Failed(complaint) => return Err(format!("the maker: {complaint}")),
            }
        }
        let [seen, acknowledged, count] =
            [SEEN, ACKNOWLEDGED, COUNT].map(|note| self.notes[note].load(SeqCst));
        audit.lost += u32::from(acknowledged != 0 && acknowledged != seen);
        audit.doubled += count.saturating_sub(1);
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::new("once.set", Question::new, Question::enter, |question, ()| {
            let _ = question.settle(question.ground.me(), 1, SOON);
        })
        .twice(0),
        Operation::new("once.fail", Question::new, Question::enter, |question, ()| {
            let me = question.ground.me();
            let _ = question.cell.get_or_try_init(me, late(), || Err("no"));
        })
        .twice(0),
        Operation::new(
            "once.set.asleep",
            Question::in_the_making,
            Question::enter,
            |question, ()| {
                let _ = question.settle(question.ground.me(), 1, SOON);
            },
        ),
    ]
}
