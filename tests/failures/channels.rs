//! The rows of queues and pipes.

use std::time::{Duration, Instant};

use procession::channel::{
    JoinTasksError, JoinableQueue, LifoQueue, Pipe, PipeOptions, QueueOptions, Receiver, RecvError,
    SendError, Sender, SimpleQueue,
};
use procession::memory::{self, Config, arena};
use procession::{GetError, Process, PutError, Queue};
use rustix::process::Signal;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::support::carrier::{Carrier, No, Wait, recv};
use crate::support::letters::Letter;
use crate::support::random::Random;
use crate::support::words::Words;
use crate::support::{Child, LONG, Word, eventually};
use crate::{SOON, promptly};

/// For what must not take its time.
const MOMENT: Duration = Duration::from_millis(20);

// ---- f02: gh-87971. A consumer killed inside get() keeps the reader's lock; others see Empty, although qsize is 1.

pub fn f02_asleep() {
    killed_while_asleep(&Queue::bounded(3).unwrap());
    killed_while_asleep(&pipe::<u64>(3));
    killed_while_asleep(&LifoQueue::bounded(3).unwrap());
    let again = QueueOptions::bounded(3).at_least_once();
    killed_while_asleep(&LifoQueue::with(again).unwrap());
}

/// A pipe for so many messages, both ends in one hand.
fn pipe<T>(messages: usize) -> (Sender<T>, Receiver<T>) {
    PipeOptions::new().messages(messages).typed().unwrap()
}

/// Getters die in their sleep. They take nothing along, neither an object nor the turn.
fn killed_while_asleep<Q: Carrier<u64> + Sized>(queue: &Q) {
    for wait in [Wait::Endless, Wait::For(LONG), Wait::Until(LONG)] {
        let got = Word::new();
        let getter = || Child::start(|| got.set(queue.fetch(wait).unwrap()));
        // All die; what is put then is there for anybody, at once.
        let [zombie, gone] = [(); 2].map(|()| getter());
        zombie.falls_asleep();
        gone.falls_asleep();
        zombie.kill();
        gone.kill();
        drop(gone);
        promptly("a put", || queue.offer(&1, Wait::Not).unwrap());
        assert_eq!(promptly("a try", || queue.try_receive()), Ok(1));
        assert_eq!(promptly("a try", || queue.try_receive()), Err(No::NotNow));
        drop(zombie);
        // Some die, in whatever order they came. What is put is for the living.
        for dead in [[0, 1], [0, 2], [1, 2]] {
            let mut getters: Vec<_> = (0..3).map(|_| getter()).collect();
            getters.iter().for_each(Child::falls_asleep);
            for at in dead {
                getters[at].kill();
            }
            got.set(0);
            queue.give(&7);
            promptly("the living one's get", || {
                getters.swap_remove(3 - dead[0] - dead[1]).finish();
            });
            assert_eq!(got.get(), 7);
        }
        // One dies with the wake-up on its way to it.
        let [dead, heir] = [(); 2].map(|()| getter());
        dead.falls_asleep();
        heir.falls_asleep();
        dead.signal(Signal::STOP);
        queue.give(&8);
        dead.kill();
        promptly("the other one's get", || heir.finish());
        assert_eq!(got.get(), 8);
        // And putters, who wait for room.
        while queue.try_give(&0) == Ok(()) {}
        let putter = |object: u64| Child::start(move || queue.offer(&object, wait).unwrap());
        let [dead, living] = [100, 101].map(putter);
        dead.falls_asleep();
        living.falls_asleep();
        dead.kill();
        assert_eq!(queue.receive(), 0);
        promptly("the living one's put", || living.finish());
        let rest = std::iter::from_fn(|| queue.try_receive().ok());
        assert_eq!(rest.filter(|&object| object != 0).collect::<Vec<_>>(), [101]);
    }
}

pub fn f02_anywhere() {
    const ROUNDS: u64 = 150;
    let queue = Queue::<u64>::bounded(8).unwrap();
    // How often each number was got.
    let got = Words::new(1 << 20);
    let getter = || {
        Child::start(|| {
            loop {
                got.add(queue.receive() as usize, 1);
            }
        })
    };
    let mut random = Random::new(2);
    let mut getters = [getter(), getter()];
    let mut next = 0;
    for round in 0..ROUNDS {
        // Somebody lives at any time: what is put is got.
        let end = Instant::now() + random.micros(2000);
        while Instant::now() < end || next == 0 {
            promptly("a put", || queue.give(&next));
            next += 1;
        }
        let at = (round % 2) as usize;
        getters[at].kill();
        getters[at] = getter();
    }
    eventually("the living have got all", || queue.empty());
    getters.iter().for_each(Child::kill);
    // What a dead one had in hand is all that is missing, and what is free is as much as ever.
    let count = |times| (0..next).filter(|&at| got.get(at as usize) == times).count() as u64;
    assert!(count(0) <= ROUNDS + 2, "{} of {next} are lost", count(0));
    assert_eq!(count(0) + count(1), next, "nothing twice");
    for object in 0..queue.capacity() as u64 {
        promptly("a put", || queue.give(&object));
    }
    assert!(queue.full());
    let all: Vec<_> = std::iter::from_fn(|| queue.try_receive().ok()).collect();
    assert_eq!(all, (0..queue.capacity() as u64).collect::<Vec<_>>());
}

pub fn f02_worker() {
    for again in [true, false] {
        const TASKS: u64 = 3000;
        let options = QueueOptions::unbounded();
        let options = if again { options.at_least_once() } else { options };
        let tasks = JoinableQueue::<Letter>::with(options).unwrap();
        // Of each task: how often somebody has begun with it; of all: how many were done.
        let (begun, done) = (Words::new(TASKS as usize), Word::new());
        let worker = || {
            Child::start(|| {
                loop {
                    let task = tasks.take().unwrap();
                    assert!(task.is_whole());
                    begun.add(task.number as usize, 1);
                    // An order: by name, and by whatever was got.
                    if task.number % 2 == 0 {
                        task.done();
                        done.count();
                        continue;
                    }
                    task.done();
                    done.count();
                    let task = tasks.get().unwrap();
                    begun.add(task.number as usize, 1);
                    tasks.task_done().unwrap();
                    done.count();
                }
            })
        };
        let mut workers = [worker(), worker(), worker()];
        let mut random = Random::new(2);
        let mut kills = 0;
        for number in 0..TASKS {
            tasks.put(&Letter::new(0, number, [9, 3000][number as usize % 2])).unwrap();
            if number % 20 == 19 {
                std::thread::sleep(random.micros(300));
                let at = random.below(3) as usize;
                workers[at].kill();
                workers[at] = worker();
                kills += 1;
            }
        }
        // Whoever waits for all of it is told when nothing is unfinished, whoever died.
        let answer = tasks.join_timeout(LONG);
        let times = |times: u64| (0..TASKS).filter(|&at| begun.get(at as usize) == times).count();
        let lost = match answer {
            Ok(()) => 0,
            Err(JoinTasksError::Lost { lost }) => lost,
            Err(error) => panic!("{error}: {} are unfinished", tasks.unfinished()),
        };
        assert_eq!((tasks.unfinished(), tasks.qsize()), (0, 0));
        assert!(lost <= kills && times(0) as u64 <= lost, "{lost} lost, {} never begun", times(0));
        // What a worker was done with in its last moments it may not have noted.
        assert!((TASKS - kills..=TASKS).contains(&(done.get() + lost)), "{} {lost}", done.get());
        match again {
            true => assert_eq!((lost, times(0)), (0, 0), "each was delivered, if need be again"),
            false => assert_eq!(times(0) + times(1), TASKS as usize, "none was delivered twice"),
        }
    }
}

// ---- f05: the warning at Process.terminate. Who is terminated in put or get leaves half a message: get and put hang.

pub fn f05_queue() {
    terminated(|| Queue::bounded(4).unwrap());
}

pub fn f05_stack() {
    terminated(|| LifoQueue::with(QueueOptions::bounded(4).at_least_once()).unwrap());
}

pub fn f05_pipe() {
    terminated(|| pipe::<Letter>(4));
}

/// Who puts into it and who gets out of it are killed again and again.
fn terminated<Q: Carrier<Letter>>(make: impl FnOnce() -> Q) {
    // So little memory that it would soon be used up, if a dead one's were not given back.
    let mut config = Config::new();
    config.reserve = Some(64 << 20);
    memory::configure(config).unwrap();
    const ROUNDS: u64 = 120;
    const LARGEST: usize = 1 << 20;
    const WRITERS: u64 = 2;
    let queue = &make();
    // Of each writer that there ever was: the number that it put last.
    let acknowledged = Words::new(1024);
    let (writers, read) = (Word::new(), Words::new(2));
    let writer = || {
        let name = writers.add(1);
        Child::start(move || {
            let mut random = Random::new(name);
            for number in 1.. {
                // One word, a block of a page or so, and more.
                let most = [16, 10_000, LARGEST as u64][number as usize % 3];
                let bytes = random.below(most + 1) as usize;
                queue.give(&Letter::new(name as u32, number, bytes));
                acknowledged.set(name as usize, number);
            }
        })
    };
    // What a reader has seen of each writer; readers come one after the other.
    let seen = Words::new(1024);
    let reader = |slot: usize| {
        Child::start(move || {
            loop {
                let letter = queue.receive();
                assert!(letter.is_whole(), "a torn letter: {} bytes", letter.bytes());
                // Two readers may write this down in the other order.
                seen.max(letter.writer as usize, letter.number);
                read.add(slot, 1);
            }
        })
    };
    let mut random = Random::new(5);
    let mut all = [writer(), writer(), reader(0), reader(1)];
    for round in 0..ROUNDS {
        std::thread::sleep(random.micros(6000));
        let at = random.below(4) as usize;
        match round % 2 {
            0 => all[at].kill(),
            _ => {
                all[at].signal(Signal::TERM);
                eventually("SIGTERM ends it", || all[at].has_ended());
            }
        }
        all[at] = if at < WRITERS as usize { writer() } else { reader(at - 2) };
        // Both ends go on, whatever the dead had left.
        let before = [read.get(0) + read.get(1), writers.get()];
        if round % 10 == 0 {
            eventually("the readers get something", || read.get(0) + read.get(1) > before[0] + 8);
        }
        assert!(all.iter().all(|child| !child.has_ended()), "somebody has ended by itself");
    }
    for child in &all[..WRITERS as usize] {
        child.kill();
    }
    for child in &all[WRITERS as usize..] {
        child.kill();
    }
    while let Ok(letter) = queue.try_receive() {
        assert!(letter.is_whole());
        seen.max(letter.writer as usize, letter.number);
    }
    for name in 0..writers.get() as usize {
        // At most one in the hand of each reader that died, and one that was put and not acknowledged any more.
        assert!(seen.get(name) <= acknowledged.get(name) + 1, "more than was put");
    }
    // As much memory as before: the largest letters, several times over.
    arena().unwrap().sweep();
    assert_eq!(arena().unwrap().region().usage().queued, 0, "blocks that nobody will get");
    for number in 0..200 {
        promptly("a put", || queue.give(&Letter::new(0, number, LARGEST)));
        assert!(promptly("a get", || queue.receive()).is_whole());
    }
}

// ---- f06: gh-73983, gh-78321. Who joins a process before it drains the queue waits for ever: the feeder thread cannot end.

/// Puts until there is no room, and ends. How much it has put.
fn fill(queue: Queue<Letter>, bytes: usize) -> u64 {
    let mut number = 0;
    loop {
        match queue.put_nowait(&Letter::new(9, number, bytes)) {
            Ok(()) => number += 1,
            Err(PutError::Full | PutError::Memory(_)) => return number,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The same at a pipe.
fn fill_pipe(sender: Sender<Letter>, bytes: usize) -> u64 {
    let mut number = 0;
    loop {
        match sender.try_send(&Letter::new(9, number, bytes)) {
            Ok(()) => number += 1,
            Err(SendError::Full) => return number,
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn f06_pipe() {
    for bytes in [0, 100, 5000, 200_000] {
        let (sender, receiver) = pipe(100);
        let child = Process::new(fill_pipe, (sender, bytes)).start().unwrap();
        let sent = promptly("a join before anything is received", || child.join_timeout(LONG));
        assert_eq!(sent.unwrap(), 100);
        // It is gone, what it sent is not.
        for number in 0..100 {
            assert_eq!(recv(&receiver, Wait::Endless), Ok(Letter::new(9, number, bytes)));
        }
        assert_eq!(recv(&receiver, Wait::Endless), Err(No::Closed));
    }
}

pub fn f06_join_first() {
    for bytes in [0, 100, 5000, 200_000] {
        let queue = Queue::bounded(100).unwrap();
        let child = Process::new(fill, (queue.clone(), bytes)).start().unwrap();
        let put = promptly("a join before anything is got", || child.join_timeout(LONG)).unwrap();
        assert_eq!((put, queue.qsize()), (100, 100));
        // Who has to wait for room says so in time, and need not stay.
        let begin = Instant::now();
        let letter = Letter::new(9, 100, bytes);
        assert!(matches!(queue.put_timeout(&letter, MOMENT), Err(PutError::TimedOut)));
        assert!(matches!(queue.put_nowait(&letter), Err(PutError::Full)));
        assert!((MOMENT..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        let waiter = Child::start(|| {
            std::thread::scope(|threads| {
                threads.spawn(|| queue.give(&letter));
                std::thread::sleep(MOMENT);
                // A process ends when its main thread does, whatever others wait for.
                std::process::exit(0);
            });
        });
        promptly("the end of a process that waits for room", || waiter.finish());
        for number in 0..100 {
            assert_eq!(queue.try_receive(), Ok(Letter::new(9, number, bytes)));
        }
        assert_eq!(queue.try_receive(), Err(No::NotNow));
    }
}

// ---- f07: gh-84376, gh-79423, gh-109554. An object that cannot be serialised is lost without a word.

/// An object that may be spoilt.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Stubborn {
    before: Vec<u8>,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum How {
    Fine,
    Refuses,
    Panics,
}

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.how {
            How::Refuses => Err(S::Error::custom("this one stays here")),
            How::Panics => panic_quietly(),
            // Half of it is written by then.
            How::Fine => (&self.before, self.how).serialize(serializer),
        }
    }
}

/// Panics, without a line about it.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

/// The same as `Stubborn`, but it is refused only when half of it is encoded.
#[derive(Debug, Serialize, Deserialize)]
struct Late {
    #[serde(with = "serde_bytes")]
    before: Vec<u8>,
    last: Stubborn,
}

pub fn f07_refused() {
    let late = |bytes, how| Late { before: vec![7; bytes], last: Stubborn { before: vec![], how } };
    let queue = Queue::<Late>::bounded(1).unwrap();
    let used = || arena().unwrap().region().usage();
    queue.give(&late(100_000, How::Fine));
    queue.receive();
    let before = used();
    for bytes in [0, 90, 110, 5000, 100_000, 3 << 20] {
        for _ in 0..20 {
            // Who puts is told, and nothing of it is there.
            let answer = queue.put(&late(bytes, How::Refuses));
            assert!(matches!(answer, Err(PutError::Encode(_))), "{answer:?}");
            let panics = || queue.put(&late(bytes, How::Panics));
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
            assert!(panicked.is_err());
            assert_eq!((queue.qsize(), queue.empty(), queue.full()), (0, true, false));
            assert!(matches!(queue.get_nowait(), Err(GetError::Empty)));
        }
        // The queue is as good as before, here and elsewhere.
        queue.put_nowait(&late(bytes, How::Fine)).unwrap();
        Child::start(|| assert_eq!(queue.get_nowait().unwrap().before.len(), bytes)).finish();
    }
    let after = used();
    assert_eq!((after.queued, after.owned), (before.queued, before.owned), "no block is left over");
    // What is too large is refused, and the error says how large it is and how large it may be.
    let small =
        procession::channel::QueueOptions::bounded(1).largest_object(1000).create().unwrap();
    match small.put(&vec![1u8; 1001]) {
        Err(PutError::TooLarge { bytes: 1003, largest: 1000 }) => {}
        answer => panic!("{answer:?}"),
    }
    small.put_nowait(&vec![1u8; 998]).unwrap();
    assert_eq!(small.get_nowait().unwrap().len(), 998);
}

pub fn f07_pipe() {
    let late = |bytes, how| Late { before: vec![7; bytes], last: Stubborn { before: vec![], how } };
    let (sender, receiver) = pipe(1);
    for bytes in [0, 90, 110, 5000, 3 << 20] {
        for _ in 0..20 {
            let answer = sender.send(&late(bytes, How::Refuses));
            assert!(matches!(answer, Err(SendError::Encode(_))), "{answer:?}");
            let panics = || sender.send(&late(bytes, How::Panics));
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
            assert!(panicked.is_err());
            assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
        }
        sender.try_send(&late(bytes, How::Fine)).unwrap();
        assert_eq!(receiver.try_recv().unwrap().before.len(), bytes);
    }
    // A message that is longer than its receiver wants leaves the connection as good as before.
    let (reader, writer) = Pipe::simplex().unwrap();
    for bytes in [50, 200, 100_000] {
        writer.send_bytes(&vec![1; bytes]).unwrap();
        writer.send(&"the next").unwrap();
        match reader.recv_bytes_max(bytes - 1) {
            Err(RecvError::TooLong { bytes: found, most }) => {
                assert_eq!((found, most), (bytes, bytes - 1));
            }
            answer => panic!("{answer:?}"),
        }
        assert_eq!(reader.recv_bytes_max(bytes).unwrap(), vec![1; bytes]);
        assert_eq!(reader.recv::<String>().unwrap(), "the next");
        // One that does not fit into a buffer is not lost.
        writer.send_bytes(&vec![2; bytes]).unwrap();
        match reader.recv_bytes_into(&mut vec![0; bytes - 1]) {
            Err(RecvError::BufferTooShort { message, room }) => {
                assert_eq!((message, room), (vec![2; bytes], bytes - 1));
            }
            answer => panic!("{answer:?}"),
        }
        writer.send_bytes(&[3]).unwrap();
        let mut room = vec![0; bytes];
        assert_eq!(reader.recv_bytes_into(&mut room).unwrap(), 1);
        assert_eq!(room[..2], [3, 0]);
    }
}

/// An object that arrives, and then is none.
#[derive(Debug, Serialize)]
struct Unreadable(u8);

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            13 => Err(serde::de::Error::custom("thirteen")),
            14 => panic_quietly(),
            number => Ok(Unreadable(number)),
        }
    }
}

pub fn f07_unreadable() {
    let queue = Queue::<Unreadable>::bounded(4).unwrap();
    for round in 0..50 {
        for number in [1, 13, 14, 2] {
            queue.put_nowait(&Unreadable(number)).unwrap();
        }
        // It costs that object only, and nobody waits.
        assert_eq!(queue.get().unwrap().0, 1);
        match queue.get() {
            Err(GetError::Decode { expected, .. }) => assert!(expected.contains("Unreadable")),
            answer => panic!("{answer:?}"),
        }
        let panics = || queue.get();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
        assert!(panicked.is_err());
        assert_eq!((queue.get().unwrap().0, queue.qsize()), (2, 0), "in round {round}");
    }
}

// ---- f08: gh-87302, gh-142837. get_nowait and empty are wrong right after a put, 200 times of 200.

pub fn f08_at_once() {
    let queue = Queue::bounded(2).unwrap();
    right_after_put(&queue, &|queue| (queue.qsize(), queue.empty()));
}

pub fn f08_store() {
    let queue = LifoQueue::bounded(2).unwrap();
    right_after_put(&queue, &|queue| (queue.qsize(), queue.empty()));
    let queue = LifoQueue::with(QueueOptions::unbounded().at_least_once()).unwrap();
    right_after_put(&queue, &|queue| (queue.qsize(), queue.empty()));
    let queue = SimpleQueue::new().unwrap();
    for number in 0..200u64 {
        queue.put(&vec![number; 100]).unwrap();
        assert!(!queue.empty());
        Child::start(|| assert_eq!(queue.get().unwrap(), vec![number; 100])).finish();
        assert!(queue.empty());
    }
}

/// `size`: how many are there, and whether it is empty.
fn right_after_put<Q: Carrier<Vec<u64>>>(queue: &Q, size: &dyn Fn(&Q) -> (usize, bool)) {
    for words in [1, 1000, 20_000] {
        let object = vec![7; words];
        // In one process.
        for _ in 0..200 {
            assert_eq!(size(queue), (0, true));
            queue.give(&object);
            assert_eq!(size(queue), (1, false));
            // Not "busy" either: nobody else is there.
            assert_eq!(queue.fetch(Wait::Not).as_ref(), Ok(&object));
            assert_eq!(size(queue), (0, true));
            assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
        }
        // In two: one looks as soon as the other's put has returned, or its get.
        let (turn, rounds) = (Word::new(), 300);
        let putter = Child::start(|| {
            for round in 0..rounds {
                spin_until(turn, 2 * round);
                queue.give(&object);
                turn.set(2 * round + 1);
            }
        });
        let getter = Child::start(|| {
            for round in 0..rounds {
                spin_until(turn, 2 * round + 1);
                assert_eq!(size(queue), (1, false), "in round {round}");
                assert_eq!(queue.fetch(Wait::Not).as_ref(), Ok(&object), "in round {round}");
                assert_eq!((size(queue), queue.fetch(Wait::Not)), ((0, true), Err(No::NotNow)));
                turn.set(2 * round + 2);
            }
        });
        putter.finish();
        getter.finish();
    }
}

/// Waits without giving the processor away: what comes then comes at once.
fn spin_until(word: Word, value: u64) {
    let deadline = Instant::now() + LONG;
    while word.get() != value {
        for _ in 0..1000 {
            std::hint::spin_loop();
        }
        if Instant::now() > deadline {
            panic!("the other one does not come");
        }
        std::thread::yield_now();
    }
}

// ---- f29: two writers at one end of a pipe spoil it: 590 of 600 messages.

pub fn f29_queue() {
    many_writers(&Queue::bounded(64).unwrap());
    many_writers(&JoinableQueue::bounded(64).unwrap());
}

pub fn f29_pipe() {
    let ends = pipe::<Letter>(64);
    many_writers(&ends);
    let (reader, writer) = Pipe::simplex().unwrap();
    many_writers(&(writer, reader));
    // Both ways at the same time, by as many processes at either end.
    let (one, other) = Pipe::duplex().unwrap();
    let there = Child::start(|| many_writers(&(one.clone(), other.clone())));
    many_writers(&(other.clone(), one.clone()));
    there.finish();
}

/// Some write, some read; each letter arrives whole, once, and each writer's in their order.
fn many_writers<Q: Carrier<Letter>>(queue: &Q) {
    const WRITERS: u32 = 3;
    const LETTERS: u64 = 200;
    let arrived = Words::new((u64::from(WRITERS) * LETTERS) as usize);
    for readers in [1, 3] {
        let all = u64::from(WRITERS) * LETTERS;
        let taken = Word::new();
        let children: Vec<_> = (0..readers)
            .map(|_| {
                Child::start(|| {
                    let mut last = [None; WRITERS as usize];
                    while taken.add(1) < all {
                        let letter = queue.receive();
                        assert!(letter.is_whole(), "a torn letter: {} bytes", letter.bytes());
                        let last = &mut last[letter.writer as usize];
                        assert!(*last < Some(letter.number), "out of order");
                        *last = Some(letter.number);
                        arrived
                            .add((u64::from(letter.writer) * LETTERS + letter.number) as usize, 1);
                    }
                })
            })
            .chain((0..WRITERS).map(|writer| {
                Child::start(move || {
                    let mut random = Random::new(writer.into());
                    for number in 0..LETTERS {
                        // Large ones, and between them some that fit between two pieces of a large one.
                        let bytes = if random.one_in(3) { random.below(100) } else { 40_000 };
                        queue.give(&Letter::new(writer, number, bytes as usize));
                    }
                })
            }))
            .collect();
        children.into_iter().for_each(Child::finish);
        assert_eq!(queue.try_receive().unwrap_err(), No::NotNow, "nothing is left over");
        for at in 0..all as usize {
            assert_eq!(arrived.get(at), 1, "number {at}");
            arrived.set(at, 0);
        }
    }
    // A writer that stops halfway, or dies, is in nobody's way, nor do others take its place.
    let dead = Child::start(|| {
        loop {
            queue.give(&Letter::new(0, 0, 40_000));
        }
    });
    eventually("it has filled its end", || {
        queue.try_give(&Letter::new(1, 0, 9)) == Err(No::NotNow)
    });
    dead.kill();
    while let Ok(letter) = queue.try_receive() {
        assert!(letter.is_whole() && (letter.bytes() == 40_000 || letter.writer == 1));
    }
    queue.give(&Letter::new(2, 7, 500_000));
    assert_eq!(queue.receive(), Letter::new(2, 7, 500_000));
}
