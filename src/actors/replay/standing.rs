//! Whether the log is still the one that live was folded from, and whether its history is complete.

use super::cut::{Cut, log_failed};
use super::plan::{LivePartition, PlanContext, TopicContext};
use super::words::{ReplayError, ReplayRequest};
use crate::actors::opening::look_back;
use crate::position::{Position, TopicPartition};
use crate::state::{self, Fingerprint, Identity};
use crate::streams::Log;

fn refused(why: &state::Error) -> ReplayError {
    ReplayError::Refused(why.to_string())
}

/// The topic is still the one that live was fed from, by its name tags.
pub(super) fn check_identity(topic: &TopicContext, cluster: &str, partitions: u32) -> Result<(), ReplayError> {
    for live in &topic.partitions {
        let Identity { at, cluster: stored, partitions: count } = live.identity.clone();
        if stored != cluster {
            return Err(refused(&state::Error::ClusterChanged { at, stored, found: cluster.to_owned() }));
        }
        if count != partitions {
            return Err(refused(&state::Error::PartitionCountChanged { at, stored: count, found: partitions }));
        }
    }
    if topic.partitions.len() != partitions as usize {
        let (name, open) = (&topic.name, topic.partitions.len());
        return Err(ReplayError::NotNow(format!(
            "topic `{name}` has {partitions} partitions, and {open} are open here"
        )));
    }
    Ok(())
}

/// Live could still go on from where it is: the topic may have been created anew while the node runs.
pub(super) fn check_live(log: &dyn Log, live: &LivePartition, cut: &Cut) -> Result<(), ReplayError> {
    check_records(log, &live.identity.at, (live.position, live.last), (cut.log_start, cut.log_end))
}

/// A generation that stands at `position`, after the record `last`, could go on from there in the log as it is now.
pub(super) fn check_records(
    log: &dyn Log,
    at: &TopicPartition,
    (position, last): (Position, Option<Fingerprint>),
    (start, end): (Position, Position),
) -> Result<(), ReplayError> {
    if end < position {
        return Err(refused(&state::Error::LogBehind { at: at.clone(), position, end }));
    }
    if position < start {
        return Err(refused(&state::Error::RetentionPassed { at: at.clone(), position, start }));
    }
    let Some(stored) = last else { return Ok(()) };
    match look_back(log, at, &stored, start, end).map_err(|source| log_failed(&at.topic, &source))? {
        Some(found) if found != stored => Err(refused(&state::Error::RecordChanged { at: at.clone(), stored, found })),
        _ => Ok(()),
    }
}

pub(super) fn check_compaction(
    context: &PlanContext<'_>,
    request: &ReplayRequest,
    topic: &str,
    warnings: &mut Vec<String>,
) -> Result<bool, ReplayError> {
    match context.log.compacted(topic).map_err(|source| log_failed(topic, &source))? {
        Some(false) => Ok(false),
        Some(true) if request.compacted.iter().any(|named| named == topic) => {
            warnings.push(format!("topic `{topic}` is compacted: what compaction took is missing from the new rows"));
            Ok(true)
        }
        Some(true) => Err(ReplayError::Refused(format!(
            "topic `{topic}` is compacted: the log keeps the newest record of a key and has lost older ones, so a replay \
             cannot come to the same rows. Options: `--compacted {topic}` replays what is left; leave it out \
             with `--topic`; set `cleanup.policy=delete` for the time to come"
        ))),
        None => {
            warnings.push(format!(
                "topic `{topic}`: the cluster does not tell whether it is compacted (is DescribeConfigs allowed?); it is \
                 taken as complete"
            ));
            Ok(false)
        }
    }
}
