//! A region in memory that forked children share, for the rows that measure core by itself.

use std::cell::{Cell, UnsafeCell};

use procession_core::region::{Fixed, Member, Membership, Options, Place, Region, Shareable};

use crate::Result;
use crate::shm::Mapping;

/// Room enough for each row's objects.
const BYTES: usize = 1 << 20;

/// Memory with a region in it. Fresh for each measurement, as the peers' memory is.
pub struct Ground {
    region: Region<'static>,
    next: Cell<u64>,
    // The last field, as it is dropped last: the region lies in it.
    _mapping: Mapping,
}

impl Ground {
    /// Maps memory and creates a region there.
    pub fn new() -> Result<Self> {
        let mapping = Mapping::new(BYTES)?;
        // SAFETY: the mapping is fresh, zeroed and ours alone. It lives as long as the region, since both lie in
        // `Self` and `region` is only lent out.
        let region = unsafe {
            Region::create(mapping.base(), mapping.len() as u64, Options::default(), &Fixed)?
        };
        // Nobody allocates from this region, so its upper half is ours to place things in.
        Ok(Self { region, next: Cell::new(region.size() / 2), _mapping: mapping })
    }

    /// A seat of this process. Its forked children join anew at their first claim, each under its own name.
    pub fn join(&self) -> Result<Membership<'_>> {
        Ok(self.region.join()?)
    }

    /// The region.
    pub fn region(&self) -> &Region<'_> {
        &self.region
    }

    /// The offset of that many zeroed bytes that nobody else has, at the start of a pair of cache lines.
    pub fn reserve(&self, bytes: u64) -> Result<u64> {
        let at = self.next.get();
        self.region.bytes(at, bytes, 128)?;
        self.next.set((at + bytes).next_multiple_of(128));
        Ok(at)
    }

    /// The place of that many zeroed bytes, reserved.
    pub fn place(&self, bytes: u64) -> Result<Place<'_>> {
        let at = self.reserve(bytes)?;
        Ok(Place::in_region(&self.region, at)?.up_to(bytes))
    }

    /// A new object, all zero.
    pub fn object<T: Shareable>(&self) -> Result<&T> {
        let at = self.reserve(size_of::<T>() as u64)?;
        Ok(self.region.object(at)?)
    }
}

/// A number in shared memory that is nobody's while nobody has what protects it.
#[repr(transparent)]
pub struct Number(UnsafeCell<u64>);

// SAFETY: each access is in the hands of a caller who sees to it that no other overlaps.
unsafe impl Sync for Number {}
// SAFETY: every pattern is a number, also zeroes, and processes access it as the caller of each access promises.
unsafe impl Shareable for Number {}

impl Number {
    /// Adds 1.
    ///
    /// # Safety
    /// Nobody else touches it meanwhile.
    #[inline]
    pub unsafe fn raise(&self) {
        // SAFETY: as the caller promises.
        unsafe { *self.0.get() += 1 };
    }

    /// What it is.
    ///
    /// # Safety
    /// Nobody writes it meanwhile.
    #[inline]
    pub unsafe fn get(&self) -> u64 {
        // SAFETY: as the caller promises.
        unsafe { *self.0.get() }
    }
}

/// Something and the number that it protects, on its cache line if it is small enough.
#[repr(C)]
pub struct Beside<T> {
    pub it: T,
    pub number: Number,
}

// SAFETY: both parts are, and C's layout is the same for all.
unsafe impl<T: Shareable> Shareable for Beside<T> {}

/// Joins before the shot, so that a forked child's joining is not measured.
pub fn settle(me: Member<'_>) -> Result<()> {
    me.tag()?;
    Ok(())
}
