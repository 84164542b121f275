//! The results of a pool's imap, one by one.

use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

use procession_core::sys::Deadline;

use super::TaskError;
use crate::task::flow::Stream;

/// The results of `imap` or `imap_unordered`, one by one while others are still made.
///
/// An error is at the place of its task, and the iteration goes on behind it. If the pool takes no more inputs, since it was joined,
/// terminated or broke, a last error says so, and the iteration is over. Dropping it withdraws what no worker has begun.
///
/// Inputs are taken from their iterator in `next`, by the thread that calls it, as the window allows. So an iterator that
/// waits for something that the caller does with a result needs a window of 1.
pub struct Imap<'a, R> {
    stream: Stream<'a, R>,
}

impl<'a, R: Send + 'static> Imap<'a, R> {
    pub(super) fn new(stream: Stream<'a, R>) -> Self {
        Imap { stream }
    }

    /// The next result, if there is one within so long; otherwise [`TaskError::TimedOut`], which takes nothing: the same result can be
    /// asked for again.
    ///
    /// ```
    /// use procession_posix::pool::{Pool, TaskError};
    /// use std::time::Duration;
    ///
    /// let pool = Pool::new(1)?;
    /// let mut results = pool.imap(|ms: u64| std::thread::sleep(Duration::from_millis(ms)), [200])?;
    /// let early = results.next_timeout(Duration::from_millis(1));
    /// assert!(matches!(early, Some(Err(TaskError::TimedOut))));
    /// assert!(matches!(results.next(), Some(Ok(()))));
    /// assert!(results.next().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R, TaskError>> {
        self.next_until(Deadline::after(timeout))
    }

    /// The next result, if there is one until then.
    pub fn next_until(&mut self, deadline: Deadline) -> Option<Result<R, TaskError>> {
        self.stream.next_until(deadline).map(|(_, result)| result)
    }

    /// The same results, each with the index of its input: of use where they come unordered.
    pub fn indexed(mut self) -> impl Iterator<Item = (u64, Result<R, TaskError>)> + use<'a, R> {
        std::iter::from_fn(move || self.stream.next_until(Deadline::NEVER))
    }
}

impl<R: Send + 'static> Iterator for Imap<'_, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(Deadline::NEVER)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

impl<R: Send + 'static> FusedIterator for Imap<'_, R> {}

impl<R> fmt::Debug for Imap<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").finish_non_exhaustive()
    }
}
