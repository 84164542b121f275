//! What is known to fail in Python's multiprocessing, and must not fail here: for each report a test that provokes
//! the same with real processes. (The numbers are CPython's issues.)
//!
//! `cargo test --test failures`

#[path = "failures/channels.rs"]
mod channels;
#[path = "failures/descriptors.rs"]
mod descriptors;
#[path = "failures/executors.rs"]
mod executors;
#[path = "support/family.rs"]
mod family;
#[path = "../posix/tests/support/gone.rs"]
mod gone;
#[path = "failures/memory.rs"]
mod memory;
#[path = "failures/pools.rs"]
mod pools;
#[path = "failures/processes.rs"]
mod processes;
#[allow(dead_code, reason = "no test uses all of it")]
mod support;
#[path = "failures/terminate.rs"]
mod terminate;

use std::io;
use std::mem::{ManuallyDrop, forget as keep};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use procession::process::{StartMethod, set_start_method};
use procession::sync::{
    Barrier, BarrierError, BoundedSemaphore, Broken, Condition, ConditionError, Event, Latch,
    LatchError, Lock, Mutex, Once, RLock, Reason, ReleaseError, RwLock, Semaphore, SeqLock,
};
use procession::{Process, Queue};
use procession_core::sync::AcquireError;

use support::{Child, LONG, Test, Word, sleep_forever};

const TESTS: &[Test] = &[
    ("f01_what_a_killed_process_held_is_not_lost", f01),
    ("f01_what_a_killed_process_held_twice_is_not_lost", f01_rlock),
    ("f01_permits_of_a_killed_process_come_back", f01_semaphore),
    ("f01_what_a_killed_process_had_begun_is_done", f01_once),
    ("f01_what_killed_readers_and_writers_held_is_not_lost", f01_readers),
    ("f02_a_getter_killed_asleep_keeps_nobody_waiting", channels::f02_asleep),
    ("f02_getters_killed_anywhere_keep_nobody_waiting", channels::f02_anywhere),
    ("f02_a_killed_worker_keeps_no_join_waiting", channels::f02_worker),
    ("f03_a_killed_worker_fails_its_task_alone", pools::f03),
    ("f03_each_killed_worker_fails_its_item_alone", pools::f03_many),
    ("f03_a_task_is_run_again_where_that_is_allowed", pools::f03_again),
    ("f04_a_worker_killed_asleep_keeps_nobody_waiting", pools::f04),
    ("f05_a_killed_putter_or_getter_leaves_no_half_message", channels::f05_queue),
    ("f05_a_killed_sender_or_receiver_leaves_no_half_message", channels::f05_pipe),
    ("f05_a_killed_one_leaves_no_half_object_on_a_stack", channels::f05_stack),
    ("f06_a_process_is_joined_before_its_queue_is_drained", channels::f06_join_first),
    ("f06_a_process_is_joined_before_its_pipe_is_drained", channels::f06_pipe),
    ("f07_an_object_that_cannot_be_put_is_an_error", channels::f07_refused),
    ("f07_an_object_that_cannot_be_sent_is_an_error", channels::f07_pipe),
    ("f07_an_object_that_cannot_be_read_is_an_error", channels::f07_unreadable),
    ("f08_what_is_put_is_there_at_once", channels::f08_at_once),
    ("f08_what_is_put_into_a_store_is_there_at_once", channels::f08_store),
    ("f09_event_set_does_not_wait_for_a_dead_waiter", f09_event),
    ("f09_notify_does_not_wait_for_a_dead_waiter", f09_condition),
    ("f09_a_barrier_does_not_wait_for_a_dead_party", f09_barrier),
    ("f10_a_pulse_is_seen", f10_pulse),
    ("f10_set_in_a_signal_handler", f10_handler),
    ("f11_what_cannot_be_decoded_fails_its_task_alone", pools::f11),
    ("f12_a_task_that_leaves_is_not_lost", pools::f12_leavers),
    ("f12_a_failing_initializer_breaks_the_pool_with_its_cause", pools::f12_initializer),
    ("f12_a_pool_that_breaks_tells_all_who_wait", pools::f12_under_way),
    ("f13_a_pool_is_terminated_in_time_whatever_its_workers_do", terminate::f13),
    ("f13_a_callback_may_panic_and_end_the_pool", terminate::f13_callbacks),
    ("f14_a_dead_worker_does_not_break_an_executor", executors::f14),
    ("f14_a_dead_worker_breaks_a_strict_executor_with_its_cause", executors::f14_strict),
    ("f15_workers_are_replaced_after_some_tasks", executors::f15_replaced),
    ("f15_a_worker_dies_with_much_on_its_way_to_it", executors::f15_large),
    ("f15_whoever_submits_does_not_wait_for_the_workers", executors::f15_many),
    ("f15_an_executor_is_shut_down_in_time", executors::f15_shutdown),
    ("f16_no_end_of_a_stranger_takes_memory_away", || by_each_method(memory::f16)),
    ("f17_no_failed_attach_takes_memory_away", || by_each_method(memory::f17)),
    ("f18_a_killed_tree_leaves_nothing_that_cannot_be_swept", || by_each_method(memory::f18)),
    ("f19_no_room_is_an_error_and_no_signal", memory::f19),
    ("f21_a_process_with_threads_starts_others", || by_each_method(processes::f21)),
    ("f22_main_runs_once_and_starting_costs_no_import", || by_each_method(processes::f22)),
    ("f25_a_join_ends_in_time_whatever_the_child_became", || by_each_method(processes::f25_join)),
    ("f25_all_who_ask_at_once_hear_the_same", || by_each_method(processes::f25_race)),
    ("f23_counts_are_known_and_bounds_kept", f23),
    ("f26_an_input_is_taken_as_results_are_asked_for", pools::f26),
    ("f29_who_put_at_the_same_time_do_not_mix", channels::f29_queue),
    ("f29_writers_at_one_end_do_not_mix", channels::f29_pipe),
    ("f28_a_queue_needs_no_descriptor", descriptors::f28_none_needed),
    ("f28_a_queue_that_is_gone_leaves_nothing", descriptors::f28_none_left),
    ("f30_no_wait_knows_the_wall_clock", f30),
    ("f31_without_dev_shm", f31),
    ("f32_zero_is_an_error_and_twice_is_once", executors::f32),
];

fn main() -> ExitCode {
    if let Some(code) = memory::stranger() {
        return code;
    }
    processes::enter_main();
    support::run(TESTS)
}

const METHODS: [StartMethod; 3] = [StartMethod::Zygote, StartMethod::Spawn, StartMethod::Fork];

/// Runs it under each method, each time in a process of its own, which has one thread.
fn by_each_method(body: fn(StartMethod)) {
    for method in METHODS {
        let child = Child::start(|| {
            set_start_method(method);
            body(method);
        });
        assert!(child.outcome_within(3 * LONG), "under {method:?}, see above");
    }
}

/// What takes microseconds, on a machine under load.
const SOON: Duration = Duration::from_secs(20);

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
    // The last of all may have been one of those two.
    finish(Child::start(take));
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
        pair[0] = pair[1] + 1;
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

fn f01_semaphore() {
    let bounded = BoundedSemaphore::new(1).unwrap();
    let hold = || keep(bounded.acquire().unwrap());
    outlives_its_holder("a bounded semaphore", &hold, &|| drop(bounded.acquire().unwrap()));
    assert_eq!((bounded.value(), bounded.locked()), (1, false));
    // One dies with all of several, and another wants them all.
    let bounded = BoundedSemaphore::new(3).unwrap();
    let waiter = |count: u64| {
        let child = Child::start(|| (0..count).for_each(|_| keep(bounded.acquire().unwrap())));
        promptly("three permits", || child.finish());
    };
    holder(&|| (0..3).for_each(|_| keep(bounded.acquire().unwrap()))).kill();
    waiter(3);
    waiter(2);
    waiter(1);
    drop([(); 3].map(|()| bounded.acquire_timeout(SOON).unwrap()));
    assert_eq!((bounded.value(), bounded.locked()), (3, false));
    assert_eq!(bounded.release(), Err(ReleaseError::TooMany { most: 3 }));
    let semaphore = Semaphore::new(1).unwrap();
    outlives_its_holder("a semaphore", &|| keep(semaphore.acquire().unwrap()), &|| {
        // By whichever way.
        semaphore.take().unwrap();
        semaphore.release().unwrap();
    });
    assert_eq!(semaphore.value(), 1);
    // Who waits for work that a dead one had taken on is told that nobody will do it.
    let latch = Latch::new(2).unwrap();
    let waiter = Child::start(|| {
        let answer = latch.wait();
        assert!(matches!(answer, Err(LatchError::Broken { pid: 1.. })), "{answer:?}");
    });
    waiter.falls_asleep();
    let dead = holder(&|| keep(latch.part().unwrap()));
    latch.count_down().unwrap();
    assert!(!waiter.has_ended());
    dead.kill();
    promptly("the news for a waiter", || waiter.finish());
    assert_eq!(latch.broken(), Some(dead.pid().as_raw_nonzero().get() as u32));
}

fn f01_once() {
    for _ in 0..5 {
        let (once, runs) = (Once::new().unwrap(), Word::new());
        let [dead, second] = [(); 2].map(|()| {
            Child::start(|| {
                once.call(|_| {
                    runs.count();
                    sleep_forever();
                })
                .unwrap();
            })
        });
        dead.falls_asleep();
        second.falls_asleep();
        let waiters = [(); 2].map(|()| Child::start(|| once.wait().unwrap()));
        waiters.iter().for_each(Child::falls_asleep);
        assert_eq!(runs.get(), 1);
        let first = once.runner().unwrap().pid;
        let [dead, second] = if first == dead.pid().as_raw_nonzero().get() as u32 {
            [dead, second]
        } else {
            [second, dead]
        };
        dead.kill();
        runs.wait_for(2);
        second.kill();
        let done =
            promptly("Once::call", || once.call(|again| assert!(again, "not the first run")));
        assert_eq!(done, Ok(true));
        promptly("the waiters' return", || waiters.into_iter().for_each(Child::finish));
        assert_eq!(once.call(|_| panic!("it is done")), Ok(false));
    }
}

fn f01_rlock() {
    let lock = RLock::new().unwrap();
    let hold = || {
        keep(lock.acquire().or_else(AcquireError::into_guard).unwrap());
        keep(lock.try_acquire().or_else(AcquireError::into_guard).unwrap());
        assert_eq!(lock.depth(), 2);
    };
    outlives_its_holder("a recursive lock", &hold, &|| {
        let answer = lock.acquire();
        assert_eq!(lock.depth(), 1, "the dead one's levels are gone");
        match answer {
            Ok(_) => {}
            Err(AcquireError::OwnerDied(died)) => died.into_guard().mark_consistent(),
            Err(error) => panic!("{error}"),
        }
    });
    assert_eq!((lock.depth(), lock.locked()), (0, false));
    // A condition's lock, of which a waiter hears though nobody else asks for it.
    let condition = Condition::new().unwrap();
    let waiter = Child::start(|| {
        let mut guard = condition.acquire().unwrap();
        let answer = guard.wait();
        assert_eq!(answer, Err(ConditionError::OwnerDied { notified: false }));
        guard.mark_consistent();
    });
    waiter.falls_asleep();
    holder(&|| keep(condition.acquire().unwrap())).kill();
    promptly("the news for a waiter", || waiter.finish());
    drop(condition.try_acquire().unwrap());
}

fn f01_readers() {
    // A dead reader is in nobody's way, and there is nothing to tell of it.
    let lock = RwLock::new().unwrap();
    outlives_its_holder("a reader's lock", &|| keep(lock.read().unwrap()), &|| {
        drop(lock.write().unwrap());
    });
    // Of a writer it is told, as it is of a lock's holder.
    let news = Word::new();
    let hold = || keep(lock.write().or_else(AcquireError::into_guard).unwrap());
    outlives_its_holder("a writer's lock", &hold, &|| match lock.write() {
        Ok(_) => {}
        Err(AcquireError::OwnerDied(died)) => {
            news.count();
            died.into_guard().mark_consistent();
        }
        Err(error) => panic!("{error}"),
    });
    assert!(news.get() >= 4, "the next one is told: {} times", news.get());
    // One who reads and could have written has not.
    outlives_its_holder(
        "an upgradable reader's lock",
        &|| keep(lock.upgradable_read().unwrap()),
        &|| drop(lock.upgradable_read().unwrap().upgrade().map_err(|not| not.error()).unwrap()),
    );
    drop(lock.try_write().unwrap());
    // What a dead writer had not finished never was.
    let cell = SeqLock::new([7u64; 4]).unwrap();
    let hold = || {
        let _ = cell.update(|_| sleep_forever());
    };
    let dead = [(); 2].map(|()| Child::start(hold));
    dead.iter().for_each(Child::falls_asleep);
    dead[0].kill();
    dead[1].kill();
    promptly("SeqLock::get", || assert_eq!(cell.get(), [7; 4]));
    promptly("SeqLock::update", || cell.update(|words| words.map(|word| word + 1)).unwrap());
    assert_eq!(cell.get(), [8; 4]);
}

// ---- f09: gh-75158, gh-123899. notify_all, Barrier.wait, Event.set block on a dead waiter, even with a timeout.

fn f09_event() {
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

fn f09_condition() {
    let lock = Lock::new().unwrap();
    let conditions = [Condition::new().unwrap(), Condition::with_lock(&lock).unwrap()];
    for (condition, round) in conditions.iter().flat_map(|one| (0..3).map(move |two| (one, two))) {
        let waiter = || {
            let child = Child::start(|| {
                let mut guard = condition.acquire().unwrap();
                match round {
                    0 => guard.wait().unwrap(),
                    _ => assert!(guard.wait_timeout(LONG).unwrap(), "it was notified"),
                }
            });
            // So that they have an order.
            child.falls_asleep();
            child
        };
        let [zombie, gone, first, second, third] = [(); 5].map(|()| waiter());
        zombie.kill();
        gone.kill();
        drop(gone);
        // Two notifications: they go to the living, whichever way, and each waiter gets one at most.
        let mut guard = promptly("Condition::acquire", || condition.acquire()).unwrap();
        promptly("notify", || guard.notify(2).unwrap());
        promptly("wait_timeout", || {
            assert!(!guard.wait_timeout(Duration::from_millis(10)).unwrap());
        });
        drop(guard);
        promptly("the waiters' return", || [first, second].into_iter().for_each(Child::finish));
        assert!(!third.has_ended(), "nobody has notified it");
        // One who is killed with its notification in hand, before it could return: another gets it.
        let fourth = waiter();
        third.signal(rustix::process::Signal::STOP);
        let guard = condition.acquire().unwrap();
        assert_eq!(promptly("notify_one", || guard.notify_one()), Ok(true));
        third.kill();
        drop(guard);
        promptly("the heir's return", || fourth.finish());
        let fifth = waiter();
        let guard = condition.acquire().unwrap();
        assert_eq!(promptly("notify_all", || guard.notify_all()), Ok(1));
        drop(guard);
        promptly("the last waiter's return", || fifth.finish());
    }
}

fn f09_barrier() {
    const HALF: Duration = Duration::from_millis(500);
    let barrier = Barrier::new(4).unwrap();
    let expect = |answer: Result<usize, BarrierError<String>>, died: u32| match answer {
        Err(BarrierError::Broken(Broken { reason: Reason::Died, who: Some(who) })) => {
            assert_eq!(who.pid, died);
        }
        answer => panic!("{answer:?}, though {died} died"),
    };
    let died = Word::new();
    for reaped in [false, true] {
        let dead = Child::start(|| drop(barrier.wait()));
        let waiters = [
            Child::start(|| expect(barrier.wait(), died.get() as u32)),
            Child::start(|| expect(barrier.wait_timeout(LONG), died.get() as u32)),
        ];
        dead.falls_asleep();
        waiters.iter().for_each(Child::falls_asleep);
        assert_eq!(barrier.n_waiting(), 3);
        let pid = dead.pid().as_raw_nonzero().get() as u32;
        died.set(u64::from(pid));
        dead.kill();
        let dead = (!reaped).then_some(dead);
        // One dead party breaks it for all at once, also for who comes now.
        promptly("the waiters' return", || waiters.into_iter().for_each(Child::finish));
        assert!(barrier.broken());
        promptly("a wait for half a second", || expect(barrier.wait_timeout(HALF), pid));
        promptly("reset", || barrier.reset().unwrap());
        drop(dead);
        // And all is well again.
        let seen = Word::new();
        let four = [(); 4].map(|()| Child::start(|| seen.set_bit(8 * barrier.wait().unwrap())));
        four.into_iter().for_each(Child::finish);
        assert_eq!(seen.get(), 0x0101_0101, "each index once");
        promptly("reset", || barrier.reset().unwrap());
    }
    // Nobody is there but a dead one: the time limit holds, and so does what comes after.
    let dead = Child::start(|| drop(barrier.wait()));
    dead.falls_asleep();
    dead.kill();
    let begin = Instant::now();
    let answer = barrier.wait_timeout(HALF);
    let broken = matches!(answer, Err(BarrierError::Broken(_) | BarrierError::TimedOut));
    assert!(broken && begin.elapsed() < HALF + SOON, "{answer:?} after {:?}", begin.elapsed());
    promptly("abort", || barrier.abort().unwrap());
    promptly("reset", || barrier.reset().unwrap());
    // One who has met the others before, and dies before it comes again.
    let pair = Barrier::new(2).unwrap();
    let dead = Child::start(|| {
        pair.wait().unwrap();
        sleep_forever();
    });
    let other = Child::start(|| {
        pair.wait().unwrap();
        expect(pair.wait(), died.get() as u32);
    });
    died.set(dead.pid().as_raw_nonzero().get() as u64);
    support::eventually("one comes again", || pair.n_waiting() == 1 && !pair.broken());
    dead.falls_asleep();
    other.falls_asleep();
    dead.kill();
    promptly("the other's return", || other.finish());
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
        let (before, end) = (rings.get(), Instant::now() + LONG);
        while rings.get() < before + 1000 {
            assert!(Instant::now() < end, "{} signals", rings.get() - before);
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
}

// ---- f23: gh-101094. qsize and get_value are NotImplementedError; over-releasing a bounded semaphore may go unnoticed.

fn f23() {
    let queue = Queue::<u64>::bounded(5).unwrap();
    let semaphore = Semaphore::new(3).unwrap();
    let bounded = BoundedSemaphore::new(4).unwrap();
    // What one process does, others count.
    for count in 1..=3 {
        Child::start(|| {
            queue.put(&7).unwrap();
            semaphore.take().unwrap();
            semaphore.release_many(2).unwrap();
            bounded.take().unwrap();
        })
        .finish();
        let counts = (queue.qsize() as u32, semaphore.value(), bounded.value());
        assert_eq!(counts, (count, 3 + count, 4 - count));
    }
    assert!(!queue.empty() && !queue.full());
    assert_eq!((bounded.bound(), bounded.locked()), (4, false));
    bounded.release_many(3).unwrap();
    assert_eq!(bounded.release_many(1), Err(ReleaseError::TooMany { most: 4 }));

    // Of many that release at the same time just so many may as have taken: the check and the release are one step.
    let (go, released) = (Word::new(), Word::new());
    for round in 1..=200 {
        let out = round % 5;
        (0..out).for_each(|_| bounded.take().unwrap());
        released.set(0);
        let racers: [Child; 2] = std::array::from_fn(|_| {
            Child::start(|| {
                support::eventually("the start", || go.get() == round);
                for _ in 0..4 {
                    match bounded.release() {
                        Ok(()) => released.count(),
                        Err(error) => assert_eq!(error, ReleaseError::TooMany { most: 4 }),
                    }
                }
            })
        });
        go.set(round);
        racers.into_iter().for_each(Child::finish);
        assert_eq!((released.get(), bounded.value()), (out, 4));
        // All or none.
        bounded.take().unwrap();
        assert_eq!(bounded.release_many(2), Err(ReleaseError::TooMany { most: 4 }));
        assert_eq!(bounded.value(), 3);
        bounded.release().unwrap();
    }
    // Nor may anybody release what a living process has a permit for.
    let permit = bounded.acquire().unwrap();
    assert_eq!(bounded.release(), Err(ReleaseError::TooMany { most: 4 }));
    drop(permit);
    assert_eq!(bounded.value(), 4);
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
    /// It has 1 MiB.
    Small,
}

/// Spoils /dev/shm for this process and its children. `false`: it may not.
fn spoil(how: Spoilt) -> bool {
    let target = match how {
        Spoilt::ReadOnly | Spoilt::Small => c"/dev/shm",
        Spoilt::Missing => c"/dev",
    };
    let flags = if how == Spoilt::ReadOnly { libc::MS_RDONLY } else { 0 };
    // SAFETY: concerns this process and its children only.
    let mut apart = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
    if !apart {
        // Who is not root may be it at home.
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        // SAFETY: as above.
        apart = unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } == 0
            && std::fs::write("/proc/self/setgroups", "deny").is_ok()
            && std::fs::write("/proc/self/uid_map", format!("0 {user} 1")).is_ok()
            && std::fs::write("/proc/self/gid_map", format!("0 {group} 1")).is_ok();
    }
    let null = std::fs::File::open("/dev/null").unwrap();
    let none = std::ptr::null();
    let data = if how == Spoilt::Small { c"size=1m".as_ptr() } else { none };
    // SAFETY: the calls take numbers and strings that end in zero.
    let mounted = apart
        && unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            libc::mount(none, c"/".as_ptr(), none, private, none.cast()) == 0
                && libc::mount(none, target.as_ptr(), c"tmpfs".as_ptr(), flags, data.cast()) == 0
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
