//! What can go wrong with a log, whose fault it is, and whether trying again can help.

use super::WentIn;
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
    #[error("the log does not take the timestamp {timestamp}: {reason}")]
    Timestamp { timestamp: i64, reason: &'static str },
    /// A record of an append that the log does not take. All records were looked at before the first one went in, so
    /// nothing of the append is in the log.
    #[error("record {index} of the append, counted from 0: {source}")]
    Refused { index: usize, source: Box<Error> },
    /// An append that failed when records were in the log, or may have been.
    #[error("{source}; {went_in}")]
    Halfway { went_in: WentIn, source: Box<Error> },
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
    /// An append that failed for `source` after `went_in` of it. Without a record that may be in, it is only `source`.
    pub fn halfway(source: Error, went_in: WentIn) -> Error {
        if went_in.is_nothing() { source } else { Error::Halfway { went_in, source: Box::new(source) } }
    }

    /// What went wrong, without how far an append came before it.
    pub fn cause(&self) -> &Error {
        match self {
            Error::Refused { source, .. } | Error::Halfway { source, .. } => source.cause(),
            other => other,
        }
    }

    pub fn fault(&self) -> Fault {
        match self.cause() {
            Error::TopicMissing { .. }
            | Error::Topic { .. }
            | Error::PartitionMissing { .. }
            | Error::OutOfRange { .. }
            | Error::Authentication { .. }
            | Error::Authorization { .. }
            | Error::Property { .. }
            | Error::TooLarge { .. }
            | Error::Timestamp { .. }
            | Error::InUse { .. }
            | Error::Newer { .. } => Fault::User,
            Error::Unreachable { .. } | Error::Append { .. } | Error::Storage { .. } => Fault::Environment,
            // The last two are never a cause.
            Error::Closed | Error::Other(_) | Error::Refused { .. } | Error::Halfway { .. } => Fault::Internal,
        }
    }

    /// Whether the same call can succeed later without anybody changing anything. (Of an append that came halfway, what
    /// went in goes in again.)
    pub fn retryable(&self) -> bool {
        matches!(self.cause(), Error::Unreachable { .. } | Error::Append { .. })
    }
}
