//! The state of a process that its children inherit, as far as the kernel lets one send it.
//!
//! A zygote is a picture of the process at the moment it was started. A start compares the present
//! state with that picture and sends what differs: environment, umask, ignored signals, limits,
//! affinity, niceness, process group; the signal mask always. What cannot be sent is `Confinement`:
//! credentials, capabilities, no_new_privs, seccomp, session, root directory, cgroup, namespaces, and what prctl sets.
//! Where that differs, a new zygote has to be executed: a child of the old one would have rights
//! that its parent gave up.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Mutex, PoisonError, TryLockError};

const LIMITS: usize = 16;
const NAMESPACES: [&str; 8] =
    ["mnt", "net", "uts", "ipc", "user", "cgroup", "time_for_children", "pid_for_children"];
const CAP_SYS_CHROOT: u64 = 1 << 18;
const CAP_SYS_ADMIN: u64 = 1 << 21;
/// The lines of /proc/thread-self/status that tell what cannot be sent.
const CONFINED: [&[u8]; 14] = [
    b"Uid",
    b"Gid",
    b"Groups",
    b"NSsid",
    b"CapInh",
    b"CapPrm",
    b"CapEff",
    b"CapBnd",
    b"CapAmb",
    b"NoNewPrivs",
    b"Seccomp",
    b"Seccomp_filters",
    b"Speculation_Store_Bypass",
    b"SpeculationIndirectBranch",
];

/// The present state of the calling thread and its process.
pub(super) struct State {
    pub(super) confinement: Confinement,
    environment: Vec<u8>,
    umask: u32,
    ignored: u64,
    blocked: u64,
    affinity: Vec<u8>,
    limits: [(u64, u64); LIMITS],
    niceness: i32,
    group: i32,
    pub(super) capabilities: Capabilities,
}

thread_local! {
    /// What was seen last of this thread, while it starts several processes [`Together`].
    static SEEN: RefCell<Option<Option<Box<State>>>> = const { RefCell::new(None) };
}

/// While it lives, what the calling thread starts takes over one state: the first of these starts looks at it, which takes some
/// 35 µs, and the others go by that.
pub(crate) struct Together {
    /// It is the thread's own.
    _stays: PhantomData<*const ()>,
}

impl Together {
    pub(crate) fn begin() -> Together {
        with_seen(|seen| *seen = Some(None));
        Together { _stays: PhantomData }
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        with_seen(|seen| *seen = None);
    }
}

/// What an earlier start of those that this thread makes [`Together`] has seen.
pub(super) fn take_seen() -> Option<Box<State>> {
    with_seen(|seen| seen.as_mut().and_then(Option::take)).flatten()
}

/// For the next start of those that this thread makes [`Together`].
pub(super) fn keep_seen(now: Box<State>) {
    with_seen(|seen| {
        if let Some(seen) = seen {
            *seen = Some(now);
        }
    });
}

/// `None` in a thread that is about to be gone: each start looks for itself there.
fn with_seen<R>(change: impl FnOnce(&mut Option<Option<Box<State>>>) -> R) -> Option<R> {
    SEEN.try_with(|seen| change(&mut seen.borrow_mut())).ok()
}

/// What a child has, whether we like it or not, from the process that forks it.
#[derive(PartialEq, Eq)]
pub(super) struct Confinement {
    lines: Vec<u8>,
    namespaces: Vec<u8>,
    /// Device, inode, mount.
    root: (u64, u64, u64),
    cgroup: Vec<u8>,
    /// The secure bits, and whether memory must not be written and executed.
    controls: [i32; 2],
}

/// What a child has to change in itself to be as its parent is now. By default nothing.
#[derive(serde::Serialize, serde::Deserialize, Default, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    environment: Option<Vec<u8>>,
    umask: Option<u32>,
    ignored: Option<u64>,
    blocked: Option<u64>,
    limits: Vec<(u32, u64, u64)>,
    affinity: Option<Vec<u64>>,
    niceness: Option<i32>,
    group: Option<i32>,
    /// To be had at most.
    capabilities: Option<Capabilities>,
}

impl State {
    /// Looks at the calling thread. About 35 µs for root, half of that for others.
    pub(super) fn capture() -> io::Result<State> {
        let me = (rustix::process::getpid(), rustix::thread::gettid());
        let mut eyes = match EYES.try_lock() {
            Ok(eyes) => eyes,
            Err(TryLockError::Poisoned(eyes)) => eyes.into_inner(),
            // Another thread looks, or looked when this process was forked.
            Err(TryLockError::WouldBlock) => return State::look(&mut Eyes::open(me)?),
        };
        let eyes = match &mut *eyes {
            Some(eyes) if eyes.of == me => eyes,
            other => other.insert(Eyes::open(me)?),
        };
        State::look(eyes).or_else(|_| {
            // The number of a thread that has ended was given to this one.
            *eyes = Eyes::open(me)?;
            State::look(eyes)
        })
    }

    fn look(eyes: &mut Eyes) -> io::Result<State> {
        let mut state = State {
            confinement: Confinement {
                lines: Vec::with_capacity(512),
                namespaces: Vec::new(),
                root: (0, 0, 0),
                cgroup: Vec::new(),
                controls: [control(libc::PR_GET_SECUREBITS), control(PR_GET_MDWE)],
            },
            environment: environment(),
            umask: 0,
            ignored: 0,
            blocked: 0,
            affinity: Vec::new(),
            limits: [(0, 0); LIMITS],
            niceness: rustix::process::getpriority_process(None).unwrap_or(0),
            // 0 where it lives outside of this PID namespace, which rustix does not expect.
            // SAFETY: only returns a number.
            group: unsafe { libc::getpgrp() },
            capabilities: Capabilities::default(),
        };
        if let Some(cgroup) = &eyes.cgroup {
            state.confinement.cgroup.extend_from_slice(read(cgroup, &mut eyes.buffer)?);
        }
        let status = read(&eyes.status, &mut eyes.buffer)?;
        for line in status.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (key, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            match key {
                b"Umask" => state.umask = number(value, 8) as u32,
                b"SigIgn" => state.ignored = number(value, 16),
                b"SigBlk" => state.blocked = number(value, 16),
                b"Cpus_allowed" => state.affinity = value.to_vec(),
                b"CapInh" => state.capabilities.inheritable = number(value, 16),
                b"CapPrm" => state.capabilities.permitted = number(value, 16),
                b"CapEff" => state.capabilities.effective = number(value, 16),
                _ => {}
            }
            if CONFINED.contains(&key) {
                state.confinement.lines.extend_from_slice(line);
                state.confinement.lines.push(b'\n');
            }
        }
        let permitted = state.capabilities.permitted;
        // Only these two capabilities let a process change the rest, and whoever gained them for a while has a
        // new user namespace. Asking for all costs 20 µs, so ask only then.
        let names = if permitted & CAP_SYS_ADMIN != 0 { &NAMESPACES[..] } else { &["user"] };
        state.confinement.namespaces = namespaces(&eyes.namespaces, names);
        if permitted & CAP_SYS_CHROOT != 0 {
            state.confinement.root = root()?;
        }
        for (resource, limit) in state.limits.iter_mut().enumerate() {
            *limit = get_limit(resource as u32)?;
        }
        Ok(state)
    }

    /// What a process with this state has to change to have the state `now`.
    pub(super) fn changes_to(&self, now: &State) -> Changes {
        fn differs<T: PartialEq + Clone>(old: &T, new: &T) -> Option<T> {
            (old != new).then(|| new.clone())
        }
        Changes {
            environment: differs(&self.environment, &now.environment),
            umask: differs(&self.umask, &now.umask),
            ignored: differs(&self.ignored, &now.ignored),
            blocked: Some(now.blocked),
            limits: (0..LIMITS)
                .filter(|resource| self.limits[*resource] != now.limits[*resource])
                .map(|resource| {
                    let (soft, hard) = now.limits[resource];
                    (resource as u32, soft, hard)
                })
                .collect(),
            affinity: differs(&self.affinity, &now.affinity).map(|mask| cpu_words(&mask)),
            niceness: differs(&self.niceness, &now.niceness),
            group: differs(&self.group, &now.group),
            // Whoever executes a program as root gets back what it had dropped.
            capabilities: Some(now.capabilities),
        }
    }

    /// The environment, in the form that exec takes.
    pub(super) fn environment(&self) -> &[u8] {
        &self.environment
    }

    /// What a zygote makes of this state by [`become_a_servant`].
    pub(super) fn into_a_zygotes(mut self) -> State {
        self.ignored &= !bit(libc::SIGCHLD);
        let (soft, hard) = &mut self.limits[libc::RLIMIT_NOFILE as usize];
        *soft = *hard;
        self
    }
}

/// What was chosen for a process, other than its starter has it.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    pub(super) environment: Option<Environment>,
    /// The CPUs, as words of a mask.
    pub(super) affinity: Option<Vec<u64>>,
    /// Resource, soft limit, hard limit.
    pub(super) limits: Vec<(u32, u64, u64)>,
}

/// Changes of an environment.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    /// Nothing of the starter's stays.
    pub(super) clear: bool,
    /// Names with their new value, or none to remove them. The last of a name counts.
    pub(super) edits: Vec<(OsString, Option<OsString>)>,
}

impl Environment {
    /// The block that becomes of `block`.
    fn apply(&self, block: &[u8]) -> Vec<u8> {
        let mut new = Vec::with_capacity(block.len() + 64);
        let mut push = |name: &[u8], value: &[u8]| {
            new.extend_from_slice(name);
            new.push(b'=');
            new.extend_from_slice(value);
            new.push(0);
        };
        let is_edited = |name: &[u8]| self.edits.iter().any(|(known, _)| known.as_bytes() == name);
        let old = if self.clear { &[] } else { block };
        for (name, value) in variables(old).filter(|(name, _)| !is_edited(name)) {
            push(name, value);
        }
        for (at, (name, value)) in self.edits.iter().enumerate() {
            let is_last = self.edits[at + 1..].iter().all(|(later, _)| later != name);
            if let (true, Some(value)) = (is_last, value) {
                push(name.as_bytes(), value.as_bytes());
            }
        }
        new
    }
}

impl Changes {
    /// Puts what was chosen above what the starter has. `inherited` is the environment without a change.
    pub(super) fn override_by<'a>(
        &mut self,
        overrides: &Overrides,
        inherited: impl FnOnce() -> &'a [u8],
    ) {
        if let Some(environment) = &overrides.environment {
            self.environment = Some(match &self.environment {
                Some(changed) => environment.apply(changed),
                None => environment.apply(inherited()),
            });
        }
        if let Some(words) = &overrides.affinity {
            self.affinity = Some(words.clone());
        }
        for limit in &overrides.limits {
            self.limits.retain(|(resource, ..)| *resource != limit.0);
            self.limits.push(*limit);
        }
    }

    /// The changed environment, in the form that exec takes: `NAME=value` with a zero byte.
    pub(super) fn environment(&self) -> Option<&[u8]> {
        self.environment.as_deref()
    }

    /// The environment was given by exec: nothing is left to change there.
    pub(super) fn environment_is_set(&mut self) {
        self.environment = None;
    }

    /// Changes the calling process, which must have one thread only. The signal mask comes last:
    /// what was sent to this process until now is delivered then.
    pub(super) fn apply(&self) -> Result<(), String> {
        fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> String {
            move |error| format!("its {what} cannot be set: {error}")
        }
        if let Some(block) = &self.environment {
            set_environment(block);
        }
        if let Some(mask) = self.umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        }
        if let Some(ignored) = self.ignored {
            for signal in 1..=64 {
                set_ignored(signal, ignored & bit(signal) != 0);
            }
        }
        if let Some(words) = &self.affinity {
            let size = size_of_val(words.as_slice());
            // SAFETY: `words` holds `size` bytes, and the kernel only reads them.
            let result = unsafe { libc::sched_setaffinity(0, size, words.as_ptr().cast()) };
            last_error(result).map_err(failed("CPU affinity"))?;
        }
        if let Some(niceness) = self.niceness {
            rustix::process::setpriority_process(None, niceness).map_err(failed("niceness"))?;
        }
        if let Some(group) = self.group {
            let group = rustix::process::Pid::from_raw(group);
            rustix::process::setpgid(None, group).map_err(failed("process group"))?;
        }
        for (resource, soft, hard) in &self.limits {
            let limit = libc::rlimit { rlim_cur: *soft, rlim_max: *hard };
            // SAFETY: the limit is read from a valid structure.
            let result = unsafe { libc::setrlimit(*resource as _, &limit) };
            last_error(result).map_err(failed("resource limits"))?;
        }
        if let Some(most) = &self.capabilities {
            most.hold().map_err(failed("capabilities"))?;
        }
        if let Some(blocked) = self.blocked {
            set_blocked(blocked);
        }
        Ok(())
    }
}

/// The capabilities of a thread, a bit for each.
#[derive(serde::Serialize, serde::Deserialize, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

impl Capabilities {
    /// Those of the calling thread.
    fn own() -> io::Result<Capabilities> {
        let mut halves = [0; 6];
        capabilities(libc::SYS_capget, &mut halves)?;
        let set = |at: usize| u64::from(halves[at]) | u64::from(halves[at + 3]) << 32;
        Ok(Capabilities { effective: set(0), permitted: set(1), inheritable: set(2) })
    }

    /// Gives up what the calling thread has beyond these.
    pub(super) fn hold(self) -> io::Result<()> {
        let own = match Capabilities::own() {
            // A filter forbids the question; then the kernel has given nothing back at an execution.
            Err(_) if rustix::thread::no_new_privs().unwrap_or(false) => return Ok(()),
            own => own?,
        };
        let sets = [
            own.effective & self.effective,
            own.permitted & self.permitted,
            own.inheritable & self.inheritable,
        ];
        if sets == [own.effective, own.permitted, own.inheritable] {
            return Ok(());
        }
        let half = |at: usize| (sets[at % 3] >> (at / 3 * 32)) as u32;
        capabilities(libc::SYS_capset, &mut std::array::from_fn(half))
    }
}

/// capget or capset of the calling thread: effective, permitted, inheritable, the lower halves first.
fn capabilities(call: libc::c_long, halves: &mut [u32; 6]) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = [VERSION_3, 0];
    // SAFETY: the kernel reads the header, and reads or writes six words, as this version says.
    let result = unsafe { libc::syscall(call, header.as_mut_ptr(), halves.as_mut_ptr()) };
    last_error(result as libc::c_int)
}

/// The bit of a signal in the masks of /proc.
fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn last_error(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets a signal to be ignored or back to its default; those that cannot be changed stay.
pub(super) fn set_ignored(signal: i32, ignored: bool) {
    let action = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither action is a function of ours, so nothing runs in a handler.
    unsafe { libc::signal(signal, action) };
}

/// Sets the calling thread's signal mask to exactly `blocked`.
fn set_blocked(blocked: u64) {
    // SAFETY: the set is initialised by sigemptyset before use; sigaddset only changes the set.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        for signal in 1..=64 {
            if blocked & bit(signal) != 0 {
                libc::sigaddset(&mut set, signal);
            }
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

impl Confinement {
    /// Whether this process has asked for a new PID namespace, in which nothing lives yet: it shows only then.
    pub(super) fn is_childless(&self) -> bool {
        self.namespaces.ends_with(CHILDLESS)
    }
}

/// Stands for a namespace that cannot be seen before the first process lives in it.
const CHILDLESS: &[u8] = b"pid:[none]";

/// Blocks all signals, hears of the end of children, and takes all descriptors that it may have.
pub(crate) fn become_a_servant() {
    // A forked zygote has closed what its starter had open.
    std::mem::forget(EYES.lock().unwrap_or_else(PoisonError::into_inner).take());
    set_blocked(!0);
    set_ignored(libc::SIGCHLD, false);
    if let Ok((_, hard)) = get_limit(libc::RLIMIT_NOFILE) {
        let limit = libc::rlimit { rlim_cur: hard, rlim_max: hard };
        // SAFETY: the limit is read from a valid structure. Raising to the hard limit is allowed.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

fn get_limit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit into `limit`.
    last_error(unsafe { libc::getrlimit(resource as _, &mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// The soft limit of a file's size.
pub(super) fn file_size_limit() -> u64 {
    get_limit(libc::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft)
}

/// The environment as one block of `NAME=value` strings, each with a zero byte.
pub(crate) fn environment() -> Vec<u8> {
    let mut block = Vec::with_capacity(4096);
    for (name, value) in std::env::vars_os() {
        block.extend_from_slice(name.as_bytes());
        block.push(b'=');
        block.extend_from_slice(value.as_bytes());
        block.push(0);
    }
    block
}

/// The names and values of a block.
fn variables(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    block.split(|byte| *byte == 0).filter_map(|entry| {
        // A name may begin with `=`, as std has it too.
        let at = 1 + entry.iter().skip(1).position(|byte| *byte == b'=')?;
        Some((&entry[..at], &entry[at + 1..]))
    })
}

fn set_environment(block: &[u8]) {
    let old: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in old {
        // SAFETY: the caller has one thread only.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in variables(block) {
        // SAFETY: the caller has one thread only.
        unsafe { std::env::set_var(OsStr::from_bytes(name), OsString::from_vec(value.to_vec())) };
    }
}

/// Open files of /proc that tell about one thread. The thread that starts processes is mostly the same.
struct Eyes {
    of: (rustix::process::Pid, rustix::process::Pid),
    status: OwnedFd,
    namespaces: Option<OwnedFd>,
    /// None: this kernel has no control groups.
    cgroup: Option<OwnedFd>,
    buffer: Vec<u8>,
}

static EYES: Mutex<Option<Eyes>> = Mutex::new(None);

impl Eyes {
    fn open(of: (rustix::process::Pid, rustix::process::Pid)) -> io::Result<Eyes> {
        use rustix::fs::{Mode, OFlags};
        let open = |path: &str, flags| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | flags;
            rustix::fs::open(path, flags, Mode::empty()).map(super::wire::above_standard)
        };
        Ok(Eyes {
            of,
            status: open("/proc/thread-self/status", OFlags::empty())?,
            namespaces: open("/proc/thread-self/ns", OFlags::PATH | OFlags::DIRECTORY).ok(),
            cgroup: open("/proc/thread-self/cgroup", OFlags::empty()).ok(),
            buffer: vec![0; 4096],
        })
    }
}

/// The root directory of this process, as far as one can be told from another.
fn root() -> io::Result<(u64, u64, u64)> {
    use rustix::fs::{AtFlags, CWD, StatxFlags};
    let root = rustix::fs::stat("/")?;
    // The same directory may be mounted at several places, with different ones below it.
    let mount = rustix::fs::statx(CWD, "/", AtFlags::empty(), StatxFlags::MNT_ID);
    Ok((root.st_dev, root.st_ino, mount.map_or(0, |mount| mount.stx_mnt_id)))
}

const PR_GET_MDWE: i32 = 66;

/// What prctl says; -1 where this kernel does not know it.
fn control(question: i32) -> i32 {
    // SAFETY: these questions only return a number.
    unsafe { libc::prctl(question, 0, 0, 0, 0) }
}

fn namespaces(dir: &Option<OwnedFd>, names: &[&str]) -> Vec<u8> {
    let mut all = Vec::with_capacity(256);
    let Some(dir) = dir else { return all };
    let mut buffer = [MaybeUninit::uninit(); 64];
    for name in names {
        match rustix::fs::readlinkat_raw(dir, *name, &mut buffer) {
            Ok((link, _)) => all.extend_from_slice(link),
            Err(_) if *name == "pid_for_children" => all.extend_from_slice(CHILDLESS),
            // A namespace that this kernel does not have cannot change.
            Err(_) => {}
        }
    }
    all
}

/// Reads a file of /proc from its beginning; it is made anew each time.
fn read<'a>(fd: &OwnedFd, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    let mut len = 0;
    loop {
        let read =
            rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut buffer[len..], len as u64))?;
        len += read;
        // A short read is the end: these files are produced in one go.
        if len < buffer.len() {
            return Ok(&buffer[..len]);
        }
        buffer.resize(2 * len, 0);
    }
}

fn number(digits: &[u8], radix: u32) -> u64 {
    std::str::from_utf8(digits).ok().and_then(|s| u64::from_str_radix(s, radix).ok()).unwrap_or(0)
}

/// `00000000,00000003`, most significant word first, as words for sched_setaffinity.
fn cpu_words(mask: &[u8]) -> Vec<u64> {
    let halves: Vec<u64> = mask.rsplit(|b| *b == b',').map(|half| number(half, 16)).collect();
    halves.chunks(2).map(|pair| pair[0] | pair.get(1).unwrap_or(&0) << 32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_edited_name_by_name() {
        let block = b"A=1\0B=2\0=C=3\0nonsense\0";
        let set = |name: &str, value: &str| (name.into(), Some(value.into()));
        let edits = vec![set("B", "4"), set("D", "5"), ("A".into(), None), set("D", "6=7")];
        let mut environment = Environment { clear: false, edits };
        assert_eq!(environment.apply(block), b"=C=3\0B=4\0D=6=7\0");
        environment.clear = true;
        assert_eq!(environment.apply(block), b"B=4\0D=6=7\0");
        assert_eq!(Environment::default().apply(b""), b"");
    }

    #[test]
    fn nothing_changed_is_nothing_to_send() {
        let (a, b) = (State::capture().unwrap(), State::capture().unwrap());
        assert!(a.confinement == b.confinement);
        let changes = a.changes_to(&b);
        assert!(changes.environment.is_none() && changes.limits.is_empty());
        assert!(changes.umask.is_none() && changes.ignored.is_none());
        assert!(changes.affinity.is_none() && changes.niceness.is_none());
        assert!(a.umask <= 0o777 && !a.affinity.is_empty());
    }

    #[test]
    fn cpu_masks_are_read_from_the_end() {
        assert_eq!(cpu_words(b"3"), [3]);
        assert_eq!(cpu_words(b"00000001,00000002,00000003"), [0x2_0000_0003, 1]);
    }
}
