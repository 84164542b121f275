//! Whether a face takes calls, and who still hands over tasks of calls that it took before.
//!
//! ```text
//! open      calls enter and leave
//! closed    nobody enters; who is inside goes on. The last one to leave closes the crew
//! joining   besides, streams are inside no more: only their owner could go on with them, and may be who joins
//! ```
//!
//! So `close` cuts off nothing that was begun, and `join` waits for all that comes to an end without its caller: maps in
//! the background, which it helps along, and maps in other threads, which end by themselves.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use procession_core::sys::Deadline;

use super::{Crew, Driven, PoolError, PoolState};

/// The gate of a face.
#[derive(Default)]
pub struct Gate {
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    closed: bool,
    joining: bool,
    calls: usize,
    streams: usize,
    background: Vec<Weak<dyn Driven>>,
}

impl Inside {
    fn is_empty(&self) -> bool {
        self.calls == 0 && (self.streams == 0 || self.joining)
    }
}

/// Somebody is inside, until this is dropped.
pub struct Pass {
    gate: Arc<Gate>,
    crew: Arc<dyn Crew>,
    stream: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether calls may enter; one that hands over a single task at once need not.
    ///
    /// # Errors
    /// `NotRunning`, `Broken`, `Forked`.
    pub fn check(&self, crew: &dyn Crew) -> Result<(), PoolError> {
        let state = self.state(crew);
        match (state, crew.cause()) {
            (PoolState::Running, _) => Ok(()),
            (_, Some(cause)) => match *cause {
                PoolError::Forked { owner } => Err(PoolError::Forked { owner }),
                _ => Err(PoolError::Broken { cause }),
            },
            (state, None) => Err(PoolError::NotRunning { state }),
        }
    }

    /// A call enters that ends by itself (or a stream, which its owner has to keep going).
    ///
    /// # Errors
    /// As of `check`.
    pub fn enter(self: &Arc<Self>, crew: Arc<dyn Crew>, stream: bool) -> Result<Pass, PoolError> {
        self.check(&*crew)?;
        let mut inside = self.lock();
        if inside.closed {
            return Err(PoolError::NotRunning { state: PoolState::Closed });
        }
        if stream {
            inside.streams += 1;
        } else {
            inside.calls += 1;
        }
        drop(inside);
        Ok(Pass { gate: self.clone(), crew, stream })
    }

    /// A call that is inside goes on in the background; who joins helps it along.
    pub fn background(&self, call: Weak<dyn Driven>) {
        let background = &mut self.lock().background;
        background.retain(|call| call.strong_count() > 0);
        background.push(call);
    }

    /// Where the face is in its life.
    pub fn state(&self, crew: &dyn Crew) -> PoolState {
        match crew.state() {
            PoolState::Running if self.lock().closed => PoolState::Closed,
            state => state,
        }
    }

    /// Lets nobody enter any more.
    pub fn close(&self, crew: &dyn Crew) {
        let mut inside = self.lock();
        inside.closed = true;
        let empty = inside.is_empty();
        drop(inside);
        if empty {
            crew.close();
        }
    }

    /// Waits until all are out, and all workers gone.
    ///
    /// # Errors
    /// `StillRunning`, `TimedOut`.
    pub fn join(&self, crew: &dyn Crew, deadline: Deadline) -> Result<(), PoolError> {
        let mut inside = self.lock();
        if !inside.closed && crew.state() == PoolState::Running {
            return Err(PoolError::StillRunning);
        }
        inside.closed = true;
        inside.joining = true;
        let background = std::mem::take(&mut inside.background);
        drop(inside);
        for call in background.iter().filter_map(Weak::upgrade) {
            call.wait(deadline);
        }
        let mut inside = self.lock();
        // Those that did not end in time are there for who joins again.
        inside.background.extend(background);
        inside.background.retain(|call| call.strong_count() > 0);
        while inside.calls > 0 && crew.state() == PoolState::Running {
            inside = match deadline.left() {
                None => self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Err(PoolError::TimedOut),
                Some(left) => {
                    let waited = self.changed.wait_timeout(inside, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        drop(inside);
        crew.close();
        crew.join(deadline)
    }
}

impl Pass {
    /// Whether more may be handed over: not by a stream whose face is joined.
    pub fn is_valid(&self) -> bool {
        !self.stream || !self.gate.lock().joining
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gate.lock();
        if self.stream {
            inside.streams -= 1;
        } else {
            inside.calls -= 1;
        }
        let last = inside.closed && inside.is_empty();
        drop(inside);
        self.gate.changed.notify_all();
        if last {
            self.crew.close();
        }
    }
}
