//! The crew's own thread, which runs callbacks, and collects while somebody wants that though nobody waits.
//!
//! It is made when it is needed first, and ends when the crew is over and there is nothing more to run; the last thing that it does is to
//! say so, when it has let go of the crew. Asked to attend it sleeps where answers come in, else at its own door.
//!
//! Where there is no thread to be had a job runs on the thread that brings it, which holds no lock of this library then.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::ThreadId;

use procession_core::sys::Deadline;

use super::{ProcessCrew, lock};
use crate::task::{Crew, PoolError};

type Job = Box<dyn FnOnce() + Send>;

/// What is shared with it; it outlives the crew by a moment.
pub(super) type Courier = Arc<Door>;

#[derive(Default)]
pub(super) struct Door {
    desk: Mutex<Desk>,
    changed: Condvar,
    /// Something is on the desk, or the crew is over: read without the lock.
    called: AtomicBool,
}

#[derive(Default)]
struct Desk {
    jobs: VecDeque<Job>,
    /// There is a thread, or was: it lets nobody in any more.
    hired: bool,
    /// Which, from its first moment to its last.
    thread: Option<ThreadId>,
    attends: bool,
    /// The crew is over.
    closed: bool,
}

impl ProcessCrew {
    /// Has the courier run this; without one it runs here.
    pub(super) fn send(&self, job: Job) {
        let mut desk = lock(&self.courier.desk);
        if desk.closed && !desk.hired || !self.is_here() || !self.hire(&mut desk) {
            drop(desk);
            return run(job);
        }
        desk.jobs.push_back(job);
        drop(desk);
        self.call();
    }

    /// From now on the courier collects.
    pub(super) fn have_it_attend(&self) {
        let mut desk = lock(&self.courier.desk);
        if !desk.attends && self.is_here() {
            desk.attends = true;
            self.hire(&mut desk);
            drop(desk);
            self.courier.changed.notify_all();
        }
    }

    /// The crew is over: the courier leaves when it has run everything.
    pub(super) fn dismiss_courier(&self) {
        lock(&self.courier.desk).closed = true;
        self.call();
    }

    fn call(&self) {
        // Release: what lies on the desk; read where the courier looks whether to go on sleeping.
        self.courier.called.store(true, Ordering::Release);
        // The lock: who is about to sleep sleeps, or looks again.
        drop(lock(&self.courier.desk));
        self.courier.changed.notify_all();
        self.board.answers().notify_all(self.me);
    }

    /// Whether there is a thread, or is one now.
    fn hire(&self, desk: &mut Desk) -> bool {
        if !desk.hired
            && !desk.closed
            && let Some(crew) = self.itself.upgrade()
        {
            let life = move || {
                let door = crew.courier.clone();
                crew.carry();
                drop(crew);
                lock(&door.desk).thread = None;
                door.changed.notify_all();
            };
            let thread = std::thread::Builder::new().name("pool courier".into()).spawn(life);
            desk.thread = thread.ok().map(|thread| thread.thread().id());
            desk.hired = desk.thread.is_some();
        }
        desk.hired
    }

    /// Waits until the courier of a crew that is over has run everything and let go of the crew. It does not wait for itself.
    ///
    /// # Errors
    /// `TimedOut`.
    pub(super) fn see_courier_off(&self, deadline: Deadline) -> Result<(), PoolError> {
        let me = std::thread::current().id();
        let mut desk = lock(&self.courier.desk);
        while desk.thread.is_some_and(|thread| thread != me) {
            desk = match deadline.left() {
                None => self.courier.changed.wait(desk).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Err(PoolError::TimedOut),
                Some(left) => {
                    let waited = self.courier.changed.wait_timeout(desk, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Ok(())
    }

    /// What the courier does.
    fn carry(&self) {
        let courier = &self.courier;
        loop {
            let mut desk = lock(&courier.desk);
            // Relaxed: whoever calls next does so under or after this lock, and sets it again.
            courier.called.store(false, Ordering::Relaxed);
            if let Some(job) = desk.jobs.pop_front() {
                drop(desk);
                run(job);
            } else if desk.closed {
                desk.hired = false;
                return;
            } else if desk.attends && !self.is_finished() {
                drop(desk);
                // Acquire meets the Release in `call`.
                self.help(None, Deadline::NEVER, &mut || courier.called.load(Ordering::Acquire));
            } else {
                drop(courier.changed.wait(desk).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

/// A job that panics was reported by the panic hook, and harms nobody.
fn run(job: Job) {
    let _ = catch_unwind(AssertUnwindSafe(job));
}
