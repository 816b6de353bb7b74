//! `segno append TOPIC [FILE]`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::lines::{Line, Lines};
use super::{Failure, out};
use crate::app::Declared;
use crate::config::Loaded;
use crate::intake::{KeyFrom, Shape};
use crate::position::PositionVector;
use crate::record::NewRecord;
use crate::streams::Appended;

mod sink;

use sink::{Batch, Sink, Stopped};

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

/// How far an append has come.
struct Progress {
    records: u64,
    skipped: u64,
    token: PositionVector,
    /// The lines of the batch that came halfway: those that are in, and those that may be.
    halfway: Vec<u64>,
    in_doubt: Vec<u64>,
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
        let mut progress = Progress::new(&self.topic);
        let mut lines = Lines::new(input, shape);
        let result = self.feed(&mut lines, &sink, &mut progress, &bar);
        bar.finish_and_clear();
        sink.close();
        result
            .map_err(|failure| Failure { message: format!("{}; {}", failure.message, progress.told()), ..failure })?;
        let Progress { records, skipped, token, .. } = progress;
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
        let mut batch = Batch::default();
        loop {
            let line = lines.next();
            let line = line.map_err(|error| Failure::failed(format!("cannot read {}: {error}", self.file)))?;
            match line {
                Line::Record(record) => self.take(record, lines.number, &mut batch, sink, progress)?,
                Line::Bad(bad) if self.skip_bad => {
                    progress.skipped += 1;
                    bar.suspend(|| eprintln!("segno: {}:{}: left out: {}", self.file, bad.number, bad.reason));
                }
                Line::Bad(bad) => {
                    // What stands before the bad line goes in, as if the input ended there.
                    self.send(&mut batch, sink, progress)?;
                    let failure = Failure::failed(bad.reason);
                    return Err(self
                        .at(bad.number, failure)
                        .next("correct the line, or leave such lines out with --skip-bad"));
                }
                Line::End => return self.send(&mut batch, sink, progress),
            }
            if batch.is_empty() {
                bar.set_position(lines.bytes);
                bar.set_message(format!("{} records", progress.records));
            }
        }
    }

    /// Puts a record into the batch, and sends what is full.
    fn take(
        &self,
        record: NewRecord,
        line: u64,
        batch: &mut Batch,
        sink: &Sink,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let item = match sink.item(record) {
            Ok(item) => item,
            Err(failure) => {
                self.send(batch, sink, progress)?;
                return Err(self.at(line, failure));
            }
        };
        if !sink.has_room(batch, &item) {
            self.send(batch, sink, progress)?;
        }
        batch.push(line, item);
        if batch.len() >= self.batch as usize { self.send(batch, sink, progress) } else { Ok(()) }
    }

    fn send(&self, batch: &mut Batch, sink: &Sink, progress: &mut Progress) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(batch);
        let stopped = match sink.append(&self.topic, &batch, batch.len()) {
            Ok(places) => {
                progress.add(&places);
                return Ok(());
            }
            Err(stopped) => stopped,
        };
        // A record that is not taken is like a bad line: what stands before it goes in.
        match stopped.refused {
            None | Some(0) => Err(self.stop(stopped, &batch, progress)),
            Some(index) => match sink.append(&self.topic, &batch, index) {
                Ok(places) => {
                    progress.add(&places);
                    Err(self.stop(stopped, &batch, progress))
                }
                Err(earlier) => Err(self.stop(earlier, &batch, progress)),
            },
        }
    }

    fn stop(&self, stopped: Stopped, batch: &Batch, progress: &mut Progress) -> Failure {
        let Stopped { failure, refused, went_in } = stopped;
        let line = |index: &usize| batch.lines.get(*index).copied();
        for (index, appended) in &went_in.appended {
            progress.add(&[*appended]);
            progress.halfway.extend(line(index));
        }
        progress.in_doubt.extend(went_in.in_doubt.iter().filter_map(line));
        match refused.as_ref().and_then(line) {
            Some(line) => self.at(line, failure),
            None => failure,
        }
    }

    fn at(&self, line: u64, failure: Failure) -> Failure {
        Failure { message: format!("{}:{line}: {}", self.file, failure.message), ..failure }
    }
}

impl Progress {
    fn new(topic: &str) -> Progress {
        let token = PositionVector::new(topic);
        Progress { records: 0, skipped: 0, token, halfway: Vec::new(), in_doubt: Vec::new() }
    }

    fn add(&mut self, places: &[Appended]) {
        for place in places {
            self.token.raise(place.partition, place.offset.next());
            self.records += 1;
        }
    }

    /// What is in the log, for an append that failed.
    fn told(&self) -> String {
        let token = &self.token;
        let mut told = match self.records {
            0 if self.in_doubt.is_empty() => "nothing had gone in before".to_owned(),
            0 => "nothing is known to have gone in".to_owned(),
            1 => format!("1 record had gone in before (token {token})"),
            records => format!("{records} records had gone in before (token {token})"),
        };
        if !self.halfway.is_empty() {
            told.push_str(&format!(", of the last batch lines {}", spans(&self.halfway)));
        }
        if !self.in_doubt.is_empty() {
            let lines = spans(&self.in_doubt);
            told.push_str(&format!("; lines {lines} may be in as well: look for them before you send them again"));
        }
        told
    }
}

/// Numbers that rise, as `3 to 7, 9`.
fn spans(numbers: &[u64]) -> String {
    const MOST: usize = 20;
    let spans: Vec<&[u64]> = numbers.chunk_by(|one, next| one + 1 == *next).collect();
    let show = |span: &&[u64]| match span {
        [one] => one.to_string(),
        [first, .., last] => format!("{first} to {last}"),
        [] => String::new(),
    };
    let more = if spans.len() > MOST { ", and more" } else { "" };
    spans.iter().take(MOST).map(show).collect::<Vec<_>>().join(", ") + more
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Offset, PartitionId};

    #[test]
    fn lines_are_shown_as_spans() {
        assert_eq!(spans(&[4]), "4");
        assert_eq!(spans(&[1, 2, 3, 7, 9, 10]), "1 to 3, 7, 9 to 10");
        let odd: Vec<u64> = (0..100).map(|n| 2 * n).collect();
        assert!(spans(&odd).ends_with("36, 38, and more"), "{}", spans(&odd));
    }

    #[test]
    fn an_append_that_failed_says_what_is_in() {
        let mut progress = Progress::new("t");
        assert_eq!(progress.told(), "nothing had gone in before");
        progress.in_doubt = vec![1, 2];
        let told = progress.told();
        assert!(told.starts_with("nothing is known") && told.contains("lines 1 to 2 may be in"), "{told}");
        progress.add(&[Appended { partition: PartitionId(0), offset: Offset(6) }]);
        progress.halfway = vec![5];
        let told = progress.told();
        assert!(told.starts_with("1 record had gone in before (token t@0:7), of the last batch lines 5;"), "{told}");
    }
}
