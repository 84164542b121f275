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
    /// Where damage strikes.
    table: bool,
    acts: Vec<Act>,
}

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(6 * 65536));

fuzz_target!(|input: Input| {
    let region = MEMORY.create(7, Scope::Shared);
    // With so few rows the chunk table starts on the third page; it has a row of 16 bytes for each chunk.
    let within = if input.table { 8192..8192 + 128 } else { 8192..MEMORY.len() };
    act(&MEMORY, region, &input.acts, within, true);
});
