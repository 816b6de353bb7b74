//! The log of a stage: in memory, where a script bends it; embedded; or a topic of a real Kafka broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use segno::position::TopicPartition;
use segno::streams::Log;
use segno::streams::embedded::{Embedded, EmbeddedOptions, Fsync, Timestamps};
use segno::streams::kafka::{Kafka, KafkaOptions};
use segno::streams::memory::Memory;

use crate::common::broker::{put, shared};
use crate::tape::TOPIC;

const PATIENCE: Duration = Duration::from_secs(30);

/// Which log.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum On {
    #[default]
    Memory,
    Embedded,
    Kafka,
}

/// The log itself, and what it needs to be there.
pub enum Home {
    Memory(Memory),
    Embedded { log: Arc<Embedded>, _dir: tempfile::TempDir },
    Kafka { log: Arc<Kafka>, topic: String },
}

impl Home {
    pub fn new(on: On, partitions: u32) -> Home {
        match on {
            On::Memory => {
                let log = Memory::new();
                log.create_topic(TOPIC, partitions);
                Home::Memory(log)
            }
            On::Embedded => {
                let dir = tempfile::tempdir().unwrap();
                let options = EmbeddedOptions {
                    fsync: Fsync::Never,
                    // Small blocks, so that the time index has something to find.
                    index_records: 16,
                    cache_bytes: 4 << 20,
                    ..EmbeddedOptions::new(dir.path().join("log"))
                };
                let log = Arc::new(Embedded::open(options).unwrap());
                log.create_topic(TOPIC, partitions, Timestamps::Create).unwrap();
                Home::Embedded { log, _dir: dir }
            }
            On::Kafka => {
                // The tape's times are years old.
                let topic = shared().topic_with(TOPIC, partitions as i32, &[("retention.ms", "-1")]);
                let options = KafkaOptions { brokers: shared().plaintext.clone(), ..KafkaOptions::default() };
                let log = Arc::new(Kafka::connect(options).unwrap());
                // The broker knows a topic a moment after it has created it.
                let deadline = Instant::now() + PATIENCE;
                let there = |partition| log.watermarks(&TopicPartition::new(topic.as_str(), partition)).is_ok();
                while !(0..partitions).all(there) {
                    assert!(Instant::now() < deadline, "no topic {topic}");
                    std::thread::sleep(Duration::from_millis(5));
                }
                Home::Kafka { log, topic }
            }
        }
    }

    pub fn log(&self) -> Arc<dyn Log> {
        match self {
            Home::Memory(log) => Arc::new(log.clone()),
            Home::Embedded { log, .. } => log.clone(),
            Home::Kafka { log, .. } => log.clone(),
        }
    }

    pub fn topic(&self) -> Arc<str> {
        match self {
            Home::Memory(_) | Home::Embedded { .. } => TOPIC.into(),
            Home::Kafka { topic, .. } => topic.as_str().into(),
        }
    }

    pub fn script(&self) -> &Memory {
        match self {
            Home::Memory(log) => log,
            Home::Embedded { .. } | Home::Kafka { .. } => panic!("a script needs the log in memory"),
        }
    }

    /// Leaves a gap of about so many offsets; says whether it could. Kafka has them where a transaction ends, with what
    /// was aborted in it. Offsets of the embedded log are dense.
    pub fn gap(&self, at: &TopicPartition, offsets: u64) -> bool {
        match self {
            Home::Memory(log) => log.push_gap(at, offsets),
            Home::Embedded { .. } => return false,
            Home::Kafka { topic, .. } => {
                let aborted = vec![put(at.partition.0 as i32, "key-1", "was never here"); offsets as usize];
                shared().aborted(topic, &aborted);
            }
        }
        true
    }
}
