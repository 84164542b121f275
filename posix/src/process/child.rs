//! What runs in a started process, by whichever way it came to be.
//!
//! It takes over the state of its starter, says that it begins, calls the target, leaves the result in
//! its slot, and exits: 0 when the target returned, 101 when it panicked. It never returns to
//! where it was forked or executed.

use std::any::Any;
use std::cell::RefCell;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::names::{self, Birth};
use super::state::Changes;
use super::status::{Outcome, SLOT_BYTES, Slot};
use super::target::{CallError, Entry};
use super::{StartMethod, image, wire};

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
    pub(super) build: u64,
    pub(super) entry: u64,
    pub(super) type_name: String,
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

/// The process itself, once it knows its slot.
pub(super) struct Child {
    pub(super) slot: &'static Slot,
    pub(super) delivery: Delivery,
    /// The process whose death ends a daemon.
    pub(super) guardian: u32,
    /// The target, where it did not have to cross to another program.
    pub(super) known: Option<&'static Entry>,
    /// `std::process::exit`, or `_exit` after a fork of the starter itself.
    pub(super) leave: fn(i32) -> !,
}

impl Child {
    /// Lives the life of a started process.
    pub(super) fn run(self, letter: Letter, args: &[u8]) -> ! {
        let leave = self.leave;
        let code = catch_unwind(AssertUnwindSafe(|| self.live(letter, args)));
        leave(code.unwrap_or(NOT_BEGUN))
    }

    /// Says why the target cannot be called, and leaves.
    pub(super) fn refuse(self, message: &str) -> ! {
        (self.leave)(self.not_begun(message))
    }

    fn live(self, letter: Letter, args: &[u8]) -> i32 {
        let entry = match self.prepare(letter) {
            Ok(Some(entry)) => entry,
            Ok(None) => return 0,
            Err(message) => return self.not_begun(&message),
        };
        *words() = Some(self.slot);
        listen_for_last_words();
        let (outcome, bytes, code) = match catch_unwind(|| entry.call(args)) {
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
            Err(payload) => (Outcome::Panicked, panic_message(payload).into_bytes(), PANICKED),
        };
        super::exit::in_order(super::exit::Others::Join);
        // From here on no other thread's panic changes what was left.
        let mut guard = words();
        *guard = None;
        // SAFETY: this is the process of the slot; other threads leave words only under the lock.
        unsafe { self.slot.leave(outcome, &bytes) };
        if matches!(outcome, Outcome::Value | Outcome::File)
            && let Some(arena) = crate::memory::existing()
        {
            arena.member().leave();
        }
        code
    }

    /// Becomes the process that the letter describes. `None`: the starter gave up on it.
    fn prepare(&self, letter: Letter) -> Result<Option<&'static Entry>, String> {
        if letter.build != image::image().build() {
            return Err("the program was executed from another build".into());
        }
        if letter.birth.daemon {
            die_with(self.guardian)?;
        }
        letter.changes.apply()?;
        set_comm(&letter.birth.name);
        names::take_on(letter.birth)?;
        super::set_start_method(letter.method);
        let entry = self
            .known
            .or_else(|| Entry::find(letter.entry, &letter.type_name))
            .ok_or_else(|| format!("{} is not a target of this program", letter.type_name))?;
        Ok(self.slot.begin(|| parent() == Some(self.guardian)).then_some(entry))
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
        // A file larger than the limit is an error then, not a signal.
        super::state::set_ignored(libc::SIGXFSZ, true);
        let sent = match &self.delivery {
            Delivery::Report { socket, slot } => wire::letter(&result).and_then(|file| {
                let slot = slot.to_ne_bytes();
                Ok(wire::send(socket, &[IoSlice::new(&slot)], &[file.as_fd()])?)
            }),
            Delivery::File(file) => wire::write_letter(file, &result),
        };
        match sent {
            Ok(()) => (Outcome::File, Vec::new(), code),
            Err(error) => {
                let message = format!("{} bytes cannot be stored: {error}", result.len());
                (Outcome::Undelivered, message.into_bytes(), UNDELIVERED)
            }
        }
    }
}

/// Has the kernel kill this process when its parent process dies.
fn die_with(guardian: u32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| format!("cannot become a daemon: {error}"))?;
    // It may have died before the kernel knew that we care.
    if parent() == Some(guardian) { Ok(()) } else { Err("its parent process is gone".into()) }
}

fn parent() -> Option<u32> {
    rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get() as u32)
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

/// The slot for last words, while the target has not ended.
static WORDS: Mutex<Option<&'static Slot>> = Mutex::new(None);

fn words() -> std::sync::MutexGuard<'static, Option<&'static Slot>> {
    WORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static MINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has every panic of this process noted. The zygote does this before its children are born.
pub(super) fn listen_for_last_words() {
    static LISTENS: AtomicBool = AtomicBool::new(false);
    if !LISTENS.swap(true, Ordering::Relaxed) {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note_last_words(info);
            hook(info);
        }));
    }
}

/// With `panic = "abort"`, or a panic while panicking, this is the last that runs.
fn note_last_words(info: &std::panic::PanicHookInfo) {
    let mut text = message_of(info.payload()).to_owned();
    if let Some(place) = info.location() {
        text = format!("{text} ({place})");
    }
    if let Some(slot) = *words() {
        // SAFETY: this is the process of the slot, and the lock keeps other threads out.
        unsafe { slot.leave(Outcome::Words, text.as_bytes()) };
    }
    let _ = MINE.try_with(|mine| *mine.borrow_mut() = text);
}

fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let noted = MINE.with(|mine| std::mem::take(&mut *mine.borrow_mut()));
    // Without a note the hook did not run: the target resumed another panic.
    let text = if noted.is_empty() { message_of(&*payload).to_owned() } else { noted };
    // The payload's own drop may panic.
    std::mem::forget(payload);
    text
}

fn message_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text")
}
