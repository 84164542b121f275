//! Waiting until some of several futures are over, whoever brings them about.
//!
//! ```text
//! each future   has a waker of its own, which writes the future's number into `over`: once, when it is over
//! the waiter    in a thread of a crew: runs those of its crew that nobody has begun, one after the other, until one is over. Then it
//!               helps the crew, if one crew works on all of them: nobody else has to collect for it. Else it sleeps on the condition,
//!               and each crew's courier collects.
//! ```
//!
//! Each is tried once: who waits here is the last to hand over anything of its own, and what somebody has begun comes to its end.
//!
//! What is written before the wake is read after it, under the lock, so no wake is missed.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Wake, Waker};

use procession_core::sys::Deadline;

use super::Future;
use crate::task::Crew;

/// The futures that somebody waits for, each once.
pub(super) struct Gather<R: Send + 'static> {
    futures: Vec<Future<R>>,
    /// Those whose end is still to be told: one each, by the future's number.
    wakers: Vec<Option<Waker>>,
    over: Arc<Over>,
    crew: Common,
    /// So many of the futures were tried to be run here.
    tried: usize,
}

/// Who works on all that is not over.
enum Common {
    /// One crew.
    Crew(Arc<dyn Crew>),
    /// Several, or nobody that could be helped.
    None,
}

/// Which futures are over, in the order in which that came about.
#[derive(Default)]
struct Over {
    numbers: Mutex<VecDeque<usize>>,
    changed: Condvar,
}

struct Bell {
    over: Arc<Over>,
    number: usize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.over.add(self.number);
    }
}

impl Over {
    fn add(&self, number: usize) {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).push_back(number);
        self.changed.notify_all();
    }

    fn next(&self) -> Option<usize> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Sleeps until there is one; `None` at the deadline.
    fn sleep(&self, deadline: Deadline) -> Option<usize> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(number) = numbers.pop_front() {
                return Some(number);
            }
            numbers = match deadline.left() {
                None => self.changed.wait(numbers).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return None,
                Some(left) => {
                    let waited = self.changed.wait_timeout(numbers, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl<R: Send + 'static> Gather<R> {
    /// Listens to all of them. One that is given twice counts once.
    pub(super) fn new(futures: impl IntoIterator<Item = Future<R>>) -> Self {
        let mut seen = std::collections::HashSet::new();
        let futures: Vec<_> =
            futures.into_iter().filter(|future| seen.insert(future.promise().address())).collect();
        let over = Arc::new(Over::default());
        let mut crews: Vec<Option<Arc<dyn Crew>>> = Vec::new();
        let wakers = futures.iter().enumerate().map(|(number, future)| {
            let promise = future.promise();
            let waker = Waker::from(Arc::new(Bell { over: over.clone(), number }));
            if !promise.notify(&waker) {
                over.add(number);
                return None;
            }
            let crew = promise.crew();
            let known = |other: &Option<Arc<dyn Crew>>| match (other, crew) {
                (Some(other), Some(crew)) => Arc::ptr_eq(other, crew),
                (None, None) => true,
                _ => false,
            };
            if !crews.iter().any(known) {
                crews.push(crew.cloned());
            }
            Some(waker)
        });
        let wakers = wakers.collect();
        let crew = match &mut *crews {
            [crew @ Some(_)] => crew.take().map_or(Common::None, Common::Crew),
            crews => {
                crews.iter().flatten().for_each(|crew| crew.attend());
                Common::None
            }
        };
        Gather { futures, wakers, over, crew, tried: 0 }
    }

    /// How many there are, each counted once.
    pub(super) fn len(&self) -> usize {
        self.futures.len()
    }

    /// The next one that is over, each once; `None` at the deadline. Do not ask for more than there are.
    pub(super) fn next(&mut self, deadline: Deadline) -> Option<usize> {
        let mut number = self.over.next();
        while number.is_none()
            && !deadline.is_past()
            && let Some(future) = self.futures.get(self.tried)
        {
            self.tried += 1;
            if future.promise().run_here() {
                number = self.over.next();
            }
        }
        match &self.crew {
            _ if number.is_some() => {}
            Common::Crew(crew) => {
                crew.help(None, deadline, &mut || {
                    number = number.or_else(|| self.over.next());
                    number.is_some()
                });
            }
            Common::None => number = self.over.sleep(deadline),
        }
        if let Some(waker) = number.and_then(|number| self.wakers.get_mut(number)) {
            *waker = None;
        }
        number
    }

    pub(super) fn futures(&self) -> &[Future<R>] {
        &self.futures
    }
}

impl<R: Send + 'static> Drop for Gather<R> {
    fn drop(&mut self) {
        for (future, waker) in self.futures.iter().zip(&self.wakers) {
            if let Some(waker) = waker {
                future.promise().remove_waker(waker);
            }
        }
    }
}
