//! What the owner knows of a task's type: how its answers are decoded, and who gets them.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use procession_core::region::Member;
use serde::de::DeserializeOwned;

use super::bulk::size_of_number;
use super::decode::decode_or;
use super::desk::Held;
use super::wire::{Away, Sort, Trouble, read_mark_of};
use crate::channel::luggage::{ITEM, Luggage};
use crate::memory::Arena;
use crate::task::{Outcome, Part, Results, Sink, TaskError, Which, quietly};

/// Who gets the results of a task, whatever their type: an `Arc<dyn Sink<R>>` that has forgotten its `R`, without a further
/// allocation for each task.
pub(super) struct Job {
    /// The two words of the `Arc`.
    sink: [*const (); 2],
    /// What is to be done with them, by type.
    calls: &'static Calls,
}

struct Calls {
    deliver: unsafe fn(&[*const (); 2], &mut Answers<'_>) -> u64,
    fail: unsafe fn(&[*const (); 2], u64, u32, &TaskError),
    clone: unsafe fn(&[*const (); 2]),
    drop: unsafe fn(&[*const (); 2]),
}

// SAFETY: it is an `Arc` of a `Sink`, which every thread may have and use.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    pub(super) fn new<R: DeserializeOwned + 'static>(sink: Arc<dyn Sink<R>>) -> Self {
        let sink = Arc::into_raw(sink);
        // SAFETY: a pointer to a trait object is two words, which are only made a pointer again of the same type.
        let sink = unsafe { std::mem::transmute::<*const dyn Sink<R>, [*const (); 2]>(sink) };
        Job { sink, calls: Of::<R>::CALLS }
    }

    /// Decodes answers and delivers them, as many as there are to be: what is missing is an error. How many were errors.
    pub(super) fn deliver(&self, answers: &mut Answers<'_>) -> u64 {
        let mut failed = u64::from(answers.count);
        // SAFETY: the calls are those of the words' type.
        quietly(|| failed = unsafe { (self.calls.deliver)(&self.sink, answers) });
        failed
    }

    /// So many items from `first` on have no result.
    pub(super) fn fail(&self, first: u64, count: u32, error: &TaskError) {
        // SAFETY: as above.
        quietly(|| unsafe { (self.calls.fail)(&self.sink, first, count, error) });
    }
}

impl Clone for Job {
    fn clone(&self) -> Self {
        // SAFETY: as above.
        unsafe { (self.calls.clone)(&self.sink) };
        Job { sink: self.sink, calls: self.calls }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // With the last handle of a result nobody asked for that is dropped, by whoever happens to be here.
        // SAFETY: as above; this is the last use of these words.
        quietly(|| unsafe { (self.calls.drop)(&self.sink) });
    }
}

/// The calls for results of one type. All take the words of a living `Arc<dyn Sink<R>>`.
struct Of<R>(PhantomData<R>);

impl<R: DeserializeOwned + 'static> Of<R> {
    const CALLS: &'static Calls =
        &Calls { deliver: Self::deliver, fail: Self::fail, clone: Self::clone, drop: Self::drop };

    fn pointer(words: &[*const (); 2]) -> *const dyn Sink<R> {
        // SAFETY: by the caller these are the words of such a pointer.
        unsafe { std::mem::transmute::<[*const (); 2], *const dyn Sink<R>>(*words) }
    }

    unsafe fn clone(words: &[*const (); 2]) {
        // SAFETY: by the caller it is of a living `Arc`.
        unsafe { Arc::increment_strong_count(Self::pointer(words)) };
    }

    unsafe fn drop(words: &[*const (); 2]) {
        // SAFETY: by the caller it is of a living `Arc`, which ends here.
        drop(unsafe { Arc::from_raw(Self::pointer(words)) });
    }

    unsafe fn deliver(words: &[*const (); 2], answers: &mut Answers<'_>) -> u64 {
        // SAFETY: by the caller it is of a living `Arc`.
        deliver(unsafe { &*Self::pointer(words) }, answers)
    }

    unsafe fn fail(words: &[*const (); 2], first: u64, count: u32, error: &TaskError) {
        // SAFETY: by the caller it is of a living `Arc`.
        fail(unsafe { &*Self::pointer(words) }, first, count, error);
    }
}

/// Some answers of one chunk, copied out.
pub(super) struct Answers<'a> {
    pub(super) arena: &'static Arena,
    pub(super) me: Member<'static>,
    /// To which ticket of which board their blocks are tied.
    pub(super) board: u64,
    pub(super) ticket: u64,
    /// For messages.
    pub(super) task: Which,
    /// The index of the first, and how many they are.
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) bytes: &'a [u8],
    /// Which of the inputs could not be encoded, and why.
    pub(super) voids: &'a [(u64, String)],
    /// How long the worker was busy, if it is known.
    pub(super) nanos: u64,
}

fn deliver<R: DeserializeOwned>(sink: &dyn Sink<R>, answers: &mut Answers<'_>) -> u64 {
    let (first, nanos) = (answers.first, answers.nanos);
    if answers.count == 1 {
        let outcome = caught(answers, Answers::next);
        let failed = u64::from(outcome.is_err());
        sink.deliver(first, &mut Results::one(outcome).took(nanos));
        return failed;
    }
    let mut failed = 0;
    let mut left = answers.count;
    while left > 0 {
        let first = answers.first;
        // Where one is an error there may be many.
        let room = if failed == 0 { left as usize } else { 0 };
        let mut values = Vec::with_capacity(room);
        let mut error = None;
        // Around all of them: around each would cost a call each.
        let all = catch_unwind(AssertUnwindSafe(|| {
            while error.is_none() && values.len() < left as usize {
                match answers.next::<R>() {
                    Ok(value) => values.push(value),
                    Err(reason) => error = Some(reason),
                }
            }
        }));
        if let Err(panic) = all {
            error = Some(answers.unreadable(panic));
        }
        let good = values.len() as u32;
        if good > 0 {
            let nanos = nanos * u64::from(good) / u64::from(answers.count);
            sink.deliver(first, &mut Results::values(values).took(nanos));
        }
        left -= good;
        if let Some(error) = error {
            sink.deliver(first + u64::from(good), &mut Results::one(Err(error)));
            failed += 1;
            left -= 1;
        }
    }
    failed
}

fn fail<R>(sink: &dyn Sink<R>, first: u64, count: u32, error: &TaskError) {
    if count == 1 {
        return sink.deliver(first, &mut Results::one(Err(Box::new(error.clone()))));
    }
    let mut outcomes = (0..count).map(|_| Err(Box::new(error.clone()))).collect();
    sink.deliver(first, &mut Results::many(&mut outcomes));
}

/// Reads one answer; that its type panics costs it alone.
fn caught<'a, R>(
    answers: &mut Answers<'a>,
    read: fn(&mut Answers<'a>) -> Outcome<R>,
) -> Outcome<R> {
    catch_unwind(AssertUnwindSafe(|| read(answers)))
        .unwrap_or_else(|panic| Err(answers.unreadable(panic)))
}

impl Answers<'_> {
    #[inline(always)]
    fn next<R: DeserializeOwned>(&mut self) -> Outcome<R> {
        let at = self.first;
        self.first += 1;
        let Some((sort, from, to)) = read_mark_of(self.bytes, size_of_number::<R>()) else {
            return Err(self.damaged("its place in the shared memory is damaged"));
        };
        let bytes = &self.bytes[from..to];
        self.bytes = &self.bytes[to..];
        if sort == Sort::Plain {
            decode_or(bytes, |error| self.undecodable(error.to_string()))
        } else {
            self.other(sort, at, bytes)
        }
    }

    #[cold]
    fn other<R: DeserializeOwned>(&self, sort: Sort, at: u64, bytes: &[u8]) -> Outcome<R> {
        match sort {
            Sort::Trouble => Err(self.trouble(bytes)),
            Sort::Away => self.fetch(bytes),
            Sort::Void | Sort::Plain => {
                let known = self.voids.iter().find(|(index, _)| *index == at);
                Err(known.map_or_else(
                    || self.damaged("its worker says that it had no input"),
                    |(_, message)| {
                        let (task, message) = (self.task, message.clone());
                        Box::new(TaskError::Input { task, message })
                    },
                ))
            }
        }
    }

    /// An answer in a block of its own.
    fn fetch<R: DeserializeOwned>(&self, bytes: &[u8]) -> Outcome<R> {
        let lost = || self.damaged("its block in the shared memory is gone");
        let away: Away = bytemuck::try_pod_read_unaligned(bytes).map_err(|_| lost())?;
        let held = Held::take(self.arena, self.me, away.place, self.board, self.ticket);
        let held = held.ok_or_else(lost)?;
        let (length, names) = (away.length as usize, usize::from(away.luggage) * ITEM);
        super::desk::with_scratch(|scratch| {
            let room = held.room();
            let read = length.checked_add(names).zip(room);
            if !read.is_some_and(|(all, room)| room.copy_out(0, all, scratch)) {
                return Err(lost());
            }
            // Free for others before it is decoded.
            drop(held);
            let (object, names) = scratch.split_at(length);
            let _luggage =
                (!names.is_empty()).then(|| Luggage::take(names, self.board, self.ticket));
            if away.trouble != 0 {
                return Err(self.trouble(object));
            }
            decode_or(object, |error| self.undecodable(error.to_string()))
        })
    }

    fn trouble(&self, bytes: &[u8]) -> Box<TaskError> {
        let task = self.task;
        let decode = |what, message| TaskError::Decode { task, what, message };
        Box::new(match postcard::from_bytes(bytes) {
            Ok(Trouble::Panicked { pid, message, location, backtrace }) => {
                TaskError::Panicked { task, pid, message, location, backtrace }
            }
            Ok(Trouble::Arguments(message)) => decode(Part::Arguments, message),
            Ok(Trouble::Result(message)) => TaskError::Encode { task, message },
            Ok(Trouble::NoRoom { bytes, message }) => TaskError::NoRoom { task, bytes, message },
            Err(_) => {
                let message = "there is none, and no room for the words that say why".into();
                TaskError::NoRoom { task, bytes: 0, message }
            }
        })
    }

    #[cold]
    fn undecodable(&self, message: String) -> Box<TaskError> {
        Box::new(TaskError::Decode { task: self.task, what: Part::Result, message })
    }

    #[cold]
    fn damaged(&self, message: &str) -> Box<TaskError> {
        self.undecodable(message.into())
    }

    #[cold]
    fn unreadable(&self, panic: Box<dyn Any + Send>) -> Box<TaskError> {
        let message = crate::process::words_of(panic).message;
        self.undecodable(format!("its type panicked: {message}"))
    }
}
