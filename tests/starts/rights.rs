//! What a process gives up between two starts its children do not have, by whichever way they are started: user,
//! capabilities, privileges, system calls, namespaces, root directory, control group, session.

use std::io;

use procession::Process;
use procession::process::StartMethod;

use crate::support::{Child, LONG};
use crate::{METHODS, add, children_of, started_by};

/// The kinds of namespaces that a process can leave without harm to this test.
const KINDS: [&str; 6] = ["mnt", "net", "uts", "ipc", "user", "cgroup"];

/// All that tells one process's rights from another's.
fn rights() -> Vec<String> {
    let keys = [
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
    ];
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let lines = status.lines().filter(|line| keys.contains(&line.split(':').next().unwrap()));
    let mut all: Vec<String> = lines.map(str::to_string).collect();
    for kind in KINDS {
        let link = std::fs::read_link(format!("/proc/self/ns/{kind}"));
        all.push(link.map_or("none".into(), |link| link.display().to_string()));
    }
    all.push(std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    // SAFETY: these calls return numbers, and write to a local.
    unsafe {
        all.push(format!("session {}", libc::getsid(0)));
        all.push(format!("secure bits {}", libc::prctl(libc::PR_GET_SECUREBITS)));
        let mut info = std::mem::zeroed();
        all.push(format!("sysinfo {}", libc::sysinfo(&mut info)));
    }
    all.push(format!("a file that only root may read: {}", std::fs::read("/etc/shadow").is_ok()));
    all.push(format!("a file of the old root: {}", std::fs::exists("/etc/passwd").unwrap()));
    all
}

fn ask(method: StartMethod) -> Result<Vec<String>, String> {
    let child = Process::new(rights, ()).method(method).start();
    child.map_err(|error| error.to_string())?.join_timeout(LONG).map_err(|error| error.to_string())
}

fn works(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A way to give something up; an error says that this process may not.
type Way = fn() -> io::Result<()>;

const WAYS: &[(&str, Way)] = &[
    ("root", || drop_root(65534)),
    ("the group of root", || {
        // SAFETY: takes numbers.
        works(unsafe { libc::setresgid(65534, 65534, 65534) })
    }),
    ("groups", || {
        // SAFETY: an empty list is not read.
        works(unsafe { libc::setgroups(0, std::ptr::null()) })?;
        let groups = [65530, 65531];
        // SAFETY: reads two numbers.
        works(unsafe { libc::setgroups(2, groups.as_ptr()) })
    }),
    ("new privileges", || Ok(rustix::thread::set_no_new_privs(true)?)),
    ("a system call", || filter(libc::SYS_sysinfo)),
    ("a capability", || drop_capabilities(1 << 13, 0)),
    ("all capabilities", || drop_capabilities(!0, !0)),
    ("a capability for ever", || {
        // SAFETY: takes numbers.
        works(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, 13, 0, 0, 0) })
    }),
    ("the special rights of root", || {
        const SECBIT_NOROOT: libc::c_int = 1;
        // SAFETY: takes numbers.
        works(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0) })
    }),
    ("the network", || unshare(libc::CLONE_NEWNET)),
    ("mounts", || unshare(libc::CLONE_NEWNS)),
    ("names", || unshare(libc::CLONE_NEWUTS)),
    ("segments", || unshare(libc::CLONE_NEWIPC)),
    ("the tree of control groups", || unshare(libc::CLONE_NEWCGROUP)),
    ("all by a new user namespace", || unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)),
    ("the session", || {
        // SAFETY: takes nothing. In a process group of its own it would fail.
        works(unsafe { libc::setpgid(0, libc::getppid()).min(0) })?;
        rustix::process::setsid()?;
        Ok(())
    }),
    ("the control group", || enter_cgroup()),
    ("the mount of the root directory", || {
        unshare(libc::CLONE_NEWNS)?;
        other_root()
    }),
];

pub fn unshare(what: libc::c_int) -> io::Result<()> {
    // SAFETY: takes a number.
    works(unsafe { libc::unshare(what) })
}

pub fn drop_root(to: u32) -> io::Result<()> {
    // SAFETY: the calls take numbers; an empty list is not read.
    works(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: as above.
    works(unsafe { libc::setresgid(to, to, to) })?;
    // SAFETY: as above.
    works(unsafe { libc::setresuid(to, to, to) })
}

/// Answers this call with EPERM from now on.
pub fn filter(call: libc::c_long) -> io::Result<()> {
    let statement = |code: u32, no: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: no,
        k: value,
    };
    let error = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, error),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: reads the program, which lives until it returns.
    works(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    })
}

fn drop_capabilities(low: u32, high: u32) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut sets = [0u32; 6];
    // SAFETY: the kernel reads the header, and reads or writes two times three words.
    unsafe {
        let call = |number| libc::syscall(number, header.as_ptr(), sets.as_ptr()) as libc::c_int;
        works(call(libc::SYS_capget))?;
    }
    for (at, set) in sets.iter_mut().enumerate() {
        *set &= !if at < 3 { low } else { high };
    }
    // SAFETY: as above.
    works(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) } as _)
}

/// A control group of version 1 or 2, which is removed when the test is over.
fn cgroup() -> Option<String> {
    let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let root = roots
        .iter()
        .find(|root| std::fs::exists(format!("{root}/cgroup.procs")).is_ok_and(|it| it))?;
    Some(format!("{root}/procession-test"))
}

fn enter_cgroup() -> io::Result<()> {
    let dir = cgroup().ok_or(io::ErrorKind::NotFound)?;
    match std::fs::create_dir(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => std::fs::write(format!("{dir}/cgroup.procs"), std::process::id().to_string()),
    }
}

/// The same directory, mounted anew, becomes the root.
fn other_root() -> io::Result<()> {
    let none: *const libc::c_char = std::ptr::null();
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: strings that end in zero.
    unsafe {
        works(libc::mount(none, c"/".as_ptr(), none, flags, none.cast()))?;
        let bind = libc::MS_BIND | libc::MS_REC;
        works(libc::mount(c"/".as_ptr(), c"/mnt".as_ptr(), none, bind, none.cast()))?;
        works(libc::chroot(c"/mnt".as_ptr()))?;
        works(libc::chdir(c"/".as_ptr()))
    }
}

/// Whether a child that has this has what its starter has. Of capabilities it may have less: the kernel takes some away
/// where a program is executed.
fn is_no_more(child: &str, starter: &str) -> bool {
    let set = |line: &str| {
        let digits = line.strip_prefix("Cap")?.split(':').nth(1)?;
        u64::from_str_radix(digits.trim(), 16).ok()
    };
    match (set(child), set(starter)) {
        (Some(child), Some(starter)) => child & !starter == 0,
        _ => child == starter,
    }
}

/// Each way, between two starts, under each method.
pub fn given_up() {
    for (what, way) in WAYS {
        for method in METHODS {
            Child::start(|| {
                assert_eq!(ask(method).unwrap(), rights(), "{what}, {method:?}: before");
                let before = rights();
                if let Err(error) = way() {
                    return println!("    {what}: skipped, {error}");
                }
                let now = rights();
                assert!(before != now || *what == "the mount of the root directory", "{what}");
                for _ in 0..2 {
                    let found = ask(method).unwrap();
                    assert_eq!(found.len(), now.len());
                    for (found, now) in found.iter().zip(&now) {
                        assert!(is_no_more(found, now), "{what}, {method:?}: {found}, not {now}");
                    }
                }
            })
            .finish();
        }
    }
    if let Some(dir) = cgroup() {
        let _ = std::fs::remove_dir(dir);
    }
}

/// Whoever gains rights in a new user namespace, moves, and drops them again looks as before, but for the namespace.
pub fn gained_and_dropped() {
    for method in METHODS {
        Child::start(|| {
            let _ = drop_root(65534);
            assert_eq!(ask(method).unwrap(), rights(), "{method:?}: before");
            let moved = unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET);
            if let Err(error) = moved.and_then(|()| drop_capabilities(!0, !0)) {
                return println!("    skipped: {error}");
            }
            assert_eq!(ask(method).unwrap(), rights(), "{method:?}: after");
        })
        .finish();
    }
}

fn can_read(file: String) -> bool {
    std::fs::read(file).is_ok()
}

/// What Landlock takes away is seen nowhere in /proc.
pub fn landlock() {
    for method in METHODS {
        Child::start(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let reads = || {
                let child = Process::new(can_read, ("/etc/passwd".into(),)).method(method);
                child.start().unwrap().join_timeout(LONG).unwrap()
            };
            assert!(reads());
            for layer in 0..2 {
                // Reading files below /etc is handled, and allowed nowhere; the second time that of directories.
                let handled: u64 = if layer == 0 { 1 << 2 } else { 1 << 3 };
                if let Err(error) = restrict(handled) {
                    return println!("    skipped: {error}");
                }
                assert!(layer > 0 || std::fs::read("/etc/passwd").is_err());
                let child = Process::new(can_read, ("/etc/passwd".into(),)).method(method).start();
                // A program that may not be read may not be executed either.
                match child {
                    Ok(child) => assert_ne!(child.join_timeout(LONG), Ok(true), "{method:?}"),
                    Err(error) => println!("    {method:?}: {error}"),
                }
            }
        })
        .finish();
    }
}

/// Forbids these accesses to files everywhere, but to what programs need to begin.
fn restrict(handled: u64) -> io::Result<()> {
    #[repr(C, packed)]
    struct Beneath {
        allowed: u64,
        parent: i32,
    }
    // SAFETY: the kernel reads the attributes, whose sizes it is told.
    unsafe {
        let attributes = [handled];
        let rules = libc::syscall(444, attributes.as_ptr(), size_of_val(&attributes), 0);
        works(rules.min(0) as _)?;
        let exe = std::env::current_exe()?;
        let exe = exe.parent().and_then(|path| path.to_str()).unwrap_or("/");
        for dir in ["/usr", "/lib", "/lib64", "/proc", "/dev", exe] {
            let path = std::ffi::CString::new(dir)?;
            let parent = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
            if parent >= 0 {
                let rule = Beneath { allowed: handled, parent };
                works(libc::syscall(445, rules, 1, &raw const rule, 0) as _)?;
                libc::close(parent);
            }
        }
        works(libc::syscall(446, rules, 0) as _)?;
        libc::close(rules as _);
    }
    Ok(())
}

/// The children of a process that moved them to a new PID namespace are numbered anew there: a handle has the numbers
/// of its own process.
pub fn pid_namespace() {
    for method in [StartMethod::Zygote, StartMethod::Spawn] {
        Child::start(|| {
            let first = Process::new(add, (1, 2)).method(method).start().unwrap();
            assert_eq!(first.join_timeout(LONG), Ok(3));
            if let Err(error) = unshare(libc::CLONE_NEWPID) {
                return println!("    skipped: {error}");
            }
            let who = || (std::process::id(), std::fs::read_link("/proc/self/ns/pid").unwrap());
            let here = std::fs::read_link("/proc/self/ns/pid").unwrap();
            let child = Process::new(who, ()).method(method).start().unwrap();
            let (number, there) = child.join_timeout(LONG).unwrap();
            assert_ne!(here, there, "{method:?}");
            assert!(number < 10, "{number}");
            let sleeper = Process::new(crate::sleeper, ()).method(method).start().unwrap();
            let below: Vec<u32> =
                children_of(std::process::id()).into_iter().flat_map(started_by).collect();
            assert_eq!(below, [sleeper.pid()], "{method:?}");
            sleeper.kill().unwrap();
            assert!(sleeper.join_timeout(LONG).is_err());
            assert_eq!(sleeper.exitcode(), Some(-9));
            // With the zygote, the first of its namespace, all end, and nobody can be started there any more.
            let daemon = Process::new(crate::sleeper, ()).method(method).daemon(true);
            let daemon = daemon.start().unwrap();
            for zygote in children_of(std::process::id()) {
                let zygote = rustix::process::Pid::from_raw(zygote as i32).unwrap();
                let _ = rustix::process::kill_process(zygote, rustix::process::Signal::KILL);
            }
            assert!(daemon.join_timeout(LONG).is_err());
            let error = Process::new(add, (1, 2)).method(method).start();
            let error = error.expect_err("nothing begins there").to_string();
            assert!(error.contains("PID namespace"), "{error}");
        })
        .finish();
    }
}
