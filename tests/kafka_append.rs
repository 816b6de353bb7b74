//! Appending to a real broker: where records land, and what is refused.

mod common;

use common::broker::shared;
use segno::position::{PartitionId, Position, TopicPartition};
use segno::record::NewRecord;
use segno::streams::kafka::{Kafka, KafkaOptions};
use segno::streams::{Error, Fault, Log};

fn connect() -> Kafka {
    Kafka::connect(KafkaOptions { brokers: shared().plaintext.clone(), ..KafkaOptions::default() }).unwrap()
}

#[test]
fn appends_land_where_kafkas_own_partitioner_puts_them_and_in_order() {
    let topic = shared().topic("append", 4);
    let log = connect();
    let records: Vec<_> = (0..5000)
        .map(|i| NewRecord {
            key: Some(format!("key-{}", i % 50).into_bytes()),
            value: Some(i.to_string().into_bytes()),
            timestamp: Some(1_700_000_000_000 + i),
            headers: vec![("n".to_owned(), Some(vec![1])), ("null".to_owned(), None)],
            ..NewRecord::default()
        })
        .collect();
    let appended = log.append(&topic, records.clone()).unwrap();
    for partition in 0..4 {
        let mine: Vec<_> =
            appended.iter().zip(&records).filter(|(a, _)| a.partition == PartitionId(partition)).collect();
        assert!(mine.windows(2).all(|w| w[0].0.offset < w[1].0.offset), "Order");
        assert!(
            mine.iter()
                .all(|(_, r)| { segno::streams::murmur2::partition_of(r.key.as_ref().unwrap(), 4) == partition })
        );
    }
    let spread = log.append(&topic, vec![NewRecord::default(); 8]).unwrap();
    assert!((0..4).all(|p| spread.iter().filter(|a| a.partition == PartitionId(p)).count() == 2), "{spread:?}");
    let named = log.append(&topic, vec![NewRecord { partition: Some(3), ..NewRecord::default() }]).unwrap();
    assert_eq!(named[0].partition, PartitionId(3));
    assert_eq!(log.append(&topic, Vec::new()).unwrap(), []);
}

/// Bytes that compression does not make fewer.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn a_record_that_is_too_large_is_refused_with_both_numbers() {
    let topic = shared().topic_with("large", 1, &[("max.message.bytes", "20000")]);
    let log = connect();
    let noise = noise(1_100_000);
    let of = |bytes: usize| vec![NewRecord { value: Some(noise[..bytes].to_vec()), ..NewRecord::default() }];
    let error = log.append(&topic, of(30_000)).unwrap_err();
    assert!(matches!(error.cause(), Error::TooLarge { bytes: 30_000, max: 20_000 }), "{error}");
    assert!(matches!(error, Error::Refused { index: 0, .. }), "nothing is in: {error}");
    let error = log.append(&topic, of(1_100_000)).unwrap_err();
    assert!(matches!(error.cause(), Error::TooLarge { bytes: 1_100_000, max: 1_000_000 }), "{error}");
    log.append(&topic, of(10_000)).unwrap();
}

#[test]
fn of_a_batch_that_is_too_large_the_record_that_is_at_fault_is_named() {
    let topic = shared().topic_with("batches", 1, &[("max.message.bytes", "20000")]);
    let noise = noise(60_000);
    let of = |bytes: &[u8]| NewRecord { value: Some(bytes.to_vec()), ..NewRecord::default() };
    let log = connect();
    let error = log.append(&topic, vec![of(&noise[..100]), of(&noise[..30_000]), of(&noise[..200])]).unwrap_err();
    assert!(matches!(error.cause(), Error::TooLarge { bytes: 30_000, .. }), "{error}");
    // No record is too large, and together they are: that is not a record's fault.
    match log.append(&topic, noise.chunks(1000).map(of).collect()) {
        Ok(appended) => assert_eq!(appended.len(), 60),
        Err(error) => {
            assert!(matches!(error.cause(), Error::Topic { .. }), "{error}");
            assert!(error.to_string().contains("batch.size"), "{error}");
        }
    }
}

#[test]
fn a_timestamp_that_kafka_does_not_take_is_the_senders_fault() {
    let topic = shared().topic("timestamps", 1);
    let log = connect();
    for timestamp in [0, -2, i64::MIN] {
        let at = |timestamp| NewRecord { timestamp: Some(timestamp), ..NewRecord::default() };
        let error = log.append(&topic, vec![at(1), at(timestamp)]).unwrap_err();
        assert!(error.to_string().contains(&format!("timestamp {timestamp}")), "{error}");
        assert!(matches!(error.cause(), Error::Timestamp { .. }) && error.fault() == Fault::User, "{error}");
        assert!(matches!(error, Error::Refused { index: 1, .. }), "{error}");
    }
    assert_eq!(log.watermarks(&TopicPartition::new(&*topic, 0)).unwrap().end, Position(0));
}

#[test]
fn an_append_that_the_broker_cuts_short_says_what_is_in() {
    let topic = shared().topic_with("halfway", 2, &[("max.message.bytes", "20000")]);
    let noise = noise(30_000);
    let log = connect();
    let of = |partition, bytes: usize| NewRecord {
        partition: Some(partition),
        value: Some(noise[..bytes].to_vec()),
        ..NewRecord::default()
    };
    let error = log.append(&topic, vec![of(0, 100), of(1, 30_000), of(0, 100)]).unwrap_err();
    assert!(matches!(error.cause(), Error::TooLarge { bytes: 30_000, max: 20_000 }), "{error}");
    let Error::Halfway { went_in, .. } = &error else { panic!("{error}") };
    let places: Vec<_> = went_in.appended.iter().map(|(index, at)| (*index, at.partition.0, at.offset.0)).collect();
    assert_eq!((places, &went_in.in_doubt[..]), (vec![(0, 0, 0), (2, 0, 1)], &[][..]), "{error}");
    assert!(error.to_string().contains("2 records of the append are in the log"), "{error}");
    assert_eq!(log.watermarks(&TopicPartition::new(&*topic, 0)).unwrap().end, Position(2));
    assert_eq!(log.watermarks(&TopicPartition::new(&*topic, 1)).unwrap().end, Position(0));
}
