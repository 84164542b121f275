//! Threads with the calls of processes.
//!
//! ```text
//! Life     RUNNING → ENDED    by the thread itself, when its function has returned or panicked; then all who wait are woken
//! result   kept → taken       by the first join
//! ```
//!
//! All that run are in a list: for [`active_children`], and for the end of this process in order, which waits for those that
//! are neither daemons nor detached. A fork of this process forgets the list: it has none of the threads.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::wait::Waitable;

use super::Event;
use crate::memory::MemoryError;
use crate::process::words::{Words, listen};
use crate::process::{JoinError, StartError, finalizer};
use crate::task::{CallOnce, quietly};
use crate::wait::sealed::Source;

/// The lowest of the finalizers that come before the others of its kind: threads may still use what those clean up.
const PRIORITY: i32 = -1;

/// A thread to be started: its function and arguments, and how it is to run. The [`Process`](crate::process::Process) of
/// threads, and called so too in the prelude.
///
/// ```
/// use procession_posix::thread::{Thread, current_thread};
///
/// let greeting = "hello".to_string();
/// let child = Thread::new(move |whom: &str| format!("{greeting} {whom}"), ("world",)).start()?;
/// assert_eq!(child.join()?, "hello world");
///
/// let child = Thread::new(|| current_thread().name, ()).name("echo").start()?;
/// assert_eq!(child.join()?, "echo");
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing runs before `start`"]
pub struct Thread<F, Args> {
    target: F,
    args: Args,
    name: Option<String>,
    daemon: Option<bool>,
}

impl<F, Args> fmt::Debug for Thread<F, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("target", &std::any::type_name::<F>())
            .field("name", &self.name)
            .field("daemon", &self.daemon)
            .finish_non_exhaustive()
    }
}

impl<F, Args> Thread<F, Args>
where
    F: CallOnce<Args>,
    Args: Send + 'static,
{
    /// A thread that will call `target` with `args`, a tuple: `()`, `(a,)`, `(a, b)`, ...; with closures that capture, too.
    pub fn new(target: F, args: Args) -> Self {
        Thread { target, args, name: None, daemon: None }
    }

    /// Names the thread. Without it: `Thread-1`, `Thread-2`, ...
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the end of this process leaves the thread alone: it stops wherever it is. Without it: as the thread that
    /// starts it; the first ones are no daemons, and are waited for.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = Some(daemon);
        self
    }

    /// Calls the target here and now, in this thread, and returns its result.
    pub fn run(self) -> F::Output {
        self.target.call_once(self.args)
    }

    /// Starts the thread. Some 10 µs.
    ///
    /// # Errors
    /// [`StartError::Resource`] if the system gives no thread, `Choice` if the name has a zero in it.
    pub fn start(self) -> Result<Child<F::Output>, StartError> {
        let Self { target, args, name, daemon } = self;
        let name = name.unwrap_or_else(|| format!("Thread-{}", threads().next_number()));
        if name.contains('\0') {
            let reason = format!("{name:?} has a zero byte in it");
            return Err(StartError::Choice { what: "name", reason });
        }
        let daemon = daemon.unwrap_or_else(|| current_thread().daemon);
        let life = Arc::new(Life {
            name: name.clone(),
            daemon,
            detached: AtomicBool::new(false),
            ended: Event::new().map_err(no_memory)?,
            end: OnceLock::new(),
            thread: OnceLock::new(),
        });
        listen();
        let result = Arc::new(Mutex::new(None));
        let (ours, place) = (Arc::clone(&life), Arc::clone(&result));
        let run = move || {
            ours.begin();
            let answer = catch_unwind(AssertUnwindSafe(|| target.call_once(args)));
            let end = match answer {
                Ok(answer) => {
                    *lock(&place) = Some(answer);
                    End::Returned
                }
                Err(payload) => End::Panicked(Words::of_unwinding(payload)),
            };
            // Mostly not the last one. If it is, the result is dropped here, and what a user's drop does must not keep others waiting.
            quietly(|| drop(place));
            ours.end(end);
        };
        threads().add(&life);
        let started = std::thread::Builder::new().name(name).spawn(run);
        if let Err(source) = started {
            threads().remove(&life);
            return Err(StartError::Resource { what: "start a thread", source });
        }
        Ok(Child { life, result })
    }
}

fn no_memory(error: MemoryError) -> StartError {
    StartError::Resource { what: "get memory for a thread", source: std::io::Error::other(error) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that happens under these locks panics halfway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a thread ended.
#[derive(Debug, Clone)]
enum End {
    Returned,
    Panicked(Words),
}

/// A thread from its start on, whatever its function returns.
#[derive(Debug)]
struct Life {
    name: String,
    daemon: bool,
    detached: AtomicBool,
    ended: Event,
    end: OnceLock<End>,
    thread: OnceLock<ThreadId>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Life>>> = const { RefCell::new(None) };
}

impl Life {
    /// In the thread, first of all.
    fn begin(self: &Arc<Self>) {
        let _ = self.thread.set(std::thread::current().id());
        CURRENT.set(Some(Arc::clone(self)));
    }

    /// In the thread, last of all.
    fn end(&self, end: End) {
        let _ = self.end.set(end);
        threads().remove(self);
        self.ended.set();
    }

    fn is_alive(&self) -> bool {
        !self.ended.is_set()
    }

    fn exitcode(&self) -> Option<i32> {
        match (self.is_alive(), self.end.get()) {
            (true, _) | (_, None) => None,
            (_, Some(End::Returned)) => Some(0),
            (_, Some(End::Panicked(_))) => Some(101),
        }
    }

    fn join(&self, deadline: Deadline) -> Result<(), JoinError> {
        let (name, pid) = (self.name.clone(), std::process::id());
        if !self.ended.wait_until(deadline) {
            return Err(JoinError::TimedOut { name, pid });
        }
        match self.end.get() {
            Some(End::Panicked(words)) => {
                let Words { message, location, backtrace, .. } = words.clone();
                Err(JoinError::Panicked { name, pid, message, location, backtrace })
            }
            _ => Ok(()),
        }
    }

    /// Whether the end of this process, which this thread has come to, waits for it.
    fn is_waited_for(&self) -> bool {
        let other = self.thread.get() != Some(&std::thread::current().id());
        other && !self.daemon && !self.detached.load(Ordering::Relaxed)
    }

    fn show(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(kind)
            .field("name", &self.name)
            .field("daemon", &self.daemon)
            .field("exitcode", &self.exitcode())
            .finish_non_exhaustive()
    }
}

/// The threads that run.
struct Threads {
    /// Whose they are.
    pid: u32,
    started: u64,
    running: Vec<Arc<Life>>,
    /// The end of this process will wait for them.
    waited_for: bool,
}

static THREADS: Mutex<Threads> =
    Mutex::new(Threads { pid: 0, started: 0, running: Vec::new(), waited_for: false });

fn threads() -> MutexGuard<'static, Threads> {
    let mut threads = lock(&THREADS);
    let pid = std::process::id();
    if threads.pid != pid {
        // They are the threads of the process that this is a fork of.
        let others = std::mem::take(&mut threads.running);
        std::mem::forget(others);
        *threads = Threads { pid, started: 0, running: Vec::new(), waited_for: false };
    }
    threads
}

impl Threads {
    fn next_number(&mut self) -> u64 {
        self.started += 1;
        self.started
    }

    fn add(&mut self, life: &Arc<Life>) {
        self.running.push(Arc::clone(life));
        if !std::mem::replace(&mut self.waited_for, true) {
            finalizer(PRIORITY, wait_for_all);
        }
    }

    fn remove(&mut self, life: &Life) {
        self.running.retain(|other| !std::ptr::eq(&**other, life));
    }
}

/// At the end of this process in order.
fn wait_for_all() {
    // Those that are started from now on ask for another round.
    threads().waited_for = false;
    loop {
        let next = threads().running.iter().find(|life| life.is_waited_for()).cloned();
        match next {
            Some(life) => life.ended.wait(),
            None => return,
        }
    }
}

/// A started thread whose function returns `R`: the [`process::Child`](crate::process::Child) of threads.
///
/// All methods take `&self`. Dropping the handle neither ends the thread nor waits for it. When this process ends in order it
/// waits for the thread, unless it is a daemon or was [detached](Child::detach).
///
/// It can be [waited](crate::wait::wait) for together with other things.
pub struct Child<R> {
    life: Arc<Life>,
    result: Arc<Mutex<Option<R>>>,
}

impl<R> Child<R> {
    /// The id of this process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// The name given to the builder, or the default, like `Thread-1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.life.name
    }

    /// Whether the end of this process leaves the thread alone.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.life.daemon
    }

    /// Whether its function runs. A load.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    /// How the thread ended: 0 if its function returned (be it an `Err`), 101 if it panicked, `None` while it runs.
    #[must_use]
    pub fn exitcode(&self) -> Option<i32> {
        self.life.exitcode()
    }

    /// From now on the end of this process does not wait for it.
    pub fn detach(&self) {
        self.life.detached.store(true, Ordering::Relaxed);
    }

    /// Waits until the function has returned, and hands out its result: once.
    ///
    /// # Errors
    /// [`JoinError::Panicked`]; `Result`, if an earlier join has taken the result.
    ///
    /// ```
    /// use procession_posix::process::JoinError;
    /// use procession_posix::thread::Thread;
    ///
    /// let child = Thread::new(|| panic!("no more"), ()).start()?;
    /// let Err(JoinError::Panicked { message, location, .. }) = child.join() else { panic!() };
    /// assert!(location.is_some());
    /// assert_eq!(message, "no more");
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn join(&self) -> Result<R, JoinError> {
        self.join_until(Deadline::NEVER)
    }

    /// Like [`join`](Child::join), but waits no longer than `timeout`; zero only looks.
    ///
    /// # Errors
    /// As [`join`](Child::join), and [`JoinError::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<R, JoinError> {
        self.join_until(Deadline::after(timeout))
    }

    fn join_until(&self, deadline: Deadline) -> Result<R, JoinError> {
        self.life.join(deadline)?;
        lock(&self.result).take().ok_or_else(|| JoinError::Result {
            name: self.life.name.clone(),
            pid: self.pid(),
            message: "an earlier join has taken it".into(),
        })
    }

    /// Drops the handle of a thread that has ended.
    ///
    /// # Errors
    /// The thread still runs; the error has the handle.
    pub fn close(self) -> Result<(), StillRunning<R>> {
        if self.is_alive() { Err(StillRunning { child: self }) } else { Ok(()) }
    }
}

impl<R> fmt::Debug for Child<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.life.show("Child", f)
    }
}

impl<R> Clone for Child<R> {
    /// Another handle of the same thread; the first of them that joins has the result.
    fn clone(&self) -> Self {
        Self { life: Arc::clone(&self.life), result: Arc::clone(&self.result) }
    }
}

impl<R: Send + 'static> Source for Child<R> {
    fn source(&self) -> &dyn Waitable {
        self.life.ended.source()
    }

    fn me(&self) -> Member<'static> {
        self.life.ended.me()
    }
}

/// A handle was to be closed, but its thread still runs. It has the handle.
#[derive(thiserror::Error)]
#[error("{} still runs; join it first, or drop the handle", child.name())]
pub struct StillRunning<R> {
    /// The handle.
    pub child: Child<R>,
}

impl<R> fmt::Debug for StillRunning<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StillRunning").field("child", &self.child).finish()
    }
}

impl<R> From<StillRunning<R>> for crate::Error {
    /// The handle is dropped; the thread runs on.
    fn from(error: StillRunning<R>) -> Self {
        let (name, pid) = (error.child.name().into(), error.child.pid());
        Self::Join(JoinError::TimedOut { name, pid })
    }
}

/// A thread that was started here, whatever its function returns: what [`active_children`] gives out.
#[derive(Clone)]
pub struct ActiveThread {
    life: Arc<Life>,
}

impl ActiveThread {
    /// As [`Child::name`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.life.name
    }

    /// As [`Child::pid`].
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// As [`Child::is_daemon`].
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.life.daemon
    }

    /// As [`Child::is_alive`].
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    /// As [`Child::exitcode`].
    #[must_use]
    pub fn exitcode(&self) -> Option<i32> {
        self.life.exitcode()
    }

    /// As [`Child::detach`].
    pub fn detach(&self) {
        self.life.detached.store(true, Ordering::Relaxed);
    }

    /// Waits until the function has returned. Its result is left to the typed handle.
    ///
    /// # Errors
    /// [`JoinError::Panicked`].
    pub fn join(&self) -> Result<(), JoinError> {
        self.life.join(Deadline::NEVER)
    }

    /// Like [`join`](ActiveThread::join), but waits no longer than `timeout`; zero only looks.
    ///
    /// # Errors
    /// As [`join`](ActiveThread::join), and [`JoinError::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.life.join(Deadline::after(timeout))
    }
}

impl fmt::Debug for ActiveThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.life.show("ActiveThread", f)
    }
}

/// The threads that were started here and have not ended, in the order of their starts. (Not those that std or others
/// have started.)
///
/// ```
/// use procession_posix::thread::{Event, Thread, active_children};
///
/// let end = Event::new()?;
/// let child = Thread::new(|end: Event| end.wait(), (end.clone(),)).name("sleeper").start()?;
/// assert!(active_children().iter().any(|child| child.name() == "sleeper"));
/// end.set();
/// child.join()?;
/// assert!(!active_children().iter().any(|child| child.name() == "sleeper"));
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[must_use]
pub fn active_children() -> Vec<ActiveThread> {
    threads().running.iter().map(|life| ActiveThread { life: Arc::clone(life) }).collect()
}

/// The running thread, see [`current_thread`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentThread {
    /// The name given to the builder, or a default like `Thread-1`; of other threads what std knows, `MainThread` in `main`.
    pub name: String,
    /// The id of this process.
    pub pid: u32,
    /// Whether the end of this process leaves the thread alone.
    pub daemon: bool,
}

/// Who am I?
///
/// ```
/// use procession_posix::thread::{Thread, current_thread};
///
/// let name = Thread::new(|| current_thread().name, ()).name("teller").start()?.join()?;
/// assert_eq!(name, "teller");
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[must_use]
pub fn current_thread() -> CurrentThread {
    let pid = std::process::id();
    // A thread that is just ending, in which nothing is left of this, is told as std knows it.
    let mine = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    if let Some(life) = mine {
        return CurrentThread { name: life.name.clone(), pid, daemon: life.daemon };
    }
    let name = match std::thread::current().name() {
        Some("main") | None => "MainThread".into(),
        Some(name) => name.into(),
    };
    CurrentThread { name, pid, daemon: false }
}
