//! Processes, as their users meet them: real ones, by each way to start.

#[macro_use]
#[path = "../support/methods.rs"]
mod methods;

mod crossing;
#[path = "../support/gone.rs"]
mod gone;
mod programs;
mod results;
#[path = "../support/mod.rs"]
mod support;
mod surroundings;

use std::time::Instant;

use support::LONG;

/// Waits for a condition that nobody announces.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::yield_now();
    }
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn open_descriptors() -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = std::fs::read_link(entry.path()).ok()?;
            Some(format!("{} {}", entry.file_name().to_string_lossy(), target.display()))
        })
        .filter(|fd| !fd.contains("/proc/"))
        .collect();
    all.sort();
    all
}

fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn status_line(key: &str) -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find(|line| line.starts_with(key)).unwrap().to_string()
}
