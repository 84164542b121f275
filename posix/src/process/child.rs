//! What runs in a started process, by whichever way it came to be.
//!
//! It takes over the state of its starter, says that it begins, calls the target, ends in order, leaves the result in
//! its slot, and exits: 0 when the target returned, 1 when that was an error, 101 when it panicked. It never returns to
//! where it was forked or executed.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::link::is_gone;
use super::names::{self, Birth};
use super::state::Changes;
use super::status::{Outcome, SLOT_BYTES, Slot};
use super::target::{Aim, CallError, Entry};
use super::words::{self, Words};
use super::{StartMethod, deadline, news, wire};

/// The exit status of a process whose target returned an error, as that of any Rust program.
const FAILED: i32 = 1;
/// The exit status of a process whose target panicked, as that of any Rust program.
const PANICKED: i32 = 101;
/// The exit status of a process that could not call its target; shells use it for the same.
pub(super) const NOT_BEGUN: i32 = 126;
/// The exit status of a process whose result could not be delivered.
const UNDELIVERED: i32 = 1;

/// Everything that a process is told; its encoded arguments follow behind.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Letter {
    pub(super) aim: Aim,
    pub(super) birth: Birth,
    pub(super) method: StartMethod,
    pub(super) changes: Changes,
}

/// Where a result goes that does not fit into the slot.
pub(super) enum Delivery {
    /// To the zygote, in a memory file of its own, under the number of the slot.
    Report { socket: OwnedFd, slot: u32 },
    /// Into the file that the starter made before it forked.
    File(OwnedFd),
}

impl Delivery {
    /// Sends what does not fit into the slot.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Delivery::Report { socket, slot } => {
                let file = wire::letter(bytes)?;
                Ok(wire::send(socket, &[IoSlice::new(&slot.to_ne_bytes())], &[file.as_fd()])?)
            }
            Delivery::File(file) => {
                // Words may lie there already.
                rustix::fs::ftruncate(file, 0)?;
                wire::write_letter(file, bytes)
            }
        }
    }
}

/// The process itself, once it knows its slot.
pub(super) struct Child {
    pub(super) slot: &'static Slot,
    pub(super) delivery: Delivery,
    /// The process whose death ends a daemon; None: the starter itself.
    pub(super) guardian: Option<u32>,
    /// The pidfd of the starter.
    pub(super) parent: Arc<OwnedFd>,
    /// The target, where it did not have to cross to another program.
    pub(super) known: Option<&'static Entry>,
    /// `std::process::exit`, or `_exit` after a fork of the starter itself.
    pub(super) leave: fn(i32) -> !,
}

impl Child {
    /// Lives the life of a started process.
    pub(super) fn run(self, letter: Letter, args: &[u8]) -> ! {
        // Other threads speak to its slot until the process is gone.
        let me: &'static Child = Box::leak(Box::new(self));
        let code = catch_unwind(AssertUnwindSafe(|| me.live(letter, args)));
        (me.leave)(code.unwrap_or(NOT_BEGUN))
    }

    /// Says why the target cannot be called, and leaves.
    pub(super) fn refuse(self, message: &str) -> ! {
        (self.leave)(self.not_begun(message))
    }

    fn live(&'static self, letter: Letter, args: &[u8]) -> i32 {
        words::speak(&letter.birth.name, self.slot, &self.delivery);
        let limit = letter.birth.deadline;
        let entry = match self.prepare(letter) {
            Ok(Some(entry)) => entry,
            Ok(None) => return NOT_BEGUN,
            Err(message) => return self.not_begun(&message),
        };
        news::begins();
        if let Some(Err(error)) = limit.map(|limit| deadline::begin(self.slot, limit)) {
            return self.not_begun(&format!("its deadline cannot be set: {error}"));
        }
        let me = std::process::id();
        let called = catch_unwind(|| entry.call(args));
        if std::process::id() != me {
            // A fork that the target made came back from it too. The slot is that of its parent.
            super::exit::in_order(super::exit::Others::Join);
            return match called {
                Ok(Ok(_)) => 0,
                Ok(Err(_)) => FAILED,
                Err(_) => PANICKED,
            };
        }
        let (outcome, bytes, code) = match called {
            Ok(Ok(result)) => self.deliver(result, 0),
            Ok(Err(CallError::Failed(result))) => self.deliver(result, FAILED),
            Ok(Err(CallError::Arguments(message))) => {
                let message = format!("its arguments cannot be decoded: {message}");
                (Outcome::NotBegun, message.into_bytes(), NOT_BEGUN)
            }
            Ok(Err(CallError::Result(message))) => {
                let message = format!("it cannot be encoded: {message}");
                (Outcome::Undelivered, message.into_bytes(), UNDELIVERED)
            }
            Err(payload) => {
                let words = Words::of_unwinding(payload).note(&self.delivery);
                (Outcome::Panicked, words, PANICKED)
            }
        };
        news::ends(code);
        super::exit::in_order(super::exit::Others::Join);
        words::fall_silent(|| {
            // SAFETY: this is the process of the slot; other threads leave words only under the lock that is
            // held here.
            unsafe { self.slot.leave(outcome, &bytes) }
        });
        if matches!(outcome, Outcome::Value | Outcome::File)
            && let Some(arena) = crate::memory::existing()
        {
            arena.member().leave();
        }
        code
    }

    /// Becomes the process that the letter describes. `None`: the starter gave up on it.
    fn prepare(&self, letter: Letter) -> Result<Option<&'static Entry>, String> {
        if letter.birth.daemon {
            self.die_with_guardian()?;
        }
        letter.changes.apply()?;
        set_comm(&letter.birth.name);
        names::take_on(letter.birth, self.parent.clone())?;
        super::set_start_method(letter.method);
        let entry = self.known.map_or_else(|| letter.aim.find(), Ok)?;
        Ok(self.slot.begin(|| self.guardian_lives()).then_some(entry))
    }

    /// Has the kernel kill this process when its parent process dies.
    fn die_with_guardian(&self) -> Result<(), String> {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(|error| format!("cannot become a daemon: {error}"))?;
        // It may have died before the kernel knew that we care.
        if self.guardian_lives() { Ok(()) } else { Err("its parent process is gone".into()) }
    }

    fn guardian_lives(&self) -> bool {
        let parent = || rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get() as u32);
        match self.guardian {
            Some(guardian) => parent() == Some(guardian),
            // Not by its number, which it does not have in a PID namespace of its children.
            None => !is_gone(&self.parent),
        }
    }

    fn not_begun(&self, message: &str) -> i32 {
        // SAFETY: this is the process of the slot, and it has no other thread yet.
        unsafe { self.slot.leave(Outcome::NotBegun, message.as_bytes()) };
        NOT_BEGUN
    }

    fn deliver(&self, result: Vec<u8>, code: i32) -> (Outcome, Vec<u8>, i32) {
        if result.len() <= SLOT_BYTES {
            return (Outcome::Value, result, code);
        }
        match self.delivery.send(&result) {
            Ok(()) => (Outcome::File, Vec::new(), code),
            Err(error) => {
                let message = format!("{} bytes cannot be stored: {error}", result.len());
                (Outcome::Undelivered, message.into_bytes(), UNDELIVERED)
            }
        }
    }
}

/// Shows the process' name in ps and top, as far as it fits there.
fn set_comm(name: &str) {
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if let Ok(name) = std::ffi::CString::new(&name[..end]) {
        let _ = rustix::thread::set_name(&name);
    }
}
