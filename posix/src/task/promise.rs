//! The result of one task, before it is there and after.
//!
//! ```text
//! stage     Pending    nobody has begun it, as far as is known here
//!           Running    begun; only said of a promise that its own maker keeps, others ask their crew
//!           Done       the outcome is there; for good
//! outcome   Here       for whoever takes it
//!           Lent       to a callback that runs, or to one who copies it
//!           Taken
//! ```
//!
//! Nothing of a user's runs under the lock: no callback, no copying or dropping of a result, nothing of a waker. A result is lent
//! instead, to one at a time, for it may not be shareable; an error is copied, and never lent.
//!
//! `deliver`, `finish` and `cancel` race for Done under the lock, one wins. Whoever waits helps the crew until Done; without a
//! crew it sleeps on the condition. Callbacks are a list. Who runs them takes it and leaves its name (`caller`), so one at a time
//! runs them, in order, without the lock. They run on the courier, or on the thread of whoever wants to take the result: that
//! one never waits for the courier, which may itself wait in another callback. It does wait for a callback that is running,
//! since that was promised to see the result; a callback itself may take it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::thread::ThreadId;

use procession_core::sys::Deadline;

use super::{Crew, Outcome, PoolState, Results, Sink, TaskError, TaskId, quietly};

/// A handle to the result of one task; a clone is another handle to the same one.
pub struct Promise<R> {
    inner: Arc<Inner<R>>,
}

impl<R> Clone for Promise<R> {
    fn clone(&self) -> Self {
        Promise { inner: self.inner.clone() }
    }
}

impl<R> fmt::Debug for Promise<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise")
            .field("done", &self.inner.done.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// What a promise waits for.
pub enum Source {
    /// One task of its crew.
    Task(TaskId),
    /// Something else that uses the crew.
    Other(Weak<dyn Driven>),
}

/// Something made of several tasks that somebody has to keep going.
pub trait Driven: Send + Sync {
    /// Hands over what can be handed over now. Who waits calls it.
    fn drive(&self);

    /// Whether there is something to hand over, and room for it. Cheap: who waits asks it after each delivery.
    fn wants(&self) -> bool;

    /// So many threads more (or fewer) wait and drive it; while there is none it drives itself, by the courier.
    fn driver(&self, more: bool);

    /// Cancels what nobody has begun, with `abort` also the rest. Whether that ends it as cancelled.
    fn cancel(&self, abort: bool) -> bool;

    /// Whether a worker has begun any of it, and it is not over.
    fn is_running(&self) -> bool;

    /// Waits until it is over, and drives it; false at the deadline.
    fn wait(&self, deadline: Deadline) -> bool;
}

struct Inner<R> {
    me: Weak<Inner<R>>,
    /// Set once the slot's stage is DONE, so that who only looks needs no lock.
    done: AtomicBool,
    crew: Option<Arc<dyn Crew>>,
    source: OnceLock<Source>,
    slot: Mutex<Slot<R>>,
    changed: Condvar,
}

struct Slot<R> {
    stage: Stage,
    outcome: Held<R>,
    cancelled: bool,
    failed: bool,
    callbacks: Vec<Callback<R>>,
    /// Who runs callbacks now.
    caller: Option<ThreadId>,
    wakers: Vec<Waker>,
    /// How many threads sleep on the condition.
    sleepers: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Pending,
    Running,
    Done,
}

enum Held<R> {
    Nothing,
    Here(Outcome<R>),
    /// To this thread.
    Lent(ThreadId),
    Taken,
}

type Callback<R> = Box<dyn FnOnce(&Promise<R>) + Send>;

impl<R: Send + 'static> Promise<R> {
    /// The promise of a task that will be handed to this crew, or, without one, of something that its maker brings about.
    pub fn new(crew: Option<Arc<dyn Crew>>) -> Self {
        let slot = Slot {
            stage: Stage::Pending,
            outcome: Held::Nothing,
            cancelled: false,
            failed: false,
            callbacks: Vec::new(),
            caller: None,
            wakers: Vec::new(),
            sleepers: 0,
        };
        Promise {
            inner: Arc::new_cyclic(|me| Inner {
                me: me.clone(),
                done: AtomicBool::new(false),
                crew,
                source: OnceLock::new(),
                slot: Mutex::new(slot),
                changed: Condvar::new(),
            }),
        }
    }

    /// Where the crew delivers.
    pub fn sink(&self) -> Arc<dyn Sink<R>> {
        self.inner.clone()
    }

    /// Says what it waits for, once that was handed over.
    pub fn awaits(&self, source: Source) {
        let _ = self.inner.source.set(source);
    }

    /// The task at its crew, if it is one.
    pub fn task(&self) -> Option<TaskId> {
        match self.inner.source.get() {
            Some(Source::Task(task)) => Some(*task),
            _ => None,
        }
    }

    /// The crew that works on it.
    pub fn crew(&self) -> Option<&Arc<dyn Crew>> {
        self.inner.crew.as_ref()
    }

    /// The same for all handles of this promise, and for no other one while they live.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.inner) as usize
    }

    /// Whether two handles are of the same promise.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether the outcome is there. Does not collect, see [`Promise::poll`].
    #[inline]
    pub fn is_done(&self) -> bool {
        // Acquire: meets the release in `finish`; who sees it set finds the outcome.
        self.inner.done.load(Ordering::Acquire)
    }

    /// Whether the outcome is there, after collecting what has been answered.
    pub fn poll(&self) -> bool {
        if !self.is_done() {
            if let Some(Source::Other(other)) = self.inner.source.get()
                && let Some(other) = other.upgrade()
            {
                other.drive();
            }
            if let Some(crew) = &self.inner.crew {
                crew.collect();
            }
        }
        self.is_done()
    }

    /// In a thread of its crew: runs its task here and now, if nobody has begun it. Whether it did.
    pub fn run_here(&self) -> bool {
        let crew = self.inner.crew.as_ref().filter(|_| !self.is_done());
        crew.zip(self.task()).is_some_and(|(crew, task)| crew.run_here(task))
    }

    /// Waits until the outcome is there, and helps the crew meanwhile; false at the deadline.
    pub fn wait(&self, deadline: Deadline) -> bool {
        if self.is_done() {
            return true;
        }
        let Some(crew) = &self.inner.crew else { return self.inner.sleep(deadline) };
        let other = match self.inner.source.get() {
            Some(Source::Other(other)) => other.upgrade(),
            _ => None,
        };
        let Some(other) = other else {
            return crew.help(self.task(), deadline, &mut || self.is_done());
        };
        other.driver(true);
        let mut helped = true;
        while helped && !self.is_done() {
            other.drive();
            helped = crew.help(None, deadline, &mut || self.is_done() || other.wants());
        }
        other.driver(false);
        self.is_done()
    }

    /// Waits for the outcome and takes it; other handles find [`TaskError::Taken`] from then on. An error stays.
    /// Callbacks have run before this returns.
    ///
    /// # Errors
    /// What became of the task instead, `TimedOut`, `Taken`.
    pub fn take(&self, deadline: Deadline) -> Result<R, TaskError> {
        if !self.wait(deadline) {
            return Err(self.not_done());
        }
        let me = std::thread::current().id();
        let mut slot = self.inner.lock();
        loop {
            let calls = slot.caller == Some(me);
            let lent = match slot.outcome {
                Held::Lent(to) if to == me => return Err(TaskError::Taken),
                Held::Lent(_) => true,
                Held::Nothing | Held::Here(_) | Held::Taken => false,
            };
            if lent || slot.caller.is_some() && !calls {
                slot = match self.inner.sleep_on(slot, deadline) {
                    Some(slot) => slot,
                    None => return Err(TaskError::TimedOut),
                };
            } else if calls || slot.callbacks.is_empty() {
                return slot.take();
            } else {
                drop(slot);
                self.run_callbacks();
                slot = self.inner.lock();
            }
        }
    }

    /// Waits for the outcome and copies it.
    ///
    /// # Errors
    /// As of `take`; `Taken` also within the copying itself.
    pub fn result(&self, deadline: Deadline) -> Result<R, TaskError>
    where
        R: Clone,
    {
        if !self.wait(deadline) {
            return Err(self.not_done());
        }
        self.lend(deadline, Clone::clone)?.map_err(|error| *error)
    }

    /// Why there is no outcome although the wait is over.
    pub fn not_done(&self) -> TaskError {
        let crew = self.inner.crew.as_ref();
        match crew.map(|crew| crew.state()) {
            Some(PoolState::Broken | PoolState::Terminating | PoolState::Ended) => {
                match crew.and_then(|crew| crew.cause()) {
                    Some(cause) => TaskError::Broken(cause),
                    None => TaskError::Terminated,
                }
            }
            _ => TaskError::TimedOut,
        }
    }

    /// The error with which it ended; `None` if it did not, or has not.
    pub fn error(&self) -> Option<TaskError> {
        match &self.inner.lock().outcome {
            Held::Here(Err(error)) => Some(TaskError::clone(error)),
            _ => None,
        }
    }

    /// Shows the outcome, without a lock. Others who want it wait meanwhile.
    ///
    /// # Errors
    /// `Taken` if it is not there, was taken, or is lent to this thread already; `TimedOut` while it is lent to another one.
    pub fn lend<T>(
        &self,
        deadline: Deadline,
        to: impl FnOnce(&Outcome<R>) -> T,
    ) -> Result<T, TaskError> {
        let me = std::thread::current().id();
        let mut slot = self.inner.lock();
        let outcome = loop {
            match std::mem::replace(&mut slot.outcome, Held::Lent(me)) {
                Held::Here(Ok(result)) => break Ok(result),
                Held::Here(Err(error)) => {
                    let copy = Err(error.clone());
                    slot.outcome = Held::Here(Err(error));
                    drop(slot);
                    return Ok(to(&copy));
                }
                Held::Lent(other) if other != me => {
                    slot.outcome = Held::Lent(other);
                    slot = match self.inner.sleep_on(slot, deadline) {
                        Some(slot) => slot,
                        None => return Err(TaskError::TimedOut),
                    };
                }
                other => {
                    slot.outcome = other;
                    return Err(TaskError::Taken);
                }
            }
        };
        drop(slot);
        let result = catch_unwind(AssertUnwindSafe(|| to(&outcome)));
        let mut slot = self.inner.lock();
        slot.outcome = Held::Here(outcome);
        self.inner.wake(slot);
        Ok(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Has this called when the outcome is there: on the courier, or here and now if it is there already. Callbacks
    /// run in the order in which they were added. One that panics is reported by the panic hook and harms nobody.
    pub fn add_callback(&self, callback: impl FnOnce(&Promise<R>) + Send + 'static) {
        let mut slot = self.inner.lock();
        slot.callbacks.push(Box::new(callback));
        let done = slot.stage == Stage::Done;
        drop(slot);
        if done {
            self.run_callbacks();
        } else if let Some(crew) = &self.inner.crew {
            crew.attend();
        }
    }

    /// Runs the callbacks that there are, unless somebody does already, who then runs these too.
    fn run_callbacks(&self) {
        let mut slot = self.inner.lock();
        if slot.caller.is_some() {
            return;
        }
        while !slot.callbacks.is_empty() {
            slot.caller = Some(std::thread::current().id());
            let callbacks = std::mem::take(&mut slot.callbacks);
            drop(slot);
            for callback in callbacks {
                quietly(|| callback(self));
            }
            slot = self.inner.lock();
        }
        slot.caller = None;
        self.inner.wake(slot);
    }

    /// Has this woken when the outcome is there, once; false, and it is not kept, if it is there already.
    pub fn add_waker(&self, waker: &Waker) -> bool {
        let added = self.notify(waker);
        if added && let Some(crew) = &self.inner.crew {
            crew.attend();
        }
        added
    }

    /// The same for those who help the crew, so that nobody else has to.
    pub fn notify(&self, waker: &Waker) -> bool {
        let known = |slot: &Slot<R>| slot.wakers.iter().any(|other| other.will_wake(waker));
        let slot = self.inner.lock();
        if slot.stage == Stage::Done || known(&slot) {
            return slot.stage != Stage::Done;
        }
        drop(slot);
        // Declared before the lock is taken again: if it is not kept it is dropped without the lock.
        let copy = waker.clone();
        let mut slot = self.inner.lock();
        if slot.stage == Stage::Done {
            return false;
        }
        slot.wakers.push(copy);
        true
    }

    /// Forgets a waker again.
    pub fn remove_waker(&self, waker: &Waker) {
        let mut slot = self.inner.lock();
        let all = std::mem::take(&mut slot.wakers);
        let (gone, kept): (Vec<_>, _) = all.into_iter().partition(|one| one.will_wake(waker));
        slot.wakers = kept;
        drop(slot);
        quietly(|| drop(gone));
    }

    /// Cancels it if nobody has begun it. Whether it is cancelled.
    pub fn cancel(&self) -> bool {
        self.cancel_or(false)
    }

    /// Cancels it, also if it runs: its worker is ended and replaced. Whether it is, or will be; the answer of a worker that
    /// was faster is still its outcome.
    pub fn abort(&self) -> bool {
        self.cancel_or(true)
    }

    fn cancel_or(&self, abort: bool) -> bool {
        match (self.inner.source.get(), &self.inner.crew) {
            (Some(Source::Task(task)), Some(crew)) => {
                let cancelled = if abort { crew.abort(*task) } else { crew.withdraw(*task) };
                cancelled || self.is_cancelled()
            }
            (Some(Source::Other(other)), _) => {
                other.upgrade().is_some_and(|other| other.cancel(abort)) || self.is_cancelled()
            }
            _ => {
                let pending = self.inner.lock().stage == Stage::Pending;
                if pending {
                    self.inner.finish(Err(Box::new(TaskError::Cancelled)), Some(Stage::Pending));
                }
                self.is_cancelled()
            }
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.is_done() && self.inner.lock().cancelled
    }

    /// Whether it has a result, though that may have been taken.
    pub fn is_ok(&self) -> bool {
        self.is_done() && !self.inner.lock().failed
    }

    /// Whether somebody has begun it, and it is not over.
    pub fn is_running(&self) -> bool {
        if self.is_done() {
            return false;
        }
        match (self.inner.source.get(), &self.inner.crew) {
            (Some(Source::Task(task)), Some(crew)) => crew.is_running(*task),
            (Some(Source::Other(other)), _) => {
                other.upgrade().is_some_and(|other| other.is_running())
            }
            _ => self.inner.lock().stage == Stage::Running,
        }
    }

    /// For makers: it begins. False if it was cancelled, or has begun before.
    pub fn begin(&self) -> bool {
        let mut slot = self.inner.lock();
        let begins = slot.stage == Stage::Pending;
        if begins {
            slot.stage = Stage::Running;
        }
        begins
    }

    /// For makers: this is the outcome. False if there is one already.
    pub fn finish(&self, outcome: Outcome<R>) -> bool {
        self.inner.finish(outcome, None)
    }
}

impl<R> Slot<R> {
    /// Takes the outcome; an error stays for others.
    fn take(&mut self) -> Result<R, TaskError> {
        match std::mem::replace(&mut self.outcome, Held::Taken) {
            Held::Here(Ok(result)) => Ok(result),
            Held::Here(Err(error)) => {
                let copy = TaskError::clone(&error);
                self.outcome = Held::Here(Err(error));
                Err(copy)
            }
            other => {
                self.outcome = other;
                Err(TaskError::Taken)
            }
        }
    }
}

impl<R: Send + 'static> Inner<R> {
    fn lock(&self) -> MutexGuard<'_, Slot<R>> {
        // Nothing in here unwinds with the slot half written.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this the outcome, if there is none and the stage is as asked.
    fn finish(&self, outcome: Outcome<R>, only_in: Option<Stage>) -> bool {
        let mut slot = self.lock();
        if slot.stage == Stage::Done || only_in.is_some_and(|stage| stage != slot.stage) {
            return false;
        }
        slot.stage = Stage::Done;
        slot.failed = outcome.is_err();
        slot.cancelled = matches!(&outcome, Err(error) if matches!(**error, TaskError::Cancelled));
        slot.outcome = Held::Here(outcome);
        let wakers = std::mem::take(&mut slot.wakers);
        let callbacks = !slot.callbacks.is_empty();
        // Release: meets the acquire in `is_done`.
        self.done.store(true, Ordering::Release);
        self.wake(slot);
        for waker in wakers {
            // A runtime's, or a user's: whoever collects is not to suffer from it.
            quietly(|| waker.wake());
        }
        if callbacks && let Some(inner) = self.me.upgrade() {
            let promise = Promise { inner };
            match &self.crew {
                Some(crew) => crew.post(Box::new(move || promise.run_callbacks())),
                None => promise.run_callbacks(),
            }
        }
        true
    }

    /// Wakes who sleeps on the condition, for something has changed.
    fn wake(&self, slot: MutexGuard<'_, Slot<R>>) {
        let asleep = slot.sleepers > 0;
        drop(slot);
        if asleep {
            self.changed.notify_all();
        }
    }

    /// Sleeps until something changes; `None` at the deadline.
    fn sleep_on<'a>(
        &self,
        mut slot: MutexGuard<'a, Slot<R>>,
        deadline: Deadline,
    ) -> Option<MutexGuard<'a, Slot<R>>> {
        let left = deadline.left();
        if left.is_some_and(|left| left.is_zero()) {
            return None;
        }
        slot.sleepers += 1;
        let mut slot = match left {
            None => self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                self.changed.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        slot.sleepers -= 1;
        Some(slot)
    }

    /// Sleeps until it is done, without a crew; false at the deadline.
    fn sleep(&self, deadline: Deadline) -> bool {
        let mut slot = self.lock();
        while slot.stage != Stage::Done {
            slot = match self.sleep_on(slot, deadline) {
                Some(slot) => slot,
                None => return false,
            };
        }
        true
    }
}

impl<R: Send + 'static> Sink<R> for Inner<R> {
    fn deliver(&self, _: u64, results: &mut Results<'_, R>) {
        if let Some(outcome) = results.next() {
            self.finish(outcome, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn one_outcome_wins_and_is_taken_once() {
        let promise = Promise::new(None);
        assert!(matches!(promise.take(Deadline::NOW), Err(TaskError::TimedOut)));
        assert!(promise.begin() && !promise.begin() && promise.is_running());
        assert!(!promise.cancel());
        assert!(promise.finish(Ok(5)) && !promise.finish(Ok(6)));
        assert!(promise.is_done() && !promise.is_running() && !promise.is_cancelled());
        assert_eq!(promise.result(Deadline::NOW).unwrap(), 5);
        assert_eq!(promise.clone().take(Deadline::NOW).unwrap(), 5);
        assert!(matches!(promise.take(Deadline::NOW), Err(TaskError::Taken)));
        assert!(matches!(promise.result(Deadline::NOW), Err(TaskError::Taken)));
    }

    #[test]
    fn what_nobody_began_is_cancelled_and_the_error_stays() {
        let promise = Promise::<()>::new(None);
        assert!(promise.cancel() && promise.cancel() && promise.is_cancelled());
        assert!(!promise.begin() && !promise.finish(Ok(())));
        for _ in 0..2 {
            assert!(matches!(promise.take(Deadline::NOW), Err(TaskError::Cancelled)));
        }
    }

    #[test]
    fn callbacks_run_in_order_and_see_the_result_before_it_is_taken() {
        let promise = Promise::new(None);
        let (said, heard) = mpsc::channel();
        for i in 0..3 {
            let said = said.clone();
            promise.add_callback(move |promise| {
                let say =
                    |outcome: &Outcome<_>| said.send((i, *outcome.as_ref().unwrap())).unwrap();
                promise.lend(Deadline::NOW, say).unwrap();
                assert!(i != 1, "a callback that panics");
            });
        }
        let inside = said.clone();
        promise.add_callback(move |promise| {
            let late = inside.clone();
            promise.add_callback(move |promise| {
                assert!(promise.lend(Deadline::NOW, |_| ()).is_err(), "taken by now");
                late.send((9, 0)).unwrap();
            });
            inside.send((8, promise.result(Deadline::NOW).unwrap())).unwrap();
            inside.send((8, promise.take(Deadline::NOW).unwrap())).unwrap();
        });
        promise.finish(Ok(7));
        let got: Vec<_> = heard.try_iter().collect();
        assert_eq!(got, [(0, 7), (1, 7), (2, 7), (8, 7), (8, 7), (9, 0)]);
        assert!(matches!(promise.take(Deadline::NOW), Err(TaskError::Taken)));
        let (said, heard) = mpsc::channel();
        promise.add_callback(move |_| said.send(()).unwrap());
        heard.try_recv().unwrap();
    }

    #[test]
    fn who_takes_waits_for_a_callback_that_runs() {
        let promise = Promise::new(None);
        let (begun, begins) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        promise.add_callback(move |promise| {
            let show = |_: &Outcome<_>| {
                begun.send(()).unwrap();
                wait.recv_timeout(SOON).unwrap();
            };
            promise.lend(Deadline::NOW, show).unwrap();
        });
        let maker = promise.clone();
        let maker = std::thread::spawn(move || maker.finish(Ok(String::from("a"))));
        begins.recv_timeout(SOON).unwrap();
        assert!(promise.is_done());
        let soon = Deadline::after(Duration::from_millis(5));
        assert!(matches!(promise.take(soon), Err(TaskError::TimedOut)));
        assert!(matches!(promise.result(soon), Err(TaskError::TimedOut)));
        go.send(()).unwrap();
        assert_eq!(promise.take(Deadline::after(SOON)).unwrap(), "a");
        assert!(maker.join().unwrap());
    }

    #[test]
    fn a_waker_is_woken_once() {
        struct Count(AtomicU32);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(count.clone());
        let promise = Promise::new(None);
        assert!(promise.add_waker(&waker) && promise.add_waker(&waker));
        promise.finish(Ok(()));
        assert!(!promise.add_waker(&waker));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    /// Runs it in a thread, which must come to its end.
    fn in_time(what: &str, action: impl FnOnce() + Send + 'static) {
        let (said, heard) = mpsc::channel();
        std::thread::spawn(move || {
            action();
            let _ = said.send(());
        });
        heard.recv_timeout(SOON).expect(what);
    }

    /// A result that asks for the promise of it while it is copied.
    struct Asking(Arc<OnceLock<Promise<Asking>>>);

    impl Clone for Asking {
        fn clone(&self) -> Self {
            let promise = self.0.get().unwrap();
            assert!(promise.is_ok() && promise.error().is_none());
            assert!(matches!(promise.take(Deadline::NEVER), Err(TaskError::Taken)));
            assert!(matches!(promise.result(Deadline::NEVER), Err(TaskError::Taken)));
            Asking(self.0.clone())
        }
    }

    #[test]
    fn a_result_that_is_copied_may_ask_for_its_promise() {
        in_time("a copy that asks", || {
            let promise = Promise::new(None);
            let place = Arc::new(OnceLock::new());
            assert!(place.set(promise.clone()).is_ok());
            promise.finish(Ok(Asking(place)));
            assert!(promise.result(Deadline::NEVER).is_ok());
            assert!(promise.take(Deadline::NEVER).is_ok());
        });
    }

    #[test]
    fn wakers_may_ask_for_the_promise_while_they_are_copied_and_dropped() {
        use std::task::{RawWaker, RawWakerVTable};
        fn ask(promise: *const ()) {
            // SAFETY: the test made it of a promise, which it leaked.
            let promise = unsafe { &*promise.cast::<Promise<()>>() };
            promise.is_running();
        }
        fn raw(promise: *const ()) -> RawWaker {
            static CALLS: RawWakerVTable = RawWakerVTable::new(
                |promise| {
                    ask(promise);
                    raw(promise)
                },
                ask,
                ask,
                ask,
            );
            RawWaker::new(promise, &CALLS)
        }
        in_time("a waker that asks", || {
            let promise: &Promise<()> = Box::leak(Box::new(Promise::new(None)));
            // SAFETY: its calls need nothing but the promise, which stays.
            let waker = unsafe { Waker::from_raw(raw(std::ptr::from_ref(promise).cast())) };
            assert!(promise.add_waker(&waker) && promise.add_waker(&waker));
            promise.remove_waker(&waker);
            assert!(promise.add_waker(&waker));
            promise.finish(Ok(()));
            assert!(!promise.add_waker(&waker));
        });
    }
}
