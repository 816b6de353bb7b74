//! Segno as a node runs it: the actors, the store, the log, in both placements.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use segno::actors::aggregate::{Aggregate, Outcome};
use segno::actors::handle::Node;
use segno::actors::plan::{
    AuditOptions, FlowOptions, FlushOptions, History, NodePlan, Placement, Policy, ReplayOptions, RetryOptions,
    SnapshotOptions, TopicPlan,
};
use segno::actors::residents::{Residents, key_hash};
use segno::event::{Event, EventMeta};
use segno::position::{Offset, PartitionId, Position, Timestamp};
use segno::state::{Store, StoreOptions};
use segno::streams::decode::{DecodeOptions, Format};
use segno::streams::kafka::{Kafka, KafkaOptions};
use segno::streams::{Limit, Log, Prefetch};
use segno::views::{Definition, RustView, View};

use crate::arguments::{Job, Logs};
use crate::filling;
use crate::measure::{Measured, Watch, status};
use crate::workload::{Account, Totals, key};

/// What a log reads ahead, per partition: the default of `[kafka] prefetch`.
pub const PREFETCH: Prefetch = Prefetch { bytes: 8 << 20 };

pub fn log(job: &Job) -> Arc<dyn Log> {
    if job.stage.log() == Some(Logs::Embedded) {
        return Arc::new(filling::open(&job.embedded));
    }
    let brokers = job.brokers.clone().expect("a broker");
    Arc::new(Kafka::connect(KafkaOptions { brokers, ..KafkaOptions::default() }).expect("a client"))
}

fn plan(job: &Job, log: Arc<dyn Log>) -> NodePlan {
    let definition: Arc<dyn Definition> = Arc::new(RustView::<Account>::new());
    NodePlan {
        name: "throughput".to_owned(),
        log,
        store: Store::open(job.data(), StoreOptions::default()).expect("a store"),
        topics: vec![TopicPlan {
            name: job.topic.clone(),
            decoder: DecodeOptions { format: Format::Json, max_key_bytes: 16 << 10 },
            policy: Policy::default(),
            history: History::default(),
            views: Arc::from(vec![definition]),
            previous: Arc::default(),
        }],
        flow: FlowOptions {
            placement: if job.stage.own() { Placement::Own } else { Placement::Shared },
            shards_per_partition: job.shards,
            batch: Limit { records: job.batch_records, bytes: 8 << 20 },
            credit_records: job.credit_records,
            credit_bytes: job.credit_bytes as usize,
            fold_time_limit: Duration::from_secs(1),
            own_shard_limit: 1024,
            residency: job.residency as usize,
            prefetch: PREFETCH,
        },
        retry: RetryOptions {
            attempts: 5,
            initial: Duration::from_millis(100),
            factor: 2.0,
            max: Duration::from_secs(10),
        },
        flush: FlushOptions { interval: Duration::from_secs(10), size: 64 << 20 },
        replay: ReplayOptions::default(),
        snapshots: SnapshotOptions::default(),
        audit: AuditOptions::default(),
        consume: true,
    }
}

/// From nothing to everything committed and visible; opening the store and connecting count.
pub fn run(job: &Job) -> Measured {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let watch = Watch::start();
    let plan = plan(job, log(job));
    let running = runtime.block_on(segno::actors::start(plan)).unwrap_or_else(|error| panic!("{error}"));
    while !applied(&*running.node, &job.ends) {
        if let Some(fatal) = &*running.failed.borrow() {
            panic!("{fatal}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut measured = watch.stop();
    let status = running.node.status();
    measured.resident = status.topics[0].partitions.iter().map(|partition| partition.resident).sum();
    measured.totals = runtime.block_on(rows(&*running.node));
    let books = status.topics[0].views[0].books;
    assert!(books.balanced() && books.consumed == books.applied, "{books:?}");
    measured.totals.records = books.applied as u64;
    let report = runtime.block_on(running.stop(Duration::from_secs(60)));
    assert!(report.clean(), "{report:?}");
    runtime.shutdown_timeout(Duration::from_secs(10));
    measured
}

fn applied(node: &dyn Node, ends: &[u64]) -> bool {
    let status = node.status();
    status.topics[0].partitions.iter().all(|p| p.applied >= Position(ends[p.partition.0 as usize]))
}

/// Reads every row back as a reader does.
async fn rows(node: &dyn Node) -> Totals {
    let mut totals = Totals::default();
    let mut cursor = None;
    loop {
        let page = node.list(Account::NAME, Vec::new(), cursor, 1000, None).await.expect("a page").value;
        for row in &page.rows {
            totals.row(&row.key, &serde_json::from_str(row.json.get()).expect("an account"));
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return totals,
        }
    }
}

/// The log alone, through the same reader, partition after partition.
pub fn read(job: &Job) -> Measured {
    let watch = Watch::start();
    let log = log(job);
    let starts: Vec<_> = (0..job.ends.len()).map(|id| (PartitionId(id as u32), Position::ZERO)).collect();
    let mut readers = log.readers(&job.topic, &starts, PREFETCH).expect("readers");
    let mut totals = Totals::default();
    while totals.records < job.records() {
        for reader in &mut readers {
            let batch = reader.drain(Limit { records: job.batch_records, bytes: 8 << 20 }).expect("a batch");
            totals.records += batch.len() as u64;
        }
    }
    Measured { totals, ..watch.stop() }
}

/// What one aggregate costs in memory, with nothing else around it: the table of a shard, filled.
pub fn resident(job: &Job) -> Measured {
    let definition = RustView::<Account>::new();
    let payload = br#"{"amount":12345}"#;
    let mut shard = Residents::default();
    let before = status("VmRSS:");
    let watch = Watch::start();
    for number in 0..job.keys {
        let key = key(number);
        let mut aggregate = Aggregate::new(key_hash(key.as_bytes()), key.as_bytes(), 1);
        let meta = EventMeta {
            topic: &job.topic,
            partition: PartitionId(0),
            offset: Offset(number),
            record_timestamp: Timestamp(0),
            key: key.as_bytes(),
            event_id: None,
            event_type: Cow::Borrowed("MoneyDeposited"),
            event_version: 1,
            timestamp: Timestamp(0),
            correlation_id: None,
            causation_id: None,
            user_id: None,
        };
        let outcome = aggregate.slots[0].fold(&definition, &Event { meta, payload });
        assert_eq!(outcome, Outcome::Folded);
        shard.insert(aggregate);
    }
    let measured = watch.stop();
    let totals = Totals { records: job.keys, ..Totals::default() };
    Measured { totals, resident: shard.len() as u64, rss: measured.rss - before, ..measured }
}
