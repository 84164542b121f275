//! A laboratory course: a process, a pipe, a queue, a value with and without a lock, a pool, a thread.

use std::process::id;
use std::thread::{sleep, yield_now};
use std::time::Duration;

use procession::channel::{Connection, Pipe};
use procession::prelude::*;
use procession::thread::Thread;

use super::{Outcome, Tutorial};

pub const TUTORIAL: Tutorial = Tutorial {
    title: "Laboratory: processes and threads",
    original: "实验9[选学]Python多进程与多线程",
    programs: &[
        ("Processes", "多进程", processes),
        ("A pipe between two processes", "进程间通信 Pipe", pipe),
        ("A queue between two processes", "进程间通信 Queue", queue),
        ("Two writers and a reader", "情况1", two_writers),
        ("Counting without a lock", "进程同步", count_without_lock),
        ("Counting with a lock", "进程同步 Lock", count_with_lock),
        ("A pool of three", "进程池", pool),
        ("A thread", "多线程", thread),
    ],
};

fn hello(name: String) {
    println!("child process: {}", id());
    println!("Hello {name}");
}

fn processes() -> Outcome {
    // The arguments are a tuple, and so they are if there is only one.
    let child = Process::new(hello, ("shiyanlou".into(),)).start()?;
    child.join()?;
    println!("parent process: {}", id());
    Ok(())
}

fn say(end: Connection) -> procession::Result<()> {
    end.send("Hello shiyanlou")?;
    Ok(())
}

fn hear(end: Connection) -> procession::Result<()> {
    let data: String = end.recv()?;
    println!("{data}");
    Ok(())
}

fn pipe() -> Outcome {
    // Both ends can send and receive. Each is passed to its process: nothing has to be global.
    let (one, other) = Pipe::duplex()?;
    let first = Process::new(say, (one,)).start()?;
    let second = Process::new(hear, (other,)).start()?;
    first.join()??;
    second.join()??;
    Ok(())
}

fn f1(queue: Queue<String>) -> procession::Result<()> {
    queue.put(&"Hello shiyanlou".into())?;
    Ok(())
}

fn f2(queue: Queue<String>) -> procession::Result<()> {
    println!("{}", queue.get()?);
    Ok(())
}

fn f3(queue: Queue<String>) -> procession::Result<()> {
    queue.put(&"charu".into())?;
    Ok(())
}

fn queue() -> Outcome {
    // A queue has a largest number of objects: memory that all share is not without end.
    let queue = Queue::bounded(10)?;
    let first = Process::new(f1, (queue.clone(),)).start()?;
    let second = Process::new(f2, (queue,)).start()?;
    // The inner result is what the function returned, the outer one how the process ended.
    first.join()??;
    second.join()??;
    Ok(())
}

fn two_writers() -> Outcome {
    let queue = Queue::bounded(10)?;
    let writers =
        [Process::new(f1, (queue.clone(),)).start()?, Process::new(f3, (queue.clone(),)).start()?];
    for writer in writers {
        writer.join()??;
    }
    // `put` has returned, so the objects are there: `empty` is true to that, with no thread behind it that still feeds the queue.
    println!("{}", queue.empty());
    Process::new(f2, (queue.clone(),)).start()?.join()??;
    println!("{}", queue.empty());
    println!("{} was left", queue.get()?);
    Ok(())
}

fn add_carelessly(value: Value<i32>) {
    for _ in 0..50 {
        let read = value.get();
        // Another process reads the same number now. Both write it plus one, and one step is lost.
        yield_now();
        value.set(read + 1);
    }
}

fn count_without_lock() -> Outcome {
    let value = Value::new(0i32)?;
    let children = (0..10)
        .map(|_| Process::new(add_carelessly, (value.clone(),)).start())
        .collect::<Result<Vec<_>, _>>()?;
    for child in children {
        child.join()?;
    }
    println!("{} of 500: reading and writing are two steps", value.get());
    Ok(())
}

fn add_carefully(value: Value<i32>, lock: Lock) -> procession::Result<()> {
    for _ in 0..50 {
        sleep(Duration::from_micros(10));
        // Held until the guard goes out of scope. An error says that a process died with the lock in its hands.
        let _guard = lock.acquire()?;
        value.set(value.get() + 1);
    }
    Ok(())
}

fn count_with_lock() -> Outcome {
    let value = Value::new(0i32)?;
    let lock = Lock::new()?;
    let children = (0..10)
        .map(|_| Process::new(add_carefully, (value.clone(), lock.clone())).start())
        .collect::<Result<Vec<_>, _>>()?;
    for child in children {
        child.join()??;
    }
    println!("{}", value.get());
    Ok(())
}

fn f(i: u32) {
    println!("{i}");
}

fn pool() -> Outcome {
    let pool = Pool::new(3)?;
    let results = (0..30).map(|i| pool.apply_async(f, (i,))).collect::<Result<Vec<_>, _>>()?;
    pool.close();
    pool.join()?;
    // What became of each is known, also if nobody asks: here the workers are gone already.
    println!("{} of 30 are done", results.iter().filter(|f| f.successful() == Some(true)).count());
    Ok(())
}

fn hello_from_a_thread(name: String) {
    println!("child thread: {:?}", std::thread::current().id());
    println!("Hello {name}");
}

fn thread() -> Outcome {
    // The interface of threads is that of processes.
    let thread = Thread::new(hello_from_a_thread, ("shiyanlou".into(),)).start()?;
    thread.join()?;
    println!("main thread: {:?}", std::thread::current().id());
    Ok(())
}
