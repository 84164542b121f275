//! Follows a tree of processes by ptrace, and kills one of them at its k-th system call.
//!
//! Each process of the tree is traced from its birth, so none gets lost, and what lives on when it should not is
//! named. Only the victim stops at its system calls; the others stop at forks and executions, and run freely
//! between. A victim that is killed where a call begins has not made that call: all k together are all moments that
//! others can tell apart but for what is written to shared memory in between.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::support::Word;

/// So long a tree may live that was told to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// So often a wait looks at the time.
const LOOK: Duration = Duration::from_millis(20);

/// The part that a process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It calls `start`.
    Starter,
    /// The first process that the starter executes.
    Zygote,
    /// The how many-th, from 1, that is forked to run a target while the hunt is on.
    Child(u32),
    /// The last that was forked before the hunt: kept ready for its first start.
    Spare,
}

/// Whom to kill, and when.
#[derive(Clone, Copy)]
pub struct Hunt {
    pub role: Role,
    /// At the how many-th system call, from 1.
    pub call: u32,
    /// Whether the victim stays where it is for a while before it is killed, so that the others get as far as they can.
    pub late: bool,
    /// Whether children of the starter are started processes, not zygotes.
    pub forks: bool,
    /// 1 while the hunt is on, more when it is over.
    pub phase: Word,
    /// Whether the starter is killed when the hunt is over: it would wait.
    pub end: bool,
}

struct Thread {
    process: i32,
}

struct Tree {
    hunt: Hunt,
    starter: i32,
    threads: HashMap<i32, Thread>,
    roles: HashMap<i32, Option<Role>>,
    zygotes: u32,
    children: u32,
    calls: u32,
    killed: Option<i32>,
    /// Who is to be killed, and when.
    doomed: Option<(i32, Instant)>,
    ended: bool,
}

/// Follows `starter`, which waits until `go`, to the end of the last of its tree. Whether the victim was killed: if
/// not, it makes fewer calls.
pub fn hunt(hunt: Hunt, starter: Pid, go: Word) -> Result<bool, String> {
    let starter = starter.as_raw_nonzero().get();
    let options = libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_EXITKILL;
    trace(libc::PTRACE_SEIZE, starter, 0, options as usize)?;
    let mut tree = Tree {
        hunt,
        starter,
        threads: HashMap::from([(starter, Thread { process: starter })]),
        roles: HashMap::from([(starter, Some(Role::Starter))]),
        zygotes: 0,
        children: 0,
        calls: 0,
        killed: None,
        doomed: None,
        ended: false,
    };
    if hunt.role == Role::Starter {
        // So that its next resumption is one up to a system call.
        trace(libc::PTRACE_INTERRUPT, starter, 0, 0)?;
    }
    go.set(1);
    crate::support::alarm_each(LOOK);
    let outcome = tree.follow();
    crate::support::alarm_each(Duration::ZERO);
    outcome.map(|()| tree.killed.is_some())
}

impl Tree {
    fn follow(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut status = 0;
            // SAFETY: writes to a local.
            let thread = unsafe { libc::waitpid(-1, &mut status, libc::__WALL) };
            if thread < 0 {
                match std::io::Error::last_os_error().raw_os_error() {
                    Some(libc::ECHILD) => return Ok(()),
                    Some(libc::EINTR) => {}
                    other => return Err(format!("waitpid: {other:?}")),
                }
            } else if libc::WIFSTOPPED(status) {
                self.stopped(thread, status)?;
            } else {
                self.threads.remove(&thread);
            }
            if let Some((process, _)) = self.doomed.take_if(|(_, at)| *at <= Instant::now()) {
                kill(process);
            }
            if self.hunt.end && !self.ended && self.hunt.phase.get() > 1 {
                self.ended = true;
                kill(self.starter);
            }
            if Instant::now() > deadline {
                let living = self.living();
                self.roles.keys().for_each(|process| kill(*process));
                return Err(format!("they live on: {living}"));
            }
        }
    }

    fn stopped(&mut self, thread: i32, status: i32) -> Result<(), String> {
        let signal = libc::WSTOPSIG(status);
        let event = status >> 16;
        if !self.threads.contains_key(&thread) {
            self.enter(thread);
        }
        let is_victim = self.is_victim(thread);
        let mut hand_over = 0;
        if signal == libc::SIGTRAP | 0x80 {
            if is_victim && self.hunt.phase.get() == 1 && begins_call(thread) {
                self.calls += 1;
                if self.calls == self.hunt.call {
                    let process = self.threads[&thread].process;
                    let wait = if self.hunt.late { 2 * LOOK } else { Duration::ZERO };
                    self.doomed = Some((process, Instant::now() + wait));
                    self.killed = Some(process);
                    return Ok(());
                }
            }
        } else if event == libc::PTRACE_EVENT_STOP {
            if signal != libc::SIGTRAP {
                // Stopped, until somebody has it go on.
                return gone_is_fine(trace(libc::PTRACE_LISTEN, thread, 0, 0));
            }
        } else if event == 0 {
            hand_over = signal;
        }
        let how = if is_victim { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
        gone_is_fine(trace(how, thread, 0, hand_over as usize))
    }

    fn is_victim(&self, thread: i32) -> bool {
        let role = self.threads.get(&thread).and_then(|thread| self.roles.get(&thread.process));
        self.killed.is_none() && role.is_some_and(|role| *role == Some(self.hunt.role))
    }

    /// A new thread or process.
    fn enter(&mut self, thread: i32) {
        let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|value| value.trim().parse::<i32>().ok()).unwrap_or(0)
        };
        let (process, parent) = (number("Tgid:"), number("PPid:"));
        self.threads.insert(thread, Thread { process });
        if self.roles.contains_key(&process) {
            return;
        }
        let on = self.hunt.phase.get() == 1;
        let of = self.roles.get(&parent).copied().flatten();
        let role = match of {
            Some(Role::Starter) if !self.hunt.forks => {
                self.zygotes += 1;
                (self.zygotes == 1).then_some(Role::Zygote)
            }
            Some(Role::Zygote) if !on => {
                // Those before it have come and gone.
                self.roles
                    .values_mut()
                    .filter(|role| **role == Some(Role::Spare))
                    .for_each(|role| *role = None);
                Some(Role::Spare)
            }
            Some(Role::Starter | Role::Zygote) if on => {
                self.children += 1;
                Some(Role::Child(self.children))
            }
            _ => None,
        };
        self.roles.insert(process, role);
    }

    /// Who is left, and what it does.
    fn living(&self) -> String {
        let read = |thread: &i32, what: &str| {
            let text = std::fs::read_to_string(format!("/proc/{thread}/{what}"));
            text.unwrap_or_default().trim().to_string()
        };
        let tell = |(thread, of): (&i32, &Thread)| {
            let (name, call) = (read(thread, "comm"), read(thread, "syscall"));
            let role = self.roles.get(&of.process).copied().flatten();
            format!("{name} ({role:?}, process {}, in call {call})", of.process)
        };
        self.threads.iter().map(tell).collect::<Vec<_>>().join("; ")
    }
}

/// Whether the thread stands where a call begins, not where it returns.
fn begins_call(thread: i32) -> bool {
    const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
    const ENTRY: u8 = 1;
    let mut info = [0u8; 128];
    // SAFETY: the kernel writes at most as many bytes as it is told.
    let got = unsafe { libc::ptrace(GET_SYSCALL_INFO, thread, info.len(), info.as_mut_ptr()) };
    got > 0 && info[0] == ENTRY
}

fn kill(process: i32) {
    if let Some(process) = Pid::from_raw(process) {
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
}

/// Somebody may have killed it meanwhile.
fn gone_is_fine(outcome: Result<(), String>) -> Result<(), String> {
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ESRCH) if outcome.is_err() => Ok(()),
        _ => outcome,
    }
}

/// One ptrace call that says whether it worked.
fn trace(request: libc::c_uint, pid: i32, address: usize, data: usize) -> Result<(), String> {
    // SAFETY: these requests touch no memory of this process.
    match unsafe { libc::ptrace(request, pid, address, data) } {
        -1 => Err(format!("ptrace request {request}: {}", std::io::Error::last_os_error())),
        _ => Ok(()),
    }
}
