//! A child that is stepped by ptrace, instruction by instruction.
//!
//! The child traces itself, gets ready, and executes a breakpoint: the mark. From there each
//! instruction is one step, and the moments at which it could be killed are recorded. The second
//! mark is seen before it is executed, and is the end. Tracer and child share one CPU: a step is
//! then two context switches (18 µs), without a wake across CPUs (100 µs).
//!
//! To get to a recorded moment again, a debug register stops the child at its instruction, as often
//! as it was executed before; from there it is stepped. So a kill late in an operation costs as little
//! as one at its beginning. A debug register holds for one thread only: other threads of the child
//! are not disturbed, as they would be by a breakpoint in the code.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use rustix::time::Timespec;
use serde::{Deserialize, Serialize};

use super::child::Child;
use super::watch::Watch;

/// More steps than any operation needs.
const FUEL: u64 = 3_000_000;
/// A child that asks for a futex and has not returned by then is asleep.
const ASLEEP: Duration = Duration::from_micros(300);
/// Any other call may take longer, for instance to start a thread.
const SLOW: Duration = Duration::from_millis(50);
/// A child that runs unstepped and has not come to its mark by then may need to be woken.
const SOON: Duration = Duration::from_micros(500);
/// After so long the child will never return.
const STUCK: Duration = Duration::from_secs(10);

/// Why somebody could be killed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Before the first instruction.
    Start,
    /// The instruction has changed shared memory.
    Change,
    /// A system call comes next.
    Call,
    /// Inside a system call that does not return.
    Asleep,
    /// A system call has just returned.
    Returned,
    /// After the last instruction.
    End,
}

/// A moment at which the child can be killed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Moment {
    pub cause: Cause,
    /// The instruction that did it, as an address in this program.
    pub at: u64,
    /// The how many-th time this instruction was come to, from 1.
    pub visit: u32,
    /// How often it had repeated itself (`rep movs`) by then.
    pub repeat: u32,
    /// How many instructions came before.
    pub step: u64,
}

/// The code of a breakpoint instruction, and of a system call.
const MARK: u64 = 0xcc;
const CALL: u64 = 0x050f;

/// Whether to wait on.
enum Go {
    On,
    Stop,
}

/// What a look at the child shows.
enum Stop {
    Trap,
    Running,
}

/// A child under our hand.
pub struct Tracee {
    child: Child,
    /// A signal to hand over at the next step.
    signal: i32,
    /// Whether faults are the child's own business.
    trapped: bool,
}

/// Executed in the child: here it stops.
#[inline(never)]
fn mark() {
    // SAFETY: raises SIGTRAP, which the tracer takes. No memory or register is touched.
    unsafe { core::arch::asm!("int3", options(nomem, nostack, preserves_flags)) }
}

impl Tracee {
    /// Forks a child that runs `body` up to its first mark.
    pub fn start(body: impl FnOnce(&dyn Fn()) -> Result<(), String>) -> Result<Tracee, String> {
        let child = Child::start(|| {
            trace(libc::PTRACE_TRACEME, 0, 0, 0)?;
            body(&mark).map(|()| Vec::new())
        })?;
        let mut tracee = Tracee { child, signal: 0, trapped: false };
        tracee.until_trap(|| {}, false)?;
        trace(libc::PTRACE_SETOPTIONS, tracee.pid(), 0, libc::PTRACE_O_EXITKILL as usize)?;
        Ok(tracee)
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Lets the child run to its end mark, with a [`Trap`](super::watch::Trap) in its memory.
    pub fn run_trapped(&mut self, asleep: impl FnMut()) -> Result<(), String> {
        self.trapped = true;
        self.run(asleep)
    }

    /// Lets the child run on to its next mark. `asleep` is called when that takes long.
    fn run(&mut self, asleep: impl FnMut()) -> Result<(), String> {
        self.until_trap(asleep, true)
    }

    fn until_trap(&mut self, mut asleep: impl FnMut(), go: bool) -> Result<(), String> {
        let deadline = Instant::now() + STUCK;
        let mut go = go;
        while Instant::now() < deadline {
            if go {
                let signal = std::mem::take(&mut self.signal);
                trace(libc::PTRACE_CONT, self.pid(), 0, signal as usize)?;
            }
            if let Stop::Trap = self.wait_for(SOON)? {
                if self.signal == 0 {
                    return Ok(());
                }
                go = true;
            } else {
                asleep();
                go = false;
            }
        }
        Err("the child never came to its mark".into())
    }

    /// Steps to the end mark. Returns all moments, and the number of steps.
    ///
    /// `asleep` is called when the child sleeps in the kernel: it must wake it.
    pub fn record(
        &mut self,
        watch: &mut Watch,
        asleep: impl Fn(),
    ) -> Result<(Vec<Moment>, u64), String> {
        let mut moments = Vec::new();
        // For each instruction: how often it was come to, and its code.
        let mut known: HashMap<u64, (u32, u64)> = HashMap::new();
        let (mut step, mut before, mut repeat) = (0, 0, 0);
        while step < FUEL {
            let at = self.address()?;
            repeat = if at == before { repeat + 1 } else { 0 };
            before = at;
            let (visit, code) = match known.entry(at) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let code = trace(libc::PTRACE_PEEKTEXT, self.pid(), at as usize, 0)?;
                    entry.insert((0, code as u64))
                }
            };
            *visit += u32::from(repeat == 0);
            let (visit, code) = (*visit, *code);
            let here = Moment { cause: Cause::Start, at, visit, repeat, step };
            let mut note = |cause| moments.push(Moment { cause, ..here });
            if step == 0 {
                note(Cause::Start);
            }
            if code & 0xff == MARK {
                note(Cause::End);
                return Ok((moments, step));
            }
            let call = code & 0xffff == CALL;
            if call {
                note(Cause::Call);
                self.call(at, || {
                    note(Cause::Asleep);
                    asleep();
                    // What we changed ourselves is not the child's doing.
                    watch.has_changed();
                    Go::On
                })?;
            } else {
                self.step()?;
            }
            step += 1;
            let changed = watch.has_changed();
            if call {
                note(Cause::Returned);
            } else if changed && (repeat == 0 || repeat.is_power_of_two()) {
                // A copy by `rep movs` is one instruction, and traps after each byte: not after all.
                note(Cause::Change);
            }
        }
        Err(format!("the child did not come to its end within {FUEL} steps"))
    }

    /// Brings the child to a moment that was recorded. False if it went another way this time,
    /// and came to its end instead.
    pub fn seek(
        &mut self,
        moment: &Moment,
        watch: impl FnOnce() -> Watch,
        asleep: impl Fn(),
    ) -> Result<bool, String> {
        match moment.cause {
            Cause::Start => return Ok(true),
            Cause::End => return self.run(asleep).map(|()| true),
            _ => {}
        }
        // At the first instruction the child stands already.
        let mut visits = moment.visit - u32::from(self.address()? == moment.at);
        if visits > 0 {
            self.stop_at(moment.at)?;
            while visits > 0 {
                self.run(&asleep)?;
                if self.address()? != moment.at {
                    return Ok(false);
                }
                visits -= 1;
            }
            self.stop_nowhere()?;
        }
        for _ in 0..moment.repeat {
            self.step()?;
        }
        let mut watch = watch();
        match moment.cause {
            Cause::Call => Ok(true),
            Cause::Asleep => {
                let mut slept = false;
                self.call(moment.at, || {
                    slept = true;
                    Go::Stop
                })?;
                Ok(slept)
            }
            Cause::Returned => {
                self.call(moment.at, || {
                    asleep();
                    Go::On
                })?;
                Ok(true)
            }
            _ => {
                self.step()?;
                Ok(watch.has_changed())
            }
        }
    }

    /// Steps over an instruction that is no system call: it always ends.
    fn step(&mut self) -> Result<(), String> {
        let signal = std::mem::take(&mut self.signal);
        trace(libc::PTRACE_SINGLESTEP, self.pid(), 0, signal as usize)?;
        match self.wait_once(0)? {
            Stop::Trap => Ok(()),
            Stop::Running => Err("a step did not end".into()),
        }
    }

    /// Steps over the system call at `at`, unless `asleep`, called while it sleeps, says stop.
    fn call(&mut self, at: u64, mut asleep: impl FnMut() -> Go) -> Result<(), String> {
        let patience = self.patience()?;
        let signal = std::mem::take(&mut self.signal);
        trace(libc::PTRACE_SINGLESTEP, self.pid(), 0, signal as usize)?;
        let deadline = Instant::now() + STUCK;
        while let Stop::Running = self.wait_for(patience)? {
            if Instant::now() > deadline {
                return Err(format!("the child sleeps for ever in a call at {at:#x}"));
            }
            if let Go::Stop = asleep() {
                break;
            }
        }
        Ok(())
    }

    /// Lets the child stop before the instruction at `at`, whenever it runs.
    fn stop_at(&self, at: u64) -> Result<(), String> {
        self.set_debug_register(0, at)?;
        // Local breakpoint 0, on execution.
        self.set_debug_register(7, 1)
    }

    fn stop_nowhere(&self) -> Result<(), String> {
        self.set_debug_register(7, 0)
    }

    fn set_debug_register(&self, index: usize, value: u64) -> Result<(), String> {
        let place = std::mem::offset_of!(libc::user, u_debugreg) + index * 8;
        trace(libc::PTRACE_POKEUSER, self.pid(), place, value as usize).map(|_| ())
    }

    /// Kills the child, and reaps it if told so: else it stays a zombie.
    pub fn kill(&mut self, reap: bool) -> Result<(), String> {
        self.child.kill()?;
        if reap {
            self.child.reap();
        }
        Ok(())
    }

    /// Stepping is slow: when the child comes to its futex call, the deadline of a short sleep is
    /// long past. Moves it, so that the child does sleep as it would at full speed.
    fn stretch_sleep(&self, number: i64) -> Result<(), String> {
        let operation = self.register(std::mem::offset_of!(libc::user_regs_struct, rsi))?;
        let deadline = self.register(std::mem::offset_of!(libc::user_regs_struct, r10))? as usize;
        let waits = number == libc::SYS_futex_waitv
            || operation as i32 & libc::FUTEX_CMD_MASK == libc::FUTEX_WAIT_BITSET;
        if !waits || deadline == 0 {
            return Ok(());
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let soon = now + Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let seconds = trace(libc::PTRACE_PEEKDATA, self.pid(), deadline, 0)?;
        let nanos = trace(libc::PTRACE_PEEKDATA, self.pid(), deadline + 8, 0)?;
        if (seconds, nanos) < (soon.tv_sec, soon.tv_nsec) {
            trace(libc::PTRACE_POKEDATA, self.pid(), deadline, soon.tv_sec as usize)?;
            trace(libc::PTRACE_POKEDATA, self.pid(), deadline + 8, soon.tv_nsec as usize)?;
        }
        Ok(())
    }

    /// The address of the next instruction.
    fn address(&self) -> Result<u64, String> {
        self.register(std::mem::offset_of!(libc::user_regs_struct, rip))
    }

    fn register(&self, place: usize) -> Result<u64, String> {
        trace(libc::PTRACE_PEEKUSER, self.pid(), place, 0).map(|value| value as u64)
    }

    /// How long the call that comes next may take before it counts as sleep.
    fn patience(&self) -> Result<Duration, String> {
        let number = self.register(std::mem::offset_of!(libc::user_regs_struct, rax))? as i64;
        if [libc::SYS_futex, libc::SYS_futex_waitv].contains(&number) {
            self.stretch_sleep(number)?;
        }
        let sleeps = [
            libc::SYS_futex,
            libc::SYS_futex_waitv,
            libc::SYS_poll,
            libc::SYS_ppoll,
            libc::SYS_nanosleep,
        ];
        Ok(if sleeps.contains(&number) { ASLEEP } else { SLOW })
    }

    /// Waits for a stop by looking now and then.
    fn wait_for(&mut self, patience: Duration) -> Result<Stop, String> {
        let deadline = Instant::now() + patience;
        for look in 0.. {
            // The child needs our CPU.
            match look {
                0..20 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(10)),
            }
            if let Stop::Trap = self.wait_once(libc::WNOHANG)? {
                return Ok(Stop::Trap);
            }
            if Instant::now() > deadline {
                break;
            }
        }
        Ok(Stop::Running)
    }

    fn wait_once(&mut self, flags: i32) -> Result<Stop, String> {
        let mut status = 0;
        // SAFETY: waits for our own child only and writes to a local.
        match unsafe { libc::waitpid(self.pid(), &mut status, libc::__WALL | flags) } {
            0 => return Ok(Stop::Running),
            pid if pid == self.pid() => {}
            _ => return Err(format!("waitpid: {}", std::io::Error::last_os_error())),
        }
        if !libc::WIFSTOPPED(status) {
            return Err(format!("the child ended before its mark, status {status:#x}"));
        }
        match libc::WSTOPSIG(status) {
            libc::SIGTRAP => Ok(Stop::Trap),
            // The trap of a child that is not stepped.
            libc::SIGSEGV if self.trapped => {
                self.signal = libc::SIGSEGV;
                Ok(Stop::Trap)
            }
            fatal @ (libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGABRT) => {
                let at = self.address()?;
                Err(format!("the child got signal {fatal} at {at:#x}"))
            }
            other => {
                self.signal = other;
                Ok(Stop::Trap)
            }
        }
    }
}

/// One ptrace call.
fn trace(request: libc::c_uint, pid: i32, address: usize, data: usize) -> Result<i64, String> {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = 0 };
    // SAFETY: the requests used here read or write the child's registers and code, and no memory
    // of this process.
    let value = unsafe { libc::ptrace(request, pid, address, data) };
    match std::io::Error::last_os_error() {
        error if value == -1 && error.raw_os_error() != Some(0) => {
            Err(format!("ptrace request {request}: {error}"))
        }
        _ => Ok(value),
    }
}
