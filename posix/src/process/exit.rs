//! The end of a process in order.
//!
//! ```text
//! finalizers with a priority of 0 or more
//! SIGTERM to the daemons, a grace for them, SIGKILL to those that are still there
//! the other children are waited for, but not the detached ones
//!     (also for those that another thread is just starting; where a signal ends the process no more are started)
//! the remaining finalizers
//! standard output is flushed
//! ```
//!
//! It is gone through once in a process, by whoever comes first: the end of a target, the C library's `exit` (which
//! a `main` that returns calls too), or whoever ends this process after a signal. Another thread that comes later
//! waits until it is done, for it would end the process in the middle of it; the same thread, in a finalizer that
//! calls `exit`, does not wait for itself. It is registered with the C library at the first start or finalizer. A fork finds
//! it registered, and has no children and no finalizers of its own there, so it does nothing.

use std::io::Write;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::handle::ActiveChild;
use super::life::Life;
use super::{children, finalize};
use crate::signal::yield_to_the_ending;

/// Daemons have this long between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// How often is looked whether a start that was under way is done.
const LOOK: Duration = Duration::from_millis(1);

/// Where this process is with its end.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Running,
    Ending { thread: i32 },
    Done,
}

struct End {
    /// Whose it is: a fork of this process begins anew.
    pid: u32,
    stage: Stage,
}

static END: Mutex<End> = Mutex::new(End { pid: 0, stage: Stage::Running });
static DONE: Condvar = Condvar::new();

/// What is done about children that are neither daemons nor detached.
pub(crate) enum Others<'a> {
    /// They are waited for.
    Join,
    /// Each is told in this way, then they are waited for; those that are still there after this time are killed.
    Tell(&'a dyn Fn(&ActiveChild), Duration),
}

/// Has the C library end this process in order when it calls what was registered for that. Costs a load, but for the first.
pub(super) fn register() {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    extern "C" fn at_exit() {
        in_order(Others::Join);
    }
    // Nothing goes along with it. A fork has what was registered before.
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: the function has the signature that the call asks for, never unwinds, and is part of what is
        // linked into this program or library. Without memory it is not registered, and nothing is ended.
        unsafe { libc::atexit(at_exit) };
    }
}

/// Goes through the end of this process, unless that was done; returns when it is done. Never unwinds.
pub(crate) fn in_order(others: Others) {
    let me = rustix::thread::gettid().as_raw_nonzero().get();
    let pid = std::process::id();
    let mut end = END.lock().unwrap_or_else(PoisonError::into_inner);
    if end.pid != pid {
        *end = End { pid, stage: Stage::Running };
    }
    loop {
        match end.stage {
            Stage::Running => break,
            Stage::Ending { thread } if thread != me => {
                end = DONE.wait(end).unwrap_or_else(PoisonError::into_inner);
            }
            Stage::Ending { .. } => return,
            Stage::Done => {
                drop(end);
                return yield_to_the_ending();
            }
        }
    }
    end.stage = Stage::Ending { thread: me };
    drop(end);
    let steps: [&dyn Fn(); 4] =
        [&|| finalize::call_down_to(0), &end_daemons, &|| wait_for_others(&others), &|| {
            finalize::call_down_to(i32::MIN)
        }];
    for step in steps {
        // One step's panic does not take the others along.
        let _ = catch_unwind(std::panic::AssertUnwindSafe(step));
    }
    let _ = std::io::stdout().flush();
    END.lock().unwrap_or_else(PoisonError::into_inner).stage = Stage::Done;
    DONE.notify_all();
    yield_to_the_ending();
}

/// Whether somebody is going through the end of this process.
pub(crate) fn is_under_way() -> bool {
    let end = END.lock().unwrap_or_else(PoisonError::into_inner);
    end.pid == std::process::id() && end.stage != Stage::Running
}

fn end_daemons() {
    let mut daemons = children::living();
    daemons.retain(|child| child.daemon);
    // Twice a grace, so that not even one that the kernel cannot end holds up this end for ever.
    for signal in [Signal::TERM, Signal::KILL] {
        for daemon in &daemons {
            // A daemon with another user's rights is not ours to signal.
            let _ = daemon.signal(signal);
        }
        let deadline = Instant::now() + GRACE;
        daemons.retain(|daemon| !daemon.wait_until(Some(deadline)));
    }
}

fn wait_for_others(others: &Others) {
    let the_others = || {
        let mut children = children::living();
        children.retain(|child| !child.daemon && !child.is_detached());
        children
    };
    let (mut told, mut deadline) = (Vec::new(), None);
    if let Others::Tell(_, patience) = others {
        deadline = Some(Instant::now() + *patience);
    }
    // Other threads may start some meanwhile, so look again, until there is nothing to wait for.
    loop {
        let starting = children::is_any_starting();
        let children = the_others();
        if let Others::Tell(tell, _) = others {
            for child in &children {
                if !told.iter().any(|known| Arc::ptr_eq(known, child)) {
                    tell(&ActiveChild::new(child.clone()));
                    told.push(child.clone());
                }
            }
        }
        if children.is_empty() && !starting {
            return;
        }
        if starting {
            std::thread::sleep(LOOK);
        } else if !children.iter().all(|child| child.wait_until(deadline)) {
            return kill(children);
        }
    }
}

/// Kills those that had time enough. One that the kernel cannot end does not hold up this end for ever.
fn kill(children: Vec<Arc<Life>>) {
    for child in &children {
        let _ = child.signal(Signal::KILL);
    }
    let deadline = Instant::now() + GRACE;
    for child in children {
        child.wait_until(Some(deadline));
    }
}
