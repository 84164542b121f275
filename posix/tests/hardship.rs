//! Starters and targets that make it hard: limits, forks of their own, stopped helpers, signals, adopted children.

mod support;

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use procession_posix::memory::SharedMemory;
use procession_posix::process::{
    JoinError, Process, StartError, StartMethod, Stdio, Target, set_start_method,
};
use support::{Bound, LONG};

/// Whatever the default is elsewhere, these tests are about the helper process where they name no method.
fn by_zygote() {
    set_start_method(StartMethod::Zygote);
}

/// Runs the body of a test in a process of its own, which has a helper process of its own.
fn apart(body: impl Target<(), Output = ()>) {
    by_zygote();
    Bound(Process::new(body, ()).name("apart").start().unwrap()).join_timeout(LONG * 2).unwrap();
}

fn five() -> u32 {
    5
}

fn of_size(size: usize, fill: u8) -> Vec<u8> {
    vec![fill; size]
}

fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

/// The living helper processes of this one.
fn zygotes() -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((name, rest)) = stat.split_once(") ") else { return false };
        let rest: Vec<&str> = rest.split(' ').collect();
        name.ends_with("(zygote") && rest[0] != "Z" && rest[1] == std::process::id().to_string()
    })
    .collect()
}

fn signal_zygotes(signal: i32) {
    let all = zygotes();
    assert!(!all.is_empty());
    for pid in all {
        // SAFETY: the number is that of a child that is not reaped.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

fn wait_for_gone(process: &impl AsRawFd) {
    let mut fd = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor.
    assert_eq!(unsafe { libc::poll(&mut fd, 1, 60_000) }, 1);
}

fn limit_files(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: reads the limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
}

#[test]
fn what_is_larger_than_a_file_may_be_is_an_error_and_no_signal() {
    apart(|| {
        assert_eq!(Process::new(five, ()).start().unwrap().join().unwrap(), 5);
        limit_files(100_000);
        let large = Process::new(length, (vec![0; 1 << 20],)).start();
        assert!(matches!(large, Err(StartError::Resource { .. })), "{large:?}");
        limit_files(0);
        let executed = Process::new(five, ()).method(StartMethod::Spawn).start();
        assert!(matches!(executed, Err(StartError::Resource { .. })), "{executed:?}");
        assert_eq!(Process::new(five, ()).start().unwrap().join().unwrap(), 5);
    });
}

/// Goes on twice.
fn fork_by_hand() -> i32 {
    // SAFETY: a started process has one thread here.
    unsafe { libc::fork() }
}

#[test]
fn a_fork_of_a_target_leaves_its_result_alone() {
    by_zygote();
    fn returns_twice() -> u32 {
        if fork_by_hand() == 0 {
            std::thread::sleep(Duration::from_millis(100));
            return 7;
        }
        5
    }
    fn panics_in_the_fork() -> u32 {
        if fork_by_hand() == 0 {
            std::thread::sleep(Duration::from_millis(100));
            let _ = std::panic::catch_unwind(|| panic!("in the fork"));
            // SAFETY: ends the fork.
            unsafe { libc::_exit(0) };
        }
        5
    }
    for target in
        [Process::new(returns_twice, ()).start(), Process::new(panics_in_the_fork, ()).start()]
    {
        let child = Bound(target.unwrap());
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(child.join_timeout(LONG).unwrap(), 5);
    }
}

#[test]
fn a_panic_into_a_full_pipe_does_not_hold_up_the_end() {
    by_zygote();
    fn target() -> u32 {
        // SAFETY: writes bytes of a buffer, and sets flags.
        unsafe {
            libc::fcntl(2, libc::F_SETFL, libc::O_NONBLOCK);
            while libc::write(2, [b'x'; 4096].as_ptr().cast(), 4096) > 0 {}
            while libc::write(2, [b'x'].as_ptr().cast(), 1) > 0 {}
            libc::fcntl(2, libc::F_SETFL, 0);
        }
        std::thread::spawn(|| panic!("nobody reads this"));
        std::thread::sleep(Duration::from_millis(500));
        5
    }
    let child = Process::new(target, ()).env("RUST_BACKTRACE", "0").stderr(Stdio::Piped);
    let child = Bound(child.start().unwrap());
    assert_eq!(child.join_timeout(Duration::from_secs(20)).unwrap(), 5);
}

#[test]
fn no_child_makes_the_common_memory_shorter() {
    fn cut() -> Vec<i32> {
        let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let records = all.filter(|entry| {
            let link = std::fs::read_link(entry.path()).unwrap_or_default();
            link.to_string_lossy().contains("procession-records")
        });
        let numbers = records.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap());
        // SAFETY: whatever it does, it does not touch this process' memory but by what this is to show.
        numbers.map(|fd| unsafe { libc::ftruncate(fd, 0) }).collect()
    }
    apart(|| {
        let tried = Process::new(cut, ()).start().unwrap().join().unwrap();
        assert_eq!(tried, [-1]);
    });
}

#[test]
fn an_answer_that_comes_too_late_is_nobodys_and_signals_do_not_delay_that() {
    apart(|| {
        extern "C" fn nothing(_: libc::c_int) {}
        let (first, second) = (
            Process::new(of_size, (5000, 1)).start().unwrap(),
            Process::new(of_size, (6000, 2)).start().unwrap(),
        );
        wait_for_gone(&first.sentinel());
        wait_for_gone(&second.sentinel());
        std::thread::sleep(Duration::from_millis(200));
        // SAFETY: the handler does nothing.
        unsafe {
            libc::signal(libc::SIGALRM, nothing as *const () as libc::sighandler_t);
            let second = libc::timeval { tv_sec: 1, tv_usec: 0 };
            let timer = libc::itimerval { it_interval: second, it_value: second };
            libc::syscall(libc::SYS_setitimer, 0, &timer, 0);
        }
        signal_zygotes(libc::SIGSTOP);
        let begin = Instant::now();
        let error = first.join().unwrap_err();
        let took = begin.elapsed();
        signal_zygotes(libc::SIGCONT);
        assert!(matches!(error, JoinError::Result { .. }), "{error}");
        assert!(took < Duration::from_secs(40), "{took:?}");
        assert_eq!(second.join().unwrap(), [2; 6000]);
        assert_eq!(Process::new(five, ()).start().unwrap().join().unwrap(), 5);
    });
}

#[test]
fn orphans_that_the_starter_adopts_are_reaped_and_their_ends_known() {
    apart(|| {
        fn leave() {
            std::thread::sleep(Duration::from_millis(300));
            std::process::exit(3);
        }
        // SAFETY: sets a flag of this process.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        let children: Vec<_> = (0..4).map(|_| Process::new(leave, ()).start().unwrap()).collect();
        signal_zygotes(libc::SIGKILL);
        for child in &children {
            let error = child.join_timeout(LONG).unwrap_err();
            assert!(matches!(error, JoinError::Exited { code: 3, .. }), "{error}");
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid()));
            assert!(stat.is_err(), "{stat:?}");
        }
    });
}

#[test]
fn a_starter_that_ignores_the_end_of_children_knows_it() {
    apart(|| {
        // SAFETY: no function of ours is called.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        for method in StartMethod::ALL {
            // Quick ends, before a descriptor of the process could be had.
            for _ in 0..20 {
                let child = Process::new(|| std::process::exit(3), ()).method(method).start();
                let child: procession_posix::process::Child<()> = child.unwrap();
                let error = child.join_timeout(LONG).unwrap_err();
                assert!(matches!(error, JoinError::Exited { code: 3, .. }), "{method}: {error}");
            }
        }
    });
}

#[test]
fn a_closed_stream_is_dev_null_under_each_method() {
    apart(|| {
        fn input() -> String {
            std::fs::read_link("/proc/self/fd/0").unwrap().to_string_lossy().into_owned()
        }
        // SAFETY: nobody in this process reads.
        unsafe { libc::close(0) };
        for method in StartMethod::ALL {
            let child = Process::new(input, ()).method(method).start().unwrap();
            assert_eq!(child.join_timeout(LONG).unwrap(), "/dev/null", "{method}");
        }
    });
}

#[test]
fn what_is_printed_does_not_go_into_shared_memory() {
    apart(|| {
        // SAFETY: what this process prints is lost.
        unsafe { libc::close(1) };
        let memory = SharedMemory::create_random(100).unwrap();
        println!("a word");
        assert_eq!(SharedMemory::attach(memory.name()).unwrap().size(), 100);
    });
}

#[test]
fn a_process_without_a_group_of_its_namespace_starts_others() {
    apart(|| {
        // SAFETY: asks for a number, and sets where children live.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            return eprintln!("skipped: no right to make a namespace");
        }
        fn start_another() -> u32 {
            // SAFETY: asks for a number.
            assert_eq!(unsafe { libc::getpgrp() }, 0);
            Process::new(five, ()).start().unwrap().join().unwrap()
        }
        for daemon in [false, true] {
            let child = Process::new(start_another, ()).method(StartMethod::Fork).daemon(daemon);
            let end = child.allow_children(true).start().map(|child| child.join_timeout(LONG));
            match end {
                Ok(end) => assert_eq!(end.unwrap(), 5),
                // The namespace ended with its first process.
                Err(StartError::Fork(_)) if daemon => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
}
