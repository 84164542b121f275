//! A notebook: what the overview shows, in its first cells, and a bank account that two change at the same time.

use std::thread::yield_now;

use procession::prelude::*;

use super::{Outcome, Tutorial, overview};

pub const TUTORIAL: Tutorial = Tutorial {
    title: "Notebook: processes and threads",
    original: "多进程, 多线程",
    programs: &[
        ("Fork", "一个进程接到新任务时，就可以复制一个子进程来处理新任务", overview::fork),
        ("Process", "使用multiprocessing模块中的Process类来代表一个进程对象", overview::process),
        ("Queue", "进程间通信", overview::queue),
        ("A bank account without a lock", "以银行存款为例", account_without_lock),
        ("A bank account with a lock", "以银行存款为例, Lock", account_with_lock),
    ],
};

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
