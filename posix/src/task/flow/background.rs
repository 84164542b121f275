//! A map that goes on while nobody waits for it.
//!
//! ```text
//! drivers > 0    who waits for the promise feeds after each delivery
//! drivers == 0   each delivery posts a job to the courier, which feeds; `posted` says that one is on its way
//! ```
//!
//! The last driver that leaves posts as well, so no delivery falls between the two. One at a time feeds, under the feeder's lock. Who
//! wants it fed says so (`hungry`), then tries the lock; who unlocks it looks at `hungry` after that. A fence lies between the two steps
//! on either side, so at least one of them sees the other.
//!
//! The flow holds itself, by the sink in its feeder, until the feeder is dropped, when all inputs were handed over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use procession_core::sys::Deadline;

use super::feed::Feeder;
use super::gather::{Gather, Order};
use super::{Feed, Plan, cut_off, expected};
use crate::process::words::Words;
use crate::task::gate::Gate;
use crate::task::quietly;
use crate::task::{Crew, Driven, PoolError, Promise, Results, Sink, Source, SubmitMany, TaskError};

struct Background<R: Send + 'static> {
    me: Weak<Background<R>>,
    crew: Arc<dyn Crew>,
    feeder: Mutex<Option<Box<dyn Feed + Send>>>,
    gather: Arc<Gather<R>>,
    promise: Promise<Vec<R>>,
    /// How many results there will be; `u64::MAX` while that is open.
    total: AtomicU64,
    hungry: AtomicBool,
    drivers: AtomicUsize,
    posted: AtomicBool,
    settled: AtomicBool,
    cancelled: AtomicBool,
    /// Why not all inputs were handed over.
    refused: Mutex<Option<Box<TaskError>>>,
}

/// Begins to call `f` with each input; the promise is of all results in the order of the inputs, or of the first error in
/// that order. The first inputs are taken at once and here, the others by whoever waits or on the courier.
///
/// # Errors
/// As of [`Gate::enter`].
pub fn background<C, F, I, R>(
    crew: Arc<C>,
    f: F,
    input: I,
    plan: Plan,
    gate: &Arc<Gate>,
) -> Result<Promise<Vec<R>>, PoolError>
where
    F: Send + Sync + 'static,
    I: Iterator + Send + 'static,
    I::Item: Send,
    R: Send + 'static,
    C: SubmitMany<F, I::Item, Output = R>,
{
    let pass = gate.enter(crew.clone(), false)?;
    crew.attend();
    let gather = Arc::new(Gather::new(Order::All, expected(&input)));
    let promise = Promise::new(Some(crew.clone()));
    let flow = Arc::new_cyclic(|me: &Weak<Background<R>>| Background {
        me: me.clone(),
        crew: crew.clone(),
        feeder: Mutex::new(None),
        gather: gather.clone(),
        promise: promise.clone(),
        total: AtomicU64::new(u64::MAX),
        hungry: AtomicBool::new(false),
        drivers: AtomicUsize::new(0),
        posted: AtomicBool::new(false),
        settled: AtomicBool::new(false),
        cancelled: AtomicBool::new(false),
        refused: Mutex::new(None),
    });
    let sink = flow.clone();
    let feeder = Feeder::new(crew, f, input, plan, pass, gather, sink);
    *flow.feeder.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(feeder));
    let driven: Weak<dyn Driven> = flow.me.clone();
    promise.awaits(Source::Other(driven.clone()));
    gate.background(driven);
    flow.drive();
    Ok(promise)
}

type Fed = Option<Box<dyn Feed + Send>>;

impl<R: Send + 'static> Background<R> {
    fn try_feeder(&self) -> Option<MutexGuard<'_, Fed>> {
        match self.feeder.try_lock() {
            Ok(feeder) => Some(feeder),
            Err(TryLockError::Poisoned(feeder)) => Some(feeder.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Feeds, under the lock. The feeder, once it has done its work: to be dropped without the lock.
    fn feed(&self, feeder: &mut Fed) -> Fed {
        let fed = feeder.as_mut()?;
        let mut refused = None;
        // Acquire: meets the release in `cancel`.
        if self.cancelled.load(Ordering::Acquire) {
            if fed.total().is_none() {
                refused = Some(TaskError::Cancelled);
            }
            fed.stop();
        } else if let Err(panic) = catch_unwind(AssertUnwindSafe(|| fed.feed(0))) {
            fed.stop();
            refused = Some(TaskError::Iterator { message: Words::of_unwinding(panic).message });
        }
        let total = fed.total()?;
        if let Some(error) = refused.or_else(|| fed.refused().map(cut_off)) {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(error));
        }
        // Release: meets the acquire in `settle`, who sees the number finds why not all was handed over.
        self.total.store(total, Ordering::Release);
        feeder.take()
    }

    /// Fulfils the promise if all is there.
    fn settle(&self) {
        // Acquire: meets the release in `feed`. The swap's order does not matter: one thread gets false.
        if self.gather.delivered() < self.total.load(Ordering::Acquire)
            || self.settled.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (self.gather.take_all(), refused) {
            (Ok(all), Some(refused)) => {
                self.promise.finish(Err(refused));
                // How they are dropped is a user's affair.
                all.into_iter().for_each(|result| quietly(|| drop(result)));
            }
            (outcome, _) => {
                self.promise.finish(outcome);
            }
        }
    }

    /// Has the courier feed.
    fn post(&self) {
        // AcqRel in both swaps: the courier's swap meets this one, so that what led to it is known when it feeds.
        if !self.promise.is_done() && !self.posted.swap(true, Ordering::AcqRel) {
            let me = self.me.clone();
            self.crew.post(Box::new(move || {
                if let Some(me) = me.upgrade() {
                    me.posted.swap(false, Ordering::AcqRel);
                    me.drive();
                }
            }));
        }
    }
}

impl<R: Send + 'static> Sink<R> for Background<R> {
    fn deliver(&self, first: u64, results: &mut Results<'_, R>) {
        self.gather.take_in(first, results);
        self.settle();
        // SeqCst here and in `driver`: either the last driver that leaves comes after this delivery and posts, or this
        // sees that there is none.
        if self.drivers.load(Ordering::SeqCst) == 0 {
            self.post();
        }
    }
}

impl<R: Send + 'static> Driven for Background<R> {
    fn drive(&self) {
        self.hungry.store(true, Ordering::Relaxed);
        // Meets the fence below.
        fence(Ordering::SeqCst);
        while let Some(mut feeder) = self.try_feeder() {
            while self.hungry.swap(false, Ordering::Relaxed) {
                let fed = self.feed(&mut feeder);
                if fed.is_some() {
                    drop(feeder);
                    drop(fed);
                    return self.settle();
                }
            }
            drop(feeder);
            // Meets the fence above: whoever was hungry and found the lock taken is seen here.
            fence(Ordering::SeqCst);
            if !self.hungry.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn wants(&self) -> bool {
        let feeder = self.try_feeder();
        feeder.is_some_and(|feeder| feeder.as_ref().is_some_and(|feeder| feeder.wants(0)))
    }

    fn driver(&self, more: bool) {
        if more {
            self.drivers.fetch_add(1, Ordering::SeqCst);
        } else if self.drivers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.post();
        }
    }

    fn cancel(&self, abort: bool) -> bool {
        let done = self.promise.is_done();
        // Release: meets the acquire in `feed`.
        self.cancelled.store(true, Ordering::Release);
        self.drive();
        self.gather.cancel(&*self.crew, abort);
        !done
    }

    fn is_running(&self) -> bool {
        self.gather.open().into_iter().any(|task| self.crew.is_running(task))
    }

    fn wait(&self, deadline: Deadline) -> bool {
        self.promise.wait(deadline)
    }
}
