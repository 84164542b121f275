//! The thread that waits for all objects in memory that somebody wants a descriptor to tell of.
//!
//! ```text
//! request   WATCHED → told      by the watcher: the descriptor becomes readable
//!           told → WATCHED      by asking again
//! watcher   none → running      by the first request
//!           running → none      by itself, under the lock of the list, when no request has come for a while
//! ```
//!
//! It sleeps on the objects and on an event of its own, `changed`, by which it learns that the list has changed. The
//! thread and the list belong to one process: a forked child starts with neither.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_core::region::{Member, Membership};
use procession_core::sync::Event;
use procession_core::sys::Deadline;
use procession_core::wait::{Eventcount, Waitable, wait_any};
use rustix::event::EventfdFlags;

use super::sealed::Source;
use crate::process::wire::above_standard;

/// The thread stays so long without a request: a program that waits again and again starts it once.
const LINGER: Duration = Duration::from_millis(500);

/// A descriptor to tell by.
pub(crate) fn descriptor() -> io::Result<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    Ok(above_standard(rustix::event::eventfd(0, flags)?))
}

/// One object whose readiness somebody wants to know.
pub(crate) struct Request {
    object: Box<dyn Source + Send + Sync>,
    descriptor: Arc<OwnedFd>,
    told: AtomicBool,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.descriptor.fmt(f)
    }
}

impl Request {
    /// Tells by this descriptor, which may tell of others, too.
    pub(crate) fn new(object: Box<dyn Source + Send + Sync>, descriptor: Arc<OwnedFd>) -> Self {
        Self { object, descriptor, told: AtomicBool::new(false) }
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Whether the descriptor has told of this object.
    pub(super) fn was_told(&self) -> bool {
        // Acquire meets the Release in `tell`: what was to be seen then is to be seen.
        self.told.load(Ordering::Acquire)
    }

    /// Makes the descriptor readable if the object is ready.
    fn tell(&self) -> bool {
        let ready = self.object.source().is_ready(self.object.me(), true);
        if ready {
            self.told.store(true, Ordering::Release);
            // Full after 2⁶⁴ of them: it is readable then, too.
            let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
        }
        ready
    }
}

impl Waitable for Request {
    fn is_ready(&self, me: Member<'_>, ask: bool) -> bool {
        self.object.source().is_ready(me, ask)
    }

    fn sleepers(&self) -> &Eventcount {
        self.object.source().sleepers()
    }

    fn member<'a>(&'a self, _: Member<'a>) -> Member<'a> {
        self.object.me()
    }
}

/// The requests of this process, and whether the thread runs.
struct Watched {
    pid: u32,
    requests: Vec<Arc<Request>>,
    running: bool,
}

static WATCHED: Mutex<Watched> =
    Mutex::new(Watched { pid: 0, requests: Vec::new(), running: false });
/// The list has changed.
static CHANGED: Event = Event::new();
/// Who looks at it: the threads of this process.
static THREADS: LazyLock<Membership<'static>> = LazyLock::new(Membership::private);

fn watched() -> MutexGuard<'static, Watched> {
    // Nothing that happens under the lock panics halfway.
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    if watched.pid != pid {
        // A forked child: what it has inherited was its parent's.
        *watched = Watched { pid, requests: Vec::new(), running: false };
    }
    watched
}

/// Watches these requests, those that it does not watch already.
pub(crate) fn watch(requests: &[Arc<Request>]) -> io::Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let mut watched = watched();
    if !watched.running {
        std::thread::Builder::new().name("readiness".into()).spawn(run)?;
        watched.running = true;
    }
    for request in requests {
        if !watched.requests.iter().any(|other| Arc::ptr_eq(other, request)) {
            watched.requests.push(Arc::clone(request));
        }
    }
    drop(watched);
    CHANGED.set(THREADS.member());
    Ok(())
}

/// Watches them no longer.
pub(crate) fn forget(requests: &[Arc<Request>]) {
    let mut watched = watched();
    let before = watched.requests.len();
    watched.requests.retain(|other| !requests.iter().any(|request| Arc::ptr_eq(other, request)));
    let changed = watched.requests.len() != before;
    drop(watched);
    if changed {
        CHANGED.set(THREADS.member());
    }
}

fn run() {
    let me = THREADS.member();
    loop {
        CHANGED.clear();
        let (told, requests) = {
            let mut watched = watched();
            // Told under the lock: who sees it and asks again finds that it is not being watched.
            let told: Vec<_> = watched.requests.extract_if(.., |request| request.tell()).collect();
            (told, watched.requests.clone())
        };
        // Dropped outside of it: these may be the last handles of their objects.
        drop(told);
        if !requests.is_empty() {
            let mut objects: Vec<&dyn Waitable> = vec![&CHANGED];
            objects.extend(requests.iter().map(|request| &**request as &dyn Waitable));
            wait_any(me, Deadline::NEVER, &objects);
        } else if !CHANGED.wait_until(me, Deadline::after(LINGER)) {
            let mut watched = watched();
            if watched.requests.is_empty() {
                watched.running = false;
                return;
            }
        }
    }
}
