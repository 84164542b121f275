//! A line: what one end writes, the other reads. A pipe is one of them, or two that lead both ways.
//!
//! ```text
//! label (128 bytes) | holders of the writing end | holders of the reading end | slot queue of messages
//! ```
//!
//! - Each message has a place of its own, so that writers which share an end, and readers, never tear or merge anything.
//! - Both ends are counted, see `Holders` in the core: a process holds an end, a copy of it is on its way, or nobody has it any more.
//!   Then the queue is closed: who reads gets what is left, then the end; who writes is told that the pipe is broken.
//! - A process that dies takes nobody along. Who waits at one end asks, when a slice of its sleep is over, whether anybody living
//!   has the other.
//! - Whoever closes an end cleans up behind it (closes the queue, empties it if nobody can read any more), says that the end is
//!   finished, and then destroys the line if both ends are. Until both are finished nobody destroys it, so whoever holds an end,
//!   or has just closed one, may touch it. Who dies in between leaves it to the end of the tree.

use procession_core::queue::{Hold, Holders, Passage, QueueError, SlotQueue, Standing};
use procession_core::region::{Member, Object, Place, QUEUE_ALIGN, Region};
use procession_core::sys::Deadline;

use crate::channel::error::CreateError;
use crate::channel::label::Label;
use crate::channel::message::Message;
use crate::channel::parcel::Arrival;
use crate::channel::sweep::{Carrier, passed};
use crate::memory::{Arena, Handle, HandleError, MemoryError, existing, kind};

/// One end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::channel) enum Side {
    Writers = 0,
    Readers = 1,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Writers => Self::Readers,
            Self::Readers => Self::Writers,
        }
    }
}

/// The line's memory is damaged.
#[derive(Clone, Copy, Debug)]
pub(in crate::channel) struct Damaged;

const HOLDERS_AT: u64 = size_of::<Label>() as u64;

/// Bytes of the holders of one end.
fn holders_bytes(holders: u32) -> u64 {
    Holders::bytes_for(holders).next_multiple_of(QUEUE_ALIGN)
}

/// How deep one asks whether the carrier of an end is itself one that nobody reads any more.
const DEPTH: u32 = 8;

/// A line as it lies in memory.
#[derive(Clone, Copy, Debug)]
pub(in crate::channel) struct View {
    arena: &'static Arena,
    object: Object,
    ends: [Holders<'static>; 2],
    slots: SlotQueue<'static, Message>,
}

impl View {
    /// The line that lies there, if one does.
    pub(in crate::channel) fn at(arena: &'static Arena, offset: u64) -> Option<Self> {
        let region = arena.region();
        let object = region.object_at(offset).filter(|object| object.kind == kind::PIPE)?;
        let room = region.resolve(offset, object.kind, object.generation, 0).ok()?;
        Self::find(arena, object, room.capacity).ok()
    }

    /// Whether it is still there: for who holds none of its ends.
    fn is_there(&self) -> bool {
        is_there(self.arena.region(), self.object)
    }

    /// A damaged length must not reach other objects.
    fn find(arena: &'static Arena, object: Object, room: u64) -> Result<Self, String> {
        let (region, offset) = (arena.region(), object.offset);
        let damaged = || "the line is damaged: it does not fit its memory".to_string();
        let holders = |at: u64| {
            let place = Place::in_region(region, at).map_err(|error| error.to_string())?;
            let left = (offset + room).saturating_sub(at);
            Holders::attach(place.up_to(left)).map_err(|error| error.to_string())
        };
        let writers = holders(offset + HOLDERS_AT)?;
        let bytes = holders_bytes(writers.capacity() as u32);
        if HOLDERS_AT + 2 * bytes > room {
            return Err(damaged());
        }
        let readers = holders(offset + HOLDERS_AT + bytes)?;
        let slots_at = HOLDERS_AT + 2 * bytes;
        let slots = SlotQueue::<Message>::attach(region, offset + slots_at)
            .map_err(|error| error.to_string())?;
        let needed = SlotQueue::<Message>::bytes_for(slots.capacity() as u64);
        if readers.capacity() != writers.capacity() || slots_at.saturating_add(needed) > room {
            return Err(damaged());
        }
        Ok(Self { arena, object, ends: [writers, readers], slots })
    }

    /// A new line that carries objects of this type, and this process's hold on each end.
    pub(super) fn create<T: ?Sized>(
        shape: Shape,
    ) -> Result<(Self, Handle, [Hold; 2]), CreateError> {
        let Shape { messages, largest, holders } = shape;
        let (capacity, most) = (messages as u64, procession_core::queue::MOST);
        if capacity == 0 || capacity > most {
            return Err(QueueError::Capacity { asked: capacity, most }.into());
        }
        let slots_at = HOLDERS_AT + 2 * holders_bytes(holders);
        let bytes = slots_at + SlotQueue::<Message>::bytes_for(capacity);
        let handle = Handle::allocate(kind::PIPE, bytes)?;
        let (arena, offset) = (handle.arena(), handle.offset());
        let (region, me) = (arena.region(), arena.member());
        region.object::<Label>(offset).map_err(MemoryError::from)?.write::<T>(largest);
        // As for queues: at each line's start in this place the tickets are others, and so is what is counted at its ends: which
        // is never as in fresh memory.
        let first = handle.generation().wrapping_add(1).wrapping_mul(0x9E37_79B9);
        let slots = SlotQueue::create_at(region, offset + slots_at, capacity, first.into())?;
        let end = |side: Side| {
            let at = offset + HOLDERS_AT + side as u64 * holders_bytes(holders);
            let place = Place::in_region(region, at).map_err(MemoryError::from)?;
            Ok::<_, CreateError>(Holders::create(place, me, holders, first)?)
        };
        let ((writers, write), (readers, read)) = (end(Side::Writers)?, end(Side::Readers)?);
        let object = Object { offset, generation: handle.generation(), kind: kind::PIPE };
        Ok((Self { arena, object, ends: [writers, readers], slots }, handle, [write, read]))
    }

    /// The line of a handle that came from elsewhere, and the largest object if it carries objects of one of these types.
    pub(super) fn attach<T: ?Sized, U: ?Sized>(
        handle: &Handle,
    ) -> Result<(Self, u64), HandleError> {
        let (offset, generation) = (handle.offset(), handle.generation());
        let object = Object { offset, generation, kind: kind::PIPE };
        let view = Self::find(handle.arena(), object, handle.room()?.capacity)
            .map_err(HandleError::Content)?;
        let label = handle.arena().region().object::<Label>(offset).map_err(MemoryError::from)?;
        let largest =
            label.read::<T>().or_else(|refused| label.read::<U>().map_err(|_| refused))?;
        Ok((view, largest))
    }

    pub(super) fn me(&self) -> Member<'static> {
        self.arena.member()
    }

    pub(super) fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// Where it lies: what its messages are tied to.
    pub(super) fn place(&self) -> u64 {
        self.object.offset
    }

    pub(super) fn slots(&self) -> &SlotQueue<'static, Message> {
        &self.slots
    }

    pub(super) fn end(&self, side: Side) -> &Holders<'static> {
        &self.ends[side as usize]
    }

    pub(in crate::channel) fn send(&self, side: Side, copy: Passage, carrier: u64, ticket: u64) {
        // Refused only if the memory is damaged: then nobody finds it, and who decodes takes a hold of its own.
        let _ = self.end(side).send(self.me(), copy, carrier, ticket);
    }

    pub(in crate::channel) fn take(
        &self,
        side: Side,
        copy: Passage,
        carrier: u64,
        ticket: u64,
    ) -> bool {
        self.end(side).take(self.me(), copy, carrier, ticket)
    }

    pub(in crate::channel) fn withdraw(&self, side: Side, copy: Passage) {
        let standing = self.end(side).withdraw(self.me(), copy);
        self.settle(side, standing, DEPTH);
    }

    /// Whether a copy has departed, and is in this process's hand still.
    pub(in crate::channel) fn is_departed(&self, side: Side, copy: Passage) -> bool {
        self.end(side).is_departed(self.me(), copy)
    }

    /// Makes it the tree's, if it is still there.
    pub(super) fn share(&self) -> Result<(), HandleError> {
        Ok(self.arena.region().share(self.object)?)
    }

    /// Gives a hold back.
    pub(super) fn release(&self, side: Side, hold: Hold) {
        let standing = self.end(side).release(self.me(), hold);
        self.settle(side, standing, DEPTH);
    }

    /// Whether nobody living has the end that is not this one, which the caller holds. Asks the kernel.
    pub(super) fn is_alone(&self, side: Side) -> Result<bool, Damaged> {
        let alone = self.is_over(side.other(), DEPTH)?;
        // Whoever closed it may have died before it came to this.
        if alone && !self.slots.is_closed() {
            self.slots.close(self.me());
        }
        Ok(alone)
    }

    /// Whether nobody living has this end any more. Asks the kernel.
    fn is_over(&self, side: Side, depth: u32) -> Result<bool, Damaged> {
        let left = |carrier, ticket| self.is_left(carrier, ticket, depth);
        let asked = self.end(side).look(self.me(), &left, &|| self.is_there());
        let standing = asked.map_err(|_| Damaged)?;
        self.settle(side, standing, depth);
        Ok(standing.is_closed())
    }

    /// Whether a copy that was sent under this ticket is nobody's: for who needs room for one more.
    pub(super) fn left(&self, carrier: u64, ticket: u32) -> bool {
        self.is_left(carrier, ticket, DEPTH)
    }

    /// Whether what was tied to this ticket is nobody's: the ticket has passed, or nobody will ever come for it.
    fn is_left(&self, carrier: u64, ticket: u32, depth: u32) -> bool {
        passed(self.arena.region(), carrier, ticket)
            || depth > 0
                && Self::at(self.arena, carrier)
                    .is_some_and(|line| line.is_over(Side::Readers, depth - 1).unwrap_or(false))
    }

    /// Does what is to be done when an end is closed.
    fn settle(&self, side: Side, standing: Standing, depth: u32) {
        if standing == Standing::Last {
            self.finish(side, depth);
        }
    }

    #[cold]
    fn finish(&self, side: Side, depth: u32) {
        self.slots.close(self.me());
        let other = side.other();
        if depth > 0 {
            // Of the dead at the other end nobody else may ever ask.
            let _ = self.is_over(other, depth - 1);
        }
        if self.end(Side::Readers).is_closed() {
            self.empty();
        }
        self.end(side).finish();
        if self.end(other).is_finished() {
            // Exactly this one of those that lay here. Failure: the line never left its process, which frees it; or the other end was
            // finished at the same time.
            let _ = self.arena.region().destroy(self.me(), self.object);
        }
    }

    /// Frees what the dead have claimed; `false` if it is damaged, and may still name them. It may be destroyed at any time.
    fn sweep(&self, me: Member<'_>) -> bool {
        let left = |carrier, ticket| passed(self.arena.region(), carrier, ticket);
        let there = || self.is_there();
        let clean = self.ends.iter().all(|end| end.sweep(me, &left, &there).is_ok());
        // Whoever sweeps before it joins cannot clean up; it has erased the names of the dead.
        if me.current_tag().is_some() {
            for side in [Side::Writers, Side::Readers] {
                let _ = self.is_over(side, 1);
            }
        }
        clean && self.slots.sweep_while(me, &there).is_ok() || !there()
    }

    /// Frees what nobody will read. What a writer is just putting is left to whoever closes the writing end.
    fn empty(&self) {
        let me = self.me();
        // Damage: then nothing of it can be freed.
        let _ = self.slots.sweep(me);
        while let Ok(claim) = self.slots.start_pop(me, Deadline::NOW) {
            let mut arrival = Arrival::new(self.arena);
            // SAFETY: the claim makes the place this process's to read.
            unsafe { arrival.take(self.slots.item(&claim), self.object.offset, claim.ticket()) };
            self.slots.finish_pop(me, claim);
        }
    }
}

/// How a line is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) messages: usize,
    pub(super) largest: u64,
    pub(super) holders: u32,
}

fn is_there(region: &Region<'_>, line: Object) -> bool {
    region.resolve(line.offset, line.kind, line.generation, 0).is_ok()
}

/// How sweeps find their way in a line, which may be destroyed meanwhile.
pub(in crate::channel) const CARRIER: Carrier = Carrier {
    kind: kind::PIPE,
    sweep: |region, me, object, room| {
        match existing().map(|arena| View::find(arena, object, room)) {
            Some(Ok(line)) => line.sweep(me),
            // Not damaged, but gone.
            _ => !is_there(region, object),
        }
    },
    passed: |_, offset, _, ticket| {
        existing().and_then(|arena| View::at(arena, offset)).is_some_and(|line| {
            line.slots.has_passed(ticket) || line.end(Side::Readers).is_closed()
        })
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::arena;
    use crate::value::Array;

    /// A sweep has found a line, and been stopped; when it goes on, that is gone, and something else lies in its place.
    #[test]
    fn what_lies_in_the_place_of_a_closed_pipe_is_left_alone() {
        let arena = arena().unwrap();
        let me = arena.member();
        let make = || View::create::<u64>(Shape { messages: 5, largest: 100, holders: 7 }).unwrap();
        let mut tries = 0;
        for _ in 0..100 {
            let (line, handle, [write, read]) = make();
            let (object, room) = (line.object, handle.room().unwrap().capacity as usize);
            line.release(Side::Writers, write);
            line.release(Side::Readers, read);
            drop(handle);
            assert!(!line.is_there());
            let array = Array::<u64>::new((room - 256) / 8).unwrap();
            // Other tests make objects, too.
            let now = arena.region().object_at(object.offset);
            tries += u32::from(now.is_some_and(|now| now.kind == kind::ARRAY));
            assert!(line.sweep(me), "nothing is damaged");
            assert!(array.to_vec().iter().all(|number| *number == 0), "it wrote there");
            drop(array);
            // Another line, which has just begun to count.
            let (next, _handle, _holds) = make();
            assert!(line.sweep(me));
            assert!(!next.end(Side::Writers).is_closed() && !next.slots().is_closed());
        }
        assert!(tries > 0, "its place was never used again");
    }
}
