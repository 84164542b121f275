//! What all executors have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use procession_core::sys::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Future;
use super::map::ExecutorMap;
use crate::process::Target;
use crate::task::flow::Stream;
use crate::task::gate::Gate;
use crate::task::{Crew, PoolError, PoolState, Statistics, Submit, SubmitMany, Terms};

/// Something that runs functions and gives a [`Future`] for each: processes, threads, or the caller itself.
///
/// What is generic over it runs with any of them, so that a program made for processes is tested without any. For that
/// its functions are what processes can run: functions by their name and closures without captures, with arguments and
/// results that serde knows; see [`Target`]. The executors over threads have methods of the same names besides that take
/// whatever a thread can run.
///
/// # Dropping
/// An executor that is dropped, be it by the unwinding of a panic, shuts down and waits until all its tasks are over, as Python's
/// `with` does: nothing goes on behind the back of who made it. So a task that never ends holds it up for ever. Who does not want
/// that says how it is to end before: after [`shutdown`](Executor::shutdown), with whatever [`Shutdown`], dropping waits for
/// nobody. With [`wait(false)`](Shutdown::wait) tasks end by themselves, for as long as this process lives; with a
/// [`timeout`](Shutdown::timeout) it is up to the caller what to do with those that are late. Worker processes can also be ended, by
/// [`terminate_workers`](super::ProcessPoolExecutor::terminate_workers), and late tasks by a deadline. No thread can be.
///
/// ```
/// use procession_posix::futures::{Executor, InlineExecutor, ThreadPoolExecutor};
///
/// fn sum_of_squares(executor: &impl Executor, n: u64) -> Result<u64, Box<dyn std::error::Error>> {
///     let squares = executor.map(|x: u64| x * x, 0..n).into_iter();
///     Ok(squares.sum::<Result<u64, _>>()?)
/// }
///
/// assert_eq!(sum_of_squares(&ThreadPoolExecutor::new()?, 10)?, 285);
/// assert_eq!(sum_of_squares(&InlineExecutor::new(), 10)?, 285);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Executor {
    /// Has `f` called with these arguments, a tuple. Never waits: what cannot begin at once is queued.
    ///
    /// # Errors
    /// [`PoolError::NotRunning`] after [`shutdown`](Executor::shutdown), [`PoolError::Broken`], and, over processes, arguments
    /// that cannot be encoded or for which there is no room. Nothing was handed over then.
    fn submit<F, Args>(&self, f: F, args: Args) -> Result<Future<F::Output>, PoolError>
    where
        F: Target<Args>,
        F::Output: Send + 'static,
        Args: Serialize + DeserializeOwned + Send + 'static;

    /// Calls `f` with each input; an iterator over the results once it is told how, see [`ExecutorMap`]. Nothing happens
    /// before. For functions of several arguments zip the inputs: `|(a, b)| ...`.
    fn map<'a, F, A, I>(&self, f: F, inputs: I) -> ExecutorMap<'a, F::Output>
    where
        F: Target<(A,)>,
        F::Output: Send + 'static,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A> + 'a;

    /// Takes no more tasks, and waits for those that there are, or not, as [`Shutdown`] says. May be called again. Dropping the
    /// executor does not wait after this.
    ///
    /// # Errors
    /// [`PoolError::TimedOut`]: not all is over in time; it goes on. [`PoolError::Within`], if a task of the executor
    /// itself waits.
    fn shutdown(&self, how: Shutdown) -> Result<(), PoolError>;
}

/// How an executor is shut down. By default all tasks are done, and it is waited for them.
///
/// ```
/// use procession_posix::futures::{Executor, Shutdown, ThreadPoolExecutor};
/// use std::time::Duration;
///
/// let executor = ThreadPoolExecutor::new()?;
/// let future = executor.submit(|| 1, ())?;
/// executor.shutdown(Shutdown::new().timeout(Duration::from_secs(10)))?;
/// assert!(future.done());
/// assert!(executor.submit(|| 2, ()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    wait: bool,
    cancel_futures: bool,
    timeout: Option<Duration>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { wait: true, cancel_futures: false, timeout: None }
    }
}

impl Shutdown {
    /// All tasks are done, and it is waited for them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to wait until all tasks are over and all workers gone. If not, they end by themselves, and who drops the executor does
    /// not wait either.
    #[must_use]
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Whether to cancel all that no worker has begun.
    #[must_use]
    pub fn cancel_futures(mut self, cancel: bool) -> Self {
        self.cancel_futures = cancel;
        self
    }

    /// How long to wait at most.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// An executor over some crew. Dropping it shuts it down and waits, unless it was shut down before.
pub(super) struct Face<C: Crew> {
    crew: Arc<C>,
    gate: Arc<Gate>,
    terms: Terms,
    /// Somebody has said how it is to end.
    told: AtomicBool,
    /// Whose the workers are: in a forked process there are none to wait for.
    pid: u32,
}

impl<C: Crew> std::fmt::Debug for Face<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Face").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl<C: Crew> Face<C> {
    pub(super) fn new(crew: Arc<C>, terms: Terms) -> Self {
        let told = AtomicBool::new(false);
        Face { crew, gate: Arc::default(), terms, told, pid: std::process::id() }
    }

    pub(super) fn submit<F, Args>(&self, f: F, args: Args) -> Result<Future<C::Output>, PoolError>
    where
        C: Submit<F, Args>,
    {
        self.gate.check(&*self.crew)?;
        Future::submit(&self.crew, f, args, &self.terms)
    }

    /// A map with these inputs, each the arguments of one call.
    pub(super) fn map<'a, F, Args, I>(&self, f: F, inputs: I) -> ExecutorMap<'a, C::Output>
    where
        C: SubmitMany<F, Args>,
        F: 'a,
        I: IntoIterator<Item = Args> + 'a,
    {
        let (crew, gate) = (self.crew.clone(), self.gate.clone());
        ExecutorMap::new(self.terms.clone(), move |order, plan| {
            plan.check()?;
            let pass = gate.enter(crew.clone(), true)?;
            Ok(Stream::new(crew, f, inputs.into_iter(), order, plan, pass))
        })
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> Result<(), PoolError> {
        // Relaxed: who drops it comes after all others.
        self.told.store(true, Ordering::Relaxed);
        self.gate.close(&*self.crew);
        if how.cancel_futures {
            self.crew.withdraw_all();
        }
        if !how.wait {
            // Somebody has to collect the last results, for the workers to leave.
            self.crew.attend();
            return Ok(());
        }
        self.gate.join(&*self.crew, Deadline::after_option(how.timeout))
    }

    pub(super) fn crew(&self) -> &Arc<C> {
        &self.crew
    }

    pub(super) fn state(&self) -> PoolState {
        self.gate.state(&*self.crew)
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.crew.statistics()
    }
}

impl<C: Crew> Drop for Face<C> {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            return;
        }
        // Relaxed: as above.
        if !self.told.load(Ordering::Relaxed) {
            // One of its own tasks may drop it, and cannot wait for itself. Then it ends by itself.
            let _ = self.shutdown(Shutdown::default());
        } else if matches!(self.crew.state(), PoolState::Terminating | PoolState::Broken) {
            self.crew.dismiss();
        }
    }
}

/// Calls a target here.
pub(super) fn call<F: Target<Args>, Args>(f: F, args: Args) -> F::Output {
    let _the_value: F = f;
    // SAFETY: there has been a value of this type: it was given.
    unsafe { F::call(args) }
}

/// Gives an executor over threads, or over none, the methods of [`Executor`], and the same for whatever a thread can run.
macro_rules! in_process {
    ($executor:ty) => {
        impl $executor {
            /// Has `f` called with these arguments, a tuple; it may capture. Never waits for other tasks.
            ///
            /// # Errors
            /// [`PoolError::NotRunning`] after `shutdown`, [`PoolError::Broken`] if the initializer failed,
            /// [`PoolError::Resource`] if there is no thread to be had.
            pub fn submit<F, Args>(
                &self,
                f: F,
                args: Args,
            ) -> Result<Future<<F as CallOnce<Args>>::Output>, PoolError>
            where
                F: CallOnce<Args>,
                Args: Send + 'static,
            {
                self.face.submit(f, args)
            }

            /// Calls `f`, which may capture, with each input; an iterator over the results once it is told how, see
            /// [`ExecutorMap`]. Nothing happens before. For functions of several arguments zip the inputs: `|(a, b)| ...`.
            pub fn map<'a, F, A, R, I>(&self, f: F, inputs: I) -> ExecutorMap<'a, R>
            where
                F: Fn(A) -> R + Send + Sync + 'static,
                A: Send + 'static,
                R: Send + 'static,
                I: IntoIterator<Item = A> + 'a,
            {
                self.face.map(f, inputs.into_iter().map(|input| (input,)))
            }

            /// Takes no more tasks, and waits for those that there are, or not, as [`Shutdown`] says. May be called again.
            ///
            /// # Errors
            /// [`PoolError::TimedOut`]: not all is over in time; it goes on. [`PoolError::Within`], if a task of the
            /// executor itself waits.
            pub fn shutdown(&self, how: Shutdown) -> Result<(), PoolError> {
                self.face.shutdown(how)
            }

            /// Where it is in its life.
            pub fn state(&self) -> PoolState {
                self.face.state()
            }

            /// What it has done so far.
            pub fn statistics(&self) -> Statistics {
                self.face.statistics()
            }
        }

        impl Executor for $executor {
            fn submit<F, Args>(&self, f: F, args: Args) -> Result<Future<F::Output>, PoolError>
            where
                F: Target<Args>,
                F::Output: Send + 'static,
                Args: Serialize + DeserializeOwned + Send + 'static,
            {
                self.face.submit(move || executor::call(f, args), ())
            }

            fn map<'a, F, A, I>(&self, f: F, inputs: I) -> ExecutorMap<'a, F::Output>
            where
                F: Target<(A,)>,
                F::Output: Send + 'static,
                A: Serialize + DeserializeOwned + Send + 'static,
                I: IntoIterator<Item = A> + 'a,
            {
                <$executor>::map(self, move |input| executor::call(f, (input,)), inputs)
            }

            fn shutdown(&self, how: Shutdown) -> Result<(), PoolError> {
                self.face.shutdown(how)
            }
        }
    };
}

pub(super) use in_process;
