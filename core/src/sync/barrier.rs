//! A meeting point that does not wait for the dead.
//!
//! Generations follow each other; in each so many parties arrive, and all pass together. One word decides, and a row of
//! cells says who has arrived:
//!
//! ```text
//! word    generation 31 | phase 3 | tag 30
//! cells   two rows, a cell for each party: generation 31 | 0 3 | tag 30; generation g arrives in row g % 2
//! notes   16 words: generation 31 | 1, a generation that was broken and then reset
//! ```
//!
//! ```text
//! arrival: the first cell of the row that is not of this generation → (g, me), one compare-and-swap
//! NEW(g), AGAIN(g)             they arrive
//!         → AGAIN(g+1)         by who took the last cell and has no action: all pass
//!         → ACTION(g, o)       by who took the last cell and has one
//! ACTION(g, o) → AGAIN(g+1)    by o after the action: all pass
//! any of these → BROKEN(g, o)  four phases, one for each reason: o has aborted it, waited too long, died, or failed in the
//!                              action
//! BROKEN(g, o) → NEW(g+1)      by a reset, which notes g first
//! any but these → RESET(g, o)  by a reset while others wait, or somebody is expected
//! RESET(g, o) → NEW(g+1)       by whoever comes next, as above
//! ```
//!
//! - The number of the cell is the index that `wait` returns. Cells of a generation fill in order: who takes one has
//!   seen the one before it filled. So the row says how many have arrived, by bisection, and who takes the last cell knows that
//!   it is the last, and that it sees what all others had written before they came.
//! - Whether a generation was passed or broken is decided by one compare-and-swap of the word, by whoever comes first: the
//!   last arrival, a deadline, an abort, a death. All the others find the same answer.
//! - A waiter leaves when the word is no longer of its generation: passed, unless the notes say that the generation was
//!   broken and reset before the waiter looked. A note is overwritten 16 generations later at the earliest; whoever is
//!   that late, and finds a later note in its place, hears "reset".
//! - Deaths: the cells name all who have arrived, the word names who acts; dead is dead, whether the process meant to end or
//!   not. AGAIN also expects those who passed the last generation: one of them that is dead and has not said that it
//!   would leave ([`Member::leave`]) breaks the barrier too. Who has never passed it is known to nobody, and so is who has
//!   left: others may come in their place. In NEW nobody is expected.
//! - Nobody gets stuck: a sleeper looks again in slices, and asks whether those are alive on whom it waits, some at a time;
//!   the first that finds a dead one breaks it for all. The last arrival may die before it moves the word: its
//!   cell names it. Who breaks, passes, or resets and dies before it wakes the others has done it; they look again by
//!   themselves. What a reset has begun, anybody ends.
//! - A cell is taken by compare-and-swap from exactly what was there, and only if that is of an older generation: who
//!   was stopped for long between two steps cannot take a cell of those who came later. (After 2³¹ generations the
//!   numbers come round; who sleeps through 2³⁰ of them, which takes minutes at least, may be mistaken.)

use core::convert::Infallible;
use core::fmt;

use crate::region::{JoinError, Member, Tag, Verdict, Who};
#[cfg(not(loom))]
use crate::region::{Place, PlaceError, Shareable};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::spin::Pace;
use crate::sys::{Deadline, trace};
use crate::wait::Eventcount;

/// How many bits count generations.
const GENERATION_BITS: u32 = 31;
const GENERATION: u32 = (1 << GENERATION_BITS) - 1;
const GENERATION_SHIFT: u32 = u64::BITS - GENERATION_BITS;
const PHASE_SHIFT: u32 = 30;
/// Stands in a note beside its generation: all zero is no note.
const NOTED: u32 = 1;
const NOTES: usize = 16;
/// How often, in generations, notes that are older than [`OLD`] are erased, before their numbers come round.
const CLEANING: u32 = 1 << 20;
const OLD: u32 = 1 << 29;
/// About how many parties one look asks the kernel.
const ASKED_AT_ONCE: usize = 64;

/// Tells a barrier from other memory; in the upper bits, the number of parties below.
#[cfg(not(loom))]
const MAGIC: u32 = 0xBA77_1000;
const PARTIES_BITS: u32 = 12;
/// The most parties that a barrier can have.
pub const MOST_PARTIES: u32 = (1 << PARTIES_BITS) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Again,
    Action,
    Broken(Reason),
}

impl Phase {
    fn read(bits: u64) -> Self {
        match bits & 7 {
            0 => Self::New,
            1 => Self::Again,
            2 => Self::Action,
            3 => Self::Broken(Reason::Aborted),
            4 => Self::Broken(Reason::TimedOut),
            5 => Self::Broken(Reason::Died),
            6 => Self::Broken(Reason::ActionFailed),
            _ => Self::Broken(Reason::Reset),
        }
    }

    fn bits(self) -> u64 {
        match self {
            Self::New => 0,
            Self::Again => 1,
            Self::Action => 2,
            Self::Broken(Reason::Aborted) => 3,
            Self::Broken(Reason::TimedOut) => 4,
            Self::Broken(Reason::Died) => 5,
            Self::Broken(Reason::ActionFailed) => 6,
            Self::Broken(Reason::Reset) => 7,
        }
    }
}

/// The word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    generation: u32,
    phase: Phase,
    /// Who acts, has broken or reset it.
    by: Option<Tag>,
}

impl State {
    fn read(word: u64) -> Result<Self, BarrierError> {
        let phase = Phase::read(word >> PHASE_SHIFT);
        let by = Tag::from_bits(word as u32);
        let named = word as u32 & Tag::MASK != 0;
        let right = match phase {
            Phase::New | Phase::Again => !named,
            Phase::Action | Phase::Broken(_) => by.is_some(),
        };
        if !right {
            return Err(BarrierError::Corrupt { word });
        }
        Ok(Self { generation: (word >> GENERATION_SHIFT) as u32, phase, by })
    }

    fn word(self) -> u64 {
        u64::from(self.generation) << GENERATION_SHIFT
            | self.phase.bits() << PHASE_SHIFT
            | u64::from(self.by.map_or(0, Tag::bits))
    }

    /// The next generation, in this phase.
    fn next(self, phase: Phase) -> Self {
        Self { generation: self.generation.wrapping_add(1) & GENERATION, phase, by: None }
    }

    /// The same generation, broken.
    fn broken(self, reason: Reason, by: Tag) -> Self {
        Self { phase: Phase::Broken(reason), by: Some(by), ..self }
    }
}

/// How far a generation is ahead of another, modulo their number.
fn ahead(generation: u32, of: u32) -> u32 {
    generation.wrapping_sub(of) & GENERATION
}

/// Whether a generation is later than another.
fn is_later(generation: u32, than: u32) -> bool {
    let ahead = ahead(generation, than);
    ahead != 0 && ahead < 1 << (GENERATION_BITS - 1)
}

/// Why a barrier is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Somebody called [`Barrier::abort`].
    Aborted,
    /// Somebody waited until its deadline.
    TimedOut,
    /// Somebody who had arrived, or was expected again, has died.
    Died,
    /// The action returned an error or panicked.
    ActionFailed,
    /// Somebody called [`Barrier::reset`] while others waited: their generation is broken, the next one is not.
    Reset,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aborted => "aborted",
            Self::TimedOut => "one of those who waited gave up",
            Self::Died => "one of its parties died",
            Self::ActionFailed => "its action failed",
            Self::Reset => "reset while others waited",
        })
    }
}

/// Why a barrier is broken, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Why.
    pub reason: Reason,
    /// The process that aborted, gave up, died, failed, or reset; `None` if nobody remembers it.
    pub who: Option<Who>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Some(who) => write!(f, "{} ({who})", self.reason),
            None => write!(f, "{}", self.reason),
        }
    }
}

/// Why a wait at a barrier did not pass. `E` is the error of the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError<E = Infallible> {
    /// Somebody broke it, for all who waited and all who come, until a reset.
    #[error("the barrier is broken: {0}; reset it once its parties are in order")]
    Broken(Broken),
    /// The deadline passed. If this call had arrived, the barrier is broken now for all others; if it was still
    /// waiting for an earlier generation to leave, nothing has changed.
    #[error("the other parties had not arrived when the deadline passed")]
    TimedOut,
    /// Others are still missing, and the call was not to wait. Nothing has changed.
    #[error("other parties have not arrived yet; wait, or try again")]
    WouldBlock,
    /// The action failed, in this call; the barrier is broken now for all others.
    #[error("the barrier's action failed: {0}")]
    Action(E),
    /// The barrier holds what no barrier ever holds: its memory was overwritten.
    #[error(
        "the barrier's memory is damaged (word {word:#018x}); something wrote over it, create it anew"
    )]
    Corrupt {
        /// What stands there.
        word: u64,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

impl<E> BarrierError<E> {
    /// The same with another error of the action, made of this one.
    pub fn map_action<F>(self, map: impl FnOnce(E) -> F) -> BarrierError<F> {
        match self {
            Self::Broken(broken) => BarrierError::Broken(broken),
            Self::TimedOut => BarrierError::TimedOut,
            Self::WouldBlock => BarrierError::WouldBlock,
            Self::Action(error) => BarrierError::Action(map(error)),
            Self::Corrupt { word } => BarrierError::Corrupt { word },
            Self::Join(error) => BarrierError::Join(error),
        }
    }
}

/// The same, where an action could have failed and has not.
fn beside_action<E>(error: BarrierError) -> BarrierError<E> {
    error.map_action(|never| match never {})
}

/// Why a barrier cannot be made or attached to.
#[cfg(not(loom))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierPlaceError {
    /// So many parties cannot meet.
    #[error("a barrier is for 1 to {MOST_PARTIES} parties, not for {parties}")]
    Parties {
        /// Parties asked for.
        parties: u32,
    },
    /// No barrier was made there.
    #[error("there is no barrier ({word:#010x}): attach to what `Barrier::create` has made")]
    Nothing {
        /// What stands there.
        word: u32,
    },
    /// The place cannot hold it.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// What stands before the cells. All zero: nobody has arrived yet.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct BarrierHead {
    word: AtomicU64,
    event: Eventcount,
    /// `MAGIC | parties`; not used after attaching.
    what: AtomicU32,
    notes: [AtomicU32; NOTES],
    /// Who arrives writes to the cells; that shall not disturb those who look at the word.
    padding: [AtomicU32; 12],
}

#[cfg(not(loom))]
// SAFETY: a repr(C) struct of atomics for which all zero, and every other pattern, is valid.
unsafe impl Shareable for BarrierHead {}

#[cfg(not(loom))]
const CELLS_AT: u64 = size_of::<BarrierHead>() as u64;
const _: () = assert!(cfg!(loom) || size_of::<BarrierHead>() == 128);

#[cfg(loom)]
impl Default for BarrierHead {
    fn default() -> Self {
        Self {
            word: AtomicU64::new(0),
            event: Eventcount::new(),
            what: AtomicU32::new(0),
            notes: core::array::from_fn(|_| AtomicU32::new(0)),
            padding: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

/// A point at which a fixed number of parties wait for each other, again and again: `multiprocessing.Barrier`.
///
/// A party is a thread; its process may have several. Each call of [`wait`](Self::wait) returns when as many have arrived as
/// there are parties, with an index that no other has: 0 for the first to arrive. What a party wrote before it came, all
/// can read after it.
///
/// A barrier breaks for all at once, those who wait and those who come, when one of them waits past its
/// deadline, when somebody [aborts](Self::abort) it, when the action fails, and when a party dies: one that has arrived, or
/// one that took part the last time and ended without [saying](Member::leave) that it would. Somebody must be waiting for a
/// death to be noticed, which takes some milliseconds, or a quarter of a second if it has waited long. A party that dies
/// before it ever arrived is known to nobody: give the others a deadline. [`reset`](Self::reset) makes
/// the barrier new.
///
/// This is a view of it: two words, copied freely. It takes [`bytes_for`](Self::bytes_for) its parties.
///
/// Cost: to arrive is one compare-and-swap; the last one makes another and wakes who sleeps, with one system call.
///
/// ```
/// use procession_core::region::{Membership, Place};
/// use procession_core::sync::Barrier;
///
/// let seat = Membership::private();
/// let mut memory = [0u64; 20];
/// let barrier = Barrier::create(Place::in_memory(&mut memory), 2)?;
/// let (mine, theirs) = std::thread::scope(|scope| {
///     let other = scope.spawn(|| barrier.wait(seat.member()));
///     (barrier.wait(seat.member()).unwrap(), other.join().unwrap().unwrap())
/// });
/// assert_eq!(mine + theirs, 1);
/// # Ok::<(), procession_core::sync::BarrierPlaceError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Barrier<'r> {
    head: &'r BarrierHead,
    cells: &'r [AtomicU64],
}

impl fmt::Debug for Barrier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Barrier");
        f.field("parties", &self.parties());
        match self.state() {
            Ok(State { phase: Phase::Broken(reason), .. }) if reason != Reason::Reset => {
                f.field("broken", &reason)
            }
            Ok(_) => f.field("waiting", &self.n_waiting()),
            Err(_) => f.field("damaged", &true),
        };
        f.finish()
    }
}

/// What became of an arrival.
enum Arrival {
    /// It has this cell of the generation that this word is of.
    Arrived(State, usize),
    /// All of this generation are there, and have not left yet.
    Full(State),
    /// It would not be the last one, and was to arrive only as that.
    Early(State),
}

impl<'r> Barrier<'r> {
    /// How many bytes a barrier for so many parties takes, from a multiple of [`ALIGN`](crate::region::ALIGN).
    ///
    /// # Errors
    /// [`BarrierPlaceError::Parties`] if there are none or more than [`MOST_PARTIES`].
    #[cfg(not(loom))]
    pub const fn bytes_for(parties: u32) -> Result<u64, BarrierPlaceError> {
        if parties == 0 || parties > MOST_PARTIES {
            return Err(BarrierPlaceError::Parties { parties });
        }
        Ok(CELLS_AT + 2 * parties as u64 * size_of::<AtomicU64>() as u64)
    }

    /// Makes a barrier for so many parties, whatever the memory held before. Nobody else may use this memory meanwhile.
    ///
    /// # Errors
    /// [`BarrierPlaceError::Parties`], [`BarrierPlaceError::Place`].
    #[cfg(not(loom))]
    pub fn create(place: Place<'r>, parties: u32) -> Result<Self, BarrierPlaceError> {
        let needed = Self::bytes_for(parties)?;
        if needed > place.bytes() {
            return Err(PlaceError::TooSmall { needed, given: place.bytes() }.into());
        }
        let head = place.object::<BarrierHead>(0)?;
        head.what.store(0, Ordering::Relaxed);
        // Whoever sees one of the stores below sees that one.
        crate::sys::atomic::fence(Ordering::Release);
        // The word and the cells.
        for word in place.objects::<AtomicU64>(0, 1)? {
            word.store(0, Ordering::Relaxed);
        }
        for word in place.objects::<AtomicU32>(8, (CELLS_AT - 8) / 4)? {
            word.store(0, Ordering::Relaxed);
        }
        let cells = place.objects::<AtomicU64>(CELLS_AT, 2 * u64::from(parties))?;
        for cell in cells {
            cell.store(0, Ordering::Relaxed);
        }
        // Release meets the Acquire in `attach`.
        head.what.store(MAGIC | parties, Ordering::Release);
        Ok(Self { head, cells })
    }

    /// Attaches to a barrier that another process has made.
    ///
    /// # Errors
    /// [`BarrierPlaceError::Nothing`] if there is none, [`BarrierPlaceError::Place`] if the place cannot hold it.
    #[cfg(not(loom))]
    pub fn attach(place: Place<'r>) -> Result<Self, BarrierPlaceError> {
        let head = place.object::<BarrierHead>(0)?;
        // Acquire meets the Release in `create`.
        let word = head.what.load(Ordering::Acquire);
        let parties = word & MOST_PARTIES;
        if word & !MOST_PARTIES != MAGIC || parties == 0 {
            return Err(BarrierPlaceError::Nothing { word });
        }
        let cells = place.objects(CELLS_AT, 2 * u64::from(parties))?;
        Ok(Self { head, cells })
    }

    /// A barrier of these parts, for models: two cells for each party, all zero. If somebody `met`, as many as there are
    /// parties, it is as if they had just passed it.
    #[cfg(loom)]
    #[must_use]
    pub fn from_parts(head: &'r BarrierHead, cells: &'r [AtomicU64], met: &[Tag]) -> Self {
        for (place, tag) in cells.iter().zip(met) {
            place.store(cell(0, *tag), Ordering::Relaxed);
        }
        if !met.is_empty() {
            let after = State { generation: 1, phase: Phase::Again, by: None };
            head.word.store(after.word(), Ordering::Relaxed);
        }
        Self { head, cells }
    }

    /// How many have to arrive. That never changes.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.cells.len() / 2
    }

    /// Waits for the other parties as long as it takes. Returns the index of this arrival: 0 to `parties - 1`, each once.
    ///
    /// # Errors
    /// [`BarrierError::Broken`]; `Corrupt`; `Join`.
    pub fn wait(self, me: Member<'_>) -> Result<usize, BarrierError> {
        self.wait_until(me, Deadline::NEVER)
    }

    /// Passes if all others are there already; leaves everything as it is if not.
    ///
    /// # Errors
    /// [`BarrierError::WouldBlock`] if others are missing; `Broken`; `Corrupt`; `Join`.
    pub fn try_wait(self, me: Member<'_>) -> Result<usize, BarrierError> {
        self.try_meet(me, NO_ACTION)
    }

    /// The same with an action: see [`wait_with`](Self::wait_with).
    ///
    /// # Errors
    /// [`BarrierError::WouldBlock`], if others are missing; [`BarrierError::Action`]; `Broken`; `Corrupt`; `Join`.
    pub fn try_wait_with<E>(
        self,
        me: Member<'_>,
        action: impl FnOnce() -> Result<(), E>,
    ) -> Result<usize, BarrierError<E>> {
        self.try_meet(me, Some(action))
    }

    fn try_meet<E>(
        self,
        me: Member<'_>,
        action: Option<impl FnOnce() -> Result<(), E>>,
    ) -> Result<usize, BarrierError<E>> {
        let tag = me.tag()?;
        match self.arrive(me, tag, true).map_err(beside_action)? {
            Arrival::Arrived(state, index) => {
                // A child that is forked in the action has not completed anything: it waits until its parent has.
                if !self.complete(me, tag, state, action)? {
                    self.pass(me, tag, state, index, Deadline::NEVER).map_err(beside_action)?;
                }
                Ok(index)
            }
            Arrival::Full(state) | Arrival::Early(state) => {
                // From anywhere: one look asks about some only, and a loop of tries shall come to all.
                let mut asked = crate::sys::nanos() as usize;
                if me.may_ask(self.head)
                    && let Some(outcome) = self.inquire(me, state, &mut asked)
                {
                    outcome.map_err(beside_action)?;
                }
                Err(BarrierError::WouldBlock)
            }
        }
    }

    /// Waits for the other parties until `deadline`. A deadline that is past makes it arrive all the same: it
    /// passes if it is the last one, and breaks the barrier if not.
    ///
    /// # Errors
    /// [`BarrierError::TimedOut`]: then the barrier is broken for all others, too; `Broken`; `Corrupt`; `Join`.
    pub fn wait_until(self, me: Member<'_>, deadline: Deadline) -> Result<usize, BarrierError> {
        self.meet(me, deadline, NO_ACTION)
    }

    /// The same with an action, which the last one to arrive runs, before anybody passes. All parties give the same action
    /// along: only the last one's is called.
    ///
    /// An action that returns an error, or panics, breaks the barrier for all others, and so does a process that dies in
    /// its action. Deadlines of those who wait go on while it runs; the actor's own does not interrupt it. It
    /// must not wait at this barrier itself: that one never passes.
    ///
    /// # Errors
    /// [`BarrierError::Action`] with the error of the action, if this call ran it; otherwise as
    /// [`wait_until`](Self::wait_until).
    ///
    /// ```
    /// use procession_core::region::{Membership, Place};
    /// use procession_core::sync::{Barrier, BarrierError};
    /// use procession_core::sys::Deadline;
    ///
    /// let seat = Membership::private();
    /// let mut memory = [0u64; 20];
    /// let barrier = Barrier::create(Place::in_memory(&mut memory), 1)?;
    /// let fail = || Err::<(), _>("out of paper");
    /// let error = barrier.wait_with(seat.member(), Deadline::NEVER, fail).unwrap_err();
    /// assert_eq!(error, BarrierError::Action("out of paper"));
    /// assert!(barrier.broken());
    /// # Ok::<(), procession_core::sync::BarrierPlaceError>(())
    /// ```
    pub fn wait_with<E>(
        self,
        me: Member<'_>,
        deadline: Deadline,
        action: impl FnOnce() -> Result<(), E>,
    ) -> Result<usize, BarrierError<E>> {
        self.meet(me, deadline, Some(action))
    }

    fn meet<E>(
        self,
        me: Member<'_>,
        deadline: Deadline,
        action: Option<impl FnOnce() -> Result<(), E>>,
    ) -> Result<usize, BarrierError<E>> {
        let tag = me.tag()?;
        let (state, index) = self.enter(me, tag, deadline).map_err(beside_action)?;
        // A child that is forked in the action has not completed anything: it waits until its parent has.
        if index + 1 == self.parties() && self.complete(me, tag, state, action)? {
            return Ok(index);
        }
        self.pass(me, tag, state, index, deadline).map_err(beside_action)?;
        Ok(index)
    }

    /// Arrives, in this generation or the next that has room.
    fn enter(
        self,
        me: Member<'_>,
        tag: Tag,
        deadline: Deadline,
    ) -> Result<(State, usize), BarrierError> {
        loop {
            match self.arrive(me, tag, false)? {
                Arrival::Arrived(state, index) => return Ok((state, index)),
                Arrival::Full(full) | Arrival::Early(full) => {
                    let mut asked = 0;
                    let moved = self.head.event.wait(me, deadline, Pace::Polite, |ask| {
                        // Relaxed: `arrive` looks again.
                        if self.head.word.load(Ordering::Relaxed) != full.word() {
                            return Some(Ok(()));
                        }
                        if ask { self.inquire(me, full, &mut asked) } else { None }
                    });
                    moved.unwrap_or(Err(BarrierError::TimedOut))?;
                }
            }
        }
    }

    /// Takes the first free cell; with `as_last`, only if it is the last one.
    fn arrive(self, me: Member<'_>, tag: Tag, as_last: bool) -> Result<Arrival, BarrierError> {
        let mut state = self.state()?;
        loop {
            match state.phase {
                Phase::New | Phase::Again => {}
                Phase::Action => return Ok(Arrival::Full(state)),
                Phase::Broken(Reason::Reset) => {
                    self.renew(me, state);
                    state = self.state()?;
                    continue;
                }
                Phase::Broken(reason) => return Err(broken(me, reason, state.by)),
            }
            let row = self.row(state.generation);
            let mut index = self.arrived(state.generation);
            let mine = cell(state.generation, tag);
            let newer = loop {
                let Some(place) = row.get(index) else { return Ok(Arrival::Full(state)) };
                if as_last && index + 1 < row.len() {
                    return Ok(Arrival::Early(state));
                }
                // Acquire meets the Release of the one who arrived before: so the last one sees what all had written.
                let now = place.load(Ordering::Acquire);
                if is_of(now, state.generation) {
                    index += 1;
                    continue;
                }
                if now != 0 && is_later(generation_of(now), state.generation) {
                    break now;
                }
                // Release: see above; Acquire hands on what it meets. Failure: another came, and the next turn looks who.
                if place.compare_exchange(now, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    return Ok(Arrival::Arrived(state, index));
                }
            };
            // A cell is of a later generation than the word was: then so is the word by now.
            let again = self.state()?;
            if again == state {
                return Err(BarrierError::Corrupt { word: newer });
            }
            state = again;
        }
    }

    /// Lets all pass, after the action. Called by who took the last cell. `false`: this is not the process that took
    /// it, but a child that it forked in the action.
    fn complete<E>(
        self,
        me: Member<'_>,
        tag: Tag,
        state: State,
        action: Option<impl FnOnce() -> Result<(), E>>,
    ) -> Result<bool, BarrierError<E>> {
        let mut last = state;
        if let Some(action) = action {
            last = State { phase: Phase::Action, by: Some(tag), ..state };
            // Whether it was moved or not is looked at below: an action is not run in vain.
            if self.step(state, last) {
                let acting = Acting { barrier: self, me, tag, state: last };
                action().map_err(BarrierError::Action)?;
                core::mem::forget(acting);
            }
            if !me.is(tag) {
                return Ok(false);
            }
        }
        let next = last.next(Phase::Again);
        if self.step(last, next) {
            if next.generation.is_multiple_of(CLEANING) {
                self.forget_old_notes(next.generation);
            }
            self.head.event.notify_all(me);
            return Ok(true);
        }
        // Nobody else completes: somebody has broken it.
        let now = self.state().map_err(beside_action)?;
        match self.outcome(me, now, state.generation) {
            Some(outcome) => outcome.map(|()| true).map_err(beside_action),
            None => Err(BarrierError::Corrupt { word: now.word() }),
        }
    }

    /// Waits until its generation has been passed.
    fn pass(
        self,
        me: Member<'_>,
        tag: Tag,
        state: State,
        index: usize,
        deadline: Deadline,
    ) -> Result<(), BarrierError> {
        // Each begins with its neighbour: together they ask about all.
        let mut asked = index + 1;
        let outcome = self.head.event.wait(me, deadline, Pace::Eager, |ask| {
            let now = match self.state() {
                Ok(now) => now,
                Err(error) => return Some(Err(error)),
            };
            let outcome = self.outcome(me, now, state.generation);
            if outcome.is_none() && ask { self.inquire(me, now, &mut asked) } else { outcome }
        });
        outcome.unwrap_or_else(|| self.give_up(me, tag, state.generation))
    }

    /// The deadline has passed: breaks the generation, unless it was passed or broken meanwhile.
    fn give_up(self, me: Member<'_>, tag: Tag, generation: u32) -> Result<(), BarrierError> {
        loop {
            let state = self.state()?;
            if let Some(outcome) = self.outcome(me, state, generation) {
                return outcome;
            }
            // Failure: it has moved, from filling to the action or out of this generation.
            if self.shatter(me, state, Reason::TimedOut, tag) {
                return Err(BarrierError::TimedOut);
            }
        }
    }

    /// How this generation ended, if in this state it has.
    fn outcome(
        self,
        me: Member<'_>,
        state: State,
        generation: u32,
    ) -> Option<Result<(), BarrierError>> {
        if state.generation != generation {
            return Some(if self.was_reset(generation) {
                Err(BarrierError::Broken(Broken { reason: Reason::Reset, who: None }))
            } else {
                Ok(())
            });
        }
        match state.phase {
            Phase::New | Phase::Again | Phase::Action => None,
            Phase::Broken(reason) => Some(Err(broken(me, reason, state.by))),
        }
    }

    /// Asks whether those are alive on whom the barrier waits in this state: from `next` on, about so many as one look may ask.
    /// Breaks it if one is dead.
    fn inquire(
        self,
        me: Member<'_>,
        state: State,
        next: &mut usize,
    ) -> Option<Result<(), BarrierError>> {
        let last = state.generation.wrapping_sub(1) & GENERATION;
        let rows = match state.phase {
            Phase::Action => {
                let actor = state.by?;
                return match me.verdict(actor) {
                    Verdict::Alive => None,
                    Verdict::Dead => self.bury(me, state, actor),
                    Verdict::Corrupt => Some(Err(BarrierError::Corrupt { word: state.word() })),
                };
            }
            Phase::Broken(_) => return None,
            Phase::New => 1,
            Phase::Again => 2,
        };
        let (parties, mut asked) = (self.parties(), 0);
        for _ in 0..rows * parties {
            let place = *next % (rows * parties);
            *next = place + 1;
            let expected = place >= parties;
            let generation = if expected { last } else { state.generation };
            // Relaxed: the verdict brings its own order, and the word decides whether it still matters.
            let word = self.row(generation)[place % parties].load(Ordering::Relaxed);
            if !is_of(word, generation) {
                continue;
            }
            let Some(owner) = Tag::from_bits(word as u32) else {
                return Some(Err(BarrierError::Corrupt { word }));
            };
            match me.verdict(owner) {
                Verdict::Dead if !(expected && me.has_left(owner)) => {
                    return self.bury(me, state, owner);
                }
                Verdict::Alive | Verdict::Dead => {}
                Verdict::Corrupt => return Some(Err(BarrierError::Corrupt { word })),
            }
            asked += usize::from(!me.is(owner));
            if asked == ASKED_AT_ONCE {
                break;
            }
        }
        None
    }

    /// Breaks it, since this party is dead. `None`: it has moved on by itself.
    fn bury(self, me: Member<'_>, state: State, dead: Tag) -> Option<Result<(), BarrierError>> {
        self.shatter(me, state, Reason::Died, dead).then(|| {
            trace::recovered("Barrier", me, dead);
            Err(broken(me, Reason::Died, Some(dead)))
        })
    }

    /// Breaks it for all who wait and all who come, until a [reset](Self::reset). Nothing changes if it is broken already.
    ///
    /// # Errors
    /// `Corrupt`; `Join`.
    pub fn abort(self, me: Member<'_>) -> Result<(), BarrierError> {
        let tag = me.tag()?;
        loop {
            let state = self.state()?;
            let done = match state.phase {
                Phase::Broken(Reason::Reset) => {
                    self.renew(me, state);
                    false
                }
                Phase::Broken(_) => true,
                _ => self.shatter(me, state, Reason::Aborted, tag),
            };
            if done {
                return Ok(());
            }
        }
    }

    /// Makes the barrier new: nobody has arrived, and nobody is expected. Those who wait hear that it was broken; so does the one
    /// that runs the action, once that has returned.
    ///
    /// # Errors
    /// `Corrupt`; `Join`.
    pub fn reset(self, me: Member<'_>) -> Result<(), BarrierError> {
        let tag = me.tag()?;
        loop {
            let state = self.state()?;
            match state.phase {
                Phase::New if self.arrived(state.generation) == 0 => return Ok(()),
                Phase::New | Phase::Again | Phase::Action => {
                    if self.shatter(me, state, Reason::Reset, tag) {
                        self.renew(me, state.broken(Reason::Reset, tag));
                        return Ok(());
                    }
                }
                Phase::Broken(_) => {
                    // If another is faster, it has been reset all the same.
                    self.renew(me, state);
                    return Ok(());
                }
            }
        }
    }

    /// Goes from a broken generation to a new one.
    fn renew(self, me: Member<'_>, state: State) {
        self.note(state.generation);
        if self.step(state, state.next(Phase::New)) {
            // They have been woken by who broke it, unless that one died over it.
            self.head.event.notify_all(me);
        }
    }

    /// Whether it is broken now. A load.
    #[must_use]
    pub fn broken(&self) -> bool {
        let phase = Phase::read(self.head.word.load(Ordering::Relaxed) >> PHASE_SHIFT);
        matches!(phase, Phase::Broken(reason) if reason != Reason::Reset)
    }

    /// Why it is broken, and by whom; `None` if it is not.
    #[must_use]
    pub fn breach(&self, me: Member<'_>) -> Option<Broken> {
        match self.state() {
            Ok(State { phase: Phase::Broken(reason), by, .. }) if reason != Reason::Reset => {
                Some(Broken { reason, who: by.and_then(|tag| me.who(tag)) })
            }
            _ => None,
        }
    }

    /// How many wait at it now, the dead that nobody has noticed included; 0 if it is broken. Some loads.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        loop {
            let Ok(state) = self.state() else { return 0 };
            let count = match state.phase {
                Phase::New | Phase::Again => self.arrived(state.generation),
                Phase::Action => self.parties(),
                Phase::Broken(_) => 0,
            };
            // Unless it moved meanwhile, the cells only became more, and so many they were at some moment. Relaxed: the loads
            // of the cells are Acquire, which keeps this one behind them.
            if self.head.word.load(Ordering::Relaxed) == state.word() {
                return count;
            }
        }
    }

    /// Where those who wait sleep.
    #[must_use]
    pub fn event(&self) -> &'r Eventcount {
        &self.head.event
    }

    fn state(self) -> Result<State, BarrierError> {
        // Acquire meets the Release in `step`: who passes sees what all others had written, and who finds a new generation sees
        // the notes and cells of the last.
        State::read(self.head.word.load(Ordering::Acquire))
    }

    fn step(self, from: State, to: State) -> bool {
        // Release meets the Acquire in `state`. Failure: another was faster.
        self.head
            .word
            .compare_exchange(from.word(), to.word(), Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// Breaks it, if it is still in this state, and wakes all.
    fn shatter(self, me: Member<'_>, state: State, reason: Reason, by: Tag) -> bool {
        let done = self.step(state, state.broken(reason, by));
        if done {
            self.head.event.notify_all(me);
        }
        done
    }

    fn row(self, generation: u32) -> &'r [AtomicU64] {
        let (even, odd) = self.cells.split_at(self.parties());
        if generation.is_multiple_of(2) { even } else { odd }
    }

    /// How many have arrived in this generation: they fill the row in order.
    fn arrived(self, generation: u32) -> usize {
        let row = self.row(generation);
        let (mut least, mut most) = (0, row.len());
        while least < most {
            let middle = least.midpoint(most);
            // Acquire: who takes the cell behind the last one of these has seen what all of them wrote.
            if is_of(row[middle].load(Ordering::Acquire), generation) {
                least = middle + 1;
            } else {
                most = middle;
            }
        }
        least
    }

    /// Notes that this generation was broken. Those who wait in it look here when the word has moved on.
    fn note(self, generation: u32) {
        let note = &self.head.notes[generation as usize % NOTES];
        loop {
            // Relaxed, here and below: the word is moved on behind it.
            let now = note.load(Ordering::Relaxed);
            if now & NOTED != 0 && !is_later(generation, now >> 1) {
                return;
            }
            let new = generation << 1 | NOTED;
            if note.compare_exchange(now, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Whether this generation, which is over, was broken.
    fn was_reset(self, generation: u32) -> bool {
        // Relaxed: it was written before the word was moved, and the caller has seen that.
        let note = self.head.notes[generation as usize % NOTES].load(Ordering::Relaxed);
        note & NOTED != 0 && !is_later(generation, note >> 1)
    }

    /// Erases the notes that nobody can be waiting for, before their generations come round.
    #[cold]
    fn forget_old_notes(self, generation: u32) {
        for note in &self.head.notes {
            let now = note.load(Ordering::Relaxed);
            if now & NOTED != 0 && ahead(generation, now >> 1) > OLD {
                let _ = note.compare_exchange(now, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }
}

/// Somebody runs the action. If it fails, dropping this breaks the barrier.
struct Acting<'r, 'm> {
    barrier: Barrier<'r>,
    me: Member<'m>,
    tag: Tag,
    state: State,
}

impl Drop for Acting<'_, '_> {
    fn drop(&mut self) {
        // Not by a child that was forked in the action: its parent goes on with it.
        if self.me.is(self.tag) {
            self.barrier.shatter(self.me, self.state, Reason::ActionFailed, self.tag);
        }
    }
}

type NoAction = fn() -> Result<(), Infallible>;
const NO_ACTION: Option<NoAction> = None;

fn broken(me: Member<'_>, reason: Reason, by: Option<Tag>) -> BarrierError {
    BarrierError::Broken(Broken { reason, who: by.and_then(|tag| me.who(tag)) })
}

fn cell(generation: u32, tag: Tag) -> u64 {
    u64::from(generation) << GENERATION_SHIFT | u64::from(tag.bits())
}

fn generation_of(cell: u64) -> u32 {
    (cell >> GENERATION_SHIFT) as u32
}

/// Whether a cell was taken in this generation; one that was never taken was not.
fn is_of(cell: u64, generation: u32) -> bool {
    cell != 0 && generation_of(cell) == generation
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::vec::Vec;

    use core::time::Duration;

    use super::*;
    use crate::region::Membership;

    /// Nobody in these tests waits so long.
    const LONG: Duration = Duration::from_secs(20);

    fn late() -> Deadline {
        Deadline::after(LONG)
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(5))
    }

    fn memory(parties: u32) -> Vec<u64> {
        std::vec![u64::MAX; Barrier::bytes_for(parties).unwrap() as usize / 8]
    }

    fn make(memory: &mut [u64], parties: u32) -> Barrier<'_> {
        Barrier::create(Place::in_memory(memory), parties).unwrap()
    }

    /// Waits until so many are there.
    fn gather(barrier: Barrier<'_>, count: usize) {
        let deadline = late();
        while barrier.n_waiting() != count {
            assert!(!deadline.is_past(), "{barrier:?}");
            thread::yield_now();
        }
    }

    fn reason<E: fmt::Debug>(error: BarrierError<E>) -> Reason {
        match error {
            BarrierError::Broken(broken) => broken.reason,
            other => panic!("{other:?}"),
        }
    }

    /// A tag that in private memory is that of a process from before a fork: dead.
    fn dead() -> Tag {
        Tag::from_bits(1 << 12 | 2).unwrap()
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        let tag = Tag::from_bits(Tag::MASK);
        for bits in 0..8 {
            let phase = Phase::read(bits);
            assert_eq!(phase.bits(), bits);
            let by = if matches!(phase, Phase::New | Phase::Again) { None } else { tag };
            let state = State { generation: GENERATION, phase, by };
            assert_eq!(State::read(state.word()), Ok(state));
            let wrong = State { by: if by.is_some() { None } else { tag }, ..state };
            assert!(State::read(wrong.word()).is_err(), "{wrong:?}");
        }
        assert!(is_later(0, GENERATION) && !is_later(GENERATION, 0) && !is_later(7, 7));
    }

    #[test]
    fn each_round_has_each_index_once_and_one_action() {
        const ROUNDS: usize = 200;
        let seat = Membership::private();
        for parties in [1, 2, 3, 8] {
            let mut memory = memory(parties);
            let barrier = make(&mut memory, parties);
            // Across the wrap of the generations, which begins after two rounds.
            barrier.head.word.store(
                State { generation: GENERATION - 1, phase: Phase::New, by: None }.word(),
                Ordering::Relaxed,
            );
            let taken: Vec<AtomicUsize> =
                (0..ROUNDS * parties as usize).map(|_| AtomicUsize::new(0)).collect();
            let acted = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..parties {
                    scope.spawn(|| {
                        for round in 0..ROUNDS {
                            let act = || {
                                acted.fetch_add(1, Ordering::Relaxed);
                                Ok::<_, Infallible>(())
                            };
                            let index = barrier.wait_with(seat.member(), late(), act).unwrap();
                            assert_eq!(acted.load(Ordering::Relaxed), round + 1);
                            let place = round * parties as usize + index;
                            assert_eq!(taken[place].fetch_add(1, Ordering::Relaxed), 0);
                            barrier.wait_until(seat.member(), late()).unwrap();
                        }
                    });
                }
            });
            assert!(taken.iter().all(|taken| taken.load(Ordering::Relaxed) == 1));
            assert_eq!(barrier.n_waiting(), 0);
        }
    }

    #[test]
    fn a_loop_of_tries_finds_the_dead_among_many_living() {
        const PARTIES: u32 = 150;
        let bytes = crate::region::testing::Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        let seats: Vec<_> = (0..PARTIES).map(|_| region.join().unwrap()).collect();
        let mut memory = memory(PARTIES);
        let barrier = make(&mut memory, PARTIES);
        // All have just passed it, and one has died since.
        for (place, seat) in barrier.row(0).iter().zip(&seats) {
            place.store(cell(0, seat.member().tag().unwrap()), Ordering::Relaxed);
        }
        let after = State { generation: 1, phase: Phase::Again, by: None };
        barrier.head.word.store(after.word(), Ordering::Relaxed);
        let me = seats[0].member();
        let dead = seats[PARTIES as usize - 20].member().tag().unwrap();
        me.participants().declare_dead(dead);
        let deadline = late();
        loop {
            match barrier.try_wait(me) {
                Err(BarrierError::WouldBlock) => assert!(!deadline.is_past(), "nobody finds it"),
                answer => break assert_eq!(reason(answer.unwrap_err()), Reason::Died),
            }
        }
    }

    #[test]
    fn more_threads_than_parties_pass_in_turn() {
        let seat = Membership::private();
        let mut memory = memory(2);
        let barrier = make(&mut memory, 2);
        let passed = AtomicUsize::new(0);
        // The waits of all threads together fill so many rounds; a thread may meet any other, so none has a last partner
        // for sure before the total is through.
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while passed.load(Ordering::Relaxed) < 1000 {
                        match barrier.wait_until(seat.member(), late()) {
                            Ok(0) => _ = passed.fetch_add(1, Ordering::Relaxed),
                            Ok(_) => {}
                            // The end, for the one that is left over.
                            Err(error) => {
                                assert_eq!(reason(error), Reason::Aborted);
                                break;
                            }
                        }
                    }
                    barrier.abort(seat.member()).unwrap();
                });
            }
        });
        assert!(passed.load(Ordering::Relaxed) >= 1000);
    }

    #[test]
    fn a_wait_that_is_too_long_breaks_it_for_all() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(3);
        let barrier = make(&mut memory, 3);
        thread::scope(|scope| {
            let other = scope.spawn(|| barrier.wait_until(me, late()));
            gather(barrier, 1);
            assert_eq!(barrier.wait_until(me, soon()), Err(BarrierError::TimedOut));
            assert_eq!(reason(other.join().unwrap().unwrap_err()), Reason::TimedOut);
        });
        assert!(barrier.broken());
        assert_eq!(barrier.n_waiting(), 0);
        assert_eq!(reason(barrier.wait(me).unwrap_err()), Reason::TimedOut);
        assert_eq!(reason(barrier.try_wait(me).unwrap_err()), Reason::TimedOut);
        let breach = barrier.breach(me).unwrap();
        assert_eq!(breach.who.unwrap().pid, std::process::id());
        // At once, with a deadline that is past.
        barrier.reset(me).unwrap();
        assert!(!barrier.broken() && barrier.breach(me).is_none());
        assert_eq!(barrier.wait_until(me, Deadline::NOW), Err(BarrierError::TimedOut));
        assert!(barrier.broken());
    }

    #[test]
    fn a_try_passes_as_the_last_one_only() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(2);
        let barrier = make(&mut memory, 2);
        assert_eq!(barrier.try_wait(me), Err(BarrierError::WouldBlock));
        assert_eq!(barrier.n_waiting(), 0);
        thread::scope(|scope| {
            let other = scope.spawn(|| barrier.wait_until(me, late()));
            gather(barrier, 1);
            assert_eq!(barrier.try_wait(me), Ok(1));
            assert_eq!(other.join().unwrap(), Ok(0));
        });
    }

    #[test]
    fn an_abort_breaks_it_until_the_reset() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(2);
        let barrier = make(&mut memory, 2);
        thread::scope(|scope| {
            let other = scope.spawn(|| barrier.wait_until(me, late()));
            gather(barrier, 1);
            barrier.abort(me).unwrap();
            assert_eq!(reason(other.join().unwrap().unwrap_err()), Reason::Aborted);
            barrier.abort(me).unwrap();
            assert_eq!(reason(barrier.wait(me).unwrap_err()), Reason::Aborted);
            barrier.reset(me).unwrap();
            let other = scope.spawn(|| barrier.wait_until(me, late()));
            barrier.wait_until(me, late()).unwrap();
            other.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_reset_sends_away_who_waits_and_nobody_else() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(2);
        let barrier = make(&mut memory, 2);
        // Nobody there: nothing happens.
        let before = barrier.head.word.load(Ordering::Relaxed);
        barrier.reset(me).unwrap();
        assert_eq!(barrier.head.word.load(Ordering::Relaxed), before);
        thread::scope(|scope| {
            for _ in 0..50 {
                let other = scope.spawn(|| barrier.wait_until(me, late()));
                gather(barrier, 1);
                barrier.reset(me).unwrap();
                assert!(!barrier.broken());
                assert_eq!(reason(other.join().unwrap().unwrap_err()), Reason::Reset);
                let other = scope.spawn(|| barrier.wait_until(me, late()));
                barrier.wait_until(me, late()).unwrap();
                other.join().unwrap().unwrap();
            }
        });
    }

    #[test]
    fn who_is_late_knows_a_reset_from_a_passage() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(1);
        let barrier = make(&mut memory, 1);
        let mut broken = Vec::new();
        for generation in 0..40 {
            if generation % 3 == 0 {
                broken.push(generation);
                barrier.abort(me).unwrap();
                barrier.reset(me).unwrap();
            } else {
                barrier.wait(me).unwrap();
            }
            for old in 0..=generation {
                // Later notes may hide that an old generation was passed, never that it was broken.
                let lost = broken.iter().any(|&b| b > old && (b - old) % NOTES as u32 == 0);
                assert_eq!(barrier.was_reset(old), broken.contains(&old) || lost, "{old}");
            }
        }
        // Long after, the numbers come round: nothing is left of them.
        barrier.forget_old_notes(39 + OLD + 2);
        assert!((0..40).all(|old| !barrier.was_reset(old)));
    }

    #[test]
    fn an_action_that_fails_breaks_it() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(2);
        let barrier = make(&mut memory, 2);
        for panics in [false, true] {
            thread::scope(|scope| {
                let other = scope.spawn(|| barrier.wait_until(me, late()));
                gather(barrier, 1);
                let action = || if panics { panic!("no paper") } else { Err("no ink") };
                let answer =
                    catch_unwind(AssertUnwindSafe(|| barrier.wait_with(me, late(), action)));
                match answer {
                    Ok(answer) => assert_eq!(answer, Err(BarrierError::Action("no ink"))),
                    Err(_) => assert!(panics),
                }
                assert_eq!(reason(other.join().unwrap().unwrap_err()), Reason::ActionFailed);
            });
            assert!(barrier.broken());
            barrier.reset(me).unwrap();
        }
    }

    #[test]
    fn what_happens_during_the_action() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(2);
        let barrier = make(&mut memory, 2);
        let (begun, go_on) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let action = || {
            begun.fetch_add(1, Ordering::Relaxed);
            let deadline = late();
            while go_on.load(Ordering::Relaxed) < begun.load(Ordering::Relaxed) {
                assert!(!deadline.is_past());
                thread::yield_now();
            }
            Ok::<_, Infallible>(())
        };
        for (round, expected) in
            [Reason::TimedOut, Reason::Aborted, Reason::Reset].into_iter().enumerate()
        {
            thread::scope(|scope| {
                let patience = if expected == Reason::TimedOut {
                    Deadline::after(Duration::from_millis(100))
                } else {
                    late()
                };
                let first = scope.spawn(move || barrier.wait_until(me, patience));
                gather(barrier, 1);
                let actor = scope.spawn(|| barrier.wait_with(me, late(), action));
                while begun.load(Ordering::Relaxed) == round {
                    thread::yield_now();
                }
                // All have arrived, so who comes now waits for the next round, and breaks nothing.
                assert_eq!(barrier.n_waiting(), 2);
                assert_eq!(barrier.try_wait(me), Err(BarrierError::WouldBlock));
                assert_eq!(barrier.wait_until(me, soon()), Err(BarrierError::TimedOut));
                assert!(!barrier.broken());
                match expected {
                    Reason::Aborted => barrier.abort(me).unwrap(),
                    Reason::Reset => barrier.reset(me).unwrap(),
                    _ => {}
                }
                let first = first.join().unwrap().unwrap_err();
                match first {
                    BarrierError::TimedOut => assert_eq!(expected, Reason::TimedOut),
                    error => assert_eq!(reason(error), expected),
                }
                go_on.fetch_add(1, Ordering::Relaxed);
                assert_eq!(reason(actor.join().unwrap().unwrap_err()), expected);
            });
            barrier.reset(me).unwrap();
        }
    }

    #[test]
    fn who_died_there_breaks_it() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(300);
        // Many of them, each asked about in turn: the dead one is found wherever it stands, also by a try.
        for place in [0, 5, 199] {
            let barrier = make(&mut memory, 300);
            for (index, other) in barrier.cells[..200].iter().enumerate() {
                let tag = if index == place { dead() } else { me.tag().unwrap() };
                other.store(cell(0, tag), Ordering::Relaxed);
            }
            let error = if place == 5 {
                barrier.try_wait(me).unwrap_err()
            } else {
                barrier.wait_until(me, late()).unwrap_err()
            };
            assert_eq!(reason(error), Reason::Died);
            assert_eq!(reason(barrier.wait(me).unwrap_err()), Reason::Died);
        }
    }

    #[test]
    fn who_died_between_two_rounds_breaks_it_unless_reset() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(2);
        let barrier = make(&mut memory, 2);
        barrier.cells[0].store(cell(0, dead()), Ordering::Relaxed);
        assert_eq!(barrier.try_wait(me), Ok(1));
        assert_eq!(reason(barrier.wait_until(me, late()).unwrap_err()), Reason::Died);
        barrier.reset(me).unwrap();
        assert_eq!(barrier.wait_until(me, soon()), Err(BarrierError::TimedOut));
    }

    #[test]
    fn a_dead_actor_breaks_it() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(2);
        let barrier = make(&mut memory, 2);
        let acting = State { generation: 0, phase: Phase::Action, by: Some(dead()) };
        barrier.head.word.store(acting.word(), Ordering::Relaxed);
        assert_eq!(reason(barrier.wait_until(me, late()).unwrap_err()), Reason::Died);
    }

    #[test]
    fn garbage_is_an_error() {
        let seat = Membership::private();
        let me = seat.member();
        let mut memory = memory(3);
        let barrier = make(&mut memory, 3);
        let corrupt = |answer| matches!(answer, Err(BarrierError::Corrupt { .. }));
        let nobody = State { generation: 0, phase: Phase::Action, by: None }.word();
        let too_many = State { generation: 0, phase: Phase::New, by: Some(dead()) }.word();
        for word in [nobody, too_many, 5 << 12, !0xFFF] {
            barrier.head.word.store(word, Ordering::Relaxed);
            assert!(corrupt(barrier.wait(me)), "{word:#x}");
            assert!(corrupt(barrier.abort(me).map(|()| 0)));
            assert!(corrupt(barrier.reset(me).map(|()| 0)));
            assert_eq!((barrier.n_waiting(), barrier.breach(me)), (0, None));
        }
        barrier.head.word.store(0, Ordering::Relaxed);
        // A cell from the future, and one of nobody.
        barrier.cells[0].store(cell(7, dead()), Ordering::Relaxed);
        assert!(corrupt(barrier.wait(me)));
        barrier.cells[0].store(5 << 12, Ordering::Relaxed);
        assert!(corrupt(barrier.wait_until(me, late())));
    }

    #[test]
    fn places_are_checked() {
        let error = Barrier::bytes_for(0).unwrap_err();
        assert_eq!(error, BarrierPlaceError::Parties { parties: 0 });
        assert!(Barrier::bytes_for(MOST_PARTIES + 1).is_err());
        let mut memory = memory(MOST_PARTIES);
        let place = Place::in_memory(&mut memory);
        assert!(matches!(Barrier::attach(place), Err(BarrierPlaceError::Nothing { .. })));
        let barrier = Barrier::create(place, MOST_PARTIES).unwrap();
        assert_eq!(barrier.parties(), 4095);
        assert_eq!(Barrier::attach(place).unwrap().parties(), 4095);
        let short = place.up_to(place.bytes() - 8);
        assert!(matches!(Barrier::attach(short), Err(BarrierPlaceError::Place(_))));
        assert!(matches!(Barrier::create(short, 4095), Err(BarrierPlaceError::Place(_))));
        assert!(matches!(Barrier::attach(place.up_to(64)), Err(BarrierPlaceError::Place(_))));
        assert_eq!(Barrier::attach(place).unwrap().n_waiting(), 0);
    }
}
