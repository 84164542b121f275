//! Lists the named shared memory of this machine, and removes what the dead have left.
//!
//! ```text
//! cargo run --release --example segments -- list
//! cargo run --release --example segments -- sweep
//! cargo run --release --example segments -- remove NAME...
//! ```

use std::process::ExitCode;

use procession::memory::{Segment, SharedMemory, SharedMemoryError};

const USAGE: &str = "usage: segments [list | sweep | remove NAME...]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        [] | ["list"] => list(),
        ["sweep"] => sweep(),
        ["remove", ref names @ ..] if !names.is_empty() => {
            names.iter().try_for_each(|name| SharedMemory::remove(name))
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), SharedMemoryError> {
    println!("{:<28} {:>14} {:>6} {:>5} {:>9} state", "name", "bytes", "mode", "uid", "creator");
    for one in SharedMemory::segments()? {
        let Segment { name, size, mode, uid, creator, .. } = &one;
        println!("{name:<28} {size:>14} {mode:>6o} {uid:>5} {creator:>9} {}", state(&one));
    }
    Ok(())
}

/// What is to be said of it: who has it, and whether a sweep would remove it.
fn state(segment: &Segment) -> String {
    match (segment.in_use, segment.persistent) {
        (true, _) => {
            let users: Vec<_> = segment.users().iter().map(u32::to_string).collect();
            let left =
                if segment.creator_lives == Some(false) { ", its creator is dead" } else { "" };
            format!("in use by {}{left}", users.join(" "))
        }
        (false, true) => "persistent".into(),
        (false, false) => "orphan".into(),
    }
}

fn sweep() -> Result<(), SharedMemoryError> {
    for Segment { name, size, creator, .. } in SharedMemory::sweep()? {
        println!("removed {name}: {size} bytes, made by process {creator}");
    }
    Ok(())
}
