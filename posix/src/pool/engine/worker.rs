//! What a worker does all day.

use procession_core::pool::{Corrupt, Take, Worker};
use procession_core::sys::{Deadline, coarse_nanos};

use super::desk::{Tools, serve};
use crate::memory::arena;
use crate::pool::lives::{Habits, Leaving, Trade};

/// The worker of a pool: takes one chunk after the other.
pub(crate) struct Chunks;

impl Trade for Chunks {
    fn work(worker: Worker<'static>, mut habits: Habits) -> Leaving {
        work(worker, &mut habits)
    }
}

fn work(mut worker: Worker<'static>, habits: &mut Habits) -> Leaving {
    let Some(mut tools) = arena().ok().and_then(|arena| {
        let board = worker.board().offset(arena.region())?;
        Tools::new(arena, board)
    }) else {
        return Leaving::Damaged;
    };
    let mut scratch = Vec::new();
    loop {
        let taken = match worker.take_at_once() {
            Ok(Some(take)) => Ok(take),
            Ok(None) => {
                worker.note_since(coarse_nanos());
                shrink(&mut scratch);
                worker.take(Deadline::NEVER)
            }
            Err(damage) => Err(damage),
        };
        let lease = match taken {
            Ok(Take::Lease(lease)) => lease,
            Ok(Take::TimedOut) => continue,
            Ok(Take::Leave(_)) => return Leaving::Asked,
            Err(Corrupt) => return Leaving::Damaged,
        };
        let most = u32::try_from(habits.tasks_left()).unwrap_or(u32::MAX);
        let served = serve(&mut tools, &worker, lease, &mut scratch, most);
        if !served.wanted {
            // It was revoked, and this process is about to be ended; or this is a child that the task has forked, and that came back
            // from it.
            return Leaving::Asked;
        }
        if let Some(leaving) = habits.after(&worker, u64::from(served.items)) {
            worker.leaves();
            return leaving;
        }
    }
}

/// Large inputs are not kept in mind for ever.
fn shrink(scratch: &mut Vec<u8>) {
    const USUAL: usize = 64 << 10;
    scratch.clear();
    scratch.shrink_to(USUAL);
}
