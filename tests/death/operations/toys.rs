//! The matrix on trial: toys whose faults are known. It must clear the sound one, and find in each
//! broken one exactly what is wrong with it.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::engine::ledger::Ledger;
use crate::engine::memory::Memory;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// A box for one item under a lock that names its owner, all in four words.
struct Toy {
    memory: Memory,
    ledger: Ledger,
    /// Whether survivors ask if the owner lives.
    asks: bool,
}

/// Two halves of an item, equal unless torn. Zero: empty.
const LEFT: usize = 1;
const RIGHT: usize = 2;
const LOCK: usize = 0;

impl Toy {
    fn new(asks: bool) -> &'static Toy {
        Box::leak(Box::new(Toy { memory: Memory::new(4096), ledger: Ledger::new(), asks }))
    }

    fn sound() -> &'static Toy {
        Toy::new(true)
    }

    fn full() -> &'static Toy {
        let toy = Toy::new(true);
        let _ = toy.put(7, SOON);
        toy
    }

    fn word(&self, index: usize) -> &'static AtomicU32 {
        &self.memory.counters()[index]
    }

    /// Takes the lock, from a dead owner too. What a dead owner left half done is undone.
    fn lock(&self, patience: Duration) -> Result<(), Trouble> {
        let me = std::process::id();
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let owner = self.word(LOCK).load(SeqCst);
            if owner == 0 && self.take(0, me) {
                return Ok(());
            }
            if owner != 0 && self.asks && is_dead(owner) && self.take(owner, me) {
                if self.word(RIGHT).load(SeqCst) == 0 {
                    self.word(LEFT).store(0, SeqCst);
                }
                return Ok(());
            }
            std::thread::yield_now();
        }
        Err(Trouble::Late("the toy's lock".into()))
    }

    fn take(&self, from: u32, to: u32) -> bool {
        self.word(LOCK).compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }

    fn unlock(&self) {
        self.word(LOCK).store(0, SeqCst);
    }

    fn put(&self, item: u32, patience: Duration) -> Result<(), Trouble> {
        self.lock(patience)?;
        self.ledger.begin(item.into());
        self.word(LEFT).store(item, SeqCst);
        self.word(RIGHT).store(item, SeqCst);
        self.unlock();
        self.ledger.acknowledge(item.into());
        Ok(())
    }

    fn get(&self, patience: Duration) -> Result<(), Trouble> {
        self.lock(patience)?;
        let (left, right) = (self.word(LEFT).load(SeqCst), self.word(RIGHT).load(SeqCst));
        self.word(RIGHT).store(0, SeqCst);
        self.word(LEFT).store(0, SeqCst);
        self.unlock();
        if left != right {
            self.ledger.tear();
        } else if left != 0 {
            self.ledger.receive(left.into());
        }
        Ok(())
    }
}

impl Scene for Toy {
    fn memory(&self) -> Span {
        self.memory.span()
    }

    fn survive(&self, _: u32, patience: Duration) -> Result<(), Trouble> {
        self.get(patience)
    }

    fn audit(&self) -> Result<Audit, String> {
        Ok(self.ledger.audit())
    }
}

/// Whether no process has this id, or only a zombie.
fn is_dead(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

const SOON: Duration = Duration::from_millis(150);

/// The toys, each with what the matrix must find: stuck, lost, torn, doubled.
pub fn toys() -> Vec<(Operation, [bool; 4])> {
    let sound = Operation::new(
        "toy.sound",
        Toy::sound,
        |_| (),
        |toy, ()| {
            let _ = toy.put(7, SOON);
        },
    );
    let take = Operation::new(
        "toy.take",
        Toy::full,
        |_| (),
        |toy, ()| {
            let _ = toy.get(SOON);
        },
    );
    let stuck = Operation::new(
        "toy.stuck",
        || Toy::new(false),
        |_| (),
        |toy, ()| {
            let _ = toy.put(7, SOON);
        },
    );
    let torn = Operation::new(
        "toy.torn",
        Toy::sound,
        |_| (),
        |toy, ()| {
            // Without the lock.
            toy.ledger.begin(7);
            toy.word(LEFT).store(7, SeqCst);
            toy.word(RIGHT).store(7, SeqCst);
        },
    );
    let lost = Operation::new(
        "toy.lost",
        Toy::sound,
        |_| (),
        |toy, ()| {
            // Acknowledged too early.
            toy.ledger.begin(7);
            toy.ledger.acknowledge(7);
            let _ = toy.put(7, SOON);
        },
    );
    let doubled = Operation::new(
        "toy.doubled",
        Toy::full,
        |_| (),
        |toy, ()| {
            // Handed out before it is taken.
            toy.ledger.receive(7);
            let _ = toy.lock(SOON);
            toy.word(RIGHT).store(0, SeqCst);
            toy.word(LEFT).store(0, SeqCst);
            toy.unlock();
        },
    );
    let none = [false; 4];
    [
        (sound.twice(1), none),
        (take.may_lose(1).twice(1), none),
        (stuck, [true, false, false, false]),
        (torn, [false, false, true, false]),
        (lost, [false, true, false, false]),
        (doubled.may_lose(1), [false, false, false, true]),
    ]
    .map(|(toy, expected)| (toy.patience(SOON), expected))
    .into()
}
