//! What a child has of its starter: names, state, streams, handles; and nothing else.

use std::time::Duration;

use procession_posix::channel::Queue;
use procession_posix::process::{
    CurrentProcess, ParentProcess, Process, StartMethod, active_children, current_process,
    keep_warm, parent_process,
};
use procession_posix::sync::{AcquireError, Lock};

use crate::gone::gone;
use crate::support::{Bound, LONG};
use crate::{add, children_of, eventually, open_descriptors, status_line, wait_for_ever};

under_each_method! {
    names_are_paths
    nothing_leaks
    a_daemon_dies_with_its_starter_and_others_do_not
    the_state_of_the_starter_crosses
    standard_streams_cross
    children_have_children
    handles_travel
    a_killed_holder_is_reported_to_the_next
}

fn who_am_i() -> (CurrentNames, u32) {
    (names(), std::process::id())
}

type CurrentNames = (String, u32, bool, Option<(String, u32)>);

fn names() -> CurrentNames {
    let CurrentProcess { name, pid, daemon } = current_process();
    let parent = parent_process().map(|ParentProcess { name, pid, .. }| (name, pid));
    (name, pid, daemon, parent)
}

fn names_are_paths(method: StartMethod) {
    let me = current_process();
    let child = Bound(Process::new(who_am_i, ()).name("anna").method(method).start().unwrap());
    let (names, pid) = child.join_timeout(LONG).unwrap();
    assert_eq!(names, ("anna".into(), child.pid(), false, Some((me.name.clone(), me.pid))));
    assert_eq!(pid, child.pid());
    assert_eq!(child.name(), "anna");

    fn nested() -> (String, String) {
        let child = Process::new(|| current_process().name, ()).start().unwrap();
        (current_process().name, child.join_timeout(LONG).unwrap())
    }
    let child = Bound(Process::new(nested, ()).method(method).start().unwrap());
    let (name, nested) = child.join_timeout(LONG).unwrap();
    assert!(name.starts_with("Process-"), "{name}");
    assert_eq!(nested, format!("{name}:1"));

    // Without a choice of its own a process is a daemon if its starter is one.
    let inherit = || {
        let child = Process::new(|| current_process().daemon, ()).start().unwrap();
        child.join_timeout(LONG).unwrap()
    };
    let daemon = Process::new(inherit, ()).daemon(true).allow_children(true);
    let daemon = daemon.method(method).start().unwrap();
    assert!(daemon.is_daemon());
    assert!(daemon.join_timeout(LONG).unwrap());
}

/// In a process of its own, for the tests beside this one open and close descriptors too.
fn nothing_leaks(method: StartMethod) {
    fn many(method: StartMethod, times: u32) {
        let start = || Process::new(add, (1, 2)).method(method).start().unwrap();
        start().join_timeout(LONG).unwrap();
        let before = open_descriptors();
        let (mut handles, mut detached) = (Vec::new(), 0);
        for round in 0..times {
            match round % 4 {
                0 => handles.push(start()),
                1 => {
                    detached += 1;
                    drop(start());
                }
                _ => assert_eq!(start().join_timeout(LONG), Ok(3)),
            }
        }
        assert!(detached > 0);
        for handle in &handles {
            assert_eq!(handle.join_timeout(LONG), Ok(3));
        }
        drop(handles);
        keep_warm(0).unwrap();
        // The zygote, if there is one, and nobody else; the last detached ones may still run.
        let zygotes = usize::from(method != StartMethod::Fork);
        eventually("the end of all children", || {
            let _ = start().join_timeout(LONG);
            assert!(active_children().len() <= detached);
            let children = children_of(std::process::id());
            children.len() == zygotes && children.iter().all(|pid| children_of(*pid).is_empty())
        });
        assert_eq!(open_descriptors(), before);
    }
    let times = if method == StartMethod::Spawn { 100 } else { 1000 };
    let alone = Process::new(many, (method, times)).method(StartMethod::Zygote).start().unwrap();
    alone.join_timeout(LONG).unwrap();

    // A child has the standard streams and what its library needs, and nothing of its starter's.
    let file = std::fs::File::open("/dev/zero").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    if method != StartMethod::Fork {
        let child = Bound(Process::new(open_descriptors, ()).method(method).start().unwrap());
        let open = child.join_timeout(LONG).unwrap();
        let foreign: Vec<&String> = open
            .iter()
            .filter(|fd| !["0 ", "1 ", "2 "].iter().any(|std| fd.starts_with(std)))
            .filter(|fd| !["memfd:procession", "socket:", "[pidfd]"].iter().any(|o| fd.contains(o)))
            .collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }
}

fn a_daemon_dies_with_its_starter_and_others_do_not(method: StartMethod) {
    fn starter(method: StartMethod) -> (u32, u32) {
        let daemon = Process::new(wait_for_ever, ()).daemon(true).method(method).start().unwrap();
        let other = Process::new(wait_for_ever, ()).daemon(false).method(method).start().unwrap();
        other.detach();
        (daemon.pid(), other.pid())
    }
    fn starter_to_be_killed(method: StartMethod, path: String) {
        let pids = starter(method);
        std::fs::write(format!("{path}.new"), format!("{} {}", pids.0, pids.1)).unwrap();
        std::fs::rename(format!("{path}.new"), path).unwrap();
        wait_for_ever();
    }
    fn check(daemon: u32, other: u32) {
        eventually("the daemon's end", || gone(daemon));
        let other_lives = !gone(other);
        let other = rustix::process::Pid::from_raw(other as i32).unwrap();
        let _ = rustix::process::kill_process(other, rustix::process::Signal::KILL);
        assert!(other_lives, "a process that is no daemon was killed");
    }
    let alone = Process::new(starter, (method,)).method(StartMethod::Zygote);
    let child = Bound(alone.start().unwrap());
    let (daemon, other) = child.join_timeout(LONG).unwrap();
    check(daemon, other);

    let path = std::env::temp_dir()
        .join(format!("procession-{}-{method:?}", std::process::id()))
        .to_string_lossy()
        .into_owned();
    let child = Process::new(starter_to_be_killed, (method, path.clone()));
    let child = Bound(child.method(StartMethod::Zygote).start().unwrap());
    eventually("the starter's report", || std::path::Path::new(&path).exists());
    let report = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (daemon, other) = report.split_once(' ').unwrap();
    child.kill().unwrap();
    check(daemon.parse().unwrap(), other.parse().unwrap());
}

fn state() -> Vec<String> {
    let mut state: Vec<String> =
        ["Umask", "SigIgn", "SigBlk", "Cpus_allowed:"].map(status_line).into();
    state.push(std::env::var("PROCESSION_TEST").unwrap_or_default());
    state.push(std::env::current_dir().unwrap().display().to_string());
    state.push(format!("{:?}", rustix::process::getrlimit(rustix::process::Resource::Core)));
    state.push(format!("{:?}", rustix::process::getpriority_process(None)));
    state.push(format!("{:?}", rustix::process::getpgrp()));
    state.push(format!("{:?}", std::env::args_os().next()));
    state.push(std::env::vars().filter(|(name, _)| name == "PROCESSION_START").count().to_string());
    state
}

/// In a process of its own, since it changes what others would see.
fn the_state_of_the_starter_crosses(method: StartMethod) {
    fn changed(method: StartMethod) {
        let ask = || Process::new(state, ()).method(method).start().unwrap().join_timeout(LONG);
        assert_eq!(ask().unwrap(), state(), "before");
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var("PROCESSION_TEST", "a=b\n") };
        std::env::set_current_dir("/").unwrap();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
        let core = rustix::process::Rlimit { current: Some(0), maximum: Some(4096) };
        rustix::process::setrlimit(rustix::process::Resource::Core, core).unwrap();
        rustix::process::setpriority_process(None, 3).unwrap();
        rustix::process::setpgid(None, None).unwrap();
        // SAFETY: sets a signal to be ignored, another to be blocked, and one CPU; no handlers.
        unsafe {
            libc::signal(libc::SIGUSR1, libc::SIG_IGN);
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            let mut cpus: libc::cpu_set_t = std::mem::zeroed();
            let now = libc::sched_getcpu() as usize;
            libc::CPU_SET(now, &mut cpus);
            libc::sched_setaffinity(0, size_of_val(&cpus), &cpus);
        }
        assert_eq!(ask().unwrap(), state(), "after");
    }
    let alone = Process::new(changed, (method,)).method(StartMethod::Zygote).start().unwrap();
    alone.join_timeout(LONG).unwrap();
}

fn standard_streams_cross(method: StartMethod) {
    fn redirected(method: StartMethod) -> Vec<u8> {
        let file = rustix::fs::memfd_create("out", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::stdio::dup2_stdout(&file).unwrap();
        print!("before ");
        let child = Process::new(|| print!("child "), ()).method(method).start().unwrap();
        child.join_timeout(LONG).unwrap();
        print!("after");
        std::io::Write::flush(&mut std::io::stdout()).unwrap();
        let mut text = vec![0; 100];
        let len = rustix::io::pread(&file, &mut text, 0).unwrap();
        text.truncate(len);
        // Closed streams are /dev/null in a child.
        // SAFETY: nobody in this process owns standard input.
        unsafe { rustix::io::close(0) };
        let child = Process::new(
            || std::fs::read_link("/proc/self/fd/0").map(|path| path.display().to_string()).ok(),
            (),
        );
        let path = child.method(method).start().unwrap().join_timeout(LONG).unwrap();
        if method != StartMethod::Fork {
            assert_eq!(path.as_deref(), Some("/dev/null"));
        }
        text
    }
    let alone = Process::new(redirected, (method,)).method(StartMethod::Zygote);
    let child = Bound(alone.start().unwrap());
    let text = child.join_timeout(LONG).unwrap();
    let text = String::from_utf8(text).unwrap();
    // Forking flushes first; otherwise the starter's own buffer comes whenever it is full.
    let expected =
        if method == StartMethod::Fork { "before child after" } else { "child before after" };
    assert_eq!(text, expected);
}

fn children_have_children(method: StartMethod) {
    fn depth(method: StartMethod, left: u32) -> u32 {
        if left == 0 {
            return 0;
        }
        let child = Process::new(depth, (method, left - 1)).method(method).start().unwrap();
        1 + child.join_timeout(LONG).unwrap()
    }
    let child = Bound(Process::new(depth, (method, 3)).method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), 3);
}

fn handles_travel(method: StartMethod) {
    fn square(
        numbers: Queue<u32>,
        squares: Queue<u32>,
        lock: Lock,
    ) -> procession_posix::Result<u32> {
        let mut count = 0;
        while let Ok(number) = numbers.get() {
            let _held = lock.acquire()?;
            squares.put(&(number * number))?;
            count += 1;
        }
        Ok(count)
    }
    fn through_a_child(
        method: StartMethod,
        numbers: Queue<u32>,
        squares: Queue<u32>,
        lock: Lock,
    ) -> procession_posix::Result<u32> {
        let child = Process::new(square, (numbers, squares, lock)).method(method).start()?;
        child.join_timeout(LONG)?
    }
    fn make() -> Queue<String> {
        let queue = Queue::bounded(4).unwrap();
        queue.put(&"made elsewhere".to_string()).unwrap();
        queue
    }
    let numbers = Queue::bounded(8).unwrap();
    let squares = Queue::bounded(128).unwrap();
    let lock = Lock::new().unwrap();
    let args = (numbers.clone(), squares.clone(), lock.clone());
    let near = Bound(Process::new(square, args.clone()).method(method).start().unwrap());
    let args = (method, args.0, args.1, args.2);
    let far = Bound(Process::new(through_a_child, args).method(method).start().unwrap());
    for number in 0..100 {
        numbers.put_timeout(&number, LONG).unwrap();
    }
    numbers.close();
    let done = near.join_timeout(LONG).unwrap().unwrap() + far.join_timeout(LONG).unwrap().unwrap();
    assert_eq!(done, 100);
    let mut all: Vec<u32> = (0..100).map(|_| squares.get_timeout(LONG).unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..100).map(|n| n * n).collect::<Vec<u32>>());

    let child = Bound(Process::new(make, ()).method(method).start().unwrap());
    let made = child.join_timeout(LONG).unwrap();
    assert_eq!(made.get_timeout(LONG).unwrap(), "made elsewhere");
}

fn a_killed_holder_is_reported_to_the_next(method: StartMethod) {
    fn hold(lock: Lock, held: Queue<u8>) {
        let _guard = lock.acquire().unwrap();
        held.put(&1).unwrap();
        wait_for_ever();
    }
    let (lock, held) = (Lock::new().unwrap(), Queue::bounded(1).unwrap());
    let args = (lock.clone(), held.clone());
    let holder = Bound(Process::new(hold, args).method(method).start().unwrap());
    held.get_timeout(LONG).unwrap();
    let waiting = lock.acquire_timeout(Duration::from_millis(10));
    assert!(matches!(waiting, Err(AcquireError::TimedOut)), "its holder lives");
    holder.kill().unwrap();
    assert!(matches!(lock.acquire_timeout(LONG), Err(AcquireError::OwnerDied(_))));
    assert_eq!(holder.exitcode(), Some(-9));
}
