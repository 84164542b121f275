//! The last words of a process: what is told of a panic to the one that joins it.
//!
//! The panic hook notes each panic of the process in its slot, for it may be the last that runs: a program that aborts
//! when it panics, or a panic while panicking. Which words count is decided at the end. If the target unwound, those
//! of its own thread do, and they are noted once more; if the process aborted, the newest do; in all other ends none. What
//! does not fit into the slot goes the way of large results, and the slot holds the beginning of it.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::child::Delivery;
use super::status::{Outcome, SLOT_BYTES, Slot};

/// What was said of a panic.
#[derive(serde::Serialize, serde::Deserialize, Debug, Clone, Default, PartialEq)]
pub(crate) struct Words {
    pub(crate) message: String,
    /// File, line and column.
    pub(crate) location: Option<String>,
    /// Where RUST_BACKTRACE asks for one.
    pub(crate) backtrace: Option<String>,
    /// These are the first of them, and all are on their way as a large result.
    pub(super) cut: bool,
}

impl Words {
    fn of(info: &PanicHookInfo) -> Words {
        // The loader's tables and the debug information are read for this: only where somebody asks.
        let backtrace = Backtrace::capture();
        let captured = backtrace.status() == BacktraceStatus::Captured;
        Words {
            message: message_of(info.payload()).to_owned(),
            location: info.location().map(ToString::to_string),
            backtrace: captured.then(|| backtrace.to_string()),
            cut: false,
        }
    }

    /// What was noted of the panic that unwound to here with this payload.
    pub(crate) fn of_unwinding(payload: Box<dyn Any + Send>) -> Words {
        // Without a note the hook did not run: the target resumed another panic, or has a hook of its own.
        let words = MINE.try_with(|mine| mine.borrow_mut().take()).ok().flatten();
        let words = words.unwrap_or_else(|| Words {
            message: message_of(&*payload).to_owned(),
            ..Words::default()
        });
        // The payload's own drop may panic.
        std::mem::forget(payload);
        words
    }

    /// The bytes for the slot. Long words are sent, and cut.
    pub(super) fn note(&self, delivery: &Delivery) -> Vec<u8> {
        let all = self.encode();
        if all.len() <= SLOT_BYTES {
            return all;
        }
        let location = self.location.clone().filter(|location| location.len() < SLOT_BYTES / 2);
        let room = SLOT_BYTES - 32 - location.as_ref().map_or(0, String::len);
        let mut end = self.message.len().min(room);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        let message = self.message[..end].to_owned();
        // Not sent: then these are all that arrive.
        let cut = delivery.send(&all).is_ok();
        Words { message, location, backtrace: None, cut }.encode()
    }

    fn encode(&self) -> Vec<u8> {
        // There is nothing in it that does not encode.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Words> {
        postcard::from_bytes(bytes).ok()
    }
}

/// What was said of the panic that unwound to here with this payload.
pub(crate) fn words_of(payload: Box<dyn Any + Send>) -> Words {
    Words::of_unwinding(payload)
}

pub(crate) fn message_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text")
}

/// Who speaks here.
struct Speaker {
    /// A fork of this process has its name, but not its place.
    pid: u32,
    name: String,
    /// Where words are left, while the target has not ended.
    place: Option<(&'static Slot, &'static Delivery)>,
}

static SPEAKER: Mutex<Option<Speaker>> = Mutex::new(None);

thread_local! {
    static MINE: RefCell<Option<Words>> = const { RefCell::new(None) };
}

fn speaker() -> MutexGuard<'static, Option<Speaker>> {
    SPEAKER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on the panics of this process are noted in its slot.
pub(super) fn speak(name: &str, slot: &'static Slot, delivery: &'static Delivery) {
    let (pid, name) = (std::process::id(), name.to_owned());
    *speaker() = Some(Speaker { pid, name, place: Some((slot, delivery)) });
    listen();
}

/// Has `leave` write down how the target ended. After that no other thread's panic changes it.
pub(super) fn fall_silent(leave: impl FnOnce()) {
    let mut guard = speaker();
    if let Some(speaker) = &mut *guard {
        speaker.place = None;
    }
    leave();
}

/// Sets the hook that notes panics. The zygote does this before its children are born.
pub(crate) fn listen() {
    static LISTENS: AtomicBool = AtomicBool::new(false);
    if !LISTENS.swap(true, Ordering::Relaxed) {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note(info);
            hook(info);
        }));
    }
}

/// With `panic = "abort"`, or a panic while panicking, this is the last that runs.
fn note(info: &PanicHookInfo) {
    let words = Words::of(info);
    let pid = std::process::id();
    let title = speaker().as_ref().map(|speaker| {
        if let Some((slot, delivery)) = speaker.place
            && speaker.pid == pid
        {
            // SAFETY: this is the process of the slot, and the lock keeps other threads out.
            unsafe { slot.leave(Outcome::Words, &words.note(delivery)) };
        }
        format!("Process {} (pid {pid}):\n", speaker.name)
    });
    if let Some(title) = title {
        // In one piece, for others may be speaking too. Without standard error nobody listens. Not under the lock:
        // a pipe that nobody reads must not hold up the end of the target.
        let _ = std::io::stderr().write_all(title.as_bytes());
    }
    let _ = MINE.try_with(|mine| *mine.borrow_mut() = Some(words));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_for_the_slot_and_sent_whole() {
        let file = super::super::wire::empty_letter().unwrap();
        let delivery = Delivery::File(file);
        let words = Words {
            message: "ü".repeat(1000),
            location: Some("src/main.rs:1:2".into()),
            backtrace: Some("0: main".into()),
            cut: false,
        };
        let noted = words.note(&delivery);
        assert!(noted.len() <= SLOT_BYTES && noted.len() > SLOT_BYTES - 64);
        let cut = Words::decode(&noted).unwrap();
        assert!(cut.cut && words.message.starts_with(&cut.message));
        assert_eq!(cut.location, words.location);
        let Delivery::File(file) = &delivery else { unreachable!() };
        let sent = super::super::wire::read_letter(file).unwrap();
        assert_eq!(Words::decode(&sent), Some(words));
        let short = Words { message: "short".into(), ..Words::default() };
        assert_eq!(Words::decode(&short.note(&delivery)), Some(short));
    }
}
