//! A region of raw bytes, and one whose first pages were written over: attaching either fails or gives something that can
//! be used without harm.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::sys::Scope;
use procession_fuzz::damage::Damage;
use procession_fuzz::memory::Memory;
use procession_fuzz::user::{Act, act};

#[derive(Arbitrary, Debug)]
struct Input {
    /// From nothing, or from a region that was good.
    raw: bool,
    private: bool,
    participants: u8,
    shorter: u16,
    bytes: Vec<u8>,
    damage: Vec<Damage>,
    acts: Vec<Act>,
}

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(6 * 65536));

/// The header; the sentries; rows of participants; the chunk table, wherever the number of rows puts it; anything.
const AREAS: [std::ops::Range<usize>; 6] =
    [0..96, 2048..4096, 4096 + 32..4096 + 8 * 32, 8192..8192 + 96, 16384..16384 + 96, 0..65536];

fuzz_target!(|input: Input| {
    if input.raw {
        MEMORY.clear();
    } else {
        let scope = if input.private { Scope::Private } else { Scope::Shared };
        MEMORY.create([1, 3, 100, 300][usize::from(input.participants % 4)], scope);
    }
    MEMORY.write(0, &input.bytes);
    for damage in &input.damage {
        damage.apply(&MEMORY, &AREAS);
    }
    let sound = input.bytes.is_empty() && input.damage.is_empty();
    match MEMORY.attach(MEMORY.len() as u64 - u64::from(input.shorter)) {
        Ok(region) => {
            let _ = region.participants().attached();
            let _ = format!("{region:?}");
            act(&MEMORY, region, &input.acts, &AREAS, sound);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
