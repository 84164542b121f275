//! An overview of the package: fork, a process, a queue, values and arrays, a lock.

use std::process::id;
use std::thread::sleep;
use std::time::Duration;

use procession::prelude::*;
use procession::process::parent_process;

use super::{Outcome, Tutorial};

pub const TUTORIAL: Tutorial = Tutorial {
    title: "Overview: the package multiprocessing",
    original: "Python的多进程包multiprocessing",
    programs: &[
        ("Fork", "Multiprocessing产生的背景", fork),
        ("Process", "Process（用于创建进程）", process),
        ("Queue", "Queue（用于进程通信，资源共享）", queue),
        ("Value and Array", "Value，Array（用于进程通信，资源共享）", value_and_array),
        ("Lock", "Lock（互斥锁）", lock),
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
