//! `Queue`: what it has acknowledged arrives whole, and the memory of long objects comes back.

use std::cell::Cell;
use std::time::Duration;

use procession_posix::channel::{GetError, PutError, Queue};
use procession_posix::memory::{Arena, Config, arena, configure};
use procession_posix::sync::Deadline;

use super::ground::get_ready;
use super::items::{EARLIER, HELPERS, Refusal, SURVIVORS, VICTIMS};
use crate::engine::ledger::Ledger;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Every wait has a deadline; where nobody died, none comes near it.
const SOON: Duration = Duration::from_secs(8);
/// How many objects the survivors move: every place comes round more than once.
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

/// A queue in the arena of this take's processes.
struct Post {
    arena: &'static Arena,
    queue: Queue<Parcel>,
    ledger: Ledger,
    len: usize,
    /// What a sleeping victim waits for.
    wants: Cell<Wants>,
    /// The victim ends the queue: then it is nobody's trouble that it is closed.
    ends: bool,
}

#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Room,
    Object,
}

impl Post {
    /// A queue for four objects, with so many of this length in it.
    fn new(len: usize, filled: u64, wants: Wants) -> &'static Post {
        let mut config = Config::new();
        config.reserve = Some(4 << 20);
        config.participants = Some(8);
        configure(config).expect("an arena of our own");
        let post = Post {
            arena: arena().expect("an arena"),
            queue: Queue::bounded(4).expect("a queue"),
            ledger: Ledger::new(),
            len,
            wants: Cell::new(wants),
            ends: false,
        };
        post.put(EARLIER, filled).expect("the first objects");
        Box::leak(Box::new(post))
    }

    /// The same, to be shut down.
    fn ending(len: usize, filled: u64) -> &'static Post {
        let post = Post::new(len, filled, Wants::Nothing);
        Box::leak(Box::new(Post {
            arena: post.arena,
            queue: post.queue.clone(),
            ledger: post.ledger,
            len,
            wants: Cell::new(Wants::Nothing),
            ends: true,
        }))
    }

    fn put(&self, first: u64, count: u64) -> Result<(), Trouble> {
        for number in first..first + count {
            self.ledger.begin(number);
            let put = self.queue.put_until(&parcel(number, self.len), Deadline::after(SOON));
            if self.ends && matches!(put, Err(PutError::Closed)) {
                return Ok(());
            }
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

    fn get(&self, count: u64) -> Result<(), Trouble> {
        let mut last = 0;
        for turn in 0..count {
            let got = self.queue.get_until(Deadline::after(SOON));
            if self.ends && matches!(got, Err(GetError::Closed)) {
                return Ok(());
            }
            let got = got.map_err(|e| e.trouble(&format!("getting the {turn}th")))?;
            self.got(&got);
            if got.0 <= last {
                return Err(Trouble::Wrong(format!("{} came after {last}", got.0)));
            }
            last = got.0;
        }
        Ok(())
    }
}

impl Post {
    fn put_many(&self, count: u64) {
        let objects: Vec<_> = (VICTIMS..VICTIMS + count).map(|n| parcel(n, self.len)).collect();
        (VICTIMS..VICTIMS + count).for_each(|number| self.ledger.begin(number));
        if let Ok(put) = self.queue.put_many_until(&objects, Deadline::after(SOON)) {
            (VICTIMS..VICTIMS + put as u64).for_each(|number| self.ledger.acknowledge(number));
        }
    }

    fn get_many(&self) {
        if let Ok(got) = self.queue.get_many_until(3, Deadline::after(SOON)) {
            got.iter().for_each(|got| self.got(got));
        }
    }

    fn get_latest(&self) {
        if let Ok((got, _)) = self.queue.get_latest_until(Deadline::after(SOON)) {
            self.got(&got);
        }
    }

    fn peek(&self) {
        if let Ok(seen) = self.queue.peek_until(Deadline::after(SOON))
            && seen != parcel(seen.0, self.len)
        {
            self.ledger.tear();
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

    /// The first puts, the second sweeps and gets.
    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        if who == 0 {
            return self.put(SURVIVORS, MOVED);
        }
        self.arena.sweep();
        self.get(MOVED)
    }

    /// Gets all that is there, then puts and gets again.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        let mut looks = 0;
        loop {
            match self.queue.get_nowait() {
                Ok(got) => self.got(&got),
                Err(GetError::Empty) => break,
                Err(GetError::Closed) if self.ends => break,
                // A try asks whether the owner of a claim lives once a millisecond at most.
                Err(GetError::Busy) if looks < 100 => {
                    looks += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.trouble("getting all")),
            }
        }
        self.put(HELPERS + 50, 2)?;
        self.get(1)
    }

    fn release(&self) {
        let done = match self.wants.replace(Wants::Nothing) {
            Wants::Nothing => Ok(()),
            Wants::Room => self.get(1),
            Wants::Object => self.put(HELPERS, 1),
        };
        done.expect("what the victim waits for");
    }

    fn audit(&self) -> Result<Audit, String> {
        let mut stuck = 0;
        self.queue.shutdown(self.ends);
        loop {
            match self.queue.get_until(Deadline::after(SOON)) {
                Ok(got) => self.got(&got),
                Err(GetError::Closed) => break,
                Err(GetError::TimedOut) => {
                    stuck += 1;
                    break;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        self.arena.sweep();
        let usage = self.arena.region().usage();
        let mut audit = Audit { stuck, ..self.ledger.audit() };
        // The queue itself is this process's own. Nothing else may stay behind.
        audit.lost += (usage.owned - 1 + usage.queued + usage.run_chunks) as u32;
        audit.torn += usage.damaged as u32;
        Ok(audit)
    }
}

impl Refusal for PutError {
    fn is_late(&self) -> bool {
        matches!(self, PutError::TimedOut)
    }
}

impl Refusal for GetError {
    fn is_late(&self) -> bool {
        matches!(self, GetError::TimedOut)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    use Wants::{Nothing, Object, Room};
    let put = |name, set| {
        Operation::new(name, set, Post::enter, |post: &Post, ()| {
            let _ = post.put(VICTIMS, 1);
        })
    };
    let get = |name, set| {
        Operation::new(name, set, Post::enter, |post: &Post, ()| {
            let _ = post.get(1);
        })
        .may_lose(1)
    };
    let other = |name, set, act: fn(&'static Post, ())| Operation::new(name, set, Post::enter, act);
    vec![
        put("queue.put", || Post::new(SHORT, 2, Nothing)).twice(1),
        put("queue.put.asleep", || Post::new(SHORT, 4, Room)),
        put("queue.put.long", || Post::new(LONG, 2, Nothing)).twice(1),
        put("queue.put.huge", || Post::new(HUGE, 2, Nothing)),
        get("queue.get", || Post::new(SHORT, 2, Nothing)).twice(1),
        get("queue.get.asleep", || Post::new(SHORT, 0, Object)),
        get("queue.get.long", || Post::new(LONG, 2, Nothing)).twice(1),
        get("queue.get.huge", || Post::new(HUGE, 2, Nothing)),
        other("queue.put_many", || Post::new(SHORT, 1, Nothing), |post, ()| post.put_many(3))
            .twice(1),
        other("queue.put_many.long", || Post::new(LONG, 2, Nothing), |post, ()| post.put_many(2)),
        other("queue.get_many", || Post::new(SHORT, 3, Nothing), |post, ()| post.get_many())
            .may_lose(3)
            .twice(1),
        other("queue.get_many.long", || Post::new(LONG, 2, Nothing), |post, ()| post.get_many())
            .may_lose(2),
        other("queue.get_latest", || Post::new(SHORT, 3, Nothing), |post, ()| post.get_latest())
            .may_lose(3),
        other(
            "queue.get_latest.long",
            || Post::new(LONG, 2, Nothing),
            |post, ()| post.get_latest(),
        )
        .may_lose(2),
        other("queue.peek", || Post::new(SHORT, 2, Nothing), |post, ()| post.peek()),
        other("queue.peek.long", || Post::new(LONG, 2, Nothing), |post, ()| post.peek()),
        other("queue.shutdown", || Post::ending(LONG, 2), |post, ()| post.queue.shutdown(true))
            .may_lose(20),
    ]
}
