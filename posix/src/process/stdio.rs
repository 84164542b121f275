//! Where a process finds its standard streams and its working directory.
//!
//! All of it is opened by the starter, so what cannot be opened is an error of the start, and it crosses as descriptors,
//! by each way to start. What was not chosen is what the starter has at that moment.

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::error::StartError;
use super::wire;

/// What one of the three standard streams of a new process is.
///
/// ```
/// use std::io::Read;
/// use procession_posix::process::{Process, Stdio};
///
/// let child = Process::new(|| println!("hello"), ()).stdout(Stdio::Piped).start()?;
/// let mut said = String::new();
/// child.take_stdout().ok_or("it is piped")?.read_to_string(&mut said)?;
/// assert_eq!(said, "hello\n");
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// The starter's own, as it is when the process is started. Where the starter has closed its own: `/dev/null`.
    #[default]
    Inherit,
    /// `/dev/null`: reads end at once, writes go nowhere.
    Null,
    /// A new pipe. The starter takes its end out of the [`Child`](super::Child): `take_stdin`, `take_stdout`,
    /// `take_stderr`. It holds 64 KiB; a process that writes more waits until somebody reads.
    /// A process that is forked from the starter later ([`StartMethod::Fork`](super::StartMethod::Fork)) has the
    /// starter's end too, as it has all its descriptors: a pipe ends when that process has ended as well.
    Piped,
    /// This descriptor: a file, a socket, the end of another pipe. Made by `from`.
    Descriptor(Arc<OwnedFd>),
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Stdio::Descriptor(Arc::new(fd))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

impl From<PipeReader> for Stdio {
    fn from(end: PipeReader) -> Self {
        OwnedFd::from(end).into()
    }
}

impl From<PipeWriter> for Stdio {
    fn from(end: PipeWriter) -> Self {
        OwnedFd::from(end).into()
    }
}

/// The descriptors of a process to come, where it is not to have its starter's.
#[derive(Default)]
pub(super) struct Places {
    /// Standard input, output and error.
    pub(super) standard: [Option<OwnedFd>; 3],
    /// The working directory.
    pub(super) directory: Option<OwnedFd>,
}

impl Places {
    /// Opens what was chosen; the starter's ends of pipes come along.
    pub(super) fn open(
        streams: &[Stdio; 3],
        directory: Option<&Path>,
    ) -> Result<(Places, Pipes), StartError> {
        let mut places = Places::default();
        let mut pipes = Pipes::default();
        for (number, stream) in streams.iter().enumerate() {
            places.standard[number] = match stream {
                Stdio::Inherit => continue,
                Stdio::Null => Some(null()?),
                // Above the standard numbers, for `take_up` overwrites those.
                Stdio::Descriptor(fd) => Some(
                    rustix::io::fcntl_dupfd_cloexec(fd, 3)
                        .map_err(resource("duplicate a descriptor"))?,
                ),
                Stdio::Piped => {
                    let flags = rustix::pipe::PipeFlags::CLOEXEC;
                    let (read, write) =
                        rustix::pipe::pipe_with(flags).map_err(resource("make a pipe"))?;
                    let (read, write) = (wire::above_standard(read), wire::above_standard(write));
                    Some(match number {
                        0 => {
                            pipes.stdin = Mutex::new(Some(write.into()));
                            read
                        }
                        1 => {
                            pipes.stdout = Mutex::new(Some(read.into()));
                            write
                        }
                        _ => {
                            pipes.stderr = Mutex::new(Some(read.into()));
                            write
                        }
                    })
                }
            };
        }
        if let Some(path) = directory {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // The dot has the kernel ask whether it may be searched.
            let opened = rustix::fs::openat(CWD, path.join("."), flags, Mode::empty())
                .map(wire::above_standard)
                .map_err(|error| StartError::Directory {
                    path: path.into(),
                    source: error.into(),
                })?;
            places.directory = Some(opened);
        }
        Ok((places, pipes))
    }

    /// Makes these the places of the calling process, which has just been forked.
    pub(super) fn take_up(self) -> rustix::io::Result<()> {
        let [stdin, stdout, stderr] = self.standard;
        if let Some(fd) = stdin {
            rustix::stdio::dup2_stdin(fd)?;
        }
        if let Some(fd) = stdout {
            rustix::stdio::dup2_stdout(fd)?;
        }
        if let Some(fd) = stderr {
            rustix::stdio::dup2_stderr(fd)?;
        }
        for stream in own() {
            if rustix::io::fcntl_getfd(stream).is_err() {
                // The lowest number that is free is that of the stream: those below are open by now.
                let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
                std::mem::forget(null);
            }
        }
        self.directory.map_or(Ok(()), rustix::process::fchdir)
    }
}

/// The starter's ends of a process' pipes, until they are taken.
#[derive(Default)]
pub(super) struct Pipes {
    pub(super) stdin: Mutex<Option<PipeWriter>>,
    pub(super) stdout: Mutex<Option<PipeReader>>,
    pub(super) stderr: Mutex<Option<PipeReader>>,
}

/// Takes one of them.
pub(super) fn take<T>(end: &Mutex<Option<T>>) -> Option<T> {
    // Nothing panics under this lock.
    end.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The calling process' standard streams. The numbers are not used unless they are open.
pub(super) fn own() -> [BorrowedFd<'static>; 3] {
    // SAFETY: a number that is not open is an error of the call that uses it, which every caller expects.
    [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) })
}

/// The working directory as it is now.
pub(super) fn working_directory() -> Result<OwnedFd, StartError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, ".", flags, Mode::empty())
        .map(wire::above_standard)
        .map_err(resource("open the working directory"))
}

/// What is read and written where there is no stream.
pub(super) fn null() -> Result<OwnedFd, StartError> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map(wire::above_standard)
        .map_err(resource("open /dev/null"))
}

fn resource(what: &'static str) -> impl Fn(Errno) -> StartError {
    move |error| StartError::Resource { what, source: error.into() }
}
