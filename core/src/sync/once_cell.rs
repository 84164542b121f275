//! A value that is set once: [`Once`]'s protocol, and the value behind it.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use bytemuck::AnyBitPattern;

use super::data::{self, DataError};
use super::error::WaitError;
use super::once::{Once, OnceError};
use crate::region::{Member, Place, PlaceError};
use crate::sys::Deadline;
use crate::wait::{Eventcount, Waitable};

/// A value in shared memory that is set once and then read by all: `std::sync::OnceLock`.
///
/// A process that is killed while it sets it has set nothing: another can. Nobody sees half a value.
///
/// `T` is plain data for which every bit pattern is a value (bytemuck's derives say so of one's own structs). References
/// to it are sound as long as all processes that map the memory keep to this type, which writes before it is set and never
/// after; where a process is not to be trusted with that, [`copied`](Self::copied) makes a copy.
///
/// Cost: to read it, one load and the value. In memory: 16 bytes and the value.
///
/// ```
/// use procession_core::region::{Membership, Place};
/// use procession_core::sync::{OnceCell, OnceError};
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let mut memory = [0u64; 4];
/// let cell = OnceCell::<[u64; 2]>::create(Place::in_memory(&mut memory))?;
/// assert_eq!(cell.get(), None);
/// assert_eq!(cell.get_or_init(me, || [1, 2]), Ok(&[1, 2]));
/// assert_eq!(cell.get_or_init(me, || unreachable!()), Ok(&[1, 2]));
/// assert_eq!(cell.set(me, [3, 4]), Err(OnceError::AlreadySet));
/// # Ok::<(), procession_core::region::PlaceError>(())
/// ```
pub struct OnceCell<'m, T> {
    once: &'m Once,
    data: NonNull<T>,
    owned: PhantomData<&'m T>,
}

impl<T> Clone for OnceCell<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OnceCell<'_, T> {}

// SAFETY: one thread writes the data, which may be any: T: Send; after that all read them: T: Sync.
unsafe impl<T: Send + Sync> Send for OnceCell<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for OnceCell<'_, T> {}

impl<T: fmt::Debug> fmt::Debug for OnceCell<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceCell").field(&self.get()).finish()
    }
}

impl<'m, T: AnyBitPattern> OnceCell<'m, T> {
    /// How many bytes of a place it takes.
    #[must_use]
    pub const fn bytes() -> u64 {
        data::bytes::<Once, T>()
    }

    /// Makes one that is not set in a place whose memory is zero and that nobody else knows yet.
    ///
    /// # Errors
    /// [`PlaceError::TooSmall`].
    pub fn create(place: Place<'m>) -> Result<Self, PlaceError> {
        data::create(place, T::zeroed()).map(Self::of)
    }

    /// Finds the one that somebody has made there.
    ///
    /// # Errors
    /// [`DataError`]: nothing lies there, or something of another type, or the place is too short.
    pub fn attach(place: Place<'m>) -> Result<Self, DataError> {
        data::attach(place).map(Self::of)
    }

    fn of(behind: data::Behind<'m, Once, T>) -> Self {
        Self { once: behind.primitive, data: behind.data, owned: PhantomData }
    }

    /// A copy of the value, made without a reference to it; `None` if it is not set.
    #[must_use]
    pub fn copied(&self) -> Option<T> {
        // SAFETY: the data are mapped, aligned, and any bytes are a T. Volatile: a process that does not keep to this type
        // may write meanwhile, and then the copy is a mixture.
        self.once.is_done().then(|| unsafe { self.data.read_volatile() })
    }

    /// Sets the value if it is not set. Waits, as long as it takes, for somebody who is about to.
    ///
    /// # Errors
    /// [`OnceError::AlreadySet`]; `Corrupt`; `Join`.
    pub fn set(&self, me: Member<'_>, value: T) -> Result<(), OnceError> {
        self.set_until(me, Deadline::NEVER, value)
    }

    /// Sets the value if it is not set and nobody is about to set it.
    ///
    /// # Errors
    /// [`OnceError::WouldBlock`]; otherwise as [`set`](Self::set).
    pub fn try_set(&self, me: Member<'_>, value: T) -> Result<(), OnceError> {
        match self.set_until(me, Deadline::NOW, value) {
            Err(OnceError::TimedOut) => Err(OnceError::WouldBlock),
            answer => answer,
        }
    }

    /// The same, and waits until `deadline` for somebody who is about to.
    ///
    /// # Errors
    /// [`OnceError::TimedOut`]; otherwise as [`set`](Self::set).
    pub fn set_until(&self, me: Member<'_>, deadline: Deadline, value: T) -> Result<(), OnceError> {
        match self.once.call_until(me, deadline, |_| self.write(value))? {
            true => Ok(()),
            false => Err(OnceError::AlreadySet),
        }
    }

    /// The value, which `make` makes if nobody has. Waits, as long as it takes, for somebody who is about to. A `make` that panics
    /// has not set it.
    ///
    /// # Errors
    /// `Corrupt`; `Join`.
    #[inline]
    pub fn get_or_init(
        &self,
        me: Member<'_>,
        make: impl FnOnce() -> T,
    ) -> Result<&'m T, OnceError> {
        self.get_or_try_init(me, Deadline::NEVER, || Ok(make()))
    }

    /// The same with a `make` that can fail, and waits for somebody who is about to set it until `deadline`.
    ///
    /// # Errors
    /// [`OnceError::Failed`] with `make`'s error, if this call ran it; [`OnceError::TimedOut`]; `Corrupt`; `Join`.
    #[inline]
    pub fn get_or_try_init<E>(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&'m T, OnceError<E>> {
        self.once.make(me, deadline, |_| make(), |value| self.write(value))?;
        Ok(self.value())
    }

    /// Called by the runner alone, before it is done.
    fn write(&self, value: T) {
        // SAFETY: the data are mapped and aligned; who runs the once writes, and nobody reads before it is done.
        unsafe { self.data.write(value) };
    }
}

impl<'m, T> OnceCell<'m, T> {
    /// The value; `None` if it is not set.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&'m T> {
        self.once.is_done().then(|| self.value())
    }

    /// Waits, as long as it takes, until somebody has set it.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn wait(&self, me: Member<'_>) -> Result<&'m T, WaitError> {
        self.wait_until(me, Deadline::NEVER)
    }

    /// The same until `deadline`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; `Corrupt`.
    pub fn wait_until(&self, me: Member<'_>, deadline: Deadline) -> Result<&'m T, WaitError> {
        self.once.wait_until(me, deadline)?;
        Ok(self.value())
    }

    /// The [`Once`] behind it.
    #[must_use]
    pub fn as_once(&self) -> &'m Once {
        self.once
    }

    /// Called when it is done.
    fn value(&self) -> &'m T {
        // SAFETY: mapped for 'm and aligned; any bytes are a T; it is set, and nobody who uses this type writes any more.
        unsafe { self.data.as_ref() }
    }
}

impl<T> Waitable for OnceCell<'_, T> {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        self.once.is_ready(me, ask)
    }

    fn sleepers(&self) -> &Eventcount {
        self.once.event()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::thread;

    use super::*;
    use crate::region::Membership;

    #[test]
    fn one_value_is_set_and_all_see_it() {
        let seat = Membership::private();
        let me = seat.member();
        let late = || Deadline::after(Duration::from_secs(20));
        for _ in 0..50 {
            let mut memory = [0u64; 10];
            let cell = OnceCell::<[u64; 8]>::create(Place::in_memory(&mut memory)).unwrap();
            thread::scope(|scope| {
                let waiter = scope.spawn(move || *cell.wait_until(me, late()).unwrap());
                let makers = [1, 2, 3].map(|who| {
                    scope.spawn(move || {
                        *cell.get_or_try_init(me, late(), || Ok::<_, ()>([who; 8])).unwrap()
                    })
                });
                let value = waiter.join().unwrap();
                assert!(value.iter().all(|part| *part == value[0] && *part != 0));
                for maker in makers {
                    assert_eq!(maker.join().unwrap(), value);
                }
                assert_eq!(cell.get(), Some(&value));
                assert_eq!(cell.copied(), Some(value));
                assert_eq!(cell.try_set(me, [9; 8]), Err(OnceError::AlreadySet));
            });
        }
    }

    #[test]
    fn what_fails_sets_nothing() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = [0u64; 3];
        let place = Place::in_memory(&mut memory);
        let cell = OnceCell::<u32>::create(place).unwrap();
        let answer = cell.get_or_try_init(me, Deadline::NEVER, || Err("no"));
        assert_eq!(answer, Err(OnceError::Failed("no")));
        assert_eq!((cell.get(), cell.copied()), (None, None));
        assert_eq!(cell.wait_until(me, Deadline::NOW), Err(WaitError::TimedOut));
        assert_eq!(cell.set(me, 7), Ok(()));
        assert_eq!(OnceCell::<u32>::attach(place).unwrap().get(), Some(&7));
        assert!(matches!(OnceCell::<i32>::attach(place), Err(DataError::OtherType { .. })));
        assert!(OnceCell::<u32>::attach(place.up_to(16)).is_err());
    }
}
