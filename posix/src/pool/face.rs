//! A pool, as its users have it.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use procession_core::sys::Deadline;

use super::progress::Progress;
use super::tasks::Each;
use super::{
    AsyncResult, Imap, PoolBuilder, PoolError, PoolState, Statistics, Task, TaskError, Tasks,
    WorkerInfo,
};
use crate::task::gate::Gate;
use crate::task::{Crew, Start, Submit, SubmitMany, Terms};

/// A pool of workers of the kind `C`: [`Pool`](super::Pool) has processes, [`thread::Pool`](crate::thread::Pool) threads.
///
/// Dropping it terminates it, as the end of Python's `with` does: tasks that are not done are lost, and say so. To have all done,
/// [`close`](Self::close) and [`join`](Self::join) it, or wait for what is of interest. In a process that was forked from the one that made
/// the pool it cannot be used, and dropping it does nothing.
///
/// A call and its result take some microseconds, of which handing over is less than one; a map hands over many inputs at once and
/// takes some ten nanoseconds for each. See the [module](super) for what can be called and what becomes of it.
pub struct PoolOf<C> {
    crew: Arc<C>,
    /// `crew.dismiss()`, which is there for crews only.
    dismiss: fn(&C),
    gate: Arc<Gate>,
    terms: Terms,
    progress: Option<Progress>,
    owner: u32,
}

impl<C: Start> PoolOf<C> {
    /// A pool of so many workers.
    ///
    /// # Errors
    /// `Zero` for none; `Start`, `Memory` or `Resource` if they cannot be had; nothing is left then.
    pub fn new(workers: usize) -> Result<Self, PoolError> {
        Self::builder().processes(workers).build()
    }

    /// A pool with one worker for each processor that this process may use.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn per_cpu() -> Result<Self, PoolError> {
        Self::builder().build()
    }

    /// A pool of which more is to be said.
    pub fn builder() -> PoolBuilder<C> {
        PoolBuilder::new()
    }
}

impl<C: Crew> PoolOf<C> {
    pub(super) fn over(crew: Arc<C>, terms: Terms) -> Self {
        PoolOf {
            crew,
            dismiss: C::dismiss,
            gate: Arc::default(),
            terms,
            progress: None,
            owner: std::process::id(),
        }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        self.progress = Some(progress);
    }

    /// Calls `f` with `args`, a tuple, in a worker, and waits for its result.
    ///
    /// # Errors
    /// What became of the call instead; [`TaskError::Refused`] if the pool does not take it.
    pub fn apply<F, Args, R>(&self, f: F, args: Args) -> Result<R, TaskError>
    where
        R: Send + 'static,
        C: Submit<F, Args, Output = R>,
    {
        self.task(f, args).apply()
    }

    /// Has `f` called with `args`, a tuple, in a worker.
    ///
    /// # Errors
    /// Why the pool does not take it: it is closed or broken, the arguments do not encode, memory is full.
    pub fn apply_async<F, Args, R>(&self, f: F, args: Args) -> Result<AsyncResult<R>, PoolError>
    where
        R: Send + 'static,
        C: Submit<F, Args, Output = R>,
    {
        self.task(f, args).apply_async()
    }

    /// A call with callbacks, or with terms of its own.
    pub fn task<F, Args>(&self, f: F, args: Args) -> Task<'_, C, F, Args>
    where
        C: Submit<F, Args>,
    {
        Task::new(self, f, args)
    }

    /// Calls `f` with each input, and waits for all: the results in the order of the inputs. The inputs are taken by the calling
    /// thread, as there is room for them; how many a worker takes at once is measured.
    ///
    /// # Errors
    /// What became of the first call without a result, in the order of the inputs. All others are made nevertheless.
    pub fn map<F, I, R>(&self, f: F, inputs: I) -> Result<Vec<R>, TaskError>
    where
        R: Send + 'static,
        I: IntoIterator,
        C: SubmitMany<F, (I::Item,), Output = R>,
    {
        self.tasks(f, inputs).map()
    }

    /// The same in the background: the first inputs are taken here and now, the others by a thread of the pool, or by
    /// whoever waits for the result.
    ///
    /// # Errors
    /// Why the pool takes none.
    pub fn map_async<F, I, R>(&self, f: F, inputs: I) -> Result<AsyncResult<Vec<R>>, PoolError>
    where
        R: Send + 'static,
        F: Send + Sync + 'static,
        I: IntoIterator<IntoIter: Send + 'static, Item: Send>,
        C: SubmitMany<F, (I::Item,), Output = R>,
    {
        self.tasks(f, inputs).map_async()
    }

    /// Calls `f` with each input, while the results are taken one by one, in the order of the inputs.
    ///
    /// # Errors
    /// Why the pool takes none.
    pub fn imap<'a, F, I, R>(&self, f: F, inputs: I) -> Result<Imap<'a, R>, PoolError>
    where
        R: Send + 'static,
        F: 'a,
        I: IntoIterator<IntoIter: 'a>,
        C: SubmitMany<F, (I::Item,), Output = R>,
    {
        self.tasks(f, inputs).imap()
    }

    /// Calls `f` with each input, while the results are taken one by one, as they come.
    ///
    /// # Errors
    /// Why the pool takes none.
    pub fn imap_unordered<'a, F, I, R>(&self, f: F, inputs: I) -> Result<Imap<'a, R>, PoolError>
    where
        R: Send + 'static,
        F: 'a,
        I: IntoIterator<IntoIter: 'a>,
        C: SubmitMany<F, (I::Item,), Output = R>,
    {
        self.tasks(f, inputs).imap_unordered()
    }

    /// As [`map`](Self::map), for functions of several arguments: each input is a tuple of them.
    ///
    /// ```
    /// use procession_posix::pool::Pool;
    ///
    /// let pool = Pool::new(1)?;
    /// let sums = pool.starmap(|a: u32, b: u32| a + b, [(1, 2), (3, 4)])?;
    /// assert_eq!(sums, [3, 7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`map`](Self::map).
    pub fn starmap<F, I, R>(&self, f: F, inputs: I) -> Result<Vec<R>, TaskError>
    where
        R: Send + 'static,
        I: IntoIterator,
        C: SubmitMany<F, I::Item, Output = R>,
    {
        self.star_tasks(f, inputs).map()
    }

    /// As [`map_async`](Self::map_async), for functions of several arguments.
    ///
    /// # Errors
    /// Why the pool takes none.
    pub fn starmap_async<F, I, R>(&self, f: F, inputs: I) -> Result<AsyncResult<Vec<R>>, PoolError>
    where
        R: Send + 'static,
        F: Send + Sync + 'static,
        I: IntoIterator<IntoIter: Send + 'static, Item: Send>,
        C: SubmitMany<F, I::Item, Output = R>,
    {
        self.star_tasks(f, inputs).map_async()
    }

    /// A map of any kind of which more is to be said: sizes, callbacks, terms.
    pub fn tasks<F, I>(&self, f: F, inputs: I) -> Tasks<'_, C, F, Each<I::IntoIter>>
    where
        I: IntoIterator,
        C: SubmitMany<F, (I::Item,)>,
    {
        Tasks::new(self, f, Each(inputs.into_iter()))
    }

    /// As [`tasks`](Self::tasks), for functions of several arguments: each input is a tuple of them.
    pub fn star_tasks<F, I>(&self, f: F, inputs: I) -> Tasks<'_, C, F, I::IntoIter>
    where
        I: IntoIterator,
        C: SubmitMany<F, I::Item>,
    {
        Tasks::new(self, f, inputs.into_iter())
    }

    /// Takes no more calls. Those that it has taken go on: tasks, maps in the background, maps of other threads, and
    /// iterators for as long as somebody takes results from them. Does not wait.
    pub fn close(&self) {
        self.gate.close(&*self.crew);
    }

    /// Ends the workers at once. What is not done gets [`TaskError::Terminated`]. Does not wait for the workers; threads
    /// cannot be ended, and leave after what they are at.
    pub fn terminate(&self) {
        self.gate.close(&*self.crew);
        self.crew.terminate();
    }

    /// Waits until all is done that was taken, all workers are gone, and all callbacks have run. An iterator of results whose inputs are not all handed over is
    /// cut off, and says so.
    ///
    /// # Errors
    /// [`PoolError::StillRunning`] if it was neither closed nor terminated.
    pub fn join(&self) -> Result<(), PoolError> {
        self.join_until(Deadline::NEVER)
    }

    /// Waits for so long until all is done that was taken, all workers are gone, and all callbacks have run.
    ///
    /// # Errors
    /// `StillRunning`; [`PoolError::TimedOut`], after which it can be joined again.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), PoolError> {
        self.join_until(Deadline::after(timeout))
    }

    fn join_until(&self, deadline: Deadline) -> Result<(), PoolError> {
        if std::process::id() != self.owner {
            return Err(PoolError::Forked { owner: self.owner });
        }
        self.gate.join(&*self.crew, deadline)?;
        if let Some(progress) = &self.progress {
            progress.show(&self.crew.statistics());
        }
        Ok(())
    }

    /// From now on it has so many workers: the lower number always, up to the higher one as tasks queue up. Workers that are too many
    /// leave when they are done with what they run.
    ///
    /// # Errors
    /// `Zero` for a range without a worker, `TooMany`, `NotRunning`.
    pub fn resize(&self, workers: RangeInclusive<usize>) -> Result<(), PoolError> {
        self.gate.check(&*self.crew)?;
        if *workers.start() == 0 || workers.is_empty() {
            return Err(PoolError::Zero { what: "the number of workers" });
        }
        self.crew.resize(workers)
    }

    /// What it has done so far.
    pub fn statistics(&self) -> Statistics {
        self.crew.statistics()
    }

    /// Where it is in its life.
    pub fn state(&self) -> PoolState {
        self.gate.state(&*self.crew)
    }

    /// Why it is broken, if it is.
    pub fn cause(&self) -> Option<Arc<PoolError>> {
        self.crew.cause()
    }

    /// The workers at present.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.crew.workers()
    }
}

impl<C> PoolOf<C> {
    pub(super) fn crew(&self) -> &Arc<C> {
        &self.crew
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }
}

impl<C> Drop for PoolOf<C> {
    fn drop(&mut self) {
        // A forked process has none of the workers, and somebody may have held a lock when it was forked.
        if std::process::id() == self.owner {
            self.progress = None;
            (self.dismiss)(&self.crew);
        }
    }
}

impl<C: Crew> fmt::Debug for PoolOf<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("state", &self.state())
            .field("workers", &self.crew.width())
            .finish_non_exhaustive()
    }
}
