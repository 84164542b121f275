//! The life of a pool, as its owner has it: one word.
//!
//! ```text
//! phase 3 | pending 29          pending: tasks that were accepted and are not over
//!
//! RUN           accepts tasks
//! CLOSED        accepts none; what was accepted is done
//! BROKEN        accepts none; what was accepted fails, with a cause that is kept elsewhere
//! TERMINATING   accepts none; what was accepted is given up
//! ENDED         nothing is pending and nobody works any more
//!
//! RUN → CLOSED                          close
//! RUN, CLOSED → BROKEN                  break
//! RUN, CLOSED, BROKEN → TERMINATING     terminate
//! CLOSED, BROKEN, TERMINATING → ENDED   end, once nothing is pending
//! pending + 1, in RUN only              begin
//! pending - 1                           over
//! ```
//!
//! - Every step is one compare-and-swap of the one word. So whoever was told that its task is accepted finds it counted
//!   by whoever closes, and nobody is told so after that.
//! - Exactly one caller is told that a closed pool has nothing left to do: who closed it with nothing pending, or who
//!   was over last. That one tells the workers to leave.
//! - Nobody waits here; phases only go forward, so whoever waits elsewhere for a phase waits for something that comes.

use crate::sys::atomic::{AtomicU32, Ordering};

const PHASE_SHIFT: u32 = 29;
const PENDING: u32 = (1 << PHASE_SHIFT) - 1;

/// Where a pool's life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It accepts tasks.
    Run,
    /// It accepts none, and does what it has accepted.
    Closed,
    /// It accepts none, and what it has accepted fails.
    Broken,
    /// It accepts none, and gives up what it has accepted.
    Terminating,
    /// All is over.
    Ended,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Run, Self::Closed, Self::Broken, Self::Terminating, Self::Ended];

    fn of(word: u32) -> Self {
        // Written by this file alone.
        Self::ALL[(word >> PHASE_SHIFT) as usize % Self::ALL.len()]
    }

    fn number(self) -> u32 {
        self as u32
    }

    /// Whether it accepts tasks.
    #[must_use]
    pub fn accepts(self) -> bool {
        self == Self::Run
    }
}

/// A task was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pool is past accepting tasks: in this phase.
    Phase(Phase),
    /// 2²⁹ tasks are pending.
    Full,
}

/// What a step towards the end has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The step was taken, and tasks are pending.
    Pending,
    /// The step was taken, and nothing is pending: the caller is the one who is told so.
    Idle,
    /// The pool was there already, or further.
    Already(Phase),
}

/// The life of a pool; see the module's source.
///
/// ```
/// use procession_core::pool::{Closing, Phase, Refused, State};
///
/// let state = State::new();
/// assert_eq!(state.begin(2), Ok(()));
/// assert_eq!(state.close(), Closing::Pending);
/// assert_eq!(state.begin(1), Err(Refused::Phase(Phase::Closed)));
/// assert!(!state.over(1));
/// assert!(state.over(1), "that was the last one of a closed pool");
/// assert!(state.end());
/// assert_eq!(state.phase(), Phase::Ended);
/// ```
#[derive(Debug)]
pub struct State(AtomicU32);

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// A pool that accepts tasks and has none.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Where it is.
    #[inline]
    #[must_use]
    pub fn phase(&self) -> Phase {
        // Acquire meets the Release of whoever moved it on.
        Phase::of(self.0.load(Ordering::Acquire))
    }

    /// How many tasks are pending.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.0.load(Ordering::Acquire) & PENDING
    }

    /// Accepts `count` tasks, each of which has to be [`over`](Self::over) some day.
    ///
    /// # Errors
    /// [`Refused`] if the pool accepts none.
    #[inline]
    pub fn begin(&self, count: u32) -> Result<(), Refused> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if !Phase::of(word).accepts() {
                return Err(Refused::Phase(Phase::of(word)));
            }
            let pending = (word & PENDING).saturating_add(count);
            if pending > PENDING {
                return Err(Refused::Full);
            }
            // AcqRel: who closes sees the task, and who is refused sees why.
            match self.0.compare_exchange(word, pending, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// So many tasks are over; whether they were the last of a pool that accepts no more.
    #[inline]
    pub fn over(&self, count: u32) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let left = (word & PENDING).saturating_sub(count);
            let next = word & !PENDING | left;
            // AcqRel: what came of the tasks is there for whoever finds none pending.
            match self.0.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return left == 0 && word & PENDING != 0 && !Phase::of(word).accepts(),
                Err(now) => word = now,
            }
        }
    }

    /// Accepts no more tasks.
    pub fn close(&self) -> Closing {
        self.advance(Phase::Closed, false)
    }

    /// Accepts no more tasks, and what is pending is to fail.
    pub fn break_down(&self) -> Closing {
        self.advance(Phase::Broken, false)
    }

    /// Accepts no more tasks, and gives up what is pending.
    pub fn terminate(&self) -> Closing {
        self.advance(Phase::Terminating, false)
    }

    /// All is over: `true` for the one caller that has ended it. `false` if it still accepts tasks, or some are pending, or it
    /// has ended before.
    pub fn end(&self) -> bool {
        self.phase() != Phase::Run && self.advance(Phase::Ended, true) == Closing::Idle
    }

    /// Moves on to a later phase; `idle`: only if nothing is pending.
    fn advance(&self, to: Phase, idle: bool) -> Closing {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (now, pending) = (Phase::of(word), word & PENDING);
            if now >= to {
                return Closing::Already(now);
            }
            if idle && pending != 0 {
                return Closing::Pending;
            }
            let next = to.number() << PHASE_SHIFT | pending;
            // AcqRel: as in `begin`.
            match self.0.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if pending == 0 => return Closing::Idle,
                Ok(_) => return Closing::Pending,
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn phases_only_go_forward() {
        for phase in Phase::ALL {
            let state = State(AtomicU32::new(phase.number() << PHASE_SHIFT));
            assert_eq!(state.phase(), phase);
            assert_eq!(state.begin(1).is_ok(), phase == Phase::Run);
            let steps = [State::close, State::break_down, State::terminate];
            for (step, to) in steps.into_iter().zip(&Phase::ALL[1..]) {
                let before = state.phase();
                let answer = step(&state);
                assert_eq!(matches!(answer, Closing::Already(_)), before >= *to);
                assert_eq!(state.phase(), before.max(*to));
            }
            if phase == Phase::Run {
                assert!(!state.end(), "a task is pending");
                assert!(state.over(1));
            }
            assert_eq!(state.end(), phase != Phase::Ended);
            assert!(!state.end());
        }
    }

    #[test]
    fn a_pool_takes_so_many_tasks_and_no_more() {
        let state = State::new();
        assert!(!state.end(), "it accepts tasks");
        assert_eq!(state.begin(PENDING), Ok(()));
        assert_eq!(state.begin(1), Err(Refused::Full));
        assert_eq!(state.begin(u32::MAX), Err(Refused::Full));
        assert!(!state.over(PENDING), "it is not closed");
        assert!(!state.over(1), "nothing was pending");
        assert_eq!(state.close(), Closing::Idle);
        assert!(!state.over(1), "nothing was pending");
    }
}
