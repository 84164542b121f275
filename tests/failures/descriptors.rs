//! f28: gh-131794. A queue costs two descriptors and three semaphores, and one that was closed unused leaks them.

use std::fs::read_dir;

use procession::channel::{
    Broadcast, BufferQueue, JoinableQueue, LifoQueue, PodQueue, PriorityQueue, Queue, SimpleQueue,
    pipe,
};
use procession::memory::arena;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Child, Word, sleep_forever};

/// How many there are at a time: more than most processes may have open.
const MANY: usize = 2000;

/// Less than what the killed of one round leave.
const SLACK: u64 = 768 * 1024;

/// Makes one, uses it or not, and returns what it keeps.
type Make = fn(used: bool) -> Box<dyn std::any::Any>;

/// Short and long objects.
const BYTES: [usize; 4] = [1, 5000, 1, 5000];

/// A queue of bytes, used if it is to be, and closed.
macro_rules! queue {
    ($make:expr, $used:ident $(, $key:literal)?) => {{
        let queue = $make.unwrap();
        if $used {
            for bytes in BYTES {
                queue.put($($key,)? &vec![7u8; bytes]).unwrap();
            }
            // Two stay.
            queue.get().unwrap();
            queue.get().unwrap();
            let _clone = queue.clone();
        }
        queue.close();
        Box::new(queue)
    }};
}

/// Every type that carries objects.
const TYPES: &[(&str, Make)] = &[
    ("Queue", |used| queue!(Queue::bounded(4), used)),
    ("JoinableQueue", |used| queue!(JoinableQueue::bounded(4), used)),
    ("PriorityQueue", |used| queue!(PriorityQueue::unbounded(), used, 1)),
    ("LifoQueue", |used| queue!(LifoQueue::bounded(4), used)),
    ("SimpleQueue", |used| queue!(SimpleQueue::new(), used)),
    ("PodQueue", |used| {
        let queue = PodQueue::<[u64; 9]>::bounded(4).unwrap();
        if used {
            (0..4).for_each(|number| queue.put([number; 9]).unwrap());
            queue.get().unwrap();
        }
        queue.close();
        Box::new(queue)
    }),
    ("BufferQueue", |used| {
        let queue = BufferQueue::bounded(4).unwrap();
        if used {
            for bytes in BYTES {
                queue.put(queue.reserve(bytes).unwrap()).unwrap();
            }
            drop((queue.get().unwrap(), queue.get().unwrap()));
        }
        queue.close();
        Box::new(queue)
    }),
    ("Broadcast", |used| {
        let news = Broadcast::blocking(4).unwrap();
        if used {
            let (publisher, subscriber) = (news.publisher().unwrap(), news.subscribe().unwrap());
            for bytes in BYTES {
                publisher.publish(&vec![7u8; bytes]).unwrap();
            }
            subscriber.recv().unwrap();
            publisher.close();
        }
        Box::new(news)
    }),
    ("pipe", |used| {
        let (sender, receiver) = pipe().unwrap();
        if used {
            for bytes in BYTES {
                sender.send(&vec![7u8; bytes]).unwrap();
            }
            receiver.recv().unwrap();
            receiver.recv().unwrap();
        }
        sender.close();
        Box::new((sender, receiver))
    }),
];

fn open() -> usize {
    read_dir("/proc/self/fd").unwrap().count()
}

/// From now on this process opens nothing more.
fn open_nothing_more() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
    assert!(std::fs::File::open("/dev/null").is_err());
}

/// Thousands of each at a time, in a process that may open nothing.
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

/// Thousands of each one after the other, used and unused, here and in processes that are killed with theirs.
pub fn f28_none_left() {
    let arena = arena().unwrap();
    let before = open();
    for (what, make) in TYPES {
        let round = || {
            for index in 0..MANY {
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
        for _ in 0..3 {
            let used = round();
            assert!(used <= most, "{what}: {used} bytes are used, at most {most} should be");
        }
        assert_eq!(open(), before, "{what}");
    }
}
