//! One place of a queue of objects: a short object itself, or where a long one lies.

use bytemuck::{Pod, Zeroable};

/// What fits into a place: together with its word and the two fields below it makes 128 bytes.
pub(super) const INLINE: usize = 104;

/// What fits into the first cache line of a place.
pub(super) const NEAR: usize = 40;

/// The object lies in a block at `place`.
pub(super) const IN_BLOCK: u32 = 1;
/// Nothing was put here: the sender could not finish. Pass it.
pub(super) const VOID: u32 = 2;

/// Which bits of a form are one of these.
pub(super) const FORMS: u32 = 0x7F;
/// It has luggage. Above that: how many names there are behind the object.
pub(super) const LUGGAGE: u32 = 0x80;
pub(super) const LUGGAGE_SHIFT: u32 = 8;

/// `length` bytes of an encoded object: in `bytes`, or in the block at `place`.
#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C)]
pub(super) struct Message {
    pub place: u64,
    pub length: u32,
    pub form: u32,
    pub bytes: [u8; INLINE],
}
