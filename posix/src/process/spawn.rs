//! Executing this program again, as something else than its `main`.
//!
//! An entry in `.init_array` runs before `main` in every program that can start processes. It looks for a
//! mark in the environment, and without one (one look, 20 ns) it returns. With the mark
//! the process never comes to `main`: it becomes a zygote, or a started process. First it runs the entries
//! behind its own, as the loader would have, so that everything is set up as in `main`.
//!
//! The mark names the offset of this very entry, for a program may hold two versions of this crate, and it
//! is removed at once, so that programs that are executed from here do not inherit it.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::raw::{c_char, c_int};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use super::child::{Child, Delivery, Letter};
use super::image::image;
use super::status::Records;
use super::{wire, zygote};

const MARK: &str = "PROCESSION_START";
/// What other builds of this crate know each other by.
const RELEASE: &str = concat!("release ", env!("CARGO_PKG_VERSION"));

type Init = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

#[used]
#[unsafe(link_section = ".init_array")]
static ENTRY: Init = entry;

unsafe extern "C" {
    /// Like getenv, but without answer in programs that gained rights by being executed.
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// What an executed program is to become.
#[derive(Debug, PartialEq)]
pub(crate) enum Role {
    /// Holds descriptors on their way; the socket of its process is its standard input.
    Keeper,
    /// The parent of processes to come; the socket of its starter is its standard input.
    Zygote,
    /// A started process, with the descriptors that it inherits by their numbers.
    Child(Inherited),
}

/// The numbers of what a started process inherits over exec.
#[derive(Debug, PartialEq, Clone, Copy)]
pub(crate) struct Inherited {
    pub(super) letter: RawFd,
    pub(super) records: RawFd,
    pub(super) reports: RawFd,
    pub(super) cwd: RawFd,
    pub(super) parent: RawFd,
    /// -1: there is no arena.
    pub(super) arena: RawFd,
    pub(super) slot: u32,
    /// The process id of the zygote.
    pub(super) guardian: u32,
}

impl Role {
    /// The mark that makes an execution take this role.
    ///
    /// It names the entry that is meant, in another build by the release of this crate.
    pub(super) fn mark(&self, same_build: bool) -> Vec<u8> {
        let here = image().offset_of(&raw const ENTRY as usize, size_of::<Init>()).unwrap_or(0);
        let here = if same_build { format!("{here:x}") } else { RELEASE.into() };
        let text = match self {
            Role::Zygote => format!("{MARK}={here}:zygote"),
            Role::Keeper => format!("{MARK}={here}:keeper"),
            Role::Child(child) => {
                let Inherited { letter, records, reports, cwd, parent, arena, slot, guardian } =
                    child;
                let fds = format!("{letter}:{records}:{reports}:{cwd}:{parent}:{arena}");
                format!("{MARK}={here}:child:{fds}:{slot}:{guardian}")
            }
        };
        text.into_bytes()
    }

    fn parse(mark: &[u8]) -> Option<Role> {
        let mut parts = std::str::from_utf8(mark).ok()?.split(':');
        let here = image().offset_of(&raw const ENTRY as usize, size_of::<Init>())?;
        let named = parts.next()?;
        if named != RELEASE && u64::from_str_radix(named, 16).ok()? != here {
            return None;
        }
        let role = parts.next()?;
        let mut number = || parts.next()?.parse::<i32>().ok();
        match role {
            "zygote" => Some(Role::Zygote),
            "keeper" => Some(Role::Keeper),
            "child" => Some(Role::Child(Inherited {
                letter: number()?,
                records: number()?,
                reports: number()?,
                cwd: number()?,
                parent: number()?,
                arena: number()?,
                slot: u32::try_from(number()?).ok()?,
                guardian: u32::try_from(number()?).ok()?,
            })),
            _ => None,
        }
    }
}

extern "C" fn entry(argc: c_int, argv: *const *const c_char, envp: *const *const c_char) {
    const NAME: &[u8] = b"PROCESSION_START\0";
    // SAFETY: the name ends with a zero byte; no other thread runs before main.
    let mark = unsafe { secure_getenv(NAME.as_ptr().cast()) };
    if mark.is_null() {
        return;
    }
    // SAFETY: a value of the environment is a string with a zero byte, and stays until it is removed.
    let mark = unsafe { std::ffi::CStr::from_ptr(mark) }.to_bytes();
    let Some(role) = Role::parse(mark) else { return };
    // SAFETY: no other thread runs before main.
    unsafe { std::env::remove_var(MARK) };
    run_entries_behind(argc, argv, envp);
    match role {
        Role::Zygote => zygote::serve_executed(),
        Role::Keeper => crate::descriptor::keeper::serve(),
        Role::Child(inherited) => run_child(inherited),
    }
}

/// Calls what the loader would have called after this entry.
fn run_entries_behind(argc: c_int, argv: *const *const c_char, envp: *const *const c_char) {
    let end: usize;
    // SAFETY: loads the address of a symbol that the linker makes, or 0; touches nothing else.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            ".weak __init_array_end",
            "mov {0}, qword ptr [rip + __init_array_end@GOTPCREL]",
            out(reg) end,
            options(nostack, readonly, preserves_flags),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            ".weak __init_array_end",
            "adrp {0}, :got:__init_array_end",
            "ldr {0}, [{0}, :got_lo12:__init_array_end]",
            out(reg) end,
            options(nostack, readonly, preserves_flags),
        );
    }
    let mut at = &raw const ENTRY as usize + size_of::<Init>();
    while at + size_of::<Init>() <= end {
        // SAFETY: the words between our entry and the end of the array are entries of the array.
        let word = unsafe { (at as *const usize).read() };
        if image().holds_code(word) {
            // SAFETY: an entry of the array is a function with this signature, to be called once
            // in this order; the loader will not, for this process never returns to it.
            let init = unsafe { std::mem::transmute::<usize, Init>(word) };
            init(argc, argv, envp);
        }
        at += size_of::<Init>();
    }
}

/// The life of a process that was started by [`StartMethod::Spawn`](super::StartMethod::Spawn).
fn run_child(inherited: Inherited) -> ! {
    use std::process::exit;
    let Inherited { letter, records, reports, cwd, parent, arena, slot, guardian } = inherited;
    // SAFETY: the zygote handed these descriptors to this process, which is their owner.
    let [letter, records, reports, cwd, parent] =
        [letter, records, reports, cwd, parent].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: as above.
    let arena = (arena >= 0).then(|| unsafe { OwnedFd::from_raw_fd(arena) });
    for fd in [&records, &reports, &parent].into_iter().chain(&arena) {
        // A descriptor that leaks into programs executed from here would be the only harm.
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
    let Ok(records) = Records::attach(records) else { exit(super::child::NOT_BEGUN) };
    let records = Box::leak(Box::new(records));
    let Some(place) = records.slot(slot) else { exit(super::child::NOT_BEGUN) };
    let prepared = (|| {
        let body = wire::read_letter(&letter).map_err(|error| error.to_string())?;
        drop(letter);
        let (mut letter, args) =
            postcard::take_from_bytes::<Letter>(&body).map_err(|error| error.to_string())?;
        letter.changes.environment_is_set();
        rustix::process::fchdir(&cwd).map_err(|error| error.to_string())?;
        drop(cwd);
        let args = args.to_vec();
        if let Some(arena) = arena {
            crate::memory::adopt(arena).map_err(|error| error.to_string())?;
        }
        Ok::<_, String>((letter, args))
    })();
    let child = Child {
        slot: place,
        delivery: Delivery::Report { socket: reports, slot },
        guardian: Some(guardian),
        parent: Arc::new(parent),
        known: None,
        leave: |code| exit(code),
    };
    match prepared {
        Ok((letter, args)) => child.run(letter, &args),
        Err(message) => child.refuse(&message),
    }
}

/// A program, and the descriptors that it begins with.
pub(crate) struct Execution {
    actions: libc::posix_spawn_file_actions_t,
    /// None: this program.
    program: Option<CString>,
}

impl Execution {
    pub(crate) fn new() -> io::Result<Execution> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the call initialises the actions, or says that it did not.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: initialised just above.
        Ok(Execution { actions: unsafe { actions.assume_init() }, program: None })
    }

    /// Executes the program in this file instead of this one.
    pub(crate) fn program(&mut self, path: &Path) -> io::Result<()> {
        self.program = Some(CString::new(path.as_os_str().as_bytes())?);
        Ok(())
    }

    /// The program gets `fd` under the number `to`; the same number keeps it open.
    pub(crate) fn pass(&mut self, fd: BorrowedFd, to: RawFd) -> io::Result<()> {
        let actions = &raw mut self.actions;
        // SAFETY: the actions are initialised.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(actions, fd.as_raw_fd(), to) })
    }

    /// Executes the program with this one's arguments, an environment and a mark, all signals blocked.
    pub(crate) fn run(self, environment: &[u8], role: &Role) -> io::Result<u32> {
        let args: Vec<CString> =
            std::env::args_os().filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
        let mark = role.mark(self.program.is_none());
        let entries: Vec<CString> = environment
            .split(|byte| *byte == 0)
            // A mark that somebody else put there would be found first.
            .filter(|entry| !is_mark(entry))
            .chain([&*mark])
            .filter(|entry| !entry.is_empty())
            .filter_map(|entry| CString::new(entry).ok())
            .collect();
        let pointers = |strings: &[CString]| -> Vec<*mut c_char> {
            let pointers = strings.iter().map(|string| string.as_ptr().cast_mut());
            pointers.chain([std::ptr::null_mut()]).collect()
        };
        let (argv, envp) = (pointers(&args), pointers(&entries));
        let mut pid = 0;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the call initialises the attributes, or says that it did not.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialised, the set is filled before it is used; the strings
        // and the arrays, which end with null, outlive the call.
        let result = unsafe {
            let mut all = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigfillset(all.as_mut_ptr());
            libc::posix_spawnattr_setsigmask(attributes, all.as_ptr());
            libc::posix_spawnattr_setflags(attributes, libc::POSIX_SPAWN_SETSIGMASK as _);
            let path = self.program.as_deref().unwrap_or(c"/proc/self/exe").as_ptr();
            let actions = &raw const self.actions;
            libc::posix_spawn(&mut pid, path, actions, attributes, argv.as_ptr(), envp.as_ptr())
        };
        // SAFETY: initialised above, and not used after.
        unsafe { libc::posix_spawnattr_destroy(attributes) };
        check(result)?;
        Ok(pid as u32)
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.actions) };
    }
}

fn is_mark(entry: &[u8]) -> bool {
    entry.strip_prefix(MARK.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
}

fn check(error: c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Whether the kernel made this program ignore its environment.
pub(super) fn is_privileged() -> bool {
    // SAFETY: reads a word that the kernel gave to this program.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_the_role_and_nothing_else_does() {
        let child = Role::Child(Inherited {
            letter: 3,
            records: 4,
            reports: 5,
            cwd: 6,
            parent: 7,
            arena: -1,
            slot: 70_000,
            guardian: 1234,
        });
        for role in [Role::Zygote, child] {
            for same_build in [true, false] {
                let mark = role.mark(same_build);
                let value = &mark[MARK.len() + 1..];
                assert_eq!(Role::parse(value).as_ref(), Some(&role));
                assert_eq!(Role::parse(&value[1..]), None);
            }
        }
        for other in ["", "1", "zygote", "0:zygote", "0:child", ":::", "release 0.0.0:zygote"] {
            assert_eq!(Role::parse(other.as_bytes()), None);
        }
    }
}
