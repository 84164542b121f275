//! The starter's side: one zygote per starting process, asked under a lock.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, PidfdFlags};

use super::child::Letter;
use super::error::StartError;
use super::image::image;
use super::spawn::{self, Execution, Role};
use super::state::{Changes, Overrides, State};
use super::status::Slots;
use super::stdio::{self, Places};
use super::zygote::{
    Answer, DAEMON, EXECUTE, HEADER, HELLO, Kind, LETTER_ENCLOSED, LONGEST_RECORD,
};
use super::{Names, wire};
use crate::memory::Arena;

/// How long a zygote may take to report, and to answer. Both take a millisecond when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a process needs to start others.
pub(super) struct Starter {
    pid: u32,
    pub(super) slots: Arc<Slots>,
    zygote: Mutex<Option<Arc<Link>>>,
}

static STARTER: AtomicPtr<Starter> = AtomicPtr::new(std::ptr::null_mut());

impl Starter {
    /// The starter of this process. A forked process finds its parent's, and makes its own.
    pub(super) fn get() -> Result<&'static Starter, StartError> {
        let old = STARTER.load(Ordering::Acquire);
        // SAFETY: a starter is leaked when it is published, so the reference holds for ever.
        let known = unsafe { old.as_ref() };
        let pid = std::process::id();
        if let Some(starter) = known.filter(|starter| starter.pid == pid) {
            return Ok(starter);
        }
        let slots = Arc::new(Slots::create()?);
        let new = Box::into_raw(Box::new(Starter { pid, slots, zygote: Mutex::new(None) }));
        match STARTER.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // The parent's zygote serves the parent only: close our end, unless the fork caught
                // another thread in the middle of a start.
                if let Some(mut link) = known.and_then(|known| known.zygote.try_lock().ok()) {
                    *link = None;
                }
                // SAFETY: just published, and leaked.
                Ok(unsafe { &*new })
            }
            Err(winner) => {
                // SAFETY: `new` was never published. The winner is a thread of this process, and its
                // starter is leaked.
                unsafe {
                    drop(Box::from_raw(new));
                    Ok(&*winner)
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.zygote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the zygote start a process; executes a zygote where there is none that fits.
    pub(super) fn start(&self, request: Request) -> Result<Started, StartError> {
        sweep_zygotes();
        let mut held = self.lock();
        let mut known = None;
        // A zygote that dies right now or does not fit any more costs another attempt, and so does a state
        // that has changed; more in a row have a reason.
        for _ in 0..4 {
            let link = match &*held {
                Some(link) if link.has_arena || crate::memory::arena().is_err() => link.clone(),
                Some(link) => {
                    // The arena could not be made before, and exists now.
                    link.retire();
                    *held = None;
                    continue;
                }
                None => held.insert(Arc::new(Link::execute(&self.slots)?)).clone(),
            };
            let slot = self.slots.take()?;
            // A slot stays taken where a process may still look into it.
            let mut unused = true;
            let error = match link.start(&self.slots, slot, &request, known.take()) {
                Ok((pid, pidfd)) => return Ok(Started { pid, pidfd, slot, link }),
                Err(Failure::Error(error)) => error,
                Err(Failure::Unclear(error)) => {
                    unused = false;
                    if matches!(error, StartError::NoAnswer { .. }) {
                        *held = None;
                        link.retire();
                    }
                    error
                }
                Err(Failure::Changed(now)) => {
                    self.slots.give_back(slot, false);
                    known = Some(now);
                    continue;
                }
                Err(Failure::Outdated | Failure::Gone) => {
                    self.slots.give_back(slot, false);
                    *held = None;
                    link.retire();
                    continue;
                }
            };
            self.slots.give_back(slot, unused);
            return Err(error);
        }
        let reason = "zygotes are killed, or this process' rights change, all the time".into();
        Err(StartError::Handshake { seconds: PATIENCE.as_secs(), reason })
    }

    /// Makes the zygote by forking, if that is sound, at the beginning of the program.
    pub(super) fn begin(&self) {
        let mut held = self.lock();
        if held.is_none() {
            *held = Link::fork(&self.slots).ok().map(Arc::new);
        }
    }

    /// Lets go of the zygote, in a fork of the process that it serves.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }
}

/// What is to be started.
pub(super) struct Request<'a> {
    pub(super) entry: u64,
    pub(super) type_name: &'static str,
    pub(super) args: &'a [u8],
    pub(super) names: &'a Names,
    pub(super) places: &'a Places,
    pub(super) overrides: &'a Overrides,
    pub(super) execute: bool,
}

/// A process that was started.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) slot: u32,
    pub(super) link: Arc<Link>,
}

enum Failure {
    /// The zygote is gone, and the process was not started.
    Gone,
    /// The process was withdrawn: this process has another state than expected.
    Changed(Box<State>),
    /// The process was withdrawn: this process is confined in another way than the zygote.
    Outdated,
    /// The process was not started.
    Error(StartError),
    /// The process will not begin, but may exist for a while.
    Unclear(StartError),
}

/// A living zygote, as its starter sees it.
pub(super) struct Link {
    socket: OwnedFd,
    pid: u32,
    pidfd: OwnedFd,
    /// What its children get unless told otherwise.
    picture: State,
    /// How this process differed from the picture when it was last looked at.
    expected: Mutex<Changes>,
    has_arena: bool,
    /// Whether it is among the `RETIRED`.
    retired: AtomicBool,
    /// One question at a time.
    lane: Mutex<()>,
}

impl Link {
    /// Executes a zygote, and waits until it reports for duty.
    fn execute(slots: &Slots) -> Result<Link, StartError> {
        if spawn::is_privileged() {
            return Err(StartError::Privileged);
        }
        Link::make(slots, |_, theirs| {
            let mut execution = Execution::new()?;
            execution.pass(theirs.as_fd(), 0)?;
            execution.run(&super::state::environment(), &Role::Zygote)
        })
    }

    /// Forks a zygote, if this process has one thread.
    fn fork(slots: &Slots) -> Result<Link, StartError> {
        if !super::fork::is_single_threaded() {
            return Err(StartError::Threads);
        }
        Link::make(slots, |ours, theirs| {
            // SAFETY: this process has one thread, so no lock is held by a thread that the child lacks.
            match unsafe { libc::fork() } {
                -1 => Err(io::Error::last_os_error()),
                0 => {
                    // SAFETY: the child never returns from here, so nobody uses or drops this again.
                    unsafe { rustix::io::close(ours.as_raw_fd()) };
                    super::zygote::serve_forked(theirs)
                }
                pid => Ok(pid as u32),
            }
        })
    }

    fn make(
        slots: &Slots,
        bear: impl FnOnce(&OwnedFd, OwnedFd) -> io::Result<u32>,
    ) -> Result<Link, StartError> {
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
        let me = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .map_err(|error| StartError::NoPidfd(error.into()))?;
        // One for the whole tree, so it has to exist before the first child. Where it cannot, processes that
        // share nothing still work, and those that do say why not.
        let arena = crate::memory::arena().ok();
        let mut fds = vec![slots.records.as_fd(), me.as_fd()];
        fds.extend(arena.map(Arena::fd));
        // The socket keeps this until the zygote looks.
        wire::send(&socket, &[IoSlice::new(&HELLO.to_ne_bytes())], &fds)
            .map_err(resource("write to a new socket"))?;
        // Taken right before the zygote inherits it.
        let picture =
            State::capture().map_err(resource("read /proc/thread-self"))?.into_a_zygotes();
        let pid = bear(&socket, theirs).map_err(StartError::Execute)?;
        let pidfd = Pid::from_raw(pid as i32)
            .ok_or(Errno::SRCH)
            .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
            .map(wire::above_standard)
            .map_err(|error| StartError::NoPidfd(error.into()))?;
        let has_arena = arena.is_some();
        let expected = Mutex::new(picture.changes_to(&picture));
        let lane = Mutex::new(());
        let retired = AtomicBool::new(false);
        let link = Link { socket, pid, pidfd, picture, expected, has_arena, retired, lane };
        link.greeting().map_err(|reason| {
            let _ = rustix::process::pidfd_send_signal(&link.pidfd, rustix::process::Signal::KILL);
            StartError::Handshake { seconds: PATIENCE.as_secs(), reason }
        })?;
        Ok(link)
    }

    fn greeting(&self) -> Result<(), String> {
        let mut answer = [0; 256];
        match wire::receive(&self.socket, &mut answer, RecvFlags::empty()) {
            Ok(record) if record.len == 16 && answer[..8] == HELLO.to_ne_bytes() => {
                if answer[8..16] == image().build().to_ne_bytes() {
                    Ok(())
                } else {
                    Err("/proc/self/exe is another build than this program".into())
                }
            }
            Ok(record) if record.len == 0 => {
                Err("it ended; is /proc/self/exe this program, or an interpreter of it?".into())
            }
            Ok(record) => Err(String::from_utf8_lossy(&answer[..record.len]).into()),
            Err(Errno::AGAIN) => Err("it was silent".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the zygote is gone. Its children's statuses that are not yet written never will be.
    pub(super) fn is_gone(&self) -> bool {
        is_gone(&self.pidfd)
    }

    /// Asks for a process. Unless the state is `known`, the process is described as it should be if nothing
    /// has changed, and this one looks at its own state while the process is being made.
    fn start(
        &self,
        slots: &Slots,
        slot: u32,
        request: &Request,
        known: Option<Box<State>>,
    ) -> Result<(u32, OwnedFd), Failure> {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = slots.records.slot(slot) else {
            return Err(Failure::Error(StartError::TooMany { limit: slots.records.count() }));
        };
        if let Some(now) = &known {
            *expected = self.picture.changes_to(now);
            place.confirm();
        }
        let look = || {
            if known.is_some() {
                return None;
            }
            let now = match State::capture() {
                Ok(now) => Box::new(now),
                Err(source) => {
                    let what = "read /proc/thread-self";
                    return Some(Failure::Error(StartError::Resource { what, source }));
                }
            };
            if self.picture.confinement != now.confinement {
                return Some(Failure::Outdated);
            }
            if self.picture.changes_to(&now) != *expected {
                return Some(Failure::Changed(now));
            }
            place.confirm();
            None
        };
        let mut changes = expected.clone();
        changes.override_by(request.overrides, || self.picture.environment());
        let letter = Letter {
            build: image().build(),
            entry: request.entry,
            type_name: request.type_name.into(),
            birth: request.names.birth.clone(),
            method: request.names.method,
            changes,
        };
        let mut body = postcard::to_extend(&letter, Vec::with_capacity(1024 + request.args.len()))
            .map_err(|error| {
                Failure::Error(StartError::Arguments {
                    target: request.type_name,
                    message: error.to_string(),
                })
            })?;
        body.extend_from_slice(request.args);
        let mut failure = None;
        let answered = self.exchange_start(slot, request, &body, || {
            failure = look();
            if failure.is_some() {
                place.withdraw();
            }
        });
        if let (Ok(_), Some(failure)) = (&answered, failure) {
            return Err(match failure {
                Failure::Error(error) => Failure::Unclear(error),
                other => other,
            });
        }
        match answered {
            Ok((Answer::Done, pid, Some(pidfd))) => Ok((pid, pidfd)),
            Ok((answer, value, _)) => {
                let source = io::Error::from_raw_os_error(value as i32);
                Err(match answer {
                    Answer::NoFork => Failure::Error(StartError::Fork(source)),
                    Answer::NoExec => Failure::Error(StartError::Execute(source)),
                    Answer::Unreadable => {
                        Failure::Error(StartError::Resource { what: "ask the zygote", source })
                    }
                    Answer::Done | Answer::NoPidfd => {
                        self.give_up(slots, slot);
                        let source = io::Error::from_raw_os_error(libc::EMFILE);
                        let what = "get a pidfd for the new process";
                        Failure::Unclear(StartError::Resource { what, source })
                    }
                })
            }
            // The socket has no other end: the zygote is gone, but perhaps it had forked by then.
            Err(Broken::Gone) => match self.withdraw(slots, slot) {
                None => Err(Failure::Gone),
                Some(running) => Ok(running),
            },
            Err(Broken::Silent) => {
                self.give_up(slots, slot);
                let seconds = PATIENCE.as_secs();
                Err(Failure::Unclear(StartError::NoAnswer { pid: self.pid, seconds }))
            }
            Err(Broken::Error(error)) => Err(Failure::Error(error)),
        }
    }

    /// Makes sure that the process of this request never begins. Otherwise: it runs, here it is.
    fn withdraw(&self, slots: &Slots, slot: u32) -> Option<(u32, OwnedFd)> {
        let pid = slots.records.slot(slot)?.withdraw()?;
        let process = Pid::from_raw(pid as i32)?;
        let pidfd = rustix::process::pidfd_open(process, PidfdFlags::empty()).ok()?;
        Some((pid, pidfd))
    }

    /// Ends the process of this request, whether or not it has begun.
    fn give_up(&self, slots: &Slots, slot: u32) {
        if let Some((_, pidfd)) = self.withdraw(slots, slot) {
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        }
    }

    fn exchange_start(
        &self,
        slot: u32,
        request: &Request,
        body: &[u8],
        meanwhile: impl FnOnce(),
    ) -> Result<(Answer, u32, Option<OwnedFd>), Broken> {
        let Places { standard, directory } = request.places;
        let present;
        let cwd = match directory {
            Some(chosen) => chosen,
            None => {
                present = stdio::working_directory().map_err(Broken::Error)?;
                &present
            }
        };
        let mut flags = 0;
        if request.execute {
            flags |= EXECUTE;
        }
        if request.names.birth.daemon {
            flags |= DAEMON;
        }
        let null;
        let mut fds = Vec::with_capacity(wire::MAX_FDS);
        for (chosen, own) in standard.iter().zip(stdio::own()) {
            fds.push(chosen.as_ref().map_or(own, AsFd::as_fd));
        }
        fds.push(cwd.as_fd());
        let enclosed;
        let mut inline = body;
        if request.execute || body.len() > LONGEST_RECORD {
            enclosed = enclose(body)?;
            fds.push(enclosed.as_fd());
            flags |= LETTER_ENCLOSED;
            inline = &[];
        }
        let _lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = self.ask(Kind::Start, slot, flags, inline, &fds);
        if matches!(sent, Err(Errno::BADF)) {
            // A process without standard streams: its children have /dev/null there.
            null = stdio::null().map_err(Broken::Error)?;
            for fd in &mut fds[..3] {
                if rustix::io::fcntl_getfd(*fd).is_err() {
                    *fd = null.as_fd();
                }
            }
            sent = self.ask(Kind::Start, slot, flags, inline, &fds);
        }
        if matches!(sent, Err(Errno::MSGSIZE)) && flags & LETTER_ENCLOSED == 0 {
            // Somebody made socket buffers small on this machine.
            let enclosed = enclose(body)?;
            fds.insert(4, enclosed.as_fd());
            let flags = flags | LETTER_ENCLOSED;
            sent = self.ask(Kind::Start, slot, flags, &[], &fds);
        }
        match sent {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(Broken::Gone),
            Err(error) => {
                let (what, source) = ("ask the zygote", error.into());
                return Err(Broken::Error(StartError::Resource { what, source }));
            }
        }
        meanwhile();
        self.answer()
    }

    fn ask(
        &self,
        kind: Kind,
        slot: u32,
        flags: u32,
        body: &[u8],
        fds: &[BorrowedFd],
    ) -> Result<(), Errno> {
        let words = [kind as u32, slot, flags, 0].map(u32::to_ne_bytes).concat();
        debug_assert_eq!(words.len(), HEADER);
        wire::send(&self.socket, &[IoSlice::new(&words), IoSlice::new(body)], fds)
    }

    fn answer(&self) -> Result<(Answer, u32, Option<OwnedFd>), Broken> {
        let mut words = [0; 8];
        match wire::receive(&self.socket, &mut words, RecvFlags::empty()) {
            Ok(record) if record.len == 8 => {
                let [a, b, c, d, rest @ ..] = words;
                let answer = Answer::decode(u32::from_ne_bytes([a, b, c, d]));
                let answer = answer.unwrap_or(Answer::Unreadable);
                Ok((answer, u32::from_ne_bytes(rest), record.fds.into_iter().next()))
            }
            Ok(_) | Err(Errno::CONNRESET) => Err(Broken::Gone),
            Err(Errno::AGAIN) => Err(Broken::Silent),
            Err(error) => Err(Broken::Error(StartError::Resource {
                what: "hear from the zygote",
                source: error.into(),
            })),
        }
    }

    /// Fetches the large result of the process that had this slot.
    pub(super) fn take_result(&self, slot: u32) -> io::Result<Vec<u8>> {
        let _lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
        self.ask(Kind::Take, slot, 0, &[], &[])?;
        match self.answer() {
            Ok((Answer::Done, _, Some(file))) => wire::read_letter(file),
            Ok(_) => Err(io::Error::other("the zygote had no free descriptor to keep it")),
            Err(_) => Err(io::Error::other("it was lost with the zygote")),
        }
    }
}

impl Link {
    /// Has the zygote reaped when it ends. It gets no more requests.
    fn retire(&self) {
        if self.retired.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Ok(pidfd) = self.pidfd.try_clone() {
            RETIRED.lock().unwrap_or_else(PoisonError::into_inner).push(pidfd);
        }
    }
}

enum Broken {
    Gone,
    Silent,
    Error(StartError),
}

fn enclose(body: &[u8]) -> Result<OwnedFd, Broken> {
    wire::letter(body).map_err(|source| {
        Broken::Error(StartError::Resource { what: "store large arguments", source })
    })
}

/// Whether the process behind a pidfd has ended.
pub(super) fn is_gone(pidfd: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&now)) {
            Err(Errno::INTR) => {}
            Err(_) => return false,
            Ok(ready) => return ready > 0,
        }
    }
}

/// Zygotes that nobody talks to any more. They end by themselves, and are our children.
static RETIRED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

impl Drop for Link {
    fn drop(&mut self) {
        self.retire();
        sweep_zygotes();
    }
}

/// Reaps the zygotes that have ended.
fn sweep_zygotes() {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    RETIRED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        // An error says that it is not ours, or not any more.
        .retain(|pidfd| matches!(waitid(WaitId::PidFd(pidfd.as_fd()), options), Ok(None)));
}
