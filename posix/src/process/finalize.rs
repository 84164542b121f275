//! What this process does at its end, as its parts have asked for it.
//!
//! A finalizer is in the list until somebody takes it out: whoever calls it early, whoever cancels it, or the end
//! of the process. Taking out is done under the lock and calling outside of it, so each is called at most once,
//! by one thread, and may use everything here itself. A fork of this process forgets the list: the finalizers
//! are for what its parent has.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Call = Box<dyn FnOnce() + Send>;
/// The greatest priority comes first, and of equals the latest.
type Place = (Reverse<i32>, Reverse<u64>);

struct Finalizers {
    /// Whose they are.
    pid: u32,
    serial: u64,
    calls: BTreeMap<Place, Call>,
}

static FINALIZERS: Mutex<Finalizers> =
    Mutex::new(Finalizers { pid: 0, serial: 0, calls: BTreeMap::new() });

fn finalizers() -> MutexGuard<'static, Finalizers> {
    let mut all = FINALIZERS.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    if all.pid != pid {
        // Not even dropped: that could do what the parent is to do.
        std::mem::forget(std::mem::take(&mut all.calls));
        all.pid = pid;
    }
    all
}

/// Has `call` called when this process ends in order, see [the module](super#the-end-of-the-starter): with a
/// priority of 0 or more before the daemons are terminated and the other children joined, with less after that;
/// the greatest priority first, and of equal ones the latest first.
///
/// A finalizer that panics does not keep the others from being called; one that calls `exit` ends the process there
/// and then, or has std abort it. None is called in a process that a signal
/// ends, nor in one that leaves by `_exit` or `abort`. They belong to the process that calls this, and not to its
/// children. The returned handle may be dropped.
///
/// ```
/// use procession_posix::process::{Process, finalizer};
///
/// fn work() {
///     finalizer(0, || println!("second"));
///     finalizer(10, || println!("first"));
///     finalizer(0, || println!("never")).cancel();
/// }
///
/// Process::new(work, ()).start()?.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn finalizer(priority: i32, call: impl FnOnce() + Send + 'static) -> Finalizer {
    super::exit::register();
    let mut all = finalizers();
    all.serial += 1;
    let place = (Reverse(priority), Reverse(all.serial));
    all.calls.insert(place, Box::new(call));
    Finalizer { place, pid: all.pid }
}

/// Something to be done at the end of this process, see [`finalizer`]. Dropping it leaves that as it is.
#[derive(Clone)]
pub struct Finalizer {
    place: Place,
    pid: u32,
}

impl Finalizer {
    /// Calls it now instead of at the end: `false` if it was called or cancelled already, or is another process'.
    pub fn call(&self) -> bool {
        self.take().map(|call| call()).is_some()
    }

    /// It is not called any more: `false` if it was called or cancelled already, or is another process'.
    pub fn cancel(&self) -> bool {
        self.take().is_some()
    }

    /// Whether it is still to be called.
    pub fn still_active(&self) -> bool {
        let all = finalizers();
        all.pid == self.pid && all.calls.contains_key(&self.place)
    }

    fn take(&self) -> Option<Call> {
        let mut all = finalizers();
        if all.pid == self.pid { all.calls.remove(&self.place) } else { None }
    }
}

impl fmt::Debug for Finalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finalizer")
            .field("priority", &self.place.0.0)
            .field("still_active", &self.still_active())
            .finish()
    }
}

/// Calls all with at least this priority, also those that come in meanwhile.
pub(super) fn call_down_to(priority: i32) {
    loop {
        let mut all = finalizers();
        let Some(first) = all.calls.first_entry().filter(|first| first.key().0.0 >= priority)
        else {
            return;
        };
        let call = first.remove();
        drop(all);
        // The hook has said what there is to say.
        let _ = catch_unwind(AssertUnwindSafe(call));
    }
}
