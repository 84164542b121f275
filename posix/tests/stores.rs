//! The queues over a store, used by several threads and processes.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

use std::time::Duration;

use procession_posix::channel::{
    GetError, JoinTasksError, JoinableQueue, LifoQueue, PriorityQueue, PutError, Queue,
    QueueOptions, Receiver, Sender, SimpleQueue, TaskDoneError, pipe,
};
use procession_posix::process::Process;
use procession_posix::wait::wait_timeout;

const SOON: Duration = Duration::from_secs(60);

/// As long as it fits into a message, and longer.
fn text(number: u64) -> String {
    "x".repeat(if number.is_multiple_of(3) { 300 } else { 3 }) + &number.to_string()
}

#[test]
fn who_waits_for_room_gets_it() {
    let queue = JoinableQueue::bounded(2).unwrap();
    queue.put(&1u64).unwrap();
    queue.put(&2).unwrap();
    std::thread::scope(|threads| {
        let putter = threads.spawn(|| queue.put_timeout(&3, SOON));
        while !putter.is_finished() && queue.qsize() == 2 {
            assert_eq!(queue.take_timeout(SOON).unwrap().done(), 1);
        }
        putter.join().unwrap().unwrap();
    });
    assert_eq!(queue.take_nowait().unwrap().done(), 2);
    assert_eq!(queue.take_nowait().unwrap().done(), 3);
    assert!(matches!(queue.take_nowait(), Err(GetError::Empty)));
}

fn work(queue: JoinableQueue<(u64, String)>, out: SimpleQueue<u64>) {
    for task in queue.iter() {
        let (number, content) = task.unwrap();
        assert_eq!(content, text(number));
        out.put(&number).unwrap();
        queue.task_done().unwrap();
    }
}

#[test]
fn processes_share_the_work_and_join_sees_its_end() {
    alone!(processes_share_the_work_and_join_sees_its_end);
    for options in [QueueOptions::bounded(5), QueueOptions::unbounded().at_least_once()] {
        let queue = JoinableQueue::with(options).unwrap();
        let out = SimpleQueue::new().unwrap();
        let workers =
            [0, 1].map(|_| Process::new(work, (queue.clone(), out.clone())).start().unwrap());
        for number in 0..200 {
            queue.put_timeout(&(number, text(number)), SOON).unwrap();
        }
        queue.join_timeout(SOON).unwrap();
        assert_eq!(queue.unfinished(), 0);
        let mut seen: Vec<_> = (0..200).map(|_| out.get().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, Vec::from_iter(0..200));
        queue.close();
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(matches!(queue.put(&(1, text(1))), Err(PutError::Closed)));
    }
}

/// Takes an object, says so, and sleeps until it is killed.
fn take_and_hang(queue: JoinableQueue<String>, out: SimpleQueue<String>) {
    let task = queue.take().unwrap();
    out.put(&task).unwrap();
    std::thread::sleep(SOON);
    task.done();
}

#[test]
fn what_a_killed_worker_had_is_delivered_again_or_reported() {
    alone!(what_a_killed_worker_had_is_delivered_again_or_reported);
    for again in [true, false] {
        let options = QueueOptions::unbounded();
        let options = if again { options.at_least_once() } else { options };
        let queue = JoinableQueue::with(options).unwrap();
        let out = SimpleQueue::new().unwrap();
        let long = "long ".repeat(100);
        queue.put(&long).unwrap();
        queue.put(&"short".to_string()).unwrap();
        let worker = Process::new(take_and_hang, (queue.clone(), out.clone())).start().unwrap();
        assert_eq!(out.get().unwrap(), long);
        worker.kill().unwrap();
        assert!(worker.join().is_err());
        if again {
            let task = queue.take_timeout(SOON).unwrap();
            // Asleep or not: it comes back within some milliseconds, and perhaps after the short one.
            let (first, second) = if *task == long {
                assert_eq!(task.deliveries(), 2);
                (task, queue.take_timeout(SOON).unwrap())
            } else {
                let other = queue.take_timeout(SOON).unwrap();
                assert_eq!(other.deliveries(), 2);
                (other, task)
            };
            assert_eq!((first.done(), second.done()), (long, "short".to_string()));
            queue.join_timeout(SOON).unwrap();
            assert_eq!(queue.lost(), 0);
        } else {
            assert_eq!(queue.take_timeout(SOON).unwrap().done(), "short");
            let lost = queue.join_timeout(SOON);
            assert_eq!(lost, Err(JoinTasksError::Lost { lost: 1 }));
            assert_eq!(queue.take_lost(), 1);
            queue.join_timeout(SOON).unwrap();
        }
    }
}

#[test]
fn orders_and_looks() {
    let ranked = PriorityQueue::bounded(10).unwrap();
    let stack = LifoQueue::unbounded().unwrap();
    for number in [5u64, 3, 9, 3, 7] {
        ranked.put(number as i64, &text(number)).unwrap();
        stack.put(&text(number)).unwrap();
    }
    assert_eq!(ranked.peek().unwrap(), (3, text(3)));
    assert_eq!(stack.peek_nowait().unwrap(), text(7));
    let order: Vec<_> = ranked.try_iter().map(|got| got.unwrap().0).collect();
    assert_eq!(order, [3, 3, 5, 7, 9]);
    let order: Vec<_> = stack.try_iter().map(Result::unwrap).collect();
    assert_eq!(order, [7, 3, 9, 3, 5].map(text));
    assert!(matches!(ranked.peek_timeout(Duration::from_millis(2)), Err(GetError::TimedOut)));
    let taken = {
        ranked.put(4, &text(4)).unwrap();
        ranked.take().unwrap()
    };
    assert_eq!((taken.priority(), taken.deliveries()), (4, 1));
}

#[test]
fn an_immediate_shutdown_throws_away_what_is_left() {
    let queue = JoinableQueue::unbounded().unwrap();
    for number in 0..100 {
        queue.put(&text(number)).unwrap();
    }
    std::thread::scope(|threads| {
        let joiner = threads.spawn(|| queue.join_timeout(SOON));
        queue.shutdown(true);
        assert_eq!(joiner.join().unwrap(), Err(JoinTasksError::ShutDown));
    });
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(queue.empty());
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));

    let queue = LifoQueue::with(QueueOptions::bounded(2).at_least_once()).unwrap();
    queue.put(&"x".repeat(20_000)).unwrap();
    let taken = queue.take().unwrap();
    queue.shutdown(true);
    drop(taken);
    assert!(queue.empty());
}

#[test]
fn queues_that_grow_can_be_waited_for_and_travel() {
    let outer = SimpleQueue::new().unwrap();
    let inner = LifoQueue::<u64>::unbounded().unwrap();
    assert!(wait_timeout(&[&inner], Duration::ZERO).is_empty());
    outer.put(&inner).unwrap();
    let found = outer.get().unwrap();
    for number in 0..1000 {
        found.put(&number).unwrap();
    }
    assert_eq!(wait_timeout(&[&inner], SOON), [0]);
    assert_eq!(inner.qsize(), 1000);
    assert_eq!(inner.try_iter().map(Result::unwrap).last(), Some(0));
    // An object of another type is refused.
    let other = SimpleQueue::new().unwrap();
    other.put(&inner).unwrap();
    let bytes = postcard::to_stdvec(&inner).unwrap();
    assert!(postcard::from_bytes::<LifoQueue<String>>(&bytes).is_err());
    assert!(postcard::from_bytes::<JoinableQueue<u64>>(&bytes).is_err());
}

#[test]
fn memory_comes_back() {
    let arena = procession_posix::memory::arena().unwrap();
    let mut before = None;
    for round in 0..50 {
        let queue = LifoQueue::unbounded().unwrap();
        for number in 0..300 {
            queue.put(&text(number)).unwrap();
        }
        // Half of them stay in it when it goes.
        queue.try_iter().take(150).for_each(drop);
        drop(queue);
        if round == 5 {
            arena.sweep();
            before = Some(arena.used().unwrap());
        }
    }
    arena.sweep();
    let used = arena.used().unwrap();
    assert!(used < before.unwrap() + (4 << 20), "{before:?} {used}");
}

#[test]
fn a_queue_may_grow_or_deliver_again() {
    let queues = [
        Queue::unbounded().unwrap(),
        QueueOptions::unbounded().at_least_once().create().unwrap(),
        QueueOptions::bounded(1000).at_least_once().create().unwrap(),
    ];
    for queue in queues {
        let all: Vec<_> = (0..500).map(text).collect();
        assert_eq!(queue.put_many(&all).unwrap(), 500);
        assert_eq!(queue.peek().unwrap(), text(0));
        // It travels as what it is.
        let bytes = postcard::to_stdvec(&queue).unwrap();
        let found: Queue<String> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(found.get_many(100).unwrap(), all[..100]);
        assert_eq!(found.take().unwrap().done(), text(100));
        assert_eq!(found.get_latest().unwrap(), (text(499), 398));
        assert!(queue.empty() && matches!(queue.get_nowait(), Err(GetError::Empty)));
        assert_eq!(wait_timeout(&[&queue.room(), &queue], SOON), [0]);
        queue.put(&text(1)).unwrap();
        queue.close();
        assert_eq!(queue.iter().map(Result::unwrap).collect::<Vec<_>>(), [text(1)]);
        assert!(matches!(queue.put(&text(2)), Err(PutError::Closed)));
    }
    let bounded = QueueOptions::bounded(2).at_least_once().create().unwrap();
    assert_eq!(bounded.put_many_nowait([1u8, 2, 3]).unwrap(), 2);
    assert!(matches!(bounded.put_nowait(&3), Err(PutError::Full)));
}

/// Takes an end of a pipe out of the queue, says so through it, and waits to be killed.
fn speak_and_hang(queue: JoinableQueue<Sender<u32>>) {
    let task = queue.take().unwrap();
    task.send(&1).unwrap();
    std::thread::sleep(SOON);
    task.done();
}

#[test]
fn an_end_of_a_pipe_is_the_queues_until_it_is_done() {
    alone!(an_end_of_a_pipe_is_the_queues_until_it_is_done);
    let queue = JoinableQueue::with(QueueOptions::unbounded().at_least_once()).unwrap();
    let (sender, receiver): (Sender<u32>, Receiver<u32>) = pipe().unwrap();
    queue.put(&sender).unwrap();
    drop(sender);
    let worker = Process::new(speak_and_hang, (queue.clone(),)).start().unwrap();
    assert_eq!(receiver.recv_timeout(SOON).unwrap(), 1);
    worker.kill().unwrap();
    assert!(worker.join().is_err());
    // It died with a copy of its own; the queue's is delivered again.
    let task = queue.take_timeout(SOON).unwrap();
    assert_eq!(task.deliveries(), 2);
    task.send(&2).unwrap();
    assert_eq!(receiver.recv_timeout(SOON).unwrap(), 2);
    drop(task.done());
    // That was the last one: nobody can send any more.
    assert!(receiver.recv_timeout(SOON).is_err());
    assert!(!matches!(
        receiver.recv_timeout(SOON),
        Err(procession_posix::channel::RecvError::TimedOut)
    ));
    queue.join_timeout(SOON).unwrap();
}
