//! The keeper: a small process that holds descriptors until somebody collects them.
//!
//! ```text
//! its process deposits one        → keep it under its number, say so
//! somebody shows a number         → give that descriptor away, forget it
//! its process ends                → take no more
//! no more to come, nothing kept   → exit
//! no more to come, nobody else of the tree lives → exit
//! ```
//!
//! It is nobody's child: the program that starts it forks at once and ends. All signals are blocked: it goes when it is not
//! needed, or by SIGKILL.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::process::{Resource, getrlimit};

use super::{Keeper, PATIENCE, address, random};
use crate::memory::Arena;
use crate::process::{Execution, Role, become_a_servant, environment, wire};

/// Opens the conversation.
const HELLO: u64 = u64::from_le_bytes(*b"keeper\x01\n");
/// How many may be collecting at a time; others wait to be let in. So many descriptors are left free for them, if there are
/// more than twice as many.
const CLIENTS: usize = 64;
/// How often it looks whether anybody lives, once its own process is gone.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Starts a keeper for this process, and waits until it reports for duty.
pub(super) fn start() -> io::Result<Keeper> {
    let arena = crate::memory::arena().map_err(io::Error::other)?;
    let mut name = [0; 16];
    random(&mut name)?;
    let listener = wire::above_standard(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?);
    rustix::net::bind(&listener, &address(&name)?)?;
    rustix::net::listen(&listener, CLIENTS as i32)?;
    let (socket, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let (socket, theirs) = (wire::above_standard(socket), wire::above_standard(theirs));
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let descriptors: Vec<_> = arena.fd().into_iter().chain([listener.as_fd()]).rev().collect();
    wire::send(&socket, &[IoSlice::new(&HELLO.to_ne_bytes())], &descriptors)?;
    let mut execution = Execution::new()?;
    execution.pass(theirs.as_fd(), 0)?;
    let pid = execution.run(&environment(), &Role::Keeper)?;
    drop(theirs);
    let keeper = Keeper { pid: std::process::id(), name, socket };
    // The program that forked it has ended by then, or failed: reap it, unless somebody else has.
    let ready = keeper.receipt();
    if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
        let reap = || rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        while reap().is_err_and(|error| error == Errno::INTR) {}
    }
    ready?;
    Ok(keeper)
}

/// The life of a keeper that was executed; its standard input is the socket of its process.
pub(crate) fn serve() -> ! {
    let served = std::panic::catch_unwind(|| {
        become_a_servant();
        let socket = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3).ok()?;
        // SAFETY: before main there is one thread.
        match unsafe { libc::fork() } {
            0 => Desk::open(socket)?.run(),
            _ => None,
        }
    });
    // SAFETY: ends the process, or the one that only made it. Nothing of the program has run in it.
    unsafe { libc::_exit(if served.is_ok() { 0 } else { 1 }) }
}

struct Desk {
    /// None: there is no more to come.
    depositor: Option<OwnedFd>,
    listener: OwnedFd,
    clients: Vec<OwnedFd>,
    kept: HashMap<u64, OwnedFd>,
    /// Nothing is kept from this number on: else nobody could be let in to collect what is.
    end: u64,
    /// How many clients there is room for behind that.
    room: usize,
    arena: &'static Arena,
}

impl Desk {
    fn open(socket: OwnedFd) -> Option<Desk> {
        let mut hello = [0; 8];
        let record = wire::receive(&socket, &mut hello, RecvFlags::empty()).ok()?;
        if record.len != 8 || hello != HELLO.to_ne_bytes() {
            return None;
        }
        let mut fds = record.fds.into_iter();
        let (listener, arena) = (fds.next()?, fds.next()?);
        crate::process::close_all_but(&[&socket, &listener, &arena]);
        crate::process::silence()?;
        let arena = crate::memory::adopt(arena).ok()?;
        let _ = rustix::thread::set_name(c"keeper");
        // It keeps no directory from being removed.
        let _ = rustix::process::chdir("/");
        answer(&socket, 0, None)?;
        let (clients, kept) = (Vec::new(), HashMap::new());
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let room = (CLIENTS as u64).min(limit / 2).max(1);
        let (end, room) = (limit.saturating_sub(room), room as usize);
        Some(Desk { depositor: Some(socket), listener, clients, kept, end, room, arena })
    }

    fn run(mut self) -> Option<()> {
        while self.depositor.is_some() || !self.kept.is_empty() {
            if self.depositor.is_none() && self.arena.member().is_alone() {
                break;
            }
            self.turn()?;
        }
        Some(())
    }

    /// Waits for something to do, and does it.
    fn turn(&mut self) -> Option<()> {
        let ready = {
            let in_ = PollFlags::IN;
            let mut asked: Vec<PollFd<'_>> =
                self.clients.iter().map(|client| PollFd::new(client, in_)).collect();
            let clients = asked.len();
            let may_enter = clients < self.room;
            asked.extend(may_enter.then(|| PollFd::new(&self.listener, in_)));
            asked.extend(self.depositor.iter().map(|socket| PollFd::new(socket, in_)));
            let patience = self.depositor.is_none().then_some(LOOK);
            match rustix::event::poll(&mut asked, patience.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return None,
            }
            let mut ready = asked.iter().map(|one| !one.revents().is_empty());
            let served: Vec<bool> = ready.by_ref().take(clients).collect();
            let entering = may_enter && ready.next() == Some(true);
            (served, entering, ready.next() == Some(true))
        };
        let (served, entering, depositing) = ready;
        if depositing {
            self.take();
        }
        let clients = std::mem::take(&mut self.clients);
        for (client, ready) in clients.into_iter().zip(served) {
            if ready {
                self.give(client);
            } else {
                self.clients.push(client);
            }
        }
        if entering
            && let Ok(client) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC)
            && socket_peercred(&client).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
        {
            self.clients.push(client);
        }
        Some(())
    }

    /// Takes what its process deposits.
    fn take(&mut self) {
        let Some(socket) = &self.depositor else { return };
        let mut number = [0; 8];
        let Ok(record) = wire::receive(socket, &mut number, RecvFlags::DONTWAIT) else {
            self.depositor = None;
            return;
        };
        let error = match (record.len, record.fds.into_iter().next()) {
            // The kernel gives the lowest number that is free.
            (8, Some(descriptor)) if (descriptor.as_raw_fd() as u64) < self.end => {
                self.kept.insert(u64::from_ne_bytes(number), descriptor);
                0
            }
            // There is no number left for it.
            (8, _) => Errno::DQUOT.raw_os_error(),
            _ => {
                self.depositor = None;
                return;
            }
        };
        if answer(socket, error, None).is_none() {
            self.depositor = None;
        }
    }

    /// Gives away what the client asks for, and lets it go.
    fn give(&mut self, client: OwnedFd) {
        let mut number = [0; 8];
        let Ok(record) = wire::receive(&client, &mut number, RecvFlags::DONTWAIT) else { return };
        if record.len != 8 {
            return;
        }
        let number = u64::from_ne_bytes(number);
        match self.kept.remove(&number) {
            Some(descriptor) => {
                if answer(&client, 0, Some(&descriptor)).is_none() {
                    // It has gone away without: somebody else may come for it.
                    self.kept.insert(number, descriptor);
                }
            }
            None => {
                answer(&client, Errno::NOENT.raw_os_error(), None);
            }
        }
    }
}

fn answer(to: &OwnedFd, error: i32, descriptor: Option<&OwnedFd>) -> Option<()> {
    debug_assert!(to.as_raw_fd() > 2);
    let fds: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
    wire::send(to, &[IoSlice::new(&error.to_ne_bytes())], &fds).ok()
}
