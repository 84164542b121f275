//! Sees whether shared memory has changed, page by page, against a copy.
//!
//! Comparing a whole region at each step would be slow. So the child runs once unstepped, with the
//! memory protected, and each page that it writes to is noted; only these are watched.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};

use rustix::mm::{MprotectFlags, mprotect};

use super::memory::{Memory, Span};

const PAGE: usize = 4096;

/// Pages under watch.
pub struct Watch {
    pages: Vec<Page>,
}

struct Page {
    address: usize,
    copy: Box<[u8; PAGE]>,
}

impl Watch {
    /// Watches these pages of `memory`, given as offsets, from now on.
    pub fn new(memory: Span, pages: &[u64]) -> Watch {
        let pages = pages.iter().map(|&offset| {
            let address = memory.start + offset as usize;
            let mut page = Page { address, copy: Box::new([0; PAGE]) };
            page.take();
            page
        });
        Watch { pages: pages.collect() }
    }

    /// Whether anything changed since the last question.
    pub fn has_changed(&mut self) -> bool {
        let mut any = false;
        for page in &mut self.pages {
            // SAFETY: both are readable for a page; the child, who writes there, is stopped.
            let order =
                unsafe { libc::memcmp(page.address as *const _, page.copy.as_ptr().cast(), PAGE) };
            if order != 0 {
                page.take();
                any = true;
            }
        }
        any
    }
}

impl Page {
    fn take(&mut self) {
        // SAFETY: the scene's memory is mapped readable here as in the child, who is stopped; the
        // copy is our own.
        unsafe {
            std::ptr::copy_nonoverlapping(self.address as *const u8, self.copy.as_mut_ptr(), PAGE);
        }
    }
}

/// Finds out which pages a process writes to, even if it writes what is there already: the memory is
/// protected, and each first write to a page is noted when it faults.
///
/// Made before the fork; [`arm`](Self::arm) is called in the child.
#[derive(Clone, Copy)]
pub struct Trap {
    /// How many pages were written to, then their addresses.
    notes: &'static [AtomicU64],
}

/// For the signal handler: the notes, and the memory that is protected.
static NOTES: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
static START: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
const MOST_NOTES: usize = 8191;

impl Trap {
    pub fn new() -> Trap {
        let memory = Memory::new((MOST_NOTES + 1) * 8);
        // SAFETY: the mapping is zeroed, aligned to a page, never unmapped, and only seen as atomics.
        let notes = unsafe {
            std::slice::from_raw_parts(memory.start().cast::<AtomicU64>(), MOST_NOTES + 1)
        };
        Trap { notes }
    }

    /// Protects the memory of this process from now on.
    pub fn arm(self, memory: Span) -> Result<(), String> {
        NOTES.store(self.notes.as_ptr().cast_mut(), Relaxed);
        START.store(memory.start, Relaxed);
        END.store(memory.start + memory.len, Relaxed);
        // SAFETY: all zero is a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: the handler calls mprotect and touches atomics only.
        if unsafe { libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()) } != 0 {
            return Err(format!("sigaction: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: the memory stays mapped and readable; writes to it fault, and are let through.
        unsafe { mprotect(memory.start as *mut _, memory.len, MprotectFlags::READ) }
            .map_err(|e| format!("mprotect: {e}"))
    }

    /// The pages of `memory` that were written to, as offsets: each take maps it elsewhere.
    pub fn written(self, memory: Span) -> Result<Vec<u64>, String> {
        let count = self.notes[0].load(Relaxed) as usize;
        let pages = self.notes.get(1..=count).ok_or("too many pages were written to")?;
        Ok(pages.iter().map(|page| page.load(Relaxed) - memory.start as u64).collect())
    }
}

/// A write to a protected page: notes the page, and lets the write through when it is tried again.
extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo for a fault.
    let address = unsafe { (*info).si_addr() } as usize;
    let page = address & !(PAGE - 1);
    let notes = NOTES.load(Relaxed);
    if !(START.load(Relaxed)..END.load(Relaxed)).contains(&address) || notes.is_null() {
        // A fault of another kind: it comes again, and ends the process.
        // SAFETY: restores the default action.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: NOTES points to MOST_NOTES + 1 atomics that live as long as the process.
    unsafe {
        let count = (*notes).fetch_add(1, Relaxed) as usize;
        if count < MOST_NOTES {
            (*notes.add(1 + count)).store(page as u64, Relaxed);
        }
    }
    // SAFETY: makes a page of the scene's memory what it was before.
    let _ = unsafe { mprotect(page as *mut _, PAGE, MprotectFlags::READ | MprotectFlags::WRITE) };
}
