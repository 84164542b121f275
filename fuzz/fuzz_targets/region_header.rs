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
/// The header, the rows, the chunk table.
const FRONT: std::ops::Range<usize> = 0..65536;

fuzz_target!(|input: Input| {
    if input.raw {
        MEMORY.clear();
    } else {
        let scope = if input.private { Scope::Private } else { Scope::Shared };
        MEMORY.create(u32::from(input.participants), scope);
    }
    MEMORY.write(0, &input.bytes);
    for damage in &input.damage {
        damage.apply(&MEMORY, FRONT);
    }
    let sound = input.bytes.is_empty() && input.damage.is_empty();
    match MEMORY.attach(MEMORY.len() as u64 - u64::from(input.shorter)) {
        Ok(region) => {
            let _ = region.participants().attached();
            let _ = format!("{region:?}");
            act(&MEMORY, region, &input.acts, FRONT, sound);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
