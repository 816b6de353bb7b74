//! A decoded record: what a fold sees. Borrowed from the record's batch, so that decoding copies only what it must.

use std::borrow::Cow;

use crate::position::{Offset, PartitionId, Timestamp};

/// Everything about an event but its payload.
#[derive(Clone, Debug)]
pub struct EventMeta<'a> {
    pub topic: &'a str,
    pub partition: PartitionId,
    pub offset: Offset,
    /// The record's timestamp in the log; the replay clock.
    pub record_timestamp: Timestamp,
    /// The record's key: the aggregate's name.
    pub key: &'a [u8],
    pub event_id: Option<Cow<'a, str>>,
    pub event_type: Cow<'a, str>,
    /// 1 when the envelope names none.
    pub event_version: u32,
    /// The event's own time; the record's where the envelope has none.
    pub timestamp: Timestamp,
    pub correlation_id: Option<Cow<'a, str>>,
    pub causation_id: Option<Cow<'a, str>>,
    pub user_id: Option<Cow<'a, str>>,
}

/// An event: its envelope and the JSON text of its payload, which each view decodes for itself.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    pub meta: EventMeta<'a>,
    /// Valid JSON (checked for syntax by the envelope's decoder), `null` where the envelope has no payload.
    pub payload: &'a [u8],
}

/// Why no event can be made of a record. Each has its policy in `[topics.policy]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    #[error("the record has no key")]
    NullKey,
    #[error("the record has no value (a tombstone)")]
    NullValue,
    #[error("the key is {bytes} bytes long, at most {max} are allowed")]
    KeyTooLarge { bytes: usize, max: usize },
    #[error("the value is not an event: {reason}")]
    Malformed { reason: String },
}
