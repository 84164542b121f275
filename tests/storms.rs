//! Storms of signals: a timer interrupts each process every millisecond, and no system call is begun again by the kernel.
//! Nothing may come early, late, twice or never for that.
//!
//! `cargo test --test storms`

#[path = "support/family.rs"]
mod family;
#[allow(dead_code, reason = "no test uses all of it")]
mod support;

use std::mem::forget;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use procession::Queue;
use procession::sync::{
    Atomic, Barrier, BarrierError, BoundedSemaphore, Broken, Condition, Event, Latch, LatchError,
    Lock, Mutex, Once, RLock, Reason, RwLock, Semaphore, wait_any,
};

use support::{Child, LONG, Test, Word, alarm_each, eventually, on_alarm, sleep_forever};

const TESTS: &[Test] = &[
    ("signals_interrupt_sleeps", interrupts),
    ("no_work_is_disturbed", work),
    ("time_limits_are_kept", time_limits),
    ("a_wait_without_limit_has_none", without_limit),
    ("a_death_is_found_out", deaths),
    ("threads_are_disturbed_no_more", threads),
    ("an_event_is_set_by_signal_handlers_in_the_middle_of_its_calls", bells),
];

fn main() -> ExitCode {
    support::run(TESTS)
}

/// How many signals this process got.
static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// From now on this process is interrupted each millisecond.
fn storm() {
    on_alarm(count);
    alarm_each(Duration::from_millis(1));
}

/// The storm is one: a futex call comes back with EINTR.
fn interrupts() {
    storm();
    let word = std::sync::atomic::AtomicU32::new(0);
    let begin = Instant::now();
    let mut interrupted = 0;
    while interrupted < 20 {
        assert!(begin.elapsed() < LONG, "{interrupted} interruptions");
        // SAFETY: the word is valid for the call.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_futex,
                &raw const word,
                libc::FUTEX_WAIT,
                0,
                std::ptr::null::<()>(),
            )
        };
        let error = std::io::Error::last_os_error().raw_os_error();
        assert_eq!((answer, error), (-1, Some(libc::EINTR)));
        interrupted += 1;
    }
    assert!(SIGNALS.load(Ordering::Relaxed) >= 20);
}

fn work() {
    family::work(2000, &storm);
}

fn time_limits() {
    storm();
    // Shorter than the time between two signals, about as long, and much longer.
    for time in [Duration::from_micros(300), Duration::from_millis(1), Duration::from_millis(40)] {
        family::time_is_kept(time);
    }
}

/// Waits that come to an end by nothing but what they wait for.
fn without_limit() {
    let (lock, mutex, rlock) =
        (Lock::new().unwrap(), Mutex::new(0).unwrap(), RLock::new().unwrap());
    let (event, never) = (Event::new().unwrap(), Event::new().unwrap());
    let (permits, units) = (BoundedSemaphore::new(1).unwrap(), Semaphore::new(0).unwrap());
    let (rwlock, atomic) = (RwLock::new().unwrap(), Atomic::new(0u32).unwrap());
    let condition = Condition::new().unwrap();
    let (barrier, latch) = (Barrier::new(2).unwrap(), Latch::new(1).unwrap());
    let (once, empty) = (Once::new().unwrap(), Queue::<u8>::bounded(1).unwrap());
    let waits: [&dyn Fn(); 17] = [
        &|| drop(lock.acquire().unwrap()),
        &|| *mutex.lock().unwrap() += 1,
        &|| drop(rlock.acquire().unwrap()),
        &|| event.wait(),
        &|| assert!(event.wait_timeout(LONG)),
        &|| assert_eq!(wait_any(&[&never, &event]), Some(1)),
        &|| drop(permits.acquire().unwrap()),
        &|| units.take().unwrap(),
        &|| drop(rwlock.read().unwrap()),
        &|| drop(rwlock.write().unwrap()),
        &|| drop(rwlock.upgradable_read().unwrap()),
        &|| assert_eq!(atomic.wait(0), Ok(7)),
        &|| condition.acquire().unwrap().wait().unwrap(),
        &|| assert_eq!(barrier.wait(), Ok(0)),
        &|| latch.wait().unwrap(),
        &|| once.wait().unwrap(),
        &|| assert_eq!(empty.get().unwrap(), 9),
    ];
    let held = (lock.acquire().unwrap(), mutex.lock().unwrap(), rlock.acquire().unwrap());
    let (permit, writes) = (permits.acquire().unwrap(), rwlock.write().unwrap());
    let (now, back) = (Word::new(), Word::new());
    let waiters = waits.map(|wait| {
        Child::start(|| {
            storm();
            now.count();
            wait();
            assert!(SIGNALS.load(Ordering::Relaxed) > 10, "there was no storm");
            back.count();
        })
    });
    now.wait_for(waiters.len() as u64);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(back.get(), 0, "somebody came back, and nothing had happened");
    drop((held, permit, writes));
    event.set();
    units.release().unwrap();
    atomic.store(7, Ordering::SeqCst);
    atomic.notify_all();
    assert_eq!(condition.acquire().unwrap().notify_one(), Ok(true));
    assert_eq!(barrier.wait(), Ok(1));
    latch.count_down().unwrap();
    assert_eq!(once.call(|_| ()), Ok(true));
    empty.put(&9).unwrap();
    waiters.into_iter().for_each(Child::finish);
}

/// Who waits for the dead finds out, however often it is interrupted.
fn deaths() {
    let (lock, rlock, rwlock) =
        (Lock::new().unwrap(), RLock::new().unwrap(), RwLock::new().unwrap());
    let (permits, pair) = (BoundedSemaphore::new(1).unwrap(), Barrier::new(3).unwrap());
    let (latch, once) = (Latch::new(1).unwrap(), Once::new().unwrap());
    // What one does who then is killed, and who waits for it.
    let cases: [[&dyn Fn(); 2]; 7] = [
        [&|| forget(lock.acquire().unwrap()), &|| {
            let error = lock.acquire().expect_err("the holder died");
            error.into_guard().unwrap().mark_consistent();
        }],
        [&|| forget(rlock.acquire().unwrap()), &|| {
            let error = rlock.acquire().expect_err("the holder died");
            error.into_guard().unwrap().mark_consistent();
        }],
        [&|| forget(rwlock.write().unwrap()), &|| {
            let error = rwlock.write().expect_err("the writer died");
            error.into_guard().unwrap().mark_consistent();
        }],
        [&|| forget(rwlock.read().unwrap()), &|| drop(rwlock.write().unwrap())],
        [&|| forget(permits.acquire().unwrap()), &|| drop(permits.acquire().unwrap())],
        [&|| forget(latch.part().unwrap()), &|| {
            assert!(matches!(latch.wait(), Err(LatchError::Broken { .. })));
        }],
        [
            &|| {
                // It has arrived, and does not come back.
                let _ = std::thread::Builder::new().spawn({
                    let pair = pair.clone();
                    move || pair.wait()
                });
                eventually("one is there", || pair.n_waiting() == 1);
            },
            &|| {
                let answer = pair.wait();
                let died = |broken: &Broken| broken.reason == Reason::Died;
                assert!(matches!(&answer, Err(BarrierError::Broken(broken)) if died(broken)));
            },
        ],
    ];
    for [hold, wait] in cases {
        let held = Word::new();
        let holder = Child::start(|| {
            storm();
            hold();
            held.set(1);
            sleep_forever();
        });
        held.wait();
        let waiter = Child::start(|| {
            storm();
            wait();
        });
        waiter.falls_asleep();
        holder.kill();
        waiter.finish();
    }
    let begun = Word::new();
    let runner = Child::start(|| {
        storm();
        let run = |_| {
            begun.set(1);
            sleep_forever();
        };
        once.call(run).unwrap();
    });
    begun.wait();
    let next = Child::start(|| {
        storm();
        assert_eq!(once.call(|again| assert!(again)), Ok(true));
    });
    next.falls_asleep();
    runner.kill();
    next.finish();
}

/// The signals reach whatever thread they meet.
fn threads() {
    Child::start(|| {
        let (lock, event) = (Lock::new().unwrap(), Event::new().unwrap());
        let (sum, rounds) = (AtomicU64::new(0), 20_000);
        storm();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let _guard = lock.acquire_timeout(LONG).unwrap();
                        // Load and store: two holders would show.
                        sum.store(sum.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    }
                });
            }
            let waiters = [(); 2].map(|()| scope.spawn(|| event.wait()));
            std::thread::sleep(Duration::from_millis(200));
            assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
            event.set();
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4 * rounds);
    })
    .finish();
}

/// What the signal handler sets, and how often it did.
static BELL: OnceLock<(Event, Word)> = OnceLock::new();

extern "C" fn ring(_: libc::c_int) {
    if let Some((event, rings)) = BELL.get() {
        event.set();
        rings.count();
    }
}

/// From now on this process's handler sets the event again and again.
fn ring_often() {
    on_alarm(ring);
    alarm_each(Duration::from_micros(150));
}

fn bells() {
    /// So often each call is interrupted.
    const RINGS: u64 = 1500;
    let (event, rings) = BELL.get_or_init(|| (Event::new().unwrap(), Word::new()));
    // One call at a time, so that the handler comes in its midst; and two processes that are interrupted at each other.
    let calls: [(&str, &dyn Fn()); 5] = [
        ("wait", &|| {
            event.wait();
            event.clear();
        }),
        ("wait_timeout", &|| {
            assert!(event.wait_timeout(LONG), "it is set all the time");
            event.clear();
        }),
        ("set and clear", &|| {
            event.set();
            event.clear();
        }),
        ("is_set", &|| while !event.is_set() {}),
        ("wait_any", &|| {
            assert_eq!(wait_any(&[event]), Some(0));
            event.clear();
        }),
    ];
    for (name, call) in calls {
        event.clear();
        let before = rings.get();
        let pair = [(); 2].map(|()| {
            Child::start(|| {
                ring_often();
                let deadline = Instant::now() + LONG;
                while rings.get() < before + RINGS {
                    assert!(Instant::now() < deadline, "{name}: {} signals", rings.get() - before);
                    call();
                }
                alarm_each(Duration::ZERO);
                event.set();
            })
        });
        pair.into_iter().for_each(Child::finish);
    }
    // Each ring is an event that somebody who waits already does not miss: the handler of one ends the other's wait.
    let (turn, rounds) = (Word::new(), 300);
    event.clear();
    let ringer = Child::start(|| {
        on_alarm(ring);
        for round in 1..=rounds {
            eventually("its turn", || turn.get() >= 2 * round - 1);
            rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::ALARM,
            )
            .unwrap();
            eventually("the next turn", || turn.get() >= 2 * round);
        }
    });
    let before = rings.get();
    for _ in 0..rounds {
        turn.count();
        assert!(event.wait_timeout(LONG));
        event.clear();
        turn.count();
    }
    ringer.finish();
    assert_eq!(rings.get(), before + rounds);
}
