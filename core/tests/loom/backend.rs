//! The backend itself: what the other models rely on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use loom::thread;
use procession_core::sync::Lock;
use procession_core::sys::atomic::{AtomicU32, Ordering};
use procession_core::sys::model::{self, Sleeps};

use crate::world::{Process, explore};

/// What a model saw in all its executions.
type Seen = Arc<Mutex<BTreeSet<u32>>>;

#[test]
fn a_read_changes_places_with_the_write_behind_another_read() {
    let seen = Seen::default();
    explore(Sleeps::Endless, None, {
        let seen = Arc::clone(&seen);
        move || {
            let word = Arc::new(AtomicU32::new(0));
            let other = thread::spawn({
                let word = Arc::clone(&word);
                move || {
                    word.load(Ordering::Relaxed);
                    word.store(1, Ordering::Relaxed);
                }
            });
            seen.lock().unwrap().insert(word.load(Ordering::Relaxed));
            other.join().unwrap();
        }
    });
    assert_eq!(*seen.lock().unwrap(), BTreeSet::from([0, 1]));
}

#[test]
fn a_store_is_newer_than_the_exchange_before_it() {
    explore(Sleeps::Endless, None, || {
        let word = Arc::new(AtomicU32::new(0));
        let helper = thread::spawn({
            let word = Arc::clone(&word);
            move || word.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        });
        word.store(2, Ordering::Relaxed);
        assert_eq!(word.load(Ordering::Relaxed), 2, "nothing but the exchange of 0 writes 1");
        helper.join().unwrap();
        assert_eq!(word.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn the_dead_release_nothing() {
    explore(Sleeps::Endless, None, || {
        let (lock, process) = (Lock::new(), Process::new());
        for fuel in 0.. {
            let word = AtomicU32::new(0);
            let outcome = model::mortal(fuel, || {
                let _guard = lock.acquire(process.me());
                word.store(7, Ordering::Relaxed);
                word.load(Ordering::Relaxed)
            });
            // One access takes it; between that and the store that gives it back it is held.
            match fuel {
                0 => assert!(outcome.is_none() && !lock.locked()),
                1 => {
                    assert!(outcome.is_none() && lock.locked());
                    assert_eq!(word.load(Ordering::Relaxed), 0);
                    return;
                }
                _ => unreachable!(),
            }
        }
    });
}
