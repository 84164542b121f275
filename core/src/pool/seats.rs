//! The seats of a board: who works, and what about.
//!
//! ```text
//! seat's word:  state 3 | life 31 | tag 30
//!
//! EMPTY(n)          nobody's
//! RESERVED(n, p)    a process is being started for it by the owner p
//! STARTING(n, o)    worker o is there, and not yet ready (its initializer runs)
//! READY(n, o)       o takes tasks
//! LEAVING(n, o)     o takes no more, and ends by itself
//!
//! EMPTY → RESERVED(me)                  reserve    owner
//! RESERVED(n, p) → STARTING(n, me)      sit        the worker that was started for this life of the seat
//! STARTING(me) → READY(me) → LEAVING(me)           worker
//! anything → EMPTY(n+1)                 vacate     owner, when the process has been reaped or was never there
//! RESERVED(dead) → EMPTY(n+1)           bury       a sweep
//! ```
//!
//! Every word but EMPTY names somebody, and a tag never comes back: who was stopped while another board was made in the place
//! of the one that it looked at changes nothing there.
//!
//! Nobody waits for anybody: a worker that comes too late finds another life in its seat, and does not sit down.

use super::board::Board;
use super::word::{SeatState, next};
use super::{Ticket, Worker};
use crate::region::{JoinError, Member, Tag, Verdict};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};

/// What the workers are told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Take what comes.
    Run,
    /// Leave when nothing is queued.
    Drain,
    /// Leave after what is in hand.
    Stop,
}

impl Order {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Run => 0,
            Self::Drain => 1,
            Self::Stop => 2,
        }
    }

    /// Reads a word that anybody may have written: what is no order ends the workers.
    pub(super) fn read(word: u32) -> Self {
        match word {
            0 => Self::Run,
            1 => Self::Drain,
            _ => Self::Stop,
        }
    }
}

/// One life of one seat: what the owner gives to the process that it starts for it. Plain numbers, to be sent along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeatAt {
    /// Which seat.
    pub index: u32,
    /// Which life of it.
    pub life: u32,
    /// Whose board it is.
    pub owner: Tag,
}

/// Who is in a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeatLook {
    /// Nobody: or there is no such seat, or another life is in it.
    Empty,
    /// A process is being started for it.
    Reserved,
    /// A worker is there, and not yet ready.
    Starting(Tag),
    /// A worker takes tasks.
    Ready(Tag),
    /// A worker takes no more, and ends by itself.
    Leaving(Tag),
    /// The memory is damaged.
    Damaged,
}

impl SeatLook {
    /// Who sits there.
    #[must_use]
    pub fn tag(self) -> Option<Tag> {
        match self {
            Self::Starting(tag) | Self::Ready(tag) | Self::Leaving(tag) => Some(tag),
            Self::Empty | Self::Reserved | Self::Damaged => None,
        }
    }
}

/// What a worker says about itself: for statistics, deadlines and limits. As of about now; nothing depends on it being true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeatRecord {
    /// How many chunks it has taken and finished.
    pub chunks: u64,
    /// The number of the ticket that it is at, if it is at one.
    pub running: Option<u32>,
    /// Since when it is at that, or idle, as it [has said](Worker::note_since), in nanoseconds of the monotonic clock; 0 if it
    /// has not yet said so. Read after a [look](Board::look) that finds its ticket taken, it is that ticket's or a later one's.
    pub since: u64,
    /// How many bytes of memory it [said last](Worker::note_resident) that it has; else 0.
    pub resident: u64,
}

/// Why a worker cannot sit down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SitError {
    /// The seat is kept for nobody, or for another: the owner has given up on this worker.
    #[error(
        "seat {index} of the pool is not kept for this worker (any more): it was given up; end"
    )]
    NotReserved {
        /// Which seat.
        index: u32,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

const RETIRE: u32 = 1;

/// A seat, as it lies in shared memory. All but the word and the order is the worker's to write.
#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Seat {
    word: AtomicU64,
    pub(super) running: AtomicU64,
    pub(super) since: AtomicU64,
    pub(super) chunks: AtomicU64,
    pub(super) resident: AtomicU64,
    retire: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Seat>() == 128);

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl crate::region::Shareable for Seat {}

#[cfg(loom)]
impl Seat {
    pub fn fresh() -> Self {
        Self {
            word: AtomicU64::new(0),
            running: AtomicU64::new(0),
            since: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
            resident: AtomicU64::new(0),
            retire: AtomicU32::new(0),
        }
    }
}

impl Seat {
    /// Whether its worker is told to leave.
    #[inline]
    pub fn is_retired(&self) -> bool {
        // Relaxed: the eventcount's fences order it for who sleeps, and others see it soon.
        self.retire.load(Ordering::Relaxed) != 0
    }

    /// The worker's own step, from a state with its tag.
    pub fn step(&self, life: u32, from: SeatState, to: SeatState) -> bool {
        // Release: what the worker did before shows to who sees the new state.
        (self.word)
            .compare_exchange(from.word(life), to.word(life), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

impl<'m> Board<'m> {
    fn seat_of(&self, at: SeatAt) -> Option<&'m Seat> {
        self.seats.get(at.index as usize)
    }

    /// Keeps an empty seat for a worker that is about to be started. `None` if it is not empty, or there is no such seat.
    #[must_use]
    pub fn reserve(&self, index: u32) -> Option<SeatAt> {
        let seat = self.seats.get(index as usize)?;
        let (SeatState::Empty, life) = SeatState::read(seat.word.load(Ordering::Acquire)) else {
            return None;
        };
        // Relaxed: the exchange below brings them to who sits down; nobody does in an empty seat.
        for word in [&seat.running, &seat.since, &seat.chunks, &seat.resident] {
            word.store(0, Ordering::Relaxed);
        }
        seat.retire.store(0, Ordering::Relaxed);
        let owner = self.owner()?;
        seat.step(life, SeatState::Empty, SeatState::Reserved(owner)).then_some(SeatAt {
            index,
            life,
            owner,
        })
    }

    /// Sits down in the seat that was kept for this worker.
    ///
    /// # Errors
    /// [`SitError::NotReserved`] if it is kept for it no more; `Join`.
    pub fn sit(&self, me: Member<'m>, at: SeatAt) -> Result<Worker<'m>, SitError> {
        let tag = me.tag()?;
        let seat = self.seat_of(at).ok_or(SitError::NotReserved { index: at.index })?;
        if !seat.step(at.life, SeatState::Reserved(at.owner), SeatState::Starting(tag)) {
            return Err(SitError::NotReserved { index: at.index });
        }
        Ok(Worker::new(*self, me, tag, seat, at))
    }

    /// Who is in this life of a seat.
    #[must_use]
    pub fn seat(&self, at: SeatAt) -> SeatLook {
        let Some(seat) = self.seat_of(at) else { return SeatLook::Empty };
        // Acquire: what the worker did before it wrote that.
        let (state, life) = SeatState::read(seat.word.load(Ordering::Acquire));
        match state {
            SeatState::Damaged => SeatLook::Damaged,
            _ if life != at.life => SeatLook::Empty,
            SeatState::Empty => SeatLook::Empty,
            SeatState::Reserved(_) => SeatLook::Reserved,
            SeatState::Starting(tag) => SeatLook::Starting(tag),
            SeatState::Ready(tag) => SeatLook::Ready(tag),
            SeatState::Leaving(tag) => SeatLook::Leaving(tag),
        }
    }

    /// What the worker in a seat says about itself.
    #[must_use]
    pub fn record(&self, at: SeatAt) -> SeatRecord {
        let Some(seat) = self.seat_of(at) else { return SeatRecord::default() };
        // Relaxed: for people, and for limits that are not exact.
        let running = seat.running.load(Ordering::Relaxed);
        SeatRecord {
            chunks: seat.chunks.load(Ordering::Relaxed),
            running: (running != 0).then_some(running as u32),
            since: seat.since.load(Ordering::Relaxed),
            resident: seat.resident.load(Ordering::Relaxed),
        }
    }

    /// Makes a seat empty: when its process has been reaped, or was not started. `false` if another life is in it, or nobody.
    pub fn vacate(&self, at: SeatAt) -> bool {
        let Some(seat) = self.seat_of(at) else { return false };
        // Acquire: as in `seat`.
        let word = seat.word.load(Ordering::Acquire);
        let (state, life) = SeatState::read(word);
        let empty = SeatState::Empty.word(next(at.life));
        // Failure: the worker is just moving on, and so lives.
        life == at.life
            && state != SeatState::Empty
            && (seat.word)
                .compare_exchange(word, empty, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Whether every seat is empty: nobody uses the board but its owner. A load for each.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        self.seats.iter().all(|seat| {
            // Acquire: as in `seat`.
            SeatState::read(seat.word.load(Ordering::Acquire)).0 == SeatState::Empty
        })
    }

    /// Whether the owner and all who sit there are dead. A seat that a dead owner has kept for somebody is kept no more after
    /// this: whoever comes for it is turned away. Some microseconds for each seat that is not empty.
    #[must_use]
    pub fn is_abandoned(&self, me: Member<'_>) -> bool {
        let Some(owner) = self.owner().filter(|owner| me.verdict(*owner) == Verdict::Dead) else {
            return false;
        };
        self.seats.iter().all(|seat| {
            // Acquire: as in `seat`.
            match SeatState::read(seat.word.load(Ordering::Acquire)) {
                (SeatState::Empty, _) => true,
                // Exactly that: else a worker has just sat down. Its owner and no other: this may be a new board already.
                (SeatState::Reserved(by), life) => {
                    let (from, to) =
                        (SeatState::Reserved(owner), SeatState::Empty.word(next(life)));
                    // AcqRel: as in `vacate`.
                    by == owner
                        && (seat.word)
                            .compare_exchange(
                                from.word(life),
                                to,
                                Ordering::AcqRel,
                                Ordering::Relaxed,
                            )
                            .is_ok()
                }
                (SeatState::Starting(tag) | SeatState::Ready(tag) | SeatState::Leaving(tag), _) => {
                    me.verdict(tag) == Verdict::Dead
                }
                (SeatState::Damaged, _) => false,
            }
        })
    }

    /// The workers that are known by name: for sweeps, and for who looks for the dead.
    pub fn seated(&self) -> impl Iterator<Item = (SeatAt, Tag)> + 'm {
        let owner = self.owner();
        (0u32..).zip(self.seats).filter_map(move |(index, seat)| {
            // Acquire: as in `seat`.
            let (state, life) = SeatState::read(seat.word.load(Ordering::Acquire));
            match state {
                SeatState::Starting(tag) | SeatState::Ready(tag) | SeatState::Leaving(tag) => {
                    Some((SeatAt { index, life, owner: owner? }, tag))
                }
                SeatState::Empty | SeatState::Reserved(_) | SeatState::Damaged => None,
            }
        })
    }

    pub(super) fn tell_to_retire(&self, at: SeatAt) -> bool {
        let Some(seat) = self.seat_of(at) else { return false };
        let (state, life) = SeatState::read(seat.word.load(Ordering::Acquire));
        let there = life == at.life && state != SeatState::Empty;
        if there {
            // Release: as an order.
            seat.retire.store(RETIRE, Ordering::Release);
        }
        there
    }
}

/// What a seat's word says it is at: a ticket's number, marked so that none is zero.
pub(super) fn running(ticket: Ticket) -> u64 {
    1 << 32 | u64::from(ticket.number())
}
