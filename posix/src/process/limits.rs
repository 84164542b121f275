//! What a process may use: the kernel's resource limits, and the CPUs that it may run on.

use super::error::StartError;

/// A resource that the kernel limits for each process, see getrlimit(2).
///
/// ```
/// use procession_posix::process::{Process, Resource};
///
/// let open = || {
///     let files: Vec<_> = (0..100).map_while(|_| std::fs::File::open("/dev/null").ok()).collect();
///     files.len()
/// };
/// let child = Process::new(open, ()).limit(Resource::OpenFiles, 30, 30).start()?;
/// assert!(child.join()? < 30);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of address space (`RLIMIT_AS`). The arena of a tree reserves 64 GiB of it, of which most is never used.
    AddressSpace,
    /// Bytes of a core file (`RLIMIT_CORE`).
    CoreFile,
    /// Seconds of processor time (`RLIMIT_CPU`): SIGXCPU at the soft limit, SIGKILL at the hard one.
    ProcessorTime,
    /// Bytes of private memory (`RLIMIT_DATA`).
    Data,
    /// Bytes of a file that is written (`RLIMIT_FSIZE`).
    FileSize,
    /// Bytes that are locked into memory (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// Bytes of POSIX message queues of the user (`RLIMIT_MSGQUEUE`).
    MessageQueues,
    /// Twenty minus the least niceness (`RLIMIT_NICE`).
    Niceness,
    /// One more than the highest number of a descriptor (`RLIMIT_NOFILE`).
    OpenFiles,
    /// Processes and threads of the user (`RLIMIT_NPROC`). Does not hold for root.
    Processes,
    /// The highest priority under real-time scheduling (`RLIMIT_RTPRIO`).
    RealtimePriority,
    /// Microseconds under real-time scheduling without a system call (`RLIMIT_RTTIME`).
    RealtimeTime,
    /// Signals of the user that are queued (`RLIMIT_SIGPENDING`).
    PendingSignals,
    /// Bytes of the first thread's stack (`RLIMIT_STACK`).
    Stack,
}

impl Resource {
    /// The limit that is none.
    pub const UNLIMITED: u64 = libc::RLIM_INFINITY;

    /// The kernel's number.
    pub(super) fn number(self) -> u32 {
        use Resource::*;
        // The C library's numbers are of one type or another.
        let number = match self {
            AddressSpace => libc::RLIMIT_AS,
            CoreFile => libc::RLIMIT_CORE,
            ProcessorTime => libc::RLIMIT_CPU,
            Data => libc::RLIMIT_DATA,
            FileSize => libc::RLIMIT_FSIZE,
            LockedMemory => libc::RLIMIT_MEMLOCK,
            MessageQueues => libc::RLIMIT_MSGQUEUE,
            Niceness => libc::RLIMIT_NICE,
            OpenFiles => libc::RLIMIT_NOFILE,
            Processes => libc::RLIMIT_NPROC,
            RealtimePriority => libc::RLIMIT_RTPRIO,
            RealtimeTime => libc::RLIMIT_RTTIME,
            PendingSignals => libc::RLIMIT_SIGPENDING,
            Stack => libc::RLIMIT_STACK,
        };
        number as _
    }
}

/// Checks what can be known before the start.
pub(super) fn check_limit(resource: Resource, soft: u64, hard: u64) -> Result<(), StartError> {
    if soft <= hard {
        return Ok(());
    }
    let reason = format!("of {resource:?}, the soft limit {soft} is above the hard limit {hard}");
    Err(StartError::Choice { what: "resource limit", reason })
}

/// The words of a CPU mask.
pub(super) fn cpu_mask(cpus: &[usize]) -> Result<Vec<u64>, StartError> {
    /// The kernel can be built for 8,192.
    const MOST: usize = 1 << 13;
    let refuse = |reason| StartError::Choice { what: "CPU affinity", reason };
    let Some(last) = cpus.iter().max() else {
        return Err(refuse("it is empty, and a process needs a CPU".into()));
    };
    if *last >= MOST {
        return Err(refuse(format!("there is no CPU {last}; they are counted from 0")));
    }
    let mut words = vec![0; last / 64 + 1];
    for cpu in cpus {
        words[cpu / 64] |= 1 << (cpu % 64);
    }
    Ok(words)
}

/// How many CPUs this process may use at a time: those of its affinity, and no more than the quota of its control
/// groups allows; 1 where nothing can be known.
///
/// Asked anew at each call, which reads some files where there are control groups: keep the answer.
///
/// ```
/// assert!(procession_posix::process::cpu_count() >= 1);
/// ```
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_bits_of_words() {
        assert_eq!(cpu_mask(&[0, 2, 2]).unwrap(), [5]);
        assert_eq!(cpu_mask(&[64, 1]).unwrap(), [2, 1]);
        assert!(cpu_mask(&[]).is_err() && cpu_mask(&[1 << 13]).is_err());
    }

    #[test]
    fn limits_are_in_order() {
        assert!(check_limit(Resource::Stack, 1, 1).is_ok());
        assert!(check_limit(Resource::Stack, Resource::UNLIMITED, 1).is_err());
    }
}
