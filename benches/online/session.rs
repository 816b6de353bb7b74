//! A node on the log for the time of one measurement, and the check of every row at its end.

use std::fs::File;
use std::future::Future;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use segno::actors::handle::Node;
use segno::actors::plan::{FlowOptions, Placement, ReplayOptions, Running};
use segno::actors::replay::words::{BaseChoice, JobStatus, Phase, ReplayRequest};
use segno::config::memory::{Wanted, split};
use segno::position::PositionVector;
use segno::record::NewRecord;
use segno::state::{Store, StoreOptions};
use segno::streams::{Limit, Prefetch};

use crate::arguments::{Answer, Job};
use crate::figures::status;
use crate::node;
use crate::workload::{Account, Generator};

/// `memory.total`, as the daemon has it by default.
pub const MEMORY: u64 = 1 << 30;

pub struct Session {
    runtime: tokio::runtime::Runtime,
    running: Running,
    pub client: Client,
}

/// What the threads of a measurement share.
pub struct Client {
    handle: tokio::runtime::Handle,
    pub node: Arc<dyn Node>,
    topic: String,
    /// Goes on with the records where those in the log end.
    generator: Mutex<Generator>,
}

impl Session {
    /// Starts the node and waits until it has read the log to its end.
    pub fn open(job: &Job) -> Session {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let partitions = job.place.ends.len();
        let embedded = job.place.brokers.is_none();
        let wanted = Wanted { credit: 64 << 20, prefetch: node::PREFETCH.bytes, batch: 8 << 20, embedded, partitions };
        let split = split(MEMORY, wanted);
        let options =
            StoreOptions { block_cache: split.block_cache, memtables: split.memtables, ..StoreOptions::default() };
        let store = Store::open(&job.data, options).expect("a store");
        let flow = FlowOptions {
            placement: Placement::Shared,
            shards_per_partition: 2,
            batch: Limit { records: 16_384, bytes: split.batch(wanted) },
            credit_records: 262_144,
            credit_bytes: split.credit,
            fold_time_limit: Duration::from_secs(1),
            own_shard_limit: 1024,
            residency: split.residency,
            prefetch: Prefetch { bytes: split.prefetch },
        };
        let replay = ReplayOptions { memory: split.replay, ..ReplayOptions::default() };
        let plan = node::plan(&job.place.topic, job.place.open(job.fsync.into()), store, flow, replay);
        let running = runtime.block_on(segno::actors::start(plan)).unwrap_or_else(|error| panic!("{error}"));
        node::catch_up(&running, &job.place);
        let generator = Generator::going_on(&job.workload, job.place.records(), load(&job.accounts));
        let client = Client {
            handle: runtime.handle().clone(),
            node: running.node.clone(),
            topic: job.place.topic.clone(),
            generator: Mutex::new(generator),
        };
        Session { runtime, running, client }
    }

    /// Compares every row with what the records make of it, and stops the node.
    pub fn close(self, job: &Job, mut answer: Answer) -> Answer {
        answer.peak = status("VmHWM:");
        let Session { runtime, running, client } = self;
        let want = client.generator().totals();
        answer.ends = client.applied(want.records);
        let seen = client.block_on(node::totals(&*client.node));
        assert!(seen == want, "WRONG RESULT: {seen:?}, it must be {want:?}");
        store(&job.accounts, &client.generator().accounts);
        let report = runtime.block_on(running.stop(Duration::from_secs(60)));
        assert!(report.clean(), "{report:?}");
        runtime.shutdown_timeout(Duration::from_secs(10));
        answer
    }
}

impl Client {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().expect("nobody panics with it")
    }

    /// Waits for an answer, on a thread that is none of the node's.
    pub fn block_on<T>(&self, answer: impl Future<Output = T>) -> T {
        self.handle.block_on(answer)
    }

    /// The next record, and the key that it is of. Whoever takes it appends it.
    pub fn record(&self) -> (Vec<u8>, NewRecord) {
        let made = self.generator().next();
        let key = made.key.into_bytes();
        let (value, timestamp) = (Some(made.value), Some(made.timestamp));
        (key.clone(), NewRecord { partition: None, key: Some(key), value, timestamp, headers: Vec::new() })
    }

    /// Appends it, and answers the token under which it can be read.
    pub async fn append(&self, record: NewRecord) -> PositionVector {
        let receipt = self.node.append(&self.topic, vec![record]).await;
        receipt.unwrap_or_else(|error| panic!("{error}")).token
    }

    /// Replays, and answers the job when it has cut over, and how long that took. What a replay with unchanged
    /// definitions has made must be what live has.
    pub fn replay(&self, from: &str, base: BaseChoice) -> (JobStatus, Duration) {
        let request = ReplayRequest { from: from.to_owned(), base, ..ReplayRequest::default() };
        let begun = Instant::now();
        let started = self.block_on(self.node.start_replay(request));
        let id = started.unwrap_or_else(|error| panic!("{error}")).id;
        loop {
            let job = self.node.replay(Some(id)).unwrap_or_else(|error| panic!("{error}"));
            if job.phase.ended() {
                let identical = job.verification.as_ref().is_some_and(|verification| verification.identical);
                assert!(job.phase == Phase::Done && identical, "{job:#?}");
                return (job, begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The positions of live once it has applied so many records: each record takes one.
    fn applied(&self, records: u64) -> Vec<u64> {
        let begun = Instant::now();
        loop {
            let status = self.node.status();
            let ends: Vec<u64> = status.topics[0].partitions.iter().map(|partition| partition.applied.0).collect();
            if ends.iter().sum::<u64>() >= records {
                return ends;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "live does not catch up: {ends:?} of {records}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Writes the accounts down for the next child.
pub fn store(path: &Path, accounts: &[Account]) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    serde_json::to_writer(&mut file, accounts).expect("written");
    file.flush().expect("written");
}

fn load(path: &Path) -> Vec<Account> {
    serde_json::from_reader(BufReader::new(File::open(path).expect("the accounts"))).expect("the accounts")
}
