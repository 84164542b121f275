//! The backend for the model checker: loom's atomics, a futex inside the model, and deaths on demand.
//!
//! The threads of a model stand for processes: each joins a table of participants by itself. What differs from
//! loom's own types:
//!
//! - **Fuel.** Within [`mortal`] a thread may make so many shared accesses; instead of the next one it *dies*: it
//!   unwinds out of whatever it was doing. While it unwinds, its accesses have no effect (a load gives zero, a
//!   compare-and-swap fails, a futex call does nothing), so that the guards it drops release nothing. The caller
//!   of `mortal` then speaks the kernel's verdict, [`declare_dead`](crate::region::Participants::declare_dead),
//!   which as in reality comes after all stores of the dead. A model that is run for every amount of fuel, until
//!   the victim gets by, has seen a death at each point that others can tell apart.
//! - **Futex.** A queue of sleepers for each word, behind a lock of the model, as the kernel has it: the word is
//!   compared under the lock, and a wake says how many it woke. With [`Sleeps::Endless`] a sleeper sleeps until it
//!   is woken, and loom reports a lost wake as a deadlock. With [`Sleeps::Sliced`] a sleep ends by itself once
//!   somebody else has run, as every sleep between processes does; models with deaths need it.
//! - **Stores** are swaps: see there.
//! - **Reads** are told to those who write next, else loom overlooks orders that it has to try: see `Readers`.
//! - **Fences.** loom treats sequentially consistent accesses as AcqRel ones and models only fences fully, so both
//!   halves of the asymmetric fence are full fences here (`sys::fence`).
//! - **Mutations.** [`mutate`] takes away what the algorithms rely on: fences, or the order of accesses. A model
//!   that does not notice proves nothing. `MODEL_RELAX=lock.rs:217` in the environment relaxes the accesses of that
//!   one line: which orderings do the models defend?
//! - **Trace.** With `MODEL_TRACE=1` every access is printed: thread, place in the source, address, outcome. The last
//!   execution is the one that failed.
//!
//! Words that a process keeps for itself (its tag, its patience) are the processor's own atomics: others cannot
//! see them, so they cost no fuel and make no interleavings.
//!
//! A model calls [`begin`] first, in each execution.

use core::cell::{Cell, RefCell};
use core::panic::Location;
use core::sync::atomic::{AtomicU8, Ordering};
use std::boxed::Box;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::string::String;
use std::sync::{Arc, OnceLock, PoisonError};
use std::vec::Vec;

use super::Scope;
use super::futex::Expected;
use loom::sync::{Condvar, Mutex, MutexGuard};
use loom::thread::Thread;

/// How a sleep on a futex ends in this model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleeps {
    /// By a wake alone: a lost one is a deadlock, which loom reports.
    Endless,
    /// By a wake, or by itself as soon as another thread has run.
    Sliced,
}

/// One sleep of a thread, on one word or on several.
struct Sleep {
    thread: Thread,
    state: AtomicU8,
}

/// Not asleep yet; asleep; woken. The states are no access of the model: nothing comes between a look at them and what
/// follows from it. loom does not take it well if a thread is unparked that waits for a mutex: only who is asleep is.
const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const WOKEN: u8 = 2;

impl Sleep {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: loom::thread::current(), state: AtomicU8::new(AWAKE) })
    }

    /// Sleeps, unless it was woken before.
    fn sleep(&self) {
        match SLEEPS.get() {
            Sleeps::Sliced => loom::thread::yield_now(),
            Sleeps::Endless if self.state.swap(ASLEEP, Ordering::SeqCst) == AWAKE => {
                loom::thread::park();
            }
            Sleeps::Endless => {}
        }
    }

    fn wake(&self) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == ASLEEP {
            self.thread.unpark();
        }
    }
}

/// Who sleeps on one word, longest first.
struct Queue(Mutex<VecDeque<Arc<Sleep>>>);

impl Queue {
    /// Puts a sleeper at the end, if the word holds what it expects.
    fn enter(&self, word: &AtomicU32, expected: u32, sleep: &Arc<Sleep>) -> bool {
        word.1.before_read();
        let mut sleepers = self.lock();
        // Relaxed: the kernel orders it by its own lock only.
        let as_expected = word.0.load(Ordering::Relaxed) == expected;
        if as_expected {
            sleepers.push_back(Arc::clone(sleep));
        }
        as_expected
    }

    /// Takes it out, woken or not: in the first case somebody has counted it.
    fn leave(&self, sleep: &Arc<Sleep>) {
        self.lock().retain(|sleeper| !Arc::ptr_eq(sleeper, sleep));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Sleep>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By the address of the word; a handful at most.
type Queues = RefCell<Vec<(usize, Arc<Queue>)>>;

loom::lazy_static! {
    // loom makes it anew in each execution.
    static ref QUEUES: Queues = RefCell::new(Vec::new());
}

loom::thread_local! {
    /// How many more shared accesses this thread may make; `None`: as many as it likes.
    static FUEL: Cell<Option<u32>> = Cell::new(None);
    /// Which thread this is, in the order of their first access.
    static INDEX: usize = THREADS.replace(THREADS.get() + 1);
}

// The threads of a model are coroutines on one thread of the machine, which therefore holds what they share.
std::thread_local! {
    static SLEEPS: Cell<Sleeps> = const { Cell::new(Sleeps::Endless) };
    static MUTATION: Cell<Option<Mutation>> = const { Cell::new(None) };
    static THREADS: Cell<usize> = const { Cell::new(0) };
    /// Whether any thread is mortal: else nobody has to look for its fuel.
    static MORTALS: Cell<bool> = const { Cell::new(false) };
}

/// Sets the rules of this execution. The main thread of a model calls it before it does anything else.
pub fn begin(sleeps: Sleeps) {
    SLEEPS.set(sleeps);
    MUTATION.set(None);
    THREADS.set(0);
    MORTALS.set(false);
    // Made before anybody else runs, so that nobody learns anything of others by making it.
    QUEUES.borrow_mut().clear();
}

/// What can be taken away from under the algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Fences do nothing.
    NoFences,
    /// All accesses are relaxed; fences stand.
    NoOrder,
}

/// Takes this away for the rest of this execution.
pub fn mutate(mutation: Mutation) {
    MUTATION.set(Some(mutation));
}

/// The order in which this access is made under the mutations of this run.
#[track_caller]
fn mutated(order: Ordering) -> Ordering {
    /// File and line from the environment.
    static RELAX: OnceLock<Option<(String, u32)>> = OnceLock::new();
    let relax = RELAX.get_or_init(|| {
        let wish = std::env::var("MODEL_RELAX").ok()?;
        let (file, line) = wish.split_once(':')?;
        Some((file.into(), line.parse().ok()?))
    });
    let caller = Location::caller();
    let here = relax.as_ref().is_some_and(|(file, line)| {
        *line == caller.line() && caller.file().ends_with(file.as_str())
    });
    if here || MUTATION.get() == Some(Mutation::NoOrder) { Ordering::Relaxed } else { order }
}

/// The payload with which a dying thread unwinds.
struct Death;

/// Runs `operation`, which dies instead of its access number `fuel` + 1. `None`: it died. Its stores until then
/// stand, and none came after.
pub fn mortal<R>(fuel: u32, operation: impl FnOnce() -> R) -> Option<R> {
    MORTALS.set(true);
    FUEL.with(|left| left.set(Some(fuel)));
    let outcome = catch_unwind(AssertUnwindSafe(operation));
    FUEL.with(|left| left.set(None));
    match outcome {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Death>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// How many more shared accesses this thread may make; `None` outside of [`mortal`].
#[must_use]
pub fn fuel_left() -> Option<u32> {
    FUEL.with(Cell::get)
}

/// Comes before every shared access. `false`: this thread is dead, the access must have no effect.
fn step() -> bool {
    // By a death, or because the model has failed: then drops must not touch it either.
    if std::thread::panicking() {
        return false;
    }
    if MORTALS.get() {
        FUEL.with(|left| match left.get() {
            None => {}
            // Without the panic hook: nothing is printed.
            Some(0) => resume_unwind(Box::new(Death)),
            Some(some) => left.set(Some(some - 1)),
        });
    }
    true
}

/// Prints what was done to which word, if that is asked for.
#[track_caller]
fn traced<W, R: core::fmt::LowerHex>(word: &W, what: &str, outcome: R) -> R {
    static TRACE: OnceLock<bool> = OnceLock::new();
    if *TRACE.get_or_init(|| std::env::var_os("MODEL_TRACE").is_some()) {
        let (place, address) = (Location::caller(), core::ptr::from_ref(word).addr() & 0xFFFF);
        let thread = loom::thread::current().id();
        std::eprintln!("{thread:?} {place} {address:#x} {what}: {outcome:#x}");
    }
    outcome
}

/// Who has read a word since it was written.
///
/// loom tries two accesses in both orders if the second one finds the first as the last of the word. Of a read
/// followed by another thread's read and then by a write it misses that the first read and the write could change
/// places. So each thread's reads of a word have an object of their own, which it touches before it reads, and whoever
/// writes touches those of all who have read. To touch is to notify a condition variable that has no waiters: for loom
/// an access of that object, which orders no memory.
#[derive(Debug)]
struct Readers {
    threads: [Condvar; loom::MAX_THREADS],
    since: Cell<u32>,
}

impl Readers {
    fn new() -> Self {
        Self { threads: core::array::from_fn(|_| Condvar::new()), since: Cell::new(0) }
    }

    fn before_read(&self) {
        let index = INDEX.with(|index| *index);
        self.threads[index].notify_one();
        self.since.set(self.since.get() | 1 << index);
    }

    fn before_write(&self) {
        let me = 1 << INDEX.with(|index| *index);
        loop {
            let others = self.since.get() & !me;
            if others == 0 {
                return;
            }
            self.since.set(self.since.get() & !(others & others.wrapping_neg()));
            self.threads[others.trailing_zeros() as usize].notify_one();
        }
    }
}

// SAFETY: the threads of a model are coroutines on one thread of the machine.
unsafe impl Sync for Readers {}

macro_rules! atomic {
    ($(#[$doc:meta])* $name:ident, $value:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(loom::sync::atomic::$name, Readers);

        impl Default for $name {
            #[track_caller]
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl $name {
            /// A word that holds `value`.
            #[track_caller]
            #[must_use]
            pub fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value), Readers::new())
            }

            fn may_read(&self) -> bool {
                let alive = step();
                if alive {
                    self.1.before_read();
                }
                alive
            }

            fn may_write(&self) -> bool {
                let alive = step();
                if alive {
                    self.1.before_write();
                }
                alive
            }

            /// The value; zero to the dead.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                if self.may_read() { traced(self, "load", self.0.load(mutated(order))) } else { 0 }
            }

            /// Replaces the value.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                if self.may_write() {
                    // Not loom's store: that may come out as older than a read-modify-write which was there before
                    // it, although nothing fits between one of those and the value that it has read.
                    self.0.swap(value, mutated(order));
                    traced(self, "store", value);
                }
            }

            /// Replaces the value and gives the last one; zero to the dead.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                if self.may_write() { traced(self, "swap, was", self.0.swap(value, mutated(order))) } else { 0 }
            }

            /// Replaces the value if it is `old`.
            ///
            /// # Errors
            /// The value, if it is another; zero to the dead.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                if !self.may_write() {
                    return Err(0);
                }
                match self.0.compare_exchange(old, new, mutated(success), mutated(failure)) {
                    Ok(_) => {
                        traced(self, "exchange, now", new);
                        Ok(old)
                    }
                    Err(now) => Err(traced(self, "no exchange, is", now)),
                }
            }

            /// The same; loom never fails spuriously.
            ///
            /// # Errors
            /// As [`compare_exchange`](Self::compare_exchange).
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(old, new, success, failure)
            }

            /// Adds, and gives the value before; zero to the dead.
            #[track_caller]
            pub fn fetch_add(&self, more: $value, order: Ordering) -> $value {
                if self.may_write() { traced(self, "fetch_add, was", self.0.fetch_add(more, mutated(order))) } else { 0 }
            }

            /// Subtracts, and gives the value before; zero to the dead.
            #[track_caller]
            pub fn fetch_sub(&self, less: $value, order: Ordering) -> $value {
                if self.may_write() { traced(self, "fetch_sub, was", self.0.fetch_sub(less, mutated(order))) } else { 0 }
            }

            /// Sets bits, and gives the value before; zero to the dead.
            #[track_caller]
            pub fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                if self.may_write() { traced(self, "fetch_or, was", self.0.fetch_or(bits, mutated(order))) } else { 0 }
            }

            /// Keeps bits, and gives the value before; zero to the dead.
            #[track_caller]
            pub fn fetch_and(&self, bits: $value, order: Ordering) -> $value {
                if self.may_write() { traced(self, "fetch_and, was", self.0.fetch_and(bits, mutated(order))) } else { 0 }
            }
        }
    };
}

atomic! {
    /// 32 bits that processes of the model share.
    AtomicU32, u32
}
atomic! {
    /// 64 bits that processes of the model share.
    AtomicU64, u64
}

/// A fence; counts as an access.
pub fn fence(order: Ordering) {
    if step() && MUTATION.get() != Some(Mutation::NoFences) {
        loom::sync::atomic::fence(order);
    }
}

/// The queue of those who sleep on `word`.
fn queue(word: &AtomicU32) -> Arc<Queue> {
    let address = core::ptr::from_ref(word).addr();
    let mut queues = QUEUES.borrow_mut();
    if let Some((_, queue)) = queues.iter().find(|(key, _)| *key == address) {
        return Arc::clone(queue);
    }
    let queue = Arc::new(Queue(Mutex::new(VecDeque::new())));
    queues.push((address, Arc::clone(&queue)));
    queue
}

pub(super) fn futex_wait(word: &AtomicU32, expected: u32) {
    futex_wait_any(&[(Scope::Shared, word, expected)]);
}

pub(super) fn futex_wait_any(words: &[Expected<'_>]) -> bool {
    if !step() {
        return true;
    }
    let sleep = Sleep::new();
    let entered = words.iter().take_while(|(_, word, expected)| {
        traced(*word, "sleeps on", *expected);
        queue(word).enter(word, *expected, &sleep)
    });
    let entered = entered.count();
    if entered == words.len() {
        sleep.sleep();
    }
    // Who was woken on the only word has been taken out.
    if words.len() > 1 || SLEEPS.get() == Sleeps::Sliced {
        for (_, word, _) in &words[..entered] {
            queue(word).leave(&sleep);
        }
    }
    true
}

pub(super) fn futex_wake(word: &AtomicU32, most: u32) -> usize {
    if !step() {
        return 0;
    }
    let queue = queue(word);
    let mut sleepers = queue.lock();
    let count = sleepers.len().min(most as usize);
    for sleeper in sleepers.drain(..count) {
        sleeper.wake();
    }
    traced(word, "wakes", count)
}
