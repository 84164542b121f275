//! The crew of worker processes: tasks go to them through a board, and their answers come back the same way.
//!
//! ```text
//! submit   encoded in the caller's memory, or in a block; put into a free cell and published, or among those that wait for one
//! worker   takes the cell by one word, does all that is in it, lays the answers behind the inputs, gives the cell back by that word
//! collect  whoever waits for anything gets back all that is done: decoded, delivered, the cell free for the next
//! ```
//!
//! Who owns what: inputs and answers lie in the cell, or in a block that is tied to the ticket of the cell's turn. A task stays in
//! the hall, in this process' memory, until its sink has got everything; so what a worker had when it died is known here, and
//! fails or is handed out again.
//!
//! No lock is shared with a worker; the hall's own is held for some instructions, and no user's code runs under it.

mod bulk;
mod collect;
mod courier;
mod crew;
mod decode;
mod desk;
mod encode;
mod hall;
mod job;
mod paces;
mod spares;
mod submit;
#[cfg(test)]
#[cfg(test)]
mod tests;
mod wire;
mod work;
mod worker;

use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use procession_core::pool::{Board, MOST_SEATS, Plan};
use procession_core::region::{AllocError, Member, Tag};

use serde::Serialize;
use serde::de::DeserializeOwned;

use courier::Courier;
use crew::Leftovers;
use hall::Hall;
use paces::Paces;
use spares::Spares;
pub(crate) use worker::Chunks;

use super::board::{BoardError, OwnBoard};
use super::lives::{Hire, Limits, Lives, Rules, Seats};
use crate::process::Target;
use crate::task::{Counters, Options, PoolError, Prepare, Start};

/// How many chunks can be with the workers at a time.
const CELLS: u32 = 1024;

/// A crew of worker processes.
pub struct ProcessCrew {
    itself: Weak<ProcessCrew>,
    own: OwnBoard,
    leftovers: Leftovers,
    board: Board<'static>,
    me: Member<'static>,
    /// Who made it: a child that is forked from that one is another.
    tag: Tag,
    pid: u32,
    lives: Lives,
    seats: Seats,
    hall: Mutex<Hall>,
    counters: Counters,
    courier: Courier,
    /// Bytes of answers for a hundred bytes of inputs, in chunks of several items.
    ratio: AtomicU32,
    /// How long a worker is busy with a chunk, in nanoseconds, as it was lately; 0 while that is not known.
    pace: AtomicU64,
    /// How long the last chunk was under way, in nanoseconds.
    latency: AtomicU64,
    spares: Spares,
    paces: Paces,
    /// Of how many deaths a task is quarantined.
    quarantine: u32,
}

/// Seats beyond the most workers: for those who come while others leave, and to grow later.
const MORE_SEATS: usize = 64;

impl Start for ProcessCrew {
    /// How workers are started, with what they run first.
    type Initializer = Hire;

    fn start(options: Options<Hire>) -> Result<Arc<Self>, PoolError> {
        let most = *options.workers.end();
        let all = MOST_SEATS as usize;
        if most > all {
            return Err(PoolError::TooMany {
                what: "the number of workers",
                asked: most,
                most: all,
            });
        }
        let rules = Rules::of(&options);
        let limits = Limits { tasks: options.max_tasks, memory: options.memory_limit };
        let hire = options.initializer.unwrap_or_else(|| Hire::new::<Chunks, _, ()>(|| (), ()));
        let hire = hire.method(options.method).limits(limits);
        let plan = Plan { cells: CELLS, seats: (most + MORE_SEATS).min(all) as u32 };
        let own = OwnBoard::create(plan).map_err(|error| match error {
            BoardError::Memory(error) => PoolError::Memory(error),
            BoardError::Handle(_) | BoardError::Place(_) => {
                PoolError::Corrupt { what: "a new board that cannot be used" }
            }
        })?;
        let me = own.arena().member();
        let tag = me.tag().map_err(|error| PoolError::Memory(AllocError::from(error).into()))?;
        let lives = Lives::new(options.name)?;
        let seats = Seats::new(&own, hire);
        let count = seats.count();
        let crew = Arc::new_cyclic(|itself| ProcessCrew {
            itself: itself.clone(),
            board: own.board(),
            own,
            leftovers: Leftovers::default(),
            me,
            tag,
            pid: std::process::id(),
            lives: lives.clone(),
            seats,
            hall: Mutex::new(Hall::new(CELLS)),
            counters: Counters::default(),
            courier: Courier::default(),
            ratio: AtomicU32::new(120),
            pace: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            spares: Spares::default(),
            paces: Paces::default(),
            quarantine: options.quarantine.max(1),
        });
        lives.begin(crew.clone(), count, rules)?;
        Ok(crew)
    }
}

impl<F, Args> Prepare<F, Args> for ProcessCrew
where
    F: Target<Args>,
    Args: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn prepare(f: F, args: Args) -> Hire {
        Hire::new::<Chunks, F, Args>(f, args)
    }
}

impl ProcessCrew {
    /// Whether this is the process that made it. A load.
    #[inline]
    fn is_here(&self) -> bool {
        self.me.is(self.tag)
    }

    /// So many tasks have got their results.
    fn tasks_over(&self, count: u32) {
        if count > 0 && self.lives.state().over(count) {
            self.lives.finish();
        }
    }
}

/// A thread that panicked under this lock left nothing halfway: under it no code of others runs.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
