//! What the threads of a crew and their callers share.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use procession_core::sys::spin::{Pace, Patience};
use procession_core::sys::{Deadline, nanos};

use super::job::{Tally, Task, discard};
use super::table::{Helper, Post, Running, Table};
use super::{ThreadOptions, work};
use crate::process::JoinError;
use crate::task::{Counters, PoolError, PoolState, Statistics, TaskError, TaskId, quietly};

/// See the module.
pub(super) struct Desk {
    pub(super) options: ThreadOptions,
    table: Mutex<Table>,
    /// Idle threads sleep here.
    work: Condvar,
    /// The courier, the watch, and who waits for the end sleep here.
    pub(super) change: Condvar,
    /// How many chunks are queued: a hint for those who spin.
    queued: AtomicUsize,
    /// Threads that have run their task and are about to ask for the next one. What they have delivered makes their
    /// callers hand over more, which needs no new thread.
    finishing: AtomicUsize,
    pub(super) counters: Counters,
    patience: Patience,
}

impl Desk {
    pub(super) fn new(options: ThreadOptions) -> Self {
        crate::process::words::listen();
        let threads = options.threads.clone();
        Desk {
            options,
            table: Mutex::new(Table::new(threads)),
            work: Condvar::new(),
            change: Condvar::new(),
            queued: AtomicUsize::new(0),
            finishing: AtomicUsize::new(0),
            counters: Counters::default(),
            patience: Patience::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // Nobody panics under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What callers do.

    /// Hands over what `make` makes, which is called if it can be. One that has a deadline is watched.
    pub(super) fn submit(
        self: &Arc<Self>,
        watched: bool,
        make: impl FnOnce(TaskId) -> Arc<Task>,
    ) -> Result<TaskId, PoolError> {
        let mut table = self.lock();
        table.takes_tasks()?;
        if watched && table.watch.is_none() {
            let watch = self.spawn("PoolWatch", work::watch)?;
            table.threads.push((None, watch));
            table.watch = Some(Deadline::NOW);
        }
        // Relaxed: who was told of a result by its thread knows that it is about to be free.
        let free = table.idle + self.finishing.load(Ordering::Relaxed);
        if free <= table.queued && table.width < table.most {
            let started = self.start_thread(&mut table);
            if table.width == 0 {
                // With one thread or more it is done all the same.
                started?;
            }
        }
        let id = TaskId(table.first + table.queue.len() as u64);
        let task = make(id);
        table.queued += 1;
        table.queued_items += task.items();
        table.queue.push_back(Some(task));
        // Relaxed: a hint; who spins looks again under the lock.
        self.queued.store(table.queued, Ordering::Relaxed);
        // Those that are idle and not asleep look by themselves.
        if table.asleep > 0 && table.queued > table.idle - table.asleep {
            self.work.notify_one();
        }
        drop(table);
        work::handed_over(self, id);
        Ok(id)
    }

    /// Waits until `done`.
    pub(super) fn help(
        self: &Arc<Self>,
        task: Option<TaskId>,
        deadline: Deadline,
        done: &mut dyn FnMut() -> bool,
    ) -> bool {
        loop {
            if done() {
                return true;
            }
            if deadline.is_past() {
                return false;
            }
            let Some((own, thread)) = work::own_task(self, task) else { break };
            self.run_for(own, thread);
        }
        if self.patience.spin(Pace::Eager, || done().then_some(())).is_some() {
            return true;
        }
        let helper = Arc::new(Helper { task, bell: Condvar::new(), rung: AtomicBool::new(false) });
        let mut table = self.lock();
        table.helpers.push(helper.clone());
        let outcome = loop {
            // Relaxed: under the lock. Cleared before the look, so what is delivered after it rings again.
            helper.rung.store(false, Ordering::Relaxed);
            let silent = table.is_silent();
            // Without the lock, since a sink's lock may be taken here and this one while that is held.
            drop(table);
            let found = done();
            table = self.lock();
            if found || silent || deadline.is_past() {
                break found;
            }
            if !helper.rung.load(Ordering::Relaxed) {
                table = sleep(&helper.bell, table, deadline);
            }
        };
        table.helpers.retain(|other| !Arc::ptr_eq(other, &helper));
        outcome
    }

    /// In a thread of the crew: runs this one, if nobody has begun it.
    pub(super) fn run_here(&self, id: TaskId) -> bool {
        let Some(thread) = work::number_in(self) else { return false };
        let Some(task) = self.take(id, thread) else { return false };
        self.run_for(task, thread);
        true
    }

    /// Runs what this thread has taken while it waits within another task.
    fn run_for(&self, task: Arc<Task>, thread: u64) {
        self.run(&task, false);
        let task = self.finish(&mut self.lock(), task, thread);
        discard(task);
    }

    pub(super) fn withdraw(&self, id: TaskId) -> bool {
        let mut table = self.lock();
        let Some(task) = table.pick(id) else { return false };
        self.fail(table, vec![task], |_| TaskError::Cancelled);
        true
    }

    pub(super) fn withdraw_all(&self) {
        let mut table = self.lock();
        let tasks = table.pop_all();
        self.fail(table, tasks, |_| TaskError::Cancelled);
    }

    /// Ends the crew: each task that is not over gets the error.
    pub(super) fn end_all(
        &self,
        state: PoolState,
        cause: Option<Arc<PoolError>>,
        error: &TaskError,
    ) {
        let mut table = self.lock();
        if !matches!(table.state, PoolState::Running | PoolState::Closed) {
            return;
        }
        (table.state, table.cause) = (state, cause);
        self.settle(&mut table);
        let mut tasks: Vec<_> = table.running.iter().map(|running| running.task.clone()).collect();
        tasks.extend(table.pop_all());
        self.fail(table, tasks, |_| error.clone());
    }

    pub(super) fn close(&self) {
        let mut table = self.lock();
        if table.state == PoolState::Running {
            table.state = PoolState::Closed;
            self.settle(&mut table);
        }
    }

    pub(super) fn join(&self, deadline: Deadline) -> Result<(), PoolError> {
        let mut table = self.lock();
        if table.state == PoolState::Running {
            return Err(PoolError::StillRunning);
        }
        if work::is_thread_of(self) {
            return Err(PoolError::Within);
        }
        let me = thread::current().id();
        // What was posted before the last thread left has been done when this returns; the courier does not wait for itself.
        while !(table.is_over() && (table.courier.is_none() || table.courier == Some(me))) {
            if deadline.is_past() {
                return Err(PoolError::TimedOut);
            }
            table = sleep(&self.change, table, deadline);
        }
        let threads = std::mem::take(&mut table.threads);
        drop(table);
        for (_, thread) in threads.into_iter().filter(|(_, thread)| thread.thread().id() != me) {
            // It is leaving: nothing of a user's runs in it but destructors of thread-locals. It has caught all panics.
            let _ = thread.join();
        }
        Ok(())
    }

    /// Changes how many threads there are.
    pub(super) fn resize(
        self: &Arc<Self>,
        threads: RangeInclusive<usize>,
    ) -> Result<(), PoolError> {
        let mut table = self.lock();
        table.takes_tasks()?;
        (table.least, table.most) = threads.into_inner();
        // Those that are too many leave.
        self.work.notify_all();
        self.fill(&mut table)
    }

    pub(super) fn is_running(&self, id: TaskId) -> bool {
        self.lock().running.iter().any(|running| running.task.id == id)
    }

    pub(super) fn width(&self) -> usize {
        self.lock().width.max(1)
    }

    pub(super) fn room(&self) -> usize {
        let table = self.lock();
        // Each thread that there could be has one more at hand.
        (table.most * 2).saturating_sub(table.queued + table.running.len())
    }

    pub(super) fn state(&self) -> PoolState {
        self.lock().state
    }

    pub(super) fn cause(&self) -> Option<Arc<PoolError>> {
        self.lock().cause.clone()
    }

    pub(super) fn statistics(&self) -> Statistics {
        let mut statistics = self.counters.read();
        let table = self.lock();
        statistics.queued = table.queued_items;
        // Who has a result finds that its task runs no more.
        statistics.running = table.running.iter().filter(|one| one.task.is_open()).count() as u64;
        statistics.workers = table.width as u64;
        statistics
    }

    pub(super) fn names(&self) -> Vec<String> {
        let table = self.lock();
        let threads = table.threads.iter().filter(|(number, thread)| {
            number.is_some_and(|number| !table.astray.contains(&number)) && !thread.is_finished()
        });
        threads.filter_map(|(_, thread)| thread.thread().name().map(str::to_owned)).collect()
    }

    /// Has the courier run it.
    pub(super) fn post(self: &Arc<Self>, job: Post) {
        let mut table = self.lock();
        if table.courier.is_none() {
            let courier =
                if table.is_over() { None } else { self.spawn("PoolCourier", work::courier).ok() };
            let Some(courier) = courier else {
                drop(table);
                // There is nobody else.
                return quietly(job);
            };
            table.courier = Some(courier.thread().id());
            table.threads.push((None, courier));
        }
        table.posts.push_back(job);
        self.change.notify_all();
    }

    // What threads do.

    /// Starts as many threads as there must be.
    pub(super) fn fill(self: &Arc<Self>, table: &mut Table) -> Result<(), PoolError> {
        while table.width < table.least {
            self.start_thread(table)?;
        }
        Ok(())
    }

    fn start_thread(self: &Arc<Self>, table: &mut Table) -> Result<(), PoolError> {
        let number = table.started;
        let name = (self.options.name)(number);
        let thread = self.spawn(&name, move |desk| work::live(desk, number))?;
        table.started += 1;
        table.width += 1;
        table.threads.retain(|(_, thread)| !thread.is_finished());
        table.threads.push((Some(number), thread));
        Ok(())
    }

    fn spawn(
        self: &Arc<Self>,
        name: &str,
        life: impl FnOnce(&Arc<Desk>) + Send + 'static,
    ) -> Result<JoinHandle<()>, PoolError> {
        let desk = self.clone();
        thread::Builder::new()
            .name(name.into())
            .spawn(move || life(&desk))
            .map_err(|source| PoolError::Resource { what: "start a thread", source })
    }

    /// This thread's initializer has returned.
    pub(super) fn initialized(
        self: &Arc<Self>,
        thread: u64,
        outcome: Result<(), JoinError>,
    ) -> bool {
        let mut table = self.lock();
        match outcome {
            Ok(()) => table.failed_starts = 0,
            Err(error) => {
                table.failed_starts += 1;
                let attempts = table.failed_starts;
                if attempts >= self.options.start_attempts {
                    drop(table);
                    self.break_by(PoolError::Initializer { attempts, cause: Box::new(error) });
                    table = self.lock();
                }
                self.leave(table, thread);
                return false;
            }
        }
        true
    }

    /// Ends the crew by this error.
    fn break_by(&self, cause: PoolError) {
        let cause = Arc::new(cause);
        self.end_all(PoolState::Broken, Some(cause.clone()), &TaskError::Broken(cause));
    }

    /// A thread takes leave; it is replaced if it is missed.
    pub(super) fn leave(self: &Arc<Self>, mut table: MutexGuard<'_, Table>, thread: u64) {
        if let Some(index) = table.astray.iter().position(|&other| other == thread) {
            // That was done when it went astray.
            table.astray.swap_remove(index);
            return;
        }
        table.width -= 1;
        drop(table);
        self.replace();
    }

    /// Starts a thread in the place of one that is gone, if it is missed.
    pub(super) fn replace(self: &Arc<Self>) {
        let mut table = self.lock();
        let missed = match table.state {
            PoolState::Running => table.width < table.least || table.queued > table.idle,
            PoolState::Closed => table.queued > table.idle,
            PoolState::Terminating | PoolState::Broken | PoolState::Ended => false,
        };
        if missed
            && table.width < table.most
            && let Err(error) = self.start_thread(&mut table)
            && table.width == 0
        {
            drop(table);
            self.break_by(error);
            table = self.lock();
        }
        self.settle(&mut table);
    }

    /// A thread notes the end of its task, and waits for the next one. `None`: it leaves, by itself or because it `leaves`.
    pub(super) fn turn(
        self: &Arc<Self>,
        thread: u64,
        finished: Option<Arc<Task>>,
        leaves: bool,
    ) -> Option<Arc<Task>> {
        let mut table = self.lock();
        // Dropped without the lock: it may have the last result of a user's, with a destructor.
        let mut last = finished.map(|task| self.finish(&mut table, task, thread));
        if last.is_some() {
            // Relaxed: under the lock.
            self.finishing.fetch_sub(1, Ordering::Relaxed);
        }
        let mut idle_until = None;
        loop {
            if leaves || table.must_leave(thread) {
                self.leave(table, thread);
                discard(last);
                return None;
            }
            if let Some(task) = table.pop() {
                self.begin(&mut table, &task, thread);
                drop(table);
                discard(last);
                return Some(task);
            }
            table.idle += 1;
            let slept = if let Some(until) = idle_until {
                table.asleep += 1;
                table = sleep(&self.work, table, until);
                table.asleep -= 1;
                until
            } else {
                drop(table);
                discard(last.take());
                // Relaxed: a hint, looked at again under the lock.
                let work = || (self.queued.load(Ordering::Relaxed) > 0).then_some(());
                self.patience.spin(Pace::Eager, work);
                let until = Deadline::after_option(self.options.idle_timeout);
                idle_until = Some(until);
                table = self.lock();
                Deadline::NEVER
            };
            table.idle -= 1;
            if slept.is_past() && table.queued == 0 && table.width > table.least {
                self.leave(table, thread);
                return None;
            }
        }
    }

    /// Runs a task that was begun, at the end of which its thread is free again if that `frees` it.
    pub(super) fn run(&self, task: &Task, frees: bool) {
        let mut announced = false;
        task.run(|tally| {
            // Before anybody is told: who has all results finds all of them counted.
            if let Some(tally) = tally {
                self.count(task, tally);
            }
            if frees {
                announced = true;
                // Relaxed: it is seen by those who see what is delivered after it.
                self.finishing.fetch_add(1, Ordering::Relaxed);
            }
        });
        if frees && !announced {
            self.finishing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one out of the queue that nobody has begun, for this thread.
    pub(super) fn take(&self, id: TaskId, thread: u64) -> Option<Arc<Task>> {
        let mut table = self.lock();
        let task = table.pick(id)?;
        self.begin(&mut table, &task, thread);
        Some(task)
    }

    fn begin(&self, table: &mut Table, task: &Arc<Task>, thread: u64) {
        // Relaxed: a hint.
        self.queued.store(table.queued, Ordering::Relaxed);
        let ends = task.limit.map(Deadline::after);
        if let (Some(ends), Some(watched)) = (ends, table.watch)
            && ends < watched
        {
            self.change.notify_all();
        }
        table.running.push(Running { task: task.clone(), thread, ends });
    }

    /// A thread has run its task. What is returned is to be dropped without the lock.
    pub(super) fn finish(&self, table: &mut Table, task: Arc<Task>, thread: u64) -> Arc<Task> {
        let running = |running: &Running| running.thread == thread && running.task.id == task.id;
        if let Some(index) = table.running.iter().position(running) {
            table.running.swap_remove(index);
        }
        table.ring(Some(task.id));
        task
    }

    /// Fails these, which were taken from the queue or are running. Those that their threads have just answered are left to them.
    pub(super) fn fail(
        &self,
        mut table: MutexGuard<'_, Table>,
        tasks: Vec<Arc<Task>>,
        error: impl Fn(&Task) -> TaskError,
    ) {
        // Relaxed: a hint.
        self.queued.store(table.queued, Ordering::Relaxed);
        table.failing += 1;
        drop(table);
        for task in &tasks {
            task.fail(error(task), |tally| self.count(task, tally));
        }
        let mut table = self.lock();
        table.failing -= 1;
        // None of these is the last reference.
        table.running.retain(|running| !running.task.has_failed());
        self.settle(&mut table);
        drop(table);
        discard(tasks);
    }

    /// Wakes all who wait for a change of the crew.
    fn settle(&self, table: &mut Table) {
        if table.is_over() {
            table.state = PoolState::Ended;
        }
        self.work.notify_all();
        self.change.notify_all();
        table.ring(None);
    }

    fn count(&self, task: &Task, tally: Tally) {
        self.counters.ended(tally.done, tally.failed, nanos().saturating_sub(task.since));
    }
}

/// Sleeps until `bell` rings or the deadline comes; the lock is open meanwhile.
pub(super) fn sleep<'a>(
    bell: &Condvar,
    table: MutexGuard<'a, Table>,
    deadline: Deadline,
) -> MutexGuard<'a, Table> {
    match deadline.left() {
        None => bell.wait(table).unwrap_or_else(PoisonError::into_inner),
        Some(left) => bell.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0,
    }
}
