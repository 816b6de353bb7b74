//! A place to rebuild generations in: the stage's log and fold, a store of its own, and a log whose reads trip.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use segno::actors::board::Board;
use segno::actors::meter::Meter;
use segno::actors::plan::RetryOptions;
use segno::actors::replay::gate::{Gate, Gauge};
use segno::actors::replay::rebuild::{Rebuild, RebuildOptions};
use segno::actors::serving::idents;
use segno::actors::shard::Setting;
use segno::position::{Offset, PartitionId, Position, Timestamp, TopicPartition};
use segno::record::{NewRecord, RecordBatch};
use segno::state::{Fingerprint, Generation, Held, Identity, Row, Store, StoreOptions, ViewTotals};
use segno::streams::decode::{DecodeOptions, Decoder, Format};
use segno::streams::memory::Memory;
use segno::streams::{self, Limit, Log, Prefetch, Reader, TimeLookup, TopicInfo, Watermarks};
use segno::views::Definitions;
use tokio::sync::Notify;

use crate::stage::{Setup, TOPIC, copy_dir};

pub fn at() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

pub fn options() -> RebuildOptions {
    RebuildOptions {
        memory: 1 << 20,
        epoch_records: 100,
        epoch_time: Duration::from_secs(60),
        prefetch: Prefetch { bytes: 1 << 20 },
        batch: Limit { records: 64, bytes: 1 << 20 },
        fold_time_limit: Duration::from_secs(5),
    }
}

/// Everything that two generations must agree on.
#[derive(Debug, PartialEq)]
pub struct Facts {
    pub position: Position,
    pub last: Option<Fingerprint>,
    pub totals: Vec<ViewTotals>,
    pub rows: Vec<(Vec<u8>, Row)>,
    pub held: Vec<Held>,
    pub dead: Vec<Held>,
}

/// Of a generation; its totals are also computed anew from what it holds.
pub fn facts(generation: &Generation) -> Facts {
    let tag = generation.tags()[0];
    let totals = generation.view_totals();
    assert_eq!(generation.recompute(tag).unwrap(), totals[0]);
    let held = generation.held_keys().unwrap().into_iter();
    Facts {
        position: generation.applied(),
        last: generation.last(),
        totals,
        rows: generation.snapshot_read().list(tag, &[], None, usize::MAX).unwrap().rows,
        held: held.flat_map(|key| generation.held_of(tag, &key.key, Offset(0), usize::MAX).unwrap()).collect(),
        dead: generation.dead(Offset(0), usize::MAX).unwrap(),
    }
}

/// One generation that is being rebuilt, and what may happen to it.
pub struct Workshop {
    dir: tempfile::TempDir,
    data: PathBuf,
    lives: u32,
    setup: Setup,
    generation: Option<Arc<Generation>>,
    pub gate: Arc<Gate>,
    pub gauge: Arc<Gauge>,
}

impl Workshop {
    pub fn new(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("life-0");
        let mut shop = Workshop {
            dir,
            data,
            lives: 0,
            setup: setup.clone(),
            generation: None,
            gate: Gate::new(None),
            gauge: Arc::default(),
        };
        shop.open();
        shop
    }

    fn open(&mut self) {
        let options =
            StoreOptions { block_cache: 1 << 20, memtables: 4 << 20, max_open_files: 64, ..StoreOptions::default() };
        let store = Store::open(&self.data, options).unwrap();
        let identity = Identity { at: at(), cluster: "memory".to_owned(), partitions: 1 };
        self.generation = Some(store.open_generation(&identity, &idents(&self.definitions())).unwrap());
    }

    fn definitions(&self) -> Definitions {
        Arc::from(vec![(self.setup.view)()])
    }

    pub fn generation(&self) -> &Generation {
        self.generation.as_ref().unwrap()
    }

    /// A gate that has been stopped stays so: the next rebuild gets another.
    pub fn rebuild(&mut self, options: RebuildOptions) -> Rebuild {
        if self.gate.stopped() {
            self.gate = Gate::new(None);
        }
        let setting = Setting {
            at: at(),
            definitions: self.definitions(),
            tags: self.generation().tags().to_vec(),
            decoder: Decoder::new(DecodeOptions { format: Format::Json, max_key_bytes: 1024 }),
            policy: self.setup.policy,
            retry: RetryOptions {
                attempts: self.setup.attempts,
                initial: Duration::from_millis(1),
                factor: 1.5,
                max: Duration::from_millis(4),
            },
            generation: self.generation.clone().unwrap(),
            board: Arc::new(Board::default()),
            meter: Meter::new(&at()),
            residency: 0,
            committed: AtomicU64::new(0),
            resident: Mutex::default(),
        };
        Rebuild::new(Arc::new(setting), options, self.gate.clone(), self.gauge.clone()).unwrap()
    }

    /// What a kill -9 leaves, opened again. No rebuild may be left.
    pub fn crash(&mut self) {
        self.lives += 1;
        let next = self.dir.path().join(format!("life-{}", self.lives));
        copy_dir(&self.data, &next);
        self.data = next;
        self.generation = None;
        self.open();
    }
}

/// What the next drains of a tripping log do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// The job is stopped while it reads.
    Stop,
    /// The read fails for good.
    Fail,
    /// The read fails, and would not the next time.
    FailOnce,
}

/// The stage's log; its readers trip over what the test puts in their way.
#[derive(Clone)]
pub struct Tripping {
    pub log: Memory,
    pub gate: Arc<Mutex<Arc<Gate>>>,
    /// After so many drains this happens.
    pub trip: Arc<Mutex<Option<(usize, Trip)>>>,
    /// Readers hand over more than they are asked for.
    pub greedy: bool,
}

impl Log for Tripping {
    fn kind(&self) -> &'static str {
        self.log.kind()
    }

    fn topic(&self, topic: &str) -> streams::Result<TopicInfo> {
        self.log.topic(topic)
    }

    fn watermarks(&self, at: &TopicPartition) -> streams::Result<Watermarks> {
        self.log.watermarks(at)
    }

    fn positions_at(
        &self,
        topic: &str,
        partitions: &[PartitionId],
        time: Timestamp,
    ) -> streams::Result<Vec<(PartitionId, TimeLookup)>> {
        self.log.positions_at(topic, partitions, time)
    }

    fn volume(&self, at: &TopicPartition, from: Position, to: Position) -> streams::Result<streams::Volume> {
        self.log.volume(at, from, to)
    }

    fn compacted(&self, topic: &str) -> streams::Result<Option<bool>> {
        self.log.compacted(topic)
    }

    fn readers(
        &self,
        topic: &str,
        starts: &[(PartitionId, Position)],
        prefetch: Prefetch,
    ) -> streams::Result<Vec<Box<dyn Reader>>> {
        let readers = self.log.readers(topic, starts, prefetch)?;
        let wrap = |reader| Box::new(TrippingReader { reader, by: self.clone() }) as Box<dyn Reader>;
        Ok(readers.into_iter().map(wrap).collect())
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> streams::Result<Vec<streams::Appended>> {
        self.log.append(topic, records)
    }

    fn close(&self, within: Duration) {
        self.log.close(within);
    }
}

struct TrippingReader {
    reader: Box<dyn Reader>,
    by: Tripping,
}

impl Reader for TrippingReader {
    fn partition(&self) -> PartitionId {
        self.reader.partition()
    }

    fn position(&self) -> Position {
        self.reader.position()
    }

    fn drain(&mut self, limit: Limit) -> streams::Result<RecordBatch> {
        let mut trip = self.by.trip.lock().unwrap();
        if let Some((drains, what)) = &mut *trip {
            if *drains == 0 {
                let what = *what;
                *trip = None;
                match what {
                    Trip::Stop => self.by.gate.lock().unwrap().stop(),
                    Trip::Fail => return Err(streams::Error::Other("tripped".to_owned())),
                    Trip::FailOnce => {
                        let (brokers, reason) = ("nowhere".to_owned(), "tripped".to_owned());
                        return Err(streams::Error::Unreachable { brokers, reason });
                    }
                }
            } else {
                *drains -= 1;
            }
        }
        drop(trip);
        let records = if self.by.greedy { limit.records * 3 } else { limit.records };
        self.reader.drain(Limit { records, ..limit })
    }

    fn ready(&self) -> Arc<Notify> {
        self.reader.ready()
    }

    fn end(&self) -> Position {
        self.reader.end()
    }
}

pub fn read_only(data: &Path) -> Arc<Generation> {
    Store::read_only(data).unwrap().generation(&at()).unwrap()
}

pub fn gauged(gauge: &Gauge) -> (u64, u64) {
    (gauge.position.load(Ordering::Relaxed), gauge.durable.load(Ordering::Relaxed))
}
