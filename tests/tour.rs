//! The tour prints what its tutorials promise. It runs in a process of its own, as a program with its output in a file.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use procession::prelude::*;

#[macro_use]
#[path = "../posix/tests/support/alone.rs"]
mod alone;
#[path = "../examples/tour/main.rs"]
mod tour;

/// What the tour printed: its programs, with their lines.
struct Printed(Vec<(String, Vec<String>)>);

impl Printed {
    /// The lines of the programs with this title, in each tutorial that has one.
    fn of<'p>(&'p self, title: &'p str) -> impl Iterator<Item = &'p [String]> {
        let mut found = self.0.iter().filter(move |(this, _)| this == title).peekable();
        assert!(found.peek().is_some(), "there is no {title}");
        found.map(|(_, lines)| lines.as_slice())
    }

    /// The lines of the only program with this title.
    fn only<'p>(&'p self, title: &'p str) -> &'p [String] {
        let mut all = self.of(title);
        let first = all.next().unwrap();
        assert!(all.next().is_none(), "there are two {title}");
        first
    }
}

fn run_tour(output: PathBuf) -> bool {
    let file = File::create(output).unwrap();
    rustix::stdio::dup2_stdout(&file).unwrap();
    tour::main() == ExitCode::SUCCESS
}

fn printed() -> Printed {
    let file = std::env::temp_dir().join(format!("procession-tour-{}", std::process::id()));
    let tour = Process::new(run_tour, (file.clone(),)).start().unwrap();
    let end = tour.join_timeout(Duration::from_secs(60));
    let _ = tour.kill();
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(&file);
    assert_eq!(end, Ok(true), "{text}");
    let mut programs = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let title = title.split(" · ").next().unwrap_or_default();
            programs.push((title.to_owned(), Vec::new()));
        } else if !line.is_empty() && !line.starts_with("# ") {
            programs.last_mut().unwrap().1.push(line.to_owned());
        }
    }
    Printed(programs)
}

/// The numbers in a line.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The lines with `#` for each number, sorted.
fn unnumbered(lines: &[String]) -> Vec<String> {
    let mut lines: Vec<_> = lines
        .iter()
        .map(|line| {
            let mut text = String::new();
            for c in line.chars() {
                match c {
                    '0'..='9' if text.ends_with('#') => {}
                    '0'..='9' => text.push('#'),
                    _ => text.push(c),
                }
            }
            text
        })
        .collect();
    lines.sort();
    lines
}

fn sorted(lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.sort();
    lines
}

fn starting_with<'l>(lines: &'l [String], start: &str) -> Vec<&'l str> {
    lines.iter().filter(|line| line.starts_with(start)).map(String::as_str).collect()
}

#[test]
fn the_tour_prints_what_its_tutorials_promise() {
    alone!(the_tour_prints_what_its_tutorials_promise);
    let printed = printed();
    processes(&printed);
    forks(&printed);
    queues(&printed);
    pipes(&printed);
    values(&printed);
    synchronisation(&printed);
    pools(&printed);
    threads(&printed);
    executors(&printed);
}

fn processes(printed: &Printed) {
    let [child, hello, parent] = printed.only("Processes") else { panic!("three lines") };
    assert!(child.starts_with("child process: ") && parent.starts_with("parent process: "));
    assert_eq!(hello, "Hello shiyanlou");
    assert_ne!(numbers(child), numbers(parent));

    let five: Vec<_> = (0..5).map(|i| format!("called function in process: {i}")).collect();
    assert_eq!(printed.only("Five processes"), five);
    assert_eq!(printed.only("A function of another module"), five);
    // The tour is a child itself, and has started others before: the last number counts.
    let own = printed.only("A process of one's own");
    let lasts: Vec<_> = own.iter().filter_map(|line| numbers(line).pop()).collect();
    assert_eq!(lasts, (lasts[0]..lasts[0] + 5).collect::<Vec<_>>());
    assert_eq!(starting_with(own, "Called run method in process: MyProcess-").len(), 5);

    let names = printed.only("Names");
    assert_eq!(names.len(), 4);
    for start in ["Starting", "Exiting"] {
        assert_eq!(starting_with(names, &format!("{start} foo_process")).len(), 1);
        assert_eq!(starting_with(names, &format!("{start} Process-")).len(), 1);
    }

    let lines = [
        "Starting NO_background_process",
        "Exiting NO_background_process",
        "background_process has ended with the process that started it",
    ];
    assert_eq!(printed.only("A process in the background"), lines);

    let lines: Vec<_> = printed.only("Ending a process").to_vec();
    let lines: Vec<_> = lines.iter().filter(|line| *line != "Starting function").collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0], "Process running: slow true");
    assert!(lines[1].starts_with("Process joined: slow false"), "{lines:?}");
    assert_eq!(lines[2], "Process exit code: -15");

    let lines = unnumbered(printed.only("Five processes at once"));
    let child = ["Child process # (#) Running..."; 5];
    let begin = ["Process will start."; 5];
    let expected = [&child[..], &["Parent process #."], &["Process end."], &begin[..]].concat();
    assert_eq!(lines, expected);

    for lines in printed.of("Process") {
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("Parent process "));
        assert_eq!(lines[1], "Child process will start.");
        assert!(lines[2].starts_with("Run child process test ("));
        assert_eq!(lines[3], "Child process end.");
    }
}

fn forks(printed: &Printed) {
    let mut count = 0;
    for lines in printed.of("Fork") {
        let [first, ..] = lines else { panic!("no lines") };
        let [created] = starting_with(lines, "I (")[..] else { panic!("{lines:?}") };
        let [child] = starting_with(lines, "I am child")[..] else { panic!("{lines:?}") };
        let ([parent, pid], [own, its]) = (&numbers(created)[..], &numbers(child)[..]) else {
            panic!("{lines:?}")
        };
        assert_eq!(numbers(first), [*parent]);
        assert_eq!((pid, parent), (own, its), "both know both");
        count += 1;
    }
    assert_eq!(count, 3);
}

fn queues(printed: &Printed) {
    assert_eq!(printed.only("A queue between two processes"), ["Hello shiyanlou"]);

    let mut both = printed.of("Two writers and a reader");
    let [before, first, after, left] = both.next().unwrap() else { panic!("four lines") };
    assert_eq!((before.as_str(), after.as_str()), ("false", "false"));
    let mut objects = [first.as_str(), left.trim_end_matches(" was left")];
    objects.sort();
    assert_eq!(objects, ["Hello shiyanlou", "charu"]);

    let lines = both.next().unwrap();
    for word in ["Put", "Get"] {
        for urls in [["url1", "url2", "url3"], ["url4", "url5", "url6"]] {
            // Each writer's objects come in their order.
            let lines: Vec<_> = lines
                .iter()
                .filter(|line| line.starts_with(word) && urls.iter().any(|url| line.contains(url)))
                .collect();
            let preposition = if word == "Put" { "to" } else { "from" };
            assert_eq!(
                lines,
                urls.map(|url| format!("{word} {url} {preposition} queue...")).each_ref()
            );
        }
    }
    assert_eq!(starting_with(lines, "Process (").len(), 3);
    assert!(lines.last().unwrap().ends_with("was ended by signal 15"), "{lines:?}");

    for lines in printed.of("Queue") {
        let got = starting_with(lines, "Get");
        assert_eq!(got, ["Get A from queue.", "Get B from queue.", "Get C from queue."]);
        let put = starting_with(lines, "Put");
        assert_eq!(put, ["Put A to queue...", "Put B to queue...", "Put C to queue..."]);
        assert!(lines.last().unwrap().ends_with("was ended by signal 15"), "{lines:?}");
    }

    let lines = printed.only("A producer and a consumer");
    let items = [69, 168, 235, 152, 213, 35, 218, 175, 140, 241];
    let put = items.map(|i| format!("Process Producer : item {i} appended to queue producer-1"));
    assert_eq!(starting_with(lines, "Process Producer"), put);
    let got = items.map(|i| format!("Process Consumer : item {i} popped from by consumer-2"));
    assert_eq!(starting_with(lines, "Process Consumer"), got);
    let sizes = starting_with(lines, "The size of queue is ");
    assert!(sizes.len() == 10 && sizes.iter().all(|line| numbers(line)[0] <= 10), "{sizes:?}");
    assert_eq!(lines.last().unwrap(), "the queue is empty");
}

fn pipes(printed: &Printed) {
    assert_eq!(printed.only("A pipe between two processes"), ["Hello shiyanlou"]);

    let lines = printed.only("A sender and a receiver");
    for word in ["send", "recv"] {
        let urls: Vec<_> = lines.iter().filter_map(|line| line.split_once(word)).collect();
        let expected: Vec<_> = (0..10).map(|number| format!(": url{number}")).collect();
        assert_eq!(
            urls.iter().map(|(_, url)| url).collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>()
        );
    }
    assert_eq!(lines.len(), 21);
    assert_eq!(lines.last().unwrap(), "both have ended");

    let greetings = ["greetings from the child: have you eaten?", "greetings from the parent: yes"];
    assert_eq!(printed.only("Pipe"), greetings);

    let lines = printed.only("JoinableQueue");
    let products =
        |start: &str| -> Vec<_> { (0..5).map(|i| format!("{start} product{i}")).collect() };
    for start in ["the consumer has got", "the producer has made"] {
        assert_eq!(starting_with(lines, start), products(start));
    }
    assert_eq!((lines.len(), lines.last().unwrap().as_str()), (11, "main process"));
}

fn values(printed: &Printed) {
    let [line] = printed.only("Counting without a lock") else { panic!("one line") };
    assert!((1..=500).contains(&numbers(line)[0]), "{line}");
    assert_eq!(printed.only("Counting with a lock"), ["500"]);

    assert_eq!(printed.only("Value and Array"), ["3.14", "[5, 1, 2, 3, 4, 5, 6, 7, 8, 9]"]);

    let mut hello: Vec<_> = (0..20).map(|i| format!("Hello Num: {i}")).collect();
    hello.sort();
    assert_eq!(sorted(printed.only("Lock")), hello);

    let [line] = printed.only("A bank account without a lock") else { panic!("one line") };
    assert!(line.starts_with("balance "), "{line}");
    assert_eq!(printed.only("A bank account with a lock"), ["balance 0"]);
}

fn synchronisation(printed: &Printed) {
    let users = printed.only("Semaphore");
    for i in 0..5 {
        let at = |what: &str| users.iter().position(|line| line == &format!("user{i} {what}"));
        assert!(at("has a seat").is_some() && at("has a seat") < at("OK"), "{users:?}");
    }
    assert_eq!(users.len(), 10);

    let stages = printed.only("Condition");
    let (before, after) = stages.split_at(stages.len() - 2);
    let ready = "s1 done and ready for stage 2";
    let starting = ["Starting s1", "Starting stage_2[1]", "Starting stage_2[2]", ready];
    assert_eq!(sorted(before), starting, "{stages:?}");
    assert_eq!(before[3], ready);
    assert_eq!(sorted(after), ["stage_2[1] running", "stage_2[2] running"]);

    let events = printed.only("Event");
    assert_eq!(
        sorted(events),
        [
            "main: event is set",
            "main: waiting before calling Event::set()",
            "wait_for_event: is_set() -> true",
            "wait_for_event: starting",
            "wait_for_event_timeout: is_set() -> false",
            "wait_for_event_timeout: starting",
        ]
    );
}

fn pools(printed: &Printed) {
    let (of_three, done) = printed.only("A pool of three").split_at(30);
    assert_eq!(sorted_numbers(of_three), (0..30).collect::<Vec<_>>());
    assert_eq!(done, ["30 of 30 are done"]);

    let squares: Vec<u64> = (0..100).map(|n| n * n).collect();
    assert_eq!(printed.only("A pool of four"), [format!("Pool    : {squares:?}")]);

    for (title, first, second, waiting, end) in [
        (
            "A pool of processes",
            "Task # (pid = #) is running...",
            "Task # end.",
            "Waiting for all subprocess done...",
            "All subprocess done.",
        ),
        (
            "A pool of five",
            "Run task # (#)...",
            "Task # runs #.# seconds.",
            "Waiting for all subprocesses done...",
            "All subprocesses done.",
        ),
    ] {
        let lines = printed.only(title);
        assert_eq!(lines.last().unwrap(), end);
        let lines = unnumbered(lines);
        let count = |line: &str| lines.iter().filter(|this| *this == line).count();
        assert_eq!([count(first), count(second), count(waiting)], [5, 5, 1], "{lines:?}");
        assert_eq!(lines.len(), 13);
    }

    let all: Vec<u64> = (0..100).collect();
    assert_eq!(sorted_numbers(printed.only("Pool and map")), all);
    let lines = printed.only("Pool and apply_async");
    assert_eq!(lines.iter().filter(|line| *line == "test").count(), 1);
    assert_eq!(sorted_numbers(lines), all);
    let lines = printed.only("Pool and apply");
    assert_eq!(lines.last().unwrap(), "test");
    let one_by_one: Vec<_> = lines.iter().filter_map(|line| numbers(line).pop()).collect();
    assert_eq!(one_by_one, all);
}

fn sorted_numbers(lines: &[String]) -> Vec<u64> {
    let mut found: Vec<_> = lines.iter().flat_map(|line| numbers(line)).collect();
    found.sort();
    found
}

fn threads(printed: &Printed) {
    let [child, hello, main] = printed.only("A thread") else { panic!("three lines") };
    assert!(child.starts_with("child thread: ") && main.starts_with("main thread: "));
    assert_eq!(hello, "Hello shiyanlou");
    assert_ne!(numbers(child), numbers(main));

    let mut expected = vec!["thread MainThread is running...".to_string()];
    expected.push("thread LoopThread is running...".into());
    expected.extend((1..=5).map(|n| format!("thread LoopThread >>> {n}")));
    expected.extend(["thread LoopThread ended.".into(), "thread MainThread ended.".into()]);
    assert_eq!(printed.only("A thread of one's own"), expected);

    assert_eq!(printed.only("A pool of threads"), ["[9, 7, 7]"]);
}

fn executors(printed: &Printed) {
    assert_eq!(printed.only("submit"), ["(\"a time\", 1)"]);
    let lines: Vec<_> = (1..=3).map(|n| format!("(\"a time\", {n})")).collect();
    assert_eq!(printed.only("map"), lines);
    assert_eq!(printed.only("ProcessPoolExecutor"), ["processes: 10", "threads: 10"]);
    let [one, returns @ .., two] = printed.only("as_completed") else { panic!("no lines") };
    assert_eq!((one.as_str(), two.as_str()), ("1", "2"));
    let expected: Vec<_> = (0..5).map(|n| format!("Return of {n}")).collect();
    assert_eq!(sorted(returns), expected);
    assert_eq!(printed.only("wait"), ["some are done: true", "5 done, 0 not done"]);
}
