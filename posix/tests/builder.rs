//! What is said of a process before it is started, under each way to start.

#[macro_use]
#[path = "support/methods.rs"]
mod methods;
mod support;

use std::ffi::OsString;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use procession_posix::process::{
    JoinError, Process, Resource, StartError, StartMethod, Stdio, Target, cpu_count,
};
use support::{Bound, LONG};

under_each_method! {
    the_environment_is_edited
    the_directory_is_chosen
    streams_are_piped
    streams_go_to_files_and_nowhere
    limits_and_cpus_are_set
    impossible_choices_are_errors
    nothing_is_left_of_streams
}

type Variables = Vec<(String, String)>;

fn variables() -> Variables {
    let known = ["PROCESSION_A", "PROCESSION_B", "PATH"];
    let all = std::env::vars_os();
    let read = |os: OsString| os.into_string().unwrap_or_default();
    all.map(|(name, value)| (read(name), read(value)))
        .filter(|(name, _)| known.contains(&name.as_str()))
        .collect()
}

fn the_environment_is_edited(method: StartMethod) {
    fn sorted(process: Process<impl Target<(), Output = Variables>, ()>) -> Variables {
        let mut variables = Bound(process.start().unwrap()).join_timeout(LONG).unwrap();
        variables.sort();
        variables
    }
    let path = ("PATH".to_string(), std::env::var("PATH").unwrap_or_default());
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    let process = || Process::new(variables, ()).method(method);
    // A mark of ours in the environment means nothing.
    let edited = process()
        .env("PROCESSION_A", "1")
        .envs([("PROCESSION_B", "2=3"), ("PROCESSION_START", "x")]);
    let a_and_b = [path.clone(), pair("PROCESSION_A", "1"), pair("PROCESSION_B", "2=3")];
    assert_eq!(sorted(edited.clone()), a_and_b);
    let last = edited.clone().env("PROCESSION_A", "4").env_remove("PROCESSION_B");
    assert_eq!(sorted(last), [path.clone(), pair("PROCESSION_A", "4")]);
    let cleared = edited.env_clear().env("PROCESSION_B", "");
    assert_eq!(sorted(cleared), [pair("PROCESSION_B", "")]);
    assert_eq!(sorted(process().env_remove("PATH")), []);
    assert_eq!(sorted(process()), [path], "the next one has its starter's again");
}

fn the_directory_is_chosen(method: StartMethod) {
    let here = || std::env::current_dir().unwrap();
    let start = |path: PathBuf| Process::new(here, ()).method(method).current_dir(path).start();
    let root = Bound(start("/".into()).unwrap());
    assert_eq!(root.join_timeout(LONG).unwrap(), PathBuf::from("/"));
    let relative = Bound(start("..".into()).unwrap());
    assert_eq!(relative.join_timeout(LONG).unwrap(), here().parent().unwrap());
    for wrong in ["/no/such/place", "/proc/self/status"] {
        match start(wrong.into()) {
            Err(StartError::Directory { path, .. }) => assert_eq!(path, PathBuf::from(wrong)),
            other => panic!("{other:?}"),
        }
    }
}

fn streams_are_piped(method: StartMethod) {
    let echo = || {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).unwrap();
        print!("out: {text}");
        eprint!("err: {text}");
    };
    let process = Process::new(echo, ()).method(method);
    let process = process.stdin(Stdio::Piped).stdout(Stdio::Piped).stderr(Stdio::Piped);
    let children = [process.clone(), process].map(|process| Bound(process.start().unwrap()));
    for child in &children {
        child.take_stdin().unwrap().write_all(b"hello").unwrap();
        assert!(child.take_stdin().is_none());
    }
    for child in &children {
        let (mut out, mut err) = (String::new(), String::new());
        child.take_stdout().unwrap().read_to_string(&mut out).unwrap();
        child.take_stderr().unwrap().read_to_string(&mut err).unwrap();
        child.join_timeout(LONG).unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("out: hello", "err: hello"));
        assert!(child.take_stdout().is_none());
    }
    let child = Bound(Process::new(|| (), ()).method(method).start().unwrap());
    assert!(child.take_stdin().is_none(), "nothing was piped");
    child.join_timeout(LONG).unwrap();
}

fn memory_file(content: &str) -> std::fs::File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("stream", flags).unwrap());
    file.write_all(content.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn streams_go_to_files_and_nowhere(method: StartMethod) {
    let copy = || {
        std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).unwrap();
    };
    let (input, mut output) = (memory_file("from here"), memory_file(""));
    let process = Process::new(copy, ()).method(method).stdin(input);
    let process = process.stdout(output.try_clone().unwrap());
    Bound(process.start().unwrap()).join_timeout(LONG).unwrap();
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from here");

    let read = || std::io::stdin().lines().count();
    let child = Process::new(read, ()).method(method).stdin(Stdio::Null).stdout(Stdio::Null);
    assert_eq!(Bound(child.start().unwrap()).join_timeout(LONG).unwrap(), 0);

    // Both into one file, by the numbers that are the other's.
    let both = || {
        print!("1");
        eprint!("2");
    };
    let mut file = memory_file("");
    let stream = Stdio::from(file.try_clone().unwrap());
    let process = Process::new(both, ()).method(method).stdout(stream.clone()).stderr(stream);
    Bound(process.start().unwrap()).join_timeout(LONG).unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert!(["12", "21"].contains(&text.as_str()), "{text}");
}

fn soft_and_hard() -> (Option<u64>, Option<u64>) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.current, limit.maximum)
}

fn limits_and_cpus_are_set(method: StartMethod) {
    let process = Process::new(soft_and_hard, ()).method(method);
    let limited = process.clone().limit(Resource::OpenFiles, 7, 8);
    let limited = limited.limit(Resource::OpenFiles, 60, 70).limit(Resource::CoreFile, 0, 0);
    let limited = Bound(limited.start().unwrap());
    assert_eq!(limited.join_timeout(LONG).unwrap(), (Some(60), Some(70)));
    let other = Bound(process.start().unwrap());
    assert_eq!(other.join_timeout(LONG).unwrap(), soft_and_hard());

    // Whatever the test may use: one of them.
    let mine = rustix::thread::sched_getaffinity(None).unwrap();
    let one = (0..1024).find(|cpu| mine.is_set(*cpu)).unwrap();
    let child = Process::new(cpu_count, ()).method(method).affinity([one, one, 8000]);
    assert_eq!(Bound(child.start().unwrap()).join_timeout(LONG).unwrap(), 1);
    let lost = Process::new(cpu_count, ()).method(method).affinity([8000]);
    match Bound(lost.start().unwrap()).join_timeout(LONG) {
        Err(JoinError::NotBegun { message, .. }) => {
            assert!(message.contains("affinity"), "{message}")
        }
        other => panic!("{other:?}"),
    }
}

fn impossible_choices_are_errors(method: StartMethod) {
    let process = || Process::new(|| (), ()).method(method);
    let wrong = [
        (process().env("", "x"), "environment"),
        (process().env("A=B", "x"), "environment"),
        (process().env("A", "x\0y"), "environment"),
        (process().affinity([]), "CPU affinity"),
        (process().affinity([1 << 20]), "CPU affinity"),
        (process().limit(Resource::Stack, 2, 1), "resource limit"),
    ];
    for (process, expected) in wrong {
        match process.start() {
            Err(StartError::Choice { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn nothing_is_left_of_streams(method: StartMethod) {
    let round = || {
        let process = Process::new(open_descriptors, ()).method(method);
        let process = process.stdin(Stdio::Null).stdout(Stdio::Piped).stderr(Stdio::Piped);
        let child = Bound(process.current_dir("/").start().unwrap());
        child.join_timeout(LONG).unwrap()
    };
    let in_child = round();
    // Other tests may run in the same process; those that fork run alone.
    let before = open_descriptors();
    for _ in 0..20 {
        assert_eq!(round(), in_child);
    }
    if method == StartMethod::Fork {
        assert_eq!(open_descriptors(), before);
    }
}
