//! The view of a region that a process has mapped.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::header::{Geometry, Header, ROWS_AT, SENTRIES, SENTRIES_AT};
use super::{Membership, Participant, Participants, Setting};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::{Fences, Scope};

/// A type that may lie in memory which other processes map and change.
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)`; every bit pattern is a valid value; it holds no pointer, no
/// reference and nothing to drop; it is changed through atomics only, so that a shared reference to it stays
/// sound while other processes write. All zero means "new".
pub unsafe trait Shareable: Sized + Sync + 'static {}

// SAFETY: an atomic of 32 bits is all of that.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: an atomic of 64 bits is all of that.
unsafe impl Shareable for AtomicU64 {}

/// Why a region cannot be made, attached to, or read at some place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The memory does not hold even one chunk.
    #[error("{given} bytes are too few for a region: give it at least {needed}")]
    TooSmall {
        /// Bytes given.
        given: u64,
        /// Bytes needed with this number of rows.
        needed: u64,
    },
    /// The memory does not start at a page.
    #[error(
        "a region has to start at a multiple of 4096, not at {address:#x}: map it, do not slice it"
    )]
    Misaligned {
        /// Where it starts.
        address: usize,
    },
    /// It is no region at all.
    #[error(
        "this memory is no region: it starts with {magic:#018x}; attach to what this library created"
    )]
    Foreign {
        /// Its first eight bytes.
        magic: u64,
    },
    /// It was made by a release that uses memory differently.
    #[error(
        "the region has format {found}, this program speaks format {ours}: \
         run both sides with the same release"
    )]
    OtherVersion {
        /// The format found.
        found: u32,
        /// The format of this build.
        ours: u32,
    },
    /// It was made by a build with other sizes or another byte order.
    #[error(
        "the region was laid out by another kind of build ({found:#010x}, ours {ours:#010x}): \
         run both sides with the same build"
    )]
    OtherLayout {
        /// The hash found.
        found: u32,
        /// The hash of this build.
        ours: u32,
    },
    /// Its creator has not finished, and may be dead.
    #[error("the region was never finished by its creator: create it anew")]
    Unfinished,
    /// It is shorter than its header says.
    #[error("the region was cut: its header says {size} bytes, {given} are there; create it anew")]
    Cut {
        /// Bytes by the header.
        size: u64,
        /// Bytes given.
        given: u64,
    },
    /// A field of the header holds what no creator writes.
    #[error("the region's header is damaged: {field} is {value}; create the region anew")]
    Damaged {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// An offset does not lie in the region, or not at a place where such an object can lie.
    #[error(
        "{size} bytes at offset {offset:#x} do not lie in the region's {region} bytes, \
         or not at a multiple of {align}"
    )]
    OutOfBounds {
        /// The offset.
        offset: u64,
        /// Bytes asked for.
        size: u64,
        /// The alignment asked for.
        align: u64,
        /// Bytes of the region.
        region: u64,
    },
    /// There is no more memory.
    #[error("{0}")]
    Memory(#[from] MemoryFull),
    /// The region relies on membarrier, which this process may not call.
    #[error(
        "the region's sleepers use membarrier, and this process may not call it (a seccomp filter?): \
         allow the call, or create the region with full fences"
    )]
    NoMembarrier,
}

/// No memory for more pages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no memory for {bytes} more bytes of shared memory (system error {errno}): \
     free some, or raise the limit"
)]
pub struct MemoryFull {
    /// Bytes asked for.
    pub bytes: u64,
    /// The system's error number.
    pub errno: i32,
}

/// Whoever provides a region's memory.
pub trait Memory: Sync {
    /// Makes sure that these pages exist, so that touching them cannot fail. Doing it twice is fine.
    ///
    /// # Errors
    /// [`MemoryFull`] if there is no more memory.
    fn commit(&self, offset: u64, bytes: u64) -> Result<(), MemoryFull>;

    /// These pages are not needed for now: they may go back to the system, and read as zero or as before.
    fn release(&self, offset: u64, bytes: u64);
}

/// Memory that is all there from the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed;

impl Memory for Fixed {
    fn commit(&self, _: u64, _: u64) -> Result<(), MemoryFull> {
        Ok(())
    }

    fn release(&self, _: u64, _: u64) {}
}

/// How to make a region.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many processes can be attached at a time: 1 to 4095. Each costs 64 bytes.
    pub participants: u32,
    /// How sleepers and wakers see each other.
    pub fences: Fences,
    /// Who sleeps on its words.
    pub scope: Scope,
    /// A number that no other region in sight has.
    pub id: u64,
    /// How many bytes of memory the region may use: kept for whoever provides the memory in a process that attaches, and
    /// not enforced here. By default there is no limit.
    pub limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            participants: 1023,
            fences: Fences::Asymmetric,
            scope: Scope::Shared,
            id: 0,
            limit: u64::MAX,
        }
    }
}

/// A view of a region. Copy it freely within the process, as long as the memory stays mapped.
#[derive(Clone, Copy)]
pub struct Region<'m> {
    base: NonNull<u8>,
    pub(in crate::region) geometry: Geometry,
    fences: Fences,
    scope: Scope,
    pub(in crate::region) memory: &'m dyn Memory,
    mapped: PhantomData<&'m AtomicU64>,
}

// SAFETY: the view hands out shared references to atomics and raw pointers only.
unsafe impl Send for Region<'_> {}
// SAFETY: as above.
unsafe impl Sync for Region<'_> {}

impl core::fmt::Debug for Region<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Region")
            .field("id", &self.id())
            .field("size", &self.geometry.size)
            .finish_non_exhaustive()
    }
}

impl<'m> Region<'m> {
    /// Makes a region of fresh memory: `length` bytes from `base`, all zero.
    ///
    /// # Errors
    /// `TooSmall`, `Misaligned`; `Memory` if the first pages cannot be had.
    ///
    /// # Safety
    /// All `length` bytes are mapped readable and writable for `'m`, whether `memory` has committed them or not; they are changed
    /// by this library alone as far as this process goes; and nobody has attached to it yet.
    pub unsafe fn create(
        base: NonNull<u8>,
        length: u64,
        options: Options,
        memory: &'m dyn Memory,
    ) -> Result<Self, RegionError> {
        Self::check_base(base)?;
        let geometry = Geometry::new(length, options.participants.saturating_add(1))?;
        memory.commit(0, geometry.fixed_part())?;
        let region = Self {
            base,
            geometry,
            fences: options.fences,
            scope: options.scope,
            memory,
            mapped: PhantomData,
        };
        region.header().write(geometry, options);
        Ok(region)
    }

    /// Attaches to a region that another process has made: `length` bytes from `base`. Checks the header.
    ///
    /// # Errors
    /// `Foreign`, `OtherVersion`, `OtherLayout`, `Unfinished`, `Cut`, `Damaged`: what is wrong with it;
    /// `NoMembarrier` if this process cannot keep its rules. Nothing is changed in any of these cases.
    ///
    /// # Safety
    /// All `length` bytes are mapped readable and writable for `'m`, committed or not, and
    /// as far as this process goes it is changed by this library alone.
    pub unsafe fn attach(
        base: NonNull<u8>,
        length: u64,
        memory: &'m dyn Memory,
    ) -> Result<Self, RegionError> {
        Self::check_base(base)?;
        let needed = size_of::<Header>() as u64;
        if length < needed {
            return Err(RegionError::TooSmall { given: length, needed });
        }
        // SAFETY: the first page is mapped, it is aligned, and a header is made of atomics.
        let header = unsafe { base.cast::<Header>().as_ref() };
        let (geometry, fences, scope) = header.read(length)?;
        if fences == Fences::Asymmetric && !crate::sys::register_fences() {
            return Err(RegionError::NoMembarrier);
        }
        Ok(Self { base, geometry, fences, scope, memory, mapped: PhantomData })
    }

    fn check_base(base: NonNull<u8>) -> Result<(), RegionError> {
        let address = base.addr().get();
        if address.is_multiple_of(super::header::PAGE as usize) {
            Ok(())
        } else {
            Err(RegionError::Misaligned { address })
        }
    }

    pub(in crate::region) fn header(&self) -> &'m Header {
        // SAFETY: the first page is mapped for 'm, it is aligned, and a header is made of atomics.
        unsafe { self.base.cast().as_ref() }
    }

    /// The number that its creator gave it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.header().id.load(Ordering::Relaxed)
    }

    /// How many bytes of memory it may use, by its creator's [`Options::limit`].
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.header().limit.load(Ordering::Relaxed)
    }

    /// Who may sleep on its words.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// How many bytes it spans, the parts without memory included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.geometry.size
    }

    /// Where it is mapped in this process.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The table of those who take part.
    #[must_use]
    pub fn participants(&self) -> Participants<'m> {
        let header = self.header();
        let rows = self.slice_at(ROWS_AT, u64::from(self.geometry.rows));
        Participants::new(rows, &header.next_row, &header.deaths)
    }

    /// What a [`Membership`] has to know of it.
    #[must_use]
    pub fn setting(&self) -> Setting<'m> {
        Setting {
            participants: self.participants(),
            scope: self.scope,
            fences: self.fences,
            sentries: self.slice_at(SENTRIES_AT, SENTRIES),
            backing: None,
            sweeper: None,
        }
    }

    /// Takes a seat with nothing but the defaults; see [`Membership::join`].
    ///
    /// # Errors
    /// As [`Membership::join`].
    pub fn join(&self) -> Result<Membership<'m>, super::JoinError> {
        Membership::join(self.setting())
    }

    /// A slice whose place follows from the geometry, which was checked.
    pub(in crate::region) fn slice_at<T: Shareable>(&self, offset: u64, count: u64) -> &'m [T] {
        debug_assert!(offset + count * size_of::<T>() as u64 <= self.geometry.size);
        // SAFETY: callers name parts that lie within the geometry, are committed and aligned; `Shareable` says
        // that any bytes are a value which may be shared.
        unsafe {
            core::slice::from_raw_parts(
                self.base.add(offset as usize).cast().as_ptr(),
                count as usize,
            )
        }
    }

    /// A pointer to `size` bytes at `offset`, after checking that they lie in the chunks and are aligned.
    ///
    /// # Errors
    /// [`RegionError::OutOfBounds`].
    pub fn bytes(&self, offset: u64, size: u64, align: u64) -> Result<NonNull<u8>, RegionError> {
        let inside = offset >= self.geometry.chunks_at
            && offset.checked_add(size).is_some_and(|end| end <= self.geometry.size);
        if !inside || !align.is_power_of_two() || !offset.is_multiple_of(align) {
            let region = self.geometry.size;
            return Err(RegionError::OutOfBounds { offset, size, align, region });
        }
        // SAFETY: the offset lies within the mapping.
        Ok(unsafe { self.base.add(offset as usize) })
    }

    /// The object of type `T` at `offset`.
    ///
    /// That an object of this type was put there is not checked: any bytes are a value of a [`Shareable`] type.
    ///
    /// # Errors
    /// [`RegionError::OutOfBounds`].
    pub fn object<T: Shareable>(&self, offset: u64) -> Result<&'m T, RegionError> {
        let place = self.bytes(offset, size_of::<T>() as u64, align_of::<T>() as u64)?;
        // SAFETY: in bounds, aligned, mapped for 'm, and any bytes are a valid T made of atomics.
        Ok(unsafe { place.cast().as_ref() })
    }

    /// A slice of objects at `offset`.
    ///
    /// # Errors
    /// [`RegionError::OutOfBounds`].
    pub fn objects<T: Shareable>(&self, offset: u64, count: u64) -> Result<&'m [T], RegionError> {
        let size = count.saturating_mul(size_of::<T>() as u64);
        let place = self.bytes(offset, size, align_of::<T>() as u64)?;
        // SAFETY: as in `object`, `count` times.
        Ok(unsafe { core::slice::from_raw_parts(place.cast().as_ptr(), count as usize) })
    }

    /// How far from the start of the region this object lies.
    ///
    /// # Errors
    /// [`RegionError::OutOfBounds`] if it does not lie in the region.
    pub fn offset_of<T>(&self, object: *const T) -> Result<u64, RegionError> {
        let offset = (object.addr() as u64).wrapping_sub(self.base.addr().get() as u64);
        self.bytes(offset, size_of::<T>() as u64, 1).map(|_| offset)
    }
}

// SAFETY: a row is made of atomics.
unsafe impl Shareable for Participant {}

impl Membership<'static> {
    /// A seat for memory that no other process shares: the same objects, over private futexes.
    #[must_use]
    pub fn private() -> Self {
        static NONE: AtomicU32 = AtomicU32::new(0);
        Self::prepare(Setting {
            participants: Participants::new(&[], &NONE, &NONE),
            scope: Scope::Private,
            fences: Fences::Asymmetric,
            sentries: &[],
            backing: None,
            sweeper: None,
        })
    }
}
