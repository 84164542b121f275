//! The two words of the allocator, as they stand in memory.
//!
//! ```text
//! a chunk's state    generation 24 at 40 | payload 30 at 3 | state 3
//!                    payload: the claimer's tag, class and purpose, a run's length, or the way back to its head
//! a block's word     generation 24 at 40 | tag 30 at 8 | kind 6 at 2 | state 2      FREE, OWN, SHARED
//!                    ticket 32 at 32 | queue / 128, 30 bits at 2 | state 2          QUEUED
//! ```
//!
//! Zero is a free chunk and a free block: what fresh memory holds.

use crate::region::Tag;

const GENERATION_SHIFT: u32 = 40;
/// Generations count modulo this.
pub(super) const GENERATIONS: u32 = 1 << 24;

/// The generation after this one.
pub(super) const fn next(generation: u32) -> u32 {
    (generation + 1) % GENERATIONS
}

/// A queue lies at a multiple of this, so that its place fits into a block word.
pub const QUEUE_ALIGN: u64 = 128;

/// What the blocks of a chunk are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Handles name them for long: such a chunk is never used for anything else again.
    Objects,
    /// Payload on its way.
    Messages,
}

/// The state of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Nobody's. Warm: its memory is still there from its last use.
    Free { warm: bool },
    /// Somebody is making something of it.
    Carving(Tag),
    /// Blocks of one class.
    Blocks { class: usize, purpose: Purpose },
    /// The first chunk of a run of so many.
    Head { chunks: u64 },
    /// One of the others: so many chunks behind its head.
    Tail { distance: u64 },
    /// No such state.
    Damaged,
}

const STATE_MASK: u64 = 7;
const PAYLOAD_SHIFT: u32 = 3;
const PAYLOAD: u64 = (1 << 30) - 1;
const CLASS: u64 = 0xFF;
const MESSAGES: u64 = 1 << 8;

impl Chunk {
    /// The word for this state.
    #[inline]
    pub fn word(self, generation: u32) -> u64 {
        let (state, payload) = match self {
            Self::Free { warm } => (0, u64::from(warm)),
            Self::Carving(tag) => (1, u64::from(tag.bits())),
            Self::Blocks { class, purpose: Purpose::Objects } => (2, class as u64 & CLASS),
            Self::Blocks { class, purpose: Purpose::Messages } => {
                (2, class as u64 & CLASS | MESSAGES)
            }
            Self::Head { chunks } => (3, chunks & PAYLOAD),
            Self::Tail { distance } => (4, distance & PAYLOAD),
            Self::Damaged => (7, 0),
        };
        u64::from(generation) << GENERATION_SHIFT | payload << PAYLOAD_SHIFT | state
    }

    /// Reads a word that anybody may have written.
    #[inline]
    pub fn read(word: u64) -> Self {
        let payload = word >> PAYLOAD_SHIFT & PAYLOAD;
        match word & STATE_MASK {
            0 => Self::Free { warm: payload & 1 != 0 },
            1 => Tag::from_bits(payload as u32).map_or(Self::Damaged, Self::Carving),
            2 => {
                let class = (payload & CLASS) as usize;
                let purpose =
                    if payload & MESSAGES == 0 { Purpose::Objects } else { Purpose::Messages };
                if class < super::CLASSES { Self::Blocks { class, purpose } } else { Self::Damaged }
            }
            3 if payload > 0 => Self::Head { chunks: payload },
            4 if payload > 0 => Self::Tail { distance: payload },
            _ => Self::Damaged,
        }
    }
}

/// How often what lies here has been given out.
#[inline]
pub(super) const fn generation_of(word: u64) -> u32 {
    (word >> GENERATION_SHIFT) as u32
}

/// The state of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// In the hand of one process. `kind` is an object's, or one of those below.
    Own {
        tag: Tag,
        kind: u8,
    },
    /// An object that lives as long as the region, or until it is destroyed.
    Shared {
        kind: u8,
    },
    /// A message in the slot of this ticket.
    Queued {
        queue: u64,
        ticket: u32,
    },
    Damaged,
}

/// A message, or an object that is not yet zeroed.
pub(super) const PLAIN: u8 = 0;
/// A queued message that a sweeper has taken in hand to look a second time whether its slot has passed.
pub(super) const CHECKING: u8 = 62;
/// A run on its way back, chunk by chunk.
pub(super) const FREEING: u8 = 63;

const BELOW_GENERATION: u64 = (1 << GENERATION_SHIFT) - 1;
const KIND_SHIFT: u32 = 2;
const TAG_SHIFT: u32 = 8;
const QUEUE_SHIFT: u32 = 2;
const QUEUE: u64 = (1 << 30) - 1;
const TICKET_SHIFT: u32 = 32;

impl State {
    /// The word for this state; a queued message has no generation.
    #[inline]
    pub fn word(self, generation: u32) -> u64 {
        let generation = u64::from(generation) << GENERATION_SHIFT;
        match self {
            Self::Free => generation,
            Self::Own { tag, kind } => {
                generation | u64::from(tag.bits()) << TAG_SHIFT | u64::from(kind) << KIND_SHIFT | 1
            }
            Self::Shared { kind } => generation | u64::from(kind) << KIND_SHIFT | 2,
            Self::Queued { queue, ticket } => {
                u64::from(ticket) << TICKET_SHIFT
                    | ((queue / QUEUE_ALIGN) & QUEUE) << QUEUE_SHIFT
                    | 3
            }
            Self::Damaged => generation | 0xFC,
        }
    }

    /// Reads a word that anybody may have written.
    #[inline]
    pub fn read(word: u64) -> Self {
        let kind = (word >> KIND_SHIFT & 0x3F) as u8;
        let tag = (word >> TAG_SHIFT) as u32;
        match word & 3 {
            0 if word & BELOW_GENERATION == 0 => Self::Free,
            1 if word & 3 << 38 == 0 => {
                Tag::from_bits(tag).map_or(Self::Damaged, |tag| Self::Own { tag, kind })
            }
            2 if tag == 0 && super::Kind::new(kind).is_some() => Self::Shared { kind },
            3 => Self::Queued {
                queue: (word >> QUEUE_SHIFT & QUEUE) * QUEUE_ALIGN,
                ticket: (word >> TICKET_SHIFT) as u32,
            },
            _ => Self::Damaged,
        }
    }

    /// Whether this word says FREE; for searching.
    #[inline]
    pub fn is_free(word: u64) -> bool {
        word & BELOW_GENERATION == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        let tag = Tag::from_bits(Tag::MASK).unwrap();
        let most = GENERATIONS - 1;
        for chunk in [
            Chunk::Free { warm: false },
            Chunk::Free { warm: true },
            Chunk::Carving(tag),
            Chunk::Blocks { class: 11, purpose: Purpose::Objects },
            Chunk::Blocks { class: 0, purpose: Purpose::Messages },
            Chunk::Head { chunks: 1 << 21 },
            Chunk::Tail { distance: 1 },
            Chunk::Damaged,
        ] {
            let word = chunk.word(most);
            assert_eq!((Chunk::read(word), generation_of(word)), (chunk, most));
        }
        for state in
            [State::Free, State::Own { tag, kind: 63 }, State::Shared { kind: 61 }, State::Damaged]
        {
            let word = state.word(most);
            assert_eq!((State::read(word), generation_of(word)), (state, most));
        }
        let queued = State::Queued { queue: (1 << 37) - 128, ticket: u32::MAX };
        assert_eq!(State::read(queued.word(5)), queued);
        assert_eq!(Chunk::read(0), Chunk::Free { warm: false });
        assert_eq!(State::read(0), State::Free);
        assert_eq!(next(most), 0);
    }
}
