//! Starts processes by each method, which share a queue and a lock, and joins them; says `ok` at the end.

use std::time::Duration;

use procession::prelude::*;

fn add(sum: Mutex<u64>, numbers: Queue<u64>, number: u64) -> procession::Result<u64> {
    *sum.lock()? += number;
    numbers.put(&number)?;
    Ok(2 * number)
}

fn panics() {
    panic!("on purpose");
}

fn main() -> procession::Result<()> {
    let long = Duration::from_secs(60);
    let (sum, numbers) = (Mutex::new(0)?, Queue::bounded(100)?);
    for method in StartMethod::ALL {
        // More than are kept ready.
        let children: Vec<_> = (1..=8)
            .map(|number| {
                let args = (sum.clone(), numbers.clone(), number);
                Process::new(add, args).method(method).daemon(true).start()
            })
            .collect::<Result<_, _>>()?;
        for (number, child) in (1..).zip(children) {
            assert_eq!(child.join_timeout(long)??, 2 * number, "by {method}");
        }
        let ends = Process::new(panics, ()).method(method).daemon(true).start()?;
        let end = ends.join_timeout(long).unwrap_err().to_string();
        assert!(end.contains("on purpose"), "by {method}: {end}");
    }
    assert_eq!(*sum.lock()?, 3 * 36);
    assert_eq!(numbers.try_iter().count(), 3 * 8);
    println!("ok");
    Ok(())
}
