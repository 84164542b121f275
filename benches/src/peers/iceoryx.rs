//! iceoryx2: publish and subscribe, there and back between two processes that spin.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::Result;
use crate::harness::Timing;
use crate::two;

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
