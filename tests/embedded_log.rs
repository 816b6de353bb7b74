//! What the embedded log has beyond the contract of all logs: opening, topics, retention, damage.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::{RngCore, SeedableRng, rngs::StdRng};
use segno::position::{PartitionId, Position, Timestamp, TopicPartition};
use segno::record::NewRecord;
use segno::streams::embedded::{Embedded, EmbeddedOptions, Fsync, Timestamps};
use segno::streams::{Error, Limit, Log, Prefetch, Reader, TimeLookup, Watermarks};

const ALL: Limit = Limit { records: 1 << 30, bytes: 1 << 30 };
const DAY: Duration = Duration::from_secs(24 * 3600);
const T0: i64 = 1_700_000_000_000;

fn options(dir: &Path) -> EmbeddedOptions {
    EmbeddedOptions { index_records: 8, cache_bytes: 2 << 20, fsync: Fsync::Never, ..EmbeddedOptions::new(dir) }
}

fn with_topic(options: EmbeddedOptions, partitions: u32) -> Embedded {
    let log = Embedded::open(options).unwrap();
    log.create_topic("t", partitions, Timestamps::Create).unwrap();
    log
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn record(value: impl Into<Vec<u8>>, timestamp: i64) -> NewRecord {
    NewRecord { partition: Some(0), value: Some(value.into()), timestamp: Some(timestamp), ..NewRecord::default() }
}

fn records(count: i64) -> Vec<NewRecord> {
    (0..count).map(|i| record(format!("{i:0>100}"), T0 + i)).collect()
}

fn open_reader(log: &Embedded, from: u64) -> Box<dyn Reader> {
    let start = [(PartitionId(0), Position(from))];
    log.readers("t", &start, Prefetch { bytes: 1 << 20 }).unwrap().remove(0)
}

fn ends(log: &Embedded) -> (u64, u64) {
    let Watermarks { start, end } = log.watermarks(&at(0)).unwrap();
    (start.0, end.0)
}

#[test]
fn a_log_is_found_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_topic(options(dir.path()), 2);
    log.create_topic("another", 1, Timestamps::Append).unwrap();
    log.append("t", records(30)).unwrap();
    let (topics, cluster) = (log.topics(), log.topic("t").unwrap().cluster);
    log.close(Duration::from_secs(5));

    let log = Embedded::open(options(dir.path())).unwrap();
    assert_eq!(log.topics(), topics);
    assert_eq!(topics.iter().map(|t| (t.name.as_str(), t.partitions)).collect::<Vec<_>>(), [("another", 1), ("t", 2)]);
    assert_eq!(log.timestamps("another").unwrap(), Timestamps::Append);
    assert_eq!(log.topic("t").unwrap().cluster, cluster);
    assert_eq!(log.append("t", records(1)).unwrap()[0].offset.0, 30);
    assert_eq!(open_reader(&log, 0).drain(ALL).unwrap().len(), 31);
    let found = log.positions_at("t", &[PartitionId(0)], Timestamp(T0 + 17)).unwrap()[0].1;
    assert_eq!(found, TimeLookup::Found { position: Position(17), timestamp: Some(Timestamp(T0 + 17)) });

    let other = tempfile::tempdir().unwrap();
    assert_ne!(with_topic(options(other.path()), 1).topic("t").unwrap().cluster, cluster);
}

#[test]
fn a_log_that_is_open_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(dir.path())).unwrap();
    let e = Embedded::open(options(dir.path())).err().unwrap();
    assert!(matches!(&e, Error::InUse { path } if dir.path().to_str() == Some(path)), "{e}");
    drop(log);
    Embedded::open(options(dir.path())).unwrap();
}

#[test]
fn a_newer_or_unknown_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_topic(options(dir.path()), 1);
    log.append("t", records(3)).unwrap();
    drop(log);
    let format = dir.path().join("FORMAT");
    let good = fs::read_to_string(&format).unwrap();
    assert_eq!(good, "segno embedded log, format 1\n");

    fs::write(&format, "segno embedded log, format 2\n").unwrap();
    let e = Embedded::open(options(dir.path())).err().unwrap();
    assert!(matches!(e, Error::Newer { found: 2, known: 1 }), "{e}");
    fs::write(&format, "\x1b[31mgarbage").unwrap();
    let e = Embedded::open(options(dir.path())).err().unwrap();
    assert!(matches!(&e, Error::Storage { reason } if reason.contains("FORMAT") && !reason.contains('\x1b')), "{e}");
    fs::remove_file(&format).unwrap();
    let e = Embedded::open(options(dir.path())).err().unwrap();
    assert!(matches!(&e, Error::Storage { reason } if reason.contains("missing")), "{e}");

    fs::write(&format, good).unwrap();
    assert_eq!(ends(&Embedded::open(options(dir.path())).unwrap()), (0, 3));
}

#[test]
fn a_place_that_cannot_be_a_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let e = Embedded::open(options(&file)).err().unwrap();
    assert!(matches!(&e, Error::Storage { reason } if reason.contains(file.to_str().unwrap())), "{e}");
    let none = EmbeddedOptions { default_partitions: 0, ..options(dir.path()) };
    assert!(Embedded::open(none).is_err());
}

#[test]
fn a_log_that_lost_files_is_not_replaced_by_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_topic(options(dir.path()), 1);
    log.append("t", records(3)).unwrap();
    drop(log);
    let (db, aside) = (dir.path().join("db"), dir.path().join("aside"));
    let refused = || {
        let e = Embedded::open(options(dir.path())).err().unwrap();
        assert!(matches!(&e, Error::Storage { reason } if reason.contains("restore")), "{e}");
    };
    fs::rename(db.join("CURRENT"), &aside).unwrap();
    refused();
    fs::rename(&aside, db.join("CURRENT")).unwrap();
    fs::rename(&db, &aside).unwrap();
    refused();
    let _ = fs::remove_dir_all(&db);
    fs::rename(&aside, &db).unwrap();
    assert_eq!(ends(&Embedded::open(options(dir.path())).unwrap()), (0, 3));

    // A crash while a log is made, before its format is written, leaves nothing that is in the way.
    let (made, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Embedded::open(options(made.path())).unwrap();
    fs::create_dir(fresh.path().join("db")).unwrap();
    for file in fs::read_dir(made.path().join("db")).unwrap().map(|entry| entry.unwrap().path()) {
        let copy = fresh.path().join("db").join(file.file_name().unwrap());
        let bytes = if file.extension().is_some_and(|e| e == "log") { Vec::new() } else { fs::read(&file).unwrap() };
        fs::write(copy, bytes).unwrap();
    }
    drop(log);
    assert_eq!(ends(&with_topic(options(fresh.path()), 1)), (0, 0));
}

#[test]
fn a_topic_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(dir.path())).unwrap();
    assert_eq!(log.create_topic("t", None, Timestamps::Create).unwrap().partitions, 4);
    assert_eq!(log.create_topic("t", 4, Timestamps::Create).unwrap().partitions, 4);
    assert_eq!(log.create_topic("u", 7, Timestamps::Append).unwrap().partitions, 7);
    assert_eq!(log.create_topic("u", None, Timestamps::Append).unwrap().partitions, 7);
    let refused = |name: &str, partitions: u32, timestamps, why: &str| {
        let e = log.create_topic(name, partitions, timestamps).unwrap_err();
        assert!(matches!(&e, Error::Topic { topic, reason } if topic == name && reason.contains(why)), "{e}");
    };
    refused("t", 5, Timestamps::Create, "has 4 partitions");
    refused("t", 4, Timestamps::Append, "Create");
    refused("v", 0, Timestamps::Create, "not 0");
    refused("v", u32::MAX, Timestamps::Create, "10000");
    for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
        refused(name, 1, Timestamps::Create, "name");
    }
    assert_eq!(log.topics().len(), 2);
}

#[test]
fn append_time_replaces_the_records_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(dir.path())).unwrap();
    log.create_topic("t", 1, Timestamps::Append).unwrap();
    log.append("t", records(1)).unwrap();
    let batch = open_reader(&log, 0).drain(ALL).unwrap();
    assert!(batch.get(0).timestamp.0 > T0 + 365 * DAY.as_millis() as i64);
}

#[test]
fn keyless_records_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_topic(options(dir.path()), 3);
    let appended = log.append("t", vec![NewRecord::default(); 9]).unwrap();
    let counts = [0, 1, 2].map(|p| appended.iter().filter(|a| a.partition.0 == p).count());
    assert_eq!(counts, [3, 3, 3]);
}

#[test]
fn retention_by_time_takes_old_blocks_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { retention_time: Some(Duration::from_millis(20)), ..options(dir.path()) };
    let log = with_topic(options.clone(), 1);
    log.append("t", records(50)).unwrap();
    let mut slow = open_reader(&log, 0);
    assert_eq!(log.enforce_retention(Timestamp(T0 + 20)).unwrap(), []);
    // Blocks of 8: the newest times are 7, 15, 23, 31. At T0 + 40 all below 20 is too old.
    let removed = log.enforce_retention(Timestamp(T0 + 40)).unwrap();
    assert_eq!((removed.len(), removed[0].start, removed[0].bytes), (1, Position(16), 1600));
    assert_eq!(ends(&log), (16, 50));
    match slow.drain(ALL) {
        Err(Error::OutOfRange { at: found, position, start, end }) => {
            assert_eq!((found, position, start, end), (at(0), Position(0), Position(16), Position(50)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(open_reader(&log, 16).drain(ALL).unwrap().get(0).offset.0, 16);
    drop((slow, log));

    let log = Embedded::open(options.clone()).unwrap();
    assert_eq!(ends(&log), (16, 50), "the start is as durable as the deletion");
    log.enforce_retention(Timestamp(T0 + 1000)).unwrap();
    assert_eq!(ends(&log), (50, 50), "the block that still grows goes, too, once all of it is too old");
    drop(log);
    let log = Embedded::open(options).unwrap();
    assert_eq!(ends(&log), (50, 50));
    assert_eq!(log.append("t", records(1)).unwrap()[0].offset.0, 50, "offsets are never given twice");
    assert_eq!(open_reader(&log, 50).drain(ALL).unwrap().len(), 1);
}

#[test]
fn retention_by_time_knows_the_future_and_no_time_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_topic(EmbeddedOptions { retention_time: Some(DAY), ..options(dir.path()) }, 2);
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let mut pinned = records(16);
    pinned[3].timestamp = Some(now + 365 * DAY.as_millis() as i64);
    log.append("t", pinned).unwrap();
    log.append("t", vec![NewRecord { partition: Some(1), ..record("x", -1) }; 20]).unwrap();
    log.enforce_retention(Timestamp(now)).unwrap();
    assert_eq!(ends(&log), (0, 16), "a record from the future keeps its block and all after it");
    assert_eq!(log.watermarks(&at(1)).unwrap().start, Position(0), "a record without a time ages from its append");
    log.enforce_retention(Timestamp(now + 2 * DAY.as_millis() as i64)).unwrap();
    assert_eq!(log.watermarks(&at(1)).unwrap().start, Position(20));
}

#[test]
fn retention_by_size_keeps_at_least_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { retention_bytes: Some(2000), ..options(dir.path()) };
    let log = with_topic(options.clone(), 1);
    for round in 1..=6 {
        log.append("t", records(10)).unwrap();
        log.enforce_retention(Timestamp(0)).unwrap();
        let (start, end) = ends(&log);
        let kept = (end - start) * 100;
        assert!(kept >= 2000.min(round * 1000) && kept < 2000 + 800, "{kept} bytes in round {round}");
    }
    let before = ends(&log);
    drop(log);
    let log = Embedded::open(options).unwrap();
    assert_eq!(log.enforce_retention(Timestamp(0)).unwrap(), [], "the sizes are the same after opening again");
    assert_eq!(ends(&log), before);
}

#[test]
fn retention_never_looks_like_damage() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_topic(EmbeddedOptions { retention_bytes: Some(50_000), ..options(dir.path()) }, 1);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..300 {
                log.append("t", records(100)).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                log.enforce_retention(Timestamp(0)).unwrap();
            }
        });
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut read, mut lost) = (0, 0);
                    let mut reader = open_reader(&log, ends(&log).0);
                    while !(done.load(Ordering::Acquire) && reader.position() == reader.end()) {
                        let from = reader.position().0;
                        match reader.drain(Limit { records: 64, bytes: 1 << 20 }) {
                            Ok(batch) => {
                                assert_eq!(batch.end().0, from + batch.len() as u64);
                                read += batch.len();
                            }
                            Err(Error::OutOfRange { start, .. }) => {
                                assert!(start.0 > from);
                                lost += 1;
                                reader = loop {
                                    let again = [(PartitionId(0), Position(ends(&log).0))];
                                    if let Ok(mut r) = log.readers("t", &again, Prefetch { bytes: 1 << 20 }) {
                                        break r.remove(0);
                                    }
                                };
                            }
                            Err(e) => panic!("{e}"),
                        }
                        let asked = log.positions_at("t", &[PartitionId(0)], Timestamp(T0 + 50)).unwrap()[0].1;
                        if let TimeLookup::Found { timestamp, .. } = asked {
                            assert!(timestamp >= Some(Timestamp(T0 + 50)));
                        }
                    }
                    (read, lost)
                })
            })
            .collect();
        for reader in readers {
            let (read, lost) = reader.join().unwrap();
            println!("{read} records read, {lost} times out of range");
            assert!(read > 0);
        }
    });
    let (start, end) = ends(&log);
    assert!(end == 30_000 && start > 0);
}

#[test]
fn a_tailing_reader_sees_each_record_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_topic(EmbeddedOptions { fsync: Fsync::Always, ..options(dir.path()) }, 1);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..50).for_each(|n| drop(log.append("t", records(1 + n % 4)).unwrap())));
        }
        let mut reader = open_reader(&log, 0);
        let total = 3 * (0..50).map(|n| 1 + n % 4).sum::<i64>() as u64;
        while reader.position() < Position(total) {
            let (end, batch) = (log.watermarks(&at(0)).unwrap().end, reader.drain(ALL).unwrap());
            assert!(batch.end() >= end.min(reader.end()), "what the watermark shows can be read");
            assert!(batch.iter().zip(batch.end().0 - batch.len() as u64..).all(|(r, n)| r.offset.0 == n));
        }
    });
}

#[test]
fn a_damaged_file_is_an_error_where_it_is_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = with_topic(options(dir.path()), 1);
    log.create_topic("sound", 1, Timestamps::Create).unwrap();
    // Random bytes, so that compression leaves something to damage.
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..40 {
        let mut value = vec![0; 100_000];
        random.fill_bytes(&mut value);
        log.append("t", vec![record(value, T0)]).unwrap();
        log.append("sound", vec![record("small", T0)]).unwrap();
    }
    drop(log);
    // Opening moves what is in the write-ahead log to files.
    drop(Embedded::open(options(dir.path())).unwrap());
    let copy = tempfile::tempdir().unwrap();
    let files = |of: &Path| -> Vec<_> { fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path()).collect() };
    for file in files(&dir.path().join("db")) {
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    let (mut at_the_end, mut before) = (0, 0);
    let places = files(copy.path()).into_iter().flat_map(|file| (1..8).map(move |eighth| (file.clone(), eighth)));
    for (damaged, eighth) in places {
        let large = fs::metadata(&damaged).unwrap().len() > 100_000;
        if !large || damaged.extension().is_none_or(|extension| extension != "sst") {
            continue;
        }
        let db = dir.path().join("db");
        fs::remove_dir_all(&db).unwrap();
        fs::create_dir(&db).unwrap();
        for file in files(copy.path()) {
            let mut bytes = fs::read(&file).unwrap();
            if file == damaged {
                let place = bytes.len() / 8 * eighth;
                bytes[place] ^= 1;
            }
            fs::write(db.join(file.file_name().unwrap()), bytes).unwrap();
        }
        let log = Embedded::open(options(dir.path())).unwrap();
        let found = match log.watermarks(&at(0)) {
            Err(e) => {
                at_the_end += 1;
                let refused = log.append("t", vec![record("x", T0)]).unwrap_err();
                assert_eq!(refused.to_string(), e.to_string());
                e
            }
            Ok(_) => {
                before += 1;
                let mut reader = open_reader(&log, 0);
                loop {
                    match reader.drain(Limit { records: 1, bytes: 1 }) {
                        Ok(batch) => assert_eq!(batch.len(), 1, "the damage was passed over in silence"),
                        Err(e) => {
                            assert!(e.to_string().contains(&format!("t/0 offset {}", reader.position())), "{e}");
                            break e;
                        }
                    }
                }
            }
        };
        assert!(
            matches!(&found, Error::Storage { reason } if reason.contains("t/0") && reason.contains("checksum")),
            "{found}"
        );
        assert_eq!(log.append("sound", vec![record("x", T0)]).unwrap()[0].offset.0, 40);
        let start = [(PartitionId(0), Position(0))];
        let mut reader = log.readers("sound", &start, Prefetch { bytes: 1 << 20 }).unwrap().remove(0);
        assert_eq!(reader.drain(ALL).unwrap().len(), 41);
    }
    assert!(at_the_end > 0 && before > 0, "{at_the_end} times at the end, {before} times before");
}
