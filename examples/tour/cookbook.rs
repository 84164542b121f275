//! A chapter of a cookbook: the life of a process, from its name to its exit code, a producer with a consumer, a pool.

use std::thread::sleep;
use std::time::Duration;

use procession::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Outcome, Tutorial};

pub const TUTORIAL: Tutorial = Tutorial {
    title: "Cookbook: processes",
    original: "multiprocessing",
    programs: &[
        ("Five processes", "多进程基本使用", five_processes),
        ("A function of another module", "了解更多", function_of_another_module),
        ("Names", "线程命名", names),
        ("A process in the background", "后台守护进程", background),
        ("Ending a process", "杀掉一个进程", terminate),
        ("A process of one's own", "自定义进程", own_process),
        ("A producer and a consumer", "使用队列交换对象", producer_and_consumer),
        ("A pool of four", "进程池", pool),
    ],
};

fn foo(i: u32) {
    println!("called function in process: {i}");
}

fn five_processes() -> Outcome {
    for i in 0..5 {
        Process::new(foo, (i,)).start()?.join()?;
    }
    Ok(())
}

mod target_function {
    pub fn function(i: u32) {
        println!("called function in process: {i}");
    }
}

fn function_of_another_module() -> Outcome {
    for i in 0..5 {
        // Any function of the program will do, and nothing is imported a second time.
        Process::new(target_function::function, (i,)).start()?.join()?;
    }
    Ok(())
}

fn say_name() {
    let name = current_process().name;
    println!("Starting {name}");
    sleep(Duration::from_millis(30));
    println!("Exiting {name}");
}

fn names() -> Outcome {
    let with_name = Process::new(say_name, ()).name("foo_process").start()?;
    let with_default_name = Process::new(say_name, ()).start()?;
    with_name.join()?;
    with_default_name.join()?;
    Ok(())
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

/// The main program of the background program: it ends, and its daemon with it.
fn leave_a_daemon_behind(handles: Queue<u32>) -> procession::Result<()> {
    let daemon = Process::new(wait_for_ever, ()).name("background_process").daemon(true).start()?;
    handles.put(&daemon.pid())?;
    Process::new(say_name, ()).name("NO_background_process").daemon(false).start()?.join()?;
    Ok(())
}

fn background() -> Outcome {
    let pids = Queue::bounded(1)?;
    Process::new(leave_a_daemon_behind, (pids.clone(),)).start()?.join()??;
    let pid = pids.get()?;
    while is_running(pid) {
        sleep(Duration::from_millis(1));
    }
    println!("background_process has ended with the process that started it");
    Ok(())
}

/// Whether a process that is not our own child has not ended.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state comes behind the name, which is in parentheses. Z: it has ended, and nobody has asked how.
    stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

fn slow() {
    println!("Starting function");
    sleep(Duration::from_secs(60));
    println!("Finished function");
}

fn terminate() -> Outcome {
    // Before `start` there is only a description of a process, and no question whether it is alive.
    let child = Process::new(slow, ()).name("slow").start()?;
    println!("Process running: {} {}", child.name(), child.is_alive());
    child.terminate()?;
    if let Err(end) = child.join() {
        println!("Process joined: {} {}, for {end}", child.name(), child.is_alive());
    }
    // 0: it has returned. n: it has left with this status. -n: this signal has ended it.
    println!("Process exit code: {}", child.exitcode().unwrap_or_default());
    Ok(())
}

/// What would be a subclass is a type that implements `Run`. Its fields cross to the new process, and its name is the process's,
/// with a number: of how many processes were started before.
#[derive(Serialize, Deserialize)]
struct MyProcess;

impl Run for MyProcess {
    type Output = ();

    fn run(self) {
        println!("Called run method in process: {}", current_process().name);
    }
}

fn own_process() -> Outcome {
    for _ in 0..5 {
        MyProcess.start()?.join()?;
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Producer {
    queue: Queue<u32>,
}

impl Run for Producer {
    type Output = procession::Result<()>;

    fn run(self) -> procession::Result<()> {
        let (queue, name) = (self.queue, current_process().name);
        for item in [69, 168, 235, 152, 213, 35, 218, 175, 140, 241] {
            queue.put(&item)?;
            println!("Process Producer : item {item} appended to queue {name}");
            sleep(Duration::from_millis(2));
            println!("The size of queue is {}", queue.qsize());
        }
        // Tells the consumer that there will be no more, which an empty queue does not.
        queue.close();
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Consumer {
    queue: Queue<u32>,
}

impl Run for Consumer {
    type Output = procession::Result<()>;

    fn run(self) -> procession::Result<()> {
        let name = current_process().name;
        for item in &self.queue {
            let item = item?;
            println!("Process Consumer : item {item} popped from by {name}");
            sleep(Duration::from_millis(3));
        }
        println!("the queue is empty");
        Ok(())
    }
}

fn producer_and_consumer() -> Outcome {
    let queue = Queue::bounded(100)?;
    let producer = Producer { queue: queue.clone() }.process().name("producer-1").start()?;
    let consumer = Consumer { queue }.process().name("consumer-2").start()?;
    producer.join()??;
    consumer.join()??;
    Ok(())
}

fn function_square(data: u32) -> u32 {
    data * data
}

fn pool() -> Outcome {
    let pool = Pool::new(4)?;
    // How many inputs travel together is found by measurement.
    let outputs = pool.map(function_square, 0..100)?;
    pool.close();
    pool.join()?;
    println!("Pool    : {outputs:?}");
    Ok(())
}
