//! Waiting without holding up the thread.
#![cfg(feature = "async")]

use std::time::Duration;

use procession_posix::sync::Lock;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn tasks_take_turns_and_cancelled_ones_leave() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lock = Lock::new().unwrap();
        let guard = lock.acquire().unwrap();
        let cancelled = lock.clone();
        let waited =
            tokio::time::timeout(Duration::from_millis(20), cancelled.acquire_async()).await;
        assert!(waited.is_err());
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let lock = lock.clone();
                tokio::spawn(async move {
                    for _ in 0..50 {
                        let guard = lock.acquire_async().await.unwrap();
                        let guard = guard.unwrap_or_else(|error| panic!("{error}"));
                        tokio::task::yield_now().await;
                        drop(guard);
                    }
                })
            })
            .collect();
        drop(guard);
        for task in tasks {
            tokio::time::timeout(LONG, task).await.expect("a turn").unwrap();
        }
        assert!(!lock.locked());
    });
}
