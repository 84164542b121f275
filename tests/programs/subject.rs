//! What the programs are run on.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use procession::Queue;
use procession::channel::{
    Delivery, GetError, JoinTasksError, JoinableQueue, LifoQueue, PipeOptions, PriorityQueue,
    QueueOptions, Receiver, Sender, TaskDoneError,
};
use procession::sync::Deadline;
use serde::{Deserialize, Serialize};

use crate::model::{Op, Order, Patience, Policy, Reply, Rules, Setting, priority};
use crate::support::LONG;
use crate::support::carrier::{Carrier, No, Wait};
use crate::support::letters::Letter;

/// How long a call waits that waits for a short time, and one that waits until the dead are found.
const SHORT: Duration = Duration::from_millis(2);
const LONGER: Duration = Duration::from_millis(40);

/// A kind of queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Queue,
    Pipe,
    Lifo { again: bool },
    Priority { again: bool },
    Joinable { again: bool },
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Queue,
        Kind::Pipe,
        Kind::Lifo { again: false },
        Kind::Lifo { again: true },
        Kind::Priority { again: false },
        Kind::Priority { again: true },
        Kind::Joinable { again: false },
        Kind::Joinable { again: true },
    ];

    /// What is asked of it.
    pub fn rules(self, setting: Setting, capacity: usize) -> Rules {
        let (order, joinable) = match self {
            Kind::Queue | Kind::Pipe => (Order::First, false),
            Kind::Lifo { .. } => (Order::Last, false),
            Kind::Priority { .. } => (Order::Least, false),
            Kind::Joinable { .. } => (Order::First, true),
        };
        let policy = match self {
            Kind::Joinable { again: false } => Policy::Lost,
            Kind::Lifo { again: true }
            | Kind::Priority { again: true }
            | Kind::Joinable { again: true } => Policy::Again,
            _ => Policy::Gone,
        };
        Rules { setting, capacity, order, policy, joinable }
    }

    /// Whether it can be called like that.
    pub fn has(self, op: &Op) -> bool {
        let stocked = !matches!(self, Kind::Queue | Kind::Pipe);
        match op {
            Op::Put { .. } => true,
            Op::Get { .. } => true,
            Op::Size | Op::Close => self != Kind::Pipe,
            Op::Shutdown => stocked && self.rules(Setting::Alone, 1).policy != Policy::Again,
            Op::Peek | Op::Take { .. } | Op::Settle { .. } => stocked,
            Op::TaskDone | Op::Join => matches!(self, Kind::Joinable { .. }),
        }
    }

    /// One of this kind.
    pub fn make(self, capacity: usize) -> Subject {
        let options = |again| {
            let options = QueueOptions::bounded(capacity);
            if again { options.at_least_once() } else { options }
        };
        match self {
            Kind::Queue => Subject::Queue(Queue::bounded(capacity).unwrap()),
            Kind::Pipe => {
                let (sender, receiver) = PipeOptions::new().messages(capacity).typed().unwrap();
                Subject::Pipe(sender, receiver)
            }
            Kind::Lifo { again } => Subject::Lifo(LifoQueue::with(options(again)).unwrap()),
            Kind::Priority { again } => {
                Subject::Priority(PriorityQueue::with(options(again)).unwrap())
            }
            Kind::Joinable { again } => {
                Subject::Joinable(JoinableQueue::with(options(again)).unwrap())
            }
        }
    }
}

/// A queue of some kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Subject {
    Queue(Queue<Letter>),
    Pipe(Sender<Letter>, Receiver<Letter>),
    Lifo(LifoQueue<Letter>),
    Priority(PriorityQueue<Letter>),
    Joinable(JoinableQueue<Letter>),
}

/// The same call of whichever it is.
macro_rules! each {
    ($subject:expr, ($($type:ident)*), $queue:ident => $call:expr) => {
        match $subject {
            $(Subject::$type($queue) => $call,)*
            other => panic!("a call that {other:?} does not have"),
        }
    };
}

/// What an actor has in hand.
pub type Hand = RefCell<Vec<Delivery<Letter>>>;

impl Subject {
    /// The same, as another process has it: by a handle that has travelled.
    pub fn travelled(&self) -> Subject {
        let bytes = postcard::to_stdvec(self).unwrap();
        postcard::from_bytes(&bytes).unwrap()
    }

    fn offer(&self, letter: &Letter, wait: Wait) -> Result<(), No> {
        match self {
            Subject::Pipe(sender, receiver) => {
                (sender.clone(), receiver.clone()).offer(letter, wait)
            }
            each => {
                each!(each, (Queue Lifo Priority Joinable), queue => queue.offer(letter, wait))
            }
        }
    }

    fn fetch(&self, wait: Wait) -> Result<Letter, No> {
        match self {
            Subject::Pipe(sender, receiver) => (sender.clone(), receiver.clone()).fetch(wait),
            each => each!(each, (Queue Lifo Priority Joinable), queue => queue.fetch(wait)),
        }
    }

    fn take(&self, wait: Wait) -> Result<Delivery<Letter>, GetError> {
        let deadline = match wait {
            Wait::Not => Deadline::NOW,
            Wait::For(time) | Wait::Until(time) => Deadline::after(time),
            Wait::Endless => Deadline::NEVER,
        };
        each!(self, (Lifo Priority Joinable), queue => queue.take_until(deadline))
    }

    fn peek(&self) -> Result<Letter, GetError> {
        match self {
            Subject::Priority(queue) => queue.peek_nowait().map(|(_, letter)| letter),
            each => each!(each, (Lifo Joinable), queue => queue.peek_nowait()),
        }
    }

    /// Calls it.
    pub fn perform(&self, op: &Op, hand: &Hand) -> Reply {
        match op {
            Op::Put { number, bytes, wait } => {
                let letter = Letter::new(0, *number, *bytes);
                let answer = patiently(*wait, |wait| self.offer(&letter, wait));
                answer.map_or_else(Reply::from, |()| Reply::Done)
            }
            Op::Get { wait } => got(patiently(*wait, |wait| self.fetch(wait))),
            Op::Take { wait } => {
                let taken = patiently(*wait, |wait| self.take(wait).map_err(No::from));
                got(taken.map(|delivery| {
                    let letter = (*delivery).clone();
                    hand.borrow_mut().push(delivery);
                    letter
                }))
            }
            Op::Settle { done } => match hand.borrow_mut().pop() {
                Some(delivery) if *done => {
                    delivery.done();
                    Reply::Done
                }
                Some(_) => Reply::Done,
                None => Reply::Nothing,
            },
            Op::TaskDone => {
                let Subject::Joinable(queue) = self else { panic!("not joinable") };
                match queue.task_done() {
                    Ok(()) => Reply::Done,
                    Err(TaskDoneError::TooMany) => Reply::Nothing,
                    Err(error) => Reply::Error(error.to_string()),
                }
            }
            Op::Peek => got(patiently(Patience::None, |_| self.peek().map_err(No::from))),
            Op::Size => each!(self, (Queue Lifo Priority Joinable), queue => {
                Reply::Size(queue.qsize(), queue.empty(), queue.full())
            }),
            Op::Join => {
                let Subject::Joinable(queue) = self else { panic!("not joinable") };
                match queue.join_until(Deadline::NOW) {
                    Ok(()) => Reply::Done,
                    Err(JoinTasksError::WouldBlock { .. }) => Reply::NotNow,
                    Err(JoinTasksError::Lost { lost }) => Reply::Lost(lost),
                    Err(JoinTasksError::ShutDown) => Reply::Closed,
                    Err(error) => Reply::Error(error.to_string()),
                }
            }
            Op::Close => {
                each!(self, (Queue Lifo Priority Joinable), queue => queue.close());
                Reply::Done
            }
            Op::Shutdown => {
                each!(self, (Lifo Priority Joinable), queue => queue.shutdown(true));
                Reply::Done
            }
        }
    }
}

/// Priorities follow from numbers.
impl Carrier<Letter> for PriorityQueue<Letter> {
    fn offer(&self, letter: &Letter, wait: Wait) -> Result<(), No> {
        let key = priority(letter.number);
        Ok(match wait {
            Wait::Endless => self.put(key, letter),
            Wait::Not => self.put_nowait(key, letter),
            Wait::For(time) => self.put_timeout(key, letter, time),
            Wait::Until(time) => self.put_until(key, letter, Deadline::after(time)),
        }?)
    }

    fn fetch(&self, wait: Wait) -> Result<Letter, No> {
        let (key, letter) = match wait {
            Wait::Endless => self.get(),
            Wait::Not => self.get_nowait(),
            Wait::For(time) => self.get_timeout(time),
            Wait::Until(time) => self.get_until(Deadline::after(time)),
        }?;
        assert_eq!(key, priority(letter.number), "with the priority that it was put with");
        Ok(letter)
    }

    fn close(&self) {
        self.close();
    }
}

/// Calls with this patience; "busy" is no answer, but a reason to ask again.
fn patiently<R>(patience: Patience, call: impl Fn(Wait) -> Result<R, No>) -> Result<R, No> {
    let wait = match patience {
        Patience::None => Wait::Not,
        Patience::Some => Wait::For(SHORT),
        Patience::Much => Wait::Until(LONGER),
    };
    let deadline = Instant::now() + LONG;
    loop {
        match call(wait) {
            Err(No::Busy) if Instant::now() < deadline => std::thread::yield_now(),
            answer => return answer,
        }
    }
}

fn got(answer: Result<Letter, No>) -> Reply {
    match answer {
        Ok(letter) if letter.is_whole() => Reply::Got(letter.number),
        Ok(letter) => Reply::Error(format!("a torn one: {letter:?}")),
        Err(no) => no.into(),
    }
}

impl From<No> for Reply {
    fn from(no: No) -> Reply {
        match no {
            No::NotNow => Reply::NotNow,
            No::TimedOut => Reply::TimedOut,
            No::Closed => Reply::Closed,
            no => Reply::Error(format!("{no:?}")),
        }
    }
}
