//! Under which terms a task is run.

use std::num::NonZeroU32;
use std::time::Duration;

/// What holds for a task beyond its function and arguments.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// How long one call may run, from the moment at which a worker begins it. A worker that is late is ended and
    /// replaced, and its task fails with `DeadlinePassed`.
    pub deadline: Option<Duration>,
    /// What happens when its worker dies.
    pub retry: Retry,
}

/// Whether a task whose worker died is run again.
///
/// A worker may die when it has done its work and before it could say so. So what is run again may have been done before:
/// **at least once**. Without a retry, which is the default, each task is run **at most once**, and a death is its error.
/// Only the caller knows whether doing it twice is as good as once, and says so by the name of this constructor.
///
/// ```
/// use procession_posix::pool::Retry;
/// use std::time::Duration;
///
/// // Three attempts in all, with 10 ms before the second one and 20 ms before the third.
/// let retry = Retry::idempotent(3).backoff(Duration::from_millis(10), 2, Duration::from_secs(1));
/// assert_eq!(retry.delay(1), Duration::from_millis(10));
/// assert_eq!(retry.delay(2), Duration::from_millis(20));
/// assert_eq!(retry.delay(60), Duration::from_secs(1));
/// assert_eq!(Retry::never().attempts(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    attempts: NonZeroU32,
    first: Duration,
    factor: u32,
    most: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry::never()
    }
}

impl Retry {
    /// A task whose worker dies fails.
    #[must_use]
    pub const fn never() -> Self {
        Self::idempotent(1)
    }

    /// The caller declares that doing it several times is as good as once: a task whose worker dies is run again, up to so
    /// many attempts in all (0 counts as 1), at once.
    #[must_use]
    pub const fn idempotent(attempts: u32) -> Self {
        let attempts = match NonZeroU32::new(attempts) {
            Some(attempts) => attempts,
            None => NonZeroU32::MIN,
        };
        Retry { attempts, first: Duration::ZERO, factor: 1, most: Duration::ZERO }
    }

    /// Waits before the second attempt for `first`, before each further one `factor` times as long, but never longer than
    /// `most`.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, factor: u32, most: Duration) -> Self {
        (self.first, self.factor, self.most) = (first, factor, most);
        self
    }

    /// How often it is run at most.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts.get()
    }

    /// How long is waited after so many attempts that failed.
    #[must_use]
    pub fn delay(&self, failed: u32) -> Duration {
        let factor = self.factor.saturating_pow(failed.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.most)
    }
}
