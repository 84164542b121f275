//! Chance that can be had again.

use std::time::{Duration, Instant};

/// Numbers by chance, the same for the same seed: xorshift.
pub struct Random(u64);

impl Random {
    /// Begins at this seed.
    pub fn new(seed: u64) -> Random {
        // Seeds that lie close together shall not begin alike.
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    /// The next one, of 53 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// One of 0 to `count - 1`.
    pub fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    /// True once in so many times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Up to so many microseconds.
    pub fn micros(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.below(most + 1))
    }

    /// Does nothing for a moment; mostly a short one, sometimes so long that others go to sleep.
    pub fn dawdle(&mut self) {
        let nanos = if self.one_in(20) { 100_000 } else { 500 };
        let end = Instant::now() + Duration::from_nanos(self.below(nanos));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }

    /// Does nothing, and sometimes for long.
    pub fn dawdle_long(&mut self) {
        match self.one_in(8) {
            true => std::thread::sleep(self.micros(1000)),
            false => self.dawdle(),
        }
    }
}
