//! How inputs and answers lie in the memory that a pool shares with its workers.
//!
//! ```text
//! cell    Head | room                     a short chunk: the room is the rest of the cell's payload
//! cell    Head         block: room        a longer one
//! room    the inputs, one behind the other | names of luggage | the answers, one behind the other | free
//! ```
//!
//! Each input and each answer has a mark in front of it that says how long it is: one that cannot be decoded costs itself only.
//!
//! ```text
//! mark    length 6 | sort 2               lengths up to 62
//! mark    63 | sort 2, length 32          others
//! ```
//!
//! Nothing that is read here is trusted: it is copied out, and each length is checked.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use bytemuck::{Pod, Zeroable};
use procession_core::pool::PAYLOAD;
use procession_core::sys::prefetch_to_write;
use serde::{Deserialize, Serialize};

use super::encode::encode;

use crate::channel::copy_in;

/// What stands in front of each chunk, in its cell. Few bytes: with the cell's word, a number in and a number out make one line of the
/// cache.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Head {
    /// Where the room lies: 0 is behind this head, else a block of the arena.
    pub(super) place: u64,
    /// Where the work is found in the program.
    pub(super) work: u32,
    /// Bytes of the inputs.
    pub(super) length: u32,
    /// By the worker: how many bytes of answers there are, once the chunk is done.
    pub(super) written: u32,
    /// What the worker is to say of time: [`UNTIMED`], [`TIMED`], [`BEGUN`]; and then how many nanoseconds it was busy, 0 if it does
    /// not know.
    pub(super) nanos: u32,
    /// A number made of the work's name.
    pub(super) name: u16,
    /// How many inputs there are.
    pub(super) count: u16,
    /// How many names of luggage stand behind them.
    pub(super) luggage: u16,
    /// The first bytes of the room.
    pub(super) room: [u8; 2],
}

/// Nothing.
pub(super) const UNTIMED: u32 = 0;
/// How long it was busy.
pub(super) const TIMED: u32 = 1;
/// Also when it began, and that at once.
pub(super) const BEGUN: u32 = 2;

/// Where the room in a cell begins, and how many bytes it has.
pub(super) const HEAD: usize = std::mem::offset_of!(Head, room);
pub(super) const CELL_ROOM: usize = BEGUN_AT - HEAD;

/// The last word of the payload.
const BEGUN_AT: usize = PAYLOAD - size_of::<AtomicU64>();

/// Where a worker says in a cell when it began, by the monotonic clock in nanoseconds; 0 before.
///
/// # Safety
/// `payload` is that of a cell.
pub(super) unsafe fn begun<'a>(payload: NonNull<u8>) -> &'a AtomicU64 {
    // SAFETY: by the caller it has so many bytes, at a multiple of 16, which stay as long as the arena. Everybody uses this word as an
    // atomic.
    unsafe { payload.add(BEGUN_AT).cast().as_ref() }
}

/// What an input or an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Sort {
    /// An encoded input, or result.
    Plain = 0,
    /// An answer that lies in a block of its own: an [`Away`].
    Away = 1,
    /// Why there is no result: a [`Trouble`].
    Trouble = 2,
    /// An input that could not be encoded, and the answer to it: nothing is to be done.
    Void = 3,
}

impl Sort {
    fn of(bits: u8) -> Self {
        match bits & 3 {
            0 => Sort::Plain,
            1 => Sort::Away,
            2 => Sort::Trouble,
            _ => Sort::Void,
        }
    }
}

/// An answer in a block of its own.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Away {
    pub(super) place: u64,
    pub(super) length: u32,
    /// Names of luggage behind it.
    pub(super) luggage: u16,
    /// 0: a result, 1: a [`Trouble`].
    pub(super) trouble: u16,
}

pub(super) const AWAY: usize = size_of::<Away>();

/// Why a task has no result, as its worker says.
#[derive(Serialize, Deserialize, Debug)]
pub(super) enum Trouble {
    Panicked {
        pid: u32,
        message: String,
        location: Option<String>,
        backtrace: Option<String>,
    },
    /// The arguments do not decode.
    Arguments(String),
    /// The result does not encode.
    Result(String),
    /// There is no room for the result.
    NoRoom {
        bytes: u64,
        message: String,
    },
}

/// Bytes of a short mark and of a long one.
const SHORT: usize = 1;
const LONG: usize = 5;
/// The longest for which a short mark does.
const SHORT_MOST: usize = 62;
/// The most that a mark may take.
pub(super) const MARK: usize = LONG;

/// Reads the mark at the front: (sort, where the bytes begin, where they end). `None` if they are not there.
#[inline(always)]
pub(super) fn read_mark(bytes: &[u8]) -> Option<(Sort, usize, usize)> {
    let first = *bytes.first()?;
    let length = usize::from(first >> 2);
    if length <= SHORT_MOST {
        let end = SHORT + length;
        return (end <= bytes.len()).then_some((Sort::of(first), SHORT, end));
    }
    let long = bytes.get(SHORT..LONG)?.try_into().ok()?;
    let end = LONG.checked_add(u32::from_le_bytes(long) as usize)?;
    (end <= bytes.len()).then_some((Sort::of(first), LONG, end))
}

/// The same, where objects of so many bytes are expected.
#[inline(always)]
pub(super) fn read_mark_of(bytes: &[u8], expected: Option<usize>) -> Option<(Sort, usize, usize)> {
    match expected {
        Some(size) if bytes.len() > size && bytes[0] == short_mark(size) => {
            Some((Sort::Plain, SHORT, SHORT + size))
        }
        _ => read_mark(bytes),
    }
}

/// What stands in front of an object of so many bytes, 62 at most.
#[inline(always)]
const fn short_mark(size: usize) -> u8 {
    (size as u8) << 2 | Sort::Plain as u8
}

/// So far ahead of what is written memory is brought here, in bytes: for as long as that takes.
const AHEAD: usize = 512;

/// A part of memory that only this process writes to at present, though others may read it: where encoded bytes go.
pub(super) struct Out<'m> {
    at: NonNull<u8>,
    left: usize,
    memory: PhantomData<&'m ()>,
}

impl<'m> Out<'m> {
    /// # Safety
    /// `bytes` bytes from `at` are valid for writes for `'m`.
    #[inline(always)]
    pub(super) unsafe fn new(at: NonNull<u8>, bytes: usize) -> Self {
        Self { at, left: bytes, memory: PhantomData }
    }

    /// How many bytes there is room for.
    #[inline(always)]
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The same, but for so many bytes at the end.
    #[inline(always)]
    pub(super) fn without(&self, reserve: usize) -> Out<'m> {
        Out { at: self.at, left: self.left.saturating_sub(reserve), memory: PhantomData }
    }

    /// Takes what was written through `other`, which was made by [`without`](Self::without) the same reserve.
    #[inline(always)]
    pub(super) fn advance(&mut self, other: &Out<'m>, reserve: usize) {
        (self.at, self.left) = (other.at, other.left + reserve);
    }

    /// Whether so many bytes fit, with a mark in front.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        bytes.checked_add(MARK).is_some_and(|all| all <= self.left)
    }

    /// Writes bytes; false, and nothing is written, if they do not fit.
    #[inline(always)]
    pub(super) fn put(&mut self, bytes: &[u8]) -> bool {
        let count = bytes.len();
        if count > self.left {
            return false;
        }
        // SAFETY: there is room for so many, by `new` and the check; what this process has in a slice is not the shared memory.
        unsafe {
            copy(bytes.as_ptr(), self.at.as_ptr(), count);
            self.at = self.at.add(count);
        }
        self.left -= count;
        true
    }

    /// Writes a number, seven bits a byte, the lowest first; false if it does not fit.
    #[inline(always)]
    pub(super) fn put_number(&mut self, mut number: u64) -> bool {
        const MOST: usize = 10;
        if self.left < MOST {
            return self.put_last_number(number);
        }
        let start = self.at;
        let mut at = start;
        // SAFETY: no number has more than MOST bytes, for which there is room.
        unsafe {
            while number >= 0x80 {
                at.write(number as u8 | 0x80);
                at = at.add(1);
                number >>= 7;
            }
            at.write(number as u8);
            at = at.add(1);
        }
        self.left -= at.addr().get() - start.addr().get();
        self.at = at;
        true
    }

    #[cold]
    fn put_last_number(&mut self, mut number: u64) -> bool {
        while number >= 0x80 {
            if !self.put(&[number as u8 | 0x80]) {
                return false;
            }
            number >>= 7;
        }
        self.put(&[number as u8])
    }

    /// Writes a mark and what `sort` and `bytes` say; false, and nothing is written, if they do not fit.
    pub(super) fn put_marked(&mut self, sort: Sort, bytes: &[u8]) -> bool {
        let Ok(length) = u32::try_from(bytes.len()) else { return false };
        if bytes.len() <= SHORT_MOST {
            return bytes.len() + SHORT <= self.left
                && self.put(&[(bytes.len() as u8) << 2 | sort as u8])
                && self.put(bytes);
        }
        if bytes.len().saturating_add(LONG) > self.left {
            return false;
        }
        self.put(&[0xFC | sort as u8]) && self.put(&length.to_le_bytes()) && self.put(bytes)
    }

    /// Encodes an object with a mark in front. `long` guesses that it is long, and learns whether it was: a wrong guess costs a
    /// move, or four bytes. On an error nothing counts as written, though bytes behind may have been.
    #[inline(always)]
    pub(super) fn encode<T: Serialize + ?Sized>(
        &mut self,
        object: &T,
        long: &mut bool,
    ) -> Result<(), postcard::Error> {
        let front = if *long { LONG } else { SHORT };
        if self.left < front {
            return Err(postcard::Error::SerializeBufferFull);
        }
        // SAFETY: there is room for the mark, and behind it so many bytes are left.
        let mut body = unsafe { Out::new(self.at.add(front), self.left - front) };
        encode(object, &mut body)?;
        let Out { at: end, left, .. } = body;
        let length = self.left - front - left;
        if front == SHORT && length <= SHORT_MOST {
            // SAFETY: there is room for the mark.
            unsafe { self.at.write((length as u8) << 2) };
            (self.at, self.left) = (end, left);
            return Ok(());
        }
        self.finish_long(front, length, long)
    }

    /// Encodes one of many objects, as `encode`. `number`: [`size_of_number`](super::bulk::size_of_number) of its type.
    #[inline(always)]
    pub(super) fn encode_next<T: Serialize + ?Sized>(
        &mut self,
        object: &T,
        number: Option<usize>,
        long: &mut bool,
    ) -> Result<(), postcard::Error> {
        // The other side has read what was here before, and has it still: the processor would wait at each line.
        prefetch_to_write(self.at.as_ptr().wrapping_add(AHEAD));
        let Some(size) = number else { return self.encode(object, long) };
        if self.left < SHORT + size {
            return Err(postcard::Error::SerializeBufferFull);
        }
        // SAFETY: there is room for the mark, and behind it for so many bytes.
        unsafe {
            let mut body = Out::new(self.at.add(SHORT), size);
            encode(object, &mut body)?;
            self.at.write(short_mark(size));
            self.at = self.at.add(SHORT + size);
        }
        self.left -= SHORT + size;
        Ok(())
    }

    #[inline(never)]
    fn finish_long(
        &mut self,
        front: usize,
        length: usize,
        long: &mut bool,
    ) -> Result<(), postcard::Error> {
        *long = length > SHORT_MOST;
        let full = postcard::Error::SerializeBufferFull;
        let number = u32::try_from(length).map_err(|_| full)?;
        if LONG + length > self.left {
            return Err(postcard::Error::SerializeBufferFull);
        }
        let at = self.at.as_ptr();
        // SAFETY: mark and object fit, by the check; the object lies behind `front` bytes.
        unsafe {
            if front != LONG {
                at.add(front).copy_to(at.add(LONG), length);
            }
            at.write(0xFC);
            at.add(SHORT).cast::<[u8; 4]>().write_unaligned(number.to_le_bytes());
            self.at = self.at.add(LONG + length);
        }
        self.left -= LONG + length;
        Ok(())
    }
}

/// Copies `count` bytes; the few bytes of a number without a call.
///
/// # Safety
/// `from` is valid for reads of so many bytes, `to` for writes; they do not overlap.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: by the caller; each pair of moves covers all `count` bytes and no others.
    unsafe {
        match count {
            0 => {}
            1 => to.write(from.read()),
            2..=3 => {
                let (front, back) = (from.cast::<u16>(), from.add(count - 2).cast::<u16>());
                let (front, back) = (front.read_unaligned(), back.read_unaligned());
                to.cast::<u16>().write_unaligned(front);
                to.add(count - 2).cast::<u16>().write_unaligned(back);
            }
            4..=7 => {
                let (front, back) = (from.cast::<u32>(), from.add(count - 4).cast::<u32>());
                let (front, back) = (front.read_unaligned(), back.read_unaligned());
                to.cast::<u32>().write_unaligned(front);
                to.add(count - 4).cast::<u32>().write_unaligned(back);
            }
            8..=16 => {
                let (front, back) = (from.cast::<u64>(), from.add(count - 8).cast::<u64>());
                let (front, back) = (front.read_unaligned(), back.read_unaligned());
                to.cast::<u64>().write_unaligned(front);
                to.add(count - 8).cast::<u64>().write_unaligned(back);
            }
            _ => copy_in(from, to, count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::engine::decode::decode_or;

    fn encoded<T: Serialize>(objects: &[T], long: bool) -> Vec<u8> {
        let mut bytes = vec![0xEE_u8; 200_000];
        let room = bytes.len();
        // SAFETY: the vector is not touched while it is written to.
        let mut out = unsafe { Out::new(NonNull::new(bytes.as_mut_ptr()).unwrap(), room) };
        let mut long = long;
        objects.iter().for_each(|object| out.encode(object, &mut long).unwrap());
        let used = room - out.left();
        assert!(bytes[used..].iter().all(|&byte| byte == 0xEE));
        bytes.truncate(used);
        bytes
    }

    #[test]
    fn what_is_marked_is_found_again_whatever_was_guessed() {
        for long in [false, true] {
            let texts: Vec<String> =
                [0, 1, 5, 61, 62, 63, 100, 3, 70_000, 2].iter().map(|&n| "x".repeat(n)).collect();
            let bytes = encoded(&texts, long);
            let mut rest = &bytes[..];
            for text in &texts {
                let (sort, from, to) = read_mark(rest).unwrap();
                assert_eq!(sort, Sort::Plain);
                let found: String = decode_or(&rest[from..to], |error| error).unwrap();
                assert_eq!(&found, text);
                rest = &rest[to..];
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn numbers_are_found_where_they_are_expected() {
        let mut bytes = [0_u8; 30];
        // SAFETY: the bytes are not touched while they are written to.
        let mut out = unsafe { Out::new(NonNull::new(bytes.as_mut_ptr()).unwrap(), 30) };
        for number in [7_u64, u64::MAX, 9] {
            out.encode_next(&(number,), Some(8), &mut false).unwrap();
        }
        assert!(out.encode_next(&1_u64, Some(8), &mut false).is_err());
        assert_eq!(out.left(), 3);
        assert_eq!(bytes[..27], encoded(&[7_u64, u64::MAX, 9], false));
        let expected = Some((Sort::Plain, 1, 9));
        for from in [0, 9, 18] {
            assert_eq!(read_mark_of(&bytes[from..27], Some(8)), expected);
            assert_eq!(read_mark_of(&bytes[from..27], Some(4)), expected);
        }
        assert_eq!(read_mark_of(&bytes[..8], Some(8)), None);
    }

    #[test]
    fn what_does_not_fit_leaves_the_end_where_it_was() {
        for room in 0..80 {
            let mut bytes = vec![0_u8; room];
            // SAFETY: the vector is not touched while it is written to.
            let mut out = unsafe { Out::new(NonNull::new(bytes.as_mut_ptr()).unwrap(), room) };
            let fits = out.encode(&"x".repeat(70), &mut false).is_ok();
            assert_eq!((fits, out.left()), (room >= 76, if room >= 76 { room - 76 } else { room }));
        }
    }

    #[test]
    fn marks_that_lie_are_no_marks() {
        assert!(read_mark(&[]).is_none());
        assert!(read_mark(&[2 << 2, 7]).is_none());
        assert!(read_mark(&[0xFC, 1, 0]).is_none());
        assert!(read_mark(&[0xFC, 1, 0, 0, 0]).is_none());
        assert!(read_mark(&[0xFC, 255, 255, 255, 255, 1]).is_none());
        assert_eq!(read_mark(&[0xFE, 1, 0, 0, 0, 9]), Some((Sort::Trouble, 5, 6)));
    }
}
