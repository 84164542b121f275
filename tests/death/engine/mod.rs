//! Steps, kills, counts: what every operation's test has in common.

pub mod child;
mod heap;
pub mod ledger;
pub mod matrix;
pub mod memory;
pub mod operation;
mod take;
mod tracee;
mod watch;

#[global_allocator]
static HEAP: heap::Orderly = heap::Orderly;
