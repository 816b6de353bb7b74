//! A node as the daemon runs it, on a log that is full, and what its rows are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use segno::actors::handle::Node;
use segno::actors::plan::{
    AuditOptions, FlowOptions, FlushOptions, History, NodePlan, Policy, ReplayOptions, RetryOptions, Running,
    SnapshotOptions, TopicPlan,
};
use segno::position::Position;
use segno::state::Store;
use segno::streams::decode::{DecodeOptions, Format};
use segno::streams::{Log, Prefetch};
use segno::views::{Definition, Definitions, RustView, View};

use crate::filling::Place;
use crate::workload::{Account, Totals};

/// What a log reads ahead, per partition: the default of `[kafka] prefetch`.
pub const PREFETCH: Prefetch = Prefetch { bytes: 8 << 20 };
/// A node that does not move for so long has failed.
const PATIENCE: Duration = Duration::from_secs(300);

pub fn definitions() -> Definitions {
    let definition: Arc<dyn Definition> = Arc::new(RustView::<Account>::new());
    Arc::from(vec![definition])
}

pub fn retry() -> RetryOptions {
    RetryOptions { attempts: 5, initial: Duration::from_millis(100), factor: 2.0, max: Duration::from_secs(10) }
}

pub fn decoding() -> DecodeOptions {
    DecodeOptions { format: Format::Json, max_key_bytes: 16 << 10 }
}

/// The daemon's defaults but for what is given.
pub fn plan(topic: &str, log: Arc<dyn Log>, store: Arc<Store>, flow: FlowOptions, replay: ReplayOptions) -> NodePlan {
    NodePlan {
        name: "benchmark".to_owned(),
        log,
        store,
        topics: vec![TopicPlan {
            name: topic.to_owned(),
            decoder: decoding(),
            policy: Policy::default(),
            history: History::default(),
            views: definitions(),
            previous: Arc::default(),
        }],
        flow,
        retry: retry(),
        flush: FlushOptions { interval: Duration::from_secs(10), size: 64 << 20 },
        replay,
        snapshots: SnapshotOptions::default(),
        audit: AuditOptions::default(),
        consume: true,
    }
}

/// Waits until everything in the log is applied.
pub fn catch_up(running: &Running, place: &Place) {
    let begun = Instant::now();
    while !applied(&*running.node, &place.ends) {
        if let Some(fatal) = &*running.failed.borrow() {
            panic!("{fatal}");
        }
        assert!(begun.elapsed() < PATIENCE, "the node does not catch up");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn applied(node: &dyn Node, ends: &[u64]) -> bool {
    let status = node.status();
    status.topics[0].partitions.iter().all(|p| p.applied >= Position(ends[p.partition.0 as usize]))
}

/// Reads every row back as a reader does, and how many records its books have.
pub async fn totals(node: &dyn Node) -> Totals {
    let books = node.status().topics[0].views[0].books;
    assert!(books.balanced() && books.consumed == books.applied, "{books:?}");
    let mut totals = Totals { records: books.applied as u64, ..Totals::default() };
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
