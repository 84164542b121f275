//! Who is alive: the kernel's word on a process, and nothing else.
//!
//! A process is named by its pid and its *birth*: the inode of its pidfd where the kernel has a file system of
//! them (unique until the machine restarts), else its start time in clock ticks with bit 63 set. Both survive
//! SIGSTOP, debuggers and swapping, and change when the pid is given to somebody else.
//!
//! `kill(pid, 0)` would succeed on zombies, `/proc` calls an exited leader with living threads a zombie, and file
//! locks follow descriptors instead of processes: none of them is asked where a pidfd can be had.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::Ioctl;
use rustix::process::{Pid, PidfdFlags};

/// Set in a birth that is a start time instead of an inode.
const START_TIME: u64 = 1 << 63;
/// A birth that says nothing: the pid is believed.
pub const UNKNOWN_BIRTH: u64 = START_TIME;
/// The type of the file system that gives each process an inode of its own.
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// The name of a process that no other process will ever bear on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The process id.
    pub pid: u32,
    /// Inode of the pidfd, or the start time in ticks with bit 63 set.
    pub birth: u64,
    /// Inode of the pid namespace in which `pid` counts; 0 when not known.
    pub namespace: u64,
}

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It runs, or is stopped.
    Alive,
    /// It is gone; whatever it had stored is visible.
    Dead,
    /// It cannot be asked (another pid namespace, no descriptors left, a filter): it counts as living.
    Unknown,
}

/// Who this process is. A few system calls.
#[must_use]
pub fn myself() -> Life {
    let pid = rustix::process::getpid();
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
    let birth = match &pidfd {
        Some(pidfd) if has_inodes(pidfd) => inode(pidfd),
        _ => start_time(pid),
    };
    Life {
        pid: pid.as_raw_nonzero().get() as u32,
        birth: birth.unwrap_or(UNKNOWN_BIRTH),
        // A new process pays for its first look into /proc.
        namespace: pidfd.and_then(|pidfd| namespace_of(&pidfd)).unwrap_or_else(namespace),
    }
}

/// The process id of this process. One system call.
#[must_use]
pub fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32
}

/// Asks the kernel whether the process that bore this name still runs. `namespace` is the asker's own.
/// 4 µs with a pidfd; without, some tens.
#[must_use]
pub fn probe(life: Life, namespace: u64) -> Verdict {
    if life.namespace != namespace {
        // A living process of another namespace looks like a missing one.
        return Verdict::Unknown;
    }
    let Some(pid) = pid_of(life.pid) else { return Verdict::Dead };
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => {
            let same = if life.birth & START_TIME == 0 {
                match inode(&pidfd) {
                    Some(birth) => birth == life.birth,
                    // A filter, or no memory: no verdict.
                    None => return Verdict::Unknown,
                }
            } else {
                // An unknown start time says nothing: believe the pid.
                life.birth == UNKNOWN_BIRTH
                    || start_time(pid).is_none_or(|birth| birth == life.birth)
            };
            if !same || has_ended(&pidfd) { Verdict::Dead } else { Verdict::Alive }
        }
        Err(Errno::SRCH) => Verdict::Dead,
        // No such call, or a filter denies it: the file system of processes is the next best.
        Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => probe_by_proc(pid, life.birth),
        Err(_) => Verdict::Unknown,
    }
}

/// A number from shared memory as a pid; `None` if no process can have it.
fn pid_of(number: u32) -> Option<Pid> {
    // Zero would be nobody, and a negative number a group.
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(&mut asked, Some(&at_once)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn inode(pidfd: &OwnedFd) -> Option<u64> {
    rustix::fs::fstat(pidfd).ok().map(|stat| stat.st_ino & !START_TIME)
}

/// Whether pidfds have inodes of their own on this kernel; asked once.
fn has_inodes(pidfd: &OwnedFd) -> bool {
    /// 0: not asked yet, 1: no, 2: yes.
    static ANSWER: AtomicU32 = AtomicU32::new(0);
    // Relaxed: every thread that asks gets the same answer.
    match ANSWER.load(Ordering::Relaxed) {
        0 => {
            let yes = rustix::fs::fstatfs(pidfd).is_ok_and(|fs| fs.f_type as u64 == PIDFS_MAGIC);
            ANSWER.store(1 + u32::from(yes), Ordering::Relaxed);
            yes
        }
        answer => answer == 2,
    }
}

/// The pid namespace of this process; 0 when not to be learned.
#[must_use]
pub fn namespace() -> u64 {
    match rustix::fs::stat(c"/proc/self/ns/pid") {
        Ok(stat) => stat.st_ino,
        Err(_) => namespace_without_proc().unwrap_or(0),
    }
}

/// The same from a kernel (since 6.11) whose /proc is not mounted here.
fn namespace_without_proc() -> Option<u64> {
    let me = rustix::process::getpid();
    namespace_of(&rustix::process::pidfd_open(me, PidfdFlags::empty()).ok()?)
}

/// The pid namespace of the process behind a pidfd, from a kernel since 6.11.
fn namespace_of(pidfd: &OwnedFd) -> Option<u64> {
    // SAFETY: the request takes no argument; a pidfd answers it with a new descriptor, or refuses.
    let namespace = unsafe { rustix::ioctl::ioctl(pidfd, GetPidNamespace) }.ok()?;
    inode(&namespace)
}

/// PIDFD_GET_PID_NAMESPACE: a descriptor of the namespace that a process counts in.
struct GetPidNamespace;

// SAFETY: the request has no argument, so the kernel reads and writes nothing.
unsafe impl Ioctl for GetPidNamespace {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> rustix::ioctl::Opcode {
        rustix::ioctl::opcode::none(0xFF, 5)
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        answer: rustix::ioctl::IoctlOutput,
        _: *mut core::ffi::c_void,
    ) -> rustix::io::Result<OwnedFd> {
        // SAFETY: the answer is a descriptor that the kernel has just made for the caller.
        Ok(unsafe { OwnedFd::from_raw_fd(answer) })
    }
}

/// Whether `/proc` counts processes as this one does: it may belong to another pid namespace.
fn proc_is_ours() -> bool {
    let mut name = [0u8; 16];
    let me = rustix::process::getpid().as_raw_nonzero().get() as u64;
    rustix::fs::readlinkat_raw(rustix::fs::CWD, c"/proc/self", &mut name[..])
        .is_ok_and(|length| name.get(..length).and_then(number) == Some(me))
}

fn probe_by_proc(pid: Pid, birth: u64) -> Verdict {
    if !proc_is_ours() {
        return Verdict::Unknown;
    }
    let mut buffer = [0; 512];
    match proc_stat(pid, &mut buffer) {
        Ok(stat) => {
            let other = birth & START_TIME != 0
                && birth != UNKNOWN_BIRTH
                && stat.start_time.is_some_and(|ticks| ticks | START_TIME != birth);
            // A leader that has exited shows as a zombie while its sibling threads still run.
            let gone = matches!(stat.state, b'Z' | b'X') && stat.threads <= 1;
            if other || gone { Verdict::Dead } else { Verdict::Alive }
        }
        Err(Errno::NOENT | Errno::SRCH) if proc_is_mounted() => Verdict::Dead,
        Err(_) => Verdict::Unknown,
    }
}

fn proc_is_mounted() -> bool {
    rustix::fs::stat(c"/proc/self/stat").is_ok()
}

fn start_time(pid: Pid) -> Option<u64> {
    if !proc_is_ours() {
        return None;
    }
    let mut buffer = [0; 512];
    proc_stat(pid, &mut buffer).ok()?.start_time.map(|ticks| ticks | START_TIME)
}

struct Stat {
    state: u8,
    threads: u64,
    start_time: Option<u64>,
}

/// Reads the state, the number of threads and the start time from `/proc/PID/stat`.
fn proc_stat(pid: Pid, buffer: &mut [u8; 512]) -> Result<Stat, Errno> {
    let mut path = [0; 32];
    let file = open(proc_path(&mut path, pid, "stat"))?;
    let length = read_fully(&file, buffer)?;
    let text = &buffer[..length];
    // The name stands in parentheses and may hold anything, parentheses included: fields count from the last one.
    let close = text.iter().rposition(|&byte| byte == b')').ok_or(Errno::INVAL)?;
    let mut fields =
        text[close + 1..].split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let state = fields.next().and_then(|field| field.first().copied()).ok_or(Errno::INVAL)?;
    // State is field 3 of the page; threads are field 20, the start time is field 22.
    let threads = fields.nth(16).and_then(number).unwrap_or(1);
    let start_time = fields.nth(1).and_then(number);
    Ok(Stat { state, threads, start_time })
}

/// Whether the process `pid` maps the file with this device and inode. `None`: not to be learned.
///
/// The witness of exec: a process that has called exec keeps its pid, its pidfd and its start time, and has none of
/// its memory. Reads `/proc/PID/maps`: some tens of microseconds.
#[must_use]
pub fn still_maps(pid: u32, device: u64, inode: u64) -> Option<bool> {
    let pid = pid_of(pid).filter(|_| proc_is_ours())?;
    let mut path = [0; 32];
    let file = open(proc_path(&mut path, pid, "maps")).ok()?;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let mut line = [0u8; 128];
    let mut filled = 0;
    let mut skipping = false;
    let mut seen_any = false;
    let mut buffer = [0u8; 4096];
    loop {
        let length = match rustix::io::read(&file, &mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        };
        for &byte in &buffer[..length] {
            if byte == b'\n' {
                if line_maps(&line[..filled], major, minor, inode) {
                    return Some(true);
                }
                seen_any = true;
                filled = 0;
                skipping = false;
            } else if !skipping {
                line[filled] = byte;
                filled += 1;
                // Device and inode stand in the first 80 bytes; the name behind them may be long.
                skipping = filled == line.len();
            }
        }
    }
    // An empty page: a process between two programs, or one that is about to be gone.
    seen_any.then_some(false)
}

/// `7f..-7f.. rw-s 00000000 00:01 1042 /memfd:...`
fn line_maps(line: &[u8], major: u32, minor: u32, inode: u64) -> bool {
    let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let Some(device) = fields.nth(3) else { return false };
    let mut parts = device.split(|&byte| byte == b':');
    parts.next().and_then(hex) == Some(u64::from(major))
        && parts.next().and_then(hex) == Some(u64::from(minor))
        && fields.next().and_then(number) == Some(inode)
}

fn open(path: &CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn read_fully(file: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut length = 0;
    while length < buffer.len() {
        match rustix::io::read(&file, &mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// `/proc/PID/LEAF` without an allocation.
fn proc_path<'b>(buffer: &'b mut [u8; 32], pid: Pid, leaf: &str) -> &'b CStr {
    let mut digits = [0; 10];
    let mut first = digits.len();
    let mut rest = pid.as_raw_nonzero().get().unsigned_abs();
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut length = 0;
    for part in [b"/proc/", &digits[first..], b"/", leaf.as_bytes()] {
        buffer[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    // At most 6 + 10 + 1 + 4 bytes are written; the rest is zero.
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"")
}

fn number(digits: &[u8]) -> Option<u64> {
    in_base(digits, 10)
}

fn hex(digits: &[u8]) -> Option<u64> {
    in_base(digits, 16)
}

fn in_base(digits: &[u8], base: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &byte| {
        let digit = char::from(byte).to_digit(base)?;
        sum.checked_mul(u64::from(base))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives() {
        let me = myself();
        assert_eq!(probe(me, me.namespace), Verdict::Alive);
        assert_eq!(probe(Life { birth: me.birth ^ 1, ..me }, me.namespace), Verdict::Dead);
        assert_eq!(probe(me, me.namespace + 1), Verdict::Unknown);
    }

    #[test]
    fn a_number_that_no_process_can_have_is_nobody() {
        let me = myself();
        for pid in [0, 1 << 31, u32::MAX] {
            assert_eq!(probe(Life { pid, ..me }, me.namespace), Verdict::Dead, "{pid}");
            assert_eq!(still_maps(pid, 1, 1), None);
        }
    }

    #[test]
    fn the_namespace_is_the_same_by_both_ways() {
        // An older kernel does not tell.
        let other = namespace_without_proc().unwrap_or(namespace());
        assert_eq!(other, namespace());
    }

    #[test]
    fn the_start_time_is_as_good() {
        let me = myself();
        let pid = rustix::process::getpid();
        let birth = start_time(pid).unwrap();
        assert_eq!(probe(Life { birth, ..me }, me.namespace), Verdict::Alive);
        assert_eq!(probe(Life { birth: birth + 1, ..me }, me.namespace), Verdict::Dead);
        assert_eq!(probe_by_proc(pid, birth), Verdict::Alive);
        assert_eq!(probe_by_proc(pid, birth + 1), Verdict::Dead);
    }

    #[test]
    fn a_line_of_the_memory_map_is_read_right() {
        let line = b"7f0e4c000000-7f0e4c021000 rw-s 00000000 00:01 1042                       /memfd:x (deleted)";
        assert!(line_maps(line, 0, 1, 1042));
        assert!(!line_maps(line, 0, 1, 104));
        assert!(!line_maps(line, 0, 2, 1042));
        assert!(!line_maps(b"", 0, 1, 1042));
    }

    #[test]
    fn the_map_of_this_process_shows_its_own_binary() {
        let binary = rustix::fs::stat(c"/proc/self/exe").unwrap();
        assert_eq!(still_maps(myself().pid, binary.st_dev, binary.st_ino), Some(true));
        assert_eq!(still_maps(myself().pid, binary.st_dev, 1), Some(false));
    }
}
