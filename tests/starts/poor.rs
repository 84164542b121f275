//! Machines that deny what others have: each start works there, or says in one error why not, at once.

use std::io;
use std::time::{Duration, Instant};

use procession::process::{Process, StartMethod};
use procession::{Lock, Queue};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::rights::{drop_root, filter, unshare};
use crate::support::{Child, LONG};
use crate::{METHODS, add};

/// Nothing that fails takes longer.
const PROMPT: Duration = Duration::from_secs(5);

fn answer(queue: Queue<u64>, lock: Lock, number: u64) -> u64 {
    let _held = lock.acquire_timeout(LONG).unwrap();
    queue.put_timeout(&number, LONG).unwrap();
    number
}

/// A start with arguments that live in shared memory. What was wrong, if it did not work.
fn start(method: StartMethod) -> Result<(), String> {
    let begin = Instant::now();
    let outcome = (|| {
        let queue = Queue::bounded(1).map_err(|error| error.to_string())?;
        let lock = Lock::new().map_err(|error| error.to_string())?;
        let child = Process::new(answer, (queue.clone(), lock, 7)).method(method).start();
        let child = child.map_err(|error| error.to_string())?;
        let number = child.join_timeout(LONG).map_err(|error| error.to_string())?;
        assert_eq!((number, queue.get_timeout(LONG).unwrap()), (7, 7));
        Ok(())
    })();
    assert!(begin.elapsed() < PROMPT, "{:?}: {outcome:?}", begin.elapsed());
    outcome
}

/// Starts some, which have to work, or to fail all with a message that has `expected` in it.
fn starts(what: &str, method: StartMethod, expected: Option<&str>) {
    for _ in 0..3 {
        let outcome = start(method);
        if let Err(error) = &outcome
            && std::env::var_os("STARTS_TELL").is_some()
        {
            println!("    {what}, {method:?}: {error}");
        }
        match (outcome, expected) {
            (Ok(()), _) => {}
            (Err(error), Some(expected)) if error.contains(expected) => {}
            (Err(error), _) => panic!("{what}, {method:?}: {error}"),
        }
    }
}

/// System calls that filters deny; what an error has to name, if one may come.
const CALLS: &[(&str, libc::c_long, Option<&str>)] = &[
    ("membarrier", libc::SYS_membarrier, Some("membarrier")),
    ("pidfd_open", libc::SYS_pidfd_open, Some("pidfd_open")),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal, None),
    ("kcmp", libc::SYS_kcmp, None),
    ("unshare", libc::SYS_unshare, None),
    ("memfd_create", libc::SYS_memfd_create, Some("mem")),
    ("close_range", libc::SYS_close_range, None),
    ("statx", libc::SYS_statx, None),
    ("prctl", libc::SYS_prctl, None),
    ("capget", libc::SYS_capget, None),
    ("capset", libc::SYS_capset, None),
    ("futex_waitv", libc::SYS_futex_waitv, None),
    ("waitid", libc::SYS_waitid, Some("waitid")),
    ("fallocate", libc::SYS_fallocate, Some("mem")),
    ("vfork", libc::SYS_vfork, None),
    ("clone3", libc::SYS_clone3, Some("clone3")),
    ("execve", libc::SYS_execve, Some("execute")),
    ("socketpair", libc::SYS_socketpair, Some("socket pair")),
    ("signalfd", libc::SYS_signalfd4, Some("signalfd")),
    ("poll", libc::SYS_poll, None),
    ("sched_setaffinity", libc::SYS_sched_setaffinity, None),
    ("process_vm_readv", libc::SYS_process_vm_readv, None),
    ("getpgrp", libc::SYS_getpgrp, None),
];

/// A filter from the beginning, or after a first start.
pub fn filters() {
    for (name, call, expected) in CALLS {
        for method in METHODS {
            for later in [false, true] {
                Child::start(|| {
                    if later {
                        start(method).unwrap();
                    }
                    if std::env::var_os("STARTS_TELL").is_some() {
                        println!("    {name}, {method:?}, {later}");
                    }
                    filter(*call).unwrap();
                    starts(name, method, *expected);
                })
                .finish();
            }
        }
    }
}

fn limit(resource: Resource, to: u64) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(to), maximum }).unwrap();
}

/// Few processes, descriptors, bytes of memory.
pub fn limits() {
    for method in METHODS {
        for count in [0, 1, 2, 3] {
            Child::start(|| {
                if drop_root(65531).is_ok() {
                    limit(Resource::Nproc, count);
                    starts("few processes", method, Some("limit of processes"));
                }
            })
            .finish();
        }
        for count in [3, 4, 6, 8, 10, 12, 14, 16, 20] {
            Child::start(|| {
                limit(Resource::Nofile, count);
                starts("few descriptors", method, Some("os error 24"));
            })
            .finish();
        }
        for mib in [8, 64, 256] {
            Child::start(|| {
                let used = std::fs::read_to_string("/proc/self/statm").unwrap();
                let pages: u64 = used.split(' ').next().unwrap().parse().unwrap();
                limit(Resource::As, pages * 4096 + (mib << 20));
                starts("little memory", method, Some("os error 12"));
            })
            .finish();
        }
    }
}

fn mount(flags: libc::c_ulong, kind: &std::ffi::CStr, on: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: strings that end in zero.
    let error =
        unsafe { libc::mount(kind.as_ptr(), on.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    if error == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Private mounts, that nobody else sees.
fn own_mounts() -> io::Result<()> {
    unshare(libc::CLONE_NEWNS)?;
    mount(libc::MS_REC | libc::MS_PRIVATE, c"none", c"/")
}

fn unmount(path: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: a string that ends in zero.
    let error = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    if error == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Nothing can be written, no /dev/shm, no /proc.
pub fn file_systems() {
    type Case = (&'static str, fn() -> io::Result<()>, Option<&'static str>);
    let cases: [Case; 3] = [
        (
            "a root directory that cannot be written",
            || {
                own_mounts()?;
                mount(libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, c"none", c"/")
            },
            None,
        ),
        (
            "no /dev/shm and no /tmp",
            || {
                own_mounts()?;
                let _ = mount(libc::MS_RDONLY, c"tmpfs", c"/tmp");
                while unmount(c"/dev/shm").is_ok() {}
                let _ = mount(libc::MS_RDONLY, c"tmpfs", c"/dev/shm");
                Ok(())
            },
            None,
        ),
        (
            "no /proc",
            || {
                own_mounts()?;
                unmount(c"/proc")
            },
            Some("/proc"),
        ),
    ];
    for (what, way, expected) in cases {
        for method in METHODS {
            for later in [false, true] {
                Child::start(|| {
                    if later {
                        start(method).unwrap();
                    }
                    match way() {
                        Ok(()) => starts(what, method, expected),
                        Err(error) => println!("    {what}: skipped, {error}"),
                    }
                })
                .finish();
            }
        }
    }
}

/// The first process of a PID namespace, whose parent lives outside, with a /proc of its own or that of outside; and the
/// second one.
pub fn containers() {
    for method in METHODS {
        for own_proc in [false, true] {
            Child::start(|| {
                let entered = unshare(libc::CLONE_NEWPID).and_then(|()| own_mounts());
                if let Err(error) = entered {
                    return println!("    skipped: {error}");
                }
                Child::start(|| {
                    assert_eq!(std::process::id(), 1);
                    if own_proc {
                        mount(0, c"proc", c"/proc").unwrap();
                    }
                    starts("the first of a namespace", method, None);
                    Child::start(|| starts("the second", method, None)).finish();
                    let daemon = Process::new(crate::sleeper, ()).method(method).daemon(true);
                    let daemon = daemon.start().unwrap();
                    daemon.kill().unwrap();
                    assert!(daemon.join_timeout(LONG).is_err());
                    let child = Process::new(add, (1, 2)).method(method).start().unwrap();
                    assert_eq!(child.join_timeout(LONG), Ok(3));
                })
                .finish();
            })
            .finish();
        }
    }
}
