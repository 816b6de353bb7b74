//! A stage for the flow: a real node on a scripted log and a real store, with a fold whose behaviour the events choose.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use segno::actors::handle::{Node, Row};
use segno::actors::plan::{
    AuditOptions, Decision, FlowOptions, FlushOptions, History, NodePlan, Placement, Policy, ReplayOptions,
    RetryOptions, Running, SnapshotOptions, StopReport, TopicPlan,
};
use segno::event::EventMeta;
use segno::position::TopicPartition;
use segno::record::NewRecord;
use segno::state::{Books, Compression, Durability, Store, StoreOptions};
use segno::streams::decode::{DecodeOptions, Format};
use segno::streams::memory::Memory;
use segno::streams::{Limit, Log, Prefetch};
use segno::views::{Definition, Reject, RustView, View};
use serde::{Deserialize, Serialize};

pub const TOPIC: &str = "ledger";

/// How often an event has been tried, by its name: the one impurity, so that "fails twice, then goes in" can be said.
static TRIES: LazyLock<Mutex<HashMap<String, u32>>> = LazyLock::new(Mutex::default);

static RELEASED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Counts a try, and answers which it is, from 1.
pub fn try_again(name: &str) -> u32 {
    let mut tries = TRIES.lock().unwrap();
    let count = tries.entry(name.to_owned()).or_default();
    *count += 1;
    *count
}

/// The next try of that name goes in.
pub fn let_in(name: &str) {
    TRIES.lock().unwrap().insert(name.to_owned(), u32::MAX / 2);
}

/// Waits for a condition.
pub fn until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

/// Lets the folds of that name come back, when the test has seen what it wanted to.
pub fn release(name: &str) {
    RELEASED.lock().unwrap().insert(name.to_owned());
}

fn released(name: &str) -> bool {
    RELEASED.lock().unwrap().contains(name)
}

/// Forgets all tries whose names begin so, and what was released: the events are as new for another run.
pub fn forget(prefix: &str) {
    TRIES.lock().unwrap().retain(|name, _| !name.starts_with(prefix));
    RELEASED.lock().unwrap().retain(|name| !name.starts_with(prefix));
}

pub fn tries(name: &str) -> u32 {
    TRIES.lock().unwrap().get(name).copied().unwrap_or(0)
}

/// Each event leaves its number in the row, so that a lost, doubled or displaced one shows.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    pub balance: i64,
    pub seen: Vec<u64>,
}

/// A row of this balance cannot be copied.
pub const UNCOPYABLE: i64 = 666_666;

impl Clone for Ledger {
    fn clone(&self) -> Self {
        assert!(self.balance != UNCOPYABLE, "on purpose");
        Ledger { balance: self.balance, seen: self.seen.clone() }
    }
}

pub fn ledger() -> Arc<dyn Definition> {
    Arc::new(RustView::<Ledger>::new())
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event_type", content = "payload")]
pub enum Entry {
    Add {
        n: u64,
        amount: i64,
    },
    /// Rejected when the balance does not suffice, after the row has been torn on purpose.
    Take {
        n: u64,
        amount: i64,
    },
    /// Says "try again" until it has been tried `times` times.
    Flaky {
        n: u64,
        name: String,
        times: u32,
    },
    /// Panics, with a torn row, until it has been tried `times` times.
    Panics {
        n: u64,
        name: String,
        times: u32,
    },
    /// Takes so long, until it has been tried `times` times.
    Slow {
        n: u64,
        name: String,
        times: u32,
        ms: u64,
    },
}

impl View for Ledger {
    const NAME: &'static str = "ledger";
    const VERSION: u32 = 1;
    type Event = Entry;

    fn apply(&mut self, event: &Entry, _: &EventMeta<'_>) -> Result<(), Reject> {
        let n = match event {
            Entry::Add { n, amount } => {
                self.balance += amount;
                *n
            }
            Entry::Take { n, amount } => {
                self.balance -= amount;
                if self.balance < 0 {
                    return Err(Reject::because("insufficient funds"));
                }
                *n
            }
            Entry::Flaky { n, name, times } => {
                self.balance += 1_000_000;
                if try_again(name) < *times {
                    return Err(Reject::try_again("not yet"));
                }
                self.balance -= 1_000_000;
                *n
            }
            Entry::Panics { n, name, times } => {
                let seen = std::mem::take(&mut self.seen);
                if try_again(name) < *times {
                    panic!("on purpose");
                }
                self.seen = seen;
                *n
            }
            Entry::Slow { n, name, times, ms } => {
                if try_again(name) < *times {
                    let end = Instant::now() + Duration::from_millis(*ms);
                    while Instant::now() < end && !released(name) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                *n
            }
        };
        self.seen.push(n);
        Ok(())
    }
}

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub partitions: u32,
    pub placement: Placement,
    pub shards: usize,
    pub batch: usize,
    pub credits: usize,
    pub residency: usize,
    pub fold_time_limit: Duration,
    pub attempts: u32,
    pub policy: Policy,
    pub history: History,
    pub flush: Duration,
    /// The first wait between two attempts; the longest is ten times that.
    pub retry: Duration,
    /// Cells that have a shard of their own at most.
    pub own_shards: usize,
    /// The fold; its view is called `ledger`.
    pub view: fn() -> Arc<dyn Definition>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            partitions: 2,
            placement: Placement::Shared,
            shards: 2,
            batch: 64,
            credits: 256,
            residency: 1 << 20,
            fold_time_limit: Duration::from_secs(2),
            attempts: 3,
            policy: Policy::default(),
            history: History::Complete,
            flush: Duration::from_millis(20),
            retry: Duration::from_millis(2),
            own_shards: 64,
            view: ledger,
        }
    }
}

/// A node on its stage.
pub struct Stage {
    pub log: Memory,
    pub running: Option<Running>,
    pub setup: Setup,
    pub dir: tempfile::TempDir,
    data: PathBuf,
    runtime: Option<tokio::runtime::Runtime>,
    lives: u32,
}

impl Stage {
    pub fn new(setup: Setup) -> Self {
        let log = Memory::new();
        log.create_topic(TOPIC, setup.partitions);
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("life-0");
        let mut stage = Stage { log, running: None, setup, dir, data, runtime: None, lives: 0 };
        stage.start();
        stage
    }

    pub fn start(&mut self) {
        // A thread that the last life has left behind, with a fold that hangs, may hold the store for a moment.
        let patience = Instant::now() + Duration::from_secs(10);
        while let Err(error) = self.try_start() {
            assert!(error.contains("is in use") && Instant::now() < patience, "{error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn try_start(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = Store::open(
            &self.data,
            StoreOptions {
                durability: Durability::Log,
                block_cache: 8 << 20,
                memtables: 16 << 20,
                compression: Compression::Lz4,
                max_open_files: 64,
            },
        )
        .map_err(|error| error.to_string())?;
        let definition = (self.setup.view)();
        let plan = NodePlan {
            name: "stage".to_owned(),
            log: Arc::new(self.log.clone()),
            store,
            topics: vec![TopicPlan {
                name: TOPIC.to_owned(),
                decoder: DecodeOptions { format: Format::Json, max_key_bytes: 1024 },
                policy: self.setup.policy,
                history: self.setup.history,
                views: Arc::from(vec![definition]),
                previous: Arc::default(),
            }],
            flow: FlowOptions {
                placement: self.setup.placement,
                shards_per_partition: self.setup.shards,
                batch: Limit { records: self.setup.batch, bytes: 1 << 20 },
                credit_records: self.setup.credits,
                credit_bytes: 8 << 20,
                fold_time_limit: self.setup.fold_time_limit,
                own_shard_limit: self.setup.own_shards,
                residency: self.setup.residency,
                prefetch: Prefetch { bytes: 1 << 20 },
            },
            retry: RetryOptions {
                attempts: self.setup.attempts,
                initial: self.setup.retry,
                factor: 2.0,
                max: self.setup.retry * 10,
            },
            flush: FlushOptions { interval: self.setup.flush, size: 1 << 20 },
            replay: ReplayOptions::default(),
            snapshots: SnapshotOptions::default(),
            audit: AuditOptions::default(),
            consume: true,
        };
        let running = runtime.block_on(segno::actors::start(plan)).map_err(|error| error.to_string())?;
        self.running = Some(running);
        self.runtime = Some(runtime);
        Ok(())
    }

    /// The data directory of this life.
    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn node(&self) -> &Arc<dyn Node> {
        &self.running.as_ref().unwrap().node
    }

    /// Appends an event under a key.
    pub fn send(&self, key: &str, entry: &Entry) -> TopicPartition {
        self.send_raw(Some(key.as_bytes()), Some(&serde_json::to_vec(entry).unwrap()))
    }

    pub fn send_raw(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> TopicPartition {
        let record = NewRecord {
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            timestamp: Some(1_700_000_000_000),
            ..NewRecord::default()
        };
        let appended = self.log.append(TOPIC, vec![record]).unwrap();
        TopicPartition::new(TOPIC, appended[0].partition.0)
    }

    /// Waits until everything in the log is applied, and nothing waits for a retry.
    pub fn settle(&self) {
        self.settle_within(Duration::from_secs(20));
    }

    pub fn settle_within(&self, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let status = self.node().status();
            let topic = &status.topics[0];
            let behind = topic.partitions.iter().any(|p| {
                let end = self.log.watermarks(&TopicPartition::new(TOPIC, p.partition.0)).unwrap().end;
                p.applied < end || p.waiting > 0
            });
            if !behind {
                return;
            }
            assert!(Instant::now() < deadline, "not settled: {status:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Every row, by key.
    pub fn rows(&self) -> BTreeMap<String, Row> {
        let mut rows = BTreeMap::new();
        let mut cursor = None;
        loop {
            let list = self.node().list("ledger", Vec::new(), cursor, 1000, None);
            let page = self.runtime.as_ref().unwrap().block_on(list).unwrap().value;
            for row in page.rows {
                rows.insert(String::from_utf8(row.key.clone()).unwrap(), row);
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return rows,
            }
        }
    }

    pub fn ledgers(&self) -> BTreeMap<String, Ledger> {
        let parse = |(key, row): (String, Row)| (key, serde_json::from_str(row.json.get()).unwrap());
        self.rows().into_iter().map(parse).collect()
    }

    pub fn books(&self) -> Books {
        self.node().status().topics[0].views[0].books
    }

    /// Every digest is that of the rows.
    pub fn verify(&self) {
        let checks = self.runtime.as_ref().unwrap().block_on(self.node().verify()).unwrap();
        checks.iter().for_each(|check| assert!(check.ok, "{check:?}"));
    }

    /// Stops in good order and starts again on the same data.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    pub fn stop(&mut self) {
        let report = self.stop_within(Duration::from_secs(10));
        assert!(report.clean(), "{report:?}");
    }

    /// Stops as well as it can in that time. Threads whose folds hang stay until those come back.
    pub fn stop_within(&mut self, within: Duration) -> StopReport {
        let running = self.running.take().unwrap();
        let report = self.runtime.as_ref().unwrap().block_on(running.stop(within));
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
        report
    }

    /// What a kill -9 leaves: the files as they are at this moment, and a new life on them.
    pub fn crash(&mut self) {
        self.lives += 1;
        let next = self.dir.path().join(format!("life-{}", self.lives));
        copy_dir(&self.data, &next);
        drop(self.running.take());
        // The copy is the crash; the old life only has to be gone before the process's own end.
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(10));
        self.data = next;
        self.start();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(30));
        }
    }
}

/// Copies a directory that may change meanwhile, again until no file came or went under the copying hands.
pub fn copy_dir(from: &Path, to: &Path) {
    for _ in 0..200 {
        let _ = std::fs::remove_dir_all(to);
        let before = files(from);
        for file in &before {
            let target = to.join(file);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            let _ = std::fs::copy(from.join(file), &target);
        }
        if files(from) == before {
            return;
        }
    }
    panic!("{} never holds still", from.display());
}

/// All files below a directory, sorted so that RocksDB's CURRENT and MANIFEST come before what they name.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                _ => found.push(entry.path().strip_prefix(root).unwrap().to_path_buf()),
            }
        }
    }
    found.sort();
    found
}

/// A policy that decides the same for every event that a view rejects.
pub fn on_reject(decision: Decision) -> Policy {
    Policy { rejected: decision, ..Policy::default() }
}
