//! Waiting for any of several things: objects in shared memory, and descriptors.
//!
//! ```text
//! memory alone        the thread sleeps on all of it at once; no descriptor
//! descriptors alone   poll
//! both                look at all, spin on the memory; then poll the descriptors and an alarm, which the
//!                     watcher sets off when something in memory is ready
//! ```
//!
//! Waiting cannot fail: what is waited for is readable, so where the system has no descriptor or no thread to give, both are
//! looked at each millisecond.

mod alarm;
mod descriptors;
mod watcher;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::sys::spin::Pace;
use procession_core::wait as core;
use rustix::event::{PollFd, PollFlags};

pub use descriptors::Writable;
pub(crate) use watcher::{Request, descriptor, forget, watch};

/// What can be waited for together with others. What being ready means, each says:
///
/// | object | ready when |
/// |---|---|
/// | [`Queue`](crate::channel::Queue), [`JoinableQueue`](crate::channel::JoinableQueue), [`PriorityQueue`](crate::channel::PriorityQueue), [`LifoQueue`](crate::channel::LifoQueue), [`SimpleQueue`](crate::channel::SimpleQueue), [`PodQueue`](crate::channel::PodQueue), [`BufferQueue`](crate::channel::BufferQueue) | there is something to get, or it is closed and drained |
/// | `room()` of a queue, as [`Queue::room`](crate::channel::Queue::room) | there is room to put something, or it is closed |
/// | [`Subscriber`](crate::channel::Subscriber), [its news](crate::channel::Subscriber::news) | there is an object to receive, or the broadcast is closed |
/// | [`Receiver`](crate::channel::Receiver), [`Connection`](crate::channel::Connection) | there is a message, or nobody living has the other end |
/// | [`Sender`](crate::channel::Sender), a [`Connection`](crate::channel::Connection) that only sends | there is room for a message, or nobody living has the other end |
/// | [`Lock`](crate::sync::Lock), [`Mutex`](crate::sync::Mutex) | it is free, or its holder is dead |
/// | [`RLock`](crate::sync::RLock) | the same, or the calling thread holds it |
/// | [`Event`](crate::sync::Event) | it is set |
/// | [`Semaphore`](crate::sync::Semaphore), [`BoundedSemaphore`](crate::sync::BoundedSemaphore) | a unit is free, or the holder of one is dead |
/// | [`Latch`](crate::sync::Latch) | it is open, or broken |
/// | [`RwLock`](crate::sync::RwLock), [`RwData`](crate::sync::RwData) | a reader would be let in, or the writer that keeps it out is dead |
/// | [`Once`](crate::sync::Once), [`OnceCell`](crate::sync::OnceCell) | it has been done; the value is set |
/// | [`Child`](crate::process::Child) | the process is gone |
/// | what [threads](crate::thread) share | as what processes share |
/// | [`thread::Child`](crate::thread::Child) | its function has returned, or panicked |
/// | a socket, a pipe, a file, `OwnedFd`, `BorrowedFd` | it can be read without waiting: there are bytes or a connection, its end has come, or it has failed |
/// | [`Writable`] of one of those | it can be written without waiting, or it has failed |
///
/// Any other descriptor can be waited for as its [`as_fd`](std::os::fd::AsFd::as_fd). Damage is readiness, too: to take the object says so.
pub trait Waitable: sealed::Awaited {}

impl<T: sealed::Awaited + ?Sized> Waitable for T {}

/// What lies in shared memory and can be waited for: everything that is [`Waitable`], but for descriptors.
pub trait InMemory: Waitable + sealed::Memory {}

impl<T: Waitable + sealed::Memory + ?Sized> InMemory for T {}

pub(crate) mod sealed {
    use super::{BorrowedFd, Member, PollFlags, core};

    /// Where a handle's object is, and who looks at it.
    pub trait Source {
        fn source(&self) -> &dyn core::Waitable;
        fn me(&self) -> Member<'static>;
    }

    /// A handle that a thread can keep a copy of.
    pub trait Memory: Source {
        fn keep(&self) -> Box<dyn Source + Send + Sync>;
    }

    impl<T: Source + Clone + Send + Sync + 'static> Memory for T {
        fn keep(&self) -> Box<dyn Source + Send + Sync> {
            Box::new(self.clone())
        }
    }

    /// Some lie in memory that others share, some in memory of this process: each is looked at by its own member.
    impl core::Waitable for &(dyn Memory + '_) {
        fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
            self.source().is_ready(me, ask)
        }

        fn sleepers(&self) -> &core::Eventcount {
            self.source().sleepers()
        }

        fn member<'a>(&'a self, _: Member<'a>) -> Member<'a> {
            self.me()
        }
    }

    /// What is looked at.
    pub enum Place<'a> {
        Memory(&'a dyn Memory),
        Descriptor(BorrowedFd<'a>, PollFlags),
    }

    pub trait Awaited {
        fn place(&self) -> Place<'_>;
    }

    impl<T: Memory> Awaited for T {
        fn place(&self) -> Place<'_> {
            Place::Memory(self)
        }
    }
}

use alarm::Alarm;
use sealed::{Memory, Place};

/// Where there is no alarm to be had: look at the memory again after this.
const BLIND_SLICE: Duration = Duration::from_millis(1);

/// Waits until at least one of these is ready, as long as it takes: all that are ready then, by their places, in ascending order.
/// As `multiprocessing.connection.wait`.
///
/// - Being ready is news, not possession: nothing is taken. Try to take it (`get_nowait`, `try_acquire`, ...), and wait again
///   if another was faster.
/// - The same object may be among them several times, and is then ready at each of its places. The end of a stream is readiness.
/// - If there are none, it returns at once: nothing will ever come. (Python's sleeps for ever.)
/// - The death of a process that is in the way is noticed within some milliseconds, and is readiness where the table of
///   [`Waitable`] says so.
///
/// Cost: with memory alone no system call while something is ready or becomes so soon, and a few for a sleep, however many
/// objects there are (up to 128, on Linux 5.16 or later; otherwise it looks every millisecond). With descriptors alone one `poll`. With
/// both one `poll` at least; to sleep takes an eventfd for the time of the call, and this process' thread for
/// [`ready`](crate::ready), which ends by itself when nobody has needed it for a while.
///
/// ```
/// use procession_posix::channel::Queue;
/// use procession_posix::process::Process;
/// use procession_posix::wait::{wait, wait_timeout};
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
///
/// fn work(results: Queue<u64>) {
///     results.put(&42).unwrap();
/// }
///
/// let results = Queue::bounded(10)?;
/// let (mut client, server) = UnixStream::pair()?;
/// assert!(wait_timeout(&[&results, &server], Duration::ZERO).is_empty());
///
/// client.write_all(b"hello")?;
/// assert_eq!(wait(&[&results, &server]), [1]);
///
/// let worker = Process::new(work, (results.clone(),)).start()?;
/// assert_eq!(wait(&[&results])[0], 0);
/// worker.join()?;
/// assert_eq!(wait(&[&results, &server, &worker]), [0, 1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn wait(objects: &[&dyn Waitable]) -> Vec<usize> {
    wait_until(objects, Deadline::NEVER)
}

/// [`wait`] for at most `timeout`; zero looks once. Nothing is in the list if none was ready until then.
#[must_use]
pub fn wait_timeout(objects: &[&dyn Waitable], timeout: Duration) -> Vec<usize> {
    wait_until(objects, Deadline::after(timeout))
}

/// [`wait`] until `deadline`.
#[must_use]
pub fn wait_until(objects: &[&dyn Waitable], deadline: Deadline) -> Vec<usize> {
    Waits::of(objects).all(deadline)
}

/// Waits until one of these is ready, as long as it takes. Which one, by its place; of several in memory, the first that is free, before
/// those whose holders are dead. `None` at once if there are none.
///
/// As [`wait`], but for the one: for who takes one at a time. It costs less.
///
/// ```
/// use procession_posix::sync::{Event, Lock, wait_any, wait_any_timeout};
/// use std::time::Duration;
///
/// let (stop, turn) = (Event::new()?, Lock::new()?);
/// let guard = turn.acquire()?;
/// assert_eq!(wait_any_timeout(&[&stop, &turn], Duration::from_millis(5)), None);
/// std::thread::scope(|threads| {
///     threads.spawn(|| stop.set());
///     assert_eq!(wait_any(&[&stop, &turn]), Some(0));
/// });
/// drop(guard);
/// # Ok::<(), procession_posix::Error>(())
/// ```
pub fn wait_any(objects: &[&dyn Waitable]) -> Option<usize> {
    wait_any_until(objects, Deadline::NEVER)
}

/// The same for at most `timeout`; zero looks once. `None` if none was ready until then.
pub fn wait_any_timeout(objects: &[&dyn Waitable], timeout: Duration) -> Option<usize> {
    wait_any_until(objects, Deadline::after(timeout))
}

/// The same until `deadline`.
pub fn wait_any_until(objects: &[&dyn Waitable], deadline: Deadline) -> Option<usize> {
    let waits = Waits::of(objects);
    if waits.polls.is_empty() {
        return waits.any_in_memory(deadline);
    }
    waits.all(deadline).first().copied()
}

/// The objects of one call, each with its place in the caller's list.
struct Waits<'a> {
    memory: Vec<(usize, &'a dyn Memory)>,
    places: Vec<usize>,
    polls: Vec<PollFd<'a>>,
}

impl<'a> Waits<'a> {
    fn of(objects: &[&'a dyn Waitable]) -> Self {
        let mut waits = Self { memory: Vec::new(), places: Vec::new(), polls: Vec::new() };
        for (place, object) in objects.iter().enumerate() {
            match object.place() {
                Place::Memory(memory) => waits.memory.push((place, memory)),
                Place::Descriptor(descriptor, events) => {
                    waits.places.push(place);
                    waits.polls.push(PollFd::from_borrowed_fd(descriptor, events));
                }
            }
        }
        waits
    }

    /// All that are ready, once any is.
    fn all(mut self, deadline: Deadline) -> Vec<usize> {
        match (self.memory.as_slice(), self.polls.as_mut_slice()) {
            ([], []) => Vec::new(),
            ([], polls) => {
                descriptors::poll_until(polls, deadline);
                self.ready(&|_| false)
            }
            (_, []) => match self.any_in_memory(deadline) {
                Some(found) => self.ready(&|index| index == found),
                None => Vec::new(),
            },
            _ => self.mixed(deadline),
        }
    }

    /// Which object in memory is ready, by its place in `memory`.
    fn any_in_memory(&self, deadline: Deadline) -> Option<usize> {
        let (_, first) = self.memory.first()?;
        let sources: Vec<&dyn core::Waitable> =
            self.memory.iter().map(|(_, object)| object as &dyn core::Waitable).collect();
        core::wait_any(first.me(), deadline, &sources)
    }

    /// All that are ready now: descriptors as polled last; objects in memory that are `known` to be, and those that a look
    /// finds so. Whether a dead owner is in the way of those is asked as often as by tries.
    fn ready(&self, known: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let mut ready = Vec::new();
        for (index, (place, object)) in self.memory.iter().enumerate() {
            let (source, me) = (object.source(), object.me());
            if known(index) || source.is_ready(me, me.may_ask(source.sleepers())) {
                ready.push(*place);
            }
        }
        let polled = self.places.iter().zip(&self.polls);
        ready.extend(polled.filter(|(_, poll)| !poll.revents().is_empty()).map(|(place, _)| place));
        ready.sort_unstable();
        ready
    }

    /// All that are ready at this moment.
    fn look(&mut self) -> Vec<usize> {
        descriptors::poll_until(&mut self.polls, Deadline::NOW);
        self.ready(&|_| false)
    }

    /// Waits for both kinds.
    fn mixed(mut self, deadline: Deadline) -> Vec<usize> {
        let ready = self.look();
        if !ready.is_empty() || deadline.is_past() {
            return ready;
        }
        let is_ready =
            |(_, object): &(_, &dyn Memory)| object.source().is_ready(object.me(), false);
        let patience = self.memory[0].1.me().patience();
        let spun = patience.spin(Pace::Polite, || self.memory.iter().any(is_ready).then_some(()));
        if spun.is_some() {
            let ready = self.look();
            if !ready.is_empty() {
                return ready;
            }
        }
        self.sleep(deadline)
    }

    #[cold]
    fn sleep(self, deadline: Deadline) -> Vec<usize> {
        let alarm = Alarm::set(self.memory.iter().map(|(_, object)| *object)).ok();
        let mut waits: Waits<'_> = self;
        // The last of the descriptors, and none of the caller's: it has no place.
        waits.polls.extend(alarm.iter().map(|alarm| PollFd::new(alarm, PollFlags::IN)));
        loop {
            let slice = if alarm.is_some() { deadline } else { deadline.sliced(BLIND_SLICE) };
            descriptors::poll_until(&mut waits.polls, slice);
            let late = deadline.is_past();
            let ready =
                waits.ready(&|index| alarm.as_ref().is_some_and(|alarm| alarm.rang_for(index)));
            if late || !ready.is_empty() {
                return ready;
            }
        }
    }
}
