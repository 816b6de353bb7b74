//! Where `segno append` puts records: into the log, or to the daemon that has it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::api::percent;
use crate::app::Declared;
use crate::cli::client::{Client, Trouble};
use crate::cli::{Code, Failure, assemble};
use crate::config::{Loaded, LogKind, Topic};
use crate::intake::show_bytes;
use crate::position::{Offset, PartitionId};
use crate::record::NewRecord;
use crate::streams::{self, Appended, Log, WentIn};

/// A batch ends here at the latest.
const BATCH_BYTES: usize = 2 << 20;

/// Where records go.
pub(super) enum Sink {
    Log(Arc<dyn Log>),
    Daemon {
        client: Client,
        /// What it takes as one body.
        most: usize,
    },
}

/// A record in the form in which it is sent.
pub(super) struct Item {
    load: Load,
    bytes: usize,
}

enum Load {
    Record(NewRecord),
    /// A line of the body.
    Line(Vec<u8>),
}

/// Records that go in together.
#[derive(Default)]
pub(super) struct Batch {
    /// The line of the input that each came from.
    pub lines: Vec<u64>,
    bytes: usize,
    records: Vec<NewRecord>,
    body: Vec<u8>,
    /// Where each line of the body ends.
    ends: Vec<usize>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub fn push(&mut self, line: u64, item: Item) {
        self.lines.push(line);
        self.bytes += item.bytes;
        match item.load {
            Load::Record(record) => self.records.push(record),
            Load::Line(text) => {
                self.body.extend_from_slice(&text);
                self.ends.push(self.body.len());
            }
        }
    }
}

/// Why a batch is not in, or not all of it.
pub(super) struct Stopped {
    pub failure: Failure,
    /// The record that is not taken, by its place in the batch. Nothing of the batch is in then.
    pub refused: Option<usize>,
    pub went_in: WentIn,
}

/// What the daemon answers to an append.
#[derive(Deserialize)]
struct Answer {
    records: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    /// Its place in the body; only said of an append that came halfway.
    #[serde(default)]
    record: usize,
    partition: PartitionId,
    offset: Offset,
}

impl Place {
    fn appended(&self) -> Appended {
        Appended { partition: self.partition, offset: self.offset }
    }
}

impl Sink {
    /// Kafka takes records itself; the embedded log is in the daemon, when there is one.
    pub fn open(loaded: &Loaded, declared: &[Declared], topic: &str) -> Result<Sink, Failure> {
        let config = &loaded.config;
        let log = match assemble::log(config) {
            Ok(log) => log,
            Err(in_use) if config.node.log == LogKind::Embedded && in_use.code == Code::InUse => {
                let most = usize::try_from(config.http.body_limit).unwrap_or(usize::MAX);
                return Ok(Sink::Daemon { client: Client::of(config)?, most });
            }
            Err(failure) => return Err(failure),
        };
        let declared = declared.iter().any(|declared| declared.topic == topic).then(|| Topic::named(topic));
        let configured = config.topics.iter().find(|known| known.name == topic).cloned();
        if let Some(topic) = configured.or(declared) {
            log.prepare(&topic)?;
        }
        let log = log.log();
        match log.topic(topic) {
            Ok(_) => Ok(Sink::Log(log)),
            Err(streams::Error::TopicMissing { log: "embedded", .. }) => {
                let known: Vec<&str> = config.topics.iter().map(|topic| topic.name.as_str()).collect();
                let message = format!("topic `{topic}` is neither in the log nor in the configuration");
                let known = if known.is_empty() { "no topic".to_owned() } else { known.join(", ") };
                let next = format!("declare it under [[topics]] (--config names the file); declared: {known}");
                Err(Failure::new(Code::NotFound, message).next(next))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Brings a record into the form in which it is sent. An error when it is too large for that.
    pub fn item(&self, record: NewRecord) -> Result<Item, Failure> {
        match self {
            Sink::Log(_) => {
                let headers = record.headers.iter().map(|(name, value)| name.len() + length(value)).sum::<usize>();
                let bytes = length(&record.key) + length(&record.value) + headers;
                Ok(Item { bytes, load: Load::Record(record) })
            }
            Sink::Daemon { most, .. } => {
                let text = line(&record);
                let bytes = text.len();
                if bytes > *most {
                    let message = format!("the record takes {bytes} bytes as JSON, and the daemon takes {most}");
                    return Err(Failure::failed(message).next("raise http.body-limit, or append while no daemon runs"));
                }
                Ok(Item { bytes, load: Load::Line(text) })
            }
        }
    }

    /// Whether the batch has room for the item as well.
    pub fn has_room(&self, batch: &Batch, item: &Item) -> bool {
        let most = match self {
            Sink::Log(_) => BATCH_BYTES,
            Sink::Daemon { most, .. } => BATCH_BYTES.min(*most),
        };
        batch.is_empty() || batch.bytes + item.bytes <= most
    }

    /// Puts in the first `count` records of a batch.
    pub fn append(&self, topic: &str, batch: &Batch, count: usize) -> Result<Vec<Appended>, Stopped> {
        match self {
            Sink::Log(log) => log.append(topic, batch.records[..count].to_vec()).map_err(Stopped::of),
            Sink::Daemon { client, .. } => {
                let path = format!("/v1/topics/{}/events", percent::encode(topic.as_bytes()));
                let end = batch.ends[..count].last().copied().unwrap_or(0);
                let answer: Result<Answer, Trouble> = client.post(&path, &batch.body[..end]);
                match answer {
                    Ok(answer) => Ok(answer.records.iter().map(Place::appended).collect()),
                    Err(trouble) => Err(Stopped::by(client, trouble, count)),
                }
            }
        }
    }

    pub fn close(&self) {
        if let Sink::Log(log) = self {
            log.close(Duration::from_secs(5));
        }
    }
}

impl Stopped {
    fn of(error: streams::Error) -> Stopped {
        match error {
            streams::Error::Refused { index, source } => {
                Stopped { failure: (*source).into(), refused: Some(index), went_in: WentIn::default() }
            }
            streams::Error::Halfway { went_in, source } => {
                Stopped { failure: (*source).into(), refused: None, went_in }
            }
            other => Stopped { failure: other.into(), refused: None, went_in: WentIn::default() },
        }
    }

    fn by(client: &Client, mut trouble: Trouble, count: usize) -> Stopped {
        let (mut refused, mut went_in) = (None, WentIn::default());
        match &mut trouble {
            Trouble::Lost { sent, .. } => {
                if *sent {
                    went_in.in_doubt = (0..count).collect();
                }
            }
            Trouble::Refused(answer) => {
                refused = answer.more["record"].as_u64().and_then(|index| usize::try_from(index).ok());
                let appended: Vec<Place> = serde_json::from_value(answer.more["appended"].take()).unwrap_or_default();
                went_in.appended = appended.iter().map(|place| (place.record, place.appended())).collect();
                went_in.in_doubt = serde_json::from_value(answer.more["in_doubt"].take()).unwrap_or_default();
            }
        }
        let refused = refused.filter(|index| *index < count);
        went_in.appended.retain(|(index, _)| *index < count);
        went_in.in_doubt.retain(|index| *index < count);
        Stopped { failure: client.failure(trouble), refused, went_in }
    }
}

fn length(bytes: &Option<Vec<u8>>) -> usize {
    bytes.as_ref().map_or(0, Vec::len)
}

/// The record as a line of `{"key", "value", …}`. The value is JSON already, and stays as it is, byte for byte.
fn line(record: &NewRecord) -> Vec<u8> {
    let key = record.key.as_deref().map_or(serde_json::Value::Null, show_bytes);
    let mut line = format!("{{\"key\":{key},\"value\":").into_bytes();
    line.extend_from_slice(record.value.as_deref().unwrap_or(b"null"));
    if let Some(timestamp) = record.timestamp {
        line.extend_from_slice(format!(",\"timestamp\":{timestamp}").as_bytes());
    }
    if let Some(partition) = record.partition {
        line.extend_from_slice(format!(",\"partition\":{partition}").as_bytes());
    }
    if !record.headers.is_empty() {
        let shown = record.headers.iter().map(|(name, value)| (name.clone(), value.as_deref().map(show_bytes)));
        let headers: std::collections::BTreeMap<_, _> = shown.collect();
        line.extend_from_slice(format!(",\"headers\":{}", json!(headers)).as_bytes());
    }
    line.extend_from_slice(b"}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::{self, Shape};

    #[test]
    fn what_is_sent_is_what_was_read() {
        let record = NewRecord {
            partition: Some(3),
            key: Some(vec![0xff, b'a']),
            value: Some(br#"{"n":12345678901234567890}"#.to_vec()),
            timestamp: Some(-1),
            headers: vec![("a".to_owned(), None), ("b".to_owned(), Some(vec![0xfe]))],
        };
        let tombstone = NewRecord { key: Some(b"k".to_vec()), ..NewRecord::default() };
        for record in [record, tombstone] {
            let line = String::from_utf8(line(&record)).unwrap();
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(intake::record(line.trim_end(), &Shape::default()).unwrap(), record);
        }
    }
}
