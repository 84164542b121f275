//! f28: gh-131794. A queue costs two descriptors and three semaphores, and one that was closed unused leaks them.

use std::fs::read_dir;

use procession::Queue;
use procession::memory::arena;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Child, Word, sleep_forever};

/// How many there are at a time: more than a process may have open.
const MANY: usize = 5000;

/// Less than what the killed of one round leave.
const SLACK: u64 = 768 * 1024;

/// Makes one, uses it or not, and returns what it keeps.
type Make = fn(used: bool) -> Box<dyn std::any::Any>;

/// Every type that carries objects.
const TYPES: &[(&str, Make)] = &[("Queue", |used| {
    let queue = Queue::<Vec<u8>>::bounded(4).unwrap();
    if used {
        // Short and long ones, some of which stay.
        for bytes in [1, 5000, 1, 5000] {
            queue.put_nowait(&vec![7; bytes]).unwrap();
        }
        assert_eq!(
            (queue.get_nowait().unwrap().len(), queue.get_nowait().unwrap().len()),
            (1, 5000)
        );
        let _clone = queue.clone();
    }
    queue.close();
    Box::new(queue)
})];

fn open() -> usize {
    read_dir("/proc/self/fd").unwrap().count()
}

/// From now on this process opens nothing more.
fn open_nothing_more() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
    assert!(std::fs::File::open("/dev/null").is_err());
}

/// Thousands at a time, in a process that may open nothing.
pub fn f28_none_needed() {
    arena().unwrap();
    let before = open();
    for (what, make) in TYPES {
        Child::start(|| {
            open_nothing_more();
            let all: Vec<_> = (0..MANY).map(|index| make(index % 100 == 0)).collect();
            assert_eq!(all.len(), MANY, "{what}");
        })
        .finish();
        let all: Vec<_> = (0..MANY).map(|index| make(index % 100 == 0)).collect();
        assert_eq!(open(), before, "{MANY} of {what}");
        drop(all);
    }
    assert_eq!(open(), before);
}

/// Thousands one after the other, used and unused, here and in processes that are killed with theirs.
pub fn f28_none_left() {
    let arena = arena().unwrap();
    let before = open();
    for (what, make) in TYPES {
        let round = || {
            for index in 0..MANY / 2 {
                drop(make(index % 10 == 0));
            }
            for _ in 0..4 {
                let made = Word::new();
                let child = Child::start(|| {
                    let all: Vec<_> = (0..50).map(|index| make(index % 2 == 0)).collect();
                    made.set(all.len() as u64);
                    sleep_forever();
                });
                made.wait_for(50);
                child.kill();
            }
            arena.sweep();
            arena.used().unwrap()
        };
        // The first rounds find out how much is used at a time; where it lies is up to chance. What a round left behind for
        // good would be more than that each time.
        let most = (0..2).map(|_| round()).max().unwrap() + SLACK;
        for _ in 0..4 {
            let used = round();
            assert!(used <= most, "{what}: {used} bytes are used, at most {most} should be");
        }
        assert_eq!(open(), before, "{what}");
    }
}
