//! What stands in front of everything that carries objects: of which type they are, and how large they may be.

use procession_core::region::Shareable;
use procession_core::sys::atomic::{AtomicU64, Ordering};

use crate::memory::HandleError;

/// The largest object that is carried unless it was told otherwise: 64 MiB.
pub(super) const USUAL_LARGEST: u64 = 64 << 20;
/// Lengths are 32 bits.
pub(super) const MOST_LARGEST: u64 = u32::MAX as u64;

/// The first 128 bytes of a carrier. Written once, by whoever makes it.
#[repr(C, align(128))]
pub(super) struct Label {
    item_type: AtomicU64,
    largest: AtomicU64,
}

// SAFETY: repr(C), atomics only, every bit pattern valid.
unsafe impl Shareable for Label {}

impl Label {
    /// Says that objects of this type are carried, of at most `largest` bytes as encoded.
    pub(super) fn write<T: ?Sized>(&self, largest: u64) {
        // Relaxed: what is made travels by a handle, and what carries that orders it.
        self.item_type.store(type_hash::<T>(), Ordering::Relaxed);
        self.largest.store(largest, Ordering::Relaxed);
    }

    /// The largest object, if objects of this type are carried.
    pub(super) fn read<T: ?Sized>(&self) -> Result<u64, HandleError> {
        let (found, asked) = (self.item_type.load(Ordering::Relaxed), type_hash::<T>());
        if found != asked {
            return Err(HandleError::Content(format!(
                "it carries objects of another type than {} (hash {found:#x}, not {asked:#x})",
                std::any::type_name::<T>()
            )));
        }
        Ok(self.largest.load(Ordering::Relaxed).min(MOST_LARGEST))
    }
}

/// The name of the type as a number: both sides run the same build, where equal types have equal names.
fn type_hash<T: ?Sized>() -> u64 {
    // FNV-1a.
    std::any::type_name::<T>().bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
