//! What tests/golang.rs asks, but for what it asks of a selection.

use std::fmt::Debug;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use procession::Queue;
use procession::sync::Atomic;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::setting::{Bed, Part, Setting, make};
use crate::support::carrier::{Carrier, No, Wait};
use crate::support::random::Random;
use crate::support::words::Words;
use crate::support::{LONG, Word};

pub fn asynch_fifo(setting: Setting) {
    const COUNT: usize = 10;
    let queue = make(COUNT);
    setting.run([&|| (0..COUNT).for_each(|object| queue.give(&object))]);
    setting.run([&|| (0..COUNT).for_each(|object| assert_eq!(queue.receive(), object))]);
}

pub fn synch_fifo(setting: Setting) {
    const COUNT: usize = 10;
    // A chain: each has its turn, takes the next object, and passes the turn on.
    let objects = make(1);
    let turns: Vec<Queue<()>> = (0..=COUNT).map(|_| make(1)).collect();
    let feed = || {
        turns[0].give(&());
        (0..COUNT).for_each(|object| objects.give(&object));
        turns[COUNT].receive();
    };
    setting.with_crowd(
        COUNT,
        &|number| {
            turns[number].receive();
            assert_eq!(objects.receive(), number);
            turns[number + 1].give(&());
        },
        &[&feed],
    );
}

pub fn goroutines(setting: Setting) {
    let count = setting.rounds(300);
    let queues: Vec<Queue<i32>> = (0..=count).map(|_| make(1)).collect();
    let ends = || {
        queues[count].give(&1);
        assert_eq!(queues[0].receive(), 1);
    };
    setting.with_crowd(
        count,
        &|number| queues[number].give(&queues[number + 1].receive()),
        &[&ends],
    );
}

/// Objects of a type go to somebody who waits, and come from somebody, by calls that never wait.
fn nonblock_for<T>(setting: Setting, there: T, back: T)
where
    T: PartialEq + Debug + Serialize + DeserializeOwned + Sync,
{
    let (queue, strobe, bed) = (make::<T>(1), make(1), Bed::new());
    setting.run([
        &|| {
            assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
            assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
            strobe.give(&());
            bed.wait();
            assert_eq!(queue.offer(&there, Wait::Not), Ok(()));
            // Until the other one has put its own.
            let deadline = Instant::now() + LONG;
            let got = loop {
                match queue.try_receive() {
                    Ok(got) if got == there => queue.give(&got),
                    Ok(got) => break got,
                    Err(error) => assert_eq!(error, No::NotNow),
                }
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            };
            assert_eq!(got, back);
        },
        &|| {
            strobe.receive();
            bed.lie_down();
            while queue.receive() != there {}
            queue.give(&back);
        },
    ]);
}

pub fn nonblock(setting: Setting) {
    nonblock_for(setting, 123i32, 234);
    nonblock_for(setting, 123_456i64, 234_567);
    nonblock_for(setting, true, false);
    nonblock_for(setting, "hello".to_string(), "hello again".to_string());
}

pub fn sieve1(setting: Setting) {
    const PRIMES: [u64; 25] = [
        2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97,
    ];
    // A generator, and a row of filters: the first number that comes to one is a prime, whose multiples it keeps back.
    let stages: Vec<Queue<u64>> = (0..=PRIMES.len()).map(|_| make(1)).collect();
    let primes = make(PRIMES.len());
    let generate = || {
        for number in 2.. {
            // Nobody takes any more.
            if stages[0].offer(&number, Wait::Endless) == Err(No::Closed) {
                return;
            }
        }
    };
    let read = || {
        let mut found: Vec<u64> = (0..PRIMES.len()).map(|_| primes.receive()).collect();
        found.sort_unstable();
        assert_eq!(found, PRIMES);
        stages.iter().for_each(Queue::close);
    };
    setting.with_crowd(
        PRIMES.len(),
        &|number| {
            let Ok(prime) = stages[number].fetch(Wait::Endless) else { panic!("no prime came") };
            primes.give(&prime);
            for candidate in &stages[number] {
                let candidate = candidate.unwrap();
                let next = &stages[number + 1];
                // What comes through the last one nobody wants.
                let wait = if number + 1 < PRIMES.len() { Wait::Endless } else { Wait::Not };
                if candidate % prime != 0 && next.offer(&candidate, wait) == Err(No::Closed) {
                    return;
                }
            }
        },
        &[&generate, &read],
    );
}

pub fn zerosize(setting: Setting) {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct ZeroSize;
    let (queue, arrays) = (make(3), make::<[u8; 0]>(3));
    setting.run([&|| (0..3).for_each(|_| queue.give(&ZeroSize)), &|| {
        (0..3).for_each(|_| arrays.give(&[]));
    }]);
    assert_eq!((queue.qsize(), arrays.qsize()), (3, 3));
    setting.run([&|| (0..3).for_each(|_| assert_eq!(queue.receive(), ZeroSize)), &|| {
        (0..3).for_each(|_| assert_eq!(arrays.receive(), [0; 0]));
    }]);
    assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
}

/// Some of the capacities from 1 to 200.
fn capacities(setting: Setting) -> impl Iterator<Item = usize> {
    (1..200).step_by(if setting == Setting::Threads { 7 } else { 23 })
}

pub fn chan_blocks(setting: Setting) {
    for capacity in capacities(setting) {
        // To get from an empty one blocks, to try does not.
        let queue = make(capacity);
        let beds = [(); 2].map(|()| Bed::new());
        let feed = || {
            beds.iter().for_each(|bed| bed.wait());
            assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
            assert_eq!(queue.fetch(Wait::Not), Err(No::NotNow));
            queue.give(&0);
            queue.give(&0);
        };
        setting.with_crowd(
            2,
            &|number| {
                beds[number].lie_down();
                queue.receive();
            },
            &[&feed],
        );
        // To put into a full one blocks, to try does not.
        let bed = Bed::new();
        (0..capacity).for_each(|_| queue.give(&0));
        setting.run([
            &|| {
                bed.lie_down();
                queue.give(&1);
            },
            &|| {
                bed.wait();
                assert_eq!(queue.offer(&0, Wait::Not), Err(No::NotNow));
                queue.receive();
            },
        ]);
        (1..capacity).for_each(|_| assert_eq!(queue.receive(), 0));
        assert_eq!(queue.receive(), 1);
    }
}

pub fn chan_closed(setting: Setting) {
    for capacity in capacities(setting) {
        // What is in a closed one comes out, and then the news of it.
        let queue = make(capacity);
        (0..capacity).for_each(|object| queue.give(&object));
        queue.close();
        setting.run([&|| {
            (0..capacity).for_each(|object| assert_eq!(queue.receive(), object));
            assert_eq!(queue.fetch(Wait::Endless), Err(No::Closed));
            assert_eq!(queue.fetch(Wait::Not), Err(No::Closed));
        }]);
        // Closing ends a wait.
        let (queue, bed) = (make::<usize>(capacity), Bed::new());
        setting.run([
            &|| {
                bed.lie_down();
                assert_eq!(queue.fetch(Wait::Endless), Err(No::Closed));
            },
            &|| {
                bed.wait();
                queue.close();
            },
        ]);
    }
}

pub fn chan_order(setting: Setting) {
    const COUNT: u64 = 1000;
    for capacity in capacities(setting) {
        let queue = make(capacity);
        setting.run([&|| (0..COUNT).for_each(|object| queue.give(&object)), &|| {
            (0..COUNT).for_each(|object| assert_eq!(queue.receive(), object));
        }]);
    }
}

pub fn nonblock_recv_race(setting: Setting) {
    for _ in 0..setting.rounds(1000) {
        let queue = make(1);
        queue.give(&1);
        // While it is closed, what is there can be got, by one.
        let got = Word::new();
        setting.run([
            &|| match queue.try_receive() {
                Ok(1) => got.count(),
                answer => assert_eq!(answer, Err(No::Closed)),
            },
            &|| {
                queue.close();
                if queue.fetch(Wait::Endless) == Ok(1) {
                    got.count();
                }
            },
        ]);
        assert_eq!(got.get(), 1);
    }
}

pub fn multi_consumer(setting: Setting) {
    const WORKERS: usize = 23;
    const COUNT: usize = 30_000;
    const PRIMES: [u64; 10] = [2, 3, 7, 11, 13, 17, 19, 23, 27, 31];
    let (work, results) = (make(WORKERS * 3), make::<u64>(WORKERS * 3));
    let left = Word::new();
    left.set(WORKERS as u64);
    let feed = || {
        for round in 0..COUNT {
            work.give(&PRIMES[round % PRIMES.len()]);
        }
        work.close();
    };
    let add = || {
        let all: Vec<u64> = results.iter().map(Result::unwrap).collect();
        let each = PRIMES.iter().sum::<u64>();
        assert_eq!((all.len(), all.iter().sum()), (COUNT, each * (COUNT / PRIMES.len()) as u64));
    };
    setting.with_crowd(
        WORKERS,
        &|number| {
            for prime in &work {
                let prime = prime.unwrap();
                if PRIMES[number % PRIMES.len()] == prime {
                    std::thread::yield_now();
                }
                results.give(&prime);
            }
            if left.add(u64::MAX) == 1 {
                results.close();
            }
        },
        &[&feed, &add],
    );
}

pub fn chan(setting: Setting) {
    // Many pairs at the same time, at every capacity; who has nothing to do gives way at random.
    const MESSAGES: u64 = 76;
    const PAIRS: usize = 12;
    for capacity in [1, 10, 100] {
        let queues: Vec<Queue<u64>> = (0..PAIRS).map(|_| make(capacity)).collect();
        let totals = [Word::new(), Word::new()];
        setting.crowd(2 * PAIRS, &|number| {
            let queue = &queues[number / 2];
            let mut random = Random::new(number as u64);
            for message in 0..MESSAGES {
                (0..random.below(10)).for_each(|_| std::thread::yield_now());
                match number % 2 {
                    0 => queue.give(&(100 * number as u64 / 2 + message)),
                    _ => assert_eq!(queue.receive(), 100 * (number as u64 - 1) / 2 + message),
                }
                totals[number % 2].count();
            }
        });
        assert_eq!(totals.map(Word::get), [MESSAGES * PAIRS as u64; 2]);
    }
}

pub fn chan1(setting: Setting) {
    const COUNT: usize = 1000;
    const RECEIVERS: usize = 10;
    // 0, then 1 as it is sent, then 2 as it is received.
    let (queue, seen) = (make::<usize>(2), Words::new(COUNT));
    let send = || {
        for object in 0..COUNT {
            assert_eq!(seen.add(object, 1), 0);
            queue.give(&object);
        }
        queue.close();
    };
    setting.with_crowd(
        RECEIVERS,
        &|_| {
            for object in &queue {
                assert_eq!(seen.add(object.unwrap(), 1), 1);
            }
        },
        &[&send],
    );
    assert!((0..COUNT).all(|object| seen.get(object) == 2));
}

pub fn closedchan(setting: Setting) {
    // All that can be asked of a closed one, again and again, with nothing in it and with something.
    for left in 0..3 {
        let queue = make(3);
        (0..left).for_each(|object| queue.give(&object));
        setting.run([&|| {
            queue.close();
            queue.close();
            assert_eq!((queue.is_closed(), queue.qsize()), (true, left as usize));
            for object in 0..left {
                assert_eq!(queue.offer(&9, Wait::Not), Err(No::Closed));
                assert_eq!(queue.receive(), object);
            }
            for _ in 0..10 {
                assert_eq!(queue.fetch(Wait::Not), Err(No::Closed));
                assert_eq!(queue.fetch(Wait::Endless), Err(No::Closed));
                assert_eq!(queue.offer(&9, Wait::Endless), Err(No::Closed));
            }
            assert!(queue.is_closed() && queue.empty());
        }]);
    }
}

pub fn race_chan(setting: Setting) {
    // What is written before a put is seen after the get, without any other order between the two.
    const ROUNDS: u64 = 20_000;
    let data: [Atomic<u64>; 8] = std::array::from_fn(|_| Atomic::new(0).unwrap());
    let (filled, emptied) = (make(4), make(8));
    (0..8usize).for_each(|at| emptied.give(&at));
    let write: Part<'_> = &|| {
        for round in 1..=ROUNDS {
            let at: usize = emptied.receive();
            data[at].store(round, Relaxed);
            filled.give(&(at, round));
        }
    };
    setting.run([write, &|| {
        for _ in 0..ROUNDS {
            let (at, round) = filled.receive();
            assert_eq!(data[at].load(Relaxed), round);
            emptied.give(&at);
        }
    }]);
}
