//! How a segment is to be made or found.

use std::path::PathBuf;

use rustix::fs::Mode;

use super::header::Header;
use super::shelf::{Shelf, check_name};
use super::{Segment, SharedMemory, SharedMemoryError, random};

/// How a [`SharedMemory`] is made or found, where the usual is not meant.
///
/// ```
/// use procession_posix::memory::SharedMemoryOptions;
///
/// // For a whole group of users, and to stay when nobody uses it.
/// let options = SharedMemoryOptions::new().mode(0o660).persistent(true);
/// let memory = options.create_random(4096)?;
/// options.remove(memory.name())?;
/// # Ok::<(), procession_posix::memory::SharedMemoryError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is made before `create`, nothing found before `attach`"]
pub struct SharedMemoryOptions {
    shelf: Shelf,
    mode: u32,
    persistent: bool,
}

impl Default for SharedMemoryOptions {
    fn default() -> Self {
        Self { shelf: Shelf::default(), mode: 0o600, persistent: false }
    }
}

/// How often a random name is drawn; not even twice, in all likelihood.
const DRAWS: usize = 8;

impl SharedMemoryOptions {
    /// The usual: in `/dev/shm`, for this user alone, gone with its creator.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where segments lie. Without it: `/dev/shm`, as for POSIX shared memory. Another file system works as well, if it knows
    /// files without a name (`O_TMPFILE`); on a disk what is written goes there in time.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.shelf = Shelf::new(directory.into());
        self
    }

    /// Who may read and write a new segment, as `chmod` counts, whatever the umask: 0o600 without it, this user alone. The
    /// owner always may both, and nobody execute it.
    ///
    /// Whoever may write a segment may also cut its file. See [`SharedMemory`] on what that does.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o666 | 0o600;
        self
    }

    /// Whether a new segment keeps its name when its creator is gone, until somebody unlinks it.
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// As [`SharedMemory::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(&self, name: &str, size: u64) -> Result<SharedMemory, SharedMemoryError> {
        check_name(name)?;
        let header = Header::new(size, self.draw(name)?, self.persistent);
        let made = self.shelf.make(name, Mode::from_raw_mode(self.mode), header)?;
        // All that can fail comes before it has a name.
        let memory = SharedMemory::of(&self.shelf, name, made, true)?;
        self.shelf.link(name, memory.file())?;
        Ok(memory.created())
    }

    /// As [`SharedMemory::create_random`].
    ///
    /// # Errors
    /// As there.
    pub fn create_random(&self, size: u64) -> Result<SharedMemory, SharedMemoryError> {
        let mut draws = 0;
        loop {
            let name = format!("procession-{:016x}", self.draw("procession")?);
            draws += 1;
            match self.create(&name, size) {
                Err(SharedMemoryError::Exists { .. }) if draws < DRAWS => {}
                answer => return answer,
            }
        }
    }

    fn draw(&self, name: &str) -> Result<u64, SharedMemoryError> {
        random().map_err(self.shelf.subject(name).failed("getrandom"))
    }

    /// As [`SharedMemory::attach`].
    ///
    /// # Errors
    /// As there.
    pub fn attach(&self, name: &str) -> Result<SharedMemory, SharedMemoryError> {
        check_name(name)?;
        SharedMemory::of(&self.shelf, name, self.shelf.open(name, true)?, true)
    }

    /// As [`SharedMemory::attach_read_only`].
    ///
    /// # Errors
    /// As there.
    pub fn attach_read_only(&self, name: &str) -> Result<SharedMemory, SharedMemoryError> {
        check_name(name)?;
        SharedMemory::of(&self.shelf, name, self.shelf.open(name, false)?, false)
    }

    /// As [`SharedMemory::remove`].
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self, name: &str) -> Result<(), SharedMemoryError> {
        self.shelf.remove(name)
    }

    /// As [`SharedMemory::segments`].
    ///
    /// # Errors
    /// As there.
    pub fn segments(&self) -> Result<Vec<Segment>, SharedMemoryError> {
        self.shelf.segments()
    }

    /// As [`SharedMemory::sweep`].
    ///
    /// # Errors
    /// As there.
    pub fn sweep(&self) -> Result<Vec<Segment>, SharedMemoryError> {
        self.shelf.sweep()
    }
}
