//! A weblog: fork, five processes at once, a pool, writers and a reader, a sender and a receiver.

use std::process::id;
use std::thread::sleep;
use std::time::Duration;

use procession::channel::{Receiver, RecvError, Sender, pipe};
use procession::prelude::*;
use procession::process::parent_process;

use super::{Outcome, Tutorial};

pub const TUTORIAL: Tutorial = Tutorial {
    title: "Weblog: processes in Python",
    original: "python之进程",
    programs: &[
        ("Fork", "使用 os 模块中的 fork 方法实现多进程", fork),
        ("Five processes at once", "使用 multiprocessing 模块创建多进程", five_at_once),
        ("A pool of processes", "multiprocessing 模块提供了 Pool 类来代表进程池对象", pool),
        ("Two writers and a reader", "Queue 实现进程通信", writers_and_reader),
        ("A sender and a receiver", "Pipe 实现进程通信", sender_and_receiver),
    ],
};

fn forked() {
    let parent = parent_process().map_or(0, |parent| parent.pid);
    println!("I am child process ({}) and my parent process is ({parent})", id());
}

/// Forking copies the whole process. It is refused while there are threads, whose locks nobody would release in the copy.
pub fn fork() -> Outcome {
    println!("current Process ({}) start ...", id());
    let child = Process::new(forked, ()).method(StartMethod::Fork).start()?;
    println!("I ({}) create a child process ({})", id(), child.pid());
    child.join()?;
    Ok(())
}

fn run_process(name: String) {
    println!("Child process {name} ({}) Running...", id());
}

fn five_at_once() -> Outcome {
    println!("Parent process {}.", id());
    let mut children = Vec::new();
    for i in 0..5 {
        println!("Process will start.");
        children.push(Process::new(run_process, (i.to_string(),)).start()?);
    }
    for child in children {
        child.join()?;
    }
    println!("Process end.");
    Ok(())
}

fn run_task(name: u64) {
    println!("Task {name} (pid = {}) is running...", id());
    sleep(Duration::from_millis(3 * (name % 3)));
    println!("Task {name} end.");
}

fn pool() -> Outcome {
    println!("current process {}.", id());
    let pool = Pool::new(3)?;
    for i in 0..5 {
        pool.apply_async(run_task, (i,))?;
    }
    println!("Waiting for all subprocess done...");
    pool.close();
    pool.join()?;
    println!("All subprocess done.");
    Ok(())
}

fn process_write(queue: Queue<String>, urls: Vec<String>) -> procession::Result<()> {
    println!("Process ({}) is writing...", id());
    for url in urls {
        queue.put(&url)?;
        println!("Put {url} to queue...");
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn process_read(queue: Queue<String>, read: Value<u32>) -> procession::Result<()> {
    println!("Process ({}) is reading...", id());
    loop {
        println!("Get {} from queue...", queue.get()?);
        read.update(|count| count + 1);
    }
}

fn writers_and_reader() -> Outcome {
    let queue = Queue::bounded(10)?;
    let read = Value::new(0u32)?;
    let urls = |numbers: [u32; 3]| numbers.map(|number| format!("url{number}")).to_vec();
    let writers = [
        Process::new(process_write, (queue.clone(), urls([1, 2, 3]))).start()?,
        Process::new(process_write, (queue.clone(), urls([4, 5, 6]))).start()?,
    ];
    let reader = Process::new(process_read, (queue.clone(), read.clone())).start()?;
    for writer in writers {
        writer.join()??;
    }
    // The reader never ends by itself. It may be killed while it waits: nobody else is disturbed.
    while read.get() < 6 && reader.is_alive() {
        sleep(Duration::from_millis(1));
    }
    reader.terminate()?;
    if let Err(end) = reader.join() {
        println!("{end}");
    }
    Ok(())
}

fn process_send(pipe: Sender<String>, urls: Vec<String>) -> procession::Result<()> {
    for url in urls {
        println!("Process ({}) send: {url}", id());
        pipe.send(&url)?;
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn process_recv(pipe: Receiver<String>) -> procession::Result<()> {
    loop {
        match pipe.recv() {
            Ok(url) => println!("Process ({}) recv: {url}", id()),
            // The sender has ended, and all that it sent is received: nobody has to terminate this process.
            Err(RecvError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn sender_and_receiver() -> Outcome {
    // The types say which end sends.
    let (sender, receiver) = pipe()?;
    let urls: Vec<_> = (0..10).map(|number| format!("url{number}")).collect();
    let first = Process::new(process_send, (sender, urls)).start()?;
    let second = Process::new(process_recv, (receiver,)).start()?;
    first.join()??;
    second.join()??;
    println!("both have ended");
    Ok(())
}
