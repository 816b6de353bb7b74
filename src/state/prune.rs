//! Which snapshots are no longer worth their space.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::position::{PositionVector, Timestamp};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Every snapshot that is not older, and the newest of those that are.
    pub keep: Duration,
    /// Of older ones the last of each day (UTC), for so many of the days that have any.
    pub daily: usize,
    /// No more than so many of a topic's snapshots that are not older than `keep`; where there are more, as after a
    /// first load that took one every few million records, those go that lie closest to another. At least 2.
    pub most: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Keep { keep: Duration::from_secs(26 * 60 * 60), daily: 7, most: 48 }
    }
}

/// Answers the numbers of the snapshots to delete, in the order given. Each comes with the time at which it was taken
/// and its positions; the topics are judged one by one. Snapshots that are damaged, or that no replay could start from,
/// are not to be among them: one that is kept may be the only one of its time.
///
/// For every time within the last `keep` for which there was a snapshot at or before it, there still is one. With a
/// clock that went back, a snapshot from the future counts as new.
pub fn prune(snapshots: &[(u64, Timestamp, PositionVector)], now: Timestamp, keep: &Keep) -> Vec<u64> {
    let mut topics: BTreeMap<&str, Vec<&(u64, Timestamp, PositionVector)>> = BTreeMap::new();
    for snapshot in snapshots {
        topics.entry(&snapshot.2.topic).or_default().push(snapshot);
    }
    let mut kept = BTreeSet::new();
    for mut topic in topics.into_values() {
        topic.sort_by_key(|(id, taken, _)| (*taken, *id));
        keep_of_topic(&topic, now, keep, &mut kept);
    }
    snapshots.iter().map(|(id, _, _)| *id).filter(|id| !kept.contains(id)).collect()
}

/// `topic`: its snapshots in the order in which they were taken.
fn keep_of_topic(topic: &[&(u64, Timestamp, PositionVector)], now: Timestamp, keep: &Keep, kept: &mut BTreeSet<u64>) {
    let span = i64::try_from(keep.keep.as_millis()).unwrap_or(i64::MAX);
    let bound = Timestamp(now.0.saturating_sub(span));
    let (old, recent) = topic.split_at(topic.partition_point(|(_, taken, _)| *taken <= bound));
    if let Some((id, _, _)) = old.last() {
        kept.insert(*id);
    }
    let mut days: BTreeMap<i64, u64> = BTreeMap::new();
    for (id, taken, _) in old {
        days.insert(taken.0.div_euclid(DAY_MS), *id);
    }
    kept.extend(days.into_values().rev().take(keep.daily));
    kept.extend(spread(recent, keep.most.max(2)));
}

/// Thins out to `most`: the first and the last stay, and again and again the one goes whose neighbours are the closest
/// to each other, in records and then in time. What a replay has to read behind its base stays short everywhere.
fn spread(recent: &[&(u64, Timestamp, PositionVector)], most: usize) -> Vec<u64> {
    let mut left: Vec<(u64, i64, u64)> = recent.iter().map(|(id, taken, at)| (*id, taken.0, records(at))).collect();
    while left.len() > most {
        let gap = |three: &[(u64, i64, u64)]| (three[2].2.abs_diff(three[0].2), three[2].1.abs_diff(three[0].1));
        let closest = left.windows(3).enumerate().min_by_key(|(_, three)| gap(three));
        let Some((before, _)) = closest else { break };
        left.remove(before + 1);
    }
    left.into_iter().map(|(id, _, _)| id).collect()
}

/// How far the positions are, all partitions together.
fn records(at: &PositionVector) -> u64 {
    at.positions.values().fold(0, |sum, position| sum.saturating_add(position.0))
}
