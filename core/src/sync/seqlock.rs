//! A value that is read far more often than it is written: readers take nothing, and never wait for a writer.
//!
//! `word = sequence 34 | writer's tag 30`, two copies of the value, and an eventcount for writers. The copy with the number
//! `sequence % 2` is the value; the other one is the next writer's.
//!
//! ```text
//! (s, nobody) → (s, me)        a writer's claim: one compare-and-swap
//! (s, me)     → (s+1, nobody)  the other copy is written: one plain store makes it the value; wake one writer
//! (s, me)     → (s, nobody)    the writer has thought better of it
//! (s, dead)   → (s, me)        one compare-and-swap from exactly that word; the dead one has published nothing
//! ```
//!
//! - A reader loads the word, the copy, and the word again. If the sequence is the same, nobody has written to that copy: who
//!   writes to it has first read a higher sequence in the word. Else it starts over: a newer value is there.
//! - The copies are read and written in words of 64 bits, as atomics without an order of their own; two fences order them: the
//!   writer's claim comes before all that it writes, and a reader that has seen any of that sees the claim.
//! - A writer that dies leaves the value as it was: nobody is told, since there is nothing to mend.
//! - Nobody gets stuck: readers wait for nobody; a writer that waits for another looks again in slices and asks whether it is
//!   dead. A reader starts over only if a writer has published since, so that somebody always gets on.
//! - A sequence that comes round while a reader is between its two looks would deceive it: after 2³⁴ writes, some minutes of nothing
//!   else, and only if it wakes at exactly that moment.

use core::fmt;
#[cfg(not(loom))]
use core::marker::PhantomData;

use bytemuck::Pod;

use super::WaitError;
#[cfg(not(loom))]
use super::data::{self, DataError};
use crate::region::{Member, Tag, Verdict, Who};
#[cfg(not(loom))]
use crate::region::{Place, PlaceError};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sys::spin::Pace;
use crate::sys::words::Words;
use crate::sys::{Deadline, trace};
use crate::wait::Eventcount;

/// How many bits of the word name the writer.
const TAG_BITS: u32 = 30;
/// In place of a tag: a writer found its word changed. An index of 0 is nobody's.
const DAMAGED: u64 = 1 << 12;

/// A plain value in shared memory that many read and few write: 16 bytes, and twice the value. All zero is a value of zeros.
///
/// A read is some loads and never waits, whatever becomes of the writers; it gives the value of the last write that was
/// finished, never a mixture. A writer that is killed leaves the value as it was.
///
/// Writers exclude each other, and may wait for each other. For a number of up to 64 bits an [`Atomic`](super::Atomic) is cheaper.
///
/// Cost: a read two loads and the value, without any write; a write one compare-and-swap, the value, and one store.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::sync::SeqLock;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let position = SeqLock::new([0.0f64; 3]);
/// position.set(me, [1.0, 2.0, 3.0]).unwrap();
/// position.update(me, |[x, y, z]| [x + 0.5, y, z]).unwrap();
/// assert_eq!(position.get(), [1.5, 2.0, 3.0]);
/// ```
#[repr(C)]
pub struct SeqLock<T: Pod> {
    word: AtomicU64,
    writers: Eventcount,
    unused: AtomicU32,
    copies: [Words<T>; 2],
}

const _: () = assert!(cfg!(loom) || size_of::<SeqLock<u64>>() == 32);

#[cfg(not(loom))]
// SAFETY: a repr(C) struct of atomics and of plain data, for which all zero, and every other pattern, is valid; the data is
// read and written through atomics only, so that other processes may change it at any time.
unsafe impl<T: Pod> crate::region::Shareable for SeqLock<T> {}

impl<T: Pod> SeqLock<T> {
    /// A cell that holds `value`.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self {
            word: AtomicU64::new(0),
            writers: Eventcount::new(),
            unused: AtomicU32::new(0),
            copies: [Words::new(value), Words::new(value)],
        }
    }

    /// The value. Starts over as often as a newer one is published while it reads, which for large values that are written
    /// without a pause may be often; see [`try_get`](Self::try_get).
    #[inline]
    #[must_use]
    pub fn get(&self) -> T {
        loop {
            if let Some(value) = self.try_get() {
                return value;
            }
            core::hint::spin_loop();
        }
    }

    /// The value, or `None` if a newer one was published while this one was read.
    #[inline]
    #[must_use]
    pub fn try_get(&self) -> Option<T> {
        // Acquire meets the Release in `publish`: the copy is there.
        let before = self.word.load(Ordering::Acquire);
        let value = self.copies[copy(before)].load();
        // Meets the fence in `publish`: whoever has read any of a later value here sees its writer's claim below.
        fence(Ordering::Acquire);
        // Relaxed: behind the fence.
        let after = self.word.load(Ordering::Relaxed);
        ((before ^ after) >> TAG_BITS == 0).then_some(value)
    }

    /// Replaces the value; waits for another writer as long as it takes. One that dies ends the wait within some milliseconds;
    /// for who has waited long, or beside others, within a quarter of a second.
    ///
    /// # Errors
    /// [`WaitError::Corrupt`]; `Join`. The value is as before.
    #[inline]
    pub fn set(&self, me: Member<'_>, value: T) -> Result<(), WaitError> {
        self.set_until(me, Deadline::NEVER, value)
    }

    /// Replaces the value, unless a living writer is at it.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`]; otherwise as [`set`](Self::set).
    #[inline]
    pub fn try_set(&self, me: Member<'_>, value: T) -> Result<(), WaitError> {
        self.set_until(me, Deadline::NOW, value).map_err(WaitError::at_once)
    }

    /// Replaces the value; waits for another writer until `deadline`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; otherwise as [`set`](Self::set).
    #[inline]
    pub fn set_until(&self, me: Member<'_>, deadline: Deadline, value: T) -> Result<(), WaitError> {
        self.claim(me, deadline)?.publish(value)
    }

    /// Replaces the value by what `change` makes of it, and returns that; no other write comes in between. Waits for another
    /// writer as long as it takes. All other writers wait for `change`, and if it writes to the same cell, it waits for
    /// itself. If it panics, the value is as before.
    ///
    /// # Errors
    /// [`WaitError::Corrupt`]; `Join`. The value is as before.
    #[inline]
    pub fn update(&self, me: Member<'_>, change: impl FnOnce(T) -> T) -> Result<T, WaitError> {
        self.update_until(me, Deadline::NEVER, change)
    }

    /// The same, unless a living writer is at it.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`]; otherwise as [`update`](Self::update).
    #[inline]
    pub fn try_update(&self, me: Member<'_>, change: impl FnOnce(T) -> T) -> Result<T, WaitError> {
        self.update_until(me, Deadline::NOW, change).map_err(WaitError::at_once)
    }

    /// The same; waits for another writer until `deadline`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; otherwise as [`update`](Self::update).
    #[inline]
    pub fn update_until(
        &self,
        me: Member<'_>,
        deadline: Deadline,
        change: impl FnOnce(T) -> T,
    ) -> Result<T, WaitError> {
        let claim = self.claim(me, deadline)?;
        let value = change(self.copies[copy(claim.word)].load());
        claim.publish(value)?;
        Ok(value)
    }

    /// Who is writing now, the dead included; `None` if nobody, or if its seat has gone to another. Some loads.
    #[must_use]
    pub fn writer(&self, me: Member<'_>) -> Option<Who> {
        // Relaxed: for people to read.
        me.who(Tag::from_bits(self.word.load(Ordering::Relaxed) as u32)?)
    }

    #[inline]
    fn claim<'a>(&'a self, me: Member<'a>, deadline: Deadline) -> Result<Claim<'a, T>, WaitError> {
        let tag = me.tag()?;
        // Relaxed: only what the compare-and-swap confirms counts.
        let word = self.word.load(Ordering::Relaxed);
        let mine = word | u64::from(tag.bits());
        let free = word & u64::from(Tag::MASK) == 0;
        // Acquire meets the Release of the last writer: its copy is the one to read, and it has left the other.
        if free
            && self.word.compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            return Ok(Claim { cell: self, me, tag, word: mine });
        }
        match self.contend(me, tag, deadline) {
            Some(Ok(word)) => Ok(Claim { cell: self, me, tag, word }),
            Some(Err(word)) => Err(WaitError::Corrupt { word }),
            None => Err(WaitError::TimedOut),
        }
    }

    #[cold]
    fn contend(&self, me: Member<'_>, tag: Tag, deadline: Deadline) -> Option<Result<u64, u64>> {
        self.writers.wait(me, deadline, Pace::Polite, |ask| self.attempt(me, tag, ask))
    }

    /// One try to claim the word. `Ok`: the word as it is now. `Err`: damaged. `None`: a living writer is at it.
    fn attempt(&self, me: Member<'_>, tag: Tag, ask: bool) -> Option<Result<u64, u64>> {
        // Relaxed: only what the compare-and-swap confirms counts.
        let word = self.word.load(Ordering::Relaxed);
        let bits = word as u32 & Tag::MASK;
        let owner = Tag::from_bits(bits);
        match owner {
            None if bits != 0 => return Some(Err(word)),
            None => {}
            Some(owner) if ask => match me.verdict(owner) {
                Verdict::Alive => return None,
                Verdict::Dead => {}
                Verdict::Corrupt => return Some(Err(word)),
            },
            Some(_) => return None,
        }
        let mine = word & !u64::from(Tag::MASK) | u64::from(tag.bits());
        // Acquire: as in `claim`; of a dead writer everything is visible with its verdict.
        self.word.compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed).ok()?;
        if let Some(dead) = owner {
            trace::recovered("SeqLock", me, dead);
        }
        Some(Ok(mine))
    }
}

#[cfg(not(loom))]
impl<T: Pod> SeqLock<T> {
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
    /// use procession_core::region::Place;
    /// use procession_core::sync::{DataError, SeqLock};
    ///
    /// let mut memory = [0u64; 7];
    /// let place = Place::in_memory(&mut memory);
    /// SeqLock::create(place, [1.0f64, 2.0])?;
    /// assert_eq!(SeqLock::<[f64; 2]>::attach(place)?.get(), [1.0, 2.0]);
    /// assert!(matches!(SeqLock::<[u64; 2]>::attach(place), Err(DataError::OtherType { .. })));
    /// # Ok::<(), DataError>(())
    /// ```
    pub fn create(place: Place<'_>, value: T) -> Result<&Self, PlaceError> {
        let fill = |cell: &Self| cell.copies[0].store(value);
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

/// Which copy is the value.
#[inline]
fn copy(word: u64) -> usize {
    (word >> TAG_BITS & 1) as usize
}

/// A writer's turn. Dropping it without [`publish`](Claim::publish) leaves the value as it was.
struct Claim<'a, T: Pod> {
    cell: &'a SeqLock<T>,
    me: Member<'a>,
    tag: Tag,
    /// The sequence before, and this writer's tag.
    word: u64,
}

impl<T: Pod> Claim<'_, T> {
    #[inline]
    fn publish(self, value: T) -> Result<(), WaitError> {
        if !self.me.is(self.tag) {
            // `change` has forked: it is the parent that writes, or has written.
            return Err(WaitError::WouldBlock);
        }
        // Relaxed: nobody else changes the word of a living writer.
        let word = self.cell.word.load(Ordering::Relaxed);
        if word != self.word {
            return Err(WaitError::Corrupt { word });
        }
        // Meets the fence in `try_get`: the claim is before all that is written now.
        fence(Ordering::Release);
        let next = (word >> TAG_BITS).wrapping_add(1) << TAG_BITS;
        self.cell.copies[copy(next)].store(value);
        self.leave(next);
        core::mem::forget(self);
        Ok(())
    }

    /// Leaves the word to the next writer.
    #[inline]
    fn leave(&self, word: u64) {
        // Release meets the Acquire of readers, and of the next writer.
        self.cell.word.store(word, Ordering::Release);
        self.cell.writers.notify_one(self.me);
    }
}

impl<T: Pod> Drop for Claim<'_, T> {
    #[cold]
    fn drop(&mut self) {
        if !self.me.is(self.tag) {
            // Inherited over fork. The parent writes.
            return;
        }
        let found = self.cell.word.load(Ordering::Relaxed);
        if found == self.word {
            self.leave(self.word & !u64::from(Tag::MASK));
        } else {
            // The next writers are told.
            self.cell.word.store(found & !u64::from(Tag::MASK) | DAMAGED, Ordering::Release);
            self.cell.writers.notify_all(self.me);
        }
    }
}

/// The value.
impl<T: Pod + fmt::Debug> fmt::Debug for SeqLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SeqLock").field(&self.get()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::region::Membership;

    /// In private memory any tag but the own is that of a parent from before a fork.
    const DEAD: u64 = 1 << 12 | 2;

    #[test]
    fn a_child_from_within_a_change_is_told_so_and_writes_nothing() {
        let seat = Membership::private();
        let me = seat.member();
        let cell = SeqLock::new(7u64);
        let tag = Tag::from_bits(DEAD as u32).unwrap();
        // Its parent is still at it, and has finished.
        for word in [DEAD, 1 << TAG_BITS] {
            cell.word.store(word, Ordering::Relaxed);
            let inherited = Claim { cell: &cell, me, tag, word: DEAD };
            assert_eq!(inherited.publish(8), Err(WaitError::WouldBlock));
            assert_eq!((cell.get(), cell.word.load(Ordering::Relaxed)), (7, word));
        }
        cell.set(me, 9).unwrap();
        assert_eq!(cell.get(), 9);
    }

    #[test]
    fn values_of_all_sizes() {
        fn check<T: Pod + PartialEq + fmt::Debug>(first: T, second: T) {
            let seat = Membership::private();
            let me = seat.member();
            let cell = SeqLock::new(first);
            assert_eq!(cell.get(), first);
            cell.set(me, second).unwrap();
            assert_eq!(cell.get(), second);
            assert_eq!(cell.update(me, |old| if old == second { first } else { old }), Ok(first));
            assert_eq!(cell.try_get(), Some(first));
        }
        check(1u8, 2);
        check([1u16; 3], [2; 3]);
        check([1u8; 13], [2; 13]);
        check(1u64, u64::MAX);
        check([1u32; 5], [7; 5]);
        check(1u128, u128::MAX);
        check([0.5f64; 32], [1.5; 32]);
        check((), ());
    }

    #[test]
    fn a_dead_writer_has_written_nothing() {
        let seat = Membership::private();
        let me = seat.member();
        let cell = SeqLock::new(7u64);
        cell.word.store(DEAD, Ordering::Relaxed);
        cell.copies[1].store(8);
        assert_eq!(cell.get(), 7);
        assert_eq!(cell.update(me, |seven| seven + 2), Ok(9));
        assert_eq!(cell.get(), 9);
    }

    #[test]
    fn the_sequence_comes_round() {
        let seat = Membership::private();
        let me = seat.member();
        let cell = SeqLock::new(0u64);
        cell.word.store(!u64::from(Tag::MASK), Ordering::Relaxed);
        for value in 1..5 {
            cell.set(me, value).unwrap();
            assert_eq!(cell.get(), value);
        }
    }

    #[test]
    fn writers_exclude_each_other() {
        let seat = Membership::private();
        let me = seat.member();
        let cell = SeqLock::new(1u64);
        let updated = cell.update(me, |one| {
            assert_eq!(cell.try_set(me, 5), Err(WaitError::WouldBlock));
            let soon = Deadline::after(core::time::Duration::from_millis(5));
            assert_eq!(cell.set_until(me, soon, 5), Err(WaitError::TimedOut));
            assert_eq!(cell.get(), 1);
            one + 1
        });
        assert_eq!(updated, Ok(2));
    }

    #[test]
    fn a_change_that_panics_changes_nothing() {
        let seat = Membership::private();
        let me = seat.member();
        let cell = SeqLock::new(1u64);
        let change = std::panic::AssertUnwindSafe(|| {
            cell.update(me, |_| std::panic::resume_unwind(std::boxed::Box::new(())))
        });
        assert!(std::panic::catch_unwind(change).is_err());
        assert_eq!(cell.get(), 1);
        assert_eq!(cell.try_set(me, 2), Ok(()));
    }

    #[test]
    fn damage_is_an_error_for_writers() {
        let seat = Membership::private();
        let me = seat.member();
        let cell = SeqLock::new(1u64);
        cell.word.store(DAMAGED, Ordering::Relaxed);
        assert!(matches!(cell.set(me, 2), Err(WaitError::Corrupt { .. })));
        let cell = SeqLock::new(1u64);
        let updated = cell.update(me, |one| {
            cell.word.store(12345, Ordering::Relaxed);
            one
        });
        assert!(matches!(updated, Err(WaitError::Corrupt { .. })));
        assert!(matches!(cell.set(me, 2), Err(WaitError::Corrupt { .. })));
    }

    #[test]
    fn readers_see_no_mixture() {
        const TURNS: u64 = 5000;
        let seat = Membership::private();
        let me = seat.member();
        let cell = SeqLock::new([0u64; 8]);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    for _ in 0..TURNS {
                        cell.update(me, |old| [old[0] + 1; 8]).unwrap();
                    }
                });
            }
            threads.spawn(|| {
                let mut last = 0;
                while last < 2 * TURNS {
                    let now = cell.get();
                    assert!(now[0] >= last && now == [now[0]; 8]);
                    last = now[0];
                }
            });
        });
    }
}
