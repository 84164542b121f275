//! A call, or a map, of which more is said than function and arguments.

use std::fmt;
use std::time::Duration;

use procession_core::sys::Deadline;

use super::{AsyncResult, Imap, PoolError, PoolOf, Retry, TaskError};
use crate::task::flow::{self, Order, Plan, Stream};
use crate::task::{Promise, Source, Submit, SubmitMany, Terms};

type Callback<R> = Option<Box<dyn FnOnce(&R) + Send>>;
type ErrorCallback = Option<Box<dyn FnOnce(&TaskError) + Send>>;

/// Has them called with what becomes of the promise.
fn call_back<R: Send + 'static>(promise: &Promise<R>, ok: Callback<R>, error: ErrorCallback) {
    if ok.is_none() && error.is_none() {
        return;
    }
    promise.add_callback(|promise| {
        // An earlier callback may have taken it.
        let _ = promise.lend(Deadline::NEVER, |outcome| match (outcome, ok, error) {
            (Ok(result), Some(ok), _) => ok(result),
            (Err(reason), _, Some(error)) => error(reason),
            _ => {}
        });
    });
}

/// A call that a pool is to make, made by [`PoolOf::task`].
///
/// ```
/// use procession_posix::pool::{Pool, Retry};
/// use std::sync::mpsc;
/// use std::time::Duration;
///
/// let pool = Pool::new(1)?;
/// let (said, heard) = mpsc::channel();
/// let result = pool
///     .task(|x: u32| x + 1, (1,))
///     .deadline(Duration::from_secs(5))
///     .retry(Retry::idempotent(3))
///     .callback(move |sum| said.send(*sum).unwrap())
///     .apply_async()?;
/// assert_eq!(result.get()?, 2);
/// assert_eq!(heard.try_recv()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is called before `apply` or `apply_async`"]
pub struct Task<'p, C: Submit<F, Args>, F, Args> {
    pool: &'p PoolOf<C>,
    f: F,
    args: Args,
    terms: Terms,
    ok: Callback<C::Output>,
    error: ErrorCallback,
}

impl<'p, C: Submit<F, Args>, F, Args> Task<'p, C, F, Args> {
    pub(super) fn new(pool: &'p PoolOf<C>, f: F, args: Args) -> Self {
        Task { pool, f, args, terms: pool.terms().clone(), ok: None, error: None }
    }

    /// How long it may run, from the moment at which a worker begins it; after that it is [`TaskError::DeadlinePassed`].
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.terms.deadline = Some(limit);
        self
    }

    /// What happens when its worker dies.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.terms.retry = retry;
        self
    }

    /// Has this called with the result, on a thread of the pool or on that of whoever gets the result, before it gets it; where the
    /// system gives no thread, on that of whoever waits for anything of the pool. No lock of this library is held then.
    /// A panic in it is reported by the panic hook, and harms nobody.
    pub fn callback(mut self, callback: impl FnOnce(&C::Output) + Send + 'static) -> Self {
        self.ok = Some(Box::new(callback));
        self
    }

    /// Has this called with the error, if it comes to one.
    pub fn error_callback(mut self, callback: impl FnOnce(&TaskError) + Send + 'static) -> Self {
        self.error = Some(Box::new(callback));
        self
    }

    /// Makes the call and waits for its result.
    ///
    /// # Errors
    /// What became of it instead.
    pub fn apply(self) -> Result<C::Output, TaskError> {
        self.apply_async()?.get()
    }

    /// Makes the call.
    ///
    /// # Errors
    /// Why the pool does not take it.
    pub fn apply_async(self) -> Result<AsyncResult<C::Output>, PoolError> {
        let promise = self.pool.submit(self.f, self.args, &self.terms)?;
        call_back(&promise, self.ok, self.error);
        Ok(AsyncResult::new(promise))
    }
}

impl<C: Submit<F, Args>, F, Args> fmt::Debug for Task<'_, C, F, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// Many calls of one function that a pool is to make, made by [`PoolOf::tasks`] or [`PoolOf::star_tasks`].
///
/// ```
/// use procession_posix::pool::Pool;
///
/// let pool = Pool::new(2)?;
/// let lengths = pool.tasks(|word: String| word.len(), ["a", "bc"].map(String::from));
/// let lengths: Vec<usize> = lengths.chunk_size(1).window(1).imap()?.collect::<Result<_, _>>()?;
/// assert_eq!(lengths, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is called before `map` or another of these"]
pub struct Tasks<'p, C: SubmitMany<F, I::Item>, F, I: Iterator> {
    pool: &'p PoolOf<C>,
    f: F,
    inputs: I,
    plan: Plan,
    ok: Callback<Vec<C::Output>>,
    error: ErrorCallback,
}

impl<'p, C: SubmitMany<F, I::Item>, F, I: Iterator> Tasks<'p, C, F, I> {
    pub(super) fn new(pool: &'p PoolOf<C>, f: F, inputs: I) -> Self {
        let plan = Plan { terms: pool.terms().clone(), ..Plan::default() };
        Tasks { pool, f, inputs, plan, ok: None, error: None }
    }

    /// How many inputs a worker takes at once. Without this it is measured, so that a worker is busy with them for some 150 microseconds.
    /// 0 is an error of the call that follows.
    pub fn chunk_size(mut self, inputs: usize) -> Self {
        self.plan.chunk_size = Some(inputs);
        self
    }

    /// How many inputs are taken at most whose results were not handed out; for `map` and `map_async`, which keep all results, whose
    /// results are not there. Without this it is what keeps all workers busy. 0 is an error of the call that follows.
    pub fn window(mut self, inputs: usize) -> Self {
        self.plan.window = Some(inputs);
        self
    }

    /// How long each call may run, from the moment at which a worker begins it.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.plan.terms.deadline = Some(limit);
        self
    }

    /// What happens to a call whose worker dies.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.plan.terms.retry = retry;
        self
    }

    /// Has this called with all results, by `map` or `map_async`. See [`Task::callback`].
    pub fn callback(mut self, callback: impl FnOnce(&Vec<C::Output>) + Send + 'static) -> Self {
        self.ok = Some(Box::new(callback));
        self
    }

    /// Has this called with the first error, by `map` or `map_async`, if there is one.
    pub fn error_callback(mut self, callback: impl FnOnce(&TaskError) + Send + 'static) -> Self {
        self.error = Some(Box::new(callback));
        self
    }

    /// Makes all calls, and waits for all: their results in the order of the inputs.
    ///
    /// # Errors
    /// What became of the first call without a result, in the order of the inputs. All others were made nevertheless.
    pub fn map(self) -> Result<Vec<C::Output>, TaskError> {
        self.plan.check()?;
        let crew = self.pool.crew();
        let pass = self.pool.gate().enter(crew.clone(), false)?;
        let results = flow::map(crew.clone(), self.f, self.inputs, self.plan, pass);
        if self.ok.is_some() || self.error.is_some() {
            let promise = Promise::new(None);
            call_back(&promise, self.ok, self.error);
            promise.finish(results.map_err(Box::new));
            return promise.take(Deadline::NEVER);
        }
        results
    }

    /// Makes all calls in the background: the first inputs are taken here and now, the others by a thread of the pool, or by
    /// whoever waits for the result.
    ///
    /// # Errors
    /// `Zero`, or why the pool takes none.
    pub fn map_async(self) -> Result<AsyncResult<Vec<C::Output>>, PoolError>
    where
        F: Send + Sync + 'static,
        I: Send + 'static,
        I::Item: Send,
    {
        self.plan.check()?;
        let (crew, gate) = (self.pool.crew().clone(), self.pool.gate());
        let promise = flow::background(crew, self.f, self.inputs, self.plan, gate)?;
        call_back(&promise, self.ok, self.error);
        Ok(AsyncResult::new(promise))
    }

    /// Makes the calls while their results are taken one by one, in the order of the inputs.
    ///
    /// # Errors
    /// `Zero`, or why the pool takes none.
    pub fn imap<'a>(self) -> Result<Imap<'a, C::Output>, PoolError>
    where
        F: 'a,
        I: 'a,
    {
        self.stream(Order::Ordered)
    }

    /// Makes the calls while their results are taken one by one, as they come.
    ///
    /// # Errors
    /// `Zero`, or why the pool takes none.
    pub fn imap_unordered<'a>(self) -> Result<Imap<'a, C::Output>, PoolError>
    where
        F: 'a,
        I: 'a,
    {
        self.stream(Order::Completed)
    }

    fn stream<'a>(self, order: Order) -> Result<Imap<'a, C::Output>, PoolError>
    where
        F: 'a,
        I: 'a,
    {
        self.plan.check()?;
        let crew = self.pool.crew().clone();
        let pass = self.pool.gate().enter(crew.clone(), true)?;
        Ok(Imap::new(Stream::new(crew, self.f, self.inputs, order, self.plan, pass)))
    }
}

impl<C: SubmitMany<F, I::Item>, F, I: Iterator> fmt::Debug for Tasks<'_, C, F, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Each input as the only argument of a call.
#[derive(Clone, Debug)]
pub struct Each<I>(pub(super) I);

impl<I: Iterator> Iterator for Each<I> {
    type Item = (I::Item,);

    #[inline]
    fn next(&mut self) -> Option<(I::Item,)> {
        self.0.next().map(|input| (input,))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<C> PoolOf<C> {
    fn submit<F, Args>(
        &self,
        f: F,
        args: Args,
        terms: &Terms,
    ) -> Result<Promise<C::Output>, PoolError>
    where
        C: Submit<F, Args>,
    {
        let crew = self.crew();
        self.gate().check(&**crew)?;
        let promise = Promise::new(Some(crew.clone()));
        let task = crew.submit(f, args, promise.sink(), terms)?;
        promise.awaits(Source::Task(task));
        Ok(promise)
    }
}
