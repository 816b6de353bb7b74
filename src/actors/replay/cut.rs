//! Which position "since when" is, in each partition of a topic.
//!
//! A cut is a position, never a filter: everything at or above it is folded again, late records too, and nothing below
//! it. For a time it is the position of the first record, in offset order, whose timestamp is at or after it; where
//! there is none, the partition's end, taken before the look-up, so that what is appended meanwhile lies above the cut.

use std::collections::BTreeMap;

use super::since::Since;
use super::words::ReplayError;
use crate::position::{PartitionId, Position, PositionVector, Timestamp, TopicPartition};
use crate::streams::{self, Log, TimeLookup, Watermarks};

/// The cut of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub partition: PartitionId,
    /// The first position that retention has left.
    pub log_start: Position,
    /// The end of the log, asked before the look-up.
    pub log_end: Position,
    pub cut: Position,
    /// The timestamp of the record at the cut; `None` when the cut is the end, or was not asked for by time.
    pub time: Option<Timestamp>,
    /// Set when retention may have taken the record that the cut should be at.
    pub gap: Option<Gap>,
}

/// The time asked for is older than the oldest record that retention has left. Only what is known of the removed records
/// from elsewhere, such as from a snapshot, can tell whether the first one at or after the time was among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub asked: Timestamp,
    /// The timestamp of the first record that is left and has one; `None` when nothing is left.
    pub oldest: Option<Timestamp>,
}

/// The cuts of `topic`, which has `partitions` partitions, in their order. Blocks; asks the log.
///
/// [`ReplayError::Bad`] for a token that does not fit the topic, [`ReplayError::Refused`] for a time or a position that
/// has no answer. A [`Gap`] is for the caller to judge.
pub fn resolve(
    log: &dyn Log,
    topic: &str,
    partitions: u32,
    since: &Since,
    now: Timestamp,
) -> Result<Vec<Cut>, ReplayError> {
    let token = match since {
        Since::Time(time) if *time > now => return Err(in_the_future(*time, now)),
        Since::Positions(vectors) => Some(token_of(vectors, topic, partitions)?),
        Since::Time(_) | Since::Beginning => None,
    };
    let failed = |source: streams::Error| log_failed(topic, &source);
    let mut ends = Vec::with_capacity(partitions as usize);
    for partition in 0..partitions {
        let at = TopicPartition::new(topic, partition);
        ends.push((at.partition, log.watermarks(&at).map_err(failed)?));
    }
    match (since, token) {
        (Since::Time(time), _) => by_time(log, topic, *time, &ends),
        (_, Some(token)) => by_token(token, &ends),
        (_, None) => Ok(ends.into_iter().map(|(partition, ends)| plain(partition, ends, ends.start)).collect()),
    }
}

/// The log did not answer.
pub(super) fn log_failed(topic: &str, source: &streams::Error) -> ReplayError {
    ReplayError::Failed(format!("topic `{topic}`: {source}"))
}

fn in_the_future(time: Timestamp, now: Timestamp) -> ReplayError {
    ReplayError::Refused(format!("{time} is in the future, now is {now}: name a time that has been"))
}

fn plain(partition: PartitionId, ends: Watermarks, cut: Position) -> Cut {
    Cut { partition, log_start: ends.start, log_end: ends.end, cut, time: None, gap: None }
}

fn by_time(
    log: &dyn Log,
    topic: &str,
    asked: Timestamp,
    ends: &[(PartitionId, Watermarks)],
) -> Result<Vec<Cut>, ReplayError> {
    // Below zero lies only "no timestamp", which is at or after no time.
    let time = asked.max(Timestamp(0));
    let look_up = |partitions: &[PartitionId], time| -> Result<BTreeMap<PartitionId, TimeLookup>, ReplayError> {
        let found = log.positions_at(topic, partitions, time).map_err(|source| log_failed(topic, &source))?;
        Ok(found.into_iter().collect())
    };
    let all: Vec<PartitionId> = ends.iter().map(|(partition, _)| *partition).collect();
    let found = look_up(&all, time)?;
    // Where the answer may be for want of records or of timestamps, the oldest timestamp tells.
    let doubtful = |(partition, ends): &&(PartitionId, Watermarks)| {
        let none = matches!(found.get(partition), Some(TimeLookup::AtEnd { .. }));
        ends.start < ends.end && (none || ends.start > Position::ZERO)
    };
    let doubtful: Vec<PartitionId> = ends.iter().filter(doubtful).map(|(partition, _)| *partition).collect();
    let oldest =
        if time == Timestamp(0) || doubtful.is_empty() { found.clone() } else { look_up(&doubtful, Timestamp(0))? };
    let cut = |(partition, ends): &(PartitionId, Watermarks)| {
        let at = TopicPartition::new(topic, partition.0);
        let Some(lookup) = found.get(partition) else {
            return Err(ReplayError::Failed(format!("{at}: the log's look-up by time does not name it")));
        };
        let answer = Answer { at, asked, ends: *ends, lookup: *lookup, oldest: oldest.get(partition).copied() };
        answer.cut(log)
    };
    ends.iter().map(cut).collect()
}

/// What the log says of one partition.
struct Answer {
    at: TopicPartition,
    asked: Timestamp,
    ends: Watermarks,
    lookup: TimeLookup,
    /// Of the first record with a timestamp; asked for where it matters.
    oldest: Option<TimeLookup>,
}

impl Answer {
    fn cut(&self, log: &dyn Log) -> Result<Cut, ReplayError> {
        let (partition, asked) = (self.at.partition, self.asked);
        let Watermarks { start, end } = self.ends;
        match self.lookup {
            TimeLookup::Found { position, timestamp: None } => Err(ReplayError::Refused(format!(
                "{}: the log answers position {position} for {asked}, but the record there has no timestamp: {}",
                self.at,
                self.other_ways()
            ))),
            TimeLookup::Found { position, timestamp } if position < end => {
                let first = matches!(self.oldest, Some(TimeLookup::Found { position: first, .. }) if first >= position);
                let older = timestamp.is_some_and(|found| asked < found);
                let gap = (start > Position::ZERO && first && older).then_some(Gap { asked, oldest: timestamp });
                Ok(Cut { time: timestamp, gap, ..plain(partition, self.ends, position.max(start)) })
            }
            // Nothing, or something that was appended after the end was taken: it lies above the cut either way.
            _ if start == end => {
                let gap = (start > Position::ZERO).then_some(Gap { asked, oldest: None });
                Ok(Cut { gap, ..plain(partition, self.ends, end) })
            }
            _ => {
                self.has_timestamps(log)?;
                Ok(plain(partition, self.ends, end))
            }
        }
    }

    /// Refuses a partition in which no record has a timestamp: that none is late enough then means nothing.
    fn has_timestamps(&self, log: &dyn Log) -> Result<(), ReplayError> {
        if matches!(self.oldest, Some(TimeLookup::Found { timestamp: Some(_), .. })) {
            return Ok(());
        }
        let Watermarks { start, end } = self.ends;
        let volume = log.volume(&self.at, start, end).map_err(|source| log_failed(&self.at.topic, &source))?;
        if volume.exact && volume.records == 0 {
            return Ok(());
        }
        Err(ReplayError::Refused(format!(
            "{}: none of the records in {start}..{end} has a timestamp, so there is no position for {}: {}",
            self.at,
            self.asked,
            self.other_ways()
        )))
    }

    fn other_ways(&self) -> String {
        let TopicPartition { topic, partition } = &self.at;
        format!("name positions (`--from @{topic}@{partition}:{},…`) or `--from beginning`", self.ends.start)
    }
}

/// The token of this topic, which must name each of its partitions and no other.
fn token_of<'a>(
    vectors: &'a [PositionVector],
    topic: &str,
    partitions: u32,
) -> Result<&'a PositionVector, ReplayError> {
    let Some(vector) = vectors.iter().find(|vector| vector.topic == topic) else {
        let named: Vec<_> = vectors.iter().map(|vector| format!("`{}`", vector.topic)).collect();
        let named = named.join(", ");
        return Err(ReplayError::Bad(format!("`--from` has positions of {named}, and none of topic `{topic}`")));
    };
    match vector.positions.keys().find(|partition| partition.0 >= partitions) {
        None => Ok(vector),
        Some(unknown) => Err(ReplayError::Bad(format!(
            "`{vector}` names partition {unknown}, but topic `{topic}` has {partitions}, numbered from 0"
        ))),
    }
}

fn by_token(token: &PositionVector, ends: &[(PartitionId, Watermarks)]) -> Result<Vec<Cut>, ReplayError> {
    let missing: Vec<_> = ends.iter().filter(|(partition, _)| !token.positions.contains_key(partition)).collect();
    if !missing.is_empty() {
        let mut whole = token.clone();
        missing.iter().for_each(|(partition, ends)| whole.raise(*partition, ends.end));
        let missing: Vec<_> = missing.iter().map(|(partition, _)| partition.to_string()).collect();
        return Err(ReplayError::Bad(format!(
            "`{token}` names no position for partition {} of topic `{}`: with `@{whole}`, nothing but what is new would be \
             folded again there",
            missing.join(", "),
            token.topic
        )));
    }
    let cut = |(partition, ends): &(PartitionId, Watermarks)| {
        let position = token.positions.get(partition).copied().unwrap_or(ends.end);
        if position < ends.start || position > ends.end {
            let at = TopicPartition::new(token.topic.as_str(), partition.0);
            let Watermarks { start, end } = ends;
            return Err(ReplayError::Refused(format!(
                "{at}: position {position} is outside the log, which holds {start}..{end}: name a position from {start} \
                 to {end}"
            )));
        }
        Ok(plain(*partition, *ends, position))
    };
    ends.iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::memory::Memory;

    /// What no log here can be made to say on request: Kafka says it of records in the oldest formats, and of records
    /// that are appended during the look-up.
    fn answer(lookup: TimeLookup) -> Result<Cut, ReplayError> {
        let at = TopicPartition::new("t", 3);
        let ends = Watermarks { start: Position(2), end: Position(9) };
        let oldest = Some(TimeLookup::Found { position: Position(2), timestamp: Some(Timestamp(5)) });
        Answer { at, asked: Timestamp(1000), ends, lookup, oldest }.cut(&Memory::new())
    }

    #[test]
    fn refuse_a_record_that_is_found_without_a_timestamp() {
        let refused = answer(TimeLookup::Found { position: Position(4), timestamp: None }).unwrap_err();
        let why = "t/3: the log answers position 4 for 1970-01-01T00:00:01.000Z, but the record there has no timestamp: \
                   name positions (`--from @t@3:2,…`) or `--from beginning`";
        assert_eq!(refused, ReplayError::Refused(why.to_owned()));
    }

    #[test]
    fn what_is_appended_during_the_look_up_lies_above_the_cut() {
        let timestamp = Some(Timestamp(2000));
        for lookup in [
            TimeLookup::Found { position: Position(9), timestamp },
            TimeLookup::Found { position: Position(30), timestamp },
            TimeLookup::AtEnd { position: Position(12) },
        ] {
            let cut = answer(lookup).unwrap();
            assert_eq!((cut.cut, cut.time, cut.gap), (Position(9), None, None));
        }
    }
}
