//! What stands in the first page of a segment's file: what it is, and who made it.
//!
//! It is read and written by system calls, never mapped: a file that is too short is an error then, and not a signal.
//! All of it is checked before it is used; whoever may write the file may have written anything.

use std::os::fd::AsFd;
use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};
use procession_core::sys::liveness::{self, Life, Verdict};
use rustix::io::Errno;

use super::error::{SharedMemoryError, Subject};

/// Where the bytes of its users begin: behind one page, on whatever machine.
pub(super) const DATA_AT: u64 = 64 << 10;
/// Counts up with every change of the layout, or of the locks on the file.
pub(super) const VERSION: u32 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"procshm\n");
/// Set: it stays when nobody uses it.
const PERSISTENT: u32 = 1;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Header {
    magic: u64,
    version: u32,
    flags: u32,
    size: u64,
    /// No other segment has it, of whatever name.
    pub(super) id: u64,
    pid: u32,
    zero: u32,
    birth: u64,
    namespace: u64,
    boot: [u64; 2],
    /// Seconds since 1970.
    pub(super) created: u64,
}

const FLAGS_AT: u64 = std::mem::offset_of!(Header, flags) as u64;

impl Header {
    /// Of a segment that this process makes.
    pub(super) fn new(size: u64, id: u64, persistent: bool) -> Self {
        let me = liveness::myself();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            magic: MAGIC,
            version: VERSION,
            flags: if persistent { PERSISTENT } else { 0 },
            size,
            id,
            pid: me.pid,
            zero: 0,
            birth: me.birth,
            namespace: me.namespace,
            boot: boot(),
            created: now.map_or(0, |since| since.as_secs()),
        }
    }

    pub(super) fn write(&self, file: impl AsFd) -> Result<(), Errno> {
        match pwrite(file, bytemuck::bytes_of(self), 0)? {
            length if length == size_of::<Self>() => Ok(()),
            _ => Err(Errno::IO),
        }
    }

    /// Of a file that says to be a segment. Its size is not looked at.
    pub(super) fn read(file: impl AsFd, subject: Subject<'_>) -> Result<Self, SharedMemoryError> {
        let mut header = Self::zeroed();
        let length =
            pread(file, bytemuck::bytes_of_mut(&mut header), 0).map_err(subject.failed("pread"))?;
        if length < size_of::<Self>() || header.magic != MAGIC {
            return Err(subject.foreign("it does not begin as a segment does"));
        }
        if header.version != VERSION {
            let (name, found) = (subject.name.to_owned(), header.version);
            return Err(SharedMemoryError::Version { name, found, ours: VERSION });
        }
        Ok(header)
    }

    /// Its size, after checking that the file has that.
    pub(super) fn size(&self, file: u64, subject: Subject<'_>) -> Result<usize, SharedMemoryError> {
        let expected = self.size.saturating_add(DATA_AT);
        match usize::try_from(self.size) {
            Ok(size) if size > 0 && expected == file => Ok(size),
            _ => {
                let name = subject.name.to_owned();
                Err(SharedMemoryError::Cut { name, expected, found: file })
            }
        }
    }

    pub(super) fn said_size(&self) -> u64 {
        self.size
    }

    pub(super) fn is_persistent(&self) -> bool {
        self.flags & PERSISTENT != 0
    }

    /// From now on it stays when nobody uses it. Nobody takes that back, so nothing is lost if two do this.
    pub(super) fn make_persistent(&self, file: impl AsFd) -> Result<(), Errno> {
        let flags = self.flags | PERSISTENT;
        pwrite(file, &flags.to_ne_bytes(), FLAGS_AT).map(drop)
    }

    pub(super) fn creator(&self) -> u32 {
        self.pid
    }

    /// Whether the process that made it still runs; unknown if it counts in another pid namespace.
    pub(super) fn creator_lives(&self) -> Option<bool> {
        let (then, now) = (self.boot, boot());
        if then != now && then != [0; 2] && now != [0; 2] {
            return Some(false);
        }
        let life = Life { pid: self.pid, birth: self.birth, namespace: self.namespace };
        match liveness::probe(life, liveness::namespace()) {
            Verdict::Alive => Some(true),
            Verdict::Dead => Some(false),
            Verdict::Unknown => None,
        }
    }
}

/// Which run of the machine this is; zero where nobody tells.
fn boot() -> [u64; 2] {
    static BOOT: OnceLock<[u64; 2]> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let half = |range| digits.get(range).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        [half(0..16).unwrap_or(0), half(16..32).unwrap_or(0)]
    })
}

/// Reads until `to` is full or the file ends; how many bytes.
pub(super) fn pread(file: impl AsFd, to: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < to.len() {
        match rustix::io::pread(&file, &mut to[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Writes all of it, or as much as goes; how many bytes.
pub(super) fn pwrite(file: impl AsFd, from: &[u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < from.len() {
        match rustix::io::pwrite(&file, &from[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}
