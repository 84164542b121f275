//! One object on its way: how everything that carries objects packs, hands over and unpacks them.
//!
//! ```text
//! sender     pack: encoded in its own memory, or in a block of its own
//!            claim a place (ticket t of the carrier)
//!            dispatch: the block own(me) → queued(carrier, t); the message into the place
//!            publish the place
//! receiver   claim the place
//!            take: the short object copied, or the block queued(carrier, t) → own(me)
//!            give the place back
//!            unpack: decode, free the block
//! ```
//!
//! - Nothing that can fail or runs the user's code happens between a claim and the end of the claim.
//! - A block is at any moment free, in a named hand, or in a named place of a carrier: what a dead process had is
//!   found by a sweep.
//! - Bytes that cannot be decoded cost that object only.

use procession_core::region::{AllocError, Block, Member, Region};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{IN_BLOCK, INLINE, Message, NEAR, VOID};
use crate::memory::{Arena, DecodeError, decode};

/// Where a short object lies while it is packed or unpacked: the caller's stack.
#[repr(align(8))]
pub(super) struct Desk([u8; INLINE]);

impl Desk {
    #[inline]
    pub(super) fn new() -> Self {
        Self([0; INLINE])
    }
}

/// Why an object cannot be sent. Nothing of it has left.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    /// It is too large for this carrier.
    #[error("{bytes} bytes, {largest} at most")]
    TooLarge { bytes: u64, largest: u64 },
    /// It cannot be encoded.
    #[error("{0}")]
    Encode(postcard::Error),
    /// There is no block for it.
    #[error("{0}")]
    Memory(AllocError),
    /// The region is damaged.
    #[error("damaged")]
    Corrupt,
}

/// The memory of a carrier is damaged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damaged;

/// An object in its sender's hand. Dropping it gives back what it took.
pub(super) struct Parcel<'d> {
    arena: &'static Arena,
    length: u32,
    form: Form<'d>,
}

enum Form<'d> {
    Short(&'d [u8; INLINE]),
    Long(Block),
    /// It is on its way, or freed.
    Gone,
}

impl<'d> Parcel<'d> {
    /// Encodes an object.
    #[inline]
    pub(super) fn pack<T: Serialize + ?Sized>(
        arena: &'static Arena,
        desk: &'d mut Desk,
        object: &T,
        largest: u64,
    ) -> Result<Self, PackError> {
        let length = match postcard::to_slice(object, &mut desk.0) {
            Ok(encoded) => encoded.len(),
            Err(postcard::Error::SerializeBufferFull) => {
                return Self::pack_long(arena, object, largest);
            }
            Err(error) => return Err(PackError::Encode(error)),
        };
        check(length as u64, largest)?;
        Ok(Self { arena, length: length as u32, form: Form::Short(&desk.0) })
    }

    #[cold]
    fn pack_long<T: Serialize + ?Sized>(
        arena: &'static Arena,
        object: &T,
        largest: u64,
    ) -> Result<Self, PackError> {
        let encoded = postcard::to_stdvec(object).map_err(PackError::Encode)?;
        Self::of_long(arena, &encoded, largest)
    }

    /// These bytes as they are.
    #[inline]
    pub(super) fn of_bytes(
        arena: &'static Arena,
        desk: &'d mut Desk,
        bytes: &[u8],
        largest: u64,
    ) -> Result<Self, PackError> {
        match desk.0.get_mut(..bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => return Self::of_long(arena, bytes, largest),
        }
        check(bytes.len() as u64, largest)?;
        Ok(Self { arena, length: bytes.len() as u32, form: Form::Short(&desk.0) })
    }

    fn of_long(arena: &'static Arena, bytes: &[u8], largest: u64) -> Result<Self, PackError> {
        let length = bytes.len() as u64;
        check(length, largest)?;
        let (region, me) = (arena.region(), arena.member());
        // Once more without what the dead have left in carriers.
        let block = region.allocate_message(me, length).or_else(|_| {
            arena.sweep();
            region.allocate_message(me, length).map_err(PackError::Memory)
        })?;
        let parcel = Self { arena, length: length as u32, form: Form::Long(block) };
        let place = region.bytes(block.offset, length, 1).map_err(|_| PackError::Corrupt)?;
        // SAFETY: the block is this process's own, and takes that many bytes.
        unsafe { place.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(parcel)
    }

    /// Writes it to the place that was claimed under `ticket`, to be published next. If that fails, a message without
    /// content is in the place: publish it all the same.
    ///
    /// # Safety
    /// `to` is valid for writes, and the place there this process's own by its claim. `carrier` is the place of
    /// what carries, by which `passed` of a sweep finds it.
    #[inline]
    pub(super) unsafe fn dispatch(
        mut self,
        carrier: u64,
        ticket: u64,
        to: *mut Message,
    ) -> Result<(), Damaged> {
        match std::mem::replace(&mut self.form, Form::Gone) {
            Form::Short(bytes) => {
                // SAFETY: by the caller; both have INLINE bytes.
                unsafe {
                    (&raw mut (*to).place).write(0);
                    (&raw mut (*to).length).write(self.length);
                    (&raw mut (*to).form).write(0);
                    copy_short(bytes.as_ptr(), (&raw mut (*to).bytes).cast(), self.length as usize);
                }
                Ok(())
            }
            Form::Long(block) => {
                let handed =
                    self.arena.region().hand_over(self.arena.member(), block, carrier, ticket);
                // SAFETY: by the caller.
                unsafe {
                    (&raw mut (*to).place).write(block.offset);
                    (&raw mut (*to).length).write(self.length);
                    (&raw mut (*to).form).write(if handed.is_ok() { IN_BLOCK } else { VOID });
                }
                handed.map_err(|_| Damaged)
            }
            Form::Gone => {
                // SAFETY: by the caller.
                unsafe { (&raw mut (*to).form).write(VOID) };
                Err(Damaged)
            }
        }
    }
}

impl Drop for Parcel<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Form::Long(block) = self.form {
            let _ = self.arena.region().free_message(self.arena.member(), block);
        }
    }
}

fn check(bytes: u64, largest: u64) -> Result<(), PackError> {
    if bytes <= largest { Ok(()) } else { Err(PackError::TooLarge { bytes, largest }) }
}

/// An object in its receiver's hand. Dropping it gives back what it took.
pub(super) enum Arrival<'d> {
    /// Copied out of its place.
    Short(&'d [u8]),
    /// In a block that is this process's own.
    Long(Held),
    /// Nothing was put here: the sender could not finish. Go on to the next.
    Void,
}

/// A block that came with a message, and how much of it is content.
pub(super) struct Held {
    region: &'static Region<'static>,
    me: Member<'static>,
    block: Block,
    length: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.region.free_message(self.me, self.block);
    }
}

impl<'d> Arrival<'d> {
    /// Takes the object out of the place that was claimed under `ticket`; the place is to be given back next, also
    /// after damage.
    ///
    /// # Safety
    /// `from` is valid for reads, and the place there this process's own by its claim; another process may be writing to it
    /// all the same.
    #[inline]
    pub(super) unsafe fn take(
        arena: &'static Arena,
        desk: &'d mut Desk,
        from: *const Message,
        carrier: u64,
        ticket: u64,
    ) -> Result<Self, Damaged> {
        // SAFETY: by the caller; any bytes are a message. Volatile: what is checked here is what is used below, whoever
        // writes there meanwhile.
        let (place, length, form) = unsafe {
            (
                (&raw const (*from).place).read_volatile(),
                (&raw const (*from).length).read_volatile(),
                (&raw const (*from).form).read_volatile(),
            )
        };
        match form {
            0 if length as usize <= INLINE => {
                // SAFETY: as above; both have INLINE bytes.
                unsafe {
                    let bytes = (&raw const (*from).bytes).cast();
                    copy_short(bytes, desk.0.as_mut_ptr(), length as usize);
                }
                Ok(Self::Short(&desk.0[..length as usize]))
            }
            IN_BLOCK => Self::take_long(arena, place, length, carrier, ticket),
            VOID => Ok(Self::Void),
            _ => Err(Damaged),
        }
    }

    #[cold]
    fn take_long(
        arena: &'static Arena,
        place: u64,
        length: u32,
        carrier: u64,
        ticket: u64,
    ) -> Result<Self, Damaged> {
        let (region, me) = (arena.region(), arena.member());
        let block = region.take_over(me, place, carrier, ticket).map_err(|_| Damaged)?;
        let held = Held { region, me, block, length: u64::from(length) };
        if held.length > block.capacity { Err(Damaged) } else { Ok(Self::Long(held)) }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Short(bytes) => bytes.len(),
            Self::Long(held) => held.length as usize,
            Self::Void => 0,
        }
    }

    /// Decodes it.
    #[inline]
    pub(super) fn unpack<T: DeserializeOwned>(self) -> Result<T, Unpacked> {
        match self {
            Self::Short(bytes) => decode(bytes).map_err(Unpacked::Refused),
            long => decode(&long.into_bytes().map_err(|_| Unpacked::Damaged)?)
                .map_err(Unpacked::Refused),
        }
    }

    /// Its bytes.
    pub(super) fn into_bytes(self) -> Result<Vec<u8>, Damaged> {
        let length = self.len();
        let mut bytes = Vec::<u8>::new();
        // An absurd length is damage, and no reason to abort.
        bytes.try_reserve_exact(length).map_err(|_| Damaged)?;
        // SAFETY: the vector has room for so many, and all of them are written.
        unsafe {
            self.copy_to(bytes.as_mut_ptr())?;
            bytes.set_len(length);
        }
        Ok(bytes)
    }

    /// Copies its bytes to the front of `room`; how many, or how many there are if they do not fit.
    pub(super) fn copy_into(&self, room: &mut [u8]) -> Result<Result<usize, usize>, Damaged> {
        let length = self.len();
        if length > room.len() {
            return Ok(Err(length));
        }
        // SAFETY: there is room for so many.
        unsafe { self.copy_to(room.as_mut_ptr())? };
        Ok(Ok(length))
    }

    /// # Safety
    /// There is room for [`len`](Self::len) bytes.
    unsafe fn copy_to(&self, to: *mut u8) -> Result<(), Damaged> {
        match self {
            // SAFETY: by the caller.
            Self::Short(bytes) => unsafe {
                to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
            },
            Self::Long(held) => {
                let place =
                    held.region.bytes(held.block.offset, held.length, 1).map_err(|_| Damaged)?;
                // A copy out before it is looked at: another process might still write to it.
                // SAFETY: the bytes lie in the region; by the caller there is room for them.
                unsafe {
                    to.copy_from_nonoverlapping(place.as_ptr(), held.length as usize);
                }
            }
            Self::Void => {}
        }
        Ok(())
    }
}

/// Why an object that arrived cannot be had. It is gone.
pub(super) enum Unpacked {
    /// It is no object of the type that was asked for.
    Refused(DecodeError),
    /// The memory is damaged.
    Damaged,
}

/// Copies a short object of `length` bytes, and perhaps what lies behind it: a copy whose size is known when compiling is a
/// few moves. Two sizes, so that a very short object touches one cache line of its place.
///
/// # Safety
/// Both have INLINE bytes, and `to` is this process's own.
#[inline]
unsafe fn copy_short(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: by the caller.
    unsafe {
        if length <= NEAR {
            to.copy_from_nonoverlapping(from, NEAR);
        } else {
            to.copy_from_nonoverlapping(from, INLINE);
        }
    }
}
