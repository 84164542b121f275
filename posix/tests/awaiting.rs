//! Waiting without holding up the thread.
#![cfg(feature = "async")]

use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use procession_posix::channel::{
    Broadcast, GetError, Pipe, Queue, RecvError, SendError, Sender, pipe,
};
use procession_posix::process::Process;
use procession_posix::ready::Readiness;
use procession_posix::sync::Lock;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn tasks_take_turns_and_cancelled_ones_leave() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lock = Lock::new().unwrap();
        let guard = lock.acquire().unwrap();
        let cancelled = lock.clone();
        let waited =
            tokio::time::timeout(Duration::from_millis(20), cancelled.acquire_async()).await;
        assert!(waited.is_err());
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let lock = lock.clone();
                tokio::spawn(async move {
                    for _ in 0..50 {
                        let guard = lock.acquire_async().await.unwrap();
                        let guard = guard.unwrap_or_else(|error| panic!("{error}"));
                        tokio::task::yield_now().await;
                        drop(guard);
                    }
                })
            })
            .collect();
        drop(guard);
        for task in tasks {
            tokio::time::timeout(LONG, task).await.expect("a turn").unwrap();
        }
        assert!(!lock.locked());
    });
}

fn run<F: Future>(body: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, body).await.expect("an end") })
}

/// The next of a stream.
async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

fn put_all(queue: Queue<u32>, count: u32) {
    for number in 0..count {
        queue.put(&number).unwrap();
        if number % 64 == 0 {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
    queue.close();
}

#[test]
fn objects_of_another_process_come_as_a_stream() {
    const COUNT: u32 = 2000;
    let queue = Queue::bounded(3).unwrap();
    let putter = Process::new(put_all, (queue.clone(), COUNT)).daemon(true).start().unwrap();
    run(async {
        let mut stream = queue.stream();
        for number in 0..COUNT {
            assert_eq!(next(&mut stream).await.unwrap().unwrap(), number);
        }
        assert!(next(&mut stream).await.is_none() && next(&mut stream).await.is_none());
    });
    putter.join().unwrap();
}

#[test]
fn a_dropped_future_loses_nothing() {
    const COUNT: u32 = 300;
    let queue = Queue::bounded(2).unwrap();
    run(async {
        let source = queue.clone();
        let taker = tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                // Dropped in the middle of a wait, again and again; a stream, too.
                let pause = Duration::from_micros(u64::from(taken.len() as u32 % 7) * 150);
                match tokio::time::timeout(pause, source.get_async()).await {
                    Err(_) => {}
                    Ok(got) => match got.unwrap() {
                        Ok(number) => taken.push(number),
                        Err(GetError::Closed) => return taken,
                        Err(error) => panic!("{error}"),
                    },
                }
                let mut stream = source.stream();
                if let Ok(Some(number)) = tokio::time::timeout(pause, next(&mut stream)).await {
                    taken.push(number.unwrap());
                }
            }
        });
        for number in 0..COUNT {
            // A put that was dropped has put nothing.
            let mut tried = 0;
            loop {
                let pause = Duration::from_micros(tried % 5 * 200);
                match tokio::time::timeout(pause, queue.put_async(&number)).await {
                    Ok(put) => break put.unwrap().unwrap(),
                    Err(_) => tried += 1,
                }
            }
        }
        queue.close();
        assert_eq!(taker.await.unwrap(), Vec::from_iter(0..COUNT));
    });
}

#[test]
fn many_tasks_of_two_threads_share_a_queue() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    const EACH: u64 = 100;
    let queue = Queue::<u64>::bounded(2).unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut sum = 0;
                    for _ in 0..EACH {
                        sum += queue.get_async().await.unwrap().unwrap();
                    }
                    sum
                })
            })
            .collect();
        let putters: Vec<_> = (0..4)
            .map(|who| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    for number in 0..EACH {
                        queue.put_async(&(who * EACH + number)).await.unwrap().unwrap();
                    }
                })
            })
            .collect();
        for putter in putters {
            tokio::time::timeout(LONG, putter).await.expect("room").unwrap();
        }
        let mut sum = 0;
        for task in tasks {
            sum += tokio::time::timeout(LONG, task).await.expect("objects").unwrap();
        }
        assert_eq!(sum, (0..4 * EACH).sum());
    });
    assert!(queue.empty());
}

#[test]
fn a_loop_of_epoll_hears_of_queues() {
    use rustix::event::epoll;
    use std::os::fd::AsFd;

    let (items, full) = (Queue::bounded(4).unwrap(), Queue::bounded(1).unwrap());
    full.put(&1).unwrap();
    let (there, room) = (Readiness::of(&items).unwrap(), Readiness::of(&full.room()).unwrap());
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (number, ready) in [(1, &there), (2, &room)] {
        let data = epoll::EventData::new_u64(number);
        // Each piece of news once, as mio has it.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, ready.as_fd(), data, flags).unwrap();
    }
    let heard = |wait: bool| {
        let mut events = Vec::with_capacity(4);
        let long = rustix::event::Timespec { tv_sec: if wait { 20 } else { 0 }, tv_nsec: 0 };
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&long)).unwrap();
        let mut heard: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
        heard.sort_unstable();
        heard
    };
    assert!(heard(false).is_empty());
    for round in 0..20 {
        let other = items.clone();
        let putter = std::thread::spawn(move || other.put(&round).unwrap());
        assert_eq!(heard(true), [1]);
        assert_eq!(items.get_nowait().unwrap(), round);
        there.rearm().unwrap();
        assert!(heard(false).is_empty());
        full.get().unwrap();
        assert_eq!(heard(true), [2]);
        full.put(&1).unwrap();
        room.rearm().unwrap();
        putter.join().unwrap();
    }
}

fn send_numbers(sender: Sender<u32>, count: u32) {
    (0..count).for_each(|number| sender.send(&number).unwrap());
}

#[test]
fn messages_are_awaited_until_the_pipe_ends() {
    run(async {
        let (sender, receiver) = pipe().unwrap();
        let child = Process::new(send_numbers, (sender, 1000)).start().unwrap();
        assert_eq!(receiver.recv_async().await.unwrap().unwrap(), 0);
        let mut messages = receiver.stream();
        for number in 1..1000 {
            assert_eq!(next(&mut messages).await.unwrap().unwrap(), number);
        }
        assert!(next(&mut messages).await.is_none());
        assert!(matches!(receiver.recv_async().await.unwrap(), Err(RecvError::Eof)));
        child.join_timeout(LONG).unwrap();
        // Cancelled: nothing is lost.
        let (one, other) = Pipe::duplex().unwrap();
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, one.recv_async::<u32>()).await.is_err());
        other.send_async(&7u32).await.unwrap().unwrap();
        assert_eq!(one.recv_async::<u32>().await.unwrap().unwrap(), 7);
        drop(other);
        assert!(matches!(one.send_async(&1).await.unwrap(), Err(SendError::BrokenPipe)));
    });
}

fn send_all(sender: Sender<Vec<u8>>, count: usize) {
    for number in 0..count {
        sender.send(&vec![7; number * 3]).unwrap();
        if number % 64 == 0 {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

#[test]
fn messages_come_as_a_stream_until_the_sender_is_gone() {
    const COUNT: usize = 500;
    let (sender, receiver) = pipe::<Vec<u8>>().unwrap();
    let child = Process::new(send_all, (sender, COUNT)).daemon(true).start().unwrap();
    run(async {
        let mut stream = receiver.stream();
        for number in 0..COUNT {
            assert_eq!(next(&mut stream).await.unwrap().unwrap().len(), number * 3);
        }
        assert!(next(&mut stream).await.is_none());
    });
    child.join_timeout(LONG).unwrap();
}

#[test]
fn a_sender_waits_for_room_and_hears_of_the_end() {
    let (sender, receiver) = pipe::<u32>().unwrap();
    let (near, far) = Pipe::duplex().unwrap();
    run(async {
        let mut sent = 0;
        while sender.try_send(&sent).is_ok() {
            near.send_async(&sent).await.unwrap().unwrap();
            sent += 1;
        }
        let taker = tokio::spawn(async move {
            for number in 0..=sent {
                assert_eq!(receiver.recv_async().await.unwrap().unwrap(), number);
            }
            for number in 0..=sent {
                assert_eq!(far.recv_async::<u32>().await.unwrap().unwrap(), number);
            }
            // Both ends are dropped.
        });
        sender.send_async(&sent).await.unwrap().unwrap();
        near.send_async(&sent).await.unwrap().unwrap();
        taker.await.unwrap();
        let broken = sender.send_async(&0).await.unwrap();
        assert!(matches!(broken, Err(SendError::BrokenPipe)), "{broken:?}");
        let end = near.recv_async::<u32>().await.unwrap();
        assert!(matches!(end, Err(RecvError::Eof)), "{end:?}");
    });
}

fn publish_all(news: Broadcast<u32>, count: u32) {
    let publisher = news.publisher().unwrap();
    for number in 0..count {
        publisher.publish(&number).unwrap();
        if number % 64 == 0 {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
    publisher.close();
}

#[test]
fn subscribers_are_streams() {
    const COUNT: u32 = 500;
    let news = Broadcast::<u32>::blocking(8).unwrap();
    let streams = [(); 2].map(|()| news.subscribe().unwrap().into_stream());
    let child = Process::new(publish_all, (news, COUNT)).daemon(true).start().unwrap();
    run(async {
        let tasks = streams.map(|mut stream| async move {
            for number in 0..COUNT {
                assert_eq!(next(&mut stream).await.unwrap().unwrap(), number);
            }
            assert!(next(&mut stream).await.is_none());
        });
        let local = tokio::task::LocalSet::new();
        let tasks = tasks.map(|task| local.spawn_local(task));
        local
            .run_until(async {
                for task in tasks {
                    task.await.unwrap();
                }
            })
            .await;
    });
    child.join_timeout(LONG).unwrap();
}
