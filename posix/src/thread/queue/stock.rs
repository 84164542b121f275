//! What all queues of threads are made of: objects under a mutex, and three places to sleep.
//!
//! ```text
//! waiting    put → in the line                     get, take → out of it
//! lent       take, where the queue delivers again or counts  → done: gone; dropped: back to the front, or lost
//! got        get, where the queue counts           → task_done: gone
//! closed     nothing is put any more; shut: nothing is got any more either
//! ```
//!
//! - All of it changes under the mutex; nothing of the user runs there but the `clone` of a peek. Objects are dropped
//!   outside.
//! - Sleepers look again under the mutex: whoever changes something notifies afterwards. A put wakes one who gets, a get
//!   one who puts; the end of something (closed, the last one done) wakes all whom it concerns.
//! - `seen` is a hint for those who spin: they take the mutex when it is worth while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_core::queue::{Order, QueueError};
use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::sys::spin::Pace;
use procession_core::wait::{Eventcount, Waitable};

use crate::channel::{
    CreateError, GetError, GetManyError, JoinTasksError, PutError, TaskDoneError,
};
use crate::memory::private;

use super::delivery::Delivery;
use super::state::{Entry, State};

/// The hint of a closed queue.
const CLOSED: usize = 1;

/// How a queue is to be.
#[derive(Clone, Copy)]
pub(in crate::thread) struct Plan {
    /// `None`: as many as memory holds.
    pub capacity: Option<usize>,
    pub order: Order,
    /// What is taken and not done goes back.
    pub again: bool,
    /// What is got is unfinished until somebody declares it done.
    pub counts: bool,
}

/// Where what is got is booked.
#[derive(Clone, Copy, PartialEq)]
enum Book {
    /// Nowhere: it is done.
    Nothing,
    /// Somebody will declare it done.
    Got,
    /// A delivery has it.
    Lent,
}

pub(in crate::thread) struct Stock<T> {
    state: Mutex<State<T>>,
    plan: Plan,
    seen: AtomicUsize,
    items: Eventcount,
    room: Eventcount,
    idle: Eventcount,
    me: Member<'static>,
}

impl<T> Stock<T> {
    pub(in crate::thread) fn create(plan: Plan) -> Result<Arc<Self>, CreateError> {
        if plan.capacity == Some(0) {
            let most = usize::MAX as u64;
            return Err(QueueError::Capacity { asked: 0, most }.into());
        }
        Ok(Arc::new(Self {
            state: Mutex::new(State::new(plan.order)),
            plan,
            seen: AtomicUsize::new(0),
            items: Eventcount::new(),
            room: Eventcount::new(),
            idle: Eventcount::new(),
            me: private()?.member(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing is left halfway by a panic: each change is made after the last call that may.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the hint, while the state is still locked.
    fn note(&self, state: &State<T>) {
        let closed = if state.closed { CLOSED } else { 0 };
        // Relaxed: a hint. Whoever acts on it locks.
        self.seen.store(state.waiting.len() << 1 | closed, Ordering::Relaxed);
    }

    fn seen(&self) -> (usize, bool) {
        // Relaxed: see `note`.
        let seen = self.seen.load(Ordering::Relaxed);
        (seen >> 1, seen & CLOSED != 0)
    }

    pub(super) fn has_room(&self, len: usize) -> bool {
        self.plan.capacity.is_none_or(|capacity| len < capacity)
    }

    pub(in crate::thread) fn me(&self) -> Member<'static> {
        self.me
    }

    /// Who waits for room sleeps here.
    pub(super) fn room(&self) -> &Eventcount {
        &self.room
    }

    pub(in crate::thread) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    pub(in crate::thread) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(in crate::thread) fn is_full(&self) -> bool {
        !self.has_room(self.len())
    }

    pub(in crate::thread) fn capacity(&self) -> usize {
        self.plan.capacity.unwrap_or(usize::MAX)
    }

    pub(in crate::thread) fn is_closed(&self) -> bool {
        self.seen().1
    }

    pub(in crate::thread) fn lost(&self) -> u64 {
        self.state().lost
    }

    pub(in crate::thread) fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.state().lost)
    }

    /// Puts an object, or gives it back.
    pub(in crate::thread) fn give(
        &self,
        key: i64,
        object: T,
        deadline: Deadline,
    ) -> Result<(), (PutError, T)> {
        let mut object = Some(object);
        let mut attempt = |_| {
            let mut state = self.state();
            if state.closed {
                return Some(Err(PutError::Closed));
            }
            if !self.has_room(state.waiting.len()) {
                return None;
            }
            if let Some(object) = object.take() {
                state.put(key, object);
                self.note(&state);
            }
            Some(Ok(()))
        };
        let worth = || {
            let (len, closed) = self.seen();
            closed || self.has_room(len)
        };
        let answer = match attempt(false) {
            None if deadline == Deadline::NOW => Some(Err(PutError::Full)),
            None => self.room.wait_glancing(self.me, deadline, Pace::Polite, worth, attempt),
            answer => answer,
        };
        match (answer.unwrap_or(Err(PutError::TimedOut)), object) {
            (Err(error), Some(object)) => Err((error, object)),
            _ => {
                self.items.notify_one(self.me);
                Ok(())
            }
        }
    }

    /// Puts as many of these as there is room for, waiting for some until `deadline`; says how many.
    pub(in crate::thread) fn put_many(
        &self,
        objects: impl Iterator<Item = T>,
        deadline: Deadline,
    ) -> Result<usize, PutError> {
        let mut put = 0;
        for object in objects {
            match self.give(0, object, deadline) {
                Ok(()) => put += 1,
                Err((error, _)) if put == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(put)
    }

    fn pop(&self, book: Book, deadline: Deadline) -> Result<Entry<T>, GetError> {
        let attempt = |_| {
            let mut state = self.state();
            let next = state.pop(self.plan.order);
            match (&next, book) {
                (None, _) => {}
                (Some(_), Book::Nothing) => {}
                (Some(_), Book::Got) => state.got += 1,
                (Some(_), Book::Lent) => state.lent += 1,
            }
            self.note(&state);
            match next {
                Some(entry) => Some(Ok(entry)),
                None if state.shut => Some(Err(GetError::Closed)),
                // What is lent may come back.
                None if state.closed && !(self.plan.again && state.lent > 0) => {
                    Some(Err(GetError::Closed))
                }
                None => None,
            }
        };
        let worth = || {
            let (len, closed) = self.seen();
            closed || len > 0
        };
        let answer = match attempt(false) {
            None if deadline == Deadline::NOW => Some(Err(GetError::Empty)),
            None => self.items.wait_glancing(self.me, deadline, Pace::Polite, worth, attempt),
            answer => answer,
        };
        let got = answer.unwrap_or(Err(GetError::TimedOut));
        if got.is_ok() {
            self.room.notify_one(self.me);
        }
        got
    }

    /// Gets the next object: it is done.
    pub(in crate::thread) fn get(&self, deadline: Deadline) -> Result<(i64, T), GetError> {
        self.pop(Book::Nothing, deadline).map(|entry| (entry.key, entry.object))
    }

    /// Gets the next object, which somebody will declare done.
    pub(in crate::thread) fn get_unfinished(
        &self,
        deadline: Deadline,
    ) -> Result<(i64, T), GetError> {
        self.pop(Book::Got, deadline).map(|entry| (entry.key, entry.object))
    }

    /// Gets what is there, at most `most`, waiting for the first.
    pub(in crate::thread) fn get_many(
        &self,
        most: usize,
        deadline: Deadline,
    ) -> Result<Vec<T>, GetManyError<T>> {
        let mut got = Vec::new();
        while got.len() < most {
            let deadline = if got.is_empty() { deadline } else { Deadline::NOW };
            match self.get(deadline) {
                Ok((_, object)) => got.push(object),
                Err(error) if got.is_empty() => return Err(GetManyError { got, error }),
                Err(_) => break,
            }
        }
        Ok(got)
    }

    /// Takes the next object on loan.
    pub(in crate::thread) fn take(
        self: &Arc<Self>,
        deadline: Deadline,
    ) -> Result<Delivery<T>, GetError> {
        let keeps = self.plan.again || self.plan.counts;
        let book = if keeps { Book::Lent } else { Book::Nothing };
        let entry = self.pop(book, deadline)?;
        Ok(Delivery::new(entry, keeps.then(|| Arc::clone(self))))
    }

    /// A copy of the next object, which stays.
    pub(in crate::thread) fn peek(&self, deadline: Deadline) -> Result<(i64, T), GetError>
    where
        T: Clone,
    {
        let attempt = |_| {
            let state = self.state();
            match state.next(self.plan.order) {
                Some(entry) => Some(Ok((entry.key, entry.object.clone()))),
                None if state.closed => Some(Err(GetError::Closed)),
                None => None,
            }
        };
        let answer = match attempt(false) {
            None if deadline == Deadline::NOW => Some(Err(GetError::Empty)),
            None => self.items.wait(self.me, deadline, Pace::Polite, attempt),
            answer => answer,
        };
        // The wake may have been for one who gets.
        self.items.notify_one(self.me);
        answer.unwrap_or(Err(GetError::TimedOut))
    }

    /// Nothing is put any more; at once: what is there is thrown away.
    pub(in crate::thread) fn shutdown(&self, at_once: bool) {
        let mut state = self.state();
        state.closed = true;
        let thrown_away = at_once.then(|| {
            state.shut = true;
            state.empty()
        });
        self.note(&state);
        drop(state);
        for event in [&self.items, &self.room, &self.idle] {
            event.notify_all(self.me);
        }
        drop(thrown_away);
    }

    /// One that was lent is done.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.lent -= 1;
        self.settle(state);
    }

    /// One that was lent comes back, or is lost.
    pub(super) fn give_up(&self, entry: Entry<T>) {
        let mut state = self.state();
        state.lent -= 1;
        let lost = if self.plan.again && !state.shut {
            state.put_back(self.plan.order, entry);
            self.note(&state);
            None
        } else {
            state.lost += u64::from(!state.shut);
            Some(entry)
        };
        self.settle(state);
        self.items.notify_one(self.me);
        drop(lost);
    }

    /// Declares one that was got done.
    pub(in crate::thread) fn task_done(&self) -> Result<(), TaskDoneError> {
        let mut state = self.state();
        state.got = state.got.checked_sub(1).ok_or(TaskDoneError::TooMany)?;
        self.settle(state);
        Ok(())
    }

    /// Wakes those who wait for the end, if this is one.
    fn settle(&self, state: MutexGuard<'_, State<T>>) {
        let (finished, closed) = (state.unfinished() == 0, state.closed);
        drop(state);
        if finished {
            self.idle.notify_all(self.me);
        }
        if closed {
            // Nothing comes back any more: those who get are told.
            self.items.notify_all(self.me);
        }
    }

    pub(in crate::thread) fn unfinished(&self) -> usize {
        self.state().unfinished()
    }

    /// Waits until nothing is unfinished.
    pub(in crate::thread) fn join(&self, deadline: Deadline) -> Result<(), JoinTasksError> {
        let attempt = |_| {
            let state = self.state();
            match (state.shut, state.unfinished(), state.lost) {
                (true, ..) => Some(Err(JoinTasksError::ShutDown)),
                (_, 0, 0) => Some(Ok(())),
                (_, 0, lost) => Some(Err(JoinTasksError::Lost { lost })),
                _ => None,
            }
        };
        let answer = match attempt(false) {
            None if deadline != Deadline::NOW => {
                self.idle.wait(self.me, deadline, Pace::Polite, attempt)
            }
            answer => answer,
        };
        answer.unwrap_or_else(|| {
            let unfinished = self.unfinished() as u64;
            Err(if deadline == Deadline::NOW {
                JoinTasksError::WouldBlock { unfinished }
            } else {
                JoinTasksError::TimedOut { unfinished }
            })
        })
    }
}

impl<T> std::fmt::Debug for Stock<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, closed) = self.seen();
        f.debug_struct("Stock").field("len", &len).field("closed", &closed).finish_non_exhaustive()
    }
}

/// Ready when there is something to get, or nothing will ever be.
impl<T> Waitable for Stock<T> {
    fn is_ready(&self, _: Member<'_>, _: bool) -> bool {
        let state = self.state();
        state.waiting.len() > 0 || state.closed && !(self.plan.again && state.lent > 0)
    }

    fn sleepers(&self) -> &Eventcount {
        &self.items
    }
}
