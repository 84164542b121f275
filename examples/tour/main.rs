//! The programs of five Python tutorials on multiprocessing, as one writes them here, each with what it prints.
//!
//! ```text
//! cargo run --release --example tour
//! ```
//!
//! One module is one tutorial; the longest one has two. What the programs sleep is shortened from seconds to milliseconds.

use std::error::Error;
use std::process::ExitCode;

mod cookbook;
mod executors;
mod laboratory;
mod notebook;
mod overview;
mod weblog;

/// What a program ends with.
type Outcome = Result<(), Box<dyn Error>>;

/// A program, by its title here and there.
type Program = (&'static str, &'static str, fn() -> Outcome);

/// A tutorial, by its title here and there, and its programs.
struct Tutorial {
    title: &'static str,
    original: &'static str,
    programs: &'static [Program],
}

const TUTORIALS: [&Tutorial; 6] = [
    &laboratory::TUTORIAL,
    &cookbook::TUTORIAL,
    &weblog::TUTORIAL,
    &overview::TUTORIAL,
    &executors::TUTORIAL,
    &notebook::TUTORIAL,
];

/// Runs all programs.
pub fn main() -> ExitCode {
    // Makes later starts faster. Nothing more: a process never runs `main`, so there is no need for `if __name__ == ...`.
    procession::init();
    for Tutorial { title, original, programs } in TUTORIALS {
        println!("# {title} · {original}\n");
        for (title, original, program) in *programs {
            println!("## {title} · {original}\n");
            if let Err(error) = program() {
                eprintln!("{title}: {error}");
                return ExitCode::FAILURE;
            }
            println!();
        }
    }
    ExitCode::SUCCESS
}
