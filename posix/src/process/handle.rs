//! The handles of a started process: one with the type of its result, and one without.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::de::DeserializeOwned;

use super::children;
use super::error::{JoinError, StillRunning};
use super::life::{Left, Life};
use super::stdio::{self, Pipes};
use crate::channel::luggage::Luggage;

/// A started process whose target returns `R`.
///
/// All methods take `&self`: any thread may wait, ask and signal, several at a time, and all are told the same.
/// Dropping the handle neither ends the process nor waits for it; what it leaves is cleaned up by itself, and
/// [`active_children`](super::active_children) still has it. When this process ends in order it waits for the
/// process, see the [module](super#the-end-of-the-starter), unless it was [detached](Child::detach).
pub struct Child<R> {
    life: Arc<Life>,
    pipes: Pipes,
    result: PhantomData<fn() -> R>,
}

impl<R> Child<R> {
    /// The handle of a process that was started just now, which is listed from here on.
    pub(super) fn of(life: Life) -> Self {
        let life = Arc::new(life);
        children::add(&life);
        Child { life, pipes: Pipes::default(), result: PhantomData }
    }

    /// Leaves to it what goes along with its arguments, until it ends.
    pub(super) fn with(self, luggage: Option<Luggage>) -> Self {
        if let Some(luggage) = luggage {
            luggage.follow(self.sentinel());
        }
        self
    }

    /// Keeps our ends of its pipes until they are taken.
    pub(super) fn with_pipes(mut self, pipes: Pipes) -> Self {
        self.pipes = pipes;
        self
    }

    /// The process id. After the process has ended the kernel may give it to another: to signal,
    /// use the methods here, which never hit a stranger.
    pub fn pid(&self) -> u32 {
        self.life.pid
    }

    /// The name given to the builder, or the default, like `Process-1`.
    pub fn name(&self) -> &str {
        &self.life.name
    }

    /// Whether the process is ended when the one that started it ends.
    pub fn is_daemon(&self) -> bool {
        self.life.daemon
    }

    /// Whether the process has not ended. Costs one system call, never blocks for a living process.
    pub fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    /// How the process ended: 0 or n for an exit, -n for signal n, `None` while it runs. A process
    /// whose target returned `Err` has 1, one whose target panicked 101, one that could not call its target 126.
    ///
    /// If the one that knew was killed (the zygote, see the module), the kernel is asked; where
    /// it does not tell (before Linux 6.15) it is 255.
    pub fn exitcode(&self) -> Option<i32> {
        self.life.exitcode()
    }

    /// A descriptor that is readable exactly when the process is gone, for `poll`, `select`, `epoll`.
    ///
    /// It is a pidfd: it belongs to the handle, and to this process only. What the process has executed or started
    /// itself neither delays nor ends it.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.life.sentinel()
    }

    /// The end into which the process' standard input is written, if that is [piped](super::Stdio::Piped).
    /// The process reads to the end when this is dropped. The second time there is nothing to take.
    pub fn take_stdin(&self) -> Option<PipeWriter> {
        stdio::take(&self.pipes.stdin)
    }

    /// The end from which the process' standard output is read, if that is [piped](super::Stdio::Piped).
    /// It ends when the process and all who have the stream from it are gone, or have closed it.
    pub fn take_stdout(&self) -> Option<PipeReader> {
        stdio::take(&self.pipes.stdout)
    }

    /// The end from which the process' standard error is read, if that is [piped](super::Stdio::Piped);
    /// as [`take_stdout`](Child::take_stdout).
    pub fn take_stderr(&self) -> Option<PipeReader> {
        stdio::take(&self.pipes.stderr)
    }

    /// Sends SIGTERM, which ends the process unless it handles it. No error if it is already gone.
    ///
    /// # Errors
    /// `EPERM`, if the process has taken on another user's rights.
    pub fn terminate(&self) -> io::Result<()> {
        self.life.signal(Signal::TERM)
    }

    /// Sends SIGKILL, which ends the process at whatever instruction it is. Survivors of the same tree are
    /// told of what it held. No error if it is already gone.
    ///
    /// # Errors
    /// `EPERM`, if the process has taken on another user's rights.
    pub fn kill(&self) -> io::Result<()> {
        self.life.signal(Signal::KILL)
    }

    /// Sends SIGINT, as Ctrl-C at a terminal does, which ends the process unless it handles it. No error if it is
    /// already gone.
    ///
    /// # Errors
    /// `EPERM`, if the process has taken on another user's rights.
    ///
    /// ```
    /// let child = procession_posix::process::Process::new(std::thread::park, ()).start()?;
    /// child.interrupt()?;
    /// assert!(child.join().is_err());
    /// assert_eq!(child.exitcode(), Some(-2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn interrupt(&self) -> io::Result<()> {
        self.life.signal(Signal::INT)
    }

    /// From now on this process' own end in order does not wait for it: it runs on by itself. A daemon is ended all
    /// the same.
    ///
    /// ```
    /// use procession_posix::process::Process;
    /// // Without this the program would end a second later.
    /// Process::new(std::thread::sleep, (std::time::Duration::from_secs(1),)).start()?.detach();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(&self) {
        self.life.detach();
    }

    /// Gives back what the handle has, the descriptor and the result, of a process that has ended. Dropping the
    /// handle does the same without asking.
    ///
    /// # Errors
    /// The process still runs; the error has the handle.
    ///
    /// ```
    /// let child = procession_posix::process::Process::new(std::thread::park, ()).start()?;
    /// let child = child.close().unwrap_err().child;
    /// child.kill()?;
    /// let _ = child.join();
    /// child.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self) -> Result<(), StillRunning<R>> {
        match self.exitcode() {
            Some(_) => Ok(()),
            None => Err(StillRunning { child: self }),
        }
    }
}

impl<R: DeserializeOwned> Child<R> {
    /// Waits for the end of the process and hands out its target's result. May be called again,
    /// with the same outcome; each call decodes a result of its own.
    ///
    /// # Errors
    /// The target panicked; the process left by `exit` or by a signal; the result did not arrive; the status
    /// was lost because the zygote was killed too. `exit(0)` is no error for a target without result.
    pub fn join(&self) -> Result<R, JoinError> {
        self.join_deadline(None)
    }

    /// Like [`join`](Child::join), but waits no longer than `timeout`; zero only looks.
    ///
    /// # Errors
    /// As [`join`](Child::join), and [`JoinError::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<R, JoinError> {
        // A time that the clock cannot express never comes.
        self.join_deadline(Instant::now().checked_add(timeout))
    }

    fn join_deadline(&self, deadline: Option<Instant>) -> Result<R, JoinError> {
        let exited = || {
            let (name, pid) = (self.life.name.clone(), self.life.pid);
            JoinError::Exited { name, pid, code: 0 }
        };
        match self.life.join(deadline)? {
            Left::Result(bytes) => {
                crate::memory::decode(bytes).map_err(|error| self.life.undecoded(error.to_string()))
            }
            // Only a type like `()` is made of nothing.
            Left::Nothing if size_of::<R>() == 0 => postcard::from_bytes(&[]).map_err(|_| exited()),
            Left::Nothing => Err(exited()),
        }
    }
}

impl<R> AsFd for Child<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl<R> fmt::Debug for Child<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.life.show("Child", f)
    }
}

/// A process that was started from this one, whatever its target returns: what
/// [`active_children`](super::active_children) gives out.
///
/// It is the same process as that of its [`Child`]: each method is as there. The result is left to the typed handle.
#[derive(Clone)]
pub struct ActiveChild {
    life: Arc<Life>,
}

impl ActiveChild {
    pub(super) fn new(life: Arc<Life>) -> Self {
        ActiveChild { life }
    }

    /// As [`Child::pid`].
    pub fn pid(&self) -> u32 {
        self.life.pid
    }

    /// As [`Child::name`].
    pub fn name(&self) -> &str {
        &self.life.name
    }

    /// As [`Child::is_daemon`].
    pub fn is_daemon(&self) -> bool {
        self.life.daemon
    }

    /// As [`Child::is_alive`].
    pub fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    /// As [`Child::exitcode`].
    pub fn exitcode(&self) -> Option<i32> {
        self.life.exitcode()
    }

    /// As [`Child::sentinel`].
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.life.sentinel()
    }

    /// As [`Child::terminate`].
    ///
    /// # Errors
    /// As there.
    pub fn terminate(&self) -> io::Result<()> {
        self.life.signal(Signal::TERM)
    }

    /// As [`Child::kill`].
    ///
    /// # Errors
    /// As there.
    pub fn kill(&self) -> io::Result<()> {
        self.life.signal(Signal::KILL)
    }

    /// As [`Child::interrupt`].
    ///
    /// # Errors
    /// As there.
    pub fn interrupt(&self) -> io::Result<()> {
        self.life.signal(Signal::INT)
    }

    /// As [`Child::detach`].
    pub fn detach(&self) {
        self.life.detach();
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.life.is_detached()
    }

    /// Waits for the end of the process. A result of its target, of whatever type, is a success.
    ///
    /// # Errors
    /// As [`Child::join`]. `exit(0)` is no error.
    pub fn join(&self) -> Result<(), JoinError> {
        self.life.join(None).map(drop)
    }

    /// Like [`join`](ActiveChild::join), but waits no longer than `timeout`; zero only looks.
    ///
    /// # Errors
    /// As [`join`](ActiveChild::join), and [`JoinError::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.life.join(Instant::now().checked_add(timeout)).map(drop)
    }
}

impl AsFd for ActiveChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl fmt::Debug for ActiveChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.life.show("ActiveChild", f)
    }
}
