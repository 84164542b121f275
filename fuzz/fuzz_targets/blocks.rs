//! The allocator, while its chunk table and its block words are written over.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::sys::Scope;
use procession_fuzz::memory::Memory;
use procession_fuzz::user::{Act, act};

#[derive(Arbitrary, Debug)]
struct Input {
    acts: Vec<Act>,
}

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(6 * 65536));

/// The chunk table, which starts on the third page with so few rows; the hints and words of the first chunks; anything.
const AREAS: [std::ops::Range<usize>; 5] = [
    8192..8192 + 96,
    CHUNK..CHUNK + 256,
    2 * CHUNK..2 * CHUNK + 256,
    CHUNK..CHUNK + 8192,
    4096..6 * CHUNK,
];
const CHUNK: usize = 65536;

fuzz_target!(|input: Input| {
    let region = MEMORY.create(7, Scope::Shared);
    act(&MEMORY, region, &input.acts, &AREAS, true);
});
