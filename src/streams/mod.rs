//! The log side: where records come from and go to. Knows no state and no actors.
//!
//! [`Log`] is the contract; `kafka`, `embedded` and `memory` keep it, and one suite (`tests/log_contract.rs`) holds
//! all three to it. Methods that ask the log something may block on the network or the disk and are called from
//! blocking threads; [`Reader::drain`] never waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::position::{Offset, PartitionId, Position, Timestamp, TopicPartition};
use crate::record::{NewRecord, RecordBatch};

pub mod decode;
pub mod embedded;
mod error;
pub mod kafka;
pub mod memory;
pub mod murmur2;

pub use error::{Error, Fault};

pub type Result<T> = std::result::Result<T, Error>;

/// What a log says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: String,
    /// Names the cluster (Kafka's cluster id, or the embedded log's own): a store remembers the one it was fed from.
    pub cluster: String,
    /// Partitions are numbered `0..partitions`.
    pub partitions: u32,
}

/// The ends of a partition as a `read_committed` reader sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first position that retention has left.
    pub start: Position,
    /// The position after the last readable record (Kafka: the last stable offset).
    pub end: Position,
}

/// What a look-up by time found in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLookup {
    /// The first record whose timestamp is at or after the one asked for: its position and its own timestamp.
    Found { position: Position, timestamp: Option<Timestamp> },
    /// No such record; the position is the partition's end, taken *before* the look-up.
    AtEnd { position: Position },
}

/// How much a partition holds between two positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Records that a reader would see; an upper bound unless `exact`.
    pub records: u64,
    /// Bytes of keys, values and headers; `None` when the log cannot tell, an estimate unless `exact`.
    pub bytes: Option<u64>,
    /// Both numbers were counted.
    pub exact: bool,
}

/// How much a reader hands over in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub records: usize,
    /// Bytes of keys, values and headers. The first record is always admitted, so that a large one cannot block.
    pub bytes: usize,
}

/// How much a log may read ahead of its readers, per partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    pub bytes: usize,
}

/// An append that the log has made durable as its durability policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub partition: PartitionId,
    pub offset: Offset,
}

/// What of a failed append is in the log. Records are named by their place in the append, from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WentIn {
    pub appended: Vec<(usize, Appended)>,
    /// Records that may be in: the log was writing them when it failed, or gave no answer.
    pub in_doubt: Vec<usize>,
}

impl WentIn {
    pub fn is_nothing(&self) -> bool {
        self.appended.is_empty() && self.in_doubt.is_empty()
    }
}

impl fmt::Display for WentIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WentIn { appended, in_doubt } = self;
        write!(f, "{} records of the append are in the log", appended.len())?;
        if !in_doubt.is_empty() {
            write!(f, ", and nobody knows of {} more", in_doubt.len())?;
        }
        Ok(())
    }
}

/// A partitioned, ordered, time-indexed sequence of records.
pub trait Log: Send + Sync + 'static {
    /// `kafka`, `embedded` or `memory`, for messages and metrics.
    fn kind(&self) -> &'static str;

    /// Asks for the topic's shape. [`Error::TopicMissing`] when there is none.
    fn topic(&self, topic: &str) -> Result<TopicInfo>;

    /// The partition's ends, asked of the log itself, never from a cache.
    fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks>;

    /// For each of `partitions`, the first position whose record is at or after `time`.
    fn positions_at(
        &self,
        topic: &str,
        partitions: &[PartitionId],
        time: Timestamp,
    ) -> Result<Vec<(PartitionId, TimeLookup)>>;

    /// How much lies at or above `from` and below `to`. What is outside the watermarks is not there and does not count.
    /// Costs at most a look at an index and a bounded read.
    fn volume(&self, at: &TopicPartition, from: Position, to: Position) -> Result<Volume>;

    /// Whether the log keeps only the newest record of each key, so that history is not complete. `None` when it will
    /// not tell, for want of a permission; a log line then says why.
    fn compacted(&self, topic: &str) -> Result<Option<bool>>;

    /// Opens one reader a partition. They are independent: one that is not drained holds back only itself, and its
    /// read-ahead stays within `prefetch`. A start outside the watermarks is [`Error::OutOfRange`], here or at the
    /// reader's first drain; a start at the end is fine and waits for what comes.
    fn readers(
        &self,
        topic: &str,
        starts: &[(PartitionId, Position)],
        prefetch: Prefetch,
    ) -> Result<Vec<Box<dyn Reader>>>;

    /// Appends in order (per partition) and returns once all are durable.
    ///
    /// All records are looked at before the first goes in: one that the log does not take is [`Error::Refused`], and
    /// nothing of the append is in the log. A failure after that is [`Error::Halfway`] when records are in or may be,
    /// and says which. After any other error nothing is.
    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Appended>>;

    /// Lets go of connections and files; readers that are still open end with [`Error::Closed`].
    fn close(&self, within: Duration);
}

/// Reads one partition forward.
pub trait Reader: Send {
    fn partition(&self) -> PartitionId;

    /// The next position to read. Moves over gaps: when the log has nothing readable left, this is its end.
    fn position(&self) -> Position;

    /// Moves what is ready into a batch that starts at [`Reader::position`], up to `limit`, without waiting. An empty
    /// batch says that nothing is ready; its end may still have moved over a gap.
    fn drain(&mut self, limit: Limit) -> Result<RecordBatch>;

    /// Is notified (with a stored permit) whenever something may have become ready after an empty drain.
    fn ready(&self) -> Arc<Notify>;

    /// The newest end of the partition that this reader has heard of; cheap, possibly a little old.
    fn end(&self) -> Position;
}
