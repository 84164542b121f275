//! Pipes: messages arrive whole, the ends are counted exactly, and what goes along with an object comes back, whoever dies where.
//!
//! The processes of a take are forked with the pipe's handles, so each takes a hold of its own with its first call.

use std::cell::Cell;
use std::time::{Duration, Instant};

use procession_posix::channel::{PipeOptions, Queue, Receiver, RecvError, SendError, Sender};
use procession_posix::memory::{Arena, Config, arena, configure};
use procession_posix::sync::Deadline;

use super::ground::get_ready;
use super::items::{EARLIER, HELPERS, Refusal, SURVIVORS, VICTIMS};
use crate::engine::ledger::Ledger;
use crate::engine::operation::{Audit, Operation, Scene, Span, Trouble};

/// Every wait has a deadline; where nobody died, none comes near it.
const SOON: Duration = Duration::from_secs(8);
/// How many messages the survivors move: every place comes round more than once.
const MOVED: u64 = 10;

/// Lengths of messages: inside a place, in a block, in a run of chunks.
const SHORT: usize = 20;
const LONG: usize = 600;
const HUGE: usize = 33_000;

/// A message: its number, and a text that follows from it.
type Letter = (u64, String);

fn letter(number: u64, len: usize) -> Letter {
    let sign = char::from(b'a' + (number % 26) as u8);
    (number, String::from(sign).repeat(len))
}

fn new_arena() -> &'static Arena {
    let mut config = Config::new();
    config.reserve = Some(4 << 20);
    config.participants = Some(8);
    configure(config).expect("an arena of our own");
    arena().expect("an arena")
}

fn span(arena: &Arena) -> Span {
    let region = arena.region();
    Span { start: region.base().addr().get(), len: region.size() as usize }
}

/// A pipe in the arena of this take's processes.
struct Wire {
    arena: &'static Arena,
    sender: Cell<Option<Sender<Letter>>>,
    receiver: Cell<Option<Receiver<Letter>>>,
    ledger: Ledger,
    len: usize,
    /// What a sleeping victim waits for.
    wants: Cell<Wants>,
}

#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Room,
    Message,
    /// That nobody has the other end any more.
    End,
}

impl Wire {
    /// A pipe for four messages, with so many of this length in it.
    fn new(len: usize, filled: u64, wants: Wants) -> &'static Wire {
        let arena = new_arena();
        let options = PipeOptions::new().messages(4).holders(16).largest_message(100_000);
        let (sender, receiver) = options.typed().expect("a pipe");
        let wire = Wire {
            arena,
            sender: Cell::new(Some(sender)),
            receiver: Cell::new(Some(receiver)),
            ledger: Ledger::new(),
            len,
            wants: Cell::new(wants),
        };
        wire.send(EARLIER, filled).expect("the first messages");
        Box::leak(Box::new(wire))
    }

    fn sender(&self) -> Sender<Letter> {
        let sender = self.sender.take();
        self.sender.set(sender.clone());
        sender.expect("this process has the writing end")
    }

    fn receiver(&self) -> Receiver<Letter> {
        let receiver = self.receiver.take();
        self.receiver.set(receiver.clone());
        receiver.expect("this process has the reading end")
    }

    fn send(&self, first: u64, count: u64) -> Result<(), Trouble> {
        let sender = self.sender();
        for number in first..first + count {
            self.ledger.begin(number);
            let sent = sender.send_until(&letter(number, self.len), Deadline::after(SOON));
            sent.map_err(|e| e.trouble(&format!("sending {number}")))?;
            self.ledger.acknowledge(number);
        }
        Ok(())
    }

    fn received(&self, got: &Letter) {
        if *got == letter(got.0, self.len) {
            self.ledger.receive(got.0);
        } else {
            self.ledger.tear();
        }
    }

    fn receive(&self, count: u64) -> Result<(), Trouble> {
        let receiver = self.receiver();
        let mut last = 0;
        for turn in 0..count {
            let got = receiver.recv_until(Deadline::after(SOON));
            let got = got.map_err(|e| e.trouble(&format!("receiving the {turn}th")))?;
            self.received(&got);
            if got.0 <= last {
                return Err(Trouble::Wrong(format!("{} came after {last}", got.0)));
            }
            last = got.0;
        }
        Ok(())
    }

    /// Receives until the pipe ends.
    fn receive_all(&self) -> Result<(), Trouble> {
        let receiver = self.receiver();
        loop {
            match receiver.recv_until(Deadline::after(SOON)) {
                Ok(got) => self.received(&got),
                Err(RecvError::Eof) => return Ok(()),
                Err(error) => return Err(error.trouble("receiving all")),
            }
        }
    }

    /// Takes holds of its own before it is stepped, and spins no more.
    fn enter(&self) {
        get_ready(self.arena.member());
        let _ = self.receiver().poll(Duration::ZERO);
        // Too large: nothing is sent.
        let _ = self.sender().try_send(&letter(0, 200_000));
    }

    fn enter_reading(&self) {
        get_ready(self.arena.member());
        let _ = self.receiver().poll(Duration::ZERO);
        self.sender.take();
    }
}

impl Scene for Wire {
    fn memory(&self) -> Span {
        span(self.arena)
    }

    fn enter(&self) {
        Wire::enter(self);
    }

    /// The first sends, the second sweeps and receives.
    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        if who == 0 {
            return self.send(SURVIVORS, MOVED);
        }
        self.arena.sweep();
        self.receive(MOVED)
    }

    /// Receives all that is there, then sends and receives again.
    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        let receiver = self.receiver();
        let mut looks = 0;
        loop {
            match receiver.try_recv() {
                Ok(got) => self.received(&got),
                Err(RecvError::Empty) => break,
                // A try asks whether the owner of a claim lives once a millisecond at most.
                Err(RecvError::Busy) if looks < 100 => {
                    looks += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.trouble("receiving all")),
            }
        }
        self.send(HELPERS + 50, 2)?;
        self.receive(1)
    }

    fn release(&self) {
        let done = match self.wants.replace(Wants::Nothing) {
            Wants::Nothing => Ok(()),
            Wants::Room => self.receive(1),
            Wants::Message => self.send(HELPERS, 1),
            Wants::End => {
                self.sender.take();
                Ok(())
            }
        };
        done.expect("what the victim waits for");
    }

    fn audit(&self) -> Result<Audit, String> {
        // The last of its kind: whoever else had one is dead, or has ended.
        self.sender.take();
        let stuck = match self.receive_all() {
            Ok(()) => 0,
            Err(Trouble::Late(_)) => 1,
            Err(Trouble::Wrong(what)) => return Err(what),
        };
        self.receiver.take();
        self.arena.sweep();
        let usage = self.arena.region().usage();
        let mut audit = Audit { stuck, ..self.ledger.audit() };
        // The pipe was this process's own. Nothing may stay behind.
        audit.lost += (usage.owned + usage.queued + usage.run_chunks) as u32;
        audit.torn += usage.damaged as u32;
        Ok(audit)
    }
}

/// A pipe at whose end all wait until nobody has the other.
struct Ending(&'static Wire);

impl Scene for Ending {
    fn memory(&self) -> Span {
        self.0.memory()
    }

    fn enter(&self) {
        self.0.enter_reading();
    }

    fn survive(&self, _: u32, _: Duration) -> Result<(), Trouble> {
        self.0.receive_all()
    }

    fn release(&self) {
        self.0.release();
    }

    fn audit(&self) -> Result<Audit, String> {
        self.0.audit()
    }
}

/// A pipe whose writing end is handed from process to process, through a queue, with a text beside it.
struct Relay {
    arena: &'static Arena,
    queue: Queue<(Sender<u64>, String)>,
    sender: Cell<Option<Sender<u64>>>,
    receiver: Receiver<u64>,
    ledger: Ledger,
    len: usize,
    /// Put one when the victim sleeps.
    awaited: Cell<bool>,
}

impl Relay {
    /// Two ends in the queue, none kept but by the process that sets the scene.
    fn new(len: usize, filled: u32, awaited: bool) -> &'static Relay {
        let arena = new_arena();
        let options = PipeOptions::new().messages(16).holders(16);
        let (sender, receiver) = options.typed().expect("a pipe");
        let relay = Relay {
            arena,
            queue: Queue::bounded(4).expect("a queue"),
            sender: Cell::new(Some(sender)),
            receiver,
            ledger: Ledger::new(),
            len,
            awaited: Cell::new(awaited),
        };
        (0..filled).for_each(|_| relay.put().expect("room in the queue"));
        Box::leak(Box::new(relay))
    }

    fn sender(&self) -> Sender<u64> {
        let sender = self.sender.take();
        self.sender.set(sender.clone());
        sender.expect("this process has the writing end")
    }

    fn put(&self) -> Result<(), Trouble> {
        let object = (self.sender(), "x".repeat(self.len));
        let put = self.queue.put_until(&object, Deadline::after(SOON));
        put.map_err(|e| e.trouble("putting an end"))
    }

    /// Gets an end, which must be open: sends this through it.
    fn get(&self, number: u64) -> Result<(), Trouble> {
        let got = self.queue.get_until(Deadline::after(SOON));
        let (sender, _) = got.map_err(|e| e.trouble("getting an end"))?;
        self.ledger.begin(number);
        let sent = sender.send_until(&number, Deadline::after(SOON));
        sent.map_err(|e| e.trouble(&format!("sending {number} through it")))?;
        self.ledger.acknowledge(number);
        Ok(())
    }

    /// Receives what is there, and waits for more long enough to look at the other end.
    fn receive_some(&self) -> Result<(), String> {
        loop {
            match self.receiver.recv_timeout(Duration::from_millis(12)) {
                // Of entering: as many as there are processes.
                Ok(0) => {}
                Ok(number) => self.ledger.receive(number),
                Err(RecvError::TimedOut | RecvError::Eof) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Takes a hold of its own, and spins no more.
    fn enter(&self) {
        get_ready(self.arena.member());
        let _ = self.sender().try_send(&0).map(|()| self.ledger.begin(0));
    }
}

impl Scene for Relay {
    fn memory(&self) -> Span {
        span(self.arena)
    }

    fn enter(&self) {
        Relay::enter(self);
    }

    fn survive(&self, who: u32, _: Duration) -> Result<(), Trouble> {
        for turn in 0..3 {
            self.put()?;
            self.get(SURVIVORS + 10 * u64::from(who) + turn)?;
        }
        Ok(())
    }

    fn repair(&self, _: Duration) -> Result<(), Trouble> {
        self.arena.sweep();
        self.put()?;
        self.get(HELPERS + 1)
    }

    fn release(&self) {
        if self.awaited.replace(false) {
            self.put().expect("room in the queue");
        }
    }

    /// What is left in the queue holds the pipe open; then nothing does.
    fn audit(&self) -> Result<Audit, String> {
        self.sender.take();
        // Asks whether anybody has the other end: what is in the queue has.
        self.receive_some()?;
        let mut number = VICTIMS;
        let start = Instant::now();
        loop {
            match self.queue.get_nowait() {
                Ok((sender, _)) => {
                    self.ledger.begin(number);
                    sender
                        .send(&number)
                        .map_err(|e| format!("an end that was in the queue: {e}"))?;
                    self.ledger.acknowledge(number);
                    number += 1;
                }
                Err(procession_posix::channel::GetError::Empty) => break,
                Err(procession_posix::channel::GetError::Busy) if start.elapsed() < SOON => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let mut stuck = 0;
        loop {
            match self.receiver.recv_until(Deadline::after(SOON)) {
                // Of entering: as many as there are processes.
                Ok(0) => {}
                Ok(number) => self.ledger.receive(number),
                Err(RecvError::Eof) => break,
                Err(RecvError::TimedOut) => {
                    stuck += 1;
                    break;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        self.arena.sweep();
        let usage = self.arena.region().usage();
        let mut audit = Audit { stuck, ..self.ledger.audit() };
        // The queue is this process's own, the pipe was shared. Nothing else may stay behind.
        audit.lost += (usage.owned - 1 + usage.queued + usage.run_chunks) as u32;
        audit.torn += usage.damaged as u32;
        Ok(audit)
    }
}

impl Refusal for SendError {
    fn is_late(&self) -> bool {
        matches!(self, SendError::TimedOut)
    }
}

impl Refusal for RecvError {
    fn is_late(&self) -> bool {
        matches!(self, RecvError::TimedOut)
    }
}

/// The operations of this family.
pub fn operations() -> Vec<Operation> {
    use Wants::{End, Message, Nothing, Room};
    let send = |name, set| {
        Operation::new(name, set, Wire::enter, |wire: &Wire, ()| {
            let _ = wire.send(VICTIMS, 1);
        })
    };
    let receive = |name, set| {
        Operation::new(name, set, Wire::enter, |wire: &Wire, ()| {
            let _ = wire.receive(1);
        })
        .may_lose(1)
    };
    let relay = |name, set, act| Operation::new(name, set, Relay::enter, act);
    vec![
        send("pipe.send", || Wire::new(SHORT, 2, Nothing)).twice(1),
        send("pipe.send.asleep", || Wire::new(SHORT, 4, Room)),
        send("pipe.send.long", || Wire::new(LONG, 2, Nothing)),
        send("pipe.send.huge", || Wire::new(HUGE, 2, Nothing)),
        receive("pipe.recv", || Wire::new(SHORT, 2, Nothing)).twice(1),
        receive("pipe.recv.asleep", || Wire::new(SHORT, 0, Message)),
        receive("pipe.recv.long", || Wire::new(LONG, 2, Nothing)),
        Operation::new(
            "pipe.poll.asleep",
            || Wire::new(SHORT, 0, Message),
            Wire::enter,
            |wire, ()| {
                let _ = wire.receiver().poll(SOON);
            },
        ),
        Operation::new(
            "pipe.close",
            || Wire::new(LONG, 2, Nothing),
            Wire::enter,
            |wire, ()| {
                wire.sender().close();
                wire.receiver().close();
            },
        )
        .twice(1),
        Operation::new(
            "pipe.close.last",
            Last::new,
            |last: &Last| get_ready(last.arena.member()),
            |last, ()| last.give_back(),
        ),
        Operation::new(
            "pipe.end.asleep",
            || Box::leak(Box::new(Ending(Wire::new(SHORT, 0, End)))) as &Ending,
            |ending| ending.0.enter_reading(),
            |ending, ()| {
                let _ = ending.0.receive(1);
            },
        ),
        Operation::new(
            "pipe.create",
            || Wire::new(SHORT, 2, Nothing),
            Wire::enter,
            |_, ()| drop(PipeOptions::new().messages(4).holders(16).typed::<Letter>()),
        ),
        relay(
            "pipe.travel.put",
            || Relay::new(0, 1, false),
            |relay, ()| {
                let _ = relay.put();
            },
        ),
        relay(
            "pipe.travel.put.long",
            || Relay::new(LONG, 1, false),
            |relay, ()| {
                let _ = relay.put();
            },
        ),
        relay(
            "pipe.travel.get",
            || Relay::new(0, 1, false),
            |relay, ()| {
                let _ = relay.get(VICTIMS + 50);
            },
        ),
        relay(
            "pipe.travel.get.long",
            || Relay::new(LONG, 1, false),
            |relay, ()| {
                let _ = relay.get(VICTIMS + 50);
            },
        ),
        relay(
            "pipe.travel.get.asleep",
            || Relay::new(0, 0, true),
            |relay, ()| {
                let _ = relay.get(VICTIMS + 50);
            },
        ),
    ]
}

/// A pipe with messages in it, both ends of which the victim closes as the last one: it was sent there, and the memory goes back.
struct Last {
    arena: &'static Arena,
    /// Ends that are on their way, until the victim takes them.
    queue: Queue<(Sender<Letter>, Receiver<Letter>)>,
}

impl Last {
    fn new() -> &'static Last {
        let arena = new_arena();
        let queue = Queue::bounded(4).expect("a queue");
        // As one that has travelled: sweeps leave alone what others cannot have.
        postcard::to_allocvec(&queue).expect("a handle");
        let options = PipeOptions::new().messages(4).holders(16);
        let (sender, receiver) = options.typed().expect("a pipe");
        sender.send(&letter(EARLIER, LONG)).expect("room");
        queue.put(&(sender, receiver)).expect("room");
        Box::leak(Box::new(Last { arena, queue }))
    }

    fn give_back(&self) {
        let (sender, receiver) = self.queue.get().expect("both ends");
        drop(receiver);
        drop(sender);
    }
}

impl Scene for Last {
    fn memory(&self) -> Span {
        span(self.arena)
    }

    fn enter(&self) {
        get_ready(self.arena.member());
    }

    /// Uses the memory for other pipes.
    fn survive(&self, _: u32, _: Duration) -> Result<(), Trouble> {
        self.arena.sweep();
        for number in 0..3 {
            let options = PipeOptions::new().messages(4).holders(16);
            let (sender, receiver) = options.typed().map_err(|error| error.to_string())?;
            sender.send(&letter(number, LONG)).map_err(|e| e.trouble("sending"))?;
            let got: Letter = receiver.recv().map_err(|e| e.trouble("receiving"))?;
            if got != letter(number, LONG) {
                return Err(Trouble::Wrong("another message".into()));
            }
        }
        Ok(())
    }

    fn audit(&self) -> Result<Audit, String> {
        self.arena.sweep();
        // What the victim left in the queue.
        while let Ok(ends) = self.queue.get_nowait() {
            drop(ends);
        }
        self.arena.sweep();
        let usage = self.arena.region().usage();
        let lost = (usage.owned + usage.queued + usage.run_chunks) as u32;
        // The queue is shared. A process that dies while it cleans up leaves the pipe to the end of the tree, and nothing else.
        let lost = lost + usage.shared.saturating_sub(2) as u32;
        Ok(Audit { lost, torn: usage.damaged as u32, ..Audit::default() })
    }
}
