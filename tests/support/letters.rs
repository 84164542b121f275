//! Objects that show it when they are torn, mixed, or got twice.

use serde::{Deserialize, Serialize};

/// An object whose every byte follows from who wrote it, which one of the writer's it is, and how long it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Who wrote it.
    pub writer: u32,
    /// Which one of the writer's it is.
    pub number: u64,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    /// Behind the body: a letter that is cut off has no end, or a wrong one.
    end: u64,
}

impl Letter {
    /// A letter with so many bytes in it.
    pub fn new(writer: u32, number: u64, bytes: usize) -> Letter {
        let seed = seed(writer, number);
        Letter { writer, number, body: body(seed, bytes), end: seed ^ bytes as u64 }
    }

    /// Whether all of it is there, and nothing of another.
    pub fn is_whole(&self) -> bool {
        *self == Letter::new(self.writer, self.number, self.body.len())
    }

    /// How many bytes are in it.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }
}

fn seed(writer: u32, number: u64) -> u64 {
    (u64::from(writer) << 40 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

/// No two pages of it are alike.
fn body(seed: u64, bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes.next_multiple_of(8));
    let mut word = seed;
    while body.len() < bytes {
        body.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(seed);
    }
    body.truncate(bytes);
    body
}
