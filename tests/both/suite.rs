// What processes and threads have in common, as tests. Included once for each, behind its `use` line.

use std::time::Duration;

/// Nothing here takes as long.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1);

/// Starts a worker that is gone when the test is.
macro_rules! start {
    ($target:expr, $($args:tt)*) => {
        Process::new($target, $($args)*).daemon(true).start().unwrap()
    };
}

fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[test]
fn a_result_comes_back() {
    alone!(a_result_comes_back);
    let child = Process::new(add, (2, 3)).name("adder").start().unwrap();
    assert_eq!(child.name(), "adder");
    assert!(!child.is_daemon());
    assert_eq!(child.join_timeout(LONG), Ok(5));
    assert!(!child.is_alive());
    assert_eq!(child.exitcode(), Some(0));
    child.close().unwrap();
    assert_eq!(Process::new(add, (2, 3)).run(), 5);
}

fn fail(message: String) {
    panic!("{message}");
}

#[test]
fn a_panic_is_told() {
    alone!(a_panic_is_told);
    let child = start!(fail, ("no more".to_string(),));
    match child.join_timeout(LONG) {
        Err(procession::process::JoinError::Panicked { message, .. }) => {
            assert_eq!(message, "no more");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(child.exitcode(), Some(101));
}

fn wait_for(event: Event) {
    event.wait();
}

#[test]
fn who_runs_is_known() {
    alone!(who_runs_is_known);
    let end = Event::new().unwrap();
    let child = Process::new(wait_for, (end.clone(),)).name("sleeper").daemon(true).start().unwrap();
    assert!(child.is_alive() && child.is_daemon());
    assert_eq!(child.exitcode(), None);
    assert!(child.join_timeout(SHORT).is_err());
    let listed = || active_children().iter().any(|child| child.name() == "sleeper");
    assert!(listed());
    let child = child.close().unwrap_err().child;
    end.set();
    child.join_timeout(LONG).unwrap();
    assert!(!listed());
}

fn own_name() -> String {
    current_process().name
}

#[test]
fn a_worker_knows_its_name() {
    alone!(a_worker_knows_its_name);
    let child = Process::new(own_name, ()).name("teller-7").daemon(true).start().unwrap();
    assert_eq!(child.join_timeout(LONG), Ok("teller-7".to_string()));
}

fn shout(lines: Queue<String>, out: Queue<String>) -> procession::Result<()> {
    for line in &lines {
        out.put(&line?.to_uppercase())?;
    }
    out.close();
    Ok(())
}

#[test]
fn queues_carry_in_order() {
    alone!(queues_carry_in_order);
    let (lines, out) = (Queue::bounded(2).unwrap(), Queue::unbounded().unwrap());
    let child = start!(shout, (lines.clone(), out.clone()));
    for line in ["one", "two", "three", "four"] {
        lines.put_timeout(&line.to_string(), LONG).unwrap();
    }
    lines.close();
    child.join_timeout(LONG).unwrap().unwrap();
    let all: Vec<String> = out.into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(all, ["ONE", "TWO", "THREE", "FOUR"]);
}

#[test]
fn a_queue_counts_and_ends() {
    let queue = Queue::<u32>::bounded(2).unwrap();
    assert!(queue.empty() && !queue.full());
    assert_eq!(queue.capacity(), 2);
    assert!(matches!(queue.get_nowait(), Err(GetError::Empty)));
    assert!(matches!(queue.get_timeout(SHORT), Err(GetError::TimedOut)));
    queue.put(&1).unwrap();
    queue.put_nowait(&2).unwrap();
    assert!(queue.full());
    assert!(matches!(queue.put_nowait(&3), Err(PutError::Full)));
    assert!(matches!(queue.put_timeout(&3, SHORT), Err(PutError::TimedOut)));
    assert_eq!(queue.qsize(), 2);
    assert_eq!(queue.peek().unwrap(), 1);
    queue.close();
    assert!(queue.is_closed());
    assert!(matches!(queue.put(&3), Err(PutError::Closed)));
    assert_eq!(queue.get().unwrap(), 1);
    assert_eq!(queue.try_iter().collect::<Result<Vec<_>, _>>().unwrap(), [2]);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(Queue::<u32>::bounded(0).is_err());
}

#[test]
fn many_at_once() {
    let queue = Queue::<u32>::bounded(10).unwrap();
    assert_eq!(queue.put_many([1, 2, 3]).unwrap(), 3);
    assert_eq!(queue.get_many(2).unwrap(), [1, 2]);
    assert_eq!(queue.drain().unwrap(), [3]);
    assert_eq!(queue.drain().unwrap(), [0; 0]);
    queue.put_many(1..=4).unwrap();
    assert_eq!(queue.get_latest().unwrap(), (4, 3));
    queue.put(&5).unwrap();
    queue.shutdown(true);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
}

#[test]
fn what_is_given_up_comes_again() {
    let orders = QueueOptions::unbounded().at_least_once().create::<String>().unwrap();
    orders.put(&"tea".to_string()).unwrap();
    orders.put(&"milk".to_string()).unwrap();
    let order = orders.take().unwrap();
    assert_eq!((order.as_str(), order.deliveries()), ("tea", 1));
    drop(order);
    orders.close();
    let order = orders.take().unwrap();
    assert_eq!((order.as_str(), order.deliveries()), ("tea", 2));
    assert_eq!(orders.get().unwrap(), "milk");
    assert_eq!(order.done(), "tea");
    assert!(matches!(orders.get(), Err(GetError::Closed)));
}

fn work(tasks: JoinableQueue<u32>, sum: Value<u32>) {
    while let Ok(task) = tasks.get() {
        sum.update(|sum| sum + task);
        tasks.task_done().unwrap();
    }
}

#[test]
fn a_joinable_queue_knows_when_all_is_done() {
    alone!(a_joinable_queue_knows_when_all_is_done);
    let (tasks, sum) = (JoinableQueue::bounded(4).unwrap(), Value::new(0u32).unwrap());
    let workers = [0, 1].map(|_| start!(work, (tasks.clone(), sum.clone())));
    for task in 1..=100 {
        tasks.put_timeout(&task, LONG).unwrap();
    }
    tasks.join_timeout(LONG).unwrap();
    assert_eq!((sum.get(), tasks.unfinished()), (5050, 0));
    tasks.close();
    for worker in workers {
        worker.join_timeout(LONG).unwrap();
    }
    assert!(tasks.task_done().is_err());
    let tasks = JoinableQueue::unbounded().unwrap();
    tasks.put(&1u32).unwrap();
    assert!(tasks.join_timeout(SHORT).is_err());
    drop(tasks.take().unwrap());
    assert!(tasks.join().is_err(), "one was lost");
    assert_eq!(tasks.take_lost(), 1);
    tasks.join().unwrap();
}

#[test]
fn the_last_the_least_and_the_simple() {
    let stack = LifoQueue::unbounded().unwrap();
    stack.put(&1).unwrap();
    stack.put(&2).unwrap();
    assert_eq!((stack.get().unwrap(), stack.get().unwrap()), (2, 1));
    let jobs = PriorityQueue::unbounded().unwrap();
    for (priority, job) in [(5, "sweep"), (-1, "put out the fire"), (5, "water the plants")] {
        jobs.put(priority, &job.to_string()).unwrap();
    }
    assert_eq!(jobs.peek().unwrap().0, -1);
    let order: Vec<_> = jobs.try_iter().map(|got| got.unwrap().1).collect();
    assert_eq!(order, ["put out the fire", "sweep", "water the plants"]);
    let words = SimpleQueue::new().unwrap();
    words.put(&"hello".to_string()).unwrap();
    assert!(!words.empty());
    assert_eq!(words.get().unwrap(), "hello");
}

fn count_down(sender: Sender<u32>, from: u32) {
    for number in (0..from).rev() {
        sender.send(&number).unwrap();
    }
}

#[test]
fn a_pipe_ends_with_its_senders() {
    alone!(a_pipe_ends_with_its_senders);
    let (sender, receiver) = pipe().unwrap();
    let child = start!(count_down, (sender.clone(), 200));
    drop(sender);
    for expected in (0..200).rev() {
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), expected);
    }
    child.join_timeout(LONG).unwrap();
    drop(child);
    assert!(matches!(receiver.recv_timeout(LONG), Err(RecvError::Eof)));
    assert!(receiver.poll(Duration::ZERO).unwrap());
}

#[test]
fn a_pipe_without_receivers_is_broken() {
    let (sender, receiver) = pipe::<u32>().unwrap();
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    assert!(matches!(receiver.recv_timeout(SHORT), Err(RecvError::TimedOut)));
    assert!(!receiver.poll(SHORT).unwrap());
    sender.send(&1).unwrap();
    receiver.close();
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    assert!(matches!(sender.send(&1), Err(SendError::BrokenPipe)));
    sender.close();
    assert!(matches!(sender.send(&1), Err(SendError::Closed)));
}

#[test]
fn connections_carry_any_type() {
    let (near, far) = Pipe::duplex().unwrap();
    near.send("a question").unwrap();
    near.send(&vec![1u64, 2]).unwrap();
    assert_eq!(far.recv::<String>().unwrap(), "a question");
    assert_eq!(far.recv::<Vec<u64>>().unwrap(), [1, 2]);
    far.send_bytes(b"raw").unwrap();
    assert_eq!(near.recv_bytes().unwrap(), b"raw");
    let (reader, writer) = Pipe::simplex().unwrap();
    assert!(reader.readable() && !reader.writable());
    assert!(matches!(reader.send(&1), Err(SendError::ReadOnly)));
    assert!(matches!(writer.recv::<u32>(), Err(RecvError::WriteOnly)));
    drop(writer);
    assert!(matches!(reader.recv::<u32>(), Err(RecvError::Eof)));
}

fn deposit(account: Mutex<i64>, times: u32) -> procession::Result<()> {
    for _ in 0..times {
        *account.lock()? += 1;
    }
    Ok(())
}

#[test]
fn a_mutex_adds_up() {
    alone!(a_mutex_adds_up);
    let account = Mutex::new(0).unwrap();
    let tellers = [0; 3].map(|_| start!(deposit, (account.clone(), 1000)));
    for teller in tellers {
        teller.join_timeout(LONG).unwrap().unwrap();
    }
    assert_eq!(*account.lock().unwrap(), 3000);
    let guard = account.lock().unwrap();
    assert!(account.locked());
    assert!(matches!(account.try_lock(), Err(AcquireError::WouldBlock)));
    assert!(matches!(account.lock_timeout(SHORT), Err(AcquireError::TimedOut)));
    drop(guard);
}

fn raise(limits: RwData<[u32; 2]>) -> procession::Result<()> {
    let mut limits = limits.write()?;
    limits[0] += 1;
    limits[1] += 1;
    Ok(())
}

#[test]
fn readers_and_writers() {
    alone!(readers_and_writers);
    let limits = RwData::new([1, 10]).unwrap();
    let reading = limits.read().unwrap();
    assert_eq!(limits.readers(), 1);
    let child = start!(raise, (limits.clone(),));
    assert_eq!(*reading, [1, 10]);
    drop(reading);
    child.join_timeout(LONG).unwrap().unwrap();
    assert_eq!(*limits.read().unwrap(), [2, 11]);
    let lock = RwLock::new().unwrap();
    let looking = lock.upgradable_read().unwrap();
    assert!(lock.try_read().is_ok() && lock.try_write().is_err());
    let writing = looking.upgrade().unwrap();
    assert!(lock.try_read().is_err());
    drop(writing);
}

#[test]
fn locks_lock() {
    let lock = Lock::new().unwrap();
    lock.acquire().unwrap().detach();
    assert!(lock.locked());
    assert!(lock.acquire_timeout(SHORT).is_err());
    lock.release().unwrap();
    assert!(lock.release().is_err());
    let lock = RLock::new().unwrap();
    {
        let (_outer, _inner) = (lock.acquire().unwrap(), lock.acquire().unwrap());
        assert_eq!(lock.depth(), 2);
        let other = || lock.try_acquire().is_err();
        assert!(std::thread::scope(|threads| threads.spawn(other).join().unwrap()));
    }
    assert!(!lock.locked());
}

fn hold(slots: Semaphore, inside: Value<u32>, most: Value<u32>) -> procession::Result<()> {
    for _ in 0..100 {
        let _slot = slots.acquire()?;
        let now = inside.update(|inside| inside + 1);
        most.update(|most| most.max(now));
        inside.update(|inside| inside - 1);
    }
    Ok(())
}

#[test]
fn semaphores_count() {
    alone!(semaphores_count);
    let slots = Semaphore::new(2).unwrap();
    let (inside, most) = (Value::new(0u32).unwrap(), Value::new(0u32).unwrap());
    let workers = [0; 3].map(|_| start!(hold, (slots.clone(), inside.clone(), most.clone())));
    for worker in workers {
        worker.join_timeout(LONG).unwrap().unwrap();
    }
    assert_eq!(slots.value(), 2);
    assert!((1..=2).contains(&most.get()));
    let bounded = BoundedSemaphore::new(1).unwrap();
    bounded.take().unwrap();
    assert!(bounded.try_take().is_err());
    bounded.release().unwrap();
    assert!(bounded.release().is_err());
}

#[test]
fn events_are_seen() {
    alone!(events_are_seen);
    let event = Event::new().unwrap();
    assert!(!event.wait_timeout(SHORT));
    let children = [0; 2].map(|_| start!(wait_for, (event.clone(),)));
    event.set();
    for child in children {
        child.join_timeout(LONG).unwrap();
    }
    event.clear();
    assert!(!event.is_set());
}

fn produce(changed: Condition, stock: Value<u32>) -> procession::Result<()> {
    let guard = changed.acquire()?;
    stock.set(3);
    guard.notify_all()?;
    Ok(())
}

fn produce_in(stock: Mutex<u32>, changed: Condition) -> procession::Result<()> {
    let mut guard = stock.lock()?;
    *guard = 3;
    changed.notify_one(&guard)?;
    Ok(())
}

#[test]
fn conditions_wake() {
    alone!(conditions_wake);
    let (changed, stock) = (Condition::new().unwrap(), Value::new(0u32).unwrap());
    let mut guard = changed.acquire().unwrap();
    assert!(!guard.wait_timeout(SHORT).unwrap());
    let child = start!(produce, (changed.clone(), stock.clone()));
    assert!(guard.wait_for_timeout(LONG, || stock.get() > 0).unwrap());
    drop(guard);
    child.join_timeout(LONG).unwrap().unwrap();

    let (stock, changed) = (Mutex::new(0u32).unwrap(), Condition::new().unwrap());
    let mut guard = stock.lock().unwrap();
    let child = start!(produce_in, (stock.clone(), changed.clone()));
    assert!(changed.wait_for_timeout(&mut guard, LONG, |stock| **stock > 0).unwrap());
    drop(guard);
    child.join_timeout(LONG).unwrap().unwrap();

    let lock = Lock::new().unwrap();
    let (full, empty) = (Condition::with_lock(&lock).unwrap(), Condition::with_lock(&lock).unwrap());
    let guard = full.acquire().unwrap();
    assert!(lock.locked() && empty.try_acquire().is_err());
    drop(guard);
    assert!(Condition::with_rlock(&RLock::new().unwrap()).unwrap().try_acquire().is_ok());
}

fn stage(barrier: Barrier) -> procession::Result<usize> {
    barrier.wait()?;
    Ok(barrier.wait()?)
}

fn refuse() -> Result<(), String> {
    Err("disk 3 is full".into())
}

#[test]
fn barriers_meet() {
    alone!(barriers_meet);
    let barrier = Barrier::new(3).unwrap().with_timeout(LONG);
    let children = [0; 3].map(|_| start!(stage, (barrier.clone(),)));
    let mut indices = children.map(|child| child.join_timeout(LONG).unwrap().unwrap());
    indices.sort();
    assert_eq!(indices, [0, 1, 2]);
    assert!(Barrier::new(0).is_err());
    let barrier = Barrier::new(1).unwrap().with_action(refuse);
    assert!(barrier.wait().is_err() && barrier.broken());
    barrier.reset().unwrap();
    assert!(!barrier.broken());
}

#[test]
fn values_and_arrays() {
    let value = Value::new(10.0f64).unwrap();
    {
        let mut locked = value.lock().unwrap();
        locked.update(|sum| sum - 5.0);
        assert!(value.try_lock().is_err());
    }
    assert_eq!(value.get(), 5.0);
    let array = Array::from_slice(&[3, 1, 2]).unwrap();
    array.set(0, 7).unwrap();
    assert!(array.set(3, 0).is_err());
    assert_eq!(array.to_vec(), [7, 1, 2]);
    assert_eq!(Array::<u16>::new(2).unwrap().to_vec(), [0, 0]);
    let atomic = Atomic::new(1u64).unwrap();
    atomic.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(atomic.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[test]
fn once_is_once() {
    let once = Once::new().unwrap();
    assert!(once.call(|again| assert!(!again)).unwrap());
    assert!(!once.call(|_| panic!("twice")).unwrap());
    let cell = OnceCell::<u32>::new().unwrap();
    assert!(cell.get().is_none());
    let latch = Latch::new(1).unwrap();
    assert!(latch.try_wait().is_err());
    latch.count_down().unwrap();
    latch.wait().unwrap();
    let lock = SeqLock::new([1u32, 2]).unwrap();
    assert_eq!(lock.get(), [1, 2]);
}

#[test]
fn several_are_waited_for() {
    alone!(several_are_waited_for);
    let (queue, event) = (Queue::<u32>::bounded(1).unwrap(), Event::new().unwrap());
    let child = start!(wait_for, (event.clone(),));
    let (_sender, receiver) = pipe::<u32>().unwrap();
    assert!(wait_timeout(&[&queue, &event, &child, &receiver], SHORT).is_empty());
    assert_eq!(wait_timeout(&[&queue.room()], LONG), [0]);
    event.set();
    assert_eq!(wait_any_timeout(&[&queue, &child], LONG), Some(1));
    queue.put(&1).unwrap();
    assert_eq!(wait_timeout(&[&queue, &receiver, &event, &child], LONG), [0, 2, 3]);
    child.join_timeout(LONG).unwrap();
}

#[test]
fn an_executor_ends_as_it_is_told() {
    let executor = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
    let futures = [1, 2].map(|number| executor.submit(add, (number, 1)).unwrap());
    executor.shutdown(Shutdown::new().timeout(LONG)).unwrap();
    let results = as_completed(futures).map(|future| future.result().unwrap());
    assert_eq!(results.sum::<u32>(), 5);
    assert!(executor.submit(add, (1, 1)).is_err());
}
