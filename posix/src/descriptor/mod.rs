//! [`Descriptor`]: open files on their way from one process to another.
//!
//! ```text
//! sender    deposit: hands a copy to its keeper, and gets a voucher: (the keeper's address, a number)
//! receiver  collect: shows the number to the keeper, gets the descriptor; the keeper forgets it
//! ```
//!
//! Memory cannot hold a descriptor, and a socket between each two processes would be many. So the voucher travels as data,
//! and the descriptor waits with a *keeper*: a small process of its own, executed from the same file at a process's
//! first deposit. What was deposited is therefore there when its sender ends, or is killed.
//!
//! - The address is a name of 128 random bits that is no file; the number is 64 random bits. The keeper asks the kernel
//!   who has connected, and serves its own user only.
//! - What nobody collects is kept until the last process of the tree is gone.
//! - A keeper that is killed takes what it has along: collecting then is an error. The next deposit gets a new one.

pub(crate) mod keeper;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use procession_core::sys::Deadline;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::memory::{HandleError, refuse};
use crate::process::wire;

/// An open file, socket, pipe, or whatever else has a descriptor, as an object that travels: an argument of a process, an
/// object in a queue or a pipe, or a part of one.
///
/// The receiver gets a descriptor of its own for the same open file, as with `SCM_RIGHTS`, which is how it is done. The
/// sender keeps its own. What was put is there for its receiver when the sender ends, and when it is killed. Each
/// receiver of an object takes the descriptor with it: an object that is decoded twice (a look at the head of a queue
/// counts) has it the first time only.
///
/// Encoding one costs some milliseconds the first time in a process, since a small process that keeps what is on its
/// way is started then; later some tens of microseconds, as decoding does. Both fail with the system's reason if there is no
/// descriptor to be had, and in another network namespace than the sender's.
///
/// ```
/// use procession_posix::Descriptor;
/// use procession_posix::channel::Queue;
/// use std::fs::File;
/// use std::io::{Read, Write, pipe};
///
/// let (mut reader, writer) = pipe()?;
/// let queue = Queue::bounded(1)?;
/// queue.put(&Descriptor::from(writer))?;
///
/// let mut file = File::from(queue.get()?.into_fd()); // in any process
/// file.write_all(b"hello")?;
/// drop(file);
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Descriptor(OwnedFd);

impl Descriptor {
    /// The descriptor itself.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl<T: Into<OwnedFd>> From<T> for Descriptor {
    fn from(file: T) -> Self {
        Self(file.into())
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for Descriptor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let voucher = deposit(self.as_fd()).map_err(S::Error::custom)?;
        crate::channel::luggage::list_voucher(voucher);
        voucher.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let voucher = Voucher::deserialize(deserializer)?;
        let collected = collect(&voucher, Deadline::after(PATIENCE));
        collected.map(Self).map_err(|error| {
            refuse(HandleError::Content(format!("its descriptor cannot be had: {error}")))
        })
    }
}

/// With which a deposited descriptor is collected, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Voucher {
    keeper: [u8; 16],
    number: u64,
}

/// How long a keeper is waited for. Nobody else makes it wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// The keeper of this process.
struct Keeper {
    /// Whose: a forked child gets one of its own.
    pid: u32,
    name: [u8; 16],
    socket: OwnedFd,
}

/// Hands a copy of `descriptor` to the keeper. With the first of a process some milliseconds, to start the keeper; some
/// ten microseconds later.
///
/// # Errors
/// The system's; `QuotaExceeded` if the keeper can have no more descriptors.
pub(crate) fn deposit(descriptor: BorrowedFd<'_>) -> io::Result<Voucher> {
    static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);
    // Whoever panicked here left either a keeper or none.
    let mut place = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    let pid = std::process::id();
    let mut number = [0; 8];
    random(&mut number)?;
    // Once more with a new one, if the old was killed.
    for attempt in 0.. {
        if place.as_ref().is_none_or(|keeper| keeper.pid != pid) {
            *place = Some(keeper::start()?);
        }
        let Some(keeper) = place.as_ref() else { break };
        match keeper.deposit(number, descriptor) {
            Ok(()) => {
                return Ok(Voucher { keeper: keeper.name, number: u64::from_ne_bytes(number) });
            }
            Err(Errno::PIPE | Errno::CONNRESET) if attempt == 0 => *place = None,
            Err(error) => {
                // It has not answered in time: what it says later must not be taken for the answer to the next.
                if error == Errno::AGAIN {
                    *place = None;
                }
                return Err(error.into());
            }
        }
    }
    Err(io::ErrorKind::NotConnected.into())
}

impl Keeper {
    fn deposit(&self, number: [u8; 8], descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
        wire::send(&self.socket, &[IoSlice::new(&number)], &[descriptor])?;
        self.receipt()
    }

    /// What it says: 0, or the number of an error.
    fn receipt(&self) -> Result<(), Errno> {
        let mut answer = [0; 4];
        let record = wire::receive(&self.socket, &mut answer, RecvFlags::empty())?;
        match (record.len, i32::from_ne_bytes(answer)) {
            (4, 0) => Ok(()),
            (4, error) => Err(Errno::from_raw_os_error(error)),
            _ => Err(Errno::CONNRESET),
        }
    }
}

/// Gets what was deposited. Some ten microseconds.
///
/// # Errors
/// `NotFound` if the voucher was used before; `ConnectionRefused` if the keeper is gone; `TimedOut`; the system's.
pub(crate) fn collect(voucher: &Voucher, deadline: Deadline) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Zero would mean for ever; a deadline that is past still leaves the keeper time for one answer.
    let patience = deadline.left().unwrap_or(PATIENCE).clamp(Duration::from_millis(100), PATIENCE);
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    rustix::net::connect(&socket, &address(&voucher.keeper)?)?;
    // Nobody else gets the number, and nothing foreign is taken for the descriptor.
    if socket_peercred(&socket)?.uid != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    wire::send(&socket, &[IoSlice::new(&voucher.number.to_ne_bytes())], &[])?;
    if !is_readable(socket.as_fd(), patience)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut answer = [0; 4];
    let record = wire::receive(&socket, &mut answer, RecvFlags::empty())?;
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the descriptor was collected before");
    match (record.len, record.fds.into_iter().next()) {
        (4, Some(descriptor)) => Ok(descriptor),
        // It was there, and this process could not take it.
        (4, None) if record.cut => Err(Errno::MFILE.into()),
        (4, None) => Err(gone()),
        _ => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

fn is_readable(socket: BorrowedFd<'_>, within: Duration) -> io::Result<bool> {
    let deadline = Deadline::after(within);
    loop {
        let mut asked = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        let left = deadline.left().and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut asked, left.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    // So few bytes come whole.
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(())
}

/// A name in the kernel's list of sockets, not in any directory.
fn address(keeper: &[u8; 16]) -> io::Result<SocketAddrUnix> {
    let mut name = *b"procession-................................";
    for (digits, byte) in name[11..].chunks_exact_mut(2).zip(keeper) {
        for (digit, value) in digits.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = b"0123456789abcdef"[usize::from(value)];
        }
    }
    Ok(SocketAddrUnix::new_abstract_name(&name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(to: &OwnedFd, text: &[u8]) {
        assert_eq!(rustix::io::write(to, text).unwrap(), text.len());
    }

    #[test]
    fn what_was_deposited_is_collected_once() {
        let (read, sent) = rustix::pipe::pipe().unwrap();
        let voucher = deposit(sent.as_fd()).unwrap();
        drop(sent);
        let soon = Deadline::after(Duration::from_secs(9));
        let got = collect(&voucher, soon).unwrap();
        write(&got, b"hello");
        drop(got);
        let mut text = [0; 8];
        assert_eq!(rustix::io::read(&read, &mut text).unwrap(), 5);
        // Nobody else has kept a copy: the pipe ends.
        assert_eq!(rustix::io::read(&read, &mut text).unwrap(), 0);
        let again = collect(&voucher, soon).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::NotFound);
        let wrong = collect(&Voucher { number: voucher.number ^ 1, ..voucher }, soon).unwrap_err();
        assert_eq!(wrong.kind(), io::ErrorKind::NotFound);
        let nobody = collect(&Voucher { keeper: [7; 16], number: 0 }, soon).unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::ConnectionRefused);
    }
}
