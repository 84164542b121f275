//! A condition: waiting under a lock until somebody says that things have changed.
//!
//! Two sets of cells, as bits, and a ticket counter; beside them the cells, one for each waiter.
//!
//! ```text
//! waiting, notified: a bit for each cell
//! cell = ticket 64 | tag 32 | eventcount
//!
//! bit of waiting, of notified
//! 0 0  EMPTY      → 1 0 WAITING    the waiter, once its tag and a ticket stand in the cell
//! 1 0  WAITING    → 1 1 NOTIFIED   a notifier, which takes the lowest tickets first
//! 1 1  NOTIFIED   → 1 0 → 0 0      the waiter, once it has the lock again: it was notified
//! 1 0  WAITING    → 0 0            the waiter, once it has the lock again: its deadline has passed
//! 1 1 of a dead, 1 0 → 1 0, 1 1    the notification goes to the heir: one store of the word `notified`
//! 1 0 of a dead   → 0 0            anybody
//! ```
//!
//! - **All changes happen under the lock**, by plain stores; only sleeping needs none. So a notification of n waiters is one
//!   store, there is no moment at which it is there in part, and a waiter is notified exactly if its bit stands when it
//!   has the lock again, whether it was woken, its deadline passed, or both.
//! - Threads of one process may share a guard, and notify with it at the same time. So what `notify` changes, it changes
//!   by atomic steps; a waiter has its guard for itself, and nobody notifies beside it.
//! - Whoever dies under the lock leaves one of the states above: each step is one store. The lock tells the next holder of
//!   the death; if nobody else comes, a waiter does, which asks in its slices for the holder too: what it waits for may be what
//!   the dead one was about to say. So nobody waits for the word of one who died with the lock.
//! - A notification belongs to those who waited when it was given. When it is given, the ticket of the cell is raised to
//!   the next one to be given out, which then bounds the heirs: if the notified waiter dies before it has the lock again,
//!   the oldest waiter below that bound gets it. If there is none, nobody is left to whom it was due.
//! - Who finds the dead: each sleeper looks again in slices, and then asks about one other cell whose turn it is. If its
//!   owner is dead, it acquires the lock and buries it. Nobody waits for a waiter, so none can hold up a notifier.
//! - A notifier wakes the first whom it has notified and who sleeps. Each waiter, once it has the lock, wakes the next one, so
//!   that they come one by one and not all at once against a lock that one can have. Who was killed or stopped in its
//!   sleep is not to be woken and is passed over, and the dead are buried at once; if one dies or is stopped when it was
//!   just woken, the others find their bits in their next slice. Measured with 63 waiters on two processors: the
//!   last one returns after 0.6 ms, with 5 µs of them for the notifier; all woken under the lock, it is 1.0 ms, 0.9 of
//!   them for the notifier, and twice the processor time.
//! - More waiters than cells: those beyond wait until a cell is free, or until a notification goes beyond the cells, which
//!   ends the wait of all of them: `beyond` counts those.
//! - The lock is named by the distance from the condition to it, which is the same in all processes of a region. It is
//!   written at the first use.

use core::fmt;

use super::AcquireError;
use crate::region::{Member, Tag, Verdict};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::spin::Pace;
use crate::sys::{Deadline, trace};
use crate::wait::Eventcount;

/// How many can wait with a cell of their own.
const CELLS: usize = if cfg!(loom) { 3 } else { 64 };
/// The bits of all cells.
const ALL: u64 = u64::MAX >> (64 - CELLS);

/// One waiter's cell.
#[derive(Debug, Default)]
#[repr(C)]
struct Cell {
    /// WAITING: in what order they came. NOTIFIED: who came before this may inherit.
    ticket: AtomicU64,
    tag: AtomicU32,
    event: Eventcount,
}

/// A condition variable in shared memory: 1064 bytes, all zero when new.
///
/// It belongs to the lock with which it is used first, a [`Lock`](super::Lock), an [`RLock`](super::RLock) or a `Mutex` in the
/// same region, and refuses the guards of others.
///
/// Notifications are exact: [`notify`](Self::notify) ends the wait of just so many waiters, the oldest first, no wait ends
/// without, and a notification given to a process that dies goes to another that waited then. The one exception: with more
/// than 64 waiting at a time, those beyond the 64 end their waits together.
///
/// A process that dies while it waits leaves nothing that others would wait for. Each waiter holds the lock again when it
/// returns, whatever it returns, unless the lock itself is damaged.
///
/// Cost: a notification that finds nobody is some loads; one that ends a wait costs a system call if the waiter sleeps.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::sync::{Condition, Lock};
/// use core::sync::atomic::{AtomicU32, Ordering};
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let (lock, changed, stock) = (Lock::new(), Condition::new(), AtomicU32::new(0));
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let guard = lock.acquire(me).unwrap();
///         stock.store(3, Ordering::Relaxed);
///         changed.notify_all(&guard).unwrap();
///     });
///     let mut guard = lock.acquire(me).unwrap();
///     changed.wait_for(&mut guard, |_| stock.load(Ordering::Relaxed) > 0).unwrap();
///     assert_eq!(stock.load(Ordering::Relaxed), 3);
/// });
/// ```
#[repr(C)]
pub struct Condition {
    /// Where its lock lies, seen from here; 0 until it is known.
    lock: AtomicU64,
    waiting: AtomicU64,
    notified: AtomicU64,
    next: AtomicU64,
    beyond: AtomicU32,
    /// Where those beyond the cells sleep.
    room: Eventcount,
    cells: [Cell; CELLS],
}

const _: () = assert!(cfg!(loom) || size_of::<Condition>() == 1064);

#[cfg(not(loom))]
// SAFETY: repr(C), all atomics, without a gap; all zero, and every other pattern, is valid. Other processes may change it
// at any time, which atomics allow.
unsafe impl crate::region::Shareable for Condition {}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("waiters", &self.waiters()).finish_non_exhaustive()
    }
}

/// Why a wait or a notification on a condition failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// The guard is not that of the condition's lock, or was inherited over a fork and holds nothing.
    #[error(
        "the guard does not hold the lock of this condition: \
         acquire the lock with which the condition was used first"
    )]
    NotHeld,
    /// The lock is held again, but a holder died with it and nobody has marked it consistent since: what it protects may be
    /// half written, and notifications may be due that it did not come to give. Mend it, notify whom it concerns, and
    /// call the guard's `mark_consistent`. The wait ended by this news, or by what else would have ended it.
    #[error(
        "a process died while it held the condition's lock: what it protects may be half written; \
         mend it and mark the lock consistent"
    )]
    OwnerDied {
        /// Whether this waiter was notified.
        notified: bool,
    },
    /// The condition or its lock holds what it never holds: its memory was overwritten. If it is the lock, the guard
    /// holds nothing any more.
    #[error(
        "the condition's memory is damaged (word {word:#018x}); something wrote over it, create it anew"
    )]
    Corrupt {
        /// What stands there.
        word: u64,
    },
}

/// What a condition needs of a guard.
pub(in crate::sync) mod suspend {
    use super::Member;

    pub trait Suspend {
        /// How the lock was held.
        type Levels: Copy;

        fn me(&self) -> Member<'_>;
        /// Where the lock lies.
        fn address(&self) -> usize;
        /// Whether this guard, in this process, holds the lock.
        fn is_held(&self) -> bool;
        fn owner_died(&self) -> bool;
        /// Whether, while this guard is suspended, somebody died with the lock; asks the kernel.
        fn is_orphaned(&self) -> bool;
        /// Releases the lock with all levels.
        fn suspend(&mut self) -> Self::Levels;
        /// Acquires it again as it was held, and waits as long as it takes. An error holds a damaged word: the lock is lost.
        fn resume(&mut self, levels: Self::Levels) -> Result<(), u64>;
    }
}

use suspend::Suspend;

/// A guard with which one can wait on a [`Condition`]: of a [`Lock`](super::Lock), an [`RLock`](super::RLock), or a `Mutex`.
pub trait Hold: Suspend {}

impl<G: Suspend> Hold for G {}

/// The damaged word, if that is what kept a lock from being acquired without a deadline.
pub(in crate::sync) fn damage<G>(error: &AcquireError<G>) -> u64 {
    match error {
        AcquireError::Corrupt { word } => *word,
        // Nothing else is left for one who is in the region, waits for ever, and starts at level one.
        _ => 0,
    }
}

/// Where a waiter waits.
#[derive(Clone, Copy)]
enum Place {
    /// In this cell.
    Cell(usize),
    /// Beyond the cells, since so many notifications went there.
    Beyond(u32),
}

/// What a waiter wakes up for.
enum News {
    /// It may be notified, or there may be a cell for it.
    Look,
    /// The owner of this cell is dead.
    Dead(usize),
    /// The holder of the lock is dead.
    Orphaned,
}

impl Condition {
    /// A condition that nobody waits for, and that knows no lock yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lock: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            notified: AtomicU64::new(0),
            next: AtomicU64::new(0),
            beyond: AtomicU32::new(0),
            room: Eventcount::new(),
            cells: core::array::from_fn(|_| Cell::default()),
        }
    }

    /// Releases the lock, all its levels, waits for a notification as long as it takes, and acquires the lock again as it
    /// was held.
    ///
    /// # Errors
    /// [`ConditionError::NotHeld`] if the guard is not of this condition's lock; `OwnerDied` if the lock came back from a dead
    /// holder; `Corrupt`.
    pub fn wait<H: Hold>(&self, guard: &mut H) -> Result<(), ConditionError> {
        self.wait_until(guard, Deadline::NEVER).map(drop)
    }

    /// Waits for a notification until `deadline`, and then as long as it takes for the lock. Says whether it was
    /// notified; also if the notification and the deadline came at the same time.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// ```
    /// use procession_core::region::Membership;
    /// use procession_core::sync::{Condition, RLock};
    /// use procession_core::sys::Deadline;
    ///
    /// let seat = Membership::private();
    /// let (lock, changed) = (RLock::new(), Condition::new());
    /// let mut guard = lock.acquire(seat.member()).unwrap();
    /// let soon = Deadline::after(core::time::Duration::from_millis(5));
    /// assert_eq!(changed.wait_until(&mut guard, soon), Ok(false));
    /// assert_eq!(lock.depth(), 1);
    /// ```
    pub fn wait_until<H: Hold>(
        &self,
        guard: &mut H,
        deadline: Deadline,
    ) -> Result<bool, ConditionError> {
        self.check(guard)?;
        let tag = guard.me().current_tag().ok_or(ConditionError::NotHeld)?;
        let mut place = self.enter(tag);
        let notified = loop {
            let levels = guard.suspend();
            let news = self.sleep(guard, place, deadline);
            guard.resume(levels).map_err(|word| ConditionError::Corrupt { word })?;
            if let Some(News::Dead(cell)) = news {
                self.bury(guard.me(), cell)?;
            }
            let notified = match place {
                Place::Cell(cell) => self.is_notified(cell, tag)?,
                Place::Beyond(count) => self.beyond.load(Ordering::Relaxed) != count,
            };
            if notified || news.is_none() || guard.owner_died() {
                break notified;
            }
            if let Place::Beyond(_) = place {
                place = self.enter(tag);
            }
        };
        if let Place::Cell(cell) = place {
            self.leave(guard.me(), cell)?;
        }
        match guard.owner_died() {
            true => Err(ConditionError::OwnerDied { notified }),
            false => Ok(notified),
        }
    }

    /// Waits until `predicate` holds. It is asked under the lock: first of all, and after each notification.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), whatever the predicate would say.
    pub fn wait_for<H: Hold>(
        &self,
        guard: &mut H,
        predicate: impl FnMut(&mut H) -> bool,
    ) -> Result<(), ConditionError> {
        self.wait_for_until(guard, Deadline::NEVER, predicate).map(drop)
    }

    /// Waits until `predicate` holds or `deadline` has passed; says what the predicate said last.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), whatever the predicate would say.
    pub fn wait_for_until<H: Hold>(
        &self,
        guard: &mut H,
        deadline: Deadline,
        mut predicate: impl FnMut(&mut H) -> bool,
    ) -> Result<bool, ConditionError> {
        loop {
            if predicate(guard) {
                return Ok(true);
            }
            if !self.wait_until(guard, deadline)? {
                return Ok(predicate(guard));
            }
        }
    }

    /// Ends the wait of the `most` who have waited longest, or of all if they are fewer. They return once they get the lock,
    /// which the caller holds and goes on to hold. Says how many they are; those beyond 64 waiters are not counted.
    ///
    /// # Errors
    /// [`ConditionError::NotHeld`] if the guard is not of this condition's lock; `Corrupt`.
    pub fn notify<H: Hold>(&self, guard: &H, most: u32) -> Result<u32, ConditionError> {
        self.check(guard)?;
        let me = guard.me();
        // Relaxed, here and at all accesses: changed under the lock alone, which hands them on.
        let notified = self.notified.load(Ordering::Relaxed);
        let mut left = self.waiting.load(Ordering::Relaxed) & ALL & !notified;
        let mut count = 0;
        loop {
            let mut chosen = 0u64;
            while count + chosen.count_ones() < most
                && let Some(cell) = self.oldest(left, u64::MAX)
            {
                left &= !bit(cell);
                if self.is_known_dead(me, cell)? {
                    self.vacate(me, cell);
                    continue;
                }
                chosen |= bit(cell);
            }
            if chosen == 0 {
                break;
            }
            let bound = self.next.load(Ordering::Relaxed);
            for cell in bits(chosen) {
                self.cells[cell].ticket.store(bound, Ordering::Relaxed);
            }
            // Those that another thread with this guard has notified meanwhile do not count: then others are looked for.
            let fresh = chosen & !self.notified.fetch_or(chosen, Ordering::Relaxed);
            count += fresh.count_ones();
            self.wake_first(me, fresh)?;
        }
        if count < most {
            self.notify_beyond(me);
        }
        Ok(count)
    }

    /// Ends the wait of the one who has waited longest, if somebody waits. Says whether.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    #[inline]
    pub fn notify_one<H: Hold>(&self, guard: &H) -> Result<bool, ConditionError> {
        self.notify(guard, 1).map(|count| count > 0)
    }

    /// Ends the wait of all who wait now.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    #[inline]
    pub fn notify_all<H: Hold>(&self, guard: &H) -> Result<u32, ConditionError> {
        self.notify(guard, u32::MAX)
    }

    /// How many wait and are not notified, as of about now; the dead may be among them, those beyond 64 are not. Two loads.
    #[must_use]
    pub fn waiters(&self) -> u32 {
        let notified = self.notified.load(Ordering::Relaxed);
        (self.waiting.load(Ordering::Relaxed) & ALL & !notified).count_ones()
    }

    /// Whether the guard holds the lock that belongs to this condition; it does if there was none yet.
    fn check<H: Hold>(&self, guard: &H) -> Result<(), ConditionError> {
        if !guard.is_held() {
            return Err(ConditionError::NotHeld);
        }
        let distance = guard.address().wrapping_sub(core::ptr::from_ref(self).addr()) as u64;
        // Relaxed: the word says nothing about other memory.
        let lock = match self.lock.load(Ordering::Relaxed) {
            0 => self
                .lock
                .compare_exchange(0, distance, Ordering::Relaxed, Ordering::Relaxed)
                .map_or_else(|now| now, |_| distance),
            known => known,
        };
        if lock == distance { Ok(()) } else { Err(ConditionError::NotHeld) }
    }

    /// Takes a cell, or a place beyond them.
    fn enter(&self, tag: Tag) -> Place {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let free = !waiting & ALL;
        if free == 0 {
            return Place::Beyond(self.beyond.load(Ordering::Relaxed));
        }
        let cell = free.trailing_zeros() as usize;
        let ticket = self.next.load(Ordering::Relaxed);
        // It wraps in damaged memory only.
        self.next.store(ticket.wrapping_add(1), Ordering::Relaxed);
        self.cells[cell].ticket.store(ticket, Ordering::Relaxed);
        self.cells[cell].tag.store(tag.bits(), Ordering::Relaxed);
        self.waiting.store(waiting | bit(cell), Ordering::Relaxed);
        Place::Cell(cell)
    }

    /// Sleeps, without the lock, until there are news; `None` when the deadline has passed.
    fn sleep<H: Hold>(&self, guard: &H, place: Place, deadline: Deadline) -> Option<News> {
        let me = guard.me();
        // Not before the first sleep, which is short: mostly nobody has died, and the holder is who is about to notify.
        let mut first = true;
        // Whom to ask about next; each waiter starts elsewhere.
        let mut turn = match place {
            Place::Cell(cell) => cell,
            Place::Beyond(_) => 0,
        };
        let mut look = |ask: bool| {
            // Relaxed, both: hints, looked at again under the lock. The eventcount sees to it that a last look does not
            // miss what a waker has stored.
            let notified = self.notified.load(Ordering::Relaxed);
            let suspects = match place {
                Place::Cell(cell) if notified & bit(cell) != 0 => return Some(News::Look),
                Place::Cell(_) => notified,
                Place::Beyond(count) if self.beyond.load(Ordering::Relaxed) != count => {
                    return Some(News::Look);
                }
                Place::Beyond(_) => ALL,
            };
            let waiting = self.waiting.load(Ordering::Relaxed) & ALL;
            if let Place::Beyond(_) = place
                && waiting != ALL
            {
                return Some(News::Look);
            }
            if !ask || core::mem::take(&mut first) {
                return None;
            }
            if guard.is_orphaned() {
                return Some(News::Orphaned);
            }
            if suspects & waiting == 0 {
                return None;
            }
            // One a look, in turn: to ask about all would cost much with many, and one who is stopped must not hide the
            // others.
            turn += 1;
            let turned = (suspects & waiting).rotate_right(turn as u32);
            let cell = (turned.trailing_zeros() as usize + turn) % 64;
            let owner = Tag::from_bits(self.cells[cell].tag.load(Ordering::Relaxed))?;
            (me.verdict(owner) != Verdict::Alive).then_some(News::Dead(cell))
        };
        match place {
            Place::Cell(cell) => self.cells[cell].event.wait(me, deadline, Pace::Eager, look),
            Place::Beyond(_) => self.room.wait(me, deadline, Pace::Polite, &mut look),
        }
    }

    /// Whether the waiter in this cell is notified.
    fn is_notified(&self, cell: usize, tag: Tag) -> Result<bool, ConditionError> {
        let owner = self.cells[cell].tag.load(Ordering::Relaxed);
        if owner != tag.bits() || self.waiting.load(Ordering::Relaxed) & bit(cell) == 0 {
            // Nobody takes the cell of the living.
            return Err(ConditionError::Corrupt { word: u64::from(owner) });
        }
        Ok(self.notified.load(Ordering::Relaxed) & bit(cell) != 0)
    }

    /// The waiter gives its cell back, and wakes the next one who was notified and may still sleep.
    fn leave(&self, me: Member<'_>, cell: usize) -> Result<(), ConditionError> {
        let notified = self.notified.load(Ordering::Relaxed) & !bit(cell);
        self.notified.store(notified, Ordering::Relaxed);
        self.vacate(me, cell);
        self.wake_first(me, notified & self.waiting.load(Ordering::Relaxed))
    }

    /// Frees a cell that is not notified.
    fn vacate(&self, me: Member<'_>, cell: usize) {
        self.waiting.fetch_and(!bit(cell), Ordering::Relaxed);
        self.room.notify_one(me);
    }

    /// Frees the cell of a dead waiter, and passes on the notification that it may have got.
    fn bury(&self, me: Member<'_>, cell: usize) -> Result<(), ConditionError> {
        let waiting = self.waiting.load(Ordering::Relaxed) & ALL;
        if waiting & bit(cell) == 0 {
            return Ok(());
        }
        let owner = self.owner(cell)?;
        match me.verdict(owner) {
            Verdict::Alive => return Ok(()),
            Verdict::Dead => {}
            Verdict::Corrupt => {
                return Err(ConditionError::Corrupt { word: u64::from(owner.bits()) });
            }
        }
        let notified = self.notified.load(Ordering::Relaxed);
        if notified & bit(cell) != 0 {
            let bound = self.cells[cell].ticket.load(Ordering::Relaxed);
            let heir = self.oldest(waiting & !notified, bound);
            if let Some(heir) = heir {
                self.cells[heir].ticket.store(bound, Ordering::Relaxed);
            }
            let left = notified & !bit(cell) | heir.map_or(0, bit);
            let passed = self.notified.compare_exchange(
                notified,
                left,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if passed.is_err() {
                // Another thread with this guard is at it: the next who looks finds what it leaves.
                return Ok(());
            }
            if let Some(heir) = heir {
                self.cells[heir].event.notify_one(me);
            } else {
                // Those beyond have no tickets: it may have been due to them.
                self.notify_beyond(me);
            }
            trace::recovered("Condition", me, owner);
        }
        self.vacate(me, cell);
        Ok(())
    }

    fn notify_beyond(&self, me: Member<'_>) {
        self.beyond.fetch_add(1, Ordering::Relaxed);
        self.room.notify_all(me);
    }

    /// Wakes the first of these that sleeps.
    fn wake_first(&self, me: Member<'_>, cells: u64) -> Result<(), ConditionError> {
        for cell in bits(cells & ALL) {
            let event = &self.cells[cell].event;
            let slept = event.is_awaited();
            if event.rouse_one(me) {
                break;
            }
            // It is awake, and wakes the next one by itself; or stopped, or was killed in its sleep.
            if slept && me.verdict(self.owner(cell)?) != Verdict::Alive {
                self.bury(me, cell)?;
            }
        }
        Ok(())
    }

    /// Which of these cells has the lowest ticket below `bound`.
    fn oldest(&self, cells: u64, bound: u64) -> Option<usize> {
        bits(cells)
            .map(|cell| (self.cells[cell].ticket.load(Ordering::Relaxed), cell))
            .filter(|&(ticket, _)| ticket < bound)
            .min()
            .map(|(_, cell)| cell)
    }

    fn owner(&self, cell: usize) -> Result<Tag, ConditionError> {
        let word = self.cells[cell].tag.load(Ordering::Relaxed);
        Tag::from_bits(word).ok_or(ConditionError::Corrupt { word: u64::from(word) })
    }

    fn is_known_dead(&self, me: Member<'_>, cell: usize) -> Result<bool, ConditionError> {
        Ok(me.is_known_dead(self.owner(cell)?))
    }
}

#[inline]
fn bit(cell: usize) -> u64 {
    1 << cell
}

/// The numbers of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (lowest < 64).then_some(lowest as usize)
    })
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::*;
    use crate::region::Membership;
    use crate::sync::{Lock, LockGuard, RLock};
    use core::time::Duration;
    use std::sync::Mutex;
    use std::thread::Scope;
    use std::vec::Vec;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    struct Ground {
        seat: Membership<'static>,
        lock: Lock,
        changed: Condition,
        /// Who has returned, in order.
        returned: Mutex<Vec<usize>>,
    }

    impl Ground {
        fn new() -> Self {
            Self {
                seat: Membership::private(),
                lock: Lock::new(),
                changed: Condition::new(),
                returned: Mutex::default(),
            }
        }

        fn acquire(&self) -> LockGuard<'_> {
            self.lock.acquire_until(self.seat.member(), soon()).unwrap()
        }

        /// A thread that waits; it does when this returns.
        fn waiter<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, number: usize) {
            let before = {
                let _guard = self.acquire();
                (self.changed.waiters(), self.changed.next.load(Ordering::Relaxed))
            };
            let (entered, entry) = std::sync::mpsc::channel();
            scope.spawn(move || {
                let mut guard = self.acquire();
                entered.send(()).unwrap();
                assert_eq!(self.changed.wait_until(&mut guard, soon()), Ok(true));
                self.returned.lock().unwrap().push(number);
            });
            entry.recv().unwrap();
            // It held the lock when it said so, and gives it back by waiting.
            drop(self.acquire());
            if number < CELLS {
                assert_eq!(self.changed.waiters(), before.0 + 1);
            }
        }

        fn notify(&self, most: u32) -> u32 {
            self.changed.notify(&self.acquire(), most).unwrap()
        }

        fn until_one_waits(&self) {
            let deadline = soon();
            while self.changed.waiters() == 0 {
                assert!(!deadline.is_past(), "nobody waits");
                std::thread::yield_now();
            }
        }

        /// Waits until so many have returned; who they are.
        fn returned(&self, count: usize) -> Vec<usize> {
            let deadline = soon();
            loop {
                let returned = self.returned.lock().unwrap().clone();
                if returned.len() >= count {
                    return returned;
                }
                assert!(!deadline.is_past(), "only {returned:?} have returned");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn just_so_many_return_and_the_oldest_first() {
        let ground = &Ground::new();
        std::thread::scope(|scope| {
            (0..5).for_each(|number| ground.waiter(scope, number));
            for number in 0..2 {
                assert_eq!(ground.notify(1), 1);
                assert_eq!(ground.returned(number + 1).last(), Some(&number));
            }
            assert_eq!((ground.notify(0), ground.notify(2)), (0, 2));
            let mut returned = ground.returned(4);
            returned.sort_unstable();
            assert_eq!(returned, [0, 1, 2, 3]);
            assert_eq!((ground.notify(9), ground.returned(5).len()), (1, 5));
            assert_eq!(ground.notify(u32::MAX), 0);
        });
    }

    #[test]
    fn all_return_also_those_beyond_the_cells() {
        let ground = &Ground::new();
        std::thread::scope(|scope| {
            (0..CELLS + 6).for_each(|number| ground.waiter(scope, number));
            // Whoever leaves a cell has it taken by one from beyond.
            assert_eq!(ground.notify(1), 1);
            assert_eq!(ground.returned(1), [0]);
            let deadline = soon();
            while ground.changed.waiters() < CELLS as u32 {
                assert!(!deadline.is_past(), "nobody takes the free cell");
                std::thread::yield_now();
            }
            assert_eq!(ground.returned.lock().unwrap().len(), 1);
            assert_eq!(ground.notify(u32::MAX), CELLS as u32);
            ground.returned(CELLS + 6);
        });
        assert_eq!(ground.changed.waiters(), 0);
    }

    #[test]
    fn a_deadline_ends_the_wait_with_the_lock_held() {
        let ground = Ground::new();
        let mut guard = ground.acquire();
        for deadline in [Deadline::NOW, Deadline::after(Duration::from_millis(5))] {
            assert_eq!(ground.changed.wait_until(&mut guard, deadline), Ok(false));
            let held = ground.lock.try_acquire(ground.seat.member());
            assert!(matches!(held, Err(AcquireError::WouldBlock)));
        }
        let asked = core::cell::Cell::new(0);
        let soon = Deadline::after(Duration::from_millis(5));
        let never = |_: &mut LockGuard<'_>| {
            asked.set(asked.get() + 1);
            false
        };
        assert_eq!(ground.changed.wait_for_until(&mut guard, soon, never), Ok(false));
        assert_eq!((asked.get(), ground.changed.waiters()), (2, 0));
    }

    #[test]
    fn a_recursive_lock_is_released_and_held_as_before() {
        let seat = Membership::private();
        let me = seat.member();
        let (lock, changed) = (RLock::new(), Condition::new());
        let outer = lock.acquire(me).unwrap();
        lock.acquire(me).unwrap().detach();
        let mut inner = lock.acquire(me).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let guard = lock.acquire_until(me, soon()).unwrap();
                assert_eq!(changed.notify_one(&guard), Ok(true));
            });
            assert_eq!(changed.wait_until(&mut inner, soon()), Ok(true));
        });
        assert_eq!(lock.depth(), 3);
        drop((outer, inner));
        assert_eq!((lock.depth(), lock.release(me)), (1, Ok(())));
    }

    #[test]
    fn threads_that_share_a_guard_do_not_notify_the_same() {
        let ground = &Ground::new();
        let tag = ground.seat.member().tag().unwrap();
        let guard = &ground.acquire();
        for _ in 0..50 {
            ground.changed.notified.store(0, Ordering::Relaxed);
            for cell in &ground.changed.cells {
                cell.tag.store(tag.bits(), Ordering::Relaxed);
            }
            ground.changed.waiting.store(ALL, Ordering::Relaxed);
            let start = std::sync::Barrier::new(2);
            let notify = || {
                start.wait();
                (0..CELLS / 2).map(|_| ground.changed.notify(guard, 1).unwrap()).sum::<u32>()
            };
            let both = std::thread::scope(|scope| {
                let other = scope.spawn(notify);
                notify() + other.join().unwrap()
            });
            assert_eq!(both, CELLS as u32);
            assert_eq!(ground.changed.notified.load(Ordering::Relaxed), ALL);
        }
    }

    #[test]
    fn another_lock_is_refused() {
        let ground = Ground::new();
        let me = ground.seat.member();
        let (other, recursive) = (Lock::new(), RLock::new());
        let mut guard = ground.acquire();
        assert_eq!(ground.changed.wait_until(&mut guard, Deadline::NOW), Ok(false));
        drop(guard);
        let mut guard = other.acquire(me).unwrap();
        assert_eq!(ground.changed.wait(&mut guard), Err(ConditionError::NotHeld));
        assert_eq!(ground.changed.notify_all(&guard), Err(ConditionError::NotHeld));
        let guard = recursive.acquire(me).unwrap();
        assert_eq!(ground.changed.notify_all(&guard), Err(ConditionError::NotHeld));
    }

    /// A cell of a waiter that is no more.
    fn leave_dead(changed: &Condition, cell: usize, notified: bool) {
        let ticket = changed.next.fetch_add(1, Ordering::Relaxed);
        changed.cells[cell].ticket.store(ticket, Ordering::Relaxed);
        // In private memory any tag but the own is that of a parent from before a fork.
        changed.cells[cell].tag.store(1 << 12 | 2, Ordering::Relaxed);
        changed.waiting.fetch_or(bit(cell), Ordering::Relaxed);
        changed.notified.fetch_or(u64::from(notified) << cell, Ordering::Relaxed);
    }

    #[test]
    fn the_known_dead_are_passed_over() {
        let ground = &Ground::new();
        leave_dead(&ground.changed, 0, false);
        leave_dead(&ground.changed, 1, false);
        std::thread::scope(|scope| {
            ground.waiter(scope, 7);
            assert_eq!(ground.notify(1), 1);
            assert_eq!(ground.returned(1), [7]);
        });
        assert_eq!(ground.changed.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_notification_of_the_dead_goes_to_who_waited_then() {
        for waited_then in [true, false] {
            let ground = Ground::new();
            leave_dead(&ground.changed, 3, true);
            let bound = if waited_then { 2 } else { 1 };
            ground.changed.cells[3].ticket.store(bound, Ordering::Relaxed);
            let mut guard = ground.acquire();
            let deadline =
                Deadline::after(Duration::from_millis(if waited_then { 9000 } else { 5 }));
            assert_eq!(ground.changed.wait_until(&mut guard, deadline), Ok(waited_then));
            assert_eq!(ground.changed.waiting.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn cells_of_the_dead_make_room() {
        let ground = Ground::new();
        (0..CELLS).for_each(|cell| leave_dead(&ground.changed, cell, false));
        let mut guard = ground.acquire();
        let deadline = Deadline::after(Duration::from_millis(5));
        assert_eq!(ground.changed.wait_until(&mut guard, deadline), Ok(false));
        assert_eq!(ground.changed.waiters(), CELLS as u32 - 1);
    }

    #[test]
    fn a_lock_that_comes_back_from_the_dead_says_so() {
        let ground = &Ground::new();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let mut guard = ground.acquire();
                let outcome = ground.changed.wait_until(&mut guard, soon());
                assert!(guard.owner_died());
                guard.mark_consistent();
                outcome
            });
            ground.until_one_waits();
            let mut guard = ground.acquire();
            assert_eq!(ground.changed.notify_one(&guard), Ok(true));
            // As if this process had taken it over from a dead one.
            guard.set_owner_died();
            drop(guard);
            let outcome = waiter.join().unwrap();
            assert_eq!(outcome, Err(ConditionError::OwnerDied { notified: true }));
        });
        assert!(ground.lock.try_acquire(ground.seat.member()).is_ok());
    }

    #[test]
    fn a_ticket_that_nobody_reaches_is_no_panic() {
        let ground = Ground::new();
        ground.changed.next.store(u64::MAX, Ordering::Relaxed);
        let mut guard = ground.acquire();
        assert_eq!(ground.changed.wait_until(&mut guard, Deadline::NOW), Ok(false));
    }

    #[test]
    fn garbage_is_an_error() {
        let ground = &Ground::new();
        ground.changed.waiting.store(1, Ordering::Relaxed);
        let guard = ground.acquire();
        let damage = Err(ConditionError::Corrupt { word: 0 });
        assert_eq!(ground.changed.notify_all(&guard), damage);
        drop(guard);
        std::thread::scope(|scope| {
            ground.changed.waiting.store(0, Ordering::Relaxed);
            ground.changed.notified.store(0, Ordering::Relaxed);
            let waiter = scope.spawn(|| {
                let mut guard = ground.acquire();
                ground.changed.wait_until(&mut guard, Deadline::after(Duration::from_millis(20)))
            });
            ground.until_one_waits();
            ground.changed.cells[0].tag.store(0, Ordering::Relaxed);
            assert_eq!(waiter.join().unwrap().map(drop), damage.map(drop));
        });
        assert!(ground.lock.try_acquire(ground.seat.member()).is_ok());
    }
}
