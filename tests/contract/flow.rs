//! Appending and reading: coordinates, order, resuming, limits, waking, independence.

use std::thread;
use std::time::Duration;

use segno::position::Position;
use segno::record::NewRecord;
use segno::streams::{Error, Limit, Prefetch, murmur2};

use super::*;

pub fn appends_answer_with_coordinates(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("coordinates", 3);
    let records: Vec<_> = (0..30).map(|i| record(i % 3, "k", format!("v{i}"), T0 + i64::from(i))).collect();
    let expected = append(&*log, &topic, &records);
    for partition in 0..3 {
        let of_partition: Vec<_> =
            expected.iter().filter(|(p, _)| p.0 == partition).map(|(_, got)| got.clone()).collect();
        assert_eq!(of_partition.len(), 10);
        assert_eq!(read_all(subject, &at(&topic, partition), Position::ZERO), of_partition);
    }
    assert_eq!(log.append(&topic, Vec::new()).unwrap(), []);
    let info = log.topic(&topic).unwrap();
    assert_eq!((info.name.as_str(), info.partitions), (topic.as_str(), 3));
    assert!(!info.cluster.is_empty());
    assert!(["kafka", "embedded", "memory"].contains(&log.kind()));
}

pub fn keys_choose_partitions_as_kafka_does(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("keys", 5);
    let keyed: Vec<_> = (0..40)
        .map(|i| NewRecord { partition: None, ..record(0, &format!("account-{i}"), "v", T0) })
        .chain([NewRecord { key: Some(Vec::new()), ..NewRecord::default() }])
        .collect();
    for (new, appended) in keyed.iter().zip(log.append(&topic, keyed.clone()).unwrap()) {
        let key = new.key.as_deref().unwrap();
        assert_eq!(appended.partition.0, murmur2::partition_of(key, 5), "{key:?}");
    }
    let keyless = vec![NewRecord { value: Some(b"v".to_vec()), ..NewRecord::default() }; 10];
    for appended in log.append(&topic, keyless).unwrap() {
        assert!(appended.partition.0 < 5);
    }
    let chosen = log.append(&topic, vec![record(4, "account-1", "v", T0)]).unwrap();
    assert_eq!(chosen[0].partition.0, 4, "a partition that the record names wins over its key");
}

pub fn records_come_in_order(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("order", 2);
    let mut expected = Vec::new();
    for round in 0..5 {
        for partition in 0..2 {
            let got = append(&*log, &topic, &numbered(partition, 100 + round));
            expected.extend(got.into_iter().map(|(_, got)| (partition, got)));
        }
    }
    for partition in 0..2 {
        let expected: Vec<_> = expected.iter().filter(|(p, _)| *p == partition).map(|(_, got)| got.clone()).collect();
        assert_eq!(read_all(subject, &at(&topic, partition), Position::ZERO), expected);
    }
}

pub fn reading_resumes_from_any_position(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("resume", 1);
    let at = at(&topic, 0);
    let expected: Vec<_> = append(&*log, &topic, &numbered(0, 12)).into_iter().map(|(_, got)| got).collect();
    let end = end_of(&*log, &at);
    for from in 0..=end.0 {
        let got = read_all(subject, &at, Position(from));
        assert_eq!(got, expected.iter().filter(|g| g.offset >= from).cloned().collect::<Vec<_>>(), "from {from}");
    }
    // And in the middle of a reader's life: a second one takes over where the first one stands.
    let mut first = open(&*log, &at, Position::ZERO).unwrap();
    let mut got = read_until(&mut *first, Position(5), Limit { records: 1, bytes: 1 << 20 }, subject.patience());
    let stands = first.position();
    drop(first);
    got.extend(read_all(subject, &at, stands));
    assert_eq!(got, expected);
}

pub fn limits_are_kept(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("limits", 1);
    let at = at(&topic, 0);
    let records: Vec<_> = (0..40).map(|i| record(0, "key", vec![b'x'; 97], T0 + i)).collect();
    let expected: Vec<_> = append(&*log, &topic, &records).into_iter().map(|(_, got)| got).collect();
    let end = end_of(&*log, &at);
    for limit in [
        Limit { records: 1, bytes: 1 << 20 },
        Limit { records: 7, bytes: 1 << 20 },
        Limit { records: 1 << 20, bytes: 350 },
        Limit { records: 1 << 20, bytes: 1 },
        Limit { records: 3, bytes: 1000 },
    ] {
        let mut reader = open(&*log, &at, Position::ZERO).unwrap();
        // `read_until` checks each batch against the limit.
        assert_eq!(read_until(&mut *reader, end, limit, subject.patience()), expected, "{limit:?}");
    }
}

pub fn a_first_large_record_is_admitted(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("large-first", 1);
    let at = at(&topic, 0);
    let records = [record(0, "a", "small", T0), record(0, "b", vec![7; 100_000], T0), record(0, "c", "small", T0)];
    let expected: Vec<_> = append(&*log, &topic, &records).into_iter().map(|(_, got)| got).collect();
    let mut reader = open(&*log, &at, Position::ZERO).unwrap();
    let limit = Limit { records: 100, bytes: 1000 };
    assert_eq!(read_until(&mut *reader, end_of(&*log, &at), limit, subject.patience()), expected);
}

pub fn the_end_wakes_when_more_comes(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("wake", 2);
    let at = at(&topic, 1);
    let mut reader = open(&*log, &at, Position::ZERO).unwrap();
    for round in 0..5 {
        let end = end_of(&*log, &at);
        read_until(&mut *reader, end, ALL, subject.patience());
        assert!(reader.drain(ALL).unwrap().is_empty());
        let appender = thread::spawn({
            let (log, topic) = (subject.log(), topic.clone());
            move || {
                thread::sleep(Duration::from_millis(20));
                append(&*log, &topic, &[record(1, "k", format!("round {round}"), T0)])
            }
        });
        let got = read_until(&mut *reader, Position(end.0 + 1), ALL, subject.patience());
        let expected: Vec<_> = appender.join().unwrap().into_iter().map(|(_, got)| got).collect();
        assert_eq!(got, expected);
        assert_eq!(reader.end(), Position(end.0 + 1), "a reader that has read a record has heard of its end");
    }
}

pub fn readers_of_one_partition_are_independent(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("two-readers", 1);
    let at = at(&topic, 0);
    let mut first = open(&*log, &at, Position::ZERO).unwrap();
    let mut second = open(&*log, &at, Position::ZERO).unwrap();
    assert!(first.drain(ALL).unwrap().is_empty() && second.drain(ALL).unwrap().is_empty());
    let expected: Vec<_> = append(&*log, &topic, &numbered(0, 10)).into_iter().map(|(_, got)| got).collect();
    let end = end_of(&*log, &at);
    assert_eq!(read_until(&mut *first, end, ALL, subject.patience()), expected);
    assert_eq!(second.position(), Position::ZERO);
    assert_eq!(read_until(&mut *second, end, ALL, subject.patience()), expected, "one append wakes both");
}

pub fn a_slow_reader_stalls_no_other(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("slow", 2);
    for partition in 0..2 {
        for _ in 0..8 {
            let part: Vec<_> = (0..256).map(|i| record(partition, "k", vec![b'x'; 1024], T0 + i)).collect();
            append(&*log, &topic, &part);
        }
    }
    let starts = [0, 1].map(|p| (PartitionId(p), Position::ZERO));
    let mut readers = log.readers(&topic, &starts, Prefetch { bytes: 64 << 10 }).unwrap();
    assert_eq!(readers.iter().map(|r| r.partition().0).collect::<Vec<_>>(), [0, 1]);
    let limit = Limit { records: 100, bytes: 1 << 20 };
    let end = end_of(&*log, &at(&topic, 1));
    assert_eq!(read_until(&mut *readers[1], end, limit, subject.patience()).len(), 2048);
    assert_eq!(readers[0].position(), Position::ZERO);
    assert_eq!(read_until(&mut *readers[0], end, limit, subject.patience()).len(), 2048);
}

pub fn read_ahead_is_bounded(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("bounded", 1);
    for _ in 0..16 {
        let part: Vec<_> = (0..256).map(|i| record(0, "k", vec![b'x'; 2048], T0 + i)).collect();
        append(&*log, &topic, &part);
    }
    let at = at(&topic, 0);
    let prefetch = Prefetch { bytes: 256 << 10 };
    let mut reader = log.readers(&topic, &[(at.partition, Position::ZERO)], prefetch).unwrap().remove(0);
    if let Some(overshoot) = subject.overshoot() {
        // Long enough to read everything ahead, if nothing held it back.
        thread::sleep(Duration::from_millis(1500));
        let ready = reader.drain(ALL).unwrap().bytes();
        assert!(ready <= prefetch.bytes + overshoot, "{ready} bytes were read ahead");
    }
    let limit = Limit { records: 1000, bytes: 128 << 10 };
    let (from, end) = (reader.position(), end_of(&*log, &at));
    let got = read_until(&mut *reader, end, limit, subject.patience());
    assert_eq!(got.len() as u64, from.lag_to(end));
}

pub fn many_appenders_lose_nothing(subject: &dyn Subject) {
    let topic = subject.create_topic("appenders", 2);
    let mut expected: Vec<_> = thread::scope(|scope| {
        let appenders: Vec<_> = (0..4)
            .map(|thread| {
                let (log, topic) = (subject.log(), &topic);
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    for i in 0..25 {
                        let records: Vec<_> =
                            (0..3).map(|n| record((thread + n) % 2, "k", format!("{thread}-{i}-{n}"), T0)).collect();
                        mine.extend(append(&*log, topic, &records));
                    }
                    // An appender's records have the order in which it appended them.
                    for partition in 0..2 {
                        let offsets: Vec<_> =
                            mine.iter().filter(|(p, _)| p.0 == partition).map(|(_, g)| g.offset).collect();
                        assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
                    }
                    mine
                })
            })
            .collect();
        appenders.into_iter().flat_map(|appender| appender.join().unwrap()).collect()
    });
    expected.sort_by_key(|(partition, got)| (*partition, got.offset));
    let got = |partition| {
        read_all(subject, &at(&topic, partition), Position::ZERO)
            .into_iter()
            .map(move |got| (PartitionId(partition), got))
    };
    assert_eq!(got(0).chain(got(1)).collect::<Vec<_>>(), expected);
}

pub fn a_closed_log_says_so(subject: &dyn Subject) {
    let log = subject.log();
    let topic = subject.create_topic("closed", 1);
    append(&*log, &topic, &numbered(0, 3));
    let mut reader = open(&*log, &at(&topic, 0), Position::ZERO).unwrap();
    log.close(subject.patience());
    assert!(matches!(reader.drain(ALL), Err(Error::Closed)));
    assert!(matches!(log.append(&topic, numbered(0, 1)), Err(Error::Closed)));
    assert!(matches!(log.watermarks(&at(&topic, 0)), Err(Error::Closed)));
    assert!(matches!(open(&*log, &at(&topic, 0), Position::ZERO), Err(Error::Closed)));
}
