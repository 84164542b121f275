//! A lock that owns its data: [`Lock`]'s protocol, and the data behind it.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use bytemuck::AnyBitPattern;

use super::condition::suspend::Suspend;
use super::data::{self, DataError};
use super::error::{AcquireError, OwnerDied};
use super::lock::{Lock, LockGuard};
use crate::region::{Member, Place, PlaceError};
use crate::sys::Deadline;

/// Data in shared memory that only the holder of their lock can reach, as `std::sync::Mutex`.
///
/// A process that is killed while it holds the lock does not take it along: the next one gets
/// [`AcquireError::OwnerDied`] with the guard inside, and the data as the dead one had left them.
///
/// `T` is plain data for which every bit pattern is a value (bytemuck's derives say so of one's own structs): another
/// process may have written anything. The guard gives references to the data. That is sound as long as all
/// processes that map the memory touch the data under the lock alone, which they do by this type; where a process is not
/// to be trusted with that, [`MutexGuard::get`] and [`MutexGuard::set`] copy them in and out.
///
/// The place has to be this object's alone, as long as anybody uses it, and who locks it has to be a member of the region that
/// it lies in: a member of another region would take each owner for dead. (procession-posix's handles see to both.)
///
/// Cost: that of [`Lock`]. In memory: 16 bytes and the data.
///
/// Without contention `*mutex.lock(me)? += 1` and the release behind it are 29 instructions on x86-64, as callgrind counts
/// them (`core/examples/mutex_instructions.rs`); without those that only place the guard for the way of an error, 22:
///
/// ```text
/// mov (lock)  mov (tag)  test  je  xor  lock cmpxchg  jne             who am I; take the lock
/// inc (data)                                                          what the program does
/// mov  and  cmp  jne  mov (tag)  cmp  jne  movl $0, (lock)            still mine? give it back
/// cmpl (fences)  jne  mov (event)  test  jne                          does anybody sleep?
/// ```
///
/// ```
/// use procession_core::region::{Membership, Place};
/// use procession_core::sync::Mutex;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let mut memory = [0u64; 4];
/// let place = Place::in_memory(&mut memory);
/// let account = Mutex::create(place, [100i64, 0])?;
/// {
///     let mut balance = account.lock(me).unwrap();
///     balance[0] -= 30;
///     balance[1] += 30;
/// }
/// let same = Mutex::<[i64; 2]>::attach(place)?;
/// assert_eq!(*same.lock(me).unwrap(), [70, 30]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mutex<'m, T> {
    lock: &'m Lock,
    data: NonNull<T>,
    owned: PhantomData<&'m T>,
}

impl<T> Clone for Mutex<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Mutex<'_, T> {}

// SAFETY: the data are reached by the holder of the lock alone, one thread at a time, which may be any: T: Send.
unsafe impl<T: Send> Send for Mutex<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Mutex<'_, T> {}

impl<T> fmt::Debug for Mutex<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("lock", &self.lock).finish_non_exhaustive()
    }
}

/// What locking gives.
type Locked<'a, T> = Result<MutexGuard<'a, T>, AcquireError<MutexGuard<'a, T>>>;

impl<'m, T: AnyBitPattern> Mutex<'m, T> {
    /// How many bytes of a place it takes.
    #[must_use]
    pub const fn bytes() -> u64 {
        data::bytes::<Lock, T>()
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

    fn of(behind: data::Behind<'m, Lock, T>) -> Self {
        Self { lock: behind.primitive, data: behind.data, owned: PhantomData }
    }
}

impl<'m, T: 'static> Mutex<'m, T> {
    /// One over a lock and data of any type that the caller keeps, in memory of this process.
    ///
    /// # Safety
    /// `data` points to a T that lives for `'m`, and is reached by the holder of `lock` alone; no other process maps it.
    pub unsafe fn over(lock: &'m Lock, data: NonNull<T>) -> Self {
        Self { lock, data, owned: PhantomData }
    }
}

impl<'m, T> Mutex<'m, T> {
    /// Waits for the lock as long as it takes.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    #[inline]
    pub fn lock(&self, me: Member<'m>) -> Locked<'m, T> {
        self.lock_until(me, Deadline::NEVER)
    }

    /// Takes the lock if it is free, or if its holder is dead.
    ///
    /// # Errors
    /// As [`Lock::try_acquire`].
    #[inline]
    pub fn try_lock(&self, me: Member<'m>) -> Locked<'m, T> {
        self.lock_until(me, Deadline::NOW).map_err(AcquireError::at_once)
    }

    /// Waits for the lock until `deadline`.
    ///
    /// # Errors
    /// As [`Lock::acquire_until`].
    #[inline]
    pub fn lock_until(&self, me: Member<'m>, deadline: Deadline) -> Locked<'m, T> {
        match self.lock.take(me, deadline) {
            Ok((tag, died)) => {
                let guard = LockGuard::of(self.lock, me, tag, died);
                let guard = MutexGuard { guard, data: self.data, owned: PhantomData };
                if died { Err(AcquireError::OwnerDied(OwnerDied::new(guard))) } else { Ok(guard) }
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// The lock, by itself.
    #[must_use]
    pub fn as_lock(&self) -> &'m Lock {
        self.lock
    }
}

/// The data, for as long as this lives; dropping it releases the lock.
#[must_use = "the lock is released at once if the guard is dropped"]
pub struct MutexGuard<'a, T> {
    guard: LockGuard<'a>,
    data: NonNull<T>,
    owned: PhantomData<&'a mut T>,
}

// SAFETY: the guard is the one way to the data; it may be used and dropped by any thread, as the lock's guard may.
unsafe impl<T: Send> Send for MutexGuard<'_, T> {}
// SAFETY: shared, it gives shared references only.
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<T> MutexGuard<'_, T> {
    /// Whether a holder died with the lock and nobody has marked the data consistent since.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.guard.owner_died()
    }

    /// Says that the data are in order again: later locks succeed plainly.
    pub fn mark_consistent(&mut self) {
        self.guard.mark_consistent();
    }
}

impl<T> Suspend for MutexGuard<'_, T> {
    type Levels = ();

    fn me(&self) -> Member<'_> {
        Suspend::me(&self.guard)
    }

    fn address(&self) -> usize {
        self.guard.address()
    }

    fn is_held(&self) -> bool {
        self.guard.is_held()
    }

    fn owner_died(&self) -> bool {
        self.guard.owner_died()
    }

    fn is_orphaned(&self) -> bool {
        self.guard.is_orphaned()
    }

    fn suspend(&mut self) {
        self.guard.suspend();
    }

    fn resume(&mut self, (): ()) -> Result<(), u64> {
        self.guard.resume(())
    }
}

impl<T: AnyBitPattern> MutexGuard<'_, T> {
    /// A copy of the data, made without a reference to them.
    #[must_use]
    pub fn get(&self) -> T {
        // SAFETY: the data are mapped, aligned, and any bytes are a T. Volatile: a process that does not keep to the lock
        // may write meanwhile, and then the copy is a mixture.
        unsafe { self.data.read_volatile() }
    }

    /// Replaces the data, without a reference to them.
    pub fn set(&mut self, value: T) {
        // SAFETY: as above.
        unsafe { self.data.write_volatile(value) };
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: mapped and aligned; any bytes are a T, or nobody else maps them; the lock keeps out all who use this type.
        unsafe { self.data.as_ref() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { self.data.as_mut() }
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Membership;

    #[test]
    fn another_type_is_refused() {
        let mut memory = [0u64; 4];
        let place = Place::in_memory(&mut memory);
        assert!(matches!(Mutex::<u64>::attach(place), Err(DataError::Nothing { .. })));
        Mutex::create(place, 7u64).unwrap();
        assert!(matches!(Mutex::<i64>::attach(place), Err(DataError::OtherType { .. })));
        assert!(matches!(Mutex::<[u64; 9]>::attach(place), Err(DataError::Place(_))));
        assert!(Mutex::<u64>::attach(place).is_ok());
        assert!(Mutex::create(place.up_to(16), 7u64).is_err());
    }

    #[test]
    fn threads_add_up() {
        let seat = Membership::private();
        let mut memory = [0u64; 3];
        let sum = Mutex::create(Place::in_memory(&mut memory), 0u64).unwrap();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..1000 {
                        *sum.lock(seat.member()).unwrap() += 1;
                    }
                });
            }
        });
        assert_eq!(sum.lock(seat.member()).unwrap().get(), 4000);
    }
}
