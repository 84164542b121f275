//! A store of objects that travels: what the queues have in common that keep an order, lease what is got, or grow.
//!
//! ```text
//! label (128 bytes) | store of messages, and the segments that it grows by
//! ```
//!
//! ```text
//! put    pack; lock, claim a cell; dispatch under its ticket; publish; unlock
//! get    lock, claim; the object copied, or its block taken over; the cell freed; unlock; decode
//! lease  lock, claim; a short object copied, a block left where it is; unlock; copy the block, decode
//! done   lock, free the cell; unlock; the block of the ticket that is over taken over, and freed
//! ```
//!
//! - At least once an object stays in the store until it is done: its block is tied to the ticket all the time, so that it is there
//!   for whom it is delivered to next. What was copied from it counts only if the lease still holds after that.
//! - A store that has never left its process is freed with the last handle, and its segments with it. Segments of a store that
//!   is gone otherwise are found by a sweep.

use std::marker::PhantomData;
use std::sync::Arc;

use procession_core::queue::{
    GivenUp, Lease, Order, Plan, Policy, PopError, Putter, QueueError, Released, Store, StoreError,
    StoreRoom, Taker,
};
use procession_core::region::{Kind, Member, Object, Region};
use procession_core::sys::{Deadline, Thread};
use procession_core::wait::Waitable;
use serde::de::DeserializeOwned;
use serde::{Deserializer, Serialize, Serializer};

use super::delivery::{Delivery, Hand};
use super::error::{CreateError, GetError, JoinTasksError, PutError, TaskDoneError};
use super::label::Label;
use super::message::Message;
use super::parcel::{Arrival, Damaged, Found, Parcel, Unpacked};
use super::queue::QueueOptions;
use super::sweep::Carrier;
use crate::memory::{Arena, Handle, HandleError, MemoryError, decode_or, kind, refuse};
use crate::wait::sealed::Source;

/// Objects in the arena, in an order.
pub(super) struct Stock<T> {
    owner: Arc<Owner>,
    largest: u64,
    carries: PhantomData<fn(T) -> T>,
}

/// The store itself, whatever it carries.
pub(super) struct Owner {
    pub(super) store: Store<'static, Message>,
    pub(super) me: Member<'static>,
    handle: Handle,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let region = self.handle.arena().region();
        // Named before it is freed: then nobody else has it, and the names are good.
        let mut segments = [None; 32];
        segments.iter_mut().zip(self.store.segments()).for_each(|(place, segment)| {
            *place = Some(segment);
        });
        if self.handle.free() {
            for segment in segments.into_iter().flatten() {
                let _ = region.destroy(self.me, segment);
            }
        }
    }
}

/// The other side of a queue, for those who put: ready when a `put` would not wait, since there is room, or nothing is put any
/// more.
#[derive(Clone)]
pub struct StockRoom {
    room: StoreRoom<'static, Message>,
    // Keeps the queue.
    owner: Arc<Owner>,
}

impl StockRoom {
    pub(super) fn new<T>(stock: &Stock<T>) -> Self {
        Self { room: stock.store().room(), owner: Arc::clone(&stock.owner) }
    }
}

impl std::fmt::Debug for StockRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.room.fmt(f)
    }
}

impl Source for StockRoom {
    fn source(&self) -> &dyn Waitable {
        &self.room
    }

    fn me(&self) -> Member<'static> {
        self.owner.me
    }
}

impl<T> Clone for Stock<T> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner), ..*self }
    }
}

impl<T> std::fmt::Debug for Stock<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.owner.store.fmt(f)
    }
}

fn store_of(offset: u64) -> u64 {
    offset + size_of::<Label>() as u64
}

impl<T> Stock<T> {
    /// A store of this kind and order. `leased`: what is got is unfinished until somebody says that it is done.
    pub(super) fn create(
        kind: Kind,
        order: Order,
        leased: bool,
        options: QueueOptions,
    ) -> Result<Self, CreateError> {
        let policy = match (options.again, leased) {
            (true, _) => Policy::AtLeastOnce,
            (false, true) => Policy::AtMostOnceLeased,
            (false, false) => Policy::AtMostOnce,
        };
        let most = procession_core::queue::MOST_STORED;
        let capacity = options.capacity.map_or(most, |capacity| capacity as u64);
        let plan = Plan { capacity, order, policy };
        if capacity == 0 || capacity > most {
            return Err(QueueError::Capacity { asked: capacity, most }.into());
        }
        let bytes = size_of::<Label>() as u64 + Store::<Message>::bytes_for(plan);
        let handle = Handle::allocate(kind, bytes)?;
        let region = handle.arena().region();
        let label = region.object::<Label>(handle.offset()).map_err(MemoryError::from)?;
        label.write::<T>(options.largest);
        // Each store at this place starts elsewhere, so that a block that was left in an earlier one is not taken for
        // one of this one's: by the golden ratio the starts lie far apart.
        let salt = handle.generation().wrapping_mul(0x9E37_79B9);
        let store = Store::create(region, store_of(handle.offset()), plan, kind::SEGMENT, salt)?;
        Ok(Self::over(handle, store, options.largest))
    }

    fn over(handle: Handle, store: Store<'static, Message>, largest: u64) -> Self {
        let me = handle.arena().member();
        Self { owner: Arc::new(Owner { store, me, handle }), largest, carries: PhantomData }
    }

    pub(super) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.owner.handle.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        kind: Kind,
    ) -> Result<Self, D::Error> {
        let handle = Handle::deserialize(deserializer, kind, size_of::<Label>() as u64)?;
        Self::attach(handle).map_err(refuse)
    }

    pub(super) fn attach(handle: Handle) -> Result<Self, HandleError> {
        let region = handle.arena().region();
        let label = region.object::<Label>(handle.offset()).map_err(MemoryError::from)?;
        let largest = label.read::<T>()?;
        let store = find(region, handle.offset(), handle.room()?.capacity)
            .map_err(|error| HandleError::Content(error.to_string()))?;
        Ok(Self::over(handle, store, largest))
    }

    pub(super) fn arena(&self) -> &'static Arena {
        self.owner.handle.arena()
    }

    pub(super) fn store(&self) -> &Store<'static, Message> {
        &self.owner.store
    }

    pub(super) fn len(&self) -> usize {
        self.store().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.store().is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.store().is_full()
    }

    pub(super) fn capacity(&self) -> usize {
        self.store().plan().capacity as usize
    }

    pub(super) fn is_closed(&self) -> bool {
        self.store().is_closed()
    }

    pub(super) fn lost(&self) -> u64 {
        self.store().lost()
    }

    pub(super) fn take_lost(&self) -> u64 {
        self.store().take_lost()
    }

    pub(super) fn unfinished(&self) -> usize {
        self.store().unfinished() as usize
    }

    pub(super) fn me(&self) -> Member<'static> {
        self.owner.me
    }

    pub(super) fn largest(&self) -> u64 {
        self.largest
    }

    pub(super) fn shutdown(&self, at_once: bool) {
        self.store().shutdown(self.me(), at_once);
        if at_once {
            let (carrier, arena) = (self.owner.handle.offset(), self.arena());
            discard(self.store(), self.me(), Deadline::NEVER, carrier, Some(arena));
        }
    }

    pub(super) fn join(&self, deadline: Deadline) -> Result<(), JoinTasksError> {
        self.store().join_until(self.me(), deadline)
    }

    /// Finishes an object that this thread has got, or another.
    pub(super) fn task_done(&self) -> Result<(), TaskDoneError> {
        match self.store().finish_any(self.me(), Some(Thread::current()))? {
            Some(released) => {
                self.owner.free(&released);
                Ok(())
            }
            None => Err(TaskDoneError::TooMany),
        }
    }
}

impl<T: Serialize> Stock<T> {
    pub(super) fn put(&self, key: i64, object: &T, deadline: Deadline) -> Result<(), PutError> {
        let mut parcel = Parcel::new(self.arena());
        parcel.pack(object, self.largest)?;
        self.dispatch(&mut self.start_put(key, deadline)?, &mut parcel)
    }
}

impl<T> Stock<T> {
    fn start_put(
        &self,
        key: i64,
        deadline: Deadline,
    ) -> Result<Putter<'static, Message>, PutError> {
        match self.store().start_put(self.me(), deadline, key) {
            // Once more without what the dead have left.
            Err(StoreError::Memory(_)) => {
                self.arena().sweep();
                Ok(self.store().start_put(self.me(), deadline, key)?)
            }
            answer => Ok(answer?),
        }
    }

    fn dispatch(
        &self,
        putter: &mut Putter<'static, Message>,
        parcel: &mut Parcel,
    ) -> Result<(), PutError> {
        let Some(place) = putter.item() else { return Err(PutError::Corrupt) };
        // SAFETY: the cell is claimed, and the store locked until the putter is dropped.
        let sent = unsafe { parcel.dispatch(self.owner.handle.offset(), putter.ticket(), place) };
        // Also if it could not be sent: then there is nothing in it.
        putter.publish()?;
        sent.map_err(|_| PutError::Corrupt)
    }

    /// Puts all of these, and counts them in `put`: as many at a time as there is room for.
    pub(super) fn put_parcels(
        &self,
        parcels: &mut [Parcel],
        deadline: Deadline,
        put: &mut usize,
    ) -> Result<(), PutError> {
        let mut parcels = parcels.iter_mut();
        let Some(mut parcel) = parcels.next() else { return Ok(()) };
        loop {
            let mut putter = self.start_put(0, deadline)?;
            loop {
                self.dispatch(&mut putter, parcel)?;
                *put += 1;
                parcel = match parcels.next() {
                    Some(next) => next,
                    None => return Ok(()),
                };
                if !putter.another(0)? {
                    break;
                }
            }
        }
    }
}

/// What was got, and the hand that it is in.
pub(super) struct Received<T> {
    pub(super) object: T,
    pub(super) key: i64,
    pub(super) deliveries: u32,
    pub(super) hand: Hand,
}

impl<T: DeserializeOwned> Stock<T> {
    /// Takes the next object.
    fn receive(&self, deadline: Deadline) -> Result<Received<T>, GetError> {
        loop {
            let mut arrival = Arrival::new(self.arena());
            let mut taker = self.store().start_take(self.me(), deadline)?;
            let (key, deliveries) = (taker.key(), taker.deliveries());
            let again = self.store().plan().policy == Policy::AtLeastOnce;
            let found = self.owner.take(&taker, &mut arrival, again);
            // Also after damage, which goes with the object.
            let lease = taker.settle(Some(Thread::current()))?;
            drop(taker);
            let hand = Hand::new(&self.owner, lease);
            match found {
                Found::Object => {}
                Found::Void => {
                    hand.done();
                    continue;
                }
                Found::Damage => {
                    hand.done();
                    return Err(GetError::Corrupt);
                }
            }
            let copied = copy_in_place(&arrival);
            if copied.is_some() && !hand.is_held() {
                // Somebody else has declared it done meanwhile.
                continue;
            }
            return match unpack(&arrival, copied) {
                Ok(object) => Ok(Received { object, key, deliveries, hand }),
                Err(error) => {
                    // It would come again and again, and never be of use.
                    hand.done();
                    Err(error)
                }
            };
        }
    }

    /// Gets the next object: done with, as it is returned.
    pub(super) fn get(&self, deadline: Deadline) -> Result<(i64, T), GetError> {
        let Received { object, key, hand, .. } = self.receive(deadline)?;
        hand.done();
        Ok((key, object))
    }

    /// Gets the next object: unfinished until `task_done`.
    pub(super) fn get_unfinished(&self, deadline: Deadline) -> Result<(i64, T), GetError> {
        let Received { object, key, hand, .. } = self.receive(deadline)?;
        hand.leave();
        Ok((key, object))
    }

    /// Gets the next object: unfinished until the delivery is done.
    pub(super) fn take(&self, deadline: Deadline) -> Result<Delivery<T>, GetError> {
        self.receive(deadline).map(Delivery::new)
    }

    /// Gets as many as are there, at most `most`, waiting for the first; and why there are no more, if that is an error.
    pub(super) fn get_many(&self, most: usize, deadline: Deadline) -> (Vec<T>, Option<GetError>) {
        let mut got = Vec::new();
        while got.len() < most {
            let deadline = if got.is_empty() { deadline } else { Deadline::NOW };
            match self.get(deadline) {
                Ok((_, object)) => got.push(object),
                Err(GetError::Empty | GetError::Busy | GetError::Closed) if !got.is_empty() => {
                    break;
                }
                Err(error) => return (got, Some(error)),
            }
        }
        (got, None)
    }

    /// Gets all that is there, waiting for the first; the last of them, and how many came before it.
    pub(super) fn get_latest(&self, deadline: Deadline) -> Result<(T, usize), GetError> {
        let mut latest = self.get(deadline)?.1;
        let mut passed = 0;
        loop {
            match self.get(Deadline::NOW) {
                Ok((_, object)) => latest = object,
                Err(GetError::Empty | GetError::Busy | GetError::Closed) => {
                    return Ok((latest, passed));
                }
                Err(error) => return Err(error),
            }
            passed += 1;
        }
    }

    /// A copy of the next object.
    pub(super) fn peek(&self, deadline: Deadline) -> Result<(i64, T), GetError> {
        let carrier = self.owner.handle.offset();
        loop {
            let next = self.store().peek_until(self.me(), deadline)?;
            let mut arrival = Arrival::new(self.arena());
            // SAFETY: a copy of the message, which nobody else knows.
            let found = unsafe { arrival.look(&raw const next.item, carrier, next.ticket) };
            let copied = copy_in_place(&arrival);
            if !self.store().is_waiting(next.ticket as u32) {
                continue;
            }
            match found {
                Found::Object => {
                    return unpack(&arrival, copied).map(|object| (next.key, object));
                }
                // Whoever gets it passes it.
                Found::Void => return Err(GetError::Empty),
                Found::Damage => return Err(GetError::Corrupt),
            }
        }
    }
}

/// A copy of an object that was left where it is. Good if it is still there after this.
fn copy_in_place(arrival: &Arrival) -> Option<Result<Vec<u8>, Damaged>> {
    arrival.is_in_place().then(|| arrival.bytes())
}

/// Decodes what has arrived, from the copy if there is one.
fn unpack<T: DeserializeOwned>(
    arrival: &Arrival,
    copied: Option<Result<Vec<u8>, Damaged>>,
) -> Result<T, GetError> {
    match copied {
        None => arrival.unpack(GetError::unpacked::<T>),
        Some(Ok(bytes)) => {
            decode_or(&bytes, |error| GetError::unpacked::<T>(Unpacked::Refused(error)))
        }
        Some(Err(_)) => Err(GetError::Corrupt),
    }
}

impl Owner {
    /// Takes a message out of its cell, or looks at it where it is.
    fn take(&self, taker: &Taker<'_, Message>, arrival: &mut Arrival, again: bool) -> Found {
        let Some(place) = taker.item() else { return Found::Damage };
        let (carrier, ticket) = (self.handle.offset(), taker.ticket());
        // SAFETY: the cell is claimed, and the store locked until the taker is dropped.
        unsafe {
            if again {
                arrival.look(place, carrier, ticket)
            } else {
                arrival.take(place, carrier, ticket)
            }
        }
    }

    /// Says that a lease is done with.
    pub(super) fn finish(&self, lease: Lease) {
        if let Ok(Some(released)) = self.store.try_finish(self.me, lease) {
            self.free(&released);
        }
    }

    /// Frees what was tied to an object that is finished.
    fn free(&self, released: &Released<Message>) {
        if self.store.plan().policy == Policy::AtLeastOnce {
            let mut arrival = Arrival::new(self.handle.arena());
            // SAFETY: a copy of the message. Its ticket is over, so that its block is nobody's but a sweep's, which may be
            // faster.
            unsafe {
                arrival.take(&raw const released.item, self.handle.offset(), released.ticket)
            };
        }
    }

    /// Puts an object back that was not done, or, at most once, counts it as lost.
    pub(super) fn give_up(&self, lease: Lease) {
        // Damage is heard of by the next call.
        if let Ok(GivenUp::Gone(released)) = self.store.give_up(self.me, lease) {
            self.free(&released);
        }
    }
}

/// Throws away what is left in a store that was shut down at once. Without an arena the blocks are left to the sweep that this is
/// part of.
fn discard(
    store: &Store<'static, Message>,
    me: Member<'_>,
    deadline: Deadline,
    carrier: u64,
    arena: Option<&'static Arena>,
) {
    // An end, also if the memory says that there is more and more.
    for _ in 0..procession_core::queue::MOST_STORED {
        let Ok(Some(mut taker)) = store.start_discard(me, deadline) else { return };
        let mut arrival = arena.map(Arrival::new);
        if let (Some(arrival), Some(place)) = (&mut arrival, taker.item()) {
            // SAFETY: the cell is claimed, and the store locked until the taker is dropped.
            unsafe { arrival.take(place, carrier, taker.ticket()) };
        }
        if taker.discard().is_err() {
            return;
        }
        drop(taker);
    }
}

/// The store of the object at `offset`, if what lies behind its head is within the `room` of that: a damaged capacity must not
/// reach others.
fn find(
    region: &Region<'static>,
    offset: u64,
    room: u64,
) -> Result<Store<'static, Message>, QueueError> {
    let store = Store::<Message>::attach(region, store_of(offset), kind::SEGMENT)?;
    let bytes = size_of::<Label>() as u64 + Store::<Message>::bytes_for(store.plan());
    let capacity = store.plan().capacity;
    if bytes > room { Err(QueueError::Damaged { capacity }) } else { Ok(store) }
}

/// How sweeps find their way in a store.
pub(super) const fn carrier(kind: Kind) -> Carrier {
    Carrier {
        kind,
        sweep: |region, me, object, room| {
            // Who has no name yet has nothing to lock with. Nothing depends on it: what stands in a store are whole tags, which
            // never come back.
            if me.current_tag().is_none() {
                return true;
            }
            let Ok(store) = find(region, object.offset, room) else { return false };
            if store.is_shut() {
                // Whoever shut it down may have died over that.
                discard(&store, me, Deadline::NOW, object.offset, None);
            }
            match store.sweep(me) {
                // Who has the lock lives, and finds the dead itself.
                Ok(()) | Err(PopError::Busy | PopError::Join(_)) => true,
                Err(_) => false,
            }
        },
        passed: |region, offset, room, ticket| {
            find(region, offset, room).is_ok_and(|store| store.has_passed(ticket))
        },
    }
}

/// Whether the store at `offset` is there for good.
fn is_shared(region: &Region<'static>, offset: u64) -> bool {
    region.object_at(offset).is_some_and(|object| region.is_shared(object))
}

/// Frees a segment whose store is gone, or does not know of it: whoever made it, or gave it back, died halfway.
pub(super) fn sweep_segment(region: &Region<'static>, me: Member<'_>, segment: Object) {
    // Who has no name yet has nothing to lock with.
    if me.current_tag().is_none() {
        return;
    }
    // Of one that says nothing yet the maker is about to share and link it, or dead: then it is not shared.
    let Some(home) = Store::<Message>::home_of(region, segment) else { return };
    let owner = home
        .checked_sub(size_of::<Label>() as u64)
        .and_then(|offset| region.object_at(offset))
        .filter(|owner| STORES.contains(&owner.kind));
    let store = owner.and_then(|owner| {
        let room = region.resolve(owner.offset, owner.kind, owner.generation, 0).ok()?;
        find(region, owner.offset, room.capacity).ok()
    });
    match store {
        // In doubt it stays, and as long as its store may be freed at any time.
        Some(store) if is_shared(region, home - size_of::<Label>() as u64) => {
            let _ = store.sweep_segment(me, segment);
        }
        Some(_) => {}
        None => drop(region.destroy(me, segment)),
    }
}

const STORES: [Kind; 4] = [kind::STORE, kind::JOINABLE, kind::PRIORITY, kind::LIFO];
