//! Whether the kernel killed a process because memory ran out.
//!
//! SIGKILL does not tell who sent it. But the memory cgroup counts the processes that were killed there for want of
//! memory. The counter is read when this process prepares for its first start, and whenever one of its processes was
//! ended by a SIGKILL that did not come from here: if it has grown, one of its new kills is taken to be this. That
//! is a hint and no proof: others in the same cgroup are counted too.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Seen {
    /// Whose look it was.
    pid: u32,
    counter: PathBuf,
    kills: u64,
}

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

fn seen() -> MutexGuard<'static, Option<Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes how many were killed until now. Four small files are read.
pub(super) fn begin() {
    *seen() = look();
}

/// Whether one more was killed than those that were accounted for.
pub(super) fn has_killed() -> bool {
    let now = look();
    let mut seen = seen();
    let (Some(now), Some(known)) = (now, &mut *seen) else { return false };
    if known.counter != now.counter || known.pid != now.pid {
        *seen = Some(now);
        return false;
    }
    let grown = now.kills > known.kills;
    if grown {
        known.kills += 1;
    }
    grown
}

fn look() -> Option<Seen> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let cgroups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let counter = locate(&cgroups, &mounts)?;
    let kills = parse(&read(&counter)?)?;
    Some(Seen { pid: std::process::id(), counter, kills })
}

/// The file that has the counter: of the memory controller of the first version, where that is in use, else of the second.
fn locate(cgroups: &str, mounts: &str) -> Option<PathBuf> {
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        cgroups.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            wanted(controllers).then_some(path)
        })
    };
    let has_memory = |list: &str| list.split(',').any(|word| word == "memory");
    match path_of(&has_memory) {
        Some(path) => {
            let mount = mounted(mounts, "cgroup", &has_memory, path)?;
            Some(mount.join("memory.oom_control"))
        }
        None => {
            let path = path_of(&str::is_empty)?;
            Some(mounted(mounts, "cgroup2", &|_| true, path)?.join("memory.events"))
        }
    }
}

/// The directory of the cgroup with this path, in the mount of this type whose options are `wanted`.
fn mounted(mounts: &str, kind: &str, wanted: &dyn Fn(&str) -> bool, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let mut what = what.split(' ');
        let (mount_kind, options) = (what.next()?, what.nth(1)?);
        if mount_kind != kind || !wanted(options) {
            return None;
        }
        let mut place = place.split(' ').skip(3);
        let (root, directory) = (place.next()?, Path::new(place.next()?));
        // What lies outside of the mount, as seen from inside of a container, cannot be read: the mount's own
        // directory is the nearest.
        let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let inside = if path.contains("..") { Path::new("") } else { inside };
        Some(directory.join(inside))
    })
}

fn parse(file: &str) -> Option<u64> {
    file.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const SECOND: &str =
        "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn both_versions_have_a_counter() {
        let path = |path| Some(PathBuf::from(path));
        assert_eq!(
            locate("4:memory:/a/b\n1:cpu:/\n0::/\n", FIRST),
            path("/sys/fs/cgroup/memory/a/b/memory.oom_control")
        );
        assert_eq!(
            locate("0::/user.slice/x\n", SECOND),
            path("/sys/fs/cgroup/user.slice/x/memory.events")
        );
        assert_eq!(locate("0::/../..\n", SECOND), path("/sys/fs/cgroup/memory.events"));
        let inner = FIRST.replace("0:32 / ", "0:32 /docker/1 ");
        assert_eq!(
            locate("4:cpu,memory:/docker/1/c\n", &inner),
            path("/sys/fs/cgroup/memory/c/memory.oom_control")
        );
        assert_eq!(locate("4:memory:/a\n", SECOND), None);
        assert_eq!(locate("", FIRST), None);
    }

    #[test]
    fn counters_are_lines_among_others() {
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse("low 0\noom 9\noom_kill 12\noom_group_kill 1\n"), Some(12));
        assert_eq!(parse("oom_kill_disable 0\n"), None);
    }
}
