//! Every algorithm of the core under the loom model checker: all interleavings (up to a number of preemptions) of
//! up to four processes, and a death of the victim at each point that others can tell apart.
//!
//! One command runs every model, in some minutes:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p procession-core --release --test loom
//! ```
//!
//! `LOOM_MAX_PREEMPTIONS=n` explores further than the number that each model names. A model that fails prints the
//! panic of the failing interleaving; with `LOOM_LOG=trace LOOM_LOCATION=1` and one test's name it tells it step by
//! step.
//!
//! A process of a model is a thread with a seat of its own ([`world::Process`]). What the backend does (futexes,
//! fuel, fences) is told in `procession_core::sys::model`.
//!
//! Models that nothing could make fail would prove nothing. So each kind of check has a mutation next to it that
//! must be caught: `#[should_panic]`.
#![cfg(loom)]

mod eventcount;
mod lock;
mod world;
