//! The log as Apache Kafka keeps it, through librdkafka.
//!
//! * Reading: one consumer for each call of [`Log::readers`], `read_committed`, statically assigned with explicit
//!   positions; a queue of its own for each partition (`batch.rs`), which bounds the read-ahead and keeps a slow reader
//!   from holding up the others. Nothing is ever paused, and nothing is committed to a group.
//! * Gaps (control records, aborted transactions) are passed over by librdkafka; its end-of-partition marks carry the
//!   position behind a gap at the end.
//! * A lost broker is not an error of a reader: librdkafka reconnects, one warning marks the episode. Refused
//!   credentials, missing topics and positions outside the log are errors, and they stay: open the reader anew.
//! * Appending: one idempotent producer, `acks=all`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList};

use self::asking::Asker;
use self::batch::Queue;
use self::client::{Client, Ended};
use self::context::{Context, Lane, lock};
use self::producer::Appender;
use self::reader::KafkaReader;
use super::{Appended, Error, Log, Prefetch, Reader, Result, TimeLookup, TopicInfo, Volume, Watermarks};
use crate::position::{PartitionId, Position, Timestamp, TopicPartition};
use crate::record::NewRecord;

mod asking;
mod batch;
mod client;
mod context;
mod offsets;
mod producer;
mod properties;
mod reader;
mod scan;
mod settings;
mod volume;

const KIND: &str = "kafka";
/// Read-ahead of a look-up by reading.
const SCAN: Prefetch = Prefetch { bytes: 8 << 20 };

/// How to reach a cluster.
///
/// There is no `Debug`: properties hold secrets.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port`, several of them with commas between.
    pub brokers: String,
    /// librdkafka's properties, references to secrets resolved.
    pub properties: BTreeMap<String, String>,
    /// The longest that a question may take; an append may take three times as long.
    pub request_timeout: Duration,
    /// How the broker's logs and quotas name this client.
    pub client_id: String,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        KafkaOptions {
            brokers: "localhost:9092".to_owned(),
            properties: BTreeMap::new(),
            request_timeout: Duration::from_secs(10),
            client_id: "segno".to_owned(),
        }
    }
}

/// A Kafka cluster as a [`Log`].
pub struct Kafka {
    options: Arc<KafkaOptions>,
    asker: Arc<Asker>,
    appender: Appender,
    readings: Mutex<Vec<Reading>>,
    closed: AtomicBool,
}

/// The clients behind the readers, as far as they still live.
struct Reading {
    client: Weak<Client>,
    lanes: Vec<Arc<Lane>>,
    ended: Arc<Ended>,
}

impl Kafka {
    /// Checks the options and makes the client. Does not wait for the network: the first question does.
    pub fn connect(options: KafkaOptions) -> Result<Kafka> {
        properties::check(&options)?;
        let options = Arc::new(options);
        let asker = Arc::new(Asker::new(options.clone())?);
        let appender = Appender::new(options.clone(), asker.clone());
        Ok(Kafka { options, asker, appender, readings: Mutex::new(Vec::new()), closed: AtomicBool::new(false) })
    }

    /// Bytes that wait in the read-ahead of each open reader, as of at most a second ago.
    pub fn read_ahead(&self) -> Vec<(TopicPartition, u64)> {
        let readings = lock(&self.readings);
        let open = readings.iter().filter(|reading| reading.client.strong_count() > 0);
        open.flat_map(|r| &r.lanes).map(|lane| (lane.at.clone(), lane.queued.load(Ordering::Relaxed))).collect()
    }

    fn open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl Log for Kafka {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn topic(&self, topic: &str) -> Result<TopicInfo> {
        self.open()?;
        self.asker.topic(topic)
    }

    fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks> {
        self.open()?;
        self.asker.watermarks(at)
    }

    /// Kafka looks at control records (transaction markers) too, and they carry the broker's clock: what is found may
    /// be a position that no reader sees a record at. It is a right cut all the same.
    fn positions_at(
        &self,
        topic: &str,
        partitions: &[PartitionId],
        time: Timestamp,
    ) -> Result<Vec<(PartitionId, TimeLookup)>> {
        self.open()?;
        let answers = self.asker.positions_at(topic, partitions, time)?;
        let checked = answers.into_iter().map(|(partition, ends, lookup)| {
            let at = TopicPartition::new(topic, partition.0);
            let nothing = lookup == TimeLookup::AtEnd { position: ends.end } && ends.start < ends.end;
            if !nothing || self.asker.surely_none(&at, time)? {
                return Ok((partition, lookup));
            }
            tracing::warn!(
                "{at}: the broker's look-up of {time} is in doubt after deletions; reading from {}",
                ends.start
            );
            let mut readers = self.readers(topic, &[(partition, ends.start)], SCAN)?;
            let reader = readers.first_mut().ok_or(Error::PartitionMissing { at })?;
            Ok((partition, scan::first_at(&mut **reader, ends.end, time, self.options.request_timeout)?))
        });
        checked.collect()
    }

    /// Records: the difference of the positions, which counts transaction markers, aborted records and what compaction
    /// took. Bytes: an estimate from the first records.
    fn volume(&self, at: &TopicPartition, from: Position, to: Position) -> Result<Volume> {
        let Watermarks { start, end } = self.watermarks(at)?;
        let (from, to) = (from.max(start), to.min(end));
        let records = from.lag_to(to);
        if records == 0 {
            return Ok(Volume { records: 0, bytes: Some(0), exact: true });
        }
        let mut readers = self.readers(&at.topic, &[(at.partition, from)], volume::SAMPLE)?;
        let reader = readers.first_mut().ok_or_else(|| Error::PartitionMissing { at: at.clone() })?;
        let bytes = volume::estimate(&mut **reader, to, self.options.request_timeout)?;
        Ok(Volume { records, bytes, exact: false })
    }

    fn compacted(&self, topic: &str) -> Result<Option<bool>> {
        // Asked first, so that a missing topic or an unreachable cluster is an error and not a "cannot tell".
        self.topic(topic)?;
        match settings::of_topic(&self.options, topic, "cleanup.policy") {
            Ok(policy) => Ok(Some(policy.split(',').any(|part| part.trim() == "compact"))),
            Err(why) => {
                tracing::warn!(topic, "cannot tell whether the topic is compacted: {why}");
                Ok(None)
            }
        }
    }

    fn readers(
        &self,
        topic: &str,
        starts: &[(PartitionId, Position)],
        prefetch: Prefetch,
    ) -> Result<Vec<Box<dyn Reader>>> {
        self.open()?;
        if starts.is_empty() {
            return Ok(Vec::new());
        }
        let partitions: Vec<_> = starts.iter().map(|(partition, _)| *partition).collect();
        let ends = self.asker.all_watermarks(topic, &partitions)?;
        let mut lanes = Vec::with_capacity(starts.len());
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for (partition, position) in starts {
            let at = TopicPartition::new(topic, partition.0);
            let Some(ends) = ends.get(partition) else { return Err(Error::PartitionMissing { at }) };
            if *position < ends.start || *position > ends.end {
                return Err(Error::OutOfRange { at, position: *position, start: ends.start, end: ends.end });
            }
            let added = list.add_partition_offset(topic, partition.0 as i32, Offset::Offset(position.0 as i64));
            added.map_err(|error| Error::Other(format!("{at}: position {position}: {error}")))?;
            lanes.push(Arc::new(Lane::new(at, ends.end)));
        }
        let context = Context::new(self.options.clone(), lanes.clone());
        let client = Client::start(&self.options, &properties::reading(&self.options, prefetch), context)?;
        let client = Arc::new(client);
        let split = |lane: &Arc<Lane>| {
            let queue = Queue::split(&client, topic, lane.at.partition.0, lane.ready.clone());
            queue.ok_or_else(|| Error::PartitionMissing { at: lane.at.clone() })
        };
        let queues = lanes.iter().map(split).collect::<Result<Vec<_>>>()?;
        client.assign(&list)?;
        let readers = queues.into_iter().zip(&lanes).zip(starts).map(|((queue, lane), (_, position))| {
            let reader = KafkaReader::new(queue, lane.clone(), *position, self.asker.clone(), client.clone());
            Box::new(reader) as Box<dyn Reader>
        });
        let readers = readers.collect();
        let mut readings = lock(&self.readings);
        readings.retain(|reading| reading.client.strong_count() > 0);
        readings.push(Reading { client: Arc::downgrade(&client), lanes, ended: client.ended.clone() });
        Ok(readers)
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Appended>> {
        self.open()?;
        self.appender.append(topic, records)
    }

    /// Waits, up to `within`, for the clients that nobody uses any more; a reader that is still held keeps its client
    /// until it is dropped, and answers [`Error::Closed`].
    fn close(&self, within: Duration) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let deadline = Instant::now() + within;
        let appending = Arc::new(Ended::default());
        let told = appending.clone();
        self.appender.close(move || told.tell());
        let mut waited = vec![appending];
        for reading in lock(&self.readings).drain(..) {
            match reading.client.upgrade() {
                Some(client) => {
                    client.closed.store(true, Ordering::Release);
                    reading.lanes.iter().for_each(|lane| lane.ready.notify_one());
                }
                None => waited.push(reading.ended),
            }
        }
        let late = waited.iter().filter(|ended| !ended.wait(deadline)).count();
        if late > 0 {
            tracing::warn!("{late} Kafka client(s) did not close within {within:?}; they are left behind");
        }
    }
}
