//! What is said of a process before it is started.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::child::Letter;
use super::error::StartError;
use super::handle::Child;
use super::life::Life;
use super::limits::{Resource, check_limit, cpu_mask};
use super::method::{StartMethod, default_method};
use super::starter::{Request, Starter};
use super::state::{Changes, Environment, Overrides};
use super::stdio::{Places, Stdio};
use super::target::{Target, Wanted};
use super::{Names, children, fork, names, news};
use crate::channel::luggage::Packing;

/// A process to be started: its target and arguments, and how it is to run.
///
/// What is not said here is as the starter has it at the moment of the start.
///
/// ```
/// use procession_posix::process::{Process, current_process};
///
/// let child = Process::new(|| current_process().name, ()).name("echo").start()?;
/// assert_eq!(child.join()?, "echo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing runs before `start`"]
pub struct Process<F, Args> {
    target: F,
    args: Args,
    options: Options,
}

/// The target of a process that is started by its name, see [`Process::named`].
#[derive(Debug, Clone)]
pub struct Named<R> {
    name: String,
    output: PhantomData<fn() -> R>,
}

/// What was chosen, whatever runs.
#[derive(Debug, Clone, Default)]
struct Options {
    kind: Option<&'static str>,
    name: Option<String>,
    daemon: Option<bool>,
    allow_children: bool,
    deadline: Option<Duration>,
    method: Option<StartMethod>,
    environment: Option<Environment>,
    directory: Option<PathBuf>,
    streams: [Stdio; 3],
    affinity: Option<Vec<usize>>,
    limits: Vec<(Resource, u64, u64)>,
}

impl<F, Args> fmt::Debug for Process<F, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("target", &std::any::type_name::<F>())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<F, Args> Process<F, Args>
where
    F: Target<Args>,
{
    /// A process that will call `target` with `args`, a tuple: `()`, `(a,)`, `(a, b)`, ...
    pub fn new(target: F, args: Args) -> Self {
        Process { target, args, options: Options::default() }
    }

    /// Calls the target here and now, in this process, and returns its result. Nothing else of what was said
    /// holds: it is for tests, and for those who want to choose late.
    ///
    /// ```
    /// use procession_posix::process::Process;
    ///
    /// assert_eq!(Process::new(|a: u32, b: u32| a + b, (2, 3)).run(), 5);
    /// ```
    pub fn run(self) -> F::Output {
        // SAFETY: `new` was given a value.
        unsafe { F::call(self.args) }
    }

    /// Starts the process. The arguments are dropped here when it exists.
    ///
    /// # Errors
    /// See [`StartError`]. After an error nothing runs: a start that failed halfway is taken back.
    pub fn start(self) -> Result<Child<F::Output>, StartError> {
        let wanted = Wanted {
            name: F::ENTRY.type_name(),
            args: std::any::type_name::<Args>(),
            output: std::any::type_name::<F::Output>(),
            entry: Some(F::ENTRY),
        };
        start(wanted, self.options, || F::encode(&self.args))
    }
}

impl Process<(), ()> {
    /// A process that will call the target of this name with `args`, a tuple, wherever it runs: in the program
    /// that [`set_executable`](super::set_executable) named, or else in this one, if that
    /// [exports](crate::export_target) it. `R` is what the target returns.
    ///
    /// The name is that of the function's type, `crate::module::function`. The types of the arguments and the
    /// result are compared by their names; where they differ, or there is no such target, the process does not
    /// begin: [`JoinError::NotBegun`](super::JoinError::NotBegun).
    pub fn named<R, Args>(name: impl Into<String>, args: Args) -> Process<Named<R>, Args> {
        let target = Named { name: name.into(), output: PhantomData };
        Process { target, args, options: Options::default() }
    }
}

impl<R, Args: Serialize> Process<Named<R>, Args> {
    /// Starts the process. The arguments are dropped here when it exists.
    ///
    /// # Errors
    /// See [`StartError`]. After an error nothing runs: a start that failed halfway is taken back.
    pub fn start(self) -> Result<Child<R>, StartError> {
        let wanted = Wanted {
            name: &self.target.name,
            args: std::any::type_name::<Args>(),
            output: std::any::type_name::<R>(),
            entry: None,
        };
        let encode = || postcard::to_stdvec(&self.args).map_err(|error| error.to_string());
        start(wanted, self.options, encode)
    }
}

impl<F, Args> Process<F, Args> {
    /// What a process without a name is called by, instead of `Process`.
    pub(super) fn kind(mut self, kind: &'static str) -> Self {
        self.options.kind = Some(kind);
        self
    }

    /// Names the process; what [`current_process`](super::current_process) and, cut to 15 bytes, `ps` and `top`
    /// show. Without it: `Process-1`, `Process-2`, and for their children `Process-2:1`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Whether the process ends with the one that started it. Without it: as that one.
    ///
    /// When its starter ends in order, it gets SIGTERM, and after a grace of 2 s SIGKILL. When its starter dies in any
    /// other way, it is killed by the kernel or the zygote, without a chance to clean up. A daemon that
    /// changes its user or group loses the kernel's part of this. One that was forked from the starter itself
    /// ([`StartMethod::Fork`](super::StartMethod::Fork)) is killed when the thread that started it ends; with the other
    /// methods it lives on as long as the process does. A daemon may not have children, unless it is
    /// [allowed to](Process::allow_children).
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.options.daemon = Some(daemon);
        self
    }

    /// Whether the process may start processes itself, if it is a daemon. Without it it may not: it can be killed
    /// at any moment, and its children would be left to themselves. Other processes always may.
    pub fn allow_children(mut self, allowed: bool) -> Self {
        self.options.allow_children = allowed;
        self
    }

    /// Has the kernel kill the process if it is still there after this time, counted from when its target begins:
    /// [`JoinError::DeadlinePassed`](super::JoinError::DeadlinePassed). That holds whatever happens to the starter,
    /// and whatever the process does, but for one thing: a program that it executes in its own place (`exec`) has no
    /// deadline. Processes that it has started itself have none either; its daemons end with it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession_posix::process::{JoinError, Process};
    ///
    /// let child = Process::new(std::thread::park, ()).deadline(Duration::from_millis(20)).start()?;
    /// assert!(matches!(child.join(), Err(JoinError::DeadlinePassed { .. })));
    /// assert_eq!(child.exitcode(), Some(-9));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// How the process comes to be. Without it: as [`start_method`](super::start_method) says.
    pub fn method(mut self, method: StartMethod) -> Self {
        self.options.method = Some(method);
        self
    }

    /// Sets a variable of the environment.
    ///
    /// ```
    /// use procession_posix::process::Process;
    ///
    /// let child = Process::new(|| std::env::var("COLOUR").ok(), ()).env("COLOUR", "blue").start()?;
    /// assert_eq!(child.join()?.as_deref(), Some("blue"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.edit(name.as_ref(), Some(value.as_ref()));
        self
    }

    /// Sets variables of the environment.
    pub fn envs<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        for (name, value) in variables {
            self.edit(name.as_ref(), Some(value.as_ref()));
        }
        self
    }

    /// Takes a variable out of the environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.edit(name.as_ref(), None);
        self
    }

    /// Begins with an empty environment: nothing of the starter's, and what is set after this.
    pub fn env_clear(mut self) -> Self {
        self.options.environment = Some(Environment { clear: true, edits: Vec::new() });
        self
    }

    fn edit(&mut self, name: &OsStr, value: Option<&OsStr>) {
        let environment = self.options.environment.get_or_insert_default();
        environment.edits.push((name.into(), value.map(OsString::from)));
    }

    /// The working directory. It is opened by [`start`](Process::start), relative to the starter's own.
    pub fn current_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.directory = Some(path.into());
        self
    }

    /// What the process reads as its standard input. If it is forked from the starter, it reads first what the
    /// starter's `std::io::stdin` had read ahead, as it has all of the starter's memory.
    ///
    /// ```
    /// use std::io::Write;
    /// use procession_posix::process::{Process, Stdio};
    ///
    /// let count = || std::io::stdin().lines().count();
    /// let child = Process::new(count, ()).stdin(Stdio::Piped).start()?;
    /// child.take_stdin().ok_or("it is piped")?.write_all(b"one\ntwo\n")?;
    /// assert_eq!(child.join()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Self {
        self.options.streams[0] = stream.into();
        self
    }

    /// Where the standard output of the process goes. See [`Stdio`].
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Self {
        self.options.streams[1] = stream.into();
        self
    }

    /// Where the standard error of the process goes. See [`Stdio`].
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Self {
        self.options.streams[2] = stream.into();
        self
    }

    /// The CPUs that the process may run on, counted from 0; those that this machine lacks do not matter, if
    /// one is left. If none is, the process does not begin: [`JoinError::NotBegun`](super::JoinError::NotBegun).
    ///
    /// ```
    /// use procession_posix::process::{Process, cpu_count};
    ///
    /// let child = Process::new(cpu_count, ()).affinity([0]).start()?;
    /// assert_eq!(child.join()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn affinity(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.options.affinity = Some(cpus.into_iter().collect());
        self
    }

    /// Limits what the process and its children may use, from its beginning. Only root can set a hard limit
    /// above the starter's: else the process does not begin, [`JoinError::NotBegun`](super::JoinError::NotBegun).
    pub fn limit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.options.limits.retain(|(other, ..)| *other != resource);
        self.options.limits.push((resource, soft, hard));
        self
    }
}

/// Starts what is wanted.
fn start<R>(
    wanted: Wanted,
    options: Options,
    encode: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<Child<R>, StartError> {
    let by_default = default_method();
    let handed_on = *by_default.as_ref().unwrap_or(&StartMethod::default());
    let method = options.method.map_or(by_default, Ok)?;
    let overrides = options.overrides()?;
    let (places, pipes) = Places::open(&options.streams, options.directory.as_deref())?;
    let packing = Packing::begin();
    let encoded = encode().map_err(|message| {
        let target = wanted.name.to_owned();
        StartError::Arguments { target, message }
    })?;
    // If nothing comes of it, it goes back.
    let luggage = packing.end();
    let starter = Starter::get()?;
    children::sweep();
    let _starting = children::starting();
    let kind = options.kind.unwrap_or("Process");
    let allowed = options.allow_children;
    let mut birth = names::next_birth(options.name, kind, options.daemon, allowed)?;
    birth.deadline = options.deadline;
    let names = Names { birth, method: handed_on };
    let (name, daemon) = (names.birth.name.clone(), names.birth.daemon);
    if method == StartMethod::Fork {
        let aim = wanted.aim(true)?;
        let mut changes = Changes::default();
        let edited = overrides.environment.is_some();
        let inherited = if edited { super::environment() } else { Vec::new() };
        changes.override_by(&overrides, || &inherited);
        let letter = Letter { aim, birth: names.birth, method: names.method, changes };
        let slot = starter.slots.take()?;
        let (forked, pipes) =
            fork::fork(starter, slot, wanted.entry, letter, &encoded, places, pipes)
                .inspect_err(|_| starter.slots.give_back(slot, true))?;
        news::started(&name, forked.pid, method);
        let child = Child::of(Life::forked(name, daemon, starter.slots.clone(), slot, forked));
        return Ok(child.with_pipes(pipes).with(luggage));
    }
    let request = Request {
        target: wanted,
        args: &encoded,
        names: &names,
        places: &places,
        overrides: &overrides,
        execute: method == StartMethod::Spawn,
    };
    let started = starter.start(request)?;
    news::started(&name, started.pid, method);
    let child = Child::of(Life::started(name, daemon, starter.slots.clone(), started));
    Ok(child.with_pipes(pipes).with(luggage))
}

impl Options {
    /// Checks what can be checked before the start.
    fn overrides(&self) -> Result<Overrides, StartError> {
        let edits = self.environment.iter().flat_map(|environment| &environment.edits);
        for (name, value) in edits {
            let (bytes, value) = (name.as_bytes(), value.as_deref().unwrap_or_default().as_bytes());
            if bytes.is_empty()
                || bytes[1..].contains(&b'=')
                || [bytes, value].concat().contains(&0)
            {
                let reason = format!(
                    "the name {name:?} is empty or has a `=`, or it or its value has a zero byte"
                );
                return Err(StartError::Choice { what: "environment", reason });
            }
        }
        for (resource, soft, hard) in &self.limits {
            check_limit(*resource, *soft, *hard)?;
        }
        let limits = self.limits.iter().map(|(of, soft, hard)| (of.number(), *soft, *hard));
        Ok(Overrides {
            environment: self.environment.clone(),
            affinity: self.affinity.as_deref().map(cpu_mask).transpose()?,
            limits: limits.collect(),
        })
    }
}
