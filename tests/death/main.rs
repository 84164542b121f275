//! The death matrix: every operation, killed at every moment that matters.
//!
//! For each operation a real child is stepped, instruction by instruction, and killed: after each
//! instruction that changed shared memory, before and after each system call, and while it sleeps
//! in one. Survivors, real processes too, then use the same object: they must finish, and an audit
//! must balance. Some operations also lose a survivor, in the middle of its repair.
//!
//! `cargo test --test death` plays a selection where an operation has very many moments, with
//! `DEATH=full` it plays everything; a word behind `--` chooses operations by their names. The
//! result is a table, and `death.json` in the target directory: for each operation `steps`
//! (instructions from begin to end), `kills`, `stuck`, `lost` (the most that one take lost),
//! `torn`, `doubled`.
//!
//! First the matrix itself is tried on toys: sound ones, and one for each fault.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod engine;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod operations;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let mut words = std::env::args().skip(1).filter(|word| word != "--exact");
    let filter = words.find(|word| word == "--list" || !word.starts_with('-'));
    match filter.as_deref() {
        // What cargo-nextest asks first: here is one test.
        Some("--list") => {
            if !std::env::args().any(|word| word == "--ignored") {
                println!("matrix: test");
            }
            ExitCode::SUCCESS
        }
        Some("matrix") => run(""),
        filter => run(filter.unwrap_or("")),
    }
}

/// Plays the toys and the operations whose names contain `filter`, and judges.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn run(filter: &str) -> std::process::ExitCode {
    use engine::matrix::{Crew, Depth, Row};
    use std::process::ExitCode;

    let depth = match std::env::var("DEATH").as_deref() {
        Ok("full") => Depth::FULL,
        _ => Depth::SHORT,
    };
    let chosen = |name: &str| name.contains(filter);
    let mut faults = Vec::new();
    let crew = match Crew::new() {
        Ok(crew) => crew,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };

    println!("{}", Row::TITLE);
    for (toy, expected) in operations::toys() {
        if !chosen(toy.name) {
            continue;
        }
        match crew.play(&toy, depth) {
            Ok(row) => {
                println!("{row}");
                let found = row.faults();
                if found != expected {
                    faults.push(format!("{}: expected {expected:?}, found {found:?}", row.name));
                    faults.extend(row.notes);
                }
            }
            Err(error) => faults.push(error),
        }
    }
    let mut rows = Vec::new();
    for operation in operations::operations() {
        if !chosen(operation.name) {
            continue;
        }
        let played = match crew.play(&operation, depth) {
            // Nothing was found, and little was tried: once more.
            Ok(row) if row.has_missed() && row.notes.len() == 1 => crew.play(&operation, depth),
            played => played,
        };
        match played {
            Ok(row) => {
                println!("{row}");
                faults.extend_from_slice(&row.notes);
                rows.push(row);
            }
            Err(error) => faults.push(error),
        }
    }
    if filter.is_empty() {
        // The directory that Cargo gives to integration tests lies in the target directory.
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/../death.json");
        let lines: Vec<String> = rows.iter().map(Row::json).collect();
        let json = format!("[\n{}\n]\n", lines.join(",\n"));
        if let Err(error) = std::fs::write(path, json) {
            faults.push(format!("{path}: {error}"));
        }
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    match faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("the death matrix steps x86-64 code on Linux, and has not been run here");
}
