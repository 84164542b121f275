//! News of recoveries, as `tracing` events: the only thing in this crate that speaks.
//!
//! Behind the feature `tracing`; without it nothing is compiled in. Events come from slow ways only.

use crate::region::{Member, Tag};

/// `what` was taken back from the process behind `dead`, which no longer lives.
#[cold]
pub fn recovered(what: &'static str, me: Member<'_>, dead: Tag) {
    #[cfg(all(feature = "tracing", not(loom)))]
    match me.who(dead) {
        Some(who) => tracing::warn!(
            target: "procession",
            what,
            pid = who.pid,
            name = who.name(),
            "taken back from a dead process"
        ),
        None => tracing::warn!(target: "procession", what, "taken back from a dead process"),
    }
    #[cfg(not(all(feature = "tracing", not(loom))))]
    let _ = (what, me, dead);
}
