//! A lock that survives its holder.
//!
//! Two words of 32 bits: `word = DIED 1 | LOOSE 1 | owner's tag 30`, and an eventcount.
//!
//! ```text
//! free            (DIED or not, nobody) → (same, me)     acquire: one compare-and-swap
//! held by me      (DIED or not, me) → (as the guard says, nobody)   release: one plain store, then notify one
//! held by me      (any, me) → (as the guard says, LOOSE, me)        detach: one plain store, and the guard is gone
//! held loosely    (any, LOOSE, o) → (same, nobody)       release by anybody: one compare-and-swap, then notify one
//! held by a dead  (any, dead) → (DIED, me)               recovery: one compare-and-swap from exactly that value
//! ```
//!
//! - Only the guard releases what it holds, so that its store needs no compare-and-swap: nobody else changes the word of
//!   a living holder. Who wants others to release gives up the guard first: LOOSE.
//! - Whoever is dead, the kernel says ([`Member::verdict`]): a stopped holder keeps its lock.
//! - DIED tells each next holder that data under the lock may be half written, until one of them declares the data
//!   consistent. The guard remembers the bit and stores it back.
//! - A guard that a forked child inherited is not the child's: its drop compares the word with the child's tag and
//!   leaves it alone.
//! - Nobody gets stuck: a sleeper looks again in slices and asks whether the holder is dead; a releaser that dies
//!   between store and notify has released.
//!
//! Fairness: none promised. A lock that is free is taken by whoever comes first, which is fastest.

use super::condition::{damage, suspend::Suspend};
use super::error::{AcquireError, OwnerDied, ReleaseError};
use crate::region::{JoinError, Member, Tag, Verdict, Who};
use crate::sys::Deadline;
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::spin::Pace;
use crate::sys::trace;
use crate::wait::{Eventcount, Waitable};

const DIED: u32 = 1 << 31;
/// With a tag: held, and no guard knows of it. Without: damaged.
const LOOSE: u32 = 1 << 30;
/// What a guard leaves behind when the word was not as it had written it.
const DAMAGED: u32 = LOOSE;

/// A mutual exclusion lock in shared memory: 8 bytes, all zero when free.
///
/// A process that is killed while it holds the lock does not take it along: the next one gets
/// [`AcquireError::OwnerDied`] with the guard inside, as std does with a poisoned mutex. A process that is merely
/// stopped keeps it.
///
/// Not re-entrant: who acquires it twice waits for itself. The holder is the process; a guard may be moved
/// to, and dropped by, another of its threads.
///
/// Cost: without contention one compare-and-swap and one store, no system call.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::sync::Lock;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let lock = Lock::new();
/// {
///     let _guard = lock.acquire(me).unwrap();
///     assert!(lock.try_acquire(me).is_err());
/// }
/// assert!(lock.try_acquire(me).is_ok());
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Lock {
    word: AtomicU32,
    event: Eventcount,
}

const _: () = assert!(cfg!(loom) || size_of::<Lock>() == 8);

#[cfg(not(loom))]
// SAFETY: a repr(C) pair of atomics for which all zero, and every other pattern, is valid; other processes may
// change it at any time, which atomics allow.
unsafe impl crate::region::Shareable for Lock {}

impl Default for Lock {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a lock was not taken.
pub(super) enum Refusal {
    TimedOut,
    Corrupt(u32),
    Join(JoinError),
}

impl<G> From<Refusal> for AcquireError<G> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TimedOut => Self::TimedOut,
            Refusal::Corrupt(word) => Self::Corrupt { word: u64::from(word) },
            Refusal::Join(error) => Self::Join(error),
        }
    }
}

/// What acquiring gives.
pub type Acquired<'a> = Result<LockGuard<'a>, AcquireError<LockGuard<'a>>>;

impl Lock {
    /// A free lock.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self { word: AtomicU32::new(0), event: Eventcount::new() }
    }

    /// A free lock.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), event: Eventcount::new() }
    }

    /// Waits for the lock as long as it takes. A holder that dies ends the wait within some
    /// milliseconds; for who has waited long, or beside others, within a quarter of a second.
    ///
    /// # Errors
    /// [`AcquireError::OwnerDied`] with the guard; `Corrupt`; `Join`.
    #[inline]
    pub fn acquire<'a>(&'a self, me: Member<'a>) -> Acquired<'a> {
        self.acquire_until(me, Deadline::NEVER)
    }

    /// Takes the lock if it is free, or if its holder is dead (asked at most once a millisecond).
    ///
    /// # Errors
    /// [`AcquireError::WouldBlock`] if somebody holds it; `OwnerDied` with the guard; `Corrupt`; `Join`.
    #[inline]
    pub fn try_acquire<'a>(&'a self, me: Member<'a>) -> Acquired<'a> {
        self.acquire_until(me, Deadline::NOW).map_err(AcquireError::at_once)
    }

    /// Waits for the lock until `deadline`.
    ///
    /// # Errors
    /// [`AcquireError::TimedOut`]; `OwnerDied` with the guard; `Corrupt`; `Join`.
    #[inline]
    pub fn acquire_until<'a>(&'a self, me: Member<'a>, deadline: Deadline) -> Acquired<'a> {
        match self.take(me, deadline) {
            Ok((tag, died)) => {
                let guard = LockGuard { lock: self, me, tag, died };
                if died { Err(AcquireError::OwnerDied(OwnerDied::new(guard))) } else { Ok(guard) }
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Takes the lock, without a guard: under which tag, and whether its last holder died.
    ///
    /// The answer comes back in registers: a guard that came through memory from one of two ways would be copied through
    /// memory on both, which costs more than the lock.
    #[inline(always)]
    pub(super) fn take(&self, me: Member<'_>, deadline: Deadline) -> Result<(Tag, bool), Refusal> {
        let tag = me.tag().map_err(Refusal::Join)?;
        // Acquire meets the Release of `LockGuard::drop`: the data of the last holder are visible.
        match self.word.compare_exchange(0, tag.bits(), Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok((tag, false)),
            Err(_) => match self.contend(me, tag, deadline) {
                Some(Ok(died)) => Ok((tag, died)),
                Some(Err(word)) => Err(Refusal::Corrupt(word)),
                None => Err(Refusal::TimedOut),
            },
        }
    }

    #[cold]
    fn contend(&self, me: Member<'_>, tag: Tag, deadline: Deadline) -> Option<Result<bool, u32>> {
        self.event.wait(me, deadline, Pace::Polite, |ask| self.attempt(me, tag, ask))
    }

    /// One try. `Ok(died)`: taken. `Err(word)`: damaged. `None`: somebody living holds it.
    fn attempt(&self, me: Member<'_>, tag: Tag, ask: bool) -> Option<Result<bool, u32>> {
        // Relaxed: only what the compare-and-swap confirms counts.
        let word = self.word.load(Ordering::Relaxed);
        let owner = Tag::from_bits(word);
        let died = match owner {
            None if word & !DIED != 0 => return Some(Err(word)),
            None => word & DIED != 0,
            Some(owner) if ask => match me.verdict(owner) {
                Verdict::Alive => return None,
                Verdict::Dead => true,
                Verdict::Corrupt => return Some(Err(word)),
            },
            Some(_) => return None,
        };
        let mine = if died { DIED | tag.bits() } else { tag.bits() };
        // Acquire meets the Release of the last release; of a dead holder everything is visible with its verdict.
        self.word.compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed).ok()?;
        if let Some(dead) = owner {
            trace::recovered("Lock", me, dead);
        }
        Some(Ok(died))
    }

    /// Whether somebody holds it now, the dead included. A load.
    #[must_use]
    pub fn locked(&self) -> bool {
        Tag::from_bits(self.word.load(Ordering::Relaxed)).is_some()
    }

    /// Who holds it now, the dead included; `None` if it is free, or its holder's seat has gone to another. Some loads.
    #[must_use]
    pub fn holder(&self, me: Member<'_>) -> Option<Who> {
        // Relaxed: for people to read.
        me.who(Tag::from_bits(self.word.load(Ordering::Relaxed))?)
    }

    /// Releases a lock that is held without a guard ([`LockGuard::detach`]); any thread of any process may, whoever
    /// acquired it. One compare-and-swap, and a system call only if somebody sleeps.
    ///
    /// # Errors
    /// [`ReleaseError::NotHeld`] if it is free; `Guarded` if a guard holds it; `Corrupt`.
    ///
    /// ```
    /// use procession_core::region::Membership;
    /// use procession_core::sync::{Lock, ReleaseError};
    ///
    /// let seat = Membership::private();
    /// let me = seat.member();
    /// let lock = Lock::new();
    /// let guard = lock.acquire(me).unwrap();
    /// assert_eq!(lock.release(me), Err(ReleaseError::Guarded));
    /// guard.detach();
    /// assert!(lock.locked());
    /// lock.release(me).unwrap();
    /// assert_eq!(lock.release(me), Err(ReleaseError::NotHeld));
    /// ```
    pub fn release(&self, me: Member<'_>) -> Result<(), ReleaseError> {
        // Relaxed: only what the compare-and-swap confirms counts.
        let word = self.word.load(Ordering::Relaxed);
        match Tag::from_bits(word) {
            None if word & !DIED != 0 => {
                return Err(ReleaseError::Corrupt { word: u64::from(word) });
            }
            None => return Err(ReleaseError::NotHeld),
            Some(_) if word & LOOSE == 0 => return Err(ReleaseError::Guarded),
            Some(_) => {}
        }
        // Release meets the Acquire of the next holder; Acquire hands on what the one who acquired had stored. Failure:
        // another was faster, and released it or took it back from the dead.
        self.word
            .compare_exchange(word, word & DIED, Ordering::AcqRel, Ordering::Relaxed)
            .map_err(|_| ReleaseError::NotHeld)?;
        self.event.notify_one(me);
        Ok(())
    }
}

/// Ready when it is free, or its holder is dead.
impl Waitable for Lock {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        // Relaxed: only a hint, the taking is confirmed by a compare-and-swap.
        match Tag::from_bits(self.word.load(Ordering::Relaxed)) {
            // Damage included: taking it says so.
            None => true,
            Some(owner) => ask && me.verdict(owner) != Verdict::Alive,
        }
    }

    fn sleepers(&self) -> &Eventcount {
        &self.event
    }
}

/// The lock is held as long as this lives. Dropping it releases the lock: a store, and a system call only if
/// somebody sleeps.
#[must_use = "the lock is released at once if the guard is dropped"]
#[derive(Debug)]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    me: Member<'a>,
    tag: Tag,
    died: bool,
}

impl<'a> LockGuard<'a> {
    /// The guard of a lock that was taken.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(super) fn of(lock: &'a Lock, me: Member<'a>, tag: Tag, died: bool) -> Self {
        Self { lock, me, tag, died }
    }

    /// Whether a holder died with this lock and nobody has marked it consistent since.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.died
    }

    /// Says that what the lock protects is in order again: later acquires succeed plainly.
    pub fn mark_consistent(&mut self) {
        self.died = false;
    }

    /// Gives up the guard and leaves the lock held, for anybody to [`release`](Lock::release). If this process dies before
    /// somebody does, the lock is taken back as from any dead holder. One store.
    pub fn detach(self) {
        let word = self.lock.word.load(Ordering::Relaxed);
        if word & !DIED != self.tag.bits() || !self.me.is(self.tag) {
            // Not as this guard wrote it, or not this process's: as if it were dropped.
            return;
        }
        // Release meets the Acquire in `Lock::release`.
        self.lock.word.store(self.left() | LOOSE | self.tag.bits(), Ordering::Release);
        core::mem::forget(self);
    }

    /// What the guard leaves of DIED.
    #[inline]
    fn left(&self) -> u32 {
        if self.died { DIED } else { 0 }
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Relaxed: nobody but the holder changes the word.
        let word = self.lock.word.load(Ordering::Relaxed);
        if word & !DIED == self.tag.bits() && self.me.is(self.tag) {
            // Release meets the Acquire of the next holder.
            self.lock.word.store(self.left(), Ordering::Release);
            self.lock.event.notify_one(self.me);
        } else {
            self.lock.released_strangely(self.me, self.tag);
        }
    }
}

impl Lock {
    /// The word is not as the guard wrote it, or this process is not the one that acquired. Takes the guard's parts by value: a
    /// guard whose address is taken lies in memory, also on the short way.
    #[cold]
    fn released_strangely(&self, me: Member<'_>, tag: Tag) {
        if me.is(tag) {
            // The next call reports it, and so do those that wait.
            self.word.store(DAMAGED, Ordering::Release);
            self.event.notify_all(me);
        }
        // Else: inherited over fork. The parent holds the lock and releases it.
    }
}

#[cfg(test)]
impl LockGuard<'_> {
    /// As if the lock came from a dead holder.
    pub(in crate::sync) fn set_owner_died(&mut self) {
        self.died = true;
    }
}

impl Suspend for LockGuard<'_> {
    type Levels = ();

    fn me(&self) -> Member<'_> {
        self.me
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self.lock).addr()
    }

    fn is_held(&self) -> bool {
        // Relaxed: nobody but the holder changes the word.
        self.lock.word.load(Ordering::Relaxed) & !DIED == self.tag.bits() && self.me.is(self.tag)
    }

    fn owner_died(&self) -> bool {
        self.died
    }

    fn is_orphaned(&self) -> bool {
        // Relaxed: only who asks now.
        Tag::from_bits(self.lock.word.load(Ordering::Relaxed))
            .is_some_and(|owner| self.me.verdict(owner) == Verdict::Dead)
    }

    fn suspend(&mut self) {
        // As in `drop`.
        self.lock.word.store(self.left(), Ordering::Release);
        self.lock.event.notify_one(self.me);
    }

    fn resume(&mut self, (): ()) -> Result<(), u64> {
        let lock = self.lock;
        let guard = match lock.acquire(self.me) {
            Ok(guard) => guard,
            Err(error) => error.into_guard().map_err(|error| damage(&error))?,
        };
        // From here on this guard stands for it.
        self.died = guard.died;
        core::mem::forget(guard);
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::region::Membership;

    #[test]
    fn a_held_lock_is_not_given_out() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = Lock::new();
        let guard = lock.acquire(me).unwrap();
        assert!(matches!(lock.try_acquire(me), Err(AcquireError::WouldBlock)));
        let soon = Deadline::after(core::time::Duration::from_millis(5));
        assert!(matches!(lock.acquire_until(me, soon), Err(AcquireError::TimedOut)));
        drop(guard);
        assert!(lock.acquire_until(me, Deadline::NOW).is_ok());
    }

    #[test]
    fn garbage_is_an_error_and_stays_one() {
        let seat = Membership::private();
        let me = seat.member();
        for word in [DAMAGED, 5 << 12, DIED | DAMAGED] {
            let lock = Lock { word: AtomicU32::new(word), event: Eventcount::new() };
            assert!(matches!(lock.acquire(me), Err(AcquireError::Corrupt { .. })), "{word:#x}");
        }
    }

    #[test]
    fn a_guard_that_finds_damage_reports_it_to_the_next() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = Lock::new();
        let guard = lock.acquire(me).unwrap();
        lock.word.store(12345, Ordering::Relaxed);
        drop(guard);
        assert!(matches!(lock.acquire(me), Err(AcquireError::Corrupt { .. })));
    }

    #[test]
    fn the_dead_leave_a_mark_until_it_is_cleared() {
        let seat = Membership::private();
        let me = seat.member();
        // In private memory any tag but the own is that of a parent from before a fork.
        let lock = Lock { word: AtomicU32::new(1 << 12 | 2), event: Eventcount::new() };
        let guard = lock.acquire(me).unwrap_err().into_guard().unwrap();
        assert!(guard.owner_died());
        drop(guard);
        let mut guard = lock.acquire(me).unwrap_err().into_guard().unwrap();
        guard.mark_consistent();
        drop(guard);
        assert!(lock.acquire(me).is_ok());
    }
}
