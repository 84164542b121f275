//! A latch that travels.

use std::fmt;
use std::time::Duration;

use procession_core::sync::{self as core, LatchPlaceError};
use procession_core::sys::Deadline;

use super::shared::{Shared, waiters};
use super::{LatchError, Part};
use crate::memory::{Arena, MemoryError, arena, kind};

/// Why a latch cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LatchCreateError {
    /// No room, or no shared memory at all.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Not what a latch can be.
    #[error(transparent)]
    Place(#[from] LatchPlaceError),
}

/// Work in so many parts, for which others wait until all of it is done: as C++'s `std::latch`, and Java's `CountDownLatch`.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same latch. In memory it is 24 bytes and 4 for
/// each part. It opens once, for good.
///
/// There are two ways to do a part:
///
/// - [`count_down`](Self::count_down) does one at once.
/// - [`part`](Self::part) claims one, to be done later. If a process dies with it, the latch is *broken*: it will never
///   open, and who waits is told so within some milliseconds, with the process's id. That is for work which nobody else
///   will do.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::Latch;
///
/// fn work(latch: Latch) -> procession_posix::Result<()> {
///     let part = latch.part()?;
///     // If this process dies here, those who wait do not wait for ever.
///     part.count_down()?;
///     Ok(())
/// }
///
/// let latch = Latch::new(3)?;
/// let children: Vec<_> = (0..3)
///     .map(|_| Process::new(work, (latch.clone(),)).start())
///     .collect::<Result<_, _>>()?;
/// latch.wait()?;
/// assert!(latch.is_open());
/// # for child in children { child.join()??; }
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct Latch {
    shared: Shared<core::Latch<'static>>,
}

impl Latch {
    /// A latch of so many parts; without any it is open from the start.
    ///
    /// # Errors
    /// `Memory` if there is no shared memory to be had; `Place` if there are more than 65,536 parts.
    pub fn new(parts: u32) -> Result<Self, LatchCreateError> {
        Self::new_in(arena()?, parts)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena, parts: u32) -> Result<Self, LatchCreateError> {
        let bytes = core::Latch::bytes_for(parts)?;
        let create = |place| Ok::<_, LatchCreateError>(core::Latch::create(place, parts)?);
        Ok(Self { shared: Shared::create(arena, kind::LATCH, bytes, create)? })
    }

    /// Does one part, and opens the latch if it was the last.
    ///
    /// # Errors
    /// `TooMany` if no part is left, each being done or claimed; `Corrupt`.
    pub fn count_down(&self) -> Result<(), LatchError> {
        self.shared.object.count_down(self.shared.me)
    }

    /// Claims a part, to be done later by [`Part::count_down`]. If this process dies with it, the latch is broken; if the
    /// claim is dropped, the part is anybody's again.
    ///
    /// # Errors
    /// `TooMany` if no part is left, each being done or claimed; `Corrupt`; `Join`.
    ///
    /// ```
    /// use procession_posix::process::Process;
    /// use procession_posix::sync::{Latch, LatchError};
    ///
    /// fn die(latch: Latch) {
    ///     let _part = latch.part().unwrap();
    ///     std::process::abort();
    /// }
    ///
    /// let latch = Latch::new(2)?;
    /// latch.count_down()?;
    /// let child = Process::new(die, (latch.clone(),)).start()?;
    /// assert!(matches!(latch.wait(), Err(LatchError::Broken { pid: 1.. })));
    /// assert!(child.join().is_err());
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn part(&self) -> Result<Part<'_>, LatchError> {
        self.shared.object.part(self.shared.me)
    }

    /// Waits as long as it takes until the latch is open, or broken.
    ///
    /// # Errors
    /// `Broken`, if a process died with a part; `Corrupt`.
    pub fn wait(&self) -> Result<(), LatchError> {
        self.shared.object.wait(self.shared.me)
    }

    /// Whether it is open, as an answer that tells what else is the matter.
    ///
    /// # Errors
    /// `WouldBlock` if it is not open; otherwise as [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<(), LatchError> {
        self.shared.object.try_wait(self.shared.me)
    }

    /// Waits for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), LatchError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// Waits until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`wait`](Self::wait).
    pub fn wait_until(&self, deadline: Deadline) -> Result<(), LatchError> {
        self.shared.object.wait_until(self.shared.me, deadline)
    }

    /// [`wait`](Self::wait) for programs over tokio: waits without holding up the thread. Dropping the future stops waiting. With
    /// the feature `async`.
    ///
    /// # Errors
    /// Outside, the system's, if there is no descriptor to wait with; inside, as [`wait`](Self::wait).
    #[cfg(feature = "async")]
    pub async fn wait_async(&self) -> std::io::Result<Result<(), LatchError>> {
        let would_block = |error: &LatchError| *error == LatchError::WouldBlock;
        crate::ready::retry(self, || self.try_wait(), would_block).await
    }

    /// How many parts it was made with.
    #[must_use]
    pub fn parts(&self) -> u32 {
        self.shared.object.parts()
    }

    /// How many parts were not done at some moment of the call.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.shared.object.remaining()
    }

    /// Whether every part is done. Who sees it open sees what was done before.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.object.is_open()
    }

    /// The process that died with a part, once somebody who waits has found out; 0 if its id is no longer known.
    #[must_use]
    pub fn broken(&self) -> Option<u32> {
        self.shared.object.broken()
    }
}

/// What is left to do, and who sleeps for it since when: as of about now.
impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch")
            .field("parts", &self.parts())
            .field("remaining", &self.remaining())
            .field("broken", &self.broken())
            .field("waiters", &waiters(&self.shared.object, self.shared.me))
            .finish()
    }
}

impl crate::wait::sealed::Source for Latch {
    fn source(&self) -> &dyn procession_core::wait::Waitable {
        &self.shared.object
    }

    fn me(&self) -> procession_core::region::Member<'static> {
        self.shared.me
    }
}

impl serde::Serialize for Latch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shared.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Latch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { shared: Shared::attach(deserializer, kind::LATCH, core::Latch::attach)? })
    }
}
