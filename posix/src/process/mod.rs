//! Processes that run a function of this program.
//!
//! ```
//! use procession_posix::process::Process;
//!
//! fn add(a: u32, b: u32) -> u32 {
//!     a + b
//! }
//!
//! let child = Process::new(add, (2, 3)).name("adder").start()?;
//! assert_eq!(child.join()?, 5);
//! assert_eq!(child.exitcode(), Some(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What can run
//!
//! Any function or closure without captured variables, with up to eight arguments that serde can carry, see
//! [`Target`]. The result comes back by serde too.
//!
//! # Where it works
//!
//! Everywhere, without preparation: in a program whose `main` has arguments of its own, in `#[test]` functions
//! under `cargo test` and nextest (use functions of the test's file as targets), in doctests like the one
//! above, from threads. The new process never runs `main`: before `main` is entered, the program looks for a mark
//! in its environment that only this crate sets, and if it is there turns into what the mark says. A
//! program may call [`init`] at the beginning of its `main`, which makes the first start cheaper.
//!
//! # The three ways to start
//!
//! [`StartMethod::Zygote`], the default, forks a small helper process that was executed from the same file
//! at the first start. It is fast (two times a bare fork and wait), works with threads, and the new
//! process has no memory, no descriptor and no handler of its starter but what it is meant to have.
//! [`StartMethod::Spawn`] executes the program anew: 1 ms, but an address space of its own.
//! [`StartMethod::Fork`] forks the starter itself, with all it has, and is refused if it has threads.
//!
//! The new process has the starter's standard streams, working directory, environment, umask, ignored
//! signals, signal mask, resource limits, CPU affinity, niceness, process group, and whatever confines it.
//! Signal handlers do not cross, except by `Fork`.
//!
//! # How it ends
//!
//! | end of the target | [`exitcode`](Child::exitcode) | [`join`](Child::join) |
//! |---|---|---|
//! | returns | 0 | `Ok`, its result |
//! | returns an `Err` | 1 | `Ok`, its result, which is that error |
//! | panics | 101 (or -6 with `panic = "abort"`) | [`JoinError::Panicked`] with the message |
//! | calls `exit(n)` | n | [`JoinError::Exited`] |
//! | is ended by signal n | -n | [`JoinError::Killed`] |
//!
//! Nobody has to join: no zombie stays, since the zygote reaps.
//!
//! # The end of the starter
//!
//! A process ends in order when its target returns or panics, in the first process when `main` returns or panics, and
//! in each when anybody calls `exit`. Then, before it is gone:
//!
//! 1. [finalizers](finalizer) with a priority of 0 or more are called;
//! 2. its daemons get SIGTERM, and SIGKILL if they are still there after 2 s;
//! 3. its other children are waited for, without a limit, unless they were [detached](Child::detach);
//! 4. the remaining finalizers are called, and standard output is flushed.
//!
//! When a process is ended in another way, by a signal, `abort` or `_exit`, nothing of that happens: its daemons are
//! killed within milliseconds, and its other children run on.
//!
//! The helper process is a child of the starter: `wait` for *any* child sees it. It ends when its
//! starter has ended and its processes have. If it is killed, daemons of it are killed too, the others run on,
//! [`JoinError::Lost`] may be what is known of their end, and the next start makes a new one.

mod child;
mod children;
mod error;
pub(crate) mod exit;
mod finalize;
mod fork;
mod handle;
mod image;
mod life;
mod link;
mod names;
mod spawn;
mod state;
mod status;
mod target;
pub(crate) mod wire;
mod zygote;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU8, Ordering};

pub use children::active_children;
pub use error::{JoinError, StartError, StillRunning};
pub use finalize::{Finalizer, finalizer};
pub use handle::{ActiveChild, Child};
pub use names::{CurrentProcess, ParentProcess, current_process, parent_process};
pub(crate) use spawn::{Execution, Role};
pub(crate) use state::{become_a_servant, environment};
pub use target::Target;
pub(crate) use target::{CallError, Entry};
pub(crate) use zygote::{close_all_but, silence};

use crate::channel::luggage::Packing;
use child::Letter;
use link::{Request, Starter};
use state::Changes;

/// How a process comes to be. See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum StartMethod {
    /// Forked by a helper process that has one thread. The default.
    #[default]
    Zygote,
    /// Executed anew from the program's file, by the helper process.
    Spawn,
    /// Forked by the starting process, which must have one thread only.
    Fork,
}

static METHOD: AtomicU8 = AtomicU8::new(StartMethod::Zygote as u8);

/// Sets the method of all later starts that do not name one. Started processes inherit it.
///
/// ```
/// use procession_posix::process::{StartMethod, set_start_method, start_method};
/// set_start_method(StartMethod::Spawn);
/// assert_eq!(start_method(), StartMethod::Spawn);
/// ```
pub fn set_start_method(method: StartMethod) {
    METHOD.store(method as u8, Ordering::Relaxed);
}

/// The method of starts that do not name one.
pub fn start_method() -> StartMethod {
    match METHOD.load(Ordering::Relaxed) {
        method if method == StartMethod::Spawn as u8 => StartMethod::Spawn,
        method if method == StartMethod::Fork as u8 => StartMethod::Fork,
        _ => StartMethod::Zygote,
    }
}

/// Prepares for starting processes, at the beginning of `main`. Optional.
///
/// In a process with one thread it forks the helper process right away (0.1 ms), which saves the 1 to 3 ms
/// that the first start takes otherwise. Processes that come from it have what std sets up for
/// `main`: a thread named `main`, and a message on stack overflow. In a process with several
/// threads, or where it fails, it does nothing, and the first start does what it has to.
///
/// Signal handlers that are installed before this call live on in started processes.
///
/// ```
/// procession_posix::process::init();
/// ```
pub fn init() {
    if let Ok(starter) = Starter::get() {
        starter.begin();
    }
}

/// A process to be started: its target and arguments, and how it is to run.
///
/// ```
/// use procession_posix::process::{Process, current_process};
///
/// let child = Process::new(|| current_process().name, ()).name("echo").start()?;
/// assert_eq!(child.join()?, "echo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing runs before `start`"]
pub struct Process<F, Args> {
    target: PhantomData<F>,
    args: Args,
    name: Option<String>,
    daemon: Option<bool>,
    method: Option<StartMethod>,
    allow_children: bool,
}

/// What a process is told of its starter's choices.
struct Names {
    birth: names::Birth,
    method: StartMethod,
}

impl<F, Args> Process<F, Args>
where
    F: Target<Args>,
{
    /// A process that will call `target` with `args`, a tuple: `()`, `(a,)`, `(a, b)`, ...
    pub fn new(target: F, args: Args) -> Self {
        // It has no data: its type is all of it.
        let _ = target;
        let (name, daemon, method, allow_children) = (None, None, None, false);
        Process { target: PhantomData, args, name, daemon, method, allow_children }
    }

    /// Names the process; what [`current_process`] and, cut to 15 bytes, `ps` and `top` show. Without it:
    /// `Process-1`, `Process-2`, and for their children `Process-2:1`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the process ends with the one that started it. Without it: as that one.
    ///
    /// When its starter ends in order, it gets SIGTERM, and after a grace of 2 s SIGKILL. When its starter dies in any
    /// other way, it is killed by the kernel or the zygote, without a chance to clean up. A daemon that
    /// changes its user or group loses the kernel's part of this. A daemon may not have children, unless it is
    /// [allowed to](Process::allow_children).
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = Some(daemon);
        self
    }

    /// Whether the process may start processes itself, if it is a daemon. Without it it may not: it can be killed
    /// at any moment, and its children would be left to themselves. Other processes always may.
    pub fn allow_children(mut self, allowed: bool) -> Self {
        self.allow_children = allowed;
        self
    }

    /// How the process comes to be. Without it: [`start_method`].
    pub fn method(mut self, method: StartMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// Starts the process. The arguments are dropped here when it exists.
    ///
    /// # Errors
    /// See [`StartError`]. After an error nothing runs: a start that failed halfway is taken back.
    pub fn start(self) -> Result<Child<F::Output>, StartError> {
        let Process { target: _, args, name, daemon, method, allow_children } = self;
        let target = F::ENTRY.type_name();
        let packing = Packing::begin();
        let encoded =
            F::encode(&args).map_err(|message| StartError::Arguments { target, message })?;
        // If nothing comes of it, it goes back.
        let luggage = packing.end();
        let starter = Starter::get()?;
        children::sweep();
        let birth = names::next_birth(name, daemon, allow_children)?;
        let names = Names { birth, method: start_method() };
        let (name, daemon) = (names.birth.name.clone(), names.birth.daemon);
        let method = method.unwrap_or(names.method);
        if method == StartMethod::Fork {
            let letter = Letter {
                build: image::image().build(),
                entry: 0,
                type_name: target.into(),
                birth: names.birth,
                method: names.method,
                changes: Changes::default(),
            };
            let slot = starter.slots.take()?;
            if let Some(slot) = starter.slots.records.slot(slot) {
                slot.confirm();
            }
            let forked = fork::fork(starter, slot, F::ENTRY, letter, &encoded)
                .inspect_err(|_| starter.slots.give_back(slot, true))?;
            let child = Child::forked(name, daemon, starter.slots.clone(), slot, forked);
            return Ok(child.with(luggage));
        }
        let request = Request {
            entry: F::ENTRY.offset().ok_or(StartError::ForeignTarget { target })?,
            type_name: target,
            args: &encoded,
            names: &names,
            execute: method == StartMethod::Spawn,
        };
        let started = starter.start(request)?;
        Ok(Child::started(name, daemon, starter.slots.clone(), started).with(luggage))
    }
}
