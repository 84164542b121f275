//! The first page of a region, and where everything behind it lies.
//!
//! ```text
//! 0       header (magic, version, layout hash, sizes, fence mode, counters)
//! 2048    the table of sentries: 256 words
//! 4096    the participant table: 64 bytes a row
//! …       the chunk table: 16 bytes a chunk, from a page's start
//! …       the chunks: 64 KiB each, from a multiple of 64 KiB
//! ```
//!
//! States of `ready`: 0 → READY, by the creator's last store. A region that is not READY is nobody's to use. All
//! zero is invalid: a hole punched into the file is recognised.

use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::{Fences, Scope};

use super::participants::{MOST_ROWS, Participant};
use super::{Options, RegionError};

/// `process` and a byte that no text holds.
const MAGIC: u64 = u64::from_le_bytes(*b"process\xB7");
/// Counts up whenever the meaning of the memory changes.
pub const VERSION: u32 = 2;
const READY: u32 = 0x52_44_59_21;

/// How much memory a chunk is.
pub const CHUNK: u64 = 64 * 1024;
pub(super) const PAGE: u64 = 4096;
pub(super) const SENTRIES_AT: u64 = 2048;
pub(super) const SENTRIES: u64 = 256;
pub(super) const ROWS_AT: u64 = PAGE;
/// A chunk's words in the chunk table: its state, and the block word of a run that starts there.
pub(super) const CHUNK_WORDS: u64 = 2;

/// The largest region: a queue's place has to fit into a block word.
pub const LARGEST: u64 = 1 << 37;

#[repr(C)]
pub(super) struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    layout: AtomicU32,
    size: AtomicU64,
    pub(super) id: AtomicU64,
    rows: AtomicU32,
    fences: AtomicU32,
    scope: AtomicU32,
    ready: AtomicU32,
    pub(super) next_row: AtomicU32,
    pub(super) deaths: AtomicU32,
    /// How many chunks have their row in the chunk table backed by memory.
    pub(super) chunks_ready: AtomicU64,
    /// How many bytes of memory all who attach may use together.
    pub(super) limit: AtomicU64,
}

/// What a region looks like from its size and its number of rows alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub size: u64,
    pub rows: u32,
    pub chunk_table_at: u64,
    pub chunks_at: u64,
    pub chunks: u64,
}

impl Geometry {
    pub fn new(size: u64, rows: u32) -> Result<Self, RegionError> {
        let rows = rows.clamp(2, MOST_ROWS as u32);
        let size = size.min(LARGEST);
        let rows_end = ROWS_AT + u64::from(rows) * size_of::<Participant>() as u64;
        let chunk_table_at = rows_end.next_multiple_of(PAGE);
        let table_entry = CHUNK_WORDS * size_of::<u64>() as u64;
        let upper = size.saturating_sub(chunk_table_at) / (CHUNK + table_entry);
        let chunks_at = (chunk_table_at + upper * table_entry).next_multiple_of(CHUNK);
        let chunks = (size.saturating_sub(chunks_at) / CHUNK).min(upper);
        if chunks == 0 {
            let needed = (chunk_table_at + table_entry).next_multiple_of(CHUNK) + CHUNK;
            return Err(RegionError::TooSmall { given: size, needed });
        }
        Ok(Self { size, rows, chunk_table_at, chunks_at, chunks })
    }

    /// Up to where the memory has to be there before the region is used: all but chunks and their table.
    pub fn fixed_part(&self) -> u64 {
        self.chunk_table_at
    }
}

/// What the sizes and places of everything amount to: two builds that disagree on any of them must not meet.
const fn layout_hash() -> u32 {
    let facts = [
        size_of::<Header>() as u64,
        size_of::<Participant>() as u64,
        SENTRIES_AT,
        SENTRIES,
        ROWS_AT,
        CHUNK,
        CHUNK_WORDS,
        super::tag::INDEX_BITS as u64,
        super::tag::GENERATION_BITS as u64,
        size_of::<usize>() as u64,
        cfg!(target_endian = "big") as u64,
    ];
    // FNV-1a over the numbers.
    let mut hash = 0x811C_9DC5u32;
    let mut at = 0;
    while at < facts.len() {
        hash = (hash ^ facts[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

impl Header {
    /// Writes a new header; the last store makes the region ready.
    pub fn write(&self, geometry: Geometry, options: Options) {
        self.magic.store(MAGIC, Ordering::Relaxed);
        self.version.store(VERSION, Ordering::Relaxed);
        self.layout.store(layout_hash(), Ordering::Relaxed);
        self.size.store(geometry.size, Ordering::Relaxed);
        self.id.store(options.id, Ordering::Relaxed);
        self.limit.store(options.limit, Ordering::Relaxed);
        self.rows.store(geometry.rows, Ordering::Relaxed);
        self.fences.store(options.fences as u32, Ordering::Relaxed);
        self.scope.store(options.scope as u32, Ordering::Relaxed);
        // Release meets the Acquire of `read`.
        self.ready.store(READY, Ordering::Release);
    }

    /// Checks a header that somebody else has written, field by field.
    pub fn read(&self, given: u64) -> Result<(Geometry, Fences, Scope), RegionError> {
        let ready = self.ready.load(Ordering::Acquire);
        let magic = self.magic.load(Ordering::Relaxed);
        if magic != MAGIC {
            return Err(RegionError::Foreign { magic });
        }
        let version = self.version.load(Ordering::Relaxed);
        if version != VERSION {
            return Err(RegionError::OtherVersion { found: version, ours: VERSION });
        }
        let layout = self.layout.load(Ordering::Relaxed);
        if layout != layout_hash() {
            return Err(RegionError::OtherLayout { found: layout, ours: layout_hash() });
        }
        if ready != READY {
            return Err(RegionError::Unfinished);
        }
        let size = self.size.load(Ordering::Relaxed);
        if size > given {
            return Err(RegionError::Cut { size, given });
        }
        let rows = self.rows.load(Ordering::Relaxed);
        if !(2..=MOST_ROWS as u32).contains(&rows) {
            return Err(RegionError::Damaged { field: "rows", value: u64::from(rows) });
        }
        let geometry = Geometry::new(size, rows)
            .map_err(|_| RegionError::Damaged { field: "size", value: size })?;
        if geometry.size != size {
            return Err(RegionError::Damaged { field: "size", value: size });
        }
        let fences = match self.fences.load(Ordering::Relaxed) {
            1 => Fences::Asymmetric,
            2 => Fences::Full,
            other => return Err(RegionError::Damaged { field: "fences", value: u64::from(other) }),
        };
        let scope = match self.scope.load(Ordering::Relaxed) {
            1 => Scope::Shared,
            2 => Scope::Private,
            other => return Err(RegionError::Damaged { field: "scope", value: u64::from(other) }),
        };
        Ok((geometry, fences, scope))
    }
}

const _: () = assert!(size_of::<Header>() <= SENTRIES_AT as usize);
