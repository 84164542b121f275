//! Everything that carries objects, with its memory, its messages and the blocks on their way written over, before and while
//! it is used.
#![no_main]

use std::cell::RefCell;
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::region::{CHUNK, Kind};
use procession_posix::channel::*;
use procession_posix::memory::{Config, arena, configure, kind};
use procession_posix::sync::Deadline;

#[derive(Arbitrary, Debug)]
struct Input {
    damage: Vec<Damage>,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Debug)]
struct Damage {
    /// Which of the objects, or all of the memory.
    area: u8,
    at: u16,
    how: How,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum How {
    Set(u64),
    Flip(u8),
    Add(i8),
    CopyFrom(u16),
}

#[derive(Arbitrary, Debug)]
enum Act {
    Put(Which, u16),
    Get(Which),
    /// Takes one, and is done with it or not.
    Take(Which, bool),
    Peek(Which),
    TaskDone,
    Ask(Which),
    ShutDown(Which, bool),
    /// Waits for a moment.
    Wait(Which),
    /// Takes a handle apart and puts it together again.
    Travel(Which),
    Bytes(u16),
    Sweep,
    Damage(Damage),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Which {
    Queue,
    Pipe,
    Connection,
    Lifo,
    Priority,
    Joinable,
    Simple,
    Blocking,
    Losing,
    Buffers,
}

type Object = (String, Vec<u8>);

fn object(bytes: u16) -> Object {
    ("an object".into(), vec![7; usize::from(bytes)])
}

/// One of each, made once, and the memory as it was then, which is put back after each run.
struct Carriers {
    queue: Queue<Object>,
    pipe: (Sender<Object>, Receiver<Object>),
    connections: (Connection, Connection),
    lifo: LifoQueue<Object>,
    priority: PriorityQueue<Object>,
    joinable: JoinableQueue<Object>,
    simple: SimpleQueue<Object>,
    blocking: Broadcast<Object>,
    losing: Broadcast<Object>,
    buffers: BufferQueue,
    start: usize,
    areas: Vec<Range<usize>>,
    /// The words of locks, which are waited for as long as it takes: they have a target of their own.
    locks: Vec<usize>,
    snapshot: Vec<u64>,
}

const USED: usize = 2 << 20;
/// Of a store: its lock, behind the head of the queue and its own first part.
const LOCK: usize = 256;

// SAFETY: only the one thread that fuzzes uses it.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}
struct Shared(RefCell<Carriers>);

static CARRIERS: LazyLock<Shared> = LazyLock::new(|| {
    let mut config = Config::new();
    config.reserve = Some(USED as u64);
    config.participants = Some(7);
    configure(config).expect("the first to configure");
    let again = QueueOptions::bounded(20).at_least_once();
    let pipes = PipeOptions::new().messages(4).holders(4);
    let mut carriers = Carriers {
        queue: Queue::bounded(4).expect("room"),
        pipe: pipes.typed().expect("room"),
        connections: pipes.duplex().expect("room"),
        lifo: LifoQueue::bounded(3).expect("room"),
        priority: PriorityQueue::with(again).expect("room"),
        joinable: JoinableQueue::with(again).expect("room"),
        simple: SimpleQueue::new().expect("room"),
        blocking: Broadcast::blocking(4).expect("room"),
        losing: Broadcast::losing(4).expect("room"),
        buffers: BufferQueue::bounded(4).expect("room"),
        start: arena().expect("an arena").region().base().as_ptr() as usize,
        areas: vec![],
        locks: vec![],
        snapshot: vec![],
    };
    for bytes in [1, 1000] {
        let object = object(bytes);
        carriers.queue.put(&object).expect("room");
        carriers.pipe.0.send(&object).expect("room");
        carriers.connections.0.send(&object).expect("room");
        carriers.lifo.put(&object).expect("room");
        carriers.priority.put(3, &object).expect("room");
        carriers.joinable.put(&object).expect("room");
        carriers.simple.put(&object).expect("room");
        let buffer = carriers.buffers.reserve(usize::from(bytes)).expect("room");
        carriers.buffers.put(buffer).expect("room");
    }
    carriers.find_areas();
    carriers.snapshot = (0..USED / 8).map(|index| carriers.word(index * 8).load(Relaxed)).collect();
    Shared(RefCell::new(carriers))
});

impl Carriers {
    fn find_areas(&mut self) {
        let region = arena().expect("an arena").region();
        let stores = [kind::STORE, kind::JOINABLE, kind::PRIORITY, kind::LIFO];
        let others: [Kind; 5] =
            [kind::QUEUE, kind::PIPE, kind::BUFFERS, kind::BROADCAST, kind::SEGMENT];
        for kind in stores.into_iter().chain(others) {
            region.for_each_object(kind, &mut |object, room| {
                let offset = object.offset as usize;
                self.areas.push(offset..offset + room as usize);
                if stores.contains(&kind) {
                    self.locks.push(offset + LOCK);
                }
            });
        }
        // And whatever else there is, behind the header and the tables, which have targets of their own.
        self.areas.push(CHUNK as usize..USED);
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= USED);
        // SAFETY: the arena is mapped until the end, has that many bytes, and any bytes are an atomic.
        unsafe { &*((self.start + (offset & !7)) as *const AtomicU64) }
    }

    fn damage(&self, damage: &Damage) {
        let within = &self.areas[usize::from(damage.area) % self.areas.len()];
        let at = |number: u16| within.start + usize::from(number) * 8 % (within.len() & !7).max(8);
        let place = at(damage.at);
        if self.locks.contains(&place) {
            return;
        }
        let word = self.word(place);
        let now = word.load(Relaxed);
        let then = match damage.how {
            How::Set(value) => value,
            How::Flip(bit) => now ^ 1 << (bit % 64),
            How::Add(more) => now.wrapping_add_signed(i64::from(more)),
            How::CopyFrom(other) => self.word(at(other)).load(Relaxed),
        };
        word.store(then, Relaxed);
    }

    /// As the objects were at first. In one go: a loop would be watched by the fuzzer at each step.
    fn restore(&self) {
        assert_eq!(self.snapshot.len(), USED / 8);
        // SAFETY: the arena is mapped until the end and has that many bytes; no other thread is at work on it.
        unsafe {
            self.snapshot.as_ptr().copy_to_nonoverlapping(self.start as *mut u64, USED / 8);
        }
    }

    fn put(&self, which: Which, object: &Object, deadline: Deadline) {
        match which {
            Which::Queue => drop(self.queue.put_until(object, deadline)),
            Which::Pipe => drop(self.pipe.0.send_until(object, deadline)),
            Which::Connection => drop(self.connections.0.send_until(object, deadline)),
            Which::Lifo => drop(self.lifo.put_until(object, deadline)),
            Which::Priority => drop(self.priority.put_until(-2, object, deadline)),
            Which::Joinable => drop(self.joinable.put_until(object, deadline)),
            // This one has no call that ends by itself.
            Which::Simple => {}
            Which::Blocking | Which::Losing => {
                if let Ok(publisher) = self.cast(which).publisher() {
                    let _ = publisher.publish_until(object, deadline);
                }
            }
            Which::Buffers => {
                if let Ok(mut buffer) = self.buffers.reserve(object.1.len()) {
                    buffer.fill(3);
                    let _ = self.buffers.put_until(buffer, deadline);
                }
            }
        }
    }

    fn cast(&self, which: Which) -> &Broadcast<Object> {
        if matches!(which, Which::Blocking) { &self.blocking } else { &self.losing }
    }

    fn get(&self, which: Which, deadline: Deadline) {
        match which {
            Which::Queue => drop(self.queue.get_until(deadline)),
            Which::Pipe => drop(self.pipe.1.recv_until(deadline)),
            Which::Connection => drop(self.connections.1.recv_until::<Object>(deadline)),
            Which::Lifo => drop(self.lifo.get_until(deadline)),
            Which::Priority => drop(self.priority.get_until(deadline)),
            Which::Joinable => drop(self.joinable.get_until(deadline)),
            Which::Simple => {}
            Which::Blocking | Which::Losing => {
                if let Ok(reader) = self.cast(which).subscribe_to_oldest() {
                    let _ = (reader.recv_until(deadline), reader.lag(), reader.try_recv());
                }
            }
            Which::Buffers => {
                if let Ok(buffer) = self.buffers.get_until(deadline) {
                    let _ = buffer.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                }
            }
        }
    }

    fn act(&self, act: &Act, patience: &mut u32) {
        match act {
            Act::Put(which, bytes) => self.put(*which, &object(*bytes), Deadline::NOW),
            Act::Get(which) => self.get(*which, Deadline::NOW),
            Act::Take(which, done) => {
                let taken = match which {
                    Which::Lifo => self.lifo.take_nowait(),
                    Which::Priority => self.priority.take_nowait(),
                    _ => self.joinable.take_nowait(),
                };
                if let Ok(delivery) = taken
                    && *done
                {
                    delivery.done();
                }
            }
            Act::Peek(which) => match which {
                Which::Lifo => drop(self.lifo.peek_nowait()),
                Which::Priority => drop(self.priority.peek_nowait()),
                _ => drop(self.joinable.peek_nowait()),
            },
            Act::TaskDone => {
                let _ = (self.joinable.task_done(), self.joinable.join_until(Deadline::NOW));
            }
            Act::Ask(which) => self.ask(*which),
            Act::ShutDown(which, at_once) => match which {
                Which::Queue => self.queue.close(),
                Which::Lifo => self.lifo.shutdown(*at_once),
                Which::Priority => self.priority.shutdown(*at_once),
                Which::Joinable => self.joinable.shutdown(*at_once),
                Which::Simple => self.simple.close(),
                Which::Buffers => self.buffers.close(),
                // Those of a pipe and of a broadcast are for good in this process.
                _ => {}
            },
            Act::Wait(which) => {
                // Waiting takes its time: once is enough.
                if *patience > 0 {
                    *patience -= 1;
                    let soon = || Deadline::after(Duration::from_millis(1));
                    self.put(*which, &object(9), soon());
                    self.get(*which, soon());
                }
            }
            Act::Travel(which) => self.travel(*which),
            Act::Bytes(count) => {
                let (one, other) = &self.connections;
                let _ = one.send_bytes_until(&vec![5; usize::from(*count)], Deadline::NOW);
                let _ = other.poll(Duration::ZERO);
                let _ = other.recv_bytes_max_until(50, Deadline::NOW);
                let _ = other.recv_bytes_into_until(&mut [0; 60], Deadline::NOW);
                let _ = other.recv_bytes_until(Deadline::NOW);
            }
            Act::Sweep => {
                let _ = arena().map(|arena| arena.sweep());
            }
            Act::Damage(damage) => self.damage(damage),
        }
    }

    fn ask(&self, which: Which) {
        let text = match which {
            Which::Queue => format!("{:?} {}", self.queue, self.queue.full()),
            Which::Pipe => format!("{:?}", self.pipe),
            Which::Connection => format!("{:?}", self.connections),
            Which::Lifo => format!("{:?} {}", self.lifo, self.lifo.qsize()),
            Which::Priority => format!("{:?} {}", self.priority, self.priority.lost()),
            Which::Joinable => format!("{:?} {}", self.joinable, self.joinable.unfinished()),
            Which::Simple => format!("{:?}", self.simple),
            Which::Blocking => format!("{:?} {}", self.blocking, self.blocking.published()),
            Which::Losing => format!("{:?} {}", self.losing, self.losing.subscribers()),
            Which::Buffers => format!("{:?}", self.buffers),
        };
        assert!(!text.is_empty());
    }

    fn travel(&self, which: Which) {
        macro_rules! again {
            ($handle:expr, $type:ty) => {
                if let Ok(bytes) = postcard::to_stdvec($handle) {
                    drop(postcard::from_bytes::<$type>(&bytes));
                }
            };
        }
        match which {
            Which::Queue => again!(&self.queue, Queue<Object>),
            Which::Pipe => again!(&self.pipe, (Sender<Object>, Receiver<Object>)),
            Which::Connection => again!(&self.connections, (Connection, Connection)),
            Which::Lifo => again!(&self.lifo, LifoQueue<Object>),
            Which::Priority => again!(&self.priority, PriorityQueue<Object>),
            Which::Joinable => again!(&self.joinable, JoinableQueue<Object>),
            Which::Simple => again!(&self.simple, SimpleQueue<Object>),
            Which::Blocking => again!(&self.blocking, Broadcast<Object>),
            Which::Losing => again!(&self.losing, Broadcast<Object>),
            Which::Buffers => again!(&self.buffers, BufferQueue),
        }
    }
}

fuzz_target!(|input: Input| {
    let carriers = CARRIERS.0.borrow();
    for damage in &input.damage {
        carriers.damage(damage);
    }
    let mut patience = 2;
    for act in input.acts.iter().take(100) {
        carriers.act(act, &mut patience);
    }
    carriers.restore();
});
