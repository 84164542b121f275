//! The result of a task that was handed to a pool.

use std::fmt;
use std::time::Duration;

use procession_core::sys::Deadline;

use super::TaskError;
use crate::task::Promise;

/// The result of a task, or of a whole map, that may not be there yet. A clone is another handle to the same one.
///
/// Whoever waits helps the pool: it collects what has been answered, for others too. Dropping the handle changes nothing for the
/// task.
pub struct AsyncResult<R> {
    promise: Promise<R>,
}

impl<R> Clone for AsyncResult<R> {
    fn clone(&self) -> Self {
        AsyncResult { promise: self.promise.clone() }
    }
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("promise", &self.promise).finish()
    }
}

impl<R: Send + 'static> AsyncResult<R> {
    pub(super) fn new(promise: Promise<R>) -> Self {
        AsyncResult { promise }
    }

    /// Waits for the result and takes it. Callbacks have seen it before.
    ///
    /// # Errors
    /// What became of the task instead; that can be asked for again and again. [`TaskError::Taken`] when the result was
    /// taken before.
    pub fn get(&self) -> Result<R, TaskError> {
        self.promise.take(Deadline::NEVER)
    }

    /// Waits for the result for so long, and takes it.
    ///
    /// # Errors
    /// As of [`get`](Self::get); [`TaskError::TimedOut`] if it is not there in time: the task goes on, and can be asked
    /// again.
    pub fn get_timeout(&self, timeout: Duration) -> Result<R, TaskError> {
        self.promise.take(Deadline::after(timeout))
    }

    /// Waits for the result and copies it, so that others can have it too.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub fn get_cloned(&self) -> Result<R, TaskError>
    where
        R: Clone,
    {
        self.promise.result(Deadline::NEVER)
    }

    /// Waits until the result is there, or an error.
    pub fn wait(&self) {
        self.promise.wait(Deadline::NEVER);
    }

    /// Waits for so long until the result is there, or an error; whether it is.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.promise.wait(Deadline::after(timeout))
    }

    /// Whether the result is there, or an error. Collects, but does not wait.
    pub fn ready(&self) -> bool {
        self.promise.poll()
    }

    /// Whether it ended without an error; `None` while it has not ended.
    ///
    /// ```
    /// use procession_posix::pool::Pool;
    ///
    /// let pool = Pool::new(1)?;
    /// let result = pool.apply_async(|x: u32| 100 / x, (0,))?;
    /// result.wait();
    /// assert_eq!(result.successful(), Some(false));
    /// assert!(result.get().unwrap_err().to_string().contains("divide by zero"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn successful(&self) -> Option<bool> {
        self.promise.poll().then(|| self.promise.is_ok())
    }

    /// Cancels the task if no worker has begun it: it never runs. Of a map: whatever no worker has begun. Whether
    /// the result is [`TaskError::Cancelled`], or will be.
    pub fn cancel(&self) -> bool {
        self.promise.cancel()
    }

    /// Cancels the task, also if it runs: then its worker is ended and replaced, which no thread can be. Whether the
    /// result is [`TaskError::Cancelled`], or will be unless the worker was faster.
    pub fn abort(&self) -> bool {
        self.promise.abort()
    }
}
