//! Semaphores that travel: one that others may add to, and one with a bound.

use std::fmt;
use std::time::Duration;

use procession_core::region::Who;
use procession_core::sync::{self as core, SemaphorePlaceError};
use procession_core::sys::Deadline;

use super::shared::{Shared, waiters};
use super::{Permit, PermitError, ReleaseError, WaitError};
use crate::memory::{Arena, MemoryError, arena, kind};

/// Why a semaphore cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SemaphoreError {
    /// No room, or no shared memory at all.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Not what a semaphore can be.
    #[error(transparent)]
    Place(#[from] SemaphorePlaceError),
}

/// Units that processes share, as `multiprocessing.Semaphore`: who wants one waits until one is free.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same semaphore. In memory it is 64 bytes and 8 for
/// each permit: as many as there are units at first, but 16 at least, and 4095 at most.
///
/// There are two ways to have a unit:
///
/// - [`acquire`](Self::acquire) gives a [`Permit`], which gives the unit back when it is dropped. A process that is killed does not
///   take its permits along: who waits for a unit has it within some milliseconds (a quarter of a second, for who has
///   waited long or beside others). One that is merely stopped keeps them.
/// - [`take`](Self::take) and [`release`](Self::release) only count, as the original's `acquire` and `release` do. Any process
///   may release what another took, or what nobody took: each release adds a unit. What a process takes and does not
///   release before it dies is gone. [`BoundedSemaphore`] refuses releases of what was not taken.
///
/// Without contention a permit is one compare-and-swap and one store, `take` and `release` one compare-and-swap each, no
/// system call. Fairness is not promised: a unit that is free is taken by whoever comes first.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::Semaphore;
///
/// fn download(slots: Semaphore) -> procession_posix::Result<()> {
///     let _slot = slots.acquire()?;
///     // At most two at a time are here.
///     Ok(())
/// }
///
/// let slots = Semaphore::new(2)?;
/// let children: Vec<_> = (0..4)
///     .map(|_| Process::new(download, (slots.clone(),)).start())
///     .collect::<Result<_, _>>()?;
/// for child in children {
///     child.join()??;
/// }
/// assert_eq!(slots.value(), 2);
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    shared: Shared<core::Semaphore<'static>>,
}

/// A [`Semaphore`] that never has more units than it starts with, as `multiprocessing.BoundedSemaphore`: to release more than was taken
/// is an error, found out in the same atomic step that would have released. So is releasing the unit of a [`Permit`].
///
/// There is room for a permit for each unit, but for 4095 at most.
///
/// ```
/// use procession_posix::sync::{BoundedSemaphore, ReleaseError};
///
/// let slots = BoundedSemaphore::new(2)?;
/// slots.take()?;
/// let permit = slots.acquire()?;
/// assert!(slots.try_acquire().is_err());
///
/// slots.release()?;
/// // The permit alone gives its unit back.
/// assert_eq!(slots.release(), Err(ReleaseError::TooMany { most: 2 }));
/// drop(permit);
/// assert_eq!(slots.value(), 2);
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct BoundedSemaphore {
    shared: Shared<core::Semaphore<'static>>,
}

impl Semaphore {
    /// A semaphore of `value` free units.
    ///
    /// # Errors
    /// `Memory` if there is no shared memory to be had; `Place` if `value` is above 2³¹ - 1.
    pub fn new(value: u32) -> Result<Self, SemaphoreError> {
        Self::new_in(arena()?, value)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena, value: u32) -> Result<Self, SemaphoreError> {
        let bytes = core::Semaphore::bytes_for(value)?;
        let create = |place| Ok::<_, SemaphoreError>(core::Semaphore::create(place, value)?);
        Ok(Self { shared: Shared::create(arena, kind::SEMAPHORE, bytes, create)? })
    }
}

impl BoundedSemaphore {
    /// A semaphore of `value` units, all free.
    ///
    /// # Errors
    /// `Memory` if there is no shared memory to be had; `Place` if `value` is above 2³¹ - 2.
    pub fn new(value: u32) -> Result<Self, SemaphoreError> {
        Self::new_in(arena()?, value)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena, value: u32) -> Result<Self, SemaphoreError> {
        let bytes = core::Semaphore::bytes_for_bounded(value)?;
        let create =
            |place| Ok::<_, SemaphoreError>(core::Semaphore::create_bounded(place, value)?);
        Ok(Self { shared: Shared::create(arena, kind::SEMAPHORE, bytes, create)? })
    }

    /// How many units there are, free or not.
    #[must_use]
    pub fn bound(&self) -> u32 {
        self.shared.object.bound()
    }
}

/// What both can.
macro_rules! semaphore {
    ($type:ident, $bounded:literal) => {
        impl $type {
            /// Waits for a unit as long as it takes.
            ///
            /// # Errors
            /// `TooManyPermits`, if there are more units than permits can be held, and as many are; `Corrupt`; `Join`.
            #[inline]
            pub fn acquire(&self) -> Result<Permit<'_>, PermitError> {
                self.shared.object.acquire(self.shared.me)
            }

            /// Takes a unit if one is free, or if the holder of one is dead.
            ///
            /// # Errors
            /// `WouldBlock` if there was a moment without a free unit; otherwise as [`acquire`](Self::acquire).
            #[inline]
            pub fn try_acquire(&self) -> Result<Permit<'_>, PermitError> {
                self.shared.object.try_acquire(self.shared.me)
            }

            /// Waits for a unit for at most `timeout`; zero tries once.
            ///
            /// # Errors
            /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
            #[inline]
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, PermitError> {
                self.acquire_until(Deadline::after(timeout))
            }

            /// Waits for a unit until `deadline`.
            ///
            /// # Errors
            /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
            #[inline]
            pub fn acquire_until(&self, deadline: Deadline) -> Result<Permit<'_>, PermitError> {
                self.shared.object.acquire_until(self.shared.me, deadline)
            }

            /// [`acquire`](Self::acquire) for programs over tokio: waits without holding up the thread. Dropping the future stops
            /// waiting. With the feature `async`.
            ///
            /// No system call if a unit is free. A wait costs a descriptor, as long as it lasts.
            ///
            /// # Errors
            /// Outside, the system's, if there is no descriptor to wait with; inside, as [`acquire`](Self::acquire).
            #[cfg(feature = "async")]
            pub async fn acquire_async(&self) -> std::io::Result<Result<Permit<'_>, PermitError>> {
                let would_block = |error: &PermitError| *error == PermitError::WouldBlock;
                crate::ready::retry(self, || self.try_acquire(), would_block).await
            }

            /// Waits for a unit as long as it takes, and takes it without a permit: it comes back by [`release`](Self::release)
            /// alone, and is gone if nobody does that.
            ///
            /// # Errors
            /// `Corrupt`; `Join`.
            #[inline]
            pub fn take(&self) -> Result<(), WaitError> {
                self.shared.object.take(self.shared.me)
            }

            /// Takes a unit without a permit if one is free, or if the holder of one is dead.
            ///
            /// # Errors
            /// `WouldBlock` if there was a moment without a free unit; otherwise as [`take`](Self::take).
            #[inline]
            pub fn try_take(&self) -> Result<(), WaitError> {
                self.shared.object.try_take(self.shared.me)
            }

            /// Waits for a unit, to take it without a permit, for at most `timeout`; zero tries once.
            ///
            /// # Errors
            /// `TimedOut`; otherwise as [`take`](Self::take).
            #[inline]
            pub fn take_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
                self.take_until(Deadline::after(timeout))
            }

            /// Waits for a unit, to take it without a permit, until `deadline`.
            ///
            /// # Errors
            /// `TimedOut`; otherwise as [`take`](Self::take).
            #[inline]
            pub fn take_until(&self, deadline: Deadline) -> Result<(), WaitError> {
                self.shared.object.take_until(self.shared.me, deadline)
            }

            /// Adds a unit, and wakes one who waits.
            ///
            /// # Errors
            /// `TooMany` if there would be more than there can be; nothing has changed then. `Corrupt`.
            #[inline]
            pub fn release(&self) -> Result<(), ReleaseError> {
                self.release_many(1)
            }

            /// Adds so many units, all or none, and wakes those who wait.
            ///
            /// # Errors
            /// `TooMany` if there would be more than there can be; nothing has changed then. `Corrupt`.
            #[inline]
            pub fn release_many(&self, units: u32) -> Result<(), ReleaseError> {
                self.shared.object.release(self.shared.me, units)
            }

            /// How many units were free at some moment of the call. Those of dead holders are not, until somebody waits for them.
            /// Some loads.
            #[must_use]
            pub fn value(&self) -> u32 {
                self.shared.object.value()
            }

            /// Whether no unit was free at some moment of the call.
            #[must_use]
            pub fn locked(&self) -> bool {
                self.shared.object.locked()
            }

            /// Which processes hold permits now, or died with them; one that holds several comes as often. What was taken
            /// without a permit is nobody's.
            #[must_use]
            pub fn holders(&self) -> Vec<Who> {
                self.shared.object.holders(self.shared.me).collect()
            }
        }

        /// What is free, who holds permits, and who sleeps for a unit since when: as of about now.
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("value", &self.value())
                    .field("holders", &self.holders())
                    .field("waiters", &waiters(&self.shared.object, self.shared.me))
                    .finish()
            }
        }

        impl crate::wait::sealed::Source for $type {
            fn source(&self) -> &dyn procession_core::wait::Waitable {
                &self.shared.object
            }

            fn me(&self) -> procession_core::region::Member<'static> {
                self.shared.me
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.shared.serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let attach = |place| match core::Semaphore::attach(place) {
                    Ok(found) if found.is_bounded() == $bounded => Ok(found),
                    Ok(_) => Err(format!(
                        "here lies the other kind of semaphore, not a {}",
                        stringify!($type)
                    )),
                    Err(error) => Err(error.to_string()),
                };
                Ok(Self { shared: Shared::attach(deserializer, kind::SEMAPHORE, attach)? })
            }
        }
    };
}

semaphore!(Semaphore, false);
semaphore!(BoundedSemaphore, true);
