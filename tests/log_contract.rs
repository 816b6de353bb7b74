//! The logs that live in this process, held to the contract that Kafka is held to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use segno::position::{Position, TopicPartition};
use segno::streams::Log;
use segno::streams::embedded::{Embedded, EmbeddedOptions, Fsync, Timestamps};
use segno::streams::memory::Memory;

mod contract;

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

suite!(memory, InMemory(Memory::new()));
suite!(embedded, OnDisk::new(Fsync::Never));
