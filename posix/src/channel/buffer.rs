//! A queue of pieces of shared memory, which are filled and read where they lie.
//!
//! ```text
//! reserve   the block is own(me)
//! put       claim a place (ticket t) | the block own(me) → queued(queue, t) | its place and length into the slot | publish
//! get       claim | queued(queue, t) → own(me) | give the place back
//! drop      own(me) → free
//! ```
//!
//! - Nothing is copied but sixteen bytes that say where the block lies.
//! - A block is at any moment free, in a named hand, or in a named place of a queue: what a dead process had is found by a
//!   sweep, which whoever finds the memory full makes before giving up.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::Duration;

use bytemuck::{Pod, PodCastError, Zeroable};
use procession_core::queue::{QueueError, Room, SlotQueue};
use procession_core::region::{Block, Member, Region};
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{CreateError, GetError, PutError};
use super::sweep::Carrier;
use crate::memory::{Arena, Handle, HandleError, MemoryError, arena, kind, refuse};
use crate::wait::sealed::Source;

/// What lies in a place: where the block is, and how much of it is content.
#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
struct Parcel {
    place: u64,
    length: u64,
    /// 1: there is a block. 2: the sender could not finish, pass it.
    form: u64,
}

const IN_BLOCK: u64 = 1;
const VOID: u64 = 2;

/// What lay in a place.
enum Found {
    /// A block, which is this process's own now, and how much of it is content.
    Buffer(Block, u64),
    /// Nothing: the sender could not finish. Go on to the next.
    Void,
    /// What no sender writes.
    Damage,
}

/// A piece of shared memory in the hand of this process: to be filled and [put](BufferQueue::put), or one that was got. It
/// is read and written like a slice, in place.
///
/// Dropping it gives the memory back, and so does the death of its process: the next sweep finds it. The bytes of a new one are
/// whatever its memory last held. Typed views: [`view`](Self::view), [`view_mut`](Self::view_mut).
///
/// It can be sent between threads and put into any [`BufferQueue`] of the tree. In a forked child a buffer of its parent's
/// is empty.
pub struct Buffer {
    arena: &'static Arena,
    block: Block,
    start: NonNull<u8>,
    length: usize,
    tag: u32,
}

// SAFETY: it refers to memory that is this process's alone, by its block's word, from whichever thread.
unsafe impl Send for Buffer {}
// SAFETY: through a shared reference it is only read.
unsafe impl Sync for Buffer {}

impl Buffer {
    fn new(arena: &'static Arena, block: Block, length: u64) -> Result<Self, MemoryError> {
        let tag = arena.member().tag()?.bits();
        // Dropping it gives the block back, if there is something wrong with the length.
        let mut buffer = Self { arena, block, start: NonNull::dangling(), length: 0, tag };
        buffer.start = arena.region().bytes(block.offset, length, 1)?;
        buffer.length = length as usize;
        Ok(buffer)
    }

    /// A buffer of so many bytes from the arena of this tree, for any queue.
    ///
    /// Some 30 ns; more than 32,640 bytes take whole pieces of 64 KiB, and some microseconds.
    ///
    /// # Errors
    /// [`MemoryError::Full`] if there is no room, after what the dead have left was swept; whatever prevents an arena.
    #[inline]
    pub fn reserve(bytes: usize) -> Result<Self, MemoryError> {
        Self::reserve_in(arena()?, bytes as u64)
    }

    #[inline]
    fn reserve_in(arena: &'static Arena, bytes: u64) -> Result<Self, MemoryError> {
        let block = match arena.region().allocate_message(arena.member(), bytes) {
            Ok(block) => block,
            Err(_) => Self::reserve_after_sweep(arena, bytes)?,
        };
        Self::new(arena, block, bytes)
    }

    #[cold]
    fn reserve_after_sweep(arena: &'static Arena, bytes: u64) -> Result<Block, MemoryError> {
        arena.sweep();
        Ok(arena.region().allocate_message(arena.member(), bytes)?)
    }

    #[inline]
    fn is_mine(&self) -> bool {
        self.arena.member().current_tag().is_some_and(|tag| tag.bits() == self.tag)
    }

    /// How many bytes it can be made to [hold](Self::resize).
    #[must_use]
    pub fn capacity(&self) -> usize {
        usize::try_from(self.block.capacity).unwrap_or(usize::MAX)
    }

    /// Makes it hold `length` bytes, at most its [`capacity`](Self::capacity), which is the answer. Bytes that are new are whatever
    /// the memory held.
    pub fn resize(&mut self, length: usize) -> usize {
        let wanted = length.min(self.capacity());
        if self.arena.region().bytes(self.block.offset, wanted as u64, 1).is_ok() {
            self.length = wanted;
        }
        self.length
    }

    /// Its bytes as values of a plain type.
    ///
    /// # Errors
    /// bytemuck's: the length is no multiple of the type's size, or the type wants a stricter alignment than the buffer has (16
    /// bytes at least from 16 on, 128 from 4,352).
    pub fn view<T: Pod>(&self) -> Result<&[T], PodCastError> {
        bytemuck::try_cast_slice(self)
    }

    /// The same, to be written.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub fn view_mut<T: Pod>(&mut self) -> Result<&mut [T], PodCastError> {
        bytemuck::try_cast_slice_mut(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let length = if self.is_mine() { self.length } else { 0 };
        // SAFETY: the bytes lie in the block, which is this process's own as long as this lives, and mapped for good.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), length) }
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let length = if self.is_mine() { self.length } else { 0 };
        // SAFETY: as above, and there is one `Buffer` for each block in a hand.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), length) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        // Does nothing in a forked child: the block's word names its parent.
        let _ = self.arena.region().free_message(self.arena.member(), self.block);
    }
}

/// A buffer that was not put, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unsent {
    /// Why.
    pub error: PutError,
    /// The buffer, as it was.
    pub buffer: Buffer,
}

impl From<Unsent> for PutError {
    fn from(unsent: Unsent) -> Self {
        unsent.error
    }
}

/// A bounded queue of [`Buffer`]s: what is put is not copied, but handed over where it lies. Many may put, many may get.
///
/// First in, first out for each who puts. What was put is got, unless the process that got it is killed; the memory of a buffer in
/// the hand of a process that is killed comes back by itself. Clone it, pass it to a process, send it through a queue:
/// every copy is the same queue.
///
/// Whoever got a buffer may write to it, and put it into the same queue or another.
///
/// Cost: a put and a get are two compare-and-swaps each, whatever the size; no system call while nobody has to wait. Each
/// place takes 32 bytes.
///
/// ```
/// use procession_posix::channel::BufferQueue;
///
/// let frames = BufferQueue::bounded(8)?;
/// let mut frame = frames.reserve(1 << 20)?;
/// frame.fill(7);
/// frame.view_mut::<u32>().unwrap()[0] = 1;
/// frames.put(frame)?;
///
/// let frame = frames.get()?; // the same memory, in this process or another
/// assert_eq!((frame.len(), frame[9]), (1 << 20, 7));
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct BufferQueue {
    slots: SlotQueue<'static, Parcel>,
    me: Member<'static>,
    handle: Handle,
}

impl std::fmt::Debug for BufferQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BufferQueue").field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl BufferQueue {
    /// A queue that holds at most `capacity` buffers.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or no queue can have this capacity (1 to 2³⁰).
    pub fn bounded(capacity: usize) -> Result<Self, CreateError> {
        let (asked, most) = (capacity as u64, procession_core::queue::MOST);
        if asked == 0 || asked > most {
            return Err(QueueError::Capacity { asked, most }.into());
        }
        let handle = Handle::allocate(kind::BUFFERS, SlotQueue::<Parcel>::bytes_for(asked))?;
        let region = handle.arena().region();
        // Each queue at this place starts elsewhere, so that a block that was left in an earlier one is not taken for
        // one of this one's.
        let first = u64::from(handle.generation()).wrapping_mul(0x9E37_79B9);
        let slots = SlotQueue::create_at(region, handle.offset(), asked, first)?;
        Ok(Self { slots, me: handle.arena().member(), handle })
    }

    /// A buffer of so many bytes, to be filled and put. See [`Buffer::reserve`].
    ///
    /// # Errors
    /// As there, but for the arena.
    #[inline]
    pub fn reserve(&self, bytes: usize) -> Result<Buffer, MemoryError> {
        Buffer::reserve_in(self.handle.arena(), bytes as u64)
    }

    /// Puts a buffer, waiting for room as long as it takes.
    ///
    /// # Errors
    /// [`Unsent`], with the buffer: `Closed`, `Corrupt`, `Join`.
    #[inline]
    pub fn put(&self, buffer: Buffer) -> Result<(), Unsent> {
        self.put_until(buffer, Deadline::NEVER)
    }

    /// Puts a buffer if there is room now.
    ///
    /// # Errors
    /// [`Unsent`], with the buffer: `Full` or `Busy`; otherwise as [`put`](Self::put).
    #[inline]
    pub fn put_nowait(&self, buffer: Buffer) -> Result<(), Unsent> {
        self.put_until(buffer, Deadline::NOW)
    }

    /// Puts a buffer, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// [`Unsent`], with the buffer: `TimedOut` (`Full` or `Busy` if it is zero); otherwise as [`put`](Self::put).
    #[inline]
    pub fn put_timeout(&self, buffer: Buffer, timeout: Duration) -> Result<(), Unsent> {
        self.put_until(buffer, Deadline::after(timeout))
    }

    /// Puts a buffer, waiting for room until `deadline`.
    ///
    /// # Errors
    /// [`Unsent`], with the buffer: `TimedOut` (`Full` or `Busy` with [`Deadline::NOW`]); otherwise as [`put`](Self::put).
    #[inline]
    pub fn put_until(&self, buffer: Buffer, deadline: Deadline) -> Result<(), Unsent> {
        let (me, carrier) = (self.me, self.handle.offset());
        let region = self.handle.arena().region();
        let put = self.slots.push_with(me, deadline, |ticket, item| {
            let handed = region.hand_over(me, buffer.block, carrier, ticket).is_ok();
            let form = if handed { IN_BLOCK } else { VOID };
            let parcel = Parcel { place: buffer.block.offset, length: buffer.length as u64, form };
            // SAFETY: the place is this process's by its claim.
            unsafe { item.write(parcel) };
            handed
        });
        let error = match put {
            Ok(true) => {
                // The block is the queue's now.
                std::mem::forget(buffer);
                return Ok(());
            }
            Ok(false) => PutError::Corrupt,
            Err(error) => error.into(),
        };
        Err(Unsent { error, buffer })
    }

    /// Gets the next buffer, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `Closed` when the queue is closed and drained; `Corrupt`, `Join`.
    #[inline]
    pub fn get(&self) -> Result<Buffer, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Gets the next buffer if there is one now.
    ///
    /// # Errors
    /// `Empty` or `Busy`; otherwise as [`get`](Self::get).
    #[inline]
    pub fn get_nowait(&self) -> Result<Buffer, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Gets the next buffer, waiting for one for at most `timeout`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` if it is zero); otherwise as [`get`](Self::get).
    #[inline]
    pub fn get_timeout(&self, timeout: Duration) -> Result<Buffer, GetError> {
        self.get_until(Deadline::after(timeout))
    }

    /// Gets the next buffer, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]); otherwise as [`get`](Self::get).
    #[inline]
    pub fn get_until(&self, deadline: Deadline) -> Result<Buffer, GetError> {
        loop {
            match self.slots.pop_with(self.me, deadline, |ticket, item| self.take(ticket, item))? {
                Found::Buffer(block, length) => {
                    let damaged = length > block.capacity;
                    let length = length.min(block.capacity);
                    let buffer = Buffer::new(self.handle.arena(), block, length);
                    return buffer.ok().filter(|_| !damaged).ok_or(GetError::Corrupt);
                }
                Found::Void => {}
                Found::Damage => return Err(GetError::Corrupt),
            }
        }
    }

    /// Takes the block over that a claimed place names.
    #[inline]
    fn take(&self, ticket: u64, item: *mut Parcel) -> Found {
        // SAFETY: the place is this process's to read by its claim, and any bytes are a parcel. Volatile: what is checked is what is
        // used, whoever writes there meanwhile.
        let Parcel { place, length, form } = unsafe { item.read_volatile() };
        match form {
            IN_BLOCK => {
                let region = self.handle.arena().region();
                region
                    .take_over(self.me, place, self.handle.offset(), ticket)
                    .map_or(Found::Damage, |block| Found::Buffer(block, length))
            }
            VOID => Found::Void,
            _ => Found::Damage,
        }
    }

    /// Gets one buffer after the other, waiting for each, until the queue is closed and drained.
    #[must_use]
    pub fn iter(&self) -> Buffers<'_> {
        Buffers { queue: self }
    }

    /// How many buffers are in the queue: true at some moment during the call while nobody is just putting or getting.
    #[must_use]
    pub fn qsize(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether it holds as much as it can.
    #[must_use]
    pub fn full(&self) -> bool {
        self.slots.is_full()
    }

    /// How many buffers it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Closes the queue for all: nothing is put any more, what is there can still be got. Doing it twice is fine.
    pub fn close(&self) {
        self.slots.close(self.me);
    }

    /// Closes the queue for all; if `immediate`, what is there is not got any more either: its memory is freed, and everybody
    /// who waits is told at once that the queue is closed. As Python's `queue.shutdown`.
    pub fn shutdown(&self, immediate: bool) {
        self.slots.shutdown(self.me, immediate);
        let mut passed = !immediate;
        while !passed {
            let drained = self.slots.drain(self.me, Deadline::NOW, |ticket, item| {
                if let Found::Buffer(block, _) = self.take(ticket, item) {
                    let _ = self.handle.arena().region().free_message(self.me, block);
                }
            });
            // Whatever a living process is just putting or getting is its own to finish, and a sweep's if it dies.
            passed = drained.is_err();
        }
    }

    /// How many buffers were lost, since a process died that had begun to get them and had not got them yet. One that had
    /// got its buffer, and died with that in hand, is not counted.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.slots.lost()
    }

    /// What those wait for who put: ready when there is room, or the queue is closed.
    #[must_use]
    pub fn room(&self) -> BufferRoom {
        BufferRoom { room: self.slots.room(), queue: self.clone() }
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.slots.is_closed()
    }
}

/// The buffers of a queue, until it is closed and drained. See [`BufferQueue::iter`].
#[derive(Debug)]
pub struct Buffers<'q> {
    queue: &'q BufferQueue,
}

impl Iterator for Buffers<'_> {
    type Item = Result<Buffer, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.queue.get() {
            Err(GetError::Closed) => None,
            got => Some(got),
        }
    }
}

impl<'q> IntoIterator for &'q BufferQueue {
    type Item = Result<Buffer, GetError>;
    type IntoIter = Buffers<'q>;

    fn into_iter(self) -> Buffers<'q> {
        self.iter()
    }
}

impl Source for BufferQueue {
    fn source(&self) -> &dyn Waitable {
        &self.slots
    }

    fn me(&self) -> Member<'static> {
        self.me
    }
}

/// The other side of a queue of buffers, for those who put. See [`BufferQueue::room`].
#[derive(Clone, Debug)]
pub struct BufferRoom {
    room: Room<'static, Parcel>,
    // Keeps the queue.
    queue: BufferQueue,
}

impl Source for BufferRoom {
    fn source(&self) -> &dyn Waitable {
        &self.room
    }

    fn me(&self) -> Member<'static> {
        self.queue.me
    }
}

impl Serialize for BufferQueue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BufferQueue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let least = SlotQueue::<Parcel>::bytes_for(1);
        let handle = Handle::deserialize(deserializer, kind::BUFFERS, least)?;
        let room = handle.room().map_err(refuse)?.capacity;
        let slots = find(handle.arena().region(), handle.offset(), room)
            .map_err(|error| refuse(HandleError::Content(error.to_string())))?;
        Ok(Self { slots, me: handle.arena().member(), handle })
    }
}

/// The slots of the queue at `offset`, if they lie within the `room` of its object: a damaged capacity must not reach others.
fn find(
    region: &Region<'static>,
    offset: u64,
    room: u64,
) -> Result<SlotQueue<'static, Parcel>, QueueError> {
    let slots = SlotQueue::<Parcel>::attach(region, offset)?;
    let capacity = slots.capacity() as u64;
    if SlotQueue::<Parcel>::bytes_for(capacity) > room {
        return Err(QueueError::Damaged { capacity });
    }
    Ok(slots)
}

/// How sweeps find their way in a queue.
pub(super) const CARRIER: Carrier = Carrier {
    kind: kind::BUFFERS,
    sweep: |region, me, object, room| {
        // Else it may be freed meanwhile.
        !region.is_shared(object)
            || find(region, object.offset, room).is_ok_and(|queue| queue.sweep(me).is_ok())
    },
    passed: |region, offset, room, ticket| {
        find(region, offset, room).is_ok_and(|queue| queue.has_passed(ticket))
    },
};
