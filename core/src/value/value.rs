//! One typed element in shared memory.

use core::fmt;

use super::cell::Cell;
use super::guard::locking;
use super::header::{self, ELEMENTS_AT, Header, Kind, What};
use super::{CType, Place, ValueError, ValueGuard};
use crate::region::PlaceError;
use crate::sys::atomic::Ordering;

/// One element of type `T` that processes share, with a lock: the counterpart of `Value(code, initial)`.
///
/// This is a view of it: two words, copied freely. The element lies in memory that the caller has allocated, and
/// is nobody's but the memory's: dropping the view does nothing.
///
/// - [`lock`](Self::lock), then `get`, `set`, `update`: alone among all who lock.
/// - `get_raw`, `set_raw`, [`update_raw`](Self::update_raw): without the lock; each is one atomic step.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::value::{Place, Value, ValueError};
///
/// let seat = Membership::private();
/// let mut memory = [0; 3];
/// let place = Place::in_memory(&mut memory);
/// let counter = Value::create(place, 0i32)?;
///
/// std::thread::scope(|threads| {
///     for _ in 0..2 {
///         threads.spawn(|| {
///             for _ in 0..100 {
///                 counter.lock(seat.member()).unwrap().update(|n| n + 1);
///             }
///         });
///     }
/// });
/// assert_eq!(counter.get_raw(), 200);
///
/// // What attaches has to know the type.
/// let error = Value::<f64>::attach(place).unwrap_err();
/// assert!(error.to_string().starts_with("its elements are 'i' (i32), 'd' (f64) was asked for"));
/// # Ok::<(), ValueError>(())
/// ```
pub struct Value<'m, T: CType> {
    header: &'m Header,
    cell: &'m T::Cell,
}

impl<T: CType> Clone for Value<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: CType> Copy for Value<'_, T> {}

impl<T: CType> fmt::Debug for Value<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Value").field(&self.get_raw()).finish()
    }
}

impl<'m, T: CType> Value<'m, T> {
    /// How many bytes it takes, from a multiple of [`ALIGN`](super::ALIGN).
    ///
    /// ```
    /// use procession_core::value::Value;
    ///
    /// const BYTES: u64 = Value::<i32>::bytes();
    /// assert_eq!(BYTES, 20);
    /// ```
    #[must_use]
    pub const fn bytes() -> u64 {
        ELEMENTS_AT + T::CODE.size() as u64
    }

    /// Makes one, whatever the memory held before. Nobody else may use this memory meanwhile: it would be theirs
    /// that is lost.
    ///
    /// A creator that dies leaves nothing to attach to.
    ///
    /// # Errors
    /// [`ValueError::Place`] if the place is too short.
    pub fn create(place: Place<'m>, initial: T) -> Result<Self, ValueError> {
        let what = What { kind: Kind::Value, code: T::CODE, length: 1 };
        let (header, cell) = header::create(place, what, || {
            let cell = cell::<T>(place)?;
            cell.store(initial.into_bits(), Ordering::Relaxed);
            Ok(cell)
        })?;
        Ok(Self { header, cell })
    }

    /// Attaches to one that another process has made.
    ///
    /// # Errors
    /// [`ValueError::Nothing`], [`WrongKind`](ValueError::WrongKind), [`WrongCode`](ValueError::WrongCode): what lies
    /// there, and what was asked for; [`Place`](ValueError::Place) if it is too short.
    ///
    /// ```
    /// use procession_core::value::{Place, Value, ValueError};
    ///
    /// let mut memory = [0; 3];
    /// let place = Place::in_memory(&mut memory);
    /// assert!(matches!(Value::<char>::attach(place), Err(ValueError::Nothing { word: 0 })));
    /// Value::create(place, 'ß').unwrap();
    /// assert_eq!(Value::<char>::attach(place).unwrap().get_raw(), 'ß');
    /// ```
    pub fn attach(place: Place<'m>) -> Result<Self, ValueError> {
        let (header, what) = header::attach(place, Kind::Value)?;
        what.check_code(T::CODE)?;
        Ok(Self { header, cell: cell::<T>(place)? })
    }

    pub(super) fn new(header: &'m Header, cell: &'m T::Cell) -> Self {
        Self { header, cell }
    }

    locking!(ValueGuard<'a, T>, |value| *value);

    /// A copy of the element, without the lock. One atomic load: never half of a write. Whatever the writer of
    /// this element did before [`set_raw`](Self::set_raw) is visible.
    #[inline]
    #[must_use]
    pub fn get_raw(&self) -> T {
        // Acquire meets the Release in `set_raw`.
        T::from_bits(self.cell.load(Ordering::Acquire))
    }

    /// Replaces the element, without the lock. One atomic store.
    #[inline]
    pub fn set_raw(&self, value: T) {
        // Release meets the Acquire in `get_raw`.
        self.cell.store(value.into_bits(), Ordering::Release);
    }

    /// Replaces the element by what `change` makes of it, without the lock, and returns that. One atomic
    /// step: no change that others make with `set_raw` or `update_raw` is lost. `change` is called again whenever another was
    /// faster.
    ///
    /// A change made under the lock is a load and a store: do not mix the two.
    ///
    /// ```
    /// use procession_core::value::{Place, Value};
    ///
    /// let mut memory = [0; 3];
    /// let value = Value::create(Place::in_memory(&mut memory), 1.5f64).unwrap();
    /// assert_eq!(value.update_raw(|x| x * 2.0), 3.0);
    /// ```
    #[inline]
    pub fn update_raw(&self, change: impl FnMut(T) -> T) -> T {
        super::elements::update(self.cell, change)
    }
}

fn cell<T: CType>(place: Place<'_>) -> Result<&T::Cell, ValueError> {
    place
        .objects::<T::Cell>(ELEMENTS_AT, 1)?
        .first()
        .ok_or(PlaceError::TooSmall { needed: Value::<T>::bytes(), given: place.bytes() }.into())
}
