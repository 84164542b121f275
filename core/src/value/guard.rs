//! A value or an array while its lock is held.

use core::fmt;
use core::ops::Deref;

use super::{AnyElements, AnyValue, CType, Elements, Scalar, Value, ValueError};
use crate::region::Member;
use crate::sync::{AcquireError, Lock, LockGuard};
use crate::sys::Deadline;

/// The lock of a value or an array is held as long as this lives. `V` is what is locked.
///
/// Of a [`Value`] it copies the one element in and out; of an [`Array`](super::Array) it gives the [`Elements`].
///
/// The lock keeps out those who lock. Whoever reads or writes without, as `get_raw` and [`Array::raw`](super::Array::raw) do, passes
/// it by.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::value::{Array, Place};
///
/// let seat = Membership::private();
/// let mut memory = [0; 4];
/// let array = Array::create_from(Place::in_memory(&mut memory), &[1i32, 2, 3]).unwrap();
/// let mut sum = 0;
/// {
///     let numbers = array.lock(seat.member()).unwrap();
///     for i in 0..numbers.len() {
///         sum += numbers.get(i).unwrap();
///     }
///     numbers.set(0, sum).unwrap();
/// }
/// assert_eq!(array.raw().get(0), Ok(6));
/// ```
#[must_use = "the lock is released at once if the guard is dropped"]
pub struct Locked<'a, V> {
    view: V,
    guard: LockGuard<'a>,
}

/// What locking a [`Value`] gives.
pub type ValueGuard<'a, T> = Locked<'a, Value<'a, T>>;
/// What locking an [`Array`](super::Array) gives.
pub type ArrayGuard<'a, T> = Locked<'a, Elements<'a, T>>;
/// What locking an [`AnyValue`] gives.
pub type AnyValueGuard<'a> = Locked<'a, AnyValue<'a>>;
/// What locking an [`AnyArray`](super::AnyArray) gives.
pub type AnyArrayGuard<'a> = Locked<'a, AnyElements<'a>>;

impl<V> Locked<'_, V> {
    /// Whether a holder died with this lock and nobody has marked it consistent since.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.guard.owner_died()
    }

    /// Says that the elements are in order again: later locks succeed plainly.
    pub fn mark_consistent(&mut self) {
        self.guard.mark_consistent();
    }
}

impl<V: fmt::Debug> fmt::Debug for Locked<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locked")
            .field("view", &self.view)
            .field("owner_died", &self.owner_died())
            .finish_non_exhaustive()
    }
}

impl<T: CType> ValueGuard<'_, T> {
    /// A copy of the element.
    #[must_use]
    #[inline]
    pub fn get(&self) -> T {
        self.view.get_raw()
    }

    /// Replaces the element.
    #[inline]
    pub fn set(&mut self, value: T) {
        self.view.set_raw(value);
    }

    /// Replaces the element by what `change` makes of it, and returns that.
    ///
    /// ```
    /// use procession_core::region::Membership;
    /// use procession_core::value::{Place, Value};
    ///
    /// let seat = Membership::private();
    /// let mut memory = [0; 3];
    /// let counter = Value::create(Place::in_memory(&mut memory), 1i32).unwrap();
    /// assert_eq!(counter.lock(seat.member()).unwrap().update(|n| n + 1), 2);
    /// ```
    #[inline]
    pub fn update(&mut self, change: impl FnOnce(T) -> T) -> T {
        let value = change(self.get());
        self.set(value);
        value
    }
}

impl AnyValueGuard<'_> {
    /// A copy of the element.
    #[must_use]
    pub fn get(&self) -> Scalar {
        self.view.get_raw()
    }

    /// Replaces the element. A scalar of another type is stored if it stays the same number.
    ///
    /// # Errors
    /// [`ValueError::DoesNotFit`], [`ValueError::OtherType`]; the element is as before.
    pub fn set(&mut self, value: impl Into<Scalar>) -> Result<(), ValueError> {
        self.view.set_raw(value)
    }
}

impl<'a, T: CType> Deref for ArrayGuard<'a, T> {
    type Target = Elements<'a, T>;

    #[inline]
    fn deref(&self) -> &Elements<'a, T> {
        &self.view
    }
}

impl<'a> Deref for AnyArrayGuard<'a> {
    type Target = AnyElements<'a>;

    #[inline]
    fn deref(&self) -> &AnyElements<'a> {
        &self.view
    }
}

#[inline]
pub(super) fn lock_until<'a, V>(
    lock: &'a Lock,
    view: V,
    me: Member<'a>,
    deadline: Deadline,
) -> Result<Locked<'a, V>, AcquireError<Locked<'a, V>>> {
    match lock.acquire_until(me, deadline) {
        Ok(guard) => Ok(Locked { view, guard }),
        Err(error) => Err(error.map(|guard| Locked { view, guard })),
    }
}

#[inline]
pub(super) fn try_lock<'a, V>(
    lock: &'a Lock,
    view: V,
    me: Member<'a>,
) -> Result<Locked<'a, V>, AcquireError<Locked<'a, V>>> {
    match lock.try_acquire(me) {
        Ok(guard) => Ok(Locked { view, guard }),
        Err(error) => Err(error.map(|guard| Locked { view, guard })),
    }
}

/// The ways to lock, which are the same for all that have a lock.
macro_rules! locking {
    ($guard:ty, |$this:ident| $view:expr) => {
        /// Waits for the lock as long as it takes. A holder that dies ends the wait within some milliseconds.
        ///
        /// # Errors
        /// As [`Lock::acquire`](crate::sync::Lock::acquire): `OwnerDied` with the guard, when the last holder died
        /// and may have changed one element of several; `Corrupt`; `Join`.
        ///
        /// Cost: without contention one compare-and-swap and one store, no system call.
        #[inline]
        pub fn lock<'a>(
            &self,
            me: $crate::region::Member<'a>,
        ) -> Result<$guard, $crate::sync::AcquireError<$guard>>
        where
            'm: 'a,
        {
            self.lock_until(me, $crate::sys::Deadline::NEVER)
        }

        /// Takes the lock if it is free, or if its holder is dead.
        ///
        /// # Errors
        /// As [`Lock::try_acquire`](crate::sync::Lock::try_acquire): `WouldBlock` if somebody holds it, and all
        /// that [`lock`](Self::lock) can say.
        #[inline]
        pub fn try_lock<'a>(
            &self,
            me: $crate::region::Member<'a>,
        ) -> Result<$guard, $crate::sync::AcquireError<$guard>>
        where
            'm: 'a,
        {
            $crate::value::guard::try_lock(
                &self.header.lock,
                {
                    let $this = self;
                    $view
                },
                me,
            )
        }

        /// Waits for the lock until `deadline`.
        ///
        /// # Errors
        /// As [`Lock::acquire_until`](crate::sync::Lock::acquire_until): `TimedOut`, and all that
        /// [`lock`](Self::lock) can say.
        #[inline]
        pub fn lock_until<'a>(
            &self,
            me: $crate::region::Member<'a>,
            deadline: $crate::sys::Deadline,
        ) -> Result<$guard, $crate::sync::AcquireError<$guard>>
        where
            'm: 'a,
        {
            $crate::value::guard::lock_until(
                &self.header.lock,
                {
                    let $this = self;
                    $view
                },
                me,
                deadline,
            )
        }

        /// Its lock, to be held for other things too.
        #[must_use]
        pub fn get_lock(&self) -> &'m $crate::sync::Lock {
            &self.header.lock
        }
    };
}
pub(super) use locking;
