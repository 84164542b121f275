//! A directory of segments: making, finding and removing their files.
//!
//! A segment is *made* without a name (`O_TMPFILE`), allocated, described in its header, and only then *linked*: it is
//! there altogether or not at all, and whoever is killed before leaves nothing. It is *orphaned* when nobody has it attached
//! and it was not made to stay: its creator's guard, which would have unlinked it, is gone with its process. An orphan is
//! removed by [`sweep`](Shelf::sweep), or by the next one who makes a segment of this name.
//!
//! - Who attaches opens the file, then shares byte 0, then looks whether it still has its name. Who sweeps takes byte 0 for
//!   itself, then takes the name away. So either the sweeper finds it in use, or the other one finds it gone.
//! - Who takes a name away holds byte 1 of the file, and then looks whether the name still is this file's. All who do are kept
//!   apart by that, so nobody takes away the name of a later segment. (Against `rm` and `mv` there is no protection.)

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procession_core::sys::Deadline;
use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Segment;
use super::error::{BadName, SharedMemoryError, Subject};
use super::header::{DATA_AT, Header};
use super::locks::{self, Byte};
use crate::memory::limits;
use crate::process::wire::above_standard;

/// Where POSIX shared memory lies on Linux.
const USUAL: &str = "/dev/shm";
/// So much is allocated at a time: a signal in between costs no more than this again.
const PIECE: u64 = 16 << 20;
/// How long a sweeper may take between its lock and its unlink.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shelf {
    directory: PathBuf,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { directory: USUAL.into() }
    }
}

/// A file that is open and whose use this process shares.
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    pub(super) header: Header,
    pub(super) size: usize,
    pub(super) stat: Stat,
}

impl Shelf {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn subject<'s>(&'s self, name: &'s str) -> Subject<'s> {
        Subject { directory: &self.directory, name }
    }

    fn open_directory(&self, name: &str) -> Result<OwnedFd, SharedMemoryError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.directory, flags, Mode::empty())
            .map_err(|errno| self.unusable(name, "open", errno))
    }

    fn unusable(&self, name: &str, call: &'static str, errno: Errno) -> SharedMemoryError {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => self.subject(name).failed(call)(errno),
            _ => {
                let directory = self.directory.clone();
                SharedMemoryError::Directory { directory, source: errno.into() }
            }
        }
    }

    /// A file with so much memory and this header, which has no name.
    pub(super) fn make(
        &self,
        name: &str,
        mode: Mode,
        header: Header,
    ) -> Result<Opened, SharedMemoryError> {
        let subject = self.subject(name);
        let bytes = header.said_size();
        // What the kernel can address, and what it would answer with a deadly signal.
        let most = (i64::MAX as u64).min(usize::MAX as u64).min(limits::largest_file());
        let most = most.saturating_sub(DATA_AT) & !0xFFFF;
        let size = usize::try_from(bytes)
            .ok()
            .filter(|_| (1..=most).contains(&bytes))
            .ok_or(SharedMemoryError::Size { size: bytes, most })?;
        let full = |errno: Errno| {
            let directory = self.directory.clone();
            SharedMemoryError::NoSpace { bytes, directory, source: errno.into() }
        };
        // In a control group a full machine would answer with the out-of-memory killer.
        if bytes > limits::budget() {
            return Err(full(Errno::NOSPC));
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // Else, where a standard stream is closed, what is printed would be written into it.
        let file = rustix::fs::open(&self.directory, flags, Mode::RUSR | Mode::WUSR)
            .map(above_standard)
            .map_err(|errno| self.unusable(name, "open(O_TMPFILE)", errno))?;
        rustix::fs::fchmod(&file, mode).map_err(subject.failed("fchmod"))?;
        // Before its size: the limits of a file system show here.
        for start in (0..bytes).step_by(PIECE as usize) {
            let piece = PIECE.min(bytes - start);
            loop {
                match rustix::fs::fallocate(&file, FallocateFlags::empty(), DATA_AT + start, piece)
                {
                    Ok(()) => break,
                    Err(Errno::INTR) => {}
                    Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::NOMEM)) => {
                        return Err(full(errno));
                    }
                    Err(errno) => return Err(subject.failed("fallocate")(errno)),
                }
            }
        }
        header.write(&file).map_err(|errno| match errno {
            Errno::NOSPC | Errno::DQUOT => full(errno),
            errno => subject.failed("pwrite")(errno),
        })?;
        // Nobody else can have it.
        locks::share_use(&file).map_err(subject.failed("fcntl(F_OFD_SETLK)"))?;
        let stat = rustix::fs::fstat(&file).map_err(subject.failed("fstat"))?;
        Ok(Opened { file, header, size, stat })
    }

    /// Gives a file its name. An orphan of this name makes way.
    pub(super) fn link(&self, name: &str, file: impl AsFd) -> Result<(), SharedMemoryError> {
        use std::os::fd::AsRawFd;
        let subject = self.subject(name);
        let directory = self.open_directory(name)?;
        let own = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        loop {
            let linked = rustix::fs::linkat(CWD, &own, &directory, name, AtFlags::SYMLINK_FOLLOW)
                .or_else(|errno| match errno {
                    // Without /proc: by the descriptor itself, since Linux 6.10.
                    Errno::NOENT => {
                        rustix::fs::linkat(&file, "", &directory, name, AtFlags::EMPTY_PATH)
                    }
                    errno => Err(errno),
                });
            match linked {
                Err(Errno::EXIST) if self.sweep_one(name).is_ok_and(|swept| swept.is_some()) => {}
                Err(Errno::NOENT) => {
                    let (name, source) = (name.to_owned(), Errno::NOENT.into());
                    let call = "linkat (it needs /proc, or Linux 6.10)";
                    return Err(SharedMemoryError::System { name, call, source });
                }
                answer => return answer.map_err(subject.failed("linkat")),
            }
        }
    }

    /// The file of this name, in use by this process from now on.
    pub(super) fn open(&self, name: &str, writing: bool) -> Result<Opened, SharedMemoryError> {
        let subject = self.subject(name);
        let (file, _) = self.look(name, writing)?;
        let deadline = Deadline::after(PATIENCE);
        while !locks::share_use(&file).map_err(subject.failed("fcntl(F_OFD_SETLK)"))? {
            if deadline.is_past() {
                return Err(SharedMemoryError::Busy { name: name.to_owned() });
            }
            std::thread::yield_now();
        }
        let stat = rustix::fs::fstat(&file).map_err(subject.failed("fstat"))?;
        if stat.st_nlink == 0 {
            return Err(subject.failed("open")(Errno::NOENT));
        }
        let header = Header::read(&file, subject)?;
        let size = header.size(stat.st_size as u64, subject)?;
        Ok(Opened { file, header, size, stat })
    }

    /// Opens a file of a segment, for a look.
    fn look(&self, name: &str, writing: bool) -> Result<(OwnedFd, Stat), SharedMemoryError> {
        let subject = self.subject(name);
        let directory = self.open_directory(name)?;
        // A pipe must not make it wait, a link not lead it elsewhere.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let access = if writing { OFlags::RDWR } else { OFlags::RDONLY };
        let file = match rustix::fs::openat(&directory, name, flags | access, Mode::empty()) {
            Ok(file) => above_standard(file),
            Err(Errno::LOOP) => return Err(subject.foreign("it is a link")),
            Err(Errno::ISDIR | Errno::NXIO) => return Err(subject.foreign("it is no file")),
            Err(errno) => return Err(subject.failed("open")(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(subject.failed("fstat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(subject.foreign("it is no file"));
        }
        Ok((file, stat))
    }

    /// Takes the name away from the file with this device and inode, if it still is its name, whoever uses it.
    pub(super) fn unlink(&self, name: &str, it: (u64, u64)) -> Result<(), SharedMemoryError> {
        // An opening of its own: a forked process shares the locks of what it inherited.
        let (file, stat) = self.look(name, true)?;
        match (stat.st_dev, stat.st_ino) == it {
            true => self.unlink_opened(name, &file, it),
            false => Err(self.subject(name).failed("unlink")(Errno::NOENT)),
        }
    }

    fn unlink_opened(
        &self,
        name: &str,
        file: impl AsFd,
        it: (u64, u64),
    ) -> Result<(), SharedMemoryError> {
        let subject = self.subject(name);
        if !locks::take(&file, Byte::Unlink).map_err(subject.failed("fcntl(F_OFD_SETLK)"))? {
            return Err(SharedMemoryError::Busy { name: name.to_owned() });
        }
        let directory = self.open_directory(name)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let named = rustix::fs::statat(&directory, name, flags).map_err(subject.failed("stat"))?;
        if (named.st_dev, named.st_ino) != it {
            return Err(subject.failed("unlink")(Errno::NOENT));
        }
        rustix::fs::unlinkat(&directory, name, AtFlags::empty()).map_err(subject.failed("unlink"))
    }

    /// Takes away the name of a segment, whoever uses it.
    pub(super) fn remove(&self, name: &str) -> Result<(), SharedMemoryError> {
        check_name(name)?;
        let (file, stat) = self.look(name, true)?;
        Header::read(&file, self.subject(name))?;
        self.unlink_opened(name, &file, (stat.st_dev, stat.st_ino))
    }

    /// All segments of this layout that this process may look at, by name.
    pub(super) fn segments(&self) -> Result<Vec<Segment>, SharedMemoryError> {
        let unusable = |error: std::io::Error| SharedMemoryError::Directory {
            directory: self.directory.clone(),
            source: error,
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            // What is not ours, or is gone by now, or may not be looked at, is none of them.
            found.extend(entry.file_name().to_str().and_then(|name| self.segment(name).ok()));
        }
        found.sort_by(|one: &Segment, other| one.name.cmp(&other.name));
        Ok(found)
    }

    fn segment(&self, name: &str) -> Result<Segment, SharedMemoryError> {
        let subject = self.subject(name);
        let (file, stat) = self.look(name, false)?;
        let header = Header::read(&file, subject)?;
        let in_use = locks::is_used(&file).map_err(subject.failed("fcntl(F_OFD_GETLK)"))?;
        Ok(Segment::new(name, &header, in_use, &stat))
    }

    /// Removes all orphans that this process may remove.
    pub(super) fn sweep(&self) -> Result<Vec<Segment>, SharedMemoryError> {
        let orphans = self.segments()?.into_iter().filter(Segment::is_orphan);
        Ok(orphans.filter_map(|orphan| self.sweep_one(&orphan.name).ok().flatten()).collect())
    }

    /// Removes it if it is an orphan.
    fn sweep_one(&self, name: &str) -> Result<Option<Segment>, SharedMemoryError> {
        let subject = self.subject(name);
        let (file, stat) = self.look(name, true)?;
        if !locks::take(&file, Byte::Use).map_err(subject.failed("fcntl(F_OFD_SETLK)"))? {
            return Ok(None);
        }
        // From here on it stays as it is: only who uses it can have it stay.
        let header = Header::read(&file, subject)?;
        if header.is_persistent() {
            return Ok(None);
        }
        let segment = Segment::new(name, &header, false, &stat);
        self.unlink_opened(name, &file, (stat.st_dev, stat.st_ino))?;
        Ok(Some(segment))
    }
}

/// Whether a segment can have this name.
pub(super) fn check_name(name: &str) -> Result<(), SharedMemoryError> {
    let reason = match name {
        "" => BadName::Empty,
        "." | ".." => BadName::Dots,
        name if name.contains('/') => BadName::Slash,
        name if name.contains('\0') => BadName::Nul,
        name if name.len() > 255 => BadName::TooLong(name.len()),
        _ => return Ok(()),
    };
    Err(SharedMemoryError::Name { name: name.to_owned(), reason })
}
