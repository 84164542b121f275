//! Many calls of one function: map, imap and what they have in common.
//!
//! ```text
//! inputs --- Feeder: chunk by chunk, within the window ---> crew --- Gather: in order again ---> results
//! ```
//!
//! A flow has no thread. Whoever wants results (`map`, the owner of a `Stream`) feeds, then helps the crew until there are results or
//! there is room for more, and feeds again. A `Background` flow is fed by whoever waits for its promise; while nobody does, each
//! delivery has the courier feed it. So somebody always feeds: a flow that is not at its end has calls under way, whose
//! delivery wakes who waits or calls the courier, or nothing under way, and then the one who feeds has room and goes on.

mod background;
mod feed;
mod gather;
mod stream;

use std::sync::Arc;

use procession_core::sys::Deadline;

pub use background::background;
pub use feed::Plan;
pub use gather::Order;
pub use stream::Stream;

use super::gate::Pass;
use super::{Crew, PoolError, PoolState, Results, Sink, SubmitMany, TaskError};
use feed::Feeder;
use gather::Gather;

/// A feeder, whatever it feeds with.
trait Feed {
    fn feed(&mut self, handed_out: u64);
    fn wants(&self, handed_out: u64) -> bool;
    fn total(&self) -> Option<u64>;
    fn refused(&mut self) -> Option<PoolError>;
    fn stop(&mut self);
}

impl<C, F, I, R> Feed for Feeder<C, F, I, R>
where
    I: Iterator,
    C: SubmitMany<F, I::Item, Output = R>,
{
    fn feed(&mut self, handed_out: u64) {
        Feeder::feed(self, handed_out);
    }

    fn wants(&self, handed_out: u64) -> bool {
        Feeder::wants(self, handed_out)
    }

    fn total(&self) -> Option<u64> {
        Feeder::total(self)
    }

    fn refused(&mut self) -> Option<PoolError> {
        Feeder::refused(self)
    }

    fn stop(&mut self) {
        Feeder::stop(self);
    }
}

impl<R: Send> Sink<R> for Gather<R> {
    fn deliver(&self, first: u64, results: &mut Results<'_, R>) {
        self.take_in(first, results);
    }
}

/// Why there are no results although nothing can come any more.
fn ended(crew: &dyn Crew) -> TaskError {
    match (crew.cause(), crew.state()) {
        (Some(cause), _) => TaskError::Broken(cause),
        (None, PoolState::Running | PoolState::Closed) => TaskError::TimedOut,
        (None, _) => TaskError::Terminated,
    }
}

/// Why inputs were not handed over, as what becomes of them. Who closes a crew lets flows go on: one that has ended was
/// terminated.
fn cut_off(error: PoolError) -> TaskError {
    match error {
        PoolError::NotRunning { state: PoolState::Terminating | PoolState::Ended } => {
            TaskError::Terminated
        }
        PoolError::Broken { cause } => TaskError::Broken(cause),
        error => error.into(),
    }
}

/// How many results to make room for in advance.
fn expected<I: Iterator>(input: &I) -> usize {
    match input.size_hint() {
        (least, Some(most)) if least == most => least,
        (least, _) => least.min(1 << 20),
    }
}

/// Withdraws what nobody has begun, however the one who wanted it leaves.
struct Withdraw<'a, R> {
    crew: &'a dyn Crew,
    gather: &'a Gather<R>,
}

impl<R> Drop for Withdraw<'_, R> {
    fn drop(&mut self) {
        self.gather.cancel(self.crew, false);
    }
}

/// Calls `f` with each input, and waits for all. The results in the order of the inputs, or the first error in that order;
/// also after an error all calls are made.
///
/// # Errors
/// What became of the first call that has no result; `Refused`.
pub fn map<C, F, I, R>(
    crew: Arc<C>,
    f: F,
    input: I,
    plan: Plan,
    pass: Pass,
) -> Result<Vec<R>, TaskError>
where
    I: Iterator,
    R: Send + 'static,
    C: SubmitMany<F, I::Item, Output = R>,
{
    let gather = Arc::new(Gather::new(Order::All, expected(&input)));
    let sink = gather.clone();
    let mut feeder = Feeder::new(crew.clone(), f, input, plan, pass, gather.clone(), sink);
    let _withdraw = Withdraw { crew: &*crew, gather: &gather };
    loop {
        feeder.feed(0);
        let over = |feeder: &Feeder<C, F, I, R>| {
            feeder.total().is_some_and(|all| gather.delivered() >= all)
        };
        if over(&feeder) {
            break;
        }
        let mut done = || over(&feeder) || feeder.wants(0);
        if !crew.help(None, Deadline::NEVER, &mut done) {
            return Err(ended(&*crew));
        }
    }
    let all = gather.take_all().map_err(|error| *error)?;
    match feeder.refused() {
        Some(error) => Err(cut_off(error)),
        None => Ok(all),
    }
}
