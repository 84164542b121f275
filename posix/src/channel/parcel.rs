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

use std::mem::MaybeUninit;

use procession_core::region::{AllocError, Block};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{IN_BLOCK, INLINE, Message, NEAR, VOID};
use crate::memory::{Arena, DecodeError, decode_or};

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
///
/// It is filled and emptied where it lies: moving it would cost more than all the rest.
pub(super) struct Parcel {
    arena: &'static Arena,
    length: u32,
    form: u32,
    /// The block of a long object.
    block: Block,
    short: [u8; INLINE],
}

/// Nothing is packed: a form that no message has.
const UNPACKED: u32 = u32::MAX;
/// The object lies in a block that is still the carrier's: a form that no message has, either.
const IN_PLACE: u32 = u32::MAX - 1;

impl Parcel {
    #[inline]
    pub(super) fn new(arena: &'static Arena) -> Self {
        let block = Block { offset: 0, capacity: 0 };
        Self { arena, length: 0, form: UNPACKED, block, short: [0; INLINE] }
    }

    /// Encodes an object.
    #[inline]
    pub(super) fn pack<T: Serialize + ?Sized>(
        &mut self,
        object: &T,
        largest: u64,
    ) -> Result<(), PackError> {
        match postcard::to_slice(object, &mut self.short) {
            Ok(encoded) => self.length = encoded.len() as u32,
            Err(error) => return self.pack_long(error, object, largest),
        }
        self.check_short(largest)
    }

    #[cold]
    fn pack_long<T: Serialize + ?Sized>(
        &mut self,
        error: postcard::Error,
        object: &T,
        largest: u64,
    ) -> Result<(), PackError> {
        if error != postcard::Error::SerializeBufferFull {
            return Err(PackError::Encode(error));
        }
        let encoded = postcard::to_stdvec(object).map_err(PackError::Encode)?;
        self.long_bytes(&encoded, largest)
    }

    /// These bytes as they are.
    #[inline]
    pub(super) fn pack_bytes(&mut self, bytes: &[u8], largest: u64) -> Result<(), PackError> {
        match self.short.get_mut(..bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => return self.long_bytes(bytes, largest),
        }
        self.length = bytes.len() as u32;
        self.check_short(largest)
    }

    #[inline]
    fn check_short(&mut self, largest: u64) -> Result<(), PackError> {
        check(u64::from(self.length), largest)?;
        self.form = 0;
        Ok(())
    }

    fn long_bytes(&mut self, bytes: &[u8], largest: u64) -> Result<(), PackError> {
        let length = bytes.len() as u64;
        check(length, largest)?;
        let (region, me) = (self.arena.region(), self.arena.member());
        // Once more without what the dead have left in carriers.
        self.block = region.allocate_message(me, length).or_else(|_| {
            self.arena.sweep();
            region.allocate_message(me, length).map_err(PackError::Memory)
        })?;
        (self.length, self.form) = (length as u32, IN_BLOCK);
        let place = region.bytes(self.block.offset, length, 1).map_err(|_| PackError::Corrupt)?;
        // SAFETY: the block is this process's own, and takes that many bytes.
        unsafe { place.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Writes it to the place that was claimed under `ticket`, to be published next. If that fails, a message without
    /// content is in the place: publish it all the same.
    ///
    /// # Safety
    /// `to` is valid for writes, and the place there this process's own by its claim. `carrier` is the place of
    /// what carries, by which `passed` of a sweep finds it.
    #[inline]
    pub(super) unsafe fn dispatch(
        &mut self,
        carrier: u64,
        ticket: u64,
        to: *mut Message,
    ) -> Result<(), Damaged> {
        if self.form != 0 {
            // SAFETY: by the caller.
            return unsafe { self.dispatch_long(carrier, ticket, to) };
        }
        self.form = UNPACKED;
        // SAFETY: by the caller; both have INLINE bytes.
        unsafe {
            (&raw mut (*to).place).write(0);
            (&raw mut (*to).length).write(self.length);
            (&raw mut (*to).form).write(0);
            let bytes = (&raw mut (*to).bytes).cast();
            copy_short(self.short.as_ptr(), bytes, self.length as usize);
        }
        Ok(())
    }

    /// # Safety
    /// As [`dispatch`](Self::dispatch).
    #[cold]
    unsafe fn dispatch_long(
        &mut self,
        carrier: u64,
        ticket: u64,
        to: *mut Message,
    ) -> Result<(), Damaged> {
        let (region, me) = (self.arena.region(), self.arena.member());
        let packed = self.form == IN_BLOCK;
        let handed = packed && region.hand_over(me, self.block, carrier, ticket).is_ok();
        if handed {
            self.form = UNPACKED;
        }
        // SAFETY: by the caller.
        unsafe {
            (&raw mut (*to).place).write(self.block.offset);
            (&raw mut (*to).length).write(self.length);
            (&raw mut (*to).form).write(if handed { IN_BLOCK } else { VOID });
        }
        if handed { Ok(()) } else { Err(Damaged) }
    }

    #[cold]
    fn take_back(&mut self) {
        if self.block.capacity != 0 {
            let _ = self.arena.region().free_message(self.arena.member(), self.block);
        }
    }
}

impl Drop for Parcel {
    #[inline]
    fn drop(&mut self) {
        if self.form == IN_BLOCK {
            self.take_back();
        }
    }
}

fn check(bytes: u64, largest: u64) -> Result<(), PackError> {
    if bytes <= largest { Ok(()) } else { Err(PackError::TooLarge { bytes, largest }) }
}

/// An object in its receiver's hand. Dropping it gives back what it took.
///
/// As a [`Parcel`], it stays where it lies.
pub(super) struct Arrival {
    arena: &'static Arena,
    length: u32,
    form: u32,
    /// The block of a long object, which is this process's own.
    block: Block,
    short: [MaybeUninit<u8>; INLINE],
}

/// What lay in a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// An object.
    Object,
    /// Nothing: the sender could not finish. Go on to the next.
    Void,
    /// Bytes that no sender writes.
    Damage,
}

impl Arrival {
    #[inline]
    pub(super) fn new(arena: &'static Arena) -> Self {
        let block = Block { offset: 0, capacity: 0 };
        Self { arena, length: 0, form: UNPACKED, block, short: [MaybeUninit::uninit(); INLINE] }
    }

    /// Takes the object out of the place that was claimed under `ticket`; the place is to be given back next, also
    /// after damage.
    ///
    /// # Safety
    /// `from` is valid for reads, and the place there this process's own by its claim; another process may be writing to it
    /// all the same.
    #[inline]
    pub(super) unsafe fn take(&mut self, from: *const Message, carrier: u64, ticket: u64) -> Found {
        // SAFETY: by the caller; any bytes are a message. Volatile: what is checked here is what is used below, whoever
        // writes there meanwhile.
        let (place, length, form) = unsafe {
            (
                (&raw const (*from).place).read_volatile(),
                (&raw const (*from).length).read_volatile(),
                (&raw const (*from).form).read_volatile(),
            )
        };
        if form != 0 {
            return self.take_long(form, place, length, carrier, ticket);
        }
        if length as usize > INLINE {
            return Found::Damage;
        }
        (self.length, self.form) = (length, 0);
        // SAFETY: as above; both have INLINE bytes.
        unsafe {
            let bytes = (&raw const (*from).bytes).cast();
            copy_short(bytes, self.short.as_mut_ptr().cast(), length as usize);
        }
        Found::Object
    }

    #[cold]
    fn take_long(
        &mut self,
        form: u32,
        place: u64,
        length: u32,
        carrier: u64,
        ticket: u64,
    ) -> Found {
        match form {
            IN_BLOCK => {}
            VOID => return Found::Void,
            _ => return Found::Damage,
        }
        let (region, me) = (self.arena.region(), self.arena.member());
        let Ok(block) = region.take_over(me, place, carrier, ticket) else {
            return Found::Damage;
        };
        (self.block, self.length, self.form) = (block, length, IN_BLOCK);
        // Dropping it frees the block.
        if u64::from(length) > block.capacity { Found::Damage } else { Found::Object }
    }

    /// As [`take`](Self::take), but leaves a long object where it is, tied to its ticket: what is copied out of it later counts
    /// only if it is still there after that.
    ///
    /// # Safety
    /// `from` is valid for reads.
    pub(super) unsafe fn look(&mut self, from: *const Message, carrier: u64, ticket: u64) -> Found {
        // SAFETY: by the caller; any bytes are a message.
        let (place, length, form) = unsafe {
            (
                (&raw const (*from).place).read_volatile(),
                (&raw const (*from).length).read_volatile(),
                (&raw const (*from).form).read_volatile(),
            )
        };
        if form != IN_BLOCK {
            // SAFETY: by the caller; nothing is taken over where there is no block.
            return unsafe { self.take(from, carrier, ticket) };
        }
        let Ok(block) = self.arena.region().queued(place, carrier, ticket) else {
            return Found::Damage;
        };
        (self.block, self.length, self.form) = (block, length, IN_PLACE);
        if u64::from(length) > block.capacity { Found::Damage } else { Found::Object }
    }

    /// Whether it is a long object that was only [looked](Self::look) at.
    pub(super) fn is_in_place(&self) -> bool {
        self.form == IN_PLACE
    }

    /// How many bytes it has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.length as usize
    }

    /// The bytes of a short object; `None` for others.
    #[inline]
    fn short(&self) -> Option<&[u8]> {
        if self.form != 0 {
            return None;
        }
        // SAFETY: `take` has filled at least `length` bytes, which are at most INLINE.
        Some(unsafe { std::slice::from_raw_parts(self.short.as_ptr().cast(), self.len()) })
    }

    /// Decodes it, or says why not in the caller's own error: each conversion of a `Result` would move the object.
    #[inline(always)]
    pub(super) fn unpack<T: DeserializeOwned, E>(
        &self,
        refused: impl FnOnce(Unpacked) -> E,
    ) -> Result<T, E> {
        match self.short() {
            Some(bytes) => decode_or(bytes, |error| refused(Unpacked::Refused(error))),
            None => self.unpack_long().map_err(refused),
        }
    }

    #[cold]
    fn unpack_long<T: DeserializeOwned>(&self) -> Result<T, Unpacked> {
        let bytes = self.bytes().map_err(|_| Unpacked::Damaged)?;
        decode_or(&bytes, Unpacked::Refused)
    }

    /// A copy of its bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Damaged> {
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

    /// Copies its bytes to the front of `room`, if they fit.
    pub(super) fn copy_into(&self, room: &mut [u8]) -> Result<bool, Damaged> {
        if self.len() > room.len() {
            return Ok(false);
        }
        // SAFETY: there is room for so many.
        unsafe { self.copy_to(room.as_mut_ptr())? };
        Ok(true)
    }

    /// # Safety
    /// There is room for [`len`](Self::len) bytes.
    unsafe fn copy_to(&self, to: *mut u8) -> Result<(), Damaged> {
        if let Some(bytes) = self.short() {
            // SAFETY: by the caller.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            return Ok(());
        }
        let length = u64::from(self.length);
        if !matches!(self.form, IN_BLOCK | IN_PLACE) || length > self.block.capacity {
            return Err(Damaged);
        }
        let place = self.arena.region().bytes(self.block.offset, length, 1).map_err(|_| Damaged)?;
        // A copy out before it is looked at: another process might still write to it.
        // SAFETY: the bytes lie in the region; by the caller there is room for them.
        unsafe { to.copy_from_nonoverlapping(place.as_ptr(), length as usize) };
        Ok(())
    }

    #[cold]
    fn give_back(&mut self) {
        let _ = self.arena.region().free_message(self.arena.member(), self.block);
    }
}

impl Drop for Arrival {
    #[inline]
    fn drop(&mut self) {
        if self.form == IN_BLOCK {
            self.give_back();
        }
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
