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
//! [`Target`]. The result comes back by serde too. A type of one's own can be a process: see [`Run`].
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
//! at the first start. It is fast (one and a half times a bare fork and wait), works with threads, and the new
//! process has no memory, no descriptor and no handler of its starter but what it is meant to have. From the
//! second start on the helper keeps two processes ready, which sleep until they are needed: [`keep_warm`] says
//! how many, and what they cost.
//! [`StartMethod::Spawn`] executes the program anew: 1 ms, but an address space of its own.
//! [`StartMethod::Fork`] forks the starter itself, with all it has, and is refused if it has threads.
//!
//! The method is chosen for one process ([`Process::method`]), for what one [`Context`] makes, for the whole program
//! ([`set_start_method`]), or by `PROCESSION_START_METHOD` in the environment; in this order.
//!
//! Zygote and spawn execute the program's own file, also when that has been deleted or replaced since, or another
//! one that [`set_executable`] names. That takes `/proc`; without it only fork works.
//!
//! The new process has the starter's standard streams, working directory, environment, umask, ignored
//! signals, signal mask, resource limits, CPU affinity, niceness, process group, and whatever confines it.
//! It may have fewer capabilities, never more: those that an execution takes away are gone. Scheduling policy,
//! `oom_score_adj` and keyrings do not cross. Signal handlers do not cross, except by `Fork`. Streams, directory, environment, affinity and limits can be chosen
//! for each process, see [`Process`].
//!
//! # How it ends
//!
//! | end of the target | [`exitcode`](Child::exitcode) | [`join`](Child::join) |
//! |---|---|---|
//! | returns | 0 | `Ok`, its result |
//! | returns an `Err` | 1 | `Ok`, its result, which is that error |
//! | panics | 101 (or -6 with `panic = "abort"`) | [`JoinError::Panicked`] with message, place, and the backtrace if `RUST_BACKTRACE` asks for one |
//! | calls `exit(n)` | n | [`JoinError::Exited`] |
//! | is ended by signal n | -n | [`JoinError::Killed`] |
//! | takes longer than its [deadline](Process::deadline) | -9 | [`JoinError::DeadlinePassed`] |
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
//! 4. the remaining finalizers are called (by one of them, of priority -1, [threads](crate::thread::Thread) that are no
//!    daemons are waited for), and standard output is flushed.
//!
//! When a process is ended in another way, by a signal, `abort` or `_exit`, nothing of that happens: its daemons are
//! killed within milliseconds, and its other children run on. A process that wants to end in order by signals, with all
//! that it starts, says so by [`end_in_order`](crate::signal::end_in_order).
//!
//! The helper process is a child of the starter: `wait` for *any* child sees it. It ends when its
//! starter has ended and its processes have. If it is killed, daemons of it are killed too, the others run on,
//! [`JoinError::Lost`] may be what is known of their end, and the next start makes a new one. Processes that it
//! keeps ready end with it, and with the starter. Nobody else can ask it for a process: it is reached by a
//! socket pair only, which has no name.

mod builder;
mod child;
mod children;
mod context;
mod deadline;
mod error;
mod executable;
pub(crate) mod exit;
mod finalize;
mod fork;
mod handle;
mod image;
mod life;
mod limits;
mod link;
mod method;
mod names;
mod news;
mod oom;
mod returned;
mod run;
mod spawn;
mod starter;
mod state;
mod status;
mod stdio;
mod target;
mod warm;
pub(crate) mod wire;
pub(crate) mod words;
mod zygote;

pub use builder::{Named, Process};
pub use children::active_children;
pub use context::{Context, get_context};
pub use error::{JoinError, StartError, StillRunning};
pub use executable::{executable, set_executable};
pub use finalize::{Finalizer, finalizer};
pub use handle::{ActiveChild, Child};
pub(crate) use image::image;
pub use limits::{Resource, cpu_count};
pub use method::{StartMethod, UnknownMethod, set_start_method, start_method};
pub(crate) use names::is_starter;
pub use names::{CurrentProcess, ParentProcess, current_process, parent_process};
pub(crate) use returned::is_err;
pub use run::Run;
pub(crate) use spawn::{Execution, Role};
pub(crate) use state::{Together, become_a_servant, environment};
pub use stdio::Stdio;
#[doc(hidden)]
pub use target::Export;
pub use target::Target;
pub(crate) use target::{CallError, Entry};
pub use warm::keep_warm;
pub(crate) use words::words_of;
pub(crate) use zygote::{close_all_but, silence};

use starter::Starter;

/// Prepares for starting processes, at the beginning of `main`. Optional.
///
/// In a process with one thread it forks the helper process right away (0.1 ms), which saves the 1 to 3 ms
/// that the first start takes otherwise. Processes that come from it have what std sets up for
/// `main`: a thread named `main`, and a message on stack overflow. In a process with several
/// threads, or where it fails, it does nothing, and the first start does what it has to.
///
/// What was done before this call lives on in started processes: signal handlers, variables, what was registered with
/// `atexit`. Files that were open before are `/dev/null` there.
///
/// ```
/// procession_posix::process::init();
/// ```
pub fn init() {
    if let Ok(starter) = Starter::get() {
        starter.begin();
    }
}

/// What a process is told of its starter's choices.
struct Names {
    birth: names::Birth,
    method: StartMethod,
}
