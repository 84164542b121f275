//! A condition that travels.

use std::fmt;
use std::time::Duration;

use procession_core::region::Shareable;
use procession_core::sync as core;
use procession_core::sys::Deadline;
use serde::{Deserialize, Serialize};

use super::shared::{Shared, travels};
use super::{ConditionError, Hold, Lock, LockGuard, RLock, RLockGuard};
use crate::memory::{Arena, MemoryError, arena, kind};

/// What acquiring gives.
type Acquired<'a> = Result<ConditionGuard<'a>, core::AcquireError<ConditionGuard<'a>>>;

/// Waiting under a lock until another process says that things have changed, as `multiprocessing.Condition`.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same condition over the same lock. In memory it
/// takes 1088 bytes.
///
/// [`new`](Self::new) makes a condition with a recursive lock of its own, [`with_lock`](Self::with_lock) and
/// [`with_rlock`](Self::with_rlock) one over a lock that exists. [`acquire`](Self::acquire) gives the lock's guard, on which
/// one waits and notifies. Or use it as std's `Condvar`, with the guards of a [`Mutex`](super::Mutex) or a lock: see
/// [`wait`](Self::wait). The first lock whose guard it meets is the one it belongs to.
///
/// - Just so many waits end as are notified, the oldest first, and none without. (With more than 64 waiting at a time those
///   beyond the 64 end their waits together.)
/// - Nobody who notifies waits for a waiter. A waiter that is killed is passed over, and a notification that it had got
///   goes to another that waited then: at once if it was killed in its sleep, else within a tenth of a second.
/// - If a process dies while it holds the lock, a waiter hears of it even if nobody else comes for the lock:
///   [`ConditionError::OwnerDied`]. Who hears of it, here or by acquiring, speaks for the dead: [`notify_all`](ConditionGuard::notify_all) if in
///   doubt.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::Condition;
/// use procession_posix::value::Value;
///
/// fn producer(changed: Condition, stock: Value<u32>) -> procession_posix::Result<()> {
///     let guard = changed.acquire()?;
///     stock.set(3);
///     guard.notify_all()?;
///     Ok(())
/// }
///
/// let (changed, stock) = (Condition::new()?, Value::new(0u32)?);
/// let mut guard = changed.acquire()?;
/// let worker = Process::new(producer, (changed.clone(), stock.clone())).start()?;
/// guard.wait_for(|| stock.get() > 0)?;
/// drop(guard);
/// worker.join()??;
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Condition {
    parts: Parts,
    base: Base,
}

/// What lies in shared memory: a condition, and the lock that is its own.
#[repr(C)]
struct WithLock {
    condition: core::Condition,
    lock: core::RLock,
}

// SAFETY: repr(C), and both parts are shareable; their sizes leave no gap, as both are multiples of 8 bytes.
unsafe impl Shareable for WithLock {}

#[derive(Clone)]
struct Parts {
    shared: Shared<&'static WithLock>,
}

travels!(Parts, CONDITION);

/// Whose lock it is.
#[derive(Clone, Serialize, Deserialize)]
enum Base {
    Own,
    Lock(Lock),
    RLock(RLock),
}

impl Condition {
    /// A condition with a recursive lock of its own.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn new() -> Result<Self, MemoryError> {
        Self::over(arena()?, Base::Own)
    }

    /// A condition over this lock.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    ///
    /// ```
    /// use procession_posix::sync::{Condition, Lock};
    ///
    /// let lock = Lock::new()?;
    /// let (full, empty) = (Condition::with_lock(&lock)?, Condition::with_lock(&lock)?);
    /// let guard = full.acquire()?;
    /// assert!(lock.locked() && empty.try_acquire().is_err());
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn with_lock(lock: &Lock) -> Result<Self, MemoryError> {
        Self::over(lock.shared.handle.arena(), Base::Lock(lock.clone()))
    }

    /// A condition over this lock.
    ///
    /// # Errors
    /// [`MemoryError`] if there is no shared memory to be had.
    pub fn with_rlock(lock: &RLock) -> Result<Self, MemoryError> {
        Self::over(lock.shared.handle.arena(), Base::RLock(lock.clone()))
    }

    /// [`new`](Self::new) in this memory.
    pub(crate) fn new_in(arena: &'static Arena) -> Result<Self, MemoryError> {
        Self::over(arena, Base::Own)
    }

    fn over(arena: &'static Arena, base: Base) -> Result<Self, MemoryError> {
        Ok(Self { parts: Parts { shared: Shared::new(arena, kind::CONDITION)? }, base })
    }

    fn condition(&self) -> &'static core::Condition {
        &self.parts.shared.object.condition
    }

    /// Waits for the lock as long as it takes.
    ///
    /// # Errors
    /// `OwnerDied` with the guard, if its last holder died with it; `TooDeep`; `Corrupt`; `Join`.
    pub fn acquire(&self) -> Acquired<'_> {
        self.acquire_until(Deadline::NEVER)
    }

    /// Takes the lock if it is free, or recursive and this thread's.
    ///
    /// # Errors
    /// `WouldBlock` if it is held; otherwise as [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Acquired<'_> {
        self.acquire_until(Deadline::NOW).map_err(core::AcquireError::at_once)
    }

    /// Waits for the lock for at most `timeout`; zero tries once.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Acquired<'_> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Waits for the lock until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; otherwise as [`acquire`](Self::acquire).
    pub fn acquire_until(&self, deadline: Deadline) -> Acquired<'_> {
        let lock = |held| ConditionGuard { condition: self.condition(), held: Held::Lock(held) };
        let rlock = |held| ConditionGuard { condition: self.condition(), held: Held::RLock(held) };
        match &self.base {
            Base::Own => {
                let own = &self.parts.shared.object.lock;
                let answer = own.acquire_until(self.parts.shared.me, deadline);
                answer.map(rlock).map_err(|error| error.map(rlock))
            }
            Base::RLock(base) => {
                base.acquire_until(deadline).map(rlock).map_err(|error| error.map(rlock))
            }
            Base::Lock(base) => {
                base.acquire_until(deadline).map(lock).map_err(|error| error.map(lock))
            }
        }
    }

    /// Releases the lock that `guard` holds, waits for a notification as long as it takes, and acquires it again as it was.
    ///
    /// For guards that come from a lock or a [`Mutex`](super::Mutex) itself; with that of [`acquire`](Self::acquire), use its
    /// own methods.
    ///
    /// # Errors
    /// [`ConditionError::NotHeld`] if the guard is not of the lock that the condition belongs to; `OwnerDied` if the lock came
    /// back from a dead holder; `Corrupt`.
    ///
    /// ```
    /// use procession_posix::process::Process;
    /// use procession_posix::sync::{Condition, Mutex};
    ///
    /// fn produce(stock: Mutex<u32>, changed: Condition) -> procession_posix::Result<()> {
    ///     let mut guard = stock.lock()?;
    ///     *guard = 3;
    ///     changed.notify_one(&guard)?;
    ///     Ok(())
    /// }
    ///
    /// let (stock, changed) = (Mutex::new(0u32)?, Condition::new()?);
    /// let worker = Process::new(produce, (stock.clone(), changed.clone())).start()?;
    /// let mut guard = stock.lock()?;
    /// changed.wait_for(&mut guard, |stock| **stock > 0)?;
    /// assert_eq!(*guard, 3);
    /// drop(guard);
    /// worker.join()??;
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn wait<H: Hold>(&self, guard: &mut H) -> Result<(), ConditionError> {
        self.condition().wait(guard)
    }

    /// The same for at most `timeout`, and then as long as it takes for the lock. Says whether it was notified.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout<H: Hold>(
        &self,
        guard: &mut H,
        timeout: Duration,
    ) -> Result<bool, ConditionError> {
        self.wait_until(guard, Deadline::after(timeout))
    }

    /// The same until `deadline`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_until<H: Hold>(
        &self,
        guard: &mut H,
        deadline: Deadline,
    ) -> Result<bool, ConditionError> {
        self.condition().wait_until(guard, deadline)
    }

    /// Waits until `predicate` holds, which is asked under the lock: first of all, and after each notification.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), whatever the predicate would say.
    pub fn wait_for<H: Hold>(
        &self,
        guard: &mut H,
        predicate: impl FnMut(&mut H) -> bool,
    ) -> Result<(), ConditionError> {
        self.condition().wait_for(guard, predicate)
    }

    /// Waits until `predicate` holds, for at most `timeout` in all; says what it said last.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), whatever the predicate would say.
    pub fn wait_for_timeout<H: Hold>(
        &self,
        guard: &mut H,
        timeout: Duration,
        predicate: impl FnMut(&mut H) -> bool,
    ) -> Result<bool, ConditionError> {
        self.condition().wait_for_until(guard, Deadline::after(timeout), predicate)
    }

    /// Ends the wait of the `most` who have waited longest, or of all if they are fewer; says how many they are. They return
    /// once they get the lock.
    ///
    /// # Errors
    /// [`ConditionError::NotHeld`] if the guard is not of the lock that the condition belongs to; `Corrupt`.
    pub fn notify<H: Hold>(&self, guard: &H, most: u32) -> Result<u32, ConditionError> {
        self.condition().notify(guard, most)
    }

    /// Ends the wait of the one who has waited longest, if somebody waits; says whether.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn notify_one<H: Hold>(&self, guard: &H) -> Result<bool, ConditionError> {
        self.condition().notify_one(guard)
    }

    /// Ends the wait of all who wait now; says how many they are.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn notify_all<H: Hold>(&self, guard: &H) -> Result<u32, ConditionError> {
        self.condition().notify_all(guard)
    }
}

/// The lock, and how many wait: as of about now.
impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = &self.parts.shared.object.lock;
        let mut text = f.debug_struct("Condition");
        match &self.base {
            Base::Own => text.field("holder", &own.holder(self.parts.shared.me)),
            Base::Lock(lock) => text.field("lock", lock),
            Base::RLock(lock) => text.field("lock", lock),
        };
        text.field("waiters", &self.condition().waiters()).finish()
    }
}

/// The lock of a condition is held as long as this lives; on it one waits and notifies.
#[must_use = "the lock is released at once if the guard is dropped"]
#[derive(Debug)]
pub struct ConditionGuard<'a> {
    condition: &'a core::Condition,
    held: Held<'a>,
}

#[derive(Debug)]
enum Held<'a> {
    Lock(LockGuard<'a>),
    RLock(RLockGuard<'a>),
}

impl ConditionGuard<'_> {
    /// Releases the lock, all its levels, waits for a notification as long as it takes, and acquires the lock again as it was.
    ///
    /// # Errors
    /// [`ConditionError::OwnerDied`] if the lock came back from a dead holder; `NotHeld` if this process has inherited the
    /// guard, or the condition was used with another lock before; `Corrupt`.
    pub fn wait(&mut self) -> Result<(), ConditionError> {
        self.wait_until(Deadline::NEVER).map(drop)
    }

    /// The same for at most `timeout`, and then as long as it takes for the lock. Says whether it was notified; also if the
    /// notification and the end of the time came together.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// ```
    /// use procession_posix::sync::Condition;
    /// use std::time::Duration;
    ///
    /// let changed = Condition::new()?;
    /// let mut guard = changed.acquire()?;
    /// assert!(!guard.wait_timeout(Duration::from_millis(5))?);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<bool, ConditionError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// The same until `deadline`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_until(&mut self, deadline: Deadline) -> Result<bool, ConditionError> {
        match &mut self.held {
            Held::Lock(guard) => self.condition.wait_until(guard, deadline),
            Held::RLock(guard) => self.condition.wait_until(guard, deadline),
        }
    }

    /// Waits until `predicate` holds, which is asked under the lock: first of all, and after each notification.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), whatever the predicate would say.
    pub fn wait_for(&mut self, predicate: impl FnMut() -> bool) -> Result<(), ConditionError> {
        self.wait_for_until(Deadline::NEVER, predicate).map(drop)
    }

    /// Waits until `predicate` holds, for at most `timeout` in all; says what it said last.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), whatever the predicate would say.
    pub fn wait_for_timeout(
        &mut self,
        timeout: Duration,
        predicate: impl FnMut() -> bool,
    ) -> Result<bool, ConditionError> {
        self.wait_for_until(Deadline::after(timeout), predicate)
    }

    /// The same until `deadline`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), whatever the predicate would say.
    pub fn wait_for_until(
        &mut self,
        deadline: Deadline,
        mut predicate: impl FnMut() -> bool,
    ) -> Result<bool, ConditionError> {
        match &mut self.held {
            Held::Lock(guard) => self.condition.wait_for_until(guard, deadline, |_| predicate()),
            Held::RLock(guard) => self.condition.wait_for_until(guard, deadline, |_| predicate()),
        }
    }

    /// Ends the wait of the `most` who have waited longest, or of all if they are fewer; says how many they are. They return
    /// once they get the lock.
    ///
    /// # Errors
    /// [`ConditionError::NotHeld`] if this process has inherited the guard, or the condition was used with another lock
    /// before; `Corrupt`.
    pub fn notify(&self, most: u32) -> Result<u32, ConditionError> {
        match &self.held {
            Held::Lock(guard) => self.condition.notify(guard, most),
            Held::RLock(guard) => self.condition.notify(guard, most),
        }
    }

    /// Ends the wait of the one who has waited longest, if somebody waits; says whether.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn notify_one(&self) -> Result<bool, ConditionError> {
        self.notify(1).map(|count| count > 0)
    }

    /// Ends the wait of all who wait now; says how many they are.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn notify_all(&self) -> Result<u32, ConditionError> {
        self.notify(u32::MAX)
    }

    /// Whether a holder died with the lock and nobody has marked it consistent since.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        match &self.held {
            Held::Lock(guard) => guard.owner_died(),
            Held::RLock(guard) => guard.owner_died(),
        }
    }

    /// Says that what the lock protects is in order again: later acquires succeed plainly.
    pub fn mark_consistent(&mut self) {
        match &mut self.held {
            Held::Lock(guard) => guard.mark_consistent(),
            Held::RLock(guard) => guard.mark_consistent(),
        }
    }
}
