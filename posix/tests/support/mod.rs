//! What tests with real processes share.

use std::time::Duration;

mod bound;

pub use bound::Bound;

pub const LONG: Duration = Duration::from_secs(60);
