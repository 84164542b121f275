//! What can go wrong with what is acquired, waited for, or released.

use core::fmt;

use crate::region::JoinError;

/// Why a lock was not handed out as asked. `G` is the guard that comes with [`OwnerDied`](Self::OwnerDied).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError<G> {
    /// The lock is yours, but its last holder died with it: what it protects may be half written. Take the guard
    /// out, mend the data, and call the guard's `mark_consistent`; until somebody does, every acquire says this.
    #[error("{0}")]
    OwnerDied(OwnerDied<G>),
    /// Somebody else holds it, and the call was not to wait.
    #[error("the lock is held; try again or wait with a deadline")]
    WouldBlock,
    /// Somebody else held it until the deadline.
    #[error("the lock was held until the deadline passed")]
    TimedOut,
    /// The words of the lock hold what no lock ever holds: its memory was overwritten.
    #[error(
        "the lock's memory is damaged (word {word:#010x}); something wrote over it, create the object anew"
    )]
    Corrupt {
        /// What stands there.
        word: u64,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
    /// This thread has acquired the lock too often without releasing it.
    #[error(
        "the lock was acquired {most} times by this thread: release it, a recursion has no end"
    )]
    TooDeep {
        /// How often it can be.
        most: u32,
    },
}

/// A guard, together with the news that the lock's last holder died. The shape of std's `PoisonError`.
pub struct OwnerDied<G> {
    guard: G,
}

impl<G> OwnerDied<G> {
    /// Wraps a guard in the news.
    pub fn new(guard: G) -> Self {
        Self { guard }
    }

    /// The guard: the lock is held.
    pub fn into_guard(self) -> G {
        self.guard
    }

    /// The guard, inside.
    pub fn guard(&self) -> &G {
        &self.guard
    }

    /// The guard, inside, to change.
    pub fn guard_mut(&mut self) -> &mut G {
        &mut self.guard
    }

    /// The same news with another guard, made of this one.
    pub fn map<H>(self, make: impl FnOnce(G) -> H) -> OwnerDied<H> {
        OwnerDied { guard: make(self.guard) }
    }
}

impl<G> fmt::Debug for OwnerDied<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerDied").finish_non_exhaustive()
    }
}

impl<G> fmt::Display for OwnerDied<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a process died while it held the lock: what it protects may be half written; \
             mend it and mark the lock consistent",
        )
    }
}

impl<G> core::error::Error for OwnerDied<G> {}

impl<G> AcquireError<G> {
    /// The same error with another guard, made of this one.
    pub fn map<H>(self, make: impl FnOnce(G) -> H) -> AcquireError<H> {
        match self {
            Self::OwnerDied(died) => AcquireError::OwnerDied(died.map(make)),
            Self::WouldBlock => AcquireError::WouldBlock,
            Self::TimedOut => AcquireError::TimedOut,
            Self::Corrupt { word } => AcquireError::Corrupt { word },
            Self::Join(error) => AcquireError::Join(error),
            Self::TooDeep { most } => AcquireError::TooDeep { most },
        }
    }

    /// The same error for a call that was not to wait, made of that for a deadline that is past.
    #[must_use]
    pub fn at_once(self) -> Self {
        match self {
            Self::TimedOut => Self::WouldBlock,
            other => other,
        }
    }

    /// The guard if the lock was taken over from the dead, else the error.
    ///
    /// # Errors
    /// The same error, if no lock came with it.
    pub fn into_guard(self) -> Result<G, Self> {
        match self {
            Self::OwnerDied(died) => Ok(died.into_guard()),
            other => Err(other),
        }
    }
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It is not there, and the call was not to wait.
    #[error("not now; try again or wait with a deadline")]
    WouldBlock,
    /// It did not come before the deadline.
    #[error("what was waited for did not come before the deadline")]
    TimedOut,
    /// The object holds what it never holds: its memory was overwritten.
    #[error(
        "the object's memory is damaged (word {word:#018x}); something wrote over it, create it anew"
    )]
    Corrupt {
        /// What stands there.
        word: u64,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

impl WaitError {
    /// The same error for a call that was not to wait, made of that for a deadline that is past.
    #[must_use]
    pub fn at_once(self) -> Self {
        match self {
            Self::TimedOut => Self::WouldBlock,
            other => other,
        }
    }
}

/// Why something was not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Nobody holds it.
    #[error("released too often: nobody holds it")]
    NotHeld,
    /// It belongs to a guard, which alone gives it back.
    #[error(
        "a guard holds it, and gives it back when it is dropped: \
         only what a guard's `detach` has left behind is released by hand"
    )]
    Guarded,
    /// Another thread or process holds it.
    #[error("another thread or process holds it, and it alone can release it")]
    NotOwner,
    /// There would be more than the bound allows.
    #[error("released too often: there would be more than {most}")]
    TooMany {
        /// How many there can be.
        most: u32,
    },
    /// The object holds what it never holds: its memory was overwritten.
    #[error(
        "the object's memory is damaged (word {word:#018x}); something wrote over it, create it anew"
    )]
    Corrupt {
        /// What stands there.
        word: u64,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}
