//! One to many: a publisher, and readers that each see every item, at their own pace.
//!
//! ```text
//! tail: u64        items ever published                       written by the publisher's role
//! role word        tag of who publishes, 0 for nobody
//! granted: u64     how far the publisher may go before it looks at the readers again
//! reader's cell    0 → JOINING(tag) → READING(tag) → 0        and its cursor: items that it has passed
//! slot i mod N     begun: the item that was last begun here | the words of the item
//! ```
//!
//! - Publishing item i: begun ← i, a fence, the words, then one release store of the tail, which makes one item or a whole
//!   batch true. What was not published never happened; a successor of a dead publisher goes on at the tail.
//! - The publisher's role is taken by one compare-and-swap, from nobody or from a dead owner; so is a reader's cell.
//! - Readers keep the tail as they last saw it, and look again only when they have passed all up to there.
//!
//! What becomes of readers that are too slow is chosen once:
//!
//! - **Block**: the publisher goes no further than N items beyond the slowest cursor. It looks at the cells once in
//!   an eighth of the ring: it says how far it means to go (granted), fences, and reads them. A newcomer is JOINING first,
//!   fences, and reads tail and granted: so either the publisher sees a newcomer, and waits until that has a cursor, or
//!   the newcomer sees how far the publisher may go without having seen it, and starts where nothing is written over.
//!   The cell of a dead reader is freed by the publisher that it holds up, by one exact compare-and-swap.
//! - **Lose**: the publisher waits for nobody. A reader copies the item's words, fences, and looks whether begun is still
//!   its item; if not, it has been overtaken: it goes on with the oldest item there, and knows how many it has missed.
//!
//! Nobody gets stuck: readers wait for the publisher only, and a dead one is replaced; the publisher waits for living
//! readers only. A sleeping publisher is woken once some places are free, and looks by itself in slices, so that a wake which died
//! with its sender costs some milliseconds.
//!
//! Gating a sequence on the slowest reader's is what the Disruptor does; the joining and the repair are this crate's.

mod error;
mod publisher;
mod subscriber;

use bytemuck::Pod;

use super::shape::Shape;
use crate::region::{Member, Tag, Verdict, Who};
use crate::sys::Padded;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::words::Words;
use crate::wait::Eventcount;

pub use error::{PublishError, ReceiveError, SubscribeError};
pub use publisher::{Publisher, Turn};
pub use subscriber::{News, Start, Subscriber};

/// How many readers a broadcast can have at a time.
pub const READERS: usize = 64;

#[cfg(not(loom))]
const KIND: u32 = 0x42_43_53_54;

/// A reader's cell has been claimed, and has no cursor yet.
const JOINING: u32 = 1 << 30;
/// Its cursor counts.
const READING: u32 = 2 << 30;

/// How many places must be free before a sleeping publisher is woken, if the ring is large.
const ROOM: u64 = 32;

/// What becomes of readers that are slower than the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Slow {
    /// The publisher waits for them: nobody misses anything.
    Block = 1,
    /// They miss what they were too slow for, and are told how many.
    Lose = 2,
}

/// What stands in front of the readers' cells.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    tail: Padded<AtomicU64>,
    role: Padded<Role>,
    events: Padded<Events>,
    shape: Padded<Form>,
}

#[derive(Debug)]
#[repr(C)]
struct Role {
    granted: AtomicU64,
    owner: AtomicU32,
}

#[derive(Debug)]
#[repr(C)]
struct Events {
    /// Readers sleep here.
    arrived: Eventcount,
    /// The publisher sleeps here.
    room: Eventcount,
    closed: AtomicU32,
    /// Which cells have ever been used.
    used: AtomicU64,
}

#[derive(Debug)]
#[repr(C)]
struct Form {
    shape: Shape,
    /// The index of the first item ever.
    first: AtomicU64,
    slow: AtomicU32,
}

/// A reader's cell.
#[derive(Debug)]
#[repr(C)]
pub struct Reader {
    cursor: AtomicU64,
    word: AtomicU32,
}

/// One place, as it lies in shared memory.
#[repr(C)]
pub struct Slot<T> {
    begun: AtomicU64,
    item: Words<T>,
}

#[cfg(not(loom))]
// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl crate::region::Shareable for Head {}
#[cfg(not(loom))]
// SAFETY: as above.
unsafe impl crate::region::Shareable for Padded<Reader> {}
#[cfg(not(loom))]
// SAFETY: an atomic, and words of plain data that are touched as atomics only; every bit pattern is valid.
unsafe impl<T: Pod> crate::region::Shareable for Slot<T> {}

/// A ring of plain items in shared memory that one publishes and up to [`READERS`] read, each every item at its own pace; each
/// of them may be killed at any instruction.
///
/// Without contention publishing is a copy and two stores, reading a copy and one store: no read-modify-write, no system
/// call, no allocation. Once in an eighth of the ring a publisher that waits for slow readers looks at their cursors.
///
/// This is a view; [`publisher`](Self::publisher) takes the role, [`subscribe`](Self::subscribe) makes a reader.
pub struct Broadcast<'r, T> {
    parts: &'r Head,
    readers: &'r [Padded<Reader>],
    slots: &'r [Slot<T>],
    capacity: u64,
    slow: Slow,
}

impl<T> Clone for Broadcast<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Broadcast<'_, T> {}

impl<T: Pod> core::fmt::Debug for Broadcast<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Broadcast")
            .field("published", &self.published())
            .field("capacity", &self.capacity)
            .field("slow", &self.slow)
            .field("readers", &self.readers())
            .field("closed", &self.is_closed())
            .finish()
    }
}

#[cfg(not(loom))]
impl<'r, T: Pod> Broadcast<'r, T> {
    const SLOTS_AT: u64 = (size_of::<Head>() + READERS * size_of::<Padded<Reader>>()) as u64;

    /// How many bytes a broadcast of this capacity takes, at a multiple of 128; more than there can be if none can have it.
    #[must_use]
    pub const fn bytes_for(capacity: u64) -> u64 {
        match capacity.checked_next_power_of_two() {
            Some(slots) => {
                slots.saturating_mul(size_of::<Slot<T>>() as u64).saturating_add(Self::SLOTS_AT)
            }
            None => u64::MAX,
        }
    }

    /// Makes a broadcast in zeroed memory of the region that nobody else uses. One that [loses](Slow::Lose) keeps the last
    /// `capacity` items, rounded up to a power of two.
    ///
    /// # Errors
    /// [`QueueError::Capacity`](super::QueueError::Capacity); `Region` if it does not lie in the region.
    pub fn create(
        region: &crate::region::Region<'r>,
        offset: u64,
        capacity: u64,
        slow: Slow,
    ) -> Result<Self, super::QueueError> {
        Self::create_at(region, offset, capacity, slow, 0)
    }

    /// The same with indices that start at `first`: so that what was tied to an earlier one at this place is not taken for
    /// something of this one's, and for tests of what happens when they wrap.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_at(
        region: &crate::region::Region<'r>,
        offset: u64,
        capacity: u64,
        slow: Slow,
        first: u64,
    ) -> Result<Self, super::QueueError> {
        super::shape::check(capacity)?;
        let cast = Self::view(region, offset, capacity, slow)?;
        cast.reset(first);
        // Relaxed: `write` below ends with a Release.
        cast.parts.shape.slow.store(slow as u32, Ordering::Relaxed);
        cast.parts.shape.shape.write(KIND, size_of::<T>(), capacity);
        Ok(cast)
    }

    /// Finds the broadcast that lies at `offset`.
    ///
    /// # Errors
    /// [`QueueError::Other`](super::QueueError::Other) if it is not one of such items; `Damaged`; `Region`.
    pub fn attach(
        region: &crate::region::Region<'r>,
        offset: u64,
    ) -> Result<Self, super::QueueError> {
        let form = &region.object::<Head>(offset)?.shape;
        let capacity = form.shape.read(KIND, size_of::<T>())?;
        let slow = match form.slow.load(Ordering::Relaxed) {
            1 => Slow::Block,
            2 => Slow::Lose,
            _ => return Err(super::QueueError::Damaged { capacity }),
        };
        Self::view(region, offset, capacity, slow)
    }

    fn view(
        region: &crate::region::Region<'r>,
        offset: u64,
        capacity: u64,
        slow: Slow,
    ) -> Result<Self, super::QueueError> {
        let parts = region.object::<Head>(offset)?;
        let readers = region.objects(offset + size_of::<Head>() as u64, READERS as u64)?;
        let slots =
            region.objects::<Slot<T>>(offset + Self::SLOTS_AT, capacity.next_power_of_two())?;
        Ok(Self::over(parts, readers, slots, capacity, slow))
    }
}

impl<'r, T: Pod> Broadcast<'r, T> {
    /// A view of these parts; the number of slots is a power of two, and `capacity` at most that.
    fn over(
        parts: &'r Head,
        readers: &'r [Padded<Reader>],
        slots: &'r [Slot<T>],
        capacity: u64,
        slow: Slow,
    ) -> Self {
        let capacity = if slow == Slow::Lose { slots.len() as u64 } else { capacity };
        Self { parts, readers, slots, capacity, slow }
    }

    fn reset(&self, first: u64) {
        // Relaxed: nobody else knows it yet.
        for index in 0..self.slots.len() as u64 {
            let (item, lap) = (first.wrapping_add(index), self.slots.len() as u64);
            self.slot(item).begun.store(item.wrapping_sub(lap), Ordering::Relaxed);
        }
        self.parts.tail.store(first, Ordering::Relaxed);
        self.parts.role.granted.store(first, Ordering::Relaxed);
        self.parts.shape.first.store(first, Ordering::Relaxed);
    }

    #[inline]
    fn slot(&self, index: u64) -> &'r Slot<T> {
        // The mask keeps the index in bounds: the number of slots is a power of two.
        &self.slots[index as usize & (self.slots.len() - 1)]
    }

    /// How many places a sleeping publisher waits for.
    fn stretch(&self) -> u64 {
        (self.capacity / 8).clamp(1, ROOM)
    }

    /// How many items were ever published.
    #[must_use]
    pub fn published(&self) -> u64 {
        let tail = self.parts.tail.load(Ordering::Acquire);
        // Relaxed: written once, before anybody knew this broadcast.
        tail.wrapping_sub(self.parts.shape.first.load(Ordering::Relaxed))
    }

    /// How many items it keeps.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// What becomes of slow readers.
    #[must_use]
    pub fn slow(&self) -> Slow {
        self.slow
    }

    /// How many readers there are, the dead that nobody has found yet included.
    #[must_use]
    pub fn readers(&self) -> usize {
        // Relaxed: for people to read.
        self.readers.iter().filter(|reader| reader.word.load(Ordering::Relaxed) != 0).count()
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // Acquire meets the Release of `close`: what was published before.
        self.parts.events.closed.load(Ordering::Acquire) != 0
    }

    /// Who publishes, the dead included; `None` if nobody. Some loads.
    #[must_use]
    pub fn who_publishes(&self, me: Member<'_>) -> Option<Who> {
        // Relaxed: for people to read.
        me.who(Tag::from_bits(self.parts.role.owner.load(Ordering::Relaxed))?)
    }

    /// Whether the item with this index, of which 32 bits are known, is neither published nor being written: its place has been used
    /// for another.
    #[must_use]
    pub fn has_passed(&self, index: u32) -> bool {
        // Acquire: whoever begins the next item does so before it takes what the last one left.
        self.slot(u64::from(index)).begun.load(Ordering::Acquire) as u32 != index
    }

    /// Frees the cells and the role of the dead, so that nothing in this broadcast names them any more. For one that
    /// nobody uses: whoever uses it frees what is in its way.
    ///
    /// # Errors
    /// [`SubscribeError::Corrupt`] if the memory is damaged.
    pub fn sweep(&self, me: Member<'_>) -> Result<(), SubscribeError> {
        let owner = &self.parts.role.owner;
        let words = self.readers.iter().map(|reader| &reader.word);
        for (word, state) in words.map(|word| (word, !Tag::MASK)).chain([(owner, 0)]) {
            let seen = word.load(Ordering::Acquire);
            if seen != 0 && is_dead(me, seen, state)? {
                // AcqRel after the verdict: what the dead had stored comes before. Failure: somebody was faster.
                let _ = word.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        self.parts.events.room.notify_all(me);
        Ok(())
    }
}

/// Whether the process that this word names is dead. `state`: the bits besides the name that such a word may have.
fn is_dead(me: Member<'_>, word: u32, state: u32) -> Result<bool, SubscribeError> {
    let owner = Tag::from_bits(word).ok_or(SubscribeError::Corrupt)?;
    if word & !state != owner.bits() {
        return Err(SubscribeError::Corrupt);
    }
    match me.verdict(owner) {
        Verdict::Alive => Ok(false),
        Verdict::Dead => Ok(true),
        Verdict::Corrupt => Err(SubscribeError::Corrupt),
    }
}

/// A broadcast on the heap, for the model checker: its items are no plain memory there.
#[cfg(loom)]
pub struct Heap<T> {
    parts: Head,
    readers: std::vec::Vec<Padded<Reader>>,
    slots: std::vec::Vec<Slot<T>>,
    capacity: u64,
    slow: Slow,
}

#[cfg(loom)]
impl<T: Pod> Heap<T> {
    /// An empty one for so many readers. Its indices wrap after two items.
    #[must_use]
    pub fn new(capacity: u64, readers: usize, slow: Slow) -> Self {
        let reader = |_| Padded(Reader { cursor: AtomicU64::new(0), word: AtomicU32::new(0) });
        let slot = |_| Slot { begun: AtomicU64::new(0), item: Words::new(T::zeroed()) };
        let heap = Self {
            parts: Head {
                tail: Padded(AtomicU64::new(0)),
                role: Padded(Role { granted: AtomicU64::new(0), owner: AtomicU32::new(0) }),
                events: Padded(Events {
                    arrived: Eventcount::new(),
                    room: Eventcount::new(),
                    closed: AtomicU32::new(0),
                    used: AtomicU64::new(0),
                }),
                shape: Padded(Form {
                    shape: Shape::default(),
                    first: AtomicU64::new(0),
                    slow: AtomicU32::new(0),
                }),
            },
            readers: (0..readers).map(reader).collect(),
            slots: (0..capacity.next_power_of_two()).map(slot).collect(),
            capacity,
            slow,
        };
        heap.cast().reset(u64::MAX - 1);
        heap
    }

    /// The broadcast.
    #[must_use]
    pub fn cast(&self) -> Broadcast<'_, T> {
        Broadcast::over(&self.parts, &self.readers, &self.slots, self.capacity, self.slow)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
