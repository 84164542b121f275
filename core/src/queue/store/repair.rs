//! The lock, and what a dead holder of it has left.

use bytemuck::Pod;

use super::cells::State;
use super::{Counts, Damaged, NONE, Store};
use crate::region::{JoinError, Member};
use crate::sync::{AcquireError, LockGuard};
use crate::sys::Deadline;
use crate::sys::atomic::Ordering;
use core::time::Duration;

/// How long a try waits for a living holder of the lock: longer than anybody holds it who is not stopped.
const PATIENCE: Duration = Duration::from_micros(200);

/// Why the lock was not taken.
pub(super) enum Refusal {
    /// Somebody living holds it.
    Busy,
    Corrupt,
    Join(JoinError),
}

impl From<Damaged> for Refusal {
    fn from(_: Damaged) -> Self {
        Self::Corrupt
    }
}

impl<'s, T: Pod> Store<'s, T> {
    /// The lock, with everything in order under it; and whether somebody died over it. A deadline that is past waits for a moment
    /// all the same: who holds it is about to give it back.
    pub(super) fn lock(
        &self,
        me: Member<'s>,
        deadline: Deadline,
    ) -> Result<(LockGuard<'s>, bool), Refusal> {
        let lock = &self.parts.index.lock;
        let acquired = match lock.try_acquire(me) {
            Err(AcquireError::WouldBlock) => {
                let patience = Deadline::after(PATIENCE);
                lock.acquire_until(me, if deadline < patience { patience } else { deadline })
            }
            other => other,
        };
        match acquired {
            Ok(guard) => Ok((guard, false)),
            Err(AcquireError::OwnerDied(died)) => {
                let mut guard = died.into_guard();
                self.rebuild()?;
                guard.mark_consistent();
                Ok((guard, true))
            }
            Err(AcquireError::WouldBlock | AcquireError::TimedOut) => Err(Refusal::Busy),
            Err(AcquireError::Join(error)) => Err(Refusal::Join(error)),
            Err(_) => Err(Refusal::Corrupt),
        }
    }

    /// Makes everything anew that follows from the cells' words. Under the lock, which a dead process held: what is halfway in
    /// a cell was that one's.
    #[cold]
    fn rebuild(&self) -> Result<(), Damaged> {
        let mut next = self.parts.index.next.get();
        self.survey(|_, cell| {
            let word = cell.word();
            match word.state() {
                State::Free => return Ok(false),
                State::Filling(_) => {
                    cell.set(word.passed());
                    return Ok(false);
                }
                State::Held(_) if !self.plan.policy.leases() => {
                    self.count_lost();
                    cell.set(word.passed());
                    return Ok(false);
                }
                State::Full | State::Held(_) => {}
                State::Damaged => return Err(Damaged),
            }
            next = next.max(cell.number.get().wrapping_add(1));
            Ok(true)
        })?;
        let (full, held) = self.reindex(
            |cell| cell.word().state() == State::Full,
            |cell| matches!(cell.word().state(), State::Held(_)),
        )?;
        self.parts.index.next.set(next);
        self.set_counts(Counts { full, held });
        Ok(())
    }

    /// One item more that nobody will ever finish. Counted before its cell is free: a second death may count it twice, none
    /// not at all.
    pub(super) fn count_lost(&self) {
        let lost = &self.parts.state.lost;
        // Relaxed: the lock orders it, or who reads it does not care.
        lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How many wait and how many are held, if there are so many cells.
    pub(super) fn sound_counts(&self) -> Result<Counts, Damaged> {
        let counts = self.counts();
        let used = u64::from(counts.full) + u64::from(counts.held);
        if used <= self.size_with(self.grown()?) { Ok(counts) } else { Err(Damaged) }
    }

    /// Puts an item back that was held, after it was taken off that list.
    pub(super) fn restore(&self, number: u32) -> Result<(), Damaged> {
        let (cell, counts) = (self.cell(number)?, self.sound_counts()?);
        let held = counts.held.checked_sub(1).ok_or(Damaged)?;
        cell.returns.set(cell.returns.get().saturating_add(1));
        cell.set(cell.word().full());
        self.reenter(number, counts.full)?;
        self.set_counts(Counts { full: counts.full + 1, held });
        Ok(())
    }

    /// Frees the cell of an item that was held, after it was taken off that list.
    pub(super) fn free_held(&self, number: u32) -> Result<(), Damaged> {
        let (cell, counts) = (self.cell(number)?, self.counts());
        let held = counts.held.checked_sub(1).ok_or(Damaged)?;
        cell.set(cell.word().passed());
        self.put_free(number)?;
        self.set_counts(Counts { held, ..counts });
        Ok(())
    }

    /// The oldest held item that `wanted` picks.
    pub(super) fn find_held(
        &self,
        mut wanted: impl FnMut(&super::Cell<T>) -> bool,
    ) -> Result<Option<u32>, Damaged> {
        let mut number = self.parts.index.oldest.get();
        for _ in 0..self.sound_counts()?.held {
            if number == NONE {
                return Err(Damaged);
            }
            let cell = self.cell(number)?;
            if wanted(cell) {
                return Ok(Some(number));
            }
            number = cell.next.get();
        }
        Ok(None)
    }
}
