//! What a queue of threads has, in its order: all of it under one mutex, see `stock`.

use std::collections::{BTreeMap, VecDeque};

use procession_core::queue::Order;

/// An object on its way.
pub(super) struct Entry<T> {
    pub key: i64,
    pub serial: u64,
    pub deliveries: u32,
    pub object: T,
}

/// What waits, in its order.
pub(super) enum Waiting<T> {
    /// The first, or the last, is the next.
    Line(VecDeque<Entry<T>>),
    /// The least key is the next; of equal ones the one that was put first.
    Ranked(BTreeMap<(i64, u64), Entry<T>>),
}

impl<T> Waiting<T> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Line(line) => line.len(),
            Self::Ranked(ranked) => ranked.len(),
        }
    }
}

/// What a queue has at a moment.
pub(super) struct State<T> {
    pub waiting: Waiting<T>,
    pub serial: u64,
    pub closed: bool,
    pub shut: bool,
    /// In the hands of deliveries.
    pub lent: usize,
    /// Got, and not declared done.
    pub got: usize,
    pub lost: u64,
}

impl<T> State<T> {
    pub(super) fn new(order: Order) -> Self {
        let waiting = match order {
            Order::Least => Waiting::Ranked(BTreeMap::new()),
            Order::First | Order::Last => Waiting::Line(VecDeque::new()),
        };
        State { waiting, serial: 0, closed: false, shut: false, lent: 0, got: 0, lost: 0 }
    }

    pub(super) fn put(&mut self, key: i64, object: T) {
        let entry = Entry { key, serial: self.serial, deliveries: 0, object };
        self.serial += 1;
        match &mut self.waiting {
            Waiting::Line(line) => line.push_back(entry),
            Waiting::Ranked(ranked) => _ = ranked.insert((entry.key, entry.serial), entry),
        }
    }

    /// It is the next one again.
    pub(super) fn put_back(&mut self, order: Order, entry: Entry<T>) {
        match &mut self.waiting {
            Waiting::Line(line) if order == Order::Last => line.push_back(entry),
            Waiting::Line(line) => line.push_front(entry),
            Waiting::Ranked(ranked) => _ = ranked.insert((entry.key, entry.serial), entry),
        }
    }

    pub(super) fn pop(&mut self, order: Order) -> Option<Entry<T>> {
        match &mut self.waiting {
            Waiting::Line(line) if order == Order::Last => line.pop_back(),
            Waiting::Line(line) => line.pop_front(),
            Waiting::Ranked(ranked) => ranked.pop_first().map(|(_, entry)| entry),
        }
    }

    pub(super) fn next(&self, order: Order) -> Option<&Entry<T>> {
        match &self.waiting {
            Waiting::Line(line) if order == Order::Last => line.back(),
            Waiting::Line(line) => line.front(),
            Waiting::Ranked(ranked) => ranked.first_key_value().map(|(_, entry)| entry),
        }
    }

    /// Takes out all that waits.
    pub(super) fn empty(&mut self) -> Waiting<T> {
        match &mut self.waiting {
            Waiting::Line(line) => Waiting::Line(std::mem::take(line)),
            Waiting::Ranked(ranked) => Waiting::Ranked(std::mem::take(ranked)),
        }
    }

    pub(super) fn unfinished(&self) -> usize {
        self.waiting.len() + self.lent + self.got
    }
}
