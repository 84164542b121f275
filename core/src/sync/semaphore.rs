//! A semaphore whose permits survive their holders.
//!
//! Each unit is in one of three places: in the *count* of the semaphore's word, in a *cell*, or *out*: taken by nobody in
//! particular, until somebody releases it.
//!
//! ```text
//! word:  spare 31 | celled 12 | name: cell 12, nonce 9     units in the count, units in cells, the last move
//! cell:  nonce 31 | state 3 | tag 30
//!
//! EMPTY         no unit
//! FREE          a unit that anybody may take
//! HELD(o)       the unit of a permit of o
//! TAKING(o)     o moves a unit from the count to here: it has, if the word names this move
//! LEAVING(o)    o moves the unit out: it has, if the word names this move
//!
//! FREE → HELD(me)                              acquire: one compare-and-swap
//! HELD(me) → FREE, next nonce                  a permit's drop: one plain store, then notify one
//! EMPTY → TAKING(me) → [word] → HELD(me)       acquire, where no cell is free and the count is not zero
//! HELD(me) → LEAVING(me) → [word] → EMPTY      detach
//! word: spare - 1                              take: one compare-and-swap
//! FREE → LEAVING(me) → [word] → EMPTY          take, where the count is zero
//! word: spare + n                              release: one compare-and-swap, which checks the bound
//! ```
//!
//! - A move changes a cell and the counts, which are two words. What decides is the word alone, in one compare-and-swap that
//!   also writes the move's name, cell and nonce. Who wants to move after that *helps* first: it makes the named
//!   cell show that its move is done, TAKING → HELD or LEAVING → EMPTY, by one exact compare-and-swap. So whether an
//!   unfinished move has happened can be seen at any time: it has if the word names it, else it has not.
//! - A cell's nonce is never the one by which the word still names an earlier move of that cell: it skips it. A
//!   helper looks at the word again after the cell, so that an old name is not taken for a new one.
//! - Cells and count add up in one word: `spare + celled` and what is out make the bound. So a release that would exceed it
//!   is refused by the same compare-and-swap that would have done it.
//! - What the dead leave: HELD is FREE again, and unfinished moves are finished or undone, as the word says; each
//!   by one compare-and-swap from exactly the dead value. What is out has no holder and stays out.
//! - "None is free" takes two passes that see the same in every cell and in the word. Every change of a cell's holder has
//!   a nonce of its own, so the first pass ended at a moment at which it was so.
//! - Nobody gets stuck: who gives back a unit, or empties a cell, notifies; sleepers look again in slices and ask whether
//!   holders are dead. One who is stopped in the middle of a move keeps its cell, and the unit if that is moved.

mod words;

use core::fmt;

use super::error::{ReleaseError, WaitError};
use super::living::Living;
use crate::region::{JoinError, Member, Tag, Verdict, Who};
#[cfg(not(loom))]
use crate::region::{Place, PlaceError, Shareable};
use crate::sys::Deadline;
#[cfg(not(loom))]
use crate::sys::atomic::fence;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::spin::Pace;
use crate::sys::trace;
use crate::wait::{Eventcount, Waitable};

#[cfg(not(loom))]
use words::MOST_CELLS;
pub use words::MOST_UNITS;
use words::{Cell, State, Word};

/// How many passes an attempt makes while others take and give back all the time.
const PASSES: u32 = 64;
/// How often a change of the word starts over. Each time somebody else has changed it: so often only garbage does.
const FUEL: u32 = 1 << 20;

/// What stands in front of the cells, which start on a cache line of their own.
///
/// `what` = "sema" 32 | homes 16 | cells 16, by the creator's last store.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    word: AtomicU64,
    what: AtomicU64,
    event: Eventcount,
    bound: AtomicU32,
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl Shareable for Head {}

/// Bytes before the first cell.
#[cfg(not(loom))]
const CELLS_AT: u64 = 64;
#[cfg(not(loom))]
const WHAT: u64 = u32::from_be_bytes(*b"sema") as u64;
/// Permits for which every semaphore has room, if its bound allows as many.
#[cfg(not(loom))]
const LEAST_CELLS: u32 = 16;

/// A counting semaphore in shared memory: a view of it, to be copied freely within the process.
///
/// So many units; who wants one waits until one is free. There are two ways to have one:
///
/// - [`acquire`](Self::acquire) gives a [`Permit`], which gives the unit back when it is dropped. A process that is killed does not take
///   its permits along: whoever waits next gives them back. One that is merely stopped keeps them.
/// - [`take`](Self::take) and [`release`](Self::release) only count. Any process may release what another took, or what nobody took;
///   what a process takes and does not release before it dies is gone.
///
/// Both ways draw on the same units, and [`Permit::detach`] leads from the first to the second.
///
/// Cost: without contention a permit is one compare-and-swap and one store, `take` and `release` one compare-and-swap each, no
/// system call. A unit that changes from one way to the other costs two more compare-and-swaps, once. In memory
/// it is 64 bytes and 8 for each permit.
///
/// Fairness: none promised. A unit that is free is taken by whoever comes first.
///
/// ```
/// use procession_core::region::{Membership, Place};
/// use procession_core::sync::{ReleaseError, Semaphore};
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let mut memory = [0; 16];
/// let semaphore = Semaphore::create_bounded(Place::in_memory(&mut memory), 2)?;
///
/// let permit = semaphore.acquire(me)?;
/// semaphore.take(me)?;
/// assert!(semaphore.locked());
/// assert!(semaphore.try_acquire(me).is_err());
///
/// drop(permit);
/// semaphore.release(me, 1)?;
/// assert_eq!(semaphore.value(), 2);
/// assert_eq!(semaphore.release(me, 1), Err(ReleaseError::TooMany { most: 2 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Semaphore<'r> {
    head: &'r Head,
    cells: &'r [AtomicU64],
    /// Where homes are: a power of two less one, and below the number of cells.
    mask: u32,
}

impl fmt::Debug for Semaphore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("value", &self.value())
            .field("bound", &self.bound())
            .finish_non_exhaustive()
    }
}

/// Why there is no semaphore in a place.
#[cfg(not(loom))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SemaphorePlaceError {
    /// It was to start with more units than it can count.
    #[error("a semaphore of this kind has at most {most} units, not {units}")]
    TooManyUnits {
        /// Units asked for.
        units: u32,
        /// The most that it can have.
        most: u32,
    },
    /// No semaphore was made there.
    #[error("no semaphore lies there (word {word:#018x}): attach to what was created as one")]
    Nothing {
        /// What stands there instead.
        word: u64,
    },
    /// The place cannot hold it.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermitError {
    /// No unit was free, and the call was not to wait.
    #[error("no unit of the semaphore is free; try again or wait with a deadline")]
    WouldBlock,
    /// No unit was free until the deadline.
    #[error("no unit of the semaphore was free until the deadline passed")]
    TimedOut,
    /// There are units, but as many permits are held as the semaphore was made for.
    #[error(
        "{most} permits are held, and the semaphore has no room for more: \
         create it with more, or take units without permits"
    )]
    TooManyPermits {
        /// How many it was made for.
        most: u32,
    },
    /// The semaphore's words hold what no semaphore ever holds: its memory was overwritten.
    #[error(
        "the semaphore's memory is damaged (word {word:#018x}); something wrote over it, create the object anew"
    )]
    Corrupt {
        /// What stands there.
        word: u64,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

/// Why an attempt is over without a unit.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// As many permits as there are cells.
    Crowded,
    Corrupt(u64),
}

/// Who wants a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// A permit: it ends in a cell.
    Permit,
    /// Nobody in particular: it goes out.
    Nobody,
}

/// What one look at every cell and the word has brought.
enum Pass {
    /// A unit: for a permit, in this cell.
    Taken(u32),
    /// Something moved, begin again.
    Changed,
    Nothing(Seen),
}

struct Seen {
    digest: u64,
    /// Somebody else has a cell.
    claimed: bool,
    /// There are units, and every cell is held.
    crowded: bool,
}

#[cfg(not(loom))]
impl<'r> Semaphore<'r> {
    /// How many bytes a semaphore takes that starts with `value` units.
    ///
    /// # Errors
    /// [`SemaphorePlaceError::TooManyUnits`] if `value` is above [`MOST_UNITS`].
    pub const fn bytes_for(value: u32) -> Result<u64, SemaphorePlaceError> {
        Self::bytes(value, false)
    }

    /// How many bytes a semaphore takes that never has more than the `value` units that it starts with.
    ///
    /// # Errors
    /// [`SemaphorePlaceError::TooManyUnits`] if `value` is not below [`MOST_UNITS`].
    pub const fn bytes_for_bounded(value: u32) -> Result<u64, SemaphorePlaceError> {
        Self::bytes(value, true)
    }

    /// Makes a semaphore of `value` free units. [`release`](Self::release) may add to them, up to [`MOST_UNITS`]. There is room
    /// for as many permits at a time as it has units at first, but for 16 at least, and 4095 at most.
    ///
    /// # Errors
    /// [`SemaphorePlaceError::TooManyUnits`]; `Place` if it does not fit.
    pub fn create(place: Place<'r>, value: u32) -> Result<Self, SemaphorePlaceError> {
        Self::make(place, value, false)
    }

    /// Makes a semaphore of `value` free units that refuses a [`release`](Self::release) of more than were taken. There is
    /// room for a permit for each unit, but for 4095 at most.
    ///
    /// # Errors
    /// [`SemaphorePlaceError::TooManyUnits`]; `Place` if it does not fit.
    pub fn create_bounded(place: Place<'r>, value: u32) -> Result<Self, SemaphorePlaceError> {
        Self::make(place, value, true)
    }

    /// The semaphore that was made in this place.
    ///
    /// # Errors
    /// [`SemaphorePlaceError::Nothing`] if none was; `Place` if it does not fit.
    pub fn attach(place: Place<'r>) -> Result<Self, SemaphorePlaceError> {
        let head: &Head = place.object(0)?;
        // Acquire meets the Release in `make`.
        let word = head.what.load(Ordering::Acquire);
        let (cells, homes) = (word as u32 & 0xFFFF, word as u32 >> 16);
        if word >> 32 != WHAT
            || cells == 0
            || cells > MOST_CELLS
            || !homes.is_power_of_two()
            || homes > cells
        {
            return Err(SemaphorePlaceError::Nothing { word });
        }
        Ok(Self { head, cells: place.objects(CELLS_AT, u64::from(cells))?, mask: homes - 1 })
    }

    const fn cells(value: u32, bounded: bool) -> u32 {
        let bound = Self::most(value, bounded);
        let wanted = if value < LEAST_CELLS { LEAST_CELLS } else { value };
        let most = if bound < MOST_CELLS { bound } else { MOST_CELLS };
        // One cell at least, that there is a home.
        if most == 0 {
            1
        } else if wanted < most {
            wanted
        } else {
            most
        }
    }

    /// The bound of a semaphore that starts with `value` units.
    const fn most(value: u32, bounded: bool) -> u32 {
        if bounded { value } else { MOST_UNITS }
    }

    const fn bytes(value: u32, bounded: bool) -> Result<u64, SemaphorePlaceError> {
        // One less for a bound, by which the two kinds can be told apart.
        let most = if bounded { MOST_UNITS - 1 } else { MOST_UNITS };
        if value > most {
            return Err(SemaphorePlaceError::TooManyUnits { units: value, most });
        }
        Ok(CELLS_AT + Self::cells(value, bounded) as u64 * size_of::<AtomicU64>() as u64)
    }

    fn make(place: Place<'r>, value: u32, bounded: bool) -> Result<Self, SemaphorePlaceError> {
        let needed = Self::bytes(value, bounded)?;
        if place.bytes() < needed {
            return Err(PlaceError::TooSmall { needed, given: place.bytes() }.into());
        }
        let count = Self::cells(value, bounded);
        let head: &Head = place.object(0)?;
        let cells: &[AtomicU64] = place.objects(CELLS_AT, u64::from(count))?;
        // An eventcount at which nobody waits is zero.
        let event: &AtomicU32 = place.object(core::mem::offset_of!(Head, event) as u64)?;
        // First there is none, so that nobody attaches to one that is being overwritten: who sees a store below sees this.
        head.what.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        // Units start in cells, where permits find them; who takes them without finds them there as well.
        let celled = value.min(count);
        for (index, cell) in cells.iter().enumerate() {
            let new = if (index as u32) < celled { Cell::FREE } else { Cell::EMPTY };
            cell.store(new.0, Ordering::Relaxed);
        }
        head.word.store(Word::new(value - celled, celled).0, Ordering::Relaxed);
        event.store(0, Ordering::Relaxed);
        head.bound.store(Self::most(value, bounded), Ordering::Relaxed);
        // Homes are where units are.
        let homes = 1 << celled.max(1).ilog2();
        // Release meets the Acquire in `attach`.
        head.what.store(WHAT << 32 | u64::from(homes) << 16 | u64::from(count), Ordering::Release);
        Ok(Self { head, cells, mask: homes - 1 })
    }
}

impl<'r> Semaphore<'r> {
    /// Waits for a unit as long as it takes.
    ///
    /// # Errors
    /// `TooManyPermits`; `Corrupt`; `Join`.
    #[inline]
    pub fn acquire(&self, me: Member<'r>) -> Result<Permit<'r>, PermitError> {
        self.acquire_until(me, Deadline::NEVER)
    }

    /// Takes a unit if one is free, or if the holder of one is dead (asked at most once a millisecond).
    ///
    /// # Errors
    /// [`PermitError::WouldBlock`] if there was a moment without a free unit; `TooManyPermits`; `Corrupt`; `Join`.
    #[inline]
    pub fn try_acquire(&self, me: Member<'r>) -> Result<Permit<'r>, PermitError> {
        match self.acquire_until(me, Deadline::NOW) {
            Err(PermitError::TimedOut) => Err(PermitError::WouldBlock),
            answer => answer,
        }
    }

    /// Waits for a unit until `deadline`.
    ///
    /// # Errors
    /// [`PermitError::TimedOut`]; `TooManyPermits`; `Corrupt`; `Join`.
    #[inline]
    pub fn acquire_until(
        &self,
        me: Member<'r>,
        deadline: Deadline,
    ) -> Result<Permit<'r>, PermitError> {
        let tag = me.tag()?;
        let home = self.cells.get(self.home(tag)).and_then(|cell| {
            // Relaxed: only what the compare-and-swap confirms counts.
            let now = Cell(cell.load(Ordering::Relaxed));
            let held = now.take(tag);
            // Acquire meets the Release of `Permit::drop`: what its holder did is visible.
            let taken = now.is_free()
                && cell
                    .compare_exchange(now.0, held.0, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok();
            taken.then_some((cell, held))
        });
        let (cell, held) = match home {
            Some(taken) => taken,
            None => self.wait_for_permit(me, tag, deadline)?,
        };
        // Made of parts in registers at one place: one that came through memory from one of two ways would be copied
        // through memory on both, which costs more than the semaphore.
        Ok(Permit { head: self.head, cells: self.cells, me, cell, held, tag })
    }

    /// A cell that this process holds, and what stands there.
    #[cold]
    fn wait_for_permit(
        &self,
        me: Member<'_>,
        tag: Tag,
        deadline: Deadline,
    ) -> Result<(&'r AtomicU64, Cell), PermitError> {
        match self.contend(me, tag, deadline, For::Permit) {
            Some(Ok(index)) => {
                let cell = &self.cells[index as usize];
                // Relaxed: this process wrote it.
                Ok((cell, Cell(cell.load(Ordering::Relaxed))))
            }
            Some(Err(Fault::Crowded)) => {
                Err(PermitError::TooManyPermits { most: self.cells.len() as u32 })
            }
            Some(Err(Fault::Corrupt(word))) => Err(PermitError::Corrupt { word }),
            None => Err(PermitError::TimedOut),
        }
    }

    /// Waits for a unit as long as it takes, and takes it out: it belongs to nobody, and comes back by
    /// [`release`](Self::release) alone. If the process dies with it, it is gone: a [`Permit`] is not.
    ///
    /// # Errors
    /// `Corrupt`; `Join`.
    #[inline]
    pub fn take(&self, me: Member<'r>) -> Result<(), WaitError> {
        self.take_until(me, Deadline::NEVER)
    }

    /// Takes a unit out if one is free, or if the holder of one is dead (asked at most once a millisecond).
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`] if there was a moment without a free unit; `Corrupt`; `Join`.
    #[inline]
    pub fn try_take(&self, me: Member<'r>) -> Result<(), WaitError> {
        self.take_until(me, Deadline::NOW).map_err(WaitError::at_once)
    }

    /// Waits until `deadline` for a unit to take out.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; `Corrupt`; `Join`.
    #[inline]
    pub fn take_until(&self, me: Member<'r>, deadline: Deadline) -> Result<(), WaitError> {
        let tag = me.tag()?;
        // Relaxed: only what the compare-and-swap confirms counts.
        let word = Word(self.head.word.load(Ordering::Relaxed));
        if let Some(less) = word.take()
            && self.exchange(word, less)
        {
            return Ok(());
        }
        match self.contend(me, tag, deadline, For::Nobody) {
            Some(Ok(_)) => Ok(()),
            // Only a permit needs a cell.
            Some(Err(Fault::Crowded)) => Err(WaitError::Corrupt { word: word.0 }),
            Some(Err(Fault::Corrupt(word))) => Err(WaitError::Corrupt { word }),
            None => Err(WaitError::TimedOut),
        }
    }

    /// Puts `units` into the count, all or none; who took them does not matter, and nobody has to have.
    ///
    /// # Errors
    /// [`ReleaseError::TooMany`] if there would be more than the bound: nothing has changed then. `Corrupt`.
    #[inline]
    pub fn release(&self, me: Member<'_>, units: u32) -> Result<(), ReleaseError> {
        if units == 0 {
            return Ok(());
        }
        self.add(units)?;
        if units == 1 {
            self.head.event.notify_one(me);
        } else {
            self.head.event.notify_all(me);
        }
        Ok(())
    }

    fn add(&self, units: u32) -> Result<(), ReleaseError> {
        let bound = self.bound();
        // Relaxed: only what the compare-and-swap confirms counts.
        let mut word = self.head.word.load(Ordering::Relaxed);
        for _ in 0..FUEL {
            let now = Word(word);
            self.check(now).map_err(|word| ReleaseError::Corrupt { word })?;
            if units > bound - now.celled() - now.spare() {
                return Err(ReleaseError::TooMany { most: bound });
            }
            // Release meets the Acquire of whoever takes a unit from the count.
            match self.head.word.compare_exchange(
                word,
                now.add(units).0,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(other) => word = other,
            }
        }
        Err(ReleaseError::Corrupt { word })
    }

    /// How many units were free at some moment of the call. Those of dead holders are not, until somebody waits for them.
    #[must_use]
    pub fn value(&self) -> u32 {
        let mut last = None;
        let mut value = 0;
        for _ in 0..PASSES {
            let mut digest = 0;
            let mut free = 0;
            for cell in self.cells {
                let now = Cell(cell.load(Ordering::Acquire));
                free += u32::from(now.is_free());
                digest = mix(digest, now.0);
            }
            let word = Word(self.head.word.load(Ordering::Acquire));
            digest = mix(digest, word.0);
            value = word.spare().saturating_add(free);
            if last == Some(digest) {
                break;
            }
            last = Some(digest);
        }
        value
    }

    /// Whether no unit was free at some moment of the call.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.value() == 0
    }

    /// The most units that there can be.
    #[must_use]
    pub fn bound(&self) -> u32 {
        self.head.bound.load(Ordering::Relaxed) & MOST_UNITS
    }

    /// Whether a release of more than were taken is refused.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.bound() < MOST_UNITS
    }

    /// How many permits can be held at a time.
    #[must_use]
    pub fn most_permits(&self) -> u32 {
        self.cells.len() as u32
    }

    /// Which processes hold permits now, the dead included; one that holds several comes as often. For people to read.
    pub fn holders(&self, me: Member<'r>) -> impl Iterator<Item = Who> + 'r {
        // Relaxed: as of about now.
        let words = self.cells.iter().map(|cell| Cell(cell.load(Ordering::Relaxed)));
        words
            .filter(|now| now.state() == Some(State::Held))
            .filter_map(move |now| me.who(now.owner()?))
    }

    /// Where a process looks first. Neighbours in the table of participants are neighbours here while there are few homes, and
    /// on different cache lines as soon as there are enough.
    #[inline]
    fn home(&self, tag: Tag) -> usize {
        (tag.bits().wrapping_mul(9) & self.mask) as usize
    }

    #[cold]
    fn contend(
        &self,
        me: Member<'_>,
        tag: Tag,
        deadline: Deadline,
        who: For,
    ) -> Option<Result<u32, Fault>> {
        let event = &self.head.event;
        // First without the question, which is saved for when it is needed.
        let answer = self.attempt(me, tag, who, false).or_else(|| {
            event.wait(me, deadline, Pace::Polite, |ask| self.attempt(me, tag, who, ask))
        });
        if matches!(answer, Some(Err(Fault::Crowded))) {
            // The unit stays: somebody who needs no cell may be waiting for it.
            event.notify_one(me);
        }
        answer
    }

    /// One try, repair included. `None`: no unit is free.
    fn attempt(&self, me: Member<'_>, tag: Tag, who: For, ask: bool) -> Option<Result<u32, Fault>> {
        let mut last = None;
        let mut asked = false;
        for _ in 0..PASSES {
            let seen = match self.pass(me, tag, who) {
                Ok(Pass::Taken(index)) => return Some(Ok(index)),
                Ok(Pass::Changed) => {
                    last = None;
                    continue;
                }
                Ok(Pass::Nothing(seen)) => seen,
                Err(fault) => return Some(Err(fault)),
            };
            if last != Some(seen.digest) {
                last = Some(seen.digest);
            } else if seen.claimed && !asked && (ask || seen.crowded) {
                asked = true;
                match self.repair(me) {
                    Ok(true) => last = None,
                    Ok(false) => {}
                    Err(fault) => return Some(Err(fault)),
                }
            } else {
                return seen.crowded.then_some(Err(Fault::Crowded));
            }
        }
        None
    }

    /// Looks at every cell, then at the word, and takes the first unit that it finds.
    fn pass(&self, me: Member<'_>, tag: Tag, who: For) -> Result<Pass, Fault> {
        let home = self.home(tag).min(self.cells.len());
        let mut seen = Seen { digest: 0, claimed: false, crowded: false };
        let mut empty = None;
        let (mut changed, mut moving) = (false, false);
        for index in (home..self.cells.len()).chain(0..home) {
            let cell = &self.cells[index];
            // Acquire: who begins a move here must not find the word older than the last move of this cell.
            let now = Cell(cell.load(Ordering::Acquire));
            let index = index as u32;
            seen.digest = mix(seen.digest, now.0);
            match now.state().ok_or(Fault::Corrupt(now.0))? {
                State::Empty if empty.is_none() => empty = Some((index, now)),
                State::Empty => {}
                State::Free if who == For::Permit => {
                    // Acquire meets the Release of `Permit::drop`.
                    let held = now.held(tag).0;
                    match cell.compare_exchange(now.0, held, Ordering::Acquire, Ordering::Relaxed) {
                        Ok(_) => return Ok(Pass::Taken(index)),
                        Err(_) => changed = true,
                    }
                }
                State::Free => match self.begin(index, now, |cell| cell.leaving(tag)) {
                    Some(leaving) => {
                        self.leave(me, index, leaving)?;
                        return Ok(Pass::Taken(index));
                    }
                    None => changed = true,
                },
                State::Held => seen.claimed |= now.owner() != Some(tag),
                State::Taking | State::Leaving => {
                    seen.claimed |= now.owner() != Some(tag);
                    moving = true;
                }
            }
        }
        // Acquire: as every load of the word on which a cell's fate depends.
        let word = Word(self.head.word.load(Ordering::Acquire));
        seen.digest = mix(seen.digest, word.0);
        self.check(word).map_err(Fault::Corrupt)?;
        if word.spare() > 0 {
            match (who, empty) {
                (For::Nobody, _) => match word.take() {
                    Some(less) if self.exchange(word, less) => return Ok(Pass::Taken(0)),
                    _ => changed = true,
                },
                (For::Permit, Some((index, now))) => {
                    if self.bring(me, tag, index, now)? {
                        return Ok(Pass::Taken(index));
                    }
                    changed = true;
                }
                // A cell that somebody moves to or from may be there again in a moment.
                (For::Permit, None) => seen.crowded = !moving,
            }
        }
        Ok(if changed { Pass::Changed } else { Pass::Nothing(seen) })
    }

    /// Takes a unit out of the count, if the word is still that.
    #[inline]
    fn exchange(&self, word: Word, less: Word) -> bool {
        // Acquire meets the Release of whoever put the unit there.
        self.head
            .word
            .compare_exchange(word.0, less.0, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Moves a unit from the count into this empty cell, for a permit. `false`: the cell or the unit was taken by another.
    fn bring(&self, me: Member<'_>, tag: Tag, index: u32, empty: Cell) -> Result<bool, Fault> {
        let Some(taking) = self.begin(index, empty, |cell| cell.taking(tag)) else {
            return Ok(false);
        };
        self.bring_on(me, tag, index, taking)
    }

    /// The rest of it, with the cell TAKING by my hand.
    fn bring_on(&self, me: Member<'_>, tag: Tag, index: u32, taking: Cell) -> Result<bool, Fault> {
        let brought = self.rename(index, taking, Word::bring)?;
        let cell = &self.cells[index as usize];
        if brought {
            // Nobody else changes it any more but by helping, to the same. Release: see `begin`.
            cell.store(taking.held(tag).0, Ordering::Release);
        } else {
            // Not named, so nobody helped. Release: see `begin`.
            cell.store(taking.empty().0, Ordering::Release);
        }
        self.at_rest(me);
        Ok(brought)
    }

    /// After a cell was in a move. Meanwhile some may have been woken for units in the count, have seen no cell for them but this
    /// one, and sleep again: each can go on now, or leave the unit to one who needs no cell.
    fn at_rest(&self, me: Member<'_>) {
        // Who sleeps again has fenced before it looked at the cell: it has seen this one at rest, or its unit is seen here.
        me.fences().light();
        // Relaxed: behind the fence.
        if Word(self.head.word.load(Ordering::Relaxed)).spare() > 0 {
            self.head.event.notify_all(me);
        }
    }

    /// Moves the unit of this cell, which is LEAVING by my hand, out.
    fn leave(&self, me: Member<'_>, index: u32, leaving: Cell) -> Result<(), Fault> {
        if !self.rename(index, leaving, Word::leave)? {
            return Err(Fault::Corrupt(leaving.0));
        }
        // Exactly from that value: if a helper was faster, the cell may be another's by now. Release: see `begin`.
        let _ = self.cells[index as usize].compare_exchange(
            leaving.0,
            leaving.empty().0,
            Ordering::Release,
            Ordering::Relaxed,
        );
        self.at_rest(me);
        Ok(())
    }

    /// Begins a move: the cell goes from `now` to what `state` makes of it, with a nonce that the word does not name. `None`: it is
    /// no longer `now`.
    fn begin(&self, index: u32, now: Cell, state: impl Fn(Cell) -> Cell) -> Option<Cell> {
        let mut next = state(now.next());
        // Relaxed, for the caller has loaded the cell with Acquire, and every change of a cell is a Release or continues one: so
        // this is no older than the last move of this cell. Only moves of this cell write its name.
        if Word(self.head.word.load(Ordering::Relaxed)).names(index, next.nonce()) {
            next = state(now.next().next());
        }
        // Acquire meets the Release of `Permit::drop`, if the unit was free. Release: who finds this move finds the word no older
        // than it was here; else a helper might go by an old name that looks the same.
        self.cells[index as usize]
            .compare_exchange(now.0, next.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
            .then_some(next)
    }

    /// Changes the counts and writes the name of this move. `false`: `change` was not possible.
    fn rename(
        &self,
        index: u32,
        moving: Cell,
        change: impl Fn(Word) -> Option<Word>,
    ) -> Result<bool, Fault> {
        for _ in 0..FUEL {
            // Acquire meets the Release below: the cell that the word names is seen in the midst of its move, or later.
            let word = Word(self.head.word.load(Ordering::Acquire));
            self.check(word).map_err(Fault::Corrupt)?;
            let Some(next) = change(word) else { return Ok(false) };
            self.help(word);
            let next = next.named(index, moving.nonce());
            // Acquire meets the Release of whoever put the unit into the count. Release: who reads the name sees the
            // cell, and what this helper did.
            if self
                .head
                .word
                .compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(true);
            }
        }
        Err(Fault::Corrupt(self.head.word.load(Ordering::Relaxed)))
    }

    /// Makes the cell that `word` names show that its move is done.
    fn help(&self, word: Word) {
        let Some(cell) = self.cells.get(word.cell() as usize) else { return };
        let now = Cell(cell.load(Ordering::Acquire));
        let done = match (now.state(), now.owner()) {
            (Some(State::Taking), Some(owner)) => now.held(owner),
            (Some(State::Leaving), _) => now.empty(),
            _ => return,
        };
        if !word.names(word.cell(), now.nonce()) {
            return;
        }
        // If this process was stopped between the two loads, the cell may be in a later move whose nonce looks the
        // same; then the word has moved on as well.
        if Word(self.head.word.load(Ordering::Acquire)).same_name(word) {
            // Release: see `begin`. Failure: its owner was faster, or another helper.
            let _ = cell.compare_exchange(now.0, done.0, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// Gives back what the dead hold, and ends their moves. Whether there was anything.
    #[cold]
    fn repair(&self, me: Member<'_>) -> Result<bool, Fault> {
        let mut living = Living::default();
        let mut found = false;
        for (index, cell) in self.cells.iter().enumerate() {
            let now = Cell(cell.load(Ordering::Acquire));
            now.state().ok_or(Fault::Corrupt(now.0))?;
            let Some(owner) = now.owner() else { continue };
            match living.verdict(me, owner) {
                Verdict::Alive => {}
                Verdict::Dead if self.settle(index as u32, now) => {
                    trace::recovered("Semaphore", me, owner);
                    found = true;
                }
                Verdict::Dead => {}
                Verdict::Corrupt => return Err(Fault::Corrupt(now.0)),
            }
        }
        if found {
            self.head.event.notify_all(me);
        }
        Ok(found)
    }

    /// Ends what a dead process was about in this cell. `false`: somebody else has.
    fn settle(&self, index: u32, now: Cell) -> bool {
        // After the verdict, with which the last change that the dead one made is visible. If it moved and another has
        // moved since, that one has helped, and the cell is no longer `now`.
        let moved = Word(self.head.word.load(Ordering::Acquire)).names(index, now.nonce());
        let next = match (now.state(), moved) {
            (Some(State::Held), _) => now.free(),
            (Some(State::Taking), true) | (Some(State::Leaving), false) => now.free(),
            (Some(State::Taking), false) | (Some(State::Leaving), true) => now.empty(),
            _ => return false,
        };
        // Release: see `begin`, and what the dead one did under its permit goes to the next.
        self.cells[index as usize]
            .compare_exchange(now.0, next.next().0, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// `Err` with the word if no semaphore of this size and bound can hold it.
    fn check(&self, word: Word) -> Result<(), u64> {
        let cells = self.cells.len() as u32;
        let sound = word.celled() <= cells
            && word.cell() < cells
            && word.spare().saturating_add(word.celled()) <= self.bound();
        if sound { Ok(()) } else { Err(word.0) }
    }
}

/// Ready when a unit is free, or the holder of one is dead.
impl Waitable for Semaphore<'_> {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        // Damage included: taking one says so.
        self.value() > 0 || (ask && !matches!(self.repair(me), Ok(false)))
    }

    fn sleepers(&self) -> &Eventcount {
        &self.head.event
    }
}

/// One word more in a digest of words: rotated and multiplied, so that order and every bit count.
fn mix(digest: u64, word: u64) -> u64 {
    (digest.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A unit of a semaphore, as long as this lives. Dropping it gives the unit back: a store, and a system call only if somebody
/// sleeps. If its process dies, whoever waits for a unit gives it back.
///
/// It may be moved to, and dropped by, another thread of the process. One that a forked child has inherited is its parent's
/// still: dropping it does nothing.
#[must_use = "the unit is given back at once if the permit is dropped"]
#[derive(Debug)]
pub struct Permit<'r> {
    head: &'r Head,
    cells: &'r [AtomicU64],
    me: Member<'r>,
    cell: &'r AtomicU64,
    held: Cell,
    tag: Tag,
}

impl Permit<'_> {
    /// Takes the unit out: it is nobody's from now on, and comes back by [`Semaphore::release`] alone.
    ///
    /// # Errors
    /// [`ReleaseError::NotHeld`] for a permit that this process has inherited over fork; `Corrupt`.
    pub fn detach(self) -> Result<(), ReleaseError> {
        let permit = core::mem::ManuallyDrop::new(self);
        let Permit { head, cells, me, cell, held, tag } = &*permit;
        let semaphore = Semaphore { head, cells, mask: 0 };
        if !me.is(*tag) {
            return Err(ReleaseError::NotHeld);
        }
        let offset = core::ptr::from_ref(*cell).addr() - semaphore.cells.as_ptr().addr();
        let index = (offset / size_of::<AtomicU64>()) as u32;
        let leaving = semaphore
            .begin(index, *held, |cell| cell.leaving(*tag))
            .ok_or_else(|| ReleaseError::Corrupt { word: cell.load(Ordering::Relaxed) })?;
        semaphore.leave(*me, index, leaving).map_err(|fault| ReleaseError::Corrupt {
            word: match fault {
                Fault::Corrupt(word) => word,
                Fault::Crowded => leaving.0,
            },
        })
    }

    /// The word is not as this permit wrote it, or this process is not the one that acquired. Takes parts, so that a permit
    /// need not be in memory.
    #[cold]
    fn drop_strange(head: &Head, me: Member<'_>, cell: &AtomicU64, tag: Tag) {
        if me.is(tag) {
            // The next call that comes by reports it, and so do those that wait.
            cell.store(Cell::DAMAGED.0, Ordering::Release);
            head.event.notify_all(me);
        }
        // Else: inherited over fork. The parent holds the unit and gives it back.
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        let Self { head, me, cell, held, tag, .. } = *self;
        // Relaxed: nobody but the holder changes the cell.
        if cell.load(Ordering::Relaxed) == held.0 && me.is(tag) {
            // Release meets the Acquire of the next holder.
            cell.store(held.give(tag).0, Ordering::Release);
            head.event.notify_one(me);
        } else {
            Self::drop_strange(head, me, cell, tag);
        }
    }
}

/// A semaphore on the heap, for the model checker.
#[cfg(loom)]
#[derive(Debug)]
pub struct Heap {
    head: Head,
    cells: std::vec::Vec<AtomicU64>,
}

#[cfg(loom)]
impl Heap {
    /// So many free units in the count and in cells, so many cells. The word names a move as the first cell would make it
    /// next, as it does when the nonces in names have come round.
    #[must_use]
    pub fn new(spare: u32, celled: u32, bound: u32, cells: u32) -> Self {
        let cell = |index| if index < celled { Cell::FREE } else { Cell::EMPTY };
        Self {
            head: Head {
                word: AtomicU64::new(Word::new(spare, celled).named(0, 1).0),
                event: Eventcount::new(),
                bound: AtomicU32::new(bound),
                what: AtomicU64::new(0),
            },
            cells: (0..cells).map(|index| AtomicU64::new(cell(index).0)).collect(),
        }
    }

    /// The semaphore.
    #[must_use]
    pub fn semaphore(&self) -> Semaphore<'_> {
        let cells = &self.cells[..];
        Semaphore { head: &self.head, cells, mask: (1 << cells.len().ilog2()) - 1 }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
