//! Sequences of operations on a good queue, with deaths in between, against a model.
//!
//! The model is a row of tickets: items, and places that a dead producer had claimed. These take no room, but count until a
//! consumer has passed them.
#![no_main]

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::queue::{PopError, PushError, SlotQueue};
use procession_core::region::{CHUNK, Membership, Region};
use procession_core::sys::{Deadline, Scope};
use procession_fuzz::memory::Memory;

#[derive(Arbitrary, Debug)]
struct Input {
    capacity: u8,
    first: u64,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Debug)]
enum Act {
    Push,
    Pop,
    PushMany(u8),
    PopMany(u8),
    PushInParts,
    PopInParts,
    /// A process claims places and dies, at most so many one after the other.
    DiePushing(u8),
    DiePopping(u8),
    Close,
    Attach,
    Sweep,
}

static MEMORY: LazyLock<Memory> = LazyLock::new(|| Memory::leak(2 * 65536));

/// What a ticket stands for; `None`: nothing, its claimer died.
type Ticket = Option<u64>;

struct Run {
    region: Region<'static>,
    queue: SlotQueue<'static, u64>,
    seat: Rc<Membership<'static>>,
    tickets: VecDeque<Ticket>,
    next: u64,
    closed: bool,
    deaths: usize,
}

fuzz_target!(|input: Input| {
    let region = MEMORY.create(200, Scope::Shared);
    let capacity = u64::from(input.capacity % 40).max(1);
    // Just below the end of the tickets, too.
    let queue = SlotQueue::create_at(&region, CHUNK, capacity, input.first).expect("a queue");
    let seat = Rc::new(region.join().expect("a row"));
    let tickets = VecDeque::new();
    let mut run = Run { region, queue, seat, tickets, next: 0, closed: false, deaths: 0 };
    for act in input.acts.iter().take(300) {
        run.act(act);
        run.check();
    }
});

impl Run {
    /// How many of `most` items find room side by side: each where, a whole capacity before, there is nothing any more.
    fn room(&self, most: usize) -> usize {
        let (length, capacity) = (self.tickets.len(), self.queue.capacity());
        let free = |more: &usize| match (length + more).checked_sub(capacity) {
            Some(before) => self.tickets.get(before) == Some(&None),
            None => true,
        };
        (0..most).take_while(free).count()
    }

    /// What a consumer does with places of the dead: it passes them.
    fn pass(&mut self) {
        while self.tickets.front() == Some(&None) {
            self.tickets.pop_front();
        }
    }

    fn put(&mut self, count: usize) -> Vec<u64> {
        let items: Vec<u64> = (self.next..).take(count).collect();
        self.next += count as u64;
        items
    }

    fn act(&mut self, act: &Act) {
        let seat = Rc::clone(&self.seat);
        let me = seat.member();
        match *act {
            Act::Push | Act::PushInParts => {
                let item = self.put(1)[0];
                let answer = if matches!(act, Act::Push) {
                    self.queue.try_push(me, item)
                } else {
                    self.queue.start_push(me, Deadline::NOW).map(|claim| {
                        // SAFETY: the claim is held.
                        unsafe { self.queue.item(&claim).write(item) };
                        self.queue.finish_push(me, claim);
                    })
                };
                match answer {
                    Ok(()) => {
                        assert!(!self.closed && self.room(1) == 1);
                        self.tickets.push_back(Some(item));
                    }
                    Err(error) => self.refused(error),
                }
            }
            Act::PushMany(count) => {
                let items = self.put(usize::from(count));
                match self.queue.push_many(me, Deadline::NOW, &items) {
                    Ok(put) => {
                        assert_eq!(put, self.room(items.len()));
                        assert!(!self.closed || items.is_empty());
                        self.tickets.extend(items[..put].iter().copied().map(Some));
                    }
                    Err(error) => self.refused(error),
                }
            }
            Act::Pop | Act::PopInParts => {
                let answer = if matches!(act, Act::Pop) {
                    self.queue.try_pop(me)
                } else {
                    self.queue.start_pop(me, Deadline::NOW).map(|claim| {
                        // SAFETY: the claim is held.
                        let item = unsafe { self.queue.item(&claim).read() };
                        self.queue.finish_pop(me, claim);
                        item
                    })
                };
                self.pass();
                match answer {
                    Ok(item) => assert_eq!(self.tickets.pop_front(), Some(Some(item))),
                    Err(error) => self.nothing(error),
                }
            }
            Act::PopMany(count) => {
                let mut room = vec![0; usize::from(count)];
                let answer = self.queue.pop_many(me, Deadline::NOW, &mut room);
                if count > 0 {
                    self.pass();
                }
                match answer {
                    Ok(got) => {
                        assert!(got > 0 || room.is_empty());
                        // Up to the first place of the dead.
                        let whole = self.tickets.iter().take_while(|ticket| ticket.is_some());
                        assert_eq!(got, whole.count().min(room.len()));
                        for item in &room[..got] {
                            assert_eq!(self.tickets.pop_front(), Some(Some(*item)));
                        }
                    }
                    Err(error) => self.nothing(error),
                }
            }
            Act::DiePushing(claims) => self.die(|run, seat| {
                for _ in 0..=claims % 4 {
                    if run.queue.start_push(seat.member(), Deadline::NOW).is_ok() {
                        assert!(!run.closed && run.room(1) == 1);
                        run.tickets.push_back(None);
                    }
                }
            }),
            Act::DiePopping(claims) => self.die(|run, seat| {
                for _ in 0..=claims % 4 {
                    let answer = run.queue.start_pop(seat.member(), Deadline::NOW);
                    run.pass();
                    if answer.is_ok() {
                        // In the hand of the dead: lost.
                        assert!(run.tickets.pop_front().is_some_and(|ticket| ticket.is_some()));
                    }
                }
            }),
            Act::Close => {
                self.queue.close(me);
                self.closed = true;
            }
            Act::Attach => {
                self.queue = SlotQueue::attach(&self.region, CHUNK).expect("it is there");
            }
            Act::Sweep => self.queue.sweep(me).expect("nothing is damaged"),
        }
    }

    /// Somebody comes, does something, and is gone; what it had claimed is given up.
    fn die(&mut self, last: impl FnOnce(&mut Self, &Membership<'static>)) {
        self.deaths += 1;
        if self.deaths > 150 {
            return;
        }
        let seat = self.region.join().expect("a row");
        last(self, &seat);
        self.region
            .participants()
            .declare_dead(seat.member().current_tag().expect("it has joined"));
        self.queue.sweep(self.seat.member()).expect("nothing is damaged");
    }

    fn refused(&self, error: PushError) {
        match error {
            PushError::Closed => assert!(self.closed),
            PushError::Full => assert_eq!(self.room(1), 0),
            other => panic!("{other}"),
        }
    }

    fn nothing(&self, error: PopError) {
        match error {
            PopError::Closed => assert!(self.closed && self.tickets.is_empty()),
            PopError::Empty => assert!(!self.closed && self.tickets.is_empty()),
            other => panic!("{other}"),
        }
    }

    fn check(&self) {
        let length = self.tickets.len().min(self.queue.capacity());
        assert_eq!(self.queue.len(), length);
        assert_eq!(self.queue.is_empty(), self.tickets.is_empty());
        assert_eq!(self.queue.is_full(), length == self.queue.capacity());
        assert_eq!(self.queue.is_closed(), self.closed);
    }
}
