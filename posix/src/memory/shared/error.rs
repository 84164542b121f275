//! What can go wrong with named shared memory.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadName {
    /// It has no letter.
    #[error("it is empty")]
    Empty,
    /// It holds a `/`.
    #[error("it holds a '/'")]
    Slash,
    /// It holds a byte of zero.
    #[error("it holds a NUL")]
    Nul,
    /// It has more than 255 bytes.
    #[error("it has {0} bytes, 255 are the most")]
    TooLong(usize),
    /// `.` or `..`, which are directories.
    #[error("it is the name of a directory")]
    Dots,
}

/// Why a named segment cannot be made, attached to, or used as asked. In each case the segment, if there is one, is as it
/// was: no error of one process takes it from another.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedMemoryError {
    /// No segment can have this name.
    #[error("{name:?} is no name for shared memory: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: BadName,
    },
    /// No segment can have this size.
    #[error("shared memory cannot have {size} bytes: at least 1, at most {most}")]
    Size {
        /// The size asked for.
        size: u64,
        /// The largest possible here: the address space, or RLIMIT_FSIZE.
        most: u64,
    },
    /// The name is taken.
    #[error(
        "shared memory {name:?} exists in {}: attach to it, or choose another name",
        directory.display()
    )]
    Exists {
        /// The name.
        name: String,
        /// Where.
        directory: PathBuf,
    },
    /// There is no segment of this name.
    #[error(
        "there is no shared memory {name:?} in {}: it was never created, or is unlinked",
        directory.display()
    )]
    NotFound {
        /// The name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// Another segment has the name now.
    #[error("shared memory {name:?} is another one by now: the one that was meant is unlinked")]
    Replaced {
        /// The name.
        name: String,
    },
    /// The file is none of this library's.
    #[error("{name:?} was not made by this library: {what}; it is left as it is")]
    Foreign {
        /// The name.
        name: String,
        /// What it is instead.
        what: &'static str,
    },
    /// It was made by a version of this library that lays it out in another way.
    #[error(
        "shared memory {name:?} has layout {found}, this program knows {ours}: \
         build both from the same version"
    )]
    Version {
        /// The name.
        name: String,
        /// Its layout.
        found: u32,
        /// The layout known here.
        ours: u32,
    },
    /// Somebody has made the file shorter, or longer.
    #[error(
        "the file of shared memory {name:?} has {found} bytes instead of {expected}: somebody has \
         cut it; create it anew"
    )]
    Cut {
        /// The name.
        name: String,
        /// How many bytes it was made with, the header included.
        expected: u64,
        /// How many it has.
        found: u64,
    },
    /// There is not so much memory.
    #[error(
        "there is no room for {bytes} bytes in {}: {source}; free some (is there anything to \
         sweep?), or enlarge it",
        directory.display()
    )]
    NoSpace {
        /// How many bytes were asked for.
        bytes: u64,
        /// Where.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The rights of this process do not suffice.
    #[error("no permission for shared memory {name:?}: {source}; its creator sets its mode")]
    Permission {
        /// The name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It was attached to for reading.
    #[error("shared memory {name:?} was attached to read-only: attach for writing")]
    ReadOnly {
        /// The name.
        name: String,
    },
    /// Not all of these bytes exist.
    #[error("{length} bytes from {offset} on go beyond the {size} of shared memory {name:?}")]
    Bounds {
        /// The name.
        name: String,
        /// The first byte asked for.
        offset: usize,
        /// How many were asked for.
        length: usize,
        /// How many there are.
        size: usize,
    },
    /// Elements do not begin at such an offset.
    #[error("elements begin at a multiple of 8, not at byte {offset}")]
    Misaligned {
        /// The offset.
        offset: usize,
    },
    /// Somebody is just removing it, and does not get on with it.
    #[error("shared memory {name:?} is just being removed by another process: try again")]
    Busy {
        /// The name.
        name: String,
    },
    /// The directory of the segments cannot be used.
    #[error(
        "{} cannot hold shared memory: {source}; mount a tmpfs there, or name another directory",
        directory.display()
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another system call failed.
    #[error("shared memory {name:?}: {call}: {source}")]
    System {
        /// The name.
        name: String,
        /// What was tried.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What is said of in an error.
#[derive(Clone, Copy)]
pub(super) struct Subject<'s> {
    pub(super) directory: &'s Path,
    pub(super) name: &'s str,
}

impl Subject<'_> {
    /// The error of a system call on it.
    pub(super) fn failed(self, call: &'static str) -> impl FnOnce(Errno) -> SharedMemoryError {
        let (name, directory) = (self.name.to_owned(), self.directory.to_owned());
        move |errno| match errno {
            Errno::NOENT => SharedMemoryError::NotFound { name, directory },
            Errno::EXIST => SharedMemoryError::Exists { name, directory },
            Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                SharedMemoryError::Permission { name, source: errno.into() }
            }
            _ => SharedMemoryError::System { name, call, source: errno.into() },
        }
    }

    pub(super) fn foreign(self, what: &'static str) -> SharedMemoryError {
        SharedMemoryError::Foreign { name: self.name.to_owned(), what }
    }
}
