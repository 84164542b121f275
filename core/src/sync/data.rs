//! Data of a type that the program names, behind the words of a primitive: what lies where, and the check that both sides
//! mean the same type.
//!
//! ```text
//! offset 0    the primitive, a multiple of 8 bytes
//!        ..   what: u64, a hash of the type's name, size and alignment; 0: nothing lies here
//!        ..   the data
//! ```
//!
//! `what` is written last, with Release: whoever finds it with Acquire finds the data in place.

use core::ptr::NonNull;

use bytemuck::AnyBitPattern;

use crate::region::{ALIGN, Place, PlaceError, Shareable};
use crate::sys::atomic::{AtomicU64, Ordering};

/// Why data of a type cannot be made or found at a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The memory is too short, or starts at an odd address.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Nothing was made here.
    #[error("there is no {asked} here: it was never created, was freed, or was overwritten")]
    Nothing {
        /// The type that was asked for.
        asked: &'static str,
    },
    /// Data of another type lie here.
    #[error("here lies something else than {asked}: attach to it as what it was created as")]
    OtherType {
        /// The type that was asked for.
        asked: &'static str,
    },
}

/// A primitive `P` with data `T` behind it.
pub(super) struct Behind<'m, P, T> {
    pub primitive: &'m P,
    pub data: NonNull<T>,
}

const fn data_at<P>() -> u64 {
    size_of::<P>() as u64 + size_of::<u64>() as u64
}

/// How many bytes both take.
pub(super) const fn bytes<P, T>() -> u64 {
    data_at::<P>() + size_of::<T>() as u64
}

/// Makes both of a place whose memory is zero.
pub(super) fn create<'m, P: Shareable, T: AnyBitPattern>(
    place: Place<'m>,
    value: T,
) -> Result<Behind<'m, P, T>, PlaceError> {
    create_with(place, value, |_| ())
}

/// The same; `fill` is called with the primitive before anybody can find it.
pub(super) fn create_with<'m, P: Shareable, T: AnyBitPattern>(
    place: Place<'m>,
    value: T,
    fill: impl FnOnce(&P),
) -> Result<Behind<'m, P, T>, PlaceError> {
    let (what, behind) = parts(place)?;
    fill(behind.primitive);
    // SAFETY: the place is mapped and has room behind `what`, aligned for T; nobody has attached to it yet.
    unsafe { behind.data.write(value) };
    // Release meets the Acquire of `attach`.
    what.store(name::<T>(), Ordering::Release);
    Ok(behind)
}

/// Finds both where somebody else has made them.
pub(super) fn attach<'m, P: Shareable, T: AnyBitPattern>(
    place: Place<'m>,
) -> Result<Behind<'m, P, T>, DataError> {
    let (what, behind) = parts(place)?;
    let asked = core::any::type_name::<T>();
    // Acquire meets the Release of `create`.
    match what.load(Ordering::Acquire) {
        0 => Err(DataError::Nothing { asked }),
        found if found == name::<T>() => Ok(behind),
        _ => Err(DataError::OtherType { asked }),
    }
}

fn parts<'m, P: Shareable, T>(
    place: Place<'m>,
) -> Result<(&'m AtomicU64, Behind<'m, P, T>), PlaceError> {
    const {
        assert!(align_of::<T>() as u64 <= ALIGN, "shared data is aligned to 8 bytes at most");
        assert!((size_of::<P>() as u64).is_multiple_of(ALIGN));
    }
    let primitive = place.object::<P>(0)?;
    let what = place.object(size_of::<P>() as u64)?;
    let data = place.at(data_at::<P>(), size_of::<T>() as u64)?.cast();
    Ok((what, Behind { primitive, data }))
}

/// What the type is called in shared memory: both sides are built of the same sources. Never 0.
fn name<T>() -> u64 {
    let layout = [size_of::<T>() as u64, align_of::<T>() as u64];
    let words = layout.iter().flat_map(|word| word.to_le_bytes());
    let bytes = core::any::type_name::<T>().bytes().chain(words);
    // FNV-1a.
    bytes.fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    }) | 1
}
