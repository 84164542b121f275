//! Descriptors on their way from one process to another.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

use procession_posix::Descriptor;
use procession_posix::channel::Queue;
use procession_posix::process::Process;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Puts as many as can be on their way, and gets all of them.
fn fill_and_empty(limit: u64) -> usize {
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let (queue, sent) = (Queue::bounded(1000).unwrap(), Descriptor::from(reader));
    let mut count = 0;
    while queue.put_nowait(&sent).is_ok() {
        count += 1;
    }
    for _ in 0..count {
        let _: Descriptor = queue.get_nowait().unwrap();
    }
    // There is room again.
    queue.put_nowait(&sent).unwrap();
    let _: Descriptor = queue.get_nowait().unwrap();
    count
}

#[test]
fn as_many_as_can_be_kept_can_be_collected() {
    alone!(as_many_as_can_be_kept_can_be_collected);
    let child = Process::new(fill_and_empty, (200,)).start().unwrap();
    let count = child.join().unwrap();
    assert!((50..200).contains(&count), "{count}");
}
