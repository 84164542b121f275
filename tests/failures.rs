//! What is known to fail in Python's multiprocessing, and must not fail here: for each report that concerns the
//! synchronisation family a test that provokes the same with real processes. (The numbers are CPython's issues.)
//!
//! `cargo test --test failures`

#[path = "support/family.rs"]
mod family;
#[allow(dead_code, reason = "no test uses all of it")]
mod support;

use std::io;
use std::mem::{ManuallyDrop, forget as keep};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use procession::Process;
use procession::sync::{Event, Lock, Mutex};
use procession_core::sync::AcquireError;

use support::{Child, LONG, Test, Word, sleep_forever};

const TESTS: &[Test] = &[
    ("f01_what_a_killed_process_held_is_not_lost", f01),
    ("f09_nobody_waits_for_a_dead_waiter", f09),
    ("f10_a_pulse_is_seen", f10_pulse),
    ("f10_set_in_a_signal_handler", f10_handler),
    ("f30_no_wait_knows_the_wall_clock", f30),
    ("f31_without_dev_shm", f31),
];

fn main() -> ExitCode {
    support::run(TESTS)
}

/// What takes microseconds, on a machine under load.
const SOON: Duration = Duration::from_secs(5);

/// Runs it, which must not wait for anybody.
fn promptly<R>(what: &str, body: impl FnOnce() -> R) -> R {
    let begin = Instant::now();
    let answer = body();
    assert!(begin.elapsed() < SOON, "{what} took {:?}", begin.elapsed());
    answer
}

// ---- f01: gh-88304. A lock or semaphore that a killed process held is never released.

/// A child that has called `hold` and does nothing more.
fn holder(hold: &dyn Fn()) -> Child {
    let held = Word::new();
    let child = Child::start(|| {
        hold();
        held.set(1);
        sleep_forever();
    });
    held.wait();
    child
}

/// `hold` takes something for good; `take` gets it after that one's death, and gives it back. It waits without a limit.
fn outlives_its_holder(what: &str, hold: &dyn Fn(), take: &dyn Fn()) {
    let finish = |child: Child| promptly(what, || child.finish());
    // The holder is gone before anybody asks: first as a zombie, then altogether.
    for reaped in [false, true] {
        let dead = holder(hold);
        dead.kill();
        let dead = (!reaped).then_some(dead);
        finish(Child::start(take));
        drop(dead);
    }
    // Somebody is asleep already.
    let dead = holder(hold);
    let waiter = Child::start(take);
    waiter.falls_asleep();
    dead.kill();
    finish(waiter);
    // A crowd is, and the first two who get it die with it, too.
    let (dead, heirs) = (holder(hold), Word::new());
    let [first, second] = [(); 2].map(|()| {
        Child::start(|| {
            take_and_die(take, hold, heirs);
        })
    });
    let others = [(); 3].map(|()| Child::start(take));
    for child in [&first, &second].into_iter().chain(&others) {
        child.falls_asleep();
    }
    dead.kill();
    heirs.wait_for(2);
    others.into_iter().for_each(finish);
}

/// Takes it, and dies with it in hand.
fn take_and_die(take: &dyn Fn(), hold: &dyn Fn(), heirs: Word) {
    take();
    hold();
    heirs.count();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .unwrap();
    sleep_forever();
}

fn f01() {
    let lock = Lock::new().unwrap();
    let news = Word::new();
    outlives_its_holder(
        "a lock",
        &|| keep(lock.acquire().or_else(AcquireError::into_guard).unwrap()),
        &|| match lock.acquire() {
            Ok(_) => {}
            Err(AcquireError::OwnerDied(died)) => {
                news.count();
                died.into_guard().mark_consistent();
            }
            Err(error) => panic!("{error}"),
        },
    );
    assert!(news.get() >= 4, "the next one is told: {} times", news.get());
    drop(lock.try_acquire().unwrap());

    // The data of a mutex are half written, which the next one is told of and mends.
    let pair = Mutex::new([0u64; 2]).unwrap();
    let half = || {
        let mut pair = ManuallyDrop::new(pair.lock().or_else(AcquireError::into_guard).unwrap());
        pair[1] = pair[0];
        pair[0] += 1;
    };
    outlives_its_holder("a mutex", &half, &|| match pair.lock() {
        Ok(pair) => assert_eq!(pair[0], pair[1], "damage without a word about it"),
        Err(AcquireError::OwnerDied(died)) => {
            let mut pair = died.into_guard();
            pair[0] = pair[1];
            pair.mark_consistent();
        }
        Err(error) => panic!("{error}"),
    });
    assert_eq!(*pair.try_lock().unwrap(), [0; 2]);
}

// ---- f09: gh-75158, gh-123899. notify_all, Barrier.wait, Event.set block on a dead waiter, even with a timeout.

fn f09() {
    let event = Event::new().unwrap();
    for round in 0..3 {
        let waiters = [(); 4].map(|()| {
            Child::start(|| match round {
                0 => event.wait(),
                _ => assert!(event.wait_timeout(LONG)),
            })
        });
        waiters.iter().for_each(Child::falls_asleep);
        let [zombie, gone, first, second] = waiters;
        zombie.kill();
        gone.kill();
        drop(gone);
        promptly("Event::set", || event.set());
        promptly("the waiters' return", || [first, second].into_iter().for_each(Child::finish));
        assert!(event.is_set());
        promptly("Event::wait", || event.wait());
        event.clear();
        let time = Duration::from_millis(500);
        promptly("Event::wait_timeout", || assert!(!event.wait_timeout(time)));
    }
}

// ---- f10: gh-95826, gh-126434, gh-85772. Event.wait returns False after set and clear; set in a signal handler deadlocks.

fn f10_pulse() {
    let event = Event::new().unwrap();
    for _ in 0..30 {
        let back = Word::new();
        let waiters = [(); 3].map(|()| {
            Child::start(|| {
                assert!(event.wait_timeout(LONG), "it was set");
                back.count();
            })
        });
        waiters.iter().for_each(Child::falls_asleep);
        promptly("a pulse", || {
            event.set();
            event.clear();
            waiters.into_iter().for_each(Child::finish);
        });
        assert_eq!((back.get(), event.is_set()), (3, false));
    }
}

/// What the signal handler sets, and how often it did.
static BELL: OnceLock<(Event, Word)> = OnceLock::new();

extern "C" fn ring(_: libc::c_int) {
    if let Some((event, rings)) = BELL.get() {
        event.set();
        rings.count();
    }
}

/// From now on this process gets SIGALRM each `every`, and sets the event.
fn ring_each(every: Duration) {
    support::on_alarm(ring);
    support::alarm_each(every);
}

fn f10_handler() {
    let event = Event::new().unwrap();
    let (_, rings) = BELL.get_or_init(|| (event.clone(), Word::new()));
    // The waiter itself is interrupted, without and with a limit.
    for round in 0..100 {
        event.clear();
        let waiter = Child::start(|| {
            support::on_alarm(ring);
            match round % 2 {
                0 => event.wait(),
                _ => assert!(event.wait_timeout(LONG)),
            }
        });
        waiter.falls_asleep();
        waiter.signal(rustix::process::Signal::ALARM);
        promptly("a wait that its own handler ends", || waiter.finish());
    }
    assert_eq!(rings.get(), 100);
    // The handler comes at any instruction of each call; another process waits and clears as well.
    event.clear();
    let there = Event::new().unwrap();
    let calls = Child::start(|| {
        ring_each(Duration::from_micros(200));
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            event.wait();
            event.clear();
            let _ = event.is_set();
            event.set();
            event.clear();
            assert!(event.wait_timeout(LONG));
            assert!(event.is_set() || !event.wait_timeout(Duration::ZERO) || event.is_set());
            there.set();
        }
        support::alarm_each(Duration::ZERO);
    });
    let other = Child::start(|| {
        for _ in 0..200 {
            there.wait();
            there.clear();
            event.clear();
        }
    });
    other.finish();
    promptly("all of it", || calls.finish());
    assert!(rings.get() > 1000, "{} signals in 2 s", rings.get());
}

// ---- f30: the wait of a lock with a timeout uses the wall clock: a step of it makes the wait endless, or no wait.

fn f30() {
    // The filter finds what it is meant to find.
    let ticks = Child::start(|| {
        forbid_wall_clock();
        let word = std::sync::atomic::AtomicU32::new(0);
        let late = libc::timespec { tv_sec: i64::MAX / 4, tv_nsec: 0 };
        // SAFETY: both pointers are valid for the call.
        unsafe {
            let wait = libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME;
            libc::syscall(libc::SYS_futex, &raw const word, wait, 1, &raw const late, 0, u32::MAX);
        }
    });
    assert_eq!(ticks.ends_by(), Some(libc::SIGSYS));
    Child::start(|| {
        forbid_wall_clock();
        family::time_is_kept(Duration::from_millis(30));
        family::work(300, &|| {});
        // Somebody's death is found out.
        let lock = Lock::new().unwrap();
        let victim = holder(&|| keep(lock.acquire().unwrap()));
        victim.kill();
        drop(victim);
        assert!(matches!(lock.acquire_timeout(SOON), Err(AcquireError::OwnerDied(_))));
    })
    .finish();
}

/// From now on this process is killed when it waits by the wall clock, or asks the kernel what time it is.
fn forbid_wall_clock() {
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    let line =
        |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    // What a filter sees: the number of the call at 0, its arguments from 16 on, 8 bytes each, of which the first 4 count.
    let load = |at: u32| line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let argument =
        |number: u32| load(16 + 8 * number + if cfg!(target_endian = "big") { 4 } else { 0 });
    let end = |answer: u32| line(libc::BPF_RET | libc::BPF_K, 0, 0, answer);
    let is =
        |value: u32, yes, no| line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let has =
        |bits: u32, yes, no| line(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, yes, no, bits);
    let call = |number: libc::c_long, lines: u8| is(number as u32, 0, lines);
    let realtime = libc::CLOCK_REALTIME as u32;
    let mut program = vec![load(0)];
    // FUTEX_LOCK_PI knows the wall clock only.
    program.extend([call(libc::SYS_futex, 6), argument(1)]);
    program.extend([has(libc::FUTEX_CLOCK_REALTIME as u32, 2, 0)]);
    program.extend([line(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x7F)]);
    program.extend([is(libc::FUTEX_LOCK_PI as u32, 0, 1), end(KILL), end(ALLOW)]);
    for (number, clock) in [(libc::SYS_futex_waitv, 4), (455, 5), (libc::SYS_timerfd_create, 0)]
        .into_iter()
        .chain([(libc::SYS_timer_create, 0), (libc::SYS_clock_gettime, 0)])
    {
        program.extend([
            call(number, 4),
            argument(clock),
            is(realtime, 0, 1),
            end(KILL),
            end(ALLOW),
        ]);
    }
    // A relative one does not mind.
    program.extend([call(libc::SYS_clock_nanosleep, 6), argument(1), has(1, 0, 3), argument(0)]);
    program.extend([is(realtime, 0, 1), end(KILL), end(ALLOW)]);
    program.extend([call(libc::SYS_gettimeofday, 1), end(KILL), end(ALLOW)]);
    filter(&mut program);
}

/// Filters the system calls of this process from now on.
fn filter(lines: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    // SAFETY: the first call takes numbers; the second reads the program, which lives until it returns.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    assert!(!refused, "a filter: {}", io::Error::last_os_error());
}

// ---- f31: without /dev/shm (Errno 38) there is no lock at all, and not even a pool of threads.

/// How /dev/shm is spoilt.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Spoilt {
    /// Nobody can write there.
    ReadOnly,
    /// It does not exist, nor does anything in /dev but `null`.
    Missing,
}

/// Spoils /dev/shm for this process and its children. `false`: it may not.
fn spoil(how: Spoilt) -> bool {
    let target = match how {
        Spoilt::ReadOnly => c"/dev/shm",
        Spoilt::Missing => c"/dev",
    };
    let flags = if how == Spoilt::ReadOnly { libc::MS_RDONLY } else { 0 };
    // SAFETY: concerns this process and its children only; the second one is for who is not root.
    let apart = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) == 0
    };
    let null = std::fs::File::open("/dev/null").unwrap();
    let none = std::ptr::null();
    // SAFETY: the calls take numbers and strings that end in zero.
    let mounted = apart
        && unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            libc::mount(none, c"/".as_ptr(), none, private, none.cast()) == 0
                && libc::mount(none, target.as_ptr(), c"tmpfs".as_ptr(), flags, none.cast()) == 0
        };
    if mounted && how == Spoilt::Missing {
        use std::os::fd::AsRawFd;
        std::fs::write("/dev/null", "").unwrap();
        let old = std::ffi::CString::new(format!("/proc/self/fd/{}", null.as_raw_fd())).unwrap();
        // SAFETY: as above.
        let bound = unsafe {
            let bind = libc::MS_BIND;
            libc::mount(old.as_ptr(), c"/dev/null".as_ptr(), none.cast(), bind, none.cast())
        };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
    }
    mounted
}

fn deposit(account: Mutex<u64>, told: Event) {
    *account.lock().unwrap() += 1;
    told.set();
}

fn f31() {
    for how in [Spoilt::ReadOnly, Spoilt::Missing] {
        Child::start(|| {
            if !spoil(how) {
                println!("this process may not mount: nothing to test");
                return;
            }
            let refused = std::fs::write("/dev/shm/procession-test", "");
            assert!(refused.is_err(), "{how:?}: /dev/shm can be written to");
            family::work(300, &|| {});
            family::time_is_kept(Duration::from_millis(5));
            // Not only forked ones: an executed process, to which handles travel.
            let (account, told) = (Mutex::new(0u64).unwrap(), Event::new().unwrap());
            let teller = Process::new(deposit, (account.clone(), told.clone())).start().unwrap();
            assert!(told.wait_timeout(LONG));
            teller.join().unwrap();
            // And threads.
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| (0..1000).for_each(|_| *account.lock().unwrap() += 1));
                }
            });
            assert_eq!(*account.lock().unwrap(), 4001);
        })
        .finish();
    }
}
