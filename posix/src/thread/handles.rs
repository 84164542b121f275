//! Locks, flags and numbers in memory of this process: the handles of [`sync`](crate::sync) and [`value`](crate::value), over
//! its private arena.
//!
//! Each is a type of its own without serde: what does not travel is not sent by mistake. All that it can do it has by
//! [`Deref`] from the type of the same name for processes; only how it is made is said here.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use bytemuck::{AnyBitPattern, Pod};

use crate::memory::{MemoryError, private};
use crate::process::Target;
use crate::sync::{self, AtomicType, BarrierCreateError, LatchCreateError, SemaphoreError};
use crate::value::{self, CType, CreateError};
use crate::wait::sealed::Source;

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident $(<$t:ident: $bound:ident>)? of $room:ident, {$($made:tt)*})*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name $(<$t: $bound + 'static>)? ($room::$name $(<$t>)?);

        impl $(<$t: $bound + 'static>)? $name $(<$t>)? {
            $($made)*
        }

        impl $(<$t: $bound + 'static>)? Deref for $name $(<$t>)? {
            type Target = $room::$name $(<$t>)?;

            #[inline]
            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl $(<$t: $bound + fmt::Debug + 'static>)? fmt::Debug for $name $(<$t>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

/// Makes them [`Waitable`](crate::wait::Waitable), as those for processes are.
macro_rules! waits {
    ($($name:ident $(<$t:ident: $bound:ident>)?)*) => {$(
        impl $(<$t: $bound + 'static>)? Source for $name $(<$t>)? {
            fn source(&self) -> &dyn procession_core::wait::Waitable {
                self.0.source()
            }

            fn me(&self) -> procession_core::region::Member<'static> {
                self.0.me()
            }
        }
    )*};
}

handles! {
    /// A mutual exclusion lock between threads: all as [`sync::Lock`](crate::sync::Lock).
    ///
    /// ```
    /// use procession_posix::thread::Lock;
    ///
    /// let lock = Lock::new()?;
    /// {
    ///     let _guard = lock.acquire()?;
    ///     assert!(lock.locked());
    ///     assert!(lock.try_acquire().is_err());
    /// }
    /// assert!(!lock.locked());
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    Lock of sync, {
        /// A free lock.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn new() -> Result<Self, MemoryError> {
            Ok(Self(sync::Lock::new_in(private()?)?))
        }
    }

    /// A lock that the thread which holds it may acquire again: all as [`sync::RLock`](crate::sync::RLock).
    RLock of sync, {
        /// A free lock.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn new() -> Result<Self, MemoryError> {
            Ok(Self(sync::RLock::new_in(private()?)?))
        }
    }

    /// Units that threads share: all as [`sync::Semaphore`](crate::sync::Semaphore).
    Semaphore of sync, {
        /// A semaphore of `value` free units.
        ///
        /// # Errors
        /// `Memory` if there is no memory to be had; `Place` if `value` is above 2³¹ - 1.
        pub fn new(value: u32) -> Result<Self, SemaphoreError> {
            Ok(Self(sync::Semaphore::new_in(private()?, value)?))
        }
    }

    /// A semaphore that never has more units than it starts with: all as [`sync::BoundedSemaphore`](crate::sync::BoundedSemaphore).
    BoundedSemaphore of sync, {
        /// A semaphore of `value` units, all free.
        ///
        /// # Errors
        /// `Memory` if there is no memory to be had; `Place` if `value` is above 2³¹ - 2.
        pub fn new(value: u32) -> Result<Self, SemaphoreError> {
            Ok(Self(sync::BoundedSemaphore::new_in(private()?, value)?))
        }
    }

    /// A flag that one thread sets and others wait for: all as [`sync::Event`](crate::sync::Event).
    ///
    /// ```
    /// use procession_posix::thread::{Event, Thread};
    ///
    /// let ready = Event::new()?;
    /// let pilot = Thread::new(|ready: Event| ready.set(), (ready.clone(),)).start()?;
    /// ready.wait();
    /// pilot.join()?;
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    Event of sync, {
        /// A clear event.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn new() -> Result<Self, MemoryError> {
            Ok(Self(sync::Event::new_in(private()?)?))
        }
    }

    /// Waiting under a lock until another thread says that things have changed: all as
    /// [`sync::Condition`](crate::sync::Condition). It also takes the guards of a [`Mutex`](super::Mutex) of threads.
    Condition of sync, {
        /// A condition with a recursive lock of its own.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn new() -> Result<Self, MemoryError> {
            Ok(Self(sync::Condition::new_in(private()?)?))
        }

        /// A condition over this lock.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn with_lock(lock: &Lock) -> Result<Self, MemoryError> {
            Ok(Self(sync::Condition::with_lock(lock)?))
        }

        /// A condition over this lock.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn with_rlock(lock: &RLock) -> Result<Self, MemoryError> {
            Ok(Self(sync::Condition::with_rlock(lock)?))
        }
    }

    /// A point at which a fixed number of threads wait for each other: all as [`sync::Barrier`](crate::sync::Barrier).
    Barrier of sync, {
        /// A barrier for so many parties: 1 to 4095.
        ///
        /// # Errors
        /// `Place` if they are none or too many; `Memory` if there is no memory to be had.
        pub fn new(parties: u32) -> Result<Self, BarrierCreateError> {
            Ok(Self(sync::Barrier::new_in(private()?, parties)?))
        }

        /// With an action, as [`sync::Barrier::with_action`]. One that captures is given to each call:
        /// [`wait_with`](sync::Barrier::wait_with).
        #[must_use]
        pub fn with_action<F: Target<(), Output = Result<(), String>>>(self, action: F) -> Self {
            Self(self.0.with_action(action))
        }

        /// With a timeout for each wait of this handle and its clones.
        #[must_use]
        pub fn with_timeout(self, timeout: Duration) -> Self {
            Self(self.0.with_timeout(timeout))
        }
    }

    /// A lock that many threads hold to read or one to write: all as [`sync::RwLock`](crate::sync::RwLock).
    RwLock of sync, {
        /// A free lock.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn new() -> Result<Self, MemoryError> {
            Ok(Self(sync::RwLock::new_in(private()?)?))
        }
    }

    /// Something done once, by whichever thread comes first: all as [`sync::Once`](crate::sync::Once).
    Once of sync, {
        /// Not done.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn new() -> Result<Self, MemoryError> {
            Ok(Self(sync::Once::new_in(private()?)?))
        }
    }

    /// A value that is set once: all as [`sync::OnceCell`](crate::sync::OnceCell).
    OnceCell<T: AnyBitPattern> of sync, {
        /// A cell that is not set.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn new() -> Result<Self, MemoryError> {
            Ok(Self(sync::OnceCell::new_in(private()?)?))
        }
    }

    /// A door that opens when so many parts are done: all as [`sync::Latch`](crate::sync::Latch).
    Latch of sync, {
        /// A latch of so many parts; without any it is open from the start.
        ///
        /// # Errors
        /// `Memory` if there is no memory to be had; `Place` if there are more than 65,536 parts.
        pub fn new(parts: u32) -> Result<Self, LatchCreateError> {
            Ok(Self(sync::Latch::new_in(private()?, parts)?))
        }
    }

    /// A value that is read without ever holding up its writer: all as [`sync::SeqLock`](crate::sync::SeqLock).
    SeqLock<T: Pod> of sync, {
        /// A cell that holds `value`.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn new(value: T) -> Result<Self, MemoryError> {
            Ok(Self(sync::SeqLock::new_in(private()?, value)?))
        }
    }

    /// An atomic that threads share: all as [`sync::Atomic`](crate::sync::Atomic).
    Atomic<T: AtomicType> of sync, {
        /// An atomic that is `value`.
        ///
        /// # Errors
        /// [`MemoryError`] if there is no memory to be had.
        pub fn new(value: T) -> Result<Self, MemoryError> {
            Ok(Self(sync::Atomic::new_in(private()?, value)?))
        }
    }

    /// One element of type `T` that threads share, with a lock: all as [`value::Value`](crate::value::Value).
    ///
    /// ```
    /// use procession_posix::thread::Value;
    ///
    /// let counter = Value::new(40i32)?;
    /// let same = counter.clone();
    /// std::thread::spawn(move || same.update(|n| n + 2)).join().unwrap();
    /// assert_eq!(counter.get(), 42);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    Value<T: CType> of value, {
        /// A value that is `initial`.
        ///
        /// # Errors
        /// [`CreateError::Memory`] if there is no memory to be had.
        pub fn new(initial: T) -> Result<Self, CreateError> {
            Ok(Self(value::Value::new_in(private()?, initial)?))
        }
    }

    /// Elements of type `T` that threads share, and one lock for all: all as [`value::Array`](crate::value::Array).
    Array<T: CType> of value, {
        /// An array of `length` zeros. It can be empty.
        ///
        /// # Errors
        /// [`CreateError::Memory`] if there is no room for it; `Value` if there never will be.
        pub fn new(length: usize) -> Result<Self, CreateError> {
            Ok(Self(value::Array::new_in(private()?, length)?))
        }

        /// An array of copies of `items`.
        ///
        /// # Errors
        /// As [`new`](Self::new).
        pub fn from_slice(items: &[T]) -> Result<Self, CreateError> {
            Ok(Self(value::Array::from_slice_in(private()?, items)?))
        }
    }
}

waits! {
    Lock RLock Semaphore BoundedSemaphore Event RwLock Once OnceCell<T: AnyBitPattern> Latch
}
