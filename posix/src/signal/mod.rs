//! Signals: blocking them, hearing of them, passing them on, ending in order when they come.
//!
//! Nothing here happens unasked: a program that uses none of it has no handler of this library, in no process. A started
//! process has the signal mask and the ignored signals of its starter, and none of its handlers; only
//! [`StartMethod::Fork`](crate::process::StartMethod::Fork) copies those, as the kernel does.
//!
//! | to | use |
//! |---|---|
//! | put off signals while something must not be disturbed | [`block`] |
//! | hear of signals where it suits, by a call that waits or a descriptor | [`listen`] |
//! | pass on what comes to the children | [`forward`] |
//! | end the whole tree of processes in order when one comes | [`end_in_order`] |
//!
//! # Ctrl-C
//!
//! The terminal sends SIGINT to every process of the foreground process group. Started processes are in their starter's, so each of them
//! gets it, once; the zygote and other helpers of this library ignore it. Without a handler it ends at
//! once; after [`end_in_order`] in the first process, the whole tree ends in order, and the first process by SIGINT, as a shell expects.

mod listen;
mod mask;
mod tree;

use std::fmt;
use std::io;

pub use listen::{Origin, Received, Signals, listen};
pub use mask::{Blocked, block};
pub(crate) use tree::{Ends, start_nothing_at_the_end, yield_to_the_ending};
pub use tree::{Forwarding, end_in_order, forward};

/// A signal, by its number.
///
/// ```
/// use procession_posix::signal::Signal;
///
/// assert_eq!(Signal::TERM.as_raw(), 15);
/// assert_eq!(Signal::from_raw(2), Some(Signal::INT));
/// assert_eq!(Signal::HUP.to_string(), "SIGHUP");
/// ```
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(u8);

/// The signals that have names: each a constant, and all in a table.
macro_rules! signals {
    ($($name:ident $number:ident $what:literal;)*) => {
        impl Signal {
            $(#[doc = $what] pub const $name: Signal = Signal(libc::$number as u8);)*
        }
        const NAMES: &[(u8, &str)] = &[$((libc::$number as u8, stringify!($number))),*];
    };
}

signals! {
    HUP SIGHUP "The terminal is gone; servers take it as a wish to read their configuration again.";
    INT SIGINT "Ctrl-C.";
    QUIT SIGQUIT "Ctrl-\\.";
    ILL SIGILL "An instruction that does not exist.";
    TRAP SIGTRAP "A breakpoint.";
    ABRT SIGABRT "`abort` was called.";
    BUS SIGBUS "Memory that is mapped, but not there.";
    FPE SIGFPE "A division by zero, and the like.";
    KILL SIGKILL "Ends the process. It cannot be handled.";
    USR1 SIGUSR1 "For programs to use as they like.";
    SEGV SIGSEGV "Memory that is not mapped.";
    USR2 SIGUSR2 "For programs to use as they like.";
    PIPE SIGPIPE "Nobody reads the other end of a pipe. Rust programs ignore it.";
    ALRM SIGALRM "A timer has run out.";
    TERM SIGTERM "Please end.";
    STKFLT SIGSTKFLT "Unused.";
    CHLD SIGCHLD "A child has ended or stopped.";
    CONT SIGCONT "Goes on after a stop.";
    STOP SIGSTOP "Stops the process. It cannot be handled.";
    TSTP SIGTSTP "Ctrl-Z.";
    TTIN SIGTTIN "Read from the terminal in the background.";
    TTOU SIGTTOU "Wrote to the terminal in the background.";
    URG SIGURG "Urgent data on a socket.";
    XCPU SIGXCPU "The limit of processor time is reached.";
    XFSZ SIGXFSZ "The limit of file sizes is reached.";
    VTALRM SIGVTALRM "A timer of processor time has run out.";
    PROF SIGPROF "A profiler's timer has run out.";
    WINCH SIGWINCH "The terminal has another size.";
    IO SIGIO "A descriptor is ready.";
    PWR SIGPWR "Power fails.";
    SYS SIGSYS "A system call that a filter forbids.";
}

impl Signal {
    /// The signal with this number. `None` for 0, for what lies above 64, and for those that the C library has for itself (32 and 33).
    #[must_use]
    pub fn from_raw(number: i32) -> Option<Signal> {
        let first = libc::SIGRTMIN();
        match number {
            1..=31 => Some(Signal(number as u8)),
            _ if number >= first && number <= libc::SIGRTMAX() => Some(Signal(number as u8)),
            _ => None,
        }
    }

    /// The `n`th of the real-time signals, which are queued one by one. `None` if there are not so many (31 on Linux).
    #[must_use]
    pub fn realtime(n: u8) -> Option<Signal> {
        Signal::from_raw(libc::SIGRTMIN() + i32::from(n))
    }

    /// Its number.
    #[must_use]
    pub fn as_raw(self) -> i32 {
        i32::from(self.0)
    }

    /// Its bit in a set of signals.
    fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "SIGRTMIN+{}", self.as_raw() - libc::SIGRTMIN()),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> i32 {
        signal.as_raw()
    }
}

impl TryFrom<i32> for Signal {
    type Error = io::Error;

    fn try_from(number: i32) -> io::Result<Signal> {
        Signal::from_raw(number).ok_or_else(|| invalid(format!("there is no signal {number}")))
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// The signals whose bits are set.
fn each(bits: u64) -> impl Iterator<Item = Signal> {
    (1..=64u8).map(Signal).filter(move |signal| bits & signal.bit() != 0)
}

/// The bits of `signals`, all of which may be `treated` so.
fn bits(signals: &[Signal], forbidden: &[Signal], treated: &str) -> io::Result<u64> {
    if let Some(signal) = signals.iter().find(|signal| forbidden.contains(signal)) {
        return Err(invalid(format!("{signal} cannot be {treated}; leave it out")));
    }
    Ok(signals.iter().fold(0, |bits, signal| bits | signal.bit()))
}

/// The set of these signals, as the C library has it.
fn set(bits: u64) -> libc::sigset_t {
    // SAFETY: all zeroes are a valid set for sigemptyset to initialise; sigaddset only changes the set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in each(bits) {
            libc::sigaddset(&mut set, signal.as_raw());
        }
        set
    }
}
