//! The word count: what it counts is what `wc` counts, whatever files it meets and whoever is killed.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use procession::prelude::*;
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};

#[macro_use]
#[path = "../posix/tests/support/alone.rs"]
mod alone;
#[path = "../examples/wordcount/main.rs"]
#[allow(dead_code)]
mod wordcount;

use wordcount::Options;
use wordcount::count::{Counts, Totals, count_alone};
use wordcount::crew::Crew;
use wordcount::files::{Found, Part};
use wordcount::words::Locale;

const LONG: Duration = Duration::from_secs(120);

/// A directory that is gone when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("procession-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What nobody may read nobody may remove.
        let _ = fs::set_permissions(self.0.join("closed"), Permissions::from_mode(0o700));
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Numbers that look random, and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A text of `bytes` bytes or a few more, of `distinct` words, with all kinds of white space between them.
fn text(bytes: usize, distinct: u64, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut text = Vec::with_capacity(bytes + 32);
    while text.len() < bytes {
        text.extend_from_slice(format!("w{:x}", dice.below(distinct)).as_bytes());
        let white =
            [" ", "  ", "\n", "\t", "\r\n", " \u{3000}", "\u{A0}", "\n\n", "\u{B}", "\u{C}"];
        text.extend_from_slice(white[dice.below(white.len() as u64) as usize].as_bytes());
    }
    text
}

/// What the program writes to its output, its remarks, and the standard error.
fn run_wordcount(
    paths: Vec<OsString>,
    files_only: bool,
    stderr: PathBuf,
) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    rustix::stdio::dup2_stderr(File::create(&stderr).unwrap()).unwrap();
    let paths = paths.into_iter().map(PathBuf::from).collect();
    let options = Options { workers: 3, files_only, paths };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    wordcount::run(&options, &mut out, &mut err).unwrap();
    (out, err, fs::read(&stderr).unwrap())
}

fn wordcount_of(paths: &[PathBuf], files_only: bool, directory: &Directory) -> (Vec<u8>, String) {
    // Beside the directory: it is no file to be counted.
    let stderr = directory.0.with_extension("stderr");
    let paths: Vec<OsString> = paths.iter().map(OsString::from).collect();
    let child = Process::new(run_wordcount, (paths, files_only, stderr.clone())).start().unwrap();
    let end = child.join_timeout(LONG);
    let _ = child.kill();
    let _ = fs::remove_file(stderr);
    let (out, err, stderr) = end.unwrap();
    assert!(stderr.is_empty(), "no progress bar: {}", String::from_utf8_lossy(&stderr));
    (out, String::from_utf8_lossy(&err).into_owned())
}

/// What `wc` says of the files in a list with NUL bytes; `None` if there is no GNU `wc`.
fn wc(list: &Path, locale: Option<&str>) -> Option<Totals> {
    let mut wc = Command::new("wc");
    if let Some(locale) = locale {
        wc.env("LC_ALL", locale);
    }
    wc.arg("-lwc").arg(format!("--files0-from={}", list.display()));
    let output = wc.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u64> =
        text.lines().last()?.split_whitespace().take(3).map(|n| n.parse().unwrap()).collect();
    Some(Totals { lines: numbers[0], words: numbers[1], bytes: numbers[2] })
}

/// The totals in the output of the program.
fn totals(out: &str) -> Totals {
    let line = out.lines().find(|line| line.contains(" bytes in ")).unwrap();
    let numbers: Vec<u64> =
        line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    Totals { lines: numbers[0], words: numbers[1], bytes: numbers[2] }
}

#[test]
fn odd_files_count_as_with_wc_or_are_reported() {
    alone!(odd_files_count_as_with_wc_or_are_reported);
    let directory = Directory::new("odd");
    directory.file("empty", "");
    directory.file("no newline", "one two");
    directory.file("white", " \t\n\u{B}\u{C}\r ");
    directory.file("below/deep/down/crlf", "a\r\nb\r\n");
    directory.file("unicode", "a\u{A0}b\u{3000}c \u{2028} d\u{2003}多进程 → \u{85} \u{FEFF}\n");
    directory.file("late NUL", [&b"x ".repeat(5000)[..], b"\0 a\0b \0"].concat());
    directory.file("latin1", b"caf\xE9 \xE0 na\xEFve\n");
    directory.file("one word", "a".repeat(1 << 20));
    directory.file("one line", "ab ".repeat(1 << 20));
    directory.file("many", text(1 << 20, 5000, 7));
    directory.file(OsString::from_vec(b"\xFF\xFE\n.txt".to_vec()), "name without letters\n");
    let binary = directory.file("binary", b"ELF\0\x01 words here");
    let large_binary = directory.file("large binary", [b"\0", &b" x".repeat(1 << 20)[..]].concat());
    let unreadable = directory.file("unreadable", "secret words\n");
    fs::set_permissions(&unreadable, Permissions::from_mode(0o0)).unwrap();
    directory.file("closed/inside", "more words\n");
    let closed = directory.0.join("closed");
    fs::set_permissions(&closed, Permissions::from_mode(0o0)).unwrap();
    let dangling = directory.0.join("dangling");
    symlink("nowhere", &dangling).unwrap();
    let circle = directory.0.join("circle");
    symlink(".", &circle).unwrap();
    let fifo = directory.0.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let socket = directory.0.join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let missing = directory.0.with_extension("missing");

    // Named twice: counted twice, as with `wc`. A fifo is not read, not even by its name.
    let again = directory.0.join("no newline");
    let paths = [directory.0.clone(), again, missing.clone(), fifo.clone(), "/dev/zero".into()];
    let (out, err) = wordcount_of(&paths, false, &directory);
    let out = String::from_utf8(out).unwrap();
    // Root can read everything.
    let root = File::open(&unreadable).is_ok();
    for (path, reported) in [
        (&binary, true),
        (&large_binary, true),
        (&dangling, true),
        (&circle, true),
        (&fifo, true),
        (&socket, true),
        (&missing, true),
        (&unreadable, !root),
        (&closed, !root),
    ] {
        let line = format!("left out: {}: ", path.display());
        // Only so many are named.
        let found = err.contains(&line) || err.contains(" more\n");
        assert!(found || !reported, "{} is reported: {err}", path.display());
        assert!(reported || !err.contains(&line), "{} is not: {err}", path.display());
    }
    assert!(!err.contains("somebody writes"), "one process counts the same: {err}");

    let (list, _) = wordcount_of(&paths, true, &directory);
    let files: Vec<&[u8]> = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    assert_eq!(files.len(), if root { 14 } else { 12 }, "{:?}", String::from_utf8_lossy(&list));
    assert!(!files.contains(&binary.as_os_str().as_bytes()));
    let names = directory.0.with_extension("names");
    fs::write(&names, &list).unwrap();
    let expected = wc(&names, None);
    let _ = fs::remove_file(&names);
    match expected {
        Some(expected) => assert_eq!(totals(&out), expected, "{out}"),
        None => eprintln!("no GNU wc here: not compared"),
    }
}

#[test]
fn nothing_to_count_is_no_error() {
    alone!(nothing_to_count_is_no_error);
    let directory = Directory::new("nothing");
    let (out, err) = wordcount_of(std::slice::from_ref(&directory.0), false, &directory);
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("0 lines, 0 words, 0 bytes in 0 files\n"), "{out}");
    assert!(err.is_empty(), "{err}");
}

#[test]
fn the_most_frequent_words_come_first_and_equals_by_the_alphabet() {
    alone!(the_most_frequent_words_come_first_and_equals_by_the_alphabet);
    let directory = Directory::new("frequent");
    directory.file("1", "c b a d d d ".repeat(1000));
    directory.file("2", "b \x1B[31m ");
    let (out, _) = wordcount_of(std::slice::from_ref(&directory.0), false, &directory);
    let out = String::from_utf8(out).unwrap();
    let words: Vec<_> =
        out.lines().take(5).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let escaped = "\u{FFFD}[31m";
    let expected = [["3000", "d"], ["1001", "b"], ["1000", "a"], ["1000", "c"], ["1", escaped]];
    assert_eq!(words, expected);
}

#[test]
fn words_are_what_they_are_to_wc() {
    alone!(words_are_what_they_are_to_wc);
    let directory = Directory::new("words");
    // Whether words are counted that cannot be seen depends on the age of wc.
    let samples: [&[u8]; 12] = [
        b"",
        b" ",
        b"a",
        b"a b\tc\nd\x0Be\x0Cf\rg",
        b"a\0b \0c",
        b"caf\xE9 a\x80b",
        "多进程 a".as_bytes(),
        "a\u{A0}b\u{1680}c\u{2000}d\u{200A}e\u{202F}f\u{205F}g\u{2060}h\u{3000}i".as_bytes(),
        "a\u{200B}b\u{2028}c\u{85}d".as_bytes(),
        b"a\xE3\x80 b\xC2 c\xE2\xC2\xA0d",
        b"\x01 \x7F \xFF",
        "→ \u{85} \u{2028} \u{FEFF}".as_bytes(),
    ];
    let list = directory.0.join("list");
    let unseen = directory.file("unseen", "\x01");
    fs::write(&list, unseen.as_os_str().as_bytes()).unwrap();
    let counts_unseen = wc(&list, Some("C")).is_some_and(|totals| totals.words == 1);
    for (locale, name) in [(Locale::C, "C"), (Locale::Utf8, "C.UTF-8")] {
        for sample in samples.iter().take(if counts_unseen { 6 } else { samples.len() }) {
            let file = directory.file("sample", sample);
            fs::write(&list, file.as_os_str().as_bytes()).unwrap();
            let Some(expected) = wc(&list, Some(name)) else { continue };
            let mut counts = Counts::default();
            counts.add_text(sample, locale);
            assert_eq!(counts.totals, expected, "{name}: {:?}", String::from_utf8_lossy(sample));
        }
    }
}

#[test]
fn pieces_of_any_size_make_the_whole() {
    alone!(pieces_of_any_size_make_the_whole);
    let directory = Directory::new("pieces");
    let files = [
        directory.file("a", text(600, 100, 1)),
        directory.file("b", "x".repeat(300)),
        directory.file("c", ""),
        directory.file("d", [&text(200, 10, 2)[..], "y".repeat(500).as_bytes(), b" z"].concat()),
        directory.file("e", "a b"),
    ];
    for locale in [Locale::C, Locale::Utf8] {
        let mut whole = Counts::default();
        for file in &files {
            whole.add_text(&fs::read(file).unwrap(), locale);
        }
        let found = Found::below(std::slice::from_ref(&directory.0), |_| false);
        // Opening a file counts as 4096 bytes: these are parts of 1, 2, 3 and more bytes.
        for size in (4097..4130).chain([4200, 4300, 4400, 5000, 8192, 10_000, 100_000]) {
            let pieces = found.pieces(size);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            let counts = count_alone(&pieces, locale);
            assert_eq!(counts, whole, "in pieces of {size} bytes");
        }
    }
    // Ends that are no multiples of anything.
    let path = || files[0].clone().into_os_string();
    let whole = count_alone(&[vec![Part { path: path(), start: 0, end: None }]], Locale::Utf8);
    for cut in 1..whole.totals.bytes {
        let parts = vec![
            Part { path: path(), start: 0, end: Some(cut) },
            Part { path: path(), start: cut, end: None },
        ];
        assert_eq!(count_alone(&[parts], Locale::Utf8), whole, "cut at {cut}");
    }
}

#[test]
fn workers_count_what_one_process_counts() {
    alone!(workers_count_what_one_process_counts);
    let directory = Directory::new("workers");
    // So many words that each answer takes half a megabyte.
    directory.file("large", text(3 << 20, 1 << 40, 3));
    let found = Found::below(std::slice::from_ref(&directory.0), |_| false);
    let pieces = found.pieces(512 << 10);
    assert!(pieces.len() >= 6, "one large file is for all workers");
    let crew = Crew::start(3, Locale::Utf8).unwrap();
    let mut failed = 0;
    let counts = crew.count(&pieces, |_, error| failed += usize::from(error.is_some())).unwrap();
    assert_eq!(counts, count_alone(&pieces, Locale::Utf8));
    assert_eq!(counts.totals.bytes, found.bytes());
    assert_eq!(crew.progress().totals(), counts.totals, "nobody died, so the shared values agree");
    assert_eq!((failed, crew.pool.statistics().deaths), (0, 0));
}

/// Kills the worker at this place, if it lives.
fn kill(crew: &Crew, at: u64) {
    let workers = crew.pool.workers();
    let victim = workers.get(at as usize % workers.len().max(1));
    if let Some(pid) = victim.and_then(|worker| Pid::from_raw(worker.pid as i32)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[test]
fn killed_workers_change_nothing_but_the_time() {
    alone!(killed_workers_change_nothing_but_the_time);
    let directory = Directory::new("killed");
    let large = directory.file("large", text(4 << 20, 1 << 16, 4));
    let found = Found::below(std::slice::from_ref(&directory.0), |_| false);
    let pieces = found.pieces(64 << 10);
    let crew = Crew::start(3, Locale::Utf8).unwrap();
    let (mut dice, mut kills) = (Dice(7), 0);
    let counts = crew.count(&pieces, |crew, _| {
        if kills < 15 && dice.below(2) == 0 {
            kill(crew, dice.below(3));
            kills += 1;
        }
    });
    let counts = counts.unwrap();
    assert_eq!(counts, count_alone(&pieces, Locale::Utf8));
    assert!(crew.pool.statistics().deaths > 0, "{kills} kills");
    let list = directory.0.with_extension("list");
    fs::write(&list, large.as_os_str().as_bytes()).unwrap();
    let expected = wc(&list, Some("C.UTF-8"));
    let _ = fs::remove_file(&list);
    match expected {
        Some(expected) => assert_eq!(counts.totals, expected),
        None => eprintln!("no GNU wc here: not compared"),
    }
}

#[test]
fn where_all_workers_are_killed_the_parent_counts() {
    alone!(where_all_workers_are_killed_the_parent_counts);
    let directory = Directory::new("alone");
    directory.file("large", text(1 << 20, 1 << 16, 5));
    let found = Found::below(std::slice::from_ref(&directory.0), |_| false);
    let pieces = found.pieces(128 << 10);
    let crew = Crew::start(1, Locale::Utf8).unwrap();
    // Whatever it has begun, each worker is killed.
    let over = Event::new().unwrap();
    let counts = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.wait_timeout(Duration::from_millis(1)) {
                kill(&crew, 0);
            }
        });
        let counts = crew.count(&pieces, |_, _| ());
        over.set();
        counts
    });
    assert_eq!(counts.unwrap(), count_alone(&pieces, Locale::Utf8));
}
