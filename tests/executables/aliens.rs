//! Files that know nothing of this library.

use std::path::Path;

use procession::Process;
use procession::process::{StartError, StartMethod, set_executable};

use crate::Workshop;
use crate::copies::add;
use crate::support::{Child, LONG};

pub fn errors() {
    let workshop = Workshop::new("alien");
    let files = [
        workshop.script("text", "nothing to be executed"),
        workshop.0.join("missing"),
        workshop.script("ends", "#!/bin/sh\nexit 3\n"),
        workshop.script("talks", "#!/bin/sh\necho nonsense >&0\nexec sleep 1000\n"),
        // This one is waited for as long as a slow program of ours may take.
        workshop.script("silent", "#!/bin/sh\nexec sleep 1000\n"),
    ];
    let children: Vec<Child> =
        files.iter().map(|file| Child::start(|| one_clear_error(file))).collect();
    for (file, child) in files.iter().zip(children) {
        assert!(child.outcome_within(2 * LONG), "{file:?}");
    }
}

fn one_clear_error(file: &Path) {
    set_executable(file);
    let start = || Process::new(add, (1, 2)).method(StartMethod::Zygote).start();
    let error = start().unwrap_err();
    match &error {
        StartError::Executable { path, .. } => assert_eq!(path, file),
        StartError::Handshake { reason, .. } => {
            assert!(reason.contains(file.to_str().unwrap()), "{reason}");
        }
        other => panic!("{other}"),
    }
    // This process has one thread.
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children, "", "{error}");
    set_executable("/proc/self/exe");
    assert_eq!(start().unwrap().join_timeout(LONG).unwrap(), 3);
}
