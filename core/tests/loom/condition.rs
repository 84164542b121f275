//! The condition: nobody sleeps for good, just so many return as are notified, and what a dead waiter was told goes to
//! another.

use std::sync::Arc;

use loom::thread;
use procession_core::region::Member;
use procession_core::sync::{
    AcquireError, Condition, ConditionError, Lock, LockGuard, RLock, RLockGuard,
};
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::model::{self, Mutation, Sleeps};
use procession_core::sys::{Deadline, Thread};

use crate::world::{Process, explore, explore_deaths};

/// Tokens under a lock; who wants one waits for it on the condition.
#[derive(Default)]
struct Tokens {
    lock: Lock,
    changed: Condition,
    count: AtomicU32,
    /// How many were taken.
    taken: AtomicU32,
}

impl Tokens {
    fn acquire<'a>(&'a self, me: Member<'a>) -> LockGuard<'a> {
        match self.lock.acquire(me) {
            Ok(guard) => guard,
            Err(AcquireError::OwnerDied(died)) => {
                let mut guard = died.into_guard();
                self.mend(&mut guard);
                guard
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Somebody died with the lock: what it came to say is said for it.
    fn mend(&self, guard: &mut LockGuard<'_>) {
        self.changed.notify_all(guard).expect("the guard of its lock");
        guard.mark_consistent();
    }

    fn give(&self, me: Member<'_>) {
        let guard = self.acquire(me);
        // Relaxed, as all of these: the lock alone orders them.
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.changed.notify_one(&guard).expect("the guard of its lock");
    }

    fn take(&self, me: Member<'_>) {
        let mut guard = self.acquire(me);
        while self.count.load(Ordering::Relaxed) == 0 {
            self.wait(&mut guard, Deadline::NEVER);
        }
        self.count.store(self.count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        self.taken.store(self.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// One wait; whether it was notified.
    fn wait(&self, guard: &mut LockGuard<'_>, deadline: Deadline) -> bool {
        match self.changed.wait_until(guard, deadline) {
            Ok(notified) => notified,
            Err(ConditionError::OwnerDied { notified }) => {
                self.mend(guard);
                notified
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// So many takers, one token for each.
fn tokens(takers: u32) {
    let tokens = Arc::new(Tokens::default());
    let own = Process::new();
    let takers: Vec<_> = (0..takers)
        .map(|_| {
            let (tokens, process) = (Arc::clone(&tokens), Process::new());
            thread::spawn(move || tokens.take(process.me()))
        })
        .collect();
    for _ in &takers {
        tokens.give(own.me());
    }
    for taker in takers {
        taker.join().unwrap();
    }
}

#[test]
fn one_waits_for_one() {
    explore(Sleeps::Endless, 3, || tokens(1));
}

#[test]
fn two_wait_for_one_each() {
    explore(Sleeps::Endless, 1, || tokens(2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, 3, || {
        model::mutate(Mutation::NoFences);
        tokens(1);
    });
}

/// Two wait once each; the notifier ends the waits of `most`, and later all others. At first one may return.
fn exactly(most: u32) {
    let tokens = Arc::new(Tokens::default());
    let (own, other, third) = (Process::new(), Process::new(), Process::new());
    fn wait(tokens: &Tokens, me: Member<'_>) {
        let mut guard = tokens.acquire(me);
        if tokens.count.load(Ordering::Relaxed) == 0 {
            assert!(tokens.wait(&mut guard, Deadline::NEVER), "it had no deadline");
            tokens.taken.store(tokens.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
    let waiter = thread::spawn({
        let tokens = Arc::clone(&tokens);
        move || wait(&tokens, other.me())
    });
    let notifier = thread::spawn({
        let tokens = Arc::clone(&tokens);
        move || {
            let guard = tokens.acquire(third.me());
            let first = tokens.changed.notify(&guard, most).expect("the guard of its lock");
            drop(guard);
            let guard = tokens.acquire(third.me());
            let returned = tokens.taken.load(Ordering::Relaxed);
            assert!(returned <= first.min(1), "more than one have returned");
            tokens.count.store(1, Ordering::Relaxed);
            first + tokens.changed.notify_all(&guard).expect("the guard of its lock")
        }
    });
    wait(&tokens, own.me());
    waiter.join().unwrap();
    let notified = notifier.join().unwrap();
    assert_eq!(tokens.taken.load(Ordering::Relaxed), notified);
    assert_eq!(tokens.changed.waiters(), 0);
}

#[test]
fn just_so_many_return_as_are_notified() {
    explore(Sleeps::Endless, 1, || exactly(1));
}

#[test]
#[should_panic(expected = "more than one have returned")]
fn one_notification_too_many_is_noticed() {
    explore(Sleeps::Endless, 2, || exactly(2));
}

#[test]
fn a_notification_at_the_deadline_counts() {
    explore(Sleeps::Endless, 3, || {
        let tokens = Arc::new(Tokens::default());
        let (own, process) = (Process::new(), Process::new());
        let waiter = thread::spawn({
            let tokens = Arc::clone(&tokens);
            move || {
                let mut guard = tokens.acquire(process.me());
                tokens.wait(&mut guard, Deadline::NOW)
            }
        });
        let guard = tokens.acquire(own.me());
        let notified = tokens.changed.notify_one(&guard).expect("the guard of its lock");
        drop(guard);
        assert_eq!(waiter.join().unwrap(), notified);
    });
}

#[test]
fn those_beyond_the_cells_return_too() {
    explore(Sleeps::Endless, 2, || {
        let tokens = Arc::new(Tokens::default());
        // A model has three cells.
        for _ in 0..2 {
            asleep(&tokens).declare_dead();
        }
        let own = Process::new();
        let waiters = [(); 2].map(|()| {
            let (tokens, process) = (Arc::clone(&tokens), Process::new());
            thread::spawn(move || {
                let mut guard = tokens.acquire(process.me());
                if tokens.count.load(Ordering::Relaxed) == 0 {
                    assert!(tokens.wait(&mut guard, Deadline::NEVER), "it had no deadline");
                }
            })
        });
        let guard = tokens.acquire(own.me());
        tokens.count.store(1, Ordering::Relaxed);
        tokens.changed.notify_all(&guard).expect("the guard of its lock");
        drop(guard);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn a_recursive_lock_is_released_and_held_as_before() {
    explore(Sleeps::Endless, 2, || {
        let shared = Arc::new((RLock::new(), Condition::new(), AtomicU32::new(0)));
        fn acquire<'a>(lock: &'a RLock, me: Member<'a>) -> RLockGuard<'a> {
            let thread = Thread::new(1).expect("not 0");
            lock.acquire_as(me, thread, Deadline::NEVER).expect("nobody dies here")
        }
        let (own, process) = (Process::new(), Process::new());
        let waiter = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (lock, changed, open) = &*shared;
                let outer = acquire(lock, process.me());
                let mut inner = acquire(lock, process.me());
                let is_open = |_: &mut RLockGuard<'_>| open.load(Ordering::Relaxed) == 1;
                changed.wait_for(&mut inner, is_open).expect("the guard of its lock");
                assert_eq!(outer.depth(), 2);
            }
        });
        let (lock, changed, open) = &*shared;
        let guard = acquire(lock, own.me());
        open.store(1, Ordering::Relaxed);
        changed.notify_one(&guard).expect("the guard of its lock");
        drop(guard);
        waiter.join().unwrap();
        assert!(!lock.locked());
    });
}

/// A process that waits and does nothing more.
fn asleep(tokens: &Tokens) -> Process {
    let process = Process::new();
    let before = tokens.changed.waiters();
    assert!(model::mortal(ASLEEP, || tokens.take(process.me())).is_none());
    assert_eq!((tokens.changed.waiters(), tokens.lock.locked()), (before + 1, false));
    process
}

/// With so much fuel a taker that finds no token and the lock free has let go of the lock and not yet looked again.
const ASLEEP: u32 = 15;

/// Takes the token and gives it back, for the next.
fn use_token(tokens: &Tokens, me: Member<'_>) {
    tokens.take(me);
    tokens.give(me);
}

/// One token and two that use it, of whom one dies after `fuel` accesses; `own` gives the token, and another if the dead one had
/// it. Whether it died.
fn one_of_two_dies(tokens: &Arc<Tokens>, fuel: u32, then: impl FnOnce()) -> bool {
    let (own, mortal, other) = (Process::new(), Process::new(), Process::new());
    let victim = thread::spawn({
        let tokens = Arc::clone(tokens);
        move || mortal.live(fuel, |me| use_token(&tokens, me)).is_none()
    });
    let survivor = thread::spawn({
        let tokens = Arc::clone(tokens);
        move || use_token(&tokens, other.me())
    });
    tokens.give(own.me());
    then();
    let died = victim.join().unwrap();
    let guard = tokens.acquire(own.me());
    let gone = tokens.count.load(Ordering::Relaxed) == 0;
    drop(guard);
    if gone {
        tokens.give(own.me());
    }
    survivor.join().unwrap();
    died
}

#[test]
fn what_a_dead_waiter_was_told_goes_to_another() {
    explore_deaths(1, |fuel| one_of_two_dies(&Arc::new(Tokens::default()), fuel, || {}));
}

#[test]
fn what_a_dead_notifier_did_not_say_is_found() {
    explore_deaths(2, |fuel| {
        let tokens = Arc::new(Tokens::default());
        let (mortal, other) = (Process::new(), Process::new());
        let waiter = thread::spawn({
            let tokens = Arc::clone(&tokens);
            move || tokens.take(other.me())
        });
        let died = mortal.live(fuel, |me| tokens.give(me)).is_none();
        // Else the waiter has to find the token by itself. Looked at without the lock, for to take it would tell of the death.
        if tokens.count.load(Ordering::Acquire) + tokens.taken.load(Ordering::Acquire) == 0 {
            tokens.give(Process::new().me());
        }
        waiter.join().unwrap();
        died
    });
}

#[test]
fn an_heir_may_die_too() {
    explore_deaths(1, |fuel| {
        let tokens = Arc::new(Tokens::default());
        // The oldest waiter is as good as dead, and nobody can know until it was told.
        let oldest = asleep(&tokens);
        one_of_two_dies(&tokens, fuel, || oldest.declare_dead())
    });
}

#[test]
#[should_panic(expected = "maximum number of branches")]
fn what_a_stopped_waiter_was_told_stays_with_it() {
    explore(Sleeps::Sliced, 1, || {
        let tokens = Arc::new(Tokens::default());
        // It lives, and does nothing more.
        let _stopped = asleep(&tokens);
        let (own, other) = (Process::new(), Process::new());
        let waiter = thread::spawn({
            let tokens = Arc::clone(&tokens);
            move || tokens.take(other.me())
        });
        tokens.give(own.me());
        waiter.join().unwrap();
    });
}
