//! The node as an operator sees it: replays, snapshots, checks and time travel. Plain data and one trait; the HTTP API
//! and the CLI know nothing else of what is behind it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::handle::{BoxFuture, ReadError, Reading, Row};
use super::replay::words::{Difference, JobAction, JobStatus, ReplayError, ReplayPlan, ReplayRequest};
use crate::position::{Offset, PartitionId, Position, PositionVector, Timestamp};

/// What an operator may ask of a node.
pub trait Admin: Send + Sync {
    /// What a replay would do. Changes nothing.
    fn plan_replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<ReplayPlan, ReplayError>>;
    /// Starts a replay; it goes on by itself, whoever asked.
    fn start_replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<JobStatus, ReplayError>>;
    /// Every job that is known, the newest first.
    fn replays(&self) -> Vec<JobStatus>;
    /// One job; `None`: the newest.
    fn replay(&self, id: Option<u64>) -> Result<JobStatus, ReplayError>;
    /// Does something to a job; `None`: the newest. Answers how it stands once that is decided.
    fn act(&self, id: Option<u64>, action: JobAction) -> BoxFuture<'_, Result<JobStatus, ReplayError>>;
    /// Brings the previous generations back, caught up; `None`: those of the newest job that cut over.
    fn roll_back(&self, id: Option<u64>) -> BoxFuture<'_, Result<JobStatus, ReplayError>>;

    /// All snapshots, the newest first; a damaged one says why.
    fn snapshots(&self) -> BoxFuture<'_, Result<Vec<SnapshotInfo>, ReplayError>>;
    /// Takes a snapshot of each of the topics (empty: all).
    fn take_snapshot(&self, topics: Vec<String>) -> BoxFuture<'_, Result<Vec<SnapshotInfo>, ReplayError>>;
    /// Reads a snapshot through and compares it with its manifest.
    fn verify_snapshot(&self, id: u64) -> BoxFuture<'_, Result<SnapshotInfo, ReplayError>>;
    fn delete_snapshot(&self, id: u64) -> BoxFuture<'_, Result<(), ReplayError>>;

    /// Recomputes every live digest by reading all rows.
    fn verify(&self) -> BoxFuture<'_, Result<Vec<ViewCheck>, ReplayError>>;

    /// A row as of a time or position: the fold of the key from the nearest snapshot. `at` as `--from` of a replay.
    fn get_at(&self, view: &str, key: Vec<u8>, at: String) -> BoxFuture<'_, Result<AsOf, ReplayError>>;
    /// The records that made a row, with the state after each.
    fn explain(&self, question: Explain) -> BoxFuture<'_, Result<Explanation, ReplayError>>;
    /// What changed in a view between two times or positions.
    fn changes(&self, view: &str, from: String, to: String) -> BoxFuture<'_, Result<Changes, ReplayError>>;
    /// A row of the generation that a job is building, or of the previous one: nothing but for looking.
    fn peek(&self, view: &str, key: Vec<u8>, id: Option<u64>)
    -> BoxFuture<'_, Result<Reading<Option<Row>>, PeekError>>;
}

/// Why a job's generation has no answer: the job, or the read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PeekError {
    #[error(transparent)]
    Job(#[from] ReplayError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A snapshot: one number for all partitions of one topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    pub id: u64,
    pub topic: String,
    /// When it was taken.
    pub taken: Timestamp,
    /// Who or what took it: `records`, `time`, `cut-over`, `operator`.
    pub why: String,
    pub views: Vec<SnapshotView>,
    pub partitions: Vec<SnapshotPartition>,
    /// Bytes of its files; those that it shares with a generation or another snapshot take no room of their own.
    pub bytes: u64,
    /// Why it cannot be used, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

/// A view in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotView {
    pub view: String,
    pub version: u32,
    /// 32 hexadecimal digits: of the definition.
    pub fingerprint: String,
}

/// A partition of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPartition {
    pub partition: PartitionId,
    pub generation: u64,
    pub position: Position,
    /// Of the last record in it.
    pub last_time: Option<Timestamp>,
    pub rows: u64,
}

/// The result of recomputing one view of one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewCheck {
    pub topic: String,
    pub partition: PartitionId,
    pub view: String,
    pub position: Position,
    pub rows: u64,
    /// 32 hexadecimal digits: as kept with every commit, and as found by reading all rows.
    pub kept: String,
    pub found: String,
    pub ok: bool,
}

/// A row as it was.
#[derive(Clone, Debug)]
pub struct AsOf {
    pub row: Option<Row>,
    /// The cut that `at` meant.
    pub position: PositionVector,
    pub cost: Cost,
}

/// What an answer took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The base that the fold began with: `genesis` or `snapshot N`; `live` when the row has not changed since the cut.
    pub base: String,
    /// Records read from the log.
    pub records: u64,
}

/// A question for the history of one row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explain {
    pub view: String,
    pub key: Vec<u8>,
    /// Only what lies at or after this time or position.
    pub from: Option<String>,
    /// Only what lies before it.
    pub to: Option<String>,
    /// The most steps that are answered: the newest.
    pub limit: usize,
}

/// How a row came to be.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The row before the first step.
    pub before: Option<Box<RawValue>>,
    pub steps: Vec<Step>,
    /// Steps before those that are answered.
    pub left_out: u64,
    pub cost: Cost,
}

/// One record of a row's history.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub partition: PartitionId,
    pub offset: Offset,
    pub timestamp: Timestamp,
    /// `None` for a record of which no event can be made.
    pub event_type: Option<String>,
    pub event_id: Option<String>,
    /// `applied`, `ignored`, `skipped`, `parked`, `waiting`, `dead`, `removed`.
    pub outcome: String,
    /// Why it was not applied.
    pub detail: Option<String>,
    /// The row after it; `None` when there is none.
    pub state: Option<Box<RawValue>>,
}

/// What changed between two cuts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    pub view: String,
    pub from: PositionVector,
    pub to: PositionVector,
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// The rows that differ, `live` being the state at `from` and `new` the one at `to`; at most a thousand.
    pub rows: Vec<Difference>,
    pub cost: Cost,
}
