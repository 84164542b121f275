//! Threads of this library that do not stand in the way of a fork.
//!
//! A process that forks itself must not have other threads, since locks that those hold would stay locked in the child. What makes that
//! true of an attendant is that it sleeps nearly always, in a way that holds nothing, and takes the lock of the `CREW` for everything else:
//!
//! ```text
//! attendant   register (under the lock); then again and again: sleep, lock, work, unlock; at last, under the lock: sign off
//! hiring      lock, make the thread, count it, unlock
//! forking     lock; wait until all that were made have registered; as many threads as those, and this one? fork, then unlock in both
//! ```
//!
//! A thread that was made registers without asking for anything but the lock, which who waits for it has let go of.
//! So whoever forks waits for an attendant that works, and an attendant that wakes up waits for the fork. In the child the lock is
//! unlocked by the one thread that there is, and the crew is empty.

use std::cell::Cell;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What an attendant is there for.
pub(crate) trait Duty: Send + 'static {
    /// Sleeps until there may be something to do. Holds and allocates nothing: the process may be forked meanwhile.
    fn sleep(&self);

    /// Does it; whether there can be more.
    fn work(&mut self) -> bool;
}

struct Crew {
    /// Whose it is: a forked process has none.
    pid: u32,
    /// How many were made and have not signed off.
    on_duty: u32,
    /// How many of them have not registered yet.
    coming: u32,
}

static CREW: Mutex<Crew> = Mutex::new(Crew { pid: 0, on_duty: 0, coming: 0 });
static REGISTERED: Condvar = Condvar::new();

thread_local! {
    static IS_ATTENDANT: Cell<bool> = const { Cell::new(false) };
}

fn crew() -> MutexGuard<'static, Crew> {
    let mut crew = CREW.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    if crew.pid != pid {
        *crew = Crew { pid, on_duty: 0, coming: 0 };
    }
    crew
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
        REGISTERED.notify_all();
        drop(crew);
        loop {
            duty.sleep();
            let mut crew = self::crew();
            let more = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| duty.work()));
            if !more.unwrap_or(true) {
                crew.on_duty -= 1;
                drop(crew);
                IS_ATTENDANT.set(false);
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

/// Keeps the attendants from doing anything; how many there are. `None` in one of them.
pub(crate) fn hush() -> Option<(Hush, u32)> {
    if IS_ATTENDANT.get() {
        return None;
    }
    let mut crew = crew();
    while crew.coming > 0 {
        crew = REGISTERED.wait(crew).unwrap_or_else(PoisonError::into_inner);
    }
    let on_duty = crew.on_duty;
    Some((Hush { crew }, on_duty))
}

impl Hush {
    /// This is the child of the fork: there is no crew.
    pub(crate) fn forked(mut self) {
        *self.crew = Crew { pid: std::process::id(), on_duty: 0, coming: 0 };
    }
}
