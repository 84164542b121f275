//! Whole trees that are killed, and daemons whose starter is.

use std::time::{Duration, Instant};

use procession::channel::{Receiver, pipe};
use procession::process::StartMethod;
use procession::{Process, Queue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, setpgid};

use crate::support::{Child, LONG, Word, eventually, quick_at_best, sleep_forever};
use crate::{METHODS, add, alone, children_of, full, nothing_left, sleeper};

fn reap_all() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

/// Starts some of each kind, waits until they run, and has grandchildren do the same.
fn grow(depth: u32, method: StartMethod, grown: Queue<u32>, ends: Queue<Receiver<u32>>) {
    // Held by a keeper until somebody gets it: nobody will.
    let (_sender, receiver) = pipe().unwrap();
    ends.put_timeout(&receiver, LONG).unwrap();
    let mut kept = Vec::new();
    for daemon in [false, true] {
        if depth > 0 && !daemon {
            let more = (depth - 1, method, grown.clone(), ends.clone());
            drop(Process::new(grow, more).method(method).daemon(daemon).start().unwrap());
        }
        kept.push(Process::new(sleeper, ()).method(method).daemon(daemon).start().unwrap());
    }
    grown.put_timeout(&depth, LONG).unwrap();
    sleep_forever();
}

/// With the last process of a tree nothing is left of it, though none of them could do anything about it.
pub fn killed() {
    alone();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let rounds = if full() { 20 } else { 2 };
    for round in 0..rounds {
        for method in METHODS {
            let grown = Word::new();
            let starter = Child::start(|| {
                setpgid(None, None).unwrap();
                let (tell, ends) = (Queue::bounded(8).unwrap(), Queue::bounded(8).unwrap());
                let child = Process::new(grow, (2, method, tell.clone(), ends)).method(method);
                let _child = child.start().unwrap();
                for _ in 0..3 {
                    tell.get_timeout(LONG).unwrap();
                    grown.count();
                }
                sleep_forever();
            });
            if round == 0 {
                grown.wait_for(3);
            } else {
                // Somewhere in between.
                std::thread::sleep(Duration::from_micros(500 * round * round));
            }
            let _ = setpgid(Some(starter.pid()), Some(starter.pid()));
            let begin = Instant::now();
            while kill_process_group(starter.pid(), Signal::KILL).is_ok() {
                // Until all are reaped: who was just being born is in the group, too.
                drop_zombies(&starter);
                assert!(begin.elapsed() < LONG, "some outlive the signal");
            }
            drop(starter);
            eventually("nobody is left", || {
                reap_all();
                children_of(std::process::id()).is_empty()
            });
            nothing_left().unwrap();
        }
    }
}

/// Reaps what has become this process's child, and the starter's zombie with it when it is the last.
fn drop_zombies(starter: &Child) {
    let others: Vec<u32> = children_of(std::process::id())
        .into_iter()
        .filter(|pid| *pid as i32 != starter.pid().as_raw_nonzero().get())
        .collect();
    for pid in &others {
        let pid = Pid::from_raw(*pid as i32);
        let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG);
    }
    if others.is_empty() && starter.has_ended() {
        let _ = rustix::process::waitpid(Some(starter.pid()), rustix::process::WaitOptions::NOHANG);
    }
    std::thread::sleep(Duration::from_micros(200));
}

/// A process that is watched from outside its tree.
struct Watched(std::os::fd::OwnedFd);

impl Watched {
    fn new(pid: u64) -> Watched {
        let pid = Pid::from_raw(pid as i32).unwrap();
        Watched(pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    fn ends_within(&self, time: Duration) -> bool {
        let time = Timespec::try_from(time).unwrap();
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&time)).unwrap() == 1
    }
}

fn announce(running: Queue<u32>) {
    running.put_timeout(&std::process::id(), LONG).unwrap();
    sleep_forever();
}

/// Daemons end within 10 ms of a SIGKILL of whoever started them, mostly; all of them soon.
pub fn daemons() {
    let times = |method: StartMethod| {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..if full() { 200 } else { 20 } {
            let (daemon, other) = (Word::new(), Word::new());
            let starter = Child::start(|| {
                let running = Queue::bounded(1).unwrap();
                for (daemon, word) in [(false, other), (true, daemon)] {
                    let child = Process::new(announce, (running.clone(),)).method(method);
                    let child = child.daemon(daemon).start().unwrap();
                    running.get_timeout(LONG).unwrap();
                    word.set(child.pid().into());
                    std::mem::forget(child);
                }
                sleep_forever();
            });
            let daemon = Watched::new(daemon.wait());
            let other_pid = other.wait();
            let other = Watched::new(other_pid);
            starter.signal(Signal::KILL);
            let begin = Instant::now();
            assert!(daemon.ends_within(LONG), "{method:?}: a daemon lives on");
            times.push(begin.elapsed());
            assert!(!other.ends_within(Duration::from_millis(1)), "it is no daemon");
            let other_pid = Pid::from_raw(other_pid as i32).unwrap();
            rustix::process::kill_process(other_pid, Signal::KILL).unwrap();
            assert!(other.ends_within(LONG));
        }
        times.sort();
        let median = times[times.len() / 2];
        println!("    {method:?}: median {median:?}, longest {:?}", times[times.len() - 1]);
        median
    };
    for method in METHODS {
        quick_at_best(Duration::from_millis(10), || times(method));
    }
}

/// A daemon lives as long as the process, not the thread, that started it.
pub fn threads() {
    for method in crate::EXECUTING {
        for main_ends in [false, true] {
            let (daemon, ended) = (Word::new(), Word::new());
            let starter = Child::start(|| {
                let start = move || {
                    let running = Queue::bounded(1).unwrap();
                    let child = Process::new(announce, (running.clone(),)).method(method);
                    let child = child.daemon(true).start().unwrap();
                    running.get_timeout(LONG).unwrap();
                    daemon.set(child.pid().into());
                    std::mem::forget(child);
                };
                if main_ends {
                    start();
                    std::thread::spawn(move || {
                        let status = format!("/proc/{}/stat", std::process::id());
                        eventually("the first thread has ended", || {
                            std::fs::read_to_string(&status).is_ok_and(|stat| stat.contains(") Z "))
                        });
                        ended.set(1);
                        // Its own zygote serves the others, too.
                        let child = Process::new(add, (1, 2)).method(method).start().unwrap();
                        assert_eq!(child.join_timeout(LONG), Ok(3));
                        ended.set(2);
                        sleep_forever();
                    });
                    // SAFETY: ends this thread alone; what it has on its stack is used by nobody else.
                    unsafe { libc::syscall(libc::SYS_exit, 0) };
                } else {
                    std::thread::spawn(start).join().unwrap();
                    ended.set(2);
                    sleep_forever();
                }
            });
            let daemon = Watched::new(daemon.wait());
            ended.wait_for(2);
            assert!(!daemon.ends_within(Duration::from_millis(100)), "{method:?}: it ended");
            starter.signal(Signal::KILL);
            assert!(daemon.ends_within(LONG), "{method:?}: a daemon lives on");
        }
    }
}
