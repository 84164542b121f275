//! Signals, in processes of their own: each test runs in one that has a single thread.

#[path = "support/bound.rs"]
mod bound;

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use bound::Bound;
use procession_posix::channel::Queue;
use procession_posix::process::{Process, StartMethod, current_process, finalizer};
use procession_posix::signal::{
    Origin, Received, Signal, Signals, block, end_in_order, forward, listen,
};
use procession_posix::sync::Event;
use procession_posix::wait::wait_timeout;
use rustix::fs::{Mode, OFlags};

const LONG: Duration = Duration::from_secs(60);

fn run(test: usize, method: StartMethod) {
    TESTS[test].1(method);
}

fn alone(name: &str, method: StartMethod) {
    let test = TESTS.iter().position(|(known, _)| *known == name).unwrap();
    let process = Process::new(run, (test, method)).method(StartMethod::Zygote).name("alone");
    let process = Bound(process.start().unwrap());
    // It gives up earlier, and then kills what it has started.
    process.join_timeout(2 * LONG).unwrap();
}

macro_rules! tests {
    (once: $($once:ident)* ; under_each_method: $($each:ident)*) => {
        const TESTS: &[(&str, fn(StartMethod))] =
            &[$((stringify!($once), $once),)* $((stringify!($each), $each),)*];
        mod once {
            use super::StartMethod;
            $(#[test] fn $once() { super::alone(stringify!($once), StartMethod::Zygote) })*
        }
        mod each_method {
            use super::StartMethod;
            $(#[test] fn $each() {
                for method in [StartMethod::Zygote, StartMethod::Spawn, StartMethod::Fork] {
                    super::alone(stringify!($each), method);
                }
            })*
        }
    };
}

tests! {
    once:
        what_is_blocked_waits
        guards_overlap_in_any_order
        signals_are_told_with_their_sender
        every_listener_is_told
        the_old_actions_come_back
        what_cannot_be_had_is_refused
        a_wait_takes_signals
        a_forked_process_gives_signals_back
        listeners_come_and_go_in_a_storm ;
    under_each_method:
        children_have_the_mask_but_no_handlers
        the_terminal_reaches_each_process_once
        what_is_forwarded_reaches_each_child_once
        the_terminal_and_a_forwarder_do_not_tell_twice
        a_signal_ends_the_tree_in_order
        the_terminal_ends_the_tree_in_order
        who_does_not_end_in_time_is_killed
        the_second_signal_ends_at_once
        nobody_is_left_behind_by_a_start_under_way
        ignored_signals_stay_ignored
}

fn send(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let signal = rustix::process::Signal::from_named_raw(signal.as_raw()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn send_me(signal: Signal) {
    send(std::process::id(), signal);
}

fn recv(signals: &Signals) -> Signal {
    signals.recv_timeout(LONG).expect("a signal within a minute").signal
}

/// A line of /proc/self/status, as bits.
fn status_bits(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let value = status.lines().find_map(|known| known.strip_prefix(line)).unwrap();
    u64::from_str_radix(value.trim_start_matches(':').trim(), 16).unwrap()
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

fn what_is_blocked_waits(_: StartMethod) {
    let signals = listen(&[Signal::USR1]).unwrap();
    let blocked = block(&[Signal::USR1]).unwrap();
    send_me(Signal::USR1);
    assert_eq!(signals.try_recv(), None);
    drop(blocked);
    assert_eq!(recv(&signals), Signal::USR1);
    assert_eq!(signals.try_recv(), None);
}

fn guards_overlap_in_any_order(_: StartMethod) {
    let before = status_bits("SigBlk");
    let first = block(&[Signal::USR1, Signal::INT]).unwrap();
    let second = block(&[Signal::USR1, Signal::HUP]).unwrap();
    let all = bit(Signal::USR1) | bit(Signal::INT) | bit(Signal::HUP);
    assert_eq!(status_bits("SigBlk"), before | all);
    drop(first);
    assert_eq!(status_bits("SigBlk"), before | bit(Signal::USR1) | bit(Signal::HUP));
    let third = block(&[Signal::USR1]).unwrap();
    drop(second);
    assert_eq!(status_bits("SigBlk"), before | bit(Signal::USR1));
    drop(third);
    assert_eq!(status_bits("SigBlk"), before);
}

fn signals_are_told_with_their_sender(_: StartMethod) {
    let signals = listen(&[Signal::USR1, Signal::USR2, Signal::realtime(3).unwrap()]).unwrap();
    fn send_both(to: u32) {
        send(to, Signal::USR1);
        send(to, Signal::USR2);
    }
    let child = Bound(Process::new(send_both, (std::process::id(),)).start().unwrap());
    child.join_timeout(LONG).unwrap();
    let uid = rustix::process::getuid().as_raw();
    for expected in [Signal::USR1, Signal::USR2] {
        let Received { signal, origin, .. } = signals.recv_timeout(LONG).unwrap();
        assert_eq!(signal, expected);
        assert_eq!(origin, Origin::Process { pid: child.pid(), uid });
    }
    assert_eq!(signals.recv_timeout(Duration::ZERO), None);
}

fn every_listener_is_told(_: StartMethod) {
    let first = listen(&[Signal::USR1]).unwrap();
    let second = listen(&[Signal::USR1, Signal::USR2]).unwrap();
    send_me(Signal::USR1);
    send_me(Signal::USR2);
    assert_eq!(recv(&first), Signal::USR1);
    assert_eq!(first.try_recv(), None);
    assert_eq!([recv(&second), recv(&second)], [Signal::USR1, Signal::USR2]);
    drop(second);
    send_me(Signal::USR1);
    assert_eq!(recv(&first), Signal::USR1);
}

fn the_old_actions_come_back(_: StartMethod) {
    let caught = status_bits("SigCgt");
    let ignored = status_bits("SigIgn");
    // SAFETY: an action that is no function.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let first = listen(&[Signal::USR1, Signal::USR2]).unwrap();
    let second = listen(&[Signal::USR1]).unwrap();
    let both = bit(Signal::USR1) | bit(Signal::USR2);
    assert_eq!(status_bits("SigCgt"), caught | both);
    drop(first);
    assert_eq!(status_bits("SigCgt"), caught | bit(Signal::USR1));
    drop(second);
    assert_eq!(status_bits("SigCgt"), caught);
    assert_eq!(status_bits("SigIgn"), ignored | bit(Signal::USR2));
    assert_eq!(std::fs::read_dir("/proc/self/fd").unwrap().count(), descriptors);
    send_me(Signal::USR2);
}

fn what_cannot_be_had_is_refused(_: StartMethod) {
    let refusals = [
        block(&[Signal::INT, Signal::KILL]).map(drop),
        listen(&[Signal::STOP]).map(drop),
        listen(&[Signal::SEGV]).map(drop),
        listen(&[]).map(drop),
    ];
    for refusal in refusals {
        assert_eq!(refusal.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
    let many: Vec<_> = (0..64).map(|_| listen(&[Signal::USR1]).unwrap()).collect();
    assert!(listen(&[Signal::USR1]).unwrap_err().to_string().contains("64"));
    send_me(Signal::USR1);
    assert!(many.iter().all(|signals| recv(signals) == Signal::USR1));
}

fn a_wait_takes_signals(_: StartMethod) {
    let signals = listen(&[Signal::USR1]).unwrap();
    let event = Event::new().unwrap();
    assert!(wait_timeout(&[&event, &signals], Duration::ZERO).is_empty());
    fn poke(to: u32) {
        send(to, Signal::USR1);
    }
    let child = Bound(Process::new(poke, (std::process::id(),)).start().unwrap());
    assert_eq!(wait_timeout(&[&event, &signals], LONG), [1]);
    assert_eq!(recv(&signals), Signal::USR1);
    child.join_timeout(LONG).unwrap();
}

/// It has a copy of the handler, and neither swallows the signal nor tells the parent.
fn a_forked_process_gives_signals_back(_: StartMethod) {
    let signals = listen(&[Signal::TERM, Signal::USR1]).unwrap();
    fn sleep(awake: Event) {
        awake.set();
        std::thread::sleep(LONG);
    }
    let fork = |awake: &Event| {
        let process = Process::new(sleep, (awake.clone(),)).method(StartMethod::Fork);
        Bound(process.start().unwrap())
    };
    let awake = Event::new().unwrap();
    let child = fork(&awake);
    assert!(awake.wait_timeout(LONG));
    child.terminate().unwrap();
    assert!(child.join_timeout(LONG).is_err());
    assert_eq!(child.exitcode(), Some(-15));
    assert_eq!(signals.try_recv(), None);
    // It may listen itself.
    fn listens(awake: Event) -> bool {
        let signals = listen(&[Signal::USR1]).unwrap();
        awake.set();
        recv(&signals) == Signal::USR1
    }
    let awake = Event::new().unwrap();
    let process = Process::new(listens, (awake.clone(),)).method(StartMethod::Fork);
    let child = Bound(process.start().unwrap());
    assert!(awake.wait_timeout(LONG));
    send(child.pid(), Signal::USR1);
    assert!(child.join_timeout(LONG).unwrap());
    assert_eq!(signals.try_recv(), None);
    send_me(Signal::TERM);
    assert_eq!(recv(&signals), Signal::TERM);
}

/// Nothing is ever written but to pipes that are open.
fn listeners_come_and_go_in_a_storm(_: StartMethod) {
    fn bombard(to: u32, ready: Event) {
        ready.set();
        // Until it is killed, or who it is meant for has ended.
        let to = rustix::process::Pid::from_raw(to as i32).unwrap();
        while rustix::process::kill_process(to, rustix::process::Signal::USR1).is_ok() {}
    }
    let _always = listen(&[Signal::USR1]).unwrap();
    let ready = Event::new().unwrap();
    let child = Process::new(bombard, (std::process::id(), ready.clone())).daemon(true);
    let child = Bound(child.start().unwrap());
    assert!(ready.wait_timeout(LONG));
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let mut told = 0;
                while told < 500 {
                    let signals = listen(&[Signal::USR1]).unwrap();
                    told += usize::from(signals.recv_timeout(LONG).is_some());
                    drop(signals);
                    // It takes the numbers of the pipe that was closed.
                    let file = rustix::fs::memfd_create("victim", rustix::fs::MemfdFlags::CLOEXEC)
                        .unwrap();
                    assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, 0);
                    let other = rustix::fs::memfd_create("victim", rustix::fs::MemfdFlags::CLOEXEC);
                    std::thread::yield_now();
                    assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, 0);
                    assert_eq!(rustix::fs::fstat(other.unwrap()).unwrap().st_size, 0);
                }
            });
        }
    });
    child.kill().unwrap();
}

fn children_have_the_mask_but_no_handlers(method: StartMethod) {
    fn look() -> (u64, u64, u64) {
        (status_bits("SigBlk"), status_bits("SigIgn"), status_bits("SigCgt"))
    }
    // SAFETY: an action that is no function.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
    let _listening = listen(&[Signal::USR1]).unwrap();
    let blocked = block(&[Signal::HUP]).unwrap();
    let start = || {
        let child = Bound(Process::new(look, ()).method(method).start().unwrap());
        child.join_timeout(LONG).unwrap()
    };
    let (mask, ignored, caught) = start();
    assert_eq!(mask & bit(Signal::HUP), bit(Signal::HUP));
    assert_eq!(ignored & bit(Signal::USR2), bit(Signal::USR2));
    let copied = if method == StartMethod::Fork { bit(Signal::USR1) } else { 0 };
    assert_eq!(caught & bit(Signal::USR1), copied);
    drop(blocked);
    assert_eq!(start().0 & bit(Signal::HUP), 0);
}

/// A terminal that is this process' own: it leads its session. The other side of it.
fn become_a_terminals_session() -> &'static OwnedFd {
    let pty =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::CLOEXEC)
            .unwrap();
    rustix::pty::unlockpt(&pty).unwrap();
    let name = rustix::pty::ptsname(&pty, Vec::new()).unwrap();
    // A leader of a process group cannot leave its session; this one is led by who started the test.
    if rustix::process::getpgrp() != rustix::process::getpid() {
        rustix::process::setsid().unwrap();
    }
    let terminal = rustix::fs::open(&*name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    // SAFETY: makes the terminal this session's; takes a number.
    assert_eq!(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }, 0);
    // Both stay open as long as the session lives: closing them hangs it up.
    std::mem::forget(terminal);
    Box::leak(Box::new(pty))
}

type Ready = Queue<u32>;
type Count = Queue<(u32, usize)>;

/// Counts Ctrl-C until Ctrl-\ comes. The terminal sends one after the other.
fn count(ready: Ready, counts: Count) {
    let signals = listen(&[Signal::INT, Signal::QUIT]).unwrap();
    ready.put(&std::process::id()).unwrap();
    let mut interrupts = 0;
    while let Signal::INT = recv(&signals) {
        interrupts += 1;
    }
    counts.put(&(std::process::id(), interrupts)).unwrap();
}

fn the_terminal_reaches_each_process_once(method: StartMethod) {
    let pty = become_a_terminals_session();
    fn middle(method: StartMethod, ready: Ready, counts: Count) {
        let start = |daemon| {
            let process = Process::new(count, (ready.clone(), counts.clone()));
            Bound(process.method(method).daemon(daemon).start().unwrap())
        };
        let children = [start(false), start(true)];
        count(ready.clone(), counts.clone());
        for child in children {
            child.join_timeout(LONG).unwrap();
        }
    }
    let (ready, counts) = (Queue::bounded(16).unwrap(), Queue::bounded(16).unwrap());
    let signals = listen(&[Signal::INT, Signal::QUIT]).unwrap();
    let start = || {
        let process = Process::new(middle, (method, ready.clone(), counts.clone()));
        Bound(process.method(method).start().unwrap())
    };
    let children = [start(), start()];
    let mut pids: Vec<u32> = (0..6).map(|_| ready.get_timeout(LONG).unwrap()).collect();
    rustix::io::write(pty, b"\x03").unwrap();
    let came = signals.recv_timeout(LONG).unwrap();
    assert_eq!((came.signal, came.origin), (Signal::INT, Origin::Kernel));
    rustix::io::write(pty, b"\x1c").unwrap();
    assert_eq!(recv(&signals), Signal::QUIT);
    let mut counted: Vec<_> = (0..6).map(|_| counts.get_timeout(LONG).unwrap()).collect();
    pids.sort_unstable();
    counted.sort_unstable();
    assert_eq!(counted, pids.iter().map(|pid| (*pid, 1)).collect::<Vec<_>>());
    for child in children {
        child.join_timeout(LONG).unwrap();
    }
    // What helps to start processes has not been disturbed.
    fn nothing() {}
    let next = Bound(Process::new(nothing, ()).method(method).start().unwrap());
    next.join_timeout(LONG).unwrap();
}

fn start_counting(method: StartMethod, ready: &Ready, counts: &Count) -> [Bound<()>; 2] {
    [false, true].map(|daemon| {
        let process = Process::new(count, (ready.clone(), counts.clone()));
        Bound(process.method(method).daemon(daemon).start().unwrap())
    })
}

fn what_is_forwarded_reaches_each_child_once(method: StartMethod) {
    let (ready, counts) = (Queue::bounded(16).unwrap(), Queue::bounded(16).unwrap());
    let forwarding = forward(&[Signal::INT, Signal::QUIT]).unwrap();
    // A thread of the library does not stand in the way of a fork.
    let children = start_counting(method, &ready, &counts);
    (0..2).for_each(|_| assert!(ready.get_timeout(LONG).unwrap() > 0));
    send_me(Signal::INT);
    send_me(Signal::QUIT);
    for _ in 0..2 {
        assert_eq!(counts.get_timeout(LONG).unwrap().1, 1);
    }
    for child in children {
        child.join_timeout(LONG).unwrap();
    }
    drop(forwarding);
    assert_eq!(status_bits("SigCgt") & bit(Signal::INT), 0);
}

fn the_terminal_and_a_forwarder_do_not_tell_twice(method: StartMethod) {
    let pty = become_a_terminals_session();
    let (ready, counts) = (Queue::bounded(16).unwrap(), Queue::bounded(16).unwrap());
    let signals = listen(&[Signal::INT, Signal::QUIT]).unwrap();
    let forwarding = forward(&[Signal::INT]).unwrap();
    let children = start_counting(method, &ready, &counts);
    (0..2).for_each(|_| assert!(ready.get_timeout(LONG).unwrap() > 0));
    rustix::io::write(pty, b"\x03").unwrap();
    assert_eq!(recv(&signals), Signal::INT);
    // It has done what there was to do.
    drop(forwarding);
    rustix::io::write(pty, b"\x1c").unwrap();
    for _ in 0..2 {
        assert_eq!(counts.get_timeout(LONG).unwrap().1, 1);
    }
    for child in children {
        child.join_timeout(LONG).unwrap();
    }
}

/// What happened, in the order in which it did.
type Diary = Queue<String>;

fn next(diary: &Diary) -> String {
    diary.get_timeout(LONG).unwrap()
}

/// Ends only by a signal.
fn sleeper(diary: Diary) {
    let name = current_process().name;
    let note = diary.clone();
    finalizer(0, move || note.put(&format!("{name} ends")).unwrap());
    diary.put(&format!("{} runs", current_process().name)).unwrap();
    loop {
        std::thread::park();
    }
}

/// Starts some, and waits for them.
fn head(method: StartMethod, diary: Diary) {
    end_in_order(&[Signal::INT, Signal::TERM], LONG).unwrap();
    for (priority, what) in [(0, "before"), (-1, "after")] {
        let note = diary.clone();
        finalizer(priority, move || note.put(&format!("head {what}")).unwrap());
    }
    let start = |name: &str, daemon| {
        let process = Process::new(sleeper, (diary.clone(),)).name(name);
        process.method(method).daemon(daemon).start().unwrap()
    };
    let _daemon = start("daemon", true);
    let other = start("other", false);
    // When it has ended the head comes to its end, too; that does not make it a success.
    let _ = other.join();
}

/// Has a head run, and ends it: by what it ended.
fn ended(method: StartMethod, end: impl Fn(u32)) -> (Option<i32>, Vec<String>) {
    let diary = Queue::bounded(100).unwrap();
    let head = Bound(Process::new(head, (method, diary.clone())).method(method).start().unwrap());
    (0..2).for_each(|_| assert!(next(&diary).ends_with("runs")));
    end(head.pid());
    assert!(head.join_timeout(LONG).is_err());
    let entries = std::iter::from_fn(|| diary.get_nowait().ok()).collect();
    (head.exitcode(), entries)
}

fn a_signal_ends_the_tree_in_order(method: StartMethod) {
    let (code, entries) = ended(method, |head| send(head, Signal::TERM));
    assert_eq!(code, Some(-15));
    assert_eq!(entries, ["head before", "daemon ends", "other ends", "head after"]);
}

fn the_terminal_ends_the_tree_in_order(method: StartMethod) {
    let pty = become_a_terminals_session();
    let signals = listen(&[Signal::INT]).unwrap();
    let (code, mut entries) = ended(method, |_| {
        rustix::io::write(pty, b"\x03").unwrap();
    });
    assert_eq!(code, Some(-2));
    assert_eq!(recv(&signals), Signal::INT);
    // All have got it at the same time.
    assert_eq!(entries.pop().unwrap(), "head after");
    entries.sort();
    // That the head tells the daemon again does not cut its end short.
    assert_eq!(entries, ["daemon ends", "head before", "other ends"]);
}

fn who_does_not_end_in_time_is_killed(method: StartMethod) {
    fn stubborn(awake: Event) {
        let _blocked = block(&[Signal::TERM]).unwrap();
        // Its own order has a thread, which does not block it.
        let _listening = listen(&[Signal::TERM]).unwrap();
        finalizer(0, || {
            loop {
                std::thread::park();
            }
        });
        awake.set();
        loop {
            std::thread::park();
        }
    }
    fn head(method: StartMethod, ready: Event, left: Queue<Option<i32>>) {
        end_in_order(&[Signal::TERM], Duration::from_millis(50)).unwrap();
        let awake = Event::new().unwrap();
        let child = Process::new(stubborn, (awake.clone(),)).method(method).start().unwrap();
        assert!(awake.wait_timeout(LONG));
        let child = std::sync::Arc::new(child);
        let known = child.clone();
        finalizer(-1, move || left.put(&known.exitcode()).unwrap());
        ready.set();
        let _ = child.join();
    }
    let (ready, left) = (Event::new().unwrap(), Queue::bounded(1).unwrap());
    let head = Process::new(head, (method, ready.clone(), left.clone())).method(method);
    let head = Bound(head.start().unwrap());
    assert!(ready.wait_timeout(LONG));
    head.terminate().unwrap();
    assert!(head.join_timeout(LONG).is_err());
    assert_eq!(head.exitcode(), Some(-15));
    assert_eq!(left.get_timeout(LONG).unwrap(), Some(-9));
}

fn the_second_signal_ends_at_once(method: StartMethod) {
    fn head(method: StartMethod, diary: Diary) {
        let start = || {
            Process::new(sleeper, (diary.clone(),)).name("other").method(method).start().unwrap()
        };
        let _other = start();
        // It alone ends in order.
        end_in_order(&[Signal::INT, Signal::TERM], LONG).unwrap();
        let note = diary.clone();
        finalizer(0, move || {
            note.put(&"head ends".to_string()).unwrap();
            loop {
                std::thread::park();
            }
        });
        diary.put(&"head runs".to_string()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let diary = Queue::bounded(100).unwrap();
    let head = Bound(Process::new(head, (method, diary.clone())).method(method).start().unwrap());
    (0..2).for_each(|_| assert!(next(&diary).ends_with("runs")));
    head.terminate().unwrap();
    assert_eq!(next(&diary), "head ends");
    head.interrupt().unwrap();
    assert!(head.join_timeout(LONG).is_err());
    assert_eq!(head.exitcode(), Some(-2));
    assert!(diary.empty());
}

fn ignored_signals_stay_ignored(method: StartMethod) {
    fn look() -> bool {
        send_me(Signal::HUP);
        status_bits("SigIgn") & bit(Signal::HUP) != 0
    }
    // SAFETY: an action that is no function.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    end_in_order(&[Signal::HUP, Signal::TERM], LONG).unwrap();
    assert!(look());
    let child = Bound(Process::new(look, ()).method(method).start().unwrap());
    assert!(child.join_timeout(LONG).unwrap());
}

/// The head is told to end while it starts one after the other.
fn nobody_is_left_behind_by_a_start_under_way(method: StartMethod) {
    fn sleep(pids: Queue<u32>) {
        pids.put(&std::process::id()).unwrap();
        loop {
            std::thread::park();
        }
    }
    fn head(method: StartMethod, pids: Queue<u32>) {
        end_in_order(&[Signal::TERM], LONG).unwrap();
        let mut all = Vec::new();
        loop {
            all.push(Process::new(sleep, (pids.clone(),)).method(method).start().unwrap());
        }
    }
    for enough in (1..=5).cycle().take(15) {
        let pids = Queue::bounded(1000).unwrap();
        let process = Process::new(head, (method, pids.clone())).method(method);
        let head = Bound(process.start().unwrap());
        let mut all: Vec<_> = (0..enough).map(|_| pids.get_timeout(LONG).unwrap()).collect();
        head.terminate().unwrap();
        assert!(head.join_timeout(LONG).is_err());
        assert_eq!(head.exitcode(), Some(-15));
        all.extend(std::iter::from_fn(|| pids.get_nowait().ok()));
        for pid in all {
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            assert!(rustix::process::test_kill_process(pid).is_err(), "{pid:?} lives");
        }
    }
}
