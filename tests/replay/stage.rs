//! A stage for replays: a real node on a log of its own and a real store, which can be stopped, killed and started again,
//! with the same definitions or with others.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use segno::actors::handle::{Node, Row, ViewStatus};
use segno::actors::plan::{
    AuditOptions, FlowOptions, FlushOptions, History, NodePlan, OnChange, Placement, Policy, ReplayOptions,
    RetryOptions, Running, SnapshotOptions, TopicPlan,
};
use segno::actors::replay::words::{JobAction, JobStatus, Phase, ReplayError, ReplayPlan, ReplayRequest};
use segno::position::Position;
use segno::state::{Books, Compression, Durability, Store, StoreOptions};
use segno::streams::decode::{DecodeOptions, Format};
use segno::streams::{Limit, Prefetch};
use segno::views::Definition;

use crate::copy::copy_dir;
use crate::logs::On;
use crate::oracle::{ATTEMPTS, Seen};
use crate::tape::Pen;
pub use crate::tape::TOPIC;

/// How a node is set up.
#[derive(Clone)]
pub struct Setup {
    pub on: On,
    pub partitions: u32,
    pub placement: Placement,
    pub batch: usize,
    pub policy: Policy,
    pub history: History,
    pub retry: Duration,
    /// How often live is made durable.
    pub flush: Duration,
    pub fold_time_limit: Duration,
    pub replay: ReplayOptions,
    pub snapshots: SnapshotOptions,
    pub views: Vec<Arc<dyn Definition>>,
    pub previous: Vec<Arc<dyn Definition>>,
    /// Another topic, and its views.
    pub beside: Option<(&'static str, Arc<dyn Definition>)>,
    pub consume: bool,
    /// Rows a minute.
    pub audit: u32,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let views: Vec<String> = self.views.iter().map(|view| format!("{} v{}", view.name(), view.version())).collect();
        let Setup { on, partitions, placement, batch, policy, replay, .. } = self;
        write!(f, "{on:?}, {partitions} partitions, {placement:?}, batch {batch}, {policy:?}, {replay:?}, {views:?}")
    }
}

impl Setup {
    pub fn of(views: &[Arc<dyn Definition>]) -> Setup {
        Setup {
            on: On::Memory,
            partitions: 2,
            placement: Placement::Shared,
            batch: 64,
            policy: Policy::default(),
            history: History::Complete,
            retry: Duration::from_millis(1),
            flush: Duration::from_millis(20),
            fold_time_limit: Duration::from_secs(2),
            replay: ReplayOptions { epoch_records: 16, memory: 16 << 20, ..ReplayOptions::default() },
            // None by themselves.
            snapshots: SnapshotOptions { records: 0, interval: None, ..SnapshotOptions::default() },
            views: views.to_vec(),
            previous: Vec::new(),
            beside: None,
            consume: true,
            audit: 0,
        }
    }

    pub fn on_change(mut self, on_change: OnChange) -> Setup {
        self.replay.on_change = on_change;
        self
    }
}

/// A node on its stage.
pub struct Stage {
    pub pen: Pen,
    pub setup: Setup,
    /// For looking over the node's shoulder.
    pub store: Weak<Store>,
    running: Option<Running>,
    runtime: Option<tokio::runtime::Runtime>,
    dir: tempfile::TempDir,
    data: PathBuf,
    lives: u32,
}

impl Stage {
    pub fn new(setup: Setup) -> Stage {
        // What a crash of the process leaves does not depend on a disk.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let data = dir.path().join("life-0");
        let pen = Pen::new(setup.on, setup.partitions);
        if let Some((topic, _)) = &setup.beside {
            pen.script().create_topic(topic, setup.partitions);
        }
        let mut stage = Stage { pen, setup, store: Weak::new(), running: None, runtime: None, dir, data, lives: 0 };
        stage.start();
        stage
    }

    /// What a kill at this moment would leave.
    pub fn copy(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        copy_dir(&self.data, &dir.path().join("life-0"));
        dir
    }

    /// A node that only looks at such a copy.
    pub fn looking_at(&self, dir: tempfile::TempDir) -> Stage {
        let (data, pen) = (dir.path().join("life-0"), self.pen.clone());
        let setup = Setup { consume: false, ..self.setup.clone() };
        let mut stage = Stage { pen, setup, store: Weak::new(), running: None, runtime: None, dir, data, lives: 0 };
        stage.start();
        stage
    }

    pub fn start(&mut self) {
        self.try_start().unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn try_start(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let store = self.open_store()?;
        self.store = Arc::downgrade(&store);
        let setup = &self.setup;
        let topic = |name: &str, views: &[Arc<dyn Definition>], previous: &[Arc<dyn Definition>]| TopicPlan {
            name: name.to_owned(),
            decoder: DecodeOptions { format: Format::Json, max_key_bytes: 1024 },
            policy: setup.policy,
            history: setup.history,
            views: views.into(),
            previous: previous.into(),
        };
        let mut topics = vec![topic(&self.pen.topic, &setup.views, &setup.previous)];
        topics.extend(setup.beside.iter().map(|(name, view)| topic(name, std::slice::from_ref(view), &[])));
        let plan = NodePlan {
            name: "stage".to_owned(),
            log: self.pen.log.clone(),
            store,
            topics,
            flow: FlowOptions {
                placement: setup.placement,
                shards_per_partition: 2,
                batch: Limit { records: setup.batch, bytes: 1 << 20 },
                credit_records: 4 * setup.batch,
                credit_bytes: 8 << 20,
                fold_time_limit: setup.fold_time_limit,
                own_shard_limit: 64,
                residency: 1 << 20,
                prefetch: Prefetch { bytes: 1 << 20 },
            },
            retry: RetryOptions { attempts: ATTEMPTS, initial: setup.retry, factor: 2.0, max: setup.retry * 8 },
            flush: FlushOptions { interval: setup.flush, size: 1 << 20 },
            replay: setup.replay,
            snapshots: setup.snapshots,
            audit: AuditOptions { keys_per_minute: setup.audit },
            consume: setup.consume,
        };
        let running = runtime.block_on(segno::actors::start(plan)).map_err(|error| error.to_string())?;
        self.running = Some(running);
        self.runtime = Some(runtime);
        Ok(())
    }

    /// The store, while no node has it.
    pub fn open_store(&self) -> Result<Arc<Store>, String> {
        let options = StoreOptions {
            durability: Durability::Log,
            block_cache: 8 << 20,
            memtables: 16 << 20,
            compression: Compression::Lz4,
            max_open_files: 64,
        };
        Store::open(&self.data, options).map_err(|error| error.to_string())
    }

    pub fn node(&self) -> &Arc<dyn Node> {
        &self.running.as_ref().unwrap().node
    }

    pub fn block<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().unwrap().spawn(future)
    }

    /// Waits until everything in the log is applied, and nothing waits for a retry.
    pub fn settle(&self) {
        self.until("settled", || {
            let status = self.node().status();
            status.topics[0].partitions.iter().all(|partition| {
                let ends = self.pen.log.watermarks(&self.pen.at(partition.partition.0)).unwrap();
                partition.applied >= ends.end && partition.waiting == 0
            })
        });
    }

    /// Waits for something.
    pub fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is() {
            let (status, jobs) = (self.node().status(), self.node().replays());
            assert!(Instant::now() < deadline, "not {what}: {status:#?} {jobs:#?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Every row of a view, by key.
    pub fn rows(&self, view: &str) -> BTreeMap<String, Seen> {
        let mut rows = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = self.block(self.node().list(view, Vec::new(), cursor, 1000, None)).unwrap().value;
            rows.extend(page.rows.iter().map(seen));
            match page.next {
                Some(next) => cursor = Some(next),
                None => return rows,
            }
        }
    }

    pub fn view(&self, view: &str) -> ViewStatus {
        let status = self.node().status();
        let found = status.topics[0].views.iter().find(|known| known.view == view);
        found.unwrap_or_else(|| panic!("no view {view}: {status:#?}")).clone()
    }

    pub fn books(&self, view: &str) -> Books {
        self.view(view).books
    }

    /// Applied, durable and generation of every partition.
    pub fn positions(&self) -> Vec<(Position, Position, u64)> {
        let status = self.node().status();
        status.topics[0].partitions.iter().map(|p| (p.applied, p.durable, p.generation)).collect()
    }

    pub fn generations(&self) -> Vec<u64> {
        self.positions().into_iter().map(|(.., generation)| generation).collect()
    }

    pub fn plan(&self, request: &ReplayRequest) -> Result<ReplayPlan, ReplayError> {
        self.block(self.node().plan_replay(request.clone()))
    }

    pub fn replay(&self, request: &ReplayRequest) -> Result<JobStatus, ReplayError> {
        self.block(self.node().start_replay(request.clone()))
    }

    pub fn act(&self, id: u64, action: JobAction) -> Result<JobStatus, ReplayError> {
        self.block(self.node().act(Some(id), action))
    }

    pub fn roll_back(&self) -> Result<JobStatus, ReplayError> {
        self.block(self.node().roll_back(None))
    }

    pub fn job(&self, id: u64) -> JobStatus {
        self.node().replay(Some(id)).unwrap()
    }

    /// Waits until a job is over, or waits for a yes.
    pub fn outcome(&self, id: u64) -> JobStatus {
        self.until("over", || {
            let phase = self.job(id).phase;
            phase.ended() || phase == Phase::Waiting
        });
        self.job(id)
    }

    /// Waits until a job is done.
    pub fn done(&self, id: u64) -> JobStatus {
        let job = self.outcome(id);
        assert_eq!(job.phase, Phase::Done, "{job:#?}");
        job
    }

    pub fn snapshot(&self) -> u64 {
        self.block(self.node().take_snapshot(Vec::new())).unwrap()[0].id
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The directories of generations, and whatever else lies beside them, a partition each.
    pub fn directories(&self) -> Vec<Vec<String>> {
        let of = |partition: u32| {
            let path = self.data.join(&*self.pen.topic).join(partition.to_string());
            let mut names: Vec<String> = std::fs::read_dir(&path)
                .map(|found| found.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
                .unwrap_or_default();
            names.retain(|name| name.contains("gen-"));
            names.sort();
            names
        };
        (0..self.setup.partitions).map(of).collect()
    }

    /// Waits until so many generations lie in every partition's directory.
    pub fn until_directories(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.directories().iter().any(|names| names.len() != count) {
            assert!(Instant::now() < deadline, "not {count} generations: {:?}", self.directories());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Recomputed digests are those that are kept.
    pub fn verify(&self) {
        for check in self.block(self.node().verify()).unwrap() {
            assert!(check.ok, "{check:?}");
        }
    }

    /// Stops in good order and starts again on the same data.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    pub fn restart_with(&mut self, change: impl FnOnce(&mut Setup)) {
        self.stop();
        change(&mut self.setup);
        self.start();
    }

    pub fn stop(&mut self) {
        let running = self.running.take().unwrap();
        let report = self.runtime.as_ref().unwrap().block_on(running.stop(Duration::from_secs(10)));
        assert!(report.clean(), "{report:?}");
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }

    /// What a kill -9 leaves: the files as they are at one moment, and a new life on them.
    pub fn crash(&mut self) {
        self.crash_and(|_| ());
    }

    /// The same, with a look at the files before the new life begins.
    pub fn crash_and(&mut self, look: impl FnOnce(&Path)) {
        self.lives += 1;
        let next = self.dir.path().join(format!("life-{}", self.lives));
        copy_dir(&self.data, &next);
        drop(self.running.take());
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(10));
        self.data = next;
        look(&self.data);
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

pub fn seen(row: &Row) -> (String, Seen) {
    let key = String::from_utf8(row.key.clone()).unwrap();
    let json = serde_json::from_str(row.json.get()).unwrap();
    (key, Seen { json, offset: row.offset.0, time: row.timestamp.0 })
}
