//! Appends records: an idempotent producer, all in-sync replicas, Kafka's own mapping of keys to partitions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::asking::Asker;
use super::batch;
use super::context::{Context, lock};
use super::{KafkaOptions, properties, settings};
use crate::position::{Offset, PartitionId, TopicPartition};
use crate::record::NewRecord;
use crate::streams::{Appended, Error, Result, WentIn, murmur2};

/// How long a topic's partition count is believed.
const SHAPE_AGE: Duration = Duration::from_secs(30);
/// librdkafka's default of `message.max.bytes`.
const MOST_BYTES: usize = 1_000_000;
/// Time beyond `message.timeout.ms` after which a delivery report is not expected any more.
const GRACE: Duration = Duration::from_secs(5);

/// One `append` that waits for its delivery reports.
#[derive(Default)]
pub(super) struct Pending {
    state: Mutex<Reports>,
    changed: Condvar,
}

#[derive(Default)]
struct Reports {
    outstanding: usize,
    fates: Vec<Fate>,
    /// The failure with the smallest index.
    failed: Option<(usize, Code)>,
}

/// What has become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is not in the log: it was never sent, or refused.
    Outside,
    /// It was handed over, and nobody has said yet what came of it; or nobody knows.
    InDoubt,
    In(Appended),
}

impl Reports {
    fn fail(&mut self, index: usize, code: Code) {
        if self.failed.is_none_or(|(first, _)| index < first) {
            self.failed = Some((index, code));
        }
    }

    fn went_in(&self) -> WentIn {
        let mut went_in = WentIn::default();
        for (index, fate) in self.fates.iter().enumerate() {
            match fate {
                Fate::Outside => {}
                Fate::InDoubt => went_in.in_doubt.push(index),
                Fate::In(appended) => went_in.appended.push((index, *appended)),
            }
        }
        went_in
    }
}

/// Travels with a message and comes back with its delivery report.
pub(super) struct Ticket {
    index: usize,
    pending: Arc<Pending>,
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let mut reports = lock(&ticket.pending.state);
        match result {
            Ok(message) => {
                let offset = Offset(u64::try_from(message.offset()).unwrap_or(0));
                let partition = PartitionId(message.partition() as u32);
                reports.fates[ticket.index] = Fate::In(Appended { partition, offset });
            }
            Err((error, message)) => {
                if batch::surely_not_stored(message) {
                    reports.fates[ticket.index] = Fate::Outside;
                }
                reports.fail(ticket.index, error.rdkafka_error_code().unwrap_or(Code::Fail));
            }
        }
        reports.outstanding -= 1;
        if reports.outstanding == 0 {
            ticket.pending.changed.notify_all();
        }
    }
}

/// The producer, made by the first append.
pub(super) struct Appender {
    options: Arc<KafkaOptions>,
    asker: Arc<Asker>,
    producer: Mutex<Option<Arc<ThreadedProducer<Context>>>>,
    shapes: Mutex<HashMap<String, (u32, Instant)>>,
    turn: AtomicU32,
}

impl Appender {
    pub fn new(options: Arc<KafkaOptions>, asker: Arc<Asker>) -> Appender {
        Appender {
            options,
            asker,
            producer: Mutex::new(None),
            shapes: Mutex::new(HashMap::new()),
            turn: AtomicU32::new(0),
        }
    }

    pub fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Appended>> {
        let partitions = self.partitions(topic)?;
        let placed = self.place_all(topic, partitions, &records)?;
        let producer = self.producer()?;
        let pending = Arc::new(Pending::default());
        lock(&pending.state).fates = vec![Fate::Outside; records.len()];
        let wait = self.timeout(&properties::appending(&self.options)) + GRACE;
        for (index, (record, partition)) in records.iter().zip(&placed).enumerate() {
            {
                let mut reports = lock(&pending.state);
                reports.outstanding += 1;
                reports.fates[index] = Fate::InDoubt;
            }
            if let Err(code) = send(&producer, topic, record, *partition, index, &pending, wait) {
                let mut reports = lock(&pending.state);
                reports.outstanding -= 1;
                reports.fates[index] = Fate::Outside;
                reports.fail(index, code);
                break;
            }
        }
        let (went_in, (index, code)) = {
            let reports = lock(&pending.state);
            let waited = pending.changed.wait_timeout_while(reports, wait, |r| r.outstanding > 0);
            let mut reports = waited.unwrap_or_else(PoisonError::into_inner).0;
            let went_in = reports.went_in();
            if reports.outstanding > 0 {
                reports.fail(went_in.in_doubt.first().copied().unwrap_or(0), Code::MessageTimedOut);
            }
            match reports.failed {
                None => return Ok(went_in.appended.into_iter().map(|(_, appended)| appended).collect()),
                Some(failed) => (went_in, failed),
            }
        };
        if producer.client().fatal_error().is_some() {
            // It will never work again; the next append makes a new one.
            self.let_go(&producer);
        }
        let index = match code {
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
                largest_outside(&went_in, &records).unwrap_or(index)
            }
            _ => index,
        };
        let record = records.get(index).map_or(0, size);
        let cause = self.failure(topic, &producer, index, placed.get(index).copied().unwrap_or(0), record, code);
        match cause {
            // The topic's own limit, which only the broker knows. Where it has stored no other record, it is as good as
            // known beforehand.
            Error::TooLarge { .. } if went_in.is_nothing() => Err(Error::Refused { index, source: Box::new(cause) }),
            cause => Err(Error::halfway(cause, went_in)),
        }
    }

    /// Lets go of the producer, in a thread, since that may wait for the network; tells when it is gone.
    pub fn close(&self, gone: impl FnOnce() + Send + 'static) {
        let producer = lock(&self.producer).take();
        // Without a thread the producer is dropped here and now, which is slower but no less right.
        let _ = thread::Builder::new().name("segno-kafka-close".to_owned()).spawn(move || {
            drop(producer);
            gone();
        });
    }

    fn let_go(&self, failed: &Arc<ThreadedProducer<Context>>) {
        let mut producer = lock(&self.producer);
        if producer.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
            *producer = None;
        }
    }

    fn producer(&self) -> Result<Arc<ThreadedProducer<Context>>> {
        let mut producer = lock(&self.producer);
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let config = properties::appending(&self.options);
        properties::native(&config)?;
        let context = Context::new(self.options.clone(), Vec::new());
        let made = config.create_with_context(context).map_err(|error| properties::creation(&self.options, &error))?;
        Ok(producer.insert(Arc::new(made)).clone())
    }

    fn partitions(&self, topic: &str) -> Result<u32> {
        if let Some((count, asked)) = lock(&self.shapes).get(topic)
            && asked.elapsed() < SHAPE_AGE
        {
            return Ok(*count);
        }
        let count = self.asker.topic(topic)?.partitions;
        lock(&self.shapes).insert(topic.to_owned(), (count, Instant::now()));
        Ok(count)
    }

    /// Gives each record its partition, and refuses all of them for the first that cannot go in.
    fn place_all(&self, topic: &str, partitions: u32, records: &[NewRecord]) -> Result<Vec<u32>> {
        let most = self.most_bytes();
        let place = |(index, record): (usize, &NewRecord)| {
            self.place(topic, partitions, record, most)
                .map_err(|source| Error::Refused { index, source: Box::new(source) })
        };
        records.iter().enumerate().map(place).collect()
    }

    fn place(&self, topic: &str, partitions: u32, record: &NewRecord, most: usize) -> Result<u32> {
        if let Some(timestamp) = record.timestamp.filter(|t| *t == 0 || *t < -1) {
            let reason = match timestamp {
                0 => "librdkafka would make the present of it; use 1, or none",
                _ => "Kafka knows no time before 1970",
            };
            return Err(Error::Timestamp { timestamp, reason });
        }
        if wire_size(record) > most {
            return Err(Error::TooLarge { bytes: size(record), max: most });
        }
        match (record.partition, &record.key) {
            (Some(partition), _) if partition < partitions => Ok(partition),
            (Some(partition), _) => Err(Error::PartitionMissing { at: TopicPartition::new(topic, partition) }),
            (None, Some(key)) => Ok(murmur2::partition_of(key, partitions)),
            (None, None) => Ok(self.turn.fetch_add(1, Ordering::Relaxed) % partitions),
        }
    }

    /// The largest record that the producer takes.
    fn most_bytes(&self) -> usize {
        self.options.properties.get("message.max.bytes").and_then(|most| most.parse().ok()).unwrap_or(MOST_BYTES)
    }

    fn timeout(&self, config: &rdkafka::ClientConfig) -> Duration {
        let millis = ["message.timeout.ms", "delivery.timeout.ms"].iter().find_map(|name| config.get(name));
        Duration::from_millis(millis.and_then(|m| m.parse().ok()).unwrap_or(300_000))
    }

    fn failure(
        &self,
        topic: &str,
        producer: &ThreadedProducer<Context>,
        index: usize,
        partition: u32,
        bytes: usize,
        code: Code,
    ) -> Error {
        let context = producer.client().context();
        match code {
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
                // It was held against the client's own limit before, so it was the topic's that it did not pass.
                let own = self.most_bytes();
                let max = settings::most_message_bytes(&self.options, topic).unwrap_or(own);
                if bytes > max {
                    return Error::TooLarge { bytes, max };
                }
                let reason = format!(
                    "it takes batches of {max} bytes, and the producer makes larger ones of records that are not: set \
                     `batch.size` under [kafka.properties] to less than that, or raise the topic's max.message.bytes"
                );
                Error::Topic { topic: topic.to_owned(), reason }
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition => {
                lock(&self.shapes).remove(topic);
                Error::TopicMissing { log: super::KIND, topic: topic.to_owned() }
            }
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => context.typed(code, topic, ""),
            code => match context.failure() {
                Some(failure) => failure,
                None => {
                    let reason = match context.unreachable(&code.to_string()) {
                        Error::Unreachable { reason, .. } => format!("{code}: {reason}"),
                        other => other.to_string(),
                    };
                    Error::Append { at: format!("{topic}/{partition}"), reason: format!("record {index}: {reason}") }
                }
            },
        }
    }
}

fn size(record: &NewRecord) -> usize {
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
    record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
}

/// The largest record that is not in the log: when a broker refuses a batch for its size, it names none of its records.
fn largest_outside(went_in: &WentIn, records: &[NewRecord]) -> Option<usize> {
    let inside = |index: &usize| {
        went_in.appended.binary_search_by_key(index, |(index, _)| *index).is_ok()
            || went_in.in_doubt.binary_search(index).is_ok()
    };
    (0..records.len()).filter(|index| !inside(index)).max_by_key(|index| size(&records[*index]))
}

/// What librdkafka holds against `message.max.bytes`: the record's size, the most that its frame can take, and the
/// lengths of its headers.
fn wire_size(record: &NewRecord) -> usize {
    /// `RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`.
    const FRAME: usize = 36;
    // A length is written with a sign, 7 bits to a byte.
    let length = |bytes: usize| (usize::BITS - (bytes << 1).leading_zeros()).div_ceil(7).max(1) as usize;
    let lengths =
        |(name, value): &(String, Option<Vec<u8>>)| length(name.len()) + length(value.as_ref().map_or(0, Vec::len));
    FRAME + size(record) + record.headers.iter().map(lengths).sum::<usize>()
}

/// Hands one record to the producer, waiting while its queue is full.
fn send(
    producer: &ThreadedProducer<Context>,
    topic: &str,
    record: &NewRecord,
    partition: u32,
    index: usize,
    pending: &Arc<Pending>,
    wait: Duration,
) -> std::result::Result<(), Code> {
    let deadline = Instant::now() + wait;
    let ticket = Box::new(Ticket { index, pending: pending.clone() });
    let mut message: BaseRecord<'_, [u8], [u8], Box<Ticket>> =
        BaseRecord::with_opaque_to(topic, ticket).partition(partition as i32);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    message.timestamp = record.timestamp;
    if !record.headers.is_empty() {
        let empty = OwnedHeaders::new_with_capacity(record.headers.len());
        message.headers = Some(
            record
                .headers
                .iter()
                .fold(empty, |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() })),
        );
    }
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) if Instant::now() < deadline => {
                message = back;
                thread::sleep(Duration::from_millis(2));
            }
            Err((error, _)) => return Err(error.rdkafka_error_code().unwrap_or(Code::Fail)),
        }
    }
}
