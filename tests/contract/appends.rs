//! What an append that fails has put in: nothing, or what its error says.

use segno::position::Position;
use segno::record::NewRecord;
use segno::streams::{Error, Fault};

use super::*;

/// Appends small records with `bad` among them, and looks that nothing of it is in any partition.
fn refused(subject: &dyn Subject, topic: &str, bad: NewRecord) -> Error {
    let log = subject.log();
    let before: Vec<_> = (0..2).map(|partition| end_of(&*log, &at(topic, partition))).collect();
    let good = |n: i64| record(n as u32 % 2, "good", format!("{n}"), T0 + n);
    let records = vec![good(0), good(1), good(2), bad, good(4)];
    let refused = log.append(topic, records).unwrap_err();
    let after: Vec<_> = (0..2).map(|partition| end_of(&*log, &at(topic, partition))).collect();
    assert_eq!(before, after, "records went in, though the append says that it failed: {refused}");
    assert_eq!(refused.fault(), Fault::User, "{refused}");
    assert!(!refused.retryable(), "{refused}");
    match refused {
        Error::Refused { index: 3, source } => *source,
        other => panic!("which record is not taken? {other}"),
    }
}

pub fn an_append_with_a_record_too_large_puts_nothing_in(subject: &dyn Subject) {
    let topic = subject.create_topic("too-large", 2);
    let large = NewRecord { value: Some(vec![b'x'; 3 << 20]), ..record(0, "large", "", T0) };
    let error = refused(subject, &topic, large);
    assert!(matches!(error, Error::TooLarge { bytes, max } if bytes > 3 << 20 && max < 3 << 20), "{error}");
    // It is the size of all of it that counts.
    let headers = (0..30).map(|n| (format!("{n}"), Some(vec![b'h'; 100 << 10]))).collect();
    let error = refused(subject, &topic, NewRecord { headers, ..record(1, "headers", "", T0) });
    assert!(matches!(error, Error::TooLarge { bytes, .. } if bytes > 30 * (100 << 10)), "{error}");
}

pub fn an_append_to_a_missing_partition_puts_nothing_in(subject: &dyn Subject) {
    let topic = subject.create_topic("no-partition", 2);
    let error = refused(subject, &topic, record(2, "astray", "", T0));
    assert!(matches!(&error, Error::PartitionMissing { at: found } if *found == at(&topic, 2)), "{error}");
}

pub fn after_a_refusal_the_good_records_go_in(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("refused", 1);
    log.append(&topic, vec![record(0, "a", "1", T0), record(7, "astray", "", T0)]).unwrap_err();
    let appended = append(&*log, &topic, &[record(0, "a", "1", T0), record(0, "b", "2", T0)]);
    let expected: Vec<_> = appended.into_iter().map(|(_, got)| got).collect();
    assert_eq!(read_all(subject, &at(&topic, 0), Position::ZERO), expected);
    assert_eq!(expected[0].offset, 0);
}
