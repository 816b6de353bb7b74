//! A real Apache Kafka broker for tests, and what a test needs to put there.
//!
//! [`shared`] is the broker of the whole run, which `scripts/with-kafka.sh` starts and names in `SEGNO_TEST_KAFKA` and
//! `SEGNO_TEST_KAFKA_SASL`; without one, a broker for this test program, started on first use. Tests share it and use
//! topics of their own.
//! [`Broker::own`] is a broker for one test, which may kill it. A broker started here lives as long as a pipe that this
//! process holds: however the process ends, the broker ends with it.
//!
//! Records are written with plain rdkafka and none of Segno's code, so that a test judges Segno by somebody else's work.
#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

pub const USER: &str = "segno";
pub const PASSWORD: &str = "segno-secret";

const PATIENCE: Duration = Duration::from_secs(30);

/// A record as a test writes it down.
#[derive(Clone, Debug, Default)]
pub struct Put<'a> {
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub timestamp: Option<i64>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

pub fn put<'a>(partition: i32, key: &'a str, value: &'a str) -> Put<'a> {
    Put { partition, key: Some(key.as_bytes()), value: Some(value.as_bytes()), ..Put::default() }
}

pub struct Broker {
    /// `host:port` without credentials.
    pub plaintext: String,
    /// `host:port` of the SASL_PLAINTEXT listener (PLAIN, [`USER`], [`PASSWORD`]).
    pub sasl: String,
    running: Option<Running>,
}

struct Running {
    dir: PathBuf,
    script: Child,
}

/// The broker that all tests of this run share.
pub fn shared() -> &'static Broker {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(|| match (std::env::var("SEGNO_TEST_KAFKA"), std::env::var("SEGNO_TEST_KAFKA_SASL")) {
        (Ok(plaintext), Ok(sasl)) => Broker { plaintext, sasl, running: None },
        (Ok(_), Err(_)) => panic!("SEGNO_TEST_KAFKA is set, SEGNO_TEST_KAFKA_SASL is not: use scripts/with-kafka.sh"),
        _ => Broker::launch(true),
    })
}

fn script() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka.sh"))
}

fn addresses(dir: &Path) -> (String, String) {
    let text = std::fs::read_to_string(dir.join("env")).unwrap_or_else(|e| panic!("no broker in {dir:?}: {e}"));
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{name} is missing in {dir:?}/env")).to_owned()
    };
    (value("KAFKA_PLAINTEXT"), value("KAFKA_SASL"))
}

fn run(dir: PathBuf, temporary: bool) -> Running {
    let mut command = script();
    let temporary = if temporary { "1" } else { "" };
    command.arg("run").arg(&dir).env("SEGNO_KAFKA_TEMPORARY", temporary).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = command.spawn().expect("scripts/kafka.sh");
    let mut line = String::new();
    BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready", "the broker did not start; see {dir:?}/server.log");
    Running { dir, script }
}

impl Running {
    /// Kills the broker at once, as a power cut would.
    fn kill(&mut self) {
        drop(self.script.stdin.take());
        self.script.wait().unwrap();
    }
}

impl Broker {
    /// A broker for one caller.
    pub fn own() -> Broker {
        Broker::launch(false)
    }

    /// A temporary one takes its directory with it even when nothing here is dropped, as with a static.
    fn launch(temporary: bool) -> Broker {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("segno-kafka-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let running = run(std::env::temp_dir().join(name), temporary);
        let (plaintext, sasl) = addresses(&running.dir);
        Broker { plaintext, sasl, running: Some(running) }
    }

    /// Kills an own broker; what it wrote stays.
    pub fn kill(&mut self) {
        self.running.as_mut().expect("an own broker").kill();
    }

    /// Starts a killed broker again, at the same addresses.
    pub fn revive(&mut self) {
        let running = self.running.as_mut().expect("an own broker");
        *running = run(running.dir.clone(), false);
    }

    /// The properties for a client that logs in.
    pub fn sasl_properties(user: &str, password: &str) -> Vec<(String, String)> {
        [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", user),
            ("sasl.password", password),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.plaintext);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("an admin client")
    }

    /// Creates a topic under a name that no other test has, and returns the name.
    pub fn topic(&self, name: &str, partitions: i32) -> String {
        self.topic_with(name, partitions, &[])
    }

    pub fn topic_with(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let unique = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{unique}-{nanos}", std::process::id());
        let created = self.create(&name, partitions, config);
        assert!(created.is_ok(), "{created:?}");
        name
    }

    fn create(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> TopicResult {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        topic.config = config.to_vec();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        wait(self.admin().create_topics([&topic], &options)).expect("create topics").remove(0)
    }

    /// Deletes a topic and creates another one under its name.
    pub fn create_anew(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        self.delete_topic(name);
        let deadline = Instant::now() + PATIENCE;
        // The name is taken until the broker has done with the old one.
        while let Err((_, code)) = self.create(name, partitions, config) {
            assert!(code == RDKafkaErrorCode::TopicAlreadyExists && Instant::now() < deadline, "{name}: {code}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Gives a topic more partitions.
    pub fn grow(&self, name: &str, partitions: usize) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let grown = wait(self.admin().create_partitions([&NewPartitions::new(name, partitions)], &options));
        assert!(grown.as_ref().expect("create partitions").iter().all(Result::is_ok), "{grown:?}");
    }

    pub fn delete_topic(&self, name: &str) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let deleted = wait(self.admin().delete_topics(&[name], &options)).expect("delete topics");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    /// Moves the log's start, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let deleted = wait(self.admin().delete_records(&list, &options)).expect("delete records");
        assert!(deleted.elements().iter().all(|e| e.error().is_ok()), "{deleted:?}");
    }

    /// Writes records in order and returns their offsets.
    pub fn produce(&self, topic: &str, records: &[Put<'_>]) -> Vec<i64> {
        let mut config = self.config();
        config.set("enable.idempotence", "true").set("linger.ms", "5").set("message.max.bytes", "10000000");
        let producer: FutureProducer = config.create().expect("a producer");
        wait(send(&producer, topic, records))
    }

    /// Begins a transaction. It stays open until it is committed, aborted, or times out on the broker (60 s).
    pub fn transaction(&self, id: &str) -> Transaction {
        let mut config = self.config();
        config.set("transactional.id", id).set("linger.ms", "5");
        let producer: FutureProducer = config.create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("init transactions");
        producer.begin_transaction().expect("begin");
        Transaction { producer, last: RefCell::default() }
    }

    pub fn aborted(&self, topic: &str, records: &[Put<'_>]) {
        let transaction = self.transaction(&format!("abort-{topic}"));
        transaction.produce(topic, records);
        transaction.abort();
    }

    pub fn committed(&self, topic: &str, records: &[Put<'_>]) {
        let transaction = self.transaction(&format!("commit-{topic}"));
        transaction.produce(topic, records);
        transaction.commit();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            running.kill();
            let _ = std::fs::remove_dir_all(&running.dir);
        }
    }
}

pub struct Transaction {
    producer: FutureProducer,
    /// The last record of each partition that the transaction wrote to.
    last: RefCell<HashMap<(String, i32), i64>>,
}

impl Transaction {
    pub fn produce(&self, topic: &str, records: &[Put<'_>]) -> Vec<i64> {
        let offsets = wait(send(&self.producer, topic, records));
        self.producer.flush(PATIENCE).expect("flush");
        for (record, offset) in records.iter().zip(&offsets) {
            self.last.borrow_mut().insert((topic.to_owned(), record.partition), *offset);
        }
        offsets
    }

    pub fn commit(self) {
        self.producer.commit_transaction(PATIENCE).expect("commit");
        self.wait_for_markers();
    }

    pub fn abort(self) {
        self.producer.abort_transaction(PATIENCE).expect("abort");
        self.wait_for_markers();
    }

    /// The broker answers once it has decided; the markers in the partitions come a moment later.
    fn wait_for_markers(&self) {
        for ((topic, partition), last) in &*self.last.borrow() {
            let end = || self.producer.client().fetch_watermarks(topic, *partition, PATIENCE).expect("ends").1;
            let deadline = Instant::now() + PATIENCE;
            while end() < last + 2 {
                assert!(Instant::now() < deadline, "no marker in {topic}/{partition}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

async fn send(producer: &FutureProducer, topic: &str, records: &[Put<'_>]) -> Vec<i64> {
    let mut offsets = Vec::with_capacity(records.len());
    // A client's queue holds 100,000 messages.
    for chunk in records.chunks(50_000) {
        let sent: Vec<_> = chunk.iter().map(|record| queue(producer, topic, record)).collect();
        for delivery in sent {
            offsets.push(delivery.await.expect("a producer that lives").expect("delivered").offset);
        }
    }
    offsets
}

fn queue(producer: &FutureProducer, topic: &str, put: &Put<'_>) -> rdkafka::producer::DeliveryFuture {
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).partition(put.partition);
    record.key = put.key;
    record.payload = put.value;
    record.timestamp = put.timestamp;
    if !put.headers.is_empty() {
        let all = put.headers.iter();
        record.headers =
            Some(all.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value })));
    }
    producer.send_result(record).map_err(|(error, _)| error).expect("queued")
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
