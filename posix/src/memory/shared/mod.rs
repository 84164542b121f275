//! Memory with a name, for processes that have nothing else to do with each other.

mod bytes;
mod error;
mod header;
mod locks;
mod options;
mod segment;
mod shelf;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use procession_core::region::{ALIGN, Place};
use procession_core::value::{CType, Elements};
use rustix::fs::Stat;
use rustix::io::Errno;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use error::{BadName, SharedMemoryError};
pub use options::SharedMemoryOptions;
pub use segment::Segment;

use super::{HandleError, refuse};
use error::Subject;
use header::{DATA_AT, Header, pread, pwrite};
use shelf::{Opened, Shelf};

/// Bytes that processes share by a name, also those that did not start each other: as
/// `multiprocessing.shared_memory.SharedMemory`.
///
/// One [creates](Self::create) it, others [attach](Self::attach) to the name. All see the same bytes, at once. They are 0 at
/// first, and there when it is made: a machine without room is an error of `create`, never a signal later.
///
/// ```
/// use procession_posix::memory::SharedMemory;
///
/// let memory = SharedMemory::create_random(1 << 20)?;
/// memory.write_at(100, b"hello")?;
///
/// let other = SharedMemory::attach(memory.name())?; // in whatever process
/// let mut text = [0; 5];
/// other.read_at(100, &mut text)?;
/// assert_eq!(&text, b"hello");
/// assert_eq!(other.size(), 1 << 20);
/// # Ok::<(), procession_posix::memory::SharedMemoryError>(())
/// ```
///
/// # Whose it is
///
/// Its creator's. When the last copy of what `create` returned is dropped in the process that called it, the name is gone;
/// the memory is when the last one who has it attached is gone, too. Nobody else's end unlinks anything, and no error does.
/// Who wants it to stay says so: [`persist`](Self::persist).
///
/// A creator that is killed leaves its segment, for others may be using it. When they are gone as well it is an orphan: it
/// makes way for the next one who creates a segment of its name, and [`sweep`](Self::sweep) removes it. The kernel keeps count of
/// who is there: by a lock on the file, which ends with whoever had it.
///
/// # Its bytes
///
/// Others write them at any time, so there is no `&[u8]`. [`read_at`](Self::read_at) and [`write_at`](Self::write_at) copy;
/// [`elements`](Self::elements) are typed and atomic; [`as_ptr`](Self::as_ptr) is for all else. A lock is not in there: use one of
/// this library's, or words of your own.
///
/// # Who is trusted
///
/// Whoever may write the file may cut it, which no kernel forbids for a file with a name; to touch what is gone ends a process
/// with SIGBUS. A file that only this user and root may write is theirs to cut: they could as well kill. If others may write it, or it
/// belongs to another user, `read_at` and `write_at` are system calls instead (0.2 µs), and answer [`SharedMemoryError::Cut`]; elements
/// and pointer are on your own risk.
///
/// # How it travels
///
/// By its name: it can be an argument or an object in a queue, and whoever decodes it attaches. It has to have its name until
/// then. A forked process has it attached as its parent has.
#[derive(Clone)]
pub struct SharedMemory {
    attached: Arc<Attached>,
}

struct Attached {
    map: MmapRaw,
    file: OwnedFd,
    shelf: Shelf,
    name: String,
    size: usize,
    id: u64,
    /// Device and inode.
    it: (u64, u64),
    writable: bool,
    /// Whether nobody else's users may cut it.
    trusted: bool,
    /// The process that made it, if that is who has this.
    creator: Option<u32>,
    /// Whether it was unlinked through this.
    unlinked: AtomicBool,
}

impl SharedMemory {
    /// Makes a segment of so many bytes, all 0, which has not existed. Only this user can attach;
    /// [`SharedMemoryOptions`] knows other ways.
    ///
    /// Costs a dozen system calls, and the time to fill the memory with zeros.
    ///
    /// # Errors
    /// [`Name`](SharedMemoryError::Name) or [`Size`](SharedMemoryError::Size) if there can be no such segment;
    /// [`Exists`](SharedMemoryError::Exists), unless what exists is an orphan; [`NoSpace`](SharedMemoryError::NoSpace);
    /// [`Directory`](SharedMemoryError::Directory) where there is no `/dev/shm`. After an error nothing is left of it.
    pub fn create(name: &str, size: u64) -> Result<Self, SharedMemoryError> {
        SharedMemoryOptions::new().create(name, size)
    }

    /// The same, under a name that is drawn by lot.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_random(size: u64) -> Result<Self, SharedMemoryError> {
        SharedMemoryOptions::new().create_random(size)
    }

    /// Attaches to the segment of this name, for reading and writing.
    ///
    /// # Errors
    /// [`NotFound`](SharedMemoryError::NotFound); [`Permission`](SharedMemoryError::Permission);
    /// [`Foreign`](SharedMemoryError::Foreign), [`Version`](SharedMemoryError::Version) or [`Cut`](SharedMemoryError::Cut) if the
    /// file is not what this library makes. Whatever the error, the segment stays.
    ///
    /// ```
    /// use procession_posix::memory::{SharedMemory, SharedMemoryError};
    ///
    /// let error = SharedMemory::attach("nobody-made-this").unwrap_err();
    /// assert!(matches!(error, SharedMemoryError::NotFound { .. }));
    /// ```
    pub fn attach(name: &str) -> Result<Self, SharedMemoryError> {
        SharedMemoryOptions::new().attach(name)
    }

    /// Attaches for reading alone, which needs no more than the right to read the file. The memory is mapped so: a write
    /// through the pointer ends the process.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_read_only(name: &str) -> Result<Self, SharedMemoryError> {
        SharedMemoryOptions::new().attach_read_only(name)
    }

    /// Takes its name away from the segment of this name, whoever made it: as `shm_unlink`. Those who have it attached keep it.
    ///
    /// # Errors
    /// As [`attach`](Self::attach); a file that is no segment stays.
    pub fn remove(name: &str) -> Result<(), SharedMemoryError> {
        SharedMemoryOptions::new().remove(name)
    }

    /// All segments of this machine that this process may look at, by name.
    ///
    /// # Errors
    /// [`Directory`](SharedMemoryError::Directory).
    ///
    /// ```
    /// use procession_posix::memory::SharedMemory;
    ///
    /// let memory = SharedMemory::create_random(10)?;
    /// let all = SharedMemory::segments()?;
    /// let found = all.iter().find(|one| one.name == memory.name()).unwrap();
    /// assert_eq!((found.size, found.in_use), (10, true));
    /// assert_eq!(found.users(), [std::process::id()]);
    /// # Ok::<(), procession_posix::memory::SharedMemoryError>(())
    /// ```
    pub fn segments() -> Result<Vec<Segment>, SharedMemoryError> {
        SharedMemoryOptions::new().segments()
    }

    /// Removes all orphans: segments that were not made to stay, and that nobody has attached. Returns what it removed. What it
    /// may not remove, since it is another user's, it leaves.
    ///
    /// # Errors
    /// [`Directory`](SharedMemoryError::Directory).
    pub fn sweep() -> Result<Vec<Segment>, SharedMemoryError> {
        SharedMemoryOptions::new().sweep()
    }

    /// Maps what is open.
    fn of(
        shelf: &Shelf,
        name: &str,
        opened: Opened,
        writable: bool,
    ) -> Result<Self, SharedMemoryError> {
        let Opened { file, header, size, stat } = opened;
        let mut options = MmapOptions::new();
        options.offset(DATA_AT).len(size);
        let map = match writable {
            true => options.map_raw(&file),
            false => options.map_raw_read_only(&file),
        };
        let name = name.to_owned();
        let map = match map {
            Ok(map) => map,
            Err(source) => return Err(SharedMemoryError::System { name, call: "mmap", source }),
        };
        let attached = Attached {
            map,
            file,
            shelf: shelf.clone(),
            name,
            size,
            id: header.id,
            it: (stat.st_dev, stat.st_ino),
            writable,
            trusted: is_trusted(&stat),
            creator: None,
            unlinked: AtomicBool::new(false),
        };
        Ok(Self { attached: Arc::new(attached) })
    }

    /// From now on it is this process that unlinks it in the end.
    fn created(mut self) -> Self {
        if let Some(attached) = Arc::get_mut(&mut self.attached) {
            attached.creator = Some(std::process::id());
        }
        self
    }

    fn file(&self) -> BorrowedFd<'_> {
        self.attached.file.as_fd()
    }

    /// The name to attach to.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.attached.name
    }

    /// How many bytes it has: exactly as many as it was made with, for everybody.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        self.attached.size
    }

    /// Whether it was attached to for reading alone.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        !self.attached.writable
    }

    /// Whether this process made it, and will unlink it.
    #[must_use]
    pub fn is_creator(&self) -> bool {
        self.attached.creator == Some(std::process::id())
    }

    /// Copies bytes out, from `offset` on, until `to` is full. Whole words of 8 bytes at multiples of 8 are read in one step each;
    /// others may write in between.
    ///
    /// No system call, except for a segment that others than this user may write.
    ///
    /// # Errors
    /// [`Bounds`](SharedMemoryError::Bounds), and nothing was copied; [`Cut`](SharedMemoryError::Cut).
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), SharedMemoryError> {
        let start = self.attached.range(offset, to.len())?;
        if self.attached.trusted {
            // SAFETY: the range lies within what is mapped. This process accesses it by atomics and copies like this one.
            unsafe { bytes::copy_out(start, to) };
            return Ok(());
        }
        let done = pread(self.file(), to, DATA_AT + offset as u64);
        match done.map_err(self.subject().failed("pread"))? {
            length if length == to.len() => Ok(()),
            _ => self.attached.check_whole(),
        }
    }

    /// Copies all of `from` in, from `offset` on. Whole words of 8 bytes at multiples of 8 are written in one step each.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at), and [`ReadOnly`](SharedMemoryError::ReadOnly).
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), SharedMemoryError> {
        let start = self.attached.range(offset, from.len())?;
        self.attached.check_writable()?;
        if self.attached.trusted {
            // SAFETY: the range lies within what is mapped, writable. This process accesses it by atomics and copies like this
            // one.
            unsafe { bytes::copy_in(from, start) };
            return Ok(());
        }
        // A write would make a file that was cut longer again.
        self.attached.check_whole()?;
        let done = pwrite(self.file(), from, DATA_AT + offset as u64);
        match done.map_err(self.subject().failed("pwrite"))? {
            length if length == from.len() => Ok(()),
            _ => self.attached.check_whole(),
        }
    }

    /// `count` elements of a type, from `offset` on: each is read and written in one atomic step, at the cost of memory.
    ///
    /// # Errors
    /// [`Misaligned`](SharedMemoryError::Misaligned) unless `offset` is a multiple of 8; [`Bounds`](SharedMemoryError::Bounds);
    /// [`ReadOnly`](SharedMemoryError::ReadOnly), since elements can be written; [`Cut`](SharedMemoryError::Cut).
    ///
    /// ```
    /// use procession_posix::memory::SharedMemory;
    ///
    /// let memory = SharedMemory::create_random(4096)?;
    /// let prices = memory.elements::<f64>(1024, 100)?;
    /// prices.set(3, 0.5)?;
    /// let count = memory.elements::<u32>(0, 1)?;
    /// assert_eq!(count.update(0, |n| n + 1)?, 1);
    ///
    /// let other = SharedMemory::attach(memory.name())?;
    /// assert_eq!(other.elements::<f64>(1024, 100)?.get(3)?, 0.5);
    /// # Ok::<(), procession_posix::Error>(())
    /// ```
    pub fn elements<T: CType>(
        &self,
        offset: usize,
        count: usize,
    ) -> Result<Elements<'_, T>, SharedMemoryError> {
        let length = count.saturating_mul(T::CODE.size());
        let start = self.attached.range(offset, length)?;
        self.attached.check_writable()?;
        self.attached.check_whole()?;
        let misaligned = SharedMemoryError::Misaligned { offset };
        if !(offset as u64).is_multiple_of(ALIGN) {
            return Err(misaligned);
        }
        let Some(start) = NonNull::new(start) else { return Err(misaligned) };
        // SAFETY: these bytes are mapped readable and writable as long as this lives, which the elements borrow; in this process
        // they are accessed by this crate.
        let place = unsafe { Place::from_raw(start, length as u64) };
        place.ok().and_then(|place| Elements::in_place(place, count).ok()).ok_or(misaligned)
    }

    /// Where its first byte lies in this process: at a multiple of the page size. What is done with it is between those who
    /// share it; they may write at any time. It is valid as long as any copy of this, and for reading only if this
    /// [is](Self::is_read_only).
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.attached.map.as_mut_ptr()
    }

    /// Has it stay when its creator is gone, until somebody unlinks it. Whoever can write it can ask for that.
    ///
    /// # Errors
    /// [`ReadOnly`](SharedMemoryError::ReadOnly), or the system's.
    ///
    /// ```
    /// use procession_posix::memory::SharedMemory;
    ///
    /// let memory = SharedMemory::create_random(10)?;
    /// memory.persist()?;
    /// let name = memory.name().to_owned();
    /// drop(memory);
    /// SharedMemory::attach(&name)?.unlink()?;
    /// assert!(SharedMemory::attach(&name).is_err());
    /// # Ok::<(), procession_posix::memory::SharedMemoryError>(())
    /// ```
    pub fn persist(&self) -> Result<(), SharedMemoryError> {
        self.attached.check_writable()?;
        let header = Header::read(self.file(), self.subject())?;
        header.make_persistent(self.file()).map_err(self.subject().failed("pwrite"))
    }

    /// Takes its name away now: nobody else attaches from now on, and those who have keep it.
    ///
    /// # Errors
    /// [`NotFound`](SharedMemoryError::NotFound) if it has none any more, and if another has its name by now;
    /// [`Permission`](SharedMemoryError::Permission).
    pub fn unlink(&self) -> Result<(), SharedMemoryError> {
        self.attached.unlink()
    }

    /// Gives it up, and says what the silent way, dropping, would not: why it could not be unlinked. If there are copies of
    /// this it stays as it is until the last is closed or dropped.
    ///
    /// # Errors
    /// As [`unlink`](Self::unlink), in its creator; but no error if it was unlinked already.
    pub fn close(self) -> Result<(), SharedMemoryError> {
        match Arc::into_inner(self.attached) {
            Some(attached) => match attached.end() {
                Err(SharedMemoryError::NotFound { .. }) => Ok(()),
                answer => answer,
            },
            None => Ok(()),
        }
    }

    fn subject(&self) -> Subject<'_> {
        self.attached.subject()
    }
}

impl Attached {
    fn subject(&self) -> Subject<'_> {
        self.shelf.subject(&self.name)
    }

    /// Where these bytes lie, if all exist.
    #[inline]
    fn range(&self, offset: usize, length: usize) -> Result<*mut u8, SharedMemoryError> {
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            let (name, size) = (self.name.clone(), self.size);
            return Err(SharedMemoryError::Bounds { name, offset, length, size });
        }
        // SAFETY: not beyond the end of what is mapped.
        Ok(unsafe { self.map.as_mut_ptr().add(offset) })
    }

    fn check_writable(&self) -> Result<(), SharedMemoryError> {
        match self.writable {
            true => Ok(()),
            false => Err(SharedMemoryError::ReadOnly { name: self.name.clone() }),
        }
    }

    /// Whether the file has all its bytes.
    fn check_whole(&self) -> Result<(), SharedMemoryError> {
        let stat = rustix::fs::fstat(&self.file).map_err(self.subject().failed("fstat"))?;
        let (expected, found) = (DATA_AT + self.size as u64, stat.st_size as u64);
        match found < expected {
            true => Err(SharedMemoryError::Cut { name: self.name.clone(), expected, found }),
            false => Ok(()),
        }
    }

    fn unlink(&self) -> Result<(), SharedMemoryError> {
        self.shelf.unlink(&self.name, self.it)?;
        // Relaxed: it saves a second attempt, nothing depends on it.
        self.unlinked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What its creator does in the end, once.
    fn end(&self) -> Result<(), SharedMemoryError> {
        let mine = self.creator == Some(std::process::id());
        if !mine || self.unlinked.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        match Header::read(&self.file, self.subject())?.is_persistent() {
            true => Ok(()),
            false => self.shelf.unlink(&self.name, self.it),
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // What cannot be unlinked is an orphan from now on.
        let _ = self.end();
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory")
            .field("name", &self.name())
            .field("size", &self.size())
            .field("read_only", &self.is_read_only())
            .field("creator", &self.is_creator())
            .finish_non_exhaustive()
    }
}

/// Whether nobody may write the file but its owner, who is this user or root.
fn is_trusted(stat: &Stat) -> bool {
    let owner = [0, rustix::process::geteuid().as_raw()].contains(&stat.st_uid);
    owner && stat.st_mode & 0o022 == 0
}

fn random() -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// How it looks on the way.
#[derive(Serialize, Deserialize)]
struct Wire {
    directory: PathBuf,
    name: String,
    id: u64,
    writable: bool,
}

impl Serialize for SharedMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Attached { shelf, name, id, writable, unlinked, .. } = &*self.attached;
        if unlinked.load(Ordering::Relaxed) {
            return Err(S::Error::custom(format!("shared memory {name:?} is unlinked")));
        }
        let directory = shelf.directory().to_owned();
        let (name, id, writable) = (name.clone(), *id, *writable);
        Wire { directory, name, id, writable }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        wire.attach().map_err(|error| refuse(HandleError::Content(error.to_string())))
    }
}

impl Wire {
    fn attach(self) -> Result<SharedMemory, SharedMemoryError> {
        let options = SharedMemoryOptions::new().directory(self.directory);
        let memory = match self.writable {
            true => options.attach(&self.name)?,
            false => options.attach_read_only(&self.name)?,
        };
        match memory.attached.id == self.id {
            true => Ok(memory),
            false => Err(SharedMemoryError::Replaced { name: self.name }),
        }
    }
}
