//! What comes between: no descriptors, another program in place of the starter, kills at random.

use std::time::{Duration, Instant};

use procession::Process;
use procession::process::StartError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::random::Random;
use crate::support::{Child, LONG, Word, eventually};
use crate::{EXECUTING, add, alone, children_of, full, nothing_left, sleeper, started_by};

/// An error of a start says that nothing runs, also where the new process was there already.
pub fn descriptors() {
    for method in EXECUTING {
        Child::start(|| {
            let first = Process::new(add, (1, 2)).method(method).start().unwrap();
            assert_eq!(first.join_timeout(LONG), Ok(3));
            let zygote = children_of(std::process::id())[0];
            let limit = getrlimit(Resource::Nofile);
            let (mut refused, mut started) = (0, 0);
            for spare in 0..12 {
                let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
                let small = Rlimit { current: Some(used + spare), ..limit };
                setrlimit(Resource::Nofile, small).unwrap();
                let child = Process::new(sleeper, ()).method(method).start();
                setrlimit(Resource::Nofile, limit).unwrap();
                match child {
                    Ok(child) => {
                        started += 1;
                        child.kill().unwrap();
                        assert!(child.join_timeout(LONG).is_err());
                    }
                    Err(StartError::Resource { source, .. }) => {
                        refused += 1;
                        assert_eq!(source.raw_os_error(), Some(libc::EMFILE));
                    }
                    Err(other) => panic!("{other}"),
                }
                eventually("nothing of it runs", || started_by(zygote).is_empty());
            }
            assert!(refused > 0 && started > 0, "{refused} refused, {started} started");
        })
        .finish();
    }
}

/// A starter that turns into another program while one of its threads is in `start` confirms nothing any more.
pub fn exec() {
    for method in EXECUTING {
        for round in 0..30 {
            let child = Child::start(|| {
                let first = Process::new(add, (1, 2)).method(method).start().unwrap();
                assert_eq!(first.join_timeout(LONG), Ok(3));
                std::thread::spawn(move || {
                    loop {
                        let child = Process::new(add, (1, 2)).method(method).start().unwrap();
                        assert_eq!(child.join_timeout(LONG), Ok(3));
                    }
                });
                std::thread::sleep(Duration::from_micros(300 + 77 * round));
                let error = std::os::unix::process::CommandExt::exec(
                    std::process::Command::new("sleep").arg("1000"),
                );
                panic!("exec: {error}");
            });
            let name = format!("/proc/{}/comm", child.pid());
            eventually("it is another program", || {
                std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep")
            });
            let pid = child.pid().as_raw_nonzero().get() as u32;
            // The program does not know that it has a child to reap.
            eventually("its zygote and all that came of it have ended", || {
                children_of(pid).iter().all(|child| is_zombie(*child))
            });
        }
    }
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

/// Everything that lives is killed at random, while many start.
pub fn storm() {
    alone();
    let seconds = if full() { 60 } else { 2 };
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
    println!("    seed {seed}");
    let mut random = Random::new(seed);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let (done, failed) = (Word::new(), Word::new());
    let life = |number: u64| {
        let method = EXECUTING[number as usize % 2];
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let begin = Instant::now();
                        let daemon = number.is_multiple_of(3);
                        let child = Process::new(add, (2, 3)).method(method).daemon(daemon).start();
                        match child.map(|child| child.join_timeout(LONG)) {
                            Ok(Ok(sum)) => {
                                assert_eq!(sum, 5);
                                done.count();
                            }
                            _ => {
                                failed.count();
                            }
                        }
                        if begin.elapsed() > Duration::from_secs(10) {
                            // Says so by its status.
                            std::process::abort();
                        }
                    }
                });
            }
        });
    };
    let mut starters: Vec<Child> = (0..3).map(|number| Child::start(|| life(number))).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut kills = [0; 3];
    while Instant::now() < end {
        std::thread::sleep(random.micros(4000));
        let number = random.below(3) as usize;
        assert!(!starters[number].has_ended(), "a starter hung or failed");
        let starter = starters[number].pid().as_raw_nonzero().get() as u32;
        let zygotes = children_of(starter);
        let children: Vec<u32> = zygotes.iter().flat_map(|pid| children_of(*pid)).collect();
        match random.below(12) {
            0 => {
                starters[number] = Child::start(|| life(number as u64));
                kills[0] += 1;
            }
            1..4 => kills[1] += kill_one(&zygotes, &mut random),
            _ => kills[2] += kill_one(&children, &mut random),
        }
        reap_orphans(&starters);
    }
    drop(starters);
    eventually("all are gone", || {
        reap_orphans(&[]);
        children_of(std::process::id()).is_empty()
    });
    let (done, failed) = (done.get(), failed.get());
    println!("    {done} starts, {failed} failed, {kills:?} starters, zygotes, children killed");
    assert!(done > 10);
    nothing_left().unwrap();
}

fn kill_one(of: &[u32], random: &mut Random) -> u32 {
    let Some(pid) = of.get(random.below(of.len().max(1) as u64) as usize) else { return 0 };
    let pid = rustix::process::Pid::from_raw(*pid as i32).unwrap();
    let killed = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    u32::from(killed.is_ok())
}

/// Reaps what has become this process's child, but for those that it started itself.
fn reap_orphans(starters: &[Child]) {
    for pid in children_of(std::process::id()) {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        if starters.iter().all(|starter| starter.pid() != pid) {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
        }
    }
}
