//! Segno as a node runs it: the actors, the store, the log, in both placements.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use segno::actors::aggregate::{Aggregate, Outcome};
use segno::actors::plan::{FlowOptions, NodePlan, Placement, ReplayOptions};
use segno::actors::residents::{Residents, key_hash};
use segno::event::{Event, EventMeta};
use segno::position::{Offset, PartitionId, Position, Timestamp};
use segno::state::{Store, StoreOptions};
use segno::streams::embedded::Fsync;
use segno::streams::{Limit, Log};
use segno::views::RustView;

use crate::arguments::Job;
use crate::figures::status;
use crate::measure::{Measured, Watch};
use crate::node::{self, PREFETCH};
use crate::workload::{Account, Totals, key};

/// The log. The fsync of appends is not measured.
pub fn log(job: &Job) -> Arc<dyn Log> {
    job.place.open(Fsync::Never)
}

fn plan(job: &Job, log: Arc<dyn Log>) -> NodePlan {
    let store = Store::open(job.data(), StoreOptions::default()).expect("a store");
    let flow = FlowOptions {
        placement: if job.stage.own() { Placement::Own } else { Placement::Shared },
        shards_per_partition: job.shards,
        batch: Limit { records: job.batch_records, bytes: 8 << 20 },
        credit_records: job.credit_records,
        credit_bytes: job.credit_bytes as usize,
        fold_time_limit: Duration::from_secs(1),
        own_shard_limit: 1024,
        residency: job.residency as usize,
        prefetch: PREFETCH,
    };
    node::plan(&job.place.topic, log, store, flow, ReplayOptions::default())
}

/// From nothing to everything committed and visible; opening the store and connecting count.
pub fn run(job: &Job) -> Measured {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let watch = Watch::start();
    let plan = plan(job, log(job));
    let running = runtime.block_on(segno::actors::start(plan)).unwrap_or_else(|error| panic!("{error}"));
    node::catch_up(&running, &job.place);
    let mut measured = watch.stop();
    let status = running.node.status();
    measured.resident = status.topics[0].partitions.iter().map(|partition| partition.resident).sum();
    measured.totals = runtime.block_on(node::totals(&*running.node));
    let report = runtime.block_on(running.stop(Duration::from_secs(60)));
    assert!(report.clean(), "{report:?}");
    runtime.shutdown_timeout(Duration::from_secs(10));
    measured
}

/// The log alone, through the same reader, partition after partition.
pub fn read(job: &Job) -> Measured {
    let watch = Watch::start();
    let log = log(job);
    let starts: Vec<_> = (0..job.place.ends.len()).map(|id| (PartitionId(id as u32), Position::ZERO)).collect();
    let mut readers = log.readers(&job.place.topic, &starts, PREFETCH).expect("readers");
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
            topic: &job.place.topic,
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
