//! What there is to know of a segment from outside.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use procession_core::sys::liveness;
use rustix::fs::Stat;

use super::header::Header;

/// A segment as [`SharedMemory::segments`](super::SharedMemory::segments) found it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// Its name.
    pub name: String,
    /// How many bytes its users have.
    pub size: u64,
    /// The process id of its creator, as that saw it.
    pub creator: u32,
    /// Whether its creator still runs. `None`: it counts in another pid namespace, and cannot be asked.
    pub creator_lives: Option<bool>,
    /// When it was made.
    pub created: SystemTime,
    /// The user that it belongs to.
    pub uid: u32,
    /// Who may read and write it, as `chmod` counts.
    pub mode: u32,
    /// Whether it was made to stay when nobody uses it.
    pub persistent: bool,
    /// Whether any process has it attached, its creator included.
    pub in_use: bool,
    device: u64,
    inode: u64,
}

impl Segment {
    pub(super) fn new(name: &str, header: &Header, in_use: bool, stat: &Stat) -> Self {
        Self {
            name: name.to_owned(),
            size: header.said_size(),
            creator: header.creator(),
            creator_lives: header.creator_lives(),
            created: UNIX_EPOCH + Duration::from_secs(header.created.min(1 << 40)),
            uid: stat.st_uid,
            mode: stat.st_mode & 0o777,
            persistent: header.is_persistent(),
            in_use,
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }

    /// Whether nobody uses it, and nobody asked for it to stay: whoever was to unlink it is gone.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        !self.in_use && !self.persistent
    }

    /// The process ids of those who have it mapped, as far as this process may see that: its own user's, or as root
    /// everybody's. Reads `/proc/PID/maps` of every process: some tens of microseconds each.
    #[must_use]
    pub fn users(&self) -> Vec<u32> {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let maps = |pid: &u32| liveness::still_maps(*pid, self.device, self.inode) == Some(true);
        let mut users: Vec<u32> = pids.filter(maps).collect();
        users.sort_unstable();
        users
    }
}
