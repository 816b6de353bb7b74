//! Time travel against naive folds, on the log in memory.

#[cfg(test)]
mod asof;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod refused;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Travel;
use crate::actors::plan::{Decision, FlowOptions, FlushOptions, History, Placement, Policy, RetryOptions};
use crate::actors::progress::Progress;
use crate::actors::replay::words::ReplayError;
use crate::actors::residents::key_hash;
use crate::actors::serving::{Mode, Serving, TopicParts, TopicShared, idents};
use crate::actors::shard::core::{Shard, Tail};
use crate::actors::shard::held::held_cells;
use crate::actors::shard::redrive::{Next, Redrive};
use crate::actors::shard::{Slice, Suspect, Unwritable};
use crate::event::EventMeta;
use crate::position::{Offset, PartitionId, Position, PositionVector, Timestamp, TopicPartition};
use crate::record::NewRecord;
use crate::state::{Commit, Generation, Identity, Snapshot, Standing, Store, StoreOptions};
use crate::streams::decode::{DecodeOptions, Format};
use crate::streams::memory::Memory;
use crate::streams::{Limit, Log, Prefetch};
use crate::views::{Definition, Definitions, Reject, RustView, View};

pub const TOPIC: &str = "ledger";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    pub balance: i64,
    pub seen: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(tag = "event_type", content = "payload")]
pub enum Entry {
    Add {
        amount: i64,
    },
    /// Rejected when the balance does not suffice, after the row has been torn on purpose.
    Take {
        amount: i64,
    },
    /// Never applied.
    Panics {},
    /// Goes in at the second try, whoever tries.
    Flaky {},
}

impl View for Ledger {
    const NAME: &'static str = "ledger";
    const VERSION: u32 = 1;
    type Event = Entry;

    fn apply(&mut self, event: &Entry, meta: &EventMeta<'_>) -> Result<(), Reject> {
        thread_local! {
            static FAILED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
        }
        self.seen.push(meta.offset.0);
        match event {
            Entry::Add { amount } => self.balance += amount,
            Entry::Take { amount } => self.balance -= amount,
            Entry::Panics {} => std::panic::resume_unwind(Box::new("on purpose")),
            Entry::Flaky {} if !FAILED.replace(true) => return Err(Reject::try_again("not yet")),
            Entry::Flaky {} => FAILED.set(false),
        }
        if self.balance < 0 { Err(Reject::because("insufficient funds")) } else { Ok(()) }
    }
}

/// A log, a store, and live generations that a test feeds.
pub struct Stage {
    pub log: Memory,
    pub store: Arc<Store>,
    pub shared: TopicShared,
    pub live: Vec<Arc<Generation>>,
    _dir: tempfile::TempDir,
}

pub fn policy(rejected: Decision, null_value: Decision) -> Policy {
    Policy { rejected, null_value, ..Policy::default() }
}

impl Stage {
    pub fn new(partitions: u32, policy: Policy) -> Stage {
        Stage::of(partitions, policy, vec![Arc::new(RustView::<Ledger>::new())])
    }

    pub fn of(partitions: u32, policy: Policy, definitions: Vec<Arc<dyn Definition>>) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { block_cache: 1 << 20, memtables: 8 << 20, ..StoreOptions::default() };
        let store = Store::open(dir.path(), options).unwrap();
        let log = Memory::new();
        log.create_topic(TOPIC, partitions);
        let definitions: Definitions = definitions.into();
        let open = |partition| {
            let identity = Identity { at: at(partition), cluster: "memory".to_owned(), partitions };
            store.open_generation(&identity, &idents(&definitions)).unwrap()
        };
        let live: Vec<_> = (0..partitions).map(open).collect();
        let parts = TopicParts {
            name: TOPIC.to_owned(),
            decoder: DecodeOptions { format: Format::Json, max_key_bytes: 16 },
            policy,
            history: History::Complete,
            wanted: definitions.clone(),
            previous: Arc::from([]),
            flow: FlowOptions {
                placement: Placement::Shared,
                shards_per_partition: 1,
                batch: Limit { records: 100, bytes: 1 << 20 },
                credit_records: 1000,
                credit_bytes: 1 << 20,
                fold_time_limit: Duration::from_secs(1),
                own_shard_limit: 4,
                residency: 0,
                prefetch: Prefetch { bytes: 1 << 20 },
            },
            retry: RetryOptions {
                attempts: 3,
                initial: Duration::from_millis(1),
                factor: 1.0,
                max: Duration::from_millis(1),
            },
            flush: FlushOptions { interval: Duration::from_secs(1), size: 1 << 20 },
        };
        let serving = Serving::new(&parts, definitions, live.clone(), Mode::Offline, Vec::new());
        Stage { log, store, shared: TopicShared::new(parts, serving), live, _dir: dir }
    }

    pub fn append(&self, partition: u32, key: &str, value: Option<&str>) {
        let record = NewRecord {
            partition: Some(partition),
            key: Some(key.as_bytes().to_vec()),
            value: value.map(|value| value.as_bytes().to_vec()),
            timestamp: Some(1),
            ..NewRecord::default()
        };
        self.log.append(TOPIC, vec![record]).unwrap();
    }

    pub fn add(&self, partition: u32, key: &str, amount: i64) {
        self.append(partition, key, Some(&event("Add", amount)));
    }

    pub fn end(&self, partition: u32) -> Position {
        self.log.watermarks(&at(partition)).unwrap().end
    }

    /// Feeds live with everything that is in the log, in batches of so many records.
    pub fn feed(&self, batch: usize) {
        for live in &self.live {
            feed(&self.log, &self.shared.parts, &self.shared.serving().definitions, live, batch);
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        self.store.take_snapshot(&self.live, "operator", Timestamp(1)).unwrap()
    }

    pub fn travel(&self) -> Travel<'_> {
        let serving = self.shared.serving();
        Travel::new(&self.log, &self.store, &self.shared.parts, &serving, Arc::default(), Arc::default())
    }
}

pub fn at(partition: u32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

pub fn event(name: &str, amount: i64) -> String {
    format!(r#"{{"event_type":"{name}","event_id":"e","payload":{{"amount":{amount}}}}}"#)
}

pub fn cut(positions: &[Position]) -> PositionVector {
    let mut cut = PositionVector::new(TOPIC);
    for (partition, position) in positions.iter().enumerate() {
        cut.raise(PartitionId(partition as u32), *position);
    }
    cut
}

pub fn refusal<T: std::fmt::Debug>(result: Result<T, ReplayError>) -> String {
    match result {
        Err(ReplayError::Refused(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

/// What the flow does without its actors.
fn feed(log: &Memory, parts: &TopicParts, definitions: &Definitions, live: &Arc<Generation>, batch: usize) {
    let setting = Arc::new(parts.setting(definitions, live.clone()));
    let progress = Arc::new(Progress::default());
    let view = |tag| setting.tags.iter().position(|one| *one == tag).unwrap();
    let mut held = std::collections::HashMap::new();
    for queue in live.held_keys().unwrap() {
        assert_eq!(queue.standing, Standing::Parked);
        let cell = crate::actors::board::Cell { view: view(queue.view), key: queue.key.into() };
        held.insert(cell, Tail { last: queue.last, standing: queue.standing });
    }
    let mut shard = Shard::new(setting.clone(), progress.clone(), held, Vec::new());
    let start = (live.at().partition, live.applied());
    let mut reader = log.readers(TOPIC, &[start], Prefetch { bytes: 1 }).unwrap().remove(0);
    for epoch in 1.. {
        let records = Arc::new(reader.drain(Limit { records: batch, bytes: 1 << 20 }).unwrap());
        if records.end() == live.applied() {
            break;
        }
        let hashes = records.iter().map(|record| key_hash(record.key.unwrap_or_default())).collect();
        let slice = Slice { batch: records.clone(), indexes: (0..records.len() as u32).collect(), hashes };
        let mut suspects = Vec::new();
        let handover = loop {
            shard.apply(&slice).unwrap();
            let Unwritable { cell, why } = match shard.collect(epoch) {
                Ok(handover) => break handover,
                Err(row) => row,
            };
            // As a partition does: the shard starts anew without that row.
            suspects.push(Suspect::Row { cell, below: records.end(), why });
            let (held, _) = held_cells(&setting).unwrap();
            shard = Shard::new(setting.clone(), progress.clone(), held, suspects.clone());
        };
        let commit = |delta| {
            live.commit(&live.take_writer(), &Commit { deltas: vec![delta], position: records.end(), last: None })
                .unwrap()
        };
        commit(handover.delta);
        setting.committed.store(epoch, Ordering::Release);
        for cell in handover.waiting {
            let mut redrive = Redrive::new(setting.clone(), progress.clone(), cell.clone(), None);
            loop {
                let (mut delta, next) = redrive.step().unwrap();
                delta.sort();
                commit(delta);
                match next {
                    Next::More => {}
                    Next::After(wait) => std::thread::sleep(wait),
                    Next::Drained(_) => break assert!(shard.release(&cell, Some(Offset(u64::MAX))).unwrap()),
                    Next::Parked => break shard.park(&cell),
                }
            }
        }
    }
}
