//! Which position a timestamp means: the smallest offset whose timestamp is at or after it, as Kafka has it.

use segno::position::{Position, Timestamp};
use segno::streams::TimeLookup;

use super::*;

pub fn look_up(log: &dyn Log, at: &TopicPartition, ms: i64) -> TimeLookup {
    let found = log.positions_at(&at.topic, &[at.partition], time(ms)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, at.partition);
    found[0].1
}

pub fn found(position: u64, ms: i64) -> TimeLookup {
    TimeLookup::Found { position: Position(position), timestamp: Some(Timestamp(ms)) }
}

pub fn at_end(position: u64) -> TimeLookup {
    TimeLookup::AtEnd { position: Position(position) }
}

/// A partition whose records have these times after [`T0`].
fn with_times(subject: &dyn Subject, stem: &str, times: &[i64]) -> TopicPartition {
    let topic = subject.create_topic(stem, 1);
    let records: Vec<_> = times.iter().map(|t| record(0, "k", format!("at {t}"), T0 + t)).collect();
    append(&*subject.log(), &topic, &records);
    at(&topic, 0)
}

pub fn the_first_record_at_or_after_a_time(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("times", 3);
    append(&*log, &topic, &[record(0, "k", "v", T0 + 10), record(0, "k", "v", T0 + 20), record(2, "k", "v", T0 + 15)]);
    let at_ = at(&topic, 0);
    assert_eq!(look_up(&*log, &at_, T0 + 10), found(0, T0 + 10));
    assert_eq!(look_up(&*log, &at_, T0 + 11), found(1, T0 + 20));
    assert_eq!(look_up(&*log, &at_, T0 + 20), found(1, T0 + 20));
    // Several partitions in one question, in any order.
    let ids = [2, 0, 1].map(PartitionId);
    let mut answers = log.positions_at(&topic, &ids, time(T0 + 12)).unwrap();
    answers.sort_by_key(|(id, _)| *id);
    let expected = [(0, found(1, T0 + 20)), (1, at_end(0)), (2, found(0, T0 + 15))];
    assert_eq!(answers, expected.map(|(id, lookup)| (PartitionId(id), lookup)));
    assert_eq!(log.positions_at(&topic, &[], time(T0)).unwrap(), []);
}

pub fn times_out_of_order(subject: &dyn Subject) {
    let at = with_times(subject, "disorder", &[50, 10, 30, 90, 20, 90, 5, 100]);
    let log = subject.log();
    for (asked, position, its) in
        [(0, 0, 50), (50, 0, 50), (51, 3, 90), (90, 3, 90), (91, 7, 100), (100, 7, 100), (20, 0, 50)]
    {
        assert_eq!(look_up(&*log, &at, T0 + asked), found(position, T0 + its), "{asked}");
    }
}

pub fn equal_times(subject: &dyn Subject) {
    let at = with_times(subject, "equal", &[7, 7, 7, 8, 8]);
    let log = subject.log();
    assert_eq!(look_up(&*log, &at, T0 + 7), found(0, T0 + 7));
    assert_eq!(look_up(&*log, &at, T0 + 8), found(3, T0 + 8));
}

pub fn before_and_after_everything(subject: &dyn Subject) {
    let at = with_times(subject, "outside", &[100, 200]);
    let log = subject.log();
    assert_eq!(look_up(&*log, &at, 0), found(0, T0 + 100));
    assert_eq!(look_up(&*log, &at, T0 + 201), at_end(2));
    assert_eq!(look_up(&*log, &at, YEAR_2200), at_end(2));
    // The end that the look-up gave is a place to read on from.
    let mut reader = open(&*log, &at, Position(2)).unwrap();
    let next = append(&*log, &at.topic, &[record(0, "k", "later", T0 + 300)]).remove(0).1;
    assert_eq!(read_until(&mut *reader, Position(3), ALL, subject.patience()), [next]);
    assert_eq!(look_up(&*log, &at, T0 + 201), found(2, T0 + 300));
}

pub fn an_empty_partition_has_only_an_end(subject: &dyn Subject) {
    let at = with_times(subject, "empty-times", &[]);
    assert_eq!(look_up(&*subject.log(), &at, T0), at_end(0));
}

pub fn times_after_truncation(subject: &dyn Subject) {
    let at = with_times(subject, "cut-times", &[10, 1000, 20, 30, 40]);
    let log = subject.log();
    assert_eq!(look_up(&*log, &at, T0 + 25), found(1, T0 + 1000));
    if subject.truncate(&at, Position(2)) {
        assert_eq!(look_up(&*log, &at, T0 + 25), found(3, T0 + 30), "what is gone does not count");
        assert_eq!(look_up(&*log, &at, T0), found(2, T0 + 20));
        assert_eq!(look_up(&*log, &at, T0 + 500), at_end(5));
    }
}
