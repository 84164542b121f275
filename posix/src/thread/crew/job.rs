//! What a thread of a crew runs: one call, or a chunk of a map.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procession_core::sys::nanos;

use crate::task::{Call, CallOnce, Results, Sink, TaskError, TaskId, caught, quietly};

/// A task, whatever its function is.
///
/// Whoever moves `answered` on from `OPEN` answers the sink, for all items, and nobody else does: the thread that ran it, or the one that ends it
/// before.
pub(super) struct Task<J: ?Sized = dyn Job> {
    pub(super) id: TaskId,
    /// When it was handed over, in nanoseconds.
    pub(super) since: u64,
    /// How long it may run.
    pub(super) limit: Option<Duration>,
    answered: AtomicU8,
    job: J,
}

/// Nobody has answered.
const OPEN: u8 = 0;
/// The thread that ran it has.
const RETURNED: u8 = 1;
/// Somebody else has, by an error.
const FAILED: u8 = 2;

/// How many items came to which end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) failed: u64,
}

/// A function with its arguments, and a sink for its results. Each method is called at most once, and not both.
pub(super) trait Job: Send + Sync {
    /// Calls the function, and delivers what came of it if it `may`, which is asked after the last call and told how many came to which
    /// end.
    fn run(&self, task: TaskId, may: &mut dyn FnMut(Tally) -> bool);

    /// Delivers this instead. The function may be running.
    fn fail(&self, error: TaskError);

    /// How many items it has.
    fn items(&self) -> u64;
}

impl<J> Task<J> {
    pub(super) fn new(id: TaskId, limit: Option<Duration>, job: J) -> Arc<Self> {
        Arc::new(Task { id, since: nanos(), limit, answered: AtomicU8::new(OPEN), job })
    }
}

impl Task {
    /// Runs it on this thread. `returned` is called before the answer is given, with `None` if somebody else has answered meanwhile.
    pub(super) fn run(&self, mut returned: impl FnMut(Option<Tally>)) {
        self.job.run(self.id, &mut |tally| {
            let mine = self.answers(RETURNED);
            returned(mine.then_some(tally));
            mine
        });
    }

    /// Answers with an error, unless somebody else has answered. `answers` is called before that.
    pub(super) fn fail(&self, error: TaskError, answers: impl FnOnce(Tally)) {
        if self.answers(FAILED) {
            answers(Tally { done: 0, failed: self.items() });
            self.job.fail(error);
        }
    }

    /// Whether nobody has answered.
    pub(super) fn is_open(&self) -> bool {
        // Relaxed: a number for people.
        self.answered.load(Ordering::Relaxed) == OPEN
    }

    /// Whether somebody has answered with an error for the thread that runs it.
    pub(super) fn has_failed(&self) -> bool {
        self.answered.load(Ordering::Relaxed) == FAILED
    }

    pub(super) fn items(&self) -> u64 {
        self.job.items()
    }

    fn answers(&self, how: u8) -> bool {
        // Relaxed: who wins is all that is decided here. What is delivered is published by the sink.
        self.answered.compare_exchange(OPEN, how, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// One call.
pub(super) struct One<F, Args, R> {
    input: Mutex<Option<(F, Args)>>,
    sink: Arc<dyn Sink<R>>,
}

impl<F, Args, R> One<F, Args, R> {
    pub(super) fn new(f: F, args: Args, sink: Arc<dyn Sink<R>>) -> Self {
        One { input: Mutex::new(Some((f, args))), sink }
    }
}

impl<F: CallOnce<Args>, Args: Send> Job for One<F, Args, F::Output> {
    fn run(&self, task: TaskId, may: &mut dyn FnMut(Tally) -> bool) {
        let Some((f, args)) = take(&self.input) else { return };
        let outcome = caught(task, || f.call_once(args));
        if may(Tally { done: outcome.is_ok().into(), failed: outcome.is_err().into() }) {
            self.sink.deliver(0, &mut Results::one(outcome));
        } else {
            discard(outcome);
        }
    }

    fn fail(&self, error: TaskError) {
        self.sink.deliver(0, &mut Results::one(Err(Box::new(error))));
        discard(take(&self.input));
    }

    fn items(&self) -> u64 {
        1
    }
}

/// A chunk of a map.
pub(super) struct Many<F, Args, R> {
    f: Arc<F>,
    items: Mutex<Option<Vec<Args>>>,
    count: u64,
    first: u64,
    sink: Arc<dyn Sink<R>>,
}

impl<F, Args, R> Many<F, Args, R> {
    pub(super) fn new(f: Arc<F>, first: u64, items: Vec<Args>, sink: Arc<dyn Sink<R>>) -> Self {
        let count = items.len() as u64;
        Many { f, items: Mutex::new(Some(items)), count, first, sink }
    }
}

impl<F: Call<Args>, Args: Send> Job for Many<F, Args, F::Output> {
    fn run(&self, task: TaskId, may: &mut dyn FnMut(Tally) -> bool) {
        let Some(items) = take(&self.items) else { return };
        let begun = nanos();
        let call = |args| caught(task, || self.f.call(args));
        let mut outcomes: Vec<_> = items.into_iter().map(call).collect();
        let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count() as u64;
        let took = nanos().saturating_sub(begun).max(1);
        if may(Tally { done: self.count - failed, failed }) {
            self.sink.deliver(self.first, &mut Results::many(&mut outcomes).took(took));
        } else {
            discard(outcomes);
        }
    }

    fn fail(&self, error: TaskError) {
        let mut outcomes: Vec<_> = (0..self.count).map(|_| Err(Box::new(error.clone()))).collect();
        self.sink.deliver(self.first, &mut Results::many(&mut outcomes));
        discard(take(&self.items));
    }

    fn items(&self) -> u64 {
        self.count
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Drops what is a user's.
pub(super) fn discard<T>(value: T) {
    quietly(|| drop(value));
}
