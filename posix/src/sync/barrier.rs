//! A barrier that travels, with its action.

use std::fmt;
use std::time::Duration;

use procession_core::sync::{self as core, BarrierPlaceError};
use procession_core::sys::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};

use super::shared::Shared;
use super::{BarrierError, Broken};
use crate::memory::{Arena, HandleError, MemoryError, arena, decode, kind, refuse};
use crate::process::{CallError, Entry, Target};

/// Why a barrier cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierCreateError {
    /// No room, or no shared memory at all.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Not what a barrier can be.
    #[error(transparent)]
    Place(#[from] BarrierPlaceError),
}

/// A point at which a fixed number of parties wait for each other, again and again: as `multiprocessing.Barrier`.
///
/// Clone it, pass it to a process, send it through a queue: every copy is the same barrier. In memory it is 128 bytes and 16
/// for each party. A party is a thread; its process may have several.
///
/// Each [`wait`](Self::wait) returns when as many have arrived as there are parties, with an index that no other has: 0
/// for the first to arrive. What a party wrote before it came, all can read after it. To arrive is one compare-and-swap; the
/// last one wakes who sleeps, with one system call.
///
/// It breaks for all at once, those who wait and those who come, when
///
/// - one of them waits past its deadline, or somebody [aborts](Self::abort) it;
/// - the [action](Self::with_action) fails, or its process dies in it;
/// - a process dies that has arrived, or that took part the last time and did not end by returning from its target (by a
///   signal, a panic, an exit code other than 0). That is noticed while somebody waits: within some milliseconds, or a
///   quarter of a second for who has waited long.
///
/// Processes that ended in order break nothing: others may come in their place. One that dies before it ever arrived is
/// known to nobody: give the others a [timeout](Self::with_timeout). [`reset`](Self::reset) makes a broken barrier new.
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::Barrier;
///
/// fn stage(barrier: Barrier) -> procession_posix::Result<usize> {
///     barrier.wait()?;
///     // All three are here now.
///     Ok(barrier.wait()?)
/// }
///
/// let barrier = Barrier::new(3)?;
/// let children: Vec<_> =
///     (0..3).map(|_| Process::new(stage, (barrier.clone(),)).start()).collect::<Result<_, _>>()?;
/// let mut indices = Vec::new();
/// for child in children {
///     indices.push(child.join()??);
/// }
/// indices.sort();
/// assert_eq!(indices, [0, 1, 2]);
/// # Ok::<(), procession_posix::Error>(())
/// ```
///
/// ```
/// use procession_posix::process::Process;
/// use procession_posix::sync::{Barrier, BarrierError, Reason};
///
/// fn die(barrier: Barrier) {
///     barrier.wait().unwrap();
///     std::process::abort();
/// }
///
/// let barrier = Barrier::new(2)?;
/// let child = Process::new(die, (barrier.clone(),)).start()?;
/// barrier.wait()?;
/// // The other does not come again: known at once.
/// let Err(BarrierError::Broken(broken)) = barrier.wait() else { panic!() };
/// assert_eq!(broken.reason, Reason::Died);
/// assert!(child.join().is_err());
/// barrier.reset()?;
/// assert!(!barrier.broken());
/// # Ok::<(), procession_posix::Error>(())
/// ```
#[derive(Clone)]
pub struct Barrier {
    shared: Shared<core::Barrier<'static>>,
    action: Option<&'static Entry>,
    timeout: Option<Duration>,
}

/// What waiting gives: the index, from 0 for the first that arrived. The error of an action is a text, since it may have
/// come with the handle.
type Waited = Result<usize, BarrierError<String>>;

impl Barrier {
    /// A barrier for so many parties: 1 to 4095.
    ///
    /// # Errors
    /// `Place` if they are none or too many; `Memory` if there is no shared memory to be had.
    pub fn new(parties: u32) -> Result<Self, BarrierCreateError> {
        Self::new_in(arena()?, parties)
    }

    /// The same in this memory.
    pub(crate) fn new_in(arena: &'static Arena, parties: u32) -> Result<Self, BarrierCreateError> {
        let bytes = core::Barrier::bytes_for(parties)?;
        let create = |place| Ok::<_, BarrierCreateError>(core::Barrier::create(place, parties)?);
        let shared = Shared::create(arena, kind::BARRIER, bytes, create)?;
        Ok(Self { shared, action: None, timeout: None })
    }

    /// With an action, which the last party to arrive runs before anybody passes. It is a [`Target`] without arguments: a function, or
    /// a closure that captures nothing. It belongs to this handle and its copies, wherever they are sent.
    ///
    /// An action that returns an error, or panics, breaks the barrier: whoever ran it gets
    /// [`BarrierError::Action`] (or the panic), all others [`BarrierError::Broken`]. It must not wait at the barrier itself.
    ///
    /// ```
    /// use procession_posix::sync::{Barrier, BarrierError};
    ///
    /// fn check_disks() -> Result<(), String> {
    ///     Err("disk 3 is full".into())
    /// }
    ///
    /// let barrier = Barrier::new(1)?.with_action(check_disks);
    /// assert_eq!(barrier.wait(), Err(BarrierError::Action("disk 3 is full".into())));
    /// assert!(barrier.broken());
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    #[must_use]
    pub fn with_action<F: Target<(), Output = Result<(), String>>>(self, action: F) -> Self {
        // The entry stands for the function; there is a value of it.
        let _ = action;
        Self { action: Some(F::ENTRY), ..self }
    }

    /// With a timeout for each [`wait`](Self::wait) of this handle and its copies, wherever they are sent.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Waits for the other parties: as long as it takes, or for the handle's [timeout](Self::with_timeout).
    ///
    /// # Errors
    /// [`BarrierError::Broken`]; `TimedOut`: then this call has broken it; `Action` if this call ran the action and
    /// it failed; `Corrupt`; `Join`.
    pub fn wait(&self) -> Waited {
        self.wait_until(Deadline::after_option(self.timeout))
    }

    /// Passes if all others are there already; leaves everything as it is if not.
    ///
    /// # Errors
    /// [`BarrierError::WouldBlock`] if others are missing; otherwise as [`wait`](Self::wait).
    pub fn try_wait(&self) -> Waited {
        match self.action {
            None => self.shared.object.try_wait(self.shared.me).map_err(never),
            Some(entry) => self.shared.object.try_wait_with(self.shared.me, || run(entry)),
        }
    }

    /// Waits for the other parties for at most `timeout`, whatever the handle's is. With zero, it passes if it is
    /// the last one, and breaks the barrier if not.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Waited {
        self.wait_until(Deadline::after(timeout))
    }

    /// Waits for the other parties until `deadline`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_until(&self, deadline: Deadline) -> Waited {
        match self.action {
            None => self.shared.object.wait_until(self.shared.me, deadline).map_err(never),
            Some(entry) => self.shared.object.wait_with(self.shared.me, deadline, || run(entry)),
        }
    }

    /// Waits with an action of this call, in place of the handle's: a closure that may capture what it likes, and fail with any
    /// error. The last to arrive runs its own.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// ```
    /// use procession_posix::sync::{Barrier, Deadline};
    ///
    /// let barrier = Barrier::new(1)?;
    /// let mut rounds = 0;
    /// barrier.wait_with(Deadline::NEVER, || {
    ///     rounds += 1;
    ///     Ok::<_, String>(())
    /// })?;
    /// assert_eq!(rounds, 1);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn wait_with<E>(
        &self,
        deadline: Deadline,
        action: impl FnOnce() -> Result<(), E>,
    ) -> Result<usize, BarrierError<E>> {
        self.shared.object.wait_with(self.shared.me, deadline, action)
    }

    /// Breaks it, for all who wait and all who come. Nothing changes if it is broken already.
    ///
    /// # Errors
    /// `Corrupt`; `Join`.
    pub fn abort(&self) -> Result<(), BarrierError> {
        self.shared.object.abort(self.shared.me)
    }

    /// Makes the barrier new: nobody has arrived, and nobody is expected. Those who wait get [`BarrierError::Broken`].
    ///
    /// # Errors
    /// `Corrupt`; `Join`.
    pub fn reset(&self) -> Result<(), BarrierError> {
        self.shared.object.reset(self.shared.me)
    }

    /// Whether it is broken. A load.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.shared.object.broken()
    }

    /// Why it is broken, and by which process; `None` if it is not.
    #[must_use]
    pub fn breach(&self) -> Option<Broken> {
        self.shared.object.breach(self.shared.me)
    }

    /// How many have to arrive.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.shared.object.parties()
    }

    /// How many wait at it now; 0 if it is broken. Some loads.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.shared.object.n_waiting()
    }
}

/// Runs the action of a handle.
fn run(entry: &'static Entry) -> Result<(), String> {
    let answer = match entry.call(&[]) {
        Ok(answer) | Err(CallError::Failed(answer)) => answer,
        Err(CallError::Arguments(what) | CallError::Result(what)) => return Err(what),
    };
    decode::<Result<(), String>>(&answer).map_err(|error| error.to_string())?
}

/// Where there is no action that could fail.
fn never(error: BarrierError) -> BarrierError<String> {
    error.map_action(|never| match never {})
}

/// How many wait or why it is broken, and who sleeps at it since when: as of about now.
impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sleepers: Vec<_> = self.shared.object.event().sleepers(self.shared.me).collect();
        let mut f = f.debug_struct("Barrier");
        f.field("parties", &self.parties());
        match self.breach() {
            Some(broken) => f.field("broken", &broken),
            None => f.field("waiting", &self.n_waiting()),
        };
        f.field("waiters", &sleepers).finish()
    }
}

/// An action on the way: where it lies in the program, and what its type is called.
#[derive(Serialize, Deserialize)]
struct Action {
    offset: u64,
    type_name: String,
}

impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// The handle, as it serializes itself.
        struct Object<'a>(&'a Shared<core::Barrier<'static>>);
        impl Serialize for Object<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        let action = match self.action {
            None => None,
            Some(entry) => Some(Action {
                offset: entry.offset().ok_or_else(|| {
                    S::Error::custom("the barrier's action is not part of the program itself")
                })?,
                type_name: entry.type_name().into(),
            }),
        };
        (Object(&self.shared), action, self.timeout).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object(Shared<core::Barrier<'static>>);
        impl<'de> Deserialize<'de> for Object {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Shared::attach(deserializer, kind::BARRIER, core::Barrier::attach).map(Self)
            }
        }

        let (Object(shared), action, timeout) =
            <(Object, Option<Action>, Option<Duration>)>::deserialize(deserializer)?;
        let action = match action {
            None => None,
            Some(Action { offset, type_name }) => {
                Some(Entry::find(offset, &type_name).ok_or_else(|| {
                    refuse(HandleError::Content(format!("{type_name} is no function here")))
                })?)
            }
        };
        Ok(Self { shared, action, timeout })
    }
}
