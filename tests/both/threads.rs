//! What threads have beyond processes, and both together.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use procession::process::StartMethod;
use procession::thread::{self, Thread};
use procession::wait::{wait_any_timeout, wait_timeout};
use procession::{process, sync};

const LONG: Duration = Duration::from_secs(60);

/// Neither serde nor `Clone`.
#[derive(Debug, PartialEq)]
struct Plain(String);

#[test]
fn nothing_has_to_be_encoded() {
    let queue = thread::Queue::bounded(1).unwrap();
    queue.give(Plain("one".into())).unwrap();
    let back = queue.give_until(Plain("two".into()), sync::Deadline::NOW).unwrap_err();
    assert_eq!(back.object, Plain("two".into()));
    assert_eq!(queue.get().unwrap(), Plain("one".into()));
    let captured = "captured".to_string();
    let child = Thread::new(move |plain: Plain| Plain(captured + &plain.0), (Plain("!".into()),));
    let child = child.daemon(true).start().unwrap();
    assert_eq!(child.join_timeout(LONG).unwrap(), Plain("captured!".into()));
    assert!(child.join().is_err(), "the result is taken");
    let words = thread::Mutex::new(vec![Plain("a".into())]).unwrap();
    words.lock().unwrap().push(Plain("b".into()));
    assert_eq!(words.lock().unwrap().len(), 2);
}

struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Each object is dropped once: got, thrown away, lost, left, or under a lock.
#[test]
fn nothing_is_dropped_twice_or_never() {
    let drops = Arc::new(AtomicU32::new(0));
    let new = || Counted(Arc::clone(&drops));
    let queue = thread::JoinableQueue::unbounded().unwrap();
    for _ in 0..6 {
        queue.give(new()).unwrap();
    }
    drop(queue.get().unwrap());
    drop(queue.take().unwrap());
    drop(queue.take().unwrap().done());
    assert_eq!(drops.load(Ordering::Relaxed), 3);
    queue.shutdown(true);
    assert_eq!(drops.load(Ordering::Relaxed), 6);
    assert!(queue.give(new()).is_err());
    assert_eq!(drops.load(Ordering::Relaxed), 7);
    let (sender, receiver) = thread::pipe().unwrap();
    sender.give(new()).unwrap();
    drop(receiver);
    assert_eq!(drops.load(Ordering::Relaxed), 8);
    let data = thread::RwData::new(new()).unwrap();
    let other = data.clone();
    drop(data);
    assert_eq!(drops.load(Ordering::Relaxed), 8);
    drop(other);
    assert_eq!(drops.load(Ordering::Relaxed), 9);
}

/// One waits for what threads share and for what processes share, in one call.
#[test]
fn both_kinds_are_waited_for_together() {
    let (mine, ours) = (thread::Event::new().unwrap(), sync::Event::new().unwrap());
    for (set, found) in [(0, 0), (1, 1)] {
        assert_eq!(wait_any_timeout(&[&mine, &ours], Duration::ZERO), None);
        let (first, second) = (mine.clone(), ours.clone());
        let setter = Thread::new(move || if set == 0 { first.set() } else { second.set() }, ());
        let setter = setter.daemon(true).start().unwrap();
        assert_eq!(wait_any_timeout(&[&mine, &ours], LONG), Some(found));
        setter.join_timeout(LONG).unwrap();
        mine.clear();
        ours.clear();
    }
    // A lock that another holds is not ready, whichever of them is asked first.
    let (private, shared) = (thread::Lock::new().unwrap(), sync::Lock::new().unwrap());
    let _held = (private.acquire().unwrap(), shared.acquire().unwrap());
    let soon = Duration::from_millis(20);
    assert!(wait_timeout(&[&private, &shared], soon).is_empty());
    assert!(wait_timeout(&[&shared, &private], soon).is_empty());
    // With a descriptor among them.
    let (reader, _writer) = std::io::pipe().unwrap();
    assert!(wait_timeout(&[&private, &reader, &shared], soon).is_empty());
    mine.set();
    assert_eq!(wait_timeout(&[&private, &reader, &mine], LONG), [2]);
}

fn hold(lock: sync::Lock) {
    drop(lock);
}

#[test]
fn what_threads_share_does_not_travel() {
    let lock = thread::Lock::new().unwrap();
    // Only on purpose can it be tried: the types of threads are no serde values.
    let error = process::Process::new(hold, ((*lock).clone(),)).start().unwrap_err().to_string();
    assert!(error.contains("cannot be encoded"), "{error}");
}

fn leave_a_thread(done: sync::Event, go: sync::Event) {
    let work = move || {
        go.wait();
        done.set();
    };
    Thread::new(work, ()).start().unwrap();
    Thread::new(std::thread::park, ()).daemon(true).start().unwrap();
    Thread::new(std::thread::park, ()).start().unwrap().detach();
}

#[test]
fn the_end_of_a_process_waits_for_its_threads() {
    let (done, go) = (sync::Event::new().unwrap(), sync::Event::new().unwrap());
    let child = process::Process::new(leave_a_thread, (done.clone(), go.clone()))
        .method(StartMethod::Zygote)
        .daemon(true)
        .start()
        .unwrap();
    assert!(child.join_timeout(Duration::from_millis(50)).is_err());
    go.set();
    child.join_timeout(LONG).unwrap();
    assert!(done.is_set());
}

fn use_a_copy(lock: sync::Event) {
    // The memory of threads is this process's own, whatever its parent did with its.
    let guard = thread::Lock::new().unwrap();
    assert!(guard.try_acquire().is_ok());
    assert!(thread::active_children().is_empty());
    lock.set();
}

#[test]
fn a_child_has_threads_of_its_own() {
    alone!(a_child_has_threads_of_its_own);
    let (mine, seen) = (thread::Lock::new().unwrap(), sync::Event::new().unwrap());
    let _held = mine.acquire().unwrap();
    let child = process::Process::new(use_a_copy, (seen.clone(),)).daemon(true).start().unwrap();
    child.join_timeout(LONG).unwrap();
    assert!(seen.is_set());
}

#[test]
fn producers_and_consumers_lose_nothing() {
    const EACH: u64 = 20_000;
    let queue = thread::Queue::bounded(8).unwrap();
    let producers = [0, 1, 2].map(|number| {
        let queue = queue.clone();
        let produce =
            move || (0..EACH).try_for_each(|n| queue.put_timeout(&(number * EACH + n), LONG));
        Thread::new(produce, ()).daemon(true).start().unwrap()
    });
    let consumers = [0, 1].map(|_| {
        let queue = queue.clone();
        let consume =
            move || queue.iter().map(Result::unwrap).fold((0, 0), |(n, sum), x| (n + 1, sum + x));
        Thread::new(consume, ()).daemon(true).start().unwrap()
    });
    for producer in producers {
        producer.join_timeout(LONG).unwrap().unwrap();
    }
    queue.close();
    let got = consumers.map(|consumer| consumer.join_timeout(LONG).unwrap());
    let all = 3 * EACH;
    assert_eq!(got[0].0 + got[1].0, all);
    assert_eq!(got[0].1 + got[1].1, all * (all - 1) / 2);
}

/// What this process holds in memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn make_and_drop() {
    const LARGE: usize = 1 << 20;
    let mut first = None;
    for _ in 0..10 {
        let array = thread::Array::<f64>::new(LARGE).unwrap();
        assert!(array.iter().step_by(511).all(|number| number == 0.0), "it begins anew");
        array.fill(1.5);
        let locks: Vec<_> = (0..10_000).map(|_| thread::Lock::new().unwrap()).collect();
        let before = resident();
        drop((array, locks));
        let after = resident();
        assert!(after + 4 * (LARGE as u64) < before, "{before} bytes became {after}");
        let first = *first.get_or_insert(after);
        assert!(after < first + 4 * (LARGE as u64), "{first} bytes became {after}");
    }
}

#[test]
fn what_nobody_uses_any_more_is_given_back() {
    // In a process of its own: others would make and drop meanwhile.
    let child = process::Process::new(make_and_drop, ())
        .method(StartMethod::Zygote)
        .daemon(true)
        .start()
        .unwrap();
    child.join_timeout(LONG).unwrap();
}

static HELD: OnceLock<thread::Mutex<String>> = OnceLock::new();

fn find_it_held() -> bool {
    let held = HELD.get().unwrap();
    matches!(held.lock(), Err(sync::AcquireError::OwnerDied(died)) if **died.guard() == "half")
}

fn fork_with_a_lock() -> bool {
    let held = HELD.get_or_init(|| thread::Mutex::new(String::new()).unwrap());
    let mut guard = held.lock().unwrap();
    guard.push_str("half");
    let child = process::Process::new(find_it_held, ()).method(StartMethod::Fork).start().unwrap();
    let told = child.join_timeout(LONG).unwrap();
    guard.push_str(" and half");
    drop(guard);
    told && *held.lock().unwrap() == "half and half"
}

/// A forked process has a copy of what its parent's threads share, and none of the threads: what they held, nobody holds.
#[test]
fn a_fork_is_told_what_was_held() {
    let child =
        process::Process::new(fork_with_a_lock, ()).method(StartMethod::Zygote).start().unwrap();
    let told = child.join_timeout(LONG);
    let _ = child.kill();
    assert_eq!(told, Ok(true));
}
