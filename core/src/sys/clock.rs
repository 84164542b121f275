//! Time: the monotonic clock, and moments on it.

use core::time::Duration;

/// Nanoseconds of the monotonic clock. No system call where the kernel offers a vDSO.
#[must_use]
pub fn nanos() -> u64 {
    #[cfg(not(loom))]
    return super::linux::nanos();
    #[cfg(loom)]
    return 0;
}

/// Nanoseconds of the monotonic clock, up to some milliseconds old, at the price of a few loads.
#[must_use]
pub fn coarse_nanos() -> u64 {
    #[cfg(not(loom))]
    return super::linux::coarse_nanos();
    #[cfg(loom)]
    return 0;
}

/// When a wait gives up: a moment on the monotonic clock, so that a step of the wall clock changes nothing.
///
/// ```
/// use procession_core::sys::Deadline;
/// use core::time::Duration;
///
/// assert!(Deadline::NOW.is_past());
/// assert!(!Deadline::NEVER.is_past());
/// assert!(!Deadline::after(Duration::from_secs(60)).is_past());
/// assert!(Deadline::after(Duration::ZERO).is_past());
/// assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// Already past: the wait tries once.
    pub const NOW: Self = Self(0);
    /// Never: the wait ends with success or an error only.
    pub const NEVER: Self = Self(u64::MAX);

    /// So long from now; a duration that the clock cannot hold (584 years) means never.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        if duration.is_zero() {
            return Self::NOW;
        }
        match u64::try_from(duration.as_nanos()) {
            Ok(more) => Self(nanos().saturating_add(more)),
            Err(_) => Self::NEVER,
        }
    }

    /// `None` means never: the shape of a `timeout=None`.
    #[must_use]
    pub fn after_option(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::NEVER, Self::after)
    }

    /// The moment with this reading of the monotonic clock, in nanoseconds.
    #[must_use]
    pub const fn at_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// This moment as a reading of the monotonic clock, in nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whether the moment has come.
    #[must_use]
    pub fn is_past(self) -> bool {
        self.0 != u64::MAX && (self.0 == 0 || nanos() >= self.0)
    }

    /// How long until then: zero when past, `None` when never.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        (self.0 != u64::MAX).then(|| Duration::from_nanos(self.0.saturating_sub(nanos())))
    }

    /// The earlier of this moment and `slice` from now.
    #[must_use]
    pub fn sliced(self, slice: Duration) -> Self {
        self.min(Self::after(slice))
    }
}
