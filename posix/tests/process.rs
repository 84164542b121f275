//! Processes, as their users meet them: real ones, by each way to start.

#[path = "support/bound.rs"]
mod bound;
#[path = "support/gone.rs"]
mod gone;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bound::Bound;
use gone::gone;
use procession_posix::channel::Queue;
use procession_posix::process::{
    CurrentProcess, JoinError, ParentProcess, Process, StartError, StartMethod, active_children,
    current_process, keep_warm, parent_process, set_start_method,
};
use procession_posix::sync::{AcquireError, Lock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const LONG: Duration = Duration::from_secs(60);

/// Runs `body` under each method. A test has two threads, so for `Fork` it runs in a process that has one.
fn under_each_method(body: fn(StartMethod), name: &str) {
    body(StartMethod::Zygote);
    body(StartMethod::Spawn);
    let test = TESTS.iter().position(|(known, _)| *known == name).unwrap();
    let alone = Process::new(run_forking, (test,)).name("alone").method(StartMethod::Zygote);
    Bound(alone.start().unwrap()).join_timeout(LONG).unwrap();
}

fn run_forking(test: usize) {
    TESTS[test].1(StartMethod::Fork);
}

macro_rules! under_each_method {
    ($($name:ident)*) => {
        const TESTS: &[(&str, fn(StartMethod))] = &[$((stringify!($name), $name)),*];
        mod each_method {
            $(#[test] fn $name() { super::under_each_method(super::$name, stringify!($name)) })*
        }
    };
}

under_each_method! {
    arguments_and_results_cross
    large_arguments_and_results_cross
    a_panic_is_told_with_its_message
    exits_and_signals_have_their_codes
    names_are_paths
    the_sentinel_tells_the_end
    a_result_that_does_not_decode_is_an_error
    nothing_leaks
    a_daemon_dies_with_its_starter_and_others_do_not
    the_state_of_the_starter_crosses
    standard_streams_cross
    any_thread_may_wait
    children_have_children
    handles_travel
    a_killed_holder_is_reported_to_the_next
}

/// Waits for a condition that nobody announces.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::yield_now();
    }
}

fn readable_within(fd: impl AsFd, time: Duration) -> bool {
    let time = Timespec::try_from(time).unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)).unwrap() == 1
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn arguments_and_results_cross(method: StartMethod) {
    let child = Bound(Process::new(add, (2, 3)).method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), 5);
    assert_eq!(child.join().unwrap(), 5, "joining twice gives the same");
    assert_eq!(child.exitcode(), Some(0));
    assert!(!child.is_alive());

    let none = Bound(Process::new(|| (), ()).method(method).start().unwrap());
    none.join_timeout(LONG).unwrap();
    let eight =
        |a: u8, b: i64, c: String, d: Vec<u8>, e: bool, f: f64, g: (u8, u8), h: Option<u8>| {
            (h, g, f, e, d, c, b, a)
        };
    let args = (1, -2, "drei".to_string(), vec![4], true, 6.5, (7, 7), Some(8));
    let child = Bound(Process::new(eight, args).method(method).start().unwrap());
    let back = (Some(8), (7, 7), 6.5, true, vec![4], "drei".to_string(), -2, 1);
    assert_eq!(child.join_timeout(LONG).unwrap(), back);
}

fn large_arguments_and_results_cross(method: StartMethod) {
    fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }
    for size in [900, 961, 4096, 127 << 10, 129 << 10, 300 << 10, 5 << 20] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let child = Process::new(reverse, (bytes.clone(),)).method(method).start().unwrap();
        let child = Bound(child);
        assert_eq!(child.join_timeout(LONG).unwrap(), reverse(bytes), "{size} bytes");
    }
}

fn a_panic_is_told_with_its_message(method: StartMethod) {
    fn fail(what: String) {
        panic!("no {what} today");
    }
    let child = Process::new(fail, ("bread".to_string(),)).method(method).start().unwrap();
    let child = Bound(child);
    match child.join_timeout(LONG) {
        Err(JoinError::Panicked { message, location, .. }) => {
            assert_eq!(message, "no bread today");
            assert!(location.unwrap().contains("process.rs:"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(child.exitcode(), Some(101));

    let again = || -> () { std::panic::resume_unwind(Box::new("carried on")) };
    let child = Bound(Process::new(again, ()).method(method).start().unwrap());
    match child.join_timeout(LONG) {
        Err(JoinError::Panicked { message, .. }) => assert_eq!(message, "carried on"),
        other => panic!("{other:?}"),
    }

    // A panic while panicking aborts; the words are there all the same.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("twice");
        }
    }
    let twice = || {
        let _bomb = Bomb;
        panic!("once");
    };
    let child = Bound(Process::new(twice, ()).method(method).start().unwrap());
    let end: Result<(), _> = child.join_timeout(LONG);
    assert!(matches!(end, Err(JoinError::Panicked { .. })), "{end:?}");
    assert_eq!(child.exitcode(), Some(-6));

    // Another thread's panic is not the target's.
    let side = || {
        let _ = std::thread::spawn(|| panic!("aside")).join();
        7
    };
    let child = Bound(Process::new(side, ()).method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), 7);
}

fn exits_and_signals_have_their_codes(method: StartMethod) {
    for code in [1, 3, 255] {
        let leave = |code: i32| -> u8 { std::process::exit(code) };
        let child = Bound(Process::new(leave, (code,)).method(method).start().unwrap());
        let result = child.join_timeout(LONG);
        assert!(
            matches!(&result, Err(JoinError::Exited { code: c, .. }) if *c == code),
            "{result:?}"
        );
        assert_eq!(child.exitcode(), Some(code));
    }
    // Leaving with 0 is a success where there is nothing to hand out, and none where there is.
    let leave = || -> () { std::process::exit(0) };
    let child = Bound(Process::new(leave, ()).method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG), Ok(()));
    let leave = || -> u8 { std::process::exit(0) };
    let child = Bound(Process::new(leave, ()).method(method).start().unwrap());
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Exited { code: 0, .. })));

    let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
    assert!(child.is_alive());
    assert_eq!(child.exitcode(), None);
    assert!(matches!(child.join_timeout(Duration::ZERO), Err(JoinError::TimedOut { .. })));
    let before = Instant::now();
    let result = child.join_timeout(Duration::from_millis(30));
    assert!(matches!(result, Err(JoinError::TimedOut { .. })));
    assert!(before.elapsed() >= Duration::from_millis(30));
    child.terminate().unwrap();
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Killed { signal: 15, .. })));
    assert_eq!(child.exitcode(), Some(-15));
    child.terminate().unwrap();
    child.kill().unwrap();

    let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
    child.kill().unwrap();
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Killed { signal: 9, .. })));
    assert_eq!(child.exitcode(), Some(-9));
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

fn the_sentinel_tells_the_end(method: StartMethod) {
    let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
    assert!(!readable_within(child.sentinel(), Duration::from_millis(20)));
    child.kill().unwrap();
    assert!(readable_within(child.sentinel(), LONG));
    assert!(!child.is_alive());
    assert_eq!(child.exitcode(), Some(-9), "known as soon as the sentinel says so");
}

/// Encodes as a number, and never decodes.
#[derive(serde::Serialize, Debug)]
struct OneWay(u8);

impl<'de> serde::Deserialize<'de> for OneWay {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("one way only"))
    }
}

/// Never encodes.
#[derive(serde::Deserialize, Debug)]
struct Stuck;

impl serde::Serialize for Stuck {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("stuck"))
    }
}

fn a_result_that_does_not_decode_is_an_error(method: StartMethod) {
    let child = Bound(Process::new(|| OneWay(1), ()).method(method).start().unwrap());
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Result { .. })));
    let child = Bound(Process::new(|| Stuck, ()).method(method).start().unwrap());
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Result { .. })));
    let child = Process::new(|_: OneWay| (), (OneWay(1),)).method(method).start().unwrap();
    let child = Bound(child);
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::NotBegun { .. })));
    assert_eq!(child.exitcode(), Some(126));
    let error = Process::new(|_: Stuck| (), (Stuck,)).method(method).start().unwrap_err();
    assert!(matches!(error, StartError::Arguments { .. }), "{error}");
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

fn status_line(key: &str) -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find(|line| line.starts_with(key)).unwrap().to_string()
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

fn any_thread_may_wait(method: StartMethod) {
    let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
    std::thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..8).map(|_| scope.spawn(|| child.join_timeout(LONG).unwrap_err())).collect();
        child.terminate().unwrap();
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), JoinError::Killed { signal: 15, .. }));
        }
    });
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

// What follows changes or breaks the process that it runs in, so each runs in one of its own.

/// Runs `body` in a process of its own and hands on its panic.
fn in_a_process_of_its_own(body: fn(), name: &str) {
    let test = BROKEN.iter().position(|(known, _)| *known == name).unwrap();
    let run = |test: usize| {
        // Whatever the default is elsewhere: most of them are about the zygote.
        set_start_method(StartMethod::Zygote);
        BROKEN[test].1();
    };
    let alone = Process::new(run, (test,)).name(name).method(StartMethod::Zygote);
    let _ = body;
    Bound(alone.start().unwrap()).join_timeout(LONG).unwrap();
}

macro_rules! broken_surroundings {
    ($($name:ident)*) => {
        const BROKEN: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
        mod surroundings {
            $(#[test] fn $name() { super::in_a_process_of_its_own(super::$name, stringify!($name)) })*
        }
    };
}

broken_surroundings! {
    fork_is_refused_beside_threads
    a_killed_zygote_is_replaced_and_nobody_waits_for_it
    given_up_rights_are_given_up_in_children
    no_new_privileges_hold_in_children
    without_pidfds_a_start_is_an_error
    without_free_descriptors_a_start_is_an_error
    a_full_process_table_is_an_error
    a_small_stack_is_enough_to_start
    many_threads_start_at_once
    a_forked_process_has_a_zygote_of_its_own
    an_early_zygote_knows_main
    a_number_of_before_is_nobody_elses
    small_limits_of_file_size_are_no_trap
    an_early_signal_is_not_lost
}

fn zygote() -> u32 {
    Process::new(add, (1, 1)).start().unwrap().join_timeout(LONG).unwrap();
    children_of(std::process::id())[0]
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn fork_is_refused_beside_threads() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv());
    let error = Process::new(add, (1, 2)).method(StartMethod::Fork).start().unwrap_err();
    assert!(matches!(error, StartError::Threads), "{error}");
    drop(stop);
    let _ = thread.join().unwrap();
    // The kernel may take a moment to forget a thread that was joined.
    eventually("one thread", || {
        Process::new(add, (1, 2)).method(StartMethod::Fork).start().is_ok_and(|c| c.join() == Ok(3))
    });
}

fn a_killed_zygote_is_replaced_and_nobody_waits_for_it() {
    let first = zygote();
    let living = Bound(Process::new(wait_for_ever, ()).daemon(false).start().unwrap());
    let daemon = Bound(Process::new(wait_for_ever, ()).daemon(true).start().unwrap());
    kill(first);
    // The daemon goes with its zygote, or has not even begun; how it went is known from the kernel or is lost.
    match daemon.join_timeout(LONG).unwrap_err() {
        JoinError::Lost { .. } => assert_eq!(daemon.exitcode(), Some(255)),
        JoinError::Killed { signal: 9, .. } => assert_eq!(daemon.exitcode(), Some(-9)),
        JoinError::NotBegun { .. } => assert!(matches!(daemon.exitcode(), Some(126 | 255))),
        other => panic!("{other:?}"),
    }
    assert!(living.is_alive());
    assert_eq!(living.exitcode(), None);
    let timed_out = living.join_timeout(Duration::from_millis(10));
    assert!(matches!(timed_out, Err(JoinError::TimedOut { .. })));
    zygote();
    let second = *children_of(std::process::id()).last().unwrap();
    assert_ne!(first, second);
    eventually("the reaping of the first zygote", || {
        zygote();
        children_of(std::process::id()) == [second]
    });
    living.kill().unwrap();
    let end = living.join_timeout(LONG).unwrap_err();
    assert!(matches!(end, JoinError::Lost { .. } | JoinError::Killed { signal: 9, .. }), "{end:?}");
    // A result that was left before the status was lost is not lost.
    let slow = |signal: String| {
        while !std::path::Path::new(&signal).exists() {
            std::thread::yield_now();
        }
        42
    };
    let path = std::env::temp_dir().join(format!("procession-slow-{}", std::process::id()));
    let path = path.to_string_lossy().into_owned();
    let slow = Bound(Process::new(slow, (path.clone(),)).start().unwrap());
    kill(second);
    std::fs::write(&path, "").unwrap();
    let result = slow.join_timeout(LONG);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(result, Ok(42));
}

fn given_up_rights_are_given_up_in_children() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root has rights to give up");
    }
    let ids = || status_line("Uid:") + &status_line("Gid:") + &status_line("CapEff:");
    let ask = |method| {
        let child = Process::new(
            || status_line("Uid:") + &status_line("Gid:") + &status_line("CapEff:"),
            (),
        );
        child.method(method).start().unwrap().join_timeout(LONG).unwrap()
    };
    let first = zygote();
    assert_eq!(ask(StartMethod::Zygote), ids());
    // SAFETY: gives up rights; this process has one thread.
    unsafe {
        assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
        assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
    }
    assert!(ids().contains("65534"));
    assert_eq!(ask(StartMethod::Zygote), ids());
    assert_eq!(ask(StartMethod::Spawn), ids());
    eventually("the end of the first zygote", || gone(first));
}

fn no_new_privileges_hold_in_children() {
    zygote();
    rustix::thread::set_no_new_privs(true).unwrap();
    let child = Process::new(|| status_line("NoNewPrivs:"), ()).start().unwrap();
    assert!(child.join_timeout(LONG).unwrap().ends_with('1'));
}

/// Makes the kernel answer `call` with `error` from now on.
fn forbid(call: libc::c_long, error: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [
        libc::sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: EQUALS, jt: 0, jf: 1, k: call as u32 },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | error as u32 },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    rustix::thread::set_no_new_privs(true).unwrap();
    // SAFETY: the kernel copies the program, which is valid during the call.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn without_pidfds_a_start_is_an_error() {
    let before = zygote();
    forbid(libc::SYS_pidfd_open, libc::EPERM);
    for method in [StartMethod::Zygote, StartMethod::Spawn, StartMethod::Fork] {
        let error = Process::new(add, (1, 2)).method(method).start().unwrap_err();
        assert!(matches!(error, StartError::NoPidfd(_)), "{error:?}");
    }
    eventually("the end of the zygote", || gone(before));
    let children = children_of(std::process::id());
    assert!(children.iter().all(|pid| gone(*pid)), "{children:?}");
}

fn without_free_descriptors_a_start_is_an_error() {
    zygote();
    let used = open_descriptors().len() as u64;
    for spare in 0..6 {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let small = rustix::process::Rlimit { current: Some(used + 1 + spare), ..limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, small).unwrap();
        let started = Process::new(|| (), ()).start();
        let joined = started.map(|child| child.join_timeout(LONG));
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        match joined {
            Ok(joined) => joined.unwrap(),
            Err(StartError::Resource { what, source }) => {
                assert_eq!(source.raw_os_error(), Some(libc::EMFILE), "{what}: {source}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    let child = Process::new(add, (1, 2)).start().unwrap();
    assert_eq!(child.join_timeout(LONG), Ok(3));
}

fn a_full_process_table_is_an_error() {
    if rustix::process::geteuid().is_root() {
        // The limit does not hold for root.
        // SAFETY: gives up rights; this process has one thread.
        unsafe {
            assert_eq!(libc::setresgid(65533, 65533, 65533), 0);
            assert_eq!(libc::setresuid(65533, 65533, 65533), 0);
        }
    }
    zygote();
    let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let zygote = children_of(std::process::id())[0];
    let pid = rustix::process::Pid::from_raw(zygote as i32);
    rustix::process::prlimit(pid, rustix::process::Resource::Nproc, limit).unwrap();
    let error = Process::new(add, (1, 2)).start().unwrap_err();
    assert!(matches!(&error, StartError::Fork(e) if e.raw_os_error() == Some(libc::EAGAIN)));
    let error = Process::new(add, (1, 2)).method(StartMethod::Spawn).start().unwrap_err();
    assert!(matches!(&error, StartError::Execute(e) if e.raw_os_error() == Some(libc::EAGAIN)));
}

fn a_small_stack_is_enough_to_start() {
    let starter = std::thread::Builder::new().stack_size(64 << 10).spawn(|| {
        for method in [StartMethod::Zygote, StartMethod::Spawn] {
            let child = Process::new(add, (1, 2)).method(method).start().unwrap();
            assert_eq!(child.join_timeout(LONG), Ok(3));
        }
    });
    starter.unwrap().join().unwrap();
}

fn many_threads_start_at_once() {
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for number in 0..20 {
                    let child = Process::new(add, (thread, number)).start().unwrap();
                    assert_eq!(child.join_timeout(LONG), Ok(thread + number));
                }
            });
        }
    });
}

fn a_forked_process_has_a_zygote_of_its_own() {
    let ours = zygote();
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => {
            let theirs = std::panic::catch_unwind(zygote).unwrap_or(0);
            // SAFETY: ends the process.
            unsafe { libc::_exit(if theirs != 0 && theirs != ours { 0 } else { 1 }) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: waits for our own child.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert_eq!(status, 0);
        }
    }
    assert_eq!(zygote(), ours);
}

fn an_early_zygote_knows_main() {
    procession_posix::process::init();
    let early = children_of(std::process::id())[0];
    assert_eq!(zygote(), early);
    procession_posix::process::init();
    assert_eq!(children_of(std::process::id()), [early]);
    let child = Process::new(open_descriptors, ()).start().unwrap();
    let open = child.join_timeout(LONG).unwrap();
    // Numbers of the program's own files are kept for nobody.
    let used = open.iter().filter(|file| !file.ends_with(" /dev/null")).count();
    assert!(used <= 5 + 2, "{open:?}");
}

/// A program may have opened a file before it calls `init`.
static LOG: std::sync::OnceLock<std::fs::File> = std::sync::OnceLock::new();

fn a_number_of_before_is_nobody_elses() {
    use std::io::Write;
    fn write() -> String {
        LOG.get().unwrap().write_all(b"from a child").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(LOG.get().unwrap());
        std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap().display().to_string()
    }
    let file = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = LOG.get_or_init(|| file.into());
    procession_posix::process::init();
    for _ in 0..4 {
        let child = Bound(Process::new(write, ()).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), "/dev/null");
    }
    assert_eq!(file.metadata().unwrap().len(), 0);
}

fn small_limits_of_file_size_are_no_trap() {
    let limit = rustix::process::Rlimit { current: Some(64 << 10), maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    let child = Process::new(|| vec![1u8; 1 << 20], ()).start().unwrap();
    let result = child.join_timeout(LONG);
    assert!(matches!(&result, Err(JoinError::Result { .. })), "{result:?}");
    let child = Process::new(|| vec![1u8; 1 << 10], ()).start().unwrap();
    assert_eq!(child.join_timeout(LONG).unwrap().len(), 1 << 10);
}

fn an_early_signal_is_not_lost() {
    for method in [StartMethod::Zygote, StartMethod::Spawn, StartMethod::Fork] {
        for _ in 0..20 {
            let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
            child.terminate().unwrap();
            let end = child.join_timeout(LONG);
            assert!(matches!(end, Err(JoinError::Killed { signal: 15, .. })), "{end:?}");
        }
    }
}

#[test]
fn children_of_a_forked_zygote_can_have_the_arena_grow() {
    fn put(queue: Queue<Vec<u8>>) -> procession_posix::Result<()> {
        Ok(queue.put(&vec![7; 1 << 20])?)
    }
    // In a process with one thread the zygote is forked, and inherits what another is sent.
    let alone = || {
        procession_posix::process::init();
        let queue = Queue::bounded(1).unwrap();
        let child = Bound(Process::new(put, (queue.clone(),)).start().unwrap());
        child.join_timeout(LONG).unwrap().unwrap();
        queue.get_timeout(LONG).unwrap().len()
    };
    let alone = Process::new(alone, ()).method(StartMethod::Zygote);
    assert_eq!(Bound(alone.start().unwrap()).join_timeout(LONG).unwrap(), 1 << 20);
}

/// Runs itself in a copy of this program, which removes its own file before it starts anything.
#[test]
fn a_program_whose_file_was_removed_starts_processes() {
    const COPY: &str = "PROCESSION_TEST_COPY";
    if std::env::var_os(COPY).is_some() {
        std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
        for method in [StartMethod::Zygote, StartMethod::Spawn] {
            let child = Bound(Process::new(add, (1, 2)).method(method).start().unwrap());
            assert_eq!(child.join_timeout(LONG), Ok(3));
        }
        return;
    }
    let copy = std::env::temp_dir().join(format!("procession-copy-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = std::process::Command::new(&copy);
    command.args(["--exact", "a_program_whose_file_was_removed_starts_processes"]).env(COPY, "1");
    let deadline = Instant::now() + LONG;
    let output = loop {
        match command.output() {
            // What other tests forked while the file was written has it open until it executes.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                assert!(Instant::now() < deadline, "{error}");
            }
            output => break output,
        }
    };
    let left = std::fs::remove_file(&copy);
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(left.is_err(), "the copy did not remove its file");
}

#[test]
fn a_mark_of_somebody_else_changes_nothing() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_such_test"])
        .env("PROCESSION_START", "1:zygote")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("running 0 tests"));
}
