//! Calling one function with many inputs.

use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

use procession_core::sys::Deadline;

use crate::task::flow::{Order, Plan, Stream};
use crate::task::{PoolError, Retry, TaskError, Terms};

type Begin<'a, R> = Box<dyn FnOnce(Order, Plan) -> Result<Stream<'a, R>, PoolError> + 'a>;

/// A map of an [`Executor`](super::Executor) that has not begun: how it is to go. It begins when it is turned into an iterator,
/// by a `for` loop or by [`start`](ExecutorMap::start).
///
/// Inputs are taken lazily, as many at a time as keep the workers busy, or as [`buffer_size`](ExecutorMap::buffer_size)
/// says. Results come in the order of the inputs, unless [`as_completed`](ExecutorMap::as_completed). An error of one call
/// stands in its place, and the others go on. Dropping the iterator cancels what no worker has begun.
///
/// ```
/// use procession_posix::futures::ThreadPoolExecutor;
///
/// let executor = ThreadPoolExecutor::new()?;
/// let mut squares = Vec::new();
/// // No more than 8 of infinitely many inputs are under way.
/// for square in executor.map(|x: u64| x * x, 0..).buffer_size(8).chunk_size(1) {
///     squares.push(square?);
///     if squares.len() == 4 {
///         break;
///     }
/// }
/// assert_eq!(squares, [0, 1, 4, 9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a map does nothing before it is started or iterated over"]
pub struct ExecutorMap<'a, R> {
    begin: Begin<'a, R>,
    order: Order,
    plan: Plan,
    timeout: Option<Duration>,
}

impl<R> fmt::Debug for ExecutorMap<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorMap")
            .field("order", &self.order)
            .field("plan", &self.plan)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl<'a, R: Send + 'static> ExecutorMap<'a, R> {
    pub(super) fn new(
        terms: Terms,
        begin: impl FnOnce(Order, Plan) -> Result<Stream<'a, R>, PoolError> + 'a,
    ) -> Self {
        let plan = Plan { terms, ..Plan::default() };
        ExecutorMap { begin: Box::new(begin), order: Order::Ordered, plan, timeout: None }
    }

    /// How long all of it may take, counted from its start. The result that is not there then is
    /// [`TaskError::TimedOut`], the last one.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many inputs are taken at most before the first of them comes out: at least 1.
    pub fn buffer_size(mut self, inputs: usize) -> Self {
        self.plan.window = Some(inputs);
        self
    }

    /// How many calls are handed over together: at least 1. Without it that is chosen by how long the calls take.
    pub fn chunk_size(mut self, calls: usize) -> Self {
        self.plan.chunk_size = Some(calls);
        self
    }

    /// Results come as they are there, in whatever order.
    pub fn as_completed(mut self) -> Self {
        self.order = Order::Completed;
        self
    }

    /// How long one call may run. A worker process that is late is ended and replaced. A thread cannot be ended; its call
    /// fails all the same, and another thread takes its place.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.plan.terms.deadline = Some(deadline);
        self
    }

    /// What happens to a call whose worker process dies.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.plan.terms.retry = retry;
        self
    }

    /// Begins: the first inputs are taken and handed over.
    ///
    /// # Errors
    /// [`PoolError::Zero`] for a size of 0, [`PoolError::NotRunning`], [`PoolError::Broken`].
    pub fn start(self) -> Result<ExecutorResults<'a, R>, PoolError> {
        let deadline = Deadline::after_option(self.timeout);
        let stream = (self.begin)(self.order, self.plan)?;
        Ok(ExecutorResults { state: State::Runs(stream), deadline })
    }
}

/// Begins. What [`start`](ExecutorMap::start) would return as an error is the first and only result.
impl<'a, R: Send + 'static> IntoIterator for ExecutorMap<'a, R> {
    type Item = Result<R, TaskError>;
    type IntoIter = ExecutorResults<'a, R>;

    fn into_iter(self) -> ExecutorResults<'a, R> {
        self.start().unwrap_or_else(|error| ExecutorResults {
            state: State::Refused(error.into()),
            deadline: Deadline::NEVER,
        })
    }
}

/// The results of an [`ExecutorMap`]. While it waits this thread helps to bring them about, and hands over further inputs.
#[must_use = "an iterator hands over inputs only while it is asked"]
pub struct ExecutorResults<'a, R> {
    state: State<'a, R>,
    deadline: Deadline,
}

enum State<'a, R> {
    Runs(Stream<'a, R>),
    /// It never began.
    Refused(TaskError),
    Over,
}

impl<R> fmt::Debug for ExecutorResults<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorResults").finish_non_exhaustive()
    }
}

impl<R: Send + 'static> Iterator for ExecutorResults<'_, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = match &mut self.state {
            State::Runs(stream) => stream.next_until(self.deadline).map(|(_, result)| result),
            State::Refused(_) => match std::mem::replace(&mut self.state, State::Over) {
                State::Refused(error) => return Some(Err(error)),
                State::Runs(_) | State::Over => None,
            },
            State::Over => None,
        };
        if matches!(result, None | Some(Err(TaskError::TimedOut))) {
            self.state = State::Over;
        }
        result
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.state {
            // It may time out.
            State::Runs(stream) if self.deadline != Deadline::NEVER => (0, stream.size_hint().1),
            State::Runs(stream) => stream.size_hint(),
            State::Refused(_) => (1, Some(1)),
            State::Over => (0, Some(0)),
        }
    }
}

impl<R: Send + 'static> FusedIterator for ExecutorResults<'_, R> {}
