//! The eventcount: whoever sleeps is woken by what it waits for.

use std::sync::Arc;

use loom::thread;
use procession_core::region::Member;
use procession_core::sys::Deadline;
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::model::{self, Mutation, Sleeps};
use procession_core::sys::spin::Pace;
use procession_core::wait::Eventcount;

use crate::world::{Process, explore};

/// Tokens that can be given and taken, with an eventcount to sleep at.
#[derive(Default)]
struct Tokens<E> {
    count: AtomicU32,
    event: E,
}

/// The eventcount, or a broken one.
trait Sleeping {
    fn notify_one(&self, me: Member<'_>);
    fn wait(&self, me: Member<'_>, look: impl FnMut() -> Option<()>);
}

impl Sleeping for Eventcount {
    fn notify_one(&self, me: Member<'_>) {
        Self::notify_one(self, me);
    }

    fn wait(&self, me: Member<'_>, mut look: impl FnMut() -> Option<()>) {
        Self::wait(self, me, Deadline::NEVER, Pace::Eager, |_| look());
    }
}

impl<E: Sleeping> Tokens<E> {
    fn give(&self, me: Member<'_>) {
        self.count.fetch_add(1, Ordering::Release);
        self.event.notify_one(me);
    }

    fn take(&self, me: Member<'_>) {
        self.event.wait(me, || {
            let mut count = self.count.load(Ordering::Acquire);
            loop {
                // Another was faster: there may still be one left, and nobody would tell of it again.
                let next = count.checked_sub(1)?;
                match self.count.compare_exchange(count, next, Ordering::AcqRel, Ordering::Acquire)
                {
                    Ok(_) => return Some(()),
                    Err(now) => count = now,
                }
            }
        });
    }
}

/// So many takers and givers of one token each; loom finds a deadlock if one taker sleeps beside its token.
fn tokens<E: Sleeping + Default + 'static>(takers: u32, givers: u32, each: u32) {
    let tokens = Arc::new(Tokens::<E>::default());
    assert_eq!(takers, givers * each);
    let mut threads = Vec::new();
    for _ in 0..takers {
        let (tokens, process) = (Arc::clone(&tokens), Process::new());
        threads.push(thread::spawn(move || tokens.take(process.me())));
    }
    let own = Process::new();
    for _ in 1..givers {
        let (tokens, process) = (Arc::clone(&tokens), Process::new());
        threads.push(thread::spawn(move || {
            for _ in 0..each {
                tokens.give(process.me());
            }
        }));
    }
    for _ in 0..each {
        tokens.give(own.me());
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn one_waits_for_one() {
    explore(Sleeps::Endless, None, || tokens::<Eventcount>(1, 1, 1));
}

#[test]
fn two_wait_for_one_that_gives_twice() {
    explore(Sleeps::Endless, 2, || tokens::<Eventcount>(2, 1, 2));
}

#[test]
fn two_wait_for_two() {
    explore(Sleeps::Endless, 2, || tokens::<Eventcount>(2, 2, 1));
}

#[test]
fn one_waits_again_and_again() {
    explore(Sleeps::Endless, 3, || {
        let tokens = Arc::new(Tokens::<Eventcount>::default());
        let (own, other) = (Process::new(), Process::new());
        let taker = thread::spawn({
            let tokens = Arc::clone(&tokens);
            move || {
                for _ in 0..2 {
                    tokens.take(other.me());
                }
            }
        });
        for _ in 0..2 {
            tokens.give(own.me());
        }
        taker.join().unwrap();
    });
}

#[test]
fn all_are_woken() {
    explore(Sleeps::Endless, 3, || {
        let open = Arc::new((AtomicU32::new(0), Eventcount::new()));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (open, process) = (Arc::clone(&open), Process::new());
                thread::spawn(move || {
                    open.1.wait(process.me(), Deadline::NEVER, Pace::Eager, |_| {
                        (open.0.load(Ordering::Acquire) == 1).then_some(())
                    });
                })
            })
            .collect();
        let own = Process::new();
        open.0.store(1, Ordering::Release);
        open.1.notify_all(own.me());
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

// What the models above would say of an eventcount that is wrong.

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    explore(Sleeps::Endless, None, || {
        model::mutate(Mutation::NoFences);
        tokens::<Eventcount>(1, 1, 1);
    });
}

/// How an eventcount may treat its waiters bit when nobody was there to be woken.
#[derive(Clone, Copy)]
enum Clearing {
    /// As the real one: a new epoch, then wake all.
    NewEpoch,
    /// The bit alone: a sleeper that is about to sleep goes to sleep, and nobody knows of it.
    BitAlone,
    /// The bit alone and first, then wake one: the others sleep unknown.
    BitFirst,
}

/// The protocol in short, with `CLEARING`.
#[derive(Default)]
struct Short<const CLEARING: u8>(AtomicU32);

impl<const CLEARING: u8> Short<CLEARING> {
    const CLEARING: Clearing = match CLEARING {
        0 => Clearing::NewEpoch,
        1 => Clearing::BitAlone,
        _ => Clearing::BitFirst,
    };
}

impl<const CLEARING: u8> Sleeping for Short<CLEARING> {
    fn notify_one(&self, me: Member<'_>) {
        use procession_core::sys::futex::wake;
        model_fence();
        let word = self.0.load(Ordering::Relaxed);
        if word & 1 == 0 {
            return;
        }
        let change =
            |next| self.0.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        match Self::CLEARING {
            Clearing::NewEpoch => {
                if wake(me.scope(), &self.0, 1) == 0 && change((word & !1) + 2) {
                    wake(me.scope(), &self.0, u32::MAX);
                }
            }
            Clearing::BitAlone => {
                if wake(me.scope(), &self.0, 1) == 0 {
                    change(word & !1);
                }
            }
            Clearing::BitFirst => {
                if change(word & !1) {
                    wake(me.scope(), &self.0, 1);
                }
            }
        }
    }

    fn wait(&self, me: Member<'_>, mut look: impl FnMut() -> Option<()>) {
        loop {
            if look().is_some() {
                return;
            }
            let word = self.0.fetch_or(1, Ordering::Relaxed) | 1;
            model_fence();
            if look().is_some() {
                return;
            }
            procession_core::sys::futex::wait(me.scope(), &self.0, word, Deadline::NEVER);
        }
    }
}

fn model_fence() {
    procession_core::sys::atomic::fence(Ordering::SeqCst);
}

#[test]
fn the_short_protocol_holds() {
    explore(Sleeps::Endless, 2, || tokens::<Short<0>>(2, 1, 2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn clearing_the_bit_without_a_new_epoch_loses_a_wake() {
    explore(Sleeps::Endless, 2, || tokens::<Short<1>>(2, 1, 2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn clearing_the_bit_first_loses_a_wake() {
    explore(Sleeps::Endless, 2, || tokens::<Short<2>>(2, 1, 2));
}
