//! Killing the starter, the zygote or the child at each system call of a start.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use procession::Process;
use procession::process::{StartMethod, keep_warm};

use crate::support::{Child, LONG, Word, eventually, on_alarm, sleep_forever};
use crate::trace::{Hunt, Role, hunt};
use crate::{EXECUTING, METHODS, add, alone, children_of, full, nothing_left, sleeper, started_by};

/// Nobody who survives waits longer than this, traced or not.
const PROMPT: Duration = Duration::from_secs(8);

/// What is started, under which circumstances, and who is killed at which of its calls.
#[derive(Clone, Copy, Debug)]
struct Scene {
    method: StartMethod,
    role: Role,
    /// Whether something was started before.
    warm: bool,
    /// Whether a process is kept ready for it.
    spare: bool,
    daemon: bool,
    /// Whether the others get as far as they can before the kill.
    late: bool,
    /// So many others run.
    siblings: u64,
    /// So many threads start at once.
    threads: u64,
}

impl Scene {
    fn new(method: StartMethod, role: Role) -> Scene {
        Scene {
            method,
            role,
            warm: false,
            spare: false,
            daemon: false,
            late: false,
            siblings: 0,
            threads: 1,
        }
    }
}

/// What became of one start.
const RETURNED: u64 = 1;
const NOT_STARTED: u64 = 2;
const NOT_JOINED: u64 = 3;

/// Leaves a mark that it runs.
fn target(file: String, number: u64, stays: bool) -> u64 {
    let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    file.write_all(&[number as u8]).unwrap();
    if stays {
        sleep_forever();
    }
    2 * number
}

extern "C" fn nothing(_: libc::c_int) {}

/// What the starter does.
struct Life {
    scene: Scene,
    file: String,
    phase: Word,
    /// What became of each thread's start.
    said: Vec<Word>,
    /// 1: the next start worked.
    next: Word,
}

impl Life {
    fn live(&self) {
        let Scene { method, role, warm, spare, siblings, threads, daemon, .. } = self.scene;
        if warm {
            assert_eq!(start_next(method), Ok(5));
        }
        if spare {
            keep_warm(1).unwrap();
            eventually("one is ready", || {
                let zygote = children_of(std::process::id())[0];
                children_of(zygote).len() > started_by(zygote).len()
            });
        }
        let siblings: Vec<_> = (0..siblings)
            .map(|_| Process::new(sleeper, ()).method(method).daemon(true).start().unwrap())
            .collect();
        self.phase.set(1);
        if threads == 1 {
            self.one(0);
        } else {
            std::thread::scope(|scope| {
                for number in 0..threads {
                    scope.spawn(move || self.one(number));
                }
            });
        }
        self.phase.set(2);
        if daemon {
            // It does not end by itself.
            return;
        }
        for sibling in siblings {
            sibling.kill().unwrap();
            let begin = Instant::now();
            let end = sibling.join_timeout(LONG);
            assert!(end.is_err(), "it never returns");
            assert!(begin.elapsed() < PROMPT, "{end:?} after {:?}", begin.elapsed());
        }
        // The victim may be the one that was kept ready for this.
        let may_die = matches!(role, Role::Child(_) | Role::Spare);
        let next = start_next(method);
        match if may_die { next.or_else(|_| start_next(method)) } else { next } {
            Ok(5) => self.next.set(1),
            other => panic!("the next start: {other:?}"),
        }
    }

    fn one(&self, number: u64) {
        let Scene { method, daemon, .. } = self.scene;
        let said = self.said[number as usize];
        let begin = Instant::now();
        let arguments = (self.file.clone(), number, daemon);
        let started = Process::new(target, arguments).method(method).daemon(daemon).start();
        let patience = begin.elapsed();
        assert!(patience < PROMPT, "start took {patience:?}: {started:?}");
        match started {
            Err(error) => {
                tell(&error);
                said.set(NOT_STARTED);
            }
            Ok(child) => {
                if daemon {
                    self.phase.set(2);
                }
                match child.join_timeout(LONG) {
                    Ok(result) => {
                        assert_eq!(result, 2 * number);
                        said.set(RETURNED);
                    }
                    Err(error) => {
                        tell(&error);
                        said.set(NOT_JOINED);
                    }
                }
                let patience = begin.elapsed();
                assert!(patience < PROMPT, "start and join took {patience:?}");
                assert!(!child.is_alive());
                assert!(child.exitcode().is_some());
            }
        }
    }
}

fn tell(error: &dyn std::fmt::Display) {
    if std::env::var_os("STARTS_TELL").is_some() {
        eprintln!("    {error}");
    }
}

fn start_next(method: StartMethod) -> Result<u64, String> {
    let child = Process::new(add, (2, 3)).method(method).start();
    let child = child.map_err(|error| error.to_string())?;
    child.join_timeout(LONG).map_err(|error| error.to_string())
}

/// Plays the scene, with a kill at this call. Whether there was one.
fn play(scene: Scene, call: u32) -> Result<bool, String> {
    let marks = mark_file();
    let file = format!("/proc/{}/fd/{}", std::process::id(), marks.as_raw_fd());
    let (go, phase, next) = (Word::new(), Word::new(), Word::new());
    let said: Vec<Word> = (0..scene.threads).map(|_| Word::new()).collect();
    let life = Life { scene, file, phase, said: said.clone(), next };
    let starter = Child::start(|| {
        go.wait();
        life.live();
    });
    let forks = scene.method == StartMethod::Fork;
    let Scene { role, daemon, late, .. } = scene;
    let chase = Hunt { role, call, late, forks, phase, end: daemon };
    let killed = hunt(chase, starter.pid(), go)?;
    std::mem::forget(starter);
    // All have ended. What did the target do, and what was said of it?
    let mut bytes = [0; 64];
    let len = rustix::io::pread(&marks, &mut bytes, 0).map_err(|error| error.to_string())?;
    for (number, said) in said.iter().enumerate() {
        let runs = bytes[..len].iter().filter(|byte| usize::from(**byte) == number).count();
        let fits = match said.get() {
            RETURNED => runs == 1,
            NOT_STARTED => runs == 0,
            _ => runs <= 1,
        };
        if !fits {
            return Err(format!("what was said: {}, runs: {runs}", said.get()));
        }
    }
    let survives = !(daemon || killed && role == Role::Starter);
    if survives && next.get() != 1 {
        return Err("the starter did not come to its end, see above".into());
    }
    nothing_left()?;
    Ok(killed)
}

fn mark_file() -> OwnedFd {
    rustix::fs::memfd_create("marks", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
}

/// Kills at each call; in the short form at each `stride`-th, another selection each time.
fn siege(scene: Scene, stride: u32) {
    let stride = if full() { 1 } else { stride };
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut call = 1 + clock.subsec_micros() % stride;
    let mut kills = 0;
    loop {
        match play(scene, call) {
            Ok(true) => kills += 1,
            Ok(false) => break,
            Err(error) => panic!("{scene:?}, killed at call {call}: {error}"),
        }
        assert!(call < 5000, "{scene:?} never ends");
        call += stride;
    }
    if full() {
        println!("    {scene:?}: {kills} kills");
    }
}

fn prepare() {
    alone();
    on_alarm(nothing);
}

pub fn starters() {
    prepare();
    for method in METHODS {
        for warm in [false, true] {
            siege(Scene { warm, ..Scene::new(method, Role::Starter) }, 9);
        }
    }
}

pub fn zygotes() {
    prepare();
    for method in EXECUTING {
        for warm in [false, true] {
            siege(Scene { warm, ..Scene::new(method, Role::Zygote) }, 12);
        }
    }
}

pub fn children() {
    prepare();
    for method in METHODS {
        for number in [1, 2] {
            siege(Scene { warm: true, ..Scene::new(method, Role::Child(number)) }, 12);
        }
    }
}

pub fn lates() {
    prepare();
    for method in METHODS {
        for role in [Role::Starter, Role::Zygote, Role::Child(1)] {
            siege(Scene { warm: true, late: true, ..Scene::new(method, role) }, 14);
        }
    }
}

pub fn spares() {
    prepare();
    for role in [Role::Starter, Role::Zygote, Role::Spare, Role::Child(1)] {
        for (late, daemon) in [(false, false), (false, true), (true, false)] {
            let scene = Scene::new(StartMethod::Zygote, role);
            siege(Scene { warm: true, spare: true, late, daemon, ..scene }, 7);
        }
    }
}

pub fn daemons() {
    prepare();
    for method in METHODS {
        for role in [Role::Starter, Role::Zygote, Role::Child(1)] {
            siege(Scene { warm: true, daemon: true, ..Scene::new(method, role) }, 12);
        }
    }
}

pub fn crowds() {
    prepare();
    for method in METHODS {
        for role in [Role::Starter, Role::Zygote, Role::Child(1)] {
            siege(Scene { warm: true, siblings: 20, ..Scene::new(method, role) }, 50);
        }
    }
}

pub fn threads() {
    prepare();
    for method in EXECUTING {
        for role in [Role::Starter, Role::Zygote, Role::Child(1), Role::Child(3)] {
            siege(Scene { warm: true, threads: 4, ..Scene::new(method, role) }, 40);
        }
    }
}
