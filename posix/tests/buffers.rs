//! Buffers that travel without being copied, between real processes that also die.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

use std::time::Duration;

use procession_posix::channel::{Buffer, BufferQueue, GetError, PutError, Queue};
use procession_posix::memory::arena;
use procession_posix::process::Process;
use procession_posix::sync::{Event, wait_any_timeout};

/// Nobody waits so long, unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

fn of(queue: &BufferQueue, bytes: usize, content: u8) -> Buffer {
    let mut buffer = queue.reserve(bytes).unwrap();
    buffer.fill(content);
    buffer
}

#[test]
fn what_is_got_is_what_was_put_where_it_lay() {
    let queue = BufferQueue::bounded(4).unwrap();
    for bytes in [0, 1, 16, 100, 4096, 40_000, 300_000] {
        let buffer = of(&queue, bytes, 7);
        let place = buffer.as_ptr();
        queue.put(buffer).unwrap();
        let got = queue.get().unwrap();
        assert_eq!((got.len(), got.iter().all(|&byte| byte == 7)), (bytes, true));
        assert_eq!(got.as_ptr(), place);
    }
    assert!(matches!(queue.get_nowait(), Err(GetError::Empty)));
}

#[test]
fn who_cannot_put_keeps_its_buffer() {
    let queue = BufferQueue::bounded(2).unwrap();
    queue.put(of(&queue, 10, 1)).unwrap();
    queue.put(of(&queue, 10, 2)).unwrap();
    assert!(queue.full() && queue.qsize() == queue.capacity());
    let unsent = queue.put_nowait(of(&queue, 10, 3)).unwrap_err();
    assert!(matches!(unsent.error, PutError::Full));
    let unsent = queue.put_timeout(unsent.buffer, Duration::from_millis(1)).unwrap_err();
    assert!(matches!(unsent.error, PutError::TimedOut));
    assert_eq!(*unsent.buffer, [3; 10]);
    queue.close();
    let unsent = queue.put(unsent.buffer).unwrap_err();
    assert!(matches!(unsent.error, PutError::Closed));
    let got: Vec<_> = queue.iter().map(|buffer| buffer.unwrap()[0]).collect();
    assert_eq!(got, [1, 2]);
}

#[test]
fn buffers_have_types_and_sizes() {
    let queue = BufferQueue::bounded(2).unwrap();
    let mut buffer = queue.reserve(32).unwrap();
    buffer.view_mut::<u64>().unwrap().copy_from_slice(&[1, 2, 3, 4]);
    assert_eq!(buffer.view::<[u64; 2]>().unwrap(), [[1, 2], [3, 4]]);
    assert_eq!(buffer.resize(9), 9);
    assert!(buffer.view::<u64>().is_err());
    assert_eq!(buffer.resize(1 << 30), buffer.capacity());
    queue.put(buffer).unwrap();
    assert_eq!(queue.get().unwrap().view::<u32>().unwrap()[..3], [1, 0, 2]);
}

/// Adds one to each byte, and sends the same buffers on.
fn raise(from: BufferQueue, to: BufferQueue) {
    for buffer in &from {
        let mut buffer = buffer.unwrap();
        buffer.iter_mut().for_each(|byte| *byte += 1);
        to.put_timeout(buffer, LONG).unwrap();
    }
    to.close();
}

#[test]
fn they_pass_through_processes() {
    alone!(they_pass_through_processes);
    let (there, back) = (BufferQueue::bounded(4).unwrap(), BufferQueue::bounded(4).unwrap());
    let args = (there.clone(), back.clone());
    let child = Process::new(raise, args).daemon(true).start().unwrap();
    for round in 0..100 {
        there.put_timeout(of(&there, 5000, round), LONG).unwrap();
        assert_eq!(*back.get_timeout(LONG).unwrap(), [round + 1; 5000]);
    }
    there.close();
    assert!(matches!(back.get_timeout(LONG), Err(GetError::Closed)));
    child.join_timeout(LONG).unwrap();
    // And as a handle, through another queue.
    let post = Queue::bounded(1).unwrap();
    post.put(&back).unwrap();
    assert!(post.get().unwrap().is_closed());
}

/// Takes what there is in hand, and stays.
fn hoard(queue: BufferQueue, count: usize, ready: Event) {
    let hand: Vec<_> = (0..count).map(|_| queue.get_timeout(LONG).unwrap()).collect();
    let more: Vec<_> = (0..count).map(|_| queue.reserve(30_000).unwrap()).collect();
    ready.set();
    std::thread::sleep(LONG * 2);
    drop((hand, more));
}

#[test]
fn what_the_dead_had_in_hand_comes_back() {
    alone!(what_the_dead_had_in_hand_comes_back);
    let (queue, ready) = (BufferQueue::bounded(16).unwrap(), Event::new().unwrap());
    let args = (queue.clone(), 10, ready.clone());
    let child = Process::new(hoard, args).daemon(true).start().unwrap();
    for _ in 0..10 {
        queue.put(of(&queue, 30_000, 1)).unwrap();
    }
    assert!(ready.wait_timeout(LONG));
    let (arena, owned) = (arena().unwrap(), || arena().unwrap().region().usage().owned);
    let before = owned();
    child.kill().unwrap();
    assert!(child.join_timeout(LONG).is_err(), "it was killed");
    arena.sweep();
    // Other tests run beside this one, and have some in hand.
    assert!(owned() + 20 <= before + 10, "{before} before, {} after", owned());
}

#[test]
fn shutting_down_at_once_frees_what_is_there() {
    let queue = BufferQueue::bounded(4).unwrap();
    let room = queue.room();
    for _ in 0..4 {
        queue.put(of(&queue, 5_000_000, 1)).unwrap();
    }
    assert_eq!(wait_any_timeout(&[&room], Duration::ZERO), None);
    assert_eq!(wait_any_timeout(&[&room, &queue], Duration::ZERO), Some(1));
    let used = || arena().unwrap().used().unwrap();
    let before = used();
    queue.shutdown(true);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(used() + 16_000_000 < before);
    assert_eq!(wait_any_timeout(&[&room], Duration::ZERO), Some(0));
    assert_eq!(queue.lost(), 0);
}
