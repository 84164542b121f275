//! How a zygote is born: executed or forked, and greeted.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, PidfdFlags};

use super::{Link, PATIENCE, numbers, reach, sleep_on, sweep_zygotes};
use crate::memory::Arena;
use crate::process::error::StartError;
use crate::process::image::image;
use crate::process::spawn::{self, Execution, Role};
use crate::process::state::State;
use crate::process::status::Slots;
use crate::process::stdio;
use crate::process::wire;
use crate::process::zygote::HELLO;

/// What a zygote said instead of its greeting.
enum Greeting {
    /// Nothing: it is gone.
    Ended,
    /// Something else.
    Wrong(String),
}

impl Link {
    /// Executes a zygote, and waits until it reports for duty. `None`: somebody killed it.
    pub(in crate::process) fn execute(
        slots: &Arc<Slots>,
        executable: Option<Arc<Path>>,
    ) -> Result<Option<Link>, StartError> {
        if spawn::is_privileged() {
            return Err(StartError::Privileged);
        }
        let null = stdio::null()?;
        Link::make(slots, executable.clone(), |_, theirs| {
            let mut execution = Execution::new()?;
            execution.pass(theirs.as_fd(), 0)?;
            if let Some(path) = &executable {
                execution.program(path)?;
                // Should it not be one of ours, what it says is nothing that this program says.
                execution.pass(null.as_fd(), 1)?;
            }
            execution.run(&crate::process::state::environment(), &Role::Zygote)
        })
    }

    /// Forks a zygote, if this process has one thread.
    pub(in crate::process) fn fork(slots: &Arc<Slots>) -> Result<Option<Link>, StartError> {
        if !crate::process::fork::is_single_threaded() {
            return Err(StartError::Threads);
        }
        Link::make(slots, None, |ours, theirs| {
            // SAFETY: this process has one thread, so no lock is held by a thread that the child lacks.
            match unsafe { libc::fork() } {
                -1 => Err(io::Error::last_os_error()),
                0 => {
                    // SAFETY: the child never returns from here, so nobody uses or drops this again.
                    unsafe { rustix::io::close(ours.as_raw_fd()) };
                    crate::process::zygote::serve_forked(theirs)
                }
                pid => Ok(pid as u32),
            }
        })
    }

    fn make(
        slots: &Arc<Slots>,
        executable: Option<Arc<Path>>,
        bear: impl FnOnce(&OwnedFd, OwnedFd) -> io::Result<u32>,
    ) -> Result<Option<Link>, StartError> {
        fn resource<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> StartError {
            move |source| StartError::Resource { what, source: source.into() }
        }
        sweep_zygotes();
        let (socket, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .map_err(resource("make a socket pair"))?;
        let (socket, theirs) = (wire::above_standard(socket), wire::above_standard(theirs));
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )
        .map_err(resource("set a socket's patience"))?;
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Send,
            Some(PATIENCE),
        )
        .map_err(resource("set a socket's patience"))?;
        let me = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .map_err(StartError::no_pidfd)?;
        // One for the whole tree, so it has to exist before the first child. Where it cannot, processes that
        // share nothing still work, and those that do say why not.
        let arena = crate::memory::arena().ok();
        let mut fds = vec![slots.records.as_fd(), me.as_fd()];
        fds.extend(arena.and_then(Arena::fd));
        // Taken right before the zygote inherits it.
        let picture =
            State::capture().map_err(resource("read /proc/thread-self"))?.into_a_zygotes();
        let rights = postcard::to_stdvec(&picture.capabilities).map_err(io::Error::other);
        let rights = rights.map_err(resource("say which capabilities there are"))?;
        // The socket keeps this until the zygote looks.
        let hello = HELLO.to_ne_bytes();
        let hello = [IoSlice::new(&hello), IoSlice::new(&rights)];
        wire::send(&socket, &hello, &fds).map_err(resource("write to a new socket"))?;
        let pid = bear(&socket, theirs).map_err(|source| match &executable {
            Some(path) => StartError::Executable { path: path.to_path_buf(), source },
            None => StartError::Execute(source),
        })?;
        let pidfd = Pid::from_raw(pid as i32)
            .ok_or(Errno::SRCH)
            .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
            .map(wire::above_standard)
            .map_err(|error| {
                // SAFETY: `pid` is our child and not yet reaped, so the number is its own.
                unsafe {
                    libc::kill(pid as i32, libc::SIGKILL);
                    libc::waitpid(pid as i32, std::ptr::null_mut(), 0);
                }
                StartError::no_pidfd(error)
            })?;
        let has_arena = arena.is_some();
        let expected = Mutex::new(picture.changes_to(&picture));
        let (lane, late) = (Mutex::new(()), AtomicU32::new(0));
        let retired = AtomicBool::new(false);
        let pool = Mutex::default();
        let foreign = numbers(&pidfd).is_some_and(|(_, foreign)| foreign);
        let reachable = reach(pid) == Ok(());
        let mut link = Link {
            slots: slots.clone(),
            socket,
            pid,
            pidfd,
            executable,
            same_build: true,
            picture,
            expected,
            has_arena,
            foreign,
            reachable,
            retired,
            lane,
            late,
            pool,
        };
        let reason = match link.greeting() {
            Ok(same_build) => {
                link.same_build = same_build;
                if link.picture.confinement.is_childless() {
                    // It is the first there, and so the namespace shows from now on.
                    let now = State::capture().map_err(resource("read /proc/thread-self"))?;
                    link.picture.confinement = now.confinement;
                }
                return Ok(Some(link));
            }
            Err(Greeting::Ended) => match link.exit_of_a_newborn() {
                None => return Ok(None),
                Some(code) if link.executable.is_some() => format!("it ended with status {code}"),
                Some(code) => format!(
                    "it ended with status {code}; is /proc/self/exe this program, or an \
                     interpreter of it?"
                ),
            },
            Err(Greeting::Wrong(reason)) => reason,
        };
        Err(link.turn_out(reason))
    }

    /// Ends what does not behave as a zygote, and sees it gone.
    fn turn_out(&self, reason: String) -> StartError {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        sleep_on(&self.pidfd, Instant::now().checked_add(PATIENCE));
        match &self.executable {
            None => StartError::Handshake { seconds: PATIENCE.as_secs(), reason },
            Some(path) => {
                let release = env!("CARGO_PKG_VERSION");
                let reason = format!(
                    "{path:?}, which set_executable named, is no program with procession {release}: {reason}"
                );
                StartError::Handshake { seconds: PATIENCE.as_secs(), reason }
            }
        }
    }

    /// With which status the zygote left that has let go of its socket. `None`: it did not leave, it was killed.
    fn exit_of_a_newborn(&self) -> Option<String> {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        // The kernel closes the socket a moment before that.
        sleep_on(&self.pidfd, Instant::now().checked_add(Duration::from_secs(1)));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(status) => Some(status?.exit_status()?.to_string()),
            // This program has others that reap.
            Err(_) => Some("unknown".into()),
        }
    }

    /// Whether it is of this build; the error is why it is no zygote.
    fn greeting(&self) -> Result<bool, Greeting> {
        let mut answer = [0; 256];
        match wire::receive_within(&self.socket, &mut answer, RecvFlags::empty(), PATIENCE) {
            Ok(record) if record.len == 16 && answer[..8] == HELLO.to_ne_bytes() => {
                let same_build = answer[8..16] == image().build().to_ne_bytes();
                if same_build || self.executable.is_some() {
                    Ok(same_build)
                } else {
                    let reason = "/proc/self/exe is another build than this program";
                    Err(Greeting::Wrong(reason.into()))
                }
            }
            Ok(record) if record.len == 0 => Err(Greeting::Ended),
            Err(Errno::CONNRESET) => Err(Greeting::Ended),
            Ok(record) => {
                Err(Greeting::Wrong(String::from_utf8_lossy(&answer[..record.len]).into()))
            }
            Err(Errno::AGAIN) => Err(Greeting::Wrong("it was silent".into())),
            Err(error) => Err(Greeting::Wrong(error.to_string())),
        }
    }
}
