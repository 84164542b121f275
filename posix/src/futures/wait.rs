//! Waiting for several futures at once.

use std::borrow::Borrow;
use std::time::Duration;

use procession_core::sys::Deadline;

use super::Future;
use super::gather::Gather;

/// When [`wait`] returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReturnWhen {
    /// As soon as any future is over, or cancelled.
    FirstCompleted,
    /// As soon as any future has ended with an error, or all are over. A cancelled one is no error.
    FirstException,
    /// When all are over.
    #[default]
    AllCompleted,
}

/// What [`wait`] found: each future once, in the order in which they were given.
#[derive(Clone, Debug)]
pub struct Waited<R> {
    /// Those that are over: with a result, with an error, or cancelled.
    pub done: Vec<Future<R>>,
    /// The others.
    pub not_done: Vec<Future<R>>,
}

/// Waits for futures, of one executor or of several. The same future given twice counts once. No futures at all are waited for
/// no time.
///
/// Costs one entry in each future that is not over, and no thread where all are of one executor.
///
/// ```
/// use procession_posix::futures::{ReturnWhen, ThreadPoolExecutor, wait};
///
/// let executor = ThreadPoolExecutor::new()?;
/// let futures: Vec<_> =
///     (0..4u64).map(|i| executor.submit(move || i * i, ())).collect::<Result<_, _>>()?;
/// let waited = wait(&futures, ReturnWhen::AllCompleted);
/// assert_eq!((waited.done.len(), waited.not_done.len()), (4, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait<R: Send + 'static>(
    futures: impl IntoIterator<Item = impl Borrow<Future<R>>>,
    return_when: ReturnWhen,
) -> Waited<R> {
    wait_until(futures, return_when, Deadline::NEVER)
}

/// As [`wait`], but no longer than `timeout`; zero only looks. What is not over then is in [`Waited::not_done`].
pub fn wait_timeout<R: Send + 'static>(
    futures: impl IntoIterator<Item = impl Borrow<Future<R>>>,
    return_when: ReturnWhen,
    timeout: Duration,
) -> Waited<R> {
    wait_until(futures, return_when, Deadline::after(timeout))
}

fn wait_until<R: Send + 'static>(
    futures: impl IntoIterator<Item = impl Borrow<Future<R>>>,
    return_when: ReturnWhen,
    deadline: Deadline,
) -> Waited<R> {
    let mut gather = Gather::new(futures.into_iter().map(|future| future.borrow().clone()));
    let mut over = 0;
    while over < gather.len() {
        let Some(number) = gather.next(deadline) else { break };
        over += 1;
        let ends = match return_when {
            ReturnWhen::FirstCompleted => true,
            ReturnWhen::FirstException => gather.futures()[number].has_failed(),
            ReturnWhen::AllCompleted => false,
        };
        if ends {
            break;
        }
    }
    let (done, not_done) =
        gather.futures().iter().cloned().partition(|future| future.promise().is_done());
    Waited { done, not_done }
}
