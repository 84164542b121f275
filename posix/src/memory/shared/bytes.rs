//! Copying bytes out of memory that others may write, and into it.
//!
//! Each word of 8 bytes that lies at a multiple of 8 is copied in one step, what is left at both ends byte by byte: atomic
//! loads and stores, so that two who copy at the same time may mix their words, and nothing worse.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

const WORD: usize = size_of::<u64>();

/// The bytes before the first whole word, the whole words, and the bytes behind.
type Parts<'m> = (&'m [AtomicU8], &'m [AtomicU64], &'m [AtomicU8]);

/// # Safety
/// The bytes are mapped for `'m`, and writable if the parts are written to; while the parts are in use they are accessed as
/// atomics only.
unsafe fn parts<'m>(start: *const u8, length: usize) -> Parts<'m> {
    // SAFETY: by the caller; atomics have the size and, word by word, the alignment of what they stand for.
    unsafe { std::slice::from_raw_parts(start.cast::<AtomicU8>(), length).align_to() }
}

/// Copies from shared memory until `to` is full.
///
/// # Safety
/// So many bytes from `from` on are mapped readable; whoever else accesses them meanwhile does so atomically, or in another
/// process.
pub(super) unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
    // SAFETY: by the caller, and nothing is written.
    let (front, words, back) = unsafe { parts(from, to.len()) };
    let (to_front, to) = to.split_at_mut(front.len());
    let (to_words, to_back) = to.split_at_mut(words.len() * WORD);
    for (to, byte) in to_front.iter_mut().zip(front) {
        *to = byte.load(Ordering::Relaxed);
    }
    for (to, word) in to_words.chunks_exact_mut(WORD).zip(words) {
        to.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    for (to, byte) in to_back.iter_mut().zip(back) {
        *to = byte.load(Ordering::Relaxed);
    }
    // Together with the loads it meets the Release of those who wrote.
    fence(Ordering::Acquire);
}

/// Copies all of `from` into shared memory.
///
/// # Safety
/// So many bytes from `to` on are mapped writable; whoever else accesses them meanwhile does so atomically, or in another
/// process.
pub(super) unsafe fn copy_in(from: &[u8], to: *mut u8) {
    // Together with the stores it meets the Acquire of those who read.
    fence(Ordering::Release);
    // SAFETY: by the caller.
    let (front, words, back) = unsafe { parts(to, from.len()) };
    let (from_front, from) = from.split_at(front.len());
    let (from_words, from_back) = from.split_at(words.len() * WORD);
    for (from, byte) in from_front.iter().zip(front) {
        byte.store(*from, Ordering::Relaxed);
    }
    for (from, word) in from_words.chunks_exact(WORD).zip(words) {
        // Each chunk is a word long.
        word.store(from.try_into().map_or(0, u64::from_ne_bytes), Ordering::Relaxed);
    }
    for (from, byte) in from_back.iter().zip(back) {
        byte.store(*from, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_are_copied_and_no_others() {
        for shift in 0..9 {
            for length in 0..40 {
                let mut memory = [0u64; 8];
                let start = memory.as_mut_ptr().cast::<u8>();
                let from: Vec<u8> = (1..=length as u8).collect();
                let mut to = vec![0; length];
                // SAFETY: 9 + 40 bytes lie within the memory, and nobody else uses it.
                unsafe {
                    copy_in(&from, start.add(shift));
                    copy_out(start.add(shift), &mut to);
                }
                assert_eq!(to, from);
                let all: &[u8] = bytemuck::cast_slice(&memory);
                let (before, after) = (&all[..shift], &all[shift + length..]);
                assert_eq!(all[shift..shift + length], from);
                assert!(before.iter().chain(after).all(|&byte| byte == 0));
            }
        }
    }
}
