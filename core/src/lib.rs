//! The algorithms of procession, without std: whatever several processes do together in shared memory.
//!
//! ```text
//! sys      the only room that knows the outside: atomics, futexes, fences, clock, spinning, who is alive
//! region   a piece of memory that processes share: header, participants, blocks
//! wait     the eventcount: how anything ever sleeps
//! sync     Lock
//! queue    SpscRing, SlotQueue and Broadcast
//! pool     Board and State: what a pool's owner and its workers share
//! value    Value and Array of the types that C and Rust agree on
//! ```
//!
//! Imports point down only. A function that claims something takes a [`region::Member`]: who I am. With the
//! feature `std` (on by default) a member knows by itself when its process has forked; without it the caller
//! joins anew after a fork.
//!
//! Three facts hold everywhere in this crate:
//!
//! - One word excludes. A claim is one compare-and-swap that writes *who* claims into the word that keeps others
//!   out, so that a dead claimer is known by name and its claim is taken back by one exact compare-and-swap.
//! - Nothing in shared memory is trusted: what is read from there is checked before it is used.
//! - Whoever sleeps looks again by itself, so that no death of a waker leaves anybody asleep for good.
#![no_std]

#[cfg(any(feature = "std", loom, test))]
extern crate std;

pub mod pool;
pub mod queue;
pub mod region;
pub mod sync;
pub mod sys;
pub mod value;
pub mod wait;
