//! A pair of Unix sockets that keep their messages apart.

use std::hint::spin_loop;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use crate::Result;
use crate::harness::Timing;
use crate::rows::turns::{BYTES, Pace, exchange};

/// `ops` messages there and back between two processes. At once, they spin: who waits asks again and again. Otherwise
/// they sleep in the call.
pub fn there_and_back(pace: Pace, ops: u64) -> Result<Timing> {
    let (first, second) = UnixDatagram::pair()?;
    let ends = [first, second];
    for end in &ends {
        end.set_nonblocking(matches!(pace, Pace::AtOnce))?;
    }
    let send = |i: usize, message: &[u8; BYTES]| {
        ends[i].send(message)?;
        Ok(())
    };
    let receive = |i: usize, message: &mut [u8; BYTES]| loop {
        match ends[i].recv(message) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => spin_loop(),
            received => return Ok(received?),
        }
    };
    exchange(pace, ops, || Ok(()), send, receive)
}
pub fn stream(pace: Pace, ops: u64) -> Result<Timing> {
    use std::io::{Read, Write};
    let (first, second) = std::os::unix::net::UnixStream::pair()?;
    let ends = [first, second];
    for end in &ends {
        end.set_nonblocking(matches!(pace, Pace::AtOnce))?;
    }
    let send = |i: usize, message: &[u8; BYTES]| {
        (&ends[i]).write(message)?;
        Ok(())
    };
    let receive = |i: usize, message: &mut [u8; BYTES]| loop {
        match (&ends[i]).read(message) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => spin_loop(),
            received => return Ok(received?),
        }
    };
    exchange(pace, ops, || Ok(()), send, receive)
}
