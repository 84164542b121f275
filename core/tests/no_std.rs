//! The crate without std, in a program without std: `bare/` is built and run.
#![cfg(not(loom))]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What `command` says before `limit` is over. It is killed then.
fn output(command: &mut Command, limit: Duration) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let pid = child.id() as libc::pid_t;
    let (sender, answer) = mpsc::channel();
    let waiter = thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = answer.recv_timeout(limit) else {
        // SAFETY: a plain system call; the waiter has not reaped the child yet, so that the pid is still its.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        let _ = waiter.join();
        panic!("{command:?} took longer than {limit:?}");
    };
    output.unwrap()
}

#[test]
fn a_program_without_std_runs() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
    fs::create_dir_all(room.join("src")).unwrap();

    // A copy, with the versions that the workspace has locked: what built this test is there to build that.
    let manifest = fs::read_to_string(core.join("tests/bare/Cargo.toml")).unwrap();
    let path = format!("path = {:?}", core.to_str().unwrap());
    let moved = manifest.replace(r#"path = "../..""#, &path);
    assert_ne!(manifest, moved, "the dependency on the core is not where it was");
    fs::write(room.join("Cargo.toml"), moved).unwrap();
    fs::copy(core.join("tests/bare/src/main.rs"), room.join("src/main.rs")).unwrap();
    if let Ok(lock) = fs::read(core.join("../Cargo.lock")) {
        fs::write(room.join("Cargo.lock"), lock).unwrap();
    }

    let build = |offline: bool| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg("build").arg("--manifest-path").arg(room.join("Cargo.toml"));
        cargo.arg("--target-dir").arg(room.join("target"));
        if offline {
            cargo.arg("--offline");
        }
        output(&mut cargo, Duration::from_secs(300))
    };
    let mut built = build(true);
    if !built.status.success() {
        built = build(false);
    }
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let mut bare = Command::new(room.join("target/debug/bare"));
    let said = output(&mut bare, Duration::from_secs(30));
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{}: {text}", said.status);
    assert_eq!(text, "all well\n");
}
