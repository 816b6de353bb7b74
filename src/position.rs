//! Where a record is, and where a reader stands: the numbers of a log as types.
//!
//! An [`Offset`] names one record; a [`Position`] is the next record to read. The only bridge between them is
//! [`Offset::next`], so that an off-by-one cannot be written by accident.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// A partition's number within its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of one record within its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The position of a reader that has just read this record.
    pub const fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of the next record to read: everything below it has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The beginning of a log that has lost nothing to retention.
    pub const ZERO: Position = Position(0);

    /// How many offsets lie between `self` and `end`; 0 when `end` is not ahead. Gaps count.
    pub const fn lag_to(self, end: Position) -> u64 {
        end.0.saturating_sub(self.0)
    }

    /// True when a reader at this position has read the record at `offset`.
    pub const fn is_past(self, offset: Offset) -> bool {
        offset.0 < self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, as Kafka stores them; may be negative or absurd, for the log decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// What Kafka returns for a record that carries no timestamp.
    pub const NONE: Timestamp = Timestamp(-1);

    /// RFC 3339 in UTC with milliseconds, or nothing when the number is beyond the calendar (the years 1 to 9999).
    pub fn to_rfc3339(self) -> Option<String> {
        Some(format!("{:.3}", Moment::from_millis(self.0)?))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_rfc3339() {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} ms", self.0),
        }
    }
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: PartitionId,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        TopicPartition { topic: topic.into(), partition: PartitionId(partition) }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A position in each of several partitions of one topic.
///
/// Its text form, the *position token*, is `topic@partition:position,…`, for example `bank.accounts@0:17,3:4`: it is
/// what `append` answers and what a reader hands in to say "at least this".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionVector {
    pub topic: String,
    pub positions: BTreeMap<PartitionId, Position>,
}

impl PositionVector {
    pub fn new(topic: impl Into<String>) -> Self {
        PositionVector { topic: topic.into(), positions: BTreeMap::new() }
    }

    /// Raises the entry of `partition` to `position`; never lowers it.
    pub fn raise(&mut self, partition: PartitionId, position: Position) {
        let entry = self.positions.entry(partition).or_insert(position);
        *entry = (*entry).max(position);
    }

    /// True when every position named in `bound` is reached here. A partition that `bound` does not name is free.
    pub fn reaches(&self, bound: &PositionVector) -> bool {
        bound.positions.iter().all(|(p, want)| self.positions.get(p).is_some_and(|have| have >= want))
    }
}

impl fmt::Display for PositionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.topic)?;
        for (i, (partition, position)) in self.positions.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{partition}:{position}")?;
        }
        Ok(())
    }
}

/// Why a text is not a position token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a position token: {why} (expected topic@partition:position,…, such as bank.accounts@0:17,3:4)"
)]
pub struct BadToken {
    pub text: String,
    pub why: &'static str,
}

impl FromStr for PositionVector {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let bad = |why| BadToken { text: text.to_owned(), why };
        let (topic, rest) = text.rsplit_once('@').ok_or_else(|| bad("there is no `@`"))?;
        if topic.is_empty() {
            return Err(bad("the topic is empty"));
        }
        let mut vector = PositionVector::new(topic);
        for part in rest.split(',').filter(|part| !part.is_empty()) {
            let (partition, position) = part.split_once(':').ok_or_else(|| bad("an entry has no `:`"))?;
            let partition = partition.parse().map_err(|_| bad("a partition is not a number"))?;
            let position = position.parse().map_err(|_| bad("a position is not a number"))?;
            if vector.positions.insert(PartitionId(partition), Position(position)).is_some() {
                return Err(bad("a partition is named twice"));
            }
        }
        Ok(vector)
    }
}

impl Serialize for PositionVector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PositionVector {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_round_trip() {
        let mut vector = PositionVector::new("bank.accounts");
        vector.raise(PartitionId(3), Position(4));
        vector.raise(PartitionId(0), Position(17));
        vector.raise(PartitionId(0), Position(9));
        assert_eq!(vector.to_string(), "bank.accounts@0:17,3:4");
        assert_eq!(vector.to_string().parse::<PositionVector>().unwrap(), vector);
    }

    #[test]
    fn a_timestamp_has_a_text_in_every_year_of_the_calendar() {
        for (millis, text) in [
            (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(Timestamp(millis).to_rfc3339().as_deref(), Some(text));
        }
        assert_eq!(Timestamp(253_402_300_800_000).to_string(), "253402300800000 ms");
    }

    #[test]
    fn a_bad_token_is_named() {
        for text in ["", "x", "@0:1", "t@0", "t@a:1", "t@0:-1", "t@0:1,0:2"] {
            assert!(text.parse::<PositionVector>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_vector_reaches_only_what_it_has_read() {
        let have: PositionVector = "t@0:5,1:2".parse().unwrap();
        assert!(have.reaches(&"t@0:5".parse().unwrap()));
        assert!(!have.reaches(&"t@0:6".parse().unwrap()));
        assert!(!have.reaches(&"t@2:0".parse().unwrap()));
    }
}
