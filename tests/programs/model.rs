//! What a queue has to do: a sequential model, which says what a call may answer, and what is there afterwards.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Puts the object with this number and size.
    Put { number: u64, bytes: usize, wait: Patience },
    /// Gets one.
    Get { wait: Patience },
    /// Asks how many are there, whether none, and whether as many as can be.
    Size,
    /// Closes it.
    Close,
}

/// How long a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Patience {
    /// Not at all.
    None,
    /// So short a time that a test can be patient, too.
    Some,
}

/// What a call answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reply {
    /// It is put, or done.
    Done,
    /// Full or empty.
    NotNow,
    /// The time was up.
    TimedOut,
    /// It is closed.
    Closed,
    /// The object with this number.
    Got(u64),
    /// How many; none; as many as can be.
    Size(usize, bool, bool),
    /// What must not be.
    Error(String),
}

/// How strictly answers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setting {
    /// One call at a time: each answer is the only right one.
    Alone,
    /// Calls overlap: who waited in vain may have waited for somebody who was just using a place, and a size is of some
    /// moment.
    Together,
}

/// A queue, as it is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    setting: Setting,
    capacity: usize,
    closed: bool,
    items: VecDeque<u64>,
}

impl Model {
    /// An empty one.
    pub fn new(setting: Setting, capacity: usize) -> Model {
        Model { setting, capacity, closed: false, items: VecDeque::new() }
    }

    fn full(&self) -> bool {
        self.items.len() >= self.capacity
    }

    /// As it may be after a call with this answer; nothing if it cannot be the answer. Without one the caller has died: the
    /// call may have done its work, or not.
    pub fn after(&self, op: &Op, reply: Option<&Reply>) -> Vec<Model> {
        match reply {
            Some(reply) => self.answered(op, reply).into_iter().collect(),
            None => {
                let mut all = vec![self.clone()];
                all.extend(match op {
                    Op::Put { .. } => self.answered(op, &Reply::Done),
                    Op::Get { .. } => {
                        let first = self.items.front().copied();
                        first.and_then(|first| self.answered(op, &Reply::Got(first)))
                    }
                    Op::Size => None,
                    Op::Close => self.answered(op, &Reply::Done),
                });
                all
            }
        }
    }

    fn answered(&self, op: &Op, reply: &Reply) -> Option<Model> {
        let mut next = self.clone();
        let together = self.setting == Setting::Together;
        let fits = match (op, reply) {
            (Op::Put { number, .. }, Reply::Done) => {
                next.items.push_back(*number);
                !self.closed && !self.full()
            }
            (Op::Put { wait: Patience::None, .. }, Reply::NotNow) => !self.closed && self.full(),
            (Op::Put { wait: Patience::Some, .. }, Reply::TimedOut) => {
                together || !self.closed && self.full()
            }
            (Op::Put { .. }, Reply::Closed) => self.closed,
            (Op::Get { .. }, Reply::Got(number)) => next.items.pop_front() == Some(*number),
            (Op::Get { wait: Patience::None }, Reply::NotNow) => {
                !self.closed && self.items.is_empty()
            }
            (Op::Get { wait: Patience::Some }, Reply::TimedOut) => {
                together || !self.closed && self.items.is_empty()
            }
            (Op::Get { .. }, Reply::Closed) => self.closed && self.items.is_empty(),
            (Op::Size, Reply::Size(count, empty, full)) => match together {
                true => *count <= self.capacity,
                false => {
                    let all = (self.items.len(), self.items.is_empty(), self.full());
                    all == (*count, *empty, *full)
                }
            },
            (Op::Close, Reply::Done) => {
                next.closed = true;
                true
            }
            _ => false,
        };
        fits.then_some(next)
    }
}
