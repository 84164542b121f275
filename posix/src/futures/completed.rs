//! Futures in the order in which they are over.

use std::time::Duration;

use procession_core::sys::Deadline;

use super::Future;
use super::gather::Gather;

/// Gives out futures, of one executor or of several, as they are over: those first that are already. The same future given twice comes
/// once.
///
/// ```
/// use procession_posix::futures::{ThreadPoolExecutor, as_completed};
///
/// let executor = ThreadPoolExecutor::new()?;
/// let futures: Vec<_> =
///     (0..4u64).map(|i| executor.submit(move || i * i, ())).collect::<Result<_, _>>()?;
/// let mut squares = Vec::new();
/// for future in as_completed(futures) {
///     squares.push(future.result()?);
/// }
/// squares.sort();
/// assert_eq!(squares, [0, 1, 4, 9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<R: Send + 'static>(
    futures: impl IntoIterator<Item = Future<R>>,
) -> AsCompleted<R> {
    AsCompleted { gather: Gather::new(futures), given: 0 }
}

/// As [`as_completed`], but ends with an error when `timeout` has passed since this call and some are not over.
///
/// ```
/// use procession_posix::futures::{Future, as_completed_timeout};
/// use std::time::Duration;
///
/// let (setter, one) = Future::<u32>::new();
/// setter.set_result(1);
/// let (_setter, other) = Future::<u32>::new();
/// let mut completed = as_completed_timeout([one.clone(), other], Duration::from_millis(1));
/// assert_eq!(completed.next().unwrap()?, one);
/// let error = completed.next().unwrap().unwrap_err();
/// assert_eq!(error.to_string(), "1 (of 2) futures unfinished");
/// assert!(completed.next().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed_timeout<R: Send + 'static>(
    futures: impl IntoIterator<Item = Future<R>>,
    timeout: Duration,
) -> AsCompletedTimeout<R> {
    AsCompletedTimeout {
        completed: as_completed(futures),
        deadline: Deadline::after(timeout),
        ended: false,
    }
}

/// See [`as_completed`].
#[must_use = "an iterator does nothing until it is asked"]
pub struct AsCompleted<R: Send + 'static> {
    gather: Gather<R>,
    given: usize,
}

impl<R: Send + 'static> AsCompleted<R> {
    /// The next one, waiting no longer than `timeout`; `None` if all have been given out.
    ///
    /// # Errors
    /// None was over in time. It can be asked again.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Future<R>>, Unfinished> {
        self.next_until(Deadline::after(timeout))
    }

    fn next_until(&mut self, deadline: Deadline) -> Result<Option<Future<R>>, Unfinished> {
        let of = self.gather.len();
        if self.given == of {
            return Ok(None);
        }
        match self.gather.next(deadline) {
            Some(number) => {
                self.given += 1;
                Ok(self.gather.futures().get(number).cloned())
            }
            None => Err(Unfinished { unfinished: of - self.given, of }),
        }
    }
}

impl<R: Send + 'static> Iterator for AsCompleted<R> {
    type Item = Future<R>;

    fn next(&mut self) -> Option<Future<R>> {
        // Without a deadline there is no error but that nobody will ever bring the rest about.
        self.next_until(Deadline::NEVER).ok().flatten()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.gather.len() - self.given;
        (left, Some(left))
    }
}

impl<R: Send + 'static> std::fmt::Debug for AsCompleted<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsCompleted")
            .field("of", &self.gather.len())
            .field("given", &self.given)
            .finish()
    }
}

/// See [`as_completed_timeout`].
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct AsCompletedTimeout<R: Send + 'static> {
    completed: AsCompleted<R>,
    deadline: Deadline,
    ended: bool,
}

impl<R: Send + 'static> Iterator for AsCompletedTimeout<R> {
    type Item = Result<Future<R>, Unfinished>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.completed.next_until(self.deadline);
        self.ended = next.is_err();
        next.transpose()
    }
}

/// The time ran out before all futures were over. They go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{unfinished} (of {of}) futures unfinished")]
pub struct Unfinished {
    /// How many are not over.
    pub unfinished: usize,
    /// How many there were.
    pub of: usize,
}
