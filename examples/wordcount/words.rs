//! What a word is: what it is to `wc -w`.
//!
//! Words end at white space. A run of bytes between two white spaces is a word if at least one character of it can be seen.
//! What is white, and what can be seen, depends on the locale, as it does for `wc`:
//!
//! | locale | white | seen |
//! |---|---|---|
//! | C, POSIX | space, `\t`, `\n`, `\v`, `\f`, `\r` | `!` to `~` |
//! | any with UTF-8 | these, and the spaces of Unicode | every character but controls |
//!
//! Since GNU coreutils 9.5 `wc` counts words that cannot be seen too.

use serde::{Deserialize, Serialize};

/// By which rules words are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Locale {
    C,
    Utf8,
}

impl Locale {
    /// The one that `wc` would use here.
    pub fn of_environment() -> Self {
        let name = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .unwrap_or_default()
            .to_lowercase();
        if name.contains("utf-8") || name.contains("utf8") { Self::Utf8 } else { Self::C }
    }

    /// The words of `text`, in their order.
    pub fn words(self, text: &[u8]) -> Words<'_> {
        Words { text, locale: self }
    }

    /// How many bytes of white space `text` begins with: 0 if with none, else those of one character.
    fn white(self, text: &[u8]) -> usize {
        match (text, self) {
            ([b' ' | b'\t'..=b'\r', ..], _) => 1,
            // U+00A0.
            ([0xC2, 0xA0, ..], Self::Utf8) => 2,
            // U+1680, U+2000 to U+200A, U+202F, U+205F, U+2060, U+3000.
            (
                [0xE1, 0x9A, 0x80, ..]
                | [0xE2, 0x80, 0x80..=0x8A | 0xAF, ..]
                | [0xE2, 0x81, 0x9F | 0xA0, ..]
                | [0xE3, 0x80, 0x80, ..],
                Self::Utf8,
            ) => 3,
            _ => 0,
        }
    }

    /// Whether a word without any of `!` to `~` can be seen.
    #[cold]
    fn is_seen(self, word: &[u8]) -> bool {
        let seen = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
        self == Self::Utf8 && word.utf8_chunks().any(|chunk| chunk.valid().chars().any(seen))
    }
}

/// Whether this byte is white space in every locale: a place where a text can be cut.
pub fn is_cut(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// See [`Locale::words`].
pub struct Words<'t> {
    text: &'t [u8],
    locale: Locale,
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t [u8];

    #[inline]
    fn next(&mut self) -> Option<&'t [u8]> {
        loop {
            let mut seen = false;
            let mut end = 0;
            let mut white = 0;
            while let Some(&byte) = self.text.get(end) {
                match byte {
                    b'!'..=b'~' => seen = true,
                    b' ' | b'\t'..=b'\r' | 0x80.. => {
                        white = self.locale.white(&self.text[end..]);
                        if white > 0 {
                            break;
                        }
                    }
                    _ => {}
                }
                end += 1;
            }
            if end + white == 0 {
                return None;
            }
            let (word, rest) = self.text.split_at(end);
            self.text = &rest[white..];
            if seen || (end > 0 && self.locale.is_seen(word)) {
                return Some(word);
            }
        }
    }
}
