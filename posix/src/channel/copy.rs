//! Copying a long message into its block.
//!
//! Who reads it runs on another processor. Of a line that this one has just written, that one has to fetch a copy out of this one's
//! cache, one by one: measured for 1 MiB, 400 to 500 µs. Written past the cache the message is in memory, where it is read as fast as any
//! (100 µs), and pushes nothing out of the writer's cache. For a short one the cache is worth more: it is still there when the other
//! looks.

/// From how many bytes on.
#[cfg(target_arch = "x86_64")]
const PAST_CACHE: usize = 64 << 10;

/// Copies `count` bytes, which others will read.
///
/// # Safety
/// `from` is valid for reads of so many bytes, `to` for writes; they do not overlap.
#[inline]
pub(crate) unsafe fn copy_in(from: *const u8, to: *mut u8, count: usize) {
    #[cfg(target_arch = "x86_64")]
    if count >= PAST_CACHE {
        // SAFETY: by the caller.
        return unsafe { copy_past_cache(from, to, count) };
    }
    // SAFETY: by the caller.
    unsafe { to.copy_from_nonoverlapping(from, count) };
}

/// # Safety
/// As [`copy_in`].
#[cfg(target_arch = "x86_64")]
#[cold]
unsafe fn copy_past_cache(from: *const u8, to: *mut u8, count: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    /// A line of the cache, of four parts.
    const LINE: usize = 64;
    const PART: usize = size_of::<__m128i>();

    let front = to.align_offset(LINE).min(count);
    let lines = (count - front) / LINE;
    let rest = front + lines * LINE;
    // SAFETY: all of it lies within `count` bytes of both. The stores are to multiples of LINE and PART. Every x86-64 has these
    // instructions.
    unsafe {
        to.copy_from_nonoverlapping(from, front);
        for line in 0..lines {
            let at = front + line * LINE;
            let parts: [__m128i; 4] =
                std::array::from_fn(|part| _mm_loadu_si128(from.add(at + part * PART).cast()));
            for (number, part) in parts.into_iter().enumerate() {
                _mm_stream_si128(to.add(at + number * PART).cast(), part);
            }
        }
        to.add(rest).copy_from_nonoverlapping(from.add(rest), count - rest);
        // Such stores are ordered by nothing less: they come before whatever publishes the message.
        _mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_bytes_are_copied_and_no_others() {
        for (shift, count) in [(0, 0), (3, 100), (0, 128 << 10), (1, 128 << 10), (63, 200_001)] {
            let from: Vec<u8> = (0..count + 7).map(|at| (at * 31) as u8).collect();
            let mut to = vec![0xEE; count + 200];
            // SAFETY: both have so many bytes, and are two vectors.
            unsafe { super::copy_in(from[7..].as_ptr(), to[shift..].as_mut_ptr(), count) };
            assert!(to[shift..shift + count] == from[7..]);
            assert!(to[..shift].iter().chain(&to[shift + count..]).all(|&byte| byte == 0xEE));
        }
    }
}
