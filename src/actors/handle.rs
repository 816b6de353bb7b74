//! The node as the faces see it: plain data and one trait. The HTTP API and the CLI know nothing else of the actors.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::replay::words::{Phase, ViewReplay};
use crate::position::{Offset, PartitionId, Position, PositionVector, Timestamp};
use crate::record::NewRecord;
use crate::state::Books;
use crate::streams::{self, Appended};

/// A future in a box, so that [`Node`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A running node.
pub trait Node: super::admin::Admin + Send + Sync + 'static {
    /// What every partition is doing, from values that are at hand; never waits.
    fn status(&self) -> Status;
    fn views(&self) -> Vec<ViewInfo>;
    /// The names of the topics that are processed.
    fn topics(&self) -> Vec<String>;
    /// One row. With a `bound` it waits until the bound is reached, and otherwise answers [`ReadError::Behind`].
    fn get(
        &self,
        view: &str,
        key: Vec<u8>,
        bound: Option<Bound>,
    ) -> BoxFuture<'_, Result<Reading<Option<Row>>, ReadError>>;
    /// A page of rows whose keys start with `prefix`, ordered by key within a partition, partition after partition.
    fn list(
        &self,
        view: &str,
        prefix: Vec<u8>,
        cursor: Option<String>,
        limit: usize,
        bound: Option<Bound>,
    ) -> BoxFuture<'_, Result<Reading<Page>, ReadError>>;
    /// Appends to a topic of the node and answers once all records are durable in the log.
    fn append(&self, topic: &str, records: Vec<NewRecord>) -> BoxFuture<'_, Result<Receipt, AppendError>>;
    /// The process can make progress; when not, it should be killed.
    fn live(&self) -> Health;
    /// Every partition runs and answers reads.
    fn ready(&self) -> Health;
    /// The start is over: every partition has been opened.
    fn started(&self) -> Health;
}

/// A reader's demand: positions that the answer must have reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub at_least: PositionVector,
    /// How long to wait for it.
    pub wait: Duration,
}

/// An answer and the positions that it was read at: everything below them is in it, nothing above them is.
#[derive(Clone, Debug)]
pub struct Reading<T> {
    pub value: T,
    pub position: PositionVector,
}

/// One row of a view.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: Vec<u8>,
    pub partition: PartitionId,
    /// Of the last event that was folded into the row.
    pub offset: Offset,
    /// Of the last event that was folded into the row.
    pub timestamp: Timestamp,
    pub json: Box<RawValue>,
}

/// Some rows, and where to go on.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Opaque; `None` when there are no more rows.
    pub next: Option<String>,
}

/// A view that can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewInfo {
    pub name: String,
    pub version: u32,
    pub topic: String,
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("there is no view `{name}`{}", known_views(known))]
    NoSuchView { name: String, known: Vec<String> },
    /// The bound was not reached in time. Both vectors, so that the reader sees how far off it is.
    #[error("behind: asked for {want}, at {have}")]
    Behind { have: PositionVector, want: PositionVector },
    #[error("the bound {want} is of topic `{}`, and the view is of topic `{topic}`", want.topic)]
    OtherTopic { want: PositionVector, topic: String },
    #[error("the bound names partition {partition}, and topic `{topic}` has {partitions} partitions")]
    NoSuchPartition { topic: String, partition: PartitionId, partitions: u32 },
    #[error("the cursor was not made by this view: {0}")]
    BadCursor(String),
    #[error("{what} is {found}, at most {max} are allowed")]
    TooLarge { what: &'static str, found: usize, max: usize },
    #[error("the store failed: {0}")]
    Store(String),
    #[error("the node is stopping")]
    Stopping,
}

fn known_views(known: &[String]) -> String {
    match known {
        [] => "; no view is defined".to_owned(),
        known => format!("; there are: {}", known.join(", ")),
    }
}

/// Where appended records are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// In the order of the records.
    pub appended: Vec<Appended>,
    /// Reaching it means having read all of them.
    pub token: PositionVector,
}

impl Receipt {
    /// The receipt of records that went to `topic`.
    pub fn of(topic: &str, appended: Vec<Appended>) -> Self {
        let mut token = PositionVector::new(topic);
        for record in &appended {
            token.raise(record.partition, record.offset.next());
        }
        Receipt { appended, token }
    }
}

/// Why an append did not go through.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("topic `{name}` is not processed here; there are: {}", known.join(", "))]
    NoSuchTopic { name: String, known: Vec<String> },
    #[error("the node is stopping")]
    Stopping,
    #[error(transparent)]
    Log(#[from] streams::Error),
}

/// The answer to a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub ok: bool,
    pub checks: Vec<Check>,
}

/// One thing that a probe looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub detail: String,
}

impl Health {
    /// Well when every check is.
    pub fn of(checks: Vec<Check>) -> Self {
        Health { ok: checks.iter().all(|check| check.ok), checks }
    }
}

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    Starting,
    Ready,
    Stopping,
    Failed,
    /// Only what is on disk was looked at: no daemon runs.
    Offline,
}

/// Where a partition is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionState {
    Starting,
    Running,
    Stopped,
    Failed,
    /// It can be read and does not move: the definitions that made its rows are not at hand.
    Frozen,
    /// Only what is on disk was looked at: no daemon runs.
    Offline,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NodeState::Starting => "starting",
            NodeState::Ready => "ready",
            NodeState::Stopping => "stopping",
            NodeState::Failed => "failed",
            NodeState::Offline => "offline",
        })
    }
}

impl fmt::Display for PartitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PartitionState::Starting => "starting",
            PartitionState::Running => "running",
            PartitionState::Stopped => "stopped",
            PartitionState::Failed => "failed",
            PartitionState::Frozen => "frozen",
            PartitionState::Offline => "offline",
        })
    }
}

/// A node at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `node.name`.
    pub node: String,
    /// The program's version.
    pub version: String,
    pub state: NodeState,
    /// Why the state is what it is, where that needs words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `kafka`, `embedded` or `memory`.
    pub log: String,
    /// Since the process started.
    pub uptime_seconds: f64,
    pub topics: Vec<TopicStatus>,
    /// The replay under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayBrief>,
}

/// A replay in one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayBrief {
    pub id: u64,
    pub phase: Phase,
    /// Of the positions that were there when it began; 1 when all are done.
    pub share: f64,
}

/// A topic at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicStatus {
    pub name: String,
    pub partitions: Vec<PartitionStatus>,
    /// Summed over the partitions.
    pub views: Vec<ViewStatus>,
    /// How the configuration's definitions differ from those that serve: what a replay would change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<ViewReplay>,
}

/// A partition at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    pub partition: PartitionId,
    pub state: PartitionState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What readers see.
    pub applied: Position,
    /// What survives a crash of the machine.
    pub durable: Position,
    /// `None` when the log has not told yet.
    pub log_end: Option<Position>,
    pub lag_records: Option<u64>,
    /// How old the oldest record is that has not been applied; 0 when there is none.
    pub lag_seconds: Option<f64>,
    /// Aggregates in memory.
    pub resident: u64,
    /// Records of the last batch.
    pub batch_records: u64,
    /// Records that are read and not yet committed: never more than the credits.
    pub in_flight: u64,
    /// Events that wait for their aggregate, summed over the views.
    pub waiting: u64,
    /// Events that wait for a decision, summed over the views.
    pub parked: u64,
    /// Records set aside for good, summed over the views.
    pub dead: u64,
    pub generation: u64,
}

/// A view at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewStatus {
    pub view: String,
    pub version: u32,
    pub rows: u64,
    /// 32 hexadecimal digits: the additive digest of all rows.
    pub digest: String,
    pub books: Books,
}
