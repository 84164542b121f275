//! Copies of this program, of the same build or of another one.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use procession::process::{JoinError, Process, StartMethod, executable, keep_warm, set_executable};
use procession::{Queue, export_target};

use crate::support::LONG;
use crate::{EXECUTING, Workshop, here, name_of, run};

impl Workshop {
    /// A copy of this program.
    fn copy(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
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
            std::fs::write(&path, bytes).unwrap();
        }
        path
    }

    /// A script.
    pub fn script(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

fn where_am_i() -> PathBuf {
    std::fs::read_link("/proc/self/exe").unwrap()
}
export_target!(where_am_i);

pub fn add(a: u32, b: u32) -> u32 {
    a + b
}
export_target!(add);

fn double(numbers: Queue<u32>, doubled: Queue<u32>) {
    while let Ok(number) = numbers.get() {
        doubled.put(&(2 * number)).unwrap();
    }
}
export_target!(double);

/// Called from a child: what its own child is executed from.
fn where_is_my_child() -> PathBuf {
    let child = Process::new(where_am_i, ()).method(StartMethod::Spawn).start().unwrap();
    child.join_timeout(LONG).unwrap()
}
export_target!(where_is_my_child);

fn not_exported() {}

pub fn same_build() {
    let workshop = Workshop::new("copy");
    // Without a build id a copy is another build, and tested there.
    let copy = workshop.copy("copy");
    let before = Process::new(where_am_i, ()).method(StartMethod::Zygote).start().unwrap();
    assert_eq!(before.join_timeout(LONG).unwrap(), here());
    // Processes that are kept ready are of the program that was chosen when they were made: they go.
    keep_warm(2).unwrap();
    set_executable(&copy);
    assert_eq!(executable().as_ref(), Some(&copy));
    for method in EXECUTING {
        let child = Process::new(where_am_i, ()).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG).unwrap(), copy);
        let child = Process::new(where_is_my_child, ()).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG).unwrap(), copy);
    }
    set_executable("/proc/self/exe");
    let after = Process::new(where_am_i, ()).method(StartMethod::Zygote).start().unwrap();
    assert_eq!(after.join_timeout(LONG).unwrap(), here());
}

pub fn other_build() {
    let workshop = Workshop::new("other");
    let other = workshop.other_build();
    set_executable(&other);
    for method in EXECUTING {
        let child = Process::new(add, (2, 3)).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG).unwrap(), 5);
        let child = Process::new(where_is_my_child, ()).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG).unwrap(), other);

        let (numbers, doubled) = (Queue::bounded(4).unwrap(), Queue::bounded(4).unwrap());
        let args = (numbers.clone(), doubled.clone());
        let child = Process::new(double, args).method(method).start().unwrap();
        numbers.put(&21).unwrap();
        assert_eq!(doubled.get_timeout(LONG).unwrap(), 42);
        numbers.close();
        child.join_timeout(LONG).unwrap();

        let by_name = Process::named::<u32, _>(name_of(add), (4u32, 5u32)).method(method);
        assert_eq!(by_name.start().unwrap().join_timeout(LONG).unwrap(), 9);

        let child = Process::new(not_exported, ()).method(method).start().unwrap();
        match child.join_timeout(LONG) {
            Err(JoinError::NotBegun { message, .. }) => {
                let what = format!("exports no target {}", name_of(not_exported));
                assert!(message.contains(&what), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

pub fn by_name() {
    for method in StartMethod::ALL {
        let process = Process::named::<u32, _>(name_of(add), (4u32, 5u32)).method(method);
        assert_eq!(process.start().unwrap().join_timeout(LONG).unwrap(), 9);
    }
}

pub fn script() {
    let workshop = Workshop::new("script");
    let content = format!("#!/bin/sh\nexec {:?} \"$@\"\n", here());
    set_executable(workshop.script("script", &content));
    for method in EXECUTING {
        let child = Process::new(where_am_i, ()).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG).unwrap(), here());
    }
}

pub fn gone_or_replaced() {
    let workshop = Workshop::new("gone");
    for how in ["deleted", "replaced"] {
        run(Command::new(workshop.copy(how)).args(["while-its-file-goes", how]));
    }
}

/// What a copy is executed as.
pub fn while_its_file_goes(how: &str) {
    let path = here();
    if how == "replaced" {
        let other = path.with_extension("new");
        std::fs::write(&other, "another program").unwrap();
        std::fs::rename(&other, &path).unwrap();
    } else {
        std::fs::remove_file(&path).unwrap();
    }
    for method in EXECUTING {
        let child = Process::new(add, (2, 3)).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG).unwrap(), 5);
        // And from a process that was itself executed from the lost file.
        let nested = |method: StartMethod| {
            let child = Process::new(add, (3, 4)).method(method).start().unwrap();
            child.join_timeout(LONG).unwrap()
        };
        let child = Process::new(nested, (method,)).method(method).start().unwrap();
        assert_eq!(child.join_timeout(LONG).unwrap(), 7);
    }
}
