//! A program whose environment says how it is to start processes.

use std::process::Command;

use procession::Process;
use procession::process::{StartError, StartMethod, set_start_method, start_method};

use crate::support::LONG;
use crate::{here, run};

const VARIABLE: &str = "PROCESSION_START_METHOD";

pub fn methods() {
    for word in ["", "zygote", "forkserver", "spawn", "fork", "thread"] {
        run(Command::new(here()).args(["with-a-method", word]).env(VARIABLE, word));
    }
}

/// What this program is executed as, with the word in its environment.
pub fn with_a_method(word: &str) {
    let started = Process::new(start_method, ()).env_remove(VARIABLE).start();
    match (word.parse(), started) {
        (Ok(method), Ok(child)) => {
            assert_eq!(start_method(), method);
            assert_eq!(child.join_timeout(LONG).unwrap(), method, "it is kept");
        }
        (Err(_), Ok(_)) => assert_eq!((word, start_method()), ("", StartMethod::Zygote)),
        (Err(_), Err(StartError::Method(error))) => {
            assert_eq!((word, error.word.as_str()), ("thread", "thread"));
        }
        (_, Err(error)) => panic!("{error}"),
    }
    // What is set in the program goes first.
    set_start_method(StartMethod::Spawn);
    let child = Process::new(start_method, ()).start().unwrap();
    assert_eq!(child.join_timeout(LONG).unwrap(), StartMethod::Spawn);
}
