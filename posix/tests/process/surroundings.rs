//! What changes or breaks the process that it runs in: each in one of its own.

use std::time::Duration;

use procession_posix::process::{JoinError, Process, StartError, StartMethod, set_start_method};

use crate::gone::gone;
use crate::support::{Bound, LONG};
use crate::{add, children_of, eventually, open_descriptors, status_line, wait_for_ever};

/// Runs the test of this name in a process of its own and hands on its panic.
fn in_a_process_of_its_own(name: &str) {
    let test = BROKEN.iter().position(|(known, _)| *known == name).unwrap();
    let run = |test: usize| {
        // Whatever the default is elsewhere: most of them are about the zygote.
        set_start_method(StartMethod::Zygote);
        BROKEN[test].1();
    };
    let alone = Process::new(run, (test,)).name(name).method(StartMethod::Zygote);
    Bound(alone.start().unwrap()).join_timeout(LONG).unwrap();
}

macro_rules! broken_surroundings {
    ($($name:ident)*) => {
        const BROKEN: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
        mod alone {
            $(#[test] fn $name() { super::in_a_process_of_its_own(stringify!($name)) })*
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
