//! Names that fit into a word: who claims.
//!
//! ```text
//! Tag    30 bits: generation 18 | index 12     in words with room: locks, blocks, roles
//! Short  20 bits: generation  8 | index 12     in ticket words and slots
//! ```
//!
//! Index 0 is nobody. The generation counts how often the index has been given out; the short form holds its
//! lowest 8 bits, which is why an index is swept before they come round again.

use core::num::NonZeroU32;

/// How many bits name the row of the participant table.
pub const INDEX_BITS: u32 = 12;
/// How many bits count the lives of a row.
pub const GENERATION_BITS: u32 = 18;
/// How many of them a short tag holds.
pub const SHORT_GENERATION_BITS: u32 = 8;

const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
const SHORT_GENERATION_MASK: u32 = (1 << SHORT_GENERATION_BITS) - 1;

/// The name under which a process claims things in one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(NonZeroU32);

impl Tag {
    /// The bits that a tag may use in a word.
    pub const MASK: u32 = (1 << (INDEX_BITS + GENERATION_BITS)) - 1;

    pub(crate) fn new(index: u32, generation: u32) -> Option<Self> {
        let index = NonZeroU32::new(index & INDEX_MASK)?;
        Some(Self(index | (generation & GENERATION_MASK) << INDEX_BITS))
    }

    /// Reads a tag from a word; `None` is nobody: no index.
    #[inline]
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        let bits = bits & Self::MASK;
        if bits & INDEX_MASK == 0 { None } else { NonZeroU32::new(bits).map(Self) }
    }

    /// Reads a tag from a word of this process alone, which holds one or nothing: not from shared memory.
    #[inline]
    pub(crate) fn from_own(bits: u32) -> Option<Self> {
        NonZeroU32::new(bits).map(Self)
    }

    /// The tag as it stands in a word: 30 bits, never zero.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0.get()
    }

    /// The row of the participant table.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0.get() & INDEX_MASK
    }

    /// Which life of the row.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0.get() >> INDEX_BITS
    }

    /// The form for words with little room.
    #[inline]
    #[must_use]
    pub const fn short(self) -> Short {
        Short(self.0.get() & Short::MASK)
    }
}

/// The short form of a [`Tag`]; zero is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Short(u32);

impl Short {
    /// The bits that a short tag may use in a word.
    pub const MASK: u32 = (1 << Self::BITS) - 1;
    /// How many they are.
    pub const BITS: u32 = INDEX_BITS + SHORT_GENERATION_BITS;
    /// Nobody.
    pub const NOBODY: Self = Self(0);

    /// Reads a short tag from the lowest bits of a word.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits as u32 & Self::MASK)
    }

    /// The short tag as it stands in a word.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// Whether this names nobody.
    #[inline]
    #[must_use]
    pub const fn is_nobody(self) -> bool {
        self.0 & INDEX_MASK == 0
    }

    /// The row of the participant table.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 & INDEX_MASK
    }

    /// The lowest bits of the row's life.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0 >> INDEX_BITS & SHORT_GENERATION_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let tag = Tag::new(4095, (1 << 18) - 1).unwrap();
        assert_eq!((tag.index(), tag.generation()), (4095, (1 << 18) - 1));
        assert_eq!(tag.bits(), Tag::MASK);
        assert_eq!((tag.short().index(), tag.short().generation()), (4095, 255));
        assert_eq!(Tag::from_bits(tag.bits()), Some(tag));
        assert_eq!(Tag::new(0, 7), None);
        assert_eq!(Tag::from_bits(7 << 12), None);
    }
}
