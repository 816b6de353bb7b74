//! The ends of a partition, gaps, truncation, and what is not there.

use segno::position::Position;
use segno::streams::{Error, Watermarks};

use super::*;

pub fn an_empty_partition_waits_at_its_start(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("empty", 2);
    let at = at(&topic, 1);
    append(&*log, &topic, &numbered(0, 3));
    let zero = Position::ZERO;
    assert_eq!(log.watermarks(&at).unwrap(), Watermarks { start: zero, end: zero });
    let mut reader = open(&*log, &at, zero).unwrap();
    for _ in 0..3 {
        let batch = reader.drain(ALL).unwrap();
        assert!(batch.is_empty());
        assert_eq!((batch.end(), reader.position()), (zero, zero));
    }
    assert_eq!(reader.end(), zero);
    assert_eq!(reader.partition().0, 1);
}

pub fn watermarks_follow_appends(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("watermarks", 1);
    let at = at(&topic, 0);
    for total in 1..=4 {
        append(&*log, &topic, &numbered(0, 5));
        let expected = Watermarks { start: Position::ZERO, end: Position(5 * total) };
        assert_eq!(log.watermarks(&at).unwrap(), expected, "as soon as the append has returned");
    }
}

pub fn a_position_moves_over_gaps(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("gaps", 1);
    let at = at(&topic, 0);
    let mut expected = Vec::new();
    let mut reader = open(&*log, &at, Position::ZERO).unwrap();
    let mut live = Vec::new();
    for _ in 0..3 {
        expected.extend(append(&*log, &topic, &numbered(0, 4)).into_iter().map(|(_, got)| got));
        let before = end_of(&*log, &at);
        if !subject.gap(&at) {
            return;
        }
        let end = end_of(&*log, &at);
        assert!(end > before, "the gap uses up offsets");
        // A reader that is there all the time, and one that comes later, both get over the gap to the end.
        live.extend(read_until(&mut *reader, end, ALL, subject.patience()));
        assert_eq!(reader.position(), end);
        assert_eq!(live, expected);
        assert_eq!(read_all(subject, &at, Position::ZERO), expected);
        assert_eq!(read_all(subject, &at, before), [], "a start within a gap is a start");
    }
    expected.extend(append(&*log, &topic, &numbered(0, 2)).into_iter().map(|(_, got)| got));
    let one = Limit { records: 1, bytes: 1 << 20 };
    let mut slow = open(&*log, &at, Position::ZERO).unwrap();
    assert_eq!(read_until(&mut *slow, end_of(&*log, &at), one, subject.patience()), expected);
}

pub fn truncation_moves_the_start(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("truncate", 2);
    let at = at(&topic, 0);
    let mut expected: Vec<_> = append(&*log, &topic, &numbered(0, 20)).into_iter().map(|(_, got)| got).collect();
    append(&*log, &topic, &numbered(1, 5));
    if !subject.truncate(&at, Position(8)) {
        return;
    }
    expected.retain(|got| got.offset >= 8);
    assert_eq!(log.watermarks(&at).unwrap(), Watermarks { start: Position(8), end: Position(20) });
    assert_eq!(read_all(subject, &at, Position(8)), expected);
    match error_of(subject, &at, Position(7)) {
        Error::OutOfRange { at: found, position, start, .. } => {
            assert_eq!((found, position, start), (at.clone(), Position(7), Position(8)));
        }
        e => panic!("not out of range: {e}"),
    }
    assert!(subject.truncate(&at, Position(20)), "everything can go");
    assert_eq!(log.watermarks(&at).unwrap(), Watermarks { start: Position(20), end: Position(20) });
    let after = append(&*log, &topic, &numbered(0, 1)).remove(0).1;
    assert_eq!(after.offset, 20, "offsets are never given twice");
    assert_eq!(read_all(subject, &at, Position(20)), [after]);
    assert_eq!(read_all(subject, &super::at(&topic, 1), Position::ZERO).len(), 5, "the other partition keeps all");
}

pub fn a_start_out_of_range_is_refused(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("range", 1);
    let at = at(&topic, 0);
    append(&*log, &topic, &numbered(0, 5));
    match error_of(subject, &at, Position(6)) {
        Error::OutOfRange { at: found, position, start, end } => {
            assert_eq!((found, position, start, end), (at.clone(), Position(6), Position(0), Position(5)));
        }
        e => panic!("not out of range: {e}"),
    }
    assert_eq!(read_all(subject, &at, Position(5)), [], "the end itself is fine");
}

pub fn what_is_missing_is_named(subject: &dyn Subject) {
    let log = subject.log();
    let no_topic = |error: Error| match error {
        Error::TopicMissing { topic, .. } => assert_eq!(topic, "no-such-topic"),
        e => panic!("not a missing topic: {e}"),
    };
    let ghost = at("no-such-topic", 0);
    no_topic(log.topic("no-such-topic").unwrap_err());
    no_topic(log.watermarks(&ghost).unwrap_err());
    no_topic(log.append("no-such-topic", numbered(0, 1)).unwrap_err());
    no_topic(log.positions_at("no-such-topic", &[PartitionId(0)], time(T0)).unwrap_err());
    no_topic(error_of(subject, &ghost, Position::ZERO));

    let topic = subject.create_topic("missing", 2);
    let ghost = at(&topic, 2);
    let no_partition = |error: Error| match error.cause() {
        Error::PartitionMissing { at } => assert_eq!(*at, ghost),
        e => panic!("not a missing partition: {e}"),
    };
    no_partition(log.watermarks(&ghost).unwrap_err());
    no_partition(log.append(&topic, numbered(2, 1)).unwrap_err());
    no_partition(log.positions_at(&topic, &[PartitionId(2)], time(T0)).unwrap_err());
    no_partition(error_of(subject, &ghost, Position::ZERO));
}
