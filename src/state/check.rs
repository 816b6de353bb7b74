//! Whether the log is still the one that the state was folded from (law *Refuse*).

use crate::position::{Position, TopicPartition};
use crate::state::delta::Fingerprint;
use crate::state::error::Error;
use crate::state::generation::Generation;
use crate::state::meta::{Identity, Progress};

/// What the log says of a partition, to be compared with what the store remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFacts {
    pub cluster: String,
    /// Partitions of the topic.
    pub partitions: u32,
    /// The first position that retention has left.
    pub start: Position,
    /// The position after the last readable record.
    pub end: Position,
    /// Of the record just before the generation's position, as the log has it now; `None` when it cannot be read,
    /// because retention or compaction took it or because there is a gap.
    pub fingerprint_at: Option<Fingerprint>,
}

impl Generation {
    /// Refuses, with the numbers and the way out, a log from which the generation cannot go on correctly.
    ///
    /// A generation that has seen nothing is held to the same rule: it stands at position 0, and a log that begins
    /// later has lost records that it would have folded.
    pub fn check_log(&self, log: &LogFacts) -> Result<(), Error> {
        same_log(self.identity(), &log.cluster, log.partitions)?;
        let progress = self.written().progress;
        same_records(self.at(), progress, log)
    }
}

/// The topic is in the same cluster and has as many partitions as before.
pub(super) fn same_log(stored: &Identity, cluster: &str, partitions: u32) -> Result<(), Error> {
    let at = stored.at.clone();
    if stored.cluster != cluster {
        return Err(Error::ClusterChanged { at, stored: stored.cluster.clone(), found: cluster.to_owned() });
    }
    if stored.partitions != partitions {
        return Err(Error::PartitionCountChanged { at, stored: stored.partitions, found: partitions });
    }
    Ok(())
}

/// The position lies within the log, and the record before it is the one that was applied.
fn same_records(at: &TopicPartition, Progress { position, last }: Progress, log: &LogFacts) -> Result<(), Error> {
    let at = at.clone();
    if log.end < position {
        return Err(Error::LogBehind { at, position, end: log.end });
    }
    if log.start > position && position == Position::ZERO {
        return Err(Error::BeginningGone { at, start: log.start });
    }
    if log.start > position {
        return Err(Error::RetentionPassed { at, position, start: log.start });
    }
    match (last, log.fingerprint_at) {
        (Some(stored), Some(found)) if stored != found => Err(Error::RecordChanged { at, stored, found }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Offset, Timestamp};

    const LAST: Fingerprint = Fingerprint { offset: Offset(9), timestamp: Timestamp(1_000), hash: 7 };

    fn check(change: impl FnOnce(&mut LogFacts)) -> Result<(), Error> {
        let at = TopicPartition::new("t", 0);
        let mut log = LogFacts {
            cluster: "c".into(),
            partitions: 4,
            start: Position(2),
            end: Position(20),
            fingerprint_at: Some(LAST),
        };
        change(&mut log);
        let stored = Identity { at: at.clone(), cluster: "c".into(), partitions: 4 };
        same_log(&stored, &log.cluster, log.partitions)?;
        same_records(&at, Progress { position: Position(10), last: Some(LAST) }, &log)
    }

    #[test]
    fn refuse_nothing_when_all_is_well() {
        assert_eq!(check(|_| ()), Ok(()));
        assert_eq!(check(|log| log.fingerprint_at = None), Ok(()));
        assert_eq!(check(|log| (log.start, log.end) = (Position(10), Position(10))), Ok(()));
    }

    #[test]
    fn refuse_another_cluster() {
        let refused = check(|log| log.cluster = "d".into()).unwrap_err();
        assert!(matches!(&refused, Error::ClusterChanged { stored, found, .. } if stored == "c" && found == "d"));
    }

    #[test]
    fn refuse_another_partition_count() {
        let refused = check(|log| log.partitions = 5).unwrap_err();
        assert!(matches!(refused, Error::PartitionCountChanged { stored: 4, found: 5, .. }));
    }

    #[test]
    fn refuse_when_retention_has_passed() {
        let refused = check(|log| log.start = Position(13)).unwrap_err();
        assert!(matches!(refused, Error::RetentionPassed { position: Position(10), start: Position(13), .. }));
        assert!(refused.to_string().contains("removed 3 records"), "{refused}");
    }

    #[test]
    fn refuse_a_log_that_ends_before_the_position() {
        let refused = check(|log| log.end = Position(9)).unwrap_err();
        assert!(matches!(refused, Error::LogBehind { position: Position(10), end: Position(9), .. }));
    }

    #[test]
    fn refuse_another_record_in_the_same_place() {
        for found in [
            Fingerprint { hash: 8, ..LAST },
            Fingerprint { timestamp: Timestamp(1_001), ..LAST },
            Fingerprint { offset: Offset(8), ..LAST },
        ] {
            let refused = check(|log| log.fingerprint_at = Some(found)).unwrap_err();
            assert!(matches!(refused, Error::RecordChanged { stored: LAST, found: f, .. } if f == found));
        }
    }
}
