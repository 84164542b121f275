//! `par_map`.

use std::time::Duration;

use procession_posix::futures::par_map;

use crate::tasks::SHORT;

#[test]
fn par_map_keeps_the_order_and_may_borrow() {
    let numbers: Vec<u64> = (0..100_000).collect();
    let offset = 7;
    let results = par_map(&numbers, |x| x + offset);
    assert!(results.iter().enumerate().all(|(i, x)| *x == i as u64 + 7));
    let mut numbers = numbers;
    par_map(numbers.iter_mut(), |x| *x *= 2);
    assert_eq!(numbers[500], 1000);
    assert_eq!(par_map([] as [u8; 0], |x| x).len(), 0);
    // Two threads at least, where there are two processors.
    let here = std::thread::current().id();
    let threads = par_map(0..1000, |_| {
        std::thread::sleep(Duration::from_micros(10));
        std::thread::current().id()
    });
    assert!(threads.contains(&here));
}

#[test]
fn par_map_passes_the_first_panic_on() {
    let panic = std::panic::catch_unwind(|| {
        par_map(0..1000, |x| {
            if x == 0 {
                std::thread::sleep(SHORT);
                panic!("zero");
            }
            assert!(x % 100 != 99, "panic at {x}");
            x
        })
    });
    let panic = panic.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"zero"));
    let inputs = (0..10).inspect(|x| assert!(*x != 5, "the input panics"));
    let panic = std::panic::catch_unwind(|| par_map(inputs, |x| x)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the input panics"));
}
