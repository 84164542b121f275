//! The thread that waits for all objects somebody has asked about.
//!
//! ```text
//! request   WATCHED → READY     by the watcher: the descriptor becomes readable
//!           READY → WATCHED     by rearming
//! watcher   none → running      by the first request
//!           running → none      by itself, under the lock of the list, when no request is left
//! ```
//!
//! It sleeps on the objects and on an event of its own, `changed`, by which it learns that the list has changed. The
//! thread and the list belong to one process: a forked child starts with neither.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_core::sync::Event;
use procession_core::sys::Deadline;
use procession_core::wait::wait_any;

use crate::sync::Waitable;

/// One object whose readiness somebody wants to know.
pub(super) struct Request {
    object: Box<dyn Waitable + Send + Sync>,
    descriptor: OwnedFd,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.descriptor.fmt(f)
    }
}

impl Request {
    pub(super) fn new(object: Box<dyn Waitable + Send + Sync>, descriptor: OwnedFd) -> Self {
        Self { object, descriptor }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Makes the descriptor readable if the object is ready.
    fn tell(&self) -> bool {
        let ready = self.object.source().is_ready(self.object.me(), true);
        if ready {
            // Full after 2⁶⁴ of them: it is readable then, too.
            let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
        }
        ready
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

/// Watches a request, unless it is being watched.
pub(super) fn watch(request: &Arc<Request>) -> io::Result<()> {
    let mut watched = watched();
    if !watched.requests.iter().any(|other| Arc::ptr_eq(other, request)) {
        watched.requests.push(Arc::clone(request));
    }
    if !watched.running {
        let builder = std::thread::Builder::new().name("readiness".into());
        if let Err(error) = builder.spawn(run) {
            watched.requests.retain(|other| !Arc::ptr_eq(other, request));
            return Err(error);
        }
        watched.running = true;
    }
    drop(watched);
    CHANGED.set(request.object.me());
    Ok(())
}

/// Watches it no longer.
pub(super) fn forget(request: &Arc<Request>) {
    let mut watched = watched();
    let before = watched.requests.len();
    watched.requests.retain(|other| !Arc::ptr_eq(other, request));
    let changed = watched.requests.len() != before;
    drop(watched);
    if changed {
        CHANGED.set(request.object.me());
    }
}

fn run() {
    loop {
        CHANGED.clear();
        let requests = {
            let mut watched = watched();
            watched.requests.retain(|request| !request.tell());
            if watched.requests.is_empty() {
                watched.running = false;
                return;
            }
            watched.requests.clone()
        };
        let mut objects: Vec<&dyn procession_core::wait::Waitable> = vec![&CHANGED];
        objects.extend(requests.iter().map(|request| request.object.source()));
        wait_any(requests[0].object.me(), Deadline::NEVER, &objects);
    }
}
