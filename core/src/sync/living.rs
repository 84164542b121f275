//! Asking about many owners, about each only once.

use crate::region::{Member, Tag, Verdict};

/// How many living owners are remembered at a time.
const REMEMBERED: usize = 8;

/// The owners of which the kernel has just said that they live: a dead one stays dead, so only these are remembered.
#[derive(Default)]
pub struct Living {
    tags: [Option<Tag>; REMEMBERED],
    next: usize,
}

impl Living {
    /// Whether `owner` is dead; asks unless it is known to live.
    pub fn verdict(&mut self, me: Member<'_>, owner: Tag) -> Verdict {
        if self.tags.contains(&Some(owner)) {
            return Verdict::Alive;
        }
        let verdict = me.verdict(owner);
        if verdict == Verdict::Alive {
            self.tags[self.next % REMEMBERED] = Some(owner);
            self.next += 1;
        }
        verdict
    }
}
