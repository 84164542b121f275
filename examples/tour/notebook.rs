//! A notebook: what the overview shows, in its first cells, a pool, a thread, and a bank account that two change at the same
//! time.

use std::process::id;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use procession::prelude::*;
use procession::thread::{Thread, current_thread};

use super::{Outcome, Tutorial, overview};

pub const TUTORIAL: Tutorial = Tutorial {
    title: "Notebook: processes and threads",
    original: "多进程, 多线程",
    programs: &[
        ("Fork", "一个进程接到新任务时，就可以复制一个子进程来处理新任务", overview::fork),
        ("Process", "使用multiprocessing模块中的Process类来代表一个进程对象", overview::process),
        ("A pool of five", "启动大量子线程，可以用线程池的方式创建", pool),
        ("Queue", "进程间通信", overview::queue),
        ("A thread of one's own", "启动线程的方式", thread),
        ("A bank account without a lock", "以银行存款为例", account_without_lock),
        ("A bank account with a lock", "以银行存款为例, Lock", account_with_lock),
    ],
};

fn long_time_task(name: u64) {
    println!("Run task {name} ({})...", id());
    let start = Instant::now();
    sleep(Duration::from_millis(3 * (name % 3)));
    println!("Task {name} runs {:0.3} seconds.", start.elapsed().as_secs_f64());
}

fn pool() -> Outcome {
    println!("Parent process {}.", id());
    let pool = Pool::new(5)?;
    for i in 0..5 {
        pool.apply_async(long_time_task, (i,))?;
    }
    println!("Waiting for all subprocesses done...");
    // Joining is waiting for the tasks, and needs that no more can come.
    pool.close();
    pool.join()?;
    println!("All subprocesses done.");
    Ok(())
}

fn thread_loop() {
    let name = current_thread().name;
    println!("thread {name} is running...");
    for n in 1..=5 {
        println!("thread {name} >>> {n}");
        sleep(Duration::from_millis(1));
    }
    println!("thread {name} ended.");
}

fn thread() -> Outcome {
    println!("thread {} is running...", current_thread().name);
    let thread = Thread::new(thread_loop, ()).name("LoopThread").start()?;
    thread.join()?;
    println!("thread {} ended.", current_thread().name);
    Ok(())
}

// The notebook lets two threads do this. Between processes there is no interpreter lock, so they really run at the same time.
const TIMES: u32 = 1000;

fn change_carelessly(balance: Value<i64>, amount: i64) {
    for i in 0..TIMES {
        balance.set(balance.get() + amount);
        if i % 10 == 0 {
            yield_now();
        }
        // What the other did since is subtracted too, or forgotten.
        balance.set(balance.get() - amount);
    }
}

fn change_carefully(balance: Value<i64>, amount: i64) -> procession::Result<()> {
    for _ in 0..TIMES {
        // Every value has a lock of its own.
        let mut balance = balance.lock()?;
        balance.update(|sum| sum + amount);
        balance.update(|sum| sum - amount);
    }
    Ok(())
}

fn account_without_lock() -> Outcome {
    let balance = Value::new(0i64)?;
    let first = Process::new(change_carelessly, (balance.clone(), 5)).start()?;
    let second = Process::new(change_carelessly, (balance.clone(), 8)).start()?;
    first.join()?;
    second.join()?;
    println!("balance {}: in theory it must be 0", balance.get());
    Ok(())
}

fn account_with_lock() -> Outcome {
    let balance = Value::new(0i64)?;
    let first = Process::new(change_carefully, (balance.clone(), 5)).start()?;
    let second = Process::new(change_carefully, (balance.clone(), 8)).start()?;
    first.join()??;
    second.join()??;
    println!("balance {}", balance.get());
    Ok(())
}
