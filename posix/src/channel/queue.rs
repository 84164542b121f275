//! A queue of objects that travels.
//!
//! ```text
//! head (128 bytes: the type's hash, the largest object) | slot queue of messages, 128 bytes each
//! ```
//!
//! - A put encodes first, into memory of its own: nothing that can fail happens between claim and publication.
//! - A short object lies in its message. A long one lies in a block of the arena: `own(me) → queued(queue, ticket)`
//!   between claim and publication, `queued → own(me)` by the getter before it gives the place back. So a block is at
//!   any moment free, in a named hand, or in a named place of a queue, and what a dead process had is found by a sweep.
//! - A get copies the bytes out, gives the place back, and decodes then: bytes that cannot be decoded cost that object only.

use std::marker::PhantomData;
use std::time::Duration;

use procession_core::queue::{Claim, QueueError, SlotQueue};
use procession_core::region::{Block, Member, Region, Shareable};
use procession_core::sys::Deadline;
use procession_core::sys::atomic::{AtomicU64, Ordering};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{CreateError, GetError, PutError};
use super::message::{IN_BLOCK, INLINE, Message, NEAR, VOID};
use crate::memory::{Arena, Handle, HandleError, decode as decode_object, kind, refuse};

/// The largest object that a queue takes unless it is told otherwise: 64 MiB.
const USUAL_LARGEST: u64 = 64 << 20;
/// Lengths are 32 bits.
const MOST_LARGEST: u64 = u32::MAX as u64;

#[repr(C, align(128))]
struct Head {
    item_type: AtomicU64,
    largest: AtomicU64,
}

// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl Shareable for Head {}

/// How a queue is to be.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct QueueOptions {
    capacity: usize,
    largest: u64,
}

impl QueueOptions {
    /// A queue that holds at most `capacity` objects, at least 1.
    pub fn bounded(capacity: usize) -> Self {
        Self { capacity, largest: USUAL_LARGEST }
    }

    /// The largest object that it takes, in bytes as encoded; 64 MiB by default, 4 GiB at most.
    pub fn largest_object(self, bytes: u64) -> Self {
        Self { largest: bytes.min(MOST_LARGEST), ..self }
    }

    /// Makes the queue.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or no queue can have this capacity.
    pub fn create<T>(self) -> Result<Queue<T>, CreateError> {
        Queue::create(self)
    }
}

/// A bounded queue of objects between processes, as `multiprocessing.Queue`: many may put, many may get.
///
/// First in, first out for each who puts. What `put` has acknowledged is got, unless the process that got it is killed
/// before it gave it to anybody. Anybody may be killed at any moment; the others go on. There is no feeder thread:
/// when `put` returns the object is in the queue, encoded, and errors of encoding are the caller's.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same queue. It needs no descriptor.
///
/// Cost: an object of up to 104 encoded bytes is put and got without system call and without allocation of shared memory
/// as long as nobody has to wait. Each place takes 128 bytes of memory.
///
/// ```
/// use procession_posix::channel::{GetError, PutError, Queue};
/// use std::time::Duration;
///
/// let queue = Queue::bounded(2)?;
/// queue.put(&("one".to_string(), 1))?;
/// queue.put(&("two".to_string(), 2))?;
/// assert!(queue.full());
/// assert!(matches!(queue.put_nowait(&("three".to_string(), 3)), Err(PutError::Full)));
/// assert_eq!(queue.get()?, ("one".to_string(), 1));
/// queue.close();
/// assert_eq!(queue.get_timeout(Duration::from_secs(1))?, ("two".to_string(), 2));
/// assert!(matches!(queue.get(), Err(GetError::Closed)));
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct Queue<T> {
    slots: SlotQueue<'static, Message>,
    me: Member<'static>,
    largest: u64,
    handle: Handle,
    carries: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), ..*self }
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl<T> Queue<T> {
    /// A queue that holds at most `capacity` objects, of at most 64 MiB each.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or no queue can have this capacity (1 to 2³⁰).
    pub fn bounded(capacity: usize) -> Result<Self, CreateError> {
        QueueOptions::bounded(capacity).create()
    }

    fn create(options: QueueOptions) -> Result<Self, CreateError> {
        let capacity = options.capacity as u64;
        let most = procession_core::queue::MOST;
        if capacity == 0 || capacity > most {
            return Err(
                procession_core::queue::QueueError::Capacity { asked: capacity, most }.into()
            );
        }
        let bytes = size_of::<Head>() as u64 + SlotQueue::<Message>::bytes_for(capacity);
        let handle = Handle::allocate(kind::QUEUE, bytes)?;
        let region = handle.arena().region();
        let head =
            region.object::<Head>(handle.offset()).map_err(crate::memory::MemoryError::from)?;
        head.item_type.store(type_hash::<T>(), Ordering::Relaxed);
        head.largest.store(options.largest, Ordering::Relaxed);
        // Each queue at this place starts elsewhere, so that a block that was left in an earlier one is not taken for
        // one of this one's: by the golden ratio the starts lie far apart.
        let first = u64::from(handle.generation()).wrapping_mul(0x9E37_79B9);
        let slots = SlotQueue::create_at(region, slots_of(handle.offset()), capacity, first)?;
        let me = handle.arena().member();
        Ok(Self { slots, me, largest: options.largest, handle, carries: PhantomData })
    }

    fn attach(handle: Handle) -> Result<Self, HandleError> {
        let region = handle.arena().region();
        let head =
            region.object::<Head>(handle.offset()).map_err(crate::memory::MemoryError::from)?;
        let (found, asked) = (head.item_type.load(Ordering::Relaxed), type_hash::<T>());
        if found != asked {
            return Err(HandleError::Content(format!(
                "the queue carries objects of another type than {} (hash {found:#x}, not {asked:#x})",
                std::any::type_name::<T>()
            )));
        }
        let largest = head.largest.load(Ordering::Relaxed).min(MOST_LARGEST);
        let slots = find(region, handle.offset(), handle.room()?.capacity)
            .map_err(|error| HandleError::Content(error.to_string()))?;
        let me = handle.arena().member();
        Ok(Self { slots, me, largest, handle, carries: PhantomData })
    }

    fn arena(&self) -> &'static Arena {
        self.handle.arena()
    }

    /// How many objects are in the queue: true at some moment during the call while nobody is just putting or getting.
    #[must_use]
    pub fn qsize(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is in it. After a `put` has returned and before anybody gets, this says no.
    #[must_use]
    pub fn empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether it holds as much as it can.
    #[must_use]
    pub fn full(&self) -> bool {
        self.slots.is_full()
    }

    /// How many objects it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Closes the queue for all: nothing is put any more, what is there can still be got. Doing it twice is fine.
    pub fn close(&self) {
        self.slots.close(self.me);
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.slots.is_closed()
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts an object, waiting for room as long as it takes.
    ///
    /// # Errors
    /// `Closed`, `TooLarge`, `Encode`, `Memory`, `Corrupt`, `Join`.
    #[inline]
    pub fn put(&self, object: &T) -> Result<(), PutError> {
        self.put_until(object, Deadline::NEVER)
    }

    /// Puts an object if there is room now.
    ///
    /// # Errors
    /// `Full` or `Busy`; otherwise as [`put`](Self::put).
    #[inline]
    pub fn put_nowait(&self, object: &T) -> Result<(), PutError> {
        self.put_until(object, Deadline::NOW)
    }

    /// Puts an object, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` or `Busy` if it is zero); otherwise as [`put`](Self::put).
    #[inline]
    pub fn put_timeout(&self, object: &T, timeout: Duration) -> Result<(), PutError> {
        self.put_until(object, Deadline::after(timeout))
    }

    /// Puts an object, waiting for room until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Full` or `Busy` with [`Deadline::NOW`]); otherwise as [`put`](Self::put).
    #[inline]
    pub fn put_until(&self, object: &T, deadline: Deadline) -> Result<(), PutError> {
        let mut short = [0; INLINE];
        match postcard::to_slice(object, &mut short) {
            Ok(encoded) if encoded.len() as u64 <= self.largest => {
                let length = encoded.len();
                self.put_short(&short, length, deadline)
            }
            Ok(encoded) => {
                Err(PutError::TooLarge { bytes: encoded.len() as u64, largest: self.largest })
            }
            Err(postcard::Error::SerializeBufferFull) => self.put_long(object, deadline),
            Err(error) => Err(PutError::Encode(error)),
        }
    }

    #[inline]
    fn put_short(
        &self,
        bytes: &[u8; INLINE],
        length: usize,
        deadline: Deadline,
    ) -> Result<(), PutError> {
        let claim = self.slots.start_push(self.me, deadline)?;
        let item = self.slots.item(&claim);
        // SAFETY: the claim makes the place this process's; both have INLINE bytes.
        unsafe {
            (&raw mut (*item).place).write(0);
            (&raw mut (*item).length).write(length as u32);
            (&raw mut (*item).form).write(0);
            copy_short(bytes.as_ptr(), (&raw mut (*item).bytes).cast(), length);
        }
        self.slots.finish_push(self.me, claim);
        Ok(())
    }

    #[cold]
    fn put_long(&self, object: &T, deadline: Deadline) -> Result<(), PutError> {
        let encoded = postcard::to_stdvec(object).map_err(PutError::Encode)?;
        let bytes = encoded.len() as u64;
        if bytes > self.largest {
            return Err(PutError::TooLarge { bytes, largest: self.largest });
        }
        let region = self.arena().region();
        // Once more without what the dead have left in queues.
        let block = region.allocate_message(self.me, bytes).or_else(|_| {
            self.arena().sweep();
            region.allocate_message(self.me, bytes).map_err(PutError::Memory)
        })?;
        let place = match region.bytes(block.offset, bytes, 1) {
            Ok(place) => place,
            Err(_) => return Err(PutError::Corrupt),
        };
        // SAFETY: the block is this process's own, and takes that many bytes.
        unsafe { place.as_ptr().copy_from_nonoverlapping(encoded.as_ptr(), encoded.len()) };
        let claim = match self.slots.start_push(self.me, deadline) {
            Ok(claim) => claim,
            Err(error) => {
                let _ = region.free_message(self.me, block);
                return Err(error.into());
            }
        };
        let handed = region.hand_over(self.me, block, self.handle.offset(), claim.ticket());
        let form = if handed.is_ok() { IN_BLOCK } else { VOID };
        let item = self.slots.item(&claim);
        // SAFETY: as in `put_short`.
        unsafe {
            (&raw mut (*item).place).write(block.offset);
            (&raw mut (*item).length).write(bytes as u32);
            (&raw mut (*item).form).write(form);
        }
        self.slots.finish_push(self.me, claim);
        handed.map_err(|_| PutError::Corrupt)
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets the next object, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `Closed` when the queue is closed and drained; `Decode`, `Corrupt`, `Join`.
    #[inline]
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Gets the next object if there is one now.
    ///
    /// # Errors
    /// `Empty` or `Busy`; otherwise as [`get`](Self::get).
    #[inline]
    pub fn get_nowait(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Gets the next object, waiting for one for at most `timeout`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` if it is zero); otherwise as [`get`](Self::get).
    #[inline]
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(timeout))
    }

    /// Gets the next object, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` or `Busy` with [`Deadline::NOW`]); otherwise as [`get`](Self::get).
    #[inline]
    pub fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        loop {
            let claim = self.slots.start_pop(self.me, deadline)?;
            let item = self.slots.item(&claim);
            // SAFETY: the claim makes the place this process's to read; any bytes are a message.
            // Volatile: what is checked here is what is used below, whoever writes there meanwhile.
            let (place, length, form) = unsafe {
                (
                    (&raw const (*item).place).read_volatile(),
                    (&raw const (*item).length).read_volatile(),
                    (&raw const (*item).form).read_volatile(),
                )
            };
            match form {
                0 if length as usize <= INLINE => {
                    let mut short = [0; INLINE];
                    // SAFETY: as above; both have INLINE bytes.
                    unsafe {
                        let bytes = (&raw const (*item).bytes).cast();
                        copy_short(bytes, short.as_mut_ptr(), length as usize);
                    }
                    self.slots.finish_pop(self.me, claim);
                    return decode(&short[..length as usize]);
                }
                IN_BLOCK => return self.get_long(claim, place, length),
                VOID => self.slots.finish_pop(self.me, claim),
                _ => {
                    self.slots.finish_pop(self.me, claim);
                    return Err(GetError::Corrupt);
                }
            }
        }
    }

    #[cold]
    fn get_long(&self, claim: Claim, place: u64, length: u32) -> Result<T, GetError> {
        let region = self.arena().region();
        let block = region.take_over(self.me, place, self.handle.offset(), claim.ticket());
        self.slots.finish_pop(self.me, claim);
        let block = block.map_err(|_| GetError::Corrupt)?;
        let encoded = copy_out(region, &block, u64::from(length));
        let freed = region.free_message(self.me, block);
        match (encoded, freed) {
            (Some(encoded), Ok(())) => decode(&encoded),
            _ => Err(GetError::Corrupt),
        }
    }

    /// Gets one object after the other, waiting for each, until the queue is closed and drained. What cannot be got is an
    /// error in its turn: an object that cannot be decoded is passed over, damage comes again and again.
    ///
    /// ```
    /// use procession_posix::channel::Queue;
    ///
    /// let lines = Queue::bounded(10)?;
    /// lines.put(&"one".to_string())?;
    /// lines.put(&"two".to_string())?;
    /// lines.close();
    /// for line in &lines {
    ///     println!("{}", line?.to_uppercase());
    /// }
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self }
    }
}

/// Copies a short object of `length` bytes, and perhaps what lies behind it: a copy whose size is known when compiling is a
/// few moves. Two sizes, so that a very short object touches one cache line of its place.
///
/// # Safety
/// Both have INLINE bytes, and `to` is this process's own.
#[inline]
unsafe fn copy_short(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: by the caller.
    unsafe {
        if length <= NEAR {
            to.copy_from_nonoverlapping(from, NEAR);
        } else {
            to.copy_from_nonoverlapping(from, INLINE);
        }
    }
}

/// Copies a block out before it is looked at: another process might still write to it.
fn copy_out(region: &Region<'static>, block: &Block, length: u64) -> Option<Vec<u8>> {
    if length > block.capacity {
        return None;
    }
    let place = region.bytes(block.offset, length, 1).ok()?;
    let length = length as usize;
    let mut bytes = Vec::<u8>::with_capacity(length);
    // SAFETY: the block was checked to lie in the region and to take that many bytes; the vector has room for them.
    unsafe {
        bytes.as_mut_ptr().copy_from_nonoverlapping(place.as_ptr(), length);
        bytes.set_len(length);
    }
    Some(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, GetError> {
    decode_object(bytes)
        .map_err(|error| GetError::Decode { expected: std::any::type_name::<T>(), error })
}

/// The objects of a queue, until it is closed and drained. See [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'q, T> {
    queue: &'q Queue<T>,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.queue.get() {
            Err(GetError::Closed) => None,
            got => Some(got),
        }
    }
}

impl<'q, T: DeserializeOwned> IntoIterator for &'q Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'q, T>;

    fn into_iter(self) -> Iter<'q, T> {
        self.iter()
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let least = size_of::<Head>() as u64 + SlotQueue::<Message>::bytes_for(1);
        let handle = Handle::deserialize(deserializer, kind::QUEUE, least)?;
        Self::attach(handle).map_err(refuse)
    }
}

fn slots_of(offset: u64) -> u64 {
    offset + size_of::<Head>() as u64
}

/// The name of the type as a number: both sides run the same build, where equal types have equal names.
fn type_hash<T>() -> u64 {
    // FNV-1a.
    std::any::type_name::<T>().bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// The slots of the queue at `offset`, if they lie within the `room` of its object: a damaged capacity must not reach others.
fn find(
    region: &Region<'static>,
    offset: u64,
    room: u64,
) -> Result<SlotQueue<'static, Message>, QueueError> {
    let slots = SlotQueue::<Message>::attach(region, slots_of(offset))?;
    let capacity = slots.capacity() as u64;
    let bytes = SlotQueue::<Message>::bytes_for(capacity).saturating_add(size_of::<Head>() as u64);
    if bytes > room { Err(QueueError::Damaged { capacity }) } else { Ok(slots) }
}

/// Frees what dead processes have left in the queues of a region, and the blocks that were theirs. `false` if a queue is
/// damaged, and may still name them.
pub(crate) fn sweep(region: &Region<'static>, me: Member<'_>) -> bool {
    let mut clean = true;
    region.for_each_object(kind::QUEUE, &mut |object, room| {
        clean &= find(region, object.offset, room).is_ok_and(|queue| queue.sweep(me).is_ok());
    });
    region.sweep(me, &|offset, ticket| {
        // A queue that is gone names nothing any more.
        let Some(object) = region.object_at(offset).filter(|object| object.kind == kind::QUEUE)
        else {
            return true;
        };
        region.resolve(offset, object.kind, object.generation, 0).is_ok_and(|room| {
            find(region, offset, room.capacity).is_ok_and(|queue| queue.has_passed(ticket))
        })
    });
    clean
}
