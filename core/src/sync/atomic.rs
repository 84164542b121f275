//! A number or a flag that processes share, and on whose change one can wait.
//!
//! The processor's own atomic, and an eventcount beside it. Whoever changes the number says by itself whether somebody is to
//! be told: `notify_one` or `notify_all`; so a change costs what it costs on any atomic. A sleeper that was not told
//! looks again by itself, between processes in slices.
//!
//! There is nothing to recover: each step is done or not done, and a process that dies between a change and its notification
//! delays the sleepers by a slice.

use core::fmt;
#[cfg(not(loom))]
use core::marker::PhantomData;

use super::WaitError;
#[cfg(not(loom))]
use super::data::{self, DataError};
use crate::region::Member;
#[cfg(not(loom))]
use crate::region::{Place, PlaceError};
use crate::sys::Deadline;
use crate::sys::atomic::Ordering;
#[cfg(not(loom))]
use crate::sys::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
};
#[cfg(loom)]
use crate::sys::atomic::{AtomicU32, AtomicU64};
use crate::sys::spin::Pace;
use crate::wait::Eventcount;
use sealed::{Arithmetic, Bits};

mod sealed {
    use super::Ordering;

    /// What the processor can do to a value of this type.
    pub trait Bits: Copy + PartialEq + Sized {
        type Cell: Sync + Send;

        fn cell(self) -> Self::Cell;
        fn load(cell: &Self::Cell, order: Ordering) -> Self;
        fn store(cell: &Self::Cell, value: Self, order: Ordering);
        fn swap(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn exchange(
            cell: &Self::Cell,
            old: Self,
            new: Self,
            success: Ordering,
            failure: Ordering,
        ) -> Result<Self, Self>;
        fn and(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn or(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        #[cfg(not(loom))]
        fn xor(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
    }

    /// And if it is a number.
    pub trait Arithmetic: Bits {
        fn add(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        fn sub(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        #[cfg(not(loom))]
        fn max(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
        #[cfg(not(loom))]
        fn min(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
    }
}

/// A type whose values can be [`Atomic`]: `bool`, and the integers of 8, 16, 32 and 64 bits. (Not `usize`, which is not
/// the same for all programs.)
pub trait AtomicType: Bits + fmt::Debug + Send + Sync + 'static {}

/// An [`AtomicType`] that is a number.
pub trait AtomicNumber: AtomicType + Arithmetic {}

macro_rules! number {
    ($($value:ty, $cell:ident;)*) => {$(
        impl Bits for $value {
            type Cell = $cell;

            #[inline]
            fn cell(self) -> $cell {
                $cell::new(self)
            }

            #[inline]
            fn load(cell: &$cell, order: Ordering) -> Self {
                cell.load(order)
            }

            #[inline]
            fn store(cell: &$cell, value: Self, order: Ordering) {
                cell.store(value, order);
            }

            #[inline]
            fn swap(cell: &$cell, value: Self, order: Ordering) -> Self {
                cell.swap(value, order)
            }

            #[inline]
            fn exchange(
                cell: &$cell,
                old: Self,
                new: Self,
                success: Ordering,
                failure: Ordering,
            ) -> Result<Self, Self> {
                cell.compare_exchange(old, new, success, failure)
            }

            #[inline]
            fn and(cell: &$cell, value: Self, order: Ordering) -> Self {
                cell.fetch_and(value, order)
            }

            #[inline]
            fn or(cell: &$cell, value: Self, order: Ordering) -> Self {
                cell.fetch_or(value, order)
            }

            #[cfg(not(loom))]
            #[inline]
            fn xor(cell: &$cell, value: Self, order: Ordering) -> Self {
                cell.fetch_xor(value, order)
            }
        }

        impl Arithmetic for $value {
            #[inline]
            fn add(cell: &$cell, value: Self, order: Ordering) -> Self {
                cell.fetch_add(value, order)
            }

            #[inline]
            fn sub(cell: &$cell, value: Self, order: Ordering) -> Self {
                cell.fetch_sub(value, order)
            }

            #[cfg(not(loom))]
            #[inline]
            fn max(cell: &$cell, value: Self, order: Ordering) -> Self {
                cell.fetch_max(value, order)
            }

            #[cfg(not(loom))]
            #[inline]
            fn min(cell: &$cell, value: Self, order: Ordering) -> Self {
                cell.fetch_min(value, order)
            }
        }

        impl AtomicType for $value {}
        impl AtomicNumber for $value {}
    )*};
}

number! {
    u32, AtomicU32;
    u64, AtomicU64;
}
#[cfg(not(loom))]
number! {
    u8, AtomicU8;
    u16, AtomicU16;
    i8, AtomicI8;
    i16, AtomicI16;
    i32, AtomicI32;
    i64, AtomicI64;
}

/// As a byte, of which any but zero is true: another process may write any.
#[cfg(not(loom))]
impl Bits for bool {
    type Cell = AtomicU8;

    #[inline]
    fn cell(self) -> AtomicU8 {
        AtomicU8::new(self.into())
    }

    #[inline]
    fn load(cell: &AtomicU8, order: Ordering) -> Self {
        cell.load(order) != 0
    }

    #[inline]
    fn store(cell: &AtomicU8, value: Self, order: Ordering) {
        cell.store(value.into(), order);
    }

    #[inline]
    fn swap(cell: &AtomicU8, value: Self, order: Ordering) -> Self {
        cell.swap(value.into(), order) != 0
    }

    #[inline]
    fn exchange(
        cell: &AtomicU8,
        old: Self,
        new: Self,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Self, Self> {
        match cell.compare_exchange(old.into(), new.into(), success, failure) {
            Ok(_) => Ok(old),
            // True by another byte: else who tries until it is done would try for ever.
            Err(found) if old && found != 0 => cell
                .compare_exchange(found, new.into(), success, failure)
                .map(|_| old)
                .map_err(|found| found != 0),
            Err(found) => Err(found != 0),
        }
    }

    #[inline]
    fn and(cell: &AtomicU8, value: Self, order: Ordering) -> Self {
        cell.fetch_and(value.into(), order) != 0
    }

    #[inline]
    fn or(cell: &AtomicU8, value: Self, order: Ordering) -> Self {
        cell.fetch_or(value.into(), order) != 0
    }

    #[inline]
    fn xor(cell: &AtomicU8, value: Self, order: Ordering) -> Self {
        cell.fetch_xor(value.into(), order) != 0
    }
}

#[cfg(not(loom))]
impl AtomicType for bool {}

/// An atomic number or flag in shared memory, on whose change one can wait. Its bytes and 4 more, rounded up: 8, or 16 for 64
/// bits. All zero is 0, or false.
///
/// Every operation is the processor's, with the order that the caller names, as in [`core::sync::atomic`]; one process'
/// death leaves nothing half done. Who changes the number for others that wait calls [`notify_one`](Self::notify_one) or
/// [`notify_all`](Self::notify_all) afterwards: a load, if nobody waits.
///
/// ```
/// use core::sync::atomic::Ordering::{AcqRel, Acquire};
/// use procession_core::region::Membership;
/// use procession_core::sync::Atomic;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let done = Atomic::new(0u32);
/// std::thread::scope(|threads| {
///     for _ in 0..3 {
///         threads.spawn(|| {
///             done.fetch_add(1, AcqRel);
///             done.notify_one(me);
///         });
///     }
///     done.wait_for(me, |done| done == 3).unwrap();
/// });
/// assert_eq!(done.load(Acquire), 3);
/// ```
#[repr(C)]
pub struct Atomic<T: AtomicType> {
    cell: T::Cell,
    event: Eventcount,
}

const _: () = assert!(cfg!(loom) || size_of::<Atomic<u32>>() == 8);

#[cfg(not(loom))]
// SAFETY: a repr(C) pair of atomics for which all zero, and every other pattern, is valid; other processes may
// change it at any time, which atomics allow.
unsafe impl<T: AtomicType> crate::region::Shareable for Atomic<T> {}

impl<T: AtomicType + Default> Default for Atomic<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: AtomicType> Atomic<T> {
    /// An atomic that is `value`.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { cell: value.cell(), event: Eventcount::new() }
    }

    /// The value. An `order` that only writes can have counts as what goes with it for reads.
    #[inline]
    #[must_use]
    pub fn load(&self, order: Ordering) -> T {
        T::load(&self.cell, reading(order))
    }

    /// Replaces the value. An `order` that only reads can have counts as what goes with it for writes.
    #[inline]
    pub fn store(&self, value: T, order: Ordering) {
        T::store(&self.cell, value, writing(order));
    }

    /// Replaces the value, and returns the one before.
    #[inline]
    pub fn swap(&self, value: T, order: Ordering) -> T {
        T::swap(&self.cell, value, order)
    }

    /// Replaces the value by `new` if it is `old`, and returns `old`.
    ///
    /// # Errors
    /// The value, if it is another.
    ///
    /// ```
    /// use core::sync::atomic::Ordering::{AcqRel, Acquire};
    /// use procession_core::sync::Atomic;
    ///
    /// let flag = Atomic::new(false);
    /// assert_eq!(flag.compare_exchange(false, true, AcqRel, Acquire), Ok(false));
    /// assert_eq!(flag.compare_exchange(false, true, AcqRel, Acquire), Err(true));
    /// ```
    #[inline]
    pub fn compare_exchange(
        &self,
        old: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T> {
        T::exchange(&self.cell, old, new, success, reading(failure))
    }

    /// Replaces the value by what `change` makes of it, and returns the one before. `change` is called again whenever
    /// another was faster; with `None` it gives up.
    ///
    /// # Errors
    /// The value for which `change` gave up.
    ///
    /// ```
    /// use core::sync::atomic::Ordering::{AcqRel, Acquire};
    /// use procession_core::sync::Atomic;
    ///
    /// let stock = Atomic::new(1u16);
    /// let take = || stock.fetch_update(AcqRel, Acquire, |n| n.checked_sub(1));
    /// assert_eq!((take(), take()), (Ok(1), Err(0)));
    /// ```
    #[inline]
    pub fn fetch_update(
        &self,
        success: Ordering,
        failure: Ordering,
        mut change: impl FnMut(T) -> Option<T>,
    ) -> Result<T, T> {
        let mut old = self.load(failure);
        while let Some(new) = change(old) {
            match self.compare_exchange(old, new, success, failure) {
                Ok(old) => return Ok(old),
                Err(found) => old = found,
            }
        }
        Err(old)
    }

    /// Keeps the bits that are in `value` too, and returns the value before.
    #[inline]
    pub fn fetch_and(&self, value: T, order: Ordering) -> T {
        T::and(&self.cell, value, order)
    }

    /// Sets the bits of `value`, and returns the value before.
    #[inline]
    pub fn fetch_or(&self, value: T, order: Ordering) -> T {
        T::or(&self.cell, value, order)
    }

    /// Flips the bits of `value`, and returns the value before.
    #[cfg(not(loom))]
    #[inline]
    pub fn fetch_xor(&self, value: T, order: Ordering) -> T {
        T::xor(&self.cell, value, order)
    }

    /// Waits, as long as it takes, until the value is not `old`, and returns what it is. A value that was another for a while
    /// and is `old` again may go unseen.
    ///
    /// What the one who changed it had stored before is visible, if the change was a release.
    ///
    /// # Errors
    /// None as yet: it gives a `Result` as all waits do.
    ///
    /// ```
    /// use core::sync::atomic::Ordering::Release;
    /// use procession_core::region::Membership;
    /// use procession_core::sync::Atomic;
    ///
    /// let seat = Membership::private();
    /// let me = seat.member();
    /// let light = Atomic::new(false);
    /// std::thread::scope(|threads| {
    ///     threads.spawn(|| {
    ///         light.store(true, Release);
    ///         light.notify_all(me);
    ///     });
    ///     assert_eq!(light.wait(me, false), Ok(true));
    /// });
    /// ```
    #[inline]
    pub fn wait(&self, me: Member<'_>, old: T) -> Result<T, WaitError> {
        self.wait_until(me, old, Deadline::NEVER)
    }

    /// Waits until `deadline` until the value is not `old`, and returns what it is.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`].
    #[inline]
    pub fn wait_until(&self, me: Member<'_>, old: T, deadline: Deadline) -> Result<T, WaitError> {
        self.wait_for_until(me, deadline, |value| value != old)
    }

    /// Waits, as long as it takes, until `enough` says so of the value, and returns that.
    ///
    /// # Errors
    /// None as yet: it gives a `Result` as all waits do.
    #[inline]
    pub fn wait_for(&self, me: Member<'_>, enough: impl FnMut(T) -> bool) -> Result<T, WaitError> {
        self.wait_for_until(me, Deadline::NEVER, enough)
    }

    /// Waits until `deadline` until `enough` says so of the value, and returns that.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`].
    pub fn wait_for_until(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        mut enough: impl FnMut(T) -> bool,
    ) -> Result<T, WaitError> {
        self.event
            .wait(me, deadline, Pace::Eager, |_| {
                // Acquire meets whatever release the change was.
                Some(self.load(Ordering::Acquire)).filter(|value| enough(*value))
            })
            .ok_or(WaitError::TimedOut)
    }

    /// Wakes one of those that wait, after a change that one of them waits for. If others wait for something else, it may
    /// be one of those: then use [`notify_all`](Self::notify_all). A load, if nobody sleeps.
    #[inline]
    pub fn notify_one(&self, me: Member<'_>) {
        self.event.notify_one(me);
    }

    /// Wakes all that wait, after a change. A load, if nobody sleeps.
    #[inline]
    pub fn notify_all(&self, me: Member<'_>) {
        self.event.notify_all(me);
    }
}

impl<T: AtomicNumber> Atomic<T> {
    /// Adds, wrapping around, and returns the value before.
    #[inline]
    pub fn fetch_add(&self, value: T, order: Ordering) -> T {
        T::add(&self.cell, value, order)
    }

    /// Subtracts, wrapping around, and returns the value before.
    #[inline]
    pub fn fetch_sub(&self, value: T, order: Ordering) -> T {
        T::sub(&self.cell, value, order)
    }

    /// Raises the value to `value` if it is less, and returns the one before.
    #[cfg(not(loom))]
    #[inline]
    pub fn fetch_max(&self, value: T, order: Ordering) -> T {
        T::max(&self.cell, value, order)
    }

    /// Lowers the value to `value` if it is more, and returns the one before.
    #[cfg(not(loom))]
    #[inline]
    pub fn fetch_min(&self, value: T, order: Ordering) -> T {
        T::min(&self.cell, value, order)
    }
}

#[cfg(not(loom))]
impl<T: AtomicType> Atomic<T> {
    /// How many bytes of a place it takes.
    #[must_use]
    pub const fn bytes() -> u64 {
        data::bytes::<Self, PhantomData<T>>()
    }

    /// Makes one in a place whose memory is zero and that nobody else knows yet.
    ///
    /// # Errors
    /// [`PlaceError::TooSmall`].
    ///
    /// ```
    /// use core::sync::atomic::Ordering::Relaxed;
    /// use procession_core::region::Place;
    /// use procession_core::sync::{DataError, Atomic};
    ///
    /// let mut memory = [0u64; 3];
    /// let place = Place::in_memory(&mut memory);
    /// Atomic::create(place, 7i64)?;
    /// assert_eq!(Atomic::<i64>::attach(place)?.load(Relaxed), 7);
    /// assert!(matches!(Atomic::<u64>::attach(place), Err(DataError::OtherType { .. })));
    /// # Ok::<(), DataError>(())
    /// ```
    pub fn create(place: Place<'_>, value: T) -> Result<&Self, PlaceError> {
        let fill = |atomic: &Self| T::store(&atomic.cell, value, Ordering::Relaxed);
        Ok(data::create_with(place, PhantomData::<T>, fill)?.primitive)
    }

    /// Finds the one that somebody has made there.
    ///
    /// # Errors
    /// [`DataError`]: nothing lies there, or something of another type, or the place is too short.
    pub fn attach(place: Place<'_>) -> Result<&Self, DataError> {
        Ok(data::attach::<Self, PhantomData<T>>(place)?.primitive)
    }
}

/// The order of a read that goes with this one; a read that releases makes std's atomics panic.
#[inline]
fn reading(order: Ordering) -> Ordering {
    match order {
        Ordering::Release => Ordering::Relaxed,
        Ordering::AcqRel => Ordering::Acquire,
        order => order,
    }
}

/// The order of a write that goes with this one.
#[inline]
fn writing(order: Ordering) -> Ordering {
    match order {
        Ordering::Acquire => Ordering::Relaxed,
        Ordering::AcqRel => Ordering::Release,
        order => order,
    }
}

/// The value.
impl<T: AtomicType> fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Atomic").field(&self.load(Ordering::Relaxed)).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::region::Membership;
    use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
    use core::time::Duration;

    #[test]
    fn numbers_of_every_width() {
        macro_rules! check {
            ($($type:ty)*) => {$(
                let atomic = Atomic::<$type>::new(7);
                assert_eq!(atomic.load(Acquire), 7);
                atomic.store(<$type>::MAX, Release);
                assert_eq!(atomic.fetch_add(1, AcqRel), <$type>::MAX);
                assert_eq!(atomic.fetch_sub(1, SeqCst), <$type>::MIN);
                assert_eq!(atomic.swap(0b1100, Relaxed), <$type>::MAX);
                assert_eq!(atomic.fetch_and(0b0110, AcqRel), 0b1100);
                assert_eq!(atomic.fetch_or(0b0001, AcqRel), 0b0100);
                assert_eq!(atomic.fetch_xor(0b1111, AcqRel), 0b0101);
                assert_eq!(atomic.fetch_max(20, AcqRel), 0b1010);
                assert_eq!(atomic.fetch_min(3, AcqRel), 20);
                assert_eq!(atomic.compare_exchange(4, 5, AcqRel, Acquire), Err(3));
                assert_eq!(atomic.compare_exchange(3, 5, AcqRel, Acquire), Ok(3));
                assert_eq!(atomic.fetch_update(AcqRel, Acquire, |n| n.checked_mul(2)), Ok(5));
                assert_eq!(std::format!("{atomic:?}"), "Atomic(10)");
                assert_eq!(Atomic::<$type>::default().load(Relaxed), 0);
            )*};
        }
        check!(u8 u16 u32 u64 i8 i16 i32 i64);
        assert_eq!(Atomic::new(-5i16).fetch_max(-3, Relaxed), -5);
    }

    #[test]
    fn a_flag() {
        let flag = Atomic::new(false);
        assert!(!flag.fetch_or(true, AcqRel) && flag.load(Acquire));
        assert!(flag.fetch_xor(true, AcqRel) && flag.fetch_xor(true, AcqRel).eq(&false));
        assert!(flag.fetch_and(true, AcqRel) && flag.swap(false, AcqRel));
        // What no process of this library writes is true all the same.
        flag.cell.store(2, Relaxed);
        assert!(flag.load(Relaxed) && flag.fetch_and(true, Relaxed));
        flag.cell.store(2, Relaxed);
        assert_eq!(flag.compare_exchange(false, true, AcqRel, Acquire), Err(true));
        assert_eq!(flag.fetch_update(AcqRel, Acquire, |on| Some(!on)), Ok(true));
        assert!(!flag.load(Relaxed));
    }

    #[test]
    fn no_order_makes_it_panic() {
        let atomic = Atomic::new(1u8);
        for order in [Relaxed, Acquire, Release, AcqRel, SeqCst] {
            atomic.store(atomic.load(order), order);
            assert_eq!(atomic.compare_exchange(1, 1, order, order), Ok(1));
        }
    }

    #[test]
    fn waits_end_by_a_change_or_by_time() {
        let seat = Membership::private();
        let me = seat.member();
        let atomic = Atomic::new(1i64);
        let soon = Deadline::after(Duration::from_millis(5));
        assert_eq!(atomic.wait_until(me, 1, soon), Err(WaitError::TimedOut));
        assert_eq!(atomic.wait_until(me, 1, Deadline::NOW), Err(WaitError::TimedOut));
        assert_eq!(atomic.wait_until(me, 2, Deadline::NOW), Ok(1));
        std::thread::scope(|threads| {
            let waiter = threads.spawn(|| atomic.wait_for(me, |n| n >= 10));
            for _ in 0..10 {
                std::thread::sleep(Duration::from_micros(100));
                atomic.fetch_add(1, Release);
                atomic.notify_all(me);
            }
            assert!(waiter.join().unwrap().unwrap() >= 10);
        });
    }
}
