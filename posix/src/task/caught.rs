//! Calling what is a user's, without letting its panics out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Outcome, TaskError, TaskId, Which};
use crate::process::words::Words;

/// What became of a call in this process. The panic hook has reported a panic, and noted where it was if
/// [`listen`](crate::process::words::listen) was called before.
pub(crate) fn caught<R>(task: TaskId, call: impl FnOnce() -> R) -> Outcome<R> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Box::new(panicked(task, payload)))
}

/// A panic of this thread as what became of a task.
pub(crate) fn panicked(task: TaskId, payload: Box<dyn Any + Send>) -> TaskError {
    let words = Words::of_unwinding(payload);
    TaskError::Panicked {
        task: Which::Call(task.0),
        pid: std::process::id(),
        message: words.message,
        location: words.location,
        backtrace: words.backtrace,
    }
}

/// Runs what nobody waits for. A panic in it is reported by the panic hook, and harms nobody else.
pub(crate) fn quietly(run: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        // The payload's own drop may panic.
        std::mem::forget(payload);
    }
}
