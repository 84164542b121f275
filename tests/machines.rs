//! Bad input and poor machines: memory and handles that are not what they should be, machines that are full or deny
//! what others allow. Each is a clear error or works another way, and harms nothing that others hold.
//!
//! `cargo test --test machines`

#[allow(dead_code, reason = "no test uses all of it")]
mod support;

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use procession::channel::CreateError;
use procession::memory::{self, Config, MemoryError, adopt, arena};
use procession::process::{StartMethod, set_start_method, start_method};
use procession::sync::{AcquireError, LockGuard};
use procession::{GetError, Lock, Process, PutError, Queue};
use procession_core::sys::Fences;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use support::{Child, LONG, Test, Word, eventually, sleep_forever};

const TESTS: &[Test] = &[
    ("memory_that_is_no_arena_is_refused", wrong_memory),
    ("handles_that_are_none_are_refused", wrong_handles),
    ("a_full_budget_is_an_error", full_budget),
    ("a_budget_holds_for_who_adopts", adopted_budget),
    ("a_limit_of_file_sizes_is_an_error_and_no_death", file_size_limit),
    ("a_limit_of_address_space_makes_a_smaller_arena", address_space_limit),
    ("without_descriptors_nobody_is_robbed", no_descriptors),
    ("processes_start_or_say_why_not", processes),
    ("without_descriptors_from_the_start", no_descriptors_at_first),
    ("without_membarrier_from_the_start", no_membarrier),
    ("without_membarrier_later", no_membarrier_later),
    ("without_pidfds", no_pidfd),
    ("without_futexes", no_futex),
    ("without_proc", no_proc),
    ("on_one_processor", one_processor),
    ("on_a_stack_of_64_kib", small_stack),
    ("a_process_outlives_its_parent", orphan),
];

fn main() -> ExitCode {
    support::run(TESTS)
}

/// A death is noticed within this by who waits; a machine under load is given time.
const SOON: Duration = Duration::from_secs(20);
/// Long enough that a thief would have come.
const WHILE: Duration = Duration::from_millis(500);

/// Takes the lock and keeps it, whatever happens to this value.
fn hold(lock: &Lock) -> ManuallyDrop<LockGuard<'_>> {
    ManuallyDrop::new(lock.acquire().unwrap())
}

/// Takes the lock from the dead.
fn take_over(lock: &Lock) {
    match lock.acquire_timeout(SOON) {
        Err(AcquireError::OwnerDied(died)) => died.into_guard().mark_consistent(),
        Ok(_) => panic!("nothing was said of the death"),
        Err(error) => panic!("{error}"),
    }
}

/// A child that holds the lock until it is killed.
fn holder(lock: &Lock, before: impl FnOnce()) -> Child {
    let held = Word::new();
    let child = Child::start(|| {
        before();
        let _ = hold(lock);
        held.set(1);
        sleep_forever();
    });
    held.wait();
    child
}

/// Lock and queue, which a few processes use for a while: everything waits for everything.
fn work(rounds: u64) {
    let (there, back) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let lock = Lock::new().unwrap();
    let (sum, long) = (Word::new(), "long ".repeat(2000));
    let echo = Child::start(|| {
        for round in 0..rounds {
            let text: String = there.get_timeout(LONG).unwrap();
            assert_eq!(text.len(), if round % 8 == 0 { long.len() } else { 1 });
            back.put_timeout(&text, LONG).unwrap();
            count_up(&lock, sum);
        }
    });
    for round in 0..rounds {
        let text = if round % 8 == 0 { long.clone() } else { "x".into() };
        there.put_timeout(&text, LONG).unwrap();
        count_up(&lock, sum);
        assert_eq!(back.get_timeout(LONG).unwrap(), text);
    }
    echo.finish();
    assert_eq!(sum.get(), 2 * rounds);
    // A holder dies before somebody waits for it, and while somebody does, without end.
    let victim = holder(&lock, || {});
    victim.kill();
    drop(victim);
    take_over(&lock);
    let victim = holder(&lock, || {});
    let waits = Word::new();
    let waiter = Child::start(|| {
        waits.set(1);
        let error = lock.acquire().expect_err("a holder died");
        error.into_guard().unwrap().mark_consistent();
    });
    waits.wait();
    std::thread::sleep(Duration::from_millis(50));
    victim.kill();
    waiter.finish();
}

/// Adds one by load and store: two holders at a time would show.
fn count_up(lock: &Lock, sum: Word) {
    let _guard = lock.acquire_timeout(LONG).unwrap();
    sum.set(sum.get() + 1);
}

/// From now on this process gets `errno` instead of the system call.
fn deny(call: libc::c_long, errno: i32) {
    let statement = |code: u32, yes: u8, no: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: yes,
        jf: no,
        k: value,
    };
    let mut program = [
        // The number of the call is the first word of what a filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the first call takes numbers; the second reads the program, which lives until it returns.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    assert!(!refused, "a filter: {}", io::Error::last_os_error());
}

fn limit(resource: Resource, bytes: u64) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(bytes), maximum }).unwrap();
}

fn configure(reserve: Option<u64>, budget: Option<u64>) {
    let mut config = Config::new();
    (config.reserve, config.budget) = (reserve, budget);
    memory::configure(config).unwrap();
}

/// How many descriptors this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// How much address space this process has, in bytes.
fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

// ---- bad input

/// A memory file with these bytes and seals.
fn file(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create("test", flags).unwrap();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = (bytes.len() - rest.len()) as u64;
        rest = &rest[rustix::io::pwrite(&file, rest, at).unwrap()..];
    }
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file
}

/// All that is in a file, if it can be read at any place.
fn content(file: impl AsFd) -> Vec<u8> {
    let mut bytes = vec![0; rustix::fs::fstat(&file).map_or(0, |stat| stat.st_size as usize)];
    let mut length = 0;
    while let Ok(more @ 1..) = rustix::io::pread(&file, &mut bytes[length..], length as u64) {
        length += more;
    }
    bytes
}

fn wrong_memory() {
    // A small arena with a lock and a queue in it, made by another process, as bytes.
    let image = rustix::fs::memfd_create("image", MemfdFlags::CLOEXEC).unwrap();
    let handles = rustix::fs::memfd_create("handles", MemfdFlags::CLOEXEC).unwrap();
    Child::start(|| {
        configure(Some(2 << 20), None);
        let (queue, lock) = (Queue::<u64>::bounded(4).unwrap(), Lock::new().unwrap());
        queue.put(&7).unwrap();
        let encoded = postcard::to_stdvec(&(queue, lock)).unwrap();
        rustix::io::pwrite(&handles, &encoded, 0).unwrap();
        let bytes = content(arena().unwrap().fd().unwrap());
        assert_eq!(rustix::io::pwrite(&image, &bytes, 0).unwrap(), 2 << 20);
    })
    .finish();
    let image = content(&image);
    assert_eq!(image.len(), 2 << 20);

    let sealed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let changed = |at: usize, value: u32| {
        let mut bytes = image.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        file(&bytes, sealed)
    };
    let text = b"This is a text, and not the memory of any process.\n".repeat(40_000);
    let again = |flags| {
        let whole = file(&image, sealed);
        rustix::fs::open(format!("/proc/self/fd/{}", whole.as_raw_fd()), flags, Mode::empty())
    };
    let mut cases = vec![
        ("nothing", file(&[], sealed), "too few"),
        ("a few bytes", file(&image[..50], sealed), "too few"),
        ("zeros", file(&[0; 2 << 20], sealed), "no region"),
        ("a text", file(&text, sealed), "no region"),
        ("cut in the middle", file(&image[..1 << 20], sealed), "was cut"),
        ("cut in the header", file(&image[..100], sealed), "was cut"),
        ("an older format", changed(8, 0), "format 0"),
        ("a newer format", changed(8, 999), "format 999"),
        ("another build", changed(12, 1), "another kind of build"),
        ("a size of nothing", changed(16, 0), "size is 0"),
        ("a size that does not fit", changed(16, 12345), "size is 12345"),
        ("too many rows", changed(32, 5000), "rows is 5000"),
        ("no rows", changed(32, 0), "rows is 0"),
        ("no fences", changed(36, 9), "fences is 9"),
        ("no scope", changed(40, 9), "scope is 9"),
        ("one process's own", changed(40, 2), "scope is 2"),
        ("half made", changed(44, 0), "never finished"),
        ("not sealed", file(&image, SealFlags::empty()), "sealed"),
        ("sealed against growing only", file(&image, SealFlags::GROW), "sealed"),
        ("sealed against writing", file(&image, sealed | SealFlags::WRITE), "mmap"),
        ("read-only", again(OFlags::RDONLY).unwrap(), "mmap"),
        ("no memory at all", rustix::pipe::pipe().unwrap().0, "no shared memory"),
    ];
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).unwrap();
    cases.push(("a device", null, "no shared memory"));
    let mut path = std::env::temp_dir();
    path.push(format!("procession-test-{}", std::process::id()));
    std::fs::write(&path, &image).unwrap();
    let plain = rustix::fs::open(&path, OFlags::RDWR, Mode::empty());
    std::fs::remove_file(&path).unwrap();
    cases.push(("a file of a disk", plain.unwrap(), "the descriptor of an arena"));

    for (what, file, expected) in cases {
        let copy = rustix::io::fcntl_dupfd_cloexec(&file, 0).unwrap();
        let before = (content(&copy), descriptors());
        let error = adopt(file).expect_err(what).to_string();
        assert!(error.contains(expected), "{what}: {error}");
        // Nothing was written to it, and nothing of it is kept: the descriptor that was given is closed.
        assert!(content(&copy) == before.0, "{what}: changed");
        assert_eq!(descriptors() + 1, before.1, "{what}: descriptors");
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.contains("memfd:"), "{what}: it is still mapped");
    }
    // After all that the right one is welcome.
    adopt(file(&image, sealed)).unwrap();
    let (queue, lock): (Queue<u64>, Lock) = postcard::from_bytes(&content(&handles)).unwrap();
    assert_eq!(queue.get_timeout(SOON).unwrap(), 7);
    drop(lock.acquire_timeout(SOON).unwrap());
    assert!(matches!(adopt(file(&image, sealed)), Err(MemoryError::Exists)));
    work(100);
}

/// What stands for a handle on the way: arena, offset, kind, generation.
#[derive(Clone, Copy, Debug, Serialize)]
struct Numbers {
    arena: u64,
    offset: u64,
    kind: u8,
    generation: u32,
}

impl Numbers {
    fn of(handle: &impl Serialize) -> Numbers {
        let bytes = postcard::to_stdvec(handle).unwrap();
        let (arena, offset, kind, generation) = postcard::from_bytes(&bytes).unwrap();
        Numbers { arena, offset, kind, generation }
    }
}

/// Is sent as numbers, and arrives as a handle.
#[derive(Debug)]
enum Forged<H> {
    Numbers(Numbers),
    Handle(H),
}

impl<H> Serialize for Forged<H> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Numbers(numbers) => numbers.serialize(serializer),
            Self::Handle(_) => unreachable!("what has arrived is not sent again"),
        }
    }
}

impl<'de, H: Deserialize<'de>> Deserialize<'de> for Forged<H> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        H::deserialize(deserializer).map(Self::Handle)
    }
}

fn lock_it(lock: Forged<Lock>) {
    let Forged::Handle(lock) = lock else { unreachable!("what arrives is a handle") };
    drop(lock.try_acquire().unwrap());
}

fn wrong_handles() {
    let (lock, queue) = (Lock::new().unwrap(), Queue::<u64>::bounded(4).unwrap());
    queue.put(&7).unwrap();
    let guard = lock.acquire().unwrap();
    let (right, queues) = (Numbers::of(&lock), Numbers::of(&queue));
    // A handle of a tree of its own.
    let elsewhere = rustix::fs::memfd_create("elsewhere", MemfdFlags::CLOEXEC).unwrap();
    Child::start(|| {
        // The tree of this test lies in the way: what a stranger makes is got by executing anew, or like this.
        let stranger = Numbers { arena: !right.arena, ..right };
        rustix::io::pwrite(&elsewhere, &postcard::to_stdvec(&stranger).unwrap(), 0).unwrap();
    })
    .finish();
    let (arena, offset, kind, generation) = postcard::from_bytes(&content(&elsewhere)).unwrap();
    let stranger = Numbers { arena, offset, kind, generation };

    let locks = Queue::<Forged<Lock>>::bounded(4).unwrap();
    let cases = [
        ("another kind", queues, "a Queue, not a Lock"),
        ("called a lock", Numbers { kind: right.kind, ..queues }, "kind 4, not of kind 1"),
        ("another tree", stranger, "another process tree"),
        ("stale", Numbers { generation: right.generation + 1, ..right }, "gone"),
        ("no block", Numbers { offset: right.offset + 1, ..right }, "no block"),
        ("the header", Numbers { offset: 0, ..right }, "no block"),
        ("far away", Numbers { offset: u64::MAX - 7, ..right }, "no block"),
        ("behind all blocks", Numbers { offset: 1 << 30, ..right }, "no block"),
        ("no kind", Numbers { kind: 0, ..right }, "nothing, not a Lock"),
    ];
    for (what, numbers, expected) in cases {
        locks.put(&Forged::Numbers(numbers)).unwrap();
        match locks.get() {
            Err(error @ GetError::Decode { .. }) => {
                let error = error.to_string();
                assert!(error.contains(expected), "{what}: {error}");
            }
            Err(error) => panic!("{what}: {error}"),
            Ok(_) => panic!("{what}: it was taken for a lock"),
        }
    }
    // The queue that brought them goes on, and so does what they meant to hit.
    locks.put(&Forged::Numbers(right)).unwrap();
    let Forged::Handle(same) = locks.get().unwrap() else { unreachable!() };
    assert!(matches!(same.try_acquire(), Err(AcquireError::WouldBlock)));
    drop(guard);
    drop(same.try_acquire().unwrap());

    let others = Queue::<Forged<Queue<String>>>::bounded(4).unwrap();
    others.put(&Forged::Numbers(queues)).unwrap();
    let error = others.get().expect_err("a queue of other objects").to_string();
    assert!(error.contains("another type"), "{error}");
    others.put(&Forged::Numbers(right)).unwrap();
    let error = others.get().expect_err("a lock is no queue").to_string();
    assert!(error.contains("a Lock, not a Queue"), "{error}");
    assert_eq!(queue.get().unwrap(), 7);
    // Cut short: the decoder's own words.
    let bytes = postcard::to_stdvec(&lock).unwrap();
    assert!(postcard::from_bytes::<Lock>(&bytes[..bytes.len() - 1]).is_err());

    // As an argument of a process.
    let child = Process::new(lock_it, (Forged::Numbers(queues),)).start().unwrap();
    let error = child.join_timeout(LONG).expect_err("a queue is no lock").to_string();
    assert!(error.contains("a Queue, not a Lock"), "{error}");
    let child = Process::new(lock_it, (Forged::Numbers(right),)).start().unwrap();
    child.join_timeout(LONG).unwrap();

    // An object that has been dropped: the handle names what was there.
    let dropped = Lock::new().unwrap();
    let mut stale = Numbers::of(&lock);
    drop(dropped);
    stale.generation = stale.generation.wrapping_sub(1);
    locks.put(&Forged::Numbers(stale)).unwrap();
    assert!(locks.get().is_err());
}

// ---- full machines

/// Puts objects until the memory is full; what is there and what others hold stays usable, and room comes back.
fn fill(most: u64) {
    const BYTES: usize = 100_000;
    let lock = Lock::new().unwrap();
    let (objects, small) = (Queue::bounded(4096).unwrap(), Queue::<u64>::bounded(8).unwrap());
    let guard = lock.acquire().unwrap();
    let object = "1".repeat(BYTES);
    for _ in 0..2 {
        let mut count = 0;
        let error = loop {
            match objects.put_nowait(&object) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
            assert!(count * BYTES as u64 <= most, "{count} objects of 100 kB");
        };
        assert!(matches!(error, PutError::Memory(_)), "{error}");
        assert!(count >= 5, "{count} objects: {error}");
        let large = Queue::<u64>::bounded(1 << 20);
        assert!(matches!(large, Err(CreateError::Memory(_))));
        // Who holds something goes on, here and elsewhere.
        small.put(&1).unwrap();
        Child::start(|| {
            assert!(matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)));
            assert_eq!(small.get().unwrap(), 1);
            assert!(matches!(objects.put_nowait(&object), Err(PutError::Memory(_))));
            assert!(objects.get().unwrap() == object);
            objects.put(&object).unwrap();
        })
        .finish();
        for _ in 0..count {
            assert!(objects.get_nowait().unwrap() == object);
        }
    }
    drop(guard);
    drop(lock.acquire().unwrap());
}

fn full_budget() {
    configure(Some(256 << 20), Some(4 << 20));
    fill(4 << 20);
    assert!(arena().unwrap().used().unwrap() <= 4 << 20);
}

fn adopted_budget() {
    let ready = Word::new();
    let maker = Child::start(|| {
        configure(Some(256 << 20), Some(4 << 20));
        ready.set(1 + arena().unwrap().fd().unwrap().as_raw_fd() as u64);
        sleep_forever();
    });
    adopt(descriptor_of(&maker, ready.wait() - 1)).unwrap();
    fill(4 << 20);
    assert!(arena().unwrap().used().unwrap() <= 4 << 20);
}

/// A descriptor of a child's, as this process's own.
fn descriptor_of(child: &Child, number: u64) -> OwnedFd {
    let path = format!("/proc/{}/fd/{number}", child.pid());
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn file_size_limit() {
    // The limit came first.
    Child::start(|| {
        limit(Resource::Fsize, 8 << 20);
        fill(8 << 20);
    })
    .finish();
    Child::start(|| {
        limit(Resource::Fsize, 1 << 19);
        assert!(matches!(Lock::new(), Err(MemoryError::Limits { .. })));
        limit(Resource::Fsize, 1 << 30);
        drop(Lock::new().unwrap().acquire().unwrap());
    })
    .finish();
    Child::start(|| {
        limit(Resource::Fsize, 8 << 20);
        configure(Some(64 << 20), None);
        let error = Lock::new().expect_err("more than the limit").to_string();
        assert!(error.contains("RLIMIT_FSIZE"), "{error}");
    })
    .finish();
    // It came later.
    Child::start(|| {
        configure(Some(64 << 20), Some(32 << 20));
        arena().unwrap();
        limit(Resource::Fsize, 1 << 20);
        fill(32 << 20);
    })
    .finish();
}

fn address_space_limit() {
    Child::start(|| {
        limit(Resource::As, address_space() + (64 << 20));
        let arena = arena().unwrap();
        assert!(arena.region().size() <= 64 << 20);
        fill(64 << 20);
    })
    .finish();
    Child::start(|| {
        limit(Resource::As, address_space() + (8 << 20));
        configure(Some(64 << 20), None);
        let before = descriptors();
        let error = Lock::new().expect_err("more than the limit").to_string();
        assert!(error.contains("mmap"), "{error}");
        assert_eq!(descriptors(), before);
    })
    .finish();
    Child::start(|| {
        limit(Resource::As, address_space());
        let error = Lock::new().expect_err("nothing is left").to_string();
        assert!(error.contains("RLIMIT_AS"), "{error}");
    })
    .finish();
}

fn no_descriptors() {
    let lock = Lock::new().unwrap();
    let child = holder(&lock, || {});
    let before = getrlimit(Resource::Nofile).current.unwrap();
    limit(Resource::Nofile, 0);
    assert!(matches!(lock.acquire_timeout(WHILE), Err(AcquireError::TimedOut)));
    child.kill();
    // It cannot be asked for, so it counts as living: a wait ends by its deadline, and works again as soon as there are
    // descriptors.
    assert!(matches!(lock.acquire_timeout(WHILE), Err(AcquireError::TimedOut)));
    limit(Resource::Nofile, before);
    take_over(&lock);
    Child::start(|| {
        limit(Resource::Nofile, 0);
        drop(lock.acquire_timeout(SOON).unwrap());
    })
    .finish();
}

/// Gets numbers and puts them back, until the queue is closed.
fn echo(there: Queue<u64>, back: Queue<u64>) {
    for number in &there {
        back.put(&number.unwrap()).unwrap();
    }
}

/// Starts a process, exchanges something with it and waits for it; or hears why not, and can go on.
fn start_one() -> Result<(), String> {
    let (there, back) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let child = Process::new(echo, (there.clone(), back.clone())).start();
    let child = child.map_err(|error| error.to_string())?;
    let mut outcome = Ok(());
    for number in 0..100 {
        there.put_timeout(&number, LONG).unwrap();
        loop {
            match back.get_timeout(Duration::from_millis(100)) {
                Ok(same) => {
                    assert_eq!(same, number);
                    break;
                }
                Err(GetError::TimedOut) if child.is_alive() => {}
                Err(error) => {
                    outcome = Err(error.to_string());
                    break;
                }
            }
        }
        if outcome.is_err() {
            break;
        }
    }
    there.close();
    child.join_timeout(LONG).map_err(|error| error.to_string())?;
    outcome
}

fn processes() {
    type Case = (&'static str, fn(), Option<&'static str>);
    // Who is forked has what its parent has, and need not ask for it again.
    let missing = (start_method() != StartMethod::Fork).then_some("membarrier");
    let cases: [Case; 6] = [
        ("as usual", || {}, None),
        ("no membarrier", || deny(libc::SYS_membarrier, libc::EPERM), None),
        (
            "no membarrier any more",
            || {
                start_one().unwrap();
                deny(libc::SYS_membarrier, libc::ENOSYS);
            },
            missing,
        ),
        ("no pidfds", || deny(libc::SYS_pidfd_open, libc::ENOSYS), Some("pidfd_open")),
        ("no pidfds allowed", || deny(libc::SYS_pidfd_open, libc::EPERM), Some("pidfd_open")),
        (
            "no pidfds any more",
            || {
                start_one().unwrap();
                deny(libc::SYS_pidfd_open, libc::EPERM);
            },
            Some("pidfd_open"),
        ),
    ];
    for (what, before, error) in cases {
        Child::start(|| {
            before();
            for _ in 0..3 {
                match (start_one(), error) {
                    (Ok(()), None) => {}
                    (Err(found), Some(expected)) if found.contains(expected) => {}
                    found => panic!("{what}: {found:?}"),
                }
            }
        })
        .finish();
    }
    // No room for the descriptors that a start takes.
    let before = getrlimit(Resource::Nofile).current.unwrap();
    arena().unwrap();
    limit(Resource::Nofile, descriptors() as u64);
    let (there, back) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let refused = Process::new(echo, (there, back)).start();
    assert!(refused.is_err());
    limit(Resource::Nofile, before);
    start_one().unwrap();
}

fn no_descriptors_at_first() {
    limit(Resource::Nofile, 0);
    let error = Lock::new().expect_err("no descriptor for the memory").to_string();
    assert!(error.contains("memfd_create"), "{error}");
}

// ---- machines that deny

fn no_membarrier() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        Child::start(|| {
            deny(libc::SYS_membarrier, errno);
            assert_eq!(arena().unwrap().member().fences(), Fences::Full);
            work(2000);
        })
        .finish();
    }
}

fn no_membarrier_later() {
    let ready = Word::new();
    let maker = Child::start(|| {
        let lock = Lock::new().unwrap();
        let guard = lock.acquire().unwrap();
        assert_eq!(arena().unwrap().member().fences(), Fences::Asymmetric);
        ready.set(1 + arena().unwrap().fd().unwrap().as_raw_fd() as u64);
        // Until the stranger has failed.
        ready.wait_for(0);
        drop(guard);
        drop(lock.acquire().unwrap());

        // Those who share the memory already can go on: they look more often.
        let queue = Queue::<u64>::bounded(1).unwrap();
        let filtered = Child::start(|| {
            deny(libc::SYS_membarrier, libc::EPERM);
            for item in 0..200 {
                assert_eq!(queue.get_timeout(LONG).unwrap(), item);
            }
        });
        for item in 0..200 {
            if item % 50 == 0 {
                // So that the other sleeps.
                std::thread::sleep(Duration::from_millis(20));
            }
            queue.put_timeout(&item, LONG).unwrap();
        }
        filtered.finish();
        deny(libc::SYS_membarrier, libc::ENOSYS);
        work(500);
    });
    let file = descriptor_of(&maker, ready.wait() - 1);
    deny(libc::SYS_membarrier, libc::EPERM);
    let error = adopt(file).expect_err("a newcomer cannot keep the rules").to_string();
    assert!(error.contains("membarrier"), "{error}");
    ready.set(0);
    maker.finish();
}

fn no_pidfd() {
    let denied = || deny(libc::SYS_pidfd_open, libc::ENOSYS);
    let forbidden = || deny(libc::SYS_pidfd_open, libc::EPERM);
    let allowed = || {};
    let ways: [&dyn Fn(); 3] = [&allowed, &denied, &forbidden];
    let lock = Lock::new().unwrap();
    for of_holder in ways {
        for of_asker in ways {
            let ask = |body: &dyn Fn()| {
                Child::start(|| {
                    of_asker();
                    body();
                })
                .finish();
            };
            let not_robbed = || {
                let answer = lock.acquire_timeout(Duration::from_millis(100));
                assert!(matches!(answer, Err(AcquireError::TimedOut)));
            };
            let child = holder(&lock, of_holder);
            ask(&not_robbed);
            child.signal(Signal::STOP);
            ask(&not_robbed);
            // A zombie.
            child.kill();
            ask(&|| take_over(&lock));
            drop(child);
            // Gone altogether.
            let child = holder(&lock, of_holder);
            child.kill();
            drop(child);
            ask(&|| take_over(&lock));
            // Its main thread has ended, another lives.
            let (held, release) = (Word::new(), Word::new());
            let child = Child::start(|| {
                of_holder();
                let lock = lock.clone();
                std::thread::spawn(move || {
                    let _ = hold(&lock);
                    held.set(1);
                    release.wait();
                });
                held.wait();
                // SAFETY: ends this thread alone; what it has on its stack is used by nobody else.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            });
            held.wait();
            let stat = format!("/proc/{}/stat", child.pid());
            eventually("the main thread shows as a zombie", || {
                std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "))
            });
            ask(&not_robbed);
            release.set(1);
            ask(&|| take_over(&lock));
        }
    }
    denied();
    work(500);
}

fn no_futex() {
    arena().unwrap();
    let lock = Lock::new().unwrap();
    Child::start(|| {
        deny(libc::SYS_futex, libc::EPERM);
        work(200);
        let child = holder(&lock, || {});
        assert!(matches!(lock.acquire_timeout(WHILE), Err(AcquireError::TimedOut)));
        child.kill();
        take_over(&lock);
    })
    .finish();
}

/// Takes `/proc` away from this process. `false`: it may not.
fn without_proc() -> bool {
    let none = std::ptr::null();
    // SAFETY: the calls take numbers and strings that end in zero.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast())
                == 0
            && libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH) == 0
    }
}

fn no_proc() {
    let before = Lock::new().unwrap();
    let child = holder(&before, || {});
    let outcome = Word::new();
    let alone = Child::start(|| {
        if !without_proc() {
            outcome.set(2);
            return;
        }
        assert!(!std::fs::exists("/proc/self").unwrap());
        work(500);
        // One that came when there was a /proc.
        assert!(matches!(before.acquire_timeout(WHILE), Err(AcquireError::TimedOut)));
        outcome.set(1);
        outcome.wait_for(3);
        take_over(&before);
    });
    if outcome.wait() == 2 {
        println!("this process may not unmount /proc: nothing to test");
        return;
    }
    child.kill();
    drop(child);
    outcome.set(3);
    alone.finish();
    // And the other way round.
    let lock = Lock::new().unwrap();
    let child = holder(&lock, || assert!(without_proc()));
    assert!(matches!(lock.acquire_timeout(WHILE), Err(AcquireError::TimedOut)));
    child.kill();
    drop(child);
    take_over(&lock);
    // Neither the one nor the other: nobody can be asked, so nobody is robbed.
    let child = holder(&lock, || {});
    Child::start(|| {
        assert!(without_proc());
        deny(libc::SYS_pidfd_open, libc::ENOSYS);
        assert!(matches!(lock.acquire_timeout(WHILE), Err(AcquireError::TimedOut)));
    })
    .finish();
    child.kill();
    take_over(&lock);
}

fn one_processor() {
    let mut one = rustix::thread::CpuSet::new();
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap();
    one.set(first);
    rustix::thread::sched_setaffinity(None, &one).unwrap();
    work(5000);
    let (lock, sum) = (Lock::new().unwrap(), Word::new());
    let count = || (0..20_000).for_each(|_| count_up(&lock, sum));
    let workers: Vec<Child> = (0..4).map(|_| Child::start(count)).collect();
    workers.into_iter().for_each(Child::finish);
    assert_eq!(sum.get(), 80_000);
}

fn small_stack() {
    // Everything, the making of the memory included, in a thread that has 64 KiB.
    let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(|| {
        let (lock, queue) = (Lock::new().unwrap(), Queue::<Vec<u8>>::bounded(2).unwrap());
        for bytes in [0, 1, 100, 105, 5000, 1 << 20] {
            let object = vec![9; bytes];
            queue.put(&object).unwrap();
            queue.put_timeout(&object, SOON).unwrap();
            assert!(matches!(queue.put_nowait(&object), Err(PutError::Full)));
            let soon = Duration::from_millis(20);
            assert!(matches!(queue.put_timeout(&object, soon), Err(PutError::TimedOut)));
            assert!(queue.get().unwrap() == object);
            assert!(queue.get_timeout(SOON).unwrap() == object);
            assert!(matches!(queue.get_timeout(soon), Err(GetError::TimedOut)));
        }
        let many = Queue::<(Lock, Queue<Vec<u8>>)>::bounded(2).unwrap();
        many.put(&(lock.clone(), queue.clone())).unwrap();
        let (same, _) = many.get().unwrap();
        drop(same.acquire().unwrap());
        // Two deaths: one is found by who waits, the other by a sweep.
        for _ in 0..2 {
            holder(&lock, || {}).kill();
            take_over(&lock);
            arena().unwrap().sweep();
        }
        queue.close();
        assert!(matches!(queue.get(), Err(GetError::Closed)));
        if start_method() == StartMethod::Fork {
            // There are two threads.
            set_start_method(StartMethod::Zygote);
        }
        start_one().unwrap();
    });
    thread.unwrap().join().unwrap();
}

fn orphan() {
    let (step, outcome) = (Word::new(), Word::new());
    // The process that made the memory dies with the lock in its hand; its children go on.
    let parent = Child::start(|| {
        let (lock, queue) = (Lock::new().unwrap(), Queue::bounded(2).unwrap());
        let guard = hold(&lock);
        let long = "long ".repeat(10_000);
        let put = Child::start_free(|| {
            step.count();
            take_over(&lock);
            for round in 0..500u64 {
                queue.put_timeout(&(round, long.clone()), LONG).unwrap();
            }
            outcome.count();
        });
        let get = Child::start_free(|| {
            step.count();
            for round in 0..500u64 {
                assert!(queue.get_timeout(LONG).unwrap() == (round, long.clone()));
            }
            drop(lock.acquire_timeout(LONG).unwrap());
            // What is new can be made as well.
            work(100);
            outcome.count();
        });
        std::mem::forget((put, get, guard));
        sleep_forever();
    });
    step.wait_for(2);
    parent.kill();
    drop(parent);
    outcome.wait_for(2);
}
