//! A forked child that returns bytes or a complaint, with deadlines, and that never outlives us.
//!
//! The matrix is single-threaded on purpose, so that forking without exec is sound.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open,
    set_parent_process_death_signal, waitid,
};

/// How a child ended.
pub enum Ending {
    /// It returned this.
    Done(Vec<u8>),
    /// It complained, or ended in a way of its own.
    Failed(String),
    /// It had not ended by the deadline.
    Late,
}

/// A child process. Dropping it kills and reaps it.
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    answer: File,
    reaped: bool,
}

impl Child {
    /// Forks a child that runs `body`.
    pub fn start(body: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Child, String> {
        let answer = rustix::fs::memfd_create("answer", MemfdFlags::CLOEXEC)
            .map_err(|e| format!("memfd_create for a child's answer: {e}"))?;
        let mut answer = File::from(answer);
        // SAFETY: the child leaves by _exit, and what runs in it before is ordinary code: this
        // process forks from its only thread of Rust code, so no lock is held by another one.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            let code = match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(bytes)) => answer.write_all(&bytes).map_or(3, |()| 0),
                Ok(Err(complaint)) => answer.write_all(complaint.as_bytes()).map_or(3, |()| 1),
                Err(_) => 101,
            };
            // SAFETY: ends the process without running handlers that belong to the parent.
            unsafe { libc::_exit(code) }
        }
        let pid = Pid::from_raw(pid)
            .filter(|pid| pid.as_raw_nonzero().get() > 0)
            .ok_or_else(|| format!("fork: {}", std::io::Error::last_os_error()))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| {
            let _ = kill_process(pid, Signal::KILL);
            format!("pidfd_open of a child: {e}")
        })?;
        Ok(Child { pid, pidfd, answer, reaped: false })
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// A descriptor that is readable once the child is dead.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends SIGKILL and waits until the kernel says that the whole process is gone. It stays a
    /// zombie.
    pub fn kill(&mut self) -> Result<(), String> {
        kill_process(self.pid, Signal::KILL).map_err(|e| format!("kill: {e}"))?;
        match self.is_dead_by(Instant::now() + Duration::from_secs(10))? {
            true => Ok(()),
            false => Err("a child lives on, 10 s after SIGKILL".into()),
        }
    }

    /// Reaps the dead child.
    pub fn reap(&mut self) {
        if !self.reaped {
            // SAFETY: waits for our own child only; a null status pointer is allowed. Unlike
            // waitid it also collects the stops of a traced child, which may come first.
            while unsafe { libc::waitpid(self.pid(), std::ptr::null_mut(), libc::__WALL) } > 0 {}
            self.reaped = true;
        }
    }

    /// Waits for the child's end, at most until `deadline`.
    pub fn finish(mut self, deadline: Instant) -> Result<Ending, String> {
        if !self.is_dead_by(deadline)? {
            return Ok(Ending::Late);
        }
        let status = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED)
            .map_err(|e| format!("waitid: {e}"))?;
        self.reaped = true;
        let mut bytes = Vec::new();
        self.answer
            .rewind()
            .and_then(|()| self.answer.read_to_end(&mut bytes))
            .map_err(|e| format!("reading a child's answer: {e}"))?;
        let status = status.ok_or("waitid returned no status")?;
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => Ending::Done(bytes),
            (Some(1), _) => Ending::Failed(String::from_utf8_lossy(&bytes).into_owned()),
            (Some(101), _) => Ending::Failed("it panicked, see above".into()),
            (Some(code), _) => Ending::Failed(format!("it ended with status {code}")),
            (None, signal) => Ending::Failed(format!("signal {signal:?} ended it")),
        })
    }

    fn is_dead_by(&self, deadline: Instant) -> Result<bool, String> {
        wait_any(&[self.pidfd()], deadline).map(|dead| !dead.is_empty())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill_process(self.pid, Signal::KILL);
            self.reap();
        }
    }
}

/// Waits until one of the descriptors is readable, or `deadline`. Returns which are.
pub fn wait_any(fds: &[BorrowedFd<'_>], deadline: Instant) -> Result<Vec<usize>, String> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|e| format!("a deadline too far: {e}"))?;
        let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) => {
                let ready = polled.iter().enumerate().filter(|(_, p)| !p.revents().is_empty());
                return Ok(ready.map(|(i, _)| i).collect());
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(format!("poll: {e}")),
        }
    }
}
