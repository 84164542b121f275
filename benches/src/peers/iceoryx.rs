//! iceoryx2: publish and subscribe between processes: there and back, to three at once, and in place.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::PortFactory as _;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::Result;
use crate::harness::Timing;
use crate::rows::zerocopy::{BYTES, Frame};
use crate::rows::{CAPACITY, Checksum, counted};
use crate::two::{self, Runner};

/// One direction, as its own benchmark configures it: no history, and room for one sample.
fn service(node: &Node<ipc::Service>, name: &str) -> Result<PortFactory<ipc::Service, u64, ()>> {
    Ok(node
        .service_builder(&name.try_into()?)
        .publish_subscribe::<u64>()
        .max_publishers(1)
        .max_subscribers(1)
        .history_size(0)
        .subscriber_max_buffer_size(1)
        .enable_safe_overflow(true)
        .open_or_create()?)
}

fn send(publisher: &Publisher<ipc::Service, u64, ()>, value: u64) -> Result<()> {
    publisher.loan_uninit()?.write_payload(value).send()?;
    Ok(())
}

fn receive(subscriber: &Subscriber<ipc::Service, u64, ()>) -> Result<u64> {
    loop {
        if let Some(sample) = subscriber.receive()? {
            return Ok(*sample);
        }
    }
}

/// Where iceoryx2 keeps its files: a prefix of this scoreboard's own, so that they can be swept.
struct Files {
    config: Config,
    prefix: String,
    root: std::path::PathBuf,
}

impl Files {
    fn new() -> Result<Self> {
        let prefix = format!("procession_benches_{}_", std::process::id());
        let root = std::env::temp_dir().join(&prefix);
        let mut config = Config::default();
        config.global.prefix = FileName::new(prefix.as_bytes())?;
        config.global.set_root_path(&Path::new(root.to_string_lossy().as_bytes())?);
        Ok(Self { config, prefix, root })
    }

    fn node(&self) -> Result<Node<ipc::Service>> {
        Ok(NodeBuilder::new().config(&self.config).create::<ipc::Service>()?)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // iceoryx2 leaves one shared memory object and its directories behind. That sweeping fails harms nobody.
        std::fs::remove_dir_all(&self.root).ok();
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.prefix) {
                std::fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// `ops` round trips between two processes.
pub fn round_trips(ops: u64) -> Result<Timing> {
    set_log_level(LogLevel::Error);
    let files = Files::new()?;
    let finish = two::processes(vec![
        Box::new(|gate| {
            let node = files.node()?;
            let publisher = service(&node, "there")?.publisher_builder().create()?;
            let subscriber = service(&node, "back")?.subscriber_builder().create()?;
            gate.start();
            for i in 1..=ops {
                send(&publisher, i)?;
                if receive(&subscriber)? != i {
                    return Err("iceoryx2 answered with another number".into());
                }
            }
            gate.stop();
            Ok(0)
        }),
        Box::new(|gate| {
            let node = files.node()?;
            let subscriber = service(&node, "there")?.subscriber_builder().create()?;
            let publisher = service(&node, "back")?.publisher_builder().create()?;
            gate.start();
            for _ in 0..ops {
                send(&publisher, receive(&subscriber)?)?;
            }
            gate.stop();
            Ok(0)
        }),
    ])?;
    Ok(Timing { ops, took: finish.took })
}

/// One direction in which nothing is lost: as many samples as our queues hold, and a publisher that waits for room.
fn stream<T: std::fmt::Debug + ZeroCopySend>(
    node: &Node<ipc::Service>,
    subscribers: usize,
) -> Result<PortFactory<ipc::Service, T, ()>> {
    Ok(node
        .service_builder(&"stream".try_into()?)
        .publish_subscribe::<T>()
        .max_publishers(1)
        .max_subscribers(subscribers)
        .history_size(0)
        .subscriber_max_buffer_size(CAPACITY)
        .enable_safe_overflow(false)
        .open_or_create()?)
}

/// Calls `take` with each of `ops` samples; gives way to others when it has looked in vain for a while.
fn take_all<T: std::fmt::Debug + ZeroCopySend>(
    subscriber: &Subscriber<ipc::Service, T, ()>,
    ops: u64,
    mut take: impl FnMut(&T),
) -> Result<()> {
    let (mut taken, mut vain) = (0, 0u32);
    while taken < ops {
        match subscriber.receive()? {
            Some(sample) => {
                take(&sample);
                (taken, vain) = (taken + 1, 0);
            }
            None => {
                vain += 1;
                if vain.is_multiple_of(128) {
                    std::thread::yield_now();
                }
            }
        }
    }
    Ok(())
}

/// Makes the subscriber of a stream, once its publisher is there: then it is connected from the start.
fn subscriber<T: std::fmt::Debug + ZeroCopySend>(
    stream: &PortFactory<ipc::Service, T, ()>,
) -> Result<Subscriber<ipc::Service, T, ()>> {
    while stream.dynamic_config().number_of_publishers() == 0 {
        std::thread::yield_now();
    }
    Ok(stream.subscriber_builder().create()?)
}

/// Connects a publisher with its subscribers, once all of them are there.
fn connect<T: std::fmt::Debug + ZeroCopySend>(
    stream: &PortFactory<ipc::Service, T, ()>,
    publisher: &Publisher<ipc::Service, T, ()>,
    subscribers: usize,
) -> Result<()> {
    while stream.dynamic_config().number_of_subscribers() < subscribers {
        std::thread::yield_now();
    }
    Ok(publisher.update_connections()?)
}

/// Keeps a publisher until its subscribers are done: one that has not looked at it yet loses what it holds.
fn see_off<T: std::fmt::Debug + ZeroCopySend>(stream: &PortFactory<ipc::Service, T, ()>) {
    while stream.dynamic_config().number_of_subscribers() > 0 {
        std::thread::yield_now();
    }
}

/// `ops` numbers from one process to three.
pub fn to_three(ops: u64) -> Result<Timing> {
    set_log_level(LogLevel::Error);
    let files = Files::new()?;
    let files = &files;
    let publisher: Runner<'_> = Box::new(|gate| {
        let node = files.node()?;
        let stream = stream::<u64>(&node, 3)?;
        let publisher = stream
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        connect(&stream, &publisher, 3)?;
        gate.start();
        for i in 0..ops {
            send(&publisher, i)?;
        }
        gate.stop();
        see_off(&stream);
        Ok(Checksum::one_by_one(ops))
    });
    let subscribers = (0..3).map(|_| -> Runner<'_> {
        Box::new(|gate| {
            let node = files.node()?;
            let subscriber = subscriber(&stream::<u64>(&node, 3)?)?;
            let mut sum = Checksum::default();
            gate.start();
            take_all(&subscriber, ops, |&number| sum.add(number))?;
            gate.stop();
            Ok(sum.value())
        })
    });
    let finish = two::processes([publisher].into_iter().chain(subscribers).collect())?;
    if finish.values.iter().any(|&sum| sum != finish.values[0]) {
        return Err("what arrived is not what was sent".into());
    }
    Ok(Timing { ops, took: finish.took })
}

/// `ops` frames from one process to another, written and read where they lie.
pub fn in_place(ops: u64) -> Result<Timing> {
    set_log_level(LogLevel::Error);
    let files = Files::new()?;
    let finish = two::processes(vec![
        Box::new(|gate| {
            let node = files.node()?;
            let stream = stream::<[u8; BYTES]>(&node, 1)?;
            let publisher = stream
                .publisher_builder()
                .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
                .create()?;
            connect(&stream, &publisher, 1)?;
            gate.start();
            for i in 0..ops {
                // SAFETY: any bytes are a frame; what is not written here is what the memory held before.
                let mut sample = unsafe { publisher.loan_uninit()?.assume_init() };
                Frame::over(sample.payload_mut()).sign(i);
                sample.send()?;
            }
            gate.stop();
            see_off(&stream);
            Ok(0)
        }),
        Box::new(|gate| {
            let node = files.node()?;
            let subscriber = subscriber(&stream::<[u8; BYTES]>(&node, 1)?)?;
            let (mut next, mut right) = (0, 0);
            gate.start();
            take_all(&subscriber, ops, |frame| {
                right += u64::from(Frame::is_signed(frame, next));
                next += 1;
            })?;
            gate.stop();
            counted(right, ops)?;
            Ok(0)
        }),
    ])?;
    Ok(Timing { ops, took: finish.took })
}
