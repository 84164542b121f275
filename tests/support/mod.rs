//! What tests with real processes share: a process for each test, children that never outlive it, and words that
//! all of them see.
//!
//! Each test runs in a process that is forked for it from a runner which has one thread and has touched nothing. So
//! a test may configure the memory of its tree, limit itself, or take away system calls, and the next one starts
//! afresh. When it ends, however it ends, all that it started is killed; what then still lives is a failure.

pub mod carrier;
pub mod letters;
pub mod random;
pub mod words;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, getpid, kill_process,
    kill_process_group, set_child_subreaper, set_parent_process_death_signal, setpgid, wait,
    waitid,
};

/// How long anything may take that takes milliseconds on an idle machine.
pub const LONG: Duration = Duration::from_secs(60);
/// How long a test may take.
const TEST: Duration = Duration::from_secs(300);

/// A test: its name and what it does. It fails by panicking.
pub type Test = (&'static str, fn());

/// Runs the tests that the command line asks for: what `main` of a test without harness does. Understands what
/// cargo and nextest say.
pub fn run(tests: &[Test]) -> ExitCode {
    run_within(TEST, tests)
}

/// The same, with another limit on each test's time.
pub fn run_within(limit: Duration, tests: &[Test]) -> ExitCode {
    let Some(tests) = asked_for(tests) else { return ExitCode::SUCCESS };
    adopt_orphans();
    let failed = tests.iter().filter(|test| !reported(limit, test)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same, with all tests beside each other: for those that wait more than they work.
pub fn run_at_once(limit: Duration, tests: &[Test]) -> ExitCode {
    let Some(tests) = asked_for(tests) else { return ExitCode::SUCCESS };
    let good = Word::new();
    let run = |test: &&Test| {
        Child::start(|| {
            adopt_orphans();
            if reported(limit, test) {
                good.count();
            }
        })
    };
    let runners: Vec<Child> = tests.iter().map(run).collect();
    for runner in runners {
        // Within this each test has been reported.
        runner.outcome_within(limit + 2 * LONG);
    }
    if good.get() == tests.len() as u64 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The tests that the command line names. None: it wants no more than to see their names.
fn asked_for(tests: &[Test]) -> Option<Vec<&Test>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|found| found == word);
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let chosen = |name: &str| match has("--exact") {
        true => filters.iter().any(|filter| *filter == name),
        false => filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())),
    };
    if has("--list") {
        // None is ignored.
        for (name, _) in tests.iter().filter(|_| !has("--ignored")) {
            println!("{name}: test");
        }
        return None;
    }
    Some(tests.iter().filter(|(name, _)| chosen(name)).collect())
}

/// Whatever a test leaves behind becomes this process's child, and can be found.
fn adopt_orphans() {
    set_child_subreaper(Some(getpid())).expect("adopting orphans");
}

/// Runs a test and says how that went; whether it went well.
fn reported(limit: Duration, (name, body): &Test) -> bool {
    let begin = Instant::now();
    let answer = run_one(limit, *body);
    match &answer {
        Ok(()) => println!("test {name} ... ok ({} ms)", begin.elapsed().as_millis()),
        Err(error) => println!("test {name} ... FAILED: {error}"),
    }
    answer.is_ok()
}

fn run_one(limit: Duration, body: fn()) -> Result<(), String> {
    let child = Child::start(|| {
        let _ = setpgid(None, None);
        body();
    });
    // Both sides, so that it holds from either's next instruction on. Failure: it is quick, and gone.
    let _ = setpgid(Some(child.pid), Some(child.pid));
    let group = child.pid;
    let late = !child.has_ended_by(Instant::now() + limit);
    let answer = match late {
        true => Err(format!("it did not end within {} s", limit.as_secs())),
        false => child.outcome(),
    };
    let _ = kill_process_group(group, Signal::KILL);
    drop(child);
    let deadline = Instant::now() + LONG;
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(_) => return answer,
            Ok(Some(_)) => {}
            Ok(None) if Instant::now() > deadline => {
                return answer.and(Err("it left processes behind that live on".into()));
            }
            Ok(None) => pause(),
        }
    }
}

/// A forked process. Dropping it kills and reaps it.
pub struct Child {
    pid: Pid,
    parent: Pid,
}

impl Child {
    /// Forks a child that runs `body` and leaves with status 0, or 101 if that panics. It is killed when this
    /// process ends.
    pub fn start(body: impl FnOnce()) -> Child {
        Self::start_free(|| {
            set_parent_process_death_signal(Some(Signal::KILL)).expect("a death signal");
            body();
        })
    }

    /// The same, but it lives on when this process ends.
    pub fn start_free(body: impl FnOnce()) -> Child {
        let _ = std::io::stdout().flush();
        let parent = getpid();
        // SAFETY: the child leaves by _exit, and what runs in it before is ordinary code: tests fork while they
        // have one thread, so no lock is held by another one.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let code = match catch_unwind(AssertUnwindSafe(body)) {
                Ok(()) => 0,
                Err(_) => 101,
            };
            // SAFETY: ends the process without running handlers that belong to the parent.
            unsafe { libc::_exit(code) }
        }
        assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
        Child { pid: Pid::from_raw(pid).expect("a positive number"), parent }
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("signalling a child");
    }

    /// Kills it, and waits until it is dead. It stays a zombie, until it is dropped.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        assert!(self.has_ended_by(Instant::now() + LONG), "a child lives on after SIGKILL");
    }

    /// Waits until it sleeps in the kernel for a word of memory to change.
    pub fn falls_asleep(&self) {
        fall_asleep(self.pid);
    }

    /// Waits for its end; it has to leave with status 0.
    pub fn finish(self) {
        assert!(self.has_ended_by(Instant::now() + LONG), "a child does not end");
        self.outcome().expect("a child that does what it has to");
    }

    /// Waits for its end; whether it left with status 0, and in time.
    pub fn outcome_within(self, time: Duration) -> bool {
        self.has_ended_by(Instant::now() + time) && self.outcome().is_ok()
    }

    /// Waits for its end; which signal it was ended by, if one did.
    pub fn ends_by(self) -> Option<i32> {
        assert!(self.has_ended_by(Instant::now() + LONG), "a child does not end");
        self.status()?.terminating_signal()
    }

    /// Whether it has ended by now.
    pub fn has_ended(&self) -> bool {
        self.status().is_some()
    }

    /// Whether it has ended; does not reap.
    fn has_ended_by(&self, deadline: Instant) -> bool {
        loop {
            if self.status().is_some() {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            pause();
        }
    }

    fn status(&self) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid), options).expect("asking for a child")
    }

    fn outcome(&self) -> Result<(), String> {
        let status = self.status().ok_or("it has not ended")?;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => Ok(()),
            (Some(101), _) => Err("it panicked, see above".into()),
            (Some(code), _) => Err(format!("it ended with status {code}")),
            (None, signal) => Err(format!("signal {signal:?} ended it")),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if getpid() == self.parent {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED);
        }
    }
}

/// A word that this process and those forked from it see, outside of all that is tested.
#[derive(Clone, Copy)]
pub struct Word(&'static AtomicU64);

impl Word {
    /// A word that is 0.
    pub fn new() -> Word {
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let page = unsafe {
            let flags = ProtFlags::READ | ProtFlags::WRITE;
            mmap_anonymous(std::ptr::null_mut(), 4096, flags, MapFlags::SHARED)
        };
        // SAFETY: the page is mapped for good, zeroed, and only ever seen as this atomic.
        Word(unsafe { &*page.expect("a page of memory").cast::<AtomicU64>() })
    }

    /// Its value.
    pub fn get(self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets it.
    pub fn set(self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }

    /// Adds to it; what it was before.
    pub fn add(self, more: u64) -> u64 {
        self.0.fetch_add(more, Ordering::SeqCst)
    }

    /// Sets one of its bits, which was not set.
    pub fn set_bit(self, bit: usize) {
        let before = self.0.fetch_or(1 << bit, Ordering::SeqCst);
        assert_eq!(before >> bit & 1, 0, "bit {bit} was set");
    }

    /// Adds one.
    pub fn count(self) {
        self.add(1);
    }

    /// Waits until it is `value`.
    pub fn wait_for(self, value: u64) {
        eventually(&format!("a word becomes {value}, it is {}", self.get()), || {
            self.get() == value
        });
    }

    /// Waits until it is not 0, and returns it.
    pub fn wait(self) -> u64 {
        eventually("a word is set", || self.get() != 0);
        self.get()
    }
}

/// Waits until a thread, or a process with one thread, sleeps in the kernel for a word of memory to change.
pub fn fall_asleep(thread: Pid) {
    let calls = [libc::SYS_futex, libc::SYS_futex_waitv].map(|call| format!("{call} "));
    let name = format!("/proc/{thread}/syscall");
    eventually("it is asleep", || {
        let call = std::fs::read_to_string(&name).expect("what a living thread does");
        calls.iter().any(|waits| call.starts_with(waits))
    });
}

/// Waits until `holds`.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        pause();
    }
}

/// What is quick on an idle machine is so at best on one under load: `measure` is asked again for a while.
pub fn quick_at_best(limit: Duration, mut measure: impl FnMut() -> Duration) {
    let deadline = Instant::now() + LONG;
    let mut best = Duration::MAX;
    while best >= limit {
        assert!(Instant::now() < deadline, "{best:?} at best, which should be less than {limit:?}");
        best = best.min(measure());
    }
}

/// From now on `handler` handles SIGALRM in this process. No system call that it interrupts is begun again.
pub fn on_alarm(handler: extern "C" fn(libc::c_int)) {
    // SAFETY: all zero is an action without flags that masks nothing; each handler here does atomic steps only.
    let error = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(error, 0, "a signal handler");
}

/// Sends this process SIGALRM again and again; zero: no more. Its children do not inherit that.
pub fn alarm_each(every: Duration) {
    let every = libc::timeval { tv_sec: 0, tv_usec: every.as_micros() as _ };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: reads the timer, which lives until it returns.
    let error =
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(error, 0, "a timer");
}

/// Sleeps until it is killed.
pub fn sleep_forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Between two looks at something that another process does.
fn pause() {
    std::thread::sleep(Duration::from_micros(200));
}
