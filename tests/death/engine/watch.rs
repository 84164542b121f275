//! Sees whether shared memory has changed, page by page, against a copy.
//!
//! Comparing a whole region at each step would be slow. So the child runs once unstepped, and its
//! page table tells which pages it has touched at all; the recording watches those, and tells which
//! of them ever changed; the kills watch only these.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::operation::Span;

const PAGE: usize = 4096;

/// Pages under watch.
pub struct Watch {
    pages: Vec<Page>,
}

struct Page {
    address: usize,
    copy: Box<[u8; PAGE]>,
    changed: bool,
}

impl Watch {
    /// Watches these pages from now on.
    pub fn new(pages: &[u64]) -> Watch {
        let pages = pages.iter().map(|&address| {
            let address = address as usize;
            let mut page = Page { address, copy: Box::new([0; PAGE]), changed: false };
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
                page.changed = true;
                any = true;
            }
        }
        any
    }

    /// The pages that have ever changed.
    pub fn changed_pages(&self) -> Vec<u64> {
        self.pages.iter().filter(|page| page.changed).map(|page| page.address as u64).collect()
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

/// The pages of `memory` that process `pid` has touched since it was forked: a fork does not copy
/// the page table entries of shared memory.
pub fn touched_pages(pid: i32, memory: &[Span]) -> Result<Vec<u64>, String> {
    let path = format!("/proc/{pid}/pagemap");
    let map = File::open(&path).map_err(|e| format!("{path}: {e}"))?;
    let mut pages = Vec::new();
    for span in memory {
        let first = span.start / PAGE;
        let last = (span.start + span.len).div_ceil(PAGE);
        let mut entries = vec![0; (last - first) * 8];
        map.read_exact_at(&mut entries, first as u64 * 8).map_err(|e| format!("{path}: {e}"))?;
        for (page, entry) in (first..last).zip(entries.as_chunks::<8>().0) {
            // Present or swapped.
            if u64::from_ne_bytes(*entry) >> 62 != 0 {
                pages.push((page * PAGE) as u64);
            }
        }
    }
    Ok(pages)
}
