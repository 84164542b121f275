//! What the lives of workers need of those who hand out the work.

use std::sync::Arc;

use procession_core::region::Tag;
use procession_core::sys::Deadline;

use super::{Death, Seats};
use crate::task::PoolError;

/// What is to be seen of the worker at a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It has not sat down, or its initializer runs.
    Starting,
    /// It waits for work, since this reading of the monotonic clock in nanoseconds.
    Idle { since: u64 },
    /// It has something in hand.
    Busy,
}

/// Where the workers work: implemented by the process crew over its board. Nothing here waits, but for the start of a worker. Called by the
/// supervisor, and before there is one by whoever makes the pool.
pub(crate) trait Floor: Send + Sync + 'static {
    /// Where workers sit down.
    fn seats(&self) -> &Seats;

    /// The worker at this seat is gone, by the kernel's word. What it had in hand fails or is handed out again; then the seat is
    /// empty.
    fn vacate(&self, seat: usize, death: &Death);

    /// How many chunks are queued that nobody has taken.
    fn queued(&self) -> usize;

    /// Looks for tasks that have run too long: each is taken from its worker, which goes into `late` and will be killed. When to
    /// look again.
    fn overdue(&self, late: &mut Vec<Tag>) -> Deadline;

    /// Everything that is not over fails with this.
    fn broken(&self, cause: &Arc<PoolError>);

    /// All workers are gone, and there will be no more. Everything that is not over yet never will be.
    fn over(&self);
}
