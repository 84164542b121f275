//! Counting: lines, words, bytes, and how often each word occurs.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use super::files::{LeftOut, Part};
use super::words::Locale;

/// Longer words are counted, but not told apart: nobody wants to see one, and a table of them might not fit anywhere.
pub const LONGEST: usize = 255;

/// What `wc` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub lines: u64,
    pub words: u64,
    pub bytes: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
    }
}

/// How often each word occurs.
pub type Table = HashMap<ByteBuf, u64>;

/// All that is known about some text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub totals: Totals,
    pub table: Table,
    pub left_out: Vec<LeftOut>,
}

impl Counts {
    /// Counts what can be read of a part of a file.
    pub fn add_part(&mut self, part: &Part, locale: Locale, buffer: &mut Vec<u8>) -> Totals {
        match part.read(buffer) {
            Ok(text) => self.add_text(text, locale),
            Err(error) => {
                let (path, why) = (part.path.clone(), error.to_string());
                self.left_out.push(LeftOut { path, why });
                Totals::default()
            }
        }
    }

    /// Counts a text that no word was cut off of.
    pub fn add_text(&mut self, text: &[u8], locale: Locale) -> Totals {
        let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut words = 0;
        for word in locale.words(text) {
            words += 1;
            if word.len() <= LONGEST {
                add_word(&mut self.table, word, 1);
            }
        }
        let totals = Totals { lines, words, bytes: text.len() as u64 };
        self.totals += totals;
        totals
    }

    /// Packs them for the way to another process.
    pub fn pack(self) -> Packed {
        let Self { totals, table, left_out } = self;
        let mut words = Vec::new();
        let mut counts = Vec::with_capacity(table.len());
        for (word, count) in table {
            words.push(word.len() as u8);
            words.extend_from_slice(&word);
            counts.push(count);
        }
        Packed { totals, words: ByteBuf::from(words), counts, left_out }
    }

    /// Adds what somebody else has counted.
    pub fn add(&mut self, packed: Packed) {
        self.totals += packed.totals;
        self.left_out.extend(packed.left_out);
        let mut rest = packed.words.as_slice();
        for count in packed.counts {
            let Some((length, tail)) = rest.split_first() else { break };
            let Some((word, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
            add_word(&mut self.table, word, count);
            rest = tail;
        }
    }

    /// The most frequent words, the most frequent first, and among equals by the alphabet.
    pub fn most_frequent(&self, how_many: usize) -> Vec<(&[u8], u64)> {
        let mut words: Vec<(&[u8], u64)> =
            self.table.iter().map(|(word, count)| (word.as_slice(), *count)).collect();
        words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        words.truncate(how_many);
        words
    }
}

/// Counts on their way to another process: few large things instead of many small ones, which are copied as fast as memory is.
#[derive(Serialize, Deserialize)]
pub struct Packed {
    totals: Totals,
    /// The words of the table, each behind its length in one byte.
    words: ByteBuf,
    /// How often each occurs.
    counts: Vec<u64>,
    left_out: Vec<LeftOut>,
}

const _: () = assert!(LONGEST <= u8::MAX as usize, "a length is a byte");

#[inline]
fn add_word(table: &mut Table, word: &[u8], times: u64) {
    match table.get_mut(Bytes::new(word)) {
        Some(count) => *count += times,
        None => drop(table.insert(ByteBuf::from(word), times)),
    }
}

/// Counts all pieces in this process.
pub fn count_alone<'p>(pieces: impl IntoIterator<Item = &'p Vec<Part>>, locale: Locale) -> Counts {
    let mut counts = Counts::default();
    let mut buffer = Vec::new();
    for part in pieces.into_iter().flatten() {
        counts.add_part(part, locale, &mut buffer);
    }
    counts
}
