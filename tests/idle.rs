//! What waiting and being there cost: next to nothing.
//!
//! `cargo test --test idle`

#[allow(dead_code, reason = "no test uses all of it")]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use procession::memory::{Handle, arena, kind};
use procession::{Lock, Process, Queue, Value};
use procession_core::queue::{SlotQueue, SpscRing};
use procession_core::region::Member;
use procession_core::sys::Deadline;
use rustix::process::{Pid, Signal};

use support::{Child, LONG, Test, Word, eventually, sleep_forever};

const TESTS: &[Test] = &[
    ("a_waiting_process_leaves_the_processor_alone", waiting),
    ("a_crowd_that_waits_leaves_the_processor_alone", crowd),
    ("a_lock_is_8_bytes", lock_size),
    ("a_queue_has_no_descriptor", queue_descriptors),
    ("an_idle_arena_is_small", arena_size),
];

fn main() -> ExitCode {
    support::run(TESTS)
}

/// How long the waiting are watched.
const WATCHED: Duration = Duration::from_secs(3);

/// The processor time that a living process has used, in nanoseconds.
fn used_by(pid: Pid) -> u64 {
    let mut clock = 0;
    // SAFETY: all zero is a time.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: both calls write to the variables that they are given.
    let error = unsafe {
        libc::clock_getcpuclockid(pid.as_raw_nonzero().get(), &raw mut clock)
            + libc::clock_gettime(clock, &raw mut time)
    };
    assert_eq!(error, 0, "the clock of process {pid}");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A process in a call from which it does not come back.
struct Waiting<'a> {
    what: &'static str,
    child: Child,
    cpu: u64,
    /// Says whether the call has come back.
    back: Word,
    lives: std::marker::PhantomData<&'a ()>,
}

/// Starts a process that waits in `body`.
fn wait<'a>(what: &'static str, body: impl FnOnce() + 'a) -> Waiting<'a> {
    let (ready, back) = (Word::new(), Word::new());
    let child = Child::start(|| {
        ready.set(1);
        body();
        back.set(1);
        sleep_forever();
    });
    ready.wait();
    let stat = format!("/proc/{}/stat", child.pid());
    eventually("it sleeps", || {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") S "))
    });
    Waiting { what, child, cpu: 0, back, lives: std::marker::PhantomData }
}

/// Watches them for a while: each has to use less than 0.2 % of a processor.
fn watch(mut waiting: Vec<Waiting<'_>>) {
    for one in &mut waiting {
        one.cpu = used_by(one.child.pid());
    }
    std::thread::sleep(WATCHED);
    let most = WATCHED.as_nanos() as u64 / 500;
    let mut report = String::new();
    let mut good = true;
    for one in &waiting {
        assert_eq!(one.back.get(), 0, "{}: it does not wait", one.what);
        let used = used_by(one.child.pid()) - one.cpu;
        good &= used < most;
        report += &format!("  {}: {} µs\n", one.what, used / 1000);
    }
    assert!(good, "used of a processor in {WATCHED:?}, at most {} µs:\n{report}", most / 1000);
    if std::env::var_os("IDLE_REPORT").is_some() {
        println!("used of a processor in {WATCHED:?}, at most {} µs:\n{report}", most / 1000);
    }
}

fn me() -> Member<'static> {
    arena().unwrap().member()
}

fn forever() -> Deadline {
    Deadline::after(LONG)
}

/// Lives until it is told to end.
fn wait_for_end(end: Queue<u8>) {
    let _ = end.get();
}

fn waiting() {
    let region = arena().unwrap().region();
    let lock = Lock::new().unwrap();
    let _guard = lock.acquire().unwrap();
    let value = Value::new(0i64).unwrap();
    let _locked = value.lock().unwrap();

    let (empty, full) = (Queue::<u64>::bounded(1).unwrap(), Queue::<u64>::bounded(1).unwrap());
    full.put(&1).unwrap();
    let odd = Queue::<u64>::bounded(3).unwrap();
    (0..3).for_each(|item| odd.put(&item).unwrap());

    let room = |bytes| Handle::allocate(kind::ARRAY, bytes).unwrap();
    let slots = [(); 3].map(|()| room(SlotQueue::<u64>::bytes_for(2)));
    let [empty_slots, full_slots, claimed] =
        slots.each_ref().map(|at| SlotQueue::<u64>::create(region, at.offset(), 2).unwrap());
    (0..2).for_each(|item| full_slots.push(me(), item).unwrap());
    // A living process has claimed a place and does not go on: who waits for it asks for it again and again.
    let ready = Word::new();
    let claimer = Child::start(|| {
        let _ = claimed.start_push(me(), Deadline::NOW).unwrap();
        ready.set(1);
        sleep_forever();
    });
    ready.wait();
    claimer.signal(Signal::STOP);

    let rings = [(); 2].map(|()| room(SpscRing::<u64>::bytes_for(2)));
    let [empty_ring, full_ring] =
        rings.each_ref().map(|at| SpscRing::<u64>::create(region, at.offset(), 2).unwrap());
    let producer = full_ring.producer(me()).unwrap();
    (0..2).for_each(|item| producer.push(item).unwrap());
    drop(producer);

    let end = Queue::bounded(1).unwrap();
    let process = Process::new(wait_for_end, (end.clone(),)).start().unwrap();

    watch(vec![
        wait("Lock::acquire", || {
            let _ = lock.acquire();
        }),
        wait("Lock::acquire_timeout", || {
            let _ = lock.acquire_timeout(LONG);
        }),
        wait("Value::lock", || {
            let _ = value.lock();
        }),
        wait("Queue::get", || {
            let _ = empty.get();
        }),
        wait("Queue::get_timeout", || {
            let _ = empty.get_timeout(LONG);
        }),
        wait("Queue::put", || {
            let _ = full.put(&1);
        }),
        wait("Queue::put_timeout", || {
            let _ = full.put_timeout(&1, LONG);
        }),
        wait("Queue::put, capacity 3", || {
            let _ = odd.put(&1);
        }),
        wait("SlotQueue::pop", || {
            let _ = empty_slots.pop(me());
        }),
        wait("SlotQueue::pop_until", || {
            let _ = empty_slots.pop_until(me(), forever());
        }),
        wait("SlotQueue::push", || {
            let _ = full_slots.push(me(), 1);
        }),
        wait("SlotQueue::push_until", || {
            let _ = full_slots.push_until(me(), forever(), 1);
        }),
        wait("SlotQueue::pop behind the stopped", || {
            let _ = claimed.pop(me());
        }),
        wait("Consumer::pop", || {
            let _ = empty_ring.consumer(me()).unwrap().pop();
        }),
        wait("Producer::push", || {
            let _ = full_ring.producer(me()).unwrap().push(1);
        }),
        wait("Child::join", || {
            let _ = process.join();
        }),
    ]);
    end.put(&1).unwrap();
    process.join_timeout(LONG).unwrap();
}

fn crowd() {
    let lock = Lock::new().unwrap();
    let _guard = lock.acquire().unwrap();
    let queue = Queue::<u64>::bounded(1).unwrap();
    let waiters = (0..40).map(|at| match at % 2 {
        0 => wait("Lock::acquire", || {
            let _ = lock.acquire();
        }),
        _ => wait("Queue::get", || {
            let _ = queue.get();
        }),
    });
    watch(waiters.collect());
}

fn lock_size() {
    assert_eq!(size_of::<procession_core::sync::Lock>(), 8);
    // What a thousand of them take of the arena; each has a word of the allocator's beside it.
    let _first = Lock::new().unwrap();
    let before = arena().unwrap().used().unwrap();
    let locks: Vec<Lock> = (0..1000).map(|_| Lock::new().unwrap()).collect();
    let after = arena().unwrap().used().unwrap();
    assert!(after - before <= 32 * locks.len() as u64, "{} bytes", after - before);
}

fn queue_descriptors() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    arena().unwrap();
    let before = count();
    let queues: Vec<_> = (0..100).map(|_| Queue::<String>::bounded(8).unwrap()).collect();
    for queue in &queues {
        queue.put(&"short".into()).unwrap();
        queue.put(&"long".repeat(1000)).unwrap();
    }
    let handles = postcard::to_stdvec(&queues).unwrap();
    let same: Vec<Queue<String>> = postcard::from_bytes(&handles).unwrap();
    same.iter().for_each(|queue| assert_eq!(queue.get().unwrap(), "short"));
    assert_eq!(count(), before);
    // One descriptor is all that the whole memory needs.
    Child::start(|| {
        queues.iter().for_each(|queue| assert_eq!(queue.get().unwrap().len(), 4000));
        assert_eq!(count(), before);
    })
    .finish();
}

/// How many bytes of the arena are in memory and mapped here, by the kernel's account.
fn resident() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mine = maps.split("/memfd:procession").nth(1).expect("the arena is mapped");
    let line = mine.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn arena_size() {
    const MOST: u64 = 512 * 1024;
    let arena = arena().unwrap();
    let used = |what: &str| {
        let (used, resident) = (arena.used().unwrap(), resident());
        assert!(used <= MOST && resident <= MOST, "{what}: {used} bytes, {resident} resident");
    };
    used("new");
    let (lock, queue) = (Lock::new().unwrap(), Queue::<String>::bounded(16).unwrap());
    drop(lock.acquire().unwrap());
    queue.put(&"short".into()).unwrap();
    queue.put(&"long".repeat(1000)).unwrap();
    used("with a lock and a queue");
    queue.get().unwrap();
    queue.get().unwrap();
    Child::start(|| {
        let _ = lock.acquire().unwrap();
    })
    .finish();
    used("after another process");
    // What large objects took goes back.
    for _ in 0..4 {
        queue.put(&"x".repeat(8 << 20)).unwrap();
    }
    assert!(arena.used().unwrap() > 32 << 20);
    (0..4).for_each(|_| assert_eq!(queue.get().unwrap().len(), 8 << 20));
    used("after large objects");
}
