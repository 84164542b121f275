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
//! - **Fences.** loom treats sequentially consistent accesses as AcqRel ones and models only fences fully, so both
//!   halves of the asymmetric fence are full fences here (`sys::fence`).
//! - **Mutations.** [`mutate`] takes away what the algorithms rely on: fences, or the order of accesses. A model
//!   that does not notice proves nothing. `MODEL_RELAX=lock.rs:217` in the environment relaxes the accesses of that
//!   one line: which orderings do the models defend?
//!
//! Words that a process keeps for itself (its tag, its patience) are the processor's own atomics: others cannot
//! see them, so they cost no fuel and make no interleavings.
//!
//! A model calls [`begin`] first, in each execution.

use core::cell::{Cell, RefCell};
use core::panic::Location;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::string::String;
use std::sync::{Arc, OnceLock, PoisonError};
use std::vec::Vec;

use loom::sync::{Mutex, MutexGuard};
use loom::thread::Thread;

/// How a sleep on a futex ends in this model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleeps {
    /// By a wake alone: a lost one is a deadlock, which loom reports.
    Endless,
    /// By a wake, or by itself as soon as another thread has run.
    Sliced,
}

/// What the threads of one execution share besides the memory under test.
struct World {
    sleeps: Cell<Sleeps>,
    mutation: Cell<Option<Mutation>>,
    /// By the address of the word; a handful at most.
    queues: RefCell<Vec<(usize, Arc<Queue>)>>,
}

/// Who sleeps on one word, longest first.
struct Queue(Mutex<VecDeque<Thread>>);

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Thread>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

loom::lazy_static! {
    // loom makes it anew in each execution.
    static ref WORLD: World = World {
        sleeps: Cell::new(Sleeps::Endless),
        mutation: Cell::new(None),
        queues: RefCell::new(Vec::new()),
    };
}

loom::thread_local! {
    /// How many more shared accesses this thread may make; `None`: as many as it likes.
    static FUEL: Cell<Option<u32>> = Cell::new(None);
}

/// Sets the rules of this execution. The main thread of a model calls it before it spawns any other.
pub fn begin(sleeps: Sleeps) {
    WORLD.sleeps.set(sleeps);
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
    WORLD.mutation.set(Some(mutation));
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
    if here || WORLD.mutation.get() == Some(Mutation::NoOrder) { Ordering::Relaxed } else { order }
}

/// The payload with which a dying thread unwinds.
struct Death;

/// Runs `operation`, which dies instead of its access number `fuel` + 1. `None`: it died. Its stores until then
/// stand, and none came after.
pub fn mortal<R>(fuel: u32, operation: impl FnOnce() -> R) -> Option<R> {
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
    FUEL.with(|left| match left.get() {
        None => {}
        // Without the panic hook: nothing is printed.
        Some(0) => resume_unwind(Box::new(Death)),
        Some(some) => left.set(Some(some - 1)),
    });
    true
}

macro_rules! atomic {
    ($(#[$doc:meta])* $name:ident, $value:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(loom::sync::atomic::$name);

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
                Self(loom::sync::atomic::$name::new(value))
            }

            /// The value; zero to the dead.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                if step() { self.0.load(mutated(order)) } else { 0 }
            }

            /// Replaces the value.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                if step() {
                    self.0.store(value, mutated(order));
                }
            }

            /// Replaces the value and gives the last one; zero to the dead.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                if step() { self.0.swap(value, mutated(order)) } else { 0 }
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
                if !step() {
                    return Err(0);
                }
                self.0.compare_exchange(old, new, mutated(success), mutated(failure))
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
                if step() { self.0.fetch_add(more, mutated(order)) } else { 0 }
            }

            /// Subtracts, and gives the value before; zero to the dead.
            #[track_caller]
            pub fn fetch_sub(&self, less: $value, order: Ordering) -> $value {
                if step() { self.0.fetch_sub(less, mutated(order)) } else { 0 }
            }

            /// Sets bits, and gives the value before; zero to the dead.
            #[track_caller]
            pub fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                if step() { self.0.fetch_or(bits, mutated(order)) } else { 0 }
            }

            /// Keeps bits, and gives the value before; zero to the dead.
            #[track_caller]
            pub fn fetch_and(&self, bits: $value, order: Ordering) -> $value {
                if step() { self.0.fetch_and(bits, mutated(order)) } else { 0 }
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
    if step() && WORLD.mutation.get() != Some(Mutation::NoFences) {
        loom::sync::atomic::fence(order);
    }
}

/// The queue of those who sleep on `word`.
fn queue(word: &AtomicU32) -> Arc<Queue> {
    let address = core::ptr::from_ref(word).addr();
    let mut queues = WORLD.queues.borrow_mut();
    if let Some((_, queue)) = queues.iter().find(|(key, _)| *key == address) {
        return Arc::clone(queue);
    }
    let queue = Arc::new(Queue(Mutex::new(VecDeque::new())));
    queues.push((address, Arc::clone(&queue)));
    queue
}

pub(super) fn futex_wait(word: &AtomicU32, expected: u32) {
    if !step() {
        return;
    }
    let queue = queue(word);
    let me = loom::thread::current();
    let mut sleepers = queue.lock();
    // Relaxed: the kernel orders it by its own lock only.
    if word.0.load(Ordering::Relaxed) != expected {
        return;
    }
    sleepers.push_back(me.clone());
    // Nothing comes between the unlock and the sleep: neither is a point where loom switches.
    drop(sleepers);
    match WORLD.sleeps.get() {
        Sleeps::Endless => loom::thread::park(),
        Sleeps::Sliced => {
            loom::thread::yield_now();
            // Woken meanwhile or not: in the first case somebody has counted this thread.
            queue.lock().retain(|sleeper| sleeper.id() != me.id());
        }
    }
}

pub(super) fn futex_wake(word: &AtomicU32, most: u32) -> usize {
    if !step() {
        return 0;
    }
    let queue = queue(word);
    let mut sleepers = queue.lock();
    let count = sleepers.len().min(most as usize);
    for sleeper in sleepers.drain(..count) {
        if WORLD.sleeps.get() == Sleeps::Endless {
            sleeper.unpark();
        }
    }
    count
}
