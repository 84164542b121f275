//! The overview's second part, the package concurrent.futures: submit, map, shutdown, wait and as_completed.

use std::thread::sleep;
use std::time::Duration;

use procession::futures::{
    Executor, ProcessPoolExecutor, ReturnWhen, Shutdown, ThreadPoolExecutor, as_completed, wait,
};

use super::{Outcome, Tutorial};

pub const TUTORIAL: Tutorial = Tutorial {
    title: "Overview: the package concurrent.futures",
    original: "Python并发之concurrent.futures",
    programs: &[
        ("submit", "submit()方法", submit),
        ("map", "map()方法", map),
        ("ProcessPoolExecutor", "ProcessPoolExecutor对象", processes),
        ("as_completed", "as_completed(fs, timeout=None)", completed),
        ("wait", "wait(fs, timeout=None, return_when=ALL_COMPLETED)", waited),
    ],
};

fn test(number: u32) -> (String, u32) {
    ("a time".into(), number)
}

fn submit() -> Outcome {
    let executor = ThreadPoolExecutor::builder().max_workers(1).build()?;
    let future = executor.submit(test, (1,))?;
    println!("{:?}", future.result()?);
    // Dropped, it is shut down, as at the end of Python's `with`.
    Ok(())
}

fn map() -> Outcome {
    let executor = ThreadPoolExecutor::builder().max_workers(1).build()?;
    for result in executor.map(test, [1, 2, 3]) {
        println!("{:?}", result?);
    }
    executor.shutdown(Shutdown::new())?;
    Ok(())
}

/// Whatever executor it is.
fn sum_of_results(executor: &impl Executor) -> Result<u32, Box<dyn std::error::Error>> {
    let futures = (1..=4).map(|n| executor.submit(test, (n,))).collect::<Result<Vec<_>, _>>()?;
    let mut sum = 0;
    for future in &futures {
        sum += future.result()?.1;
    }
    Ok(sum)
}

fn processes() -> Outcome {
    println!("processes: {}", sum_of_results(&ProcessPoolExecutor::new()?)?);
    println!("threads: {}", sum_of_results(&ThreadPoolExecutor::new()?)?);
    Ok(())
}

fn return_after_a_while(number: u64) -> String {
    sleep(Duration::from_millis(1 + number * 2 % 5));
    format!("Return of {number}")
}

fn completed() -> Outcome {
    let executor = ThreadPoolExecutor::builder().max_workers(5).build()?;
    let futures = (0..5)
        .map(|x| executor.submit(return_after_a_while, (x,)))
        .collect::<Result<Vec<_>, _>>()?;
    println!("1");
    for future in as_completed(futures) {
        println!("{}", future.result()?);
    }
    println!("2");
    Ok(())
}

fn waited() -> Outcome {
    let executor = ThreadPoolExecutor::builder().max_workers(2).build()?;
    let futures = (0..5)
        .map(|x| executor.submit(return_after_a_while, (x,)))
        .collect::<Result<Vec<_>, _>>()?;
    let first = wait(futures.clone(), ReturnWhen::FirstCompleted);
    println!("some are done: {}", !first.done.is_empty());
    let all = wait(futures, ReturnWhen::AllCompleted);
    println!("{} done, {} not done", all.done.len(), all.not_done.len());
    Ok(())
}
