//! Blocks: memory inside a region that survives the death of whoever uses it, at any instruction.
//!
//! The region's memory is cut into chunks of 64 KiB. A row of the chunk table says what each is:
//!
//! ```text
//! FREE → CARVING(o) → BLOCKS(class, purpose)                        for good
//! FREE → CARVING(o) → HEAD(length), and TAIL(distance) behind it → FREE   a run: one large block
//! ```
//!
//! A chunk of blocks holds `a line of hints | a word for each block | the blocks`. A run has its word in the row of
//! its head. The words:
//!
//! ```text
//! FREE(g) → OWN(o, kind, g) → FREE(g+1)
//!           OWN(o, kind, g) → SHARED(kind, g) → FREE(g+1)      objects: named by handles (offset, kind, generation)
//!           OWN(o) → QUEUED(queue, ticket) → OWN(p)            messages: put into a slot, taken out of it
//! ```
//!
//! - Every arrow is one compare-and-swap that writes who claims, made by the claimer. There is no lock.
//! - CARVING(dead) → FREE and OWN(dead) → FREE: anybody, by a compare-and-swap from exactly that value. A tag never
//!   comes back, so a value of the dead stays what it is until somebody does.
//! - A chunk is zeroed and laid out while it is CARVING; BLOCKS or HEAD is the last store. What was not published
//!   never happened.
//! - A run is published head first: each TAIL stands behind a HEAD. Its maker may die before all the tails are
//!   written; then these are CARVING(dead), and free by themselves.
//! - A run is given back by `its word → OWN(me, FREEING)`, then the tails to FREE, the head last. Whoever finds
//!   OWN(dead, FREEING) makes it OWN(me, FREEING) and goes on: a tail that is not TAIL(its distance) is done. The
//!   row's generation counts every use of a chunk, so that a head which was freed and used again is not mistaken
//!   for the old one. The word of a row that is no head means nothing; the next maker writes over it.
//! - QUEUED → FREE, when the slot has passed the ticket and nobody took the block: a consumer or a producer died in
//!   between. Passed or not was asked before the claim, and the same block may have been taken, freed and put under
//!   the same number since (a new queue in the place of the old). So the sweeper claims, QUEUED → OWN(me, CHECKING),
//!   and asks again: a block that is its own goes nowhere. Passed: free. Not passed: back to QUEUED. A consumer
//!   that comes for the block meanwhile takes it from the sweeper, whose second step then fails. CHECKING(dead) → FREE,
//!   as any OWN: a message that came back under its old number and met a sweeper which died in these two steps is
//!   lost; so a queue made in the place of another does well to begin with other tickets.
//! - Objects stay where they are: the memory of a destroyed object becomes another object of its class, never the
//!   payload of a message, so that a straggler with an old handle hits the words of an object. (Not so runs: a
//!   large object that is destroyed gives its memory back.) An object's kind appears in its word only when its
//!   memory is zeroed.
//! - Messages leave memory behind: chunks of messages that are wholly free are thinned by [`Region::trim`], which
//!   claims all the blocks, says THIN, and gives the pages back. Whoever takes a block of a THIN chunk has the pages
//!   made anew before it uses them.
//!
//! Nobody gets stuck: no step waits for another process, and every search is bounded by the number of chunks,
//! whatever the words say. A claim of the dead costs its block until the next [`Region::sweep`]; an allocation that
//! finds the region full sweeps first.
//!
//! How free blocks are found: each process goes on from where it was (its own memory, no claim). A chunk's line of
//! hints says "perhaps a free block" or "none": set after a block was freed, cleared before a search of all words.
//! Hints that got lost or were overwritten cost time only.

mod chunk;
mod hints;
mod run;
mod sweep;
#[cfg(test)]
mod tests;
mod words;

use core::ptr::NonNull;

pub(in crate::region) use hints::Hints;
pub use sweep::{Swept, Usage};
pub use words::QUEUE_ALIGN;

use super::header::CHUNK;
use super::{JoinError, Member, MemoryFull, Region, Tag};
use crate::sys::atomic::{AtomicU64, Ordering};
use chunk::Place;
use words::{CHECKING, PLAIN, Purpose, State, generation_of};

/// How many classes of blocks there are.
pub const CLASSES: usize = 12;
/// Bytes of a block of each class. Up to 2048 powers of two; beyond, what fills a chunk 15, 7, 3 and 2 times.
pub const CLASS_SIZES: [u64; CLASSES] =
    [16, 32, 64, 128, 256, 512, 1024, 2048, 4352, 9216, 21760, 32640];

/// The smallest class that holds so many bytes; `None`: it takes a run of chunks.
#[inline]
fn class_for(bytes: u64) -> Option<usize> {
    match bytes {
        0..=16 => Some(0),
        17..=2048 => Some((bytes - 1).ilog2() as usize - 3),
        _ => CLASS_SIZES[8..].iter().position(|&size| bytes <= size).map(|class| class + 8),
    }
}

/// What an object is: a number of the caller's, 1 to 61. A handle of one kind never opens an object of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(u8);

impl Kind {
    /// The kind of this number; `None` unless 1 to 61.
    ///
    /// ```
    /// use procession_core::region::Kind;
    /// assert_eq!(Kind::new(7).unwrap().number(), 7);
    /// assert!(Kind::new(0).is_none() && Kind::new(62).is_none());
    /// ```
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number == PLAIN || number >= CHECKING { None } else { Some(Self(number)) }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// The name of an object: what a handle is made of. Plain numbers, good in every process of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// Where it lies, from the start of the region. A multiple of its size's alignment, at most 128.
    pub offset: u64,
    /// Which of those that lay there: 24 bits. A handle of an earlier one is recognised as stale.
    pub generation: u32,
    /// What it is.
    pub kind: Kind,
}

/// A block for a message, in the hand of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a block that is neither handed over nor freed is lost until this process ends"]
pub struct Block {
    /// Where it lies, from the start of the region.
    pub offset: u64,
    /// How many bytes it holds: at least as many as were asked for.
    pub capacity: u64,
}

/// Where an object lies in this process.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Its first byte.
    pub place: NonNull<u8>,
    /// How many bytes it may use: at least as many as were asked for.
    pub capacity: u64,
}

/// Why there is no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// Everything is in use, after what the dead had left was swept.
    #[error(
        "the region is full: no room for {asked} more bytes in its {chunks} chunks of 64 KiB; \
         free something, or create it larger"
    )]
    Full {
        /// Bytes asked for.
        asked: u64,
        /// How many chunks the region has.
        chunks: u64,
    },
    /// The region could not hold it even if it were empty.
    #[error("{asked} bytes never fit into this region, {most} do: create it larger")]
    TooLarge {
        /// Bytes asked for.
        asked: u64,
        /// The most that fits.
        most: u64,
    },
    /// The system has no memory for it.
    #[error("{0}")]
    Memory(#[from] MemoryFull),
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
    /// A word of the allocator was overwritten under a claim.
    #[error(
        "the region is damaged: the row of the chunk at {offset:#x} changed under its claimer's hand; \
         something wrote over it, create the region anew"
    )]
    Corrupt {
        /// Where the chunk lies.
        offset: u64,
    },
}

/// Why a block or an object is not what a caller takes it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// No block starts at this offset.
    #[error("no block starts at offset {offset:#x}: the handle is damaged, or of another region")]
    NotABlock {
        /// The offset asked for.
        offset: u64,
    },
    /// Something else lies there.
    #[error(
        "at offset {offset:#x} lies an object of kind {found}, not of kind {asked}: \
         the handle belongs to something else"
    )]
    OtherKind {
        /// The offset asked for.
        offset: u64,
        /// The kind asked for.
        asked: u8,
        /// The kind that is there.
        found: u8,
    },
    /// The object was destroyed; its place is free or holds another one.
    #[error(
        "the object at offset {offset:#x} is gone: the handle is of generation {asked}, \
         the place is at {found}; get a new handle"
    )]
    Gone {
        /// The offset asked for.
        offset: u64,
        /// The generation asked for.
        asked: u32,
        /// The generation that is there.
        found: u32,
    },
    /// The object is smaller than what the caller means to find.
    #[error("the object at offset {offset:#x} has {capacity} bytes, not {asked}: of another type?")]
    TooSmall {
        /// The offset asked for.
        offset: u64,
        /// The bytes that are there.
        capacity: u64,
        /// The bytes asked for.
        asked: u64,
    },
    /// The block is not in the hand of this process: it was freed, handed over, shared, or inherited over fork.
    #[error(
        "the block at offset {offset:#x} is not this process's own: \
         it was freed, handed over or shared before, or belongs to the parent of a fork"
    )]
    NotYours {
        /// Where the block lies.
        offset: u64,
    },
    /// The object was never shared, or is destroyed already.
    #[error("the object at offset {offset:#x} is not shared: only a shared object is destroyed")]
    NotShared {
        /// Where the object lies.
        offset: u64,
    },
    /// The block is not the one of that slot.
    #[error(
        "the block at offset {offset:#x} is not queued at {queue:#x} under ticket {ticket}: \
         the slot is damaged, or somebody else has taken it"
    )]
    NotQueued {
        /// The offset asked for.
        offset: u64,
        /// Where the queue lies.
        queue: u64,
        /// The lowest 32 bits of the ticket.
        ticket: u32,
    },
    /// A queue cannot lie there.
    #[error("a queue lies at a multiple of 128 inside its region, not at {queue:#x}")]
    NotAQueue {
        /// The offset given for the queue.
        queue: u64,
    },
    /// This process could not join the region.
    #[error("this process cannot take part in the region: {0}")]
    Join(#[from] JoinError),
}

impl Region<'_> {
    /// A new object of `bytes` zero bytes, in the hand of this process until it is [shared](Self::share). If the
    /// process dies before, the next [sweep](Self::sweep) frees it.
    ///
    /// Some 30 ns and the zeroing. More than 32,640 bytes take whole chunks of 64 KiB.
    ///
    /// # Errors
    /// [`AllocError`]: `Full`, `TooLarge`, `Memory`; `Join` if this process has to join first and cannot.
    ///
    /// ```
    /// # use procession_core::region::{Fixed, Kind, Options, Region};
    /// # use std::{alloc::{alloc_zeroed, Layout}, ptr::NonNull};
    /// # let layout = Layout::from_size_align(1 << 20, 4096).unwrap();
    /// # let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    /// # let region = unsafe { Region::create(base, 1 << 20, Options::default(), &Fixed) }.unwrap();
    /// # let seat = region.join().unwrap();
    /// # let me = seat.member();
    /// const COUNTER: Kind = Kind::new(1).unwrap();
    /// let object = region.allocate_object(me, COUNTER, 8).unwrap();
    /// region.share(object).unwrap();
    /// // In any process, by the three numbers:
    /// let room = region.resolve(object.offset, COUNTER, object.generation, 8).unwrap();
    /// assert!(room.capacity >= 8);
    /// region.destroy(me, object).unwrap();
    /// assert!(region.resolve(object.offset, COUNTER, object.generation, 8).is_err());
    /// ```
    pub fn allocate_object(
        &self,
        me: Member<'_>,
        kind: Kind,
        bytes: u64,
    ) -> Result<Object, AllocError> {
        let Some(class) = class_for(bytes) else {
            let run = self.make_run(me, kind.0, bytes)?;
            return Ok(Object { offset: run.offset, generation: run.generation, kind });
        };
        let tag = me.tag()?;
        let taken = self.take(me, tag, class, Purpose::Objects, bytes)?;
        // SAFETY: the block lies in a committed chunk of the region and is this process's own by its word.
        unsafe { self.pointer(taken.offset).write_bytes(0, CLASS_SIZES[class] as usize) };
        let generation = taken.generation;
        // A plain store: nobody but its owner changes this word. Release: who sees the kind sees the zeros.
        taken.word.store(State::Own { tag, kind: kind.0 }.word(generation), Ordering::Release);
        Ok(Object { offset: taken.offset, generation, kind })
    }

    /// Lets an object go: from now on it is nobody's own and lives as long as the region, or until it is
    /// [destroyed](Self::destroy). Do this before a handle leaves the process; doing it twice is fine. A forked child
    /// may do it for an object of its parent's.
    ///
    /// # Errors
    /// `NotABlock`, `OtherKind`, `Gone` for a wrong handle, or one whose object was freed meanwhile.
    pub fn share(&self, object: Object) -> Result<(), HandleError> {
        let shared = State::Shared { kind: object.kind.0 }.word(object.generation);
        // What `find` accepts is in somebody's hand or shared, and can become shared or free meanwhile: two rounds.
        for _ in 0..3 {
            let (place, word) = self.find(object)?;
            // Release: what the owner wrote into the object comes before its being shared.
            if word == shared
                || place
                    .word
                    .compare_exchange(word, shared, Ordering::Release, Ordering::Relaxed)
                    .is_ok()
            {
                return Ok(());
            }
        }
        Err(HandleError::NotABlock { offset: object.offset })
    }

    /// Where the object of a handle lies, after checking that it is there, is of this kind and generation, and has
    /// `bytes` bytes at least. Nothing in the handle is trusted. A few loads.
    ///
    /// That nobody destroys it meanwhile is up to the callers.
    ///
    /// # Errors
    /// `NotABlock`, `OtherKind`, `Gone`, `TooSmall`.
    pub fn resolve(
        &self,
        offset: u64,
        kind: Kind,
        generation: u32,
        bytes: u64,
    ) -> Result<Room, HandleError> {
        let (place, _) = self.find(Object { offset, generation, kind })?;
        let capacity = place.capacity;
        if capacity < bytes {
            return Err(HandleError::TooSmall { offset, capacity, asked: bytes });
        }
        Ok(Room { place: self.pointer(offset), capacity })
    }

    /// Whether an object is there, and shared: else it is gone, or its maker may free it at any time.
    #[must_use]
    pub fn is_shared(&self, object: Object) -> bool {
        self.find(object).is_ok_and(|(_, word)| matches!(State::read(word), State::Shared { .. }))
    }

    /// Frees an object that this process has made and not shared. In a forked child this frees nothing of the
    /// parent's.
    ///
    /// # Errors
    /// `NotYours`; `NotABlock`, `OtherKind`, `Gone` for a wrong handle.
    pub fn free_object(&self, me: Member<'_>, object: Object) -> Result<(), HandleError> {
        let (place, word) = self.find(object)?;
        let not_yours = HandleError::NotYours { offset: object.offset };
        let tag = me.current_tag().ok_or(not_yours)?;
        if owned_by(word, me) && self.give_back(me, tag, &place, word) {
            Ok(())
        } else {
            Err(not_yours)
        }
    }

    /// Ends a shared object. Its handles are stale from now on; that nobody still uses it is up to the callers.
    ///
    /// # Errors
    /// `NotShared`, also for the second of two that destroy it; `NotABlock`, `OtherKind`, `Gone`; `Join`.
    pub fn destroy(&self, me: Member<'_>, object: Object) -> Result<(), HandleError> {
        let (place, word) = self.find(object)?;
        let shared = matches!(State::read(word), State::Shared { .. });
        if shared && self.give_back(me, me.tag()?, &place, word) {
            Ok(())
        } else {
            Err(HandleError::NotShared { offset: object.offset })
        }
    }

    /// A block for a message of `bytes` bytes, in the hand of this process. What it holds is anything. Some 20 ns;
    /// more than 32,640 bytes take whole chunks of 64 KiB, and some hundred ns.
    ///
    /// # Errors
    /// As [`allocate_object`](Self::allocate_object).
    ///
    /// ```
    /// # use procession_core::region::{Fixed, Options, Region};
    /// # use std::{alloc::{alloc_zeroed, Layout}, ptr::NonNull};
    /// # let layout = Layout::from_size_align(1 << 20, 4096).unwrap();
    /// # let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    /// # let region = unsafe { Region::create(base, 1 << 20, Options::default(), &Fixed) }.unwrap();
    /// # let seat = region.join().unwrap();
    /// # let me = seat.member();
    /// # let queue = 0x10000;
    /// let block = region.allocate_message(me, 100).unwrap();
    /// let payload = region.bytes(block.offset, 100, 1).unwrap(); // write the message here
    /// region.hand_over(me, block, queue, 42).unwrap();
    /// // The consumer of ticket 42 reads the offset in the slot:
    /// let taken = region.take_over(me, block.offset, queue, 42).unwrap();
    /// region.free_message(me, taken).unwrap();
    /// # let _ = payload;
    /// ```
    #[inline]
    pub fn allocate_message(&self, me: Member<'_>, bytes: u64) -> Result<Block, AllocError> {
        let Some(class) = class_for(bytes) else {
            let run = self.make_run(me, PLAIN, bytes)?;
            return Ok(Block { offset: run.offset, capacity: run.capacity });
        };
        let taken = self.take(me, me.tag()?, class, Purpose::Messages, bytes)?;
        Ok(Block { offset: taken.offset, capacity: CLASS_SIZES[class] })
    }

    /// Ties a block to the slot of a ticket: from now on it is the queue's. To be called after the ticket was claimed
    /// and before its slot is published; if the caller dies in between, the block is freed once the slot has passed.
    ///
    /// # Errors
    /// `NotYours`, `NotABlock`, `NotAQueue`: nothing was changed.
    #[inline]
    pub fn hand_over(
        &self,
        me: Member<'_>,
        block: Block,
        queue: u64,
        ticket: u64,
    ) -> Result<(), HandleError> {
        self.check_queue(queue)?;
        let (place, word) = self.message(me, block.offset)?;
        let queued = State::Queued { queue, ticket: ticket as u32 }.word(0);
        // Release: who takes it over sees the message.
        match place.word.compare_exchange(word, queued, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => Err(HandleError::NotYours { offset: block.offset }),
        }
    }

    /// The block of a slot, left as it is: for a consumer that reads first and [takes](Self::take_over) the block
    /// when it is done. `offset` comes from the slot and is not trusted.
    ///
    /// # Errors
    /// `NotQueued`, `NotABlock`, `NotAQueue`.
    pub fn queued(&self, offset: u64, queue: u64, ticket: u64) -> Result<Block, HandleError> {
        let (place, _) = self.find_queued(offset, queue, ticket)?;
        Ok(Block { offset, capacity: place.capacity })
    }

    /// Takes the block of a slot that this process has claimed, before the slot is given free: from now on the block
    /// is this process's own, and lost with it until the next sweep. `offset` comes from the slot and is not trusted.
    ///
    /// # Errors
    /// `NotQueued`, `NotABlock`, `NotAQueue`: nothing was changed. `Join`.
    #[inline]
    pub fn take_over(
        &self,
        me: Member<'_>,
        offset: u64,
        queue: u64,
        ticket: u64,
    ) -> Result<Block, HandleError> {
        let tag = me.tag()?;
        // Twice more: a sweeper may take it to look, and put it back.
        for _ in 0..3 {
            let (place, word) = self.find_queued(offset, queue, ticket)?;
            let own = State::Own { tag, kind: PLAIN }.word(place.generation(word));
            // Acquire meets the Release of `hand_over`: the message is visible.
            if place.word.compare_exchange(word, own, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return Ok(Block { offset, capacity: place.capacity });
            }
        }
        Err(HandleError::NotQueued { offset, queue, ticket: ticket as u32 })
    }

    /// Frees a block that is in the hand of this process. In a forked child this frees nothing of the parent's.
    /// Some 10 ns; a run of more than 4 MiB goes back to the system at once.
    ///
    /// # Errors
    /// `NotYours`, `NotABlock`: nothing was changed.
    #[inline]
    pub fn free_message(&self, me: Member<'_>, block: Block) -> Result<(), HandleError> {
        let (place, word) = self.message(me, block.offset)?;
        let not_yours = HandleError::NotYours { offset: block.offset };
        let tag = me.current_tag().ok_or(not_yours)?;
        if self.give_back(me, tag, &place, word) { Ok(()) } else { Err(not_yours) }
    }

    fn check_queue(&self, queue: u64) -> Result<(), HandleError> {
        if queue.is_multiple_of(QUEUE_ALIGN) && queue < self.geometry.size {
            Ok(())
        } else {
            Err(HandleError::NotAQueue { queue })
        }
    }

    /// The object that starts at `offset`, if one does at present.
    #[must_use]
    pub fn object_at(&self, offset: u64) -> Option<Object> {
        // Acquire: as in `find`.
        let word = self.locate(offset)?.word.load(Ordering::Acquire);
        let (State::Own { kind, .. } | State::Shared { kind }) = State::read(word) else {
            return None;
        };
        Some(Object { offset, generation: generation_of(word), kind: Kind::new(kind)? })
    }

    /// The block of an object and its word, if it is one of this kind and generation.
    fn find(&self, object: Object) -> Result<(Place<'_>, u64), HandleError> {
        let Object { offset, generation, kind } = object;
        let place = self.locate(offset).ok_or(HandleError::NotABlock { offset })?;
        // Acquire meets the Release of `share` and of the zeroing.
        let word = place.word.load(Ordering::Acquire);
        let found = match State::read(word) {
            State::Own { kind, .. } | State::Shared { kind } => kind,
            State::Free => {
                let found = generation_of(word);
                return Err(HandleError::Gone { offset, asked: generation, found });
            }
            State::Queued { .. } | State::Damaged => {
                return Err(HandleError::NotABlock { offset });
            }
        };
        if Kind::new(found).is_none() {
            return Err(HandleError::NotABlock { offset });
        }
        if generation_of(word) != generation {
            let found = generation_of(word);
            return Err(HandleError::Gone { offset, asked: generation, found });
        }
        if found != kind.0 {
            return Err(HandleError::OtherKind { offset, asked: kind.0, found });
        }
        Ok((place, word))
    }

    /// The block of a message in the hand of this process, and its word.
    #[inline]
    fn message(&self, me: Member<'_>, offset: u64) -> Result<(Place<'_>, u64), HandleError> {
        let place = self.locate(offset).ok_or(HandleError::NotABlock { offset })?;
        // Relaxed: only what the compare-and-swap confirms counts.
        let word = place.word.load(Ordering::Relaxed);
        match State::read(word) {
            State::Own { tag, kind: PLAIN }
                if Some(tag) == me.current_tag() && place.may_hold_messages() =>
            {
                Ok((place, word))
            }
            _ => Err(HandleError::NotYours { offset }),
        }
    }

    /// The block of a slot and its word. A sweeper that has it in hand to look again does not count.
    #[inline]
    fn find_queued(
        &self,
        offset: u64,
        queue: u64,
        ticket: u64,
    ) -> Result<(Place<'_>, u64), HandleError> {
        self.check_queue(queue)?;
        let ticket = ticket as u32;
        let place = self.locate(offset).ok_or(HandleError::NotABlock { offset })?;
        // Acquire meets the Release of `hand_over`.
        let word = place.word.load(Ordering::Acquire);
        let expected = State::Queued { queue, ticket };
        match State::read(word) {
            found if found == expected && place.may_hold_messages() => Ok((place, word)),
            State::Own { kind: CHECKING, .. } if place.may_hold_messages() => Ok((place, word)),
            _ => Err(HandleError::NotQueued { offset, queue, ticket }),
        }
    }
}

/// Whether a word says that the block is in the hand of this process.
#[inline]
fn owned_by(word: u64, me: Member<'_>) -> bool {
    matches!(State::read(word), State::Own { tag, .. } if Some(tag) == me.current_tag())
}

/// A block that was just taken.
struct Taken<'m> {
    word: &'m AtomicU64,
    offset: u64,
    generation: u32,
}

const _: () = {
    assert!(CHUNK == 64 * 1024);
    // A tag fits into the words of both tables.
    assert!(Tag::MASK < 1 << 30);
};
