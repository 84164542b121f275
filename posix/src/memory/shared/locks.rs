//! The two locks on a segment's file, by which the kernel says who uses it, and who removes it.
//!
//! ```text
//! byte 0   USE      shared by all who have it attached; whole by who sweeps it away
//! byte 1   UNLINK   whole by who takes its name away
//! ```
//!
//! They are locks of the open file (`F_OFD_SETLK`): the kernel lifts them when the last descriptor of that opening is
//! closed, whether by a close, an exec, or a death at whatever instruction. A forked child has the descriptor as well as the
//! memory, and so counts as one who uses it. Nobody ever waits for one, so nobody gets stuck: who does not get it says so.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// A byte of the file that stands for something.
#[derive(Clone, Copy)]
#[repr(i64)]
pub(super) enum Byte {
    Use = 0,
    Unlink = 1,
}

/// Shares the use of it. `false`: somebody is sweeping it away.
pub(super) fn share_use(file: impl AsFd) -> Result<bool, Errno> {
    set(file, Byte::Use, libc::F_RDLCK)
}

/// Takes the byte for itself, in place of a share if it has one. `false`: others have it. The file is open for writing.
pub(super) fn take(file: impl AsFd, byte: Byte) -> Result<bool, Errno> {
    set(file, byte, libc::F_WRLCK)
}

/// Whether anybody has it attached, through another opening than this one.
pub(super) fn is_used(file: impl AsFd) -> Result<bool, Errno> {
    let mut lock = request(Byte::Use, libc::F_WRLCK);
    call(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn set(file: impl AsFd, byte: Byte, kind: libc::c_int) -> Result<bool, Errno> {
    match call(file, libc::F_OFD_SETLK, &mut request(byte, kind)) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn request(byte: Byte, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: 1,
        // The kernel wants it so for locks of open files.
        l_pid: 0,
    }
}

fn call(file: impl AsFd, command: libc::c_int, lock: &mut libc::flock) -> Result<(), Errno> {
    // SAFETY: the command takes a lock, which the kernel reads, and for GETLK overwrites.
    match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, std::ptr::from_mut(lock)) } {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
        _ => Ok(()),
    }
}
