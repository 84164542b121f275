//! The list of children, their handles, and the end of a process in order.

#[macro_use]
#[path = "support/methods.rs"]
mod methods;
#[path = "support/gone.rs"]
mod gone;
mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gone::gone;
use procession_posix::channel::Queue;
use procession_posix::process::{
    JoinError, Process, StartError, StartMethod, Stdio, active_children, current_process,
    finalizer, set_start_method, start_method,
};
use support::{Bound, LONG};

under_each_method! {
    children_are_listed_until_they_end
    an_interrupt_is_a_ctrl_c
    only_an_ended_process_is_closed
    a_target_that_fails_exits_with_1
    a_panic_is_told_in_full
    standard_error_says_whose_panic_it_is
    a_deadline_ends_what_takes_longer
    a_daemon_may_not_have_children_unless_allowed
    a_target_waits_for_its_children_and_ends_its_daemons
    finalizers_are_called_in_their_order
    an_exit_ends_in_order_too
    a_killed_process_ends_without_order
    a_join_ends_with_the_process_and_not_with_its_heirs
    all_who_ask_at_once_are_told_the_same
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::yield_now();
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// In a process of its own: the tests beside this one have children too.
fn children_are_listed_until_they_end(method: StartMethod) {
    fn parent(method: StartMethod) {
        assert!(active_children().is_empty());
        let start = |name: &str| {
            Bound(Process::new(wait_for_ever, ()).name(name).method(method).start().unwrap())
        };
        let (first, second) = (start("first"), start("second"));
        // Without a handle it is still our child.
        std::mem::drop(Process::new(wait_for_ever, ()).name("third").method(method).start());
        let listed = active_children();
        let mut names: Vec<&str> = listed.iter().map(|child| child.name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["first", "second", "third"]);
        let named = |name| listed.iter().find(|child| child.name() == name).unwrap();
        assert_eq!(named("first").pid(), first.pid());
        assert!(named("first").is_alive() && named("first").exitcode().is_none());
        assert!(!named("first").is_daemon());
        let still = named("first").join_timeout(Duration::ZERO);
        assert!(matches!(still, Err(JoinError::TimedOut { .. })), "{still:?}");

        named("first").kill().unwrap();
        let end = first.join_timeout(LONG);
        assert!(matches!(end, Err(JoinError::Killed { signal: 9, .. })));
        assert_eq!(named("first").join(), end, "both handles are told the same");
        named("third").terminate().unwrap();
        named("third").join_timeout(LONG).unwrap_err();
        assert_eq!(named("third").exitcode(), Some(-15));
        let left: Vec<u32> = active_children().iter().map(|child| child.pid()).collect();
        assert_eq!(left, [second.pid()]);
        second.kill().unwrap();
        eventually("an empty list", || active_children().is_empty());
        let returns = Process::new(|| 7, ()).method(method).start().unwrap();
        let found = active_children();
        assert_eq!(returns.join_timeout(LONG), Ok(7));
        assert!(found.iter().all(|child| child.join() == Ok(())), "whatever it returned");
    }
    let parent = Process::new(parent, (method,)).method(StartMethod::Zygote);
    let parent = Bound(parent.start().unwrap());
    parent.join_timeout(LONG).unwrap();
}

fn an_interrupt_is_a_ctrl_c(method: StartMethod) {
    let child = Bound(Process::new(wait_for_ever, ()).method(method).start().unwrap());
    child.interrupt().unwrap();
    assert!(matches!(child.join_timeout(LONG), Err(JoinError::Killed { signal: 2, .. })));
    assert_eq!(child.exitcode(), Some(-2));
    child.interrupt().unwrap();
}

fn only_an_ended_process_is_closed(method: StartMethod) {
    let child = Process::new(wait_for_ever, ()).method(method).start().unwrap();
    let error = child.close().unwrap_err();
    assert!(error.to_string().contains("still runs"), "{error}");
    let child = Bound(error.child);
    assert!(child.is_alive());
    child.kill().unwrap();
    let _ = child.join_timeout(LONG);
    let child = Process::new(|| (), ()).method(method).start().unwrap();
    child.join_timeout(LONG).unwrap();
    child.close().unwrap();
}

fn a_target_that_fails_exits_with_1(method: StartMethod) {
    fn fail(large: bool) -> Result<u8, String> {
        Err(if large { "no".repeat(5000) } else { "no".into() })
    }
    for large in [false, true] {
        let child = Bound(Process::new(fail, (large,)).method(method).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), fail(large));
        assert_eq!(child.exitcode(), Some(1));
    }
    let well = || -> Result<u8, String> { Ok(1) };
    let child = Bound(Process::new(well, ()).method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), Ok(1));
    assert_eq!(child.exitcode(), Some(0));
}

fn a_panic_is_told_in_full(method: StartMethod) {
    fn fail(length: usize) {
        panic!("{}", "x".repeat(length));
    }
    // The second does not fit into the shared page, the third only without its backtrace.
    for (length, backtrace) in [(10, "0"), (100_000, "0"), (10, "1")] {
        let child = Process::new(fail, (length,)).env("RUST_BACKTRACE", backtrace).method(method);
        let child = child.env_remove("RUST_LIB_BACKTRACE").stderr(Stdio::Null);
        let child = Bound(child.start().unwrap());
        let end = child.join_timeout(LONG).unwrap_err();
        let text = end.to_string();
        let JoinError::Panicked { message, location, backtrace: told, .. } = end else {
            panic!("{end}");
        };
        assert_eq!(message, "x".repeat(length));
        let location = location.unwrap();
        assert!(location.contains("life.rs:"), "{location}");
        assert!(text.contains(&location), "{text}");
        // A fork has looked at its environment before.
        if method != StartMethod::Fork {
            assert_eq!(told.is_some(), backtrace == "1");
            assert!(told.is_none_or(|trace| trace.contains("fail")));
        }
    }
    // The newest words of an aborted process.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("{}", "y".repeat(5000));
        }
    }
    let twice = || {
        let _bomb = Bomb;
        panic!("once");
    };
    let child = Process::new(twice, ()).stderr(Stdio::Null).method(method);
    let child = Bound(child.start().unwrap());
    let end: Result<(), JoinError> = child.join_timeout(LONG);
    assert_eq!(child.exitcode(), Some(-6));
    assert!(matches!(end, Err(JoinError::Panicked { .. })), "{end:?}");
}

fn standard_error_says_whose_panic_it_is(method: StartMethod) {
    let child = Process::new(|| panic!("bread"), ()).name("baker").method(method);
    let child = Bound(child.stderr(Stdio::Piped).start().unwrap());
    let _: Result<(), JoinError> = child.join_timeout(LONG);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.take_stderr().unwrap(), &mut text).unwrap();
    let title = format!("Process baker (pid {}):\n", child.pid());
    assert!(text.starts_with(&title), "{text}");
    assert!(text.contains("bread") && text.contains("life.rs:"), "{text}");
}

fn a_deadline_ends_what_takes_longer(method: StartMethod) {
    const SHORT: Duration = Duration::from_millis(50);
    fn resist() {
        // SAFETY: blocks all signals that can be blocked; the set is initialised before it is used.
        unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
        }
        wait_for_ever();
    }
    let before = Instant::now();
    let child = Process::new(resist, ()).method(method).deadline(SHORT).start().unwrap();
    let child = Bound(child);
    let end = child.join_timeout(LONG);
    assert!(matches!(end, Err(JoinError::DeadlinePassed { .. })), "{end:?}");
    assert_eq!(child.exitcode(), Some(-9));
    assert!(before.elapsed() >= SHORT);
    // Who is quicker, or is ended in another way before, has its own end.
    for deadline in [LONG, Duration::MAX] {
        let child = Process::new(|| 7, ()).method(method).deadline(deadline).start().unwrap();
        assert_eq!(Bound(child).join_timeout(LONG), Ok(7));
        let child = Process::new(resist, ()).method(method).deadline(deadline).start().unwrap();
        let child = Bound(child);
        child.kill().unwrap();
        let end = child.join_timeout(LONG);
        assert!(matches!(end, Err(JoinError::Killed { signal: 9, .. })), "{end:?}");
    }
    // Nobody who started it has to be there for that.
    fn start(method: StartMethod) -> u32 {
        let child = Process::new(resist, ()).daemon(false).method(method);
        let child = child.deadline(Duration::from_millis(300)).start().unwrap();
        child.detach();
        child.pid()
    }
    let starter = Bound(Process::new(start, (method,)).method(method).start().unwrap());
    let orphan = starter.join_timeout(LONG).unwrap();
    eventually("its end", || gone(orphan));
}

fn a_daemon_may_not_have_children_unless_allowed(method: StartMethod) {
    fn start(method: StartMethod) -> Result<(), String> {
        match Process::new(|| (), ()).daemon(false).method(method).start() {
            Ok(child) => child.join_timeout(LONG).map_err(|error| error.to_string()),
            Err(error @ StartError::Daemon { .. }) => Err(error.to_string()),
            Err(other) => panic!("{other}"),
        }
    }
    let daemon = |allowed| {
        let daemon = Process::new(start, (method,)).name("imp").daemon(true).method(method);
        let daemon = Bound(daemon.allow_children(allowed).start().unwrap());
        daemon.join_timeout(LONG).unwrap()
    };
    assert_eq!(daemon(true), Ok(()));
    let refused = daemon(false).unwrap_err();
    assert!(refused.starts_with("imp is a daemon"), "{refused}");
}

fn a_target_waits_for_its_children_and_ends_its_daemons(method: StartMethod) {
    /// Ends when the queue is closed.
    fn put_last(queue: Queue<String>, wait: Queue<u8>) {
        let _ = wait.get_timeout(LONG);
        queue.put(&current_process().name).unwrap();
    }
    fn parent(
        method: StartMethod,
        queue: Queue<String>,
        wait: Queue<u8>,
    ) -> procession_posix::Result<[u32; 2]> {
        let start = |name: &str| Process::new(put_last, (queue.clone(), wait.clone())).name(name);
        start("joined").method(method).start()?;
        let detached = start("detached").method(method).start()?;
        detached.detach();
        let daemon = Process::new(wait_for_ever, ()).daemon(true).method(method).start()?;
        Ok([detached.pid(), daemon.pid()])
    }
    let (queue, wait) = (Queue::bounded(4).unwrap(), Queue::bounded(4).unwrap());
    let args = (method, queue.clone(), wait.clone());
    let parent = Bound(Process::new(parent, args).method(method).start().unwrap());
    let early = parent.join_timeout(Duration::from_millis(100));
    assert!(matches!(early, Err(JoinError::TimedOut { .. })), "it did not wait: {early:?}");
    // Only one of the two: either the one that is waited for, or the other.
    wait.put(&1).unwrap();
    if queue.get_timeout(LONG).unwrap() == "detached" {
        let early = parent.join_timeout(Duration::from_millis(100));
        assert!(matches!(early, Err(JoinError::TimedOut { .. })), "it did not wait: {early:?}");
        wait.put(&1).unwrap();
        assert_eq!(queue.get_timeout(LONG).unwrap(), "joined");
    }
    let [detached, daemon] = parent.join_timeout(LONG).unwrap().unwrap();
    assert!(gone(daemon), "a daemon is gone before its starter is");
    kill(detached);
}

fn finalizers_are_called_in_their_order(method: StartMethod) {
    fn work(report: Queue<String>, fails: bool) {
        let say = |what: &'static str| {
            let report = report.clone();
            move || report.put(&what.to_string()).unwrap()
        };
        finalizer(-1, say("after the children"));
        finalizer(0, say("third"));
        let early = finalizer(9, say("early"));
        finalizer(0, say("second"));
        finalizer(0, || panic!("a finalizer that panics"));
        let never = finalizer(0, say("never"));
        let again = say("by another");
        finalizer(5, move || {
            finalizer(3, again);
        });
        finalizer(10, say("first"));
        assert!(never.still_active() && never.cancel());
        assert!(!never.still_active() && !never.cancel() && !never.call());
        assert!(early.call() && !early.call());
        let child = || {
            let report = Mutex::new(0);
            finalizer(0, move || *report.lock().unwrap() = 1);
        };
        let child = Process::new(child, ()).start().unwrap();
        child.join_timeout(LONG).unwrap();
        if fails {
            panic!("a target that panics");
        }
    }
    for fails in [false, true] {
        let report = Queue::bounded(16).unwrap();
        let args = (report.clone(), fails);
        let child = Bound(Process::new(work, args).method(method).start().unwrap());
        assert_eq!(child.join_timeout(LONG).is_err(), fails);
        assert_eq!(child.exitcode(), Some(if fails { 101 } else { 0 }));
        let said: Vec<String> = std::iter::from_fn(|| report.get_nowait().ok()).collect();
        let expected = ["early", "first", "by another", "second", "third", "after the children"];
        assert_eq!(said, expected);
    }
}

fn an_exit_ends_in_order_too(method: StartMethod) {
    fn leave(report: Queue<u32>, thread: bool) {
        let last = report.clone();
        finalizer(-1, move || last.put(&0).unwrap());
        let daemon = Process::new(wait_for_ever, ()).daemon(true).start().unwrap();
        report.put(&daemon.pid()).unwrap();
        let exit = || std::process::exit(3);
        if thread {
            let _ = std::thread::spawn(exit).join();
        }
        exit();
    }
    for thread in [false, true] {
        let report = Queue::bounded(4).unwrap();
        let child = Process::new(leave, (report.clone(), thread)).method(method);
        let child = Bound(child.start().unwrap());
        let end = child.join_timeout(LONG);
        assert!(matches!(end, Err(JoinError::Exited { code: 3, .. })), "{end:?}");
        assert!(gone(report.get_timeout(LONG).unwrap()));
        assert_eq!(report.get_timeout(LONG).unwrap(), 0);
    }
}

fn a_killed_process_ends_without_order(method: StartMethod) {
    fn parent(method: StartMethod, report: Queue<u32>) {
        let called = report.clone();
        finalizer(0, move || called.put(&0).unwrap());
        let other = Process::new(wait_for_ever, ()).method(method).start().unwrap();
        let daemon = Process::new(wait_for_ever, ()).daemon(true).method(method).start().unwrap();
        report.put(&other.pid()).unwrap();
        report.put(&daemon.pid()).unwrap();
        wait_for_ever();
    }
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        let report = Queue::bounded(4).unwrap();
        let parent = Process::new(parent, (method, report.clone())).method(method);
        let parent = Bound(parent.start().unwrap());
        let other = report.get_timeout(LONG).unwrap();
        let daemon = report.get_timeout(LONG).unwrap();
        rustix::process::pidfd_send_signal(parent.sentinel(), signal).unwrap();
        let end = parent.join_timeout(LONG);
        assert!(matches!(end, Err(JoinError::Killed { .. })), "{end:?}");
        eventually("the daemon's end", || gone(daemon));
        assert!(!gone(other));
        kill(other);
        assert!(report.get_nowait().is_err(), "a finalizer was called");
    }
}

fn a_join_ends_with_the_process_and_not_with_its_heirs(method: StartMethod) {
    /// Leaves a process behind that has all its descriptors, and becomes another program itself.
    fn bequeath(report: Queue<u32>) {
        // SAFETY: the child only sleeps; this process has one thread.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: sleeps.
                unsafe { libc::pause() };
            },
            heir => report.put(&(heir as u32)).unwrap(),
        }
        let error = std::os::unix::process::CommandExt::exec(
            std::process::Command::new("/bin/sh").args(["-c", "sleep 60 & echo; exec sleep 60"]),
        );
        panic!("{error}");
    }
    let report = Queue::bounded(1).unwrap();
    let child = Process::new(bequeath, (report.clone(),)).method(method);
    let child = Bound(child.stdout(Stdio::Piped).start().unwrap());
    let heir = report.get_timeout(LONG).unwrap();
    // The shell has left another heir by the time it says so.
    let mut output = child.take_stdout().unwrap();
    std::io::Read::read_exact(&mut output, &mut [0]).unwrap();
    let before = Instant::now();
    let early = child.join_timeout(Duration::from_millis(50));
    let took = before.elapsed();
    assert!(matches!(early, Err(JoinError::TimedOut { .. })), "{early:?}");
    assert!(took >= Duration::from_millis(50) && took < Duration::from_secs(5), "{took:?}");
    child.kill().unwrap();
    let end = child.join_timeout(LONG);
    assert!(matches!(end, Err(JoinError::Killed { signal: 9, .. })), "{end:?}");
    assert!(!gone(heir), "its heir lives, and nobody has waited for it");
    kill(heir);
    // The shell's is among the processes that hold our pipe; there is no other way to its number.
    let holder = std::fs::read_link(format!("/proc/self/fd/{}", {
        use std::os::fd::AsRawFd;
        output.as_raw_fd()
    }));
    let holder = holder.unwrap();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let standard_output = std::fs::read_link(format!("/proc/{pid}/fd/1"));
        if standard_output.is_ok_and(|path| path == holder) {
            kill(pid);
        }
    }
}

/// In a process of its own, which under `Fork` forks before it has threads.
fn all_who_ask_at_once_are_told_the_same(method: StartMethod) {
    const THREADS: usize = 32;
    let (go, ends) = (Queue::bounded(1).unwrap(), 3);
    fn leave(go: Queue<u8>, code: i32) -> u8 {
        let _ = go.get_timeout(LONG);
        std::process::exit(code)
    }
    for code in 0..ends {
        let child = Process::new(leave, (go.clone(), code)).method(method).start().unwrap();
        let child = Bound(child);
        let start = Arc::new(std::sync::Barrier::new(THREADS + 1));
        std::thread::scope(|scope| {
            let askers: Vec<_> = (0..THREADS)
                .map(|number| {
                    let (child, start) = (&child, start.clone());
                    scope.spawn(move || {
                        start.wait();
                        let deadline = Instant::now() + LONG;
                        match number % 3 {
                            0 => {
                                let end = child.join_timeout(LONG);
                                assert!(!matches!(end, Err(JoinError::TimedOut { .. })));
                            }
                            1 => while child.is_alive() && Instant::now() < deadline {},
                            _ => {
                                while child.exitcode().is_none() && Instant::now() < deadline {
                                    std::thread::yield_now();
                                }
                            }
                        }
                        assert!(!child.is_alive());
                        (child.exitcode(), child.join_timeout(LONG))
                    })
                })
                .collect();
            start.wait();
            go.put(&1).unwrap();
            for asker in askers {
                let (exitcode, end) = asker.join().unwrap();
                assert_eq!(exitcode, Some(code));
                assert!(matches!(&end, Err(JoinError::Exited { code: c, .. }) if *c == code));
            }
        });
        let one_thread = || std::fs::read_dir("/proc/self/task").unwrap().count() == 1;
        if method == StartMethod::Fork {
            eventually("one thread", one_thread);
        }
    }
}

/// A program that this one executes: its own file, as one test that plays the role in this variable.
const ROLE: &str = "PROCESSION_TEST_ROLE";

fn play(test: &str, role: &str) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, role)
        .output()
        .unwrap()
}

#[test]
fn the_first_process_ends_in_order() {
    let role = std::env::var(ROLE).ok();
    let Some(role) = role else {
        for role in ["return", "exit"] {
            let output = play("the_first_process_ends_in_order", role);
            let text = String::from_utf8_lossy(&output.stdout);
            let said: Vec<&str> = text.lines().filter(|line| line.starts_with("- ")).collect();
            assert_eq!(said, ["- first", "- the child", "- last"], "{role}: {output:?}");
            let pid = text.lines().find_map(|line| line.strip_prefix("daemon: ")).unwrap();
            assert!(gone(pid.parse().unwrap()));
        }
        return;
    };
    if start_method() == StartMethod::Fork {
        // A test has two threads.
        set_start_method(StartMethod::Zygote);
    }
    let daemon = Process::new(wait_for_ever, ()).daemon(true).start().unwrap();
    // On a line of its own: with one thread, as on one processor, libtest has written the beginning of this one.
    println!("\ndaemon: {}", daemon.pid());
    fn child() {
        // It goes on when its starter has come to the children.
        let parent = procession_posix::process::parent_process().unwrap().pid;
        let path = format!("/tmp/procession-life-{parent}");
        eventually("the starter's finalizer", || std::path::Path::new(&path).exists());
        std::fs::remove_file(path).unwrap();
        println!("- the child");
    }
    Process::new(child, ()).start().unwrap();
    finalizer(-1, || println!("- last"));
    finalizer(0, || {
        println!("- first");
        std::fs::write(format!("/tmp/procession-life-{}", std::process::id()), "").unwrap();
    });
    if role == "exit" {
        std::process::exit(0);
    }
}

#[test]
fn a_fork_has_neither_the_finalizers_nor_the_children_of_its_parent() {
    fn body() {
        let report: Queue<u32> = Queue::bounded(4).unwrap();
        let said = report.clone();
        let mine = finalizer(0, move || said.put(&std::process::id()).unwrap());
        let child = Bound(Process::new(wait_for_ever, ()).start().unwrap());
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                let good = !mine.still_active() && !mine.call() && active_children().is_empty();
                // The C library calls what was registered by the parent.
                std::process::exit(if good { 0 } else { 1 });
            }
            pid => {
                let mut status = 0;
                // SAFETY: waits for our own child.
                assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
                assert_eq!(status, 0);
            }
        }
        assert!(child.is_alive() && mine.still_active());
        assert!(mine.call());
        assert_eq!(report.get_nowait().unwrap(), std::process::id());
        assert!(report.get_nowait().is_err());
    }
    let alone = Process::new(body, ()).method(StartMethod::Zygote);
    Bound(alone.start().unwrap()).join_timeout(LONG).unwrap();
}

/// In a memory cgroup of its own, made by root where there is a hierarchy of the first or second version.
#[test]
fn a_kill_for_want_of_memory_is_told() {
    const LIMIT: usize = 64 << 20;
    fn own_cgroup() -> Option<std::path::PathBuf> {
        let all = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = |controller: &str| {
            let line = all.lines().find(|line| line.split(':').nth(1) == Some(controller))?;
            line.splitn(3, ':').nth(2)
        };
        let (root, path, file) = match path("memory") {
            Some(path) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
            None => ("/sys/fs/cgroup", path("")?, "memory.max"),
        };
        let parent = std::path::Path::new(root).join(path.trim_start_matches('/'));
        let own = parent.join(format!("procession-test-{}", std::process::id()));
        std::fs::create_dir(&own).ok()?;
        let limited = std::fs::write(own.join(file), LIMIT.to_string()).is_ok()
            && std::fs::write(own.join("cgroup.procs"), std::process::id().to_string()).is_ok();
        if !limited {
            let _ = std::fs::remove_dir(&own);
        }
        limited.then_some(own)
    }
    fn body() -> Option<std::path::PathBuf> {
        let own = own_cgroup()?;
        let eat = || {
            let mut all = Vec::new();
            for _ in 0..LIMIT / 4096 * 4 {
                all.push(std::hint::black_box(vec![1u8; 4096]));
            }
            all.len()
        };
        let child = Bound(Process::new(eat, ()).start().unwrap());
        let end = child.join_timeout(LONG);
        assert!(
            matches!(end, Err(JoinError::Killed { signal: 9, out_of_memory: true, .. })),
            "{end:?}"
        );
        assert!(end.unwrap_err().to_string().contains("memory"));
        for ours in [true, false] {
            let child = Bound(Process::new(wait_for_ever, ()).start().unwrap());
            if ours {
                child.kill().unwrap()
            } else {
                kill(child.pid())
            }
            let end = child.join_timeout(LONG);
            assert!(
                matches!(end, Err(JoinError::Killed { signal: 9, out_of_memory: false, .. })),
                "{end:?}"
            );
        }
        Some(own)
    }
    let alone = Process::new(body, ()).method(StartMethod::Zygote);
    let alone = Bound(alone.start().unwrap());
    let ended = alone.join_timeout(LONG);
    // What is in it still may take a moment to end.
    match &ended {
        Ok(Some(own)) => eventually("an empty cgroup", || std::fs::remove_dir(own).is_ok()),
        _ => println!("there is no memory cgroup that could be limited here"),
    }
    ended.unwrap();
}
