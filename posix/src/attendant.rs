//! Threads of this library that do not stand in the way of a fork.
//!
//! A process that forks itself must not have other threads, since locks that those hold would stay locked in the child. What makes that
//! true of an attendant is that it sleeps nearly always, in a way that holds nothing, and takes the lock of the `CREW` for everything else:
//!
//! ```text
//! attendant   register (under the lock); then again and again: sleep, lock, work, unlock; at last, under the lock: sign off
//! aside       in the middle of its work: go off duty, unlock; do it; lock, be on duty again
//! hiring      lock, make the thread, count it, unlock
//! forking     lock; wait until all that were made have registered, and, for a while, until nobody is aside; as many threads as are on
//!             duty, and this one? fork, then unlock in both
//! ```
//!
//! What may take long, and what is a user's, is done aside: all attendants and all forks would wait for it, and a user's code may wait
//! for one of these. Who is aside is a thread like any other: a fork that has waited for long enough is refused.
//!
//! A thread that was made registers without asking for anything but the lock, which who waits for it has let go of.
//! So whoever forks waits for an attendant that works, and an attendant that wakes up waits for the fork. In the child the lock is
//! unlocked by the one thread that there is, and the crew is empty.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use procession_core::sys::Deadline;

/// What an attendant is there for.
pub(crate) trait Duty: Send + 'static {
    /// Sleeps until there may be something to do. Holds and allocates nothing: the process may be forked meanwhile.
    fn sleep(&self);

    /// Does it; whether there can be more. What may take long, or is a user's, is done [`aside`].
    fn work(&mut self) -> bool;
}

struct Crew {
    /// Whose it is: a forked process has none.
    pid: u32,
    /// How many were made, have not signed off, and are not aside.
    on_duty: u32,
    /// How many of them have not registered yet.
    coming: u32,
    /// How many are aside.
    aside: u32,
}

impl Crew {
    const fn of(pid: u32) -> Self {
        Crew { pid, on_duty: 0, coming: 0, aside: 0 }
    }
}

static CREW: Mutex<Crew> = Mutex::new(Crew::of(0));
/// One has registered, or is aside no more.
static BACK: Condvar = Condvar::new();

thread_local! {
    static IS_ATTENDANT: Cell<bool> = const { Cell::new(false) };
    /// The lock, while this attendant works.
    static WORKS: RefCell<Option<MutexGuard<'static, Crew>>> = const { RefCell::new(None) };
}

fn crew() -> MutexGuard<'static, Crew> {
    let mut crew = CREW.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    if crew.pid != pid {
        *crew = Crew::of(pid);
    }
    crew
}

/// Lends the lock to [`WORKS`] while this lives, so that what is done meanwhile can step aside.
struct Shift;

impl Shift {
    fn begin() -> Self {
        WORKS.set(Some(crew()));
        Shift
    }

    /// The lock; it is there, unless stepping aside came to nothing.
    fn end(self) -> MutexGuard<'static, Crew> {
        WORKS.take().unwrap_or_else(crew)
    }
}

/// Does this without the lock, if the calling thread is an attendant at work; else it just does it. A panic passes through.
pub(crate) fn aside<T>(action: impl FnOnce() -> T) -> T {
    /// Back on duty, also after a panic.
    struct Return;
    impl Drop for Return {
        fn drop(&mut self) {
            let mut crew = crew();
            // Saturating: the action may have forked by other means, and there is no crew in the child.
            crew.aside = crew.aside.saturating_sub(1);
            crew.on_duty += 1;
            BACK.notify_all();
            WORKS.set(Some(crew));
        }
    }
    let works = WORKS.try_with(RefCell::take).ok().flatten();
    let Some(mut crew) = works else { return action() };
    crew.on_duty -= 1;
    crew.aside += 1;
    drop(crew);
    let _return = Return;
    action()
}

/// Makes a thread that does its duty until there is no more of it. What it works at must not wait for a start by
/// [`StartMethod::Fork`](crate::process::StartMethod::Fork).
///
/// # Errors
/// If there is no thread to be had, or an attendant itself asks for one.
pub(crate) fn hire(name: &str, mut duty: impl Duty) -> io::Result<JoinHandle<()>> {
    if IS_ATTENDANT.get() {
        return Err(io::Error::other(
            "this cannot be asked for from within a handler of log records, nor in another thread of this library",
        ));
    }
    let mut crew = crew();
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        IS_ATTENDANT.set(true);
        let mut crew = self::crew();
        crew.coming -= 1;
        BACK.notify_all();
        drop(crew);
        loop {
            duty.sleep();
            let shift = Shift::begin();
            let more = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| duty.work()));
            let mut crew = shift.end();
            if !more.unwrap_or(true) {
                crew.on_duty -= 1;
                drop(crew);
                // An attendant still: who is told of the end by this must not wait for it.
                crate::task::quietly(|| drop(duty));
                return;
            }
        }
    })?;
    // It cannot register before the lock is free.
    crew.on_duty += 1;
    crew.coming += 1;
    Ok(thread)
}

/// Whether the calling thread is one: it must not wait for what an attendant does.
pub(crate) fn am_one() -> bool {
    IS_ATTENDANT.get()
}

/// While it lives no attendant does anything.
pub(crate) struct Hush {
    crew: MutexGuard<'static, Crew>,
}

/// Keeps the attendants from doing anything; how many there are, besides those that are aside and do not come back within `patience`.
/// `None` in one of them.
pub(crate) fn hush(patience: Duration) -> Option<(Hush, u32)> {
    if IS_ATTENDANT.get() {
        return None;
    }
    let until = Deadline::after(patience);
    let mut crew = crew();
    loop {
        // Who is coming registers in a moment.
        if crew.coming > 0 {
            crew = BACK.wait(crew).unwrap_or_else(PoisonError::into_inner);
        } else if crew.aside > 0 && !until.is_past() {
            let left = until.left().unwrap_or_default();
            crew = BACK.wait_timeout(crew, left).unwrap_or_else(PoisonError::into_inner).0;
        } else {
            break;
        }
    }
    let on_duty = crew.on_duty;
    Some((Hush { crew }, on_duty))
}

impl Hush {
    /// This is the child of the fork: there is no crew.
    pub(crate) fn forked(mut self) {
        *self.crew = Crew::of(std::process::id());
    }
}
