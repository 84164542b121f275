//! Processes that are kept ready: the same as any others, and nobody's burden.

#[path = "support/gone.rs"]
mod gone;
mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gone::gone;
use procession_posix::channel::Queue;
use procession_posix::process::{
    JoinError, Process, StartMethod, current_process, keep_warm, set_start_method,
};
use rustix::process::{Pid, Signal, kill_process};
use support::{Bound, LONG};

/// Each of these runs in a process of its own, with a zygote of its own.
macro_rules! alone {
    ($($name:ident)*) => {
        const TESTS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
        mod alone {
            $(#[test] fn $name() { super::run_alone(stringify!($name)) })*
        }
    };
}

fn run_alone(name: &'static str) {
    let run = |test: usize| {
        set_start_method(StartMethod::Zygote);
        TESTS[test].1();
    };
    let test = TESTS.iter().position(|(known, _)| *known == name).unwrap();
    let alone = Process::new(run, (test,)).name(name).method(StartMethod::Zygote);
    // Longer than any wait in it, whose words say more.
    Bound(alone.start().unwrap()).join_timeout(2 * LONG).unwrap();
}

alone! {
    a_start_takes_a_spare_and_another_comes
    one_start_leaves_nothing_idle
    a_warm_process_is_as_its_starter_is_now
    a_warm_process_has_the_descriptors_of_any_other
    given_up_rights_are_given_up_in_warm_processes
    a_killed_spare_gets_no_work
    spares_end_with_their_zygote
    what_has_begun_does_not_end_with_the_zygote
    spares_end_with_their_starter
    a_signal_that_came_before_the_start_is_not_for_the_process
    a_signal_right_after_the_start_is
    daemons_and_others_come_from_the_same_spares
    spares_make_room_where_processes_are_few
    nothing_is_stuck_when_everything_is_killed
    a_thousand_warm_starts_leave_nothing
}

fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn name_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().into()
}

fn zygote() -> u32 {
    *children_of(std::process::id()).last().unwrap()
}

fn spares_of(zygote: u32) -> BTreeSet<u32> {
    children_of(zygote).into_iter().filter(|pid| name_of(*pid) == "spare").collect()
}

/// Waits for a condition that nobody announces.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::yield_now();
    }
}

/// Has so many spares made, and waits until they sleep.
fn keep(count: usize) -> BTreeSet<u32> {
    let asleep = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('S')
    };
    let mut spares = BTreeSet::new();
    eventually("all spares", || {
        // Some may have ended just now.
        keep_warm(count).unwrap();
        let zygote = zygote();
        spares = spares_of(zygote);
        // When the zygote sleeps it has announced them, and no others come.
        let ready = spares.len() == count && spares.iter().all(asleep) && asleep(&zygote);
        ready && spares_of(zygote) == spares
    });
    spares
}

fn kill(pid: u32, signal: Signal) {
    // What has ended by itself was not there to be killed.
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), signal);
}

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

fn a_start_takes_a_spare_and_another_comes() {
    let mut spares = keep(3);
    for round in 0..20 {
        let child = Bound(Process::new(add, (round, 1)).name("warm").start().unwrap());
        assert!(spares.contains(&child.pid()), "{} is none of {spares:?}", child.pid());
        assert_eq!(child.join_timeout(LONG), Ok(round + 1));
        assert_eq!(child.exitcode(), Some(0));
        spares = keep(3);
    }
    assert_eq!(keep(7).len(), 7);
    keep_warm(0).unwrap();
    eventually("the end of the spares", || children_of(zygote()).is_empty());
    let child = Bound(Process::new(add, (1, 1)).start().unwrap());
    assert_eq!(child.join_timeout(LONG), Ok(2));
    assert!(children_of(zygote()).is_empty());
}

fn one_start_leaves_nothing_idle() {
    let start = || Bound(Process::new(add, (1, 1)).start().unwrap()).join_timeout(LONG).unwrap();
    start();
    for _ in 0..3 {
        // Nor do those that never take a spare.
        let child = Process::new(add, (1, 1)).method(StartMethod::Spawn).start().unwrap();
        assert_eq!(Bound(child).join_timeout(LONG), Ok(2));
    }
    assert!(children_of(zygote()).is_empty());
    start();
    eventually("the first spares", || spares_of(zygote()).len() == 2);
}

#[derive(PartialEq, Debug, serde::Serialize, serde::Deserialize)]
struct Picture {
    variables: (Option<String>, Option<String>),
    directory: std::path::PathBuf,
    status: String,
    limits: String,
    niceness: i32,
    name: String,
}

fn picture() -> Picture {
    let lines = ["Umask:", "SigBlk:", "SigIgn:", "Cpus_allowed:", "NoNewPrivs:", "NSpgid:"];
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let variable = |name| std::env::var(name).ok();
    Picture {
        variables: (variable("WARM_SET"), variable("WARM_GONE")),
        directory: std::env::current_dir().unwrap(),
        status: status
            .lines()
            .filter(|line| lines.iter().any(|key| line.starts_with(key)))
            .collect::<Vec<_>>()
            .join("\n"),
        limits: std::fs::read_to_string("/proc/self/limits").unwrap(),
        niceness: rustix::process::getpriority_process(None).unwrap(),
        name: String::new(),
    }
}

fn a_warm_process_is_as_its_starter_is_now() {
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("WARM_GONE", "still there") };
    let ask = || {
        let spares = keep(3);
        let child = Bound(Process::new(picture, ()).start().unwrap());
        assert!(spares.contains(&child.pid()));
        assert_eq!(child.join_timeout(LONG).unwrap(), picture());
    };
    ask();
    // SAFETY: as above.
    unsafe {
        std::env::set_var("WARM_SET", "now");
        std::env::remove_var("WARM_GONE");
    }
    ask();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o137));
    std::env::set_current_dir("/proc").unwrap();
    ask();
    let limit = rustix::process::Rlimit { current: Some(77), maximum: Some(200) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    rustix::process::setpriority_process(None, 3).unwrap();
    ask();
    // SAFETY: the set is initialised before use; an ignored signal runs no code.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGUSR1);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        libc::signal(libc::SIGUSR2, libc::SIG_IGN);
    }
    rustix::process::setpgid(None, None).unwrap();
    ask();
    // The streams that it has now, not those of then.
    keep(2);
    let path = std::env::temp_dir().join(format!("procession-warm-{}", std::process::id()));
    let file = std::fs::File::create(&path).unwrap();
    rustix::stdio::dup2_stdout(&file).unwrap();
    let write = || {
        rustix::io::write(rustix::stdio::stdout(), b"here").unwrap();
    };
    let ended = Bound(Process::new(write, ()).start().unwrap()).join_timeout(LONG);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!((ended, text.as_str()), (Ok(()), "here"));
}

fn open_descriptors() -> Vec<String> {
    let list = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut kinds: Vec<String> = list
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().split('[').next().unwrap().to_owned())
        .collect();
    kinds.sort();
    kinds
}

fn a_warm_process_has_the_descriptors_of_any_other() {
    let ask = || {
        let child = Bound(Process::new(open_descriptors, ()).start().unwrap());
        (child.pid(), child.join_timeout(LONG).unwrap())
    };
    keep_warm(0).unwrap();
    let (_, cold) = ask();
    let spares = keep(5);
    for _ in 0..5 {
        let (pid, warm) = ask();
        assert!(spares.contains(&pid));
        // The directory that it reads has its own number in it.
        let count = |of: &[String]| of.iter().filter(|link| !link.starts_with("/proc")).count();
        assert_eq!(count(&warm), count(&cold), "{warm:?} {cold:?}");
    }
}

fn given_up_rights_are_given_up_in_warm_processes() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root has rights to give up");
    }
    fn rights() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let keys = ["Uid:", "Gid:", "CapEff:", "CapPrm:"];
        status.lines().filter(|line| keys.iter().any(|key| line.starts_with(key))).collect()
    }
    let old = keep(3);
    let first = zygote();
    // SAFETY: gives up rights; this process has one thread.
    unsafe {
        assert_eq!(libc::setresgid(65534, 65534, 65534), 0);
        assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
    }
    let child = Bound(Process::new(rights, ()).start().unwrap());
    assert!(!old.contains(&child.pid()));
    assert_eq!(child.join_timeout(LONG).unwrap(), rights());
    eventually("the end of the old ones", || gone(first) && old.iter().all(|pid| gone(*pid)));
    // The first may go the other way, since more than the rights has changed.
    eventually("a new one that is used", || {
        let new = keep(2);
        let child = Bound(Process::new(rights, ()).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), rights());
        new.contains(&child.pid())
    });
}

fn a_killed_spare_gets_no_work() {
    for killed in 1..=3 {
        let spares = keep(3);
        for pid in spares.iter().take(killed) {
            kill(*pid, Signal::KILL);
        }
        let dead: Vec<u32> = spares.into_iter().take(killed).collect();
        eventually("the deaths", || dead.iter().all(|pid| gone(*pid)));
        for _ in 0..5 {
            let child = Bound(Process::new(add, (1, 1)).start().unwrap());
            assert!(!dead.contains(&child.pid()));
            assert_eq!(child.join_timeout(LONG), Ok(2));
        }
    }
}

fn spares_end_with_their_zygote() {
    let spares = keep(4);
    let first = zygote();
    kill(first, Signal::KILL);
    eventually("the end of the spares", || spares.iter().all(|pid| gone(*pid)));
    let child = Bound(Process::new(add, (1, 1)).start().unwrap());
    assert_eq!(child.join_timeout(LONG), Ok(2));
    assert_ne!(zygote(), first);
    assert!(keep(4).is_disjoint(&spares));
}

fn what_has_begun_does_not_end_with_the_zygote() {
    for _ in 0..4 {
        keep(2);
        let (go, came) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
        let wait = |go: Queue<u32>, came: Queue<u32>| {
            let number = go.get().unwrap();
            came.put(&number).unwrap();
        };
        let other = Process::new(wait, (go.clone(), came.clone())).daemon(false).start().unwrap();
        let other = Bound(other);
        let daemon = Process::new(wait_for_ever, ()).daemon(true).start().unwrap();
        let daemon = Bound(daemon);
        kill(zygote(), Signal::KILL);
        let end = daemon.join_timeout(LONG).unwrap_err();
        assert!(!matches!(end, JoinError::TimedOut { .. }), "{end}");
        go.put_timeout(&5, LONG).unwrap();
        assert_eq!(came.get_timeout(LONG).unwrap(), 5);
        let end = other.join_timeout(LONG);
        assert!(
            !matches!(end, Err(JoinError::TimedOut { .. } | JoinError::Killed { .. })),
            "{end:?}"
        );
    }
}

fn spares_end_with_their_starter() {
    fn starter(pids: Queue<Vec<u32>>) {
        let mut all: Vec<u32> = keep(4).into_iter().collect();
        all.push(zygote());
        pids.put(&all).unwrap();
        wait_for_ever();
    }
    let pids = Queue::bounded(1).unwrap();
    let starter = Process::new(starter, (pids.clone(),)).daemon(false).start().unwrap();
    let starter = Bound(starter);
    let all = pids.get_timeout(LONG).unwrap();
    assert_eq!(all.len(), 5);
    starter.kill().unwrap();
    eventually("the end of all", || all.iter().all(|pid| gone(*pid)));
}

fn a_signal_that_came_before_the_start_is_not_for_the_process() {
    let signals =
        [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::TSTP, Signal::USR1];
    for signal in signals {
        // What whoever runs the tests ignores (nohup: HUP; a shell in the background: INT and QUIT) ends no spare.
        // SAFETY: a default action runs no code of ours.
        unsafe { libc::signal(signal.as_raw(), libc::SIG_DFL) };
    }
    for signal in signals {
        let spares = keep(2);
        for pid in &spares {
            kill(*pid, signal);
        }
        eventually("the end of those signalled", || spares.iter().all(|pid| gone(*pid)));
        let child = Bound(Process::new(add, (1, 1)).start().unwrap());
        assert_eq!(child.join_timeout(LONG), Ok(2), "after {signal:?}");
    }
}

fn a_signal_right_after_the_start_is() {
    keep_warm(4).unwrap();
    for _ in 0..200 {
        let child = Bound(Process::new(wait_for_ever, ()).start().unwrap());
        child.terminate().unwrap();
        let end = child.join_timeout(LONG);
        assert!(matches!(end, Err(JoinError::Killed { signal: 15, .. })), "{end:?}");
    }
}

fn daemons_and_others_come_from_the_same_spares() {
    fn starter(pids: Queue<(u32, u32)>) {
        let spares = keep(4);
        let daemon = Process::new(wait_for_ever, ()).daemon(true).start().unwrap();
        let other = Process::new(wait_for_ever, ()).daemon(false).start().unwrap();
        assert!(spares.contains(&daemon.pid()) && spares.contains(&other.pid()));
        let who = Process::new(|| (current_process().name, current_process().daemon), ());
        let who = who.name("called").daemon(true).start().unwrap();
        assert_eq!(who.join_timeout(LONG), Ok(("called".into(), true)));
        pids.put(&(daemon.pid(), other.pid())).unwrap();
        wait_for_ever();
    }
    let pids = Queue::bounded(1).unwrap();
    let starter = Process::new(starter, (pids.clone(),)).daemon(false).start().unwrap();
    let starter = Bound(starter);
    let (daemon, other) = pids.get_timeout(LONG).unwrap();
    starter.kill().unwrap();
    eventually("the end of the daemon", || gone(daemon));
    assert!(!gone(other));
    kill(other, Signal::KILL);
    eventually("the end of the other", || gone(other));
}

fn spares_make_room_where_processes_are_few() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can become a user without other processes");
    }
    // A user whom nobody else is.
    let user = 1_000_000_000 + std::process::id();
    // SAFETY: gives up rights; this process has one thread.
    unsafe { assert_eq!(libc::setresuid(user, user, user), 0) };
    let limit = rustix::process::Rlimit { current: Some(4), maximum: Some(4) };
    rustix::process::setrlimit(rustix::process::Resource::Nproc, limit).unwrap();
    // This process, the zygote, and at most two more.
    keep_warm(10).unwrap();
    for method in [StartMethod::Zygote, StartMethod::Spawn, StartMethod::Zygote] {
        for _ in 0..5 {
            let started = Process::new(add, (1, 1)).method(method).start();
            let child = Bound(started.unwrap_or_else(|e| panic!("{method:?}: {e}")));
            assert_eq!(child.join_timeout(LONG), Ok(2), "{method:?}");
        }
    }
    let one = Bound(Process::new(wait_for_ever, ()).start().unwrap());
    let two = Bound(Process::new(wait_for_ever, ()).start().unwrap());
    Process::new(add, (1, 1)).start().unwrap_err();
    for child in [one, two] {
        child.kill().unwrap();
        child.join_timeout(LONG).unwrap_err();
    }
}

fn nothing_is_stuck_when_everything_is_killed() {
    keep_warm(4).unwrap();
    let me = std::process::id();
    // From outside, for a thread here would see itself start.
    let killer = |me: u32| {
        let mut random = 88172645463325252u64;
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let others = |pid: &u32| *pid != std::process::id();
            let zygotes: Vec<u32> = children_of(me);
            let all: Vec<u32> = zygotes.iter().flat_map(|zygote| children_of(*zygote)).collect();
            let Some(zygote) =
                zygotes.iter().find(|zygote| !children_of(**zygote).contains(&std::process::id()))
            else {
                continue;
            };
            let victims: Vec<u32> = all.into_iter().filter(others).collect();
            match random % 16 {
                0 => kill(*zygote, Signal::KILL),
                _ if victims.is_empty() => {}
                n => kill(victims[n as usize % victims.len()], Signal::KILL),
            }
        }
    };
    let killer = Bound(Process::new(killer, (me,)).daemon(false).start().unwrap());
    let (mut done, mut killed) = (0, 0);
    while killer.is_alive() {
        // A start that is an error left nothing; a zygote may be killed over and over.
        let Ok(child) = Process::new(add, (20, 22)).start() else { continue };
        match Bound(child).join_timeout(LONG) {
            Ok(sum) => {
                assert_eq!(sum, 42);
                done += 1;
            }
            Err(JoinError::TimedOut { .. }) => panic!("a process is stuck"),
            Err(_) => killed += 1,
        }
    }
    let _ = killer.join_timeout(LONG);
    assert!(done > 0, "{killed} were killed");
    keep_warm(0).unwrap();
    eventually("the end of all", || {
        let _ = Process::new(add, (1, 1)).start().map(|child| child.join_timeout(LONG));
        children_of(me).len() == 1 && children_of(zygote()).is_empty()
    });
}

fn a_thousand_warm_starts_leave_nothing() {
    keep(3);
    let start = || Bound(Process::new(add, (1, 1)).start().unwrap()).join_timeout(LONG).unwrap();
    start();
    let at_rest = || {
        keep(3);
        // Hears what the last spares were announced by.
        start();
        keep(3);
        start();
        open_descriptors().len()
    };
    let before = at_rest();
    for _ in 0..1000 {
        assert_eq!(start(), 2);
    }
    let after = at_rest();
    // A spare of which this process has not heard yet has no descriptors here.
    assert!(after <= before + 6, "{before} descriptors, then {after}");
    keep_warm(0).unwrap();
    eventually("the end of all", || {
        children_of(std::process::id()).len() == 1 && children_of(zygote()).is_empty()
    });
}
