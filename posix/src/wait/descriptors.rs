//! Descriptors among the things that are waited for.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Stdin};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use procession_core::sys::Deadline;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::sealed::{Awaited, Place};

/// A descriptor that is ready when it can be written. (By itself it is when it can be read.)
///
/// ```
/// use procession_posix::wait::{Writable, wait};
/// use std::os::unix::net::UnixStream;
///
/// let (near, _far) = UnixStream::pair()?;
/// assert_eq!(wait(&[&near, &Writable(&near)]), [1]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Writable<D>(pub D);

impl<D: AsFd> Awaited for Writable<D> {
    fn place(&self) -> Place<'_> {
        Place::Descriptor(self.0.as_fd(), PollFlags::OUT)
    }
}

/// Each of these types is ready when it can be read, or else written.
macro_rules! descriptors {
    ($flags:ident: $($type:ty),*) => {
        $(impl Awaited for $type {
            fn place(&self) -> Place<'_> {
                Place::Descriptor(self.as_fd(), PollFlags::$flags)
            }
        })*
    };
}
descriptors!(IN: OwnedFd, BorrowedFd<'_>, File, Stdin, PipeReader, ChildStdout, ChildStderr);
descriptors!(IN: TcpStream, TcpListener, UdpSocket, UnixStream, UnixListener, UnixDatagram);
descriptors!(IN: crate::ready::Readiness, crate::descriptor::Descriptor, crate::signal::Signals);
descriptors!(OUT: PipeWriter, ChildStdin);

impl<R> Awaited for crate::process::Child<R> {
    fn place(&self) -> Place<'_> {
        Place::Descriptor(self.sentinel(), PollFlags::IN)
    }
}

/// Where the kernel polls less at a time: look again after this.
const PIECE_SLICE: Duration = Duration::from_millis(1);

/// Polls until one of them is ready, or `deadline` has passed; each says by itself whether it is. A deadline that is past looks once.
pub(super) fn poll_until(polls: &mut [PollFd<'_>], deadline: Deadline) {
    loop {
        let left = deadline.left().and_then(|left| Timespec::try_from(left).ok());
        match poll(polls, left.as_ref()) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return,
            // More, with those that are there twice, than the process may have open; or the kernel has no memory for so many.
            Err(_) => {
                if poll_singly(polls) {
                    return;
                }
                if !deadline.is_past() {
                    std::thread::sleep(
                        deadline.left().map_or(PIECE_SLICE, |left| left.min(PIECE_SLICE)),
                    );
                }
            }
        }
        if deadline.is_past() {
            return;
        }
    }
}

/// Looks at each by itself; whether any is ready.
#[cold]
fn poll_singly(polls: &mut [PollFd<'_>]) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut any = false;
    for one in polls {
        one.clear_revents();
        any |= poll(std::slice::from_mut(one), Some(&at_once)).is_ok_and(|ready| ready != 0);
    }
    any
}
