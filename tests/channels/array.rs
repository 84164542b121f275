//! What tests/array.rs asks.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use procession::Queue;
use procession::memory::arena;
use serde::{Deserialize, Serialize, Serializer};

use crate::setting::{Bed, Setting, make};
use crate::support::carrier::{Carrier, No, Wait};
use crate::support::random::Random;
use crate::support::words::Words;
use crate::support::{LONG, Word, eventually, quick_at_best};

/// For waits that are in vain.
pub const SHORT: Duration = Duration::from_millis(30);

pub fn smoke(setting: Setting) {
    let queue = make(1);
    setting.run([&|| {
        queue.give(&7);
        assert_eq!(queue.fetch(Wait::Not), Ok(7));
        queue.give(&8);
        assert_eq!(queue.receive(), 8);
        assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
        for wait in [Wait::For(SHORT), Wait::Until(SHORT)] {
            let begin = Instant::now();
            assert_eq!(queue.fetch(wait), Err(No::TimedOut));
            assert!(begin.elapsed() >= SHORT);
        }
    }]);
}

pub fn capacity(setting: Setting) {
    for capacity in (1..10).chain([100, 1000]) {
        let queue = make::<()>(capacity);
        // As many as it says, and not one more.
        setting.run([&|| {
            assert_eq!(queue.capacity(), capacity);
            for _ in 0..capacity {
                queue.offer(&(), Wait::Not).unwrap();
            }
            assert_eq!(queue.offer(&(), Wait::Not), Err(No::NotNow));
        }]);
    }
    // Where sender and receiver would have to meet.
    assert!(Queue::<()>::bounded(0).is_err());
}

pub fn len_empty_full(setting: Setting) {
    let queue = make(2);
    let expect = |size| {
        let all = || (queue.qsize(), queue.empty(), queue.full());
        assert_eq!(all(), (size, size == 0, size == 2));
        setting.run([&|| assert_eq!(all(), (size, size == 0, size == 2))]);
    };
    expect(0);
    queue.give(&());
    expect(1);
    queue.give(&());
    expect(2);
    queue.receive();
    expect(1);
    setting.run([&|| queue.receive()]);
    expect(0);
}

pub fn try_recv(setting: Setting) {
    let (queue, turn) = (make(100), Word::new());
    setting.run([
        &|| {
            assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
            turn.set(1);
            turn.wait_for(2);
            assert_eq!(queue.fetch(Wait::Not), Ok(7));
            assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
            turn.set(3);
            turn.wait_for(4);
            assert_eq!(queue.fetch(Wait::Not), Err(No::Closed));
        },
        &|| {
            turn.wait_for(1);
            queue.give(&7);
            turn.set(2);
            turn.wait_for(3);
            queue.close();
            turn.set(4);
        },
    ]);
}

pub fn recv(setting: Setting) {
    let (queue, bed) = (make(100), Bed::new());
    setting.run([
        &|| {
            bed.lie_down();
            assert_eq!(queue.receive(), 7);
            assert_eq!(queue.receive(), 8);
            assert_eq!(queue.receive(), 9);
            assert_eq!(queue.fetch(Wait::Endless), Err(No::Closed));
        },
        &|| {
            bed.wait();
            for object in [7, 8, 9] {
                queue.give(&object);
            }
            queue.close();
        },
    ]);
}

pub fn recv_timeout(setting: Setting) {
    for long in [Wait::For(LONG), Wait::Until(LONG)] {
        let (queue, bed, turn) = (make::<i32>(100), Bed::new(), Word::new());
        setting.run([
            &|| {
                assert_eq!(queue.fetch(Wait::For(SHORT)), Err(No::TimedOut));
                turn.set(1);
                bed.lie_down();
                assert_eq!(queue.fetch(long), Ok(7));
                turn.set(2);
                assert_eq!(queue.fetch(long), Err(No::Closed));
            },
            &|| {
                turn.wait_for(1);
                bed.wait();
                queue.give(&7);
                turn.wait_for(2);
                bed.wait();
                queue.close();
            },
        ]);
    }
}

pub fn try_send(setting: Setting) {
    let (queue, bed, turn) = (make(1), Bed::new(), Word::new());
    setting.run([
        &|| {
            assert_eq!(queue.offer(&1, Wait::Not), Ok(()));
            assert_eq!(queue.offer(&2, Wait::Not), Err(No::NotNow));
            turn.set(1);
            turn.wait_for(2);
            bed.wait();
            assert_eq!(queue.offer(&3, Wait::Not), Ok(()));
            turn.wait_for(3);
            assert_eq!(queue.offer(&4, Wait::Not), Err(No::Closed));
        },
        &|| {
            turn.wait_for(1);
            assert_eq!(queue.fetch(Wait::Not), Ok(1));
            assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
            turn.set(2);
            bed.lie_down();
            assert_eq!(queue.receive(), 3);
            queue.close();
            turn.set(3);
        },
    ]);
}

pub fn send(setting: Setting) {
    let (queue, bed) = (make(1), Bed::new());
    setting.run([
        &|| {
            queue.give(&7);
            bed.lie_down();
            for object in [8, 9, 10] {
                queue.give(&object);
            }
        },
        &|| {
            bed.wait();
            for object in [7, 8, 9] {
                assert_eq!(queue.receive(), object);
            }
        },
    ]);
    assert_eq!((queue.receive(), queue.qsize()), (10, 0));
}

pub fn send_timeout(setting: Setting) {
    for long in [Wait::For(LONG), Wait::Until(LONG)] {
        let (queue, bed, turn) = (make(2), Bed::new(), Word::new());
        setting.run([
            &|| {
                assert_eq!(queue.offer(&1, long), Ok(()));
                assert_eq!(queue.offer(&2, long), Ok(()));
                let begin = Instant::now();
                assert_eq!(queue.offer(&3, Wait::For(SHORT)), Err(No::TimedOut));
                assert!(begin.elapsed() >= SHORT);
                turn.set(1);
                bed.lie_down();
                assert_eq!(queue.offer(&4, long), Ok(()));
                turn.wait_for(2);
                assert_eq!(queue.offer(&5, long), Err(No::Closed));
                assert_eq!(queue.offer(&5, Wait::Endless), Err(No::Closed));
            },
            &|| {
                turn.wait_for(1);
                bed.wait();
                for object in [1, 2, 4] {
                    assert_eq!(queue.receive(), object);
                }
                queue.close();
                turn.set(2);
            },
        ]);
    }
}

pub fn send_timeout_nonfull_expired(setting: Setting) {
    let expired = [Wait::For(Duration::ZERO), Wait::Until(Duration::ZERO)];
    for wait in expired {
        let queue = make(1);
        setting.run([&|| {
            // Time that is up is no reason to refuse what can be done at once.
            assert_eq!(queue.offer(&1, wait), Ok(()));
            let refused = queue.offer(&2, wait);
            assert!(matches!(refused, Err(No::NotNow | No::TimedOut)), "{refused:?}");
            assert_eq!(queue.fetch(wait), Ok(1));
            let refused = queue.fetch(wait);
            assert!(matches!(refused, Err(No::NotNow | No::TimedOut)), "{refused:?}");
        }]);
    }
}

pub fn send_after_disconnect(setting: Setting) {
    let queue = make(100);
    for object in 1..=3 {
        queue.give(&object);
    }
    setting.run([&|| queue.close()]);
    setting.run([&|| {
        for wait in [Wait::Endless, Wait::Not, Wait::For(LONG), Wait::Until(LONG)] {
            assert_eq!(queue.offer(&4, wait), Err(No::Closed));
        }
    }]);
    assert_eq!(queue.qsize(), 3);
    assert!(queue.is_closed());
}

pub fn recv_after_disconnect(setting: Setting) {
    let queue = make(100);
    for object in 1..=4 {
        queue.give(&object);
    }
    setting.run([&|| queue.close()]);
    setting.run([&|| {
        for (object, wait) in
            (1..).zip([Wait::Endless, Wait::Not, Wait::For(LONG), Wait::Until(LONG)])
        {
            assert_eq!(queue.fetch(wait), Ok(object));
        }
        for wait in [Wait::Endless, Wait::Not, Wait::For(LONG), Wait::Until(LONG)] {
            assert_eq!(queue.fetch(wait), Err(No::Closed));
        }
    }]);
}

pub fn len(setting: Setting) {
    const CAPACITY: usize = 1000;
    const COUNT: usize = 25_000;
    let queue = make(CAPACITY);
    for _ in 0..CAPACITY / 10 {
        for object in 0..50 {
            queue.give(&object);
            assert_eq!(queue.qsize(), object + 1);
        }
        for object in 0..50 {
            queue.receive();
            assert_eq!(queue.qsize(), 50 - object - 1);
        }
    }
    for object in 0..CAPACITY {
        queue.give(&object);
        assert_eq!(queue.qsize(), object + 1);
    }
    for _ in 0..CAPACITY {
        queue.receive();
    }
    assert_eq!(queue.qsize(), 0);
    setting.run([
        &|| {
            for object in 0..COUNT {
                assert_eq!(queue.receive(), object);
                assert!(queue.qsize() <= CAPACITY);
            }
        },
        &|| {
            for object in 0..COUNT {
                queue.give(&object);
                assert!(queue.qsize() <= CAPACITY);
            }
        },
    ]);
    assert_eq!((queue.qsize(), queue.empty()), (0, true));
}

pub fn disconnect_wakes_sender(setting: Setting) {
    for wait in [Wait::Endless, Wait::For(LONG)] {
        let (queue, bed) = (make(1), Bed::new());
        setting.run([
            &|| {
                assert_eq!(queue.offer(&(), wait), Ok(()));
                bed.lie_down();
                assert_eq!(queue.offer(&(), wait), Err(No::Closed));
            },
            &|| {
                bed.wait();
                queue.close();
            },
        ]);
    }
}

pub fn disconnect_wakes_receiver(setting: Setting) {
    for wait in [Wait::Endless, Wait::For(LONG)] {
        let (queue, bed) = (make::<()>(1), Bed::new());
        setting.run([
            &|| {
                bed.lie_down();
                assert_eq!(queue.fetch(wait), Err(No::Closed));
            },
            &|| {
                bed.wait();
                queue.close();
            },
        ]);
    }
}

/// `ends` ends the wait of somebody who has slept for a while. It shall not sleep out its time beside that.
fn at_once<T>(
    setting: Setting,
    queue: &dyn Fn() -> Queue<T>,
    wait: &(dyn Fn(&Queue<T>) + Sync),
    ends: &(dyn Fn(&Queue<T>) + Sync),
) {
    let measure = |round: u64| {
        let (queue, bed, done) = (queue(), Bed::new(), Word::new());
        let start = Instant::now();
        let now = || start.elapsed().as_nanos() as u64;
        let ended = Word::new();
        setting.run([
            &|| {
                bed.lie_down();
                wait(&queue);
                done.set(now());
            },
            &|| {
                bed.wait();
                // It looks again less and less often.
                std::thread::sleep(Duration::from_millis(10 * (round % 3)));
                ended.set(now());
                ends(&queue);
            },
        ]);
        Duration::from_nanos(done.get() - ended.get())
    };
    quick_at_best(Duration::from_millis(3), || {
        let mut times: Vec<_> = (0..11).map(measure).collect();
        times.sort_unstable();
        times[times.len() / 2]
    });
}

pub fn disconnect_is_heard_at_once(setting: Setting) {
    let closed = |answer: Result<(), No>| assert_eq!(answer, Err(No::Closed));
    for capacity in [1, 100] {
        let full = || {
            let queue = make(capacity);
            (0..capacity).for_each(|_| queue.give(&()));
            queue
        };
        let close = |queue: &Queue<()>| queue.close();
        at_once(setting, &|| make(capacity), &|queue| closed(queue.fetch(Wait::Endless)), &close);
        at_once(setting, &full, &|queue| closed(queue.offer(&(), Wait::Endless)), &close);
    }
}

pub fn room_and_objects_are_heard_of_at_once(setting: Setting) {
    for capacity in [1, 10, 100] {
        let full = || {
            let queue = make(capacity);
            (0..capacity).for_each(|_| queue.give(&()));
            queue
        };
        at_once(setting, &full, &|queue| queue.give(&()), &|queue| queue.receive());
        let empty = || make(capacity);
        at_once(setting, &empty, &|queue| queue.receive(), &|queue| queue.give(&()));
    }
}

pub fn spsc(setting: Setting) {
    const COUNT: u64 = 100_000;
    let queue = make(3);
    setting.run([
        &|| {
            for object in 0..COUNT {
                assert_eq!(queue.receive(), object);
            }
            assert_eq!(queue.fetch(Wait::Endless), Err(No::Closed));
        },
        &|| {
            for object in 0..COUNT {
                queue.give(&object);
            }
            queue.close();
        },
    ]);
}

pub fn mpmc(setting: Setting) {
    const COUNT: usize = 10_000;
    const PARTIES: usize = 4;
    let (queue, got) = (make(3), Words::new(COUNT));
    setting.crowd(2 * PARTIES, &|number| {
        for object in 0..COUNT {
            match number % 2 {
                0 => queue.give(&object),
                _ => {
                    got.add(queue.receive(), 1);
                }
            }
        }
    });
    assert!((0..COUNT).all(|object| got.get(object) == PARTIES as u64));
}

pub fn stress_oneshot(setting: Setting) {
    for round in 0..setting.rounds(3000) {
        let queue = make(1);
        setting.run([&|| assert_eq!(queue.receive(), round), &|| queue.give(&round)]);
    }
}

/// Gets what is there, one after the other.
fn at_hand<T, Q: Carrier<T>>(queue: &Q) -> impl Iterator<Item = T> {
    std::iter::from_fn(|| queue.try_receive().ok())
}

pub fn stress_iter(setting: Setting) {
    const COUNT: u64 = 10_000;
    let (requests, responses) = (make(1), make::<u64>(1));
    setting.run([
        &|| {
            let mut count = 0;
            loop {
                count += at_hand(&responses).sum::<u64>();
                if count >= COUNT {
                    break;
                }
                requests.give(&());
            }
            requests.close();
            responses.close();
        },
        &|| {
            for request in &requests {
                request.unwrap();
                if responses.offer(&1, Wait::Endless).is_err() {
                    break;
                }
            }
        },
    ]);
}

pub fn stress_timeout_two_threads(setting: Setting) {
    const COUNT: u64 = 100;
    let (queue, moment) = (make(2), Duration::from_millis(1));
    let late = |round| {
        // Later than the other one's patience lasts.
        if round % 2 == 0 {
            std::thread::sleep(5 * moment);
        }
    };
    setting.run([
        &|| {
            for object in 0..COUNT {
                late(object);
                while queue.offer(&object, Wait::For(moment)) != Ok(()) {}
            }
        },
        &|| {
            for object in 0..COUNT {
                late(object);
                let got = loop {
                    if let Ok(got) = queue.fetch(Wait::For(moment)) {
                        break got;
                    }
                };
                assert_eq!(got, object);
            }
        },
    ]);
}

pub fn drops(setting: Setting) {
    // Where objects are counted there, it is what holds their bytes here.
    let blocks = || {
        arena().unwrap().sweep();
        let usage = arena().unwrap().region().usage();
        (usage.queued, usage.owned)
    };
    let mut random = Random::new(1);
    drop(make::<()>(1));
    let before = blocks();
    for _ in 0..setting.rounds(50) {
        let (steps, more) = (random.below(1000), random.below(50));
        let queue = make::<Vec<u8>>(50);
        let with_queue = blocks();
        let object = vec![7; 300];
        setting.run([&|| (0..steps).for_each(|_| assert_eq!(queue.receive(), object)), &|| {
            (0..steps).for_each(|_| queue.give(&object));
        }]);
        assert_eq!(blocks(), with_queue, "what was got takes no room any more");
        (0..more).for_each(|_| queue.give(&object));
        assert_eq!(blocks(), (with_queue.0 + more, with_queue.1));
        drop(queue);
        assert_eq!(blocks(), before, "what was left in a queue goes with it");
    }
}

pub fn linearizable(setting: Setting) {
    const PARTIES: usize = 4;
    let queue = make(PARTIES);
    // Each puts one and takes one: there is always one to take.
    setting.crowd(PARTIES, &|_| {
        for _ in 0..10_000 {
            queue.give(&0);
            assert_eq!(queue.try_receive(), Ok(0));
        }
    });
}

/// An object that, while it is encoded, gets the one before it out of the same queue.
#[derive(Debug, PartialEq, Deserialize)]
struct Successor(u64);

static SUCCESSION: OnceLock<Queue<Successor>> = OnceLock::new();

impl Serialize for Successor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(queue) = SUCCESSION.get()
            && self.0 > 0
        {
            assert_eq!(queue.fetch(Wait::Not), Ok(Successor(self.0 - 1)));
        }
        self.0.serialize(serializer)
    }
}

pub fn recv_in_send(setting: Setting) {
    let queue = SUCCESSION.get_or_init(|| make(1));
    setting.run([&|| {
        for number in 0..100 {
            // There is room for it only because of that.
            assert_eq!(queue.offer(&Successor(number), Wait::Not), Ok(()));
        }
        assert_eq!(queue.receive(), Successor(99));
    }]);
}

/// A queue that a queue brings.
#[derive(Debug, Serialize, Deserialize)]
struct Link(Queue<Link>);

pub fn channel_through_channel(setting: Setting) {
    const COUNT: usize = 1000;
    let first = make::<Link>(1);
    let last = make::<Queue<Link>>(2);
    setting.run([
        &|| {
            let mut queue = first.clone();
            for _ in 0..COUNT {
                let next = make(1);
                queue.give(&Link(next.clone()));
                queue = next;
            }
            last.give(&queue);
        },
        &|| {
            let mut queue = first.clone();
            for _ in 0..COUNT {
                queue = queue.receive().0;
            }
            last.give(&queue);
        },
    ]);
    // Both have come to the same one.
    let [one, other] = [(); 2].map(|()| last.receive());
    one.give(&Link(first));
    other.receive();
    assert!(one.empty());
}

/// An object that panics when it is decoded, and one that panics when it is encoded.
#[derive(Debug, PartialEq)]
struct Bomb {
    early: bool,
}

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.early {
            std::panic::resume_unwind(Box::new("while it is encoded"));
        }
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        std::panic::resume_unwind(Box::new("while it is decoded"));
    }
}

pub fn panic_on_drop(setting: Setting) {
    // What lies in a queue is bytes, and nothing runs when they are dropped; but somebody's code runs before and after.
    let queue = make(2);
    setting.run([&|| {
        let panics = |call: &dyn Fn()| {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
            assert!(caught.is_err());
        };
        panics(&|| queue.give(&Bomb { early: true }));
        assert_eq!(queue.qsize(), 0, "nothing was put");
        queue.give(&Bomb { early: false });
        queue.give(&Bomb { early: false });
        panics(&|| drop(queue.fetch(Wait::Not)));
        assert_eq!(queue.qsize(), 1, "one was got");
    }]);
    // The other one goes with the queue.
    drop(queue);
    eventually("no block is left", || arena().unwrap().region().usage().queued == 0);
}
