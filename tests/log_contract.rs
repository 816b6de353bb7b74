//! All three logs, held to one contract: in memory, embedded, and a real Apache Kafka broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use segno::position::{Position, TopicPartition};
use segno::streams::Log;
use segno::streams::embedded::{Embedded, EmbeddedOptions, Fsync, Timestamps};
use segno::streams::kafka::{Kafka, KafkaOptions};
use segno::streams::memory::Memory;

mod common;
mod contract;

use common::broker::{put, shared};
use contract::Subject;

static TOPICS: AtomicU32 = AtomicU32::new(0);

fn own_name(stem: &str) -> String {
    format!("{stem}-{}", TOPICS.fetch_add(1, Ordering::Relaxed))
}

struct InMemory(Memory);

impl Subject for InMemory {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.0.clone())
    }

    fn create_topic(&self, stem: &str, partitions: u32) -> String {
        let name = own_name(stem);
        self.0.create_topic(&name, partitions);
        name
    }

    fn gap(&self, at: &TopicPartition) -> bool {
        self.0.push_gap(at, 3);
        true
    }

    fn truncate(&self, at: &TopicPartition, position: Position) -> bool {
        self.0.truncate_before(at, position);
        true
    }

    fn create_compacted(&self, stem: &str) -> Option<String> {
        let name = self.create_topic(stem, 1);
        self.0.set_compacted(&name, Some(true));
        Some(name)
    }

    fn cases(&self) -> u32 {
        300
    }
}

struct OnDisk {
    log: Arc<Embedded>,
    _dir: tempfile::TempDir,
}

impl OnDisk {
    fn new(fsync: Fsync) -> OnDisk {
        let dir = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions {
            fsync,
            // Small blocks, so that the time index has something to find.
            index_records: 16,
            cache_bytes: 4 << 20,
            ..EmbeddedOptions::new(dir.path().join("log"))
        };
        OnDisk { log: Arc::new(Embedded::open(options).unwrap()), _dir: dir }
    }
}

impl Subject for OnDisk {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    fn create_topic(&self, stem: &str, partitions: u32) -> String {
        let name = own_name(stem);
        self.log.create_topic(&name, partitions, Timestamps::Create).unwrap();
        name
    }

    // No `gap`: offsets of the embedded log are dense.

    fn truncate(&self, at: &TopicPartition, position: Position) -> bool {
        self.log.truncate_before(at, position).unwrap();
        true
    }

    fn cases(&self) -> u32 {
        40
    }
}

struct OnKafka(Arc<Kafka>);

impl OnKafka {
    fn new() -> OnKafka {
        let mut options = KafkaOptions { brokers: shared().plaintext.clone(), ..KafkaOptions::default() };
        // The suite's values would shrink to nothing, and with them what a fetch can be held to.
        options.properties.insert("compression.type".to_owned(), "none".to_owned());
        OnKafka(Arc::new(Kafka::connect(options).unwrap()))
    }
}

impl Subject for OnKafka {
    fn log(&self) -> Arc<dyn Log> {
        self.0.clone()
    }

    fn create_topic(&self, stem: &str, partitions: u32) -> String {
        // Brokers refuse timestamps more than an hour ahead unless told otherwise.
        let any_time = i64::MAX.to_string();
        let config = [("retention.ms", "-1"), ("message.timestamp.after.max.ms", any_time.as_str())];
        shared().topic_with(stem, partitions as i32, &config)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }

    fn gap(&self, at: &TopicPartition) -> bool {
        shared().aborted(&at.topic, &[put(at.partition.0 as i32, "never", "seen")]);
        true
    }

    fn truncate(&self, at: &TopicPartition, position: Position) -> bool {
        shared().delete_records(&at.topic, at.partition.0 as i32, position.0 as i64);
        true
    }

    fn create_compacted(&self, stem: &str) -> Option<String> {
        Some(shared().topic_with(stem, 1, &[("cleanup.policy", "compact,delete")]))
    }

    /// librdkafka takes 0 for "now", so Segno refuses it; see the adapter's own tests.
    fn odd_timestamps(&self) -> Vec<i64> {
        vec![-1, 1, contract::YEAR_2200]
    }

    /// A fetch is asked for while there is room left, and brings at least one of the batches that the producer made:
    /// here up to half a megabyte.
    fn overshoot(&self) -> Option<usize> {
        Some(640 << 10)
    }

    fn cases(&self) -> u32 {
        6
    }
}

suite!(memory, InMemory(Memory::new()));
suite!(embedded, OnDisk::new(Fsync::Never));
suite!(kafka, OnKafka::new());
