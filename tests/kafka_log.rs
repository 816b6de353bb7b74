//! The Kafka log against a real broker: what the contract suite, which knows nothing of Kafka, cannot bring about.

mod common;

use std::time::{Duration, Instant};

use common::broker::{self, Broker, PASSWORD, Put, USER, put, shared};
use segno::position::{PartitionId, Position, Timestamp, TopicPartition};
use segno::record::NewRecord;
use segno::streams::kafka::{Kafka, KafkaOptions};
use segno::streams::{Error, Limit, Log, Prefetch, Reader, TimeLookup, Watermarks};

const PREFETCH: Prefetch = Prefetch { bytes: 8 << 20 };
const LIMIT: Limit = Limit { records: 16_384, bytes: 8 << 20 };
const PATIENCE: Duration = Duration::from_secs(20);

fn options(brokers: &str) -> KafkaOptions {
    KafkaOptions { brokers: brokers.to_owned(), request_timeout: Duration::from_secs(5), ..KafkaOptions::default() }
}

fn connect(broker: &Broker) -> Kafka {
    Kafka::connect(options(&broker.plaintext)).unwrap()
}

fn reader(log: &Kafka, topic: &str, start: u64) -> Box<dyn Reader> {
    log.readers(topic, &[(PartitionId(0), Position(start))], PREFETCH).unwrap().remove(0)
}

/// A record's offset and value.
type Seen = (u64, String);

/// Waits for the reader's own word that something is ready, and for nothing else: a lost wake-up is a failure.
fn wait_ready(reader: &dyn Reader) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ready = reader.ready();
    let woken = runtime.block_on(async { tokio::time::timeout(PATIENCE, ready.notified()).await });
    assert!(woken.is_ok(), "no wake-up; partition {} stands at {}", reader.partition(), reader.position());
}

/// Reads until the position is at `end`; checks that batches join.
fn read_to(reader: &mut dyn Reader, end: u64, limit: Limit) -> Vec<Seen> {
    let mut seen = Vec::new();
    while reader.position() < Position(end) {
        let before = reader.position();
        let batch = reader.drain(limit).unwrap();
        assert_eq!(batch.end(), reader.position());
        assert!(batch.iter().all(|r| Position(r.offset.0) >= before && batch.end().is_past(r.offset)));
        assert!(batch.len() <= limit.records && (batch.len() <= 1 || batch.bytes() <= limit.bytes));
        seen.extend(
            batch.iter().map(|r| (r.offset.0, String::from_utf8_lossy(r.value.unwrap_or_default()).into_owned())),
        );
        if batch.is_empty() && reader.position() < Position(end) {
            wait_ready(reader);
        }
    }
    assert_eq!(reader.position(), Position(end), "the position went beyond the end");
    seen
}

/// Drains until an error comes.
fn error_of(reader: &mut dyn Reader) -> Error {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no error came");
        match reader.drain(LIMIT) {
            Ok(batch) if batch.is_empty() => wait_ready(reader),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

fn values(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|(_, value)| value.as_str()).collect()
}

#[test]
fn keys_values_timestamps_and_headers_arrive_as_they_were_written() {
    let topic = shared().topic("bytes", 1);
    let headers: &[(&str, Option<&[u8]>)] = &[("type", Some(b"Opened")), ("none", None), ("type", Some(b""))];
    shared().produce(
        &topic,
        &[
            Put { key: Some(b"k"), value: Some(b"v"), timestamp: Some(1_700_000_000_000), headers, ..Put::default() },
            Put { key: None, value: None, timestamp: Some(1), ..Put::default() },
            Put { key: Some(b""), value: Some(b""), timestamp: Some(2), ..Put::default() },
        ],
    );
    let log = connect(shared());
    let mut reader = reader(&log, &topic, 0);
    let mut batch = reader.drain(LIMIT).unwrap();
    while batch.is_empty() {
        wait_ready(&*reader);
        batch = reader.drain(LIMIT).unwrap();
    }
    let records: Vec<_> = batch.iter().collect();
    assert_eq!(records.len(), 3);
    assert_eq!((records[0].key, records[0].value), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert_eq!(records[0].timestamp, Timestamp(1_700_000_000_000));
    assert_eq!(records[0].headers().collect::<Vec<_>>(), headers);
    assert_eq!((records[1].key, records[1].value, records[1].headers().count()), (None, None, 0));
    assert_eq!((records[2].key, records[2].value), (Some(&b""[..]), Some(&b""[..])));
}

#[test]
fn aborted_transactions_are_never_seen_and_the_position_still_reaches_the_end() {
    let topic = shared().topic("aborted", 1);
    shared().produce(&topic, &[put(0, "a", "1")]);
    shared().aborted(&topic, &[put(0, "a", "no"), put(0, "b", "no")]);
    shared().committed(&topic, &[put(0, "a", "2"), put(0, "a", "3")]);
    shared().aborted(&topic, &[put(0, "c", "no")]);
    // 0 | 1 2 abort 3 | 4 5 commit 6 | 7 abort 8
    let log = connect(shared());
    let ends = log.watermarks(&TopicPartition::new(topic.as_str(), 0)).unwrap();
    assert_eq!(ends, Watermarks { start: Position(0), end: Position(9) });
    for limit in [LIMIT, Limit { records: 1, bytes: 1 }] {
        let mut reader = reader(&log, &topic, 0);
        assert_eq!(reader.end(), Position(9));
        let seen = read_to(&mut *reader, 9, limit);
        assert_eq!(seen, [(0, "1".to_owned()), (4, "2".to_owned()), (5, "3".to_owned())]);
        assert_eq!(reader.position().lag_to(reader.end()), 0);
    }
    // From a position inside a gap, and from one before the last marker.
    assert_eq!(values(&read_to(&mut *reader(&log, &topic, 2), 9, LIMIT)), ["2", "3"]);
    let mut last = reader(&log, &topic, 8);
    assert_eq!(read_to(&mut *last, 9, LIMIT), []);
    // What comes later is read on from there.
    shared().produce(&topic, &[put(0, "a", "4")]);
    assert_eq!(read_to(&mut *last, 10, LIMIT), [(9, "4".to_owned())]);
}

#[test]
fn an_open_transaction_holds_the_end_back_until_it_is_over() {
    let topic = shared().topic("open", 1);
    let at = TopicPartition::new(topic.as_str(), 0);
    shared().produce(&topic, &[put(0, "a", "1")]);
    let open = shared().transaction(&topic);
    open.produce(&topic, &[put(0, "a", "in")]);
    shared().produce(&topic, &[put(0, "a", "after")]);
    let log = connect(shared());
    assert_eq!(log.watermarks(&at).unwrap().end, Position(1), "the last stable offset, not the high watermark");
    let late = log.positions_at(&topic, &[PartitionId(0)], Timestamp(4_102_444_800_000)).unwrap();
    assert_eq!(late, [(PartitionId(0), TimeLookup::AtEnd { position: Position(1) })]);
    let mut reader = reader(&log, &topic, 0);
    assert_eq!(values(&read_to(&mut *reader, 1, LIMIT)), ["1"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(reader.drain(LIMIT).unwrap().is_empty());
    assert_eq!((reader.position(), reader.end()), (Position(1), Position(1)));
    open.commit();
    assert_eq!(values(&read_to(&mut *reader, 4, LIMIT)), ["in", "after"]);
    assert_eq!(log.watermarks(&at).unwrap().end, Position(4));
}

#[test]
fn a_time_finds_the_first_record_at_or_after_it_and_else_the_end() {
    let topic = shared().topic("times", 3);
    let timed = |partition, timestamp| Put { timestamp: Some(timestamp), ..put(partition, "k", "v") };
    shared().produce(&topic, &[timed(0, 100), timed(0, 300), timed(0, 200), timed(1, 150)]);
    let log = connect(shared());
    let partitions = [PartitionId(0), PartitionId(1), PartitionId(2)];
    let found = |position, time| TimeLookup::Found { position: Position(position), timestamp: Some(Timestamp(time)) };
    let end = |position| TimeLookup::AtEnd { position: Position(position) };
    let ask = |time| log.positions_at(&topic, &partitions, Timestamp(time)).unwrap().into_iter().map(|(_, l)| l);
    assert_eq!(ask(150).collect::<Vec<_>>(), [found(1, 300), found(0, 150), end(0)]);
    assert_eq!(ask(151).collect::<Vec<_>>(), [found(1, 300), end(1), end(0)]);
    assert_eq!(ask(0).collect::<Vec<_>>(), [found(0, 100), found(0, 150), end(0)]);
    assert_eq!(ask(301).collect::<Vec<_>>(), [end(3), end(1), end(0)]);
    let start = TimeLookup::Found { position: Position(0), timestamp: None };
    assert_eq!(ask(-1).collect::<Vec<_>>(), [start, start, end(0)]);
}

#[test]
fn a_time_is_found_where_the_broker_itself_misses_it() {
    let topic = shared().topic("missed", 1);
    let old = 1_700_000_000_000;
    let timed = |timestamp| Put { timestamp: Some(timestamp), ..put(0, "k", "v") };
    shared().produce(&topic, &[timed(old + 100), timed(old + 1)]);
    // The marker carries the broker's clock, years later: it begins a new segment.
    shared().aborted(&topic, &[timed(old)]);
    let late = shared().produce(&topic, &[timed(old + 50)])[0] as u64;
    // Below the start now: the record whose timestamp makes the broker look into the first segment, and only there.
    shared().delete_records(&topic, 0, 1);
    let log = connect(shared());
    let ask = |time| log.positions_at(&topic, &[PartitionId(0)], Timestamp(time)).unwrap()[0].1;
    let found = TimeLookup::Found { position: Position(late), timestamp: Some(Timestamp(old + 50)) };
    assert_eq!(ask(old + 40), found);
    assert_eq!(ask(old + 51), TimeLookup::AtEnd { position: Position(late + 1) });
    assert_eq!(ask(4_102_444_800_000), TimeLookup::AtEnd { position: Position(late + 1) });
}

#[test]
fn a_position_that_retention_has_passed_is_refused_with_the_numbers() {
    let topic = shared().topic("retention", 1);
    let many: Vec<_> = (0..10).map(|_| put(0, "k", "v")).collect();
    shared().produce(&topic, &many);
    shared().delete_records(&topic, 0, 4);
    let log = connect(shared());
    for position in [0, 3, 11] {
        let error = log.readers(&topic, &[(PartitionId(0), Position(position))], PREFETCH).err().unwrap();
        let text = error.to_string();
        assert!(matches!(error, Error::OutOfRange { .. }), "{text}");
        assert!(text.contains(&format!("position {position} ")) && text.contains("4..10"), "{text}");
    }
    assert_eq!(read_to(&mut *reader(&log, &topic, 4), 10, LIMIT).len(), 6);
}

#[test]
fn a_reader_that_retention_overtakes_says_so() {
    let topic = shared().topic("overtaken", 1);
    let value = "x".repeat(100_000);
    let many: Vec<_> = (0..40).map(|_| put(0, "k", &value)).collect();
    shared().produce(&topic, &many);
    let log = connect(shared());
    // A read-ahead of a few records stands still while the log's start moves past it.
    let mut reader =
        log.readers(&topic, &[(PartitionId(0), Position(0))], Prefetch { bytes: 100_000 }).unwrap().remove(0);
    wait_ready(&*reader);
    std::thread::sleep(Duration::from_millis(500));
    shared().delete_records(&topic, 0, 40);
    let error = error_of(&mut *reader);
    let Error::OutOfRange { at, position, start, end } = error else { panic!("{error}") };
    assert_eq!((at.topic.as_ref(), start, end), (topic.as_str(), Position(40), Position(40)));
    assert!(position > Position(0) && position < Position(40), "{position}");
    assert!(matches!(reader.drain(LIMIT), Err(Error::OutOfRange { .. })), "the error stays");
}

#[test]
fn a_partition_that_nobody_drains_is_bounded_and_holds_nobody_up() {
    let topic = shared().topic("bounded", 2);
    let value = "x".repeat(1000);
    let many: Vec<_> = (0..40_000).map(|_| put(0, "k", &value)).collect();
    shared().produce(&topic, &many);
    let few: Vec<_> = (0..20_000).map(|_| put(1, "k", &value)).collect();
    shared().produce(&topic, &few);
    let log = connect(shared());
    let bytes = 1 << 20;
    let starts = [(PartitionId(0), Position(0)), (PartitionId(1), Position(0))];
    let mut readers = log.readers(&topic, &starts, Prefetch { bytes }).unwrap();
    let began = Instant::now();
    assert_eq!(read_to(&mut *readers[1], 20_000, LIMIT).len(), 20_000);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    std::thread::sleep(Duration::from_millis(2500));
    let ahead = log.read_ahead();
    let waiting = ahead.iter().find(|(at, _)| at.partition == PartitionId(0)).unwrap().1;
    // One fetch, at most as large as the read-ahead, may be on its way when the bound is reached.
    assert!(waiting > 100_000 && waiting <= 2 * bytes as u64 + 100_000, "{waiting} bytes wait");
    assert_eq!(read_to(&mut *readers[0], 40_000, LIMIT).len(), 40_000);
}

#[test]
fn batches_keep_to_their_limits() {
    let topic = shared().topic("limits", 1);
    let texts: Vec<_> = (0..2000).map(|i| format!("{i:0width$}", width = 10 + (i % 7) * 300)).collect();
    let many: Vec<_> = texts.iter().map(|text| put(0, "k", text)).collect();
    shared().produce(&topic, &many);
    let log = connect(shared());
    for limit in
        [Limit { records: 7, bytes: 1 << 20 }, Limit { records: 1000, bytes: 5000 }, Limit { records: 9, bytes: 1 }]
    {
        let seen = read_to(&mut *reader(&log, &topic, 0), 2000, limit);
        assert_eq!(values(&seen), texts);
    }
}

#[test]
fn a_wrong_address_is_told_in_time_and_by_name() {
    let log =
        Kafka::connect(KafkaOptions { request_timeout: Duration::from_secs(2), ..options("127.0.0.1:1") }).unwrap();
    let began = Instant::now();
    let error = log.topic("t").unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(3500), "{:?}", began.elapsed());
    println!("{error}");
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("Connection refused"), "{text}");
    let log = Kafka::connect(KafkaOptions {
        request_timeout: Duration::from_secs(2),
        ..options("no-such-host.invalid:9092")
    });
    let error = log.unwrap().topic("t").unwrap_err();
    println!("{error}");
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[test]
fn wrong_credentials_are_told_at_once_and_never_repeated() {
    let mut wrong = options(&shared().sasl);
    wrong.properties.extend(Broker::sasl_properties(USER, "not-the-password"));
    let log = Kafka::connect(wrong).unwrap();
    let began = Instant::now();
    let error = log.topic("t").unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    println!("{error}");
    assert!(matches!(error, Error::Authentication { .. }), "{error:?}");
    assert!(!error.to_string().contains("not-the-password"), "{error}");

    let topic = shared().topic("sasl", 1);
    let mut right = options(&shared().sasl);
    right.properties.extend(Broker::sasl_properties(USER, PASSWORD));
    let log = Kafka::connect(right).unwrap();
    let appended = log.append(&topic, vec![NewRecord { value: Some(b"in".to_vec()), ..NewRecord::default() }]).unwrap();
    assert_eq!(appended.len(), 1);
    assert_eq!(values(&read_to(&mut *reader(&log, &topic, 0), 1, LIMIT)), ["in"]);

    // Without credentials at the door that asks for them: not understood, and said so.
    let plain = KafkaOptions { request_timeout: Duration::from_secs(2), ..options(&shared().sasl) };
    let error = Kafka::connect(plain).unwrap().topic("t").unwrap_err();
    println!("{error}");
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("security.protocol"), "{error}");
}

#[test]
fn missing_topics_and_partitions_are_told_by_name() {
    let log = connect(shared());
    let topic = shared().topic("there", 2);
    assert_eq!(log.topic(&topic).unwrap().partitions, 2);
    assert!(!log.topic(&topic).unwrap().cluster.is_empty());
    let at = TopicPartition::new("not-there", 0);
    assert!(matches!(log.topic("not-there"), Err(Error::TopicMissing { .. })));
    assert!(matches!(log.topic("bad name!"), Err(Error::TopicMissing { .. })));
    assert!(matches!(log.watermarks(&at), Err(Error::TopicMissing { .. })));
    assert!(matches!(log.append("not-there", vec![NewRecord::default()]), Err(Error::TopicMissing { .. })));
    let beyond = TopicPartition::new(topic.as_str(), 2);
    assert!(matches!(log.watermarks(&beyond), Err(Error::PartitionMissing { .. })));
    let error = log.readers(&topic, &[(PartitionId(2), Position(0))], PREFETCH).err().unwrap();
    assert!(matches!(error, Error::PartitionMissing { .. }), "{error}");
}

#[test]
fn a_deleted_topic_ends_its_readers() {
    let topic = shared().topic("deleted", 1);
    shared().produce(&topic, &[put(0, "k", "v")]);
    let mut fast = options(&shared().plaintext);
    fast.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "1000".to_owned());
    fast.properties.insert("topic.metadata.propagation.max.ms".to_owned(), "1000".to_owned());
    let log = Kafka::connect(fast).unwrap();
    let mut reader = reader(&log, &topic, 0);
    read_to(&mut *reader, 1, LIMIT);
    shared().delete_topic(&topic);
    let error = error_of(&mut *reader);
    assert!(matches!(&error, Error::TopicMissing { topic: named, .. } if *named == topic), "{error}");
}

#[test]
fn closing_is_quick_and_ends_open_readers() {
    let topic = shared().topic("close", 2);
    shared().produce(&topic, &[put(0, "k", "v"), put(1, "k", "v")]);
    let log = connect(shared());
    let starts = [(PartitionId(0), Position(0)), (PartitionId(1), Position(0))];
    // Dropped while messages wait in the queues: this hung when queues outlived the consumer.
    let readers = log.readers(&topic, &starts, PREFETCH).unwrap();
    wait_ready(&*readers[0]);
    drop(readers);
    let mut held = log.readers(&topic, &starts, PREFETCH).unwrap();
    log.append(&topic, vec![NewRecord::default()]).unwrap();
    let began = Instant::now();
    log.close(Duration::from_secs(10));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(held[0].drain(LIMIT), Err(Error::Closed)));
    assert!(matches!(log.topic(&topic), Err(Error::Closed)));
}

#[test]
fn reading_goes_on_after_the_broker_was_killed_and_came_back() {
    let mut broker = broker::Broker::own();
    let topic = broker.topic("restart", 1);
    let numbers: Vec<_> = (0..1000).map(|i| i.to_string()).collect();
    let many: Vec<_> = numbers.iter().map(|n| put(0, "k", n)).collect();
    broker.produce(&topic, &many);
    let log = connect(&broker);
    let mut reader = log.readers(&topic, &[(PartitionId(0), Position(0))], Prefetch { bytes: 4096 }).unwrap().remove(0);
    let mut seen = read_to(&mut *reader, 100, Limit { records: 10, bytes: 1 << 20 });
    broker.kill();
    std::thread::sleep(Duration::from_secs(2));
    while let Ok(batch) = reader.drain(LIMIT) {
        if batch.is_empty() {
            break;
        }
        seen.extend(batch.iter().map(|r| (r.offset.0, String::from_utf8(r.value.unwrap().to_vec()).unwrap())));
    }
    let error = log.topic(&topic).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.retryable(), "{error}");
    broker.revive();
    seen.extend(read_to(&mut *reader, 1000, LIMIT));
    assert_eq!(values(&seen), numbers, "nothing lost, nothing twice");
    let appended =
        log.append(&topic, vec![NewRecord { value: Some(b"new".to_vec()), ..NewRecord::default() }]).unwrap();
    assert_eq!(appended[0].offset.0, 1000);
    assert_eq!(values(&read_to(&mut *reader, 1001, LIMIT)), ["new"]);
}
