//! What every log keeps, as functions over a [`Subject`]. `contract::suite!(name, subject)` makes a test of each.
//!
//! A subject is made anew for each test; it may share a broker with others, but topics are its own. Waits are bounded
//! by the subject's patience, and every wait goes through `Reader::ready`, so a log that forgets to wake fails.

#![allow(dead_code)] // Each test file that includes the suite uses a part of it.

use std::sync::Arc;
use std::time::Duration;

use segno::position::{Offset, PartitionId, Position, Timestamp, TopicPartition};
use segno::record::{NewRecord, RecordRef};
use segno::streams::{Appended, Error, Limit, Log, Prefetch, Reader, Result};

pub mod appends;
pub mod ends;
pub mod flow;
pub mod random;
pub mod shapes;
pub mod times;
pub mod volumes;

/// 2200-01-01T00:00:00Z.
pub const YEAR_2200: i64 = 7_258_118_400_000;
/// 2023-11-14T22:13:20Z, where the timestamps of most tests begin.
pub const T0: i64 = 1_700_000_000_000;
pub const ALL: Limit = Limit { records: usize::MAX >> 1, bytes: usize::MAX >> 1 };
pub const PREFETCH: Prefetch = Prefetch { bytes: 1 << 20 };

/// A log under test, and what a test must be able to do to it from outside.
pub trait Subject {
    fn log(&self) -> Arc<dyn Log>;

    /// Makes an empty topic that is this test's own, with timestamps from the records, kept for ever. Answers its
    /// name, which holds `stem`.
    fn create_topic(&self, stem: &str, partitions: u32) -> String;

    /// The longest that something which must come may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Leaves at least one offset without a record at the end of a partition. False when no record-free offset can
    /// exist in this log.
    fn gap(&self, _at: &TopicPartition) -> bool {
        false
    }

    /// Moves the start of a partition to `position`, as retention does. False when the log has no way to.
    fn truncate(&self, _at: &TopicPartition, _position: Position) -> bool {
        false
    }

    /// Makes a topic that keeps only the newest record of a key, and answers its name. `None` when the log has no way to.
    fn create_compacted(&self, _stem: &str) -> Option<String> {
        None
    }

    /// Unusual timestamps that the log accepts and gives back.
    fn odd_timestamps(&self) -> Vec<i64> {
        vec![-1, 0, 1, YEAR_2200]
    }

    /// What a reader that is not drained may hold beyond its prefetch; `None` for a log that reads nothing ahead.
    fn overshoot(&self) -> Option<usize> {
        None
    }

    /// How many random cases are worth their time.
    fn cases(&self) -> u32 {
        64
    }
}

/// A record as a test compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub offset: u64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl From<RecordRef<'_>> for Got {
    fn from(record: RecordRef<'_>) -> Got {
        Got {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers().map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))).collect(),
        }
    }
}

impl Got {
    /// What a log gives back for `new`, appended at `offset` with a timestamp of its own.
    pub fn of(new: &NewRecord, offset: Offset) -> Got {
        Got {
            offset: offset.0,
            timestamp: new.timestamp.expect("the test gives a timestamp"),
            key: new.key.clone(),
            value: new.value.clone(),
            headers: new.headers.clone(),
        }
    }
}

/// A record for a partition of the test's choice.
pub fn record(partition: u32, key: &str, value: impl Into<Vec<u8>>, timestamp: i64) -> NewRecord {
    NewRecord {
        partition: Some(partition),
        key: Some(key.into()),
        value: Some(value.into()),
        timestamp: Some(timestamp),
        headers: Vec::new(),
    }
}

/// `count` small records for one partition, numbered, a millisecond apart.
pub fn numbered(partition: u32, count: usize) -> Vec<NewRecord> {
    (0..count).map(|i| record(partition, &format!("k{}", i % 7), format!("v{i}"), T0 + i as i64)).collect()
}

pub fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub fn open(log: &dyn Log, at: &TopicPartition, from: Position) -> Result<Box<dyn Reader>> {
    let mut readers = log.readers(&at.topic, &[(at.partition, from)], PREFETCH)?;
    assert_eq!(readers.len(), 1);
    Ok(readers.remove(0))
}

pub fn end_of(log: &dyn Log, at: &TopicPartition) -> Position {
    log.watermarks(at).unwrap().end
}

/// Waits for `ready`; false after `patience`.
pub fn wait(reader: &dyn Reader, patience: Duration) -> bool {
    let ready = reader.ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(patience, ready.notified()).await.is_ok() })
}

/// Drains until the reader stands at `until` (or beyond), checking what each batch says of itself.
pub fn read_until(reader: &mut dyn Reader, until: Position, limit: Limit, patience: Duration) -> Vec<Got> {
    let mut got: Vec<Got> = Vec::new();
    while reader.position() < until {
        let before = reader.position();
        let batch = reader.drain(limit).unwrap();
        assert!(batch.len() <= limit.records, "{} records, limit {limit:?}", batch.len());
        assert!(batch.len() <= 1 || batch.bytes() <= limit.bytes, "{} bytes, limit {limit:?}", batch.bytes());
        assert_eq!(batch.end(), reader.position(), "the batch ends where the reader stands");
        assert!(batch.end() >= before, "Forward: from {before} to {}", batch.end());
        for found in batch.iter() {
            let last = got.last().map(|last| last.offset);
            assert!(found.offset.0 >= before.0 && last < Some(found.offset.0), "Order: {last:?}, {}", found.offset);
            assert!(batch.end().is_past(found.offset));
            got.push(found.into());
        }
        if batch.is_empty() && reader.position() < until {
            let stands = reader.position();
            assert!(wait(reader, patience), "nothing woke the reader at {stands}, which waits for {until}");
        }
    }
    got
}

/// All that a partition holds from `from` to its end.
pub fn read_all(subject: &dyn Subject, at: &TopicPartition, from: Position) -> Vec<Got> {
    let log = subject.log();
    let end = end_of(&*log, at);
    let mut reader = open(&*log, at, from).unwrap();
    let got = read_until(&mut *reader, end, ALL, subject.patience());
    assert_eq!(reader.position(), end);
    got
}

/// Appends, and says what the log must give back for it, in the order of the append.
pub fn append(log: &dyn Log, topic: &str, records: &[NewRecord]) -> Vec<(PartitionId, Got)> {
    let appended = log.append(topic, records.to_vec()).unwrap();
    assert_eq!(appended.len(), records.len());
    let answer = |(new, Appended { partition, offset }): (&NewRecord, &Appended)| (*partition, Got::of(new, *offset));
    records.iter().zip(&appended).map(answer).collect()
}

/// The error that opening a reader or draining it comes to.
pub fn error_of(subject: &dyn Subject, at: &TopicPartition, from: Position) -> Error {
    let mut reader = match open(&*subject.log(), at, from) {
        Err(e) => return e,
        Ok(reader) => reader,
    };
    loop {
        match reader.drain(ALL) {
            Err(e) => return e,
            Ok(batch) => assert!(batch.is_empty(), "records at {at} from {from}, which is out of range"),
        }
        assert!(wait(&*reader, subject.patience()), "{at} from {from}: neither an error nor a wake-up");
    }
}

pub fn time(ms: i64) -> Timestamp {
    Timestamp(ms)
}

/// Makes a module of tests, one for each property, over the subject that the expression makes.
#[macro_export]
macro_rules! suite {
    ($name:ident, $subject:expr) => {
        $crate::suite!(@ $name, $subject,
            flow: appends_answer_with_coordinates, keys_choose_partitions_as_kafka_does, records_come_in_order,
                reading_resumes_from_any_position, limits_are_kept, a_first_large_record_is_admitted,
                the_end_wakes_when_more_comes, readers_of_one_partition_are_independent,
                a_slow_reader_stalls_no_other, read_ahead_is_bounded, many_appenders_lose_nothing,
                a_closed_log_says_so;
            appends: an_append_with_a_record_too_large_puts_nothing_in, an_append_to_a_missing_partition_puts_nothing_in,
                after_a_refusal_the_good_records_go_in;
            ends: an_empty_partition_waits_at_its_start, watermarks_follow_appends, a_position_moves_over_gaps,
                truncation_moves_the_start, a_start_out_of_range_is_refused, what_is_missing_is_named;
            shapes: null_and_empty_keys_and_values_differ, headers_come_back_as_they_were, bytes_need_not_be_text,
                a_value_of_900_kilobytes_comes_back, odd_timestamps_come_back, no_timestamp_means_now;
            times: the_first_record_at_or_after_a_time, times_out_of_order, equal_times, before_and_after_everything,
                an_empty_partition_has_only_an_end, times_after_truncation;
            volumes: volumes_are_what_is_there, a_topic_is_not_compacted_unless_made_so;
            random: histories_match_the_model, times_match_a_linear_scan;
        );
    };
    (@ $name:ident, $subject:expr, $($file:ident: $($property:ident),+;)+) => {
        mod $name {
            use super::*;
            $($(
                #[test]
                fn $property() {
                    $crate::contract::$file::$property(&$subject);
                }
            )+)+
        }
    };
}
