//! The starter's side: one zygote per starting process, asked under a lock.
//!
//! Nobody else can ask a zygote, or a spare of its: each talks over one end of a socket pair, which has no
//! name, and whose other end only the starter has (and forks of it that are made without this library). So
//! there are no credentials to check: those of a pair are its maker's, on both ends.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, PidfdFlags};

use super::child::Letter;
use super::error::StartError;
use super::executable;
use super::image::image;
use super::spawn::{self, Execution, Role};
use super::state::{Changes, Overrides, State};
use super::status::{Slot, Slots};
use super::stdio::{self, Places};
use super::target::Wanted;
use super::warm::{self, Pool, Spare};
use super::zygote::{Answer, EXECUTE, HEADER, HELLO, Kind, LETTER_ENCLOSED, LONGEST_RECORD};
use super::{Names, news, wire};
use crate::memory::Arena;

/// How long a zygote may take to report, and to answer. Both take a millisecond when all is well. A program that knows
/// nothing of us might run for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a process needs to start others.
pub(super) struct Starter {
    pid: u32,
    pub(super) slots: Arc<Slots>,
    zygote: Mutex<Option<Arc<Link>>>,
    /// How many zygotes there have been.
    made: AtomicU32,
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
        let (zygote, made) = (Mutex::new(None), AtomicU32::new(0));
        let new = Box::into_raw(Box::new(Starter { pid, slots, zygote, made }));
        match STARTER.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // The parent's zygote serves the parent only: close our end, unless the fork caught
                // another thread in the middle of a start.
                if let Some(mut link) = known.and_then(|known| known.zygote.try_lock().ok()) {
                    *link = None;
                }
                super::oom::begin();
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
        let mut made = None;
        let started = self.start_by(request, &mut made);
        if let Some(pid) = made {
            // Without a lock: whoever hears of it may start processes.
            news::zygote(pid, self.made.fetch_add(1, Ordering::Relaxed) > 0);
        }
        started
    }

    fn start_by(&self, request: Request, made: &mut Option<u32>) -> Result<Started, StartError> {
        sweep_zygotes();
        let mut held = self.lock();
        let mut known = None;
        let executable = executable::chosen();
        // A zygote that dies right now or does not fit any more costs another attempt, and so does a state
        // that has changed; more in a row have a reason.
        for _ in 0..4 {
            let link = match &*held {
                Some(link) if link.executable != executable => {
                    link.dismiss();
                    *held = None;
                    continue;
                }
                Some(link) if link.has_arena || crate::memory::arena().is_err() => link.clone(),
                Some(link) => {
                    // The arena could not be made before, and exists now.
                    link.dismiss();
                    *held = None;
                    continue;
                }
                None => match Link::execute(&self.slots, executable.clone())? {
                    Some(link) => {
                        *made = Some(link.pid);
                        held.insert(Arc::new(link)).clone()
                    }
                    None => continue,
                },
            };
            let spare = if request.execute { None } else { link.take_spare() };
            let slot = spare.as_ref().map_or_else(|| self.slots.take(), |spare| Ok(spare.slot))?;
            // A slot stays taken where a process may still look into it.
            let mut unused = spare.is_none();
            let error = match link.start(&self.slots, slot, spare, &request, known.take()) {
                Ok((pid, pidfd)) => {
                    // An executed process is none of them, so it says nothing about how many are of use.
                    if !request.execute {
                        link.pool().started();
                        link.ask_for_spares();
                    }
                    return Ok(Started { pid, pidfd, slot, link });
                }
                Err(Failure::Error(error)) => error,
                Err(Failure::Unclear(error)) => {
                    unused = false;
                    if matches!(error, StartError::NoAnswer { .. }) {
                        *held = None;
                        link.pool().dismiss(&self.slots, true);
                        link.retire();
                    }
                    error
                }
                Err(Failure::Changed(now)) => {
                    self.slots.give_back(slot, false);
                    known = Some(now);
                    continue;
                }
                Err(Failure::Cold) => {
                    self.slots.give_back(slot, false);
                    continue;
                }
                Err(Failure::Outdated | Failure::Gone) => {
                    self.slots.give_back(slot, false);
                    *held = None;
                    link.dismiss();
                    continue;
                }
            };
            self.slots.give_back(slot, unused);
            if unused && is_scarcity(&error) && link.spend_spares() {
                continue;
            }
            return Err(error);
        }
        let reason = "zygotes are killed, or this process' rights change, all the time".into();
        Err(StartError::Handshake { seconds: PATIENCE.as_secs(), reason })
    }

    /// Makes the zygote by forking, if that is sound, at the beginning of the program.
    pub(super) fn begin(&self) {
        let mut held = self.lock();
        if held.is_none() && executable::chosen().is_none() {
            *held = Link::fork(&self.slots).ok().flatten().map(Arc::new);
        }
    }

    /// Has the zygote keep as many spares as are wanted, and makes one for that.
    pub(super) fn warm_up(&self) -> Result<(), StartError> {
        let mut held = self.lock();
        if let Some(link) = held.take_if(|link| link.is_gone()) {
            link.dismiss();
        }
        match &*held {
            Some(link) if warm::is_unwanted() => link.end_spares(),
            Some(link) => {
                link.pool().sweep(&self.slots);
                link.ask_for_spares();
            }
            None if warm::is_unwanted() => {}
            None => {
                // Whoever killed it did not want it to be kept warm.
                if let Some(link) = Link::execute(&self.slots, executable::chosen())? {
                    held.insert(Arc::new(link)).ask_for_spares();
                }
            }
        }
        Ok(())
    }

    /// Lets go of the zygote, in a fork of the process that it serves.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }
}

/// What is to be started.
pub(super) struct Request<'a> {
    pub(super) target: Wanted<'a>,
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
    /// The spare is gone, and the process was not started.
    Cold,
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
    slots: Arc<Slots>,
    socket: OwnedFd,
    pid: u32,
    pidfd: OwnedFd,
    /// The program that it was executed from; None: this one.
    executable: Option<Arc<Path>>,
    /// Whether entries lie in it where they lie here.
    same_build: bool,
    /// What its children get unless told otherwise.
    picture: State,
    /// How this process differed from the picture when it was last looked at.
    expected: Mutex<Changes>,
    has_arena: bool,
    /// Whether it counts processes in another way: this process has moved its children to another PID namespace.
    foreign: bool,
    /// Whether this process could look into it when it was made.
    reachable: bool,
    /// Whether it is among the `RETIRED`.
    retired: AtomicBool,
    /// One question at a time.
    lane: Mutex<()>,
    /// Answers that are still to come, but nobody waits for them any more. For who holds the lane.
    late: AtomicU32,
    /// Its spares.
    pool: Mutex<Pool>,
}

impl Link {
    /// Executes a zygote, and waits until it reports for duty. `None`: somebody killed it.
    fn execute(
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
            execution.run(&super::state::environment(), &Role::Zygote)
        })
    }

    /// Forks a zygote, if this process has one thread.
    fn fork(slots: &Arc<Slots>) -> Result<Option<Link>, StartError> {
        if !super::fork::is_single_threaded() {
            return Err(StartError::Threads);
        }
        Link::make(slots, None, |ours, theirs| {
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
        fds.extend(arena.map(Arena::fd));
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

    /// Whether this process lost the right to look into the zygote: it confined itself in a way that its state does
    /// not show, as by Landlock.
    fn is_out_of_reach(&self) -> bool {
        self.reachable && reach(self.pid) == Err(Errno::PERM)
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
        spare: Option<Spare>,
        request: &Request,
        known: Option<Box<State>>,
    ) -> Result<(u32, OwnedFd), Failure> {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = slots.records.slot(slot) else {
            return Err(Failure::Error(StartError::TooMany { limit: slots.records.count() }));
        };
        if spare.is_some() && !place.offer() {
            return Err(Failure::Cold);
        }
        if request.names.birth.daemon {
            place.make_daemon();
        }
        if let Some(now) = &known {
            *expected = self.picture.changes_to(now);
            if !place.confirm() {
                return Err(Failure::Gone);
            }
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
            if self.picture.confinement != now.confinement || self.is_out_of_reach() {
                return Some(Failure::Outdated);
            }
            if self.picture.changes_to(&now) != *expected {
                return Some(Failure::Changed(now));
            }
            // It leaves if its guardian is gone, before anybody has told us.
            (!place.confirm()).then_some(Failure::Gone)
        };
        let mut changes = expected.clone();
        changes.override_by(request.overrides, || self.picture.environment());
        let letter = Letter {
            aim: request.target.aim(self.same_build).map_err(Failure::Error)?,
            birth: request.names.birth.clone(),
            method: request.names.method,
            changes,
        };
        let mut body = postcard::to_extend(&letter, Vec::with_capacity(1024 + request.args.len()))
            .map_err(|error| {
                Failure::Error(StartError::Arguments {
                    target: request.target.name.into(),
                    message: error.to_string(),
                })
            })?;
        body.extend_from_slice(request.args);
        let mut failure = None;
        let answered = self.exchange_start(slot, spare, request, &body, || {
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
            Ok((Answer::Done, pid, Some(pidfd))) if self.foreign => {
                Ok((numbers(&pidfd).map_or(pid, |(here, _)| here), pidfd))
            }
            Ok((Answer::Done, pid, Some(pidfd))) => Ok((pid, pidfd)),
            Ok((answer, value, _)) => {
                let source = io::Error::from_raw_os_error(value as i32);
                Err(match answer {
                    Answer::NoFork => Failure::Error(StartError::Fork(source)),
                    Answer::NoExec => Failure::Error(StartError::Execute(source)),
                    Answer::Unreadable => {
                        Failure::Error(StartError::Resource { what: "ask the zygote", source })
                    }
                    Answer::Done | Answer::NoPidfd | Answer::Spare => {
                        self.give_up(slots, slot);
                        let source = io::Error::from_raw_os_error(libc::EMFILE);
                        let what = "get a pidfd for the new process";
                        Failure::Unclear(StartError::Resource { what, source })
                    }
                })
            }
            // The socket has no other end: the zygote is gone, but perhaps it had forked by then.
            Err(Broken::Gone) => self.withdraw(slots, slot),
            Err(Broken::Cold) => Err(Failure::Cold),
            Err(Broken::Silent(error)) => {
                self.give_up(slots, slot);
                Err(Failure::Unclear(error))
            }
            Err(Broken::Error(error)) => Err(Failure::Error(error)),
        }
    }

    /// Makes sure that the process of this request never begins. Otherwise: it runs, or has run already; here it is.
    /// To be called when the zygote is gone.
    fn withdraw(&self, slots: &Slots, slot: u32) -> Result<(u32, OwnedFd), Failure> {
        let Some(pid) = slots.records.slot(slot).and_then(Slot::withdraw) else {
            return Err(Failure::Gone);
        };
        let pidfd = Pid::from_raw(pid as i32)
            // Its number means somebody else here. But the first of its namespace was the zygote, and all end with it.
            .filter(|_| !self.foreign)
            .ok_or(Errno::SRCH)
            .and_then(|process| rustix::process::pidfd_open(process, PidfdFlags::empty()));
        match pidfd {
            Ok(pidfd) => Ok((pid, wire::above_standard(pidfd))),
            // It is gone too: what says so of the one says so of the other.
            Err(Errno::SRCH) => match self.pidfd.try_clone() {
                Ok(pidfd) => Ok((pid, pidfd)),
                Err(error) => Err(Failure::Unclear(StartError::no_pidfd(error))),
            },
            Err(error) => Err(Failure::Unclear(StartError::no_pidfd(error))),
        }
    }

    /// Ends the process of this request, whether or not it has begun: the zygote knows it, we may not.
    fn give_up(&self, slots: &Slots, slot: u32) {
        if slots.records.slot(slot).and_then(Slot::withdraw).is_some() {
            // A zygote that is gone cannot: its answer would have said so.
            let _ = ask(&self.socket, Kind::Kill, slot, 0, &[], &[]);
        }
    }

    /// Sends the letter to the spare, or to the zygote, which then answers.
    fn exchange_start(
        &self,
        slot: u32,
        spare: Option<Spare>,
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
        let socket = spare.as_ref().map_or(&self.socket, |spare| &spare.socket);
        let _lane = spare.is_none().then(|| self.lane());
        let mut sent = ask(socket, Kind::Start, slot, flags, inline, &fds);
        if matches!(sent, Err(Errno::BADF)) {
            // A process without standard streams: its children have /dev/null there.
            null = stdio::null().map_err(Broken::Error)?;
            for fd in &mut fds[..3] {
                if rustix::io::fcntl_getfd(*fd).is_err() {
                    *fd = null.as_fd();
                }
            }
            sent = ask(socket, Kind::Start, slot, flags, inline, &fds);
        }
        if matches!(sent, Err(Errno::MSGSIZE)) && flags & LETTER_ENCLOSED == 0 {
            // Somebody made socket buffers small on this machine.
            let enclosed = enclose(body)?;
            fds.insert(4, enclosed.as_fd());
            let flags = flags | LETTER_ENCLOSED;
            sent = ask(socket, Kind::Start, slot, flags, &[], &fds);
        }
        match sent {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                return Err(if spare.is_some() { Broken::Cold } else { Broken::Gone });
            }
            Err(error) => {
                let (what, source) = ("ask the zygote", error.into());
                return Err(Broken::Error(StartError::Resource { what, source }));
            }
        }
        meanwhile();
        match spare {
            Some(spare) => Ok((Answer::Done, spare.pid, Some(spare.pidfd))),
            None => self.answer(),
        }
    }

    fn lane(&self) -> MutexGuard<'_, ()> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer to the question that this thread has asked.
    fn answer(&self) -> Result<(Answer, u32, Option<OwnedFd>), Broken> {
        loop {
            return match self.hear(RecvFlags::empty()) {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => continue,
                Err(Errno::CONNRESET) => Err(Broken::Gone),
                Err(error) => {
                    // It may come yet, and would be taken for the answer to the next question.
                    self.late.fetch_add(1, Ordering::Relaxed);
                    Err(Broken::Silent(match error {
                        Errno::AGAIN => {
                            StartError::NoAnswer { pid: self.pid, seconds: PATIENCE.as_secs() }
                        }
                        error => StartError::Resource {
                            what: "hear from the zygote",
                            source: error.into(),
                        },
                    }))
                }
            };
        }
    }

    /// Hears an answer, or what is none: the announcement of a spare, an answer that comes too late. The caller
    /// holds the lane.
    fn hear(&self, flags: RecvFlags) -> Result<Option<(Answer, u32, Option<OwnedFd>)>, Errno> {
        let mut words = [0; 12];
        let record = wire::receive_within(&self.socket, &mut words, flags, PATIENCE)?;
        let late = self.late.load(Ordering::Relaxed);
        let [answer, value, slot] = [0, 4, 8]
            .map(|at| u32::from_ne_bytes(words[at..at + 4].try_into().unwrap_or_default()));
        match record.len {
            8 if late > 0 => {
                self.late.store(late - 1, Ordering::Relaxed);
                Ok(None)
            }
            8 => {
                let answer = Answer::decode(answer).unwrap_or(Answer::Unreadable);
                Ok(Some((answer, value, record.fds.into_iter().next())))
            }
            12 => {
                self.pool().announced(slot, value, record.fds, &self.slots);
                Ok(None)
            }
            _ => Err(Errno::CONNRESET),
        }
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_spare(&self) -> Option<Spare> {
        if self.pool().expects() {
            self.hear_of_spares();
        }
        self.pool().take(&self.slots)
    }

    fn hear_of_spares(&self) {
        // Another thread that has the lane hears the announcements too.
        if let Ok(_lane) = self.lane.try_lock() {
            while let Ok(None) = self.hear(RecvFlags::DONTWAIT) {}
        }
    }

    /// Asks for the spares that are missing. Whatever fails leaves it at fewer.
    fn ask_for_spares(&self) {
        // Now, while the new process is busy: the next start finds them.
        if self.pool().is_pending() {
            self.hear_of_spares();
        }
        let missing = self.pool().missing();
        let filled: Vec<u32> = (0..missing).map_while(|_| self.slots.take().ok()).collect();
        if filled.is_empty() {
            return;
        }
        self.pool().expect(&filled);
        let words = [Kind::Warm as u32, 0, 0, 0].into_iter().chain(filled.iter().copied());
        let words: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        if wire::try_send(&self.socket, &[IoSlice::new(&words)], &[]).is_err() {
            self.pool().forget(&filled, &self.slots);
        }
    }

    /// Ends the spares, those too that the zygote is about to announce.
    fn end_spares(&self) {
        let _lane = self.lane();
        while self.pool().is_pending() && matches!(self.hear(RecvFlags::empty()), Ok(None)) {}
        let orphans = self.pool().dismiss(&self.slots, !self.is_gone());
        RETIRED.lock().unwrap_or_else(PoisonError::into_inner).extend(orphans);
    }

    /// Ends the spares, since what they hold is missing elsewhere, and asks for no more. `false`: there were none.
    fn spend_spares(&self) -> bool {
        let ended = self.pool().ready_slots();
        self.pool().be_frugal();
        self.end_spares();
        let deadline = Instant::now() + Duration::from_secs(1);
        for slot in ended.iter().filter_map(|slot| self.slots.records.slot(*slot)) {
            // What they hold is free when they have been reaped.
            while slot.status().is_none() && !self.is_gone() && Instant::now() < deadline {
                slot.sleep(Some(deadline));
            }
        }
        !ended.is_empty()
    }

    /// Ends the spares, and gives the zygote no more requests.
    fn dismiss(&self) {
        self.end_spares();
        self.retire();
    }

    /// Fetches the large result of the process that had this slot.
    pub(super) fn take_result(&self, slot: u32) -> io::Result<Vec<u8>> {
        let _lane = self.lane();
        ask(&self.socket, Kind::Take, slot, 0, &[], &[])?;
        match self.answer() {
            Ok((Answer::Done, _, Some(file))) => wire::read_letter(file),
            Ok(_) => Err(io::Error::other("the zygote had no free descriptor to keep it")),
            Err(Broken::Silent(error)) => Err(io::Error::other(error)),
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

/// What a zygote said instead of its greeting.
enum Greeting {
    /// Nothing: it is gone.
    Ended,
    /// Something else.
    Wrong(String),
}

/// Whether a start failed since there is not enough of something.
fn is_scarcity(error: &StartError) -> bool {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<io::Error>());
    matches!(
        source.and_then(io::Error::raw_os_error),
        Some(libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}

enum Broken {
    Gone,
    Cold,
    /// The question was asked, and may be answered yet.
    Silent(StartError),
    Error(StartError),
}

fn ask(
    socket: &OwnedFd,
    kind: Kind,
    slot: u32,
    flags: u32,
    body: &[u8],
    fds: &[BorrowedFd],
) -> Result<(), Errno> {
    let words = [kind as u32, slot, flags, 0].map(u32::to_ne_bytes).concat();
    debug_assert_eq!(words.len(), HEADER);
    wire::send(socket, &[IoSlice::new(&words), IoSlice::new(body)], fds)
}

fn enclose(body: &[u8]) -> Result<OwnedFd, Broken> {
    wire::letter(body).map_err(|source| {
        Broken::Error(StartError::Resource {
            what: "make a memory file for the arguments (memfd_create)",
            source,
        })
    })
}

/// Whether the calling thread may look into this process.
fn reach(pid: u32) -> Result<(), Errno> {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: compares two processes, and touches no memory.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, libc::getpid(), pid, KCMP_VM, 0, 0) };
    if order >= 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error().raw_os_error().map_or(Errno::PERM, Errno::from_raw_os_error))
}

/// The number of the process behind a pidfd, as this process counts, and whether it lives in a namespace below.
fn numbers(pidfd: &OwnedFd) -> Option<(u32, bool)> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let mut numbers = line.split_ascii_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next().is_some()))
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

/// Sleeps until the process behind a pidfd has ended, at most until the deadline. May return early.
pub(super) fn sleep_on(pidfd: &OwnedFd, deadline: Option<Instant>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    // Interrupted or not: the caller looks again.
    let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], left.as_ref());
}

/// Zygotes that nobody talks to any more, and spares that a dead one left, of which we may be the heir. They end by
/// themselves.
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
