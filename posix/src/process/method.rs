//! How processes come to be, if nothing else is said.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use super::error::StartError;

/// How a process comes to be. See the [module](super).
///
/// As text it is `zygote`, `spawn` or `fork`; `forkserver`, as others call it, is read as `zygote`.
///
/// ```
/// use procession_posix::process::StartMethod;
///
/// assert_eq!("forkserver".parse(), Ok(StartMethod::Zygote));
/// assert_eq!(StartMethod::ALL.map(|method| method.to_string()), ["zygote", "spawn", "fork"]);
/// let error = "thread".parse::<StartMethod>().unwrap_err();
/// assert_eq!(error.to_string(), "`thread` is no start method; there are zygote (or forkserver), spawn and fork");
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[non_exhaustive]
pub enum StartMethod {
    /// Forked by a helper process that has one thread. The default.
    #[default]
    Zygote,
    /// Executed anew from the program's file, by the helper process.
    Spawn,
    /// Forked by the starting process, which must have one thread only. It has all that one had, also what was drawn at random:
    /// where the thread has used a `HashMap` before, those of all its forks have the same seeds (a new thread draws its own).
    Fork,
}

impl StartMethod {
    /// All methods, the default first.
    pub const ALL: [StartMethod; 3] = [StartMethod::Zygote, StartMethod::Spawn, StartMethod::Fork];
}

impl fmt::Display for StartMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StartMethod::Zygote => "zygote",
            StartMethod::Spawn => "spawn",
            StartMethod::Fork => "fork",
        })
    }
}

impl FromStr for StartMethod {
    type Err = UnknownMethod;

    fn from_str(word: &str) -> Result<StartMethod, UnknownMethod> {
        match word {
            "zygote" | "forkserver" => Ok(StartMethod::Zygote),
            "spawn" => Ok(StartMethod::Spawn),
            "fork" => Ok(StartMethod::Fork),
            _ => Err(UnknownMethod { word: word.into() }),
        }
    }
}

/// A word that should name a [`StartMethod`] and does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no start method; there are zygote (or forkserver), spawn and fork")]
pub struct UnknownMethod {
    /// The word.
    pub word: String,
}

/// Nothing was set.
const UNSET: u8 = u8::MAX;

static METHOD: AtomicU8 = AtomicU8::new(UNSET);

const VARIABLE: &str = "PROCESSION_START_METHOD";

/// Sets the method of all later starts that do not name one. Started processes inherit it.
///
/// It goes before the word in the environment, see [`start_method`].
///
/// ```
/// use procession_posix::process::{StartMethod, set_start_method, start_method};
/// set_start_method(StartMethod::Spawn);
/// assert_eq!(start_method(), StartMethod::Spawn);
/// ```
pub fn set_start_method(method: StartMethod) {
    // One word, and nothing else is published by it.
    METHOD.store(method as u8, Ordering::Relaxed);
}

/// The method of starts that do not name one: what was [set](set_start_method), else what
/// `PROCESSION_START_METHOD` in the environment says (`zygote`, `spawn` or `fork`), else [`StartMethod::Zygote`].
///
/// If the environment has another word there, this is the zygote, but a start that needs to know is an
/// error: [`StartError::Method`].
pub fn start_method() -> StartMethod {
    default_method().unwrap_or_default()
}

/// The same, with the error.
pub(super) fn default_method() -> Result<StartMethod, StartError> {
    let set = METHOD.load(Ordering::Relaxed);
    if let Some(method) = StartMethod::ALL.into_iter().find(|method| *method as u8 == set) {
        return Ok(method);
    }
    match std::env::var_os(VARIABLE) {
        Some(word) if !word.is_empty() => {
            word.to_string_lossy().parse().map_err(StartError::Method)
        }
        _ => Ok(StartMethod::default()),
    }
}
