//! Who processes are and who started them, types of one's own, and contexts, under each way to start.

#[macro_use]
#[path = "support/methods.rs"]
mod methods;
mod support;

use std::time::Duration;

use procession_posix::channel::{Queue, Sender, pipe};
use procession_posix::process::{
    Context, Process, Run, StartMethod, cpu_count, current_process, get_context, parent_process,
};
use procession_posix::wait::{wait, wait_timeout};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use support::{Bound, LONG};

under_each_method! {
    a_living_parent_is_alive
    the_end_of_a_parent_is_noticed
    a_value_runs_as_a_process
    a_context_starts_by_its_method
}

/// What the process says of its parent: its id, whether it lives, and what waiting for it says.
fn about_my_parent() -> (u32, bool, bool, usize) {
    let parent = parent_process().unwrap();
    let ready = wait_timeout(&[&parent.sentinel()], Duration::ZERO).len();
    (parent.pid, parent.is_alive(), parent.join_timeout(Duration::from_millis(1)), ready)
}

fn a_living_parent_is_alive(method: StartMethod) {
    let child = Bound(Process::new(about_my_parent, ()).method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), (std::process::id(), true, false, 0));
}

/// Outlives its parent, and says so.
fn wait_for_my_parents_end(said: Sender<(u32, bool)>) {
    let parent = parent_process().unwrap();
    said.send(&(std::process::id(), parent.is_alive())).unwrap();
    parent.join();
    assert_eq!(wait(&[&parent.sentinel()]), [0]);
    assert!(parent.join_timeout(Duration::ZERO));
    said.send(&(std::process::id(), parent.is_alive())).unwrap();
}

fn the_end_of_a_parent_is_noticed(method: StartMethod) {
    fn parent(method: StartMethod, said: Sender<(u32, bool)>) {
        let child = Process::new(wait_for_my_parents_end, (said,)).daemon(false).method(method);
        let _child = child.start().unwrap();
        loop {
            std::thread::park();
        }
    }
    let (said, heard) = pipe().unwrap();
    let parent = Bound(Process::new(parent, (method, said)).method(method).start().unwrap());
    let (pid, alive) = heard.recv_timeout(LONG).unwrap();
    assert!(alive);
    // The child is nobody's that would be ended with this test.
    let child = Pid::from_raw(pid as i32).unwrap();
    let child = rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()).unwrap();
    parent.kill().unwrap();
    let end = heard.recv_timeout(LONG);
    let _ = rustix::process::pidfd_send_signal(&child, rustix::process::Signal::KILL);
    assert_eq!(end.unwrap(), (pid, false));
}

#[derive(Serialize, Deserialize, Clone)]
struct Teller {
    times: u32,
    book: Queue<(String, u32)>,
}

impl Run for Teller {
    type Output = Result<u32, String>;

    fn run(self) -> Self::Output {
        for time in 0..self.times {
            let name = current_process().name;
            self.book.put(&(name, time)).map_err(|error| error.to_string())?;
        }
        if self.times > 2 { Err("too many".into()) } else { Ok(self.times) }
    }
}

fn a_value_runs_as_a_process(method: StartMethod) {
    let book = Queue::bounded(10).unwrap();
    let teller = |times| Teller { times, book: book.clone() };
    let child = Bound(teller(2).process().method(method).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), Ok(2));
    assert!(child.name().starts_with("Teller-"), "{}", child.name());
    let child = Bound(teller(3).process().method(method).name("Anna").start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), Err("too many".into()));
    let said: Vec<_> = (0..5).map(|_| book.get_timeout(LONG).unwrap()).collect();
    assert!(said[..2].iter().all(|(name, _)| name.starts_with("Teller-")));
    assert_eq!(said[2..], [0, 1, 2].map(|time| ("Anna".to_string(), time)));

    assert_eq!(teller(1).run(), Ok(1));
    assert_eq!(teller(1).process().name("not used").run(), Ok(1));
    let here = current_process().name;
    assert_eq!(book.get_timeout(LONG).unwrap(), (here.clone(), 0));
    assert_eq!(book.get_timeout(LONG).unwrap(), (here, 0));
}

/// Where this process was executed or forked: the same in all forks of one execution.
fn execution() -> u64 {
    // SAFETY: reads a word that the kernel gave to the program: the address of 16 random bytes.
    let at = unsafe { libc::getauxval(libc::AT_RANDOM) } as *const u64;
    // SAFETY: the bytes lie there as long as the process does.
    unsafe { at.read_unaligned() }
}

fn a_context_starts_by_its_method(method: StartMethod) {
    let context = get_context(method);
    assert_eq!(context.start_method(), method);
    let executions = [0, 1].map(|_| {
        Bound(context.process(execution, ()).start().unwrap()).join_timeout(LONG).unwrap()
    });
    assert_eq!(executions[0] == executions[1], method != StartMethod::Spawn);
    assert_eq!(executions[0] == execution(), method == StartMethod::Fork);

    fn work(context: Context, lock: procession_posix::sync::Lock, sum: Queue<u32>) -> bool {
        let _guard = lock.acquire().unwrap();
        sum.put(&(context.cpu_count() as u32)).unwrap();
        context.parent_process().is_some_and(|parent| parent.is_alive())
    }
    let (lock, sum) = (context.lock().unwrap(), context.queue(1).unwrap());
    let child = Bound(context.process(work, (context, lock, sum.clone())).start().unwrap());
    assert!(child.join_timeout(LONG).unwrap());
    assert_eq!(sum.get_timeout(LONG).unwrap(), context.cpu_count() as u32);

    let value = Teller { times: 1, book: context.unbounded_queue().unwrap() };
    let child = Bound(context.run(value).start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), Ok(1));
}

#[test]
fn the_main_process_has_no_parent_here() {
    assert!(parent_process().is_none());
    assert!(get_context(StartMethod::Fork).parent_process().is_none());
}

/// A control group that is gone when the test ends.
struct Group(std::path::PathBuf);

impl Group {
    /// One whose processes may use one CPU's time, if this machine lets us make one.
    fn of_one_cpu() -> Option<Group> {
        let group = |parent: &str| {
            let path = format!("{parent}/procession-test-{}", std::process::id());
            std::fs::create_dir(&path).ok().map(|()| Group(path.into()))
        };
        let first = group("/sys/fs/cgroup/cpu").and_then(|group| {
            std::fs::write(group.0.join("cpu.cfs_period_us"), "100000").ok()?;
            std::fs::write(group.0.join("cpu.cfs_quota_us"), "100000").ok()?;
            Some(group)
        });
        first.or_else(|| {
            let group = group("/sys/fs/cgroup")?;
            std::fs::write(group.0.join("cpu.max"), "100000 100000").ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn the_quota_of_a_control_group_counts() {
    let Some(group) = Group::of_one_cpu() else {
        return eprintln!("not tested: no control group of the CPU can be made here");
    };
    fn count_in(group: std::path::PathBuf) -> usize {
        std::fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        cpu_count()
    }
    // Which method it is does not matter to it; this one can be used beside the threads of a test.
    let child = Process::new(count_in, (group.0.clone(),)).method(StartMethod::Zygote);
    let child = Bound(child.start().unwrap());
    assert_eq!(child.join_timeout(LONG).unwrap(), 1);
}
