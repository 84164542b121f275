//! A latch: it opens when each of its parts is done, once and for all.
//!
//! ```text
//! part:    UNTAKEN | HELD(o) | DONE                   32 bits for each
//! broken:  0 | pid 32, tag 32 of a dead holder        64 bits for all
//!
//! UNTAKEN → DONE          count_down: one compare-and-swap
//! UNTAKEN → HELD(me)      part: one compare-and-swap
//! HELD(me) → DONE         Part::count_down: one compare-and-swap
//! HELD(me) → UNTAKEN      a Part's drop: one plain store
//! broken: 0 → dead        by who waits and has heard that the holder of a part is dead: one compare-and-swap
//! ```
//!
//! - DONE is final, so who waits never looks again at parts that it has seen done, and there is no count beside the
//!   parts that could disagree with them.
//! - Who does a part looks afterwards whether all are done, and wakes all if so. Of two who do the last two parts at the same
//!   time, one sees both: a full fence lies between doing and looking.
//! - A held part whose holder died will never be done. It stays HELD(dead), and `broken` tells everybody, and for good: the
//!   latch cannot open any more.
//! - Nobody gets stuck: sleepers look again in slices, and ask about the holders of parts; one who did the last part and
//!   died before it woke anybody has done it.

use crate::region::{JoinError, Member, Tag, Verdict};
#[cfg(not(loom))]
use crate::region::{Place, PlaceError, Shareable};
#[cfg(not(loom))]
use crate::sys::atomic::fence;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::spin::Pace;
use crate::sys::{Deadline, after_exchange, trace};
use crate::wait::{Eventcount, Waitable};

use super::living::Living;

/// The most parts that a latch can have.
#[cfg(not(loom))]
pub const MOST_PARTS: u32 = 1 << 16;

const UNTAKEN: u32 = 0;
const DONE: u32 = 1 << 30;
/// What a [`Part`] leaves behind when it was not as it had written it.
const DAMAGED: u32 = 1 << 31;

/// What stands in front of the parts.
///
/// `what` = "latc" 32 | parts 32, by the creator's last store. `next` says where an untaken part may be: an estimate.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    what: AtomicU64,
    broken: AtomicU64,
    event: Eventcount,
    next: AtomicU32,
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl Shareable for Head {}

#[cfg(not(loom))]
const PARTS_AT: u64 = size_of::<Head>() as u64;
#[cfg(not(loom))]
const WHAT: u64 = u32::from_be_bytes(*b"latc") as u64;

/// A latch in shared memory: a view of it, to be copied freely within the process.
///
/// It is made with so many parts, and opens when all are done, for good: whoever waits then goes on, and sees what was done
/// before. There are two ways to do a part:
///
/// - [`count_down`](Self::count_down) does one at once.
/// - [`part`](Self::part) claims one, to be done later. If a process dies with it, the latch is *broken*: it will never
///   open, and whoever waits is told so at once, with the process's id. That is for work which nobody else will do.
///
/// Cost: a part done is a compare-and-swap and a look at the last parts; a wait is a load for each part. In memory it is 24
/// bytes and 4 for each part.
///
/// ```
/// use procession_core::region::{Membership, Place};
/// use procession_core::sync::Latch;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let mut memory = [0; 8];
/// let latch = Latch::create(Place::in_memory(&mut memory), 2)?;
///
/// latch.count_down(me)?;
/// let part = latch.part(me)?;
/// assert!(latch.try_wait(me).is_err());
/// part.count_down()?;
/// assert!(latch.is_open());
/// latch.wait(me)?;
/// assert!(latch.count_down(me).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Latch<'r> {
    head: &'r Head,
    parts: &'r [AtomicU32],
}

impl core::fmt::Debug for Latch<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Latch")
            .field("parts", &self.parts())
            .field("remaining", &self.remaining())
            .field("broken", &self.broken())
            .finish_non_exhaustive()
    }
}

/// Why there is no latch in a place.
#[cfg(not(loom))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LatchPlaceError {
    /// It was to have more parts than it can.
    #[error("a latch has at most {MOST_PARTS} parts, not {parts}")]
    TooManyParts {
        /// Parts asked for.
        parts: u32,
    },
    /// No latch was made there.
    #[error("no latch lies there (word {word:#018x}): attach to what was created as one")]
    Nothing {
        /// What stands there instead.
        word: u64,
    },
    /// The place cannot hold it.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Why a latch does not open, or a part is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LatchError {
    /// It is not open, and the call was not to wait.
    #[error("the latch is not open yet; try again or wait with a deadline")]
    WouldBlock,
    /// It did not open before the deadline.
    #[error("the latch did not open before the deadline")]
    TimedOut,
    /// A process died with a part of it that it had claimed: the latch will never open.
    #[error("process {pid} died with a part of the latch, which will never open: make a new one")]
    Broken {
        /// Its process id, in its own pid namespace; 0 if that is no longer known.
        pid: u32,
    },
    /// Every part is done or claimed.
    #[error("each of the latch's {parts} parts is done or claimed: it was made with too few")]
    TooMany {
        /// How many it was made with.
        parts: u32,
    },
    /// The claim on the part is that of the process from which this one was forked.
    #[error("the part was claimed by the parent of this process, which alone can do it")]
    NotOwner,
    /// The latch's words hold what no latch ever holds: its memory was overwritten.
    #[error(
        "the latch's memory is damaged (word {word:#010x}); something wrote over it, create the object anew"
    )]
    Corrupt {
        /// What stands there.
        word: u64,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

#[cfg(not(loom))]
impl<'r> Latch<'r> {
    /// How many bytes a latch of so many parts takes.
    ///
    /// # Errors
    /// [`LatchPlaceError::TooManyParts`] if there are more than [`MOST_PARTS`].
    pub const fn bytes_for(parts: u32) -> Result<u64, LatchPlaceError> {
        if parts > MOST_PARTS {
            return Err(LatchPlaceError::TooManyParts { parts });
        }
        Ok(PARTS_AT + parts as u64 * size_of::<AtomicU32>() as u64)
    }

    /// Makes a latch of so many parts; without any it is open from the start.
    ///
    /// # Errors
    /// [`LatchPlaceError::TooManyParts`]; `Place` if it does not fit.
    pub fn create(place: Place<'r>, parts: u32) -> Result<Self, LatchPlaceError> {
        let needed = Self::bytes_for(parts)?;
        if place.bytes() < needed {
            return Err(PlaceError::TooSmall { needed, given: place.bytes() }.into());
        }
        let head: &Head = place.object(0)?;
        let row: &[AtomicU32] = place.objects(PARTS_AT, u64::from(parts))?;
        // An eventcount at which nobody waits is zero.
        let event: &AtomicU32 = place.object(core::mem::offset_of!(Head, event) as u64)?;
        // First there is none, so that nobody attaches to one that is being overwritten: who sees a store below sees this.
        head.what.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for part in row {
            part.store(UNTAKEN, Ordering::Relaxed);
        }
        head.broken.store(0, Ordering::Relaxed);
        event.store(0, Ordering::Relaxed);
        head.next.store(0, Ordering::Relaxed);
        // Release meets the Acquire in `attach`.
        head.what.store(WHAT << 32 | u64::from(parts), Ordering::Release);
        Ok(Self { head, parts: row })
    }

    /// The latch that was made in this place.
    ///
    /// # Errors
    /// [`LatchPlaceError::Nothing`] if none was; `Place` if it does not fit.
    pub fn attach(place: Place<'r>) -> Result<Self, LatchPlaceError> {
        let head: &Head = place.object(0)?;
        // Acquire meets the Release in `create`.
        let word = head.what.load(Ordering::Acquire);
        let parts = word as u32;
        if word >> 32 != WHAT || parts > MOST_PARTS {
            return Err(LatchPlaceError::Nothing { word });
        }
        Ok(Self { head, parts: place.objects(PARTS_AT, u64::from(parts))? })
    }
}

impl<'r> Latch<'r> {
    /// Does one part, and opens the latch if it was the last.
    ///
    /// # Errors
    /// [`LatchError::TooMany`] if no part was left, each having been done or claimed when it was looked at; `Corrupt`.
    pub fn count_down(&self, me: Member<'_>) -> Result<(), LatchError> {
        // Release meets the Acquire of those who wait.
        self.find(DONE, Ordering::Release)?;
        self.finish(me);
        Ok(())
    }

    /// Claims a part, to be done later by [`Part::count_down`]. If this process dies with it, the latch is broken; if the claim is
    /// dropped, the part is anybody's again.
    ///
    /// # Errors
    /// [`LatchError::TooMany`] if no part was left, each having been done or claimed when it was looked at; `Corrupt`; `Join`.
    pub fn part(&self, me: Member<'r>) -> Result<Part<'r>, LatchError> {
        let tag = me.tag()?;
        // Relaxed: nothing is handed over with an untaken part.
        let part = self.find(tag.bits(), Ordering::Relaxed)?;
        Ok(Part { latch: *self, me, part, tag })
    }

    /// Waits as long as it takes until the latch is open, or broken.
    ///
    /// # Errors
    /// [`LatchError::Broken`]; `Corrupt`.
    #[inline]
    pub fn wait(&self, me: Member<'_>) -> Result<(), LatchError> {
        self.wait_until(me, Deadline::NEVER)
    }

    /// Whether it is open, as an answer that tells what else is the matter; asks about the holders of parts at most once a
    /// millisecond.
    ///
    /// # Errors
    /// [`LatchError::WouldBlock`]; `Broken`; `Corrupt`.
    #[inline]
    pub fn try_wait(&self, me: Member<'_>) -> Result<(), LatchError> {
        match self.wait_until(me, Deadline::NOW) {
            Err(LatchError::TimedOut) => Err(LatchError::WouldBlock),
            answer => answer,
        }
    }

    /// Waits until `deadline` for the latch to open, or break.
    ///
    /// # Errors
    /// [`LatchError::TimedOut`]; `Broken`; `Corrupt`.
    pub fn wait_until(&self, me: Member<'_>, deadline: Deadline) -> Result<(), LatchError> {
        let mut done = 0;
        let event = &self.head.event;
        event
            .wait(me, deadline, Pace::Eager, |ask| self.look(me, ask, &mut done))
            .unwrap_or(Err(LatchError::TimedOut))
    }

    /// How many parts it was made with.
    #[must_use]
    pub fn parts(&self) -> u32 {
        self.parts.len() as u32
    }

    /// How many parts were not done at some moment of the call.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        // Acquire: who sees that none remain sees what was done before.
        let undone = |part: &&AtomicU32| part.load(Ordering::Acquire) != DONE;
        self.parts.iter().filter(undone).count() as u32
    }

    /// Whether every part is done. Who sees it open sees what was done before.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // From the end, since parts are given out from the start: mostly one load tells that it is not.
        self.parts.iter().rev().all(|part| part.load(Ordering::Acquire) == DONE)
    }

    /// The process that died with a part, once somebody who waits has found out; 0 if its id is no longer known.
    #[must_use]
    pub fn broken(&self) -> Option<u32> {
        match self.head.broken.load(Ordering::Relaxed) {
            0 => None,
            word => Some((word >> 32) as u32),
        }
    }

    /// Turns an untaken part into `what`.
    fn find(&self, what: u32, order: Ordering) -> Result<&'r AtomicU32, LatchError> {
        // Relaxed: an estimate.
        let next = (self.head.next.load(Ordering::Relaxed) as usize).min(self.parts.len());
        for index in (next..self.parts.len()).chain(0..next) {
            let part = &self.parts[index];
            // Relaxed: only what the compare-and-swap confirms counts.
            match part.load(Ordering::Relaxed) {
                UNTAKEN => {}
                DONE => continue,
                held if held < DONE && Tag::from_bits(held).is_some() => continue,
                word => return Err(LatchError::Corrupt { word: u64::from(word) }),
            }
            if part.compare_exchange(UNTAKEN, what, order, Ordering::Relaxed).is_ok() {
                self.head.next.store(index as u32 + 1, Ordering::Relaxed);
                return Ok(part);
            }
        }
        Err(LatchError::TooMany { parts: self.parts() })
    }

    /// Wakes all if the part that was just done, by a compare-and-swap, was the last.
    fn finish(&self, me: Member<'_>) {
        // Of two who do the last parts at the same time, one sees both.
        after_exchange();
        if self.is_open() {
            self.head.event.notify_all(me);
        }
    }

    /// One look of a wait; the parts before `done` are known to be done.
    fn look(&self, me: Member<'_>, ask: bool, done: &mut usize) -> Option<Result<(), LatchError>> {
        // Acquire meets the Release of who did the part.
        while let Some(part) = self.parts.get(*done)
            && part.load(Ordering::Acquire) == DONE
        {
            *done += 1;
        }
        if *done == self.parts.len() {
            return Some(Ok(()));
        }
        if let Some(pid) = self.broken() {
            return Some(Err(LatchError::Broken { pid }));
        }
        if !ask {
            return None;
        }
        let mut living = Living::default();
        for part in &self.parts[*done..] {
            // Relaxed: of a dead holder everything is visible with its verdict.
            let word = part.load(Ordering::Relaxed);
            if word == UNTAKEN || word == DONE {
                continue;
            }
            let holder = Tag::from_bits(word).filter(|_| word < DONE);
            match holder.map(|holder| (holder, living.verdict(me, holder))) {
                Some((_, Verdict::Alive)) => {}
                // It may have done the part, or given it back, before it died.
                Some((dead, Verdict::Dead)) if part.load(Ordering::Relaxed) == word => {
                    return Some(Err(self.break_by(me, dead)));
                }
                Some((_, Verdict::Dead)) => {}
                Some((_, Verdict::Corrupt)) | None => {
                    return Some(Err(LatchError::Corrupt { word: u64::from(word) }));
                }
            }
        }
        None
    }

    /// Writes down that a dead process has a part, for all to see.
    #[cold]
    fn break_by(&self, me: Member<'_>, dead: Tag) -> LatchError {
        let pid = me.who(dead).map_or(0, |who| who.pid);
        let word = u64::from(pid) << 32 | u64::from(dead.bits());
        // Relaxed: the word says it all. Failure: another dead holder was found first.
        match self.head.broken.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {
                trace::recovered("Latch", me, dead);
                self.head.event.notify_all(me);
                LatchError::Broken { pid }
            }
            Err(first) => LatchError::Broken { pid: (first >> 32) as u32 },
        }
    }
}

/// Ready when it is open, or broken.
impl Waitable for Latch<'_> {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        self.look(me, ask, &mut 0).is_some()
    }

    fn sleepers(&self) -> &Eventcount {
        &self.head.event
    }
}

/// A part of a latch that this process has claimed. Do it by [`count_down`](Self::count_down); dropping it without gives it
/// back, and somebody has to claim it anew or count it down.
///
/// It may be moved to another thread of the process. One that a forked child has inherited is its parent's still.
#[must_use = "the part is given back at once if the claim is dropped"]
#[derive(Debug)]
pub struct Part<'r> {
    latch: Latch<'r>,
    me: Member<'r>,
    part: &'r AtomicU32,
    tag: Tag,
}

impl Part<'_> {
    /// Does the part, and opens the latch if it was the last.
    ///
    /// # Errors
    /// [`LatchError::NotOwner`] if this process has inherited the claim over fork; `Corrupt`.
    pub fn count_down(self) -> Result<(), LatchError> {
        let part = core::mem::ManuallyDrop::new(self);
        if !part.me.is(part.tag) {
            return Err(LatchError::NotOwner);
        }
        // Release meets the Acquire of those who wait.
        part.part
            .compare_exchange(part.tag.bits(), DONE, Ordering::Release, Ordering::Relaxed)
            .map_err(|word| LatchError::Corrupt { word: u64::from(word) })?;
        part.latch.finish(part.me);
        Ok(())
    }

    /// The word is not as this claim wrote it, or this process is not the one that claimed.
    #[cold]
    fn drop_strange(&self) {
        if self.me.is(self.tag) {
            // Those who wait, or look for a part, report it.
            self.part.store(DAMAGED, Ordering::Relaxed);
            self.latch.head.event.notify_all(self.me);
        }
        // Else: inherited over fork. The parent has the part.
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        // Relaxed, both: nobody but the holder changes it, and nothing is handed over.
        if self.part.load(Ordering::Relaxed) == self.tag.bits() && self.me.is(self.tag) {
            self.part.store(UNTAKEN, Ordering::Relaxed);
        } else {
            self.drop_strange();
        }
    }
}

/// A latch on the heap, for the model checker.
#[cfg(loom)]
#[derive(Debug)]
pub struct Heap {
    head: Head,
    parts: std::vec::Vec<AtomicU32>,
}

#[cfg(loom)]
impl Heap {
    /// A latch of so many parts.
    #[must_use]
    pub fn new(parts: u32) -> Self {
        Self {
            head: Head {
                what: AtomicU64::new(0),
                broken: AtomicU64::new(0),
                event: Eventcount::new(),
                next: AtomicU32::new(0),
            },
            parts: (0..parts).map(|_| AtomicU32::new(UNTAKEN)).collect(),
        }
    }

    /// The latch.
    #[must_use]
    pub fn latch(&self) -> Latch<'_> {
        Latch { head: &self.head, parts: &self.parts }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::region::Membership;

    #[test]
    fn it_opens_when_all_parts_are_done() {
        let seat = Membership::private();
        let me = seat.member();
        for parts in [0, 1, 2, 9] {
            let mut memory = [0; 16];
            let latch = Latch::create(Place::in_memory(&mut memory), parts).unwrap();
            for left in (1..=parts).rev() {
                assert_eq!(latch.remaining(), left);
                assert_eq!(latch.try_wait(me), Err(LatchError::WouldBlock));
                let soon = Deadline::after(Duration::from_millis(1));
                assert_eq!(latch.wait_until(me, soon), Err(LatchError::TimedOut));
                // One way and the other.
                if left % 2 == 0 {
                    latch.count_down(me).unwrap();
                } else {
                    latch.part(me).unwrap().count_down().unwrap();
                }
            }
            assert!(latch.is_open());
            assert_eq!(latch.wait(me), Ok(()));
            assert_eq!(latch.count_down(me), Err(LatchError::TooMany { parts }));
            assert_eq!(latch.part(me).unwrap_err(), LatchError::TooMany { parts });
        }
    }

    #[test]
    fn a_part_that_is_dropped_is_there_again() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = [0; 8];
        let latch = Latch::create(Place::in_memory(&mut memory), 2).unwrap();
        let parts = [latch.part(me).unwrap(), latch.part(me).unwrap()];
        assert_eq!(latch.count_down(me), Err(LatchError::TooMany { parts: 2 }));
        drop(parts);
        latch.count_down(me).unwrap();
        latch.count_down(me).unwrap();
        assert!(latch.is_open());
    }

    #[test]
    fn waiting_threads_see_what_was_done() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = [0; 8];
        let latch = Latch::create(Place::in_memory(&mut memory), 3).unwrap();
        let sum = AtomicU32::new(0);
        std::thread::scope(|threads| {
            for number in 1..=3 {
                let sum = &sum;
                threads.spawn(move || {
                    sum.fetch_add(number, Ordering::Relaxed);
                    latch.count_down(me).unwrap();
                });
            }
            let deadline = Deadline::after(Duration::from_secs(10));
            assert_eq!(latch.wait_until(me, deadline), Ok(()));
            assert_eq!(sum.load(Ordering::Relaxed), 6);
        });
    }

    #[test]
    fn a_dead_holder_breaks_it_for_good() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = [0; 8];
        let latch = Latch::create(Place::in_memory(&mut memory), 3).unwrap();
        // In private memory any tag but the own is that of a parent from before a fork.
        let dead = Tag::from_bits(7 << 12 | 1).unwrap();
        latch.parts[1].store(dead.bits(), Ordering::Relaxed);
        latch.count_down(me).unwrap();
        let soon = Deadline::after(Duration::from_millis(5));
        assert_eq!(latch.wait_until(me, soon), Err(LatchError::Broken { pid: 7 }));
        latch.count_down(me).unwrap();
        assert_eq!(latch.count_down(me), Err(LatchError::TooMany { parts: 3 }));
        assert_eq!(latch.try_wait(me), Err(LatchError::Broken { pid: 7 }));
        assert_eq!((latch.broken(), latch.remaining()), (Some(7), 1));
    }

    #[test]
    fn a_holder_by_another_seat_of_the_same_process_lives() {
        let (seat, other) = (Membership::private(), Membership::private());
        let mut memory = [0; 8];
        let latch = Latch::create(Place::in_memory(&mut memory), 1).unwrap();
        let part = latch.part(seat.member()).unwrap();
        let soon = Deadline::after(Duration::from_millis(5));
        assert_eq!(latch.wait_until(other.member(), soon), Err(LatchError::TimedOut));
        part.count_down().unwrap();
        assert_eq!(latch.wait(other.member()), Ok(()));
    }

    #[test]
    fn garbage_is_an_error_and_stays_one() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = [0; 8];
        let latch = Latch::create(Place::in_memory(&mut memory), 1).unwrap();
        for bad in [DAMAGED, DONE | 1, 5 << 12, u32::MAX] {
            latch.parts[0].store(bad, Ordering::Relaxed);
            let error = LatchError::Corrupt { word: u64::from(bad) };
            let soon = Deadline::after(Duration::from_millis(5));
            assert_eq!(latch.wait_until(me, soon), Err(error));
            assert_eq!(latch.count_down(me), Err(error));
        }
        latch.parts[0].store(UNTAKEN, Ordering::Relaxed);
        let part = latch.part(me).unwrap();
        latch.parts[0].store(DONE, Ordering::Relaxed);
        assert!(matches!(part.count_down(), Err(LatchError::Corrupt { .. })));
        latch.parts[0].store(UNTAKEN, Ordering::Relaxed);
        let part = latch.part(me).unwrap();
        latch.parts[0].store(12345, Ordering::Relaxed);
        drop(part);
        assert!(matches!(latch.count_down(me), Err(LatchError::Corrupt { .. })));
    }

    #[test]
    fn only_what_was_made_can_be_attached_to() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = [0; 8];
        let place = Place::in_memory(&mut memory);
        assert_eq!(Latch::attach(place).unwrap_err(), LatchPlaceError::Nothing { word: 0 });
        let made = Latch::create(place, 5).unwrap();
        made.count_down(me).unwrap();
        let seen = Latch::attach(place).unwrap();
        assert_eq!((seen.parts(), seen.remaining()), (5, 4));
        let short = place.up_to(Latch::bytes_for(5).unwrap() - 1);
        assert!(matches!(Latch::attach(short), Err(LatchPlaceError::Place(_))));
        assert!(matches!(Latch::create(short, 5), Err(LatchPlaceError::Place(_))));
        let parts = MOST_PARTS + 1;
        assert_eq!(
            Latch::create(place, parts).unwrap_err(),
            LatchPlaceError::TooManyParts { parts }
        );
    }
}
