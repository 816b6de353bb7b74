//! Reads one partition: from librdkafka's memory into a [`RecordBatch`], one copy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::Notify;

use super::asking::Asker;
use super::batch::{Content, Queue};
use super::client::Client;
use super::context::{Lane, is_transport};
use crate::position::{PartitionId, Position, TopicPartition};
use crate::record::RecordBatch;
use crate::streams::{Error, Limit, Reader, Result};

/// Until records have been seen, one is taken to have this many bytes.
const TYPICAL: usize = 1024;

pub(super) struct KafkaReader {
    queue: Queue,
    lane: Arc<Lane>,
    position: Position,
    /// Mean size of a record in the last batch: decides how many to take for a limit in bytes.
    typical: usize,
    /// The headers of the record at hand, packed.
    headers: Vec<u8>,
    asker: Arc<Asker>,
    client: Arc<Client>,
}

impl KafkaReader {
    pub fn new(queue: Queue, lane: Arc<Lane>, position: Position, asker: Arc<Asker>, client: Arc<Client>) -> Self {
        KafkaReader { queue, lane, position, typical: TYPICAL, headers: Vec::new(), asker, client }
    }

    /// Moves taken messages into the batch until the limit, the last message, or a problem. True when the batch is
    /// full or has to be handed over before the problem.
    fn fill(&mut self, batch: &mut RecordBatch, limit: Limit) -> Result<bool> {
        while let Some(message) = self.queue.front() {
            match message.content() {
                Content::Record { offset, timestamp, key, value } => {
                    let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                    let full = |bytes| !batch.is_empty() && batch.bytes() + bytes > limit.bytes;
                    if batch.len() >= limit.records || full(size) {
                        return Ok(true);
                    }
                    self.headers.clear();
                    message.pack_headers(&mut self.headers);
                    if full(size + self.headers.len()) {
                        return Ok(true);
                    }
                    batch.push(offset, timestamp, key, value, |into| into.extend_from_slice(&self.headers));
                }
                Content::End(end) => {
                    batch.advance_to(end);
                    self.lane.raise_end(end);
                }
                Content::Problem { .. } if !batch.is_empty() => return Ok(true),
                Content::Problem { code, text } => {
                    self.queue.pop();
                    self.judge(code, &text)?;
                    continue;
                }
            }
            self.queue.pop();
        }
        Ok(false)
    }

    /// Decides what a problem that librdkafka put between the records means.
    fn judge(&self, code: Code, text: &str) -> Result<()> {
        let at = &self.lane.at;
        let error = match code {
            // `auto.offset.reset=error` wraps the broker's "offset out of range".
            Code::AutoOffsetReset | Code::OffsetOutOfRange => {
                self.find_out_of_range();
                return Ok(());
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownTopicId => {
                Error::TopicMissing { log: super::KIND, topic: at.topic.to_string() }
            }
            Code::UnknownPartition => Error::PartitionMissing { at: at.clone() },
            code if is_transport(code) => {
                tracing::debug!("{at}: {code}: {text}; librdkafka tries again");
                return Ok(());
            }
            code => self.client.context().typed(code, &at.to_string(), text),
        };
        self.lane.fail(error.clone());
        Err(error)
    }

    /// Asks what the log still holds, so that the error can say it.
    fn find_out_of_range(&self) {
        let position = self.position;
        self.ask(move |asker, at| {
            Some(match asker.watermarks(at) {
                Ok(ends) => Error::OutOfRange { at: at.clone(), position, start: ends.start, end: ends.end },
                Err(error) => Error::Other(format!(
                    "{at}: position {position} is outside the log, whose ends are unknown: {error}"
                )),
            })
        });
    }

    /// Asks whether the topic is still there: of a topic that was deleted, librdkafka says so in its log only.
    fn find_missing(&self) {
        self.ask(|asker, at| match asker.topic(&at.topic) {
            Ok(topic) if at.partition.0 >= topic.partitions => Some(Error::PartitionMissing { at: at.clone() }),
            Err(error @ (Error::TopicMissing { .. } | Error::Authorization { .. })) => Some(error),
            _ => None,
        });
    }

    /// Puts a question in a thread of its own, for draining never waits. An answer that is an error comes out of the
    /// next drain.
    fn ask(&self, question: impl FnOnce(&Asker, &TopicPartition) -> Option<Error> + Send + 'static) {
        let (asker, lane) = (self.asker.clone(), self.lane.clone());
        let ask = move || {
            if let Some(error) = question(&asker, &lane.at) {
                lane.fail(error);
            }
        };
        if let Err(error) = thread::Builder::new().name("segno-kafka-asks".to_owned()).spawn(ask) {
            self.lane.fail(Error::Other(format!("{}: no thread to ask the broker: {error}", self.lane.at)));
        }
    }
}

impl Reader for KafkaReader {
    fn partition(&self) -> PartitionId {
        self.lane.at.partition
    }

    fn position(&self) -> Position {
        self.position
    }

    fn drain(&mut self, limit: Limit) -> Result<RecordBatch> {
        if self.client.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if let Some(failure) = self.lane.failure().or_else(|| self.client.context().failure()) {
            return Err(failure);
        }
        if self.lane.doubtful.swap(false, Ordering::Relaxed) {
            self.find_missing();
        }
        let limit = Limit { records: limit.records.max(1), bytes: limit.bytes.min(RecordBatch::MOST_BYTES) };
        let mut batch = RecordBatch::new(self.position);
        let mut emptied = false;
        let cut_short = loop {
            if self.queue.front().is_some() {
                if batch.is_empty() {
                    let (records, bytes) = self.queue.left();
                    batch = RecordBatch::with_capacity(batch.end(), records.min(limit.records), bytes.min(limit.bytes));
                }
                if self.fill(&mut batch, limit)? {
                    break true;
                }
            }
            if emptied {
                break false;
            }
            if batch.len() >= limit.records || batch.bytes() >= limit.bytes && !batch.is_empty() {
                break true;
            }
            let room = (limit.bytes.saturating_sub(batch.bytes())) / self.typical + 1;
            emptied = self.queue.take(room.min(limit.records - batch.len()));
        };
        if cut_short {
            // The queue fires when it stops being empty. It may not be empty now.
            self.lane.ready.notify_one();
        }
        if !batch.is_empty() {
            self.typical = (batch.bytes() / batch.len()).max(1);
        }
        self.position = batch.end();
        Ok(batch)
    }

    fn ready(&self) -> Arc<Notify> {
        self.lane.ready.clone()
    }

    fn end(&self) -> Position {
        self.lane.end().max(self.position)
    }
}
