//! Named shared memory, as its users meet it.

#[macro_use]
#[path = "support/alone.rs"]
mod alone;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use procession_posix::channel::{GetError, Queue};
use procession_posix::memory::{
    BadName, SharedMemory, SharedMemoryError as Error, SharedMemoryOptions,
};
use procession_posix::process::{Child, JoinError, Process};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LONG: Duration = Duration::from_secs(60);

/// A directory of its own for a test, gone when that ends.
struct Shelf(PathBuf);

impl Shelf {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/dev/shm/procession-test-{}-{number}", std::process::id());
        fs::create_dir(&path).unwrap();
        Shelf(path.into())
    }

    fn options(&self) -> SharedMemoryOptions {
        at(&self.0)
    }

    fn names(&self) -> Vec<String> {
        let all = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn at(directory: impl Into<PathBuf>) -> SharedMemoryOptions {
    SharedMemoryOptions::new().directory(directory)
}

/// Kills what it holds when the test ends, however it ends.
struct Bound<R>(Child<R>);

impl<R> Drop for Bound<R> {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::yield_now();
    }
}

fn wait_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

#[test]
fn all_see_the_same_bytes() {
    let shelf = Shelf::new();
    // Private, and one that others may write: by two ways.
    for mode in [0o600, 0o666] {
        for size in [1u64, 7, 4096, 4097, 100_001] {
            let one = shelf.options().mode(mode).create("it", size).unwrap();
            let other = shelf.options().attach("it").unwrap();
            let reader = shelf.options().attach_read_only("it").unwrap();
            let size = size as usize;
            assert_eq!([one.size(), other.size(), reader.size()], [size; 3]);
            let mut all = vec![1; size];
            reader.read_at(0, &mut all).unwrap();
            assert_eq!(all, vec![0; size], "zero at first");
            for (start, length) in [(0, size), (size / 3, size / 3), (size - 1, 1), (size, 0)] {
                let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + start + 1) as u8).collect();
                one.write_at(start, &bytes).unwrap();
                all[..].fill(0xEE);
                other.read_at(start, &mut all[start..start + length]).unwrap();
                assert_eq!(all[start..start + length], bytes);
                assert!(all[..start].iter().all(|&byte| byte == 0xEE));
                reader.read_at(0, &mut all).unwrap();
                assert_eq!(all[start..start + length], bytes);
            }
            // What is not there is an error, of all.
            let before = all.clone();
            for (offset, length) in [(0, size + 1), (size, 1), (usize::MAX, 2), (size + 1, 0)] {
                let mut bytes = vec![0xAA; length];
                for answer in [one.read_at(offset, &mut bytes), other.write_at(offset, &bytes)] {
                    assert!(
                        matches!(&answer, Err(Error::Bounds { size: s, .. }) if *s == size),
                        "{answer:?}"
                    );
                }
            }
            one.read_at(0, &mut all).unwrap();
            assert_eq!(all, before);
        }
    }
    assert!(shelf.names().is_empty());
}

#[test]
fn elements_are_typed() {
    let shelf = Shelf::new();
    let memory = shelf.options().create("it", 100).unwrap();
    let other = shelf.options().attach("it").unwrap();
    let numbers = memory.elements::<u16>(8, 46).unwrap();
    assert_eq!(numbers.len(), 46);
    numbers.set(45, 0xABCD).unwrap();
    let mut bytes = [0; 2];
    other.read_at(98, &mut bytes).unwrap();
    assert_eq!(u16::from_ne_bytes(bytes), 0xABCD);
    assert_eq!(numbers.get(46).unwrap_err().to_string(), other_end(46));
    for (offset, count) in [(8, 47), (104, 0), (0, usize::MAX)] {
        let answer = memory.elements::<u16>(offset, count);
        assert!(matches!(answer, Err(Error::Bounds { .. })), "{answer:?}");
    }
    let answer = memory.elements::<u8>(4, 1);
    assert!(matches!(answer, Err(Error::Misaligned { offset: 4 })), "{answer:?}");
    let reader = shelf.options().attach_read_only("it").unwrap();
    let answer = reader.elements::<u8>(0, 1);
    assert!(matches!(answer, Err(Error::ReadOnly { .. })), "{answer:?}");
    // Many add to one, through mappings of their own.
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let memory = shelf.options().attach("it").unwrap();
                let sum = memory.elements::<u64>(0, 1).unwrap();
                (0..1000).for_each(|_| drop(sum.update(0, |n| n + 1)));
            });
        }
    });
    assert_eq!(other.elements::<u64>(0, 1).unwrap().get(0), Ok(4000));
}

fn other_end(length: usize) -> String {
    format!("there is no element {length}: the array has {length}, counted from 0")
}

#[test]
fn names_and_sizes_are_checked() {
    let shelf = Shelf::new();
    let long = "x".repeat(256);
    for (name, expected) in [
        ("", BadName::Empty),
        ("/a", BadName::Slash),
        ("a/b", BadName::Slash),
        ("a\0b", BadName::Nul),
        (".", BadName::Dots),
        ("..", BadName::Dots),
        (&long, BadName::TooLong(256)),
    ] {
        let options = shelf.options();
        let answers = [
            options.create(name, 1).err(),
            options.attach(name).err(),
            options.attach_read_only(name).err(),
            options.remove(name).err(),
        ];
        for answer in answers {
            assert!(
                matches!(&answer, Some(Error::Name { reason, .. }) if *reason == expected),
                "{name:?}: {answer:?}"
            );
        }
    }
    for size in [0, u64::MAX, i64::MAX as u64] {
        let answer = shelf.options().create("it", size);
        assert!(matches!(answer, Err(Error::Size { .. })), "{size}: {answer:?}");
    }
    // More than there is.
    let answer = shelf.options().create("it", 1 << 46);
    assert!(matches!(answer, Err(Error::NoSpace { .. })), "{answer:?}");
    assert!(shelf.names().is_empty());
    let longest = &long[1..];
    let odd = shelf.options().create(longest, 1).unwrap();
    assert_eq!(shelf.options().attach(longest).unwrap().name(), longest);
    drop(odd);
    let missing = at("/dev/shm/no/such").create("it", 1);
    assert!(matches!(missing, Err(Error::Directory { .. })), "{missing:?}");
}

#[test]
fn its_creator_unlinks_it_and_nobody_else() {
    let shelf = Shelf::new();
    let options = shelf.options();
    let memory = options.create("it", 10).unwrap();
    assert!(memory.is_creator());
    let again = options.create("it", 10);
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    let other = options.attach("it").unwrap();
    assert!(!other.is_creator());
    drop(other.clone());
    other.close().unwrap();
    drop(options.attach_read_only("it").unwrap());
    assert_eq!(shelf.names(), ["it"]);
    // The last copy does.
    let (copy, user) = (memory.clone(), options.attach("it").unwrap());
    memory.close().unwrap();
    assert_eq!(shelf.names(), ["it"]);
    copy.close().unwrap();
    assert!(shelf.names().is_empty());
    // It is there as long as somebody has it.
    user.write_at(0, b"still here").unwrap();
    assert!(matches!(user.unlink(), Err(Error::NotFound { .. })));
    // And is in nobody's way.
    let next = options.create("it", 20).unwrap();
    assert!(matches!(user.unlink(), Err(Error::NotFound { .. })), "another has its name");
    drop(user);
    assert_eq!(options.attach("it").unwrap().size(), 20);
    // Unlinked before its end, by whomever.
    options.attach("it").unwrap().unlink().unwrap();
    assert!(matches!(next.unlink(), Err(Error::NotFound { .. })));
    let third = options.create("it", 30).unwrap();
    next.close().unwrap();
    assert_eq!(shelf.names(), ["it"], "the name of another");
    options.remove("it").unwrap();
    assert!(matches!(options.remove("it"), Err(Error::NotFound { .. })));
    third.close().unwrap();
}

#[test]
fn it_stays_if_it_is_to() {
    let shelf = Shelf::new();
    let (first, second) = (shelf.options().persistent(true), shelf.options());
    first.create("first", 10).unwrap().write_at(0, b"here").unwrap();
    let memory = second.create("second", 10).unwrap();
    // Others may have it stay, too.
    second.attach("second").unwrap().persist().unwrap();
    let answer = second.attach_read_only("second").unwrap().persist();
    assert!(matches!(answer, Err(Error::ReadOnly { .. })), "{answer:?}");
    drop(memory);
    assert_eq!(shelf.names(), ["first", "second"]);
    assert!(second.sweep().unwrap().is_empty());
    let all = second.segments().unwrap();
    assert!(all.iter().all(|one| one.persistent && !one.in_use && !one.is_orphan()), "{all:?}");
    let again = second.create("first", 1);
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    let mut text = [0; 4];
    second.attach("first").unwrap().read_at(0, &mut text).unwrap();
    assert_eq!(&text, b"here");
    second.remove("first").unwrap();
    second.remove("second").unwrap();
    assert!(shelf.names().is_empty());
}

#[test]
fn what_was_not_made_here_is_left_alone() {
    let shelf = Shelf::new();
    let options = shelf.options();
    let path = |name: &str| shelf.0.join(name);
    // A good one, damaged in one way each.
    let good = options.clone().persistent(true);
    let spoilt = |name: &str, spoil: &dyn Fn(&fs::File)| {
        drop(good.create(name, 5000).unwrap());
        spoil(&fs::File::options().write(true).open(path(name)).unwrap());
    };
    spoilt("cut", &|file| file.set_len(file.metadata().unwrap().len() - 1).unwrap());
    spoilt("long", &|file| file.set_len(file.metadata().unwrap().len() + 1).unwrap());
    spoilt("empty", &|file| file.set_len(0).unwrap());
    spoilt("short", &|file| file.set_len(30).unwrap());
    spoilt("size", &|file| file.write_all_at(&u64::MAX.to_ne_bytes(), 16).unwrap());
    spoilt("none", &|file| {
        file.write_all_at(&0u64.to_ne_bytes(), 16).unwrap();
        file.set_len(64 << 10).unwrap();
    });
    spoilt("version", &|file| file.write_all_at(&7u32.to_ne_bytes(), 8).unwrap());
    fs::write(path("text"), "psm_12345678").unwrap();
    fs::create_dir(path("directory")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    drop(good.create("good", 10).unwrap());
    std::os::unix::fs::symlink(path("good"), path("link")).unwrap();
    let before = shelf.names();

    type Expected = fn(&Error) -> bool;
    let cases: [(&[&str], Expected); 3] = [
        (&["cut", "long", "size", "none"], |error| matches!(error, Error::Cut { .. })),
        (&["empty", "short", "text", "directory", "pipe", "link"], |error| {
            matches!(error, Error::Foreign { .. })
        }),
        (&["version"], |error| matches!(error, Error::Version { found: 7, .. })),
    ];
    for (names, expected) in cases {
        for name in names {
            for answer in [options.attach(name), options.attach_read_only(name)] {
                let error = answer.err();
                assert!(error.as_ref().is_some_and(expected), "{name}: {error:?}");
            }
            let answer = options.create(name, 10);
            assert!(matches!(answer, Err(Error::Exists { .. })), "{name}: {answer:?}");
        }
    }
    for name in ["text", "directory", "pipe", "link", "version", "empty"] {
        assert!(options.remove(name).is_err(), "{name}");
    }
    options.segments().unwrap();
    options.sweep().unwrap();
    assert_eq!(shelf.names(), before);
}

#[test]
fn only_those_who_may_can_attach() {
    alone!(only_those_who_may_can_attach);
    let shelf = Shelf::new();
    let options = shelf.options();
    let mode = |name: &str| fs::metadata(shelf.0.join(name)).unwrap().permissions().mode() & 0o7777;
    let _private = options.create("private", 10).unwrap();
    let _group = options.clone().mode(0o660).create("group", 10).unwrap();
    let _all = options.clone().mode(0o7577).create("all", 10).unwrap();
    assert_eq!([mode("private"), mode("group"), mode("all")], [0o600, 0o660, 0o666]);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    fn stranger(directory: PathBuf) -> [bool; 4] {
        // SAFETY: concerns this process only, which has one thread.
        assert_eq!(unsafe { libc::setuid(65534) }, 0);
        let options = at(directory);
        let refused = |answer| matches!(answer, Err(Error::Permission { .. }));
        [
            refused(options.attach("private")),
            refused(options.attach_read_only("private")),
            refused(options.attach("readable")) && options.attach_read_only("readable").is_ok(),
            // Whoever may write it cannot take its name away.
            matches!(options.attach("all").unwrap().unlink(), Err(Error::Permission { .. })),
        ]
    }
    let _readable = options.clone().mode(0o644).create("readable", 10).unwrap();
    let child = Process::new(stranger, (shelf.0.clone(),)).start().unwrap();
    assert_eq!(child.join_timeout(LONG).unwrap(), [true; 4]);
    assert_eq!(shelf.names().len(), 4);
}

#[test]
fn who_may_only_read_cannot_write() {
    alone!(who_may_only_read_cannot_write);
    let shelf = Shelf::new();
    let memory = shelf.options().create("it", 10).unwrap();
    let reader = shelf.options().attach_read_only("it").unwrap();
    assert!(reader.is_read_only() && !memory.is_read_only());
    let answer = reader.write_at(0, b"x");
    assert!(matches!(answer, Err(Error::ReadOnly { .. })), "{answer:?}");
    fn write(reader: SharedMemory) {
        assert!(reader.is_read_only());
        // SAFETY: none: this is what ends the process.
        unsafe { reader.as_ptr().write_volatile(1) };
    }
    let child = Process::new(write, (reader,)).start().unwrap();
    let end = child.join_timeout(LONG);
    assert!(matches!(end, Err(JoinError::Killed { signal: libc::SIGSEGV, .. })), "{end:?}");
    let mut byte = [7];
    memory.read_at(0, &mut byte).unwrap();
    assert_eq!(byte, [0]);
}

#[test]
fn what_others_cut_is_an_error() {
    let shelf = Shelf::new();
    let memory = shelf.options().mode(0o666).create("it", 100_000).unwrap();
    memory.write_at(0, &[1; 100_000]).unwrap();
    let path = shelf.0.join("it");
    fs::File::options().write(true).open(&path).unwrap().set_len((64 << 10) + 50_000).unwrap();
    let mut bytes = vec![0; 100];
    memory.read_at(0, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 100], "what is there can be read");
    for answer in [
        memory.read_at(99_000, &mut bytes),
        memory.read_at(49_950, &mut bytes),
        memory.write_at(0, &bytes),
        memory.elements::<u8>(0, 1).map(drop),
        shelf.options().attach("it").map(drop),
    ] {
        assert!(matches!(answer, Err(Error::Cut { .. })), "{answer:?}");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), (64 << 10) + 50_000, "nobody mended it");
}

#[test]
fn it_travels() {
    alone!(it_travels);
    fn fill(memory: SharedMemory, more: Queue<SharedMemory>) -> usize {
        memory.write_at(1, b"from afar").unwrap();
        let other = more.get().unwrap();
        other.write_at(0, &[9]).unwrap();
        assert!(!memory.is_creator() && !other.is_creator());
        memory.size() + other.size()
    }
    let shelf = Shelf::new();
    let memory = shelf.options().create("it", 10).unwrap();
    let other = shelf.options().create("other", 1).unwrap();
    let queue = Queue::bounded(2).unwrap();
    queue.put(&other).unwrap();
    let child = Process::new(fill, (memory.clone(), queue.clone())).start().unwrap();
    assert_eq!(child.join_timeout(LONG).unwrap(), 11);
    let mut text = [0; 10];
    memory.read_at(0, &mut text).unwrap();
    assert_eq!(&text, b"\0from afar");
    assert_eq!(shelf.names(), ["it", "other"]);
    // Without its name it does not, nor under the name of another.
    queue.put(&memory).unwrap();
    queue.put(&memory).unwrap();
    memory.unlink().unwrap();
    assert!(queue.put(&memory).is_err());
    let message = |answer: Result<SharedMemory, GetError>| answer.unwrap_err().to_string();
    assert!(message(queue.get()).contains("no shared memory"), "unlinked");
    let _next = shelf.options().create("it", 10).unwrap();
    assert!(message(queue.get()).contains("another one by now"), "replaced");
}

fn hold(directory: PathBuf, name: String, held: Queue<u64>) {
    let memory = at(directory).create(&name, 5000).unwrap();
    memory.write_at(4000, b"left behind").unwrap();
    held.put(&memory.size().try_into().unwrap()).unwrap();
    wait_for_ever();
}

#[test]
fn what_the_dead_leave_is_found_and_swept() {
    alone!(what_the_dead_leave_is_found_and_swept);
    let shelf = Shelf::new();
    let options = shelf.options();
    let held = Queue::bounded(1).unwrap();
    let start = |name: &str| {
        let args = (shelf.0.clone(), name.to_owned(), held.clone());
        let child = Bound(Process::new(hold, args).start().unwrap());
        assert_eq!(held.get_timeout(LONG).unwrap(), 5000);
        child
    };
    let child = start("one");
    let found = options.segments().unwrap().remove(0);
    assert_eq!((found.name.as_str(), found.size, found.mode), ("one", 5000, 0o600));
    assert_eq!((found.creator, found.creator_lives), (child.0.pid(), Some(true)));
    assert_eq!(found.users(), [child.0.pid()]);
    assert!(found.in_use && !found.is_orphan() && !found.persistent);
    assert!(found.created.elapsed().unwrap() < 2 * LONG);
    assert!(options.sweep().unwrap().is_empty());

    let user = options.attach("one").unwrap();
    child.0.kill().unwrap();
    child.0.join_timeout(LONG).unwrap_err();
    // In use, and stays.
    assert!(options.sweep().unwrap().is_empty());
    let found = options.segments().unwrap().remove(0);
    assert!(found.in_use && found.creator_lives == Some(false), "{found:?}");
    assert_eq!(found.users(), [std::process::id()]);
    let again = options.create("one", 1);
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    drop(user);
    // Anybody can still come for it.
    let mut text = [0; 11];
    options.attach("one").unwrap().read_at(4000, &mut text).unwrap();
    assert_eq!(&text, b"left behind");
    let orphan = options.segments().unwrap().remove(0);
    assert!(orphan.is_orphan() && orphan.users().is_empty(), "{orphan:?}");
    let swept = options.sweep().unwrap();
    assert_eq!(swept, [orphan]);
    assert!(shelf.names().is_empty());

    // Who creates it anew need not sweep.
    let child = start("two");
    child.0.kill().unwrap();
    child.0.join_timeout(LONG).unwrap_err();
    assert_eq!(shelf.names(), ["two"]);
    let memory = options.create("two", 7).unwrap();
    assert_eq!(options.attach("two").unwrap().size(), 7);
    drop(memory);
    assert!(shelf.names().is_empty());
}

#[test]
fn an_exec_is_an_end() {
    alone!(an_exec_is_an_end);
    fn become_another(directory: PathBuf) {
        let memory = at(directory).create("it", 10).unwrap();
        memory.write_at(0, b"x").unwrap();
        use std::os::unix::process::CommandExt;
        panic!("{}", std::process::Command::new("sleep").arg("1000").exec());
    }
    let shelf = Shelf::new();
    let child = Bound(Process::new(become_another, (shelf.0.clone(),)).start().unwrap());
    eventually("it is an orphan", || {
        shelf.options().segments().unwrap().first().is_some_and(|one| one.is_orphan())
    });
    assert!(child.0.is_alive());
    assert_eq!(shelf.options().sweep().unwrap()[0].creator_lives, Some(true));
    assert!(shelf.names().is_empty());
}

#[test]
fn limits_are_errors() {
    alone!(limits_are_errors);
    fn limited(directory: PathBuf) {
        let options = at(directory);
        let file = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 20), ..file }).unwrap();
        let answer = options.create("it", 1 << 20);
        assert!(matches!(answer, Err(Error::Size { most, .. }) if most < 1 << 20), "{answer:?}");
        drop(options.create("it", 500_000).unwrap());
        setrlimit(Resource::Fsize, file).unwrap();
        let open = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..open }).unwrap();
        assert!(options.create("it", 1).is_err());
        setrlimit(Resource::Nofile, open).unwrap();
        let memory = getrlimit(Resource::As);
        setrlimit(Resource::As, Rlimit { current: Some(1 << 20), ..memory }).unwrap();
        let answer = options.create("it", 64 << 20);
        assert!(matches!(answer, Err(Error::System { call: "mmap", .. })), "{answer:?}");
    }
    let shelf = Shelf::new();
    let child = Process::new(limited, (shelf.0.clone(),)).start().unwrap();
    child.join_timeout(LONG).unwrap();
    assert!(shelf.names().is_empty());
}

#[test]
fn memory_is_there_when_it_is_made_and_gone_when_nobody_has_it() {
    let shelf = Shelf::new();
    let memory = shelf.options().create("it", 3 << 20).unwrap();
    let blocks = fs::metadata(shelf.0.join("it")).unwrap().blocks();
    assert!((6144..6200).contains(&blocks), "{blocks} blocks of 512 bytes");
    let file = fs::File::open(shelf.0.join("it")).unwrap();
    drop(memory);
    assert_eq!(rustix::fs::fstat(file.as_fd()).unwrap().st_nlink, 0);
}

/// Makes, attaches, unlinks and sweeps segments of a few names, until it is killed. What it attaches to is whole.
fn restless(directory: PathBuf, seed: u64) {
    let options = at(directory);
    let mut state = seed;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    loop {
        let name = format!("name-{}", draw(3));
        match draw(8) {
            0..4 => {
                let size = 1000 + draw(3) * 1000;
                let Ok(memory) = options.create(&name, size) else { continue };
                // All of it has the same number.
                memory.write_at(0, &size.to_ne_bytes().repeat(size as usize / 8)).unwrap();
                if draw(4) == 0 {
                    let _ = memory.unlink();
                }
            }
            4..7 => {
                let Ok(memory) = options.attach(&name) else { continue };
                let mut words = vec![0; memory.size() / 8 * 8];
                memory.read_at(0, &mut words).unwrap();
                let expected = (memory.size() as u64).to_ne_bytes();
                assert!(words.chunks(8).all(|word| word == [0; 8] || word == expected));
            }
            _ => drop(options.sweep().unwrap()),
        }
    }
}

#[test]
fn killed_at_any_moment_they_leave_nothing_that_cannot_be_swept() {
    alone!(killed_at_any_moment_they_leave_nothing_that_cannot_be_swept);
    let shelf = Shelf::new();
    let start =
        |seed| Bound(Process::new(restless, (shelf.0.clone(), seed)).daemon(true).start().unwrap());
    let mut crowd: Vec<_> = (0..4).map(start).collect();
    for round in 0..150 {
        // None of them ends but by this.
        let at = round as usize % crowd.len();
        std::thread::sleep(Duration::from_millis(round % 7));
        assert!(crowd[at].0.is_alive(), "{:?}", crowd[at].0.join_timeout(LONG));
        crowd[at].0.kill().unwrap();
        let _ = crowd[at].0.join_timeout(LONG);
        crowd[at] = start(round + 4);
    }
    for child in &crowd {
        assert!(child.0.is_alive(), "{:?}", child.0.join_timeout(LONG));
        child.0.kill().unwrap();
        let _ = child.0.join_timeout(LONG);
    }
    shelf.options().sweep().unwrap();
    assert_eq!(shelf.names(), [""; 0]);
}
