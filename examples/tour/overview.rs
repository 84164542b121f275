//! An overview of the package: fork, a process, pools, a queue, a pipe, values and arrays, a lock, a semaphore, a condition, an event.

use std::process::id;
use std::thread::sleep;
use std::time::Duration;

use procession::channel::{Connection, JoinableQueue, Pipe};
use procession::prelude::*;
use procession::process::parent_process;
use procession::sync::{Condition, Event, Semaphore};

use super::{Outcome, Tutorial};

pub const TUTORIAL: Tutorial = Tutorial {
    title: "Overview: the package multiprocessing",
    original: "Python的多进程包multiprocessing",
    programs: &[
        ("Fork", "Multiprocessing产生的背景", fork),
        ("Process", "Process（用于创建进程）", process),
        ("Pool and map", "Pool+map", pool_map),
        ("Pool and apply_async", "异步进程池（非阻塞）", pool_apply_async),
        ("Pool and apply", "异步进程池（非阻塞）, apply", pool_apply),
        ("Queue", "Queue（用于进程通信，资源共享）", queue),
        ("JoinableQueue", "JoinableQueue", joinable_queue),
        ("Value and Array", "Value，Array（用于进程通信，资源共享）", value_and_array),
        ("Pipe", "Pipe（用于管道通信）", pipe),
        ("Lock", "Lock（互斥锁）", lock),
        ("Semaphore", "Semaphore（信号量）", semaphore),
        ("Condition", "Condition（条件变量）", condition),
        ("Event", "Event（事件）", event),
        ("A pool of threads", "其他内容, multiprocessing.dummy", dummy),
    ],
};

fn forked() {
    let parent = parent_process().map_or(0, |parent| parent.pid);
    println!("I am child process ({}) and my parent is {parent}.", id());
}

pub fn fork() -> Outcome {
    println!("Process ({}) start...", id());
    let child = Process::new(forked, ()).method(StartMethod::Fork).start()?;
    println!("I ({}) just created a child process ({}).", id(), child.pid());
    child.join()?;
    Ok(())
}

fn run_proc(name: String) {
    println!("Run child process {name} ({})...", id());
}

pub fn process() -> Outcome {
    println!("Parent process {}.", id());
    let child = Process::new(run_proc, ("test".into(),));
    println!("Child process will start.");
    child.start()?.join()?;
    println!("Child process end.");
    Ok(())
}

fn test(i: u32) {
    println!("{i}");
}

fn pool_map() -> Outcome {
    let pool = Pool::new(8)?;
    pool.map(test, 0..100)?;
    pool.close();
    pool.join()?;
    Ok(())
}

fn pool_apply_async() -> Outcome {
    let pool = Pool::new(8)?;
    for i in 0..100 {
        // Handed over; up to eight run at a time.
        pool.apply_async(test, (i,))?;
    }
    println!("test");
    pool.close();
    pool.join()?;
    Ok(())
}

fn pool_apply() -> Outcome {
    let pool = Pool::new(8)?;
    for i in 0..100 {
        // Waits for each: one runs at a time.
        pool.apply(test, (i,))?;
    }
    println!("test");
    pool.close();
    pool.join()?;
    Ok(())
}

fn write(queue: Queue<char>) -> procession::Result<()> {
    println!("Process to write: {}", id());
    for value in ['A', 'B', 'C'] {
        println!("Put {value} to queue...");
        queue.put(&value)?;
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn read(queue: Queue<char>, read: Value<u32>) -> procession::Result<()> {
    println!("Process to read: {}", id());
    loop {
        println!("Get {} from queue.", queue.get()?);
        read.update(|count| count + 1);
    }
}

pub fn queue() -> Outcome {
    let queue = Queue::bounded(10)?;
    let done = Value::new(0u32)?;
    let writer = Process::new(write, (queue.clone(),)).start()?;
    let reader = Process::new(read, (queue.clone(), done.clone())).start()?;
    writer.join()??;
    // The reader loops for ever and has to be ended, but not before it has read all.
    while done.get() < 3 && reader.is_alive() {
        sleep(Duration::from_millis(1));
    }
    reader.terminate()?;
    if let Err(end) = reader.join() {
        println!("{end}");
    }
    Ok(())
}

fn consumer(queue: JoinableQueue<String>) -> procession::Result<()> {
    loop {
        println!("the consumer has got {}", queue.get()?);
        queue.task_done()?;
    }
}

fn producer(products: impl Iterator<Item = String>, queue: &JoinableQueue<String>) -> Outcome {
    for product in products {
        queue.put(&product)?;
        println!("the producer has made {product}");
    }
    // Until all are done. If the consumer died with one in hand, this would say so.
    queue.join()?;
    Ok(())
}

fn joinable_queue() -> Outcome {
    let queue = JoinableQueue::unbounded()?;
    // It ends with this process. Nobody waits for it: `join` has told that it is done.
    let consumer = Process::new(consumer, (queue.clone(),)).daemon(true).start()?;
    producer((0..5).map(|number| format!("product{number}")), &queue)?;
    println!("main process");
    consumer.kill()?;
    Ok(())
}

fn greet(end: Connection) -> procession::Result<()> {
    end.send("have you eaten?")?;
    println!("greetings from the parent: {}", end.recv::<String>()?);
    end.close();
    Ok(())
}

fn pipe() -> Outcome {
    let (parent_end, child_end) = Pipe::duplex()?;
    let child = Process::new(greet, (child_end,)).start()?;
    println!("greetings from the child: {}", parent_end.recv::<String>()?);
    parent_end.send("yes")?;
    child.join()??;
    Ok(())
}

#[expect(clippy::approx_constant, reason = "it is what the overview writes")]
fn change(number: Value<f64>, array: Array<i32>) -> procession::Result<()> {
    number.set(3.14);
    array.set(0, 5)?;
    Ok(())
}

fn value_and_array() -> Outcome {
    // The type says what 'd' and 'i' say there.
    let number = Value::new(0.0)?;
    let array = Array::from_slice(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])?;
    Process::new(change, (number.clone(), array.clone())).start()?.join()??;
    println!("{}", number.get());
    println!("{:?}", array.to_vec());
    Ok(())
}

fn say_number(lock: Lock, number: u32) -> procession::Result<()> {
    // Lines of several processes cannot mix while one of them has the lock.
    let _guard = lock.acquire()?;
    println!("Hello Num: {number}");
    Ok(())
}

fn lock() -> Outcome {
    let lock = Lock::new()?;
    let children = (0..20)
        .map(|number| Process::new(say_number, (lock.clone(), number)).start())
        .collect::<Result<Vec<_>, _>>()?;
    for child in children {
        child.join()??;
    }
    Ok(())
}

fn visit(seats: Semaphore, user: String) -> procession::Result<()> {
    let permit = seats.acquire()?;
    println!("{user} has a seat");
    sleep(Duration::from_millis(u64::from(id() % 4)));
    drop(permit);
    println!("{user} OK");
    Ok(())
}

pub fn semaphore() -> Outcome {
    let seats = Semaphore::new(2)?;
    let users = (0..5)
        .map(|i| Process::new(visit, (seats.clone(), format!("user{i}"))).start())
        .collect::<Result<Vec<_>, _>>()?;
    for user in users {
        user.join()??;
    }
    Ok(())
}

fn stage_1(done: Condition) -> procession::Result<()> {
    let name = current_process().name;
    println!("Starting {name}");
    let guard = done.acquire()?;
    println!("{name} done and ready for stage 2");
    guard.notify_all()?;
    Ok(())
}

fn stage_2(done: Condition, waiting: Semaphore) -> procession::Result<()> {
    let name = current_process().name;
    println!("Starting {name}");
    let mut guard = done.acquire()?;
    waiting.release()?;
    guard.wait()?;
    println!("{name} running");
    Ok(())
}

pub fn condition() -> Outcome {
    let (done, waiting) = (Condition::new()?, Semaphore::new(0)?);
    let clients = (1..3)
        .map(|i| {
            let client = Process::new(stage_2, (done.clone(), waiting.clone()));
            client.name(format!("stage_2[{i}]")).start()
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Whoever has said so holds the lock until it waits. Sleeping for a second, as there, only makes it likely.
    for _ in &clients {
        waiting.take()?;
    }
    Process::new(stage_1, (done,)).name("s1").start()?.join()??;
    for client in clients {
        client.join()??;
    }
    Ok(())
}

fn wait_for_event(event: Event) {
    println!("wait_for_event: starting");
    event.wait();
    println!("wait_for_event: is_set() -> {}", event.is_set());
}

fn wait_for_event_timeout(event: Event, patience: Duration) {
    println!("wait_for_event_timeout: starting");
    event.wait_timeout(patience);
    println!("wait_for_event_timeout: is_set() -> {}", event.is_set());
}

pub fn event() -> Outcome {
    let event = Event::new()?;
    let block = Process::new(wait_for_event, (event.clone(),)).name("block").start()?;
    let patience = Duration::from_millis(20);
    let nonblock = Process::new(wait_for_event_timeout, (event.clone(), patience));
    let nonblock = nonblock.name("nonblock").start()?;
    println!("main: waiting before calling Event::set()");
    nonblock.join()?;
    event.set();
    println!("main: event is set");
    block.join()?;
    Ok(())
}

fn dummy() -> Outcome {
    // In a program of its own this line would be the only one that changes.
    use procession::thread::prelude::*;

    let pool = Pool::new(4)?;
    println!("{:?}", pool.map(|word: &str| word.len(), ["processes", "threads", "dummies"])?);
    pool.close();
    pool.join()?;
    Ok(())
}
