//! A stream of small messages through one queue, while every 100 ms one of those who put or get is killed: a billion of them
//! with `SOAK=full`, else as many as there is time for.
//!
//! Each message is a number that is put once. Who puts takes the numbers chunk by chunk, and writes down how far it has begun
//! and how far it was told that they are there; who gets marks each number in a map of its own. So in the end it is known of each
//! number whether it had to arrive, or could, or could not, and how often it did.

use std::time::{Duration, Instant};

use procession::GetError;
use procession::channel::PodQueue;
use procession::memory::arena;

use crate::support::random::Random;
use crate::support::words::Words;
use crate::support::{Child, Word, eventually};

const PUTTERS: usize = 2;
const GETTERS: usize = 2;
/// Numbers that one takes at a time.
const CHUNK: u64 = 4096;
/// Numbers that are put or got by one call.
const BATCH: usize = 64;
const KILLS_EVERY: Duration = Duration::from_millis(100);
/// Who gets nothing done for so long waits for the dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the stream, outside of all that is tested.
struct Stream {
    queue: PodQueue<u64>,
    /// The first number that nobody has taken, and the end of all.
    next: Word,
    end: u64,
    /// Of each chunk: how many of its numbers were begun to be put, and were put for certain.
    begun: Words,
    put: Words,
    /// Of each getter's place: a bit for each number.
    got: [Words; GETTERS],
    stop: Word,
}

impl Stream {
    fn new(end: u64) -> Stream {
        let chunks = end.div_ceil(CHUNK) as usize;
        Stream {
            queue: PodQueue::bounded(4096).unwrap(),
            next: Word::new(),
            end,
            begun: Words::new(chunks),
            put: Words::new(chunks),
            got: std::array::from_fn(|_| Words::new(chunks * CHUNK as usize / 64)),
            stop: Word::new(),
        }
    }

    fn putter(&self) -> Child {
        Child::start(|| {
            let _ = rustix::process::setpriority_process(None, 0);
            while self.stop.get() == 0 {
                let first = self.next.add(CHUNK);
                if first >= self.end {
                    return;
                }
                let chunk = (first / CHUNK) as usize;
                for at in (0..CHUNK).step_by(BATCH) {
                    self.begun.set(chunk, at + BATCH as u64);
                    let batch: [u64; BATCH] =
                        std::array::from_fn(|index| first + at + index as u64);
                    assert_eq!(self.queue.put_many(&batch).unwrap(), BATCH);
                    self.put.set(chunk, at + BATCH as u64);
                }
            }
        })
    }

    fn getter(&self, place: usize) -> Child {
        Child::start(move || {
            let _ = rustix::process::setpriority_process(None, 0);
            let mut room = [0; BATCH];
            loop {
                let numbers = match self.queue.get_many_into(&mut room) {
                    Err(GetError::Closed) => return,
                    numbers => numbers.unwrap(),
                };
                let map = self.got[place];
                for number in &room[..numbers] {
                    let (at, bit) = ((number / 64) as usize, 1 << (number % 64));
                    let before = map.get_relaxed(at);
                    assert_eq!(before & bit, 0, "{number} came twice to the same one");
                    // Nobody else writes to this map.
                    map.set_relaxed(at, before | bit);
                }
            }
        })
    }

    /// How many numbers were begun.
    fn progress(&self) -> u64 {
        self.next.get().min(self.end)
    }

    /// Every number accounted for. How many were got, and lost.
    fn audit(&self, kills: u64) -> (u64, u64) {
        let (mut got, mut lost) = (0, 0);
        for chunk in 0..self.progress().div_ceil(CHUNK) {
            let (begun, put) = (self.begun.get(chunk as usize), self.put.get(chunk as usize));
            for within in (0..CHUNK).step_by(64) {
                let first = chunk * CHUNK + within;
                let mut all = 0;
                for map in &self.got {
                    let some = map.get_relaxed(first as usize / 64);
                    assert_eq!(all & some, 0, "of the 64 from {first} on some were got twice");
                    all |= some;
                }
                let stray = all & !up_to(begun.saturating_sub(within));
                assert_eq!(stray, 0, "of the 64 from {first} on some were got, and never put");
                got += u64::from(all.count_ones());
                let missing = up_to(put.saturating_sub(within)) & !all;
                lost += u64::from(missing.count_ones());
            }
        }
        assert!(lost <= kills * BATCH as u64, "{lost} lost by {kills} deaths of those who get");
        let told = self.queue.lost();
        assert!(told <= lost, "{told} are said to be lost, {lost} are");
        (got, lost)
    }
}

/// A word with the first `count` bits set.
fn up_to(count: u64) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

pub fn soak() {
    let (end, limit) = match std::env::var("SOAK").as_deref() {
        // And some that those who are killed do not get to.
        Ok("full") => (1_001_000_000, Duration::from_secs(1200)),
        _ => (200_000_000, Duration::from_secs(5)),
    };
    let _ = rustix::process::setpriority_process(None, -15);
    let stream = Stream::new(end);
    let mut random = Random::new(procession_core::sys::nanos());
    let mut putters: [Child; PUTTERS] = std::array::from_fn(|_| stream.putter());
    let mut getters: [Child; GETTERS] = std::array::from_fn(|place| stream.getter(place));
    let begin = Instant::now();
    let mut kills = [0, 0];
    // Of memory: after a while, and the most since.
    let (mut steady, mut most) = (None, 0);
    let mut progress = (0, Instant::now());
    while begin.elapsed() < limit && stream.progress() < stream.end {
        std::thread::sleep(KILLS_EVERY);
        let now = stream.progress();
        if now != progress.0 {
            progress = (now, Instant::now());
        }
        assert!(progress.1.elapsed() < PATIENCE, "everybody is stuck at {now}");
        let at = random.below((PUTTERS + GETTERS) as u64) as usize;
        if at < PUTTERS {
            putters[at].kill();
            putters[at] = stream.putter();
            kills[0] += 1;
        } else {
            let at = at - PUTTERS;
            getters[at].kill();
            getters[at] = stream.getter(at);
            kills[1] += 1;
        }
        let used = arena().unwrap().used().unwrap();
        if kills[0] + kills[1] == 20 {
            steady = Some(used);
        }
        most = most.max(used);
    }
    let time = begin.elapsed();
    stream.stop.set(1);
    for putter in putters {
        eventually("who puts comes to its end", || putter.has_ended());
        putter.finish();
    }
    stream.queue.close();
    getters.into_iter().for_each(Child::finish);
    let (got, lost) = stream.audit(kills[1]);
    println!(
        "soak: {got} messages got in {:.1} s, {:.1} million a second; {} who put and {} who get killed, {lost} lost; {} KiB",
        time.as_secs_f64(),
        got as f64 / time.as_secs_f64() / 1e6,
        kills[0],
        kills[1],
        most / 1024,
    );
    assert!(got > 100_000, "too few to tell");
    if let Some(steady) = steady {
        assert!(most <= steady + (64 << 10), "memory grows: {steady} bytes, then {most}");
    }
}
