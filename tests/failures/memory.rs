//! The rows of named shared memory, with processes that have nothing to do with its creator: this program, executed.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use procession::SharedMemory;
use procession::memory::{Segment, SharedMemoryError, SharedMemoryOptions};
use procession::process::{JoinError, StartMethod, set_start_method};
use procession::{Process, Queue};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::support::{Child, LONG, eventually, sleep_forever};
use crate::{METHODS, Spoilt, promptly, spoil};

/// Says to this program that it is to be a stranger.
const MARK: &str = "--stranger";

/// What a stranger does with the segment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    /// Attaches, has a process of its own attach, and returns from `main`.
    Return,
    /// The same, and calls `exit`.
    Exit,
    /// The same, and is killed.
    Die,
    /// Attaches, and has no room for it.
    Starve,
}

const DEEDS: [Deed; 4] = [Deed::Return, Deed::Exit, Deed::Die, Deed::Starve];

fn method_number(method: StartMethod) -> usize {
    METHODS.iter().position(|known| *known == method).unwrap()
}

/// What `main` does if this is a stranger.
pub fn stranger() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().collect();
    let [_, mark, method, deed, name] = &words[..] else { return None };
    if mark != MARK {
        return None;
    }
    set_start_method(METHODS[method.parse::<usize>().unwrap()]);
    let deed = DEEDS[deed.parse::<usize>().unwrap()];
    if deed == Deed::Starve {
        starve(name.clone());
        return Some(ExitCode::SUCCESS);
    }
    let memory = SharedMemory::attach(name).unwrap();
    let visits = memory.elements::<u64>(0, 1).unwrap();
    visits.update(0, |count| count + 1).unwrap();
    // It has a tree of processes, which come and go.
    let child = Process::new(visit, (name.clone(),)).start().unwrap();
    child.join_timeout(LONG).unwrap();
    match deed {
        Deed::Exit => std::process::exit(0),
        Deed::Die => {
            rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
            sleep_forever()
        }
        _ => Some(ExitCode::SUCCESS),
    }
}

/// Runs a stranger to its end. It says nothing.
fn meet(method: StartMethod, deed: Deed, name: &str) {
    let deed_number = DEEDS.iter().position(|known| *known == deed).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(MARK).arg(method_number(method).to_string()).arg(deed_number.to_string()).arg(name);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "", "{deed:?} by {method:?}");
    assert!(output.status.success() || deed == Deed::Die, "{deed:?}: {}", output.status);
}

/// One that attaches, adds to the visits, and goes without a word.
fn visit(name: String) {
    let memory = SharedMemory::attach(&name).unwrap();
    memory.elements::<u64>(0, 1).unwrap().update(0, |count| count + 1).unwrap();
}

fn visits(memory: &SharedMemory) -> u64 {
    memory.elements::<u64>(0, 1).unwrap().get(0).unwrap()
}

fn exists(name: &str) -> bool {
    SharedMemory::segments().unwrap().iter().any(|one| one.name == name)
}

// ---- f16: gh-82300, gh-104291, gh-116849. The tracker of an unrelated attacher unlinks live shared memory.

pub fn f16(method: StartMethod) {
    let memory = SharedMemory::create_random(5000).unwrap();
    let name = memory.name();
    let mut expected = 0;
    for _ in 0..2 {
        for deed in [Deed::Return, Deed::Exit, Deed::Die] {
            promptly("a stranger", || meet(method, deed, name));
            expected += 2;
            assert_eq!(visits(&memory), expected, "{deed:?}");
            assert!(exists(name), "{deed:?} of a stranger took the name away");
        }
        // Its own children, by name and as a handle, are no more dangerous.
        let child = Process::new(visit, (name.to_owned(),)).start().unwrap();
        child.join_timeout(LONG).unwrap();
        let child = Process::new(keep, (memory.clone(),)).start().unwrap();
        eventually("it is there", || visits(&memory) == expected + 2);
        child.kill().unwrap();
        assert!(matches!(child.join_timeout(LONG), Err(JoinError::Killed { .. })));
        expected += 2;
        assert_eq!(SharedMemory::attach(name).unwrap().size(), 5000);
    }
    let name = name.to_owned();
    drop(memory);
    assert!(!exists(&name), "its creator has gone in order");
}

/// Adds to the visits, and stays.
fn keep(memory: SharedMemory) {
    memory.elements::<u64>(0, 1).unwrap().update(0, |count| count + 1).unwrap();
    sleep_forever();
}

// ---- f17: gh-153279. A failed attach unlinks the owner's block.

/// Attaches without room for it, without a descriptor for it, and in the wrong way. All fails.
fn starve(name: String) {
    let spaces = [Resource::As, Resource::Nofile];
    for resource in spaces {
        let limit = getrlimit(resource);
        setrlimit(resource, Rlimit { current: Some(0), ..limit }).unwrap();
        let answers = [SharedMemory::attach(&name), SharedMemory::attach_read_only(&name)];
        setrlimit(resource, limit).unwrap();
        for answer in answers {
            assert!(matches!(answer, Err(SharedMemoryError::System { .. })), "{answer:?}");
        }
    }
    let again = SharedMemory::create(&name, 10);
    assert!(matches!(again, Err(SharedMemoryError::Exists { .. })), "{again:?}");
}

pub fn f17(method: StartMethod) {
    let memory = SharedMemory::create_random(16 << 20).unwrap();
    memory.write_at(123, b"all of it").unwrap();
    let name = memory.name();
    for _ in 0..2 {
        promptly("a stranger", || meet(method, Deed::Starve, name));
        let child = Process::new(starve, (name.to_owned(),)).start().unwrap();
        child.join_timeout(LONG).unwrap();
        assert!(exists(name), "a failed attach took the name away");
        let mut text = [0; 9];
        SharedMemory::attach(name).unwrap().read_at(123, &mut text).unwrap();
        assert_eq!(&text, b"all of it");
    }
}

// ---- f18: docs. killpg(SIGKILL) leaks segments and semaphores; orphaned children keep running (gh-80180).

/// A directory of its own, since others may sweep the usual one.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = format!("/dev/shm/procession-failures-{}", std::process::id());
        std::fs::create_dir(&path).unwrap();
        Place(path.into())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn at(directory: &Path) -> SharedMemoryOptions {
    SharedMemoryOptions::new().directory(directory)
}

/// Makes a segment of its own, says so, has a child that does the same, and stays.
fn settle(directory: PathBuf, depth: u32, news: Queue<(u32, String)>) {
    let memory = at(&directory).create_random(100_000).unwrap();
    memory.write_at(0, &[1; 100]).unwrap();
    news.put(&(std::process::id(), memory.name().to_owned())).unwrap();
    if depth > 0 {
        let child = Process::new(settle, (directory, depth - 1, news)).start().unwrap();
        child.join().unwrap();
    }
    sleep_forever();
}

pub fn f18(method: StartMethod) {
    let (place, news) = (Place::new(), Queue::<(u32, String)>::bounded(64).unwrap());
    let tree = Child::start_free(|| {
        rustix::process::setpgid(None, None).unwrap();
        // One daemon, one that is none, each with a child of its own.
        for daemon in [true, false] {
            let child = Process::new(settle, (place.0.clone(), 1, news.clone()));
            drop(child.daemon(daemon).allow_children(true).start().unwrap());
        }
        settle(place.0.clone(), 0, news.clone());
    });
    let all: Vec<_> = (0..5).map(|_| news.get_timeout(LONG).unwrap()).collect();
    let there = || at(&place.0).segments().unwrap();
    assert!(there().len() == 5 && there().iter().all(|one| one.in_use), "{:?}", there());
    assert!(at(&place.0).sweep().unwrap().is_empty());
    rustix::process::kill_process_group(tree.pid(), Signal::KILL).unwrap();
    for (pid, _) in &all {
        eventually("the whole tree is gone", || is_gone(*pid));
    }
    // Who is gone uses nothing: that is the kernel's word.
    let unused = |one: &Segment| one.is_orphan() && one.users().is_empty();
    assert!(there().len() == 5 && there().iter().all(unused), "{:?}", there());
    // One is still wanted by somebody else; all others go.
    let heirloom = at(&place.0).attach(&all[0].1).unwrap();
    assert_eq!(at(&place.0).sweep().unwrap().len(), 4);
    let mut bytes = [0; 100];
    heirloom.read_at(0, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 100]);
    drop(heirloom);
    assert_eq!(at(&place.0).sweep().unwrap().len(), 1);
    let left: Vec<_> = std::fs::read_dir(&place.0).unwrap().collect();
    assert!(left.is_empty(), "{method:?} leaves {left:?}");
}

fn is_gone(pid: u32) -> bool {
    // A zombie has ended, too: whoever adopted it reaps it.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

// ---- f19: gh-114390. SIGBUS when /dev/shm is full (64 MB in a container).

pub fn f19() {
    Child::start(|| {
        if !spoil(Spoilt::Small) {
            println!("this process may not mount: nothing to test");
            return;
        }
        let first = SharedMemory::create("first", 600 << 10).unwrap();
        for _ in 0..3 {
            let answer = SharedMemory::create("second", 600 << 10);
            assert!(matches!(answer, Err(SharedMemoryError::NoSpace { .. })), "{answer:?}");
            assert_eq!(SharedMemory::segments().unwrap().len(), 1, "nothing is left of it");
        }
        // What was made is there to its last byte.
        first.write_at(0, &vec![7; first.size()]).unwrap();
        let mut all = vec![0; first.size()];
        SharedMemory::attach("first").unwrap().read_at(0, &mut all).unwrap();
        assert!(all.iter().all(|byte| *byte == 7));
        drop(first);
        SharedMemory::create("second", 600 << 10).unwrap().write_at(1 << 19, &[1; 4096]).unwrap();
    })
    .finish();
    // Where there is none it is an error, and another directory will do.
    Child::start(|| {
        if !spoil(Spoilt::Missing) {
            return;
        }
        let answer = SharedMemory::create("it", 10);
        assert!(matches!(answer, Err(SharedMemoryError::Directory { .. })), "{answer:?}");
        std::fs::create_dir("/dev/elsewhere").unwrap();
        let options = SharedMemoryOptions::new().directory("/dev/elsewhere");
        let memory = options.create("it", 10).unwrap();
        memory.write_at(0, b"x").unwrap();
        assert_eq!(options.attach("it").unwrap().size(), 10);
    })
    .finish();
}
