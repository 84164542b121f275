//! The result of a task that was submitted, before it is there and after.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use procession_core::sys::Deadline;

use crate::task::{Crew, PoolError, Promise, Source, Submit, TaskError, Terms};

/// The result of a task that was submitted to an [`Executor`](super::Executor), as soon as it is there.
///
/// A clone is another handle to the same result. Dropping handles changes nothing: the task is done all the same. All methods
/// may be called by any thread, at any time, also from within a callback or another task.
///
/// Each who asks by [`result`](Future::result) gets a copy. Where a result cannot or should not be copied,
/// [`take`](Future::take) moves it out, once.
///
/// It is also a [`std::future::Future`], which takes the result: `future.await` in any runtime. Nothing is polled and no
/// thread is held up by that.
///
/// ```
/// use procession_posix::futures::ThreadPoolExecutor;
///
/// let executor = ThreadPoolExecutor::new()?;
/// let future = executor.submit(|a: u32, b: u32| a + b, (2, 3))?;
/// assert_eq!(future.result()?, 5);
/// assert!(future.done() && !future.cancel());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Future<R> {
    promise: Promise<R>,
}

impl<R> Clone for Future<R> {
    fn clone(&self) -> Self {
        Future { promise: self.promise.clone() }
    }
}

impl<R> fmt::Debug for Future<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Future").field(&self.promise).finish()
    }
}

/// The futures of two handles to one result are equal; the results are not looked at.
impl<R: Send + 'static> PartialEq for Future<R> {
    fn eq(&self, other: &Self) -> bool {
        self.promise.same(&other.promise)
    }
}

impl<R: Send + 'static> Eq for Future<R> {}

impl<R: Send + 'static> Future<R> {
    /// Submits a task to a crew.
    pub(super) fn submit<C, F, Args>(
        crew: &Arc<C>,
        f: F,
        args: Args,
        terms: &Terms,
    ) -> Result<Self, PoolError>
    where
        C: Submit<F, Args, Output = R>,
    {
        let promise = Promise::new(Some(crew.clone() as Arc<dyn Crew>));
        let task = crew.submit(f, args, promise.sink(), terms)?;
        promise.awaits(Source::Task(task));
        Ok(Future { promise })
    }

    /// A future that no executor of this library brings about, and what its maker sets it by: for executors of one's own.
    ///
    /// ```
    /// use procession_posix::futures::Future;
    ///
    /// let (setter, future) = Future::new();
    /// let worker = std::thread::spawn(move || {
    ///     if setter.set_running() {
    ///         setter.set_result(6 * 7);
    ///     }
    /// });
    /// assert_eq!(future.result()?, 42);
    /// # worker.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new() -> (Setter<R>, Future<R>) {
        let promise = Promise::new(None);
        (Setter { promise: promise.clone() }, Future { promise })
    }

    pub(super) fn promise(&self) -> &Promise<R> {
        &self.promise
    }

    /// Cancels the task if nobody has begun it: it never runs. `true` if it is cancelled, by this call or an earlier one.
    ///
    /// Waiting ends with [`TaskError::Cancelled`] then.
    pub fn cancel(&self) -> bool {
        self.promise.cancel()
    }

    /// Cancels the task, also while it runs: then its worker process is ended and replaced, and others go on. A task on a
    /// thread that has begun cannot be ended. `true` if it is cancelled, or is about to be; if its result was faster, that
    /// counts.
    pub fn abort(&self) -> bool {
        self.promise.abort()
    }

    /// Whether it was cancelled.
    pub fn cancelled(&self) -> bool {
        self.promise.poll() && self.promise.is_cancelled()
    }

    /// Whether a worker runs it at present.
    pub fn running(&self) -> bool {
        !self.promise.poll() && self.promise.is_running()
    }

    /// Whether it is over: with a result, with an error, or cancelled. Never waits.
    pub fn done(&self) -> bool {
        self.promise.poll()
    }

    /// Waits until it is over, no longer than `timeout`, and says whether it is; zero only looks.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.promise.wait(Deadline::after(timeout))
    }

    /// Waits for the result and copies it. While it waits this thread helps to bring it about: it collects what workers have
    /// answered, also for others.
    ///
    /// # Errors
    /// What became of the task instead of a result. [`TaskError::Taken`] if another handle has taken it.
    pub fn result(&self) -> Result<R, TaskError>
    where
        R: Clone,
    {
        self.promise.result(Deadline::NEVER)
    }

    /// As [`result`](Future::result), but waits no longer than `timeout`; zero only looks.
    ///
    /// # Errors
    /// As there, and [`TaskError::TimedOut`]: the task goes on.
    pub fn result_timeout(&self, timeout: Duration) -> Result<R, TaskError>
    where
        R: Clone,
    {
        self.promise.result(Deadline::after(timeout))
    }

    /// Waits for the result and moves it out of the future: for results that are large or cannot be copied. Who asks
    /// after that finds [`TaskError::Taken`]. An error stays for all.
    ///
    /// # Errors
    /// As [`result`](Future::result).
    ///
    /// ```
    /// use procession_posix::futures::ThreadPoolExecutor;
    /// use procession_posix::pool::TaskError;
    ///
    /// struct Large(Vec<u8>); // not Clone
    /// let executor = ThreadPoolExecutor::new()?;
    /// let future = executor.submit(|| Large(vec![7; 1 << 20]), ())?;
    /// assert_eq!(future.take()?.0.len(), 1 << 20);
    /// assert!(matches!(future.take(), Err(TaskError::Taken)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take(&self) -> Result<R, TaskError> {
        self.promise.take(Deadline::NEVER)
    }

    /// As [`take`](Future::take), but waits no longer than `timeout`; zero only looks.
    ///
    /// # Errors
    /// As there, and [`TaskError::TimedOut`]: the task goes on.
    pub fn take_timeout(&self, timeout: Duration) -> Result<R, TaskError> {
        self.promise.take(Deadline::after(timeout))
    }

    /// Waits until it is over; the error with which it ended, or `None` if it has a result.
    ///
    /// # Errors
    /// [`TaskError::Cancelled`] if it was cancelled.
    pub fn exception(&self) -> Result<Option<TaskError>, TaskError> {
        self.exception_by(Deadline::NEVER)
    }

    /// As [`exception`](Future::exception), but waits no longer than `timeout`; zero only looks.
    ///
    /// # Errors
    /// As there, and [`TaskError::TimedOut`].
    pub fn exception_timeout(&self, timeout: Duration) -> Result<Option<TaskError>, TaskError> {
        self.exception_by(Deadline::after(timeout))
    }

    fn exception_by(&self, deadline: Deadline) -> Result<Option<TaskError>, TaskError> {
        if !self.promise.wait(deadline) {
            return Err(self.promise.not_done());
        }
        match self.promise.error() {
            Some(TaskError::Cancelled) => Err(TaskError::Cancelled),
            error => Ok(error),
        }
    }

    /// Whether it ended with an error; cancelled is none.
    pub(super) fn has_failed(&self) -> bool {
        self.promise.error().is_some() && !self.promise.is_cancelled()
    }

    /// Has `callback` called with this future when it is over, however it is; at once if it is over already.
    ///
    /// Callbacks run one after the other, in the order in which they were added, before the result is
    /// [taken](Future::take): on a thread that the executor keeps for them, or on one that takes the result; where the system gives
    /// no thread, on one that waits for anything of the executor. No lock of this library is held then. A panic in one
    /// is reported by the panic hook and harms nobody.
    ///
    /// ```
    /// use procession_posix::futures::ThreadPoolExecutor;
    /// use std::sync::mpsc;
    ///
    /// let executor = ThreadPoolExecutor::new()?;
    /// let (tell, told) = mpsc::channel();
    /// let future = executor.submit(|| 5, ())?;
    /// future.add_done_callback(move |future| tell.send(future.result()).unwrap());
    /// assert_eq!(told.recv()??, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_done_callback(&self, callback: impl FnOnce(&Future<R>) + Send + 'static) {
        self.promise.add_callback(move |promise| callback(&Future { promise: promise.clone() }));
    }
}

/// Takes the result.
impl<R: Send + 'static> std::future::Future for Future<R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let promise = &self.promise;
        if !promise.poll() && promise.add_waker(context.waker()) {
            return Poll::Pending;
        }
        match promise.take(Deadline::NOW) {
            Err(TaskError::TimedOut) => {
                // A callback is running: this is called behind it.
                let waker: Waker = context.waker().clone();
                promise.add_callback(move |_| waker.wake());
                Poll::Pending
            }
            outcome => Poll::Ready(outcome),
        }
    }
}

/// What the maker of a future of its own sets it by, see [`Future::new`]. If it is dropped before, the future is cancelled.
pub struct Setter<R: Send + 'static> {
    promise: Promise<R>,
}

impl<R: Send + 'static> fmt::Debug for Setter<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Setter").field(&self.promise).finish()
    }
}

impl<R: Send + 'static> Setter<R> {
    /// The task begins: from now on it cannot be cancelled. `false` if it was cancelled before, or has begun.
    pub fn set_running(&self) -> bool {
        self.promise.begin()
    }

    /// The task is over, with a result. `false`, and the result is dropped, if it was cancelled before.
    pub fn set_result(self, result: R) -> bool {
        self.promise.finish(Ok(result))
    }

    /// The task is over, with an error. `false` if it was cancelled before.
    pub fn set_exception(self, error: TaskError) -> bool {
        self.promise.finish(Err(Box::new(error)))
    }
}

impl<R: Send + 'static> Drop for Setter<R> {
    fn drop(&mut self) {
        self.promise.finish(Err(Box::new(TaskError::Cancelled)));
    }
}
