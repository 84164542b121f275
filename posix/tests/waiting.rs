//! Waiting for anything: objects in memory, descriptors, and both together.
//!
//! One test at a time, for one of them counts the threads and descriptors of its process.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use procession_posix::channel::{
    Broadcast, BufferQueue, Connection, GetError, JoinableQueue, LifoQueue, Pipe, PodQueue,
    PriorityQueue, Queue, RecvError, Sender, SimpleQueue, pipe,
};
use procession_posix::process::{Process, StartMethod};
use procession_posix::sync::{Event, Lock, Semaphore};
use procession_posix::wait::{Waitable, Writable, wait, wait_any, wait_any_timeout, wait_timeout};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LONG: Duration = Duration::from_secs(60);
/// So long a sleep has begun for sure; if not, the test proves less, and is as right.
const ASLEEP: Duration = Duration::from_millis(30);

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As `wait`, but not for ever.
fn within_long(objects: &[&dyn Waitable]) -> Vec<usize> {
    let begin = Instant::now();
    let ready = wait_timeout(objects, LONG);
    // A last look at the deadline finds what was overlooked.
    assert!(!ready.is_empty() && begin.elapsed() < LONG / 2, "{ready:?}, late");
    ready
}

fn at_once(objects: &[&dyn Waitable]) -> Vec<usize> {
    wait_timeout(objects, Duration::ZERO)
}

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::yield_now();
    }
}

fn put_when_told(go: Event, queue: Queue<u32>) {
    assert!(go.wait_timeout(LONG));
    queue.put(&7).unwrap();
}

fn die_with(go: Event, lock: Lock) {
    std::mem::forget(lock.acquire().unwrap());
    go.set();
    thread::sleep(LONG);
}

fn nothing() {}

#[test]
fn all_that_are_ready_are_said_by_their_places() {
    let _turn = turn();
    alone!(all_that_are_ready_are_said_by_their_places);
    assert!(wait(&[]).is_empty() && wait_any(&[]).is_none());
    let (queue, event) = (Queue::bounded(1).unwrap(), Event::new().unwrap());
    let (mut near, far) = UnixStream::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let child = Process::new(nothing, ()).daemon(true).start().unwrap();
    let all: [&dyn Waitable; 6] = [&queue, &event, &far, &listener, &queue.room(), &queue];
    assert_eq!(at_once(&all), [4]);
    queue.put(&1).unwrap();
    assert_eq!(at_once(&all), [0, 5], "a duplicate is ready twice, and there is no room");
    near.write_all(b"x").unwrap();
    assert_eq!(within_long(&all), [0, 2, 5]);
    event.set();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(within_long(&all), [0, 1, 2, 3, 5]);
    assert_eq!((wait_any(&all), wait_any(&all[1..4])), (Some(0), Some(0)));
    // Duplicates of a descriptor, by different names.
    assert_eq!(within_long(&[&far, &far.as_fd(), &Writable(&far)]), [0, 1, 2]);
    // The end of a stream, and of a process.
    let mut byte = [0];
    (&far).read_exact(&mut byte).unwrap();
    assert!(at_once(&[&far]).is_empty());
    drop(near);
    assert_eq!(within_long(&[&far]), [0]);
    assert_eq!(within_long(&[&child]), [0]);
    child.join_timeout(LONG).unwrap();
    assert_eq!(within_long(&[&child, &event]), [0, 1], "and stays ready");
    // Closed and drained.
    assert_eq!(queue.get().unwrap(), 1);
    assert!(at_once(&[&queue]).is_empty());
    queue.close();
    assert_eq!(at_once(&[&queue, &queue.room()]), [0, 1]);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
}

#[test]
fn each_wakes_the_others_company() {
    let _turn = turn();
    // Waiting for descriptors and memory makes a thread.
    let start = StartMethod::Zygote;
    let (go, queue) = (Event::new().unwrap(), Queue::bounded(4).unwrap());
    let (mut near, far) = UnixStream::pair().unwrap();
    let event = Event::new().unwrap();
    for objects in [&[&far as &dyn Waitable, &queue, &event][..], &[&event, &queue]] {
        // From another process, into a sleep.
        go.clear();
        let putter = Process::new(put_when_told, (go.clone(), queue.clone())).method(start);
        let putter = putter.daemon(true).start().unwrap();
        thread::scope(|threads| {
            threads.spawn(|| {
                thread::sleep(ASLEEP);
                go.set();
            });
            assert_eq!(within_long(objects), [1]);
        });
        putter.join_timeout(LONG).unwrap();
        assert_eq!(queue.get_nowait().unwrap(), 7);
    }
    // A descriptor, beside memory.
    thread::scope(|threads| {
        let waiter = threads.spawn(|| within_long(&[&queue, &event, &far]));
        thread::sleep(ASLEEP);
        near.write_all(b"x").unwrap();
        assert_eq!(waiter.join().unwrap(), [2]);
    });
    // The end of a process, beside memory and alone.
    let (lock, (_near, far)) = (Lock::new().unwrap(), UnixStream::pair().unwrap());
    let dying = |notice: &dyn Fn(&dyn Waitable)| {
        go.clear();
        let child = Process::new(die_with, (go.clone(), lock.clone())).method(start);
        let child = child.daemon(true).start().unwrap();
        assert!(go.wait_timeout(LONG));
        thread::scope(|threads| {
            threads.spawn(|| {
                thread::sleep(ASLEEP);
                child.kill().unwrap();
            });
            notice(&child);
        });
        assert!(child.join_timeout(LONG).is_err());
        lock.acquire().unwrap_err().into_guard().unwrap().mark_consistent();
    };
    dying(&|child| assert_eq!(within_long(&[&queue, child, &event]), [1]));
    // What a dead one held is ready, whatever is waited for beside it.
    dying(&|_| assert_eq!(within_long(&[&event, &lock]), [1]));
    dying(&|_| assert_eq!(within_long(&[&event, &far, &lock]), [2]));
    dying(&|_| eventually("a look finds it", || at_once(&[&far, &lock]) == [1]));
}

#[test]
fn a_deadline_is_kept_and_nothing_stays_behind() {
    let _turn = turn();
    let (queue, event) = (Queue::<u32>::bounded(1).unwrap(), Event::new().unwrap());
    let (_near, far) = UnixStream::pair().unwrap();
    let before = (count("task"), count("fd"));
    for objects in [&[&queue as &dyn Waitable, &event][..], &[&far], &[&queue, &far, &event]] {
        let (begin, wait) = (Instant::now(), Duration::from_millis(60));
        assert!(wait_timeout(objects, wait).is_empty());
        assert!(wait_any_timeout(objects, wait).is_none());
        assert!(begin.elapsed() >= 2 * wait && begin.elapsed() < LONG);
    }
    eventually("thread and descriptors are gone", || (count("task"), count("fd")) == before);
    // A wait for memory, or for descriptors, takes neither.
    thread::scope(|threads| {
        let waiters = [
            threads.spawn(|| within_long(&[&queue, &event])),
            threads.spawn(|| within_long(&[&far])),
        ];
        thread::sleep(ASLEEP);
        assert_eq!((count("task"), count("fd")), (before.0 + 2, before.1));
        event.set();
        far.shutdown(std::net::Shutdown::Both).unwrap();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn without_a_descriptor_to_be_had_it_waits_all_the_same() {
    let _turn = turn();
    let (queue, event) = (Queue::<u32>::bounded(1).unwrap(), Event::new().unwrap());
    let (_near, far) = UnixStream::pair().unwrap();
    let limit = getrlimit(Resource::Nofile);
    let copies: Vec<_> = (0..64).map(|_| far.try_clone().unwrap()).collect();
    let few = Rlimit { current: Some(2), ..limit };
    setrlimit(Resource::Nofile, few).unwrap();
    thread::scope(|threads| {
        threads.spawn(|| {
            thread::sleep(ASLEEP);
            event.set();
        });
        // More than may be polled at once.
        let mut all: Vec<&dyn Waitable> = vec![&queue, &event];
        all.extend(copies.iter().map(|copy| copy as &dyn Waitable));
        assert_eq!(within_long(&all), [1]);
    });
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn more_than_the_kernel_sleeps_on_at_a_time() {
    let _turn = turn();
    let events: Vec<Event> = (0..200).map(|_| Event::new().unwrap()).collect();
    let (_near, far) = UnixStream::pair().unwrap();
    for mixed in [false, true] {
        let mut all: Vec<&dyn Waitable> = events.iter().map(|event| event as _).collect();
        if mixed {
            all.push(&far);
        }
        thread::scope(|threads| {
            threads.spawn(|| {
                thread::sleep(ASLEEP);
                events[170].set();
            });
            assert_eq!(within_long(&all), [170]);
        });
        events[170].clear();
    }
}

/// Puts so many into one queue, with pauses now and then that let its readers sleep.
fn put_all(queue: Queue<u32>, count: u32) {
    for number in 0..count {
        queue.put(&number).unwrap();
        if number % 16 == 0 {
            thread::sleep(Duration::from_micros(300));
        }
    }
}

#[test]
fn nobody_sleeps_beside_what_it_waits_for() {
    let _turn = turn();
    alone!(nobody_sleeps_beside_what_it_waits_for);
    const EACH: u32 = 600;
    let queues: Vec<Queue<u32>> = (0..3).map(|_| Queue::bounded(3).unwrap()).collect();
    let permits = Semaphore::new(0).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let putters: Vec<_> = queues
        .iter()
        .map(|queue| Process::new(put_all, (queue.clone(), EACH)).daemon(true).start().unwrap())
        .collect();
    let got = std::sync::atomic::AtomicU32::new(0);
    let (all, stop) = (3 * EACH + 2 * EACH, Event::new().unwrap());
    let counted = || {
        if got.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == all {
            stop.set();
        }
    };
    thread::scope(|threads| {
        // Some wait for all, others for the memory alone.
        for mixed in [true, true, false] {
            let (queues, permits, far, stop) = (&queues, &permits, &far, &stop);
            threads.spawn(move || {
                let mut objects: Vec<&dyn Waitable> = queues.iter().map(|one| one as _).collect();
                objects.extend([permits as &dyn Waitable, stop]);
                if mixed {
                    objects.push(far);
                }
                loop {
                    for place in within_long(&objects) {
                        match place {
                            3 => {
                                if permits.try_take().is_ok() {
                                    counted();
                                }
                            }
                            4 => return,
                            5 => {
                                if matches!((&*far).read(&mut [0]), Ok(1)) {
                                    counted();
                                }
                            }
                            queue => {
                                if queues[queue].get_nowait().is_ok() {
                                    counted();
                                }
                            }
                        }
                    }
                }
            });
        }
        // It stays open until all is read: its end would be readiness.
        threads.spawn(|| {
            for number in 0..EACH {
                (&near).write_all(b"x").unwrap();
                if number % 16 == 0 {
                    thread::sleep(Duration::from_micros(300));
                }
            }
        });
        threads.spawn(|| {
            for number in 0..EACH {
                permits.release().unwrap();
                if number % 16 == 0 {
                    thread::sleep(Duration::from_micros(300));
                }
            }
        });
    });
    for putter in putters {
        putter.join_timeout(LONG).unwrap();
    }
    assert!(queues.iter().all(Queue::empty));
}

/// Becomes ready while it is waited for, alone, beside memory, and beside a descriptor; stays so until `undo`.
fn becomes_ready(what: &str, object: &dyn Waitable, ready: &(dyn Fn() + Sync), undo: &dyn Fn()) {
    let event = Event::new().unwrap();
    let (_near, far) = UnixStream::pair().unwrap();
    for objects in [&[object][..], &[&event, object], &[&far, &event, object]] {
        assert!(at_once(objects).is_empty(), "{what} is ready too early");
        let last = objects.len() - 1;
        thread::scope(|threads| {
            threads.spawn(|| {
                thread::sleep(ASLEEP / 3);
                ready();
            });
            assert_eq!(within_long(objects), [last], "{what}");
        });
        assert_eq!(at_once(objects), [last], "{what}");
        undo();
    }
    assert!(at_once(&[object]).is_empty(), "{what} stays ready");
}

/// Both sides of a queue of two, put and got so.
fn both_sides(
    what: &str,
    (items, room): (&dyn Waitable, &dyn Waitable),
    put: &(dyn Fn() + Sync),
    get: &(dyn Fn() + Sync),
    close: &dyn Fn(),
) {
    becomes_ready(what, items, put, get);
    put();
    put();
    becomes_ready(what, room, get, put);
    assert_eq!(at_once(&[items, room, items]), [0, 2], "{what}");
    close();
    assert_eq!(at_once(&[items, room]), [0, 1], "{what}: closed");
    get();
    get();
    assert_eq!(at_once(&[items, room]), [0, 1], "{what}: closed and drained");
}

#[test]
fn whatever_carries_objects_can_be_waited_for() {
    let _turn = turn();
    /// A queue of two small objects.
    macro_rules! queue {
        ($type:ident $(, $key:literal)?) => {
            let queue = $type::<u32>::bounded(2).unwrap();
            both_sides(
                stringify!($type),
                (&queue, &queue.room()),
                &|| queue.put_nowait($($key,)? &7).unwrap(),
                &|| _ = queue.get_nowait().unwrap(),
                &|| queue.close(),
            );
        };
    }
    queue!(Queue);
    queue!(JoinableQueue);
    queue!(LifoQueue);
    queue!(PriorityQueue, 3);
    let pods = PodQueue::<u32>::bounded(2).unwrap();
    both_sides(
        "PodQueue",
        (&pods, &pods.room()),
        &|| pods.put_nowait(7).unwrap(),
        &|| _ = pods.get_nowait().unwrap(),
        &|| pods.close(),
    );
    let simple = SimpleQueue::<u32>::new().unwrap();
    becomes_ready("SimpleQueue", &simple, &|| simple.put(&1).unwrap(), &|| {
        simple.get().unwrap();
    });
    let buffers = BufferQueue::bounded(2).unwrap();
    both_sides(
        "BufferQueue",
        (&buffers, &buffers.room()),
        &|| buffers.put_nowait(buffers.reserve(9).unwrap()).unwrap(),
        &|| drop(buffers.get_nowait().unwrap()),
        &|| buffers.close(),
    );
    let news = Broadcast::<u32>::blocking(4).unwrap();
    let (publisher, subscriber) =
        (Mutex::new(news.publisher().unwrap()), news.subscribe().unwrap());
    let publish = || publisher.lock().unwrap().try_publish(&1).unwrap();
    becomes_ready("Subscriber", &subscriber, &publish, &|| {
        subscriber.try_recv().unwrap();
    });
    let (sender, receiver) = pipe::<u32>().unwrap();
    becomes_ready("Receiver", &receiver, &|| sender.send(&1).unwrap(), &|| {
        receiver.try_recv().unwrap();
    });
    let full = || while sender.try_send(&1).is_ok() {};
    full();
    becomes_ready("Sender", &sender, &|| _ = receiver.try_recv().unwrap(), &full);
    let (near, far) = Pipe::duplex().unwrap();
    becomes_ready("Connection", &near, &|| far.send(&1u32).unwrap(), &|| {
        near.try_recv::<u32>().unwrap();
    });
}

/// Holds the other end until it is killed.
fn hold(go: Event, _end: Sender<u32>, _duplex: Connection) {
    go.set();
    thread::sleep(LONG);
}

#[test]
fn the_death_of_whoever_has_the_other_end_is_readiness() {
    let _turn = turn();
    alone!(the_death_of_whoever_has_the_other_end_is_readiness);
    let (event, go) = (Event::new().unwrap(), Event::new().unwrap());
    let (_open, socket) = UnixStream::pair().unwrap();
    for mixed in [false, true] {
        let (sender, receiver) = pipe::<u32>().unwrap();
        let (near, far) = Pipe::duplex().unwrap();
        go.clear();
        let holder = Process::new(hold, (go.clone(), sender, far)).daemon(true).start().unwrap();
        assert!(go.wait_timeout(LONG));
        let mut objects: Vec<&dyn Waitable> = vec![&event, &receiver];
        if mixed {
            objects.push(&socket);
        }
        for object in [&receiver as &dyn Waitable, &near] {
            objects[1] = object;
            assert!(at_once(&objects).is_empty());
        }
        thread::scope(|threads| {
            threads.spawn(|| {
                thread::sleep(ASLEEP);
                holder.kill().unwrap();
            });
            assert_eq!(within_long(&objects), [1]);
        });
        objects[1] = &receiver;
        assert_eq!(within_long(&objects), [1]);
        assert!(matches!(receiver.recv(), Err(RecvError::Eof)));
        assert!(matches!(near.recv::<u32>(), Err(RecvError::Eof)));
        assert!(holder.join_timeout(LONG).is_err());
    }
}
