//! Every algorithm of the core under the loom model checker: all interleavings (up to a number of preemptions) of
//! up to four processes, and a death of the victim at each point that others can tell apart.
//!
//! One command runs every model, in two or three minutes on two processors:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p procession-core --release --test loom
//! ```
//!
//! - `LOOM_MAX_PREEMPTIONS=n` explores to another depth than each model names. At 2 some models of three processes
//!   take a quarter of an hour, at 3 all of them take hours.
//! - A model that fails prints the panic of the failing interleaving. With `MODEL_TRACE=1`, the test's name and
//!   `--exact --nocapture` it prints every access of every execution: the last one is the one that failed.
//! - `MODEL_RELAX=slot.rs:382` relaxes the accesses of one line of the core: does any model notice?
//! - `--nocapture` also says how many executions a model took.
//!
//! A process of a model is a thread with a seat of its own ([`world::Process`]). What the backend does (futexes,
//! fuel, fences) is told in `procession_core::sys::model`.
//!
//! Models that nothing could make fail would prove nothing. So each kind of check has a mutation next to it that
//! must be caught: `#[should_panic]`.
#![cfg(loom)]

mod any;
mod atomic;
mod backend;
mod barrier;
mod board;
mod broadcast;
mod condition;
mod event;
mod eventcount;
mod glances;
mod holders;
mod latch;
mod lock;
mod once;
mod pool_state;
mod ring;
mod rlock;
mod rwlock;
mod semaphore;
mod seqlock;
mod slots;
mod store;
mod world;
