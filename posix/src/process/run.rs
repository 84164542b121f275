//! Process types of one's own.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::Process;
use super::error::StartError;
use super::handle::Child;
use super::target::Target;

/// A type whose values are processes to be: what such a value holds crosses to the new process, and [`run`](Run::run) is
/// called there.
///
/// A process without a name is called by its type: `Greeter-1`, `Greeter-2`. The type's name is cut where its
/// parameters begin.
///
/// ```
/// use procession_posix::process::{Run, current_process};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greeter {
///     whom: String,
/// }
///
/// impl Run for Greeter {
///     type Output = String;
///
///     fn run(self) -> String {
///         format!("{} greets {}", current_process().name, self.whom)
///     }
/// }
///
/// let child = Greeter { whom: "you".into() }.start()?;
/// assert_eq!(child.join()?, "Greeter-1 greets you");
/// let child = Greeter { whom: "me".into() }.process().name("Anna").daemon(true).start()?;
/// assert_eq!(child.join()?, "Anna greets me");
/// assert_eq!(Greeter { whom: "all".into() }.run(), "MainProcess greets all");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Run: Serialize + DeserializeOwned + 'static {
    /// What [`run`](Run::run) returns, and [`Child::join`] hands out.
    type Output: Serialize + DeserializeOwned;

    /// What the process does. Called here it runs here.
    fn run(self) -> Self::Output;

    /// The process that will do it, to say more of it before it is started.
    fn process(self) -> Process<impl Target<(Self,), Output = Self::Output>, (Self,)> {
        Process::new(Self::run, (self,)).kind(short_name::<Self>())
    }

    /// Starts a process that does it.
    ///
    /// # Errors
    /// As [`Process::start`].
    fn start(self) -> Result<Child<Self::Output>, StartError> {
        self.process().start()
    }
}

/// `Greeter` of `program::people::Greeter<program::Language>`.
fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn names_of_types_are_short() {
        assert_eq!(short_name::<u8>(), "u8");
        assert_eq!(short_name::<Vec<Option<String>>>(), "Vec");
        assert_eq!(short_name::<std::sync::PoisonError<u8>>(), "PoisonError");
    }
}
