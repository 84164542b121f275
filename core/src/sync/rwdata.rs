//! A lock for readers and writers that owns its data: [`RwLock`]'s protocol, and the data behind it.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use bytemuck::AnyBitPattern;

use super::data::{self, DataError};
use super::error::AcquireError;
use super::rwlock::{
    NotUpgraded, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard, RwLockWriteGuard,
};
use crate::region::{Member, Place, PlaceError};
use crate::sys::Deadline;

/// Data in shared memory that many may read or one may write, as `std::sync::RwLock<T>`.
///
/// A process that is killed while it reads leaves nothing behind. One that is killed while it writes does not take the lock
/// along: each next one, reader or writer, gets [`AcquireError::OwnerDied`] with the guard inside, and the data as the dead one had
/// left them, until a writer says [`mark_consistent`](RwDataWriteGuard::mark_consistent).
///
/// `T` is plain data for which every bit pattern is a value, as in a [`Mutex`](super::Mutex), and what is said there of
/// processes that do not keep to the lock holds here too: for those, [`RwDataReadGuard::get`] copies.
///
/// Cost: that of [`RwLock`]. In memory: 328 bytes and the data.
///
/// ```
/// use procession_core::region::{Membership, Place};
/// use procession_core::sync::RwData;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let mut memory = [0u64; 43];
/// let place = Place::in_memory(&mut memory);
/// let limits = RwData::create(place, [1u64, 100])?;
/// {
///     let (one, two) = (limits.read(me).unwrap(), limits.read(me).unwrap());
///     assert_eq!(*one, *two);
/// }
/// limits.write(me).unwrap()[1] = 200;
/// let same = RwData::<[u64; 2]>::attach(place)?;
/// assert_eq!(*same.read(me).unwrap(), [1, 200]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RwData<'m, T> {
    lock: &'m RwLock,
    data: NonNull<T>,
    owned: PhantomData<&'m T>,
}

impl<T> Clone for RwData<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RwData<'_, T> {}

// SAFETY: the data are reached under the lock alone, by one thread that writes, which may be any: T: Send; or by several
// that read: T: Sync.
unsafe impl<T: Send + Sync> Send for RwData<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for RwData<'_, T> {}

impl<T> fmt::Debug for RwData<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwData").field("lock", &self.lock).finish_non_exhaustive()
    }
}

/// A guard, or why there is none.
type Answer<G> = Result<G, AcquireError<G>>;

impl<'m, T: AnyBitPattern> RwData<'m, T> {
    /// How many bytes of a place it takes.
    #[must_use]
    pub const fn bytes() -> u64 {
        data::bytes::<RwLock, T>()
    }

    /// Makes one in a place whose memory is zero and that nobody else knows yet.
    ///
    /// # Errors
    /// [`PlaceError::TooSmall`].
    pub fn create(place: Place<'m>, value: T) -> Result<Self, PlaceError> {
        data::create(place, value).map(Self::of)
    }

    /// Finds the one that somebody has made there.
    ///
    /// # Errors
    /// [`DataError`]: nothing lies there, or something of another type, or the place is too short.
    pub fn attach(place: Place<'m>) -> Result<Self, DataError> {
        data::attach(place).map(Self::of)
    }

    fn of(behind: data::Behind<'m, RwLock, T>) -> Self {
        Self { lock: behind.primitive, data: behind.data, owned: PhantomData }
    }
}

impl<'m, T: 'static> RwData<'m, T> {
    /// One over a lock and data of any type that the caller keeps, in memory of this process.
    ///
    /// # Safety
    /// `data` points to a T that lives for `'m`, and is reached by the holders of `lock` alone; no other process maps it.
    pub unsafe fn over(lock: &'m RwLock, data: NonNull<T>) -> Self {
        Self { lock, data, owned: PhantomData }
    }
}

impl<'m, T> RwData<'m, T> {
    /// Waits, as long as it takes, until no writer is in or waits, and reads.
    ///
    /// # Errors
    /// As [`RwLock::read`].
    #[inline]
    pub fn read(&self, me: Member<'m>) -> Answer<RwDataReadGuard<'m, T>> {
        self.reading(self.lock.read(me))
    }

    /// Reads if no writer is in or waits.
    ///
    /// # Errors
    /// As [`RwLock::try_read`].
    #[inline]
    pub fn try_read(&self, me: Member<'m>) -> Answer<RwDataReadGuard<'m, T>> {
        self.reading(self.lock.try_read(me))
    }

    /// Waits until `deadline` until no writer is in or waits, and reads.
    ///
    /// # Errors
    /// As [`RwLock::read_until`].
    #[inline]
    pub fn read_until(&self, me: Member<'m>, deadline: Deadline) -> Answer<RwDataReadGuard<'m, T>> {
        self.reading(self.lock.read_until(me, deadline))
    }

    /// Waits, as long as it takes, until nobody else is in, and writes.
    ///
    /// # Errors
    /// As [`RwLock::write`].
    #[inline]
    pub fn write(&self, me: Member<'m>) -> Answer<RwDataWriteGuard<'m, T>> {
        self.writing(self.lock.write(me))
    }

    /// Writes if nobody else is in.
    ///
    /// # Errors
    /// As [`RwLock::try_write`].
    #[inline]
    pub fn try_write(&self, me: Member<'m>) -> Answer<RwDataWriteGuard<'m, T>> {
        self.writing(self.lock.try_write(me))
    }

    /// Waits until `deadline` until nobody else is in, and writes.
    ///
    /// # Errors
    /// As [`RwLock::write_until`].
    #[inline]
    pub fn write_until(
        &self,
        me: Member<'m>,
        deadline: Deadline,
    ) -> Answer<RwDataWriteGuard<'m, T>> {
        self.writing(self.lock.write_until(me, deadline))
    }

    /// Waits, as long as it takes, until no writer and no other upgradable reader is in, and reads.
    ///
    /// # Errors
    /// As [`RwLock::upgradable_read`].
    ///
    /// ```
    /// use procession_core::region::{Membership, Place};
    /// use procession_core::sync::RwData;
    ///
    /// let seat = Membership::private();
    /// let me = seat.member();
    /// let mut memory = [0u64; 42];
    /// let cache = RwData::create(Place::in_memory(&mut memory), 0u64).unwrap();
    /// let looking = cache.upgradable_read(me).unwrap();
    /// if *looking == 0 {
    ///     *looking.upgrade().unwrap() = 42;
    /// }
    /// assert_eq!(*cache.read(me).unwrap(), 42);
    /// ```
    #[inline]
    pub fn upgradable_read(&self, me: Member<'m>) -> Answer<RwDataUpgradableReadGuard<'m, T>> {
        self.looking(self.lock.upgradable_read(me))
    }

    /// Reads, upgradably, if no writer and no other upgradable reader is in.
    ///
    /// # Errors
    /// As [`RwLock::try_upgradable_read`].
    #[inline]
    pub fn try_upgradable_read(&self, me: Member<'m>) -> Answer<RwDataUpgradableReadGuard<'m, T>> {
        self.looking(self.lock.try_upgradable_read(me))
    }

    /// Waits until `deadline` until no writer and no other upgradable reader is in, and reads.
    ///
    /// # Errors
    /// As [`RwLock::upgradable_read_until`].
    #[inline]
    pub fn upgradable_read_until(
        &self,
        me: Member<'m>,
        deadline: Deadline,
    ) -> Answer<RwDataUpgradableReadGuard<'m, T>> {
        self.looking(self.lock.upgradable_read_until(me, deadline))
    }

    /// The lock, by itself.
    #[must_use]
    pub fn as_lock(&self) -> &'m RwLock {
        self.lock
    }

    #[inline]
    fn reading(&self, answer: Answer<RwLockReadGuard<'m>>) -> Answer<RwDataReadGuard<'m, T>> {
        let guard = |guard| RwDataReadGuard { guard, data: self.data, owned: PhantomData };
        match answer {
            Ok(lock) => Ok(guard(lock)),
            Err(error) => Err(error.map(guard)),
        }
    }

    #[inline]
    fn writing(&self, answer: Answer<RwLockWriteGuard<'m>>) -> Answer<RwDataWriteGuard<'m, T>> {
        let guard = |guard| RwDataWriteGuard { guard, data: self.data, owned: PhantomData };
        match answer {
            Ok(lock) => Ok(guard(lock)),
            Err(error) => Err(error.map(guard)),
        }
    }

    #[inline]
    fn looking(
        &self,
        answer: Answer<RwLockUpgradableReadGuard<'m>>,
    ) -> Answer<RwDataUpgradableReadGuard<'m, T>> {
        let guard =
            |guard| RwDataUpgradableReadGuard { guard, data: self.data, owned: PhantomData };
        match answer {
            Ok(lock) => Ok(guard(lock)),
            Err(error) => Err(error.map(guard)),
        }
    }
}

/// What all three guards have in common: the data, to read.
macro_rules! reads {
    ($guard:ident) => {
        impl<T> $guard<'_, T> {
            /// Whether a writer died with the lock and nobody has marked the data consistent since.
            #[must_use]
            pub fn owner_died(&self) -> bool {
                self.guard.owner_died()
            }
        }

        impl<T: AnyBitPattern> $guard<'_, T> {
            /// A copy of the data, made without a reference to them.
            #[must_use]
            pub fn get(&self) -> T {
                // SAFETY: the data are mapped, aligned, and any bytes are a T. Volatile: a process that does not keep to
                // the lock may write meanwhile, and then the copy is a mixture.
                unsafe { self.data.read_volatile() }
            }
        }

        impl<T> Deref for $guard<'_, T> {
            type Target = T;

            #[inline]
            fn deref(&self) -> &T {
                // SAFETY: mapped and aligned; any bytes are a T, or nobody else maps them; the lock keeps out all writers that use this type, but for
                // this guard, if it is one.
                unsafe { self.data.as_ref() }
            }
        }

        impl<T: fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                T::fmt(self, f)
            }
        }

        // SAFETY: whoever reads the data has shared references to them, which other threads may have too; who writes them has
        // the only one. The lock's guard may be used and dropped by any thread.
        unsafe impl<T: Send + Sync> Send for $guard<'_, T> {}
        // SAFETY: shared, it gives shared references only.
        unsafe impl<T: Sync> Sync for $guard<'_, T> {}
    };
}

/// The data, to read, for as long as this lives.
#[must_use = "writers are let in at once if the guard is dropped"]
pub struct RwDataReadGuard<'a, T> {
    guard: RwLockReadGuard<'a>,
    data: NonNull<T>,
    owned: PhantomData<&'a T>,
}

reads!(RwDataReadGuard);

/// The data, to read and write, for as long as this lives; dropping it releases the lock.
#[must_use = "the lock is released at once if the guard is dropped"]
pub struct RwDataWriteGuard<'a, T> {
    guard: RwLockWriteGuard<'a>,
    data: NonNull<T>,
    owned: PhantomData<&'a mut T>,
}

reads!(RwDataWriteGuard);

impl<'a, T> RwDataWriteGuard<'a, T> {
    /// Says that the data are in order again: later locks succeed plainly.
    pub fn mark_consistent(&mut self) {
        self.guard.mark_consistent();
    }

    /// Becomes a reader, without letting a writer in between; readers are let in. Never waits.
    #[must_use = "writers are let in at once if the guard is dropped"]
    pub fn downgrade(self) -> RwDataReadGuard<'a, T> {
        RwDataReadGuard { guard: self.guard.downgrade(), data: self.data, owned: PhantomData }
    }

    /// Becomes an upgradable reader, without letting a writer in between; readers are let in. Never waits.
    #[must_use = "writers are let in at once if the guard is dropped"]
    pub fn downgrade_to_upgradable(self) -> RwDataUpgradableReadGuard<'a, T> {
        let guard = self.guard.downgrade_to_upgradable();
        RwDataUpgradableReadGuard { guard, data: self.data, owned: PhantomData }
    }
}

impl<T: AnyBitPattern> RwDataWriteGuard<'_, T> {
    /// Replaces the data, without a reference to them.
    pub fn set(&mut self, value: T) {
        // SAFETY: as in `get`; the guard keeps out all others that use this type.
        unsafe { self.data.write_volatile(value) };
    }
}

impl<T> DerefMut for RwDataWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: mapped and aligned; any bytes are a T; the lock keeps out all others that use this type.
        unsafe { self.data.as_mut() }
    }
}

/// The data, to read and perhaps to write later, for as long as this lives. No writer and no other upgradable reader comes in.
#[must_use = "writers are let in at once if the guard is dropped"]
pub struct RwDataUpgradableReadGuard<'a, T> {
    guard: RwLockUpgradableReadGuard<'a>,
    data: NonNull<T>,
    owned: PhantomData<&'a T>,
}

reads!(RwDataUpgradableReadGuard);

/// What an upgrade gives.
type Upgrade<'a, T> =
    Result<RwDataWriteGuard<'a, T>, NotUpgraded<RwDataUpgradableReadGuard<'a, T>>>;

impl<'a, T> RwDataUpgradableReadGuard<'a, T> {
    /// Waits, as long as it takes, until all other readers are gone, and writes; nobody writes in between.
    ///
    /// # Errors
    /// As [`RwLockUpgradableReadGuard::upgrade`], with this guard.
    pub fn upgrade(self) -> Upgrade<'a, T> {
        Self::upgraded(self.guard.upgrade(), self.data)
    }

    /// Writes if no other reader is in.
    ///
    /// # Errors
    /// As [`RwLockUpgradableReadGuard::try_upgrade`], with this guard.
    pub fn try_upgrade(self) -> Upgrade<'a, T> {
        Self::upgraded(self.guard.try_upgrade(), self.data)
    }

    /// Waits until `deadline` until all other readers are gone, and writes.
    ///
    /// # Errors
    /// As [`RwLockUpgradableReadGuard::upgrade_until`], with this guard.
    pub fn upgrade_until(self, deadline: Deadline) -> Upgrade<'a, T> {
        Self::upgraded(self.guard.upgrade_until(deadline), self.data)
    }

    fn upgraded(answer: super::rwlock::Upgrade<'a>, data: NonNull<T>) -> Upgrade<'a, T> {
        match answer {
            Ok(guard) => Ok(RwDataWriteGuard { guard, data, owned: PhantomData }),
            Err(not) => Err(not.map(|guard| Self { guard, data, owned: PhantomData })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Membership;

    #[test]
    fn another_type_is_refused() {
        let mut memory = [0u64; 43];
        let place = Place::in_memory(&mut memory);
        assert!(matches!(RwData::<u64>::attach(place), Err(DataError::Nothing { .. })));
        RwData::create(place, 7u64).unwrap();
        assert!(matches!(RwData::<i64>::attach(place), Err(DataError::OtherType { .. })));
        assert!(matches!(RwData::<[u64; 9]>::attach(place), Err(DataError::Place(_))));
        assert!(RwData::<u64>::attach(place).is_ok());
    }

    #[test]
    fn each_guard_reaches_the_data() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = [0u64; 42];
        let data = RwData::create(Place::in_memory(&mut memory), 7u64).unwrap();
        assert_eq!((*data.try_read(me).unwrap(), data.read(me).unwrap().get()), (7, 7));
        {
            let mut guard = data.write(me).unwrap();
            guard.set(8);
            *guard += 1;
            let guard = guard.downgrade_to_upgradable();
            assert_eq!(*guard, 9);
            let reader = data.read(me).unwrap();
            let guard = guard.try_upgrade().unwrap_err().into_guard();
            drop(reader);
            let mut guard = guard.upgrade().unwrap();
            *guard += 1;
            assert_eq!(*guard.downgrade(), 10);
        }
        assert!(data.try_write(me).is_ok() && data.try_upgradable_read(me).is_ok());
    }

    #[test]
    fn threads_add_up() {
        let seat = Membership::private();
        let mut memory = [0u64; 43];
        let pair = RwData::create(Place::in_memory(&mut memory), [0u64; 2]).unwrap();
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for _ in 0..1000 {
                        let mut pair = pair.write(seat.member()).unwrap();
                        pair[0] += 1;
                        pair[1] += 1;
                    }
                });
                threads.spawn(|| {
                    for _ in 0..1000 {
                        let pair = pair.read(seat.member()).unwrap();
                        assert_eq!(pair[0], pair[1]);
                    }
                });
            }
        });
        assert_eq!(pair.read(seat.member()).unwrap().get(), [3000; 2]);
    }
}
