//! What a node is told to do, and what it says when it starts, fails and stops. Plain data; no actor in sight.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::actors::handle::{BoxFuture, Node};
use crate::actors::progress::VIEWS_MAX;
use crate::position::{Position, TopicPartition};
use crate::state::Reason;
use crate::state::Store;
use crate::streams::decode::DecodeOptions;
use crate::streams::{self, Fault, Limit, Log, Prefetch};
use crate::views::Definitions;

/// Everything that a node needs.
pub struct NodePlan {
    /// `node.name`, for status and logs.
    pub name: String,
    pub log: Arc<dyn Log>,
    pub store: Arc<Store>,
    pub topics: Vec<TopicPlan>,
    pub flow: FlowOptions,
    pub retry: RetryOptions,
    pub flush: FlushOptions,
    pub replay: ReplayOptions,
    pub snapshots: SnapshotOptions,
    pub audit: AuditOptions,
    /// Whether live consumes. When not, partitions are opened and served as they are, and replays can be run.
    pub consume: bool,
}

/// One topic, its decoder, its decisions and its views.
pub struct TopicPlan {
    pub name: String,
    pub decoder: DecodeOptions,
    pub policy: Policy,
    pub history: History,
    pub views: Definitions,
    /// Older versions of views in Rust, for what was made by them to run on.
    pub previous: Definitions,
}

/// How much of a topic's history a view must have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum History {
    /// All of it: a new view on a topic whose beginning retention has deleted is refused.
    #[default]
    Complete,
    /// What the log still holds when the view is first made: it is a fold of that, and says so by where it begins.
    Retained,
}

/// What happens to a record that does not become part of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Set it aside; later events of its aggregate queue behind it.
    Park,
    /// Set it aside alone.
    DeadLetter,
    /// Go on without it, and count it.
    Skip,
    /// Remove the aggregate's rows. Only for a null value.
    Delete,
    /// Stop the partition before it.
    Halt,
}

/// One decision a reason, as `[topics.policy]` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub null_key: Decision,
    pub null_value: Decision,
    pub key_too_large: Decision,
    pub undecodable: Decision,
    pub unknown_type: Decision,
    pub version_too_new: Decision,
    pub rejected: Decision,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            null_key: Decision::DeadLetter,
            null_value: Decision::DeadLetter,
            key_too_large: Decision::DeadLetter,
            undecodable: Decision::DeadLetter,
            unknown_type: Decision::DeadLetter,
            version_too_new: Decision::Park,
            rejected: Decision::Park,
        }
    }
}

impl Policy {
    /// The decision for `reason`. What has no policy of its own is parked: it may be applied once its cause is gone.
    pub fn decide(&self, reason: Reason) -> Decision {
        match reason {
            Reason::NullKey => self.null_key,
            Reason::NullValue => self.null_value,
            Reason::KeyTooLarge => self.key_too_large,
            Reason::Undecodable => self.undecodable,
            Reason::UnknownType => self.unknown_type,
            Reason::VersionTooNew => self.version_too_new,
            Reason::Rejected => self.rejected,
            Reason::Transient | Reason::Panicked | Reason::Overran | Reason::Behind | Reason::RowUnreadable => {
                Decision::Park
            }
        }
    }
}

/// How aggregates are laid out over shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// A few shards a partition, by the key's hash.
    #[default]
    Shared,
    /// Every active aggregate has its own shard.
    Own,
}

/// `[flow]`, and the parts of `memory.total` that the flow gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowOptions {
    pub placement: Placement,
    pub shards_per_partition: usize,
    /// The largest batch.
    pub batch: Limit,
    /// The records in flight, per partition.
    pub credit_records: usize,
    /// The bytes in flight, per partition.
    pub credit_bytes: usize,
    pub fold_time_limit: Duration,
    /// The most shards of one partition that serve a single aggregate.
    pub own_shard_limit: usize,
    /// Bytes of resident aggregates, for the whole node.
    pub residency: usize,
    /// What a log reads ahead, per partition.
    pub prefetch: Prefetch,
}

/// `[retry]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryOptions {
    /// How often an event is tried in all, the first time included.
    pub attempts: u32,
    pub initial: Duration,
    pub factor: f64,
    pub max: Duration,
}

/// When a generation's memtables go to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushOptions {
    pub interval: Duration,
    /// Bytes of one partition that are applied and not yet durable.
    pub size: usize,
}

/// What happens when the configuration has other definitions than those that made the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    /// Live goes on under the old ones until somebody asks for a replay.
    #[default]
    Wait,
    /// Live goes on under the old ones, and a replay into the new ones begins by itself.
    Replay,
}

/// `[replay]`, and the part of `memory.total` that replays get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayOptions {
    pub on_change: OnChange,
    /// How long the previous generations stay after a cut-over.
    pub keep: Duration,
    /// The lag of live above which the governor holds a replay back.
    pub live_lag: Duration,
    /// The most records of one partition that a replay folds before it makes them durable: what a crash may cost.
    pub epoch_records: usize,
    /// The longest that a replay folds before it makes its records durable.
    pub epoch_time: Duration,
    /// Bytes for all that a running replay reads ahead, keeps resident and has not committed, over all partitions. The
    /// block cache and the memtables are live's as well.
    pub memory: usize,
    /// At a switch: how long live may take to commit what it has in flight, and after that how long it may stand still
    /// for the rebuild's last records. What takes longer is given up, and live goes on as it was.
    pub patience: Duration,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        ReplayOptions {
            on_change: OnChange::Wait,
            keep: Duration::from_secs(24 * 3600),
            live_lag: Duration::from_secs(2),
            epoch_records: 1_000_000,
            epoch_time: Duration::from_secs(30),
            memory: 128 << 20,
            patience: Duration::from_secs(20),
        }
    }
}

/// `[snapshots]`: when they are taken and how long they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// One is taken of a topic after that many applied records; 0: however many.
    pub records: u64,
    /// One is taken of a topic that has applied something when the last one is that old; `None`: however old.
    pub interval: Option<Duration>,
    /// Younger ones are all kept, and so is the newest that is older.
    pub keep: Duration,
    /// Of the older ones, the newest of a day is kept, for that many days.
    pub keep_daily: usize,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        SnapshotOptions {
            records: 5_000_000,
            interval: Some(Duration::from_secs(3600)),
            keep: Duration::from_secs(26 * 3600),
            keep_daily: 7,
        }
    }
}

/// `[audit]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    /// Keys that are folded again and compared, in a minute; 0: none.
    pub keys_per_minute: u32,
}

impl Default for AuditOptions {
    fn default() -> Self {
        AuditOptions { keys_per_minute: 60 }
    }
}

/// A node that has started.
pub struct Running {
    pub node: Arc<dyn Node>,
    /// Becomes `Some` when the node cannot go on; the process should then stop.
    pub failed: watch::Receiver<Option<Fatal>>,
    stop: StopFn,
}

type StopFn = Box<dyn FnOnce(Duration) -> BoxFuture<'static, StopReport> + Send>;

impl Running {
    pub fn new(
        node: Arc<dyn Node>,
        failed: watch::Receiver<Option<Fatal>>,
        stop: impl FnOnce(Duration) -> BoxFuture<'static, StopReport> + Send + 'static,
    ) -> Self {
        Running { node, failed, stop: Box::new(stop) }
    }

    /// Stops reading, finishes or drops the batch in flight, flushes. Takes no longer than `within`.
    pub async fn stop(self, within: Duration) -> StopReport {
        (self.stop)(within).await
    }
}

/// How a stop went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopReport {
    /// The durable position of every partition that was running.
    pub durable: Vec<(TopicPartition, Position)>,
    /// What did not end as it should have; empty after a clean stop.
    pub problems: Vec<String>,
}

impl StopReport {
    pub fn clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Why a running node cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    pub at: Option<TopicPartition>,
    pub fault: Fault,
    pub reason: String,
    /// What the operator can do.
    pub next: String,
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        write!(f, "{}; {}", self.reason, self.next)
    }
}

/// Why a node did not start. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    #[error("topic `{topic}`: {source}")]
    Log { topic: String, source: streams::Error },
    #[error("{source}")]
    Store { at: TopicPartition, source: crate::state::Error },
    /// A cut-over switches all partitions of a topic at once, so that this never comes of running.
    #[error(
        "view `{view}` was folded by version {} ({:032x}) in {} and by version {} ({:032x}) in {}: no definition fits \
         both. Put the whole data directory back as it was, or fold the log again in a new data directory",
        one.1, one.2, one.0, other.1, other.2, other.0
    )]
    Mixed {
        view: String,
        /// The partition, the version that it has, and the fingerprint of its definition.
        one: (TopicPartition, u32, u128),
        other: (TopicPartition, u32, u128),
    },
    #[error(
        "topic `{topic}` has {views} views, and at most {} are possible. Leave some out, or give them to a second program \
         with a data directory of its own",
        VIEWS_MAX
    )]
    TooManyViews { topic: String, views: usize },
    #[error("the node did not start: {0}")]
    Actors(String),
}
