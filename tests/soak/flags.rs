//! Events, and waiting for any of several objects.
//!
//! Who sets or clears an event does so under a lock and writes down what it is about to do, and then that it is done. So there
//! are times at which the event is known to be set, or clear. A wait that began and ended in one such time can have
//! one answer only.

use std::time::{Duration, Instant};

use procession::sync::{
    BoundedSemaphore, Event, Lock, PermitError, RwLock, Waitable, wait_any, wait_any_timeout,
};
use procession_core::sync::AcquireError;

use crate::ledger::Words;
use crate::locks::{Asked, got};
use crate::support::LONG;
use crate::{Ground, SLOTS, Worker};

/// A time: its number, times 4, and one of these.
const CLEAR: u64 = 0;
const SETTING: u64 = 1;
const SET: u64 = 2;
const CLEARING: u64 = 3;

pub struct Events {
    event: Event,
    /// Who changes it.
    lock: Lock,
    time: Words,
    /// Not 0: it is set for good.
    closed: Words,
}

impl Events {
    pub fn new() -> Events {
        let event = Event::new().unwrap();
        Events { event, lock: Lock::new().unwrap(), time: Words::new(1), closed: Words::new(1) }
    }

    fn turn(&self, what: u64) {
        self.time.set(0, (self.time.get(0) / 4 + 1) * 4 + what);
    }

    fn change(&self, set: bool) {
        let guard = self.lock.acquire_timeout(LONG);
        let mut guard = match guard {
            Err(AcquireError::OwnerDied(died)) => died.into_guard(),
            guard => guard.unwrap(),
        };
        if set || self.closed.get(0) != 0 {
            self.turn(SETTING);
            self.event.set();
            self.turn(SET);
        } else {
            self.turn(CLEARING);
            self.event.clear();
            self.turn(CLEAR);
        }
        // Whatever the dead one had begun is undone or done by this.
        guard.mark_consistent();
    }

    /// Compares an answer with the times before and after.
    fn check(&self, before: u64, answer: bool, what: &str) {
        let wrong = if answer { CLEAR } else { SET };
        assert!(
            self.time.get(0) != before || before % 4 != wrong,
            "{what} said {answer}, and it was the other way all the time"
        );
    }
}

impl Ground for Events {
    fn name(&self) -> &'static str {
        "Event"
    }

    fn step(&self, worker: &mut Worker) {
        let before = self.time.get(0);
        match worker.random.below(4) {
            0 => self.check(before, self.event.is_set(), "is_set"),
            1 => {
                let time = worker.random.micros(5000);
                let begin = Instant::now();
                let answer = self.event.wait_timeout(time);
                assert!(answer || begin.elapsed() >= time, "the time was not up");
                self.check(before, answer, "wait");
            }
            2 if worker.random.one_in(4) => {
                self.event.wait();
                self.check(before, true, "wait");
            }
            _ => self.change(worker.random.one_in(2)),
        }
    }

    fn last_call(&self) {
        self.closed.set(0, 1);
        self.change(true);
    }

    fn audit(&self, _: &[u64; SLOTS]) -> Vec<String> {
        self.event.clear();
        match (self.event.is_set(), self.event.wait_timeout(Duration::ZERO)) {
            (false, false) => Vec::new(),
            answers => vec![format!("cleared, it says {answers:?}")],
        }
    }
}

/// Waiting for any of several, among them some whose holders die.
pub struct Choices {
    event: Event,
    locks: [Lock; 2],
    permits: BoundedSemaphore,
    pages: RwLock,
}

impl Choices {
    pub fn new() -> Choices {
        let locks = std::array::from_fn(|_| Lock::new().unwrap());
        let (permits, pages) = (BoundedSemaphore::new(1).unwrap(), RwLock::new().unwrap());
        Choices { event: Event::new().unwrap(), locks, permits, pages }
    }
}

impl Ground for Choices {
    fn name(&self) -> &'static str {
        "wait_any"
    }

    fn step(&self, worker: &mut Worker) {
        let [one, two] = &self.locks;
        let all: [&dyn Waitable; 5] = [one, &self.permits, two, &self.pages, &self.event];
        let asked = Asked::choose(&mut worker.random);
        let begin = Instant::now();
        let ready = match asked {
            Asked::Patiently => wait_any(&all),
            Asked::Once => wait_any_timeout(&all, Duration::ZERO),
            Asked::For(time) => wait_any_timeout(&all, time),
        };
        match (ready, asked) {
            (Some(4), _) => {
                if worker.random.one_in(3) {
                    self.event.clear();
                }
            }
            // Another may have been faster.
            (Some(1), _) => match self.permits.try_acquire() {
                Ok(_permit) => worker.random.dawdle(),
                Err(error) => assert_eq!(error, PermitError::WouldBlock),
            },
            (Some(3), _) => {
                if let Some((mut guard, _)) = got(Asked::Once, self.pages.try_write()) {
                    guard.mark_consistent();
                    worker.random.dawdle();
                }
            }
            (Some(at), _) => {
                if let Some((mut guard, _)) = got(Asked::Once, self.locks[at / 2].try_acquire()) {
                    guard.mark_consistent();
                    worker.random.dawdle();
                    if worker.random.one_in(2) {
                        self.event.set();
                    }
                }
            }
            (None, Asked::For(time)) if time < LONG => assert!(begin.elapsed() >= time),
            (None, Asked::Once) => {}
            (None, _) => panic!("nothing came for {:?}", begin.elapsed()),
        }
    }

    fn audit(&self, _: &[u64; SLOTS]) -> Vec<String> {
        // Each alone: beside one that is free nobody asks who else is dead.
        let ready = |one: &&dyn Waitable| wait_any_timeout(&[*one], LONG) == Some(0);
        let all: [&dyn Waitable; 4] = [&self.locks[0], &self.locks[1], &self.permits, &self.pages];
        match all.iter().all(ready) {
            true => Vec::new(),
            false => vec!["all are free, or their holders dead, and it does not say so".into()],
        }
    }
}
