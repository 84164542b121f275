//! The lives of a crew's threads: those that run tasks, the courier, and the watch.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use procession_core::sys::Deadline;

use super::desk::{Desk, sleep};
use super::job::Task;
use crate::process::JoinError;
use crate::process::words::Words;
use crate::task::{TaskError, TaskId, Which, quietly};

thread_local! {
    /// The crew that this thread runs tasks of, by the address of its desk, and its number there.
    static ME: Cell<Option<(usize, u64)>> = const { Cell::new(None) };
    /// What the present task has handed over to the same crew.
    static OWN: RefCell<Vec<TaskId>> = const { RefCell::new(Vec::new()) };
}

/// A thread that runs tasks.
pub(super) fn live(desk: &Arc<Desk>, number: u64) {
    ME.set(Some((address(desk), number)));
    if !desk.initialized(number, initialize(desk)) {
        return;
    }
    let mut left = desk.options.max_tasks.unwrap_or(u64::MAX);
    let mut finished = None;
    while let Some(task) = desk.turn(number, finished, left == 0) {
        desk.run(&task, true);
        OWN.with_borrow_mut(Vec::clear);
        left -= 1;
        finished = Some(task);
    }
}

fn initialize(desk: &Desk) -> Result<(), JoinError> {
    let Some(initializer) = &desk.options.initializer else { return Ok(()) };
    catch_unwind(AssertUnwindSafe(|| initializer())).map_err(|payload| {
        let words = Words::of_unwinding(payload);
        JoinError::Panicked {
            name: thread::current().name().unwrap_or_default().to_owned(),
            pid: std::process::id(),
            message: words.message,
            location: words.location,
            backtrace: words.backtrace,
        }
    })
}

fn address(desk: &Desk) -> usize {
    std::ptr::from_ref(desk) as usize
}

/// The number of this thread, if it runs tasks of this crew.
pub(super) fn number_in(desk: &Desk) -> Option<u64> {
    ME.get().filter(|(of, _)| *of == address(desk)).map(|(_, number)| number)
}

/// Whether this thread runs tasks of this crew.
pub(super) fn is_thread_of(desk: &Desk) -> bool {
    number_in(desk).is_some()
}

/// Remembers what a thread of the crew itself hands over.
pub(super) fn handed_over(desk: &Desk, id: TaskId) {
    if is_thread_of(desk) {
        OWN.with_borrow_mut(|own| own.push(id));
    }
}

/// A thread of the crew waits for `task`, or for some: one of these that nobody has begun, now begun by this thread. Only what it
/// waits for anyway: any other task might want a lock that it holds.
pub(super) fn own_task(desk: &Desk, task: Option<TaskId>) -> Option<(Arc<Task>, u64)> {
    let number = number_in(desk)?;
    if let Some(task) = task.and_then(|id| desk.take(id, number)) {
        return Some((task, number));
    }
    // The newest first: where each task makes more of them, few are under way at a time.
    while let Some(id) = OWN.with_borrow_mut(Vec::pop) {
        if let Some(task) = desk.take(id, number) {
            return Some((task, number));
        }
    }
    None
}

/// Runs what users want to be called.
pub(super) fn courier(desk: &Arc<Desk>) {
    let mut table = desk.lock();
    loop {
        if let Some(post) = table.posts.pop_front() {
            drop(table);
            quietly(post);
            table = desk.lock();
        } else if table.is_over() {
            table.courier = None;
            desk.change.notify_all();
            return;
        } else {
            table = sleep(&desk.change, table, Deadline::NEVER);
        }
    }
}

/// Fails tasks that are late.
pub(super) fn watch(desk: &Arc<Desk>) {
    let mut table = desk.lock();
    loop {
        let late = table.late();
        if !late.is_empty() {
            let count = late.len();
            desk.fail(table, late, |task| TaskError::DeadlinePassed {
                task: Which::Call(task.id.0),
                limit: task.limit.unwrap_or_default(),
            });
            for _ in 0..count {
                desk.replace();
            }
            table = desk.lock();
            continue;
        }
        if table.is_over() {
            table.watch = None;
            return;
        }
        let ends = table.running.iter().filter_map(|running| running.ends).min();
        let until = ends.unwrap_or(Deadline::NEVER);
        table.watch = Some(until);
        table = sleep(&desk.change, table, until);
    }
}
