//! Puts the same records into a topic of the broker and into an embedded log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use segno::record::NewRecord;
use segno::streams::Log;
use segno::streams::embedded::{Embedded, EmbeddedOptions, Fsync, Timestamps};
use segno::streams::kafka::{Kafka, KafkaOptions};
use segno::streams::murmur2;
use serde::{Deserialize, Serialize};

use crate::broker::{self, Broker};
use crate::workload::{Generator, Workload};

const TOPIC: &str = "bank.accounts";
/// Records of one append to the embedded log.
const APPEND: usize = 8192;

/// Where the records are, for whoever reads them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// `None`: in the embedded log.
    pub brokers: Option<String>,
    pub topic: String,
    /// The embedded log's directory.
    pub embedded: PathBuf,
    /// Records of each partition.
    pub ends: Vec<u64>,
}

impl Place {
    pub fn records(&self) -> u64 {
        self.ends.iter().sum()
    }

    /// The log as a node opens it; `fsync` is that of appends to the embedded one.
    pub fn open(&self, fsync: Fsync) -> Arc<dyn Log> {
        match self.brokers.clone() {
            None => Arc::new(open(&self.embedded, fsync)),
            Some(brokers) => {
                Arc::new(Kafka::connect(KafkaOptions { brokers, ..KafkaOptions::default() }).expect("a client"))
            }
        }
    }
}

/// Logs that are being filled.
pub struct Filling {
    pub generator: Generator,
    partitions: u32,
    kafka: Option<Topic>,
    /// The embedded log's directory. It is open only while records go in.
    embedded: PathBuf,
    local: bool,
    ends: Vec<u64>,
}

impl Filling {
    pub fn begin(workload: &Workload, kafka: bool, embedded: bool, scratch: &Path) -> Filling {
        let filling = Filling {
            generator: Generator::new(workload),
            partitions: workload.partitions,
            kafka: kafka.then(|| Topic::create(workload.partitions)),
            embedded: scratch.join("log"),
            local: embedded,
            ends: vec![0; workload.partitions as usize],
        };
        if embedded {
            let log = open(&filling.embedded, Fsync::Never);
            log.create_topic(TOPIC, workload.partitions, Timestamps::Create).expect("a topic");
            log.close(Duration::from_secs(60));
        }
        filling
    }

    /// Puts so many more records into each of the logs.
    pub fn put(&mut self, records: u64) {
        let mut local = self.local.then(|| Local::open(&self.embedded));
        for _ in 0..records {
            let made = self.generator.next();
            let partition = murmur2::partition_of(made.key.as_bytes(), self.partitions);
            self.ends[partition as usize] += 1;
            if let Some(kafka) = &self.kafka {
                kafka.put(partition, made.key.as_bytes(), &made.value, made.timestamp);
            }
            if let Some(local) = &mut local {
                local.put(NewRecord {
                    partition: Some(partition),
                    key: Some(made.key.into_bytes()),
                    value: Some(made.value),
                    timestamp: Some(made.timestamp),
                    headers: Vec::new(),
                });
            }
        }
        if let Some(kafka) = &self.kafka {
            kafka.producer.flush(Duration::from_secs(120)).expect("all records delivered");
        }
        if let Some(local) = local {
            local.finish();
        }
    }

    /// Where the records are that were put so far.
    pub fn place(&self, kafka: bool) -> Place {
        let kafka = self.kafka.as_ref().filter(|_| kafka);
        Place {
            brokers: kafka.map(|kafka| kafka.broker.plaintext.clone()),
            topic: kafka.map_or_else(|| TOPIC.to_owned(), |kafka| kafka.name.clone()),
            embedded: self.embedded.clone(),
            ends: self.ends.clone(),
        }
    }
}

struct Topic {
    broker: &'static Broker,
    name: String,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Topic {
    fn create(partitions: u32) -> Topic {
        let broker = broker::shared();
        let name = broker.topic(TOPIC, partitions as i32);
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &broker.plaintext)
            .set("compression.type", "lz4")
            .set("linger.ms", "50")
            .set("enable.idempotence", "true")
            .create()
            .expect("a producer");
        Topic { broker, name, producer }
    }

    fn put(&self, partition: u32, key: &[u8], value: &[u8], timestamp: i64) {
        let mut record = BaseRecord::to(&self.name).partition(partition as i32).key(key).payload(value);
        record.timestamp = Some(timestamp);
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.broker.delete_topic(&self.name);
    }
}

struct Local {
    log: Embedded,
    waiting: Vec<NewRecord>,
}

impl Local {
    fn open(dir: &Path) -> Local {
        Local { log: open(dir, Fsync::Never), waiting: Vec::with_capacity(APPEND) }
    }

    fn put(&mut self, record: NewRecord) {
        self.waiting.push(record);
        if self.waiting.len() == APPEND {
            self.append();
        }
    }

    fn append(&mut self) {
        let records = std::mem::replace(&mut self.waiting, Vec::with_capacity(APPEND));
        self.log.append(TOPIC, records).expect("appended");
    }

    fn finish(mut self) {
        self.append();
        self.log.close(Duration::from_secs(60));
    }
}

fn open(dir: &Path, fsync: Fsync) -> Embedded {
    let options = EmbeddedOptions { fsync, ..EmbeddedOptions::new(dir) };
    Embedded::open(options).unwrap_or_else(|error| panic!("{error}"))
}
