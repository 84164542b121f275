//! A queue that keeps an order, or the items that were taken and are not finished: cells, under a lock that survives its holder.
//!
//! ```text
//! cell's word:  lap 32 | state 2 | tag 30
//!
//! FREE(lap) → FILLING(lap, me) → FULL(lap)                   a put: the last arrow is what counts
//! FULL(lap) → HELD(lap, me) → FREE(lap+1)                    a take
//! HELD(lap, dead) → FULL(lap)                                at least once: it is delivered again
//! HELD(lap, dead) → FREE(lap+1), one more lost               at most once; also where all was shut
//! FILLING(lap, dead) → FREE(lap+1)                           it was never put
//! ```
//!
//! - Every arrow is made under the store's [`Lock`], by its holder: a store to a word.
//! - The words are the truth. All else follows from them: the row of what is to be taken next (a list, or a heap of
//!   priorities), the list of what is held, the lists of free cells, the counts. Who gets the lock from a dead holder makes
//!   these anew from the words, and then goes on as if nothing had happened; if it dies over that, the next one does it.
//! - A take that leaves its item HELD after it has given back the lock *leases* it: until the taker says that it is done with
//!   it, or gives it back, or is dead. Whoever looks for something to take, or waits for all to be finished, asks in slices
//!   whether those who hold are alive; so does a try that finds nothing, once a millisecond at most.
//! - The order of puts is a number in each cell. What comes back takes its old place in front of what was put later; in a
//!   stack it is the next.
//! - Nobody sleeps with the lock in hand, and nothing of the user's runs under it: items are copied. So it is held for some
//!   hundred nanoseconds, and for longer only by who was stopped or mends what a dead holder left; meanwhile a try
//!   answers `Busy`.
//! - Cells lie behind the head, and in segments, each as large as all before it, so that a store grows without moving
//!   anything. A segment is allocated before the lock is taken, and linked under it; the last one is unlinked when it is empty and
//!   three quarters of all cells are, and freed after the lock was given back. One that is linked nowhere, since its maker or
//!   its releaser died in between, is found by a [sweep](Store::sweep_segment).
//! - Tickets, by which blocks of memory are tied to an item, name cell and lap: whether a ticket's turn is over is one look
//!   at a word, without the lock.
//!
//! Promise: what a put has acknowledged is taken by one who lives, or was in the hand of a taker that died; then it is counted
//! as lost (at most once), or delivered again, with one delivery more (at least once).

mod calls;
mod cells;
mod index;
mod note;
mod repair;
mod turn;

use bytemuck::Pod;

use super::shape::Shape;
#[cfg(not(loom))]
use crate::region::{AllocError, Kind, Region};
use crate::sync::Lock;
use crate::sys::Padded;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::wait::Eventcount;
use cells::{Cell, Segment};
use note::{Note, Note64};

pub use calls::{GivenUp, JoinItemsError, Released, StoreRoom};
pub use turn::{Lease, Putter, Taker};

use super::PushError;

/// The most items that a store can hold: 2²⁶.
pub const MOST_STORED: u64 = 1 << 26;
/// Segments, the cells behind the head included: with one cell there, as many as make [`MOST_STORED`].
const SEGMENTS: usize = 27;
/// Cells behind the head, at most.
const MOST_FIRST: u64 = 16;
/// No cell.
const NONE: u32 = u32::MAX;

/// Nothing is put any more.
const CLOSED: u32 = 1;
/// Nothing is taken any more, either.
const SHUT: u32 = 2;

/// Which item is the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one that was put first.
    First,
    /// The one that was put last.
    Last,
    /// The one with the least key; of equal ones, the one that was put first.
    Least,
}

/// What becomes of an item whose taker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It is lost, and counted. Taking it finishes it.
    AtMostOnce,
    /// It is lost, and counted. It is finished when its taker says so.
    AtMostOnceLeased,
    /// It goes back to the queue. It is finished when its taker says so.
    AtLeastOnce,
}

impl Policy {
    /// Whether what is taken stays in its cell until it is finished.
    fn leases(self) -> bool {
        self != Self::AtMostOnce
    }
}

/// How a store is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The most items that wait in it; what is held does not count.
    pub capacity: u64,
    /// Which one is taken next.
    pub order: Order,
    /// What becomes of the items of the dead.
    pub policy: Policy,
}

impl Plan {
    /// Cells behind the head.
    fn first(&self) -> u64 {
        self.capacity.clamp(1, MOST_FIRST).next_power_of_two()
    }
}

/// Why an item was not put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// As at any queue.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The store has to grow, and there is no memory.
    #[cfg(not(loom))]
    #[error("no memory for more items: {0}")]
    Memory(AllocError),
}

/// What stands in front of the cells.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    state: Padded<State>,
    index: Padded<Index>,
    shape: Padded<Form>,
    segments: Padded<[Segment; SEGMENTS]>,
}

/// What is looked at without the lock.
#[derive(Debug)]
#[repr(C)]
struct State {
    /// `held 32 | full 32`: one word, so that an item on its way from one to the other is never in neither.
    counts: AtomicU64,
    lost: AtomicU64,
    flags: AtomicU32,
    filled: Eventcount,
    freed: Eventcount,
    idle: Eventcount,
}

/// What follows from the words.
#[derive(Debug)]
#[repr(C)]
struct Index {
    lock: Lock,
    front: Note,
    back: Note,
    oldest: Note,
    newest: Note,
    /// How many segments there are beyond the first.
    grown: Note,
    /// The number of the next put.
    next: Note64,
}

#[derive(Debug)]
#[repr(C)]
struct Form {
    shape: Shape,
    /// `policy 8 | order 8`.
    plan: AtomicU32,
}

/// How many wait, and how many are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    full: u32,
    held: u32,
}

impl Counts {
    fn read(word: u64) -> Self {
        Self { full: word as u32, held: (word >> 32) as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.held) << 32 | u64::from(self.full)
    }
}

/// The store's memory is damaged.
#[derive(Clone, Copy, Debug)]
struct Damaged;

/// A queue of plain items in shared memory that keeps an order, or keeps what was taken until it is finished, or
/// grows: many may put and many take, each of whom may be killed at any instruction.
///
/// For a plain queue of fixed size [`SlotQueue`](super::SlotQueue) is faster: here every call takes a lock. Without
/// contention a put or a take is a compare-and-swap and some stores; no system call, and memory is allocated only when it
/// has grown to twice its size.
///
/// ```
/// use procession_core::queue::{Order, Plan, Policy, Store};
/// use procession_core::region::{Fixed, Kind, Options, Region};
/// # use std::{alloc::{alloc_zeroed, Layout}, ptr::NonNull};
/// # let layout = Layout::from_size_align(1 << 20, 4096).unwrap();
/// # let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
/// # let region = unsafe { Region::create(base, 1 << 20, Options::default(), &Fixed) }.unwrap();
/// # let seat = region.join().unwrap();
/// # let me = seat.member();
/// const STORE: Kind = Kind::new(1).unwrap();
/// const SEGMENT: Kind = Kind::new(2).unwrap();
///
/// let plan = Plan { capacity: 100, order: Order::Least, policy: Policy::AtLeastOnce };
/// let place = region.allocate_object(me, STORE, Store::<u64>::bytes_for(plan))?.offset;
/// let store = Store::<u64>::create(&region, place, plan, SEGMENT, 0)?;
/// store.try_put(me, 5, 50)?;
/// store.try_put(me, 1, 10)?;
///
/// let (item, lease) = store.try_take(me)?;
/// assert_eq!(item, 10);
/// assert_eq!(store.unfinished(), 2);
/// store.finish(me, lease.unwrap());
/// assert_eq!(store.unfinished(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store<'r, T> {
    parts: &'r Head,
    first: &'r [Cell<T>],
    plan: Plan,
    #[cfg(not(loom))]
    region: Region<'r>,
    #[cfg(not(loom))]
    offset: u64,
    #[cfg(not(loom))]
    segments: Kind,
    #[cfg(loom)]
    more: &'r [std::vec::Vec<Cell<T>>],
}

impl<T> Clone for Store<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Store<'_, T> {}

impl<T: Pod> core::fmt::Debug for Store<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Store")
            .field("len", &self.len())
            .field("held", &self.held())
            .field("plan", &self.plan)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl crate::region::Shareable for Head {}

/// The mark of a store's header.
#[cfg(not(loom))]
const KIND: u32 = 0x53_54_4F_52;

#[cfg(not(loom))]
impl<'r, T: Pod> Store<'r, T> {
    /// How many bytes a store takes at first, at a multiple of 128.
    #[must_use]
    pub fn bytes_for(plan: Plan) -> u64 {
        size_of::<Head>() as u64 + plan.first() * size_of::<Cell<T>>() as u64
    }

    /// Makes a store in zeroed memory of the region that nobody else uses. What it grows by are objects of the kind
    /// `segments`. Its tickets begin with `salt`: stores that are made at one place after the other do well to have
    /// different ones.
    ///
    /// # Errors
    /// [`QueueError::Capacity`](super::QueueError::Capacity) unless it is 1 to 2²⁶; `Region` if it does not lie in the region.
    pub fn create(
        region: &Region<'r>,
        offset: u64,
        plan: Plan,
        segments: Kind,
        salt: u32,
    ) -> Result<Self, super::QueueError> {
        if plan.capacity == 0 || plan.capacity > MOST_STORED {
            let (asked, most) = (plan.capacity, MOST_STORED);
            return Err(super::QueueError::Capacity { asked, most });
        }
        let store = Self::view(region, offset, plan, segments)?;
        store.reset(salt);
        let form = &store.parts.shape;
        // Relaxed: the store of the kind comes after it.
        form.plan.store((plan.policy as u32) << 8 | plan.order as u32, Ordering::Relaxed);
        form.shape.write(KIND, size_of::<T>(), plan.capacity);
        Ok(store)
    }

    /// Finds the store that lies at `offset`.
    ///
    /// # Errors
    /// [`QueueError::Other`](super::QueueError::Other) if it is not one of such items; `Damaged`; `Region`.
    pub fn attach(
        region: &Region<'r>,
        offset: u64,
        segments: Kind,
    ) -> Result<Self, super::QueueError> {
        let form = &region.object::<Head>(offset)?.shape;
        let capacity = form.shape.read(KIND, size_of::<T>())?;
        let damaged = super::QueueError::Damaged { capacity };
        let word = form.plan.load(Ordering::Relaxed);
        let order = match word & 0xFF {
            0 => Order::First,
            1 => Order::Last,
            2 => Order::Least,
            _ => return Err(damaged),
        };
        let policy = match word >> 8 {
            0 => Policy::AtMostOnce,
            1 => Policy::AtMostOnceLeased,
            2 => Policy::AtLeastOnce,
            _ => return Err(damaged),
        };
        if capacity > MOST_STORED {
            return Err(damaged);
        }
        Self::view(region, offset, Plan { capacity, order, policy }, segments)
    }

    fn view(
        region: &Region<'r>,
        offset: u64,
        plan: Plan,
        segments: Kind,
    ) -> Result<Self, super::QueueError> {
        let parts = region.object::<Head>(offset)?;
        let first = region.objects(offset + size_of::<Head>() as u64, plan.first())?;
        Ok(Self { parts, first, plan, region: *region, offset, segments })
    }
}

impl<T: Pod> Store<'_, T> {
    fn reset(&self, salt: u32) {
        let index = &self.parts.index;
        for end in [&index.front, &index.back, &index.oldest, &index.newest] {
            end.set(NONE);
        }
        self.parts.segments[0].start(0, 0, salt);
    }

    fn counts(&self) -> Counts {
        // Acquire: who sees an item counted sees what its putter had done before.
        Counts::read(self.parts.state.counts.load(Ordering::Acquire))
    }

    fn set_counts(&self, counts: Counts) {
        // Release meets the Acquire in `counts`.
        self.parts.state.counts.store(counts.word(), Ordering::Release);
    }

    fn flags(&self) -> u32 {
        // Acquire meets the Release in `shutdown`.
        self.parts.state.flags.load(Ordering::Acquire)
    }
}

/// A store on the heap, for the model checker: its cells are no plain memory there.
#[cfg(loom)]
#[derive(Debug)]
pub struct Heap<T> {
    parts: Head,
    cells: std::vec::Vec<std::vec::Vec<Cell<T>>>,
    plan: Plan,
}

#[cfg(loom)]
impl<T: Pod> Heap<T> {
    /// A store, with memory for so many segments beyond the first.
    #[must_use]
    pub fn new(plan: Plan, segments: u32) -> Self {
        let row = |count: u64| (0..count).map(|_| Cell::empty()).collect();
        let first = plan.first();
        let heap = Self {
            parts: Head {
                state: Padded(State {
                    counts: AtomicU64::new(0),
                    lost: AtomicU64::new(0),
                    flags: AtomicU32::new(0),
                    filled: Eventcount::new(),
                    freed: Eventcount::new(),
                    idle: Eventcount::new(),
                }),
                index: Padded(Index {
                    lock: Lock::new(),
                    front: Note::new(0),
                    back: Note::new(0),
                    oldest: Note::new(0),
                    newest: Note::new(0),
                    grown: Note::new(0),
                    next: Note64::new(0),
                }),
                shape: Padded(Form { shape: Shape::default(), plan: AtomicU32::new(0) }),
                segments: Padded(core::array::from_fn(|_| Segment::default())),
            },
            cells: core::iter::once(row(first))
                .chain((0..segments).map(|step| row(first << step)))
                .collect(),
            plan,
        };
        heap.store().reset(u32::MAX);
        heap
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> Store<'_, T> {
        Store { parts: &self.parts, first: &self.cells[0], plan: self.plan, more: &self.cells[1..] }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
