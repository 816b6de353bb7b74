//! What can go wrong with a log, whose fault it is, and whether trying again can help.

pub use crate::fault::Fault;
use crate::position::{Position, TopicPartition};

/// One variant for each situation that an operator can tell apart.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("topic `{topic}` does not exist in the {log} log")]
    TopicMissing { log: &'static str, topic: String },
    #[error("topic `{topic}`: {reason}")]
    Topic { topic: String, reason: String },
    #[error("{at} does not exist")]
    PartitionMissing { at: TopicPartition },
    #[error("{at}: position {position} is outside the log, which holds {start}..{end}")]
    OutOfRange { at: TopicPartition, position: Position, start: Position, end: Position },
    #[error("cannot reach the Kafka brokers at {brokers}: {reason}")]
    Unreachable { brokers: String, reason: String },
    #[error("the Kafka brokers at {brokers} refused the credentials: {reason}")]
    Authentication { brokers: String, reason: String },
    #[error("not allowed to use {resource}: {reason}")]
    Authorization { resource: String, reason: String },
    #[error("kafka property `{property}`: {reason}")]
    Property { property: String, reason: String },
    #[error("the record is too large for the log: {bytes} bytes, at most {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("the append to {at} failed: {reason}")]
    Append { at: String, reason: String },
    #[error("the log's storage failed: {reason}")]
    Storage { reason: String },
    #[error("the log at {path} is in use by another process")]
    InUse { path: String },
    #[error("the log's format is version {found}, and this program knows up to {known}: use the newer program")]
    Newer { found: u32, known: u32 },
    #[error("the log is closed")]
    Closed,
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub fn fault(&self) -> Fault {
        match self {
            Error::TopicMissing { .. }
            | Error::Topic { .. }
            | Error::PartitionMissing { .. }
            | Error::OutOfRange { .. }
            | Error::Authentication { .. }
            | Error::Authorization { .. }
            | Error::Property { .. }
            | Error::TooLarge { .. }
            | Error::InUse { .. }
            | Error::Newer { .. } => Fault::User,
            Error::Unreachable { .. } | Error::Append { .. } | Error::Storage { .. } => Fault::Environment,
            Error::Closed | Error::Other(_) => Fault::Internal,
        }
    }

    /// Whether the same call can succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Append { .. })
    }
}
