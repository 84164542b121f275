//! A lock that its holder may acquire again.
//!
//! One word of 64 bits and two counts that the holder alone changes, beside an eventcount:
//!
//! ```text
//! word  = DIED 1 | DAMAGED 1 | owner's tag 30 | owner's thread 32
//! depth = levels beyond the first        loose = how many of all levels have no guard
//!
//! free            (DIED or not, nobody) → (same, me)     acquire: one compare-and-swap
//! held by me      depth → depth + 1                      acquire again: a plain store
//! held by me      depth → depth - 1                      release of a further level: a plain store
//! held by me      (DIED or not, me) → (same, nobody)     release of the last level: one plain store, then notify one
//! held by a dead  (any, dead) → (DIED, me)               recovery: one compare-and-swap from exactly that value
//! ```
//!
//! - "Me" is one thread of one process: the word says which. No other thread finds itself in it, so whoever does may
//!   count up and down without an atomic step. A forked child has another tag and is not re-entrant with its parent.
//! - The counts belong to the holder and are 0 whenever the word is free: the last level is released at depth 0. Who takes
//!   over from the dead, and nobody else, finds them otherwise; it holds the lock already when it sets them right, and
//!   if it dies before, the next one does the same.
//! - DIED stays in the word until a holder declares the data consistent; all guards of a thread thus agree on it.
//! - A level whose guard was given up is loose: it is released by name. A level that has a guard is not, else the guard
//!   would release what has become another's.
//! - Nobody gets stuck: as with the plain lock, sleepers look again in slices and ask whether the holder is dead. A thread
//!   that ends and leaves the lock held, in a process that lives, keeps it: only a process's death is a fact.

use core::marker::PhantomData;

use super::condition::{damage, suspend::Suspend};
use super::error::{AcquireError, OwnerDied, ReleaseError};
use crate::region::{Member, Tag, Verdict, Who};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::spin::Pace;
use crate::sys::{Deadline, Thread, trace};
use crate::wait::{Eventcount, Waitable};

const DIED: u64 = 1 << 63;
/// What a guard leaves behind when the word was not as it had written it.
const DAMAGED: u64 = 1 << 62;
const TAG_SHIFT: u32 = 32;

/// A re-entrant lock in shared memory: 24 bytes, all zero when free.
///
/// The thread that holds it may acquire it again, and holds it until it has released each level. Other threads, of the same
/// process too, wait. A process that is killed while one of its threads holds the lock does not take it along: the next
/// one gets [`AcquireError::OwnerDied`] with the guard inside, whatever the depth was.
///
/// Who asks is the calling thread. A program without std, or one that numbers its threads by itself, says who
/// it is with [`acquire_as`](Self::acquire_as); one object must not be used both ways.
///
/// Cost: without contention one compare-and-swap and one store, no system call; each further level some loads and two stores.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::sync::RLock;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let lock = RLock::new();
/// {
///     let _outer = lock.acquire(me).unwrap();
///     let _inner = lock.acquire(me).unwrap();
///     assert_eq!(lock.depth(), 2);
/// }
/// assert!(!lock.locked());
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct RLock {
    word: AtomicU64,
    depth: AtomicU32,
    loose: AtomicU32,
    event: Eventcount,
    unused: AtomicU32,
}

const _: () = assert!(cfg!(loom) || size_of::<RLock>() == 24);

#[cfg(not(loom))]
// SAFETY: repr(C), all atomics, without a gap; all zero, and every other pattern, is valid. Other processes may change it
// at any time, which atomics allow.
unsafe impl crate::region::Shareable for RLock {}

impl Default for RLock {
    fn default() -> Self {
        Self::new()
    }
}

/// What acquiring gives.
pub type RAcquired<'a> = Result<RLockGuard<'a>, AcquireError<RLockGuard<'a>>>;

/// How one try ended that did not leave somebody living as the holder.
enum Outcome {
    Taken { died: bool },
    Damaged { word: u64 },
}

impl RLock {
    /// How many levels one thread can hold at a time.
    pub const MOST_LEVELS: u32 = u32::MAX;

    /// A free lock.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            depth: AtomicU32::new(0),
            loose: AtomicU32::new(0),
            event: Eventcount::new(),
            unused: AtomicU32::new(0),
        }
    }

    /// A free lock.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            depth: AtomicU32::new(0),
            loose: AtomicU32::new(0),
            event: Eventcount::new(),
            unused: AtomicU32::new(0),
        }
    }

    /// Acquires one level, and waits as long as it takes if another thread holds the lock. A holder whose process dies ends
    /// the wait within some milliseconds; for who has waited long, or beside others, within a quarter of a second.
    ///
    /// # Errors
    /// [`AcquireError::OwnerDied`] with the guard, until somebody has marked the lock consistent; `TooDeep` at
    /// [`MOST_LEVELS`](Self::MOST_LEVELS); `Corrupt`; `Join`.
    #[cfg(all(feature = "std", not(loom)))]
    #[inline]
    pub fn acquire<'a>(&'a self, me: Member<'a>) -> RAcquired<'a> {
        self.acquire_as(me, Thread::current(), Deadline::NEVER)
    }

    /// Acquires one level if the lock is free, or this thread's, or if its holder is dead (asked at most once a
    /// millisecond).
    ///
    /// # Errors
    /// [`AcquireError::WouldBlock`] if another thread holds it; otherwise as [`acquire`](Self::acquire).
    #[cfg(all(feature = "std", not(loom)))]
    #[inline]
    pub fn try_acquire<'a>(&'a self, me: Member<'a>) -> RAcquired<'a> {
        self.acquire_until(me, Deadline::NOW).map_err(AcquireError::at_once)
    }

    /// Acquires one level, and waits until `deadline` if another thread holds the lock.
    ///
    /// # Errors
    /// [`AcquireError::TimedOut`]; otherwise as [`acquire`](Self::acquire).
    #[cfg(all(feature = "std", not(loom)))]
    #[inline]
    pub fn acquire_until<'a>(&'a self, me: Member<'a>, deadline: Deadline) -> RAcquired<'a> {
        self.acquire_as(me, Thread::current(), deadline)
    }

    /// Acquires one level for this thread of this process, and waits until `deadline` if another holds the lock. The
    /// caller sees to it that no two of its process's threads call themselves the same; the guard stays in its thread.
    ///
    /// # Errors
    /// As [`acquire_until`](Self::acquire_until).
    #[inline]
    pub fn acquire_as<'a>(
        &'a self,
        me: Member<'a>,
        thread: Thread,
        deadline: Deadline,
    ) -> RAcquired<'a> {
        self.acquire_word(me, owned(me.tag()?, thread), deadline)
    }

    /// The same for who writes `mine` into the word.
    #[inline]
    fn acquire_word<'a>(&'a self, me: Member<'a>, mine: u64, deadline: Deadline) -> RAcquired<'a> {
        let guard = || RLockGuard { lock: self, me, mine, here: PhantomData };
        // Relaxed: nobody but this thread writes what this thread then finds as its own, and the rest is confirmed by
        // the compare-and-swap.
        let word = self.word.load(Ordering::Relaxed);
        let taken = if word == mine {
            self.deepen()
        } else {
            // Acquire meets the Release of `RLock::release_level`: the data of the last holder are visible.
            word == 0
                && self.word.compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        if taken {
            return Ok(guard());
        }
        match self.contend(me, mine, deadline) {
            Some(Outcome::Taken { died: false }) => Ok(guard()),
            Some(Outcome::Taken { died: true }) => {
                Err(AcquireError::OwnerDied(OwnerDied::new(guard())))
            }
            Some(Outcome::Damaged { word }) => Err(AcquireError::Corrupt { word }),
            None if self.is_held_as(mine) => Err(AcquireError::TooDeep { most: Self::MOST_LEVELS }),
            None => Err(AcquireError::TimedOut),
        }
    }

    /// One more level for the holder; `false`: there are as many as can be counted.
    #[inline]
    fn deepen(&self) -> bool {
        // Relaxed, here and at all accesses of the counts: the holder's own, handed on with the word.
        let depth = self.depth.load(Ordering::Relaxed);
        let room = depth < Self::MOST_LEVELS - 1;
        if room {
            self.depth.store(depth + 1, Ordering::Relaxed);
        }
        room
    }

    #[cold]
    fn contend(&self, me: Member<'_>, mine: u64, deadline: Deadline) -> Option<Outcome> {
        // Relaxed: as in `acquire_as`.
        let word = self.word.load(Ordering::Relaxed);
        if word & !DIED == mine {
            // With DIED, or so deep that it goes no deeper.
            return self.deepen().then_some(Outcome::Taken { died: word & DIED != 0 });
        }
        self.event.wait(me, deadline, Pace::Polite, |ask| self.attempt(me, mine, ask))
    }

    /// One try. `None`: somebody living holds it.
    fn attempt(&self, me: Member<'_>, mine: u64, ask: bool) -> Option<Outcome> {
        // Relaxed: only what the compare-and-swap confirms counts.
        let word = self.word.load(Ordering::Relaxed);
        let owner = match owner(word) {
            Ok(owner) => owner,
            Err(word) => return Some(Outcome::Damaged { word }),
        };
        let died = match owner {
            None => word & DIED != 0,
            Some(owner) if ask => match me.verdict(owner) {
                Verdict::Alive => return None,
                Verdict::Dead => true,
                Verdict::Corrupt => return Some(Outcome::Damaged { word }),
            },
            Some(_) => return None,
        };
        let next = if died { DIED | mine } else { mine };
        // Acquire meets the Release of the last release; of a dead holder everything is visible with its verdict.
        self.word.compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed).ok()?;
        if let Some(dead) = owner {
            self.depth.store(0, Ordering::Relaxed);
            self.loose.store(0, Ordering::Relaxed);
            trace::recovered("RLock", me, dead);
        }
        Some(Outcome::Taken { died })
    }

    fn is_held_as(&self, mine: u64) -> bool {
        // Relaxed: nobody but the asker writes what the asker is looking for.
        self.word.load(Ordering::Relaxed) & !DIED == mine
    }

    /// The holder gives back one level; `word` is what it has read.
    #[inline]
    fn release_level(&self, me: Member<'_>, word: u64) {
        let depth = self.depth.load(Ordering::Relaxed);
        if depth > 0 {
            self.depth.store(depth - 1, Ordering::Relaxed);
            return;
        }
        // Release meets the Acquire of the next holder.
        self.word.store(word & DIED, Ordering::Release);
        self.event.notify_one(me);
    }

    /// Releases one level that is held without a guard ([`RLockGuard::detach`]). Some loads and two stores, and a
    /// system call only if it was the last level and somebody sleeps.
    ///
    /// # Errors
    /// [`ReleaseError::NotHeld`] if the lock is free; `NotOwner` if another thread or process holds it; `Guarded` if all levels
    /// have guards; `Corrupt`; `Join`.
    ///
    /// ```
    /// use procession_core::region::Membership;
    /// use procession_core::sync::{ReleaseError, RLock};
    ///
    /// let seat = Membership::private();
    /// let me = seat.member();
    /// let lock = RLock::new();
    /// lock.acquire(me).unwrap().detach();
    /// let other = std::thread::scope(|scope| scope.spawn(|| lock.release(me)).join().unwrap());
    /// assert_eq!(other, Err(ReleaseError::NotOwner));
    /// lock.release(me)?;
    /// assert_eq!(lock.release(me), Err(ReleaseError::NotHeld));
    /// # Ok::<(), ReleaseError>(())
    /// ```
    #[cfg(all(feature = "std", not(loom)))]
    pub fn release(&self, me: Member<'_>) -> Result<(), ReleaseError> {
        self.release_as(me, Thread::current())
    }

    /// Releases one level that this thread of this process holds without a guard.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn release_as(&self, me: Member<'_>, thread: Thread) -> Result<(), ReleaseError> {
        let tag = me.tag()?;
        // Relaxed: as in `acquire_as`.
        let word = self.word.load(Ordering::Relaxed);
        match owner(word) {
            Err(word) => return Err(ReleaseError::Corrupt { word }),
            Ok(None) => return Err(ReleaseError::NotHeld),
            Ok(Some(_)) if word & !DIED != owned(tag, thread) => {
                return Err(ReleaseError::NotOwner);
            }
            Ok(Some(_)) => {}
        }
        let Some(loose) = self.loose.load(Ordering::Relaxed).checked_sub(1) else {
            return Err(ReleaseError::Guarded);
        };
        self.loose.store(loose, Ordering::Relaxed);
        self.release_level(me, word);
        Ok(())
    }

    /// Whether somebody holds it now, the dead included. A load.
    #[must_use]
    pub fn locked(&self) -> bool {
        tag(self.word.load(Ordering::Relaxed)).is_some()
    }

    /// How many levels its holder has, 0 if it is free; as of about now, unless the caller is the holder. Two loads.
    #[must_use]
    pub fn depth(&self) -> u32 {
        match self.locked() {
            true => self.depth.load(Ordering::Relaxed).saturating_add(1),
            false => 0,
        }
    }

    /// Who holds it now, the dead included; `None` if it is free, or its holder's seat has gone to another. Some loads.
    #[must_use]
    pub fn holder(&self, me: Member<'_>) -> Option<Who> {
        // Relaxed: for people to read.
        me.who(tag(self.word.load(Ordering::Relaxed))?)
    }
}

/// Ready when it is free, or its holder is dead, or is the calling thread.
impl Waitable for RLock {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        // Relaxed: only a hint, taking it is confirmed by a compare-and-swap.
        let word = self.word.load(Ordering::Relaxed);
        // Damage included: taking it says so.
        let Ok(Some(owner)) = owner(word) else { return true };
        #[cfg(all(feature = "std", not(loom)))]
        if word & !DIED == owned(owner, Thread::current()) && me.is(owner) {
            return true;
        }
        ask && me.verdict(owner) != Verdict::Alive
    }

    fn sleepers(&self) -> &Eventcount {
        &self.event
    }
}

/// The word of a lock that this thread of this process holds.
#[inline]
fn owned(tag: Tag, thread: Thread) -> u64 {
    u64::from(tag.bits()) << TAG_SHIFT | u64::from(thread.number())
}

/// Whether this process is the one that acquired with this word.
#[inline]
fn is_here(me: Member<'_>, mine: u64) -> bool {
    tag(mine).is_some_and(|tag| me.is(tag))
}

fn tag(word: u64) -> Option<Tag> {
    Tag::from_bits((word >> TAG_SHIFT) as u32)
}

/// Whose the word is; an error if no lock ever holds such a word.
fn owner(word: u64) -> Result<Option<Tag>, u64> {
    match tag(word) {
        None if word & !DIED == 0 => Ok(None),
        Some(owner) if word & DAMAGED == 0 && word as u32 != 0 => Ok(Some(owner)),
        _ => Err(word),
    }
}

/// One level of the lock is held as long as this lives. Dropping it gives the level back; with the last one the lock is
/// free: a store, and a system call only if somebody sleeps. The levels of a thread may be given back in any order.
///
/// It stays in the thread that acquired:
///
/// ```compile_fail,E0277
/// use procession_core::region::Membership;
/// use procession_core::sync::RLock;
///
/// let seat = Membership::private();
/// let lock = RLock::new();
/// let guard = lock.acquire(seat.member()).unwrap();
/// std::thread::scope(|scope| scope.spawn(|| drop(guard)).join());
/// ```
#[must_use = "the level is given back at once if the guard is dropped"]
#[derive(Debug)]
pub struct RLockGuard<'a> {
    lock: &'a RLock,
    me: Member<'a>,
    /// The word of the lock as this thread holds it, without DIED.
    mine: u64,
    /// The owner is a thread: a guard that went to another would count for it.
    here: PhantomData<*const ()>,
}

impl RLockGuard<'_> {
    /// Whether a holder died with this lock and nobody has marked it consistent since.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.lock.word.load(Ordering::Relaxed) == DIED | self.mine && is_here(self.me, self.mine)
    }

    /// Says that what the lock protects is in order again: later acquires succeed plainly.
    pub fn mark_consistent(&mut self) {
        if self.owner_died() {
            // Relaxed: the word stays this thread's.
            self.lock.word.store(self.mine, Ordering::Relaxed);
        }
    }

    /// Gives up the guard and leaves its level held, for this thread to [`release`](RLock::release). If the process dies
    /// before, the lock is taken back as from any dead holder. One store.
    pub fn detach(self) {
        if !self.is_held() {
            // Not as this guard wrote it, or not this process's: as if it were dropped.
            return;
        }
        let loose = self.lock.loose.load(Ordering::Relaxed);
        self.lock.loose.store(loose.saturating_add(1), Ordering::Relaxed);
        core::mem::forget(self);
    }

    /// How many levels this thread holds.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.lock.depth()
    }
}

impl Drop for RLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Relaxed: nobody but the holder changes the word.
        let word = self.lock.word.load(Ordering::Relaxed);
        if word & !DIED == self.mine && is_here(self.me, self.mine) {
            self.lock.release_level(self.me, word);
        } else {
            drop_strange(self.lock, self.me, self.mine);
        }
    }
}

/// The word is not as a guard's thread wrote it, or this process is not the one that acquired. (Not a method of the guard,
/// which would have to lie in memory then, also on the usual way.)
#[cold]
fn drop_strange(lock: &RLock, me: Member<'_>, mine: u64) {
    if is_here(me, mine) {
        // The next call reports it, and so do those that wait.
        lock.word.store(DAMAGED, Ordering::Release);
        lock.event.notify_all(me);
    }
    // Else: inherited over fork. The parent holds the lock and releases it.
}

/// How a thread held the lock: `(depth, loose)`.
pub type Levels = (u32, u32);

impl Suspend for RLockGuard<'_> {
    type Levels = Levels;

    fn me(&self) -> Member<'_> {
        self.me
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self.lock).addr()
    }

    fn is_held(&self) -> bool {
        self.lock.is_held_as(self.mine) && is_here(self.me, self.mine)
    }

    fn owner_died(&self) -> bool {
        RLockGuard::owner_died(self)
    }

    fn is_orphaned(&self) -> bool {
        // Relaxed: only who asks now.
        tag(self.lock.word.load(Ordering::Relaxed))
            .is_some_and(|owner| self.me.verdict(owner) == Verdict::Dead)
    }

    fn suspend(&mut self) -> Levels {
        let lock = self.lock;
        let levels = (lock.depth.load(Ordering::Relaxed), lock.loose.load(Ordering::Relaxed));
        lock.depth.store(0, Ordering::Relaxed);
        lock.loose.store(0, Ordering::Relaxed);
        lock.release_level(self.me, lock.word.load(Ordering::Relaxed));
        levels
    }

    fn resume(&mut self, (depth, loose): Levels) -> Result<(), u64> {
        let lock = self.lock;
        match lock.acquire_word(self.me, self.mine, Deadline::NEVER) {
            // From here on this guard stands for it.
            Ok(guard) => core::mem::forget(guard),
            Err(error) => match error.into_guard() {
                Ok(guard) => core::mem::forget(guard),
                Err(error) => return Err(damage(&error)),
            },
        }
        lock.depth.store(depth, Ordering::Relaxed);
        lock.loose.store(loose, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::*;
    use crate::region::Membership;
    use core::time::Duration;

    fn elsewhere<R: Send>(call: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| scope.spawn(call).join().unwrap())
    }

    #[test]
    fn its_thread_gets_it_again_and_others_wait() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RLock::new();
        let outer = lock.acquire(me).unwrap();
        let inner = lock.try_acquire(me).unwrap();
        assert_eq!(lock.depth(), 2);
        let soon = || Deadline::after(Duration::from_millis(5));
        elsewhere(|| {
            assert!(matches!(lock.try_acquire(me), Err(AcquireError::WouldBlock)));
            assert!(matches!(lock.acquire_until(me, soon()), Err(AcquireError::TimedOut)));
        });
        // In any order.
        drop(outer);
        elsewhere(|| assert!(matches!(lock.try_acquire(me), Err(AcquireError::WouldBlock))));
        drop(inner);
        elsewhere(|| assert!(lock.try_acquire(me).is_ok()));
    }

    #[test]
    fn who_waits_gets_it_after_the_last_level() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RLock::new();
        let levels = [lock.acquire(me).unwrap(), lock.acquire(me).unwrap()];
        let soon = || Deadline::after(Duration::from_secs(10));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| lock.acquire_until(me, soon()).is_ok());
            drop(levels);
            assert!(waiter.join().unwrap());
        });
        assert!(!lock.locked());
    }

    #[test]
    fn bare_levels_are_released_by_their_thread_alone() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RLock::new();
        assert_eq!(lock.release(me), Err(ReleaseError::NotHeld));
        let guard = lock.acquire(me).unwrap();
        assert_eq!(lock.release(me), Err(ReleaseError::Guarded));
        lock.acquire(me).unwrap().detach();
        assert_eq!(elsewhere(|| lock.release(me)), Err(ReleaseError::NotOwner));
        drop(guard);
        assert_eq!(lock.depth(), 1);
        assert_eq!(lock.release(me), Ok(()));
        assert_eq!(lock.release(me), Err(ReleaseError::NotHeld));
        assert!(!lock.locked());
    }

    #[test]
    fn too_many_levels_are_an_error() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RLock::new();
        for died in [false, true] {
            let guard = lock.acquire(me).unwrap();
            lock.word.fetch_or(if died { DIED } else { 0 }, Ordering::Relaxed);
            lock.depth.store(RLock::MOST_LEVELS - 2, Ordering::Relaxed);
            let last = lock.acquire(me);
            assert_eq!(last.is_ok(), !died);
            let more = lock.acquire(me);
            assert!(matches!(more, Err(AcquireError::TooDeep { most: RLock::MOST_LEVELS })));
            drop(last);
            lock.depth.store(0, Ordering::Relaxed);
            drop(guard);
        }
    }

    #[test]
    fn garbage_is_an_error_and_stays_one() {
        let seat = Membership::private();
        let me = seat.member();
        let tag = u64::from(me.tag().unwrap().bits()) << TAG_SHIFT;
        for word in [DAMAGED, DIED | DAMAGED, 7, 5 << 44, tag, DAMAGED | tag | 1] {
            let lock = RLock { word: AtomicU64::new(word), ..RLock::new() };
            assert!(matches!(lock.acquire(me), Err(AcquireError::Corrupt { .. })), "{word:#x}");
            assert_eq!(lock.release(me), Err(ReleaseError::Corrupt { word }));
        }
    }

    #[test]
    fn a_guard_that_finds_damage_reports_it_to_the_next() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RLock::new();
        let guard = lock.acquire(me).unwrap();
        lock.word.store(12345, Ordering::Relaxed);
        drop(guard);
        assert!(matches!(lock.acquire(me), Err(AcquireError::Corrupt { .. })));
    }

    #[test]
    fn the_dead_leave_a_mark_until_it_is_cleared_and_no_levels() {
        let seat = Membership::private();
        let me = seat.member();
        // In private memory any tag but the own is that of a parent from before a fork.
        let lock = RLock {
            word: AtomicU64::new((1 << 12 | 2) << TAG_SHIFT | 1),
            depth: AtomicU32::new(3),
            loose: AtomicU32::new(2),
            ..RLock::new()
        };
        let outer = lock.acquire(me).unwrap_err().into_guard().unwrap();
        assert!(outer.owner_died());
        assert_eq!((lock.depth(), lock.release(me)), (1, Err(ReleaseError::Guarded)));
        // Again for each level, until one of the guards says that all is well; the others then agree.
        let mut inner = lock.acquire(me).unwrap_err().into_guard().unwrap();
        drop(lock.acquire(me).unwrap_err().into_guard().unwrap());
        inner.mark_consistent();
        assert!(!outer.owner_died());
        drop((outer, inner));
        assert!(lock.acquire(me).is_ok());
        assert!(!lock.locked());
    }
}
