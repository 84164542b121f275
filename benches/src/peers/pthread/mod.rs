//! What POSIX threads have, in memory that processes share.

pub mod barrier;
pub mod condition;
pub mod mutex;
pub mod rwlock;
pub mod semaphore;

use crate::Result;
use crate::rows::counted;

/// pthread calls return the error and leave errno alone.
fn check(code: libc::c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(std::io::Error::from_raw_os_error(code).into()),
    }
}

/// Semaphore calls set errno.
fn check_errno(code: libc::c_int) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}
