//! What only the inside can bring about: records that RocksDB gives back faithfully and that are wrong all the same,
//! and writes that fail.

use super::*;
use crate::streams::Limit;

const ALL: Limit = Limit { records: 100, bytes: 1 << 20 };

fn log_of(records: usize, dir: &std::path::Path) -> Embedded {
    let options = EmbeddedOptions { fsync: Fsync::Never, index_records: 4, ..EmbeddedOptions::new(dir) };
    let log = Embedded::open(options).unwrap();
    log.create_topic("t", 1, Timestamps::Create).unwrap();
    let record = |i| NewRecord { value: Some(vec![i as u8; 50]), timestamp: Some(i as i64), ..NewRecord::default() };
    log.append("t", (0..records).map(record).collect()).unwrap();
    log
}

fn reader(log: &Embedded) -> Box<dyn Reader> {
    log.readers("t", &[(PartitionId(0), Position(0))], Prefetch { bytes: 0 }).unwrap().remove(0)
}

fn change(log: &Embedded, offset: u64, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
    let slot = log.inner.topic("t").unwrap().partition(0).unwrap().slot;
    log.inner.store().unwrap().change_record(slot, offset, change);
}

#[test]
fn a_record_whose_bytes_changed_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(10, dir.path());
    change(&log, 6, |mut stored| {
        stored[40] ^= 4;
        Some(stored)
    });
    let mut reader = reader(&log);
    assert_eq!(reader.drain(Limit { records: 6, ..ALL }).unwrap().len(), 6);
    for _ in 0..2 {
        let e = reader.drain(ALL).unwrap_err().to_string();
        assert!(e.contains("t/0 offset 6") && e.contains("checksum"), "{e}");
        assert_eq!(reader.position(), Position(6));
    }
    let e = log.positions_at("t", &[PartitionId(0)], Timestamp(7)).unwrap_err().to_string();
    assert!(e.contains("t/0 offset 6"), "{e}");
    drop((reader, log));
    // It does not keep the log from opening, and all else can be read.
    let log = Embedded::open(EmbeddedOptions::new(dir.path())).unwrap();
    let mut after = log.readers("t", &[(PartitionId(0), Position(7))], Prefetch { bytes: 0 }).unwrap().remove(0);
    assert_eq!(after.drain(ALL).unwrap().len(), 3);
}

#[test]
fn a_record_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(10, dir.path());
    change(&log, 3, |_| None);
    let e = reader(&log).drain(ALL).unwrap_err().to_string();
    assert!(e.contains("t/0 offset 3") && e.contains("missing"), "{e}");
}

#[test]
fn after_a_failed_write_nothing_is_appended_until_the_log_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(3, dir.path());
    log.inner.fail(&Error::Storage { reason: "no space left on device".into() });
    let e = log.append("t", vec![NewRecord::default()]).unwrap_err().to_string();
    assert!(e.contains("no space left") && e.contains("open the log again"), "{e}");
    assert!(log.truncate_before(&TopicPartition::new("t", 0), Position(1)).is_err());
    assert_eq!(reader(&log).drain(ALL).unwrap().len(), 3, "what is there can be read");
    drop(log);
    let log = Embedded::open(EmbeddedOptions::new(dir.path())).unwrap();
    assert_eq!(log.append("t", vec![NewRecord::default()]).unwrap()[0].offset.0, 3);
}

#[test]
fn an_append_larger_than_a_request_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(0, dir.path());
    let value = |i: u32| NewRecord { value: Some(i.to_be_bytes().to_vec()), ..NewRecord::default() };
    let appended = log.append("t", (0..20_000).map(value).collect()).unwrap();
    assert!(appended.iter().zip(0..).all(|(a, n)| a.offset.0 == n));
    let mut reader = reader(&log);
    let batch = reader.drain(Limit { records: 20_000, bytes: 1 << 20 }).unwrap();
    assert!(batch.iter().zip(0_u32..).all(|(r, n)| r.value == Some(&n.to_be_bytes()[..])));
    assert_eq!(batch.len(), 20_000);
}

#[test]
fn an_append_that_fails_halfway_says_what_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(0, dir.path());
    let at = TopicPartition::new("t", 0);
    // Long enough for another one to come between two of its parts.
    let value = |i: u32| NewRecord { value: Some(i.to_be_bytes().to_vec()), ..NewRecord::default() };
    let failed = thread::scope(|scope| {
        let appending = scope.spawn(|| log.append("t", (0..400_000).map(value).collect()).unwrap_err());
        wait_until("nothing goes in", || log.watermarks(&at).unwrap().end > Position(0));
        log.inner.fail(&Error::Storage { reason: "no space left on device".into() });
        appending.join().unwrap()
    });
    let end = log.watermarks(&at).unwrap().end;
    let Error::Halfway { went_in, source } = &failed else { panic!("{failed}") };
    assert!(source.to_string().contains("no space left"), "{source}");
    assert_eq!((went_in.appended.len() as u64, &went_in.in_doubt[..]), (end.0, &[][..]), "{failed}");
    assert!(went_in.appended.iter().zip(0..).all(|((index, at), n)| *index == n && at.offset.0 == n as u64));
    // The next one has nothing in.
    let failed = log.append("t", vec![NewRecord::default()]).unwrap_err();
    assert!(matches!(failed, Error::Storage { .. }), "{failed}");
}

#[test]
fn a_panic_between_an_offset_and_its_record_makes_no_hole() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(0, dir.path());
    log.create_topic("u", 2, Timestamps::Create).unwrap();
    let of = |partition| NewRecord { partition: Some(partition), ..NewRecord::default() };
    log.append("u", vec![of(0)]).unwrap();
    // No offset comes after this one, so giving it out panics, when the first record has its own already.
    log.inner.topic("u").unwrap().partition(1).unwrap().tail().next = u64::MAX;
    let panicked = thread::scope(|scope| scope.spawn(|| log.append("u", vec![of(0), of(1)])).join());
    assert!(panicked.is_err());
    for topic in ["u", "t"] {
        let e = log.append(topic, vec![of(0)]).unwrap_err().to_string();
        assert!(e.contains("panicked") && e.contains("open the log again"), "{e}");
    }
    drop(log);
    let log = Embedded::open(EmbeddedOptions::new(dir.path())).unwrap();
    assert_eq!(log.append("u", vec![of(0)]).unwrap()[0].offset.0, 1);
    let mut reader = log.readers("u", &[(PartitionId(0), Position(0))], Prefetch { bytes: 0 }).unwrap().remove(0);
    assert_eq!(reader.drain(ALL).unwrap().len(), 2);
}

#[test]
fn dropping_whole_files_spares_the_first_record_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(10, dir.path());
    let at = TopicPartition::new("t", 0);
    for start in [4, 9] {
        // All records are in one table, so the last one is also the table's last key.
        log.inner.store().unwrap().compact();
        log.truncate_before(&at, Position(start)).unwrap();
        let from = [(PartitionId(0), Position(start))];
        let mut reader = log.readers("t", &from, Prefetch { bytes: 0 }).unwrap().remove(0);
        assert_eq!(reader.drain(ALL).unwrap().len() as u64, 10 - start);
    }
    log.truncate_before(&at, Position(10)).unwrap();
    log.inner.store().unwrap().compact();
    drop(log);
    let log = Embedded::open(EmbeddedOptions::new(dir.path())).unwrap();
    assert_eq!(log.append("t", vec![NewRecord::default()]).unwrap()[0].offset.0, 10);
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_interval_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let fsync = Fsync::Interval(Duration::from_millis(20));
    let log = Embedded::open(EmbeddedOptions { fsync, ..EmbeddedOptions::new(dir.path()) }).unwrap();
    log.create_topic("t", 1, Timestamps::Create).unwrap();
    for _ in 0..3 {
        log.append("t", vec![NewRecord::default()]).unwrap();
        wait_until("nobody synced", || !log.inner.unsynced.load(Ordering::Acquire));
    }
}

#[test]
fn retention_runs_by_itself_and_ends_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { retention_time: Some(Duration::from_secs(1)), ..EmbeddedOptions::new(dir.path()) };
    drop(log_of(10, dir.path()));
    let log = Embedded::open(options).unwrap();
    let keeper = thread::spawn({
        let (log, stop) = (Arc::downgrade(&log.inner), log.inner.stop.clone());
        move || keeper::keep(&log, &stop, Duration::from_millis(2), Duration::from_millis(10))
    });
    let at = TopicPartition::new("t", 0);
    wait_until("nothing was dropped", || log.watermarks(&at).unwrap().start == Position(10));
    log.close(Duration::from_secs(5));
    keeper.join().unwrap();
}
