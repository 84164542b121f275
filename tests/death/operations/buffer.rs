//! `BufferQueue`: what was put arrives whole, and the memory that the dead had in hand comes back.

use std::cell::Cell;
use std::time::Duration;

use procession_posix::channel::{Buffer, BufferQueue, GetError, PutError};
use procession_posix::memory::{Arena, Config, arena, configure};
use procession_posix::sync::Deadline;

use super::ground::get_ready;
use super::items::{EARLIER, HELPERS, Refusal, SURVIVORS, VICTIMS};
use crate::engine::ledger::Ledger;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Every wait has a deadline; where nobody died, none comes near it.
const SOON: Duration = Duration::from_secs(8);
/// How many buffers the survivors move: every place comes round more than once.
const MOVED: u64 = 10;

/// Sizes of buffers: a block, and a run of chunks.
const USUAL: usize = 600;
const HUGE: usize = 33_000;

/// A queue of buffers in the arena of this take's processes.
struct Dock {
    arena: &'static Arena,
    queue: BufferQueue,
    ledger: Ledger,
    size: usize,
    wants: Cell<Wants>,
}

/// What a sleeping victim waits for.
#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Room,
    Buffer,
}

impl Dock {
    /// A queue for four buffers, with so many of this size in it.
    fn new(size: usize, filled: u64, wants: Wants) -> &'static Dock {
        let mut config = Config::new();
        config.reserve = Some(4 << 20);
        config.participants = Some(8);
        configure(config).expect("an arena of our own");
        let dock = Dock {
            arena: arena().expect("an arena"),
            queue: BufferQueue::bounded(4).expect("a queue"),
            ledger: Ledger::new(),
            size,
            wants: Cell::new(wants),
        };
        dock.put(EARLIER, filled).expect("the first buffers");
        Box::leak(Box::new(dock))
    }

    /// A buffer with this number in each of its words.
    fn fill(&self, number: u64) -> Result<Buffer, Trouble> {
        let buffer = self.queue.reserve(self.size);
        let mut buffer = buffer.map_err(|e| Trouble::Wrong(format!("reserving: {e}")))?;
        let words = buffer.view_mut::<u64>().map_err(|e| Trouble::Wrong(e.to_string()))?;
        words.fill(number);
        Ok(buffer)
    }

    fn put_one(&self, number: u64, buffer: Buffer) -> Result<(), Trouble> {
        self.ledger.begin(number);
        let put = self.queue.put_until(buffer, Deadline::after(SOON));
        put.map_err(|e| e.error.trouble(&format!("putting {number}")))?;
        self.ledger.acknowledge(number);
        Ok(())
    }

    fn put(&self, first: u64, count: u64) -> Result<(), Trouble> {
        for number in first..first + count {
            self.put_one(number, self.fill(number)?)?;
        }
        Ok(())
    }

    fn got(&self, buffer: &Buffer) -> u64 {
        let words = buffer.view::<u64>().unwrap_or(&[]);
        match words.first() {
            Some(&number) if words.iter().all(|&word| word == number) => {
                self.ledger.receive(number);
                number
            }
            _ => {
                self.ledger.tear();
                0
            }
        }
    }

    fn get(&self, count: u64) -> Result<(), Trouble> {
        let mut last = 0;
        for turn in 0..count {
            let buffer = self.queue.get_until(Deadline::after(SOON));
            let buffer = buffer.map_err(|e| e.trouble(&format!("getting the {turn}th")))?;
            let number = self.got(&buffer);
            if number <= last {
                return Err(Trouble::Wrong(format!("{number} came after {last}")));
            }
            last = number;
        }
        Ok(())
    }

    fn ready_to_put(&'static self) -> Option<Buffer> {
        self.enter();
        self.fill(VICTIMS).ok()
    }
}

impl Scene for Dock {
    fn memory(&self) -> Span {
        let region = self.arena.region();
        Span { start: region.base().addr().get(), len: region.size() as usize }
    }

    fn enter(&self) {
        get_ready(self.arena.member());
    }

    /// The first puts, the second sweeps and gets.
    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        if who == 0 {
            return self.put(SURVIVORS, MOVED);
        }
        self.arena.sweep();
        self.get(MOVED)
    }

    /// Gets all that is there, then puts and gets again.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        let mut looks = 0;
        loop {
            match self.queue.get_nowait() {
                Ok(buffer) => {
                    self.got(&buffer);
                }
                Err(GetError::Empty) => break,
                // A try asks whether the owner of a claim lives once a millisecond at most.
                Err(GetError::Busy) if looks < 100 => {
                    looks += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.trouble("getting all")),
            }
        }
        self.put(HELPERS + 50, 2)?;
        self.get(1)
    }

    fn release(&self) {
        let done = match self.wants.replace(Wants::Nothing) {
            Wants::Nothing => Ok(()),
            Wants::Room => self.get(1),
            Wants::Buffer => self.put(HELPERS, 1),
        };
        done.expect("what the victim waits for");
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut stuck = 0;
        self.queue.close();
        loop {
            match self.queue.get_until(Deadline::after(SOON)) {
                Ok(buffer) => {
                    self.got(&buffer);
                }
                Err(GetError::Closed) => break,
                Err(GetError::TimedOut) => {
                    stuck += 1;
                    break;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        self.arena.sweep();
        let usage = self.arena.region().usage();
        let mut audit = Audit { stuck, ..self.ledger.audit() };
        // The queue itself is this process's own. Nothing else may stay behind.
        audit.lost += (usage.owned - 1 + usage.queued + usage.run_chunks) as u32;
        audit.torn += usage.damaged as u32;
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    use Wants::{Nothing, Room};
    let put = |name, set| {
        Operation::new(name, set, Dock::ready_to_put, |dock: &Dock, buffer| {
            if let Some(buffer) = buffer {
                let _ = dock.put_one(VICTIMS, buffer);
            }
        })
    };
    let get = |name, set| {
        Operation::new(name, set, Dock::enter, |dock: &Dock, ()| {
            let _ = dock.get(1);
        })
        .may_lose(1)
    };
    vec![
        Operation::new(
            "buffer.reserve",
            || Dock::new(USUAL, 2, Nothing),
            Dock::enter,
            |dock, ()| drop(dock.queue.reserve(USUAL)),
        )
        .twice(1),
        put("buffer.put", || Dock::new(USUAL, 2, Nothing)).twice(1),
        put("buffer.put.asleep", || Dock::new(USUAL, 4, Room)),
        put("buffer.put.huge", || Dock::new(HUGE, 2, Nothing)),
        Operation::new(
            "buffer.put.refused",
            || Dock::new(USUAL, 4, Nothing),
            Dock::ready_to_put,
            |dock, buffer| {
                let refused = buffer.map(|buffer| dock.queue.put_nowait(buffer));
                if let Some(Err(unsent)) = refused {
                    debug_assert!(matches!(unsent.error, PutError::Full));
                }
            },
        ),
        get("buffer.get", || Dock::new(USUAL, 2, Nothing)).twice(1),
        get("buffer.get.asleep", || Dock::new(USUAL, 0, Wants::Buffer)),
        get("buffer.get.huge", || Dock::new(HUGE, 2, Nothing)),
        Operation::new(
            "buffer.forward",
            || Dock::new(USUAL, 2, Nothing),
            Dock::enter,
            |dock, ()| {
                // The same memory under another number.
                let Ok(mut buffer) = dock.queue.get_until(Deadline::after(SOON)) else { return };
                dock.got(&buffer);
                buffer.view_mut::<u64>().unwrap_or_default().fill(VICTIMS);
                let _ = dock.put_one(VICTIMS, buffer);
            },
        )
        .may_lose(1)
        .twice(1),
    ]
}
