//! Who holds one end of something: counted exactly, whoever dies, and while the end travels.
//!
//! ```text
//! cell:  serial 32 | tag 30 | state 2           FREE, HELD(o), TRANSIT(o)
//!        ticket 32 | carrier / 128, 30 | 3      SENT(carrier, ticket); the serial is kept in a word beside it
//! word:  changes 62 | FINISHED 1 | CLOSED 1
//!
//! FREE → HELD(me)                        hold: a process has the end
//! FREE → TRANSIT(me)                     depart: a copy of it leaves, by the name (cell, serial)
//! TRANSIT(me) → SENT(carrier, t)         send: it is the carrier's, after ticket t was claimed, before its place is published
//! SENT(carrier, t) → TRANSIT(me)         take: the claim of ticket t is mine, and the place not given back yet
//! TRANSIT(o) → HELD(me)                  arrive: whoever has the name, once
//! HELD(me), TRANSIT(me) → FREE           release, withdraw: with the next serial
//! HELD(dead), TRANSIT(dead) → FREE       anybody who asks
//! SENT, its ticket passed → TRANSIT(me) → FREE, or back to SENT: anybody who asks
//! word: changes + 1                      by whoever has left FREE or has come back to it
//! word: CLOSED                           by whoever has seen all cells free, for good
//! word: FINISHED                         by the one who closed it, after it has done what is to be done then
//! ```
//!
//! - Every arrow is one compare-and-swap from exactly the value that was seen, by which one process claims or gives back. A serial
//!   counts the lives of a cell, so what was seen is not mistaken for what came later.
//! - The end is open as long as a cell is not free. Cells cannot be looked at all at once, and a copy may be made in a cell
//!   that was looked at before the original is given back in one that was not. So whoever leaves FREE changes the
//!   word before it does anything else, and CLOSED is set by a compare-and-swap from what the word was before the look at all
//!   cells: it fails if any copy was made meanwhile. Who finds CLOSED when it changes the word has come too late, and frees its cell.
//! - Whoever gives back a cell changes the word and then looks at all of them. Of two that do so at the same time the one that
//!   changes the word last sees both cells free. If it dies before it has looked, the next one that looks will see it.
//! - An end that was left in a carrier whose ticket is passed is nobody's: its sender or its receiver died in between. Whether it
//!   was passed was asked before the claim, and the same ticket may have come round since; so who looks takes the
//!   end in hand and asks again. A receiver that comes for it meanwhile takes it out of that hand, for it knows the serial.
//! - Who only sweeps holds nothing here: the end may be destroyed while it looks, and its place used for anything. So it asks whether
//!   the end is still there after it has read a word and before it changes that: then it was a word of this end, and each change is
//!   from exactly that value. Where changes and serials begin is chosen by the maker, so that no later end in this place has it.
//! - Nobody gets stuck: no step waits for another process. A cell of the dead costs its place until somebody asks; who
//!   finds no free cell asks about all.

use crate::region::{JoinError, Member, Tag, Verdict};
#[cfg(not(loom))]
use crate::region::{Place, PlaceError, QUEUE_ALIGN, Shareable};
use crate::sys::atomic::{AtomicU64, Ordering, fence};
use crate::sys::trace;

#[cfg(loom)]
const QUEUE_ALIGN: u64 = 128;

const FREE: u64 = 0;
const HELD: u64 = 1;
const TRANSIT: u64 = 2;
const SENT: u64 = 3;
const STATE: u64 = 3;
const TAG_SHIFT: u32 = 2;
const CARRIER: u64 = (1 << 30) - 1;
const UPPER: u32 = 32;

const CLOSED: u64 = 1;
const FINISHED: u64 = 2;
const CHANGE: u64 = 4;

/// How often a look at all cells starts over: each time a copy was made meanwhile. After that the end is open, as it was.
const FUEL: u32 = 1 << 8;

/// The most cells that one end can have.
pub const MOST_HOLDERS: u32 = 1 << 16;

/// What stands in front of the cells.
///
/// `what` = "ends" 32 | cells 32, by the creator's last store.
#[derive(Debug)]
#[repr(C)]
pub struct HoldersHead {
    word: AtomicU64,
    what: AtomicU64,
}

/// One copy of the end, or room for one.
#[derive(Debug)]
#[repr(C)]
pub struct HolderCell {
    word: AtomicU64,
    /// The serial while the word says SENT; written before by whoever has it in TRANSIT.
    kept: AtomicU64,
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl Shareable for HoldersHead {}
#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl Shareable for HolderCell {}

#[cfg(not(loom))]
const WHAT: u64 = u32::from_be_bytes(*b"ends") as u64;
#[cfg(not(loom))]
const CELLS_AT: u64 = size_of::<HoldersHead>() as u64;

/// What a cell says, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Held(Tag),
    Transit(Tag),
    Sent { carrier: u64, ticket: u32 },
    Damaged,
}

fn owned(state: u64, tag: Tag, serial: u32) -> u64 {
    u64::from(serial) << UPPER | u64::from(tag.bits()) << TAG_SHIFT | state
}

fn free(serial: u32) -> u64 {
    u64::from(serial) << UPPER | FREE
}

fn sent(carrier: u64, ticket: u32) -> u64 {
    u64::from(ticket) << UPPER | ((carrier / QUEUE_ALIGN) & CARRIER) << TAG_SHIFT | SENT
}

fn serial_of(word: u64) -> u32 {
    (word >> UPPER) as u32
}

fn read(word: u64) -> State {
    let tag = || Tag::from_bits((word >> TAG_SHIFT) as u32);
    match word & STATE {
        FREE if word as u32 == 0 => State::Free,
        HELD => tag().map_or(State::Damaged, State::Held),
        TRANSIT => tag().map_or(State::Damaged, State::Transit),
        SENT => State::Sent {
            carrier: (word >> TAG_SHIFT & CARRIER) * QUEUE_ALIGN,
            ticket: serial_of(word),
        },
        _ => State::Damaged,
    }
}

/// Why an end cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// Nobody has held it at some moment, so it is closed for good.
    #[error("this end is closed: nobody held it any more; make a new one")]
    Closed,
    /// As many hold it, or have copies of it on the way, as there is room for.
    #[error(
        "{most} copies of this end exist, and there is room for no more: close some, or make it for more"
    )]
    Full {
        /// How many there is room for.
        most: u32,
    },
    /// The cells hold what they never do: the memory was overwritten.
    #[error(
        "the memory of this end is damaged (word {word:#018x}); something wrote over it, create the object anew"
    )]
    Corrupt {
        /// What stands there.
        word: u64,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

/// Why there are no holders in a place.
#[cfg(not(loom))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldersPlaceError {
    /// There is room for at least one holder, and at most [`MOST_HOLDERS`].
    #[error("an end can have room for 1 to {MOST_HOLDERS} holders, not {asked}")]
    Capacity {
        /// Room asked for.
        asked: u32,
    },
    /// No holders were counted there.
    #[error("no counted end lies there (word {word:#018x}): attach to what was created as one")]
    Nothing {
        /// What stands there instead.
        word: u64,
    },
    /// The place cannot hold it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The first holder could not hold it.
    #[error(transparent)]
    Hold(#[from] HoldError),
}

/// What became of an end by a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody has it, or a copy of it is on its way.
    Open,
    /// It was closed before.
    Closed,
    /// This very call has closed it: of all processes this one is to do what is to be done then.
    Last,
}

impl Standing {
    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(self) -> bool {
        self != Self::Open
    }
}

/// This process's hold on an end. Give it back with [`Holders::release`]; if the process dies, whoever asks takes it back. A
/// forked child has a copy that is worth nothing: it takes a hold of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    index: u32,
    serial: u32,
    tag: Tag,
}

impl Hold {
    /// Whether it is that of this process.
    #[inline]
    #[must_use]
    pub fn is_mine(&self, me: Member<'_>) -> bool {
        me.is(self.tag)
    }
}

/// The name of a copy of an end that is on its way: plain numbers, not trusted by whoever gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Which cell.
    pub index: u32,
    /// Which life of it.
    pub serial: u32,
}

/// Says whether everything that was tied to a ticket of a carrier has left it: by the carrier's place in the region and the
/// lowest 32 bits of the ticket. What it gets is not trusted; a carrier that does not exist has no tickets to come.
pub type Passed<'p> = &'p dyn Fn(u64, u32) -> bool;

/// Says whether the end that is looked at is still there: for who holds nothing of it, so that it may be destroyed meanwhile.
pub type There<'p> = &'p dyn Fn() -> bool;

/// The holders of one end of something in shared memory: a view of them, to be copied freely within the process.
///
/// An end is open while anybody living holds it, or has a copy of it on the way; a process that dies holds nothing any more. When
/// the last hold is gone the end is closed, for good.
///
/// Cost: holding, sending, taking and releasing are a few compare-and-swaps each, and a look at each cell where one is given
/// back. No system call, but where somebody asks about the dead. 16 bytes in memory, and 16 for each cell.
///
/// ```
/// use procession_core::queue::{Holders, Standing};
/// use procession_core::region::{Membership, Place};
///
/// let seat = Membership::private();
/// let me = seat.member();
/// let mut memory = [0; 32];
/// let (end, hold) = Holders::create(Place::in_memory(&mut memory), me, 8, 0)?;
///
/// let copy = end.depart(me, &|_, _| false)?; // a name, to be sent to somebody
/// assert_eq!(end.release(me, hold), Standing::Open); // the copy is still there
/// let hold = end.arrive(me, copy, &|_, _| false)?;
/// assert_eq!(end.release(me, hold), Standing::Last);
/// assert!(end.is_closed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Holders<'r> {
    head: &'r HoldersHead,
    cells: &'r [HolderCell],
}

impl core::fmt::Debug for Holders<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Holders")
            .field("closed", &self.is_closed())
            .field("used", &self.used())
            .field("cells", &self.cells.len())
            .finish()
    }
}

#[cfg(not(loom))]
impl<'r> Holders<'r> {
    /// How many bytes an end with room for so many holders takes.
    #[must_use]
    pub const fn bytes_for(cells: u32) -> u64 {
        CELLS_AT + cells as u64 * size_of::<HolderCell>() as u64
    }

    /// Makes an end with room for so many holders, copies on the way included, in memory that nobody else uses. The caller is its first
    /// holder. `first` says where counting begins: ends that are made at one place after the other do well to have different ones.
    ///
    /// # Errors
    /// [`HoldersPlaceError::Capacity`]; `Place` if it does not fit; `Hold` if this process has to join and cannot.
    pub fn create(
        place: Place<'r>,
        me: Member<'_>,
        cells: u32,
        first: u32,
    ) -> Result<(Self, Hold), HoldersPlaceError> {
        if cells == 0 || cells > MOST_HOLDERS {
            return Err(HoldersPlaceError::Capacity { asked: cells });
        }
        let head: &HoldersHead = place.object(0)?;
        let row: &[HolderCell] = place.objects(CELLS_AT, u64::from(cells))?;
        // First there is none, so that nobody attaches to one that is being overwritten: who sees a store below sees this.
        head.what.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for cell in row {
            cell.word.store(free(first), Ordering::Relaxed);
        }
        head.word.store(u64::from(first) << UPPER, Ordering::Relaxed);
        let end = Self { head, cells: row };
        let hold = end.hold(me, &|_, _| false)?;
        // Release meets the Acquire in `attach`.
        head.what.store(WHAT << 32 | u64::from(cells), Ordering::Release);
        Ok((end, hold))
    }

    /// The end that was made in this place.
    ///
    /// # Errors
    /// [`HoldersPlaceError::Nothing`] if none was; `Place` if it does not fit.
    pub fn attach(place: Place<'r>) -> Result<Self, HoldersPlaceError> {
        let head: &HoldersHead = place.object(0)?;
        // Acquire meets the Release in `create`.
        let word = head.what.load(Ordering::Acquire);
        let cells = word as u32;
        if word >> 32 != WHAT || cells == 0 || cells > MOST_HOLDERS {
            return Err(HoldersPlaceError::Nothing { word });
        }
        Ok(Self { head, cells: place.objects(CELLS_AT, u64::from(cells))? })
    }
}

impl Holders<'_> {
    /// Whether nobody has held it any more at some moment. One load.
    ///
    /// What the dead hold counts until somebody has [looked](Self::look).
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // Acquire: who sees it closed sees what its holders did before.
        self.head.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// How many cells are not free: holders and copies on the way, about now, the dead included.
    #[must_use]
    pub fn used(&self) -> usize {
        // Relaxed: a number for people.
        let used = |cell: &&HolderCell| read(cell.word.load(Ordering::Relaxed)) != State::Free;
        self.cells.iter().filter(used).count()
    }

    /// How many holders and copies on the way there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.cells.len()
    }

    /// Holds the end. `passed` is asked if there is no room, to find copies that were left behind.
    ///
    /// # Errors
    /// [`HoldError`].
    pub fn hold(&self, me: Member<'_>, passed: Passed<'_>) -> Result<Hold, HoldError> {
        let tag = me.tag()?;
        let Passage { index, serial } = self.enter(me, HELD, tag, passed)?;
        Ok(Hold { index, serial, tag })
    }

    /// A copy of the end that is to leave this process: whoever has its name can [`arrive`](Self::arrive) with it, once. Until then
    /// it is this process's, and gone with it; unless it is [sent](Self::send).
    ///
    /// # Errors
    /// [`HoldError`].
    pub fn depart(&self, me: Member<'_>, passed: Passed<'_>) -> Result<Passage, HoldError> {
        let tag = me.tag()?;
        self.enter(me, TRANSIT, tag, passed)
    }

    /// Ties a departed copy to a ticket of a carrier: from now on it is the carrier's, whoever dies. To be called after the
    /// ticket was claimed, and before its place is published. `false`: it is not in this process's hand.
    pub fn send(&self, me: Member<'_>, copy: Passage, carrier: u64, ticket: u64) -> bool {
        let (Some(cell), Some(tag)) = (self.cells.get(copy.index as usize), me.current_tag())
        else {
            return false;
        };
        // Relaxed: read by those who see the word below.
        cell.kept.store(u64::from(copy.serial), Ordering::Relaxed);
        let mine = owned(TRANSIT, tag, copy.serial);
        // Release: the serial comes before.
        let away = sent(carrier, ticket as u32);
        cell.word.compare_exchange(mine, away, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Takes a copy out of the place that this process has claimed under `ticket`, before that is given back: from now on it
    /// is this process's, to [arrive](Self::arrive) or to be [withdrawn](Self::withdraw). `false`: it is not there.
    pub fn take(&self, me: Member<'_>, copy: Passage, carrier: u64, ticket: u64) -> bool {
        let Some(cell) = self.cells.get(copy.index as usize) else { return false };
        let Ok(tag) = me.tag() else { return false };
        let mine = owned(TRANSIT, tag, copy.serial);
        // Twice more: somebody who looks for what was left behind may take it, and put it back.
        for _ in 0..3 {
            // Acquire meets the Release of `send`.
            let word = cell.word.load(Ordering::Acquire);
            let there = match read(word) {
                State::Sent { .. } => {
                    word == sent(carrier, ticket as u32)
                        && cell.kept.load(Ordering::Relaxed) == u64::from(copy.serial)
                }
                State::Transit(_) => serial_of(word) == copy.serial,
                _ => false,
            };
            if !there {
                return false;
            }
            // AcqRel: the word goes on in the order in which the copy was handed on.
            if cell.word.compare_exchange(word, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
        false
    }

    /// Holds the end by a copy that came here. If it was given away before, or was a dead one's, by a new hold if the end is
    /// still open.
    ///
    /// # Errors
    /// [`HoldError`].
    pub fn arrive(
        &self,
        me: Member<'_>,
        copy: Passage,
        passed: Passed<'_>,
    ) -> Result<Hold, HoldError> {
        let tag = me.tag()?;
        if let Some(cell) = self.cells.get(copy.index as usize) {
            // Relaxed: only what the compare-and-swap confirms counts.
            let word = cell.word.load(Ordering::Relaxed);
            let held = owned(HELD, tag, copy.serial);
            // AcqRel: as in `take`.
            if matches!(read(word), State::Transit(_))
                && serial_of(word) == copy.serial
                && cell
                    .word
                    .compare_exchange(word, held, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                return Ok(Hold { index: copy.index, serial: copy.serial, tag });
            }
        }
        self.hold(me, passed)
    }

    /// Gives a hold back. Does nothing with one that was inherited over fork: then the answer is `Open`.
    pub fn release(&self, me: Member<'_>, hold: Hold) -> Standing {
        if !me.is(hold.tag) {
            return Standing::Open;
        }
        self.give_back(me, hold.index, owned(HELD, hold.tag, hold.serial), hold.serial)
    }

    /// Whether a departed copy is in this process's hand still.
    #[must_use]
    pub fn is_departed(&self, me: Member<'_>, copy: Passage) -> bool {
        let cell = self.cells.get(copy.index as usize);
        cell.zip(me.current_tag()).is_some_and(|(cell, tag)| {
            // Relaxed: only its owner cares, and others can but take it away.
            cell.word.load(Ordering::Relaxed) == owned(TRANSIT, tag, copy.serial)
        })
    }

    /// Takes a departed copy back that is still in this process's hand; does nothing with another: then the answer is `Open`.
    pub fn withdraw(&self, me: Member<'_>, copy: Passage) -> Standing {
        me.current_tag().map_or(Standing::Open, |tag| {
            self.give_back(me, copy.index, owned(TRANSIT, tag, copy.serial), copy.serial)
        })
    }

    /// Looks whether anybody living holds the end, and asks the kernel about who does until it finds one. An end that is not
    /// there any more is closed.
    ///
    /// # Errors
    /// [`HoldError::Corrupt`].
    pub fn look(
        &self,
        me: Member<'_>,
        passed: Passed<'_>,
        there: There<'_>,
    ) -> Result<Standing, HoldError> {
        self.settle(me, Some((passed, there)))
    }

    /// Says that what was to be done after closing is done: by whoever was told [`Standing::Last`]. If that process dies before, it
    /// never is.
    pub fn finish(&self) {
        // AcqRel: who sees it sees what was done before.
        self.head.word.fetch_or(FINISHED, Ordering::AcqRel);
        // Of two ends that are finished at the same time, by those who look at the other one next, one at least sees both.
        fence(Ordering::SeqCst);
    }

    /// Whether it is [finished](Self::finish).
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.head.word.load(Ordering::Acquire) & FINISHED != 0
    }

    /// Takes back all that the dead hold, and what was left behind; the end stays open until somebody [looks](Self::look). What was
    /// left behind is left to others by a process that has not joined.
    ///
    /// # Errors
    /// [`HoldError::Corrupt`].
    pub fn sweep(
        &self,
        me: Member<'_>,
        passed: Passed<'_>,
        there: There<'_>,
    ) -> Result<(), HoldError> {
        self.cells.iter().try_for_each(|cell| self.examine(me, cell, passed, there).map(drop))
    }

    /// Leaves FREE somewhere.
    fn enter(
        &self,
        me: Member<'_>,
        state: u64,
        tag: Tag,
        passed: Passed<'_>,
    ) -> Result<Passage, HoldError> {
        let (index, serial) = match self.find(state, tag) {
            Some(found) => found,
            None => {
                // Who comes with a copy keeps the end there.
                self.sweep(me, passed, &|| true)?;
                let most = self.cells.len() as u32;
                self.find(state, tag).ok_or(HoldError::Full { most })?
            }
        };
        // Release: who reads this change finds the cell no longer free. Acquire: as in `is_closed`.
        if self.head.word.fetch_add(CHANGE, Ordering::AcqRel) & CLOSED != 0 {
            let _ = self.cells[index as usize].word.compare_exchange(
                owned(state, tag, serial),
                free(serial.wrapping_add(1)),
                Ordering::Release,
                Ordering::Relaxed,
            );
            return Err(HoldError::Closed);
        }
        Ok(Passage { index, serial })
    }

    fn find(&self, state: u64, tag: Tag) -> Option<(u32, u32)> {
        (0..).zip(self.cells).find_map(|(index, cell)| {
            // Relaxed: only what the compare-and-swap confirms counts.
            let word = cell.word.load(Ordering::Relaxed);
            let serial = serial_of(word);
            // AcqRel: what was seen of the word's changes before is seen by who finds this.
            (read(word) == State::Free
                && cell
                    .word
                    .compare_exchange(
                        word,
                        owned(state, tag, serial),
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    )
                    .is_ok())
            .then_some((index, serial))
        })
    }

    fn give_back(&self, me: Member<'_>, index: u32, mine: u64, serial: u32) -> Standing {
        let Some(cell) = self.cells.get(index as usize) else { return Standing::Open };
        let next = free(serial.wrapping_add(1));
        // Release: what its holder did comes before it is free.
        if cell.word.compare_exchange(mine, next, Ordering::Release, Ordering::Relaxed).is_err() {
            return Standing::Open;
        }
        // Release: who changes the word later sees the cell free. Acquire: and this one those that were given back earlier.
        self.head.word.fetch_add(CHANGE, Ordering::AcqRel);
        self.settle(me, None).unwrap_or(Standing::Open)
    }

    /// Closes the end if all cells are free; with a question about those that are not if it may be asked.
    fn settle(
        &self,
        me: Member<'_>,
        asks: Option<(Passed<'_>, There<'_>)>,
    ) -> Result<Standing, HoldError> {
        for _ in 0..FUEL {
            // Acquire: a copy whose making has changed the word is seen below.
            let word = self.head.word.load(Ordering::Acquire);
            if word & CLOSED != 0 {
                return Ok(Standing::Closed);
            }
            for cell in self.cells {
                let freed = match asks {
                    Some((passed, there)) => self.examine(me, cell, passed, there)?,
                    // Acquire: as below.
                    None => read(cell.word.load(Ordering::Acquire)) == State::Free,
                };
                if !freed {
                    return Ok(Standing::Open);
                }
            }
            // After the cells were read: else they were not this end's. It is destroyed only when it is closed.
            if asks.is_some_and(|(_, there)| !there()) {
                return Ok(Standing::Closed);
            }
            // AcqRel: who sees it closed sees what the holders did. Failure: a copy was made, or given back.
            if self
                .head
                .word
                .compare_exchange(word, word | CLOSED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(Standing::Last);
            }
        }
        Ok(Standing::Open)
    }

    /// Frees a cell if what it holds is a dead one's, or was left behind. Whether it is free.
    fn examine(
        &self,
        me: Member<'_>,
        cell: &HolderCell,
        passed: Passed<'_>,
        there: There<'_>,
    ) -> Result<bool, HoldError> {
        // Acquire: what its last holder did is over, and its changes of the word are seen.
        let word = cell.word.load(Ordering::Acquire);
        match read(word) {
            State::Free => Ok(true),
            // Something else lies here by now.
            _ if !there() => Ok(true),
            State::Held(owner) | State::Transit(owner) => match me.verdict(owner) {
                Verdict::Alive => Ok(false),
                Verdict::Corrupt => Err(HoldError::Corrupt { word }),
                Verdict::Dead => {
                    let next = free(serial_of(word).wrapping_add(1));
                    // AcqRel: after the verdict, with which all stores of the dead one are visible. Failure: it had given it on.
                    let freed = cell
                        .word
                        .compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok();
                    if freed {
                        trace::recovered("Holders", me, owner);
                    }
                    Ok(freed)
                }
            },
            State::Sent { carrier, ticket } => {
                Ok(passed(carrier, ticket) && self.collect(me, cell, word, passed))
            }
            State::Damaged => Err(HoldError::Corrupt { word }),
        }
    }

    /// Takes a copy in hand whose ticket has passed, asks once more, and frees it or puts it back. Whether it is free.
    fn collect(&self, me: Member<'_>, cell: &HolderCell, word: u64, passed: Passed<'_>) -> bool {
        let State::Sent { carrier, ticket } = read(word) else { return false };
        let Some(tag) = me.current_tag() else { return false };
        let serial = cell.kept.load(Ordering::Relaxed) as u32;
        let mine = owned(TRANSIT, tag, serial);
        // Acquire: whoever had sent it under this number again comes before the second question.
        if cell.word.compare_exchange(word, mine, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let over = passed(carrier, ticket);
        let next = if over { free(serial.wrapping_add(1)) } else { word };
        // Release: it goes on, or back to whoever comes for it. Failure: it was here, and took it.
        let done = cell.word.compare_exchange(mine, next, Ordering::AcqRel, Ordering::Relaxed);
        over && done.is_ok()
    }
}

/// An end on the heap, for the model checker.
#[cfg(loom)]
#[derive(Debug)]
pub struct Heap {
    head: HoldersHead,
    cells: std::vec::Vec<HolderCell>,
}

#[cfg(loom)]
impl Heap {
    /// Room for so many; nobody holds it yet. Serials are about to wrap.
    #[must_use]
    pub fn new(cells: usize) -> Self {
        let cell = |_| HolderCell { word: AtomicU64::new(free(u32::MAX)), kept: AtomicU64::new(0) };
        Self {
            head: HoldersHead { word: AtomicU64::new(0), what: AtomicU64::new(0) },
            cells: (0..cells).map(cell).collect(),
        }
    }

    /// Another end in the place of this one, which was destroyed.
    pub fn make_anew(&self, first: u32) {
        // As in `create`.
        fence(Ordering::Release);
        for cell in &self.cells {
            cell.word.store(free(first), Ordering::Relaxed);
        }
        self.head.word.store(u64::from(first) << UPPER, Ordering::Relaxed);
    }

    /// The end.
    #[must_use]
    pub fn holders(&self) -> Holders<'_> {
        Holders { head: &self.head, cells: &self.cells }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
