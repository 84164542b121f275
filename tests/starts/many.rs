//! Thousands of starts leave nothing, and hundreds at once work.

use procession::Process;
use procession::process::StartMethod;

use crate::support::{Child, LONG, eventually};
use crate::{METHODS, add, alone, children_of, full, nothing_left, started_by};

/// Private memory of a process that is not shared with files, in KiB.
fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// What a process and its zygote have.
fn burden() -> Vec<(usize, u64)> {
    let me = std::process::id();
    let mut family = children_of(me);
    family.insert(0, me);
    family.iter().map(|pid| (descriptors(*pid), anonymous_kib(*pid))).collect()
}

fn own_descriptors() -> usize {
    descriptors(std::process::id()) - 1
}

/// Starts and joins, with small and large results, some by their end and not by `join`.
fn some(method: StartMethod, count: u64) {
    for number in 0..count {
        let child = Process::new(add, (number, 1)).method(method).start().unwrap();
        match number % 16 {
            // Nobody asks any more.
            0 => drop(child),
            1 => {
                child.kill().unwrap();
                let _ = child.join_timeout(LONG);
            }
            2 => {
                eventually("its end", || !child.is_alive());
                assert_eq!(child.exitcode(), Some(0));
            }
            3 => {
                let large = Process::new(|| vec![7u8; 5000], ()).method(method).start().unwrap();
                assert_eq!(large.join_timeout(LONG).unwrap().len(), 5000);
                assert_eq!(child.join_timeout(LONG), Ok(number + 1));
            }
            _ => assert_eq!(child.join_timeout(LONG), Ok(number + 1)),
        }
    }
}

/// Waits until no process of an earlier start is left.
fn settle(method: StartMethod) {
    let zygotes = if method == StartMethod::Fork { 0 } else { 1 };
    eventually("all have been reaped", || {
        // A start sweeps.
        let child = Process::new(add, (1, 1)).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG), Ok(2));
        let mine = children_of(std::process::id());
        mine.len() == zygotes && mine.iter().all(|zygote| started_by(*zygote).is_empty())
    });
}

pub fn thousands() {
    alone();
    let rounds = if full() { 10_000 } else { 1_000 };
    for method in METHODS {
        let rounds = if method == StartMethod::Spawn { rounds / 4 } else { rounds };
        Child::start(|| {
            some(method, 200);
            settle(method);
            let before = burden();
            let begin = std::time::Instant::now();
            some(method, rounds);
            settle(method);
            let after = burden();
            println!("    {method:?}: {before:?} {after:?} {:?}", begin.elapsed());
            for (before, after) in before.iter().zip(&after) {
                // One that is kept ready has some descriptors, and is there or not.
                let descriptors = (before.0, after.0);
                assert!(after.0 <= before.0 + 3, "{method:?}: {descriptors:?} descriptors");
                // The allocator's own ways: some pages more or less.
                assert!(after.1 <= before.1 + 256, "{method:?}: {before:?} KiB, then {after:?}");
            }
        })
        .finish();
    }
    nothing_left().unwrap();
}

fn wait_for(file: String) -> usize {
    // Ends with the writer.
    let _ = std::fs::read(file);
    own_descriptors()
}

pub fn hundreds() {
    for method in METHODS {
        Child::start(|| {
            let gate = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
            let number = std::os::fd::AsRawFd::as_raw_fd(&gate.0);
            let file = format!("/proc/{}/fd/{number}", std::process::id());
            let alone = Process::new(own_descriptors, ()).method(method).start().unwrap();
            let alone = alone.join_timeout(LONG).unwrap();
            let start = |_| Process::new(wait_for, (file.clone(),)).method(method).start().unwrap();
            let children: Vec<_> = (0..200).map(start).collect();
            assert!(children.iter().all(|child| child.is_alive()));
            if method == StartMethod::Fork {
                // Each has inherited the writer, too.
                for child in &children {
                    child.kill().unwrap();
                    assert!(child.join_timeout(LONG).is_err());
                }
                return;
            }
            drop(gate);
            for child in &children {
                assert_eq!(child.join_timeout(LONG), Ok(alone), "descriptors under {method:?}");
            }
        })
        .finish();
    }
}
