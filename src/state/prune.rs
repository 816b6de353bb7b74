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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 60 * 60 * 1000;

    fn at(topic: &str, records: u64) -> PositionVector {
        format!("{topic}@0:{records}").parse().unwrap()
    }

    /// One snapshot of topic `t` for each time, in hours, and position.
    fn taken(list: &[(i64, u64)]) -> Vec<(u64, Timestamp, PositionVector)> {
        (1..).zip(list).map(|(id, (hour, records))| (id, Timestamp(hour * HOUR), at("t", *records))).collect()
    }

    fn keep(hours: u64, daily: usize, most: usize) -> Keep {
        Keep { keep: Duration::from_secs(hours * 60 * 60), daily, most }
    }

    fn gone(list: &[(i64, u64)], now: i64, keep: &Keep) -> Vec<i64> {
        let snapshots = taken(list);
        prune(&snapshots, Timestamp(now * HOUR), keep).iter().map(|id| list[*id as usize - 1].0).collect()
    }

    #[test]
    fn the_recent_ones_stay_and_the_newest_of_the_others() {
        let list: Vec<(i64, u64)> = (0..40).map(|hour| (hour, hour as u64)).collect();
        assert_eq!(gone(&list, 40, &keep(26, 0, 100)), (0..14).collect::<Vec<_>>());
    }

    #[test]
    fn of_older_days_the_last_one_stays() {
        let list: Vec<(i64, u64)> = (0..96).step_by(6).map(|hour| (hour, hour as u64)).collect();
        // Three days and 18 hours; the last 26 hours and the one before them stay anyway.
        let want: Vec<i64> = (0..66).step_by(6).filter(|hour| ![42, 66].contains(hour)).collect();
        assert_eq!(gone(&list, 96, &keep(26, 2, 100)), want);
    }

    #[test]
    fn of_very_many_an_even_spread_stays() {
        let list: Vec<(i64, u64)> = (0..1000).map(|n| (0, n * 5_000_000)).collect();
        let snapshots = taken(&list);
        let gone = prune(&snapshots, Timestamp(1), &keep(26, 7, 10));
        let left: Vec<u64> = snapshots.iter().map(|(id, _, _)| *id).filter(|id| !gone.contains(id)).collect();
        assert_eq!((left.len(), left[0], left[9]), (10, 1, 1000));
        assert!(left.windows(2).all(|two| two[1] - two[0] <= 250), "{left:?}");
    }

    #[test]
    fn topics_do_not_stand_in_for_each_other() {
        let snapshots = [(1, Timestamp(0), at("a", 1)), (2, Timestamp(1), at("b", 1)), (3, Timestamp(2), at("b", 2))];
        assert_eq!(prune(&snapshots, Timestamp(100 * HOUR), &keep(1, 0, 10)), [2]);
    }

    proptest! {
        #[test]
        fn a_time_that_had_a_snapshot_before_it_still_has_one(
            list in vec((0i64..60, 0u64..1000), 0..40), now in 0i64..80, hours in 0u64..40, daily in 0usize..4,
            most in 0usize..12, ago in 0i64..40,
        ) {
            let (snapshots, keep) = (taken(&list), keep(hours, daily, most));
            let gone = prune(&snapshots, Timestamp(now * HOUR), &keep);
            let time = Timestamp((now - ago.min(hours as i64)) * HOUR);
            let covered = |left: &dyn Fn(u64) -> bool| snapshots.iter().any(|(id, taken, _)| left(*id) && *taken <= time);
            prop_assert_eq!(covered(&|_| true), covered(&|id| !gone.contains(&id)));
        }

        #[test]
        fn what_is_left_is_bounded_and_stable(
            list in vec((0i64..60, 0u64..1000), 1..40), now in 0i64..80, hours in 0u64..40, daily in 0usize..4,
            most in 2usize..12,
        ) {
            let (snapshots, keep) = (taken(&list), keep(hours, daily, most));
            let now = Timestamp(now * HOUR);
            let gone = prune(&snapshots, now, &keep);
            let left: Vec<_> = snapshots.iter().filter(|(id, _, _)| !gone.contains(id)).cloned().collect();
            prop_assert!(left.len() <= most + daily + 1);
            // The newest always stays, and a second look takes nothing more away.
            let newest = snapshots.iter().max_by_key(|(id, taken, _)| (*taken, *id)).unwrap();
            prop_assert!(left.contains(newest));
            prop_assert_eq!(prune(&left, now, &keep), Vec::<u64>::new());
        }
    }
}
