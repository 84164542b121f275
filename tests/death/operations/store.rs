//! The queues over a store: `JoinableQueue`, `PriorityQueue`, `LifoQueue`, and a `Queue` that grows or delivers at least once.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use procession_posix::channel::{
    Delivery, GetError, JoinTasksError, JoinableQueue, LifoQueue, PriorityQueue, PutError, Queue,
    QueueOptions,
};
use procession_posix::memory::{Arena, Config, arena, configure};
use procession_posix::sync::Deadline;

use super::ground::get_ready;
use super::items::{EARLIER, HELPERS, Refusal, SURVIVORS, VICTIMS};
use crate::engine::ledger::Ledger;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Every wait has a deadline; where nobody died, none comes near it.
const SOON: Duration = Duration::from_secs(8);
/// How many objects the survivors move.
const MOVED: u64 = 10;

/// Lengths of objects: inside a message, in a block, in a run of chunks.
const SHORT: usize = 20;
const LONG: usize = 600;
const HUGE: usize = 33_000;

/// An object: its number, and a text that follows from it.
type Parcel = (u64, String);

fn parcel(number: u64, len: usize) -> Parcel {
    let letter = char::from(b'a' + (number % 26) as u8);
    (number, String::from(letter).repeat(len))
}

/// What is put to the test.
enum Line {
    Joinable(JoinableQueue<Parcel>),
    Queue(Queue<Parcel>),
    Priority(PriorityQueue<Parcel>),
    Lifo(LifoQueue<Parcel>),
}

/// The same call for each of them.
macro_rules! each {
    ($line:expr, $queue:ident => $call:expr) => {
        match $line {
            Line::Joinable($queue) => $call,
            Line::Queue($queue) => $call,
            Line::Priority($queue) => $call,
            Line::Lifo($queue) => $call,
        }
    };
}

impl Line {
    fn put(&self, object: &Parcel) -> Result<(), PutError> {
        let deadline = Deadline::after(SOON);
        match self {
            Line::Joinable(queue) => queue.put_until(object, deadline),
            Line::Queue(queue) => queue.put_until(object, deadline),
            // In the order of their numbers.
            Line::Priority(queue) => queue.put_until(object.0 as i64, object, deadline),
            Line::Lifo(queue) => queue.put_until(object, deadline),
        }
    }

    /// Gets an object; from a queue that knows what is unfinished, one that is not done yet.
    fn get(&self, deadline: Deadline) -> Result<Parcel, GetError> {
        match self {
            Line::Joinable(queue) => queue.get_until(deadline),
            Line::Queue(queue) => queue.get_until(deadline),
            Line::Priority(queue) => queue.get_until(deadline).map(|(_, object)| object),
            Line::Lifo(queue) => queue.get_until(deadline),
        }
    }

    fn take(&self, deadline: Deadline) -> Result<Delivery<Parcel>, GetError> {
        each!(self, queue => queue.take_until(deadline))
    }
}

/// A queue in the arena of this take's processes.
struct Post {
    arena: &'static Arena,
    line: Line,
    ledger: Ledger,
    len: usize,
    again: bool,
    /// What a sleeping victim waits for.
    wants: Cell<Wants>,
    /// An object that this process has in hand.
    held: RefCell<Option<Delivery<Parcel>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Wants {
    Nothing,
    Room,
    Object,
    /// That the last object is done.
    End,
}

/// Which queue a scene has.
#[derive(Clone, Copy)]
enum Which {
    Joinable,
    Queue,
    Priority,
    Lifo,
}

/// How a scene begins.
#[derive(Clone, Copy)]
struct Set {
    which: Which,
    capacity: Option<usize>,
    again: bool,
    len: usize,
    filled: u64,
    /// Of these, taken before the victim comes.
    taken: u64,
    wants: Wants,
}

const SET: Set = Set {
    which: Which::Joinable,
    capacity: None,
    again: false,
    len: SHORT,
    filled: 2,
    taken: 0,
    wants: Wants::Nothing,
};

impl Post {
    fn new(set: Set) -> &'static Post {
        let mut config = Config::new();
        config.reserve = Some(4 << 20);
        config.participants = Some(8);
        configure(config).expect("an arena of our own");
        let options = set.capacity.map_or(QueueOptions::unbounded(), QueueOptions::bounded);
        let options = if set.again { options.at_least_once() } else { options };
        let line = match set.which {
            Which::Joinable => Line::Joinable(JoinableQueue::with(options).expect("a queue")),
            Which::Queue => Line::Queue(options.create().expect("a queue")),
            Which::Priority => Line::Priority(PriorityQueue::with(options).expect("a queue")),
            Which::Lifo => Line::Lifo(LifoQueue::with(options).expect("a queue")),
        };
        // A handle has been sent: from now on the queue is the tree's, and swept.
        each!(&line, queue => postcard::to_stdvec(queue)).expect("a handle");
        let post = Post {
            arena: arena().expect("an arena"),
            line,
            ledger: Ledger::new(),
            len: set.len,
            again: set.again,
            wants: Cell::new(set.wants),
            held: RefCell::new(None),
        };
        post.put(EARLIER, set.filled).expect("the first objects");
        if set.wants == Wants::End {
            let held = post.line.take(Deadline::NOW).expect("the first of them");
            post.got(&held);
            post.held.replace(Some(held));
        }
        post.take(set.taken).expect("the first of them");
        Box::leak(Box::new(post))
    }

    fn put(&self, first: u64, count: u64) -> Result<(), Trouble> {
        for number in first..first + count {
            self.ledger.begin(number);
            let put = self.line.put(&parcel(number, self.len));
            put.map_err(|e| e.trouble(&format!("putting {number}")))?;
            self.ledger.acknowledge(number);
        }
        Ok(())
    }

    fn got(&self, got: &Parcel) {
        if *got == parcel(got.0, self.len) {
            self.ledger.receive(got.0);
        } else {
            self.ledger.tear();
        }
    }

    /// Takes an object and is done with it.
    fn take_one(&self, deadline: Deadline) -> Result<u64, GetError> {
        let delivery = self.line.take(deadline)?;
        if self.again && delivery.deliveries() > 1 {
            // Who had it before may have seen it, too.
            self.ledger.begin(delivery.0);
        }
        self.got(&delivery);
        Ok(delivery.done().0)
    }

    fn take(&self, count: u64) -> Result<(), Trouble> {
        for turn in 0..count {
            let taken = self.take_one(Deadline::after(SOON));
            taken.map_err(|e| e.trouble(&format!("taking the {turn}th")))?;
        }
        Ok(())
    }

    /// Gets an object, and says afterwards that it is done.
    fn get(&self) {
        let Ok(got) = self.line.get(Deadline::after(SOON)) else { return };
        self.got(&got);
        if let Line::Joinable(queue) = &self.line {
            let _ = queue.task_done();
        }
    }

    /// Looks at the next, takes it and gives it up.
    fn give_up(&self) {
        let _ = each!(&self.line, queue => queue.peek_until(Deadline::after(SOON)).map(|_| ()));
        drop(self.line.take(Deadline::after(SOON)));
    }

    fn join(&self) {
        if let Line::Joinable(queue) = &self.line {
            let _ = queue.join_until(Deadline::after(SOON));
        }
    }

    /// Takes what is there.
    fn take_all(&self) -> Result<(), Trouble> {
        let mut looks = 0;
        loop {
            match self.take_one(Deadline::NOW) {
                Ok(_) => {}
                Err(GetError::Empty | GetError::Closed) => return Ok(()),
                // A try asks whether the owner of a lock lives once a millisecond at most.
                Err(GetError::Busy) if looks < 100 => {
                    looks += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.trouble("taking all")),
            }
        }
    }
}

impl Scene for Post {
    fn memory(&self) -> Span {
        let region = self.arena.region();
        Span { start: region.base().addr().get(), len: region.size() as usize }
    }

    fn enter(&self) {
        get_ready(self.arena.member());
    }

    /// The first puts, the second sweeps and takes.
    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        if who == 0 {
            return self.put(SURVIVORS, MOVED);
        }
        self.arena.sweep();
        self.take(MOVED)
    }

    /// Takes all that is there, then puts and takes again.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        self.take_all()?;
        self.put(HELPERS + 50, 2)?;
        self.take(1)
    }

    /// The victim, once woken, may be stopped with the lock in its hand: so each of these takes the lock once, before.
    fn release(&self) {
        let done = match self.wants.replace(Wants::Nothing) {
            Wants::Nothing => Ok(()),
            Wants::Room => self.take(1),
            Wants::Object => self.put(HELPERS, 1),
            Wants::End => {
                drop(self.held.take().map(Delivery::done));
                Ok(())
            }
        };
        done.expect("what the victim waits for");
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut stuck = 0;
        each!(&self.line, queue => queue.close());
        loop {
            match self.take_one(Deadline::after(SOON)) {
                Ok(_) => {}
                Err(GetError::Closed) => break,
                Err(GetError::TimedOut) => {
                    stuck += 1;
                    break;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        let mut audit = self.ledger.audit();
        if let Line::Joinable(queue) = &self.line {
            match queue.join_until(Deadline::after(SOON)) {
                Ok(()) => {}
                Err(JoinTasksError::Lost { .. }) if !self.again => {}
                Err(error) => return Err(format!("joining: {error}")),
            }
            if u64::from(audit.lost) > queue.lost() {
                return Err(format!("{} are lost, it says {}", audit.lost, queue.lost()));
            }
        }
        self.arena.sweep();
        let usage = self.arena.region().usage();
        // The queue itself is the tree's. Nothing else may stay behind, also of what it had grown by.
        audit.stuck += stuck;
        audit.lost += (usage.owned + usage.queued + usage.run_chunks + usage.shared - 1) as u32;
        audit.torn += usage.damaged as u32;
        Ok(audit)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    use Wants::{End, Object, Room};
    use Which::{Lifo, Priority};
    let put = |name, set| {
        Operation::new(name, set, Post::enter, |post: &Post, ()| {
            let _ = post.put(VICTIMS, 1);
        })
    };
    // What is got dies with who has got it.
    let get = |name, set| {
        Operation::new(name, set, Post::enter, |post: &Post, ()| post.get()).may_lose(1)
    };
    // What is taken does not.
    let take = |name, set| {
        Operation::new(name, set, Post::enter, |post: &Post, ()| {
            let _ = post.take(1);
        })
    };
    let give_up =
        |name, set| Operation::new(name, set, Post::enter, |post: &Post, ()| post.give_up());
    vec![
        put("joinable.put", || Post::new(SET)).twice(1),
        put("joinable.put.grow", || Post::new(Set { filled: 16, ..SET })),
        put("joinable.put.long", || Post::new(Set { len: LONG, ..SET })),
        get("joinable.get", || Post::new(SET)).twice(1),
        get("joinable.get.asleep", || Post::new(Set { filled: 0, wants: Object, ..SET })),
        get("joinable.get.long", || Post::new(Set { len: LONG, ..SET })),
        take("joinable.take.again", || Post::new(Set { again: true, ..SET })).twice(0),
        take("joinable.take.again.asleep", || {
            Post::new(Set { again: true, filled: 0, wants: Object, ..SET })
        }),
        take("joinable.take.again.long", || Post::new(Set { again: true, len: LONG, ..SET }))
            .twice(0),
        take("joinable.take.again.huge", || Post::new(Set { again: true, len: HUGE, ..SET })),
        give_up("joinable.give_up", || Post::new(Set { again: true, len: LONG, ..SET })),
        Operation::new(
            "joinable.join.asleep",
            || Post::new(Set { again: true, filled: 1, wants: End, ..SET }),
            Post::enter,
            |post: &Post, ()| post.join(),
        ),
        put("priority.put", || Post::new(Set { which: Priority, filled: 5, ..SET })).twice(1),
        put("priority.put.asleep", || {
            Post::new(Set { which: Priority, capacity: Some(2), wants: Room, ..SET })
        }),
        get("priority.get", || Post::new(Set { which: Priority, filled: 6, ..SET })).twice(1),
        take("priority.take.again", || {
            Post::new(Set { which: Priority, again: true, filled: 5, ..SET })
        })
        .twice(0),
        put("queue.grown.put.long", || {
            Post::new(Set { which: Which::Queue, len: LONG, filled: 16, ..SET })
        }),
        get("queue.grown.get.long", || Post::new(Set { which: Which::Queue, len: LONG, ..SET })),
        // It is done as it is returned, and so dies with whom it was returned to.
        get("queue.again.get.long", || {
            Post::new(Set { which: Which::Queue, again: true, len: LONG, ..SET })
        }),
        take("queue.again.take", || Post::new(Set { which: Which::Queue, again: true, ..SET })),
        put("lifo.put", || Post::new(Set { which: Lifo, ..SET })),
        get("lifo.get", || Post::new(Set { which: Lifo, ..SET })),
        get("lifo.get.long", || Post::new(Set { which: Lifo, len: LONG, ..SET })),
        take("lifo.take.again", || Post::new(Set { which: Lifo, again: true, ..SET })),
        // Three quarters of the cells become free.
        take("lifo.take.again.shrink", || {
            Post::new(Set { which: Lifo, again: true, filled: 17, taken: 8, ..SET })
        })
        .twice(0),
    ]
}
