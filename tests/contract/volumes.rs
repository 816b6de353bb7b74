//! How much lies between two positions, and whether history is complete.

use segno::position::Position;
use segno::streams::{Error, Volume};

use super::*;

/// What is said of `from..to` fits the records that are there.
fn check(subject: &dyn Subject, at: &TopicPartition, all: &[Got], from: u64, to: u64) {
    let inside = all.iter().filter(|got| got.offset >= from && got.offset < to);
    let (records, bytes) = inside.fold((0, 0), |(records, bytes), got| (records + 1, bytes + size(got)));
    let Volume { records: said, bytes: bytes_said, exact } =
        subject.log().volume(at, Position(from), Position(to)).unwrap();
    if exact {
        assert_eq!((said, bytes_said), (records, Some(bytes)), "{from}..{to}");
    } else {
        assert!(said >= records && said <= to.saturating_sub(from), "{from}..{to}: {said}, but there are {records}");
        let near = |said: u64| said.abs_diff(bytes) <= bytes / 2 + 64;
        assert!(bytes_said.is_none_or(near), "{from}..{to}: {bytes_said:?}, but there are {bytes}");
    }
}

fn size(got: &Got) -> u64 {
    let headers = got.headers.iter().map(|(name, value)| 8 + name.len() + value.as_ref().map_or(0, Vec::len));
    let body = got.key.as_ref().map_or(0, Vec::len) + got.value.as_ref().map_or(0, Vec::len);
    (body + headers.sum::<usize>()) as u64
}

pub fn volumes_are_what_is_there(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("volumes", 2);
    let at = at(&topic, 0);
    let mut records = numbered(0, 60);
    for (i, record) in records.iter_mut().enumerate() {
        record.headers = vec![("n".to_owned(), Some(vec![0; i % 3])), ("none".to_owned(), None)];
    }
    let mut all: Vec<Got> = append(&*log, &topic, &records).into_iter().map(|(_, got)| got).collect();
    append(&*log, &topic, &numbered(1, 7));
    for (from, to) in [(0, 60), (0, 1), (59, 60), (16, 48), (15, 33), (17, 31), (1, 59), (3, 9), (0, 16), (48, 60)] {
        check(subject, &at, &all, from, to);
    }
    let nothing = Volume { records: 0, bytes: Some(0), exact: true };
    for (from, to) in [(60, 60), (5, 5), (9, 4), (60, 99)] {
        assert_eq!(log.volume(&at, Position(from), Position(to)).unwrap(), nothing, "{from}..{to}");
    }
    // What is beyond the ends is not there.
    let whole = log.volume(&at, Position(0), Position(60)).unwrap();
    assert_eq!(log.volume(&at, Position(0), Position(1000)).unwrap().records, whole.records);
    if subject.gap(&at) {
        all.extend(append(&*log, &topic, &numbered(0, 5)).into_iter().map(|(_, got)| got));
        check(subject, &at, &all, 50, end_of(&*log, &at).0);
    }
    if subject.truncate(&at, Position(21)) {
        all.retain(|got| got.offset >= 21);
        let kept = log.volume(&at, Position(0), Position(60)).unwrap();
        assert_eq!(kept.records, 39);
        for (from, to) in [(21, 60), (21, 22), (25, 40)] {
            check(subject, &at, &all, from, to);
        }
        assert_eq!(log.volume(&at, Position(3), Position(20)).unwrap(), nothing);
    }
}

pub fn a_topic_is_not_compacted_unless_made_so(subject: &dyn Subject) {
    let topic = subject.create_topic("whole", 1);
    assert_eq!(subject.log().compacted(&topic).unwrap(), Some(false));
    if let Some(topic) = subject.create_compacted("newest-only") {
        assert_eq!(subject.log().compacted(&topic).unwrap(), Some(true));
    }
    let no_topic = |error: Error| assert!(matches!(error, Error::TopicMissing { .. }), "{error}");
    no_topic(subject.log().compacted("no-such-topic").unwrap_err());
    no_topic(subject.log().volume(&at("no-such-topic", 0), Position(0), Position(1)).unwrap_err());
    let beyond = subject.log().volume(&at(&topic, 1), Position(0), Position(1)).unwrap_err();
    assert!(matches!(beyond, Error::PartitionMissing { .. }), "{beyond}");
}
