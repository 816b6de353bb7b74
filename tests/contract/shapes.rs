//! Records of every shape come back as they went in.

use std::time::{SystemTime, UNIX_EPOCH};

use segno::position::Position;
use segno::record::NewRecord;

use super::*;

fn come_back(subject: &dyn Subject, stem: &str, records: &[NewRecord]) {
    let log = subject.log();
    let topic = subject.create_topic(stem, 1);
    let expected: Vec<_> = append(&*log, &topic, records).into_iter().map(|(_, got)| got).collect();
    assert_eq!(read_all(subject, &at(&topic, 0), Position::ZERO), expected);
}

pub fn null_and_empty_keys_and_values_differ(subject: &dyn Subject) {
    let bytes = [None, Some(Vec::new()), Some(b"x".to_vec())];
    let mut records = Vec::new();
    for key in &bytes {
        for value in &bytes {
            records.push(NewRecord { key: key.clone(), value: value.clone(), ..record(0, "", "", T0) });
        }
    }
    come_back(subject, "nulls", &records);
}

pub fn headers_come_back_as_they_were(subject: &dyn Subject) {
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let headers = vec![
        header("type", Some(b"Opened")),
        header("none", None),
        header("type", Some(b"Closed")),
        header("empty", Some(b"")),
        header("bytes", Some(&[0, 255, 128])),
        header("größe", Some("ß".as_bytes())),
        header("none", None),
    ];
    let with = |headers| NewRecord { headers, ..record(0, "k", "v", T0) };
    let many = (0..200).map(|i| header(&format!("h{i}"), Some(b"v"))).collect();
    let tombstone = NewRecord { value: None, ..with(headers.clone()) };
    come_back(subject, "headers", &[with(headers), with(Vec::new()), with(many), tombstone]);
}

pub fn bytes_need_not_be_text(subject: &dyn Subject) {
    let bytes: Vec<u8> = (0..=255).collect();
    let record = NewRecord { key: Some(bytes.clone()), value: Some(vec![0xff, 0xfe, 0]), ..record(0, "", "", T0) };
    let long_key = NewRecord { key: Some(vec![0xc3; 20 << 10]), ..record.clone() };
    come_back(subject, "bytes", &[record, long_key]);
}

pub fn a_value_of_900_kilobytes_comes_back(subject: &dyn Subject) {
    let value: Vec<u8> = (0..900_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let records = [record(0, "a", value.clone(), T0), record(0, "b", "small", T0), record(0, "c", value, T0)];
    come_back(subject, "large", &records);
}

pub fn odd_timestamps_come_back(subject: &dyn Subject) {
    let records: Vec<_> = subject.odd_timestamps().into_iter().map(|time| record(0, "k", "v", time)).collect();
    come_back(subject, "odd-times", &records);
}

pub fn no_timestamp_means_now(subject: &dyn Subject) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let log = subject.log();
    let topic = subject.create_topic("now", 1);
    let before = now();
    log.append(&topic, vec![NewRecord { timestamp: None, ..record(0, "k", "v", T0) }]).unwrap();
    let got = read_all(subject, &at(&topic, 0), Position::ZERO);
    assert!((before..=now()).contains(&got[0].timestamp), "{}", got[0].timestamp);
}
