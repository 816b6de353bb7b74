//! Puts the same records into a topic of the broker and into an embedded log.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use segno::record::NewRecord;
use segno::streams::Log;
use segno::streams::embedded::{Embedded, EmbeddedOptions, Fsync, Timestamps};
use segno::streams::murmur2;

use crate::arguments::{Arguments, Job, Logs, Stage};
use crate::broker::{self, Broker};
use crate::workload::{Generator, Totals};

const TOPIC: &str = "bank.accounts";
/// Records of one append to the embedded log.
const APPEND: usize = 8192;

/// Logs that are full.
pub struct Filled {
    broker: Option<(&'static Broker, String)>,
    embedded: PathBuf,
    ends: Vec<u64>,
    pub totals: Totals,
}

pub fn fill(arguments: &Arguments, scratch: &Path) -> Filled {
    let needs = |log: Logs| arguments.stages().iter().any(|stage| stage.log() == Some(log));
    let embedded = scratch.join("log");
    let mut ends = vec![0u64; arguments.partitions as usize];
    let mut generator = Generator::new(arguments);
    let started = Instant::now();
    let mut kafka = needs(Logs::Kafka).then(|| Topic::create(arguments));
    let mut local = needs(Logs::Embedded).then(|| Local::create(arguments, &embedded));
    for _ in 0..arguments.records {
        let made = generator.next();
        let partition = murmur2::partition_of(made.key.as_bytes(), arguments.partitions);
        ends[partition as usize] += 1;
        if let Some(kafka) = &mut kafka {
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
    let broker = kafka.map(Topic::finish);
    if let Some(local) = local {
        local.finish();
    }
    eprintln!("filled the logs in {:.1} s", started.elapsed().as_secs_f64());
    Filled { broker, embedded, ends, totals: generator.totals() }
}

impl Filled {
    pub fn job(&self, arguments: &Arguments, stage: Stage, data: &Path) -> Job {
        let kafka = self.broker.as_ref().filter(|_| stage.log() == Some(Logs::Kafka));
        Job {
            stage,
            brokers: kafka.map(|(broker, _)| broker.plaintext.clone()),
            topic: kafka.map_or_else(|| TOPIC.to_owned(), |(_, topic)| topic.clone()),
            embedded: self.embedded.clone(),
            data: data.to_owned(),
            keys: arguments.keys,
            ends: self.ends.clone(),
            shards: arguments.shards,
            batch_records: arguments.batch_records,
            credit_records: arguments.credit_records,
            credit_bytes: arguments.credit_bytes.as_u64(),
            residency: arguments.residency.as_u64(),
        }
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if let Some((broker, topic)) = &self.broker {
            broker.delete_topic(topic);
        }
    }
}

struct Topic {
    broker: &'static Broker,
    name: String,
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Topic {
    fn create(arguments: &Arguments) -> Topic {
        let broker = broker::shared();
        let name = broker.topic(TOPIC, arguments.partitions as i32);
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

    fn finish(self) -> (&'static Broker, String) {
        self.producer.flush(Duration::from_secs(120)).expect("all records delivered");
        (self.broker, self.name)
    }
}

struct Local {
    log: Embedded,
    waiting: Vec<NewRecord>,
}

impl Local {
    fn create(arguments: &Arguments, dir: &Path) -> Local {
        let log = open(dir);
        log.create_topic(TOPIC, arguments.partitions, Timestamps::Create).expect("a topic");
        Local { log, waiting: Vec::with_capacity(APPEND) }
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

/// The embedded log, as the daemon opens it but for the fsync of appends, which are not measured.
pub fn open(dir: &Path) -> Embedded {
    let options = EmbeddedOptions { fsync: Fsync::Never, ..EmbeddedOptions::new(dir) };
    Embedded::open(options).unwrap_or_else(|error| panic!("{error}"))
}
