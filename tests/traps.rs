//! The traps of identity: names that are given out again, processes that turn into other programs, copies made by
//! fork, the stopped, the half dead. Each with real processes.
//!
//! `cargo test --test traps`

#[allow(dead_code, reason = "no test uses all of it")]
mod support;

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use procession::memory::{self, Arena, Config, Handle, arena, kind};
use procession::sync::{AcquireError, LockGuard};
use procession::{GetError, Lock, PutError, Queue};
use procession_core::queue::{PopError, PushError, RoleError, SlotQueue, SpscRing};
use procession_core::region::{Member, Tag};
use procession_core::sys::Deadline;
use rustix::process::{Signal, getpid};

use support::{Child, LONG, Test, Word, eventually, sleep_forever};

const TESTS: &[Test] = &[
    ("an_index_is_used_again_until_its_generations_wrap", index_wraps),
    ("tickets_and_laps_wrap_between_processes", tickets_wrap),
    ("a_lock_holder_that_calls_exec_is_dead", holder_execs),
    ("a_claimer_that_calls_exec_is_dead", claimer_execs),
    ("a_claimer_that_called_exec_is_found_beside_living_ones", exec_beside_living),
    ("a_process_that_adopts_its_memory_again_after_exec_gets_its_lock_back", exec_adopts),
    ("a_guard_inherited_over_fork_is_the_parents", inherited_guard),
    ("a_forked_child_has_a_name_of_its_own", forked_name),
    ("a_role_inherited_over_fork_is_the_parents", inherited_role),
    ("a_dead_claim_in_an_idle_queue_is_swept", idle_queue),
    ("a_second_death_during_recovery", second_death),
    ("a_stopped_holder_is_not_robbed", stopped),
    ("a_zombie_is_dead", zombie),
    ("a_process_whose_main_thread_has_ended_lives", leader_ended),
    ("a_pid_that_was_given_out_again_is_somebody_else", pid_again),
    ("a_process_of_another_birth_is_somebody_else", other_birth),
    ("a_process_in_another_pid_namespace_is_not_robbed", other_namespace),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match (words.next().as_deref(), words.next()) {
        // What this program is executed as by `exec_adopts`.
        (Some("adopt-again"), Some(given)) => adopt_again(&given),
        _ => support::run(TESTS),
    }
}

/// The longest that a death may take to be noticed by who waits; a machine under load is given time.
const SOON: Duration = Duration::from_secs(20);

fn me() -> Member<'static> {
    arena().unwrap().member()
}

fn tag() -> Tag {
    me().tag().unwrap()
}

/// Takes the lock and keeps it, whatever happens to this value.
fn hold(lock: &Lock) -> ManuallyDrop<LockGuard<'_>> {
    ManuallyDrop::new(lock.acquire().unwrap())
}

/// Takes the lock from the dead within `within`.
fn take_over(lock: &Lock, within: Duration) {
    let begin = Instant::now();
    match lock.acquire_timeout(within) {
        Err(AcquireError::OwnerDied(died)) => died.into_guard().mark_consistent(),
        Ok(_) => panic!("nothing was said of the death"),
        Err(error) => panic!("after {:?}: {error}", begin.elapsed()),
    }
}

/// Takes the lock within `within`, from the dead or not.
fn mend(lock: &Lock, within: Duration) {
    let taken = lock.acquire_timeout(within);
    taken.or_else(AcquireError::into_guard).unwrap().mark_consistent();
}

/// Where the object of an encoded handle lies: the second of its four numbers.
fn offset_of(queue: &Queue<u64>) -> u64 {
    let bytes = postcard::to_stdvec(queue).unwrap();
    postcard::from_bytes::<(u64, u64, u8, u32)>(&bytes).unwrap().1
}

/// The slots of a queue of objects, where the moment between claim and publication can be reached: a place holds 120
/// bytes, and the slots lie behind a head of 128.
fn slots_of(queue: &Queue<u64>) -> SlotQueue<'static, [u64; 15]> {
    SlotQueue::attach(arena().unwrap().region(), offset_of(queue) + 128).unwrap()
}

/// A core queue or ring of its own in the arena.
fn room(bytes: u64) -> Handle {
    Handle::allocate(kind::ARRAY, bytes).unwrap()
}

fn small_table(participants: u32) -> &'static Arena {
    let mut config = Config::new();
    config.participants = Some(participants);
    memory::configure(config).unwrap();
    arena().unwrap()
}

fn index_wraps() {
    // Room for this process and one more: all others get the same index, one after the other.
    let arena = small_table(2);
    tag();
    let (queue, lock) = (Queue::<u64>::bounded(4).unwrap(), Lock::new().unwrap());
    let slots = slots_of(&queue);
    let (name, ticket) = (Word::new(), Word::new());
    let life = |body: &dyn Fn()| {
        let child = Child::start(|| {
            let mine = tag();
            body();
            name.set(u64::from(mine.bits()));
            sleep_forever();
        });
        name.wait();
        child.kill();
        drop(child);
        let tag = Tag::from_bits(name.get() as u32).unwrap();
        name.set(0);
        tag
    };

    let first = life(&|| {
        let _ = hold(&lock);
        let block = arena.region().allocate_message(me(), 5000).unwrap();
        let claim = slots.start_push(me(), Deadline::NOW).unwrap();
        ticket.set(claim.ticket());
        arena.region().hand_over(me(), block, offset_of(&queue), claim.ticket()).unwrap();
    });
    let ticket = ticket.get() as u32;
    assert_eq!(arena.region().usage().queued, 1);
    // Nobody uses the queue from now on.
    for lives in 2..=3 * 256 {
        let tag = life(&|| {});
        assert_eq!((tag.index(), tag.generation()), (first.index(), lives));
        // The generation is swept before its short form comes round, and only then.
        assert_eq!(slots.has_passed(ticket), lives >= 256, "life {lives}");
    }
    // One with the short name of the first lives: what the first had claimed does not come alive again.
    let namesake = Child::start(|| {
        name.set(u64::from(tag().bits()));
        sleep_forever();
    });
    let second = Tag::from_bits(name.wait() as u32).unwrap();
    assert_eq!((second.short(), second == first), (first.short(), false));
    for item in 0..8 {
        queue.put_timeout(&item, SOON).unwrap();
        assert_eq!(queue.get_timeout(SOON).unwrap(), item);
    }
    take_over(&lock, SOON);
    arena.sweep();
    assert_eq!(arena.region().usage().queued, 0);
    namesake.kill();
}

fn tickets_wrap() {
    const ITEMS: u64 = 10_000;
    for capacity in [4, 5, 64] {
        let room = room(SlotQueue::<u64>::bytes_for(capacity));
        // Some thousand tickets below 2^43, where tickets and laps start over.
        let first = (1 << 43) - 4096;
        let queue =
            SlotQueue::<u64>::create_at(arena().unwrap().region(), room.offset(), capacity, first)
                .unwrap();
        let (sum, taken) = (Word::new(), Word::new());
        let put = || {
            for item in 1..=ITEMS {
                queue.push_until(me(), Deadline::after(LONG), item).unwrap();
            }
        };
        let get = || {
            for _ in 0..ITEMS {
                let item = queue.pop_until(me(), Deadline::after(LONG)).unwrap();
                taken.count();
                sum.add(item);
            }
        };
        let workers = [Child::start(put), Child::start(put), Child::start(get), Child::start(get)];
        workers.into_iter().for_each(Child::finish);
        assert_eq!((taken.get(), sum.get()), (2 * ITEMS, ITEMS * (ITEMS + 1)));
        assert!(queue.is_empty());
    }
}

/// A child that calls `before` and then turns into another program, which does nothing.
fn exec_after(before: impl FnOnce()) -> Child {
    let child = Child::start(|| {
        before();
        let error = Command::new("sleep").arg("1000").exec();
        panic!("exec: {error}");
    });
    let name = format!("/proc/{}/comm", child.pid());
    eventually("the child has called exec", || {
        std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep")
    });
    child
}

fn holder_execs() {
    let lock = Lock::new().unwrap();
    let sleeper = exec_after(|| {
        let _ = hold(&lock);
    });
    take_over(&lock, SOON);
    // The program lives on, and harms nobody.
    drop(lock.acquire_timeout(SOON).unwrap());
    // Who waits already, and has asked about the holder before, asks again.
    let (held, waiting) = (Word::new(), Word::new());
    let waiter = Child::start(|| {
        held.wait();
        waiting.set(1);
        take_over(&lock, SOON);
    });
    let _other = exec_after(|| {
        let _ = hold(&lock);
        held.set(1);
        waiting.wait();
        // Long enough for the other to ask once.
        std::thread::sleep(Duration::from_millis(200));
    });
    waiter.finish();
    assert!(std::fs::exists(format!("/proc/{}", sleeper.pid())).unwrap());
    sleeper.kill();
    drop(sleeper);
    drop(lock.acquire_timeout(SOON).unwrap());
}

fn claimer_execs() {
    let queue = Queue::<u64>::bounded(2).unwrap();
    let slots = slots_of(&queue);
    let _putter = exec_after(|| {
        let _ = slots.start_push(me(), Deadline::NOW).unwrap();
    });
    queue.put_timeout(&7, SOON).unwrap();
    assert_eq!(queue.get_timeout(SOON).unwrap(), 7);
    queue.put(&8).unwrap();
    queue.put(&9).unwrap();
    let _getter = exec_after(|| {
        let _ = slots.start_pop(me(), Deadline::NOW).unwrap();
    });
    queue.put_timeout(&10, SOON).unwrap();
    assert_eq!(queue.get_timeout(SOON).unwrap(), 9);
    assert_eq!(queue.get_timeout(SOON).unwrap(), 10);
}

fn exec_beside_living() {
    let queue = Queue::<u64>::bounded(4).unwrap();
    let slots = slots_of(&queue);
    let ready = Word::new();
    let _living = Child::start(|| {
        let _ = slots.start_push(me(), Deadline::NOW).unwrap();
        ready.set(1);
        sleep_forever();
    });
    ready.wait();
    let ticket = Word::new();
    let _other = exec_after(|| {
        let claim = slots.start_push(me(), Deadline::NOW).unwrap();
        ticket.set(claim.ticket());
    });
    let deadline = Instant::now() + SOON;
    while !slots.has_passed(ticket.get() as u32) {
        assert!(Instant::now() < deadline, "the sweep never finds out about the second");
        arena().unwrap().sweep();
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn exec_adopts() {
    let lock = Lock::new().unwrap();
    let handle = postcard::to_stdvec(&lock).unwrap();
    let digits: String = handle.iter().map(|byte| format!("{byte:02x}")).collect();
    let held = Word::new();
    let child = Child::start(|| {
        let _ = hold(&lock);
        held.set(1);
        let file = arena().unwrap().fd().unwrap();
        rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty()).unwrap();
        let given = format!("{}:{digits}", file.as_raw_fd());
        let error = Command::new("/proc/self/exe").arg("adopt-again").arg(given).exec();
        panic!("exec: {error}");
    });
    held.wait();
    child.finish();
    // It had marked it consistent.
    drop(lock.acquire_timeout(SOON).unwrap());
}

fn adopt_again(given: &str) -> ExitCode {
    let (file, digits) = given.split_once(':').unwrap();
    // SAFETY: the descriptor was left open for this program, and nothing else here knows it.
    memory::adopt(unsafe { OwnedFd::from_raw_fd(file.parse().unwrap()) }).unwrap();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let handle: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    let lock: Lock = postcard::from_bytes(&handle).unwrap();
    // No need to look at memory maps: whoever adopts says so.
    take_over(&lock, Duration::from_millis(100));
    ExitCode::SUCCESS
}

fn inherited_guard() {
    let lock = Lock::new().unwrap();
    for joined in [false, true] {
        let guard = lock.acquire().unwrap();
        let child = Child::start(|| {
            if joined {
                tag();
            }
            // SAFETY: the copy of the guard in this process is dropped once, here: the child leaves by _exit.
            drop(unsafe { std::ptr::read(&raw const guard) });
            assert!(lock.locked());
            assert!(matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)));
        });
        child.finish();
        assert!(lock.locked());
        Child::start(|| {
            let soon = Duration::from_millis(100);
            assert!(matches!(lock.acquire_timeout(soon), Err(AcquireError::TimedOut)));
        })
        .finish();
        drop(guard);
        drop(lock.try_acquire().unwrap());
    }
    // The other way round: what the child holds is not the parent's, and a parent that dies leaves its own.
    let (held, gone) = (Word::new(), Word::new());
    let parent = Child::start(|| {
        let guard = hold(&lock);
        let child = Child::start_free(|| {
            // SAFETY: the copy of the guard in this process is dropped once, here: the child leaves by _exit.
            drop(unsafe { std::ptr::read(&raw const *guard) });
            held.set(1);
            gone.wait();
            take_over(&lock, SOON);
            gone.set(2);
        });
        std::mem::forget(child);
        sleep_forever();
    });
    held.wait();
    parent.kill();
    drop(parent);
    gone.set(1);
    gone.wait_for(2);
    drop(lock.acquire_timeout(SOON).unwrap());
}

fn forked_name() {
    let (queue, lock) = (Queue::<u64>::bounded(8).unwrap(), Lock::new().unwrap());
    let mine = tag();
    let guard = lock.acquire().unwrap();
    let names: Vec<u64> = (0..3)
        .map(|turn| {
            let name = Word::new();
            Child::start(|| {
                match turn {
                    // Whichever call comes first.
                    0 => assert!(lock.try_acquire().is_err()),
                    1 => queue.put(&1).unwrap(),
                    _ => assert_eq!(queue.get().unwrap(), 1),
                }
                assert_eq!(tag(), tag());
                name.set(u64::from(tag().bits()));
            })
            .finish();
            name.get()
        })
        .collect();
    assert_eq!(tag(), mine);
    drop(guard);
    for (at, name) in names.iter().enumerate() {
        assert_ne!(*name, 0);
        assert_ne!(*name, u64::from(mine.bits()));
        assert!(!names[..at].contains(name));
    }
}

fn inherited_role() {
    let room = room(SpscRing::<u64>::bytes_for(8));
    let ring = SpscRing::<u64>::create(arena().unwrap().region(), room.offset(), 8).unwrap();
    let producer = ring.producer(me()).unwrap();
    let consumer = ring.consumer(me()).unwrap();
    producer.push(1).unwrap();
    Child::start(|| {
        assert_eq!(producer.push(2), Err(PushError::Inherited));
        assert_eq!(producer.try_push(2), Err(PushError::Inherited));
        assert_eq!(consumer.pop(), Err(PopError::Inherited));
        assert_eq!(consumer.try_pop(), Err(PopError::Inherited));
        // SAFETY: these copies are dropped once, here: the child leaves by _exit.
        drop(unsafe { (std::ptr::read(&raw const producer), std::ptr::read(&raw const consumer)) });
        let pid = getpid().as_raw_nonzero().get() as u32;
        for error in [ring.producer(me()).map(drop), ring.consumer(me()).map(drop)] {
            assert!(matches!(error, Err(RoleError::Taken { pid: by }) if by != pid && by != 0));
        }
    })
    .finish();
    producer.push(2).unwrap();
    assert_eq!((consumer.pop(), consumer.pop()), (Ok(1), Ok(2)));
    // A role that is given up goes to a child; one whose owner dies comes back.
    drop(producer);
    let ready = Word::new();
    let child = Child::start(|| {
        let producer = ring.producer(me()).unwrap();
        producer.push(3).unwrap();
        ready.set(1);
        sleep_forever();
    });
    ready.wait();
    assert!(matches!(ring.producer(me()), Err(RoleError::Taken { .. })));
    child.kill();
    ring.producer(me()).unwrap().push(4).unwrap();
    assert_eq!((consumer.pop(), consumer.pop()), (Ok(3), Ok(4)));
}

fn idle_queue() {
    let arena = arena().unwrap();
    let region = arena.region();
    let queue = Queue::<u64>::bounded(8).unwrap();
    let slots = slots_of(&queue);
    let at = offset_of(&queue);
    tag();
    let before = region.usage();
    let dies = |body: &dyn Fn()| {
        let ready = Word::new();
        let child = Child::start(|| {
            body();
            ready.set(1);
            sleep_forever();
        });
        ready.wait();
        child.kill();
        // Every other one stays a zombie.
        std::mem::forget(child);
    };
    for bytes in [1000, 100_000] {
        let block = || region.allocate_message(me(), bytes).unwrap();
        // With a block in hand; with a place as well; with a block that was handed over to the place.
        dies(&|| {
            let _ = block();
        });
        dies(&|| {
            let _ = (block(), slots.start_push(me(), Deadline::NOW).unwrap());
        });
        let ticket = Word::new();
        dies(&|| {
            let (block, claim) = (block(), slots.start_push(me(), Deadline::NOW).unwrap());
            ticket.set(claim.ticket());
            region.hand_over(me(), block, at, claim.ticket()).unwrap();
        });
        let now = region.usage();
        assert_eq!((now.owned, now.queued), (before.owned + 2, before.queued + 1));
        assert!(!slots.has_passed(ticket.get() as u32));
        arena.sweep();
        assert!(slots.has_passed(ticket.get() as u32));
        let now = region.usage();
        assert_eq!((now.owned, now.queued), (before.owned, before.queued), "{bytes}: {now:?}");

        // A getter that dies with the message in hand, before and after it took the block.
        let text = vec![7u64; bytes as usize];
        let objects = Queue::<Vec<u64>>::bounded(4).unwrap();
        let encoded = postcard::to_stdvec(&objects).unwrap();
        let at = postcard::from_bytes::<(u64, u64, u8, u32)>(&encoded).unwrap().1;
        let slots = SlotQueue::<[u64; 15]>::attach(region, at + 128).unwrap();
        for takes in [false, true] {
            objects.put(&text).unwrap();
            assert_eq!(region.usage().queued, before.queued + 1);
            dies(&|| {
                let claim = slots.start_pop(me(), Deadline::NOW).unwrap();
                if takes {
                    // SAFETY: the claim is this process's.
                    let place = unsafe { (*slots.item(&claim))[0] };
                    let _ = region.take_over(me(), place, at, claim.ticket()).unwrap();
                }
            });
            arena.sweep();
            let now = region.usage();
            assert_eq!((now.owned, now.queued), (before.owned, before.queued), "{bytes}: {now:?}");
        }
        objects.put(&text).unwrap();
        assert_eq!(objects.get_timeout(SOON).unwrap(), text);
    }
    for item in 0..20 {
        queue.put_timeout(&item, SOON).unwrap();
        assert_eq!(queue.get_timeout(SOON).unwrap(), item);
    }
}

fn second_death() {
    let lock = Lock::new().unwrap();
    let queue = Queue::<u64>::bounded(4).unwrap();
    let slots = slots_of(&queue);
    for round in 0..12 {
        let (held, waiting, took) = (Word::new(), Word::new(), Word::new());
        let first = Child::start(|| {
            let _ = hold(&lock);
            let _ = slots.start_push(me(), Deadline::NOW).unwrap();
            held.set(1);
            sleep_forever();
        });
        held.wait();
        // Takes over from the first, and is killed while it does, or just before or after.
        let second = Child::start(|| {
            waiting.count();
            let _guard = ManuallyDrop::new(lock.acquire_timeout(LONG));
            let _ = slots.start_push(me(), Deadline::after(LONG));
            sleep_forever();
        });
        let third = Child::start(|| {
            waiting.count();
            mend(&lock, LONG);
            queue.put_timeout(&round, LONG).unwrap();
            took.set(1);
        });
        waiting.wait_for(2);
        first.kill();
        std::thread::sleep(Duration::from_micros(round * 200));
        second.kill();
        third.finish();
        drop((first, second));
        assert_eq!(took.get(), 1);
        // Whatever the third did, nothing of the dead is in the way any more.
        assert_eq!(queue.get_timeout(SOON).unwrap(), round);
        mend(&lock, SOON);
        drop(lock.acquire_timeout(SOON).unwrap());
    }
}

fn stopped() {
    let (lock, queue) = (Lock::new().unwrap(), Queue::<u64>::bounded(1).unwrap());
    let slots = slots_of(&queue);
    let (held, go_on) = (Word::new(), Word::new());
    let holder = Child::start(|| {
        let guard = lock.acquire().unwrap();
        let claim = slots.start_push(me(), Deadline::NOW).unwrap();
        held.set(1);
        go_on.wait();
        // SAFETY: the claim makes the place this process's: an object of two bytes, the encoded 300.
        unsafe { slots.item(&claim).write(std::array::from_fn(|at| [0, 2, 0x02AC][at.min(2)])) };
        slots.finish_push(me(), claim);
        drop(guard);
    });
    held.wait();
    holder.signal(Signal::STOP);
    let wait = Duration::from_secs(2);
    let watchers = [
        Child::start(|| assert!(matches!(lock.acquire_timeout(wait), Err(AcquireError::TimedOut)))),
        Child::start(|| assert!(matches!(queue.get_timeout(wait), Err(GetError::TimedOut)))),
        Child::start(|| assert!(matches!(queue.put_timeout(&1, wait), Err(PutError::TimedOut)))),
        Child::start(|| {
            let end = Instant::now() + wait;
            while Instant::now() < end {
                assert!(matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)));
                assert!(matches!(queue.get_nowait(), Err(GetError::Busy)));
                arena().unwrap().sweep();
                std::thread::sleep(Duration::from_millis(10));
            }
        }),
    ];
    watchers.into_iter().for_each(Child::finish);
    holder.signal(Signal::CONT);
    go_on.set(1);
    drop(lock.acquire_timeout(LONG).unwrap());
    assert_eq!(queue.get_timeout(LONG).unwrap(), 300);
    holder.finish();
}

fn zombie() {
    let lock = Lock::new().unwrap();
    let held = Word::new();
    let holder = Child::start(|| {
        let _ = hold(&lock);
        held.set(1);
        sleep_forever();
    });
    held.wait();
    let waiter = Child::start(|| take_over(&lock, LONG));
    holder.kill();
    // Nobody has reaped: signals still reach it, and it is dead all the same.
    holder.signal(Signal::CONT);
    waiter.finish();
    drop(lock.acquire_timeout(SOON).unwrap());
    holder.signal(Signal::CONT);
}

fn leader_ended() {
    let lock = Lock::new().unwrap();
    let (held, release) = (Word::new(), Word::new());
    let holder = Child::start(|| {
        let lock = lock.clone();
        std::thread::spawn(move || {
            let guard = lock.acquire().unwrap();
            held.set(1);
            release.wait();
            drop(guard);
            // SAFETY: ends the process without running handlers that belong to the parent.
            unsafe { libc::_exit(0) };
        });
        held.wait();
        // SAFETY: ends this thread alone; what it has on its stack is used by nobody else.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    held.wait();
    let stat = format!("/proc/{}/stat", holder.pid());
    eventually("the main thread shows as a zombie", || {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "))
    });
    let wait = Duration::from_secs(1);
    assert!(matches!(lock.acquire_timeout(wait), Err(AcquireError::TimedOut)));
    release.set(1);
    drop(lock.acquire_timeout(LONG).unwrap());
    holder.finish();
}

fn pid_again() {
    let lock = Lock::new().unwrap();
    let held = Word::new();
    let holder = Child::start(|| {
        let _ = hold(&lock);
        held.set(1);
        sleep_forever();
    });
    held.wait();
    let pid = holder.pid();
    holder.kill();
    drop(holder);
    // A new process with the old one's pid. It takes root's rights; elsewhere `other_birth` has to do.
    let Some(namesake) = fork_as(pid.as_raw_nonzero().get()) else {
        println!("this process may not choose a pid: left to the next tests");
        return;
    };
    assert_eq!(namesake, pid.as_raw_nonzero().get());
    take_over(&lock, SOON);
    // It lived all the time. (Where this fails, the runner kills it.)
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

/// Forks a process that sleeps, under a pid of our choice. `None`: this process may not do that.
fn fork_as(pid: i32) -> Option<i32> {
    // SAFETY: all zero is "nothing special" for each field.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = libc::SIGCHLD as u64;
    how.set_tid = (&raw const pid) as u64;
    how.set_tid_size = 1;
    let deadline = Instant::now() + LONG;
    loop {
        // SAFETY: a plain fork, by the flags; the child makes system calls only, as long as it is left alive.
        let child = unsafe { libc::syscall(libc::SYS_clone3, &raw mut how, size_of_val(&how)) };
        if child == 0 {
            loop {
                // SAFETY: a system call without arguments; the second one takes numbers.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::pause();
                }
            }
        }
        match io::Error::last_os_error().raw_os_error() {
            _ if child > 0 => return Some(child as i32),
            // The old one is not quite gone.
            Some(libc::EEXIST) if Instant::now() < deadline => std::thread::yield_now(),
            Some(libc::EPERM | libc::ENOSYS | libc::EINVAL) => return None,
            error => panic!("clone3: {error:?}"),
        }
    }
}

fn other_birth() {
    let lock = Lock::new().unwrap();
    let (held, name) = (Word::new(), Word::new());
    let holder = Child::start(|| {
        let _ = hold(&lock);
        name.set(u64::from(tag().bits()));
        held.set(1);
        sleep_forever();
    });
    held.wait();
    assert!(matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)));
    // The table starts behind the first page; a row is 64 bytes, of which the second word says when its process was
    // born. With another number there, the living process of that pid is not the one that took the lock.
    let index = Tag::from_bits(name.get() as u32).unwrap().index() as usize;
    // SAFETY: the row lies in the mapped region; other processes use it by atomics as well.
    let birth = unsafe {
        let row = arena().unwrap().region().base().add(4096 + 64 * index);
        row.cast::<[std::sync::atomic::AtomicU64; 8]>().as_ref()
    };
    birth[1].fetch_xor(1, std::sync::atomic::Ordering::SeqCst);
    take_over(&lock, SOON);
    holder.kill();
}

fn other_namespace() {
    /// A process that has nothing of the arena, and is gone with this value.
    struct Stranger(std::process::Child);
    impl Drop for Stranger {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let lock = Lock::new().unwrap();
    let (held, outcome, number) = (Word::new(), Word::new(), Word::new());
    let stranger = Stranger(std::process::Command::new("sleep").arg("100").spawn().unwrap());
    let pid = stranger.0.id();
    let holder = Child::start(|| {
        // SAFETY: concerns children only, and touches no memory.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            outcome.set(2);
            held.set(1);
            return;
        }
        let first = Child::start(|| {
            assert_eq!(getpid().as_raw_nonzero().get(), 1, "the first of its namespace");
            // The next child gets the pid that outside is the stranger's.
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
            let inner = Child::start(|| {
                number.set(getpid().as_raw_nonzero().get() as u64);
                let guard = lock.acquire().unwrap();
                held.set(1);
                outcome.wait();
                drop(guard);
            });
            inner.finish();
        });
        first.finish();
    });
    held.wait();
    if outcome.get() == 2 {
        println!("this process may not make a pid namespace: nothing to test");
        return;
    }
    // By its pid the holder is the stranger here, who lives and maps no arena; and it cannot be asked for.
    assert_eq!(number.get(), u64::from(pid));
    let wait = Duration::from_millis(1500);
    assert!(matches!(lock.acquire_timeout(wait), Err(AcquireError::TimedOut)));
    outcome.set(1);
    drop(lock.acquire_timeout(LONG).unwrap());
    holder.finish();
}
