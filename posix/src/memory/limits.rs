//! How much shared memory this process may have.

use rustix::process::{Resource, getrlimit};

/// The address space that an arena reserves where nothing limits it. Reserved is not used: pages come one by one.
const USUAL: u64 = 1 << 36;
/// The least that is worth trying.
pub const LEAST: u64 = 1 << 20;

/// How much address space to reserve: RLIMIT_AS would answer with an error, RLIMIT_FSIZE with a deadly signal.
pub fn reserve() -> u64 {
    let mut size = USUAL;
    if let Some(limit) = getrlimit(Resource::As).current {
        // The rest of the program needs room as well.
        size = size.min(limit / 4);
    }
    size.min(largest_file()) & !0xFFFF
}

/// How large a file this process may make.
pub fn largest_file() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

/// How much memory may be used: nine tenths of what the machine has, or of what the control group allows, where a full
/// machine would answer with the out-of-memory killer instead of an error.
pub fn budget() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1)));
    let least = group_limits().fold(machine, u64::min);
    least / 10 * 9
}

/// The limits of the memory control groups that this process is in, as far as they can be read.
fn group_limits() -> impl Iterator<Item = u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files: Vec<String> = groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let (root, leaf) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max"),
                list if list.split(',').any(|name| name == "memory") => {
                    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
                }
                _ => return None,
            };
            // In a container the path may count from outside: the root is then this process's own group.
            Some([format!("{root}{path}/{leaf}"), format!("{root}/{leaf}")])
        })
        .flatten()
        .collect();
    files.into_iter().filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok())
}
