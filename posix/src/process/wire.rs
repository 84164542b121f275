//! Messages with descriptors over a socket of records (SOCK_SEQPACKET).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// No message carries more descriptors than this.
pub(super) const MAX_FDS: usize = 8;

/// Sends one record. A peer that is gone is an error, never a signal.
pub(crate) fn send(socket: impl AsFd, parts: &[IoSlice], fds: &[BorrowedFd]) -> Result<(), Errno> {
    send_with(socket, parts, fds, SendFlags::empty())
}

/// Sends one record if there is room for it now; else it is `EAGAIN`.
pub(super) fn try_send(
    socket: impl AsFd,
    parts: &[IoSlice],
    fds: &[BorrowedFd],
) -> Result<(), Errno> {
    send_with(socket, parts, fds, SendFlags::DONTWAIT)
}

fn send_with(
    socket: impl AsFd,
    parts: &[IoSlice],
    fds: &[BorrowedFd],
    flags: SendFlags,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    loop {
        match rustix::net::sendmsg(&socket, parts, &mut control, flags | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
    }
}

/// Moves a descriptor away from 0, 1 and 2, which it gets where a standard stream is closed: it would
/// be taken for the stream.
pub(crate) fn above_standard(fd: OwnedFd) -> OwnedFd {
    if fd.as_raw_fd() > 2 {
        return fd;
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, 3).unwrap_or(fd)
}

/// One record that arrived.
pub(crate) struct Record {
    /// Its length; 0 when all senders are gone.
    pub(crate) len: usize,
    /// Its descriptors, in the sender's order.
    pub(crate) fds: Vec<OwnedFd>,
    /// Whether a part of it or a descriptor did not fit, or this process has no room for it.
    pub(crate) cut: bool,
}

/// Receives one record into `buffer`.
pub(crate) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Result<Record, Errno> {
    receive_until(socket, buffer, flags, None)
}

/// Receives one record from a socket with this patience; `EAGAIN`: none came.
pub(super) fn receive_within(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
    patience: Duration,
) -> Result<Record, Errno> {
    // The socket's own patience begins anew after each signal.
    receive_until(socket, buffer, flags, Instant::now().checked_add(patience))
}

fn receive_until(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
    deadline: Option<Instant>,
) -> Result<Record, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, flags) {
            Err(Errno::INTR) if deadline.is_some_and(|at| Instant::now() >= at) => {
                return Err(Errno::AGAIN);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(message) => break message,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received.map(above_standard));
        }
    }
    let cut = message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Record { len: message.bytes, fds, cut })
}

/// A memory file that holds `bytes`, for what is too large for a record.
pub(super) fn letter(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = empty_letter()?;
    write_letter(&fd, bytes)?;
    Ok(fd)
}

/// A memory file without content.
pub(super) fn empty_letter() -> io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    Ok(above_standard(rustix::fs::memfd_create("procession-letter", flags)?))
}

/// Writes `bytes` at the beginning of a memory file.
pub(super) fn write_letter(fd: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    // A file beyond the limit would be a signal that kills.
    if bytes.len() as u64 > super::state::file_size_limit() {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut rest = bytes;
    let mut at = 0;
    while !rest.is_empty() {
        match rustix::io::pwrite(&fd, rest, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                rest = &rest[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads a whole memory file.
pub(super) fn read_letter(fd: impl AsFd) -> io::Result<Vec<u8>> {
    let size = rustix::fs::fstat(&fd)?.st_size;
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX))
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    bytes.resize(size as usize, 0);
    let mut at = 0;
    while at < bytes.len() {
        match rustix::io::pread(&fd, &mut bytes[at..], at as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => at += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    #[test]
    fn a_record_keeps_its_bounds_and_its_descriptors() {
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let fd = letter(b"enclosed").unwrap();
        send(&a, &[IoSlice::new(b"one"), IoSlice::new(b"two")], &[fd.as_fd()]).unwrap();
        send(&a, &[IoSlice::new(b"next")], &[]).unwrap();
        let mut buffer = [0; 16];
        let first = receive(&b, &mut buffer, RecvFlags::empty()).unwrap();
        assert_eq!((&buffer[..first.len], first.cut), (&b"onetwo"[..], false));
        assert_eq!(read_letter(&first.fds[0]).unwrap(), b"enclosed");
        let second = receive(&b, &mut buffer[..2], RecvFlags::empty()).unwrap();
        assert!(second.cut && second.fds.is_empty());
        drop(a);
        assert_eq!(receive(&b, &mut buffer, RecvFlags::empty()).unwrap().len, 0);
    }
}
