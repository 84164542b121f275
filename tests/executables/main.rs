//! Programs that new processes are executed from: copies of this one, another one with the same library, and files that
//! are none of ours; and what a program finds in its environment.
//!
//! `cargo test --test executables`

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "no test uses all of it")]
mod support;

mod aliens;
mod copies;
mod environment;
mod worker;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use procession::process::StartMethod;

use support::Test;

const TESTS: &[Test] = &[
    ("a_copy_runs_everything", copies::same_build),
    ("another_build_runs_what_it_exports", copies::other_build),
    ("names_are_found_in_this_program_too", copies::by_name),
    ("a_script_may_execute_the_program", copies::script),
    ("a_program_that_is_gone_or_replaced_goes_on", copies::gone_or_replaced),
    ("what_is_no_program_of_ours_is_one_clear_error", aliens::errors),
    ("another_program_works_for_this_one", worker::works),
    ("handles_travel_to_another_program_and_back", worker::handles_travel),
    ("a_death_in_another_program_is_noticed", worker::deaths_are_noticed),
    ("errors_of_another_program_are_clear", worker::errors_are_clear),
    ("programs_execute_each_other", worker::programs_take_turns),
    ("the_environment_names_the_method", environment::methods),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // What this program is executed as by its tests.
    match *words {
        ["while-its-file-goes", how] => copies::while_its_file_goes(how),
        ["with-a-method", word] => environment::with_a_method(word),
        // Some wait until cargo has built the other program.
        _ => return support::run_at_once(Duration::from_secs(300), TESTS),
    }
    ExitCode::SUCCESS
}

/// The methods that execute.
const EXECUTING: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

/// A directory that is gone when the test ends.
struct Workshop(PathBuf);

impl Workshop {
    fn new(name: &str) -> Workshop {
        let path = std::env::temp_dir().join(format!("procession-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Workshop(path)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The file of this program.
fn here() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn name_of<T>(_: T) -> &'static str {
    std::any::type_name::<T>()
}

/// Runs a program to its end, which is to be a good one; what it prints.
fn run(command: &mut Command) -> String {
    // Should it not end, this process is killed, and it too, for it is of the same group.
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
