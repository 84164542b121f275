//! What a queue has to do: a sequential model, which says what a call may answer, and what is there afterwards.

use serde::{Deserialize, Serialize};

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Puts the object with this number and size.
    Put { number: u64, bytes: usize, wait: Patience },
    /// Gets one.
    Get { wait: Patience },
    /// Takes one, to be done with later.
    Take { wait: Patience },
    /// Is done with the one that was taken last, or gives it back.
    Settle { done: bool },
    /// Is done with one that was got, whichever.
    TaskDone,
    /// Looks at the next one.
    Peek,
    /// Asks how many are there, whether none, and whether as many as can be.
    Size,
    /// Asks whether all is done.
    Join,
    /// Closes it.
    Close,
    /// Closes it and throws away what is there.
    Shutdown,
}

/// How long a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Patience {
    /// Not at all.
    None,
    /// So short a time that a test can be patient, too.
    Some,
    /// So long that what the dead held is found.
    Much,
}

/// What a call answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reply {
    /// It is put, or done.
    Done,
    /// Full or empty, or not all is done.
    NotNow,
    /// The time was up.
    TimedOut,
    /// It is closed.
    Closed,
    /// The object with this number.
    Got(u64),
    /// There is nothing in hand that could be settled, nothing unfinished that could be done.
    Nothing,
    /// So many were lost.
    Lost(u64),
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

/// Which object is the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    First,
    Last,
    Least,
}

/// What becomes of an object that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// It is gone.
    Gone,
    /// It is unfinished, and lost if its taker dies.
    Lost,
    /// It is unfinished until its taker says otherwise, and comes back if that dies.
    Again,
}

/// What is asked of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    pub setting: Setting,
    pub capacity: usize,
    pub order: Order,
    pub policy: Policy,
    /// What is got is unfinished until somebody says that it is done.
    pub joinable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Item {
    number: u64,
    /// Its place among the puts.
    place: u64,
}

/// The priority of the object with this number.
pub fn priority(number: u64) -> i64 {
    (number * 7 % 5) as i64 - 2
}

/// A queue, as it is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    rules: Rules,
    /// Who may die at any moment.
    mortals: Vec<usize>,
    closed: bool,
    shut: bool,
    next: u64,
    items: Vec<Item>,
    /// What is unfinished, the oldest first, and who has it; whether as a delivery.
    held: Vec<(usize, Item, bool)>,
    lost: u64,
}

impl Model {
    /// An empty one.
    pub fn new(rules: Rules, mortals: &[usize]) -> Model {
        Model {
            rules,
            mortals: mortals.to_vec(),
            closed: false,
            shut: false,
            next: 0,
            items: Vec::new(),
            held: Vec::new(),
            lost: 0,
        }
    }

    fn full(&self) -> bool {
        self.items.len() >= self.rules.capacity
    }

    /// Where the next one is.
    fn first(&self) -> Option<usize> {
        let items = self.items.iter().enumerate();
        let at = match self.rules.order {
            Order::First => items.min_by_key(|(_, item)| item.place),
            Order::Last => items.max_by_key(|(_, item)| item.place),
            Order::Least => items.min_by_key(|(_, item)| (priority(item.number), item.place)),
        };
        at.map(|(at, _)| at)
    }

    /// Whether nothing will ever be there any more.
    fn over(&self) -> bool {
        let back = self.rules.policy == Policy::Again && !self.held.is_empty();
        self.shut || self.closed && self.items.is_empty() && !back
    }

    /// An object that was taken comes back.
    fn put_back(&mut self, mut item: Item) {
        if self.shut {
            return;
        }
        if self.rules.order == Order::Last {
            item.place = self.next;
            self.next += 1;
        }
        self.items.push(item);
    }

    /// As it may be after a call of `actor` with this answer; nothing if it cannot be the answer. Without one the caller has died:
    /// the call may have done its work, or not, or half of it.
    pub fn after(&self, actor: usize, op: &Op, reply: Option<&Reply>) -> Vec<Model> {
        let mut all = Vec::new();
        for model in self.with_deaths() {
            match reply {
                Some(reply) => all.extend(model.answered(actor, op, reply)),
                None => all.extend(model.half_done(actor, op)),
            }
        }
        all
    }

    /// As it is, or after what mortals have in hand has been found with the dead.
    fn with_deaths(&self) -> Vec<Model> {
        let mut all = vec![self.clone()];
        let mut at = 0;
        while at < all.len() {
            for held in 0..all[at].held.len() {
                if self.mortals.contains(&all[at].held[held].0) {
                    let mut next = all[at].clone();
                    let (_, item, _) = next.held.remove(held);
                    match self.rules.policy {
                        Policy::Again => next.put_back(item),
                        _ => next.lost += 1,
                    }
                    if !all.contains(&next) {
                        all.push(next);
                    }
                }
            }
            at += 1;
        }
        all
    }

    fn half_done(&self, actor: usize, op: &Op) -> Vec<Model> {
        let mut all = vec![self.clone()];
        match op {
            Op::Get { .. } | Op::Take { .. } => {
                if let Some(first) = self.first() {
                    let mut taken = self.clone();
                    let item = taken.items.remove(first);
                    if self.rules.policy != Policy::Gone {
                        // It is found with the dead; it may be one that it was done with.
                        let mut found = taken.clone();
                        found.held.push((actor, item, false));
                        all.push(found);
                    }
                    if !self.rules.joinable && matches!(op, Op::Get { .. })
                        || self.rules.policy == Policy::Gone
                    {
                        all.push(taken);
                    }
                }
            }
            Op::Peek | Op::Size | Op::Join => {}
            _ => all.extend(self.answered(actor, op, &Reply::Done)),
        }
        all
    }

    /// Takes the next object out, for `actor`: as a delivery, or else as one that was got.
    fn take(&mut self, actor: usize, number: u64, delivery: bool) -> bool {
        let Some(first) = self.first() else { return false };
        let item = self.items.remove(first);
        let fits = item.number == number && !self.shut;
        let unfinished = match self.rules.policy {
            Policy::Gone => false,
            Policy::Lost => true,
            Policy::Again => delivery || self.rules.joinable,
        };
        if unfinished {
            self.held.push((actor, item, delivery));
        }
        fits
    }

    fn answered(&self, actor: usize, op: &Op, reply: &Reply) -> Option<Model> {
        let mut next = self.clone();
        let Rules { setting, policy, joinable, .. } = self.rules;
        let together = setting == Setting::Together;
        // While one takes what comes back if it dies, others find it neither there nor gone.
        let vague = together && policy == Policy::Again;
        let fits = match (op, reply) {
            (Op::Put { number, .. }, Reply::Done) => {
                next.items.push(Item { number: *number, place: self.next });
                next.next += 1;
                !self.closed && !self.full()
            }
            (Op::Put { wait: Patience::None, .. }, Reply::NotNow) => !self.closed && self.full(),
            (Op::Put { .. }, Reply::TimedOut) => together || !self.closed && self.full(),
            (Op::Put { .. }, Reply::Closed) => self.closed,

            (Op::Get { .. }, Reply::Got(number)) => next.take(actor, *number, false),
            (Op::Take { .. }, Reply::Got(number)) => next.take(actor, *number, true),
            (Op::Get { wait } | Op::Take { wait }, Reply::NotNow | Reply::TimedOut) => {
                let right = match wait {
                    Patience::None => *reply == Reply::NotNow,
                    _ => *reply == Reply::TimedOut,
                };
                let with_dead = self.held.iter().any(|held| self.mortals.contains(&held.0));
                let none = self.items.is_empty() && !self.over();
                right
                    && match wait {
                        Patience::None => none || vague,
                        Patience::Some => none || together,
                        Patience::Much => none && !with_dead,
                    }
            }
            (Op::Get { .. } | Op::Take { .. }, Reply::Closed) => self.over(),
            (Op::Peek, Reply::Got(number)) => {
                !self.shut && self.first().is_some_and(|at| self.items[at].number == *number)
            }
            (Op::Peek, Reply::NotNow) => self.items.is_empty() && !self.over() || vague,
            (Op::Peek, Reply::Closed) => self.over(),

            (Op::Settle { done }, Reply::Done) => {
                let at = self.held.iter().rposition(|held| held.0 == actor && held.2);
                if let Some(at) = at {
                    let (_, item, _) = next.held.remove(at);
                    match policy {
                        _ if *done => {}
                        Policy::Again => next.put_back(item),
                        _ => next.lost += 1,
                    }
                }
                // What is gone with the taking is done from the start; and one that is joinable somebody may have said to be done.
                at.is_some() || policy == Policy::Gone || joinable || vague
            }
            (Op::Settle { .. }, Reply::Nothing) => {
                !self.held.iter().any(|held| held.0 == actor && held.2)
            }
            (Op::TaskDone, Reply::Done) => {
                let own = self.held.iter().position(|held| held.0 == actor);
                match own.or((!self.held.is_empty()).then_some(0)) {
                    Some(at) => {
                        next.held.remove(at);
                        true
                    }
                    None => false,
                }
            }
            (Op::TaskDone, Reply::Nothing) => self.held.is_empty(),
            (Op::Join, Reply::Done) => {
                self.items.is_empty() && self.held.is_empty() && self.lost == 0 && !self.shut
            }
            (Op::Join, Reply::NotNow) => {
                !self.shut && !(self.items.is_empty() && self.held.is_empty())
            }
            (Op::Join, Reply::Lost(_)) => self.lost != 0,
            (Op::Join, Reply::Closed) => self.shut,

            (Op::Size, Reply::Size(count, empty, full)) => {
                let all = (self.items.len(), self.items.is_empty(), self.full());
                together || all == (*count, *empty, *full)
            }
            (Op::Close, Reply::Done) => {
                next.closed = true;
                true
            }
            (Op::Shutdown, Reply::Done) => {
                (next.closed, next.shut) = (true, true);
                next.items.clear();
                true
            }
            _ => false,
        };
        fits.then_some(next)
    }
}
