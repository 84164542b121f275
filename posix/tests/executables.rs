//! Programs that new processes are executed from: copies, other builds, and files that are none of ours.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use procession_posix::channel::Queue;
use procession_posix::process::{
    JoinError, Process, StartError, StartMethod, executable, keep_warm, set_executable,
};
use support::{Bound, LONG};

/// The methods that execute.
const EXECUTING: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

/// Held while a program is written or executed by this process: until it has executed its own program, a child
/// holds what its parent was just writing, and a file that somebody writes cannot be executed.
static WRITING: Mutex<()> = Mutex::new(());

fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory that is gone when the test ends.
struct Workshop(PathBuf);

impl Workshop {
    fn new(name: &str) -> Workshop {
        let path = std::env::temp_dir().join(format!("procession-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Workshop(path)
    }

    /// A copy of this program.
    fn copy(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        let _writing = writing();
        std::fs::copy("/proc/self/exe", &path).unwrap();
        path
    }

    /// A copy of this program that says that it is another build.
    fn other_build(&self) -> PathBuf {
        let path = self.copy("other");
        let mut bytes = std::fs::read(&path).unwrap();
        // The note: four bytes of name, 20 of identity, type 3, GNU.
        let note = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
        // Without a note each copy is a build of its own.
        if let Some(at) = bytes.windows(note.len()).position(|window| window == note) {
            bytes[at + note.len()] ^= 0xff;
            let _writing = writing();
            std::fs::write(&path, bytes).unwrap();
        }
        path
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        let _writing = writing();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs an ignored test of this file in a program of its own.
fn run_apart(program: &Path, test: &str, path: &Path) {
    let mut command = Command::new(program);
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("EXECUTABLE", path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let locked = writing();
    let child = command.spawn().unwrap();
    drop(locked);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("1 passed"), "{said}");
}

fn here() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn where_am_i() -> PathBuf {
    std::fs::read_link("/proc/self/exe").unwrap()
}

fn add(a: u32, b: u32) -> u32 {
    a + b
}
procession_posix::export_target!(add);
procession_posix::export_target!(where_am_i);

fn double(numbers: Queue<u32>, doubled: Queue<u32>) {
    while let Ok(number) = numbers.get() {
        doubled.put(&(2 * number)).unwrap();
    }
}
procession_posix::export_target!(double);

/// Called from a child: what its own child is executed from.
fn where_is_my_child() -> PathBuf {
    let child = Bound(Process::new(where_am_i, ()).method(StartMethod::Spawn).start().unwrap());
    child.join_timeout(LONG).unwrap()
}
procession_posix::export_target!(where_is_my_child);

fn not_exported() {}

fn name_of<T>(_: T) -> &'static str {
    std::any::type_name::<T>()
}

fn chosen() -> PathBuf {
    std::env::var_os("EXECUTABLE").unwrap().into()
}

#[test]
fn a_copy_runs_everything() {
    let workshop = Workshop::new("copy");
    // Without a build id a copy is another build, and tested there.
    run_apart(&here(), "from_a_copy", &workshop.copy("copy"));
}

#[test]
#[ignore = "run by a_copy_runs_everything"]
fn from_a_copy() {
    let before = Bound(Process::new(where_am_i, ()).start().unwrap());
    assert_eq!(before.join_timeout(LONG).unwrap(), here());
    // Processes that are kept ready are of the program that was chosen when they were made: they go.
    keep_warm(2).unwrap();
    set_executable(chosen());
    assert_eq!(executable(), Some(chosen()));
    for method in EXECUTING {
        let child = Bound(Process::new(where_am_i, ()).method(method).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), chosen());
        let child = Bound(Process::new(where_is_my_child, ()).method(method).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), chosen());
    }
    set_executable("/proc/self/exe");
    let after = Bound(Process::new(where_am_i, ()).start().unwrap());
    assert_eq!(after.join_timeout(LONG).unwrap(), here());
}

#[test]
fn another_build_runs_what_it_exports() {
    let workshop = Workshop::new("other");
    run_apart(&here(), "from_another_build", &workshop.other_build());
}

#[test]
#[ignore = "run by another_build_runs_what_it_exports"]
fn from_another_build() {
    set_executable(chosen());
    for method in EXECUTING {
        let child = Bound(Process::new(add, (2, 3)).method(method).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), 5);
        let child = Bound(Process::new(where_is_my_child, ()).method(method).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), chosen());

        let (numbers, doubled) = (Queue::bounded(4).unwrap(), Queue::bounded(4).unwrap());
        let args = (numbers.clone(), doubled.clone());
        let child = Bound(Process::new(double, args).method(method).start().unwrap());
        numbers.put(&21).unwrap();
        assert_eq!(doubled.get_timeout(LONG).unwrap(), 42);
        numbers.close();
        child.join_timeout(LONG).unwrap();

        let by_name = Process::named::<u32, _>(name_of(add), (4u32, 5u32)).method(method);
        assert_eq!(Bound(by_name.start().unwrap()).join_timeout(LONG).unwrap(), 9);

        let refused = |child: Result<(), JoinError>, what: &str| match child {
            Err(JoinError::NotBegun { message, .. }) => {
                assert!(message.contains(what), "{message}")
            }
            other => panic!("{other:?}"),
        };
        let child = Bound(Process::new(not_exported, ()).method(method).start().unwrap());
        refused(child.join_timeout(LONG), "exports no target executables::not_exported");
        let wrong = Process::named::<(), _>(name_of(add), (4u32,)).method(method);
        refused(Bound(wrong.start().unwrap()).join_timeout(LONG), "takes (u32, u32)");
    }
}

#[test]
fn names_are_found_in_this_program_too() {
    // And for `Fork`, which a test with its threads cannot do by itself.
    let forking = |name: String| {
        let process = Process::named::<u32, _>(name, (4u32, 5u32)).method(StartMethod::Fork);
        Bound(process.start().unwrap()).join_timeout(LONG).unwrap()
    };
    let locked = writing();
    let child = Bound(Process::new(forking, (name_of(add).into(),)).start().unwrap());
    drop(locked);
    assert_eq!(child.join_timeout(LONG).unwrap(), 9);
    for method in EXECUTING {
        let process = Process::named::<u32, _>(name_of(add), (4u32, 5u32)).method(method);
        let locked = writing();
        let child = Bound(process.start().unwrap());
        drop(locked);
        assert_eq!(child.join_timeout(LONG).unwrap(), 9);
    }
}

#[test]
fn what_is_no_program_of_ours_is_one_clear_error() {
    let workshop = Workshop::new("alien");
    let text = workshop.file("text", "nothing to be executed");
    let missing = workshop.0.join("missing");
    let ends = workshop.file("ends", "#!/bin/sh\nexit 3\n");
    let talks = workshop.file("talks", "#!/bin/sh\necho nonsense >&0\nexec sleep 1000\n");
    let silent = workshop.file("silent", "#!/bin/sh\nexec sleep 1000\n");
    std::thread::scope(|scope| {
        for path in [&text, &missing, &ends, &talks, &silent] {
            scope.spawn(|| run_apart(&here(), "from_what_is_none_of_ours", path));
        }
    });
}

fn has_children() -> bool {
    let me = std::process::id().to_string();
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.split_whitespace().nth(1) == Some(&me))
    })
}

#[test]
#[ignore = "run by what_is_no_program_of_ours_is_one_clear_error"]
fn from_what_is_none_of_ours() {
    set_executable(chosen());
    let before = Instant::now();
    let error = Process::new(add, (1, 2)).start().unwrap_err();
    assert!(before.elapsed() < LONG);
    match &error {
        StartError::Executable { path, .. } => assert_eq!(*path, chosen()),
        StartError::Handshake { reason, .. } => {
            assert!(reason.contains(chosen().to_str().unwrap()), "{reason}");
        }
        other => panic!("{other}"),
    }
    assert!(!has_children(), "{error}");
    set_executable("/proc/self/exe");
    let child = Bound(Process::new(add, (1, 2)).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), 3);
}

#[test]
fn a_script_may_execute_the_program() {
    let workshop = Workshop::new("script");
    let script = format!("#!/bin/sh\nexec {:?} \"$@\"\n", here());
    run_apart(&here(), "from_a_script", &workshop.file("script", &script));
}

#[test]
#[ignore = "run by a_script_may_execute_the_program"]
fn from_a_script() {
    set_executable(chosen());
    for method in EXECUTING {
        let child = Bound(Process::new(where_am_i, ()).method(method).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), here());
    }
}

#[test]
fn a_program_that_is_gone_or_replaced_goes_on() {
    let workshop = Workshop::new("gone");
    for what in ["delete", "replace"] {
        let path = workshop.copy(what);
        run_apart(&path, "while_its_file_goes", Path::new(what));
    }
}

#[test]
#[ignore = "run by a_program_that_is_gone_or_replaced_goes_on"]
fn while_its_file_goes() {
    let path = here();
    if chosen() == Path::new("replace") {
        let other = path.with_extension("new");
        std::fs::write(&other, "another program").unwrap();
        std::fs::rename(&other, &path).unwrap();
    } else {
        std::fs::remove_file(&path).unwrap();
    }
    for method in EXECUTING {
        let child = Bound(Process::new(add, (2, 3)).method(method).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), 5);
        // And from a process that was itself executed from the lost file.
        let nested = |method: StartMethod| {
            let child = Bound(Process::new(add, (3, 4)).method(method).start().unwrap());
            child.join_timeout(LONG).unwrap()
        };
        let child = Bound(Process::new(nested, (method,)).method(method).start().unwrap());
        assert_eq!(child.join_timeout(LONG).unwrap(), 7);
    }
}
