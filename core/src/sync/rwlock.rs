//! A lock for many readers or one writer, which none of them takes along when it dies.
//!
//! `word = DAMAGED 1 | DIED 1 | phase 2 | writer's tag 30`, 64 reader cells of 32 bits (the tag of who reads, one for each
//! read guard), one cell more for the heir of a writer, and three eventcounts: `readers` and `writers`, who want in, and `drain`,
//! where a writer waits for the readers that are still in.
//!
//! ```text
//! word    (DIED or not, nobody)      → (same, WAITING, me)       write: one compare-and-swap; no reader comes in any more
//!         (.., WAITING, me)          → (.., HELD, me)            once each cell was seen empty: one plain store
//!         (.., HELD, me)             → (as the guard says, nobody)   release: one plain store; wake all readers, one writer
//!         (.., WAITING, me)          → (.., nobody)              time is up: the same
//!         (.., nobody)               → (.., UPGRADABLE, me)      upgradable read: keeps out writers, lets in readers
//!         (.., UPGRADABLE, me)       → (.., WAITING, me) → (.., HELD, me)    upgrade; and back, if time is up
//!         (.., HELD, me)             → (.., UPGRADABLE, me)      downgrade
//!         (.., HELD, dead)           → DIED and as below         it may have written half
//!         (.., WAITING or UPGRADABLE, dead) → (.., nobody) by a reader, (.., phase, me) by a writer: it has written nothing
//! cell    0 → me → 0                 a reader's claim, one compare-and-swap; and its end, a plain store
//!         dead → 0                   by a writer that waits, or a reader that finds no cell: one exact compare-and-swap
//! heir    0 → me → 0                 the same, by a writer that has become a reader
//! ```
//!
//! - Reader and writer each write a word of their own and then read the other's, a full fence in between: a reader
//!   claims its cell, then looks at the word; a writer claims the word, then looks at the cells. At least one sees
//!   the other. A reader that sees a writer empties its cell again, wakes the writer that may wait for just that, and sleeps.
//! - A writer looks at one cell after the other and goes on once it was empty: whoever claims it later sees the writer.
//! - Whoever comes first to a free word is next. A writer that waits keeps new readers out; when it is done, all readers that
//!   sleep are woken and one writer, and mostly the readers are in before that writer claims the word.
//! - A reader looks for its cell from a home on that depends on process and thread, and homes that follow each other lie in
//!   different cache lines, so that readers do not slow each other down. If all cells are taken, it waits at `drain`, where each
//!   reader that leaves wakes whoever sleeps.
//! - The heir's cell is always empty for a writer that becomes a reader: only the holder of HELD claims it, and it has seen
//!   all cells empty.
//! - Dead readers have changed nothing; a dead writer is told of by DIED until somebody has mended the data, as in `Lock`.
//!   A guard that a forked child inherited is not the child's: its drop does nothing.
//! - Nobody gets stuck: each sleeper looks again in slices and asks whether the one that it waits for is dead: the writer in the
//!   word, or the first reader in a cell. A releaser that dies before it has woken anybody has released.

use core::fmt;

use super::{AcquireError, OwnerDied};
use crate::region::{Member, Tag, Verdict, Who};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::spin::Pace;
use crate::sys::{Deadline, after_exchange, before_a_death, trace};
use crate::wait::{Eventcount, Waitable};

/// The phases, in an order that lets readers in below WAITING. 0 is nobody's.
const UPGRADABLE: u64 = 1 << 30;
const WAITING: u64 = 2 << 30;
const HELD: u64 = 3 << 30;
const PHASE: u64 = 3 << 30;
const DIED: u64 = 1 << 32;
/// What a guard leaves behind when a word was not as it had written it; in the lock's word,
const DAMAGED: u64 = 1 << 33;
/// and in a reader's cell.
const DAMAGED_CELL: u32 = 1 << 31;

/// How many read guards there can be at a time.
#[cfg(not(loom))]
const CELLS: usize = 64;
/// In a model each look at a cell costs executions.
#[cfg(loom)]
const CELLS: usize = 2;

/// A lock for many readers or one writer, in shared memory: 320 bytes, all zero when free.
///
/// - A writer that waits keeps new readers out, and is not starved by them. So a thread that reads must not
///   read again before it has given up its guard: a writer may have come in between.
/// - A reader that is killed leaves nothing behind. After a writer's death each next one, reader or writer, gets
///   [`AcquireError::OwnerDied`] with the guard inside, until a writer says
///   [`mark_consistent`](RwLockWriteGuard::mark_consistent). Who is merely stopped keeps the lock.
/// - An upgradable read keeps out writers, and other upgradable reads, but no plain reads; it can become a write without
///   letting anybody write in between. A write can become either kind of read.
/// - At most 64 read guards exist at a time; who wants one more waits for one of them.
///
/// The holder is the process; a guard may be moved to, and dropped by, another of its threads.
///
/// Cost without contention, no system call: a read one compare-and-swap and one store, in a cache line that other threads mostly do
/// not use; a write one compare-and-swap, two stores, and a look at 65 cells in five cache lines.
///
/// ```
/// use procession_core::region::Membership;
/// use procession_core::sync::RwLock;
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let lock = RwLock::new();
/// {
///     let _one = lock.read(me).unwrap();
///     let _two = lock.read(me).unwrap();
///     assert!(lock.try_write(me).is_err());
/// }
/// let writer = lock.write(me).unwrap();
/// assert!(lock.try_read(me).is_err());
/// let _reader = writer.downgrade();
/// assert!(lock.try_read(me).is_ok());
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct RwLock {
    word: AtomicU64,
    readers: Eventcount,
    writers: Eventcount,
    drain: Eventcount,
    heir: AtomicU32,
    /// Keeps the cells, which readers write, off the line of the word, which they only read.
    #[cfg(not(loom))]
    apart: [AtomicU32; 10],
    cells: [AtomicU32; CELLS],
}

const _: () = assert!(cfg!(loom) || size_of::<RwLock>() == 320);

#[cfg(not(loom))]
// SAFETY: a repr(C) struct of atomics without padding, for which all zero, and every other pattern, is valid; other
// processes may change it at any time, which atomics allow.
unsafe impl crate::region::Shareable for RwLock {}

impl Default for RwLock {
    fn default() -> Self {
        Self::new()
    }
}

/// The word, taken apart.
#[derive(Clone, Copy)]
struct State {
    phase: u64,
    /// Nobody in phase 0, somebody in all others.
    owner: Option<Tag>,
    died: bool,
}

impl State {
    /// `Err`: no lock ever holds this word.
    fn read(word: u64) -> Result<Self, u64> {
        let (phase, bits) = (word & PHASE, word as u32 & Tag::MASK);
        let owner = Tag::from_bits(bits);
        let whole = match owner {
            None => phase == 0 && bits == 0,
            Some(_) => phase != 0,
        };
        if !whole || word & !(DIED | PHASE | u64::from(Tag::MASK)) != 0 {
            return Err(word);
        }
        Ok(Self { phase, owner, died: word & DIED != 0 })
    }

    fn admits_readers(self) -> bool {
        self.phase < WAITING
    }

    /// Whether data may be half written once the owner is known to be dead.
    fn died_if_dead(self) -> bool {
        self.died || self.phase == HELD
    }
}

/// A word of this phase; nobody's without an owner.
fn word(phase: u64, owner: Tag, died: bool) -> u64 {
    phase | u64::from(owner.bits()) | free(died)
}

/// The word of a free lock.
fn free(died: bool) -> u64 {
    if died { DIED } else { 0 }
}

/// The cell with this number. Sixteen cells share a line; numbers that follow each other lie in different ones.
#[inline]
fn index(number: usize) -> usize {
    number.wrapping_mul(17) % CELLS
}

/// The number of the cell at which a reader starts to look.
#[inline]
fn home(tag: Tag) -> usize {
    #[cfg(all(feature = "std", not(loom)))]
    return tag.index().wrapping_add(crate::sys::Thread::current().number()) as usize;
    #[cfg(not(all(feature = "std", not(loom))))]
    return tag.index() as usize;
}

/// How a reader came in, if it did.
enum Entry<'a> {
    In {
        cell: &'a AtomicU32,
        died: bool,
    },
    /// All cells are taken.
    Full,
    Corrupt(u64),
}

/// What reading gives.
pub type Read<'a> = Result<RwLockReadGuard<'a>, AcquireError<RwLockReadGuard<'a>>>;
/// What writing gives.
pub type Write<'a> = Result<RwLockWriteGuard<'a>, AcquireError<RwLockWriteGuard<'a>>>;
/// What an upgradable read gives.
pub type UpgradableRead<'a> =
    Result<RwLockUpgradableReadGuard<'a>, AcquireError<RwLockUpgradableReadGuard<'a>>>;

/// Taken; or what stands in the word.
type Taken = Result<bool, u64>;

impl RwLock {
    /// A free lock.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            readers: Eventcount::new(),
            writers: Eventcount::new(),
            drain: Eventcount::new(),
            heir: AtomicU32::new(0),
            apart: [const { AtomicU32::new(0) }; 10],
            cells: [const { AtomicU32::new(0) }; CELLS],
        }
    }

    /// A free lock.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            readers: Eventcount::new(),
            writers: Eventcount::new(),
            drain: Eventcount::new(),
            heir: AtomicU32::new(0),
            cells: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Waits, as long as it takes, until no writer is in or waits, and reads. A writer that dies ends the wait within some
    /// milliseconds; for who has waited long, or beside others, within a quarter of a second.
    ///
    /// # Errors
    /// [`AcquireError::OwnerDied`] with the guard, if a writer died and nobody has mended the data since; `Corrupt`; `Join`.
    #[inline]
    pub fn read<'a>(&'a self, me: Member<'a>) -> Read<'a> {
        self.read_until(me, Deadline::NEVER)
    }

    /// Reads if no writer is in or waits, or if it is dead (asked at most once a millisecond), and a cell is free.
    ///
    /// # Errors
    /// [`AcquireError::WouldBlock`]; otherwise as [`read`](Self::read).
    #[inline]
    pub fn try_read<'a>(&'a self, me: Member<'a>) -> Read<'a> {
        self.read_until(me, Deadline::NOW).map_err(AcquireError::at_once)
    }

    /// Waits until `deadline` until no writer is in or waits, and reads.
    ///
    /// # Errors
    /// [`AcquireError::TimedOut`]; otherwise as [`read`](Self::read).
    #[inline]
    pub fn read_until<'a>(&'a self, me: Member<'a>, deadline: Deadline) -> Read<'a> {
        let tag = me.tag()?;
        let cell = &self.cells[index(home(tag))];
        // Acquire meets the Release of the cell's last reader, so that a writer which finds this one gone knows that the last
        // one has gone before.
        if cell.compare_exchange(0, tag.bits(), Ordering::Acquire, Ordering::Relaxed).is_ok() {
            after_exchange();
            // Acquire meets the Release of the last writer: its data are visible.
            if self.word.load(Ordering::Acquire) < WAITING {
                return Ok(RwLockReadGuard { lock: self, cell, me, tag, died: false });
            }
            self.leave(cell, me);
        }
        match self.enter(me, tag, deadline) {
            Some(Entry::In { cell, died }) => {
                told(died, RwLockReadGuard { lock: self, cell, me, tag, died })
            }
            Some(Entry::Corrupt(word)) => Err(AcquireError::Corrupt { word }),
            Some(Entry::Full) | None => Err(AcquireError::TimedOut),
        }
    }

    /// Waits, as long as it takes, until nobody else is in, and writes. Those that die end the wait within some
    /// milliseconds; for who has waited long, or beside others, within a quarter of a second.
    ///
    /// # Errors
    /// [`AcquireError::OwnerDied`] with the guard, if a writer died and nobody has mended the data since; `Corrupt`; `Join`.
    #[inline]
    pub fn write<'a>(&'a self, me: Member<'a>) -> Write<'a> {
        self.write_until(me, Deadline::NEVER)
    }

    /// Writes if nobody else is in, or if they are dead (asked at most once a millisecond). A failing try may keep out
    /// readers for a moment.
    ///
    /// # Errors
    /// [`AcquireError::WouldBlock`]; otherwise as [`write`](Self::write).
    #[inline]
    pub fn try_write<'a>(&'a self, me: Member<'a>) -> Write<'a> {
        // A claim that cannot last would only keep readers out meanwhile.
        if self.readers() > 0 && !me.may_ask(&raw const self.cells) {
            return Err(AcquireError::WouldBlock);
        }
        self.write_until(me, Deadline::NOW).map_err(AcquireError::at_once)
    }

    /// Waits until `deadline` until nobody else is in, and writes. While it waits for readers to leave, no new ones come in.
    ///
    /// # Errors
    /// [`AcquireError::TimedOut`]; otherwise as [`write`](Self::write).
    #[inline]
    pub fn write_until<'a>(&'a self, me: Member<'a>, deadline: Deadline) -> Write<'a> {
        let tag = me.tag()?;
        let waiting = word(WAITING, tag, false);
        // Acquire meets the Release of the last writer: its data are visible.
        let taken =
            self.word.compare_exchange(0, waiting, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            after_exchange();
            // Acquire meets the Release of the readers that left. All at once: mostly nobody reads, and a branch for each
            // cell costs more than its load.
            let heir = self.heir.load(Ordering::Acquire);
            let all = self.cells.iter().fold(heir, |all, cell| all | cell.load(Ordering::Acquire));
            if all == 0 {
                return Ok(self.hold(me, tag, false));
            }
        }
        match self.contend(me, tag, deadline, taken) {
            Some(Ok(died)) => told(died, self.hold(me, tag, died)),
            Some(Err(word)) => Err(AcquireError::Corrupt { word }),
            None => Err(AcquireError::TimedOut),
        }
    }

    /// Waits, as long as it takes, until no writer and no other upgradable reader is in, and reads. As
    /// [`read`](Self::read), but it can become a writer: [`RwLockUpgradableReadGuard::upgrade`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// ```
    /// use procession_core::region::Membership;
    /// use procession_core::sync::RwLock;
    ///
    /// let seat = Membership::private();
    /// let me = seat.member();
    /// let lock = RwLock::new();
    /// let looking = lock.upgradable_read(me).unwrap();
    /// assert!(lock.try_upgradable_read(me).is_err());
    /// assert!(lock.try_read(me).is_ok());
    /// let writing = looking.upgrade().unwrap();
    /// assert!(lock.try_read(me).is_err());
    /// # drop(writing);
    /// ```
    #[inline]
    pub fn upgradable_read<'a>(&'a self, me: Member<'a>) -> UpgradableRead<'a> {
        self.upgradable_read_until(me, Deadline::NEVER)
    }

    /// Reads, upgradably, if no writer and no other upgradable reader is in, or if it is dead.
    ///
    /// # Errors
    /// [`AcquireError::WouldBlock`]; otherwise as [`read`](Self::read).
    #[inline]
    pub fn try_upgradable_read<'a>(&'a self, me: Member<'a>) -> UpgradableRead<'a> {
        self.upgradable_read_until(me, Deadline::NOW).map_err(AcquireError::at_once)
    }

    /// Waits until `deadline` until no writer and no other upgradable reader is in, and reads.
    ///
    /// # Errors
    /// [`AcquireError::TimedOut`]; otherwise as [`read`](Self::read).
    #[inline]
    pub fn upgradable_read_until<'a>(
        &'a self,
        me: Member<'a>,
        deadline: Deadline,
    ) -> UpgradableRead<'a> {
        let tag = me.tag()?;
        let mine = word(UPGRADABLE, tag, false);
        // Acquire meets the Release of the last writer: its data are visible.
        if self.word.compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Ok(RwLockUpgradableReadGuard { lock: self, me, tag, died: false });
        }
        match self.look_upgradably(me, tag, deadline) {
            Some(Ok(died)) => told(died, RwLockUpgradableReadGuard { lock: self, me, tag, died }),
            Some(Err(word)) => Err(AcquireError::Corrupt { word }),
            None => Err(AcquireError::TimedOut),
        }
    }

    /// How many read guards there are now: those of the dead that nobody has met yet are counted, and readers that are
    /// about to find that they have to wait; an upgradable reader is not. Some loads.
    #[must_use]
    pub fn readers(&self) -> usize {
        // Relaxed: it is true at some moment, cell by cell.
        self.all_cells().filter(|cell| cell.load(Ordering::Relaxed) != 0).count()
    }

    /// Whether a writer is in, the dead included. A load.
    #[must_use]
    pub fn write_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) & PHASE == HELD
    }

    /// Who is in as a writer or an upgradable reader, or waits for readers to leave, the dead included; `None` if nobody,
    /// or if its seat has gone to another. Some loads.
    #[must_use]
    pub fn writer(&self, me: Member<'_>) -> Option<Who> {
        // Relaxed: for people to read.
        me.who(Tag::from_bits(self.word.load(Ordering::Relaxed) as u32)?)
    }

    /// Which processes sleep until they can write, or read upgradably, and for how long: for people to read.
    /// [`Eventcount::sleepers`] of the [`Waitable`] tells of those that want to read.
    #[cfg(not(loom))]
    pub fn waiting_writers<'r>(
        &self,
        me: Member<'r>,
    ) -> impl Iterator<Item = crate::region::Sleeper> + 'r {
        self.drain.sleepers(me).chain(self.writers.sleepers(me))
    }

    fn all_cells(&self) -> impl Iterator<Item = &AtomicU32> {
        self.cells.iter().chain([&self.heir])
    }

    /// The long way in for a reader.
    #[cold]
    fn enter<'a>(&'a self, me: Member<'a>, tag: Tag, deadline: Deadline) -> Option<Entry<'a>> {
        loop {
            let entry = self
                .readers
                .wait(me, deadline, Pace::Polite, |ask| self.attempt_read(me, tag, ask))?;
            if !matches!(entry, Entry::Full) || deadline.is_past() {
                return Some(entry);
            }
            // Each reader that leaves wakes those at `drain`. A writer sends back to the others.
            let entry = self.drain.wait(me, deadline, Pace::Polite, |ask| {
                match self.attempt_read(me, tag, ask) {
                    Some(Entry::Full) => None,
                    entry => Some(entry),
                }
            })?;
            if entry.is_some() {
                return entry;
            }
        }
    }

    /// One try of a reader. `None`: a living writer is in or waits.
    fn attempt_read<'a>(&'a self, me: Member<'a>, tag: Tag, ask: bool) -> Option<Entry<'a>> {
        if let Err(word) = self.open(me, ask)? {
            return Some(Entry::Corrupt(word));
        }
        let cell = match self.claim_cell(me, tag, ask) {
            Ok(Some(cell)) => cell,
            Ok(None) => return Some(Entry::Full),
            Err(word) => return Some(Entry::Corrupt(word)),
        };
        after_exchange();
        // Acquire meets the Release of the last writer, or of whoever found it dead.
        match State::read(self.word.load(Ordering::Acquire)) {
            Ok(state) if state.admits_readers() => Some(Entry::In { cell, died: state.died }),
            Ok(_) => {
                self.leave(cell, me);
                None
            }
            Err(word) => {
                self.leave(cell, me);
                Some(Entry::Corrupt(word))
            }
        }
    }

    /// Whether readers are let in; a dead writer is put out if its death is to be asked for. `None`: a living one is in or
    /// waits.
    fn open(&self, me: Member<'_>, ask: bool) -> Option<Taken> {
        // Relaxed: a hint; the reader looks again once it has its cell.
        let word = self.word.load(Ordering::Relaxed);
        let state = match State::read(word) {
            Ok(state) => state,
            Err(word) => return Some(Err(word)),
        };
        let Some(owner) = state.owner.filter(|_| !state.admits_readers()) else {
            return Some(Ok(state.died));
        };
        if !ask {
            return None;
        }
        match me.verdict(owner) {
            Verdict::Alive => return None,
            Verdict::Corrupt => return Some(Err(word)),
            Verdict::Dead => {}
        }
        let died = state.died_if_dead();
        // Release hands on what the dead one had stored, which is visible here with its verdict. Failure: another was
        // faster, and wakes who sleeps once it has left the word.
        self.word.compare_exchange(word, free(died), Ordering::Release, Ordering::Relaxed).ok()?;
        trace::recovered("RwLock", me, owner);
        self.readers.notify_all(me);
        self.writers.notify_one(me);
        Some(Ok(died))
    }

    /// Takes a cell that is empty or, if that is to be asked for, a dead one's. `None`: all are taken.
    fn claim_cell(&self, me: Member<'_>, tag: Tag, ask: bool) -> Result<Option<&AtomicU32>, u64> {
        let home = home(tag);
        let all = (0..CELLS).map(|further| &self.cells[index(home.wrapping_add(further))]);
        // Acquire: see `read_until`.
        let take = |cell: &AtomicU32, old| {
            cell.compare_exchange(old, tag.bits(), Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        for cell in all.clone() {
            // Relaxed: only what the compare-and-swap confirms counts.
            if cell.load(Ordering::Relaxed) == 0 && take(cell, 0) {
                return Ok(Some(cell));
            }
        }
        if ask {
            for cell in all {
                let bits = cell.load(Ordering::Relaxed);
                let gone = bits == 0 || dead(me, bits)?.is_some();
                if gone && take(cell, bits) {
                    return Ok(Some(cell));
                }
            }
        }
        Ok(None)
    }

    /// Gives back a cell that its claimer does not use after all, or no more.
    #[inline]
    fn leave(&self, cell: &AtomicU32, me: Member<'_>) {
        // Release meets the Acquire of the writer that finds it empty: all has been read.
        cell.store(0, Ordering::Release);
        self.drain.notify_all(me);
    }

    /// The long way in for a writer; `taken`: the word is already WAITING(me), as it was free.
    #[cold]
    fn contend(&self, me: Member<'_>, tag: Tag, deadline: Deadline, taken: bool) -> Option<Taken> {
        let mut died = false;
        if !taken {
            let claim = |ask| self.claim_word(WAITING, me, tag, ask);
            match self.writers.wait(me, deadline, Pace::Polite, claim)? {
                Ok(found) => died = found,
                damaged => return Some(damaged),
            }
            after_exchange();
        }
        match self.wait_for_readers(me, deadline) {
            Some(Ok(())) => Some(Ok(died)),
            Some(Err(word)) => {
                self.damage(me);
                Some(Err(word))
            }
            None => {
                self.set_free(died, me);
                None
            }
        }
    }

    /// The long way in for an upgradable reader.
    #[cold]
    fn look_upgradably(&self, me: Member<'_>, tag: Tag, deadline: Deadline) -> Option<Taken> {
        let claim = |ask| self.claim_word(UPGRADABLE, me, tag, ask);
        let taken = self.writers.wait(me, deadline, Pace::Polite, claim);
        if taken.is_some() {
            // The one before may have been a writer that died, and kept readers out.
            self.readers.notify_all(me);
        }
        taken
    }

    /// One try to claim the word in this phase. `Ok(died)`: done. `None`: somebody living has it.
    fn claim_word(&self, phase: u64, me: Member<'_>, tag: Tag, ask: bool) -> Option<Taken> {
        // Relaxed: only what the compare-and-swap confirms counts.
        let old = self.word.load(Ordering::Relaxed);
        let state = match State::read(old) {
            Ok(state) => state,
            Err(word) => return Some(Err(word)),
        };
        let died = match state.owner {
            None => state.died,
            Some(owner) if ask => match me.verdict(owner) {
                Verdict::Alive => return None,
                Verdict::Dead => state.died_if_dead(),
                Verdict::Corrupt => return Some(Err(old)),
            },
            Some(_) => return None,
        };
        // Acquire meets the Release of the last writer. Release hands on to readers what a dead one had stored, which is
        // visible here with its verdict.
        self.word
            .compare_exchange(old, word(phase, tag, died), Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        if let Some(owner) = state.owner {
            trace::recovered("RwLock", me, owner);
        }
        Some(Ok(died))
    }

    /// Waits until each cell was empty once: no new reader comes in, since the word is WAITING(me).
    fn wait_for_readers(&self, me: Member<'_>, deadline: Deadline) -> Option<Result<(), u64>> {
        let mut seen = 0;
        self.drain.wait(me, deadline, Pace::Polite, |ask| self.drained(me, ask, &mut seen))
    }

    /// Whether all cells were empty once; so many of them have been `seen` to be.
    #[inline]
    fn drained(&self, me: Member<'_>, ask: bool, seen: &mut usize) -> Option<Result<(), u64>> {
        for cell in self.all_cells().skip(*seen) {
            // Acquire meets the Release of the reader that left.
            let bits = cell.load(Ordering::Acquire);
            if bits != 0 {
                if !ask {
                    return None;
                }
                if let Err(word) = self.put_out(me, cell, bits)? {
                    return Some(Err(word));
                }
            }
            *seen += 1;
        }
        Some(Ok(()))
    }

    /// Empties the cell of a dead reader. `None`: it lives.
    #[cold]
    fn put_out(&self, me: Member<'_>, cell: &AtomicU32, bits: u32) -> Option<Result<(), u64>> {
        let owner = match dead(me, bits) {
            Ok(owner) => owner?,
            Err(word) => return Some(Err(word)),
        };
        // Acquire: as if it had been empty. Failure: it is empty, or taken by another reader that will find this writer.
        match cell.compare_exchange(bits, 0, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => {
                trace::recovered("RwLock", me, owner);
                self.drain.notify_all(me);
            }
            Err(0) => {}
            Err(_) => return None,
        }
        Some(Ok(()))
    }

    /// From WAITING(me), with all readers gone, to HELD(me).
    #[inline]
    fn hold<'a>(&'a self, me: Member<'a>, tag: Tag, died: bool) -> RwLockWriteGuard<'a> {
        // Relaxed: it says only that data may be half written from now on, to those who find this process dead.
        self.word.store(word(HELD, tag, died), Ordering::Relaxed);
        before_a_death();
        RwLockWriteGuard { lock: self, me, tag, died }
    }

    /// Leaves the word, and wakes who may come in.
    #[inline]
    fn set_free(&self, died: bool, me: Member<'_>) {
        // Release meets the Acquire of the next ones.
        self.word.store(free(died), Ordering::Release);
        self.readers.notify_all(me);
        self.writers.notify_one(me);
    }

    /// Says to all who come, and all who wait, that the memory is damaged.
    #[cold]
    fn damage(&self, me: Member<'_>) {
        self.word.store(DAMAGED, Ordering::Release);
        self.wake_all(me);
    }

    /// The same by a reader whose cell was not as it had written it.
    #[cold]
    fn damage_cell(&self, cell: &AtomicU32, me: Member<'_>) {
        // A writer that is in may store over the word; then the next writer finds the cell.
        cell.store(DAMAGED_CELL, Ordering::Release);
        self.word.fetch_or(DAMAGED, Ordering::Release);
        self.wake_all(me);
    }

    fn wake_all(&self, me: Member<'_>) {
        self.readers.notify_all(me);
        self.writers.notify_all(me);
        self.drain.notify_all(me);
    }
}

/// Ready when a reader would be let in: no writer is in or waits, or it is dead.
impl Waitable for RwLock {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        // Relaxed: only a hint. Damage counts as ready: reading says so.
        let Ok(state) = State::read(self.word.load(Ordering::Relaxed)) else { return true };
        match state.owner.filter(|_| !state.admits_readers()) {
            None => true,
            Some(owner) => ask && me.verdict(owner) != Verdict::Alive,
        }
    }

    fn sleepers(&self) -> &Eventcount {
        &self.readers
    }
}

/// The owner of a cell, if it is dead.
fn dead(me: Member<'_>, bits: u32) -> Result<Option<Tag>, u64> {
    let corrupt = Err(u64::from(bits));
    if bits & !Tag::MASK != 0 {
        return corrupt;
    }
    let Some(owner) = Tag::from_bits(bits) else { return corrupt };
    match me.verdict(owner) {
        Verdict::Alive => Ok(None),
        Verdict::Dead => Ok(Some(owner)),
        Verdict::Corrupt => corrupt,
    }
}

/// A guard, with the news that a writer died, if one did.
#[inline]
fn told<G>(died: bool, guard: G) -> Result<G, AcquireError<G>> {
    if died { Err(AcquireError::OwnerDied(OwnerDied::new(guard))) } else { Ok(guard) }
}

/// No writer comes in as long as this lives. Dropping it is a store, and a system call only if somebody waits for it.
#[must_use = "writers are let in at once if the guard is dropped"]
#[derive(Debug)]
pub struct RwLockReadGuard<'a> {
    lock: &'a RwLock,
    cell: &'a AtomicU32,
    me: Member<'a>,
    tag: Tag,
    died: bool,
}

impl RwLockReadGuard<'_> {
    /// Whether a writer died with this lock and nobody has marked it consistent since. Only a writer can.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.died
    }
}

impl Drop for RwLockReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Relaxed: nobody but its claimer changes the cell.
        if self.cell.load(Ordering::Relaxed) == self.tag.bits() && self.me.is(self.tag) {
            self.lock.leave(self.cell, self.me);
        } else if self.me.is(self.tag) {
            // Parts, not the guard: it needs no place in memory then.
            self.lock.damage_cell(self.cell, self.me);
        }
        // Else: inherited over fork. The parent reads, and gives back its cell.
    }
}

/// Nobody else is in as long as this lives. Dropping it is a store, and system calls only if somebody sleeps.
#[must_use = "the lock is released at once if the guard is dropped"]
#[derive(Debug)]
pub struct RwLockWriteGuard<'a> {
    lock: &'a RwLock,
    me: Member<'a>,
    tag: Tag,
    died: bool,
}

impl<'a> RwLockWriteGuard<'a> {
    /// Whether a writer died with this lock and nobody has marked it consistent since.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.died
    }

    /// Says that what the lock protects is in order again: later acquires succeed plainly.
    pub fn mark_consistent(&mut self) {
        self.died = false;
    }

    /// Becomes a reader, without letting a writer in between; readers are let in. Never waits. Two stores, and system calls
    /// only if somebody sleeps.
    #[must_use = "writers are let in at once if the guard is dropped"]
    pub fn downgrade(self) -> RwLockReadGuard<'a> {
        let Self { lock, me, tag, died } = self;
        let whole = self.is_whole();
        if whole {
            // Relaxed: the next writer sees it with the word.
            lock.heir.store(tag.bits(), Ordering::Relaxed);
            // The lock stays held by the cell, and this guard is used up.
            core::mem::forget(self);
            lock.set_free(died, me);
        }
        // Else: the drop of this guard tells, and that of the new one does so too.
        RwLockReadGuard { lock, cell: &lock.heir, me, tag, died }
    }

    /// Becomes an upgradable reader, without letting a writer in between; readers are let in. Never waits. One store, and a system
    /// call only if readers sleep.
    #[must_use = "writers are let in at once if the guard is dropped"]
    pub fn downgrade_to_upgradable(self) -> RwLockUpgradableReadGuard<'a> {
        let Self { lock, me, tag, died } = self;
        if self.is_whole() {
            core::mem::forget(self);
            // Release meets the Acquire of the readers that come in.
            lock.word.store(word(UPGRADABLE, tag, died), Ordering::Release);
            lock.readers.notify_all(me);
        }
        RwLockUpgradableReadGuard { lock, me, tag, died }
    }

    /// Whether the word is as this guard wrote it, in this process.
    #[inline]
    fn is_whole(&self) -> bool {
        // Relaxed: nobody but the holder changes the word.
        let found = self.lock.word.load(Ordering::Relaxed);
        found & !DIED == word(HELD, self.tag, false) && self.me.is(self.tag)
    }
}

impl Drop for RwLockWriteGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_whole() {
            self.lock.set_free(self.died, self.me);
        } else if self.me.is(self.tag) {
            // The next call reports it, and so do those that wait.
            self.lock.damage(self.me);
        }
        // Else: inherited over fork. The parent writes, and releases the lock.
    }
}

/// No writer and no other upgradable reader comes in as long as this lives. Dropping it is a store, and a system call only if
/// somebody sleeps.
#[must_use = "writers are let in at once if the guard is dropped"]
#[derive(Debug)]
pub struct RwLockUpgradableReadGuard<'a> {
    lock: &'a RwLock,
    me: Member<'a>,
    tag: Tag,
    died: bool,
}

/// What an upgrade gives.
pub type Upgrade<'a> = Result<RwLockWriteGuard<'a>, NotUpgraded<RwLockUpgradableReadGuard<'a>>>;

impl<'a> RwLockUpgradableReadGuard<'a> {
    /// Whether a writer died with this lock and nobody has marked it consistent since. Only a writer can.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.died
    }

    /// Waits, as long as it takes, until all other readers are gone, and writes; nobody writes in between. No new readers come
    /// in meanwhile. Those that die end the wait within some milliseconds.
    ///
    /// The lock may still be one with which a writer died: [`RwLockWriteGuard::owner_died`] says so, this does not.
    ///
    /// # Errors
    /// [`NotUpgraded`] with this guard: `Corrupt`, `Inherited`.
    pub fn upgrade(self) -> Upgrade<'a> {
        self.upgrade_until(Deadline::NEVER)
    }

    /// Writes if no other reader is in.
    ///
    /// # Errors
    /// [`NotUpgraded`] with this guard: `WouldBlock`; otherwise as [`upgrade`](Self::upgrade).
    pub fn try_upgrade(self) -> Upgrade<'a> {
        self.upgrade_until(Deadline::NOW).map_err(|not| match not.error {
            UpgradeError::TimedOut => NotUpgraded { error: UpgradeError::WouldBlock, ..not },
            _ => not,
        })
    }

    /// Waits until `deadline` until all other readers are gone, and writes.
    ///
    /// # Errors
    /// [`NotUpgraded`] with this guard: `TimedOut`, after which it reads as before; otherwise as [`upgrade`](Self::upgrade).
    pub fn upgrade_until(self, deadline: Deadline) -> Upgrade<'a> {
        let Self { lock, me, tag, died } = self;
        let mine = word(UPGRADABLE, tag, died);
        if !me.is(tag) {
            return Err(NotUpgraded { guard: self, error: UpgradeError::Inherited });
        }
        // Relaxed: this process has been in since the last writer.
        let waiting = word(WAITING, tag, died);
        if let Err(word) =
            lock.word.compare_exchange(mine, waiting, Ordering::Relaxed, Ordering::Relaxed)
        {
            return Err(NotUpgraded { guard: self, error: UpgradeError::Corrupt { word } });
        }
        after_exchange();
        match lock.wait_for_readers(me, deadline) {
            Some(Ok(())) => {
                core::mem::forget(self);
                Ok(lock.hold(me, tag, died))
            }
            Some(Err(word)) => {
                lock.damage(me);
                Err(NotUpgraded { guard: self, error: UpgradeError::Corrupt { word } })
            }
            None => {
                // Release: readers meet it, as they would the last writer's.
                lock.word.store(mine, Ordering::Release);
                lock.readers.notify_all(me);
                Err(NotUpgraded { guard: self, error: UpgradeError::TimedOut })
            }
        }
    }
}

impl Drop for RwLockUpgradableReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.me.is(self.tag) {
            // Inherited over fork. The parent reads.
            return;
        }
        // Relaxed: nobody but the holder changes the word.
        if self.lock.word.load(Ordering::Relaxed) == word(UPGRADABLE, self.tag, self.died) {
            self.lock.set_free(self.died, self.me);
        } else {
            self.lock.damage(self.me);
        }
    }
}

/// Why an upgradable reader did not become a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// Others read, and the call was not to wait.
    #[error("others read too; try again or wait with a deadline")]
    WouldBlock,
    /// Others read until the deadline.
    #[error("others went on reading until the deadline passed")]
    TimedOut,
    /// The lock holds what it never holds: its memory was overwritten.
    #[error(
        "the lock's memory is damaged (word {word:#018x}); something wrote over it, create it anew"
    )]
    Corrupt {
        /// What stands there.
        word: u64,
    },
    /// This process has inherited the guard over fork.
    #[error(
        "this guard belongs to the process that this one was forked from: acquire the lock anew"
    )]
    Inherited,
}

/// An upgrade that did not happen, with the guard, which reads as before.
pub struct NotUpgraded<G> {
    guard: G,
    error: UpgradeError,
}

impl<G> NotUpgraded<G> {
    /// The guard.
    pub fn into_guard(self) -> G {
        self.guard
    }

    /// Why.
    #[must_use]
    pub fn error(&self) -> UpgradeError {
        self.error
    }

    /// The same news with another guard, made of this one.
    pub fn map<H>(self, make: impl FnOnce(G) -> H) -> NotUpgraded<H> {
        NotUpgraded { guard: make(self.guard), error: self.error }
    }
}

impl<G> fmt::Debug for NotUpgraded<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotUpgraded").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<G> fmt::Display for NotUpgraded<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<G> core::error::Error for NotUpgraded<G> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::region::Membership;
    use core::time::Duration;
    use std::vec::Vec;

    /// In private memory any tag but the own is that of a parent from before a fork.
    const DEAD: u32 = 1 << 12 | 2;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(5))
    }

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RwLock::new();
        let readers = (lock.read(me).unwrap(), lock.try_read(me).unwrap());
        assert_eq!(lock.readers(), 2);
        assert!(matches!(lock.try_write(me), Err(AcquireError::WouldBlock)));
        assert!(matches!(lock.write_until(me, soon()), Err(AcquireError::TimedOut)));
        drop(readers);
        let writer = lock.try_write(me).unwrap();
        assert!(lock.write_locked());
        assert!(matches!(lock.try_read(me), Err(AcquireError::WouldBlock)));
        assert!(matches!(lock.read_until(me, soon()), Err(AcquireError::TimedOut)));
        assert!(matches!(lock.try_upgradable_read(me), Err(AcquireError::WouldBlock)));
        assert!(matches!(lock.upgradable_read_until(me, soon()), Err(AcquireError::TimedOut)));
        drop(writer);
        assert!(lock.read_until(me, Deadline::NOW).is_ok());
        assert_eq!((lock.readers(), lock.write_locked()), (0, false));
    }

    #[test]
    fn a_writer_that_gives_up_lets_readers_in_again() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RwLock::new();
        let reader = lock.read(me).unwrap();
        assert!(lock.write_until(me, soon()).is_err());
        assert!(lock.try_read(me).is_ok());
        drop(reader);
        assert!(lock.try_write(me).is_ok());
    }

    #[test]
    fn upgrades_and_downgrades() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RwLock::new();
        let looking = lock.upgradable_read(me).unwrap();
        let reader = lock.read(me).unwrap();
        let not = looking.try_upgrade().unwrap_err();
        assert_eq!(not.error(), UpgradeError::WouldBlock);
        let not = not.into_guard().upgrade_until(soon()).unwrap_err();
        assert_eq!(not.error(), UpgradeError::TimedOut);
        assert!(lock.try_read(me).is_ok(), "it reads as before");
        drop(reader);
        let writer = not.into_guard().upgrade().unwrap();
        assert!(lock.try_read(me).is_err());
        let looking = writer.downgrade_to_upgradable();
        assert!(lock.try_read(me).is_ok() && lock.try_write(me).is_err());
        let reader = looking.upgrade().unwrap().downgrade();
        assert!(lock.try_upgradable_read(me).is_ok() && lock.try_write(me).is_err());
        drop(reader);
        assert!(lock.try_write(me).is_ok());
    }

    #[test]
    fn a_reader_too_many_waits_for_a_cell() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RwLock::new();
        let mut guards: Vec<_> = (0..CELLS).map(|_| lock.read(me).unwrap()).collect();
        assert!(matches!(lock.try_read(me), Err(AcquireError::WouldBlock)));
        assert!(matches!(lock.read_until(me, soon()), Err(AcquireError::TimedOut)));
        std::thread::scope(|threads| {
            let late = threads.spawn(|| drop(lock.read(me).unwrap()));
            while !lock.drain.is_awaited() {
                std::thread::yield_now();
            }
            guards.pop();
            late.join().unwrap();
        });
        drop(guards);
        assert!(lock.try_write(me).is_ok());
    }

    #[test]
    fn dead_readers_are_put_out() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RwLock::new();
        for cell in lock.all_cells() {
            cell.store(DEAD, Ordering::Relaxed);
        }
        assert!(!lock.read(me).unwrap().owner_died());
        assert!(!lock.write(me).unwrap().owner_died());
        assert_eq!(lock.readers(), 0);
    }

    #[test]
    fn a_dead_writer_is_told_of_until_somebody_mends() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RwLock::new();
        lock.word.store(HELD | u64::from(DEAD), Ordering::Relaxed);
        assert!(lock.read(me).unwrap_err().into_guard().unwrap().owner_died());
        let looking = lock.upgradable_read(me).unwrap_err().into_guard().unwrap();
        let mut writer = looking.upgrade().unwrap();
        assert!(writer.owner_died());
        drop(writer);
        writer = lock.write(me).unwrap_err().into_guard().unwrap();
        writer.mark_consistent();
        drop(writer);
        assert!(lock.read(me).is_ok() && lock.write(me).is_ok());
    }

    #[test]
    fn the_dead_that_have_written_nothing_are_passed_over() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RwLock::new();
        for phase in [WAITING, UPGRADABLE] {
            for way in 0..3 {
                lock.word.store(phase | u64::from(DEAD), Ordering::Relaxed);
                match way {
                    0 => drop(lock.read(me).unwrap()),
                    1 => drop(lock.write(me).unwrap()),
                    _ => drop(lock.upgradable_read(me).unwrap()),
                }
            }
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let seat = Membership::private();
        let me = seat.member();
        for word in [DAMAGED, WAITING, HELD, 7, WAITING | 5 << 12, HELD | DAMAGED, 1 << 40] {
            let lock = RwLock::new();
            lock.word.store(word, Ordering::Relaxed);
            assert!(matches!(lock.write(me), Err(AcquireError::Corrupt { .. })), "{word:#x}");
            if word != 7 {
                assert!(matches!(lock.read(me), Err(AcquireError::Corrupt { .. })), "{word:#x}");
            }
        }
        for bits in [DAMAGED_CELL, 5 << 12, 1 << 30 | 2] {
            let lock = RwLock::new();
            lock.cells[3].store(bits, Ordering::Relaxed);
            assert!(matches!(lock.write(me), Err(AcquireError::Corrupt { .. })), "{bits:#x}");
            assert!(matches!(lock.read(me), Err(AcquireError::Corrupt { .. })), "{bits:#x}");
        }
    }

    #[test]
    fn a_guard_that_finds_damage_reports_it() {
        let seat = Membership::private();
        let me = seat.member();
        let lock = RwLock::new();
        let reader = lock.read(me).unwrap();
        for cell in &lock.cells {
            cell.store(0, Ordering::Relaxed);
        }
        drop(reader);
        assert!(matches!(lock.write(me), Err(AcquireError::Corrupt { .. })));
        for wrong in [0, 12345, HELD] {
            let lock = RwLock::new();
            let writer = lock.write(me).unwrap();
            lock.word.store(wrong, Ordering::Relaxed);
            drop(writer);
            assert!(matches!(lock.read(me), Err(AcquireError::Corrupt { .. })));
            let lock = RwLock::new();
            let looking = lock.upgradable_read(me).unwrap();
            lock.word.store(wrong, Ordering::Relaxed);
            let not = looking.upgrade().unwrap_err();
            assert!(matches!(not.error(), UpgradeError::Corrupt { .. }));
            drop(not);
            assert!(matches!(lock.write(me), Err(AcquireError::Corrupt { .. })));
        }
    }

    #[test]
    fn threads_of_all_kinds() {
        const TURNS: u64 = 2000;
        let seat = Membership::private();
        let me = seat.member();
        let lock = RwLock::new();
        let pair = [AtomicU64::new(0), AtomicU64::new(0)];
        let look = || pair.each_ref().map(|half| half.load(Ordering::Relaxed));
        let add = || {
            pair.each_ref()
                .map(|half| half.store(half.load(Ordering::Relaxed) + 1, Ordering::Relaxed))
        };
        let whole = || assert_eq!(look()[0], look()[1]);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    for turn in 0..TURNS {
                        let guard = lock.write(me).unwrap();
                        whole();
                        add();
                        if turn % 3 == 0 {
                            let _reading = guard.downgrade();
                            whole();
                        }
                    }
                });
                threads.spawn(|| {
                    for _ in 0..TURNS {
                        let _guard = lock.read(me).unwrap();
                        whole();
                    }
                });
            }
            threads.spawn(|| {
                for _ in 0..TURNS {
                    let guard = lock.upgradable_read(me).unwrap();
                    let before = look();
                    let _guard = guard.upgrade().unwrap();
                    assert_eq!(look(), before);
                    add();
                }
            });
        });
        assert_eq!(look(), [3 * TURNS; 2]);
    }
}
