//! One publishes objects, many subscribers each get all of them.
//!
//! ```text
//! label (128 bytes) | broadcast of messages, 128 bytes each
//!
//! publisher    pack: encoded in its own memory, or in a block of its own
//!              begin item i: from now on nobody reads what is in its place; free the block of the item that lay there
//!              dispatch: the block own(me) → queued(broadcast, i); the message into the place; publish
//! subscriber   copy the message, and the block that it names; look whether the item is still there; decode the copy
//! ```
//!
//! - A block stays with its item until the place is used again, one round later, or until the broadcast is gone: so many long
//!   objects as there are places lie in memory.
//! - A subscriber that loses may copy from a block that is being freed. It finds out before it uses what it has copied.
//! - What a dead publisher had begun and not published is no item; its block, and that of the item which was
//!   there before, a sweep finds once the place is used again.

use std::marker::PhantomData;
use std::time::Duration;

use bytemuck::Zeroable;
use procession_core::queue::{
    self as core, QueueError, RoleError, Slow, Start, SubscribeError, Turn,
};
use procession_core::region::{Member, Region};
use procession_core::sys::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{CreateError, PublishError, ReceiveError};
use super::label::{Label, MOST_LARGEST, USUAL_LARGEST};
use super::message::{FORMS, IN_BLOCK, INLINE, Message, VOID};
use super::parcel::Parcel;
use super::sweep::Carrier;
use crate::memory::{Arena, Handle, HandleError, MemoryError, decode, kind, refuse};
use crate::sync::Who;
use crate::wait::sealed::{Awaited, Place, Source};

/// How a broadcast is to be.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct BroadcastOptions {
    capacity: usize,
    slow: Slow,
    largest: u64,
}

impl BroadcastOptions {
    /// A publisher waits for subscribers that are `capacity` objects behind: nobody misses anything.
    pub fn blocking(capacity: usize) -> Self {
        Self { capacity, slow: Slow::Block, largest: USUAL_LARGEST }
    }

    /// A publisher waits for nobody: subscribers that are more than `capacity` objects behind, rounded up to a power of two, miss
    /// some, and are told how many.
    pub fn losing(capacity: usize) -> Self {
        Self { slow: Slow::Lose, ..Self::blocking(capacity) }
    }

    /// The largest object that it takes, in bytes as encoded; 64 MiB by default, 4 GiB at most.
    pub fn largest_object(self, bytes: u64) -> Self {
        Self { largest: bytes.min(MOST_LARGEST), ..self }
    }

    /// Makes the broadcast.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or none can have this capacity.
    pub fn create<T>(self) -> Result<Broadcast<T>, CreateError> {
        Broadcast::create(self)
    }
}

/// A broadcast of objects between processes: one publishes, and up to 64 subscribers each get every object, at their own pace.
///
/// What becomes of a subscriber that is too slow is chosen when it is made: the publisher waits for it
/// ([`blocking`](Self::blocking)), or it misses what it was too slow for, and is told exactly how many
/// ([`losing`](Self::losing)). Without any subscriber, objects are published to nobody.
///
/// Any of them may be killed at any moment. A dead subscriber holds nobody up: the publisher finds out within some milliseconds. A
/// dead publisher leaves what it has published, and its role to the next who asks for it; subscribers wait for that one
/// meanwhile, until the broadcast is closed.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same broadcast. A [`Subscriber`] travels too, and
/// keeps its place. A [`Publisher`] does not: take the role in the process that is to have it.
///
/// An end of a pipe among an object arrives at each subscriber as one of its own. The end stays open until the place of
/// the object is used again. A descriptor arrives at the first subscriber that decodes it, and is an error for the others.
///
/// Cost: an object of up to 104 encoded bytes is published and received without system call and without allocation of shared
/// memory while nobody has to wait. It takes 10 KiB, and 128 bytes for each place. A longer object lies in a block of its
/// own, until its place is used again.
///
/// ```
/// use procession_posix::channel::{Broadcast, ReceiveError};
///
/// let news = Broadcast::blocking(16)?;
/// let (first, second) = (news.subscribe()?, news.subscribe()?);
/// let publisher = news.publisher()?;
/// publisher.publish(&"rain".to_string())?;
/// publisher.close();
/// assert_eq!(first.recv()?, "rain");
/// assert_eq!(second.recv()?, "rain");
/// assert!(matches!(second.recv(), Err(ReceiveError::Closed)));
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub struct Broadcast<T> {
    cast: core::Broadcast<'static, Message>,
    me: Member<'static>,
    largest: u64,
    handle: Handle,
    carries: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Broadcast<T> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), ..*self }
    }
}

impl<T> std::fmt::Debug for Broadcast<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broadcast").field("cast", &self.cast).finish_non_exhaustive()
    }
}

impl<T> Broadcast<T> {
    /// One whose publisher waits for subscribers that are `capacity` objects behind.
    ///
    /// # Errors
    /// [`CreateError`] if there is no room, or none can have this capacity (1 to 2³⁰).
    pub fn blocking(capacity: usize) -> Result<Self, CreateError> {
        BroadcastOptions::blocking(capacity).create()
    }

    /// One whose publisher waits for nobody, and that keeps the last `capacity` objects, rounded up to a power of two.
    ///
    /// # Errors
    /// As [`blocking`](Self::blocking).
    pub fn losing(capacity: usize) -> Result<Self, CreateError> {
        BroadcastOptions::losing(capacity).create()
    }

    fn create(options: BroadcastOptions) -> Result<Self, CreateError> {
        let (asked, most) = (options.capacity as u64, core::MOST);
        if asked == 0 || asked > most {
            return Err(QueueError::Capacity { asked, most }.into());
        }
        let handle = Handle::allocate(kind::BROADCAST, bytes_for(asked))?;
        let region = handle.arena().region();
        let label = region.object::<Label>(handle.offset()).map_err(MemoryError::from)?;
        label.write::<T>(options.largest);
        // Each one at this place starts elsewhere, so that a block that was left in an earlier one is not taken for
        // one of this one's.
        let first = u64::from(handle.generation()).wrapping_mul(0x9E37_79B9);
        let at = cast_of(handle.offset());
        let cast = core::Broadcast::create_at(region, at, asked, options.slow, first)?;
        let me = handle.arena().member();
        Ok(Self { cast, me, largest: options.largest, handle, carries: PhantomData })
    }

    fn attach(handle: Handle) -> Result<Self, HandleError> {
        let region = handle.arena().region();
        let label = region.object::<Label>(handle.offset()).map_err(MemoryError::from)?;
        let largest = label.read::<T>()?;
        let cast = find(region, handle.offset(), handle.room()?.capacity)
            .map_err(|error| HandleError::Content(error.to_string()))?;
        let me = handle.arena().member();
        Ok(Self { cast, me, largest, handle, carries: PhantomData })
    }

    fn arena(&self) -> &'static Arena {
        self.handle.arena()
    }

    /// Takes the publisher's role: from nobody, or from a dead process.
    ///
    /// # Errors
    /// [`RoleError::Taken`] if a living process has it, this one included; `Corrupt`, `Join`.
    pub fn publisher(&self) -> Result<Publisher<T>, RoleError> {
        Ok(Publisher { role: self.cast.publisher(self.me)?, of: self.clone() })
    }

    /// A subscriber that begins with the next object.
    ///
    /// # Errors
    /// [`SubscribeError::TooMany`] if there are 64 living ones; `Corrupt`, `Join`.
    pub fn subscribe(&self) -> Result<Subscriber<T>, SubscribeError> {
        self.subscribe_at(Start::Next)
    }

    /// A subscriber that begins with the oldest object that is still there. Of a blocking one up to an eighth
    /// of what it can hold may be left out: the publisher may be about to use those places.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_to_oldest(&self) -> Result<Subscriber<T>, SubscribeError> {
        self.subscribe_at(Start::Oldest)
    }

    fn subscribe_at(&self, start: Start) -> Result<Subscriber<T>, SubscribeError> {
        let reader = self.cast.subscribe(self.me, start)?;
        Ok(Subscriber { news: News { news: reader.news(), of: self.clone() }, reader })
    }

    /// How many subscribers there are, the dead that nobody has found yet included.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.cast.readers()
    }

    /// How many objects were ever published.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.cast.published()
    }

    /// How many objects it keeps.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.cast.capacity()
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cast.is_closed()
    }

    /// Which process has the publisher's role, or died with it; `None` if there is none. Some loads.
    #[must_use]
    pub fn who_publishes(&self) -> Option<Who> {
        self.cast.who_publishes(self.me)
    }
}

/// The end of a [`Broadcast`] that publishes. One at a time, one thread at a time; dropping it leaves the role to others.
pub struct Publisher<T> {
    role: core::Publisher<'static, Message>,
    of: Broadcast<T>,
}

impl<T> std::fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Publisher").field(&self.of.cast).finish()
    }
}

impl<T> Publisher<T> {
    /// The broadcast.
    #[must_use]
    pub fn broadcast(&self) -> &Broadcast<T> {
        &self.of
    }

    /// Closes the broadcast for all: nothing is published any more, what is there can still be received. Doing it twice is fine.
    pub fn close(&self) {
        self.role.close();
    }
}

impl<T: Serialize> Publisher<T> {
    /// Publishes an object, waiting for slow subscribers as long as it takes, if they block.
    ///
    /// # Errors
    /// `Closed`, `TooLarge`, `Encode`, `Memory`, `Corrupt`, `Inherited`, `Join`.
    #[inline]
    pub fn publish(&self, object: &T) -> Result<(), PublishError> {
        self.publish_until(object, Deadline::NEVER)
    }

    /// Publishes an object if no subscriber is in the way now.
    ///
    /// # Errors
    /// `Full`; otherwise as [`publish`](Self::publish).
    #[inline]
    pub fn try_publish(&self, object: &T) -> Result<(), PublishError> {
        self.publish_until(object, Deadline::NOW)
    }

    /// Publishes an object, waiting for slow subscribers for at most `timeout`, if they block.
    ///
    /// # Errors
    /// `TimedOut` (`Full` if it is zero); otherwise as [`publish`](Self::publish).
    #[inline]
    pub fn publish_timeout(&self, object: &T, timeout: Duration) -> Result<(), PublishError> {
        self.publish_until(object, Deadline::after(timeout))
    }

    /// Publishes an object, waiting for slow subscribers until `deadline`, if they block.
    ///
    /// # Errors
    /// `TimedOut` (`Full` with [`Deadline::NOW`]); otherwise as [`publish`](Self::publish).
    #[inline]
    pub fn publish_until(&self, object: &T, deadline: Deadline) -> Result<(), PublishError> {
        let (arena, carrier) = (self.of.arena(), self.of.handle.offset());
        let mut parcel = Parcel::new(arena);
        parcel.pack(object, self.of.largest)?;
        let mut sent = Ok(());
        self.role.publish_with(deadline, |turn| {
            self.free_old(&turn);
            let mut message = Message::zeroed();
            // SAFETY: the message is this function's own, and nobody else has the place that it is for.
            sent = unsafe { parcel.dispatch(carrier, turn.index, &raw mut message) };
            message
        })?;
        sent.map_err(|_| PublishError::Corrupt)
    }

    /// Frees the block of the object whose place is about to be used.
    #[inline]
    fn free_old(&self, turn: &Turn<Message>) {
        if turn.old.form & FORMS == IN_BLOCK {
            let (region, me) = (self.of.arena().region(), self.of.me);
            // Failure: a sweep was faster, or what is there is what a dead publisher had half written.
            if let Ok(block) =
                region.take_over(me, turn.old.place, self.of.handle.offset(), turn.last)
            {
                let _ = region.free_message(me, block);
            }
        }
    }
}

/// One who gets every object of a [`Broadcast`], in order. One thread at a time; dropping it gives its seat back.
///
/// It travels: a copy that arrives in another process, or in this one, begins with the object that was the next when it was
/// sent. Its place is not held for it on the way. While the original is there and has not read on, nothing is
/// overwritten in a blocking broadcast; otherwise the copy is told how many it has missed.
pub struct Subscriber<T> {
    reader: core::Subscriber<'static, Message>,
    news: News<T>,
}

impl<T> std::fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reader.fmt(f)
    }
}

impl<T> Subscriber<T> {
    /// The broadcast.
    #[must_use]
    pub fn broadcast(&self) -> &Broadcast<T> {
        &self.news.of
    }

    /// What other threads can wait for on this subscriber's behalf, and what [`Readiness`](crate::ready::Readiness) takes: ready
    /// when an object is there, or the broadcast is closed. It means nothing once the subscriber is dropped.
    #[must_use]
    pub fn news(&self) -> News<T> {
        self.news.clone()
    }

    /// How many objects were published that this subscriber has not received yet; also those that it will miss.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.reader.lag()
    }

    /// What a message says, copied before it can be overwritten.
    fn copy(&self, index: u64, message: Message) -> Content {
        match message.form & FORMS {
            0 if message.length as usize <= INLINE => Content::Here(message),
            IN_BLOCK => self.copy_long(index, &message).map_or(Content::Damaged, Content::Apart),
            VOID => Content::Void,
            _ => Content::Damaged,
        }
    }

    #[cold]
    fn copy_long(&self, index: u64, message: &Message) -> Option<Vec<u8>> {
        let region = self.broadcast().arena().region();
        let block = region.queued(message.place, self.broadcast().handle.offset(), index).ok()?;
        let length = u64::from(message.length);
        if length > block.capacity {
            return None;
        }
        let place = region.bytes(block.offset, length, 1).ok()?;
        let mut bytes = Vec::<u8>::new();
        // An absurd length is damage, and no reason to abort.
        bytes.try_reserve_exact(length as usize).ok()?;
        // A copy out before it is looked at: another process might still write to it.
        // SAFETY: the bytes lie in the region; the vector has room for so many, and all of them are written.
        unsafe {
            bytes.as_mut_ptr().copy_from_nonoverlapping(place.as_ptr(), length as usize);
            bytes.set_len(length as usize);
        }
        Some(bytes)
    }
}

/// What a subscriber has copied.
enum Content {
    /// A short object.
    Here(Message),
    /// A long one.
    Apart(Vec<u8>),
    /// Nothing: the publisher could not finish.
    Void,
    /// What no publisher writes, unless it was overwritten meanwhile.
    Damaged,
}

impl<T: DeserializeOwned> Subscriber<T> {
    /// Receives the next object, waiting for one as long as it takes.
    ///
    /// # Errors
    /// `Missed` if objects were overwritten before, which happens where slow subscribers lose; `Closed` when the broadcast is closed
    /// and all was received; `Decode`, `Corrupt`, `Inherited`.
    #[inline]
    pub fn recv(&self) -> Result<T, ReceiveError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives the next object if there is one now.
    ///
    /// # Errors
    /// `Empty`; otherwise as [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&self) -> Result<T, ReceiveError> {
        self.recv_until(Deadline::NOW)
    }

    /// Receives the next object, waiting for one for at most `timeout`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` if it is zero); otherwise as [`recv`](Self::recv).
    #[inline]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, ReceiveError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives the next object, waiting for one until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` (`Empty` with [`Deadline::NOW`]); otherwise as [`recv`](Self::recv).
    #[inline]
    pub fn recv_until(&self, deadline: Deadline) -> Result<T, ReceiveError> {
        loop {
            let content =
                self.reader.recv_with(deadline, |index, message| self.copy(index, message))?;
            let decoded = match &content {
                Content::Here(message) => decode(&message.bytes[..message.length as usize]),
                Content::Apart(bytes) => decode(bytes),
                Content::Void => continue,
                Content::Damaged => return Err(ReceiveError::Corrupt),
            };
            let expected = std::any::type_name::<T>();
            return decoded.map_err(|error| ReceiveError::Decode { expected, error });
        }
    }

    /// Receives one object after the other, waiting for each, until the broadcast is closed and all was received. What was missed,
    /// or cannot be decoded, is an error in its turn.
    #[must_use]
    pub fn iter(&self) -> Received<'_, T> {
        Received { subscriber: self }
    }
}

/// The objects of a broadcast, until it is closed and all were received. See [`Subscriber::iter`].
#[derive(Debug)]
pub struct Received<'s, T> {
    subscriber: &'s Subscriber<T>,
}

impl<T: DeserializeOwned> Iterator for Received<'_, T> {
    type Item = Result<T, ReceiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.subscriber.recv() {
            Err(ReceiveError::Closed) => None,
            received => Some(received),
        }
    }
}

impl<'s, T: DeserializeOwned> IntoIterator for &'s Subscriber<T> {
    type Item = Result<T, ReceiveError>;
    type IntoIter = Received<'s, T>;

    fn into_iter(self) -> Received<'s, T> {
        self.iter()
    }
}

/// Whether there is news for one subscriber: what other threads can wait for. See [`Subscriber::news`].
pub struct News<T> {
    news: core::News<'static>,
    // Keeps the broadcast.
    of: Broadcast<T>,
}

impl<T> Clone for News<T> {
    fn clone(&self) -> Self {
        Self { news: self.news, of: self.of.clone() }
    }
}

impl<T> std::fmt::Debug for News<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("News").field(&self.of).finish()
    }
}

impl<T: 'static> Source for News<T> {
    fn source(&self) -> &dyn procession_core::wait::Waitable {
        &self.news
    }

    fn me(&self) -> Member<'static> {
        self.of.me
    }
}

impl<T: 'static> Awaited for Subscriber<T> {
    fn place(&self) -> Place<'_> {
        Place::Memory(&self.news)
    }
}

impl<T> Serialize for Broadcast<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Broadcast<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = Handle::deserialize(deserializer, kind::BROADCAST, bytes_for(1))?;
        Self::attach(handle).map_err(refuse)
    }
}

impl<T> Serialize for Subscriber<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.broadcast(), self.reader.position()).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Subscriber<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (of, position) = <(Broadcast<T>, u64)>::deserialize(deserializer)?;
        of.subscribe_at(Start::At(position))
            .map_err(|error| refuse(HandleError::Content(error.to_string())))
    }
}

fn cast_of(offset: u64) -> u64 {
    offset + size_of::<Label>() as u64
}

fn bytes_for(capacity: u64) -> u64 {
    core::Broadcast::<Message>::bytes_for(capacity).saturating_add(size_of::<Label>() as u64)
}

/// What lies at `offset`, if it lies within the `room` of its object: a damaged capacity must not reach others.
fn find(
    region: &Region<'static>,
    offset: u64,
    room: u64,
) -> Result<core::Broadcast<'static, Message>, QueueError> {
    let cast = core::Broadcast::<Message>::attach(region, cast_of(offset))?;
    let capacity = cast.capacity() as u64;
    if bytes_for(capacity) > room { Err(QueueError::Damaged { capacity }) } else { Ok(cast) }
}

/// How sweeps find their way in a broadcast.
pub(super) const CARRIER: Carrier = Carrier {
    kind: kind::BROADCAST,
    sweep: |region, me, object, room| {
        // Else it may be freed meanwhile.
        !region.is_shared(object)
            || find(region, object.offset, room).is_ok_and(|cast| cast.sweep(me).is_ok())
    },
    passed: |region, offset, room, index| {
        find(region, offset, room).is_ok_and(|cast| cast.has_passed(index))
    },
};
