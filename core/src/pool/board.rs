//! The board: what a pool's owner and its workers share. One word of one cell is the lease.
//!
//! ```text
//! cell's word:   state 3 | lap 31 | tag 30           progress: a word beside it, written by whoever has taken the cell
//!
//! FREE(lap)         the owner's: free, or just being filled
//! QUEUED(lap)       any worker may take it
//! TAKEN(lap, o)     worker o works on item number `progress`; those below are answered
//! DONE(lap)         all items below `progress` are answered; the owner's again
//! REVOKED(lap, o)   the owner wants o ended, and o answers nothing more
//! HELD(lap)         the owner has it back, withdrawn or reclaimed
//!
//! FREE → QUEUED             publish                owner, by a store: nobody else writes a free cell
//! QUEUED → TAKEN            take                   worker
//! TAKEN(me) → DONE          finish                 worker
//! TAKEN → REVOKED           revoke                 owner
//! QUEUED → HELD             withdraw               owner
//! TAKEN, REVOKED → HELD     reclaim                owner, of a worker that is dead by the kernel's word
//! DONE, HELD → FREE(lap+1)  free                   owner
//!
//! ring[t mod R], tail, head:   in which order cells were published; R is twice the number of cells
//! ```
//!
//! - Every arrow but the first is one exact compare-and-swap. So what a worker finishes is not revoked, what is revoked is
//!   not finished, and of two threads of the owner one gets a cell back.
//! - A lap is one turn of a cell. What is to be done again, after its worker's death or behind a cut, is published anew: in
//!   another lap, and perhaps in another cell.
//! - The ring only says where to look. Taking is the compare-and-swap of the cell's word, so no death between two words
//!   loses anything: the entry is written before the tail moves on, by the owner alone, which takes care of its order by itself.
//! - The head is a hint: what was published with a ticket below it is not QUEUED any more, for good, since each lap is
//!   queued once. Whoever has looked at all from the head on up to a ticket may move it there; that it goes back when
//!   a slow worker stores what it knew does no harm.
//! - A place of the ring whose cell is still QUEUED when the tail comes round to it (others were withdrawn, or nobody
//!   takes anything) is passed over: its entry stays, under the new ticket. As there are half as many cells as places,
//!   a free place is near.
//! - Workers sleep at `work`, of which each publication wakes one. Who waits for one cell sleeps beside its word; who waits for
//!   any at `answers`. Whatever ends a worker's turn notifies both.
//! - Nobody gets stuck: no step waits for another process. A worker that was stopped keeps its one cell, until the owner
//!   revokes it and has it killed. A worker that finds its owner dead leaves.
//! - Everybody trusts the board as far as that a task may be lost, or done twice, by whoever writes over it; not with memory.

#[cfg(not(loom))]
use super::error::BoardPlaceError;
use super::seats::{Order, Seat};
use super::word::{CellState, Ticket, cell_of};
#[cfg(not(loom))]
use super::word::{MOST_CELLS, MOST_SEATS};
use crate::region::Tag;
use crate::sys::Padded;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::cell::ItemCell;
use crate::wait::Eventcount;

/// How many bytes a cell has for what is in it. The first 48 lie beside its word, in the same line.
pub const PAYLOAD: usize = 240;

#[cfg(not(loom))]
const KIND: u32 = 0x50_4F_4F_4C;

/// The board's memory holds what it never holds: something wrote over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory of the pool's board is damaged; something wrote over it, start the pool anew")]
pub struct Corrupt;

/// How large a board is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many tasks, or chunks of tasks, can be with the workers at a time: a power of two, up to
    /// [`MOST_CELLS`]. 264 bytes each.
    pub cells: u32,
    /// How many workers there can be at a time: 1 to [`MOST_SEATS`]. 128 bytes each.
    pub seats: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self { cells: 1024, seats: 64 }
    }
}

impl Plan {
    #[cfg(not(loom))]
    fn is_sound(self) -> bool {
        self.cells.is_power_of_two()
            && self.cells <= MOST_CELLS
            && (1..=MOST_SEATS).contains(&self.seats)
    }
}

/// What stands in front.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Head {
    pub(super) about: Padded<About>,
    pub(super) work: Padded<Eventcount>,
    pub(super) answers: Padded<Eventcount>,
    pub(super) publisher: Padded<Publisher>,
    /// See the top of the file. Written by workers.
    pub(super) head: Padded<AtomicU64>,
}

/// What hardly ever changes.
#[derive(Debug)]
#[repr(C)]
pub(super) struct About {
    kind: AtomicU32,
    cells: AtomicU32,
    seats: AtomicU32,
    owner: AtomicU32,
    pub(super) order: AtomicU32,
}

/// What the owner writes at each publication.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Publisher {
    pub(super) tail: AtomicU64,
    /// The head as the owner saw it last: places up to one round ahead of it are free.
    pub(super) seen: AtomicU64,
}

/// Room for one task or one chunk of them.
#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Cell {
    pub(super) word: AtomicU64,
    pub(super) progress: AtomicU32,
    pub(super) event: Eventcount,
    pub(super) payload: ItemCell<[u8; PAYLOAD]>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Cell>() == 256 && size_of::<Head>() == 640);

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl crate::region::Shareable for Head {}
#[cfg(not(loom))]
// SAFETY: repr(C), atomics and a cell of bytes that is touched under the word's protocol only; every bit pattern is valid.
unsafe impl crate::region::Shareable for Cell {}

/// What a pool's owner and its workers share: see the module's source for the protocol.
///
/// This is a view of the region: copy it freely. What the owner does is here; what a worker does is with its
/// [`Worker`](super::Worker), which [`sit`](Self::sit) gives.
///
/// ```
/// use core::ptr::NonNull;
/// use procession_core::pool::{Board, Look, Plan, Take};
/// use procession_core::region::{Fixed, Options, Region};
/// use procession_core::sys::Deadline;
///
/// #[repr(align(4096))]
/// struct Memory([u8; 1 << 18]);
/// let mut memory = Box::new(Memory([0; 1 << 18]));
/// let base = NonNull::from(&mut *memory).cast();
/// // SAFETY: the memory is zero, outlives the region, and nobody else uses it.
/// let region = unsafe { Region::create(base, 1 << 18, Options::default(), &Fixed) }?;
///
/// // The owner makes it, has a worker started, and publishes what it has put into cell 3.
/// let owner = region.join()?;
/// let plan = Plan { cells: 8, seats: 2 };
/// let board = Board::create(&region, 1 << 17, plan, owner.member())?;
/// let at = board.reserve(0).ok_or("a seat is free")?;
/// // SAFETY: the cell is free, and so its payload is the owner's.
/// unsafe { board.payload(3).ok_or("there are 8 cells")?.write(21) };
/// let ticket = board.publish(owner.member(), 3)?;
///
/// // The worker, in a process of its own.
/// let seat = region.join()?;
/// let mut worker = Board::open(&region, 1 << 17)?.sit(seat.member(), at)?;
/// worker.ready();
/// let Take::Lease(lease) = worker.take(Deadline::NOW)? else { panic!("one cell is queued") };
/// // SAFETY: the lease makes the payload this worker's; the address holds a byte of it.
/// unsafe { *lease.payload().as_ptr() *= 2 };
/// lease.answered(1);
/// assert!(lease.finish());
///
/// // The owner again.
/// assert_eq!(board.look(ticket), Look::Done { progress: 1 });
/// // SAFETY: the cell is done, and so its payload is the owner's.
/// assert_eq!(unsafe { board.payload(3).ok_or("as above")?.read() }, 42);
/// assert!(board.free(owner.member(), ticket));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Board<'m> {
    pub(super) head: &'m Head,
    pub(super) seats: &'m [Seat],
    pub(super) cells: &'m [Cell],
    pub(super) ring: &'m [AtomicU32],
}

impl core::fmt::Debug for Board<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Board")
            .field("cells", &self.cells.len())
            .field("seats", &self.seats.len())
            .field("order", &self.current_order())
            .finish_non_exhaustive()
    }
}

#[cfg(not(loom))]
impl<'m> Board<'m> {
    /// How many bytes a board of this plan takes, at a multiple of 128; more than there can be if no board can have it.
    #[must_use]
    pub const fn bytes(plan: Plan) -> u64 {
        if plan.cells > MOST_CELLS || plan.seats > MOST_SEATS {
            return u64::MAX;
        }
        let ring = plan.cells as u64 * 2 * size_of::<AtomicU32>() as u64;
        Self::ring_at(plan) + ring.next_multiple_of(128)
    }

    const fn cells_at(plan: Plan) -> u64 {
        size_of::<Head>() as u64 + plan.seats as u64 * size_of::<Seat>() as u64
    }

    const fn ring_at(plan: Plan) -> u64 {
        Self::cells_at(plan) + plan.cells as u64 * size_of::<Cell>() as u64
    }

    /// Makes a board in zeroed memory of the region that nobody else uses; the caller is its owner. In an object's place its tickets
    /// begin with others at each generation: what is tied to those of an earlier board is not taken for this one's.
    ///
    /// # Errors
    /// [`BoardPlaceError::Plan`]; `Region` if it does not lie in the region at a multiple of 128; `Join`.
    pub fn create(
        region: &crate::region::Region<'m>,
        offset: u64,
        plan: Plan,
        me: crate::region::Member<'_>,
    ) -> Result<Self, BoardPlaceError> {
        if !plan.is_sound() {
            return Err(BoardPlaceError::Plan { cells: plan.cells, seats: plan.seats });
        }
        let board = Self::view(region, offset, plan)?;
        let about = &board.head.about;
        about.cells.store(plan.cells, Ordering::Relaxed);
        about.seats.store(plan.seats, Ordering::Relaxed);
        about.owner.store(me.tag()?.bits(), Ordering::Relaxed);
        let generation = region.object_at(offset).map_or(0, |object| object.generation);
        let first = CellState::Free.word(generation.wrapping_mul(0x9E37_79B9));
        for cell in board.cells {
            cell.word.store(first, Ordering::Relaxed);
        }
        // Release meets the Acquire of `open`.
        about.kind.store(KIND, Ordering::Release);
        Ok(board)
    }

    /// Finds the board that lies at `offset`. Some loads.
    ///
    /// # Errors
    /// [`BoardPlaceError::NoBoard`], `Damaged`, `Region`.
    pub fn open(region: &crate::region::Region<'m>, offset: u64) -> Result<Self, BoardPlaceError> {
        let about = &region.object::<Head>(offset)?.about;
        // Acquire meets the Release of `create`.
        let found = about.kind.load(Ordering::Acquire);
        if found != KIND {
            return Err(BoardPlaceError::NoBoard { found });
        }
        let cells = about.cells.load(Ordering::Relaxed);
        let seats = about.seats.load(Ordering::Relaxed);
        let plan = Plan { cells, seats };
        if !plan.is_sound() {
            return Err(BoardPlaceError::Damaged { cells, seats });
        }
        Self::view(region, offset, plan)
    }

    fn view(
        region: &crate::region::Region<'m>,
        offset: u64,
        plan: Plan,
    ) -> Result<Self, BoardPlaceError> {
        // Offsets are below 2⁶⁴ less the largest board, or the first of these fails.
        let head = region.object::<Head>(offset)?;
        let at = size_of::<Head>() as u64;
        let seats = region.objects(offset + at, u64::from(plan.seats))?;
        let cells = region.objects(offset + Self::cells_at(plan), u64::from(plan.cells))?;
        let ring = region.objects(offset + Self::ring_at(plan), u64::from(plan.cells) * 2)?;
        Ok(Self { head, seats, cells, ring })
    }

    /// Where it lies in its region; `None` if that is another region.
    #[must_use]
    pub fn offset(&self, region: &crate::region::Region<'_>) -> Option<u64> {
        region.offset_of(self.head).ok()
    }

    /// Where the payload of a cell lies, [`PAYLOAD`] bytes at a multiple of 16; `None` if there is no such cell.
    ///
    /// The bytes are the owner's while the cell is its own, and a worker's while it has a lease on it. Who touches them
    /// otherwise reads what others may be writing.
    #[inline]
    #[must_use]
    pub fn payload(&self, cell: u32) -> Option<core::ptr::NonNull<u8>> {
        let cell = self.cells.get(cell as usize)?;
        core::ptr::NonNull::new(cell.payload.as_ptr().cast())
    }
}

impl Board<'_> {
    /// How large it is.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan { cells: self.cells.len() as u32, seats: self.seats.len() as u32 }
    }

    /// Who made it; `None` if that is damaged.
    #[must_use]
    pub fn owner(&self) -> Option<Tag> {
        Tag::from_bits(self.head.about.owner.load(Ordering::Relaxed))
    }

    /// What the workers are told to do.
    #[must_use]
    pub fn current_order(&self) -> Order {
        Order::read(self.head.about.order.load(Ordering::Relaxed))
    }

    /// The payload of a cell, for models: loom checks who touches it.
    #[cfg(loom)]
    #[must_use]
    pub fn item(&self, cell: u32) -> &ItemCell<[u8; PAYLOAD]> {
        &self.cells[cell as usize].payload
    }

    /// Whether the turn of the ticket with this number is over: what was tied to that is nobody's. For sweeps. Three loads.
    #[must_use]
    pub fn passed(&self, number: u32) -> bool {
        // Acquire: what the cell's turn was ended after comes before what follows from this.
        self.cells.get(cell_of(number) as usize).is_none_or(|cell| {
            let (_, lap) = CellState::read(cell.word.load(Ordering::Acquire));
            Ticket { cell: cell_of(number), lap }.number() != number
        })
    }

    /// The ring's place of a ticket of the ring.
    #[inline]
    pub(super) fn place(&self, at: u64) -> &AtomicU32 {
        // The mask keeps it in bounds: the number of places is a power of two.
        &self.ring[at as usize & (self.ring.len() - 1)]
    }
}

/// A board on the heap, for the model checker: its atomics are no plain memory there.
#[cfg(loom)]
#[derive(Debug)]
pub struct Heap {
    head: Head,
    seats: std::vec::Vec<Seat>,
    cells: std::vec::Vec<Cell>,
    ring: std::vec::Vec<AtomicU32>,
}

#[cfg(loom)]
impl Heap {
    /// A board of this plan whose owner is this process.
    #[must_use]
    pub fn new(plan: Plan, owner: Tag) -> Self {
        let word = AtomicU32::new;
        let long = AtomicU64::new;
        let cell = |_| Cell {
            word: long(0),
            progress: word(0),
            event: Eventcount::new(),
            payload: ItemCell::empty(),
        };
        Self {
            head: Head {
                about: Padded(About {
                    kind: word(0),
                    cells: word(plan.cells),
                    seats: word(plan.seats),
                    owner: word(owner.bits()),
                    order: word(0),
                }),
                work: Padded(Eventcount::new()),
                answers: Padded(Eventcount::new()),
                publisher: Padded(Publisher { tail: long(0), seen: long(0) }),
                head: Padded(long(0)),
            },
            seats: (0..plan.seats).map(|_| Seat::fresh()).collect(),
            cells: (0..plan.cells).map(cell).collect(),
            ring: (0..plan.cells * 2).map(|_| word(0)).collect(),
        }
    }

    /// Another process makes a board in the place of this one, whose seats were all left in their first lives.
    pub fn make_anew(&self, owner: Tag) {
        self.head.about.owner.store(owner.bits(), Ordering::Relaxed);
    }

    /// The board.
    #[must_use]
    pub fn board(&self) -> Board<'_> {
        Board { head: &self.head, seats: &self.seats, cells: &self.cells, ring: &self.ring }
    }
}
