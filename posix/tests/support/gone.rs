//! Whether a process has ended.

/// What is gone has no entry in /proc, or one as a zombie: who adopted it may take a while to reap.
pub fn gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}
