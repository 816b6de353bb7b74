//! A partition's counters, registered once, so that counting is an addition and no look-up.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::position::TopicPartition;
use crate::state::{Commit, HeldChange, Reason, Standing};
use crate::telemetry::names;

/// The counters of one partition.
pub struct Meter {
    records: Counter,
    bytes: Counter,
    batches: Counter,
    commits: Counter,
    commit_seconds: Histogram,
    restarts: Counter,
    /// One a [`Reason`], in the order of [`Reason::ALL`].
    held: Vec<Counter>,
}

impl Meter {
    pub fn new(at: &TopicPartition) -> Self {
        let labels = [("topic", at.topic.to_string()), ("partition", at.partition.to_string())];
        let held = |reason: Reason| counter!(names::HELD, "topic" => at.topic.to_string(), "reason" => reason.name());
        Meter {
            records: counter!(names::RECORDS, &labels),
            bytes: counter!(names::RECORD_BYTES, &labels),
            batches: counter!(names::BATCHES, &labels),
            commits: counter!(names::COMMITS, &labels),
            commit_seconds: histogram!(names::COMMIT_SECONDS, "topic" => at.topic.to_string()),
            restarts: counter!(names::RESTARTS, &labels),
            held: Reason::ALL.into_iter().map(held).collect(),
        }
    }

    /// A batch was taken from the log.
    pub fn batch(&self, records: usize, bytes: usize) {
        self.records.increment(records as u64);
        self.bytes.increment(bytes as u64);
        self.batches.increment(1);
    }

    /// A commit is in the store. A record counts once when it is set aside, whatever becomes of it later.
    pub fn commit(&self, commit: &Commit, took: Duration) {
        self.commits.increment(1);
        self.commit_seconds.record(took.as_secs_f64());
        for change in commit.deltas.iter().flat_map(|delta| &delta.held) {
            if let HeldChange::Put(held) = change
                && (held.attempts <= 1 || held.standing == Standing::Dead)
                && let Some(index) = Reason::ALL.iter().position(|reason| *reason == held.reason)
            {
                self.held[index].increment(1);
            }
        }
    }

    /// A shard was lost or given up, and another took its place.
    pub fn restart(&self) {
        self.restarts.increment(1);
    }
}
