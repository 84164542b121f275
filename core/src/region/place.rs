//! Where an object of variable size lies.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{Region, RegionError, Shareable};

/// Objects that are made in a place start at a multiple of this many bytes.
pub const ALIGN: u64 = 8;

/// Why a place cannot hold what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The memory is too short.
    #[error(
        "{needed} bytes are needed, the place has {given}: allocate more, or attach to all of it"
    )]
    TooSmall {
        /// Bytes needed.
        needed: u64,
        /// Bytes given.
        given: u64,
    },
    /// The memory starts at an odd address.
    #[error("objects start at a multiple of {ALIGN}, not at {address:#x}")]
    Misaligned {
        /// Where it starts.
        address: usize,
    },
    /// The place does not lie in the region.
    #[error(transparent)]
    Region(#[from] RegionError),
}

/// Some bytes of shared memory, for an object of variable size (a value, an array, a semaphore) to be created in or
/// attached to.
///
/// ```
/// use procession_core::region::Place;
/// use procession_core::value::Value;
///
/// // Memory of one process, for its threads; most places lie in a region.
/// let mut memory = [0u64; 3];
/// let place = Place::in_memory(&mut memory);
/// assert_eq!(place.bytes(), Value::<i32>::bytes().next_multiple_of(8));
/// let value = Value::create(place, 42i32).unwrap();
/// assert_eq!(value.get_raw(), 42);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Place<'m> {
    start: NonNull<u8>,
    bytes: u64,
    memory: PhantomData<&'m Region<'m>>,
}

impl<'m> Place<'m> {
    /// From `offset` to the end of the region; see [`up_to`](Self::up_to).
    ///
    /// # Errors
    /// [`PlaceError::Region`] if the offset lies outside of it, or is no multiple of [`ALIGN`].
    ///
    /// ```
    /// use core::ptr::NonNull;
    /// use procession_core::region::{Fixed, Options, Place, Region};
    /// use procession_core::value::Value;
    ///
    /// #[repr(align(4096))]
    /// struct Memory([u8; 1 << 18]);
    /// let mut memory = Box::new(Memory([0; 1 << 18]));
    /// let base = NonNull::from(&mut *memory).cast();
    /// // SAFETY: the memory is zero, outlives the region, and nobody else uses it.
    /// let region = unsafe { Region::create(base, 1 << 18, Options::default(), &Fixed) }?;
    ///
    /// let value = Value::create(Place::in_region(&region, 1 << 17)?, 1.5f64)?;
    /// let seen = Value::<f64>::attach(Place::in_region(&region, 1 << 17)?)?;
    /// value.set_raw(2.5);
    /// assert_eq!(seen.get_raw(), 2.5);
    /// assert!(Place::in_region(&region, 1 << 18).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_region(region: &Region<'m>, offset: u64) -> Result<Self, PlaceError> {
        let bytes = region.size().saturating_sub(offset);
        let start = region.bytes(offset, bytes.max(1), ALIGN)?;
        Ok(Self { start, bytes, memory: PhantomData })
    }

    /// Memory of this process alone.
    #[must_use]
    pub fn in_memory(words: &'m mut [u64]) -> Self {
        let bytes = size_of_val(words) as u64;
        Self { start: NonNull::from(words).cast(), bytes, memory: PhantomData }
    }

    /// The `bytes` from `start` on.
    ///
    /// # Errors
    /// [`PlaceError::Misaligned`] if `start` is no multiple of [`ALIGN`].
    ///
    /// # Safety
    /// These bytes are mapped readable and writable for `'m`, and as long as anything made of this place is in
    /// use, this process reads and writes them through this crate only.
    ///
    /// ```
    /// use core::ptr::NonNull;
    /// use procession_core::region::{Place, PlaceError};
    ///
    /// let mut memory = [0u64; 4];
    /// let start = NonNull::from(&mut memory).cast::<u8>();
    /// // SAFETY: the memory lives until the end, and nobody else uses it.
    /// let place = unsafe { Place::from_raw(start, 32) };
    /// assert_eq!(place.unwrap().bytes(), 32);
    /// // SAFETY: as above.
    /// let place = unsafe { Place::from_raw(start.add(4), 28) };
    /// assert!(matches!(place, Err(PlaceError::Misaligned { .. })));
    /// ```
    pub unsafe fn from_raw(start: NonNull<u8>, bytes: u64) -> Result<Self, PlaceError> {
        let address = start.addr().get();
        if (address as u64).is_multiple_of(ALIGN) {
            Ok(Self { start, bytes, memory: PhantomData })
        } else {
            Err(PlaceError::Misaligned { address })
        }
    }

    /// The first `bytes` of it, for a block that ends there; all of it, if it has no more.
    ///
    /// ```
    /// use procession_core::region::{Place, PlaceError};
    /// use procession_core::value::Array;
    ///
    /// let mut memory = [0u64; 100];
    /// let block = Place::in_memory(&mut memory).up_to(32);
    /// assert!(Array::<f64>::create(block, 2).is_ok());
    /// let error = Array::<f64>::create(block, 3).unwrap_err();
    /// assert_eq!(error, PlaceError::TooSmall { needed: 40, given: 32 }.into());
    /// ```
    #[must_use]
    pub fn up_to(self, bytes: u64) -> Self {
        Self { bytes: self.bytes.min(bytes), ..self }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The object that `offset` bytes into it begins a row of `count`, after checking that the row fits.
    ///
    /// # Errors
    /// [`PlaceError::TooSmall`].
    pub(crate) fn objects<T: Shareable>(
        self,
        offset: u64,
        count: u64,
    ) -> Result<&'m [T], PlaceError> {
        const { assert!(align_of::<T>() as u64 <= ALIGN) };
        debug_assert!(offset.is_multiple_of(ALIGN));
        let needed = count.saturating_mul(size_of::<T>() as u64).saturating_add(offset);
        if needed > self.bytes {
            return Err(PlaceError::TooSmall { needed, given: self.bytes });
        }
        // SAFETY: the row lies within the place, which is mapped for 'm, and so fits the address space. The place
        // and the offset are multiples of ALIGN. Any bytes are a `Shareable` that others may change meanwhile.
        Ok(unsafe {
            core::slice::from_raw_parts(
                self.start.add(offset as usize).cast().as_ptr(),
                count as usize,
            )
        })
    }

    /// The object at `offset`, after checking that it fits.
    ///
    /// # Errors
    /// [`PlaceError::TooSmall`].
    pub(crate) fn object<T: Shareable>(self, offset: u64) -> Result<&'m T, PlaceError> {
        let row = self.objects(offset, 1)?;
        let needed = offset.saturating_add(size_of::<T>() as u64);
        row.first().ok_or(PlaceError::TooSmall { needed, given: self.bytes })
    }

    /// Where the `bytes` from `offset` on begin, after checking that they fit.
    ///
    /// # Errors
    /// [`PlaceError::TooSmall`].
    pub(crate) fn at(self, offset: u64, bytes: u64) -> Result<NonNull<u8>, PlaceError> {
        let needed = offset.saturating_add(bytes);
        if needed > self.bytes {
            return Err(PlaceError::TooSmall { needed, given: self.bytes });
        }
        // SAFETY: the offset lies within the place, or at its end, and so in the address space.
        Ok(unsafe { self.start.add(offset as usize) })
    }
}
