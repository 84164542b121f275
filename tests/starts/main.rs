//! Starts under siege: processes of a start killed at each of their system calls and at random, thousands of starts,
//! whole trees killed, rights given up between two starts. What survives goes on or says why not, and nothing is left.
//!
//! `cargo test --test starts`; each system call: `STARTS=full` before it.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "no test uses all of it")]
mod support;

mod hazards;
mod kill;
mod many;
mod poor;
mod rights;
mod trace;
mod trees;

use std::process::ExitCode;

use procession::process::StartMethod;

use support::Test;

const TESTS: &[Test] = &[
    ("the_starter_is_killed_at_each_call", kill::starters),
    ("the_zygote_is_killed_at_each_call", kill::zygotes),
    ("the_child_is_killed_at_each_call", kill::children),
    ("one_is_killed_after_the_others_went_on", kill::lates),
    ("one_is_killed_while_another_is_kept_ready", kill::spares),
    ("daemons_while_one_is_killed_at_each_call", kill::daemons),
    ("twenty_siblings_while_one_is_killed_at_each_call", kill::crowds),
    ("four_threads_start_while_one_is_killed_at_each_call", kill::threads),
    ("a_start_that_fails_leaves_nothing", hazards::descriptors),
    ("a_starter_that_calls_exec_leaves_nothing", hazards::exec),
    ("random_kills_of_all_while_many_start", hazards::storm),
    ("what_is_given_up_is_given_up_in_children", rights::given_up),
    ("what_is_gained_and_dropped_is_dropped_in_children", rights::gained_and_dropped),
    ("landlock_holds_in_children", rights::landlock),
    ("children_in_another_pid_namespace", rights::pid_namespace),
    ("thousands_of_starts_leave_nothing", many::thousands),
    ("nothing_is_left_of_a_tree_that_was_killed", trees::killed),
    ("daemons_end_within_milliseconds_of_their_starter", trees::daemons),
    ("daemons_outlive_the_thread_that_started_them", trees::threads),
    ("filters_deny_system_calls", poor::filters),
    ("limits_are_low", poor::limits),
    ("file_systems_are_missing", poor::file_systems),
    ("a_pid_namespace_from_its_first_process", poor::containers),
    ("two_hundred_at_once", many::hundreds),
];

fn main() -> ExitCode {
    support::run_within(std::time::Duration::from_secs(if full() { 1200 } else { 120 }), TESTS)
}

/// Whether all is asked for, however long it takes.
fn full() -> bool {
    std::env::var("STARTS").is_ok_and(|words| words == "full")
}

/// All ways to start a process.
const METHODS: [StartMethod; 3] = [StartMethod::Zygote, StartMethod::Spawn, StartMethod::Fork];
/// Those that need a zygote.
const EXECUTING: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

/// The children of all threads of a process.
fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

/// The processes that a zygote has started, without those that it keeps ready.
fn started_by(zygote: u32) -> Vec<u32> {
    let mut children = children_of(zygote);
    children.retain(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() != "spare")
    });
    children
}

/// What many children do.
fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// What others do until they are killed.
fn sleeper() {
    support::sleep_forever()
}

/// Gives this process names of its own: files of /tmp and /dev/shm, sockets, segments. Without rights it shares those of
/// others, and leftovers are not looked for.
fn alone() {
    // SAFETY: takes numbers and strings that end in zero.
    let own = unsafe {
        let flags = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET;
        let none: *const libc::c_char = std::ptr::null();
        let mount = |path: &std::ffi::CStr| {
            let kind = c"tmpfs".as_ptr();
            libc::mount(kind, path.as_ptr(), kind, 0, none.cast()) == 0
        };
        libc::unshare(flags) == 0
            && libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast())
                == 0
            && mount(c"/tmp")
            && mount(c"/dev/shm")
    };
    if own {
        std::fs::write("/tmp/alone", "").unwrap();
    }
}

/// Whether no file, socket name or segment is left in what [`alone`] made.
fn nothing_left() -> Result<(), String> {
    if !std::path::Path::new("/tmp/alone").exists() {
        return Ok(());
    }
    for dir in ["/tmp", "/dev/shm"] {
        for entry in std::fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name();
            if name != "alone" {
                return Err(format!("{name:?} is left in {dir}"));
            }
        }
    }
    let sockets = std::fs::read_to_string("/proc/self/net/unix").unwrap();
    if let Some(named) = sockets.lines().find(|line| line.contains('@')) {
        return Err(format!("a socket is left: {named}"));
    }
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    match segments.lines().nth(1) {
        Some(segment) => Err(format!("a segment is left: {segment}")),
        None => Ok(()),
    }
}
