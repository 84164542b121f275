//! The atomic that an element is, by its width.

use crate::region::Shareable;
use crate::sys::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// An element as it lies in memory.
pub trait Cell: Shareable {
    /// What it holds.
    type Bits: Copy + Eq + Into<u64>;

    fn load(&self, order: Ordering) -> Self::Bits;

    fn store(&self, bits: Self::Bits, order: Ordering);

    /// Replaces `old` by `new`; else says what it found. Acquire and Release; Relaxed where it fails.
    fn replace(&self, old: Self::Bits, new: Self::Bits) -> Result<(), Self::Bits>;

    /// The bits as they come from a [`Scalar`](super::Scalar): the lowest ones.
    fn truncate(bits: u64) -> Self::Bits;

    /// The cells inside, if they have this width.
    fn pick(cells: Cells<'_>) -> Option<&[Self]>;
}

/// Cells whose width is known at run time only.
#[derive(Clone, Copy)]
pub enum Cells<'m> {
    One(&'m [AtomicU8]),
    Two(&'m [AtomicU16]),
    Four(&'m [AtomicU32]),
    Eight(&'m [AtomicU64]),
}

// SAFETY: an atomic of 8 bits is all of that.
unsafe impl Shareable for AtomicU8 {}
// SAFETY: an atomic of 16 bits is all of that.
unsafe impl Shareable for AtomicU16 {}

macro_rules! cell {
    ($atomic:ty, $bits:ty, $width:ident) => {
        impl Cell for $atomic {
            type Bits = $bits;

            #[inline]
            fn load(&self, order: Ordering) -> $bits {
                self.load(order)
            }

            #[inline]
            fn store(&self, bits: $bits, order: Ordering) {
                self.store(bits, order);
            }

            #[inline]
            fn replace(&self, old: $bits, new: $bits) -> Result<(), $bits> {
                self.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed).map(drop)
            }

            #[inline]
            fn truncate(bits: u64) -> $bits {
                bits as $bits
            }

            fn pick(cells: Cells<'_>) -> Option<&[Self]> {
                match cells {
                    Cells::$width(cells) => Some(cells),
                    _ => None,
                }
            }
        }
    };
}

cell!(AtomicU8, u8, One);
cell!(AtomicU16, u16, Two);
cell!(AtomicU32, u32, Four);
cell!(AtomicU64, u64, Eight);
