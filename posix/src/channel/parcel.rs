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
//! - Handles of which there are only so many go along as luggage: see `luggage.rs`. Their names stand behind the bytes of the
//!   object.

use std::mem::MaybeUninit;

use procession_core::region::{AllocError, Block};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::copy::copy_in;
use super::luggage::{ITEM, Luggage, Packing};
use super::message::{FORMS, IN_BLOCK, INLINE, LUGGAGE, LUGGAGE_SHIFT, Message, NEAR, VOID};
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
    luggage: Option<Box<Luggage>>,
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
        Self { arena, length: 0, form: UNPACKED, block, luggage: None, short: [0; INLINE] }
    }

    /// Encodes an object.
    #[inline]
    pub(super) fn pack<T: Serialize + ?Sized>(
        &mut self,
        object: &T,
        largest: u64,
    ) -> Result<(), PackError> {
        let packing = Packing::begin();
        match postcard::to_slice(object, &mut self.short) {
            Ok(encoded) => self.length = encoded.len() as u32,
            Err(error) => {
                // What was listed by then goes back: it is encoded once more.
                drop(packing);
                return self.pack_long(error, object, largest);
            }
        }
        if let Some(luggage) = packing.end() {
            let encoded = self.short[..self.length as usize].to_vec();
            return self.pack_luggage(encoded, luggage, largest);
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
        let packing = Packing::begin();
        let encoded = postcard::to_stdvec(object).map_err(PackError::Encode)?;
        match packing.end() {
            None => self.long_bytes(&encoded, largest),
            Some(luggage) => self.pack_luggage(encoded, luggage, largest),
        }
    }

    /// An object and what goes along with it.
    #[cold]
    fn pack_luggage(
        &mut self,
        mut encoded: Vec<u8>,
        luggage: Luggage,
        largest: u64,
    ) -> Result<(), PackError> {
        let (length, count) = (encoded.len(), luggage.ends() as u32);
        encoded.extend_from_slice(luggage.as_bytes());
        self.luggage = Some(Box::new(luggage));
        match self.short.get_mut(..encoded.len()) {
            Some(room) => {
                room.copy_from_slice(&encoded);
                check(length as u64, largest)?;
                self.form = LUGGAGE | count << LUGGAGE_SHIFT;
            }
            None => {
                self.long_bytes(&encoded, largest)?;
                self.form |= LUGGAGE | count << LUGGAGE_SHIFT;
            }
        }
        self.length = length as u32;
        Ok(())
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
        unsafe { copy_in(bytes.as_ptr(), place.as_ptr(), bytes.len()) };
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
        let handed = match self.form & FORMS {
            0 => true,
            IN_BLOCK => region.hand_over(me, self.block, carrier, ticket).is_ok(),
            _ => false,
        };
        let form = if handed { std::mem::replace(&mut self.form, UNPACKED) } else { VOID };
        // SAFETY: by the caller; both have INLINE bytes.
        unsafe {
            (&raw mut (*to).place).write(self.block.offset);
            (&raw mut (*to).length).write(self.length);
            (&raw mut (*to).form).write(form);
            copy_short(self.short.as_ptr(), (&raw mut (*to).bytes).cast(), INLINE);
        }
        if !handed {
            return Err(Damaged);
        }
        if let Some(mut luggage) = self.luggage.take() {
            luggage.send(carrier, ticket);
        }
        Ok(())
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
        if self.form & FORMS == IN_BLOCK {
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
    /// What is not decoded goes back with it.
    luggage: Option<Box<Luggage>>,
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
        let short = [MaybeUninit::uninit(); INLINE];
        Self { arena, length: 0, form: UNPACKED, block, luggage: None, short }
    }

    /// Gives back what it took, to be filled again.
    #[inline]
    pub(super) fn clear(&mut self) {
        if self.form != 0 || self.luggage.is_some() {
            *self = Self::new(self.arena);
        }
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
            // SAFETY: by the caller.
            return unsafe { self.take_long(from, (place, length, form), carrier, ticket) };
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

    /// # Safety
    /// As [`take`](Self::take).
    #[cold]
    unsafe fn take_long(
        &mut self,
        from: *const Message,
        (place, length, form): (u64, u32, u32),
        carrier: u64,
        ticket: u64,
    ) -> Found {
        let names = (form >> LUGGAGE_SHIFT) as usize * ITEM;
        let whole = u64::from(length) + names as u64;
        match form & FORMS {
            0 if whole <= INLINE as u64 => {
                // SAFETY: by the caller; both have INLINE bytes.
                unsafe {
                    let bytes = (&raw const (*from).bytes).cast();
                    copy_short(bytes, self.short.as_mut_ptr().cast(), INLINE);
                }
                (self.length, self.form) = (length, 0);
            }
            IN_BLOCK => {
                let (region, me) = (self.arena.region(), self.arena.member());
                let Ok(block) = region.take_over(me, place, carrier, ticket) else {
                    return Found::Damage;
                };
                // Dropping it frees the block.
                (self.block, self.length, self.form) = (block, length, IN_BLOCK);
                if whole > block.capacity {
                    return Found::Damage;
                }
            }
            VOID => return Found::Void,
            _ => return Found::Damage,
        }
        if names == 0 {
            return Found::Object;
        }
        let mut listed = Vec::new();
        if listed.try_reserve_exact(names).is_err() {
            return Found::Damage;
        }
        // SAFETY: there is room for so many bytes, and all of them are written.
        unsafe {
            if self.copy_from(length as usize, listed.as_mut_ptr(), names).is_err() {
                return Found::Damage;
            }
            listed.set_len(names);
        }
        self.luggage = Some(Box::new(Luggage::take(&listed, carrier, ticket)));
        Found::Object
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
        // Luggage stays, too: an end that is decoded is a further copy.
        let whole = u64::from(length) + ((form >> LUGGAGE_SHIFT) as usize * ITEM) as u64;
        match form & FORMS {
            0 if whole <= INLINE as u64 => {
                (self.length, self.form) = (length, 0);
                // SAFETY: by the caller; both have INLINE bytes.
                unsafe {
                    let bytes = (&raw const (*from).bytes).cast();
                    copy_short(bytes, self.short.as_mut_ptr().cast(), length as usize);
                }
                Found::Object
            }
            IN_BLOCK => {
                let Ok(block) = self.arena.region().queued(place, carrier, ticket) else {
                    return Found::Damage;
                };
                (self.block, self.length, self.form) = (block, length, IN_PLACE);
                if whole > block.capacity { Found::Damage } else { Found::Object }
            }
            VOID => Found::Void,
            _ => Found::Damage,
        }
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
        // SAFETY: by the caller.
        unsafe { self.copy_from(0, to, self.len()) }
    }

    /// Copies `count` of its bytes, from `at` on, luggage included.
    ///
    /// # Safety
    /// There is room for so many.
    unsafe fn copy_from(&self, at: usize, to: *mut u8, count: usize) -> Result<(), Damaged> {
        if self.form == 0 {
            if at.saturating_add(count) > INLINE {
                return Err(Damaged);
            }
            let start = self.short.as_ptr().cast::<u8>().wrapping_add(at);
            // SAFETY: `take` has filled so many of the INLINE bytes; by the caller there is room for them.
            unsafe { to.copy_from_nonoverlapping(start, count) };
            return Ok(());
        }
        let (at, length) = (at as u64, count as u64);
        let somewhere = matches!(self.form, IN_BLOCK | IN_PLACE);
        if !somewhere || at + length > self.block.capacity {
            return Err(Damaged);
        }
        let region = self.arena.region();
        let place = region.bytes(self.block.offset + at, length, 1).map_err(|_| Damaged)?;
        // A copy out before it is looked at: another process might still write to it.
        // SAFETY: the bytes lie in the region; by the caller there is room for them.
        unsafe { to.copy_from_nonoverlapping(place.as_ptr(), count) };
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
