//! What is worth a line in a log, as `tracing` events; without the feature nothing is compiled in.

use super::StartMethod;

/// This process has started another.
pub(super) fn started(name: &str, pid: u32, method: StartMethod) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "procession", name, pid, %method, "process started");
    #[cfg(not(feature = "tracing"))]
    let _ = (name, pid, method);
}

/// This process has learned how one that it started has ended.
pub(super) fn ended(name: &str, pid: u32, exitcode: i32) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "procession", name, pid, exitcode, "process ended");
    #[cfg(not(feature = "tracing"))]
    let _ = (name, pid, exitcode);
}

/// This process was started, and calls its target.
pub(super) fn begins() {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "procession", "calling the target");
}

/// Its target is done.
pub(super) fn ends(code: i32) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "procession", code, "ending");
    #[cfg(not(feature = "tracing"))]
    let _ = code;
}

/// There is a zygote now; `anew` if there was one before.
pub(super) fn zygote(pid: u32, anew: bool) {
    #[cfg(feature = "tracing")]
    if anew {
        tracing::info!(target: "procession", pid, "zygote made anew");
    } else {
        tracing::debug!(target: "procession", pid, "zygote made");
    }
    #[cfg(not(feature = "tracing"))]
    let _ = (pid, anew);
}
