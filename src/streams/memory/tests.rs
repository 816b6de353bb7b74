//! The faults that a script can put on the log, as a reader sees them.

use super::*;
use crate::streams::Limit;

const ALL: Limit = Limit { records: 1000, bytes: 1 << 20 };

fn at() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn setup(records: usize) -> (Memory, Box<dyn Reader>) {
    let log = Memory::new();
    log.create_topic("t", 2);
    log.append("t", vec![NewRecord { partition: Some(0), ..NewRecord::default() }; records]).unwrap();
    let reader = log.readers("t", &[(PartitionId(0), Position(0))], Prefetch { bytes: 0 }).unwrap().remove(0);
    (log, reader)
}

fn broken() -> Error {
    Error::Unreachable { brokers: "nowhere".into(), reason: "scripted".into() }
}

/// Whether the reader has been woken since the last look.
fn woken(reader: &dyn Reader) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ready = reader.ready();
    runtime.block_on(async { tokio::time::timeout(Duration::from_millis(10), ready.notified()).await.is_ok() })
}

#[test]
fn failed_drains_lose_nothing() {
    let (log, mut reader) = setup(3);
    log.fail_drains(&at(), 2, &broken());
    assert!(reader.drain(ALL).is_err() && reader.drain(ALL).is_err());
    assert_eq!(reader.position(), Position(0));
    assert_eq!(reader.drain(ALL).unwrap().len(), 3);
}

#[test]
fn what_is_held_back_comes_when_it_is_released() {
    let (log, mut reader) = setup(5);
    log.hold_at(&at(), Position(2));
    assert_eq!(reader.drain(ALL).unwrap().len(), 2);
    while woken(&*reader) {}
    assert!(reader.drain(ALL).unwrap().is_empty());
    assert_eq!((reader.position(), reader.end()), (Position(2), Position(5)));
    assert_eq!(log.watermarks(&at()).unwrap().end, Position(5));
    log.release(&at());
    assert!(woken(&*reader));
    assert_eq!(reader.drain(ALL).unwrap().len(), 3);
    log.stick(&at());
    log.append("t", vec![NewRecord { partition: Some(0), ..NewRecord::default() }]).unwrap();
    assert!(reader.drain(ALL).unwrap().is_empty());
}

#[test]
fn short_drains_come_to_the_same_records() {
    let (log, mut reader) = setup(5);
    log.shorten_drains(&at(), Some(2));
    let lengths: Vec<_> = (0..4).map(|_| reader.drain(ALL).unwrap().len()).collect();
    assert_eq!(lengths, [2, 2, 1, 0]);
}

#[test]
fn questions_and_appends_fail_as_often_as_scripted() {
    let (log, _reader) = setup(1);
    log.fail_watermarks(1, &broken());
    log.fail_lookups(1, &broken());
    log.fail_appends(1, &broken());
    let look_up = || log.positions_at("t", &[PartitionId(0)], Timestamp(0));
    assert!(log.watermarks(&at()).is_err() && look_up().is_err());
    assert!(log.append("t", vec![NewRecord::default()]).is_err());
    assert_eq!(log.watermarks(&at()).unwrap().end, Position(1));
    look_up().unwrap();
    log.append("t", vec![NewRecord::default()]).unwrap();
}

#[test]
fn a_topic_made_anew_is_another_one() {
    let (log, mut reader) = setup(3);
    while woken(&*reader) {}
    log.create_topic("t", 1);
    assert!(woken(&*reader));
    assert!(matches!(reader.drain(ALL), Err(Error::TopicMissing { .. })));
    assert_eq!(log.watermarks(&at()).unwrap().end, Position(0));
    log.append_at(&at(), Offset(7), NewRecord::default());
    assert_eq!(log.watermarks(&at()).unwrap().end, Position(8));
    log.set_cluster("elsewhere");
    assert_eq!(log.topic("t").unwrap().cluster, "elsewhere");
    log.delete_topic("t");
    assert!(matches!(log.topic("t"), Err(Error::TopicMissing { .. })));
}
