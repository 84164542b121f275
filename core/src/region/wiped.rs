//! Words that fork wipes: each process finds zero there until it writes its own.

use core::sync::atomic::AtomicU32;
use std::sync::Mutex;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// One page; a word of it is handed out for each membership and never taken back.
const PAGE: usize = 4096;
const WORDS: usize = PAGE / size_of::<AtomicU32>();

static PAGE_IN_USE: Mutex<(usize, usize)> = Mutex::new((0, WORDS));

/// A word of this process that reads zero in a forked child. Where the kernel cannot wipe (before 4.14) or no
/// memory is left, a word that a child inherits: there a child has to join anew by itself.
pub(super) fn word() -> &'static AtomicU32 {
    // A thread that panicked here had changed nothing halfway.
    let mut page = PAGE_IN_USE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if page.1 == WORDS {
        let Some(fresh) = fresh_page() else {
            return std::boxed::Box::leak(std::boxed::Box::default());
        };
        *page = (fresh, 0);
    }
    let (base, used) = *page;
    page.1 += 1;
    // SAFETY: `base` is a page that was mapped below and is never unmapped, `used` is below WORDS, and zeroed
    // memory is a valid AtomicU32.
    unsafe { &*(base as *const AtomicU32).add(used) }
}

fn fresh_page() -> Option<usize> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let page = unsafe {
        mmap_anonymous(
            core::ptr::null_mut(),
            PAGE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .ok()?;
    // SAFETY: the page is this function's own, and nothing is in it yet.
    unsafe { madvise(page, PAGE, Advice::LinuxWipeOnFork) }.ok()?;
    Some(page as usize)
}
