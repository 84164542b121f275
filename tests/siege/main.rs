//! Pools under siege: tasks that end their workers at every stage, workers and owners that are killed at any moment, and what
//! is left of it all.
//!
//! `cargo test --test siege`; the long forms: `SOAK=full cargo test --release --test siege`.

mod charge;
#[path = "../../posix/tests/support/gone.rs"]
mod gone;
mod kills;
mod leaks;
mod stages;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "no test uses all of it")]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use procession::pool::Pool;

use gone::gone;
use support::Test;

const TESTS: &[Test] = &[
    ("a_task_alone_fails_at_its_stage", stages::alone),
    ("an_item_of_a_map_fails_at_its_stage", stages::in_a_map),
    ("an_item_of_an_iterator_fails_at_its_stage", stages::in_an_iterator),
    ("a_future_fails_at_its_stage", stages::futures),
    ("a_caller_that_dies_while_it_sends_leaves_nothing", stages::callers),
    ("tasks_are_done_once_or_reported", kills::at_most_once),
    ("tasks_are_done_and_counted_once", kills::at_least_once),
    ("workers_that_are_stopped_are_not_dead", kills::stopped),
    ("a_killed_owner_leaves_nothing", leaks::killed_owner),
    ("a_killed_group_leaves_nothing", leaks::killed_group),
    ("many_tasks_leave_nothing", leaks::tasks),
    ("many_deaths_leave_nothing", leaks::deaths),
    ("many_pools_leave_nothing", leaks::pools),
];

fn main() -> ExitCode {
    support::run_within(if full() { 8 * MINUTE } else { 2 * MINUTE }, TESTS)
}

const MINUTE: Duration = Duration::from_secs(60);

/// The processes of its workers.
fn pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|worker| worker.pid).collect()
}

/// Whether there is time for the long forms.
fn full() -> bool {
    std::env::var("SOAK").as_deref() == Ok("full")
}
