//! The program that is started again.

use std::time::Instant;

use procession_posix::channel::Queue;
use procession_posix::process::{Process, StartMethod};

use crate::add;
use crate::support::{Bound, LONG};

#[test]
fn children_of_a_forked_zygote_can_have_the_arena_grow() {
    fn put(queue: Queue<Vec<u8>>) -> procession_posix::Result<()> {
        Ok(queue.put(&vec![7; 1 << 20])?)
    }
    // In a process with one thread the zygote is forked, and inherits what another is sent.
    let alone = || {
        procession_posix::process::init();
        let queue = Queue::bounded(1).unwrap();
        let child = Bound(Process::new(put, (queue.clone(),)).start().unwrap());
        child.join_timeout(LONG).unwrap().unwrap();
        queue.get_timeout(LONG).unwrap().len()
    };
    let alone = Process::new(alone, ()).method(StartMethod::Zygote);
    assert_eq!(Bound(alone.start().unwrap()).join_timeout(LONG).unwrap(), 1 << 20);
}

/// Runs itself in a copy of this program, which removes its own file before it starts anything.
#[test]
fn a_program_whose_file_was_removed_starts_processes() {
    const COPY: &str = "PROCESSION_TEST_COPY";
    if std::env::var_os(COPY).is_some() {
        std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
        for method in [StartMethod::Zygote, StartMethod::Spawn] {
            let child = Bound(Process::new(add, (1, 2)).method(method).start().unwrap());
            assert_eq!(child.join_timeout(LONG), Ok(3));
        }
        return;
    }
    let copy = std::env::temp_dir().join(format!("procession-copy-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = std::process::Command::new(&copy);
    command.args(["--exact", "a_program_whose_file_was_removed_starts_processes"]).env(COPY, "1");
    let deadline = Instant::now() + LONG;
    let output = loop {
        match command.output() {
            // What other tests forked while the file was written has it open until it executes.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                assert!(Instant::now() < deadline, "{error}");
            }
            output => break output,
        }
    };
    let left = std::fs::remove_file(&copy);
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(left.is_err(), "the copy did not remove its file");
}

#[test]
fn a_mark_of_somebody_else_changes_nothing() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_such_test"])
        .env("PROCESSION_START", "1:zygote")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("running 0 tests"));
}
