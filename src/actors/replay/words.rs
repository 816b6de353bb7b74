//! What a replay is asked, what it plans, and how it is seen. Plain data, and the same JSON over HTTP and in the job's
//! record in the control store.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::position::{PartitionId, Position, PositionVector, Timestamp};

/// What somebody asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayRequest {
    /// A time or positions, as people write them (see `since`); read by the node, whose clock counts.
    pub from: String,
    /// Only these topics; empty: all of the node.
    pub topics: Vec<String>,
    pub base: BaseChoice,
    /// The most records a second, over all partitions; `None`: as fast as live allows.
    pub rate: Option<u64>,
    /// The share of rows, of those that live has, that may be added, removed or changed without a yes: `0.001` is 0.1 %.
    pub max_changed: Option<f64>,
    /// Cut over however much has changed. A replay whose definitions are those of live never needs it, and when its
    /// digests differ it does not help either.
    pub yes: bool,
    /// Topics whose log is compacted and are replayed all the same: what compaction took is missing from the new rows.
    pub compacted: Vec<String>,
}

/// What stands before the cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseChoice {
    /// The newest compatible snapshot at or before the cut; if there is none, the beginning of the log.
    #[default]
    Auto,
    /// The beginning of the log.
    Genesis,
    /// Nothing: as if history began at the cut.
    Empty,
    /// The snapshot of that number.
    Snapshot(u64),
}

/// What a partition's rebuild starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    Genesis,
    Empty,
    Snapshot {
        snapshot: u64,
        position: Position,
    },
    /// The previous generation itself, when it is brought back.
    Previous {
        generation: u64,
    },
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Base::Genesis => f.write_str("genesis"),
            Base::Empty => f.write_str("empty"),
            Base::Snapshot { snapshot, .. } => write!(f, "snapshot {snapshot}"),
            Base::Previous { generation } => write!(f, "generation {generation}"),
        }
    }
}

/// What a replay would do, or is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayPlan {
    pub request: ReplayRequest,
    /// The time that `from` means; `None` when it names positions.
    pub time: Option<Timestamp>,
    pub topics: Vec<TopicReplay>,
    /// Records to read: exact when every partition's count is.
    pub records: u64,
    /// Bytes of keys, values and headers to read; `None` where the log cannot tell.
    pub bytes: Option<u64>,
    /// `records` and `bytes` were counted and not estimated.
    pub exact: bool,
    /// At the rate of the last replay that ran freely, else of a trial that was made for this plan; `None` where neither
    /// can tell.
    pub seconds: Option<f64>,
    /// Bytes that the new generations are expected to take.
    pub disk_needed: u64,
    /// Bytes free where the data directory lies.
    pub disk_free: u64,
    /// What the operator should know before going on.
    pub warnings: Vec<String>,
}

impl ReplayPlan {
    /// How long reading takes at `rate` records a second, or at the request's cap if that is lower.
    pub fn seconds_at(&self, rate: f64) -> f64 {
        let cap = self.request.rate.map_or(f64::INFINITY, |cap| cap as f64);
        self.records as f64 / rate.min(cap)
    }
}

/// One topic of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicReplay {
    pub topic: String,
    pub views: Vec<ViewReplay>,
    pub partitions: Vec<PartitionReplay>,
    /// The log keeps only the newest record of a key: its history is not complete.
    pub compacted: bool,
}

impl TopicReplay {
    /// Every view has the definition that made live's rows: the two generations must come out the same.
    pub fn same_definitions(&self) -> bool {
        self.views.iter().all(|view| view.change == DefinitionChange::Same)
    }

    /// The cut as a token.
    pub fn cut(&self) -> PositionVector {
        let mut cut = PositionVector::new(self.topic.clone());
        for partition in &self.partitions {
            cut.raise(partition.partition, partition.cut);
        }
        cut
    }
}

/// One view of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewReplay {
    pub view: String,
    /// The version that live has; `None` when the view is new.
    pub live: Option<u32>,
    /// The version of the rebuild; `None` when the view goes.
    pub wanted: Option<u32>,
    pub change: DefinitionChange,
}

/// How a view's definition relates to the one that made live's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefinitionChange {
    Same,
    Changed,
    Added,
    Removed,
}

/// One partition of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionReplay {
    pub partition: PartitionId,
    /// The first position that retention has left.
    pub log_start: Position,
    /// The end of the log, asked before the look-up by time.
    pub log_end: Position,
    pub cut: Position,
    /// The timestamp of the record at the cut; `None` when the cut is the end, or was given as a position.
    pub cut_time: Option<Timestamp>,
    pub base: Base,
    /// Where reading begins.
    pub from: Position,
    /// The timestamp of the last record in the base.
    pub base_time: Option<Timestamp>,
    /// The generation that the base is a snapshot of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_generation: Option<u64>,
    /// Where live is.
    pub live: Position,
    /// The generation that is live. What was planned counts only as long as it is.
    #[serde(default)]
    pub live_generation: u64,
    pub records: u64,
    pub bytes: Option<u64>,
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The new generations are being made and filled.
    Building,
    /// They are compared with live, both at one position a partition.
    Verifying,
    /// Verified; waits for a yes, and keeps up with live meanwhile.
    Waiting,
    /// Live stands still for the switch.
    CuttingOver,
    /// The new generations are live.
    Done,
    /// Ended without a cut-over, for the reason given; `resume` tries again.
    Failed,
    /// Ended by an operator; nothing of it is left.
    Cancelled,
}

impl Phase {
    /// Nothing will happen any more unless somebody asks for it.
    pub fn ended(self) -> bool {
        matches!(self, Phase::Done | Phase::Failed | Phase::Cancelled)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Building => "building",
            Phase::Verifying => "verifying",
            Phase::Waiting => "waiting",
            Phase::CuttingOver => "cutting over",
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
        })
    }
}

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Somebody asked for a replay.
    Replay,
    /// The configuration changed, and says `on-change = "replay"`.
    Upgrade,
    /// The previous generations are brought back; `of` in the status is the job that is undone.
    Rollback,
}

/// A job at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    pub id: u64,
    pub kind: JobKind,
    /// The job that a rollback undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    pub phase: Phase,
    /// Why the phase is what it is, and what can be done, where that needs words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub plan: ReplayPlan,
    pub created: Timestamp,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    pub topics: Vec<TopicProgress>,
    /// Records a second, over all partitions, in the last seconds.
    pub rate: f64,
    /// Until the target that was frozen at the start, at that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<f64>,
    /// The rebuild does not gain on the input: it would never catch up like this.
    pub losing: bool,
    /// Live's lag while the job runs; the governor holds the job back when it grows.
    pub live_lag_records: Option<u64>,
    pub live_lag_seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Somebody said yes to the cut-over, or the request did.
    pub approved: bool,
}

/// How far a job is in one topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicProgress {
    pub topic: String,
    pub partitions: Vec<PartitionProgress>,
    /// Positions that are done of `total`, up to the targets that were frozen at the start.
    pub done: u64,
    pub total: u64,
}

/// How far a job is in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionProgress {
    pub partition: PartitionId,
    /// The number of the new generation.
    pub generation: u64,
    pub from: Position,
    /// What is folded.
    pub position: Position,
    /// What would survive a crash.
    pub durable: Position,
    /// Live's position when the job began.
    pub target: Position,
}

/// The comparison of the new generations with live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// The positions at which both were compared, one token a topic.
    pub at: Vec<PositionVector>,
    pub views: Vec<ViewVerdict>,
    /// Every view of live came out the same, byte for byte.
    pub identical: bool,
    /// Rows added, removed or changed, of the rows that live has (or 1 where it has none and some were added).
    pub changed_share: f64,
}

/// What became of one view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewVerdict {
    pub topic: String,
    pub view: String,
    pub change: DefinitionChange,
    /// 32 hexadecimal digits each, summed over the partitions.
    pub live_digest: String,
    pub new_digest: String,
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Some of the rows that differ, in the order of partition and key; of equal definitions the first that do.
    pub samples: Vec<Difference>,
}

/// One row that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub partition: PartitionId,
    /// As text; bytes that are not are written as `\xNN`.
    pub key: String,
    /// `None`: not there.
    pub live: Option<Value>,
    pub new: Option<Value>,
    /// The fields that differ, when both are objects.
    pub fields: Vec<FieldDifference>,
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldDifference {
    pub field: String,
    pub live: Option<Value>,
    pub new: Option<Value>,
}

/// What an operator does to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobAction {
    /// Ends it, leaves live as it is, and frees the space.
    Cancel,
    /// Goes on with one that failed.
    Resume,
    /// Says yes to the cut-over.
    Approve,
}

/// Why a replay is not done. Nothing has been changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// The request itself is wrong.
    #[error("{0}")]
    Bad(String),
    /// A correct answer cannot be had; says which partition, which numbers, and what the options are.
    #[error("{0}")]
    Refused(String),
    /// Another job is not over.
    #[error("job {id} is {phase}: wait for it, or cancel it with `segno replay cancel {id}`")]
    Busy { id: u64, phase: Phase },
    #[error("there is no job {id}; `segno replay list` shows those that are known")]
    NoSuchJob { id: u64 },
    #[error("there is no job yet")]
    NoJob,
    /// The job is not where the action could be taken.
    #[error("{0}")]
    NotNow(String),
    #[error("there is no snapshot {id}; `segno snapshot list` shows those that are known")]
    NoSuchSnapshot { id: u64 },
    /// The log or the store failed.
    #[error("{0}")]
    Failed(String),
    #[error("the node is stopping")]
    Stopping,
}
