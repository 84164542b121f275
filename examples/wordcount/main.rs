//! Counts words in all files below the paths given, with a pool of a process for each processor, and then once more with one
//! process.
//!
//! ```text
//! cargo run --release --example wordcount -- [--workers N] [--files] [PATH...]
//! ```
//!
//! Without a path: the sources of this project. What cannot be read, is no regular file, or is binary (a NUL byte among the
//! first 8 KiB) is reported and left out. The totals are those of `wc` on the files that were counted; `--files` prints only
//! the names of those, each with a NUL byte behind it, so that anybody can see for himself:
//!
//! ```text
//! cargo run --release --example wordcount -- --files PATH | wc -lwc --files0-from=-
//! ```
//!
//! `files` finds the files and cuts them into pieces, `crew` has them counted by a pool of processes, `count` counts, and `words` knows
//! what a word is.

use std::collections::HashSet;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) mod count;
pub(crate) mod crew;
pub(crate) mod files;
pub(crate) mod words;

use count::{Counts, Totals, count_alone};
use crew::Crew;
use files::{Found, LeftOut, Part};
use words::Locale;

/// How many words are shown.
const SHOWN: usize = 20;
/// How many files that were left out are named.
const NAMED: usize = 10;

/// What the command line asks for.
pub(crate) struct Options {
    pub workers: usize,
    pub files_only: bool,
    pub paths: Vec<PathBuf>,
}

fn main() -> ExitCode {
    procession::init();
    let done = options().and_then(|options| {
        let (mut out, mut err) = (io::stdout().lock(), io::stderr());
        run(&options, &mut out, &mut err)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        workers: available_parallelism().map_or(1, usize::from),
        files_only: false,
        paths: Vec::new(),
    };
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--workers") => {
                let number = args.next().and_then(|number| number.to_str()?.parse().ok());
                options.workers =
                    number.filter(|n| (1..=1000).contains(n)).ok_or("--workers takes 1 to 1000")?;
            }
            Some("--files") => options.files_only = true,
            Some("--") => options.paths.extend(args.by_ref().map(PathBuf::from)),
            Some(arg) if arg.starts_with("--") => {
                return Err("usage: wordcount [--workers N] [--files] [PATH...]".into());
            }
            _ => options.paths.push(arg.into()),
        }
    }
    Ok(options)
}

/// The whole program, with its results on `out` and its remarks on `err`.
pub(crate) fn run(
    options: &Options,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let found = match &*options.paths {
        [] => sources()?,
        paths => Found::below(paths, |_| false),
    };
    let pieces = found.pieces(piece_size(found.bytes(), options.workers));
    let locale = Locale::of_environment();

    let begun = Instant::now();
    let counts = count_together(&pieces, found.bytes(), options.workers, locale)?;
    let together = begun.elapsed();
    if options.files_only {
        return print_names(&found, &counts, out);
    }
    report(found.left_out.iter().chain(&counts.left_out), err)?;

    let begun = Instant::now();
    let by_one = count_alone(&pieces, locale);
    let alone = begun.elapsed();

    print(&found, &counts, out)?;
    writeln!(
        out,
        "{} processes {:.3} s, one process {:.3} s: {:.2} times as fast",
        options.workers,
        together.as_secs_f64(),
        alone.as_secs_f64(),
        alone.as_secs_f64() / together.as_secs_f64()
    )?;
    if (by_one.totals, &by_one.table) != (counts.totals, &counts.table) {
        writeln!(err, "one process found {:?}: somebody writes to these files", by_one.totals)?;
    }
    Ok(())
}

/// The files of this project: those that its build directories and its history do not hold.
fn sources() -> Result<Found, Box<dyn Error>> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !project.is_dir() {
        return Err(format!("{} is gone; name a path", project.display()).into());
    }
    let is_made = |path: &Path| path.ends_with(".git") || path.join("CACHEDIR.TAG").exists();
    Ok(Found::below(&[project.into()], is_made))
}

/// So many pieces that all workers are busy until the end, and so few that adding the answers takes little.
fn piece_size(bytes: u64, workers: usize) -> u64 {
    (bytes / (4 * workers as u64)).clamp(256 << 10, 16 << 20)
}

/// Counts with workers, behind a progress bar if there is a terminal.
fn count_together(
    pieces: &[Vec<Part>],
    bytes: u64,
    workers: usize,
    locale: Locale,
) -> procession::Result<Counts> {
    let bar = ProgressBar::new(bytes).with_message("words");
    if let Ok(style) =
        ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {msg}")
    {
        bar.set_style(style);
    }
    let crew = match Crew::start(workers, locale) {
        Ok(crew) => crew,
        Err(error) => {
            eprintln!("no workers: {error}; all is counted here");
            return Ok(count_alone(pieces, locale));
        }
    };
    let counts = crew.count(pieces, |crew, failed| {
        let seen = crew.progress().totals();
        bar.set_position(seen.bytes.min(bytes));
        bar.set_message(format!("{} words", seen.words));
        if let Some(error) = failed {
            bar.suspend(|| eprintln!("{error}; its piece is counted here"));
        }
    });
    bar.finish_and_clear();
    counts
}

/// Says what was left out.
fn report<'l>(left_out: impl Iterator<Item = &'l LeftOut>, err: &mut impl Write) -> io::Result<()> {
    let mut left_out: Vec<_> = left_out.collect();
    left_out.sort();
    for LeftOut { path, why } in left_out.iter().take(NAMED) {
        writeln!(err, "left out: {}: {why}", path.display())?;
    }
    if left_out.len() > NAMED {
        writeln!(err, "left out: {} more", left_out.len() - NAMED)?;
    }
    Ok(())
}

/// The files that were counted: those found without those that could not be counted.
fn counted<'f>(found: &'f Found, counts: &Counts) -> impl Iterator<Item = &'f Path> {
    let left_out: HashSet<OsString> =
        counts.left_out.iter().map(|left_out| left_out.path.clone()).collect();
    let files = found.files.iter().map(|(path, _)| path.as_path());
    files.filter(move |path| !left_out.contains(path.as_os_str()))
}

fn print_names(found: &Found, counts: &Counts, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    for path in counted(found, counts) {
        out.write_all(path.as_os_str().as_bytes())?;
        out.write_all(b"\0")?;
    }
    Ok(())
}

fn print(found: &Found, counts: &Counts, out: &mut impl Write) -> io::Result<()> {
    for (word, count) in counts.most_frequent(SHOWN) {
        // A word is bytes, and a terminal obeys some of them.
        let word = String::from_utf8_lossy(word).replace(char::is_control, "\u{FFFD}");
        writeln!(out, "{count:>12}  {word}")?;
    }
    let Totals { lines, words, bytes } = counts.totals;
    let files = counted(found, counts).count();
    writeln!(out, "{lines} lines, {words} words, {bytes} bytes in {files} files")
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
