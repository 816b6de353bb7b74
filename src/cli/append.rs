//! `segno append TOPIC [FILE]`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::lines::{Line, Lines};
use super::{Code, Failure, assemble, out};
use crate::api::percent;
use crate::app::Declared;
use crate::config::{Loaded, LogKind, Topic};
use crate::intake::{KeyFrom, Shape, show_bytes};
use crate::position::{Offset, PartitionId, PositionVector};
use crate::record::NewRecord;
use crate::streams::{self, Appended, Log};

/// A batch ends here at the latest; also well below what the daemon takes as one body.
const BATCH_BYTES: usize = 2 << 20;

/// Append events from JSON Lines to a topic, of the embedded log or of Kafka
#[derive(Debug, Args)]
pub struct Append {
    /// The topic.
    topic: String,
    /// JSON Lines; `-` is standard input.
    #[arg(default_value = "-")]
    file: String,
    /// Each line is an event, and this field (a.b for a field in a field) is its key. Without it each line is a record:
    /// {"key", "value", "timestamp", "headers", "partition"}.
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,
    /// The field that holds the record's timestamp: milliseconds since 1970, or RFC 3339. Else the time of the append.
    #[arg(long, value_name = "FIELD", requires = "key")]
    timestamp: Option<String>,
    /// The field that holds the event's type, for the header `type` of raw envelopes.
    #[arg(long = "type", value_name = "FIELD", requires = "key")]
    event_type: Option<String>,
    /// Put everything into this partition, instead of where the key belongs.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Leave lines out that are no records, and say how many.
    #[arg(long)]
    skip_bad: bool,
    /// Records that are sent at once.
    #[arg(long, value_name = "RECORDS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
}

/// Where records go.
enum Sink {
    Log(Arc<dyn Log>),
    Daemon(Client),
}

/// How far an append has come.
struct Progress {
    records: u64,
    skipped: u64,
    token: PositionVector,
}

impl Append {
    pub fn run(self, loaded: &Loaded, declared: &[Declared], json: bool) -> Result<(), Failure> {
        let (input, size) = open(&self.file)?;
        let sink = Sink::open(loaded, declared, &self.topic)?;
        let shape = Shape {
            key: self.key.clone().map_or(KeyFrom::Record, KeyFrom::Field),
            timestamp: self.timestamp.clone(),
            event_type: self.event_type.clone(),
            partition: self.partition,
        };
        let bar = bar(size);
        let start = Instant::now();
        let mut progress = Progress { records: 0, skipped: 0, token: PositionVector::new(self.topic.clone()) };
        let mut lines = Lines::new(input, shape);
        let result = self.feed(&mut lines, &sink, &mut progress, &bar);
        bar.finish_and_clear();
        sink.close();
        let Progress { records, skipped, token } = progress;
        result.map_err(|failure| {
            let before = match records {
                0 => "nothing had gone in before".to_owned(),
                1 => format!("1 record had gone in before (token {token})"),
                _ => format!("{records} records had gone in before (token {token})"),
            };
            Failure { message: format!("{}; {before}", failure.message), ..failure }
        })?;
        if json {
            return out::json(&json!({ "topic": self.topic, "records": records, "skipped": skipped, "token": token }));
        }
        let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} bad lines left out") };
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{records} records appended to {} in {seconds:.1} s{skipped}; read with --at-least:", self.topic);
        out::line(token)
    }

    fn feed(
        &self,
        lines: &mut Lines<Box<dyn BufRead>>,
        sink: &Sink,
        progress: &mut Progress,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let mut batch: Vec<NewRecord> = Vec::new();
        let mut bytes = 0;
        loop {
            let line = lines.next();
            let line = line.map_err(|error| Failure::failed(format!("cannot read {}: {error}", self.file)))?;
            match line {
                Line::Record(record) => {
                    bytes += size(&record);
                    batch.push(record);
                }
                Line::Bad(bad) if self.skip_bad => {
                    progress.skipped += 1;
                    bar.suspend(|| eprintln!("segno: {}:{}: left out: {}", self.file, bad.number, bad.reason));
                }
                Line::Bad(bad) => {
                    // What stands before the bad line goes in, as if the input ended there.
                    self.send(&mut batch, sink, progress)?;
                    let message = format!("{}:{}: {}", self.file, bad.number, bad.reason);
                    return Err(
                        Failure::failed(message).next("correct the line, or leave such lines out with --skip-bad")
                    );
                }
                Line::End => return self.send(&mut batch, sink, progress),
            }
            if batch.len() >= self.batch as usize || bytes >= BATCH_BYTES {
                self.send(&mut batch, sink, progress)?;
                bytes = 0;
                bar.set_position(lines.bytes);
                bar.set_message(format!("{} records", progress.records));
            }
        }
    }

    fn send(&self, batch: &mut Vec<NewRecord>, sink: &Sink, progress: &mut Progress) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        for record in sink.append(&self.topic, std::mem::take(batch))? {
            progress.token.raise(record.partition, record.offset.next());
            progress.records += 1;
        }
        Ok(())
    }
}

fn size(record: &NewRecord) -> usize {
    record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len)
}

fn open(file: &str) -> Result<(Box<dyn BufRead>, Option<u64>), Failure> {
    if file == "-" {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let failed = |error| Failure::failed(format!("cannot read {file}: {error}"));
    let opened = File::open(file).map_err(failed)?;
    let size = opened.metadata().map_err(failed)?.len();
    Ok((Box::new(BufReader::with_capacity(1 << 20, opened)), Some(size)))
}

/// A bar on a terminal, nothing elsewhere.
fn bar(size: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{wide_bar} {bytes}/{total_bytes} {msg} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg} {elapsed}"),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// What the daemon answers to an append.
#[derive(Deserialize)]
struct Answer {
    records: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    partition: PartitionId,
    offset: Offset,
}

impl Sink {
    /// Kafka takes records itself; the embedded log is in the daemon, when there is one.
    fn open(loaded: &Loaded, declared: &[Declared], topic: &str) -> Result<Sink, Failure> {
        let config = &loaded.config;
        let log = match assemble::log(config) {
            Ok(log) => log,
            Err(in_use) if config.node.log == LogKind::Embedded && in_use.code == Code::InUse => {
                return Ok(Sink::Daemon(Client::of(config)));
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

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Appended>, Failure> {
        match self {
            Sink::Log(log) => Ok(log.append(topic, records)?),
            Sink::Daemon(client) => {
                let path = format!("/v1/topics/{}/events", percent::encode(topic.as_bytes()));
                let answer: Answer = client.post(&path, &body(&records))?;
                let places = answer.records.into_iter();
                Ok(places.map(|at| Appended { partition: at.partition, offset: at.offset }).collect())
            }
        }
    }

    fn close(&self) {
        if let Sink::Log(log) = self {
            log.close(Duration::from_secs(5));
        }
    }
}

/// The records as lines of `{"key", "value", …}`. Values are JSON already, and stay as they are, byte for byte.
fn body(records: &[NewRecord]) -> Vec<u8> {
    let mut body = Vec::new();
    for record in records {
        let key = record.key.as_deref().map_or(serde_json::Value::Null, show_bytes);
        body.extend_from_slice(format!("{{\"key\":{key},\"value\":").as_bytes());
        body.extend_from_slice(record.value.as_deref().unwrap_or(b"null"));
        if let Some(timestamp) = record.timestamp {
            body.extend_from_slice(format!(",\"timestamp\":{timestamp}").as_bytes());
        }
        if let Some(partition) = record.partition {
            body.extend_from_slice(format!(",\"partition\":{partition}").as_bytes());
        }
        if !record.headers.is_empty() {
            let shown = record.headers.iter().map(|(name, value)| (name.clone(), value.as_deref().map(show_bytes)));
            let headers: std::collections::BTreeMap<_, _> = shown.collect();
            body.extend_from_slice(format!(",\"headers\":{}", json!(headers)).as_bytes());
        }
        body.extend_from_slice(b"}\n");
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake;

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
        let body = String::from_utf8(body(&[record.clone(), tombstone.clone()])).unwrap();
        let read: Vec<_> = body.lines().map(|line| intake::record(line, &Shape::default()).unwrap()).collect();
        assert_eq!(read, [record, tombstone]);
    }
}
