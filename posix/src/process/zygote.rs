//! The zygote: a small process with one thread that forks the others and sees them end.
//!
//! A process with threads must not fork and go on: locks that its other threads hold would stay locked
//! in the child. So whoever starts processes (the *starter*) has a zygote, executed from the same file,
//! that does nothing but this:
//!
//! ```text
//! the starter asks for a process   → fork, answer with its pid and a pidfd, go on
//! the starter asks for spares      → fork them one by one while nothing else is to be done, see `warm`
//! a process sends a large result   → keep the file until the starter asks for it
//! a process ends                   → write its status into its slot, reap it, wake who waits
//! the starter ends                 → kill its daemons; take no more requests
//! the starter closes its socket    → take no more requests
//! no more requests, no processes   → exit
//! ```
//!
//! Nobody waits for a zygote that is gone: requests fail at once since the socket has no other end, and
//! who waits for a status looks at the zygote's pidfd. Daemons have asked the kernel to kill them when
//! their zygote dies; other processes go on, whoever dies.
//!
//! All signals are blocked here, so neither the terminal nor SIGTERM ends it, and a signal that is sent to
//! a new process before that has set its own mask waits there instead of being lost.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::child::{Child, Delivery, Letter};
use super::image::image;
use super::spawn::{Execution, Inherited, Role};
use super::status::{ExitStatus, Outcome, Records, Slot};
use super::{state, warm, wire};
use crate::memory::{Arena, MemoryError};

/// Opens every conversation, so that no foreign socket is taken for ours.
pub(super) const HELLO: u64 = u64::from_le_bytes(*b"zygote\x01\n");

/// What the starter asks for. The kind, the slot and the flags go before everything else.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// Start a process. Descriptors: standard input, output, error, working directory, then a
    /// letter, if the flags say so.
    Start = 1,
    /// Hand out the large result of the process that had this slot.
    Take = 2,
    /// Make spares for the slots whose numbers follow, when there is time. Each is announced by three words:
    /// `Answer::Spare`, its pid, its slot. Descriptors: its pidfd, its socket.
    Warm = 3,
    /// Kill the process that has this slot: its starter cannot. No answer.
    Kill = 4,
}

/// The letter is not in the record, but in a memory file.
pub(super) const LETTER_ENCLOSED: u32 = 1;
/// The process is to be executed, not only forked.
pub(super) const EXECUTE: u32 = 2;
/// Four words before the letter: kind, slot, flags, 0.
pub(super) const HEADER: usize = 16;
/// Larger letters go as files. The socket holds 200 KiB, if nobody made its buffer smaller.
pub(super) const LONGEST_RECORD: usize = 128 << 10;

/// The first word of an answer; the second is a pid or an error number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Answer {
    /// Done; the descriptor that was asked for is enclosed.
    Done = 1,
    /// The request could not be read.
    Unreadable = 2,
    /// fork failed.
    NoFork = 3,
    /// exec failed.
    NoExec = 4,
    /// The process runs, but there is no pidfd for it.
    NoPidfd = 5,
    /// Nobody asked in this moment: a spare is ready.
    Spare = 6,
}

impl Answer {
    pub(super) fn decode(word: u32) -> Option<Answer> {
        use Answer::*;
        [Done, Unreadable, NoFork, NoExec, NoPidfd, Spare].into_iter().find(|a| *a as u32 == word)
    }
}

/// The zygote that was made by executing the program; its standard input is the socket.
pub(super) fn serve_executed() -> ! {
    let served = std::panic::catch_unwind(|| {
        state::become_a_servant();
        let stdin = std::io::stdin();
        let socket = rustix::io::fcntl_dupfd_cloexec(&stdin, 3).ok()?;
        close_others(&socket);
        serve(socket)
    });
    leave(if matches!(served, Ok(Some(()))) { 0 } else { 1 })
}

/// The zygote that was made by forking the program at its beginning.
pub(super) fn serve_forked(socket: OwnedFd) -> ! {
    let served = std::panic::catch_unwind(|| {
        state::become_a_servant();
        blank_others(&socket)?;
        serve(socket)
    });
    leave(if matches!(served, Ok(Some(()))) { 0 } else { 1 })
}

/// The main loop, until there is nothing left to do.
fn serve(socket: OwnedFd) -> Option<()> {
    silence()?;
    let _ = rustix::thread::set_name(c"zygote");
    Zygote::greet(socket)?.run()
}

/// Takes the standard streams away.
pub(crate) fn silence() -> Option<()> {
    use rustix::fs::{Mode, OFlags};
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
    rustix::stdio::dup2_stdin(&null).ok()?;
    rustix::stdio::dup2_stdout(&null).ok()?;
    rustix::stdio::dup2_stderr(&null).ok()
}

/// Closes what this process inherited by accident, but not the arena that the starter has made.
fn close_others(socket: &OwnedFd) {
    match crate::memory::existing().and_then(|arena| arena.fd()) {
        Some(arena) => close_all_but(&[socket, &arena]),
        None => close_all_but(&[socket]),
    }
}

/// Puts /dev/null in the place of what a zygote that was forked has inherited. Variables of the program may know the
/// numbers: what is written there goes nowhere, and never into a file that got the number later.
fn blank_others(socket: &OwnedFd) -> Option<()> {
    use rustix::fs::{Mode, OFlags};
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        close_others(socket);
        return Some(());
    };
    let kept = [Some(socket.as_fd()), crate::memory::existing().and_then(Arena::fd)];
    let kept = kept.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd()));
    let numbers: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2 && !kept.contains(number))
        .collect();
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).ok()?;
    for number in numbers {
        // SAFETY: the number may be in use by variables of a program that does not go on in this process; whoever reads
        // or writes there meets a file that has nothing. One that was closed since (the list's own) stays closed.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) >= 0 && number != null.as_raw_fd() {
                libc::dup3(null.as_raw_fd(), number, libc::O_CLOEXEC);
            }
        }
    }
    Some(())
}

/// Closes all descriptors above the standard ones but these.
pub(crate) fn close_all_but(kept: &[&dyn AsRawFd]) {
    let mut kept: Vec<_> = kept.iter().map(|fd| fd.as_raw_fd() as libc::c_uint).collect();
    kept.sort_unstable();
    let mut first = 3;
    for keep in kept.into_iter().chain([libc::c_uint::MAX]) {
        if first < keep {
            // SAFETY: nothing in this process uses these numbers: it has only just begun.
            unsafe { libc::syscall(libc::SYS_close_range, first, keep - 1, 0) };
        }
        first = keep.saturating_add(1);
    }
}

fn leave(code: i32) -> ! {
    // SAFETY: ends the process. What others registered for the end of the program is not for us.
    unsafe { libc::_exit(code) }
}

/// What comes to a new process along with its letter.
struct Belongings {
    streams: [OwnedFd; 3],
    cwd: OwnedFd,
    /// The letter, if it is not in the record.
    letter: Option<OwnedFd>,
}

impl Belongings {
    fn from(fds: Vec<OwnedFd>, flags: u32) -> Option<Belongings> {
        let mut fds = fds.into_iter();
        let streams = [fds.next()?, fds.next()?, fds.next()?];
        let cwd = fds.next()?;
        let letter = if flags & LETTER_ENCLOSED != 0 { Some(fds.next()?) } else { None };
        Some(Belongings { streams, cwd, letter })
    }
}

struct Zygote {
    /// None: no more requests.
    socket: Option<OwnedFd>,
    records: &'static Records,
    /// The pidfd of the starter; None: it is gone.
    starter: Option<OwnedFd>,
    /// Readable when a child may have ended.
    ends: OwnedFd,
    /// Large results come in here, from all children.
    reports: OwnedFd,
    report_to: OwnedFd,
    /// The slots of the processes, spares too.
    /// No hash map: its seeds would be those of every child.
    jobs: BTreeMap<i32, u32>,
    /// The slots of spares that are yet to be made.
    owed: VecDeque<u32>,
    manners: warm::Manners,
    written: Option<warm::Written>,
    results: BTreeMap<u32, OwnedFd>,
    /// The memory of the tree; None: it could not be made.
    arena: Option<&'static Arena>,
    buffer: Vec<u8>,
    pid: u32,
}

impl Zygote {
    /// Takes over what the starter sent ahead, and reports for duty.
    fn greet(socket: OwnedFd) -> Option<Zygote> {
        let mut buffer = vec![0; HEADER + LONGEST_RECORD];
        let hello = wire::receive(&socket, &mut buffer, RecvFlags::empty()).ok()?;
        let rights = buffer.get(..hello.len)?.strip_prefix(&HELLO.to_ne_bytes())?;
        // It may have become more than its starter by being executed.
        postcard::from_bytes::<state::Capabilities>(rights).ok()?.hold().ok()?;
        let mut fds = hello.fds.into_iter();
        let records = Records::attach(fds.next()?).ok()?;
        let starter = fds.next()?;
        let (reports, report_to) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .ok()?;
        // Mapped here, so that every child is born with it.
        let arena = match fds.next().map(crate::memory::adopt).transpose() {
            Ok(arena) => arena,
            // A zygote that was forked was born with it.
            Err(MemoryError::Exists) => crate::memory::existing(),
            Err(error) => {
                let _ = wire::send(&socket, &[IoSlice::new(error.to_string().as_bytes())], &[]);
                return None;
            }
        };
        let refuse = |reason: &str| {
            let _ = wire::send(&socket, &[IoSlice::new(reason.as_bytes())], &[]);
        };
        if let Err(error) = rustix::process::waitid(
            rustix::process::WaitId::All,
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG,
        ) && error != Errno::CHILD
        {
            refuse(&format!("it may not call waitid ({error}), by which it sees ends"));
            return None;
        }
        let Some(ends) = child_signals() else {
            refuse("it may not call signalfd, by which it hears of ends (a seccomp filter?)");
            return None;
        };
        let zygote = Zygote {
            socket: Some(socket),
            records: Box::leak(Box::new(records)),
            starter: Some(starter),
            ends,
            reports,
            report_to,
            jobs: BTreeMap::new(),
            owed: VecDeque::new(),
            manners: warm::Manners::look_up(),
            written: None,
            results: BTreeMap::new(),
            arena,
            buffer,
            pid: std::process::id(),
        };
        let answer = [HELLO.to_ne_bytes(), image().build().to_ne_bytes()].concat();
        wire::send(zygote.socket.as_ref()?, &[IoSlice::new(&answer)], &[]).ok()?;
        Some(zygote)
    }

    fn run(mut self) -> Option<()> {
        super::words::listen();
        let _ = share_page_tables();
        while self.socket.is_some() || !self.jobs.is_empty() {
            let [request, report, end, starter] = self.wait()?;
            if report {
                self.take_reports();
            }
            if end {
                self.bury();
            }
            if request {
                self.serve_request();
            }
            if starter {
                self.starter_died();
            }
            if self.socket.is_none() {
                self.owed.clear();
            } else if !(request || report || end || starter)
                && let Some(slot) = self.owed.pop_front()
                && self.make_spare(slot).is_none()
            {
                let _ = self.announce(slot, 0, &[]);
            }
        }
        Some(())
    }

    /// Sleeps until something happens: [a request, a report, an end, the starter's end].
    fn wait(&self) -> Option<[bool; 4]> {
        fn watch<'a>(fd: Option<&'a OwnedFd>, placeholder: &'a OwnedFd) -> PollFd<'a> {
            match fd {
                Some(fd) => PollFd::new(fd, PollFlags::IN),
                None => PollFd::new(placeholder, PollFlags::empty()),
            }
        }
        let mut fds = [
            watch(self.socket.as_ref(), &self.ends),
            watch(Some(&self.reports), &self.ends),
            watch(Some(&self.ends), &self.ends),
            watch(self.starter.as_ref(), &self.ends),
        ];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let patience = (!self.owed.is_empty()).then_some(&now);
        while let Err(error) = poll(&mut fds, patience) {
            if error != Errno::INTR {
                return None;
            }
        }
        Some(fds.map(|fd| !fd.revents().is_empty()))
    }

    fn serve_request(&mut self) {
        let Some(socket) = &self.socket else { return };
        let record = match wire::receive(socket, &mut self.buffer, RecvFlags::DONTWAIT) {
            Ok(record) if record.len > 0 => record,
            Err(Errno::AGAIN) => return,
            // No starter has the other end any more.
            _ => return self.take_no_more(),
        };
        let [kind, slot, flags] = self.header();
        let readable = record.len >= HEADER && !record.cut && self.records.slot(slot).is_some();
        if !readable {
            // What is cut has lost descriptors, for which there was no room.
            let error = if record.cut { Errno::MFILE } else { Errno::INVAL };
            self.answer(Answer::Unreadable, error.raw_os_error() as u32, None);
        } else if kind == Kind::Kill as u32 {
            self.jobs.iter().filter(|(_, its)| **its == slot).for_each(|(pid, _)| kill(*pid));
        } else if kind == Kind::Take as u32 {
            let file = self.results.remove(&slot);
            let code = if file.is_some() { Answer::Done } else { Answer::Unreadable };
            self.answer(code, 0, file.as_ref().map(AsFd::as_fd));
        } else if kind == Kind::Warm as u32 {
            let slots = self.buffer[HEADER..record.len].chunks_exact(4);
            let slots = slots.map(|word| u32::from_ne_bytes(word.try_into().unwrap_or_default()));
            self.owed.extend(slots);
        } else {
            self.start(slot, flags, record);
        }
    }

    /// Forks a spare and announces it.
    fn make_spare(&mut self, slot: u32) -> Option<()> {
        self.records.slot(slot)?;
        self.results.remove(&slot);
        self.written.get_or_insert_with(warm::Written::look_up);
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .ok()?;
        // SAFETY: this process has one thread, so the child may do whatever this one may.
        let pid = match unsafe { libc::fork() } {
            0 => {
                drop(ours);
                self.become_spare(slot, theirs)
            }
            -1 => return None,
            pid => Pid::from_raw(pid)?,
        };
        drop(theirs);
        let number = pid.as_raw_nonzero().get();
        self.jobs.insert(number, slot);
        let announced = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .and_then(|pidfd| self.announce(slot, number as u32, &[pidfd.as_fd(), ours.as_fd()]));
        if announced.is_err() {
            // It is our child and not reaped, so the number is its own.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = self.announce(slot, number as u32, &[]);
        }
        Some(())
    }

    /// Tells the starter of a spare; pid 0: that there is none.
    fn announce(&self, slot: u32, pid: u32, fds: &[BorrowedFd]) -> Result<(), Errno> {
        let words = [Answer::Spare as u32, pid, slot].map(u32::to_ne_bytes).concat();
        let socket = self.socket.as_ref().ok_or(Errno::PIPE)?;
        // A starter that does not listen must not stop us.
        wire::try_send(socket, &[IoSlice::new(&words)], fds)
    }

    /// A spare's way from fork to its letter, and from there on as any child.
    fn become_spare(&mut self, slot: u32, socket: OwnedFd) -> ! {
        self.leave_supervision();
        let _ = rustix::thread::set_name(c"spare");
        if let Some(written) = &self.written {
            written.copy();
        }
        let place = self.records.slot(slot);
        let lives = place.is_some_and(|place| {
            warm::await_letter(place, &socket, &self.report_to, &self.manners)
        });
        if !lives {
            leave(0);
        }
        let record = wire::receive(&socket, &mut self.buffer, RecvFlags::empty());
        drop(socket);
        let Ok(record) = record else { leave(0) };
        let [kind, meant, flags] = self.header();
        // Without a letter nobody is there any more who would have one.
        if record.len < HEADER || kind != Kind::Start as u32 || meant != slot {
            leave(0);
        }
        match Belongings::from(record.fds, flags).filter(|_| !record.cut) {
            Some(belongings) => self.become_child(slot, belongings, record.len),
            None => leave(super::child::NOT_BEGUN),
        }
    }

    /// The words at the beginning of the last record: kind, slot, flags.
    fn header(&self) -> [u32; 3] {
        [0, 4, 8]
            .map(|at| u32::from_ne_bytes(self.buffer[at..at + 4].try_into().unwrap_or_default()))
    }

    fn start(&mut self, slot: u32, flags: u32, record: wire::Record) {
        let Some(belongings) = Belongings::from(record.fds, flags) else {
            return self.answer(Answer::Unreadable, Errno::BADF.raw_os_error() as u32, None);
        };
        self.results.remove(&slot);
        let started = if flags & EXECUTE != 0 {
            self.execute(slot, &belongings).map_err(|error| (Answer::NoExec, error))
        } else {
            // SAFETY: this process has one thread, so the child may do whatever this one may.
            match unsafe { libc::fork() } {
                0 => {
                    self.leave_supervision();
                    self.become_child(slot, belongings, record.len)
                }
                -1 => Err((Answer::NoFork, std::io::Error::last_os_error())),
                pid => Ok(pid),
            }
        };
        match started {
            Ok(pid) => {
                self.jobs.insert(pid, slot);
                // First make room for a pidfd.
                drop(belongings);
                let pidfd = Pid::from_raw(pid)
                    .ok_or(Errno::SRCH)
                    .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
                match pidfd {
                    Ok(pidfd) => self.answer(Answer::Done, pid as u32, Some(pidfd.as_fd())),
                    Err(_) => self.answer(Answer::NoPidfd, pid as u32, None),
                }
            }
            Err((answer, error)) => {
                let number = error.raw_os_error().unwrap_or(libc::EINVAL);
                self.answer(answer, number as u32, None);
            }
        }
    }

    fn answer(&self, answer: Answer, value: u32, fd: Option<BorrowedFd>) {
        let words = [(answer as u32).to_ne_bytes(), value.to_ne_bytes()].concat();
        if let Some(socket) = &self.socket {
            // A starter that is gone needs no answer.
            let _ = wire::send(socket, &[IoSlice::new(&words)], fd.as_slice());
        }
    }

    /// Closes in a child what is not its own.
    fn leave_supervision(&mut self) {
        let supervision = [&self.ends, &self.reports].into_iter().chain(&self.socket);
        for fd in supervision.chain(self.results.values()) {
            // SAFETY: a child never returns to the loop, so nobody uses or drops these again.
            unsafe { rustix::io::close(fd.as_raw_fd()) };
        }
    }

    /// The child's way to its target.
    fn become_child(&mut self, slot: u32, belongings: Belongings, len: usize) -> ! {
        let guardian = Some(self.pid);
        let Belongings { streams, cwd, letter } = belongings;
        // SAFETY: a child never returns to the loop, so nobody uses or drops this again; the number is owned by the delivery from here on.
        let socket = unsafe { OwnedFd::from_raw_fd(self.report_to.as_raw_fd()) };
        let (Some(place), Some(parent)) = (self.records.slot(slot), self.starter.take()) else {
            leave(super::child::NOT_BEGUN)
        };
        let child = Child {
            slot: place,
            delivery: Delivery::Report { socket, slot },
            guardian,
            parent: Arc::new(parent),
            known: None,
            leave: |code| std::process::exit(code),
        };
        let buffer = std::mem::take(&mut self.buffer);
        let body = (|| {
            rustix::stdio::dup2_stdin(&streams[0])?;
            rustix::stdio::dup2_stdout(&streams[1])?;
            rustix::stdio::dup2_stderr(&streams[2])?;
            rustix::process::fchdir(&cwd)?;
            drop((streams, cwd));
            letter.as_ref().map(wire::read_letter).transpose()
        })();
        drop(letter);
        let body = match &body {
            Ok(Some(letter)) => letter.as_slice(),
            Ok(None) => &buffer[HEADER..len],
            Err(error) => child.refuse(&error.to_string()),
        };
        match postcard::take_from_bytes::<Letter>(body) {
            Ok((letter, args)) => child.run(letter, args),
            Err(error) => child.refuse(&error.to_string()),
        }
    }

    /// Executes the program as a new process.
    fn execute(&self, slot: u32, belongings: &Belongings) -> std::io::Result<i32> {
        let Belongings { streams, cwd, letter } = belongings;
        let letter = letter.as_ref().ok_or(std::io::ErrorKind::InvalidInput)?;
        let body = wire::read_letter(letter)?;
        let (read, _) = postcard::take_from_bytes::<Letter>(&body)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
        let mut execution = Execution::new()?;
        for (number, stream) in streams.iter().enumerate() {
            execution.pass(stream.as_fd(), number as i32)?;
        }
        let records = self.records.as_fd();
        let kept = [letter.as_fd(), records, self.report_to.as_fd(), cwd.as_fd()];
        let arena = self.arena.and_then(Arena::fd);
        let starter = self.starter.as_ref().ok_or(std::io::ErrorKind::BrokenPipe)?;
        for fd in kept.into_iter().chain([starter.as_fd()]).chain(arena) {
            execution.pass(fd, fd.as_raw_fd())?;
        }
        let role = Role::Child(Inherited {
            letter: letter.as_raw_fd(),
            records: records.as_raw_fd(),
            reports: self.report_to.as_raw_fd(),
            cwd: cwd.as_raw_fd(),
            parent: starter.as_raw_fd(),
            arena: arena.map_or(-1, |fd| fd.as_raw_fd()),
            slot,
            guardian: self.pid,
        });
        let pid = match read.changes.environment() {
            Some(environment) => execution.run(environment, &role),
            None => execution.run(&state::environment(), &role),
        }?;
        Ok(pid as i32)
    }

    /// Keeps the large results that have come in.
    fn take_reports(&mut self) {
        let mut slot = [0; 4];
        while let Ok(record) = wire::receive(&self.reports, &mut slot, RecvFlags::DONTWAIT) {
            if let (4, Some(file)) = (record.len, record.fds.into_iter().next()) {
                self.results.insert(u32::from_ne_bytes(slot), file);
            }
        }
    }

    /// Writes down how each ended process ended, reaps it, and wakes who waits for it.
    fn bury(&mut self) {
        let mut signal = [0; size_of::<libc::signalfd_siginfo>()];
        let _ = rustix::io::read(&self.ends, &mut signal);
        while let Some((pid, status)) = next_dead() {
            let slot = self.jobs.remove(&pid).and_then(|slot| self.records.slot(slot));
            if let Some(slot) = slot {
                // Long words go that way too.
                if matches!(slot.outcome(), Outcome::File | Outcome::Words | Outcome::Panicked) {
                    self.take_reports();
                }
                slot.record(status);
            }
            reap(pid);
            if let Some(slot) = slot {
                slot.wake();
            }
        }
    }

    fn starter_died(&mut self) {
        self.starter = None;
        self.take_no_more();
        for (pid, slot) in &self.jobs {
            if self.records.slot(*slot).is_some_and(Slot::is_daemon) {
                kill(*pid);
            }
        }
    }

    /// Nobody asks any more, or says that a process may begin.
    fn take_no_more(&mut self) {
        self.socket = None;
        for (pid, slot) in &self.jobs {
            // What has not begun never will.
            if self.records.slot(*slot).is_some_and(Slot::abandon) {
                kill(*pid);
            }
        }
    }
}

/// Kills a child that is not reaped, so that the number is still its own.
fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Makes fork copy the page tables of the code of the program and its libraries.
///
/// The kernel leaves out what a fault could fill in again, and so each child would fault some 15 times
/// on the same few pages of code, which costs 0.1 ms of processor time. It does copy them where a mapping
/// has had one page of its own, so write one byte of each, with the value that it has. Where the kernel
/// refuses, children begin more slowly.
fn share_page_tables() -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        if rights != "r-xp" || !line.contains('/') {
            continue;
        }
        let start = range.split('-').next().and_then(|at| u64::from_str_radix(at, 16).ok());
        let Some(start) = start else { continue };
        let mut byte = [0];
        memory.read_exact_at(&mut byte, start)?;
        memory.write_all_at(&byte, start)?;
    }
    Ok(())
}

/// A descriptor that is readable when SIGCHLD, which is blocked, has come.
fn child_signals() -> Option<OwnedFd> {
    // SAFETY: the set is initialised before use, and the new descriptor has no other owner.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// A child that has ended, which stays until it is reaped.
fn next_dead() -> Option<(i32, ExitStatus)> {
    // SAFETY: all zeroes are a valid siginfo_t, and the kernel fills it in; without a dead child the
    // pid stays 0.
    unsafe {
        let mut info = std::mem::zeroed::<libc::siginfo_t>();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &mut info, options) != 0 || info.si_pid() == 0 {
            return None;
        }
        Some((info.si_pid(), ExitStatus::from_wait(info.si_code, info.si_status())))
    }
}

fn reap(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid);
    let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG);
}
