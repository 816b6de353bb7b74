//! A producer that goes on appending, and knows at the end which record stands where.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::broker::{self, Put};
use crate::harness::script;
use crate::readers::Front;

const BATCH: usize = 100;

/// Where records are appended.
pub trait Log: Send + Sync + 'static {
    /// Appends each to its partition, and returns the offsets.
    fn append(&self, records: &[Entry]) -> Vec<u64>;
}

/// A record of the workload.
pub struct Entry {
    partition: i32,
    key: Option<String>,
    value: String,
    timestamp: i64,
    time: String,
}

/// Plain rdkafka.
pub struct Kafka(pub String);

impl Log for Kafka {
    fn append(&self, records: &[Entry]) -> Vec<u64> {
        let puts: Vec<Put<'_>> = records
            .iter()
            .map(|entry| Put {
                partition: entry.partition,
                key: entry.key.as_deref().map(str::as_bytes),
                value: Some(entry.value.as_bytes()),
                timestamp: Some(entry.timestamp),
                headers: &[],
            })
            .collect();
        broker::shared().produce(&self.0, &puts).into_iter().map(|offset| offset as u64).collect()
    }
}

/// Over HTTP, whenever the daemon is there. Nothing is appended while it is killed, so that every append has an answer.
pub struct Embedded(pub Arc<Front>);

impl Log for Embedded {
    fn append(&self, records: &[Entry]) -> Vec<u64> {
        let line = |entry: &Entry| {
            format!(
                "{{\"partition\":{},\"key\":{},\"timestamp\":{},\"value\":{}}}",
                entry.partition,
                json!(entry.key),
                entry.timestamp,
                entry.value
            )
        };
        let body = records.iter().map(line).collect::<Vec<_>>().join("\n");
        loop {
            let quiet = self.0.quiet.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, base)) = self.0.address() {
                let request = crate::faces::agent().post(format!("{base}/v1/topics/bank.accounts/events"));
                let answer = request.header("content-type", "application/x-ndjson").send(&body);
                let answer = crate::faces::answer(answer);
                if answer.status == 200 {
                    let records = answer.body["records"].as_array().unwrap();
                    return records.iter().map(|at| at["offset"].as_u64().unwrap()).collect();
                }
                assert_eq!(answer.status, 503, "an append without a clear answer: {answer:?}");
            }
            drop(quiet);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The bank's workload, on its way into a log.
pub struct Feeder {
    entries: Arc<Vec<Entry>>,
    /// Of the entries that are in the log, in their order: the offsets.
    offsets: Arc<Mutex<Vec<u64>>>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    pub fn new(events: usize, accounts: usize, bad: usize, partitions: i32, seed: u64) -> Feeder {
        let [events, accounts, bad] = [events, accounts, bad].map(|number| number.to_string());
        let seed = seed.to_string();
        let args = ["generate", "--events", &events, "--accounts", &accounts, "--bad", &bad, "--records"];
        let made = script("bank.py", &[&args[..], &["--seed", &seed]].concat());
        let entry = |line: &str| {
            let record: Value = serde_json::from_str(line).unwrap();
            let key = record["key"].as_str().map(str::to_owned);
            let number = |key: &String| key.rsplit('-').next().unwrap().parse::<i32>().unwrap();
            let time = record["timestamp"].as_str().unwrap().to_owned();
            let timestamp = time.parse::<jiff::Timestamp>().unwrap().as_millisecond();
            let partition = key.as_ref().map_or(0, number) % partitions;
            Entry { partition, key, value: record["value"].to_string(), timestamp, time }
        };
        let entries: Vec<Entry> = made.lines().map(entry).collect();
        Feeder { entries: Arc::new(entries), offsets: Arc::default(), thread: None }
    }

    /// The time of an event, as it would be given to `--from`.
    pub fn time(&self, entry: usize) -> &str {
        &self.entries[entry].time
    }

    /// Appends the first `count`.
    pub fn first(&self, log: &dyn Log, count: usize) {
        let mut offsets = self.offsets.lock().unwrap();
        for batch in self.entries[..count].chunks(100 * BATCH) {
            offsets.extend(log.append(batch));
        }
    }

    /// Goes on appending, a batch every `pause`, until the front is over.
    pub fn go_on(&mut self, log: impl Log, front: &Arc<Front>, pause: Duration) {
        let (entries, offsets, front) = (self.entries.clone(), self.offsets.clone(), front.clone());
        self.thread = Some(std::thread::spawn(move || {
            let mut from = offsets.lock().unwrap().len();
            while from < entries.len() && !front.is_over() {
                let to = (from + BATCH).min(entries.len());
                let given = log.append(&entries[from..to]);
                assert_eq!(given.len(), to - from);
                offsets.lock().unwrap().extend(given);
                from = to;
                std::thread::sleep(pause);
            }
        }));
    }

    /// Waits for the thread, writes down what the log holds, in its order, and returns how many records that is.
    pub fn end(mut self, file: &Path) -> usize {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        let offsets = self.offsets.lock().unwrap();
        let mut log = BTreeMap::new();
        for (entry, offset) in self.entries.iter().zip(&*offsets) {
            assert!(log.insert((entry.partition, *offset), &entry.value).is_none(), "an offset was given out twice");
        }
        let mut text = String::new();
        for ((partition, offset), value) in &log {
            writeln!(text, "{{\"partition\":{partition},\"offset\":{offset},\"value\":{value}}}").unwrap();
        }
        std::fs::write(file, text).unwrap();
        log.len()
    }

    pub fn appended(&self) -> usize {
        self.offsets.lock().unwrap().len()
    }

    pub fn is_through(&self) -> bool {
        self.appended() == self.entries.len()
    }
}
